//! What the command line says to good and bad input.

use std::process::{Command, Output};

use crate::stage::binary;

fn understudy(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn check(yaml: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("understudy.yaml");
    std::fs::write(&file, yaml).unwrap();
    understudy(&["check", "--config", file.to_str().unwrap()])
}

#[test]
fn check_accepts_the_config_of_the_readme() {
    let readme = include_str!("../../README.md");
    let yaml = readme
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let output = check(yaml);
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn check_names_every_problem_at_once() {
    let output = check(
        "workerz: 3\npools:\n  - name: a\n    listen: nowhere\n    shards:\n      - { name: s1, primary: \"http://x\" }\n",
    );
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    for expected in ["workerz", "listen", "primary"] {
        assert!(errors.contains(expected), "{expected} is not in: {errors}");
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for command in [
        &["copy", "redis://a:1", "redis://b:1"][..],
        &["sidecar", "--config", "x"],
    ] {
        let output = understudy(command);
        assert_eq!(output.status.code(), Some(2));
        let errors = errors(&output);
        assert!(
            errors.contains(command[0]) && errors.contains("not built yet"),
            "{errors}"
        );
    }
}

#[test]
fn wrong_use_exits_with_2() {
    for command in [
        &["serve"][..],
        &["demo", "--sabotage", "everything"],
        &["no-such-command"],
    ] {
        assert_eq!(understudy(command).status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn a_demo_of_a_pair_that_cannot_replicate_is_refused() {
    let output = understudy(&["demo", "--from", "8.2.3", "--to", "6.2.14"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("cannot follow"),
        "{}",
        errors(&output)
    );
}
