//! What a person sees while the demo runs: one line per phase, and a bar on a terminal.
//!
//! Everything goes to standard error, so that `--json` leaves standard output to the document.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a moving bar redraws.
const REDRAW: Duration = Duration::from_millis(100);

/// Prints phases as they begin and end.
pub(crate) struct Progress {
    terminal: bool,
    started: Instant,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress {
            terminal: std::io::stderr().is_terminal(),
            started: Instant::now(),
        }
    }

    /// Begins a phase. Its line is printed when it ends; on a terminal a bar moves until then.
    pub(crate) fn phase(&self, title: &str) -> PhaseLine {
        let bar = if self.terminal {
            let bar = ProgressBar::new_spinner();
            bar.set_style(spinner());
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(REDRAW);
            bar
        } else {
            ProgressBar::hidden()
        };
        PhaseLine {
            bar,
            title: title.to_owned(),
            since_start: self.started,
            started: Instant::now(),
        }
    }
}

/// One running phase.
pub(crate) struct PhaseLine {
    bar: ProgressBar,
    title: String,
    since_start: Instant,
    started: Instant,
}

impl PhaseLine {
    /// Shows how far the phase is.
    pub(crate) fn at(&self, done: u64, total: u64, what: &str) {
        if total > 0 && self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(counter());
        }
        self.bar.set_position(done);
        self.bar.set_message(what.to_owned());
    }

    /// Shows what the phase is waiting for.
    pub(crate) fn note(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Ends the phase with its result.
    pub(crate) fn done(self, result: &str) {
        self.bar.finish_and_clear();
        eprintln!(
            "{:>7.1} s  {:<34} {} ({} ms)",
            self.since_start.elapsed().as_secs_f64(),
            self.title,
            result,
            self.started.elapsed().as_millis()
        );
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn counter() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
