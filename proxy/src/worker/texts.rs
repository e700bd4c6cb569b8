//! Error replies that the worker itself makes, whole. None names an address.

/// A write was sent, and its reply never came.
pub(super) const OUTCOME_UNKNOWN: &[u8] =
    b"-ERR outcome unknown: the connection to the backend was lost after the command was sent\r\n";
/// Not sent, because a command of the same client before it may yet be executed.
pub(super) const NOT_EXECUTED_BEHIND: &[u8] =
    b"-ERR not executed: the outcome of a command before it is unknown\r\n";
/// A prepared gate waited too long.
pub(super) const NOT_EXECUTED_HELD: &[u8] = b"-ERR not executed: this shard is being moved to another server and that takes too long; try again\r\n";
/// A huge command whose client stopped in the middle of it, when a hold came.
pub(super) const NOT_EXECUTED_STALLED: &[u8] = b"-ERR not executed: this shard is being moved to another server, and the command was not sent to its end\r\n";
/// A reload took the shard away.
pub(super) const NOT_EXECUTED_REMOVED: &[u8] =
    b"-ERR not executed: this shard is no longer configured\r\n";
/// Keys on several shards.
pub(super) const CROSSSLOT: &[u8] =
    b"-CROSSSLOT Keys in request don't hash to the same shard; a hash tag keeps keys together\r\n";
/// Log in first.
pub(super) const NOAUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";
/// Wrong user or password.
pub(super) const WRONGPASS: &[u8] =
    b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
/// SELECT or HELLO while keys are watched, without `-` and line end.
pub(super) const CHANGE_WHILE_WATCHING: &str =
    "ERR understudy does not carry another database or protocol between WATCH and EXEC";
/// A transaction with an error in its queue.
pub(super) const EXECABORT: &[u8] =
    b"-EXECABORT Transaction discarded because of previous errors.\r\n";
/// EXEC with arguments.
pub(super) const EXEC_ARITY: &[u8] = b"-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n";

/// [`CROSSSLOT`] without `-` and line end.
pub(super) fn crossslot() -> String {
    String::from_utf8_lossy(CROSSSLOT.get(1..CROSSSLOT.len() - 2).unwrap_or_default()).into_owned()
}
