//! Reports: what an enclave says it did.
//!
//! A report is taken when it holds together, so that a receipt made of it will verify. Checks:
//! 1. it is about the lease that this enclave holds and was offered: task, fragment, module, enclave, allocation;
//! 2. it names a passport of the enclave that held at its end, of a verifier that is trusted with the tenant's work, and that
//!    satisfies the requirements, and grants, ascending by digest,
//!    that suffice; then the reports behind its inputs, in order; then answers to its calls (`report/answers.rs`);
//! 3. it read what the request names, within the demand, the limits of its placement, the grants and the dates of lease and
//!    request;
//! 4. its aggregate is there exactly when it reduced, and says the same;
//! 5. what it left has keys wrapped to the fragment's owner, and an output exists where another fragment reads it.
//!
//! A report that does not hold together costs the enclave the lease.

use legation_core::{
    Digest, EnclaveId, FragmentId, MicroUsd, Rejection, Revoked, Seq, Signed, UnixTime,
    claims::Rate,
    grant,
    requirement::Candidate,
    statement::{Aggregate, Grant, Outcome, Report},
    task::{Fragment, Input, WrappedKey},
};

use crate::{
    apply::Change,
    attached::Attached,
    brief::Brief,
    enclave::Enclave,
    event::{Effect, Event, LeaseEnd},
    grant::check_wrapped,
    lease::Lease,
    meter::{self, Metered},
    pool::{Env, Pool},
    task::{Done, Phase, SKEW, Task, TaskState, unknown},
    text::{cut, cut_rejection},
};

mod answers;

/// An execution may last this much longer than it should, in microseconds: its end is noticed at the engine's next tick.
const GRACE_MICROS: u64 = 1_000_000;

/// A report in its surroundings.
struct Case<'a> {
    report: &'a Signed<Report>,
    lease: &'a Lease,
    task: &'a Task,
    spec: &'a Fragment,
    /// Reports behind the inputs, in order.
    upstream: Vec<Digest>,
    revoked: &'a Revoked,
    now: UnixTime,
}

fn bad(claim: &str) -> Rejection {
    Rejection::new("report.content", claim)
}

impl Pool {
    /// What an enclave says it did. A report that does not hold together costs the enclave the lease; where another misled it, that
    /// one is not lent again for the task.
    pub(crate) fn reported(
        &mut self,
        enclave: EnclaveId,
        (report, aggregate): (Signed<Report>, Option<Signed<Aggregate>>),
        keys: Vec<WrappedKey>,
        attached: Attached,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        self.held_by(report.lease, enclave)?;
        if let Err(why) = self.check_report(enclave, &report, aggregate.as_ref(), &keys, &attached, env.now) {
            let by = self.misled_by(&report, &attached, &why);
            let why = cut_rejection(&why);
            let end = by
                .map_or_else(|| LeaseEnd::Refused { why: why.clone() }, |by| LeaseEnd::Misled { by, why: why.clone() });
            return self.end_lease(report.lease, end, env, out);
        }
        let (task, outcome, fragment) = (report.task, report.outcome.clone(), report.fragment);
        let conspicuous = self.conspicuous(&report, &attached.envelopes);
        // The first good report counts: while another lease of the fragment goes on, one that failed ends nothing but itself.
        if let Outcome::Failed { reason } = &outcome
            && self.is_repeated(FragmentId { task, index: fragment })
        {
            let why = LeaseEnd::FailedCopy { reason: cut(reason) };
            out.effects.push(Effect::TaskChanged { task });
            self.end_loans_of(report.lease, env, out)?;
            return out.record(self, env, Event::LeaseEnded { lease: report.lease, why, charged: None });
        }
        self.supersede(FragmentId { task, index: fragment }, report.lease, env, out)?;
        // Whom it borrowed it needs no more.
        self.end_loans_of(report.lease, env, out)?;
        let (metered, charged) = self.bill(&report, env.now);
        let (report, aggregate, metered) = (Box::new(report), aggregate.map(Box::new), Some(metered));
        let attached = attached.envelopes;
        out.record(self, env, Event::Reported { report, aggregate, keys, charged, metered, attached })?;
        if let Outcome::Failed { reason } = outcome {
            let name = self.tasks.get(&task).and_then(|t| t.request.fragment(fragment)).map(|f| cut(&f.name));
            let reason = format!("fragment {fragment} `{}` failed: {}", name.unwrap_or_default(), cut(&reason));
            self.end_task(task, TaskState::Failed { reason }, env, out)?;
        } else if self.tasks.get(&task).is_some_and(|t| t.fragments.iter().all(|f| f.done.is_some())) {
            self.end_task(task, TaskState::Completed, env, out)?;
        }
        conspicuous.into_iter().try_for_each(|enclave| self.heed(enclave, env, out))
    }

    fn check_report(
        &self,
        enclave: EnclaveId,
        report: &Signed<Report>,
        aggregate: Option<&Signed<Aggregate>>,
        keys: &[WrappedKey],
        attached: &Attached,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let lease = self.held_by(report.lease, enclave)?;
        let id = FragmentId { task: report.task, index: report.fragment };
        let task = self.tasks.get(&id.task).ok_or_else(|| unknown(id.task))?;
        let spec = task.request.fragment(id.index).ok_or_else(|| bad("the fragment"))?;
        if lease.fragment != id || report.enclave.enclave_id() != enclave || report.module != spec.module {
            return Err(bad("task, fragment, module and enclave").expected("those of the lease"));
        }
        if report.answer.is_some() {
            return Err(bad("answer").expected("none: a fragment's report answers no call"));
        }
        if !lease.offered {
            return Err(bad("the lease").expected("one that was offered").got("one that waits for grants"));
        }
        let upstream = spec.upstream().filter_map(|up| task.done(up)).map(|done| done.report.digest()).collect();
        let case = Case { report, lease, task, spec, upstream, revoked: &self.revoked, now };
        let answers = case.rests_well(self.known(enclave)?)?;
        case.stays_within()?;
        case.aggregates(aggregate)?;
        case.leaves(keys)?;
        // Last what others signed: nobody hides a fault of its own behind theirs.
        self.check_answers(task, report, &answers, attached)
    }

    pub(crate) fn absorb_reported(
        &mut self,
        report: &Signed<Report>,
        aggregate: Option<&Signed<Aggregate>>,
        keys: &[WrappedKey],
        bill: (Option<Metered>, MicroUsd),
        (seq, now): (Seq, UnixTime),
    ) -> Option<()> {
        let proof = self.proof_of(report)?.clone();
        let chip = self.enclaves.get(&report.enclave.enclave_id())?.chip().clone();
        let charged = bill.1;
        // Records of version 2 do not say: it follows from the report.
        let metered = bill.0.unwrap_or_else(|| self.bill(report, now).0);
        let lease = self.free(report.lease)?;
        self.note_worked(lease.fragment, charged);
        let tenant = self.tasks.get(&report.task)?.request.tenant.clone();
        self.accounts.charge(&tenant, charged, &metered);
        self.note_run(&tenant, report, &metered, seq);
        let task = self.tasks.get_mut(&report.task)?;
        task.spent = task.spent.saturating_add(charged);
        let state = task.fragments.get_mut(usize::try_from(report.fragment.0).ok()?)?;
        state.phase = Phase::Done;
        state.done = Some(Done {
            report: report.clone(),
            aggregate: aggregate.cloned(),
            keys: keys.to_vec(),
            proof,
            chip,
            charged,
            metered,
            answers: None,
        });
        let mut ready = Vec::new();
        if report.outcome == Outcome::Completed {
            // Seats that brought it on were not given in vain.
            if let Some(swarm) = task.swarm.as_mut() {
                swarm.seatings = 1;
            }
            let request = task.request.clone();
            for (index, fragment) in request.indexed() {
                let slot = usize::try_from(index.0).ok()?;
                if task.fragments.get(slot)?.phase == Phase::Waiting && task.ready(fragment) {
                    let state = task.fragments.get_mut(slot)?;
                    state.phase = Phase::Queued;
                    state.queued_at = seq;
                    self.accounts.queue(&tenant, 1);
                    ready.push(FragmentId { task: report.task, index });
                }
            }
        }
        ready.into_iter().try_for_each(|fragment| self.enqueue(fragment))?;
        Some(())
    }

    /// The proof that a report of a live lease names.
    pub(crate) fn proof_of(&self, report: &Report) -> Option<&Brief> {
        let lease = self.leases.get(&report.lease)?;
        self.enclaves.get(&lease.enclave)?.proof_by(*report.prev.get(1)?)
    }
}

impl Case<'_> {
    /// Allocation, passport, grants and reports behind it; gives what comes after them.
    fn rests_well(&self, enclave: &Enclave) -> Result<Vec<Digest>, Rejection> {
        let Case { report, lease, task, spec, .. } = self;
        if report.prev.first() != Some(&lease.allocation) {
            return Err(bad("allocation the report rests on").expected(lease.allocation));
        }
        let Some(proof) = report.prev.get(1).and_then(|p| enclave.proof_by(*p)) else {
            return Err(bad("passport the report rests on").expected("one this pool knows"));
        };
        let passport = proof.typical();
        if report.finished > proof.expires || report.finished < proof.issued.minus(SKEW) {
            return Err(bad("dates of the passport the report rests on")
                .expected(format!("to cover {}", report.finished))
                .got(format!("{} to {}", proof.issued, proof.expires)));
        }
        if !proof.appointment().covers_tenant(&task.request.tenant) {
            return Err(bad("verifier of the passport the report rests on")
                .expected(format!("one that is trusted with the work of {}", task.request.tenant))
                .got(proof.verifier().short()));
        }
        let configuration = &passport.configuration;
        let price_hour = configuration.rate.per_hour(spec.demand.cpu, spec.demand.memory);
        let candidate = Candidate { passport, price_hour };
        task.request.require.check(&candidate)?;
        spec.require.check(&candidate)?;
        task.request.data.check(passport)?;
        let mut rest = report.prev.iter().skip(2).peekable();
        let mut grants = Vec::new();
        while let Some(grant) = rest.peek().and_then(|d| task.grants.iter().find(|g| g.digest() == **d)) {
            grants.push(grant.clone());
            rest.next();
        }
        let cover = grants.iter().all(|g| g.covers(report.fragment, lease.enclave));
        let rest: Vec<Digest> = rest.copied().collect();
        let answers = rest.strip_prefix(self.upstream.as_slice());
        let Some(answers) = answers.filter(|_| cover && grants.is_sorted_by(|a, b| a.digest() < b.digest())) else {
            return Err(bad("grants and reports the report rests on").expected("those that were offered, in order"));
        };
        let objects = task.objects(spec).ok_or_else(|| bad("inputs"))?;
        let used = grant::Use {
            fragment: report.fragment,
            enclave: lease.enclave,
            objects: &objects,
            at: report.started,
            revoked: self.revoked,
        };
        grant::check_use(&task.request, &grants, &used)?;
        self.within_grants(&grants, configuration.rate)?;
        Ok(answers.to_vec())
    }

    /// Fuel and cost that every grant allows.
    fn within_grants(&self, grants: &[Signed<Grant>], rate: Rate) -> Result<(), Rejection> {
        let Case { report, spec, .. } = self;
        let micros = report.usage.micros.saturating_sub(GRACE_MICROS);
        let cost = rate.charge(spec.demand.cpu, spec.demand.memory, micros);
        let completed = report.outcome == Outcome::Completed;
        let mut held = grants.iter().filter(|g| report.started <= g.expires);
        match held.find(|g| report.usage.fuel > g.fuel || (completed && cost > g.budget)) {
            None => Ok(()),
            Some(grant) => Err(bad("fuel and cost")
                .expected(format!("at most {} and {}, as granted", grant.fuel, grant.budget))
                .got(format!("{} and {cost}", report.usage.fuel))),
        }
    }

    /// Inputs, fuel, memory and time.
    fn stays_within(&self) -> Result<(), Rejection> {
        let Case { report, lease, task, spec, now, .. } = self;
        let commitment = |input: &Input| match input {
            Input::Sealed(sealed) => Some(sealed.commitment),
            Input::Output { fragment } => task.done(*fragment)?.report.output.as_ref().map(|o| o.commitment),
        };
        if !spec.inputs.iter().map(commitment).eq(report.inputs.iter().map(|d| Some(*d))) {
            return Err(bad("what the enclave read").expected("the inputs of the request, in order"));
        }
        if let Some(limits) = &lease.limits {
            limits.check_report(report)?;
        }
        let usage = &report.usage;
        let micros_max = spec.demand.time.0.saturating_mul(1000).saturating_add(GRACE_MICROS);
        let over = usage.fuel > spec.demand.fuel
            || usage.memory_peak > spec.demand.memory
            || (report.outcome == Outcome::Completed && usage.micros > micros_max);
        let last = lease.until.min(task.request.expires).min(*now).plus(SKEW);
        let read = spec.upstream().filter_map(|up| task.done(up)).map(|done| done.report.finished).max();
        let untimely = report.started < lease.from.minus(SKEW)
            || report.started > report.finished
            || report.finished > last
            || read.is_some_and(|read| read > report.started.plus(SKEW));
        if over || untimely {
            return Err(bad("fuel, memory and time")
                .expected(format!("within the demand, {} to {last}", lease.from))
                .got(format!("{}, {}, {} to {}", usage.fuel, usage.memory_peak, report.started, report.finished)));
        }
        Ok(())
    }

    fn aggregates(&self, aggregate: Option<&Signed<Aggregate>>) -> Result<(), Rejection> {
        let Case { report, spec, upstream, .. } = self;
        if aggregate.is_some() != (spec.is_reducing() && report.outcome == Outcome::Completed) {
            return Err(bad("aggregate").expected("one exactly when outputs of others were read"));
        }
        let Some(aggregate) = aggregate else { return Ok(()) };
        let same = aggregate.enclave == report.enclave
            && aggregate.task == report.task
            && aggregate.fragment == report.fragment
            && aggregate.result == report.output
            && aggregate.reports == *upstream
            && aggregate.prev.split_first() == Some((&report.digest(), upstream.as_slice()));
        if same {
            Ok(())
        } else {
            Err(bad("aggregate").expected("what its report says, over exactly its inputs' reports"))
        }
    }

    /// Output, log and their keys.
    fn leaves(&self, keys: &[WrappedKey]) -> Result<(), Rejection> {
        let Case { report, task, spec, .. } = self;
        let completed = report.outcome == Outcome::Completed;
        let read_by_others = || task.request.fragments.iter().any(|f| f.upstream().any(|up| up == report.fragment));
        if completed && report.output.is_none() && read_by_others() {
            return Err(bad("output").expected("some, since another fragment reads it"));
        }
        let sizes = [(&report.output, spec.demand.output), (&report.log, meter::LOG_MAX)];
        for (left, most) in sizes.into_iter().filter_map(|(left, most)| Some((left.as_ref()?, meter::sealed_max(most))))
        {
            if left.size > most {
                return Err(bad("size of output and log").expected(format!("at most {most}")).got(left.size));
            }
        }
        check_wrapped(keys)?;
        let wanted: Vec<_> = [&report.output, &report.log].into_iter().flatten().map(|o| o.object).collect();
        let owner = || task.request.owner_sealing(spec).digest();
        let whole = keys.iter().map(|k| k.object).eq(wanted)
            && (keys.is_empty() || {
                let owner = owner();
                keys.iter().all(|k| k.recipient == owner)
            });
        if whole {
            Ok(())
        } else {
            Err(bad("keys of output and log").expected("one for each, wrapped to the fragment's owner"))
        }
    }
}
