//! A process of the prover: bounded in what it says, ended with whoever waits for it.

use std::{ffi::OsString, io, path::Path, process::Stdio};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

/// Longest answer on standard output, in bytes.
const ANSWER_MAX: u64 = 64 * 1024;
/// Longest line of standard error that is looked at, in bytes; of longer ones the beginning.
const LINE_MAX: usize = 1024;

/// What is run, and by what with the least urgency.
pub(super) struct Program<'a> {
    pub(super) nice: Option<&'a Path>,
    pub(super) path: &'a Path,
}

/// How a process ended.
pub(super) struct Ended {
    /// Its exit code; nothing where a signal ended it.
    pub(super) code: Option<i32>,
    /// What it wrote to standard output.
    pub(super) answer: Vec<u8>,
    /// The last line that it wrote to standard error.
    pub(super) said: String,
}

/// Runs a program to its end. Dropped before that, it kills it. It gets no environment, so nothing of the agent's goes there, and no
/// standard input.
///
/// # Errors
/// It cannot be started, or says more than it may.
pub(super) async fn run(program: &Program<'_>, args: &[OsString], mut line: impl FnMut(&str)) -> io::Result<Ended> {
    let mut command = match program.nice {
        Some(nice) => {
            let mut command = Command::new(nice);
            command.args(["-n", "19"]).arg(program.path);
            command
        }
        None => Command::new(program.path),
    };
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("a process without pipes"));
    };
    let (answer, said) = tokio::try_join!(answer(out), lines(err, &mut line))?;
    let status = child.wait().await?;
    Ok(Ended { code: status.code(), answer, said })
}

async fn answer(out: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    out.take(ANSWER_MAX.saturating_add(1)).read_to_end(&mut answer).await?;
    match u64::try_from(answer.len()).is_ok_and(|size| size <= ANSWER_MAX) {
        true => Ok(answer),
        false => Err(io::Error::other(format!("an answer of more than {ANSWER_MAX} bytes"))),
    }
}

/// Hands every line on; gives the last.
async fn lines(mut err: impl AsyncRead + Unpin, line: &mut impl FnMut(&str)) -> io::Result<String> {
    let (mut piece, mut held, mut last) = ([0; 4096], Vec::new(), String::new());
    loop {
        let read = err.read(&mut piece).await?;
        let ended = read == 0;
        for byte in piece.iter().take(read).copied().chain(ended.then_some(b'\n')) {
            if byte != b'\n' {
                if held.len() < LINE_MAX {
                    held.push(byte);
                }
            } else if !held.is_empty() {
                last = String::from_utf8_lossy(&held).into_owned();
                held.clear();
                line(&last);
            }
        }
        if ended {
            return Ok(last);
        }
    }
}
