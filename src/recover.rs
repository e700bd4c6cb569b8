//! `understudy recover --from-servers`: break-glass. Needs no journal, changes nothing, prints what a person would type.

use std::process::ExitCode;

use understudy_config::Config;
use understudy_control::recover_from_servers;

use crate::cli::Recover;

pub(crate) async fn run(args: Recover) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config).map_err(|error| anyhow::anyhow!("{error}"))?;
    for line in recover_from_servers(&config, &args.others).await {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `pool/shard=url`.
pub(crate) fn parse(text: &str) -> Result<(String, String, String), &'static str> {
    let parts = text.split_once('=').and_then(|(place, url)| {
        place
            .split_once('/')
            .map(|(pool, shard)| (pool, shard, url))
    });
    let (pool, shard, url) =
        parts.ok_or("not pool/shard=url, such as sessions/s1=redis://127.0.0.1:7001")?;
    Ok((pool.to_owned(), shard.to_owned(), url.to_owned()))
}
