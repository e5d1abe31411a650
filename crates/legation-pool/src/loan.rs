//! Loans: enclaves to which a running fragment hands calls (`legation_core::delegation` has the words and the statements).
//!
//! ```text
//!  an enclave that runs a fragment (or works under a loan itself)
//!    | Borrow: judged and placed at once, or refused with what would help
//!    v
//!  lent -- given back | refused by the lender | its time is over | the lender is lost, revoked, unproven | a grant is revoked
//!    |  -- what the borrower itself works under is over
//!    v
//!  ended: charged, and everything that rested on it with it
//! ```
//! 1. A loan is a promise of an enclave without a fragment, as seats of swarms are: what it sets aside is held, committed against
//!    budget and account, and charged by time when it ends. One that its lender would not be is charged nothing. It is paid for by the
//!    borrower's task.
//! 2. Who may borrow: the enclave of a lease that was offered, when the request lets parts of the fragment be passed on, and its owner
//!    and every holder of an input granted with something to pass on, deep enough; or the enclave of a loan, one step deeper, as far
//!    as its own borrower said (`loan/in_turn.rs`).
//! 3. Who is lent: as fragments are placed, by the index; `wanted/asking.rs` says what is asked beside. Nobody waits for a loan: what
//!    cannot be had now is refused (`loan.capacity`), and whoever asks may ask again. Loans push nobody aside, and are not pushed aside.
//!    Whom a borrower gave back as of no use, it is not lent again for that task; others of the task are while there is nobody else.
//! 4. A loan ends no later than what it is for, which cannot end before it: one record each, the deepest first.
//! 5. Ended loans are kept while the fragment's lease lives: its report may rest on answers that were given before they ended. A
//!    report that does keeps where in the journal they are, and nothing else.
//! 6. An answer may rest on any proof that its enclave had while the loan lived. When a verifier takes one of them back, the loan
//!    ends: what was answered before that counts, and nothing after it. Another loan of that enclave does not know it.
//!
//! The pool sees no calls. What a report says of them is judged in `report/answers.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use legation_core::{
    Bytes, Digest, EnclaveId, FragmentId, FragmentIndex, Fuel, LeaseId, MicroUsd, Millis, Rejection, Seq, Signed,
    TaskId, UnixTime,
    delegation::{InTurn, LoanTerms, session},
    dsse,
    statement::{Allocation, Delegable, Grant, GrantSubject, LoanRef, Placement},
    swarm::SeatDemand,
    task::{DELEGATION_DEPTH_MAX, Demand, Fragment},
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::{Change, defect},
    brief::Brief,
    event::{Effect, Event},
    lease::Lease,
    place::{self, Choice},
    pool::{Env, Pool},
    queue::flow_of,
    task::{SKEW, Task, unknown},
    wanted::{self, Asking, Wanted},
};

mod ends;
mod in_turn;
mod parts;
mod refusal;
mod view;

pub use parts::LoanParts;
pub use view::LoanView;

/// Loans that may live under one promise.
pub const LOANS_MAX: usize = session::LOANS_MAX;
/// Loans that may live of one task.
const LOANS_PER_TASK_MAX: usize = 256;
/// Loans that one task may ever be given: what its reports rest on is kept of each. Under one promise there may be a part of them.
pub const LOANS_EVER_MAX: u32 = 1024;
/// Ended loans that are shown of a task, the last ones.
const ENDED_SHOWN_MAX: usize = 64;
/// Proofs of its enclave that are kept of one loan: enough for a week of one each twenty minutes. A loan that has so many ends.
const LOAN_PROOFS_MAX: usize = 512;

/// One loan.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Loan {
    /// Who is lent.
    pub enclave: EnclaveId,
    /// The slot of its chip that it has: what it answers is its machine's word, whatever boots there later.
    pub(crate) place: Digest,
    /// To whom, under what, and what is set aside.
    pub terms: LoanRef,
    /// The lease of the fragment that all of it is for.
    pub root: LeaseId,
    /// How deep it is: 1 for a loan to the enclave of the fragment.
    pub depth: u32,
    /// What it may cost at most.
    pub cost_max: MicroUsd,
    /// What the enclave may borrow in turn, as its borrower said; without this, nothing.
    pub in_turn: Option<InTurn>,
    /// What it borrowed, and all under that.
    pub(crate) below: in_turn::Below,
    /// The enclave has until then to come back, after a new manager began.
    pub return_by: Option<UnixTime>,
    /// The manager's word.
    pub allocation: Signed<Allocation>,
    /// The record of it.
    pub(crate) at: Seq,
    /// When it ended, if it did: what was answered after that does not count.
    pub ended: Option<UnixTime>,
    /// Proofs that its enclave had while it lived, by passport: answers rest on them.
    pub(crate) proofs: BTreeMap<Digest, Brief>,
}

impl Loan {
    /// Its last second.
    pub fn until(&self) -> UnixTime {
        self.allocation.until
    }

    /// What is set aside.
    pub(crate) fn demand(&self) -> Demand {
        demand_of(&self.terms)
    }

    /// What it costs by now: every second of it.
    fn charge(&self, now: UnixTime) -> MicroUsd {
        let micros = u128::from(self.allocation.price_hour.0) * u128::from(now.since(self.allocation.from));
        MicroUsd(u64::try_from(micros.div_ceil(3600)).unwrap_or(u64::MAX)).min(self.cost_max)
    }
}

fn demand_of(terms: &LoanRef) -> Demand {
    let SeatDemand { cpu, memory, gpus, time } = terms.demand;
    Demand { cpu, memory, gpus, time, fuel: Fuel::ZERO, output: Bytes::ZERO }
}

/// What a loan that lasts so long costs at most.
fn cost_of(price_hour: MicroUsd, from: UnixTime, until: UnixTime) -> MicroUsd {
    let time = Millis(until.since(from).saturating_mul(1000));
    wanted::cost_max(price_hour, &Demand { time, ..Demand::default() })
}

/// The loans of one task.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Lending {
    /// Those that live.
    pub live: BTreeMap<LeaseId, Loan>,
    /// Those that ended, while the lease of the fragment lives that they were for.
    pub kept: BTreeMap<LeaseId, Loan>,
    /// The last that ended, oldest first, as they are shown.
    pub ended: VecDeque<LoanView>,
    /// What those that ended cost.
    pub charged: MicroUsd,
    /// How many there ever were.
    pub given: u32,
    /// Who was of no use, and to whom: the enclave that was lent, then the borrower that said so.
    pub(crate) unfit: BTreeSet<(EnclaveId, EnclaveId)>,
    /// Who misled a borrower, by what it signed: lent to nobody of the task again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) liars: BTreeSet<EnclaveId>,
}

impl Lending {
    /// A loan that lives, or that a report may yet rest on.
    pub fn loan(&self, id: LeaseId) -> Option<&Loan> {
        self.live.get(&id).or_else(|| self.kept.get(&id))
    }

    /// Those that live under a promise.
    fn under(&self, of: LeaseId) -> impl Iterator<Item = (LeaseId, &Loan)> {
        self.live.iter().filter(move |(_, loan)| loan.terms.of == of).map(|(id, loan)| (*id, loan))
    }

    /// The number of the next loan under a promise.
    fn next_number(&self, of: LeaseId) -> u32 {
        let all = self.live.values().chain(self.kept.values()).filter(|loan| loan.terms.of == of);
        all.map(|loan| loan.terms.number).max().unwrap_or(0).saturating_add(1)
    }
}

impl Task {
    /// Appointments of the managers that lent to it.
    pub(crate) fn loan_managers(&self) -> impl Iterator<Item = Digest> {
        let lending = self.lending.as_deref().into_iter();
        let loans = lending.flat_map(|lending| lending.live.values().chain(lending.kept.values()));
        let known = loans.filter_map(|loan| loan.allocation.prev.get(1).copied());
        let done = self.fragments.iter().filter_map(|f| f.done.as_ref()?.answers.as_deref());
        known.chain(done.flat_map(|answers| answers.managers.iter().copied()))
    }
}

/// What a borrower works under.
struct Basis {
    task: TaskId,
    index: FragmentIndex,
    of: LeaseId,
    /// The lease of the fragment, and its enclave.
    root: (LeaseId, EnclaveId),
    /// Of a loan under it.
    depth: u32,
    until: UnixTime,
    allocation: Digest,
    /// The borrower, and those that it works for.
    above: Vec<EnclaveId>,
}

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim.to_owned())
}

impl Pool {
    /// A loan that lives, and its task.
    pub fn loan(&self, id: LeaseId) -> Option<(TaskId, &Loan)> {
        let task = *self.loans.get(&id)?;
        Some((task, self.tasks.get(&task)?.lending.as_deref()?.live.get(&id)?))
    }

    /// Every loan that lives.
    pub(crate) fn all_loans(&self) -> impl Iterator<Item = (LeaseId, TaskId, &Loan)> {
        self.loans.keys().filter_map(|id| self.loan(*id).map(|(task, loan)| (*id, task, loan)))
    }

    /// The task of a lease, or of a loan.
    fn task_of(&self, id: LeaseId) -> Option<TaskId> {
        self.leases.get(&id).map(|lease| lease.fragment.task).or_else(|| self.loans.get(&id).copied())
    }

    /// Loans that live under a promise, directly.
    pub(crate) fn loans_under(&self, of: LeaseId) -> Vec<LeaseId> {
        if self.loans.is_empty() {
            return Vec::new();
        }
        let lending = self.task_of(of).and_then(|task| self.tasks.get(&task)?.lending.as_deref());
        lending.map(|lending| lending.under(of).map(|(id, _)| id).collect()).unwrap_or_default()
    }

    /// Loans that an enclave has borrowed.
    pub(crate) fn borrowed_by(&self, enclave: EnclaveId) -> BTreeSet<LeaseId> {
        self.work_at(enclave).into_iter().flat_map(|lease| self.loans_under(lease)).collect()
    }

    /// What an enclave works under when it borrows.
    fn basis(&self, enclave: EnclaveId, of: LeaseId) -> Result<Basis, Rejection> {
        let refuse = |got: &str| {
            Err(refuse("loan.lease", "promise that a loan is asked for")
                .expected(format!(
                    "one of enclave {}: a fragment that it runs, or a loan that it works under",
                    enclave.short()
                ))
                .got(got)
                .fix("ask while the task runs, under the promise that it was offered"))
        };
        if let Some((task, loan)) = self.loan(of).filter(|(_, loan)| loan.enclave == enclave) {
            let Some(root) = self.leases.get(&loan.root) else { return refuse("one whose fragment runs no more") };
            let mut above = vec![enclave];
            let mut next = Some(loan);
            while let Some(loan) = next {
                above.push(loan.terms.borrower);
                next = self.loan(loan.terms.of).map(|(_, loan)| loan);
            }
            return Ok(Basis {
                task,
                index: root.fragment.index,
                of,
                root: (loan.root, root.enclave),
                depth: loan.depth.saturating_add(1),
                until: loan.until(),
                allocation: loan.allocation.digest(),
                above,
            });
        }
        let Some(lease) = self.leases.get(&of).filter(|lease| lease.enclave == enclave) else {
            return refuse("none: it ended, or was never its own");
        };
        if !lease.offered {
            return refuse("one that waits for grants");
        }
        if lease.preempted.is_some() {
            return refuse("one that makes way for more urgent work");
        }
        let Lease { fragment: FragmentId { task, index }, until, allocation, .. } = lease;
        Ok(Basis {
            task: *task,
            index: *index,
            of,
            root: (of, enclave),
            depth: 1,
            until: *until,
            allocation: *allocation,
            above: vec![enclave],
        })
    }

    /// The grants by which an enclave may have others run parts of a fragment, so deep: of the fragment's owner, and of every holder
    /// of an input.
    fn passed_on<'a>(
        &self,
        task: &'a Task,
        (index, enclave): (FragmentIndex, EnclaveId),
        depth: u32,
        now: UnixTime,
    ) -> Result<Vec<(&'a Signed<Grant>, &'a Delegable)>, Rejection> {
        let fragment = task.request.fragment(index).ok_or_else(|| defect("a fragment that is worked on"))?;
        let Some(most) = &fragment.delegates else {
            return Err(refuse("loan.delegates", "fragment whose parts are handed on")
                .expected("one of which the request lets parts be passed on")
                .got(format!("fragment {index}, which has no `delegates`"))
                .fix("say in the request what may be passed on"));
        };
        let deepest = most.depth.min(DELEGATION_DEPTH_MAX);
        if depth > deepest {
            return Err(refuse("loan.depth", "depth of a loan").expected(format!("at most {deepest}")).got(depth));
        }
        let holders = fragment.inputs.iter().filter_map(|input| task.request.holder(fragment, input));
        let needed: BTreeSet<_> = std::iter::once(task.request.owner_key(fragment)).chain(holders).collect();
        let own = |grant: &&Signed<Grant>| {
            let for_it = grant.covers(index, enclave) && grant.subject == GrantSubject::Enclave(enclave);
            for_it && now <= grant.expires && needed.contains(&grant.issuer) && self.revoked.of_grant(grant).is_none()
        };
        let own: Vec<_> = task.grants.iter().filter(own).collect();
        let deep = own.iter().copied().filter(|grant| grant.depth >= depth);
        let passed: Vec<_> = deep.filter_map(|grant| Some((grant, grant.delegable.as_ref()?))).collect();
        if let Some(key) = needed.iter().find(|key| passed.iter().all(|(grant, _)| grant.issuer != **key)) {
            let most = own.iter().filter(|grant| grant.issuer == *key).map(|grant| grant.depth).max();
            return Err(refuse("loan.grant", "grants that let parts of the fragment be passed on")
                .expected(format!(
                    "one to this enclave of its owner and of every holder of an input, of depth {depth} at least; {} among them",
                    key.id().short()
                ))
                .got(most.map_or("none of this key".to_owned(), |depth| format!("depth {depth}")))
                .fix("grant with `delegable`, deep enough; every holder must agree"));
        }
        Ok(passed)
    }

    /// What is asked of an enclave that is lent.
    fn asking(&self, basis: &Basis, terms: &LoanTerms, now: UnixTime) -> Result<Asking, Rejection> {
        let task = self.tasks.get(&basis.task).ok_or_else(|| unknown(basis.task))?;
        let passed = self.passed_on(task, (basis.index, basis.root.1), basis.depth, now)?;
        let fragment = task.request.fragment(basis.index).ok_or_else(|| defect("a fragment that is worked on"))?;
        let mut modules = passed.first().map(|(_, delegable)| delegable.modules.clone()).unwrap_or_default();
        modules.retain(|module| passed.iter().all(|(_, delegable)| delegable.modules.contains(module)));
        if modules.is_empty() {
            return Err(refuse("loan.modules", "modules that may be called")
                .expected("one at least that every grant lets be passed on")
                .got("none")
                .fix("grant with the same modules in `delegable`"));
        }
        let until = now.plus(terms.seconds).min(basis.until);
        let (lasts, call) = (until.since(now), terms.demand.time.seconds_up());
        if lasts < call {
            return Err(refuse("loan.time", "time that is left for calls")
                .expected(format!("{call} s, as long as one call may take"))
                .got(format!("{lasts} s, until {until}, when the borrower's own promise ends"))
                .fix("ask for shorter calls, or give the fragment more time"));
        }
        let fuel = passed.iter().map(|(_, delegable)| delegable.fuel).min().unwrap_or_default();
        let SeatDemand { cpu, memory, gpus, time } = terms.demand;
        let demand = Demand { cpu, memory, gpus, time, fuel, output: fragment.demand.output };
        let piece = |module: Digest| Fragment {
            name: "call".to_owned(),
            owner: None,
            module,
            args: Vec::new(),
            inputs: Vec::new(),
            demand,
            require: fragment.require.clone(),
            delegates: None,
        };
        let granted = passed.iter().filter_map(|(_, delegable)| delegable.require.clone());
        let requires = granted.chain(terms.require.clone()).collect();
        let lasts = Millis(lasts.saturating_mul(1000));
        let mut asking = Asking::new(modules.into_iter().map(piece).collect(), requires, lasts);
        asking.diverse = terms.apart.as_ref().map(|apart| apart.by);
        asking.proven = terms.proven;
        asking.barred = self.of_no_use(basis).0;
        asking.barred.extend(&terms.exclude);
        asking.most = self.left_in_turn(basis.of)?;
        let beside = terms.apart.as_ref().map_or(&[][..], |apart| &apart.from);
        Ok(asking.of(self, &basis.above, beside))
    }

    /// Enclaves that were of no use to a borrower, as it said, or that misled any of its task; and those that others of its task said so of.
    fn of_no_use(&self, basis: &Basis) -> (BTreeSet<EnclaveId>, BTreeSet<EnclaveId>) {
        let lending = self.tasks.get(&basis.task).and_then(|task| task.lending.as_deref());
        let liars = lending.into_iter().flat_map(|lending| &lending.liars).copied();
        let said = lending.into_iter().flat_map(|lending| &lending.unfit);
        let borrower = basis.above.first();
        let (own, others): (Vec<_>, Vec<_>) = said.partition(|(_, by)| Some(by) == borrower);
        let lent = |said: Vec<&(EnclaveId, EnclaveId)>| -> BTreeSet<EnclaveId> {
            said.into_iter().map(|(lent, _)| *lent).collect()
        };
        (lent(own).into_iter().chain(liars).collect(), lent(others))
    }

    /// The best enclave that could be lent now: where there is one that nobody of the task found of no use, one of those.
    fn choose_useful(&self, basis: &Basis, asking: &Asking, now: UnixTime) -> Option<Choice> {
        let (_, others) = self.of_no_use(basis);
        let wary = (!others.is_empty()).then(|| asking.without(&others));
        let choice = wary.and_then(|wary| self.choose_lender(basis.task, &wary, now));
        choice.or_else(|| self.choose_lender(basis.task, asking, now))
    }

    /// The best enclave that could be lent now.
    fn choose_lender(&self, id: TaskId, asking: &Asking, now: UnixTime) -> Option<Choice> {
        let task = self.tasks.get(&id)?;
        let class = asking.class(&task.request)?;
        place::choose_for(Wanted::loan(self, task, asking, now)?, class).ok()
    }

    /// How many loans there may be.
    fn check_count(&self, basis: &Basis) -> Result<(), Rejection> {
        let task = self.tasks.get(&basis.task).ok_or_else(|| unknown(basis.task))?;
        let Some(lending) = task.lending.as_deref() else { return Ok(()) };
        if !task.attached().leaves_room() {
            return Err(refuse("loan.count", "statements that the reports of one task rest on")
                .expected("room for those of one more report in its receipt")
                .got(task.attached())
                .fix("do what is left without other enclaves"));
        }
        let (under, live, ever) = (lending.under(basis.of).count(), lending.live.len(), lending.given);
        let (ever_under, most_under) = lending.ever_under(basis.of);
        let over = [
            (under >= LOANS_MAX, "loans under one promise", LOANS_MAX, under),
            (live >= LOANS_PER_TASK_MAX, "loans of one task at once", LOANS_PER_TASK_MAX, live),
            (ever >= LOANS_EVER_MAX, "loans of one task, ever", LOANS_EVER_MAX as usize, ever as usize),
            (ever_under >= most_under, "loans under one promise, ever", most_under as usize, ever_under as usize),
        ];
        match over.into_iter().find(|(over, ..)| *over) {
            None => Ok(()),
            Some((_, what, most, got)) => Err(refuse("loan.count", what)
                .expected(format!("fewer than {most}"))
                .got(got)
                .fix("hand more calls to the enclaves that are lent, or give some back")),
        }
    }

    /// An enclave wants another to hand calls to: it is lent the best there is, or nobody.
    pub(crate) fn borrow_one(
        &mut self,
        enclave: EnclaveId,
        (of, ask): (LeaseId, u64),
        terms: &LoanTerms,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.known(enclave)?.is_away() {
            return Err(refuse("pool.away", "who borrows").expected("an enclave that is here").got(enclave.short()));
        }
        let basis = self.basis(enclave, of)?;
        terms.validate()?;
        if let Some(why) = self.no_allocations(env.now) {
            return Err(why);
        }
        self.check_count(&basis)?;
        let asking = self.asking(&basis, terms, env.now)?;
        let Some(choice) = self.choose_useful(&basis, &asking, env.now) else {
            return Err(self.nobody_lent(&basis, terms, &asking, env.now));
        };
        let lender = choice.enclave;
        let allocation = self.lending(&basis, terms, &asking, choice, env)?;
        let loan = allocation.lease;
        let allocation = Box::new(dsse::sign(allocation, env.signer));
        out.record(self, env, Event::Lent { allocation, in_turn: terms.in_turn })?;
        out.effects.push(Effect::Lend { enclave: lender, loan });
        out.effects.push(Effect::Lent { enclave, loan, ask: Some(ask) });
        Ok(())
    }

    /// The manager's word on a loan.
    fn lending(
        &self,
        basis: &Basis,
        terms: &LoanTerms,
        asking: &Asking,
        choice: Choice,
        env: &Env<'_>,
    ) -> Result<Allocation, Rejection> {
        let task = self.tasks.get(&basis.task).ok_or_else(|| unknown(basis.task))?;
        let appointment = self.manager.as_ref().ok_or_else(|| defect("an enclave is lent and nobody leads"))?;
        let lender = self.enclaves.get(&choice.enclave).ok_or_else(|| defect("a chosen enclave"))?;
        let configuration = &lender.typical().configuration;
        let borrower = basis.above.first().copied().ok_or_else(|| defect("a loan to nobody"))?;
        let number = task.lending.as_deref().map_or(1, |lending| lending.next_number(basis.of));
        // By the freshest proof by which it was chosen.
        let permits = lender
            .proofs
            .for_tenant(&task.request.tenant, env.now)
            .find_map(|proof| asking.permits(self, task, &proof.kind, choice.price_hour, env.now).ok());
        let limits = permits.ok_or_else(|| defect("a chosen enclave without a proof"))?;
        Ok(Allocation {
            manager: env.signer.public_key(),
            term: self.term,
            task: basis.task,
            fragment: basis.index,
            lease: LeaseId(self.last_lease.0.saturating_add(1)),
            from: env.now,
            until: env.now.plus(asking.lasts.seconds_up()),
            enclave: choice.enclave,
            provider: configuration.provider.clone(),
            region: configuration.region.clone(),
            price_hour: choice.price_hour,
            limits: (!limits.is_unlimited()).then_some(limits),
            why: Placement {
                considered: choice.considered,
                eligible: choice.eligible,
                passed_over: choice.passed_over,
                decided_by: choice.decided_by,
            },
            revocations: self.revoked.epoch(),
            seat: None,
            loan: Some(LoanRef { of: basis.of, borrower, number, demand: terms.demand }),
            prev: vec![task.request.digest(), appointment.digest(), basis.allocation],
        })
    }

    /// Whether a loan can be the next record: why not, in words.
    pub(crate) fn loan_may_follow(&self, allocation: &Signed<Allocation>) -> Result<(), &'static str> {
        let Some(terms) = allocation.loan else { return Err("an enclave is lent to nobody") };
        let Ok(basis) = self.basis(terms.borrower, terms.of) else {
            return Err("an enclave is lent to one that works on nothing");
        };
        let own = (basis.task, basis.index) == (allocation.task, allocation.fragment);
        if !own || allocation.prev.get(2) != Some(&basis.allocation) || allocation.seat.is_some() {
            return Err("a loan is for another promise than it rests on");
        }
        if allocation.until > basis.until || basis.above.contains(&allocation.enclave) {
            return Err("a loan outlasts what it is for, or is of who borrows");
        }
        let cost = cost_of(allocation.price_hour, allocation.from, allocation.until);
        if !self.left_in_turn(terms.of).is_ok_and(|left| cost <= left) {
            return Err("a loan is under one whose borrower let nothing, or less, be borrowed in turn");
        }
        let lending = self.tasks.get(&basis.task).and_then(|task| task.lending.as_deref());
        match lending.map_or(1, |lending| lending.next_number(terms.of)) == terms.number {
            true => Ok(()),
            false => Err("loans under a promise are not counted by one"),
        }
    }

    pub(crate) fn absorb_lent(
        &mut self,
        allocation: &Signed<Allocation>,
        in_turn: Option<InTurn>,
        at: Seq,
    ) -> Option<()> {
        let terms = allocation.loan?;
        let basis = self.basis(terms.borrower, terms.of).ok()?;
        let (id, lender) = (allocation.lease, allocation.enclave);
        let cost_max = cost_of(allocation.price_hour, allocation.from, allocation.until);
        let enclave = self.enclaves.get(&lender)?;
        // It may have been given one that it was not told of: until then it answers by the one before.
        let known = enclave.proofs.all().filter(|proof| proof.expires >= allocation.from.minus(SKEW));
        let loan = Loan {
            enclave: lender,
            place: enclave.slot(),
            terms,
            root: basis.root.0,
            depth: basis.depth,
            cost_max,
            in_turn,
            below: in_turn::Below::default(),
            return_by: None,
            allocation: allocation.clone(),
            at,
            ended: None,
            proofs: known.map(|proof| (proof.passport, proof.clone())).collect(),
        };
        let demand = loan.demand();
        let task = self.tasks.get_mut(&basis.task)?;
        let lending = task.lending.get_or_insert_default();
        lending.given = lending.given.saturating_add(1);
        lending.count_under(terms.of, |below| {
            below.given = below.given.saturating_add(1);
            below.cost = below.cost.saturating_add(cost_max);
        });
        lending.live.insert(id, loan);
        task.committed = task.committed.saturating_add(cost_max);
        let request = task.request.clone();
        self.accounts.queue(&request.tenant, 1);
        self.accounts.take(&request.tenant, &demand, cost_max);
        // A loan counts as what waits for an enclave would.
        let (cost, weight) = (self.classes.offered().cost(&demand), self.accounts.of(&request.tenant).terms.weight);
        self.queue.charge(&flow_of(&request), cost, weight);
        self.loans.insert(id, basis.task);
        self.last_lease = id;
        self.enclaves.get_mut(&lender)?.take(id, &demand);
        self.reindex_room(lender);
        Some(())
    }

    /// Rebuilds what is found by name alone.
    pub(crate) fn index_loans(&mut self) {
        for (id, task) in &self.tasks {
            let live = task.lending.as_deref().into_iter().flat_map(|lending| lending.live.keys());
            self.loans.extend(live.map(|loan| (*loan, *id)));
        }
    }
}
