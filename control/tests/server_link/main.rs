//! Control's operations on real servers of every version.
#![expect(
    clippy::unwrap_used,
    reason = "a test states what it expects; a panic is a failed expectation"
)]

use std::time::{Duration, Instant};

use understudy_control::server::{
    Former, MissingRight, Probe, Rewrite, Role, ServerError, ServerLink, rights_missing,
    rules_needed,
};
use understudy_lab::{Server, ServerOptions, Version};
use understudy_net::{ClientError, Sent, Value};
use understudy_resp::command::Product;

const SOON: Duration = Duration::from_secs(20);

async fn link(server: &Server) -> ServerLink {
    ServerLink::connect(
        &server
            .url()
            .parse::<understudy_config::BackendUrl>()
            .unwrap(),
        SOON,
    )
    .await
    .unwrap()
}

/// The same claim for every installed version, on a bare server.
async fn on_every_version(claim: impl AsyncFn(Version, &Server, &mut ServerLink)) {
    for version in Version::installed() {
        let server = Server::bare(version).await.unwrap();
        let mut link = link(&server).await;
        claim(version, &server, &mut link).await;
    }
}

#[tokio::test]
async fn a_server_is_seen_as_what_it_is() {
    on_every_version(async |version, server, link| {
        for command in [
            vec!["SET", "a", "1"],
            vec!["SET", "b", "1", "EX", "100"],
            vec!["SELECT", "3"],
            vec!["SET", "c", "1"],
        ] {
            link.raw(&command).await.unwrap().into_ok().unwrap();
        }
        let seen = link.observe().await.unwrap();
        let (major, minor, patch) = version.number();
        assert_eq!(
            (seen.version.major, seen.version.minor),
            (major, minor),
            "{version}"
        );
        if version != Version::Redis7_0_15 {
            assert_eq!(seen.version.patch, patch);
        }
        let is_valkey = matches!(version, Version::Valkey8_1_8 | Version::Valkey9_1_2);
        assert_eq!(seen.product == Product::Valkey, is_valkey);
        assert_eq!(
            seen.role,
            Role::Primary {
                replicas: Vec::new()
            }
        );
        assert_eq!((seen.keys[&0], seen.keys[&3], seen.expires[&0]), (2, 1, 1));
        assert_eq!((seen.replid.len(), seen.run_id.len()), (40, 40));
        assert!(
            seen.config_file
                .starts_with(server.directory().to_str().unwrap()),
            "{}",
            seen.config_file
        );
        assert!(
            !seen.loading && !seen.cluster_enabled && !seen.aof_enabled && seen.used_memory > 0
        );
    })
    .await;
}

#[tokio::test]
async fn a_pause_freezes_the_offset_it_reports_and_its_end_lets_writers_go_at_once() {
    on_every_version(async |version, server, link| {
        let replica = Server::bare(version).await.unwrap();
        replica.follow(server).await.unwrap();
        link.raw(&["SET", "k", "1"]).await.unwrap();
        let paused = link.pause_writes(Duration::from_secs(30)).await.unwrap();
        let mut writer = self::link(server).await;
        let since = Instant::now();
        let (written, ()) = tokio::join!(writer.raw(&["INCR", "k"]), async {
            let meanwhile = link.observe().await.unwrap();
            // The primary's own pings go on; a write would be longer.
            assert!(meanwhile.offset < paused.offset + 29, "{version}");
            assert_eq!(link.raw(&["GET", "k"]).await.unwrap(), Value::text("1"));
            link.unpause().await.unwrap();
        });
        assert_eq!(written.unwrap(), Value::Integer(2));
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "{version}: it waited for the pause to end by itself"
        );
    })
    .await;
}

#[tokio::test]
async fn the_fence_is_seen_by_its_probe_and_lifted_by_promotion() {
    on_every_version(async |version, server, link| {
        assert_eq!(link.probe_write().await.unwrap(), Probe::Accepted);
        let before = link.observe().await.unwrap();
        // Nobody listens there.
        let demoted = link.replicate_from("127.0.0.1", 1).await.unwrap();
        let Role::Replica {
            primary_port: 1,
            link_up: false,
            read_only: true,
            ..
        } = demoted.role
        else {
            panic!("{version}: {:?}", demoted.role)
        };
        assert_eq!(link.probe_write().await.unwrap(), Probe::ReadOnly);
        link.config_set("replica-read-only", "no").await.unwrap();
        assert_eq!(
            link.probe_write().await.unwrap(),
            Probe::Accepted,
            "{version}: the fence is none (hazard 11)"
        );
        link.config_set("replica-read-only", "yes").await.unwrap();
        assert_eq!(link.rewrite_config().await.unwrap(), Rewrite::Done);
        let kept = std::fs::read_to_string(server.directory().join("redis.conf")).unwrap();
        assert!(kept.contains("replicaof 127.0.0.1 1"), "{version}: {kept}");
        let promoted = link.promote().await.unwrap();
        assert!(promoted.is_primary());
        assert_eq!(promoted.replid2, before.replid, "{version}");
        assert_eq!(link.probe_write().await.unwrap(), Probe::Accepted);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_was_not_answered_says_so_and_reconnecting_buries_it() {
    on_every_version(async |version, server, link| {
        let mut sleeper = self::link(server).await;
        link.set_timeout(Duration::from_millis(100));
        let (_, fenced) = tokio::join!(sleeper.raw(&["DEBUG", "SLEEP", "0.6"]), async {
            // The sleeper's command is with the server first: both were written by this thread, in this order.
            tokio::time::sleep(Duration::from_millis(50)).await;
            link.replicate_from("127.0.0.1", 1).await
        });
        let late = fenced.unwrap_err();
        assert_eq!(late.sent(), Sent::Fully, "{version}: {late}");
        assert!(!link.is_usable());
        let used_up = link.observe().await.unwrap_err();
        assert!(
            matches!(
                used_up,
                ServerError::Connection {
                    cause: ClientError::UsedUp,
                    ..
                }
            ),
            "{version}: {used_up}"
        );
        assert_eq!(link.reconnect().await.unwrap(), Former::Gone, "{version}");
        link.set_timeout(SOON);
        // Whether the late fence came before its connection was killed, or never: the undo comes after it.
        link.promote().await.unwrap();
        let clients = link.client_list().await.unwrap();
        assert_eq!(
            clients
                .iter()
                .filter(|client| client.name == "understudy-control")
                .count(),
            2,
            "{version}"
        );
        assert_eq!(link.probe_write().await.unwrap(), Probe::Accepted);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words_and_changes_nothing() {
    on_every_version(async |version, server, link| {
        link.raw(&["ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@read", "+info", "+client|id", "+acl|whoami"]).await.unwrap();
        let url = format!("redis://limited:pw@127.0.0.1:{}", server.port());
        let mut limited = ServerLink::connect(&url.parse::<understudy_config::BackendUrl>().unwrap(), SOON).await.unwrap();
        limited.observe().await.unwrap();
        let refused = limited.pause_writes(Duration::from_secs(1)).await.unwrap_err();
        assert!(refused.is_refusal(), "{version}: {refused}");
        let refused = limited.replicate_from("127.0.0.1", 1).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{version}: {refused}");
        assert!(matches!(limited.rewrite_config().await.unwrap(), Rewrite::NotPossible(why) if why.starts_with("NOPERM")));
        assert!(matches!(limited.probe_write().await.unwrap(), Probe::Refused(why) if why.starts_with("NOPERM")));
        assert!(link.observe().await.unwrap().is_primary());
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_a_connection_error_that_shows_no_password() {
    let server = Server::start(Version::Redis8_2_3, ServerOptions::new().password("right"))
        .await
        .unwrap();
    link(&server).await;
    let url = format!("redis://:wrong-one@127.0.0.1:{}", server.port());
    let Err(refused) =
        ServerLink::connect(&url.parse::<understudy_config::BackendUrl>().unwrap(), SOON).await
    else {
        panic!("it took the wrong password")
    };
    assert!(refused.to_string().contains("WRONGPASS"), "{refused}");
    assert_eq!(refused.sent(), Sent::No);
    assert!(!format!("{refused} {refused:?}").contains("wrong-one"));
}

/// What a login needs is what it is granted, no less: where one right is taken away, that one is named.
#[tokio::test]
async fn a_right_that_is_missing_is_named_and_nothing_is_executed() {
    on_every_version(async |version, server, link| {
        let major = link.observe().await.unwrap().version.major;
        let before = link.observe().await.unwrap();
        let url = format!("redis://limited:pw@127.0.0.1:{}", server.port());
        let url: understudy_config::BackendUrl = url.parse().unwrap();
        let granted = rules_needed(major);
        let mut grant = async |rules: &[&str]| {
            // 6.2 has no DRYRUN, and takes a rule about it all the same.
            let reset = "ACL SETUSER limited reset on >pw +acl|dryrun";
            let all: Vec<&str> = reset.split(' ').chain(rules.iter().copied()).collect();
            link.raw(&all).await.unwrap().into_ok().unwrap();
            let missing = rights_missing(&url, major, SOON).await.unwrap();
            missing
                .iter()
                .map(MissingRight::to_string)
                .collect::<Vec<_>>()
        };
        let every: Vec<&str> = granted.iter().map(String::as_str).chain(["~*"]).collect();
        assert_eq!(grant(&every).await, [""; 0], "{version}");
        for left_out in &granted {
            let rules: Vec<&str> = (every.iter().copied())
                .filter(|rule| rule != left_out)
                .collect();
            let name = left_out[1..].replace('|', " ").to_uppercase();
            let missing = grant(&rules).await;
            // Without MULTI nothing else can be tried.
            assert_eq!(missing, [name], "{version}");
        }
        let keys: Vec<&str> = (every.iter().copied())
            .filter(|rule| *rule != "~*")
            .chain(["~app:*"])
            .collect();
        let missing = grant(&keys).await;
        assert!(
            missing.contains(&"DUMP of every key".to_owned()),
            "{version}: {missing:?}"
        );
        let after = link.observe().await.unwrap();
        assert_eq!(
            (before.role, before.offset, before.run_id),
            (after.role, after.offset, after.run_id),
            "{version}"
        );
        assert_eq!(
            link.probe_write().await.unwrap(),
            Probe::Accepted,
            "{version}: nothing is paused"
        );
    })
    .await;
}

#[tokio::test]
async fn a_command_that_was_renamed_is_named_and_cannot_be_granted() {
    let options = ServerOptions::new().set("rename-command", "DUMP \"\"");
    let server = Server::start(Version::Redis7_0_15, options).await.unwrap();
    let url = server.url().parse().unwrap();
    let missing = rights_missing(&url, 7, SOON).await.unwrap();
    assert_eq!(missing, [MissingRight::Unknown("DUMP".to_owned())]);
    assert_eq!(missing[0].to_string(), "DUMP (renamed)");
    assert_eq!(missing[0].rule(), None);
}

#[tokio::test]
async fn without_transactions_nothing_else_is_tried() {
    let options = ServerOptions::new().set("rename-command", "MULTI \"\"");
    let server = Server::start(Version::Redis8_2_3, options).await.unwrap();
    let url = server.url().parse().unwrap();
    let missing = rights_missing(&url, 8, SOON).await.unwrap();
    assert_eq!(missing, [MissingRight::Unknown("MULTI".to_owned())]);
}

#[tokio::test]
async fn a_users_name_is_not_taken_for_the_reason() {
    let server = Server::bare(Version::Redis8_2_3).await.unwrap();
    let rules = rules_needed(8).join(" ");
    let user = format!("ACL SETUSER dataaccess on >pw ~* {rules} -role");
    let words: Vec<&str> = user.split(' ').collect();
    server.call(&words).await.unwrap();
    let url = format!("redis://dataaccess:pw@127.0.0.1:{}", server.port());
    let missing = rights_missing(&url.parse().unwrap(), 8, SOON)
        .await
        .unwrap();
    assert_eq!(missing, [MissingRight::Command("ROLE".to_owned())]);
}

#[tokio::test]
async fn settings_clock_and_clients_are_read() {
    on_every_version(async |version, _, link| {
        link.config_set("maxmemory-policy", "allkeys-lru")
            .await
            .unwrap();
        let settings = link.config_get("maxmemory*").await.unwrap();
        assert!(
            settings.contains(&("maxmemory-policy".to_owned(), "allkeys-lru".to_owned())),
            "{version}: {settings:?}"
        );
        let refused = link.config_set("no-such-setting", "1").await.unwrap_err();
        assert!(refused.is_refusal(), "{refused}");
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_micros();
        let ahead = i128::from(link.time().await.unwrap()) - i128::try_from(now).unwrap();
        assert!(ahead.abs() < 5_000_000, "{version}: {ahead}");
        let clients = link.client_list().await.unwrap();
        let ours = clients
            .iter()
            .find(|client| client.name == "understudy-control")
            .unwrap();
        assert_eq!(
            (ours.user.as_str(), ours.is_replication()),
            ("default", false)
        );
    })
    .await;
}
