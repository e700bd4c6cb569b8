//! What everything is bounded by, in one table: the settings, their defaults, and docs/limits.md come from it.

use std::time::Duration;

use crate::problem::Problem;
use crate::scalar::{self, Scalar};
use crate::section::{Section, Wrong};
use crate::settings::{Absent, Kind, Reload, SectionSpec, Setting};
use crate::units::ByteSize;

/// One limit as docs/limits.md shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRow {
    /// The key under `limits:`.
    pub name: &'static str,
    /// What it is counted in: a unit, or `size` or `time` for values that bring their own.
    pub unit: &'static str,
    /// What holds when the file says nothing.
    pub default: String,
    /// What is limited.
    pub meaning: &'static str,
    /// What happens at the limit.
    pub at_limit: &'static str,
}

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// Writes the struct, its defaults, its table, its section of the settings and its reading from one list, so that they
/// cannot differ. Bounds are in the value's own unit: counts, bytes, microseconds.
macro_rules! limits {
    ($($name:ident: $type:ty = $default:expr, $kind:ident $min:tt..=$max:expr, $unit:literal, $meaning:literal, $at_limit:literal;)*) => {
        /// Every limit. Read once at start: a change takes a restart.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(
                #[doc = concat!($meaning, "\n\n", $at_limit, "\n\nCounted in ", $unit, ". Default: `", stringify!($default), "`.")]
                pub $name: $type,
            )*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        pub(crate) const SPEC: SectionSpec = SectionSpec {
            title: "`limits`",
            settings: &[$(
                Setting {
                    name: stringify!($name),
                    kind: Kind::$kind { min: $min, max: $max },
                    default: Absent::Limit(|| Limits::default().$name.text()),
                    reload: Reload::Restart,
                    meaning: concat!($meaning, " ", $at_limit),
                },
            )*],
        };

        impl Limits {
            /// All of them, in the order of the documentation, with their defaults.
            #[must_use]
            pub fn table() -> Vec<LimitRow> {
                let defaults = Self::default();
                vec![$(
                    LimitRow {
                        name: stringify!($name),
                        unit: $unit,
                        default: defaults.$name.text(),
                        meaning: $meaning,
                        at_limit: $at_limit,
                    },
                )*]
            }

            /// Name, own value and other value of each limit that differs.
            pub(crate) fn differences(&self, other: &Self) -> Vec<(&'static str, String, String)> {
                let mut differences = Vec::new();
                $(
                    if self.$name != other.$name {
                        differences.push((stringify!($name), self.$name.text(), other.$name.text()));
                    }
                )*
                differences
            }

            pub(crate) fn read(section: &Section<'_>, problems: &mut Vec<Problem>) -> Self {
                let mut limits = Self::default();
                $(
                    if let Some(value) = section.take(stringify!($name), problems, |text| scalar::within(text, $min, $max)) {
                        limits.$name = value;
                    }
                )*
                limits
            }
        }
    };
}

limits! {
    // Sessions: one client each.
    sessions_max: usize = 10_000, Whole 1..=1_000_000, "sessions",
        "Most client sessions of this process, over all pools.",
        "One more is answered `-ERR max number of clients reached` and closed.";
    session_commands_max: usize = 16_384, Whole 1..=10_000_000, "commands",
        "Most commands of one session that wait for a reply.",
        "Its next commands are not read until replies have left.";
    session_output_max: ByteSize = ByteSize::mib(64), Size KIB..=64 * GIB, "size",
        "Most reply bytes that wait for one client to read them, beside the reply being received.",
        "Its next commands are not read until it has read; one that reads nothing for `session_stall_max` is closed.";
    session_stall_max: Duration = Duration::from_secs(60), Time SECOND..=DAY, "time",
        "Longest time that a client with waiting replies may read nothing.",
        "The session is closed; its commands in flight run to their end and their replies are dropped.";
    handshake_max: Duration = Duration::from_secs(10), Time 100_000..=600 * SECOND, "time",
        "Longest TLS handshake of a client.",
        "The connection is closed.";
    // Frames: what one command or reply may be.
    args_max: u32 = 1_048_576, Whole 1..=2_147_483_647, "arguments",
        "Most arguments of one command.",
        "`-ERR Protocol error: invalid multibulk length`, and the session is closed.";
    bulk_max: ByteSize = ByteSize::mib(512), Size KIB..=2 * GIB, "size",
        "Longest single argument or value.",
        "`-ERR Protocol error: invalid bulk length`, and the session is closed.";
    inline_max: ByteSize = ByteSize::kib(64), Size KIB..=GIB, "size",
        "Longest inline command.",
        "`-ERR Protocol error: too big inline request`, and the session is closed.";
    frame_max: ByteSize = ByteSize::mib(1_024), Size KIB..=4 * GIB - 1, "size",
        "Longest command as a whole.",
        "`-ERR Protocol error: too big request`, and the session is closed.";
    reply_depth_max: u8 = 32, Whole 1..=128, "levels",
        "Deepest nesting of a backend's reply.",
        "The backend's connection is closed as broken; commands in flight on it get an error.";
    bulk_bytes: ByteSize = ByteSize::kib(256), Size KIB..=2 * GIB, "size",
        "From this length on a value is huge and must not make its neighbours on a shared connection wait.",
        "It takes a connection apart from the shared one.";
    transaction_bytes_max: ByteSize = ByteSize::mib(64), Size KIB..=4 * GIB, "size",
        "Most bytes of commands that one session queues between MULTI and EXEC.",
        "The command is refused and EXEC answers `-EXECABORT`.";
    // Lanes: connections to backends.
    lane_queue_max: usize = 65_536, Whole 1..=10_000_000, "commands",
        "Most commands in flight on one lane.",
        "Sessions with a command for it wait.";
    lane_output_max: ByteSize = ByteSize::mib(64), Size KIB..=64 * GIB, "size",
        "Most bytes that wait to be written to one lane.",
        "Sessions with a command for it wait.";
    lanes_max: usize = 1_024, Whole 1..=65_536, "lanes",
        "Most lanes of one worker.",
        "A command that needs one more is answered `-ERR no backend connection left`.";
    lane_idle_max: Duration = Duration::from_secs(300), Time SECOND..=DAY, "time",
        "Longest time that a lane without commands stays open.",
        "It is closed, and opened again when it is needed.";
    retries_max: u32 = 3, Whole 0..=100, "retries",
        "How often one command is tried again after a backend refused it or went away before it was sent.",
        "The client gets the last error.";
    // The gate.
    hold_max: Duration = Duration::from_secs(2), Time 1_000..=600 * SECOND, "time",
        "Longest lease of a hold.",
        "HOLD with a longer one is given this one; at its end the shard opens at the epoch it has.";
    held_commands_max: usize = 100_000, Whole 1..=10_000_000, "commands",
        "Most commands that one hold keeps waiting, counted as sessions that stopped.",
        "The shard opens at the epoch it has, unless it is prepared: then further commands are not read.";
    held_bytes_max: ByteSize = ByteSize::mib(64), Size KIB..=64 * GIB, "size",
        "Most bytes of commands that one hold keeps waiting.",
        "The shard opens at the epoch it has, unless it is prepared: then further commands are not read.";
    prepared_max: Duration = Duration::from_secs(30), Time 1_000..=DAY, "time",
        "Longest time that a prepared shard keeps commands waiting for control.",
        "Held commands are answered `-ERR not executed: …`; the gate stays as it is.";
    // Scripts that are remembered for the next server.
    scripts_max: usize = 1_000, Whole 0..=1_000_000, "scripts",
        "Most script bodies remembered of one pool.",
        "The one used longest ago is forgotten.";
    scripts_bytes_max: ByteSize = ByteSize::mib(16), Size 0..=4 * GIB, "size",
        "Most bytes of script bodies remembered of one pool.",
        "The one used longest ago is forgotten.";
    // Operators.
    admin_sessions_max: usize = 100, Whole 1..=100_000, "sessions",
        "Most connections to the admin port.",
        "One more is answered `-ERR max number of clients reached` and closed.";
    admin_frame_max: ByteSize = ByteSize::mib(1), Size KIB..=GIB, "size",
        "Longest command on the admin port.",
        "`-ERR Protocol error: too big request`, and the connection is closed.";
    http_sessions_max: usize = 64, Whole 1..=100_000, "sessions",
        "Most connections to the HTTP port.",
        "One more is closed.";
}

impl Limits {
    /// What no single limit can see: limits that contradict each other.
    pub(crate) fn check(&self, section: &Section<'_>, problems: &mut Vec<Problem>) {
        if self.frame_max < self.bulk_max {
            let what = format!(
                "{} is less than bulk_max, {}",
                self.frame_max, self.bulk_max
            );
            problems.push(section.place_of("frame_max").problem(Wrong::new(
                what,
                "a command must be able to hold its longest value",
            )));
        }
        if self.bulk_bytes > self.bulk_max {
            let what = format!(
                "{} is more than bulk_max, {}",
                self.bulk_bytes, self.bulk_max
            );
            problems.push(
                section
                    .place_of("bulk_bytes")
                    .problem(Wrong::new(what, "no value would ever be that long")),
            );
        }
    }
}
