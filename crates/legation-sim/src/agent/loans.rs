//! Enclaves that are lent, on both sides: what the product's agents judge, enter and say of loans, step by step. Nothing is asked of
//! who is lent: that conversation has a simulation of its own, in the crate of the protocol.

use legation_agent::lending::{Standing, judge_lend, judge_lent};
use legation_core::{
    LeaseId, MicroUsd, Millicores, Millis, Rejection, Signed,
    claims::Capacity,
    delegation::{InTurn, LoanTerms},
    statement::Allocation,
    swarm::SeatDemand,
    task::Demand,
};
use legation_net::message::{Lending, ToManager};

use super::Agent;
use crate::{clock::Span, ether::Ether, fault::Fault, message::Timer};

/// When a borrower asks for an enclave, and asks again.
const ASKS: (Span, Span) = (Span::millis(50), Span::seconds(4));
/// How long it needs one.
const NEEDS: (Span, Span) = (Span::millis(200), Span::seconds(8));

impl Agent {
    /// Who may hand parts on will ask for enclaves to hand them to.
    pub(super) fn borrow_soon(&self, ether: &mut Ether, lease: LeaseId) {
        let pause = ether.between(ASKS);
        ether.ring(self.node(), self.life, pause, Timer::Borrow { lease: lease.0 });
    }

    /// Its own promise that a loan may be for: of a fragment that it runs, or of a loan of itself.
    fn promise(&self, of: LeaseId) -> Option<Signed<Allocation>> {
        let under = self.runs.get(&of).and_then(|run| run.work.under.as_ref());
        under.map(|under| under.own.clone()).or_else(|| self.lent.get(&of).cloned())
    }

    /// Asks for an enclave, and now and then for another.
    pub(super) fn borrow(&mut self, ether: &mut Ether, lease: LeaseId) {
        let Some(own) = self.promise(lease) else { return };
        let seconds = own.until.since(self.clock.unix(ether.now)).min(ether.random.range(1, 20));
        let in_turn = ether.random.chance(600).then_some(InTurn { depth: 1, budget: MicroUsd(5_000) });
        let terms = LoanTerms { in_turn, ..terms(Millicores(100), seconds) };
        if terms.validate().is_err() {
            return;
        }
        self.asked += 1;
        ether.reach("agent: asks for an enclave");
        ether.tell(self.node(), || format!("borrows for {lease}"));
        self.say(ether, ToManager::Borrow { ask: self.asked, of: lease, terms: Box::new(terms) });
        if ether.random.chance(500) {
            self.borrow_soon(ether, lease);
        }
    }

    fn standing(&self, ether: &Ether) -> Standing<'_> {
        Standing {
            identity: self.enclave(),
            operators: std::slice::from_ref(&self.operator),
            revoked: &self.revoked,
            obeyed: self.books.obeyed().0,
            now: self.clock.unix(ether.now),
        }
    }

    /// Another enclave is lent to this one.
    pub(super) fn is_lent(&mut self, ether: &mut Ether, lending: &Lending) {
        let loan = lending.allocation.lease;
        let Some(own) = self.promise(lending.borrower.lease).filter(|_| !self.books.is_over(loan)) else {
            return self.say(ether, ToManager::GiveBack { loan, why: None });
        };
        let judged = judge_lent(lending, &own, &self.standing(ether));
        match judged {
            Err(why) => {
                ether.tally.reach(&format!("agent: will not use a loan by {}", why.check));
                self.say(ether, ToManager::GiveBack { loan, why: Some(why) });
            }
            Ok(()) => {
                ether.reach("agent: is lent an enclave");
                self.books.borrowed(loan);
                let pause = ether.between(NEEDS);
                ether.ring(self.node(), self.life, pause, Timer::GiveBack { lease: loan.0 });
            }
        }
    }

    /// It needs an enclave no more; now and then it forgets to say so.
    pub(super) fn give_back(&mut self, ether: &mut Ether, loan: LeaseId) {
        if self.books.is_over(loan) {
            return;
        }
        self.books.part(loan);
        if !ether.calm && ether.random.chance(100) {
            return ether.fault(Fault::Forgetful);
        }
        ether.tell(self.node(), || format!("gives {loan} back"));
        self.say(ether, ToManager::GiveBack { loan, why: None });
    }

    /// This enclave is lent to another.
    pub(super) fn lend(&mut self, ether: &mut Ether, lending: &Lending) {
        let loan = lending.allocation.lease;
        if self.books.is_over(loan) || self.lent.contains_key(&loan) {
            return;
        }
        let Some(terms) = lending.allocation.loan.filter(|_| self.passport.is_some()) else {
            let why = Rejection::new("agent.passport", "passport of this enclave").expected("one").got("none yet");
            return self.refuse(ether, loan, why);
        };
        let Capacity { memory, .. } = self.machine.configuration.capacity;
        let left = self.books.left();
        let judged = self.books.open().and_then(|()| judge_lend(lending, &left, memory, &self.standing(ether)));
        if let Err(why) = judged {
            return self.refuse(ether, loan, why);
        }
        ether.reach("agent: is lent to another");
        self.books.lend(loan, terms.demand, (lending.term, lending.seq));
        self.lent.insert(loan, lending.allocation.clone());
        let verdict = ether.oracle.obeys(self.enclave(), lending.term, &lending.allocation, self.busy());
        ether.judge(verdict);
        ether.tell(self.node(), || format!("is lent to {} by {loan}", terms.borrower.short()));
        if ether.random.chance(400) {
            self.borrow_soon(ether, loan);
        }
    }

    /// What this agent sets aside.
    pub(super) fn busy(&self) -> impl Iterator<Item = Demand> + Clone {
        let runs = self.runs.values().map(|run| run.work.plan.fragment.demand);
        let loans = self.lent.values().filter_map(|allocation| allocation.loan);
        let set_aside =
            |SeatDemand { cpu, memory, gpus, time }| Demand { cpu, memory, gpus, time, ..Demand::default() };
        runs.chain(loans.map(move |loan| set_aside(loan.demand)))
    }

    /// One lie about loans: borrows for what is another's, or gives back what is another's.
    pub(super) fn lie_of_loans(&mut self, ether: &mut Ether) {
        let all: Vec<_> = ether.oracle.pool().leases().keys().copied().collect();
        let Some(lease) = ether.random.pick(&all).copied() else { return };
        ether.fault(Fault::LieLoan);
        if ether.random.chance(500) {
            ether.tell(self.node(), || format!("lies: gives {lease} back, whoever has it"));
            return self.say(ether, ToManager::GiveBack { loan: lease, why: None });
        }
        ether.tell(self.node(), || format!("lies: borrows for {lease}, whoever holds it"));
        self.asked += 1;
        let terms = Box::new(terms(Millicores(100), 5));
        self.say(ether, ToManager::Borrow { ask: self.asked, of: lease, terms });
    }
}

fn terms(cpu: Millicores, seconds: u64) -> LoanTerms {
    let Demand { memory, gpus, .. } = Demand::default();
    let demand = SeatDemand { cpu, memory, gpus, time: Millis(1000) };
    LoanTerms { demand, require: None, apart: None, exclude: Vec::new(), proven: false, in_turn: None, seconds }
}
