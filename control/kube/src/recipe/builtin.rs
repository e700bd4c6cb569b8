//! The recipes that ship, and the operator's own beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use understudy_config::{Problem, Problems};

use super::{Recipe, merge, read};

/// Every shipped recipe: its file's name without ending, and its text.
pub const BUILTIN: &[(&str, &str)] = &[
    ("commvault", include_str!("../../recipes/commvault.yaml")),
    (
        "commvault-job",
        include_str!("../../recipes/commvault-job.yaml"),
    ),
    ("csi", include_str!("../../recipes/csi.yaml")),
    ("csi-group", include_str!("../../recipes/csi-group.yaml")),
    ("k8up", include_str!("../../recipes/k8up.yaml")),
    ("kanister", include_str!("../../recipes/kanister.yaml")),
    ("kasten", include_str!("../../recipes/kasten.yaml")),
    (
        "kasten-policy",
        include_str!("../../recipes/kasten-policy.yaml"),
    ),
    ("kubemove", include_str!("../../recipes/kubemove.yaml")),
    ("kubestash", include_str!("../../recipes/kubestash.yaml")),
    ("longhorn", include_str!("../../recipes/longhorn.yaml")),
    (
        "longhorn-csi",
        include_str!("../../recipes/longhorn-csi.yaml"),
    ),
    (
        "longhorn-snapshot",
        include_str!("../../recipes/longhorn-snapshot.yaml"),
    ),
    (
        "openebs-csi",
        include_str!("../../recipes/openebs-csi.yaml"),
    ),
    (
        "openebs-velero",
        include_str!("../../recipes/openebs-velero.yaml"),
    ),
    ("restic", include_str!("../../recipes/restic.yaml")),
    ("stash", include_str!("../../recipes/stash.yaml")),
    ("stork", include_str!("../../recipes/stork.yaml")),
    ("stork-app", include_str!("../../recipes/stork-app.yaml")),
    (
        "stork-group",
        include_str!("../../recipes/stork-group.yaml"),
    ),
    (
        "trident-csi",
        include_str!("../../recipes/trident-csi.yaml"),
    ),
    (
        "trident-protect",
        include_str!("../../recipes/trident-protect.yaml"),
    ),
    ("trilio", include_str!("../../recipes/trilio.yaml")),
    ("velero", include_str!("../../recipes/velero.yaml")),
    ("volsync", include_str!("../../recipes/volsync.yaml")),
];

/// How many recipes may extend each other in a row.
const DEPTH_MAX: usize = 4;

/// Every recipe by name.
#[derive(Clone, Debug, Default)]
pub struct Book {
    recipes: BTreeMap<String, Recipe>,
}

/// Why there is no book.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The directory of recipes cannot be read.
    #[error("read {path}: {cause}")]
    Read {
        /// The directory or file.
        path: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Recipes are wrong; each problem starts with its file.
    #[error("recipes are not valid:\n{0}")]
    Invalid(Problems),
}

impl Book {
    /// The shipped recipes.
    pub fn builtin() -> Result<Self, BookError> {
        Self::of(&[])
    }

    /// The shipped recipes and the `*.yaml` of a directory, which may replace or extend them.
    pub fn with_directory(directory: &Path) -> Result<Self, BookError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            |cause| BookError::Read { path, cause }
        };
        let mut own = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            if path
                .extension()
                .is_some_and(|it| it == "yaml" || it == "yml")
            {
                let text = fs::read_to_string(&path).map_err(failed(&path))?;
                own.push((path.display().to_string(), text));
            }
        }
        own.sort();
        Self::of(&own)
    }

    /// The shipped recipes and these: (where it is from, its text).
    pub fn of(own: &[(String, String)]) -> Result<Self, BookError> {
        let mut problems = Vec::new();
        let mut trees: BTreeMap<String, (String, Value)> = BTreeMap::new();
        let shipped = BUILTIN
            .iter()
            .map(|(name, text)| (format!("{name}.yaml (shipped)"), (*text).to_owned()));
        for (from, text) in shipped.chain(own.iter().cloned()) {
            match parse(&text) {
                Ok(tree) => {
                    let name = tree["recipe"].as_str().unwrap_or(&from).to_owned();
                    if let Some((first, _)) = trees.get(&name)
                        && own.iter().any(|it| it.0 == *first)
                    {
                        let what = format!("`{name}` is a recipe of {first} already");
                        let remedy = "give it another name, or remove one of the files";
                        problems.push(problem(&from, "recipe", &what, remedy));
                        continue;
                    }
                    // A recipe that extends its own name extends the shipped one.
                    let tree = match trees.get(&name) {
                        Some((_, below)) if tree["extends"] == tree["recipe"] => {
                            merge(below, &tree)
                        }
                        _ => tree,
                    };
                    trees.insert(name, (from, tree));
                }
                Err(what) => {
                    let remedy = "look at the indent, the quotes and the keys of that line and the one before";
                    problems.push(problem(&from, "", &what, remedy));
                }
            }
        }
        let mut recipes = BTreeMap::new();
        for (name, (from, tree)) in &trees {
            let whole = match extended(tree, &trees) {
                Ok(whole) => whole,
                Err(what) => {
                    let known: Vec<&str> = trees.keys().map(String::as_str).collect();
                    let remedy = format!("name one of {}", known.join(", "));
                    problems.push(problem(from, "extends", &what, &remedy));
                    continue;
                }
            };
            match read(&whole) {
                Ok(recipe) => {
                    recipes.insert(name.clone(), recipe);
                }
                Err(Problems(all)) => problems.extend(
                    all.into_iter()
                        .map(|it| problem(from, &it.path, &it.what, &it.remedy)),
                ),
            }
        }
        if problems.is_empty() {
            return Ok(Self { recipes });
        }
        Err(BookError::Invalid(Problems(problems)))
    }

    /// One by its name, also one that is off.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Recipe> {
        self.recipes.get(name)
    }

    /// The names of those that are on.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.all()
            .filter(|recipe| recipe.enabled)
            .map(|recipe| recipe.name.clone())
            .collect()
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.values()
    }
}

fn parse(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str::<Value>(text).map_err(|cause| {
        // What follows the first line shows the text around it.
        let told = cause.to_string();
        let first = told.lines().next().unwrap_or_default();
        // The parser's own settings are not the reader's.
        let first = first.split(", set Dup").next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
    })
}

/// The tree with everything that it extends laid below it.
fn extended(tree: &Value, trees: &BTreeMap<String, (String, Value)>) -> Result<Value, String> {
    let mut whole = tree.clone();
    let mut name = tree["recipe"].clone();
    for _ in 0..DEPTH_MAX {
        let base = whole["extends"].clone();
        let Some(base_name) = base.as_str() else {
            return Ok(whole);
        };
        if base == name {
            // Merged already: the shipped recipe of the same name lay below it.
            return Ok(merge(&whole, &serde_json::json!({"extends": null})));
        }
        let Some((_, below)) = trees.get(base_name) else {
            return Err(format!("`{base_name}` is no recipe"));
        };
        // Whether it is on, and what its notes say, is each recipe's own.
        let own = serde_json::json!({"enabled": null, "notes": null, "extends": null});
        let mut next = merge(
            &merge(below, &own),
            &merge(&whole, &serde_json::json!({"extends": null})),
        );
        if let Some(further) = below.get("extends") {
            next["extends"] = further.clone();
        }
        name = base;
        whole = next;
    }
    Err(format!("it extends more than {DEPTH_MAX} recipes in a row"))
}

fn problem(from: &str, path: &str, what: &str, remedy: &str) -> Problem {
    let path = if path.is_empty() {
        from.to_owned()
    } else {
        format!("{from}: {path}")
    };
    Problem {
        path,
        line: 0,
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    }
}
