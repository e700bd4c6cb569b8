//! The demo proves what it says, and notices when it is broken on purpose.

use std::process::{Command, Output};

use serde_json::Value;

use crate::stage::binary;

fn demo(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(["demo", "--json", "--keys", "2000", "--connections", "16"])
        .args(arguments)
        .output()
        .unwrap()
}

fn document(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}; standard error:\n{errors}"))
}

#[test]
fn the_demo_ends_with_zeros_only() {
    let output = demo(&[]);
    let document = document(&output);
    assert!(output.status.success(), "{document:#}");
    for zero in [
        "client_errors",
        "connections_lost",
        "lost",
        "doubled",
        "reordered",
        "wrong_replies",
        "misplaced",
    ] {
        assert_eq!(document["load"][zero], 0, "{zero}: {document:#}");
    }
    assert_eq!(document["versions_after"][0], "redis 8.2.3");
    // s1 forward, s2 forward, s1 back, s1 forward.
    assert_eq!(
        document["cutovers"].as_array().unwrap().len(),
        4,
        "{document:#}"
    );
}

/// Breaks the demo, and expects exit 1 and a finding of one of these kinds that names its ledger entry.
fn sabotaged(how: &str, findings_of: &str, kinds: &[&str]) {
    let output = demo(&["--sabotage", how]);
    let document = document(&output);
    assert_eq!(output.status.code(), Some(1), "{document:#}");
    let findings = document[findings_of]["findings"].as_array().unwrap();
    let named = findings
        .iter()
        .find(|finding| kinds.iter().any(|kind| finding["kind"] == *kind));
    let named = named.unwrap_or_else(|| panic!("no {kinds:?} in {document:#}"));
    assert!(
        named["key"].as_str().is_some_and(|key| !key.is_empty()),
        "{named:#}"
    );
}

#[test]
fn a_lifted_fence_is_found_by_the_ledger() {
    sabotaged("no-fence", "beside_the_proxy", &["lost"]);
}

#[test]
fn a_target_that_takes_over_too_early_is_found_by_the_ledger() {
    sabotaged("early-release", "load", &["lost", "wrong_reply"]);
}

#[test]
fn a_doubled_write_is_found_by_the_ledger() {
    sabotaged("double-apply", "load", &["doubled", "wrong_reply"]);
}

#[test]
fn swapped_replies_are_found_by_the_ledger() {
    sabotaged("swap-replies", "load", &["wrong_reply"]);
}
