//! `legation evidence`: judges a report in a file, offline.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use legation::run::now;
use legation_attest::{
    Roots,
    report_view::{CheckOutcome, FilePolicy, Outcome, Verdict, verify_snp_file, with_intermediate},
};
use legation_core::{
    UnixTime,
    claims::{Anchors, TeeKind},
};

use super::{Context, Exit, Failure, Output, say};

/// Largest file looked into for an intermediate, in bytes.
const CANDIDATE_MAX: u64 = 64 * 1024;
/// Most files looked into.
const CANDIDATES_MAX: usize = 64;

#[derive(Subcommand)]
pub(super) enum EvidenceCommand {
    /// Verifies a report against the vendor's roots. Exit code 4 when it is not valid.
    Verify(Verify),
}

#[derive(clap::Args)]
pub(super) struct Verify {
    /// The report.
    file: PathBuf,
    /// What kind of evidence it is.
    #[arg(long, value_enum, default_value_t = Kind::Snp)]
    kind: Kind,
    /// As of when, in Unix seconds. Certificates are judged by their dates then. Default: now.
    #[arg(long, value_name = "UNIX_TIME")]
    at: Option<u64>,
    /// Certificate of the report's key (VCEK or VLEK), PEM or DER. Default: a `vcek` or `vlek` file beside the report. Its
    /// intermediate may follow it in the file, or lie in the same folder, or in a `roots` folder there or beside that;
    /// AMD's ASKs are built in, ASVKs (for a VLEK) are not.
    #[arg(long, value_name = "FILE")]
    vcek: Option<PathBuf>,
    /// Anchor file with development roots. Without it only the vendors' roots are trusted.
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// Accepts guests that their host may debug.
    #[arg(long)]
    allow_debug: bool,
    /// Prints JSON, as `--output json`.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// AMD SEV-SNP report, under AMD's roots.
    Snp,
    /// SEV-SNP report of a development chip, under the development roots of `--anchors`.
    DevSnp,
}

pub(super) fn command(context: &Context, EvidenceCommand::Verify(args): EvidenceCommand) -> Result<Exit, Failure> {
    let kind = match args.kind {
        Kind::Snp => TeeKind::SevSnp,
        Kind::DevSnp => TeeKind::DevSnp,
    };
    let at = args.at.map_or_else(now, UnixTime);
    let report = read(&args.file)?;
    let leaf_file = match &args.vcek {
        Some(path) => path.clone(),
        None => beside(&args.file)?,
    };
    let leaf = with_intermediate(&read(&leaf_file)?, candidates(&leaf_file));
    let anchors = match &args.anchors {
        Some(path) => legation::home::read_anchors(path)?,
        None => Anchors::default(),
    };
    let roots = Roots::new(&anchors).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    let policy = FilePolicy { debug: args.allow_debug, ..FilePolicy::default() };
    let verdict = verify_snp_file(kind, &report, &leaf, &[], &roots, &policy, at);
    if args.json || context.output == Output::Json {
        say(&serde_json::to_string_pretty(&verdict).map_err(|e| Failure::new(Exit::Failure, e))?)?;
    } else {
        say(&lay_out(&verdict))?;
    }
    Ok(if verdict.verdict == Outcome::Valid { Exit::Success } else { Exit::Attestation })
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
}

/// The key's certificate beside the report, by its usual names.
fn beside(report: &Path) -> Result<PathBuf, Failure> {
    let folder = folder_of(report);
    for name in ["vcek.der", "vcek.pem", "vcek.crt", "vlek.der", "vlek.pem", "vlek.crt"] {
        let path = folder.join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    let text =
        format!("no certificate beside {}: name the report's key certificate with --vcek FILE", report.display());
    Err(Failure::new(Exit::Usage, text))
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Certificates that may have signed the leaf: those in its folder, and in a `roots` folder there or beside that.
fn candidates(leaf: &Path) -> Vec<Vec<u8>> {
    let folder = folder_of(leaf);
    let folders = [folder.clone(), folder.join("roots"), folder.join("../roots")];
    let files = folders.iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files
        .filter(|p| p.extension().is_some_and(|e| ["der", "pem", "crt", "cer"].iter().any(|known| e == *known)))
        .filter(|p| p.metadata().is_ok_and(|m| m.len() <= CANDIDATE_MAX))
        .collect();
    files.sort();
    files.truncate(CANDIDATES_MAX);
    files.iter().filter_map(|p| std::fs::read(p).ok()).collect()
}

fn lay_out(verdict: &Verdict) -> String {
    let mut out = String::new();
    for line in &verdict.checks {
        let mark = match line.outcome {
            CheckOutcome::Pass => "pass",
            CheckOutcome::Refused => "REFUSED",
            CheckOutcome::NotReached => "-",
        };
        out.push_str(&format!("{mark:<8} {:<20} {}\n", line.check, line.about));
        if let Some(why) = &line.rejection {
            out.push_str(&format!("           expected {}\n           got      {}\n", why.expected, why.got));
            if !why.fix.is_empty() {
                out.push_str(&format!("           fix      {}\n", why.fix));
            }
        }
    }
    if let Some(claims) = &verdict.claims {
        out.push_str(&format!(
            "\nrests on    {}\nproduct     {}\nmeasurement {}\ntcb         {}\nchip        {}\ndebug       {}\nvmpl        {}\nreport data {}\n",
            claims.anchor, claims.product.value, claims.measurement.value, claims.tcb.value, claims.chip.value,
            claims.debug.value, claims.vmpl.value, claims.report_data,
        ));
    }
    let word = if verdict.verdict == Outcome::Valid { "valid" } else { "INVALID" };
    out.push_str(&format!("{word} as of {}", verdict.at));
    out
}
