//! Check 7: proofs of executions, beside the statements that the results rest on.
//!
//! 1. They stand ascending by the report that they are of, one of each at most, and no more than a receipt may have.
//! 2. Each is of a completed answer in this receipt whose call asks for `proven`.
//! 3. Each holds ([`check_item`]): signed by its prover, of what the report says, whole, and good by whoever judges proofs for the
//!    reader. A proof of a program that nobody here knows is passed over with a warning: its execution is attested.

use super::*;
use crate::{
    proven::{Proving, check_item, is_unknown},
    statement::ExecutionProof,
};

impl Chain<'_> {
    /// Notes in the ledger which of the executions that were to be proven are.
    pub(super) fn proofs(&mut self) -> Result<(), Invalid> {
        let receipt = self.receipt;
        if receipt.proofs.len() > PROOFS_MAX {
            return Err(Invalid { at: "the file".to_owned(), why: too_many(receipt.proofs.len()) });
        }
        let mut before: Option<Digest> = None;
        for item in &receipt.proofs {
            let at = |why: Rejection| Invalid { at: format!("proof {}", item.statement.digest().short()), why };
            let statement = open_item(item).map_err(at)?;
            if before.is_some_and(|before| before >= statement.report) {
                let why = Rejection::new("receipt.proofs", "order of the proofs of execution")
                    .expected("ascending by the report that they are of, one of each")
                    .got(format!("one of report {} after another of it or of a later one", statement.report.short()));
                return Err(at(why));
            }
            before = Some(statement.report);
            self.proof(item, &statement).map_err(at)?;
        }
        Ok(())
    }

    fn proof(&mut self, item: &ProofItem, statement: &Signed<ExecutionProof>) -> Result<(), Rejection> {
        let digest = statement.report;
        let Some(Opened::Report(report)) = self.opened.get(&digest) else {
            return Err(Rejection::new("proof.report", "report that a proof of execution is about")
                .expected("one of this receipt")
                .got(digest));
        };
        // Whether it is wanted is asked first: to judge a proof is dear. Where it is not, the ledger refuses it.
        if self.ledger.state(&digest).is_none() {
            return self.ledger.prove(digest);
        }
        let Some(Opened::Call(call)) = report.answer.as_ref().and_then(|answer| self.opened.get(&answer.call)) else {
            return Err(Rejection::new("proof.report", "report that a proof of execution is about")
                .expected("an answer to a call of this receipt")
                .got(digest));
        };
        let clock = self.find_request(report.task)?.created;
        let proving = Proving { report, args: &call.args, clock };
        match check_item(item, &proving, self.executions) {
            Ok(_) => self.ledger.prove(digest),
            Err(why) if is_unknown(&why) => {
                self.warnings.insert(format!("the proof of report {} was not judged: {why}", digest.short()));
                self.ledger.pass_over(digest)
            }
            Err(why) => Err(why),
        }
    }
}
