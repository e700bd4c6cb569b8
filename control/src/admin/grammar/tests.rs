//! Which words make which request, and what is said of those that make none.

use super::*;

fn words(line: &str) -> Result<Request, Refusal> {
    let words: Vec<&[u8]> = line
        .split(' ')
        .filter(|word| !word.is_empty())
        .map(str::as_bytes)
        .collect();
    parse(&words)
}

#[track_caller]
fn refuses(line: &str, expect: &str) {
    match words(line) {
        Err(Refusal::Wrong(text)) => assert!(text.contains(expect), "{line}: {text}"),
        Err(Refusal::Blocked(text)) => {
            assert!(format!("BLOCKED {text}").contains(expect), "{line}: {text}");
        }
        Ok(request) => panic!("{line}: {request:?}"),
    }
}

#[test]
fn start_has_the_defaults_of_the_contract() {
    let Ok(Request::Start(start)) = words("start sessions to s1=redis://h:1 s2=redis://h:2") else {
        panic!()
    };
    assert_eq!(start.pool, "sessions");
    assert_eq!(start.targets.len(), 2);
    assert_eq!(start.options.hold_max_ms, 100);
    assert_eq!(start.options.soak_s, None);
    assert_eq!(start.options.cutover, CutoverMode::Auto);
    assert_eq!(
        start.options.snapshot,
        SnapshotChoice::Recipe("local".to_owned())
    );
}

#[test]
fn start_takes_every_option_in_any_order() {
    let line = "START p TO s=redis://h:1 ACCEPT big-keys Clock-Skew REPLACE SOAK 60 HOLD-MAX 250 CUTOVER manual SNAPSHOT none LINK native";
    let Ok(Request::Start(start)) = words(line) else {
        panic!("{:?}", words(line))
    };
    assert_eq!(start.options.accept, ["big-keys", "clock-skew"]);
    assert!(start.options.replace);
    assert_eq!(start.options.soak_s, Some(60));
    assert_eq!(start.options.hold_max_ms, 250);
    assert_eq!(start.options.cutover, CutoverMode::Manual);
    assert_eq!(start.options.snapshot, SnapshotChoice::None);
}

#[test]
fn what_is_wrong_is_named() {
    refuses("", "needs a verb");
    refuses("FROB p", "unknown subcommand 'FROB'");
    refuses("START p", "wrong number of arguments");
    refuses("START p s1=redis://h:1", "expected TO");
    refuses("START p TO", "no shard=url after TO");
    refuses("START p TO s1= ", "is not shard=url");
    refuses("START p TO s1=a s1=b", "named twice");
    refuses("START p TO s1=a WHAT", "unknown option 'WHAT'");
    refuses("START p TO s1=a HOLD-MAX", "HOLD-MAX needs a value");
    refuses("START p TO s1=a HOLD-MAX x", "whole number");
    refuses("START p TO s1=a HOLD-MAX 0", "HOLD-MAX is 1 to");
    refuses("START p TO s1=a CUTOVER later", "auto or manual");
    refuses("START p TO s1=a LINK wire", "no link 'wire'");
    refuses("WAIT p done 10", "no phase 'done'");
    refuses("WAIT p soak", "wrong number of arguments");
    refuses("ROLLBACK p ACCEPT-LOSS", "wrong number of arguments");
    refuses("CUTOVER", "wrong number of arguments");
}

#[test]
fn what_does_not_exist_yet_is_blocked_and_named() {
    refuses(
        "START p TO s1=a LINK relay",
        "BLOCKED link-missing: the relay link is not in this build",
    );
    refuses(
        "PLAN p TO s1=a LINK copy",
        "the copy link is not in this build",
    );
    refuses(
        "START p TO s1=a SNAPSHOT e/bs",
        "no name of a snapshot recipe",
    );
}

#[test]
fn an_error_never_repeats_a_password() {
    for line in [
        "START p TO s1=a redis://u:secret@h:1",
        "START p redis://u:secret@h:1",
    ] {
        let Err(Refusal::Wrong(text)) = words(line) else {
            panic!()
        };
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn rollback_takes_a_shard_and_a_loss() {
    let shard = |shard: Option<&str>, accept_loss| Request::Rollback {
        pool: "p".into(),
        shard: shard.map(str::to_owned),
        accept_loss,
    };
    assert_eq!(words("ROLLBACK p"), Ok(shard(None, None)));
    assert_eq!(words("ROLLBACK p s1"), Ok(shard(Some("s1"), None)));
    assert_eq!(words("ROLLBACK p ACCEPT-LOSS 3"), Ok(shard(None, Some(3))));
    assert_eq!(
        words("rollback p s1 accept-loss 3"),
        Ok(shard(Some("s1"), Some(3)))
    );
}

#[test]
fn status_tells_a_pool_from_json() {
    assert_eq!(
        words("STATUS"),
        Ok(Request::Status {
            pool: None,
            json: false
        })
    );
    assert_eq!(
        words("STATUS json"),
        Ok(Request::Status {
            pool: None,
            json: true
        })
    );
    assert_eq!(
        words("STATUS p"),
        Ok(Request::Status {
            pool: Some("p".into()),
            json: false
        })
    );
    assert_eq!(
        words("STATUS p JSON"),
        Ok(Request::Status {
            pool: Some("p".into()),
            json: true
        })
    );
}
