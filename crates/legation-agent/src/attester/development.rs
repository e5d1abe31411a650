//! Development chips: byte-exact SEV-SNP reports under a development root. They prove the protocol, never confidentiality.

use std::{
    fmt, fs,
    io::{self, Read},
    path::Path,
};

use aws_lc_rs::digest;
use legation_attest::dev::{Chip, Guest};
use legation_core::{
    Digest, DigestWriter,
    claims::{Evidence, KeyBinding, TeeKind},
};
use zeroize::Zeroizing;

use super::{AttestError, Attester, AttesterError, OWN_EXECUTABLE, evidence};

/// Largest file of a development chip, in bytes.
pub const CHIP_FILE_MAX: u64 = 64 * 1024;

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
        Ok(evidence(TeeKind::DevSnp, report.to_vec(), self.chip.endorsements(), binding, configuration))
    }
}

impl fmt::Debug for DevelopmentAttester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevelopmentAttester({:?}, image {})", self.chip, self.image.short())
    }
}
