//! The commands of this repository: `cargo xtask --help`. It is no part of the product: it depends on none of its crates,
//! so that it compiles in seconds and works while they do not compile.
//!
//! What it says goes to stderr; stdout belongs to the programs that it starts.
#![expect(clippy::print_stderr, reason = "a command line tool: stdout is data, stderr is the rest")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use repository::Repository;

mod bench;
mod check;
mod ci;
mod demo;
mod fuzz;
mod guests;
mod metadata;
mod page;
mod prerequisites;
mod process;
mod prover;
mod repository;
mod sim;
mod test;
mod tidy;

/// The commands of this repository. Start with `cargo xtask demo`.
///
/// What is missing on this machine is installed from Debian's packages where we are root and apt-get is there;
/// otherwise the command says what to install. A failure names the command that failed and what to do.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Xtask,
}

#[derive(Subcommand)]
enum Xtask {
    /// Builds everything that the demonstration needs and runs it
    ///
    /// The first build takes minutes, the next ones seconds. stdout is the demonstration's own:
    /// `cargo xtask demo --json | jq .` works. Its options: `cargo xtask demo -- --help`.
    Demo {
        /// One JSON document instead of text
        #[arg(long)]
        json: bool,
        /// Handed to the demonstration as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Builds and runs all tests, or those with FILTER in their name
    ///
    /// With cargo-nextest where it is present, otherwise with cargo test. One crate alone is quicker:
    /// `cargo nextest run -p legation-core`.
    Test {
        /// A part of the names of the tests to run
        filter: Option<String>,
    },
    /// What a change must pass: fmt, tidy, guests, lint, test, demo, by hand, page, proof; stops at the first failure
    ///
    /// What was left out because this machine lacks something is said again at the end.
    Ci,
    /// Formats all Rust code
    Fmt {
        /// Only says what is not formatted
        #[arg(long)]
        check: bool,
    },
    /// Clippy and rustdoc over the whole workspace; a warning is a failure
    Lint,
    /// Checks the shape of the workspace: arrows between crates, purity, licences, names, sizes
    ///
    /// Needs no compilation, only `cargo metadata`. Each finding says which rule and what to do.
    Tidy,
    /// Rebuilds the guest modules, and runs the commands of docs/write-a-task.md
    Guests {
        /// Only says whether the committed modules are what the sources build
        #[arg(long)]
        check: bool,
    },
    /// Proofs of execution: the program that is proven, the prover, their tests; see docs/proven.md
    Prover {
        /// What to do
        #[command(subcommand)]
        what: prover::Prover,
    },
    /// Fuzzes the parsers of strangers' bytes, guided by coverage; all of them, or those named
    Fuzz {
        /// Names of targets, such as `dcap-quote`
        targets: Vec<String>,
        /// How long for each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Simulates whole deployments in a hostile world, one for each seed; see docs/simulation.md
    ///
    /// A seed that fails is told line by line; `--story SEED` tells any.
    Sim {
        /// Handed to the simulation as they are: --seeds N, --from SEED, --story SEED, --defect NAME
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measures, and writes bench/results/NAME-DATE.json with the facts of this machine
    #[command(after_help = bench::LIST)]
    Bench {
        /// Which measurement
        name: String,
        /// Small numbers in the dev profile, to see that it works; written to target/bench
        #[arg(long)]
        smoke: bool,
        /// Handed to the measurement as they are
        #[arg(last = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: error: {error:#}");
            error.downcast_ref::<process::Failed>().map_or(ExitCode::FAILURE, process::Failed::exit_code)
        }
    }
}

fn dispatch(command: Xtask) -> Result<()> {
    let repository = Repository::find()?;
    match command {
        Xtask::Demo { json, mut args } => {
            if json {
                args.insert(0, "--json".to_owned());
            }
            demo::become_it(&repository, &args)
        }
        Xtask::Test { filter } => test::run(&repository, filter.as_deref()),
        Xtask::Ci => ci::run(repository),
        Xtask::Fmt { check } => check::fmt(&repository, check),
        Xtask::Lint => check::lint(&repository),
        Xtask::Tidy => tidy::run(&repository),
        Xtask::Guests { check } => guests::run(repository.root(), check),
        Xtask::Prover { what } => prover::run(&repository, &what),
        Xtask::Fuzz { targets, seconds } => fuzz::run(&repository, &targets, seconds),
        Xtask::Sim { args } => sim::run(&repository, &args),
        Xtask::Bench { name, smoke, args } => bench::run(&repository, &name, smoke, &args),
    }
}
