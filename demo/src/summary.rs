//! What the demo shows at its end, for people and for programs.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::Result;
use serde::Serialize;

use crate::learn;

/// Everything.
#[derive(Serialize)]
pub(crate) struct Summary {
    /// Where each fragment of each round ran.
    pub(crate) rounds: Vec<Vec<Place>>,
    /// The agent that was killed.
    pub(crate) killed: Option<String>,
    /// How good the models are.
    pub(crate) quality: Qualities,
    /// Until nine enclaves had proven themselves.
    pub(crate) seconds_to_ready: f64,
    /// All rounds.
    pub(crate) seconds_of_training: f64,
    /// From begin to end.
    pub(crate) seconds_in_all: f64,
    /// Signed statements in the receipt.
    pub(crate) statements: usize,
    /// Where the receipt is.
    pub(crate) receipt: String,
    /// Where the anchors are.
    pub(crate) anchors: String,
    /// What its verification says.
    pub(crate) verdict: String,
    /// Whether the receipt is valid.
    pub(crate) valid: bool,
}

/// Where a fragment ran, and why there.
#[derive(Serialize)]
pub(crate) struct Place {
    pub(crate) fragment: String,
    pub(crate) agent: String,
    pub(crate) provider: String,
    pub(crate) region: String,
    pub(crate) why: String,
    pub(crate) considered: u32,
    pub(crate) eligible: u32,
    pub(crate) micro_usd: u64,
    pub(crate) milliseconds: u64,
    pub(crate) moved_from: Vec<String>,
}

/// How good the models are on patients nobody trained on.
#[derive(Serialize)]
pub(crate) struct Qualities {
    pub(crate) held_out: usize,
    pub(crate) federated: Score,
    pub(crate) by_round: Vec<Score>,
    pub(crate) centralised: Score,
    pub(crate) alone: BTreeMap<String, Score>,
}

/// Share of the variance explained, and root of the mean squared error.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Score {
    pub(crate) r2: f64,
    pub(crate) rmse: f64,
}

impl From<learn::Quality> for Score {
    fn from(quality: learn::Quality) -> Self {
        Self { r2: quality.r2, rmse: quality.rmse }
    }
}

impl Summary {
    /// Whether the receipt is valid.
    pub(crate) fn verified(&self) -> bool {
        self.valid
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "Where each task ran, and why there")?;
        writeln!(
            out,
            "  {:<14} {:<11} {:<21} {:>9} {:>8}  why",
            "task", "enclave", "provider, region", "price", "time"
        )?;
        let mut total = 0;
        for (round, places) in self.rounds.iter().enumerate() {
            writeln!(out, " round {}", round + 1)?;
            for place in places {
                total += place.micro_usd;
                writeln!(
                    out,
                    "  {:<14} {:<11} {:<21} {:>9} {:>8}  {} ({} of {} eligible)",
                    place.fragment,
                    place.agent,
                    format!("{}, {}", place.provider, place.region),
                    format!("{} uUSD", place.micro_usd),
                    format!("{} ms", place.milliseconds),
                    place.why,
                    place.eligible,
                    place.considered,
                )?;
                for from in &place.moved_from {
                    writeln!(out, "                 moved from {from}")?;
                }
            }
        }
        if let Some(killed) = &self.killed {
            let moved = self.rounds.iter().flatten().filter(|p| !p.moved_from.is_empty()).count();
            writeln!(
                out,
                "\nAgent {killed} was killed (SIGKILL) in the middle of a round: {moved} task moved, the run went on."
            )?;
        }
        writeln!(out, "\nPrice   {}.{:06} usd in all", total / 1_000_000, total % 1_000_000)?;
        writeln!(
            out,
            "Time    {:.1} s until nine enclaves had proven themselves, {:.1} s of training, {:.1} s in all",
            self.seconds_to_ready, self.seconds_of_training, self.seconds_in_all
        )?;
        let quality = &self.quality;
        writeln!(out, "\nQuality on {} patients that nobody trained on        R2    RMSE", quality.held_out)?;
        let mut line = |what: &str, score: &Score| writeln!(out, "  {what:<48} {:>6.3}  {:>6.2}", score.r2, score.rmse);
        line("together, in enclaves (federated)", &quality.federated)?;
        line("all rows in one place (centralised)", &quality.centralised)?;
        for (hospital, score) in &quality.alone {
            line(&format!("{hospital} alone"), score)?;
        }
        let rounds: Vec<_> = quality.by_round.iter().map(|s| format!("{:.3}", s.r2)).collect();
        writeln!(out, "  R2 after each round: {}", rounds.join(", "))?;
        writeln!(out, "\nReceipt {} ({} signed statements)", self.receipt, self.statements)?;
        writeln!(out, "Check   legation receipt verify {} --anchors {}", self.receipt, self.anchors)?;
        writeln!(out, "{}", self.verdict)
    }
}
