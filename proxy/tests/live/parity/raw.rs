//! Bytes that no well-behaved client library sends: inline commands, empty lines, broken frames, and what ends a connection.

use understudy_lab::Version;

use crate::parity::rules::shown;
use crate::parity::twins::Twins;

/// Each ends with a QUIT, or with an error that ends it: what both sides say until they close must be the same bytes.
const TALKS: &[&[u8]] = &[
    b"QUIT\r\nPING\r\n",
    b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nquit\r\n$1\r\nx\r\n",
    b"PING\r\nQUIT\r\n",
    b"PING\nQUIT\n",
    b"\r\n\r\n\n\nPING\r\n\r\nQUIT\r\n",
    b"   \r\nPING\r\nQUIT\r\n",
    b"  SET   k    v  \r\n GET\tk \r\nQUIT\r\n",
    b"SET k \"a b\\x00\\n\\\"\"\r\nGET k\r\nSET k 'it\\'s'\r\nGET k\r\nSET k ''\r\nGET k\r\nSET k \"\"\r\nGET k\r\nQUIT\r\n",
    b"SET k \"open\r\nPING\r\n",
    b"SET k 'open\r\nPING\r\n",
    b"NOSUCH a b\r\nGET\r\nECHO \"\\xff\\x00\"\r\nQUIT\r\n",
    b"MULTI\r\nSET k 1\r\nGET k\r\nEXEC\r\nMULTI\r\nSET k 2\r\nQUIT\r\n",
    b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n*-5\r\nPING\r\nQUIT\r\n",
    b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n",
    b"*1\r\n$0\r\n\r\nQUIT\r\n",
    b"*x\r\nPING\r\n",
    b"*1x\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\nQUIT\r\n",
    b"*01\r\n$4\r\nPING\r\nQUIT\r\n",
    b"*99999999999999999999\r\nPING\r\n",
    b"*2147483648\r\nPING\r\n",
    b"*\r\nPING\r\n",
    b"*1\r\n:4\r\nPING\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n\r\nPING\r\n",
    b"*2\r\n$3\r\nGET\r\n+k\r\n",
    b"*1\r\n$x\r\nPING\r\n",
    b"*1\r\n$-1\r\nPING\r\n",
    b"*1\r\n$-5\r\nPING\r\n",
    b"*1\r\n$4x\r\nPING\r\n",
    b"*1\r\n$99999999999999999999\r\nPING\r\n",
    b"*1\r\n$536870913\r\nPING\r\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n$x\r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\n1\r\n2\r\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nQUIT\r\n",
    b"GET k\r\nget K\r\nQUIT\r\n",
    b"GET / HTTP/1.1\r\nQUIT\r\n",
];

async fn say(version: Version, talk: &[u8], piece: usize) -> Option<String> {
    let mut twins = Twins::start(version).await;
    twins.say(talk, piece).await;
    let (expected, got) = (twins.direct.rest().await, twins.behind.rest().await);
    (expected != got).then(|| {
        format!(
            "{}\n  server: {}\n   proxy: {}",
            shown(&talk[..talk.len().min(20)]),
            shown(&expected),
            shown(&got)
        )
    })
}

async fn compare(version: Version, piece: usize) {
    let mut wrong = Vec::new();
    for talk in TALKS {
        wrong.extend(say(version, talk, piece).await);
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn odd_bytes_are_answered_as_by_redis() {
    compare(Version::Redis8_2_3, usize::MAX).await;
}

#[tokio::test]
async fn odd_bytes_in_small_pieces_are_answered_as_by_redis() {
    compare(Version::Redis8_2_3, 3).await;
}

#[tokio::test]
async fn odd_bytes_are_answered_as_by_valkey() {
    compare(Version::Valkey9_1_2, usize::MAX).await;
}

#[tokio::test]
async fn a_line_that_never_ends_is_refused() {
    let endless = vec![b'1'; 70 << 10];
    assert_eq!(say(Version::Redis8_2_3, &endless, usize::MAX).await, None);
    // A count of that length is wrong long before it ends; servers wait for 64 KiB of it and say "too big".
    for start in [&b"*"[..], b"*1\r\n$"] {
        let mut twins = Twins::start(Version::Redis8_2_3).await;
        twins.say(&[start, &endless].concat(), usize::MAX).await;
        for said in [twins.direct.rest().await, twins.behind.rest().await] {
            assert!(
                said.starts_with(b"-ERR Protocol error: "),
                "{}",
                shown(&said)
            );
        }
    }
}

/// Valkey 9.1 takes this for `SET k ab`; Redis does not, and nor do we.
#[tokio::test]
async fn what_follows_a_closing_quote_is_refused() {
    let talk = b"SET k \"a\"b\r\nPING\r\n";
    assert_eq!(say(Version::Redis8_2_3, talk, usize::MAX).await, None);
}

/// Servers close without a word; we say why first.
#[tokio::test]
async fn http_is_refused_and_its_connection_ends() {
    for talk in [
        "POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHALL\r\n",
        "PING\r\nhost: x\r\nPING\r\n",
    ] {
        let mut twins = Twins::start(Version::Redis8_2_3).await;
        twins.say(talk.as_bytes(), usize::MAX).await;
        assert_eq!(twins.direct.rest().await, b"");
        let said = String::from_utf8(twins.behind.rest().await).unwrap();
        assert!(said.ends_with("': this is no HTTP server\r\n"), "{said}");
    }
}
