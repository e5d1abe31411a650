//! How far a ceremony is, and why it came to nothing.

use std::collections::BTreeMap;

use super::{Board, Dealt};
use crate::{
    custody::words::{Confirmation, RefusalReason},
    dsse::Signed,
    id::EnclaveId,
    time::UnixTime,
};

/// How far a ceremony is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Members take their chairs.
    Chairs {
        /// Who has none.
        missing: Vec<EnclaveId>,
    },
    /// Dealers deal.
    Dealings {
        /// Dealings that may still count.
        dealt: u16,
        /// How many it takes.
        needed: u16,
    },
    /// Members judge dealings.
    Acceptances {
        /// Dealings that all members accepted.
        complete: u16,
        /// How many it takes.
        needed: u16,
        /// Who has not judged all that may still count.
        missing: Vec<EnclaveId>,
    },
    /// Members confirm the roster.
    Confirmations {
        /// Who has not.
        missing: Vec<EnclaveId>,
    },
    /// Members of the committee before hand over: there is no way back, and no deadline.
    Handovers {
        /// How many have.
        given: u16,
        /// How many it takes.
        needed: u16,
    },
    /// The new committee is in force.
    InForce,
    /// It came to nothing; the next attempt leaves out whom this one names.
    Lapsed(Lapse),
}

/// Why a ceremony came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lapse {
    /// Why.
    pub why: LapseReason,
    /// Whose words it waited for until its time was over.
    pub silent: Vec<EnclaveId>,
    /// Who refused what.
    pub refused: Vec<Refused>,
    /// Who confirmed otherwise than most; where no side has more than every other, all who confirmed.
    pub divided: Vec<EnclaveId>,
}

/// Why a ceremony came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LapseReason {
    /// Its time was over.
    Expired,
    /// So many dealings were refused, or void, that too few can still count.
    Spoilt,
    /// Members confirmed different rosters: some of them lie, or were shown another journal. It is told when all have confirmed, or time is
    /// over, so that it is known what most say.
    Divided,
}

/// A member refused a dealing: one of the two lies, or is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Who refused.
    pub member: EnclaveId,
    /// Whose dealing.
    pub dealer: EnclaveId,
    /// Why.
    pub why: RefusalReason,
}

fn count(of: usize) -> u16 {
    u16::try_from(of).unwrap_or(u16::MAX)
}

impl Board {
    /// How far it is at `now`.
    pub fn phase(&self, now: UnixTime) -> Phase {
        if self.agreed().is_some() {
            let needed = self.before.as_ref().map_or(0, |before| before.threshold.needed());
            let given = count(self.handovers().count());
            return if given >= needed { Phase::InForce } else { Phase::Handovers { given, needed } };
        }
        let (divided, over) = (self.divided(), now > self.call.expires);
        let all = self.confirmed.iter().all(Option::is_some);
        let why = if !divided.is_empty() && (over || all) {
            LapseReason::Divided
        } else if self.is_spoilt() {
            LapseReason::Spoilt
        } else if over {
            LapseReason::Expired
        } else {
            return self.waits_for();
        };
        // Where it was spoilt, nobody was given the time to speak.
        let silent = if why == LapseReason::Spoilt { Vec::new() } else { self.silent() };
        Phase::Lapsed(Lapse { why, silent, refused: self.refused(), divided })
    }

    /// Who confirmed otherwise than most, in the order of members. A roster of other dealings than the settled is nobody's side.
    fn divided(&self) -> Vec<EnclaveId> {
        let settled = self.settled.as_deref().unwrap_or_default();
        let said = || {
            let members = self.call.members.iter().zip(&self.confirmed);
            members.filter_map(|(member, said)| said.as_ref().map(|said| (member.enclave, said)))
        };
        let side = |c: &Signed<Confirmation>| (c.dealings == settled).then(|| (c.roster, c.key.clone()));
        let mut sides: BTreeMap<_, usize> = BTreeMap::new();
        for side in said().filter_map(|(_, c)| side(c)) {
            *sides.entry(side).or_default() += 1;
        }
        let most = sides.values().max().copied();
        let mut largest = sides.iter().filter(|(_, with)| Some(**with) == most).map(|(side, _)| side);
        let main = largest.next().filter(|_| largest.next().is_none());
        said().filter(|(_, c)| main.is_none() || side(c).as_ref() != main).map(|(member, _)| member).collect()
    }

    /// Whether too few dealers are left whose dealings can be complete.
    fn is_spoilt(&self) -> bool {
        let dealers = self.before.as_ref().map_or(&self.call.members, |before| &before.members).len();
        let lost = self.dealt.iter().filter(|dealt| !dealt.is_promising()).count();
        self.settled.is_none() && dealers.saturating_sub(lost) < usize::from(self.needed())
    }

    fn waits_for(&self) -> Phase {
        let needed = self.needed();
        if self.ceremony.is_none() {
            return Phase::Chairs { missing: self.silent() };
        }
        if self.settled.is_some() {
            return Phase::Confirmations { missing: self.silent() };
        }
        let dealt = count(self.dealings().count());
        if dealt < needed {
            return Phase::Dealings { dealt, needed };
        }
        let complete = count(self.complete.iter().filter(|index| !self.dealt[**index].void).count());
        Phase::Acceptances { complete, needed, missing: self.silent() }
    }

    /// Whose words it waits for.
    fn silent(&self) -> Vec<EnclaveId> {
        let members = || self.call.members.iter().map(|m| m.enclave);
        if self.ceremony.is_none() {
            return members().zip(&self.chairs).filter(|(_, chair)| chair.is_none()).map(|(m, _)| m).collect();
        }
        if self.settled.is_some() {
            return members().zip(&self.confirmed).filter(|(_, said)| said.is_none()).map(|(m, _)| m).collect();
        }
        let promising: Vec<&Dealt> = self.dealt.iter().filter(|dealt| dealt.is_promising()).collect();
        if promising.len() < usize::from(self.needed()) {
            let dealers = self.before.as_ref().map_or(&self.call.members, |before| &before.members);
            let dealt = |enclave: EnclaveId| self.dealt.iter().any(|dealt| dealt.name.dealer == enclave);
            return dealers.iter().map(|m| m.enclave).filter(|enclave| !dealt(*enclave)).collect();
        }
        members().filter(|m| promising.iter().any(|dealt| !dealt.verdicts.contains_key(m))).collect()
    }

    /// Who refused what, in the order of dealings.
    fn refused(&self) -> Vec<Refused> {
        let of = |dealt: &Dealt| {
            let dealer = dealt.name.dealer;
            let refused = dealt.verdicts.iter().filter_map(|(member, v)| v.refused.map(|why| (*member, why)));
            refused.map(|(member, why)| Refused { member, dealer, why }).collect::<Vec<_>>()
        };
        self.dealt.iter().flat_map(of).collect()
    }
}
