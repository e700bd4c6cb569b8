//! Real servers of many versions, load, ledger and fault injection: what demo, tests and benches share.
//!
//! ```text
//!   Server   a real redis-server or valkey-server of a chosen version, alone in its directory, gone when dropped
//!   Cluster  plays kubelet and CSI driver on a real API server (feature `cluster`)
//!   Relay    a TCP relay that delays, cuts, stalls, cuts a process off, doubles a write or swaps two replies
//!   Load     many connections, mixed commands; every reply checked at once ──┐
//!   Ledger   what each acknowledged write must have left behind            ◄─┘
//!   audit    asks the servers themselves, not the proxy: lost, doubled, reordered, misplaced
//!   Report   the zeros that the demo prints
//! ```
//!
//! The lab judges the proxy, so it shares no code with it: it has its own RESP reader (`wire`) and its own model of what
//! Redis answers (`model`). A fault in the proxy's scanner cannot hide here.

mod audit;
mod book;
#[cfg(feature = "cluster")]
mod cluster;
mod command;
mod connection;
mod error;
mod fill;
mod finding;
mod gap;
mod ledger;
mod load;
mod model;
mod plan;
mod port;
mod process;
mod random;
mod relay;
mod report;
mod scene;
mod sentinel;
mod server;
mod shared;
mod verdict;
mod version;
mod watch;
pub mod wire;

pub use audit::AuditOptions;
#[cfg(feature = "cluster")]
pub use cluster::{Cluster, ClusterOptions, Fate};
pub use error::LabError;
pub use fill::{Fill, FillReport};
pub use finding::{Finding, FindingKind};
pub use gap::Gap;
pub use ledger::Ledger;
pub use load::{Load, LoadOptions};
pub use port::{free_host, free_port};
pub use process::{Process, ProcessOptions};
pub use random::Random;
pub use relay::{AfterCut, CutAt, Relay, RelayMode};
pub use report::{GapLine, Report};
pub use scene::{Cast, POOL, Relays, Scene, SceneOptions};
pub use sentinel::Sentinel;
pub use server::{Server, ServerOptions, ServerTls};
pub use version::{Product, Version, tool};
pub use watch::Progress;
