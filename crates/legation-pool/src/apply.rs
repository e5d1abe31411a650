//! The door: one command in, events and effects out. A table of one-line arms; each noun has its own file.

use legation_core::{
    Digest, EnclaveId, KeyId, LeaseId, MicroUsd, Rejection, ReservationId, Revocable, Seq, Signed, Signer, SwarmName,
    TaskId, TenantId, Term, UnixTime,
    claims::{CollateralItem, Evidence},
    custody::{Charter, CustodyWord},
    delegation::LoanTerms,
    statement::{Aggregate, Appointment, ExecutionProof, Grant, Office, Passport, Report, Request},
    swarm::Membership,
    task::WrappedKey,
};

use legation_policy::{ReferenceValue, Scope};

use crate::{
    account::AccountTerms,
    attached::Attached,
    custody::CHOOSE_EVERY,
    distance::RoundTrip,
    event::{Effect, Event, IdempotencyKey, RECORD_VERSION, Record},
    pool::{Env, Pool},
    queue::Chances,
    reserve::ReservationTerms,
    swarm::{Rulings, may_close},
    task::SKEW,
};

/// What can be asked of the pool. Statements come in with their signatures checked; what they may say is judged here.
#[derive(Clone, Debug)]
pub enum Command {
    /// A manager begins to lead.
    BeginTerm {
        /// Its term: one more than any before.
        term: Term,
        /// Its appointment.
        appointment: Box<Signed<Appointment>>,
    },
    /// A verifier admitted an enclave.
    Attested {
        /// The passport it gave.
        passport: Box<Signed<Passport>>,
        /// The verifier's appointment.
        appointment: Box<Signed<Appointment>>,
        /// The evidence it judged.
        evidence: Box<Evidence>,
        /// The collateral it took into account.
        collateral: Vec<CollateralItem>,
    },
    /// An attested channel to an enclave is open.
    Arrived {
        /// The enclave.
        enclave: EnclaveId,
        /// Leases it still works on.
        running: Vec<LeaseId>,
    },
    /// The channel to an enclave is gone.
    Lost {
        /// The enclave.
        enclave: EnclaveId,
        /// Why, in words.
        why: String,
    },
    /// An enclave (or the operator for it) wants no more work.
    Drain {
        /// The enclave.
        enclave: EnclaveId,
    },
    /// An operator no longer trusts something; it need not be known here.
    Revoke {
        /// What.
        what: Revocable,
        /// Why, in the operator's words.
        why: String,
    },
    /// A verifier takes back its passport of an enclave.
    Withdraw {
        /// The enclave.
        enclave: EnclaveId,
        /// The verifier, by its key.
        verifier: KeyId,
        /// Why.
        why: Rejection,
    },
    /// A client asks for a task.
    Submit {
        /// The request.
        request: Box<Signed<Request>>,
        /// Grants given beforehand.
        grants: Vec<Signed<Grant>>,
        /// The client's name for this try.
        idempotency: Option<IdempotencyKey>,
    },
    /// An owner or holder grants.
    Grant {
        /// The grant.
        grant: Box<Signed<Grant>>,
        /// Keys it releases.
        keys: Vec<WrappedKey>,
    },
    /// An enclave will not run what it was offered.
    Refuse {
        /// The enclave.
        enclave: EnclaveId,
        /// What.
        lease: LeaseId,
        /// Why.
        why: Rejection,
    },
    /// An enclave ran what it was offered.
    Report {
        /// The enclave whose channel it came by.
        enclave: EnclaveId,
        /// The report.
        report: Box<Signed<Report>>,
        /// The aggregate, of a reducing fragment.
        aggregate: Option<Box<Signed<Aggregate>>>,
        /// Keys of what it left.
        keys: Vec<WrappedKey>,
        /// What the report rests on of calls to enclaves that were lent.
        attached: Box<Attached>,
    },
    /// An enclave has proven what it answered to a call.
    Prove {
        /// The enclave whose channel it came by.
        enclave: EnclaveId,
        /// Of which task.
        task: TaskId,
        /// What it says: the bytes that it names are stored.
        statement: Box<Signed<ExecutionProof>>,
    },
    /// An enclave cannot prove what it answered to a call.
    Unprove {
        /// The enclave whose channel it came by.
        enclave: EnclaveId,
        /// Of which task.
        task: TaskId,
        /// The answer.
        report: Digest,
        /// Why.
        why: Rejection,
    },
    /// An enclave that runs a fragment, or works under a loan, wants another to hand calls to.
    Borrow {
        /// The enclave whose channel it came by.
        enclave: EnclaveId,
        /// What it calls this, in the answer.
        ask: u64,
        /// Its own promise that the loan is for.
        of: LeaseId,
        /// What the loan is to be like.
        terms: Box<LoanTerms>,
    },
    /// A borrower needs a loan no more.
    GiveBack {
        /// The enclave whose channel it came by.
        enclave: EnclaveId,
        /// Which.
        loan: LeaseId,
        /// Why the enclave is of no use, if it is not.
        why: Option<Rejection>,
    },
    /// An enclave joins the round of a swarm that it was asked to join.
    Join {
        /// The enclave whose channel it came by.
        enclave: EnclaveId,
        /// Its word.
        membership: Box<Signed<Membership>>,
    },
    /// The client gives a task up.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// The operator has nothing new placed on an enclave; what runs there goes on.
    Cordon {
        /// Which.
        enclave: EnclaveId,
        /// Why, in words.
        why: String,
        /// By whom.
        author: String,
    },
    /// The operator takes that back, or lets in again what was decommissioned.
    Uncordon {
        /// Which.
        enclave: EnclaveId,
        /// By whom.
        author: String,
    },
    /// The operator takes an enclave out: its work moves at once, and it stays out.
    Decommission {
        /// Which.
        enclave: EnclaveId,
        /// Why, in words.
        why: String,
        /// By whom.
        author: String,
    },
    /// A tenant, or the operator for one, has seats set aside.
    Reserve {
        /// What.
        terms: Box<ReservationTerms>,
        /// By whom.
        author: String,
    },
    /// A reservation is given up.
    CancelReservation {
        /// Which.
        reservation: ReservationId,
        /// By whom.
        author: String,
    },
    /// The operator makes a reference value, or makes one anew.
    AddReference {
        /// The value.
        value: Box<ReferenceValue>,
        /// By whom.
        author: String,
        /// Whether it may take the place of one that still counts.
        replace: bool,
    },
    /// The operator ends a reference value.
    ExpireReference {
        /// Which.
        name: String,
        /// Last second it counts; now without one.
        end: Option<UnixTime>,
        /// By whom.
        author: String,
        /// Even if a policy in force names it.
        force: bool,
    },
    /// The operator sets the pool's policy, or a tenant its own.
    SetPolicy {
        /// Whose.
        scope: Scope,
        /// Its text.
        text: String,
        /// By whom.
        author: String,
    },
    /// The operator gives the distances between regions.
    SetDistances {
        /// All of them.
        rows: Vec<RoundTrip>,
        /// By whom.
        author: String,
    },
    /// Channels to agents say how far regions are from the manager's.
    MeasureDistances {
        /// Round trips, each once.
        rows: Vec<RoundTrip>,
    },
    /// The operator sets an account: the default one where no tenant is named.
    SetAccount {
        /// Whose.
        tenant: Option<TenantId>,
        /// What the tenant may do.
        terms: AccountTerms,
        /// Only if its terms are still those of this record; zero for those that nobody set.
        as_of: Option<Seq>,
        /// By whom.
        author: String,
    },
    /// The operator raises the budget of an account.
    TopUp {
        /// Whose.
        tenant: TenantId,
        /// By how much.
        amount: MicroUsd,
        /// By whom.
        author: String,
    },
    /// The operator says what it asks of every committee of a swarm key, which is then made if there is none.
    SetCharter {
        /// What, signed by its root.
        charter: Box<Signed<Charter>>,
        /// By whom it came.
        author: String,
    },
    /// The operator wants another committee of a swarm key now.
    RotateKey {
        /// Which swarm key.
        swarm: SwarmName,
        /// By whom.
        author: String,
    },
    /// A custodian says its part in a ceremony.
    SayCustody {
        /// The enclave whose channel it came by.
        enclave: EnclaveId,
        /// What it says.
        word: Box<CustodyWord>,
    },
    /// Time passed.
    Tick,
}

/// The check of what only a defect of this program refuses. The pool may have changed by then, and its records are gone: it is of no
/// more use, and is read anew from the journal.
pub const DEFECT: &str = "pool.defect";

/// What this program should never come to.
pub(crate) fn defect(claim: &str) -> Rejection {
    Rejection::new(DEFECT, claim.to_owned())
}

/// What a command did.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Applied {
    /// What happened, to be journalled before anything is answered.
    pub records: Vec<Record>,
    /// What is to be done after that.
    pub effects: Vec<Effect>,
}

/// What a command has done so far, and what that may have made possible for fragments that wait.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) records: Vec<Record>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) chances: Chances,
    /// Whether an enclave may take no more work, or other work, than before.
    pub(crate) closes: bool,
    /// What rules of placement said of swarms.
    pub(crate) rulings: Rulings,
}

impl Change {
    /// Changes the pool by `event` and notes it. A refusal by the pool's own books is a defect of this program and is
    /// reported as one, not papered over.
    pub(crate) fn record(&mut self, pool: &mut Pool, env: &Env<'_>, event: Event) -> Result<(), Rejection> {
        let seq = legation_core::Seq(pool.seq.0.saturating_add(1));
        let record = Record { version: RECORD_VERSION, seq, term: pool.term, at: env.now, event };
        self.commit(pool, record)
    }

    fn commit(&mut self, pool: &mut Pool, record: Record) -> Result<(), Rejection> {
        self.chances.note(pool, &record.event);
        self.closes |= may_close(&record.event);
        let ready = pool.absorb(&record).map_err(|e| defect("the pool's own record").got(e))?;
        if let Some(task) = record.event.task() {
            self.effects.push(Effect::TaskChanged { task });
        }
        for lease in ready {
            if let Some(enclave) = pool.leases.get(&lease).map(|l| l.enclave) {
                self.effects.push(Effect::Offer { enclave, lease });
            }
        }
        self.records.push(record);
        Ok(())
    }
}

impl Pool {
    /// Judges `command` as of `now`; `signer` is the manager's key, for the allocations it gives.
    ///
    /// # Errors
    /// Why the command is refused. The pool is then as it was before.
    pub fn apply(&mut self, command: Command, now: UnixTime, signer: &dyn Signer) -> Result<Applied, Rejection> {
        let env = &Env { now, signer };
        if !matches!(command, Command::BeginTerm { .. }) {
            self.check_leads(env)?;
        }
        let out = &mut Change::default();
        let tick = matches!(command, Command::Tick);
        let search = tick && self.begins_search(now);
        let done = self
            .obey(command, env, out)
            .and_then(|()| self.tend_booking(search, env, out))
            .and_then(|()| self.place_queued(env, out))
            .and_then(|()| if tick { self.book_ahead(search, env, out) } else { Ok(()) });
        // A refusal changes nothing: once something is recorded, what fails is this program.
        done.map_err(|why| match out.records.is_empty() {
            true => why,
            false => defect("a command that failed half-way").got(why),
        })?;
        let Change { records, effects, .. } = std::mem::take(out);
        Ok(Applied { records, effects })
    }

    fn obey(&mut self, command: Command, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        match command {
            Command::BeginTerm { term, appointment } => self.begin_term(term, *appointment, env, out),
            Command::Attested { passport, appointment, evidence, collateral } => {
                self.attested(*passport, *appointment, *evidence, collateral, env, out)
            }
            Command::Arrived { enclave, running } => self.arrived(enclave, &running, env, out),
            Command::Lost { enclave, why } => self.lost(enclave, &why, env, out),
            Command::Drain { enclave } => self.drain(enclave, env, out),
            Command::Cordon { enclave, why, author } => self.keep_back(enclave, &why, &author, env, out),
            Command::Uncordon { enclave, author } => self.lift(enclave, &author, env, out),
            Command::Decommission { enclave, why, author } => self.decommission(enclave, &why, &author, env, out),
            Command::Revoke { what, why } => self.revoke(what, &why, env, out),
            Command::Withdraw { enclave, verifier, why } => self.withdraw(enclave, verifier, &why, env, out),
            Command::Submit { request, grants, idempotency } => self.submit(*request, grants, idempotency, env, out),
            Command::Grant { grant, keys } => self.grant(*grant, keys, env, out),
            Command::Refuse { enclave, lease, why } => self.refused(enclave, lease, &why, env, out),
            Command::Report { enclave, report, aggregate, keys, attached } => {
                let (report, aggregate) = (*report, aggregate.map(|a| *a));
                self.reported(enclave, (report, aggregate), keys, *attached, env, out)
            }
            Command::Prove { enclave, task, statement } => self.prove(enclave, task, *statement, env, out),
            Command::Unprove { enclave, task, report, why } => self.unprove(enclave, (task, report), &why, env, out),
            Command::Borrow { enclave, ask, of, terms } => self.borrow_one(enclave, (of, ask), &terms, env, out),
            Command::GiveBack { enclave, loan, why } => self.give_back(enclave, loan, why.as_ref(), env, out),
            Command::Join { enclave, membership } => self.joined(enclave, *membership, env, out),
            Command::Cancel { task } => self.cancel(task, env, out),
            Command::Reserve { terms, author } => self.reserve(*terms, &author, env, out),
            Command::CancelReservation { reservation, author } => {
                self.cancel_reservation(reservation, &author, env, out)
            }
            Command::AddReference { value, author, replace } => self.add_reference(*value, &author, replace, env, out),
            Command::ExpireReference { name, end, author, force } => {
                self.expire_reference(&name, end, &author, force, env, out)
            }
            Command::SetPolicy { scope, text, author } => self.set_policy(scope, text, &author, env, out),
            Command::SetDistances { rows, author } => self.set_distances(rows, &author, env, out),
            Command::MeasureDistances { rows } => self.measure_distances(rows, env, out),
            Command::SetAccount { tenant, terms, as_of, author } => {
                self.set_account(tenant, terms, as_of, &author, env, out)
            }
            Command::TopUp { tenant, amount, author } => self.top_up(tenant, amount, &author, env, out),
            Command::SetCharter { charter, author } => self.set_charter(*charter, &author, env, out),
            Command::RotateKey { swarm, author } => self.rotate_key(&swarm, &author, env, out),
            Command::SayCustody { enclave, word } => self.say_custody(enclave, *word, env, out),
            Command::Tick => self.tick(env, out),
        }
    }

    fn begin_term(
        &mut self,
        term: Term,
        appointment: Signed<Appointment>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let refuse = |claim: &str| Rejection::new("pool.term", claim.to_owned());
        if term <= self.term {
            return Err(refuse("term of the manager").expected(format!("more than {}", self.term.0)).got(term.0));
        }
        let fits = appointment.key == env.signer.public_key() && appointment.office == Office::Manager;
        if !fits || !holds(&appointment, env.now) {
            return Err(refuse("appointment of the manager")
                .expected(format!("of key {} as manager, valid at {}", env.signer.public_key().id(), env.now))
                .got(format!(
                    "of key {} as {:?}, {} to {}",
                    appointment.key.id(),
                    appointment.office,
                    appointment.not_before,
                    appointment.not_after
                ))
                .fix("have the operator's root appoint this key anew"));
        }
        let seq = legation_core::Seq(self.seq.0.saturating_add(1));
        let event = Event::TermBegan { appointment: Box::new(appointment) };
        out.commit(self, Record { version: RECORD_VERSION, seq, term, at: env.now, event })
    }

    /// Only the manager whose term it is may command.
    fn check_leads(&self, env: &Env<'_>) -> Result<(), Rejection> {
        let key = env.signer.public_key();
        match &self.manager {
            Some(manager) if manager.key == key => Ok(()),
            manager => Err(Rejection::new("pool.term", "who leads")
                .expected(format!("manager {}, in a term that it began", key.id().short()))
                .got(manager.as_ref().map_or("nobody".to_owned(), |m| m.key.id().short()))),
        }
    }

    /// Ends what is over: tasks, proofs, leases, and grants that never came. Everything that waits is looked at again.
    fn tick(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        out.chances = Chances::All;
        self.expire_tasks(env, out)?;
        self.lapse(env, out)?;
        self.expire_swarms(env, out)?;
        self.expire_loans(env, out)?;
        self.expire_leases(env, out)?;
        self.tend_reservations(env, out)?;
        self.tend_custody(env.now.0.is_multiple_of(CHOOSE_EVERY), env, out)
    }
}

/// Whether an appointment holds at `now`.
pub(crate) fn holds(appointment: &Appointment, now: UnixTime) -> bool {
    appointment.not_before.minus(SKEW) <= now && now <= appointment.not_after
}
