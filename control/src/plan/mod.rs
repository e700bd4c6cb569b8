//! What an upgrade would meet: facts in, blockers out. Pure but for the gathering, which is elsewhere.

mod blocker;
mod checks;
mod claims;
mod facts;
mod versions;

pub(crate) use blocker::{Acceptable, Blocker, refused};
pub(crate) use checks::blockers;
pub(crate) use claims::{Claim, claimed};
pub(crate) use facts::{Build, ClientFacts, Product, ServerFacts, ShardFacts};
