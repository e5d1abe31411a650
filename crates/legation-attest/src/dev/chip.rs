//! A development chip: signs reports as SNP firmware would, with the key of its VCEK.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use legation_core::claims::{Configuration, Evidence, KeyBinding, TeeKind};
use zeroize::Zeroizing;

use super::{
    DevelopmentError, hardware_random,
    root::{CERTIFICATE, PRIVATE_KEY},
};
use crate::{
    pem,
    snp::{Certificate, GuestPolicy, LeafCertificate, LeafHolder, Product, REPORT_LEN, SIGNED_LEN, TcbVersion},
    x509::Key,
};

/// What a chip is made to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChipSpec {
    /// Milan or Genoa, the shape of its reports.
    pub product: Product,
    /// Its id.
    pub chip_id: [u8; 64],
    /// The security version its firmware has.
    pub tcb: TcbVersion,
}

/// What a guest on the chip is, and what it asks the report to bind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guest {
    /// Measurement at launch.
    pub measurement: [u8; 48],
    /// Its owner's policy.
    pub policy: GuestPolicy,
    /// Privilege level that asks.
    pub vmpl: u32,
    /// What the host binds.
    pub host_data: [u8; 32],
    /// Whether the host masks the chip's id.
    pub mask_chip_id: bool,
}

impl Guest {
    /// A guest of this measurement, without debugging, asking from privilege level 0.
    pub fn new(measurement: [u8; 48]) -> Self {
        let policy = GuestPolicy(GuestPolicy::RESERVED_ONE | GuestPolicy::SMT);
        Self { measurement, policy, vmpl: 0, host_data: [0; 32], mask_chip_id: false }
    }
}

/// A development chip with its private key.
pub struct Chip {
    spec: ChipSpec,
    vcek: Vec<u8>,
    ask: Vec<u8>,
    key: EcdsaKeyPair,
}

pub(super) fn new_key() -> Result<EcdsaKeyPair, DevelopmentError> {
    EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map_err(|_| DevelopmentError::Key("generate"))
}

impl Chip {
    /// What the chip is stands in its certificate alone; nothing can disagree with it.
    pub(super) fn new(vcek: &[u8], ask: &[u8], key: EcdsaKeyPair) -> Result<Self, DevelopmentError> {
        let file = |why: String| DevelopmentError::File(why);
        let parse = |what, der| Certificate::parse(what, der).map_err(|e| file(e.to_string()));
        let (cert, issuer) = (parse("development VCEK", vcek)?, parse("development ASK", ask)?);
        let leaf = LeafCertificate::read(&cert).map_err(|e| file(e.to_string()))?;
        if cert.key != Key::P384(key.public_key().as_ref().to_vec()) || !cert.signed_by(&issuer) {
            return Err(file("certificates and key do not belong together".to_owned()));
        }
        let chip_id = match &leaf.holder {
            LeafHolder::Chip(id) => id.as_slice().try_into().ok(),
            LeafHolder::Provider(_) => None,
        };
        let chip_id = chip_id.ok_or(DevelopmentError::Product(leaf.product))?;
        let spec = ChipSpec { product: leaf.product, chip_id, tcb: leaf.tcb };
        Ok(Self { spec, vcek: vcek.to_vec(), ask: ask.to_vec(), key })
    }

    /// What the chip is.
    pub fn spec(&self) -> &ChipSpec {
        &self.spec
    }

    /// VCEK and ASK, DER: the endorsements of its evidence.
    pub fn endorsements(&self) -> Vec<Vec<u8>> {
        vec![self.vcek.clone(), self.ask.clone()]
    }

    /// A report of version 3 (SEV-SNP firmware ABI 56860), byte for byte as firmware of this product writes it.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn report(&self, guest: &Guest, report_data: &[u8; 64]) -> Result<[u8; REPORT_LEN], DevelopmentError> {
        let tcb = self.spec.tcb.encode(self.spec.product);
        let cpuid: [u8; 3] = match self.spec.product {
            Product::Milan => [0x19, 0x01, 0x01],
            Product::Genoa => [0x19, 0x11, 0x01],
            Product::Turin => return Err(DevelopmentError::Product(Product::Turin)),
        };
        // Build, minor, major of the firmware.
        let firmware: [u8; 3] = [0x1d, 0x37, 0x01];
        let mut report = [0; REPORT_LEN];
        let mut put = |at: usize, bytes: &[u8]| report[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x000, &3_u32.to_le_bytes());
        put(0x008, &guest.policy.0.to_le_bytes());
        put(0x030, &guest.vmpl.to_le_bytes());
        put(0x034, &1_u32.to_le_bytes());
        put(0x038, &tcb);
        // PLATFORM_INFO: SMT on, ECC memory, alias check complete.
        put(0x040, &0x25_u64.to_le_bytes());
        put(0x050, report_data);
        put(0x090, &guest.measurement);
        put(0x0c0, &guest.host_data);
        // REPORT_ID_MA: no migration agent.
        put(0x160, &[0xff; 32]);
        put(0x180, &tcb);
        put(0x188, &cpuid);
        if !guest.mask_chip_id {
            put(0x1a0, &self.spec.chip_id);
        }
        put(0x1e0, &tcb);
        put(0x1e8, &firmware);
        put(0x1ec, &firmware);
        put(0x1f0, &tcb);
        self.signed(report)
    }

    /// Fills in the signature: two little-endian integers in 72 bytes each.
    pub(crate) fn signed(&self, mut report: [u8; REPORT_LEN]) -> Result<[u8; REPORT_LEN], DevelopmentError> {
        let signature =
            self.key.sign(&hardware_random(), &report[..SIGNED_LEN]).map_err(|_| DevelopmentError::Key("sign with"))?;
        for (scalar, at) in signature.as_ref().chunks_exact(48).zip([SIGNED_LEN, SIGNED_LEN + 72]) {
            for (i, b) in scalar.iter().rev().enumerate() {
                report[at + i] = *b;
            }
        }
        Ok(report)
    }

    /// Evidence of a guest on this chip that binds these keys and this configuration.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn evidence(
        &self,
        guest: &Guest,
        binding: &KeyBinding,
        configuration: &Configuration,
    ) -> Result<Evidence, DevelopmentError> {
        let binding = binding.encode();
        let report = self.report(guest, &KeyBinding::report_data(&binding))?;
        Ok(Evidence {
            kind: TeeKind::DevSnp,
            report: report.to_vec(),
            endorsements: self.endorsements(),
            devices: Vec::new(),
            binding,
            configuration: configuration.encode(),
        })
    }

    /// The file of this chip: PEM of VCEK, ASK and the chip's private key. Secret.
    ///
    /// # Errors
    /// When the library will not export the key.
    pub fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, DevelopmentError> {
        let key = self.key.to_pkcs8v1().map_err(|_| DevelopmentError::Key("export"))?;
        Ok(pem::write(&[(CERTIFICATE, &self.vcek), (CERTIFICATE, &self.ask), (PRIVATE_KEY, key.as_ref())]))
    }

    /// Reads the file of a chip.
    ///
    /// # Errors
    /// When it is no such file, or its parts do not belong together.
    pub fn from_pem(text: &[u8]) -> Result<Self, DevelopmentError> {
        let blocks = pem::read(text).map_err(|e| DevelopmentError::File(e.to_string()))?;
        let labels: Vec<_> = blocks.iter().map(|b| b.label.as_str()).collect();
        let ([vcek, ask, key], [CERTIFICATE, CERTIFICATE, PRIVATE_KEY]) = (blocks.as_slice(), labels.as_slice()) else {
            return Err(DevelopmentError::File("not VCEK, ASK and a private key".to_owned()));
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &key.der)
            .map_err(|_| DevelopmentError::Key("import"))?;
        Self::new(&vcek.der, &ask.der, key)
    }
}

impl std::fmt::Debug for Chip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chip({} {})", self.spec.product, legation_core::encoding::hex(&self.spec.chip_id[..6]))
    }
}
