//! Proves, after the fact, what this enclave answered to calls that were to be proven (docs/proven.md).
//!
//! ```text
//! call -- a place, counted by a dry execution --> runs, answered at once (serve/proven.rs)
//!                                                   |
//!   waiting --> running: one at a time, a process of its own --> done --> told to the manager until it has it
//! ```
//! 1. Proving keeps nobody: an answer is attested before its proof is begun, and the loan may have ended long before the proof is there.
//!    It uses what the owner set aside by `[prover]`, and is not charged.
//! 2. There is a bound on what waits, on what is kept for the manager, and on what each process may take in time and say in bytes.
//! 3. A process is ended when this agent ends, and when something that its answer rests on was revoked.
//! 4. What it reads lies in files that nobody else reads, which are wiped when it has ended ([`folder`]). Of the key of the question it gets
//!    what commits, never what opens, and none of it by arguments or environment.
//! 5. Nothing of this is kept when the agent ends: those proofs are never made, and their answers stay attested.

mod child;
mod desk;
mod folder;
mod job;
mod places;
mod tell;

use std::{
    convert::Infallible,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use legation_core::{
    Digest, LeaseId, Rejection, Signed, TaskId, TenantId, claims,
    delegation::{Lineage, session::PROOF_COST},
    dsse,
    proven::PROOF_MAX,
    statement::{ExecutionClaim, ExecutionProof, Passport},
};
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};

use crate::{agent::Inner, config::ProverConfig, status::Status};
use child::Ended;
use desk::{Desk, Word};
pub(crate) use job::Job;
pub(crate) use places::Place;
use places::Places;
pub(crate) use tell::{refused, taken, wanted};

/// Largest input of an execution that is proven, in bytes.
pub(crate) const INPUT_MAX: u64 = 16 << 20;
/// Modules whose bytes are kept, and how many bytes.
const MODULES_MAX: usize = 8;
const MODULE_BYTES_MAX: usize = 64 << 20;
/// How long a call waits for others to be counted: longer than any of them may take, and not by much. Whoever asked hears nothing
/// meanwhile, and gives up at some time.
const TURN: Duration = Duration::from_secs(75);
/// How often it is looked at what was revoked.
const LOOK: Duration = Duration::from_secs(1);
/// So much longer than it was told to take may a prover take: it reads its keys first.
const SPARE: Duration = Duration::from_secs(60);
/// Largest file of what is pinned, in bytes.
const PINNED_MAX: u64 = 64 * 1024;
/// What runs others with the least urgency.
const NICE: [&str; 2] = ["/usr/bin/nice", "/bin/nice"];

/// What `legation-prover pin` wrote, as far as it is of interest here.
#[derive(Deserialize)]
struct Pinned {
    version: String,
    commitment: String,
    key: Digest,
}

/// What an execution would take to prove.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
pub(crate) struct Estimate {
    /// Instructions, counted.
    pub(crate) instructions: u64,
    /// Seconds, about.
    pub(crate) seconds: f64,
}

/// What came of counting.
pub(crate) enum Counted {
    /// It may be proven.
    Fits(Estimate),
    /// It would take too much.
    TooDear(Rejection),
    /// It was not counted, for a reason of the moment.
    NotNow(Rejection),
    /// It cannot be counted: the module fails on this input, or the prover does.
    Unable(Rejection),
}

/// What a prover says on its standard output.
#[derive(Deserialize)]
struct Answer {
    estimate: Option<Estimate>,
    #[serde(default)]
    accepted: bool,
    refused: Option<String>,
    error: Option<String>,
    program: Option<Digest>,
}

/// An execution that is to be proven: its answer was given.
pub(crate) struct Work {
    pub(crate) task: TaskId,
    /// Under which loan it ran.
    pub(crate) loan: LeaseId,
    /// The answer.
    pub(crate) report: Digest,
    pub(crate) job: Job,
    pub(crate) claim: ExecutionClaim,
    pub(crate) estimate: Estimate,
    /// What it rests on, should that be revoked.
    pub(crate) lineage: Lineage,
    pub(crate) passport: Arc<Signed<Passport>>,
    /// Among what waits.
    pub(crate) _place: Place,
}

/// The prover of this agent.
pub(crate) struct Prover {
    config: ProverConfig,
    nice: Option<PathBuf>,
    /// The folder is this agent's alone while this is.
    _lock: fs::File,
    claim: claims::Prover,
    places: Places,
    /// Counting takes memory: one at a time.
    counting: Semaphore,
    modules: Mutex<Vec<(Digest, Bytes)>>,
    desk: Mutex<Desk>,
    /// Something waits to be proven.
    waits: Notify,
    /// Something is to be told.
    news: Notify,
}

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim.to_owned())
}

/// Words of another program, cut to a length.
fn cut(text: &str) -> String {
    text.chars().take(512).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Prover {
    /// Reads what is configured, and wipes what an agent left that was killed.
    ///
    /// # Errors
    /// `agent.prover`: something of it is not there, or is not what it should be.
    pub(crate) fn open(config: &ProverConfig) -> Result<Self, Rejection> {
        let wrong = |path: &Path, expected: &str, got: String| {
            refuse("agent.prover", "what `[prover]` names")
                .expected(format!("{}: {expected}", path.display()))
                .got(got)
                .fix("correct `[prover]`, or remove it")
        };
        let there = |path: &Path, what: &str| fs::canonicalize(path).map_err(|e| wrong(path, what, e.to_string()));
        let program = there(&config.program, "legation-prover")?;
        let guest = there(&config.guest, "the program that is proven")?;
        let keys = there(&config.keys, "the folder that `legation-prover keygen` made")?;
        let pinned = there(&config.pinned, "what is pinned of the program")?;
        let size = fs::metadata(&pinned).map_err(|e| wrong(&pinned, "a file", e.to_string()))?.len();
        let text = match size <= PINNED_MAX {
            true => fs::read(&pinned).map_err(|e| wrong(&pinned, "a file", e.to_string()))?,
            false => return Err(wrong(&pinned, "a small file", format!("{size} bytes"))),
        };
        let read: Pinned = serde_json::from_slice(&text)
            .map_err(|e| wrong(&pinned, "what `legation-prover pin` wrote", e.to_string()))?;
        let commitment = legation_core::encoding::unhex(&read.commitment)
            .map_err(|e| wrong(&pinned, "a commitment in hexadecimal", e.to_string()))?;
        if read.version != "legation-program/v1" {
            return Err(wrong(&pinned, "version legation-program/v1", read.version));
        }
        let lock = folder::clear(&config.folder)
            .map_err(|e| wrong(&config.folder, "a folder that this agent alone may read and write", e.to_string()))?;
        let folder = there(&config.folder, "a folder of this agent alone")?;
        let nice = NICE.iter().map(PathBuf::from).find(|path| path.exists());
        if nice.is_none() {
            tracing::warn!("there is no `nice` here: proofs are made with the same urgency as everything else");
        }
        // As whoever publishes the program names it.
        let program_name = Digest::of_parts(&[b"legation-program-v1", read.key.as_bytes(), &commitment]);
        Ok(Self {
            claim: claims::Prover { program: program_name, instructions: config.instructions },
            config: ProverConfig { program, guest, pinned, keys, folder, ..config.clone() },
            nice,
            _lock: lock,
            places: Places::default(),
            counting: Semaphore::new(1),
            modules: Mutex::default(),
            desk: Mutex::default(),
            waits: Notify::new(),
            news: Notify::new(),
        })
    }

    /// What is measured into the evidence.
    pub(crate) fn claim(&self) -> claims::Prover {
        self.claim
    }

    /// Room for one more execution, taken before it runs: who is told that it is answered is not told afterwards that it is not proven.
    ///
    /// # Errors
    /// `delegate.busy`: as many wait as may, in all or of this tenant.
    pub(crate) fn place(&self, tenant: &TenantId) -> Result<Place, Rejection> {
        self.places.take(tenant)
    }

    /// Keeps a module that came: its proof needs the bytes.
    pub(crate) fn keep_module(&self, digest: Digest, wasm: &[u8]) {
        let mut kept = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if wasm.len() > MODULE_BYTES_MAX || kept.iter().any(|(known, _)| *known == digest) {
            return;
        }
        kept.push((digest, Bytes::copy_from_slice(wasm)));
        while kept.len() > MODULES_MAX || kept.iter().map(|(_, wasm)| wasm.len()).sum::<usize>() > MODULE_BYTES_MAX {
            kept.remove(0);
        }
    }

    /// The bytes of a module that came before.
    pub(crate) fn module(&self, digest: &Digest) -> Option<Bytes> {
        let kept = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == digest).map(|(_, wasm)| wasm.clone())
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Every change leaves it whole.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an execution on.
    pub(crate) fn enqueue(&self, work: Work) {
        self.desk().waiting.push_back(work);
        self.waits.notify_one();
        self.news.notify_one();
    }

    /// Counts what a proof of an execution would take that has not happened yet, by a dry one. Whoever drops this ends it.
    pub(crate) async fn count(&self, place: &Place, job: &Job, claim: &ExecutionClaim, most: Duration) -> Counted {
        let unable = |what: &str, got: String| Counted::Unable(refuse("delegate.prover", what).got(cut(&got)));
        let began = Instant::now();
        let turns = async {
            let own = place.turn().await;
            (own, self.counting.acquire().await)
        };
        let Ok((_own, turn)) = tokio::time::timeout(most.min(TURN), turns).await else {
            let why = refuse("delegate.busy", "calls that are being counted")
                .expected(format!("few enough for a turn within {} s", TURN.as_secs()))
                .got("more")
                .fix("ask again later, or another enclave");
            return Counted::NotNow(why);
        };
        let Ok(_turn) = turn else { return unable("prover", "it has ended".to_owned()) };
        let most = most.saturating_sub(began.elapsed());
        let folder = match job.write(&self.config.folder, claim).await {
            Ok(folder) => folder,
            Err(error) => return unable("files for the prover", error.to_string()),
        };
        let most = most.min(self.config.estimate);
        let mut args = self.args("estimate", &folder);
        args.push("--before".into());
        let ended = tokio::time::timeout(most, child::run(&self.program(), &args, |_| {})).await;
        let too_dear = |got: String, expected: String| {
            Counted::TooDear(
                refuse(PROOF_COST, "what a proof of the call takes")
                    .expected(expected)
                    .got(got)
                    .fix("hand on smaller parts, or ask for `attested` or replicas"),
            )
        };
        let limits = format!(
            "at most {} instructions and {} s, which this enclave takes on",
            self.config.instructions,
            self.config.longest.as_secs()
        );
        let Ended { code, answer, said } = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return unable("prover", error.to_string()),
            // It says nothing of the call: this machine may have had other work, or the loan little time left.
            Err(_) => {
                return Counted::NotNow(
                    refuse("delegate.expired", "time to count what a proof of the call takes")
                        .expected(format!("an end within {} s", most.as_secs()))
                        .got("none")
                        .fix("ask another enclave, or again later"),
                );
            }
        };
        let figures = |estimate: Estimate| {
            let Estimate { instructions, seconds } = estimate;
            format!("{instructions} instructions, about {seconds:.0} s")
        };
        match (code, serde_json::from_slice::<Answer>(&answer)) {
            (Some(0), Ok(Answer { estimate: Some(estimate), accepted: true, .. })) if estimate.seconds.is_finite() => {
                match estimate.instructions <= self.config.instructions {
                    true => Counted::Fits(estimate),
                    false => too_dear(figures(estimate), limits),
                }
            }
            // So the prover says that it is too dear (docs/proven.md has its exit codes).
            (Some(4), Ok(Answer { estimate, refused, .. })) => {
                let words = refused.map(|why| cut(&why));
                let said: Vec<_> = estimate.map(figures).into_iter().chain(words).collect();
                too_dear(said.join(": "), limits)
            }
            (_, Ok(Answer { error: Some(error), .. })) => unable("dry execution of the call", error),
            (code, _) => unable("dry execution of the call", format!("the prover ended with {code:?}: {said}")),
        }
    }

    /// Proves an execution: gives the bytes of the proof.
    async fn prove(&self, work: &Work) -> Result<Vec<u8>, Rejection> {
        let failed = |got: String| refuse("proof.failed", "proof of the execution").expected("one").got(cut(&got));
        let folder = work.job.write(&self.config.folder, &work.claim).await.map_err(|e| failed(e.to_string()))?;
        let proof = folder.path("proof.bin");
        let mut args = self.args("prove", &folder);
        let more: [OsString; 4] =
            ["--pinned".into(), self.config.pinned.clone().into(), "--out".into(), proof.clone().into()];
        args.extend(more);
        let most = self.config.longest.saturating_add(self.config.estimate).saturating_add(SPARE);
        let hear = |line: &str| {
            if let Some((done, left)) = progress(line) {
                self.desk().progress(work.report, done, left);
            }
        };
        let ended = tokio::time::timeout(most, child::run(&self.program(), &args, hear)).await;
        let ended = ended.map_err(|_| failed(format!("it took longer than {} s", most.as_secs())))?;
        let Ended { code, answer, said } = ended.map_err(|e| failed(e.to_string()))?;
        match (code, serde_json::from_slice::<Answer>(&answer)) {
            (Some(0), Ok(Answer { program: Some(program), .. })) if program == self.claim.program => {}
            (Some(0), Ok(Answer { program: Some(program), .. })) => {
                return Err(failed(format!("one of program {program}, not {}", self.claim.program)));
            }
            (_, Ok(Answer { refused: Some(why), .. } | Answer { error: Some(why), .. })) => return Err(failed(why)),
            (code, _) => return Err(failed(format!("the prover ended with {code:?}: {said}"))),
        }
        let read = tokio::task::spawn_blocking(move || {
            let size = fs::metadata(&proof)?.len();
            let read = match size > 0 && size <= u64::try_from(PROOF_MAX).unwrap_or(u64::MAX) {
                true => fs::read(&proof),
                false => Err(std::io::Error::other(format!("a proof of {size} bytes"))),
            };
            folder.wipe();
            read
        });
        read.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
    }

    fn program(&self) -> child::Program<'_> {
        child::Program { nice: self.nice.as_deref(), path: &self.config.program }
    }

    /// What every command is told; nothing of it is secret.
    fn args(&self, command: &str, folder: &folder::Folder) -> Vec<OsString> {
        let (instructions, longest) = (self.config.instructions.to_string(), self.config.longest.as_secs().to_string());
        let dry = self.config.estimate.as_secs().max(1).to_string();
        vec![
            command.into(),
            "--keys".into(),
            self.config.keys.clone().into(),
            "--program".into(),
            self.config.guest.clone().into(),
            "--job".into(),
            folder.path("job.json").into(),
            "--max-instructions".into(),
            instructions.into(),
            "--max-seconds".into(),
            longest.into(),
            "--max-dry-seconds".into(),
            dry.into(),
        ]
    }
}

/// How far a prover says that a proof is: thousandths, and seconds left. Its words are `.. proof: 35 s of about 80 s`.
fn progress(line: &str) -> Option<(u16, u64)> {
    let (_, said) = line.rsplit_once("proof: ")?;
    let (spent, whole) = said.split_once(" s of about ")?;
    let spent: u64 = spent.trim().parse().ok()?;
    let whole: u64 = whole.trim().strip_suffix(" s")?.parse().ok()?;
    // It is not there before it is there.
    let done = spent.saturating_mul(1000).checked_div(whole)?.clamp(1, 990);
    Some((u16::try_from(done).ok()?, whole.saturating_sub(spent).max(1)))
}

/// Makes one proof after the other, and tells the manager, for ever; where nothing is proven, nothing.
pub(crate) async fn work(agent: Arc<Inner>) -> Infallible {
    let Some(prover) = agent.prover.clone() else { return std::future::pending().await };
    tokio::select! {
        never = prove_all(&agent, &prover) => never,
        never = tell::tell_all(&agent, &prover) => never,
    }
}

async fn prove_all(agent: &Inner, prover: &Prover) -> Infallible {
    loop {
        let next = prover.desk().begin();
        let Some(work) = next else {
            prover.waits.notified().await;
            continue;
        };
        let proof = tokio::select! {
            proof = prover.prove(&work) => proof,
            why = revoked(agent, &work) => Err(why),
        };
        let word = match proof {
            Ok(proof) => {
                let statement = ExecutionProof {
                    prover: agent.boot.identity,
                    report: work.report,
                    claim: work.claim.clone(),
                    program: prover.claim.program,
                    proof: Digest::of(&proof),
                    size: legation_core::Bytes(proof.len() as u64),
                    made: agent.now(),
                    prev: vec![work.report],
                };
                agent.tell(Status::Proved { loan: work.loan, report: work.report, size: statement.size });
                Word::Proved(Box::new(dsse::sign(statement, &*agent.bench.identity)), Bytes::from(proof))
            }
            Err(why) => {
                agent.tell(Status::Unproved { loan: work.loan, report: work.report, why: why.clone() });
                Word::Unproved(why)
            }
        };
        let dropped = prover.desk().end(&work, word);
        agent.books().proved(dropped);
        prover.news.notify_one();
    }
}

/// Waits until something is revoked that an answer rests on.
async fn revoked(agent: &Inner, work: &Work) -> Rejection {
    loop {
        let revoked = agent.revocations.all();
        if let Some(revocation) = work.lineage.revoked(&revoked).or_else(|| revoked.of(&work.passport)) {
            return revocation.refusal();
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prover({})", self.claim.program.short())
    }
}

#[cfg(test)]
mod tests {
    use super::progress;

    #[test]
    fn progress_is_read_from_what_the_prover_says() {
        for (line, read) in [
            ("legation-prover: proof: 36 s of about 80 s", Some((450, 44))),
            ("legation-prover: proof: 0 s of about 80 s", Some((1, 80))),
            ("legation-prover: proof: 90 s of about 80 s", Some((990, 1))),
            ("legation-prover: dry execution: 5 s", None),
            ("legation-prover: proof: 5 s of about 0 s", None),
            ("proof: x s of about 80 s", None),
            ("proof: 99999999999999999999 s of about 1 s", None),
            ("", None),
        ] {
            assert_eq!(progress(line), read, "{line}");
        }
    }
}
