//! The attestation report: parser and typed fields (SEV-SNP firmware ABI 56860, "ATTESTATION_REPORT Structure").
//!
//! It knows the layout, not whether anything in it is true. Integers are little-endian.
//!
//! | offset | field | versions |
//! |---|---|---|
//! | 000h | VERSION, GUEST_SVN, POLICY, FAMILY_ID, IMAGE_ID, VMPL, SIGNATURE_ALGO | all |
//! | 038h | CURRENT_TCB, PLATFORM_INFO, key flags, reserved(4) | all |
//! | 050h | REPORT_DATA, MEASUREMENT, HOST_DATA, ID_KEY_DIGEST, AUTHOR_KEY_DIGEST, REPORT_ID, REPORT_ID_MA | all |
//! | 180h | REPORTED_TCB | all |
//! | 188h | CPUID family, model, stepping, reserved(21) | 3 on; reserved(24) in 2 |
//! | 1A0h | CHIP_ID, COMMITTED_TCB, CURRENT version, reserved(1), COMMITTED version, reserved(1), LAUNCH_TCB | all |
//! | 1F8h | LAUNCH_MIT_VECTOR, CURRENT_MIT_VECTOR | 5; reserved before |
//! | 208h | reserved | all |
//! | 2A0h | SIGNATURE: R(72), S(72), reserved(368) | all |
//!
//! Version 4 has the layout of version 3. Bits of PLATFORM_INFO that we do not know are let through (platforms in the
//! field set newer ones, and they describe, they do not permit); bits of POLICY that we do not know are refused, since
//! a policy permits.

use legation_core::Rejection;

use super::check::Check;
use crate::check::Trail;

/// Bytes of a report.
pub const REPORT_LEN: usize = 1184;
/// Bytes of a report that its signature covers.
pub const SIGNED_LEN: usize = 0x2a0;
/// VMPL of a report that the hypervisor asked for (SNP_HV_REPORT_REQ).
pub const VMPL_HYPERVISOR: u32 = u32::MAX;
/// Largest privilege level number a guest has.
pub const VMPL_MAX: u32 = 3;

/// Highest bit of POLICY that version 5 defines (PAGE_SWAP_DISABLE).
const POLICY_LAST_BIT: u32 = 25;
/// Bits of the key flags that are defined: AUTHOR_KEY_EN, MASK_CHIP_KEY, SIGNING_KEY.
const KEY_FLAGS: u32 = 0x1f;
/// SIGNATURE_ALGO of ECDSA P-384 with SHA-384.
const ECDSA_P384_SHA384: u32 = 1;
/// Bytes of one of the signature's two integers in its little-endian field, and in the curve.
const FIELD: usize = 72;
const SCALAR: usize = 48;

/// What the guest's owner permits (ABI, "Guest Policy").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Bit 17, always one.
    pub const RESERVED_ONE: u64 = 1 << 17;
    /// Bit 18: a migration agent may be associated.
    pub const MIGRATE_MA: u64 = 1 << 18;
    /// Bit 19: the host may read and write the guest's memory.
    pub const DEBUG: u64 = 1 << 19;
    /// Bit 16: the host may run with SMT.
    pub const SMT: u64 = 1 << 16;

    /// Whether the host may debug the guest.
    pub fn debug(self) -> bool {
        self.0 & Self::DEBUG != 0
    }

    /// Whether a migration agent may be associated.
    pub fn migration(self) -> bool {
        self.0 & Self::MIGRATE_MA != 0
    }
}

/// Which key signed, by the report's own word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SigningKey {
    /// The versioned chip endorsement key.
    Vcek,
    /// The versioned loaded endorsement key of a cloud provider.
    Vlek,
    /// None: the signature is zeros.
    None,
    /// A value that is reserved.
    Reserved(u8),
}

/// Key flags at 048h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyFlags(pub u32);

impl KeyFlags {
    /// Whether AUTHOR_KEY_DIGEST is filled.
    pub fn author_key(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the host had the firmware write zeros for a signature.
    pub fn mask_chip_key(self) -> bool {
        self.0 & 2 != 0
    }

    /// The key that signed.
    pub fn signing_key(self) -> SigningKey {
        match (self.0 >> 2) & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            other => SigningKey::Reserved(other as u8),
        }
    }
}

/// CPUID family, model and stepping, family and model combined with their extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpuid {
    /// Family.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// Version of the firmware.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// The 8 bytes of a security version, to be read once the product is known.
pub type RawTcb = [u8; 8];

/// Every field of a report, parsed and not believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Version of the layout, 2 to 5.
    pub version: u32,
    /// Security version of the guest by its ID block.
    pub guest_svn: u32,
    /// What the guest's owner permits.
    pub policy: GuestPolicy,
    /// Family by the ID block.
    pub family_id: [u8; 16],
    /// Image by the ID block.
    pub image_id: [u8; 16],
    /// Privilege level the report was asked from; [`VMPL_HYPERVISOR`] for one the hypervisor asked for.
    pub vmpl: u32,
    /// Security version of the firmware that runs.
    pub current_tcb: RawTcb,
    /// Features of the platform, as the firmware writes them.
    pub platform_info: u64,
    /// Which key signed.
    pub key_flags: KeyFlags,
    /// What the guest binds.
    pub report_data: [u8; 64],
    /// Measurement at launch.
    pub measurement: [u8; 48],
    /// What the host binds.
    pub host_data: [u8; 32],
    /// SHA-384 of the key of the ID block.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the key that certified that key.
    pub author_key_digest: [u8; 48],
    /// This guest.
    pub report_id: [u8; 32],
    /// Its migration agent; all ones when it has none.
    pub report_id_ma: [u8; 32],
    /// Security version the signing key was derived for.
    pub reported_tcb: RawTcb,
    /// The processor; version 3 on.
    pub cpuid: Option<Cpuid>,
    /// The chip; zeros when the host masks it.
    pub chip_id: [u8; 64],
    /// Security version below which the firmware cannot go back.
    pub committed_tcb: RawTcb,
    /// Version of the firmware that runs.
    pub current: FirmwareVersion,
    /// Version of the firmware that is committed.
    pub committed: FirmwareVersion,
    /// Current security version when the guest was launched.
    pub launch_tcb: RawTcb,
    /// Mitigations verified at launch; version 5.
    pub launch_mitigations: Option<u64>,
    /// Mitigations verified now; version 5.
    pub current_mitigations: Option<u64>,
    /// `r || s`, big-endian, 48 bytes each.
    pub signature: [u8; 2 * SCALAR],
}

fn array<const N: usize>(bytes: &[u8; REPORT_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

fn u32_at(bytes: &[u8; REPORT_LEN], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8; REPORT_LEN], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn firmware(bytes: &[u8; REPORT_LEN], at: usize) -> FirmwareVersion {
    FirmwareVersion { build: bytes[at], minor: bytes[at + 1], major: bytes[at + 2] }
}

/// The ranges that must be zero in a report of this version.
fn reserved(version: u32) -> impl Iterator<Item = std::ops::Range<usize>> {
    let cpuid = if version < 3 { 0x188..0x1a0 } else { 0x18b..0x1a0 };
    let tail = if version < 5 { 0x1f8..SIGNED_LEN } else { 0x208..SIGNED_LEN };
    let (r, s) = (SIGNED_LEN, SIGNED_LEN + FIELD);
    [
        0x4c..0x50,
        cpuid,
        0x1eb..0x1ec,
        0x1ef..0x1f0,
        tail,
        r + SCALAR..r + FIELD,
        s + SCALAR..s + FIELD,
        s + FIELD..REPORT_LEN,
    ]
    .into_iter()
}

impl Report {
    /// Parses a report.
    ///
    /// # Errors
    /// `snp.length`, `snp.version`, `snp.reserved` or `snp.algorithm`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Rejection> {
        Self::parse_on(bytes, &mut |_| ())
    }

    pub(crate) fn parse_on(bytes: &[u8], passed: Trail<'_>) -> Result<Self, Rejection> {
        let b: &[u8; REPORT_LEN] = bytes.try_into().map_err(|_| {
            Check::Length
                .refuse("size of the report", format!("{REPORT_LEN} bytes"), format!("{} bytes", bytes.len()))
                .fix("send the report alone, as the firmware wrote it")
        })?;
        passed(Check::Length.id());
        let version = u32_at(b, 0);
        if !(2..=5).contains(&version) {
            return Err(Check::Version.refuse("version of the report", "2 to 5", version));
        }
        passed(Check::Version.id());
        check_reserved(b, version)?;
        passed(Check::Reserved.id());
        let algorithm = u32_at(b, 0x34);
        if algorithm != ECDSA_P384_SHA384 {
            return Err(Check::Algorithm.refuse("SIGNATURE_ALGO", ECDSA_P384_SHA384, algorithm));
        }
        passed(Check::Algorithm.id());
        Ok(Self::fields(b, version))
    }

    fn fields(b: &[u8; REPORT_LEN], version: u32) -> Self {
        let cpuid = Cpuid { family: b[0x188], model: b[0x189], stepping: b[0x18a] };
        let mut signature = [0; 2 * SCALAR];
        for (half, at) in [(0, SIGNED_LEN), (SCALAR, SIGNED_LEN + FIELD)] {
            let mut scalar: [u8; SCALAR] = array(b, at);
            scalar.reverse();
            signature[half..half + SCALAR].copy_from_slice(&scalar);
        }
        Self {
            version,
            guest_svn: u32_at(b, 0x04),
            policy: GuestPolicy(u64_at(b, 0x08)),
            family_id: array(b, 0x10),
            image_id: array(b, 0x20),
            vmpl: u32_at(b, 0x30),
            current_tcb: array(b, 0x38),
            platform_info: u64_at(b, 0x40),
            key_flags: KeyFlags(u32_at(b, 0x48)),
            report_data: array(b, 0x50),
            measurement: array(b, 0x90),
            host_data: array(b, 0xc0),
            id_key_digest: array(b, 0xe0),
            author_key_digest: array(b, 0x110),
            report_id: array(b, 0x140),
            report_id_ma: array(b, 0x160),
            reported_tcb: array(b, 0x180),
            cpuid: (version >= 3).then_some(cpuid),
            chip_id: array(b, 0x1a0),
            committed_tcb: array(b, 0x1e0),
            current: firmware(b, 0x1e8),
            committed: firmware(b, 0x1ec),
            launch_tcb: array(b, 0x1f0),
            launch_mitigations: (version >= 5).then(|| u64_at(b, 0x1f8)),
            current_mitigations: (version >= 5).then(|| u64_at(b, 0x200)),
            signature,
        }
    }

    /// Whether the host masks the chip's id.
    pub fn chip_masked(&self) -> bool {
        self.chip_id == [0; 64]
    }
}

fn check_reserved(b: &[u8; REPORT_LEN], version: u32) -> Result<(), Rejection> {
    let refuse = |what: &str, expected: &str, got: String| {
        Err(Check::Reserved
            .refuse(what, expected, got)
            .fix("send the report unchanged; a newer ABI needs a newer verifier"))
    };
    for range in reserved(version) {
        if let Some(at) = range.clone().find(|at| b[*at] != 0) {
            let what = format!("reserved bytes {:03x}h to {:03x}h", range.start, range.end - 1);
            return refuse(&what, "zeros", format!("{:02x}h at {at:03x}h", b[at]));
        }
    }
    let policy = u64_at(b, 0x08);
    if policy & GuestPolicy::RESERVED_ONE == 0 {
        return refuse("bit 17 of POLICY", "1", "0".to_owned());
    }
    if policy >> (POLICY_LAST_BIT + 1) != 0 {
        return refuse("bits 26 to 63 of POLICY", "0", format!("{policy:x}h"));
    }
    let flags = u32_at(b, 0x48);
    if flags & !KEY_FLAGS != 0 {
        return refuse("bits 5 to 31 of the key flags", "0", format!("{flags:x}h"));
    }
    Ok(())
}
