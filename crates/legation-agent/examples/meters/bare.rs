//! A host for commands with the same answers to WASI as the agent's engine, and nothing that counts or watches but what is asked
//! for: what the engine is compared with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use legation_agent::engine::{TABLE_ELEMENTS_MAX, TABLES_MAX, TICK, WASM_STACK};
use wasmtime::{
    AsContextMut, Caller, Config, Engine, Extern, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module,
    PoolingAllocationConfig, Store, UpdateDeadline,
};
use zeroize::Zeroizing;

use crate::{Failure, failed};

const WASI: &str = "wasi_snapshot_preview1";
/// Error numbers of preview 1.
const BADF: u32 = 8;
const FAULT: u32 = 21;
const SPIPE: u32 = 70;
/// Never used up.
const FUEL: u64 = 1 << 60;
const DEADLINE: Duration = Duration::from_secs(60);

/// What is counted while a module runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Fuel, by every operator.
    pub(crate) fuel: bool,
    /// Epochs: the module looks every so often whether its time is over.
    pub(crate) epochs: bool,
}

/// One module in such a host.
pub(crate) struct Bare {
    engine: Engine,
    module: InstancePre<State>,
    counted: Counted,
    _ticks: Option<Ticks>,
}

/// One run, on the host's side.
struct State {
    args: Strings,
    env: Strings,
    /// Wiped when the run is over, as in the engine.
    stdin: Zeroizing<Vec<u8>>,
    read: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    memory: Option<Memory>,
}

/// Strings as C wants them: NUL-terminated, back to back.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

/// The module ended itself.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
struct Exit(u32);

/// Its time is over.
#[derive(Debug, thiserror::Error)]
#[error("deadline passed")]
struct Late;

impl Bare {
    pub(crate) fn new(wasm: &[u8], counted: Counted) -> Result<Self, Failure> {
        let engine = Engine::new(&config(counted)).map_err(shown)?;
        let module = Module::from_binary(&engine, wasm).map_err(shown)?;
        let mut linker = linker(&engine).map_err(shown)?;
        // What the module imports beside WASI is not called where there is nobody to hand anything to.
        linker.define_unknown_imports_as_traps(&module).map_err(shown)?;
        module.initialize_copy_on_write_image().map_err(shown)?;
        let module = linker.instantiate_pre(&module).map_err(shown)?;
        let ticks = counted.epochs.then(|| Ticks::start(engine.clone()));
        Ok(Self { engine, module, counted, _ticks: ticks })
    }

    /// Runs it once; gives its standard output.
    pub(crate) fn run(&self, args: &[String], input: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut store = Store::new(&self.engine, State::new(args, input));
        if self.counted.fuel {
            store.set_fuel(FUEL).map_err(shown)?;
        }
        if self.counted.epochs {
            let began = Instant::now();
            store.epoch_deadline_callback(move |_| {
                if began.elapsed() >= DEADLINE { Err(Late.into()) } else { Ok(UpdateDeadline::Continue(1)) }
            });
            store.set_epoch_deadline(1);
        }
        let instance = self.module.instantiate(&mut store).map_err(shown)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(shown)?;
        match start.call(&mut store, ()) {
            Err(error) if error.downcast_ref::<Exit>().is_none_or(|exit| exit.0 != 0) => {
                let log = String::from_utf8_lossy(&store.data().stderr).into_owned();
                Err(failed(format!("{error:#}: {log}")))
            }
            _ => Ok(store.into_data().stdout),
        }
    }
}

/// As the agent's engine is set, but for what counts: `EngineConfig::wasmtime` in `src/engine.rs`.
fn config(counted: Counted) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(1)
        .total_memories(1)
        .total_tables(TABLES_MAX)
        .max_memories_per_module(1)
        .max_tables_per_module(TABLES_MAX)
        .max_memory_size(1 << 30)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(128 << 10)
        .table_keep_resident(128 << 10);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(1 << 32)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK)
        .consume_fuel(counted.fuel)
        .epoch_interruption(counted.epochs)
        .cranelift_nan_canonicalization(true)
        .concurrency_support(false);
    config
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut l = Linker::new(engine);
    l.func_wrap(WASI, "args_sizes_get", |c: Caller<'_, State>, count: u32, bytes: u32| {
        answer(c, |memory, state| state.args.sizes(memory, count, bytes))
    })?;
    l.func_wrap(WASI, "args_get", |c: Caller<'_, State>, list: u32, buffer: u32| {
        answer(c, |memory, state| state.args.get(memory, list, buffer))
    })?;
    l.func_wrap(WASI, "environ_sizes_get", |c: Caller<'_, State>, count: u32, bytes: u32| {
        answer(c, |memory, state| state.env.sizes(memory, count, bytes))
    })?;
    l.func_wrap(WASI, "environ_get", |c: Caller<'_, State>, list: u32, buffer: u32| {
        answer(c, |memory, state| state.env.get(memory, list, buffer))
    })?;
    l.func_wrap(WASI, "fd_read", |c: Caller<'_, State>, fd: u32, vecs: u32, count: u32, out: u32| {
        answer(c, |memory, state| state.read(memory, fd, (vecs, count), out))
    })?;
    l.func_wrap(WASI, "fd_write", |c: Caller<'_, State>, fd: u32, vecs: u32, count: u32, out: u32| {
        answer(c, |memory, state| state.write(memory, fd, (vecs, count), out))
    })?;
    l.func_wrap(WASI, "fd_close", |fd: u32| -> u32 {
        if fd < 3 { 0 } else { BADF }
    })?;
    l.func_wrap(WASI, "fd_seek", |fd: u32, _to: u64, _whence: u32, _out: u32| -> u32 {
        if fd < 3 { SPIPE } else { BADF }
    })?;
    l.func_wrap(WASI, "proc_exit", |code: u32| -> wasmtime::Result<()> { Err(Exit(code).into()) })?;
    Ok(l)
}

/// Does a call; what it refuses is an error number.
fn answer(
    mut caller: Caller<'_, State>,
    act: impl FnOnce(&mut [u8], &mut State) -> Result<(), u32>,
) -> wasmtime::Result<u32> {
    let memory = match caller.data().memory {
        Some(memory) => memory,
        None => {
            let found = caller.get_export("memory").and_then(Extern::into_memory);
            let found = found.ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))?;
            caller.data_mut().memory = Some(found);
            found
        }
    };
    let (bytes, state) = memory.data_and_store_mut(caller.as_context_mut());
    Ok(act(bytes, state).err().unwrap_or(0))
}

impl State {
    fn new(args: &[String], input: &[u8]) -> Self {
        let (mut all, mut env) = (Strings::default(), Strings::default());
        all.push("task");
        args.iter().for_each(|arg| all.push(arg));
        env.push(&format!("LEGATION_INPUTS={}", input.len()));
        let stdin = Zeroizing::new(input.to_vec());
        Self { args: all, env, stdin, read: 0, stdout: Vec::new(), stderr: Vec::new(), memory: None }
    }

    fn read(&mut self, memory: &mut [u8], fd: u32, (vecs, count): (u32, u32), out: u32) -> Result<(), u32> {
        if fd != 0 {
            return Err(BADF);
        }
        let mut done = 0;
        for number in 0..count {
            let (at, len) = vector(memory, vecs, number)?;
            let rest = self.stdin.get(self.read..).unwrap_or_default();
            let taken = len.min(rest.len());
            memory.get_mut(at..at + taken).ok_or(FAULT)?.copy_from_slice(&rest[..taken]);
            self.read += taken;
            done += taken;
        }
        put(memory, out, done)
    }

    fn write(&mut self, memory: &mut [u8], fd: u32, (vecs, count): (u32, u32), out: u32) -> Result<(), u32> {
        let stream = match fd {
            1 => &mut self.stdout,
            2 => &mut self.stderr,
            _ => return Err(BADF),
        };
        let mut done = 0;
        for number in 0..count {
            let (at, len) = vector(memory, vecs, number)?;
            stream.extend_from_slice(memory.get(at..at + len).ok_or(FAULT)?);
            done += len;
        }
        put(memory, out, done)
    }
}

impl Strings {
    fn push(&mut self, text: &str) {
        self.offsets.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn sizes(&self, memory: &mut [u8], count: u32, bytes: u32) -> Result<(), u32> {
        put(memory, count, self.offsets.len())?;
        put(memory, bytes, self.bytes.len())
    }

    fn get(&self, memory: &mut [u8], list: u32, buffer: u32) -> Result<(), u32> {
        let at = buffer as usize;
        memory.get_mut(at..at + self.bytes.len()).ok_or(FAULT)?.copy_from_slice(&self.bytes);
        for (place, offset) in (list..).step_by(4).zip(&self.offsets) {
            put(memory, place, at + *offset as usize)?;
        }
        Ok(())
    }
}

/// Place and length that entry `number` of a list of vectors names.
fn vector(memory: &[u8], vecs: u32, number: u32) -> Result<(usize, usize), u32> {
    let at = vecs as usize + number as usize * 8;
    let word = |at: usize| {
        let bytes = memory.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| u32::from_le_bytes(bytes) as usize).ok_or(FAULT)
    };
    Ok((word(at)?, word(at + 4)?))
}

/// Writes a number of 32 bits.
fn put(memory: &mut [u8], at: u32, value: usize) -> Result<(), u32> {
    let (at, value) = (at as usize, u32::try_from(value).map_err(|_| FAULT)?);
    memory.get_mut(at..at + 4).ok_or(FAULT)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Moves the epoch on as often as the agent's engine does.
struct Ticks {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticks {
    fn start(engine: Engine) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(TICK);
                engine.increment_epoch();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and nothing is lost if it did.
            drop(thread.join());
        }
    }
}

fn shown(error: wasmtime::Error) -> Failure {
    failed(format!("{error:#}"))
}
