//! The data plane: a pure worker core, the sockets around it, and the admin commands of the proxy.
//!
//! ```text
//!  acceptor ──Incoming──▶ worker thread: sessions ⇄ core ⇄ lanes         one thread, one core, no lock
//!  admin    ──Order─────▶ every worker ──Ack──▶ one answer                orders, gate
//!  overlay  data_dir/routes.json: which server each shard is on           read before listening, written before SWITCH
//! ```

pub mod route;
pub mod worker;

mod acceptor;
mod admin;
mod backends;
mod gate;
mod membership;
mod metrics;
mod orders;
mod overlay;
mod proxy;
mod reload;
mod shared;
mod stats;
mod table;
mod thread;
mod watch;

pub use overlay::OverlayError;
pub use proxy::{ConfigSource, Proxy, ReloadError, StartError};
pub use reload::Reloaded;
