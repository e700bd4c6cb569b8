//! The `understudy` command line: one thin file a subcommand.
fn main() {}
