//! Starting other programs: what is run is said first, and a failure names the command and what to do about it.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

/// A program ended badly.
#[derive(Debug)]
pub(crate) struct Failed {
    command: String,
    status: ExitStatus,
    advice: String,
}

impl Failed {
    pub(crate) fn new(command: &Command, status: ExitStatus, advice: &str) -> Self {
        Self { command: shown(command), status, advice: advice.to_owned() }
    }

    /// The program's own exit code, so that scripts can tell failures apart; 1 where a signal ended it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let code = self.status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
        code.map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed ({}): {}", self.command, self.status, self.advice)
    }
}

impl std::error::Error for Failed {}

/// What this process left out, and why; each once.
static LEFT_OUT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Says loudly that something is left out, and why. `cargo xtask ci` says it again at its end.
pub(crate) fn skipped(what: &str) {
    eprintln!("xtask: SKIPPED: {what}");
    remember_skipped(what);
}

/// The same of what was said already.
pub(crate) fn remember_skipped(what: &str) {
    let mut all = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    if !all.iter().any(|said| said == what) {
        all.push(what.to_owned());
    }
}

/// All that was left out so far.
pub(crate) fn all_skipped() -> Vec<String> {
    LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Says what is run.
pub(crate) fn announce(command: &Command) {
    eprintln!("xtask: {}", shown(command));
}

/// Runs a program to its end, with our stdin, stdout and stderr.
///
/// # Errors
/// When it cannot be started, or ends badly: a [`Failed`] with `advice`.
pub(crate) fn run(command: &mut Command, advice: &str) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("failed to start `{}`: {advice}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(Failed::new(command, status, advice).into()) }
}

/// Runs a program to its end and gives its stdout.
///
/// # Errors
/// When it cannot be started, ends badly (the error has its stderr), or writes something that is not text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = shown(command);
    let out = command.output().with_context(|| format!("failed to start `{name}`"))?;
    ensure!(out.status.success(), "`{name}`: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    String::from_utf8(out.stdout).with_context(|| format!("`{name}` wrote something that is not text"))
}

/// As one would type it: the program without its folder.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let words = command.get_args().map(|arg| {
        let arg = arg.to_string_lossy();
        if arg.is_empty() || arg.contains(char::is_whitespace) { format!("'{arg}'") } else { arg.into_owned() }
    });
    std::iter::once(program.into_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_command_and_what_to_do_and_keeps_the_code() {
        let error = run(&mut shell("exit 7"), "count to three").unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 7'` failed (exit status: 7): count to three");
        let failed = error.downcast_ref::<Failed>().unwrap();
        assert_eq!(format!("{:?}", failed.exit_code()), format!("{:?}", ExitCode::from(7)));
        run(&mut shell("exit 0"), "nothing").unwrap();
    }

    #[test]
    fn what_is_left_out_is_kept_once() {
        for what in ["a test's own", "another", "a test's own"] {
            skipped(what);
        }
        let kept: Vec<String> =
            all_skipped().into_iter().filter(|what| ["a test's own", "another"].contains(&&**what)).collect();
        assert_eq!(kept, ["a test's own", "another"]);
    }

    #[test]
    fn a_failed_output_carries_what_the_program_said() {
        let error = output(&mut shell("echo why >&2; exit 1")).unwrap_err();
        assert!(error.to_string().ends_with(": why"), "{error}");
        assert_eq!(output(&mut shell("echo text")).unwrap(), "text\n");
    }
}
