//! Where a run is played: an API server, the objects that stand there, and what the controller writes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use understudy_control::snapshot::{Level, ProviderError, SnapshotHandle};
use understudy_kube::cluster::Cluster;
use understudy_kube::cluster::memory::MemoryCluster;
use understudy_kube::engine::quiet::Quiet;
use understudy_kube::engine::{Context, Engine, LABEL_RUN, Request};
use understudy_kube::recipe::{Kind, Recipe, Step, Trigger, Vars, fill, fill_text, merge};

use crate::data::{Part, State, Thing};
use crate::live::Live;

/// The claim of every scene.
pub(crate) const CLAIM: &str = "data-0";

/// The API server.
pub(crate) enum Place {
    /// In memory.
    Memory(MemoryCluster),
    /// A real one.
    Live(Live),
}

/// One recipe on one API server.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) server: Quiet,
    pub(crate) recipe: Recipe,
    pub(crate) part: Part,
    pub(crate) request: Request,
    pub(crate) told: Mutex<Vec<String>>,
}

impl Scene {
    /// On an API server in memory, with everything that stands there.
    pub(crate) async fn new(recipe: &Recipe, part: &Part) -> Self {
        let memory = MemoryCluster::new();
        memory.set_clock(wall_ms());
        if let Some(gate) = &part.gate {
            memory.guard(gate.clone());
        }
        for kind in recipe.kinds.values() {
            let core = kind.group.is_empty() || kind.group == "batch";
            let scheduled = kind.kind.ends_with("Class");
            memory.serve(kind, (part.subresource || core) && !scheduled);
        }
        let scene = Self::on(Place::Memory(memory), recipe, part, "redis", "us-p-s1-1-1");
        scene.stand().await;
        scene
    }

    pub(crate) fn on(
        place: Place,
        recipe: &Recipe,
        part: &Part,
        namespace: &str,
        run: &str,
    ) -> Self {
        Self {
            place,
            server: Quiet::default(),
            request: Request {
                run: run.to_owned(),
                pool: "p".to_owned(),
                shard: "s1".to_owned(),
                server: "redis://10.0.0.1:6379".to_owned(),
                level: if part.level == "crash" {
                    Level::Crash
                } else {
                    Level::App
                },
                namespace: namespace.to_owned(),
                claim: CLAIM.to_owned(),
                params: part.params.clone(),
            },
            recipe: recipe.clone(),
            part: part.clone(),
            told: Mutex::default(),
        }
    }

    /// Puts up what is there before a run.
    pub(crate) async fn stand(&self) {
        let volume = format!("pv-{}", self.request.namespace);
        let gigabyte = json!({"storage": "1Gi"});
        let claim = json!({"metadata": {"name": CLAIM}, "status": {"phase": "Bound"}, "spec": {
            "volumeName": volume, "accessModes": ["ReadWriteOnce"], "resources": {"requests": gigabyte}, "storageClassName": "fast"}});
        let more = match &self.part.claim {
            Value::Null => json!({}),
            more => more.clone(),
        };
        self.put_kind("pvc", merge(&claim, &more)).await;
        let source = json!({"driver": self.part.driver, "volumeHandle": volume});
        let spec = json!({"csi": source, "capacity": gigabyte, "accessModes": ["ReadWriteOnce"]});
        self.put_kind("pv", json!({"metadata": {"name": volume}, "spec": spec}))
            .await;
        for thing in self.part.standing.iter().chain(&self.part.idle) {
            self.put(thing, &self.vars()).await;
        }
        if let Place::Memory(memory) = &self.place
            && !self.part.answers.is_null()
        {
            memory.answer(200, self.part.answers.clone());
        }
    }

    pub(crate) fn memory(&self) -> &MemoryCluster {
        match &self.place {
            Place::Memory(memory) => memory,
            Place::Live(_) => panic!("only in memory"),
        }
    }

    pub(crate) fn cluster(&self) -> &dyn Cluster {
        match &self.place {
            Place::Memory(memory) => memory,
            Place::Live(live) => live,
        }
    }

    pub(crate) fn kind(&self, name: &str) -> &Kind {
        self.recipe
            .kinds
            .get(name)
            .unwrap_or_else(|| panic!("{}: no kind `{name}`", self.recipe.name))
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            request: &self.request,
            recipe: &self.recipe,
        }
    }

    /// Where systems restore to that restore under the names that claims had.
    pub(crate) fn verify(&self) -> String {
        format!("{}-verify", self.request.namespace)
    }

    /// What templates in data files may name.
    pub(crate) fn vars(&self) -> Vars {
        let mut vars = self.context().vars(wall_ms());
        vars.insert("verify".to_owned(), json!({"namespace": self.verify()}));
        vars.insert(
            "volume".to_owned(),
            json!(format!("pv-{}", self.request.namespace)),
        );
        vars
    }

    pub(crate) async fn put_kind(&self, kind: &str, object: Value) {
        let thing = Thing {
            kind: kind.to_owned(),
            object,
        };
        self.put(&thing, &self.vars()).await;
    }

    pub(crate) async fn put(&self, thing: &Thing, vars: &Vars) {
        let kind = self.kind(&thing.kind);
        let mut object = fill(&thing.object, vars).unwrap();
        if !kind.cluster && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!(self.request.namespace);
        }
        match &self.place {
            Place::Memory(memory) => memory.put(kind, object),
            Place::Live(live) => live.put(kind, object).await,
        }
    }

    /// The recipe's name for the kind of a step's object.
    pub(crate) fn watched_kind<'s>(&self, step: &'s Step) -> &'s str {
        match &step.trigger {
            Trigger::Create(object)
            | Trigger::Apply(object)
            | Trigger::JobFromCronJob { job: object, .. } => &object.kind,
            Trigger::Patch(change) => &change.kind,
            Trigger::Http(_) => "configmap",
        }
    }

    /// Every object of a kind.
    pub(crate) async fn all(&self, kind: &Kind) -> Vec<Value> {
        match &self.place {
            Place::Memory(memory) => memory.all(kind),
            Place::Live(live) => live.all(kind).await,
        }
    }

    /// Takes an object away, as its controller would.
    pub(crate) async fn remove(&self, kind: &Kind, object: &Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        match &self.place {
            Place::Memory(memory) => memory.remove(kind, namespace, &name_of(object)),
            Place::Live(live) => live.remove(kind, namespace, &name_of(object)).await,
        }
    }

    /// What our run has triggered in a step, by name.
    pub(crate) async fn triggered_all(&self, step: &Step) -> Vec<Value> {
        let all = self.all(self.kind(self.watched_kind(step))).await;
        let ours = |it: &Value| match &step.trigger {
            Trigger::Patch(_) => it["metadata"]["annotations"][LABEL_RUN] == *self.request.run,
            Trigger::Http(_) => {
                it["metadata"]["labels"][LABEL_RUN] == *self.request.run
                    && !it["data"]["answer"].is_null()
            }
            _ => it["metadata"]["labels"][LABEL_RUN] == *self.request.run,
        };
        all.into_iter().filter(ours).collect()
    }

    /// Waits until a step has triggered something whose name is not one of these.
    pub(crate) async fn triggered(&self, step: &Step, not: &[String]) -> Value {
        let patience = tokio::time::Instant::now() + Duration::from_secs(7200);
        loop {
            let all = self.triggered_all(step).await;
            if let Some(found) = all.into_iter().find(|it| !not.contains(&name_of(it))) {
                return found;
            }
            assert!(
                tokio::time::Instant::now() < patience,
                "nothing was triggered: {:?}",
                self.told.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the controller writes.
    pub(crate) async fn write(&self, step: &Step, name: &str, state: &State) {
        self.write_to(self.watched_kind(step), name, state).await;
    }

    /// What the controller writes to an object of one of the recipe's kinds.
    pub(crate) async fn write_to(&self, kind: &str, name: &str, state: &State) {
        let kind = self.kind(kind).clone();
        let all = self.all(&kind).await;
        let mut named = all.into_iter().filter(|it| name_of(it) == name);
        let here = |it: &Value| it["metadata"]["namespace"] == *self.request.namespace;
        let first = named.next().unwrap();
        // On a shared server another scene may have one of the same name.
        let object = if here(&first) {
            first
        } else {
            named.find(here).unwrap_or(first)
        };
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let mut vars = self.vars();
        vars.insert("object".to_owned(), object.clone());
        for thing in &state.beside {
            self.put(thing, &vars).await;
        }
        let filled = |template: &Value| fill(template, &vars).unwrap();
        match &self.place {
            Place::Memory(memory) => {
                if !state.object.is_null() {
                    memory.write(&kind, namespace, name, &filled(&state.object), false);
                }
                if !state.status.is_null() {
                    assert!(memory.set_status(&kind, namespace, name, &filled(&state.status)));
                }
                if !state.answer.is_null() || state.code != 200 {
                    memory.answer(
                        state.code,
                        merge(&self.part.answers, &filled(&state.answer)),
                    );
                }
                if state.gone {
                    memory.remove(&kind, namespace, name);
                }
            }
            Place::Live(live) => {
                let (patch, status) = (filled(&state.object), filled(&state.status));
                live.write(&kind, namespace, name, &patch, &status).await;
            }
        }
    }

    pub(crate) async fn run<T>(&self, act: impl AsyncFnOnce(&Engine<'_>) -> T) -> T {
        let progress = |line: String| self.told.lock().unwrap().push(line);
        let engine = Engine::new(self.cluster(), &self.server, self.context(), &progress);
        act(&engine).await
    }

    /// Takes the snapshot while the controller does something.
    pub(crate) async fn take_while(
        &self,
        meanwhile: impl AsyncFnOnce(),
    ) -> Result<SnapshotHandle, ProviderError> {
        let taken = self.run(async |engine| engine.take().await);
        tokio::pin!(taken);
        tokio::select! {
            biased;
            taken = &mut taken => return taken,
            () = meanwhile() => {}
        }
        taken.await
    }

    /// How often a step was triggered.
    pub(crate) fn triggers(&self, step: &Step) -> usize {
        let memory = self.memory();
        let plural = &self.kind(self.watched_kind(step)).plural;
        match &step.trigger {
            Trigger::Http(http) => {
                let vars = self.vars();
                let url = fill_text(&http.http.url, &vars).unwrap();
                memory.count("http", &url)
            }
            Trigger::Patch(_) => memory.count("patch", plural),
            Trigger::Apply(_) => memory.count("apply", plural),
            Trigger::Create(_) | Trigger::JobFromCronJob { .. } => memory.count("create", plural),
        }
    }

    /// What the server was asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.server.asked()
    }

    /// The lines that were told.
    pub(crate) fn told(&self, part: &str) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|line| line.contains(part)).count()
    }

    /// Every call so far was one that the recipe's rights allow.
    pub(crate) fn within_rights(&self) {
        self.within_rights_and(&[]);
    }

    /// Every call so far was one that the recipe's rights allow, or these.
    pub(crate) fn within_rights_and(&self, more: &[(&'static str, &[&'static str])]) {
        let Place::Memory(memory) = &self.place else {
            return;
        };
        let rights = understudy_kube::recipe::rights(&self.recipe, &self.vars()).unwrap();
        let mut allowed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for right in &rights {
            let verbs = allowed.entry(&right.resource).or_default();
            verbs.push(&right.verb);
        }
        for (plural, verbs) in more {
            allowed.entry(plural).or_default().extend(*verbs);
        }
        // Finding the volume behind a server needs these already, whatever the recipe.
        for found in ["persistentvolumeclaims", "pods"] {
            allowed.entry(found).or_default().extend(["get", "list"]);
        }
        for call in memory.calls() {
            if ["discover", "can", "http"].contains(&call.verb.as_str()) {
                continue;
            }
            let verb = if call.verb == "apply" {
                "patch"
            } else {
                &call.verb
            };
            let verbs = allowed.get(call.plural.as_str());
            assert!(
                verbs.is_some_and(|it| it.contains(&verb)),
                "the recipe has no right to {verb} {}, and it was done",
                call.plural
            );
        }
    }
}

pub(crate) fn name_of(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

pub(crate) fn wall_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
