//! `legation`: manager, agent and client in one binary. See `legation --help`.
#![expect(clippy::print_stderr, reason = "a command line speaks to people on stderr; data goes to stdout")]

use std::process::ExitCode;

use clap::Parser;

mod cli;

/// Small things are made in one thread and dropped in another all the time: the system's allocator spends a third of the leader's
/// time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli::run(cli)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit.into()
        }
    }
}
