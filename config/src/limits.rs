//! What everything is bounded by, in one table: the settings, their defaults, and docs/limits.md come from it.

use std::time::Duration;

use crate::units::{ByteSize, duration_text};

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

/// Writes the struct, its defaults and its table from one list, so that they cannot differ.
macro_rules! limits {
    ($($name:ident: $kind:ty = $default:expr, $unit:literal, $meaning:literal, $at_limit:literal;)*) => {
        /// Every limit. Read once at start: a change takes a restart.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(
                #[doc = $meaning]
                #[doc = $at_limit]
                #[doc = concat!("Counted in ", $unit, ". Default: `", stringify!($default), "`.")]
                pub $name: $kind,
            )*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

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
        }
    };
}

limits! {
    // Sessions: one client each.
    sessions_max: usize = 10_000, "sessions",
        "Most client sessions of this process, over all pools.",
        "One more is answered `-ERR max number of clients reached` and closed.";
    session_commands_max: usize = 16_384, "commands",
        "Most commands of one session that wait for a reply.",
        "Its next commands are not read until replies have left.";
    session_output_max: ByteSize = ByteSize::mib(64), "size",
        "Most reply bytes that wait for one client to read them, beside the reply being received.",
        "Its next commands are not read until it has read; one that reads nothing for `session_stall_max` is closed.";
    session_stall_max: Duration = Duration::from_secs(60), "time",
        "Longest time that a client with waiting replies may read nothing.",
        "The session is closed; its commands in flight run to their end and their replies are dropped.";
    handshake_max: Duration = Duration::from_secs(10), "time",
        "Longest TLS handshake of a client.",
        "The connection is closed.";
    // Frames: what one command or reply may be.
    args_max: u32 = 1_048_576, "arguments",
        "Most arguments of one command.",
        "`-ERR Protocol error: invalid multibulk length`, and the session is closed.";
    bulk_max: ByteSize = ByteSize::mib(512), "size",
        "Longest single argument or value.",
        "`-ERR Protocol error: invalid bulk length`, and the session is closed.";
    inline_max: ByteSize = ByteSize::kib(64), "size",
        "Longest inline command.",
        "`-ERR Protocol error: too big inline request`, and the session is closed.";
    frame_max: ByteSize = ByteSize::mib(1_024), "size",
        "Longest command as a whole.",
        "`-ERR Protocol error: too big request`, and the session is closed.";
    reply_depth_max: u8 = 32, "levels",
        "Deepest nesting of a backend's reply.",
        "The backend's connection is closed as broken; commands in flight on it get an error.";
    bulk_bytes: ByteSize = ByteSize::kib(256), "size",
        "From this length on a value is huge and must not make its neighbours on a shared connection wait.",
        "It takes a connection apart from the shared one.";
    transaction_bytes_max: ByteSize = ByteSize::mib(64), "size",
        "Most bytes of commands that one session queues between MULTI and EXEC.",
        "The command is refused and EXEC answers `-EXECABORT`.";
    // Lanes: connections to backends.
    lane_queue_max: usize = 65_536, "commands",
        "Most commands in flight on one lane.",
        "Sessions with a command for it wait.";
    lane_output_max: ByteSize = ByteSize::mib(64), "size",
        "Most bytes that wait to be written to one lane.",
        "Sessions with a command for it wait.";
    lanes_max: usize = 1_024, "lanes",
        "Most lanes of one worker.",
        "A command that needs one more is answered `-ERR no backend connection left`.";
    lane_idle_max: Duration = Duration::from_secs(300), "time",
        "Longest time that a lane without commands stays open.",
        "It is closed, and opened again when it is needed.";
    retries_max: u32 = 3, "retries",
        "How often one command is tried again after a backend refused it or went away before it was sent.",
        "The client gets the last error.";
    // The gate.
    hold_max: Duration = Duration::from_secs(2), "time",
        "Longest lease of a hold.",
        "HOLD with a longer one is given this one; at its end the shard opens at the epoch it has.";
    held_commands_max: usize = 100_000, "commands",
        "Most commands that one hold keeps waiting, counted as sessions that stopped.",
        "The shard opens at the epoch it has, unless it is prepared: then further commands are not read.";
    held_bytes_max: ByteSize = ByteSize::mib(64), "size",
        "Most bytes of commands that one hold keeps waiting.",
        "The shard opens at the epoch it has, unless it is prepared: then further commands are not read.";
    prepared_max: Duration = Duration::from_secs(30), "time",
        "Longest time that a prepared shard keeps commands waiting for control.",
        "Held commands are answered `-ERR not executed: …`; the gate stays as it is.";
    // Scripts that are remembered for the next server.
    scripts_max: usize = 1_000, "scripts",
        "Most script bodies remembered of one pool.",
        "The one used longest ago is forgotten.";
    scripts_bytes_max: ByteSize = ByteSize::mib(16), "size",
        "Most bytes of script bodies remembered of one pool.",
        "The one used longest ago is forgotten.";
    // Operators.
    admin_sessions_max: usize = 100, "sessions",
        "Most connections to the admin port.",
        "One more is answered `-ERR max number of clients reached` and closed.";
    admin_frame_max: ByteSize = ByteSize::mib(1), "size",
        "Longest command on the admin port.",
        "`-ERR Protocol error: too big request`, and the connection is closed.";
    http_sessions_max: usize = 64, "sessions",
        "Most connections to the HTTP port.",
        "One more is closed.";
}

/// A value that a limit can have.
trait LimitValue {
    fn text(&self) -> String;
}

impl LimitValue for ByteSize {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl LimitValue for Duration {
    fn text(&self) -> String {
        duration_text(*self)
    }
}

impl LimitValue for usize {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl LimitValue for u32 {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl LimitValue for u8 {
    fn text(&self) -> String {
        self.to_string()
    }
}
