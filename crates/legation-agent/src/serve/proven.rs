//! A call that is to be proven: counted before it runs, answered as any other, and proven afterwards.
//!
//! 1. There is a place for it among what waits to be proven, or it is refused at once.
//! 2. What the proof takes is counted by a dry execution. A call that takes too much is refused with the figures, before it runs.
//! 3. It runs in the engine, and its answer is attested. One that failed is not proven: nobody asks for that.
//! 4. What could not be counted, and completed here, is refused: an answer that is never proven is not what was asked for.

use std::time::Duration;

use legation_core::{
    Digest, Rejection,
    delegation::session::PROOF_COST,
    statement::{ExecutionClaim, Outcome, args_digest},
};
use tokio::{task::spawn_blocking, time::sleep};

use super::answer::{self, Failed, Ran};
use crate::{
    assignment::module_bytes,
    engine::Cancel,
    prover::{Counted, Estimate, INPUT_MAX, Job, Work},
};

/// How often it is looked whether anybody still waits for a call that is being counted.
const LOOK: Duration = Duration::from_millis(50);

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("delegate.{check}"), claim.to_owned())
}

/// Runs a call that is to be proven, to its answer; its proof follows by itself.
///
/// # Errors
/// As [`answer::run`]; and this enclave proves nothing, has no place for it, or it would take too much.
pub(super) async fn run(job: answer::Job, stop: &Cancel) -> Result<Ran, Failed> {
    let agent = job.agent.clone();
    let Some(prover) = agent.prover.clone() else {
        return Err(Failed::before(
            refuse("prover", "call that is to be proven")
                .expected("an enclave that proves")
                .got("one that does not")
                .fix("ask for a loan that is to be `proven`, or for an attested answer"),
        ));
    };
    if job.call.input.size.0 > INPUT_MAX {
        let most = legation_core::Bytes(INPUT_MAX);
        let why = Rejection::new(PROOF_COST, "input of a call that is to be proven");
        return Err(Failed::before(why.expected(format!("at most {most}")).got(job.call.input.size)));
    }
    // What fails before it runs is answered, or refused, as any other.
    if job.module.is_err() || job.key.input(&job.input) != job.call.input {
        return blocking(job).await;
    }
    let mut place = prover.place(&job.lending.request.tenant).map_err(Failed::before)?;
    let (lending, lineage, call, key) = (job.lending.clone(), job.lineage.clone(), job.call.clone(), job.key.clone());
    let until = call.expires.min(lending.allocation.until);
    let wasm = match prover.module(&call.module) {
        Some(wasm) => wasm,
        None => module_bytes(&agent, call.module, until).await.map_err(Failed::before)?.into(),
    };
    place.hold(wasm.len().saturating_add(job.input.len())).map_err(Failed::before)?;
    let proof = Job { wasm, args: call.args.clone(), input: job.input.clone(), key };
    // Nobody knows the output yet: what is counted is not held against it.
    let claim = ExecutionClaim {
        module: call.module,
        args: args_digest(&call.args),
        seed: call.question,
        clock: lending.request.created,
        inputs: vec![call.input.commitment],
        output: Some(Digest::from_bytes([0; 32])),
    };
    let left = Duration::from_secs(until.since(agent.now()));
    let counted = tokio::select! {
        counted = prover.count(&place, &proof, &claim, left) => counted,
        () = cancelled(stop) => return Err(Failed::before(
            refuse("cancelled", "the call").expected("somebody who waits for it").got("nobody"),
        )),
    };
    let estimate = match counted {
        Counted::TooDear(why) | Counted::NotNow(why) => return Err(Failed::before(why)),
        Counted::Fits(estimate) => Ok(estimate),
        Counted::Unable(why) => Err(why),
    };
    let ran = blocking(job).await?;
    if ran.report.outcome != Outcome::Completed || stop.is_cancelled() {
        return Ok(ran);
    }
    let estimate: Estimate = estimate.map_err(Failed::after)?;
    let claim = ExecutionClaim::of(&ran.report, &call.args, lending.request.created).map_err(Failed::after)?;
    agent.books().proving();
    prover.enqueue(Work {
        task: call.task,
        loan: call.loan,
        report: ran.report.digest(),
        job: proof,
        claim,
        estimate,
        lineage,
        passport: ran.admitted.passport.clone(),
        _place: place,
    });
    Ok(ran)
}

async fn blocking(job: answer::Job) -> Result<Ran, Failed> {
    let ran = spawn_blocking(move || answer::run(job)).await;
    ran.unwrap_or_else(|error| Err(Failed::after(refuse("engine", "execution of the call").got(error))))
}

/// Waits until nobody waits for the call any more.
async fn cancelled(stop: &Cancel) {
    while !stop.is_cancelled() {
        sleep(LOOK).await;
    }
}
