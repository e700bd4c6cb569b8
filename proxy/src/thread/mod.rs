//! A worker thread: one core, its sockets, and a runtime of its own that nobody else uses.
//!
//! When a task panics, the core may have stopped half way through a reply. So the whole worker goes, sessions and lanes
//! with it, and a new one is built from the routes and prepared gates that the proxy knows; a closed connection is better
//! than a misplaced reply. The process lives.

mod lane;
mod mailbox;
mod session;
mod shell;
mod signal;
mod slots;
mod wire;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use self::shell::Shell;
use crate::shared::Shared;
use crate::worker::Order;

pub(crate) use self::mailbox::{Address, Letter};

/// How often a draining worker looks for sessions that have become idle.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// So many further turns of the loop, at most, may add to a write to a lane.
const GATHER_TURNS: u32 = 4;
/// From so many bytes of clients on, lanes are written without a further turn.
const GATHER_BYTES: usize = 64 << 10;

/// Why a worker's runtime ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It was told to, or the proxy is gone.
    Told,
    /// A task panicked.
    Panicked,
}

/// Starts a worker and waits until it takes letters.
pub(crate) async fn start(
    shared: Arc<Shared>,
    number: u16,
) -> io::Result<(Address, JoinHandle<()>)> {
    let (address, mailbox) = Address::new(number);
    let (begun, has_begun) = oneshot::channel();
    let thread = std::thread::Builder::new().name(format!("worker-{number}"));
    // The runtime stays on the thread that made it; whether it could be made is known here.
    let thread = thread.spawn(move || match runtime() {
        Ok(runtime) => {
            let _nobody_waits = begun.send(Ok(()));
            live(&shared, number, mailbox, runtime);
        }
        Err(cause) => {
            let _nobody_waits = begun.send(Err(cause));
        }
    })?;
    has_begun
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
    Ok((address, thread))
}

/// The thread's life: one core after the other until it is told to end.
fn live(
    shared: &Arc<Shared>,
    number: u16,
    mut mailbox: mpsc::Receiver<Letter>,
    mut events: LocalRuntime,
) {
    while lifetime(shared, number, &mut mailbox, events) == Ended::Panicked {
        shared.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            worker = number,
            "a worker panicked: its sessions are closed, and it starts again"
        );
        events = match runtime() {
            Ok(runtime) => runtime,
            Err(cause) => {
                return tracing::error!(worker = number, %cause, "make a worker's runtime again: the worker is gone");
            }
        };
    }
}

/// One core, from its making to its end.
fn lifetime(
    shared: &Arc<Shared>,
    number: u16,
    mailbox: &mut mpsc::Receiver<Letter>,
    runtime: LocalRuntime,
) -> Ended {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let shell = Rc::new(Shell::new(Arc::clone(shared), number));
        runtime.block_on(serve(&shell, mailbox))
    }));
    // Its tasks are dropped here, and their sockets with them; what panics now has panicked before.
    let _again = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    ended.unwrap_or(Ended::Panicked)
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// Reads letters until told to end or a task panics.
async fn serve(shell: &Rc<Shell>, mailbox: &mut mpsc::Receiver<Letter>) -> Ended {
    restore(shell);
    shell.spawn(flusher(Rc::clone(shell)));
    shell.spawn(ticker(Rc::clone(shell)));
    loop {
        // Both are cancel safe: a letter that was not received stays in the box.
        let letter = tokio::select! {
            biased;
            () = shell.panicked.wait() => return Ended::Panicked,
            () = shell.drained.wait() => return Ended::Told,
            letter = mailbox.recv() => letter,
        };
        match letter {
            None => return Ended::Told,
            Some(Letter::Open {
                pool,
                incoming,
                place,
            }) => {
                shell.spawn(session::run(Rc::clone(shell), pool, incoming, place));
            }
            Some(Letter::Order(order, answer)) => shell.order(order, answer),
            Some(Letter::Drain(limit)) => shell.spawn(drain(Rc::clone(shell), limit)),
            #[cfg(debug_assertions)]
            Some(Letter::Run(errand)) => errand(),
        }
    }
}

/// Shards that were prepared start prepared. Before the first session, so that none slips through.
fn restore(shell: &Rc<Shell>) {
    for (pool, shard, epoch, term) in shell.shared.prepared() {
        let (answer, _nobody_waits) = oneshot::channel();
        shell.order(
            Order::Restore {
                pool,
                shard,
                epoch,
                term,
            },
            answer,
        );
    }
}

/// Runs behind all tasks that were ready in the same turn of the loop, so that each lane is written once for all of them.
/// When several clients were, more of them are likely to be ready by now: they go with the same write.
async fn flusher(shell: Rc<Shell>) {
    loop {
        shell.flush.wait().await;
        shell.settle();
        let mut bytes = 0;
        for _ in 0..GATHER_TURNS {
            let fresh = shell.fresh.take();
            bytes += fresh.bytes;
            if fresh.reads < 2 || bytes >= GATHER_BYTES {
                break;
            }
            // Behind whatever is ready now; nothing is waited for.
            tokio::task::yield_now().await;
            shell.settle();
        }
        shell.write_lanes();
    }
}

/// Tells the core that time has passed, when it asked for that.
async fn ticker(shell: Rc<Shell>) {
    loop {
        let deadline = shell.core.borrow().next_deadline();
        shell.armed.set(deadline);
        let Some(deadline) = deadline else {
            shell.rearm.wait().await;
            continue;
        };
        tokio::select! {
            biased;
            () = shell.rearm.wait() => continue,
            () = sleep_until(shell.instant(deadline)) => {}
        }
        let now = shell.now().max(deadline);
        shell.tick(now);
    }
}

/// Closes sessions as they become idle, and all of them at the limit.
async fn drain(shell: Rc<Shell>, limit: Duration) {
    let until = Instant::now() + limit;
    loop {
        let left = shell.sessions.borrow().len();
        if left == 0 {
            break;
        }
        if Instant::now() >= until {
            tracing::warn!(
                worker = shell.number,
                sessions = left,
                "the drain limit has passed: close sessions with commands under way"
            );
            break;
        }
        shell.end_idle_sessions().await;
        sleep(DRAIN_LOOK).await;
    }
    shell.drained.raise();
}
