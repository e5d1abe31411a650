//! What an agent keeps over restarts: on its host's disk, which anybody there reads, changes, removes and puts back, sealed to the machine
//! and to what is measured of it.
//!
//! A boot is a new enclave with new keys, and most agents keep nothing. A custodian keeps its share and what it has said in ceremonies
//! (opaque here: [`Keep`]), the identity keys by which committees know it, and how often it was opened: its incarnation, which rises by one
//! at each [`State::open`] before anything is given out. The peers remember it ([`legation_core::custody`]): what a disk that was put back
//! holds is sealed well and still too old, and only they can tell.
//!
//! Checks on opening; a file that fails one is an error, and never taken for none:
//! 1. the folder is no link and nobody else's to write, and no other process has it;
//! 2. the file has at most [`FILE_MAX`] bytes, and exactly as many as it says, in a version that is read here;
//! 3. it is for this purpose, and sealed to this kind of machine;
//! 4. the machine gives a key for it, and that is its key;
//! 5. what is sealed is authentic, together with everything that stands before it.
//!
//! * [`Sealer`]: what gives keys. A development chip (`dev`, worth nothing) and a TPM (`tpm`, feature `tpm`) do; SEV-SNP, TDX and Nitro
//!   do not here. [`Attester::sealer`] has the one of this machine.
//! * `file`: the format. [`Disk`]: replaces a file whole or not at all.
//!
//! docs/state.md says what a host can do all the same.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use legation_attest::dev::DevelopmentError;
use legation_core::{PublicKey, Signer, claims::TeeKind};
use legation_keys::{Entropy, IdentityKey};
use legation_net::OsEntropy;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    attester::{Attester, TpmError},
    custody::keep::{Keep, KeepError},
};

mod dev;
mod disk;
mod file;
#[cfg(feature = "tpm")]
mod tpm;

pub use disk::{Disk, Folder};
pub use file::{FILE_MAX, Flaw, IDENTITIES_MAX, KEPT_MAX, VERSION};

use file::{Contents, Head};

/// Longest purpose, in bytes.
pub const PURPOSE_MAX: usize = 80;
/// Most bytes by which a [`Sealer`] knows a key again.
pub const BLOB_MAX: usize = 4096;
/// What to do about a file that nothing opens any more.
const LOST: &str = "if it cannot be had again as it was, remove it: the share in it is lost, and the committee changes without this member";

/// A key that files are sealed with; wiped when dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// `[state]`: where an agent keeps what it needs after a restart.
///
/// ```toml
/// [state]
/// dir = "/var/lib/legation"                 # this agent's alone; relative to the configuration file
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// The folder. It is made, readable by this user alone, where there is none.
    pub dir: PathBuf,
}

impl StateConfig {
    /// What the section should be.
    pub const EXPECTED: &'static str = "`dir`, the path of a folder that is this agent's alone, and no other key";

    /// Reads the section; a path in it is relative to `folder`.
    ///
    /// # Errors
    /// What is there instead of [`Self::EXPECTED`].
    pub fn read(section: toml::Table, folder: &Path) -> Result<Self, String> {
        let read: Self = section.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        if read.dir.as_os_str().is_empty() {
            return Err("an empty `dir`".to_owned());
        }
        Ok(Self { dir: folder.join(read.dir) })
    }
}

/// Gives keys for what runs here: the same ones as long as machine and measurement are the same, and to nothing else.
pub trait Sealer: Send + Sync {
    /// What its keys are bound to.
    fn seals_to(&self) -> TeeKind;

    /// A new key, and what [`Self::key`] gives it for: at most [`BLOB_MAX`] bytes, no secret.
    ///
    /// # Errors
    /// The machine has failed.
    fn new_key(&self, entropy: &mut dyn Entropy) -> Result<(Key, Vec<u8>), SealError>;

    /// The key that `blob` came with. Where another machine or program made it this is an error, or another key.
    ///
    /// # Errors
    /// The machine does not give it.
    fn key(&self, blob: &[u8]) -> Result<Key, SealError>;
}

/// Why a machine gives no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Registers of the TPM hold something else.
    #[error(
        "registers of the TPM: expected what they held when it was sealed, got something else: firmware, boot or program differ, or others \
         are configured; boot what was booted then. {LOST}"
    )]
    OtherSoftware,
    /// The TPM does not know it.
    #[error(
        "TPM: expected the one that sealed it, got another, or one that was cleared since, or it was altered. {LOST}"
    )]
    OtherMachine,
    /// It is nothing that a sealer of this kind made.
    #[error("what its key is had for has not the form it should have. {LOST}")]
    Malformed,
    /// The TPM failed.
    #[error("TPM: {0}")]
    Tpm(#[from] TpmError),
    /// The development chip failed.
    #[error("development chip: {0}")]
    Development(#[from] DevelopmentError),
}

/// Why there is no state, or it was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The folder cannot be had.
    #[error("folder of sealed state {}: {source}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk failed.
    #[error("{}: cannot be {what}: {source}; make room, or mend the disk: nothing that rests on it is said meanwhile", file.display())]
    Disk {
        /// Which file.
        file: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is wrong with the file, or with what is to be kept.
    #[error("{}: {flaw}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What.
        flaw: Flaw,
    },
    /// The machine gives no key.
    #[error("{}: {source}", file.display())]
    Seal {
        /// Of which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: SealError,
    },
    /// Not what state can be for.
    #[error(
        "purpose of sealed state: expected 1 to {PURPOSE_MAX} of a-z, 0-9, `-` and `.`, not beginning with `.`, got `{0}`"
    )]
    Purpose(String),
    /// This kind of machine gives no keys here.
    #[error(
        "machine to seal state to: expected tpm, dev-tpm or dev-snp, got {0}; remove `[state]`: then a restart loses this custodian's share"
    )]
    Unsealable(TeeKind),
}

/// What an agent keeps over restarts.
pub struct State {
    disk: Box<dyn Disk>,
    name: String,
    head: Head,
    key: Key,
    contents: Contents,
}

impl State {
    /// Opens what is kept for `purpose` (such as `custody.main`) in the configured folder, or begins it, and counts that it did. Blocks:
    /// as long as writing to the disk takes, and where a TPM seals up to seconds.
    ///
    /// # Errors
    /// The machine gives no keys, the checks of this module, the disk.
    pub fn open(config: &StateConfig, purpose: &str, attester: &dyn Attester) -> Result<Self, StateError> {
        let sealer = attester.sealer().ok_or(StateError::Unsealable(attester.kind()))?;
        let folder = Folder::open(&config.dir);
        let folder = folder.map_err(|source| StateError::Folder { folder: config.dir.clone(), source })?;
        Self::open_on(Box::new(folder), purpose, sealer)
    }

    /// Opens it on another disk.
    ///
    /// # Errors
    /// The checks of this module; the disk.
    pub fn open_on(mut disk: Box<dyn Disk>, purpose: &str, sealer: &dyn Sealer) -> Result<Self, StateError> {
        if !file::is_purpose(purpose) {
            return Err(StateError::Purpose(purpose.chars().take(PURPOSE_MAX).collect()));
        }
        let name = format!("{purpose}.sealed");
        let file = disk.folder().join(&name);
        let flawed = |flaw| StateError::File { file: file.clone(), flaw };
        let unsealed = |source| StateError::Seal { file: file.clone(), source };
        let kind = sealer.seals_to();
        let found = disk.read(&name, FILE_MAX);
        let found = found.map_err(|source| StateError::Disk { file: file.clone(), what: "read", source })?;
        let (mut head, key, contents) = if let Some(mut bytes) = found {
            let (head, frame) = file::parse(&bytes).map_err(flawed)?;
            if head.purpose != purpose {
                return Err(flawed(Flaw::Purpose { expected: purpose.to_owned(), got: head.purpose }));
            }
            if head.kind != kind {
                return Err(flawed(Flaw::Kind { expected: kind, got: head.kind }));
            }
            let key = sealer.key(&head.blob).map_err(unsealed)?;
            let contents = file::open(&mut bytes, &frame, &key).map_err(flawed)?;
            (head, key, contents)
        } else {
            tracing::info!(file = %file.display(), "no sealed state here: it begins anew");
            let (key, blob) = sealer.new_key(&mut OsEntropy).map_err(unsealed)?;
            (Head { kind, purpose: purpose.to_owned(), incarnation: 0, blob }, key, Contents::default())
        };
        head.incarnation = head.incarnation.saturating_add(1);
        let mut state = Self { disk, name, head, key, contents: Contents::default() };
        state.put(contents)?;
        let incarnation = state.head.incarnation;
        if kind.is_development() {
            tracing::warn!(
                file = %file.display(), incarnation, %kind,
                "DEVELOPMENT: state is sealed to a development chip or TPM. That protects NOTHING from whoever reads the host's disk"
            );
        } else {
            tracing::info!(file = %file.display(), incarnation, %kind, "sealed state is open");
        }
        Ok(state)
    }

    /// How often it was opened, this time included: 1 where it began now.
    pub fn incarnation(&self) -> u64 {
        self.head.incarnation
    }

    /// What it is sealed to.
    pub fn sealed_to(&self) -> TeeKind {
        self.head.kind
    }

    /// The identity keys that are kept, by their public halves; oldest first.
    pub fn identities(&self) -> impl Iterator<Item = PublicKey> {
        self.contents.identities.iter().map(|identity| identity.public_key())
    }

    /// The identity key of an earlier boot, or of this, if it is kept: what a committee knows this custodian by signs a
    /// [`Return`](legation_core::custody::Return) together with the key of this boot.
    pub fn identity(&self, key: PublicKey) -> Option<Arc<IdentityKey>> {
        self.contents.identities.iter().find(|identity| identity.public_key() == key).cloned()
    }

    /// Keeps an identity key, before anybody rests on this boot's coming back: a member that was called keeps its own before it answers.
    ///
    /// # Errors
    /// There are [`IDENTITIES_MAX`] already, or the disk.
    pub fn keep_identity(&mut self, identity: &Arc<IdentityKey>) -> Result<(), StateError> {
        if self.identity(identity.public_key()).is_some() {
            return Ok(());
        }
        let mut contents = self.contents.clone();
        contents.identities.push(identity.clone());
        self.put(contents)
    }

    /// Forgets the identity keys that are not `needed`: by no roster and no call.
    ///
    /// # Errors
    /// The disk: then none is forgotten.
    pub fn forget_identities(&mut self, needed: impl Fn(PublicKey) -> bool) -> Result<(), StateError> {
        let mut contents = self.contents.clone();
        contents.identities.retain(|identity| needed(identity.public_key()));
        if contents.identities.len() == self.contents.identities.len() {
            return Ok(());
        }
        self.put(contents)
    }

    /// Writes these contents; only then they are this state's.
    fn put(&mut self, contents: Contents) -> Result<(), StateError> {
        let file = || self.disk.folder().join(&self.name);
        let bytes = file::write(&self.head, &self.key, &contents, &mut OsEntropy);
        let bytes = bytes.map_err(|flaw| StateError::File { file: file(), flaw })?;
        let file = file();
        let written = self.disk.write_aside(&self.name, &bytes).map_err(|source| ("written", source));
        let replaced =
            written.and_then(|()| self.disk.rename(&self.name).map_err(|source| ("put in its place", source)));
        replaced.map_err(|(what, source)| StateError::Disk { file, what, source })?;
        self.contents = contents;
        Ok(())
    }
}

impl Keep for State {
    fn load(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, KeepError> {
        Ok(self.contents.kept.clone())
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        let identities = self.contents.identities.clone();
        let contents = Contents { identities, kept: Some(Zeroizing::new(bytes.to_vec())) };
        self.put(contents).map_err(|error| KeepError(error.to_string()))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { kind, purpose, incarnation, .. } = &self.head;
        write!(f, "State({purpose}, incarnation {incarnation}, sealed to {kind})")
    }
}
