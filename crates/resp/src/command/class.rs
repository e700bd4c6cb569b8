//! What a proxy does with a command.

/// What a proxy does with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Goes to the one shard that its keys lie on; keys on several shards are refused. PUBLISH goes where its channel hashes to.
    Forward,
    /// The proxy answers by itself.
    Local(Local),
    /// Is cut by keys, one part per shard, and the replies are joined.
    Split(Split),
    /// Goes to every shard, and the replies are joined.
    Broadcast(Broadcast),
    /// Opens, runs or drops a transaction.
    Transaction(Transaction),
    /// Scripts and functions: their key count is an argument and may be 0. With keys as `Forward`; without, only
    /// where there is one shard.
    Keyless,
    /// May block: goes to the one shard of its keys by a connection of its session's own. Inside MULTI it does not block, and
    /// goes as `Forward`. XREAD and XREADGROUP are `Forward`: they block only with BLOCK, which `is_blocking` tells.
    Block,
    /// Names no key, and any shard can answer: the first one is asked. INFO, TIME, COMMAND, FUNCTION LIST and the like.
    FirstShard,
    /// Is refused by name; the connection lives on.
    Refuse(RefuseReason),
}

/// What the proxy answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Local {
    /// PING, with or without a message.
    Ping,
    /// ECHO.
    Echo,
    /// AUTH, with or without a user.
    Auth,
    /// HELLO: protocol, AUTH, SETNAME.
    Hello,
    /// SELECT: another lane.
    Select,
    /// QUIT: `+OK`, then the connection closes.
    Quit,
    /// RESET: everything as after connecting.
    Reset,
    /// UNWATCH: `+OK`; what the session watches on its own connection is forgotten there.
    Unwatch,
    /// READONLY of cluster clients.
    ReadOnly,
    /// READWRITE of cluster clients.
    ReadWrite,
    /// CLIENT SETNAME.
    ClientSetName,
    /// CLIENT GETNAME.
    ClientGetName,
    /// CLIENT SETINFO.
    ClientSetInfo,
    /// CLIENT ID: the session's number in this proxy.
    ClientId,
    /// CLIENT INFO: the session as the proxy sees it.
    ClientInfo,
    /// CLIENT CAPA of Valkey: unknown capabilities are ignored, so `+OK`.
    ClientCapa,
}

/// How the parts of a split command become one reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// MGET: one array, in the order of the keys.
    Mget,
    /// MSET: keys and values alternate; `+OK` if all are.
    Mset,
    /// DEL, UNLINK, EXISTS, TOUCH: the sum.
    Sum,
}

/// How the replies of all shards become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broadcast {
    /// SCAN: shard after shard, the shard is part of the cursor.
    Scan,
    /// DBSIZE: the sum.
    Sum,
    /// FLUSHDB, FLUSHALL, SCRIPT FLUSH, FUNCTION DELETE, FLUSH and RESTORE: `+OK` if all say so, else the first error.
    AllOk,
    /// SCRIPT LOAD, FUNCTION LOAD: all answer the same; the first error wins.
    FirstReply,
    /// SCRIPT EXISTS: arrays of 0 and 1; 1 only where every shard says 1.
    EachMinimum,
    /// KEYS: the arrays one behind the other.
    Concat,
    /// RANDOMKEY: the first that is not null, from a shard drawn by chance on.
    AnyValue,
}

/// The commands around a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
    /// WATCH: its state lives in one connection, so its session gets one of its own.
    Watch,
}

/// Why a command is refused: what is missing, or why it has no place behind a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// WAIT and WAITAOF: they speak of the writes of one connection, and lanes are shared.
    Blocking,
    /// It subscribes, or asks who does. Needs connections for subscribers.
    PubSub,
    /// MONITOR: an endless reply.
    Monitor,
    /// CLIENT TRACKING and what belongs to it: invalidations are pushed to one connection.
    Tracking,
    /// CLIENT REPLY: a shared lane without replies would give others' replies to this client.
    ReplyMode,
    /// CLIENT LIST, KILL, PAUSE, UNBLOCK and the like speak of the clients of one server.
    Clients,
    /// Operates one server: CONFIG, ACL, SAVE, DEBUG, MODULE, SHUTDOWN, SCRIPT KILL …
    Admin,
    /// Is spoken between servers: SYNC, PSYNC, REPLCONF, REPLICAOF, FAILOVER.
    Replication,
    /// Is spoken by clients and nodes of Redis Cluster.
    Cluster,
    /// `POST` and `Host:`: an HTTP client was tricked into speaking to Redis. Servers close such connections, and so should we.
    CrossProtocol,
    /// Has no key, and no rule says which shard it belongs to.
    Unrouted,
}

impl RefuseReason {
    /// Every reason, in order of declaration.
    pub const ALL: [RefuseReason; 11] = [
        RefuseReason::Blocking,
        RefuseReason::PubSub,
        RefuseReason::Monitor,
        RefuseReason::Tracking,
        RefuseReason::ReplyMode,
        RefuseReason::Clients,
        RefuseReason::Admin,
        RefuseReason::Replication,
        RefuseReason::Cluster,
        RefuseReason::CrossProtocol,
        RefuseReason::Unrouted,
    ];

    /// One word, for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            RefuseReason::Blocking => "blocking",
            RefuseReason::PubSub => "pubsub",
            RefuseReason::Monitor => "monitor",
            RefuseReason::Tracking => "tracking",
            RefuseReason::ReplyMode => "reply_mode",
            RefuseReason::Clients => "clients",
            RefuseReason::Admin => "admin",
            RefuseReason::Replication => "replication",
            RefuseReason::Cluster => "cluster",
            RefuseReason::CrossProtocol => "cross_protocol",
            RefuseReason::Unrouted => "unrouted",
        }
    }

    /// What is missing, or why it is refused: the end of the error text.
    #[must_use]
    pub const fn missing(self) -> &'static str {
        match self {
            RefuseReason::Blocking => {
                "it speaks of the writes of one connection, and writes share theirs"
            }
            RefuseReason::PubSub => "a subscriber needs a connection of its own",
            RefuseReason::Monitor => "it needs a connection of its own",
            RefuseReason::Tracking => "client-side caching needs a connection of its own",
            RefuseReason::ReplyMode => "replies of a shared connection cannot be switched off",
            RefuseReason::Clients => "it speaks of the clients of one server, ask that server",
            RefuseReason::Admin => "it operates one server, send it to that server",
            RefuseReason::Replication => "it is spoken between servers",
            RefuseReason::Cluster => "this pool is no Redis Cluster",
            RefuseReason::CrossProtocol => "this is no HTTP server",
            RefuseReason::Unrouted => "it names no key that says which shard it belongs to",
        }
    }

    /// The error reply, without `-` and line end: `ERR understudy does not carry 'blpop' yet: …`.
    #[must_use]
    pub fn error_text(self, command: &str) -> String {
        let yet = match self {
            RefuseReason::Blocking
            | RefuseReason::PubSub
            | RefuseReason::Monitor
            | RefuseReason::Tracking => " yet",
            RefuseReason::ReplyMode
            | RefuseReason::Clients
            | RefuseReason::Admin
            | RefuseReason::Replication
            | RefuseReason::Cluster
            | RefuseReason::CrossProtocol
            | RefuseReason::Unrouted => "",
        };
        format!(
            "ERR understudy does not carry '{command}'{yet}: {}",
            self.missing()
        )
    }
}
