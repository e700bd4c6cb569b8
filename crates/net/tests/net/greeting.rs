//! What a dial says first, and what it makes of the answers.

use tokio::net::TcpListener;
use understudy_config::BackendUrl;
use understudy_net::{DialError, Endpoint, Greeting, RoleCheck, Socket, dial, dial_known};
use understudy_resp::Protocol;

use crate::peer::{Peer, SOON};

/// Dials a server that expects these bytes and gives these answers.
async fn check(
    url: &str,
    greeting: Greeting,
    expect: &[u8],
    answers: &[u8],
) -> Result<Socket, DialError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut url: BackendUrl = url.parse().unwrap();
    url.port = listener.local_addr().unwrap().port();
    let endpoint = Endpoint::from(&url);
    let serve = async {
        let mut peer = Peer(listener.accept().await.unwrap().0);
        peer.expect(expect).await;
        peer.send(answers).await;
        peer
    };
    let (socket, _alive) = tokio::join!(dial(&endpoint, &greeting, SOON), serve);
    socket
}

#[tokio::test]
async fn a_greeting_leaves_in_one_write_before_any_answer() {
    let greeting = Greeting {
        name: Some("understudy:a".to_owned()),
        db: 2,
        ..Greeting::default()
    };
    let said = b"*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\npw\r\n*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$12\r\nunderstudy:a\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n";
    check(
        "redis://ann:pw@127.0.0.1:1",
        greeting,
        said,
        b"+OK\r\n+OK\r\n+OK\r\n",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn the_servers_id_of_the_connection_is_told_to_who_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut url: BackendUrl = "redis://127.0.0.1:1".parse().unwrap();
    url.port = listener.local_addr().unwrap().port();
    let greeting = Greeting {
        client_id: true,
        ..Greeting::default()
    };
    let serve = async {
        let mut peer = Peer(listener.accept().await.unwrap().0);
        peer.expect(b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n").await;
        peer.send(b":57\r\n").await;
        peer
    };
    let endpoint = Endpoint::from(&url);
    let (known, _alive) = tokio::join!(dial_known(&endpoint, &greeting, SOON), serve);
    assert_eq!(known.unwrap().1, Some(57));
}

#[tokio::test]
async fn resp3_logs_in_with_hello() {
    let greeting = Greeting {
        protocol: Protocol::Resp3,
        ..Greeting::default()
    };
    let said = b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$2\r\npw\r\n";
    check(
        "redis://:pw@127.0.0.1:1",
        greeting,
        said,
        b"%1\r\n+proto\r\n:3\r\n",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_greeting_without_words_is_done_at_once() {
    check("redis://127.0.0.1:1", Greeting::default(), b"", b"")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let said = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsesame\r\n";
    let answer = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let refused = check(
        "redis://:sesame@127.0.0.1:1",
        Greeting::default(),
        said,
        answer,
    )
    .await
    .unwrap_err();
    assert!(
        matches!(refused, DialError::Refused { step: "AUTH", .. }),
        "{refused}"
    );
    assert!(!format!("{refused} {refused:?}").contains("sesame"));
}

#[tokio::test]
async fn a_replica_is_refused_where_a_primary_is_needed() {
    let greeting = || Greeting {
        role: RoleCheck::NotReplica,
        ..Greeting::default()
    };
    let said = b"*1\r\n$4\r\nROLE\r\n";
    let replica = b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$7\r\nconnect\r\n:-1\r\n";
    let refused = check("redis://127.0.0.1:1", greeting(), said, replica)
        .await
        .unwrap_err();
    assert!(matches!(refused, DialError::Replica { .. }), "{refused}");
    check(
        "redis://127.0.0.1:1",
        greeting(),
        said,
        b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
    )
    .await
    .unwrap();
    check("redis://127.0.0.1:1", greeting(), said, b"-NOPERM no\r\n")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_closes_in_the_greeting_is_lost() {
    let greeting = Greeting {
        db: 1,
        ..Greeting::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    let close = async { drop(listener.accept().await.unwrap()) };
    let (failed, ()) = tokio::join!(dial(&endpoint, &greeting, SOON), close);
    let failed = failed.unwrap_err();
    assert!(matches!(failed, DialError::Lost { .. }), "{failed}");
}

#[tokio::test]
async fn bytes_behind_the_greeting_are_not_swallowed() {
    let greeting = Greeting {
        db: 1,
        ..Greeting::default()
    };
    let said = b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n";
    let refused = check("redis://127.0.0.1:1/1", greeting, said, b"+OK\r\n+MORE\r\n")
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("7 bytes nobody asked for"),
        "{refused}"
    );
}
