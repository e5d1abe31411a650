//! From WebAssembly bytes to something that can run, or a refusal that says what is wrong and what to do.
//!
//! Checks, in order: (1) size, (2) it is a core module or a component, not text or anything else; those of components go on in
//! [`super::component`]; (3) it validates with the features this engine has, (4) it fits the instance pool, (5) its code fits the
//! cache, (6) each import is one of WASI preview 1's or of `legation_task_v1`, with the right signature, (7) `_start` is there and
//! takes and gives nothing, (8) `memory` is exported if anything is imported, (9) its own list of host calls, if it has one, names
//! host functions.

use std::{fmt, ops::Range};

use legation_core::{
    Bytes, Digest, Rejection,
    monitor::{CallSet, HostCall},
};
use wasmtime::{
    ExternType, FuncType, InstancePre, Module,
    component::{self, ComponentExportIndex},
};

use super::{
    EngineConfig, component as composed,
    host::Host,
    wasi::{self, Shim},
};
use crate::monitor::calls;

/// Characters of a module's own words (names, parser messages) that a refusal repeats.
const SHOWN_MAX: usize = 200;
const WASM_PAGE: u64 = 1 << 16;
/// What the library says of whatever is valid but has no room in the pool.
pub(super) const POOL: &str = "pooling allocator";
/// Magic number, version and layer of a core module and of a component (WebAssembly binary format, component model `Binary.md`).
const CORE: [u8; 8] = *b"\0asm\x01\0\0\0";
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const COMPONENT_LAYER: [u8; 2] = [1, 0];

/// A compiled, linked module or component, ready to run on the engine that made it.
pub struct Prepared {
    pub(super) program: Program,
    pub(super) digest: Digest,
    pub(super) code_size: Bytes,
    pub(super) memory_min: Bytes,
    pub(super) declared: CallSet,
}

/// What is begun by a run.
pub(super) enum Program {
    /// Its `_start`.
    Command(InstancePre<Host>),
    /// Its `run`.
    Component(component::InstancePre<Host>, ComponentExportIndex),
}

impl Program {
    pub(super) fn engine(&self) -> &wasmtime::Engine {
        match self {
            Self::Command(pre) => pre.module().engine(),
            Self::Component(pre, _) => pre.engine(),
        }
    }
}

impl Prepared {
    /// SHA-256 of the WebAssembly bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Size of the compiled image.
    pub fn code_size(&self) -> Bytes {
        self.code_size
    }

    /// Linear memory that the module has before its first instruction; a run with less fails with `OutOfMemory`.
    pub fn memory_min(&self) -> Bytes {
        self.memory_min
    }

    /// Host functions that it may call: its imports, or those of them that its `legation.calls` names.
    pub fn declared(&self) -> CallSet {
        self.declared
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("digest", &self.digest)
            .field("code_size", &self.code_size)
            .finish_non_exhaustive()
    }
}

/// Why a module was refused. What the module itself says is shortened and escaped, so this may be logged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// More bytes than [`EngineConfig::module_max`].
    #[error("module is {got}, more than the {max} that this enclave takes")]
    TooLarge {
        /// Size of the module.
        got: Bytes,
        /// What is allowed.
        max: Bytes,
    },
    /// The first bytes are not those of a core module or a component.
    #[error("this is {found}, not a WebAssembly module")]
    NotAModule {
        /// What it seems to be.
        found: &'static str,
        /// What to do.
        fix: &'static str,
    },
    /// It does not validate, or uses a feature that is off.
    #[error("module is malformed: {reason}")]
    Malformed {
        /// The validator's message, with the offset.
        reason: String,
    },
    /// Valid, but its memory, tables or instance data do not fit a slot of the pool, or its code does not fit the cache.
    #[error("module does not fit: {reason}")]
    DoesNotFit {
        /// What does not fit.
        reason: String,
    },
    /// This machine could not prepare it now: it says nothing of the module, which goes elsewhere.
    #[error("this enclave could not prepare the module: {reason}")]
    Machine {
        /// What failed.
        reason: String,
    },
    /// It wants something that a command does not get here.
    #[error("unknown import `{module}` `{name}`")]
    UnknownImport {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
    },
    /// The import exists but not with this type.
    #[error("import `{name}` has the wrong signature: it is {expected}, the module wants {got}")]
    ImportType {
        /// The import's name.
        name: String,
        /// The type it has.
        expected: String,
        /// The type the module wants.
        got: String,
    },
    /// No `_start`: a library or a reactor.
    #[error("module exports no `_start`{}", if *.reactor { ": it is a reactor, not a command" } else { "" })]
    NoStart {
        /// It exports `_initialize` instead.
        reactor: bool,
    },
    /// `_start` is not a function without parameters and results.
    #[error("`_start` must take and return nothing, it is {got}")]
    StartType {
        /// What it is.
        got: String,
    },
    /// It calls the system but exports no memory to exchange data in.
    #[error("module imports system calls but exports no memory named `memory`")]
    NoMemory,
    /// A component that is not of the world `legation:task`.
    #[error("component is not of the world `legation:task`: {reason}")]
    World {
        /// What is missing, or otherwise there.
        reason: String,
    },
    /// Its custom section `legation.calls` is no list of host functions.
    #[error("its `legation.calls` does not count: {reason}")]
    Calls {
        /// What is wrong with it.
        reason: String,
    },
}

impl PrepareError {
    /// A stable short name for the check that refused.
    pub fn check(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "module.size",
            Self::NotAModule { .. } => "module.kind",
            Self::Malformed { .. } => "module.valid",
            Self::DoesNotFit { .. } => "module.fits",
            Self::Machine { .. } => "module.machine",
            Self::UnknownImport { .. } => "module.import",
            Self::ImportType { .. } => "module.import_type",
            Self::NoStart { .. } => "module.start",
            Self::StartType { .. } => "module.start_type",
            Self::NoMemory => "module.memory",
            Self::World { .. } => "module.world",
            Self::Calls { .. } => "module.calls",
        }
    }

    /// What would make it pass.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => {
                "strip it (`wasm-strip`, `-C strip=symbols`, `-Wl,-s`), optimise for size, or pass data as an input"
            }
            Self::NotAModule { fix, .. } => fix,
            Self::Malformed { .. } => {
                "check that the file is whole; build without threads, exceptions, GC, memory64, multi-memory and relaxed SIMD"
            }
            Self::DoesNotFit { .. } => {
                "declare less initial memory, fewer tables or less code, or use an enclave with larger limits"
            }
            Self::UnknownImport { module, .. } => wasi::import_fix(module),
            Self::Machine { .. } => "nothing: the work goes to another enclave",
            Self::ImportType { .. } => "rebuild with a toolchain for `wasm32-wasip1`",
            Self::NoStart { .. } => {
                "build it as a command, with a `main`: `crt1-command.o`, `--target wasm32-wasip1` and a binary target"
            }
            Self::StartType { .. } => "export `_start` as `(func)`; C and Rust toolchains do so by themselves",
            Self::World { .. } => {
                "build it for the world `task` of `guests/wit/task.wit`, as docs/write-a-task.md says"
            }
            Self::NoMemory => "export the memory as `memory`, as wasm-ld does unless told otherwise",
            Self::Calls { .. } => {
                "name host functions, as docs/monitor.md lists them, with commas between them, in one section"
            }
        }
    }
}

impl From<&PrepareError> for Rejection {
    fn from(error: &PrepareError) -> Self {
        Self::new(error.check(), error.to_string()).fix(error.fix())
    }
}

/// Checks 1 and 2: what can be said before anything is hashed.
pub(super) fn check_envelope(wasm: &[u8], config: &EngineConfig) -> Result<(), PrepareError> {
    let got = Bytes(wasm.len() as u64);
    if got > config.module_max {
        return Err(PrepareError::TooLarge { got, max: config.module_max });
    }
    if wasm.starts_with(&CORE) || wasm.starts_with(&COMPONENT) {
        return Ok(());
    }
    let (found, fix) = if wasm.is_empty() {
        ("an empty file", "check the path and the build")
    } else if wasm.starts_with(&CORE[..4]) && wasm.get(6..8) == Some(&COMPONENT_LAYER) {
        (
            "a component of another version",
            "build with tools that make components of preview 2 (version 13 of the binary format)",
        )
    } else if wasm.starts_with(&CORE[..4]) {
        ("WebAssembly of another version", "build for version 1 of the core binary format")
    } else if wasm.trim_ascii_start().starts_with(b"(") || wasm.starts_with(b";;") {
        ("WebAssembly text", "translate it with `wat2wasm`")
    } else if wasm.starts_with(b"\x7fELF") {
        ("a native program", "build for `wasm32-wasip1`")
    } else {
        ("something else", "build for `wasm32-wasip1`")
    };
    Err(PrepareError::NotAModule { found, fix })
}

/// Checks 3 to 9, and the compilation between them.
pub(super) fn compile(
    engine: &wasmtime::Engine,
    shim: &Shim,
    config: &EngineConfig,
    digest: Digest,
    wasm: &[u8],
) -> Result<Prepared, PrepareError> {
    if wasm.starts_with(&COMPONENT) {
        return composed::compile(engine, shim, config, digest, wasm);
    }
    // Validation alone costs little and tells a broken module from one that is only too demanding.
    Module::validate(engine, wasm).map_err(|e| PrepareError::Malformed { reason: shown(&format!("{e:#}")) })?;
    let module = Module::from_binary(engine, wasm).map_err(|error| {
        let reason = format!("{error:#}");
        if reason.contains(POOL) {
            return PrepareError::DoesNotFit { reason: shown(&reason) };
        }
        machine(&error)
    })?;

    let code_size = check_code(module.image_range(), config)?;
    let imported = check_imports(&module, shim)?;
    check_exports(&module)?;
    let declared =
        calls::declared(wasm, imported).map_err(|e| PrepareError::Calls { reason: shown(&e.to_string()) })?;

    // Made now rather than by the first run.
    module.initialize_copy_on_write_image().map_err(|e| machine(&e))?;
    let memory_min = pages(module.resources_required().max_initial_memory_size);
    let pre = shim.linker.instantiate_pre(&module).map_err(|e| machine(&e))?;
    Ok(Prepared { program: Program::Command(pre), digest, code_size, memory_min, declared })
}

/// What has validated, and fits, failed all the same: for want of memory or address space, or by a limit of the compiler for this
/// processor.
pub(super) fn machine(error: &wasmtime::Error) -> PrepareError {
    PrepareError::Machine { reason: shown(&format!("{error:#}")) }
}

/// Check 5; gives the size of the code.
pub(super) fn check_code(image: Range<*const u8>, config: &EngineConfig) -> Result<Bytes, PrepareError> {
    let code_size = Bytes((image.end as usize).saturating_sub(image.start as usize) as u64);
    if code_size > config.cache_bytes {
        let reason = format!("its compiled code is {code_size}, more than the {} kept", config.cache_bytes);
        return Err(PrepareError::DoesNotFit { reason });
    }
    Ok(code_size)
}

/// Bytes of so many pages of memory.
pub(super) fn pages(count: Option<u64>) -> Bytes {
    Bytes(count.unwrap_or(0).saturating_mul(WASM_PAGE))
}

/// Gives what is imported.
fn check_imports(module: &Module, shim: &Shim) -> Result<CallSet, PrepareError> {
    let mut imported = CallSet::EMPTY;
    for import in module.imports() {
        let Some(expected) = shim.function(import.module(), import.name()) else {
            return Err(PrepareError::UnknownImport { module: shown(import.module()), name: shown(import.name()) });
        };
        let matches = matches!(import.ty(), ExternType::Func(got) if FuncType::eq(&got, expected));
        if !matches {
            let (expected, got) = (expected.to_string(), type_text(&import.ty()));
            return Err(PrepareError::ImportType { name: shown(import.name()), expected, got });
        }
        // All that is linked has a number.
        imported.extend(HostCall::named(import.name()));
    }
    Ok(imported)
}

fn check_exports(module: &Module) -> Result<(), PrepareError> {
    match module.get_export("_start") {
        None => return Err(PrepareError::NoStart { reactor: module.get_export("_initialize").is_some() }),
        Some(ExternType::Func(ty)) if ty.params().len() == 0 && ty.results().len() == 0 => {}
        Some(other) => return Err(PrepareError::StartType { got: type_text(&other) }),
    }
    let has_memory = matches!(module.get_export("memory"), Some(ExternType::Memory(_)));
    if module.imports().len() > 0 && !has_memory {
        return Err(PrepareError::NoMemory);
    }
    Ok(())
}

fn type_text(ty: &ExternType) -> String {
    match ty {
        // A hostile type may have a thousand parameters.
        ExternType::Func(f) => shown(&f.to_string()),
        ExternType::Global(_) => "a global".into(),
        ExternType::Table(_) => "a table".into(),
        ExternType::Memory(_) => "a memory".into(),
        ExternType::Tag(_) => "a tag".into(),
    }
}

/// Foreign words, made short and printable.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        out.push('…');
    }
    out
}
