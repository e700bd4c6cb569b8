//! Which series there are, and what they add up.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::families::{Families, Labels};
use crate::backends::HealthState;
use crate::shared::Known;
use crate::worker::{CloseReason, Counters, Histogram, LatencyClass, ShardCounters};

type Whole = (&'static str, &'static str, fn(&Counters) -> u64);
type Counted = fn(&ShardCounters) -> u64;
type OfShard = (&'static str, &'static str, Counted);

/// Counters without labels, summed over the workers.
const WHOLE: [Whole; 22] = [
    (
        "understudy_sessions_opened_total",
        "Client sessions opened.",
        |it| it.sessions_opened,
    ),
    (
        "understudy_sessions_refused_total",
        "Client sessions refused at a limit.",
        |it| it.sessions_refused,
    ),
    (
        "understudy_commands_local_total",
        "Commands answered by the proxy itself.",
        |it| it.commands_local,
    ),
    (
        "understudy_commands_refused_total",
        "Commands refused by name, arity or keys.",
        |it| it.commands_refused,
    ),
    (
        "understudy_commands_split_total",
        "Commands split, or sent to all shards.",
        |it| it.commands_split,
    ),
    (
        "understudy_commands_resent_total",
        "Commands sent again, since they were not executed.",
        |it| it.commands_resent,
    ),
    (
        "understudy_commands_unknown_total",
        "Commands answered with an unknown outcome.",
        |it| it.outcomes_unknown,
    ),
    (
        "understudy_scripts_healed_total",
        "EVALSHA that became EVAL after NOSCRIPT.",
        |it| it.scripts_healed,
    ),
    (
        "understudy_commands_streamed_total",
        "Huge commands that went to their server in pieces.",
        |it| it.commands_streamed,
    ),
    (
        "understudy_replies_streamed_total",
        "Huge replies that went to their client in pieces.",
        |it| it.replies_streamed,
    ),
    (
        "understudy_lanes_set_aside_total",
        "Lanes that took no more commands because of a huge reply or a slow client.",
        |it| it.lanes_set_aside,
    ),
    (
        "understudy_commands_blocking_total",
        "Commands that may block, taken.",
        |it| it.commands_blocking,
    ),
    (
        "understudy_commands_parked_total",
        "Blocked commands taken back from a server for a hold, to be sent again.",
        |it| it.commands_parked,
    ),
    (
        "understudy_blocked_abandoned_total",
        "Blocked commands whose client left meanwhile: the most that can have been popped for nobody.",
        |it| it.blocked_abandoned,
    ),
    (
        "understudy_unblocks_refused_total",
        "CLIENT UNBLOCK that a server refused: a hold waits until the command ends.",
        |it| it.unblocks_refused,
    ),
    (
        "understudy_replies_swallowed_total",
        "Replies to sessions that were gone.",
        |it| it.replies_swallowed,
    ),
    (
        "understudy_backend_writes_total",
        "Writes to backends: commands per write is how well lanes batch.",
        |it| it.backend_writes,
    ),
    ("understudy_lanes_dialled_total", "Lanes dialled.", |it| {
        it.lanes_dialled
    }),
    ("understudy_lanes_opened_total", "Lanes opened.", |it| {
        it.lanes_opened
    }),
    (
        "understudy_lanes_closed_total",
        "Lanes closed or lost.",
        |it| it.lanes_closed,
    ),
    (
        "understudy_dials_failed_total",
        "Dials that failed.",
        |it| it.dials_failed,
    ),
    (
        "understudy_commands_sent_total",
        "Commands sent to backends.",
        |it| it.shards.iter().map(|shard| shard.commands).sum(),
    ),
];

/// Counters with the labels pool and shard, summed over the workers.
const COUNTED: [OfShard; 5] = [
    (
        "understudy_shard_commands_total",
        "Commands sent to the shard's backends.",
        |it| it.commands,
    ),
    (
        "understudy_shard_errors_total",
        "Error replies about the shard.",
        |it| it.errors,
    ),
    (
        "understudy_holds_total",
        "Holds begun, by each worker.",
        |it| it.holds,
    ),
    (
        "understudy_commands_not_executed_total",
        "Commands that a prepared gate kept too long.",
        |it| it.not_executed,
    ),
    (
        "understudy_leases_lapsed_total",
        "Times that a shard stopped serving until control answered, by each worker.",
        |it| it.leases_lapsed,
    ),
];

/// Holds that ended by themselves, by what ended them.
const LAPSED: [(&str, Counted); 3] = [
    ("lease", |it| it.holds_lapsed),
    ("sessions", |it| it.holds_over_sessions),
    ("bytes", |it| it.holds_over_bytes),
];

/// All families of the proxy: what is counted as a whole, by worker, and by shard.
pub(super) fn series(
    out: &mut Families,
    known: &Known,
    counters: &[(u16, Counters)],
    sessions: &[usize],
) {
    whole(out, counters);
    let panics = known.panics.load(Ordering::Relaxed);
    out.counter(
        "understudy_worker_panics_total",
        "Workers rebuilt after a panic.",
        &[],
        panics,
    );
    for (worker, sessions) in sessions.iter().enumerate() {
        let labels = [("worker", worker.to_string())];
        out.gauge(
            "understudy_worker_sessions",
            "Sessions of a worker now.",
            &labels,
            *sessions as f64,
        );
    }
    shards(out, known, counters);
}

fn whole(out: &mut Families, counters: &[(u16, Counters)]) {
    let sum = |field: fn(&Counters) -> u64| {
        counters
            .iter()
            .map(|(_, counters)| field(counters))
            .sum::<u64>()
    };
    for (name, help, field) in WHOLE {
        out.counter(name, help, &[], sum(field));
    }
    for (at, reason) in CloseReason::ALL.into_iter().enumerate() {
        let closed = counters
            .iter()
            .map(|(_, counters)| counters.sessions_closed[at])
            .sum();
        let labels = [("reason", reason.name().to_owned())];
        out.counter(
            "understudy_sessions_closed_total",
            "Client sessions closed, by reason.",
            &labels,
            closed,
        );
    }
    let direction = |word: &str| [("direction", word.to_owned())];
    let (name, help) = (
        "understudy_client_bytes_total",
        "Bytes from and to clients.",
    );
    out.counter(name, help, &direction("in"), sum(|it| it.client_bytes_in));
    out.counter(name, help, &direction("out"), sum(|it| it.client_bytes_out));
    let (name, help) = (
        "understudy_backend_bytes_total",
        "Bytes from and to backends.",
    );
    out.counter(name, help, &direction("in"), sum(|it| it.backend_bytes_in));
    out.counter(
        name,
        help,
        &direction("out"),
        sum(|it| it.backend_bytes_out),
    );
}

fn shards(out: &mut Families, known: &Known, counters: &[(u16, Counters)]) {
    let mut workers: HashMap<(u16, u16), Vec<&ShardCounters>> = HashMap::new();
    for shard in counters.iter().flat_map(|(_, counters)| &counters.shards) {
        workers
            .entry((shard.pool.0, shard.shard.0))
            .or_default()
            .push(shard);
    }
    let routes = known.routes.load();
    for (pool_at, pool) in (0_u16..).zip(&routes.pools) {
        for (shard_at, shard) in (0_u16..).zip(&pool.shards) {
            let labels = [("pool", pool.name.clone()), ("shard", shard.name.clone())];
            let health = known.backends.health(&shard.backend_url);
            let up = health.is_some_and(|health| health.state == HealthState::Up);
            let help = "Whether the shard's backend answered when last asked.";
            out.gauge(
                "understudy_backend_up",
                help,
                &labels,
                f64::from(u8::from(up)),
            );
            out.gauge(
                "understudy_shard_epoch",
                "Number of the shard's route.",
                &labels,
                shard.epoch as f64,
            );
            one_shard(
                out,
                &labels,
                workers.get(&(pool_at, shard_at)).map_or(&[], Vec::as_slice),
            );
        }
    }
}

fn one_shard(out: &mut Families, labels: Labels<'_>, workers: &[&ShardCounters]) {
    let sum =
        |field: fn(&ShardCounters) -> u64| workers.iter().map(|worker| field(worker)).sum::<u64>();
    let with = |name: &'static str, value: &str| [labels, &[(name, value.to_owned())]].concat();
    for (name, help, field) in COUNTED {
        out.counter(name, help, labels, sum(field));
    }
    for (reason, field) in LAPSED {
        let help = "Holds that ended by themselves, by what ended them.";
        out.counter(
            "understudy_holds_lapsed_total",
            help,
            &with("reason", reason),
            sum(field),
        );
    }
    let in_flight = sum(|it| it.in_flight_now) as f64;
    out.gauge(
        "understudy_commands_in_flight",
        "Commands in flight now.",
        labels,
        in_flight,
    );
    let held = sum(|it| it.held_sessions_now) as f64;
    out.gauge(
        "understudy_held_sessions",
        "Sessions that wait for the gate now.",
        labels,
        held,
    );
    let gap = workers
        .iter()
        .map(|worker| worker.longest_gap_us)
        .max()
        .unwrap_or_default();
    let help = "Longest wait of a command since the last hold.";
    out.gauge(
        "understudy_longest_gap_seconds",
        help,
        labels,
        gap as f64 / 1e6,
    );
    for (at, class) in LatencyClass::ALL.into_iter().enumerate() {
        let mut latency = Histogram::default();
        workers
            .iter()
            .for_each(|worker| latency.add(&worker.latency[at]));
        let help = "From a command's arrival to its reply.";
        out.histogram(
            "understudy_command_seconds",
            help,
            &with("class", class.name()),
            &latency,
        );
    }
}
