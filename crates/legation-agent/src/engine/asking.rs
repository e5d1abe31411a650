//! What one run asks of other enclaves: whom it goes to ([`Delegations`]), and the questions that are open.
//!
//! The engine knows nothing of loans, channels or grants: it hands a question on and waits, a little at a time, so that the
//! deadline and a cancellation are seen while it waits. All is bounded: questions open at once ([`OPEN_MAX`]), questions of one run
//! ([`ASKED_MAX`]), and bytes of inputs and outputs together, by the memory that the run may have: an output from each enclave that
//! runs a question.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use legation_core::{
    Bytes, Digest, Fuel, Millis, Rejection, Requirement,
    statement::{Assurance, REPLICAS_MAX},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Cancel, RunFailure, RunInput, guest::Errno};

/// Questions of one run that are open at once.
pub const OPEN_MAX: usize = 256;
/// Questions that one run may ask in all.
pub const ASKED_MAX: u32 = 4096;
/// Output allowed for an answer where the question does not say.
pub const OUTPUT_DEFAULT: Bytes = Bytes::mib(1);
/// Most bytes of the text of a failure that a module can read.
const WHY_MAX: usize = 2048;
/// How long a wait may go on without a look at the deadline and at [`Cancel`].
const SLICE: Duration = Duration::from_millis(20);
/// A question is given up so long before the run must end, or with the last tenth of its time: so the module still hears why.
const MARGIN: Duration = Duration::from_secs(2);
const DOMAIN: &[u8] = b"legation.task.question.v1";

/// What a module may say of a question beside its input: the fields of a small JSON object, all optional.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AskOptions {
    /// Arguments of the module that is asked.
    pub args: Vec<String>,
    /// Work allowed.
    pub fuel: Option<Fuel>,
    /// Linear memory allowed, in bytes.
    pub memory: Option<Bytes>,
    /// Time allowed, in milliseconds.
    pub time_ms: Option<Millis>,
    /// Output allowed, in bytes: [`OUTPUT_DEFAULT`] without it.
    pub output: Option<Bytes>,
    /// How the answer is assured: as weakly as the grants let it be without it.
    pub assurance: Option<Assurance>,
    /// What whoever is asked must satisfy, beside what request and grants ask.
    pub require: Option<Requirement>,
}

/// A question as the engine hands it on.
pub struct Ask<'a> {
    /// Names the question, and is the seed of who runs it: drawn from the run's own seed, so that replicas ask the same.
    pub question: Digest,
    /// Module to run, by SHA-256.
    pub module: Digest,
    /// Its standard input.
    pub input: &'a [u8],
    /// What else was said.
    pub options: &'a AskOptions,
    /// Output allowed.
    pub output: Bytes,
    /// How long the answer is waited for: until a little before the run itself must end.
    pub within: Duration,
}

/// Why a question has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AskError {
    /// This task may not hand that on.
    NotAllowed(Rejection),
    /// What is asked is malformed, or more than may be asked for.
    Invalid(Rejection),
    /// Too much is asked at once, or in all.
    TooMany(Rejection),
    /// Nobody could be asked, nobody answered in time, or those who answered disagree.
    Unanswered(Rejection),
    /// It ran and failed by its own doing.
    Failed(Rejection),
    /// It ran and failed by the machine's doing, or for want of an answer of its own: elsewhere it might not have.
    Silent(Rejection),
}

impl AskError {
    /// The reason.
    pub fn why(&self) -> &Rejection {
        match self {
            Self::NotAllowed(why)
            | Self::Invalid(why)
            | Self::TooMany(why)
            | Self::Unanswered(why)
            | Self::Failed(why)
            | Self::Silent(why) => why,
        }
    }

    fn errno(&self) -> Errno {
        match self {
            Self::NotAllowed(_) => Errno::NOTCAPABLE,
            Self::Invalid(_) => Errno::INVAL,
            Self::TooMany(_) => Errno::MFILE,
            Self::Unanswered(_) => Errno::HOSTUNREACH,
            Self::Failed(_) | Self::Silent(_) => Errno::CHILD,
        }
    }
}

/// Has parts of a task run by other enclaves. It is called on the thread of the run: [`Self::wait`] alone may wait.
pub trait Delegations: fmt::Debug + Send + Sync {
    /// Hands a question on, under a name of its own.
    ///
    /// # Errors
    /// Nothing was handed on.
    fn ask(&self, ask: &Ask<'_>) -> Result<u64, AskError>;

    /// How many enclaves would run a question with these options: outputs of all of them may be held at once.
    fn copies(&self, options: &AskOptions) -> u8 {
        options.assurance.map_or(1, Assurance::copies)
    }

    /// The answer of a question, given once; nothing when there is none after `most`. A question that has failed says so each time.
    fn wait(&self, question: u64, most: Duration) -> Option<Result<Zeroizing<Vec<u8>>, AskError>>;

    /// Nobody waits for the answer any more.
    fn forget(&self, question: u64);
}

/// The questions of one run. The default may ask nobody.
#[derive(Default)]
pub(super) struct Asking {
    with: Option<Arc<dyn Delegations>>,
    seed: Zeroizing<[u8; 32]>,
    until: Option<Instant>,
    cancel: Cancel,
    /// Bytes that may be held for questions.
    room: u64,
    held: u64,
    /// Handles given so far: the next one.
    given: u32,
    open: BTreeMap<u32, Open>,
    /// Why the last question was not asked.
    refused: String,
    /// Whether the module was told what another enclave would perhaps not have told it: that a question was not handed on, or
    /// has no answer. What it did then is no vote.
    starved: bool,
}

struct Open {
    question: u64,
    /// Its share of what is held.
    held: u64,
    state: State,
}

enum State {
    Asked,
    Answered { output: Zeroizing<Vec<u8>>, at: usize },
    Failed { errno: Errno, why: String },
}

impl Asking {
    pub(super) fn new(input: &RunInput<'_>, started: Instant, cancel: &Cancel) -> Self {
        Self {
            with: input.delegations.clone(),
            seed: Zeroizing::new(input.seed),
            until: started.checked_add(input.deadline),
            cancel: cancel.clone(),
            room: input.memory.0,
            held: 0,
            given: 0,
            open: BTreeMap::new(),
            refused: String::new(),
            starved: false,
        }
    }

    /// Notes that a question could not even be read, for whoever asks why.
    pub(super) fn misread(&mut self, claim: &str, expected: &str, got: impl fmt::Display) -> Errno {
        self.refused = text(&Rejection::new("delegate.options", claim).expected(expected).got(got));
        Errno::INVAL
    }

    /// Reads what is said of a question beside its input.
    pub(super) fn options(&mut self, json: &[u8]) -> Result<AskOptions, Errno> {
        let read = match json {
            [] => return Ok(AskOptions::default()),
            // Fields without names would be read, too.
            json if json.trim_ascii_start().first() != Some(&b'{') => Err("no object".to_owned()),
            json => serde_json::from_slice(json).map_err(|error| error.to_string()),
        };
        let expected = "a JSON object: args, fuel, memory, time_ms, output, assurance, require, all optional";
        read.map_err(|why| self.misread("options of the question", expected, why))
    }

    /// Hands a question on; gives its handle.
    pub(super) fn start(&mut self, module: Digest, input: &[u8], options: &AskOptions) -> Result<u32, Errno> {
        self.try_start(module, input, options).map_err(|error| {
            self.refused = text(error.why());
            error.errno()
        })
    }

    fn try_start(&mut self, module: Digest, input: &[u8], options: &AskOptions) -> Result<u32, AskError> {
        let refuse = |check: &str, claim: &str| Rejection::new(&format!("delegate.{check}"), claim.to_owned());
        let Some(with) = &self.with else {
            return Err(AskError::NotAllowed(
                refuse("allowed", "whether this execution may have parts run by others")
                    .expected("a fragment with `delegates`, and grants with `delegable`")
                    .got("one without")
                    .fix("say in the request what may be handed on, and grant it"),
            ));
        };
        if self.open.len() >= OPEN_MAX || self.given >= ASKED_MAX {
            return Err(AskError::TooMany(
                refuse("open", "questions open, and asked in all")
                    .expected(format!("less than {OPEN_MAX} and {ASKED_MAX}"))
                    .got(format!("{} and {}", self.open.len(), self.given))
                    .fix("close what was read, or ask more at once"),
            ));
        }
        let output = options.output.unwrap_or(OUTPUT_DEFAULT);
        // How many it may be at all is judged where it is handed on.
        let copies = with.copies(options).clamp(1, REPLICAS_MAX);
        let share = output.0.saturating_mul(copies.into()).saturating_add(input.len() as u64);
        let held = self.held.saturating_add(share);
        if held > self.room {
            // What the grants ask for is not the same everywhere.
            self.starved |= options.assurance.is_none() && copies > 1;
            return Err(AskError::TooMany(
                refuse("room", "bytes of inputs of open questions, and of outputs of all who run them")
                    .expected(format!("at most {}, the memory of the run", Bytes(self.room)))
                    .got(Bytes(held))
                    .fix("close what was read, allow less output or fewer replicas, or ask for more memory"),
            ));
        }
        let question = Digest::of_parts(&[DOMAIN, self.seed.as_slice(), &self.given.to_le_bytes()]);
        let left = self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        let within = left.saturating_sub(MARGIN.min(left / 10));
        // What it depends on whether it is handed on, grants, loans and the moment, is not the same everywhere.
        let name =
            with.ask(&Ask { question, module, input, options, output, within }).inspect_err(|_| self.starved = true)?;
        let handle = self.given;
        self.given = handle.saturating_add(1);
        self.held = held;
        self.open.insert(handle, Open { question: name, held: share, state: State::Asked });
        Ok(handle)
    }

    /// Waits a little for the end of a question: bytes of its answer, if it has one by now.
    ///
    /// # Errors
    /// Why the run ends instead; within it, what the module is answered.
    pub(super) fn wait(&mut self, handle: u32) -> Result<Option<Result<u32, Errno>>, RunFailure> {
        let Some(open) = self.open.get_mut(&handle) else { return Ok(Some(Err(Errno::BADF))) };
        if matches!(open.state, State::Asked) {
            if self.cancel.is_cancelled() {
                return Err(RunFailure::Cancelled);
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Err(RunFailure::Deadline);
            }
            let Some(ended) = self.with.as_ref().and_then(|with| with.wait(open.question, SLICE)) else {
                return Ok(None);
            };
            let (state, left) = match ended {
                Ok(output) => {
                    let left = output.len() as u64;
                    (State::Answered { output, at: 0 }, left)
                }
                Err(error) => {
                    self.starved |= !matches!(error, AskError::Failed(_));
                    (State::Failed { errno: error.errno(), why: text(error.why()) }, 0)
                }
            };
            open.state = state;
            // What arrived is no more than was set aside for it; the input is gone.
            self.held = self.held.saturating_sub(open.held).saturating_add(left);
            open.held = left;
        }
        Ok(Some(match &open.state {
            State::Answered { output, .. } => u32::try_from(output.len()).map_err(|_| Errno::MSGSIZE),
            State::Failed { errno, .. } => Err(*errno),
            State::Asked => Err(Errno::AGAIN),
        }))
    }

    /// Whether what the module was told is perhaps not what it would be told elsewhere.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// What of an answer was not read.
    pub(super) fn rest(&self, handle: u32) -> Result<&[u8], Errno> {
        match self.open.get(&handle).map(|open| &open.state) {
            Some(State::Answered { output, at }) => Ok(output.get(*at..).unwrap_or_default()),
            Some(State::Failed { errno, .. }) => Err(*errno),
            Some(State::Asked) => Err(Errno::AGAIN),
            None => Err(Errno::BADF),
        }
    }

    /// So much of it was read.
    pub(super) fn advance(&mut self, handle: u32, read: usize) {
        if let Some(Open { state: State::Answered { output, at }, .. }) = self.open.get_mut(&handle) {
            *at = at.saturating_add(read).min(output.len());
        }
    }

    /// Why a question failed; without a handle, why the last was not asked.
    pub(super) fn why(&self, handle: Option<u32>) -> Result<&str, Errno> {
        let Some(handle) = handle else { return Ok(&self.refused) };
        match self.open.get(&handle).map(|open| &open.state) {
            Some(State::Failed { why, .. }) => Ok(why),
            Some(State::Answered { .. } | State::Asked) => Ok(""),
            None => Err(Errno::BADF),
        }
    }

    /// Gives the answer of a question that was waited for, which is over then; why it has none is kept for whoever asks.
    pub(super) fn take(&mut self, handle: u32) -> Result<Zeroizing<Vec<u8>>, Errno> {
        let Some(open) = self.open.remove(&handle) else {
            self.misread("question", "one that was started and whose answer was not given yet", handle);
            return Err(Errno::BADF);
        };
        self.held = self.held.saturating_sub(open.held);
        self.forget(&open);
        match open.state {
            State::Answered { output, .. } => Ok(output),
            State::Failed { errno, why } => {
                self.refused = why;
                Err(errno)
            }
            State::Asked => Err(Errno::AGAIN),
        }
    }

    /// Forgets a question, answered or not.
    pub(super) fn close(&mut self, handle: u32) -> Result<(), Errno> {
        let open = self.open.remove(&handle).ok_or(Errno::BADF)?;
        self.held = self.held.saturating_sub(open.held);
        self.forget(&open);
        Ok(())
    }

    fn forget(&self, open: &Open) {
        if let (State::Asked, Some(with)) = (&open.state, &self.with) {
            with.forget(open.question);
        }
    }
}

impl Drop for Asking {
    /// The run is over: nobody waits any more.
    fn drop(&mut self) {
        self.open.values().for_each(|open| self.forget(open));
    }
}

/// A reason as a module reads it, cut between characters.
fn text(why: &Rejection) -> String {
    let mut text = why.to_string();
    let mut end = text.len().min(WHY_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
    text
}
