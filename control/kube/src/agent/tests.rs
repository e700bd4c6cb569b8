//! Two and three sidecars on one API server in memory, in paused time: whoever dies, whenever, a run is triggered once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use understudy_control::snapshot::{
    Answer, Preflight, Progress, ProviderError, ProviderErrorKind, Release, RestoreTo,
    SnapshotHandle, SnapshotProvider, SnapshotVerbs, SnapshotWish, Verified,
};
use understudy_net::{AdminHandler, AdminRequest};

use super::{ANNOTATION_RUN, Election, FencedCluster, LeaseSettings, Led, LedSnapshots};
use crate::cluster::memory::{Fault, MemoryCluster};
use crate::cluster::{Api, CallKind, Cluster, Place};
use crate::recipe::Kind;

const NS: &str = "redis";
const LEASE: &str = "understudy-p";
const LASTS: Duration = Duration::from_secs(15);
const RUN: &str = "us-p-s1-1-1";

fn leases() -> Kind {
    Kind::own("coordination.k8s.io", "v1", "Lease", "leases")
}

fn backups() -> Kind {
    Kind::own("example.org", "v1", "Backup", "backups")
}

/// Where a sidecar is killed in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DiesAt {
    Never,
    /// Before the run is in the Lease.
    Fence,
    /// The run is in the Lease, nothing is triggered.
    Quiesced,
    /// Triggered, and not ready.
    Triggered,
}

/// A backup system of one kind, as the engine drives one: looks for what the run began, quiets, triggers, waits.
struct Backups {
    cluster: FencedCluster,
    dies_at: DiesAt,
    dead: Arc<AtomicBool>,
    quieted: Arc<AtomicU32>,
}

impl Backups {
    async fn dies(&self, at: DiesAt) {
        if self.dies_at == at {
            self.dead.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    }

    async fn take_it(&self, wish: &SnapshotWish) -> Result<SnapshotHandle, ProviderError> {
        let api = Api::of(&backups(), "v1");
        let labels = BTreeMap::from([("run".to_owned(), wish.run.clone())]);
        let mut quiet = false;
        loop {
            let failed = |cause: crate::cluster::CallError| ProviderError::failed(cause.text);
            let found = match self.cluster.list(&api, Some(NS), &labels).await {
                Ok(found) => found,
                Err(cause) if cause.is_passing() => {
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
                Err(cause) => return Err(failed(cause)),
            };
            if let Some(object) = found.first() {
                self.dies(DiesAt::Triggered).await;
                if object["status"]["ready"] == true {
                    return Ok(SnapshotHandle {
                        id: wish.run.clone(),
                        ..SnapshotHandle::of_run(wish)
                    });
                }
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            if !quiet {
                self.quieted.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_secs(5)).await;
                quiet = true;
                self.dies(DiesAt::Quiesced).await;
            }
            let object = json!({"metadata": {"name": wish.run, "namespace": NS, "labels": {"run": wish.run}}});
            match self.cluster.create(&api, Some(NS), &object).await {
                Err(cause) if !cause.is_passing() && cause.kind != CallKind::Conflict => {
                    return Err(failed(cause));
                }
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl SnapshotProvider for Backups {
    fn recipes(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async { Ok(vec!["backup".to_owned()]) })
    }
    fn preflight<'a>(&'a self, _: &'a SnapshotWish) -> Answer<'a, Preflight> {
        Box::pin(async { Ok(Preflight::default()) })
    }
    fn take<'a>(&'a self, wish: &'a SnapshotWish, _: Progress<'a>) -> Answer<'a, SnapshotHandle> {
        Box::pin(self.take_it(wish))
    }
    fn check<'a>(&'a self, _: &'a SnapshotHandle) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
    fn release<'a>(&'a self, handle: &'a SnapshotHandle, _: Release) -> Answer<'a, ()> {
        Box::pin(async {
            let api = Api::of(&backups(), "v1");
            let at = Place {
                api: &api,
                namespace: Some(NS),
                name: &handle.run,
            };
            let gone = self.cluster.delete(at, None).await;
            gone.map_err(|cause| ProviderError::failed(cause.text))
        })
    }
    fn list(&self) -> Answer<'_, Vec<SnapshotHandle>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn show<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn restore<'a>(
        &'a self,
        _: &'a str,
        _: &'a RestoreTo,
        _: Progress<'a>,
    ) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn verify<'a>(&'a self, _: &'a str, _: Progress<'a>) -> Answer<'a, Verified> {
        Box::pin(async { Ok(Verified::default()) })
    }
    fn delete<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// A cluster, its sidecars, and the hand that makes backups ready.
struct Stage {
    memory: Arc<MemoryCluster>,
    quieted: Arc<AtomicU32>,
    sidecars: Vec<Sidecar>,
}

struct Sidecar {
    name: String,
    election: Arc<Election>,
    snapshots: Arc<LedSnapshots>,
    running: JoinHandle<()>,
    taking: Option<JoinHandle<Result<SnapshotHandle, ProviderError>>>,
    dead: Arc<AtomicBool>,
    gone: bool,
}

impl Stage {
    fn new() -> Self {
        let memory = Arc::new(MemoryCluster::new());
        for kind in [leases(), backups()] {
            memory.serve(&kind, false);
        }
        Self {
            memory,
            quieted: Arc::default(),
            sidecars: Vec::new(),
        }
    }

    fn add(&mut self, dies_at: DiesAt) {
        let name = format!("pod-{}", self.sidecars.len());
        let cluster: Arc<dyn Cluster> = self.memory.clone();
        let settings = LeaseSettings {
            namespace: NS.to_owned(),
            name: LEASE.to_owned(),
            me: name.clone(),
            duration: LASTS,
        };
        let election = Arc::new(Election::new(cluster.clone(), settings));
        let dead = Arc::new(AtomicBool::new(false));
        let provider = Backups {
            cluster: FencedCluster::new(cluster, election.clone()),
            dies_at,
            dead: dead.clone(),
            quieted: self.quieted.clone(),
        };
        let led = Led {
            pools: vec!["p".to_owned()],
            election: election.clone(),
            provider: Arc::new(provider),
        };
        let runs = election.clone();
        self.sidecars.push(Sidecar {
            name,
            election,
            snapshots: Arc::new(LedSnapshots::new(vec![led])),
            running: tokio::spawn(async move { runs.run().await }),
            taking: None,
            dead,
            gone: false,
        });
    }

    async fn with(dies_at: &[DiesAt]) -> Self {
        let mut stage = Self::new();
        for dies_at in dies_at {
            stage.add(*dies_at);
            // The first one is to lead.
            settle().await;
        }
        stage
    }

    fn leaders(&self) -> Vec<usize> {
        let all = 0..self.sidecars.len();
        all.filter(|n| self.sidecars[*n].election.leads().is_ok())
            .collect()
    }

    fn holder(&self) -> Value {
        let lease = self.memory.peek(&leases(), NS, LEASE).unwrap();
        lease["spec"]["holderIdentity"].clone()
    }

    fn take(&mut self, n: usize) {
        let snapshots = self.sidecars[n].snapshots.clone();
        let task = tokio::spawn(async move { snapshots.take(&wish(), &|_| {}).await });
        self.sidecars[n].taking = Some(task);
    }

    async fn taken(&mut self, n: usize) -> Result<SnapshotHandle, ProviderError> {
        self.sidecars[n].taking.take().unwrap().await.unwrap()
    }

    /// SIGKILL.
    fn kill(&mut self, n: usize) {
        let sidecar = &mut self.sidecars[n];
        sidecar.gone = true;
        sidecar.running.abort();
        if let Some(taking) = sidecar.taking.take() {
            taking.abort();
        }
    }

    /// Asks round as control does, until somebody has taken it. Never two act at once.
    async fn control_takes(&mut self) -> usize {
        timeout(Duration::from_secs(120), async {
            loop {
                assert!(self.leaders().len() <= 1, "{:?}", self.leaders());
                for n in 0..self.sidecars.len() {
                    let sidecar = &self.sidecars[n];
                    if sidecar.dead.load(Ordering::SeqCst) && sidecar.taking.is_some() {
                        self.kill(n);
                    }
                    if self.sidecars[n].gone {
                        continue;
                    }
                    match &self.sidecars[n].taking {
                        None => self.take(n),
                        Some(task) if task.is_finished() => {
                            if self.taken(n).await.is_ok() {
                                return n;
                            }
                        }
                        Some(_) => {}
                    }
                }
                // The backup system is quick, once it was asked.
                for object in self.memory.all(&backups()) {
                    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                    let ready = json!({"status": {"ready": true}});
                    if object["status"].is_null() && self.sidecars.iter().all(|it| !it.dying()) {
                        self.memory.write(&backups(), NS, &name, &ready, false);
                    }
                }
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .expect("nobody took the snapshot")
    }

    fn triggered(&self) -> usize {
        self.memory.all(&backups()).len()
    }
}

impl Sidecar {
    /// It reached the point at which it dies, and is not gone yet.
    fn dying(&self) -> bool {
        self.dead.load(Ordering::SeqCst) && self.taking.is_some()
    }
}

fn wish() -> SnapshotWish {
    serde_json::from_value(
        json!({"run": RUN, "pool": "p", "shard": "s1", "server": "redis://s1:6379"}),
    )
    .unwrap()
}

async fn settle() {
    sleep(Duration::from_millis(50)).await;
}

fn holder_of(error: &ProviderError) -> &str {
    match &error.kind {
        ProviderErrorKind::NotLeader { holder } => holder,
        other => panic!("{other:?}: {error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_three_sidecars_acts_and_the_others_name_it() {
    let mut stage = Stage::with(&[DiesAt::Never; 3]).await;
    for _ in 0..100 {
        assert_eq!(stage.leaders(), [0]);
        sleep(Duration::from_secs(1)).await;
    }
    stage.take(1);
    let refused = stage.taken(1).await.unwrap_err();
    assert_eq!(holder_of(&refused), "pod-0");
    assert!(
        refused.text.contains("Lease redis/understudy-p"),
        "{refused}"
    );
    assert_eq!((stage.triggered(), stage.control_takes().await), (0, 0));
    assert_eq!(stage.triggered(), 1);
    let lease = stage.memory.peek(&leases(), NS, LEASE).unwrap();
    assert_eq!(lease["metadata"]["annotations"][ANNOTATION_RUN], RUN);
}

#[tokio::test(start_paused = true)]
async fn many_that_start_at_once_agree_on_one() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        stage.add(DiesAt::Never);
    }
    settle().await;
    sleep(LASTS).await;
    assert_eq!(stage.leaders().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_triggered_once_wherever_its_leader_dies() {
    // Whether the one that goes on has to quiet the server again.
    for (dies_at, quieted) in [
        (DiesAt::Fence, 1),
        (DiesAt::Quiesced, 2),
        (DiesAt::Triggered, 1),
    ] {
        for others in 1..=2 {
            let mut cast = vec![dies_at];
            cast.extend([DiesAt::Never].repeat(others));
            let mut stage = Stage::with(&cast).await;
            if dies_at == DiesAt::Fence {
                // It was asked, and dies before anything left it.
                stage.take(0);
                stage.kill(0);
            }
            let by = stage.control_takes().await;
            let name = format!("{dies_at:?} with {others} more");
            assert_ne!(by, 0, "{name}");
            assert_eq!(stage.triggered(), 1, "{name}");
            assert_eq!(stage.quieted.load(Ordering::SeqCst), quieted, "{name}");
            assert_eq!(stage.memory.count("create", "backups"), 1, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leaders_die_one_after_the_other_and_the_last_one_goes_on() {
    use DiesAt::{Never, Quiesced, Triggered};
    for cast in [
        [Quiesced, Triggered, Triggered, Never],
        [Triggered, Quiesced, Triggered, Never],
        [Quiesced, Quiesced, Triggered, Never],
    ] {
        let mut stage = Stage::with(&cast).await;
        stage.control_takes().await;
        assert_eq!(stage.memory.count("create", "backups"), 1, "{cast:?}");
        assert_eq!(stage.triggered(), 1, "{cast:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_anybody_may_take_over() {
    let mut stage = Stage::with(&[DiesAt::Never, DiesAt::Never]).await;
    stage.take(0);
    sleep(Duration::from_secs(1)).await;
    // The API server is away for everybody.
    stage
        .memory
        .fail(Fault::new("*", "*", u32::MAX, 0, "connection refused"));
    let stopped = timeout(LASTS * 2 / 3, stage.sidecars[0].election.lost()).await;
    assert!(stopped.is_ok(), "it still acts");
    let error = stage.taken(0).await.unwrap_err();
    assert_eq!(holder_of(&error), "-");
    assert!(error.text.contains("connection refused"), "{error}");
    assert_eq!(stage.triggered(), 0);
    assert_eq!(stage.leaders(), [0; 0]);
    // It comes back: somebody leads, and the run is taken once.
    stage.memory.heal();
    stage.control_takes().await;
    assert_eq!(stage.memory.count("create", "backups"), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_cut_off_alone_is_replaced_and_never_acts_beside_the_other() {
    let mut stage = Stage::with(&[DiesAt::Never]).await;
    stage.take(0);
    settle().await;
    // As if it stood still: no renewal, no timer, and its work hangs in the air.
    stage.sidecars[0].running.abort();
    stage.add(DiesAt::Never);
    for _ in 0..300 {
        assert!(stage.leaders().len() <= 1);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(stage.leaders(), [1]);
    // It wakes up, asks, and is told who leads now.
    let late = stage.sidecars[0].election.confirm().await.unwrap_err();
    assert_eq!(holder_of(&late), "-");
    assert!(stage.taken(0).await.is_err() || stage.triggered() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_stolen_lease_stops_its_holder_before_its_next_write() {
    let mut stage = Stage::with(&[DiesAt::Never, DiesAt::Never]).await;
    stage.take(0);
    sleep(Duration::from_secs(4)).await;
    let stolen = json!({"spec": {"holderIdentity": "a-human"}});
    assert!(stage.memory.write(&leases(), NS, LEASE, &stolen, false));
    let error = stage.taken(0).await.unwrap_err();
    assert_eq!(holder_of(&error), "a-human");
    assert_eq!((stage.triggered(), stage.leaders()), (0, vec![]));
    // The thief never renews: its Lease ends as any other.
    stage.control_takes().await;
    assert_eq!(stage.memory.count("create", "backups"), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_where_the_run_cannot_be_written() {
    let mut stage = Stage::with(&[DiesAt::Never]).await;
    stage.memory.fail(Fault::new(
        "patch",
        "leases",
        u32::MAX,
        403,
        "leases is forbidden",
    ));
    stage.take(0);
    let error = stage.taken(0).await.unwrap_err();
    assert!(error.text.contains("leases is forbidden"), "{error}");
    assert_eq!(
        (stage.triggered(), stage.quieted.load(Ordering::SeqCst)),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_of_the_lease_whose_answer_is_lost_counts_once_it_was_read() {
    for verb in ["create", "patch"] {
        let mut stage = Stage::new();
        if verb == "patch" {
            stage = Stage::with(&[DiesAt::Never]).await;
        }
        let lost = Fault::new(verb, "leases", 1, 0, "connection reset");
        stage.memory.fail(lost.after_it_is_done());
        stage.add(DiesAt::Never);
        settle().await;
        if verb == "create" {
            assert_eq!(stage.leaders(), [0; 0], "before it knows");
        }
        sleep(LASTS / 2).await;
        assert_eq!(stage.leaders(), [0]);
        stage.control_takes().await;
        assert_eq!(stage.memory.count("create", "backups"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_by_years_change_nothing() {
    for time in ["1999-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"] {
        let mut stage = Stage::new();
        stage.memory.put(
            &leases(),
            json!({"metadata": {"name": LEASE, "namespace": NS}, "spec": {
                "holderIdentity": "elsewhere", "leaseDurationSeconds": 10, "renewTime": time}}),
        );
        stage.add(DiesAt::Never);
        sleep(Duration::from_secs(9)).await;
        assert_eq!(stage.leaders(), [0; 0], "{time}: taken too early");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(stage.leaders(), [0], "{time}: never taken");
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_the_lease_up_and_its_run_goes_on_elsewhere() {
    let mut stage = Stage::with(&[DiesAt::Never, DiesAt::Never]).await;
    stage.take(0);
    sleep(Duration::from_secs(2)).await;
    stage.sidecars[0].election.end().await;
    assert!(stage.taken(0).await.is_err());
    assert_eq!(stage.holder(), Value::Null);
    sleep(LASTS / 4).await;
    assert_eq!((stage.leaders(), stage.holder()), (vec![1], json!("pod-1")));
    assert_eq!(stage.control_takes().await, 1);
    assert_eq!(stage.memory.count("create", "backups"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_is_made_again_and_one_acts() {
    let mut stage = Stage::with(&[DiesAt::Never, DiesAt::Never]).await;
    stage.memory.remove(&leases(), NS, LEASE);
    sleep(LASTS).await;
    assert_eq!(stage.leaders().len(), 1);
    assert_eq!(
        stage.holder(),
        json!(stage.sidecars[stage.leaders()[0]].name)
    );
    stage.control_takes().await;
    assert_eq!(stage.memory.count("create", "backups"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_run_is_named_beside_the_ones_before_it() {
    let mut stage = Stage::with(&[DiesAt::Never]).await;
    let election = stage.sidecars[0].election.clone();
    assert!(!election.fence("run-1").await.unwrap());
    assert!(!election.fence("run-2").await.unwrap());
    assert!(election.fence("run-1").await.unwrap());
    let lease = stage.memory.peek(&leases(), NS, LEASE).unwrap();
    assert_eq!(
        lease["metadata"]["annotations"][ANNOTATION_RUN],
        "run-1,run-2"
    );
    stage.kill(0);
}

#[tokio::test(start_paused = true)]
async fn the_verb_says_at_once_who_leads_and_questions_are_answered_by_everybody() {
    let stage = Stage::with(&[DiesAt::Never, DiesAt::Never]).await;
    let verbs = SnapshotVerbs::new(stage.sidecars[1].snapshots.clone());
    let call = async |words: &[&str]| {
        let args = words.iter().map(|word| (*word).to_owned().into()).collect();
        let user = "test".to_owned();
        verbs.call(AdminRequest { args, user }).await
    };
    let wish = serde_json::to_string(&wish()).unwrap();
    let answer = call(&["TAKE", &wish]).await;
    let text = answer.as_error().unwrap();
    assert!(text.starts_with("NOTLEADER pod-0 pod-0 holds"), "{text}");
    assert!(call(&["RECIPES"]).await.as_error().is_none());
    assert!(call(&["PREFLIGHT", &wish]).await.as_error().is_none());
    let elsewhere = wish.replace("\"p\"", "\"q\"");
    let answer = call(&["TAKE", &elsewhere]).await;
    assert!(answer.as_error().unwrap().starts_with("NOTLEADER - "));
}
