//! How many snapshots of a shard stay: the newest of those that are whole.
//!
//! - Called only for a shard that is at an end: nothing that an upgrade could still want is looked at.
//! - The newest stay, and what is damaged does not count: the last good one is never removed.
//! - What names no shard (it was taken by hand, or by a version before this one) is left alone.
//! - A removal that fails is a warning: the upgrade has ended well, and the next end tries again.

use std::fs;

use super::local::LocalSnapshots;
use super::record::SnapshotRecord;

impl LocalSnapshots {
    /// Removes all but the newest `keep` whole snapshots of a shard.
    pub fn keep_newest(&self, pool: &str, shard: &str, keep: usize) {
        let records = match self.list() {
            Ok(records) => records,
            Err(error) => {
                return tracing::warn!(pool, shard, %error, "old snapshots are not removed");
            }
        };
        for id in spare(&records, pool, shard, keep, is_whole) {
            match self.remove(&id) {
                Ok(()) => tracing::info!(pool, shard, id, "an old snapshot is removed"),
                Err(error) => tracing::warn!(pool, shard, id, %error, "remove an old snapshot"),
            }
        }
    }
}

/// The file is there, as long as it was. It was read back when it was taken, and again before the cutover that it guarded.
fn is_whole(record: &SnapshotRecord) -> bool {
    fs::metadata(&record.path).is_ok_and(|file| file.is_file() && file.len() == record.bytes)
}

/// Those that are older than the newest `keep` whole ones of their shard. At least one always stays.
fn spare(
    records: &[SnapshotRecord],
    pool: &str,
    shard: &str,
    keep: usize,
    is_whole: impl Fn(&SnapshotRecord) -> bool,
) -> Vec<String> {
    let mut of_shard: Vec<&SnapshotRecord> = records
        .iter()
        .filter(|record| record.pool == pool && record.shard == shard && !shard.is_empty())
        .collect();
    of_shard.sort_by_key(|record| std::cmp::Reverse(record.taken_at_unix_ms));
    let mut whole = 0;
    let older = of_shard.into_iter().skip_while(|record| {
        let stays = whole < keep.max(1);
        whole += usize::from(is_whole(record));
        stays
    });
    older.map(|record| record.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::How;

    fn record(shard: &str, taken_at_unix_ms: u64) -> SnapshotRecord {
        SnapshotRecord {
            id: format!("{shard}-{taken_at_unix_ms}"),
            label: "run".into(),
            pool: "p".into(),
            shard: shard.into(),
            path: "gone".into(),
            bytes: 1,
            keys: 1,
            checksum: None,
            digest: String::new(),
            server: "h:1".into(),
            run_id: String::new(),
            version: String::new(),
            replid: String::new(),
            offset: None,
            taken_at_unix_ms,
            how: How::OverTheWire,
        }
    }

    #[track_caller]
    fn check(keep: usize, damaged: &[u64], expect: &[&str]) {
        let others = [record("s2", 1), record("", 1)];
        let records: Vec<SnapshotRecord> = [3, 1, 5, 2, 4].map(|at| record("s1", at)).into();
        let records = [records, others.into()].concat();
        let is_whole = |record: &SnapshotRecord| !damaged.contains(&record.taken_at_unix_ms);
        assert_eq!(spare(&records, "p", "s1", keep, is_whole), expect);
    }

    #[test]
    fn the_newest_of_the_shard_stay() {
        check(3, &[], &["s1-2", "s1-1"]);
        check(5, &[], &[]);
        check(9, &[], &[]);
    }

    #[test]
    fn damaged_ones_do_not_count_and_the_last_good_one_stays() {
        check(1, &[], &["s1-4", "s1-3", "s1-2", "s1-1"]);
        check(0, &[], &["s1-4", "s1-3", "s1-2", "s1-1"]);
        check(1, &[5, 4], &["s1-2", "s1-1"]);
        check(2, &[4], &["s1-2", "s1-1"]);
        check(1, &[5, 4, 3, 2, 1], &[]);
    }

    #[test]
    fn what_names_no_shard_is_left_alone() {
        let records = [record("", 1), record("", 2)];
        assert!(spare(&records, "p", "", 1, |_| true).is_empty());
    }
}
