//! The house keeps its rules: who imports whom, what a file looks like, where a link leads.
//!
//! Reads `cargo metadata` and the files themselves, so that a rule broken in any crate fails here by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longer files hold two ideas.
const LINES_MAX: usize = 800;

/// Who may import whom. A crate that is missing here fails: its place must be decided first.
const IMPORTS: [(&str, &[&str]); 10] = [
    ("understudy-resp", &[]),
    ("understudy-ring", &[]),
    ("understudy-rdb", &[]),
    ("understudy-config", &["ring"]),
    ("understudy-net", &["resp", "config"]),
    ("understudy-lab", &["net", "resp", "config"]),
    ("understudy-proxy", &["config", "resp", "ring", "net"]),
    (
        "understudy-control",
        &["config", "resp", "ring", "rdb", "net"],
    ),
    ("understudy-kube", &["config", "resp", "net", "control"]),
    // The command line binds everything together; nothing imports it.
    (
        "understudy",
        &[
            "config", "resp", "ring", "rdb", "net", "lab", "proxy", "control", "kube",
        ],
    ),
];

/// No socket, no clock, no randomness, no runtime: these are the same for the same input.
const PURE_CRATES: [&str; 3] = ["crates/resp", "crates/ring", "crates/rdb"];
/// The pure folders inside other crates.
const PURE_FOLDERS: [&str; 3] = [
    "proxy/src/worker",
    "control/kube/src/predicate",
    "control/kube/src/engine/run",
];
/// What a pure file may not mention.
const IMPURE: [&str; 8] = [
    "tokio::",
    "std::net",
    "std::process",
    "Instant::now",
    "SystemTime",
    "RandomState",
    "async fn",
    ".await",
];

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("crates/lab lies two folders deep")
        .to_owned()
}

/// Every file of the checkout with this ending; nothing generated, nothing fetched.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![repository()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of the checkout can be read")
            .flatten()
        {
            let (path, name) = (
                entry.path(),
                entry.file_name().to_string_lossy().into_owned(),
            );
            if path.is_dir() {
                let skipped = name.starts_with("target")
                    || name == "understudy-data"
                    || name == "node_modules";
                let hidden = name.starts_with('.') && name != ".ci" && name != ".config";
                if !skipped && !hidden {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn short(path: &Path) -> String {
    path.strip_prefix(repository())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[track_caller]
fn nothing(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}\n  {}", found.join("\n  "));
}

/// What cargo says of the checkout.
fn cargo(words: &[&str]) -> Vec<u8> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(words)
        .arg("--offline")
        .current_dir(repository())
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn without_its_feature_nothing_of_kube_is_built_and_one_tls_provider_is_there() {
    let tree = |more: &[&str]| {
        let words = [
            "tree",
            "--package",
            "understudy",
            "--prefix",
            "none",
            "--locked",
        ];
        let text = cargo(&[&words[..], more].concat());
        let text = String::from_utf8(text).unwrap();
        let names = text.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let built = ["--edges", "normal,build"];
    let without = tree(&[&built[..], &["--no-default-features"]].concat());
    assert!(without.contains("tokio"), "{without:?}");
    let of_kube = |name: &&String| name.contains("kube") || name.starts_with("k8s-");
    let found: Vec<&String> = without.iter().filter(of_kube).collect();
    assert!(found.is_empty(), "{found:?}");
    let with = tree(&built);
    assert!(
        with.contains("understudy-kube") && with.contains("ring"),
        "{with:?}"
    );
    for other in ["aws-lc-rs", "openssl", "native-tls", "boring"] {
        assert!(!with.contains(other), "{other}");
    }
}

#[test]
fn imports_run_one_way() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.into_iter().collect();
    let members: BTreeSet<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(may) = allowed.get(name) else {
            wrong.push(format!("{name} has no line in IMPORTS"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let imported = dependency["name"].as_str().unwrap();
            if !members.contains(imported) {
                continue;
            }
            let short = imported.strip_prefix("understudy-").unwrap_or(imported);
            // Tests of anything that talks to servers may use the lab, and their own crate with a feature for tests.
            let for_tests = dependency["kind"] == "dev"
                && ((short == "lab" && !may.is_empty()) || imported == name);
            if !may.contains(&short) && !for_tests {
                wrong.push(format!("{name} imports {imported}"));
            }
        }
    }
    nothing(
        &wrong,
        "forbidden imports (the directions are in docs/architecture.md):",
    );
}

#[test]
fn pure_code_has_no_clock_no_chance_and_no_socket() {
    let mut wrong = Vec::new();
    for path in files(".rs") {
        let name = short(&path);
        let pure = PURE_CRATES
            .iter()
            .any(|krate| name.starts_with(&format!("{krate}/src/")))
            || PURE_FOLDERS
                .iter()
                .any(|folder| name.starts_with(&format!("{folder}/")));
        if !pure {
            continue;
        }
        let text = read(&path);
        let code = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (number, line) in code {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    }
    nothing(
        &wrong,
        "pure files take time, chance and bytes as arguments:",
    );
}

#[test]
fn every_module_says_first_what_it_is_for() {
    let wrong: Vec<String> = files(".rs")
        .iter()
        .filter(|path| !read(path).starts_with("//!"))
        .map(|path| short(path))
        .collect();
    nothing(&wrong, "files that do not open with //!:");
}

#[test]
fn no_file_is_longer_than_its_idea() {
    let too_long = |path: &PathBuf| {
        let lines = read(path).lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", short(path)))
    };
    let wrong: Vec<String> = files(".rs").iter().filter_map(too_long).collect();
    nothing(&wrong, "files over 800 lines:");
}

/// Tests that a page's tables name in their last column, and nobody wrote.
fn missing_tests(page: &str) -> Vec<String> {
    let page = read(&repository().join(page));
    let last_cells = page
        .lines()
        .filter_map(|line| line.rsplit('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|word| word.contains('_') && !word.contains(['.', '/', '=', '…']));
    let code: String = files(".rs").iter().map(|path| read(path)).collect();
    last_cells
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_test_that_the_docs_name_is_there() {
    for page in ["docs/hazards.md", "docs/cases.md", "docs/limits.md"] {
        nothing(
            &missing_tests(page),
            &format!("tests that {page} names and nobody wrote:"),
        );
    }
}

#[test]
fn every_case_of_a_switch_has_its_test() {
    let page = read(&repository().join("docs/cases.md"));
    let code: String = files(".rs").iter().map(|path| read(path)).collect();
    let untested: Vec<String> = (1..=30)
        .map(|number| format!("case_{number:02}_"))
        .filter(|case| !code.contains(&format!("fn {case}")) || !page.contains(&format!("`{case}")))
        .collect();
    nothing(
        &untested,
        "cases without a test of their number, or without a row in docs/cases.md:",
    );
}

#[test]
fn nothing_is_left_to_be_done() {
    // Spelled apart, or this file would find itself.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    let mut wrong = Vec::new();
    for ending in [
        ".rs", ".md", ".toml", ".sh", ".py", ".yaml", ".yml", "Makefile", "/run",
    ] {
        for path in files(ending.trim_start_matches('/')) {
            if short(&path).contains("/tests/crds/") {
                continue; // Other people's files, unchanged.
            }
            for (number, line) in read(&path).lines().enumerate() {
                let mut parts = line.split(|letter: char| !letter.is_ascii_alphanumeric());
                if parts.any(|part| words.iter().any(|word| part == word)) {
                    wrong.push(format!("{}:{}", short(&path), number + 1));
                }
            }
        }
    }
    nothing(
        &wrong,
        "say what is not handled and what happens then, instead of leaving a mark:",
    );
}

#[test]
fn exceptions_to_lints_say_why() {
    let mut wrong = Vec::new();
    let allow = ["#[al", "low("].concat();
    let allow_all = ["#![al", "low("].concat();
    for path in files(".rs") {
        for (number, line) in read(&path).lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with(&allow) || line.starts_with(&allow_all) {
                wrong.push(format!("{}:{}", short(&path), number + 1));
            }
        }
    }
    nothing(
        &wrong,
        "use #[expect(…, reason = …)], which fails when it is no longer needed:",
    );
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let mut wrong = Vec::new();
    // Pieces that a generator puts into a page lie beside the code; the page itself is in docs/ and is read.
    for path in files(".md")
        .into_iter()
        .filter(|path| !short(path).contains("/src/"))
    {
        for target in links(&read(&path)) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let to = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap_or(&path).join(file)
            };
            let is_page = file.is_empty() || file.ends_with(".md");
            if !to.exists() {
                wrong.push(format!("{}: {target}", short(&path)));
            } else if !anchor.is_empty() && is_page && !anchors(&read(&to)).contains(anchor) {
                wrong.push(format!("{}: {target} (no such heading)", short(&path)));
            }
        }
    }
    nothing(&wrong, "links that lead nowhere:");
}

/// Targets of `[text](target)`, code blocks left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every other part lies between backquotes.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push(
                    target
                        .trim_matches(['<', '>'])
                        .split(' ')
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
        }
    }
    found
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            line.strip_prefix('#')
                .map(|rest| rest.trim_start_matches('#').trim())
        })
        .map(|heading| {
            let kept = heading
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

#[test]
fn the_link_reader_reads_links() {
    let text = "see [a](b.md#c) and `[no](x)`\n```\n[no](y)\n```\n[d](#e)";
    assert_eq!(links(text), ["b.md#c", "#e"]);
    assert!(anchors("## What must, work?").contains("what-must-work"));
}
