//! A provisioning service like Intel's, for unit tests: root, authorities, PCK certificate, collateral and quotes.
//!
//! Nothing of it can be had outside of this crate's unit tests: see [`IntelRoot`].

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{Claims, TeeKind},
    encoding,
};
use serde_json::{Value, json};

use super::super::{Cache, Collateral, IntelRoot, Presented, verify};
use crate::pem;

/// 2027-01-15.
pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY;
pub(super) const FMSPC: [u8; 6] = [0x50, 0x80, 0x6f, 0, 0, 0];
const SGX_OID: [u64; 7] = [1, 2, 840, 113_741, 1, 13, 1];

/// DER, as little of it as certificates need.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let len = body.len();
    let mut out = match len {
        0..=0x7f => vec![tag, len as u8],
        0x80..=0xff => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    out.extend(body);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, &[bytes])
}

fn integer(value: u64) -> Vec<u8> {
    let bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    match bytes.first() {
        None => tlv(0x02, &[&[0]]),
        Some(0x80..) => tlv(0x02, &[&[0], &bytes]),
        Some(_) => tlv(0x02, &[&bytes]),
    }
}

fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut body = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let groups = (1..10).find(|n| arc >> (7 * n) == 0).unwrap();
        body.extend((0..groups).rev().map(|i| (arc >> (7 * i)) as u8 & 0x7f | if i == 0 { 0 } else { 0x80 }));
    }
    tlv(0x06, &[&body])
}

fn ecdsa_sha256() -> Vec<u8> {
    sequence(&[&oid(&[1, 2, 840, 10_045, 4, 3, 2])])
}

fn name(common_name: &str) -> Vec<u8> {
    sequence(&[&tlv(0x31, &[&sequence(&[&oid(&[2, 5, 4, 3]), &tlv(0x0c, &[common_name.as_bytes()])])])])
}

fn time(at: u64) -> Vec<u8> {
    let digits: String = UnixTime(at).to_string().chars().filter(char::is_ascii_digit).collect();
    tlv(0x17, &[&digits.as_bytes()[2..], b"Z"])
}

fn extension(arcs: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(0x01, &[&[0xff]]) } else { Vec::new() };
    sequence(&[&oid(arcs), &critical, &octets(value)])
}

/// A key with a name.
pub(super) struct Party {
    name: &'static str,
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl Party {
    #[expect(clippy::disallowed_methods, reason = "keys of a test")]
    pub(super) fn new(name: &'static str) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        Self { name, pair, pkcs8: pkcs8.as_ref().to_vec() }
    }

    /// The point, without its first byte.
    fn key(&self) -> Vec<u8> {
        self.pair.public_key().as_ref()[1..].to_vec()
    }

    /// Two numbers of 32 bytes.
    #[expect(clippy::disallowed_methods, reason = "signatures of a test")]
    fn sign_fixed(&self, bytes: &[u8]) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8).unwrap();
        pair.sign(&SystemRandom::new(), bytes).unwrap().as_ref().to_vec()
    }

    #[expect(clippy::disallowed_methods, reason = "signatures of a test")]
    fn signed(&self, to_be_signed: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), to_be_signed).unwrap();
        sequence(&[to_be_signed, &ecdsa_sha256(), &tlv(0x03, &[&[0], signature.as_ref()])])
    }

    /// Certifies `subject`.
    fn certify(&self, subject: &Party, serial: u64, ca: bool, dates: (u64, u64), more: &[Vec<u8>]) -> Vec<u8> {
        let spki = sequence(&[
            &sequence(&[&oid(&[1, 2, 840, 10_045, 2, 1]), &oid(&[1, 2, 840, 10_045, 3, 1, 7])]),
            &tlv(0x03, &[&[0, 4], &subject.key()]),
        ]);
        let constraints = if ca { sequence(&[&tlv(0x01, &[&[0xff]])]) } else { sequence(&[]) };
        // keyCertSign and cRLSign, or digitalSignature.
        let usage: &[u8] = if ca { &[1, 0x06] } else { &[7, 0x80] };
        let mut extensions = vec![
            extension(&[2, 5, 29, 19], true, &constraints),
            extension(&[2, 5, 29, 15], true, &tlv(0x03, &[usage])),
        ];
        extensions.extend_from_slice(more);
        self.signed(&sequence(&[
            &tlv(0xa0, &[&integer(2)]),
            &integer(serial),
            &ecdsa_sha256(),
            &name(self.name),
            &sequence(&[&time(dates.0), &time(dates.1)]),
            &name(subject.name),
            &spki,
            &tlv(0xa3, &[&sequence(&[&extensions.concat()])]),
        ]))
    }

    fn revocation_list(&self, dates: (u64, u64), serials: &[u64]) -> Vec<u8> {
        let entries = serials.iter().map(|s| sequence(&[&integer(*s), &time(dates.0)])).collect::<Vec<_>>().concat();
        let entries = if entries.is_empty() { entries } else { sequence(&[&entries]) };
        let extensions = tlv(0xa0, &[&sequence(&[&extension(&[2, 5, 29, 20], false, &integer(1))])]);
        self.signed(&sequence(&[
            &integer(1),
            &ecdsa_sha256(),
            &name(self.name),
            &time(dates.0),
            &time(dates.1),
            &entries,
            &extensions,
        ]))
    }
}

/// What may be wrong with a world. The default is a machine that is up to date.
#[derive(Clone)]
pub(super) struct Spec {
    pub(super) sgx: bool,
    /// Version 5 with a body of TDX 1.5, or of TDX 1.5 ex.
    pub(super) later: bool,
    pub(super) ex: bool,
    pub(super) td_attributes: u64,
    pub(super) tee_tcb_svn: [u8; 16],
    pub(super) tee_tcb_svn2: [u8; 16],
    pub(super) cpu_svn: [u8; 16],
    pub(super) pce_svn: u64,
    pub(super) ppid: [u8; 16],
    pub(super) qe_isv_svn: u16,
    /// Status of the levels: newest, older, oldest.
    pub(super) status: [&'static str; 3],
    pub(super) qe_status: &'static str,
    pub(super) module_status: &'static str,
    pub(super) revoked_by_root: Vec<u64>,
    pub(super) revoked_by_authority: Vec<u64>,
    /// Whose name the PCK authority has.
    pub(super) authority: &'static str,
    /// Signed by whom.
    pub(super) foreign: Option<Foreign>,
    pub(super) pck_dates: (u64, u64),
    pub(super) tcb_dates: (u64, u64),
    pub(super) crl_dates: (u64, u64),
    pub(super) fmspc: [u8; 6],
    pub(super) pce_id: [u8; 2],
    /// Last changes before signatures are made.
    pub(super) body: fn(&mut Vec<u8>),
    pub(super) qe: fn(&mut Vec<u8>),
}

/// A signature by somebody else's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    Pck,
    Authority,
    TcbSigner,
    TcbInfo,
    QeIdentity,
    RootCrl,
    PckCrl,
    QeReport,
    Quote,
}

pub(super) const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Serial numbers.
pub(super) const AUTHORITY: u64 = 2;
pub(super) const TCB_SIGNER: u64 = 3;
pub(super) const PCK: u64 = 0x8f00_0000_0000_0001;

impl Default for Spec {
    fn default() -> Self {
        Self {
            sgx: false,
            later: false,
            ex: false,
            td_attributes: SEPT_VE_DISABLE,
            tee_tcb_svn: svns(&[6, 1, 3]),
            tee_tcb_svn2: svns(&[6, 1, 3]),
            cpu_svn: [3; 16],
            pce_svn: 13,
            ppid: [7; 16],
            qe_isv_svn: 6,
            status: ["UpToDate", "OutOfDate", "OutOfDateConfigurationNeeded"],
            qe_status: "UpToDate",
            module_status: "UpToDate",
            revoked_by_root: Vec::new(),
            revoked_by_authority: Vec::new(),
            authority: "Intel SGX PCK Platform CA",
            foreign: None,
            pck_dates: (NOW - YEAR, NOW + YEAR),
            tcb_dates: (NOW - DAY, NOW + 29 * DAY),
            crl_dates: (NOW - 2 * DAY, NOW + 28 * DAY),
            fmspc: FMSPC,
            pce_id: [0, 0],
            body: |_| (),
            qe: |_| (),
        }
    }
}

/// A TEE_TCB_SVN that begins so.
pub(super) fn svns(begin: &[u8]) -> [u8; 16] {
    let mut svns = [0; 16];
    svns[..begin.len()].copy_from_slice(begin);
    svns
}

/// A quote, the collateral for it, and the root of both.
pub(super) struct World {
    pub(super) root: IntelRoot,
    pub(super) quote: Vec<u8>,
    pub(super) form: Value,
    pub(super) kind: TeeKind,
    /// The attestation key, and how much it signs.
    key: Party,
    signed: usize,
}

impl Spec {
    pub(super) fn build(&self) -> World {
        let root = Party::new("Intel SGX Root CA");
        let authority = Party::new(self.authority);
        let (signer, pck, key) =
            (Party::new("Intel SGX TCB Signing"), Party::new("Intel SGX PCK Certificate"), Party::new("AK"));
        let stranger = |name| Party::new(name);
        let long = (NOW - 2 * YEAR, NOW + 10 * YEAR);
        let by = |foreign: Foreign, party: &Party, make: &dyn Fn(&Party) -> Vec<u8>| {
            if self.foreign == Some(foreign) { make(&stranger(party.name)) } else { make(party) }
        };

        let root_der = root.certify(&root, 1, true, long, &[]);
        let authority_der = by(Foreign::Authority, &root, &|p| p.certify(&authority, AUTHORITY, true, long, &[]));
        let signer_der = by(Foreign::TcbSigner, &root, &|p| p.certify(&signer, TCB_SIGNER, false, long, &[]));
        let sgx_extension = [extension(&SGX_OID, false, &self.pck_extension())];
        let pck_der = by(Foreign::Pck, &authority, &|p| p.certify(&pck, PCK, false, self.pck_dates, &sgx_extension));
        let root_crl =
            by(Foreign::RootCrl, &root, &|p| p.revocation_list((NOW - 30 * DAY, NOW + YEAR), &self.revoked_by_root));
        let pck_crl =
            by(Foreign::PckCrl, &authority, &|p| p.revocation_list(self.crl_dates, &self.revoked_by_authority));

        let pem = |ders: &[&[u8]]| {
            let blocks: Vec<_> = ders.iter().map(|der| ("CERTIFICATE", *der)).collect();
            String::from_utf8(pem::write(&blocks).to_vec()).unwrap()
        };
        let (tcb_info, qe_identity) = (self.tcb_info().to_string(), self.qe_identity().to_string());
        let sign = |foreign, text: &str| encoding::hex(&by(foreign, &signer, &|p| p.sign_fixed(text.as_bytes())));
        let form = json!({
            "pck_crl_issuer_chain": pem(&[&authority_der, &root_der]),
            "root_ca_crl": encoding::hex(&root_crl),
            "pck_crl": encoding::hex(&pck_crl),
            "tcb_info_issuer_chain": pem(&[&signer_der, &root_der]),
            "tcb_info_signature": sign(Foreign::TcbInfo, &tcb_info),
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": pem(&[&signer_der, &root_der]),
            "qe_identity_signature": sign(Foreign::QeIdentity, &qe_identity),
            "qe_identity": qe_identity,
        });

        let mut signed = self.header_and_body();
        (self.body)(&mut signed);
        let qe_data = [0x5a; 32];
        let mut qe = self.qe_report(&Digest::of_parts(&[&key.key(), &qe_data]));
        (self.qe)(&mut qe);
        let qe_signature = by(Foreign::QeReport, &pck, &|p| p.sign_fixed(&qe));
        let chain = pem(&[&pck_der, &authority_der, &root_der]);
        let chain_size = (chain.len() as u32).to_le_bytes();
        let certification =
            [&qe[..], &qe_signature, &[32, 0], &qe_data, &[5, 0], &chain_size, chain.as_bytes()].concat();
        let nested = [&[6, 0][..], &(certification.len() as u32).to_le_bytes(), &certification].concat();
        let signature = by(Foreign::Quote, &key, &|p| p.sign_fixed(&signed));
        let auth = [&signature[..], &key.key(), if self.sgx { &certification } else { &nested }].concat();
        let quote = [&signed[..], &(auth.len() as u32).to_le_bytes(), &auth].concat();
        let kind = if self.sgx { TeeKind::Sgx } else { TeeKind::Tdx };
        World { root: IntelRoot::custom(root_der), quote, form, kind, key, signed: signed.len() }
    }

    /// Verdict at [`NOW`] on what this builds, uncached and without grace.
    pub(super) fn verdict(&self) -> Result<Claims, Rejection> {
        let world = self.build();
        world.verify(&world.quote, world.kind, 0, NOW, &Cache::new(0))
    }

    fn pck_extension(&self) -> Vec<u8> {
        let arcs = |more: &[u64]| oid(&[&SGX_OID[..], more].concat());
        let mut tcb: Vec<_> =
            (0..16).map(|i| sequence(&[&arcs(&[2, i + 1]), &integer(self.cpu_svn[i as usize].into())])).collect();
        tcb.push(sequence(&[&arcs(&[2, 17]), &integer(self.pce_svn)]));
        tcb.push(sequence(&[&arcs(&[2, 18]), &octets(&self.cpu_svn)]));
        sequence(&[
            &sequence(&[&arcs(&[1]), &octets(&self.ppid)]),
            &sequence(&[&arcs(&[2]), &sequence(&[&tcb.concat()])]),
            &sequence(&[&arcs(&[3]), &octets(&self.pce_id)]),
            &sequence(&[&arcs(&[4]), &octets(&self.fmspc)]),
            &sequence(&[&arcs(&[5]), &tlv(0x0a, &[&[1]])]),
        ])
    }

    fn tcb_info(&self) -> Value {
        let components = |svns: &[u8]| svns.iter().map(|svn| json!({"svn": svn})).collect::<Vec<_>>();
        let level = |cpu: u8, pce: u64, tee: u8, date: &str, status: &str, advisories: &[&str]| {
            let mut tcb = json!({"sgxtcbcomponents": components(&[cpu; 16]), "pcesvn": pce});
            if !self.sgx {
                tcb["tdxtcbcomponents"] = json!(components(&svns(&[5, 0, tee])));
            }
            json!({"tcb": tcb, "tcbDate": date, "tcbStatus": status, "advisoryIDs": advisories})
        };
        let [newest, older, oldest] = self.status;
        let mut info = json!({
            "id": if self.sgx { "SGX" } else { "TDX" },
            "version": 3,
            "issueDate": UnixTime(self.tcb_dates.0).to_string(),
            "nextUpdate": UnixTime(self.tcb_dates.1).to_string(),
            "fmspc": encoding::hex(&FMSPC).to_uppercase(),
            "pceId": "0000",
            "tcbType": 0,
            "tcbEvaluationDataNumber": 18,
            // Not from the highest down: readers sort.
            "tcbLevels": [
                level(2, 11, 2, "2023-08-09T00:00:00Z", older, &["INTEL-SA-00002", "INTEL-SA-00001"]),
                level(3, 13, 3, "2024-03-13T00:00:00Z", newest, &[]),
                level(1, 5, 0, "2022-01-01T00:00:00Z", oldest, &["INTEL-SA-00003"]),
            ],
        });
        if !self.sgx {
            let zeros = encoding::hex(&[0; 48]);
            let module =
                json!({"mrsigner": zeros, "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF"});
            let mut identity = module.clone();
            identity["id"] = json!("TDX_01");
            identity["tcbLevels"] = json!([
                {"tcb": {"isvsvn": 6}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": self.module_status},
                {"tcb": {"isvsvn": 4}, "tcbDate": "2021-05-01T00:00:00Z", "tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00004"]},
            ]);
            info["tdxModule"] = module;
            info["tdxModuleIdentities"] = json!([identity]);
        }
        info
    }

    fn qe_identity(&self) -> Value {
        json!({
            "id": if self.sgx { "QE" } else { "TD_QE" },
            "version": 2,
            "issueDate": UnixTime(NOW - DAY).to_string(),
            "nextUpdate": UnixTime(NOW + 29 * DAY).to_string(),
            "tcbEvaluationDataNumber": 17,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": encoding::hex(&[0xdc; 32]).to_uppercase(),
            "isvprodid": 2,
            "tcbLevels": [
                {"tcb": {"isvsvn": 6}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": self.qe_status},
                {"tcb": {"isvsvn": 4}, "tcbDate": "2023-02-15T00:00:00Z", "tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00005"]},
            ],
        })
    }

    fn header_and_body(&self) -> Vec<u8> {
        let vendor = [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
        let version = if self.sgx {
            3
        } else if self.later || self.ex {
            5
        } else {
            4
        };
        let tee = if self.sgx { 0 } else { 0x81 };
        let mut out = vec![version, 0, 2, 0, tee, 0, 0, 0, 0, 0, 0, 0];
        out.extend(vendor);
        out.extend([0xee; 20]);
        if self.sgx {
            let flags = (0b101_u64.to_le_bytes(), 0xe7_u64.to_le_bytes());
            out.extend(enclave(0, flags, [0xe1; 32], [0x51; 32], 9, 3, [0xd7; 64]));
            return out;
        }
        let body_type: u16 = if self.ex { 4 } else { 3 };
        let size: u32 = if self.ex { 885 } else { 648 };
        if version == 5 {
            out.extend(body_type.to_le_bytes());
            out.extend(size.to_le_bytes());
        }
        out.extend(self.tee_tcb_svn);
        out.extend([0x5e; 48]); // MRSEAM
        out.extend([0; 48 + 8]); // MRSIGNERSEAM, SEAMATTRIBUTES
        out.extend(self.td_attributes.to_le_bytes());
        out.extend(0x6_0000_u64.to_le_bytes()); // XFAM: AMX
        for (byte, times) in [(0x7d, 1), (0xc1, 1), (0x00, 1), (0x0c, 1), (0xb0, 4)] {
            (0..times).for_each(|_| out.extend([byte; 48]));
        }
        out.extend([0xd7; 64]);
        if version == 5 {
            out.extend(self.tee_tcb_svn2);
            out.extend([0; 48]); // MR_SERVICE_TD
        }
        if self.ex {
            out.extend([0x1d; 1 + 32 + 48]); // VMID, TD_ID, DEV_INFO
            out.extend([0; 156]);
        }
        out
    }

    fn qe_report(&self, hash: &Digest) -> Vec<u8> {
        let mut data = [0; 64];
        data[..32].copy_from_slice(hash.as_bytes());
        let flags = (0x15_u64.to_le_bytes(), 0xe7_u64.to_le_bytes());
        enclave(0, flags, [0x9e; 32], [0xdc; 32], 2, self.qe_isv_svn, data)
    }
}

fn enclave(
    misc: u32,
    (flags, xfrm): ([u8; 8], [u8; 8]),
    mr_enclave: [u8; 32],
    mr_signer: [u8; 32],
    prod_id: u16,
    svn: u16,
    data: [u8; 64],
) -> Vec<u8> {
    [
        &[3; 16][..],
        &misc.to_le_bytes(),
        &[0; 28],
        &flags,
        &xfrm,
        &mr_enclave,
        &[0; 32],
        &mr_signer,
        &[0; 32 + 64],
        &prod_id.to_le_bytes(),
        &svn.to_le_bytes(),
        &[0; 2 + 42 + 16],
        &data,
    ]
    .concat()
}

impl World {
    /// Another quote of the platform: its header and body changed, and signed by the same key.
    pub(super) fn another(&self, change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut quote = self.quote.clone();
        change(&mut quote[..self.signed]);
        let signature = self.key.sign_fixed(&quote[..self.signed]);
        quote[self.signed + 4..self.signed + 68].copy_from_slice(&signature);
        quote
    }

    pub(super) fn collateral(&self) -> Collateral {
        Collateral::parse(&serde_json::to_vec(&self.form).unwrap()).unwrap()
    }

    pub(super) fn verify(
        &self,
        quote: &[u8],
        kind: TeeKind,
        grace_seconds: u64,
        at: u64,
        cache: &Cache,
    ) -> Result<Claims, Rejection> {
        let presented = Presented { kind, quote, collateral: &self.collateral(), grace_seconds };
        verify(&presented, &self.root, cache, UnixTime(at))
    }
}
