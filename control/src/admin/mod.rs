//! `UPGRADE …`: the verbs that an operator types, and what they answer.

mod grammar;
