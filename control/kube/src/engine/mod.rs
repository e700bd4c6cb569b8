//! Runs a recipe: `run` decides, `drive` acts.

mod audit;
mod context;
mod delete;
mod drive;
mod http;
mod keep;
mod name;
mod objects;
mod preflight;
#[cfg(any(test, feature = "testing"))]
pub mod quiet;
mod refuse;
mod restore;
pub mod run;
mod server;
mod session;
mod trigger;

pub use audit::scratch_run;
pub use context::{ANNOTATIONS, Context, LABEL_POOL, LABEL_RUN, LABEL_SHARD, Request, label};
pub use drive::Engine;
pub use name::object_name;
pub use refuse::{Refusal, Refusals};
pub use server::{Facts, Said, Server, ServerError};

#[cfg(test)]
mod tests;
