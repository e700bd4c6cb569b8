//! Chooses what a connection sends next: a mixed load of every kind of write, with reads of what was just written.
//! Pure, from a seed.

use crate::book::{Book, Kind};
use crate::command::{Command, Planned, Shape};
use crate::model::{Op, Value};
use crate::random::Random;

/// Lists longer than this are deleted and begun anew.
const LIST_MAX: usize = 100;
/// Texts that grow longer than this are deleted and begun anew, in bytes.
const LOG_BYTES_MAX: usize = 2_048;
/// Different fields of a hash, members of a set and of a sorted set.
const FIELDS: usize = 16;
/// Most keys of one MSET, MGET, DEL, UNLINK or EXISTS.
const JOINED_MAX: usize = 6;
/// The shortest time to live that is given: no key may end during a run.
const EXPIRE_FROM_S: usize = 3_600;

/// What a load may contain beside plain commands on one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) transactions: bool,
    pub(crate) scripts: bool,
    pub(crate) joined: bool,
    pub(crate) removals: bool,
    pub(crate) shared: usize,
    pub(crate) value_bytes_max: usize,
}

/// One connection's source of commands.
#[derive(Debug)]
pub(crate) struct Planner {
    random: Random,
    mix: Mix,
    connection: usize,
    values: u64,
}

impl Planner {
    pub(crate) fn new(seed: u64, connection: usize, mix: Mix) -> Planner {
        let own =
            Random::new(seed ^ (connection as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93)).next();
        Planner {
            random: Random::new(own),
            mix,
            connection,
            values: 0,
        }
    }

    /// How many commands to send before the next reply is awaited: one, half of the time.
    pub(crate) fn pipeline(&mut self, max: usize) -> usize {
        if max <= 1 || self.random.once_in(2) {
            1
        } else {
            1 + self.random.below(max)
        }
    }

    /// Where to cut a batch in two, now and then.
    pub(crate) fn cut(&mut self, length: usize) -> Option<usize> {
        self.random.once_in(16).then(|| self.random.below(length))
    }

    /// The next command.
    pub(crate) fn next(&mut self, book: &mut Book, now_ms: u64) -> Command {
        match self.random.below(100) {
            0..=2 if self.mix.shared > 0 => Command::SharedAdd {
                counter: self.random.below(self.mix.shared),
            },
            3..=5 if self.mix.shared > 0 => {
                let (list, token) = book.shared.take_token();
                Command::SharedPush { list, token }
            }
            6..=10 if self.mix.transactions => Command::Own(self.transaction(book, now_ms)),
            11..=14 if self.mix.scripts => Command::Own(self.script(book)),
            15..=22 if self.mix.joined => Command::Own(self.joined(book)),
            _ => {
                let group = self.random.below(book.groups());
                Command::Own(Planned {
                    shape: Shape::Single,
                    parts: vec![self.any(book, group, now_ms)],
                })
            }
        }
    }

    fn any(&mut self, book: &Book, group: usize, now_ms: u64) -> (usize, Op) {
        let kind = [
            Kind::Text,
            Kind::Text,
            Kind::Number,
            Kind::Log,
            Kind::List,
            Kind::Hash,
            Kind::Set,
            Kind::Sorted,
        ][self.random.below(8)];
        let key = book.key(group, kind);
        let value = &book.expected(key).value;
        let too_long = match value {
            Value::List(list) => list.len() > LIST_MAX,
            Value::Text(text) => kind == Kind::Log && text.len() > LOG_BYTES_MAX,
            _ => false,
        };
        let op = match self.random.below(40) {
            _ if too_long && !self.mix.removals => match kind {
                Kind::List => Op::Length,
                _ => Op::Strlen,
            },
            _ if too_long => Op::Delete,
            0 if self.mix.removals => Op::Delete,
            1 if self.mix.removals => Op::Unlink,
            2 => Op::Exists,
            3 => Op::ExpireIn {
                seconds: (EXPIRE_FROM_S + self.random.below(EXPIRE_FROM_S)) as u64,
            },
            4 => Op::ExpireAt {
                unix_ms: now_ms + 1_000 * (EXPIRE_FROM_S + self.random.below(EXPIRE_FROM_S)) as u64,
            },
            5 => Op::Persist,
            _ => self.of_kind(kind),
        };
        (key, op)
    }

    fn of_kind(&mut self, kind: Kind) -> Op {
        let choice = self.random.below(3);
        match kind {
            Kind::Text if choice == 0 => Op::Get,
            Kind::Text => Op::Set(self.value()),
            Kind::Number if choice == 0 => Op::Get,
            Kind::Number if choice == 1 => Op::Add(1),
            Kind::Number => Op::Add(1 + self.random.below(1_000) as i64),
            Kind::Log if choice == 0 => Op::Strlen,
            Kind::Log => Op::Append([self.token(), b";".to_vec()].concat()),
            Kind::List if choice == 0 && self.mix.removals && self.random.once_in(2) => Op::Pop,
            Kind::List if choice == 0 => Op::Length,
            Kind::List if choice == 1 => Op::Push(vec![self.token(), self.token()]),
            Kind::List => Op::Push(vec![self.token()]),
            Kind::Hash if choice == 0 => Op::FieldGet(self.field("f")),
            Kind::Hash if choice == 1 => Op::FieldAdd(self.field("n"), 1),
            Kind::Hash => Op::FieldSet(self.field("f"), self.value()),
            Kind::Set if choice == 0 => Op::IsMember(self.field("m")),
            Kind::Set if choice == 1 && self.mix.removals => Op::MemberRemove(self.field("m")),
            Kind::Set => Op::MemberAdd(self.field("m")),
            Kind::Sorted if choice == 0 => Op::Rank(self.field("m")),
            Kind::Sorted => Op::Score(self.field("m"), self.random.below(100) as i64),
        }
    }

    /// Several operations at once, on one key where a group's keys may lie on several shards.
    fn transaction(&mut self, book: &Book, now_ms: u64) -> Planned {
        let group = self.random.below(book.groups());
        let count = 2 + self.random.below(3);
        let mut parts: Vec<(usize, Op)> =
            (0..count).map(|_| self.any(book, group, now_ms)).collect();
        if !book.has_hash_tags() {
            let number = book.key(group, Kind::Number);
            parts = vec![
                (number, Op::Add(1)),
                (number, Op::Get),
                (number, Op::Add(3)),
            ];
        }
        Planned {
            shape: Shape::Transaction,
            parts,
        }
    }

    fn script(&mut self, book: &Book) -> Planned {
        let group = self.random.below(book.groups());
        let mut parts = vec![(
            book.key(group, Kind::Number),
            Op::Add(1 + self.random.below(9) as i64),
        )];
        if book.has_hash_tags() {
            parts.push((book.key(group, Kind::List), Op::Push(vec![self.token()])));
            parts.push((book.key(group, Kind::Text), Op::Set(self.value())));
        }
        Planned {
            shape: Shape::Script,
            parts,
        }
    }

    /// One command over keys of several groups, each key once.
    fn joined(&mut self, book: &Book) -> Planned {
        let first = self.random.below(book.groups());
        let count = (1 + self.random.below(JOINED_MAX)).min(book.groups());
        let groups: Vec<usize> = (0..count)
            .map(|step| (first + step) % book.groups())
            .collect();
        let shape = [Shape::Mset, Shape::Mget, Shape::Sum][self.random.below(3)];
        let sum = match self.random.below(4) {
            0 if self.mix.removals => Op::Delete,
            1 if self.mix.removals => Op::Unlink,
            _ => Op::Exists,
        };
        let parts = groups.into_iter().map(|group| {
            let op = match shape {
                Shape::Mset => Op::Set(self.value()),
                Shape::Mget => Op::Get,
                _ => sum.clone(),
            };
            (book.key(group, Kind::Text), op)
        });
        Planned {
            shape,
            parts: parts.collect(),
        }
    }

    /// Unlike any other value of the run.
    fn token(&mut self) -> Vec<u8> {
        self.values += 1;
        format!("{}.{}", self.connection, self.values).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let mut value = self.token();
        value.push(b' ');
        // Mostly short, sometimes as long as it may be; with line ends inside, which are data.
        let length = if self.random.once_in(8) {
            self.random.below(self.mix.value_bytes_max)
        } else {
            16
        };
        while value.len() < length {
            value.extend_from_slice(b"understudy\r\n");
        }
        value.truncate(self.mix.value_bytes_max.max(24));
        value
    }

    fn field(&mut self, letter: &str) -> Vec<u8> {
        format!("{letter}{}", self.random.below(FIELDS)).into_bytes()
    }
}
