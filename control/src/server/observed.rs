//! What a server is at one instant: one INFO, read once into values. Pure.
//!
//! Everything here comes from a single reply, so that role, history and offset belong together; an offset that is read
//! apart from its replid proves nothing (hazard 8).

use std::collections::BTreeMap;
use std::fmt;

use understudy_resp::command::Product;

use super::info::{Info, parts};

/// A version as the server states it. Valkey's own number, not the Redis version that it claims to be compatible with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl ServerVersion {
    fn parse(text: &str) -> ServerVersion {
        let mut numbers = text.split('.').map(|number| {
            let digits = number
                .find(|c: char| !c.is_ascii_digit())
                .map_or(number, |end| &number[..end]);
            digits.parse().unwrap_or(0)
        });
        let mut next = || numbers.next().unwrap_or(0);
        ServerVersion {
            major: next(),
            minor: next(),
            patch: next(),
        }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A server at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Redis or Valkey.
    pub product: Product,
    /// Its version.
    pub version: ServerVersion,
    /// Changes when the process restarts.
    pub run_id: String,
    /// The file that CONFIG REWRITE would write; empty without one.
    pub config_file: String,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Reading its data from disk; it answers little else than INFO.
    pub loading: bool,
    /// Runs in cluster mode.
    pub cluster_enabled: bool,
    /// Primary or replica, with what belongs to it.
    pub role: Role,
    /// Names the history that `offset` counts.
    pub replid: String,
    /// The history before that, valid up to `second_offset`.
    pub replid2: String,
    /// Where the older history ended; -1 without one.
    pub second_offset: i64,
    /// `master_repl_offset`: bytes of the history so far. A replica's proof of progress is `Role::Replica::applied_offset`.
    pub offset: u64,
    /// What it could resend.
    pub backlog: Backlog,
    /// Full resyncs that it gave since it started.
    pub sync_full: u64,
    /// Partial resyncs that it gave since it started.
    pub sync_partial_ok: u64,
    /// Replicated commands that it could not execute; 6.2 counts them too.
    pub unexpected_error_replies: u64,
    /// Bytes of memory in use.
    pub used_memory: u64,
    /// Most bytes of memory; 0: no limit.
    pub maxmemory: u64,
    /// What happens at that limit.
    pub maxmemory_policy: String,
    /// Keeps an append-only file.
    pub aof_enabled: bool,
    /// The append-only file is being written anew, or is about to be. Until it is done, what a full copy brought is in no file.
    pub aof_rewriting: bool,
    /// An RDB file is being written.
    pub bgsave_in_progress: bool,
    /// The last RDB file was written; also before the first one.
    pub last_bgsave_ok: bool,
    /// Microseconds that the last fork took.
    pub latest_fork_us: u64,
    /// Forks since it started.
    pub total_forks: u64,
    /// Keys per database; databases without keys are left out.
    pub keys: BTreeMap<u32, u64>,
    /// Keys with a time to live, per database.
    pub expires: BTreeMap<u32, u64>,
    /// Clients that are connected.
    pub connected_clients: u64,
    /// Names of loaded modules.
    pub modules: Vec<String>,
}

/// Primary or replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Takes writes.
    Primary {
        /// Who follows it.
        replicas: Vec<ReplicaLine>,
    },
    /// Follows a primary.
    Replica {
        /// The host it was told to follow.
        primary_host: String,
        /// Its port.
        primary_port: u16,
        /// The link is up.
        link_up: bool,
        /// A full copy is being taken.
        sync_in_progress: bool,
        /// `slave_repl_offset`: bytes of the history that were executed here. Never the offset of what was merely read.
        applied_offset: u64,
        /// What Sentinel goes by; 0: never promote.
        priority: u32,
        /// Refuses clients' writes.
        read_only: bool,
    },
}

impl Role {
    /// As ROLE names it.
    pub fn name(&self) -> &'static str {
        match self {
            Role::Primary { .. } => "primary",
            Role::Replica { .. } => "replica",
        }
    }
}

/// A replica, as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaLine {
    /// The address it connects from, or announces.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// `online` when it follows.
    pub state: String,
    /// The offset it last acknowledged.
    pub offset: u64,
    /// Seconds since it acknowledged something.
    pub lag_s: i64,
}

/// The part of the history that can be resent, so that a replica that was away needs no full copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// There is one.
    pub active: bool,
    /// Its size in bytes.
    pub size: u64,
    /// The offset of its first byte.
    pub first_byte: u64,
    /// How many bytes it holds now.
    pub histlen: u64,
}

impl Observed {
    /// Reads INFO. `None` where the text is no server's: no run id, no replid.
    pub fn from_info(info: &Info) -> Option<Observed> {
        let owned = |name: &str| info.text(name).unwrap_or_default().to_owned();
        let (product, version) = match info.text("valkey_version") {
            Some(version) => (Product::Valkey, version),
            None => (Product::Redis, info.text("redis_version")?),
        };
        let keyspace = |part: &str| -> BTreeMap<u32, u64> {
            let counts = info.numbered("db").into_iter();
            counts
                .filter_map(|(db, text)| Some((db, parts(text).get(part)?.parse().ok()?)))
                .collect()
        };
        Some(Observed {
            product,
            version: ServerVersion::parse(version),
            run_id: info.text("run_id")?.to_owned(),
            config_file: owned("config_file"),
            uptime_s: info.number("uptime_in_seconds"),
            loading: info.flag("loading"),
            cluster_enabled: info.flag("cluster_enabled"),
            role: role(info)?,
            replid: info.text("master_replid")?.to_owned(),
            replid2: owned("master_replid2"),
            second_offset: info
                .text("second_repl_offset")
                .and_then(|text| text.parse().ok())
                .unwrap_or(-1),
            offset: info.number("master_repl_offset"),
            backlog: Backlog {
                active: info.flag("repl_backlog_active"),
                size: info.number("repl_backlog_size"),
                first_byte: info.number("repl_backlog_first_byte_offset"),
                histlen: info.number("repl_backlog_histlen"),
            },
            sync_full: info.number("sync_full"),
            sync_partial_ok: info.number("sync_partial_ok"),
            unexpected_error_replies: info.number("unexpected_error_replies"),
            used_memory: info.number("used_memory"),
            maxmemory: info.number("maxmemory"),
            maxmemory_policy: owned("maxmemory_policy"),
            aof_enabled: info.flag("aof_enabled"),
            aof_rewriting: info.flag("aof_rewrite_in_progress")
                || info.flag("aof_rewrite_scheduled"),
            bgsave_in_progress: info.flag("rdb_bgsave_in_progress"),
            last_bgsave_ok: info.text("rdb_last_bgsave_status") == Some("ok"),
            latest_fork_us: info.number("latest_fork_usec"),
            total_forks: info.number("total_forks"),
            keys: keyspace("keys"),
            expires: keyspace("expires"),
            connected_clients: info.number("connected_clients"),
            modules: info.modules().to_vec(),
        })
    }

    /// True for a primary.
    pub fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary { .. })
    }

    /// The offset that a replica has executed up to; a primary's own offset.
    pub fn applied_offset(&self) -> u64 {
        match &self.role {
            Role::Primary { .. } => self.offset,
            Role::Replica { applied_offset, .. } => *applied_offset,
        }
    }

    /// True when a replica's link is up and it takes no full copy.
    pub fn follows(&self) -> bool {
        matches!(
            self.role,
            Role::Replica {
                link_up: true,
                sync_in_progress: false,
                ..
            }
        )
    }

    /// Keys of all databases.
    pub fn keys_total(&self) -> u64 {
        self.keys.values().sum()
    }
}

fn role(info: &Info) -> Option<Role> {
    match info.text("role")? {
        "master" => {
            let lines = info.numbered("slave").into_iter();
            Some(Role::Primary {
                replicas: lines.filter_map(|(_, text)| replica_line(text)).collect(),
            })
        }
        "slave" => Some(Role::Replica {
            primary_host: info.text("master_host").unwrap_or_default().to_owned(),
            primary_port: info.number("master_port"),
            link_up: info.text("master_link_status") == Some("up"),
            sync_in_progress: info.flag("master_sync_in_progress"),
            applied_offset: info.number("slave_repl_offset"),
            priority: info.number("slave_priority"),
            read_only: info.flag("slave_read_only"),
        }),
        _ => None,
    }
}

fn replica_line(text: &str) -> Option<ReplicaLine> {
    let parts = parts(text);
    Some(ReplicaLine {
        host: (*parts.get("ip")?).to_owned(),
        port: parts.get("port")?.parse().ok()?,
        state: (*parts.get("state")?).to_owned(),
        offset: parts
            .get("offset")
            .and_then(|offset| offset.parse().ok())
            .unwrap_or(0),
        lag_s: parts
            .get("lag")
            .and_then(|lag| lag.parse().ok())
            .unwrap_or(-1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &str = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.8\r\nrun_id:abc\r\nconfig_file:\r\n\
        # Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        slave1:ip=10.0.0.3,port=6381,state=wait_bgsave,offset=0,lag=0,type=replica\r\n\
        slave0:ip=::1,port=6380,state=online,offset=98,lag=1\r\n\
        master_replid:aaa\r\nmaster_replid2:bbb\r\nmaster_repl_offset:112\r\nsecond_repl_offset:99\r\n\
        repl_backlog_active:1\r\nrepl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:15\r\nrepl_backlog_histlen:98\r\n\
        # Modules\r\nmodule:name=ReJSON,ver=20608,api=1,filters=0\r\n\
        # Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb12:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\ndb0_distrib_strings_sizes:1=1\r\n";

    #[test]
    fn a_primary_is_read_with_its_replicas_in_order() {
        let seen = Observed::from_info(&Info::parse(PRIMARY)).unwrap();
        assert_eq!(
            (seen.product, seen.version.to_string().as_str()),
            (Product::Valkey, "8.1.8")
        );
        let Role::Primary { replicas } = &seen.role else {
            panic!("{:?}", seen.role)
        };
        assert_eq!(replicas[0].host, "::1");
        assert_eq!((replicas[0].offset, replicas[0].lag_s), (98, 1));
        assert_eq!(replicas[1].state, "wait_bgsave");
        assert_eq!(
            (seen.offset, seen.second_offset, seen.applied_offset()),
            (112, 99, 112)
        );
        assert_eq!(
            seen.backlog,
            Backlog {
                active: true,
                size: 1_048_576,
                first_byte: 15,
                histlen: 98
            }
        );
        assert_eq!(seen.keys, BTreeMap::from([(0, 3), (12, 1)]));
        assert_eq!(seen.modules, ["ReJSON"]);
    }

    #[test]
    fn a_replicas_progress_is_what_it_executed() {
        let text = "redis_version:6.2.14\r\nrun_id:abc\r\nrole:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:6379\r\n\
            master_link_status:up\r\nslave_read_repl_offset:500\r\nslave_repl_offset:400\r\nslave_priority:100\r\n\
            slave_read_only:1\r\nmaster_replid:aaa\r\nmaster_repl_offset:400\r\n";
        let seen = Observed::from_info(&Info::parse(text)).unwrap();
        assert_eq!(seen.applied_offset(), 400);
        assert!(seen.follows() && !seen.is_primary());
        assert_eq!(seen.second_offset, -1);
    }

    #[test]
    fn a_text_that_is_no_servers_gives_nothing() {
        assert_eq!(Observed::from_info(&Info::parse("role:master\r\n")), None);
        assert_eq!(Observed::from_info(&Info::parse("")), None);
    }
}
