//! `understudy verify SRC DST`: compares two live servers, every key, value and expiry, in both directions.

use std::process::ExitCode;

use anyhow::Context;
use understudy_config::BackendUrl;
use understudy_control::verify::{CompareOptions, compare};

use crate::cli::Pair;

/// Exit 0 when both hold the same.
pub(crate) async fn run(args: Pair) -> anyhow::Result<ExitCode> {
    let source: BackendUrl = args.source.parse().context("read SRC")?;
    let target: BackendUrl = args.target.parse().context("read DST")?;
    let outcome = compare(&source, &target, CompareOptions::default(), &|_| {}).await?;
    for difference in &outcome.differences {
        println!("{difference}");
    }
    for key in &outcome.unsettled {
        println!("{key}: changed whenever it was looked at");
    }
    for key in &outcome.unverifiable {
        println!("{}: not comparable: {}", key.key, key.why);
    }
    for library in &outcome.functions {
        println!("function library {library}: not the same");
    }
    println!(
        "{} keys compared, {} differences, {} unsettled, {} not comparable",
        outcome.keys_compared,
        outcome.differences.len(),
        outcome.unsettled.len(),
        outcome.unverifiable.len()
    );
    Ok(if outcome.is_equal() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
