//! Do two servers hold the same? Every key, both directions, while writes go on.
//!
//! ```text
//!   scan source ─ batch ─┬─ source: MULTI expiries · DUMPs · INFO EXEC ─┐
//!                        └─ target: MULTI expiries · DUMPs · INFO EXEC ─┴─ judge ── equal
//!   scan target ─ batch ─── source: EXISTS? ── no ───────────────────────┐    └── not equal ─┐
//!                                                                        └──── pending ◄─────┘
//!   pending: looked at again and again (`settle`)
//!            equal                                    settled
//!            touched by a client while we looked      again, later; in the end: unsettled
//!            untouched, and not equal                 a difference, once it was seen the same `stable_rounds` times
//! ```
//!
//! What writes change while we look never becomes a difference: `settle` proves by WATCH that a key stood still. What never
//! stands still is left to [`compare_keys`], inside the hold. A key that is found equal was equal, though each side was
//! read at an offset of its own. Proving that for keys that are written all the time needs to know which command touched
//! which key between two offsets; such a method would take the place of `settle`.

mod compare;
pub(crate) mod info;
mod judge;
mod outcome;
mod read;
mod reading;
mod repair;
mod settle;

pub use compare::{compare, compare_keys};
pub use judge::Kind;
pub use outcome::{
    CompareOptions, Difference, KeyRef, Outcome, Progress, Stage, Unverifiable, VerifyError,
};
pub use repair::repair_ttls;
