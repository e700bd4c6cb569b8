//! A client behind the proxy gets what it would get from the server itself, byte for byte.
//!
//! `commands.txt` and `sessions.txt` are lists of command lines; each is run on a server directly and through a proxy on
//! an identical second server, and the replies are compared. `rows` reads the lists, `peer` speaks raw bytes to one side,
//! `rules` say how far two replies may differ, `twins` runs both sides. The other files are the promises.

mod coverage;
mod crossing;
mod mutants;
mod peer;
mod raw;
mod rows;
mod rules;
mod same;
mod shards;
mod twins;
