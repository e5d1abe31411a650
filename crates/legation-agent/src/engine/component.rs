//! Components of the world `legation:task`: from bytes to something that can run, and their run.
//!
//! Checks that take the place of those of modules from (3) on: (3) its parts are laid out so that what it instantiates grows no
//! faster than it does, (4) it validates and fits the instance pool, (5) its code fits the cache, (6) it imports interfaces of the
//! world ([`super::world`]) and of them what is there, (7) it exports `run: func() -> result<_, string>`, (8) its imports have the
//! types of the world, (9) its own list of host calls, if it has one, names host functions.
//!
//! A component has one memory at most, as a command has, so all limits of memory mean the same for both.

use legation_core::{Digest, monitor::CallSet};
use wasmtime::{
    Store, Trap,
    component::{
        Component, ComponentExportIndex, InstancePre, Type,
        types::{ComponentFunc, ComponentItem},
    },
};

use super::{
    EngineConfig, RunFailure,
    host::Host,
    layout,
    module::{POOL, PrepareError, Prepared, Program, check_code, machine, pages, shown},
    wasi::Shim,
    world,
};
use crate::monitor::calls;

/// What every component of the world exports, in the root.
const RUN: &str = "run";
/// What the library says first of whatever does not validate.
const MALFORMED: &str = "failed to parse WebAssembly module";

/// Checks 3 to 9, and the compilation between them.
pub(super) fn compile(
    engine: &wasmtime::Engine,
    shim: &Shim,
    config: &EngineConfig,
    digest: Digest,
    wasm: &[u8],
) -> Result<Prepared, PrepareError> {
    layout::check(wasm)?;
    let component = Component::from_binary(engine, wasm).map_err(|error| {
        let reason = format!("{error:#}");
        if reason.starts_with(MALFORMED) {
            PrepareError::Malformed { reason: shown(&reason) }
        } else if reason.contains(POOL) {
            PrepareError::DoesNotFit { reason: shown(&reason) }
        } else {
            machine(&error)
        }
    })?;
    let code_size = check_code(component.image_range(), config)?;
    let imported = check_imports(engine, &component)?;
    let run = check_run(&component)?;
    let world = |error: wasmtime::Error| PrepareError::World { reason: shown(&format!("{error:#}")) };
    let pre = shim.world.linker.instantiate_pre(&component).map_err(world)?;
    let declared =
        calls::declared(wasm, imported).map_err(|e| PrepareError::Calls { reason: shown(&e.to_string()) })?;

    component.initialize_copy_on_write_image().map_err(|e| machine(&e))?;
    let memory_min = pages(component.resources_required().and_then(|required| required.max_initial_memory_size));
    Ok(Prepared { program: Program::Component(pre, run), digest, code_size, memory_min, declared })
}

/// Gives what is imported, by the host calls that it comes to.
fn check_imports(engine: &wasmtime::Engine, component: &Component) -> Result<CallSet, PrepareError> {
    let mut imported = CallSet::EMPTY;
    let ty = component.component_type();
    for (interface, import) in ty.imports(engine) {
        let unknown = |name: &str| PrepareError::UnknownImport { module: shown(interface), name: shown(name) };
        let ComponentItem::ComponentInstance(instance) = &import.ty else { return Err(unknown("")) };
        if ![world::HOST, world::DELEGATION].contains(&interface) {
            return Err(unknown(instance.exports(engine).next().map_or("", |(name, _)| name)));
        }
        for (name, item) in instance.exports(engine) {
            // Types have names as well; whether they are the right ones is seen when they are linked.
            if matches!(item.ty, ComponentItem::Type(_)) {
                continue;
            }
            imported.extend(world::calls(interface, name).ok_or_else(|| unknown(name))?);
        }
    }
    Ok(imported)
}

fn check_run(component: &Component) -> Result<ComponentExportIndex, PrepareError> {
    let world = |reason: &str| PrepareError::World { reason: reason.to_owned() };
    match component.get_export(None, RUN) {
        Some((ComponentItem::ComponentFunc(run), index)) if is_run(&run) => Ok(index),
        Some((ComponentItem::ComponentFunc(_), _)) => Err(world("its `run` is not `func() -> result<_, string>`")),
        Some(_) => Err(world("its `run` is no function")),
        None => Err(world("it exports no function `run`")),
    }
}

fn is_run(ty: &ComponentFunc) -> bool {
    let mut results = ty.results();
    let (result, more) = (results.next(), results.next());
    let right = match &result {
        Some(Type::Result(result)) => result.ok().is_none() && matches!(result.err(), Some(Type::String)),
        _ => false,
    };
    right && more.is_none() && ty.params().len() == 0 && !ty.async_()
}

/// Instantiates the component and calls its `run`. An error that this gives is told in the log and ends the run as a command's exit
/// code 1 does.
pub(super) fn run(
    store: &mut Store<Host>,
    pre: &InstancePre<Host>,
    run: &ComponentExportIndex,
) -> wasmtime::Result<()> {
    store.set_hostcall_fuel(world::LIFTED_MAX);
    let instance = pre.instantiate(&mut *store)?;
    let run = instance.get_typed_func::<(), (Result<(), String>,)>(&mut *store, run)?;
    match run.call(&mut *store, ()) {
        Ok((Ok(()),)) => Ok(()),
        Ok((Err(why),)) => {
            let host = store.data_mut();
            host.log(why.as_bytes());
            host.log(b"\n");
            Err(host.stop(Err(RunFailure::Exit(1))))
        }
        Err(error) => {
            // Nothing is instantiated any more. What is no trap, and not the host's doing, is a result that is no value.
            if error.downcast_ref::<Trap>().is_none() && error.downcast_ref::<wasmtime::WasmBacktrace>().is_none() {
                let why = shown(&error.root_cause().to_string());
                return Err(store.data_mut().stop(Err(RunFailure::Trap(why))));
            }
            Err(error)
        }
    }
}
