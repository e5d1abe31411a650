//! Where evidence comes from: the machine's own means of proving what runs on it.
//!
//! There is one attester today, the development chip, which proves the protocol and never confidentiality. Hardware gets an
//! [`Attester`] of its own beside it; until then a machine with a TEE is told so by [`Detection`], and an agent without any
//! attester does not start.

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use legation_attest::dev::{Chip, DevelopmentError, Guest};
use legation_core::{
    Digest, DigestWriter,
    claims::{Evidence, KeyBinding, TeeKind},
};
use zeroize::Zeroizing;

use crate::config::AgentConfig;

/// Largest file of a development chip, in bytes.
pub const CHIP_FILE_MAX: u64 = 64 * 1024;
/// The program that runs, as Linux shows it to itself: also when the file was replaced meanwhile.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Proves what runs here.
pub trait Attester: Send + Sync {
    /// What kind of evidence it gives.
    fn kind(&self) -> TeeKind;

    /// SHA-256 of the boot image, for [`KeyBinding::image`].
    fn image(&self) -> Digest;

    /// Evidence over the encoded [`KeyBinding`] and configuration, as of now. May take tens of milliseconds.
    ///
    /// # Errors
    /// The machine would not attest.
    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError>;
}

/// Why there is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The development chip would not sign.
    #[error("development chip: {0}")]
    Development(#[from] DevelopmentError),
}

/// Why there is no attester.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttesterError {
    /// This machine has none that this program can use.
    #[error("this agent has nothing to attest with and does not start without: {0}")]
    None(Detection),
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not the file of a development chip.
    #[error("{}: not a development chip: {source}; expected the PEM file of one, issued by a development root", file.display())]
    Chip {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: DevelopmentError,
    },
}

/// A device that would make attestation by hardware possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hardware {
    /// What it is.
    pub name: &'static str,
    /// Where it shows.
    pub device: &'static str,
    /// Whether it is there.
    pub present: bool,
}

/// What this machine could attest with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detection {
    /// Devices looked for.
    pub hardware: Vec<Hardware>,
    /// The development chip that is configured.
    pub development_chip: Option<PathBuf>,
}

impl Detection {
    /// Looks.
    pub fn of(config: &AgentConfig) -> Self {
        let look = |(name, device)| Hardware { name, device, present: Path::new(device).exists() };
        Self {
            hardware: [
                ("AMD SEV-SNP", "/dev/sev-guest"),
                ("Intel TDX", "/dev/tdx_guest"),
                ("AWS Nitro", "/dev/nsm"),
                ("TPM 2.0", "/dev/tpmrm0"),
            ]
            .map(look)
            .to_vec(),
            development_chip: config.development_chip.clone(),
        }
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found: Vec<_> =
            self.hardware.iter().filter(|h| h.present).map(|h| format!("{} ({})", h.name, h.device)).collect();
        if found.is_empty() {
            f.write_str("no confidential hardware was found")?;
        } else {
            write!(f, "found {}, which this program cannot use yet", found.join(", "))?;
        }
        match &self.development_chip {
            Some(chip) => write!(f, "; the development chip {} is configured", chip.display()),
            None => f.write_str(
                "; no development chip is configured: set `chip` in `[development]` to attest for development, \
                 which never proves confidentiality",
            ),
        }
    }
}

/// The attester of this machine under `config`.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn choose(config: &AgentConfig) -> Result<Arc<dyn Attester>, AttesterError> {
    let detection = Detection::of(config);
    tracing::info!(%detection, "looked for something to attest with");
    match &config.development_chip {
        Some(file) => Ok(Arc::new(DevelopmentAttester::open(file)?)),
        None => Err(AttesterError::None(detection)),
    }
}

/// Attests with a development chip. What it measures is this program's own executable, once, at the start.
pub struct DevelopmentAttester {
    chip: Chip,
    guest: Guest,
    image: Digest,
}

impl DevelopmentAttester {
    /// Reads the chip's file and measures this program.
    ///
    /// # Errors
    /// Either cannot be read, or the file is not a chip's.
    pub fn open(file: &Path) -> Result<Self, AttesterError> {
        let failed = |source| AttesterError::Read { file: file.to_owned(), source };
        let mut text = Zeroizing::new(Vec::new());
        fs::File::open(file).map_err(failed)?.take(CHIP_FILE_MAX).read_to_end(&mut text).map_err(failed)?;
        let chip = Chip::from_pem(&text).map_err(|source| AttesterError::Chip { file: file.to_owned(), source })?;
        let own = Path::new(OWN_EXECUTABLE);
        let failed = |source| AttesterError::Read { file: own.to_owned(), source };
        Self::measure(chip, fs::File::open(own).map_err(failed)?).map_err(failed)
    }

    /// Attests with `chip` that the program whose bytes come out of `image` runs.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn measure(chip: Chip, mut image: impl Read) -> io::Result<Self> {
        let (mut sha256, mut sha384) = (DigestWriter::new(), digest::Context::new(&digest::SHA384));
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match image.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    sha256.update(&buffer[..n]);
                    sha384.update(&buffer[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let mut measurement = [0; 48];
        measurement.copy_from_slice(sha384.finish().as_ref());
        Ok(Self { chip, guest: Guest::new(measurement), image: sha256.finish() })
    }

    /// The launch measurement that its evidence carries: SHA-384 of the executable.
    pub fn measurement(&self) -> &[u8; 48] {
        &self.guest.measurement
    }
}

impl Attester for DevelopmentAttester {
    fn kind(&self) -> TeeKind {
        TeeKind::DevSnp
    }

    fn image(&self) -> Digest {
        self.image
    }

    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError> {
        let report = self.chip.report(&self.guest, &KeyBinding::report_data(binding))?;
        Ok(Evidence {
            kind: TeeKind::DevSnp,
            report: report.to_vec(),
            endorsements: self.chip.endorsements(),
            binding: binding.to_vec(),
            configuration: configuration.to_vec(),
        })
    }
}

impl fmt::Debug for DevelopmentAttester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevelopmentAttester({:?}, image {})", self.chip, self.image.short())
    }
}
