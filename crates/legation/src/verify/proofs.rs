//! Proofs that a receipt is better without. Nothing rests on a proof of execution: without it the execution is attested, and all
//! else of the receipt stays as it is. One that is not good makes the whole receipt invalid to whoever judges it, and the pool judges
//! none: so whoever writes a receipt leaves such proofs out.

use legation_core::{
    Digest, Receipt, Rejection,
    proven::{ExecutionJudge, ProofItem, is_unknown, open_item},
};

use crate::exit::{Exit, Failure};

/// A proof that was left out of a receipt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// Its statement, by the digest of its envelope.
    pub proof: Digest,
    /// Why.
    pub why: Rejection,
}

/// The receipt without the proofs that `judge` does not find good, and which those were. Proofs of programs that it does not know
/// stay: nothing is said against them. Where it gives no answer about a proof, that is left out: it may be what its maker wanted.
pub fn without_bad(mut receipt: Receipt, judge: &dyn ExecutionJudge) -> (Receipt, Vec<LeftOut>) {
    let mut left = Vec::new();
    receipt.proofs.retain(|item| match check(item, judge) {
        Err(why) if !is_unknown(&why) => {
            left.push(LeftOut { proof: item.statement.digest(), why });
            false
        }
        Ok(()) | Err(_) => true,
    });
    (receipt, left)
}

/// Whether a proof is the one that its statement names, and proves what that claims.
fn check(item: &ProofItem, judge: &dyn ExecutionJudge) -> Result<(), Rejection> {
    let statement = open_item(item)?;
    let digest = Digest::of(&item.proof);
    if digest != statement.proof || u64::try_from(item.proof.len()) != Ok(statement.size.0) {
        let why = Rejection::new("proof.bytes", "proof beside its statement");
        return Err(why.expected(statement.proof).got(digest));
    }
    judge.judge(&statement.program, &statement.claim.public_value(), &item.proof)
}

/// The receipt without the proofs whose statements have these digests, or begin so; without any where none is named.
///
/// # Errors
/// A name is of no proof of the receipt, or of several.
pub fn without(mut receipt: Receipt, names: &[String]) -> Result<Receipt, Failure> {
    let of = |item: &ProofItem, name: &str| item.statement.digest().to_string().starts_with(name);
    for name in names {
        let found = receipt.proofs.iter().filter(|item| of(item, name)).count();
        if found != 1 {
            let text = format!("{found} proofs of execution in the receipt have a statement that begins with `{name}`");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    receipt.proofs.retain(|item| !names.is_empty() && !names.iter().any(|name| of(item, name)));
    Ok(receipt)
}
