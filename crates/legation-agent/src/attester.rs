//! Where evidence comes from: the machine's own means of proving what runs on it, one [`Attester`] for each.
//!
//! * [`configfs`]: the kernel's one door to SEV-SNP and TDX; `sev_snp` and `tdx` read what comes out of it.
//! * `nitro` (feature `nitro`): the security module of AWS Nitro Enclaves.
//! * [`tpm`]: TPM 2.0, real or emulated; it needs feature `tpm` and libtss2.
//! * [`development`]: development chips, which prove the protocol and never confidentiality.
//! * [`detection`]: which of them this machine has, and which is taken.
//!
//! Nothing is judged here: a verifier does that, far away. What is checked here is only what would make evidence useless, so
//! that the machine's owner hears of it in the owner's words.

use std::{fmt, fs, io, path::PathBuf};

use legation_attest::dev::DevelopmentError;
use legation_core::{
    Digest, DigestWriter, UnixTime,
    claims::{Evidence, TeeKind},
    dsse::Signed,
    statement::{Appointment, KeyAttestation},
};

use crate::state::Sealer;

mod certificates;
pub mod configfs;
pub mod detection;
pub mod development;
#[cfg(feature = "nitro")]
pub mod nitro;
pub mod sev_snp;
pub mod tdx;
pub mod tpm;

pub use configfs::TsmError;
pub use detection::{Detection, choose};
pub use development::DevelopmentAttester;
pub use tpm::TpmError;

/// The program that runs, as Linux shows it to itself: also when the file was replaced meanwhile.
pub(crate) const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Proves what runs here.
pub trait Attester: Send + Sync {
    /// What kind of evidence it gives.
    fn kind(&self) -> TeeKind;

    /// SHA-256 of the boot image as the software inside knows it, for
    /// [`KeyBinding::image`](legation_core::claims::KeyBinding::image): the agent's own executable.
    fn image(&self) -> Digest;

    /// Evidence over the encoded [`KeyBinding`](legation_core::claims::KeyBinding) and configuration, as of now. May take
    /// tens of milliseconds, and seconds where hardware is slow.
    ///
    /// # Errors
    /// The machine would not attest.
    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError>;

    /// The key that a verifier must have seen activated before this evidence is worth anything, where there is one.
    fn activation(&self) -> Option<&dyn KeyActivation> {
        None
    }

    /// What gives keys that are bound to this machine and to what this evidence says of it, where something does.
    fn sealer(&self) -> Option<&dyn Sealer> {
        None
    }
}

/// An attestation key that nobody certified. A verifier encrypts a secret such that only the TPM that holds the endorsement
/// key can read it, and only if that TPM holds the attestation key as well (TPM 2.0 Library, Part 1, section 24). Whoever has
/// shown the secret gets the verifier's signed word for it.
pub trait KeyActivation: Send + Sync {
    /// The keys.
    ///
    /// # Errors
    /// The TPM has failed.
    fn keys(&self) -> Result<ActivationKeys, AttestError>;

    /// The secret in a credential (`TPM2B_ID_OBJECT`, `TPM2B_ENCRYPTED_SECRET`).
    ///
    /// # Errors
    /// It was made for other keys, or the TPM has failed.
    fn activate(&self, credential: &[u8], secret: &[u8]) -> Result<Digest, AttestError>;

    /// From here on evidence carries this word of a verifier. That it may be believed is the caller's to check.
    ///
    /// # Errors
    /// It speaks of another key.
    fn endorse(&self, statement: &Signed<KeyAttestation>, appointment: &Signed<Appointment>)
    -> Result<(), AttestError>;

    /// From when until when evidence carries a verifier's word, if it does.
    fn endorsed(&self) -> Option<(UnixTime, UnixTime)>;

    /// Forgets the verifier's word: the next evidence wants a new one.
    fn forget(&self);
}

/// What a verifier needs to make a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActivationKeys {
    /// The attestation key, `TPMT_PUBLIC`.
    pub ak: Vec<u8>,
    /// The endorsement key, `TPMT_PUBLIC`.
    pub ek: Vec<u8>,
    /// Certificates of the endorsement key, leaf first, DER; never the root.
    pub certificates: Vec<Vec<u8>>,
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The development chip would not sign.
    #[error("development chip: {0}")]
    Development(#[from] DevelopmentError),
    /// The kernel's door to the hardware failed.
    #[error("configfs-tsm: {0}")]
    Tsm(#[from] TsmError),
    /// What the hardware gave is not a report over what was asked.
    #[error("{what}: expected {expected}, got {got}")]
    Report {
        /// What of it.
        what: &'static str,
        /// What would have been right.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The host gave no certificate for the report's key, and none is configured.
    #[error(
        "no certificate of the chip's key: the host gives none with the report (its table {0}). Have the host load its \
         certificates, or fetch this chip's VCEK from AMD's key service and name it as `vcek` in `[attester]`"
    )]
    NoCertificate(String),
    /// The security module of a Nitro enclave failed.
    #[error("/dev/nsm: {0}")]
    Nitro(String),
    /// The TPM failed.
    #[error("TPM: {0}")]
    Tpm(#[from] TpmError),
}

/// Why there is no attester.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttesterError {
    /// This machine has none that this program can use, or not the one asked for.
    #[error("this agent has nothing to attest with and does not start without:\n{0}")]
    None(Box<Detection>),
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
    /// It does not hold certificates.
    #[error("{}: {why}; expected certificates, leaf first, in PEM or one in DER", file.display())]
    Certificates {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The hardware does not answer at the start.
    #[error("the {kind} of this machine does not attest: {source}")]
    Start {
        /// What kind.
        kind: TeeKind,
        /// Why.
        #[source]
        source: AttestError,
    },
}

/// Evidence without devices. No GPU is asked for evidence of its own: see docs/attesters.md.
pub(crate) fn evidence(
    kind: TeeKind,
    report: Vec<u8>,
    endorsements: Vec<Vec<u8>>,
    binding: &[u8],
    configuration: &[u8],
) -> Evidence {
    let (binding, configuration) = (binding.to_vec(), configuration.to_vec());
    Evidence { kind, report, endorsements, devices: Vec::new(), binding, configuration }
}

/// SHA-256 of the program that runs.
///
/// # Errors
/// It cannot be read.
pub fn own_image() -> Result<Digest, AttesterError> {
    let own = fs::File::open(OWN_EXECUTABLE).and_then(image);
    own.map_err(|source| AttesterError::Read { file: PathBuf::from(OWN_EXECUTABLE), source })
}

/// SHA-256 of a program's bytes.
///
/// # Errors
/// They cannot be read.
pub fn image(mut bytes: impl io::Read) -> io::Result<Digest> {
    let mut digest = DigestWriter::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match bytes.read(&mut chunk) {
            Ok(0) => return Ok(digest.finish()),
            Ok(n) => digest.update(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Shows bytes of a device's answer in a refusal: the first few.
pub(crate) fn shown(bytes: &[u8]) -> impl fmt::Display {
    legation_core::encoding::hex(&bytes[..bytes.len().min(8)])
}
