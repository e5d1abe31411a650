//! What one run holds on the host's side, and the ceiling on what it may hold inside the guest.

use legation_core::{Bytes, Rejection};
use wasmtime::{Memory, ResourceLimiter};
use zeroize::Zeroizing;

use super::{MEMORY_RESERVATION, RunFailure, RunInput, TABLE_ELEMENTS_MAX, TABLES_MAX, random::Stream};

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
    pub(super) stdin: Input,
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

impl Host {
    pub(super) fn new(input: &RunInput<'_>, memory_max: Bytes) -> Result<Self, Rejection> {
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
        let lengths: Vec<String> = input.inputs.iter().map(|bytes| bytes.len().to_string()).collect();
        env.push(&format!("LEGATION_INPUTS={}", lengths.join(",")));

        // One allocation of the right size: growing would leave copies behind that nobody wipes.
        let mut stdin = Zeroizing::new(Vec::with_capacity(input.inputs.iter().map(|bytes| bytes.len()).sum()));
        input.inputs.iter().for_each(|bytes| stdin.extend_from_slice(bytes));
        Ok(Self {
            args,
            env,
            stdin: Input { bytes: stdin, at: 0 },
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
            stop: None,
            memory_max: input.memory.0,
            memory_held: 0,
        })
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

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        1
    }
}
