//! What the token of a broken container must not be good for: a write of ours with one thing changed in it.

use serde_json::{Value, json};
use understudy_kube::cluster::memory::Review;
use understudy_kube::recipe::Book;

use super::admission::{Decision, Policy, Request};
use super::{CONTROL, SIDECAR, gate, image_of, played, policy_of, rendered, writes};
use crate::scenario::Scenario;

/// One that must be denied, and by which words alone.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) user: &'static str,
    pub(super) review: Review,
    pub(super) message: &'static str,
}

/// What passes and what does not.
pub(super) struct Table {
    /// The objects of a release whose control takes snapshots, and of one whose sidecars do.
    pub(super) here: Vec<Value>,
    pub(super) agents: Vec<Value>,
    /// What we write, and who.
    pub(super) passed: Vec<(&'static str, Review)>,
    pub(super) rows: Vec<Row>,
}

const LABEL: &str = "understudy may only write objects with the label understudy.io/run";
const OURS: &str = "understudy may only change and delete objects that it made: they have the label understudy.io/run";
const PLACE: &str = "understudy may only write in the namespaces where its recipes need it";
const OWNER: &str = "understudy may not change owners or finalizers";
const LEASE: &str = "understudy may only hold leases named understudy-…";
const SPEC: &str = "understudy may only change the labels of a claim";
const CONTENT: &str = "understudy may only change the deletion policy of a VolumeSnapshotContent";
const KEEPS: &str = "understudy may only delete a VolumeSnapshotContent that keeps its snapshot";
const VOLUME: &str =
    "understudy may only make PersistentVolumes of Longhorn, for a claim of snapshots.namespaces";
pub(super) const GROUP: &str =
    "understudy may only change the deletion policy of a VolumeGroupSnapshotContent";
const SOURCE: &str = "understudy may only trigger a ReplicationSource";
const CLAIM: &str = "this claim is not one of snapshots.admissionPolicy.claims";
const SPACES: &str = "understudy may only back up the namespaces of snapshots.namespaces";
const BACKUP: &str = "understudy may only restore and delete backups named us-…";
const BLUEPRINT: &str =
    "understudy may only run its blueprint, on workloads of snapshots.namespaces";
const IMAGE: &str =
    "a Job of understudy may only run its own image, or one of snapshots.admissionPolicy.jobImages";
const ACCOUNT: &str = "a Job of understudy may only run as an account of snapshots.admissionPolicy.jobServiceAccounts";
const NODE: &str = "a Job of understudy may not use the node: no host network, host path, privilege or more capabilities";

const RECIPES: [&str; 8] = [
    "csi",
    "csi-group",
    "kanister",
    "stork",
    "stork-app",
    "velero",
    "volsync",
    "longhorn",
];

/// Sets what is at a path, where a number is a place in a list. Null takes it away: a server keeps no field without a value.
fn set(object: &mut Value, path: &[&str], value: Value) {
    let (last, before) = path.split_last().expect("a path");
    let mut at = object;
    for part in before {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[*part],
        };
    }
    match value {
        Value::Null => drop(at.as_object_mut().expect("a map").shift_remove(*last)),
        value => at[*last] = value,
    }
}

/// All rows, of the writes that the policies let pass.
fn rows(passed: &[(&'static str, Review)], image: &str) -> Vec<Row> {
    let of = |operation: &str, plural: &str| {
        let (group, plural) = plural.split_once('/').unwrap_or(("", plural));
        let is = |it: &&Review| {
            it.operation == operation
                && it.api.plural == plural
                && (group.is_empty() || it.api.group == group)
        };
        let found = passed.iter().map(|it| &it.1).find(is);
        found
            .unwrap_or_else(|| panic!("{operation} {group}/{plural} was never done"))
            .clone()
    };
    let mut rows = Vec::new();
    let mut row =
        |what, message, (operation, plural): (&str, &str), path: &[&str], value: Value| {
            let mut review = of(operation, plural);
            match operation {
                "DELETE" => set(&mut review.old, path, value),
                _ => set(&mut review.object, path, value),
            }
            let user = if plural == "leases" { SIDECAR } else { CONTROL };
            rows.push(Row {
                what,
                user,
                review,
                message,
            });
        };

    let job = ("CREATE", "jobs");
    let pod = |rest: &[&'static str]| [&["spec", "template", "spec"], rest].concat();
    let container = |rest: &[&'static str]| [&pod(&["containers", "0"])[..], rest].concat();
    let other = json!([{"name": "first", "image": "example.com/other:1"}]);
    let strong =
        json!([{"name": "first", "image": image, "securityContext": {"privileged": true}}]);
    row(
        "another image",
        IMAGE,
        job,
        &container(&["image"]),
        json!("example.com/other:1"),
    );
    row(
        "another image that starts first",
        IMAGE,
        job,
        &pod(&["initContainers"]),
        other,
    );
    row(
        "another account",
        ACCOUNT,
        job,
        &pod(&["serviceAccountName"]),
        json!("admin"),
    );
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        row(host, NODE, job, &pod(&[host]), json!(true));
    }
    row(
        "a path of the node",
        NODE,
        job,
        &pod(&["volumes"]),
        json!([{"name": "data", "hostPath": {"path": "/"}}]),
    );
    row(
        "privilege",
        NODE,
        job,
        &container(&["securityContext"]),
        json!({"privileged": true}),
    );
    row(
        "privilege that starts first",
        NODE,
        job,
        &pod(&["initContainers"]),
        strong,
    );
    row(
        "a capability",
        NODE,
        job,
        &container(&["securityContext", "capabilities", "add"]),
        json!(["CHOWN", "SYS_ADMIN"]),
    );

    let labels = ["metadata", "labels"];
    // Without any, a server would give it those of its template.
    row(
        "a Job without our label",
        LABEL,
        job,
        &labels,
        json!({"app": "shop"}),
    );
    row(
        "a claim without labels",
        LABEL,
        ("CREATE", "persistentvolumeclaims"),
        &labels,
        Value::Null,
    );
    row(
        "a snapshot without our label",
        LABEL,
        ("CREATE", "snapshot.storage.k8s.io/volumesnapshots"),
        &labels,
        json!({}),
    );
    row(
        "a label taken off",
        LABEL,
        ("UPDATE", "configmaps"),
        &labels,
        json!({}),
    );
    row(
        "the deletion of somebody's claim",
        OURS,
        ("DELETE", "persistentvolumeclaims"),
        &labels,
        json!({"app": "shop"}),
    );
    row(
        "the deletion of somebody's Job",
        OURS,
        ("DELETE", "jobs"),
        &labels,
        json!({"app": "shop"}),
    );
    row(
        "the deletion of somebody's config",
        OURS,
        ("DELETE", "configmaps"),
        &labels,
        json!({}),
    );
    row(
        "the deletion of somebody's snapshot",
        OURS,
        ("DELETE", "snapshot.storage.k8s.io/volumesnapshots"),
        &labels,
        json!({}),
    );

    let claim = ("UPDATE", "persistentvolumeclaims");
    row(
        "another volume",
        SPEC,
        claim,
        &["spec", "volumeName"],
        json!("pv-of-another"),
    );
    let nobody = json!([{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "gone"}]);
    row(
        "an owner that is gone",
        OWNER,
        claim,
        &["metadata", "ownerReferences"],
        nobody,
    );
    row(
        "a finalizer",
        OWNER,
        claim,
        &["metadata", "finalizers"],
        json!(["example.com/ours"]),
    );

    let content = ("UPDATE", "volumesnapshotcontents");
    row(
        "another snapshot",
        CONTENT,
        content,
        &["spec", "source"],
        json!({"snapshotHandle": "of another"}),
    );
    row(
        "another driver",
        CONTENT,
        content,
        &["spec", "driver"],
        json!("another"),
    );
    row(
        "another's snapshot",
        CONTENT,
        content,
        &["spec", "volumeSnapshotRef"],
        json!({"name": "of-another"}),
    );
    let content = ("UPDATE", "volumegroupsnapshotcontents");
    row(
        "another group snapshot",
        GROUP,
        content,
        &["spec", "source"],
        json!({"volumeHandles": ["of another"]}),
    );
    row(
        "another's group snapshot",
        GROUP,
        content,
        &["spec", "volumeGroupSnapshotRef", "name"],
        json!("of-another"),
    );
    let source = ("UPDATE", "replicationsources");
    row(
        "another claim to replicate",
        SOURCE,
        source,
        &["spec", "sourcePVC"],
        json!("of-another"),
    );
    row(
        "a part taken out",
        SOURCE,
        source,
        &["spec"],
        json!({"trigger": {"manual": "now"}}),
    );

    let spec = ["spec", "source"];
    row(
        "a claim that is not named",
        CLAIM,
        ("CREATE", "snapshot.storage.k8s.io/volumesnapshots"),
        &spec,
        json!({"persistentVolumeClaimName": "of-another"}),
    );
    row(
        "a snapshot of a content",
        CLAIM,
        ("CREATE", "snapshot.storage.k8s.io/volumesnapshots"),
        &spec,
        json!({"volumeSnapshotContentName": "of-another"}),
    );
    row(
        "a claim that is not named, by Stork",
        CLAIM,
        (
            "CREATE",
            "volumesnapshot.external-storage.k8s.io/volumesnapshots",
        ),
        &["spec", "persistentVolumeClaimName"],
        json!("of-another"),
    );

    let backup = ("CREATE", "backups");
    for namespaces in [json!(["*"]), json!(["redis", "kube-system"]), json!([])] {
        row(
            "a backup of other namespaces",
            SPACES,
            backup,
            &["spec", "includedNamespaces"],
            namespaces,
        );
    }
    let backup = ("CREATE", "applicationbackups");
    for namespaces in [json!(["*"]), json!(["redis", "kube-system"]), json!([])] {
        row(
            "a backup of other namespaces, by Stork",
            SPACES,
            backup,
            &["spec", "namespaces"],
            namespaces,
        );
    }
    for (what, plural) in [
        ("the deletion of another's backup", "deletebackuprequests"),
        ("a restore of another's backup", "restores"),
        (
            "a restore of another's backup, by Stork",
            "applicationrestores",
        ),
    ] {
        let create = ("CREATE", plural);
        row(
            what,
            BACKUP,
            create,
            &["spec", "backupName"],
            json!("nightly"),
        );
        row(
            what,
            BACKUP,
            create,
            &["spec"],
            json!({"scheduleName": "us-nightly"}),
        );
    }
    row(
        "a backup of all namespaces",
        SPACES,
        backup,
        &["spec"],
        json!({}),
    );

    let action = ("CREATE", "actionsets");
    let of_action = |rest: &[&'static str]| [&["spec", "actions", "0"], rest].concat();
    row(
        "a workload of another namespace",
        BLUEPRINT,
        action,
        &of_action(&["object", "namespace"]),
        json!("kube-system"),
    );
    row(
        "another blueprint",
        BLUEPRINT,
        action,
        &of_action(&["blueprint"]),
        json!("another"),
    );
    row(
        "a Pod of its own choice",
        BLUEPRINT,
        action,
        &of_action(&["podOverride"]),
        json!({"hostNetwork": true}),
    );
    row(
        "no action",
        BLUEPRINT,
        action,
        &["spec", "actions"],
        json!([]),
    );
    row(
        "another's Lease",
        LEASE,
        ("CREATE", "leases"),
        &["metadata", "name"],
        json!("kube-scheduler"),
    );

    // What is told by the request and by the object that is there.
    let mut of_request = |what, message, operation, plural, change: &dyn Fn(&mut Review)| {
        let mut review = of(operation, plural);
        change(&mut review);
        let user = if plural == "leases" { SIDECAR } else { CONTROL };
        rows.push(Row {
            what,
            user,
            review,
            message,
        });
    };
    for (operation, plural) in [
        ("CREATE", "jobs"),
        ("CREATE", "persistentvolumeclaims"),
        ("DELETE", "persistentvolumeclaims"),
        ("UPDATE", "configmaps"),
    ] {
        of_request("another namespace", PLACE, operation, plural, &|review| {
            review.namespace = Some("default".to_owned());
        });
    }
    of_request(
        "a content whose snapshot goes with it",
        KEEPS,
        "DELETE",
        "volumesnapshotcontents",
        &|review| {
            set(
                &mut review.old,
                &["spec", "deletionPolicy"],
                json!("Delete"),
            );
        },
    );
    for (path, value) in [
        (
            ["spec", "csi", "driver"].as_slice(),
            json!("disk.example.com"),
        ),
        (&["spec", "csi"], Value::Null),
        (&["spec", "claimRef", "namespace"], json!("kube-system")),
        (&["spec", "claimRef"], Value::Null),
    ] {
        of_request(
            "a volume of somebody's disk",
            VOLUME,
            "CREATE",
            "persistentvolumes",
            &|review| set(&mut review.object, path, value.clone()),
        );
    }
    of_request(
        "a claim of the server's own, where another is read back",
        OURS,
        "DELETE",
        "persistentvolumeclaims",
        &|review| {
            review.namespace = Some("redis".to_owned());
            set(&mut review.old, &labels, json!({"app": "redis"}));
        },
    );
    of_request(
        "a change of somebody's config",
        OURS,
        "UPDATE",
        "configmaps",
        &|review| {
            set(&mut review.old, &labels, json!({"app": "shop"}));
        },
    );
    of_request(
        "a finalizer taken off",
        OWNER,
        "UPDATE",
        "persistentvolumeclaims",
        &|review| {
            set(
                &mut review.old,
                &["metadata", "finalizers"],
                json!(["kubernetes.io/pvc-protection"]),
            );
        },
    );
    of_request(
        "another's Lease, changed",
        LEASE,
        "UPDATE",
        "leases",
        &|review| {
            review.name = "kube-scheduler".to_owned();
            for object in [&mut review.object, &mut review.old] {
                set(object, &["metadata", "name"], json!("kube-scheduler"));
            }
        },
    );
    rows
}

/// Two releases, what they write, and the rows. None without Helm's library.
pub(super) fn table() -> Option<Table> {
    let told = |by: &str| {
        let kanister = json!({"blueprint": "redis-pvc", "objectName": "redis"});
        json!({"recipes": RECIPES, "by": by, "admissionPolicy": {"claims": ["data-0"]}, "params": {"kanister": kanister},
            "verify": {"namespace": "redis-verify", "image": "understudy:1"}})
    };
    let mut objects = rendered(&[told("here"), told("agents")])?.into_iter();
    let (here, agents) = (objects.next()?, objects.next()?);
    let image = image_of(&here);
    let book = Book::builtin().unwrap();
    let scenarios = [
        Scenario::Success,
        Scenario::Restored,
        Scenario::Verified,
        Scenario::Deleted,
    ];
    let mut passed = Vec::new();
    for recipe in RECIPES {
        let writes = played(&book, recipe, policy_of(&here), scenarios);
        passed.extend(writes.into_iter().map(|it| (CONTROL, it)));
    }
    for (objects, user) in [(&here, CONTROL), (&agents, SIDECAR)] {
        let (gate, kept) = gate(Policy::of(policy_of(objects)), user);
        if user == CONTROL {
            writes::of_control(&gate, &image);
        } else {
            writes::of_a_sidecar(&gate);
        }
        passed.extend(kept.lock().unwrap().iter().map(|it| (user, it.clone())));
    }
    let rows = rows(&passed, &image);
    Some(Table {
        here,
        agents,
        passed,
        rows,
    })
}

impl Table {
    fn policies(&self) -> [Policy; 2] {
        [&self.here, &self.agents].map(|it| Policy::of(policy_of(it)))
    }
}

impl Row {
    fn decided(&self, [here, agents]: &[Policy; 2], user: &str) -> Decision {
        let policy = if self.user == SIDECAR { agents } else { here };
        policy.decide(&Request {
            user: user.to_owned(),
            review: self.review.clone(),
        })
    }
}

#[test]
fn what_is_not_ours_to_do_is_denied_in_the_policys_own_words_and_only_to_us() {
    let Some(table) = table() else {
        return;
    };
    let policies = table.policies();
    for row in &table.rows {
        let denied = Decision::Denied(vec![row.message.to_owned()]);
        assert_eq!(row.decided(&policies, row.user), denied, "{}", row.what);
        for somebody in [
            "kubernetes-admin",
            "system:serviceaccount:redis:default",
            "system:serviceaccount:other:understudy-control",
            "system:serviceaccount:kube-system:job-controller",
        ] {
            let untouched = row.decided(&policies, somebody);
            assert_eq!(untouched, Decision::Untouched, "{} by {somebody}", row.what);
        }
    }
}

#[test]
fn without_any_one_of_its_validations_the_policy_lets_something_pass() {
    let Some(table) = table() else {
        return;
    };
    let [whole, _] = table.policies();
    for (index, message) in whole.messages().into_iter().enumerate() {
        let weak = table.policies().map(|it| it.weakened(index));
        let passes = |row: &&Row| row.decided(&weak, row.user) == Decision::Allowed;
        let passed: Vec<&str> = table
            .rows
            .iter()
            .filter(passes)
            .map(|row| row.message)
            .collect();
        assert!(
            !passed.is_empty(),
            "nothing shows that this is needed: {message}"
        );
        assert!(
            passed.iter().all(|it| *it == message),
            "{message}: {passed:?}"
        );
    }
}

#[test]
fn a_recipe_that_makes_a_job_of_a_cronjob_brings_its_image_unless_images_are_named() {
    let told = |images: Value| {
        json!({"recipes": ["restic"], "params": {"restic": {"cronjob": "redis-backup"}},
            "admissionPolicy": {"jobImages": images}})
    };
    let named = told(json!(["restic/restic"]));
    let Some(objects) = rendered(&[told(json!([])), named, told(json!(["another"]))]) else {
        return;
    };
    let policies: Vec<Policy> = objects.iter().map(|it| Policy::of(policy_of(it))).collect();
    let book = Book::builtin().unwrap();
    let passed = played(&book, "restic", policy_of(&objects[1]), [Scenario::Success]);
    let job = passed.iter().find(|it| it.api.plural == "jobs").unwrap();
    let request = Request {
        user: CONTROL.to_owned(),
        review: job.clone(),
    };
    assert_eq!(policies[0].decide(&request), Decision::Allowed);
    assert_eq!(policies[1].decide(&request), Decision::Allowed);
    let denied = Decision::Denied(vec![IMAGE.to_owned()]);
    assert_eq!(policies[2].decide(&request), denied);
}
