//! The transparency log of the journal's statements: an RFC 6962 tree over the digests of their envelopes (`legation-log`).
//!
//! ```text
//!  journal ──► records, by a door of its own ──► keeper (a thread) ──► log.sqlite: tiles, entries, positions
//!                                                    │                         │
//!                                                    └── checkpoint, signed ──►│──► API, agents
//!                                                        KEY.last ◄── first
//! ```
//! 1. The log is a view of the journal: [`leaves`] says what a record adds, records come in the order of their positions, a digest
//!    is an entry where it first stands. So every manager of a journal has the same log, whatever store the journal is in, and
//!    `log.sqlite` may be removed: it is made again, the same to the byte.
//! 2. Only durable records are read, and on a thread of its own: neither deciding nor writing waits for it.
//! 3. A checkpoint is signed when its tree is in the file, and given out when it is in the mark beside the key. What was signed binds:
//!    where the journal no longer has the last record that the log has taken up, or does not lead to what the mark says (a backup was
//!    restored), or to what an agent was shown, nothing is signed any more, and that is said; the alternative is a fork. Both are
//!    looked at each time, not at the start alone. An older tree is signed again only when it is shown to be the beginning of the
//!    latest.
//! 4. Whoever reads needs no token: there are digests here, and nothing else.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Digest, Envelope, PublicKey, Rejection, Signer, logged::Logged};
use legation_log::{
    Checkpoint, Consistency, Inclusion, KeyKind, NoteError, NoteKey, Prover, SignedCheckpoint, TileFault, TilePath,
    cose, leaf_hash, receipt::Section,
};
use legation_pool::Event;
use tokio::sync::watch;

use crate::journal::{JournalError, Records};

mod keeper;
mod mark;
mod store;

use keeper::Keeper;
use mark::Mark;
use store::{SqliteTiles, position};

/// The file in a manager's data folder.
const FILE: &str = "log.sqlite";
/// What the name of the mark has after that of the key.
const MARK: &str = ".last";
/// What helps against a journal that lost its end.
const RESTORE: &str =
    "restore a newer copy of the journal; a log that goes on from here has forked, and needs another origin and key";
/// Most statements that are proved at once: those of the largest receipt.
pub const PROOFS_MAX: usize = legation_core::receipt::ENVELOPES_MAX;

/// Digests of the envelopes that an event adds to the log, in order. What makes a statement believable comes before it.
pub fn leaves(event: &Event) -> Vec<Digest> {
    match event {
        Event::TermBegan { appointment } => vec![appointment.digest()],
        Event::Attested { passport, appointment, .. } => vec![appointment.digest(), passport.digest()],
        Event::Submitted { request, .. } => vec![request.digest()],
        Event::Granted { grant, .. } => vec![grant.digest()],
        Event::Leased { allocation } | Event::Lent { allocation, .. } => vec![allocation.digest()],
        Event::Reported { report, aggregate, attached, .. } => {
            let own = std::iter::once(report.digest()).chain(aggregate.iter().map(|aggregate| aggregate.digest()));
            attached.iter().map(Envelope::digest).chain(own).collect()
        }
        Event::Proved { statement, .. } => vec![statement.digest()],
        Event::SwarmSeated { seating } => vec![seating.digest()],
        Event::SwarmJoined { membership } => vec![membership.digest()],
        Event::CharterSet { charter, .. } => vec![charter.digest()],
        Event::CustodyCalled { call, .. } => vec![call.digest()],
        Event::CustodySaid { word, .. } => vec![word.digest()],
        _ => Vec::new(),
    }
}

/// Why the log does not go on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file failed.
    #[error("transparency log could not {what}: {source}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: rusqlite::Error,
    },
    /// Its tiles do not make the tree that it remembers.
    #[error("transparency log does not hold together: {0}; remove {FILE}, and it is made again from the journal")]
    Damaged(String),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal has not the record that the log ends with.
    #[error("the journal's record {seq} is not the one that the transparency log has taken up")]
    OtherJournal {
        /// Its position.
        seq: u64,
    },
    /// The journal has fewer statements than were signed.
    #[error("the journal makes a transparency log of {size} entries, and one of {signed} was signed")]
    Behind {
        /// Entries of the log.
        size: u64,
        /// Entries of the largest checkpoint that is known to be signed.
        signed: u64,
    },
    /// The log begins otherwise than what was signed.
    #[error("the transparency log does not begin with the {size} entries that were signed")]
    OtherPast {
        /// Entries of the largest checkpoint that is known to be signed.
        size: u64,
    },
    /// The mark beside the key failed.
    #[error("mark of the transparency log {path}: {source}", path = path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The mark beside the key is not one of this log.
    #[error("mark of the transparency log {path}: {why}", path = path.display())]
    OtherMark {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: NoteError,
    },
    /// Its name cannot be one.
    #[error("transparency log cannot sign: {0}")]
    Name(#[from] NoteError),
    /// No thread.
    #[error("thread could not be started: {0}")]
    Thread(std::io::Error),
}

impl LogError {
    fn store(what: &'static str) -> impl Fn(rusqlite::Error) -> Self + Copy {
        move |source| Self::Store { what, source }
    }

    fn tiles(fault: TileFault<rusqlite::Error>) -> Self {
        match fault {
            TileFault::Store(source) => Self::Store { what: "be read", source },
            other => Self::Damaged(other.to_string()),
        }
    }

    /// The same as clients and operators read it.
    pub fn refusal(&self) -> Rejection {
        match self {
            Self::OtherJournal { seq } => {
                Rejection::new("log.journal", "journal that the transparency log is a view of")
                    .expected(format!("the record {seq} that was logged, or later ones after it"))
                    .got("none, or another: the journal lost its end, or was replaced")
                    .fix(RESTORE)
            }
            Self::Behind { size, signed } => {
                Rejection::new("log.journal", "journal that the transparency log is a view of")
                    .expected(format!("statements that make a log of {signed} entries, as was signed, or a larger one"))
                    .got(format!("{size}: the journal lost its end, or was replaced"))
                    .fix(RESTORE)
            }
            Self::OtherPast { size } => Rejection::new("log.journal", "past of the transparency log")
                .expected(format!("the {size} entries that were signed"))
                .got("others: the journal lost its end and went on, or was replaced")
                .fix(format!("remove {FILE} and {RESTORE}")),
            Self::Mark { .. } => Rejection::new("log.mark", "file that says what the log's key has signed")
                .expected("one that can be read and written, in the folder of the key")
                .got(self)
                .fix("let the manager write in the folder of the key: nothing is signed that is not noted there first"),
            Self::OtherMark { .. } => Rejection::new("log.mark", "file that says what the log's key has signed")
                .expected("a checkpoint of this log")
                .got(self)
                .fix("restore it; where origin or key are new on purpose, move it away"),
            other => Rejection::new("log.store", "the transparency log").got(other).fix("try again in a moment"),
        }
    }
}

/// The door to the log; cheap to clone. The thread behind it ends with the last of them.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    key: NoteKey,
    signer: Arc<dyn Signer>,
    now: watch::Sender<Option<Arc<SignedCheckpoint>>>,
    prover: Mutex<Prover<SqliteTiles<rusqlite::Connection>>>,
    fault: Mutex<Option<Rejection>>,
    /// The largest checkpoint that somebody showed, until the keeper has taken it up.
    shown: Mutex<Option<SignedCheckpoint>>,
}

impl Log {
    /// Opens or makes the log in this folder, and follows the journal behind `records`. `key_file` is where the key of `signer` comes
    /// from: the mark of what it has signed is beside it, with `.last` after its name.
    ///
    /// # Errors
    /// The file or the mark cannot be used, or the origin is no name.
    pub fn start(
        folder: &Path,
        origin: &str,
        key_file: &Path,
        signer: Arc<dyn Signer>,
        records: Box<dyn Records>,
    ) -> Result<Self, LogError> {
        let path = folder.join(FILE);
        let writer = store::open(&path)?;
        let prover = Mutex::new(Prover::new(SqliteTiles(store::open(&path)?)));
        let key = NoteKey::new(origin, KeyKind::Log, signer.public_key())?;
        let mark = Mark::read(mark::beside(key_file, MARK), &key)?;
        let (fault, shown) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { key, signer, now: watch::Sender::new(None), prover, fault, shown });
        let mut keeper = Keeper::new(writer, records, mark, Arc::downgrade(&shared))?;
        std::thread::Builder::new().name("log".to_owned()).spawn(move || keeper.run()).map_err(LogError::Thread)?;
        Ok(Self(shared))
    }

    /// The log's key, as readers know it.
    pub fn key(&self) -> &NoteKey {
        &self.0.key
    }

    /// The log's public key.
    pub fn public_key(&self) -> PublicKey {
        *self.0.key.key()
    }

    /// The latest checkpoint, as it changes; nothing before the first.
    pub fn checkpoints(&self) -> watch::Receiver<Option<Arc<SignedCheckpoint>>> {
        self.0.now.subscribe()
    }

    /// The latest checkpoint.
    ///
    /// # Errors
    /// `log.journal`, `log.store`; there is none yet.
    pub fn checkpoint(&self) -> Result<Arc<SignedCheckpoint>, Rejection> {
        if let Some(why) = self.0.fault().clone() {
            return Err(why);
        }
        let none =
            || Rejection::new("log.store", "the transparency log").got("being made").fix("try again in a moment");
        self.0.now.borrow().clone().ok_or_else(none)
    }

    /// Hears of a checkpoint that somebody remembers. One by this log's key that is larger than any known here binds this log too:
    /// until the journal leads to it, nothing is signed.
    ///
    /// # Errors
    /// `log.checkpoint`: it is not one of this log.
    pub fn shown(&self, note: &str) -> Result<(), Rejection> {
        let shown = SignedCheckpoint::open(note, &self.0.key).map_err(|why| {
            Rejection::new("log.checkpoint", "checkpoint of the transparency log that was shown")
                .expected("one that this log signed")
                .got(why)
        })?;
        let mut most = self.0.shown();
        if most.as_ref().is_none_or(|most| most.checkpoint().size < shown.checkpoint().size) {
            *most = Some(shown);
        }
        Ok(())
    }

    fn size(&self) -> Result<u64, Rejection> {
        Ok(self.checkpoint()?.checkpoint().size)
    }

    /// A size that the log has been.
    fn past(&self, asked: Option<u64>) -> Result<u64, Rejection> {
        Self::past_of(self.size()?, asked)
    }

    fn past_of(size: u64, asked: Option<u64>) -> Result<u64, Rejection> {
        match asked {
            Some(asked) if asked > size => Err(Rejection::new("log.size", "entries of the log")
                .expected(format!("at most {size}"))
                .got(asked)
                .fix("ask for a smaller size, or again in a moment")),
            asked => Ok(asked.unwrap_or(size)),
        }
    }

    fn prove<T>(
        &self,
        prove: impl FnOnce(&mut Prover<SqliteTiles<rusqlite::Connection>>) -> Result<T, TileFault<rusqlite::Error>>,
    ) -> Result<T, Rejection> {
        let mut prover = self.0.prover.lock().unwrap_or_else(PoisonError::into_inner);
        prove(&mut prover).map_err(|fault| LogError::tiles(fault).refusal())
    }

    /// The checkpoint when the log had `size` entries: the same text and signature as then.
    ///
    /// # Errors
    /// `log.size` where it never had; `log.journal`, `log.store`. Reads the file.
    pub fn checkpoint_at(&self, size: u64) -> Result<SignedCheckpoint, Rejection> {
        let now = self.checkpoint()?;
        let latest = now.checkpoint();
        let size = Self::past_of(latest.size, Some(size))?;
        if size == latest.size {
            return Ok(SignedCheckpoint::clone(&now));
        }
        // A tile that is wrong must not become a second past: only the beginning of what was signed is signed.
        let (root, proof) = self.prove(|prover| Ok((prover.root(size)?, prover.consistency(size, latest.size)?)))?;
        proof.verify(&root, &latest.root).map_err(|why| LogError::Damaged(why.to_string()).refusal())?;
        let checkpoint = Checkpoint { origin: self.0.key.name().to_owned(), size, root };
        checkpoint.sign(&*self.0.signer).map_err(|e| LogError::from(e).refusal())
    }

    /// The bytes of a tile or a bundle of entries; nothing where the log is not as large.
    ///
    /// # Errors
    /// `log.journal`, `log.store`. Reads the file.
    pub fn tile(&self, path: TilePath) -> Result<Option<Vec<u8>>, Rejection> {
        if path.tile.width_at(self.size()?) < path.width {
            return Ok(None);
        }
        self.prove(|prover| prover.tile(path.tile, path.width)).map(Some)
    }

    /// That an envelope is in the log of `size` entries; nothing where it is not.
    fn find(&self, digest: &Digest, size: u64) -> Result<Option<Inclusion>, Rejection> {
        self.prove(|prover| {
            let found = position(&prover.tiles().0, digest).map_err(TileFault::Store)?;
            found.filter(|position| *position < size).map(|position| prover.inclusion(position, size)).transpose()
        })
    }

    /// That an envelope is in the log, of all its entries or of the first `size`.
    ///
    /// # Errors
    /// `log.unknown`, `log.size`, `log.journal`, `log.store`. Reads the file.
    pub fn inclusion(&self, digest: &Digest, size: Option<u64>) -> Result<Inclusion, Rejection> {
        let size = self.past(size)?;
        self.find(digest, size)?.ok_or_else(|| {
            Rejection::new("log.unknown", "statement in the transparency log")
                .expected(format!("the digest of an envelope among its {size} entries"))
                .got(digest)
                .fix("the journal's last records take a moment; statements of other pools are in other logs")
        })
    }

    /// That the log of `old` entries is the beginning of the one of `new`, or of all.
    ///
    /// # Errors
    /// `log.size`, `log.journal`, `log.store`. Reads the file.
    pub fn consistency(&self, old: u64, new: Option<u64>) -> Result<Consistency, Rejection> {
        let new = self.past(new)?;
        if old > new {
            let why = Rejection::new("log.size", "entries of the older tree");
            return Err(why.expected(format!("at most {new}")).got(old));
        }
        self.prove(|prover| prover.consistency(old, new))
    }

    /// What the log of `new` entries begins with, for whoever remembers the one of `old`: see [`Prover::beginning`]. Nothing
    /// where there is nothing to show: of an empty tree, of the same, or of a larger one.
    ///
    /// # Errors
    /// `log.size`, `log.journal`, `log.store`. Reads the file.
    pub fn beginning(&self, old: u64, new: u64) -> Result<(Option<Digest>, Vec<Digest>), Rejection> {
        let new = self.past(Some(new))?;
        if old == 0 || old >= new {
            return Ok((None, Vec::new()));
        }
        self.prove(|prover| prover.beginning(old, new)).map(|(seed, path)| (Some(seed), path))
    }

    /// The `log` section of a receipt with these envelopes: with nothing for those that are no entries.
    ///
    /// # Errors
    /// `log.proofs`: too many, or one twice; `log.size`, `log.journal`, `log.store`. Reads the file.
    pub fn section(&self, digests: &[Digest], size: Option<u64>) -> Result<Logged, Rejection> {
        let why = || Rejection::new("log.proofs", "statements that are proved at once");
        if digests.len() > PROOFS_MAX {
            return Err(why().expected(format!("at most {PROOFS_MAX}")).got(digests.len()));
        }
        let mut distinct = BTreeSet::new();
        if let Some(twice) = digests.iter().find(|digest| !distinct.insert(**digest)) {
            return Err(why().expected("each once, as in a receipt").got(format!("{twice} twice")));
        }
        let checkpoint = match size {
            Some(size) => self.checkpoint_at(size)?,
            None => SignedCheckpoint::clone(&*self.checkpoint()?),
        };
        let mut section = Section::default();
        for digest in digests {
            section.add(self.find(digest, checkpoint.checkpoint().size)?.as_ref());
        }
        Ok(section.finish(checkpoint.note()))
    }

    /// A COSE receipt (RFC 9942) that an envelope is in the log.
    ///
    /// # Errors
    /// As [`Self::inclusion`].
    pub fn cose(&self, digest: &Digest) -> Result<Vec<u8>, Rejection> {
        let now = self.checkpoint()?;
        let proof = self.inclusion(digest, Some(now.checkpoint().size))?;
        // What is signed is the root that the proof leads to: it must be the one that was signed.
        let held = proof.verify(&leaf_hash(digest.as_bytes()), &now.checkpoint().root);
        held.map_err(|why| LogError::Damaged(why.to_string()).refusal())?;
        cose::sign(&proof, digest.as_bytes(), &*self.0.signer)
    }
}

impl Shared {
    fn shown(&self) -> MutexGuard<'_, Option<SignedCheckpoint>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> MutexGuard<'_, Option<Rejection>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
