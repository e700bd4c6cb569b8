//! The upgrade: plan, journal, phases, snapshot, link, verification, cutover, rollback.

mod admin;
mod cutover;
mod effect;
mod journal;
mod phase;
mod plan;
mod proxies;
