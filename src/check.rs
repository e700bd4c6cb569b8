//! `understudy check`: a config file is read as `serve` would read it, and every problem is said at once.

use std::process::ExitCode;

use understudy_config::Config;

use crate::cli::ConfigFile;
use crate::kube;

/// Exit 0 when the file is right, 1 when it has problems.
pub(crate) fn run(args: &ConfigFile) -> ExitCode {
    match Config::load(&args.config) {
        Ok(config) => {
            let recipes = match kube::check(&config) {
                Ok(recipes) => recipes,
                Err(error) => {
                    eprintln!("{}: {error:#}", args.config.display());
                    return ExitCode::FAILURE;
                }
            };
            println!("{}: ok", args.config.display());
            for pool in &config.pools {
                println!(
                    "  pool {} listens on {}, {} shard(s)",
                    pool.name,
                    pool.listen,
                    pool.shards.len()
                );
            }
            if let Some(recipes) = recipes {
                println!("  {recipes} snapshot recipes");
            }
            for warning in &config.warnings {
                println!("  warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
