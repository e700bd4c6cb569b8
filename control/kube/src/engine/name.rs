//! Names of objects: the same for the same run, and short enough for every system.

/// Longest name: a DNS label, which every system takes.
const NAME_MAX: usize = 63;

/// The name of a run's object: `wanted` made a DNS label, with the attempt at its end from the second on.
#[must_use]
pub fn object_name(wanted: &str, attempt: u32) -> String {
    let mut name: String = wanted
        .to_ascii_lowercase()
        .chars()
        .map(|it| {
            if it.is_ascii_alphanumeric() || it == '-' {
                it
            } else {
                '-'
            }
        })
        .collect();
    let end = if attempt > 1 {
        format!("-{attempt}")
    } else {
        String::new()
    };
    let plain = name.trim_matches('-').to_owned();
    if plain.is_empty() || plain != wanted || plain.len() + end.len() > NAME_MAX {
        let hash = blake3::hash(wanted.as_bytes()).to_hex();
        let keep = NAME_MAX - 9 - end.len();
        let short: String = plain.chars().take(keep).collect();
        let hash = hash.get(..8).unwrap_or_default();
        name = match short.trim_matches('-') {
            "" => format!("us-{hash}"),
            short => format!("{short}-{hash}"),
        };
    } else {
        name = plain;
    }
    format!("{name}{end}")
}

#[cfg(test)]
mod tests {
    use super::object_name;

    #[test]
    fn a_name_is_a_dns_label_that_tells_runs_apart() {
        assert_eq!(object_name("us-p-s1-1-1", 1), "us-p-s1-1-1");
        assert_eq!(object_name("us-p-s1-1-1", 2), "us-p-s1-1-1-2");
        let long = "x".repeat(80);
        assert_eq!(object_name(&long, 1).len(), 63);
        assert_eq!(object_name(&long, 12).len(), 63);
        assert_ne!(object_name(&long, 1), object_name(&"x".repeat(81), 1));
        assert_ne!(object_name("a_b", 1), object_name("a.b", 1));
        for name in ["_", "Ä", "-a-", ""] {
            let made = object_name(name, 1);
            assert!(
                !made.is_empty() && !made.starts_with('-') && !made.ends_with('-'),
                "{made}"
            );
        }
    }
}
