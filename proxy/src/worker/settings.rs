//! What a worker is told when it is made: who it is and where its limits are.

use std::time::Duration;

use understudy_resp::scan::ScanLimits;

/// Identity and limits of one worker. Limits that count over a proxy are already divided by the number of workers.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Number of this worker, from 0.
    pub worker: u16,
    /// How many workers the proxy has: client ids are dealt out so that no two workers give the same.
    pub workers: u16,
    /// Identity of the proxy process; changes with each start.
    pub instance: String,
    /// Version that HELLO and INFO tell clients. Default: 7.4.0, the newest whose commands every measured successor knows.
    pub announced_version: String,
    /// Seed for the random distribution and for the jitter of dialling again.
    pub seed: u64,
    /// Bounds of frames. Default: Redis' own; `frame_max` 64 MiB. A request that has to be whole in memory and is above it is
    /// refused and its session closed.
    pub scan: ScanLimits,
    /// Bytes from which on a command goes by a lane of its session's own, in pieces where that can be, and a reply that is not
    /// complete goes to its client in pieces. As much of such a command waits in its lane at most. Default: 256 KiB.
    pub bulk_threshold: usize,
    /// Most sessions. Default: 10,000. One more is refused with `-ERR max number of clients reached`.
    pub sessions_max: usize,
    /// Most commands of one session that wait for replies. Default: 4,096. At it the session is not read until replies come.
    pub session_commands_max: usize,
    /// Bytes that a session which waits may send ahead. Default: 64 KiB. At it the session is not read until it goes on.
    pub session_ahead_max: usize,
    /// Most bytes of replies that one session has not taken. Default: 640 MiB, so that the longest value fits. Above it the session is closed. Where nobody else
    /// waits for the lane that brings them, that is not read before so much has come.
    pub session_output_max: usize,
    /// How long a client may stand still in the middle of a huge command or reply and be waited for, and how long neighbours
    /// whose commands are behind such a reply wait for a client that reads steadily. Default: 5 s. Then its replies are read on,
    /// up to `session_output_max`, and a hold ends its unfinished command.
    pub client_stall_max: Duration,
    /// Unsent bytes of replies at which a session's next commands wait. Default: 1 MiB.
    pub session_output_pause: usize,
    /// Most bytes of one open MULTI. Default: 16 MiB. Above it EXEC answers -EXECABORT.
    pub transaction_bytes_max: usize,
    /// Most bytes that wait in one lane for its backend. Default: 64 MiB. At it sessions wait before they add more.
    pub lane_queue_max: usize,
    /// Most bytes of written commands that one lane keeps until they are answered, so that they can be sent again. Default: 16 MiB.
    /// Older ones are let go; if such a lane dies their reads answer an error instead of being sent again.
    pub lane_retain_max: usize,
    /// In pieces of how many bytes a lane's commands lie in memory. Default: 256 KiB.
    pub lane_piece_bytes: usize,
    /// How long a lane to an unused db or protocol stays. Default: 5 min.
    pub lane_idle_max: Duration,
    /// Most sessions that a hold may keep waiting. Default: 50,000. At it the gate opens again at the epoch it has.
    pub held_sessions_max: usize,
    /// Most bytes that a hold may keep waiting. Default: 64 MiB. At it the gate opens again at the epoch it has; a prepared gate stops reading.
    pub held_bytes_max: usize,
    /// What happens to held commands of a client that closed its sending side. Default: `Drop`.
    pub held_after_half_close: HeldAfterHalfClose,
    /// Longest time that a prepared gate keeps commands waiting. Default: 30 s. Then they answer `-ERR not executed: …`.
    pub prepared_max: Duration,
    /// Most held sessions that go on in one turn after a RELEASE. Default: 256.
    pub released_per_turn: usize,
    /// How long a command that was refused or never sent is tried again. Default: 2 s. Then the last error is passed on.
    pub retry_max: Duration,
    /// Wait before a refused command or a failed dial is tried again, doubled each time up to 8 times this. Default: 25 ms.
    pub retry_wait: Duration,
    /// Most script bodies that are remembered. Default: 1,000. The oldest goes first.
    pub scripts_max: usize,
    /// Most bytes of script bodies that are remembered. Default: 4 MiB. The oldest goes first.
    pub script_bytes_max: usize,
    /// Databases that SELECT accepts. Default: 16.
    pub databases: u32,
}

/// What to do for a client that will send no more while its next command is held at a gate.
///
/// A half-close looks like a close until something is written. A client that timed out and closed will try again on
/// another connection, and its held command must not run besides; a client that half-closed waits for the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeldAfterHalfClose {
    /// Its held commands go with it; what was admitted is still answered.
    #[default]
    Drop,
    /// They are executed when the gate opens, and answered.
    Serve,
}

impl Default for WorkerSettings {
    fn default() -> WorkerSettings {
        WorkerSettings {
            worker: 0,
            workers: 1,
            instance: String::new(),
            announced_version: "7.4.0".into(),
            seed: 0,
            scan: ScanLimits {
                frame_max: 64 << 20,
                ..ScanLimits::default()
            },
            bulk_threshold: 256 << 10,
            sessions_max: 10_000,
            session_commands_max: 4_096,
            session_ahead_max: 64 << 10,
            session_output_max: 640 << 20,
            client_stall_max: Duration::from_secs(5),
            session_output_pause: 1 << 20,
            transaction_bytes_max: 16 << 20,
            lane_queue_max: 64 << 20,
            lane_retain_max: 16 << 20,
            lane_piece_bytes: 256 << 10,
            lane_idle_max: Duration::from_secs(300),
            held_sessions_max: 50_000,
            held_bytes_max: 64 << 20,
            held_after_half_close: HeldAfterHalfClose::Drop,
            prepared_max: Duration::from_secs(30),
            released_per_turn: 256,
            retry_max: Duration::from_secs(2),
            retry_wait: Duration::from_millis(25),
            scripts_max: 1_000,
            script_bytes_max: 4 << 20,
            databases: 16,
        }
    }
}
