//! Logs: human on a terminal, JSON elsewhere. `RUST_LOG` chooses what is shown; the default is `info`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error, so that standard output stays what a command prints.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log whose disk is full loses its lines. Told about on standard error, which is that log, each loss would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
