//! A TCP relay between a client and a server that breaks what passes through it, on request.
//!
//! ```text
//!   client ──► Relay ──► server      delay, stall or cut off (partitions), cut, cut after n bytes, cut at a text, refuse: for any stream
//!                                    double a write, swap two replies: for RESP, when started with RelayMode::Frames
//! ```
//!
//! Every fault can be set while connections are open. Nothing is reordered or lost but by the faults asked for.

mod frames;
mod owner;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::LabError;
use crate::wire::Address;
use frames::{Frames, Mischief};
use owner::Owner;

/// Chunks on their way in one direction. At the limit the relay reads no more.
const IN_FLIGHT_MAX: usize = 256;
const CHUNK_BYTES: usize = 16 << 10;

/// What the relay understands of what it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayMode {
    /// Nothing: any protocol.
    Bytes,
    /// RESP commands one way, replies the other; needed for [`Relay::double_next`] and [`Relay::swap_next_replies`].
    Frames,
}

/// Where [`Relay::cut_at`] cuts a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutAt {
    /// The server does not get what contains the text.
    Before,
    /// The server has it, and its answer is lost.
    Behind,
}

/// What becomes of connections after such a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterCut {
    /// New ones are welcome.
    Back,
    /// As [`Relay::cut`] and [`Relay::refuse`]: nobody gets through any more.
    Away,
}

#[derive(Clone, Debug)]
struct CutOrder {
    text: Vec<u8>,
    at: CutAt,
    after: AfterCut,
}

#[derive(Clone, Debug, Default)]
struct Faults {
    delay: Duration,
    stalled: bool,
    cut_off: Option<u32>,
    refusing: bool,
    cuts: u64,
}

#[derive(Debug)]
struct Shared {
    faults: watch::Sender<Faults>,
    /// Bytes that may still pass towards the server; below zero there is no such limit.
    budget: AtomicI64,
    cut_order: Mutex<Option<CutOrder>>,
    cut_at: AtomicU64,
    bytes_to_server: AtomicU64,
    bytes_to_client: AtomicU64,
    connections: AtomicU64,
    mischief: Mischief,
    mode: RelayMode,
}

/// A relay on a port of 127.0.0.1. Dropped, it closes everything.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Listens, and dials `target` (`host:port`) for each connection.
    pub async fn start(target: &str, mode: RelayMode) -> Result<Relay, LabError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(LabError::io("listen as a relay"))?;
        let port = listener
            .local_addr()
            .map_err(LabError::io("listen as a relay"))?
            .port();
        let shared = Arc::new(Shared {
            faults: watch::Sender::new(Faults::default()),
            budget: AtomicI64::new(-1),
            cut_order: Mutex::new(None),
            cut_at: AtomicU64::new(0),
            bytes_to_server: AtomicU64::new(0),
            bytes_to_client: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            mischief: Mischief::default(),
            mode,
        });
        let accepting = tokio::spawn(accept(
            listener,
            port,
            target.to_owned(),
            Arc::clone(&shared),
        ));
        Ok(Relay {
            port,
            shared,
            accepting,
        })
    }

    /// The relay's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the lab reaches it.
    pub fn address(&self) -> Address {
        Address::local(self.port)
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Adds this much to every byte's way, in each direction. Order stays.
    pub fn delay(&self, each_way: Duration) {
        self.shared
            .faults
            .send_modify(|faults| faults.delay = each_way);
    }

    /// While set, nothing passes and nothing is closed: what a partition looks like. Bytes go on when it ends.
    pub fn stall(&self, stalled: bool) {
        self.shared
            .faults
            .send_modify(|faults| faults.stalled = stalled);
    }

    /// As `stall`, for the connections of this process of this machine only: it is cut off, others are not.
    pub fn cut_off(&self, process: Option<u32>) {
        self.shared
            .faults
            .send_modify(|faults| faults.cut_off = process);
    }

    /// While set, new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared
            .faults
            .send_modify(|faults| faults.refusing = refusing);
    }

    /// Closes every open connection now; new ones are welcome.
    pub fn cut(&self) {
        self.shared.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Lets so many more bytes pass towards the server, over all connections, then cuts them all.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.budget.store(i64::from(bytes), Ordering::SeqCst);
    }

    /// Ends the one connection whose next command contains this text, once. A command is taken for whole in one read.
    pub fn cut_at(&self, text: &str, at: CutAt, after: AfterCut) {
        let text = text.as_bytes().to_vec();
        *self.shared.order() = Some(CutOrder { text, at, after });
    }

    /// How often `cut_at` has cut until now.
    pub fn cuts_at(&self) -> u64 {
        self.shared.cut_at.load(Ordering::SeqCst)
    }

    /// Sends the next command of this name whose key contains this text twice, and hides the second reply.
    pub fn double_next(&self, command: &str, key_part: &str) {
        self.shared.mischief.double_next(command, key_part);
    }

    /// Swaps the next two neighbouring replies of one connection that differ.
    pub fn swap_next_replies(&self) {
        self.shared.mischief.swap_next();
    }

    /// How many commands were doubled until now.
    pub fn doubled(&self) -> u64 {
        self.shared.mischief.doubled()
    }

    /// How many pairs of replies were swapped until now.
    pub fn swapped(&self) -> u64 {
        self.shared.mischief.swapped()
    }

    /// Connections accepted until now.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes passed towards the server, and back.
    pub fn bytes(&self) -> (u64, u64) {
        (
            self.shared.bytes_to_server.load(Ordering::Relaxed),
            self.shared.bytes_to_client.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, port: u16, target: String, shared: Arc<Shared>) {
    while let Ok((client, peer)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if shared.faults.borrow().refusing {
            continue;
        }
        let owner = Owner::new(peer.port(), port);
        tokio::spawn(relay(client, owner, target.clone(), Arc::clone(&shared)));
    }
}

/// One connection, until either side ends it or it is cut.
async fn relay(client: TcpStream, owner: Owner, target: String, shared: Arc<Shared>) {
    let mut faults = shared.faults.subscribe();
    let cuts = faults.borrow().cuts;
    let passing = async {
        let Ok(server) = TcpStream::connect(&target).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let connection = Connection {
            shared: &shared,
            frames: Frames::new(shared.mode, &shared.mischief),
            owner: &owner,
            ends: Mutex::new(None),
            ended: Notify::new(),
        };
        // A half-closed client still gets its replies; both ends gone ends it.
        let both_ways = async {
            tokio::join!(
                pass(from_client, to_server, Direction::ToServer, &connection),
                pass(from_server, to_client, Direction::ToClient, &connection),
            )
        };
        tokio::select! {
            _ = both_ways => {}
            () = connection.ended.notified() => {}
        }
    };
    tokio::select! {
        () = passing => {}
        _ = faults.wait_for(|faults| faults.cuts != cuts) => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// What both directions of one connection share.
struct Connection<'a> {
    shared: &'a Shared,
    frames: Frames<'a>,
    owner: &'a Owner,
    /// It ends in place of the next answer.
    ends: Mutex<Option<AfterCut>>,
    ended: Notify,
}

impl Connection<'_> {
    /// Whether this chunk goes no further, because the connection ends here.
    fn is_cut(&self, chunk: &[u8], direction: Direction) -> bool {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if direction == Direction::ToClient {
            return ends.is_some_and(|after| self.end(after));
        }
        let mut order = self.shared.order();
        let here =
            |order: &mut CutOrder| chunk.windows(order.text.len()).any(|it| it == order.text);
        match order.take_if(here) {
            Some(order) if order.at == CutAt::Before => self.end(order.after),
            Some(order) => {
                *ends = Some(order.after);
                false
            }
            None => false,
        }
    }

    fn end(&self, after: AfterCut) -> bool {
        if after == AfterCut::Away {
            self.shared.faults.send_modify(|faults| {
                faults.refusing = true;
                faults.cuts += 1;
            });
        }
        self.shared.cut_at.fetch_add(1, Ordering::SeqCst);
        self.ended.notify_one();
        true
    }

    fn may_pass(&self, faults: &Faults) -> bool {
        !faults.stalled && !faults.cut_off.is_some_and(|process| self.owner.is(process))
    }
}

async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    direction: Direction,
    connection: &Connection<'_>,
) {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT_MAX);
    tokio::join!(
        read(from, sender, direction, &connection.frames),
        write(to, receiver, direction, connection)
    );
}

async fn read(
    mut from: OwnedReadHalf,
    chunks: mpsc::Sender<(Instant, Vec<u8>)>,
    direction: Direction,
    frames: &Frames<'_>,
) {
    let mut partial = Vec::new();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        match from.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let chunk = match direction {
            Direction::ToServer => frames.commands(&mut partial, chunk),
            Direction::ToClient => frames.replies(&mut partial, chunk),
        };
        if !chunk.is_empty() && chunks.send((Instant::now(), chunk)).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut to: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    direction: Direction,
    connection: &Connection<'_>,
) {
    let shared = connection.shared;
    let mut faults = shared.faults.subscribe();
    while let Some((arrived, mut chunk)) = chunks.recv().await {
        let delay = match faults.wait_for(|faults| connection.may_pass(faults)).await {
            Ok(faults) => faults.delay,
            Err(_) => return,
        };
        if !delay.is_zero() {
            tokio::time::sleep_until((arrived + delay).into()).await;
        }
        if connection.is_cut(&chunk, direction) {
            return;
        }
        let mut spent = false;
        if direction == Direction::ToServer {
            spent = shared.spend(&mut chunk);
        }
        let counter = if direction == Direction::ToServer {
            &shared.bytes_to_server
        } else {
            &shared.bytes_to_client
        };
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if to.write_all(&chunk).await.is_err() {
            return;
        }
        if spent {
            shared.faults.send_modify(|faults| faults.cuts += 1);
            return;
        }
    }
    // The reader's end is passed on: a half-close stays one.
    let _ = to.shutdown().await;
}

impl Shared {
    fn order(&self) -> MutexGuard<'_, Option<CutOrder>> {
        self.cut_order
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the chunk from the byte budget; true when it is used up, and the chunk cut to what was left.
    fn spend(&self, chunk: &mut Vec<u8>) -> bool {
        let wanted = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        let before = self
            .budget
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                (left >= 0).then(|| if left > wanted { left - wanted } else { -1 })
            });
        match before {
            Ok(left) if left <= wanted => {
                chunk.truncate(usize::try_from(left).unwrap_or(0));
                true
            }
            _ => false,
        }
    }
}
