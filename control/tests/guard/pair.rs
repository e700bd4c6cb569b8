//! A source, a target that has learnt it, and the guard between them.

use std::time::Duration;

use understudy_config::{BackendUrl, GuardAddress};
use understudy_control::guard::{Guard, GuardState};
use understudy_control::server::{Observed, Probe, ServerLink};
use understudy_lab::{Server, ServerOptions, Version};
use understudy_net::Value;
use understudy_resp::command;

pub(crate) const SOON: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(2);

pub(crate) struct Pair {
    pub(crate) source: Server,
    pub(crate) target: Server,
    pub(crate) source_link: ServerLink,
    pub(crate) target_link: ServerLink,
    pub(crate) guard: Guard,
}

pub(crate) fn known_by(version: Version) -> command::Server {
    match version {
        Version::Redis6_2_14 => command::Server::Redis6_2,
        Version::Redis7_0_15 => command::Server::Redis7_0,
        Version::Redis8_2_3 => command::Server::Redis8_2,
        Version::Valkey8_1_8 => command::Server::Valkey8_1,
        Version::Valkey9_1_2 => command::Server::Valkey9_1,
    }
}

pub(crate) fn url(server: &Server) -> BackendUrl {
    server.url().parse().unwrap()
}

pub(crate) async fn link(server: &Server) -> ServerLink {
    ServerLink::connect(&url(server), SOON).await.unwrap()
}

/// False, with a word, where a version that may be absent is absent.
pub(crate) fn installed(versions: &[Version]) -> bool {
    let absent = versions
        .iter()
        .find(|version| **version == Version::Redis7_0_15 && !version.is_installed());
    if let Some(absent) = absent {
        eprintln!("skipped: {absent} is not installed");
    }
    absent.is_none()
}

/// Keys of several types, some with a time to live, in two databases.
pub(crate) async fn fill(link: &mut ServerLink) {
    let mut commands: Vec<Vec<String>> = Vec::new();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for number in 0..200 {
        commands.push(words(&format!("SET text:{number} {number}")));
        commands.push(words(&format!(
            "HSET hash:{} field:{number} {number}",
            number % 10
        )));
        commands.push(words(&format!("RPUSH list:{} {number}", number % 7)));
        commands.push(words(&format!("SET lease:{number} x EX 1000")));
    }
    commands.extend([
        words("SELECT 3"),
        words("SET elsewhere 1"),
        words("SELECT 0"),
    ]);
    let answers = link.pipeline(&commands).await.unwrap();
    assert!(
        answers.iter().all(|answer| answer.as_error().is_none()),
        "{answers:?}"
    );
}

/// What a server holds, in one line that changes with every change.
pub(crate) async fn digest(link: &mut ServerLink) -> String {
    let digest = link
        .raw(&["DEBUG", "DIGEST"])
        .await
        .unwrap()
        .into_ok()
        .unwrap();
    format!(
        "{:?} {}",
        link.observe().await.unwrap().keys,
        digest.as_str_lossy().unwrap()
    )
}

/// Asks until the answer is the wanted one.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let reached = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(SOON, reached)
        .await
        .unwrap_or_else(|_| panic!("not reached: {what}"))
}

/// Waits for a state of the guard.
pub(crate) async fn until_state(
    guard: &Guard,
    what: &str,
    is: impl Fn(&GuardState) -> bool,
) -> GuardState {
    let mut states = guard.states();
    let reached = tokio::time::timeout(SOON, states.wait_for(|state| is(state)))
        .await
        .map(|state| state.unwrap().clone());
    reached.unwrap_or_else(|_| panic!("not {what}: {:?}", guard.states().borrow().clone()))
}

/// Demotes a server to the guard, as step 4 of the cutover does, and gives what it is then.
pub(crate) async fn demote(link: &mut ServerLink, guard: &Guard) -> Observed {
    link.config_set("replica-read-only", "yes").await.unwrap();
    let (host, port) = guard.address();
    let seen = link.replicate_from(&host, port).await.unwrap();
    link.unpause().await.unwrap();
    assert_eq!(link.probe_write().await.unwrap(), Probe::ReadOnly);
    seen
}

impl Pair {
    /// Both servers, the target a replica that has caught up, the guard parked.
    pub(crate) async fn start(source: Version, target: Version) -> Pair {
        Pair::start_with(source, target, ServerOptions::new()).await
    }

    pub(crate) async fn start_with(
        source: Version,
        target: Version,
        target_options: ServerOptions,
    ) -> Pair {
        let known = known_by(source);
        let source = Server::bare(source).await.unwrap();
        let target = Server::start(target, target_options).await.unwrap();
        let (mut source_link, mut target_link) = (link(&source).await, link(&target).await);
        fill(&mut source_link).await;
        target.follow(&source).await.unwrap();
        target_link
            .config_set("repl-backlog-size", "16777216")
            .await
            .unwrap();
        target_link
            .config_set("repl-backlog-ttl", "0")
            .await
            .unwrap();
        let guard = Guard::listen(&GuardAddress::default(), &url(&target), known)
            .await
            .unwrap();
        Pair {
            source,
            target,
            source_link,
            target_link,
            guard,
        }
    }

    /// Steps 2 to 7 of the cutover: pause, demote the source to the parked guard, see both equal, promote, unpark.
    pub(crate) async fn cut_over(&mut self) {
        self.promote_with_the_source_parked().await;
        self.guard.unpark();
        until_state(&self.guard, "following", GuardState::is_following).await;
    }

    /// Steps 2 to 6.
    pub(crate) async fn promote_with_the_source_parked(&mut self) {
        let at_pause = self
            .source_link
            .pause_writes(Duration::from_secs(5))
            .await
            .unwrap();
        until("the target has what the pause left", async || {
            let seen = self.target_link.observe().await.unwrap();
            (seen.follows()
                && seen.replid == at_pause.replid
                && seen.applied_offset() >= at_pause.offset)
                .then_some(())
        })
        .await;
        let demoted = demote(&mut self.source_link, &self.guard).await;
        until_state(&self.guard, "parked", |state| {
            matches!(state, GuardState::Parked { .. })
        })
        .await;
        let target = self.target_link.observe().await.unwrap();
        assert_eq!(target.replid, at_pause.replid);
        assert_eq!(
            target.applied_offset(),
            demoted.applied_offset(),
            "the source is frozen where the target is"
        );
        let promoted = self.target_link.promote().await.unwrap();
        assert_eq!(promoted.replid2, at_pause.replid);
    }

    /// Stops the guard; another one, which nobody calls, stands in its place.
    pub(crate) async fn stop_guard(&mut self) {
        let known = known_by(self.source.version());
        let idle = Guard::listen(&GuardAddress::default(), &url(&self.target), known)
            .await
            .unwrap();
        std::mem::replace(&mut self.guard, idle).stop().await;
    }

    /// Waits until the source has executed all that the target has written.
    pub(crate) async fn until_equal(&mut self) {
        until("the source has what the target has", async || {
            let source = self.source_link.observe().await.unwrap();
            let target = self.target_link.observe().await.unwrap();
            (source.follows() && source.applied_offset() == target.offset).then_some(())
        })
        .await;
    }

    pub(crate) async fn on_target(&mut self, command: &str) -> Value {
        self.target_link
            .raw(&command.split(' ').collect::<Vec<_>>())
            .await
            .unwrap()
            .into_ok()
            .unwrap()
    }

    pub(crate) async fn on_source(&mut self, command: &str) -> Value {
        self.source_link
            .raw(&command.split(' ').collect::<Vec<_>>())
            .await
            .unwrap()
            .into_ok()
            .unwrap()
    }

    /// Waits until the source has asked again so many times. Each attempt is a connection of its own.
    pub(crate) async fn until_asked_again(&mut self, times: usize) {
        let mut states = self.guard.states();
        for _ in 0..times {
            let asked = async {
                states.changed().await.unwrap();
                states
                    .wait_for(|state| matches!(state, GuardState::Refused { .. }))
                    .await
                    .unwrap();
            };
            tokio::time::timeout(SOON, asked)
                .await
                .expect("the source asks every second");
        }
    }
}
