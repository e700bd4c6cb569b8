//! Gives one order to every worker and gathers what they answer, until a deadline.
//!
//! Posting does not wait, so two orders that are posted one after the other reach every worker in that order, whatever
//! their answers take.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::thread::Address;
use crate::worker::{Ack, Counters, Order};

/// Longest wait for an answer that needs nothing but a free moment of the worker. Default: 1 s.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(1);

/// All workers, as everybody else reaches them.
#[derive(Clone)]
pub(crate) struct Crew {
    addresses: Vec<Address>,
}

/// Answers that are on their way, one for each worker.
pub(crate) struct Asked {
    answers: Vec<(u16, oneshot::Receiver<Ack>)>,
    since: Instant,
}

/// A worker that did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Silent {
    /// The deadline passed.
    #[error("worker {worker} did not answer within {waited_ms} ms")]
    Late {
        /// Which worker.
        worker: u16,
        /// How long we waited.
        waited_ms: u64,
    },
    /// It was rebuilt, has ended, or its box was full.
    #[error("worker {worker} did not take the order")]
    Gone {
        /// Which worker.
        worker: u16,
    },
}

impl Crew {
    pub(crate) fn new(addresses: Vec<Address>) -> Crew {
        Crew { addresses }
    }

    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The worker with the fewest sessions.
    pub(crate) fn idlest(&self) -> Option<&Address> {
        self.addresses
            .iter()
            .min_by_key(|address| address.sessions())
    }

    /// Posts an order to every worker.
    pub(crate) fn post(&self, order: &Order) -> Asked {
        let answers = self
            .addresses
            .iter()
            .map(|address| (address.worker, address.order(order.clone())));
        Asked {
            answers: answers.collect(),
            since: Instant::now(),
        }
    }

    /// Everybody's counters; of a worker that is silent, none.
    pub(crate) async fn counters(&self) -> Vec<(u16, Counters)> {
        let answers = self.post(&Order::Counters).gather(ANSWER_MAX).await;
        let counted = answers.into_iter().filter_map(|answer| match answer {
            (worker, Ok(Ack::Counters(counters))) => Some((worker, *counters)),
            _ => None,
        });
        counted.collect()
    }
}

impl Asked {
    /// Waits for all answers, at most so long after the order was posted. In the order of the workers.
    pub(crate) async fn gather(self, limit: Duration) -> Vec<(u16, Result<Ack, Silent>)> {
        let deadline = self.since + limit;
        let mut gathered = Vec::with_capacity(self.answers.len());
        for (worker, answer) in self.answers {
            let ack = match timeout_at(deadline, answer).await {
                Ok(Ok(ack)) => Ok(ack),
                Ok(Err(_)) => Err(Silent::Gone { worker }),
                Err(_) => Err(Silent::Late {
                    worker,
                    waited_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                }),
            };
            gathered.push((worker, ack));
        }
        gathered
    }
}
