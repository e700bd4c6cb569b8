//! Do two servers hold the same? Every key, both directions, while writes go on.
//!
//! ```text
//!   scan source ─ batch ─┬─ source: MULTI expiries · DUMPs · INFO EXEC ─┐
//!                        └─ target: MULTI expiries · DUMPs · INFO EXEC ─┴─ judge ── equal
//!   scan target ─ batch ─── source: EXISTS? ── no ───────────────────────┐    └── not equal ─┐
//!                                                                        └──── pending ◄─────┘
//!   pending: source → (target has applied that offset) → target → source again
//!            source moved meanwhile      look again, later
//!            source stood still, and     a difference, once it was seen the same `stable_rounds` times
//! ```
//!
//! What writes change while we look settles or stays *unsettled*, never becomes a difference; [`compare_keys`] settles the
//! rest where nothing moves, inside the hold. Both sides of a key are read at an offset of their own, so a key that is
//! found equal was equal, but a key that is written all the time is not proven before the hold. The exact method under live
//! writes needs to know which command touched which key between two offsets; it would take the place of `settle`.

mod compare;
pub(crate) mod info;
mod judge;
mod outcome;
mod read;
mod repair;
mod settle;

pub use compare::{compare, compare_keys};
pub use judge::Kind;
pub use outcome::{
    CompareOptions, Difference, KeyRef, Outcome, Progress, Stage, Unverifiable, VerifyError,
};
pub use repair::repair_ttls;
