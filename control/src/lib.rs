//! The upgrade: plan, journal, phases, snapshot, link, verification, cutover, rollback.
//!
//! ```text
//!  UPGRADE … -> admin -> control -> driver (one per shard) -> effects -> servers · proxies · guard · snapshots
//!                 |                   |  journal: the intention before each effect, its result after it
//!               status <- board <-----+
//! ```
//! Control never sees a client's bytes. What is outside is reached by effects only, and proxies only by admin commands,
//! also in one process.

mod admin;
mod control;
mod cutover;
mod driver;
mod effect;
mod effects;
pub mod guard;
mod journal;
mod metrics;
mod phase;
mod plan;
mod proxies;
mod recovery;
pub mod server;
pub mod snapshot;
mod status;
pub mod verify;
mod whereabouts;
mod world;

pub use control::{Control, StartError};
pub use effect::EFFECTS;
pub use journal::{FILE_NAME as JOURNAL_FILE, Journal, JournalError};
pub use phase::Phase;
pub use recovery::recover_from_servers;
pub use whereabouts::{Fate, PodName, Whereabouts};
