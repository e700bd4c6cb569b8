//! Wakes one task of the same thread: a flag and a waker in two cells.
//!
//! Tasks of a worker wait on a socket and on "something about you has changed" at once. A `Notify` would do, for the price
//! of atomics and a list; one waiter on one thread needs neither.

use std::cell::Cell;
use std::task::{Context, Poll, Waker};

/// A flag that one task waits for. Raising it twice before the task looks is raising it once.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Signal {
    /// Wakes the task that waits, or lets the next wait end at once.
    pub(crate) fn raise(&self) {
        if !self.raised.replace(true)
            && let Some(waker) = self.waiting.take()
        {
            waker.wake();
        }
    }

    /// Ready when raised since the last ready. Only the last task to poll is woken.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.raised.replace(false) {
            return Poll::Ready(());
        }
        let waker = match self.waiting.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.waiting.set(Some(waker));
        Poll::Pending
    }

    /// Waits until raised. Cancel safe: a raise that nobody has seen stays.
    pub(crate) async fn wait(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_raise_before_the_wait_is_not_lost_and_counts_once() {
        let signal = Signal::default();
        signal.raise();
        signal.raise();
        signal.wait().await;
        let context = Context::from_waker(Waker::noop());
        assert!(signal.poll(&context).is_pending());
        signal.raise();
        assert!(signal.poll(&context).is_ready());
    }
}
