//! Receipts, offline: the verdict, and the chain as people read it.

use legation_attest::{Judge, Roots};
use legation_core::{
    Receipt, RevocationList, Signed,
    claims::Anchors,
    receipt::{Invalid, Standing, Verdict},
};
use legation_manager::SignedRevocations;
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// A verdict on a receipt in words that programs read.
#[derive(Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Answer {
    /// The chain holds.
    Valid(Verdict),
    /// It does not.
    Invalid {
        /// First link that fails.
        at: String,
        /// Why.
        why: legation_core::Rejection,
    },
}

/// Reads a list of revocations as `legation revocations save` wrote it.
///
/// # Errors
/// It is not one, or nobody of `anchors` stands behind it.
pub fn read_revocations(text: &[u8], anchors: &Anchors) -> Result<Signed<RevocationList>, Failure> {
    let SignedRevocations { list, appointment } = serde_json::from_slice(text)
        .map_err(|e| Failure::new(Exit::Usage, format!("not a saved list of revocations: {e}")))?;
    RevocationList::open(list.envelope(), appointment.envelope(), &anchors.operators)
        .map_err(|why| Failure::refused(Exit::Usage, &why))
}

/// Verifies the text of a receipt, trusting only `anchors` and the vendors' roots; against what is revoked, where that is
/// known.
///
/// # Errors
/// The anchors will not do. An invalid receipt is an answer, not an error.
pub fn verify(text: &[u8], anchors: &Anchors, revocations: Option<&RevocationList>) -> Result<Answer, Failure> {
    let roots = Roots::new(anchors).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    let judge = Judge::new(roots);
    let verdict = Receipt::from_text(text).and_then(|receipt| receipt.verify_with(anchors, &judge, revocations));
    Ok(match verdict {
        Ok(verdict) => Answer::Valid(verdict),
        Err(Invalid { at, why }) => Answer::Invalid { at, why },
    })
}

/// The last line of everything that verifies a receipt.
pub fn last_line(answer: &Answer) -> String {
    match answer {
        Answer::Valid(verdict) => {
            let what = if verdict.completed { "completed" } else { "failed" };
            let anchors = verdict.anchors.join(", ");
            match verdict.standing {
                Standing::Valid => format!("receipt valid: task {} {what}; anchors {anchors}", verdict.task.short()),
                Standing::ValidButDevelopment => format!(
                    "receipt valid (development: proves the protocol, not confidentiality): task {} {what}; anchors {anchors}",
                    verdict.task.short()
                ),
            }
        }
        Answer::Invalid { at, why } => format!("receipt INVALID at {at}: {why}"),
    }
}

/// Draws the chain: every link with what it says, and what it rests on.
pub fn draw(verdict: &Verdict) -> String {
    let mut out = String::new();
    for (i, link) in verdict.links.iter().enumerate() {
        let rests: Vec<String> = link
            .prev
            .iter()
            .filter_map(|p| verdict.links.iter().position(|l| l.digest == *p))
            .map(|p| (p + 1).to_string())
            .collect();
        let rests = if rests.is_empty() { String::new() } else { format!("  <- {}", rests.join(" ")) };
        out.push_str(&format!("{:>4}  {:<11} {}  {}{rests}\n", i + 1, link.kind, link.digest.short(), link.says));
    }
    out
}
