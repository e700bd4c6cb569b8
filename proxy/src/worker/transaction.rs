//! MULTI: commands queue in the session and leave as one unit at EXEC, so that a switch between them is invisible.
//!
//! What Redis would say while it queues is said here: an unknown command, wrong arity, a refused command or keys on two
//! shards answer their error at once, and EXEC answers -EXECABORT. The unit goes to one shard: MULTI, the commands, EXEC;
//! the client gets the last reply only.

use understudy_resp::encode;

use crate::route::ShardIndex;

/// An open MULTI.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// The commands as they will be sent.
    pub(super) frames: Vec<u8>,
    pub(super) commands: u32,
    /// Where its keys lie, once one was named.
    pub(super) shard: Option<ShardIndex>,
    /// A command was refused: EXEC will be, too.
    pub(super) broken: bool,
}

impl Transaction {
    /// Queues a command whose keys lie on `shard`, or that has none. `false`: the keys lie elsewhere than the others'.
    pub(super) fn queue(&mut self, frame: &[u8], shard: Option<ShardIndex>) -> bool {
        if let (Some(mine), Some(other)) = (self.shard, shard)
            && mine != other
        {
            self.broken = true;
            return false;
        }
        self.shard = self.shard.or(shard);
        self.frames.extend_from_slice(frame);
        self.commands += 1;
        true
    }

    /// The unit's bytes, and how many replies it gets.
    pub(super) fn unit(&self) -> (Vec<u8>, u32) {
        let mut unit = Vec::with_capacity(self.frames.len() + 32);
        encode::command(&mut unit, &["MULTI"]);
        unit.extend_from_slice(&self.frames);
        encode::command(&mut unit, &["EXEC"]);
        (unit, self.commands + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_on_two_shards_break_it() {
        let mut transaction = Transaction::default();
        assert!(transaction.queue(b"a", None));
        assert!(transaction.queue(b"b", Some(ShardIndex(1))));
        assert!(transaction.queue(b"c", Some(ShardIndex(1))));
        assert!(!transaction.broken);
        assert!(!transaction.queue(b"d", Some(ShardIndex(0))));
        assert!(transaction.broken);
        assert_eq!(
            transaction.unit(),
            (b"*1\r\n$5\r\nMULTI\r\nabc*1\r\n$4\r\nEXEC\r\n".to_vec(), 5)
        );
    }
}
