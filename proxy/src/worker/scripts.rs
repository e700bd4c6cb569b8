//! Script bodies that clients of a pool have shown, so that a server that never saw them can be taught.
//!
//! Redis keeps its script cache neither in the RDB nor in the replication stream: after a switch every EVALSHA would
//! answer -NOSCRIPT. Control asks for these bodies before a cutover; a -NOSCRIPT that comes anyway is healed by EVAL.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::sha1_hex;

/// The bodies of one pool, within limits.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    by_digest: HashMap<[u8; 40], Arc<[u8]>>,
    known: HashSet<Arc<[u8]>>,
    oldest_first: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

impl Scripts {
    /// Remembers a body; the oldest go when it is too many or too much. One too large for the limit is not remembered.
    pub(super) fn remember(&mut self, body: &[u8], scripts_max: usize, bytes_max: usize) {
        if self.known.contains(body) || body.len() > bytes_max || scripts_max == 0 {
            return;
        }
        while self.oldest_first.len() >= scripts_max || self.bytes + body.len() > bytes_max {
            let Some(oldest) = self.oldest_first.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            self.by_digest.remove(&sha1_hex(&oldest));
            self.known.remove(&oldest);
        }
        let body: Arc<[u8]> = body.into();
        self.bytes += body.len();
        self.by_digest.insert(sha1_hex(&body), Arc::clone(&body));
        self.known.insert(Arc::clone(&body));
        self.oldest_first.push_back(body);
    }

    /// The body with this digest, given in either case.
    pub(super) fn body(&self, digest: &[u8]) -> Option<&[u8]> {
        let digest: [u8; 40] = digest.to_ascii_lowercase().try_into().ok()?;
        self.by_digest.get(&digest).map(AsRef::as_ref)
    }

    /// Forgets all: SCRIPT FLUSH.
    pub(super) fn clear(&mut self) {
        *self = Scripts::default();
    }

    /// All bodies, newest last.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        self.oldest_first.iter().map(|body| body.to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Scripts;

    #[test]
    fn the_oldest_goes_at_either_limit() {
        let mut scripts = Scripts::default();
        scripts.remember(b"return 1", 2, 100);
        scripts.remember(b"return 1", 2, 100);
        scripts.remember(b"return 2", 2, 100);
        assert!(
            scripts
                .body(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB")
                .is_some()
        );
        scripts.remember(b"return 3", 2, 100);
        assert_eq!(scripts.bodies(), [b"return 2", b"return 3"]);
        assert!(
            scripts
                .body(b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db")
                .is_none()
        );
        scripts.remember(b"return 44444444", 9, 20);
        assert_eq!(scripts.bodies(), [b"return 44444444"]);
        scripts.remember(&[b'x'; 21], 9, 20);
        assert_eq!(scripts.bodies().len(), 1);
    }
}
