//! The same states on a real API server with the systems' own definitions: `UNDERSTUDY_TEST_CLUSTER=1`, `KUBECONFIG`, and the
//! definitions in `UNDERSTUDY_TEST_CRDS`.
//!
//! A definition's schema drops a field that it does not know, without a word. Here that is an error: whatever is sent must come back.
//! The API server runs without its controller manager, which would judge the scene's claim itself: it would not stay Bound.
//! Which recipes were tried is kept in `tests/players/crds.txt`; `UNDERSTUDY_WRITE=1` rewrites it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use kube::Client;
use kube::api::{
    Api as Objects, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use understudy_kube::cluster::live::LiveCluster;
use understudy_kube::cluster::{
    Allowed, Api, CallError, CallKind, Cluster, HttpAnswer, HttpRequest, Place as At, Reply,
};
use understudy_kube::engine::{LABEL_RUN, scratch_run};
use understudy_kube::recipe::{Book, Kind, Recipe, Right, Trigger};

use crate::data::{Part, directory, part};
use crate::play::{delete, final_error, last, lead_up, restore, shows, usual, whole};
use crate::read_back::read_back;
use crate::scenario::Scenario;
use crate::stage::{Place, Scene};

/// Longest wait for a definition to be served. Default: 30 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// The objects of a kind, in a namespace or in the whole cluster.
pub(crate) fn objects(
    client: Client,
    api: &Api,
    namespace: Option<&str>,
) -> Objects<DynamicObject> {
    let resource = ApiResource {
        group: api.group.clone(),
        version: api.version.clone(),
        api_version: api.api_version(),
        kind: api.kind.clone(),
        plural: api.plural.clone(),
    };
    match namespace.filter(|it| !it.is_empty()) {
        Some(namespace) => Objects::namespaced_with(client, namespace, &resource),
        None => Objects::all_with(client, &resource),
    }
}

/// A real API server that must keep whatever it is sent.
#[derive(Clone)]
pub(crate) struct Live(LiveCluster);

/// The paths of what was sent and did not come back the same.
fn lost(sent: &Value, kept: &Value, path: &str, out: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(_)) => {
            for (key, value) in sent.iter().filter(|it| !it.1.is_null()) {
                lost(value, &kept[key], &format!("{path}.{key}"), out);
            }
        }
        (Value::Array(sent), Value::Array(list)) if sent.len() == list.len() => {
            for (index, value) in sent.iter().enumerate() {
                lost(value, &kept[index], &format!("{path}[{index}]"), out);
            }
        }
        // An empty map or text may be left out.
        (Value::Object(sent), Value::Null) if sent.is_empty() => {}
        (sent, kept) if sent == kept => {}
        // A time is written in the server's own way.
        (Value::String(sent), Value::String(kept))
            if sent.contains('T') && kept.contains('T') && sent.get(..19) == kept.get(..19) => {}
        _ => out.push(format!("{path} (sent {sent}, kept {kept})")),
    }
}

fn kept(what: &str, sent: &Value, got: Value) -> Result<Value, CallError> {
    let mut paths = Vec::new();
    for part in ["spec", "status", "metadata"] {
        let mut sent = sent[part].clone();
        if let Value::Object(map) = &mut sent {
            map.remove("generateName");
        }
        if !sent.is_null() {
            lost(&sent, &got[part], part, &mut paths);
        }
    }
    if paths.is_empty() {
        return Ok(got);
    }
    let text = format!("{what}: its definition does not keep {}", paths.join(", "));
    Err(CallError::new(CallKind::Refused, text))
}

impl Live {
    async fn api(&self, kind: &Kind) -> Api {
        Cluster::served(self, kind)
            .await
            .unwrap_or_else(|cause| panic!("{}: {cause}", kind.kind))
    }

    fn objects(&self, api: &Api, namespace: Option<&str>) -> Objects<DynamicObject> {
        objects(self.0.client(), api, namespace)
    }

    /// Asks the server whether it knows every field; one that is too old to say so answers yes.
    async fn strict(
        &self,
        api: &Api,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<(), CallError> {
        let group = match api.group.as_str() {
            "" => format!("/api/{}", api.version),
            group => format!("/apis/{group}/{}", api.version),
        };
        let place = namespace
            .map(|it| format!("/namespaces/{it}"))
            .unwrap_or_default();
        let uri = format!(
            "{group}{place}/{}?dryRun=All&fieldValidation=Strict",
            api.plural
        );
        let request = hyper::Request::post(uri).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes()).unwrap();
        match self.0.client().request::<Value>(request).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()), // The name is taken.
            Err(cause) => Err(CallError::new(
                CallKind::Refused,
                format!("{}: {cause}", api.kind),
            )),
        }
    }

    /// Takes an object away, as its controller would.
    pub(crate) async fn remove(&self, kind: &Kind, namespace: &str, name: &str) {
        let api = self.api(kind).await;
        let at = At {
            api: &api,
            namespace: (!kind.cluster).then_some(namespace),
            name,
        };
        self.0
            .delete(at, None)
            .await
            .unwrap_or_else(|cause| panic!("{name}: {cause}"));
    }

    /// Makes the account that every Pod runs as.
    pub(crate) async fn account(&self, namespace: &str) {
        self.namespace(namespace).await;
        let kind = Kind {
            cluster: false,
            ..core("ServiceAccount", "serviceaccounts")
        };
        let metadata = json!({"name": "default", "namespace": namespace});
        self.put(&kind, json!({"metadata": metadata})).await;
    }

    /// Lets go what protects claims and volumes, as the controller manager does when nobody uses them; ends when none is left.
    pub(crate) async fn release(&self, run: &str, namespaces: &[String]) {
        let claims = Kind {
            cluster: false,
            ..core("PersistentVolumeClaim", "persistentvolumeclaims")
        };
        let volumes = core("PersistentVolume", "persistentvolumes");
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut left = true;
        while left && tokio::time::Instant::now() < until {
            left = false;
            for kind in [&claims, &volumes] {
                let api = self.api(kind).await;
                for object in self.all(kind).await {
                    let place = object["metadata"]["namespace"].as_str();
                    let labelled = object["metadata"]["labels"][LABEL_RUN] == *run;
                    let here = place.is_some_and(|it| namespaces[1..].iter().any(|ns| ns == it));
                    if !labelled && !here {
                        continue;
                    }
                    left = true;
                    if !object["metadata"]["deletionTimestamp"].is_null() {
                        let objects = self.objects(&api, place);
                        let name = object["metadata"]["name"].as_str().unwrap();
                        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                        // Another one of that name by now, or none: it is gone.
                        let _ = objects.patch(name, &PatchParams::default(), &patch).await;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn namespace(&self, name: &str) {
        let kind = core("Namespace", "namespaces");
        let api = Api::of(&kind, "v1");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match self.0.create(&api, None, &object).await {
            Ok(_) => {}
            Err(cause) if cause.kind == CallKind::Conflict => {}
            Err(cause) => panic!("{cause}"),
        }
    }

    /// Puts an object there with its status.
    pub(crate) async fn put(&self, kind: &Kind, object: Value) {
        let api = self.api(kind).await;
        let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        if let Some(namespace) = &namespace {
            self.namespace(namespace).await;
        }
        let mut whole = object.clone();
        whole["apiVersion"] = json!(api.api_version());
        whole["kind"] = json!(api.kind);
        let name = object["metadata"]["name"].as_str().unwrap();
        let objects = self.objects(&api, namespace.as_deref());
        let typed: DynamicObject = serde_json::from_value(whole.clone()).unwrap();
        let made = objects.create(&PostParams::default(), &typed).await;
        match made {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let patch = Patch::Merge(&whole);
                let patched = objects.patch(name, &PatchParams::default(), &patch).await;
                patched.unwrap_or_else(|cause| panic!("{} {name}: {cause}", api.kind));
            }
            Err(cause) => panic!("{} {name}: {cause}", api.kind),
        }
        let namespace = namespace.unwrap_or_default();
        let mut rest = object.clone();
        rest["status"].take();
        self.write(kind, &namespace, name, &rest, &object["status"])
            .await;
    }

    pub(crate) async fn all(&self, kind: &Kind) -> Vec<Value> {
        let api = self.api(kind).await;
        let objects = self.objects(&api, None);
        let until = tokio::time::Instant::now() + PATIENCE;
        let found = loop {
            match objects.list(&ListParams::default()).await {
                // A definition that was just made: its storage is not ready yet.
                Err(kube::Error::Api(status)) if status.code == 429 => {
                    assert!(tokio::time::Instant::now() < until, "{}", status.message);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                found => break found.unwrap(),
            }
        };
        let plain = found.items.iter().map(serde_json::to_value);
        plain.map(Result::unwrap).collect()
    }

    /// Writes as a controller: what is not status to the object, the status to wherever its definition has it.
    pub(crate) async fn write(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
        status: &Value,
    ) {
        let api = self.api(kind).await;
        let objects = self.objects(&api, Some(namespace));
        let params = PatchParams::default();
        if !patch.is_null() {
            let got = objects.patch(name, &params, &Patch::Merge(patch)).await;
            let got = got.unwrap_or_else(|cause| panic!("{} {name}: {cause}", api.kind));
            let got = serde_json::to_value(got).unwrap();
            kept(&format!("{} {name}", api.kind), patch, got)
                .unwrap_or_else(|cause| panic!("{cause}"));
        }
        if status.is_null() {
            return;
        }
        let patch = json!({"status": status});
        let got = objects
            .patch_status(name, &params, &Patch::Merge(&patch))
            .await;
        let got = match got {
            // Its definition has no status subresource.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                objects.patch(name, &params, &Patch::Merge(&patch)).await
            }
            other => other,
        };
        let got = got.unwrap_or_else(|cause| panic!("{} {name}: {cause}", api.kind));
        let got = serde_json::to_value(got).unwrap();
        kept(&format!("{} {name}", api.kind), &patch, got)
            .unwrap_or_else(|cause| panic!("{cause}"));
    }
}

fn core(kind: &str, plural: &str) -> Kind {
    Kind {
        group: String::new(),
        versions: vec!["v1".to_owned()],
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        cluster: true,
        detect: true,
        discover: true,
    }
}

impl Cluster for Live {
    fn served<'a>(&'a self, kind: &'a Kind) -> Reply<'a, Api> {
        self.0.served(kind)
    }

    fn get<'a>(&'a self, at: At<'a>) -> Reply<'a, Value> {
        self.0.get(at)
    }

    fn list<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        labels: &'a BTreeMap<String, String>,
    ) -> Reply<'a, Vec<Value>> {
        self.0.list(api, namespace, labels)
    }

    fn create<'a>(
        &'a self,
        api: &'a Api,
        namespace: Option<&'a str>,
        object: &'a Value,
    ) -> Reply<'a, Value> {
        Box::pin(async move {
            self.strict(api, namespace, object).await?;
            // The server may be older than a field of Kubernetes' own kinds.
            if api.group == "batch" {
                return self.0.create(api, namespace, object).await;
            }
            let got = self.0.create(api, namespace, object).await?;
            kept(&api.kind, object, got)
        })
    }

    fn apply<'a>(&'a self, at: At<'a>, object: &'a Value) -> Reply<'a, Value> {
        Box::pin(async move { kept(at.name, object, self.0.apply(at, object).await?) })
    }

    fn patch<'a>(&'a self, at: At<'a>, patch: &'a Value) -> Reply<'a, Value> {
        Box::pin(async move { kept(at.name, patch, self.0.patch(at, patch).await?) })
    }

    fn delete<'a>(&'a self, at: At<'a>, uid: Option<&'a str>) -> Reply<'a, ()> {
        self.0.delete(at, uid)
    }

    fn changed<'a>(
        &'a self,
        at: At<'a>,
        version: &'a str,
        poll: Duration,
        most: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.0.changed(at, version, poll, most)
    }

    fn can_i<'a>(&'a self, right: &'a Right) -> Reply<'a, Allowed> {
        self.0.can_i(right)
    }

    fn http<'a>(&'a self, request: &'a HttpRequest) -> Reply<'a, HttpAnswer> {
        self.0.http(request)
    }
}

/// Every definition below a directory.
fn definitions(at: &Path, out: &mut Vec<Value>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(at)
        .unwrap_or_else(|cause| panic!("{}: {cause}", at.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            definitions(&path, out);
        } else if path.extension().is_some_and(|it| it == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            for document in text.split("\n---") {
                match serde_saphyr::from_str::<Value>(document.trim_start_matches("---")) {
                    Ok(tree) if tree["apiVersion"] == "apiextensions.k8s.io/v1" => out.push(tree),
                    Ok(_) => {}
                    Err(cause) => eprintln!("{}: left out: {cause}", path.display()),
                }
            }
        }
    }
}

pub(crate) async fn load(cluster: &LiveCluster, directory: &Path) {
    let api = Api {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
        cluster: true,
    };
    let mut all = Vec::new();
    definitions(directory, &mut all);
    for definition in &mut all {
        definition["status"].take();
        match cluster.create(&api, None, definition).await {
            Ok(_) => {}
            Err(cause) if cause.kind == CallKind::Conflict => {}
            Err(cause) => eprintln!("{}: left out: {cause}", definition["metadata"]["name"]),
        }
    }
    eprintln!("{} definitions", all.len());
}

/// Why a recipe cannot be tried on the definitions; none when it can.
async fn missing(live: &Live, recipe: &Recipe, part: &Part) -> Option<String> {
    if let Some(why) = &part.recorded {
        return Some(why.clone());
    }
    if matches!(recipe.steps.first()?.trigger, Trigger::Http(_)) {
        return Some("its API is not Kubernetes'".to_owned());
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    for kind in recipe.kinds.values().filter(|it| it.detect) {
        while live.served(kind).await.is_err() {
            if tokio::time::Instant::now() > until {
                return Some(format!("no definition of {}.{}", kind.plural, kind.group));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    for thing in &part.standing {
        let kind = &recipe.kinds[&thing.kind];
        let api = Api::of(kind, kind.versions.first()?);
        // Kinds of Kubernetes itself are not looked up before: an old server may not have them.
        let none = BTreeMap::new();
        if kind.group == "batch" && live.list(&api, None, &none).await.is_err() {
            let versions = kind.versions.join(" or ");
            return Some(format!(
                "the server does not serve {} in {versions}",
                kind.kind
            ));
        }
    }
    None
}

async fn try_out(live: &Live, recipe: &Recipe, part: &Part) {
    for (fails, end) in [(false, "a"), (true, "b")] {
        let name = format!("us-{}-{end}-{:x}", recipe.name, std::process::id());
        let place = Place::Live(live.clone());
        let scene = Scene::on(place, recipe, part, &name, &name);
        live.namespace(&name).await;
        scene.stand().await;
        if fails {
            let Some(state) = &part.failed else { continue };
            // Waiting out the time that an error may last is the player's in memory.
            if last(&scene).when.failed.is_none() {
                continue;
            }
            let taken = scene
                .take_while(async || {
                    let name = lead_up(&scene, &[]).await;
                    scene.write(last(&scene), &name, state).await;
                })
                .await;
            final_error(&taken, &state.says);
        } else {
            let taken = scene
                .take_while(async || drop(usual(&scene, &[]).await))
                .await;
            let handle = whole(&scene, taken);
            scene
                .run(async |engine| engine.check(&handle).await)
                .await
                .unwrap_or_else(|cause| panic!("{cause}"));
            if shows(recipe, part, Scenario::Restored) {
                restore(&scene, &handle).await;
            }
            let mut scene = scene;
            if shows(recipe, part, Scenario::Verified) {
                scene.request.run = scratch_run(&name);
                live.namespace(&scene.verify()).await;
                read_back(&scene, &handle).await;
                scene.request.run.clone_from(&name);
            }
            if shows(recipe, part, Scenario::Deleted) {
                delete(&scene, &handle).await;
            }
        }
    }
}

#[tokio::test]
async fn the_same_states_hold_on_the_systems_own_definitions() {
    let may = std::env::var_os("UNDERSTUDY_TEST_CLUSTER").is_some_and(|it| it == "1");
    let crds = std::env::var_os("UNDERSTUDY_TEST_CRDS").map(PathBuf::from);
    let (true, Some(crds)) = (may, crds) else {
        eprintln!(
            "skipped: it needs UNDERSTUDY_TEST_CLUSTER=1, KUBECONFIG, and a directory of definitions in UNDERSTUDY_TEST_CRDS"
        );
        return;
    };
    let kubeconfig = std::env::var_os("KUBECONFIG").map(PathBuf::from);
    let cluster = LiveCluster::connect(kubeconfig.as_deref()).await.unwrap();
    load(&cluster, &crds).await;
    let live = Live(cluster);
    let book = Book::builtin().unwrap();
    let only = std::env::var("UNDERSTUDY_TEST_ONLY").unwrap_or_default();
    let (mut lines, mut problems) = (String::new(), Vec::new());
    for recipe in book.all().filter(|it| only.is_empty() || it.name == only) {
        let part = part(&recipe.name);
        if let Some(why) = missing(&live, recipe, &part).await {
            lines += &format!("{}: recorded shapes only: {why}\n", recipe.name);
            continue;
        }
        let schema = part.schema;
        let (live, recipe, name) = (live.clone(), recipe.clone(), recipe.name.clone());
        let tried = async move { try_out(&live, &recipe, &part).await };
        match tokio::task::LocalSet::new()
            .run_until(async { tokio::task::spawn_local(tried).await })
            .await
        {
            Ok(()) if schema => lines += &format!("{name}: real definitions\n"),
            Ok(()) => lines += &format!("{name}: real definitions, which name no fields\n"),
            Err(_) => problems.push(name),
        }
    }
    eprintln!("{lines}");
    assert!(problems.is_empty(), "{problems:?}");
    if std::env::var_os("UNDERSTUDY_WRITE").is_some() && only.is_empty() {
        std::fs::write(directory().join("crds.txt"), lines).unwrap();
    }
}
