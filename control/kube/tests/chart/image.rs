//! The image is what the chart expects, and is built from all that the build reads.

use std::collections::BTreeSet;

use serde_json::json;

use crate::helm::{self, read};
use crate::objects::pods;

/// The arguments of the last line of the Dockerfile that begins with this word.
fn told(word: &str) -> String {
    let dockerfile = read("Dockerfile");
    let line = dockerfile
        .lines()
        .rfind(|line| line.split(' ').next() == Some(word));
    let line = line.unwrap_or_else(|| panic!("no {word} in the Dockerfile"));
    line[word.len()..].trim().to_owned()
}

#[test]
fn the_build_sees_every_crate_and_nothing_that_git_does_not_keep() {
    let ignored = read(".dockerignore");
    let seen: BTreeSet<&str> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let manifest = read("Cargo.toml");
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = "))
        .expect("members");
    let members: Vec<String> = serde_json::from_str(members).expect("a list on one line");
    let own = ["Cargo.toml", "Cargo.lock", "src", "tests", "benches"].map(str::to_owned);
    for needed in members.iter().chain(&own) {
        let top = needed.split('/').next().unwrap();
        assert!(seen.contains(top), "{top} is not in .dockerignore");
    }
    for path in seen {
        assert!(
            helm::repository().join(path).exists(),
            "{path} is not there"
        );
    }
}

#[test]
fn the_image_is_built_by_a_compiler_that_is_new_enough() {
    let number = |text: &str| -> Vec<u32> {
        let parts = text.split('.').map(|it| it.parse().unwrap());
        parts.collect()
    };
    let dockerfile = read("Dockerfile");
    let from = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("FROM rust:"))
        .expect("FROM rust:");
    let compiler = from.split('-').next().unwrap();
    let manifest = read("Cargo.toml");
    let least = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .expect("rust-version");
    assert!(
        number(compiler) >= number(least.trim_matches('"')),
        "{from}"
    );
}

#[test]
fn the_image_runs_as_the_charts_user_and_has_its_directory() {
    let Some(rendered) = helm::render(&[helm::least()]) else {
        return;
    };
    let objects = rendered[0].as_ref().unwrap();
    assert_eq!(told("ENTRYPOINT"), r#"["/understudy"]"#);
    assert_eq!(told("STOPSIGNAL"), "SIGTERM");
    let user = told("USER");
    for (title, pod) in pods(objects) {
        let spec = &pod["spec"];
        let security = &spec["securityContext"];
        assert_eq!(
            user,
            format!("{}:{}", security["runAsUser"], security["runAsGroup"]),
            "{title}"
        );
        for container in spec["containers"].as_array().unwrap() {
            assert!(container["command"].is_null(), "{title}");
            // The only place that is written to, there before anything is mounted.
            let mounts = container["volumeMounts"].as_array().unwrap().iter();
            let written: Vec<_> = mounts
                .filter(|it| it["readOnly"] != json!(true))
                .map(|it| it["mountPath"].as_str().unwrap())
                .collect();
            assert_eq!(written, ["/var/lib/understudy"], "{title}");
        }
    }
    let kept = format!("--chown={user} /out/data/ /var/lib/understudy/");
    assert!(read("Dockerfile").contains(&kept), "{kept}");
}
