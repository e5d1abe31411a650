//! configfs-tsm: the Linux kernel's one door to the report of a confidential guest, whoever made the processor.
//!
//! Source: Documentation/ABI/testing/configfs-tsm (`configfs-tsm-report` since 6.16); in the kernel since 6.7. One report:
//!
//! ```text
//! mkdir ENTRY; read generation; write privlevel, inblob; read provider, outblob, auxblob, generation; rmdir ENTRY
//! ```
//! Every write raises `generation` by one. So it says whether somebody else wrote to the same entry meanwhile: then what was
//! read may be another's report, and all is done again, at most [`TRIES_MAX`] times. An entry has a name of its own (process,
//! count and random), so that should not happen; the report's own copy of what was asked is compared besides.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use legation_keys::Entropy;
use legation_net::OsEntropy;

/// Where the kernel has it.
pub const TSM_REPORT: &str = "/sys/kernel/config/tsm/report";
/// Largest report or quote read, in bytes. A TDX quote has about 5 KiB, a report of SEV-SNP 1184 bytes.
pub const OUTBLOB_MAX: usize = 32 * 1024;
/// Largest table of certificates read, in bytes. The firmware's interface allows 16 KiB.
pub const AUXBLOB_MAX: usize = 64 * 1024;
/// Most tries of one report.
pub const TRIES_MAX: u32 = 5;
/// Largest of the small attributes, in bytes.
const ATTRIBUTE_MAX: usize = 256;
/// Pause between tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The operations on entries of configfs-tsm, so that tests can play the kernel.
pub trait Entries: Send + Sync {
    /// Makes an entry.
    ///
    /// # Errors
    /// As the system says.
    fn make(&self, entry: &str) -> io::Result<()>;

    /// Reads an attribute of it, one byte more than `most` at most.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, entry: &str, attribute: &str, most: usize) -> io::Result<Vec<u8>>;

    /// Writes an attribute of it in one piece; never makes one.
    ///
    /// # Errors
    /// As the system says.
    fn write(&self, entry: &str, attribute: &str, value: &[u8]) -> io::Result<()>;

    /// Removes an entry.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, entry: &str) -> io::Result<()>;
}

/// The kernel's entries in a folder.
#[derive(Clone, Debug)]
pub struct Configfs(PathBuf);

impl Configfs {
    /// Those in `folder`: [`TSM_REPORT`], except in tests.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}

impl Entries for Configfs {
    fn make(&self, entry: &str) -> io::Result<()> {
        fs::create_dir(self.0.join(entry))
    }

    fn read(&self, entry: &str, attribute: &str, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        fs::File::open(self.0.join(entry).join(attribute))?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, entry: &str, attribute: &str, value: &[u8]) -> io::Result<()> {
        // One write call: the kernel takes a blob when the file is closed, and a text at once.
        let mut file = fs::OpenOptions::new().write(true).open(self.0.join(entry).join(attribute))?;
        file.write_all(value)?;
        file.flush()
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        fs::remove_dir(self.0.join(entry))
    }
}

/// Why the kernel gave no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TsmError {
    /// An operation failed.
    #[error("{operation} failed: {source}")]
    Io {
        /// Which.
        operation: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An attribute has more bytes than it may.
    #[error("{attribute} has more than {most} bytes")]
    TooLarge {
        /// Which.
        attribute: &'static str,
        /// The limit.
        most: usize,
    },
    /// An attribute is not what it should be.
    #[error("{attribute} is `{got}`, which is not {expected}")]
    Malformed {
        /// Which.
        attribute: &'static str,
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// Another provider than at the start.
    #[error("provider is `{got}`, expected `{expected}`")]
    Provider {
        /// That of the start.
        expected: String,
        /// That of now.
        got: String,
    },
    /// Others wrote to the same entry, again and again.
    #[error("the entry was written by others in each of {TRIES_MAX} tries")]
    Raced,
}

/// What the kernel gave.
#[derive(Clone, PartialEq, Eq)]
pub struct TsmReport {
    /// The report or quote.
    pub outblob: Vec<u8>,
    /// What came with it: of SEV-SNP, a table of certificates; else nothing.
    pub auxblob: Vec<u8>,
}

impl fmt::Debug for TsmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TsmReport({} bytes, {} bytes beside it)", self.outblob.len(), self.auxblob.len())
    }
}

/// Asks the kernel for reports.
pub struct Tsm<E>(E);

impl<E: Entries> Tsm<E> {
    /// Over these entries.
    pub fn new(entries: E) -> Self {
        Self(entries)
    }

    /// Who makes reports here: `sev_guest`, `tdx_guest`, or another.
    ///
    /// # Errors
    /// There is no such door, or it is closed to this process.
    pub fn provider(&self) -> Result<String, TsmError> {
        Entry::make(&self.0)?.provider()
    }

    /// A report of `provider` over `inblob`, from privilege level 0, or from the lowest level that the kernel admits where a
    /// module below the kernel keeps level 0 for itself.
    ///
    /// # Errors
    /// The kernel gave none, or another provider answers.
    pub fn report(&self, provider: &str, inblob: &[u8; 64]) -> Result<TsmReport, TsmError> {
        for _ in 0..TRIES_MAX {
            match Entry::make(&self.0)?.report(provider, inblob) {
                Ok(Some(report)) => return Ok(report),
                Ok(None) => thread::sleep(PAUSE),
                // The firmware is asked by somebody else just now (EBUSY), or the entry was written to (EWOULDBLOCK).
                Err(TsmError::Io { source, .. }) if busy(&source) => thread::sleep(PAUSE),
                Err(other) => return Err(other),
            }
        }
        Err(TsmError::Raced)
    }
}

fn busy(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}

/// An entry; removed with this.
struct Entry<'a, E: Entries> {
    entries: &'a E,
    name: String,
}

impl<'a, E: Entries> Entry<'a, E> {
    fn make(entries: &'a E) -> Result<Self, TsmError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut random = [0; 8];
        OsEntropy.fill(&mut random);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("legation-{process}-{count}-{:016x}", u64::from_le_bytes(random));
        entries.make(&name).map_err(|source| TsmError::Io { operation: format!("mkdir {name}"), source })?;
        Ok(Self { entries, name })
    }

    fn read(&self, attribute: &'static str, most: usize) -> Result<Vec<u8>, TsmError> {
        let bytes = self
            .entries
            .read(&self.name, attribute, most)
            .map_err(|source| TsmError::Io { operation: format!("reading {attribute}"), source })?;
        if bytes.len() > most { Err(TsmError::TooLarge { attribute, most }) } else { Ok(bytes) }
    }

    /// As [`Self::read`]; nothing where this provider has no such attribute.
    fn read_optional(&self, attribute: &'static str, most: usize) -> Result<Option<Vec<u8>>, TsmError> {
        match self.read(attribute, most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(TsmError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn write(&self, attribute: &'static str, value: &[u8]) -> Result<(), TsmError> {
        self.entries
            .write(&self.name, attribute, value)
            .map_err(|source| TsmError::Io { operation: format!("writing {attribute}"), source })
    }

    fn number(attribute: &'static str, bytes: &[u8]) -> Result<u64, TsmError> {
        let text = String::from_utf8_lossy(bytes);
        let malformed = |_| TsmError::Malformed {
            attribute,
            expected: "a whole number",
            got: text.trim().chars().take(40).collect(),
        };
        text.trim().parse().map_err(malformed)
    }

    fn provider(&self) -> Result<String, TsmError> {
        let bytes = self.read("provider", ATTRIBUTE_MAX)?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        let name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if text.is_empty() || !text.bytes().all(name) {
            let got = text.chars().take(40).collect();
            return Err(TsmError::Malformed { attribute: "provider", expected: "the name of a provider", got });
        }
        Ok(text)
    }

    /// One try: nothing when it was raced.
    fn report(&self, provider: &str, inblob: &[u8; 64]) -> Result<Option<TsmReport>, TsmError> {
        let got = self.provider()?;
        if got != provider {
            return Err(TsmError::Provider { expected: provider.to_owned(), got });
        }
        let before = Self::number("generation", &self.read("generation", ATTRIBUTE_MAX)?)?;
        let mut writes = 1;
        // Only SEV-SNP has levels.
        if let Some(floor) = self.read_optional("privlevel_floor", ATTRIBUTE_MAX)? {
            let level = Self::number("privlevel_floor", &floor)?;
            self.write("privlevel", level.to_string().as_bytes())?;
            writes += 1;
        }
        self.write("inblob", inblob)?;
        let outblob = self.read("outblob", OUTBLOB_MAX)?;
        let auxblob = self.read_optional("auxblob", AUXBLOB_MAX)?.unwrap_or_default();
        let after = Self::number("generation", &self.read("generation", ATTRIBUTE_MAX)?)?;
        Ok((before.checked_add(writes) == Some(after)).then_some(TsmReport { outblob, auxblob }))
    }
}

impl<E: Entries> Drop for Entry<'_, E> {
    fn drop(&mut self) {
        if let Err(error) = self.entries.remove(&self.name) {
            tracing::warn!(entry = %self.name, %error, "an entry of configfs-tsm stays behind");
        }
    }
}
