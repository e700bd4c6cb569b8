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
    /// The test that reaches it.
    pub reached_by: &'static str,
}

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// Writes the struct, its defaults, its table, its section of the settings and its reading from one list, so that they
/// cannot differ. Bounds are in the value's own unit: counts, bytes, microseconds.
macro_rules! limits {
    ($($name:ident: $type:ty = $default:expr, $kind:ident $min:tt..=$max:expr, $unit:literal, $meaning:literal, $at_limit:literal, $reached_by:literal;)*) => {
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
                        reached_by: $reached_by,
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
        "Most client sessions of this process, over all pools; each worker has its share.",
        "One more is answered `-ERR max number of clients reached` and closed.",
        "sessions_max_refuses_with_redis_own_words";
    session_commands_max: usize = 4_096, Whole 1..=10_000_000, "commands",
        "Most commands of one session that wait for a reply.",
        "Its next commands are not read until replies have come.",
        "session_commands_max_waits_for_replies";
    session_output_pause: ByteSize = ByteSize::mib(1), Size KIB..=64 * GIB, "size",
        "Most reply bytes that wait for one client to take them while its next commands go on.",
        "Its next commands are not read until it has taken half, nor is a lane that brings it more and that nobody else waits for.",
        "session_output_pause_makes_commands_wait_until_replies_are_taken";
    session_output_max: ByteSize = ByteSize::mib(640), Size KIB..=64 * GIB, "size",
        "Most reply bytes that wait for one client to take them, where its lane has to be read on because others wait behind it, or because a reply has to be whole (parts of a command over several shards).",
        "The session is closed, with the reason `slow_reader`.",
        "session_output_max_cuts_a_slow_reader_and_its_replies_are_swallowed";
    bulk_threshold: ByteSize = ByteSize::kib(256), Size KIB..=64 * GIB, "size",
        "Largest command that goes by a shared lane, largest reply that is kept until it is whole, and most bytes of a streamed command that wait in its lane.",
        "The command goes by a connection of its session's own, streamed where its shard is known before its end; the reply goes to its client as it comes, and its lane takes no new commands.",
        "a_huge_command_goes_in_pieces_by_a_lane_of_its_own_and_no_neighbour_waits_for_it";
    client_stall_max: Duration = Duration::from_secs(5), Time 10_000..=DAY, "time",
        "How long a client may stand still in the middle of a huge command or reply and be waited for, and how long neighbours whose commands are behind such a reply wait for a client that reads steadily.",
        "Its replies are read on, up to `session_output_max`; a hold ends its unfinished command with `-ERR not executed: …`.",
        "a_client_that_stops_in_the_middle_of_a_command_keeps_no_hold_waiting";
    transaction_bytes_max: ByteSize = ByteSize::mib(64), Size KIB..=4 * GIB, "size",
        "Most bytes of commands that one session queues behind MULTI.",
        "EXEC answers `-EXECABORT`.",
        "transaction_bytes_max_breaks_the_transaction";
    databases: u32 = 16, Whole 1..=65_536, "databases",
        "How many databases a client may SELECT; should be what the servers have.",
        "`-ERR DB index is out of range`.",
        "databases_is_how_far_select_goes";
    // Frames: what one command or reply may be.
    args_max: u32 = 1_048_576, Whole 1..=2_147_483_647, "arguments",
        "Most arguments of one command.",
        "`-ERR Protocol error: invalid multibulk length`, and the session is closed.",
        "args_max_bulk_max_and_inline_max_refuse_and_close";
    bulk_max: ByteSize = ByteSize::mib(512), Size KIB..=2 * GIB, "size",
        "Longest single argument or value.",
        "`-ERR Protocol error: invalid bulk length`, and the session is closed.",
        "args_max_bulk_max_and_inline_max_refuse_and_close";
    inline_max: ByteSize = ByteSize::kib(64), Size KIB..=GIB, "size",
        "Longest inline command.",
        "`-ERR Protocol error: too big inline request`, and the session is closed.",
        "args_max_bulk_max_and_inline_max_refuse_and_close";
    frame_max: ByteSize = ByteSize::mib(64), Size KIB..=4 * GIB - 1, "size",
        "Longest command that has to be whole in memory before it goes on: in MULTI, a script, several keys in a pool of several shards. One that is streamed is bound by `bulk_max` alone.",
        "`-ERR Protocol error: a request may have … bytes`, and the session is closed.",
        "frame_max_refuses_and_closes";
    reply_depth_max: u8 = 32, Whole 1..=128, "levels",
        "Deepest nesting of a backend's reply.",
        "The lane is closed as broken, and what was sent on it is answered with an error.",
        "reply_depth_max_closes_the_lane";
    // Lanes: connections to backends.
    lane_output_max: ByteSize = ByteSize::mib(64), Size KIB..=64 * GIB, "size",
        "Most bytes that wait to be written to one lane.",
        "Sessions with a command for it wait.",
        "lane_queue_max_makes_sessions_wait_until_it_is_written";
    lane_retain_max: ByteSize = ByteSize::mib(16), Size 0..=64 * GIB, "size",
        "Most bytes of commands that one lane keeps until they are answered, to send reads again when it dies.",
        "Older ones are let go; their reads then get an error.",
        "lane_retain_max_gives_up_what_it_can_no_longer_send_again";
    lane_idle_max: Duration = Duration::from_secs(300), Time SECOND..=DAY, "time",
        "Longest time that a lane to a database or protocol that nobody uses stays open.",
        "It is closed, and opened again when it is needed.",
        "lane_idle_max_closes_a_lane_that_nobody_uses";
    retry_max: Duration = Duration::from_secs(2), Time 0..=600 * SECOND, "time",
        "How long a command that was refused, or never sent, is tried again.",
        "The client gets the last error.",
        "retry_max_and_retry_wait_say_how_often_a_refused_command_is_tried";
    retry_wait: Duration = Duration::from_millis(25), Time 1_000..=60 * SECOND, "time",
        "Shortest wait before such a command, or a failed dial, is tried again.",
        "It doubles with each try, up to eight times this.",
        "retry_max_and_retry_wait_say_how_often_a_refused_command_is_tried";
    // The gate.
    hold_max: Duration = Duration::from_secs(2), Time 1_000..=600 * SECOND, "time",
        "Longest lease of a hold.",
        "HOLD with a longer one is given this one; at its end the shard opens at the epoch it has.",
        "hold_max_shortens_a_longer_lease";
    held_commands_max: usize = 50_000, Whole 1..=10_000_000, "commands",
        "Most commands that one hold keeps waiting: one for each session that stopped; each worker has its share.",
        "The shard opens at the epoch it has.",
        "held_sessions_max_and_held_bytes_max_open_a_held_gate_again";
    held_bytes_max: ByteSize = ByteSize::mib(64), Size KIB..=64 * GIB, "size",
        "Most bytes of commands that one hold keeps waiting; each worker has its share.",
        "The shard opens at the epoch it has; a prepared one stops reading instead.",
        "held_sessions_max_and_held_bytes_max_open_a_held_gate_again";
    prepared_max: Duration = Duration::from_secs(30), Time 1_000..=DAY, "time",
        "Longest time that a prepared shard keeps commands waiting for control.",
        "Held commands are answered `-ERR not executed: …`; the gate stays as it is.",
        "a_prepared_gate_that_waits_too_long_answers_and_never_opens";
    // Scripts that are remembered for the next server.
    scripts_max: usize = 1_000, Whole 0..=1_000_000, "scripts",
        "Most script bodies that one worker remembers of one pool.",
        "The oldest is forgotten.",
        "the_oldest_goes_at_either_limit";
    scripts_bytes_max: ByteSize = ByteSize::mib(4), Size 0..=4 * GIB, "size",
        "Most bytes of script bodies that one worker remembers of one pool.",
        "The oldest is forgotten.",
        "the_oldest_goes_at_either_limit";
    // Operators.
    admin_sessions_max: usize = 100, Whole 1..=100_000, "sessions",
        "Most connections to the admin port.",
        "One more is answered `-ERR max number of clients reached` and closed.",
        "admin_sessions_max_and_admin_frame_max_hold_on_the_admin_port";
    admin_frame_max: ByteSize = ByteSize::mib(1), Size KIB..=GIB, "size",
        "Longest command on the admin port.",
        "It is answered with a protocol error, and the connection is closed.",
        "admin_sessions_max_and_admin_frame_max_hold_on_the_admin_port";
}

impl Limits {
    /// What no single limit can see: limits that contradict each other.
    pub(crate) fn check(&self, section: &Section<'_>, problems: &mut Vec<Problem>) {
        if self.frame_max < self.bulk_threshold {
            let what = format!(
                "{} is less than bulk_threshold, {}",
                self.frame_max, self.bulk_threshold
            );
            problems.push(
                section
                    .place_of("frame_max")
                    .problem(Wrong::new(what, "what is not streamed must fit")),
            );
        }
        if self.session_output_max < self.bulk_max {
            let what = format!(
                "{} is less than bulk_max, {}",
                self.session_output_max, self.bulk_max
            );
            problems.push(section.place_of("session_output_max").problem(Wrong::new(
                what,
                "a client must be able to read the longest value",
            )));
        }
    }
}
