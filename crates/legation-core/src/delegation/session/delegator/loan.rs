//! One loan as its borrower sees it.

use std::collections::VecDeque;

use super::JobId;
use crate::{
    claims::TeeKind,
    delegation::{
        CallDemand, Lineage, Sum,
        call::cost,
        session::{ANSWERS_MAX, AWAY, RESEND, REST_MAX, ToDelegate, VAIN_MAX, after},
    },
    digest::Digest,
    dsse::Signed,
    id::{EnclaveId, ProviderId},
    rejection::Rejection,
    requirement::{Candidate, Requirement},
    statement::{Allocation, Assurance, Diversity, Passport},
    time::{Millis, UnixTime},
    unit::Fuel,
};

/// Most passports of one delegate that are kept: an answer may rest on one that was renewed since.
const PASSPORTS_MAX: usize = 4;

/// How far the session of a loan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// No channel.
    Away {
        /// Since when there is no session.
        since: Millis,
    },
    /// Described, not yet challenged.
    Describing {
        /// Since when there is no session.
        since: Millis,
        /// When it was sent last.
        sent: Millis,
    },
    /// Takes calls.
    Ready {
        /// What they name.
        challenge: Digest,
    },
}

impl State {
    /// Since when there is no session: a channel that opens and closes makes none.
    pub(super) fn since(self, now: Millis) -> Millis {
        match self {
            Self::Away { since } | Self::Describing { since, .. } => since,
            Self::Ready { .. } => now,
        }
    }
}

/// What makes enclaves diverse.
#[derive(Clone, Debug)]
pub(super) struct Face {
    pub(super) enclave: EnclaveId,
    chip: String,
    provider: ProviderId,
    tee: TeeKind,
}

impl Face {
    fn of(passport: &Passport) -> Self {
        Self {
            enclave: passport.enclave_id(),
            chip: passport.claims.chip.value.clone(),
            provider: passport.configuration.provider.clone(),
            tee: passport.claims.tee.value,
        }
    }

    pub(super) fn is_apart(&self, other: &Self, by: Diversity) -> bool {
        let more = match by {
            Diversity::Chip => true,
            Diversity::Provider => self.provider != other.provider,
            Diversity::Tee => self.tee != other.tee,
        };
        more && self.enclave != other.enclave && self.chip != other.chip
    }
}

pub(super) struct Loan {
    pub(super) allocation: Signed<Allocation>,
    pub(super) lineage: Lineage,
    pub(super) face: Face,
    /// Whether its enclave proves executions.
    proves: bool,
    pub(super) state: State,
    /// Number of its last call.
    pub(super) last: u64,
    pub(super) busy: Option<JobId>,
    /// Until when it is asked nothing, as it had no room.
    pub(super) rests: Option<Millis>,
    /// For how long it rests the next time.
    rest: Millis,
    /// How many calls in a row it took, and had no room for then.
    vain: u8,
    pub(super) distrusted: bool,
    /// What its calls used, or may use.
    pub(super) spent: Sum,
    /// What was set aside for calls that nobody waits for any more, and of which its enclave has not spoken.
    owed: VecDeque<(Digest, Sum)>,
    /// Whether something ran of which there is no report: what it handed on nobody says.
    unseen: bool,
    /// The one that came last at the end.
    passports: Vec<Signed<Passport>>,
}

impl Loan {
    pub(super) fn new(
        allocation: Signed<Allocation>,
        passport: Signed<Passport>,
        lineage: Lineage,
        since: Millis,
    ) -> Self {
        Self {
            allocation,
            lineage,
            face: Face::of(&passport),
            proves: passport.configuration.prover.is_some(),
            state: State::Away { since },
            last: 0,
            busy: None,
            rests: None,
            rest: RESEND,
            vain: 0,
            distrusted: false,
            spent: Sum::ZERO,
            owed: VecDeque::new(),
            unseen: false,
            passports: vec![passport],
        }
    }

    /// Whether it can be asked at once.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && self.is_open()
    }

    /// Whether it can be asked once it has a session.
    pub(super) fn is_open(&self) -> bool {
        self.busy.is_none() && self.rests.is_none() && !self.distrusted
    }

    /// It has no room now.
    pub(super) fn rest(&mut self, now: Millis) {
        self.rests = Some(after(now, self.rest));
        self.rest = after(self.rest, self.rest).min(REST_MAX);
    }

    /// It had room: it answered.
    pub(super) fn rested(&mut self) {
        (self.rest, self.vain) = (RESEND, 0);
    }

    /// It took a call, and had no room for it then: whether that was so too often.
    pub(super) fn took_in_vain(&mut self) -> bool {
        self.vain = self.vain.saturating_add(1);
        self.vain >= VAIN_MAX
    }

    /// It has rested long enough, perhaps.
    pub(super) fn wake(&mut self, now: Millis) {
        self.rests = self.rests.filter(|until| *until > now);
    }

    /// When something is to be done about it.
    pub(super) fn due(&self) -> Option<Millis> {
        let session = match self.state {
            State::Away { since } => Some(after(since, AWAY)),
            State::Describing { since, sent } => Some(after(sent, RESEND).min(after(since, AWAY))),
            State::Ready { .. } => None,
        };
        session.into_iter().chain(self.rests).min()
    }

    pub(super) fn renew(&mut self, passport: Signed<Passport>) {
        if passport.enclave_id() != self.face.enclave {
            return;
        }
        // One that is known already is the newest from here on, and the last to make way.
        self.passports.retain(|known| known.digest() != passport.digest());
        if self.passports.len() >= PASSPORTS_MAX {
            self.passports.remove(0);
        }
        self.passports.push(passport);
    }

    pub(super) fn passport(&self, digest: Option<&Digest>) -> Option<&Signed<Passport>> {
        self.passports.iter().find(|passport| Some(&passport.digest()) == digest)
    }

    pub(super) fn description(&self) -> ToDelegate {
        ToDelegate::Describe {
            loan: self.allocation.lease,
            grant: self.lineage.leaf().digest(),
            grants: self.lineage.grants().cloned().collect(),
        }
    }

    /// Whether its enclave can keep what is asked of an answer.
    pub(super) fn assures(&self, assurance: Assurance) -> bool {
        self.proves || assurance != Assurance::Proven
    }

    /// Whether its enclave satisfies what a question requires, by any passport that holds: it chooses by which it answers.
    pub(super) fn satisfies(&self, require: Option<&Requirement>, now: UnixTime) -> bool {
        let holds = |passport: &&Signed<Passport>| now <= passport.expires;
        let mut holding = self.passports.iter().filter(holds);
        require.is_none() || holding.any(|passport| self.meets(require, passport).is_ok())
    }

    /// Whether a passport of its enclave is one that a question is content with.
    pub(super) fn meets(&self, require: Option<&Requirement>, passport: &Passport) -> Result<(), Rejection> {
        let candidate = Candidate { passport, price_hour: self.allocation.price_hour };
        require.map_or(Ok(()), |require| require.check(&candidate))
    }

    /// What a call with this demand may use at most.
    pub(super) fn most(&self, demand: &CallDemand) -> Sum {
        Sum { fuel: demand.fuel, cost: cost(&self.allocation, demand.time.0.saturating_mul(1000)) }
    }

    /// What an execution used, that took so many microseconds.
    pub(super) fn used(&self, fuel: Fuel, micros: u64) -> Sum {
        Sum { fuel, cost: cost(&self.allocation, micros) }
    }

    /// What all its calls may use together.
    pub(super) fn granted(&self) -> Sum {
        let leaf = self.lineage.leaf();
        Sum { fuel: leaf.fuel, cost: leaf.budget }
    }

    /// What its enclave may hand on in turn, which is set aside while it is lent.
    pub(super) fn onward(&self) -> Sum {
        let onward = self.lineage.leaf().delegable.as_ref();
        onward.map_or(Sum::ZERO, |onward| Sum { fuel: onward.fuel, cost: onward.budget })
    }

    /// Whether it can take such a call, beside those it took before.
    pub(super) fn has_room(&self, demand: &CallDemand) -> bool {
        self.spent.plus(self.most(demand)).is_within(self.granted())
    }

    /// Whether it could take such a call if it had taken none before.
    pub(super) fn could_have_room(&self, demand: &CallDemand) -> bool {
        self.most(demand).is_within(self.granted())
    }

    /// A call is given up: its enclave will say whether it ran.
    pub(super) fn owe(&mut self, call: Digest, reserved: Sum) {
        if self.owed.len() >= ANSWERS_MAX {
            self.owed.pop_front();
            self.unseen = true;
        }
        self.owed.push_back((call, reserved));
    }

    /// What was set aside for a call that was given up, if its enclave speaks of it for the first time.
    pub(super) fn settle(&mut self, call: Digest, ran: bool) -> Option<Sum> {
        let at = self.owed.iter().position(|(owed, _)| *owed == call)?;
        let (_, reserved) = self.owed.remove(at)?;
        self.unseen |= ran;
        (!ran).then_some(reserved)
    }

    /// Something ran without a report.
    pub(super) fn ran_unseen(&mut self) {
        self.unseen = true;
    }

    /// Whether its enclave still has to speak of calls that were given up.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether all that its enclave handed on is known.
    pub(super) fn is_clear(&self) -> bool {
        !self.unseen && !self.owes()
    }
}
