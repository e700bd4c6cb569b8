//! What is written from the table of settings: docs/config.md, docs/limits.md and config/schema.json.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::kubernetes::{KUBERNETES, LEASE, VERIFY, VOLUME};
use crate::limits::Limits;
use crate::scalar::Scalar;
use crate::settings::{self, Absent, Kind, SectionSpec, Setting};
use crate::units::ByteSize;

const HEAD: &str = include_str!("reference/config-head.md");
const FOOT: &str = include_str!("reference/config-foot.md");
const LIMITS_HEAD: &str = include_str!("reference/limits-head.md");

/// The sections in the order of the documentation, each once. `limits` has a page of its own.
const SECTIONS: [&SectionSpec; 15] = [
    &settings::ROOT,
    &settings::ADMIN,
    &settings::HTTP,
    &settings::CONTROL,
    &settings::GUARD,
    &settings::PROXY_TLS,
    &KUBERNETES,
    &VOLUME,
    &LEASE,
    &VERIFY,
    &settings::POOL,
    &settings::SHARD,
    &settings::USER,
    &settings::TLS,
    &settings::BACKEND_TLS,
];

/// docs/config.md.
#[must_use]
pub fn config_page() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        let _ = write!(
            page,
            "\n## {}\n\n| setting | value | default | reload | meaning |\n|---|---|---|---|---|\n",
            section.title
        );
        for setting in section.settings {
            let Setting {
                name,
                kind,
                default,
                reload,
                meaning,
            } = setting;
            let _ = writeln!(
                page,
                "| `{name}` | {} | {} | {} | {} |",
                form(kind),
                absent(default),
                reload.text(),
                cell(meaning)
            );
        }
    }
    page.push('\n');
    page.push_str(FOOT);
    page
}

/// docs/limits.md.
#[must_use]
pub fn limits_page() -> String {
    let mut page = LIMITS_HEAD.to_owned();
    page.push_str(
        "\n| setting | unit | default | what is limited | at the limit | test that reaches it |\n|---|---|---|---|---|---|\n",
    );
    for row in Limits::table() {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | `{}` |",
            row.name,
            row.unit,
            row.default,
            cell(row.meaning),
            cell(row.at_limit),
            row.reached_by
        );
    }
    page
}

/// config/schema.json: JSON Schema, draft 2020-12, for editors. The reader itself checks more.
#[must_use]
pub fn schema() -> String {
    let mut root = section_schema(&settings::ROOT);
    if let Value::Object(root) = &mut root {
        root.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        root.insert("title".to_owned(), json!("Understudy's configuration"));
    }
    format!("{root:#}\n")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn form(kind: &Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Name => "name".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Listen => "host:port or /path".to_owned(),
        Kind::HostPort => "host:port".to_owned(),
        Kind::Server => "URL of a server".to_owned(),
        Kind::Tag => "two characters".to_owned(),
        Kind::Whole { min, max } => format!("{min} to {max}"),
        Kind::Size { min, max } => range::<ByteSize>(*min, *max),
        Kind::Time { min, max } => range::<std::time::Duration>(*min, *max),
        Kind::OneOf(names) => names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::Section(section) => format!("section: {}", section.title.to_lowercase()),
        Kind::SectionOrOff(section) => {
            format!("section: {}, or `off`", section.title.to_lowercase())
        }
        Kind::List(item) => format!("list of: {}", form(item).trim_start_matches("section: ")),
        Kind::Map(item) => format!(
            "names, each with: {}",
            form(item).trim_start_matches("section: ")
        ),
    }
}

fn range<T: Scalar>(min: u64, max: u64) -> String {
    format!(
        "{} to {}",
        T::from_measure(min).text(),
        T::from_measure(max).text()
    )
}

fn absent(default: &Absent) -> String {
    match default {
        Absent::Refused => "must be written".to_owned(),
        Absent::Means(words) => (*words).to_owned(),
        Absent::Is(value) => format!("`{value}`"),
        Absent::Limit(value) => format!("`{}`", value()),
    }
}

fn section_schema(section: &SectionSpec) -> Value {
    let properties: Map<String, Value> = section
        .settings
        .iter()
        .map(|setting| (setting.name.to_owned(), setting_schema(setting)))
        .collect();
    let required: Vec<&str> = section
        .settings
        .iter()
        .filter(|setting| matches!(setting.default, Absent::Refused))
        .map(|setting| setting.name)
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn setting_schema(setting: &Setting) -> Value {
    let mut schema = kind_schema(&setting.kind);
    if let Value::Object(schema) = &mut schema {
        let default = match &setting.default {
            Absent::Refused => None,
            Absent::Means(words) => Some(format!(" Default: {words}.")),
            Absent::Is(value) => Some(format!(" Default: {value}.")),
            Absent::Limit(value) => Some(format!(" Default: {}.", value())),
        };
        let description = format!(
            "{}{} Reload: {}.",
            setting.meaning,
            default.unwrap_or_default(),
            setting.reload.text()
        );
        schema.insert("description".to_owned(), json!(description));
    }
    schema
}

fn kind_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path | Kind::Listen | Kind::HostPort | Kind::Server => {
            json!({ "type": "string", "minLength": 1 })
        }
        Kind::Name => json!({ "type": "string", "pattern": "^[^\\s=]{1,128}$" }),
        Kind::Tag => json!({ "type": "string", "minLength": 1, "maxLength": 2 }),
        Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Size { .. } => json!({ "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB)$" }),
        Kind::Time { .. } => json!({ "type": "string", "pattern": "^[0-9]+ *(us|ms|s|min|h)$" }),
        Kind::OneOf(names) => json!({ "enum": names }),
        Kind::Section(section) => section_schema(section),
        Kind::SectionOrOff(section) => {
            json!({ "anyOf": [section_schema(section), { "const": "off" }] })
        }
        Kind::List(item) => json!({ "type": "array", "items": kind_schema(item) }),
        Kind::Map(item) => {
            json!({ "type": "object", "additionalProperties": kind_schema(item) })
        }
    }
}
