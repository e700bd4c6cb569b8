//! A world around the worker, played from a seed: clients, servers, a control, and bad luck.
//!
//! Nothing here is random but the seed. Each seed plays some thousand steps: clients pipeline, stall, half-close and
//! vanish; bytes are cut anywhere; lanes die, servers refuse; control holds, prepares, switches, releases and aborts, with
//! stale and repeated orders between. Checked at every step: a server executes only while its epoch is the served one and
//! no gate is prepared; no write runs twice; each command is answered once, in order, with what its own client wrote last;
//! a hold is acknowledged only when no byte of the shard is on its way. At the end everything that was acknowledged is
//! there, nothing is in flight, and nobody waits. Clients also block on queues that all share, and change keys that others
//! watch: an element is given once, nothing ends before its time, and no EXEC commits over a change it did not see. Some values are huge,
//! of which no two pieces are alike: they go in pieces, to and fro, through all of this.
//!
//! `SIM_SEED=17 cargo nextest run -p understudy-proxy sim` plays one seed.

mod client;
mod control;
mod rng;
mod server;
mod world;

use world::{Trouble, World};

const STEPS: usize = 1_500;

fn seeds() -> Vec<u64> {
    match std::env::var("SIM_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        Some(seed) => vec![seed],
        None => (0..256).collect(),
    }
}

fn play(seed: u64, trouble: Trouble) -> World {
    println!("SIM_SEED={seed} {trouble:?}"); // Shown when the test fails.
    let mut world = World::new(seed, trouble);
    for step in 0..STEPS {
        world.act(step);
    }
    world.finish();
    world
}

#[test]
fn without_trouble_no_client_sees_an_error_whatever_control_does() {
    let (mut switches, mut parked, mut committed) = (0, 0, 0);
    let mut streamed = [0; 3];
    for seed in seeds() {
        let world = play(seed, Trouble::None);
        switches += world.switches;
        for (all, more) in streamed.iter_mut().zip(world.streamed()) {
            *all += more;
        }
        let (more, others) = world.parked_and_committed();
        (parked, committed) = (parked + more, committed + others);
    }
    assert!(
        switches > 0 && parked > 0 && committed > 0,
        "too quiet: {switches} switches, {parked} parked, {committed} committed"
    );
    assert!(
        streamed.iter().all(|times| *times > 0),
        "nothing was huge: {streamed:?}"
    );
}

#[test]
fn lanes_die_and_servers_refuse_and_nothing_is_lost_doubled_or_reordered() {
    let (mut resent, mut unknown) = (0, 0);
    for seed in seeds() {
        let world = play(seed, Trouble::LanesAndServers);
        resent += world.resent();
        unknown += world.unknown();
    }
    assert!(
        resent > 0 && unknown > 0,
        "the world was too kind: {resent} resent, {unknown} unknown"
    );
}

#[test]
fn the_same_seed_plays_the_same_trace() {
    for seed in seeds().into_iter().take(8) {
        let [first, second] = [(); 2].map(|()| play(seed, Trouble::LanesAndServers).trace);
        assert_eq!(first, second, "seed {seed}");
    }
}
