//! AWS Nitro Enclaves: a document signed by the security module behind `/dev/nsm`.
//!
//! Source: aws/aws-nitro-enclaves-nsm-api, docs/attestation_process.md. The document carries the report data of the binding as
//! user data and the binding's nonce as nonce; it brings the certificates of its key itself.

use aws_nitro_enclaves_nsm_api::{
    api::{Request, Response},
    driver,
};
use legation_core::{
    Digest,
    claims::{Evidence, KeyBinding, TeeKind},
};

use super::{AttestError, Attester, evidence};

/// Largest document, in bytes: more does not come out of the device.
pub const DOCUMENT_MAX: usize = 0x3000;

/// Asks the module. Tests answer in its place.
pub trait Module: Send + Sync {
    /// The answer to a request.
    ///
    /// # Errors
    /// The device cannot be opened.
    fn ask(&self, request: Request) -> Result<Response, AttestError>;
}

/// The module of this enclave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Device;

impl Module for Device {
    fn ask(&self, request: Request) -> Result<Response, AttestError> {
        let file = driver::nsm_init();
        if file < 0 {
            return Err(AttestError::Nitro("cannot be opened for reading and writing".to_owned()));
        }
        let response = driver::nsm_process_request(file, request);
        driver::nsm_exit(file);
        Ok(response)
    }
}

/// Attests with the module.
pub struct NitroAttester<M> {
    module: M,
    image: Digest,
}

impl<M: Module> NitroAttester<M> {
    /// Over this module.
    pub fn new(module: M, image: Digest) -> Self {
        Self { module, image }
    }
}

/// What is asked for a binding.
///
/// # Errors
/// It is not one.
pub fn request(binding: &[u8]) -> Result<Request, AttestError> {
    let nonce = serde_json::from_slice::<KeyBinding>(binding)
        .map_err(|e| AttestError::Nitro(format!("the key binding cannot be read: {e}")))?
        .nonce;
    let user_data = KeyBinding::report_data(binding).to_vec();
    Ok(Request::Attestation {
        user_data: Some(user_data.into()),
        nonce: Some(nonce.as_bytes().to_vec().into()),
        public_key: None,
    })
}

impl<M: Module> Attester for NitroAttester<M> {
    fn kind(&self) -> TeeKind {
        TeeKind::Nitro
    }

    fn image(&self) -> Digest {
        self.image
    }

    fn attest(&self, binding: &[u8], configuration: &[u8]) -> Result<Evidence, AttestError> {
        match self.module.ask(request(binding)?)? {
            Response::Attestation { document } if !document.is_empty() && document.len() <= DOCUMENT_MAX => {
                Ok(evidence(TeeKind::Nitro, document, Vec::new(), binding, configuration))
            }
            Response::Attestation { document } => {
                Err(AttestError::Nitro(format!("gave a document of {} bytes", document.len())))
            }
            Response::Error(code) => Err(AttestError::Nitro(format!("refused: {code:?}"))),
            _ => Err(AttestError::Nitro("gave the answer to another question".to_owned())),
        }
    }
}
