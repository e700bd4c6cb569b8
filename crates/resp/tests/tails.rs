//! A tail says of any bytes, cut anywhere, what a scanner says of them.

use understudy_resp::scan::{
    Fed, ProtocolError, ReplyScanner, ReplyTail, RequestScanner, RequestTail, Scan, ScanLimits,
};

const LIMITS: ScanLimits = ScanLimits {
    args_max: 8,
    bulk_max: 64,
    inline_max: 64,
    frame_max: 1 << 20,
    depth_max: 3,
};

/// Feeds `bytes` in pieces of these sizes, in turn; gives where the frame ended.
fn feed(
    bytes: &[u8],
    pieces: &[usize],
    mut next: impl FnMut(&[u8]) -> Result<Fed, ProtocolError>,
) -> Result<Option<usize>, ProtocolError> {
    let mut at = 0;
    for size in pieces.iter().cycle() {
        let piece = &bytes[at..(at + size).min(bytes.len())];
        let fed = next(piece)?;
        at += fed.taken;
        if fed.over {
            return Ok(Some(at));
        }
        assert_eq!(fed.taken, piece.len(), "what is not over takes everything");
        if at == bytes.len() {
            return Ok(None);
        }
    }
    unreachable!("pieces are cycled")
}

const CUTS: [&[usize]; 5] = [&[1], &[2], &[3, 1], &[7, 2, 1], &[1 << 20]];

#[track_caller]
fn check_reply(text: &str) {
    let bytes = text.as_bytes();
    let expect = ReplyScanner::new()
        .scan(bytes, &LIMITS)
        .map(|frame| frame.map(|it| it.len));
    for cut in CUTS {
        let mut tail = ReplyTail::new();
        let found = feed(bytes, cut, |piece| tail.feed(piece, &LIMITS));
        assert_eq!(found, expect, "{text:?} in pieces of {cut:?}");
    }
}

#[test]
fn replies_end_where_the_scanner_says() {
    for text in [
        "+OK\r\n+next\r\n",
        "$5\r\nhello\r\n$-1\r\n",
        "$0\r\n\r\nx",
        "$-1\r\n+x",
        "*-1\r\n+x",
        "*0\r\n+x",
        "*3\r\n$1\r\na\r\n:12\r\n*2\r\n+x\r\n$-1\r\n:7\r\n",
        "*2\r\n*0\r\n*1\r\n*0\r\n+x\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n+x\r\n",
        "~1\r\n#t\r\n+x\r\n",
        "|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n+x\r\n",
        "*2\r\n|1\r\n+a\r\n:1\r\n:5\r\n:6\r\n+x\r\n",
        "=7\r\ntxt:abc\r\n+x\r\n",
        "!3\r\nERR\r\n+x\r\n",
        "_\r\n,3.5\r\n",
        "*2\r\n$3\r\nab",
        "$5\r\nhello",
        "$5\r\nhello\r",
    ] {
        check_reply(text);
    }
}

#[test]
fn what_is_no_reply_is_refused_as_the_scanner_refuses_it() {
    for text in [
        "?x",
        "$x\r\n",
        "$-2\r\n",
        "$03\r\n",
        "$65\r\n",
        "$2\r\nabcd",
        "*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "+a\n",
        "+a\rb",
        "*1\rx",
        "$\r\n",
        "%-1\r\n",
    ] {
        assert!(ReplyScanner::new().scan(text.as_bytes(), &LIMITS).is_err());
        check_reply(text);
    }
}

#[track_caller]
fn check_request(text: &str) {
    let bytes = text.as_bytes();
    let expect = RequestScanner::new()
        .scan(bytes, &LIMITS)
        .map(|scan| match scan {
            Scan::Complete { len } => Some(len),
            Scan::Incomplete { .. } => None,
        });
    for cut in CUTS {
        let mut tail = RequestTail::new();
        let found = feed(bytes, cut, |piece| tail.feed(piece, &LIMITS));
        assert_eq!(found, expect, "{text:?} in pieces of {cut:?}");
    }
}

#[test]
fn requests_end_where_the_scanner_says() {
    for text in [
        "*1\r\n$4\r\nPING\r\n*1\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123\r\n6789\r\n*1\r\n",
        "*2\r\n$3\r\nGET\r\n$0\r\n\r\nx",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n012",
        "*0\r\nx",
        "*-1\r\nx",
    ] {
        check_request(text);
    }
}

#[test]
fn what_is_no_request_is_refused_as_the_scanner_refuses_it() {
    for text in [
        "*9\r\n",
        "*x\r\n",
        "*1\rx",
        "*1\r\n+4\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$65\r\n",
        "*1\r\n$4\r\nPINGxx",
        "*1\r\n$04\r\nPING\r\n",
    ] {
        assert!(
            RequestScanner::new()
                .scan(text.as_bytes(), &LIMITS)
                .is_err()
        );
        check_request(text);
    }
}

#[test]
fn a_frame_above_every_limit_of_frames_goes_by_in_pieces() {
    let limits = ScanLimits {
        frame_max: 16,
        ..LIMITS
    };
    let reply = format!(
        "*100\r\n{}+next\r\n",
        "$20\r\n01234567890123456789\r\n".repeat(100)
    );
    let mut tail = ReplyTail::new();
    let ended = feed(reply.as_bytes(), &[5], |piece| tail.feed(piece, &limits)).unwrap();
    assert_eq!(ended, Some(reply.len() - "+next\r\n".len()));
}
