//! What a reload would change, and what each change needs before it counts.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::model::{Config, Pool, Shard};
use crate::units::duration_text;

/// One setting that differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting, pools and shards by name: `pools[sessions].shards[s1].primary`.
    pub path: String,
    /// From what to what, without any secret.
    pub what: String,
    /// What it takes.
    pub needs: Needs,
}

/// What a change takes before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// A reload.
    Reload,
    /// A restart of the process.
    Restart,
    /// A restart, and the data must have been moved before: keys are then looked for on other shards.
    MovedKeys,
}

impl Config {
    /// Every difference to a newer configuration, in the order of the file. Empty when a reload would change nothing.
    #[must_use]
    pub fn diff(&self, new: &Self) -> Vec<Change> {
        let mut changes = Changes::default();
        changes.compare(
            "data_dir",
            &self.data_dir.display(),
            &new.data_dir.display(),
            Needs::Restart,
        );
        changes.compare("workers", &self.workers, &new.workers, Needs::Restart);
        changes.compare(
            "admin.listen",
            &self.admin.listen,
            &new.admin.listen,
            Needs::Restart,
        );
        changes.hidden(
            "admin.users",
            &self.admin.users,
            &new.admin.users,
            Needs::Restart,
        );
        changes.hidden("admin.tls", &self.admin.tls, &new.admin.tls, Needs::Restart);
        let http = |config: &Self| {
            config
                .http
                .as_ref()
                .map_or("off".to_owned(), |http| http.listen.to_string())
        };
        changes.compare("http.listen", &http(self), &http(new), Needs::Restart);
        changes.hidden("control", &self.control, &new.control, Needs::Restart);
        for (name, old, new) in self.limits.differences(&new.limits) {
            changes.compare(&format!("limits.{name}"), &old, &new, Needs::Restart);
        }
        for old in &self.pools {
            match new.pool(&old.name) {
                Some(new) => changes.pool(old, new),
                None => changes.add(
                    format!("pools[{}]", old.name),
                    "taken away".to_owned(),
                    Needs::Restart,
                ),
            }
        }
        for pool in new
            .pools
            .iter()
            .filter(|pool| self.pool(&pool.name).is_none())
        {
            changes.add(
                format!("pools[{}]", pool.name),
                "added".to_owned(),
                Needs::Reload,
            );
        }
        changes.0
    }
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn pool(&mut self, old: &Pool, new: &Pool) {
        let path = |setting: &str| format!("pools[{}].{setting}", old.name);
        // With one shard before and after, every key is on it however it is hashed.
        let spread = if old.shards.len() == 1 && new.shards.len() == 1 {
            Needs::Restart
        } else {
            Needs::MovedKeys
        };
        self.compare(&path("listen"), &old.listen, &new.listen, Needs::Restart);
        self.compare(
            &path("distribution"),
            &old.distribution,
            &new.distribution,
            spread,
        );
        self.compare(&path("hash"), &old.hash, &new.hash, spread);
        self.optional(&path("hash_tag"), old.hash_tag, new.hash_tag, spread);
        self.hidden(&path("users"), &old.users, &new.users, Needs::Reload);
        self.hidden(
            &path("backend_users"),
            &old.backend_users,
            &new.backend_users,
            Needs::Reload,
        );
        self.hidden(&path("tls"), &old.tls, &new.tls, Needs::Restart);
        self.hidden(
            &path("backend_tls"),
            &old.backend_tls,
            &new.backend_tls,
            Needs::Reload,
        );
        for (setting, old, new) in [
            ("timeout", old.timeout, new.timeout),
            (
                "connect_timeout",
                Some(old.connect_timeout),
                Some(new.connect_timeout),
            ),
            (
                "reconnect_min",
                Some(old.reconnect_min),
                Some(new.reconnect_min),
            ),
            (
                "reconnect_max",
                Some(old.reconnect_max),
                Some(new.reconnect_max),
            ),
        ] {
            self.optional(
                &path(setting),
                old.map(duration_text),
                new.map(duration_text),
                Needs::Reload,
            );
        }
        self.optional(
            &path("sessions_max"),
            old.sessions_max,
            new.sessions_max,
            Needs::Reload,
        );

        let names: BTreeSet<&str> = old
            .shards
            .iter()
            .chain(&new.shards)
            .map(|shard| shard.name.as_str())
            .collect();
        for name in names {
            let path = path(&format!("shards[{name}]"));
            match (old.shard(name), new.shard(name)) {
                (Some(old), Some(new)) => self.shard(&path, old, new, spread),
                (Some(_), None) => self.add(path, "taken away".to_owned(), Needs::MovedKeys),
                (None, _) => self.add(path, "added".to_owned(), Needs::MovedKeys),
            }
        }
    }

    fn shard(&mut self, path: &str, old: &Shard, new: &Shard, spread: Needs) {
        self.compare(
            &format!("{path}.ring_name"),
            &old.ring_name,
            &new.ring_name,
            spread,
        );
        self.compare(&format!("{path}.weight"), &old.weight, &new.weight, spread);
        let primary = format!("{path}.primary");
        if old.primary.to_string() == new.primary.to_string() {
            self.hidden(&primary, &old.primary, &new.primary, Needs::Reload);
        } else {
            // A reload never moves a shard: UPGRADE does.
            self.compare(&primary, &old.primary, &new.primary, Needs::Restart);
        }
    }

    fn compare<T: Display>(&mut self, path: &str, old: &T, new: &T, needs: Needs) {
        let (old, new) = (old.to_string(), new.to_string());
        if old != new {
            self.add(path.to_owned(), format!("{old} becomes {new}"), needs);
        }
    }

    fn optional<T: Display>(&mut self, path: &str, old: Option<T>, new: Option<T>, needs: Needs) {
        let text = |value: Option<T>| value.map_or("nothing".to_owned(), |value| value.to_string());
        self.compare(path, &text(old), &text(new), needs);
    }

    /// For what holds secrets, or is too long for a line.
    fn hidden<T: PartialEq>(&mut self, path: &str, old: &T, new: &T, needs: Needs) {
        if old != new {
            self.add(path.to_owned(), "changed".to_owned(), needs);
        }
    }

    fn add(&mut self, path: String, what: String, needs: Needs) {
        self.0.push(Change { path, what, needs });
    }
}

#[cfg(test)]
mod tests;
