//! `legation receipt`: offline, with anchors only; `export` alone asks the log.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use legation::{
    client::ClientError,
    home::read_anchors,
    verify::{
        Answer, Judgement, ProverProgram, Reader, draw, draw_tree, log_line, production_only, proof_line, read_demands,
        read_receipt, read_revocations, without,
    },
};
use legation_core::{Receipt, claims::Anchors, proven::ExecutionJudge};
use legation_log::{Fork, cose::verify as verify_cose, receipt::InLog};

use super::{Context, Exit, Failure, Output, say, task::write, tell};

#[derive(Subcommand)]
pub(super) enum ReceiptCommand {
    /// Verifies a receipt with nothing but anchors, and draws what ran as a tree. The last line is the verdict. Exit code 6 when
    /// it is not valid, 9 when it is but does not meet the demands of `--policy`, 10 when the file cannot be read.
    Verify(Args),
    /// Lists every statement of a receipt and what it rests on, after verifying it.
    Show(Args),
    /// Writes a receipt in another form: COSE receipts (RFC 9942), by the pool's transparency log, one for each statement that is in it.
    Export(Export),
    /// Writes a receipt without some of its proofs of execution, or without any. Nothing rests on them: what they proved is
    /// attested then, and nothing else changes. A proof that is not good makes a receipt invalid to whoever judges it.
    Strip(Strip),
}

#[derive(clap::Args)]
pub(super) struct Strip {
    /// The receipt.
    file: PathBuf,
    /// A proof to leave out: the digest of its statement, or the beginning of it, as `receipt verify` names it. Default: all.
    #[arg(long, value_name = "DIGEST")]
    proof: Vec<String>,
    /// Where it goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct Export {
    /// The receipt.
    file: PathBuf,
    /// Folder for the COSE receipts: DIGEST.cose for each statement. Made when it is not there.
    #[arg(long, value_name = "DIR")]
    cose: PathBuf,
    /// Anchors that name the log. Default: `anchors.json` of your home, or here.
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// The log, where the anchors name several.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
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
    /// Evidence that a log has forked, as a witness or an agent gave it: what rests on that log is not valid.
    #[arg(long, value_name = "FILE")]
    fork: Vec<PathBuf>,
    /// Refuses receipts that do not show that their statements are in a log of the anchors.
    #[arg(long)]
    logged: bool,
    /// What you demand beside that it is valid, such as kinds of machines, regions, assurance and the age of proofs: TOML, or
    /// JSON where the name ends with `.json`. See docs/receipt.md.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Program that judges proofs of execution, `legation-prover`. Default: the one beside this program. Without one they are
    /// not judged, and what was to be proven is attested. See docs/proven.md.
    #[arg(long, value_name = "FILE")]
    prover: Option<PathBuf>,
    /// What you pin of the program whose proofs count, as it was published; its verifying key lies beside it. Default:
    /// `PINNED.json` beside this program.
    #[arg(long, value_name = "FILE")]
    pinned: Option<PathBuf>,
    /// Prints the whole judgement as JSON, as `--output json`.
    #[arg(long)]
    json: bool,
}

pub(super) async fn command(context: &Context, command: ReceiptCommand) -> Result<Exit, Failure> {
    match command {
        ReceiptCommand::Verify(args) => judge(context, &args, false),
        ReceiptCommand::Show(args) => judge(context, &args, true),
        ReceiptCommand::Export(args) => export(context, &args).await,
        ReceiptCommand::Strip(args) => strip(&args),
    }
}

fn anchors(context: &Context, file: Option<&PathBuf>) -> Result<Anchors, Failure> {
    match file {
        Some(path) => read_anchors(path),
        None if Path::new("anchors.json").exists() => read_anchors(Path::new("anchors.json")),
        None => Ok(context.home()?.anchors),
    }
}

/// Each COSE receipt is verified by the anchors' log before it is written.
async fn export(context: &Context, args: &Export) -> Result<Exit, Failure> {
    let failed = |e: std::io::Error| Failure::new(Exit::Failure, format!("{}: {e}", args.cose.display()));
    let anchors = anchors(context, args.anchors.as_ref())?;
    let log = legation::log::anchor(&anchors, args.origin.as_deref())?;
    let client = super::log::client(context)?;
    let text = read_receipt(&args.file)?;
    let receipt = text.and_then(|text| Receipt::from_text(&text)).map_err(|e| Failure::new(Exit::Receipt, e))?;
    std::fs::create_dir_all(&args.cose).map_err(failed)?;
    let mut written = 0;
    for envelope in &receipt.envelopes {
        let digest = envelope.digest();
        let cose = match client.log_cose(&digest).await {
            // What enclaves said to each other alone: an entry that rests on it binds it.
            Err(ClientError::Refused { why, .. }) if why.check == "log.unknown" && !receipt.roots.contains(&digest) => {
                continue;
            }
            cose => cose?,
        };
        verify_cose(&cose, digest.as_bytes(), &log.key).map_err(|why| Failure::refused(Exit::Receipt, &why))?;
        std::fs::write(args.cose.join(format!("{digest}.cose")), &cose).map_err(failed)?;
        written += 1;
    }
    tell(&format!("{written} COSE receipts by {} in {}", log.origin, args.cose.display()));
    Ok(Exit::Success)
}

fn strip(args: &Strip) -> Result<Exit, Failure> {
    let text = read_receipt(&args.file)?;
    let receipt = text.and_then(|text| Receipt::from_text(&text)).map_err(|e| Failure::new(Exit::Receipt, e))?;
    let before = receipt.proofs.len();
    let receipt = without(receipt, &args.proof)?;
    write(&args.out, receipt.to_text().as_bytes())?;
    tell(&format!("{} of {before} proofs of execution are left in {}", receipt.proofs.len(), args.out.display()));
    Ok(Exit::Success)
}

fn judge(context: &Context, args: &Args, show: bool) -> Result<Exit, Failure> {
    let mut anchors = anchors(context, args.anchors.as_ref())?;
    if args.production {
        production_only(&mut anchors);
    }
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
    };
    let revocations = args.revocations.as_ref().map(|path| read_revocations(&read(path)?, &anchors)).transpose()?;
    let fork = |path: &PathBuf| {
        let fork: Fork = serde_json::from_slice(&read(path)?)
            .map_err(|e| Failure::new(Exit::Usage, format!("{} is no evidence of a fork: {e}", path.display())))?;
        Ok::<_, Failure>(fork)
    };
    let forks = args.fork.iter().map(fork).collect::<Result<Vec<_>, _>>()?;
    let demands = args.policy.as_deref().map(read_demands).transpose()?;
    let prover = ProverProgram::find(args.prover.as_deref(), args.pinned.as_deref())?;
    let reader = Reader {
        anchors: &anchors,
        revocations: revocations.as_deref(),
        forks: &forks,
        logged: args.logged,
        demands: demands.as_ref(),
        proofs: prover.as_ref().map(|prover| prover as &(dyn ExecutionJudge + Sync)),
    };
    let judgement = reader.judge_file(&args.file)?;
    if args.json || context.output == Output::Json {
        say(&serde_json::to_string_pretty(&judgement).map_err(|e| Failure::new(Exit::Failure, e))?)?;
    } else {
        print(&judgement, show)?;
    }
    Ok(judgement.exit())
}

/// Of a receipt that is not valid, nothing is shown but why.
fn print(judgement: &Judgement, show: bool) -> Result<(), Failure> {
    if let Answer::Valid(verdict) = &judgement.answer {
        match show {
            true => say(&format!("task {} `{}`\n{}", verdict.task, verdict.name.escape_debug(), draw(verdict)))?,
            false => say(&draw_tree(verdict))?,
        }
        verdict.warnings.iter().try_for_each(|warning| say(&format!("warning: {warning}")))?;
        proof_line(verdict).iter().try_for_each(|line| say(line))?;
        let line = judgement.log.as_ref().and_then(log_line);
        match judgement.log {
            Some(InLog::Proven { .. }) => line.iter().try_for_each(|line| say(line))?,
            _ => line.iter().for_each(|line| tell(line)),
        }
        judgement.unmet.iter().try_for_each(|why| say(&format!("not met: {why}")))?;
    }
    say(&judgement.last_line())
}
