//! `[prover]`: what this agent proves executions with, and what its owner sets aside for that.
//!
//! ```toml
//! [prover]                                  # optional, with `listen`: calls that are to be proven come here
//! program = "bin/legation-prover"           # relative to this file, as all paths here
//! guest = "prover/legation-guest.elf"       # the program whose executions are proven
//! pinned = "prover/PINNED.json"             # what readers pin of it
//! keys = "prover/keys"                      # made by `legation-prover keygen`
//! folder = "/run/legation-prover"           # private: inputs lie here while they are proven; best in memory
//! memory_mib = 8192                         # set aside for it, for a count beside a proof: not offered
//! instructions_max = 20000000               # most instructions of one execution; public in its passport
//! longest_s = 3600                          # optional: most seconds of one proof
//! estimate_s = 60                           # optional, at most 60: most seconds in which a call is counted before it runs
//! ```

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use legation_core::unit::Bytes;

use super::{ConfigError, Section, path};

/// Most instructions that may be said: no machine proves so many in a day.
const INSTRUCTIONS_MAX: u64 = 1_000_000_000_000;
/// Most seconds of one proof by default.
const LONGEST: Duration = Duration::from_secs(3600);
/// Most time of counting, and the default: reading the keys takes some of it, and whoever asked waits for no longer.
const ESTIMATE: Duration = Duration::from_secs(60);

/// What proves, with what, and how much.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProverConfig {
    /// The prover, `legation-prover`.
    pub program: PathBuf,
    /// The program whose executions are proven, an ELF file.
    pub guest: PathBuf,
    /// What readers pin of that.
    pub pinned: PathBuf,
    /// Folder of the keys.
    pub keys: PathBuf,
    /// Folder of what is being proven: nobody else's.
    pub folder: PathBuf,
    /// Memory that it needs, which is not offered.
    pub memory: Bytes,
    /// Most instructions of one execution.
    pub instructions: u64,
    /// Most time of one proof.
    pub longest: Duration,
    /// Most time in which a call is counted.
    pub estimate: Duration,
}

/// Reads the section, if it is there.
pub(super) fn read(mut section: Section<'_>, folder: &Path) -> Result<Option<ProverConfig>, ConfigError> {
    if !section.present() {
        return Ok(None);
    }
    let file = |section: &mut Section<'_>, key: &str, what: &str| {
        section.text(key, &format!("the path of {what}"), path).map(|path| folder.join(path))
    };
    let program = file(&mut section, "program", "legation-prover")?;
    let guest = file(&mut section, "guest", "the program that is proven, an ELF file")?;
    let pinned = file(&mut section, "pinned", "its PINNED.json")?;
    let keys = file(&mut section, "keys", "the folder of the keys")?;
    let private = file(&mut section, "folder", "a folder of this agent alone")?;
    let needed = |section: &Section<'_>, key: &str, number: Option<u64>| {
        number.ok_or_else(|| section.missing(key, "a whole number"))
    };
    let memory = section.number("memory_mib", 1, 1 << 24)?;
    let memory = Bytes::mib(needed(&section, "memory_mib", memory)?);
    let instructions = section.number("instructions_max", 1, INSTRUCTIONS_MAX)?;
    let instructions = needed(&section, "instructions_max", instructions)?;
    let longest = section.number("longest_s", 1, 86_400)?.map_or(LONGEST, Duration::from_secs);
    let estimate = section.number("estimate_s", 1, ESTIMATE.as_secs())?.map_or(ESTIMATE, Duration::from_secs);
    section.end(&[
        "program",
        "guest",
        "pinned",
        "keys",
        "folder",
        "memory_mib",
        "instructions_max",
        "longest_s",
        "estimate_s",
    ])?;
    let folder = private;
    Ok(Some(ProverConfig { program, guest, pinned, keys, folder, memory, instructions, longest, estimate }))
}
