//! The retry matrix: what happens to a command whose reply did not come, or was a refusal.
//!
//! Rows: how far the command got. Columns: what it may do. One table, and a test for each cell. The rule behind it: a
//! write that may have been executed is never sent again, and a command that was certainly not executed is.

/// What a command may do to the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Changes nothing: may be sent twice.
    Read,
    /// Changes data, or may.
    Write,
    /// EVAL, EVALSHA, FCALL: as a write, but its refusals look different.
    Script,
}

/// How a backend says that it did not execute a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A replica refuses writes.
    ReadOnly,
    /// It reads its data from disk.
    Loading,
    /// A replica that lost its primary and does not serve stale data.
    MasterDown,
    /// EXEC on a server that became a replica: nothing of the transaction ran.
    ExecAbort,
    /// 6.2 wraps the READONLY of a script's first write: `-ERR Error running script … -READONLY …`.
    ScriptReadOnly,
    /// A blocked command on a server that became a replica.
    Unblocked,
    /// Cluster: the slot lives elsewhere.
    Moved,
    /// Cluster: the slot is moving.
    Ask,
    /// The server never saw this script.
    NoScript,
    /// Cluster: slots are not served.
    ClusterDown,
    /// Cluster: keys of one command lie on both sides of a move.
    TryAgain,
}

/// How far a command got before its lane was lost, or how it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// At least its last byte never left us, and a server executes no half command.
    No,
    /// All its bytes left us, and no reply came.
    Fully,
    /// A reply came and was a refusal.
    Refused(Refusal),
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Send it again, at once, to the shard's present backend.
    Resend,
    /// Hold it and all that the session sent behind it, and send them again in order after a while or when the gate opens.
    Replay,
    /// Send EVAL with the body in its place, if the body is known; otherwise pass the refusal on.
    Heal,
    /// Answer that the outcome is unknown.
    Unknown,
    /// Pass the reply on.
    Pass,
}

/// The matrix.
#[rustfmt::skip]
pub(super) fn remedy(sent: Sent, effect: Effect) -> Remedy {
    use Remedy::{Heal, Pass, Replay, Resend, Unknown};
    let [read, write, script] = match sent {
        //                                         read    write    script
        Sent::No                                => [Resend, Resend,  Resend],
        Sent::Fully                             => [Resend, Unknown, Unknown],
        Sent::Refused(Refusal::ReadOnly)        => [Replay, Replay,  Replay],
        Sent::Refused(Refusal::Loading)         => [Replay, Replay,  Replay],
        Sent::Refused(Refusal::MasterDown)      => [Replay, Replay,  Replay],
        Sent::Refused(Refusal::ExecAbort)       => [Pass,   Replay,  Replay],
        Sent::Refused(Refusal::ScriptReadOnly)  => [Pass,   Pass,    Replay],
        Sent::Refused(Refusal::Unblocked)       => [Replay, Replay,  Pass],
        Sent::Refused(Refusal::Moved)           => [Pass,   Pass,    Pass],
        Sent::Refused(Refusal::Ask)             => [Pass,   Pass,    Pass],
        Sent::Refused(Refusal::NoScript)        => [Pass,   Pass,    Heal],
        Sent::Refused(Refusal::ClusterDown)     => [Replay, Replay,  Replay],
        Sent::Refused(Refusal::TryAgain)        => [Replay, Replay,  Replay],
    };
    match effect {
        Effect::Read => read,
        Effect::Write => write,
        Effect::Script => script,
    }
}

/// The texts of the measured servers, whole: a script may return an error of its own that merely begins with READONLY or
/// TRYAGAIN, after it wrote, and must not run twice.
const READONLY_TEXT: &[u8] = b"READONLY You can't write against a read only replica.";
/// Behind the server's name.
const LOADING_TEXT: &[u8] = b" is loading the dataset in memory";
const MASTERDOWN_TEXT: &[u8] = b"MASTERDOWN Link with MASTER is down";
const NOSCRIPT_TEXT: &[u8] = b"NOSCRIPT No matching script.";
const CLUSTERDOWN_TEXTS: [&[u8]; 2] = [
    b"CLUSTERDOWN The cluster is down",
    b"CLUSTERDOWN Hash slot not served",
];
const TRYAGAIN_TEXT: &[u8] = b"TRYAGAIN Multiple keys request during rehashing of slot";

/// Reads an error reply, `-` included. `None`: it was executed, or it failed for a reason that sending again cannot mend.
pub(super) fn refusal(reply: &[u8]) -> Option<Refusal> {
    let text = reply.strip_prefix(b"-")?;
    match text.first()? {
        b'R' if text.starts_with(READONLY_TEXT) => Some(Refusal::ReadOnly),
        b'L' if text.starts_with(b"LOADING ") && contains(text, LOADING_TEXT) => {
            Some(Refusal::Loading)
        }
        b'M' if text.starts_with(MASTERDOWN_TEXT) => Some(Refusal::MasterDown),
        b'M' if text.starts_with(b"MOVED ") => Some(Refusal::Moved),
        b'A' if text.starts_with(b"ASK ") => Some(Refusal::Ask),
        b'N' if text.starts_with(NOSCRIPT_TEXT) => Some(Refusal::NoScript),
        b'C' if CLUSTERDOWN_TEXTS.iter().any(|it| text.starts_with(it)) => {
            Some(Refusal::ClusterDown)
        }
        b'T' if text.starts_with(TRYAGAIN_TEXT) => Some(Refusal::TryAgain),
        b'U' if text.starts_with(b"UNBLOCKED ") => Some(Refusal::Unblocked),
        b'E' if text.starts_with(b"EXECABORT ") && contains(text, READONLY_TEXT) => {
            Some(Refusal::ExecAbort)
        }
        b'E' if text.starts_with(b"ERR Error running script")
            && contains(
                text,
                b": -READONLY You can't write against a read only replica.",
            ) =>
        {
            Some(Refusal::ScriptReadOnly)
        }
        _ => None,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell of the matrix, one row each, written out a second time on purpose.
    #[test]
    fn every_cell_of_the_matrix_is_as_promised() {
        use Remedy::{Heal, Pass, Replay, Resend, Unknown};
        let rows = [
            (Sent::No, [Resend, Resend, Resend]),
            (Sent::Fully, [Resend, Unknown, Unknown]),
            (Sent::Refused(Refusal::ReadOnly), [Replay, Replay, Replay]),
            (Sent::Refused(Refusal::Loading), [Replay, Replay, Replay]),
            (Sent::Refused(Refusal::MasterDown), [Replay, Replay, Replay]),
            (Sent::Refused(Refusal::ExecAbort), [Pass, Replay, Replay]),
            (Sent::Refused(Refusal::ScriptReadOnly), [Pass, Pass, Replay]),
            (Sent::Refused(Refusal::Unblocked), [Replay, Replay, Pass]),
            (Sent::Refused(Refusal::Moved), [Pass, Pass, Pass]),
            (Sent::Refused(Refusal::Ask), [Pass, Pass, Pass]),
            (Sent::Refused(Refusal::NoScript), [Pass, Pass, Heal]),
            (
                Sent::Refused(Refusal::ClusterDown),
                [Replay, Replay, Replay],
            ),
            (Sent::Refused(Refusal::TryAgain), [Replay, Replay, Replay]),
        ];
        for (sent, expect) in rows {
            for (effect, expect) in [Effect::Read, Effect::Write, Effect::Script]
                .into_iter()
                .zip(expect)
            {
                assert_eq!(remedy(sent, effect), expect, "{sent:?} {effect:?}");
            }
        }
    }

    #[test]
    fn a_write_that_may_have_run_is_never_sent_again() {
        for effect in [Effect::Write, Effect::Script] {
            assert_eq!(remedy(Sent::Fully, effect), Remedy::Unknown);
        }
    }

    #[test]
    fn refusals_are_known_by_the_texts_of_the_measured_servers() {
        let check = |reply: &str, expect: Option<Refusal>| {
            assert_eq!(refusal(reply.as_bytes()), expect, "{reply}");
        };
        check(
            "-READONLY You can't write against a read only replica.\r\n",
            Some(Refusal::ReadOnly),
        );
        check(
            "-READONLY You can't write against a read only replica. script: 1b1c, on @user_script:1.\r\n",
            Some(Refusal::ReadOnly),
        );
        check(
            "-LOADING Redis is loading the dataset in memory\r\n",
            Some(Refusal::Loading),
        );
        check(
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
            Some(Refusal::MasterDown),
        );
        check(
            "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.\r\n",
            Some(Refusal::ExecAbort),
        );
        check(
            "-EXECABORT Transaction discarded because of previous errors.\r\n",
            None,
        );
        check(
            "-ERR Error running script (call to f_1b1c): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica. \r\n",
            Some(Refusal::ScriptReadOnly),
        );
        check(
            "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
            Some(Refusal::Unblocked),
        );
        check("-MOVED 3999 127.0.0.1:6381\r\n", Some(Refusal::Moved));
        check("-ASK 3999 127.0.0.1:6381\r\n", Some(Refusal::Ask));
        check(
            "-NOSCRIPT No matching script. Please use EVAL.\r\n",
            Some(Refusal::NoScript),
        );
        check(
            "-CLUSTERDOWN The cluster is down\r\n",
            Some(Refusal::ClusterDown),
        );
        check(
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
            Some(Refusal::TryAgain),
        );
        check(
            "-LOADING Valkey is loading the dataset in memory\r\n",
            Some(Refusal::Loading),
        );
        check("-NOSCRIPT No matching script.\r\n", Some(Refusal::NoScript));
        check(
            "-CLUSTERDOWN Hash slot not served\r\n",
            Some(Refusal::ClusterDown),
        );
        for code in [
            "READONLY",
            "LOADING",
            "MASTERDOWN",
            "NOSCRIPT",
            "CLUSTERDOWN",
            "TRYAGAIN",
        ] {
            check(&format!("-{code} said by a script that wrote\r\n"), None);
        }
        check(
            "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
            None,
        );
        check(
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            None,
        );
        check("-ERR\r\n", None);
        check("+OK\r\n", None);
        check("", None);
    }
}
