//! Reads the objects that a recipe names.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::drive::Engine;
use super::refuse::Refusals;
use super::run::unmet;
use crate::cluster::{Api, CallError, CallKind, Place};
use crate::predicate::{Objects, Truth};
use crate::recipe::{FillError, Lookup, Resolve, Vars, fill, fill_text};

/// What a look-up came to.
pub(super) enum Found {
    /// The object, or the list.
    Is(Value),
    /// Not there; or more than one, with their names.
    Not(String),
    /// A template that names what is not there (yet).
    Unnamed(FillError),
}

impl Engine<'_> {
    /// The API of a kind of the recipe, as it was found for this run.
    pub(super) fn api<'a>(
        &self,
        apis: &'a BTreeMap<String, Api>,
        kind: &str,
    ) -> Result<&'a Api, CallError> {
        apis.get(kind).ok_or_else(|| {
            let text = format!("this server does not serve the kind `{kind}`");
            CallError::new(CallKind::NotFound, text)
        })
    }

    /// A namespace: the template's, or the claim's; none for a kind of the cluster.
    pub(super) fn namespace(
        &self,
        api: &Api,
        template: Option<&Value>,
        vars: &Vars,
    ) -> Result<Option<String>, FillError> {
        if api.cluster {
            return Ok(None);
        }
        match template {
            Some(template) => fill_text(template, vars).map(Some),
            None => Ok(Some(self.context.request.namespace.clone())),
        }
    }

    /// Every kind of the recipe that is served, afresh. A kind that must be and is not is a refusal.
    pub(super) async fn discover(
        &self,
        refusals: &mut Refusals,
    ) -> Result<BTreeMap<String, Api>, CallError> {
        let mut apis = BTreeMap::new();
        for (name, kind) in &self.context.recipe.kinds {
            match self.cluster.served(kind).await {
                Ok(api) => {
                    apis.insert(name.clone(), api);
                }
                Err(cause) if cause.kind == CallKind::NotFound => {
                    if kind.detect {
                        let text = format!(
                            "{}.{} {} is not served: {}",
                            kind.plural,
                            kind.group,
                            kind.versions.join(" or "),
                            cause.text
                        );
                        let remedy = "install it, or use another recipe; a version that differs needs a recipe of its own";
                        refusals.add("snapshot-kind", text, remedy);
                    }
                }
                Err(cause) => return Err(cause),
            }
        }
        Ok(apis)
    }

    /// Reads what the recipe resolves into variables. What is wrong is told; what hangs on it is left out.
    pub(super) async fn resolve(
        &self,
        apis: &BTreeMap<String, Api>,
        all: &[Resolve],
        vars: &mut Vars,
        refusals: &mut Refusals,
    ) -> Result<(), CallError> {
        for entry in all {
            let what = || {
                let name = entry
                    .lookup
                    .name
                    .as_ref()
                    .and_then(|it| fill_text(it, vars).ok());
                format!(
                    "{} {}",
                    entry.lookup.kind,
                    name.unwrap_or_else(|| entry.name.clone())
                )
            };
            let value = match self.find(apis, &entry.lookup, entry.list, vars).await? {
                Found::Is(value) => value,
                Found::Not(_) | Found::Unnamed(_) if entry.optional => continue,
                Found::Not(text) => {
                    refusals.add(
                        "snapshot-missing",
                        format!("{}: {text}", what()),
                        "make it, or name another one in the recipe's parameters",
                    );
                    continue;
                }
                // What it hangs on is missing, and that was told.
                Found::Unnamed(_) if !refusals.0.is_empty() => continue,
                Found::Unnamed(cause) => {
                    refusals.add(
                        "snapshot-recipe",
                        format!("{}: {cause}", what()),
                        "set what it names",
                    );
                    continue;
                }
            };
            let objects = Objects {
                here: &value,
                named: vars,
            };
            if let Some((truth, text)) = unmet(&entry.require, objects) {
                let known = if truth == Truth::Unknown {
                    " (nobody has said yet)"
                } else {
                    ""
                };
                let (text, remedy) = text
                    .split_once("; ")
                    .map_or((text.as_str(), "look at the object"), |(text, remedy)| {
                        (text, remedy)
                    });
                refusals.add(
                    "snapshot-require",
                    format!("{}: {text}{known}", what()),
                    remedy,
                );
            }
            vars.insert(entry.name.clone(), value);
        }
        if let Some(expect) = &self.context.recipe.expect
            && let Some(Value::Array(list)) = vars.get(expect)
        {
            let count = list.len();
            if count == 0 {
                refusals.add(
                    "snapshot-empty",
                    format!("`{expect}` is empty: no volume would be in the snapshot"),
                    "look at the selector",
                );
            }
            vars.insert("expect".to_owned(), json!(count));
        }
        Ok(())
    }

    /// Looks an object or a list up.
    pub(super) async fn find(
        &self,
        apis: &BTreeMap<String, Api>,
        lookup: &Lookup,
        list: bool,
        vars: &Vars,
    ) -> Result<Found, CallError> {
        let api = match self.api(apis, &lookup.kind) {
            Ok(api) => api,
            // Of a kind that is not served there are none, and that is known.
            Err(_) if list => return Ok(Found::Is(Value::Array(Vec::new()))),
            Err(cause) => return Ok(Found::Not(cause.text)),
        };
        let named = (|| {
            let namespace = self.namespace(api, lookup.namespace.as_ref(), vars)?;
            let name = lookup.name.as_ref().map(|it| fill(it, vars)).transpose()?;
            let labels = lookup
                .labels
                .as_ref()
                .map(|it| fill(it, vars))
                .transpose()?;
            Ok((namespace, name.filter(|it| !it.is_null()), labels))
        })();
        let (namespace, name, labels) = match named {
            Ok(named) => named,
            Err(cause) => return Ok(Found::Unnamed(cause)),
        };
        if let Some(name) = name {
            let name = name.as_str().unwrap_or_default();
            if name.is_empty() {
                return Ok(Found::Not("its name is empty".to_owned()));
            }
            let at = Place {
                api,
                namespace: namespace.as_deref(),
                name,
            };
            return match self.cluster.get(at).await {
                Ok(object) => Ok(Found::Is(object)),
                Err(cause) if cause.kind == CallKind::NotFound => {
                    Ok(Found::Not("it is not there".to_owned()))
                }
                Err(cause) => Err(cause),
            };
        }
        if lookup.labels.is_none() && lookup.filter.is_none() && !list {
            return Ok(Found::Not("it has no name yet".to_owned()));
        }
        let labels: BTreeMap<String, String> = match labels {
            Some(Value::Object(map)) => map
                .into_iter()
                .filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())))
                .collect(),
            _ => BTreeMap::new(),
        };
        let mut found = self
            .cluster
            .list(api, namespace.as_deref(), &labels)
            .await?;
        if let Some(filter) = &lookup.filter {
            found.retain(|it| {
                super::run::ask(
                    filter,
                    Objects {
                        here: it,
                        named: vars,
                    },
                )
                .is_yes()
            });
        }
        if list {
            return Ok(Found::Is(Value::Array(found)));
        }
        match found.as_slice() {
            [one] => Ok(Found::Is(one.clone())),
            [] => Ok(Found::Not("there is none, and no name is set".to_owned())),
            many => {
                let names: Vec<&str> = many
                    .iter()
                    .filter_map(|it| it["metadata"]["name"].as_str())
                    .collect();
                Ok(Found::Not(format!(
                    "there are {}, and none is chosen for you: {}",
                    many.len(),
                    names.join(", ")
                )))
            }
        }
    }
}
