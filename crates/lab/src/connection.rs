//! One connection of the load: dials, sends batches, reads replies, and tells its book what they meant.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::book::Book;
use crate::command::{Command, KeyIndex, Planned};
use crate::finding::{Finding, FindingKind};
use crate::model::Window;
use crate::plan::Planner;
use crate::shared;
use crate::watch::{Watch, unix_ms};
use crate::wire::{Address, Reply, Wire, encode};

/// Between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// How long one attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How far a rate-limited connection may be behind before it forgets what it owes.
const BEHIND_MAX: Duration = Duration::from_millis(500);

/// Everything one task owns.
pub(crate) struct Connection {
    /// Where it connects: the first, and behind one that cannot be reached the next.
    pub(crate) addresses: Vec<Address>,
    pub(crate) book: Book,
    pub(crate) planner: Planner,
    pub(crate) watch: Arc<Watch>,
    pub(crate) resp3: bool,
    pub(crate) pipeline_max: usize,
    pub(crate) rate: Option<NonZeroU32>,
    pub(crate) reply_timeout: Duration,
    pub(crate) sequence: u64,
}

/// How a batch ended.
enum Ended {
    /// Every reply came.
    Whole,
    /// A reply was wrong: nothing that this stream says can be trusted any more.
    Distrusted,
    /// The stream ended or fell silent after this many commands were answered.
    Lost { answered: usize, why: io::Error },
}

impl Connection {
    /// Until told to stop.
    pub(crate) async fn run(mut self) -> Book {
        while !self.watch.stopping() {
            match self.dial().await {
                Ok(wire) => {
                    self.watch.counts.connected.fetch_add(1, Ordering::Relaxed);
                    self.serve(wire).await;
                    self.watch.counts.connected.fetch_sub(1, Ordering::Relaxed);
                }
                Err(cause) => {
                    self.watch
                        .counts
                        .connects_failed
                        .fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(connection = self.book.connection, %cause, "connect failed");
                    self.addresses.rotate_left(1);
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
            }
        }
        self.book
    }

    async fn dial(&self) -> io::Result<Wire> {
        let mut wire = Wire::connect(&self.addresses[0], CONNECT_TIMEOUT).await?;
        if self.resp3 {
            let greeting = tokio::time::timeout(CONNECT_TIMEOUT, wire.call(&["HELLO", "3"])).await;
            match greeting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
                Reply::Map(_) => {}
                other => return Err(io::Error::other(format!("HELLO 3 answered {other}"))),
            }
        }
        Ok(wire)
    }

    async fn serve(&mut self, mut wire: Wire) {
        let mut due = Instant::now();
        while !self.watch.stopping() {
            let now_ms = unix_ms();
            let count = self.planner.pipeline(self.pipeline_max);
            let batch: Vec<Command> = (0..count)
                .map(|_| self.planner.next(&mut self.book, now_ms))
                .collect();
            match self.exchange(&mut wire, &batch).await {
                Ended::Whole => {}
                Ended::Distrusted => return self.retire(&batch),
                Ended::Lost { answered, why } => return self.lost(&batch, answered, &why),
            }
            if let Some(rate) = self.rate {
                due = self.pace(due, count, rate).await;
            }
        }
    }

    /// Sends a batch and settles its replies one by one, so that a later one is judged by what earlier ones changed.
    async fn exchange(&mut self, wire: &mut Wire, batch: &[Command]) -> Ended {
        if !wire.unread().is_empty() {
            self.wrong(
                None,
                "no reply without a command".to_owned(),
                crate::wire::shorten(wire.unread()),
            );
            return Ended::Distrusted;
        }
        let mut frames = Vec::new();
        for command in batch {
            self.encode(command, &mut frames);
        }
        let sent_ms = unix_ms();
        self.watch.gap(self.book.connection).sent(Instant::now());
        if let Err(why) = self.send(wire, &frames).await {
            return Ended::Lost { answered: 0, why };
        }
        let mut trusted = true;
        for (answered, command) in batch.iter().enumerate() {
            let expected = match command {
                Command::Own(planned) => planned.replies(),
                Command::SharedAdd { .. } | Command::SharedPush { .. } => 1,
            };
            let mut replies = Vec::with_capacity(expected);
            while replies.len() < expected {
                match tokio::time::timeout(self.reply_timeout, wire.reply()).await {
                    Ok(Ok(reply)) => replies.push(reply),
                    Ok(Err(why)) => return Ended::Lost { answered, why },
                    Err(_) => {
                        let why = io::Error::new(
                            io::ErrorKind::TimedOut,
                            format!("no reply in {:?}", self.reply_timeout),
                        );
                        return Ended::Lost { answered, why };
                    }
                }
            }
            self.watch
                .gap(self.book.connection)
                .answered(Instant::now(), answered + 1 < batch.len());
            self.sequence += 1;
            trusted &= self.settle(
                command,
                &replies,
                Window {
                    sent_ms,
                    answered_ms: unix_ms(),
                },
            );
            self.watch.counts.commands.fetch_add(1, Ordering::Relaxed);
        }
        if trusted {
            Ended::Whole
        } else {
            Ended::Distrusted
        }
    }

    /// Now and then in two writes, so that a frame arrives in pieces.
    async fn send(&mut self, wire: &mut Wire, frames: &[u8]) -> io::Result<()> {
        let sending = async {
            let cut = self.planner.cut(frames.len()).unwrap_or(0);
            if cut > 0 {
                wire.send(&frames[..cut]).await?;
                tokio::task::yield_now().await;
            }
            wire.send(&frames[cut..]).await
        };
        tokio::time::timeout(self.reply_timeout, sending)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// False when a reply was wrong.
    fn settle(&mut self, command: &Command, replies: &[Reply], window: Window) -> bool {
        let own = match command {
            Command::Own(own) => own,
            Command::SharedAdd { .. } | Command::SharedPush { .. } => {
                return self.settle_shared(command, &replies[0]);
            }
        };
        let verdict = self.book.settle(self.sequence, own, replies, window);
        self.watch
            .counts
            .acknowledged_writes
            .fetch_add(verdict.acknowledged_writes, Ordering::Relaxed);
        for (key, text) in &verdict.errors {
            self.add(
                FindingKind::ClientError,
                Some(*key),
                format!("{:?} to be served", own.shape),
                text.clone(),
            );
        }
        if !verdict.errors.is_empty() {
            self.book.retire(own.parts.iter().map(|(key, _)| *key));
        }
        let trusted = verdict.wrong.is_empty();
        for wrong in verdict.wrong {
            self.wrong(Some(wrong.key), wrong.expected, wrong.found);
        }
        trusted
    }

    fn settle_shared(&mut self, command: &Command, reply: &Reply) -> bool {
        if let Reply::Error(text) = reply {
            self.unknown_shared(command);
            self.add(
                FindingKind::ClientError,
                None,
                "a shared key to be served".to_owned(),
                text.clone(),
            );
            return true;
        }
        self.watch
            .counts
            .acknowledged_writes
            .fetch_add(1, Ordering::Relaxed);
        let outcome = match command {
            Command::SharedAdd { counter } => {
                self.book
                    .shared
                    .added(*counter, self.sequence, reply.as_integer())
            }
            Command::SharedPush { list, .. } => {
                self.book
                    .shared
                    .pushed(*list, self.sequence, reply.as_integer())
            }
            Command::Own(_) => Ok(()),
        };
        let Err(expected) = outcome else { return true };
        self.wrong(None, expected, reply.to_string());
        false
    }

    fn lost(&mut self, batch: &[Command], answered: usize, why: &io::Error) {
        self.watch.gap(self.book.connection).lost(Instant::now());
        self.watch
            .counts
            .connections_lost
            .fetch_add(1, Ordering::Relaxed);
        let outstanding = format!("replies to {} commands", batch.len() - answered);
        self.add(
            FindingKind::ConnectionLost,
            None,
            outstanding,
            format!("{why}, at {}", self.addresses[0]),
        );
        // What was sent last was executed at the latest now, as far as its own EXPIRE goes.
        let now_ms = unix_ms();
        let window = Window {
            sent_ms: now_ms.saturating_sub(crate::watch::millis(self.reply_timeout)),
            answered_ms: now_ms,
        };
        let own: Vec<Planned> = batch[answered..]
            .iter()
            .filter_map(|command| match command {
                Command::Own(own) => Some(own.clone()),
                Command::SharedAdd { .. } | Command::SharedPush { .. } => None,
            })
            .collect();
        self.book.unknown(&own, window);
        for command in &batch[answered..] {
            self.unknown_shared(command);
        }
        self.retire(batch);
    }

    fn unknown_shared(&mut self, command: &Command) {
        match command {
            Command::SharedAdd { counter } => self.book.shared.add_unknown(*counter),
            Command::SharedPush { list, token } => self.book.shared.push_unknown(*list, *token),
            Command::Own(_) => {}
        }
    }

    fn retire(&mut self, batch: &[Command]) {
        let keys: Vec<KeyIndex> = batch
            .iter()
            .flat_map(|command| match command {
                Command::Own(own) => own.parts.as_slice(),
                Command::SharedAdd { .. } | Command::SharedPush { .. } => &[],
            })
            .map(|(key, _)| *key)
            .collect();
        self.book.retire(keys);
    }

    fn encode(&self, command: &Command, out: &mut Vec<u8>) {
        match command {
            Command::Own(own) => own.encode(out, |key| self.book.name(key)),
            Command::SharedAdd { counter } => {
                encode(
                    out,
                    &["INCR", &shared::counter_name(self.book.prefix(), *counter)],
                );
            }
            Command::SharedPush { list, token } => {
                let text = self.book.shared.token_text(*token);
                encode(
                    out,
                    &[
                        "RPUSH",
                        &shared::list_name(self.book.prefix(), *list),
                        &text,
                    ],
                );
            }
        }
    }

    fn wrong(&self, key: Option<KeyIndex>, expected: String, found: String) {
        self.add(FindingKind::WrongReply, key, expected, found);
    }

    fn add(&self, kind: FindingKind, key: Option<KeyIndex>, expected: String, found: String) {
        self.watch.add(Finding {
            kind,
            connection: Some(self.book.connection),
            sequence: self.sequence,
            key: key.map_or_else(|| "-".to_owned(), |key| self.book.keys[key].name.clone()),
            expected,
            found,
            server: None,
            at_ms: self.watch.at_ms(),
        });
    }

    async fn pace(&self, due: Instant, sent: usize, rate: NonZeroU32) -> Instant {
        let step = Duration::from_secs(1).mul_f64(sent as f64 / f64::from(rate.get()));
        let now = Instant::now();
        let due = (due + step).max(now.checked_sub(BEHIND_MAX).unwrap_or(now));
        tokio::time::sleep_until(due.into()).await;
        due
    }
}
