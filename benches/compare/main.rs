//! CPU time per command and throughput of whole processes, side by side in one run.
//!
//! ```text
//!   load (this process) ──> floor | direct | understudy 1 worker | understudy 2 workers | nutcracker | haproxy (TCP)
//!                                      └──────────────┴──────────────┴── one redis-server
//! ```
//!
//! Machines are shared and noisy, so every round measures every side once, interleaved, and what is printed is the median
//! over rounds of each side's ratio to the floor *of the same round*, and its quartiles: where they lie far apart, the machine
//! was busy with something else, and more rounds are needed. CPU time is what the kernel accounted to all threads
//! of the process (nanoseconds of `/proc/PID/task/*/schedstat`), not wall time. The floor is a bare tokio echo server of
//! this file's folder: what moving the bytes costs with nothing done to them. It is sent the larger of request and reply,
//! and sends it back. A batch of `pipeline` commands is one write of the load, which then awaits all their replies.
//! The same program started twice may differ by a tenth for as long as both live (where its memory and its neighbours lie), so
//! all processes are started anew for each row and every five rounds: more rounds are also more starts. A side's figure also
//! hangs on which one came before it, since the kernel leaves threads on the core where they ran: behind the bare server,
//! one and the same proxy read a seventh more than behind another proxy. So each round measures them in another order.
//!
//! Arguments: `--rounds N` (default 5), `--milliseconds N` (of one measurement, default 500), `--gap N` (cutovers whose
//! longest client gap is measured, default 20), `--only TEXT` (rows whose name and a space contain it: `--only "GET 64"`,
//! `--only "pipeline 1 "`),
//! `--beside PATH` (another build of understudy as one more side, to compare a change with what was before).

mod cpu;
mod floor;
mod gap;
mod load;
mod sides;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::time::Duration;

use load::{Operation, Shape};
use sides::{Side, Sides};

/// Rounds that are measured on the same processes.
const ROUNDS_OF_A_START: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, port] = arguments.as_slice()
        && flag == "--floor"
    {
        floor::serve(port);
    }
    // `cargo bench` hands over `--bench`; the rest is ours.
    let rounds = number(&arguments, "--rounds", 5);
    let time = Duration::from_millis(number(&arguments, "--milliseconds", 500));
    let cutovers = number(&arguments, "--gap", 20);
    let only = value(&arguments, "--only").unwrap_or_default();
    let beside = value(&arguments, "--beside");
    match compare(rounds, time, only, beside).and_then(|()| gap::measure(cutovers)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(rounds: u64, time: Duration, only: &str, beside: Option<&str>) -> Result<(), String> {
    println!(
        "50 connections; CPU per command in µs (median), ratio to the floor of the same round (median of {rounds}, quartiles), commands per second (median)\n"
    );
    let mut told = BTreeSet::new();
    for operation in [Operation::Get, Operation::Set] {
        for size in [64, 4096] {
            for pipeline in [1, 16] {
                let shape = Shape {
                    operation,
                    size,
                    pipeline,
                    connections: 50,
                };
                if !format!("{shape} ").contains(only) {
                    continue;
                }
                let mut rows = Vec::new();
                for begun in (0..rounds).step_by(ROUNDS_OF_A_START) {
                    let sides = Sides::start(beside)?;
                    // A peer that this machine lacks is left out of the table.
                    for missing in sides.missing.iter().filter(|name| told.insert(**name)) {
                        println!("{missing} is not installed and is left out: run 'make tools'");
                    }
                    let left = (rounds - begun).min(ROUNDS_OF_A_START as u64);
                    measure_rounds(&sides, shape, left, time, &mut rows)?;
                }
                print(shape, &mut rows);
            }
        }
    }
    Ok(())
}

/// Adds the figures of some rounds, by processes that have just been started.
fn measure_rounds(
    sides: &Sides,
    shape: Shape,
    rounds: u64,
    time: Duration,
    rows: &mut Vec<Row>,
) -> Result<(), String> {
    rows.extend((sides.all().iter().skip(rows.len())).map(|side| Row::new(side.name)));
    load::prepare(sides.server_port(), shape)?;
    for _ in 0..rounds {
        let round = rows.first().map_or(0, |row| row.cpu.len());
        for place in order(sides.all().len(), round) {
            let (side, row) = (&sides.all()[place], &mut rows[place]);
            let figures = measure(side, shape, time)?;
            row.cpu.push(figures.cpu_us);
            row.rate.push(figures.per_second);
        }
        // The floor is the first side.
        let floor = rows[0].cpu[round];
        for row in rows.iter_mut() {
            row.ratio.push(row.cpu[round] / floor);
        }
    }
    Ok(())
}

/// In which order so many sides are measured: another one each round, the same ones in each run.
fn order(sides: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sides).collect();
    order.sort_by_cached_key(|side| {
        let mut hasher = DefaultHasher::new();
        (round, side).hash(&mut hasher);
        hasher.finish()
    });
    order
}

fn print(shape: Shape, rows: &mut [Row]) {
    println!("{shape}");
    for row in rows {
        println!(
            "  {:<22} {:>8.3} µs   {:>6.2} x floor ({:.2} to {:.2})   {:>9.0}/s",
            row.name,
            quantile(&mut row.cpu, 0.5),
            quantile(&mut row.ratio, 0.5),
            quantile(&mut row.ratio, 0.25),
            quantile(&mut row.ratio, 0.75),
            quantile(&mut row.rate, 0.5)
        );
    }
    println!();
}

struct Row {
    name: &'static str,
    cpu: Vec<f64>,
    ratio: Vec<f64>,
    rate: Vec<f64>,
}

impl Row {
    fn new(name: &'static str) -> Row {
        Row {
            name,
            cpu: Vec::new(),
            ratio: Vec::new(),
            rate: Vec::new(),
        }
    }
}

struct Figures {
    cpu_us: f64,
    per_second: f64,
}

fn measure(side: &Side, shape: Shape, time: Duration) -> Result<Figures, String> {
    load::run(side.port, shape, time / 10, side.echoes)?;
    let before = cpu::nanoseconds(side.pid)?;
    let done = load::run(side.port, shape, time, side.echoes)?;
    let spent = cpu::nanoseconds(side.pid)? - before;
    Ok(Figures {
        cpu_us: spent as f64 / 1e3 / done.commands as f64,
        per_second: done.commands as f64 / done.elapsed.as_secs_f64(),
    })
}

/// The value below which that part of them lies; 0.5 is the median.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values
        .get((last * part).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

fn number(arguments: &[String], flag: &str, default: u64) -> u64 {
    value(arguments, flag)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn value<'a>(arguments: &'a [String], flag: &str) -> Option<&'a str> {
    let position = arguments.iter().position(|argument| argument == flag)?;
    arguments.get(position + 1).map(String::as_str)
}
