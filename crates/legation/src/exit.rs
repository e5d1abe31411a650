//! Exit codes: part of the interface, listed in `legation --help`.

use std::process::ExitCode;

use legation_core::{Rejection, printable};

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// As asked.
    Success = 0,
    /// Something of this program or machine failed.
    Failure = 1,
    /// The command line or a file it names is wrong.
    Usage = 2,
    /// Refused by the manager, a policy or an enclave.
    Refused = 3,
    /// Evidence is not valid.
    Attestation = 4,
    /// No enclave could take the task in time.
    NoEnclave = 5,
    /// The receipt is not valid.
    Receipt = 6,
    /// The manager cannot be reached.
    Unreachable = 7,
    /// The task failed in its own module.
    TaskFailed = 8,
    /// The receipt is valid, and not what its reader demands.
    Unmet = 9,
    /// The receipt's file is not there or cannot be read.
    Unreadable = 10,
    /// Of the custodians of a swarm key, fewer are here than open it.
    OutOfReach = 11,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows how the command ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What people read.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { exit, message: printable::lines(&message.to_string()).into_owned() }
    }

    /// A refusal, laid out for people.
    pub fn refused(exit: Exit, why: &Rejection) -> Self {
        Self::new(exit, lay_out(why))
    }
}

/// A refusal over several lines: claim, expected, got, fix.
pub fn lay_out(why: &Rejection) -> String {
    let mut text = format!("{} [{}]", printable::one_line(&why.claim), printable::one_line(&why.check));
    for (name, value) in [("expected", &why.expected), ("got", &why.got), ("fix", &why.fix)] {
        if !value.is_empty() {
            text.push_str(&format!("\n  {name:<9} {}", printable::one_line(value)));
        }
    }
    text
}
