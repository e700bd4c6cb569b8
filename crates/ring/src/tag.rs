//! Hash tags: the part of a key that is hashed instead of the whole key, so that related keys share a shard.

use std::fmt;

/// Two characters that enclose the part to hash, such as `{}` or `$$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashTag([u8; 2]);

impl HashTag {
    /// Redis Cluster's own.
    pub(crate) const BRACES: Self = Self(*b"{}");

    /// Reads a tag of exactly two bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        <[u8; 2]>::try_from(text.as_bytes()).ok().map(Self)
    }

    /// The bytes between the first opening character and the first closing one behind it; the whole key when one of them
    /// is missing or nothing stands between them.
    #[must_use]
    pub fn part<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        let [open, close] = self.0;
        let Some(start) = key.iter().position(|&byte| byte == open) else {
            return key;
        };
        let behind = &key[start + 1..];
        match behind.iter().position(|&byte| byte == close) {
            Some(length) if length > 0 => &behind[..length],
            _ => key,
        }
    }
}

impl fmt::Display for HashTag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::HashTag;

    #[track_caller]
    fn check(tag: &str, key: &str, expect: &str) {
        let tag = HashTag::parse(tag).unwrap();
        assert_eq!(tag.part(key.as_bytes()), expect.as_bytes(), "{key}");
    }

    #[test]
    fn the_part_between_the_first_pair_is_hashed() {
        check("{}", "user:{42}:name", "42");
        check("{}", "{a}{b}", "a");
        check("{}", "}{a}", "a");
        check("{}", "{{a}}", "{a");
        check("$$", "x$tag$y$z", "tag");
    }

    #[test]
    fn without_a_part_the_whole_key_is_hashed() {
        check("{}", "plain", "plain");
        check("{}", "", "");
        check("{}", "a{}b", "a{}b");
        check("{}", "a{}{b}", "a{}{b}"); // twemproxy looks at the first pair only.
        check("{}", "open{ended", "open{ended");
        check("$$", "a$$b", "a$$b");
        check("$$", "one$", "one$");
    }

    #[test]
    fn a_tag_has_two_bytes() {
        assert_eq!(HashTag::parse("{"), None);
        assert_eq!(HashTag::parse("{}}"), None);
        assert_eq!(
            HashTag::parse("é").map(|tag| tag.to_string()),
            Some("é".to_owned())
        );
        assert_eq!(
            HashTag::parse("{}").map(|tag| tag.to_string()),
            Some("{}".to_owned())
        );
    }
}
