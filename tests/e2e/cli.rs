//! What the command line says to good and bad input.

use std::fs;
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
fn check_reads_the_recipes_and_names_every_problem_of_one() {
    let recipes = tempfile::tempdir().unwrap();
    let pool = "pools:\n  - name: a\n    listen: 127.0.0.1:7379\n    shards:\n      - { name: s1, primary: \"redis://127.0.0.1:1\" }\n";
    let config = format!(
        "{pool}kubernetes:\n  recipes_dir: {}\n",
        recipes.path().display()
    );
    let own = "recipe: csi\nextends: csi\ndeadlines: { ready: 2h, total: 3h }\n";
    fs::write(recipes.path().join("own.yaml"), own).unwrap();
    let output = check(&config);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let wrong = "recipe: csi\nextends: csi\nscope: everything\ndeadlines: { ready: soon }\n";
    fs::write(recipes.path().join("own.yaml"), wrong).unwrap();
    let output = check(&config);
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    for expected in ["own.yaml", "scope", "deadlines.ready"] {
        assert!(errors.contains(expected), "{expected} is not in: {errors}");
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let output = understudy(&["copy", "redis://a:1", "redis://b:1"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = errors(&output);
    assert!(
        errors.contains("copy") && errors.contains("not built yet"),
        "{errors}"
    );
}

#[test]
fn wrong_use_exits_with_2() {
    for command in [
        &["serve"][..],
        &["demo", "--sabotage", "everything"],
        &["recover", "--from-servers", "-c", "any.yaml", "sessions-s1"],
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

#[tokio::test]
async fn snapshots_are_listed_verified_and_restored_while_nobody_runs() {
    use understudy_control::snapshot::LocalSnapshots;
    use understudy_lab::{Server, Version};

    let server = Server::bare(Version::Redis7_0_15).await.unwrap();
    server.call(&["SET", "a", "1"]).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let local = LocalSnapshots::open(path("data/snapshots")).unwrap();
    let url = server.url().parse().unwrap();
    let taken = local.take(&url, "us-p-s1-1-1-x", std::future::pending());
    let taken = taken.await.unwrap();
    let yaml = format!(
        "data_dir: {}\npools:\n  - {{ name: p, listen: 127.0.0.1:7379, shards: [{{ name: s1, primary: \"{}\" }}] }}\n",
        path("data"),
        server.url()
    );
    std::fs::write(path("u.yaml"), yaml).unwrap();
    let snapshots = |words: &[&str]| {
        let file = path("u.yaml");
        let (verb, rest) = words.split_first().unwrap();
        let mut arguments = vec!["snapshots", verb, "-c", &file];
        arguments.extend(rest);
        let output = understudy(&arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said, errors(&output))
    };
    let (code, listed, _) = snapshots(&["list"]);
    assert_eq!(code, Some(0));
    assert!(
        listed.contains(&taken.id) && listed.contains("keys 1"),
        "{listed}"
    );
    let (code, verified, _) = snapshots(&["verify", "us-p-s1-1-1-x"]);
    assert!(code == Some(0) && verified.contains("1 keys"), "{verified}");
    let (_, shown, _) = snapshots(&["show", &taken.id]);
    assert!(
        shown.contains(&format!("digest: {}", taken.digest)),
        "{shown}"
    );
    let (code, restored, no) =
        snapshots(&["restore", &taken.id, directory.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{no}");
    assert!(restored.contains("dump.rdb"), "{restored}");
    let again = std::fs::read(path("dump.rdb")).unwrap();
    assert_eq!(again, std::fs::read(&taken.path).unwrap());
    let (code, _, no) = snapshots(&["restore", &taken.id, directory.path().to_str().unwrap()]);
    assert!(
        code == Some(1) && no.contains("nothing is written over"),
        "{no}"
    );
    // A bit flips on the disk.
    let mut bytes = again;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&taken.path, bytes).unwrap();
    let (code, _, no) = snapshots(&["verify", &taken.id]);
    assert!(code == Some(1) && no.contains(&taken.id), "{no}");
    let (code, _, no) = snapshots(&["show", "nobody"]);
    assert!(code == Some(1) && no.contains("snapshots list"), "{no}");
    let (code, ..) = snapshots(&["delete", &taken.id]);
    assert_eq!(code, Some(0));
    assert_eq!(snapshots(&["list"]).1, "");
}
