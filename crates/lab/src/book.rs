//! One connection's half of the ledger: what its acknowledged writes must have left in its keys. Pure.
//!
//! A key normally has one state. After a command whose outcome nobody knows (connection lost, error reply) it has a set
//! of allowed ones, is used no more, and is judged against that set in the end; so a write that a dying connection left
//! behind somewhere cannot be mistaken for a fault. Replies of one connection come in order, hence what a lost
//! connection left executed is, for each key, a prefix of what was sent.

use std::collections::BTreeMap;

use crate::command::{KeyIndex, Planned, Shape, says};
use crate::model::{Entry, Op, Window};
use crate::shared::SharedBook;
use crate::wire::Reply;

/// The keys of a group, by what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Log,
    List,
    Hash,
    Set,
    Sorted,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] = [
        Kind::Text,
        Kind::Number,
        Kind::Log,
        Kind::List,
        Kind::Hash,
        Kind::Set,
        Kind::Sorted,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Number => "number",
            Kind::Log => "log",
            Kind::List => "list",
            Kind::Hash => "hash",
            Kind::Set => "set",
            Kind::Sorted => "sorted",
        }
    }
}

/// What the ledger holds of one key.
#[derive(Clone, Debug)]
pub(crate) struct KeyRecord {
    pub(crate) name: String,
    /// The allowed states, in the order of the commands that lead to them; one, unless an outcome is unknown.
    pub(crate) states: Vec<Entry>,
    /// Acknowledged writes.
    pub(crate) acknowledged: u64,
    /// The command number of the last of them.
    pub(crate) last_acknowledged: u64,
    /// A wrong reply was reported: its followers are not, they have the same cause.
    disputed: bool,
}

/// One connection's keys.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) connection: usize,
    pub(crate) keys: Vec<KeyRecord>,
    pub(crate) shared: SharedBook,
    prefix: String,
    hash_tags: bool,
    /// The first key of each group in use; its others follow in the order of [`Kind::ALL`].
    groups: Vec<KeyIndex>,
    generations: u64,
}

/// What a command's replies meant.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) acknowledged_writes: u64,
    pub(crate) errors: Vec<(KeyIndex, String)>,
    pub(crate) wrong: Vec<Wrong>,
}

/// A reply that cannot be.
#[derive(Debug, PartialEq)]
pub(crate) struct Wrong {
    pub(crate) key: KeyIndex,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Book {
    pub(crate) fn new(connection: usize, prefix: &str, groups: usize, hash_tags: bool) -> Book {
        let mut book = Book {
            connection,
            keys: Vec::new(),
            shared: SharedBook::new(connection),
            prefix: prefix.to_owned(),
            hash_tags,
            groups: vec![0; groups],
            generations: 0,
        };
        for group in 0..groups {
            book.open_group(group);
        }
        book
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The key of this kind in a group.
    pub(crate) fn key(&self, group: usize, kind: Kind) -> KeyIndex {
        self.groups[group] + kind as usize
    }

    pub(crate) fn name(&self, key: KeyIndex) -> &[u8] {
        self.keys[key].name.as_bytes()
    }

    /// Start of every key.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The value to plan the next command by. With several allowed states any will do: the key is retired soon.
    pub(crate) fn expected(&self, key: KeyIndex) -> &Entry {
        &self.keys[key].states[0]
    }

    /// Whether this connection's groups are whole keys of one shard by their hash tag.
    pub(crate) fn has_hash_tags(&self) -> bool {
        self.hash_tags
    }

    /// Takes the replies to one command. `replies` has as many as the command gets.
    pub(crate) fn settle(
        &mut self,
        sequence: u64,
        command: &Planned,
        replies: &[Reply],
        window: Window,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let errors = replies.iter().filter_map(|reply| match reply {
            Reply::Error(text) => Some(text.clone()),
            _ => None,
        });
        let first_key = command.parts.first().map_or(0, |(key, _)| *key);
        verdict.errors.extend(errors.map(|text| (first_key, text)));
        if !verdict.errors.is_empty() {
            self.unknown(std::slice::from_ref(command), window);
            return verdict;
        }
        let last = replies.last().unwrap_or(&Reply::Null);
        match command.shape {
            Shape::Single => self.settle_parts(
                sequence,
                command,
                std::slice::from_ref(last),
                window,
                &mut verdict,
            ),
            Shape::Mset => {
                let each = vec![last.clone(); command.parts.len()];
                self.settle_parts(sequence, command, &each, window, &mut verdict);
            }
            Shape::Sum => self.settle_sum(sequence, command, last, window, &mut verdict),
            Shape::Mget | Shape::Script | Shape::Transaction => {
                let (queued, expected) = if command.shape == Shape::Transaction {
                    (
                        &replies[..replies.len() - 1],
                        transaction_start(command.parts.len()),
                    )
                } else {
                    (&replies[..0], Vec::new())
                };
                if let Some((found, expected)) = queued
                    .iter()
                    .zip(&expected)
                    .find(|(found, expected)| !says(found, expected))
                {
                    self.dispute(
                        first_key,
                        expected.to_string(),
                        found.to_string(),
                        &mut verdict,
                    );
                }
                match last {
                    Reply::Array(elements) if elements.len() == command.parts.len() => {
                        self.settle_parts(sequence, command, elements, window, &mut verdict);
                    }
                    other => {
                        let expected = format!("an array of {}", command.parts.len());
                        self.dispute(first_key, expected, other.to_string(), &mut verdict);
                        self.unknown(std::slice::from_ref(command), window);
                    }
                }
            }
        }
        verdict
    }

    /// Commands whose replies never came, in the order sent: any prefix of them may have been executed.
    pub(crate) fn unknown(&mut self, commands: &[Planned], window: Window) {
        let mut frontiers: BTreeMap<KeyIndex, Vec<Entry>> = BTreeMap::new();
        for command in commands {
            // A transaction or a script changes a key at once, whatever it does to it.
            let mut changed: Vec<KeyIndex> = Vec::new();
            for (key, op) in command.parts.iter().filter(|(_, op)| op.is_write()) {
                let frontier = frontiers
                    .entry(*key)
                    .or_insert_with(|| self.keys[*key].states.clone());
                for state in frontier.iter_mut() {
                    state.apply(op, window);
                }
                if !changed.contains(key) {
                    changed.push(*key);
                }
            }
            for key in changed {
                for state in &frontiers[&key] {
                    if !self.keys[key].states.contains(state) {
                        self.keys[key].states.push(state.clone());
                    }
                }
            }
        }
    }

    /// Uses the groups of these keys no more; new ones take their place.
    pub(crate) fn retire(&mut self, keys: impl IntoIterator<Item = KeyIndex>) {
        for key in keys {
            let group = self
                .groups
                .iter()
                .position(|first| (*first..*first + Kind::ALL.len()).contains(&key));
            if let Some(group) = group {
                self.open_group(group);
            }
        }
    }

    fn open_group(&mut self, group: usize) {
        self.groups[group] = self.keys.len();
        let (open, close) = if self.hash_tags { ("{", "}") } else { ("", "") };
        for kind in Kind::ALL {
            self.keys.push(KeyRecord {
                name: format!(
                    "{}{open}c{}g{}{close}:{}",
                    self.prefix,
                    self.connection,
                    self.generations,
                    kind.name()
                ),
                states: vec![Entry::default()],
                acknowledged: 0,
                last_acknowledged: 0,
                disputed: false,
            });
        }
        self.generations += 1;
    }

    fn settle_parts(
        &mut self,
        sequence: u64,
        command: &Planned,
        found: &[Reply],
        window: Window,
        verdict: &mut Verdict,
    ) {
        for ((key, op), found) in command.parts.iter().zip(found) {
            let expected = self.keys[*key].answer(op, found, window);
            self.acknowledge(*key, op, sequence, verdict);
            if let Err(expected) = expected {
                self.dispute(
                    *key,
                    format!("{op:?} to give {expected}"),
                    found.to_string(),
                    verdict,
                );
            }
        }
    }

    fn settle_sum(
        &mut self,
        sequence: u64,
        command: &Planned,
        found: &Reply,
        window: Window,
        verdict: &mut Verdict,
    ) {
        let mut expected = 0;
        let mut certain = true;
        for (key, op) in &command.parts {
            let record = &mut self.keys[*key];
            certain &= record.states.len() == 1;
            for state in &mut record.states {
                expected += state.apply(op, window).as_integer().unwrap_or(0);
            }
            self.acknowledge(*key, op, sequence, verdict);
        }
        if certain && found.as_integer() != Some(expected) {
            let (first, op) = &command.parts[0];
            let expected = format!("{op:?} of {} keys to give :{expected}", command.parts.len());
            self.dispute(*first, expected, found.to_string(), verdict);
        }
    }

    fn acknowledge(&mut self, key: KeyIndex, op: &Op, sequence: u64, verdict: &mut Verdict) {
        if op.is_write() {
            verdict.acknowledged_writes += 1;
            self.keys[key].acknowledged += 1;
            self.keys[key].last_acknowledged = sequence;
        }
    }

    fn dispute(&mut self, key: KeyIndex, expected: String, found: String, verdict: &mut Verdict) {
        if !std::mem::replace(&mut self.keys[key].disputed, true) {
            verdict.wrong.push(Wrong {
                key,
                expected,
                found,
            });
        }
    }
}

impl KeyRecord {
    /// Applies an acknowledged operation. `Err` with the reply that was due when no allowed state gives the one found;
    /// the operation counts as done all the same, since it was acknowledged.
    fn answer(&mut self, op: &Op, found: &Reply, window: Window) -> Result<(), Reply> {
        if let [only] = self.states.as_mut_slice() {
            let expected = only.apply(op, window);
            return if says(found, &expected) {
                Ok(())
            } else {
                Err(expected)
            };
        }
        let mut due = Reply::Null;
        let mut fitting: Vec<Entry> = Vec::new();
        for state in &mut self.states {
            due = state.apply(op, window);
            if says(found, &due) && !fitting.contains(state) {
                fitting.push(state.clone());
            }
        }
        if fitting.is_empty() {
            return Err(due);
        }
        self.states = fitting;
        Ok(())
    }
}

fn transaction_start(ops: usize) -> Vec<Reply> {
    let mut replies = vec![Reply::Simple("QUEUED".to_owned()); ops + 1];
    replies[0] = Reply::ok();
    replies
}

#[cfg(test)]
mod tests;
