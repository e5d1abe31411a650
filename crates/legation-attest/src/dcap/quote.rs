//! The quote as it travels: header, report of the enclave or trust domain, and what vouches for the key that signed both.
//!
//! Sources: *Intel SGX Data Center Attestation Primitives: ECDSA Quote Library API* (quote versions 3 and 5) and *Intel
//! TDX DCAP: Quote Generation Library and Quote Verification Library* (version 4), appendix A.
//!
//! ```text
//! header 48 | [5: type 2, size 4] | body 384 SGX, 584 TD 1.0, 648 TD 1.5, 885 TD 1.5 ex | size 4 | signature 64 | key 64
//!   3:       | QE report 384 | its signature 64 | size 2, QE data | 5, size 4, PCK chain as PEM
//!   4 and 5: | 6, size 4 | the line above
//! ```
//! Fields are little-endian. Nothing here is believed: it is what [`super::verify`] reads.

use legation_core::{Rejection, claims::TeeKind};

use super::{
    bytes::{Fields, zeros},
    check::Check,
};
use crate::check::Trail;

/// Largest quote read, in bytes: some drivers pad theirs with zeros to 8000.
pub const QUOTE_MAX: usize = 16 * 1024;

/// `tee_type` of the header.
const SGX: u32 = 0;
const TDX: u32 = 0x81;
/// Attestation key type 2: ECDSA with SHA-256 on P-256.
const ECDSA_P256: u16 = 2;
/// QE vendor id: Intel.
const INTEL: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Certification data: a report of the quoting enclave with certification data of its own.
const QE_REPORT: u16 = 6;
/// Certification data: the PCK certificate chain, PEM.
const PCK_CHAIN: u16 = 5;
/// Size of the quoting enclave's authentication data; dcap-qvl hashes no other.
const QE_DATA: usize = 32;
const HEADER: usize = 48;

/// A quote that parsed. Says nothing yet: see [`super::verify`].
#[derive(Clone, Debug)]
pub struct Quote<'a> {
    /// 3, 4 or 5.
    version: u16,
    kind: TeeKind,
    key_type: u16,
    vendor: &'a [u8; 16],
    pub(crate) body: Body<'a>,
    /// Header, with the body's type and size in version 5.
    pub(crate) header: &'a [u8],
    /// Header and body, as the attestation key signed them.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: &'a [u8; 64],
    /// Everything behind the signature.
    pub(crate) endorsed: &'a [u8],
    pub(crate) key: &'a [u8; 64],
    pub(crate) qe_bytes: &'a [u8; 384],
    pub(crate) qe: EnclaveReport<'a>,
    pub(crate) qe_signature: &'a [u8; 64],
    pub(crate) qe_data: &'a [u8],
    /// The PCK chain, PEM.
    pub(crate) chain: &'a [u8],
    /// The quote without the zeros behind it.
    pub(crate) whole: &'a [u8],
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) enum Body<'a> {
    Sgx(EnclaveReport<'a>),
    Td(TdReport<'a>),
}

/// REPORTBODY of an enclave (SDM volume 3D, table "REPORT data structure").
#[derive(Clone, Debug)]
pub(crate) struct EnclaveReport<'a> {
    pub(crate) misc_select: u32,
    reserved: [&'a [u8]; 4],
    pub(crate) ext_prod_id: &'a [u8; 16],
    pub(crate) flags: u64,
    pub(crate) xfrm: u64,
    pub(crate) attributes: &'a [u8; 16],
    pub(crate) mr_enclave: &'a [u8; 32],
    pub(crate) mr_signer: &'a [u8; 32],
    pub(crate) config_id: &'a [u8; 64],
    pub(crate) isv_prod_id: u16,
    pub(crate) isv_svn: u16,
    pub(crate) config_svn: u16,
    pub(crate) family_id: &'a [u8; 16],
    pub(crate) report_data: &'a [u8; 64],
}

/// Report of a trust domain.
#[derive(Clone, Debug)]
pub(crate) struct TdReport<'a> {
    pub(crate) tee_tcb_svn: &'a [u8; 16],
    pub(crate) mr_seam: &'a [u8; 48],
    pub(crate) mr_signer_seam: &'a [u8; 48],
    pub(crate) seam_attributes: &'a [u8; 8],
    pub(crate) td_attributes: &'a [u8; 8],
    pub(crate) xfam: &'a [u8; 8],
    pub(crate) mr_td: &'a [u8; 48],
    pub(crate) mr_config_id: &'a [u8; 48],
    pub(crate) mr_owner: &'a [u8; 48],
    pub(crate) mr_owner_config: &'a [u8; 48],
    pub(crate) rtmr: [&'a [u8; 48]; 4],
    pub(crate) report_data: &'a [u8; 64],
    pub(crate) later: Option<Later<'a>>,
}

/// What TDX 1.5 adds.
#[derive(Clone, Debug)]
pub(crate) struct Later<'a> {
    /// TEE_TCB_SVN of the module that runs now, after updates that preserve the domain.
    pub(crate) tee_tcb_svn2: &'a [u8; 16],
    pub(crate) mr_service_td: &'a [u8; 48],
    /// TDX 1.5 ex: fields about service domains, zeros without the attribute SERVTD_EXT.
    pub(crate) service: Option<&'a [u8; 156]>,
    /// All of it, as it came.
    pub(crate) bytes: &'a [u8],
}

impl<'a> EnclaveReport<'a> {
    fn read(bytes: &'a [u8; 384]) -> Option<Self> {
        let mut fields = Fields(bytes);
        fields.array::<16>()?; // CPUSVN: the PCK certificate says which
        let misc_select = fields.u32()?;
        let reserved1 = fields.slice(12)?;
        let ext_prod_id = fields.array()?;
        let attributes: &[u8; 16] = fields.array()?;
        let mut halves = Fields(attributes);
        let (flags, xfrm) = (u64::from_le_bytes(*halves.array()?), u64::from_le_bytes(*halves.array()?));
        let mr_enclave = fields.array()?;
        let reserved2 = fields.slice(32)?;
        let mr_signer = fields.array()?;
        let reserved3 = fields.slice(32)?;
        let config_id = fields.array()?;
        let (isv_prod_id, isv_svn, config_svn) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let reserved4 = fields.slice(42)?;
        let family_id = fields.array()?;
        let report_data = fields.array()?;
        fields.done()?;
        Some(Self {
            misc_select,
            reserved: [reserved1, reserved2, reserved3, reserved4],
            ext_prod_id,
            flags,
            xfrm,
            attributes,
            mr_enclave,
            mr_signer,
            config_id,
            isv_prod_id,
            isv_svn,
            config_svn,
            family_id,
            report_data,
        })
    }

    /// Whether every reserved byte is zero.
    pub(crate) fn reserved_is_zero(&self) -> bool {
        self.reserved.into_iter().all(zeros)
    }
}

impl<'a> TdReport<'a> {
    fn read(fields: &mut Fields<'a>, body_type: u16) -> Option<Self> {
        let mut report = Self {
            tee_tcb_svn: fields.array()?,
            mr_seam: fields.array()?,
            mr_signer_seam: fields.array()?,
            seam_attributes: fields.array()?,
            td_attributes: fields.array()?,
            xfam: fields.array()?,
            mr_td: fields.array()?,
            mr_config_id: fields.array()?,
            mr_owner: fields.array()?,
            mr_owner_config: fields.array()?,
            rtmr: [fields.array()?, fields.array()?, fields.array()?, fields.array()?],
            report_data: fields.array()?,
            later: None,
        };
        let size = match body_type {
            3 => 64,
            4 => 301,
            _ => return Some(report),
        };
        let bytes = fields.slice(size)?;
        let mut later = Fields(bytes);
        let (tee_tcb_svn2, mr_service_td) = (later.array()?, later.array()?);
        let service = match body_type {
            4 => {
                later.slice(81)?; // VMID, TD_ID, DEV_INFO: nothing is judged by them
                Some(later.array()?)
            }
            _ => None,
        };
        later.done()?;
        report.later = Some(Later { tee_tcb_svn2, mr_service_td, service, bytes });
        Some(report)
    }

    /// TDX version by the report's form: `tdx-1.0`, `tdx-1.5` or `tdx-1.5-ex`.
    pub(crate) fn generation(&self) -> &'static str {
        match &self.later {
            None => "tdx-1.0",
            Some(Later { service: None, .. }) => "tdx-1.5",
            Some(_) => "tdx-1.5-ex",
        }
    }
}

/// What lies behind the body.
struct Endorsement<'a> {
    signature: &'a [u8; 64],
    endorsed: &'a [u8],
    key: &'a [u8; 64],
    qe_bytes: &'a [u8; 384],
    qe_signature: &'a [u8; 64],
    qe_data: &'a [u8],
    chain: &'a [u8],
}

impl<'a> Endorsement<'a> {
    fn read(bytes: &'a [u8], nested: bool) -> Option<Self> {
        let mut fields = Fields(bytes);
        let signature = fields.array()?;
        let endorsed = fields.0;
        let key = fields.array()?;
        if nested {
            (fields.u16()? == QE_REPORT).then_some(())?;
            let inner = fields.sized()?;
            fields.done()?;
            fields = Fields(inner);
        }
        let (qe_bytes, qe_signature) = (fields.array()?, fields.array()?);
        let len = usize::from(fields.u16()?);
        (len == QE_DATA).then_some(())?;
        let qe_data = fields.slice(len)?;
        (fields.u16()? == PCK_CHAIN).then_some(())?;
        let chain = fields.sized()?;
        fields.done()?;
        Some(Self { signature, endorsed, key, qe_bytes, qe_signature, qe_data, chain })
    }
}

impl<'a> Quote<'a> {
    /// Parses a quote of either kind: size, version and form. Zeros behind the quote are left out.
    ///
    /// # Errors
    /// `dcap.size`, `dcap.version` or `dcap.form`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Rejection> {
        Self::parse_on(bytes, &mut |_| ())
    }

    /// As [`Self::parse`], noting each check that passes.
    pub(crate) fn parse_on(bytes: &'a [u8], passed: Trail<'_>) -> Result<Self, Rejection> {
        if bytes.len() > QUOTE_MAX {
            return Err(Check::Size
                .refuse("size of the quote", format!("at most {QUOTE_MAX} bytes"), format!("{} bytes", bytes.len()))
                .fix("send the quote alone"));
        }
        passed(Check::Size.id());

        let mut fields = Fields(bytes);
        let Some(header) = Header::read(&mut fields) else { return Err(form("a header of 48 bytes", "fewer bytes")) };
        let kind = header.kind()?;
        let (body_type, size) = if header.version == 5 {
            let (Some(body_type), Some(size)) = (fields.u16(), fields.u32()) else {
                return Err(form("type and size of the body", "fewer bytes"));
            };
            if !(2..=4).contains(&body_type) {
                return Err(Check::Version
                    .refuse("type of the body", "2, 3 or 4: TDX 1.0, 1.5 or 1.5 ex", body_type)
                    .fix("quote with a TDX module and quoting enclave of those generations"));
            }
            (body_type, Some(size))
        } else {
            (2, None)
        };
        passed(Check::Version.id());

        let before = fields.0.len();
        let header_bytes = &bytes[..bytes.len().saturating_sub(before)];
        let body = match kind {
            TeeKind::Sgx => fields.array().and_then(EnclaveReport::read).map(Body::Sgx),
            _ => TdReport::read(&mut fields, body_type).map(Body::Td),
        };
        let Some(body) = body else { return Err(form("a whole body", "fewer bytes")) };
        let read = before.saturating_sub(fields.0.len());
        if size.is_some_and(|size| usize::try_from(size) != Ok(read)) {
            return Err(form(format!("a body of {read} bytes"), "another size in its header"));
        }
        let signed = &bytes[..bytes.len().saturating_sub(fields.0.len())];
        let endorsement = fields.sized().and_then(|bytes| Endorsement::read(bytes, header.version != 3));
        let Some(Endorsement { signature, endorsed, key, qe_bytes, qe_signature, qe_data, chain }) = endorsement else {
            let expected = "signature, key, report of the quoting enclave with 32 bytes of its own, PCK chain (type 5)";
            return Err(form(expected, "other sizes or types of certification data"));
        };
        let Some(qe) = EnclaveReport::read(qe_bytes) else { return Err(form("a report of 384 bytes", "another")) };
        if !zeros(fields.0) {
            return Err(form("nothing but zeros behind the quote", format!("{} bytes", fields.0.len())));
        }
        let whole = &bytes[..bytes.len().saturating_sub(fields.0.len())];
        passed(Check::Form.id());
        let (version, key_type, vendor) = (header.version, header.key_type, header.vendor);
        Ok(Self {
            version,
            kind,
            key_type,
            vendor,
            body,
            header: header_bytes,
            signed,
            signature,
            endorsed,
            key,
            qe_bytes,
            qe,
            qe_signature,
            qe_data,
            chain,
            whole,
        })
    }

    /// Version of its format: 3, 4 or 5.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// SGX or TDX.
    pub fn kind(&self) -> TeeKind {
        self.kind
    }

    /// The 64 bytes the enclave or domain bound.
    pub fn report_data(&self) -> &'a [u8; 64] {
        match &self.body {
            Body::Sgx(report) => report.report_data,
            Body::Td(report) => report.report_data,
        }
    }

    /// Header and body, which the attestation key signed: what to hash where a quote needs an identity. A signature can be
    /// turned into a second one, and zeros may follow a quote.
    pub fn signed_part(&self) -> &'a [u8] {
        self.signed
    }

    /// Key type and vendor.
    pub(crate) fn check_algorithm(&self) -> Result<(), Rejection> {
        if self.key_type != ECDSA_P256 {
            return Err(Check::Algorithm
                .refuse("attestation key type of the quote", "2: ECDSA P-256", self.key_type)
                .fix("quote with Intel's ECDSA quoting enclave"));
        }
        if *self.vendor != INTEL {
            return Err(Check::Algorithm
                .refuse("vendor of the quoting enclave", "Intel", legation_core::encoding::hex(self.vendor))
                .fix("quote with Intel's ECDSA quoting enclave"));
        }
        Ok(())
    }
}

/// The beginning of every version.
struct Header<'a> {
    version: u16,
    key_type: u16,
    tee_type: u32,
    vendor: &'a [u8; 16],
}

impl<'a> Header<'a> {
    fn read(fields: &mut Fields<'a>) -> Option<Self> {
        let mut fixed = Fields(fields.array::<HEADER>()?);
        let (version, key_type, tee_type) = (fixed.u16()?, fixed.u16()?, fixed.u32()?);
        fixed.u32()?; // QE and PCE security versions in version 3, reserved later: the signed reports say them
        Some(Self { version, key_type, tee_type, vendor: fixed.array()? })
    }

    fn kind(&self) -> Result<TeeKind, Rejection> {
        match (self.version, self.tee_type) {
            (3, SGX) => Ok(TeeKind::Sgx),
            (4 | 5, TDX) => Ok(TeeKind::Tdx),
            (version, tee) => Err(Check::Version
                .refuse(
                    "version and kind of the quote",
                    "3 with 0 (SGX), 4 or 5 with 81h (TDX)",
                    format!("{version} with {tee:x}h"),
                )
                .fix("send a DCAP quote as the quoting enclave wrote it")),
        }
    }
}

fn form(expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Rejection {
    Check::Form
        .refuse("form of the quote", expected, got)
        .fix("send the quote as the quoting enclave wrote it, with its PCK chain inside")
}
