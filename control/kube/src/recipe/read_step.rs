//! Reads triggers, and how their end is seen.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::read_parts::{change_of, deadlines, resolve, template};
use super::read_predicate::{demand, predicate, reference};
use super::walk::{At, Keys};
use super::{
    Absent, Auth, Deadlines, Find, Handle, Http, HttpTrigger, Login, Logout, NewObject, Observe,
    Step, Trigger, Via, When,
};

/// Shortest time between two looks: an API server is shared.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// What a request may be.
const METHODS: [(&str, &str); 4] = [
    ("GET", "GET"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("DELETE", "DELETE"),
];

/// The steps of a map: `steps: […]`, or the keys of one step in the map itself.
pub(super) fn steps(keys: &Keys<'_>) -> Vec<Step> {
    if keys.has("steps") && keys.has("trigger") {
        // One of them is too much; which, we cannot know.
        keys.wrong("has both `trigger` and `steps`", "keep one of them");
    } else if keys.has("steps") {
        return keys.list("steps", |at| {
            let keys = at.keys()?;
            let read = step(&keys, None);
            keys.nothing_else();
            read
        });
    }
    step(keys, Some("object")).into_iter().collect()
}

fn step(keys: &Keys<'_>, standard: Option<&str>) -> Option<Step> {
    let name = keys.may("as", |at| at.text());
    let name = name.or_else(|| standard.map(str::to_owned));
    if name.is_none() {
        keys.wrong("has no name", "write `as: name`");
    }
    let trigger = keys.must("trigger", "say what starts it", trigger);
    let observe = keys.may("observe", observe);
    let also = keys.list("also", resolve);
    let when = keys.must("when", "say at least when it is `ready`", when);
    let absent = [("failed", Absent::Failed), ("pending", Absent::Pending)];
    let absent = keys.may("absent", |at| at.word(&absent));
    let message = keys.list("message", reference);
    let progress = keys.may("progress", reference);
    let cut_time = keys.may("cutTime", reference);
    let expires = keys.may("expires", reference);
    let verify = keys.list("verify", demand);
    // The deadlines beside a recipe's only step are the recipe's.
    let own = match standard {
        None => keys.may("deadlines", deadlines),
        Some(_) => None,
    };
    Some(Step {
        name: name?,
        trigger: trigger?,
        observe: observe.unwrap_or(Observe {
            via: Via::Watch,
            every: Duration::from_secs(5),
        }),
        also,
        when: when.unwrap_or_default(),
        absent: absent.unwrap_or(Absent::Failed),
        message,
        progress,
        cut_time,
        expires,
        verify,
        deadlines: own.unwrap_or_else(Deadlines::default),
    })
}

fn trigger(at: At<'_>) -> Option<Trigger> {
    let keys = at.keys()?;
    let verbs = ["create", "apply", "patch", "jobFromCronJob", "http"].map(|verb| (verb, verb));
    let verb = keys.must(
        "verb",
        "write create, apply, patch, jobFromCronJob or http",
        |at| at.word(&verbs),
    );
    let read = match verb? {
        "create" => new_object(&keys).map(Trigger::Create),
        "apply" => new_object(&keys).map(Trigger::Apply),
        "patch" => change_of(&keys).map(Trigger::Patch),
        "jobFromCronJob" => job(&keys),
        _ => http_trigger(&keys).map(|http| Trigger::Http(Box::new(http))),
    };
    keys.nothing_else();
    read
}

fn http_trigger(keys: &Keys<'_>) -> Option<HttpTrigger> {
    let http = http(keys);
    let auth = http.as_ref().and_then(|it| it.auth.clone());
    let (find, look_for) = keys
        .may("lost", |at| lost(at, auth.as_ref()))
        .unwrap_or_default();
    Some(HttpTrigger {
        http: http?,
        find,
        look_for,
    })
}

/// What is done when the answer is lost. The list is asked for as the same user, unless it says otherwise.
fn lost(at: At<'_>, standard: Option<&Auth>) -> Option<(Option<Find>, Option<Value>)> {
    let keys = at.keys()?;
    let look_for = keys.must("lookFor", "say what a person looks for", template);
    let find = keys.may("find", |at| {
        let keys = at.keys()?;
        let http = http(&keys);
        let each = keys.must("each", "write the path of the list's elements", reference);
        let that = keys.must("that", "ask whether an element is of this run", predicate);
        let response = keys.must(
            "response",
            "write what the trigger would have answered, from `{{found…}}`",
            template,
        );
        keys.nothing_else();
        let mut http = http?;
        http.auth = http.auth.or_else(|| standard.cloned());
        Some(Find {
            http,
            each: each?,
            that: that?,
            response: response?,
        })
    });
    keys.nothing_else();
    Some((find, look_for))
}

pub(super) fn new_object(keys: &Keys<'_>) -> Option<NewObject> {
    let kind = keys.must("kind", "write a name of `kinds`", |at| at.text());
    let namespace = keys.may("namespace", template);
    let name = keys.may("name", template);
    let generate_name = keys.may("generateName", |at| at.bool()).unwrap_or(false);
    let object = keys.must("object", "write the object, without kind and name", |at| {
        if !at.value.is_object() {
            at.wrong("is not a map", "write `spec: …` below it");
        }
        let spared = ["apiVersion", "kind"]
            .iter()
            .any(|key| at.value.get(key).is_some())
            || ["name", "namespace", "generateName"]
                .iter()
                .any(|key| at.value["metadata"].get(key).is_some());
        if spared {
            at.wrong(
                "says what `kind`, `name` and `namespace` beside it say",
                "remove apiVersion, kind, metadata.name and metadata.namespace from it",
            );
        }
        Some(at.value.clone())
    });
    Some(NewObject {
        kind: kind?,
        namespace,
        name,
        generate_name,
        object: object?,
    })
}

fn job(keys: &Keys<'_>) -> Option<Trigger> {
    let from = keys.must("from", "name the resolved CronJob", |at| at.text());
    let namespace = keys.may("namespace", template);
    let name = keys.may("name", template);
    let set = keys.may("set", |at| {
        at.keys()?;
        Some(at.value.clone())
    });
    let env: BTreeMap<String, Value> = keys.map("env", template).into_iter().collect();
    Some(Trigger::JobFromCronJob {
        from: from?,
        job: NewObject {
            kind: "job".to_owned(),
            namespace,
            name,
            generate_name: false,
            object: json!({ "spec": set.unwrap_or_else(|| json!({})) }),
        },
        env,
    })
}

pub(super) fn http(keys: &Keys<'_>) -> Option<Http> {
    let method = keys.may("method", |at| at.word(&METHODS));
    let url = keys.must("url", "write the URL", url);
    let headers = keys.map("headers", template).into_iter().collect();
    let body = keys.may("body", template);
    let auth = keys.may("auth", auth);
    let timeout = keys.may("timeout", |at| at.duration());
    Some(Http {
        method: method.unwrap_or("GET").to_owned(),
        url: url?,
        headers,
        body,
        auth,
        timeout: timeout.unwrap_or(Duration::from_secs(10)),
    })
}

/// An address; what a template begins is looked at when it is asked.
fn url(at: At<'_>) -> Option<Value> {
    let text = at.text()?;
    let (scheme, rest) = text.split_once("://").unwrap_or(("", &text));
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if text.starts_with("{{") || (matches!(scheme, "http" | "https") && !host.is_empty()) {
        return Some(at.value.clone());
    }
    at.wrong(
        format!("`{text}` names no host"),
        "write `https://host/path`, or begin with a parameter: `{{params.url}}/path`",
    );
    Some(at.value.clone())
}

fn auth(at: At<'_>) -> Option<Auth> {
    let keys = at.keys()?;
    let namespace = keys.may("namespace", template);
    let secret = keys.must("secret", "name the Secret", template);
    let header = keys.may("header", |at| at.text());
    let value = keys.must("value", "write `{{secret.token}}` or `{{token}}`", template);
    let login = keys.may("login", |at| {
        let keys = at.keys()?;
        let url = keys.must("url", "write the URL", url);
        let body = keys.must("body", "write what is sent", template);
        let token = keys.must("token", "say where the token is", reference);
        let lasts = keys.may("lasts", |at| at.duration());
        keys.nothing_else();
        Some(Login {
            url: url?,
            body: body?,
            token: token?,
            lasts,
        })
    });
    let logout = keys.may("logout", |at| {
        let keys = at.keys()?;
        let method = keys.may("method", |at| at.word(&METHODS));
        let url = keys.must("url", "write the URL", url);
        keys.nothing_else();
        Some(Logout {
            method: method.unwrap_or("POST").to_owned(),
            url: url?,
        })
    });
    if logout.is_some() && login.is_none() {
        keys.wrong(
            "has a `logout` and no `login`",
            "write `login`, or remove `logout`",
        );
    }
    keys.nothing_else();
    Some(Auth {
        namespace,
        secret: secret?,
        header: header.unwrap_or_else(|| "Authorization".to_owned()),
        value: value?,
        login,
        logout,
    })
}

fn observe(at: At<'_>) -> Option<Observe> {
    let keys = at.keys()?;
    let words = ["watch", "poll", "httpPoll"].map(|word| (word, word));
    let via = keys.may("via", |at| at.word(&words)).unwrap_or("watch");
    let every = keys.may("every", |at| {
        let every = at.duration()?;
        if every < EVERY_MIN {
            at.wrong("looks too often", "write at least 100ms");
        }
        Some(every)
    });
    let via = match via {
        "watch" => Some(Via::Watch),
        "poll" => Some(Via::Poll),
        _ => http(&keys).map(|http| Via::Http(Box::new(http))),
    };
    keys.nothing_else();
    Some(Observe {
        via: via?,
        every: every.unwrap_or(Duration::from_secs(5)),
    })
}

fn when(at: At<'_>) -> Option<When> {
    let keys = at.keys()?;
    let when = When {
        accepted: keys.may("accepted", predicate),
        cut: keys.may("cut", predicate),
        ready: keys.must("ready", "say when it can be restored", predicate),
        failed: keys.may("failed", predicate),
        retryable: keys.may("retryable", predicate),
        skipped: keys.may("skipped", predicate),
    };
    keys.nothing_else();
    Some(when)
}

/// `$.path`, `name:$.path`, or `{from: …, json: $.path}`.
pub(super) fn handle(at: At<'_>) -> Option<Handle> {
    if at.value.is_string() {
        return Some(Handle {
            from: reference(at)?,
            json: None,
        });
    }
    let keys = at.keys()?;
    let from = keys.must("from", "say where it is", reference);
    let json = keys.must("json", "say where it is in the JSON", reference);
    keys.nothing_else();
    Some(Handle {
        from: from?,
        json: Some(json?),
    })
}
