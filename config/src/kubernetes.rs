//! `kubernetes`: where snapshots of volumes are taken by recipes of a cluster's backup systems.
//!
//! Only what an operator writes is checked here. What a recipe needs of its parameters is checked where recipes are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::problem::Problem;
use crate::scalar;
use crate::section::{Section, Wrong, take_text};
use crate::settings::{Absent, Kind, Reload, SectionSpec, setting};
use crate::sources::Sources;

const SECOND: u64 = 1_000_000;

/// The cluster, and what its recipes are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// Where our objects are; none means that of the service account or of the kubeconfig's context.
    pub namespace: Option<String>,
    /// How the API server is reached; none means from inside the cluster, or `KUBECONFIG`.
    pub kubeconfig: Option<PathBuf>,
    /// Recipes of the operator's own, beside those that come with us.
    pub recipes_dir: Option<PathBuf>,
    /// How far a server is quieted before its volume is cut.
    pub level: SnapshotLevel,
    /// Parameters by recipe and name.
    pub params: BTreeMap<String, BTreeMap<String, String>>,
    /// Claims by shard, where they are not to be found from the server's address.
    pub volumes: BTreeMap<String, VolumeClaim>,
    /// How the sidecars of a pool agree on one that acts.
    pub lease: AgentLease,
    /// The Job that reads a snapshot back.
    pub verify: VerifyJob,
}

/// The Job by which `snapshots verify` reads a volume's snapshot back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyJob {
    /// An image whose entrypoint is `understudy`; without one nothing is read back.
    pub image: Option<String>,
    /// Where systems restore that cannot restore under another name: a namespace for this alone.
    pub namespace: Option<String>,
    /// Secrets by which it is pulled.
    pub pull_secrets: Vec<String>,
    /// The account that it runs as.
    pub service_account: Option<String>,
    /// The user that it runs as where no Pod says whose the files are. Default: 999, the images' `redis`.
    pub run_as_user: u64,
    /// Longest time from the Job to its answer. Default: 30 min.
    pub deadline: Duration,
    /// Requests and limits of its container.
    pub resources: BTreeMap<String, BTreeMap<String, String>>,
}

impl Default for VerifyJob {
    fn default() -> Self {
        Self {
            image: None,
            namespace: None,
            pull_secrets: Vec::new(),
            service_account: None,
            run_as_user: 999,
            deadline: Duration::from_secs(30 * 60),
            resources: BTreeMap::new(),
        }
    }
}

/// How far a server is quieted before its volume is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotLevel {
    /// An RDB was finished, or the append-only file synced, after the request.
    #[default]
    App,
    /// Not at all.
    Crash,
}

/// A volume by its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeClaim {
    /// The claim's name.
    pub claim: String,
    /// Its namespace, where it is another than ours.
    pub namespace: Option<String>,
}

/// How the sidecars of a pool agree on one that acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentLease {
    /// The Lease's name; none means `understudy-<pool>`.
    pub name: Option<String>,
    /// How long one that stays silent keeps it.
    pub duration: Duration,
}

impl Default for AgentLease {
    fn default() -> Self {
        Self {
            name: None,
            duration: Duration::from_secs(15),
        }
    }
}

pub(crate) const KUBERNETES: SectionSpec = SectionSpec {
    title: "`kubernetes`",
    settings: &[
        setting(
            "namespace",
            Kind::Text,
            Absent::Means("that of the service account"),
            Reload::Restart,
            "Namespace of the servers' volumes and of our objects.",
        ),
        setting(
            "kubeconfig",
            Kind::Path,
            Absent::Means("from inside the cluster, or KUBECONFIG"),
            Reload::Restart,
            "How the API server is reached; relative to this file.",
        ),
        setting(
            "recipes_dir",
            Kind::Path,
            Absent::Means("only the recipes that come with us"),
            Reload::Restart,
            "Folder with recipes of your own, *.yaml; relative to this file.",
        ),
        setting(
            "level",
            Kind::OneOf(&["app", "crash"]),
            Absent::Is("app"),
            Reload::Restart,
            "How far a server is quieted before its volume is cut. app: an RDB was finished, or the append-only file synced, after the request, and no client was held for it. crash: not at all.",
        ),
        setting(
            "params",
            Kind::Map(&Kind::Map(&Kind::Text)),
            Absent::Means("the defaults of each recipe"),
            Reload::Restart,
            "Parameters of recipes, by recipe and name.",
        ),
        setting(
            "volumes",
            Kind::Map(&Kind::Section(&VOLUME)),
            Absent::Means("found from the servers' addresses"),
            Reload::Restart,
            "Claims of the servers' volumes, by shard.",
        ),
        setting(
            "lease",
            Kind::Section(&LEASE),
            Absent::Means("its defaults"),
            Reload::Restart,
            "How the sidecars of a pool agree on one that acts.",
        ),
        setting(
            "verify",
            Kind::Section(&VERIFY),
            Absent::Means("its defaults; nothing is read back without an image"),
            Reload::Restart,
            "The Job by which `snapshots verify` reads a snapshot back.",
        ),
    ],
};

pub(crate) const VERIFY: SectionSpec = SectionSpec {
    title: "`kubernetes.verify`",
    settings: &[
        setting(
            "image",
            Kind::Text,
            Absent::Means("snapshots of volumes are not read back"),
            Reload::Restart,
            "An image whose entrypoint is `understudy`, of this version.",
        ),
        setting(
            "namespace",
            Kind::Text,
            Absent::Means(
                "snapshots of systems that restore claims under the names that they had are not read back",
            ),
            Reload::Restart,
            "Where such systems restore to: a namespace that is there for this alone, never the server's own. Its claims are removed afterwards.",
        ),
        setting(
            "pull_secrets",
            Kind::List(&Kind::Text),
            Absent::Means("none"),
            Reload::Restart,
            "Secrets by which it is pulled, in the namespace where it runs.",
        ),
        setting(
            "service_account",
            Kind::Text,
            Absent::Means("the namespace's default one; its token is not mounted"),
            Reload::Restart,
            "The account that the Job runs as.",
        ),
        setting(
            "run_as_user",
            Kind::Whole {
                min: 1,
                max: 2_147_483_647,
            },
            Absent::Is("999"),
            Reload::Restart,
            "The user that it runs as where no Pod that uses the claim says whose the files are. 999 is `redis` in the usual images.",
        ),
        setting(
            "deadline",
            Kind::Time {
                min: 10 * SECOND,
                max: 24 * 3600 * SECOND,
            },
            Absent::Is("30min"),
            Reload::Restart,
            "Longest time from the Job to its answer.",
        ),
        setting(
            "resources",
            Kind::Map(&Kind::Map(&Kind::Text)),
            Absent::Means("requests 100m CPU and 64Mi, limit 256Mi of memory"),
            Reload::Restart,
            "Requests and limits of its container, as Kubernetes writes them.",
        ),
    ],
};

pub(crate) const VOLUME: SectionSpec = SectionSpec {
    title: "`kubernetes.volumes.<shard>`",
    settings: &[
        setting(
            "claim",
            Kind::Text,
            Absent::Refused,
            Reload::Restart,
            "Name of the PersistentVolumeClaim that the shard's server writes to.",
        ),
        setting(
            "namespace",
            Kind::Text,
            Absent::Means("`kubernetes.namespace`"),
            Reload::Restart,
            "Its namespace.",
        ),
    ],
};

pub(crate) const LEASE: SectionSpec = SectionSpec {
    title: "`kubernetes.lease`",
    settings: &[
        setting(
            "name",
            Kind::Text,
            Absent::Means("`understudy-<pool>`"),
            Reload::Restart,
            "Name of the Lease.",
        ),
        setting(
            "duration",
            Kind::Time {
                min: 3 * SECOND,
                max: 600 * SECOND,
            },
            Absent::Is("15s"),
            Reload::Restart,
            "How long a sidecar that stays silent keeps the Lease. Another one goes on with its snapshot then.",
        ),
    ],
};

impl Kubernetes {
    /// Reads the section, if the file has one.
    pub(crate) fn read(
        file: &Section<'_>,
        sources: Sources<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let section = file.section("kubernetes", &KUBERNETES, problems)?;
        let namespace = section.take("namespace", problems, object_name);
        let kubeconfig = section.take("kubeconfig", problems, |text| sources.path(text));
        let recipes_dir = section.take("recipes_dir", problems, |text| sources.path(text));
        let level = section.take("level", problems, level).unwrap_or_default();
        let mut params = BTreeMap::new();
        for (recipe, node, place) in section.entries("params", problems) {
            let mut values = BTreeMap::new();
            for (name, node, place) in Section::entries_of(node, &place, problems) {
                if let Some(value) = take_text(node, &place, problems) {
                    values.insert(name.to_owned(), value.to_owned());
                }
            }
            params.insert(recipe.to_owned(), values);
        }
        let mut volumes = BTreeMap::new();
        for (shard, node, place) in section.entries("volumes", problems) {
            let Some(volume) = Section::open(node, place, &VOLUME, problems) else {
                continue;
            };
            let claim = volume.require("claim", problems, object_name);
            let namespace = volume.take("namespace", problems, object_name);
            if let Some(claim) = claim {
                volumes.insert(shard.to_owned(), VolumeClaim { claim, namespace });
            }
        }
        let mut lease = AgentLease::default();
        if let Some(section) = section.section("lease", &LEASE, problems) {
            lease.name = section.take("name", problems, object_name);
            let (min, max) = section.bounds("duration");
            let within = |text: &str| scalar::within(text, min, max);
            if let Some(duration) = section.take("duration", problems, within) {
                lease.duration = duration;
            }
        }
        let verify = section.section("verify", &VERIFY, problems);
        let verify = verify.map_or_else(VerifyJob::default, |it| VerifyJob::read(&it, problems));
        Some(Self {
            verify,
            namespace,
            kubeconfig,
            recipes_dir,
            level,
            params,
            volumes,
            lease,
        })
    }
}

impl VerifyJob {
    fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut job = Self {
            image: section.take("image", problems, scalar::text),
            namespace: section.take("namespace", problems, object_name),
            service_account: section.take("service_account", problems, object_name),
            ..Self::default()
        };
        for (node, place) in section.list("pull_secrets", problems) {
            match take_text(node, &place, problems).map(object_name) {
                Some(Ok(secret)) => job.pull_secrets.push(secret),
                Some(Err(wrong)) => problems.push(place.problem(wrong)),
                None => {}
            }
        }
        let (min, max) = section.bounds("run_as_user");
        let within = |text: &str| scalar::within(text, min, max);
        if let Some(user) = section.take("run_as_user", problems, within) {
            job.run_as_user = user;
        }
        let (min, max) = section.bounds("deadline");
        let within = |text: &str| scalar::within(text, min, max);
        if let Some(deadline) = section.take("deadline", problems, within) {
            job.deadline = deadline;
        }
        for (kind, node, place) in section.entries("resources", problems) {
            let mut amounts = BTreeMap::new();
            for (name, node, place) in Section::entries_of(node, &place, problems) {
                if let Some(amount) = take_text(node, &place, problems) {
                    amounts.insert(name.to_owned(), amount.to_owned());
                }
            }
            if !["requests", "limits"].contains(&kind) {
                problems.push(place.problem(Wrong::new(
                    "is neither requests nor limits",
                    "write those, as in a container",
                )));
            }
            job.resources.insert(kind.to_owned(), amounts);
        }
        job
    }
}

fn level(text: &str) -> Result<SnapshotLevel, Wrong> {
    match text {
        "app" => Ok(SnapshotLevel::App),
        "crash" => Ok(SnapshotLevel::Crash),
        _ => Err(Wrong::new(
            format!("there is no level '{text}'"),
            "write app or crash",
        )),
    }
}

/// A name as the API server takes it (RFC 1123).
fn object_name(text: &str) -> Result<String, Wrong> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = text.len() <= 253 && text.chars().all(letter);
    if fits && ends(text.chars().next()) && ends(text.chars().next_back()) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("'{text}' is no name of an object"),
        "write a-z, 0-9, '-' and '.', a letter or digit at both ends",
    ))
}
