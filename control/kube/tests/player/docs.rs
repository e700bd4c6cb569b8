//! docs/backups is written from the recipes, the data files and what the player makes of them: a test fails when it is stale,
//! and `UNDERSTUDY_WRITE=1` rewrites it (`make docs-backups`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use understudy_kube::recipe::{
    Book, DeleteBy, HoldUntil, Purpose, QuiesceBy, Recipe, RestoreMode, Scope, ScratchInto,
};

use crate::data::{directory, part};
use crate::play::{Played, play_of};
use crate::scenario::ALL;

const GENERATED: &str = "<!-- Generated from the recipes and the player's results: `make docs-backups` rewrites it. -->\n";

/// What came of every scenario of a recipe: those that it cannot show, with the reason.
fn played(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let part = part(&recipe.name);
    let mut cannot = Vec::new();
    for (scenario, _, title) in ALL {
        if let Played::Cannot(why) = play_of(recipe, &part, scenario) {
            cannot.push((title, why));
        }
    }
    cannot
}

/// What was tried on the systems' own definitions, by recipe.
fn definitions() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(directory().join("crds.txt")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, what)| (name.to_owned(), what.to_owned()))
        .collect()
}

fn time(limit: Option<Duration>) -> String {
    limit.map_or_else(
        || "none".to_owned(),
        |it| match it.as_secs() {
            secs if secs % 3600 == 0 => format!("{} h", secs / 3600),
            secs if secs % 60 == 0 => format!("{} min", secs / 60),
            secs => format!("{secs} s"),
        },
    )
}

fn restore(recipe: &Recipe) -> &'static str {
    match recipe.restore.as_ref().map(|it| it.mode) {
        Some(RestoreMode::NewPvc) => "a new claim",
        Some(RestoreMode::InPlace) => "in place",
        Some(RestoreMode::App) => "by the system",
        Some(RestoreMode::Manual) | None => "by hand",
    }
}

fn read_back(recipe: &Recipe) -> &'static str {
    match recipe.way_back().map(|it| it.into) {
        Ok(ScratchInto::Made) => "from a claim made of it",
        Ok(ScratchInto::Filled) => "from a claim that it fills",
        Ok(ScratchInto::Namespace) => "in another namespace",
        Ok(ScratchInto::Nowhere) | Err(_) => "by hand",
    }
}

fn delete(recipe: &Recipe) -> &'static str {
    match recipe.delete.as_ref().map(|it| &it.by) {
        Some(DeleteBy::Objects(_)) => "yes",
        Some(DeleteBy::Ask(_) | DeleteBy::Patch(_)) => "asks the system to",
        Some(DeleteBy::Nothing(_)) | None => "no",
    }
}

fn table(book: &Book, tried: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    out += "| recipe | system | one run takes | alone | Redis quieted first | restore | read back | delete | played | tried on |\n";
    out += "|---|---|---|---|---|---|---|---|---|---|\n";
    for recipe in book.all() {
        let cannot = played(recipe).len();
        let scope = match recipe.scope {
            Scope::Pvc => "one claim",
            Scope::Selector => "claims by label",
            Scope::App => "an application",
        };
        let on = match tried.get(&recipe.name).map(String::as_str) {
            Some("real definitions") => "real definitions",
            Some(what) if what.starts_with("real") => "definitions without fields",
            Some(_) => "recorded shapes",
            None => "nothing",
        };
        let off = if recipe.enabled { "" } else { ", off" };
        writeln!(
            out,
            "| [{0}]({0}.md){off} | {1} | {scope} | {2} | {3} | {4} | {5} | {6} | {7} of {8} | {on} |",
            recipe.name,
            recipe.title,
            recipe.consistency.alone.as_str(),
            recipe.consistency.quiesced.as_str(),
            restore(recipe),
            read_back(recipe),
            delete(recipe),
            ALL.len() - cannot,
            ALL.len(),
        )
        .unwrap();
    }
    out
}

fn params(recipe: &Recipe, out: &mut String) {
    if recipe.params.is_empty() {
        *out += "No parameters.\n\n";
        return;
    }
    writeln!(
        out,
        "Parameters, in the config under `kubernetes.params.{}`:\n",
        recipe.name
    )
    .unwrap();
    *out += "| name | type | default | what |\n|---|---|---|---|\n";
    for (name, param) in &recipe.params {
        let default = match &param.default {
            _ if param.required => "must be set".to_owned(),
            serde_json::Value::Null => "none".to_owned(),
            serde_json::Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let help = param.help.replace('|', "\\|");
        writeln!(
            out,
            "| `{name}` | {} | {default} | {help} |",
            param.of.as_str()
        )
        .unwrap();
    }
    *out += "\n";
}

fn rights(recipe: &Recipe, out: &mut String) {
    *out += "Rights (the chart renders them; PLAN asks whether we have those for taking):\n\n| resource | verbs | where | for |\n|---|---|---|---|\n";
    for rule in &recipe.rbac {
        let kind = &recipe.kinds[&rule.kind];
        let group = if kind.group.is_empty() {
            "core"
        } else {
            &kind.group
        };
        let place = match &rule.namespace {
            _ if kind.cluster => "the cluster".to_owned(),
            Some(template) => format!("`{}`", template.as_str().unwrap_or_default()),
            None => "the claim's namespace".to_owned(),
        };
        let place = match place.as_str() {
            "`{{verify.namespace}}`" => "`kubernetes.verify.namespace`".to_owned(),
            _ => place,
        };
        let purpose = match rule.purpose {
            Purpose::Take => "taking",
            Purpose::Restore => "restoring",
            Purpose::Delete => "deleting",
        };
        writeln!(
            out,
            "| `{}` of {group} | {} | {place} | {purpose} |",
            kind.plural,
            rule.verbs.join(", ")
        )
        .unwrap();
    }
    *out += "\n";
}

fn page(recipe: &Recipe, tried: Option<&String>) -> String {
    let mut out = format!("{GENERATED}\n# {}: `{}`\n\n", recipe.title, recipe.name);
    if !recipe.enabled {
        out +=
            "It is **off**: a recipe of your own that extends it by its own name turns it on.\n\n";
    }
    writeln!(
        out,
        "`UPGRADE START … SNAPSHOT {}` takes one before each cutover. How recipes work: [recipes.md](../recipes.md).\n",
        recipe.name
    )
    .unwrap();
    out += "## What it needs\n\n";
    if !(recipe.kinds.values()).any(|it| it.detect && it.discover) {
        out += "No kind of its own in the cluster.\n";
    }
    for kind in recipe.kinds.values().filter(|it| it.detect && it.discover) {
        let versions = kind.versions.join(" or ");
        writeln!(
            out,
            "* `{}` of `{}`, version {versions}.",
            kind.kind, kind.group
        )
        .unwrap();
    }
    out += "\n";
    params(recipe, &mut out);
    rights(recipe, &mut out);
    let consistency = &recipe.consistency;
    out += "## How consistent it is\n\n";
    writeln!(
        out,
        "Alone `{}`; with Redis' data put on the disk first `{}`. {}\n",
        consistency.alone.as_str(),
        consistency.quiesced.as_str(),
        consistency.why
    )
    .unwrap();
    let quiesce = match recipe.quiesce.by {
        QuiesceBy::Engine => "We make Redis put its data on the disk before the trigger.",
        QuiesceBy::System => "The system's own hook quiets Redis.",
        QuiesceBy::Nobody => "Nobody quiets Redis.",
    };
    let hold = match recipe.quiesce.hold {
        HoldUntil::Never => "No client is held.",
        HoldUntil::Cut => "Writes are held until the cut, for a bounded time.",
    };
    writeln!(out, "{quiesce} {hold}\n").unwrap();
    out += "## Limits\n\n";
    for note in &recipe.notes {
        writeln!(out, "* {note}").unwrap();
    }
    let limits = recipe.deadlines;
    let own = recipe.steps.last().unwrap().deadlines;
    writeln!(
        out,
        "* Deadlines: first word {}, cut {}, ready {}, an error may last {}, all together {}.\n",
        time(
            own.accept
                .or(limits.accept)
                .or(Some(Duration::from_secs(60)))
        ),
        time(own.cut.or(limits.cut)),
        time(
            own.ready
                .or(limits.ready)
                .or(Some(Duration::from_secs(900)))
        ),
        time(
            own.error_grace
                .or(limits.error_grace)
                .or(Some(Duration::from_secs(360)))
        ),
        time(limits.total.or(Some(Duration::from_secs(1800)))),
    )
    .unwrap();
    ends(recipe, &mut out);
    out += "## What was played\n\n";
    let cannot = played(recipe);
    let shown: Vec<&str> = ALL
        .iter()
        .map(|row| row.2)
        .filter(|title| cannot.iter().all(|it| it.0 != *title))
        .collect();
    writeln!(out, "Its controller was played: {}.\n", shown.join("; ")).unwrap();
    for (title, why) in cannot {
        writeln!(out, "* Cannot be shown: {title}. {why}").unwrap();
    }
    let on = tried.map_or("nothing", String::as_str);
    writeln!(out, "* Tried on: {on}. No live system was at hand.").unwrap();
    out
}

fn ends(recipe: &Recipe, out: &mut String) {
    let kept: Vec<&str> = recipe.handle.keys().map(String::as_str).collect();
    writeln!(
        out,
        "## Restore\n\nKept of a snapshot: `{}`. Restored: {}.\n",
        kept.join("`, `"),
        restore(recipe)
    )
    .unwrap();
    if let Some(restore) = &recipe.restore {
        if restore.mode != RestoreMode::Manual {
            *out += "`understudy snapshots restore -c FILE ID object:NAME` does it (`object:NAMESPACE/NAME` for another namespace).\n\n";
        }
        for need in &restore.needs {
            let text = match need {
                understudy_kube::recipe::Need::Detached => "no pod uses the claim",
                understudy_kube::recipe::Need::PvcAbsent => "the claim does not exist",
                understudy_kube::recipe::Need::SameNode => {
                    "the pod that reads it runs on the old volume's node"
                }
                understudy_kube::recipe::Need::SameSize => {
                    "the new claim has exactly the snapshot's size"
                }
            };
            writeln!(out, "* It needs: {text}.").unwrap();
        }
        if !restore.by_hand.is_empty() {
            writeln!(out, "* By hand: {}", restore.by_hand).unwrap();
        }
        if !restore.needs.is_empty() || !restore.by_hand.is_empty() {
            *out += "\n";
        }
    }
    reading_back(recipe, out);
    *out += "## Delete\n\n";
    match recipe.delete.as_ref().map(|it| &it.by) {
        Some(DeleteBy::Objects(_)) => *out += "Its objects are deleted.",
        Some(DeleteBy::Ask(ask)) => {
            let kind = &recipe.kinds[&ask.object.kind].kind;
            write!(out, "{kind}: an object of this kind asks the system to delete it, and we wait until it is done (at most {}).", time(Some(ask.wait))).unwrap();
        }
        Some(DeleteBy::Patch(_)) => *out += "A change to an object asks the system to.",
        Some(DeleteBy::Nothing(why)) => write!(out, "Not by us. {why}").unwrap(),
        None => *out += "Not by us; do it by hand.",
    }
    let abandoned = recipe.delete.as_ref().is_some_and(|it| it.abandoned);
    *out += if abandoned {
        " What a run without a snapshot triggered is deleted when no controller took it up.\n\n"
    } else {
        " What a run without a snapshot triggered is left.\n\n"
    };
}

fn reading_back(recipe: &Recipe, out: &mut String) {
    *out += "## Read back\n\n";
    let way = match recipe.way_back() {
        Ok(way) => way,
        Err(why) => {
            let why = why.trim_end_matches('.');
            writeln!(out, "`snapshots verify` does not read the data back: {why}. Restore it by hand, and run `understudy snapshots read DIR` in a Pod that mounts it.\n").unwrap();
            return;
        }
    };
    let how = match way.into {
        ScratchInto::Made => {
            "The system makes a scratch claim of the snapshot, beside the server's own."
        }
        ScratchInto::Filled => {
            "We make an empty scratch claim beside the server's own, and the system fills it."
        }
        ScratchInto::Namespace | ScratchInto::Nowhere => {
            "The system restores the claim under the name that it had, so it needs a namespace that is there for this alone: `kubernetes.verify.namespace`. A claim of that name that is there before is never touched, and refused."
        }
    };
    let made: Vec<String> = way
        .steps
        .iter()
        .filter_map(|it| it.makes())
        .map(|it| format!("`{}`", recipe.kinds[it].kind))
        .collect();
    writeln!(out, "`understudy snapshots verify -c FILE ID` reads the data back from start to end by a Job, and forgets it again. {how} It makes: {}, and the Job.\n", made.join(", ")).unwrap();
    let limits = recipe.scratch.iter().flat_map(|it| &it.limits);
    let limits: Vec<String> = limits.map(|it| format!("* {it}\n")).collect();
    if !limits.is_empty() {
        *out += &limits.concat();
        *out += "\n";
    }
}

const HEAD: &str = "
# Backup systems

One page for each. A snapshot guarantees what [recipes.md](../recipes.md) says under \"What happens, in order\": ready is read afresh, what is in it is
counted, and both are asked once more right before a cutover and before a rollback.

* **alone**, **quieted first**: what is reached without us, and when Redis had put its data on the disk before. `none`: files are read at different
  times. `crash`: as after a power cut. `app`: everything up to a known offset is in it.
* **read back**: whether `snapshots verify` reads the data of a snapshot from start to end, and where: from a scratch claim that the system makes of the
  snapshot, from an empty one that it fills, or under the claim's own name in a namespace for this alone (`kubernetes.verify.namespace`).
* **played**: how many of the scenarios below the system can show, and passed. Each is a test of its own (`cargo nextest run -p understudy-kube --test player`).
* **tried on**: success and failure, and the objects of the restore, of reading back and of the deletion, were also written through a real API server with the
  system's own definitions (CRDs), which must keep every field; or only on shapes recorded from its documentation. No live backup system was at hand.

";

fn readme(book: &Book, tried: &BTreeMap<String, String>) -> String {
    let mut out = format!("{GENERATED}{HEAD}{}\n", table(book, tried));
    let scenarios: Vec<&str> = ALL.iter().map(|row| row.2).collect();
    writeln!(out, "The scenarios: {}.\n", scenarios.join("; ")).unwrap();
    out += "A recipe of your own is played the same way in the tests: [csi-nightly.yaml](../../control/kube/tests/players/own/csi-nightly.yaml) extends `csi`.\n";
    out
}

#[test]
fn the_pages_of_the_backup_systems_are_those_of_the_recipes() {
    let book = Book::builtin().unwrap();
    let tried = definitions();
    let at = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/backups");
    let mut pages = vec![("README.md".to_owned(), readme(&book, &tried))];
    for recipe in book.all() {
        let name = format!("{}.md", recipe.name);
        pages.push((name, page(recipe, tried.get(&recipe.name))));
    }
    if std::env::var_os("UNDERSTUDY_WRITE").is_some() {
        std::fs::create_dir_all(&at).unwrap();
        for (name, text) in &pages {
            std::fs::write(at.join(name), text).unwrap();
        }
    }
    let there = std::fs::read_dir(&at).unwrap().count();
    assert_eq!(there, pages.len(), "a page too many or too few");
    for (name, text) in &pages {
        let now = std::fs::read_to_string(at.join(name)).unwrap_or_default();
        assert!(
            now == *text,
            "docs/backups/{name} is stale: run `make docs-backups`"
        );
    }
}
