//! Decides what a look at a step's objects means. Pure: objects and the time come in, a verdict comes out.
//!
//! The order is failed, ready, cut, skipped, retryable, pending; then the deadlines. What failed stays failed, whatever
//! comes later. An API server that does not answer proves nothing: then only the whole run's deadline counts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

mod texts;

use crate::predicate::{Objects, Predicate, Ref, Truth, eval, select};
use crate::recipe::{
    Absent, Deadlines, Demand, Handle, HoldUntil, Quiesce, Step, Trigger, Vars, fill_predicate,
};
pub use texts::{age, joined, rfc3339_ms, time_ms};

/// How long a question of `verify` may answer no after ready, before it counts: lists lag a little behind.
const SETTLE: i64 = 10_000;
/// How much earlier than its request a snapshot's time may be: storage has a clock of its own.
const SKEW: i64 = 60_000;

/// What was seen of a step's object.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// It is there.
    Is(Value),
    /// The server says that it is not there.
    Gone,
    /// Nobody could say.
    Unknown(String),
}

/// One look.
#[derive(Clone, Debug)]
pub struct Look {
    /// The step's object.
    pub object: Seen,
    /// Everything else by name; the object itself is put in under the step's name.
    pub named: BTreeMap<String, Value>,
}

/// What a look means.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Look again, at the latest at this time.
    Wait {
        /// Milliseconds of the run's clock.
        until: i64,
        /// What it waits for.
        what: String,
    },
    /// It is ready and verified.
    Ready,
    /// The system chose not to do it.
    Skipped(String),
    /// It will never be ready.
    Failed(Final),
}

/// Why a step failed for good.
#[derive(Clone, Debug, PartialEq)]
pub struct Final {
    /// Which way.
    pub why: Why,
    /// The system's own words and the age of the condition.
    pub text: String,
}

/// Which way a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The system says that it failed.
    SaidSo,
    /// It is done, and not what was asked for.
    NotVerified,
    /// An error stayed longer than the system may try.
    ErrorStayed,
    /// No controller said anything.
    NoController,
    /// The point in time was not fixed in time.
    NotCut,
    /// It was cut after the hold had ended.
    HoldEnded,
    /// It was not ready in time.
    NotReady,
    /// The whole run took too long.
    TooLong,
    /// The object is gone, is going, or is another one.
    Gone,
    /// It is older than its request.
    Older,
}

impl Why {
    /// Whether what was triggered holds nothing that could be of use, so that it may be deleted where the recipe allows it.
    #[must_use]
    pub fn leaves_nothing(self) -> bool {
        match self {
            Self::NoController | Self::NotCut => true,
            Self::SaidSo
            | Self::NotVerified
            | Self::ErrorStayed
            | Self::HoldEnded
            | Self::NotReady
            | Self::TooLong
            | Self::Gone
            | Self::Older => false,
        }
    }
}

/// One step on its way.
#[derive(Debug)]
pub struct StepRun<'r> {
    step: &'r Step,
    deadlines: Deadlines,
    hold: Option<(i64, Duration)>,
    handle: Option<&'r BTreeMap<String, Handle>>,
    triggered: i64,
    ends: i64,
    uid: Option<String>,
    accepted: bool,
    cut: Option<i64>,
    error_since: Option<i64>,
    unverified_since: Option<i64>,
    failed: Option<Final>,
}

impl<'r> StepRun<'r> {
    /// A step that was triggered at a time of the run's clock; the run ends at `ends`.
    #[must_use]
    pub fn new(step: &'r Step, run: Deadlines, triggered: i64, ends: i64) -> Self {
        let own = step.deadlines;
        Self {
            step,
            deadlines: Deadlines {
                accept: own.accept.or(run.accept).or(Some(Deadlines::ACCEPT)),
                cut: own.cut.or(run.cut),
                ready: own.ready.or(run.ready).or(Some(Deadlines::READY)),
                error_grace: own
                    .error_grace
                    .or(run.error_grace)
                    .or(Some(Deadlines::ERROR_GRACE)),
                total: None,
            },
            hold: None,
            handle: None,
            triggered,
            ends,
            uid: None,
            accepted: false,
            cut: None,
            error_since: None,
            unverified_since: None,
            failed: None,
        }
    }

    /// Writes are held since a time of the run's clock.
    #[must_use]
    pub fn held(mut self, quiesce: Quiesce, since: i64) -> Self {
        if quiesce.hold == HoldUntil::Cut {
            self.hold = Some((since, quiesce.max));
        }
        self
    }

    /// The object that is ours: another one of its name is not.
    #[must_use]
    pub fn of(mut self, uid: Option<&str>) -> Self {
        self.uid = uid.map(str::to_owned);
        self
    }

    /// What is kept when it is ready; each part must be there.
    #[must_use]
    pub fn keeping(mut self, handle: &'r BTreeMap<String, Handle>) -> Self {
        self.handle = Some(handle);
        self
    }

    /// When the cut was seen first.
    #[must_use]
    pub fn cut_at(&self) -> Option<i64> {
        self.cut
    }

    /// What a look means now.
    pub fn look(&mut self, look: &Look, vars: &Vars, now: i64) -> Verdict {
        if let Some(failed) = &self.failed {
            return Verdict::Failed(failed.clone());
        }
        let verdict = self.judge(look, vars, now);
        if let Verdict::Failed(failed) = &verdict {
            self.failed = Some(failed.clone());
        }
        verdict
    }

    fn judge(&mut self, look: &Look, vars: &Vars, now: i64) -> Verdict {
        let object = match &look.object {
            Seen::Is(object) => object,
            Seen::Gone => return self.gone(now),
            Seen::Unknown(text) => {
                return self.late(now, text).unwrap_or(Verdict::Wait {
                    until: self.ends,
                    what: format!("nobody can say how it is: {text}"),
                });
            }
        };
        if let Some(failed) = self.not_ours(object) {
            return Verdict::Failed(failed);
        }
        let mut named = vars.clone();
        named.extend(look.named.clone());
        named.insert(self.step.name.clone(), object.clone());
        let objects = Objects {
            here: object,
            named: &named,
        };
        let asks = |question: &Option<Predicate>| {
            question.as_ref().map_or(Truth::No, |it| ask(it, objects))
        };
        let when = &self.step.when;
        let mut said = self.said(objects);
        if asks(&when.failed).is_yes() {
            return failed(Why::SaidSo, said);
        }
        let ready = asks(&when.ready).is_yes();
        if (ready || asks(&when.cut).is_yes()) && self.cut.is_none() {
            self.cut = Some(now);
            if let Some((since, max)) = self.hold
                && now > since + millis(max)
            {
                let text = format!(
                    "it was cut {} after the hold began, which lasted {}",
                    age(now - since),
                    age(millis(max))
                );
                return failed(Why::HoldEnded, text);
            }
            if let Some(older) = self.older(objects) {
                return older;
            }
        }
        if ready {
            match self.verify(objects, now) {
                None => return Verdict::Ready,
                Some(Verdict::Wait { what, .. }) => said = what,
                Some(other) => return other,
            }
        } else {
            self.unverified_since = None;
        }
        self.accepted |= ready
            || self.cut.is_some()
            || match &when.accepted {
                Some(accepted) => ask(accepted, objects).is_yes(),
                None => matches!(self.step.trigger, Trigger::Http(_)) || has_spoken(object),
            };
        if asks(&when.skipped).is_yes() {
            return Verdict::Skipped(said);
        }
        if asks(&when.retryable).is_yes() {
            let since = *self.error_since.get_or_insert(now);
            let grace = self.deadlines.error_grace.unwrap_or(Deadlines::ERROR_GRACE);
            if now - since >= millis(grace) {
                return failed(
                    Why::ErrorStayed,
                    format!("{said} (for {})", age(now - since)),
                );
            }
        } else {
            self.error_since = None;
        }
        self.deadline(now, &said).unwrap_or_else(|| Verdict::Wait {
            until: self.next(now),
            what: self.waits_for(objects, &said),
        })
    }

    /// What the system says is wrong; the first texts that are there.
    fn said(&self, objects: Objects<'_>) -> String {
        joined(self.step.message.iter().flat_map(|at| select(at, objects)))
    }

    fn waits_for(&self, objects: Objects<'_>, said: &str) -> String {
        let mut what = match (self.accepted, self.cut, &self.step.when.cut) {
            (false, ..) => "waits for a controller to take it up".to_owned(),
            (true, None, Some(_)) => "waits for the cut".to_owned(),
            (true, ..) => "waits until it is ready".to_owned(),
        };
        let progress = self.step.progress.as_ref();
        let progress = joined(
            progress
                .into_iter()
                .flat_map(|at: &Ref| select(at, objects)),
        );
        for more in [progress.as_str(), said] {
            if !more.is_empty() {
                what = format!("{what}: {more}");
            }
        }
        what
    }

    fn not_ours(&mut self, object: &Value) -> Option<Final> {
        let metadata = &object["metadata"];
        let gone = |text: String| {
            Some(Final {
                why: Why::Gone,
                text,
            })
        };
        if let Some(at) = metadata["deletionTimestamp"].as_str() {
            return gone(format!("somebody deletes it since {at}"));
        }
        let uid = metadata["uid"].as_str()?;
        match &self.uid {
            Some(ours) if ours != uid => gone(format!(
                "it was replaced by another one of its name (uid {uid} instead of {ours})"
            )),
            Some(_) => None,
            None => {
                self.uid = Some(uid.to_owned());
                None
            }
        }
    }

    fn gone(&self, now: i64) -> Verdict {
        match self.step.absent {
            Absent::Failed => failed(Why::Gone, "it is gone".to_owned()),
            Absent::Pending => self.deadline(now, "it is gone").unwrap_or(Verdict::Wait {
                until: self.next(now),
                what: "waits for it to be there again".to_owned(),
            }),
        }
    }

    fn older(&self, objects: Objects<'_>) -> Option<Verdict> {
        let cut = select(self.step.cut_time.as_ref()?, objects);
        let cut = cut.first().and_then(|it| time_ms(it))?;
        let asked = time_ms(&objects.here["metadata"]["creationTimestamp"])?;
        (cut + SKEW < asked).then(|| {
            let text = format!(
                "it was cut {} before it was asked for, so it is another snapshot",
                age(asked - cut)
            );
            failed(Why::Older, text)
        })
    }

    /// None when every demand holds.
    fn verify(&mut self, objects: Objects<'_>, now: i64) -> Option<Verdict> {
        let empty = || {
            let empty = kept(self.handle?, objects).err()?;
            Some((Truth::No, format!("the handle's `{empty}` is empty")))
        };
        match unmet(&self.step.verify, objects).or_else(empty) {
            None => {
                self.unverified_since = None;
                None
            }
            Some((truth, text)) => {
                let since = *self.unverified_since.get_or_insert(now);
                if truth == Truth::No && now - since >= SETTLE {
                    return Some(failed(Why::NotVerified, text));
                }
                Some(Verdict::Wait {
                    until: since + SETTLE,
                    what: text,
                })
            }
        }
    }

    fn deadline(&self, now: i64, said: &str) -> Option<Verdict> {
        let since = now - self.triggered;
        let passed = |limit: Option<Duration>| limit.is_some_and(|limit| since >= millis(limit));
        let told = if said.is_empty() {
            String::new()
        } else {
            format!(": {said}")
        };
        let late =
            |why, text: &str| Some(failed(why, format!("{text} after {}{told}", age(since))));
        if !self.accepted && passed(self.deadlines.accept) {
            return late(Why::NoController, "no controller has answered");
        }
        if self.cut.is_none() && passed(self.deadlines.cut) {
            return late(Why::NotCut, "no point in time was fixed");
        }
        if passed(self.deadlines.ready) {
            return late(Why::NotReady, "it is not ready");
        }
        self.late(now, said)
    }

    fn late(&self, now: i64, said: &str) -> Option<Verdict> {
        (now >= self.ends).then(|| {
            let told = if said.is_empty() {
                String::new()
            } else {
                format!(": {said}")
            };
            failed(Why::TooLong, format!("the run took too long{told}"))
        })
    }

    /// The next time at which a deadline could pass.
    fn next(&self, now: i64) -> i64 {
        let limits = [
            self.deadlines.accept.filter(|_| !self.accepted),
            self.deadlines.cut.filter(|_| self.cut.is_none()),
            self.deadlines.ready,
        ];
        let own = limits
            .into_iter()
            .flatten()
            .map(|limit| self.triggered + millis(limit));
        let grace = self.deadlines.error_grace.map(millis);
        let error = self
            .error_since
            .zip(grace)
            .map(|(since, grace)| since + grace);
        let settle = self.unverified_since.map(|since| since + SETTLE);
        own.chain(error)
            .chain(settle)
            .chain([self.ends])
            .filter(|at| *at > now)
            .min()
            .unwrap_or(self.ends)
    }
}

/// The first demand that is not known to hold.
#[must_use]
pub fn unmet(demands: &[Demand], objects: Objects<'_>) -> Option<(Truth, String)> {
    demands.iter().find_map(|demand| {
        let truth = ask(&demand.that, objects);
        let text = if demand.otherwise.is_empty() {
            format!("it does not hold that {}", texts::question(&demand.that))
        } else {
            demand.otherwise.clone()
        };
        (!truth.is_yes()).then_some((truth, text))
    })
}

/// The parts of a handle as texts; or the name of the first that is empty.
pub fn kept(
    handle: &BTreeMap<String, Handle>,
    objects: Objects<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut kept = BTreeMap::new();
    for (key, part) in handle {
        let found = select(&part.from, objects);
        let text = match &part.json {
            None => texts::uncut(found.into_iter()),
            Some(inner) => {
                let parsed = found
                    .iter()
                    .filter_map(|it| it.as_str())
                    .filter_map(texts::last_json);
                texts::uncut(
                    parsed
                        .flat_map(|it| {
                            inner
                                .path
                                .select(&it)
                                .into_iter()
                                .cloned()
                                .collect::<Vec<_>>()
                        })
                        .collect::<Vec<_>>()
                        .iter(),
                )
            }
        };
        if text.is_empty() {
            return Err(key.clone());
        }
        kept.insert(key.clone(), text);
    }
    Ok(kept)
}

/// Asks with the values filled from the same objects; what cannot be filled is unknown.
#[must_use]
pub fn ask(question: &Predicate, objects: Objects<'_>) -> Truth {
    fill_predicate(question, objects.named).map_or(Truth::Unknown, |it| eval(&it, objects))
}

fn failed(why: Why, text: String) -> Verdict {
    let text = if text.is_empty() {
        "it says that it failed, and not why".to_owned()
    } else {
        text
    };
    Verdict::Failed(Final { why, text })
}

fn has_spoken(object: &Value) -> bool {
    match &object["status"] {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// Milliseconds of a time; what is longer than any run is as long as any.
#[must_use]
pub fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
