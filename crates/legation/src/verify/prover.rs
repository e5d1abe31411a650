//! Proofs of execution, judged by a program beside this one: `legation-prover verify` (docs/proven.md). What verifies them is
//! hundreds of packages, which nobody needs who reads receipts without proofs: so it is asked as a process of its own.
//!
//! Which program's proofs count is for the reader to say, in the file that was published with it ([`ProverProgram::open`]): neither a
//! receipt nor the answer of the process adds to that. The process is trusted as this one is: it was installed by the reader.
//! Its answer counts only when it is about this proof, this program and this public value, and says the same as its exit code. No answer
//! is neither a good proof nor a bad one: then there is no judgement ([`had_no_answer`]).

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use legation_core::{Digest, Rejection, encoding::unhex, proven::ExecutionJudge};
use serde::Deserialize;

use super::child::ask;
use crate::exit::{Exit, Failure};

/// The program, as it lies beside this one where both were installed together.
pub const PROVER: &str = "legation-prover";
/// What is pinned of the program whose proofs it judges, beside this program too.
pub const PINNED: &str = "PINNED.json";
/// The verifying key, beside what is pinned.
const KEY: &str = "verifying.key";
/// The one version of what is pinned.
const VERSION: &str = "legation-program/v1";
/// Largest file of what is pinned, in bytes.
const PINNED_MAX: u64 = 64 << 10;
/// Longest answer, in bytes: a refusal has a few hundred.
const ANSWER_MAX: usize = 64 << 10;
/// How much of an answer that is none is repeated, in characters.
const SHOWN: usize = 200;
/// Longest time for one proof. It takes well under a second, most of it reading the key.
const LIMIT: Duration = Duration::from_secs(30);
/// Exit code of a proof that is not good.
const NOT_GOOD: i32 = 6;
/// The check of a refusal because there is no answer.
const NO_ANSWER: &str = "proof.prover";
/// What to do about a proof that is not good, where the process says nothing better.
const WITHOUT: &str = "ask for a receipt without this proof (`legation receipt strip`): then the execution is attested";

/// Judges proofs of one pinned program by asking a process.
#[derive(Clone, Debug)]
pub struct ProverProgram {
    program: PathBuf,
    pinned: PathBuf,
    key: PathBuf,
    name: Digest,
    limit: Duration,
}

/// What is pinned, as far as the program's name follows from it. The process reads all of it.
#[derive(Deserialize)]
struct Pinned {
    version: String,
    commitment: String,
    key: Digest,
}

/// What the process says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    good: bool,
    program: Digest,
    public: Digest,
    proof: Digest,
    #[serde(default)]
    why: Option<Rejection>,
    #[serde(rename = "seconds")]
    _seconds: f64,
}

/// Whether a refusal says nothing of the proof, but that whoever should have judged it gave no answer.
pub fn had_no_answer(why: &Rejection) -> bool {
    why.check == NO_ANSWER
}

impl ProverProgram {
    /// The program in the file `program`, to judge proofs of what the file `pinned` pins; the verifying key lies beside that.
    ///
    /// # Errors
    /// A file is not there, or `pinned` is not what it should be.
    pub fn open(program: &Path, pinned: &Path) -> Result<Self, Failure> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| {
            Failure::new(Exit::Usage, format!("cannot use {}: {why}", path.display()))
        };
        // The whole path: what stands in PATH under this name is not asked.
        let program = fs::canonicalize(program).map_err(|e| wrong(program, &e))?;
        let mut text = Vec::new();
        let file = File::open(pinned).map_err(|e| wrong(pinned, &e))?;
        file.take(PINNED_MAX.saturating_add(1)).read_to_end(&mut text).map_err(|e| wrong(pinned, &e))?;
        if u64::try_from(text.len()).is_ok_and(|bytes| bytes > PINNED_MAX) {
            return Err(wrong(pinned, &format!("it has more than {PINNED_MAX} bytes")));
        }
        let read: Pinned = serde_json::from_slice(&text).map_err(|e| wrong(pinned, &e))?;
        if read.version != VERSION {
            return Err(wrong(pinned, &format!("its version is `{}`, not `{VERSION}`", read.version)));
        }
        let commitment = unhex(&read.commitment).map_err(|e| wrong(pinned, &e))?;
        let name = Digest::of_parts(&[b"legation-program-v1", read.key.as_bytes(), &commitment]);
        let key = pinned.with_file_name(KEY);
        if !key.is_file() {
            return Err(wrong(&key, &"there is no such file; it belongs beside what is pinned"));
        }
        Ok(Self { program, pinned: pinned.to_owned(), key, name, limit: LIMIT })
    }

    /// The program that the reader named, or the one beside this one. Nothing where there is none and none was named: then proofs
    /// are not judged.
    ///
    /// # Errors
    /// One of the two files was named and the other is not there; or as [`Self::open`].
    pub fn find(program: Option<&Path>, pinned: Option<&Path>) -> Result<Option<Self>, Failure> {
        let own = std::env::current_exe().ok();
        let beside = |name: &str| Some(own.as_ref()?.with_file_name(name)).filter(|path| path.is_file());
        let named = program.is_some() || pinned.is_some();
        let program = program.map(Path::to_owned).or_else(|| beside(PROVER));
        let pinned = pinned.map(Path::to_owned).or_else(|| beside(PINNED));
        match (program, pinned) {
            (Some(program), Some(pinned)) => Self::open(&program, &pinned).map(Some),
            (Some(_), None) if named => {
                Err(Failure::new(Exit::Usage, "--prover also needs what is pinned of its program: --pinned FILE"))
            }
            (None, _) if named => {
                Err(Failure::new(Exit::Usage, "--pinned also needs the program that judges proofs: --prover FILE"))
            }
            _ => Ok(None),
        }
    }

    /// With another bound on the time for one proof.
    pub fn limited(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The name that statements have for the program whose proofs it judges.
    pub fn name(&self) -> Digest {
        self.name
    }

    fn no_answer(&self, got: impl std::fmt::Display) -> Rejection {
        Rejection::new(NO_ANSWER, "program that judges proofs of execution")
            .expected("one answer, about the proof that it was given")
            .got(got)
            .fix(format!("see what `{} verify --help` says, or read without it", self.program.display()))
    }
}

impl ExecutionJudge for ProverProgram {
    fn judge(&self, program: &Digest, public: &Digest, proof: &[u8]) -> Result<(), Rejection> {
        if *program != self.name {
            return Err(Rejection::new("proof.program", "program behind a proof of execution")
                .expected(format!("{}, which the reader pins", self.name))
                .got(program)
                .fix("pin that program, if you trust it"));
        }
        let mut command = Command::new(&self.program);
        command.arg("verify").arg("--pinned").arg(&self.pinned).arg("--key").arg(&self.key);
        command.arg("--program").arg(program.to_string()).arg("--public").arg(public.to_string());
        // A stranger's bytes are not left lying about as a file.
        command.arg("--proof").arg("/dev/stdin");
        let told = ask(&mut command, proof.to_vec(), ANSWER_MAX, self.limit).map_err(|why| self.no_answer(why))?;
        let said: Said = serde_json::from_slice(&told.text).map_err(|e| {
            let text: String = String::from_utf8_lossy(&told.text).chars().take(SHOWN).collect();
            let code = told.code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
            self.no_answer(format!("{code} and `{text}`: {e}"))
        })?;
        if (said.program, said.public, said.proof) != (*program, *public, Digest::of(proof)) {
            return Err(self.no_answer("one about something else"));
        }
        match (told.code, said.good, said.why) {
            (Some(0), true, None) => Ok(()),
            (Some(NOT_GOOD), false, Some(why)) if matches!(why.check.as_str(), "proof.bytes" | "proof.wrong") => {
                // Built anew, so that a stranger's words in it stay on their line.
                let fix = if why.fix.is_empty() { WITHOUT } else { why.fix.as_str() };
                Err(Rejection::new(&why.check, why.claim).expected(why.expected).got(why.got).fix(fix))
            }
            (code, good, _) => {
                let code = code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
                Err(self.no_answer(format!("{code}, and `good` is {good}")))
            }
        }
    }
}
