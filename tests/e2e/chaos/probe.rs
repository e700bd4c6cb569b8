//! Writes to both servers of a shard past every proxy, and proves from their answers whether both took writes at once.
//!
//! A server that stops being a primary and becomes one again has a new replication id. So two acknowledgements under one
//! id mean that it was a primary all the while between them; one of the other server in that while is a second primary.
//! No time is measured: it needs only that something was answered before something else was sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use understudy_lab::Server;
use understudy_lab::wire::{Address, Reply, Wire};

use crate::probe::{WRITE_MAX, Writer, keep_writing};

/// While a server was a primary under one replication id: from the first acknowledgement to the last.
#[derive(Clone, Debug)]
struct Reign {
    id: String,
    /// When each write was sent, and when its reply came; only the first and the last count.
    first: (Instant, Instant),
    last: (Instant, Instant),
}

/// Ids under which a server takes writes without being a server of the shard: an empty target before it follows.
pub(crate) type Outside = Arc<Mutex<BTreeSet<String>>>;

/// Two writers, one for each server of a shard.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    outside: Outside,
    tasks: [JoinHandle<Vec<Reign>>; 2],
}

impl Probe {
    pub(crate) async fn start(source: &Server, target: &Server) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let outside = BTreeSet::from([replication_id(target).await]);
        Probe {
            tasks: [source, target]
                .map(|server| tokio::spawn(reigns(server.address(), Arc::clone(&stop)))),
            outside: Arc::new(Mutex::new(outside)),
            stop,
        }
    }

    pub(crate) fn outside(&self) -> Outside {
        Arc::clone(&self.outside)
    }

    /// Ends the probe; a line for each time at which both servers took writes.
    pub(crate) async fn findings(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let [source, target] = self.tasks;
        let (source, target) = (source.await.unwrap(), target.await.unwrap());
        let outside = self.outside.lock().await;
        let mut found = Vec::new();
        for one in source.iter().filter(|reign| !outside.contains(&reign.id)) {
            for other in target.iter().filter(|reign| !outside.contains(&reign.id)) {
                if both(one, other) || both(other, one) {
                    found.push(format!(
                        "two servers took writes at once: the source as {} for {:?}, the target as {} for {:?}",
                        one.id,
                        one.last.1 - one.first.0,
                        other.id,
                        other.last.1 - other.first.0
                    ));
                }
            }
        }
        found
    }
}

/// Whether `one` reigned before and behind a moment at which `other` took a write.
fn both(one: &Reign, other: &Reign) -> bool {
    [other.first, other.last]
        .iter()
        .any(|(sent, answered)| one.first.1 < *sent && *answered < one.last.0)
}

/// The id of a server's history as it is now.
pub(crate) async fn replication_id(server: &Server) -> String {
    let id = server.info("master_replid").await.ok().flatten();
    id.unwrap_or_default()
}

#[derive(Default)]
struct Reigns(Vec<Reign>);

impl Writer for Reigns {
    async fn write(&mut self, wire: &mut Wire) -> bool {
        let sent = Instant::now();
        let reply = exchange(wire).await;
        if let Some(Reply::Array(replies)) = reply {
            if let Some(id) = id_of(replies) {
                note(&mut self.0, id, (sent, Instant::now()));
            }
            return true;
        }
        reply.is_some()
    }
}

async fn reigns(address: Address, stop: Arc<AtomicBool>) -> Vec<Reign> {
    keep_writing(address, stop, Reigns::default()).await.0
}

fn note(reigns: &mut Vec<Reign>, id: String, write: (Instant, Instant)) {
    match reigns.iter_mut().find(|reign| reign.id == id) {
        Some(reign) => reign.last = write,
        None => reigns.push(Reign {
            id,
            first: write,
            last: write,
        }),
    }
}

/// A write that changes nothing and is still refused by a replica, and the id under which it was taken, in one.
async fn exchange(wire: &mut Wire) -> Option<Reply> {
    let commands: [&[&str]; 4] = [
        &["MULTI"],
        &["DEL", "probe:absent"],
        &["INFO", "replication"],
        &["EXEC"],
    ];
    let replies = wire.exchange::<_, &str>(&commands, WRITE_MAX).await.ok()?;
    replies.into_iter().next_back()
}

fn id_of(replies: Vec<Reply>) -> Option<String> {
    let text = replies.into_iter().next_back()?.into_bytes()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("master_replid:"));
    id.map(|id| id.trim().to_owned())
}
