//! What a book makes of replies, of missing ones and of wrong ones.

use super::{Book, Kind};
use crate::command::{Planned, Shape};
use crate::model::{Op, Value, Window};
use crate::wire::Reply;

const WINDOW: Window = Window {
    sent_ms: 0,
    answered_ms: 1,
};

fn book() -> Book {
    Book::new(3, "lab:", 2, true)
}

fn add(book: &Book) -> Planned {
    Planned {
        shape: Shape::Single,
        parts: vec![(book.key(0, Kind::Number), Op::Add(1))],
    }
}

#[test]
fn keys_of_a_group_share_a_hash_tag() {
    let book = book();
    assert_eq!(book.name(book.key(1, Kind::Number)), b"lab:{c3g1}:number");
}

#[test]
fn a_doubled_increment_is_a_wrong_reply_once() {
    let mut book = book();
    let command = add(&book);
    assert!(
        book.settle(1, &command, &[Reply::Integer(1)], WINDOW)
            .wrong
            .is_empty()
    );
    let verdict = book.settle(2, &command, &[Reply::Integer(3)], WINDOW);
    assert_eq!(verdict.wrong[0].found, ":3");
    assert!(
        book.settle(3, &command, &[Reply::Integer(4)], WINDOW)
            .wrong
            .is_empty(),
        "same cause"
    );
    let record = &book.keys[book.key(0, Kind::Number)];
    assert_eq!((record.acknowledged, record.last_acknowledged), (3, 3));
    assert_eq!(record.states[0].value, Value::Text(b"3".to_vec()));
}

#[test]
fn unanswered_commands_allow_every_prefix_and_nothing_else() {
    let mut book = book();
    let key = book.key(0, Kind::List);
    let push = |token: &str| Planned {
        shape: Shape::Single,
        parts: vec![(key, Op::Push(vec![token.into()]))],
    };
    book.unknown(&[push("a"), push("b")], WINDOW);
    let list = |tokens: &[&str]| {
        Value::List(
            tokens
                .iter()
                .map(|token| token.as_bytes().to_vec())
                .collect(),
        )
    };
    let values: Vec<Value> = book.keys[key]
        .states
        .iter()
        .map(|state| state.value.clone())
        .collect();
    assert_eq!(values, [Value::Absent, list(&["a"]), list(&["a", "b"])]);
    book.retire([key]);
    assert_ne!(book.key(0, Kind::List), key);
}

#[test]
fn a_transaction_is_unknown_as_a_whole() {
    let mut book = book();
    let key = book.key(0, Kind::Number);
    let command = Planned {
        shape: Shape::Transaction,
        parts: vec![(key, Op::Add(1)), (key, Op::Add(1))],
    };
    book.unknown(&[command], WINDOW);
    let values: Vec<Value> = book.keys[key]
        .states
        .iter()
        .map(|state| state.value.clone())
        .collect();
    assert_eq!(values, [Value::Absent, Value::Text(b"2".to_vec())]);
}

#[test]
fn a_later_answer_narrows_what_is_allowed() {
    let mut book = book();
    let command = add(&book);
    book.unknown(std::slice::from_ref(&command), WINDOW);
    assert!(
        book.settle(2, &command, &[Reply::Integer(2)], WINDOW)
            .wrong
            .is_empty()
    );
    assert_eq!(book.keys[book.key(0, Kind::Number)].states.len(), 1);
}

#[test]
fn an_error_reply_leaves_both_outcomes_open() {
    let mut book = book();
    let command = add(&book);
    let verdict = book.settle(1, &command, &[Reply::Error("READONLY".to_owned())], WINDOW);
    assert_eq!((verdict.errors.len(), verdict.acknowledged_writes), (1, 0));
    assert_eq!(book.keys[book.key(0, Kind::Number)].states.len(), 2);
}

#[test]
fn a_sum_over_keys_is_known() {
    let mut book = book();
    let (first, second) = (book.key(0, Kind::Text), book.key(1, Kind::Text));
    let set = Planned {
        shape: Shape::Mset,
        parts: vec![
            (first, Op::Set(b"v".to_vec())),
            (second, Op::Set(b"v".to_vec())),
        ],
    };
    assert_eq!(
        book.settle(1, &set, &[Reply::ok()], WINDOW)
            .acknowledged_writes,
        2
    );
    let delete = Planned {
        shape: Shape::Sum,
        parts: vec![(first, Op::Delete), (second, Op::Delete)],
    };
    assert!(
        book.settle(2, &delete, &[Reply::Integer(2)], WINDOW)
            .wrong
            .is_empty()
    );
    let again = book.settle(3, &delete, &[Reply::Integer(1)], WINDOW);
    assert_eq!(again.wrong.len(), 1);
}

#[test]
fn a_transaction_answers_with_its_parts() {
    let mut book = book();
    let key = book.key(0, Kind::Number);
    let command = Planned {
        shape: Shape::Transaction,
        parts: vec![(key, Op::Add(1)), (key, Op::Get)],
    };
    let queued = Reply::Simple("QUEUED".to_owned());
    let exec = Reply::Array(vec![Reply::Integer(1), Reply::bulk("1")]);
    let good = book.settle(
        1,
        &command,
        &[Reply::ok(), queued.clone(), queued.clone(), exec],
        WINDOW,
    );
    assert!(good.wrong.is_empty() && good.errors.is_empty());
    let bad = book.settle(
        2,
        &command,
        &[Reply::ok(), queued.clone(), queued, Reply::Null],
        WINDOW,
    );
    assert_eq!(bad.wrong[0].expected, "an array of 2");
}
