//! One run: a fresh store, an instance, `_start`, and why it ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use legation_core::{Bytes, Fuel, Rejection, UnixTime};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};

use super::{
    Inner,
    asking::{Asking, Delegations},
    component,
    host::Host,
    module::{Prepared, Program, shown},
};
use crate::monitor::calls::{Calls, Trace};

/// Stops runs from another thread. Clones share the flag; once cancelled it stays cancelled.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag not yet raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends every run that was given this flag, within one tick.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything a run depends on.
#[derive(Clone, Debug)]
pub struct RunInput<'a> {
    /// `argv` from 1 on; `argv[0]` is always `task`, and not there for components. At most 1024, 128 KiB together, without NUL.
    pub args: &'a [String],
    /// Standard input is these, one after the other; the environment variable `LEGATION_INPUTS` gives their lengths in bytes,
    /// decimal, separated by commas. At most 1024.
    pub inputs: Vec<&'a [u8]>,
    /// Work allowed: about 1 per operator, 1 per byte copied, 100 per host call.
    pub fuel: Fuel,
    /// Linear memory allowed, at most [`super::EngineConfig::memory_max`].
    pub memory: Bytes,
    /// Wall-clock time allowed, from the call on.
    pub deadline: Duration,
    /// Standard output allowed; one byte more ends the run.
    pub output_max: Bytes,
    /// Standard error kept; the rest is dropped and a marker says so.
    pub log_max: Bytes,
    /// Seed of the guest's randomness.
    pub seed: [u8; 32],
    /// What every clock of the guest shows, always.
    pub now_fixed: UnixTime,
    /// Who has parts of it run by other enclaves; without it, nothing may be handed on.
    pub delegations: Option<Arc<dyn Delegations>>,
}

/// What a run did and used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunOutcome {
    /// `Ok` when `_start` returned or called `proc_exit(0)`, or `run` of a component gave no error.
    pub result: Result<(), RunFailure>,
    /// Standard output; when the run failed, what there was until then.
    pub stdout: Vec<u8>,
    /// Standard error, at most `log_max` and the marker.
    pub stderr: Vec<u8>,
    /// What it cost.
    pub usage: Usage,
    /// Which host functions it called, in what order; without a deadline or a cancellation, the same each time.
    pub calls: Calls,
    /// Whether it was told that a question of its own could not be handed on, or had no answer: which depends on other machines.
    pub starved: bool,
}

/// What a run used. All but `wall` are the same each time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Work done.
    pub fuel: Fuel,
    /// Most linear memory held; it never shrinks during a run.
    pub memory_peak: Bytes,
    /// Calls into the host.
    pub host_calls: u64,
    /// Standard error dropped beyond `log_max`.
    pub log_dropped: Bytes,
    /// Wall-clock time.
    pub wall: Duration,
}

/// Why a run did not end well.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFailure {
    /// The fuel is used up.
    #[error("out of fuel")]
    OutOfFuel,
    /// It wanted more linear memory than it may have.
    #[error("out of memory: asked for {asked} where {limit} is allowed")]
    OutOfMemory {
        /// What was allowed.
        limit: Bytes,
        /// What it wanted, at least.
        asked: Bytes,
    },
    /// Allowed, but the system had no more.
    #[error("the enclave could not provide {asked} of memory")]
    HostMemory {
        /// What it wanted.
        asked: Bytes,
    },
    /// It wanted a larger table than it may have.
    #[error("table full: asked for {asked} elements where {limit} are allowed")]
    TableFull {
        /// Elements allowed.
        limit: u64,
        /// Elements wanted.
        asked: u64,
    },
    /// Calls nested too deeply.
    #[error("stack overflow")]
    StackOverflow,
    /// The wall-clock time is over.
    #[error("deadline passed")]
    Deadline,
    /// Somebody called [`Cancel::cancel`].
    #[error("cancelled")]
    Cancelled,
    /// More standard output than allowed.
    #[error("output is larger than the {limit} allowed")]
    OutputTooLarge {
        /// What was allowed.
        limit: Bytes,
    },
    /// The module did something that WebAssembly forbids; where, as the module names it.
    #[error("trap: {0}")]
    Trap(String),
    /// It called a host function that is not in its declared set ([`crate::monitor::calls`]).
    #[error("it called `{call}`, which its `legation.calls` does not name")]
    Undeclared {
        /// The function.
        call: &'static str,
    },
    /// It exited with a code other than zero; a component whose `run` gave an error, which is in its log, with 1.
    #[error("exit code {0}")]
    Exit(i32),
    /// All slots are taken: try again later.
    #[error("all {instances_max} execution slots are taken")]
    Busy {
        /// Runs at a time.
        instances_max: u32,
    },
    /// The input breaks a rule, or the module was prepared by another engine; nothing ran.
    #[error("run refused: {0}")]
    Refused(Box<Rejection>),
    /// The engine itself failed; not the module's fault.
    #[error("engine failed: {0}")]
    Engine(String),
}

impl RunFailure {
    /// A stable short name of the class, for reports and metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::OutOfFuel => "out_of_fuel",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::HostMemory { .. } => "host_memory",
            Self::TableFull { .. } => "table_full",
            Self::StackOverflow => "stack_overflow",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::OutputTooLarge { .. } => "output_too_large",
            Self::Trap(_) => "trap",
            Self::Undeclared { .. } => "undeclared_call",
            Self::Exit(_) => "exit",
            Self::Busy { .. } => "busy",
            Self::Refused(_) => "refused",
            Self::Engine(_) => "engine",
        }
    }

    /// Stopped by a limit, so that a larger limit might help.
    pub fn is_resource_trap(&self) -> bool {
        match self {
            Self::OutOfFuel
            | Self::OutOfMemory { .. }
            | Self::TableFull { .. }
            | Self::StackOverflow
            | Self::Deadline
            | Self::OutputTooLarge { .. } => true,
            Self::HostMemory { .. }
            | Self::Cancelled
            | Self::Trap(_)
            | Self::Undeclared { .. }
            | Self::Exit(_)
            | Self::Busy { .. }
            | Self::Refused(_)
            | Self::Engine(_) => false,
        }
    }
}

pub(super) fn run(engine: &Inner, module: &Prepared, input: &RunInput<'_>, cancel: &Cancel) -> RunOutcome {
    let started = Instant::now();
    let refused = |failure| RunOutcome {
        result: Err(failure),
        stdout: Vec::new(),
        stderr: Vec::new(),
        usage: Usage { wall: started.elapsed(), ..Usage::default() },
        calls: Trace::default().finish(),
        starved: false,
    };
    if cancel.is_cancelled() {
        return refused(RunFailure::Cancelled);
    }
    if !wasmtime::Engine::same(module.program.engine(), &engine.wasm) {
        let rejection = Rejection::new("run.module", "engine that prepared the module")
            .expected("this engine")
            .got("another engine")
            .fix("prepare the module with the engine that runs it");
        return refused(RunFailure::Refused(Box::new(rejection)));
    }
    let asking = Asking::new(input, started, cancel);
    let host = match Host::new(input, module.declared(), engine.config.memory_max, asking) {
        Ok(host) => host,
        Err(rejection) => return refused(RunFailure::Refused(Box::new(rejection))),
    };

    let Some(_slot) = engine.slots.take() else {
        return refused(RunFailure::Busy { instances_max: engine.config.instances_max });
    };
    let ticks = engine.ticker.enter();
    let mut store = Store::new(&engine.wasm, host);
    let result = execute(&mut store, module, input, cancel, started);
    drop(ticks);

    let left = store.get_fuel().unwrap_or(0);
    let failure = result.err().map(|error| classify(&error, engine.config.instances_max));
    let mut host = store.into_data();
    let result = match (host.stop.take(), failure) {
        (Some(stopped), _) => stopped,
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(()),
    };
    if host.log_dropped > 0 {
        let marker = format!("\n[log cut here: {} more bytes]\n", host.log_dropped);
        host.stderr.extend_from_slice(marker.as_bytes());
    }
    let usage = Usage {
        fuel: Fuel(input.fuel.0.saturating_sub(left)),
        memory_peak: Bytes(host.memory_held),
        host_calls: host.host_calls,
        log_dropped: Bytes(host.log_dropped),
        wall: started.elapsed(),
    };
    let starved = host.asking.is_starved();
    RunOutcome { result, stdout: host.stdout, stderr: host.stderr, usage, calls: host.trace.finish(), starved }
}

fn execute(
    store: &mut Store<Host>,
    module: &Prepared,
    input: &RunInput<'_>,
    cancel: &Cancel,
    started: Instant,
) -> wasmtime::Result<()> {
    store.limiter(|host| host);
    store.set_fuel(input.fuel.0)?;
    let cancel = cancel.clone();
    // A deadline that the clock cannot express never comes.
    let deadline = started.checked_add(input.deadline);
    store.epoch_deadline_callback(move |mut store| {
        let why = if cancel.is_cancelled() {
            RunFailure::Cancelled
        } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            RunFailure::Deadline
        } else {
            return Ok(UpdateDeadline::Continue(1));
        };
        Err(store.data_mut().stop(Err(why)))
    });
    store.set_epoch_deadline(1);
    match &module.program {
        Program::Command(pre) => {
            let instance = pre.instantiate(&mut *store)?;
            instance.get_typed_func::<(), ()>(&mut *store, "_start")?.call(&mut *store, ())
        }
        Program::Component(pre, run) => component::run(store, pre, run),
    }
}

/// For errors that the host did not cause itself.
fn classify(error: &wasmtime::Error, instances_max: u32) -> RunFailure {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => RunFailure::OutOfFuel,
        Some(Trap::StackOverflow) => RunFailure::StackOverflow,
        Some(trap) => RunFailure::Trap(format!("{trap}{}", place(error))),
        None if error.is::<PoolConcurrencyLimitError>() => RunFailure::Busy { instances_max },
        // What broke off while the guest ran, and was not the host's doing, is what the guest handed to the host.
        None if error.downcast_ref::<WasmBacktrace>().is_some() => {
            RunFailure::Trap(format!("{}{}", shown(&error.root_cause().to_string()), place(error)))
        }
        None => RunFailure::Engine(shown(&format!("{error:#}"))),
    }
}

/// The innermost function of the module, by number and, if the module has names, by name.
fn place(error: &wasmtime::Error) -> String {
    let frame = error.downcast_ref::<WasmBacktrace>().and_then(|trace| trace.frames().first());
    match frame.map(|frame| (frame.func_index(), frame.func_name())) {
        Some((index, Some(name))) => format!(" in function {index} `{}`", shown(name)),
        Some((index, None)) => format!(" in function {index}"),
        None => String::new(),
    }
}
