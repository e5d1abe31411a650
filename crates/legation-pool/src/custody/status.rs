//! Swarm keys as people see them: who has each, how many may still be lost, what goes on, and what to do before it is too late.

use std::collections::BTreeMap;

use legation_core::{
    Digest, EnclaveId, ProviderId, Rejection, Signed, SwarmName, UnixTime,
    custody::{Board, Called, Charter, Committee, Epoch, Generation, Phase, SwarmPublicKey, Threshold},
    statement::Appointment,
};
use serde::{Deserialize, Serialize};

use super::{CallEnd, CallReason, Ceremony, SwarmKey};
use crate::pool::Pool;

/// How a member of a committee stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MemberState {
    /// It is here.
    Here,
    /// It takes no more work, and releases until its machine stops.
    Draining,
    /// Its operator cordoned it; it may be here.
    KeptBack,
    /// No proof of it holds.
    Unproven {
        /// Since when.
        since: UnixTime,
    },
    /// There is no channel to it.
    Away {
        /// Since when.
        since: UnixTime,
    },
    /// It is no longer in the pool: its share is lost.
    Gone,
    /// It was revoked.
    Revoked,
}

/// A member as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberView {
    /// Index of its share, from 1.
    pub index: u16,
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// How it stands.
    pub state: MemberState,
    /// Whether it releases: it is here, and proven.
    pub serves: bool,
}

/// A committee in force as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitteeView {
    /// How often the key has changed hands.
    pub epoch: Epoch,
    /// Which key of several in a row.
    pub generation: Generation,
    /// The key.
    pub key: SwarmPublicKey,
    /// Digest of the roster.
    pub roster: Digest,
    /// How many have a share, how many open.
    pub threshold: Threshold,
    /// Since when it is in force.
    pub since: UnixTime,
    /// For how long, in seconds.
    pub age: u64,
    /// Members that release.
    pub here: u16,
    /// How many more may be lost before nobody can open; below zero nobody can.
    pub margin: i32,
    /// Members, by index.
    pub members: Vec<MemberView>,
    /// Members of the committee before that are not known to have erased their shares.
    pub keeping: Vec<EnclaveId>,
}

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallStage {
    /// Members take their chairs.
    Chairs,
    /// Dealers deal.
    Dealings,
    /// Members judge dealings.
    Acceptances,
    /// Members confirm.
    Confirmations,
    /// The committee before hands over: there is no deadline.
    Handovers,
    /// It came to nothing.
    Over,
}

/// A call as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallView {
    /// Its digest.
    pub call: Digest,
    /// How often the key will have changed hands.
    pub epoch: Epoch,
    /// Which attempt.
    pub attempt: u32,
    /// Why there is to be another committee.
    pub why: CallReason,
    /// When it was made.
    pub called: UnixTime,
    /// Until when all must have confirmed.
    pub expires: UnixTime,
    /// Who is called.
    pub members: Vec<Called>,
    /// How far it is.
    pub stage: CallStage,
    /// How many of this stage are there.
    pub done: u16,
    /// Of how many.
    pub needed: u16,
    /// Whom it waits for, as far as that can be said.
    pub waits_for: Vec<EnclaveId>,
    /// Why it came to nothing, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<CallEnd>,
}

/// A swarm key as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CustodyView {
    /// Its name.
    pub swarm: SwarmName,
    /// What is asked of every committee.
    pub charter: Charter,
    /// Who has it.
    pub committee: Option<CommitteeView>,
    /// The call that is open, or came to nothing last.
    pub call: Option<CallView>,
    /// Why another committee is to be called, if it is.
    pub due: Option<CallReason>,
    /// What keeps another committee from being called now, whether or not it is to be.
    pub missing: Option<Rejection>,
    /// Who is called only where there is nobody else.
    pub left_out: Vec<EnclaveId>,
    /// What to see to before it is too late.
    pub warnings: Vec<String>,
}

/// What custodians follow.
#[derive(Clone, Debug)]
pub struct Boards<'a> {
    /// The newest charter.
    pub charter: &'a Signed<Charter>,
    /// The committee in force.
    pub committee: Option<Committee>,
    /// The ceremony that is under way.
    pub open: Option<&'a Board>,
    /// What the call of that rests on.
    pub open_grounds: Option<Grounds<'a>>,
    /// That by which the committee came into force: who has not handed over yet still may.
    pub past: Option<&'a Board>,
    /// What the call of that rests on.
    pub past_grounds: Option<Grounds<'a>>,
}

/// What a call rests on.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// The charter that it is by.
    pub charter: &'a Signed<Charter>,
    /// The appointment of the manager that called, as far as it is still known: that of the one that leads is.
    pub appointment: Option<&'a Signed<Appointment>>,
}

fn count(of: usize) -> u16 {
    u16::try_from(of).unwrap_or(u16::MAX)
}

impl Ceremony {
    fn view(&self, now: UnixTime) -> CallView {
        let (board, call) = (&self.board, self.board.call());
        let all = call.threshold.members();
        let but = |missing: &[EnclaveId]| all.saturating_sub(count(missing.len()));
        let phase = if self.ended.is_some() { None } else { Some(board.phase(now)) };
        let (stage, done, needed, waits_for) = match phase {
            Some(Phase::Chairs { missing }) => (CallStage::Chairs, but(&missing), all, missing),
            Some(Phase::Dealings { dealt, needed }) => (CallStage::Dealings, dealt, needed, Vec::new()),
            Some(Phase::Acceptances { complete, needed, missing }) => {
                (CallStage::Acceptances, complete, needed, missing)
            }
            Some(Phase::Confirmations { missing }) => (CallStage::Confirmations, but(&missing), all, missing),
            Some(Phase::Handovers { given, needed }) => {
                (CallStage::Handovers, given, needed, board.keeping().collect())
            }
            // In force it is no longer open.
            Some(Phase::InForce | Phase::Lapsed(_)) | None => (CallStage::Over, 0, 0, Vec::new()),
        };
        CallView {
            call: call.digest(),
            epoch: board.epoch(),
            attempt: call.attempt,
            why: self.why,
            called: call.called,
            expires: call.expires,
            members: call.members.clone(),
            stage,
            done,
            needed,
            waits_for,
            ended: self.ended.map(|ended| ended.why),
        }
    }
}

impl CommitteeView {
    /// What is wrong with it, or soon will be.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (needed, members) = (self.threshold.needed(), self.threshold.members());
        let mut with: BTreeMap<&ProviderId, u16> = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.serves) {
            *with.entry(&member.provider).or_default() += 1;
        }
        let largest = with.iter().max_by_key(|(_, count)| **count);
        if self.margin < 0 {
            warnings.push(format!(
                "the key is out of reach: {} of {members} custodians are here, and {needed} must be",
                self.here
            ));
        } else if self.margin == 0 {
            warnings.push("one more custodian that goes, and the key is out of reach".to_owned());
        } else if let Some((provider, _)) = largest.filter(|(_, count)| self.here.saturating_sub(**count) < needed) {
            warnings.push(format!("if provider `{provider}` goes, the key is out of reach"));
        }
        for member in self.members.iter().filter(|member| member.state == MemberState::Revoked) {
            warnings.push(format!("custodian {} was revoked and has a share", member.enclave.short()));
        }
        warnings
    }
}

impl Pool {
    /// One swarm key, as of `now`.
    ///
    /// # Errors
    /// `custody.unknown`: there is no charter for it.
    pub fn custody(&self, swarm: &SwarmName, now: UnixTime) -> Result<CustodyView, Rejection> {
        Ok(self.custody_view(swarm, self.swarm_key(swarm)?, now))
    }

    /// All swarm keys, by name, as of `now`.
    pub fn custodies(&self, now: UnixTime) -> Vec<CustodyView> {
        self.swarm_keys.iter().map(|(swarm, key)| self.custody_view(swarm, key, now)).collect()
    }

    /// What custodians of a swarm key follow.
    ///
    /// # Errors
    /// `custody.unknown`: there is no charter for it.
    pub fn custody_boards(&self, swarm: &SwarmName) -> Result<Boards<'_>, Rejection> {
        let key = self.swarm_key(swarm)?;
        Ok(Boards {
            charter: &key.charter,
            committee: key.committee(),
            open: key.under_way().map(|open| &open.board),
            open_grounds: key.under_way().map(|open| self.grounds(open)),
            past: key.past.as_ref().map(|past| &past.board),
            past_grounds: key.past.as_ref().map(|past| self.grounds(past)),
        })
    }

    fn grounds<'a>(&'a self, ceremony: &'a Ceremony) -> Grounds<'a> {
        let named = ceremony.board.call().prev.get(1);
        let mut known = self.manager.iter().chain(&self.managers);
        let appointment = known.find(|appointment| Some(&appointment.digest()) == named);
        Grounds { charter: &ceremony.charter, appointment: appointment.map(|appointment| &**appointment) }
    }

    fn custody_view(&self, swarm: &SwarmName, key: &SwarmKey, now: UnixTime) -> CustodyView {
        let committee = key.committee().map(|committee| self.committee_view(key, &committee, now));
        // Where a ceremony is under way, the committee that is called is not called anew.
        let idle = key.under_way().is_none();
        let mut view = CustodyView {
            swarm: swarm.clone(),
            charter: (*key.charter).clone(),
            committee,
            call: key.open.as_ref().map(|open| open.view(now)),
            due: self.call_due(key, now).filter(|_| idle),
            missing: if idle { self.choose(key, now).err() } else { None },
            left_out: key.left_out.iter().copied().collect(),
            warnings: Vec::new(),
        };
        view.warnings = self.custody_warnings(key, &view, now);
        view
    }

    fn committee_view(&self, key: &SwarmKey, committee: &Committee, now: UnixTime) -> CommitteeView {
        let members: Vec<MemberView> = (1..)
            .zip(&committee.members)
            .map(|(index, member)| MemberView {
                index,
                enclave: member.enclave,
                provider: member.provider.clone(),
                state: self.member_state(member.enclave),
                serves: self.enclaves.get(&member.enclave).is_some_and(|e| !e.is_away() && e.is_trusted()),
            })
            .collect();
        let here = count(members.iter().filter(|member| member.serves).count());
        CommitteeView {
            epoch: committee.epoch,
            generation: committee.generation,
            key: committee.key.clone(),
            roster: committee.roster,
            threshold: committee.threshold,
            since: key.since,
            age: now.since(key.since),
            here,
            margin: i32::from(here) - i32::from(committee.threshold.needed()),
            members,
            keeping: key.past.iter().flat_map(|past| past.board.keeping()).collect(),
        }
    }

    fn custody_warnings(&self, key: &SwarmKey, view: &CustodyView, now: UnixTime) -> Vec<String> {
        let mut warnings = match &view.committee {
            Some(committee) => committee.warnings(),
            None => vec!["nobody has the key yet: nothing can be sealed to it".to_owned()],
        };
        let (end, epoch) = (key.charter.not_after, key.charter.epoch_seconds);
        if end <= now {
            warnings.push(format!("the charter was over at {end}: no committee is called any more"));
        } else if end <= now.plus(epoch.saturating_mul(2)) {
            warnings.push(format!("the charter ends at {end}: no committee is called after; sign another"));
        }
        if view.committee.as_ref().is_some_and(|committee| committee.age >= epoch.saturating_mul(2)) {
            warnings.push(format!("the key should have changed hands every {epoch} s, and has not"));
        }
        if let Some(why) = &view.missing {
            warnings.push(format!("no other committee can be called now: {why}"));
        }
        if let Some(call) = view.call.as_ref() {
            match call.ended {
                Some(why) => warnings.push(format!("attempt {} came to nothing: {why}", call.attempt)),
                None if call.stage == CallStage::Handovers && now > call.expires => {
                    warnings.push(format!("{} of {} have handed over, for too long", call.done, call.needed));
                }
                None => {}
            }
        }
        for board in key.past.iter().chain(&key.open).map(|ceremony| &ceremony.board) {
            for equivocation in board.equivocations() {
                let (by, kind) = (equivocation.by.short(), equivocation.kind);
                warnings.push(format!("custodian {by} said two things: each a {kind}"));
            }
            for (stray, _) in board.strays() {
                warnings.push(format!("custodian {} handed over to another committee: revoke it", stray.short()));
            }
        }
        warnings
    }
}
