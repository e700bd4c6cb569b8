//! A server belongs to one shard: as its primary, or as the one that is to become it.
//!
//! Two shards whose data went to one target would overwrite each other, and a target that serves another shard would lose
//! what that shard holds. So a target that anybody else has a claim on is never accepted, whatever it is called: servers are
//! compared by run_id where both were asked, and by address otherwise.

use understudy_config::BackendUrl;

use super::blocker::{Acceptable, Blocker};
use super::facts::ShardFacts;

/// A server that some shard has a claim on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The claiming shard, as `pool/shard`.
    pub shard: String,
    /// What it is there, such as "the primary".
    pub part: &'static str,
    /// URL without password.
    pub url: String,
    /// Which run of the server, where it was asked.
    pub run_id: Option<String>,
}

impl Claim {
    fn is_of(&self, url: &str, run_id: &str) -> bool {
        if self.run_id.as_deref() == Some(run_id) {
            return true;
        }
        match (self.url.parse::<BackendUrl>(), url.parse::<BackendUrl>()) {
            (Ok(claimed), Ok(other)) => claimed.same_server(&other),
            (Ok(_) | Err(_), _) => self.url == url,
        }
    }
}

/// What others' claims on the target of `pool/shard` block.
pub(crate) fn claimed(facts: &ShardFacts, shard: &str, claims: &[Claim]) -> Vec<Blocker> {
    let target = &facts.target;
    let others = claims
        .iter()
        .filter(|claim| claim.shard != shard && claim.is_of(&target.url, &target.standing.run_id));
    others
        .map(|claim| Blocker {
            code: "target-claimed".to_owned(),
            shard: facts.shard.clone(),
            text: format!(
                "the target {} is {} of shard {}",
                target.url, claim.part, claim.shard
            ),
            remedy: "name a server of its own for each shard".to_owned(),
            acceptable: Acceptable::No,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(url: &str, run_id: Option<&str>) -> Claim {
        Claim {
            shard: "p/s2".to_owned(),
            part: "the primary",
            url: url.to_owned(),
            run_id: run_id.map(str::to_owned),
        }
    }

    #[test]
    fn a_server_is_known_by_its_run_or_by_its_address() {
        let by_run = claim("redis://elsewhere:1", Some("r1"));
        assert!(by_run.is_of("redis://127.0.0.1:7001", "r1"));
        assert!(!by_run.is_of("redis://127.0.0.1:7001", "r2"));
        let by_address = claim("redis://127.0.0.1:7001", None);
        assert!(by_address.is_of("redis://user@127.0.0.1:7001", "r1"));
        assert!(!by_address.is_of("redis://127.0.0.1:7002", "r1"));
    }
}
