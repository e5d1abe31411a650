//! State sealed to a TPM and what its registers hold: those that its quotes cover, in the bank of SHA-256.
//!
//! A random key of 32 bytes is a sealed object (`TPM2_Create`) under a storage key that the TPM makes again at each use from the seed of
//! its owner hierarchy. Its policy is `TPM2_PolicyPCR` over the registers as they are when it is sealed, and nothing else: the object has
//! no use by password. On the way to and from the TPM the key is encrypted, by a session whose secret is encrypted to the storage key.
//!
//! Sources: *TPM 2.0 Library Specification* Part 1, sections 19 (policies), 21 (encryption of parameters) and 27 (sealed objects); Part 3,
//! `TPM2_PolicyPCR`: with an empty digest the registers are taken as they are.

use legation_core::claims::TeeKind;
use legation_keys::Entropy;
use tss_esapi::{
    Context,
    attributes::{ObjectAttributesBuilder, SessionAttributesBuilder},
    constants::{SessionType, Tss2ResponseCodeKind},
    handles::{KeyHandle, ObjectHandle, SessionHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        resource_handles::Hierarchy,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        Digest, EccPoint, KeyedHashScheme, PcrSelectionList, Private, Public, PublicBuilder,
        PublicEccParametersBuilder, PublicKeyedHashParameters, SensitiveData, SymmetricDefinition,
        SymmetricDefinitionObject,
    },
    traits::{Marshall, UnMarshall},
};
use zeroize::Zeroizing;

use super::{Key, SealError, Sealer};
use crate::attester::{Attester, TpmError, tpm::TpmAttester};

impl Sealer for TpmAttester {
    fn seals_to(&self) -> TeeKind {
        Attester::kind(self)
    }

    fn new_key(&self, entropy: &mut dyn Entropy) -> Result<(Key, Vec<u8>), SealError> {
        let mut key: Key = Zeroizing::new([0; 32]);
        entropy.fill(key.as_mut_slice());
        let (private, public) =
            self.on(|context, registers| seal(context, registers, &key).map_err(failed("sealing a key")))?;
        let public = public.marshall().map_err(failed("writing what was sealed"))?;
        let private = private.value();
        let length = u16::try_from(private.len()).map_err(|_| SealError::Malformed)?;
        Ok((key, [&length.to_be_bytes()[..], private, &public].concat()))
    }

    fn key(&self, blob: &[u8]) -> Result<Key, SealError> {
        let (length, rest) = blob.split_first_chunk::<2>().ok_or(SealError::Malformed)?;
        let (private, public) =
            rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(SealError::Malformed)?;
        let private = Private::try_from(private).map_err(|_| SealError::Malformed)?;
        let public = Public::unmarshall(public).map_err(|_| SealError::Malformed)?;
        let opened = self.on(|context, registers| match unseal(context, registers, &private, &public) {
            Ok(secret) => Ok(Ok(secret)),
            // What is refused is refused on a new connection as well.
            Err(error) => refusal(error).map(Err).ok_or_else(|| failed("unsealing the key")(error)),
        })??;
        let key = <&[u8; 32]>::try_from(opened.value()).map_err(|_| SealError::Malformed)?;
        Ok(Zeroizing::new(*key))
    }
}

fn failed(what: &'static str) -> impl Fn(tss_esapi::Error) -> TpmError {
    move |error| TpmError::Command { what, why: error.to_string() }
}

/// What the TPM means by refusing.
fn refusal(error: tss_esapi::Error) -> Option<SealError> {
    let tss_esapi::Error::Tss2Error(code) = error else { return None };
    match code.kind() {
        Some(Tss2ResponseCodeKind::PolicyFail) => Some(SealError::OtherSoftware),
        Some(Tss2ResponseCodeKind::Integrity) => Some(SealError::OtherMachine),
        _ => None,
    }
}

fn seal(context: &mut Context, registers: &PcrSelectionList, key: &Key) -> tss_esapi::Result<(Private, Public)> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_no_da(true)
        .with_admin_with_policy(true)
        // Else its (empty) password would do, without the policy.
        .with_user_with_auth(false)
        .build()?;
    let public = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy(context, registers)?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()?;
    let secret = SensitiveData::try_from(&key[..])?;
    let parent = parent(context)?;
    let made = begin(context, SessionType::Hmac, Some(parent)).and_then(|session| {
        let (attributes, mask) = SessionAttributesBuilder::new().with_decrypt(true).build();
        let made = context.tr_sess_set_attributes(session, attributes, mask).and_then(|()| {
            context.execute_with_session(Some(session), |context| {
                context.create(parent, public, None, Some(secret), None, None)
            })
        });
        end(context, SessionHandle::from(session).into(), made)
    });
    let made = end(context, parent.into(), made)?;
    Ok((made.out_private, made.out_public))
}

fn unseal(
    context: &mut Context,
    registers: &PcrSelectionList,
    private: &Private,
    public: &Public,
) -> tss_esapi::Result<SensitiveData> {
    let parent = parent(context)?;
    let loaded = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.load(parent, private.clone(), public.clone())
    });
    let opened = loaded.and_then(|item| {
        let opened = begin(context, SessionType::Policy, Some(parent)).and_then(|session| {
            let opened = release(context, session, item, registers);
            end(context, SessionHandle::from(session).into(), opened)
        });
        end(context, item.into(), opened)
    });
    end(context, parent.into(), opened)
}

fn release(
    context: &mut Context,
    session: AuthSession,
    item: KeyHandle,
    registers: &PcrSelectionList,
) -> tss_esapi::Result<SensitiveData> {
    let (attributes, mask) = SessionAttributesBuilder::new().with_encrypt(true).build();
    context.tr_sess_set_attributes(session, attributes, mask)?;
    context.policy_pcr(PolicySession::try_from(session)?, Digest::default(), registers.clone())?;
    context.execute_with_session(Some(session), |context| context.unseal(item.into()))
}

/// The policy of the registers as they are.
fn policy(context: &mut Context, registers: &PcrSelectionList) -> tss_esapi::Result<Digest> {
    let session = begin(context, SessionType::Trial, None)?;
    let found = PolicySession::try_from(session).and_then(|policy| {
        context.policy_pcr(policy, Digest::default(), registers.clone())?;
        context.policy_get_digest(policy)
    });
    end(context, SessionHandle::from(session).into(), found)
}

/// The storage key: the same one each time, until somebody clears the TPM.
fn parent(context: &mut Context) -> tss_esapi::Result<KeyHandle> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_decrypt(true)
        .with_restricted(true)
        .build()?;
    let symmetric = SymmetricDefinitionObject::AES_128_CFB;
    let public = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(
            PublicEccParametersBuilder::new_restricted_decryption_key(symmetric, EccCurve::NistP256).build()?,
        )
        .with_ecc_unique_identifier(EccPoint::default())
        .build()?;
    let made = context.execute_with_session(Some(AuthSession::Password), |context| {
        context.create_primary(Hierarchy::Owner, public, None, None, None, None)
    })?;
    Ok(made.key_handle)
}

/// A session; with `salt`, one whose secret only the TPM with that key reads.
fn begin(context: &mut Context, kind: SessionType, salt: Option<KeyHandle>) -> tss_esapi::Result<AuthSession> {
    let (cipher, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
    let session = context.start_auth_session(salt, None, None, kind, cipher, hash)?;
    session.ok_or(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm))
}

/// Frees a place, whatever came of the work in it.
fn end<T>(context: &mut Context, place: ObjectHandle, done: tss_esapi::Result<T>) -> tss_esapi::Result<T> {
    let freed = context.flush_context(place);
    done.and_then(|done| freed.map(|()| done))
}
