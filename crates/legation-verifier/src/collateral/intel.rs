//! Intel's collateral of one platform: TCB info, QE identity, two revocation lists and the chains that sign them.
//!
//! The JSON is the one `dcap-qvl` writes (`QuoteCollateralV3`): texts as Intel sent them, binary parts in hexadecimal.
//! [`check`] proves every signature under Intel's root, so that a broken mirror cannot displace a good item; the judge
//! proves them again with the quote.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use legation_core::{Digest, Rejection, encoding};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use x509_parser::{
    certificate::X509Certificate, pem::Pem, prelude::FromDer, revocation_list::CertificateRevocationList,
    x509::X509Name,
};

use super::{
    check::{Dates, Part, refuse, time},
    date,
    name::{CollateralName, IntelTee, PckAuthority},
};

/// SHA-256 of the public key (SubjectPublicKeyInfo) of the Intel SGX Root CA.
const ROOT_KEY: &str = "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e";
/// Most certificates in one chain.
const CHAIN_MAX: usize = 4;
/// Common name of the certificate that signs TCB info and QE identities.
const TCB_SIGNING: &str = "Intel SGX TCB Signing";

/// The item's JSON, in the order `dcap-qvl` writes it.
#[derive(Serialize, Deserialize)]
pub(super) struct Bundle {
    pub(super) pck_crl_issuer_chain: String,
    #[serde(with = "hex")]
    pub(super) root_ca_crl: Vec<u8>,
    #[serde(with = "hex")]
    pub(super) pck_crl: Vec<u8>,
    pub(super) tcb_info_issuer_chain: String,
    pub(super) tcb_info: String,
    #[serde(with = "hex")]
    pub(super) tcb_info_signature: Vec<u8>,
    pub(super) qe_identity_issuer_chain: String,
    pub(super) qe_identity: String,
    #[serde(with = "hex")]
    pub(super) qe_identity_signature: Vec<u8>,
}

mod hex {
    use legation_core::encoding;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encoding::hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        encoding::unhex(&text.to_ascii_lowercase()).map_err(D::Error::custom)
    }
}

/// What of TCB info and QE identity is looked at here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    id: String,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u64,
    #[serde(default)]
    fmspc: String,
}

/// Answer of `/tcb`; the signature is over the bytes of `tcbInfo` as sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbAnswer<'a> {
    #[serde(borrow)]
    tcb_info: &'a RawValue,
    signature: String,
}

/// Answer of `/qe/identity`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityAnswer<'a> {
    #[serde(borrow)]
    enclave_identity: &'a RawValue,
    signature: String,
}

/// What the provisioning certification service (v4) answers, body and chain of each.
pub(super) struct Answers {
    pub(super) tcb: (Vec<u8>, String),
    pub(super) identity: (Vec<u8>, String),
    pub(super) pck_crl: (Vec<u8>, String),
    pub(super) root_crl: Vec<u8>,
}

impl Answers {
    /// The item these answers make; unchecked.
    pub(super) fn assemble(self) -> Result<Vec<u8>, String> {
        let signature = |text: &str| encoding::unhex(&text.to_ascii_lowercase()).map_err(|e| format!("signature: {e}"));
        let tcb: TcbAnswer<'_> = serde_json::from_slice(&self.tcb.0).map_err(|e| format!("TCB info: {e}"))?;
        let identity: IdentityAnswer<'_> =
            serde_json::from_slice(&self.identity.0).map_err(|e| format!("QE identity: {e}"))?;
        let bundle = Bundle {
            pck_crl_issuer_chain: self.pck_crl.1,
            root_ca_crl: der(self.root_crl),
            pck_crl: der(self.pck_crl.0),
            tcb_info_issuer_chain: self.tcb.1,
            tcb_info: tcb.tcb_info.get().to_owned(),
            tcb_info_signature: signature(&tcb.signature)?,
            qe_identity_issuer_chain: self.identity.1,
            qe_identity: identity.enclave_identity.get().to_owned(),
            qe_identity_signature: signature(&identity.signature)?,
        };
        serde_json::to_vec(&bundle).map_err(|e| e.to_string())
    }
}

/// A list as DER: caching services send hexadecimal text where Intel sends DER.
fn der(bytes: Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(&bytes).ok().map(|t| t.trim().to_ascii_lowercase());
    text.and_then(|t| encoding::unhex(&t).ok()).unwrap_or(bytes)
}

/// Whether `bytes` are the collateral of this platform, signed under Intel's root.
pub(super) fn check(
    name: &CollateralName,
    tee: IntelTee,
    fmspc: &str,
    authority: PckAuthority,
    bytes: &[u8],
) -> Result<Dates, Rejection> {
    let form = |what: &str, got: String| {
        refuse("collateral.form", name, what).expected("as Intel publishes it").got(got).fix("fetch the item again")
    };
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|e| form("form", e.to_string()))?;
    let document = |what: &'static str, text: &str| -> Result<(Document, Part), Rejection> {
        let read: Document = serde_json::from_str(text).map_err(|e| form(what, e.to_string()))?;
        let dated = |text: &str| date::parse(text).ok_or_else(|| form(what, format!("date `{text}`")));
        let part = Part {
            what,
            issued: dated(&read.issue_date)?,
            next_update: dated(&read.next_update)?,
            evaluation: read.tcb_evaluation_data_number,
        };
        Ok((read, part))
    };
    let (tcb, tcb_part) = document("TCB info", &bundle.tcb_info)?;
    let (qe, qe_part) = document("QE identity", &bundle.qe_identity)?;
    let subject = |what: &str, expected: &str, got: &str| {
        if expected == got {
            return Ok(());
        }
        Err(refuse("collateral.subject", name, what).expected(expected).got(got).fix("store it under its own name"))
    };
    let (tcb_id, qe_id) = match tee {
        IntelTee::Tdx => ("TDX", "TD_QE"),
        IntelTee::Sgx => ("SGX", "QE"),
    };
    subject("kind of the TCB info", tcb_id, &tcb.id)?;
    subject("kind of the QE identity", qe_id, &qe.id)?;
    subject("FMSPC of the TCB info", fmspc, &tcb.fmspc.to_ascii_lowercase())?;

    let signature = |what: &str| {
        refuse("collateral.signature", name, what)
            .expected("under the Intel SGX Root CA")
            .got("another, or none")
            .fix("fetch the item again from Intel")
    };
    let documents = [
        ("TCB info", &bundle.tcb_info_issuer_chain, bundle.tcb_info.as_bytes(), &bundle.tcb_info_signature),
        ("QE identity", &bundle.qe_identity_issuer_chain, bundle.qe_identity.as_bytes(), &bundle.qe_identity_signature),
    ];
    for (what, chain, text, made) in documents {
        let chain = Chain::read(chain).map_err(|e| form(what, e))?;
        let signer = chain.signer(TCB_SIGNING).ok_or_else(|| signature(what))?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &signer.key)
            .verify(text, made)
            .map_err(|_| signature(what))?;
    }
    let chain = Chain::read(&bundle.pck_crl_issuer_chain).map_err(|e| form("chain of the revocation list", e))?;
    let signer = chain.signer("").ok_or_else(|| signature("revocation list of the authority"))?;
    let wanted = match authority {
        PckAuthority::Platform => "Intel SGX PCK Platform CA",
        PckAuthority::Processor => "Intel SGX PCK Processor CA",
    };
    subject("authority of the revocation list", wanted, &signer.common_name)?;
    let root = chain.root().ok_or_else(|| signature("root"))?;
    let mut parts = vec![tcb_part, qe_part];
    for (what, list, issuer) in [
        ("revocation list of the authority", &bundle.pck_crl, signer),
        ("revocation list of the root", &bundle.root_ca_crl, root),
    ] {
        parts.push(read_list(what, list, issuer).map_err(|e| form(what, e))?.ok_or_else(|| signature(what))?);
    }
    Ok(Dates { parts })
}

/// A list with its dates, if `issuer` signed it.
fn read_list(what: &'static str, der: &[u8], issuer: &Link) -> Result<Option<Part>, String> {
    let (rest, list) = CertificateRevocationList::from_der(der).map_err(|e| e.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes behind the list", rest.len()));
    }
    let signed = list.issuer().as_raw() == issuer.subject
        && issuer.signed(list.tbs_cert_list.as_ref(), &list.signature_value.data);
    let next_update = time(list.next_update().ok_or("no next update")?);
    Ok(signed.then(|| Part { what, issued: time(list.last_update()), next_update, evaluation: 0 }))
}

/// What of a certificate is needed to prove a chain.
struct Link {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    common_name: String,
    key: Vec<u8>,
    key_digest: String,
    ca: bool,
    signed_part: Vec<u8>,
    signature: Vec<u8>,
}

impl Link {
    fn signed(&self, part: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.key).verify(part, signature).is_ok()
    }
}

/// Certificates, leaf first, that end in the root.
struct Chain(Vec<Link>);

impl Chain {
    fn read(text: &str) -> Result<Self, String> {
        let mut links = Vec::new();
        for pem in Pem::iter_from_buffer(text.as_bytes()) {
            let pem = pem.map_err(|e| e.to_string())?;
            if links.len() == CHAIN_MAX {
                return Err(format!("more than {CHAIN_MAX} certificates"));
            }
            let (_, cert) = X509Certificate::from_der(&pem.contents).map_err(|e| e.to_string())?;
            let tbs = &cert.tbs_certificate;
            links.push(Link {
                subject: tbs.subject.as_raw().to_vec(),
                issuer: tbs.issuer.as_raw().to_vec(),
                common_name: common_name(&tbs.subject),
                key: tbs.subject_pki.subject_public_key.data.to_vec(),
                key_digest: Digest::of(tbs.subject_pki.raw).to_string(),
                ca: cert.is_ca(),
                signed_part: tbs.as_ref().to_vec(),
                signature: cert.signature_value.data.to_vec(),
            });
        }
        Ok(Self(links))
    }

    /// The last link, if it is Intel's root.
    fn root(&self) -> Option<&Link> {
        self.0.last().filter(|root| root.key_digest == ROOT_KEY)
    }

    /// The first link, if the chain holds and it has this name; any name does when it is empty.
    fn signer(&self, name: &str) -> Option<&Link> {
        self.root()?;
        let holds = self.0.iter().zip(self.0.iter().skip(1)).all(|(below, above)| {
            above.ca && below.issuer == above.subject && above.signed(&below.signed_part, &below.signature)
        });
        // The root signs no documents itself.
        let first = self.0.first().filter(|_| self.0.len() > 1)?;
        (holds && (name.is_empty() || first.common_name == name)).then_some(first)
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().find_map(|cn| cn.as_str().ok()).unwrap_or_default().to_owned()
}
