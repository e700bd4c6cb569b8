//! The `understudy` command line: one thin file a subcommand.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use.

mod check;
mod cli;
mod demo;
mod journal;
mod kube;
mod logging;
mod recover;
mod serve;
#[cfg(feature = "kube")]
mod sidecar;
mod snapshots;
mod status;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Journal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = runtime().and_then(|runtime| runtime.block_on(run(cli.command)));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("understudy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::both(args).await,
        Command::Proxy(args) => serve::proxy(&args).await,
        Command::Control(args) => serve::control(&args).await,
        Command::Check(args) => Ok(check::run(&args)),
        Command::Demo(args) => demo::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Journal(Journal::Show(args)) => journal::show(&args).await,
        Command::Snapshots(command) => snapshots::run(command).await,
        Command::Recover(args) => recover::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Copy(_) => Ok(not_built(
            "copy",
            "use a server pair that may replicate (see UPGRADE PLAN)",
        )),
        #[cfg(feature = "kube")]
        Command::Sidecar(args) => sidecar::run(&args).await,
        #[cfg(not(feature = "kube"))]
        Command::Sidecar(_) => {
            eprintln!(
                "understudy: 'sidecar' is not in this build, which was made without the feature `kube`; use `understudy proxy`"
            );
            Ok(ExitCode::from(2))
        }
    }
}

/// What is not built is refused by name, as wrong use.
fn not_built(what: &str, instead: &str) -> ExitCode {
    eprintln!("understudy: '{what}' is not built yet; {instead}");
    ExitCode::from(2)
}

/// Admin and control run here; clients are served by the proxy's own worker threads.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}
