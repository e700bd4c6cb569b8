//! End-to-end tests: the real binary, real servers, real load. A name is a claim.

mod cli;
mod crash;
mod demo;
mod nutcracker;
mod probe;
mod proxies;
mod stage;
mod upgrade;
