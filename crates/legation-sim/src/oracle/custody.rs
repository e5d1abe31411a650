//! The judge's own books of the swarm key: who has which share, as the custodians' machines have it, and who handed over to whom. What the
//! shares make is computed here, and held against the key that the journal says is in force.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Digest, EnclaveId, UnixTime,
    custody::{Board, Committee, CustodyWord, Epoch, SwarmPublicKey},
};
use legation_pool::{CallStage, CallView, CommitteeView, CustodyView, MemberState};

use super::{Oracle, unless};
use crate::{
    statements::swarm_key,
    toy::{self, Number},
};

/// Seconds that whoever is there has to do what is due, as of the last look.
const PROMPT: u64 = 30;
/// Shares of earlier epochs that are tried with those of a committee.
const OLD_TRIED: usize = 4;

/// A share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    pub(crate) epoch: Epoch,
    pub(crate) index: u16,
    pub(crate) value: Number,
}

/// What it knows of the swarm key.
#[derive(Default)]
pub(super) struct Book {
    /// The last committee in force.
    committee: Option<Committee>,
    /// Whose roster was in force in each epoch.
    rosters: BTreeMap<Epoch, Digest>,
    /// Boots that go on, or start again as the same enclave.
    alive: BTreeSet<EnclaveId>,
    /// Shares that machines have, by roster.
    held: BTreeMap<(EnclaveId, Digest), Share>,
    /// Those that they ever had.
    ever: BTreeMap<(EnclaveId, Digest), Share>,
    /// To what roster somebody handed over in an epoch, whoever heard it.
    handed: BTreeMap<(EnclaveId, Epoch), Digest>,
}

impl Book {
    pub(super) fn lives(&mut self, enclave: EnclaveId) {
        self.alive.insert(enclave);
    }

    /// Shares of a committee that there are.
    fn shares(&self, committee: &Committee) -> Vec<(u16, Number)> {
        let members = committee.members.iter().map(|member| (member.enclave, committee.roster));
        let held = members.filter_map(|its| self.held.get(&its));
        held.map(|share| (share.index, share.value)).collect()
    }

    /// Any that open make the key, and no fewer; nor do they with a share of an earlier epoch.
    fn check_key(&self, committee: &Committee) -> Result<(), String> {
        let (shares, needed) = (self.shares(committee), usize::from(committee.threshold.needed()));
        let makes = |points: &[(u16, Number)]| toy::public(toy::interpolate(points)) == committee.key;
        let in_force = |roster: &Digest, epoch: Epoch| self.rosters.get(&epoch) == Some(roster);
        let old: Vec<&Share> = self
            .ever
            .iter()
            .filter(|((_, roster), share)| share.epoch < committee.epoch && in_force(roster, share.epoch))
            .map(|(_, share)| share)
            .take(OLD_TRIED)
            .collect();
        for some in subsets(&shares) {
            if some.len() == needed {
                unless(makes(&some), || {
                    format!("shares {} of epoch {} do not make the key", list(&some), committee.epoch)
                })?;
            }
            if some.len() + 1 == needed {
                unless(!makes(&some), || format!("{} shares make a key that takes {needed}", some.len()))?;
                for share in old.iter().filter(|old| some.iter().all(|(index, _)| *index != old.index)) {
                    let mixed: Vec<_> = some.iter().copied().chain([(share.index, share.value)]).collect();
                    unless(!makes(&mixed), || {
                        format!("shares of epoch {} make the key with one of epoch {}", committee.epoch, share.epoch)
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn list(shares: &[(u16, Number)]) -> String {
    shares.iter().map(|(index, _)| index.to_string()).collect::<Vec<_>>().join(", ")
}

/// All of them; there are few.
fn subsets(shares: &[(u16, Number)]) -> Vec<Vec<(u16, Number)>> {
    let mut all = vec![Vec::new()];
    for share in shares {
        let with: Vec<Vec<_>> =
            all.iter().map(|some: &Vec<_>| some.iter().copied().chain([*share]).collect()).collect();
        all.extend(with);
    }
    all
}

/// Who confirmed this roster, by what each said first.
fn confirmed(board: &Board, roster: Digest, key: &SwarmPublicKey) -> BTreeSet<EnclaveId> {
    let mut first = BTreeMap::new();
    for said in board.words() {
        if let CustodyWord::Confirmation(word) = &said.word {
            first.entry(word.member.enclave_id()).or_insert((word.roster, &word.key));
        }
    }
    first.into_iter().filter(|(_, said)| *said == (roster, key)).map(|(member, _)| member).collect()
}

/// Who handed over from one roster to another, by what each said first.
fn handed(board: &Board, from: Digest, to: Digest) -> usize {
    let mut first = BTreeMap::new();
    for said in board.words() {
        if let CustodyWord::Handover(word) = &said.word {
            first.entry(word.member).or_insert((word.from, word.to));
        }
    }
    first.into_values().filter(|said| *said == (from, to)).count()
}

impl Oracle {
    /// The machine of an enclave died, with whatever it had.
    pub(crate) fn dies(&mut self, enclave: EnclaveId) {
        self.custody.alive.remove(&enclave);
        self.custody.held.retain(|(holder, _), _| *holder != enclave);
    }

    /// A custodian keeps a share of a roster.
    pub(crate) fn keeps(&mut self, enclave: EnclaveId, roster: Digest, share: Share) {
        self.custody.held.insert((enclave, roster), share);
        self.custody.ever.insert((enclave, roster), share);
    }

    /// A custodian erases its share: another committee has the key, or has nothing left to do but to be handed it.
    pub(crate) fn erases(&mut self, enclave: EnclaveId, roster: Digest) -> Result<(), String> {
        let short = enclave.short();
        let share = self.custody.held.remove(&(enclave, roster));
        let share = share.ok_or_else(|| format!("{short} erases a share that it has not"))?;
        let boards = self.mirror.custody_boards(&swarm_key()).map_err(|why| why.to_string())?;
        let over = boards.committee.as_ref().is_some_and(|c| c.epoch >= share.epoch && c.roster != roster);
        let goes = |board: &Board| board.before().is_some_and(|b| b.roster == roster) && board.agreed().is_some();
        unless(over || boards.open.is_some_and(goes), || {
            format!("{short} erases its share of epoch {} before another committee has the key", share.epoch)
        })
    }

    /// A custodian hands over, whoever will hear it: to one roster in an epoch.
    pub(crate) fn hands_over(&mut self, enclave: EnclaveId, epoch: Epoch, to: Digest) -> Result<(), String> {
        let first = *self.custody.handed.entry((enclave, epoch)).or_insert(to);
        unless(first == to, || format!("{} hands over to two rosters of epoch {epoch}", enclave.short()))
    }

    /// A word is in the journal: by it, another committee may be in force.
    pub(super) fn heard_custody(&mut self) -> Result<(), String> {
        let boards = self.mirror.custody_boards(&swarm_key()).map_err(|why| why.to_string())?;
        let book = &self.custody;
        let (Some(committee), Some(board)) = (boards.committee, boards.past) else { return Ok(()) };
        if book.committee.as_ref().is_some_and(|known| known.roster == committee.roster) {
            return Ok(());
        }
        let (epoch, roster) = (committee.epoch, committee.roster);
        let next = book.committee.as_ref().map_or(Epoch(0), |known| Epoch(known.epoch.0 + 1));
        unless(epoch == next && !book.rosters.contains_key(&epoch), || {
            format!("a committee of epoch {epoch} comes into force where {next} is next")
        })?;
        let same = book.committee.as_ref().is_none_or(|known| known.key == committee.key);
        unless(same, || format!("epoch {epoch} has another key"))?;
        let confirmed = confirmed(board, roster, &committee.key);
        for member in committee.members.iter().map(|member| member.enclave) {
            let short = member.short();
            unless(confirmed.contains(&member), || format!("epoch {epoch} counts {short}, which did not confirm"))?;
            let had = book.ever.get(&(member, roster)).is_some_and(|share| share.epoch == epoch);
            unless(had, || format!("epoch {epoch} counts {short}, which never had its share"))?;
            let has = !book.alive.contains(&member) || book.held.contains_key(&(member, roster));
            unless(has, || format!("epoch {epoch} comes into force, and {short} has its share no more"))?;
        }
        if let Some(before) = &book.committee {
            let given = handed(board, before.roster, roster);
            let needed = usize::from(before.threshold.needed());
            unless(given >= needed, || format!("epoch {epoch} comes into force by {given} of {needed} handovers"))?;
        }
        book.check_key(&committee)?;
        self.custody.rosters.insert(epoch, roster);
        self.custody.committee = Some(committee);
        Ok(())
    }

    /// Who has a part in the ceremony that is under way, as members to be or as who hands over.
    pub(crate) fn called(&self) -> Vec<EnclaveId> {
        let Ok(boards) = self.mirror.custody_boards(&swarm_key()) else { return Vec::new() };
        let Some(open) = boards.open else { return Vec::new() };
        let before = open.before().into_iter().flat_map(|before| &before.members);
        open.call().members.iter().chain(before).map(|member| member.enclave).collect()
    }

    /// In the end: who is in force and goes on has its share, or handed it over; and those shares make the key.
    pub(crate) fn key_is_whole(&self) -> Result<(), String> {
        let book = &self.custody;
        let Some(committee) = &book.committee else { return Ok(()) };
        for member in committee.members.iter().map(|member| member.enclave).filter(|id| book.alive.contains(id)) {
            let gave = book.handed.contains_key(&(member, Epoch(committee.epoch.0 + 1)));
            let has = book.held.contains_key(&(member, committee.roster));
            unless(has || gave, || format!("{} of the committee in force lost its share", member.short()))?;
        }
        book.check_key(committee)
    }

    /// Whether nothing is left to do for the swarm key, or nothing can be done.
    pub(crate) fn key_rests(&self, now: UnixTime) -> bool {
        let Ok(view) = self.mirror.custody(&swarm_key(), now) else { return true };
        if let Some(call) = under_way(&view) {
            return self.is_out_of_reach(&view, call);
        }
        let all_here = |committee: &CommitteeView| committee.members.iter().all(|m| m.state == MemberState::Here);
        let settled = view.committee.as_ref().is_some_and(all_here) && view.due.is_none();
        (settled || view.missing.is_some()) && self.leftover(&view).is_none()
    }

    /// What has not been done for the swarm key, long after it could be: it has had the whole bound.
    pub(crate) fn key_is_stuck(&self, now: UnixTime) -> Result<(), String> {
        let Ok(view) = self.mirror.custody(&swarm_key(), now) else { return Ok(()) };
        if let Some(call) = under_way(&view) {
            // Where somebody has the key, it changes hands now and then: that may have begun just now.
            let young = view.committee.is_some() && now.since(call.called) < PROMPT;
            return unless(young || self.is_out_of_reach(&view, call), || {
                let waits: Vec<_> = call.waits_for.iter().map(EnclaveId::short).collect();
                format!("attempt {} at epoch {} waits for {}", call.attempt, call.epoch, waits.join(" "))
            });
        }
        let possible = view.missing.is_none();
        let Some(committee) = &view.committee else {
            return unless(!possible, || "nobody has the swarm key, and enough custodians are there".to_owned());
        };
        let leaves = |state| {
            matches!(state, MemberState::Gone | MemberState::Revoked | MemberState::KeptBack | MemberState::Draining)
        };
        let left = committee.members.iter().find(|member| leaves(member.state));
        unless(!possible || left.is_none(), || {
            let who = left.map_or_else(String::new, |member| format!("{}, {:?}", member.enclave.short(), member.state));
            format!("nobody took the place of a custodian: {who}")
        })?;
        let old = self.leftover(&view).filter(|_| now.since(committee.since) >= PROMPT);
        unless(old.is_none(), || {
            let who = old.map_or_else(String::new, |(enclave, epoch)| format!("{}, epoch {epoch}", enclave.short()));
            format!("a share of a past committee was not erased: {who}")
        })
    }

    /// Somebody who is here, and has a share of a committee that was, or of an attempt that came to nothing.
    fn leftover(&self, view: &CustodyView) -> Option<(EnclaveId, Epoch)> {
        let committee = view.committee.as_ref()?;
        let here = |enclave: &EnclaveId| self.enclaves.get(enclave).is_some_and(|seen| seen.here);
        let mut held = self.custody.held.iter().map(|((enclave, roster), share)| (enclave, *roster, share.epoch));
        held.find(|(enclave, roster, epoch)| here(enclave) && *epoch <= committee.epoch && *roster != committee.roster)
            .map(|(enclave, _, epoch)| (*enclave, epoch))
    }

    /// Whether too few are left who could hand over to a committee that waits for nothing else: with them, the key is lost.
    fn is_out_of_reach(&self, view: &CustodyView, call: &CallView) -> bool {
        let Some(committee) = view.committee.as_ref().filter(|_| call.stage == CallStage::Handovers) else {
            return false;
        };
        let book = &self.custody;
        // Nobody hears them any more.
        let out = |state| matches!(state, MemberState::Revoked | MemberState::Gone);
        let out = |enclave: &EnclaveId| committee.members.iter().any(|m| m.enclave == *enclave && out(m.state));
        let left = call.waits_for.iter().filter(|enclave| book.alive.contains(*enclave) && !out(enclave)).count();
        usize::from(call.done) + left < usize::from(call.needed)
    }
}

fn under_way(view: &CustodyView) -> Option<&CallView> {
    view.call.as_ref().filter(|call| call.ended.is_none())
}
