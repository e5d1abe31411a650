//! Votes: what several enclaves that ran one call say of it, and what counts.
//!
//! Execution is deterministic: the same module on the same input with the same seed does the same everywhere. So a vote is
//! the whole of what an execution did as far as it can be told from outside: how it ended, the commitment of its output, its
//! fuel, and the digest of its host calls. Rules:
//! 1. at most `k` answers, each of another enclave;
//! 2. an execution that a limit of its machine stopped does not vote: whether time, memory or stack sufficed is not the
//!    module's doing; nor does one that was told of a question of its own that nobody could answer. One that used up its fuel,
//!    or wrote more than it may, votes: that is the same everywhere;
//! 3. more than half of `k` must agree, those that do not vote or did not answer included in `k`: a tie decides nothing;
//! 4. whoever voted otherwise dissents, and is named.
//!
//! Commitments can be compared because a question's answers are committed to under one key, which its delegator chose.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    digest::Digest,
    dsse::Signed,
    rejection::Rejection,
    statement::{Committed, Outcome, Report},
    unit::Fuel,
};

/// Reason of a failure, in the words of reports: the module was told what another machine would not have told it, that nobody
/// could be asked or nobody answered.
pub const UNANSWERED: &str = "unanswered";

/// Reasons of failures that are a machine's, in the words of reports: they are no vote.
pub const SILENT: [&str; 7] =
    ["out-of-memory", "table-full", "stack-overflow", "deadline", "over-budget", "module-does-not-fit", UNANSWERED];

/// What an answer votes for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ballot<'a> {
    /// Why it failed, if it did.
    pub failed: Option<&'a str>,
    /// What it wrote.
    pub output: Option<Committed>,
    /// Work.
    pub fuel: Fuel,
    /// Digest of its host calls.
    pub trace: Digest,
}

/// What a vote decided: answers by the digests of their reports, each list ascending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Those that agree: more than half of all that were asked.
    pub agreed: Vec<Digest>,
    /// Those that voted otherwise.
    pub dissent: Vec<Digest>,
    /// Those that did not vote.
    pub silent: Vec<Digest>,
}

/// What an answer votes for; nothing of an execution that its machine ended, or of a report that is no answer.
pub fn ballot(report: &Report) -> Option<Ballot<'_>> {
    let answer = report.answer?;
    let failed = match &report.outcome {
        Outcome::Completed => None,
        Outcome::Failed { reason } if SILENT.contains(&reason.as_str()) => return None,
        Outcome::Failed { reason } => Some(reason.as_str()),
    };
    Some(Ballot { failed, output: answer.output, fuel: report.usage.fuel, trace: answer.trace })
}

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("vote.{check}"), claim.to_owned())
}

/// Decides between the answers to one question that `k` enclaves were asked.
///
/// # Errors
/// `vote.answers`, `vote.tie`, `vote.majority`: nothing is decided, and no answer counts.
pub fn vote(k: u8, answers: &[Signed<Report>]) -> Result<Decision, Rejection> {
    let enclaves: BTreeSet<_> = answers.iter().map(|report| report.enclave).collect();
    if answers.len() > usize::from(k) || enclaves.len() != answers.len() {
        return Err(refuse("answers", "answers to one question")
            .expected(format!("at most {k}, each of another enclave"))
            .got(format!("{} of {} enclaves", answers.len(), enclaves.len())));
    }
    let mut silent: Vec<Digest> = Vec::new();
    let mut votes: BTreeMap<Ballot<'_>, Vec<Digest>> = BTreeMap::new();
    for report in answers {
        match ballot(report) {
            Some(ballot) => votes.entry(ballot).or_default().push(report.digest()),
            None => silent.push(report.digest()),
        }
    }
    let mut sides: Vec<Vec<Digest>> = votes.into_values().collect();
    sides.sort_by_key(|side| std::cmp::Reverse(side.len()));
    let sizes: Vec<usize> = sides.iter().map(Vec::len).collect();
    let mut sides = sides.into_iter();
    let mut agreed = sides.next().unwrap_or_default();
    if agreed.len().saturating_mul(2) <= usize::from(k) {
        let tie = matches!(sizes.as_slice(), [first, second, ..] if first == second);
        let got = sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" against ");
        let got = if got.is_empty() { "no vote".to_owned() } else { format!("{got}, {} without a vote", silent.len()) };
        return Err(refuse(if tie { "tie" } else { "majority" }, "enclaves that agree")
            .expected(format!("more than half of {k}"))
            .got(got)
            .fix("ask again: an odd number, and enclaves of other owners"));
    }
    let mut dissent: Vec<Digest> = sides.flatten().collect();
    agreed.sort_unstable();
    dissent.sort_unstable();
    silent.sort_unstable();
    Ok(Decision { agreed, dissent, silent })
}
