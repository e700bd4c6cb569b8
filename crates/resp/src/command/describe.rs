//! A row of the table as COMMAND and COMMAND INFO answer it, in the form of Redis 6: name, arity, flags, first key, last key,
//! step, categories. Categories are left empty: the proxy has no ACL of its own.

use super::spec::{Begin, CommandSpec, Find};
use crate::Protocol;
use crate::encode;

/// Appends one command's entry to a reply.
pub fn describe(out: &mut Vec<u8>, protocol: Protocol, spec: &CommandSpec) {
    encode::array_header(out, 7);
    encode::bulk(out, spec.name.as_bytes());
    encode::integer(out, i64::from(spec.arity));
    encode::set_header(out, protocol, spec.flags.names().count());
    spec.flags
        .names()
        .for_each(|name| encode::simple(out, name));
    let range = legacy_range(spec);
    for number in [range.first, range.last, range.step] {
        encode::integer(out, number);
    }
    encode::set_header(out, protocol, 0);
}

/// The keys as servers before 7.0 tell them. All 0: no keys, or none that can be told this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LegacyRange {
    /// Argument index of the first key.
    pub first: i64,
    /// Of the last; negative: counted from the end.
    pub last: i64,
    /// Every how many arguments one key stands.
    pub step: i64,
}

/// First, last and step over those key specs that stand at a fixed place and follow one another without a gap.
#[must_use]
pub fn legacy_range(spec: &CommandSpec) -> LegacyRange {
    let mut whole = LegacyRange::default();
    for key in spec.keys {
        let (Begin::Index(index), Find::Range { last, step, .. }) = (key.begin, key.find) else {
            continue;
        };
        let first = i64::from(index);
        let last = if last < 0 {
            i64::from(last)
        } else {
            first + i64::from(last)
        };
        if whole.first == 0 {
            whole = LegacyRange {
                first,
                last,
                step: i64::from(step),
            };
        } else if whole.last + 1 == first {
            whole.last = last;
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::{describe, legacy_range};
    use crate::Protocol;
    use crate::command::resolve;

    #[test]
    fn ranges_are_those_of_redis_6() {
        for (line, expect) in [
            ("GET k", (1, 1, 1)),
            ("MSET k v", (1, -1, 2)),
            ("DEL k", (1, -1, 1)),
            ("RENAME a b", (1, 2, 1)),
            ("BITOP AND d a", (2, -1, 1)),
            ("BLPOP a 0", (1, -2, 1)),
            ("PFMERGE a b", (1, -1, 1)),
            ("SMOVE a b m", (1, 2, 1)),
            ("EVAL s 0", (0, 0, 0)),
            ("XREAD STREAMS a 0", (0, 0, 0)),
            ("SORT k", (1, 1, 1)),
            ("MIGRATE h p k 0 1", (3, 3, 1)),
            ("ZUNIONSTORE d 1 a", (1, 1, 1)),
            ("OBJECT ENCODING k", (2, 2, 1)),
            ("PING", (0, 0, 0)),
        ] {
            let range = legacy_range(resolve(&line.split(' ').collect::<Vec<_>>()).unwrap());
            assert_eq!((range.first, range.last, range.step), expect, "{line}");
        }
    }

    #[test]
    fn an_entry_reads_as_a_server_writes_it() {
        let mut out = Vec::new();
        describe(
            &mut out,
            Protocol::Resp2,
            crate::command::lookup(b"get").unwrap(),
        );
        let expect =
            "*7\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }
}
