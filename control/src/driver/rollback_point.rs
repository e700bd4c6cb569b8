//! Looks, all through the soak, whether the snapshot from before the cutover is still there: it is what is left when the old
//! server and the way back are both gone.
//!
//! Nothing is decided by it and nothing is deleted for it: what is lost is said, in STATUS and once in the log. The look goes on
//! by itself, so a slow backup system keeps no order of an operator waiting.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Driver;
use super::snapshots::check;
use crate::journal::SnapshotChoice;
use crate::snapshot::ProviderError;

/// A look rests for so many times what it took, where that is longer than `control.snapshot_check_every`: reading a large
/// snapshot back must not be all that a disk does.
const REST_FACTOR: u32 = 20;

/// What a look found.
type Found = (Result<(), ProviderError>, Duration);

/// What is known about the snapshot from before the cutover.
#[derive(Debug, Default)]
pub(super) struct RollbackPoint {
    looking: Option<JoinHandle<Found>>,
    rests_until: Option<Instant>,
    alarm: Option<String>,
}

impl Drop for RollbackPoint {
    fn drop(&mut self) {
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
    }
}

impl Driver {
    /// The alarm that is true now, if there is one.
    pub(super) async fn rollback_point_alarm(
        &self,
        point: &mut RollbackPoint,
        now: Instant,
    ) -> Option<String> {
        if self.options.snapshot == SnapshotChoice::None {
            return None;
        }
        let Some(note) = self.record.snapshot_of(&self.record.source) else {
            return Some("rollback point lost: no snapshot of the source is on record".to_owned());
        };
        match point.looking.take() {
            Some(looking) if looking.is_finished() => {
                let every = self.world.config.control.snapshot_check_every;
                let (found, took) = match looking.await {
                    Ok(found) => found,
                    // It was ended, or panicked: nothing is known, and the next look tells.
                    Err(_) => (Ok(()), Duration::ZERO),
                };
                point.rests_until = Some(now + every.max(took * REST_FACTOR));
                point.alarm = found.err().map(|error| alarm(&note.id, &error));
            }
            Some(looking) => point.looking = Some(looking),
            None if point.rests_until.is_none_or(|until| until <= now) => {
                let (world, handle) = (self.world.clone(), note.handle());
                point.looking = Some(tokio::spawn(async move {
                    let begun = Instant::now();
                    (check(&world, handle).await, begun.elapsed())
                }));
            }
            None => {}
        }
        point.alarm.clone()
    }
}

fn alarm(id: &str, error: &ProviderError) -> String {
    match error.is_about_the_snapshot() {
        true => format!(
            "rollback point lost: snapshot {id}: {error}; ROLLBACK still goes by the old server while way_back says so: keep \
             that server, and take a backup of both before FINALIZE"
        ),
        false => format!("the rollback point cannot be looked at: snapshot {id}: {error}"),
    }
}
