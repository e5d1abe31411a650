//! Development chips: byte-exact SEV-SNP reports under a development root. They prove the protocol, never confidentiality.

use std::{
    fmt, fs,
    io::{self, Read},
    path::Path,
};

use aws_lc_rs::digest;
use legation_attest::dev::{Chip, Guest};
use legation_core::{
    Digest,
    claims::{Evidence, KeyBinding, TeeKind},
};
use zeroize::Zeroizing;

use super::{AttestError, Attester, AttesterError, evidence, own_image};
use crate::state::Sealer;

/// Largest file of a development chip, in bytes.
pub const CHIP_FILE_MAX: u64 = 64 * 1024;

/// Attests with a development chip. What it measures is this program's own executable, once, at the start.
pub struct DevelopmentAttester {
    pub(crate) chip: Chip,
    guest: Guest,
    image: Digest,
}

impl DevelopmentAttester {
    /// Reads the chip's file and measures this program.
    ///
    /// # Errors
    /// Either cannot be read, or the file is not a chip's.
    pub fn open(file: &Path) -> Result<Self, AttesterError> {
        Ok(Self::of(Self::chip(file)?, own_image()?))
    }

    /// Reads a chip's file.
    ///
    /// # Errors
    /// It cannot be read, or is not a chip's.
    pub fn chip(file: &Path) -> Result<Chip, AttesterError> {
        let failed = |source| AttesterError::Read { file: file.to_owned(), source };
        let mut text = Zeroizing::new(Vec::new());
        fs::File::open(file).map_err(failed)?.take(CHIP_FILE_MAX).read_to_end(&mut text).map_err(failed)?;
        Chip::from_pem(&text).map_err(|source| AttesterError::Chip { file: file.to_owned(), source })
    }

    /// Attests with `chip` that the program whose bytes come out of `image` runs.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn measure(chip: Chip, image: impl Read) -> io::Result<Self> {
        Ok(Self::of(chip, super::image(image)?))
    }

    /// Attests with `chip` that the program with this SHA-256 runs: a development chip signs what it is told.
    pub fn of(chip: Chip, image: Digest) -> Self {
        Self { chip, guest: Guest::new(measurement(image)), image }
    }

    /// The launch measurement that its evidence carries.
    pub fn measurement(&self) -> &[u8; 48] {
        &self.guest.measurement
    }
}

/// How a development chip measures a program: SHA-384 of its SHA-256, which processors have instructions for.
pub fn measurement(image: Digest) -> [u8; 48] {
    let mut measurement = [0; 48];
    measurement.copy_from_slice(digest::digest(&digest::SHA384, image.as_bytes()).as_ref());
    measurement
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

    fn sealer(&self) -> Option<&dyn Sealer> {
        Some(self)
    }
}

impl fmt::Debug for DevelopmentAttester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevelopmentAttester({:?}, image {})", self.chip, self.image.short())
    }
}
