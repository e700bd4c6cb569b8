//! Reads a recipe: from a tree to types that cannot be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use understudy_config::Problems;

use super::names::check_names;
use super::read_parts::{
    again, change, change_of, conflict, consistency, deadlines, kind, lookup, param, quiesce,
    resolve, rule,
};
use super::read_predicate::{predicate, reference};
use super::read_step::{handle, new_object, steps};
use super::walk::{At, Found, Keys};
use super::{
    AskToDelete, Consistency, Delete, DeleteBy, Kind, Lookup, Need, Reached, Recipe, Restore,
    RestoreMode, Scope, Scratch, ScratchInto, VERSION,
};

/// Reads a whole recipe (with what it extends merged in), or tells everything that is wrong with it.
pub fn read(tree: &Value) -> Result<Recipe, Problems> {
    let found = Found::default();
    let recipe = root(At::root(tree, &found));
    if let Some(recipe) = &recipe {
        check_names(recipe, &found);
    }
    let problems = found.into_problems();
    match recipe {
        Some(recipe) if problems.is_empty() => Ok(recipe),
        _ => Err(Problems(problems)),
    }
}

/// What is wrong and must be there is filled with anything, so that the names in the rest are looked at too.
fn root(at: At<'_>) -> Option<Recipe> {
    let found = at.found;
    let keys = at.keys()?;
    let name = keys.must("recipe", "write the recipe's name", |at| {
        let name = at.text()?;
        let fits = name.len() <= 40
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .chars()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-');
        if !fits {
            at.wrong(
                "cannot be a name",
                "write at most 40 of a-z, 0-9 and -, a letter first",
            );
        }
        Some(name)
    });
    keys.must("version", "write `version: 1`", |at| {
        if at.value.as_u64() != Some(VERSION) {
            at.wrong(
                format!("{} is not a version that is known", at.value),
                "write 1",
            );
        }
        Some(())
    });
    let _merged = keys.has("extends");
    let title = keys.must("title", "name the system", |at| at.text());
    let enabled = keys.may("enabled", |at| at.bool()).unwrap_or(true);
    let notes = keys.list("notes", |at| at.text());
    let scopes = [
        ("pvc", Scope::Pvc),
        ("selector", Scope::Selector),
        ("app", Scope::App),
    ];
    let scope = keys.must("scope", "write pvc, selector or app", |at| at.word(&scopes));
    let consistency = keys.must("consistency", "write alone, quiesced and why", consistency);
    let quiesce = keys.may("quiesce", quiesce).unwrap_or_default();
    let mut kinds = builtin_kinds();
    kinds.extend(keys.map("kinds", kind));
    let params: BTreeMap<_, _> = keys.map("params", param).into_iter().collect();
    let expect = keys.may("expect", |at| at.text());
    let resolve = keys.list("resolve", resolve);
    let conflict = keys.may("conflict", conflict);
    let prepare = keys.list("prepare", change);
    let steps = steps(&keys);
    let handle: BTreeMap<_, _> = keys.map("handle", handle).into_iter().collect();
    if handle.is_empty() {
        let remedy = "write what is kept of a snapshot: `handle: {name: $.metadata.name}`";
        found.add("handle", "is missing", remedy);
    }
    let deadlines = keys.may("deadlines", deadlines).unwrap_or_default();
    let again = keys.may("again", again).unwrap_or_default();
    let protect = keys.list("protect", change);
    let restore = keys.may("restore", restore);
    let scratch = keys.may("scratch", scratch);
    let delete = keys.may("delete", delete);
    let rbac = keys.list("rbac", rule);
    keys.nothing_else();
    Some(Recipe {
        name: name.unwrap_or_default(),
        title: title.unwrap_or_default(),
        enabled,
        notes,
        scope: scope.unwrap_or(Scope::Pvc),
        consistency: consistency.unwrap_or(Consistency {
            alone: Reached::None,
            quiesced: Reached::None,
            why: String::new(),
        }),
        quiesce,
        kinds,
        params,
        expect,
        resolve,
        conflict,
        prepare,
        steps,
        handle,
        deadlines,
        again,
        protect,
        restore,
        scratch,
        delete,
        rbac,
    })
}

fn restore(at: At<'_>) -> Option<Restore> {
    let keys = at.keys()?;
    let modes = [
        ("newPVC", RestoreMode::NewPvc),
        ("inPlace", RestoreMode::InPlace),
        ("app", RestoreMode::App),
        ("manual", RestoreMode::Manual),
    ];
    let mode = keys.must("mode", "write newPVC, inPlace, app or manual", |at| {
        at.word(&modes)
    });
    let needs = [
        ("detached", Need::Detached),
        ("pvcAbsent", Need::PvcAbsent),
        ("sameNode", Need::SameNode),
        ("sameSize", Need::SameSize),
    ];
    let needs = keys.list("needs", |at| at.word(&needs));
    let resolve = keys.list("resolve", resolve);
    let by_hand = keys.may("byHand", |at| at.text()).unwrap_or_default();
    let manual = mode == Some(RestoreMode::Manual);
    if manual && by_hand.is_empty() {
        keys.wrong("says nowhere how to restore", "write `byHand: …`");
    }
    let steps = if manual { Vec::new() } else { steps(&keys) };
    keys.nothing_else();
    Some(Restore {
        mode: mode?,
        needs,
        resolve,
        steps,
        by_hand,
    })
}

fn scratch(at: At<'_>) -> Option<Scratch> {
    let keys = at.keys()?;
    let places = [
        ("made", ScratchInto::Made),
        ("filled", ScratchInto::Filled),
        ("namespace", ScratchInto::Namespace),
        ("nowhere", ScratchInto::Nowhere),
    ];
    let into = keys.must("into", "write made, filled, namespace or nowhere", |at| {
        at.word(&places)
    });
    let limits = keys.list("limits", |at| at.text());
    let nowhere = into == Some(ScratchInto::Nowhere);
    let because = keys.may("because", |at| at.text()).unwrap_or_default();
    if nowhere && because.is_empty() {
        keys.wrong("does not say why", "write `because: …`");
    }
    let (resolve, steps, leaves) = if nowhere {
        (Vec::new(), Vec::new(), Vec::new())
    } else {
        let resolve = keys.list("resolve", resolve);
        let leaves = keys.list("leaves", |at| {
            let keys = at.keys()?;
            let read = lookup(&keys);
            if !["name", "labels", "where"].iter().any(|it| keys.has(it)) {
                let remedy = "write `name`, `labels` or `where`, by which ours is known";
                keys.wrong("would remove all there are", remedy);
            }
            keys.nothing_else();
            read
        });
        (resolve, steps(&keys), leaves)
    };
    keys.nothing_else();
    Some(Scratch {
        into: into.unwrap_or(ScratchInto::Made),
        limits,
        resolve,
        steps,
        leaves,
        because,
    })
}

fn delete(at: At<'_>) -> Option<Delete> {
    let keys = at.keys()?;
    let verbs = ["delete", "create", "patch", "nothing"].map(|verb| (verb, verb));
    let verb = keys.must("verb", "write delete, create, patch or nothing", |at| {
        at.word(&verbs)
    });
    let by = match verb? {
        "delete" => objects_to_delete(&keys),
        "create" => ask_to_delete(&keys),
        "patch" => change_of(&keys).map(|it| DeleteBy::Patch(Box::new(it))),
        _ => keys
            .must("because", "say who deletes it, and when", |at| at.text())
            .map(DeleteBy::Nothing),
    };
    let abandoned = keys.may("abandoned", |at| at.bool()).unwrap_or(false);
    keys.nothing_else();
    Some(Delete { by: by?, abandoned })
}

fn objects_to_delete(keys: &Keys<'_>) -> Option<DeleteBy> {
    let objects = keys.list("objects", named);
    if objects.is_empty() {
        keys.wrong("deletes nothing", "write `objects: [{kind: …, name: …}]`");
    }
    Some(DeleteBy::Objects(objects))
}

fn ask_to_delete(keys: &Keys<'_>) -> Option<DeleteBy> {
    let resolve = keys.list("resolve", resolve);
    let object = new_object(keys);
    let gone = keys.list("gone", named);
    let done = keys.may("done", predicate);
    let failed = keys.may("failed", predicate);
    let message = keys.list("message", reference);
    let wait = keys.may("wait", |at| at.duration());
    Some(DeleteBy::Ask(Box::new(AskToDelete {
        resolve,
        object: object?,
        gone,
        done,
        failed,
        message,
        wait: wait.unwrap_or(AskToDelete::WAIT),
    })))
}

/// One object by its name.
fn named(at: At<'_>) -> Option<Lookup> {
    let keys = at.keys()?;
    let read = lookup(&keys);
    if !keys.has("name") {
        keys.wrong("names no object", "write `name: …`");
    }
    keys.nothing_else();
    read
}

impl AskToDelete {
    /// How long is waited for the system. Default: 10 min.
    pub const WAIT: Duration = Duration::from_secs(600);
}

/// Kinds that every cluster serves, by the names that every recipe may use.
fn builtin_kinds() -> BTreeMap<String, Kind> {
    let rows = [
        (
            "pvc",
            "",
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            false,
        ),
        (
            "pv",
            "",
            "v1",
            "PersistentVolume",
            "persistentvolumes",
            true,
        ),
        ("pod", "", "v1", "Pod", "pods", false),
        ("secret", "", "v1", "Secret", "secrets", false),
        ("configmap", "", "v1", "ConfigMap", "configmaps", false),
        ("event", "", "v1", "Event", "events", false),
        ("job", "batch", "v1", "Job", "jobs", false),
        ("cronjob", "batch", "v1", "CronJob", "cronjobs", false),
        (
            "statefulset",
            "apps",
            "v1",
            "StatefulSet",
            "statefulsets",
            false,
        ),
        (
            "storageclass",
            "storage.k8s.io",
            "v1",
            "StorageClass",
            "storageclasses",
            true,
        ),
    ];
    let kind =
        |(name, group, version, kind, plural, cluster): (&str, &str, &str, &str, &str, bool)| {
            let kind = Kind {
                cluster,
                ..Kind::own(group, version, kind, plural)
            };
            (name.to_owned(), kind)
        };
    rows.into_iter().map(kind).collect()
}
