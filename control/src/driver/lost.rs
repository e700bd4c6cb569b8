//! A proxy that knows an older route than the journal, such as one whose data_dir was lost, is brought to where the shard is.
//!
//! It does no harm meanwhile: the server in its YAML is fenced, and a proxy serves nobody from a replica. Only called while
//! no attempt of the shard is open, so that its term disturbs none.

use std::collections::BTreeSet;

use crate::effect::Gate;
use crate::journal::RouteRecord;
use crate::world::World;

/// The lease of the hold under which such a proxy is switched. Milliseconds.
const LEASE_MS: u64 = 1_000;

/// Looks at every proxy that answers, and switches those that are behind. Those that are not refuse, which changes nothing.
pub(crate) async fn bring_lost_proxies_home(world: &World, route: &RouteRecord) {
    let (mut behind, mut term) = (BTreeSet::new(), 0);
    for pools in world
        .proxies
        .pools(Some(&route.pool))
        .await
        .into_iter()
        .flatten()
    {
        let Some(report) = pools.shard(&route.pool, &route.shard) else {
            continue;
        };
        term = term.max(report.term);
        let stands = matches!(report.gate.as_str(), "open" | "lapsed");
        if stands && report.epoch < route.epoch {
            tracing::warn!(
                instance = %pools.instance, pool = %route.pool, shard = %route.shard, epoch = report.epoch, to = route.epoch,
                url = %route.url, "a proxy does not know the route, perhaps because its data_dir was lost: it is told"
            );
            behind.insert(report.epoch);
        }
    }
    for epoch in behind {
        let term = match world.journal.next_term(term + 1).await {
            Ok(term) => term,
            Err(error) => return tracing::error!(%error, "a proxy cannot be told its route"),
        };
        let gate = |epoch| Gate {
            pool: route.pool.clone(),
            shard: route.shard.clone(),
            epoch,
            term,
        };
        let (before, after) = (gate(epoch), gate(route.epoch));
        // One that lapsed serves nobody already: it refuses the first two, and goes along with the third.
        // The answers of those that were not behind are refusals; whoever is still behind is told again at the next look.
        let _refused_elsewhere = world.proxies.hold(&before, LEASE_MS).await;
        let _refused_elsewhere = world.proxies.prepare(&before).await;
        let _refused_elsewhere = world
            .proxies
            .switch_to(&before, route.epoch, &route.url)
            .await;
        let _refused_elsewhere = world.proxies.release(&after).await;
    }
}
