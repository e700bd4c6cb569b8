//! Every setting there is, as data. Unknown keys are refused by it, hints are taken from it, and config/schema.json and
//! docs/config.md are written from it.

use crate::kubernetes::KUBERNETES;
use crate::limits;
use crate::nearest::nearest;

/// A map of the file.
#[derive(Debug)]
pub(crate) struct SectionSpec {
    /// What the section is, for its heading.
    pub(crate) title: &'static str,
    pub(crate) settings: &'static [Setting],
}

/// One key of a section.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Absent,
    pub(crate) reload: Reload,
    pub(crate) meaning: &'static str,
}

/// What may stand behind a key.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A name that commands, metrics and the journal use.
    Name,
    /// A file or folder.
    Path,
    /// `host:port` or `/path.sock [mode]`.
    Listen,
    /// `host:port`.
    HostPort,
    /// `redis://…`, `rediss://…` or `unix://…`.
    Server,
    /// Two characters.
    Tag,
    Whole {
        min: u64,
        max: u64,
    },
    /// In bytes.
    Size {
        min: u64,
        max: u64,
    },
    /// In microseconds.
    Time {
        min: u64,
        max: u64,
    },
    OneOf(&'static [&'static str]),
    Section(&'static SectionSpec),
    /// A section, or the word `off`.
    SectionOrOff(&'static SectionSpec),
    List(&'static Self),
    /// Names of the operator's choice, each with such a value.
    Map(&'static Self),
}

/// What holds when a key is absent.
#[derive(Debug)]
pub(crate) enum Absent {
    Refused,
    /// In words.
    Means(&'static str),
    /// As it would be written.
    Is(&'static str),
    /// The default of a limit.
    Limit(fn() -> String),
}

/// When a changed value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// With the reload, for what begins after it.
    Live,
    /// Only after a restart of the process.
    Restart,
    /// As the setting that the section belongs to.
    AsUsed,
    /// Only after a restart, and keys are then looked for on other shards: data must be moved first.
    MovesKeys,
}

impl Reload {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::AsUsed => "as its list",
            Self::MovesKeys => "restart, moves keys",
        }
    }
}

impl SectionSpec {
    pub(crate) fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// All names, for a sentence.
    pub(crate) fn names(&self) -> String {
        self.settings
            .iter()
            .map(|setting| setting.name)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// What to write instead of an unknown name.
    pub(crate) fn hint(&self, typed: &str) -> String {
        match nearest(typed, self.settings.iter().map(|setting| setting.name)) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("known here: {}", self.names()),
        }
    }
}

/// Shorthand of the tables below.
pub(crate) const fn setting(
    name: &'static str,
    kind: Kind,
    default: Absent,
    reload: Reload,
    meaning: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        default,
        reload,
        meaning,
    }
}

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

pub(crate) const ROOT: SectionSpec = SectionSpec {
    title: "The file",
    settings: &[
        setting(
            "data_dir",
            Kind::Path,
            Absent::Is("./understudy-data"),
            Reload::Restart,
            "Folder of routes, journal and local snapshots; relative to where the process was started.",
        ),
        setting(
            "workers",
            Kind::Whole { min: 1, max: 1_024 },
            Absent::Means("half the cores, at least 1"),
            Reload::Restart,
            "Threads of the data plane. Each has backend connections of its own, so more of them batch less.",
        ),
        setting(
            "admin",
            Kind::Section(&ADMIN),
            Absent::Means("its defaults"),
            Reload::Restart,
            "The port for operators (RESP: any Redis client).",
        ),
        setting(
            "http",
            Kind::SectionOrOff(&HTTP),
            Absent::Means("its defaults"),
            Reload::Restart,
            "The port for `/metrics`, `/healthz` and `/readyz`, or `off`.",
        ),
        setting(
            "control",
            Kind::Section(&CONTROL),
            Absent::Means("its defaults"),
            Reload::Restart,
            "What the side that upgrades needs to know.",
        ),
        setting(
            "kubernetes",
            Kind::Section(&KUBERNETES),
            Absent::Means("no cluster: only local snapshots"),
            Reload::Restart,
            "The cluster whose backup systems take snapshots of the servers' volumes.",
        ),
        setting(
            "limits",
            Kind::Section(&limits::SPEC),
            Absent::Means("their defaults"),
            Reload::Restart,
            "What everything is bounded by; see [limits.md](limits.md).",
        ),
        setting(
            "pools",
            Kind::List(&Kind::Section(&POOL)),
            Absent::Refused,
            Reload::Live,
            "The pools that clients connect to. A reload adds new ones; one that is gone stays until a restart.",
        ),
    ],
};

pub(crate) const ADMIN: SectionSpec = SectionSpec {
    title: "`admin`",
    settings: &[
        setting(
            "listen",
            Kind::Listen,
            Absent::Is("127.0.0.1:7380"),
            Reload::Restart,
            "Where it listens.",
        ),
        setting(
            "users",
            Kind::List(&Kind::Section(&USER)),
            Absent::Means("nobody needs to log in"),
            Reload::Restart,
            "Who may log in. Whoever can reach the port may upgrade, so give it users when it listens beyond this machine.",
        ),
        setting(
            "tls",
            Kind::Section(&TLS),
            Absent::Means("no TLS"),
            Reload::Restart,
            "Certificate and key, when operators connect by TLS.",
        ),
    ],
};

pub(crate) const HTTP: SectionSpec = SectionSpec {
    title: "`http`",
    settings: &[setting(
        "listen",
        Kind::Listen,
        Absent::Is("127.0.0.1:7381"),
        Reload::Restart,
        "Where it listens.",
    )],
};

pub(crate) const CONTROL: SectionSpec = SectionSpec {
    title: "`control`",
    settings: &[
        setting(
            "proxies",
            Kind::List(&Kind::Server),
            Absent::Means("the proxy in this process"),
            Reload::Restart,
            "Admin ports of the proxies to drive, beside those that register.",
        ),
        setting(
            "login",
            Kind::Section(&USER),
            Absent::Means("no login"),
            Reload::Restart,
            "User and password for these admin ports and those of registered proxies, where an address has no password of its own.",
        ),
        setting(
            "address",
            Kind::Server,
            Absent::Means("control runs in this process"),
            Reload::Restart,
            "Admin port of control, with which `understudy proxy` and `sidecar` register: docs/gate.md. rediss:// where it is on another machine.",
        ),
        setting(
            "announce",
            Kind::HostPort,
            Absent::Means("where `admin` listens"),
            Reload::Restart,
            "Where control dials the admin port of this proxy.",
        ),
        setting(
            "guard",
            Kind::Section(&GUARD),
            Absent::Means("its defaults"),
            Reload::Restart,
            "Where the guard waits for an old server that is to follow the new one.",
        ),
        setting(
            "proxy_tls",
            Kind::Section(&PROXY_TLS),
            Absent::Means("the system's authorities, for rediss://"),
            Reload::Restart,
            "What admin ports of proxies must show, and the one of control where `address` is rediss://. With it all proxies are dialed by TLS; without TLS only those of this machine are.",
        ),
        setting(
            "snapshots",
            Kind::OneOf(&["here", "agents"]),
            Absent::Is("here"),
            Reload::Restart,
            "Who takes snapshots of volumes. here: this process, as `kubernetes` says. agents: the proxies that run as sidecars, over their admin ports.",
        ),
        setting(
            "proxy_lease",
            Kind::Time {
                min: SECOND,
                max: DAY,
            },
            Absent::Is("10s"),
            Reload::Restart,
            "How long a registered proxy may stay silent. One that is silent for longer aborts an attempt, and serves nobody while one is under way.",
        ),
        setting(
            "snapshot_age_max",
            Kind::Time {
                min: SECOND,
                max: 30 * DAY,
            },
            Absent::Is("1h"),
            Reload::Restart,
            "Oldest snapshot that still guards a cutover. An older one is taken again first.",
        ),
        setting(
            "snapshots_kept",
            Kind::Whole { min: 1, max: 1_000 },
            Absent::Is("3"),
            Reload::Restart,
            "How many local snapshots of a shard stay when its upgrade has ended: the newest that are whole. Older ones are removed.",
        ),
        setting(
            "snapshot_check_every",
            Kind::Time {
                min: SECOND,
                max: DAY,
            },
            Absent::Is("1min"),
            Reload::Restart,
            "How often a soak looks whether the snapshot from before the cutover is still good. Rests 20 times what the last look took, where that is longer.",
        ),
    ],
};

pub(crate) const PROXY_TLS: SectionSpec = SectionSpec {
    title: "`control.proxy_tls`",
    settings: &[
        setting(
            "ca",
            Kind::Path,
            Absent::Refused,
            Reload::Restart,
            "PEM certificates of the authorities that the proxies' certificates, and control's, must come from; relative to this file.",
        ),
        setting(
            "server_name",
            Kind::Text,
            Absent::Means("the host of the address"),
            Reload::Restart,
            "The name that a proxy's certificate must have.",
        ),
    ],
};

pub(crate) const GUARD: SectionSpec = SectionSpec {
    title: "`control.guard`",
    settings: &[
        setting(
            "listen",
            Kind::HostPort,
            Absent::Is("127.0.0.1:0"),
            Reload::Restart,
            "What it binds; port 0 means any free one. Servers on other machines must reach it.",
        ),
        setting(
            "announce",
            Kind::Text,
            Absent::Means("the listening host"),
            Reload::Restart,
            "Host name or IP address by which servers reach it.",
        ),
        setting(
            "tls",
            Kind::Section(&TLS),
            Absent::Means("no TLS"),
            Reload::Restart,
            "Certificate and key, where servers have `tls-replication yes`; then all of them need it. What signed the certificate must be in the `tls-ca-cert-file` of every server; its name does not matter to them.",
        ),
    ],
};

pub(crate) const POOL: SectionSpec = SectionSpec {
    title: "A pool",
    settings: &[
        setting(
            "name",
            Kind::Name,
            Absent::Refused,
            Reload::Restart,
            "The pool's name in commands, metrics and the journal.",
        ),
        setting(
            "listen",
            Kind::Listen,
            Absent::Refused,
            Reload::Restart,
            "Where clients connect, as host:port or /path.sock with a file mode behind it if need be.",
        ),
        setting(
            "distribution",
            Kind::OneOf(&["ketama", "modula", "random", "slots"]),
            Absent::Is("ketama"),
            Reload::MovesKeys,
            "How keys are spread over the shards. Not needed with one shard.",
        ),
        setting(
            "hash",
            Kind::OneOf(&[
                "one_at_a_time",
                "md5",
                "crc16",
                "crc32",
                "crc32a",
                "fnv1_64",
                "fnv1a_64",
                "fnv1_32",
                "fnv1a_32",
                "hsieh",
                "murmur",
                "jenkins",
            ]),
            Absent::Is("fnv1a_64"),
            Reload::MovesKeys,
            "What a key is hashed with: twemproxy's functions as they run on x86-64, bit for bit.",
        ),
        setting(
            "hash_tag",
            Kind::Tag,
            Absent::Means("the whole key is hashed"),
            Reload::MovesKeys,
            "Two characters, such as `\"{}\"`: only what stands between them is hashed.",
        ),
        setting(
            "shards",
            Kind::List(&Kind::Section(&SHARD)),
            Absent::Refused,
            Reload::MovesKeys,
            "The pool's shards. Their order does not matter.",
        ),
        setting(
            "users",
            Kind::List(&Kind::Section(&USER)),
            Absent::Means("nobody needs to log in"),
            Reload::Live,
            "Who may log in as a client.",
        ),
        setting(
            "backend_users",
            Kind::List(&Kind::Section(&USER)),
            Absent::Means("addresses bring their own"),
            Reload::Live,
            "Logins of servers, by user name, for addresses without a password: `default` for those without a user. An upgrade's target takes its login from here too.",
        ),
        setting(
            "tls",
            Kind::Section(&TLS),
            Absent::Means("no TLS"),
            Reload::Restart,
            "Certificate and key, when clients connect by TLS.",
        ),
        setting(
            "backend_tls",
            Kind::Section(&BACKEND_TLS),
            Absent::Means("no rediss:// server"),
            Reload::Live,
            "What servers reached by `rediss://` must show.",
        ),
        setting(
            "timeout",
            Kind::Time {
                min: 1_000,
                max: DAY,
            },
            Absent::Means("as long as the server lives"),
            Reload::Live,
            "Longest wait for a server's reply. At its end the lane is closed, and what was sent on it is answered with an error.",
        ),
        setting(
            "connect_timeout",
            Kind::Time {
                min: 1_000,
                max: 600 * SECOND,
            },
            Absent::Is("1s"),
            Reload::Live,
            "Longest wait for a connection to a server, login included.",
        ),
        setting(
            "sessions_max",
            Kind::Whole {
                min: 1,
                max: 1_000_000,
            },
            Absent::Means("only `limits.sessions_max` counts"),
            Reload::Live,
            "Most client sessions of this pool. One more is answered `-ERR max number of clients reached` and closed.",
        ),
    ],
};

pub(crate) const SHARD: SectionSpec = SectionSpec {
    title: "A shard",
    settings: &[
        setting(
            "name",
            Kind::Name,
            Absent::Refused,
            Reload::MovesKeys,
            "The shard's name in commands, metrics and the journal, and its identity on the ring: keys follow the name, not the address.",
        ),
        setting(
            "primary",
            Kind::Server,
            Absent::Refused,
            Reload::Restart,
            "The server that takes its writes, as redis://host:port. Once an upgrade has moved the shard, `data_dir` overrules this line; a reload never moves one.",
        ),
        setting(
            "weight",
            Kind::Whole {
                min: 1,
                max: 1_000_000,
            },
            Absent::Is("1"),
            Reload::MovesKeys,
            "Its share of the keys relative to the other shards (ketama and modula).",
        ),
        setting(
            "ring_name",
            Kind::Text,
            Absent::Means("the name"),
            Reload::MovesKeys,
            "Its identity on the ring, where that must differ from the name: a server without a name in a nutcracker.yml stands there as host:port, or as host alone with port 11211.",
        ),
    ],
};

pub(crate) const USER: SectionSpec = SectionSpec {
    title: "A user",
    settings: &[
        setting(
            "name",
            Kind::Name,
            Absent::Is("default"),
            Reload::AsUsed,
            "The user's name; `default` is who logs in with a password alone.",
        ),
        setting(
            "password",
            Kind::Text,
            Absent::Means("one of the three is needed"),
            Reload::AsUsed,
            "The password itself. Prefer one of the next two.",
        ),
        setting(
            "password_file",
            Kind::Path,
            Absent::Means("one of the three is needed"),
            Reload::AsUsed,
            "A file whose first line is the password; relative to this file.",
        ),
        setting(
            "password_env",
            Kind::Text,
            Absent::Means("one of the three is needed"),
            Reload::AsUsed,
            "An environment variable that holds the password.",
        ),
    ],
};

pub(crate) const TLS: SectionSpec = SectionSpec {
    title: "`tls`",
    settings: &[
        setting(
            "certificate",
            Kind::Path,
            Absent::Refused,
            Reload::Restart,
            "PEM certificate chain; relative to this file.",
        ),
        setting(
            "key",
            Kind::Path,
            Absent::Refused,
            Reload::Restart,
            "PEM private key; relative to this file.",
        ),
        setting(
            "client_ca",
            Kind::Path,
            Absent::Means("clients need no certificate"),
            Reload::Restart,
            "PEM certificates of the authorities that client certificates must come from; relative to this file.",
        ),
    ],
};

pub(crate) const BACKEND_TLS: SectionSpec = SectionSpec {
    title: "`backend_tls`",
    settings: &[
        setting(
            "ca",
            Kind::Path,
            Absent::Refused,
            Reload::Live,
            "PEM certificates of the authorities that servers are checked against; relative to this file.",
        ),
        setting(
            "certificate",
            Kind::Path,
            Absent::Means("none is shown"),
            Reload::Live,
            "PEM certificate chain to show to servers; relative to this file.",
        ),
        setting(
            "key",
            Kind::Path,
            Absent::Means("none is shown"),
            Reload::Live,
            "PEM private key of that certificate; relative to this file.",
        ),
        setting(
            "server_name",
            Kind::Text,
            Absent::Means("the host of the address"),
            Reload::Live,
            "The name that a server's certificate must have.",
        ),
    ],
};
