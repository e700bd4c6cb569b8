//! What a worker counts: plain numbers, copied out when the shell asks. Nothing here is atomic.

use super::dirty::CloseReason;
use crate::route::{PoolIndex, ShardIndex};

/// Latency classes. A run counts as the slowest class among its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LatencyClass {
    /// Read-only commands of one shard.
    Read,
    /// Other keyed commands of one shard.
    Write,
    /// EVAL, EVALSHA, FCALL.
    Script,
    /// MULTI … EXEC as one unit.
    Transaction,
    /// One shard's part of a split or broadcast command.
    Part,
}

impl LatencyClass {
    /// How many there are.
    pub const COUNT: usize = 5;
    /// All of them, in the order of their numbers.
    pub const ALL: [LatencyClass; LatencyClass::COUNT] = [
        LatencyClass::Read,
        LatencyClass::Write,
        LatencyClass::Script,
        LatencyClass::Transaction,
        LatencyClass::Part,
    ];

    /// Label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LatencyClass::Read => "read",
            LatencyClass::Write => "write",
            LatencyClass::Script => "script",
            LatencyClass::Transaction => "transaction",
            LatencyClass::Part => "part",
        }
    }
}

/// Counts of latencies in microseconds: four buckets for each power of two, up to 67 s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// How many fell into each bucket. See [`Histogram::upper_us`].
    pub buckets: [u64; Histogram::BUCKETS],
    /// Sum of all, for a mean.
    pub sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: [0; Histogram::BUCKETS],
            sum_us: 0,
        }
    }
}

impl Histogram {
    /// How many buckets there are.
    pub const BUCKETS: usize = 100;

    /// Counts `n` commands that took so long.
    pub fn record(&mut self, us: u64, n: u64) {
        self.buckets[Histogram::bucket(us)] += n;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(n));
    }

    /// Largest value that falls into this bucket.
    #[must_use]
    pub fn upper_us(bucket: usize) -> u64 {
        if bucket < 4 {
            return bucket as u64;
        }
        let (power, quarter) = (bucket / 4 + 1, (bucket % 4) as u64);
        ((4 + quarter + 1) << (power - 2)) - 1
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The latency that `per_mille` of 1,000 commands did not exceed; 0 when nothing was counted.
    #[must_use]
    pub fn quantile_us(&self, per_mille: u64) -> u64 {
        let wanted = (self.count() * per_mille).div_ceil(1_000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Histogram::upper_us(bucket);
            }
        }
        0
    }

    /// What was counted since `earlier`, a copy of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let mut out = self.clone();
        for (now, before) in out.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.saturating_sub(*before);
        }
        out.sum_us = out.sum_us.saturating_sub(earlier.sum_us);
        out
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    fn bucket(us: u64) -> usize {
        if us < 4 {
            return us as usize;
        }
        let power = us.ilog2() as usize;
        let quarter = (us >> (power - 2)) as usize & 3;
        ((power - 1) * 4 + quarter).min(Histogram::BUCKETS - 1)
    }
}

/// One worker's counters. All only grow, except those named `…_now`.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions closed, by [`CloseReason::ALL`].
    pub sessions_closed: [u64; CloseReason::COUNT],
    /// Sessions refused at the limit.
    pub sessions_refused: u64,
    /// Commands answered by the proxy itself.
    pub commands_local: u64,
    /// Commands refused by name, by arity, or by their keys.
    pub commands_refused: u64,
    /// Commands split or sent to all shards.
    pub commands_split: u64,
    /// Bytes from clients.
    pub client_bytes_in: u64,
    /// Bytes to clients.
    pub client_bytes_out: u64,
    /// Replies of dead sessions that were swallowed.
    pub replies_swallowed: u64,
    /// Writes to backends; with `commands` of the shards this gives commands per backend write.
    pub backend_writes: u64,
    /// Bytes to backends.
    pub backend_bytes_out: u64,
    /// Bytes from backends.
    pub backend_bytes_in: u64,
    /// Lanes dialled.
    pub lanes_dialled: u64,
    /// Lanes that opened.
    pub lanes_opened: u64,
    /// Lanes lost, or closed because nobody needed them.
    pub lanes_closed: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Commands sent again after a lane died before they could have been executed, or after a refusal.
    pub commands_resent: u64,
    /// Commands answered `outcome unknown`.
    pub outcomes_unknown: u64,
    /// EVALSHA turned into EVAL after -NOSCRIPT.
    pub scripts_healed: u64,
    /// Huge commands that went to their server in pieces.
    pub commands_streamed: u64,
    /// Huge replies that went to their client in pieces.
    pub replies_streamed: u64,
    /// Lanes that took no more commands because of a huge reply or a slow reader.
    pub lanes_set_aside: u64,
    /// Commands that may block, taken.
    pub commands_blocking: u64,
    /// Times that a blocked command was taken back from its server for a hold, to be sent again.
    pub commands_parked: u64,
    /// Blocked commands whose client left while they were at a server: the most that can have been popped for nobody.
    pub blocked_abandoned: u64,
    /// CLIENT UNBLOCK that a server refused: a hold then cannot drain before the command ends by itself.
    pub unblocks_refused: u64,
    /// Each shard of each pool.
    pub shards: Vec<ShardCounters>,
}

/// Counters of one shard in one worker.
#[derive(Clone, Debug, Default)]
pub struct ShardCounters {
    /// Which pool.
    pub pool: PoolIndex,
    /// Which shard.
    pub shard: ShardIndex,
    /// Commands sent to its backends.
    pub commands: u64,
    /// Error replies of its backends that were passed on, and errors about them that the proxy made.
    pub errors: u64,
    /// Time from arrival to reply, by [`LatencyClass::ALL`].
    pub latency: [Histogram; LatencyClass::COUNT],
    /// Holds begun.
    pub holds: u64,
    /// Holds that ended because the lease did.
    pub holds_lapsed: u64,
    /// Times that this shard stopped serving because control did not answer, or said so, while an upgrade was armed.
    pub leases_lapsed: u64,
    /// Holds that ended because too many sessions waited.
    pub holds_over_sessions: u64,
    /// Holds that ended because too many bytes waited.
    pub holds_over_bytes: u64,
    /// Commands answered `not executed` because a prepared gate waited too long.
    pub not_executed: u64,
    /// In flight now.
    pub in_flight_now: u64,
    /// Sessions that wait for the gate now.
    pub held_sessions_now: u64,
    /// Longest time from a command's arrival to its reply since the last HOLD.
    pub longest_gap_us: u64,
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn a_bucket_holds_what_its_upper_bound_says() {
        for us in (0..10_000).chain([1 << 20, (1 << 20) + 1, 60_000_000]) {
            let bucket = Histogram::bucket(us);
            assert!(us <= Histogram::upper_us(bucket), "{us} in {bucket}");
            assert!(
                bucket == 0 || us > Histogram::upper_us(bucket - 1),
                "{us} in {bucket}"
            );
        }
        assert_eq!(Histogram::bucket(u64::MAX), Histogram::BUCKETS - 1);
    }

    #[test]
    fn quantiles_come_from_counts() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(990), 0);
        histogram.record(10, 98);
        histogram.record(1_000, 2);
        assert_eq!(
            histogram.quantile_us(500),
            Histogram::upper_us(Histogram::bucket(10))
        );
        assert_eq!(
            histogram.quantile_us(990),
            Histogram::upper_us(Histogram::bucket(1_000))
        );
        assert_eq!(histogram.sum_us, 2_980);
    }
}
