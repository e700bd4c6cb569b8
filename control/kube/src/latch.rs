//! A failure is final: a backup system that makes a good one of a failed snapshot later is not believed.
//!
//! Velero finishes a failed Backup after its own restart, and Stash tries again by itself. What such an object holds then was
//! read at another time than the run says. Within one run the engine latches; over a restart of ours this record does.

use std::collections::BTreeMap;

use serde_json::json;
use understudy_control::snapshot::{
    ProviderError, ProviderErrorKind, SnapshotHandle, SnapshotWish,
};

use crate::cluster::{CallError, CallKind, Place};
use crate::engine::{LABEL_POOL, LABEL_RUN, LABEL_SHARD, label, object_name};
use crate::provider::called;
use crate::records::{LABEL_RECORD, Records, api};

/// Takes a snapshot unless the same run has failed for good before; a failure for good is recorded before it is told.
pub(crate) async fn latched<F>(
    records: Records<'_>,
    wish: &SnapshotWish,
    take: F,
) -> Result<SnapshotHandle, ProviderError>
where
    F: Future<Output = Result<SnapshotHandle, ProviderError>>,
{
    if let Some(text) = records
        .failure(wish)
        .await
        .map_err(|cause| called(&cause))?
    {
        return Err(ProviderError::failed(format!(
            "run {} has failed before, and what became of it later does not count: {text}",
            wish.run
        )));
    }
    let taken = take.await;
    if let Err(cause) = &taken
        && cause.kind == ProviderErrorKind::Failed
        && let Err(unkept) = records.fail(wish, &cause.text).await
    {
        tracing::warn!(run = %wish.run, "the failure could not be recorded: {unkept}");
    }
    taken
}

impl Records<'_> {
    /// Why this run failed for good, if it did. What is known of older runs of the shard is forgotten.
    async fn failure(&self, wish: &SnapshotWish) -> Result<Option<String>, CallError> {
        let labels = BTreeMap::from([
            (LABEL_RECORD.to_owned(), "failure".to_owned()),
            (LABEL_POOL.to_owned(), label(&wish.pool)),
            (LABEL_SHARD.to_owned(), label(&wish.shard)),
        ]);
        let api = api();
        let found = self
            .cluster
            .list(&api, Some(self.namespace), &labels)
            .await?;
        let mut failure = None;
        for record in found {
            let (run, text) = (&record["data"]["run"], &record["data"]["failed"]);
            if run.as_str() == Some(&wish.run) {
                failure = Some(text.as_str().unwrap_or_default().to_owned());
                continue;
            }
            let at = Place {
                api: &api,
                namespace: Some(self.namespace),
                name: record["metadata"]["name"].as_str().unwrap_or_default(),
            };
            // One that stays is in nobody's way.
            if let Err(cause) = self.cluster.delete(at, None).await {
                tracing::debug!("an old record of a failure stays: {cause}");
            }
        }
        Ok(failure)
    }

    /// Keeps why this run failed for good.
    async fn fail(&self, wish: &SnapshotWish, text: &str) -> Result<(), CallError> {
        let record = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "data": {"run": wish.run, "failed": text},
            "metadata": {
                "name": object_name(&format!("{}-failed", wish.run), 1),
                "namespace": self.namespace,
                "labels": {
                    LABEL_RECORD: "failure", LABEL_RUN: label(&wish.run),
                    LABEL_POOL: label(&wish.pool), LABEL_SHARD: label(&wish.shard),
                },
            },
        });
        match self
            .cluster
            .create(&api(), Some(self.namespace), &record)
            .await
        {
            Err(cause) if cause.kind == CallKind::Conflict => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use understudy_control::snapshot::Level;

    use super::*;
    use crate::cluster::memory::MemoryCluster;

    fn wish(run: &str) -> SnapshotWish {
        SnapshotWish {
            run: run.to_owned(),
            pool: "p".to_owned(),
            shard: "s1".to_owned(),
            server: "redis://redis-0:6379".to_owned(),
            recipe: "velero".to_owned(),
            level: Level::Crash,
        }
    }

    #[tokio::test]
    async fn snapshot_14_a_run_that_failed_stays_failed_over_a_restart() {
        let cluster = MemoryCluster::new();
        let records = Records {
            cluster: &cluster,
            namespace: "redis",
        };
        let first = wish("us-p-s1-1-1");
        let failed = latched(records, &first, async {
            Err(ProviderError::failed("backup x: PartiallyFailed"))
        });
        assert!(failed.await.is_err());
        // The system has made a good one of it meanwhile: nobody looks.
        let looked = Cell::new(false);
        let again = latched(records, &first, async {
            looked.set(true);
            Ok(SnapshotHandle::of_run(&first))
        });
        let cause = again.await.unwrap_err();
        assert_eq!(cause.kind, ProviderErrorKind::Failed);
        assert!(
            cause.text.contains("PartiallyFailed") && !looked.get(),
            "{cause}"
        );
        // A new run is a new chance, and forgets the old one.
        let second = wish("us-p-s1-2-1");
        let taken = latched(records, &second, async {
            Ok(SnapshotHandle::of_run(&second))
        });
        assert!(taken.await.is_ok());
        assert_eq!(records.failure(&first).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_says_nothing_about_the_snapshot_is_not_latched() {
        let cluster = MemoryCluster::new();
        let records = Records {
            cluster: &cluster,
            namespace: "redis",
        };
        let wish = wish("us-p-s1-1-1");
        for kind in [ProviderErrorKind::Unreachable, ProviderErrorKind::Denied] {
            let failed = latched(records, &wish, async {
                Err(ProviderError::new(kind, "the API server is away"))
            });
            assert!(failed.await.is_err());
        }
        let taken = latched(records, &wish, async { Ok(SnapshotHandle::of_run(&wish)) });
        assert!(taken.await.is_ok());
    }
}
