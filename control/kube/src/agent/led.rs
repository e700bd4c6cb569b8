//! Snapshots of a sidecar: read by everybody, taken and changed by the holder of the pool's Lease.
//!
//! - Before a run is begun it is written into the Lease. Who cannot write it begins nothing.
//! - Whoever takes the Lease over is asked for the same run again, finds its object by label, and goes on with it.
//! - Work ends where the Lease does: it is dropped in the middle, and found again by its run. A server that was held for a
//!   snapshot goes on by itself, at the end of the pause that it was given.

use std::sync::Arc;

use understudy_control::snapshot::{
    Answer, Preflight, Progress, ProviderError, ProviderErrorKind, Release, RestoreTo,
    SnapshotHandle, SnapshotProvider, SnapshotWish, Verified,
};

use super::election::Election;

/// The pools that share one Lease.
pub struct Led {
    /// Their names.
    pub pools: Vec<String>,
    /// Who acts for them.
    pub election: Arc<Election>,
    /// What acts; it writes by a [`super::FencedCluster`] of the same election.
    pub provider: Arc<dyn SnapshotProvider>,
}

/// The snapshots of every pool of a sidecar.
pub struct LedSnapshots {
    pools: Vec<Led>,
}

impl LedSnapshots {
    /// Never empty: a config has a pool.
    pub fn new(pools: Vec<Led>) -> Self {
        Self { pools }
    }

    fn of(&self, pool: &str) -> Result<&Led, ProviderError> {
        let named = |led: &&Led| led.pools.iter().any(|it| it == pool);
        // Another sidecar has it: the question goes on to the next one.
        self.pools.iter().find(named).ok_or_else(|| {
            let kind = ProviderErrorKind::NotLeader {
                holder: "-".to_owned(),
            };
            ProviderError::new(kind, format!("this sidecar has no pool '{pool}'"))
        })
    }

    /// Whoever reads for all pools.
    fn any(&self) -> Result<&Arc<dyn SnapshotProvider>, ProviderError> {
        let first = self.pools.first().map(|led| &led.provider);
        first.ok_or_else(|| ProviderError::misconfigured("this sidecar has no pool"))
    }

    /// The pool of a snapshot.
    async fn of_id(&self, id: &str) -> Result<&Led, ProviderError> {
        let all = self.any()?.list().await?;
        let found = all
            .iter()
            .find(|handle| handle.id == id || handle.run == id);
        match found {
            Some(handle) => self.of(&handle.pool),
            None => Err(ProviderError::misconfigured(format!(
                "no snapshot {id}; SNAPSHOT LIST names them"
            ))),
        }
    }
}

impl Led {
    /// Works for as long as the Lease is ours.
    async fn act<T>(
        &self,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        self.election.leads()?;
        tokio::select! {
            // First: who slept past the end does not take one more step.
            biased;
            () = self.election.lost() => Err(self.election.not_leader()),
            done = work => done,
        }
    }
}

impl SnapshotProvider for LedSnapshots {
    fn recipes(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async { self.any()?.recipes().await })
    }

    fn preflight<'a>(&'a self, wish: &'a SnapshotWish) -> Answer<'a, Preflight> {
        Box::pin(async { self.of(&wish.pool)?.provider.preflight(wish).await })
    }

    fn may_begin(&self, wish: &SnapshotWish) -> Result<(), ProviderError> {
        self.of(&wish.pool)?.election.leads()
    }

    fn take<'a>(
        &'a self,
        wish: &'a SnapshotWish,
        progress: Progress<'a>,
    ) -> Answer<'a, SnapshotHandle> {
        Box::pin(async move {
            let led = self.of(&wish.pool)?;
            led.act(async {
                if led.election.fence(&wish.run).await? {
                    progress("goes on with a run that was begun before".to_owned());
                }
                led.provider.take(wish, progress).await
            })
            .await
        })
    }

    fn check<'a>(&'a self, handle: &'a SnapshotHandle) -> Answer<'a, ()> {
        Box::pin(async { self.of(&handle.pool)?.provider.check(handle).await })
    }

    fn release<'a>(&'a self, handle: &'a SnapshotHandle, why: Release) -> Answer<'a, ()> {
        Box::pin(async move {
            let led = self.of(&handle.pool)?;
            led.act(led.provider.release(handle, why)).await
        })
    }

    fn list(&self) -> Answer<'_, Vec<SnapshotHandle>> {
        Box::pin(async { self.any()?.list().await })
    }

    fn show<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async { self.any()?.show(id).await })
    }

    fn restore<'a>(
        &'a self,
        id: &'a str,
        to: &'a RestoreTo,
        progress: Progress<'a>,
    ) -> Answer<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let led = self.of_id(id).await?;
            led.act(led.provider.restore(id, to, progress)).await
        })
    }

    fn verify<'a>(&'a self, id: &'a str, progress: Progress<'a>) -> Answer<'a, Verified> {
        Box::pin(async move {
            let led = self.of_id(id).await?;
            led.act(led.provider.verify(id, progress)).await
        })
    }

    fn delete<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let led = self.of_id(id).await?;
            led.act(led.provider.delete(id)).await
        })
    }
}
