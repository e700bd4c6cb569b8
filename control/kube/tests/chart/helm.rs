//! Helm's library, driven through `scripts/render_chart.py`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The checkout.
pub(crate) fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = own.ancestors();
    let found = above.find(|it| it.join("helm/understudy").is_dir());
    found.expect("the checkout").to_owned()
}

/// A file of the checkout, as text.
pub(crate) fn read(path: &str) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// The documents of a YAML file, without the empty ones.
pub(crate) fn documents(name: &str, text: &str) -> Vec<Value> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let read: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .unwrap_or_else(|cause| panic!("{name}: {cause}\n{text}"));
    read.into_iter().filter(|it| !it.is_null()).collect()
}

/// The values that each test of a whole release runs over, by what they are for. All but the first are files of the checkout.
pub(crate) fn scenarios() -> Vec<(&'static str, Value)> {
    let file = |path: &str| json!(repository().join(path));
    vec![
        ("the least that works", least()),
        (
            "proxies",
            file("helm/understudy/examples/values-proxies.yaml"),
        ),
        (
            "sidecar",
            file("helm/understudy/examples/values-sidecar.yaml"),
        ),
        (
            "beside Redis",
            file("helm/understudy/examples/values-beside-redis.yaml"),
        ),
        (
            "everything",
            file("control/kube/tests/chart/everything.yaml"),
        ),
        ("every recipe", every_recipe()),
    ]
}

/// One pool of one shard, and defaults.
pub(crate) fn least() -> Value {
    json!({ "pools": [{
        "name": "sessions",
        "listen": "0.0.0.0:6379",
        "shards": [{ "name": "s1", "primary": "redis://redis-s1:6379" }],
    }]})
}

/// `least` with more on top.
pub(crate) fn least_and(more: &Value) -> Value {
    let mut values = least();
    for (key, value) in more.as_object().expect("values are an object") {
        values[key] = value.clone();
    }
    values
}

/// Every recipe that ships; what a recipe must be told is told.
fn every_recipe() -> Value {
    let recipes = shipped();
    let recipes: Vec<&String> = recipes.as_object().unwrap().keys().collect();
    least_and(
        &json!({ "snapshots": { "recipes": recipes, "params": needed(), "verify": { "namespace": "read-back" } } }),
    )
}

/// The recipes of the chart, with the rights of each.
fn shipped() -> Value {
    serde_saphyr::from_str(&read("helm/understudy/files/recipes-rbac.yaml")).unwrap()
}

/// What the chart must be told of recipes, by recipe and parameter.
pub(crate) fn needed() -> Value {
    let mut params = json!({});
    for (recipe, rules) in shipped().as_object().unwrap() {
        for rule in rules.as_array().unwrap() {
            if let (Some(param), None) = (rule["param"].as_str(), rule["namespace"].as_str()) {
                params[recipe][param] = json!("somewhere");
            }
            if let Some(param) = rule["names"].as_str() {
                params[recipe][param] = json!("that-one");
            }
        }
    }
    params
}

/// What became of one job.
pub(crate) type Rendered = Result<Vec<Value>, String>;

/// Renders each values into objects, for release `understudy` in namespace `redis`. `None` where Helm is not here, which is said.
pub(crate) fn render(values: &[Value]) -> Option<Vec<Rendered>> {
    render_into(values, "understudy", "redis")
}

/// As `render`, for another release.
pub(crate) fn render_into(
    values: &[Value],
    release: &str,
    namespace: &str,
) -> Option<Vec<Rendered>> {
    let jobs = values
        .iter()
        .map(|it| json!({ "values": it, "release": release, "namespace": namespace }));
    let answers = answers(&jobs.collect())?;
    let read = |answer: &Value| match answer["files"].as_object() {
        None => Err(answer["error"].as_str().unwrap_or_default().to_owned()),
        Some(files) => Ok(files
            .iter()
            .filter(|(name, _)| !name.ends_with("NOTES.txt"))
            .flat_map(|(name, text)| documents(name, text.as_str().unwrap_or_default()))
            .collect()),
    };
    Some(answers.iter().map(read).collect())
}

/// The notes that an installation ends with.
pub(crate) fn notes(values: &Value) -> Option<String> {
    let job = json!([{ "values": values, "release": "understudy", "namespace": "redis" }]);
    let answer = answers(&job)?.remove(0);
    Some(
        answer["files"]["understudy/templates/NOTES.txt"]
            .as_str()
            .expect("notes")
            .to_owned(),
    )
}

/// What Helm's linter finds, for each values.
pub(crate) fn lint(values: &[Value]) -> Option<Vec<Vec<String>>> {
    let jobs = values.iter().map(|it| json!({ "lint": it })).collect();
    let findings = |answer: &Value| {
        let found = answer["findings"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"));
        found
            .iter()
            .map(|it| it.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    Some(answers(&jobs)?.iter().map(findings).collect())
}

fn answers(jobs: &Value) -> Option<Vec<Value>> {
    let script = repository().join("scripts/render_chart.py");
    let started = Command::new("python3")
        .arg(script)
        .arg("--jobs")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else {
        eprintln!("skipped: python3 is not here");
        return None;
    };
    let mut stdin = child.stdin.take().expect("piped");
    // It may have ended already, since its library is missing.
    stdin.write_all(jobs.to_string().as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("run make tools"), "{said}");
        eprintln!("skipped: {said}");
        return None;
    }
    Some(serde_json::from_slice(&output.stdout).expect("answers as JSON"))
}
