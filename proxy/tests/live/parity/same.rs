//! The lists of command lines, one by one and as pipelines, in both protocols, on the servers they were written for.

use understudy_lab::Version;

use crate::parity::rows::{COMMANDS, SESSIONS, rows};
use crate::parity::twins::Twins;

async fn compare(version: Version, list: &str, resp3: bool, at_once: usize) {
    let mut twins = Twins::start(version).await;
    if resp3 {
        twins = twins.resp3().await;
    }
    twins.run(&rows(list), at_once).await;
    twins.expect_none();
}

#[tokio::test]
async fn forwarded_commands_of_redis_in_resp2() {
    compare(Version::Redis8_2_3, COMMANDS, false, 1).await;
}

#[tokio::test]
async fn forwarded_commands_of_redis_in_resp3() {
    compare(Version::Redis8_2_3, COMMANDS, true, 1).await;
}

#[tokio::test]
async fn forwarded_commands_of_valkey_in_resp2() {
    compare(Version::Valkey9_1_2, COMMANDS, false, 1).await;
}

#[tokio::test]
async fn forwarded_commands_of_valkey_in_resp3() {
    compare(Version::Valkey9_1_2, COMMANDS, true, 1).await;
}

#[tokio::test]
async fn forwarded_commands_in_pipelines_of_any_length() {
    for at_once in [2, 7, 100, 10_000] {
        compare(Version::Redis8_2_3, COMMANDS, at_once % 2 == 0, at_once).await;
    }
}

#[tokio::test]
async fn the_state_of_a_connection_to_redis() {
    compare(Version::Redis8_2_3, SESSIONS, false, 1).await;
}

#[tokio::test]
async fn the_state_of_a_connection_to_valkey() {
    compare(Version::Valkey9_1_2, SESSIONS, false, 1).await;
}

#[tokio::test]
async fn the_state_of_a_connection_in_pipelines_of_any_length() {
    for at_once in [2, 7, 100, 10_000] {
        compare(Version::Redis8_2_3, SESSIONS, false, at_once).await;
    }
}

#[tokio::test]
async fn commands_of_a_server_that_is_to_be_upgraded() {
    let mut twins = Twins::start(Version::Redis6_2_14).await;
    twins.old_texts = true;
    twins.run(&rows(COMMANDS), 1).await;
    twins.expect_none();
}

/// Valkey breaks the transaction, Redis does not, and nor do we.
#[tokio::test]
async fn a_multi_within_a_transaction() {
    let list = "MULTI\nSET t 1\nMULTI\nGET t\nEXEC\nGET t\nMULTI\nMULTI x\nEXEC\nEXEC";
    for version in [Version::Redis6_2_14, Version::Redis8_2_3] {
        let mut twins = Twins::start(version).await;
        twins.run(&rows(list), 3).await;
        twins.expect_none();
    }
}
