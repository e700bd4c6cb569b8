//! One connection's share in counters and lists that all connections write. Pure.
//!
//! What a connection can know of them: the replies it sees only grow; in the end a counter is the sum of all
//! acknowledged additions plus at most the unknown ones; a list holds each connection's acknowledged tokens once and in
//! its order. That catches a write doubled or lost under another connection's name, and order broken across a switch.

use std::collections::{BTreeMap, BTreeSet};

/// How many tokens one connection pushes to one list before all move on to the next: bounds the list's length.
const TOKENS_PER_LIST: u32 = 500;

/// One connection's additions and tokens.
#[derive(Debug)]
pub(crate) struct SharedBook {
    connection: usize,
    pub(crate) counters: BTreeMap<usize, SharedCounter>,
    pub(crate) lists: BTreeMap<usize, SharedList>,
    next_token: u32,
    list: usize,
}

/// One connection's share in one counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedCounter {
    pub(crate) acknowledged: i64,
    pub(crate) unknown: i64,
    highest: i64,
    pub(crate) last_acknowledged: u64,
}

/// One connection's tokens in one list: 0 to `pushed`, all acknowledged but the unknown ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedList {
    pub(crate) pushed: u32,
    pub(crate) unknown: BTreeSet<u32>,
    highest: i64,
    pub(crate) last_acknowledged: u64,
}

impl SharedBook {
    pub(crate) fn new(connection: usize) -> SharedBook {
        SharedBook {
            connection,
            counters: BTreeMap::new(),
            lists: BTreeMap::new(),
            next_token: 0,
            list: 0,
        }
    }

    /// The next list and token to push; used up by the asking.
    pub(crate) fn take_token(&mut self) -> (usize, u32) {
        if self.next_token == TOKENS_PER_LIST {
            (self.list, self.next_token) = (self.list + 1, 0);
        }
        let token = self.next_token;
        self.next_token += 1;
        self.lists.entry(self.list).or_default().pushed = self.next_token;
        (self.list, token)
    }

    /// A token as it is pushed.
    pub(crate) fn token_text(&self, token: u32) -> String {
        format!("{}.{token}", self.connection)
    }

    /// Takes INCR's reply; `Err` with what was due.
    pub(crate) fn added(
        &mut self,
        counter: usize,
        sequence: u64,
        reply: Option<i64>,
    ) -> Result<(), String> {
        let own = self.counters.entry(counter).or_default();
        own.acknowledged += 1;
        own.last_acknowledged = sequence;
        grow(&mut own.highest, reply)
    }

    /// Takes RPUSH's reply; `Err` with what was due.
    pub(crate) fn pushed(
        &mut self,
        list: usize,
        sequence: u64,
        reply: Option<i64>,
    ) -> Result<(), String> {
        let own = self.lists.entry(list).or_default();
        own.last_acknowledged = sequence;
        grow(&mut own.highest, reply)
    }

    /// An INCR whose outcome nobody knows.
    pub(crate) fn add_unknown(&mut self, counter: usize) {
        self.counters.entry(counter).or_default().unknown += 1;
    }

    /// An RPUSH whose outcome nobody knows.
    pub(crate) fn push_unknown(&mut self, list: usize, token: u32) {
        self.lists.entry(list).or_default().unknown.insert(token);
    }
}

/// What all connections share has these names.
pub(crate) fn counter_name(prefix: &str, counter: usize) -> String {
    format!("{prefix}shared:number:{counter}")
}

/// What all connections share has these names.
pub(crate) fn list_name(prefix: &str, list: usize) -> String {
    format!("{prefix}shared:list:{list}")
}

fn grow(highest: &mut i64, reply: Option<i64>) -> Result<(), String> {
    match reply {
        Some(number) if number > *highest => {
            *highest = number;
            Ok(())
        }
        _ => Err(format!("an integer over {highest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{SharedBook, TOKENS_PER_LIST};

    #[test]
    fn replies_only_grow() {
        let mut book = SharedBook::new(1);
        assert!(book.added(0, 1, Some(5)).is_ok());
        assert_eq!(
            book.added(0, 2, Some(5)),
            Err("an integer over 5".to_owned())
        );
        assert!(book.added(0, 3, None).is_err());
        assert_eq!(book.counters[&0].acknowledged, 3);
    }

    #[test]
    fn a_full_list_is_followed_by_the_next() {
        let mut book = SharedBook::new(1);
        for token in 0..TOKENS_PER_LIST {
            assert_eq!(book.take_token(), (0, token));
        }
        assert_eq!(book.take_token(), (1, 0));
        assert_eq!(book.lists[&0].pushed, TOKENS_PER_LIST);
        assert_eq!(book.token_text(7), "1.7");
    }
}
