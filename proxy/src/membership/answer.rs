//! What control answers to UPGRADE REGISTER, read into values. Pure.
//!
//! ```text
//!  lease-ms 10000 term 7
//!  sessions s1 epoch 3 armed
//!  sessions s2 epoch - open
//! ```
//! docs/gate.md is the contract.

use std::time::Duration;

use understudy_net::Value;

use crate::worker::Lease;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// How long it may be believed, from the moment of the question.
    pub(super) lease: Duration,
    /// The last attempt that armed anything when it was given.
    pub(super) term: u64,
    pub(super) shards: Vec<Told>,
}

/// What it says of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) pool: String,
    pub(super) shard: String,
    /// The epoch that holds; `None` when control has none.
    pub(super) epoch: Option<u64>,
    pub(super) lease: Lease,
}

impl Answer {
    /// Reads the lines. Words behind those that are known are left alone: a newer control may say more.
    pub(super) fn read(value: &Value) -> Result<Answer, String> {
        let lines = value.as_slice().ok_or("it is not an array")?;
        let mut lines = lines
            .iter()
            .map(|line| line.as_str_lossy().unwrap_or_default());
        let head = lines.next().ok_or("it is empty")?;
        let head: Vec<&str> = head.split(' ').collect();
        let ["lease-ms", lease, "term", term, ..] = head[..] else {
            return Err("its first line names no lease and term".to_owned());
        };
        let mut shards = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [pool, shard, "epoch", epoch, word, ..] = words[..] else {
                return Err(format!("'{line}' names no shard"));
            };
            shards.push(Told {
                pool: pool.to_owned(),
                shard: shard.to_owned(),
                epoch: match epoch {
                    "-" => None,
                    digits => Some(number(digits)?),
                },
                lease: match word {
                    "open" => Lease::Over,
                    "armed" => Lease::Armed,
                    "wait" => Lease::Wait,
                    other => return Err(format!("'{other}' is no state of a shard")),
                },
            });
        }
        Ok(Answer {
            lease: Duration::from_millis(number(lease)?),
            term: number(term)?,
            shards,
        })
    }
}

fn number(digits: &str) -> Result<u64, String> {
    digits
        .parse()
        .map_err(|_not| format!("'{digits}' is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Answer, String> {
        let lines = lines.iter().map(|line| Value::text(*line)).collect();
        Answer::read(&Value::Array(lines))
    }

    #[test]
    fn an_answer_says_what_holds_of_each_shard() {
        let answer = read(&[
            "lease-ms 10000 term 7 colour red",
            "p s1 epoch 3 armed",
            "p s2 epoch - open",
            "q s1 epoch 0 wait more",
        ])
        .unwrap();
        assert_eq!((answer.lease, answer.term), (Duration::from_secs(10), 7));
        let said = answer.shards.iter().map(|told| (told.epoch, told.lease));
        let expect = [
            (Some(3), Lease::Armed),
            (None, Lease::Over),
            (Some(0), Lease::Wait),
        ];
        assert!(said.eq(expect));
    }

    #[test]
    fn what_is_not_understood_is_no_answer() {
        for lines in [
            &[][..],
            &["OK"],
            &["lease-ms x term 7"],
            &["lease-ms 1 term 7", "p s1"],
            &["lease-ms 1 term 7", "p s1 epoch 1 perhaps"],
        ] {
            assert!(read(lines).is_err(), "{lines:?}");
        }
        assert!(Answer::read(&Value::ok()).is_err());
    }
}
