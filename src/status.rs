//! `understudy status`: asks a running control, prints what it says.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use understudy_net::{Client, Endpoint, Value};

use crate::cli::Status;

/// How long control may take to answer before we say that it does not.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Status) -> anyhow::Result<ExitCode> {
    let endpoint = Endpoint::tcp(args.admin.ip().to_string(), args.admin.port());
    let mut client = Client::connect(&endpoint, TIMEOUT)
        .await
        .with_context(|| format!("reach control's admin endpoint at {}", args.admin))?;
    let mut command = vec!["UPGRADE".to_owned(), "STATUS".to_owned()];
    command.extend(args.pool);
    if args.json {
        command.push("JSON".to_owned());
    }
    match client.call(&command).await? {
        Value::Error(text) => bail!("{text}"),
        reply => println!("{}", reply.as_str_lossy().unwrap_or_default().trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}
