//! What an upgrade would meet: facts in, blockers out. Pure but for the gathering, which is elsewhere.

mod blocker;
mod checks;
mod facts;
mod versions;

pub use blocker::{Blocker, refused};
pub use checks::blockers;
pub use facts::{Build, ClientFacts, Product, ServerFacts, ShardFacts};
