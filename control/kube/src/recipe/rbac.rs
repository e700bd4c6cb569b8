//! The rights that a recipe needs: what the preflight asks the API server, and what a chart renders.

use super::{FillError, Purpose, Recipe, Vars, fill_text};

/// One right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Its group; empty for the core group.
    pub group: String,
    /// Its resource, as `volumesnapshots` or `pods/log`.
    pub resource: String,
    /// What may be done.
    pub verb: String,
    /// Where; none for the whole cluster.
    pub namespace: Option<String>,
    /// What for.
    pub purpose: Purpose,
}

/// Every right of a recipe, one verb each. `vars` needs `claim` and `params` only; without `verify` those in its namespace are left out.
pub fn rights(recipe: &Recipe, vars: &Vars) -> Result<Vec<Right>, FillError> {
    let mut rights = Vec::new();
    for rule in &recipe.rbac {
        let Some(kind) = recipe.kinds.get(&rule.kind) else {
            continue; // The reader refuses such a recipe.
        };
        let namespace = match (&rule.namespace, kind.cluster) {
            (_, true) => None,
            (Some(template), false) => match fill_text(template, vars) {
                // Nobody has named a namespace where snapshots are read back: nothing is done there.
                Err(FillError::Missing(what)) if what.starts_with("verify.") => continue,
                filled => Some(filled?),
            },
            (None, false) => Some(fill_text(&"{{claim.namespace}}".into(), vars)?),
        };
        let resource = match &rule.subresource {
            Some(part) => format!("{}/{part}", kind.plural),
            None => kind.plural.clone(),
        };
        rights.extend(rule.verbs.iter().map(|verb| Right {
            group: kind.group.clone(),
            resource: resource.clone(),
            verb: verb.clone(),
            namespace: namespace.clone(),
            purpose: rule.purpose,
        }));
    }
    rights.sort();
    rights.dedup();
    Ok(rights)
}
