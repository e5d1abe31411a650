//! What the pool keeps of a proof: enough to decide by, and where in the journal the whole of it is.
//!
//! A passport with its evidence and collateral takes tens of kilobytes, and an enclave has several. Whoever decides asks about its
//! kind ([`Brief::typical`]), its dates and what is the enclave's own; whoever is to be shown a proof whole (a client, an agent, the
//! reader of a receipt) is shown the journal's record of it ([`Brief::whole`]). What is shown is held against the digest that the pool
//! keeps: a record that is gone, or is another, is an error that says so.

use std::sync::Arc;

use legation_core::{
    Digest, KeyId, Rejection, Seq, Signed, UnixTime,
    claims::{CollateralItem, Evidence},
    statement::{Appointment, Passport},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    archive::Archive,
    chip::Chip,
    event::Event,
    footprint::{block, shared_block},
    kind::Kind,
    snapshot::shared,
};

/// The check that a record behind a proof does not pass.
pub(crate) const RECORD: &str = "archive.record";

/// Bits of a [`Piece`] that say which of its record's it is.
const NTH_BITS: u32 = 16;

/// Where a piece of collateral is: which record, and which of the pieces in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Piece(u64);

impl Piece {
    /// Nothing where the numbers are beyond what a journal can have.
    pub(crate) fn new(at: Seq, nth: usize) -> Option<Self> {
        let nth = u16::try_from(nth).ok()?;
        let shifted = at.0.checked_mul(1 << NTH_BITS)?;
        Some(Self(shifted | u64::from(nth)))
    }

    fn at(self) -> Seq {
        Seq(self.0 >> NTH_BITS)
    }

    fn nth(self) -> usize {
        (self.0 & ((1 << NTH_BITS) - 1)) as usize
    }
}

/// What proofs rest on beside their kind: collateral, and accelerators of the enclave's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Behind {
    /// In the order of the passport.
    pieces: Box<[Piece]>,
    /// In the order of the claims.
    gpus: Box<[Chip]>,
}

impl Behind {
    pub(crate) fn new(pieces: Vec<Piece>, passport: &Passport) -> Self {
        let gpus = passport.claims.gpus.iter().map(|gpu| Chip::new(&gpu.value.chip));
        Self { pieces: pieces.into_boxed_slice(), gpus: gpus.collect() }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.pieces.is_empty() && self.gpus.is_empty()
    }

    pub(crate) fn weight(&self) -> usize {
        let gpus: usize = self.gpus.iter().map(|gpu| block(gpu.weight())).sum();
        shared_block::<Self>() + block(size_of_val(&*self.pieces)) + block(size_of_val(&*self.gpus)) + gpus
    }
}

/// A proof in brief.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Brief {
    /// Digest of its passport.
    pub passport: Digest,
    /// The journal's record of it, where passport and evidence are.
    pub at: Seq,
    /// From when it holds.
    pub issued: UnixTime,
    /// Until when it holds.
    pub expires: UnixTime,
    #[serde(with = "shared")]
    pub(crate) kind: Arc<Kind>,
    #[serde(serialize_with = "write_behind", deserialize_with = "read_behind")]
    pub(crate) behind: Option<Arc<Behind>>,
}

fn write_behind<S: Serializer>(behind: &Option<Arc<Behind>>, s: S) -> Result<S::Ok, S::Error> {
    behind.as_deref().serialize(s)
}

fn read_behind<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Arc<Behind>>, D::Error> {
    Ok(Option::<Behind>::deserialize(d)?.map(Arc::new))
}

impl Brief {
    /// Whether it holds at `now`.
    pub fn holds_at(&self, now: UnixTime) -> bool {
        self.issued <= now && now <= self.expires
    }

    /// The verifier that gave it, by its key.
    pub fn verifier(&self) -> KeyId {
        self.kind.verifier()
    }

    /// Appointment of its verifier.
    pub fn appointment(&self) -> &Arc<Signed<Appointment>> {
        self.kind.appointment()
    }

    /// What requirements, policies, prices and ranking see of its passport. It is a passport of nobody: keys, chips, dates,
    /// evidence and collateral in it are blank.
    pub fn typical(&self) -> &Passport {
        self.kind.typical()
    }

    /// Its accelerators' chips, in the order of its claims.
    pub(crate) fn gpus(&self) -> &[Chip] {
        self.behind.as_ref().map_or(&[], |behind| &behind.gpus)
    }

    /// Where the collateral behind it is.
    pub(crate) fn pieces(&self) -> &[Piece] {
        self.behind.as_ref().map_or(&[], |behind| &behind.pieces)
    }

    pub(crate) fn rank(&self) -> (UnixTime, UnixTime, KeyId) {
        (self.issued, self.expires, self.verifier())
    }

    /// Positions of the records that [`Self::whole`] looks at, its own first.
    pub fn positions(&self) -> Vec<Seq> {
        let mut all = vec![self.at];
        for piece in self.pieces() {
            if !all.contains(&piece.at()) {
                all.push(piece.at());
            }
        }
        all
    }

    /// The proof that this is short for.
    ///
    /// # Errors
    /// `archive.record`: a record is not there, or does not hold what this proof rests on.
    pub fn whole<A: Archive + ?Sized>(&self, archive: &A) -> Result<Proof, Rejection> {
        let event = |at: Seq| archive.record(at).map(|record| &record.event);
        let Some(Event::Attested { passport, appointment, evidence, .. }) = event(self.at) else {
            return Err(missing(archive, self.at, "passport", self.passport));
        };
        for (what, expected, got) in [
            ("passport", self.passport, passport.digest()),
            ("appointment", self.appointment().digest(), appointment.digest()),
            ("evidence", passport.evidence, evidence.digest()),
        ] {
            if expected != got {
                return Err(other(self.at, what, expected, got));
            }
        }
        let count = |n: usize| format!("{n} pieces");
        if passport.collateral.len() != self.pieces().len() {
            let why = refusal(self.at, "collateral").expected(count(self.pieces().len()));
            return Err(why.got(count(passport.collateral.len())));
        }
        let mut collateral = Vec::with_capacity(passport.collateral.len());
        for (digest, piece) in passport.collateral.iter().zip(self.pieces()) {
            let found = match event(piece.at()) {
                Some(Event::Attested { collateral, .. }) => collateral.get(piece.nth()),
                _ => None,
            };
            let Some(item) = found else { return Err(missing(archive, piece.at(), "collateral", *digest)) };
            if item.digest() != *digest {
                return Err(other(piece.at(), "collateral", *digest, item.digest()));
            }
            collateral.push(item.clone());
        }
        Ok(Proof {
            passport: (**passport).clone(),
            appointment: (**appointment).clone(),
            evidence: (**evidence).clone(),
            collateral,
        })
    }
}

fn missing<A: Archive + ?Sized>(archive: &A, at: Seq, what: &str, expected: Digest) -> Rejection {
    let got = archive.record(at).map_or("no such record".to_owned(), |r| format!("a record `{}`", r.event.kind()));
    refusal(at, what).expected(format!("{what} {expected}")).got(got)
}

fn other(at: Seq, what: &str, expected: Digest, got: Digest) -> Rejection {
    refusal(at, what).expected(format!("{what} {expected}")).got(format!("one of digest {got}"))
}

fn refusal(at: Seq, what: &str) -> Rejection {
    Rejection::new(RECORD, format!("{what} in record {} of the journal", at.0)).fix(
        "the journal lacks what it held, or was changed: restore it from a backup; the enclave may also attest anew for work to come",
    )
}

/// A proof whole: a passport with what is behind it.
#[derive(Clone, PartialEq, Debug)]
pub struct Proof {
    /// The passport.
    pub passport: Signed<Passport>,
    /// Appointment of its verifier.
    pub appointment: Signed<Appointment>,
    /// The evidence behind it.
    pub evidence: Evidence,
    /// The collateral behind it, ascending by digest.
    pub collateral: Vec<CollateralItem>,
}
