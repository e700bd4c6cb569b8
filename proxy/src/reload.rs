//! What a changed configuration changes in a running proxy.
//!
//! A reload takes over all that it may (`Config::diff` says what each setting needs) and keeps the rest as it was. No
//! connection is dropped: sessions keep their state, gates their epochs. An address of a backend is never taken over,
//! since that would move a shard without an upgrade; nor is half of a ring, since keys would be looked for elsewhere.

use understudy_config::{Config, Needs, Pool, Shard};

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that hold from now on.
    pub changed: Vec<String>,
    /// Settings that differ and wait for a restart.
    pub restart: Vec<String>,
}

/// The configuration that a running proxy may have of `new`, and what that means.
pub(crate) fn merge(old: &Config, new: &Config) -> (Config, Reloaded) {
    let mut merged = old.clone();
    // Old pools keep their places, those that were taken away too: they are served until the restart.
    for pool in &mut merged.pools {
        if let Some(wanted) = new.pool(&pool.name) {
            *pool = merge_pool(pool, wanted);
        }
    }
    let added = new
        .pools
        .iter()
        .filter(|pool| old.pool(&pool.name).is_none());
    merged.pools.extend(added.cloned());
    (merged, describe(old, new))
}

fn describe(old: &Config, new: &Config) -> Reloaded {
    let mut said = Reloaded::default();
    for change in old.diff(new) {
        let line = format!("{}: {}", change.path, change.what);
        match change.needs {
            Needs::Reload => said.changed.push(line),
            Needs::Restart => said.restart.push(line),
            Needs::MovedKeys => said
                .restart
                .push(format!("{line}, and its keys must have been moved")),
        }
    }
    said
}

fn merge_pool(old: &Pool, new: &Pool) -> Pool {
    let mut merged = Pool {
        listen: old.listen.clone(),
        tls: old.tls.clone(),
        ..new.clone()
    };
    // Which shard a key is on follows from all of these together.
    if !same_ring(old, new) {
        merged.shards.clone_from(&old.shards);
        (merged.distribution, merged.hash, merged.hash_tag) =
            (old.distribution, old.hash, old.hash_tag);
    }
    for (shard, running) in merged.shards.iter_mut().zip(&old.shards) {
        // The same address with another password is a login that changed.
        if shard.primary.to_string() != running.primary.to_string() {
            shard.primary = running.primary.clone();
        }
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
        assert_eq!(merge(&config(), &config()), (config(), Reloaded::default()));
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
        assert_eq!(
            said.changed,
            [
                "pools[default].timeout: nothing becomes 3s",
                "pools[other]: added"
            ]
        );
        assert_eq!(said.restart.len(), 2, "{said:?}");
    }

    #[test]
    fn a_password_that_changed_is_taken_over() {
        let mut new = config();
        new.pools[0].shards[0].primary = "redis://:other@127.0.0.1:6001".parse().unwrap();
        let (merged, said) = merge(&config(), &new);
        assert_eq!(merged, new);
        assert_eq!(said.changed, ["pools[default].shards[s1].primary: changed"]);
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
            ["pools[default].shards[s2]: added, and its keys must have been moved"]
        );
    }
}
