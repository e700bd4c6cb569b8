//! A model server: one shard at one epoch, a map, and the few commands that the clients send.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use understudy_resp::Protocol;
use understudy_resp::encode;
use understudy_resp::scan::{RequestScanner, Scan, ScanLimits};

use crate::worker::Tick;
use crate::worker::sha1::sha1_hex;

pub(super) type Key = (u32, String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
    Number(i64),
}

/// What a server refuses for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    ReadOnly,
    Loading,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) data: BTreeMap<Key, Value>,
    pub(super) scripts: BTreeSet<Vec<u8>>,
    pub(super) mode: Mode,
    pub(super) down: bool,
    /// How often each write's token was executed, over all epochs of the shard.
    pub(super) executed: BTreeMap<String, u32>,
    /// Tokens that were popped.
    pub(super) popped: BTreeSet<String>,
    /// How often each key was written.
    versions: BTreeMap<Key, u64>,
    /// Blocked connections, first come first.
    pub(super) waiters: Vec<Waiter>,
    /// Replies to connections that were blocked.
    pub(super) served: Vec<(u64, Vec<u8>)>,
    extras: u64,
}

/// A connection that waits for an element.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) connection: u64,
    pub(super) key: Key,
    protocol: Protocol,
    until: Option<Tick>,
}

/// The server's side of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) db: u32,
    pub(super) protocol: Protocol,
    pub(super) id: u64,
    /// Waits for an element; what it sends is not read before.
    pub(super) blocked: bool,
    watched: Vec<(Key, u64)>,
    input: Vec<u8>,
    multi: Option<(Vec<Vec<String>>, bool)>,
}

impl Connection {
    pub(super) fn new(id: u64, db: u32, protocol: Protocol) -> Connection {
        Connection {
            db,
            protocol,
            id,
            blocked: false,
            watched: Vec::new(),
            input: Vec::new(),
            multi: None,
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next command that is whole by now.
    pub(super) fn next(&mut self) -> Option<Vec<String>> {
        {
            let mut scanner = RequestScanner::new();
            let Scan::Complete { len } = scanner
                .scan(&self.input, &ScanLimits::default())
                .expect("the worker sends RESP")
            else {
                return None;
            };
            assert!(
                !scanner.is_inline() && !scanner.args().is_empty(),
                "the worker sends whole multibulk commands"
            );
            let text = |at| String::from_utf8(scanner.arg(&self.input, at).to_vec()).unwrap();
            let found = (0..scanner.args().len()).map(text).collect();
            self.input.drain(..len);
            Some(found)
        }
    }
}

impl Server {
    pub(super) fn new() -> Server {
        Server {
            data: BTreeMap::new(),
            scripts: BTreeSet::new(),
            mode: Mode::Normal,
            down: false,
            executed: BTreeMap::new(),
            popped: BTreeSet::new(),
            versions: BTreeMap::new(),
            waiters: Vec::new(),
            served: Vec::new(),
            extras: 0,
        }
    }

    /// Executes, queues or refuses one command. The flag says that data was read or written.
    pub(super) fn command(
        &mut self,
        connection: &mut Connection,
        args: &[String],
        now: Tick,
    ) -> (Vec<u8>, bool) {
        let name = args[0].to_ascii_uppercase();
        let mut out = Vec::new();
        match (name.as_str(), &mut connection.multi) {
            ("MULTI", multi) => {
                *multi = Some((Vec::new(), false));
                encode::ok(&mut out);
                (out, false)
            }
            ("EXEC", multi) => {
                let (commands, broken) = multi.take().expect("EXEC comes with its MULTI");
                let watched = std::mem::take(&mut connection.watched);
                if broken {
                    encode::error(
                        &mut out,
                        "EXECABORT Transaction discarded because of previous errors.",
                    );
                    return (out, false);
                }
                if let Some(text) = commands.iter().find_map(|args| self.refusal(args)) {
                    encode::error(
                        &mut out,
                        &format!("EXECABORT Transaction discarded because of: {text}"),
                    );
                    return (out, false);
                }
                let changed = |(key, version): &(Key, u64)| self.version(key) != *version;
                if watched.iter().any(changed) {
                    encode::null_array(&mut out, connection.protocol);
                    return (out, false);
                }
                encode::array_header(&mut out, commands.len());
                for args in commands {
                    self.execute(connection, &args, &mut out);
                }
                (out, true)
            }
            (_, Some(_)) => {
                let refusal = self.refusal(args);
                let Some((commands, broken)) = &mut connection.multi else {
                    unreachable!("matched above")
                };
                match refusal {
                    Some(text) => {
                        *broken = true;
                        encode::error(&mut out, text);
                    }
                    None => {
                        commands.push(args.to_vec());
                        encode::simple(&mut out, "QUEUED");
                    }
                }
                (out, false)
            }
            ("WATCH", None) => {
                let key = (connection.db, args[1].clone());
                let version = self.version(&key);
                connection.watched.push((key, version));
                encode::ok(&mut out);
                (out, true)
            }
            ("UNWATCH", None) => {
                connection.watched.clear();
                encode::ok(&mut out);
                (out, false)
            }
            ("BLPOP", None) if self.refusal(args).is_none() => {
                let key = (connection.db, args[1].clone());
                let seconds: f64 = args[2].parse().unwrap();
                let wait = Duration::from_secs_f64(seconds);
                connection.blocked = true;
                self.waiters.push(Waiter {
                    connection: connection.id,
                    key: key.clone(),
                    protocol: connection.protocol,
                    until: (seconds > 0.0).then(|| now.after(wait)),
                });
                self.serve_waiters(&key);
                (out, true)
            }
            (_, None) => match self.refusal(args) {
                Some(text) => {
                    encode::error(&mut out, text);
                    (out, false)
                }
                None => {
                    self.execute(connection, args, &mut out);
                    let ran = !out.starts_with(b"-NOSCRIPT");
                    (out, ran)
                }
            },
        }
    }

    fn refusal(&self, args: &[String]) -> Option<&'static str> {
        let read = matches!(
            args[0].to_ascii_uppercase().as_str(),
            "GET" | "MGET" | "DBSIZE" | "SCAN" | "PFCOUNT" | "CLIENT"
        );
        match self.mode {
            Mode::Normal => None,
            Mode::Loading => Some("LOADING Redis is loading the dataset in memory"),
            Mode::ReadOnly if read => None,
            Mode::ReadOnly => Some("READONLY You can't write against a read only replica."),
        }
    }

    fn execute(&mut self, connection: &Connection, args: &[String], out: &mut Vec<u8>) {
        let key = |at: usize| (connection.db, args[at].clone());
        match args[0].to_ascii_uppercase().as_str() {
            "SET" => {
                self.ran(&args[2]);
                *self.versions.entry(key(1)).or_default() += 1;
                self.data.insert(key(1), Value::Text(args[2].clone()));
                encode::ok(out);
            }
            "MSET" => {
                for at in (1..args.len()).step_by(2) {
                    self.ran(&args[at + 1]);
                    self.data.insert(key(at), Value::Text(args[at + 1].clone()));
                }
                encode::ok(out);
            }
            "GET" => self.get(connection, &key(1), out),
            "MGET" => {
                encode::array_header(out, args.len() - 1);
                (1..args.len()).for_each(|at| self.get(connection, &key(at), out));
            }
            "DEL" => {
                let gone = (1..args.len())
                    .filter(|at| self.data.remove(&key(*at)).is_some())
                    .count();
                encode::integer(out, gone as i64);
            }
            "INCR" => {
                let Value::Number(number) = self.data.entry(key(1)).or_insert(Value::Number(0))
                else {
                    panic!("keys have one type")
                };
                *number += 1;
                encode::integer(out, *number);
            }
            "PFCOUNT" => encode::integer(out, 0),
            "CLIENT" => {
                let id: u64 = args[2].parse().unwrap();
                let at = self.waiters.iter().position(|it| it.connection == id);
                encode::integer(out, i64::from(at.is_some()));
                if let Some(at) = at {
                    let waiter = self.waiters.remove(at);
                    self.end(&waiter);
                }
            }
            "RPUSH" => self.push(&key(1), &args[2], out),
            "EVAL" => {
                self.scripts.insert(sha1_hex(args[1].as_bytes()).to_vec());
                self.push(&key(3), &args[4], out);
            }
            "EVALSHA" if self.scripts.contains(args[1].as_bytes()) => {
                self.push(&key(3), &args[4], out);
            }
            "EVALSHA" => encode::error(out, "NOSCRIPT No matching script. Please use EVAL."),
            "DBSIZE" => encode::integer(
                out,
                self.data
                    .keys()
                    .filter(|key| key.0 == connection.db)
                    .count() as i64,
            ),
            other => panic!("no client sends {other}"),
        }
    }

    fn push(&mut self, key: &Key, token: &str, out: &mut Vec<u8>) {
        self.ran(token);
        let Value::List(list) = self
            .data
            .entry(key.clone())
            .or_insert(Value::List(Vec::new()))
        else {
            panic!("keys have one type")
        };
        list.push(token.to_owned());
        encode::integer(out, list.len() as i64);
        self.serve_waiters(key);
    }

    /// Somebody else pushes, so that whoever waits for ever goes on.
    pub(super) fn push_for_waiters(&mut self) {
        if let Some(waiter) = self.waiters.first().cloned() {
            self.extras += 1;
            let token = format!("extra{}.{}", self.extras, waiter.key.1);
            self.push(&waiter.key, &token, &mut Vec::new());
        }
    }

    fn serve_waiters(&mut self, key: &Key) {
        while let Some(at) = self.waiters.iter().position(|it| it.key == *key)
            && let Some(Value::List(list)) = self.data.get_mut(key)
        {
            let token = list.remove(0);
            if list.is_empty() {
                self.data.remove(key);
            }
            assert!(
                self.popped.insert(token.clone()),
                "{token} was popped twice"
            );
            let waiter = self.waiters.remove(at);
            let mut out = Vec::new();
            encode::array_header(&mut out, 2);
            encode::bulk(&mut out, key.1.as_bytes());
            encode::bulk(&mut out, token.as_bytes());
            self.served.push((waiter.connection, out));
        }
    }

    /// Time passes, or the server becomes a replica.
    pub(super) fn end_waiters(&mut self, now: Tick) {
        let demoted = self.mode == Mode::ReadOnly;
        for waiter in std::mem::take(&mut self.waiters) {
            if demoted {
                let mut out = Vec::new();
                encode::error(
                    &mut out,
                    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
                );
                self.served.push((waiter.connection, out));
            } else if waiter.until.is_some_and(|until| until <= now) {
                self.end(&waiter);
            } else {
                self.waiters.push(waiter);
            }
        }
    }

    fn end(&mut self, waiter: &Waiter) {
        let mut out = Vec::new();
        encode::null_array(&mut out, waiter.protocol);
        self.served.push((waiter.connection, out));
    }

    fn version(&self, key: &Key) -> u64 {
        self.versions.get(key).copied().unwrap_or_default()
    }

    fn get(&self, connection: &Connection, key: &Key, out: &mut Vec<u8>) {
        match self.data.get(key) {
            Some(Value::Text(text)) => encode::bulk(out, text.as_bytes()),
            Some(other) => panic!("keys have one type: {other:?}"),
            None => encode::null_bulk(out, connection.protocol),
        }
    }

    fn ran(&mut self, token: &str) {
        let times = self.executed.entry(token.to_owned()).or_default();
        *times += 1;
        assert_eq!(*times, 1, "{token} was executed twice");
    }
}
