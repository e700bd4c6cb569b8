//! How many instructions the worker core needs for one command, held against limits that are written down here.
//!
//! ```text
//!  this program ──> valgrind --tool=callgrind, this program with `--turns 1000`    start-up + 1,000 turns   ┐ the difference,
//!               └─> valgrind --tool=callgrind, this program with `--turns 11000`   start-up + 11,000 turns  ┘ by command
//! ```
//!
//! Wall time on shared machines says little; instructions are the same on every run, so CI can hold them to a limit. A
//! change that makes the core dearer raises a limit in the same commit, where a reader sees it. A limit is also too high
//! when the core has become much cheaper: then it would hide the next loss, and this program asks to lower it.
//!
//! Without valgrind the program says so and passes: `make tools` puts one into `.tools/` where apt is.

mod drive;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use drive::{Case, Operation};

/// Turns of the short run, and how many more the long one has.
const TURNS: u64 = 1_000;
const MORE_TURNS: u64 = 10_000;
/// A core that needs less than this share of its limit has earned a lower limit. In percent.
const WORTH_LOWERING: u64 = 80;

/// Instructions per command: about a tenth above what was measured with rustc 1.95, because the compiler and the C
/// library's copy loops differ a little from machine to machine.
const LIMITS: [(Case, u64); 5] = [
    (GET, 2980),
    // What it costs more is the search for its shard; nothing is looked at of the other ones.
    (GET.of_shards("get 64, 100 shards", 100), 3280),
    (Case::new("get 64 pipeline 16", Operation::Get, 16), 865),
    (Case::new("set 64 pipeline 1", Operation::Set, 1), 3020),
    (Case::new("set 64 pipeline 16", Operation::Set, 16), 890),
];
const GET: Case = Case::new("get 64 pipeline 1", Operation::Get, 1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [case, flag, turns] if flag == "--turns" => run(case, turns),
        _ => match hold_against_limits() {
            Ok(code) => code,
            Err(error) => {
                eprintln!("core: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// What runs under valgrind.
fn run(name: &str, turns: &str) -> ExitCode {
    let case = LIMITS.iter().find(|(case, _)| case.name == name);
    match (case, turns.parse()) {
        (Some((case, _)), Ok(turns)) => {
            drive::run(*case, turns);
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

fn hold_against_limits() -> Result<ExitCode, String> {
    let Some(valgrind) = valgrind() else {
        println!("valgrind is not here: the core's instructions are not counted ('make tools')");
        return Ok(ExitCode::SUCCESS);
    };
    println!("instructions of the worker core per command, and the limit");
    let mut outcome = ExitCode::SUCCESS;
    for (case, limit) in LIMITS {
        let spent = count(&valgrind, case, TURNS + MORE_TURNS)? - count(&valgrind, case, TURNS)?;
        let each = spent / (MORE_TURNS * case.pipeline);
        let verdict = if each > limit {
            outcome = ExitCode::FAILURE;
            "OVER THE LIMIT"
        } else if each * 100 < limit * WORTH_LOWERING {
            "(lower the limit)"
        } else {
            ""
        };
        println!("  {:<20} {each:>6} of {limit:>6}  {verdict}", case.name);
    }
    Ok(outcome)
}

/// Instructions of a whole run.
fn count(valgrind: &Valgrind, case: Case, turns: u64) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut command = Command::new(&valgrind.program);
    if let Some(library) = &valgrind.library {
        command.env("VALGRIND_LIB", library);
    }
    let output = command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args([case.name, "--turns", &turns.to_string()])
        .output()
        .map_err(|error| format!("start valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("valgrind counted nothing: {said}"))
}

/// A valgrind that starts.
struct Valgrind {
    program: PathBuf,
    /// Where its tools are, when it is not where it was built for.
    library: Option<PathBuf>,
}

/// The one of `.tools/`, or the machine's own.
fn valgrind() -> Option<Valgrind> {
    let tools = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/valgrind"));
    let unpacked = Valgrind {
        program: tools.join("bin/valgrind.bin"),
        library: Some(tools.join("root/usr/libexec/valgrind")),
    };
    let installed = Valgrind {
        program: "valgrind".into(),
        library: None,
    };
    [unpacked, installed].into_iter().find(|it| {
        let started = Command::new(&it.program).arg("--version").output();
        started.is_ok_and(|output| output.status.success())
    })
}
