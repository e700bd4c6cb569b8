//! Equal servers: one asked directly, the other through a proxy. Or several behind the proxy, as shards.

use tempfile::TempDir;
use understudy_lab::wire::encode;
use understudy_lab::{Server, Version};

use crate::parity::peer::Peer;
use crate::parity::rows::Row;
use crate::parity::rules::{Rule, not_refused_by_name};
use crate::stage::{Stage, config, directory, server};

pub(super) struct Twins {
    pub(super) direct: Peer,
    pub(super) behind: Peer,
    /// Errors need only begin alike: texts of a version older than those that the proxy speaks as.
    pub(super) old_texts: bool,
    pub(super) differences: Vec<String>,
    pub(super) compared: usize,
    _stage: Stage,
    /// Behind the proxy.
    pub(super) shards: Vec<Server>,
    _direct: Server,
    _data: TempDir,
}

impl Twins {
    pub(super) async fn start(version: Version) -> Twins {
        Twins::of_shards(version, 1).await
    }

    pub(super) async fn of_shards(version: Version, count: usize) -> Twins {
        let (direct, mut shards, data) = (server(version).await, Vec::new(), directory());
        for _ in 0..count {
            shards.push(server(version).await);
        }
        let behind: Vec<&Server> = shards.iter().collect();
        let stage = Stage::start(config(data.path(), 1, &behind)).await;
        Twins {
            direct: Peer::of_server(&direct).await,
            behind: Peer::of_proxy(&stage).await,
            old_texts: false,
            differences: Vec::new(),
            compared: 0,
            shards,
            _direct: direct,
            _stage: stage,
            _data: data,
        }
    }

    pub(super) async fn resp3(mut self) -> Twins {
        for peer in [&mut self.direct, &mut self.behind] {
            assert!(!peer.call(&["HELLO", "3"]).await.starts_with(b"-"));
        }
        self
    }

    /// Runs the rows on both sides, so many in one write.
    pub(super) async fn run(&mut self, rows: &[Row], at_once: usize) {
        let mut rest = rows;
        while !rest.is_empty() {
            let most = rest.len().min(at_once);
            let until = (1..most).find(|at| rest[*at].waits()).unwrap_or(most);
            let (batch, later) = rest.split_at(until);
            self.batch(batch).await;
            rest = later;
        }
    }

    async fn batch(&mut self, rows: &[Row]) {
        let (mut to_server, mut to_proxy) = (Vec::new(), Vec::new());
        for row in rows {
            if row.rule != Rule::Ours {
                encode(&mut to_server, &row.fill(&self.direct.last));
            }
            encode(&mut to_proxy, &row.fill(&self.behind.last));
        }
        self.direct.send(&to_server).await;
        self.behind.send(&to_proxy).await;
        for row in rows {
            let got = self.behind.reply().await;
            let wrong = if row.rule == Rule::Ours {
                not_refused_by_name(&row.words, &got)
            } else {
                let expected = self.direct.reply().await;
                let errors = expected.starts_with(b"-") && got.starts_with(b"-");
                let rule = if self.old_texts && errors {
                    Rule::Error
                } else {
                    row.rule
                };
                rule.difference(&expected, &got)
            };
            self.compared += 1;
            self.differences
                .extend(wrong.map(|wrong| format!("{}\n{wrong}", row.text)));
        }
    }

    /// The same bytes to both sides, so many at once. What comes back is the caller's to read.
    pub(super) async fn say(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            self.direct.send(piece).await;
            self.behind.send(piece).await;
        }
    }

    #[track_caller]
    pub(super) fn expect_none(&self) {
        assert!(
            self.differences.is_empty(),
            "{} of {} replies differ:\n{}",
            self.differences.len(),
            self.compared,
            self.differences.join("\n")
        );
    }
}
