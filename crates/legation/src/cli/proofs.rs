//! How far the proofs of executions are that a task is owed.

use legation_pool::{OwedView, Progress, Stands, TaskView};

/// A line for each; nothing where none is owed.
pub(super) fn owed(view: &TaskView) -> String {
    view.proofs.iter().map(line).collect()
}

fn line(proof: &OwedView) -> String {
    let stands = match (&proof.stands, proof.progress) {
        (Stands::There { size, made, .. }, _) => format!("there since {made}, {size}"),
        (Stands::Failed { why }, _) => format!("failed, so it stays attested: {why}"),
        (Stands::Awaited, Some(Progress { done: 0, seconds_left })) => {
            format!("awaited, it has not begun: about {seconds_left} s")
        }
        (Stands::Awaited, Some(Progress { done, seconds_left })) => {
            format!("running, {} %: about {seconds_left} s", done / 10)
        }
        (Stands::Awaited, None) => "awaited: its enclave has not said how far it is".to_owned(),
    };
    let (report, loan, prover) = (proof.report.short(), proof.loan, proof.prover.short());
    format!("\nproof of answer {report} by {prover} under {loan} for {}: {stands}", proof.fragment)
}

#[cfg(test)]
mod tests {
    use legation_core::{Bytes, Digest, EnclaveId, FragmentIndex, LeaseId, Rejection, Seq, UnixTime};
    use legation_pool::Recorded;

    use super::*;

    #[test]
    fn every_stand_of_a_proof_is_said() {
        let proof = |stands: Stands, progress: Option<Progress>| OwedView {
            report: Digest::of(b"report"),
            fragment: FragmentIndex(2),
            loan: LeaseId(7),
            prover: EnclaveId::new(Digest::of(b"enclave")),
            stands,
            progress,
        };
        let progress = |done, seconds_left| Some(Progress { done, seconds_left });
        let why = Rejection::new("proof.failed", "the proof").got("the prover ended with code 1");
        let record = Recorded { at: Seq(9), digest: Digest::of(b"statement") };
        let there = Stands::There { record, proof: Digest::of(b"proof"), size: Bytes(580_116), made: UnixTime(0) };
        for (said, stands, progress) in [
            ("it has not begun: about 200 s", Stands::Awaited, progress(0, 200)),
            ("running, 45 %: about 80 s", Stands::Awaited, progress(459, 80)),
            ("has not said", Stands::Awaited, None),
            ("the prover ended with code 1", Stands::Failed { why }, None),
            ("566.5 KiB", there, None),
        ] {
            let line = line(&proof(stands, progress));
            assert!(line.contains(said) && line.contains("lease-7 for #2"), "{line}");
        }
    }
}
