//! What one run holds on the host's side, and the ceiling on what it may hold inside the guest.

use std::sync::Arc;

use legation_core::{Bytes, Rejection, monitor::CallSet};
use wasmtime::{Memory, ResourceLimiter};
use zeroize::Zeroizing;

use super::{
    CORE_INSTANCES_MAX, MEMORY_RESERVATION, RunFailure, RunInput, TABLE_ELEMENTS_MAX, TABLES_MAX, asking::Asking,
    random::Stream,
};
use crate::monitor::calls::Trace;

/// Most arguments, and most inputs, of one run.
const STRINGS_MAX: usize = 1024;
/// Most bytes of all arguments together.
const ARGS_BYTES_MAX: usize = 128 << 10;
/// The guest's `argv[0]`: the same everywhere, or replicas would differ.
const PROGRAM: &str = "task";
const NANOS: u64 = 1_000_000_000;

/// What unwinds the guest; the reason is in [`Host::stop`].
#[derive(Debug, thiserror::Error)]
#[error("run stopped by the host")]
pub(super) struct Stopped;

/// The default is a run that may have nothing.
#[derive(Default)]
pub(super) struct Host {
    pub(super) args: Strings,
    pub(super) env: Strings,
    /// Length of each input.
    pub(super) lengths: Vec<u64>,
    pub(super) stdin: Input,
    pub(super) handed: Handed,
    pub(super) stdout: Vec<u8>,
    pub(super) output_max: u64,
    pub(super) stderr: Vec<u8>,
    pub(super) log_max: u64,
    pub(super) log_dropped: u64,
    /// Whether descriptors 0, 1 and 2 are still open.
    pub(super) open: [bool; 3],
    pub(super) random: Stream,
    pub(super) now_nanos: u64,
    /// The guest's memory, looked up by its first call.
    pub(super) memory: Option<Memory>,
    pub(super) host_calls: u64,
    /// What it may call; a call of anything else ends the run.
    pub(super) declared: CallSet,
    pub(super) trace: Trace,
    /// What it asks of other enclaves.
    pub(super) asking: Asking,
    /// Why the run ends, when it is the host who ends it; `Ok` is `proc_exit(0)`.
    pub(super) stop: Option<Result<(), RunFailure>>,
    memory_max: u64,
    pub(super) memory_held: u64,
}

/// Strings as C wants them: NUL-terminated, back to back.
#[derive(Default)]
pub(super) struct Strings {
    pub(super) bytes: Vec<u8>,
    pub(super) offsets: Vec<u32>,
}

impl Strings {
    /// The strings themselves.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        let whole = self.bytes.strip_suffix(&[0]).unwrap_or(&self.bytes);
        // They were texts, and none has a NUL inside.
        whole.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned())
    }

    fn push(&mut self, text: &str) {
        // Bounded by ARGS_BYTES_MAX, so the offset fits.
        self.offsets.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }
}

/// Standard input: a copy of all inputs, wiped when the run ends.
#[derive(Default)]
pub(super) struct Input {
    bytes: Zeroizing<Vec<u8>>,
    at: usize,
}

impl Input {
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn advance(&mut self, n: u32) {
        self.at = self.bytes.len().min(self.at + n as usize);
    }
}

/// Bytes that the last host call of a component gave. The library copies them into the component and drops its hold of them, but
/// wipes nothing: so they are held here as well, and wiped by the next host call, or when the run ends.
#[derive(Default)]
pub(super) struct Handed(Option<Arc<Vec<u8>>>);

impl Handed {
    /// What the library is given in their place.
    pub(super) fn give(&mut self, mut bytes: Zeroizing<Vec<u8>>) -> Arc<Vec<u8>> {
        self.wipe();
        let given = Arc::new(std::mem::take(&mut *bytes));
        self.0 = Some(Arc::clone(&given));
        given
    }

    /// Nobody else holds them any more: no component runs a host call within another.
    pub(super) fn wipe(&mut self) {
        drop(self.0.take().and_then(Arc::into_inner).map(Zeroizing::new));
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Host {
    pub(super) fn new(
        input: &RunInput<'_>,
        declared: CallSet,
        memory_max: Bytes,
        asking: Asking,
    ) -> Result<Self, Rejection> {
        if input.memory > memory_max {
            return Err(Rejection::new("run.memory", "memory asked for one run")
                .expected(format_args!("at most {memory_max}"))
                .got(input.memory)
                .fix("ask for less, or for an enclave with more"));
        }
        let args = arguments(input.args)?;
        if input.inputs.len() > STRINGS_MAX {
            return Err(Rejection::new("run.inputs", "number of inputs of one run")
                .expected(format_args!("at most {STRINGS_MAX}"))
                .got(input.inputs.len())
                .fix("join some inputs"));
        }
        let mut env = Strings::default();
        let lengths: Vec<u64> = input.inputs.iter().map(|bytes| bytes.len() as u64).collect();
        let decimal: Vec<String> = lengths.iter().map(u64::to_string).collect();
        env.push(&format!("LEGATION_INPUTS={}", decimal.join(",")));

        // One allocation of the right size: growing would leave copies behind that nobody wipes.
        let mut stdin = Zeroizing::new(Vec::with_capacity(input.inputs.iter().map(|bytes| bytes.len()).sum()));
        input.inputs.iter().for_each(|bytes| stdin.extend_from_slice(bytes));
        Ok(Self {
            args,
            env,
            lengths,
            stdin: Input { bytes: stdin, at: 0 },
            handed: Handed::default(),
            stdout: Vec::new(),
            output_max: input.output_max.0,
            stderr: Vec::new(),
            log_max: input.log_max.0,
            log_dropped: 0,
            open: [true; 3],
            random: Stream::new(&input.seed),
            now_nanos: input.now_fixed.0.saturating_mul(NANOS),
            memory: None,
            host_calls: 0,
            declared,
            trace: Trace::default(),
            asking,
            stop: None,
            memory_max: input.memory.0,
            memory_held: 0,
        })
    }

    /// Keeps so much of a piece of the log as there is room for.
    pub(super) fn log(&mut self, bytes: &[u8]) {
        let room = self.log_max.saturating_sub(self.stderr.len() as u64);
        let kept = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.stderr.extend_from_slice(&bytes[..kept]);
        self.log_dropped += (bytes.len() - kept) as u64;
    }

    /// Notes why the run ends; the first reason stays.
    pub(super) fn stop(&mut self, why: Result<(), RunFailure>) -> wasmtime::Error {
        self.stop.get_or_insert(why);
        Stopped.into()
    }
}

fn arguments(args: &[String]) -> Result<Strings, Rejection> {
    let refuse = |claim: &str, expected: String, got: usize, fix: &str| {
        Err(Rejection::new("run.args", claim).expected(expected).got(got).fix(fix))
    };
    if args.len() > STRINGS_MAX {
        return refuse("number of arguments", format!("at most {STRINGS_MAX}"), args.len(), "pass them as an input");
    }
    let total = args.iter().map(|arg| arg.len() + 1).sum();
    if total > ARGS_BYTES_MAX {
        return refuse("bytes of all arguments", format!("at most {ARGS_BYTES_MAX}"), total, "pass them as an input");
    }
    if let Some(at) = args.iter().position(|arg| arg.contains('\0')) {
        return refuse("position of an argument with a NUL inside", "none".into(), at, "pass it as an input");
    }
    let mut strings = Strings::default();
    strings.push(PROGRAM);
    args.iter().for_each(|arg| strings.push(arg));
    Ok(strings)
}

/// Growth beyond the run's limit ends the run rather than answering -1: a program that carries on with less memory would give
/// another output under another limit. Growth beyond the module's own declared maximum answers -1, as the specification says.
impl ResourceLimiter for Host {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Without a maximum of the module's own, the one reported is what 32 bits address.
        if maximum.is_some_and(|max| (max as u64) < MEMORY_RESERVATION && desired > max) {
            return Ok(false);
        }
        let asked = desired as u64;
        if asked > self.memory_max {
            let limit = Bytes(self.memory_max);
            return Err(self.stop(Err(RunFailure::OutOfMemory { limit, asked: Bytes(asked) })));
        }
        self.memory_held = asked;
        Ok(true)
    }

    /// Only the system can still refuse what was allowed above.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let asked = Bytes(self.memory_held);
        Err(self.stop(Err(RunFailure::HostMemory { asked })))
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The pool's own ceiling is reported as a maximum too.
        if maximum.is_some_and(|max| max < TABLE_ELEMENTS_MAX && desired > max) {
            return Ok(false);
        }
        if desired > TABLE_ELEMENTS_MAX {
            let (limit, asked) = (TABLE_ELEMENTS_MAX as u64, desired as u64);
            return Err(self.stop(Err(RunFailure::TableFull { limit, asked })));
        }
        Ok(true)
    }

    /// Those of a component; a command has one, and nobody can make more.
    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_is_held_until_the_next_call_and_no_longer() {
        let mut handed = Handed::default();
        let given = handed.give(Zeroizing::new(b"first".to_vec()));
        let first = Arc::downgrade(&given);
        assert_eq!(given.as_slice(), b"first");
        drop(given);
        assert!(first.upgrade().is_some(), "dropped by the library, but not wiped");
        let second = Arc::downgrade(&handed.give(Zeroizing::new(b"second".to_vec())));
        assert!(first.upgrade().is_none() && second.upgrade().is_some());
        handed.wipe();
        assert!(second.upgrade().is_none());
        let third = Arc::downgrade(&handed.give(Zeroizing::new(b"third".to_vec())));
        drop(handed);
        assert!(third.upgrade().is_none());
    }
}
