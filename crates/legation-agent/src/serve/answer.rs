//! One call, from its input to the signed answer: on a thread that may block, like any execution.
//!
//! A call that fails by its own doing (it trapped, ended with a code, ran into its limits, is no module) is answered, because it would
//! fail anywhere. One that fails by this enclave's (no memory, no time left, an input that is not as committed) is refused with the
//! reason, and may be asked elsewhere.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use legation_core::{
    Bytes, Digest, Envelope, Rejection, Signed,
    delegation::{Basis, Call, Lineage, Sum, session::BUSY, vote::UNANSWERED},
    dsse,
    statement::{Answer, Outcome, Report, Usage},
};
use legation_net::{delegation::QuestionKey, message::Lending};
use zeroize::Zeroizing;

use crate::{
    agent::Inner,
    delegations::{Handing, Used, Withheld},
    engine::{Cancel, Delegations, PrepareError, Prepared, RunFailure, RunInput, RunOutcome},
    execution::{Stopped, blame},
    monitor::{Sample, calls::Trace},
    offer::Under,
    passports::Admitted,
};

/// Standard error kept of a call: nobody is sent it.
const LOG_MAX: Bytes = Bytes::ZERO;

/// What a call needs to run.
pub(super) struct Job {
    pub(super) agent: Arc<Inner>,
    pub(super) lending: Arc<Lending>,
    pub(super) lineage: Lineage,
    pub(super) call: Signed<Call>,
    pub(super) key: QuestionKey,
    pub(super) module: Result<Arc<Prepared>, PrepareError>,
    pub(super) input: Arc<Zeroizing<Vec<u8>>>,
    pub(super) stop: Cancel,
    /// What calls of this loan handed on so far.
    pub(super) handed: Arc<Mutex<Sum>>,
}

/// Why there is no answer.
pub(super) struct Failed {
    pub(super) why: Rejection,
    /// Whether the module began to run.
    pub(super) ran: bool,
}

impl Failed {
    pub(super) fn before(why: Rejection) -> Self {
        Self { why, ran: false }
    }

    pub(super) fn after(why: Rejection) -> Self {
        Self { why, ran: true }
    }
}

/// What came of it.
pub(super) struct Ran {
    pub(super) report: Signed<Report>,
    /// The passport that the report rests on.
    pub(super) admitted: Admitted,
    /// What the report rests on of calls that this one made in turn.
    pub(super) behind: Vec<Envelope>,
    pub(super) output: Option<Zeroizing<Vec<u8>>>,
}

/// How the module ended.
struct Ended {
    outcome: Outcome,
    output: Zeroizing<Vec<u8>>,
    usage: Usage,
    trace: Digest,
    monitor: Option<legation_core::monitor::Monitored>,
    used: Used,
}

/// Passports of this enclave that count for the tenant of a loan and hold, the freshest first: the manager names them in that order,
/// too.
pub(super) fn passports(agent: &Inner, lending: &Lending) -> Vec<Admitted> {
    let now = agent.now();
    let mut good = agent.passports().for_tenant(&lending.request.tenant);
    good.retain(|admitted| now <= admitted.passport.expires);
    good
}

/// Runs a call to its end.
///
/// # Errors
/// This enclave cannot, or nobody waits: another may.
pub(super) fn run(job: Job) -> Result<Ran, Failed> {
    let Job { agent, lending, lineage, call, key, module, input, stop, handed } = &job;
    let started = agent.now();
    let refuse = |check: &str, claim: &str| Rejection::new(&format!("delegate.{check}"), claim.to_owned());
    if key.input(input) != call.input {
        let why = refuse("input", "input of the call").expected("what it commits to").got("something else");
        return Err(Failed::before(why));
    }
    let left = call.expires.min(lending.allocation.until).since(started);
    if left == 0 {
        let why = refuse("expired", "end of the call").expected(format!("after {started}")).got(call.expires);
        return Err(Failed::before(why));
    }
    let under = Under {
        request: lending.request.clone(),
        own: lending.allocation.clone(),
        grants: vec![lineage.leaf().clone()],
        above: lineage.above().cloned().collect(),
        demand: lending
            .allocation
            .loan
            .map(|terms| terms.demand)
            .ok_or_else(|| Failed::before(refuse("loan", "the loan").expected("one with a demand").got("none")))?,
        spent: *handed.lock().unwrap_or_else(PoisonError::into_inner),
    };
    let handing = lineage.leaf().delegable.as_ref().map(|_| Arc::new(Handing::new(agent.clone(), under)));
    let ended = match module {
        Ok(module) => execute(&job, module, handing, Duration::from_secs(left), stop)?,
        Err(error) => malformed(error).map_err(Failed::before)?,
    };
    let finished = agent.now().max(started);
    let basis = Basis { request: &lending.request, loan: &lending.allocation, lineage };
    let admitted = passports(agent, lending).into_iter().find(|admitted| basis.admits(&admitted.passport).is_ok());
    let admitted = admitted.ok_or_else(|| {
        Failed::after(
            refuse("passport", "passport of this enclave")
                .expected(format!("one that holds at {finished} and satisfies the task"))
                .got("none"),
        )
    })?;
    let completed = ended.outcome == Outcome::Completed;
    let report = Report {
        enclave: agent.boot.identity,
        task: call.task,
        fragment: call.fragment,
        lease: call.loan,
        module: call.module,
        inputs: vec![call.input.commitment],
        seed: call.question,
        outcome: ended.outcome,
        output: None,
        log: None,
        usage: ended.usage,
        started,
        finished,
        answer: Some(Answer {
            call: call.digest(),
            output: completed.then(|| key.output(&ended.output)),
            trace: ended.trace,
        }),
        dissent: ended.used.dissent,
        monitor: ended.monitor,
        prev: [lending.allocation.digest(), admitted.digest(), lineage.leaf().digest(), call.digest()]
            .into_iter()
            .chain(ended.used.answers)
            .collect(),
    };
    let report = dsse::sign(report, &*agent.bench.identity);
    let behind = ended.used.attached.into_iter().chain(ended.used.loans).collect();
    Ok(Ran { report, admitted, behind, output: completed.then_some(ended.output) })
}

fn execute(
    job: &Job,
    module: &Prepared,
    handing: Option<Arc<Handing>>,
    left: Duration,
    stop: &Cancel,
) -> Result<Ended, Failed> {
    let (call, bench) = (&job.call, &job.agent.bench);
    let seed = *call.question.as_bytes();
    let allowed = Duration::from_millis(call.demand.time.0);
    let delegations: Option<Arc<dyn Delegations>> = match handing.clone() {
        Some(handing) => Some(handing),
        None if withheld(&job.lineage) => Some(Arc::new(Withheld)),
        None => None,
    };
    let input = RunInput {
        args: &call.args,
        inputs: vec![job.input.as_slice()],
        fuel: call.demand.fuel,
        memory: call.demand.memory,
        deadline: allowed.min(left),
        output_max: call.demand.output,
        log_max: LOG_MAX,
        seed,
        now_fixed: job.lending.request.created,
        delegations,
    };
    let watch = bench.monitor.begin(call.module, &job.lending.request.tenant);
    let RunOutcome { result, stdout, stderr, usage, calls, starved } = bench.engine.run(module, input, stop);
    drop(Zeroizing::new(stderr));
    let mut output = Zeroizing::new(stdout);
    let used = match handing {
        Some(handing) => {
            let used = handing.finish();
            let handed = used.as_ref().map_or_else(|_| handing.all(), |used| used.handed);
            *job.handed.lock().unwrap_or_else(PoisonError::into_inner) = handed;
            used.map_err(Failed::after)?
        }
        None => Used::default(),
    };
    let outcome = match result {
        // Others who are asked the same would perhaps have been told otherwise: what it made of it is nobody's dissent.
        Ok(())
        | Err(
            RunFailure::Exit(_)
            | RunFailure::Trap(_)
            | RunFailure::Undeclared { .. }
            | RunFailure::OutOfFuel
            | RunFailure::OutputTooLarge { .. },
        ) if starved => {
            output = Zeroizing::new(Vec::new());
            Outcome::Failed { reason: UNANSWERED.to_owned() }
        }
        Ok(()) => Outcome::Completed,
        Err(RunFailure::Deadline) if left < allowed => {
            return Err(Failed::after(
                Rejection::new("delegate.expired", "end of the call")
                    .expected("time left for as long as it may take")
                    .got("none"),
            ));
        }
        // It did not begin: nothing of it is spent.
        Err(failure @ RunFailure::Busy { .. }) if usage.fuel == legation_core::Fuel::ZERO => {
            return Err(Failed::before(
                Rejection::new(BUSY, "execution of the call")
                    .expected("room to run it")
                    .got(failure)
                    .fix("ask again later, or another enclave"),
            ));
        }
        Err(failure) => {
            output = Zeroizing::new(Vec::new());
            Outcome::Failed { reason: blame(&failure, false).map_err(|stopped| Failed::after(why(stopped)))? }
        }
    };
    let sample = (outcome == Outcome::Completed).then(|| Sample {
        fuel: usage.fuel,
        input: Bytes(job.input.len() as u64),
        host_calls: usage.host_calls,
        memory: usage.memory_peak,
        output: Bytes(output.len() as u64),
    });
    Ok(Ended {
        outcome,
        output,
        trace: calls.trace,
        monitor: Some(watch.end(sample.as_ref(), &seed).with(calls)),
        usage: Usage {
            fuel: usage.fuel,
            memory_peak: usage.memory_peak,
            host_calls: usage.host_calls,
            micros: u64::try_from(usage.wall.as_micros()).unwrap_or(u64::MAX),
        },
        used,
    })
}

/// Whether the grants above would have let this call pass something on, had its borrower set anything aside for it.
fn withheld(lineage: &Lineage) -> bool {
    let leaf = lineage.leaf();
    let mut parents = leaf.prev.iter().filter_map(|digest| lineage.grant(digest));
    leaf.delegable.is_none() && parents.all(|parent| parent.depth > 1)
}

/// A module that this engine refuses: the call's own fault, unless only this enclave's limits are too tight.
fn malformed(error: &PrepareError) -> Result<Ended, Rejection> {
    let reason = match error {
        PrepareError::TooLarge { .. } | PrepareError::Machine { .. } => return Err(Rejection::from(error)),
        PrepareError::DoesNotFit { .. } => "module-does-not-fit",
        _ => "malformed-module",
    };
    Ok(Ended {
        outcome: Outcome::Failed { reason: reason.to_owned() },
        output: Zeroizing::new(Vec::new()),
        usage: Usage { fuel: legation_core::Fuel::ZERO, memory_peak: Bytes::ZERO, host_calls: 0, micros: 0 },
        trace: Trace::default().finish().trace,
        monitor: None,
        used: Used::default(),
    })
}

fn why(stopped: Stopped) -> Rejection {
    match stopped {
        Stopped::Refused(why) => why,
        Stopped::Cancelled => {
            Rejection::new("delegate.cancelled", "the call").expected("somebody who waits for it").got("nobody")
        }
    }
}
