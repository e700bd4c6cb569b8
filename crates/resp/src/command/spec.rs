//! One row of the command table: its types, and the const builders that the generated table is written with.

use super::class::Class;
use super::flags::Flags;
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
