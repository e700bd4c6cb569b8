//! New route tables over live sessions.

use super::*;
use crate::worker::GatePosition;

#[test]
fn shards_that_stay_keep_their_gates_wherever_they_move_in_the_table() {
    let before = table(vec![
        pool("gone", &["x"], Vec::new()),
        pool("main", &["s0", "s1"], Vec::new()),
    ]);
    let mut bench = Bench::over(WorkerSettings::default(), before);
    let stays = bench
        .worker
        .open_session(PoolIndex(1), String::new(), Tick(0))
        .unwrap();
    let hold = |pool: u16, shard: u16| Order::Hold {
        pool: PoolIndex(pool),
        shard: ShardIndex(shard),
        epoch: 1,
        term: 3,
        lease: Duration::from_secs(1),
    };
    bench.order(hold(1, 1));
    bench.say_as(stays, &format!("GET {K1}"));
    bench.order(Order::Routes(table(vec![
        pool("main", &["s1"], Vec::new()),
        pool("new", &["y"], Vec::new()),
    ])));
    assert_eq!(bench.closed, [(bench.client, CloseReason::PoolRemoved)]);
    let Some(Ack::Gate(status)) = bench.order(Order::Gate {
        pool: POOL,
        shard: S0,
    }) else {
        panic!("no gate")
    };
    assert_eq!(
        (status.state, status.term, status.held_sessions),
        (GatePosition::Held, 3, 1)
    );
    assert!(bench.dials.is_empty());
    bench.release(S0, 1, 3);
    assert_eq!(
        bench.dials.last().map(|dial| dial.backend.url.as_str()),
        Some("redis://s1.1")
    );
}

#[test]
fn a_switched_epoch_is_not_taken_back_by_a_table_that_does_not_know_it() {
    let mut bench = Bench::new(1);
    bench.hold(S0, 1);
    bench.prepare(S0, 1);
    bench.switch(S0, 1);
    bench.release(S0, 2, 1);
    bench.order(Order::Routes(table(vec![pool(
        "main",
        &["s0"],
        Vec::new(),
    )])));
    bench.say("GET a");
    assert_eq!(
        bench
            .dials
            .last()
            .map(|dial| (dial.backend.epoch, dial.backend.url.as_str())),
        Some((2, "redis://new"))
    );
}

#[test]
fn a_corrected_address_is_used_after_what_is_in_flight() {
    let mut bench = Bench::new(1);
    bench.say("GET a");
    let lane = bench.open();
    bench.written(lane);
    let mut moved = pool("main", &["s0"], Vec::new());
    moved.shards[0].backend_url = "redis://corrected".into();
    bench.order(Order::Routes(table(vec![moved])));
    bench.say("GET b");
    assert!(bench.dials.is_empty());
    bench.reply(lane, "$-1\r\n");
    assert_eq!(
        bench.dials.last().map(|dial| dial.backend.url.as_str()),
        Some("redis://corrected")
    );
    assert_eq!(bench.closed_lanes, [lane]);
}

#[test]
fn commands_of_a_removed_shard_are_answered_and_never_sent_elsewhere() {
    let mut bench = Bench::new(2);
    bench.say(&format!("INCR {K0}\nINCR {K1}\nGET {K1}"));
    let (second, first) = (bench.open(), bench.open());
    bench.written(first);
    bench.written(second);
    bench.order(Order::Routes(table(vec![pool(
        "main",
        &["s0"],
        Vec::new(),
    )])));
    assert_eq!(bench.closed_lanes, [second]);
    bench.reply(first, ":1\r\n");
    let reply = bench.hear();
    assert!(
        reply.starts_with(":1\r\n-ERR outcome unknown")
            && reply.contains("-ERR not executed: this shard is no longer configured"),
        "{reply}"
    );
    assert_eq!(bench.written(first), "");
}

#[test]
fn a_thousand_reloads_disturb_nobody() {
    let mut bench = Bench::new(2);
    for round in 0..1_000 {
        bench.say(&format!("SET {K0} {round}\nGET {K1}"));
        while !bench.dials.is_empty() {
            bench.open();
        }
        bench.order(Order::Routes(table(vec![pool(
            "main",
            &["s0", "s1"],
            Vec::new(),
        )])));
        for (index, generation) in bench
            .worker
            .lanes
            .iter()
            .map(|(index, generation, _)| (index, generation))
            .collect::<Vec<_>>()
        {
            let lane = LaneId { index, generation };
            bench.written(lane);
            bench.reply(lane, "+OK\r\n");
        }
        assert_eq!(bench.hear(), "+OK\r\n+OK\r\n");
    }
    assert!(bench.closed.is_empty() && bench.closed_lanes.is_empty());
}
