//! Requests: what is a frame, what is none, and that cuts do not matter.

mod cuts;

use cuts::SMALL;
use proptest::prelude::*;
use understudy_resp::args::{Args, FrameArgs};
use understudy_resp::encode;
use understudy_resp::scan::{ProtocolError, RequestScanner, Scan, ScanLimits};

/// Everything that a stream of bytes holds, as text: frames, then what is left or wrong.
fn read_whole(bytes: &[u8], limits: &ScanLimits) -> String {
    let mut scanner = RequestScanner::new();
    let mut text = String::new();
    let mut at = 0;
    loop {
        match scanner.scan(&bytes[at..], limits) {
            Ok(Scan::Complete { len }) => {
                assert!(len > 0 && at + len <= bytes.len(), "over-read");
                text.push_str(&shown(&scanner, &bytes[at..at + len]));
                at += len;
            }
            Ok(Scan::Incomplete { need }) => {
                assert!(need > bytes.len() - at, "need {need} is there already");
                if at < bytes.len() {
                    text.push('…');
                }
                return text;
            }
            Err(error) => return format!("{text}!{error}"),
        }
    }
}

/// As `read_whole`, the bytes coming in these pieces.
fn read_pieces(bytes: &[u8], cuts: &[usize], limits: &ScanLimits) -> String {
    let mut scanner = RequestScanner::new();
    let mut text = String::new();
    let mut at = 0;
    let mut need = 0;
    for &end in cuts.iter().chain([&bytes.len()]) {
        while at < end {
            match scanner.scan(&bytes[at..end], limits) {
                Ok(Scan::Complete { len }) => {
                    assert!(len >= need, "said {need}, was {len}");
                    text.push_str(&shown(&scanner, &bytes[at..at + len]));
                    at += len;
                    need = 0;
                }
                Ok(Scan::Incomplete { need: more }) => {
                    need = more;
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

fn shown(scanner: &RequestScanner, frame: &[u8]) -> String {
    let args: Vec<String> = if scanner.is_inline() {
        assert!(scanner.args().is_empty());
        scanner
            .inline_args()
            .iter()
            .map(|arg| arg.escape_ascii().to_string())
            .collect()
    } else {
        let args = FrameArgs {
            frame,
            ranges: scanner.args(),
        };
        (0..args.count())
            .map(|index| args.arg(index).escape_ascii().to_string())
            .collect()
    };
    format!("<{}>", args.join(" "))
}

#[track_caller]
fn check_with(input: &[u8], expect: &str, limits: &ScanLimits) {
    assert_eq!(
        read_whole(input, limits),
        expect,
        "{}",
        input.escape_ascii()
    );
    cuts::check(input, expect, |cuts| read_pieces(input, cuts, limits));
}

#[track_caller]
fn check(input: &[u8], expect: &str) {
    check_with(input, expect, &ScanLimits::default());
}

#[test]
fn multibulk_frames_become_ranges() {
    check(b"*1\r\n$4\r\nPING\r\n", "<PING>");
    check(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", "<SET k >");
    check(
        b"*2\r\n$3\r\nGET\r\n$12\r\n0123456789ab\r\n",
        "<GET 0123456789ab>",
    );
    check(b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n", "<PING><PING>");
    check(b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI", "<PING>…");
}

#[test]
fn a_bulk_string_may_contain_anything() {
    check(
        b"*1\r\n$10\r\n\r\n$1\r\n*1\r\n\r\n",
        "<\\r\\n$1\\r\\n*1\\r\\n>",
    );
    check(b"*1\r\n$3\r\n\x00\xff\r\r\n", "<\\x00\\xff\\r>");
}

#[test]
fn frames_without_arguments_are_complete() {
    check(b"*0\r\n*-1\r\n*-7\r\n\r\n\n  \r\n", "<><><><><><>");
    check(b"*0\r\nPING\r\n", "<><PING>");
}

#[test]
fn inline_commands_end_at_a_line_end_of_either_kind() {
    check(b"PING\r\n", "<PING>");
    check(b"PING\nGET k\n", "<PING><GET k>");
    check(b"SET k \"a\\x41 b\"\r\n", "<SET k aA b>");
    check(b"PING", "…");
    check(b"SET k \"a\r\n", "!unbalanced quotes in request");
    check(b"*1\r\n$4\r\nPING\r\nPING x\r\n", "<PING><PING x>");
}

#[test]
fn what_is_no_frame_is_named_as_redis_names_it() {
    check(b"*x\r\n", "!invalid multibulk length");
    check(b"*\r\n", "!invalid multibulk length");
    check(b"*01\r\n", "!invalid multibulk length");
    check(b"*+1\r\n", "!invalid multibulk length");
    check(b"*1048577\r\n", "!invalid multibulk length");
    check(b"*99999999999999999999\r\n", "!invalid multibulk length");
    check(b"*1\r\nGET\r\n", "!expected '$', got 'G'");
    check(b"*1\r\n\r\n", "!expected '$', got ' '");
    check(b"*2\r\n$3\r\nGET\r\n\x00", "!expected '$', got '\\x00'");
    check(b"*1\r\n$x\r\n", "!invalid bulk length");
    check(b"*1\r\n$-1\r\n", "!invalid bulk length");
    check(b"*1\r\n$536870913\r\n", "!invalid bulk length");
    check(b"*1\r\n$3\r\nGETx\r\n", "!expected CRLF");
    check(b"*1\r\n$3\r\nGET\rx", "!expected CRLF");
    check(b"*1\rx", "!expected CRLF");
    check(b"*1\n$4\nPING\n", "!invalid multibulk length");
}

#[test]
fn frames_before_a_broken_one_are_not_lost() {
    check(
        b"*1\r\n$4\r\nPING\r\n*1\r\n:1\r\n",
        "<PING>!expected '$', got ':'",
    );
}

#[test]
fn each_limit_is_reached_and_not_passed() {
    check_with(b"*9\r\n", "!invalid multibulk length", &SMALL);
    check_with(b"*8\r\n", "…", &SMALL);
    check_with(b"*1\r\n$65\r\n", "!invalid bulk length", &SMALL);
    check_with(b"*1\r\n$64\r\n", "…", &SMALL);
    check_with(&[b'a'; 32], "…", &SMALL);
    check_with(&[b'a'; 33], "!too big inline request", &SMALL);
    check_with(
        &[[b'a'; 32].as_slice(), b"\r\n"].concat(),
        &format!("<{}>", "a".repeat(32)),
        &SMALL,
    );
    check_with(
        &[[b'a'; 33].as_slice(), b"\n"].concat(),
        "!too big inline request",
        &SMALL,
    );
    let args: Vec<Vec<u8>> = vec![vec![b'x'; 60]; 5];
    let mut frame = Vec::new();
    encode::command(&mut frame, &args);
    check_with(&frame, "!too big frame", &SMALL);
}

#[test]
fn a_promised_count_reserves_no_memory() {
    let mut scanner = RequestScanner::new();
    let found = scanner
        .scan(b"*1048576\r\n$1\r\na\r\n", &ScanLimits::default())
        .unwrap();
    assert_eq!(
        found,
        Scan::Incomplete {
            need: 17 + 1_048_575 * 6
        }
    );
    assert_eq!(scanner.args().len(), 1);
}

#[test]
fn an_incomplete_frame_says_what_it_needs() {
    let need = |bytes: &[u8]| match RequestScanner::new().scan(bytes, &ScanLimits::default()) {
        Ok(Scan::Incomplete { need }) => need,
        other => panic!("{other:?}"),
    };
    assert_eq!(need(b""), 1);
    assert_eq!(need(b"*"), 4);
    assert_eq!(need(b"*1\r\n"), 10);
    assert_eq!(need(b"*1\r\n$1000\r\n"), 11 + 1002);
    assert_eq!(need(b"*2\r\n$1000\r\nabc"), 11 + 1002 + 6);
}

#[test]
fn reset_forgets_a_half_scanned_frame() {
    let mut scanner = RequestScanner::new();
    scanner
        .scan(b"*2\r\n$3\r\nGET\r\n", &ScanLimits::default())
        .unwrap();
    scanner.reset();
    let found = scanner
        .scan(b"*1\r\n$4\r\nPING\r\n", &ScanLimits::default())
        .unwrap();
    assert_eq!(found, Scan::Complete { len: 14 });
    assert_eq!(scanner.arg(b"*1\r\n$4\r\nPING\r\n", 0), b"PING");
    assert_eq!(scanner.arg(b"*1\r\n$4\r\nPING\r\n", 1), b"");
    assert_eq!(scanner.arg(b"", 0), b"");
}

#[test]
fn errors_are_the_same_kind_however_they_are_reached() {
    let error = RequestScanner::new()
        .scan(b"*1\r\n%", &ScanLimits::default())
        .unwrap_err();
    assert_eq!(error, ProtocolError::ExpectedBulk(b'%'));
}

/// Bytes that look like the protocol often enough to get deep into the scanner.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"\r\n".to_vec()),
        3 => Just(b"*2\r\n".to_vec()),
        3 => Just(b"$3\r\n".to_vec()),
        2 => Just(b"abc\r\n".to_vec()),
        1 => Just(b"*-1\r\n".to_vec()),
        1 => Just(b"\"".to_vec()),
        1 => Just(b"$18446744073709551615\r\n".to_vec()),
        2 => (0_i64..40).prop_map(|n| format!("${n}\r\n").into_bytes()),
        2 => proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_scan_back_however_they_are_cut(
        commands in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6), 0..5),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut bytes = Vec::new();
        let mut expect = String::new();
        for args in &commands {
            encode::command(&mut bytes, args);
            let words: Vec<String> = args.iter().map(|arg| arg.escape_ascii().to_string()).collect();
            expect.push_str(&format!("<{}>", words.join(" ")));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&read_whole(&bytes, &ScanLimits::default()), &expect);
        prop_assert_eq!(read_pieces(&bytes, &cuts, &ScanLimits::default()), expect);
    }

    #[test]
    fn noise_never_panics_and_cuts_never_matter(
        bytes in noise(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        small in any::<bool>(),
    ) {
        let limits = if small { SMALL } else { ScanLimits::default() };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = read_whole(&bytes, &limits);
        prop_assert_eq!(&read_pieces(&bytes, &cuts, &limits), &whole);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(read_pieces(&bytes, &every, &limits), whole);
    }

    #[test]
    fn a_caller_that_breaks_the_rules_gets_no_panic(pieces in proptest::collection::vec(noise(), 1..6)) {
        // Other bytes than before, and fewer: the answers mean nothing, but there are answers.
        let mut scanner = RequestScanner::new();
        for piece in &pieces {
            let _ = scanner.scan(piece, &SMALL);
            let _ = (scanner.arg(piece, 0), scanner.inline_args().len());
        }
    }
}
