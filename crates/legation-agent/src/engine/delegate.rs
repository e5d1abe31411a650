//! `legation_task_v1`: how a plain command has parts of its task run by other enclaves. C declarations are in
//! `guests/src/delegate.h`, a guide in `docs/write-a-task.md`.
//!
//! | function | gives |
//! |---|---|
//! | `delegate_start(module, input, input_len, options, options_len)` | a handle; `module` points to the 32 bytes of a SHA-256, `options` to JSON ([`super::AskOptions`]) or to nothing |
//! | `delegate_wait(handle)` | bytes of the answer, once it is there |
//! | `delegate_read(handle, to, len)` | bytes copied, from where the last read ended; 0 at the end |
//! | `delegate_error(handle, to, len)` | bytes of the reason copied; of handle -1, why the last start was refused |
//! | `delegate_close(handle)` | 0 |
//!
//! All take and give 32-bit integers. What is below zero is a WASI errno with its sign turned: -8 no such handle, -12 it ran there
//! and failed, -21 a pointer outside memory, -23 nobody answered, -28 malformed, -33 too much at once, -35 too long,
//! -76 not allowed, -6 not waited for yet.
//!
//! Each call costs what any host call costs. On top come a byte for each byte that is copied, [`HASH_FUEL`] more for each that is
//! committed to (inputs, and answers when they are waited for). Fuel that is used elsewhere is not this module's.
//! A question is begun by `delegate_start` and goes on by itself, so several are asked at once by starting them before the first wait.

use legation_core::{Bytes, Digest, monitor::HostCall};
use wasmtime::{Caller, Linker};

use super::{
    guest::Errno,
    host::Host,
    meter::{HASH_FUEL, numbered},
    wasi::{Call, Refusal, perform},
};

pub(super) const MODULE: &str = "legation_task_v1";

/// Most bytes of a question's input.
pub(super) const INPUT_MAX: Bytes = Bytes::mib(64);
/// Most bytes of its options: as many as arguments may have, and some.
pub(super) const OPTIONS_MAX: u32 = 256 << 10;
/// Bytes of a digest.
const DIGEST: u32 = 32;

/// A range of the guest's memory, by its own word.
type Range = (u32, u32);

/// Links the functions under their numbers.
pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let which = numbered("delegate_start")?;
    linker.func_wrap(
        MODULE,
        "delegate_start",
        move |caller: Caller<'_, Host>, module: u32, input: u32, input_len: u32, options: u32, options_len: u32| {
            answer(which, caller, |call| start(call, module, (input, input_len), (options, options_len)))
        },
    )?;
    let which = numbered("delegate_wait")?;
    linker.func_wrap(MODULE, "delegate_wait", move |caller: Caller<'_, Host>, handle: u32| {
        answer(which, caller, |call| wait(call, handle))
    })?;
    let which = numbered("delegate_read")?;
    linker.func_wrap(MODULE, "delegate_read", move |caller: Caller<'_, Host>, handle: u32, to: u32, len: u32| {
        answer(which, caller, |call| read(call, handle, (to, len)))
    })?;
    let which = numbered("delegate_error")?;
    linker.func_wrap(MODULE, "delegate_error", move |caller: Caller<'_, Host>, handle: u32, to: u32, len: u32| {
        answer(which, caller, |call| error(call, handle, (to, len)))
    })?;
    let which = numbered("delegate_close")?;
    linker.func_wrap(MODULE, "delegate_close", move |caller: Caller<'_, Host>, handle: u32| {
        answer(which, caller, |call| Ok(call.host().asking.close(handle).map(|()| 0)?))
    })?;
    Ok(())
}

/// What a function gives: its value, or an errno below zero.
fn answer<'a>(
    which: HostCall,
    caller: Caller<'a, Host>,
    act: impl FnOnce(&mut Call<'a>) -> Result<u32, Refusal>,
) -> wasmtime::Result<i32> {
    Ok(match perform(which, caller, act)? {
        // Every value that is given here is bounded far below.
        Ok(value) => i32::try_from(value).unwrap_or(i32::MAX),
        Err(errno) => i32::from(errno.0).saturating_neg(),
    })
}

fn start(call: &mut Call<'_>, module: u32, input: Range, options: Range) -> Result<u32, Refusal> {
    if u64::from(input.1) > INPUT_MAX.0 || options.1 > OPTIONS_MAX {
        return Err(Errno::MSGSIZE.into());
    }
    let (guest, _) = call.split()?;
    guest.bytes(module, DIGEST)?;
    guest.bytes(input.0, input.1)?;
    guest.bytes(options.0, options.1)?;
    let moved = DIGEST.saturating_add(input.1).saturating_add(options.1);
    call.charge(u64::from(moved).saturating_add(u64::from(input.1) * HASH_FUEL))?;
    let (guest, host) = call.split()?;
    host.trace.moves(moved);
    let digest: [u8; DIGEST as usize] = guest.bytes(module, DIGEST)?.try_into().map_err(|_| Errno::FAULT)?;
    let options = host.asking.options(guest.bytes(options.0, options.1)?)?;
    let input = guest.bytes(input.0, input.1)?;
    Ok(host.asking.start(Digest::from_bytes(digest), input, &options)?)
}

fn wait(call: &mut Call<'_>, handle: u32) -> Result<u32, Refusal> {
    let ended = loop {
        let host = call.host();
        match host.asking.wait(handle) {
            Ok(None) => {}
            Ok(Some(ended)) => break ended?,
            Err(failure) => return Err(host.stop(Err(failure)).into()),
        }
    };
    call.host().trace.moves(ended);
    call.charge(u64::from(ended) * HASH_FUEL)?;
    Ok(ended)
}

fn read(call: &mut Call<'_>, handle: u32, to: Range) -> Result<u32, Refusal> {
    let (guest, host) = call.split()?;
    guest.bytes(to.0, to.1)?;
    let left = host.asking.rest(handle)?.len();
    let read = u32::try_from(left).unwrap_or(u32::MAX).min(to.1);
    call.charge(read.into())?;
    let (mut guest, host) = call.split()?;
    let rest = host.asking.rest(handle)?;
    let bytes = rest.get(..read as usize).ok_or(Errno::FAULT)?;
    guest.bytes_mut(to.0, read)?.copy_from_slice(bytes);
    host.asking.advance(handle, read as usize);
    host.trace.moves(read);
    Ok(read)
}

fn error(call: &mut Call<'_>, handle: u32, to: Range) -> Result<u32, Refusal> {
    let handle = (handle != u32::MAX).then_some(handle);
    let (guest, host) = call.split()?;
    guest.bytes(to.0, to.1)?;
    let read = u32::try_from(host.asking.why(handle)?.len()).unwrap_or(u32::MAX).min(to.1);
    // By the room for them, not by the words, which may be others elsewhere.
    call.charge(to.1.into())?;
    let (mut guest, host) = call.split()?;
    let bytes = host.asking.why(handle)?.as_bytes().get(..read as usize).ok_or(Errno::FAULT)?;
    guest.bytes_mut(to.0, read)?.copy_from_slice(bytes);
    // Nothing of them is in the trace either.
    Ok(read)
}
