//! Which admin commands there are, and who answers them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::value::Value;

/// A command for a handler.
#[derive(Debug, Clone)]
pub struct AdminRequest {
    /// The arguments, without the container's name: `PROXY GATE pool shard` is `[GATE, pool, shard]`.
    pub args: Vec<Bytes>,
    /// Who asks, for the log.
    pub user: String,
}

impl AdminRequest {
    /// An argument as text, where it is there and is UTF-8.
    pub fn text(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.args.get(index)?).ok()
    }

    /// Whether the first argument is this verb, in any case.
    pub fn is(&self, verb: &str) -> bool {
        self.args
            .first()
            .is_some_and(|first| first.eq_ignore_ascii_case(verb.as_bytes()))
    }
}

/// Answers all commands of one container, such as `PROXY`.
pub trait AdminHandler: Send + Sync {
    /// Answers one command. What is wrong with it is an answer too: `Value::error("ERR …")`.
    fn call<'a>(
        &'a self,
        request: AdminRequest,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + 'a>>;

    /// One line per verb: how it is written, and what it does.
    fn help(&self) -> Vec<(&'static str, &'static str)>;

    /// Whether this command only waits for something, so that it may be dropped when its client goes away.
    fn only_waits(&self, _request: &AdminRequest) -> bool {
        false
    }
}

/// A section of INFO: its fields and values as they are now.
pub type InfoSection = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// The commands of one admin endpoint. Proxy and control each make one; whoever runs both merges them.
#[derive(Default)]
pub struct AdminTable {
    pub(super) commands: BTreeMap<&'static str, Command>,
    pub(super) sections: Vec<(&'static str, InfoSection)>,
}

pub(super) struct Command {
    pub(super) summary: &'static str,
    pub(super) handler: Arc<dyn AdminHandler>,
}

impl AdminTable {
    /// Without any command but the server's own.
    pub fn new() -> AdminTable {
        AdminTable::default()
    }

    /// Adds a container. `name` is upper case; a later one of the same name takes its place.
    pub fn add(
        &mut self,
        name: &'static str,
        summary: &'static str,
        handler: Arc<dyn AdminHandler>,
    ) {
        debug_assert!(
            !name.bytes().any(|byte| byte.is_ascii_lowercase()),
            "names are looked up in upper case"
        );
        self.commands.insert(name, Command { summary, handler });
    }

    /// Adds a section to INFO, shown in the order in which they were added.
    pub fn add_info(&mut self, title: &'static str, section: InfoSection) {
        self.sections.push((title, section));
    }

    /// Takes over everything of another table.
    pub fn merge(&mut self, other: AdminTable) {
        self.commands.extend(other.commands);
        self.sections.extend(other.sections);
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&Command> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_uppercase();
        self.commands.get(name.as_str())
    }
}

impl fmt::Debug for AdminTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.commands.keys()).finish()
    }
}
