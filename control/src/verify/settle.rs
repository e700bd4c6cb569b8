//! Looks again at keys that differed, until they are equal, stand still and differ, or have moved too often.
//!
//! ```text
//!   quick    source · catch up · target                          equal? settled
//!   proof    source: WATCH · offset                              for what was not
//!            target: has applied that offset · read
//!            source: MULTI read EXEC                             null: touched meanwhile, look again later
//! ```
//!
//! If EXEC goes through, nobody has touched the keys since WATCH, so the target, which had everything up to then, must say
//! the same as the source. Comparing two looks at the source is not enough: a lock that is taken and freed all the time
//! looks the same twice and other in between.

use std::time::Duration;

use understudy_rdb::{Detail, Digest, Object, decode_dump};

use super::judge::{KeyState, Kind, Verdict};
use super::outcome::{CompareOptions, Difference, KeyRef, Outcome, Unverifiable, VerifyError};
use super::read::Side;
use super::reading::Reading;

/// Longest wait between two looks.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// An expiry computed from a time to live may be this much off, though nothing changed: a busy host may pause the server
/// between two answers.
const JITTER_MS: u64 = 25;

/// Everything that looking needs.
pub(crate) struct Settling<'a> {
    pub(crate) source: &'a mut Side,
    pub(crate) target: &'a mut Side,
    pub(crate) options: &'a CompareOptions,
    pub(crate) tolerance: Duration,
    pub(crate) outcome: &'a mut Outcome,
}

impl Settling<'_> {
    /// Ends with every key equal, reported or unsettled.
    pub(crate) async fn run(mut self, pending: Vec<KeyRef>) -> Result<(), VerifyError> {
        let mut waiting: Vec<Waiting> = pending.into_iter().map(Waiting::new).collect();
        let mut pause = self.options.settle;
        for round in 0..self.options.rounds_max.max(1) {
            if waiting.is_empty() {
                return Ok(());
            }
            if round > 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(SETTLE_MAX);
            }
            let mut left = Vec::new();
            for batch in batches(waiting, self.options.batch.max(1)) {
                left.extend(self.look(batch).await?);
            }
            waiting = left;
        }
        let keys = waiting.into_iter().map(|waiting| waiting.key);
        self.outcome.unsettled.extend(keys);
        Ok(())
    }

    /// One round for one batch; gives back what has to be looked at again.
    async fn look(&mut self, batch: Vec<Waiting>) -> Result<Vec<Waiting>, VerifyError> {
        let keys: Vec<KeyRef> = batch.iter().map(|waiting| waiting.key.clone()).collect();
        let source = self.source.read(&keys).await?;
        self.target.catch_up(&source.position).await?;
        let target = self.target.read(&keys).await?;
        let mut suspects = Vec::new();
        for (index, waiting) in batch.into_iter().enumerate() {
            match self.verdict(&source, &target, index) {
                Verdict::Equal { .. } => {}
                Verdict::Differs(_) | Verdict::Unverifiable(_) => suspects.push(waiting),
            }
        }
        if suspects.is_empty() {
            return Ok(suspects);
        }
        let alone = suspects.len() == 1;
        let mut left = Vec::new();
        let Some(mut touched) = self.prove(suspects, &mut left).await? else {
            return Ok(left);
        };
        if alone {
            left.append(&mut touched);
        }
        // One of them was touched. Which, only each by itself can say.
        for waiting in touched {
            let touched = self.prove(vec![waiting], &mut left).await?;
            left.extend(touched.into_iter().flatten());
        }
        Ok(left)
    }

    /// Judges keys that nobody touches meanwhile; gives all of them back if somebody did.
    async fn prove(
        &mut self,
        mut suspects: Vec<Waiting>,
        left: &mut Vec<Waiting>,
    ) -> Result<Option<Vec<Waiting>>, VerifyError> {
        let keys: Vec<KeyRef> = suspects.iter().map(|waiting| waiting.key.clone()).collect();
        let position = self.source.watch(&keys).await?;
        self.target.catch_up(&position).await?;
        let target = self.target.read(&keys).await?;
        let Some(source) = self.source.read_watched(&keys).await? else {
            // Of several, it may have been a neighbour: each is looked at by itself then, and only that counts.
            if let [alone] = &mut suspects[..] {
                alone.seen = 0;
            }
            return Ok(Some(suspects));
        };
        for (index, mut waiting) in suspects.into_iter().enumerate() {
            let found = match self.verdict(&source, &target, index) {
                Verdict::Equal { .. } => continue,
                Verdict::Differs(kind) => Found::Kind(kind),
                Verdict::Unverifiable(why) => Found::Unverifiable(why),
            };
            waiting.see(source.state(index), target.state(index));
            if waiting.seen >= self.options.stable_rounds {
                report(waiting, found, self.outcome);
            } else {
                left.push(waiting);
            }
        }
        Ok(None)
    }

    fn verdict(&mut self, source: &Reading, target: &Reading, index: usize) -> Verdict {
        let verdict = source.judge_against(target, index, self.tolerance);
        if let Verdict::Equal { ttl_drift } = verdict {
            self.outcome.ttl_drift_max = self.outcome.ttl_drift_max.max(ttl_drift);
        }
        verdict
    }
}

/// Keys of one database each.
fn batches(waiting: Vec<Waiting>, size: usize) -> Vec<Vec<Waiting>> {
    let mut batches: Vec<Vec<Waiting>> = Vec::new();
    for waiting in waiting {
        match batches.last_mut() {
            Some(batch) if batch.len() < size && batch[0].key.db == waiting.key.db => {
                batch.push(waiting);
            }
            _ => batches.push(vec![waiting]),
        }
    }
    batches
}

/// A key that waits, with what was seen of it last.
struct Waiting {
    key: KeyRef,
    source: Option<Print>,
    target: Option<Print>,
    /// How often in a row it was seen like that, untouched.
    seen: u32,
}

impl Waiting {
    fn new(key: KeyRef) -> Self {
        Self {
            key,
            source: None,
            target: None,
            seen: 0,
        }
    }

    fn see(&mut self, source: Option<&KeyState>, target: Option<&KeyState>) {
        let (source, target) = (source.map(Print::of), target.map(Print::of));
        let again = self.seen > 0 && same(self.source, source) && same(self.target, target);
        self.seen = if again { self.seen + 1 } else { 1 };
        (self.source, self.target) = (source, target);
    }
}

enum Found {
    Kind(Kind),
    Unverifiable(String),
}

/// What a state is recognised by, small: many keys may wait, and their values may be large.
#[derive(Debug, Clone, Copy)]
struct Print {
    digest: Digest,
    expiry_ms: Option<i64>,
}

impl Print {
    fn of(state: &KeyState) -> Self {
        // What cannot be decoded still is the same bytes or not.
        let unreadable = |_| Object::String(state.payload.to_vec());
        let object = decode_dump(&state.payload).unwrap_or_else(unreadable);
        Self {
            digest: object.digest_in(Detail::Common),
            expiry_ms: state.expiry_ms,
        }
    }

    fn is_like(self, other: Self) -> bool {
        let expiry = match (self.expiry_ms, other.expiry_ms) {
            (Some(one), Some(other)) => one.abs_diff(other) <= JITTER_MS,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        expiry && self.digest == other.digest
    }
}

fn same(one: Option<Print>, other: Option<Print>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_like(other),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn report(waiting: Waiting, found: Found, outcome: &mut Outcome) {
    let Waiting {
        key,
        source,
        target,
        ..
    } = waiting;
    match found {
        Found::Unverifiable(why) => outcome.unverifiable.push(Unverifiable { key, why }),
        Found::Kind(kind) => outcome.differences.push(Difference {
            key,
            kind,
            source_digest: source.map(|print| print.digest),
            target_digest: target.map(|print| print.digest),
            source_expiry_ms: source.and_then(|print| print.expiry_ms),
            target_expiry_ms: target.and_then(|print| print.expiry_ms),
        }),
    }
}
