//! When a committee is to be called, and who: the members that there are, then others in turn from the providers that have fewest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use legation_core::{
    EnclaveId, ProviderId, Rejection, UnixTime,
    custody::{Called, Charter, Committee},
    requirement::Candidate,
    statement::Tier,
};

use super::{CallEnd, CallReason, MemberState, SwarmKey};
use crate::{
    chip::Chip,
    enclave::{Enclave, Presence},
    pool::Pool,
};

/// Longest wait between two attempts at one committee, as a power of two of seconds.
const PAUSE_MAX: u32 = 8;

/// An enclave that may be called.
struct Custodian<'a> {
    enclave: EnclaveId,
    provider: &'a ProviderId,
    chip: &'a Chip,
}

/// Who is called so far.
struct Choice<'a> {
    /// How many are to be.
    places: usize,
    /// Most of one provider.
    per_provider: usize,
    members: Vec<Called>,
    with: BTreeMap<&'a ProviderId, usize>,
    chips: BTreeSet<&'a Chip>,
    /// Why others are not.
    passed: BTreeMap<String, usize>,
}

impl<'a> Choice<'a> {
    fn pass(&mut self, why: impl Into<String>) {
        *self.passed.entry(why.into()).or_default() += 1;
    }

    /// Takes one more, if there is a place for it.
    fn take(&mut self, custodian: &Custodian<'a>) {
        if self.members.len() >= self.places {
            return;
        }
        let with = self.with.get(custodian.provider).copied().unwrap_or(0);
        if with >= self.per_provider {
            self.pass(format!("over the charter's bound for provider `{}`", custodian.provider));
        } else if !self.chips.insert(custodian.chip) {
            self.pass("on the chip of another");
        } else {
            self.with.insert(custodian.provider, with + 1);
            self.members.push(Called { enclave: custodian.enclave, provider: custodian.provider.clone() });
        }
    }

    /// Takes others in turn from the providers that have fewest.
    fn fill(&mut self, others: &[&Custodian<'a>]) {
        let mut by: BTreeMap<&'a ProviderId, VecDeque<&Custodian<'a>>> = BTreeMap::new();
        for other in others {
            by.entry(other.provider).or_default().push_back(other);
        }
        while self.members.len() < self.places {
            let left = by.iter().filter(|(_, left)| !left.is_empty()).map(|(provider, _)| *provider);
            let fewest = left.min_by_key(|provider| self.with.get(provider).copied().unwrap_or(0));
            let next = fewest.and_then(|provider| by.get_mut(provider)).and_then(VecDeque::pop_front);
            let Some(next) = next else { return };
            self.take(next);
        }
    }
}

impl Pool {
    /// Why a committee of a swarm key is to be called now, if one is and may be.
    pub(super) fn call_due(&self, key: &SwarmKey, now: UnixTime) -> Option<CallReason> {
        if self.call_expires(key, now) <= now {
            return None;
        }
        let why = match key.committee() {
            None => CallReason::First,
            Some(committee) => self.change_due(key, &committee, now)?,
        };
        let Some(open) = &key.open else { return Some(why) };
        let ended = open.ended?;
        // What came to nothing by its time alone may not have by a clock that went back: others would not follow.
        let over = open.lapse(now).is_some() || open.may_be_overtaken(self.revoked.epoch());
        let pause = 1_u64 << open.board.call().attempt.min(PAUSE_MAX);
        let waited = now >= ended.at.plus(pause) || ended.why == CallEnd::Revoked || why == CallReason::Revoked;
        (over && waited).then_some(why)
    }

    /// Why the committee in force is to be replaced, if it is.
    fn change_due(&self, key: &SwarmKey, committee: &Committee, now: UnixTime) -> Option<CallReason> {
        let states: Vec<MemberState> = committee.members.iter().map(|m| self.member_state(m.enclave)).collect();
        if let Some(why) = states.iter().filter_map(|state| self.leaves(*state, now)).min() {
            return Some(why);
        }
        if key.asked.is_some() {
            return Some(CallReason::Asked);
        }
        // Who is away for a moment, as all are when a manager begins, is waited for.
        if states.iter().any(|state| matches!(state, MemberState::Away { .. } | MemberState::Unproven { .. })) {
            return None;
        }
        if key.past.as_ref().is_some_and(|past| past.charter.digest() != key.charter.digest()) {
            return Some(CallReason::Charter);
        }
        (now.since(key.since) >= key.charter.epoch_seconds).then_some(CallReason::Epoch)
    }

    /// How a member stands.
    pub(super) fn member_state(&self, id: EnclaveId) -> MemberState {
        if self.is_revoked(id) {
            return MemberState::Revoked;
        }
        let Some(enclave) = self.enclaves.get(&id) else { return MemberState::Gone };
        match (enclave.presence(), enclave.cordon()) {
            _ if enclave.hold().is_some() => MemberState::KeptBack,
            (Presence::Away { since }, _) => MemberState::Away { since },
            (_, Some(cordon)) => MemberState::Unproven { since: cordon.since },
            (Presence::Draining, None) => MemberState::Draining,
            (Presence::Here, None) => MemberState::Here,
        }
    }

    /// Why a member in this state is to be replaced, if it is.
    fn leaves(&self, state: MemberState, now: UnixTime) -> Option<CallReason> {
        let too_long = |since: UnixTime| now.since(since) > self.limits.custody_grace_seconds;
        match state {
            MemberState::Here => None,
            MemberState::Draining | MemberState::KeptBack => Some(CallReason::KeptBack),
            MemberState::Away { since } => too_long(since).then_some(CallReason::Away),
            MemberState::Unproven { since } => too_long(since).then_some(CallReason::Unproven),
            MemberState::Gone => Some(CallReason::Gone),
            MemberState::Revoked => Some(CallReason::Revoked),
        }
    }

    /// The next committee, ascending.
    ///
    /// # Errors
    /// `custody.dealers`: too few members are here to hand over; `custody.candidates`: too few can be called. Both say what is missing.
    pub(super) fn choose(&self, key: &SwarmKey, now: UnixTime) -> Result<Vec<Called>, Rejection> {
        let (charter, committee) = (&key.charter, key.committee());
        let old = || committee.iter().flat_map(|committee| &committee.members).map(|member| member.enclave);
        if let Some(before) = &committee {
            let dealers = old().filter(|id| self.has_channel(*id)).count();
            if dealers < usize::from(before.threshold.needed()) {
                return Err(Rejection::new("custody.dealers", format!("custodians of swarm key `{}`", charter.swarm))
                    .expected(format!("{} that are here, to hand it over", before.threshold.needed()))
                    .got(dealers)
                    .fix("bring them back: nobody else has shares of it"));
            }
        }
        let mut choice = Choice {
            places: usize::from(charter.threshold.members()),
            per_provider: usize::from(charter.per_provider_max),
            members: Vec::new(),
            with: BTreeMap::new(),
            chips: BTreeSet::new(),
            passed: BTreeMap::new(),
        };
        let mut able: BTreeMap<EnclaveId, Custodian<'_>> = BTreeMap::new();
        for (id, enclave) in &self.enclaves {
            let configuration = &enclave.typical().configuration;
            if configuration.custody.as_ref().is_none_or(|custody| custody.swarm != charter.swarm) {
                continue;
            }
            match self.unable(enclave, charter, now) {
                Some(why) => choice.pass(why),
                None => {
                    let (provider, chip) = (&configuration.provider, enclave.chip());
                    able.insert(*id, Custodian { enclave: *id, provider, chip });
                }
            }
        }
        for id in old().filter(|id| !key.left_out.contains(id)) {
            if let Some(custodian) = able.remove(&id) {
                choice.take(&custodian);
            }
        }
        let (last, first): (Vec<_>, Vec<_>) = able.values().partition(|c| key.left_out.contains(&c.enclave));
        choice.fill(&first);
        choice.fill(&last);
        let Choice { places, per_provider, mut members, passed, .. } = choice;
        if members.len() < places {
            let passed: Vec<_> = passed.iter().map(|(why, count)| format!("{count} {why}")).collect();
            let but = if passed.is_empty() { String::new() } else { format!("; not {}", passed.join(", ")) };
            let swarm = &charter.swarm;
            return Err(Rejection::new("custody.candidates", format!("custodians of swarm key `{swarm}`"))
                .expected(format!(
                    "{places} to call, each on a chip of its own, {per_provider} of one provider at most"
                ))
                .got(format!("{}{but}", members.len()))
                .fix(format!(
                    "start agents with `[custody] swarm = \"{swarm}\"` on machines that the charter admits"
                )));
        }
        members.sort_unstable_by_key(|member| member.enclave);
        Ok(members)
    }

    /// Whether an enclave can say its part now, whatever else.
    fn has_channel(&self, id: EnclaveId) -> bool {
        !self.is_revoked(id) && self.enclaves.get(&id).is_some_and(|enclave| !enclave.is_away())
    }

    /// Why an enclave cannot be called, if so.
    fn unable(&self, enclave: &Enclave, charter: &Charter, now: UnixTime) -> Option<&'static str> {
        if enclave.revoked().is_some() {
            return Some("revoked");
        }
        match enclave.presence() {
            Presence::Here => {}
            Presence::Draining => return Some("draining"),
            Presence::Away { .. } => return Some("away"),
        }
        if enclave.hold().is_some() {
            return Some("cordoned by the operator");
        }
        if !enclave.is_trusted() {
            return Some("no longer proven");
        }
        // A stranger could call it by a charter of its own for a key of this name.
        if enclave.typical().configuration.operators.iter().any(|operator| *operator != charter.operator) {
            return Some("obeying another operator, too");
        }
        let good = enclave.proofs().any(|proof| {
            let passport = proof.typical();
            // A passport of nobody has no dates and no chip: a requirement asks about neither.
            let candidate = Candidate { passport, price_hour: passport.configuration.price_hour() };
            let of_all = proof.appointment().scope.as_ref().is_none_or(|scope| scope.tenants.is_none());
            let sound = passport.ear.status != Tier::Contraindicated && !passport.claims.debug.value;
            proof.holds_at(now)
                && of_all
                && sound
                && !self.is_refused(&proof.kind, now)
                && charter.require.check(&candidate).is_ok()
        });
        (!good).then_some("not as the charter requires")
    }
}
