//! A model client: it knows what each of its replies must be, since nobody else writes to its keys.
//!
//! Where an outcome is unknown, it keeps every value that is possible; where a command was not executed, it must not have
//! been.

use std::collections::{BTreeMap, VecDeque};

use std::time::Duration;

use understudy_resp::encode;
use understudy_resp::scan::{ReplyScanner, ScanLimits};

use super::rng::Rng;
use super::server::{Key, Server, Value};
use crate::worker::sha1::sha1_hex;
use crate::worker::{SessionId, Tick};

pub(super) const SCRIPT: &str = "return redis.call('RPUSH', KEYS[1], ARGV[1])";

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Acknowledged,
    Unknown,
    NotExecuted,
}

/// One command, as its reply will be checked.
#[derive(Clone, Debug)]
enum Sent {
    Fixed(&'static [u8]),
    Echo(String),
    AnyInteger,
    UnknownCommand,
    Hello,
    Set(Key, String),
    Get(Key),
    Mget(Vec<Key>),
    Mset(Vec<(Key, String)>),
    Del(Vec<Key>),
    Push(Key, String),
    Incr(Key),
    Exec(Key, String, Key),
    Enqueue(String),
    /// From when on nothing is an answer; `None`: never.
    Pop(Option<Tick>),
    Watch,
    WatchedGet,
    WatchedExec(String),
}

#[derive(Debug, Default)]
struct Count {
    acknowledged: i64,
    unknown: i64,
    last: i64,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: usize,
    pub(super) worker: usize,
    pub(super) session: Option<SessionId>,
    pub(super) paused: bool,
    pub(super) half_closed: bool,
    /// Bytes that wait to be sent.
    pub(super) outbox: Vec<u8>,
    inbox: Vec<u8>,
    scanner: ReplyScanner,
    expected: VecDeque<Sent>,
    db: u32,
    tokens: u64,
    /// Texts that each key may have.
    texts: BTreeMap<Key, Vec<Option<String>>>,
    counts: BTreeMap<Key, Count>,
    /// Tokens pushed to each list, in the order they were sent.
    pushes: BTreeMap<Key, Vec<String>>,
    pub(super) fates: BTreeMap<String, Fate>,
    /// Tokens pushed to queues, tokens popped from them, and pops that may have taken one.
    pub(super) enqueued: Vec<String>,
    pub(super) popped: Vec<String>,
    pub(super) lost_pops: usize,
    /// What the last read behind WATCH gave; `None`: it or WATCH failed.
    watched: Option<Option<String>>,
    pub(super) committed: u64,
    pub(super) now: Tick,
    pub(super) answered: u64,
    pub(super) errors: u64,
}

impl Client {
    pub(super) fn new(number: usize, worker: usize, session: SessionId) -> Client {
        Client {
            number,
            worker,
            session: Some(session),
            paused: false,
            half_closed: false,
            outbox: Vec::new(),
            inbox: Vec::new(),
            scanner: ReplyScanner::new(),
            expected: VecDeque::new(),
            db: 0,
            tokens: 0,
            texts: BTreeMap::new(),
            counts: BTreeMap::new(),
            pushes: BTreeMap::new(),
            fates: BTreeMap::new(),
            enqueued: Vec::new(),
            popped: Vec::new(),
            lost_pops: 0,
            watched: None,
            committed: 0,
            now: Tick(0),
            answered: 0,
            errors: 0,
        }
    }

    pub(super) fn waits(&self) -> bool {
        !self.expected.is_empty() || !self.outbox.is_empty()
    }

    pub(super) fn expects(&self) -> usize {
        self.expected.len()
    }

    /// Writes one more command, or one transaction, into the outbox.
    pub(super) fn say_something(&mut self, rng: &mut Rng) {
        let text_key = |rng: &mut Rng, client: &Client| {
            (
                client.db,
                format!("c{}:text{}", client.number, rng.below(4)),
            )
        };
        match rng.below(32) {
            28..30 => {
                let (key, token) = (text_key(rng, self), self.huge_token(rng));
                self.send(
                    &["SET", &key.1, &token],
                    Sent::Set(key.clone(), token.clone()),
                );
            }
            30 => {
                let (queue, token) = (format!("queue{}", rng.below(3)), self.huge_token(rng));
                self.enqueued.push(token.clone());
                self.send(&["RPUSH", &queue, &token], Sent::Enqueue(token.clone()));
            }
            0..5 => {
                let (key, token) = (text_key(rng, self), self.token());
                self.send(
                    &["SET", &key.1, &token],
                    Sent::Set(key.clone(), token.clone()),
                );
            }
            5..10 => {
                let key = text_key(rng, self);
                self.send(&["GET", &key.1], Sent::Get(key.clone()));
            }
            10..12 => self.push(rng, "RPUSH"),
            12 => self.push(rng, "EVALSHA"),
            13 => self.push(rng, "EVAL"),
            14 => {
                let key = (self.db, format!("c{}:count{}", self.number, rng.below(2)));
                self.send(&["incr", &key.1], Sent::Incr(key.clone()));
            }
            15 => {
                let keys: Vec<Key> = (0..1 + rng.below(4)).map(|_| text_key(rng, self)).collect();
                let mut words = vec!["MGET"];
                words.extend(keys.iter().map(|key| key.1.as_str()));
                self.send(&words, Sent::Mget(keys.clone()));
            }
            16 => {
                let mut pairs: Vec<(Key, String)> = Vec::new();
                for _ in 0..1 + rng.below(3) {
                    let key = text_key(rng, self);
                    if pairs.iter().all(|pair| pair.0 != key) {
                        pairs.push((key, self.token()));
                    }
                }
                let mut words = vec!["MSET"];
                words.extend(
                    pairs
                        .iter()
                        .flat_map(|(key, token)| [key.1.as_str(), token.as_str()]),
                );
                self.send(&words, Sent::Mset(pairs.clone()));
            }
            17 => {
                let keys: Vec<Key> = (0..1 + rng.below(2)).map(|_| text_key(rng, self)).collect();
                let mut words = vec!["DEL"];
                words.extend(keys.iter().map(|key| key.1.as_str()));
                self.send(&words, Sent::Del(keys.clone()));
            }
            18 => {
                let list = (self.db, format!("{{c{}t}}:list", self.number));
                let count = (self.db, format!("{{c{}t}}:count", self.number));
                let token = if rng.chance(20) {
                    self.huge_token(rng)
                } else {
                    self.token()
                };
                self.send(&["MULTI"], Sent::Fixed(b"+OK\r\n"));
                self.send(&["RPUSH", &list.1, &token], Sent::Fixed(b"+QUEUED\r\n"));
                self.send(&["INCR", &count.1], Sent::Fixed(b"+QUEUED\r\n"));
                self.pushes
                    .entry(list.clone())
                    .or_default()
                    .push(token.clone());
                self.send(
                    &["EXEC"],
                    Sent::Exec(list.clone(), token.clone(), count.clone()),
                );
            }
            19 => {
                self.outbox.extend_from_slice(b"PING\r\n\r\n");
                self.expected.push_back(Sent::Fixed(b"+PONG\r\n"));
            }
            20 => {
                let token = self.token();
                self.send(&["ECHO", &token], Sent::Echo(token.clone()));
            }
            21 => {
                self.db = rng.below(2) as u32;
                self.send(&["SELECT", &self.db.to_string()], Sent::Fixed(b"+OK\r\n"));
            }
            22 if rng.chance(30) => self.send(&["HELLO", "3"], Sent::Hello),
            22 => self.send(&["DBSIZE"], Sent::AnyInteger),
            23..25 => {
                let (queue, token) = (format!("queue{}", rng.below(3)), self.token());
                self.enqueued.push(token.clone());
                self.send(&["RPUSH", &queue, &token], Sent::Enqueue(token.clone()));
            }
            25 => {
                let (queue, ms) = (format!("queue{}", rng.below(3)), rng.below(90) as u64);
                let timeout = if ms < 10 { 0 } else { ms };
                let ends = (timeout > 0).then(|| self.now.after(Duration::from_millis(timeout)));
                let seconds = format!("{}.{:03}", timeout / 1_000, timeout % 1_000);
                self.send(&["BLPOP", &queue, &seconds], Sent::Pop(ends));
            }
            26 => {
                let (key, token) = (format!("watched{}", rng.below(3)), self.token());
                self.send(&["WATCH", &key], Sent::Watch);
                self.send(&["GET", &key], Sent::WatchedGet);
                if rng.chance(15) {
                    return self.send(&["UNWATCH"], Sent::Fixed(b"+OK\r\n"));
                }
                self.send(&["MULTI"], Sent::Fixed(b"+OK\r\n"));
                if rng.chance(15) {
                    return self.send(&["DISCARD"], Sent::Fixed(b"+OK\r\n"));
                }
                self.send(&["GET", &key], Sent::Fixed(b"+QUEUED\r\n"));
                self.send(&["SET", &key, &token], Sent::Fixed(b"+QUEUED\r\n"));
                self.send(&["EXEC"], Sent::WatchedExec(token.clone()));
            }
            _ => self.send(&["NONSENSE", "x"], Sent::UnknownCommand),
        }
    }

    fn push(&mut self, rng: &mut Rng, how: &str) {
        let key = (
            self.db,
            if rng.chance(30) {
                "shared".to_owned()
            } else {
                format!("c{}:list{}", self.number, rng.below(3))
            },
        );
        let token = if rng.chance(10) {
            self.huge_token(rng)
        } else {
            self.token()
        };
        self.pushes
            .entry(key.clone())
            .or_default()
            .push(token.clone());
        let sent = Sent::Push(key.clone(), token.clone());
        let digest = String::from_utf8(sha1_hex(SCRIPT.as_bytes()).to_vec()).unwrap();
        let words = match how {
            "EVALSHA" => vec!["EVALSHA", &digest, "1", &key.1, &token],
            "EVAL" => vec!["EVAL", SCRIPT, "1", &key.1, &token],
            _ => vec!["RPUSH", &key.1, &token],
        };
        self.send(&words, sent);
    }

    fn token(&mut self) -> String {
        self.tokens += 1;
        format!("t{}.{}", self.number, self.tokens)
    }

    /// A token of some thousand bytes, no two pieces of which are alike.
    fn huge_token(&mut self, rng: &mut Rng) -> String {
        let mut token = self.token();
        for number in 0..40 + rng.below(700) {
            token.push_str(&format!(".{number}"));
        }
        token
    }

    fn send(&mut self, words: &[&str], sent: Sent) {
        encode::command(&mut self.outbox, words);
        self.expected.push_back(sent);
    }

    /// Takes bytes of replies and checks each whole one.
    pub(super) fn receive(&mut self, bytes: &[u8], errors_allowed: bool) {
        self.inbox.extend_from_slice(bytes);
        while let Some(frame) = self
            .scanner
            .scan(&self.inbox, &ScanLimits::default())
            .expect("replies are RESP")
        {
            let reply: Vec<u8> = self.inbox.drain(..frame.len).collect();
            let sent = self
                .expected
                .pop_front()
                .expect("a reply comes for a command");
            self.answered += 1;
            self.check(sent, &reply, errors_allowed);
            if self.inbox.is_empty() {
                break;
            }
        }
    }

    /// It will get no more replies; this is what became of the rest.
    pub(super) fn ended(&mut self, fate: Fate) {
        self.session = None;
        self.outbox.clear();
        for sent in std::mem::take(&mut self.expected) {
            self.settle(sent, fate);
        }
    }

    fn check(&mut self, sent: Sent, reply: &[u8], errors_allowed: bool) {
        let shown = String::from_utf8_lossy(reply).into_owned();
        let fate = match &sent {
            Sent::UnknownCommand => {
                assert!(
                    shown.starts_with("-ERR unknown command 'NONSENSE'"),
                    "{shown}"
                );
                return;
            }
            _ if !shown.starts_with('-') => Fate::Acknowledged,
            _ if shown.starts_with("-ERR outcome unknown") => Fate::Unknown,
            _ => {
                let known = [
                    "-ERR not executed",
                    "-READONLY",
                    "-LOADING",
                    "-NOSCRIPT",
                    "-EXECABORT",
                    "-UNBLOCKED",
                ];
                assert!(
                    known.iter().any(|start| shown.starts_with(start)),
                    "{sent:?}: {shown}"
                );
                Fate::NotExecuted
            }
        };
        // A script that no client has shown to the proxy yet is not known to it either.
        let cold_script = shown.starts_with("-NOSCRIPT");
        assert!(
            fate == Fate::Acknowledged || errors_allowed || cold_script,
            "{sent:?} answered {shown}"
        );
        self.errors += u64::from(fate != Fate::Acknowledged && !cold_script);
        if fate == Fate::Acknowledged {
            self.check_answer(&sent, reply);
        }
        match &sent {
            Sent::WatchedGet if fate == Fate::Acknowledged && self.watched.is_some() => {
                self.watched = Some(text(reply));
            }
            Sent::Watch if fate == Fate::Acknowledged => self.watched = Some(None),
            Sent::Watch | Sent::WatchedGet => self.watched = None,
            _ => {}
        }
        let null = matches!(reply, b"*-1\r\n" | b"_\r\n");
        if matches!(sent, Sent::WatchedExec(_)) && null {
            return self.settle(sent, Fate::NotExecuted);
        }
        self.settle(sent, fate);
    }

    fn check_answer(&mut self, sent: &Sent, reply: &[u8]) {
        let shown = String::from_utf8_lossy(reply).into_owned();
        match sent {
            Sent::Fixed(expect) => assert_eq!(shown, String::from_utf8_lossy(expect)),
            Sent::Echo(token) => assert_eq!(shown, format!("${}\r\n{token}\r\n", token.len())),
            Sent::AnyInteger => assert!(shown.starts_with(':'), "{shown}"),
            Sent::Hello => assert!(
                shown.starts_with('%') || shown.starts_with("*14"),
                "{shown}"
            ),
            Sent::Set(..) | Sent::Mset(_) => assert_eq!(shown, "+OK\r\n"),
            Sent::Get(key) => self.check_text(key, &text(reply)),
            Sent::Mget(keys) => {
                let rest = reply
                    .strip_prefix(format!("*{}\r\n", keys.len()).as_bytes())
                    .expect("as many as were asked for");
                let (mut scanner, mut at) = (ReplyScanner::new(), 0);
                for key in keys {
                    let frame = scanner
                        .scan(&rest[at..], &ScanLimits::default())
                        .unwrap()
                        .unwrap();
                    self.check_text(key, &text(&rest[at..at + frame.len]));
                    at += frame.len;
                }
            }
            Sent::Del(_) => assert!(integer(reply) <= 2),
            Sent::Push(key, _) if key.1 == "shared" => assert!(integer(reply) >= 1),
            Sent::Push(key, token) => self.check_length(key, token, integer(reply)),
            Sent::Incr(key) => self.check_count(key, integer(reply)),
            Sent::Exec(list, token, count) => {
                let mut numbers = shown
                    .strip_prefix("*2\r\n:")
                    .expect("two replies")
                    .split("\r\n:")
                    .map(|it| it.trim().parse().unwrap());
                let (length, number) = (numbers.next().unwrap(), numbers.next().unwrap());
                self.check_length(list, token, length);
                self.check_count(count, number);
            }
            Sent::Enqueue(_) => assert!(integer(reply) >= 1, "{shown}"),
            Sent::Pop(ends) if matches!(reply, b"*-1\r\n" | b"_\r\n") => assert!(
                // A client that half-closed does not wait.
                self.half_closed || ends.is_some_and(|ends| ends <= self.now),
                "nothing at {:?}, before {ends:?}",
                self.now
            ),
            Sent::Pop(_) => {
                let token = shown.split("\r\n").nth(4).expect("a key and a token");
                self.popped.push(token.to_owned());
            }
            Sent::Watch => assert_eq!(shown, "+OK\r\n"),
            Sent::WatchedGet => {}
            Sent::WatchedExec(_) if matches!(reply, b"*-1\r\n" | b"_\r\n") => {}
            Sent::WatchedExec(_) => {
                let inner = reply.strip_prefix(b"*2\r\n").expect("two replies");
                let inner = inner.strip_suffix(b"+OK\r\n").expect("SET ran");
                if let Some(outer) = &self.watched {
                    assert_eq!(&text(inner), outer, "a key changed and EXEC did not see it");
                    self.committed += 1;
                }
            }
            Sent::UnknownCommand => unreachable!("checked before"),
        }
    }

    /// The value must be one that is possible, and from now on is the only one.
    fn check_text(&mut self, key: &Key, found: &Option<String>) {
        let possible = self.texts.entry(key.clone()).or_insert_with(|| vec![None]);
        assert!(
            possible.contains(found),
            "{key:?} is {found:?}, but may only be {possible:?}"
        );
        *possible = vec![found.clone()];
    }

    fn check_length(&self, key: &Key, token: &str, length: i64) {
        let (mut least, mut most) = (1, 1);
        for other in self.pushes[key].iter().take_while(|other| *other != token) {
            match self.fates.get(other) {
                Some(Fate::Acknowledged) => (least, most) = (least + 1, most + 1),
                Some(Fate::NotExecuted) => {}
                Some(Fate::Unknown) | None => most += 1,
            }
        }
        assert!(
            (least..=most).contains(&length),
            "{key:?} has {length}, not {least} to {most}"
        );
    }

    fn check_count(&mut self, key: &Key, number: i64) {
        let count = self.counts.entry(key.clone()).or_default();
        let least = (count.acknowledged + 1).max(count.last + 1);
        let most = count.acknowledged + count.unknown + 1;
        assert!(
            (least..=most).contains(&number),
            "{key:?} is {number}, not {least} to {most}"
        );
        count.last = number;
    }

    fn settle(&mut self, sent: Sent, fate: Fate) {
        match sent {
            Sent::Set(key, token) => {
                self.fates.insert(token.clone(), fate);
                self.may_be(key, Some(token), fate);
            }
            Sent::Mset(pairs) => {
                // A part may have run although another was refused.
                let fate = if fate == Fate::NotExecuted && pairs.len() > 1 {
                    Fate::Unknown
                } else {
                    fate
                };
                for (key, token) in pairs {
                    self.fates.insert(token.clone(), fate);
                    self.may_be(key, Some(token), fate);
                }
            }
            Sent::Del(keys) => {
                let fate = if fate == Fate::NotExecuted && keys.len() > 1 {
                    Fate::Unknown
                } else {
                    fate
                };
                keys.into_iter()
                    .for_each(|key| self.may_be(key, None, fate));
            }
            Sent::Push(_, token) => {
                self.fates.insert(token, fate);
            }
            Sent::Enqueue(token) | Sent::WatchedExec(token) => {
                self.fates.insert(token, fate);
            }
            Sent::Pop(_) => self.lost_pops += usize::from(fate != Fate::Acknowledged),
            Sent::Incr(key) => self.count(key, fate),
            Sent::Exec(_, token, count) => {
                self.fates.insert(token, fate);
                self.count(count, fate);
            }
            Sent::Fixed(_)
            | Sent::Echo(_)
            | Sent::AnyInteger
            | Sent::UnknownCommand
            | Sent::Hello
            | Sent::Watch
            | Sent::WatchedGet
            | Sent::Get(_)
            | Sent::Mget(_) => {}
        }
    }

    /// Front command is one that may block.
    pub(super) fn may_be_blocked(&self) -> bool {
        matches!(self.expected.front(), Some(Sent::Pop(_)))
    }

    /// At the end: queues gave each token once, and watched writes ran when and only when they were said to.
    pub(super) fn audit_tokens(clients: &[Client], servers: &[&Server]) {
        let ran = |token: &String| {
            servers
                .iter()
                .any(|server| server.executed.contains_key(token))
        };
        let there = |token: &String| {
            servers.iter().any(|server| {
                let mut lists = server
                    .data
                    .iter()
                    .filter(|(key, _)| key.1.starts_with("queue"));
                server.popped.contains(token)
                    || lists.any(
                        |(_, value)| matches!(value, Value::List(list) if list.contains(token)),
                    )
            })
        };
        for client in clients {
            for (token, fate) in &client.fates {
                match fate {
                    Fate::Acknowledged => {}
                    Fate::NotExecuted => assert!(!ran(token), "{token} ran, and was said not to"),
                    Fate::Unknown => {}
                }
            }
            for token in &client.enqueued {
                if client.fates.get(token) == Some(&Fate::Acknowledged) {
                    assert!(there(token), "{token} was acknowledged and is lost");
                }
            }
        }
        let given: Vec<&String> = clients.iter().flat_map(|client| &client.popped).collect();
        let once: std::collections::BTreeSet<&String> = given.iter().copied().collect();
        assert_eq!(given.len(), once.len(), "a token was given twice");
        let popped: usize = servers.iter().map(|server| server.popped.len()).sum();
        let lost: usize = clients.iter().map(|client| client.lost_pops).sum();
        assert!(
            popped - given.len() <= lost,
            "{popped} popped, {} given, {lost} may be lost",
            given.len()
        );
    }

    fn may_be(&mut self, key: Key, value: Option<String>, fate: Fate) {
        let possible = self.texts.entry(key).or_insert_with(|| vec![None]);
        match fate {
            Fate::Acknowledged => *possible = vec![value],
            Fate::Unknown => possible.push(value),
            Fate::NotExecuted => {}
        }
    }

    fn count(&mut self, key: Key, fate: Fate) {
        let count = self.counts.entry(key).or_default();
        match fate {
            Fate::Acknowledged => count.acknowledged += 1,
            Fate::Unknown => count.unknown += 1,
            Fate::NotExecuted => {}
        }
    }

    /// At the end: what the servers hold is what this client was told.
    pub(super) fn audit(&self, data: &BTreeMap<Key, Value>) {
        for (key, possible) in &self.texts {
            let found = match data.get(key) {
                Some(Value::Text(text)) => Some(text.clone()),
                None => None,
                Some(other) => panic!("{key:?} is {other:?}"),
            };
            assert!(
                possible.contains(&found),
                "{key:?} is {found:?}, but may only be {possible:?}"
            );
        }
        for (key, tokens) in &self.pushes {
            let Some(Value::List(list)) = data.get(key) else {
                assert!(
                    tokens
                        .iter()
                        .all(|token| self.fates[token] != Fate::Acknowledged),
                    "{key:?} is lost"
                );
                continue;
            };
            let mine: Vec<&String> = list.iter().filter(|token| tokens.contains(token)).collect();
            let mut order = tokens.iter().filter(|token| mine.contains(token));
            assert!(
                mine.iter().all(|token| order.next() == Some(token)),
                "{key:?} is out of order"
            );
            for token in tokens {
                match self.fates[token] {
                    Fate::Acknowledged => assert!(
                        mine.contains(&token),
                        "{token} was acknowledged and is lost"
                    ),
                    Fate::NotExecuted => assert!(
                        !mine.contains(&token),
                        "{token} was said not to be executed, and was"
                    ),
                    Fate::Unknown => {}
                }
            }
        }
        for (key, count) in &self.counts {
            let found = match data.get(key) {
                Some(Value::Number(number)) => *number,
                _ => 0,
            };
            assert!(
                (count.acknowledged..=count.acknowledged + count.unknown).contains(&found),
                "{key:?} is {found}: {count:?}"
            );
        }
    }
}

fn text(reply: &[u8]) -> Option<String> {
    if matches!(reply, b"$-1\r\n" | b"_\r\n") {
        return None;
    }
    let start = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    Some(String::from_utf8(reply[start..reply.len() - 2].to_vec()).unwrap())
}

fn integer(reply: &[u8]) -> i64 {
    std::str::from_utf8(&reply[1..reply.len() - 2])
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("{:?} is no integer", String::from_utf8_lossy(reply)))
}
