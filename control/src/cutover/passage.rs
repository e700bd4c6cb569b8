//! One shard's way from one server to another, as the effects that make it. The cutover and the rollback are the same
//! passage with the servers exchanged.

use crate::effect::{Effect, Gate};
use crate::journal::{Direction, GuardPlace};

/// From where to where, on behalf of which attempt.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    pub(crate) pool: String,
    pub(crate) shard: String,
    /// The route's epoch before it.
    pub(crate) epoch: u64,
    pub(crate) term: u64,
    pub(crate) direction: Direction,
    /// The server that loses its role.
    pub(crate) from: String,
    /// The server that gains it.
    pub(crate) to: String,
    /// Whom `to` follows now, and again after an undo: `from` itself, or the guard in front of it.
    pub(crate) followed: GuardPlace,
    /// The guard that `from` follows from its fence on.
    pub(crate) guard: GuardPlace,
    pub(crate) hold_ms: u64,
}

/// The steps of a passage, by name, in their order, from before the hold. The commit is the journal's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Arm,
    Hold,
    Pause,
    Prepare,
    Fence,
    Promote,
    Unpark,
    Commit,
    Switch,
    Release,
}

impl Step {
    pub(crate) const ALL: [Step; 10] = [
        Step::Arm,
        Step::Hold,
        Step::Pause,
        Step::Prepare,
        Step::Fence,
        Step::Promote,
        Step::Unpark,
        Step::Commit,
        Step::Switch,
        Step::Release,
    ];
}

impl Passage {
    fn gate(&self, epoch: u64) -> Gate {
        Gate {
            pool: self.pool.clone(),
            shard: self.shard.clone(),
            epoch,
            term: self.term,
        }
    }

    /// What a step does.
    pub(crate) fn effect(&self, step: Step) -> Effect {
        let gate = self.gate(self.epoch);
        match step {
            Step::Arm => Effect::ArmProxies { gate },
            Step::Hold => Effect::Hold {
                gate,
                lease_ms: self.hold_ms,
            },
            Step::Pause => Effect::Pause {
                server: self.from.clone(),
                pause_ms: self.hold_ms,
            },
            Step::Prepare => Effect::Prepare { gate },
            Step::Fence => Effect::Fence {
                server: self.from.clone(),
                guard: self.guard.clone(),
            },
            Step::Promote => Effect::Promote {
                server: self.to.clone(),
            },
            Step::Unpark => Effect::Unpark {
                server: self.from.clone(),
            },
            Step::Commit => Effect::Commit {
                gate,
                url: self.to.clone(),
            },
            Step::Switch => Effect::Switch {
                gate,
                url: self.to.clone(),
            },
            Step::Release => Effect::Release {
                gate: self.gate(self.epoch + 1),
            },
        }
    }

    /// All steps, in their order.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        Step::ALL
            .into_iter()
            .map(|step| self.effect(step))
            .collect()
    }

    /// Undo, first: the server that was to take over follows again.
    pub(crate) fn demote(&self) -> Effect {
        Effect::Demote {
            server: self.to.clone(),
            primary: self.followed.clone(),
        }
    }

    /// Undo, second: the server that was to lose its role has it again.
    pub(crate) fn unfence(&self) -> Effect {
        Effect::Unfence {
            server: self.from.clone(),
        }
    }

    /// Undo, last: the gates open to where they were.
    pub(crate) fn release_back(&self) -> Effect {
        Effect::Release {
            gate: self.gate(self.epoch),
        }
    }

    /// What a person would type to undo it, in order.
    pub(crate) fn by_hand(&self) -> Vec<String> {
        let line = |url: &str, command: &str| format!("redis-cli -u {url} {command}");
        vec![
            line(
                &self.to,
                &format!("REPLICAOF {} {}", self.followed.host, self.followed.port),
            ),
            line(&self.from, "REPLICAOF NO ONE"),
            line(&self.from, "CLIENT UNPAUSE"),
            format!(
                "redis-cli -p ADMIN-PORT PROXY RELEASE {} {} {} {}",
                self.pool, self.shard, self.epoch, self.term
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage() -> Passage {
        Passage {
            pool: "p".into(),
            shard: "s1".into(),
            epoch: 3,
            term: 9,
            direction: Direction::Forward,
            from: "redis://h:1".into(),
            to: "redis://h:2".into(),
            followed: GuardPlace {
                host: "h".into(),
                port: 1,
            },
            guard: GuardPlace {
                host: "g".into(),
                port: 7,
            },
            hold_ms: 100,
        }
    }

    #[test]
    fn the_nine_steps_keep_their_order() {
        let lines: Vec<String> = passage()
            .effects()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "arm p/s1 epoch 3 in proxies that registered",
                "hold p/s1 epoch 3 for at most 100 ms until drained",
                "pause writes on redis://h:1 for at most 100 ms",
                "prepare p/s1 epoch 3",
                "fence redis://h:1 behind the guard at g:7",
                "promote redis://h:2",
                "let redis://h:1 follow through the guard, by partial resync only",
                "commit p/s1 epoch 3 to redis://h:2 in the journal",
                "switch p/s1 epoch 3 to redis://h:2",
                "release p/s1 epoch 4",
            ]
        );
    }

    #[test]
    fn undoing_by_hand_demotes_first() {
        assert_eq!(
            passage().by_hand(),
            [
                "redis-cli -u redis://h:2 REPLICAOF h 1",
                "redis-cli -u redis://h:1 REPLICAOF NO ONE",
                "redis-cli -u redis://h:1 CLIENT UNPAUSE",
                "redis-cli -p ADMIN-PORT PROXY RELEASE p s1 3 9",
            ]
        );
    }
}
