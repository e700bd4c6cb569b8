//! Placeholder until the generator has run.

use super::server::ALL;
use super::spec::{CommandSpec, KeyAccess::ReadOnly, at, bit::READONLY, command};

pub(super) static TABLE: [CommandSpec; 1] =
    [command("get", 2, READONLY, ALL).keys(&[at(1, ReadOnly)])];
