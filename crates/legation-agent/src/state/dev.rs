//! State sealed to a development chip and the program that it says it runs: as hardware would, and worth nothing, since whoever reads the
//! chip's file reads what is sealed.
//!
//! The key is HKDF-SHA256 of the chip's file (which has its private key; PEM as this program writes it), with a random salt, over
//! `legation-state-dev-v1` and the measurement. A chip that is issued anew is another chip.

use aws_lc_rs::hkdf;
use legation_core::claims::TeeKind;
use legation_keys::Entropy;
use zeroize::Zeroizing;

use super::{Key, SealError, Sealer};
use crate::attester::DevelopmentAttester;

const DOMAIN: &[u8] = b"legation-state-dev-v1";
const SALT: usize = 32;

impl Sealer for DevelopmentAttester {
    fn seals_to(&self) -> TeeKind {
        TeeKind::DevSnp
    }

    fn new_key(&self, entropy: &mut dyn Entropy) -> Result<(Key, Vec<u8>), SealError> {
        let mut salt = vec![0; SALT];
        entropy.fill(&mut salt);
        Ok((self.key(&salt)?, salt))
    }

    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes; 32 are asked for")]
    fn key(&self, blob: &[u8]) -> Result<Key, SealError> {
        if blob.len() != SALT {
            return Err(SealError::Malformed);
        }
        let secret = self.chip.to_pem()?;
        let info: [&[u8]; 2] = [DOMAIN, self.measurement()];
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, blob).extract(&secret);
        let mut key = Zeroizing::new([0; 32]);
        prk.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut_slice())).expect("32 bytes");
        Ok(key)
    }
}
