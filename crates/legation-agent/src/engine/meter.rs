//! The one way by which any host function is counted, checked against what is declared, charged and traced: those of commands
//! ([`super::wasi`], [`super::delegate`]) and those of components ([`super::world`]).

use legation_core::monitor::HostCall;
use wasmtime::AsContextMut;

use super::{RunFailure, guest::Errno, host::Host};
use crate::monitor::calls::NO_ANSWER;

/// What any host call costs: about the time of as many operators.
const CALL_FUEL: u64 = 100;
/// What a byte that is hashed costs beyond its copy: SHA-256 is that much slower than copying.
pub(super) const HASH_FUEL: u64 = 3;

/// The number of a function, by which traces and declarations know it.
pub(super) fn numbered(name: &str) -> wasmtime::Result<HostCall> {
    HostCall::named(name).ok_or_else(|| wasmtime::Error::msg(format!("host function `{name}` has no number")))
}

/// Counts, checks and charges the call, does it, and notes it under the number that it gives; an error ends the run.
pub(super) fn metered<S: AsContextMut<Data = Host>, T>(
    which: HostCall,
    store: &mut S,
    act: impl FnOnce(&mut S) -> wasmtime::Result<(Errno, T)>,
) -> wasmtime::Result<T> {
    let mut context = store.as_context_mut();
    let host = context.data_mut();
    host.host_calls += 1;
    host.handed.wipe();
    if !host.declared.contains(which) {
        host.trace.note(which, NO_ANSWER);
        return Err(host.stop(Err(RunFailure::Undeclared { call: which.name() })));
    }
    let done = charge(store, CALL_FUEL).and_then(|()| act(store));
    let (noted, done) = match done {
        Ok((errno, given)) => (errno.0, Ok(given)),
        Err(error) => (NO_ANSWER, Err(error)),
    };
    store.as_context_mut().data_mut().trace.note(which, noted);
    done
}

/// Takes so much fuel, or all that is left and ends the run.
pub(super) fn charge(store: &mut impl AsContextMut<Data = Host>, fuel: u64) -> wasmtime::Result<()> {
    let mut context = store.as_context_mut();
    match context.get_fuel()?.checked_sub(fuel) {
        Some(left) => context.set_fuel(left),
        None => {
            context.set_fuel(0)?;
            Err(context.data_mut().stop(Err(RunFailure::OutOfFuel)))
        }
    }
}
