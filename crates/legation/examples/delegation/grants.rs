//! The check of a chain of three grants: of the client to an enclave, of that to a second, of the second to a third, which checks.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use legation::exit::Failure;
use legation_core::{
    Digest, Fuel, MicroUsd, Signed, Signer,
    delegation::{
        Lineage, Sum,
        attenuate::{Onward, widest},
    },
    dsse,
    statement::Grant,
};
use legation_keys::IdentityKey;
use legation_net::OsEntropy;
use serde_json::{Value, json};

use crate::{
    failed, in_turn,
    paper::{INDEX, Paper},
    quantile, round, spread, times,
};

/// Enclaves that hand on, one to the next.
const DEPTH: u32 = 3;

pub(crate) fn measure(rounds: usize) -> Result<Value, Failure> {
    let paper = Paper::new(DEPTH)?;
    let keys = [(); 3].map(|()| IdentityKey::generate(&mut OsEntropy));
    let [first, second, third] = &keys;
    let mut chain = vec![paper.grant(first.public_key().enclave_id())?];
    for (by, to) in [(first, second), (second, third)] {
        let above = chain.last().cloned().ok_or_else(|| failed("no grant"))?;
        let until = paper.request.expires;
        // As much as may be passed on further: half.
        let onward = Onward { depth: DEPTH, most: Sum { fuel: Fuel(u64::MAX), cost: MicroUsd(u64::MAX) } };
        let child = widest(&[above], by.public_key(), INDEX, (to.public_key().enclave_id(), until), onward);
        chain.push(dsse::sign(child.map_err(failed)?, by));
    }
    let leaf = chain.last().map(Signed::digest).ok_or_else(|| failed("no grant"))?;
    let text = serde_json::to_vec(&chain).map_err(failed)?;

    let check = || -> Result<Lineage, Failure> {
        let grants: Vec<Signed<Grant>> = serde_json::from_slice(&text).map_err(failed)?;
        let find = |digest: &Digest| grants.iter().find(|grant| grant.digest() == *digest).cloned();
        Lineage::of(&paper.request, &leaf, find).map_err(failed)
    };
    // What part of it is the rules, once the envelopes are open.
    let find = |digest: &Digest| chain.iter().find(|grant| grant.digest() == *digest).cloned();
    let rules = times(rounds, || Lineage::of(&paper.request, &leaf, find).map_err(failed))?;

    // The library alone, over texts of the same lengths.
    let mut signed = Vec::new();
    for (grant, key) in chain.iter().zip(&keys) {
        let message = grant.envelope().payload().to_vec();
        let signature = key.sign(&message);
        // The key itself, after the twelve bytes that say of which kind it is (RFC 8410).
        signed.push((key.public_key().spki()[12..].to_vec(), message, signature));
    }
    let three = || -> Result<(), Failure> {
        for (key, message, signature) in &signed {
            UnparsedPublicKey::new(&ED25519, key).verify(message, &signature.0).map_err(|_| failed("a signature"))?;
        }
        Ok(())
    };
    let (whole, library) = in_turn(rounds, check, three)?;
    let (all, bare) = (quantile(&whole, 0.5), quantile(&library, 0.5));
    let over = (all / bare - 1.0) * 100.0;
    Ok(json!({
        "what": "a chain of three grants from its JSON: spelling, three signatures, every rule of attenuation, up to the request",
        "bytes": text.len(), "rounds": rounds,
        "check_us": spread(&whole), "of_that_rules_us": spread(&rules),
        "three_signatures_of_the_library_us": spread(&library),
        "over_the_library_percent": round(over),
        "aim": { "check_us": 150, "over_the_library_percent": 20 },
        "met": all <= 150.0 && over <= 20.0,
    }))
}
