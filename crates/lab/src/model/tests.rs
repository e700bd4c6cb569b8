//! The model answers as servers do; the ledger test over every version holds it against real ones.

use super::{Entry, Expiry, Op, Value, Window};
use crate::wire::Reply;

const WINDOW: Window = Window {
    sent_ms: 1_000,
    answered_ms: 1_010,
};

#[track_caller]
fn check(ops: &[(Op, Reply)], value: &Value) {
    let mut entry = Entry::default();
    for (op, reply) in ops {
        assert_eq!(&entry.apply(op, WINDOW), reply, "{op:?}");
    }
    assert_eq!(&entry.value, value);
}

#[test]
fn counters_start_at_zero_and_text_at_nothing() {
    check(
        &[
            (Op::Add(1), Reply::Integer(1)),
            (Op::Add(5), Reply::Integer(6)),
            (Op::Get, Reply::bulk("6")),
        ],
        &Value::Text(b"6".to_vec()),
    );
    check(
        &[
            (Op::Append(b"ab".to_vec()), Reply::Integer(2)),
            (Op::Strlen, Reply::Integer(2)),
        ],
        &Value::Text(b"ab".to_vec()),
    );
    check(
        &[(Op::Strlen, Reply::Integer(0)), (Op::Get, Reply::Null)],
        &Value::Absent,
    );
}

#[test]
fn an_emptied_container_is_no_key() {
    check(
        &[
            (Op::Push(vec![b"a".to_vec()]), Reply::Integer(1)),
            (Op::Pop, Reply::bulk("a")),
            (Op::Exists, Reply::Integer(0)),
        ],
        &Value::Absent,
    );
    check(
        &[
            (Op::MemberAdd(b"m".to_vec()), Reply::Integer(1)),
            (Op::MemberRemove(b"m".to_vec()), Reply::Integer(1)),
        ],
        &Value::Absent,
    );
    check(
        &[
            (Op::Length, Reply::Integer(0)),
            (Op::Pop, Reply::Null),
            (Op::Rank(b"m".to_vec()), Reply::Null),
        ],
        &Value::Absent,
    );
}

#[test]
fn a_rank_counts_lower_scores_then_lower_names() {
    let score = |member: &str, score| Op::Score(member.as_bytes().to_vec(), score);
    let mut entry = Entry::default();
    for op in [score("b", 1), score("a", 1), score("c", 0)] {
        assert_eq!(entry.apply(&op, WINDOW), Reply::Integer(1));
    }
    assert_eq!(
        entry.apply(&Op::Rank(b"b".to_vec()), WINDOW),
        Reply::Integer(2)
    );
}

#[test]
fn set_and_delete_end_an_expiry_and_append_keeps_it() {
    let mut entry = Entry::default();
    assert_eq!(
        entry.apply(&Op::ExpireIn { seconds: 9 }, WINDOW),
        Reply::Integer(0)
    );
    entry.apply(&Op::Append(b"a".to_vec()), WINDOW);
    assert_eq!(
        entry.apply(&Op::ExpireIn { seconds: 9 }, WINDOW),
        Reply::Integer(1)
    );
    entry.apply(&Op::Append(b"a".to_vec()), WINDOW);
    assert_eq!(entry.expiry, Expiry::Between(10_000, 10_010));
    entry.apply(&Op::Set(b"a".to_vec()), WINDOW);
    assert_eq!(entry.expiry, Expiry::Never);
    entry.apply(&Op::ExpireAt { unix_ms: 7 }, WINDOW);
    assert_eq!(entry.expiry, Expiry::Between(7, 7));
    assert_eq!(entry.apply(&Op::Persist, WINDOW), Reply::Integer(1));
    assert_eq!(entry.apply(&Op::Persist, WINDOW), Reply::Integer(0));
}

#[test]
fn a_wrong_type_is_an_error_and_changes_nothing() {
    let mut entry = Entry::default();
    entry.apply(&Op::Set(b"x".to_vec()), WINDOW);
    let before = entry.clone();
    assert!(matches!(entry.apply(&Op::Length, WINDOW), Reply::Error(_)));
    assert!(matches!(entry.apply(&Op::Add(1), WINDOW), Reply::Error(_)));
    assert_eq!(entry, before);
}
