//! Somebody who signs, somebody who lies about it, and a judge that believes what the evidence says in so many words.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use legation_core::{
    PublicKey, Rejection, SealingPublicKey, Signature, Signer, UnixTime,
    claims::{Anchor, Evidence, EvidenceJudge, Judged, Shelf, TeeKind},
};

/// An Ed25519 key made from a name.
pub(crate) struct Party {
    pair: Ed25519KeyPair,
    name: &'static str,
}

impl Party {
    pub(crate) fn new(name: &'static str) -> Self {
        let seed = legation_core::Digest::of(name.as_bytes());
        Self { pair: Ed25519KeyPair::from_seed_unchecked(seed.as_bytes()).unwrap(), name }
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.public_key()
    }

    /// What the key is made from.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Bytes that stand for a sealing key: nothing here seals.
    pub(crate) fn sealing(&self) -> SealingPublicKey {
        let seed = legation_core::Digest::of(self.name.as_bytes());
        SealingPublicKey::from_bytes([seed.as_bytes()[0]; SealingPublicKey::LEN])
    }
}

impl Signer for Party {
    fn public_key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey::from_bytes(bytes)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(bytes)
    }
}

/// Signs with its own key and says it was another's.
pub(crate) struct Impostor {
    pub(crate) own: Party,
    pub(crate) claimed: PublicKey,
}

impl Signer for Impostor {
    fn public_key(&self) -> PublicKey {
        self.claimed
    }

    fn sign(&self, message: &[u8]) -> Signature {
        self.own.sign(message)
    }
}

/// Evidence that says in JSON what a real judge would find in it.
pub(crate) fn evidence(judged: &Judged) -> Evidence {
    Evidence {
        kind: TeeKind::DevSnp,
        report: serde_json::to_vec(&judged.claims).unwrap(),
        endorsements: Vec::new(),
        devices: Vec::new(),
        binding: judged.binding.encode(),
        configuration: judged.configuration.encode(),
    }
}

/// Believes evidence under these development roots, and any that says it is a vendor's.
pub(crate) struct Believer(pub(crate) Vec<String>);

impl EvidenceJudge for Believer {
    fn judge(&self, evidence: &Evidence, shelf: &Shelf, at: UnixTime) -> Result<Judged, Rejection> {
        let bad = |e: serde_json::Error| Rejection::new("evidence.form", "the evidence").got(e);
        let judged = Judged {
            claims: serde_json::from_slice(&evidence.report).map_err(bad)?,
            binding: serde_json::from_slice(&evidence.binding).map_err(bad)?,
            configuration: serde_json::from_slice(&evidence.configuration).map_err(bad)?,
            collateral: shelf.items().map(|item| item.digest()).collect::<BTreeSet<_>>().into_iter().collect(),
        };
        if let Anchor::Development(name) = &judged.claims.anchor
            && !self.0.contains(name)
        {
            return Err(Rejection::new("evidence.root", "root of the evidence").got(name));
        }
        if at < judged.binding.not_before || judged.binding.not_after < at {
            return Err(Rejection::new("evidence.dates", "dates of the key binding").got(at));
        }
        Ok(judged)
    }
}
