//! Evidence out of a TPM.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use legation_attest::tpm::{HashAlg, Report, eventlog};
use legation_core::{
    Digest, UnixTime,
    claims::{Evidence, KeyBinding, TeeKind},
    dsse::Signed,
    statement::{Appointment, KeyAttestation},
};
use tss_esapi::{Context, structures::PcrSelectionList};

use super::{
    OWN_REGISTER, REGISTERS, TpmError,
    device::{Device, failed},
};
use crate::{
    attester::{
        ActivationKeys, AttestError, Attester, AttesterError, KeyActivation, certificates, evidence, own_image,
    },
    config::{Tcti, TpmConfig},
    state::Sealer,
};

/// Largest event log sent, in bytes. A larger one is left out: the registers are quoted all the same.
pub const LOG_MAX: usize = eventlog::LOG_MAX;

/// Attests with a TPM.
pub struct TpmAttester {
    kind: TeeKind,
    image: Digest,
    device: Mutex<Device>,
    keys: ActivationKeys,
    registers: Vec<u8>,
    log: Option<PathBuf>,
    endorsement: Mutex<Option<Endorsement>>,
}

/// A verifier's word on the attestation key, as it travels.
struct Endorsement {
    statement: Vec<u8>,
    appointment: Vec<u8>,
    from: UnixTime,
    until: UnixTime,
}

impl TpmAttester {
    /// Opens the TPM and makes the attestation key of this start. A development TPM measures this program.
    ///
    /// # Errors
    /// It does not answer, has no certificate, or a configured file cannot be read.
    pub fn open(config: &TpmConfig, development: bool) -> Result<Self, AttesterError> {
        let image = own_image()?;
        let kind = if development { TeeKind::DevTpm } else { TeeKind::Tpm };
        let intermediates = config.chain.as_deref().map(certificates::read).transpose()?.unwrap_or_default();
        let start = |source: TpmError| AttesterError::Start { kind, source: source.into() };
        let (device, found) = Device::start(&config.tcti, development.then_some(image), config.key).map_err(start)?;
        let mut chain = found.certificates;
        for certificate in intermediates {
            if !chain.contains(&certificate) {
                chain.push(certificate);
            }
        }
        let mut registers: Vec<u8> = REGISTERS.chain(config.registers.iter().copied()).collect();
        if development {
            registers.push(OWN_REGISTER);
        }
        registers.sort_unstable();
        registers.dedup();
        Ok(Self {
            kind,
            image,
            device: Mutex::new(device),
            keys: ActivationKeys { ak: found.ak, ek: found.ek, certificates: chain },
            registers,
            log: if development { None } else { log_of(&config.tcti) },
            endorsement: Mutex::new(None),
        })
    }

    /// Does `work` with the registers that are quoted, on the one connection to the TPM: an emulator has no other. What fails is tried
    /// once more, on a new one.
    pub(crate) fn on<T>(
        &self,
        work: impl Fn(&mut Context, &PcrSelectionList) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        self.device().on(&self.registers, work)
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        // A command that panicked leaves a connection that the next command finds broken and opens anew.
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endorsement(&self) -> MutexGuard<'_, Option<Endorsement>> {
        self.endorsement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attester for TpmAttester {
    fn kind(&self) -> TeeKind {
        self.kind
    }

    fn image(&self) -> Digest {
        self.image
    }

    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError> {
        let asked = KeyBinding::report_data(binding);
        let mut qualifying = [0; 32];
        qualifying.copy_from_slice(&asked[..32]);
        let quoted = self.device().quote(&qualifying, &self.registers)?;
        let report = Report {
            quote: quoted.attest,
            signature: quoted.signature,
            ak: self.keys.ak.clone(),
            pcrs: BTreeMap::from([(HashAlg::Sha256, quoted.values.into_iter().collect())]),
            log: self.log.as_deref().and_then(read_log),
        };
        let endorsements = match &*self.endorsement() {
            Some(endorsement) => vec![endorsement.statement.clone(), endorsement.appointment.clone()],
            None => Vec::new(),
        };
        Ok(evidence(self.kind, report.encode(), endorsements, binding, configuration))
    }

    fn activation(&self) -> Option<&dyn KeyActivation> {
        Some(self)
    }

    fn sealer(&self) -> Option<&dyn Sealer> {
        Some(self)
    }
}

impl KeyActivation for TpmAttester {
    fn keys(&self) -> Result<ActivationKeys, AttestError> {
        Ok(self.keys.clone())
    }

    fn activate(&self, credential: &[u8], secret: &[u8]) -> Result<Digest, AttestError> {
        let found = self.device().activate(credential, secret)?;
        let bytes =
            <[u8; 32]>::try_from(&found[..]).map_err(|_| TpmError::Malformed("the secret in the credential"))?;
        Ok(Digest::from_bytes(bytes))
    }

    fn endorse(
        &self,
        statement: &Signed<KeyAttestation>,
        appointment: &Signed<Appointment>,
    ) -> Result<(), AttestError> {
        if statement.ak != self.keys.ak {
            return Err(TpmError::OtherKey.into());
        }
        *self.endorsement() = Some(Endorsement {
            statement: statement.envelope().to_json().into_bytes(),
            appointment: appointment.envelope().to_json().into_bytes(),
            from: statement.issued,
            until: statement.expires.min(appointment.not_after),
        });
        Ok(())
    }

    fn endorsed(&self) -> Option<(UnixTime, UnixTime)> {
        self.endorsement().as_ref().map(|endorsement| (endorsement.from, endorsement.until))
    }

    fn forget(&self) {
        *self.endorsement() = None;
    }
}

/// Where Linux shows what firmware measured into this TPM.
fn log_of(tcti: &Tcti) -> Option<PathBuf> {
    let Tcti::Device(device) = tcti else { return None };
    let name = device.file_name()?.to_str()?;
    let number: u32 = name.strip_prefix("tpmrm").or_else(|| name.strip_prefix("tpm"))?.parse().ok()?;
    Some(PathBuf::from(format!("/sys/kernel/security/tpm{number}/binary_bios_measurements")))
}

fn read_log(file: &Path) -> Option<Vec<u8>> {
    let read = || {
        let mut bytes = Vec::new();
        let most = u64::try_from(LOG_MAX).unwrap_or(u64::MAX).saturating_add(1);
        fs::File::open(file)?.take(most).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    match read().map_err(failed("reading the event log")) {
        Ok(bytes) if bytes.is_empty() => None,
        Ok(bytes) if bytes.len() <= LOG_MAX => Some(bytes),
        Ok(_) => {
            tracing::warn!(file = %file.display(), "the event log is larger than {LOG_MAX} bytes and is left out");
            None
        }
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "there is no event log");
            None
        }
    }
}
