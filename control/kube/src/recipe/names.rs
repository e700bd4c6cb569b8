//! Checks that everything a recipe names is there: variables, kinds, parameters, and the rights for what it does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fill::{Piece, pieces};
use super::walk::Found;
use super::{
    Change, DeleteBy, HoldUntil, Http, Lookup, NewObject, ParamType, Purpose, Recipe, Resolve,
    RestoreMode, ScratchInto, Step, Trigger, Via,
};
use crate::predicate::{Op, Predicate, Ref, is_name};

/// What every template may name.
const BASE: [&str; 10] = [
    "run", "pool", "shard", "server", "level", "now", "expires", "expect", "claim", "params",
];

/// What a template of `restore` may name of the place.
const TARGET: [&str; 8] = [
    "name",
    "namespace",
    "size",
    "accessModes",
    "storageClass",
    "volumeMode",
    "labels",
    "namespaces",
];

struct Check<'r> {
    recipe: &'r Recipe,
    found: &'r Found,
    /// What is done to which kind, and the place that does it.
    used: BTreeMap<(String, &'static str, Purpose), String>,
}

type Scope = BTreeSet<String>;

pub(super) fn check_names(recipe: &Recipe, found: &Found) {
    let mut check = Check {
        recipe,
        found,
        used: BTreeMap::new(),
    };
    check.all();
    check.rights();
}

impl Check<'_> {
    fn all(&mut self) {
        let recipe = self.recipe;
        let base: Scope = BASE.into_iter().map(str::to_owned).collect();
        let mut scope = base.clone();
        self.resolves("resolve", &recipe.resolve, &mut scope, Purpose::Take);
        if let Some(expect) = &recipe.expect
            && !recipe
                .resolve
                .iter()
                .any(|it| it.list && &it.name == expect)
        {
            let remedy = "name an entry of `resolve` that has `list: true`";
            self.found
                .add("expect", format!("`{expect}` is no resolved list"), remedy);
        }
        if let Some(conflict) = &recipe.conflict {
            self.predicate("conflict.idle", &conflict.idle, &scope);
        }
        self.changes("prepare", &recipe.prepare, &scope, Purpose::Take);
        self.steps("", &recipe.steps, &mut scope, Purpose::Take);
        for (key, handle) in &recipe.handle {
            let path = format!("handle.{key}");
            if !is_name(key) {
                self.found.add(
                    &path,
                    "cannot be named in a template",
                    "use letters and digits",
                );
            }
            // Without a name it is the last step's object.
            self.reference(&path, &handle.from, &scope);
        }
        let holds = recipe.quiesce.hold == HoldUntil::Cut;
        if holds
            && recipe
                .steps
                .first()
                .is_none_or(|step| step.when.cut.is_none())
        {
            let remedy = "write `when.cut`, or `hold: never`";
            self.found
                .add("quiesce.hold", "waits for a cut that is never seen", remedy);
        }
        let mut later = base;
        later.insert("handle".to_owned());
        self.changes("protect", &recipe.protect, &later, Purpose::Take);
        self.delete(&later);
        self.scratch(&later);
        if let Some(restore) = &recipe.restore {
            let mut scope = later;
            scope.insert("target".to_owned());
            self.resolves(
                "restore.resolve",
                &restore.resolve,
                &mut scope,
                Purpose::Restore,
            );
            if restore.mode != RestoreMode::Manual {
                self.steps("restore.", &restore.steps, &mut scope, Purpose::Restore);
            }
        }
    }

    fn scratch(&mut self, scope: &Scope) {
        let Some(scratch) = &self.recipe.scratch else {
            return;
        };
        if scratch.into == ScratchInto::Nowhere {
            return;
        }
        let mut scope = scope.clone();
        scope.insert("target".to_owned());
        let restoring = Purpose::Restore;
        self.resolves("scratch.resolve", &scratch.resolve, &mut scope, restoring);
        self.steps("scratch.", &scratch.steps, &mut scope, restoring);
        for (index, step) in scratch.steps.iter().enumerate() {
            let path = format!("scratch.steps[{index}].trigger");
            match step.makes() {
                Some(kind) => self.uses(&path, kind, "delete", restoring),
                None => self.found.add(
                    &path,
                    "makes no object that could be forgotten",
                    "write `verb: create`, `apply` or `jobFromCronJob`",
                ),
            }
        }
        if scratch.into == ScratchInto::Filled {
            for verb in ["get", "create", "delete"] {
                self.uses("scratch.into", "pvc", verb, restoring);
            }
        }
        for (index, lookup) in scratch.leaves.iter().enumerate() {
            let path = format!("scratch.leaves[{index}]");
            self.lookup(&path, lookup, &scope);
            let verb = if lookup.name.is_some() { "get" } else { "list" };
            self.uses(&path, &lookup.kind, verb, restoring);
            self.uses(&path, &lookup.kind, "delete", restoring);
        }
    }

    fn delete(&mut self, scope: &Scope) {
        match self.recipe.delete.as_ref().map(|delete| &delete.by) {
            Some(DeleteBy::Objects(objects)) => {
                for (index, lookup) in objects.iter().enumerate() {
                    let path = format!("delete.objects[{index}]");
                    self.lookup(&path, lookup, scope);
                    self.uses(&path, &lookup.kind, "delete", Purpose::Delete);
                }
            }
            Some(DeleteBy::Ask(ask)) => {
                let mut scope = scope.clone();
                self.resolves("delete.resolve", &ask.resolve, &mut scope, Purpose::Delete);
                let scope = &scope;
                self.new_object("delete", &ask.object, scope, Purpose::Delete);
                for (index, lookup) in ask.gone.iter().enumerate() {
                    let path = format!("delete.gone[{index}]");
                    self.lookup(&path, lookup, scope);
                    self.uses(&path, &lookup.kind, "get", Purpose::Delete);
                }
                for (path, asked) in [("delete.done", &ask.done), ("delete.failed", &ask.failed)] {
                    if let Some(asked) = asked {
                        self.predicate(path, asked, scope);
                    }
                }
                for message in &ask.message {
                    self.reference("delete.message", message, scope);
                }
            }
            Some(DeleteBy::Patch(change)) => {
                self.change("delete", change, scope, Purpose::Delete);
            }
            Some(DeleteBy::Nothing(_)) | None => {}
        }
    }

    fn steps(&mut self, before: &str, steps: &[Step], scope: &mut Scope, purpose: Purpose) {
        if steps.is_empty() {
            let path = format!("{before}trigger");
            self.found.add(
                &path,
                "is missing",
                "write `trigger` and `when`, or `steps`",
            );
        }
        for (index, step) in steps.iter().enumerate() {
            let path = match steps {
                [one] if one.name == "object" => before.trim_end_matches('.').to_owned(),
                _ => format!("{before}steps[{index}]"),
            };
            let at = |key: &str| format!("{path}.{key}").trim_start_matches('.').to_owned();
            self.trigger(&at("trigger"), &step.trigger, scope, purpose);
            self.name(&at("as"), &step.name, scope);
            if matches!(step.trigger, Trigger::Http(_)) {
                scope.insert("response".to_owned());
            }
            if let Via::Http(http) = &step.observe.via {
                if !matches!(step.trigger, Trigger::Http(_)) {
                    let remedy =
                        "write `via: watch` or `via: poll`, or `verb: http` in the trigger";
                    let what = "`httpPoll` looks at nothing: the trigger makes an object";
                    self.found.add(&at("observe.via"), what, remedy);
                }
                self.http(&at("observe"), http, scope);
            }
            self.resolves(&at("also"), &step.also, scope, purpose);
            let when = &step.when;
            for (key, predicate) in [
                ("when.accepted", &when.accepted),
                ("when.cut", &when.cut),
                ("when.ready", &when.ready),
                ("when.failed", &when.failed),
                ("when.retryable", &when.retryable),
                ("when.skipped", &when.skipped),
            ] {
                if let Some(predicate) = predicate {
                    self.predicate(&at(key), predicate, scope);
                }
            }
            for reference in &step.message {
                self.reference(&at("message"), reference, scope);
            }
            for (key, reference) in [
                ("progress", &step.progress),
                ("cutTime", &step.cut_time),
                ("expires", &step.expires),
            ] {
                if let Some(reference) = reference {
                    self.reference(&at(key), reference, scope);
                }
            }
            for (index, demand) in step.verify.iter().enumerate() {
                self.predicate(&at(&format!("verify[{index}]")), &demand.that, scope);
            }
        }
    }

    fn trigger(&mut self, path: &str, trigger: &Trigger, scope: &Scope, purpose: Purpose) {
        match trigger {
            Trigger::Create(object) => self.new_object(path, object, scope, purpose),
            Trigger::Apply(object) => {
                self.new_object(path, object, scope, purpose);
                self.uses(path, &object.kind, "patch", purpose);
            }
            Trigger::Patch(change) => self.change(path, change, scope, purpose),
            Trigger::JobFromCronJob { from, job, env } => {
                if !scope.contains(from) {
                    let remedy = "name an entry of `resolve` that is a CronJob";
                    self.found
                        .add(path, format!("`{from}` is not resolved"), remedy);
                }
                self.new_object(path, job, scope, purpose);
                for (key, value) in env {
                    self.template(&format!("{path}.env.{key}"), value, scope);
                }
            }
            Trigger::Http(http) => {
                // What was sent is noted in a ConfigMap, since nothing else could find it again.
                for verb in ["get", "create", "patch"] {
                    self.uses(path, "configmap", verb, purpose);
                }
                self.http(path, &http.http, scope);
                self.optional(
                    &format!("{path}.lost.lookFor"),
                    http.look_for.as_ref(),
                    scope,
                );
                if let Some(find) = &http.find {
                    let path = format!("{path}.lost.find");
                    self.http(&path, &find.http, scope);
                    self.reference(&format!("{path}.each"), &find.each, scope);
                    self.predicate(&format!("{path}.that"), &find.that, scope);
                    let mut scope = scope.clone();
                    scope.insert("found".to_owned());
                    self.template(&format!("{path}.response"), &find.response, &scope);
                }
            }
        }
    }

    fn http(&mut self, path: &str, http: &Http, scope: &Scope) {
        self.template(&format!("{path}.url"), &http.url, scope);
        for (key, value) in &http.headers {
            self.template(&format!("{path}.headers.{key}"), value, scope);
        }
        if let Some(body) = &http.body {
            self.template(&format!("{path}.body"), body, scope);
        }
        let Some(auth) = &http.auth else { return };
        let path = format!("{path}.auth");
        self.template(&path, &auth.secret, scope);
        self.optional(&path, auth.namespace.as_ref(), scope);
        self.uses(&path, "secret", "get", Purpose::Take);
        let mut scope = scope.clone();
        scope.extend(["secret".to_owned(), "secret64".to_owned()]);
        if let Some(login) = &auth.login {
            self.template(&format!("{path}.login.url"), &login.url, &scope);
            self.template(&format!("{path}.login.body"), &login.body, &scope);
            scope.insert("token".to_owned());
        }
        if let Some(logout) = &auth.logout {
            self.template(&format!("{path}.logout.url"), &logout.url, &scope);
        }
        self.template(&format!("{path}.value"), &auth.value, &scope);
    }

    fn new_object(&mut self, path: &str, object: &NewObject, scope: &Scope, purpose: Purpose) {
        self.kind(path, &object.kind, object.namespace.is_some());
        self.uses(path, &object.kind, "create", purpose);
        self.uses(path, &object.kind, "get", purpose);
        if object.generate_name {
            self.uses(path, &object.kind, "list", purpose);
        }
        self.optional(path, object.namespace.as_ref(), scope);
        self.optional(path, object.name.as_ref(), scope);
        self.template(&format!("{path}.object"), &object.object, scope);
    }

    fn changes(&mut self, path: &str, changes: &[Change], scope: &Scope, purpose: Purpose) {
        for (index, change) in changes.iter().enumerate() {
            self.change(&format!("{path}[{index}]"), change, scope, purpose);
        }
    }

    fn change(&mut self, path: &str, change: &Change, scope: &Scope, purpose: Purpose) {
        self.kind(path, &change.kind, change.namespace.is_some());
        self.uses(path, &change.kind, "patch", purpose);
        self.optional(path, change.namespace.as_ref(), scope);
        self.template(&format!("{path}.name"), &change.name, scope);
        self.template(&format!("{path}.patch"), &change.patch, scope);
        self.optional(&format!("{path}.undo"), change.undo.as_ref(), scope);
    }

    fn resolves(&mut self, path: &str, all: &[Resolve], scope: &mut Scope, purpose: Purpose) {
        for (index, resolve) in all.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let lookup = &resolve.lookup;
            self.lookup(&path, lookup, scope);
            if lookup.name.is_some() {
                self.uses(&path, &lookup.kind, "get", purpose);
            }
            if lookup.name.is_none() || lookup.labels.is_some() || lookup.filter.is_some() {
                self.uses(&path, &lookup.kind, "list", purpose);
            }
            self.name(&format!("{path}.as"), &resolve.name, scope);
            for (index, demand) in resolve.require.iter().enumerate() {
                self.predicate(&format!("{path}.require[{index}]"), &demand.that, scope);
            }
        }
    }

    fn lookup(&mut self, path: &str, lookup: &Lookup, scope: &Scope) {
        self.kind(path, &lookup.kind, lookup.namespace.is_some());
        self.optional(path, lookup.namespace.as_ref(), scope);
        self.optional(path, lookup.name.as_ref(), scope);
        self.optional(path, lookup.labels.as_ref(), scope);
        if let Some(filter) = &lookup.filter {
            self.predicate(&format!("{path}.where"), filter, scope);
        }
    }

    fn predicate(&self, path: &str, predicate: &Predicate, scope: &Scope) {
        match predicate {
            Predicate::All(list) | Predicate::Any(list) => {
                for one in list {
                    self.predicate(path, one, scope);
                }
            }
            Predicate::Not(inner) => self.predicate(path, inner, scope),
            Predicate::Each { of, that, count_ge } => {
                self.reference(path, of, scope);
                self.template(path, count_ge, scope);
                self.predicate(path, that, scope);
            }
            Predicate::Bind { from, to } => {
                self.reference(path, from, scope);
                if !scope.contains(to) {
                    self.unknown(path, to, scope);
                }
            }
            Predicate::Leaf { at, op } => {
                self.reference(path, at, scope);
                match op {
                    Op::Eq(value)
                    | Op::Ne(value)
                    | Op::Exists(value)
                    | Op::NonEmpty(value)
                    | Op::Ge(value)
                    | Op::CountGe(value) => self.template(path, value, scope),
                    Op::In(list) | Op::NotIn(list) | Op::Contains(list) | Op::StartsWith(list) => {
                        for value in list {
                            self.template(path, value, scope);
                        }
                    }
                }
            }
        }
    }

    fn reference(&self, path: &str, reference: &Ref, scope: &Scope) {
        if let Some(on) = &reference.on
            && !scope.contains(on)
        {
            self.unknown(path, on, scope);
        }
    }

    fn optional(&self, path: &str, value: Option<&Value>, scope: &Scope) {
        if let Some(value) = value {
            self.template(path, value, scope);
        }
    }

    fn template(&self, path: &str, value: &Value, scope: &Scope) {
        match value {
            Value::String(text) => self.text(path, text, scope),
            Value::Array(list) => list.iter().for_each(|it| self.template(path, it, scope)),
            Value::Object(map) => {
                for (key, value) in map {
                    self.text(path, key, scope);
                    self.template(&format!("{path}.{key}"), value, scope);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, path: &str, text: &str, scope: &Scope) {
        let pieces = match pieces(text) {
            Ok(pieces) => pieces,
            Err(why) => {
                let remedy = "write {{name}}, {{name.key}} or {{name:$.json.path}}";
                self.found.add(path, why.to_string(), remedy);
                return;
            }
        };
        let claim = ["name", "namespace"].map(str::to_owned);
        let verify = ["namespace".to_owned()];
        let target = TARGET.map(str::to_owned);
        for piece in pieces {
            let Piece::Hole(hole) = piece else { continue };
            if !scope.contains(&hole.name) {
                self.unknown(path, &hole.name, scope);
                continue;
            }
            let known: Vec<&String> = match hole.name.as_str() {
                "params" => self.recipe.params.keys().collect(),
                "handle" => self.recipe.handle.keys().collect(),
                "claim" => claim.iter().collect(),
                "verify" => verify.iter().collect(),
                "target" => target.iter().collect(),
                "expires" => {
                    let keep = self.recipe.params.get("keep");
                    if keep.is_none_or(|keep| keep.of != ParamType::Duration) {
                        let remedy = "add a parameter `keep` of type duration with a default";
                        self.found
                            .add(path, "`expires` has no time to count from", remedy);
                    }
                    continue;
                }
                _ => continue,
            };
            match hole.first_key() {
                Some(key) if known.iter().any(|it| it.as_str() == key) => {}
                key => {
                    let key = key.unwrap_or_default();
                    let what = format!("`{}.{key}` is not there", hole.name);
                    self.found
                        .add(path, what, format!("known: {}", joined(known)));
                }
            }
        }
    }

    fn unknown(&self, path: &str, name: &str, scope: &Scope) {
        let remedy = format!("known here: {}", joined(scope.iter().collect()));
        self.found
            .add(path, format!("`{name}` names nothing"), remedy);
    }

    fn name(&self, path: &str, name: &str, scope: &mut Scope) {
        if !is_name(name) {
            self.found.add(
                path,
                format!("`{name}` cannot be a name"),
                "use letters and digits",
            );
        }
        if !scope.insert(name.to_owned()) {
            self.found
                .add(path, format!("`{name}` is taken"), "choose another name");
        }
    }

    fn kind(&self, path: &str, kind: &str, has_namespace: bool) {
        match self.recipe.kinds.get(kind) {
            None => {
                let remedy = format!("known: {}", joined(self.recipe.kinds.keys().collect()));
                self.found.add(
                    &format!("{path}.kind"),
                    format!("`{kind}` is no kind"),
                    remedy,
                );
            }
            Some(kind) if kind.cluster && has_namespace => {
                let remedy = "remove it: objects of this kind are in none";
                self.found
                    .add(&format!("{path}.namespace"), "has a namespace", remedy);
            }
            Some(_) => {}
        }
    }

    fn uses(&mut self, path: &str, kind: &str, verb: &'static str, purpose: Purpose) {
        let key = (kind.to_owned(), verb, purpose);
        self.used.entry(key).or_insert_with(|| path.to_owned());
    }

    fn rights(&self) {
        for (index, rule) in self.recipe.rbac.iter().enumerate() {
            let path = format!("rbac[{index}]");
            self.kind(&path, &rule.kind, rule.namespace.is_some());
            let mut base: Scope = ["claim", "params"].into_iter().map(str::to_owned).collect();
            // Nothing but the scratch is there.
            if rule.purpose == Purpose::Restore {
                base.insert("verify".to_owned());
            }
            self.optional(&path, rule.namespace.as_ref(), &base);
        }
        let used = self.used.iter();
        for ((kind, verb, purpose), path) in
            used.filter(|it| self.recipe.kinds.contains_key(&it.0.0))
        {
            let allowed = self.recipe.rbac.iter().any(|rule| {
                &rule.kind == kind
                    && rule.verbs.iter().any(|it| it == verb)
                    && (rule.purpose == *purpose || rule.purpose == Purpose::Take)
            });
            if !allowed {
                let what = format!("has no right to {verb} {kind}, which {path} does");
                let remedy = format!("add `{{kind: {kind}, verbs: [{verb}]}}`");
                self.found.add("rbac", what, remedy);
            }
        }
    }
}

fn joined(names: Vec<&String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}
