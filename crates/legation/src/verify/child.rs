//! A program that is asked one question: bounded in what it may say, and in time.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

/// How it ended (nothing where a signal ended it), and all that it said on standard output.
pub(super) struct Told {
    pub(super) code: Option<i32>,
    pub(super) text: Vec<u8>,
}

/// Runs `command` with `input` on its standard input and nothing of this process's environment. It may say `most` bytes and take as
/// long as `limit`, then it is killed.
///
/// # Errors
/// Why there is no answer, in words.
pub(super) fn ask(command: &mut Command, input: Vec<u8>, most: usize, limit: Duration) -> Result<Told, String> {
    let quiet = command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = quiet.spawn().map_err(|e| format!("it cannot be started: {e}"))?;
    let told = hear(&mut child, input, most, limit);
    if told.is_err() {
        // It may have ended by itself meanwhile; whatever it was, nothing of it stays.
        child.kill().ok();
        child.wait().ok();
    }
    told
}

fn hear(child: &mut Child, input: Vec<u8>, most: usize, limit: Duration) -> Result<Told, String> {
    let began = Instant::now();
    let left = || limit.saturating_sub(began.elapsed());
    let late = || format!("it took longer than {} s", limit.as_secs_f64());
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no standard input and output".to_owned());
    };
    let cut = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let (say, heard) = mpsc::channel();
    // It may read nothing and write without end: neither holds this thread up. Both threads end with the pipes.
    let no_thread = |e: std::io::Error| format!("no thread to talk to it: {e}");
    // What it does not read it does not want to know.
    thread::Builder::new().spawn(move || stdin.write_all(&input).ok()).map_err(no_thread)?;
    let listen = move || {
        let mut text = Vec::new();
        let read = stdout.take(cut).read_to_end(&mut text).map(|_| text);
        say.send(read).ok()
    };
    thread::Builder::new().spawn(listen).map_err(no_thread)?;
    let text = match heard.recv_timeout(left()) {
        Ok(Ok(text)) if text.len() <= most => text,
        Ok(Ok(_)) => return Err(format!("it said more than {most} bytes")),
        Ok(Err(e)) => return Err(format!("what it said cannot be read: {e}")),
        Err(_) => return Err(late()),
    };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Told { code: status.code(), text }),
            Ok(None) if left().is_zero() => return Err(late()),
            Ok(None) => thread::sleep(LOOK),
            Err(e) => return Err(format!("how it ended cannot be told: {e}")),
        }
    }
}
