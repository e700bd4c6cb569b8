//! PLAN and START: the facts, what they block, and the effects that would follow.

use std::collections::BTreeSet;
use std::sync::Arc;

use understudy_config::BackendUrl;
use understudy_net::Value;

use super::No;
use super::grammar::Start;
use super::verbs::{no_pool, no_shard};
use crate::control::Inner;
use crate::cutover::Passage;
use crate::driver::{forward_place, level};
use crate::effect::Effect;
use crate::effects::{DryRun, Effects, source_settings, target_settings};
use crate::journal::{
    Direction, FORMAT, GuardPlace, ShardRecord, SnapshotChoice, UpgradeRecord, now_ms,
};
use crate::phase::Phase;
use crate::plan::{Acceptable, Blocker, Claim, ShardFacts, blockers, claimed, refused};
use crate::snapshot::{ProviderError, SnapshotWish, run_name};
use crate::world::{Asked, gather};

/// One shard, looked at.
struct Looked {
    facts: ShardFacts,
    epoch: u64,
    blockers: Vec<Blocker>,
    /// What the snapshot's provider wants an operator to know.
    snapshot_notes: Vec<String>,
}

/// Looks at every shard of a request; wrong names and shards that are busy are refused first.
async fn look(inner: &Inner, start: &Start) -> Result<Vec<Looked>, No> {
    let world = &inner.world;
    let Some(pool) = world.pool(&start.pool) else {
        return Err(No::wrong(no_pool(inner, &start.pool)));
    };
    if world.proxies.serve(&start.pool) == 0 {
        return Err(No::blocked(
            "no-proxies: control knows no proxy of this pool; let them register (control.address in theirs), or name them under control.proxies",
        ));
    }
    if let SnapshotChoice::Recipe(recipe) = &start.options.snapshot {
        world
            .providers
            .of(recipe)
            .await
            .map_err(|error| missing(&error))?;
    }
    let mut looked = Vec::new();
    for (shard, url) in &start.targets {
        let Some((_, configured)) = world.shard(&start.pool, shard) else {
            return Err(No::wrong(no_shard(pool, shard)));
        };
        let target = world.know(&start.pool, shard, url).map_err(No::wrong)?;
        let route = world
            .journal
            .route(&start.pool, shard)
            .await
            .map_err(No::wrong)?;
        let primary = route
            .as_ref()
            .map_or_else(|| configured.primary.to_string(), |route| route.url.clone());
        let source = world
            .know(&start.pool, shard, &primary)
            .map_err(No::wrong)?;
        same_database(shard, &source, &target).map_err(No::wrong)?;
        let key = (start.pool.clone(), shard.clone());
        (world.ready_soon(&key).await)
            .map_err(|in_the_way| No::blocked(format!("proxies: {in_the_way}")))?;
        let census = world
            .proxies
            .census(&start.pool, shard)
            .await
            .map_err(|error| No::blocked(format!("proxies: {error}")))?;
        let Some(epoch) = census.epoch() else {
            return Err(No::blocked(format!(
                "proxies: they disagree about the epoch of shard {shard}; see PROXY POOLS"
            )));
        };
        if route.as_ref().is_some_and(|route| route.epoch != epoch) {
            return Err(No::blocked(format!(
                "proxies: shard {shard} is at epoch {epoch} there, and at {} in the journal",
                route.map_or(0, |route| route.epoch)
            )));
        }
        if let Some(other) = routed_elsewhere(&census.backends, &source) {
            return Err(No::blocked(format!(
                "proxies: shard {shard} is routed to {other} there, and to {source} by control; see PROXY POOLS"
            )));
        }
        let asked = Asked {
            pool: &start.pool,
            shard,
            source: &source,
            target: &target,
            replace: start.options.replace,
        };
        let facts = gather(world, &asked).await.map_err(|error| {
            No::blocked(format!(
                "unreachable: {error}; see that it runs there and lets control in"
            ))
        })?;
        let mut blockers = blockers(&facts);
        let (in_the_way, snapshot_notes) = preflight(inner, start, shard, &source).await?;
        blockers.extend(in_the_way);
        looked.push(Looked {
            facts,
            epoch,
            blockers,
            snapshot_notes,
        });
    }
    let claims = claims(inner, start, &looked).await?;
    for one in &mut looked {
        let shard = format!("{}/{}", start.pool, one.facts.shard);
        one.blockers.extend(claimed(&one.facts, &shard, &claims));
    }
    Ok(looked)
}

/// Every server that some shard has a claim on: those of this request as they were found, and every shard's primary.
async fn claims(inner: &Inner, start: &Start, looked: &[Looked]) -> Result<Vec<Claim>, No> {
    let mut claims = Vec::new();
    for one in looked {
        let servers = [
            ("the source", &one.facts.source),
            ("the target", &one.facts.target),
        ];
        claims.extend(servers.map(|(part, server)| Claim {
            shard: format!("{}/{}", start.pool, one.facts.shard),
            part,
            url: server.url.clone(),
            run_id: Some(server.standing.run_id.clone()),
        }));
    }
    let routes = inner.world.journal.routes().await.map_err(No::wrong)?;
    for pool in &inner.world.config.pools {
        for shard in &pool.shards {
            let route = routes
                .iter()
                .find(|route| route.pool == pool.name && route.shard == shard.name);
            claims.push(Claim {
                shard: format!("{}/{}", pool.name, shard.name),
                part: "the primary",
                url: route.map_or_else(|| shard.primary.to_string(), |route| route.url.clone()),
                run_id: None,
            });
        }
    }
    let underway = inner.board.shards(None);
    for live in underway.iter().filter(|live| !live.record.phase.is_end()) {
        let record = &live.record;
        let servers = [
            ("the source", &record.source),
            ("the target", &record.target),
        ];
        claims.extend(servers.map(|(part, url)| Claim {
            shard: format!("{}/{}", record.pool, record.shard),
            part,
            url: url.clone(),
            run_id: None,
        }));
    }
    Ok(claims)
}

/// A backend that is not the server which control takes for the primary. One that cannot be read is not compared.
fn routed_elsewhere<'a>(backends: &'a BTreeSet<String>, source: &str) -> Option<&'a String> {
    let source: BackendUrl = source.parse().ok()?;
    let elsewhere = |backend: &&String| {
        let parsed = backend.parse::<BackendUrl>();
        parsed.is_ok_and(|backend| !backend.same_server(&source))
    };
    backends.iter().find(elsewhere)
}

/// `UPGRADE PLAN`: lines.
pub(super) async fn plan(inner: &Inner, start: Start) -> Result<Value, No> {
    let fsync = inner.world.journal.probe().await.map_err(No::wrong)?;
    let mut lines = vec![format!(
        "journal fsync {:.1} ms",
        fsync.as_secs_f64() * 1_000.0
    )];
    let looked = look(inner, &start).await?;
    if let Some(note) = inner.world.unseen_pods(&start.pool).await {
        lines.push(format!("{} proxies: {note}", start.pool));
    }
    lines.extend(accepted_for_nothing(&looked, &start));
    for looked in looked {
        let facts = &looked.facts;
        lines.push(format!(
            "{} source {} {} keys {} -> target {} {} keys {}; link native; epoch {}",
            facts.shard,
            facts.source.url,
            facts.source.build,
            facts.source.keys_total(),
            facts.target.url,
            facts.target.build,
            facts.target.keys_total(),
            looked.epoch
        ));
        let open = refused(&looked.blockers, &start.options.accept);
        for blocker in &looked.blockers {
            let word = if open.contains(&blocker) {
                "BLOCKED"
            } else {
                "accepted"
            };
            lines.push(format!("{} {word} {blocker}", facts.shard));
        }
        for note in &looked.snapshot_notes {
            lines.push(format!("{} snapshot: {note}", facts.shard));
        }
        let dry = DryRun::new(&facts.shard);
        for effect in effects(inner, &start, &looked)? {
            dry.apply(&effect).await.map_err(No::wrong)?;
        }
        lines.extend(dry.into_lines());
    }
    Ok(Value::Array(lines.into_iter().map(Value::text).collect()))
}

/// Codes of ACCEPT by which no blocker was accepted: mistyped, or no longer in the way.
fn accepted_for_nothing<'a>(
    looked: &'a [Looked],
    start: &'a Start,
) -> impl Iterator<Item = String> {
    let found = |code: &&String| {
        let mut blockers = looked.iter().flat_map(|looked| &looked.blockers);
        blockers.any(|blocker| blocker.code == **code)
    };
    let idle = start.options.accept.iter().filter(move |code| !found(code));
    idle.map(|code| format!("ACCEPT {code}: no blocker of that name is in the way"))
}

/// The snapshot that START would take of a source, under a name that nobody uses.
fn wish(inner: &Inner, start: &Start, shard: &str, source: &str) -> Option<SnapshotWish> {
    let SnapshotChoice::Recipe(recipe) = &start.options.snapshot else {
        return None;
    };
    Some(SnapshotWish {
        run: run_name(&start.pool, shard, 0, 0, 0),
        pool: start.pool.clone(),
        shard: shard.to_owned(),
        server: source.to_owned(),
        recipe: recipe.clone(),
        level: level(&inner.world),
    })
}

/// Whether the snapshot of a source could be taken: what is in the way, as blockers that only SNAPSHOT none goes round.
async fn preflight(
    inner: &Inner,
    start: &Start,
    shard: &str,
    source: &str,
) -> Result<(Vec<Blocker>, Vec<String>), No> {
    let Some(wish) = wish(inner, start, shard, source) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let provider =
        (inner.world.providers.of(&wish.recipe).await).map_err(|error| missing(&error))?;
    let blocker = |code: String, text: String, remedy: String| Blocker {
        code,
        shard: shard.to_owned(),
        text: format!("recipe {}: {text}", wish.recipe),
        remedy: format!("{remedy}, or choose another SNAPSHOT"),
        acceptable: Acceptable::No,
    };
    Ok(match provider.preflight(&wish).await {
        Ok(found) => {
            let problems = found.problems.into_iter();
            let blockers = problems.map(|it| blocker(it.code, it.text, it.remedy));
            (blockers.collect(), found.notes)
        }
        Err(error) => {
            let remedy = "mend that and try again".to_owned();
            let code = "snapshot-preflight".to_owned();
            (vec![blocker(code, error.text, remedy)], Vec::new())
        }
    })
}

fn missing(error: &ProviderError) -> No {
    No::blocked(format!(
        "snapshot-missing: {error}; use SNAPSHOT local, or SNAPSHOT none to go without"
    ))
}

/// What START would do to one shard, in order, if everything goes well.
fn effects(inner: &Inner, start: &Start, looked: &Looked) -> Result<Vec<Effect>, No> {
    let (source, target) = (
        looked.facts.source.url.clone(),
        looked.facts.target.url.clone(),
    );
    let passage = Passage {
        pool: start.pool.clone(),
        shard: looked.facts.shard.clone(),
        epoch: looked.epoch,
        term: 0,
        direction: Direction::Forward,
        from: source.clone(),
        to: target.clone(),
        followed: forward_place(&inner.world, &source).map_err(No::wrong)?,
        guard: GuardPlace {
            host: inner.world.config.control.guard.announced_host().to_owned(),
            port: 0,
        },
        hold_ms: start.options.hold_max_ms,
    };
    let mut effects = Vec::new();
    if let Some(wish) = wish(inner, start, &looked.facts.shard, &source) {
        effects.push(Effect::TakeSnapshot(wish));
    }
    effects.push(Effect::Arm {
        server: source.clone(),
        settings: source_settings(),
    });
    effects.push(Effect::Arm {
        server: target.clone(),
        settings: target_settings(),
    });
    effects.push(Effect::Attach {
        target: target.clone(),
        source: source.clone(),
    });
    effects.push(Effect::CarrySettings {
        source: source.clone(),
        target: target.clone(),
    });
    effects.push(Effect::CarryUsers {
        source: source.clone(),
        target: target.clone(),
    });
    effects.push(Effect::CarryScripts {
        pool: start.pool.clone(),
        target: target.clone(),
    });
    effects.extend(passage.effects());
    effects.push(Effect::KeepRole { server: target });
    effects.push(Effect::RefuseStale {
        server: source.clone(),
    });
    effects.push(Effect::Retire { server: source });
    Ok(effects)
}

/// `UPGRADE START`.
pub(super) async fn start(inner: &Arc<Inner>, start: Start) -> Result<Value, No> {
    let _one_at_a_time = inner.starting.lock().await;
    for live in inner.board.shards(Some(&start.pool)) {
        let (shard, phase) = (&live.record.shard, live.record.phase);
        let rolling_back = live.rolling_back && phase == Phase::Soak;
        if rolling_back {
            return Err(No::wrong(format!(
                "an upgrade of pool '{}' is under way: shard {shard} is being rolled back; wait for its end",
                start.pool
            )));
        }
        if phase.is_underway() {
            return Err(No::wrong(format!(
                "an upgrade of pool '{0}' is under way: shard {shard} is in {phase}; see UPGRADE STATUS {0}, UPGRADE ABORT {0} stops it before its commit",
                start.pool
            )));
        }
        if phase == Phase::Soak && start.targets.iter().any(|(named, _)| named == shard) {
            return Err(No::wrong(format!(
                "shard '{shard}' soaks: FINALIZE or ROLLBACK it first"
            )));
        }
    }
    inner.world.journal.probe().await.map_err(No::wrong)?;
    let looked = look(inner, &start).await?;
    let in_the_way: Vec<String> = looked
        .iter()
        .flat_map(|looked| refused(&looked.blockers, &start.options.accept))
        .map(ToString::to_string)
        .collect();
    if !in_the_way.is_empty() {
        return Err(No::blocked(in_the_way.join(" | ")));
    }
    let id = inner
        .world
        .journal
        .next_upgrade()
        .await
        .map_err(No::wrong)?;
    let upgrade = UpgradeRecord {
        v: FORMAT,
        id,
        pool: start.pool.clone(),
        shards: start
            .targets
            .iter()
            .map(|(shard, _)| shard.clone())
            .collect(),
        options: start.options.clone(),
        started_at_ms: now_ms(),
    };
    let idle: Vec<String> = accepted_for_nothing(&looked, &start).collect();
    let records = looked
        .iter()
        .map(|looked| {
            let facts = &looked.facts;
            let (source, target) = (facts.source.url.clone(), facts.target.url.clone());
            let mut record = ShardRecord::new(&upgrade, &facts.shard, source, target, looked.epoch);
            for blocker in &looked.blockers {
                record.note(format!("accepted: {blocker}"));
            }
            for note in &idle {
                record.note(note.clone());
            }
            record.note(format!("{} to {}", facts.source.build, facts.target.build));
            record
        })
        .collect();
    inner.begin(upgrade, records).await.map_err(No::wrong)?;
    Ok(Value::ok())
}

/// Clients stay in the database that they are in: the address of a target names the one that the source's names.
fn same_database(shard: &str, source: &str, target: &str) -> Result<(), String> {
    let db = |url: &str| {
        url.parse::<understudy_config::BackendUrl>()
            .map(|url| url.db)
    };
    match (db(source), db(target)) {
        (Ok(there), Ok(here)) if there != here => Err(format!(
            "the url of shard '{shard}' names database {here}, and its clients are in database {there}: write the same"
        )),
        _ => Ok(()),
    }
}
