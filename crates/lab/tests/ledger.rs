//! The ledger finds what it is for, by name, and finds nothing where nothing is wrong.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use understudy_lab::wire::{Address, Reply};
use understudy_lab::{
    AuditOptions, Fill, Finding, FindingKind, Load, LoadOptions, Relay, RelayMode, Report, Server,
    ServerOptions, Version,
};

const LIMIT: Duration = Duration::from_secs(60);

fn small() -> LoadOptions {
    LoadOptions {
        connections: 4,
        ..LoadOptions::default()
    }
}

async fn relayed(mode: RelayMode) -> (Server, Relay) {
    let server = Server::bare(Version::Redis6_2_14)
        .await
        .expect("a server starts");
    let relay = Relay::start(&server.address().to_string(), mode)
        .await
        .expect("a relay starts");
    (server, relay)
}

async fn audit(load: Load, servers: &[&Server]) -> Report {
    let addresses: Vec<Address> = servers.iter().map(|server| server.address()).collect();
    load.stop()
        .await
        .audit(&addresses, &AuditOptions::default())
        .await
        .expect("the servers can be read")
}

/// Every finding names its entry: the key, and whose command it was.
fn named(report: &Report, kind: FindingKind) -> Vec<&Finding> {
    let findings: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == kind)
        .collect();
    for finding in &findings {
        assert!(
            finding.key.starts_with("lab:") || finding.key == "-",
            "{finding}"
        );
    }
    findings
}

#[tokio::test]
async fn a_clean_run_has_no_findings_on_any_version() {
    for version in Version::installed() {
        let server = Server::bare(version).await.unwrap();
        let load = Load::start(&[server.address()], &small());
        assert!(load.served(8_000, LIMIT).await);
        let report = audit(load, &[&server]).await;
        assert!(report.is_clean(), "{version}: {report:#?}");
        assert!(
            report.keys_checked > 4 * 7 * 8 && report.acknowledged_writes > 2_000,
            "{report:#?}"
        );
        assert!(report.longest_gap.is_some());
    }
}

#[tokio::test]
async fn a_run_over_a_unix_socket_with_a_password_is_clean() {
    let options = ServerOptions::new().password("secret").unix_socket();
    let server = Server::start(Version::Valkey9_1_2, options).await.unwrap();
    let socket = Address::unix(server.unix_socket()).with_password("secret");
    let load = Load::start(&[socket, server.address()], &small());
    assert!(load.served(2_000, LIMIT).await);
    assert!(audit(load, &[&server]).await.is_clean());
}

#[tokio::test]
async fn a_write_lost_behind_the_ledgers_back_is_named() {
    let server = Server::bare(Version::Redis8_2_3).await.unwrap();
    let load = Load::start(
        &[server.address()],
        &LoadOptions {
            transactions: false,
            ..small()
        },
    );
    assert!(load.served(3_000, LIMIT).await);
    let ledger = load.stop().await;
    // Whatever keys there are: one key of each kind, gone.
    let mut victims = Vec::new();
    for kind in [
        "text",
        "number",
        "log",
        "list",
        "hash",
        "set",
        "sorted",
        "shared:number",
        "shared:list",
    ] {
        let pattern = format!("lab:*{kind}*");
        let keys = server
            .call(&["KEYS", &pattern])
            .await
            .unwrap()
            .into_elements()
            .unwrap();
        let victim = keys.into_iter().next().unwrap().into_bytes().unwrap();
        server.call(&[b"DEL".as_slice(), &victim]).await.unwrap();
        victims.push(String::from_utf8(victim).unwrap());
    }
    let report = ledger
        .audit(&[server.address()], &AuditOptions::default())
        .await
        .unwrap();
    let lost: Vec<&str> = named(&report, FindingKind::Lost)
        .iter()
        .map(|finding| finding.key.as_str())
        .collect();
    for victim in &victims {
        assert!(
            lost.contains(&victim.as_str()),
            "{victim} is not among {lost:?}"
        );
    }
    assert!(!report.is_true());
    assert_eq!(
        (report.doubled, report.reordered, report.wrong_replies),
        (0, 0, 0),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_doubled_write_is_named_by_its_reply_and_on_the_server() {
    let (server, relay) = relayed(RelayMode::Frames).await;
    // A DEL as the list's next command would take the doubled element away before anybody could see it.
    let load = Load::start(
        &[relay.address()],
        &LoadOptions {
            shared: 0,
            transactions: false,
            removals: false,
            ..small()
        },
    );
    assert!(load.served(500, LIMIT).await);
    relay.double_next("RPUSH", "list");
    let since = Instant::now();
    while load.progress().wrong_replies == 0 {
        assert!(
            since.elapsed() < LIMIT,
            "no client noticed in {:?}",
            load.progress()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = audit(load, &[&server]).await;
    assert_eq!(relay.doubled(), 1);
    assert_eq!((report.wrong_replies, report.lost), (1, 0), "{report:#?}");
    let doubled = named(&report, FindingKind::Doubled);
    assert_eq!(doubled.len(), 1, "{report:#?}");
    assert!(
        doubled[0].key.ends_with("list") && doubled[0].connection.is_some(),
        "{}",
        doubled[0]
    );
    assert_eq!(
        doubled[0].key,
        named(&report, FindingKind::WrongReply)[0].key
    );
}

#[tokio::test]
async fn a_doubled_write_to_a_shared_list_is_named() {
    let server = Server::bare(Version::Redis6_2_14).await.unwrap();
    let load = Load::start(&[server.address()], &small());
    assert!(load.served(2_000, LIMIT).await);
    let ledger = load.stop().await;
    server.call(&["INCR", "lab:shared:number:0"]).await.unwrap();
    let first = server
        .call(&["LINDEX", "lab:shared:list:0", "0"])
        .await
        .unwrap()
        .into_bytes()
        .unwrap();
    server
        .call(&[b"RPUSH".as_slice(), b"lab:shared:list:0", &first])
        .await
        .unwrap();
    let report = ledger
        .audit(&[server.address()], &AuditOptions::default())
        .await
        .unwrap();
    assert_eq!((report.doubled, report.lost), (2, 0), "{report:#?}");
}

#[tokio::test]
async fn swapped_elements_are_reordered_writes() {
    let server = Server::bare(Version::Redis6_2_14).await.unwrap();
    let load = Load::start(&[server.address()], &small());
    assert!(load.served(4_000, LIMIT).await);
    let ledger = load.stop().await;
    let own = server
        .call(&["LRANGE", "lab:shared:list:0", "0", "-1"])
        .await
        .unwrap()
        .into_elements()
        .unwrap();
    let of_zero: Vec<usize> = (0..own.len())
        .filter(|at| own[*at].to_string().starts_with("\"0."))
        .collect();
    for (at, other) in [(of_zero[0], of_zero[1]), (of_zero[1], of_zero[0])] {
        let element = own[other].clone().into_bytes().unwrap();
        let at = at.to_string();
        server
            .call(&[
                b"LSET".as_slice(),
                b"lab:shared:list:0",
                at.as_bytes(),
                &element,
            ])
            .await
            .unwrap();
    }
    let report = ledger
        .audit(&[server.address()], &AuditOptions::default())
        .await
        .unwrap();
    assert_eq!(
        (report.reordered, report.lost, report.doubled),
        (1, 0, 0),
        "{report:#?}"
    );
    assert_eq!(
        named(&report, FindingKind::Reordered)[0].connection,
        Some(0)
    );
}

#[tokio::test]
async fn swapped_replies_are_named_and_nothing_is_lost() {
    let (server, relay) = relayed(RelayMode::Frames).await;
    // Of a counter that all share no client knows the value: the replies of two such may be swapped unseen.
    let load = Load::start(
        &[relay.address()],
        &LoadOptions {
            shared: 0,
            ..small()
        },
    );
    assert!(load.served(500, LIMIT).await);
    relay.swap_next_replies();
    let since = Instant::now();
    while load.progress().wrong_replies == 0 {
        assert!(
            since.elapsed() < LIMIT,
            "no client noticed in {:?}",
            load.progress()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = audit(load, &[&server]).await;
    assert_eq!(relay.swapped(), 1);
    assert!(
        report.wrong_replies >= 1 && report.lost == 0 && report.doubled == 0,
        "{report:#?}"
    );
    assert!(
        named(&report, FindingKind::WrongReply)[0]
            .connection
            .is_some()
    );
}

#[tokio::test]
async fn a_cut_connection_is_counted_and_leaves_no_false_finding() {
    let (server, relay) = relayed(RelayMode::Bytes).await;
    let load = Load::start(&[relay.address()], &small());
    for round in 0..10 {
        assert!(load.served(300, LIMIT).await);
        if round % 2 == 0 {
            relay.cut();
        } else {
            relay.cut_after(700);
        }
    }
    assert!(load.served(300, LIMIT).await);
    let report = audit(load, &[&server]).await;
    assert!(report.is_true(), "{report:#?}");
    assert!(
        report.connections_lost >= 10 && !report.is_clean(),
        "{report:#?}"
    );
}

#[tokio::test]
async fn error_replies_are_client_errors_and_no_losses() {
    let server = Server::bare(Version::Redis8_2_3).await.unwrap();
    let load = Load::start(&[server.address()], &small());
    assert!(load.served(500, LIMIT).await);
    server
        .call(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await
        .unwrap();
    assert!(load.served(500, LIMIT).await);
    server
        .call(&["CONFIG", "SET", "min-replicas-to-write", "0"])
        .await
        .unwrap();
    assert!(load.served(500, LIMIT).await);
    let report = audit(load, &[&server]).await;
    assert!(report.is_true() && report.client_errors > 10, "{report:#?}");
    assert!(
        named(&report, FindingKind::ClientError)[0]
            .found
            .contains("NOREPLICAS")
    );
}

#[tokio::test]
async fn a_key_on_two_servers_is_misplaced() {
    let (one, two) = (
        Server::bare(Version::Redis6_2_14).await.unwrap(),
        Server::bare(Version::Redis6_2_14).await.unwrap(),
    );
    let load = Load::start(&[one.address()], &small());
    assert!(load.served(1_000, LIMIT).await);
    two.call(&["SET", "lab:shared:number:0", "1"])
        .await
        .unwrap();
    let report = audit(load, &[&one, &two]).await;
    assert_eq!(report.misplaced, 1, "{report:#?}");
}

#[tokio::test]
async fn a_changed_time_to_live_is_named() {
    let server = Server::bare(Version::Valkey8_1_8).await.unwrap();
    let load = Load::start(&[server.address()], &small());
    assert!(load.served(2_000, LIMIT).await);
    let ledger = load.stop().await;
    let keys = server
        .call(&["KEYS", "lab:*text"])
        .await
        .unwrap()
        .into_elements()
        .unwrap();
    let victim = keys.into_iter().next().unwrap().into_bytes().unwrap();
    server
        .call(&[b"EXPIRE".as_slice(), &victim, b"1000"])
        .await
        .unwrap();
    let report = ledger
        .audit(&[server.address()], &AuditOptions::default())
        .await
        .unwrap();
    assert_eq!((report.wrong_expiries, report.lost), (1, 0), "{report:#?}");
    assert_eq!(
        named(&report, FindingKind::WrongExpiry)[0].key.as_bytes(),
        victim
    );
}

#[tokio::test]
async fn the_longest_wait_of_a_stall_is_seen_in_its_window() {
    let (server, relay) = relayed(RelayMode::Bytes).await;
    let load = Load::start(&[relay.address()], &small());
    assert!(load.served(500, LIMIT).await);
    let from = Instant::now();
    relay.stall(true);
    tokio::time::sleep(Duration::from_millis(120)).await;
    let open = load.longest_gap(from, Instant::now()).unwrap();
    assert!(
        open.waited >= Duration::from_millis(100),
        "a wait not yet ended counts: {open:?}"
    );
    relay.stall(false);
    assert!(load.served(500, LIMIT).await);
    let gap = load.longest_gap(from, Instant::now()).unwrap();
    assert!(gap.waited >= Duration::from_millis(120), "{gap:?}");
    assert!(audit(load, &[&server]).await.is_clean());
}

#[tokio::test]
async fn a_rate_is_kept() {
    let server = Server::bare(Version::Redis6_2_14).await.unwrap();
    let options = LoadOptions {
        rate: NonZeroU32::new(200),
        pipeline_max: 4,
        ..small()
    };
    let load = Load::start(&[server.address()], &options);
    let since = Instant::now();
    assert!(load.served(400, LIMIT).await);
    assert!(
        since.elapsed() > Duration::from_millis(350),
        "4 x 200 a second took {:?} for 400",
        since.elapsed()
    );
    assert!(audit(load, &[&server]).await.is_clean());
}

#[tokio::test]
async fn filled_keys_are_checked_without_being_remembered() {
    let server = Server::bare(Version::Redis7_0_15)
        .await
        .or(Server::bare(Version::Redis8_2_3).await)
        .unwrap();
    let fill = Fill {
        keys: 2_000,
        ..Fill::default()
    };
    let mut written = 0;
    fill.write(&server.address(), |keys| written = keys)
        .await
        .unwrap();
    assert_eq!(written, 2_000);
    assert_eq!(
        server.call(&["DBSIZE"]).await.unwrap(),
        Reply::Integer(2_000)
    );
    assert!(fill.audit(&[server.address()]).await.unwrap().is_clean());
    server.call(&["DEL", "fill:7"]).await.unwrap();
    server.call(&["APPEND", "fill:8", "x"]).await.unwrap();
    let report = fill.audit(&[server.address()]).await.unwrap();
    let keys: Vec<&str> = report
        .findings
        .iter()
        .map(|finding| finding.key.as_str())
        .collect();
    assert_eq!(keys, ["fill:7", "fill:8"]);
}

#[tokio::test]
async fn an_entry_may_lie_on_any_one_of_the_servers() {
    let (one, two) = (
        Server::bare(Version::Redis6_2_14).await.unwrap(),
        Server::bare(Version::Redis8_2_3).await.unwrap(),
    );
    let load = Load::start(&[one.address()], &small());
    assert!(load.served(2_000, LIMIT).await);
    let ledger = load.stop().await;
    let keys = one
        .call(&["KEYS", "*"])
        .await
        .unwrap()
        .into_elements()
        .unwrap();
    let mut wire = one.wire().await.unwrap();
    for key in keys.into_iter().step_by(2) {
        let (key, port) = (key.into_bytes().unwrap(), two.port().to_string());
        let moved = wire
            .call(&[
                b"MIGRATE".as_slice(),
                b"127.0.0.1",
                port.as_bytes(),
                &key,
                b"0",
                b"5000",
            ])
            .await
            .unwrap();
        assert_eq!(moved, Reply::ok());
    }
    let report = ledger
        .audit(&[one.address(), two.address()], &AuditOptions::default())
        .await
        .unwrap();
    assert!(report.is_clean(), "{report:#?}");
    assert!(
        !ledger
            .audit(&[one.address()], &AuditOptions::default())
            .await
            .unwrap()
            .is_true()
    );
}
