//! The Pod that this proxy runs in, as its environment says: control asks an API server for it when the proxy is silent.
//!
//! Kubernetes fills the variables in by its downward API; the chart's manifests have them. All four or none.

use std::env::VarError;

/// Namespace, name, uid, container.
const NAMES: [&str; 4] = [
    "UNDERSTUDY_POD_NAMESPACE",
    "UNDERSTUDY_POD_NAME",
    "UNDERSTUDY_POD_UID",
    "UNDERSTUDY_CONTAINER",
];

/// The word of `UPGRADE REGISTER` for it: `@namespace/name/uid/container`. None outside a Pod.
pub(crate) fn of_environment() -> Option<String> {
    match read(|name| std::env::var(name)) {
        Ok(word) => word,
        Err(name) => {
            tracing::warn!(
                name, all = ?NAMES,
                "a variable that names this proxy's Pod is missing or no name: control will not know the Pod"
            );
            None
        }
    }
}

/// The word; the name of the variable that is wrong where some are there and not all.
fn read(get: impl Fn(&str) -> Result<String, VarError>) -> Result<Option<String>, &'static str> {
    let found = NAMES.map(|name| get(name).ok().filter(|value| !value.is_empty()));
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut word = String::from("@");
    for (name, value) in NAMES.into_iter().zip(found) {
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
        let value = value.filter(|value| value.len() <= 253 && value.chars().all(letter));
        let value = value.ok_or(name)?;
        if word.len() > 1 {
            word.push('/');
        }
        word.push_str(&value);
    }
    Ok(Some(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(values: [&'static str; 4]) -> impl Fn(&str) -> Result<String, VarError> {
        move |name| {
            let at = NAMES.iter().position(|known| *known == name).unwrap();
            match values[at] {
                "" => Err(VarError::NotPresent),
                value => Ok(value.to_owned()),
            }
        }
    }

    #[test]
    fn a_pod_is_told_whole_or_not_at_all() {
        let word = read(environment(["shop", "web-1", "7d1f-22", "proxy"]));
        assert_eq!(word, Ok(Some("@shop/web-1/7d1f-22/proxy".to_owned())));
        assert_eq!(read(environment(["", "", "", ""])), Ok(None));
        for (values, wrong) in [
            (["shop", "", "7d1f-22", "proxy"], NAMES[1]),
            (["shop", "web-1", "", "proxy"], NAMES[2]),
            (["shop", "web/1", "7d1f-22", "proxy"], NAMES[1]),
            (["shop", "web-1", "7d1f 22", "proxy"], NAMES[2]),
        ] {
            assert_eq!(read(environment(values)), Err(wrong));
        }
    }
}
