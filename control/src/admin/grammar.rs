//! `UPGRADE …` as it is typed, turned into a value. Pure; every wrong argument is named.

use crate::journal::{CutoverMode, Options, SnapshotChoice};
use crate::phase::Phase;
use crate::proxies::Registration;
use crate::snapshot::LOCAL;

/// Clients are held at most so long while the evidence is gathered, unless HOLD-MAX says otherwise. Milliseconds.
pub(super) const HOLD_MAX_DEFAULT_MS: u64 = 100;

/// The largest HOLD-MAX. Milliseconds.
pub(super) const HOLD_MAX_LIMIT_MS: u64 = 60_000;

/// Most shards in one command; more are refused.
pub(super) const SHARDS_MAX: usize = 4_096;

/// Longest name of a snapshot recipe.
const RECIPE_NAME_MAX: usize = 63;

/// A request, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Plan(Start),
    Start(Start),
    Status {
        pool: Option<String>,
        json: bool,
    },
    Cutover {
        pool: String,
    },
    Rehearse {
        pool: String,
    },
    Abort {
        pool: String,
    },
    Finalize {
        pool: String,
    },
    Report {
        pool: String,
        json: bool,
    },
    Rollback {
        pool: String,
        shard: Option<String>,
        accept_loss: Option<u64>,
    },
    Wait {
        pool: String,
        phase: Phase,
        timeout_ms: u64,
    },
    List,
    Help,
    Journal,
    Register(Registration),
    Leave {
        id: String,
        life: String,
    },
    Forget {
        id: String,
    },
    Proxies,
}

/// PLAN and START take the same arguments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) pool: String,
    /// Shard and URL, in the order typed.
    pub(crate) targets: Vec<(String, String)>,
    pub(crate) options: Options,
}

/// Why a request was not understood, or is understood and not possible in this build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `-ERR …`
    Wrong(String),
    /// `-BLOCKED …`
    Blocked(String),
}

/// The verbs, with what follows them, for HELP and for error texts.
pub(crate) const USAGE: [(&str, &str); 17] = [
    (
        "PLAN pool TO shard=url [shard=url …] [options of START]",
        "Show what START would do, and what blocks it.",
    ),
    (
        "START pool TO shard=url [shard=url …] [LINK auto|native|relay|copy] [SNAPSHOT local|none|recipe] [CUTOVER auto|manual] \
         [HOLD-MAX ms] [SOAK seconds] [REPLACE] [ACCEPT blocker …]",
        "Upgrade the shards, one after another.",
    ),
    ("STATUS [pool] [JSON]", "Say where each shard stands."),
    (
        "CUTOVER pool",
        "Move the clients now, where START said CUTOVER manual and STATUS says waiting:UPGRADE CUTOVER.",
    ),
    (
        "REHEARSE pool",
        "Try a cutover without moving anybody; clients wait as long as in a real one, and the gap is predicted.",
    ),
    (
        "ABORT pool",
        "Stop what is not committed yet; the shards stay on their old servers.",
    ),
    (
        "FINALIZE pool",
        "Close the way back of all that soak; the old servers stay read-only.",
    ),
    (
        "ROLLBACK pool [shard] [ACCEPT-LOSS n]",
        "Move what soaks back to the old servers; n keys that they could not follow may be lost.",
    ),
    (
        "REPORT pool [JSON]",
        "Everything worth keeping about the upgrade.",
    ),
    (
        "WAIT pool phase timeout-ms",
        "Answer when the least advanced shard has reached the phase.",
    ),
    (
        "LIST",
        "The pools that were ever upgraded, with their phases.",
    ),
    (
        "PROXIES",
        "The proxies that registered: where, when last heard, where they stand.",
    ),
    (
        "FORGET id",
        "A registered proxy is gone for good: attempts no longer wait for it.",
    ),
    (
        "REGISTER id:instance address [@namespace/pod/uid/container] pool shard=epoch … [pool shard=epoch …]",
        "A proxy's own: it serves clients, and asks what holds.",
    ),
    (
        "LEAVE id:instance",
        "A proxy's own: it has ended its last session.",
    ),
    ("JOURNAL", "The whole journal as JSON."),
    ("HELP", "This text."),
];

fn usage(verb: &str) -> &'static str {
    USAGE
        .iter()
        .map(|(form, _)| *form)
        .find(|form| {
            form.split(' ')
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case(verb))
        })
        .unwrap_or("HELP")
}

fn wrong(text: impl Into<String>) -> Refusal {
    Refusal::Wrong(text.into())
}

fn form(verb: &str) -> Refusal {
    wrong(format!(
        "wrong number of arguments: UPGRADE {}",
        usage(verb)
    ))
}

/// Understands the arguments behind `UPGRADE`.
pub(crate) fn parse(arguments: &[&[u8]]) -> Result<Request, Refusal> {
    let words = arguments
        .iter()
        .map(|word| std::str::from_utf8(word).map_err(|_bytes| wrong("an argument is not UTF-8")))
        .collect::<Result<Vec<&str>, Refusal>>()?;
    let Some((verb, rest)) = words.split_first() else {
        return Err(wrong("UPGRADE needs a verb: try UPGRADE HELP"));
    };
    let verb = verb.to_ascii_uppercase();
    match (verb.as_str(), rest) {
        ("PLAN", rest) => Ok(Request::Plan(start(&verb, rest)?)),
        ("START", rest) => Ok(Request::Start(start(&verb, rest)?)),
        ("STATUS", []) => Ok(Request::Status {
            pool: None,
            json: false,
        }),
        ("STATUS", [word]) if word.eq_ignore_ascii_case("JSON") => Ok(Request::Status {
            pool: None,
            json: true,
        }),
        ("STATUS", [pool]) => Ok(Request::Status {
            pool: Some((*pool).to_owned()),
            json: false,
        }),
        ("STATUS", [pool, word]) if word.eq_ignore_ascii_case("JSON") => Ok(Request::Status {
            pool: Some((*pool).to_owned()),
            json: true,
        }),
        ("CUTOVER", [pool]) => Ok(Request::Cutover {
            pool: (*pool).to_owned(),
        }),
        ("REHEARSE", [pool]) => Ok(Request::Rehearse {
            pool: (*pool).to_owned(),
        }),
        ("ABORT", [pool]) => Ok(Request::Abort {
            pool: (*pool).to_owned(),
        }),
        ("FINALIZE", [pool]) => Ok(Request::Finalize {
            pool: (*pool).to_owned(),
        }),
        ("REPORT", [pool]) => Ok(Request::Report {
            pool: (*pool).to_owned(),
            json: false,
        }),
        ("REPORT", [pool, word]) if word.eq_ignore_ascii_case("JSON") => Ok(Request::Report {
            pool: (*pool).to_owned(),
            json: true,
        }),
        ("ROLLBACK", [pool, rest @ ..]) => rollback(pool, rest),
        ("WAIT", [pool, phase, timeout]) => {
            let known = || Phase::ALL.map(Phase::name).join(" ");
            let phase = Phase::named(phase)
                .ok_or_else(|| wrong(format!("no phase '{phase}': {}", known())))?;
            Ok(Request::Wait {
                pool: (*pool).to_owned(),
                phase,
                timeout_ms: number("timeout-ms", timeout)?,
            })
        }
        ("LIST", []) => Ok(Request::List),
        ("HELP", []) => Ok(Request::Help),
        ("JOURNAL", []) => Ok(Request::Journal),
        ("PROXIES", []) => Ok(Request::Proxies),
        ("FORGET", [id]) => Ok(Request::Forget {
            id: (*id).to_owned(),
        }),
        ("LEAVE", [instance]) => {
            let (id, life) = membership::instance(instance)?;
            Ok(Request::Leave { id, life })
        }
        ("REGISTER", [instance, address, rest @ ..]) if !rest.is_empty() => {
            membership::register(instance, address, rest).map(Request::Register)
        }
        (
            "STATUS" | "CUTOVER" | "REHEARSE" | "ABORT" | "FINALIZE" | "REPORT" | "ROLLBACK"
            | "WAIT" | "LIST" | "HELP" | "JOURNAL" | "PROXIES" | "FORGET" | "LEAVE" | "REGISTER",
            _,
        ) => Err(form(&verb)),
        _ => Err(wrong(format!(
            "unknown subcommand '{}': try UPGRADE HELP",
            shown(words[0])
        ))),
    }
}

fn rollback(pool: &str, rest: &[&str]) -> Result<Request, Refusal> {
    let pool = pool.to_owned();
    let loss = |word: &str| word.eq_ignore_ascii_case("ACCEPT-LOSS");
    match rest {
        [] => Ok(Request::Rollback {
            pool,
            shard: None,
            accept_loss: None,
        }),
        [word, keys] if loss(word) => Ok(Request::Rollback {
            pool,
            shard: None,
            accept_loss: Some(number("ACCEPT-LOSS", keys)?),
        }),
        [word] if loss(word) => Err(form("ROLLBACK")),
        [shard] => Ok(Request::Rollback {
            pool,
            shard: Some((*shard).to_owned()),
            accept_loss: None,
        }),
        [shard, word, keys] if loss(word) => Ok(Request::Rollback {
            pool,
            shard: Some((*shard).to_owned()),
            accept_loss: Some(number("ACCEPT-LOSS", keys)?),
        }),
        _ => Err(form("ROLLBACK")),
    }
}

fn start(verb: &str, rest: &[&str]) -> Result<Start, Refusal> {
    let [pool, to, rest @ ..] = rest else {
        return Err(form(verb));
    };
    if !to.eq_ignore_ascii_case("TO") {
        return Err(wrong(format!(
            "expected TO after the pool, got '{}': UPGRADE {}",
            hidden(to),
            usage(verb)
        )));
    }
    let mut words = rest.iter().copied().peekable();
    let mut targets: Vec<(String, String)> = Vec::new();
    while let Some((shard, url)) = words.peek().and_then(|word| word.split_once('=')) {
        if shard.is_empty() || url.is_empty() {
            return Err(wrong(format!("'{shard}={}' is not shard=url", hidden(url))));
        }
        if targets.iter().any(|(seen, _)| seen == shard) {
            return Err(wrong(format!("shard '{}' is named twice", shown(shard))));
        }
        if targets.len() >= SHARDS_MAX {
            return Err(wrong(format!("more than {SHARDS_MAX} shards")));
        }
        targets.push((shard.to_owned(), url.to_owned()));
        words.next();
    }
    if targets.is_empty() {
        let given = words.peek().map(|word| format!(", but '{}'", hidden(word)));
        return Err(wrong(format!(
            "no shard=url after TO{}: UPGRADE {}",
            given.unwrap_or_default(),
            usage(verb)
        )));
    }
    let mut options = Options {
        snapshot: SnapshotChoice::Recipe(LOCAL.to_owned()),
        cutover: CutoverMode::Auto,
        hold_max_ms: HOLD_MAX_DEFAULT_MS,
        soak_s: None,
        replace: false,
        accept: Vec::new(),
    };
    while let Some(word) = words.next() {
        let name = word.to_ascii_uppercase();
        let mut value = || {
            words
                .next()
                .ok_or_else(|| wrong(format!("{name} needs a value")))
        };
        match name.as_str() {
            "LINK" => link(value()?)?,
            "SNAPSHOT" => options.snapshot = snapshot(value()?)?,
            "CUTOVER" => options.cutover = cutover(value()?)?,
            "HOLD-MAX" => {
                options.hold_max_ms = number("HOLD-MAX", value()?)?;
                if options.hold_max_ms == 0 || options.hold_max_ms > HOLD_MAX_LIMIT_MS {
                    return Err(wrong(format!("HOLD-MAX is 1 to {HOLD_MAX_LIMIT_MS} ms")));
                }
            }
            "SOAK" => options.soak_s = Some(number("SOAK", value()?)?),
            "REPLACE" => options.replace = true,
            "ACCEPT" => {
                options.accept.push(value()?.to_ascii_lowercase());
                while let Some(code) = words.next_if(|word| !is_option(word)) {
                    options.accept.push(code.to_ascii_lowercase());
                }
            }
            _ => {
                return Err(wrong(format!(
                    "unknown option '{}': UPGRADE {}",
                    hidden(word),
                    usage(verb)
                )));
            }
        }
    }
    Ok(Start {
        pool: (*pool).to_owned(),
        targets,
        options,
    })
}

fn is_option(word: &str) -> bool {
    [
        "LINK", "SNAPSHOT", "CUTOVER", "HOLD-MAX", "SOAK", "REPLACE", "ACCEPT",
    ]
    .iter()
    .any(|option| option.eq_ignore_ascii_case(word))
}

fn link(value: &str) -> Result<(), Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "auto" | "native" => Ok(()),
        name @ ("relay" | "copy") => Err(Refusal::Blocked(format!(
            "link-missing: the {name} link is not in this build; use LINK native, for pairs of servers that allow it"
        ))),
        _ => Err(wrong(format!(
            "no link '{}': auto native relay copy",
            shown(value)
        ))),
    }
}

/// Which recipes there are is known to the providers; here it only has to look like one.
fn snapshot(value: &str) -> Result<SnapshotChoice, Refusal> {
    let name = value.to_ascii_lowercase();
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > RECIPE_NAME_MAX || !name.chars().all(letter) {
        return Err(wrong(format!(
            "'{}' is no name of a snapshot recipe: up to {RECIPE_NAME_MAX} letters, digits, '-', '_' and '.'",
            shown(value)
        )));
    }
    Ok(SnapshotChoice::from(name))
}

fn cutover(value: &str) -> Result<CutoverMode, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "auto" => Ok(CutoverMode::Auto),
        "manual" => Ok(CutoverMode::Manual),
        _ => Err(wrong(format!(
            "CUTOVER is auto or manual, not '{}'",
            shown(value)
        ))),
    }
}

fn number(name: &str, value: &str) -> Result<u64, Refusal> {
    value
        .parse()
        .map_err(|_not| wrong(format!("{name} is a whole number, not '{}'", shown(value))))
}

/// What an error repeats of an argument: bounded, on one line.
fn shown(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .take(64)
        .collect()
}

/// An argument that may be a URL with a password is not repeated.
fn hidden(text: &str) -> String {
    if text.contains('@') {
        "…@…".to_owned()
    } else {
        shown(text)
    }
}

mod membership;
#[cfg(test)]
mod tests;
