//! What one system's controller writes: `tests/players/<recipe>.yaml`. Unknown keys are refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};
use understudy_kube::cluster::memory::Gate;

/// One system's part.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Part {
    /// The level that is asked for.
    #[serde(default = "app")]
    pub(crate) level: String,
    /// The driver of the volume.
    #[serde(default = "driver")]
    pub(crate) driver: String,
    /// Parameters of the recipe.
    #[serde(default)]
    pub(crate) params: Map<String, Value>,
    /// Whether its kinds have a status subresource.
    #[serde(default = "yes")]
    pub(crate) subresource: bool,
    /// Merged into the claim.
    #[serde(default)]
    pub(crate) claim: Value,
    /// What is there before.
    #[serde(default)]
    pub(crate) standing: Vec<Thing>,
    /// For each step but the last one, what makes it ready.
    #[serde(default)]
    pub(crate) earlier: Vec<State>,
    /// Part of every HTTP answer.
    #[serde(default)]
    pub(crate) answers: Value,
    /// The controller has taken it up.
    #[serde(default)]
    pub(crate) accepted: Option<State>,
    /// The point in time is fixed.
    #[serde(default)]
    pub(crate) cut: Option<State>,
    /// An error that it tries to overcome.
    #[serde(default)]
    pub(crate) retryable: Option<State>,
    /// It is done.
    pub(crate) ready: State,
    /// It says that it is done, and nothing is in it.
    #[serde(default)]
    pub(crate) nothing: Option<State>,
    /// It failed.
    #[serde(default)]
    pub(crate) failed: Option<State>,
    /// It chose not to.
    #[serde(default)]
    pub(crate) skipped: Option<State>,
    /// It waits for its turn.
    #[serde(default)]
    pub(crate) queued: Option<State>,
    /// Objects that are in the way of a trigger.
    #[serde(default)]
    pub(crate) busy: Vec<Thing>,
    /// The same objects when they are in the way no longer.
    #[serde(default)]
    pub(crate) idle: Vec<Thing>,
    /// It was ready.
    #[serde(default)]
    pub(crate) flipped: Option<State>,
    /// For each step of the restore, what makes it ready.
    #[serde(default)]
    pub(crate) restored: Vec<State>,
    /// For each step of `scratch`, what makes it ready; without `scratch` that is `restored`.
    #[serde(default)]
    pub(crate) verified: Vec<State>,
    /// What a request to delete says when it is done.
    #[serde(default)]
    pub(crate) deleted: Option<State>,
    /// What it says when it failed.
    #[serde(default)]
    pub(crate) undeleted: Option<State>,
    /// Scenarios that the system cannot show, and why.
    #[serde(default)]
    pub(crate) cannot: BTreeMap<String, String>,
    /// Whether the definitions at hand say which fields there are.
    #[serde(default = "yes")]
    pub(crate) schema: bool,
    /// Why there are no definitions of its kinds to try it on.
    #[serde(default)]
    pub(crate) recorded: Option<String>,
    /// What every write of ours must pass.
    #[serde(skip)]
    pub(crate) gate: Option<Gate>,
}

/// An object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thing {
    /// The recipe's name for its kind.
    pub(crate) kind: String,
    /// The object; templates in it are filled.
    pub(crate) object: Value,
}

/// What a controller writes at one moment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The whole status.
    #[serde(default)]
    pub(crate) status: Value,
    /// Merged into the object.
    #[serde(default)]
    pub(crate) object: Value,
    /// Other objects, put there first.
    #[serde(default)]
    pub(crate) beside: Vec<Thing>,
    /// The object goes.
    #[serde(default)]
    pub(crate) gone: bool,
    /// The answer of the system's own API.
    #[serde(default)]
    pub(crate) answer: Value,
    /// Its HTTP status.
    #[serde(default = "ok")]
    pub(crate) code: u16,
    /// What an error or the progress must tell of it.
    #[serde(default)]
    pub(crate) says: String,
}

fn app() -> String {
    "app".to_owned()
}

fn driver() -> String {
    "csi.example.com".to_owned()
}

fn yes() -> bool {
    true
}

fn ok() -> u16 {
    200
}

/// Where the data files are.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/players")
}

/// The part of a recipe's system.
pub(crate) fn part(recipe: &str) -> Part {
    let path = directory().join(format!("{recipe}.yaml"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    let tree: Value =
        serde_saphyr::from_str(&text).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    serde_json::from_value(tree).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}
