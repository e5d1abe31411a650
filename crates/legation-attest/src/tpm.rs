//! TPM 2.0: from a quote, its attestation key and what endorses the key to claims.
//!
//! A TPM proves which software started, by registers that hold a hash of all that was measured into them. It proves
//! nothing about memory: the host sees everything, and the claims say so (`confidential` is false). What the registers
//! hold was measured by firmware and boot loader, each measured by the one before, so the measurement's source is
//! measured software; the TPM signed that the registers hold it. Whether somebody debugs the machine no TPM can tell:
//! the claim is nobody's but the machine's own.
//!
//! The measurement is [`measurement()`]: every quoted register by bank, number and value. A machine that quotes other
//! registers besides [`DEMANDED`] has another measurement, so who refuses an image by its measurement alone does not refuse
//! that machine: admit named images only, or by a policy good values of registers, which are claims too.
//!
//! It is pure: certificates, revocation lists, anchors and the time are arguments. [`activation`] is the verifier's side
//! of how an attestation key comes to be endorsed, [`eventlog`] reads and replays logs of what was measured. The side
//! that talks to a TPM is not here.
//!
//! Sources: *TPM 2.0 Library Specification* Parts 1 and 2; *TCG EK Credential Profile*; *PC Client Platform TPM
//! Profile*; *PC Client Platform Firmware Profile*; RFC 5280.
//!
//! [`verify`] makes these checks, in this order; each has the stable name that its rejection carries:
//!
//!  1. `tpm.report`: the report is JSON of this version, at most [`REPORT_MAX`] bytes, nothing twice, nothing unknown.
//!  2. `tpm.ak`: the attestation key is RSA (2048 to 4096 bits) or on P-256 or P-384; fixedTPM, fixedParent,
//!     sensitiveDataOrigin, restricted and sign are set and decrypt is clear; it has one signing scheme, not of SHA-1.
//!  3. `tpm.quote`: the quote is a `TPMS_ATTEST` with TPM_GENERATED and TPM_ST_ATTEST_QUOTE, without bytes behind it.
//!  4. `tpm.signature`: the signature has the key's scheme, and the key made it over the quote as it came.
//!  5. `tpm.qualifying-data`: the quote was asked with 32 or 64 bytes. Which, the claims say; whoever asked compares.
//!  6. `tpm.selection`: the registers given are those quoted, and [`DEMANDED`] are among them in SHA-256 or SHA-384; none
//!     is one of [`RESETTABLE`], but of a development TPM.
//!  7. `tpm.values`: their values hash to the quoted digest.
//!  8. `tpm.clock`: the clock is safe: the TPM remembers every larger one it may have shown.
//!  9. `tpm.endorsements`: certificates of the attestation key, leaf first; or a key attestation, whose certificates are
//!     the endorsement key's, and the appointment of the verifier that made it.
//! 10. `tpm.root`, `tpm.chain`, `tpm.dates`, `tpm.crl`: the certificates, by the list in [`crate::x509`], against the
//!     roots of this kind and no others.
//! 11. `tpm.certificate`: the leaf is for an endorsement key, or for this attestation key and not for one that decrypts;
//!     its key is of the kind by which the anchor file knows the TPMs of this root, so that one TPM is one chip.
//! 12. `tpm.key-attestation`: a verifier that an operator of the anchor file appointed for this kind says, for this time,
//!     inside the dates of its appointment and for at most [`KEY_ATTESTATION_LIFE_MAX`] seconds, that this attestation key
//!     lives beside that endorsement key.
//! 13. `tpm.event-log`: the log, where there is one, is crypto-agile and replays to the quoted values: in every bank of
//!     SHA-256 or SHA-384 that both have, of which one was quoted with all demanded registers, each quoted register that it
//!     extends, and of the demanded ones those it does not, which are as a reset left them.
//!
//! A certificate of an attestation key says that the key is a TPM's, not with which attributes: they are the
//! attester's word, and the authority's that it certifies keys of that kind alone.

pub mod activation;
mod algorithm;
mod cache;
mod certificate;
mod check;
mod endorsement;
pub mod eventlog;
mod public;
mod quote;
mod report;
mod roots;
mod signature;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Rejection, UnixTime,
    claims::{Attested, Claims, Tcb, TeeKind},
    encoding,
    id::Region,
    key::PublicKey,
};

pub use algorithm::HashAlg;
pub use cache::{Cache, WORDS_BYTES_MAX};
pub use certificate::Instance;
#[cfg(fuzzing)]
pub(crate) use certificate::{instance, maker};
pub use check::Check;
pub use endorsement::{KEY_ATTESTATION_LIFE_MAX, STATEMENT_MAX};
pub use public::{Attributes, Curve, Key, PUBLIC_MAX, Public, RSA_BITS, Scheme, SchemeKind, Symmetric};
pub use quote::{BANKS_MAX, Pcrs, QUALIFYING_MAX, QUOTE_MAX, Quote, REGISTERS, Selection, measurement};
pub use report::{REPORT_MAX, Report};
pub use roots::{DevelopmentTpmRoots, TPM_ROOTS_MAX, TpmRootSet, TpmRoots};
pub use signature::{NotSigned, SIGNATURE_MAX, Signature};
pub use wire::Malformed;

pub(crate) use report::{optional_b64, pcrs};
pub(crate) use wire::Reader;

use crate::{check::Trail, x509::Crl};
use endorsement::Endorsed;
use eventlog::EventLog;

/// Registers that every quote must have: firmware, its configuration, boot loader, and the state of secure boot.
pub const DEMANDED: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
/// Registers that any program may reset, at locality 0, and then extend to whatever it likes: debugging and applications
/// (PC Client Platform TPM Profile, section 4.6.2).
pub const RESETTABLE: [u8; 2] = [16, 23];
/// Name of the feature in the claims of a machine whose firmware enforced secure boot.
pub const SECURE_BOOT: &str = "secure-boot";
/// Who operates a machine that Google certifies.
const GOOGLE: &str = "google-cloud";

/// A report and what came with it, and the collateral and anchors the verifier holds.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The report: JSON of a [`Report`].
    pub report: &'a [u8],
    /// Certificates of the attestation key, leaf first, DER; or the JSON of a key attestation and of the appointment of
    /// its verifier.
    pub endorsements: &'a [Vec<u8>],
    /// Roots that appoint verifiers, from the anchor file.
    pub operators: &'a [PublicKey],
    /// Revocation lists, of any authority: those of authorities in the chain are checked.
    pub crls: &'a [Crl],
    /// Seconds for which a list past its next update is still believed.
    pub grace: u64,
}

/// Verifies a report against roots of one kind as of `at`. The module's list says what is checked.
///
/// # Errors
/// The first check that refuses.
pub fn verify<R: TpmRootSet>(
    presented: &Presented<'_>,
    roots: &R,
    cache: &Cache,
    at: UnixTime,
) -> Result<Claims, Rejection> {
    verify_on(presented, roots, cache, at, &mut |_| ())
}

/// As [`verify`], noting each check that passes.
pub(crate) fn verify_on<R: TpmRootSet>(
    presented: &Presented<'_>,
    roots: &R,
    cache: &Cache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let report = Report::parse(presented.report)?;
    passed(Check::Report.id());
    let ak = attestation_key(&report.ak)?;
    passed(Check::AttestationKey.id());
    let barred: &[u8] = if R::KIND == TeeKind::DevTpm { &[] } else { &RESETTABLE };
    let given = Given { quote: &report.quote, signature: &report.signature, pcrs: &report.pcrs, barred };
    let quoted = quoted_on(&given, &ak.key, ak.scheme, &[32, 64], passed)?;
    let endorsed = endorsement::check(&ak, presented, roots, cache, at, passed)?;
    let log = report.log.as_deref().map(|bytes| check_log(bytes, &report.pcrs)).transpose()?;
    passed(Check::EventLog.id());
    Ok(claims::<R>(&quoted, &report.pcrs, endorsed, log.as_ref()))
}

/// The public area of a key that attests.
fn attestation_key(bytes: &[u8]) -> Result<Public, Rejection> {
    let refuse = |claim: &str, expected: &str, got: String| {
        Err(Check::AttestationKey
            .refuse(claim, expected, got)
            .fix("make the attestation key as a restricted signing key of the TPM, such as tpm2_createak does"))
    };
    let ak = match Public::parse(bytes) {
        Ok(ak) => ak,
        Err(e) => return refuse("attestation key", "a TPMT_PUBLIC of RSA, P-256 or P-384", e.to_string()),
    };
    if !ak.attributes.attests() {
        let expected = "fixedTPM fixedParent sensitiveDataOrigin restricted sign, without decrypt";
        return refuse("attributes of the attestation key", expected, ak.attributes.to_string());
    }
    if !ak.scheme.is_some_and(|scheme| scheme.hash.is_strong()) {
        let got = ak.scheme.map_or("none".to_owned(), |s| format!("{:?} with {}", s.kind, s.hash));
        return refuse("scheme of the attestation key", "one with SHA-256 or SHA-384", got);
    }
    Ok(ak)
}

/// A quote and what it is held to.
pub(crate) struct Given<'a> {
    pub(crate) quote: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) pcrs: &'a Pcrs,
    /// Registers that nothing may rest on, so that nobody may quote them.
    pub(crate) barred: &'a [u8],
}

/// A quote that holds: its key signed it over the values given.
pub(crate) struct Quoted {
    pub(crate) quote: Quote,
}

/// Makes the checks from `tpm.quote` to `tpm.clock`. `scheme` is the key's one scheme where it is known, `qualifying` the
/// lengths of qualifying data that are taken; all are where the list is empty.
pub(crate) fn quoted_on(
    given: &Given<'_>,
    key: &Key,
    scheme: Option<Scheme>,
    qualifying: &[usize],
    passed: Trail<'_>,
) -> Result<Quoted, Rejection> {
    let quote = Quote::parse(given.quote).map_err(|e| {
        Check::Quote
            .refuse("quote", "a TPMS_ATTEST of a quote, made by a TPM", e)
            .fix("send the quote as the TPM gave it")
    })?;
    passed(Check::Quote.id());

    let wanted = scheme.map_or("RSASSA or RSAPSS".to_owned(), |s| format!("{:?} with {}", s.kind, s.hash));
    let refuse = |got: String| {
        let expected = format!("{wanted}, by {}", key.describe());
        Check::Signature
            .refuse("signature of the quote", expected, got)
            .fix("send the quote with its own signature, and the key that made it")
    };
    let signature = Signature::parse(given.signature).map_err(|e| refuse(e.to_string()))?;
    if scheme.is_some_and(|scheme| scheme != signature.scheme) {
        return Err(refuse(format!("{:?} with {}", signature.scheme.kind, signature.scheme.hash)));
    }
    signature.verify(key, given.quote).map_err(|e| refuse(e.to_string()))?;
    passed(Check::Signature.id());

    if !qualifying.is_empty() {
        let got = quote.extra_data.len();
        if !qualifying.contains(&got) {
            return Err(Check::QualifyingData
                .refuse("qualifying data of the quote", "32 or 64 bytes", format!("{got} bytes"))
                .fix("quote over the first 32 bytes of the report data"));
        }
        passed(Check::QualifyingData.id());
    }

    let values = check_selection(&quote, given)?;
    passed(Check::Selection.id());
    // The TPM hashes with the hash of the scheme it signs with (Part 3, TPM2_Quote).
    let digest = signature.scheme.hash.digest(&[&values]);
    if digest != quote.pcr_digest {
        return Err(Check::Values
            .refuse("digest of the register values", encoding::hex(&quote.pcr_digest), encoding::hex(&digest))
            .fix("read the registers and quote again: something was measured in between"));
    }
    passed(Check::Values.id());
    if !quote.safe {
        return Err(Check::Clock
            .refuse("clock of the TPM", "safe", "not safe: it was not shut down in order")
            .fix("wait until the TPM has saved its clock (at most 70 minutes), or restart in order"));
    }
    passed(Check::Clock.id());
    Ok(Quoted { quote })
}

fn check_selection(quote: &Quote, given: &Given<'_>) -> Result<Vec<u8>, Rejection> {
    let pcrs = given.pcrs;
    let fix = "quote registers 0 to 7 of the SHA-256 bank, and send the values of what is quoted and no others";
    let list = |pairs: Vec<(HashAlg, Vec<u8>)>| {
        let one = |(bank, of): (HashAlg, Vec<u8>)| {
            format!("{bank}:{}", of.iter().map(u8::to_string).collect::<Vec<_>>().join(","))
        };
        pairs.into_iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let Some(values) = quote.selected(pcrs) else {
        let quoted = quote.selection.iter().map(|s| (s.bank, s.registers.iter().copied().collect())).collect();
        let given = pcrs.iter().map(|(bank, of)| (*bank, of.keys().copied().collect())).collect();
        return Err(Check::Selection.refuse("registers given", list(quoted), list(given)).fix(fix));
    };
    let demanded: BTreeSet<u8> = DEMANDED.into();
    let strong = quote.selection.iter().any(|s| s.bank.is_strong() && s.registers.is_superset(&demanded));
    if !strong {
        let quoted = quote.selection.iter().map(|s| (s.bank, s.registers.iter().copied().collect())).collect();
        let expected = "0 to 7 in sha256 or sha384";
        return Err(Check::Selection.refuse("registers quoted", expected, list(quoted)).fix(fix));
    }
    let barred = |s: &quote::Selection| s.registers.iter().copied().filter(|r| given.barred.contains(r)).collect();
    let barred: Vec<(HashAlg, Vec<u8>)> = quote.selection.iter().map(|s| (s.bank, barred(s))).collect();
    if barred.iter().any(|(_, of)| !of.is_empty()) {
        let got = list(barred.into_iter().filter(|(_, of)| !of.is_empty()).collect());
        return Err(Check::Selection
            .refuse("registers quoted", "none that any program may reset", got)
            .fix("leave out registers 16 and 23: measure into one that only a restart resets, such as 14"));
    }
    Ok(values)
}

/// A log that replays to the quoted values.
struct Replayed<'a> {
    log: EventLog<'a>,
    /// A bank in which it replays to every demanded register.
    bank: HashAlg,
}

impl Replayed<'_> {
    fn secure_boot(&self) -> Option<bool> {
        self.log.secure_boot(self.bank)
    }
}

/// Reads a log and holds it against the quoted values, in every strong bank that both have.
fn check_log<'a>(bytes: &'a [u8], pcrs: &Pcrs) -> Result<Replayed<'a>, Rejection> {
    let refuse = |claim: String, expected: String, got: String| {
        Check::EventLog.refuse(claim, expected, got).fix("send the log of this boot as the kernel shows it, or none")
    };
    let malformed =
        |e: Malformed| refuse("form of the event log".into(), "a crypto-agile TCG2 log".into(), e.to_string());
    let log = EventLog::parse(bytes).map_err(malformed)?;
    let mut whole = None;
    for (bank, values) in pcrs {
        if !bank.is_strong() || !log.algorithms.iter().any(|(id, _)| *id == bank.id()) {
            continue;
        }
        if DEMANDED.iter().all(|register| values.contains_key(register)) {
            whole = whole.or(Some(*bank));
        }
        let replayed = log.replay(*bank).map_err(malformed)?;
        for (register, quoted) in values {
            let expected = match replayed.get(register) {
                Some(value) => value.clone(),
                None if DEMANDED.contains(register) => eventlog::reset_value(*register, *bank),
                None => continue,
            };
            if expected != *quoted {
                let claim = format!("register {register} of {bank} as the event log gives it");
                return Err(refuse(claim, encoding::hex(quoted), encoding::hex(&expected)));
            }
        }
    }
    let Some(bank) = whole else {
        let expected = "those of a bank that was quoted with registers 0 to 7";
        return Err(refuse("digests of the event log".into(), expected.into(), "others".into()));
    };
    Ok(Replayed { log, bank })
}

/// Registers by name: `pcr0` to `pcr23` of SHA-256, `pcr0-sha384` and so on of SHA-384, as far as they were quoted. Never of
/// SHA-1. One name is one bank's: whoever quotes another bank has other names, and not other values.
pub(crate) fn registers(pcrs: &Pcrs) -> BTreeMap<String, String> {
    let strong = pcrs.iter().filter(|(bank, _)| bank.is_strong());
    let named = |bank: HashAlg, register: &u8| match bank {
        HashAlg::Sha256 => format!("pcr{register}"),
        bank => format!("pcr{register}-{bank}"),
    };
    strong
        .flat_map(|(bank, values)| {
            values.iter().map(|(register, value)| (named(*bank, register), encoding::hex(value)))
        })
        .collect()
}

fn claims<R: TpmRootSet>(quoted: &Quoted, pcrs: &Pcrs, endorsed: Endorsed, log: Option<&Replayed<'_>>) -> Claims {
    let basic = Claims::basic(
        R::KIND,
        endorsed.anchor,
        measurement(pcrs).to_string(),
        Attested::endorsed(endorsed.chip),
        Attested::hardware(Tcb::unknown(format!("firmware {:016x}", quoted.quote.firmware))),
        Attested::endorsed(endorsed.maker),
        encoding::hex(&quoted.quote.extra_data),
    );
    let features = |on: bool| on.then(|| SECURE_BOOT.to_owned()).into_iter().collect::<BTreeSet<_>>();
    Claims {
        measurement: Attested::measured(basic.measurement.value.clone()),
        registers: registers(pcrs),
        debug: Attested::declared(false),
        confidential: Attested::hardware(false),
        region: endorsed.instance.as_ref().and_then(|i| Region::new(&i.zone).ok()).map(Attested::endorsed),
        operator: endorsed.instance.map(|_| Attested::endorsed(GOOGLE.to_owned())),
        features: log.and_then(Replayed::secure_boot).map(|on| Attested::measured(features(on))),
        vouched: endorsed.vouched,
        stale_since: endorsed.stale_since,
        revocation: endorsed.revocation,
        ..basic
    }
}
