//! `understudy snapshots`: what was taken, whether it can be read back, and how to get it back. Works while control runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use understudy_config::Config;
use understudy_control::snapshot::{Catalogue, RestoreTo, SnapshotHandle, read_data};

use crate::cli::Snapshots;

/// Longest message of a container that has ended: what the kubelet takes over into the Pod's status.
const MESSAGE_BYTES_MAX: usize = 4096;

pub(crate) async fn run(command: Snapshots) -> anyhow::Result<ExitCode> {
    match command {
        Snapshots::List { config, json } => list(&open(&config.config).await?, json).await,
        Snapshots::Show { config, id } => {
            let (provider, id) = open(&config.config).await?.find(&id).await?;
            print_fields(&provider.show(&id).await?);
            Ok(ExitCode::SUCCESS)
        }
        Snapshots::Restore { config, id, to } => {
            let to: RestoreTo = to.parse().map_err(anyhow::Error::msg)?;
            let (provider, id) = open(&config.config).await?.find(&id).await?;
            print_fields(&provider.restore(&id, &to, &progress).await?);
            Ok(ExitCode::SUCCESS)
        }
        Snapshots::Verify { config, id } => {
            let (provider, id) = open(&config.config).await?.find(&id).await?;
            let verified = provider.verify(&id, &progress).await?;
            for line in verified.lines {
                println!("{line}");
            }
            println!(
                "{id}: {} keys, {} bytes: good",
                verified.keys, verified.bytes
            );
            Ok(ExitCode::SUCCESS)
        }
        Snapshots::Read {
            directory,
            rdb,
            result,
        } => read(directory, rdb, result).await,
        Snapshots::Delete { config, id } => {
            let (provider, id) = open(&config.config).await?.find(&id).await?;
            provider.delete(&id).await?;
            println!("deleted {id}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Exit code 1 where the files are not what a server would load.
async fn read(
    directory: PathBuf,
    rdb: Option<String>,
    result: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let reading = tokio::task::spawn_blocking(move || read_data(&directory, rdb.as_deref()));
    let read = reading.await?;
    println!("{}", serde_json::to_string(&read)?);
    if let Some(file) = result {
        // No file beside it and no rename: a Pod's termination log is one file that is mounted.
        std::fs::write(&file, read.to_line(MESSAGE_BYTES_MAX))
            .with_context(|| format!("write {}", file.display()))?;
    }
    Ok(match read.sound {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn open(file: &std::path::Path) -> anyhow::Result<Catalogue> {
    let config = Config::load(file).with_context(|| format!("read {}", file.display()))?;
    let config = Arc::new(config);
    let others = crate::kube::providers(&config).await?;
    Ok(Catalogue::new(&config, others))
}

async fn list(catalogue: &Catalogue, json: bool) -> anyhow::Result<ExitCode> {
    let (found, silent) = catalogue.list().await;
    if json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        for snapshot in &found {
            println!("{}", line(snapshot));
        }
    }
    for error in &silent {
        eprintln!("understudy: not listed: {error}");
    }
    Ok(match silent.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn line(snapshot: &SnapshotHandle) -> String {
    let number = |value: Option<u64>| value.map_or("?".to_owned(), |value| value.to_string());
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(snapshot.taken_at_ms));
    format!(
        "{}  recipe {}  {}  server {}  version {}  keys {}  bytes {}  {} s old",
        snapshot.id,
        snapshot.recipe,
        snapshot.level_reached,
        snapshot.server,
        snapshot.version.as_deref().unwrap_or("?"),
        number(snapshot.keys),
        number(snapshot.bytes),
        age.as_secs()
    )
}

fn print_fields(fields: &[(String, String)]) {
    for (name, value) in fields {
        println!("{name}: {value}");
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a provider gives the text away"
)]
fn progress(now: String) {
    eprintln!("{now} …");
}
