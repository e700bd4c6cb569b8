//! The upgrade: plan, journal, phases, snapshot, link, verification, cutover, rollback.

mod admin;
mod cutover;
mod effect;
pub mod guard;
mod journal;
mod phase;
mod plan;
mod proxies;
pub mod server;
pub mod snapshot;
pub mod verify;
