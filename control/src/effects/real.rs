//! The effects, done to real servers, proxies, guards and disks.
//!
//! Every effect that changes a role reads back what it did before it says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cutover::Role;
use crate::effect::{Effect, EffectError, Gate, Hope, Outcome};
use crate::journal::{GuardPlace, RouteRecord, ShardRecord, SnapshotNote};
use crate::proxies::{GateReport, ProxyError};
use crate::server::{Probe, Rewrite};
use crate::snapshot::{ProviderError, ProviderErrorKind, SnapshotWish};
use crate::status::Board;
use crate::world::{self, Held, ServerFailure, World};

use super::Effects;

/// Longest wait for `+CONTINUE` at step 7.
const CONTINUE_PATIENCE: Duration = Duration::from_millis(1_500);

/// Where a retired server looks for its primary: nobody listens there, so it keeps its data and refuses writes.
pub(crate) const NOWHERE: (&str, u16) = ("127.0.0.1", 1);

/// Whether a replica answers reads while its link is down.
pub(crate) const SERVES_STALE: &str = "replica-serve-stale-data";

/// A backlog that survives a hiccup of the way back. Bytes.
const BACKLOG_MIN: u64 = 64 << 20;

/// Acts on the outside.
pub(crate) struct Real {
    world: Arc<World>,
    /// Where a long effect says what it waits for.
    board: Arc<Board>,
    /// What the next commit writes; the effect itself carries only what a person needs to see.
    commit: Mutex<Option<(ShardRecord, RouteRecord)>>,
}

/// What an effect failed of, before it is put into words.
struct Cause {
    text: String,
    hope: Hope,
}

impl From<ServerFailure> for Cause {
    fn from(error: ServerFailure) -> Cause {
        Cause {
            hope: match error.silent {
                true => Hope::Silent,
                false => Hope::None,
            },
            text: error.to_string(),
        }
    }
}

impl From<ProxyError> for Cause {
    fn from(error: ProxyError) -> Cause {
        Cause {
            hope: passing(error.is_passing()),
            text: error.to_string(),
        }
    }
}

impl From<ProviderError> for Cause {
    fn from(error: ProviderError) -> Cause {
        // What is final for its run is never tried again under the same name.
        let again = match error.kind {
            ProviderErrorKind::NotReady
            | ProviderErrorKind::Unreachable
            | ProviderErrorKind::NotLeader { .. } => true,
            ProviderErrorKind::Failed
            | ProviderErrorKind::Denied
            | ProviderErrorKind::Misconfigured => false,
        };
        Cause {
            text: error.text,
            hope: passing(again),
        }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Cause {
        Cause {
            text,
            hope: Hope::None,
        }
    }
}

fn passing(may_go_better: bool) -> Hope {
    match may_go_better {
        true => Hope::Passing,
        false => Hope::None,
    }
}

impl Real {
    pub(crate) fn new(world: Arc<World>, board: Arc<Board>) -> Real {
        Real {
            world,
            board,
            commit: Mutex::new(None),
        }
    }

    /// Says what the next commit writes.
    pub(crate) fn stage(&self, shard: ShardRecord, route: RouteRecord) {
        *self.commit.lock().unwrap_or_else(PoisonError::into_inner) = Some((shard, route));
    }

    async fn act(&self, effect: &Effect) -> Result<Outcome, Cause> {
        let servers = &self.world.servers;
        match effect {
            Effect::TakeSnapshot(wish) => self.snapshot(wish).await,
            Effect::ReleaseSnapshot { snapshot, why } => {
                let provider = self.world.providers.of(&snapshot.recipe).await?;
                provider.release(snapshot, *why).await?;
                Ok(Outcome::Done)
            }
            Effect::Arm { server, settings } => {
                set_all(&mut servers.hold(server).await?, settings).await?;
                Ok(Outcome::Done)
            }
            Effect::Attach { target, source } => self.attach(target, source).await,
            Effect::CarrySettings { source, target } => {
                let (mut source, mut target) =
                    (servers.hold(source).await?, servers.hold(target).await?);
                Ok(Outcome::Said(
                    world::carry_settings(&mut source, &mut target).await?,
                ))
            }
            Effect::CarryUsers { source, target } => {
                let (mut source, mut target) =
                    (servers.hold(source).await?, servers.hold(target).await?);
                Ok(Outcome::Said(
                    world::carry_users(&mut source, &mut target).await?,
                ))
            }
            Effect::CarryScripts { pool, target } => {
                let scripts = self.world.proxies.scripts(pool).await?;
                Ok(Outcome::Said(
                    world::carry_scripts(&mut servers.hold(target).await?, &scripts).await?,
                ))
            }
            Effect::ArmProxies { gate } => Ok(Outcome::Proxies {
                count: self.world.proxies.arm(gate).await?,
                waited_us: 0,
            }),
            Effect::Hold { gate, lease_ms } => Ok(acknowledged(
                &self.world.proxies.hold(gate, *lease_ms).await?,
            )),
            Effect::Pause { server, pause_ms } => {
                let pause = Duration::from_millis(*pause_ms);
                Ok(Outcome::Stands(
                    servers.hold(server).await?.pause_writes(pause).await?,
                ))
            }
            Effect::Prepare { gate } => Ok(acknowledged(&self.world.proxies.prepare(gate).await?)),
            Effect::Fence { server, guard } => fence(&mut servers.hold(server).await?, guard).await,
            Effect::Promote { server } => promote(&mut servers.hold(server).await?).await,
            Effect::Unpark { server } => {
                self.world.guards.unpark(server).await;
                self.world.guards.follows(server, CONTINUE_PATIENCE).await?;
                Ok(Outcome::Done)
            }
            Effect::Commit { .. } => self.commit().await,
            Effect::Switch { gate, url } => everyone(self.world.proxies.switch(gate, url).await),
            Effect::Release { gate } => self.release(gate).await,
            Effect::Demote { server, primary } => {
                demote(&mut servers.hold(server).await?, primary).await
            }
            Effect::Unfence { server } => unfence(&mut servers.hold(server).await?).await,
            Effect::Retire { server } => retire(&mut servers.hold(server).await?).await,
            Effect::KeepRole { server } => keep_role(&mut servers.hold(server).await?).await,
            Effect::RefuseStale { server } => refuse_stale(&mut servers.hold(server).await?).await,
            Effect::Disarm { server, settings } => {
                let mut server = servers.hold(server).await?;
                set_all(&mut server, settings).await?;
                let _kept_in_memory_only = server.rewrite_config().await?;
                Ok(Outcome::Done)
            }
        }
    }

    async fn snapshot(&self, wish: &SnapshotWish) -> Result<Outcome, Cause> {
        let provider = self.world.providers.of(&wish.recipe).await?;
        let progress = |now: String| {
            self.board.update(&wish.pool, &wish.shard, |live| {
                live.waiting = Some(format!("the snapshot: {now}"));
            });
        };
        let handle = provider.take(wish, &progress).await?;
        if handle.id.is_empty() || handle.server != wish.server {
            return Err(format!(
                "recipe {} answered with a snapshot of '{}' called '{}' for {}",
                wish.recipe, handle.server, handle.id, wish.server
            )
            .into());
        }
        Ok(Outcome::Snapshot(Box::new(SnapshotNote::new(handle))))
    }

    async fn attach(&self, target: &str, source: &str) -> Result<Outcome, Cause> {
        let login = self.world.servers.login(source)?;
        let mut server = self.world.servers.hold(target).await?;
        if let Some(password) = &login.password {
            server
                .set("masteruser", login.username.as_deref().unwrap_or_default())
                .await?;
            server.set("masterauth", password.expose()).await?;
        }
        server.replicate_from(&login.host, login.port).await?;
        read_back_replica(&mut server).await
    }

    async fn commit(&self) -> Result<Outcome, Cause> {
        let staged = self
            .commit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some((shard, route)) = staged else {
            return Err("no commit was staged".to_owned().into());
        };
        self.world
            .journal
            .commit(shard, route)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Outcome::Done)
    }

    /// A gate that is open already, at this epoch, needs no release.
    async fn release(&self, gate: &Gate) -> Result<Outcome, Cause> {
        let answers = self.world.proxies.release(gate).await;
        if answers.iter().all(Result::is_ok) {
            return everyone(answers);
        }
        let census = self.world.proxies.census(&gate.pool, &gate.shard).await?;
        if census
            .gates
            .iter()
            .all(|(_, epoch, state, _)| *epoch == gate.epoch && state == "open")
        {
            return Ok(Outcome::Proxies {
                count: census.gates.len(),
                waited_us: 0,
            });
        }
        everyone(answers)
    }
}

impl Effects for Real {
    async fn apply(&self, effect: &Effect) -> Result<Outcome, EffectError> {
        let failed = |cause: Cause| EffectError {
            effect: effect.name(),
            cause: cause.text,
            hope: cause.hope,
        };
        self.act(effect).await.map_err(failed)
    }
}

fn acknowledged(reports: &[GateReport]) -> Outcome {
    let waited_us = reports
        .iter()
        .map(|report| report.waited_us)
        .max()
        .unwrap_or(0);
    Outcome::Proxies {
        count: reports.len(),
        waited_us,
    }
}

fn everyone(answers: Vec<Result<GateReport, ProxyError>>) -> Result<Outcome, Cause> {
    let reports = answers
        .into_iter()
        .collect::<Result<Vec<GateReport>, ProxyError>>()?;
    Ok(acknowledged(&reports))
}

async fn set_all(
    server: &mut Held,
    settings: &BTreeMap<String, String>,
) -> Result<(), ServerFailure> {
    for (name, value) in settings {
        server.set(name, value).await?;
    }
    Ok(())
}

/// The settings that arming has to change, with what they are now. One that the server does not have, or that is fine already,
/// is left alone.
pub(crate) async fn arming_changes(
    server: &mut Held,
    settings: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ServerFailure> {
    let mut before = BTreeMap::new();
    for (name, value) in settings {
        let Some(old) = server.setting(name).await? else {
            continue;
        };
        if old == *value
            || (name == "repl-backlog-size"
                && old.parse::<u64>().is_ok_and(|bytes| bytes >= BACKLOG_MIN))
        {
            continue;
        }
        before.insert(name.clone(), old);
    }
    Ok(before)
}

async fn read_back_replica(server: &mut Held) -> Result<Outcome, Cause> {
    let standing = server.standing().await?;
    match standing.role {
        Role::Replica { .. } => Ok(Outcome::Stands(standing)),
        Role::Primary => Err("it is still a primary".to_owned().into()),
    }
}

/// A write must bounce, or the fence is none.
async fn refuses_writes(server: &mut Held) -> Result<(), Cause> {
    bounced(server.probe_write().await?)
}

fn bounced(probe: Probe) -> Result<(), Cause> {
    match probe {
        Probe::ReadOnly => Ok(()),
        Probe::Accepted => Err("it still accepts writes".to_owned().into()),
        Probe::Refused(why) => {
            Err(format!("it refuses writes for another reason than its role: {why}").into())
        }
    }
}

/// A writer that the pause caught gets its -READONLY now and not when the pause ends.
async fn fence(server: &mut Held, guard: &GuardPlace) -> Result<Outcome, Cause> {
    let fenced = server.fence(&guard.host, guard.port).await?;
    if let Rewrite::NotPossible(why) = fenced.rewrite {
        tracing::warn!(%why, "the fence will not survive a restart of the server");
    }
    bounced(fenced.probe)?;
    Ok(Outcome::Stands(world::standing(&fenced.seen)))
}

async fn promote(server: &mut Held) -> Result<Outcome, Cause> {
    Ok(Outcome::Stands(server.promote().await?))
}

async fn demote(server: &mut Held, primary: &GuardPlace) -> Result<Outcome, Cause> {
    server.set("replica-read-only", "yes").await?;
    server.replicate_from(&primary.host, primary.port).await?;
    refuses_writes(server).await?;
    read_back_replica(server).await
}

async fn unfence(server: &mut Held) -> Result<Outcome, Cause> {
    server.promote().await?;
    server.unpause().await?;
    let _kept_in_memory_only = server.rewrite_config().await?;
    match server.probe_write().await? {
        Probe::Accepted => {}
        Probe::ReadOnly => return Err("it still refuses writes as a replica".to_owned().into()),
        Probe::Refused(why) => {
            tracing::warn!(%why, "the server is a primary again and refuses writes by itself");
        }
    }
    let standing = server.standing().await?;
    match standing.role {
        Role::Primary => Ok(Outcome::Stands(standing)),
        Role::Replica { .. } => Err("it is still a replica".to_owned().into()),
    }
}

async fn retire(server: &mut Held) -> Result<Outcome, Cause> {
    server.set("replica-read-only", "yes").await?;
    server.replicate_from(NOWHERE.0, NOWHERE.1).await?;
    let _kept_in_memory_only = server.rewrite_config().await?;
    refuses_writes(server).await?;
    read_back_replica(server).await
}

async fn keep_role(server: &mut Held) -> Result<Outcome, Cause> {
    Ok(match server.rewrite_config().await? {
        None => Outcome::Done,
        Some(why) => Outcome::Said(vec![format!(
            "the new primary could not write down its role ({why}): see that it is not started as a replica"
        )]),
    })
}

/// Of no effect on a primary. Behind the commit and not with the fence: a server that refuses stale reads answers PSYNC with
/// -MASTERDOWN instead of -NOMASTERLINK (6.2 to Valkey 9.1), so in an undo the winner, which asks the fenced loser for a
/// partial resync, would drop its history and copy everything.
async fn refuse_stale(server: &mut Held) -> Result<Outcome, Cause> {
    server.set(SERVES_STALE, "no").await?;
    Ok(match server.rewrite_config().await? {
        None => Outcome::Done,
        Some(why) => Outcome::Said(vec![format!(
            "the old server serves stale reads again once it was restarted: it could not write down that it does not ({why})"
        )]),
    })
}

/// What arming sets on the server that is to take over.
pub(crate) fn target_settings() -> BTreeMap<String, String> {
    let settings = [
        ("replica-read-only", "yes".to_owned()),
        ("replica-priority", "0".to_owned()),
        ("repl-backlog-ttl", "0".to_owned()),
        ("repl-backlog-size", BACKLOG_MIN.to_string()),
        // Replicas ignore maxmemory, primaries do not: nothing is evicted before the way back is closed.
        ("maxmemory-policy", "noeviction".to_owned()),
        // A new primary without replicas would refuse its first write.
        ("min-replicas-to-write", "0".to_owned()),
    ];
    settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What arming sets on the server that is to be left.
pub(crate) fn source_settings() -> BTreeMap<String, String> {
    let settings = [
        ("replica-read-only", "yes".to_owned()),
        ("replica-priority", "0".to_owned()),
        ("repl-backlog-ttl", "0".to_owned()),
        ("repl-backlog-size", BACKLOG_MIN.to_string()),
    ];
    settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
