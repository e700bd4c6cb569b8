//! Which keys the source cannot follow: those of commands, and of whole transactions, that it cannot execute. Pure.
//!
//! One unknown option makes an old server drop the whole transaction around it, with the link up and the offsets equal
//! (hazard 22). A script arrives as a transaction of its effects, so it is one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_resp::args::Args;
use understudy_resp::command::{Flags, Server, data_keys, lookup, resolve, unknown_part};

use super::stream::{Command, Skimmer};

/// Most keys that are named. Beyond it they are only counted, by command.
const KEYS_MAX: usize = 10_000;
/// Most command names that are kept.
const COMMANDS_MAX: usize = 64;
/// Changes of the selected database that are remembered, for a link that resumes further back.
const SELECTS_MAX: usize = 4_096;

/// A key of the source that may differ from the target's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Its database; `None` where the stream had not named one yet.
    pub db: Option<u32>,
    /// The key.
    pub key: Vec<u8>,
}

impl fmt::Display for ForeignKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.db {
            Some(db) => write!(out, "db{db}:{}", self.key.escape_ascii()),
            None => write!(out, "db?:{}", self.key.escape_ascii()),
        }
    }
}

/// What the source could not execute so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKeys {
    /// Commands, or transactions, that had no effect there.
    pub count: u64,
    /// Their keys.
    pub keys: BTreeSet<ForeignKey>,
    /// Whether `keys` names all of them.
    pub whole: bool,
    /// The commands it did not know, upper case, and how often each came. Transactions count by what spoiled them.
    pub commands: BTreeMap<String, u64>,
    /// The offset behind the last command that was judged. What comes again before it is not counted again.
    pub up_to: u64,
}

impl Default for ForeignKeys {
    fn default() -> ForeignKeys {
        ForeignKeys {
            count: 0,
            keys: BTreeSet::new(),
            whole: true,
            commands: BTreeMap::new(),
            up_to: 0,
        }
    }
}

impl ForeignKeys {
    /// True when the source has executed everything that it was sent.
    pub fn is_exact(&self) -> bool {
        self.count == 0 && self.whole
    }

    fn add(&mut self, dropped: Dropped) {
        self.count += 1;
        self.whole &= dropped.whole;
        for key in dropped.keys {
            if self.keys.len() >= KEYS_MAX && !self.keys.contains(&key) {
                self.whole = false;
                break;
            }
            self.keys.insert(key);
        }
        if self.commands.len() < COMMANDS_MAX || self.commands.contains_key(&dropped.command) {
            *self.commands.entry(dropped.command).or_default() += 1;
        }
    }
}

/// A command or transaction that has no effect at the source.
struct Dropped {
    command: String,
    keys: BTreeSet<ForeignKey>,
    whole: bool,
}

/// MULTI was read, EXEC not yet.
struct Transaction {
    /// The first command in it that the source does not know.
    spoiled_by: Option<String>,
    keys: BTreeSet<ForeignKey>,
    whole: bool,
}

/// Reads the stream and keeps what the source cannot execute.
pub(super) struct StreamReader {
    judge: Judge,
    /// `None` where bytes came that are no stream, until the link resumes.
    skimmer: Option<Skimmer>,
}

struct Judge {
    source: Server,
    foreign: ForeignKeys,
    db: Option<u32>,
    /// The offset behind each SELECT, and its database.
    selects: VecDeque<(u64, u32)>,
    transaction: Option<Transaction>,
    indexes: Vec<usize>,
}

impl StreamReader {
    pub(super) fn new(source: Server) -> StreamReader {
        let judge = Judge {
            source,
            foreign: ForeignKeys::default(),
            db: None,
            selects: VecDeque::new(),
            transaction: None,
            indexes: Vec::new(),
        };
        StreamReader {
            judge,
            skimmer: None,
        }
    }

    pub(super) fn foreign(&self) -> &ForeignKeys {
        &self.judge.foreign
    }

    /// Goes on from what an earlier reader knew.
    pub(super) fn remember(&mut self, earlier: ForeignKeys) {
        let mine = std::mem::replace(&mut self.judge.foreign, earlier);
        let all = &mut self.judge.foreign;
        all.count += mine.count;
        all.whole &= mine.whole;
        all.keys.extend(mine.keys);
        all.up_to = all.up_to.max(mine.up_to);
        for (command, count) in mine.commands {
            *all.commands.entry(command).or_default() += count;
        }
    }

    /// The next byte has this offset. A link resumes at the start of a command, and never inside of a transaction: a
    /// replica counts the bytes of one only when it has executed all of it. The primary does not repeat SELECT.
    pub(super) fn resume_at(&mut self, offset: u64) {
        let judge = &mut self.judge;
        judge.transaction = None;
        judge.db = judge
            .selects
            .iter()
            .rev()
            .find(|(end, _)| *end <= offset)
            .map(|(_, db)| *db);
        judge.selects.retain(|(end, _)| *end <= offset);
        self.skimmer = Some(Skimmer::new(offset));
    }

    pub(super) fn read(&mut self, bytes: &[u8]) {
        let Some(skimmer) = &mut self.skimmer else {
            return;
        };
        let judge = &mut self.judge;
        if !skimmer.read(bytes, |command, end| judge.command(command, end)) {
            tracing::error!(
                "the target's stream cannot be read along: the way back is no longer known to be exact"
            );
            judge.foreign.whole = false;
            self.skimmer = None;
        }
    }
}

impl Judge {
    fn command(&mut self, command: &Command, end: u64) {
        if command.is("SELECT") {
            self.db = std::str::from_utf8(command.arg(1))
                .ok()
                .and_then(|db| db.parse().ok());
            self.remember_db(end);
        } else if command.is("MULTI") {
            self.transaction = Some(Transaction {
                spoiled_by: None,
                keys: BTreeSet::new(),
                whole: true,
            });
        } else if command.is("EXEC") {
            let spoiled = self.transaction.take().and_then(Transaction::spoiled);
            self.dropped(spoiled, end);
        } else {
            let unknown = unknown_part(self.source, command).is_some();
            match self.transaction.take() {
                Some(transaction) => {
                    self.transaction = Some(self.queued(transaction, command, unknown));
                }
                // A message that is not delivered changes no data.
                None if unknown && !is_message(command) => {
                    let (keys, whole) = self.keys(command);
                    self.dropped(
                        Some(Dropped {
                            command: name(command),
                            keys,
                            whole,
                        }),
                        end,
                    );
                }
                None => self.dropped(None, end),
            }
        }
    }

    fn queued(
        &mut self,
        mut transaction: Transaction,
        command: &Command,
        unknown: bool,
    ) -> Transaction {
        let (keys, whole) = self.keys(command);
        transaction.whole &= whole;
        match transaction.keys.len() < KEYS_MAX {
            true => transaction.keys.extend(keys),
            false => transaction.whole = false,
        }
        if unknown && transaction.spoiled_by.is_none() {
            transaction.spoiled_by = Some(name(command));
        }
        transaction
    }

    /// What ends at this offset is judged, once.
    fn dropped(&mut self, dropped: Option<Dropped>, end: u64) {
        if end <= self.foreign.up_to {
            return;
        }
        self.foreign.up_to = end;
        if let Some(dropped) = dropped {
            tracing::warn!(
                command = dropped.command,
                "the source cannot execute what the target sends it"
            );
            self.foreign.add(dropped);
        }
    }

    fn remember_db(&mut self, end: u64) {
        if let Some(db) = self.db {
            if self.selects.len() == SELECTS_MAX {
                self.selects.pop_front();
            }
            self.selects.push_back((end, db));
        }
    }

    /// The command's keys, and whether these are all.
    fn keys(&mut self, command: &Command) -> (BTreeSet<ForeignKey>, bool) {
        let Ok(spec) = resolve(command) else {
            return (BTreeSet::new(), false);
        };
        let found = data_keys(spec, command, &mut self.indexes).is_ok();
        let whole = found
            && !command.left_out()
            && self.indexes.iter().all(|index| command.is_whole(*index));
        let key = |index: &usize| ForeignKey {
            db: self.db,
            key: command.arg(*index).to_vec(),
        };
        (self.indexes.iter().map(key).collect(), whole)
    }
}

impl Transaction {
    fn spoiled(self) -> Option<Dropped> {
        let Transaction {
            spoiled_by,
            keys,
            whole,
        } = self;
        spoiled_by.map(|command| Dropped {
            command,
            keys,
            whole,
        })
    }
}

fn is_message(command: &Command) -> bool {
    lookup(command.arg(0)).is_some_and(|spec| spec.flags.contains(Flags::PUBSUB))
}

fn name(command: &Command) -> String {
    let name: String = String::from_utf8_lossy(command.arg(0))
        .chars()
        .take(64)
        .collect();
    name.to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_resp::encode;

    fn stream(commands: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for command in commands {
            encode::command(&mut out, &command.split(' ').collect::<Vec<_>>());
        }
        out
    }

    fn read(source: Server, commands: &[&str]) -> ForeignKeys {
        let mut reader = StreamReader::new(source);
        reader.resume_at(1);
        reader.read(&stream(commands));
        reader.foreign().clone()
    }

    #[track_caller]
    fn check(
        source: Server,
        commands: &[&str],
        keys: &[(Option<u32>, &str)],
        spoilers: &[(&str, u64)],
    ) {
        let foreign = read(source, commands);
        let key = |(db, key): &(Option<u32>, &str)| ForeignKey {
            db: *db,
            key: key.as_bytes().to_vec(),
        };
        assert_eq!(foreign.keys, keys.iter().map(key).collect());
        let expected: BTreeMap<String, u64> = spoilers
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect();
        assert_eq!(foreign.commands, expected);
        assert!(foreign.whole);
        assert_eq!(
            foreign.count,
            spoilers.iter().map(|(_, count)| count).sum::<u64>()
        );
    }

    #[test]
    fn what_the_source_knows_leaves_the_way_back_exact() {
        let commands = [
            "SELECT 0",
            "SET k v PXAT 1700000000000",
            "PING",
            "REPLCONF GETACK *",
            "MULTI",
            "INCR a",
            "EXEC",
        ];
        assert!(read(Server::Redis6_2, &commands).is_exact());
    }

    #[test]
    fn a_spoiled_transaction_is_reported_with_all_its_keys() {
        let commands = [
            "SELECT 2",
            "INCR before",
            "MULTI",
            "INCR money",
            "HSET h f v",
            "HPEXPIREAT h 1700000000000 FIELDS 1 f",
            "MSET x 1 y 2",
            "EXEC",
            "INCR after",
        ];
        let keys = [
            (Some(2), "h"),
            (Some(2), "money"),
            (Some(2), "x"),
            (Some(2), "y"),
        ];
        check(Server::Redis6_2, &commands, &keys, &[("HPEXPIREAT", 1)]);
        assert!(read(Server::Redis8_2, &commands).is_exact());
    }

    #[test]
    fn one_newer_option_spoils_a_transaction() {
        let commands = [
            "SELECT 0",
            "MULTI",
            "INCR a",
            "PEXPIREAT c 1700000000000 GT",
            "EXEC",
        ];
        check(
            Server::Redis6_2,
            &commands,
            &[(Some(0), "a"), (Some(0), "c")],
            &[("PEXPIREAT", 1)],
        );
        assert!(read(Server::Redis7_0, &commands).is_exact());
    }

    #[test]
    fn a_message_is_no_data_unless_it_spoils_a_transaction() {
        assert!(read(Server::Redis6_2, &["SPUBLISH channel hello"]).is_exact());
        let commands = [
            "SELECT 0",
            "MULTI",
            "INCR a",
            "SPUBLISH channel hello",
            "EXEC",
        ];
        check(
            Server::Redis6_2,
            &commands,
            &[(Some(0), "a")],
            &[("SPUBLISH", 1)],
        );
    }

    #[test]
    fn a_library_of_functions_has_no_keys_and_is_counted() {
        check(
            Server::Redis6_2,
            &["FUNCTION LOAD code"],
            &[],
            &[("FUNCTION", 1)],
        );
    }

    #[test]
    fn a_command_that_nobody_knows_has_keys_that_nobody_knows() {
        let foreign = read(Server::Redis8_2, &["JSON.SET doc $ 1"]);
        assert_eq!((foreign.count, foreign.whole), (1, false));
    }

    #[test]
    fn what_comes_again_after_a_lost_link_is_counted_once_and_in_its_database() {
        let mut reader = StreamReader::new(Server::Redis6_2);
        reader.resume_at(1);
        let first = stream(&["SELECT 1", "INCR a", "SELECT 5"]);
        let second = stream(&[
            "SPUBLISH c m",
            "HPEXPIREAT h 1 FIELDS 1 f",
            "SELECT 3",
            "SET k v IFEQ x",
        ]);
        reader.read(&first);
        reader.read(&second);
        assert_eq!(reader.foreign().count, 2);
        reader.resume_at(1 + first.len() as u64);
        reader.read(&second);
        assert_eq!(reader.foreign().count, 2);
        reader.read(&stream(&["HPEXPIREAT h2 1 FIELDS 1 f"]));
        let dbs: Vec<Option<u32>> = reader.foreign().keys.iter().map(|key| key.db).collect();
        assert_eq!(dbs, [Some(3), Some(3), Some(5)]);
        let mut next = StreamReader::new(Server::Redis6_2);
        next.remember(reader.foreign().clone());
        next.resume_at(1 + first.len() as u64);
        next.read(&second);
        assert_eq!(next.foreign().count, 3, "an earlier guard had judged these");
    }

    #[test]
    fn more_keys_than_are_named_are_said_to_be_more() {
        let mut reader = StreamReader::new(Server::Redis6_2);
        reader.resume_at(0);
        for number in 0..=KEYS_MAX {
            reader.read(&stream(&[&format!("HPEXPIREAT key:{number} 1 FIELDS 1 f")]));
        }
        let foreign = reader.foreign();
        assert_eq!(
            (foreign.keys.len(), foreign.count, foreign.whole),
            (KEYS_MAX, KEYS_MAX as u64 + 1, false)
        );
    }

    #[test]
    fn a_stream_that_cannot_be_read_ends_exactness() {
        let mut reader = StreamReader::new(Server::Redis6_2);
        reader.resume_at(0);
        reader.read(b"garbage\r\n");
        assert!(!reader.foreign().is_exact());
    }
}
