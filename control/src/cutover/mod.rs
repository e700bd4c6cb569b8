//! Moving one shard from one server to the other: evidence, decisions, the nine steps and their undo.

mod decide;
mod evidence;
mod passage;

pub(crate) use decide::{
    CutoverDecision, has_caught_up, is_equal, is_promoted, may_begin, may_commit,
};
pub(crate) use evidence::{Identity, Role, Standing};
pub(crate) use passage::{Passage, Step};
