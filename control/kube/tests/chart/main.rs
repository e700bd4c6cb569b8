//! The Helm chart in `helm/understudy`: rendered by Helm's own library with many values, and read as the API server would read it.
//!
//! Needs python3 and the library that `make tools` puts into `.tools`; without them each test says that it skips.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: where it panics is what is wrong"
)]

mod cluster;
mod config;
mod examples;
mod helm;
mod image;
mod monitoring;
mod objects;
mod refusals;
mod render;
mod rights;
mod security;
