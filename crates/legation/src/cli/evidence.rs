//! `legation evidence`: judges a report in a file, offline.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use legation::run::now;
use legation_attest::{
    Roots,
    report_view::{CheckOutcome, FilePolicy, Filed, Outcome, Verdict, verify_file, with_intermediate},
};
use legation_core::{
    UnixTime,
    claims::{Anchors, Claims, Confidence, TcbStatus, TeeKind},
    encoding, printable,
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
    /// The report, quote or document.
    file: PathBuf,
    /// What kind of evidence it is. Default: what it looks like.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// As of when, in Unix seconds. Certificates and collateral are judged by their dates then. Default: now.
    #[arg(long, value_name = "UNIX_TIME")]
    at: Option<u64>,
    /// Certificates of the report's key, PEM or DER, leaf first. For SEV-SNP the default is a `vcek` or `vlek` file beside the
    /// report; its intermediate may follow it in the file, or lie in the same folder, or in a `roots` folder there or beside
    /// that; AMD's ASKs are built in, ASVKs (for a VLEK) are not. For a TPM: the attestation key's chain. For a GPU: the
    /// device's chain with its root, in PEM or base64 of PEM.
    #[arg(long, value_name = "FILE", visible_alias = "vcek")]
    certificates: Option<PathBuf>,
    /// Collateral of an Intel platform, JSON. Default: a `collateral.json` beside the quote.
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// Signature of a bare TPM quote (`TPMT_SIGNATURE`).
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Attestation key that signed a bare TPM quote, PEM or DER: trusted as given.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Nonce the quote must be over, hexadecimal.
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// Anchor file with development roots and roots of TPMs. Without it only the vendors' roots are trusted.
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// Accepts guests that their host may debug.
    #[arg(long)]
    allow_debug: bool,
    /// Accepts a security version of which the vendor says this, such as `sw-hardening-needed`. Repeatable.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    allow_tcb: Vec<TcbStatus>,
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
    /// Intel TDX quote, with `--collateral`.
    Tdx,
    /// Intel SGX quote, with `--collateral`.
    Sgx,
    /// Document of AWS Nitro's security module.
    Nitro,
    /// A TPM's report (JSON), under the TPM roots of `--anchors`.
    Tpm,
    /// The same, under development roots.
    DevTpm,
    /// A bare TPM quote with `--signature`, `--key` and `--nonce`.
    TpmQuote,
    /// Azure confidential VM on SEV-SNP (JSON).
    AzSnpVtpm,
    /// Azure confidential VM on TDX (JSON), with `--collateral`.
    AzTdxVtpm,
    /// NVIDIA GPU's measurement transcript (hexadecimal or base64), with `--certificates`.
    NvidiaGpu,
}

fn status(text: &str) -> Result<TcbStatus, String> {
    TcbStatus::ALL
        .into_iter()
        .find(|s| s.name() == text)
        .ok_or_else(|| format!("expected one of {}", TcbStatus::ALL.map(TcbStatus::name).join(", ")))
}

/// What a file looks like.
fn looks_like(report: &[u8]) -> Kind {
    match legation_attest::dcap::parse_quote(report) {
        Ok(quote) if quote.kind() == TeeKind::Sgx => return Kind::Sgx,
        Ok(_) => return Kind::Tdx,
        Err(_) => {}
    }
    if legation_attest::nitro::Document::parse(legation_attest::nitro::find_document(report)).is_ok() {
        return Kind::Nitro;
    }
    match report.first() {
        Some(b'{') if legation_attest::tpm::Report::parse(report).is_ok() => Kind::Tpm,
        Some(b'{') => Kind::AzSnpVtpm,
        _ => Kind::Snp,
    }
}

pub(super) fn command(context: &Context, EvidenceCommand::Verify(args): EvidenceCommand) -> Result<Exit, Failure> {
    let at = args.at.map_or_else(now, UnixTime);
    let report = read(&args.file)?;
    let kind = args.kind.unwrap_or_else(|| looks_like(&report));
    let anchors = match &args.anchors {
        Some(path) => legation::home::read_anchors(path)?,
        None => Anchors::default(),
    };
    let roots = Roots::new(&anchors).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    let mut policy = FilePolicy { debug: args.allow_debug, ..FilePolicy::default() };
    policy.tcb.extend(&args.allow_tcb);
    let demanded = |path: &Option<PathBuf>, flag: &str| match path {
        Some(path) => read(path),
        None => Err(Failure::new(Exit::Usage, format!("this kind of evidence needs {flag}"))),
    };
    let collateral = || match &args.collateral {
        Some(path) => read(path),
        None => read(&folder_of(&args.file).join("collateral.json")).map_err(|_| {
            Failure::new(Exit::Usage, "this kind of evidence needs --collateral FILE, or a collateral.json beside it")
        }),
    };
    let verify = |filed: &Filed<'_>| verify_file(filed, &roots, &policy, at);
    let verdict = match kind {
        Kind::Snp | Kind::DevSnp => {
            let file = match &args.certificates {
                Some(path) => path.clone(),
                None => beside(&args.file)?,
            };
            let certificates = with_intermediate(&read(&file)?, candidates(&file));
            verify(&Filed::Snp { development: kind == Kind::DevSnp, report: &report, certificates: &certificates })
        }
        Kind::Tdx | Kind::Sgx => {
            let of = if kind == Kind::Tdx { TeeKind::Tdx } else { TeeKind::Sgx };
            verify(&Filed::Dcap { kind: of, quote: &report, collateral: &collateral()? })
        }
        Kind::Nitro => verify(&Filed::Nitro { document: &report }),
        Kind::Tpm | Kind::DevTpm => {
            let endorsements = endorsements(&demanded(&args.certificates, "--certificates FILE")?)?;
            verify(&Filed::Tpm { development: kind == Kind::DevTpm, report: &report, endorsements: &endorsements })
        }
        Kind::TpmQuote => {
            let signature = demanded(&args.signature, "--signature FILE")?;
            let key = demanded(&args.key, "--key FILE")?;
            let nonce = nonce(args.nonce.as_deref())?
                .ok_or_else(|| Failure::new(Exit::Usage, "this kind of evidence needs --nonce HEX"))?;
            verify(&Filed::TpmQuote { quote: &report, signature: &signature, key: &key, nonce: &nonce })
        }
        Kind::AzSnpVtpm => verify(&Filed::AzureSnp { report: &report }),
        Kind::AzTdxVtpm => verify(&Filed::AzureTdx { report: &report, collateral: &collateral()? }),
        Kind::NvidiaGpu => {
            let certificates = endorsements(&demanded(&args.certificates, "--certificates FILE")?)?;
            let nonce = nonce(args.nonce.as_deref())?
                .map(<[u8; 32]>::try_from)
                .transpose()
                .map_err(|_| Failure::new(Exit::Usage, "a GPU's nonce has 32 bytes"))?;
            let report = text_or_bytes(&report);
            verify(&Filed::NvidiaGpu { report: &report, certificates: &certificates, nonce: nonce.as_ref() })
        }
    };
    if args.json || context.output == Output::Json {
        say(&serde_json::to_string_pretty(&verdict).map_err(|e| Failure::new(Exit::Failure, e))?)?;
    } else {
        say(&lay_out(&verdict))?;
    }
    Ok(if verdict.verdict == Outcome::Valid { Exit::Success } else { Exit::Attestation })
}

fn nonce(text: Option<&str>) -> Result<Option<Vec<u8>>, Failure> {
    let read = |text| encoding::unhex(text).map_err(|e| Failure::new(Exit::Usage, format!("--nonce: {e}")));
    text.map(read).transpose()
}

/// Certificates in DER or PEM, base64 of PEM, or one JSON text a line.
fn endorsements(file: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    if file.first() == Some(&b'{') {
        let lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        return Ok(lines.map(<[u8]>::to_vec).collect());
    }
    legation_attest::report_view::certificates(&text_or_bytes(file)).map_err(|why| Failure::refused(Exit::Usage, &why))
}

/// Bytes that a text file holds in hexadecimal or base64; the file itself where it holds neither.
fn text_or_bytes(file: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(file) else { return file.to_vec() };
    let text = text.trim();
    encoding::unhex(text).or_else(|_| encoding::unbase64(text)).unwrap_or_else(|_| file.to_vec())
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
            let [expected, got, fix] = [&why.expected, &why.got, &why.fix].map(|text| printable::one_line(text));
            out.push_str(&format!("           expected {expected}\n           got      {got}\n"));
            if !fix.is_empty() {
                out.push_str(&format!("           fix      {fix}\n"));
            }
        }
    }
    if let Some(claims) = &verdict.claims {
        out.push_str(&describe(claims));
    }
    if let Some(gpu) = &verdict.gpu {
        out.push_str(&format!(
            "\nmodel       {}\ndriver      {}\nfirmware    {}\nchip        {}\nrests on    {}\n",
            gpu.model, gpu.driver, gpu.firmware, gpu.chip, gpu.anchor
        ));
    }
    let word = if verdict.verdict == Outcome::Valid { "valid" } else { "INVALID" };
    out.push_str(&format!("{word} as of {}", verdict.at));
    out
}

/// What was attested, each with how much to believe it.
fn describe(claims: &Claims) -> String {
    let mut out = String::from("\n");
    let mut line = |name: &str, value: &dyn std::fmt::Display, confidence: Option<Confidence>| {
        let sure = confidence.map_or(String::new(), |c| format!("  ({}.{:03})", c.0 / 1000, c.0 % 1000));
        out.push_str(&format!("{name:<11} {}{sure}\n", printable::one_line(&value.to_string())));
    };
    line("rests on", &claims.anchor, None);
    line("product", &claims.product.value, Some(claims.product.confidence));
    line("measurement", &claims.measurement.value, Some(claims.measurement.confidence));
    for (name, value) in &claims.registers {
        line(name, value, None);
    }
    line("tcb", &claims.tcb.value, Some(claims.tcb.confidence));
    for behind in &claims.tcb.value.shortfall {
        line("  behind", behind, None);
    }
    if !claims.tcb.value.advisories.is_empty() {
        line("  advisories", &claims.tcb.value.advisories.join(", "), None);
    }
    line("chip", &claims.chip.value, Some(claims.chip.confidence));
    line("debug", &claims.debug.value, Some(claims.debug.confidence));
    line("confidential", &claims.confidential.value, Some(claims.confidential.confidence));
    if let Some(vmpl) = &claims.vmpl {
        line("vmpl", &vmpl.value, Some(vmpl.confidence));
    }
    if let Some(region) = &claims.region {
        line("region", &region.value, Some(region.confidence));
    }
    if let Some(operator) = &claims.operator {
        line("operator", &operator.value, Some(operator.confidence));
    }
    if let Some(features) = &claims.features {
        let names: Vec<_> = features.value.iter().map(String::as_str).collect();
        line("features", &names.join(", "), Some(features.confidence));
    }
    line("revocation", &claims.revocation, None);
    line("report data", &claims.report_data, None);
    out
}
