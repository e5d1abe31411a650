//! Offers as they come in: statements whose signatures were checked before are not checked again.
//!
//! Parts of one task carry the same request, appointments and often grants; checking those once per agent rather than once per
//! offer is most of the cost of a small task. What is remembered is the statement with its checked signature, by the digest of
//! its envelope, which covers every byte of it; whether it may say what it says is judged each time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use legation_core::{
    Digest, Envelope, LeaseId, Rejection, Seq, Signed, Term,
    dsse::{EnvelopeError, Predicate},
    statement::{Allocation, Appointment, Grant, Passport, Report, Request},
    task::WrappedKey,
};
use legation_net::message::{Offer, Upstream};
use serde::Deserialize;

/// How the message that offers begins, as the manager writes it.
const OFFER: &[u8] = br#"{"say":"offer","#;
/// Most payload bytes that one sort of statement may have remembered.
const REMEMBERED_BYTES_MAX: usize = 16 << 20;

/// [`Offer`], its signatures not checked yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    term: Term,
    seq: Seq,
    allocation: Envelope,
    appointment: Envelope,
    request: Envelope,
    grants: Vec<Envelope>,
    keys: Vec<WrappedKey>,
    upstream: Vec<UncheckedUpstream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedUpstream {
    report: Envelope,
    passport: Envelope,
    appointment: Envelope,
}

#[derive(Deserialize)]
struct Message {
    with: Unchecked,
}

/// Why an offer was not even judged.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// The lease it says it is about, unchecked, if that can be told.
    pub(crate) lease: Option<LeaseId>,
    /// Why.
    pub(crate) why: Rejection,
}

/// Whether a control message is an offer, from its first bytes: so that the rest is read elsewhere.
pub(crate) fn is_offer(message: &[u8]) -> bool {
    message.starts_with(OFFER)
}

/// Statements whose signatures were checked.
#[derive(Default)]
pub(crate) struct Intake {
    appointments: Remembered<Appointment>,
    requests: Remembered<Request>,
    grants: Remembered<Grant>,
    passports: Remembered<Passport>,
    reports: Remembered<Report>,
}

impl Intake {
    /// Reads a message that [`is_offer`], and checks its signatures.
    pub(crate) fn read(&self, message: &[u8]) -> Result<Offer, Unreadable> {
        let malformed =
            |e| Unreadable { lease: None, why: Rejection::new("offer.format", "message").expected("an offer").got(e) };
        let Message { with: offer } = serde_json::from_slice::<Message>(message).map_err(malformed)?;
        let lease = offer.allocation.peek::<Allocation>().ok().map(|a| a.lease);
        self.check(offer).map_err(|(what, e)| Unreadable {
            lease,
            why: Rejection::new("offer.signature", what.to_owned()).expected("signed by the key it names").got(e),
        })
    }

    fn check(&self, offer: Unchecked) -> Result<Offer, (&'static str, EnvelopeError)> {
        let upstream = |up: UncheckedUpstream| {
            Ok(Upstream {
                report: self.reports.open(up.report).map_err(|e| ("report behind an input", e))?,
                passport: self.passports.open(up.passport).map_err(|e| ("passport behind an input", e))?,
                appointment: self.appointments.open(up.appointment).map_err(|e| ("appointment behind an input", e))?,
            })
        };
        Ok(Offer {
            term: offer.term,
            seq: offer.seq,
            allocation: offer.allocation.open().map_err(|e| ("allocation", e))?,
            appointment: self.appointments.open(offer.appointment).map_err(|e| ("appointment of the manager", e))?,
            request: self.requests.open(offer.request).map_err(|e| ("request", e))?,
            grants: offer
                .grants
                .into_iter()
                .map(|g| self.grants.open(g).map_err(|e| ("grant", e)))
                .collect::<Result<_, _>>()?,
            keys: offer.keys,
            upstream: offer.upstream.into_iter().map(upstream).collect::<Result<_, _>>()?,
        })
    }
}

/// Statements of one sort, by the digest of their envelope.
struct Remembered<P>(Mutex<Inner<P>>);

struct Inner<P> {
    known: HashMap<Digest, Signed<P>>,
    bytes: usize,
}

impl<P> Default for Remembered<P> {
    fn default() -> Self {
        Self(Mutex::new(Inner { known: HashMap::new(), bytes: 0 }))
    }
}

impl<P: Predicate + Clone> Remembered<P> {
    fn open(&self, envelope: Envelope) -> Result<Signed<P>, EnvelopeError> {
        let digest = envelope.digest();
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).known.get(&digest) {
            return Ok(known.clone());
        }
        let signed = envelope.open::<P>()?;
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = envelope.payload().len();
        if inner.bytes + size > REMEMBERED_BYTES_MAX {
            // Forgetting everything costs one round of checks, and needs no order of use.
            inner.known.clear();
            inner.bytes = 0;
        }
        if inner.known.insert(digest, signed.clone()).is_none() {
            inner.bytes += size;
        }
        Ok(signed)
    }
}
