//! Chains of X.509 certificates (RFC 5280) that belong to no one vendor's profile: Nitro enclaves, GPUs, TPMs.
//!
//! It is pure, and knows nothing of the web: no host names, no path building, no policies. A chain is given leaf first
//! and whole but for the root; it holds when, in this order,
//!
//! 1. every certificate parses ([`Certificate::parse`]), and there are at most [`LINKS_MAX`] of them (`certificate`);
//! 2. the last one is a pinned root by the SHA-256 of its DER, or a root that is at hand signed it (`root`);
//! 3. names chain byte for byte, key identifiers agree where both are there, every issuer is a certificate authority
//!    with certificate signing in its key usage and a path length that reaches, every issuer's key signed the next
//!    certificate over the bytes that came, the leaf is no authority and has the purpose asked for, and no critical
//!    extension is unknown (`chain`);
//! 4. every certificate, the root's too, is inside its dates (`dates`);
//! 5. every list at hand of an issuer in the chain is signed by it, fresh (or stale within a grace, which the verdict
//!    then says), and names none of the certificates it issued (`revocation`).
//!
//! The names of these checks are the caller's ([`Rules`]). Path lengths count self-issued certificates too, which is
//! stricter than RFC 5280 section 6.1.4.
//!
//! AMD's chains have rules of their own, and a narrower profile over the same [`Certificate`] and [`Crl`]:
//! [`crate::snp`].

mod certificate;
mod crl;
mod signature;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use legation_core::{Digest, DigestWriter, Rejection, UnixTime, claims::Anchor, encoding};

pub use certificate::{CERTIFICATE_MAX, Certificate, EXTENSIONS_MAX, Extension, Usage};
pub(crate) use certificate::{serial, time};
pub use crl::{CRL_MAX, Crl, REVOKED_MAX};
pub use signature::{Algorithm, Hash, Key};

use crate::{cache::DatedCache, check::Trail};

/// Most certificates in one chain, root included.
pub const LINKS_MAX: usize = 8;

/// Why bytes are not what they should be; a lowercase fragment.
type Why = String;

/// A root that chains may end in.
#[derive(Clone, Debug)]
pub struct Root {
    anchor: Anchor,
    fingerprint: Digest,
    certificate: Option<Certificate>,
}

impl Root {
    /// A root by the SHA-256 of its DER alone: chains must bring its certificate, last.
    pub fn pinned(anchor: Anchor, fingerprint: Digest) -> Self {
        Self { anchor, fingerprint, certificate: None }
    }

    /// A root by its certificate: chains may bring it, last, or leave it out.
    pub fn given(anchor: Anchor, certificate: Certificate) -> Self {
        Self { anchor, fingerprint: certificate.fingerprint, certificate: Some(certificate) }
    }

    /// What a verdict that ends here rests on.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// SHA-256 of its DER.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }
}

/// What one kind of chain is held to, and how its checks are called.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Name of the check on the form of certificates.
    pub certificate: &'static str,
    /// Name of the check on the root.
    pub root: &'static str,
    /// Name of the check on names, authorities and signatures.
    pub chain: &'static str,
    /// Name of the check on dates.
    pub dates: &'static str,
    /// Name of the check on revocation lists; `None` where there are none for this kind of chain.
    pub revocation: Option<&'static str>,
    /// Critical extensions that the caller understands and looks at, beside basic constraints and key usage: contents
    /// octets of their identifiers.
    pub understood: &'static [&'static [u8]],
    /// Purpose that the leaf's extended key usage must name, where one is asked for: contents octets.
    pub purpose: Option<&'static [u8]>,
    /// Whether the leaf's key must be for signatures: digitalSignature in its key usage.
    pub signs: bool,
    /// What to do about a chain that does not hold.
    pub fix: &'static str,
}

/// What chains of one kind are verified against.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Roots they may end in.
    pub roots: &'a [Root],
    /// Revocation lists at hand, of any issuer; those of issuers in the chain count.
    pub crls: &'a [Crl],
    /// Seconds for which a list past its next update is still believed.
    pub grace: u64,
    /// The rules.
    pub rules: &'a Rules,
}

/// A chain that was verified, and when it holds.
#[derive(Clone, Debug)]
pub struct Chain {
    leaf: Certificate,
    /// SHA-256 of the key of each certificate, leaf first.
    keys: Vec<Digest>,
    anchor: Anchor,
    /// Latest begin and earliest end among certificates and lists.
    from: UnixTime,
    until: UnixTime,
    /// Next update of the list that has been stale longest, when one is.
    stale_since: Option<UnixTime>,
    /// Whether a list of every authority in it was at hand.
    revocation_checked: bool,
}

impl Chain {
    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// SHA-256 of the SubjectPublicKeyInfo of each certificate, leaf first, root last.
    pub fn keys(&self) -> &[Digest] {
        &self.keys
    }

    /// What it ends in.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// Until when it holds, as far as certificates and lists say.
    pub fn until(&self) -> UnixTime {
        self.until
    }

    /// Since when a list behind it is past its next update, if one is.
    pub fn stale_since(&self) -> Option<UnixTime> {
        self.stale_since
    }

    /// Whether it was held against a revocation list of every authority in it. Not where its kind has no such lists.
    pub fn revocation_checked(&self) -> bool {
        self.revocation_checked
    }
}

/// Verified chains by the content of everything they were verified with.
pub type ChainCache = DatedCache<Chain>;

/// The verified chain of these certificates, leaf first, DER; from the cache when it is there.
///
/// # Errors
/// The first check that refuses.
pub fn chain(ders: &[&[u8]], trust: &Trust<'_>, cache: &ChainCache, at: UnixTime) -> Result<Arc<Chain>, Rejection> {
    chain_on(ders, trust, cache, at, &mut |_| ())
}

/// As [`chain`], noting each check that passes.
pub(crate) fn chain_on(
    ders: &[&[u8]],
    trust: &Trust<'_>,
    cache: &ChainCache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Arc<Chain>, Rejection> {
    let rules = trust.rules;
    check_links(ders.len(), rules)?;
    let key = cache_key(ders, trust);
    if let Some(chain) = cache.get(&key, at) {
        [rules.certificate, rules.root, rules.chain, rules.dates].into_iter().for_each(&mut *passed);
        rules.revocation.into_iter().for_each(passed);
        return Ok(chain);
    }
    let what =
        |i: usize| if i == 0 { "leaf certificate".to_owned() } else { format!("certificate {i} above the leaf") };
    let parse = |(i, der): (usize, &&[u8])| Certificate::parse(rules.certificate, &what(i), der);
    let certificates = ders.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
    passed(rules.certificate);
    let chain = Arc::new(verify_on(&certificates, trust, at, passed)?);
    cache.insert(key, chain.from..=chain.until, Arc::clone(&chain));
    Ok(chain)
}

/// Verifies parsed certificates, leaf first, against `roots` as of `at`; gives the root they end in. No lists.
///
/// # Errors
/// The first check that refuses.
pub fn verify<'r>(
    leaf_to_root: &[Certificate],
    roots: &'r [Root],
    rules: &Rules,
    at: UnixTime,
) -> Result<&'r Root, Rejection> {
    check_links(leaf_to_root.len(), rules)?;
    let (links, root) = links(leaf_to_root, roots, rules)?;
    check_chain(&links, rules)?;
    check_dates(&links, rules, at)?;
    Ok(root)
}

fn verify_on(
    certificates: &[Certificate],
    trust: &Trust<'_>,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Chain, Rejection> {
    let rules = trust.rules;
    let (links, root) = links(certificates, trust.roots, rules)?;
    passed(rules.root);
    check_chain(&links, rules)?;
    passed(rules.chain);
    check_dates(&links, rules, at)?;
    passed(rules.dates);
    let lists = revocation(&links, trust, at)?;
    rules.revocation.into_iter().for_each(passed);
    // A verdict that tells of a stale list is none for times at which the list was fresh.
    let issued = lists.iter().map(|(crl, stale)| stale.map_or(crl.this_update, |since| since.plus(1)));
    let from = links.iter().map(|c| c.not_before).chain(issued).max();
    let until = links.iter().map(|c| c.not_after).chain(lists.iter().map(|(crl, _)| crl.next_update)).min();
    let [leaf, ..] = certificates else { return Err(no_links(rules)) };
    Ok(Chain {
        leaf: leaf.clone(),
        keys: links.iter().map(|c| c.key_digest).collect(),
        anchor: root.anchor.clone(),
        from: from.unwrap_or(at),
        until: until.unwrap_or(at),
        stale_since: lists.iter().filter_map(|(_, stale)| *stale).min(),
        revocation_checked: links.len() > 1
            && links.iter().skip(1).all(|issuer| lists.iter().any(|(crl, _)| crl.issuer == issuer.subject)),
    })
}

fn cache_key(ders: &[&[u8]], trust: &Trust<'_>) -> Digest {
    let mut key = DigestWriter::new();
    key.update(b"legation-x509-chain-v1");
    // The name of a check is the name of the kind: one kind's verdict is never another's.
    for name in [trust.rules.certificate, trust.rules.chain] {
        key.update(Digest::of(name.as_bytes()).as_bytes());
    }
    for count in [ders.len(), trust.roots.len(), trust.crls.len()] {
        key.update(&(count as u64).to_be_bytes());
    }
    ders.iter().for_each(|der| key.update(Digest::of(der).as_bytes()));
    for root in trust.roots {
        key.update(root.fingerprint.as_bytes());
        key.update(&[u8::from(root.anchor.is_development())]);
        key.update(Digest::of(root.anchor.name().as_bytes()).as_bytes());
    }
    trust.crls.iter().for_each(|crl| key.update(crl.digest.as_bytes()));
    key.finish()
}

fn no_links(rules: &Rules) -> Rejection {
    Rejection::new(rules.certificate, "number of certificates")
        .expected(format!("1 to {LINKS_MAX}"))
        .got("0")
        .fix(rules.fix)
}

fn check_links(count: usize, rules: &Rules) -> Result<(), Rejection> {
    if (1..=LINKS_MAX).contains(&count) { Ok(()) } else { Err(no_links(rules).got(count)) }
}

/// The certificates with their root at the end, whether it came or not.
fn links<'c, 'r: 'c>(
    certificates: &'c [Certificate],
    roots: &'r [Root],
    rules: &Rules,
) -> Result<(Vec<&'c Certificate>, &'r Root), Rejection> {
    let last = certificates.last().ok_or_else(|| no_links(rules))?;
    let mut links: Vec<_> = certificates.iter().collect();
    if let Some(root) = roots.iter().find(|root| root.fingerprint == last.fingerprint) {
        return Ok((links, root));
    }
    // Two roots may have one name: a renewed one, or a forged one.
    let held = roots.iter().filter_map(|root| root.certificate.as_ref().map(|certificate| (root, certificate)));
    let has_room = certificates.len() < LINKS_MAX;
    let named: Vec<_> = held.filter(|(_, certificate)| has_room && certificate.subject == last.issuer).collect();
    if let Some((root, certificate)) = named.iter().find(|(_, certificate)| last.signed_by(certificate)) {
        links.push(certificate);
        return Ok((links, root));
    }
    if !named.is_empty() {
        return Err(bad_signature(last, &last.issuer_text, rules));
    }
    let names: Vec<_> = roots.iter().map(|root| root.anchor.to_string()).collect();
    let expected = if names.is_empty() { "none: no root is trusted".to_owned() } else { names.join(", ") };
    let got = format!("{} ({})", last.subject_text, last.fingerprint);
    Err(Rejection::new(rules.root, "root of the chain").expected(expected).got(got).fix(rules.fix))
}

fn bad_signature(certificate: &Certificate, issuer: &str, rules: &Rules) -> Rejection {
    Rejection::new(rules.chain, format!("signature of {}", certificate.subject_text))
        .expected(format!("by {issuer}"))
        .got("another signature")
        .fix(rules.fix)
}

fn check_chain(links: &[&Certificate], rules: &Rules) -> Result<(), Rejection> {
    let refuse = |claim: String, expected: &str, got: &str| {
        Err(Rejection::new(rules.chain, claim).expected(expected).got(got).fix(rules.fix))
    };
    for certificate in links {
        if let Some(extension) = certificate.not_understood(rules.understood) {
            let got = encoding::hex(&extension.id);
            return refuse(format!("critical extensions of {}", certificate.subject_text), "none unknown", &got);
        }
    }
    for (below, pair) in links.windows(2).enumerate() {
        let [certificate, issuer] = pair else { continue };
        if issuer.subject != certificate.issuer {
            let claim = format!("issuer of {}", certificate.subject_text);
            return refuse(claim, &issuer.subject_text, &certificate.issuer_text);
        }
        if issuer.fingerprint == certificate.fingerprint {
            return refuse(format!("issuer of {}", certificate.subject_text), "another certificate", "the same again");
        }
        let certifies = issuer.certifies();
        let reaches = issuer.path_len.is_none_or(|len| below as u64 <= u64::from(len));
        if !certifies || !reaches {
            let got = if certifies { "a path length that ends above it" } else { "no such authority" };
            let claim = format!("authority of {}", issuer.subject_text);
            return refuse(claim, "a certificate authority with certificate signing in its key usage", got);
        }
        if let (Some(wanted), Some(has)) = (&certificate.authority_key_id, &issuer.key_id)
            && wanted != has
        {
            let claim = format!("key identifier of the issuer of {}", certificate.subject_text);
            return refuse(claim, &encoding::hex(has), &encoding::hex(wanted));
        }
        if !certificate.signed_by(issuer) {
            return Err(bad_signature(certificate, &issuer.subject_text, rules));
        }
    }
    let [leaf, ..] = links else { return Err(no_links(rules)) };
    if leaf.claims_authority() {
        return refuse("authority of the leaf".to_owned(), "none", "a certificate authority");
    }
    if rules.signs && !leaf.usage.is_some_and(|usage| usage.sign) {
        return refuse("key usage of the leaf".to_owned(), "digital signature", "none");
    }
    if rules.purpose.is_some_and(|purpose| !leaf.has_purpose(purpose)) {
        return refuse("extended key usage of the leaf".to_owned(), "the purpose of this kind of evidence", "others");
    }
    Ok(())
}

fn check_dates(links: &[&Certificate], rules: &Rules, at: UnixTime) -> Result<(), Rejection> {
    match links.iter().find(|certificate| !certificate.covers(at)) {
        None => Ok(()),
        Some(certificate) => Err(Rejection::new(rules.dates, format!("dates of {}", certificate.subject_text))
            .expected(format!("{} to {}", certificate.not_before, certificate.not_after))
            .got(at)
            .fix("attest again for a current certificate, or judge as of a time inside its dates")),
    }
}

/// The lists of issuers in the chain, each with since when it is stale, if it is.
fn revocation<'c>(
    links: &[&Certificate],
    trust: &Trust<'c>,
    at: UnixTime,
) -> Result<Vec<(&'c Crl, Option<UnixTime>)>, Rejection> {
    let Some(check) = trust.rules.revocation else { return Ok(Vec::new()) };
    let mut used = Vec::new();
    for pair in links.windows(2) {
        let [certificate, issuer] = pair else { continue };
        // A root that was renewed may have the name of the one before: the list of that one says nothing of this.
        let of_namesake = |crl: &Crl| {
            let others = trust.roots.iter().filter_map(|root| root.certificate.as_ref());
            let mut others = others.filter(|c| c.subject == crl.issuer && c.fingerprint != issuer.fingerprint);
            others.any(|other| crl.is_signed_by(other))
        };
        let named = trust.crls.iter().filter(|crl| crl.issuer == issuer.subject);
        for crl in named.filter(|crl| !of_namesake(crl)) {
            let stale = crl.verify(check, issuer, at, trust.grace)?;
            if crl.revokes(certificate) {
                return Err(Rejection::new(
                    check,
                    format!("entries of the revocation list of {}", issuer.subject_text),
                )
                .expected("no entry for the certificate")
                .got(&certificate.subject_text)
                .fix("its authority revoked it: the machine needs a new certificate"));
            }
            used.push((crl, stale));
        }
    }
    Ok(used)
}
