//! Three hospitals, nine enclaves, one receipt: the main job of Legation on a bare machine.
//!
//! A manager and nine agents are started as processes. Three hospitals hold a part of a study each; in every round, an
//! enclave per hospital trains on that hospital's sealed rows, and another enclave averages what they learned. In the middle
//! of a round one agent is killed: its work moves. At the end the receipt of the whole chain is verified offline.
//!
//! The hospitals and the coordinator are parties of one process here, with keys of their own each: a hospital's data key
//! leaves it only wrapped to an enclave that the hospital itself has judged.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;

mod data;
mod federation;
mod learn;
mod summary;

/// Three hospitals train a model together inside enclaves of three providers, and prove it.
#[derive(Parser)]
#[command(name = "legation-demo", version, max_term_width = 110)]
struct Args {
    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Folder for the deployment, its logs, the receipt and the anchors; emptied first.
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
    /// The `legation` binary; default: beside this program.
    #[arg(long)]
    legation: Option<PathBuf>,
    /// Lets every agent live.
    #[arg(long)]
    no_kill: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(6),
        Err(error) => {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<bool> {
    let legation = match args.legation {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("legation"),
    };
    anyhow::ensure!(
        legation.exists(),
        "{} is missing: run `cargo build -p legation`, or `cargo xtask demo`",
        legation.display()
    );
    empty(&args.dir)?;
    let progress = Progress::new();
    let outcome = tokio::select! {
        outcome = federation::run(&legation, &args.dir, !args.no_kill, &progress) => outcome?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("stopped"),
    };
    progress.finish();
    let text = if args.json { outcome.to_json()? } else { outcome.to_text() };
    match std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    Ok(outcome.verified())
}

/// A folder of an earlier demo is emptied; anything else is left alone.
fn empty(dir: &std::path::Path) -> Result<()> {
    let mark = dir.join("demo");
    if dir.exists() && !mark.exists() && std::fs::read_dir(dir)?.next().is_some() {
        anyhow::bail!("{} holds something that is no earlier demo: choose another --dir", dir.display());
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("emptying {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir)?;
    std::fs::write(mark, "made by legation-demo; emptied by the next run\n").map_err(Into::into)
}

/// Tells a person how far it is: a moving line on a terminal, plain lines elsewhere. Data goes to stdout, this to stderr.
pub(crate) struct Progress {
    bar: Option<indicatif::ProgressBar>,
}

impl Progress {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = indicatif::ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar }
    }

    /// A step began.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => {
                let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
