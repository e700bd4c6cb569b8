//! What an operator wrote of the cluster, as the provider wants it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use understudy_config::{Kubernetes, Problem, Problems, VerifyJob};

use crate::recipe::{Book, BookError, ParamType};

/// Where things are, and what recipes are told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Our namespace: records, and claims without one of their own.
    pub namespace: String,
    /// Parameters by recipe and name.
    pub params: BTreeMap<String, Map<String, Value>>,
    /// Claims by shard: (namespace, claim).
    pub volumes: BTreeMap<String, (String, String)>,
    /// The Job that reads a snapshot back.
    pub verify: VerifyJob,
}

impl Settings {
    /// Reads the config's section against the recipes; `namespace` is used where the section names none.
    pub fn of(config: &Kubernetes, book: &Book, namespace: &str) -> Result<Self, Problems> {
        let namespace = config
            .namespace
            .clone()
            .unwrap_or_else(|| namespace.to_owned());
        let mut problems = Vec::new();
        let mut wrong = |path: String, what: String, remedy: String| {
            problems.push(Problem {
                path,
                line: 0,
                what,
                remedy,
            });
        };
        let mut params: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (name, texts) in &config.params {
            let path = format!("kubernetes.params.{name}");
            let Some(recipe) = book.find(name) else {
                wrong(
                    path,
                    "is no recipe".to_owned(),
                    format!("known: {}", book.names().join(", ")),
                );
                continue;
            };
            for (key, text) in texts {
                let path = format!("{path}.{key}");
                let Some(param) = recipe.params.get(key) else {
                    let known: Vec<&str> = recipe.params.keys().map(String::as_str).collect();
                    wrong(
                        path,
                        "is no parameter of it".to_owned(),
                        format!("known: {}", known.join(", ")),
                    );
                    continue;
                };
                match param.of.read(text) {
                    Some(value) => {
                        params
                            .entry(name.clone())
                            .or_default()
                            .insert(key.clone(), value);
                    }
                    None => wrong(
                        path,
                        format!("`{text}` is not of type {}", param.of.as_str()),
                        param.help.clone(),
                    ),
                }
            }
        }
        for (shard, volume) in &config.volumes {
            let home = volume.namespace.as_ref().unwrap_or(&namespace);
            if config.verify.namespace.as_ref() == Some(home) {
                wrong(
                    "kubernetes.verify.namespace".to_owned(),
                    format!("is where the server of {shard} has its claim"),
                    "name one that is there for reading back alone".to_owned(),
                );
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let volumes = config.volumes.iter().map(|(shard, volume)| {
            let home = volume
                .namespace
                .clone()
                .unwrap_or_else(|| namespace.clone());
            (shard.clone(), (home, volume.claim.clone()))
        });
        Ok(Self {
            volumes: volumes.collect(),
            params,
            namespace,
            verify: config.verify.clone(),
        })
    }
}

/// The recipes that a config's section names: the shipped ones and those of its directory.
pub fn book_of(config: &Kubernetes) -> Result<Book, BookError> {
    match &config.recipes_dir {
        Some(directory) => Book::with_directory(directory),
        None => Book::builtin(),
    }
}

impl ParamType {
    /// A value from the text of a config: `a=b,c=d` for a map, `a,b` for a list.
    #[must_use]
    pub fn read(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::String | Self::Duration => json!(text),
            Self::Int => json!(text.parse::<i64>().ok()?),
            Self::Bool => json!(text.parse::<bool>().ok()?),
            Self::List => json!(
                text.split(',')
                    .map(str::trim)
                    .filter(|it| !it.is_empty())
                    .collect::<Vec<_>>()
            ),
            Self::Map => {
                let mut map = Map::new();
                for pair in text.split(',').filter(|it| !it.trim().is_empty()) {
                    let (key, value) = pair.split_once('=')?;
                    map.insert(key.trim().to_owned(), json!(value.trim()));
                }
                Value::Object(map)
            }
        };
        self.accepts(&value).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use understudy_config::{Kubernetes, VerifyJob, VolumeClaim};

    use super::{Book, Settings};

    #[test]
    fn a_namespace_for_reading_back_that_holds_a_server_is_refused() {
        let book = Book::builtin().unwrap();
        let config = |verify: &str| Kubernetes {
            volumes: [(
                "s1".to_owned(),
                VolumeClaim {
                    claim: "data-0".to_owned(),
                    namespace: None,
                },
            )]
            .into(),
            verify: VerifyJob {
                namespace: Some(verify.to_owned()),
                ..VerifyJob::default()
            },
            ..Kubernetes::default()
        };
        assert!(Settings::of(&config("read-back"), &book, "redis").is_ok());
        let refused = Settings::of(&config("redis"), &book, "redis").unwrap_err();
        let told = refused.to_string();
        assert!(
            told.contains("kubernetes.verify.namespace: is where the server of s1"),
            "{told}"
        );
    }
}
