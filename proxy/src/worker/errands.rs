//! Takes in the commands that need a lane of their session's own: what blocks, WATCH, and EXEC behind it. What is huge: `bulk`.
//!
//! Each waits until all replies before it are in, and the session stops behind it until it is answered.

use understudy_resp::args::{Args, FrameArgs};
use understudy_resp::command::{self, CommandSpec};
use understudy_resp::encode;

use super::admit::{Admitted, Command, Pass, latency_class, no_keys};
use super::counters::LatencyClass;
use super::ids::SessionId;
use super::lane::LaneState;
use super::patience::{Patience, last_ids};
use super::pinned::{Block, Errand, Kind, Place};
use super::run::Run;
use super::session::Stop;
use super::{Worker, texts};
use crate::route::ShardIndex;

/// What a half-closed client's command that would block waits at most: Redis serves what is there, and then closes.
const HALF_CLOSED_PATIENCE: std::time::Duration = std::time::Duration::from_millis(1);

impl Worker {
    /// A command that may block.
    pub(super) fn block(
        &mut self,
        pass: &mut Pass<'_>,
        spec: &'static CommandSpec,
        it: Command<'_>,
    ) -> Admitted {
        self.flush(pass);
        let shard = match self.shard_of_keys(pass, spec, it.args) {
            Ok(Some(shard)) => shard,
            Ok(None) if pass.shards == 1 => ShardIndex(0),
            Ok(None) => return self.refuse(pass, &no_keys(spec)),
            Err(text) => return self.refuse(pass, &text),
        };
        match self.may_begin(pass, shard) {
            Begin::Drained => {}
            Begin::Stop(stop) => return Admitted::Stop(stop),
            Begin::Expired => return self.answer_held(pass, shard),
        }
        let mut words = words(it.args);
        let patience = Patience::of(spec.name, &words);
        let mut deadline = patience.and_then(|it| Some(pass.now.after(it.time?)));
        let half_closed = self.session(pass.id).is_some_and(|it| it.read_closed);
        if half_closed && let Some(patience) = patience {
            deadline = Some(pass.now.after(HALF_CLOSED_PATIENCE));
            patience.write(&mut words, HALF_CLOSED_PATIENCE);
        }
        // Without a timeout that a server would take, it answers at once what is wrong.
        let unresolved = if spec.name == "xread" && patience.is_some() {
            last_ids(&words)
        } else {
            Vec::new()
        };
        let mut keys = std::mem::take(&mut self.keys);
        let key = match command::keys(spec, it.args, &mut keys) {
            Ok(()) => keys.first().copied().unwrap_or(1),
            Err(_) => 1,
        };
        self.keys = keys;
        self.counters.commands_blocking += 1;
        let kind = Kind::Block(Block {
            words,
            key,
            patience,
            deadline,
            unresolved,
            asked: false,
        });
        self.take_errand(
            pass,
            kind,
            shard,
            latency_class(spec),
            command::is_readonly(spec),
        )
    }

    /// WATCH: keys of one shard, as a transaction's.
    pub(super) fn watch(
        &mut self,
        pass: &mut Pass<'_>,
        spec: &'static CommandSpec,
        it: Command<'_>,
    ) -> Admitted {
        self.flush(pass);
        let shard = match self.shard_of_keys(pass, spec, it.args) {
            Ok(Some(shard)) => shard,
            Ok(None) => return self.refuse(pass, &no_keys(spec)),
            Err(text) => return self.refuse(pass, &text),
        };
        if let Some(watch) = self.pinned_mut(pass.id).and_then(|it| it.watch) {
            if watch.shard != shard {
                return self.refuse(pass, &texts::crossslot());
            }
            if watch.broken {
                // EXEC will answer null, whatever else is watched.
                return self.answer(pass, b"+OK\r\n");
            }
        }
        match self.may_begin(pass, shard) {
            Begin::Drained => {}
            Begin::Stop(stop) => return Admitted::Stop(stop),
            Begin::Expired => return self.answer_held(pass, shard),
        }
        if !self.gate_is_open(pass.pool, shard) {
            return Admitted::Stop(Stop::Gate(shard));
        }
        let kind = Kind::Watch(words(it.args));
        self.take_errand(pass, kind, shard, LatencyClass::Transaction, true)
    }

    /// EXEC of a session that watches keys: null if what it watched may have changed unseen, otherwise the server decides.
    pub(super) fn exec_watched(&mut self, pass: &mut Pass<'_>) -> Option<Admitted> {
        let watch = self.pinned_mut(pass.id)?.watch?;
        self.flush(pass);
        let session = self.session(pass.id)?;
        if !session.runs.is_empty() {
            return Some(Admitted::Stop(Stop::Drain));
        }
        let shard = self
            .pools
            .get(usize::from(pass.pool.0))?
            .shards
            .get(usize::from(watch.shard.0));
        let stands = !watch.broken
            && shard.is_some_and(|shard| {
                self.lanes
                    .find(watch.lane.index, watch.lane.generation)
                    .is_some_and(|lane| {
                        lane.state == LaneState::Open
                            && lane.address == shard.address
                            && lane.key.epoch == shard.gate.epoch
                    })
            });
        if !stands {
            self.session(pass.id)?.transaction = None;
            self.end_watch(pass.id, pass.now);
            let mut null = Vec::new();
            encode::null_array(&mut null, self.session(pass.id)?.protocol);
            return Some(self.answer(pass, &null));
        }
        match self.may_begin(pass, watch.shard) {
            Begin::Drained => {}
            Begin::Stop(stop) => return Some(Admitted::Stop(stop)),
            Begin::Expired => {
                self.session(pass.id)?.transaction = None;
                self.end_watch(pass.id, pass.now);
                return Some(self.answer_held(pass, watch.shard));
            }
        }
        if !self.gate_is_open(pass.pool, watch.shard) {
            return Some(Admitted::Stop(Stop::Gate(watch.shard)));
        }
        let (unit, replies) = self.session(pass.id)?.transaction.take()?.unit();
        let kind = Kind::Exec { unit, replies };
        Some(self.take_errand(pass, kind, watch.shard, LatencyClass::Transaction, false))
    }

    pub(super) fn may_begin(&mut self, pass: &Pass<'_>, shard: ShardIndex) -> Begin {
        let expired = self
            .shard_mut(pass.pool, shard)
            .is_none_or(|shard| shard.gate.expired);
        let stamp = self.stamp;
        let Some(session) = self.session(pass.id) else {
            return Begin::Expired;
        };
        if !session.runs.is_empty() {
            return Begin::Stop(Stop::Drain);
        }
        session.stamp = stamp;
        if expired {
            Begin::Expired
        } else {
            Begin::Drained
        }
    }

    /// Queues the errand's run, then begins it.
    pub(super) fn take_errand(
        &mut self,
        pass: &Pass<'_>,
        kind: Kind,
        shard: ShardIndex,
        class: LatencyClass,
        reads: bool,
    ) -> Admitted {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let Some(session) = self.session(pass.id) else {
            return Admitted::Next;
        };
        let run = session.push(Run::lane(1));
        let pinned = session.pinned.get_or_insert_default();
        debug_assert!(pinned.errand.is_none(), "one errand at a time");
        pinned.errand = Some(Errand {
            kind,
            shard,
            run,
            place: Place::Room,
            arrival,
            began: pass.now,
            since: pass.since,
            class,
            reads,
            retry_until: None,
            attempts: 0,
            unblocking: false,
        });
        self.begin_errand(pass.id, pass.now);
        Admitted::Errand
    }

    /// A client that half-closed while it is blocked has gone, as far as Redis can tell, and so can we: nothing is popped for it.
    pub(super) fn half_closed(&mut self, id: SessionId) {
        let blocked = self
            .pinned_mut(id)
            .and_then(|it| it.errand.as_ref())
            .is_some_and(Errand::blocks);
        if !blocked {
            return;
        }
        self.abandon(id);
        let Some(session) = self.session(id) else {
            return;
        };
        session.head += session.runs.len() as u64;
        session.runs.clear();
        session.waiting = 0;
        session.stop = Stop::No;
        session.closing = Some(super::CloseReason::Client);
    }
}

/// Whether an errand may begin.
pub(super) enum Begin {
    Drained,
    Stop(Stop),
    Expired,
}

fn words(args: FrameArgs<'_>) -> Vec<Vec<u8>> {
    (0..args.count())
        .map(|at| args.slice(at).to_vec())
        .collect()
}
