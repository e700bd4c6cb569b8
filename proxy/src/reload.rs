//! What a changed configuration changes in a running proxy, in words.
//!
//! `Config::reloaded` says what is taken over and what stays as it was. No connection is dropped: sessions keep their state,
//! gates their epochs.

use understudy_config::{Config, Needs};

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
    let (merged, changes) = old.reloaded(new);
    let mut said = Reloaded::default();
    for change in changes {
        let line = format!("{}: {}", change.path, change.what);
        match change.needs {
            Needs::Reload => said.changed.push(line),
            Needs::Restart => said.restart.push(line),
            Needs::MovedKeys => said
                .restart
                .push(format!("{line}, and its keys must have been moved")),
        }
    }
    (merged, said)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use understudy_config::Shard;

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
    fn a_password_changes_although_the_ring_waits_for_a_restart() {
        let mut new = config();
        new.pools[0].shards[0].primary = "redis://:other@127.0.0.1:6001".parse().unwrap();
        new.pools[0].shards[0].weight = 2;
        let (merged, said) = merge(&config(), &new);
        assert_eq!(merged.pools[0].shards[0].weight, 1);
        assert!(merged.pools[0].shards[0].primary.password.is_some());
        assert_eq!((said.changed.len(), said.restart.len()), (1, 1), "{said:?}");
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
