//! Looks again at keys that differed, until they are equal, stand still and differ, or have moved too often.

use std::time::Duration;

use understudy_rdb::{Detail, Digest, Object, decode_dump};

use super::judge::{KeyState, Kind, Verdict, judge};
use super::outcome::{CompareOptions, Difference, KeyRef, Outcome, Unverifiable, VerifyError};
use super::read::Side;

/// Longest wait between two looks.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// An expiry computed from a time to live may be this much off, though nothing changed.
const JITTER: Duration = Duration::from_millis(5);

/// A key that waits, with what was seen of it last.
struct Waiting {
    key: KeyRef,
    source: Option<Print>,
    target: Option<Print>,
    /// How often in a row it was seen like that, standing still.
    seen: u32,
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
        let drift = match (self.expiry_ms, other.expiry_ms) {
            (Some(one), Some(other)) => Some(one.abs_diff(other)),
            (None, None) => Some(0),
            (Some(_), None) | (None, Some(_)) => None,
        };
        self.digest == other.digest
            && drift.is_some_and(|drift| Duration::from_millis(drift) <= JITTER)
    }
}

/// What a round said about one key.
enum Look {
    Settled,
    /// The source changed while we looked.
    Moved,
    Still(Found),
}

enum Found {
    Kind(Kind),
    Unverifiable(String),
}

pub(crate) async fn settle(
    source: &mut Side,
    target: &mut Side,
    pending: Vec<KeyRef>,
    options: &CompareOptions,
    tolerance: Duration,
    outcome: &mut Outcome,
) -> Result<(), VerifyError> {
    let fresh = |key| Waiting {
        key,
        source: None,
        target: None,
        seen: 0,
    };
    let mut waiting: Vec<Waiting> = pending.into_iter().map(fresh).collect();
    let mut pause = options.settle;
    for round in 0..options.rounds_max.max(1) {
        if waiting.is_empty() {
            return Ok(());
        }
        if round > 0 {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SETTLE_MAX);
        }
        let mut left = Vec::new();
        let mut looked_at = waiting.into_iter().peekable();
        while let Some(first) = looked_at.peek() {
            let db = first.key.db;
            let mut batch = Vec::new();
            while batch.len() < options.batch.max(1)
                && let Some(next) = looked_at.next_if(|next| next.key.db == db)
            {
                batch.push(next);
            }
            left.extend(look(source, target, batch, options, tolerance, outcome).await?);
        }
        waiting = left;
    }
    outcome
        .unsettled
        .extend(waiting.into_iter().map(|waiting| waiting.key));
    Ok(())
}

/// One round for one batch; gives back what has to be looked at again.
async fn look(
    source: &mut Side,
    target: &mut Side,
    batch: Vec<Waiting>,
    options: &CompareOptions,
    tolerance: Duration,
    outcome: &mut Outcome,
) -> Result<Vec<Waiting>, VerifyError> {
    let keys: Vec<KeyRef> = batch.iter().map(|waiting| waiting.key.clone()).collect();
    let before = source.read(&keys).await?;
    target.catch_up(&before.position).await?;
    let between = target.read(&keys).await?;
    let after = source.read(&keys).await?;
    let mut left = Vec::new();
    for (((mut waiting, before), between), after) in batch
        .into_iter()
        .zip(before.states)
        .zip(between.states)
        .zip(after.states)
    {
        match classify(
            before.as_ref(),
            between.as_ref(),
            after.as_ref(),
            tolerance,
            outcome,
        ) {
            Look::Settled => {}
            Look::Moved => {
                waiting.seen = 0;
                left.push(waiting);
            }
            Look::Still(found) => {
                let (after, between) = (
                    after.as_ref().map(Print::of),
                    between.as_ref().map(Print::of),
                );
                let again = waiting.seen > 0
                    && same(waiting.source, after)
                    && same(waiting.target, between);
                waiting.seen = if again { waiting.seen + 1 } else { 1 };
                (waiting.source, waiting.target) = (after, between);
                if waiting.seen >= options.stable_rounds {
                    report(waiting, found, outcome);
                } else {
                    left.push(waiting);
                }
            }
        }
    }
    Ok(left)
}

/// The target was read between two looks at the source. If those agree, the key stood still, and the target, which had
/// applied everything up to the first, has no excuse.
fn classify(
    before: Option<&KeyState>,
    between: Option<&KeyState>,
    after: Option<&KeyState>,
    tolerance: Duration,
    outcome: &mut Outcome,
) -> Look {
    for source in [before, after] {
        if let Verdict::Equal { ttl_drift } = judge(source, between, tolerance) {
            outcome.ttl_drift_max = outcome.ttl_drift_max.max(ttl_drift);
            return Look::Settled;
        }
    }
    // A server agrees with itself to the byte, but for an expiry that it tells as a time to live.
    if !matches!(judge(before, after, JITTER), Verdict::Equal { .. }) {
        return Look::Moved;
    }
    match judge(after, between, tolerance) {
        Verdict::Equal { .. } => Look::Settled,
        Verdict::Differs(kind) => Look::Still(Found::Kind(kind)),
        Verdict::Unverifiable(why) => Look::Still(Found::Unverifiable(why)),
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
