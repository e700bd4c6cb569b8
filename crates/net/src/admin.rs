//! The admin server: a Redis-like server over a table of commands that proxy and control hand over.
//!
//! ```text
//!  Listener -> AdminServer::serve -> session: frame -> AUTH done? -> own command | table -> handler -> reply
//!  in_memory() --------------------> session that needs no password
//! ```
//!
//! A session asks one command at a time; a handler that has begun is not dropped because its client went away, except
//! where it says that it only waits.

mod own;
mod server;
mod session;
mod table;

use std::time::Duration;

pub use server::AdminServer;
pub use table::{AdminHandler, AdminRequest, AdminTable, InfoSection};

/// How much the admin endpoint takes. A reload does not change it.
#[derive(Debug, Clone, Copy)]
pub struct AdminLimits {
    /// Most sessions at once. Beyond it a new one gets `-ERR max number of clients reached` and is closed. Default: 100.
    pub sessions_max: usize,
    /// Longest request, in bytes. A longer one is answered with a protocol error and its session closed. Default: 1 MiB.
    pub frame_max: usize,
    /// Longest request of a session that has not authenticated, in bytes. Default: 16 KiB.
    pub stranger_frame_max: usize,
    /// Longest time that a connection may take to authenticate; then it is closed. Default: 30 s.
    pub login_max: Duration,
}

impl Default for AdminLimits {
    fn default() -> AdminLimits {
        AdminLimits {
            sessions_max: 100,
            frame_max: 1024 * 1024,
            stranger_frame_max: 16 * 1024,
            login_max: Duration::from_secs(30),
        }
    }
}
