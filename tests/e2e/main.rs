//! End-to-end tests: the real binary, real servers, real load. A name is a claim.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, a failed expectation ends the test"
)]

mod chaos;
mod cli;
mod crash;
mod demo;
mod disk;
mod dying;
#[cfg(feature = "kube")]
mod gone;
mod huge;
mod input;
mod metrics;
mod nutcracker;
mod partition;
mod probe;
mod proxies;
mod report;
mod rights;
mod sentinel;
#[cfg(feature = "kube")]
mod sidecar;
mod soak;
mod stage;
mod stall;
mod tls;
mod upgrade;
