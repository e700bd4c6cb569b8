//! While the way back is open: what is true is looked at again and again, and the operator decides.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rollback_point::RollbackPoint;
use super::{Driver, Failure, Order};
use crate::cutover::Role;
use crate::journal::now_ms;
use crate::phase::Phase;
use crate::status::WayBack;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Errors over this share of commands for `BUDGET_TIME` are worth a warning.
const ERROR_SHARE_MAX: f64 = 0.001;

/// See `ERROR_SHARE_MAX`.
const BUDGET_TIME: Duration = Duration::from_secs(10);

/// A p99 over so many times that of the minutes before the cutover is worth a warning.
const P99_FACTOR_MAX: u64 = 2;

/// How commands and errors grew, over the last `BUDGET_TIME`.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    seen: VecDeque<(Instant, u64, u64)>,
}

impl Budget {
    /// Takes the counters as they are now, and says what is over the budget.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of commands needs no exact count"
    )]
    pub(crate) fn look(
        &mut self,
        now: Instant,
        commands: u64,
        errors: u64,
        p99: (u64, u64),
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        self.seen.push_back((now, commands, errors));
        while self.seen.len() > 1 && self.seen[1].0 + BUDGET_TIME <= now {
            self.seen.pop_front();
        }
        if let Some((since, commands_then, errors_then)) = self.seen.front().copied() {
            let served = commands.saturating_sub(commands_then);
            let failed = errors.saturating_sub(errors_then);
            if now.duration_since(since) >= BUDGET_TIME
                && failed as f64 > ERROR_SHARE_MAX * served as f64
            {
                warnings.push(format!(
                    "{failed} of {served} commands failed in the last {} s",
                    BUDGET_TIME.as_secs()
                ));
            }
        }
        let (before, after) = p99;
        if before > 0 && after > P99_FACTOR_MAX * before {
            warnings.push(format!(
                "p99 is {after} us, it was {before} us before the cutover"
            ));
        }
        warnings
    }
}

/// Keys expire and are deleted meanwhile; a server that has fewer than half of them did not load them.
fn has_lost_most(source_keys: u64, target_keys: u64) -> bool {
    target_keys < source_keys.div_ceil(2)
}

impl Driver {
    /// Soaks until an end, or until control stops.
    pub(crate) async fn soak(&mut self) -> Phase {
        let mut budget = Budget::default();
        let mut point = RollbackPoint::default();
        // The process that was verified and promoted, also when it was restarted before we looked.
        let promoted = self.record.identity.as_ref();
        let target_run_id = promoted.map(|identity| identity.to_run_id.clone());
        while self.record.phase == Phase::Soak {
            let alarm = self.rollback_point_alarm(&mut point, Instant::now()).await;
            let way = self
                .look(&mut budget, target_run_id.as_deref(), alarm)
                .await;
            let soaked_ms =
                now_ms().saturating_sub(self.record.soak_since_ms.unwrap_or_else(now_ms));
            if self
                .options
                .soak_s
                .is_some_and(|seconds| soaked_ms >= seconds.saturating_mul(1_000))
            {
                self.say(way);
                if let Err(failure) = self.finalize().await {
                    self.complain(failure.to_string());
                }
                continue;
            }
            self.say(way);
            let mut wish = self.wish.clone();
            let order = tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => Some(order),
                    // Control is gone without having said so.
                    None => return self.record.phase,
                },
                () = tokio::time::sleep(LOOK) => None,
                _ = wish.wait_for(|wish| *wish == super::Wish::Stop) => return self.record.phase,
            };
            if let Some(order) = order
                && matches!(self.obey(order).await, Err(Failure::Stopped))
            {
                return self.record.phase;
            }
        }
        self.record.phase
    }

    async fn obey(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Cutover => Ok(()),
            Order::Rehearse(answer) => {
                let _unheard = answer.send(Err("the shard has moved already".to_owned()));
                Ok(())
            }
            Order::Finalize(answer) => {
                let done = self.finalize().await;
                let _unheard = answer.send(done.as_ref().copied().map_err(ToString::to_string));
                done
            }
            Order::Rollback(accept_loss, answer) => {
                let mut may = self.may_roll_back(accept_loss).await;
                if may.is_ok() {
                    self.record.error = None;
                    may = self.note_rollback(true).await;
                }
                let refused = may.is_err();
                if !refused {
                    self.rolling_back(true);
                }
                let _unheard = answer.send(may);
                if refused {
                    return Ok(());
                }
                let done = self.roll_back(accept_loss).await;
                match &done {
                    // Done, and said so; or a restart finds that it was accepted.
                    Ok(()) | Err(Failure::Stopped) => {}
                    Err(failure) => {
                        self.complain(format!("rollback: {failure}"));
                        if let Err(error) = self.note_rollback(false).await {
                            self.complain(error);
                        }
                    }
                }
                self.rolling_back(false);
                done
            }
        }
    }

    /// On disk before it is promised.
    async fn note_rollback(&mut self, accepted: bool) -> Result<(), String> {
        self.record.rollback_accepted = accepted;
        self.save().await.map_err(|failure| failure.to_string())
    }

    fn rolling_back(&self, is: bool) {
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.rolling_back = is;
            });
    }

    fn say(&self, way: WayBack) {
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.way_back = Some(way);
            });
    }

    /// Looks at everything that soak is about.
    async fn look(
        &mut self,
        budget: &mut Budget,
        target_run_id: Option<&str>,
        alarm: Option<String>,
    ) -> WayBack {
        if self.world.guards.seen(&self.record.source).await.is_none() {
            let _again_at_the_next_look = self.reopen_guard().await;
        }
        let route = (self.world.journal)
            .route(&self.record.pool, &self.record.shard)
            .await;
        if let Ok(Some(route)) = route {
            super::bring_lost_proxies_home(&self.world, &route).await;
        }
        let mut way = self.way_back().await;
        let stats = self
            .world
            .proxies
            .stats(&self.record.pool, &self.record.shard)
            .await;
        let p99 = (self.record.p99_before_us.unwrap_or(0), stats.latency_p99_us);
        let mut warnings = budget.look(Instant::now(), stats.commands, stats.errors, p99);
        warnings.extend(alarm);
        let source = self.world.servers.standing(&self.record.source).await;
        let target = self.world.servers.standing(&self.record.target).await;
        match &source {
            Ok(source) if source.role == Role::Primary => {
                warnings.push(
                    "the source was restarted and is a primary: it is fenced again".to_owned(),
                );
                way = WayBack::Gone("the source was restarted as a primary".to_owned());
                if let Some(guard) = self.record.guard.clone() {
                    let fence = crate::effect::Effect::Fence {
                        server: self.record.source.clone(),
                        guard,
                    };
                    if let Err(error) = self.perform(fence).await {
                        warnings.push(format!("the fence failed: {error}"));
                    }
                }
            }
            Ok(source) => {
                let lag = target
                    .as_ref()
                    .map_or(0, |target| target.offset.saturating_sub(source.offset));
                self.board
                    .update(&self.record.pool, &self.record.shard, |live| {
                        live.lag_bytes = Some(lag);
                    });
            }
            Err(error) => {
                warnings.push(format!("the source does not answer: {error}"));
                way = WayBack::Unknown("the source does not answer".to_owned());
            }
        }
        match &target {
            Ok(target) => {
                // Often both: it came back as what its file says.
                if target.role.is_replica() {
                    warnings.push(format!(
                        "the target is a replica and refuses writes: redis-cli -u {} REPLICAOF NO ONE",
                        self.record.target
                    ));
                }
                if target_run_id.is_some_and(|run_id| run_id != target.run_id) {
                    warnings.push(self.what_a_restart_lost().await);
                }
            }
            Err(error) => {
                warnings.push(format!("the target does not answer: {error}"));
                // What was found before it went away holds when it comes back, or does not: it is asked then.
                if !matches!(&source, Ok(source) if source.role == Role::Primary) {
                    way = WayBack::Unknown("the target does not answer".to_owned());
                }
            }
        }
        if source.is_ok() && target.is_ok() {
            let (from, to) = (&self.record.source, &self.record.target);
            warnings.extend(self.watched_by_sentinel(from, to).await);
        }
        self.warn(warnings);
        self.keep_foreign().await;
        way
    }

    /// A target that was restarted serves what it loaded. The old server, which followed it until then, says how much that was.
    async fn what_a_restart_lost(&self) -> String {
        let (source, target) = tokio::join!(
            self.world.servers.observe(&self.record.source),
            self.world.servers.observe(&self.record.target)
        );
        match (source, target) {
            (Ok(source), Ok(target)) if has_lost_most(source.keys_total(), target.keys_total()) => {
                format!(
                    "the target was restarted without most of its keys, and clients are served from what is left: stop it at once ({}), \
                     give it back its RDB or append-only file and start it again; the old server, {}, is fenced and has everything up to the restart",
                    format_args!("redis-cli -u {} SHUTDOWN NOSAVE", self.record.target),
                    self.record.source
                )
            }
            _ => "the target was restarted: check what it lost".to_owned(),
        }
    }

    /// What the source could not execute outlives a restart of control.
    async fn keep_foreign(&mut self) {
        let Some(seen) = self.world.guards.seen(&self.record.source).await else {
            return;
        };
        let known = self
            .record
            .foreign
            .as_ref()
            .map_or(0, |foreign| foreign.count);
        if seen.foreign.count == known {
            return;
        }
        self.record.foreign = Some(seen.foreign);
        if let Err(failure) = self.save().await {
            self.complain(failure.to_string());
        }
    }

    /// Shows the warnings of now, and logs those that are new.
    fn warn(&self, warnings: Vec<String>) {
        let known = self
            .board
            .shard(&self.record.pool, &self.record.shard)
            .map(|live| live.warnings)
            .unwrap_or_default();
        for warning in warnings.iter().filter(|warning| !known.contains(warning)) {
            tracing::warn!(pool = %self.record.pool, shard = %self.record.shard, %warning, "soak");
        }
        self.board
            .update(&self.record.pool, &self.record.shard, |live| {
                live.warnings = warnings;
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_loaded_nothing_is_told_from_one_that_lost_a_few_keys() {
        for (source, target, lost) in [
            (0, 0, false),
            (1, 0, true),
            (1, 1, false),
            (100, 50, false),
            (100, 49, true),
            (100, 200, false),
        ] {
            assert_eq!(has_lost_most(source, target), lost, "{source} {target}");
        }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn errors_over_a_thousandth_for_ten_seconds_are_named() {
        let start = Instant::now();
        let mut budget = Budget::default();
        assert!(budget.look(start, 0, 0, (0, 0)).is_empty());
        assert!(
            budget.look(at(start, 5), 1_000, 5, (0, 0)).is_empty(),
            "too early to say"
        );
        assert_eq!(
            budget.look(at(start, 10), 2_000, 10, (0, 0)),
            ["10 of 2000 commands failed in the last 10 s"]
        );
    }

    #[test]
    fn errors_long_ago_are_forgotten() {
        let start = Instant::now();
        let mut budget = Budget::default();
        budget.look(start, 0, 0, (0, 0));
        budget.look(at(start, 1), 1_000, 50, (0, 0));
        budget.look(at(start, 11), 5_000, 50, (0, 0));
        assert!(budget.look(at(start, 22), 9_000, 50, (0, 0)).is_empty());
    }

    #[test]
    fn a_p99_over_twice_that_of_before_is_named() {
        let mut budget = Budget::default();
        assert!(budget.look(Instant::now(), 1, 0, (100, 200)).is_empty());
        assert_eq!(budget.look(Instant::now(), 1, 0, (100, 201)).len(), 1);
        assert!(
            budget.look(Instant::now(), 1, 0, (0, 999)).is_empty(),
            "nothing to compare with"
        );
    }
}
