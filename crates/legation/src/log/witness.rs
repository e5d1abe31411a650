//! A witness as a process: asks logs how far they are, checks, signs, remembers, and serves what it signed.
//!
//! ```text
//!  log ── checkpoint, consistency ──►│ judge ─► state file, synced ─► remembered ─► signature │──► GET checkpoint?origin=O
//!  anybody ── POST add-checkpoint ──►│                 under one lock                        │──► 200, cosignature
//! ```
//! What it remembers is one JSON file, replaced whole: written aside, synced, renamed, folder synced. A witness without its memory must
//! not sign: it could sign a second past. So a new one is begun on purpose ([`State::begin`]), and a file that is gone stops it; so
//! does another process that has it, because two memories are two witnesses with one key.
//! Evidence of a fork is kept beside that file, whatever happens next.
//!
//! The disk is written on threads that may block, from judging to remembering, whoever still waits for the answer; few requests are
//! taken at once, and the same tree is signed again without writing anything.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Query, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use legation_core::{Digest, Signer, UnixTime};
use legation_log::{
    AddCheckpoint, Fork, KeyKind, Note, NoteKey, Refused, Witness,
    witness::{REQUEST_MAX, Seen},
};
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::{
    client::Client,
    exit::{Exit, Failure},
    log::{fork_by_tiles, open},
};

/// Longest state file read, in bytes.
const STATE_MAX: u64 = 64 << 20;
/// Requests judged at once; one more is told to come again.
const TURNS_MAX: usize = 4;

/// The file in which a witness remembers, and the only hold of it.
pub struct State {
    path: PathBuf,
    seen: BTreeMap<String, Seen>,
    /// Held for as long as this is.
    _lock: File,
}

impl State {
    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, is not what a witness wrote, or another witness has it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let lock = hold(path)?;
        let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", path.display()));
        let size = fs::metadata(path).map_err(|e| wrong(&format!("{e}; a new witness is begun with --begin")))?.len();
        if size > STATE_MAX {
            return Err(wrong(&"longer than anything that a witness remembers"));
        }
        let text = fs::read(path).map_err(|e| wrong(&e))?;
        let seen = serde_json::from_slice(&text).map_err(|e| wrong(&e))?;
        Ok(Self { path: path.to_owned(), seen, _lock: lock })
    }

    /// Begins a witness that has signed nothing.
    ///
    /// # Errors
    /// The file is there, cannot be written, or another witness has it.
    pub fn begin(path: &Path) -> Result<Self, Failure> {
        let lock = hold(path)?;
        if path.exists() {
            let text = format!("{} is there: a witness that begins anew forgets what it signed", path.display());
            return Err(Failure::new(Exit::Usage, text));
        }
        let state = Self { path: path.to_owned(), seen: BTreeMap::new(), _lock: lock };
        state.write(&state.seen).map_err(|e| Failure::new(Exit::Failure, format!("{}: {e}", path.display())))?;
        Ok(state)
    }

    /// Replaces the file; what was in it is there until the new one is whole.
    fn write(&self, seen: &BTreeMap<String, Seen>) -> std::io::Result<()> {
        replace(&self.path, &serde_json::to_vec_pretty(seen).unwrap_or_default())
    }

    /// Keeps evidence against the log of `key` beside the file, unless some is there; gives where.
    fn keep(&self, fork: &Fork, key: &NoteKey) -> std::io::Result<PathBuf> {
        let plain: String = key.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        // Two names may be plainly the same: each log has a file of its own.
        let own = Digest::of(key.name().as_bytes()).short();
        let path = self.path.with_extension(format!("fork-{plain}-{own}.json"));
        let kept = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Fork>(&text).ok());
        if kept.is_none_or(|kept| kept.verify(key).is_err()) {
            replace(&path, &serde_json::to_vec_pretty(fork).unwrap_or_default())?;
        }
        Ok(path)
    }
}

/// The lock of a state file, which is a file beside it: the state itself is replaced.
fn hold(path: &Path) -> Result<File, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let beside = PathBuf::from(name);
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", beside.display()));
    let lock = File::options().create(true).truncate(false).write(true).open(&beside).map_err(|e| wrong(&e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let text = format!("{} is the memory of a witness that runs: two would sign two pasts", path.display());
            Err(Failure::new(Exit::Usage, text))
        }
        Err(TryLockError::Error(e)) => Err(wrong(&e)),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = path.with_extension("new");
    let mut file = fs::File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    fs::File::open(folder)?.sync_all()
}

/// A running witness.
pub struct Running {
    name: String,
    signer: Arc<dyn Signer>,
    clock: Box<dyn Fn() -> UnixTime + Send + Sync>,
    /// Whom it tells what happens.
    told: Box<dyn Fn(&str) + Send + Sync>,
    /// Never held while the disk is written.
    witness: Mutex<Witness>,
    /// Held from judging to remembering, on threads that may block.
    state: Mutex<State>,
    /// Of requests from outside.
    turns: Arc<Semaphore>,
}

impl Running {
    /// A witness of this name over what it remembers.
    ///
    /// # Errors
    /// What it remembers was signed under other keys, or the name is none.
    pub fn new(
        name: &str,
        signer: Arc<dyn Signer>,
        logs: Vec<NoteKey>,
        state: State,
        clock: impl Fn() -> UnixTime + Send + Sync + 'static,
        told: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let wrong = |e| Failure::new(Exit::Usage, format!("witness `{name}`: {e}"));
        NoteKey::new(name, KeyKind::Witness, signer.public_key()).map_err(wrong)?;
        let witness = Witness::new(name, logs, state.seen.clone()).map_err(wrong)?;
        let (witness, state) = (Mutex::new(witness), Mutex::new(state));
        let turns = Arc::new(Semaphore::new(TURNS_MAX));
        Ok(Self { name: name.to_owned(), signer, clock: Box::new(clock), told: Box::new(told), witness, state, turns })
    }

    fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The witness's key, as readers know it.
    pub fn key(&self) -> Option<NoteKey> {
        NoteKey::new(&self.name, KeyKind::Witness, self.signer.public_key()).ok()
    }

    /// Judges a request, remembers, and signs; on a thread that may block, and to its end: a write that somebody no longer waits for
    /// must not come after another's. Its turn, where it needs one, is over then, and not before.
    async fn add(
        self: &Arc<Self>,
        request: AddCheckpoint,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<String, Refusal> {
        let witness = self.clone();
        let added = spawn_blocking(move || {
            let _turn = turn;
            witness.add_here(&request)
        });
        added.await.unwrap_or_else(|e| Err(Refusal::Disk(std::io::Error::other(e))))
    }

    /// [`Self::add`] on this thread.
    fn add_here(&self, request: &AddCheckpoint) -> Result<String, Refusal> {
        let state = self.state();
        let judged = self.witness().judge(request, &*self.signer, (self.clock)());
        match judged {
            Ok(signing) => {
                let (known, mut seen) = {
                    let witness = self.witness();
                    (witness.has_signed(&signing), witness.memory().clone())
                };
                if !known {
                    seen.insert(signing.origin.clone(), signing.seen.clone());
                    // Nothing is given out that is not written.
                    state.write(&seen).map_err(Refusal::Disk)?;
                    (self.told)(&format!("signed {} entries of {}", signing.seen.size, signing.origin));
                }
                self.witness().remember(&signing);
                Ok(signing.signature.to_string())
            }
            Err(why) => {
                if let Refused::Forked(fork) = &why {
                    let origin = request.note.text().lines().next().unwrap_or_default();
                    let key = self.witness().log(origin).cloned();
                    key.iter().for_each(|key| self.convict(&state, fork, key));
                }
                Err(Refusal::Refused(why))
            }
        }
    }

    fn convict(&self, state: &State, fork: &Fork, key: &NoteKey) {
        let origin = key.name();
        match state.keep(fork, key) {
            Ok(path) => (self.told)(&format!(
                "the log {origin} has FORKED: the evidence is in {}; `legation log verify` shows it to anybody",
                path.display()
            )),
            Err(e) => (self.told)(&format!("the log {origin} has FORKED, and the evidence cannot be written: {e}")),
        }
    }

    /// Asks a log how far it is, and signs that; gives the size signed.
    ///
    /// # Errors
    /// The log cannot be reached, or what it says is refused. A fork is kept as evidence first.
    pub async fn poll(self: &Arc<Self>, client: &Client, key: &NoteKey) -> Result<u64, Failure> {
        let refused = |e: &dyn std::fmt::Display| Failure::new(Exit::Receipt, format!("{}: {e}", key.name()));
        let latest = open(&client.log_checkpoint(None).await?, key)?;
        let size = latest.checkpoint().size;
        let seen = self.witness().seen(key.name()).cloned();
        let old = seen.as_ref().map_or(0, |seen| seen.size);
        if size < old {
            return Err(refused(&format!("it has {size} entries, and had {old}")));
        }
        let path = if size == old { Vec::new() } else { client.log_consistency(old, size).await?.proof.path };
        let request = AddCheckpoint { old, path, note: latest.note().clone() };
        match self.add(request, None).await {
            Ok(_) => Ok(size),
            Err(Refusal::Refused(Refused::Unproven { why })) => {
                // Its own tiles show what it begins with, also where the proof does not.
                let Some(before) = seen.and_then(|seen| open(&seen.note, key).ok()) else { return Err(refused(&why)) };
                if let Some(fork) = fork_by_tiles(client, &before, &latest).await? {
                    let (witness, key) = (self.clone(), key.clone());
                    let kept = spawn_blocking(move || witness.convict(&witness.state(), &fork, &key));
                    kept.await.map_err(|e| refused(&e))?;
                }
                Err(refused(&why))
            }
            Err(why) => Err(refused(&why)),
        }
    }

    /// The resources: `POST /add-checkpoint` (c2sp.org/tlog-witness), `GET /checkpoint?origin=O` and `GET /key`. A request that finds
    /// no turn is answered 503.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/add-checkpoint", post(add_checkpoint))
            .route("/checkpoint", get(checkpoint))
            .route("/key", get(key))
            .layer(DefaultBodyLimit::max(REQUEST_MAX))
            .with_state(self.clone())
    }
}

/// Why nothing is given out.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Refused(Refused),
    #[error("what is signed cannot be remembered: {0}")]
    Disk(std::io::Error),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match &self {
            Self::Refused(Refused::Stale { size }) => {
                (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n"))
                    .into_response()
            }
            Self::Refused(why) => {
                let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::BAD_REQUEST);
                (status, format!("{why}\n")).into_response()
            }
            Self::Disk(_) => (StatusCode::INSUFFICIENT_STORAGE, format!("{self}\n")).into_response(),
        }
    }
}

/// Which log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfLog {
    origin: String,
}

async fn add_checkpoint(Shared(witness): Shared<Arc<Running>>, body: String) -> Response {
    let Ok(turn) = witness.turns.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "other requests are judged: try again in a moment\n").into_response();
    };
    match AddCheckpoint::parse(&body) {
        Ok(request) => witness.add(request, Some(turn)).await.into_response(),
        Err(e) => (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response(),
    }
}

async fn checkpoint(Shared(witness): Shared<Arc<Running>>, Query(OfLog { origin }): Query<OfLog>) -> Response {
    let seen = witness.witness().seen(&origin).map(|seen| seen.note.clone());
    match seen.and_then(|note| Note::parse(&note).ok()) {
        Some(note) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note.to_string()).into_response(),
        None => (StatusCode::NOT_FOUND, "nothing of this log was signed here\n").into_response(),
    }
}

async fn key(Shared(witness): Shared<Arc<Running>>) -> Response {
    witness.key().map_or(StatusCode::NOT_FOUND.into_response(), |key| format!("{key}\n").into_response())
}
