//! `legation receipt`: offline, with anchors only.

use std::path::PathBuf;

use clap::Subcommand;
use legation::{
    home::read_anchors,
    verify::{Answer, draw, last_line, read_revocations, verify},
};

use super::{Context, Exit, Failure, Output, say};

#[derive(Subcommand)]
pub(super) enum ReceiptCommand {
    /// Verifies a receipt with nothing but anchors. The last line is the verdict; exit code 6 when it is not valid.
    Verify(Args),
    /// Draws what a receipt says, after verifying it.
    Show(Args),
}

#[derive(clap::Args)]
pub(super) struct Args {
    /// The receipt.
    file: PathBuf,
    /// What to trust: operators' roots and, if at all, development roots. Default: `anchors.json` of your home, or here.
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// What is revoked, as `legation revocations save FILE` wrote it: work done after is not valid.
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// Refuses receipts that rest on a development root.
    #[arg(long)]
    production: bool,
}

pub(super) fn command(context: &Context, command: ReceiptCommand) -> Result<Exit, Failure> {
    let (args, show) = match command {
        ReceiptCommand::Verify(args) => (args, false),
        ReceiptCommand::Show(args) => (args, true),
    };
    let mut anchors = match &args.anchors {
        Some(path) => read_anchors(path)?,
        None if std::path::Path::new("anchors.json").exists() => read_anchors("anchors.json".as_ref())?,
        None => context.home()?.anchors,
    };
    if args.production {
        anchors.development.clear();
    }
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
    };
    let text = read(&args.file)?;
    let revocations = args.revocations.as_ref().map(|path| read_revocations(&read(path)?, &anchors)).transpose()?;
    let answer = verify(&text, &anchors, revocations.as_deref())?;
    if context.output == Output::Json {
        say(&serde_json::to_string_pretty(&answer).map_err(|e| Failure::new(Exit::Failure, e))?)?;
    } else {
        if let (true, Answer::Valid(verdict)) = (show, &answer) {
            say(&format!("task {} `{}`\n{}", verdict.task, verdict.name, draw(verdict)))?;
        }
        if let Answer::Valid(verdict) = &answer {
            verdict.warnings.iter().try_for_each(|warning| say(&format!("warning: {warning}")))?;
        }
        say(&last_line(&answer))?;
    }
    Ok(if matches!(answer, Answer::Valid(_)) { Exit::Success } else { Exit::Receipt })
}
