//! The door of a verifier, the same for one in this process and for one behind HTTP.

use std::{future::Future, pin::Pin, sync::Arc};

use legation_core::{
    Digest, KeyId, Rejection, Signed,
    claims::{CollateralItem, Evidence},
    statement::{Appointment, KeyAttestation, Passport},
};
use serde::{Deserialize, Serialize};

/// An answer that takes its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Rejection>> + Send + 'a>>;

/// A passport, with what makes it believable.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// The passport.
    pub passport: Signed<Passport>,
    /// The appointment of its verifier.
    pub appointment: Signed<Appointment>,
    /// The collateral it names.
    pub collateral: Vec<CollateralItem>,
}

/// A credential for a TPM to decrypt, and what the verifier recognises the answer by.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// `TPM2B_ID_OBJECT`.
    #[serde(with = "legation_core::encoding::b64")]
    pub credential: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`.
    #[serde(with = "legation_core::encoding::b64")]
    pub secret: Vec<u8>,
    /// To be shown with the answer: time and MAC over secret, keys and time. It tells nothing of the secret.
    #[serde(with = "legation_core::encoding::b64")]
    pub ticket: Vec<u8>,
}

/// Keys of a TPM that asks for activation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmKeys {
    /// The attestation key, `TPMT_PUBLIC`.
    #[serde(with = "legation_core::encoding::b64")]
    pub ak: Vec<u8>,
    /// The endorsement key, `TPMT_PUBLIC`.
    #[serde(with = "legation_core::encoding::b64")]
    pub ek: Vec<u8>,
    /// Certificates of the endorsement key, leaf first, DER; never the root.
    #[serde(with = "legation_core::encoding::b64_list")]
    pub certificates: Vec<Vec<u8>>,
}

/// A verifier that can be asked. Every call may be repeated.
pub trait Door: Send + Sync {
    /// What people call it.
    fn name(&self) -> &str;

    /// Its appointment: for which tenants and kinds its word counts.
    fn appointment(&self) -> &Signed<Appointment>;

    /// Name of its key.
    fn key(&self) -> KeyId {
        self.appointment().key.id()
    }

    /// A challenge to answer within [`legation_attest::challenge::CHALLENGE_SECONDS`].
    fn challenge(&self) -> Answer<'_, Digest>;

    /// Judges and appraises evidence over the join of `challenges`, one of which is this verifier's.
    fn verify(&self, evidence: Arc<Evidence>, challenges: Vec<Digest>) -> Answer<'_, Issued>;

    /// A credential for the TPM that holds `keys`.
    fn activate(&self, keys: TpmKeys) -> Answer<'_, Activation>;

    /// Its word on an attestation key, for the secret that was in the credential.
    fn attest_key(&self, keys: TpmKeys, ticket: Vec<u8>, secret: Digest) -> Answer<'_, Signed<KeyAttestation>>;
}
