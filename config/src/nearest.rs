//! The known name that a mistyped one most likely meant.

/// The nearest name, if one is near enough (at most two edits, or a third of its letters) and no other is as near.
pub(crate) fn nearest<'n>(typed: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut near: Vec<(usize, &str)> = names
        .map(|name| (distance(typed, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3) && *distance < name.len())
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    match near[..] {
        [(first, _), (second, _), ..] if first == second => None,
        [(_, name), ..] => Some(name),
        [] => None,
    }
}

/// How many letters must be put in, left out or replaced (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_edits() {
        for (left, right, edits) in [
            ("", "", 0),
            ("listen", "listen", 0),
            ("listne", "listen", 2),
            ("lst", "list", 1),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
        }
    }

    #[test]
    fn only_near_names_are_offered() {
        let names = || ["listen", "name", "hash", "hash_tag", "distribution"].into_iter();
        assert_eq!(nearest("listne", names()), Some("listen"));
        assert_eq!(nearest("hashtag", names()), Some("hash_tag"));
        assert_eq!(nearest("distributon", names()), Some("distribution"));
        assert_eq!(nearest("colour", names()), None);
        assert_eq!(nearest("x", names()), None);
    }

    #[test]
    fn of_two_names_as_near_none_is_offered() {
        assert_eq!(
            nearest("fnv1a64", ["fnv1_64", "fnv1a_64"].into_iter()),
            None
        );
    }
}
