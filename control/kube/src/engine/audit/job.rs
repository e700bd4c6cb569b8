//! The Job that reads a scratch claim back: what it may do, which is nothing but that, and who it runs as. Pure.

use std::time::Duration;

use serde_json::{Map, Value, json};
use understudy_config::VerifyJob;

/// Where the claim is mounted.
const MOUNT: &str = "/data";
/// Where the kubelet reads the answer.
const MESSAGE: &str = "/dev/termination-log";
/// The cluster itself ends a Job that runs so much longer than anybody waits for it. Default: 60 s.
const BELT: Duration = Duration::from_secs(60);
/// The cluster itself forgets a Job that has ended for so long, should we not. Default: 1 h.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// Whose the files are, and where their Pod may run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Owner {
    user: Option<u64>,
    group: Option<u64>,
    fs_group: Option<u64>,
    /// As they stand in the Pod.
    more: Map<String, Value>,
    place: Map<String, Value>,
}

impl Owner {
    /// As the first Pod says that uses the claim.
    pub(super) fn of(pods: &[Value], claim: &str) -> Self {
        let volume = |pod: &Value| {
            let volumes = pod["spec"]["volumes"].as_array();
            let mut volumes = volumes.into_iter().flatten();
            volumes
                .find(|it| it["persistentVolumeClaim"]["claimName"] == claim)
                .map(|it| it["name"].clone())
        };
        let found = pods.iter().find_map(|pod| Some((pod, volume(pod)?)));
        let Some((pod, volume)) = found else {
            return Self::default();
        };
        let spec = &pod["spec"];
        let containers = spec["containers"].as_array();
        let mut containers = containers.into_iter().flatten();
        let mounts = |it: &&Value| {
            let mounts = it["volumeMounts"].as_array();
            mounts.into_iter().flatten().any(|it| it["name"] == volume)
        };
        let own = containers.find(mounts).map(|it| &it["securityContext"]);
        // A server that starts as root and gives that up does not say so here: its files are nobody's that we know.
        let id = |name: &str| {
            let both = [own.unwrap_or(&Value::Null), &spec["securityContext"]];
            let set = both.iter().find_map(|it| it[name].as_u64());
            set.filter(|it| *it > 0)
        };
        let copied = |from: &Value, names: &[&str]| {
            let there = names.iter().filter(|name| !from[**name].is_null());
            there
                .map(|name| ((*name).to_owned(), from[*name].clone()))
                .collect()
        };
        Self {
            user: id("runAsUser"),
            group: id("runAsGroup"),
            fs_group: spec["securityContext"]["fsGroup"]
                .as_u64()
                .filter(|it| *it > 0),
            more: copied(
                &spec["securityContext"],
                &["supplementalGroups", "seLinuxOptions"],
            ),
            // Where the driver and its volumes are reached.
            place: copied(spec, &["nodeSelector", "tolerations"]),
        }
    }
}

/// The Job, to be made. Nothing in it depends on when it is made.
pub(super) fn job(
    (namespace, name, claim): (&str, &str, &str),
    labels: &Value,
    wanted: &VerifyJob,
    image: &str,
    owner: &Owner,
) -> Value {
    let user = owner.user.unwrap_or(wanted.run_as_user);
    let group = owner.group.unwrap_or(user);
    let mut security = owner.more.clone();
    for (name, value) in [
        ("runAsNonRoot", json!(true)),
        ("runAsUser", json!(user)),
        ("runAsGroup", json!(group)),
        // What belongs to another user is made readable: the claim is a copy that goes away.
        ("fsGroup", json!(owner.fs_group.unwrap_or(group))),
        ("seccompProfile", json!({"type": "RuntimeDefault"})),
    ] {
        security.insert(name.to_owned(), value);
    }
    let resources = match wanted.resources.is_empty() {
        true => {
            json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}})
        }
        false => json!(wanted.resources),
    };
    // Only the container's mount is read-only: a filesystem that was cut while in use has its log replayed first.
    let container = json!({
        "name": "read",
        "image": image,
        "args": ["snapshots", "read", MOUNT, "--result", MESSAGE],
        "resources": resources,
        "volumeMounts": [{"name": "data", "mountPath": MOUNT, "readOnly": true}],
        "terminationMessagePath": MESSAGE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    let mut pod = owner.place.clone();
    for (name, value) in [
        ("restartPolicy", json!("Never")),
        ("automountServiceAccountToken", json!(false)),
        ("enableServiceLinks", json!(false)),
        ("securityContext", Value::Object(security)),
        ("containers", json!([container])),
        (
            "volumes",
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]),
        ),
    ] {
        pod.insert(name.to_owned(), value);
    }
    if let Some(account) = &wanted.service_account {
        pod.insert("serviceAccountName".to_owned(), json!(account));
    }
    if !wanted.pull_secrets.is_empty() {
        let named = wanted.pull_secrets.iter().map(|it| json!({"name": it}));
        pod.insert("imagePullSecrets".to_owned(), named.collect());
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": (wanted.deadline + BELT).as_secs(),
            "ttlSecondsAfterFinished": FORGOTTEN_AFTER.as_secs(),
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::{Value, json};

    use super::{Owner, VerifyJob, job};

    fn made(pods: &[Value]) -> Value {
        let wanted = VerifyJob::default();
        let owner = Owner::of(pods, "data-0");
        job(
            ("redis", "us-1-verify", "us-1-verify"),
            &json!({"understudy.io/run": "us-1-verify"}),
            &wanted,
            "understudy:1",
            &owner,
        )
    }

    #[test]
    fn the_job_is_one_that_the_api_knows_and_a_restricted_namespace_admits() {
        let made = made(&[]);
        let typed: Job = serde_json::from_value(made.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&typed).unwrap(),
            made,
            "no field is lost"
        );
        let pod = &made["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsUser"], 999);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["automountServiceAccountToken"], false);
        let container = &pod["containers"][0];
        assert_eq!(container["volumeMounts"][0]["readOnly"], true);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(made["spec"]["backoffLimit"], 0);
    }

    #[test]
    fn it_runs_as_whoever_the_files_belong_to_and_where_their_server_may() {
        let pod = |user: u64| {
            json!({"spec": {
                "securityContext": {"runAsUser": 7, "fsGroup": 1001, "supplementalGroups": [5]},
                "nodeSelector": {"pool": "redis"},
                "containers": [
                    {"name": "exporter", "securityContext": {"runAsUser": 1}},
                    {"name": "redis", "securityContext": {"runAsUser": user}, "volumeMounts": [{"name": "v"}]},
                ],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data-0"}}],
            }})
        };
        let made_of = made(&[json!({"spec": {}}), pod(1001)]);
        let spec = &made_of["spec"]["template"]["spec"];
        let expect = json!({"runAsNonRoot": true, "runAsUser": 1001, "runAsGroup": 1001, "fsGroup": 1001,
            "supplementalGroups": [5], "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(spec["securityContext"], expect);
        assert_eq!(spec["nodeSelector"]["pool"], "redis");
        // Root is no user to read as: its server gives that up, to whom is not known.
        let spec = made(&[pod(0)])["spec"]["template"]["spec"].clone();
        assert_eq!(spec["securityContext"]["runAsUser"], 999);
    }
}
