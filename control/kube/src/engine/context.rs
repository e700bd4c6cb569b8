//! Whose snapshot it is: what templates may name, and what our objects carry.

use serde_json::{Map, Value, json};
use understudy_control::snapshot::{Level, SnapshotHandle};

use super::run::{millis, rfc3339_ms};
use super::server::Facts;
use crate::recipe::{Recipe, Vars, parse_duration};

/// The label that names the run.
pub const LABEL_RUN: &str = "understudy.io/run";
/// The label that names the pool.
pub const LABEL_POOL: &str = "understudy.io/pool";
/// The label that names the shard.
pub const LABEL_SHARD: &str = "understudy.io/shard";
/// What every object that we make is annotated with, behind `understudy.io/`.
pub const ANNOTATIONS: [&str; 7] = [
    "offset", "keys", "version", "run-id", "level", "server", "taken-at",
];

/// Whose snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The run's name for good.
    pub run: String,
    /// Pool.
    pub pool: String,
    /// Shard.
    pub shard: String,
    /// The server, as a URL without password.
    pub server: String,
    /// How far it is quieted first.
    pub level: Level,
    /// The claim's namespace.
    pub namespace: String,
    /// The claim's name.
    pub claim: String,
    /// Parameters that the operator set.
    pub params: Map<String, Value>,
}

/// A request and the recipe that it is for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'c> {
    /// Whose snapshot.
    pub request: &'c Request,
    /// How.
    pub recipe: &'c Recipe,
}

impl Context<'_> {
    /// What every template may name. `now_ms` is the wall clock.
    #[must_use]
    pub fn vars(&self, now_ms: i64) -> Vars {
        let request = self.request;
        let mut params = Map::new();
        for (name, param) in &self.recipe.params {
            let set = request.params.get(name).unwrap_or(&param.default);
            params.insert(name.clone(), set.clone());
        }
        let keep = params
            .get("keep")
            .and_then(Value::as_str)
            .and_then(parse_duration);
        let mut vars = Vars::new();
        for (name, value) in [
            ("run", json!(request.run)),
            ("pool", json!(request.pool)),
            ("shard", json!(request.shard)),
            ("server", json!(request.server)),
            ("level", json!(request.level.to_string())),
            (
                "claim",
                json!({"name": request.claim, "namespace": request.namespace}),
            ),
            ("now", json!(rfc3339_ms(now_ms))),
            ("expect", json!(1)),
            ("params", Value::Object(params)),
        ] {
            vars.insert(name.to_owned(), value);
        }
        if let Some(keep) = keep {
            vars.insert(
                "expires".to_owned(),
                json!(rfc3339_ms(now_ms + millis(keep))),
            );
        }
        vars
    }

    /// What is wrong with the parameters that were set: (its name, what, what to write).
    #[must_use]
    pub fn wrong_params(&self) -> Vec<(String, String, String)> {
        let known = &self.recipe.params;
        let mut wrong = Vec::new();
        for (name, value) in &self.request.params {
            match known.get(name) {
                None => {
                    let names: Vec<&str> = known.keys().map(String::as_str).collect();
                    wrong.push((
                        name.clone(),
                        "is not known".to_owned(),
                        format!("known: {}", names.join(", ")),
                    ));
                }
                Some(param) if !param.of.accepts(value) => {
                    let what = format!("{value} is not of type {}", param.of.as_str());
                    wrong.push((name.clone(), what, param.help.clone()));
                }
                Some(_) => {}
            }
        }
        for (name, param) in known {
            if param.required && !self.request.params.contains_key(name) {
                wrong.push((name.clone(), "must be set".to_owned(), param.help.clone()));
            }
        }
        wrong
    }

    /// The labels of everything that we make.
    #[must_use]
    pub fn labels(&self) -> Value {
        json!({
            LABEL_RUN: label(&self.request.run),
            LABEL_POOL: label(&self.request.pool),
            LABEL_SHARD: label(&self.request.shard),
        })
    }

    /// What is known of the server, as annotations.
    #[must_use]
    pub fn annotations(&self, facts: &Facts, level: &str) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                map.insert(format!("understudy.io/{name}"), Value::String(value));
            }
        };
        put("offset", facts.offset.map(|it| it.to_string()));
        put("keys", facts.keys.map(|it| it.to_string()));
        put("version", facts.version.clone());
        put("run-id", facts.run_id.clone());
        put("level", Some(level.to_owned()));
        put("server", Some(self.request.server.clone()));
        Value::Object(map)
    }

    /// A handle with what annotations say.
    #[must_use]
    pub fn handle_of(&self, object: &Value) -> SnapshotHandle {
        let annotations = &object["metadata"]["annotations"];
        let text = |name: &str| {
            annotations[format!("understudy.io/{name}").as_str()]
                .as_str()
                .map(str::to_owned)
        };
        let request = self.request;
        SnapshotHandle {
            id: request.run.clone(),
            run: request.run.clone(),
            recipe: self.recipe.name.clone(),
            pool: request.pool.clone(),
            shard: request.shard.clone(),
            server: request.server.clone(),
            level_reached: text("level").unwrap_or_default(),
            offset: text("offset").and_then(|it| it.parse().ok()),
            keys: text("keys").and_then(|it| it.parse().ok()),
            run_id: text("run-id"),
            version: text("version"),
            ..SnapshotHandle::default()
        }
    }
}

/// A text as the value of a label: what a label may not hold becomes a hyphen, and it is cut at 63.
#[must_use]
pub fn label(text: &str) -> String {
    let kept: String = text
        .chars()
        .map(|it| {
            if it.is_ascii_alphanumeric() || "-_.".contains(it) {
                it
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    kept.trim_matches(|it: char| !it.is_ascii_alphanumeric())
        .to_owned()
}
