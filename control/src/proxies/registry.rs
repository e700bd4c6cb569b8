//! Who serves clients, as far as proxies said so: each with its id, when it was last heard, and what an armed upgrade means
//! for it. Pure: `now` is an argument.
//!
//! ```text
//!   REGISTER  new, or heard again        LEAVE   gone, by its own word      FORGET  gone, by the operator's
//!   arm       all that serve the pool must have been heard within a lease; they are the attempt's members
//!   check     before PREPARE: the same, in the same lives, and nobody else
//! ```
//! A proxy counts its lease from the moment of its question, we from the moment at which that arrives: ours ends later. So
//! one that is silent for longer than a lease serves nobody of an armed shard, and an operator may say that it is gone; or
//! control does, where an API server says that its Pod is (`whereabouts.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::whereabouts::PodName;

/// Pool and shard.
pub(crate) type Key = (String, String);

/// Most proxies that are known. Further ones are refused, by name. Default: 10,000.
const MEMBERS_MAX: usize = 10_000;

/// What a proxy says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    /// Its name over all of its starts.
    pub(crate) id: String,
    /// Names this start.
    pub(crate) life: String,
    /// Where its admin port is dialled.
    pub(crate) address: String,
    /// The Pod that it runs in, where it runs in one.
    pub(crate) pod: Option<PodName>,
    /// Where it stands.
    pub(crate) shards: BTreeMap<Key, u64>,
}

/// A proxy's Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) pod: PodName,
    /// Our API server has shown this very Pod.
    pub(crate) seen: bool,
}

/// A proxy that runs in a Pod, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) life: String,
    pub(crate) address: String,
    pub(crate) home: Home,
    /// It was not heard for a lease.
    pub(crate) silent: bool,
    /// Nor for a tenth of it more: it may be forgotten.
    pub(crate) lapsed: bool,
}

/// What it is told of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// No upgrade is armed.
    Open,
    /// One is, and counts on it.
    Armed,
    /// One is, without it.
    Wait,
}

impl Word {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Word::Open => "open",
            Word::Armed => "armed",
            Word::Wait => "wait",
        }
    }
}

/// What a registration comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// True when what the journal keeps of it has changed.
    pub(crate) changed: bool,
    /// The last attempt that armed anything.
    pub(crate) term: u64,
    pub(crate) told: Vec<(Key, Word)>,
}

/// Why a proxy is not registered, or not forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "another proxy registers as {id}, at {other}: a data_dir was copied; remove the file proxy-id of one of them and restart it"
    )]
    Twin { id: String, other: String },
    #[error("{MEMBERS_MAX} proxies are known already: UPGRADE FORGET those that are gone")]
    Full,
    #[error("no proxy '{0}' is known: see UPGRADE PROXIES")]
    Unknown(String),
    #[error(
        "proxy {id} was heard {seen_ms} ms ago: it lives. Stop it, then it leaves by itself; one that was killed may be forgotten after {lease_ms} ms"
    )]
    Lives {
        id: String,
        seen_ms: u128,
        lease_ms: u128,
    },
    #[error(
        "an attempt of shard {shard} in pool {pool} is under way: ABORT it, or wait for its end"
    )]
    Armed { pool: String, shard: String },
}

/// Why an attempt may not begin, or go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proxy {who}: {what}")]
pub(crate) struct InTheWay {
    who: String,
    what: String,
    /// True when it may go better by itself.
    pub(crate) passing: bool,
    /// The id of a proxy that is in the way by its silence.
    pub(crate) silent: Option<String>,
    /// It has not yet had the time to register with a control that was just started.
    pub(crate) due: bool,
}

impl InTheWay {
    /// The same, and what else is known of it.
    pub(crate) fn saying(mut self, text: &str) -> InTheWay {
        self.what = format!("{}; {text}", self.what);
        self
    }
}

#[derive(Clone, Debug)]
struct Member {
    life: String,
    /// The life before this one: if it speaks again, two processes share an id.
    former: Option<String>,
    twin: Option<Instant>,
    address: String,
    home: Option<Home>,
    pools: BTreeSet<String>,
    shards: BTreeMap<Key, u64>,
    /// Since this control started.
    heard: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Armed {
    /// Ids and lives that the attempt counts on; `None` for one of a former control, which only ends.
    members: Option<BTreeSet<(String, String)>>,
    /// It is committed: only the publishing is left.
    committed: bool,
}

/// A line of UPGRADE PROXIES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) life: String,
    pub(crate) address: String,
    pub(crate) seen_ms: Option<u128>,
    /// `valid`, `lapsed`, or `unheard` since control started.
    pub(crate) lease: &'static str,
    pub(crate) pod: Option<PodName>,
    pub(crate) shards: BTreeMap<Key, u64>,
}

/// Everybody who registered.
pub(crate) struct Registry {
    lease: Duration,
    born: Instant,
    members: BTreeMap<String, Member>,
    armed: BTreeMap<Key, Armed>,
    term: u64,
}

impl Registry {
    pub(crate) fn new(lease: Duration, now: Instant) -> Registry {
        Registry {
            lease,
            born: now,
            members: BTreeMap::new(),
            armed: BTreeMap::new(),
            term: 0,
        }
    }

    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// One that the journal knows. It counts as unheard until it speaks.
    pub(crate) fn remember(
        &mut self,
        id: &str,
        address: &str,
        home: Option<Home>,
        pools: BTreeSet<String>,
    ) {
        let member = Member {
            life: String::new(),
            former: None,
            twin: None,
            address: address.to_owned(),
            home,
            pools,
            shards: BTreeMap::new(),
            heard: None,
        };
        self.members.insert(id.to_owned(), member);
    }

    /// An attempt that a former control left open: its shard stays armed until it has ended. Nobody is a stranger to it,
    /// since it never goes on to a commit.
    pub(crate) fn resume(&mut self, key: Key, term: u64) {
        self.term = self.term.max(term);
        let armed = Armed {
            members: None,
            committed: false,
        };
        self.armed.insert(key, armed);
    }

    /// The largest term given out so far.
    pub(crate) fn seen(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    pub(crate) fn register(
        &mut self,
        said: Registration,
        now: Instant,
    ) -> Result<Registered, Refused> {
        let pools: BTreeSet<String> = said.shards.keys().map(|(pool, _)| pool.clone()).collect();
        let lease = self.lease;
        let full = self.members.len() >= MEMBERS_MAX;
        let changed = match self.members.get_mut(&said.id) {
            None if full => return Err(Refused::Full),
            None => {
                self.remember(&said.id, &said.address, None, pools.clone());
                true
            }
            Some(member) => {
                let alive = member
                    .heard
                    .is_some_and(|at| now.duration_since(at) <= lease);
                if alive && member.former.as_ref() == Some(&said.life) {
                    member.twin = Some(now);
                    return Err(Refused::Twin {
                        id: said.id,
                        other: member.address.clone(),
                    });
                }
                let pod = member.home.as_ref().map(|home| &home.pod);
                member.address != said.address || member.pools != pools || pod != said.pod.as_ref()
            }
        };
        if let Some(member) = self.members.get_mut(&said.id) {
            if member.life != said.life {
                let former = std::mem::replace(&mut member.life, said.life);
                member.former = (!former.is_empty()).then_some(former);
            }
            member.address = said.address;
            if member.home.as_ref().map(|home| &home.pod) != said.pod.as_ref() {
                member.home = said.pod.map(|pod| Home { pod, seen: false });
            }
            member.pools = pools;
            member.heard = Some(now);
            member.shards.clone_from(&said.shards);
        }
        let told = said.shards.into_keys().map(|key| {
            let word = self.word(&said.id, &key);
            (key, word)
        });
        Ok(Registered {
            changed,
            term: self.term,
            told: told.collect(),
        })
    }

    fn word(&self, id: &str, key: &Key) -> Word {
        let Some(armed) = self.armed.get(key) else {
            return Word::Open;
        };
        let life = self.members.get(id).map(|member| member.life.clone());
        let counted = armed.members.as_ref().is_none_or(|members| {
            life.is_some_and(|life| members.contains(&(id.to_owned(), life)))
        });
        if counted { Word::Armed } else { Word::Wait }
    }

    /// A proxy that has ended its last session says so. A former life of it says nothing. True when it was known.
    pub(crate) fn leave(&mut self, id: &str, life: &str) -> bool {
        let known = self
            .members
            .get(id)
            .is_some_and(|member| member.life == life);
        if known {
            self.members.remove(id);
        }
        known
    }

    /// The operator says that a proxy is gone for good.
    pub(crate) fn forget(&mut self, id: &str, now: Instant) -> Result<(), Refused> {
        let member = self
            .members
            .get(id)
            .ok_or_else(|| Refused::Unknown(id.to_owned()))?;
        let since = self.silence(member, now);
        let lapsed = self.lapse();
        if since <= lapsed {
            return Err(Refused::Lives {
                id: id.to_owned(),
                seen_ms: since.as_millis(),
                lease_ms: lapsed.as_millis(),
            });
        }
        let mut busy = self.armed.iter().filter(|(_, armed)| !armed.committed);
        let busy = busy.find(|((pool, _), _)| member.pools.contains(pool));
        if let Some(((pool, shard), _)) = busy {
            return Err(Refused::Armed {
                pool: pool.clone(),
                shard: shard.clone(),
            });
        }
        self.members.remove(id);
        Ok(())
    }

    /// How long nothing was heard of it; of one that was not heard since control started, how long that is.
    fn silence(&self, member: &Member, now: Instant) -> Duration {
        now.duration_since(member.heard.unwrap_or(self.born))
    }

    /// A tenth more than the lease, for clocks that do not run alike.
    fn lapse(&self) -> Duration {
        self.lease + self.lease / 10
    }

    /// Those that run in Pods: all, or those that serve a pool.
    pub(crate) fn tenants(&self, pool: Option<&str>, now: Instant) -> Vec<Tenant> {
        let tenant = |(id, member): (&String, &Member)| {
            let silence = self.silence(member, now);
            Some(Tenant {
                id: id.clone(),
                life: member.life.clone(),
                address: member.address.clone(),
                home: member.home.clone()?,
                silent: member.heard.is_none() || silence > self.lease,
                lapsed: silence > self.lapse(),
            })
        };
        let wanted = self.members.iter();
        let wanted =
            wanted.filter(|(_, member)| pool.is_none_or(|pool| member.pools.contains(pool)));
        wanted.filter_map(tenant).collect()
    }

    /// Our API server shows a proxy's Pod. Answers where it is dialled and which pools it serves, when that is news.
    pub(crate) fn seen_at_home(&mut self, tenant: &Tenant) -> Option<(String, BTreeSet<String>)> {
        let member = self.members.get_mut(&tenant.id)?;
        let home = member.home.as_mut()?;
        if home.seen || home.pod != tenant.home.pod {
            return None;
        }
        home.seen = true;
        Some((member.address.clone(), member.pools.clone()))
    }

    /// As `forget`, by what was found out about its Pod, and only if it was not heard since: in the same life, at the same
    /// place.
    pub(crate) fn forget_tenant(&mut self, tenant: &Tenant, now: Instant) -> Result<(), Refused> {
        let same = self.members.get(&tenant.id).is_some_and(|member| {
            member.life == tenant.life && member.home.as_ref() == Some(&tenant.home)
        });
        match same {
            true => self.forget(&tenant.id, now),
            false => Err(Refused::Unknown(tenant.id.clone())),
        }
    }

    /// Whether everybody who serves this pool could take part in an attempt.
    pub(crate) fn ready(&self, key: &Key, now: Instant) -> Result<(), InTheWay> {
        for (id, member) in self.of_pool(&key.0) {
            let in_the_way = |what: String, passing| InTheWay {
                who: format!("{id} at {}", member.address),
                what,
                passing,
                silent: None,
                due: false,
            };
            let silent = |what: String, passing| InTheWay {
                silent: Some(id.clone()),
                ..in_the_way(what, passing)
            };
            let lease = self.lease.as_millis();
            match member.heard.map(|at| now.duration_since(at)) {
                None if now.duration_since(self.born) <= self.lease => {
                    let age = now.duration_since(self.born);
                    let left = (self.lease.saturating_sub(age)).as_secs() + 1;
                    let what = format!(
                        "control started {} s ago, and it has not registered since; it does so within {left} s: try again then; UPGRADE FORGET {id} only if it is gone for good",
                        age.as_secs()
                    );
                    let mut due = silent(what, true);
                    due.due = true;
                    return Err(due);
                }
                None => {
                    let what = format!(
                        "it registered before control was restarted and was not heard since; when it is gone for good, UPGRADE FORGET {id}"
                    );
                    return Err(silent(what, false));
                }
                Some(since) if since > self.lease => {
                    let what = format!(
                        "it was last heard {} ms ago and its lease is {lease} ms; when it is gone for good, UPGRADE FORGET {id}",
                        since.as_millis()
                    );
                    return Err(silent(what, false));
                }
                Some(_) => {}
            }
            if member
                .twin
                .is_some_and(|at| now.duration_since(at) <= self.lease)
            {
                let what = "two processes register under this id: a data_dir was copied; remove the file proxy-id of one of them and restart it";
                return Err(in_the_way(what.to_owned(), false));
            }
            if !member.shards.contains_key(key) {
                let what = format!("it does not serve shard {} of its pool {}", key.1, key.0);
                return Err(in_the_way(what, false));
            }
        }
        Ok(())
    }

    /// From now on everybody who asks is told that this shard is armed; those who are known now are the attempt's members.
    pub(crate) fn arm(&mut self, key: &Key, term: u64, now: Instant) -> Result<(), InTheWay> {
        self.ready(key, now)?;
        self.term = self.term.max(term);
        let armed = Armed {
            members: Some(self.lives(&key.0)),
            committed: false,
        };
        self.armed.insert(key.clone(), armed);
        Ok(())
    }

    /// Before PREPARE: the members are those of `arm`, heard of lately, and nobody else came.
    pub(crate) fn check(&self, key: &Key, now: Instant) -> Result<(), InTheWay> {
        let stranger = |who: String, what: &str| InTheWay {
            who,
            what: what.to_owned(),
            passing: true,
            silent: None,
            due: false,
        };
        let Some(members) = self.armed.get(key).and_then(|armed| armed.members.as_ref()) else {
            return Err(stranger("?".to_owned(), "no attempt is armed"));
        };
        let now_known = self.lives(&key.0);
        if let Some((id, life)) = now_known.difference(members).next() {
            let restarted = members.iter().any(|(member, _)| member == id);
            let what = match restarted {
                true => format!("it was restarted during the attempt, as {life}"),
                false => "it registered during the attempt, which did not count on it".to_owned(),
            };
            let address = self.members.get(id).map_or("?", |member| &member.address);
            return Err(stranger(format!("{id} at {address}"), &what));
        }
        if let Some((id, _)) = members.difference(&now_known).next() {
            return Err(stranger(id.clone(), "it left during the attempt"));
        }
        self.ready(key, now)
    }

    /// The attempt is committed: a proxy that died in the middle may be forgotten, so that the others need not wait.
    pub(crate) fn committed(&mut self, key: &Key) {
        if let Some(armed) = self.armed.get_mut(key) {
            armed.committed = true;
        }
    }

    /// The attempt has ended.
    pub(crate) fn disarm(&mut self, key: &Key) {
        self.armed.remove(key);
    }

    /// Where those that serve a pool are dialled, or all of them.
    pub(crate) fn addresses(&self, pool: Option<&str>) -> Vec<String> {
        let wanted = self
            .members
            .values()
            .filter(|member| pool.is_none_or(|pool| member.pools.contains(pool)));
        wanted.map(|member| member.address.clone()).collect()
    }

    pub(crate) fn lines(&self, now: Instant) -> Vec<Line> {
        let line = |(id, member): (&String, &Member)| {
            let seen = member.heard.map(|at| now.duration_since(at));
            Line {
                id: id.clone(),
                life: member.life.clone(),
                address: member.address.clone(),
                seen_ms: seen.map(|seen| seen.as_millis()),
                lease: match seen {
                    None => "unheard",
                    Some(seen) if seen > self.lease => "lapsed",
                    Some(_) => "valid",
                },
                pod: member.home.as_ref().map(|home| home.pod.clone()),
                shards: member.shards.clone(),
            }
        };
        self.members.iter().map(line).collect()
    }

    fn of_pool<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = (&'a String, &'a Member)> {
        let members = self.members.iter();
        members.filter(move |(_, member)| member.pools.contains(pool))
    }

    fn lives(&self, pool: &str) -> BTreeSet<(String, String)> {
        self.of_pool(pool)
            .map(|(id, member)| (id.clone(), member.life.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests;
