//! Writes directly to both servers of a shard, past every proxy, and notes who acknowledged when.
//!
//! The invariant under test: at no instant do two servers accept a client's write. An empty target that does not follow the
//! source yet (or no longer, after an abort) is no second server of the shard: what it acknowledged counts from its last
//! refusal on, which is when it had become a replica. From its first acknowledgement after that, the source must be silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use understudy_lab::Server;
use understudy_lab::wire::{Address, Reply, Wire};

/// Between two writes to one server.
const EVERY: Duration = Duration::from_millis(1);
/// How long a write may hang; a paused, stopped or sleeping server holds it.
pub(crate) const WRITE_MAX: Duration = Duration::from_secs(30);

/// An acknowledged write: when it was sent, and when its reply came.
#[derive(Clone, Copy)]
struct Acknowledged {
    sent: Instant,
    answered: Instant,
}

/// Which acknowledgements of a server are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Everything,
    SinceLastRefusal,
}

/// Two writers, one for each server.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    source: JoinHandle<Vec<Acknowledged>>,
    target: JoinHandle<Vec<Acknowledged>>,
}

impl Probe {
    pub(crate) async fn start(source: &Server, target: &Server) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        Probe {
            source: tokio::spawn(acknowledged(
                source.address(),
                Arc::clone(&stop),
                Count::Everything,
            )),
            target: tokio::spawn(acknowledged(
                target.address(),
                Arc::clone(&stop),
                Count::SinceLastRefusal,
            )),
            stop,
        }
    }

    /// Ends the probe and compares both lists of acknowledgements.
    pub(crate) async fn assert_one_primary_at_a_time(self, case: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let source = self.source.await.unwrap();
        let target = self.target.await.unwrap();
        // After the target has acknowledged a write, the source must acknowledge none that was sent later.
        let Some(first) = target.first() else { return };
        let late = source
            .iter()
            .filter(|write| write.sent > first.answered)
            .count();
        assert_eq!(
            late, 0,
            "{case}: the source accepted {late} writes after the target had accepted one"
        );
    }
}

/// What one writer writes, and what it makes of the replies.
pub(crate) trait Writer: Send + 'static {
    /// Writes once. `false` says that the connection broke; it is then made anew.
    fn write(&mut self, wire: &mut Wire) -> impl Future<Output = bool> + Send;
}

/// Writes to one server again and again until it is stopped.
pub(crate) async fn keep_writing<W: Writer>(
    address: Address,
    stop: Arc<AtomicBool>,
    mut writer: W,
) -> W {
    let mut wire = None;
    while !stop.load(Ordering::Relaxed) {
        if wire.is_none() {
            wire = Wire::connect(&address, WRITE_MAX).await.ok();
        }
        if let Some(open) = &mut wire
            && !writer.write(open).await
        {
            wire = None;
        }
        tokio::time::sleep(EVERY).await;
    }
    writer
}

/// The acknowledgements of one server.
struct Acknowledgements {
    count: Count,
    list: Vec<Acknowledged>,
}

impl Writer for Acknowledgements {
    async fn write(&mut self, wire: &mut Wire) -> bool {
        let sent = Instant::now();
        // A write that changes nothing and is still refused by a replica.
        match tokio::time::timeout(WRITE_MAX, wire.call(&["DEL", "probe:absent"])).await {
            Ok(Ok(Reply::Integer(_))) => self.list.push(Acknowledged {
                sent,
                answered: Instant::now(),
            }),
            Ok(Ok(_)) if self.count == Count::SinceLastRefusal => self.list.clear(),
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return false,
        }
        true
    }
}

async fn acknowledged(address: Address, stop: Arc<AtomicBool>, count: Count) -> Vec<Acknowledged> {
    let list = Vec::new();
    let writer = Acknowledgements { count, list };
    keep_writing(address, stop, writer).await.list
}
