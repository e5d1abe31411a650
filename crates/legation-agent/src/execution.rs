//! One execution from opened inputs to a signed report. Blocking: it belongs on a thread that may block.
//!
//! In this order: the keys of the inputs are unwrapped and the inputs opened against their commitments; the module runs within
//! the least of demand, grants, lease and the limits of its placement; output and log are sealed under fresh keys, wrapped to the fragment's owner; the report
//! is signed.
//!
//! Whose fault a failure is decides who hears of it. The *task's* own (it trapped, ended with a code, ran into its limits, is no
//! module) would fail anywhere: a report says so, and the log goes to the owner, sealed as ever. *This enclave's* (keys that do
//! not open, no memory, no time left in the lease) may not happen elsewhere: the offer is refused with the reason.
//!
//! Plaintext lives in memory that is wiped when dropped, and never reaches a log, an error or a report.

use std::{sync::Arc, time::Duration};

use legation_core::{
    Digest, ObjectId, Rejection, SealingPublicKey, Signed, Signer, UnixTime, dsse,
    monitor::Monitored,
    statement::{Aggregate, Outcome, Passport, Report, Usage},
    task::{Direction, OutputRef, WrapUse, WrappedKey},
    unit::Bytes,
};
use legation_keys::{Entropy, IdentityKey, ObjectKey, OpenError, SEGMENT, Sealed, SealingKey, TAG};
use legation_net::{Clock, OsEntropy, message::Reported};
use zeroize::Zeroizing;

use crate::{
    books::Pending,
    delegations::{Handing, Used},
    engine::{Cancel, Delegations, Engine, PrepareError, Prepared, RunFailure, RunInput, RunOutcome},
    monitor::{Monitor, Sample},
    offer::{SKEW, Source, Work},
};

/// Standard error kept of a run, in bytes; what the agent adds to it comes on top.
const LOG_MAX: Bytes = Bytes::kib(256);
/// Left of the lease for sealing and reporting, in seconds.
const FINISH_SECONDS: u64 = 1;

/// What an execution needs of its agent.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) identity: Arc<IdentityKey>,
    pub(crate) sealing: SealingKey,
    pub(crate) clock: Clock,
    pub(crate) monitor: Monitor,
}

/// Why there is no report.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nobody wants it any more.
    Cancelled,
    /// This enclave cannot: another may.
    Refused(Rejection),
}

/// How the module ended, before anything is sealed.
struct Ended {
    outcome: Outcome,
    output: Zeroizing<Vec<u8>>,
    log: Zeroizing<Vec<u8>>,
    usage: Usage,
    /// Nothing where no module ran.
    monitored: Option<Monitored>,
    /// What others ran for it.
    used: Used,
}

/// Runs `work` on ciphertexts whose digests were checked, in the order of its inputs.
///
/// `handing` has parts of it run by others, where that is allowed. `passport` is asked for at the end, because it may be renewed
/// meanwhile.
pub(crate) fn execute(
    bench: &Bench,
    work: &Work,
    (module, ciphertexts): (Result<Arc<Prepared>, PrepareError>, Vec<Vec<u8>>),
    handing: Option<Arc<Handing>>,
    cancel: &Cancel,
    passport: impl FnOnce() -> Option<Arc<Signed<Passport>>>,
) -> Result<Pending, Stopped> {
    let started = (bench.clock)();
    if started > work.start_by {
        return Err(Stopped::Refused(
            Rejection::new("agent.late", "begin of the execution")
                .expected(format!("by {}, before grants, request or lease end", work.start_by))
                .got(started)
                .fix("grant and lease for longer"),
        ));
    }
    let mut seed = [0; 32];
    OsEntropy.fill(&mut seed);
    let ended = match module {
        Ok(module) => {
            let inputs = open_inputs(bench, work, ciphertexts)?;
            run(bench, work, (&module, &inputs), handing, (seed, started), cancel)?
        }
        Err(error) => malformed(&error)?,
    };
    let ended = within_egress(ended, work.limits.egress);
    let finished = (bench.clock)().max(started);
    if finished > work.until {
        return Err(late(work));
    }
    let passport =
        passport().filter(|p| p.issued <= finished.plus(SKEW) && finished <= p.expires).ok_or_else(|| {
            Stopped::Refused(
                Rejection::new("agent.passport", "passport of this enclave")
                    .expected(format!("to hold at {finished}"))
                    .got("none that does")
                    .fix("nothing: it attests again"),
            )
        })?;
    Ok(report(bench, work, ended, seed, (started, finished), passport.digest()))
}

/// Opens every input, or says which does not open.
fn open_inputs(bench: &Bench, work: &Work, ciphertexts: Vec<Vec<u8>>) -> Result<Vec<Zeroizing<Vec<u8>>>, Stopped> {
    let used_for = wrap_use(work, Direction::Input);
    let open = |(place, (source, ciphertext)): (usize, (&Source, Vec<u8>))| {
        let refuse = |check: &str, got: String| {
            Stopped::Refused(
                Rejection::new(check, format!("input {place}, object {}", source.object))
                    .expected("a key for this task, fragment and module, and the plaintext committed to")
                    .got(got)
                    .fix("seal the input and wrap its key anew"),
            )
        };
        let key = bench.sealing.unwrap(&source.key, &used_for).map_err(|e| refuse("input.key", e.to_string()))?;
        let opened = legation_keys::open(&key, source.object, &ciphertext, Some(&source.commitment));
        opened.map_err(|e| {
            let check = if matches!(e, OpenError::Commitment { .. }) { "input.commitment" } else { "input.open" };
            refuse(check, e.to_string())
        })
    };
    work.plan.inputs.iter().zip(ciphertexts).enumerate().map(open).collect()
}

fn wrap_use(work: &Work, direction: Direction) -> WrapUse {
    WrapUse { task: work.task, fragment: work.plan.index, module: work.plan.fragment.module, direction }
}

fn late(work: &Work) -> Stopped {
    Stopped::Refused(
        Rejection::new("agent.late", "end of the execution")
            .expected(format!("by {}, the end of the lease", work.until))
            .got("no result by then, with time left by the demand")
            .fix("nothing: the work is leased anew"),
    )
}

fn run(
    bench: &Bench,
    work: &Work,
    (module, inputs): (&Prepared, &[Zeroizing<Vec<u8>>]),
    handing: Option<Arc<Handing>>,
    (seed, started): ([u8; 32], UnixTime),
    cancel: &Cancel,
) -> Result<Ended, Stopped> {
    let limits = &work.limits;
    let allowed = Duration::from_millis(limits.paid.map_or(limits.time, |paid| paid.min(limits.time)).0);
    let leased = Duration::from_secs(work.until.since(started).saturating_sub(FINISH_SECONDS));
    let input = RunInput {
        args: &work.plan.fragment.args,
        inputs: inputs.iter().map(|bytes| bytes.as_slice()).collect(),
        fuel: limits.fuel,
        memory: limits.memory,
        deadline: allowed.min(leased),
        output_max: limits.output,
        log_max: LOG_MAX,
        seed,
        now_fixed: work.plan.clock,
        delegations: handing.clone().map(|handing| -> Arc<dyn Delegations> { handing }),
    };
    let size = Bytes(inputs.iter().map(|bytes| bytes.len() as u64).sum());
    let watch = bench.monitor.begin(work.plan.fragment.module, &work.tenant);
    let RunOutcome { result, stdout, stderr, usage, calls, .. } = bench.engine.run(module, input, cancel);
    let (mut output, mut log) = (Zeroizing::new(stdout), Zeroizing::new(stderr));
    let used = handing.map(|handing| handing.finish()).transpose().map_err(Stopped::Refused)?.unwrap_or_default();
    let outcome = match result {
        Ok(()) if output.is_empty() && work.plan.output_needed => {
            note(&mut log, "no output, though another fragment reads it");
            Outcome::Failed { reason: "no-output".to_owned() }
        }
        Ok(()) => Outcome::Completed,
        Err(RunFailure::Deadline) if leased < allowed => return Err(late(work)),
        Err(failure) => {
            let reason = blame(&failure, limits.paid.is_some())?;
            note(&mut log, &failure.to_string());
            output = Zeroizing::new(Vec::new());
            Outcome::Failed { reason }
        }
    };
    let sample = (outcome == Outcome::Completed).then(|| Sample {
        fuel: usage.fuel,
        input: size,
        host_calls: usage.host_calls,
        memory: usage.memory_peak,
        output: Bytes(output.len() as u64),
    });
    let monitored = Some(watch.end(sample.as_ref(), &seed).with(calls));
    let usage = Usage {
        fuel: usage.fuel,
        memory_peak: usage.memory_peak,
        host_calls: usage.host_calls,
        micros: u64::try_from(usage.wall.as_micros()).unwrap_or(u64::MAX),
    };
    Ok(Ended { outcome, output, log, usage, monitored, used })
}

/// The short form of a failure that is the task's own; the others end the offer.
pub(crate) fn blame(failure: &RunFailure, paid_for_less: bool) -> Result<String, Stopped> {
    Ok(match failure {
        RunFailure::Exit(code) => format!("exit-{code}"),
        RunFailure::Deadline if paid_for_less => "over-budget".to_owned(),
        RunFailure::OutOfFuel
        | RunFailure::OutOfMemory { .. }
        | RunFailure::TableFull { .. }
        | RunFailure::StackOverflow
        | RunFailure::Deadline
        | RunFailure::OutputTooLarge { .. }
        | RunFailure::Trap(_)
        | RunFailure::Undeclared { .. } => failure.class().replace('_', "-"),
        RunFailure::Refused(why) => why.check.replace('.', "-"),
        RunFailure::Cancelled => return Err(Stopped::Cancelled),
        RunFailure::HostMemory { .. } | RunFailure::Busy { .. } | RunFailure::Engine(_) => {
            return Err(Stopped::Refused(
                Rejection::new(&format!("agent.{}", failure.class().replace('_', "-")), "execution")
                    .expected("room to run what was leased")
                    .got(failure)
                    .fix("nothing: the work goes to another enclave"),
            ));
        }
    })
}

/// A module that this engine refuses: the task's own fault, unless only this enclave's limits are too tight.
fn malformed(error: &PrepareError) -> Result<Ended, Stopped> {
    let reason = match error {
        PrepareError::TooLarge { .. } | PrepareError::Machine { .. } => {
            return Err(Stopped::Refused(Rejection::from(error)));
        }
        PrepareError::DoesNotFit { .. } => "module-does-not-fit",
        _ => "malformed-module",
    };
    let mut log = Zeroizing::new(Vec::new());
    note(&mut log, &format!("{error}; {}", error.fix()));
    Ok(Ended {
        outcome: Outcome::Failed { reason: reason.to_owned() },
        output: Zeroizing::new(Vec::new()),
        log,
        usage: Usage { fuel: legation_core::Fuel::ZERO, memory_peak: Bytes::ZERO, host_calls: 0, micros: 0 },
        monitored: None,
        used: Used::default(),
    })
}

/// What may leave by the limits of the placement: an output that is too large once it is sealed fails the task, a log is cut
/// to what room the output leaves.
fn within_egress(mut ended: Ended, egress: Option<Bytes>) -> Ended {
    let Some(most) = egress else { return ended };
    let sealed = |plaintext: &[u8]| match plaintext.len() as u64 {
        0 => Some(Bytes::ZERO),
        size => legation_keys::sealed_len(Bytes(size)),
    };
    if sealed(&ended.output).is_none_or(|size| size > most) {
        note(&mut ended.log, &format!("the output does not fit into the {most} that may leave this enclave"));
        ended.output = Zeroizing::new(Vec::new());
        ended.outcome = Outcome::Failed { reason: "output-too-large".to_owned() };
    }
    let room = most.saturating_sub(sealed(&ended.output).unwrap_or(most)).0;
    let sealed_segment = (SEGMENT + TAG) as u64;
    let fits = room.saturating_sub(room.div_ceil(sealed_segment) * TAG as u64);
    if ended.log.len() as u64 > fits {
        // A copy: what is cut off must be wiped too.
        let kept = ended.log.get(..usize::try_from(fits).unwrap_or(usize::MAX)).unwrap_or_default();
        ended.log = Zeroizing::new(kept.to_vec());
    }
    ended
}

/// The agent's own last line of a log, which only the owner reads.
fn note(log: &mut Zeroizing<Vec<u8>>, text: &str) {
    let begin = if log.last().is_some_and(|last| *last != b'\n') { "\n" } else { "" };
    let line = format!("{begin}legation: {text}\n");
    // Growing in place would leave a copy behind that nobody wipes.
    let mut whole = Zeroizing::new(Vec::with_capacity(log.len() + line.len()));
    whole.extend_from_slice(log);
    whole.extend_from_slice(line.as_bytes());
    *log = whole;
}

/// Seals what the module left and signs what happened.
fn report(
    bench: &Bench,
    work: &Work,
    ended: Ended,
    seed: [u8; 32],
    (started, finished): (UnixTime, UnixTime),
    passport: Digest,
) -> Pending {
    let Ended { mut outcome, output, log, usage, monitored, used } = ended;
    let sealed = seal(work, &output, Direction::Output)
        .and_then(|output| Ok((output, seal(work, &log, Direction::Log)?)))
        .unwrap_or_else(|reason| {
            // Nobody could read it: whoever made the request named a key that is none.
            outcome = Outcome::Failed { reason };
            (None, None)
        });
    let (output, log) = sealed;
    let rests_on = &work.rests_on;
    let identity = &*bench.identity;
    let completed = outcome == Outcome::Completed;
    let report = Report {
        enclave: identity.public_key(),
        task: work.task,
        fragment: work.plan.index,
        lease: work.lease,
        module: work.plan.fragment.module,
        inputs: work.plan.inputs.iter().map(|i| i.commitment).collect(),
        seed: Digest::from_bytes(seed),
        outcome,
        output: output.as_ref().map(|o| o.named.clone()),
        log: log.as_ref().map(|l| l.named.clone()),
        usage,
        started,
        finished,
        answer: None,
        dissent: used.dissent,
        monitor: monitored,
        prev: [rests_on.allocation, passport]
            .into_iter()
            .chain(rests_on.grants.iter().copied())
            .chain(rests_on.upstream.iter().copied())
            .chain(used.answers)
            .collect(),
    };
    let report = dsse::sign(report, identity);
    let aggregate = (completed && work.plan.fragment.is_reducing()).then(|| {
        let aggregate = Aggregate {
            enclave: identity.public_key(),
            task: work.task,
            fragment: work.plan.index,
            reports: rests_on.upstream.clone(),
            result: report.output.clone(),
            privacy: "none".to_owned(),
            prev: std::iter::once(report.digest()).chain(rests_on.upstream.iter().copied()).collect(),
        };
        dsse::sign(aggregate, identity)
    });
    let (mut keys, mut objects) = (Vec::new(), Vec::new());
    for left in [output, log].into_iter().flatten() {
        objects.push((left.named.ciphertext, left.ciphertext.into()));
        keys.push(left.key);
    }
    Pending { lease: work.lease, reported: Reported { report, aggregate, keys, attached: used.attached }, objects }
}

/// A sealed object with its key wrapped to the owner.
struct Left {
    named: OutputRef,
    ciphertext: Vec<u8>,
    key: WrappedKey,
}

/// Seals what there is; the error is the short form of a failure.
fn seal(work: &Work, plaintext: &[u8], direction: Direction) -> Result<Option<Left>, String> {
    if plaintext.is_empty() {
        return Ok(None);
    }
    let mut id = [0; 16];
    OsEntropy.fill(&mut id);
    let (object, key) = (ObjectId::from_bytes(id), ObjectKey::generate(&mut OsEntropy));
    let owner: &SealingPublicKey = &work.plan.owner;
    let wrapped = legation_keys::wrap(&key, object, owner, &wrap_use(work, direction), &mut OsEntropy)
        .map_err(|_| "owner-sealing-key".to_owned())?;
    let Sealed { bytes, object, ciphertext, size, commitment } =
        legation_keys::seal(&key, object, plaintext).map_err(|_| "output-too-large".to_owned())?;
    let named = OutputRef { object, ciphertext, size, commitment };
    Ok(Some(Left { named, ciphertext: bytes, key: wrapped }))
}

#[cfg(test)]
mod tests {
    use legation_core::delegation::vote::SILENT;

    use super::*;

    #[test]
    fn what_follows_from_the_module_alone_votes_and_what_a_machine_ends_does_not() {
        let limit = Bytes(1);
        for (failure, votes) in [
            (RunFailure::OutOfFuel, true),
            (RunFailure::OutputTooLarge { limit }, true),
            (RunFailure::Trap("unreachable".to_owned()), true),
            (RunFailure::Undeclared { call: "fd_write" }, true),
            (RunFailure::Exit(3), true),
            (RunFailure::OutOfMemory { limit, asked: limit }, false),
            (RunFailure::TableFull { limit: 1, asked: 2 }, false),
            (RunFailure::StackOverflow, false),
            (RunFailure::Deadline, false),
        ] {
            let Ok(reason) = blame(&failure, false) else { panic!("{failure} has no reason") };
            assert_eq!(!SILENT.contains(&reason.as_str()), votes, "{reason}");
            assert!(votes || failure.is_resource_trap(), "{reason}");
        }
        assert!(blame(&RunFailure::Deadline, true).is_ok_and(|reason| SILENT.contains(&reason.as_str())));
    }
}
