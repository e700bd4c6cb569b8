//! Whatever a target answers but `+CONTINUE`, the source keeps what it has, and the guard says why.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use understudy_config::GuardAddress;
use understudy_control::guard::{Guard, GuardState};
use understudy_control::server::ServerLink;
use understudy_lab::{Server, Version};
use understudy_resp::command;

use crate::fake::{Fake, History};
use crate::pair::{SOON, demote, digest, fill, installed, known_by, link, until_state, url};

const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";

/// A real source, full, demoted to a parked guard in front of a scripted target.
struct Scripted {
    _source: Server,
    link: ServerLink,
    guard: Guard,
    fake: Fake,
    before: String,
}

impl Scripted {
    async fn start(version: Version, answer: &[u8]) -> Scripted {
        let source = Server::bare(version).await.unwrap();
        let mut link = link(&source).await;
        fill(&mut link).await;
        // A history begins with the first replica, or with the demotion; either way it is read afterwards.
        let nowhere = Guard::listen(&GuardAddress::default(), &url(&source), known_by(version))
            .await
            .unwrap();
        demote(&mut link, &nowhere).await;
        let parked = until_state(&nowhere, "parked", |state| {
            matches!(state, GuardState::Parked { .. })
        })
        .await;
        let GuardState::Parked { replid, offset } = parked else {
            unreachable!()
        };
        let fake = Fake::start(
            History {
                replid,
                next_offset: offset,
            },
            vec![answer.to_vec()],
        )
        .await;
        let guard = Guard::listen(&GuardAddress::default(), &fake.url, known_by(version))
            .await
            .unwrap();
        // A guard that stops leaves the source its history.
        nowhere.stop().await;
        demote(&mut link, &guard).await;
        let again = until_state(&guard, "parked", |state| {
            matches!(state, GuardState::Parked { .. })
        })
        .await;
        assert!(
            matches!(again, GuardState::Parked { offset: now, .. } if now == offset),
            "{again:?}"
        );
        let before = digest(&mut link).await;
        Scripted {
            _source: source,
            link,
            guard,
            fake,
            before,
        }
    }

    /// Lets the guard ask, and waits until the source has been refused three times.
    async fn refused(&mut self) -> String {
        let mut states = self.guard.states();
        self.guard.unpark();
        let mut why = String::new();
        for _ in 0..3 {
            let refused = states.wait_for(|state| matches!(state, GuardState::Refused { .. }));
            let state = tokio::time::timeout(SOON, refused)
                .await
                .expect("refused")
                .unwrap()
                .clone();
            let GuardState::Refused { why: said, .. } = state else {
                unreachable!()
            };
            if why.is_empty() {
                why = said;
            }
            tokio::time::timeout(SOON, states.changed())
                .await
                .expect("the source asks again")
                .unwrap();
        }
        assert_eq!(digest(&mut self.link).await, self.before, "{why}");
        let asked = self.fake.asked.all.lock().unwrap().clone();
        assert!(
            !asked.iter().any(|command| command.starts_with("SYNC")),
            "{asked:?}"
        );
        assert!(
            !asked
                .iter()
                .any(|command| command.contains("DUAL-CHANNEL") || command.contains("RDB-CHANNEL"))
        );
        why
    }
}

/// Every source version meets this answer, and is as full afterwards as before.
async fn check(answer: &[u8], reason: &str, psyncs_max: usize) {
    tokio::join!(
        check_one(Version::Redis6_2_14, answer, reason, psyncs_max),
        check_one(Version::Redis7_0_15, answer, reason, psyncs_max),
        check_one(Version::Redis8_2_3, answer, reason, psyncs_max),
        check_one(Version::Valkey8_1_8, answer, reason, psyncs_max),
    );
}

async fn check_one(version: Version, answer: &[u8], reason: &str, psyncs_max: usize) {
    if !installed(&[version]) {
        return;
    }
    let mut scripted = Scripted::start(version, answer).await;
    let why = scripted.refused().await;
    assert!(why.contains(reason), "{version}: {why}");
    let psyncs = scripted.fake.asked.psyncs.load(Ordering::SeqCst);
    assert!(
        (1..=psyncs_max).contains(&psyncs),
        "{version}: asked {psyncs} times"
    );
    // And the way on is open: it serves again, whole.
    scripted.link.promote().await.unwrap();
    assert_eq!(digest(&mut scripted.link).await, scripted.before);
}

#[tokio::test]
async fn a_full_resync_is_refused_and_asked_for_once() {
    let answer = format!("+FULLRESYNC {REPLID} 100\r\n$5\r\nREDIS");
    check(answer.as_bytes(), "+FULLRESYNC", 1).await;
}

#[tokio::test]
async fn an_error_is_refused_and_never_followed_by_sync() {
    check(b"-ERR unknown command 'PSYNC'\r\n$EOF:0123456789012345678901234567890123456789\r\nREDIS0009", "-ERR", 1).await;
}

#[tokio::test]
async fn a_second_channel_for_the_data_is_refused() {
    check(b"+DUALCHANNELSYNC\r\n", "+DUALCHANNELSYNC", 1).await;
    check(b"+RDBCHANNELSYNC 17\r\n", "+RDBCHANNELSYNC", 1).await;
}

#[tokio::test]
async fn a_file_without_a_word_before_it_is_refused() {
    check(
        b"$EOF:0123456789012345678901234567890123456789\r\nREDIS0009",
        "$EOF",
        1,
    )
    .await;
}

#[tokio::test]
async fn not_now_is_passed_on_as_not_now_and_asked_again() {
    check(
        b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
        "-NOMASTERLINK",
        100,
    )
    .await;
    check(
        b"-LOADING Redis is loading the dataset in memory\r\n",
        "-LOADING",
        100,
    )
    .await;
}

#[tokio::test]
async fn a_real_target_of_another_history_is_not_even_asked() {
    for version in [Version::Redis6_2_14, Version::Redis7_0_15] {
        if !installed(&[version]) {
            continue;
        }
        let (source, target) = (
            Server::bare(version).await.unwrap(),
            Server::bare(Version::Redis8_2_3).await.unwrap(),
        );
        let (mut link, mut target_link) = (link(&source).await, link(&target).await);
        fill(&mut link).await;
        target_link.raw(&["SET", "other", "data"]).await.unwrap();
        let guard = Guard::listen(&GuardAddress::default(), &url(&target), known_by(version))
            .await
            .unwrap();
        guard.unpark();
        let before = digest(&mut link).await;
        demote(&mut link, &guard).await;
        let mut states = guard.states();
        for _ in 0..3 {
            let refused = states.wait_for(|state| matches!(state, GuardState::Refused { .. }));
            let state = tokio::time::timeout(SOON, refused)
                .await
                .expect("refused")
                .unwrap()
                .clone();
            assert!(
                matches!(&state, GuardState::Refused { why, passing: false } if why.contains("another history")),
                "{state:?}"
            );
            tokio::time::timeout(SOON, states.changed())
                .await
                .expect("the source asks again")
                .unwrap();
        }
        let seen = target_link.observe().await.unwrap();
        assert_eq!(
            (seen.total_forks, seen.sync_full),
            (0, 0),
            "the target paid nothing"
        );
        assert_eq!(digest(&mut link).await, before);
    }
}

#[tokio::test]
async fn a_real_target_with_dual_channel_replication_gets_no_chance() {
    let source = Server::bare(Version::Valkey8_1_8).await.unwrap();
    let target = Server::bare(Version::Valkey9_1_2).await.unwrap();
    let (mut link, mut target_link) = (link(&source).await, link(&target).await);
    for link in [&mut link, &mut target_link] {
        link.config_set("dual-channel-replication-enabled", "yes")
            .await
            .unwrap();
    }
    fill(&mut link).await;
    let guard = Guard::listen(
        &GuardAddress::default(),
        &url(&target),
        known_by(Version::Valkey8_1_8),
    )
    .await
    .unwrap();
    guard.unpark();
    let before = digest(&mut link).await;
    demote(&mut link, &guard).await;
    until_state(&guard, "refused", |state| {
        matches!(state, GuardState::Refused { .. })
    })
    .await;
    assert_eq!(digest(&mut link).await, before);
    assert_eq!(target_link.observe().await.unwrap().total_forks, 0);
}

/// A scripted source at a guard in front of a target that answers with these pieces; gives what the source was told.
async fn ask(pieces: Vec<Vec<u8>>) -> (String, GuardState, usize) {
    let history = History {
        replid: REPLID.to_owned(),
        next_offset: 1000,
    };
    let fake = Fake::start(history, pieces).await;
    let guard = Guard::listen(
        &GuardAddress::default(),
        &fake.url,
        command::Server::Redis6_2,
    )
    .await
    .unwrap();
    guard.unpark();
    let mut source = TcpStream::connect(guard.address()).await.unwrap();
    source.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
    let mut pong = [0; 7];
    source.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"+PONG\r\n");
    let psync = format!("*3\r\n$5\r\nPSYNC\r\n$40\r\n{REPLID}\r\n$4\r\n1000\r\n");
    source.write_all(psync.as_bytes()).await.unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') || line == b"\n" {
        let byte = tokio::time::timeout(SOON, source.read_u8())
            .await
            .expect("the source is answered")
            .unwrap();
        line.push(byte);
        if line == b"\n" {
            line.clear();
        }
    }
    let state = until_state(&guard, "done", |state| {
        !matches!(state, GuardState::Idle | GuardState::Asking)
    })
    .await;
    (
        String::from_utf8(line).unwrap(),
        state,
        fake.asked.psyncs.load(Ordering::SeqCst),
    )
}

#[tokio::test]
async fn an_answer_means_the_same_wherever_it_is_split() {
    let full = format!("+FULLRESYNC {REPLID} 1\r\n");
    let good = format!("\n\n+CONTINUE {REPLID}\r\n");
    for answer in [
        full.as_str(),
        "+DUALCHANNELSYNC\r\n",
        "+RDBCHANNELSYNC 1\r\n",
        "\n\n-ERR no\r\n",
        "+CONTINUEX\r\n",
        &good,
    ] {
        for cut in 0..answer.len() {
            let pieces = vec![
                answer.as_bytes()[..cut].to_vec(),
                answer.as_bytes()[cut..].to_vec(),
            ];
            let (line, state, psyncs) = ask(pieces).await;
            if answer == good {
                assert_eq!(line, good.trim_start_matches('\n'), "cut at {cut}");
                assert!(state.is_following(), "cut at {cut}: {state:?}");
            } else {
                assert!(
                    line.starts_with("-NOMASTERLINK "),
                    "{answer:?} cut at {cut}: {line:?}"
                );
                assert!(
                    matches!(state, GuardState::Refused { .. }),
                    "{answer:?} cut at {cut}: {state:?}"
                );
            }
            assert_eq!(psyncs, 1);
        }
        let single = answer.bytes().map(|byte| vec![byte]).collect();
        assert_eq!(ask(single).await.1.is_following(), answer == good);
    }
}

#[tokio::test]
async fn strangers_are_sent_away_and_disturb_nobody() {
    let history = History {
        replid: REPLID.to_owned(),
        next_offset: 1000,
    };
    let fake = Fake::start(
        history,
        vec![format!("+CONTINUE {REPLID}\r\n").into_bytes()],
    )
    .await;
    let guard = Guard::listen(
        &GuardAddress::default(),
        &fake.url,
        command::Server::Redis6_2,
    )
    .await
    .unwrap();
    guard.unpark();
    let mut source = TcpStream::connect(guard.address()).await.unwrap();
    source
        .write_all(format!("PSYNC {REPLID} 1000\r\n").as_bytes())
        .await
        .unwrap();
    until_state(&guard, "following", GuardState::is_following).await;
    for said in [
        "SYNC\r\n",
        "GET / HTTP/1.1\r\n",
        "*1\r\n$99999999\r\n",
        "PSYNC ? -1\r\n",
        "PSYNC x y FAILOVER\r\n",
    ] {
        let mut stranger = TcpStream::connect(guard.address()).await.unwrap();
        stranger.write_all(said.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _reset = tokio::time::timeout(SOON, stranger.read_to_string(&mut answer))
            .await
            .expect("sent away");
        assert!(
            answer.is_empty() || answer.starts_with("-NOMASTERLINK "),
            "{said:?}: {answer:?}"
        );
        assert!(guard.states().borrow().is_following(), "{said:?}");
    }
    assert_eq!(fake.asked.psyncs.load(Ordering::SeqCst), 1);
}
