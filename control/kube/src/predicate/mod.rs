//! Questions about an object that answer yes, no or *unknown*.
//!
//! A controller that has not spoken yet has said nothing: while an object has no `.status`, a path below it that selects
//! nothing is unknown, never no and never yes. So an absent controller can neither fail nor finish a snapshot.

mod eval;
mod path;

pub use eval::{Objects, eval, select};
pub(crate) use path::is_name;
pub use path::{Path, Ref};

use serde_json::Value;

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// Nobody has said yet.
    Unknown,
}

impl Truth {
    /// The opposite; what is unknown stays so.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    /// Both: one no decides.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }

    /// Either: one yes decides.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.opposite().and(other.opposite()).opposite()
    }

    /// Whether it is known to hold.
    #[must_use]
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// A question, as a recipe writes it. Values may be templates; they are filled before the question is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// One path, one comparison.
    Leaf {
        /// What is looked at.
        at: Ref,
        /// What it is compared with.
        op: Op,
    },
    /// Every one of them.
    All(Vec<Predicate>),
    /// At least one of them.
    Any(Vec<Predicate>),
    /// Its opposite.
    Not(Box<Predicate>),
    /// Every element of a list, and at least so many.
    Each {
        /// The list: a variable that is a list, or a path that selects its elements.
        of: Ref,
        /// What each must answer; in it, paths without a name are on the element.
        that: Box<Predicate>,
        /// How many there must be at least.
        count_ge: Value,
    },
    /// A reference that leads back: it names the object by name, namespace and uid.
    Bind {
        /// Where the reference is, as `content:$.spec.volumeSnapshotRef`.
        from: Ref,
        /// The variable it must name.
        to: String,
    },
}

/// What the selected values are compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// All selected values equal it.
    Eq(Value),
    /// None of the selected values equals it; nothing selected is enough.
    Ne(Value),
    /// All selected values are in the list.
    In(Vec<Value>),
    /// None of the selected values is in the list; nothing selected is enough.
    NotIn(Vec<Value>),
    /// Something is selected (null does not count), or nothing is.
    Exists(Value),
    /// Something is selected and none of it is null, "", [] or {}; or the opposite.
    NonEmpty(Value),
    /// All selected values are numbers, or texts of numbers, of at least this.
    Ge(Value),
    /// So many values at least are selected.
    CountGe(Value),
    /// Some selected text contains one of these.
    Contains(Vec<Value>),
    /// Some selected text starts with one of these.
    StartsWith(Vec<Value>),
}

impl Op {
    /// Every comparison, by the name that a recipe writes.
    pub const NAMES: [&'static str; 10] = [
        "eq",
        "ne",
        "in",
        "notIn",
        "exists",
        "nonEmpty",
        "ge",
        "countGe",
        "contains",
        "startsWith",
    ];
}

#[cfg(test)]
mod tests;
