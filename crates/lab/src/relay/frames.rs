//! The relay's knowledge of RESP: where commands and replies end, which reply belongs to which command.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::RelayMode;
use crate::wire::{Reply, decode};

/// What was ordered and what was done of it, over all connections.
#[derive(Debug, Default)]
pub(super) struct Mischief {
    /// The command's name, and what its key must contain.
    double: Mutex<Option<(String, String)>>,
    swaps_ordered: AtomicU64,
    doubled: AtomicU64,
    swapped: AtomicU64,
}

impl Mischief {
    pub(super) fn double_next(&self, command: &str, key_part: &str) {
        *locked(&self.double) = Some((command.to_ascii_uppercase(), key_part.to_owned()));
    }

    pub(super) fn swap_next(&self) {
        self.swaps_ordered.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn doubled(&self) -> u64 {
        self.doubled.load(Ordering::SeqCst)
    }

    pub(super) fn swapped(&self) -> u64 {
        self.swapped.load(Ordering::SeqCst)
    }

    fn takes_double(&self, (name, key): &(String, String)) -> bool {
        let mut ordered = locked(&self.double);
        let fits = ordered
            .as_ref()
            .is_some_and(|(wanted, key_part)| wanted == name && key.contains(key_part));
        if fits {
            *ordered = None;
            self.doubled.fetch_add(1, Ordering::SeqCst);
        }
        fits
    }

    fn takes_swap(&self) -> bool {
        let taken = self
            .swaps_ordered
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        if taken {
            self.swapped.fetch_add(1, Ordering::SeqCst);
        }
        taken
    }

    fn wants_swap(&self) -> bool {
        self.swaps_ordered.load(Ordering::SeqCst) > 0
    }
}

/// One connection's view.
pub(super) struct Frames<'m> {
    mode: RelayMode,
    mischief: &'m Mischief,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// For each reply to come: whether it goes on to the client.
    due: VecDeque<bool>,
    /// A reply kept back until its successor has gone first.
    kept: Option<Vec<u8>>,
}

impl<'m> Frames<'m> {
    pub(super) fn new(mode: RelayMode, mischief: &'m Mischief) -> Frames<'m> {
        Frames {
            mode,
            mischief,
            state: Mutex::new(State::default()),
        }
    }

    /// What goes to the server for these bytes of the client.
    pub(super) fn commands(&self, partial: &mut Vec<u8>, chunk: Vec<u8>) -> Vec<u8> {
        if self.mode == RelayMode::Bytes {
            return chunk;
        }
        partial.extend_from_slice(&chunk);
        let mut out = Vec::new();
        while let Some((frame, bytes)) = take(partial, &mut out) {
            let mut state = locked(&self.state);
            out.extend_from_slice(&bytes);
            state.due.push_back(true);
            if self.mischief.takes_double(&name_and_key(frame)) {
                out.extend_from_slice(&bytes);
                state.due.push_back(false);
            }
        }
        out
    }

    /// What goes to the client for these bytes of the server.
    pub(super) fn replies(&self, partial: &mut Vec<u8>, chunk: Vec<u8>) -> Vec<u8> {
        if self.mode == RelayMode::Bytes {
            return chunk;
        }
        partial.extend_from_slice(&chunk);
        let mut out = Vec::new();
        while let Some((frame, bytes)) = take(partial, &mut out) {
            let mut state = locked(&self.state);
            if !matches!(frame, Reply::Push(_)) && state.due.pop_front() == Some(false) {
                continue;
            }
            match state.kept.take() {
                Some(kept) if kept != bytes && self.mischief.takes_swap() => {
                    out.extend_from_slice(&bytes);
                    out.extend_from_slice(&kept);
                    continue;
                }
                Some(kept) => out.extend_from_slice(&kept),
                None => {}
            }
            // Only kept while another reply is sure to follow: nobody waits for a reply that waits for him.
            let follows = state.due.iter().any(|goes_on| *goes_on);
            if follows && self.mischief.wants_swap() {
                state.kept = Some(bytes);
            } else {
                out.extend_from_slice(&bytes);
            }
        }
        out
    }
}

/// The next whole frame and its bytes. What is not RESP goes on as it is.
fn take(partial: &mut Vec<u8>, out: &mut Vec<u8>) -> Option<(Reply, Vec<u8>)> {
    match decode(partial) {
        Ok(Some((frame, length))) => {
            let rest = partial.split_off(length);
            Some((frame, std::mem::replace(partial, rest)))
        }
        Ok(None) => None,
        Err(_) => {
            out.append(partial);
            None
        }
    }
}

/// The first two words of a command; empty where it has none.
fn name_and_key(frame: Reply) -> (String, String) {
    let mut words = frame.into_elements().unwrap_or_default().into_iter();
    let mut word = || {
        let bytes = words.next().and_then(Reply::into_bytes).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (word().to_ascii_uppercase(), word())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
