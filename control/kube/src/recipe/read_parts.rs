//! Reads the small parts of a recipe: kinds, parameters, look-ups, changes, rights.

use std::time::Duration;

use serde_json::Value;

use super::read_predicate::{demand, predicate};
use super::walk::{At, Keys, duration};
use super::{
    Again, Change, Conflict, Consistency, Deadlines, Demand, HoldUntil, Kind, Lookup, Param,
    ParamType, Purpose, Quiesce, QuiesceBy, Reached, Resolve, Rule,
};

const REACHED: [(&str, Reached); 4] = [
    ("none", Reached::None),
    ("crash", Reached::Crash),
    ("fs", Reached::Fs),
    ("app", Reached::App),
];

/// A template is any value; whether it can be filled is checked with the names.
pub(super) fn template(at: At<'_>) -> Option<Value> {
    Some(at.value.clone())
}

pub(super) fn consistency(at: At<'_>) -> Option<Consistency> {
    let keys = at.keys()?;
    let alone = keys.must("alone", "write none, crash, fs or app", |at| {
        at.word(&REACHED)
    });
    let quiesced = keys.must("quiesced", "write none, crash, fs or app", |at| {
        at.word(&REACHED)
    });
    let why = keys.must("why", "say why in one sentence", |at| at.text());
    keys.nothing_else();
    Some(Consistency {
        alone: alone?,
        quiesced: quiesced?,
        why: why?,
    })
}

pub(super) fn quiesce(at: At<'_>) -> Option<Quiesce> {
    let keys = at.keys()?;
    let who = [
        ("engine", QuiesceBy::Engine),
        ("system", QuiesceBy::System),
        ("nobody", QuiesceBy::Nobody),
    ];
    let until = [("never", HoldUntil::Never), ("cut", HoldUntil::Cut)];
    let standard = Quiesce::default();
    let by = keys.may("by", |at| at.word(&who));
    let hold = keys.may("hold", |at| at.word(&until));
    let max = keys.may("max", |at| {
        let max = at.duration()?;
        if max > Quiesce::MAX {
            at.wrong("is longer than clients may be held", "write at most 2s");
        }
        Some(max)
    });
    keys.nothing_else();
    Some(Quiesce {
        by: by.unwrap_or(standard.by),
        hold: hold.unwrap_or(standard.hold),
        max: max.unwrap_or(standard.max),
    })
}

pub(super) fn kind(at: At<'_>) -> Option<Kind> {
    let keys = at.keys()?;
    let group = keys.must("group", "write the API group", |at| at.text());
    let versions = keys.list("versions", |at| at.text());
    if versions.is_empty() {
        keys.wrong("has no versions", "write `versions: [v1]`, best first");
    }
    let kind = keys.must("kind", "write the kind, as VolumeSnapshot", |at| at.text());
    let plural = keys.must(
        "plural",
        "write its name in URLs, as volumesnapshots",
        |at| at.text(),
    );
    let cluster = keys.may("cluster", |at| at.bool()).unwrap_or(false);
    let detect = keys.may("detect", |at| at.bool()).unwrap_or(true);
    let discover = keys.may("discover", |at| at.bool()).unwrap_or(true);
    keys.nothing_else();
    Some(Kind {
        group: group?,
        versions,
        kind: kind?,
        plural: plural?,
        cluster,
        detect,
        discover,
    })
}

pub(super) fn param(at: At<'_>) -> Option<Param> {
    let keys = at.keys()?;
    let types = [
        ("string", ParamType::String),
        ("int", ParamType::Int),
        ("bool", ParamType::Bool),
        ("duration", ParamType::Duration),
        ("map", ParamType::Map),
        ("list", ParamType::List),
    ];
    let of = keys
        .may("type", |at| at.word(&types))
        .unwrap_or(ParamType::String);
    let default = keys.may("default", |at| {
        if !of.accepts(at.value) {
            at.wrong(
                format!("is not of type {}", of.as_str()),
                "write a value of that type",
            );
        }
        Some(at.value.clone())
    });
    let required = keys.may("required", |at| at.bool()).unwrap_or(false);
    if required && default.is_some() {
        keys.wrong("is required and has a default", "keep one of them");
    }
    let help = keys.must("help", "say in one sentence what it is for", |at| at.text());
    keys.nothing_else();
    Some(Param {
        of,
        default: default.unwrap_or(Value::Null),
        required,
        help: help?,
    })
}

pub(super) fn lookup(keys: &Keys<'_>) -> Option<Lookup> {
    let kind = keys.must("kind", "write a name of `kinds`", |at| at.text());
    let namespace = keys.may("namespace", template);
    let name = keys.may("name", template);
    let labels = keys.may("labels", template);
    let filter = keys.may("where", predicate);
    Some(Lookup {
        kind: kind?,
        namespace,
        name,
        labels,
        filter,
    })
}

pub(super) fn resolve(at: At<'_>) -> Option<Resolve> {
    let keys = at.keys()?;
    let name = keys.must("as", "name the variable that it becomes", |at| at.text());
    let lookup = lookup(&keys);
    let list = keys.may("list", |at| at.bool()).unwrap_or(false);
    let optional = keys.may("optional", |at| at.bool()).unwrap_or(false);
    let require: Vec<Demand> = keys.list("require", demand);
    keys.nothing_else();
    Some(Resolve {
        name: name?,
        lookup: lookup?,
        list,
        optional,
        require,
    })
}

pub(super) fn conflict(at: At<'_>) -> Option<Conflict> {
    let keys = at.keys()?;
    let idle = keys.must("idle", "write what must hold before the trigger", predicate);
    let wait = keys.may("wait", |at| at.duration());
    let every = keys.may("every", |at| at.duration());
    keys.nothing_else();
    Some(Conflict {
        idle: idle?,
        wait: wait.unwrap_or(Duration::from_secs(600)),
        every: every
            .unwrap_or(Duration::from_secs(5))
            .max(Duration::from_millis(100)),
    })
}

pub(super) fn change(at: At<'_>) -> Option<Change> {
    let keys = at.keys()?;
    let read = change_of(&keys);
    keys.nothing_else();
    read
}

pub(super) fn change_of(keys: &Keys<'_>) -> Option<Change> {
    let kind = keys.must("kind", "write a name of `kinds`", |at| at.text());
    let namespace = keys.may("namespace", template);
    let name = keys.must("name", "write the object's name", template);
    let patch = keys.must("patch", "write the merge patch", template);
    let undo = keys.may("undo", template);
    Some(Change {
        kind: kind?,
        namespace,
        name: name?,
        patch: patch?,
        undo,
    })
}

pub(super) fn deadlines(at: At<'_>) -> Option<Deadlines> {
    let keys = at.keys()?;
    let read = |key| {
        keys.may(key, |at: At<'_>| {
            let time = at.duration()?;
            if time.is_zero() {
                at.wrong("is no time at all", "write at least 1ms");
            }
            Some(time)
        })
    };
    let deadlines = Deadlines {
        accept: read("accept"),
        cut: read("cut"),
        ready: read("ready"),
        error_grace: read("errorGrace"),
        total: read("total"),
    };
    keys.nothing_else();
    Some(deadlines)
}

pub(super) fn again(at: At<'_>) -> Option<Again> {
    let keys = at.keys()?;
    let times = keys.must("times", "write how often", |at| at.whole(100));
    let after = keys.may("after", |at| at.duration());
    keys.nothing_else();
    Some(Again {
        times: u32::try_from(times?).unwrap_or(0),
        after: after.unwrap_or(Duration::from_secs(30)),
    })
}

pub(super) fn rule(at: At<'_>) -> Option<Rule> {
    let keys = at.keys()?;
    let kind = keys.must("kind", "write a name of `kinds`", |at| at.text());
    let subresource = keys.may("subresource", |at| at.text());
    let known = [
        "get", "list", "watch", "create", "patch", "update", "delete",
    ];
    let known = known.map(|verb| (verb, verb));
    let verbs = keys.list("verbs", |at| at.word(&known).map(str::to_owned));
    if verbs.is_empty() {
        keys.wrong("allows nothing", "write `verbs: [get, …]`");
    }
    let namespace = keys.may("namespace", template);
    let purposes = [
        ("take", Purpose::Take),
        ("restore", Purpose::Restore),
        ("delete", Purpose::Delete),
    ];
    let purpose = keys.may("for", |at| at.word(&purposes));
    keys.nothing_else();
    Some(Rule {
        kind: kind?,
        subresource,
        verbs,
        namespace,
        purpose: purpose.unwrap_or(Purpose::Take),
    })
}

impl Quiesce {
    /// Longest hold that a recipe may ask for.
    pub const MAX: Duration = Duration::from_secs(2);
}

impl Default for Quiesce {
    /// The engine quiesces; nobody is held.
    fn default() -> Self {
        Self {
            by: QuiesceBy::Engine,
            hold: HoldUntil::Never,
            max: Duration::from_millis(500),
        }
    }
}

impl Default for Again {
    /// Never.
    fn default() -> Self {
        Self {
            times: 0,
            after: Duration::from_secs(30),
        }
    }
}

impl Default for Deadlines {
    /// None of its own.
    fn default() -> Self {
        Self {
            accept: None,
            cut: None,
            ready: None,
            error_grace: None,
            total: None,
        }
    }
}

impl Deadlines {
    /// Until the controller's first word. Default: 60 s.
    pub const ACCEPT: Duration = Duration::from_secs(60);
    /// Until ready. Default: 15 min.
    pub const READY: Duration = Duration::from_secs(900);
    /// How long an error may stay. Default: 6 min: a CSI sidecar tries again after up to 5.
    pub const ERROR_GRACE: Duration = Duration::from_secs(360);
    /// The whole run. Default: 30 min.
    const TOTAL: Duration = Duration::from_secs(1800);

    /// How long everything may take.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.total.unwrap_or(Self::TOTAL)
    }
}

impl ParamType {
    /// As a recipe writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Duration => "duration",
            Self::Map => "map",
            Self::List => "list",
        }
    }

    /// Whether a value is of this type.
    #[must_use]
    pub fn accepts(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::Bool => value.is_boolean(),
            Self::Duration => value.as_str().is_some_and(|text| duration(text).is_some()),
            Self::Map => value
                .as_object()
                .is_some_and(|map| map.values().all(Value::is_string)),
            Self::List => value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string)),
        }
    }
}
