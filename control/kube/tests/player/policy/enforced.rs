//! The policies on a real API server of 1.30 or later, which must decide as the evaluation here does.
//!
//! Where one may be used: `UNDERSTUDY_TEST_CLUSTER=1`, `KUBECONFIG`, and the systems' definitions in `UNDERSTUDY_TEST_CRDS`. What the
//! accounts of control and sidecars ask for is a dry run, with all rights, so that nothing but the policy says no; what they ask to
//! change or delete is made before, and taken away behind.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Map, Value, json};
use understudy_kube::cluster::Api;
use understudy_kube::cluster::live::LiveCluster;
use understudy_kube::cluster::memory::Review;

use super::forbidden::{GROUP, Table, table};
use super::{CONTROL, SIDECAR};
use crate::live::{load, objects};

/// Longest wait until a server has heard of a policy or a definition. Default: 30 s.
const PATIENCE: Duration = Duration::from_secs(30);

const ADMISSION: &str = "admissionregistration.k8s.io";

/// An annotation of what these tests make.
const MADE: &str = "understudy.io/made-by-a-test";

/// What a server made of a request.
#[derive(Debug, PartialEq)]
enum Said {
    Yes,
    /// The policy said no, with its words.
    Denied(String),
    /// Something else did, mostly a definition that does not allow such an object.
    Refused(String),
    /// It does not serve the kind.
    Unknown,
}

/// A real server, as its admin.
struct Server {
    admin: Client,
}

/// A client of this user who has all rights.
async fn acting_as(user: &str) -> Client {
    let mut config = Config::infer().await.expect("KUBECONFIG");
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    Client::try_from(config).expect("a client")
}

/// A kind of Kubernetes itself.
fn api(group: &str, kind: &str, plural: &str, cluster: bool) -> Api {
    Api {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        cluster,
    }
}

/// As it may be sent: without what a server writes itself.
fn plain(api: &Api, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = json!(api.api_version());
    object["kind"] = json!(api.kind);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for own in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "namespace",
        ] {
            metadata.shift_remove(own);
        }
    }
    object
}

/// The merge patch that makes one of the other (RFC 7396).
fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value))
    {
        let before = old.get(key).unwrap_or(&Value::Null);
        patch.insert(key.clone(), difference(before, value));
    }
    Value::Object(patch)
}

fn said<T>(answer: Result<T, kube::Error>) -> Said {
    match answer {
        Ok(_) => Said::Yes,
        Err(kube::Error::Api(status)) => match status.message.split_once(" denied request: ") {
            Some((_, words)) => Said::Denied(words.to_owned()),
            None if status
                .message
                .contains("could not find the requested resource")
                || status.message.starts_with("404 page not found") =>
            {
                Said::Unknown
            }
            None => Said::Refused(status.message.clone()),
        },
        Err(cause) => panic!("{cause}"),
    }
}

impl Server {
    async fn make(&self, api: &Api, namespace: Option<&str>, object: &Value) -> Said {
        let mut object = plain(api, object);
        object["metadata"]["annotations"][MADE] = json!("true");
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let objects = objects(self.admin.clone(), api, namespace);
        said(objects.create(&PostParams::default(), &object).await)
    }

    /// Takes an object of these tests away, whatever protects it, and waits until it is gone. Anybody else's stays.
    async fn forget(&self, api: &Api, namespace: Option<&str>, name: &str) {
        let objects = objects(self.admin.clone(), api, namespace);
        let until = tokio::time::Instant::now() + PATIENCE;
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        loop {
            match objects.get_opt(name).await {
                Ok(Some(found)) if found.annotations().contains_key(MADE) => {
                    // Either finds nothing once the other has done its work.
                    let _ = objects.delete(name, &DeleteParams::default()).await;
                    let _ = objects.patch(name, &PatchParams::default(), &free).await;
                }
                Ok(_) => return,
                // Definitions were just made: not now.
                Err(kube::Error::Api(status)) if status.code == 429 => {}
                Err(cause) => panic!("{name}: {cause}"),
            }
            assert!(tokio::time::Instant::now() < until, "{name} does not go");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the server says when this account asks for that.
    async fn ask(&self, account: &Client, review: &Review) -> Said {
        let Review {
            api,
            name,
            object,
            old,
            ..
        } = review;
        let namespace = review.namespace.as_deref();
        let theirs = objects(account.clone(), api, namespace);
        if review.operation == "CREATE" {
            let object: DynamicObject = serde_json::from_value(plain(api, object)).unwrap();
            let dry = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            return match theirs.create(&dry, &object).await {
                // Admission comes before a look at what is there.
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Said::Yes,
                answer => said(answer),
            };
        }
        self.forget(api, namespace, name).await;
        match self.make(api, namespace, old).await {
            Said::Yes => {}
            other => return other,
        }
        let answer = if review.operation == "DELETE" {
            said(
                theirs
                    .delete(name, &DeleteParams::default().dry_run())
                    .await,
            )
        } else {
            let patch = difference(&plain(api, old), &plain(api, object));
            let dry = PatchParams {
                dry_run: true,
                ..PatchParams::default()
            };
            said(theirs.patch(name, &dry, &Patch::Merge(patch)).await)
        };
        self.forget(api, namespace, name).await;
        answer
    }

    /// Installs the policy and its binding of a release under another name, for as long as `act` takes.
    async fn under<T>(
        &self,
        rendered: &[Value],
        account: &Client,
        act: impl Future<Output = T>,
    ) -> T {
        let name = "understudy-policy-test";
        let kinds = [
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            (
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
            ),
        ];
        let kinds = kinds.map(|(kind, plural)| api(ADMISSION, kind, plural, true));
        for api in &kinds {
            // A run that failed may have left one behind.
            self.forget(api, None, name).await;
            let found = rendered.iter().find(|it| it["kind"] == api.kind);
            let mut object = found.expect("in the chart").clone();
            object["metadata"]["name"] = json!(name);
            if !object["spec"]["policyName"].is_null() {
                object["spec"]["policyName"] = json!(name);
            }
            assert_eq!(
                self.make(api, None, &object).await,
                Said::Yes,
                "{}",
                api.kind
            );
        }
        self.until_enforced(account, true).await;
        let done = act.await;
        for api in kinds.iter().rev() {
            self.forget(api, None, name).await;
        }
        self.until_enforced(account, false).await;
        done
    }

    /// A server enforces a policy some time after it took it: until a write that no policy of ours lets pass is denied, or is not.
    async fn until_enforced(&self, account: &Client, wanted: bool) {
        let api = api("", "ConfigMap", "configmaps", false);
        let unlabelled = plain(&api, &json!({"metadata": {"name": "probe"}}));
        let unlabelled: DynamicObject = serde_json::from_value(unlabelled).unwrap();
        let theirs = objects(account.clone(), &api, Some("redis"));
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = said(theirs.create(&dry, &unlabelled).await);
            if matches!(answer, Said::Denied(_)) == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes every namespace that somebody writes in.
    async fn namespaces(&self, table: &Table) {
        let api = api("", "Namespace", "namespaces", true);
        let written = table
            .passed
            .iter()
            .filter_map(|it| it.1.namespace.as_deref());
        for name in written.collect::<BTreeSet<_>>() {
            // One that is there is as good.
            self.make(&api, None, &json!({"metadata": {"name": name}}))
                .await;
        }
    }
}

/// A request as it is told when it went wrong.
fn line(review: &Review) -> String {
    let Review {
        operation,
        api,
        name,
        ..
    } = review;
    format!("{operation} {}.{} {name}", api.plural, api.group)
}

#[tokio::test]
async fn a_real_server_that_has_policies_decides_as_the_evaluation_does() {
    if std::env::var_os("UNDERSTUDY_TEST_CLUSTER").is_none_or(|it| it != "1") {
        eprintln!("skipped: UNDERSTUDY_TEST_CLUSTER=1 and KUBECONFIG name no cluster to use");
        return;
    }
    let server = Server {
        admin: Client::try_default().await.expect("KUBECONFIG"),
    };
    let kind = GroupVersionKind::gvk(ADMISSION, "v1", "ValidatingAdmissionPolicy");
    if kube::discovery::pinned_kind(&server.admin, &kind)
        .await
        .is_err()
    {
        let version = server.admin.apiserver_version().await.expect("its version");
        eprintln!(
            "skipped: a server of {} has no ValidatingAdmissionPolicy",
            version.git_version
        );
        return;
    }
    // What is recorded is played on a clock of its own, in a runtime of its own.
    let Some(table) = tokio::task::spawn_blocking(table).await.unwrap() else {
        return;
    };
    if let Some(crds) = std::env::var_os("UNDERSTUDY_TEST_CRDS") {
        let kubeconfig = std::env::var_os("KUBECONFIG").map(PathBuf::from);
        let cluster = LiveCluster::connect(kubeconfig.as_deref()).await.unwrap();
        load(&cluster, &PathBuf::from(crds)).await;
    }
    server.namespaces(&table).await;
    let (mut passed, mut denied) = (0, Vec::new());
    let (mut unknown, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    for (user, rendered) in [(CONTROL, &table.here), (SIDECAR, &table.agents)] {
        let account = acting_as(user).await;
        let judge = async {
            for (_, review) in table.passed.iter().filter(|it| it.0 == user) {
                match server.ask(&account, review).await {
                    Said::Yes => passed += 1,
                    Said::Unknown => drop(unknown.insert(review.api.plural.clone())),
                    other => panic!("{}: {other:?}", line(review)),
                }
            }
            for row in table.rows.iter().filter(|it| it.user == user) {
                match server.ask(&account, &row.review).await {
                    Said::Denied(words) => {
                        assert_eq!(words, row.message, "{}: {}", row.what, line(&row.review));
                        denied.push(row.message);
                    }
                    Said::Unknown => drop(unknown.insert(row.review.api.plural.clone())),
                    Said::Refused(why) => drop(elsewhere.insert(format!("{}: {why}", row.what))),
                    Said::Yes => panic!("{} passed: {}", row.what, line(&row.review)),
                }
            }
        };
        server.under(rendered, &account, judge).await;
    }
    eprintln!(
        "{passed} writes passed, {} were denied by the policy; not served: {unknown:?}; refused before: {elsewhere:#?}",
        denied.len()
    );
    // Where every kind is served, each of the policy's sentences was the server's answer to something. But for one: the
    // definition of a group's content lets nobody change what that is about.
    let messages = table.rows.iter().map(|it| it.message);
    let silent: BTreeSet<&str> = messages.filter(|it| !denied.contains(it)).collect();
    let told = silent.iter().all(|it| *it == GROUP);
    assert!(passed > 0 && (told || !unknown.is_empty()), "{silent:?}");
}
