//! A nutcracker.yml as a `Config`: every `redis: true` pool of it, keys where twemproxy put them.
//!
//! What twemproxy refuses is a problem here too. What it does and we do not is a warning that names the setting, never silence.

mod server;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use understudy_ring::{Distribution, Hash};

use self::server::Server;
use crate::address::ListenAddress;
use crate::backend_url::BackendUrl;
use crate::limits::Limits;
use crate::model::{Admin, Config, Control, Http, Pool, Shard, User, default_workers};
use crate::node::{Entry, Node, Value};
use crate::problem::{Problem, Problems};
use crate::read::{Seen, check_listen_addresses};
use crate::scalar;
use crate::secret::Secret;
use crate::section::{Place, Section, Wrong, take_text};
use crate::settings::{Absent, Kind, Reload, SectionSpec, Setting};

const fn key(name: &'static str, kind: Kind, meaning: &'static str) -> Setting {
    Setting {
        name,
        kind,
        default: Absent::Means("twemproxy's own"),
        reload: Reload::Restart,
        meaning,
    }
}

/// Largest number that twemproxy reads.
const NUMBER_MAX: u64 = i32::MAX as u64;

const NUMBER: Kind = Kind::Whole {
    min: 0,
    max: NUMBER_MAX,
};
const SWITCH: Kind = Kind::OneOf(&["true", "false"]);

/// All keys of a pool that twemproxy 0.5.0 knows (`conf_commands` in nc_conf.c; `reuseport` came after it).
const POOL: SectionSpec = SectionSpec {
    title: "A pool of a nutcracker.yml",
    settings: &[
        key("listen", Kind::Listen, "Where clients connect."),
        key("hash", Kind::Text, "The hash function."),
        key("hash_tag", Kind::Tag, "The part of a key that is hashed."),
        key("distribution", Kind::Text, "How keys are spread."),
        key("timeout", NUMBER, "Milliseconds to wait for a server."),
        key(
            "backlog",
            NUMBER,
            "Length of the kernel's queue of new clients.",
        ),
        key("client_connections", NUMBER, "Most clients."),
        key("redis", SWITCH, "Redis rather than memcached."),
        key("tcpkeepalive", SWITCH, "Keepalive of client connections."),
        key("reuseport", SWITCH, "Several processes on one port."),
        key(
            "redis_auth",
            Kind::Text,
            "Password of clients and of servers.",
        ),
        key("redis_db", NUMBER, "Database to select."),
        key("preconnect", SWITCH, "Connect to servers at start."),
        key(
            "auto_eject_hosts",
            SWITCH,
            "Take failing servers off the ring.",
        ),
        key("server_connections", NUMBER, "Connections to each server."),
        key(
            "server_retry_timeout",
            NUMBER,
            "Milliseconds until an ejected server is tried again.",
        ),
        key(
            "server_failure_limit",
            NUMBER,
            "Failures until a server is ejected.",
        ),
        key(
            "servers",
            Kind::List(&Kind::Text),
            "The servers, as host:port:weight or /path.sock:weight, with a name behind a space.",
        ),
    ],
};

/// Whether a file is a nutcracker.yml: sections with `servers`, and no `pools`.
pub(crate) fn is_nutcracker(root: &Node) -> bool {
    let Value::Map(entries) = &root.value else {
        return false;
    };
    root.at("pools").is_none()
        && entries
            .iter()
            .any(|entry| entry.value.at("servers").is_some())
}

/// Reads the tree of a nutcracker.yml.
pub(crate) fn config(root: &Node) -> Result<Config, Problems> {
    let mut import = Import::default();
    let entries: &[Entry] = match &root.value {
        Value::Map(entries) => entries,
        Value::Nothing | Value::Text(_) | Value::List(_) => &[],
    };
    let mut seen = Seen::default();
    let mut pools = Vec::new();
    for entry in entries {
        let place = Place::default().below(&entry.key, entry.line);
        if let Some((pool, listen)) = import.pool(&entry.key, &entry.value, &place) {
            seen.check("pool", &pool.name, &place, &mut import.problems);
            pools.push((pool, listen));
        }
    }
    if pools.is_empty() && import.problems.is_empty() {
        let wrong = Wrong::new(
            "no pool of this file is for Redis",
            "give a pool redis: true",
        );
        import.problems.push(
            Place {
                path: String::new(),
                line: root.line,
            }
            .problem(wrong),
        );
    }
    let (admin, http) = (Admin::default(), Http::default());
    let ours = Place::default();
    check_listen_addresses(
        (&admin.listen, ours.clone()),
        Some((&http.listen, ours)),
        &pools,
        &mut import.problems,
    );
    import.problems.sort_by_key(|problem| problem.line);
    import.warnings.sort_by_key(|warning| warning.line);
    if !import.problems.is_empty() {
        return Err(Problems(import.problems));
    }
    Ok(Config {
        file: None,
        data_dir: PathBuf::from("./understudy-data"),
        workers: default_workers(),
        admin,
        http: Some(http),
        control: Control::default(),
        kubernetes: None,
        limits: Limits::default(),
        pools: pools.into_iter().map(|(pool, _)| pool).collect(),
        warnings: import.warnings,
    })
}

#[derive(Default)]
struct Import {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Import {
    fn pool(&mut self, name: &str, node: &Node, place: &Place) -> Option<(Pool, Place)> {
        let section = Section::open(node, place.clone(), &POOL, &mut self.problems)?;
        if self.switch(&section, "redis") != Some(true) {
            let wrong = Wrong::new(
                "a memcached pool is not served",
                "give it redis: true if its servers are Redis",
            );
            self.warnings.push(place.problem(wrong));
            return None;
        }
        let name = match scalar::name(name) {
            Ok(name) => Some(name),
            Err(wrong) => {
                self.problems.push(place.problem(wrong));
                None
            }
        };
        let listen: Option<ListenAddress> =
            section.require("listen", &mut self.problems, scalar::address);
        let mut pool = Pool::new(name?, listen?, Vec::new());
        // `slots` is ours: twemproxy has the first three.
        let distributions = &[
            Distribution::Ketama,
            Distribution::Modula,
            Distribution::Random,
        ];
        if let Some(distribution) = section.take("distribution", &mut self.problems, |text| {
            scalar::one_of(text, "distribution", distributions)
        }) {
            pool.distribution = distribution;
        }
        if let Some(hash) = section.take("hash", &mut self.problems, |text| {
            scalar::one_of(text, "hash function", &Hash::ALL)
        }) {
            pool.hash = hash;
        }
        pool.hash_tag = section.take("hash_tag", &mut self.problems, scalar::hash_tag);
        let timeout = self
            .number(&section, "timeout")
            .filter(|&timeout| timeout > 0); // 0 and absent wait for ever.
        pool.timeout = timeout.map(|timeout| Duration::from_millis(u64::from(timeout)));
        pool.sessions_max = self
            .number(&section, "client_connections")
            .and_then(|clients| NonZeroUsize::new(clients as usize));
        let password = section.take("redis_auth", &mut self.problems, |text| {
            scalar::text(text).map(Secret::new)
        });
        if let Some(password) = password {
            let user = User {
                name: "default".to_owned(),
                password,
            };
            pool.users = vec![user.clone()];
            pool.backend_users = vec![user];
        }
        let db = self.number(&section, "redis_db").unwrap_or_default();
        self.servers(&section, &mut pool, db);
        self.without_counterpart(&section, &pool);
        Some((pool, section.place_of("listen")))
    }

    fn servers(&mut self, section: &Section<'_>, pool: &mut Pool, db: u32) {
        let before = self.problems.len();
        let nodes = section.list("servers", &mut self.problems);
        if nodes.is_empty() && self.problems.len() == before {
            self.problems.push(section.missing("servers"));
        }
        let mut seen = Seen::default();
        for (node, place) in nodes {
            let server = take_text(node, &place, &mut self.problems).map(Server::parse);
            match server {
                None => {}
                Some(Err(wrong)) => self.problems.push(place.problem(wrong)),
                Some(Ok(server)) => {
                    let Server {
                        ring_name,
                        weight,
                        address,
                    } = server;
                    seen.check("server", &ring_name, &place, &mut self.problems);
                    let primary = pool.with_login(BackendUrl { db, ..address });
                    if let Some(other) = pool
                        .shards
                        .iter()
                        .find(|shard| shard.primary.same_server(&primary))
                    {
                        let what = format!("{primary} is already the server of '{}'", other.name);
                        self.warnings.push(place.problem(Wrong::new(
                            what,
                            "an upgrade moves the two only together: name both in it",
                        )));
                    }
                    pool.shards.push(Shard {
                        name: shard_name(&ring_name),
                        ring_name,
                        primary,
                        weight,
                    });
                }
            }
        }
        if pool
            .shards
            .iter()
            .try_fold(0_u32, |sum, shard| sum.checked_add(shard.weight))
            .is_none()
        {
            let wrong = Wrong::new(
                "the weights add up to more than 4294967295",
                "divide them all by the same number",
            );
            self.problems
                .push(section.place_of("servers").problem(wrong));
        }
    }

    /// Names each setting that does something in twemproxy and nothing, or something else, here.
    fn without_counterpart(&mut self, section: &Section<'_>, pool: &Pool) {
        if self.switch(section, "auto_eject_hosts") == Some(true) {
            self.warn(
                section,
                "auto_eject_hosts",
                "no server is ever ejected here",
                "its keys would be written to other servers and be stale there later; commands for a dead server get an error instead",
            );
        }
        for setting in ["server_retry_timeout", "server_failure_limit"] {
            if self.number(section, setting).is_some() {
                self.warn(
                    section,
                    setting,
                    "not used: no server is ever ejected here",
                    "a server is dialed again after 50ms to 2s",
                );
            }
        }
        if pool.sessions_max.is_some() {
            self.warn(
                section,
                "client_connections",
                "enforced here, while twemproxy reads this setting and never uses it",
                "raise it if more clients than that have been connected",
            );
        }
        if let Some(count) = self.number(section, "server_connections") {
            match count {
                0 => {
                    let wrong = Wrong::new("0 connections to a server", "write 1, or leave the setting out");
                    self.problems.push(section.place_of("server_connections").problem(wrong));
                }
                1 => {}
                _ => self.warn(
                    section,
                    "server_connections",
                    "not used: each worker has one connection to a server for commands of a kind",
                    "set workers in a file of our own for more; the order of a client's commands is kept either way",
                ),
            }
        }
        if self.number(section, "backlog").is_some() {
            self.warn(
                section,
                "backlog",
                "not used",
                "the listen queue is as long as the system allows (net.core.somaxconn)",
            );
        }
        for (setting, instead) in [
            (
                "tcpkeepalive",
                "the system's defaults hold for client connections",
            ),
            (
                "reuseport",
                "one process serves the port, with as many workers as it is given",
            ),
            (
                "preconnect",
                "servers are connected when the first command needs them",
            ),
        ] {
            if self.switch(section, setting) == Some(true) {
                self.warn(section, setting, "not used", instead);
            }
        }
    }

    fn warn(&mut self, section: &Section<'_>, setting: &str, what: &str, remedy: &str) {
        self.warnings
            .push(section.place_of(setting).problem(Wrong::new(what, remedy)));
    }

    fn number(&mut self, section: &Section<'_>, name: &str) -> Option<u32> {
        section.take(name, &mut self.problems, |text| {
            scalar::within(text, 0, NUMBER_MAX)
        })
    }

    /// twemproxy takes these two words only, not YAML's other spellings.
    fn switch(&mut self, section: &Section<'_>, name: &str) -> Option<bool> {
        section.take(name, &mut self.problems, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Wrong::new(
                format!("'{text}' is not true or false"),
                "write true or false",
            )),
        })
    }
}

/// A name that admin commands can carry: the one on the ring, less what they use themselves.
fn shard_name(ring_name: &str) -> String {
    let plain = ring_name.strip_suffix(':').unwrap_or(ring_name);
    plain.replace(
        |letter: char| letter == '=' || letter.is_whitespace() || letter.is_control(),
        "_",
    )
}

#[cfg(test)]
mod tests;
