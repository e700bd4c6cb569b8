//! What the demo prints at the end: the zeros, and what they are zeros of.

use std::fmt::Write as _;

use understudy_lab::{FillReport, Report};

/// One switch of one shard.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Cutover {
    pub(crate) shard: String,
    /// "upgrade" or "roll back".
    pub(crate) what: String,
    /// The longest wait for a reply that any connection of the load had around the switch, by the load's clock.
    pub(crate) longest_client_gap_ms: f64,
    /// The same as the proxy says it.
    pub(crate) hold_ms: f64,
    /// What control did while clients were held, step by step.
    pub(crate) hold: String,
}

/// The whole demo, also as JSON.
#[derive(Debug, serde::Serialize)]
pub(crate) struct DemoReport {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) versions_before: Vec<String>,
    pub(crate) versions_after: Vec<String>,
    pub(crate) cutovers: Vec<Cutover>,
    /// The longest wait that a connection had under the same load on the same machine while nothing was upgraded.
    pub(crate) quiet_gap_ms: f64,
    pub(crate) snapshots: Vec<String>,
    pub(crate) load: Report,
    /// The keys that were there before the load.
    pub(crate) filled: FillReport,
    /// What a writer beside the proxy suffered; only with `--sabotage no-fence`.
    pub(crate) beside_the_proxy: Option<Report>,
}

impl DemoReport {
    /// Whether every zero is zero.
    pub(crate) fn is_clean(&self) -> bool {
        self.load.is_clean()
            && self.filled.is_clean()
            && self.beside_the_proxy.as_ref().is_none_or(Report::is_true)
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        row(
            &mut out,
            "versions before",
            &self.versions_before.join(", "),
        );
        row(&mut out, "versions after", &self.versions_after.join(", "));
        for snapshot in &self.snapshots {
            row(&mut out, "snapshot", snapshot);
        }
        let quiet = format!("{:.1} ms", self.quiet_gap_ms);
        row(&mut out, "longest client gap, no upgrade", &quiet);
        for cutover in &self.cutovers {
            let value = format!("{:.1} ms", cutover.longest_client_gap_ms);
            row(
                &mut out,
                &format!("longest client gap, {} {}", cutover.what, cutover.shard),
                &value,
            );
        }
        zeros(&mut out, &self.load);
        let missing = self.filled.lost + self.filled.misplaced;
        row(
            &mut out,
            "keys from before, lost",
            &format!("{missing} of {}", self.filled.keys),
        );
        if let Some(beside) = &self.beside_the_proxy {
            let _ = writeln!(out, "\nwriters beside the proxy");
            zeros(&mut out, beside);
        }
        let verdict = if self.is_clean() {
            "nothing was lost, and no client noticed"
        } else {
            "NOT CLEAN"
        };
        let _ = writeln!(out, "\n{verdict}");
        out
    }
}

fn zeros(out: &mut String, load: &Report) {
    row(out, "commands served", &load.commands.to_string());
    row(
        out,
        "writes acknowledged",
        &load.acknowledged_writes.to_string(),
    );
    row(
        out,
        "errors seen by clients",
        &load.client_errors.to_string(),
    );
    row(
        out,
        "connections lost",
        &(load.connections_lost + load.connects_failed).to_string(),
    );
    row(
        out,
        "acknowledged writes lost",
        &(load.lost + load.misplaced).to_string(),
    );
    row(
        out,
        "acknowledged writes doubled",
        &load.doubled.to_string(),
    );
    row(out, "writes reordered", &load.reordered.to_string());
    row(
        out,
        "wrong replies or expiries",
        &(load.wrong_replies + load.wrong_expiries).to_string(),
    );
    for finding in load.findings.iter().take(10) {
        let _ = writeln!(out, "  ! {finding}");
    }
}

fn row(out: &mut String, what: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  {what:<36} {value}");
}
