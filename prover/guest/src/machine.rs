//! The interpreter around one module: a store, an instance, `_start`, and how it ended.

use wasmi::{CompilationMode, Config, Engine, Linker, Module, Store};

use crate::{
    Refused, Witness,
    wasi::{self, Host},
};

/// Runs the module of a witness to its end; gives what it wrote on standard output.
///
/// # Errors
/// It did not end by itself with exit code 0.
pub fn run(witness: &Witness) -> Result<Vec<u8>, Refused> {
    let mut config = Config::default();
    // Functions are validated and translated when they are first called: most of a module never runs, and each instruction of
    // this program costs. Names and other custom sections mean nothing to an execution.
    config.compilation_mode(CompilationMode::Lazy).ignore_custom_sections(true);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, &witness.module[..]).map_err(|why| Refused::Module(why.to_string()))?;
    let mut store = Store::new(&engine, Host::new(witness));
    let mut linker = Linker::<Host>::new(&engine);
    wasi::link(&mut linker, &module).map_err(Refused::Module)?;
    let instance = linker.instantiate_and_start(&mut store, &module).map_err(|why| Refused::Module(why.to_string()))?;
    let start = instance.get_typed_func::<(), ()>(&store, "_start").map_err(|why| Refused::Module(why.to_string()))?;
    match start.call(&mut store, ()) {
        Ok(()) => {}
        Err(why) => match why.i32_exit_status() {
            Some(0) => {}
            Some(code) => return Err(Refused::Exit(code)),
            None => return Err(Refused::Trap(why.to_string())),
        },
    }
    Ok(store.into_data().into_stdout())
}
