//! Alerts and dashboard name only series that `docs/metrics.md` has, with labels and words that it gives them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::helm;
use crate::objects::of_kind;

/// What the operator of Prometheus reads of our two kinds; its types are in no crate of ours.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct ServiceMonitor {
    api_version: String,
    kind: String,
    metadata: Value,
    spec: ServiceMonitorSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct ServiceMonitorSpec {
    selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Endpoint {
    port: String,
    path: String,
    interval: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct PrometheusRule {
    api_version: String,
    kind: String,
    metadata: Value,
    spec: Groups,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Group {
    name: String,
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read for its shape only")]
struct Alert {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    lasting: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// Reads one of the two kinds, with no unknown field.
pub(crate) fn strict(object: &Value) -> Result<(), String> {
    let object = object.clone();
    if object["kind"] == "ServiceMonitor" {
        serde_json::from_value::<ServiceMonitor>(object).map(drop)
    } else {
        serde_json::from_value::<PrometheusRule>(object).map(drop)
    }
    .map_err(|cause| cause.to_string())
}

/// The rows of the page's tables, by each series that they name.
fn documented() -> BTreeMap<String, String> {
    let page = helm::read("docs/metrics.md");
    let mut rows = BTreeMap::new();
    for row in page
        .lines()
        .filter(|line| line.starts_with("| `understudy_"))
    {
        let names = row.split('|').nth(1).unwrap_or_default();
        for name in names.split('`').filter(|it| it.starts_with("understudy_")) {
            rows.insert(name.to_owned(), row.to_owned());
        }
    }
    assert!(rows.len() > 20);
    rows
}

/// Every series of an expression with what stands in the braces behind it.
fn series(expression: &str) -> Vec<(String, String)> {
    let part_of_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find("understudy_") {
        let after = &rest[start..];
        let end = after.find(|it| !part_of_name(it)).unwrap_or(after.len());
        let (name, behind) = after.split_at(end);
        let matchers = behind
            .strip_prefix('{')
            .and_then(|it| it.split('}').next())
            .unwrap_or_default();
        found.push((name.to_owned(), matchers.to_owned()));
        rest = behind;
    }
    found
}

/// The problems of an expression.
fn problems(expression: &str, documented: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, matchers) in series(expression) {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let row = documented.get(name.strip_suffix(suffix)?)?;
            row.contains("histogram").then_some(row)
        });
        let Some(row) = documented.get(&name).or(histogram) else {
            problems.push(format!("{name} is not in docs/metrics.md"));
            continue;
        };
        for matcher in matchers.split(',').filter(|it| !it.is_empty()) {
            let (label, value) = matcher.split_once('=').unwrap_or((matcher, ""));
            let value = value.trim_matches(['~', '"']);
            // Prometheus adds these two; every series of a shard has the next two.
            let known = ["namespace", "pod", "pool", "shard"].contains(&label)
                || row.contains(&format!("`{label}`"));
            if !known {
                problems.push(format!("{name} has no label {label}"));
            }
            if !value.starts_with('$') && !row.contains(&format!("`{value}`")) {
                problems.push(format!("{name} never has {label}=\"{value}\""));
            }
        }
    }
    problems
}

#[test]
fn alerts_name_only_what_is_documented() {
    let Some(mut rendered) = helm::render(&[helm::scenarios().remove(1).1]) else {
        return;
    };
    let objects = rendered.remove(0).unwrap();
    let rules = of_kind(&objects, "PrometheusRule")[0].clone();
    let rules: PrometheusRule = serde_json::from_value(rules).unwrap();
    let documented = documented();
    let mut alerts = 0;
    for alert in rules.spec.groups.iter().flat_map(|group| &group.rules) {
        assert!(!series(&alert.expr).is_empty(), "{}", alert.alert);
        let none: [String; 0] = [];
        assert_eq!(problems(&alert.expr, &documented), none, "{}", alert.alert);
        assert!(["critical", "warning"].contains(&alert.labels["severity"].as_str()));
        for part in ["summary", "description"] {
            assert!(alert.annotations.contains_key(part), "{}", alert.alert);
        }
        alerts += 1;
    }
    assert!(alerts >= 10);
}

#[test]
fn the_dashboard_names_only_what_is_documented() {
    let dashboard: Value =
        serde_json::from_str(&helm::read("helm/understudy/files/dashboard.json")).unwrap();
    let documented = documented();
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    assert!(expressions.len() > 25, "{}", expressions.len());
    for expression in expressions {
        let none: [String; 0] = [];
        assert_eq!(problems(&expression, &documented), none, "{expression}");
    }
    let ids: Vec<_> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_u64().unwrap())
        .collect();
    assert!(ids.windows(2).all(|two| two[0] < two[1]), "{ids:?}");
}

/// Every text that asks Prometheus something.
fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if ["expr", "query"].contains(&key.as_str()) => {
                        into.push(text.clone());
                    }
                    _ => collect(value, into),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|it| collect(it, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn a_series_label_or_word_that_is_not_there_is_found() {
    let documented = documented();
    for (expression, problem) in [
        ("understudy_nothing > 0", "is not in docs"),
        ("rate(understudy_backend_up_bucket[5m])", "is not in docs"),
        (
            "understudy_backend_up{colour=\"red\"}",
            "has no label colour",
        ),
        (
            "understudy_upgrade_phase{phase=\"lunch\"}",
            "never has phase",
        ),
    ] {
        let found = problems(expression, &documented);
        assert!(
            found.iter().any(|it| it.contains(problem)),
            "{expression}: {found:?}"
        );
    }
    assert!(
        problems(
            "understudy_command_seconds_bucket{class=\"read\"}",
            &documented
        )
        .is_empty()
    );
}
