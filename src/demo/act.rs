//! The acts of the demo: what an operator does, by the admin commands an operator has.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use understudy_lab::wire::Reply;
use understudy_lab::{Load, POOL, Scene, Server};

use super::progress::{PhaseLine, Progress};
use super::report::Cutover;

/// The longest any act may take.
const ACT_MAX: Duration = Duration::from_secs(180);
/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(10);

/// What the acts work with.
pub(crate) struct Acts<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) load: &'a Load,
    pub(crate) progress: &'a Progress,
}

/// What the acts learned.
#[derive(Debug, Default)]
pub(crate) struct Upgraded {
    pub(crate) cutovers: Vec<Cutover>,
    pub(crate) snapshots: Vec<String>,
}

impl Acts<'_> {
    /// UPGRADE START of these shards (numbers from 1), until each soaks.
    pub(crate) async fn upgrade(
        &self,
        shards: &[usize],
        accept: &str,
        upgraded: &mut Upgraded,
    ) -> anyhow::Result<()> {
        let mut command = vec![
            "UPGRADE".to_owned(),
            "START".to_owned(),
            POOL.to_owned(),
            "TO".to_owned(),
        ];
        for shard in shards {
            command.push(format!("s{shard}={}", self.scene.targets[shard - 1].url()));
        }
        if !accept.is_empty() {
            command.extend(["ACCEPT".to_owned(), accept.to_owned()]);
        }
        self.say(&command).await?;
        for shard in shards {
            self.watch(*shard, "upgrade", "soak", upgraded).await?;
        }
        Ok(())
    }

    /// UPGRADE ROLLBACK of one shard.
    pub(crate) async fn roll_back(
        &self,
        shard: usize,
        upgraded: &mut Upgraded,
    ) -> anyhow::Result<()> {
        self.say(&["UPGRADE", "ROLLBACK", POOL, &format!("s{shard}")])
            .await?;
        self.watch(shard, "roll back", "rolled_back", upgraded)
            .await
    }

    /// UPGRADE FINALIZE, until it is.
    pub(crate) async fn finalize(&self) -> anyhow::Result<()> {
        let phase = self.progress.phase("finalize");
        self.say(&["UPGRADE", "FINALIZE", POOL]).await?;
        let deadline = Instant::now() + ACT_MAX;
        loop {
            let status = self.scene.status().await?;
            if status["phase"] == "finalized" {
                break;
            }
            if Instant::now() > deadline {
                bail!("not finalized after {ACT_MAX:?}: {status:#}");
            }
            tokio::time::sleep(LOOK).await;
        }
        phase.done("the old servers stay fenced");
        Ok(())
    }

    /// What STATUS says of the way back, over all shards.
    pub(crate) async fn way_back(&self) -> anyhow::Result<String> {
        let status = self.scene.status().await?;
        let shards = status["shards"].as_array().cloned().unwrap_or_default();
        let each: Vec<String> = shards
            .iter()
            .map(|shard| {
                format!(
                    "{}: way back {}",
                    text(shard, "shard"),
                    text(shard, "way_back")
                )
            })
            .collect();
        Ok(each.join(", "))
    }

    /// Follows one shard through its phases, each with a line of its own, until it is in `goal`.
    async fn watch(
        &self,
        shard: usize,
        verb: &str,
        goal: &str,
        upgraded: &mut Upgraded,
    ) -> anyhow::Result<()> {
        let name = format!("s{shard}");
        let deadline = Instant::now() + ACT_MAX;
        let mut seen = String::new();
        let mut line: Option<PhaseLine> = None;
        // The cutover lies between the last look at which its first attempt had not begun and the first at which it was over.
        let mut cutover_from = Instant::now();
        let mut term_before = None;
        let mut begun = false;
        loop {
            let looked = Instant::now();
            let status = self.scene.status().await?;
            let Some(row) = row(&status, &name) else {
                bail!("STATUS has no shard {name}: {status:#}");
            };
            let phase = text(row, "phase");
            if phase != seen {
                if let Some(line) = line.take() {
                    line.done(&outcome(&seen, row));
                }
                if phase != goal {
                    line = Some(self.progress.phase(&format!("{verb} {name}: {phase}")));
                }
                seen.clone_from(&phase);
            }
            if let Some(line) = &line {
                show(line, &phase, row);
            }
            if phase == goal {
                upgraded
                    .snapshots
                    .push(format!("{name}: {}", text(row, "snapshot")));
                let cutover = self.cutover(&name, verb, cutover_from, row).await?;
                upgraded.cutovers.push(cutover);
                return Ok(());
            }
            // A rollback stays in soak until it is done; its attempt has a term of its own.
            let term = &row["term"];
            begun |= matches!(phase.as_str(), "cutover" | "committed")
                || term_before.get_or_insert_with(|| term.clone()) != term;
            if !begun {
                cutover_from = looked;
            }
            if matches!(phase.as_str(), "aborted" | "rolled_back" | "finalized")
                || Instant::now() > deadline
            {
                bail!("{verb} of {name} ended in '{phase}': {}", status["error"]);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn cutover(
        &self,
        shard: &str,
        verb: &str,
        from: Instant,
        row: &Value,
    ) -> anyhow::Result<Cutover> {
        let gap = self.load.longest_gap(from, Instant::now());
        let gap_ms = gap.map_or(0.0, |gap| gap.waited.as_secs_f64() * 1e3);
        let steps = self.steps(shard).await?;
        let phase = self.progress.phase(&format!("{verb} {shard}: switched"));
        phase.done(&format!(
            "longest gap any client saw {gap_ms:.1} ms; {steps}"
        ));
        Ok(Cutover {
            shard: shard.to_owned(),
            what: verb.to_owned(),
            longest_client_gap_ms: gap_ms,
            hold_ms: row["hold_ms"].as_f64().unwrap_or_default(),
            hold: steps,
        })
    }

    /// Where control says that the time of the last hold went.
    async fn steps(&self, shard: &str) -> anyhow::Result<String> {
        let answer = self
            .scene
            .call(&["UPGRADE", "REPORT", POOL, "JSON"])
            .await?;
        let report: Value = serde_json::from_slice(&answer.into_bytes().unwrap_or_default())
            .context("read REPORT")?;
        let notes = row(&report, shard).map(|row| row["notes"].clone());
        let notes = notes.as_ref().and_then(Value::as_array);
        let last = notes.into_iter().flatten().rev().find_map(|note| {
            let (_attempt, hold) = note.as_str()?.split_once(": hold ")?;
            Some(format!("hold {hold}"))
        });
        Ok(last.unwrap_or_default())
    }

    async fn say<A: AsRef<str>>(&self, command: &[A]) -> anyhow::Result<()> {
        let words: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
        match self.scene.call(&words).await? {
            Reply::Error(text) => bail!("{} was answered: {text}", words.join(" ")),
            _ => Ok(()),
        }
    }
}

/// What the servers say they are.
pub(crate) async fn versions(servers: &[Server]) -> anyhow::Result<Vec<String>> {
    let mut versions = Vec::new();
    for server in servers {
        let field = match server.info("valkey_version").await? {
            Some(version) => format!("valkey {version}"),
            None => format!(
                "redis {}",
                server
                    .info("redis_version")
                    .await?
                    .context("read redis_version")?
            ),
        };
        versions.push(field);
    }
    Ok(versions)
}

fn row<'a>(status: &'a Value, shard: &str) -> Option<&'a Value> {
    status["shards"]
        .as_array()?
        .iter()
        .find(|row| row["shard"] == shard)
}

fn text(row: &Value, field: &str) -> String {
    match &row[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn show(line: &PhaseLine, phase: &str, row: &Value) {
    let number = |field: &str| row[field].as_u64().unwrap_or_default();
    match phase {
        "replicate" => line.note(&format!("lag {} bytes", number("lag_bytes"))),
        "verify" => line.at(number("keys_verified"), number("keys_total"), "keys equal"),
        _ => {}
    }
}

fn outcome(phase: &str, row: &Value) -> String {
    match phase {
        "snapshot" => text(row, "snapshot"),
        "replicate" => format!("link {}", text(row, "link")),
        "verify" => format!(
            "{} keys equal, {} differences",
            text(row, "keys_verified"),
            text(row, "differences")
        ),
        _ => format!("epoch {}", text(row, "epoch")),
    }
}
