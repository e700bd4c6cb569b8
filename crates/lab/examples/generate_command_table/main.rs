//! Writes the command table and its golden rows out of what real servers answer.
//!
//! ```text
//! cargo run -p understudy-lab --example generate_command_table -- \
//!     r62=PATH r70=PATH r82=PATH v81=PATH v91=PATH crates/resp
//! ```
//!
//! `make tools` puts the five binaries below `.tools`, as `.tools/redis-6.2.14/bin/redis-server` and so on.
//!
//! Every PATH is a server binary of that version (Redis 6.2.14, 7.0.15, 8.2.3, Valkey 8.1.8, 9.1.2; any other version of the
//! same name would be an error and is refused). Each is started on a free loopback port without persistence, asked COMMAND,
//! COMMAND DOCS, COMMAND GETKEYS and a list of samples, and ended. Written are, below the last argument:
//!
//! * `src/command/table.rs`: the union of all commands,
//! * `tests/data/getkeys.tsv`: which keys the servers see in sample commands,
//! * `tests/data/knows.tsv`: which servers accept which samples of newer commands and options.

mod command;
mod golden;
mod server;
mod table;
mod value;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use command::Catalogue;
use server::Server;

/// The names on the command line, with the version that each stands for; also the order of the bits in the table.
pub(crate) const SERVERS: [(&str, &str); 5] = [
    ("r62", "6.2.14"),
    ("r70", "7.0.15"),
    ("r82", "8.2.3"),
    ("v81", "8.1.8"),
    ("v91", "9.1.2"),
];

/// Where servers disagree about a command, the first of these that knows it is believed.
pub(crate) const BELIEVED: [&str; 5] = ["r82", "v91", "v81", "r70", "r62"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((crate_directory, binaries)) = arguments.split_last() else {
        return Err("usage: generate_command_table r62=PATH r70=PATH r82=PATH v81=PATH v91=PATH crates/resp".into());
    };
    let crate_directory = PathBuf::from(crate_directory);
    let mut servers = Vec::new();
    for (name, version) in SERVERS {
        let prefix = format!("{name}=");
        let binary = binaries
            .iter()
            .find_map(|it| it.strip_prefix(&prefix))
            .ok_or(format!("{name}=PATH is missing"))?;
        servers.push(Server::start(name, version, binary)?);
    }
    let mut catalogues = BTreeMap::new();
    for server in &mut servers {
        catalogues.insert(server.name, Catalogue::ask(server)?);
    }
    let union = table::Union::of(&catalogues);
    fs::write(
        crate_directory.join("src/command/table.rs"),
        union.to_rust(),
    )?;
    fs::create_dir_all(crate_directory.join("tests/data"))?;
    fs::write(
        crate_directory.join("tests/data/getkeys.tsv"),
        golden::getkeys(&union, &mut servers)?,
    )?;
    fs::write(
        crate_directory.join("tests/data/knows.tsv"),
        golden::knows(&mut servers)?,
    )?;
    println!("{} commands", union.len());
    Ok(())
}
