//! From a leaf to a pinned root.

use std::sync::Arc;

use legation_core::{Digest, DigestWriter, Rejection, UnixTime, claims::Anchor};

use super::{
    Presented,
    certificate::Certificate,
    check::Check,
    leaf::Leaf,
    roots::{LeafKind, Root, RootSet},
    tcb::Product,
};
use crate::{cache::DatedCache, check::Trail};

/// A chain that was verified, and when it holds: what a [`ChainCache`] remembers.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) leaf: Leaf,
    pub(crate) anchor: Anchor,
    /// The one product of the root, where it has one.
    pub(crate) root_product: Option<Product>,
    /// Latest begin and earliest end among certificates and revocation lists.
    from: UnixTime,
    until: UnixTime,
    /// Next update of a list that did not come.
    pub(crate) stale_since: Option<UnixTime>,
    /// How many revocation lists it was held against.
    pub(crate) lists: usize,
}

/// Checks of [`verify_chain`], in order.
const STEPS: [Check; 6] =
    [Check::Certificate, Check::Root, Check::Chain, Check::Dates, Check::Revocation, Check::Extensions];

/// Verified chains by content and roots: a chip has one for each security version it reports.
pub type ChainCache = DatedCache<Chain>;

/// The verified chain of `presented`, from the cache when it is there.
pub(crate) fn chain<R: RootSet>(
    presented: &Presented<'_>,
    roots: &R,
    cache: &ChainCache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Arc<Chain>, Rejection> {
    let key = cache_key(presented, roots);
    if let Some(chain) = cache.get(&key, at) {
        STEPS.into_iter().for_each(|step| passed(step.id()));
        return Ok(chain);
    }
    let chain = Arc::new(verify_chain(presented, roots, at, passed)?);
    cache.insert(key, chain.from..=chain.until, Arc::clone(&chain));
    Ok(chain)
}

fn cache_key<R: RootSet>(presented: &Presented<'_>, roots: &R) -> Digest {
    let mut key = DigestWriter::new();
    key.update(b"legation-snp-chain-v1");
    key.update(roots.digest().as_bytes());
    key.update(Digest::of(presented.leaf).as_bytes());
    key.update(&[u8::from(presented.intermediate.is_some())]);
    key.update(Digest::of(presented.intermediate.unwrap_or_default()).as_bytes());
    key.update(&presented.grace.to_be_bytes());
    for crl in presented.crls {
        key.update(crl.digest().as_bytes());
    }
    key.finish()
}

fn verify_chain<R: RootSet>(
    presented: &Presented<'_>,
    roots: &R,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Chain, Rejection> {
    let leaf_cert = Certificate::parse("leaf certificate", presented.leaf)?;
    let given = presented.intermediate.map(|der| Certificate::parse("intermediate certificate", der)).transpose()?;
    passed(Check::Certificate.id());

    let candidates = candidates(&leaf_cert, given.as_ref(), roots)?;
    passed(Check::Root.id());

    let (root, intermediate) = signed_chain(&leaf_cert, given.as_ref(), &candidates)?;
    authorities(&leaf_cert, intermediate, root)?;
    passed(Check::Chain.id());

    let certs = [&leaf_cert, intermediate, &root.ark];
    for cert in certs {
        if !cert.covers(at) {
            return Err(Check::Dates
                .refuse(
                    format!("dates of {}", cert.subject_text),
                    format!("{} to {}", cert.not_before, cert.not_after),
                    at,
                )
                .fix("fetch a current certificate from the vendor, or judge as of a time inside its dates"));
        }
    }
    passed(Check::Dates.id());

    let (mut from, mut until) = (UnixTime(0), UnixTime(u64::MAX));
    let mut stale_since: Option<UnixTime> = None;
    for crl in presented.crls.iter().filter(|crl| crl.is_of(&root.ark)) {
        let stale = crl.check(&root.ark, intermediate, presented.grace, at)?;
        let (issued, next_update) = crl.dates();
        // A verdict that tells of a stale list is none for times at which the list was fresh.
        from = from.max(stale.map_or(issued, |since| since.plus(1)));
        until = until.min(if stale.is_some() { next_update.plus(presented.grace) } else { next_update });
        stale_since = stale_since.into_iter().chain(stale).min();
    }
    passed(Check::Revocation.id());

    let leaf = Leaf::read(&leaf_cert)?;
    let wanted = R::intermediate_name(root, &LeafKind::from(&leaf.holder));
    if wanted.as_deref() != Some(intermediate.common_name.as_str()) {
        return Err(Check::Extensions.refuse(
            format!("issuer of a {} under {}", leaf.holder.common_name(), root.name),
            wanted.unwrap_or_else(|| "none: this root certifies no such leaf".to_owned()),
            &intermediate.common_name,
        ));
    }
    passed(Check::Extensions.id());

    for cert in certs {
        (from, until) = (from.max(cert.not_before), until.min(cert.not_after));
    }
    let lists = presented.crls.iter().filter(|crl| crl.is_of(&root.ark)).count();
    Ok(Chain { leaf, anchor: R::anchor(root), root_product: root.product, from, until, stale_since, lists })
}

/// Roots the chain may end in by name. More than one only among development roots, which share a subject.
fn candidates<'r, R: RootSet>(
    leaf: &Certificate,
    given: Option<&Certificate>,
    roots: &'r R,
) -> Result<Vec<&'r Root>, Rejection> {
    let (issuer, text) = given.map_or((&leaf.issuer, &leaf.issuer_text), |i| (&i.issuer, &i.issuer_text));
    let found: Vec<_> = roots
        .roots()
        .iter()
        .filter(|root| match given {
            Some(_) => root.ark.subject == *issuer,
            None => root.ask.as_ref().is_some_and(|ask| ask.subject == *issuer),
        })
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<_> = roots.roots().iter().map(|r| r.name.as_str()).collect();
    let expected = if names.is_empty() { "none: no root is trusted".to_owned() } else { names.join(", ") };
    let fix = match given {
        Some(_) => "evidence must chain to a root pinned for its kind; name a development root in the anchor file",
        None => "send the intermediate (ASK, or ASVK for a VLEK) after the leaf",
    };
    Err(Check::Root.refuse(format!("root for {} evidence", R::KIND), expected, text).fix(fix))
}

/// The root and intermediate whose keys signed the chain.
fn signed_chain<'c>(
    leaf: &Certificate,
    given: Option<&'c Certificate>,
    candidates: &[&'c Root],
) -> Result<(&'c Root, &'c Certificate), Rejection> {
    let refuse = |claim: String, signer: &str| {
        Err(Check::Chain
            .refuse(claim, format!("a signature by {signer}"), "a signature that is not")
            .fix("send the certificates the vendor issued for this chip and security version"))
    };
    let found = match given {
        Some(intermediate) => candidates.iter().find(|r| intermediate.signed_by(&r.ark)).map(|r| (*r, intermediate)),
        // The built-in intermediate is held against its root all the same.
        None => candidates.iter().find_map(|r| {
            let ask = r.ask.as_ref().filter(|ask| ask.issuer == r.ark.subject && ask.signed_by(&r.ark));
            ask.map(|ask| (*r, ask))
        }),
    };
    let Some((root, intermediate)) = found else {
        let signer = candidates.first().map_or("its root", |r| r.ark.subject_text.as_str());
        return refuse("signature of the intermediate".to_owned(), signer);
    };
    if leaf.issuer != intermediate.subject {
        return Err(Check::Chain.refuse("issuer of the leaf", &intermediate.subject_text, &leaf.issuer_text));
    }
    if !leaf.signed_by(intermediate) {
        return refuse(format!("signature of {}", leaf.subject_text), &intermediate.subject_text);
    }
    Ok((root, intermediate))
}

/// CA flags and key usages: root and intermediate certify, the leaf does not (RFC 5280 sections 4.2.1.3 and 4.2.1.9).
fn authorities(leaf: &Certificate, intermediate: &Certificate, root: &Root) -> Result<(), Rejection> {
    for (cert, below) in [(intermediate, 0), (&root.ark, 1)] {
        if !cert.certifies() || cert.path_len.is_some_and(|len| len < below) {
            return Err(Check::Chain.refuse(
                format!("authority of {}", cert.subject_text),
                "a certificate authority with certificate signing in its key usage",
                "none",
            ));
        }
    }
    if leaf.claims_authority() {
        return Err(Check::Chain.refuse("authority of the leaf", "none", "a certificate authority"));
    }
    Ok(())
}
