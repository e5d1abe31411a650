//! Everything that is said of a receipt, as one object. Its JSON is an interface: docs/receipt.md lists the fields.

use legation_core::{
    Rejection, UnixTime,
    receipt::{Invalid, Verdict},
};
use legation_log::receipt::InLog;
use serde::{Serialize, Serializer};

use super::{Answer, last_line};
use crate::exit::Exit;

/// Name of the form of the JSON. Fields may be added under it; none changes its meaning.
pub const SCHEMA: &str = "legation-judgement/v1";

/// A judgement on a receipt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Whether the chain holds, and what it proves.
    pub answer: Answer,
    /// What the logs of the anchors say; nothing of an invalid receipt.
    pub log: Option<InLog>,
    /// The reader's demands that a valid receipt does not meet.
    pub unmet: Vec<Rejection>,
}

impl From<Invalid> for Judgement {
    fn from(Invalid { at, why }: Invalid) -> Self {
        Self { answer: Answer::Invalid { at, why }, log: None, unmet: Vec::new() }
    }
}

impl Judgement {
    /// How a command that asked for it ends.
    pub fn exit(&self) -> Exit {
        match (&self.answer, self.unmet.is_empty()) {
            (Answer::Invalid { .. }, _) => Exit::Receipt,
            (Answer::Valid(_), true) => Exit::Success,
            (Answer::Valid(_), false) => Exit::Unmet,
        }
    }

    /// The verdict in one word: `valid`, `unmet` or `invalid`.
    pub fn word(&self) -> &'static str {
        match self.exit() {
            Exit::Success => "valid",
            Exit::Unmet => "unmet",
            _ => "invalid",
        }
    }

    /// The verdict in one line.
    pub fn last_line(&self) -> String {
        match (&self.answer, self.unmet.len()) {
            (Answer::Invalid { .. }, _) | (_, 0) => last_line(&self.answer),
            (Answer::Valid(verdict), unmet) => format!(
                "receipt REFUSED by its reader's policy, {unmet} {} (it is {}): task {}",
                if unmet == 1 { "demand is not met" } else { "demands are not met" },
                verdict.standing,
                verdict.task.short()
            ),
        }
    }
}

/// The JSON.
#[derive(Serialize)]
struct Shape<'a> {
    schema: &'static str,
    verdict: &'static str,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a Rejection>,
    #[serde(flatten)]
    receipt: Option<&'a Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Log<'a>>,
    unmet: &'a [Rejection],
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum Log<'a> {
    NotAsked,
    Absent,
    Proven { origin: &'a str, size: u64, entries: usize, witnesses: Vec<Witness<'a>> },
}

#[derive(Serialize)]
struct Witness<'a> {
    name: &'a str,
    at: UnixTime,
}

impl<'a> From<&'a InLog> for Log<'a> {
    fn from(found: &'a InLog) -> Self {
        match found {
            InLog::NotAsked => Self::NotAsked,
            InLog::Absent => Self::Absent,
            InLog::Proven { origin, size, entries, witnesses } => Self::Proven {
                origin,
                size: *size,
                entries: *entries,
                witnesses: witnesses.iter().map(|(name, at)| Witness { name, at: *at }).collect(),
            },
        }
    }
}

impl Serialize for Judgement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (at, why, receipt) = match &self.answer {
            Answer::Valid(verdict) => (None, None, Some(verdict)),
            Answer::Invalid { at, why } => (Some(at.as_str()), Some(why), None),
        };
        Shape {
            schema: SCHEMA,
            verdict: self.word(),
            exit: self.exit() as u8,
            at,
            why,
            receipt,
            log: self.log.as_ref().map(Log::from),
            unmet: &self.unmet,
        }
        .serialize(serializer)
    }
}
