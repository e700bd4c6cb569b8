//! Load: many connections to a proxy (or a server), each with keys of its own, every reply checked as it comes.
//!
//! Connections send batches of 1 to `pipeline_max` commands and read all replies before the next batch. A connection
//! that ends under its client is counted, its unanswered commands become unknown outcomes, and it comes back.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::book::Book;
use crate::connection::Connection;
use crate::finding::Finding;
use crate::gap::Gap;
use crate::ledger::Ledger;
use crate::plan::{Mix, Planner};
use crate::watch::{Progress, Watch};
use crate::wire::Address;

/// What a load consists of.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Connections at once. Default: 16.
    pub connections: usize,
    /// Most commands sent before their replies are read. Default: 16.
    pub pipeline_max: usize,
    /// Most commands a second on each connection. Default: none, as fast as it goes.
    pub rate: Option<NonZeroU32>,
    /// Groups of seven keys, one of each kind, that a connection owns. Default: 8.
    pub groups: usize,
    /// Whether a group's keys carry one `{tag}`, so that transactions and scripts may span them. Wants a proxy whose
    /// hash_tag is "{}" or that has one shard. Default: yes.
    pub hash_tags: bool,
    /// MULTI … EXEC. Default: yes.
    pub transactions: bool,
    /// EVAL. Default: yes.
    pub scripts: bool,
    /// MSET, MGET, DEL, UNLINK and EXISTS over keys of several groups, which a proxy must split. Default: yes.
    pub joined: bool,
    /// DEL, UNLINK, LPOP and SREM, which take away what an earlier write left, also one made once too often. Without
    /// them a list or text that is full is only read. Default: yes.
    pub removals: bool,
    /// Counters that all connections add to, beside lists that all push to; 0 for neither. Default: 4.
    pub shared: usize,
    /// Every how many connections one speaks RESP3; 0 for none. Default: 4.
    pub resp3_every: usize,
    /// Longest value, in bytes. Default: 1024.
    pub value_bytes_max: usize,
    /// How long a reply may take before the connection is given up. Default: 15 s.
    pub reply_timeout: Duration,
    /// Start of every key. Default: `lab:`.
    pub prefix: String,
    /// Chooses the commands. Default: 1.
    pub seed: u64,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            connections: 16,
            pipeline_max: 16,
            rate: None,
            groups: 8,
            hash_tags: true,
            transactions: true,
            scripts: true,
            joined: true,
            removals: true,
            shared: 4,
            resp3_every: 4,
            value_bytes_max: 1_024,
            reply_timeout: Duration::from_secs(15),
            prefix: "lab:".to_owned(),
            seed: 1,
        }
    }
}

/// A running load. Dropped without [`Load::stop`], it ends and its ledger is gone.
#[derive(Debug)]
pub struct Load {
    watch: Arc<Watch>,
    prefix: String,
    tasks: Vec<JoinHandle<Book>>,
}

impl Load {
    /// Begins at once, on the current runtime. Connections take the addresses in turn (two proxies of one pool), and go
    /// to the next one when theirs cannot be reached.
    /// The keys are expected to be absent: a second load on the same servers needs another prefix.
    pub fn start(addresses: &[Address], options: &LoadOptions) -> Load {
        let watch = Arc::new(Watch::new(options.connections));
        let mix = Mix {
            transactions: options.transactions,
            scripts: options.scripts,
            joined: options.joined,
            removals: options.removals,
            shared: options.shared,
            value_bytes_max: options.value_bytes_max,
        };
        let tasks = (0..options.connections)
            .take_while(|_| !addresses.is_empty())
            .map(|number| {
                let first = number % addresses.len();
                let mut addresses = addresses.to_vec();
                addresses.rotate_left(first);
                let connection = Connection {
                    addresses,
                    book: Book::new(
                        number,
                        &options.prefix,
                        options.groups.max(1),
                        options.hash_tags,
                    ),
                    planner: Planner::new(options.seed, number, mix),
                    watch: Arc::clone(&watch),
                    resp3: options.resp3_every > 0
                        && number % options.resp3_every == options.resp3_every - 1,
                    pipeline_max: options.pipeline_max,
                    rate: options.rate,
                    reply_timeout: options.reply_timeout,
                    sequence: 0,
                };
                tokio::spawn(connection.run())
            });
        Load {
            tasks: tasks.collect(),
            prefix: options.prefix.clone(),
            watch,
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.watch.progress()
    }

    /// What clients found until now. The servers themselves are asked by [`Ledger::audit`].
    pub fn findings(&self) -> Vec<Finding> {
        self.watch.findings().kept
    }

    /// The longest time any connection waited for a reply that touches this window, a wait not yet ended included.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Option<Gap> {
        self.watch.longest_gap_within(from, to)
    }

    /// Waits until this many more commands were answered; false when that takes longer than `limit`.
    pub async fn served(&self, commands: u64, limit: Duration) -> bool {
        let goal = self.progress().commands + commands;
        let waiting = async {
            while self.progress().commands < goal {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(limit, waiting).await.is_ok()
    }

    /// Lets every connection finish the batch it is in, and hands over what they wrote down.
    pub async fn stop(mut self) -> Ledger {
        self.watch.stop.store(true, Ordering::Relaxed);
        let elapsed = self.watch.started.elapsed();
        let mut books = Vec::new();
        let mut unaccounted = 0;
        for task in self.tasks.drain(..) {
            match task.await {
                Ok(book) => books.push(book),
                Err(_) => unaccounted += 1,
            }
        }
        Ledger {
            books,
            unaccounted,
            watch: Arc::clone(&self.watch),
            prefix: std::mem::take(&mut self.prefix),
            elapsed,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.watch.stop.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
    }
}
