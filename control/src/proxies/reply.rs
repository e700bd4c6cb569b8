//! What a proxy's admin endpoint answers, read into values. Pure.
//!
//! The forms are `docs/gate.md` and `PROXY POOLS JSON`, `PROXY STATS`.

use serde::Deserialize;

/// One gate, as HOLD, PREPARE, SWITCH, RELEASE and GATE answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GateReport {
    /// `open`, `held`, `prepared` or `switched`.
    pub(crate) gate: String,
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    /// Only from GATE.
    pub(crate) instance: Option<String>,
    /// Only from HOLD.
    pub(crate) waited_us: u64,
}

impl GateReport {
    /// Reads a flat array of field and value. Fields that are not known are left alone: a newer proxy may say more.
    pub(crate) fn read(fields: &[(String, String)]) -> Result<GateReport, String> {
        let mut report = GateReport::default();
        let mut seen = 0;
        for (field, value) in fields {
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_not| format!("'{field}' is '{value}', not a number"))
            };
            match field.as_str() {
                "gate" => {
                    report.gate.clone_from(value);
                    seen += 1;
                }
                "epoch" => {
                    report.epoch = number()?;
                    seen += 1;
                }
                "term" => report.term = number()?,
                "waited_us" => report.waited_us = number()?,
                "instance" => report.instance = Some(value.clone()),
                _ => {}
            }
        }
        if seen < 2 {
            return Err("the proxy's answer names no gate and epoch".to_owned());
        }
        Ok(report)
    }
}

/// `PROXY POOLS JSON`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pools {
    pub(crate) instance: String,
    pub(crate) pools: Vec<PoolReport>,
}

/// One pool of a proxy.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PoolReport {
    pub(crate) name: String,
    pub(crate) shards: Vec<ShardReport>,
}

/// One shard of a proxy.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ShardReport {
    pub(crate) name: String,
    pub(crate) epoch: u64,
    #[serde(default)]
    pub(crate) term: u64,
    pub(crate) gate: String,
    #[serde(default)]
    pub(crate) backend: String,
}

impl Pools {
    /// The shard of a pool, if this proxy serves it.
    pub(crate) fn shard(&self, pool: &str, shard: &str) -> Option<&ShardReport> {
        let pool = self.pools.iter().find(|candidate| candidate.name == pool)?;
        pool.shards.iter().find(|candidate| candidate.name == shard)
    }
}

/// `PROXY STATS pool shard`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) commands: u64,
    pub(crate) errors: u64,
    pub(crate) longest_gap_us: u64,
    pub(crate) latency_p99_us: u64,
}

impl Stats {
    /// Two proxies together: sums, and the worse of what cannot be summed.
    pub(crate) fn and(self, other: Stats) -> Stats {
        Stats {
            commands: self.commands.saturating_add(other.commands),
            errors: self.errors.saturating_add(other.errors),
            longest_gap_us: self.longest_gap_us.max(other.longest_gap_us),
            latency_p99_us: self.latency_p99_us.max(other.latency_p99_us),
        }
    }
}

/// An error reply of a gate, by its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateCode {
    StaleTerm,
    WrongEpoch,
    NotHeld,
    BusyGate,
    /// It waits for an answer to its own registration.
    NoLease,
    Other,
}

impl GateCode {
    /// The code of an error's text, without its leading `-`.
    pub(crate) fn of(text: &str) -> GateCode {
        match text.split(' ').next() {
            Some("STALETERM") => GateCode::StaleTerm,
            Some("WRONGEPOCH") => GateCode::WrongEpoch,
            Some("NOTHELD") => GateCode::NotHeld,
            Some("BUSYGATE") => GateCode::BusyGate,
            Some("NOLEASE") => GateCode::NoLease,
            Some(_) | None => GateCode::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<(String, String)> {
        let words: Vec<&str> = line.split(' ').collect();
        words
            .chunks(2)
            .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
            .collect()
    }

    #[test]
    fn a_gate_is_read_and_unknown_fields_are_left_alone() {
        let report = GateReport::read(&fields(
            "gate held epoch 3 term 7 in_flight 0 waited_us 812 colour red",
        ))
        .unwrap();
        assert_eq!(
            (
                report.gate.as_str(),
                report.epoch,
                report.term,
                report.waited_us
            ),
            ("held", 3, 7, 812)
        );
    }

    #[test]
    fn an_answer_without_gate_or_epoch_is_refused() {
        assert!(GateReport::read(&fields("term 7 x y")).is_err());
        assert!(
            GateReport::read(&fields("gate held epoch three"))
                .unwrap_err()
                .contains("not a number")
        );
    }

    #[test]
    fn error_codes_are_told_apart() {
        assert_eq!(
            GateCode::of("STALETERM shard s1 has seen term 9, this is 8"),
            GateCode::StaleTerm
        );
        assert_eq!(
            GateCode::of("WRONGEPOCH shard s1 is at epoch 4, not 3"),
            GateCode::WrongEpoch
        );
        assert_eq!(
            GateCode::of("NOTHELD worker 1 in flight 3"),
            GateCode::NotHeld
        );
        assert_eq!(
            GateCode::of("BUSYGATE shard s1 is prepared for term 7"),
            GateCode::BusyGate
        );
        assert_eq!(GateCode::of("ERR no pool 'x'"), GateCode::Other);
    }
}
