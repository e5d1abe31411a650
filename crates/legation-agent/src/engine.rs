//! The workload engine: runs one WebAssembly **WASI preview-1 command** (stdin → stdout, arguments, exit code), or one **component**
//! of the world `legation:task`, at a time per call. Its first bytes say which it is.
//!
//! It is *not* a scheduler, a queue or a sandbox for files and sockets: a module has no file, no network, no clock that moves and
//! no randomness but a stream drawn from the caller's seed. It decides nothing about who may run what.
//!
//! Invariants
//! 1. One fresh store per run; nothing of a run outlives it but the [`RunOutcome`]. Pool slots are wiped before they are reused.
//! 2. Same module, arguments, inputs, seed, time and limits give the same output, fuel, host calls and failure, but for the
//!    failures that are no vote ([`legation_core::delegation::vote::SILENT`]). Fuel is comparable only within one engine version.
//! 3. Every run ends: by fuel, by the deadline or by [`Cancel`], about one tick ([`TICK`]) late. Host calls cost fuel in
//!    proportion to the bytes they move.
//! 4. No pointer or length of a guest can panic the host: each is checked against the memory as it is at that moment.
//! 5. Native code is made here and only here, from WebAssembly that validated; nothing precompiled is ever accepted.
//! 6. A host call outside the module's declared set ([`crate::monitor::calls`]) ends the run before it does anything; all are
//!    traced, in their order.

mod asking;
mod cache;
mod component;
mod delegate;
mod guest;
mod host;
mod layout;
mod meter;
mod module;
mod random;
mod run;
mod slots;
mod ticker;
mod wasi;
mod world;

use std::{io, sync::Arc, time::Duration};

use legation_core::{Bytes, Digest, Rejection};
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

pub use asking::{ASKED_MAX, Ask, AskError, AskOptions, Delegations, OPEN_MAX, OUTPUT_DEFAULT};
pub(crate) use cache::MAKING_MAX;
pub use module::{PrepareError, Prepared};
pub use run::{Cancel, RunFailure, RunInput, RunOutcome, Usage};

use cache::Cache;
use slots::Slots;
use ticker::Ticker;
use wasi::Shim;

/// WebAssembly's own stack, in bytes. The thread that calls [`Engine::run`] needs this much and 512 KiB more; the usual 2 MiB do.
pub const WASM_STACK: usize = 1 << 20;
/// How often running modules look at their deadline and at [`Cancel`].
pub const TICK: Duration = Duration::from_millis(2);
/// Most elements that one table may have.
pub const TABLE_ELEMENTS_MAX: usize = 1 << 16;
/// Most tables that one module, or one component, may have.
pub const TABLES_MAX: u32 = 4;
/// Most core instances that one component may have: an interpreter with its libraries has about 40.
pub const CORE_INSTANCES_MAX: u32 = 128;
/// Most runs at a time that [`EngineConfig::instances_max`] can ask for; each reserves 4 GiB of address space.
pub const INSTANCES_MAX: u32 = 1024;

/// Address space reserved per memory: all that 32-bit WebAssembly can address, so that loads need no bounds check.
const MEMORY_RESERVATION: u64 = 1 << 32;
/// Inaccessible address space behind each memory.
const MEMORY_GUARD: u64 = 32 << 20;
/// What stays resident, wiped, of a memory slot between runs; the rest goes back to the system.
const KEEP_RESIDENT: usize = 128 << 10;
/// Most that the instances of one component take on the host's side, beside memories and tables.
const COMPONENT_STATE_MAX: usize = 4 << 20;
/// Frames looked at to say where a module trapped.
const TRAP_FRAMES: usize = 4;

/// Sizes of one engine. All are hard limits; none falls back to something slower.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Runs at a time, 1 to [`INSTANCES_MAX`]; one more fails with [`RunFailure::Busy`].
    pub instances_max: u32,
    /// Most linear memory that one run may have, 64 KiB to 4 GiB.
    pub memory_max: Bytes,
    /// Largest module or component accepted. Compiling costs one to three seconds of CPU per MiB of honest code (a component from
    /// Python has about 6, one from JavaScript 9) and cannot be interrupted. Hostile code costs far more: half a MiB may take half
    /// a minute and more than a GiB of memory. So few compile at a time, however many are asked for.
    pub module_max: Bytes,
    /// Compiled modules kept, at least 1.
    pub cache_modules: usize,
    /// Compiled code kept; a module that alone needs more is refused.
    pub cache_bytes: Bytes,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            instances_max: 64,
            memory_max: Bytes::gib(1),
            module_max: Bytes::mib(32),
            cache_modules: 64,
            cache_bytes: Bytes::mib(512),
        }
    }
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A size is out of range.
    #[error("engine configuration refused: {0}")]
    Config(Box<Rejection>),
    /// The system refused address space, or this processor lacks what the compiler needs.
    #[error("wasmtime did not start: {0}")]
    Start(String),
    /// The ticker thread did not start.
    #[error("ticker thread did not start")]
    Ticker(#[source] io::Error),
}

/// The engine. Cheap to clone; clones share the instance pool and the compiled modules.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasm: wasmtime::Engine,
    shim: Shim,
    cache: Cache,
    ticker: Ticker,
    slots: Slots,
    config: EngineConfig,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// Reserves the instance pool and starts the ticker thread, which ends when the last clone is dropped.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        config.check().map_err(|refusal| EngineError::Config(Box::new(refusal)))?;
        let start = |e: wasmtime::Error| EngineError::Start(format!("{e:#}"));
        let wasm = wasmtime::Engine::new(&config.wasmtime()).map_err(start)?;
        let shim = Shim::new(&wasm).map_err(start)?;
        let ticker = Ticker::start(wasm.clone()).map_err(EngineError::Ticker)?;
        let cache = Cache::new(config.cache_modules, config.cache_bytes);
        let slots = Slots::new(config.instances_max);
        Ok(Self(Arc::new(Inner { wasm, shim, cache, ticker, slots, config })))
    }

    /// Compiles `wasm`, or finds it compiled. Blocking; callers with the same bytes wait for one compilation, and two compile at a
    /// time.
    pub fn prepare(&self, wasm: &[u8]) -> Result<Arc<Prepared>, PrepareError> {
        module::check_envelope(wasm, &self.0.config)?;
        let digest = Digest::of(wasm);
        self.0.cache.get_or_make(digest, || module::compile(&self.0.wasm, &self.0.shim, &self.0.config, digest, wasm))
    }

    /// The compiled module whose WebAssembly bytes have this SHA-256, if it is still kept.
    pub fn cached(&self, digest: &Digest) -> Option<Arc<Prepared>> {
        self.0.cache.get(digest)
    }

    /// Runs `module` to its end. Blocking: call it on a thread that may block and that has [`WASM_STACK`] to spare.
    pub fn run(&self, module: &Prepared, input: RunInput<'_>, cancel: &Cancel) -> RunOutcome {
        run::run(&self.0, module, &input, cancel)
    }
}

impl EngineConfig {
    fn check(&self) -> Result<(), Rejection> {
        let range = |name: &str, got: u64, least: u64, most: u64| {
            if (least..=most).contains(&got) {
                return Ok(());
            }
            Err(Rejection::new("engine.config", name)
                .expected(format_args!("{least} to {most}"))
                .got(got)
                .fix(format_args!("set {name} within the range")))
        };
        range("instances_max", self.instances_max.into(), 1, INSTANCES_MAX.into())?;
        range("memory_max", self.memory_max.0, 1 << 16, MEMORY_RESERVATION)?;
        range("module_max", self.module_max.0, 8, 1 << 30)?;
        range("cache_modules", self.cache_modules as u64, 1, 1 << 16)?;
        range("cache_bytes", self.cache_bytes.0, 1 << 20, u64::MAX)
    }

    fn wasmtime(&self) -> Config {
        let mut pool = PoolingAllocationConfig::new();
        // Checked to be at most 4 GiB; a host whose usize is smaller is refused by wasmtime itself.
        let memory_max = usize::try_from(self.memory_max.0).unwrap_or(usize::MAX);
        // Of runs there are never more than `instances_max` ([`Slots`]), so the totals are what so many components may have.
        pool.total_core_instances(self.instances_max.saturating_mul(CORE_INSTANCES_MAX))
            .total_component_instances(self.instances_max)
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .max_component_instance_size(COMPONENT_STATE_MAX)
            .max_memories_per_component(1)
            .max_tables_per_component(TABLES_MAX)
            .total_memories(self.instances_max)
            .total_tables(self.instances_max.saturating_mul(TABLES_MAX))
            .max_memories_per_module(1)
            .max_tables_per_module(TABLES_MAX)
            .max_memory_size(memory_max)
            .table_elements(TABLE_ELEMENTS_MAX)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_RESIDENT);

        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .memory_reservation(MEMORY_RESERVATION)
            .memory_guard_size(MEMORY_GUARD)
            .memory_may_move(false)
            .memory_init_cow(true)
            .max_wasm_stack(WASM_STACK)
            .consume_fuel(true)
            .epoch_interruption(true)
            .cranelift_nan_canonicalization(true)
            .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(TRAP_FRAMES))
            .concurrency_support(false);
        // What would make two machines disagree, or what no task needs. Threads, garbage collection, exceptions and the asynchronous
        // half of the component model are not compiled into this engine at all.
        config
            .wasm_relaxed_simd(false)
            .wasm_shared_everything_threads(false)
            .wasm_stack_switching(false)
            .wasm_memory64(false)
            .wasm_multi_memory(false)
            .wasm_custom_page_sizes(false)
            .wasm_wide_arithmetic(false);
        config
    }
}
