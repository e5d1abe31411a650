//! One TPM with our attestation key in it, and the commands that need it.
//!
//! The connection stays open, with the attestation key loaded, because making an endorsement key takes up to seconds. When a
//! command fails the connection is dropped: the next one opens it again and loads the key from its blob. So a TPM that was
//! reset, or an emulator that was started again, is used again without a new key.

use std::{fmt, str::FromStr};

use legation_core::{Digest, claims::TpmKey};
use tss_esapi::{
    Context, TctiNameConf,
    abstraction::{AsymmetricAlgorithmSelection, ak, ek, nv, pcr},
    constants::{CapabilityType, SessionType},
    handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, ObjectHandle, PcrHandle, SessionHandle, TpmHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, SignatureSchemeAlgorithm},
        ecc::EccCurve,
        key_bits::RsaKeyBits,
        resource_handles::NvAuth,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        AttestInfo, CapabilityData, Data, DigestValues, EncryptedSecret, IdObject, PcrSelectionList, PcrSlot, Private,
        Public, SignatureScheme, SymmetricDefinition,
    },
    traits::Marshall,
};

use super::{OWN_REGISTER, QUOTE_TRIES_MAX, TpmError};
use crate::{attester::certificates, config::Tcti};

/// Most intermediate certificates read from one TPM.
pub const CHAIN_MAX: usize = 6;
/// Where makers store intermediate certificates (EK Credential Profile 2.2.1.5.2).
const CHAIN_FIRST: u32 = 0x01c0_0100;
const CHAIN_LAST: u32 = 0x01c0_01ff;
/// First of the handles of transient objects and of sessions (TPM 2.0 Library Part 2, section 7.2).
const TRANSIENT_FIRST: u32 = 0x8000_0000;
/// Most handles asked for at once.
const HANDLES_MAX: u32 = 64;

/// How an endorsement key of a kind is made, and where its certificate is.
const fn template(key: TpmKey) -> (AsymmetricAlgorithmSelection, u32) {
    match key {
        TpmKey::Rsa2048 => (AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048), 0x01c0_0002),
        TpmKey::EccP256 => (AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256), 0x01c0_000a),
        TpmKey::EccP384 => (AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP384), 0x01c0_0016),
    }
}

pub(super) fn failed<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> TpmError {
    move |error| TpmError::Command { what, why: error.to_string() }
}

/// A TPM that was opened once.
pub(super) struct Device {
    tcti: Tcti,
    /// What is measured into [`OWN_REGISTER`], of a development TPM.
    own: Option<Digest>,
    kind: AsymmetricAlgorithmSelection,
    private: Private,
    public: Public,
    open: Option<Open>,
}

/// What was found when it was opened first.
pub(super) struct Found {
    pub(super) ek: Vec<u8>,
    pub(super) ak: Vec<u8>,
    pub(super) certificates: Vec<Vec<u8>>,
}

struct Open {
    context: Context,
    ak: KeyHandle,
}

/// What a TPM signed, and the values it signed the hash of, in the order of their registers.
pub(super) struct Quoted {
    pub(super) attest: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) values: Vec<(u8, Vec<u8>)>,
}

impl Device {
    /// Connects, finds the endorsement key and makes an attestation key.
    pub(super) fn start(tcti: &Tcti, own: Option<Digest>, key: TpmKey) -> Result<(Self, Found), TpmError> {
        let mut context = connect(tcti, own)?;
        let kind = template(key).0;
        let (ek, ek_public, mut certificates) = endorsement_key(&mut context, key)?;
        certificates.extend(chain(&mut context)?);
        let made = ak::create_ak_2(
            &mut context,
            ek,
            HashingAlgorithm::Sha256,
            AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP256),
            SignatureSchemeAlgorithm::EcDsa,
            None,
            None,
        )
        .map_err(failed("making the attestation key"))?;
        let (private, public) = (made.out_private, made.out_public);
        let ak = load(&mut context, ek, &private, &public)?;
        let found = Found {
            ek: ek_public.marshall().map_err(failed("writing the endorsement key"))?,
            ak: public.marshall().map_err(failed("writing the attestation key"))?,
            certificates,
        };
        Ok((Self { tcti: tcti.clone(), own, kind, private, public, open: Some(Open { context, ak }) }, found))
    }

    /// Does `work` on the open connection. What fails is tried once more on a new one: the TPM may have been reset.
    fn with<T>(&mut self, work: impl Fn(&mut Open) -> Result<T, TpmError>) -> Result<T, TpmError> {
        if let Some(open) = &mut self.open {
            match work(open) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    tracing::debug!(%error, "the TPM is opened anew");
                    self.open = None;
                }
            }
        }
        let mut context = connect(&self.tcti, self.own)?;
        let ek = make(&mut context, self.kind)?;
        let ak = load(&mut context, ek, &self.private, &self.public)?;
        let open = self.open.insert(Open { context, ak });
        let done = work(open);
        if done.is_err() {
            self.open = None;
        }
        done
    }

    /// Does `work` with these registers of SHA-256.
    pub(super) fn on<T>(
        &mut self,
        registers: &[u8],
        work: impl Fn(&mut Context, &PcrSelectionList) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let selection = selection(registers)?;
        self.with(|open| work(&mut open.context, &selection))
    }

    /// A quote over `registers` (ascending) of SHA-256, with their values.
    pub(super) fn quote(&mut self, qualifying: &[u8; 32], registers: &[u8]) -> Result<Quoted, TpmError> {
        let selection = selection(registers)?;
        self.with(|open| {
            for _ in 0..QUOTE_TRIES_MAX {
                let values = values(&mut open.context, &selection, registers)?;
                let data = Data::try_from(qualifying.to_vec()).map_err(failed("quoting"))?;
                let (attest, signature) = open
                    .context
                    .execute_with_session(Some(AuthSession::Password), |context| {
                        context.quote(open.ak, data, SignatureScheme::Null, selection.clone())
                    })
                    .map_err(failed("quoting"))?;
                let AttestInfo::Quote { info } = attest.attested() else {
                    return Err(TpmError::Malformed("the quote"));
                };
                let parts: Vec<&[u8]> = values.iter().map(|(_, value)| &value[..]).collect();
                if info.pcr_digest().value() != Digest::of_parts(&parts).as_bytes() {
                    continue;
                }
                return Ok(Quoted {
                    attest: attest.marshall().map_err(failed("writing the quote"))?,
                    signature: signature.marshall().map_err(failed("writing the signature"))?,
                    values,
                });
            }
            Err(TpmError::Changing)
        })
    }

    /// The secret in a credential.
    pub(super) fn activate(&mut self, credential: &[u8], secret: &[u8]) -> Result<Vec<u8>, TpmError> {
        let id = IdObject::try_from(sized(credential).ok_or(TpmError::Malformed("the credential"))?.to_vec());
        let id = id.map_err(|_| TpmError::Malformed("the credential"))?;
        let secret =
            EncryptedSecret::try_from(sized(secret).ok_or(TpmError::Malformed("the encrypted secret"))?.to_vec());
        let secret = secret.map_err(|_| TpmError::Malformed("the encrypted secret"))?;
        let kind = self.kind;
        self.with(|open| {
            let ek = make(&mut open.context, kind)?;
            let found = activate(&mut open.context, open.ak, ek, kind, &id, &secret);
            flush(&mut open.context, ek.into())?;
            found.map_err(failed("activating the credential"))
        })
    }
}

fn connect(tcti: &Tcti, own: Option<Digest>) -> Result<Context, TpmError> {
    let name = TctiNameConf::from_str(&tcti.to_string()).map_err(failed("reading the TPM's address"))?;
    let mut context = Context::new(name).map_err(failed("opening the TPM"))?;
    if matches!(tcti, Tcti::Swtpm { .. }) {
        // Nobody manages the few places of an emulator: what an agent that was killed has left in them is thrown out.
        sweep(&mut context)?;
    }
    if let Some(own) = own {
        measure(&mut context, own).map_err(failed("measuring the agent into register 16"))?;
    }
    Ok(context)
}

fn sweep(context: &mut Context) -> Result<(), TpmError> {
    for handle in handles(context, TRANSIENT_FIRST)? {
        let object = context.tr_from_tpm_public(handle).map_err(failed("looking at what is loaded"))?;
        flush(context, object)?;
    }
    Ok(())
}

fn flush(context: &mut Context, object: ObjectHandle) -> Result<(), TpmError> {
    context.flush_context(object).map_err(failed("freeing a place"))
}

fn measure(context: &mut Context, own: Digest) -> tss_esapi::Result<()> {
    debug_assert_eq!(OWN_REGISTER, 16);
    let mut values = DigestValues::new();
    values.set(HashingAlgorithm::Sha256, tss_esapi::structures::Digest::try_from(own.as_bytes().to_vec())?);
    context.execute_with_session(Some(AuthSession::Password), |context| {
        context.pcr_reset(PcrHandle::Pcr16)?;
        context.pcr_extend(PcrHandle::Pcr16, values)
    })
}

/// Handles that the TPM has, from `first` on.
fn handles(context: &mut Context, first: u32) -> Result<Vec<TpmHandle>, TpmError> {
    let what = "listing handles";
    let (found, _) = context
        .execute_without_session(|context| context.get_capability(CapabilityType::Handles, first, HANDLES_MAX))
        .map_err(failed(what))?;
    match found {
        CapabilityData::Handles(list) => Ok(list.into_inner()),
        _ => Err(TpmError::Malformed("the list of handles")),
    }
}

/// An endorsement key: where it is loaded, its public area, and certificates.
type EndorsementKey = (KeyHandle, Public, Vec<Vec<u8>>);

/// The endorsement key of this kind, which must have a certificate of its own.
fn endorsement_key(context: &mut Context, key: TpmKey) -> Result<EndorsementKey, TpmError> {
    let (kind, index) = template(key);
    let lacks = |why: String| TpmError::NoEndorsementKey { kind: key, why };
    if !handles(context, index)?.iter().any(|handle| u32::from(*handle) == index) {
        return Err(lacks(format!("it holds none at {index:#x}")));
    }
    let stored = ek::retrieve_ek_pubcert(context, kind).map_err(failed("reading a certificate"))?;
    let certificate =
        certificates::der(&stored).ok_or_else(|| lacks(format!("what is at {index:#x} is no certificate")))?;
    let handle = make(context, kind)?;
    let (public, ..) = context.read_public(handle).map_err(failed("reading the endorsement key"))?;
    // The maker may have certified a key of another template: then this one proves nothing.
    if names(certificate, &public) {
        return Ok((handle, public, vec![certificate.to_vec()]));
    }
    flush(context, handle.into())?;
    Err(lacks(format!("the certificate at {index:#x} is of another key than that of the TCG's template")))
}

/// Whether the numbers of a key occur in a certificate.
fn names(certificate: &[u8], public: &Public) -> bool {
    let occurs = |number: &[u8]| !number.is_empty() && certificate.windows(number.len()).any(|w| w == number);
    match public {
        Public::Rsa { unique, .. } => occurs(unique.value()),
        Public::Ecc { unique, .. } => occurs(unique.x().value()) && occurs(unique.y().value()),
        _ => false,
    }
}

fn make(context: &mut Context, kind: AsymmetricAlgorithmSelection) -> Result<KeyHandle, TpmError> {
    ek::create_ek_object_2(context, kind, None).map_err(failed("making the endorsement key"))
}

/// Loads the attestation key and frees the place of its parent.
fn load(context: &mut Context, ek: KeyHandle, private: &Private, public: &Public) -> Result<KeyHandle, TpmError> {
    let ak = ak::load_ak(context, ek, None, private.clone(), public.clone())
        .map_err(failed("loading the attestation key"))?;
    flush(context, ek.into())?;
    Ok(ak)
}

/// Intermediate certificates that the maker stored: one DER after the other, over as many indices as they need.
fn chain(context: &mut Context) -> Result<Vec<Vec<u8>>, TpmError> {
    let mut stored = Vec::new();
    let mut indices: Vec<u32> = handles(context, CHAIN_FIRST)?.into_iter().map(u32::from).collect();
    indices.retain(|index| (CHAIN_FIRST..=CHAIN_LAST).contains(index));
    for index in indices.into_iter().take(CHAIN_MAX) {
        let what = "reading intermediate certificates";
        let index = NvIndexTpmHandle::new(index).map_err(failed(what))?;
        let handle = context.tr_from_tpm_public(TpmHandle::NvIndex(index)).map_err(failed(what))?;
        let read = context
            .execute_with_session(Some(AuthSession::Password), |context| {
                nv::read_full(context, NvAuth::NvIndex(handle.into()), index)
            })
            .map_err(failed(what))?;
        stored.extend(read);
    }
    let (mut rest, mut found) = (&stored[..], Vec::new());
    while let Some(certificate) = certificates::der(rest).filter(|_| found.len() < CHAIN_MAX) {
        found.push(certificate.to_vec());
        rest = rest.get(certificate.len()..).unwrap_or_default();
    }
    Ok(found)
}

fn values(
    context: &mut Context,
    selection: &PcrSelectionList,
    registers: &[u8],
) -> Result<Vec<(u8, Vec<u8>)>, TpmError> {
    let data = context
        .execute_without_session(|context| pcr::read_all(context, selection.clone()))
        .map_err(failed("reading registers"))?;
    let bank = data.pcr_bank(HashingAlgorithm::Sha256).ok_or(TpmError::Malformed("the bank of SHA-256"))?;
    let value = |register: &u8| {
        let digest = slot(*register).and_then(|slot| bank.get_digest(slot));
        digest.map(|d| (*register, d.value().to_vec())).ok_or(TpmError::Malformed("a register"))
    };
    registers.iter().map(value).collect()
}

fn selection(registers: &[u8]) -> Result<PcrSelectionList, TpmError> {
    let slots: Vec<PcrSlot> = registers.iter().filter_map(|r| slot(*r)).collect();
    let built = PcrSelectionList::builder().with_selection(HashingAlgorithm::Sha256, &slots).build();
    built.map_err(failed("selecting registers"))
}

fn slot(register: u8) -> Option<PcrSlot> {
    1u32.checked_shl(register.into()).and_then(|bit| PcrSlot::try_from(bit).ok())
}

fn activate(
    context: &mut Context,
    ak: KeyHandle,
    ek: KeyHandle,
    kind: AsymmetricAlgorithmSelection,
    id: &IdObject,
    secret: &EncryptedSecret,
) -> tss_esapi::Result<Vec<u8>> {
    let with = |context: &mut Context, session| {
        let sessions = (Some(AuthSession::Password), Some(session), None);
        context
            .execute_with_sessions(sessions, |context| context.activate_credential(ak, ek, id.clone(), secret.clone()))
    };
    // Keys of the high range may be used with their (empty) password; those of the low range only by the policy of their
    // template, which is the password of the endorsement hierarchy (EK Credential Profile, B.3.3 and B.6).
    let high = matches!(kind, AsymmetricAlgorithmSelection::Ecc(EccCurve::NistP384));
    let found = if high {
        with(context, AuthSession::Password)?
    } else {
        let session = context.start_auth_session(
            None,
            None,
            None,
            SessionType::Policy,
            SymmetricDefinition::AES_128_CFB,
            HashingAlgorithm::Sha256,
        )?;
        let session = session.ok_or(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm))?;
        let found = policy(context, session).and_then(|()| with(context, session));
        context.flush_context(SessionHandle::from(session).into())?;
        found?
    };
    Ok(found.value().to_vec())
}

fn policy(context: &mut Context, session: AuthSession) -> tss_esapi::Result<()> {
    let policy = PolicySession::try_from(session)?;
    context.execute_with_session(Some(AuthSession::Password), |context| {
        let (nonce, command, reference) = (Default::default(), Default::default(), Default::default());
        context.policy_secret(policy, AuthHandle::Endorsement, nonce, command, reference, None).map(|_| ())
    })
}

/// What is in a `TPM2B`: a length in two bytes, and exactly so many after it.
fn sized(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    (usize::from(u16::from_be_bytes(*length)) == rest.len()).then_some(rest)
}
