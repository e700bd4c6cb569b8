//! One row of the command table: its types, and the const builders that the generated table is written with.

use super::class::Class;
use super::policy;
use super::server::Since;

/// One command, or one subcommand of a container such as CLIENT.
#[derive(Debug, Clone, Copy)]
pub struct CommandSpec {
    /// Lower case. A subcommand carries its container's name: `client|setname`.
    pub name: &'static str,
    /// How many arguments, name (and subcommand) included; negative: at least so many. Where versions differ, the newest counts.
    pub arity: i32,
    /// What the servers say of it.
    pub flags: Flags,
    /// Where its keys are; several specs for several groups of keys.
    pub keys: &'static [KeySpec],
    /// What a proxy does with it.
    pub class: Class,
    /// Which of the measured servers know it.
    pub since: Since,
    /// Its option words that not every one of those servers knows.
    pub options: &'static [OptionSince],
    /// Not empty for a container.
    pub subcommands: &'static [CommandSpec],
    /// The one place of its one key; 0: it has none, or several, or they move.
    single_key: u8,
}

impl CommandSpec {
    /// The word that a client sends for it: the part behind `|` of a subcommand's name.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.name
            .split_once('|')
            .map_or(self.name, |(_, word)| word)
    }

    /// The argument index of the one key, if the command always has exactly one, at the same place.
    #[inline]
    #[must_use]
    pub const fn single_key(&self) -> Option<usize> {
        match self.single_key {
            0 => None,
            index => Some(index as usize),
        }
    }

    /// True if a command of `count` arguments has neither too few nor too many.
    #[inline]
    #[must_use]
    pub fn accepts(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            count >= least
        } else {
            count == least
        }
    }
}

/// Flags of a command, as COMMAND names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(pub(super) u32);

impl Flags {
    /// May change data.
    pub const WRITE: Flags = Flags(bit::WRITE);
    /// Reads keys and changes none.
    pub const READONLY: Flags = Flags(bit::READONLY);
    /// Refused when memory is full.
    pub const DENYOOM: Flags = Flags(bit::DENYOOM);
    /// Administrative.
    pub const ADMIN: Flags = Flags(bit::ADMIN);
    /// Publish and subscribe.
    pub const PUBSUB: Flags = Flags(bit::PUBSUB);
    /// Not allowed in scripts.
    pub const NOSCRIPT: Flags = Flags(bit::NOSCRIPT);
    /// May block the client.
    pub const BLOCKING: Flags = Flags(bit::BLOCKING);
    /// Allowed while the data set is loading.
    pub const LOADING: Flags = Flags(bit::LOADING);
    /// Allowed on a replica whose data is stale.
    pub const STALE: Flags = Flags(bit::STALE);
    /// Not shown by MONITOR.
    pub const SKIP_MONITOR: Flags = Flags(bit::SKIP_MONITOR);
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: Flags = Flags(bit::SKIP_SLOWLOG);
    /// For a cluster's slots in migration.
    pub const ASKING: Flags = Flags(bit::ASKING);
    /// Constant or logarithmic time.
    pub const FAST: Flags = Flags(bit::FAST);
    /// Allowed before AUTH.
    pub const NO_AUTH: Flags = Flags(bit::NO_AUTH);
    /// May write to the replication stream without being a write: PUBLISH, EVAL, PFCOUNT.
    pub const MAY_REPLICATE: Flags = Flags(bit::MAY_REPLICATE);
    /// Its count of keys may be 0.
    pub const NO_MANDATORY_KEYS: Flags = Flags(bit::NO_MANDATORY_KEYS);
    /// First, last and step do not tell where its keys are.
    pub const MOVABLEKEYS: Flags = Flags(bit::MOVABLEKEYS);
    /// Allowed while a script runs too long.
    pub const ALLOW_BUSY: Flags = Flags(bit::ALLOW_BUSY);
    /// Not allowed while a replica loads in the background.
    pub const NO_ASYNC_LOADING: Flags = Flags(bit::NO_ASYNC_LOADING);
    /// Not allowed in a transaction.
    pub const NO_MULTI: Flags = Flags(bit::NO_MULTI);

    /// Every flag with the name that COMMAND gives it.
    pub const NAMED: [(&'static str, Flags); 20] = [
        ("write", Flags::WRITE),
        ("readonly", Flags::READONLY),
        ("denyoom", Flags::DENYOOM),
        ("admin", Flags::ADMIN),
        ("pubsub", Flags::PUBSUB),
        ("noscript", Flags::NOSCRIPT),
        ("blocking", Flags::BLOCKING),
        ("loading", Flags::LOADING),
        ("stale", Flags::STALE),
        ("skip_monitor", Flags::SKIP_MONITOR),
        ("skip_slowlog", Flags::SKIP_SLOWLOG),
        ("asking", Flags::ASKING),
        ("fast", Flags::FAST),
        ("no_auth", Flags::NO_AUTH),
        ("may_replicate", Flags::MAY_REPLICATE),
        ("no_mandatory_keys", Flags::NO_MANDATORY_KEYS),
        ("movablekeys", Flags::MOVABLEKEYS),
        ("allow_busy", Flags::ALLOW_BUSY),
        ("no_async_loading", Flags::NO_ASYNC_LOADING),
        ("no_multi", Flags::NO_MULTI),
    ];

    /// True if all of `other` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMED
            .into_iter()
            .filter(move |(_, flag)| self.contains(*flag))
            .map(|(name, _)| name)
    }
}

/// The bits by themselves, for the generated table.
pub(super) mod bit {
    pub(in crate::command) const WRITE: u32 = 1;
    pub(in crate::command) const READONLY: u32 = 1 << 1;
    pub(in crate::command) const DENYOOM: u32 = 1 << 2;
    pub(in crate::command) const ADMIN: u32 = 1 << 3;
    pub(in crate::command) const PUBSUB: u32 = 1 << 4;
    pub(in crate::command) const NOSCRIPT: u32 = 1 << 5;
    pub(in crate::command) const BLOCKING: u32 = 1 << 6;
    pub(in crate::command) const LOADING: u32 = 1 << 7;
    pub(in crate::command) const STALE: u32 = 1 << 8;
    pub(in crate::command) const SKIP_MONITOR: u32 = 1 << 9;
    pub(in crate::command) const SKIP_SLOWLOG: u32 = 1 << 10;
    pub(in crate::command) const ASKING: u32 = 1 << 11;
    pub(in crate::command) const FAST: u32 = 1 << 12;
    pub(in crate::command) const NO_AUTH: u32 = 1 << 13;
    pub(in crate::command) const MAY_REPLICATE: u32 = 1 << 14;
    pub(in crate::command) const NO_MANDATORY_KEYS: u32 = 1 << 15;
    pub(in crate::command) const MOVABLEKEYS: u32 = 1 << 16;
    pub(in crate::command) const ALLOW_BUSY: u32 = 1 << 17;
    pub(in crate::command) const NO_ASYNC_LOADING: u32 = 1 << 18;
    pub(in crate::command) const NO_MULTI: u32 = 1 << 19;
}

/// What a command does with the keys of one spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAccess {
    /// Reads the value or facts about it.
    ReadOnly,
    /// Reads and changes.
    ReadWrite,
    /// Overwrites without reading.
    Overwrite,
    /// Removes.
    Remove,
    /// A channel: routes like a key and names no data.
    NotKey,
}

/// Where one group of keys is: where the search begins, and which arguments from there on are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySpec {
    /// Where the search begins.
    pub begin: Begin,
    /// Which arguments are keys from there on.
    pub find: Find,
    /// What the command does with them.
    pub access: KeyAccess,
}

/// Where the search for keys begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Begin {
    /// At this argument.
    Index(u8),
    /// Behind this word (any case), looked for from argument `from` on, or from the end backwards if negative. A command
    /// without the word has no keys of this spec.
    Keyword {
        /// Upper case.
        word: &'static str,
        /// Where the search starts.
        from: i8,
    },
}

/// Which arguments are keys, counted from where the search began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Find {
    /// From the beginning to `last` (counted from the beginning; negative: from the end of the command), every `step`th one.
    Range {
        /// The last key.
        last: i8,
        /// 2 if keys and values alternate.
        step: u8,
        /// With a `last` of -1: only the first 1/`limit` of what is left holds keys (XREAD: 2). 0 and 1: no limit.
        limit: u8,
    },
    /// As many as an argument says.
    Counted {
        /// Where the count is.
        count_at: u8,
        /// Where the first key is.
        first: u8,
        /// 2 if keys and values alternate.
        step: u8,
    },
}

/// An option word that not every server knows which knows its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OptionSince {
    /// Upper case.
    pub word: &'static str,
    /// The first argument that can be this option; words before it are keys and values.
    pub from: u8,
    /// The servers that know it.
    pub since: Since,
}

/// A command without keys; more is said by the builders below.
pub(super) const fn command(name: &'static str, arity: i32, flags: u32, since: u8) -> CommandSpec {
    CommandSpec {
        name,
        arity,
        flags: Flags(flags),
        keys: &[],
        class: policy::class_of(name, Flags(flags), &[]),
        since: Since(since),
        options: &[],
        subcommands: &[],
        single_key: 0,
    }
}

impl CommandSpec {
    /// With keys.
    pub(super) const fn keys(self, keys: &'static [KeySpec]) -> CommandSpec {
        let single_key = match keys {
            [
                KeySpec {
                    begin: Begin::Index(index),
                    find: Find::Range { last: 0, .. },
                    ..
                },
            ] if !self.flags.contains(Flags::MOVABLEKEYS) => *index,
            _ => 0,
        };
        CommandSpec {
            keys,
            single_key,
            class: policy::class_of(self.name, self.flags, keys),
            ..self
        }
    }

    /// With options that not all servers know.
    pub(super) const fn options(self, options: &'static [OptionSince]) -> CommandSpec {
        CommandSpec { options, ..self }
    }

    /// A container.
    pub(super) const fn subcommands(self, subcommands: &'static [CommandSpec]) -> CommandSpec {
        CommandSpec {
            subcommands,
            ..self
        }
    }
}

/// Keys from argument `index` on; one key, if nothing else is said.
pub(super) const fn at(index: u8, access: KeyAccess) -> KeySpec {
    KeySpec {
        begin: Begin::Index(index),
        find: Find::Range {
            last: 0,
            step: 1,
            limit: 0,
        },
        access,
    }
}

/// Keys behind a word.
pub(super) const fn behind(word: &'static str, from: i8, access: KeyAccess) -> KeySpec {
    KeySpec {
        begin: Begin::Keyword { word, from },
        find: Find::Range {
            last: 0,
            step: 1,
            limit: 0,
        },
        access,
    }
}

/// An option that these servers know.
pub(super) const fn option(word: &'static str, from: u8, since: u8) -> OptionSince {
    OptionSince {
        word,
        from,
        since: Since(since),
    }
}

impl KeySpec {
    /// Up to `last`, every `step`th argument.
    pub(super) const fn range(self, last: i8, step: u8, limit: u8) -> KeySpec {
        KeySpec {
            find: Find::Range { last, step, limit },
            ..self
        }
    }

    /// As many as argument `count_at` says.
    pub(super) const fn counted(self, count_at: u8, first: u8, step: u8) -> KeySpec {
        KeySpec {
            find: Find::Counted {
                count_at,
                first,
                step,
            },
            ..self
        }
    }
}
