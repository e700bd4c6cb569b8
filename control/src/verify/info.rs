//! The few fields of INFO that a comparison and a snapshot need.

use std::collections::BTreeMap;

/// The value of `field:` in an answer to INFO.
pub(crate) fn field<'a>(info: &'a str, field: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::trim))
}

/// A number behind `field:`.
pub(crate) fn number(info: &str, name: &str) -> Option<u64> {
    field(info, name)?.parse().ok()
}

/// Keys by database.
pub(crate) fn keyspace(info: &str) -> BTreeMap<u32, u64> {
    let databases = info
        .lines()
        .filter_map(|line| line.strip_prefix("db")?.split_once(':'));
    let counted = databases.filter_map(|(db, rest)| {
        let keys = rest
            .split(',')
            .find_map(|part| part.trim().strip_prefix("keys="))?;
        Some((db.parse().ok()?, keys.parse().ok()?))
    });
    counted.collect()
}

/// The product's version. Valkey's own, where it says one: the other is for clients that know only Redis.
pub(crate) fn version(info: &str) -> Option<(u32, u32, u32)> {
    let text = field(info, "valkey_version").or_else(|| field(info, "redis_version"))?;
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\nrun_id:abc\r\n# Keyspace\r\n\
                        db0:keys=3,expires=1,avg_ttl=9\r\ndb12:keys=70,expires=0,avg_ttl=0,subexpiry=0\r\n";

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field(INFO, "run_id"), Some("abc"));
        assert_eq!(field(INFO, "run"), None);
        assert_eq!(version(INFO), Some((9, 1, 2)));
        assert_eq!(keyspace(INFO), BTreeMap::from([(0, 3), (12, 70)]));
    }
}
