//! One lane's task: dial, greet, read replies until the connection ends.
//!
//! When to dial, when to dial again and what becomes of the commands is the core's business; here is only the connection.

use std::rc::Rc;

use understudy_net::{Greeting, RoleCheck, dial_known};

use super::shell::{Lane, Shell};
use super::wire::{Event, Wire};
use crate::backends::{HealthState, words_for_clients};
use crate::worker::{Dial, LaneLoss, Took};

pub(super) async fn run(shell: Rc<Shell>, wanted: Dial) {
    let connected = connect(&shell, &wanted).await;
    if !shell.dialling.borrow_mut().remove(&wanted.lane) {
        return; // Nobody wants it any more, and its id is dead.
    }
    let loss = match connected {
        Err(why) => LaneLoss::ConnectFailed(why),
        Ok((wire, server_id)) => {
            let lane = shell.lane(wanted.lane, wire);
            shell
                .core
                .borrow_mut()
                .lane_opened(wanted.lane, server_id, shell.now());
            shell.settle();
            let why = converse(&shell, &lane).await;
            if shell.lanes.borrow_mut().take(wanted.lane).is_none() {
                return; // The core closed it.
            }
            LaneLoss::Closed(why)
        }
    };
    shell
        .core
        .borrow_mut()
        .lane_lost(wanted.lane, loss, shell.now());
    shell.settle();
}

/// A greeted connection, or why not in words that a client may read.
async fn connect(shell: &Shell, wanted: &Dial) -> Result<(Wire, Option<u64>), String> {
    let (pool, shard) =
        names(shell, wanted).ok_or_else(|| "its shard is not configured".to_owned())?;
    let backends = &shell.shared.backends;
    let access = backends.access(&pool, &shard, &wanted.backend.url)?;
    let greeting = Greeting {
        protocol: wanted.protocol,
        db: if wanted.db == 0 {
            access.endpoint.db()
        } else {
            wanted.db
        },
        name: Some(backends.client_name().to_owned()),
        // A fenced source is a replica: its reads would be stale and its writes refused.
        role: RoleCheck::NotReplica,
        client_id: wanted.own,
    };
    match dial_known(&access.endpoint, &greeting, access.connect_timeout).await {
        Ok((socket, server_id)) => {
            backends.seen(&pool, &shard, &wanted.backend.url, HealthState::Up);
            Ok((Wire::new(socket), server_id))
        }
        Err(error) => {
            backends.seen(
                &pool,
                &shard,
                &wanted.backend.url,
                HealthState::Down(error.to_string()),
            );
            Err(words_for_clients(&error))
        }
    }
}

/// Names of the pool and shard, by the table that the core has: a newer one may have other places.
fn names(shell: &Shell, wanted: &Dial) -> Option<(String, String)> {
    let routes = shell.routes.borrow();
    let (pool, shard) = wanted.backend.shard;
    let pool = routes.pool(pool)?;
    let shard = pool.shards.get(usize::from(shard.0))?;
    Some((pool.name.clone(), shard.name.clone()))
}

/// Moves bytes until the connection ends; answers why.
async fn converse(shell: &Rc<Shell>, lane: &Rc<Lane>) -> String {
    // What it has to write is queued already, in the core's order: clients that block are served in the order of their lanes.
    loop {
        match lane.wire.event().await {
            Event::Ended => return "we closed it".to_owned(),
            Event::Writable => {
                shell.write_lane(lane);
                shell.settle();
            }
            Event::Readable => {
                shell.end_leases(shell.now());
                let mut scratch = shell.scratch.borrow_mut();
                match lane.wire.read(&mut scratch) {
                    Ok(None) => continue,
                    Ok(Some(0)) => return "the server closed the connection".to_owned(),
                    Ok(Some(taken)) => {
                        let (bytes, now) = (&scratch[..taken], shell.now());
                        let took = shell.core.borrow_mut().backend_bytes(lane.id, bytes, now);
                        match took {
                            Took::Continue => {}
                            Took::Pause => lane.wire.pause(),
                        }
                    }
                    Err(cause) => return cause.kind().to_string(),
                }
                drop(scratch);
                shell.settle();
            }
        }
    }
}
