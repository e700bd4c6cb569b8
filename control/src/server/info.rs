//! INFO's text as fields. Pure.

use std::collections::HashMap;
use std::str::FromStr;

/// The fields of INFO, of whatever sections were asked for.
#[derive(Debug, Clone, Default)]
pub struct Info {
    fields: HashMap<String, String>,
    modules: Vec<String>,
}

impl Info {
    /// Reads the text. Lines that are no fields are passed over: versions add what they like.
    pub fn parse(text: &str) -> Info {
        let mut info = Info::default();
        for line in text.lines() {
            let Some((name, value)) = line.trim_end().split_once(':') else {
                continue;
            };
            if name == "module" {
                let module = value.split(',').find_map(|part| part.strip_prefix("name="));
                info.modules.extend(module.map(str::to_owned));
            } else {
                info.fields.insert(name.to_owned(), value.to_owned());
            }
        }
        info
    }

    /// A field's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A field that is a number, or 0 where there is none: a version that does not count something has counted none.
    pub fn number<N: FromStr + Default>(&self, name: &str) -> N {
        self.text(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }

    /// A field that is 1.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }

    /// Names of loaded modules.
    pub fn modules(&self) -> &[String] {
        &self.modules
    }

    /// Fields whose names are a prefix and a number (`slave0`, `db3`), in the order of the numbers.
    pub fn numbered(&self, prefix: &str) -> Vec<(u32, &str)> {
        let mut found: Vec<(u32, &str)> = self
            .fields
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix(prefix)?.parse().ok()?, value.as_str()))
            })
            .collect();
        found.sort_by_key(|(number, _)| *number);
        found
    }
}

/// `ip=127.0.0.1,port=6380,state=online` as its parts.
pub(super) fn parts(text: &str) -> HashMap<&str, &str> {
    text.split(',')
        .filter_map(|part| part.split_once('='))
        .collect()
}
