//! What a caller learns about a call that failed, and that replies survive any cut.

use std::time::Duration;

use understudy_net::{Client, ClientError, Endpoint, Sent, Stream, Value};

use crate::peer::{SOON, pair};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

#[tokio::test]
async fn answers_come_in_the_order_of_the_commands() {
    let (mut client, mut peer) = pair().await;
    let commands = [vec!["GET", "a"], vec!["INCR", "b"], vec!["NOPE"]];
    let serve = async {
        peer.expect(
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n*1\r\n$4\r\nNOPE\r\n",
        )
        .await;
        peer.send(b"$2\r\n\xff\n\r\n:7\r\n-ERR unknown command 'NOPE\xff'\r\n")
            .await;
    };
    let (answers, ()) = tokio::join!(client.pipeline(&commands), serve);
    let refused = Value::error("ERR unknown command 'NOPE\u{fffd}'");
    assert_eq!(
        answers.unwrap(),
        [Value::bulk(&b"\xff\n"[..]), Value::Integer(7), refused]
    );
}

#[tokio::test]
async fn an_error_reply_is_an_answer_and_the_connection_lives_on() {
    let (mut client, mut peer) = pair().await;
    peer.send(b"-READONLY You can't write against a read only replica.\r\n+PONG\r\n")
        .await;
    let refused = client
        .call(&["SET", "k", "v"])
        .await
        .unwrap()
        .into_ok()
        .unwrap_err();
    assert_eq!(refused.code(), "READONLY");
    assert_eq!(
        client.call(&["PING"]).await.unwrap(),
        Value::Simple("PONG".to_owned())
    );
}

#[tokio::test]
async fn a_server_that_was_gone_before_the_call_got_nothing() {
    let (client, peer) = pair().await;
    peer.reset();
    let (stream, _) = client.into_parts();
    stream.socket().unwrap().readable().await.unwrap();
    let mut client = Client::over(stream);
    let failed = client.call(&["INCR", "k"]).await.unwrap_err();
    assert!(
        matches!(
            failed,
            ClientError::Lost {
                sent: Sent::No,
                answered: 0,
                ..
            }
        ),
        "{failed}"
    );
}

#[tokio::test]
async fn a_server_that_dies_while_it_reads_may_have_executed_the_first_commands() {
    let (mut client, mut peer) = pair().await;
    let value = vec![b'x'; 64 * 1024 * 1024];
    let die = async {
        peer.swallow(1000).await;
        peer.reset();
    };
    let command = [b"SET".as_slice(), b"k", &value];
    let (failed, ()) = tokio::join!(client.call(&command), die);
    let failed = failed.unwrap_err();
    assert!(
        matches!(
            failed,
            ClientError::Lost {
                sent: Sent::Maybe,
                ..
            }
        ),
        "{failed}"
    );
}

#[tokio::test]
async fn a_server_that_dies_after_it_read_may_have_executed_the_call() {
    let (mut client, mut peer) = pair().await;
    let die = async {
        peer.expect(PING).await;
        peer.reset();
    };
    let (failed, ()) = tokio::join!(client.call(&["PING"]), die);
    let failed = failed.unwrap_err();
    assert!(
        matches!(
            failed,
            ClientError::Lost {
                sent: Sent::Fully,
                ..
            }
        ),
        "{failed}"
    );
}

#[tokio::test]
async fn a_broken_pipeline_says_how_many_answers_had_come() {
    let (mut client, mut peer) = pair().await;
    peer.send(b"+PONG\r\n+PONG\r\n").await;
    let die = async {
        peer.swallow(3 * PING.len()).await;
        drop(peer);
    };
    let (failed, ()) = tokio::join!(client.pipeline(&[["PING"], ["PING"], ["PING"]]), die);
    let failed = failed.unwrap_err();
    assert!(
        matches!(
            failed,
            ClientError::Lost {
                sent: Sent::Fully,
                answered: 2,
                ..
            }
        ),
        "{failed}"
    );
}

#[tokio::test]
async fn after_a_timeout_the_connection_is_used_up() {
    let (mut client, mut peer) = pair().await;
    client.set_timeout(Duration::from_millis(20));
    let failed = client.call(&["PING"]).await.unwrap_err();
    assert!(
        matches!(
            failed,
            ClientError::TimedOut {
                sent: Sent::Fully,
                ..
            }
        ),
        "{failed}"
    );
    peer.send(b"+PONG\r\n").await;
    let failed = client.call(&["INCR", "k"]).await.unwrap_err();
    assert!(
        matches!(failed, ClientError::UsedUp),
        "the late answer must not be taken for this call's: {failed}"
    );
    assert_eq!(failed.sent(), Sent::No);
}

#[tokio::test]
async fn a_call_that_was_dropped_half_way_uses_the_connection_up() {
    let (mut client, mut peer) = pair().await;
    tokio::select! {
        _ = client.call(&["PING"]) => panic!("nobody answered"),
        () = peer.expect(PING) => {}
    }
    assert!(!client.is_usable());
    assert!(matches!(
        client.call(&["PING"]).await,
        Err(ClientError::UsedUp)
    ));
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let Err(failed) = Client::connect(&Endpoint::tcp("127.0.0.1", free), SOON).await else {
        panic!("somebody listens on {free}");
    };
    assert!(matches!(failed, ClientError::Connect(_)), "{failed}");
    assert!(
        failed
            .to_string()
            .starts_with(&format!("connect to 127.0.0.1:{free}: ")),
        "{failed}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_the_greeting_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::tcp("127.0.0.1", listener.local_addr().unwrap().port()).with_db(3);
    let Err(failed) = Client::connect(&endpoint, Duration::from_millis(50)).await else {
        panic!("no one greeted")
    };
    assert!(
        failed.to_string().ends_with("no answer within 50 ms"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_transaction_answers_with_the_answers_of_its_commands() {
    let (mut client, mut peer) = pair().await;
    peer.send(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n+OK\r\n")
        .await;
    let answers = client
        .transaction(&[vec!["INCR", "a"], vec!["SET", "b", "1"]])
        .await
        .unwrap();
    assert_eq!(answers, [Value::Integer(1), Value::ok()]);
    peer.send(b"+OK\r\n-ERR unknown command 'NOPE'\r\n-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    let answers = client.transaction(&[["NOPE"]]).await.unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].as_error(), Some("ERR unknown command 'NOPE'"));
}

#[tokio::test]
async fn bytes_that_are_no_redis_end_the_connection() {
    let (mut client, mut peer) = pair().await;
    peer.send(b"HTTP/1.1 400 Bad Request\r\n").await;
    let failed = client.call(&["PING"]).await.unwrap_err();
    assert!(matches!(failed, ClientError::Protocol(_)), "{failed}");
    assert!(!client.is_usable());
}

/// Feeds a reply whole, then cut at every byte.
async fn check(reply: &[u8], expect: Value) {
    for cut in 0..reply.len() {
        let (ours, theirs) = Stream::in_memory();
        let mut client = Client::over(ours);
        let serve = async {
            let mut theirs = theirs;
            tokio::io::AsyncWriteExt::write_all(&mut theirs, &reply[..cut])
                .await
                .unwrap();
            tokio::task::yield_now().await;
            tokio::io::AsyncWriteExt::write_all(&mut theirs, &reply[cut..])
                .await
                .unwrap();
            theirs
        };
        let (answer, _alive) = tokio::join!(client.call(&["X"]), serve);
        assert_eq!(answer.unwrap(), expect, "cut at {cut}");
    }
}

#[tokio::test]
async fn replies_of_both_protocols_are_read_however_they_are_cut() {
    let text = |text: &str| Value::text(text);
    check(b"$-1\r\n", Value::Null).await;
    check(b"*-1\r\n", Value::Null).await;
    check(b"_\r\n", Value::Null).await;
    check(
        b"*2\r\n$-1\r\n*1\r\n:3\r\n",
        Value::Array(vec![Value::Null, Value::Array(vec![Value::Integer(3)])]),
    )
    .await;
    let map = vec![
        (text("server"), text("x")),
        (text("proto"), Value::Integer(3)),
        (text("a"), Value::Boolean(true)),
    ];
    check(
        b"%3\r\n$6\r\nserver\r\n$1\r\nx\r\n$5\r\nproto\r\n:3\r\n$1\r\na\r\n#t\r\n",
        Value::Map(map),
    )
    .await;
    check(b"~1\r\n,1.5\r\n", Value::Set(vec![Value::Double(1.5)])).await;
    check(b"=6\r\ntxt:ab\r\n", text("ab")).await;
    check(b"!5\r\nERR x\r\n", Value::error("ERR x")).await;
    check(
        b"(123456789012345678901\r\n",
        Value::BigNumber("123456789012345678901".to_owned()),
    )
    .await;
}

#[tokio::test]
async fn pushes_are_kept_apart_from_answers() {
    let (mut client, mut peer) = pair().await;
    peer.send(b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n+PONG\r\n")
        .await;
    assert_eq!(
        client.call(&["PING"]).await.unwrap(),
        Value::Simple("PONG".to_owned())
    );
    let push = client.next_message(SOON).await.unwrap().unwrap();
    assert_eq!(
        push.as_slice().unwrap()[0],
        Value::Simple("invalidate".to_owned())
    );
    assert_eq!(client.next_message(Duration::ZERO).await.unwrap(), None);
}
