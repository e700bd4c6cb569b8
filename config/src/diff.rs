//! What a reload would change, what each change needs before it counts, and what a running process has of it at once. One
//! walk over the settings says all three.

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
        self.reloaded(new).1
    }

    /// What a process that runs by this configuration has of a newer one without a restart, and every difference.
    ///
    /// What needs more than a reload stays as it is: a backend's address, since that would move a shard without an upgrade,
    /// and all of a ring, since keys would be looked for elsewhere.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> (Self, Vec<Change>) {
        let (mut merged, mut changes) = (self.clone(), Changes::default());
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
        changes.hidden(
            "kubernetes",
            &self.kubernetes,
            &new.kubernetes,
            Needs::Restart,
        );
        for (name, old, new) in self.limits.differences(&new.limits) {
            changes.compare(&format!("limits.{name}"), &old, &new, Needs::Restart);
        }
        // Old pools keep their places, those that were taken away too: they are served until the restart.
        for pool in &mut merged.pools {
            match new.pool(&pool.name) {
                Some(wanted) => changes.pool(pool, wanted),
                None => changes.add(
                    format!("pools[{}]", pool.name),
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
            merged.pools.push(pool.clone());
        }
        (merged, changes.0)
    }
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    /// Compares a pool that runs with the wanted one, and gives it what needs no more than a reload.
    fn pool(&mut self, running: &mut Pool, wanted: &Pool) {
        let name = running.name.clone();
        let path = |setting: &str| format!("pools[{name}].{setting}");
        // With one shard before and after, every key is on it however it is hashed.
        let spread = if running.shards.len() == 1 && wanted.shards.len() == 1 {
            Needs::Restart
        } else {
            Needs::MovedKeys
        };
        self.compare(
            &path("listen"),
            &running.listen,
            &wanted.listen,
            Needs::Restart,
        );
        self.compare(
            &path("distribution"),
            &running.distribution,
            &wanted.distribution,
            spread,
        );
        self.compare(&path("hash"), &running.hash, &wanted.hash, spread);
        self.optional(&path("hash_tag"), running.hash_tag, wanted.hash_tag, spread);
        self.take_hidden(&path("users"), &mut running.users, &wanted.users);
        self.take_hidden(
            &path("backend_users"),
            &mut running.backend_users,
            &wanted.backend_users,
        );
        self.hidden(&path("tls"), &running.tls, &wanted.tls, Needs::Restart);
        self.take_hidden(
            &path("backend_tls"),
            &mut running.backend_tls,
            &wanted.backend_tls,
        );
        self.take(
            &path("timeout"),
            &mut running.timeout,
            &wanted.timeout,
            |time| time.map_or("nothing".to_owned(), duration_text),
        );
        self.take(
            &path("connect_timeout"),
            &mut running.connect_timeout,
            &wanted.connect_timeout,
            |time| duration_text(*time),
        );
        self.take(
            &path("sessions_max"),
            &mut running.sessions_max,
            &wanted.sessions_max,
            |most| most.map_or("nothing".to_owned(), |most| most.to_string()),
        );
        let names: BTreeSet<String> = running
            .shards
            .iter()
            .chain(&wanted.shards)
            .map(|shard| shard.name.clone())
            .collect();
        for name in names {
            let path = path(&format!("shards[{name}]"));
            let running = running.shards.iter_mut().find(|shard| shard.name == name);
            match (running, wanted.shard(&name)) {
                (Some(running), Some(wanted)) => self.shard(&path, running, wanted, spread),
                (Some(_), None) => self.add(path, "taken away".to_owned(), Needs::MovedKeys),
                (None, _) => self.add(path, "added".to_owned(), Needs::MovedKeys),
            }
        }
    }

    fn shard(&mut self, path: &str, running: &mut Shard, wanted: &Shard, spread: Needs) {
        self.compare(
            &format!("{path}.ring_name"),
            &running.ring_name,
            &wanted.ring_name,
            spread,
        );
        self.compare(
            &format!("{path}.weight"),
            &running.weight,
            &wanted.weight,
            spread,
        );
        let primary = format!("{path}.primary");
        if running.primary.to_string() == wanted.primary.to_string() {
            // The same address with another password is a login that changed.
            self.take_hidden(&primary, &mut running.primary, &wanted.primary);
        } else {
            // A reload never moves a shard: UPGRADE does.
            self.compare(&primary, &running.primary, &wanted.primary, Needs::Restart);
        }
    }

    /// A setting that a reload takes over.
    fn take<T: Clone + PartialEq>(
        &mut self,
        path: &str,
        running: &mut T,
        wanted: &T,
        text: impl Fn(&T) -> String,
    ) {
        if running != wanted {
            let what = format!("{} becomes {}", text(running), text(wanted));
            self.add(path.to_owned(), what, Needs::Reload);
            running.clone_from(wanted);
        }
    }

    /// As `take`, for what holds secrets, or is too long for a line.
    fn take_hidden<T: Clone + PartialEq>(&mut self, path: &str, running: &mut T, wanted: &T) {
        if running != wanted {
            self.add(path.to_owned(), "changed".to_owned(), Needs::Reload);
            running.clone_from(wanted);
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
