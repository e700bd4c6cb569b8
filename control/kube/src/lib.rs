//! Snapshots of the volumes behind Redis in Kubernetes, through whatever backup system is there.
//!
//! `recipe` says how a system is driven, as data. `predicate` answers questions about objects with yes, no or unknown.
//! `engine` runs a recipe: `engine::run` decides, without a clock or a connection. Everything that talks to an API server
//! does so through `cluster`. `provider` is what control sees of all this,
//! and `agent` lets one of many sidecars act. `whereabouts` says whether a proxy's Pod is gone.

pub mod agent;
pub mod cluster;
pub mod engine;
pub mod locate;
pub mod predicate;
pub mod recipe;
pub mod records;

mod latch;
mod provider;
mod redis;
mod settings;
mod whereabouts;

pub use provider::KubeSnapshots;
pub use settings::{Settings, book_of};
pub use whereabouts::Pods;
