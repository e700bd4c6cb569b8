//! Data that lies in a shard before an upgrade: many keys whose content follows from their number, so that all of it can
//! be checked afterwards without remembering any of it.

use std::time::Duration;

use crate::error::LabError;
use crate::finding::{Finding, FindingKind};
use crate::random::Random;
use crate::wire::{Address, Reply, Wire, shorten};

/// Keys written or read before replies are awaited.
const BATCH: u64 = 128;
/// Every so many keys one is a hash instead of a string.
const HASH_EVERY: u64 = 16;
/// Findings named; more of them are the same story.
const NAMED_MAX: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// What to fill with.
#[derive(Clone, Debug)]
pub struct Fill {
    /// How many keys. Default: 10,000.
    pub keys: u64,
    /// Shortest value, in bytes. Default: 16.
    pub value_bytes_min: usize,
    /// Longest value, in bytes. Default: 512.
    pub value_bytes_max: usize,
    /// Start of every key. Default: `fill:`.
    pub prefix: String,
    /// Chooses the content. Default: 1.
    pub seed: u64,
}

impl Default for Fill {
    fn default() -> Fill {
        Fill {
            keys: 10_000,
            value_bytes_min: 16,
            value_bytes_max: 512,
            prefix: "fill:".to_owned(),
            seed: 1,
        }
    }
}

/// What an audit of the filled keys found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FillReport {
    /// Keys read.
    pub keys: u64,
    /// Keys that are on no server, or not as written.
    pub lost: u64,
    /// Keys on more than one server.
    pub misplaced: u64,
    /// The first of both.
    pub findings: Vec<Finding>,
}

impl FillReport {
    /// Everything is there, once, as written.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.misplaced == 0
    }
}

impl Fill {
    /// Writes all keys through `address`: a server, or a proxy. `done` hears how many are written.
    pub async fn write(
        &self,
        address: &Address,
        mut done: impl FnMut(u64),
    ) -> Result<(), LabError> {
        let mut wire = Wire::connect(address, TIMEOUT)
            .await
            .map_err(LabError::io(format!("connect to {address}")))?;
        let mut at = 0;
        while at < self.keys {
            let end = (at + BATCH).min(self.keys);
            let commands: Vec<Vec<Vec<u8>>> =
                (at..end).map(|number| self.command(number)).collect();
            for reply in wire
                .exchange(&commands, TIMEOUT)
                .await
                .map_err(LabError::io(format!("fill {address}")))?
            {
                if let Reply::Error(text) = reply {
                    return Err(LabError::Answer {
                        doing: format!("fill {address}"),
                        answer: text,
                    });
                }
            }
            at = end;
            done(at);
        }
        Ok(())
    }

    /// Reads every key on every server (the primaries, each directly) and compares.
    pub async fn audit(&self, servers: &[Address]) -> Result<FillReport, LabError> {
        let mut report = FillReport {
            keys: self.keys,
            ..FillReport::default()
        };
        let mut wires = Vec::new();
        for address in servers {
            wires.push(
                Wire::connect(address, TIMEOUT)
                    .await
                    .map_err(LabError::io(format!("connect to {address}")))?,
            );
        }
        let mut at = 0;
        while at < self.keys {
            let end = (at + BATCH).min(self.keys);
            let commands: Vec<Vec<Vec<u8>>> =
                (at..end).map(|number| self.question(number)).collect();
            let mut answers = Vec::new();
            for (wire, address) in wires.iter_mut().zip(servers) {
                answers.push(
                    wire.exchange(&commands, TIMEOUT)
                        .await
                        .map_err(LabError::io(format!("read {address}")))?,
                );
            }
            for (place, number) in (at..end).enumerate() {
                let there: Vec<&Reply> = answers
                    .iter()
                    .map(|replies| &replies[place])
                    .filter(|reply| **reply != Reply::Null)
                    .collect();
                self.judge(number, &there, &mut report);
            }
            at = end;
        }
        Ok(report)
    }

    fn judge(&self, number: u64, there: &[&Reply], report: &mut FillReport) {
        let value = self.value(number);
        let (kind, found) = match there {
            [Reply::Bulk(found)] if *found == value => return,
            [] => (FindingKind::Lost, "no such key".to_owned()),
            [other] => (FindingKind::Lost, other.to_string()),
            several => (
                FindingKind::Misplaced,
                format!("it on {} servers", several.len()),
            ),
        };
        if kind == FindingKind::Lost {
            report.lost += 1;
        } else {
            report.misplaced += 1;
        }
        if report.findings.len() < NAMED_MAX {
            let key = self.key(number);
            let expected = shorten(&value);
            report.findings.push(Finding {
                kind,
                connection: None,
                sequence: 0,
                key,
                expected,
                found,
                server: None,
                at_ms: 0,
            });
        }
    }

    fn key(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    fn is_hash(number: u64) -> bool {
        number % HASH_EVERY == HASH_EVERY - 1
    }

    fn command(&self, number: u64) -> Vec<Vec<u8>> {
        let (key, value) = (self.key(number).into_bytes(), self.value(number));
        if Fill::is_hash(number) {
            vec![b"HSET".to_vec(), key, b"field".to_vec(), value]
        } else {
            vec![b"SET".to_vec(), key, value]
        }
    }

    fn question(&self, number: u64) -> Vec<Vec<u8>> {
        let key = self.key(number).into_bytes();
        if Fill::is_hash(number) {
            vec![b"HGET".to_vec(), key, b"field".to_vec()]
        } else {
            vec![b"GET".to_vec(), key]
        }
    }

    /// Any bytes, so that nothing can rely on text.
    fn value(&self, number: u64) -> Vec<u8> {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let span = self.value_bytes_max.saturating_sub(self.value_bytes_min);
        let length = self.value_bytes_min + random.below(span + 1);
        let mut value = Vec::with_capacity(length + 8);
        while value.len() < length {
            value.extend_from_slice(&random.next().to_le_bytes());
        }
        value.truncate(length);
        value
    }
}
