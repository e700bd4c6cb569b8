//! No cutover and no rollback without a snapshot that is ready and verified, looked at right before clients are held.
//!
//! ```text
//!  ensure ──► wish on disk ──► TakeSnapshot ──► handle on disk     …     check ──► HOLD
//!    ▲                                                                     │ no
//!    └────────────── a new run, at the next attempt ◄───────────────────────┘ nothing was held
//! ```
//!
//! - A run is on disk before it is triggered, and a restart goes on with it. One that failed is never taken up again.
//! - A check that says no keeps the attempt from starting. One that says that the snapshot itself is bad also ends its use.
//! - Whatever was taken stays on record until it is released, and is released only at an end of the upgrade.

use understudy_config::SnapshotLevel;

use super::{Driver, Failure};
use crate::cutover::Role;
use crate::effect::{Effect, Hope, Outcome};
use crate::effects::PerformError;
use crate::journal::{SnapshotChoice, SnapshotNote, now_ms};
use crate::snapshot::{
    Level, ProviderError, ProviderErrorKind, Release, SnapshotHandle, SnapshotWish, run_name,
};
use crate::world::World;

/// Runs for one need: an adopted one may be too old already, a fresh one never is.
const RUNS_MAX: u32 = 2;

impl Driver {
    /// A snapshot of `server` that is ready and young enough, unless the operator chose none.
    pub(super) async fn ensure_snapshot(&mut self, server: &str) -> Result<(), Failure> {
        let SnapshotChoice::Recipe(recipe) = self.options.snapshot.clone() else {
            self.record.note("no snapshot was taken: SNAPSHOT none");
            return Ok(());
        };
        for _ in 0..RUNS_MAX {
            if self.is_guarded(server) {
                return Ok(());
            }
            self.take_snapshot(server, &recipe).await?;
        }
        match self.is_guarded(server) {
            true => Ok(()),
            false => Err(Failure::Failed(format!(
                "the snapshot of {server} is older than control.snapshot_age_max when it is ready; allow a greater age"
            ))),
        }
    }

    /// Whether the snapshot on record is one of `server`, and young enough.
    fn is_guarded(&self, server: &str) -> bool {
        let age_max = self.world.config.control.snapshot_age_max.as_millis();
        self.record.snapshot.as_ref().is_some_and(|snapshot| {
            snapshot.server == server
                && u128::from(now_ms().saturating_sub(snapshot.taken_at_ms)) <= age_max
        })
    }

    async fn take_snapshot(&mut self, server: &str, recipe: &str) -> Result<(), Failure> {
        let wish = self.wish_for(server, recipe).await?;
        self.waits_for(Some("the snapshot".to_owned()));
        let effect = Effect::TakeSnapshot(wish);
        let taken = self
            .unless_stopped(self.performer.perform(&self.record, effect))
            .await;
        self.waits_for(None);
        match taken? {
            Ok(Outcome::Snapshot(note)) => {
                self.record.snapshot_wish = None;
                self.record.guarded_by(*note);
                self.save().await
            }
            Ok(_) => Err(Failure::Failed(
                "a snapshot was taken and not described".to_owned(),
            )),
            Err(error) => {
                if matches!(&error, PerformError::Effect(_)) && error.hope() == Hope::None {
                    // A run that failed stays failed: what comes to life again later guards nothing.
                    let run = self.record.snapshot_wish.take();
                    if let Some(run) = run {
                        self.record.note(format!("snapshot run {} failed", run.run));
                        self.save().await?;
                    }
                }
                Err(error.into())
            }
        }
    }

    /// The run that is under way, or a new one. It is on disk when this returns.
    async fn wish_for(&mut self, server: &str, recipe: &str) -> Result<SnapshotWish, Failure> {
        if let Some(wish) = &self.record.snapshot_wish
            && wish.server == server
            && wish.recipe == recipe
        {
            return Ok(wish.clone());
        }
        self.record.snapshot_runs += 1;
        let (pool, shard) = (&self.record.pool, &self.record.shard);
        let (upgrade, n) = (self.record.upgrade, self.record.snapshot_runs);
        let wish = SnapshotWish {
            run: run_name(pool, shard, upgrade, n, now_ms()),
            pool: pool.clone(),
            shard: shard.clone(),
            server: server.to_owned(),
            recipe: recipe.to_owned(),
            level: level(&self.world),
        };
        self.record.snapshot_wish = Some(wish.clone());
        self.save().await?;
        Ok(wish)
    }

    /// Asks whoever took the snapshot of `server` whether it is still ready and whole. Nothing is held yet.
    pub(super) async fn check_snapshot(&mut self, server: &str) -> Result<(), Failure> {
        if self.options.snapshot == SnapshotChoice::None {
            return Ok(());
        }
        let note = match &self.record.snapshot {
            Some(note) if note.server == server => note.clone(),
            Some(_) | None => {
                return Err(Failure::Passing(format!(
                    "no snapshot of {server} is on record: it is taken before the next attempt"
                )));
            }
        };
        self.waits_for(Some(format!("the check of snapshot {}", note.id)));
        let checked = self.unless_stopped(check(&self.world, note.handle())).await;
        self.waits_for(None);
        let Err(error) = checked? else {
            return Ok(());
        };
        let age_s = now_ms().saturating_sub(note.taken_at_ms) / 1_000;
        let line = format!(
            "the attempt did not start: snapshot {} of {server}, {age_s} s old: {error}",
            note.id
        );
        if error.is_about_the_snapshot() {
            // It guards nothing any more. It stays on record, so that it is released with the others.
            self.record.snapshot = None;
            self.record.earlier_snapshots.push(note);
            self.save().await?;
            return Err(Failure::Passing(format!(
                "{line}; the next attempt takes a new one"
            )));
        }
        match error.kind {
            ProviderErrorKind::Denied | ProviderErrorKind::Misconfigured => Err(Failure::Failed(
                format!("{line}; give the rights back or mend the config, then try again"),
            )),
            ProviderErrorKind::NotReady
            | ProviderErrorKind::Failed
            | ProviderErrorKind::Unreachable
            | ProviderErrorKind::NotLeader { .. } => {
                Err(Failure::Passing(format!("{line}; try again")))
            }
        }
    }

    /// Closes the books on every snapshot of the upgrade: nothing can be rolled back to any more. What a provider cannot do
    /// is named, and keeps nothing from ending.
    pub(super) async fn release_snapshots(&mut self, why: Release) {
        let taken: Vec<SnapshotHandle> =
            self.record.snapshots().map(SnapshotNote::handle).collect();
        let begun = self.record.snapshot_wish.take();
        let unfinished = begun.as_ref().map(SnapshotHandle::of_run);
        for snapshot in taken.into_iter().chain(unfinished) {
            let name = match snapshot.id.as_str() {
                "" => format!("run {}", snapshot.run),
                id => id.to_owned(),
            };
            // What has no end of its own was never ready, whichever way the upgrade ended.
            let why = match snapshot.id.is_empty() {
                true => Release::Abandoned,
                false => why,
            };
            if let Err(error) = self
                .perform(Effect::ReleaseSnapshot {
                    snapshot: Box::new(snapshot),
                    why,
                })
                .await
            {
                self.record
                    .note(format!("snapshot {name} was not released: {error}"));
            }
        }
    }

    /// The shard is at an end, and the journal says so: old local snapshots of it may go.
    pub(crate) async fn tidy_snapshots(&self) {
        let (pool, shard) = (self.record.pool.clone(), self.record.shard.clone());
        let keep = self.world.config.control.snapshots_kept;
        let local = self.world.local_snapshots.clone();
        let tidied =
            tokio::task::spawn_blocking(move || local.keep_newest(&pool, &shard, keep)).await;
        if let Err(error) = tidied {
            tracing::warn!(%error, "old snapshots are not removed");
        }
    }

    /// After an abort a snapshot is let go only where the source is seen to serve: else it may be all that is left.
    pub(super) async fn abandon_snapshots(&mut self) {
        if self.record.snapshots().next().is_none() && self.record.snapshot_wish.is_none() {
            return;
        }
        let source = self.world.servers.standing(&self.record.source).await;
        match source {
            Ok(standing) if standing.role == Role::Primary => {
                self.release_snapshots(Release::Abandoned).await;
            }
            Ok(_) => self
                .record
                .note("the snapshots were kept as they are: the source is no primary"),
            Err(error) => self.record.note(format!(
                "the snapshots were kept as they are: the source does not answer: {error}"
            )),
        }
    }
}

/// Asks the provider of a handle whether it is still good.
pub(super) async fn check(world: &World, handle: SnapshotHandle) -> Result<(), ProviderError> {
    let provider = world.providers.of(&handle.recipe).await?;
    provider.check(&handle).await
}

/// How far servers are quieted before a snapshot.
pub(crate) fn level(world: &World) -> Level {
    let cluster = world.config.kubernetes.as_ref();
    match cluster.map(|cluster| cluster.level).unwrap_or_default() {
        SnapshotLevel::App => Level::App,
        SnapshotLevel::Crash => Level::Crash,
    }
}
