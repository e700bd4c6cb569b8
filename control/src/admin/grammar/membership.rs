//! What proxies say of themselves: `REGISTER` and `LEAVE`. Pure.

use std::collections::BTreeMap;

use understudy_config::BackendUrl;

use super::{Refusal, number, shown, wrong};
use crate::proxies::Registration;
use crate::whereabouts::PodName;

/// Longest id of a proxy, and longest name of one of its starts.
const ID_MAX: usize = 64;

/// `id:instance`.
pub(super) fn instance(word: &str) -> Result<(String, String), Refusal> {
    let fits = |part: &str| {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        (1..=ID_MAX).contains(&part.len()) && part.chars().all(letter)
    };
    match word.split_once(':') {
        Some((id, life)) if fits(id) && fits(life) => Ok((id.to_owned(), life.to_owned())),
        _ => Err(wrong(format!("'{}' is not id:instance", shown(word)))),
    }
}

/// Everything behind REGISTER.
pub(super) fn register(word: &str, address: &str, rest: &[&str]) -> Result<Registration, Refusal> {
    let (id, life) = instance(word)?;
    let url: BackendUrl = address
        .parse()
        .map_err(|_not| wrong("the address is no redis://, rediss:// or unix:// URL"))?;
    if url.password.is_some() || url.username.is_some() {
        return Err(wrong(
            "the address carries no login: it comes from control.login",
        ));
    }
    let (pod, rest) = home(rest)?;
    let mut shards = BTreeMap::new();
    let mut pool: Option<&str> = None;
    for word in rest {
        let Some((shard, epoch)) = word.split_once('=') else {
            pool = Some(word);
            continue;
        };
        let Some(pool) = pool else {
            return Err(wrong(format!("'{}' stands before a pool", shown(word))));
        };
        let key = (pool.to_owned(), shard.to_owned());
        shards.insert(key, number("an epoch", epoch)?);
    }
    if shards.is_empty() {
        return Err(wrong("no shard=epoch behind a pool"));
    }
    Ok(Registration {
        id,
        life,
        address: url.to_string(),
        pod,
        shards,
    })
}

/// `@namespace/pod/uid/container` before the first pool. A control that does not know it takes it for a pool without shards;
/// a pool of such a name is told apart by the shard behind it.
fn home<'a>(rest: &'a [&'a str]) -> Result<(Option<PodName>, &'a [&'a str]), Refusal> {
    match rest {
        [word, pool, ..] if word.starts_with('@') && !pool.contains('=') => {
            let pod = PodName::parse(&word[1..]).ok_or_else(|| {
                wrong(format!(
                    "'{}' is not @namespace/pod/uid/container",
                    shown(word)
                ))
            })?;
            Ok((Some(pod), &rest[1..]))
        }
        _ => Ok((None, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_names_its_pools_and_epochs() {
        let said = register(
            "a-1:b",
            "redis://h:7380",
            &["p", "s1=3", "s2=0", "q", "s1=4"],
        );
        let said = said.unwrap();
        assert_eq!((said.id.as_str(), said.life.as_str()), ("a-1", "b"));
        let epochs: Vec<(String, u64)> = said
            .shards
            .into_iter()
            .map(|((pool, shard), epoch)| (format!("{pool}/{shard}"), epoch))
            .collect();
        let expect = [("p/s1", 3), ("p/s2", 0), ("q/s1", 4)];
        assert!(
            epochs
                .iter()
                .map(|(key, epoch)| (key.as_str(), *epoch))
                .eq(expect)
        );
    }

    #[test]
    fn a_registration_may_name_its_pod_and_a_pool_may_look_like_one() {
        let said = |rest: &[&str]| register("a:b", "redis://h:7380", rest);
        let at_home = said(&["@shop/web-1/u-1/proxy", "p", "s1=3"]).unwrap();
        assert_eq!(at_home.pod, PodName::parse("shop/web-1/u-1/proxy"));
        assert_eq!(at_home.shards.len(), 1);
        let pool = said(&["@shop/web-1/u-1/proxy", "s1=3"]).unwrap();
        assert_eq!((pool.pod, pool.shards.len()), (None, 1));
        assert_eq!(said(&["p", "s1=3"]).unwrap().pod, None);
        assert!(said(&["@shop/web-1", "p", "s1=3"]).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        let good = ["p", "s1=3"];
        for (word, address, rest) in [
            ("a", "redis://h:1", &good[..]),
            (":b", "redis://h:1", &good),
            ("a b:c", "redis://h:1", &good),
            ("a:b", "7380", &good),
            ("a:b", "redis://u:secret@h:1", &good),
            ("a:b", "redis://h:1", &["s1=3"]),
            ("a:b", "redis://h:1", &["p"]),
            ("a:b", "redis://h:1", &["p", "s1=x"]),
        ] {
            assert!(
                register(word, address, rest).is_err(),
                "{word} {address} {rest:?}"
            );
        }
    }
}
