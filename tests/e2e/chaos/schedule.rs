//! What happens to whom, and when: a list drawn from a seed. Pure, so that one number repeats it.
//!
//! A round is an upgrade or a piece of one: START, a verb at what it leads to, perhaps one more in soak, each with faults
//! around it. What a verb finds when its moment comes depends on what came before; a refusal is an answer too.

use std::fmt;
use std::time::Duration;

use understudy_control::EFFECTS;
use understudy_lab::{Random, Version};

/// Who is hurt. Shards and proxies count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Control,
    Proxy(usize),
    Source(usize),
    Target(usize),
}

/// An admin verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    StartAuto,
    StartManual,
    Cutover,
    Rehearse,
    Abort,
    Rollback,
    Finalize,
    Reload(usize),
}

/// What no schedule of a seed contains: the harm that the verdict must name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The source of this shard takes writes again in soak.
    LiftFence(usize),
    /// A write that was acknowledged is taken away on the target of this shard.
    LoseWrite(usize),
    /// Clients get errors that no fault explains.
    Errors(usize),
}

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Verb(Verb),
    /// SIGHUP to a proxy.
    HangUp(usize),
    /// SIGKILL of control or of a proxy, and its restart after so long.
    Kill(Who, Duration),
    /// SIGSTOP, and SIGCONT after so long.
    Freeze(Who, Duration),
    /// Every connection through the relay before this server, or before this proxy's admin port, is closed.
    Cut(Who),
    /// Nothing passes that relay for so long; then everything does.
    Stall(Who, Duration),
    /// The first is cut off from the second for so long; what was on its way is lost, or comes late.
    CutOff {
        whom: Who,
        from: Who,
        lasts: Duration,
        late: bool,
    },
    /// CLIENT KILL of everybody on a server.
    KillClients(Who),
    /// DEBUG SLEEP.
    Sleep(Who, Duration),
    /// Somebody ends whatever pause of clients there is.
    Unpause(Who),
    /// Control is killed and started again, and kills, stops or fails itself when it comes to this moment of an effect.
    Failpoint {
        effect: &'static str,
        moment: &'static str,
        act: &'static str,
    },
    /// SIGTERM, so that it saves, and a start with its data; only where that costs no acknowledged write.
    Restart(Who),
    Sabotage(Sabotage),
}

/// What a schedule waits for before it goes on; not for ever, and not if it cannot come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// CUTOVER, or an end, is next.
    Ready,
    /// Nothing goes on by itself, and all faults are over.
    Settled,
}

/// One line of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Begun so long after the line before, and not waited for.
    Do(Duration, Act),
    Wait(Until),
}

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) from: Version,
    pub(crate) to: Version,
    pub(crate) shards: usize,
    /// Whether proxies register, or control is told of them.
    pub(crate) registered: bool,
    pub(crate) lines: Vec<Line>,
}

/// Most faults around one verb.
const FAULTS_MAX: usize = 4;

impl Schedule {
    pub(crate) fn of(seed: u64, rounds: usize) -> Schedule {
        let mut random = Random::new(seed);
        let pairs = [
            (Version::Redis6_2_14, Version::Redis8_2_3),
            (Version::Redis6_2_14, Version::Redis8_2_3),
            (Version::Redis7_0_15, Version::Redis8_2_3),
            (Version::Valkey8_1_8, Version::Valkey9_1_2),
        ];
        let (from, to) = pairs[random.below(pairs.len())];
        let mut schedule = Schedule {
            seed,
            from,
            to,
            shards: 1 + random.below(2),
            registered: random.once_in(2),
            lines: Vec::new(),
        };
        for round in 0..rounds {
            schedule.round(&mut random, round + 1 == rounds);
        }
        schedule
    }

    fn round(&mut self, random: &mut Random, last: bool) {
        if random.once_in(3) {
            self.act(Duration::ZERO, failpoint(random));
            self.lines.push(Line::Wait(Until::Settled));
        }
        if random.once_in(4) {
            return self.storm(random);
        }
        let auto = random.once_in(3);
        let start = if auto {
            Verb::StartAuto
        } else {
            Verb::StartManual
        };
        self.act(Duration::ZERO, Act::Verb(start));
        // One upgrade in two is left alone until it may be switched: most faults belong around the switch.
        if random.once_in(2) {
            self.faults(random, 2, 600);
        }
        if !auto {
            self.lines.push(Line::Wait(Until::Ready));
            for _ in 0..self.shards {
                let verb = match random.below(10) {
                    0 => Verb::Abort,
                    1 => Verb::Rehearse,
                    _ => Verb::Cutover,
                };
                self.act(Duration::ZERO, Act::Verb(verb));
                let within_ms = if random.once_in(2) { 40 } else { 400 };
                self.faults(random, FAULTS_MAX, within_ms);
                if random.once_in(10) {
                    self.act(after(random, 60), Act::Verb(Verb::Abort));
                }
                self.lines.push(Line::Wait(Until::Settled));
            }
        }
        self.lines.push(Line::Wait(Until::Settled));
        if random.once_in(2) {
            self.faults(random, 2, 500);
            self.lines.push(Line::Wait(Until::Settled));
        }
        let back = match random.below(10) {
            0..=4 => Some(Verb::Rollback),
            5 | 6 if last => Some(Verb::Finalize),
            _ if last => None,
            _ => Some(Verb::Rollback),
        };
        if let Some(verb) = back {
            self.act(Duration::ZERO, Act::Verb(verb));
            let within_ms = if random.once_in(2) { 100 } else { 500 };
            self.faults(random, 2, within_ms);
        }
        self.lines.push(Line::Wait(Until::Settled));
    }

    /// Verbs and faults without a wait between them.
    fn storm(&mut self, random: &mut Random) {
        self.act(Duration::ZERO, Act::Verb(Verb::StartAuto));
        for _ in 0..6 + random.below(8) {
            let within_ms = if random.once_in(2) { 100 } else { 600 };
            let after = after(random, within_ms);
            let act = match random.below(12) {
                0 => Act::Verb(Verb::StartAuto),
                1 => Act::Verb(Verb::Cutover),
                2 => Act::Verb(Verb::Abort),
                3 => Act::Verb(Verb::Rollback),
                _ => self.fault(random),
            };
            self.act(after, act);
        }
        self.lines.push(Line::Wait(Until::Settled));
    }

    fn faults(&mut self, random: &mut Random, most: usize, within_ms: usize) {
        for _ in 0..random.below(most + 1) {
            let after = after(random, within_ms);
            let act = self.fault(random);
            self.act(after, act);
        }
    }

    fn fault(&self, random: &mut Random) -> Act {
        let server = |random: &mut Random| {
            let shard = random.below(self.shards);
            match random.once_in(2) {
                true => Who::Source(shard),
                false => Who::Target(shard),
            }
        };
        let process = |random: &mut Random| match random.below(3) {
            0 => Who::Control,
            other => Who::Proxy(other - 1),
        };
        let short = |random: &mut Random| Duration::from_millis(50 + random.below(350) as u64);
        let lasts = |random: &mut Random| match random.once_in(3) {
            true => Duration::from_millis(1_000 + random.below(2_000) as u64),
            false => short(random),
        };
        match random.below(21) {
            0..=2 => Act::Kill(Who::Control, short(random)),
            3 | 4 => Act::Kill(Who::Proxy(random.below(2)), short(random)),
            5..=7 => Act::Freeze(process(random), lasts(random)),
            8 | 9 => Act::Freeze(server(random), lasts(random)),
            10 => Act::Cut(server(random)),
            11 => Act::Stall(server(random), lasts(random)),
            12..=14 => Act::CutOff {
                whom: process(random),
                from: if self.registered || random.once_in(2) {
                    server(random)
                } else {
                    Who::Proxy(random.below(2))
                },
                lasts: lasts(random),
                late: random.once_in(2),
            },
            15 => Act::KillClients(server(random)),
            16 => Act::Sleep(server(random), lasts(random)),
            17 => match random.once_in(2) {
                true => Act::Verb(Verb::Reload(random.below(2))),
                false => Act::HangUp(random.below(2)),
            },
            18 => Act::Restart(server(random)),
            19 => Act::Unpause(server(random)),
            _ => match random.below(3) {
                0 => Act::Verb(Verb::Abort),
                1 => Act::Verb(Verb::Rehearse),
                _ => Act::Verb(Verb::StartAuto),
            },
        }
    }

    fn act(&mut self, after: Duration, act: Act) {
        self.lines.push(Line::Do(after, act));
    }
}

fn failpoint(random: &mut Random) -> Act {
    let mut one_of = |list: &[&'static str]| list[random.below(list.len())];
    Act::Failpoint {
        effect: one_of(&EFFECTS),
        moment: one_of(&["begun", "applied"]),
        act: one_of(&["kill", "kill", "stop", "error"]),
    }
}

fn after(random: &mut Random, within_ms: usize) -> Duration {
    Duration::from_millis(random.below(within_ms) as u64)
}

impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = match self.registered {
            true => "register",
            false => "are named to control",
        };
        writeln!(
            out,
            "seed {}: {} to {}, {} shard(s), two proxies that {known}",
            self.seed, self.from, self.to, self.shards
        )?;
        for (number, line) in self.lines.iter().enumerate() {
            match line {
                Line::Do(after, act) => writeln!(out, "{number:4}  +{after:?} {act:?}")?,
                Line::Wait(until) => writeln!(out, "{number:4}  until {until:?}")?,
            }
        }
        Ok(())
    }
}
