//! What a changed configuration changes in a running proxy, and what it takes a restart for.
//!
//! A reload either takes over everything that it may, or nothing. No connection is dropped: sessions keep their state,
//! gates their epochs. Addresses of backends are not taken over, since that would move a shard without an upgrade; the
//! file's word counts again after a restart, where `data_dir/routes.json` does not know better.

use understudy_config::{Config, Pool, Shard};

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that hold from now on.
    pub changed: Vec<String>,
    /// Settings that differ and wait for a restart, with the reason.
    pub restart: Vec<String>,
}

/// The configuration that a running proxy may have of `new`, and what that means.
pub(crate) fn merge(old: &Config, new: &Config) -> (Config, Reloaded) {
    let mut said = Reloaded::default();
    let mut merged = old.clone();
    let mut restart = |differs: bool, what: &str| {
        if differs {
            said.restart.push(format!("{what}: read at start only"));
        }
    };
    restart(old.data_dir != new.data_dir, "data_dir");
    restart(old.workers != new.workers, "workers");
    restart(old.admin != new.admin, "admin");
    restart(old.http != new.http, "http");
    restart(old.control != new.control, "control");
    restart(old.limits != new.limits, "limits");
    // Old pools keep their places: what a worker counts is named by them.
    for pool in &mut merged.pools {
        match new.pool(&pool.name) {
            Some(wanted) => *pool = merge_pool(pool, wanted, &mut said),
            None => said.restart.push(format!(
                "pools[{}]: is removed at the next start, its clients stay until then",
                pool.name
            )),
        }
    }
    for pool in new
        .pools
        .iter()
        .filter(|pool| old.pool(&pool.name).is_none())
    {
        said.changed.push(format!("pools[{}]: added", pool.name));
        merged.pools.push(pool.clone());
    }
    (merged, said)
}

fn merge_pool(old: &Pool, new: &Pool, said: &mut Reloaded) -> Pool {
    let mut merged = new.clone();
    let path = format!("pools[{}]", old.name);
    if old.listen != new.listen {
        said.restart
            .push(format!("{path}.listen: clients are connected to it"));
        merged.listen = old.listen.clone();
    }
    if old.tls != new.tls {
        said.restart
            .push(format!("{path}.tls: the listener has it already"));
        merged.tls.clone_from(&old.tls);
    }
    // Which shard a key is on follows from all of these together: half of a change would lose keys.
    if !same_ring(old, new) {
        said.restart
            .push(format!("{path}.shards: keys would move to other shards"));
        merged.shards = old.shards.clone();
        (merged.distribution, merged.hash, merged.hash_tag) =
            (old.distribution, old.hash, old.hash_tag);
    }
    for (kept, wanted) in merged.shards.iter_mut().zip(&old.shards) {
        if !kept.primary.same_server(&wanted.primary) {
            said.restart.push(format!(
                "{path}.shards[{}].primary: UPGRADE moves a shard, a reload does not",
                kept.name
            ));
            kept.primary = wanted.primary.clone();
        }
    }
    if merged != *old {
        said.changed.push(path);
    }
    merged
}

/// Whether every key stays on its shard.
fn same_ring(old: &Pool, new: &Pool) -> bool {
    let identity = |shard: &Shard| (shard.name.clone(), shard.ring_name.clone(), shard.weight);
    (old.distribution, old.hash, old.hash_tag) == (new.distribution, new.hash, new.hash_tag)
        && old
            .shards
            .iter()
            .map(identity)
            .eq(new.shards.iter().map(identity))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> Config {
        Config::embedded(
            "127.0.0.1:7379".parse().unwrap(),
            "redis://127.0.0.1:6001".parse().unwrap(),
        )
    }

    #[test]
    fn an_unchanged_file_changes_nothing() {
        let (merged, said) = merge(&config(), &config());
        assert_eq!((merged, said), (config(), Reloaded::default()));
    }

    #[test]
    fn what_may_change_does_and_what_may_not_is_named() {
        let mut new = config();
        new.pools[0].timeout = Some(Duration::from_secs(3));
        new.pools[0].shards[0].primary = "redis://127.0.0.1:6002".parse().unwrap();
        new.data_dir = "/elsewhere".into();
        let mut other = new.pools[0].clone();
        other.name = "other".into();
        new.pools.push(other);
        let (merged, said) = merge(&config(), &new);
        assert_eq!(merged.pools[0].timeout, Some(Duration::from_secs(3)));
        assert_eq!(merged.pools[0].shards, config().pools[0].shards);
        assert_eq!(merged.data_dir, config().data_dir);
        assert_eq!(said.changed, ["pools[default]", "pools[other]: added"]);
        assert_eq!(said.restart.len(), 2, "{said:?}");
    }

    #[test]
    fn a_ring_that_would_move_keys_waits_for_a_restart() {
        let mut new = config();
        let second = Shard {
            name: "s2".into(),
            ring_name: "s2".into(),
            ..new.pools[0].shards[0].clone()
        };
        new.pools[0].shards.push(second);
        let (merged, said) = merge(&config(), &new);
        assert_eq!(merged, config());
        assert_eq!(
            said.restart,
            ["pools[default].shards: keys would move to other shards"]
        );
    }
}
