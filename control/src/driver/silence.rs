//! An attempt that a silent proxy ended: is it dead? Then the next attempt waits until it is forgotten, and goes through.
//!
//! Called behind the undo, when no client is held.

use std::time::{Duration, Instant};

use super::{Driver, Failure};
use crate::proxies::Tenant;
use crate::world::Looked;

/// Between two looks at a proxy whose Pod is gone and whose lease still runs.
const LOOK: Duration = Duration::from_millis(200);

/// Beyond a lease and a tenth of it: what asking may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Driver {
    /// What an attempt failed of, with what the API server says of the proxy that it names. Where its Pod is gone, this waits
    /// until it is forgotten, and the failure has passed.
    pub(super) async fn weigh_silence(&mut self, failure: Failure) -> Failure {
        let (Failure::Failed(text) | Failure::Passing(text)) = &failure else {
            return failure;
        };
        let text = text.clone();
        let lease = self.world.proxies.registry().lease();
        let deadline = Instant::now() + lease + lease / 10 + PATIENCE;
        loop {
            let Some(tenant) = self.named(&text) else {
                return failure;
            };
            let waits = match self.world.look_after(&tenant).await {
                Looked::Stays(said) if text.contains(&said) => return failure,
                Looked::Stays(said) => return Failure::Failed(format!("{text}; {said}")),
                Looked::Forgotten => {
                    self.record.note(format!(
                        "{text}; that proxy was forgotten: its Pod {} is gone",
                        tenant.home.pod
                    ));
                    self.waits_for(None);
                    return Failure::Passing(text);
                }
                Looked::Changed => return Failure::Passing(text),
                Looked::Soon(why) => why,
            };
            if Instant::now() > deadline {
                return Failure::Failed(format!("{text}; {waits}"));
            }
            self.waits_for(Some(format!("proxy {}: {waits}", tenant.id)));
            if let Err(stopped) = self.pause(LOOK).await {
                return stopped;
            }
        }
    }

    /// The proxy in a Pod that a failure names, by its id or by where it is dialled.
    fn named(&self, text: &str) -> Option<Tenant> {
        let tenants =
            (self.world.proxies.registry()).tenants(Some(&self.record.pool), Instant::now());
        let place = |it: &Tenant| {
            it.address
                .split_once("://")
                .map(|(_, place)| place.to_owned())
        };
        tenants.into_iter().find(|it| {
            text.contains(&it.id) || place(it).is_some_and(|place| text.contains(&place))
        })
    }
}
