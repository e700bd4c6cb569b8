//! The grammar of the command line. What a subcommand does is in the file of its name.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A Redis proxy that upgrades the servers behind it while every application goes on.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Proxy and control in one process: the embedded default.
    Serve(Serve),
    /// The proxy alone; a `control` elsewhere drives it by its admin endpoint.
    Proxy(ConfigFile),
    /// Control alone; drives the proxies that `control.proxies` names.
    Control(ConfigFile),
    /// Checks a config file (also a nutcracker.yml) and says every problem at once.
    Check(ConfigFile),
    /// Upgrades two real shards under load on this machine and proves that nothing was lost.
    Demo(Demo),
    /// Prints the state of every upgrade.
    Status(Status),
    /// Reads control's journal.
    #[command(subcommand)]
    Journal(Journal),
    /// Lists, shows, restores, verifies and deletes snapshots; control may be running.
    #[command(subcommand)]
    Snapshots(Snapshots),
    /// Says what the servers themselves show, and the exact commands that undo by hand.
    Recover(Recover),
    /// Compares two servers: every key, value and expiry, in both directions.
    Verify(Pair),
    /// Not built yet: copying between servers that forbid replication.
    Copy(Pair),
    /// The proxy of one Pod in Kubernetes, which also takes snapshots for all of its pool.
    Sidecar(ConfigFile),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The YAML file (or a twemproxy nutcracker.yml).
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
#[group(id = "source-of-config", required = true, multiple = true)]
pub(crate) struct Serve {
    /// The YAML file (or a twemproxy nutcracker.yml).
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["listen", "backend"])]
    pub(crate) config: Option<PathBuf>,
    /// Instead of a file: where clients connect.
    #[arg(long, value_name = "ADDR", requires = "backend")]
    pub(crate) listen: Option<String>,
    /// Instead of a file: the one server behind the proxy, as redis://host:port.
    #[arg(long, value_name = "URL", requires = "listen")]
    pub(crate) backend: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The version that the shards run before.
    #[arg(long, default_value = "6.2.14")]
    pub(crate) from: String,
    /// The version that they run afterwards.
    #[arg(long, default_value = "8.2.3")]
    pub(crate) to: String,
    /// Prints the result as one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    /// Breaks the upgrade on purpose; the demo must then find it and exit 1.
    #[arg(long, value_enum)]
    pub(crate) sabotage: Option<Sabotage>,
    /// Client connections of the load.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) connections: u32,
    /// Keys that are there before the load starts, over both shards.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) keys: u64,
}

/// Ways to break an upgrade, each of which the ledger must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// The source is not fenced: a writer beside the proxy goes on writing to it.
    NoFence,
    /// The target takes over before it has applied everything.
    EarlyRelease,
    /// An acknowledged write is executed a second time.
    DoubleApply,
    /// Two replies of one connection change places.
    SwapReplies,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Admin endpoint of control.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7380")]
    pub(crate) admin: SocketAddr,
    /// One pool; all of them without it.
    pub(crate) pool: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Journal {
    /// Prints every record, oldest first, as JSON lines. Control must not be running.
    Show(ConfigFile),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshots {
    /// Every snapshot, oldest first.
    List {
        #[command(flatten)]
        config: ConfigFile,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Everything that is known about one.
    Show {
        #[command(flatten)]
        config: ConfigFile,
        /// Its id, or its run.
        id: String,
    },
    /// Brings one back; never writes over anything.
    Restore {
        #[command(flatten)]
        config: ConfigFile,
        /// Its id, or its run.
        id: String,
        /// A file or folder here, or object:[namespace/]name.
        #[arg(value_name = "PLACE")]
        to: String,
    },
    /// Reads one back whole and compares it with what is on record.
    Verify {
        #[command(flatten)]
        config: ConfigFile,
        /// Its id, or its run.
        id: String,
    },
    /// Reads the files of a server from start to end, as a restored volume holds them; prints one line of JSON.
    Read {
        /// The server's directory, or one above it.
        directory: PathBuf,
        /// The RDB's name, where it is not dump.rdb.
        #[arg(long, value_name = "NAME")]
        rdb: Option<String>,
        /// Writes the same line here too, cut to what a Pod's status takes.
        #[arg(long, value_name = "FILE")]
        result: Option<PathBuf>,
    },
    /// Deletes one, even the last one of an upgrade that still soaks.
    Delete {
        #[command(flatten)]
        config: ConfigFile,
        /// Its id, or its run.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// Reads roles and offsets from the servers themselves; needs no journal.
    #[arg(long, required = true)]
    pub(crate) from_servers: bool,
    /// The config whose shards are asked.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Servers beside those in the config that may hold a shard's data, as pool/shard=url.
    #[arg(value_name = "POOL/SHARD=URL", value_parser = crate::recover::parse)]
    pub(crate) others: Vec<(String, String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// The server that is right, as redis://host:port.
    pub(crate) source: String,
    /// The server that is compared with it.
    pub(crate) target: String,
}
