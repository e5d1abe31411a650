//! The archive: whole proofs, read from the journal's records where the pool has them in brief.
//!
//! 1. Records are read by a door of its own to the store, on a thread that may block: neither deciding nor writing waits for it. What
//!    goes to agents has another door than what clients ask for: offers do not queue behind receipts.
//! 2. What was read last is kept, a manager [`CACHE_MAX`] bytes of it at most: clients ask again and again what they are to grant.
//! 3. What is told is held against the digests that the pool keeps: a record that is gone or is another is `archive.record`. A store
//!    that does not answer is `archive.store`, and trying again may help.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use legation_core::{Rejection, Seq, Signed, statement::Passport};
use legation_net::message::{Enlist, Lending, Offer, Peer, Upstream};
use legation_pool::{Brief, EnlistParts, LoanParts, Need, Needs, OfferParts, ReceiptOutline, ReceiptParts, Record};
use tokio::sync::Mutex as Turns;

use crate::journal::{JournalError, Records};

/// Most bytes of records that a manager keeps, about.
pub const CACHE_MAX: usize = 32 << 20;
/// Records that are read at once.
const PAGE: usize = 64;

/// Records by position.
type Found = BTreeMap<Seq, Arc<Record>>;

/// The door to whole proofs; cheap to clone.
#[derive(Clone)]
pub struct Archive {
    cache: Arc<Mutex<Cache>>,
    store: Arc<Turns<Box<dyn Records>>>,
}

impl Archive {
    /// Over a store; keeps `most` bytes of records.
    pub fn new(store: Box<dyn Records>, most: usize) -> Self {
        let cache = Cache { most, ..Cache::default() };
        Self { cache: Arc::new(Mutex::new(cache)), store: Arc::new(Turns::new(store)) }
    }

    /// Over another door to the same store; what either reads is kept for both.
    pub fn beside(&self, store: Box<dyn Records>) -> Self {
        Self { cache: self.cache.clone(), store: Arc::new(Turns::new(store)) }
    }

    /// Bytes of records that are kept now, about.
    pub fn kept(&self) -> usize {
        self.with_cache(|cache| cache.weight)
    }

    fn with_cache<T>(&self, run: impl FnOnce(&mut Cache) -> T) -> T {
        run(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What clients must grant, with the proofs that they are to judge.
    ///
    /// # Errors
    /// `archive.record`, `archive.store`.
    pub async fn needs(&self, needs: Vec<Need>) -> Result<Vec<Needs>, Rejection> {
        let found = self.read(needs.iter().map(|need| &need.proof)).await?;
        needs.into_iter().map(|need| need.whole(&found)).collect()
    }

    /// The parts of a receipt, with the proofs behind its reports.
    ///
    /// # Errors
    /// `archive.record`, `archive.store`.
    pub async fn receipt(&self, outline: ReceiptOutline) -> Result<ReceiptParts, Rejection> {
        let found = self.read_at(outline.positions().into_iter().collect()).await?;
        outline.whole(&found)
    }

    /// The passports that these are short for.
    ///
    /// # Errors
    /// `archive.record`, `archive.store`.
    pub async fn passports(&self, proofs: &[Brief]) -> Result<Vec<Signed<Passport>>, Rejection> {
        let found = self.read(proofs).await?;
        proofs.iter().map(|proof| proof.whole(&found).map(|whole| whole.passport)).collect()
    }

    /// The same with the appointments of their verifiers, as they are shown to others.
    ///
    /// # Errors
    /// `archive.record`, `archive.store`.
    pub async fn peers(&self, proofs: &[Brief]) -> Result<Vec<Peer>, Rejection> {
        let found = self.read(proofs).await?;
        let peer = |proof: &Brief| {
            let whole = proof.whole(&found)?;
            Ok(Peer { passport: whole.passport, appointment: whole.appointment })
        };
        proofs.iter().map(peer).collect()
    }

    /// A loan as one side of it is told, with the passport of the other.
    ///
    /// # Errors
    /// `archive.record`, `archive.store`.
    pub async fn lending(&self, parts: &LoanParts) -> Result<Lending, Rejection> {
        let found = self.read([&parts.other]).await?;
        let other = parts.other.whole(&found)?;
        Ok(Lending {
            term: parts.term,
            seq: parts.seq,
            allocation: parts.allocation.clone(),
            appointment: (*parts.appointment).clone(),
            request: (*parts.request).clone(),
            borrower: parts.borrower.clone(),
            other: Peer { passport: other.passport, appointment: other.appointment },
        })
    }

    /// An offer as an agent is sent it, with the passports behind its inputs.
    ///
    /// # Errors
    /// `archive.record`, `archive.store`.
    pub async fn offer(&self, parts: &OfferParts) -> Result<Offer, Rejection> {
        let found = self.read(parts.upstream.iter().map(|up| &up.proof)).await?;
        let upstream = parts.upstream.iter().map(|up| {
            let proof = up.proof.whole(&found)?;
            Ok(Upstream { report: up.report.clone(), passport: proof.passport, appointment: proof.appointment })
        });
        Ok(Offer {
            upstream: upstream.collect::<Result<_, Rejection>>()?,
            term: parts.term,
            seq: parts.seq,
            allocation: parts.allocation.clone(),
            appointment: (*parts.appointment).clone(),
            request: (*parts.request).clone(),
            grants: parts.grants.clone(),
            keys: parts.keys.clone(),
        })
    }

    /// A call to join a swarm as a member is sent it, with the passports of all members.
    ///
    /// # Errors
    /// `archive.record`, `archive.store`.
    pub async fn enlist(&self, parts: &EnlistParts) -> Result<Enlist, Rejection> {
        let found = self.read(&parts.members).await?;
        let members = parts.members.iter().map(|member| {
            let proof = member.whole(&found)?;
            Ok(Peer { passport: proof.passport, appointment: proof.appointment })
        });
        Ok(Enlist {
            members: members.collect::<Result<_, Rejection>>()?,
            term: parts.term,
            seq: parts.seq,
            seating: parts.seating.clone(),
            appointment: (*parts.appointment).clone(),
            request: (*parts.request).clone(),
        })
    }

    /// The records behind these proofs, as far as they are there.
    async fn read(&self, proofs: impl IntoIterator<Item = &Brief>) -> Result<Found, Rejection> {
        self.read_at(proofs.into_iter().flat_map(Brief::positions).collect()).await
    }

    /// These records, as far as they are there.
    async fn read_at(&self, wanted: BTreeSet<Seq>) -> Result<Found, Rejection> {
        let mut found = self.with_cache(|cache| cache.take_all(&wanted));
        let missing: Vec<Seq> = wanted.into_iter().filter(|at| !found.contains_key(at)).collect();
        for page in missing.chunks(PAGE) {
            let (page, mut store) = (page.to_vec(), self.store.clone().lock_owned().await);
            let read = tokio::task::spawn_blocking(move || {
                let records = store.records(&page)?;
                Ok(records.into_iter().map(|record| (weight(&record), Arc::new(record))).collect::<Vec<_>>())
            });
            let read = read.await.map_err(|e| Rejection::new("archive.store", "reading the journal").got(e))?;
            for (weight, record) in read.map_err(|why| refusal(&why))? {
                self.with_cache(|cache| cache.put(record.clone(), weight));
                found.insert(record.seq, record);
            }
        }
        Ok(found)
    }
}

/// What a record takes in memory, about: its text, and as much again for what was parsed of it.
fn weight(record: &Record) -> usize {
    serde_json::to_vec(&record.event).map_or(0, |text| text.len()).saturating_mul(2)
}

fn refusal(why: &JournalError) -> Rejection {
    match why {
        JournalError::Unreadable { seq, .. } => {
            Rejection::new("archive.record", format!("record {} of the journal", seq.0))
                .expected("what was written")
                .got(why)
                .fix("the journal was changed or damaged: restore it from a backup")
        }
        _ => Rejection::new("archive.store", "reading the journal")
            .expected("its records")
            .got(why)
            .fix("try again in a moment; if it stays so, look at the journal's store"),
    }
}

/// The records that were read last.
#[derive(Default)]
struct Cache {
    /// With their weights, and when they were last asked for.
    records: BTreeMap<Seq, (Arc<Record>, usize, u64)>,
    /// Who was asked for when.
    asked: BTreeMap<u64, Seq>,
    weight: usize,
    most: usize,
    now: u64,
}

impl Cache {
    fn take_all(&mut self, wanted: &BTreeSet<Seq>) -> Found {
        let mut found = Found::new();
        for at in wanted {
            self.now += 1;
            if let Some((record, _, asked)) = self.records.get_mut(at) {
                self.asked.remove(&std::mem::replace(asked, self.now));
                self.asked.insert(self.now, *at);
                found.insert(*at, record.clone());
            }
        }
        found
    }

    fn put(&mut self, record: Arc<Record>, weight: usize) {
        let at = record.seq;
        if weight > self.most || self.records.contains_key(&at) {
            return;
        }
        self.now += 1;
        self.weight += weight;
        self.records.insert(at, (record, weight, self.now));
        self.asked.insert(self.now, at);
        while self.weight > self.most
            && let Some((_, oldest)) = self.asked.pop_first()
        {
            self.weight -= self.records.remove(&oldest).map_or(0, |(_, weight, _)| weight);
        }
    }
}
