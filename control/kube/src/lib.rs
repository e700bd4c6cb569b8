//! Snapshots of the volumes behind Redis in Kubernetes, through whatever backup system is there.
//!
//! `recipe` says how a system is driven, as data. `predicate` answers questions about objects with yes, no or unknown.
//! Both are pure; everything that talks to an API server does so through `cluster`.

pub mod predicate;
pub mod recipe;
