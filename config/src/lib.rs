//! What an operator writes: settings with units and defaults, every problem at once.
//!
//! A file is read into a tree that knows its lines, walked once into types that cannot be wrong, and never looked at
//! again. Nothing here connects, listens or resolves a name; secrets are read from their files and from the environment.

mod address;
mod backend_url;
mod diff;
mod kubernetes;
mod limits;
mod load;
mod model;
mod nearest;
mod node;
mod nutcracker;
mod problem;
mod read;
pub mod reference;
mod scalar;
mod secret;
mod section;
mod settings;
mod sources;
mod units;

pub use address::{GuardAddress, HostPort, InvalidAddress, ListenAddress};
pub use backend_url::{BackendUrl, Scheme};
pub use diff::{Change, Needs};
pub use kubernetes::{AgentLease, Kubernetes, SnapshotLevel, VerifyJob, VolumeClaim};
pub use limits::{LimitRow, Limits};
pub use model::{
    Admin, BackendTls, Config, Control, Http, Pool, Shard, SnapshotsBy, TlsFiles, User,
};
pub use problem::{LoadError, Problem, Problems};
pub use secret::Secret;
pub use units::ByteSize;
