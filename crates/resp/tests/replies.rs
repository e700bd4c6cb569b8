//! Replies: where one ends, what kind it is, and that cuts do not matter.

mod cuts;

use cuts::SMALL;
use proptest::prelude::*;
use understudy_resp::scan::{ReplyScanner, ScanLimits};

/// Feeds the bytes in pieces that end at `cuts`; gives kinds and lengths, then what is left or wrong.
fn read(bytes: &[u8], cuts: &[usize], limits: &ScanLimits) -> String {
    let mut scanner = ReplyScanner::new();
    let mut text = String::new();
    let mut at = 0;
    let mut need = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        while at < end {
            match scanner.scan(&bytes[at..end], limits) {
                Ok(Some(frame)) => {
                    assert!(frame.len > 0 && at + frame.len <= end, "over-read");
                    assert!(frame.len >= need, "said {need}, was {}", frame.len);
                    text.push_str(&format!("{:?} {};", frame.kind, frame.len));
                    at += frame.len;
                    need = 0;
                }
                Ok(None) => {
                    need = scanner.need();
                    assert!(need > end - at, "need {need} is there already");
                    break;
                }
                Err(error) => return format!("{text}!{error}"),
            }
        }
    }
    if at < bytes.len() {
        text.push('…');
    }
    text
}

#[track_caller]
fn check_with(input: &[u8], expect: &str, limits: &ScanLimits) {
    cuts::check(input, expect, |cuts| read(input, cuts, limits));
}

#[track_caller]
fn check(input: &[u8], expect: &str) {
    check_with(input, expect, &ScanLimits::default());
}

#[test]
fn every_type_of_resp2_has_a_kind() {
    check(b"+OK\r\n", "Simple 5;");
    check(b"+\r\n", "Simple 3;");
    check(b"-ERR no\r\n", "Error 9;");
    check(b":-12\r\n", "Integer 6;");
    check(b"$5\r\nhello\r\n", "Bulk 11;");
    check(b"$0\r\n\r\n", "Bulk 6;");
    check(b"$-1\r\n", "Null 5;");
    check(b"*-1\r\n", "Null 5;");
    check(b"*0\r\n", "Array 4;");
    check(b"*2\r\n$1\r\na\r\n:1\r\n", "Array 15;");
}

#[test]
fn every_type_of_resp3_has_a_kind() {
    check(b"_\r\n", "Null 3;");
    check(b"#t\r\n", "Other 4;");
    check(b",1.5\r\n", "Other 6;");
    check(b",-inf\r\n", "Other 7;");
    check(
        b"(3492890328409238509324850943850943825024385\r\n",
        "Other 46;",
    );
    check(b"!3\r\nERR\r\n", "Error 9;");
    check(b"=8\r\ntxt:abcd\r\n", "Other 14;");
    check(b"%1\r\n+a\r\n:1\r\n", "Other 12;");
    check(b"~2\r\n:1\r\n:2\r\n", "Other 12;");
    check(b">2\r\n+message\r\n:1\r\n", "Push 18;");
}

#[test]
fn a_bulk_string_may_contain_crlf() {
    check(b"$4\r\na\r\nb\r\n+OK\r\n", "Bulk 10;Simple 5;");
}

#[test]
fn nested_replies_are_one_frame() {
    check(b"*2\r\n*1\r\n*0\r\n*-1\r\n:1\r\n", "Array 17;Integer 4;");
    check(
        b"*3\r\n$-1\r\n%1\r\n+k\r\n~1\r\n_\r\n-ERR\r\n+OK\r\n",
        "Array 30;Simple 5;",
    );
    check(b"*1\r\n*1\r\n*1\r\n$1\r\nx\r\n", "Array 19;");
}

#[test]
fn an_attribute_belongs_to_the_reply_behind_it() {
    check(b"|1\r\n+ttl\r\n:5\r\n$1\r\nv\r\n", "Bulk 21;");
    check(b"|1\r\n+a\r\n*2\r\n:1\r\n:2\r\n:3\r\n", "Integer 24;");
    check(
        b"|1\r\n+a\r\n+b\r\n|1\r\n+c\r\n+d\r\n>1\r\n+x\r\n",
        "Push 32;",
    );
    check(
        b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n:9\r\n",
        "Array 24;Integer 4;",
    );
    check(b"|0\r\n:1\r\n", "Integer 8;");
    check(
        b"|1\r\n+a\r\n|1\r\n+x\r\n+y\r\n+b\r\n*1\r\n:1\r\n",
        "Array 32;",
    );
}

#[test]
fn pipelined_replies_come_one_by_one() {
    check(
        b"+OK\r\n+OK\r\n:1\r\n$1\r\na\r\n",
        "Simple 5;Simple 5;Integer 4;Bulk 7;",
    );
    check(b"+OK\r\n$5\r\nhel", "Simple 5;…");
}

#[test]
fn what_is_no_reply_is_named() {
    check(b"hello\r\n", "!unknown reply type 'h'");
    check(b"+OK\r\n\r\n", "Simple 5;!unknown reply type '\\r'");
    check(b"+OK\n", "!expected CRLF");
    check(b"+OK\rx", "!expected CRLF");
    check(b"$x\r\n", "!invalid reply length");
    check(b"$-2\r\n", "!invalid reply length");
    check(b"$?\r\n", "!invalid reply length");
    check(b"!-1\r\n", "!invalid reply length");
    check(b"%-1\r\n", "!invalid reply length");
    check(b"*99999999999999999999\r\n", "!invalid reply length");
    check(b"$3\r\nabcd\r\n", "!expected CRLF");
    check(b"*1\r\nx", "!unknown reply type 'x'");
}

#[test]
fn each_limit_is_reached_and_not_passed() {
    check_with(b"$65\r\n", "!invalid reply length", &SMALL);
    check_with(b"$64\r\n", "…", &SMALL);
    check_with(b"*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "Array 20;", &SMALL);
    check_with(
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        "!reply nests too deep",
        &SMALL,
    );
    check_with(
        &[b"*99\r\n".as_slice(), &b":1\r\n".repeat(80)].concat(),
        "!too big frame",
        &SMALL,
    );
    check_with(
        &[b"+".as_slice(), &[b'a'; 300]].concat(),
        "!too big frame",
        &SMALL,
    );
}

#[test]
fn an_incomplete_reply_says_what_it_needs() {
    let need = |bytes: &[u8]| {
        let mut scanner = ReplyScanner::new();
        assert_eq!(scanner.scan(bytes, &ScanLimits::default()), Ok(None));
        scanner.need()
    };
    assert_eq!(need(b""), 1);
    assert_eq!(need(b"$1000\r\n"), 7 + 1000 + 2);
    assert_eq!(need(b"*2\r\n$1000\r\nab"), 11 + 1000 + 2);
    assert_eq!(need(b"+O"), 3);
}

#[derive(Debug, Clone)]
enum Tree {
    Leaf(Vec<u8>, &'static str),
    Many(u8, &'static str, Vec<Tree>),
    Attributed(Vec<(Tree, Tree)>, Box<Tree>),
}

impl Tree {
    fn kind(&self) -> &'static str {
        match self {
            Tree::Leaf(_, kind) | Tree::Many(_, kind, _) => kind,
            Tree::Attributed(_, reply) => reply.kind(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Tree::Leaf(bytes, _) => out.extend_from_slice(bytes),
            Tree::Many(marker, _, elements) => {
                let count = if *marker == b'%' {
                    elements.len() / 2
                } else {
                    elements.len()
                };
                out.extend_from_slice(format!("{}{count}\r\n", char::from(*marker)).as_bytes());
                let written = if *marker == b'%' { count * 2 } else { count };
                elements[..written]
                    .iter()
                    .for_each(|element| element.write(out));
            }
            Tree::Attributed(pairs, reply) => {
                out.extend_from_slice(format!("|{}\r\n", pairs.len()).as_bytes());
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
                reply.write(out);
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        "[ -~]{0,20}".prop_map(|text| Tree::Leaf(format!("+{text}\r\n").into_bytes(), "Simple")),
        "[ -~]{0,20}".prop_map(|text| Tree::Leaf(format!("-{text}\r\n").into_bytes(), "Error")),
        any::<i64>().prop_map(|value| Tree::Leaf(format!(":{value}\r\n").into_bytes(), "Integer")),
        any::<f64>().prop_map(|value| Tree::Leaf(format!(",{value}\r\n").into_bytes(), "Other")),
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(|value| {
            let mut out = Vec::new();
            understudy_resp::encode::bulk(&mut out, &value);
            Tree::Leaf(out, "Bulk")
        }),
        Just(Tree::Leaf(b"$-1\r\n".to_vec(), "Null")),
        Just(Tree::Leaf(b"_\r\n".to_vec(), "Null")),
        Just(Tree::Leaf(b"#f\r\n".to_vec(), "Other")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let many = proptest::collection::vec(inner.clone(), 0..6);
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            many.clone()
                .prop_map(|elements| Tree::Many(b'*', "Array", elements)),
            many.clone()
                .prop_map(|elements| Tree::Many(b'%', "Other", elements)),
            many.clone()
                .prop_map(|elements| Tree::Many(b'~', "Other", elements)),
            many.prop_map(|elements| Tree::Many(b'>', "Push", elements)),
            (proptest::collection::vec(pair, 0..3), inner)
                .prop_map(|(pairs, reply)| Tree::Attributed(pairs, Box::new(reply))),
        ]
    })
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => Just(b"\r\n".to_vec()),
        3 => Just(b"*2\r\n".to_vec()),
        2 => Just(b"$3\r\nabc\r\n".to_vec()),
        2 => Just(b"+OK\r\n".to_vec()),
        2 => Just(b":1\r\n".to_vec()),
        1 => Just(b"|1\r\n".to_vec()),
        1 => Just(b"%1\r\n".to_vec()),
        1 => Just(b"*999999999999999999\r\n".to_vec()),
        1 => Just(b"|999999999999999999\r\n".to_vec()),
        1 => Just(b"$999999999999999999\r\n".to_vec()),
        2 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replies_end_where_they_were_written_to_end(
        trees in proptest::collection::vec(tree(), 1..4),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut bytes = Vec::new();
        let mut expect = String::new();
        for tree in &trees {
            let start = bytes.len();
            tree.write(&mut bytes);
            expect.push_str(&format!("{} {};", tree.kind(), bytes.len() - start));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&read(&bytes, &[], &ScanLimits::default()), &expect);
        prop_assert_eq!(read(&bytes, &cuts, &ScanLimits::default()), expect);
    }

    #[test]
    fn noise_never_panics_and_cuts_never_matter(
        bytes in noise(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        small in any::<bool>(),
    ) {
        let limits = if small { SMALL } else { ScanLimits { bulk_max: u64::MAX, ..ScanLimits::default() } };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = read(&bytes, &[], &limits);
        prop_assert_eq!(&read(&bytes, &cuts, &limits), &whole);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(read(&bytes, &every, &limits), whole);
    }

    #[test]
    fn a_caller_that_breaks_the_rules_gets_no_panic(pieces in proptest::collection::vec(noise(), 1..6)) {
        let mut scanner = ReplyScanner::new();
        for piece in &pieces {
            let _ = scanner.scan(piece, &SMALL);
            let _ = scanner.need();
        }
    }
}
