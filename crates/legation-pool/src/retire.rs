//! What the operator says of an enclave: cordoned (nothing new, what runs goes on), drained (what it has, it finishes), decommissioned
//! (its work moves at once, and it is forgotten).
//!
//! 1. A cordon and a drain outlive the channel, renewals, and a place in the pool that another boot takes meanwhile: they are
//!    remembered by the enclave's name, the last [`REMEMBERED_MAX`] of them. A cordon is of the machine: whatever boots on its slot of
//!    its chip has it, until the operator lifts it.
//! 2. What is decommissioned stays out, by its name and by its slot of its chip, until the operator lifts that; then it comes back
//!    only by attesting anew. No more than [`REMEMBERED_MAX`] at once: none of them comes back because another went.

use std::collections::BTreeMap;

use legation_core::{Digest, EnclaveId, Rejection, Seq, TenantId, UnixTime, statement::Passport};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    enclave::Enclave,
    event::{Effect, Event, LeaseEnd},
    pool::{Env, Pool},
    text::cut,
    trust::marks::{Conduct, Marks},
};

/// Enclaves that are not in the pool and of which something is remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Why nothing new is placed on an enclave, as its operator says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: UnixTime,
    /// Why, in words.
    pub why: String,
    /// By whom.
    pub author: String,
}

/// An enclave that was decommissioned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retired {
    /// Its chip.
    pub chip: String,
    /// Which of the chip's slots it had.
    pub slot: u16,
    /// When, why, and by whom.
    pub hold: Hold,
}

/// What was said of an enclave that left the pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Said {
    draining: bool,
    hold: Option<Hold>,
    as_of: Seq,
    /// Its chip and which of the chip's slots it had.
    #[serde(default)]
    place: Option<Digest>,
    /// What speaks against its machine.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    marks: Marks,
}

impl Said {
    /// Whether the operator said any of it.
    fn is_ordered(&self) -> bool {
        self.draining || self.hold.is_some()
    }

    fn is_something(&self) -> bool {
        self.is_ordered() || !self.marks.is_empty()
    }
}

/// What is remembered of enclaves that are not in the pool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    said: BTreeMap<EnclaveId, Said>,
    retired: BTreeMap<EnclaveId, Retired>,
}

impl Memory {
    /// An enclave leaves the pool for another reason than its operator's word, which is kept.
    pub(crate) fn keep(&mut self, id: EnclaveId, gone: &Enclave, as_of: Seq) {
        let said = Said {
            draining: gone.is_draining(),
            hold: gone.hold().cloned(),
            as_of,
            place: Some(gone.slot()),
            marks: gone.marks().cloned().unwrap_or_default(),
        };
        self.remember(id, said);
    }

    /// Something was found against an enclave that is gone, and nobody else has its place.
    pub(crate) fn note(
        &mut self,
        (id, place): (EnclaveId, Digest),
        (tenant, conduct): (&TenantId, Conduct),
        (as_of, now): (Seq, UnixTime),
    ) {
        let known = self.said.remove(&id);
        let mut said = known.unwrap_or_else(|| Said {
            draining: false,
            hold: None,
            as_of,
            place: Some(place),
            marks: Marks::default(),
        });
        said.marks.note(tenant, conduct, now);
        self.remember(id, said);
    }

    /// What the operator said is remembered before what was found.
    fn remember(&mut self, id: EnclaveId, said: Said) {
        if !said.is_something() {
            return;
        }
        self.said.insert(id, said);
        let least = |(id, said): (&EnclaveId, &Said)| (said.is_ordered(), said.as_of, *id);
        while self.said.len() > REMEMBERED_MAX
            && let Some((_, _, oldest)) = self.said.iter().map(least).min()
        {
            self.said.remove(&oldest);
        }
    }

    /// What was said of an enclave that comes back holds again; of another boot of its machine, that it was cordoned, and what was
    /// found.
    pub(crate) fn recall(&mut self, id: EnclaveId, enclave: &mut Enclave) {
        if let Some(said) = self.said.remove(&id) {
            if said.draining {
                enclave.drain();
            }
            enclave.set_hold(enclave.hold().cloned().or(said.hold));
            enclave.join_marks(said.marks);
        }
        let place = Some(enclave.slot());
        for said in self.said.values_mut().filter(|said| said.place == place) {
            let hold = said.hold.take();
            enclave.set_hold(enclave.hold().cloned().or(hold));
            enclave.join_marks(std::mem::take(&mut said.marks));
        }
        self.said.retain(|_, said| said.is_something());
    }

    /// Whether an enclave that is not in the pool is cordoned.
    pub(crate) fn holds(&self, id: EnclaveId) -> bool {
        self.said.get(&id).is_some_and(|said| said.hold.is_some())
    }

    fn lift(&mut self, id: EnclaveId) {
        self.retired.remove(&id);
        if let Some(said) = self.said.get_mut(&id) {
            said.hold = None;
            said.marks = Marks::default();
        }
        self.said.retain(|_, said| said.is_something());
    }

    /// Whether an enclave, or whatever has its place, was decommissioned.
    pub(crate) fn retired(&self, passport: &Passport) -> Option<&Retired> {
        let (chip, slot) = (&passport.claims.chip.value, passport.configuration.slot);
        let own = self.retired.get(&passport.enclave_id());
        own.or_else(|| self.retired.values().find(|retired| retired.chip == *chip && retired.slot == slot))
    }
}

impl Pool {
    /// Enclaves that were decommissioned, by name.
    pub fn retired(&self) -> &BTreeMap<EnclaveId, Retired> {
        &self.memory.retired
    }

    /// Nothing new is placed on an enclave; what runs there goes on.
    pub(crate) fn keep_back(
        &mut self,
        enclave: EnclaveId,
        why: &str,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.known(enclave)?.hold().is_none() {
            out.record(self, env, Event::Cordoned { enclave, why: cut(why), author: cut(author) })?;
        }
        Ok(())
    }

    /// Takes back a cordon, or that an enclave was decommissioned.
    pub(crate) fn lift(
        &mut self,
        enclave: EnclaveId,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let absent = self.memory.retired.contains_key(&enclave) || self.memory.holds(enclave);
        if absent || self.known(enclave)?.hold().is_some() {
            out.record(self, env, Event::Uncordoned { enclave, author: cut(author) })?;
        }
        Ok(())
    }

    /// Ends what an enclave does and forgets it.
    pub(crate) fn decommission(
        &mut self,
        enclave: EnclaveId,
        why: &str,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.memory.retired.contains_key(&enclave) {
            return Ok(());
        }
        let away = self.known(enclave)?.is_away();
        if self.memory.retired.len() >= REMEMBERED_MAX {
            return Err(Rejection::new("pool.retired", "enclaves that were decommissioned")
                .expected(format!("fewer than {REMEMBERED_MAX}"))
                .got(self.memory.retired.len())
                .fix("let some back in by `legation enclave uncordon`, or revoke their chips"));
        }
        let lost = LeaseEnd::EnclaveLost { why: format!("decommissioned: {}", cut(why)) };
        self.end_leases_of(enclave, &lost, env, out)?;
        if !away {
            out.record(self, env, Event::Left { enclave, why: "decommissioned".into() })?;
        }
        out.record(self, env, Event::Decommissioned { enclave, why: cut(why), author: cut(author) })?;
        if let Some(retired) = self.memory.retired.get(&enclave) {
            out.effects.push(Effect::Close { enclave, why: retired.refusal(enclave) });
        }
        Ok(())
    }

    pub(crate) fn absorb_cordoned(
        &mut self,
        enclave: EnclaveId,
        why: &str,
        author: &str,
        since: UnixTime,
    ) -> Option<()> {
        let hold = Hold { since, why: why.to_owned(), author: author.to_owned() };
        self.enclaves.get_mut(&enclave)?.set_hold(Some(hold));
        self.reindex_room(enclave);
        Some(())
    }

    pub(crate) fn absorb_uncordoned(&mut self, id: EnclaveId) {
        self.memory.lift(id);
        if let Some(enclave) = self.enclaves.get_mut(&id) {
            enclave.set_hold(None);
            enclave.forgive();
        }
        self.reindex_room(id);
    }

    pub(crate) fn absorb_decommissioned(
        &mut self,
        id: EnclaveId,
        why: &str,
        author: &str,
        since: UnixTime,
    ) -> Option<()> {
        let gone = self.enclaves.remove(&id)?;
        self.slots.forget(&gone);
        self.classes.leave(&gone);
        let (chip, slot) = (gone.chip().name(), gone.typical().configuration.slot);
        let hold = Hold { since, why: why.to_owned(), author: author.to_owned() };
        self.memory.retired.insert(id, Retired { chip, slot, hold });
        Some(())
    }
}

impl Retired {
    /// Why it is not let in.
    pub(crate) fn refusal(&self, enclave: EnclaveId) -> Rejection {
        Rejection::new("pool.decommissioned", format!("enclave {}", enclave.short()))
            .expected("one that was not decommissioned, on a slot of a chip that was not")
            .got(format!("decommissioned at {}: {}", self.hold.since, self.hold.why))
            .fix(format!("have the operator let it back in by `legation enclave uncordon {enclave}`"))
    }
}
