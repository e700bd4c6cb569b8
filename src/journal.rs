//! `understudy journal show`: prints control's journal, readable without control.

use std::process::ExitCode;

use anyhow::Context;
use understudy_config::Config;
use understudy_control::Journal;

use crate::cli::ConfigFile;

pub(crate) async fn show(args: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config).map_err(|error| anyhow::anyhow!("{error}"))?;
    let journal = Journal::open(&config.data_dir)
        .await
        .with_context(|| format!("open the journal in {}", config.data_dir.display()))?;
    println!("{}", journal.dump().await?.trim_end());
    Ok(ExitCode::SUCCESS)
}
