//! Reads the servers themselves and compares: is every entry of the ledger there, once, in order, on one server?
//!
//! First every key is looked for on every server; then it is read where it is. A key is fine when it is in one of its
//! allowed states; otherwise the difference is named after what the writes were: `verdict` says which kind of harm it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::book::{Book, KeyRecord};
use crate::error::LabError;
use crate::finding::{Finding, FindingKind};
use crate::model::{Entry, Expiry, Value};
use crate::shared::{counter_name, list_name};
use crate::verdict;
use crate::wire::{Address, Reply, Wire};

/// How long a server may take for one chunk of the audit.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Keys asked for at once.
const CHUNK: usize = 64;

/// How the audit judges.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// By how much a time to live may differ from the acknowledged one. 6.2 hands EXPIRE to replicas as a duration, so
    /// a target that lagged is late by its lag. Default: 1 s.
    pub expiry_tolerance: Duration,
}

impl Default for AuditOptions {
    fn default() -> AuditOptions {
        AuditOptions {
            expiry_tolerance: Duration::from_secs(1),
        }
    }
}

/// An audit under way.
pub(crate) struct Audit {
    servers: Vec<(String, Wire)>,
    tolerance_ms: u64,
    at_ms: u64,
    keys_checked: u64,
    findings: Vec<Finding>,
}

impl Audit {
    pub(crate) async fn connect(
        addresses: &[Address],
        options: &AuditOptions,
        at_ms: u64,
    ) -> Result<Audit, LabError> {
        let mut servers = Vec::new();
        for address in addresses {
            let wire = Wire::connect(address, READ_TIMEOUT)
                .await
                .map_err(LabError::io(format!("connect to {address}")))?;
            servers.push((address.to_string(), wire));
        }
        let tolerance_ms = crate::watch::millis(options.expiry_tolerance);
        Ok(Audit {
            servers,
            tolerance_ms,
            at_ms,
            keys_checked: 0,
            findings: Vec::new(),
        })
    }

    pub(crate) fn keys_checked(&self) -> u64 {
        self.keys_checked
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// The keys that one connection owns.
    pub(crate) async fn read_book(&mut self, book: &Book) -> Result<(), LabError> {
        for records in book.keys.chunks(CHUNK) {
            let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
            let places = self.places(&names).await?;
            for (record, places) in records.iter().zip(places) {
                self.keys_checked += 1;
                let entry = match places.as_slice() {
                    [] => Entry::default(),
                    [server] => self.read(*server, &record.name).await?,
                    several => {
                        let found = several
                            .iter()
                            .map(|server| self.servers[*server].0.as_str())
                            .collect::<Vec<_>>()
                            .join(" and ");
                        self.add(
                            FindingKind::Misplaced,
                            book,
                            record,
                            "one server".to_owned(),
                            found,
                            None,
                        );
                        continue;
                    }
                };
                self.judge(book, record, &entry, places.first().copied());
            }
        }
        Ok(())
    }

    /// The counters and lists that all connections share.
    pub(crate) async fn read_shared(
        &mut self,
        books: &[Book],
        prefix: &str,
    ) -> Result<(), LabError> {
        let counters: BTreeSet<usize> = books
            .iter()
            .flat_map(|book| book.shared.counters.keys().copied())
            .collect();
        for counter in counters {
            let shares: Vec<_> = books
                .iter()
                .filter_map(|book| book.shared.counters.get(&counter))
                .collect();
            let least: i64 = shares.iter().map(|share| share.acknowledged).sum();
            let most: i64 = least + shares.iter().map(|share| share.unknown).sum::<i64>();
            let name = counter_name(prefix, counter);
            let Some((value, server)) = self.read_anywhere(&name).await? else {
                continue;
            };
            let found = match &value {
                Value::Absent => Some(0),
                Value::Text(text) => String::from_utf8_lossy(text).parse::<i64>().ok(),
                _ => None,
            };
            let kind = match found {
                Some(found) if found > most => FindingKind::Doubled,
                Some(found) if found >= least => continue,
                _ => FindingKind::Lost,
            };
            let last = shares
                .iter()
                .map(|share| share.last_acknowledged)
                .max()
                .unwrap_or(0);
            let expected = if least == most {
                least.to_string()
            } else {
                format!("{least} to {most}")
            };
            self.add_shared(
                kind,
                None,
                last,
                &name,
                (expected, value.to_string()),
                server,
            );
        }
        let lists: BTreeSet<usize> = books
            .iter()
            .flat_map(|book| book.shared.lists.keys().copied())
            .collect();
        for list in lists {
            let name = list_name(prefix, list);
            let Some((value, server)) = self.read_anywhere(&name).await? else {
                continue;
            };
            let elements = if let Value::List(elements) = value {
                elements
            } else {
                Vec::new()
            };
            self.judge_shared_list(books, list, &name, &elements, server.as_ref());
        }
        Ok(())
    }

    fn judge_shared_list(
        &mut self,
        books: &[Book],
        list: usize,
        name: &str,
        elements: &[Vec<u8>],
        server: Option<&String>,
    ) {
        let mut tokens: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for element in elements {
            let text = String::from_utf8_lossy(element);
            if let Some((connection, token)) = text.split_once('.')
                && let (Ok(connection), Ok(token)) = (connection.parse(), token.parse())
            {
                tokens.entry(connection).or_default().push(token);
            }
        }
        for book in books {
            let Some(share) = book.shared.lists.get(&list) else {
                continue;
            };
            let found = tokens.remove(&book.connection).unwrap_or_default();
            if let Some((kind, expected, found)) =
                verdict::tokens(share.pushed, &share.unknown, &found)
            {
                let pair = (expected, found);
                self.add_shared(
                    kind,
                    Some(book.connection),
                    share.last_acknowledged,
                    name,
                    pair,
                    server.cloned(),
                );
            }
        }
        for (connection, strange) in tokens {
            let pair = (
                "no tokens of a connection that pushed none".to_owned(),
                format!("{} of them", strange.len()),
            );
            self.add_shared(
                FindingKind::Doubled,
                Some(connection),
                0,
                name,
                pair,
                server.cloned(),
            );
        }
    }

    fn judge(&mut self, book: &Book, record: &KeyRecord, entry: &Entry, server: Option<usize>) {
        let server = server.map(|server| self.servers[server].0.clone());
        let same_value: Vec<&Entry> = record
            .states
            .iter()
            .filter(|state| state.value == entry.value)
            .collect();
        if same_value.is_empty() {
            let due = record.states.last().cloned().unwrap_or_default();
            let (kind, expected, found) = verdict::difference(&due.value, &entry.value);
            self.add(kind, book, record, expected, found, server);
        } else if !same_value
            .iter()
            .any(|state| verdict::same_expiry(state.expiry, entry.expiry, self.tolerance_ms))
        {
            let expected = verdict::expiry_text(same_value[0].expiry);
            self.add(
                FindingKind::WrongExpiry,
                book,
                record,
                expected,
                verdict::expiry_text(entry.expiry),
                server,
            );
        }
    }

    /// On which servers each key is.
    async fn places(&mut self, names: &[&str]) -> Result<Vec<Vec<usize>>, LabError> {
        let commands: Vec<Vec<&str>> = names.iter().map(|name| vec!["EXISTS", *name]).collect();
        let mut places = vec![Vec::new(); names.len()];
        for server in 0..self.servers.len() {
            for (key, reply) in self.ask(server, &commands).await?.into_iter().enumerate() {
                match reply {
                    Reply::Integer(0) => {}
                    Reply::Integer(_) => places[key].push(server),
                    other => return Err(self.refused(server, &other)),
                }
            }
        }
        Ok(places)
    }

    /// A shared key's value and server; `None` when it is on several, which is reported here.
    async fn read_anywhere(
        &mut self,
        name: &str,
    ) -> Result<Option<(Value, Option<String>)>, LabError> {
        self.keys_checked += 1;
        let places = self.places(&[name]).await?.pop().unwrap_or_default();
        match places.as_slice() {
            [] => Ok(Some((Value::Absent, None))),
            [server] => {
                let entry = self.read(*server, name).await?;
                Ok(Some((entry.value, Some(self.servers[*server].0.clone()))))
            }
            several => {
                let found = format!("{} servers", several.len());
                self.add_shared(
                    FindingKind::Misplaced,
                    None,
                    0,
                    name,
                    ("one server".to_owned(), found),
                    None,
                );
                Ok(None)
            }
        }
    }

    async fn read(&mut self, server: usize, name: &str) -> Result<Entry, LabError> {
        let kind = self.ask(server, &[vec!["TYPE", name]]).await?.pop();
        let kind = kind.and_then(Reply::into_bytes).unwrap_or_default();
        let read = match kind.as_slice() {
            b"string" => vec!["GET", name],
            b"list" => vec!["LRANGE", name, "0", "-1"],
            b"hash" => vec!["HGETALL", name],
            b"set" => vec!["SMEMBERS", name],
            b"zset" => vec!["ZRANGE", name, "0", "-1", "WITHSCORES"],
            _ => return Ok(Entry::default()),
        };
        let mut replies = self
            .ask(server, &[read, vec!["TIME"], vec!["PTTL", name]])
            .await?
            .into_iter();
        let (value, time, ttl) = (replies.next(), replies.next(), replies.next());
        let value = value.unwrap_or(Reply::Null);
        if let Reply::Error(_) = value {
            return Err(self.refused(server, &value));
        }
        let now_ms = time.and_then(server_ms).unwrap_or(0);
        let expiry = match ttl.as_ref().and_then(Reply::as_integer).map(u64::try_from) {
            Some(Ok(ttl)) => Expiry::Between(now_ms + ttl, now_ms + ttl),
            _ => Expiry::Never,
        };
        Ok(Entry {
            value: value_of(&kind, value),
            expiry,
        })
    }

    async fn ask(&mut self, server: usize, commands: &[Vec<&str>]) -> Result<Vec<Reply>, LabError> {
        let (name, wire) = &mut self.servers[server];
        let answer = wire.exchange(commands, READ_TIMEOUT).await;
        answer.map_err(LabError::io(format!("read {name}")))
    }

    fn refused(&self, server: usize, reply: &Reply) -> LabError {
        LabError::Answer {
            doing: format!("read {}", self.servers[server].0),
            answer: reply.to_string(),
        }
    }

    fn add(
        &mut self,
        kind: FindingKind,
        book: &Book,
        record: &KeyRecord,
        expected: String,
        found: String,
        server: Option<String>,
    ) {
        self.findings.push(Finding {
            kind,
            connection: Some(book.connection),
            sequence: record.last_acknowledged,
            key: record.name.clone(),
            expected,
            found,
            server,
            at_ms: self.at_ms,
        });
    }

    fn add_shared(
        &mut self,
        kind: FindingKind,
        connection: Option<usize>,
        sequence: u64,
        name: &str,
        (expected, found): (String, String),
        server: Option<String>,
    ) {
        let key = name.to_owned();
        self.findings.push(Finding {
            kind,
            connection,
            sequence,
            key,
            expected,
            found,
            server,
            at_ms: self.at_ms,
        });
    }
}

fn value_of(kind: &[u8], reply: Reply) -> Value {
    if kind == b"string" {
        return reply.into_bytes().map_or(Value::Absent, Value::Text);
    }
    let elements: Vec<Vec<u8>> = reply
        .into_elements()
        .unwrap_or_default()
        .into_iter()
        .filter_map(Reply::into_bytes)
        .collect();
    match kind {
        b"list" => Value::List(elements),
        b"set" => Value::Set(elements.into_iter().collect()),
        b"hash" => Value::Hash(
            pairs(&elements)
                .map(|(field, value)| (field.clone(), value.clone()))
                .collect(),
        ),
        _ => Value::Sorted(
            pairs(&elements)
                .map(|(member, score)| {
                    (
                        member.clone(),
                        String::from_utf8_lossy(score).parse().unwrap_or(i64::MIN),
                    )
                })
                .collect(),
        ),
    }
}

fn pairs(flat: &[Vec<u8>]) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
    flat.chunks_exact(2).map(|pair| (&pair[0], &pair[1]))
}

fn server_ms(reply: Reply) -> Option<u64> {
    let mut parts = reply.into_elements()?.into_iter();
    let mut part = || {
        String::from_utf8(parts.next()?.into_bytes()?)
            .ok()?
            .parse::<u64>()
            .ok()
    };
    let (seconds, micros) = (part()?, part()?);
    Some(seconds * 1_000 + micros / 1_000)
}
