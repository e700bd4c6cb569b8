//! What routes and overlay say about an attempt before any worker is asked.

use understudy_config::BackendUrl;

use super::error::VerbError;
use super::{Attempt, Gates, Turn};
use crate::overlay::{Entry, Standing};
use crate::route::{PoolIndex, ShardIndex};
use crate::shared::find;
use crate::worker::{GateError, GatePosition, GateStatus};

impl Gates {
    pub(super) fn names(
        &self,
        pool: &str,
        shard: &str,
    ) -> Result<(PoolIndex, ShardIndex), VerbError> {
        let routes = self.known.routes.load();
        if routes.pool_named(pool).is_none() {
            return Err(VerbError::NoPool(pool.to_owned()));
        }
        let missing = || VerbError::NoShard {
            pool: pool.to_owned(),
            shard: shard.to_owned(),
        };
        find(&routes, pool, shard).ok_or_else(missing)
    }

    /// Refuses unknown names and older attempts, and remembers the term.
    pub(super) fn admit(
        &self,
        turn: &mut Turn<'_>,
        attempt: &Attempt,
    ) -> Result<(PoolIndex, ShardIndex), VerbError> {
        let places = self.names(&attempt.pool, &attempt.shard)?;
        let seen = turn
            .entry((attempt.pool.clone(), attempt.shard.clone()))
            .or_default();
        if attempt.term < *seen {
            let (shard, seen, given) = (attempt.shard.clone(), *seen, attempt.term);
            return Err(GateError::StaleTerm { shard, seen, given }.into());
        }
        // A newer attempt that finds the gate busy must not lock the older one out of ending it.
        if !self.is_prepared_for_another(attempt) {
            *seen = attempt.term;
        }
        Ok(places)
    }

    pub(super) fn is_prepared(&self, attempt: &Attempt) -> bool {
        let overlay = self.known.overlay.load();
        let entry = overlay.entry(&attempt.pool, &attempt.shard);
        entry.is_some_and(|entry| {
            entry.standing == Standing::Prepared
                && entry.term == attempt.term
                && entry.epoch == attempt.epoch
        })
    }

    pub(super) fn is_prepared_for_another(&self, attempt: &Attempt) -> bool {
        let overlay = self.known.overlay.load();
        let entry = overlay.entry(&attempt.pool, &attempt.shard);
        entry
            .is_some_and(|entry| entry.standing == Standing::Prepared && entry.term != attempt.term)
    }

    pub(super) fn is_switched(&self, attempt: &Attempt, next_epoch: u64, url: &str) -> bool {
        let overlay = self.known.overlay.load();
        let entry = overlay.entry(&attempt.pool, &attempt.shard);
        entry.is_some_and(|entry| {
            entry.epoch == next_epoch && entry.term == attempt.term && entry.backend == url
        })
    }

    pub(super) fn expect_prepared(
        &self,
        attempt: &Attempt,
        found: &GateStatus,
    ) -> Result<(), GateError> {
        let shard = attempt.shard.clone();
        if found.epoch != attempt.epoch {
            return Err(GateError::WrongEpoch {
                shard,
                is: found.epoch,
                given: attempt.epoch,
            });
        }
        let state = found.state.name();
        if found.state == GatePosition::Prepared && found.term != attempt.term {
            return Err(GateError::Busy {
                shard,
                state,
                term: found.term,
            });
        }
        let drained = found.state == GatePosition::Lapsed && found.in_flight == 0;
        if found.state != GatePosition::Prepared && !drained {
            let why = "SWITCH needs a gate that is prepared";
            return Err(GateError::NotHeld {
                worker: 0,
                shard,
                state,
                term: found.term,
                why,
            });
        }
        Ok(())
    }
}

/// The overlay's line for an attempt.
pub(super) fn entry(attempt: &Attempt, epoch: u64, backend: &str, standing: Standing) -> Entry {
    Entry {
        pool: attempt.pool.clone(),
        shard: attempt.shard.clone(),
        epoch,
        term: attempt.term,
        backend: backend.to_owned(),
        standing,
        retired: Vec::new(),
    }
}

/// The address as routes carry it. A password in it is refused, since it would be written to the disk and shown.
pub(super) fn address_only(url: &str) -> Result<String, VerbError> {
    let parsed: BackendUrl = url.parse().map_err(|_| {
        VerbError::BadUrl("the url is no redis://, rediss:// or unix:// address".into())
    })?;
    if parsed.password.is_some() {
        return Err(VerbError::BadUrl("a url in SWITCH carries no password; name the user, its password comes from the configuration".into()));
    }
    Ok(parsed.to_string())
}
