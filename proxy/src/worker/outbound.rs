//! What goes out on one lane: bytes to write, and written ones that are kept until they are answered.
//!
//! ```text
//!  full   [ answered, let go | written, kept ][ written, kept ]   last [ written, kept | to write |  room  ]
//!                            ^ kept                                                    ^ sent     ^ end
//! ```
//!
//! Bytes are named by their place in the lane's whole stream: kept ≤ sent ≤ end. They lie in pieces, and never move: a
//! piece is used again when all of it is answered, the latest one first, since it is still in the processor's cache. What
//! was pushed in one call lies in one piece.

use std::collections::VecDeque;

/// Empty pieces that are kept for the next ones.
const SPARE_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Outbound {
    /// Pieces that take no more, in their order.
    full: VecDeque<Piece>,
    last: Piece,
    spare: Vec<Vec<u8>>,
    piece_bytes: usize,
    /// Where the first byte lies that may be asked for again.
    kept: u64,
    /// Where the first unwritten byte lies.
    sent: u64,
}

#[derive(Debug, Default)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// From a place in the stream on; `None` when it does not lie here.
    fn from(&self, place: u64) -> Option<&[u8]> {
        let at = usize::try_from(place.checked_sub(self.start)?).ok()?;
        self.bytes.get(at..)
    }
}

impl Outbound {
    /// Pieces of so many bytes; a longer push makes a longer one.
    pub(super) fn new(piece_bytes: usize) -> Outbound {
        Outbound {
            full: VecDeque::new(),
            last: Piece::default(),
            spare: Vec::new(),
            piece_bytes,
            kept: 0,
            sent: 0,
        }
    }

    /// Where the next byte will lie.
    pub(super) fn end(&self) -> u64 {
        self.last.end()
    }

    /// Where the first unwritten byte lies.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many bytes are to be written.
    pub(super) fn queued(&self) -> usize {
        usize::try_from(self.end() - self.sent).unwrap_or(usize::MAX)
    }

    /// Adds bytes, all in one piece; answers where they begin.
    pub(super) fn push(&mut self, bytes: &[u8]) -> u64 {
        let length = self.last.bytes.len();
        if length > 0 && length + bytes.len() > self.piece_bytes {
            self.begin_piece(bytes.len());
        }
        let start = self.end();
        self.last.bytes.extend_from_slice(bytes);
        start
    }

    #[cold]
    fn begin_piece(&mut self, room: usize) {
        let bytes =
            (self.spare.pop()).unwrap_or_else(|| Vec::with_capacity(room.max(self.piece_bytes)));
        let next = Piece {
            start: self.end(),
            bytes,
        };
        self.full.push_back(std::mem::replace(&mut self.last, next));
    }

    /// The next bytes to write, as far as they lie in one piece. Empty when all are written.
    pub(super) fn unsent(&self) -> &[u8] {
        match self.last.from(self.sent) {
            Some(unsent) => unsent,
            None => self.unsent_in_full(),
        }
    }

    #[cold]
    fn unsent_in_full(&self) -> &[u8] {
        let mut pieces = self.full.iter();
        (pieces.find(|piece| self.sent < piece.end()))
            .and_then(|piece| piece.from(self.sent))
            .unwrap_or_default()
    }

    /// So many of them left us. Of the written ones, at most `retain_max` are kept.
    pub(super) fn wrote(&mut self, n: usize, retain_max: usize) {
        debug_assert!(
            n <= self.unsent().len(),
            "the shell wrote more than there was"
        );
        self.sent = (self.sent + n as u64).min(self.end());
        if self.sent - self.kept > retain_max as u64 {
            self.release(self.sent);
        }
    }

    /// Lets go of written bytes before this place.
    pub(super) fn release(&mut self, until: u64) {
        debug_assert!(until <= self.sent, "what is not written is kept");
        self.kept = self.kept.max(until);
        if !self.full.is_empty() {
            self.release_full();
        }
        if self.kept == self.end() {
            self.last.start = self.kept;
            self.last.bytes.clear();
            if self.last.bytes.capacity() > self.piece_bytes {
                self.last.bytes = Vec::new();
            }
        }
    }

    #[cold]
    fn release_full(&mut self) {
        while (self.full.front()).is_some_and(|piece| piece.end() <= self.kept) {
            let Some(Piece { mut bytes, .. }) = self.full.pop_front() else {
                return;
            };
            // One that a long push made goes back to where it came from.
            if self.spare.len() < SPARE_MAX && bytes.capacity() <= self.piece_bytes {
                bytes.clear();
                self.spare.push(bytes);
            }
        }
    }

    /// Bytes that were pushed in one call, or `None` when they had to be let go.
    pub(super) fn bytes(&self, start: u64, end: u64) -> Option<&[u8]> {
        if start < self.kept {
            return None;
        }
        let length = usize::try_from(end.checked_sub(start)?).ok()?;
        let mut pieces = self.full.iter().chain([&self.last]);
        pieces
            .find(|piece| start < piece.end())?
            .from(start)?
            .get(..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes and "writes" the next piece.
    fn write(out: &mut Outbound) -> Vec<u8> {
        let bytes = out.unsent().to_vec();
        out.wrote(bytes.len(), usize::MAX);
        bytes
    }

    #[test]
    fn written_bytes_stay_until_they_are_released() {
        let mut out = Outbound::new(1 << 10);
        assert_eq!((out.push(b"first"), out.push(b"second")), (0, 5));
        out.wrote(8, 1 << 20);
        assert_eq!((out.unsent(), out.queued()), (&b"ond"[..], 3));
        assert_eq!(out.bytes(0, 5), Some(&b"first"[..]));
        out.release(5);
        assert_eq!(out.bytes(0, 5), None);
        assert_eq!(out.bytes(5, 11), Some(&b"second"[..]));
        out.wrote(3, 1 << 20);
        out.release(11);
        assert_eq!(out.bytes(5, 11), None);
        assert_eq!((out.end(), out.sent()), (11, 11));
    }

    #[test]
    fn above_the_limit_written_bytes_are_let_go_and_the_rest_is_still_sent() {
        let mut out = Outbound::new(1 << 10);
        out.push(b"first");
        out.push(b"second");
        out.wrote(7, 4);
        assert_eq!(out.bytes(0, 5), None);
        assert_eq!(out.bytes(5, 11), None);
        assert_eq!(out.unsent(), b"cond");
    }

    #[test]
    fn over_many_pieces_bytes_are_sent_in_order_and_found_until_released() {
        let mut out = Outbound::new(8);
        let words: [&[u8]; 6] = [b"one", b"four", b"three", b"a long one", b"2", b"seven"];
        let starts = words.map(|word| out.push(word));
        assert_eq!(starts, [0, 3, 7, 12, 22, 23]);
        assert_eq!((out.end(), out.queued()), (28, 28));
        let mut sent = Vec::new();
        while out.queued() > 0 {
            // A push is never torn by a piece's end.
            sent.push(String::from_utf8(write(&mut out)).unwrap());
        }
        assert_eq!(sent, ["onefour", "three", "a long one", "2seven"]);
        for (word, start) in words.iter().zip(starts) {
            assert_eq!(out.bytes(start, start + word.len() as u64), Some(*word));
        }
        out.release(22);
        assert_eq!(out.bytes(12, 22), None);
        assert_eq!(out.bytes(23, 28), Some(&b"seven"[..]));
        out.release(28);
        assert_eq!((out.push(b"next"), out.unsent()), (28, &b"next"[..]));
    }

    #[test]
    fn pieces_are_used_again_and_long_ones_are_not_kept() {
        let mut out = Outbound::new(8);
        let mut largest = 0;
        for round in 0..1000_u64 {
            let start = out.push(b"abcdefg");
            out.push(&[b'x'; 100][..(round % 7) as usize]);
            if round % 10 == 9 {
                out.push(&[b'y'; 5000]);
            }
            while out.queued() > 0 {
                write(&mut out);
            }
            // Three commands are always under way.
            out.release(start.saturating_sub(20));
            let pieces = out.full.iter().map(|piece| &piece.bytes);
            let all = pieces.chain(&out.spare).chain([&out.last.bytes]);
            largest = largest.max(all.map(Vec::capacity).sum());
        }
        assert!(out.spare.iter().all(|bytes| bytes.capacity() <= 8));
        assert!(largest < 3 * 5000, "{largest} bytes were kept at once");
        out.release(out.end());
        assert!(out.full.is_empty() && out.last.bytes.capacity() <= 8);
    }
}
