//! How far a reply through the proxy may differ from the server's own.

use understudy_lab::wire::{Reply, decode};

/// How two replies are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The same bytes.
    Bytes,
    /// The same kinds of values in the same places.
    Shape,
    /// The same kind of reply.
    Kind,
    /// The same elements in any order.
    Bag,
    /// Both refuse, and the first word says the same.
    Error,
    /// Both reply something.
    Any,
    /// Only the proxy is asked, and refuses the command by its name.
    Ours,
}

impl Rule {
    pub(super) fn named(word: &str) -> Rule {
        match word {
            "@shape" => Rule::Shape,
            "@kind" => Rule::Kind,
            "@bag" => Rule::Bag,
            "@error" => Rule::Error,
            "@any" => Rule::Any,
            "@ours" => Rule::Ours,
            _ => panic!("no rule is named {word}"),
        }
    }

    /// `None` if the replies are as the rule asks, else what is wrong.
    pub(super) fn difference(self, expected: &[u8], got: &[u8]) -> Option<String> {
        let same = match self {
            Rule::Bytes => expected == got,
            Rule::Shape => kind(expected) == kind(got) && same_shape(&value(expected), &value(got)),
            Rule::Kind => kind(expected) == kind(got),
            Rule::Bag => kind(expected) == kind(got) && bag(&value(expected)) == bag(&value(got)),
            Rule::Error => kind(got) == b'-' && first_word(expected) == first_word(got),
            Rule::Any | Rule::Ours => true,
        };
        (!same).then(|| format!("  server: {}\n   proxy: {}", shown(expected), shown(got)))
    }
}

/// `None` if the reply refuses this command by its name.
pub(super) fn not_refused_by_name(words: &[Vec<u8>], got: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(got).to_lowercase();
    let name = String::from_utf8_lossy(&words[0]).to_lowercase();
    let named = text.contains(&format!("'{name}'")) || text.contains(&format!("'{name} "));
    let refused = text.starts_with("-err understudy does not carry") && named;
    (!refused).then(|| format!("   proxy: {}", shown(got)))
}

pub(super) fn value(reply: &[u8]) -> Reply {
    decode(reply).unwrap().unwrap().0
}

fn kind(reply: &[u8]) -> u8 {
    reply.first().copied().unwrap_or_default()
}

fn first_word(reply: &[u8]) -> &[u8] {
    reply.split(|byte| *byte == b' ').next().unwrap_or_default()
}

fn same_shape(one: &Reply, other: &Reply) -> bool {
    match (one, other) {
        (Reply::Array(one), Reply::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same_shape(a, b))
        }
        (Reply::Map(one), Reply::Map(other)) => {
            let pairs =
                |(a, b): (&(Reply, Reply), &(Reply, Reply))| a.0 == b.0 && same_shape(&a.1, &b.1);
            one.len() == other.len() && one.iter().zip(other).all(pairs)
        }
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

/// Every array and map in an order of its own.
fn bag(reply: &Reply) -> String {
    match reply {
        Reply::Array(elements) => {
            let mut elements: Vec<String> = elements.iter().map(bag).collect();
            elements.sort();
            format!("{elements:?}")
        }
        Reply::Map(pairs) => {
            let mut pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{key:?}: {}", bag(value)))
                .collect();
            pairs.sort();
            format!("{pairs:?}")
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn shown(reply: &[u8]) -> String {
    let text = reply.escape_ascii().to_string();
    if text.len() > 400 {
        format!("{}…", &text[..400])
    } else {
        text
    }
}
