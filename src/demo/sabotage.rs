//! Breaks the demo on purpose, from outside: the product itself has no code that could break it.
//!
//! | name | what is done | what the ledger must name |
//! |---|---|---|
//! | no-fence | after the switch the old server's fence is lifted by hand, again whenever control has put it back, until writers beside the proxy have been acknowledged there | writes lost |
//! | early-release | the switch is driven by hand, as a script without evidence would: the target is promoted while it lags | writes lost |
//! | double-apply | a relay before the proxy sends a write twice, one that nothing takes away again | a write doubled, or a misplaced reply |
//! | swap-replies | a relay before the proxy swaps two replies of one connection, until a client can tell | a wrong reply |

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::bail;
use understudy_lab::wire::{Address, Reply};
use understudy_lab::{
    AuditOptions, Ledger, Load, LoadOptions, POOL, Relay, RelayMode, Report, Scene, Server,
};

use super::act::{Acts, Upgraded};
use crate::cli::Sabotage;

/// How long the target is kept behind before it is promoted too early.
const BEHIND_COMMANDS: u64 = 2_000;
/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at something that only the servers know.
const LOOK: Duration = Duration::from_millis(5);
/// Writes beside the proxy that the old server acknowledges after its fence was lifted.
const BESIDE_WRITES: u64 = 200;
/// Commands a second of each writer beside the proxy.
const BESIDE_RATE: u32 = 200;

/// Who breaks the demo; idle without `--sabotage`.
pub(crate) struct Saboteur {
    what: Option<Sabotage>,
    relay: Option<Relay>,
    beside: Option<Load>,
    ledger_beside: Option<Ledger>,
}

impl Saboteur {
    pub(crate) async fn new(what: Option<Sabotage>, scene: &Scene) -> anyhow::Result<Saboteur> {
        let mut saboteur = Saboteur {
            what,
            relay: None,
            beside: None,
            ledger_beside: None,
        };
        match what {
            Some(Sabotage::DoubleApply | Sabotage::SwapReplies) => {
                let target = scene.clients(0).to_string();
                saboteur.relay = Some(Relay::start(&target, RelayMode::Frames).await?);
            }
            Some(Sabotage::NoFence) => {
                let options = LoadOptions {
                    connections: 2,
                    rate: NonZeroU32::new(BESIDE_RATE),
                    prefix: "beside:".to_owned(),
                    seed: 2,
                    ..LoadOptions::default()
                };
                saboteur.beside = Some(Load::start(&[scene.sources[0].address()], &options));
            }
            Some(Sabotage::EarlyRelease) | None => {}
        }
        Ok(saboteur)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.what.is_none()
    }

    /// Where the load connects: the proxy, or the relay before it.
    pub(crate) fn addresses(&self, scene: &Scene) -> Vec<Address> {
        self.relay
            .as_ref()
            .map_or_else(|| scene.all_clients(), |relay| vec![relay.address()])
    }

    /// Blockers that the operator accepts; a writer beside the proxy is one.
    pub(crate) fn accepted_blockers(&self) -> &'static str {
        match self.what {
            Some(Sabotage::NoFence) => "other-writers",
            _ => "",
        }
    }

    pub(crate) fn replaces_the_upgrade(&self) -> bool {
        self.what == Some(Sabotage::EarlyRelease)
    }

    /// What is broken once the shards have been switched.
    pub(crate) async fn after_the_switch(
        &mut self,
        scene: &Scene,
        load: &Load,
    ) -> anyhow::Result<()> {
        match (self.what, &self.relay) {
            (Some(Sabotage::DoubleApply), Some(relay)) => {
                // A counter that all connections share: a doubled INCR of one's own may be deleted before it is seen.
                relay.double_next("INCR", "shared:");
                until("a doubled write", || relay.doubled() > 0).await
            }
            (Some(Sabotage::SwapReplies), Some(relay)) => {
                let mut ordered = 0;
                until("a reply swapped with one unlike it", || {
                    if relay.swapped() == ordered {
                        relay.swap_next_replies();
                        ordered += 1;
                    }
                    load.progress().wrong_replies > 0
                })
                .await
            }
            _ => self.lift_the_fence(scene).await,
        }
    }

    /// The old server accepts writes again, and somebody still writes to it. Control looks at the fence again and again
    /// while the shard soaks, and restores it, perhaps before one write has passed: it is lifted until enough have.
    async fn lift_the_fence(&mut self, scene: &Scene) -> anyhow::Result<()> {
        let Some(beside) = self.beside.take() else {
            return Ok(());
        };
        let goal = beside.progress().acknowledged_writes + BESIDE_WRITES;
        let deadline = Instant::now() + LIMIT;
        while beside.progress().acknowledged_writes < goal {
            if Instant::now() > deadline {
                bail!("the writers beside the proxy were not served");
            }
            scene.sources[0].call(&["REPLICAOF", "NO", "ONE"]).await?;
            tokio::time::sleep(LOOK).await;
        }
        self.ledger_beside = Some(beside.stop().await);
        Ok(())
    }

    /// The switch of shard 1 as a script would do it that waits for nothing: the target is promoted while it lags.
    pub(crate) async fn upgrade_without_evidence(
        &self,
        acts: &Acts<'_>,
    ) -> anyhow::Result<Upgraded> {
        let phase = acts.progress.phase("switch by hand, too early");
        for shard in 0..acts.scene.sources.len() {
            let (source, target) = (&acts.scene.sources[shard], &acts.scene.targets[shard]);
            let link = Relay::start(&source.address().to_string(), RelayMode::Bytes).await?;
            let port = link.port().to_string();
            target.call(&["REPLICAOF", "127.0.0.1", &port]).await?;
            wait_for_link(target).await?;
            link.stall(true);
            if !acts.load.served(BEHIND_COMMANDS, LIMIT).await {
                bail!("clients were not served while the target fell behind");
            }
            switch_by_hand(acts.scene, shard + 1, target).await?;
        }
        phase.done("targets promoted while they lagged");
        Ok(Upgraded::default())
    }

    /// What the writers beside the proxy have lost, read on the servers that serve now.
    pub(crate) async fn audit(&self, scene: &Scene) -> anyhow::Result<Option<Report>> {
        let Some(ledger) = &self.ledger_beside else {
            return Ok(None);
        };
        let servers = [scene.targets[0].address()];
        Ok(Some(
            ledger.audit(&servers, &AuditOptions::default()).await?,
        ))
    }
}

/// HOLD, PREPARE, promote, SWITCH, RELEASE, with no look at what the target has applied.
async fn switch_by_hand(scene: &Scene, shard: usize, target: &Server) -> anyhow::Result<()> {
    let shard = format!("s{shard}");
    let url = target.url();
    gate(scene, &["HOLD", POOL, &shard, "0", "1", "1000"]).await?;
    gate(scene, &["PREPARE", POOL, &shard, "0", "1"]).await?;
    target.call(&["REPLICAOF", "NO", "ONE"]).await?;
    gate(scene, &["SWITCH", POOL, &shard, "0", "1", "1", &url]).await?;
    gate(scene, &["RELEASE", POOL, &shard, "1", "1"]).await
}

async fn gate(scene: &Scene, words: &[&str]) -> anyhow::Result<()> {
    let mut command = vec!["PROXY"];
    command.extend(words);
    match scene.call(&command).await? {
        Reply::Error(text) => bail!("{} was answered: {text}", command.join(" ")),
        _ => Ok(()),
    }
}

async fn wait_for_link(target: &Server) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while target.info("master_link_status").await?.as_deref() != Some("up") {
        if Instant::now() > deadline {
            bail!("the target's link did not come up");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn until(what: &str, mut happened: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !happened() {
        if Instant::now() > deadline {
            bail!("{what} did not come about");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
