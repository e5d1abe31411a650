//! The world `legation:task`: host functions of components. `guests/wit/task.wit` is its text, `docs/write-a-task.md` a guide.
//!
//! They are the functions of commands once more, with other types: the same input, output, log, clock, randomness and questions,
//! counted, charged and traced in the same way ([`metered`]). There is *no* WASI here, nor any resource: a handle would be one more
//! thing that a component could hoard.
//!
//! Bytes and texts that a component hands over are not copied before they are charged ([`WasmList`], [`WasmStr`]: pointer and length
//! are checked by the library); all that one call hands over is bounded by [`LIFTED_MAX`]. What is given to a component is bounded per
//! call as well ([`PIECE_MAX`], and outputs of questions by what was set aside for them). A call costs what any host call costs, and
//! a byte for each byte that is copied; [`HASH_FUEL`] more for each that is committed to or drawn.
//! Inputs, answers and randomness that a component is given are wiped on this side by its next call ([`super::host::Handed`]).
//! What a component hands over against the rules of the canonical ABI (a text that is not UTF-8, a list outside its memory) is a trap.

use std::sync::Arc;

use legation_core::{Bytes, Digest, monitor::HostCall};
use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Linker, Lower, WasmList, WasmStr},
};
use zeroize::Zeroizing;

use super::{
    RunFailure,
    delegate::{INPUT_MAX, OPTIONS_MAX},
    guest::Errno,
    host::Host,
    meter::{HASH_FUEL, charge, metered, numbered},
};

/// What every task has.
pub(super) const HOST: &str = "legation:task/host@1.0.0";
/// How parts are handed on.
pub(super) const DELEGATION: &str = "legation:task/delegation@1.0.0";
/// Most bytes that a component hands over in one call: a question's input, its options, and some.
pub(super) const LIFTED_MAX: usize = (INPUT_MAX.0 as usize) + (OPTIONS_MAX as usize) + 4096;

/// Most bytes of inputs, or of randomness, that one call gives.
const PIECE_MAX: u32 = 1 << 20;
/// What asking why costs: by the room for the words, not by the words, which may be others elsewhere.
const WHY_FUEL: u64 = 2048;
const NANOS: u64 = 1_000_000_000;

/// The functions of an interface, and the host calls that each of them makes.
#[rustfmt::skip]
const FUNCTIONS: &[(&str, &str, &[&str])] = &[
    (HOST, "args", &["task_args"]),
    (HOST, "inputs", &["task_inputs"]),
    (HOST, "read", &["task_read"]),
    (HOST, "write", &["task_write"]),
    (HOST, "log", &["task_log"]),
    (HOST, "now", &["task_now"]),
    (HOST, "random", &["task_random"]),
    (DELEGATION, "delegate", &["delegate_start", "delegate_wait"]),
    (DELEGATION, "start", &["delegate_start"]),
    (DELEGATION, "wait", &["delegate_wait"]),
    (DELEGATION, "forget", &["delegate_close"]),
    (DELEGATION, "why", &["delegate_error"]),
];

/// The linked functions.
pub(super) struct World {
    pub(super) linker: Linker<Host>,
}

/// Why a question has no answer, as a component is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum Cause {
    #[component(name = "not-allowed")]
    NotAllowed,
    #[component(name = "invalid")]
    Invalid,
    #[component(name = "too-many")]
    TooMany,
    #[component(name = "unanswered")]
    Unanswered,
    #[component(name = "failed")]
    Failed,
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOTCAPABLE => Self::NotAllowed,
            Errno::MFILE => Self::TooMany,
            Errno::HOSTUNREACH => Self::Unanswered,
            Errno::CHILD => Self::Failed,
            _ => Self::Invalid,
        }
    }
}

type Context<'a> = StoreContextMut<'a, Host>;
/// What is noted of a call, and what it gives; an error ends the run.
type Given<T> = wasmtime::Result<(Errno, T)>;

/// The host calls of a function of the world, if it has one of this name.
pub(super) fn calls(interface: &str, function: &str) -> Option<impl Iterator<Item = HostCall>> {
    let (_, _, calls) = FUNCTIONS.iter().find(|(of, name, _)| (*of, *name) == (interface, function))?;
    Some(calls.iter().filter_map(|name| HostCall::named(name)))
}

impl World {
    pub(super) fn new(engine: &wasmtime::Engine) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        link_host(&mut linker)?;
        link_delegation(&mut linker)?;
        Ok(Self { linker })
    }
}

fn link_host(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut host = linker.instance(HOST)?;
    let which = numbered("task_args")?;
    host.func_wrap("args", move |mut store: Context<'_>, (): ()| Ok((metered(which, &mut store, args)?,)))?;
    let which = numbered("task_inputs")?;
    host.func_wrap("inputs", move |mut store: Context<'_>, (): ()| Ok((metered(which, &mut store, inputs)?,)))?;
    let which = numbered("task_read")?;
    host.func_wrap("read", move |mut store: Context<'_>, (most,): (u32,)| {
        Ok((metered(which, &mut store, |store| read(store, most))?,))
    })?;
    let which = numbered("task_write")?;
    host.func_wrap("write", move |mut store: Context<'_>, (bytes,): (WasmList<u8>,)| {
        metered(which, &mut store, |store| write(store, &bytes))
    })?;
    let which = numbered("task_log")?;
    host.func_wrap("log", move |mut store: Context<'_>, (text,): (WasmStr,)| {
        metered(which, &mut store, |store| log(store, &text))
    })?;
    let which = numbered("task_now")?;
    host.func_wrap("now", move |mut store: Context<'_>, (): ()| Ok((metered(which, &mut store, now)?,)))?;
    let which = numbered("task_random")?;
    host.func_wrap("random", move |mut store: Context<'_>, (count,): (u32,)| {
        Ok((metered(which, &mut store, |store| random(store, count))?,))
    })
}

fn link_delegation(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut delegation = linker.instance(DELEGATION)?;
    let (starts, waits) = (numbered("delegate_start")?, numbered("delegate_wait")?);
    delegation.func_wrap(
        "delegate",
        move |mut store: Context<'_>, (module, input, options): (WasmStr, WasmList<u8>, WasmStr)| {
            let started = metered(starts, &mut store, |store| start(store, &module, &input, &options))?;
            Ok((match started {
                Ok(question) => metered(waits, &mut store, |store| wait(store, question))?,
                Err(cause) => Err(cause),
            },))
        },
    )?;
    delegation.func_wrap(
        "start",
        move |mut store: Context<'_>, (module, input, options): (WasmStr, WasmList<u8>, WasmStr)| {
            Ok((metered(starts, &mut store, |store| start(store, &module, &input, &options))?,))
        },
    )?;
    delegation.func_wrap("wait", move |mut store: Context<'_>, (question,): (u32,)| {
        Ok((metered(waits, &mut store, |store| wait(store, question))?,))
    })?;
    let which = numbered("delegate_close")?;
    delegation.func_wrap("forget", move |mut store: Context<'_>, (question,): (u32,)| {
        metered(which, &mut store, |store| forget(store, question))
    })?;
    let which = numbered("delegate_error")?;
    delegation.func_wrap("why", move |mut store: Context<'_>, (): ()| Ok((metered(which, &mut store, why)?,)))
}

/// All but the name of the program, which a component has none of.
fn args(store: &mut Context<'_>) -> Given<Vec<String>> {
    let size = store.data().args.bytes.len();
    charge(store, size as u64)?;
    let host = store.data_mut();
    // Bounded far below 4 GiB, as all arguments are.
    host.trace.moves(size as u32);
    Ok((Errno::SUCCESS, host.args.texts().skip(1).collect()))
}

fn inputs(store: &mut Context<'_>) -> Given<Vec<u64>> {
    let lengths = store.data().lengths.clone();
    let size = lengths.len() * size_of::<u64>();
    charge(store, size as u64)?;
    store.data_mut().trace.moves(size as u32);
    Ok((Errno::SUCCESS, lengths))
}

fn read(store: &mut Context<'_>, most: u32) -> Given<Arc<Vec<u8>>> {
    let left = u32::try_from(store.data().stdin.rest().len()).unwrap_or(u32::MAX);
    let size = left.min(most).min(PIECE_MAX);
    charge(store, size.into())?;
    let host = store.data_mut();
    let piece = Zeroizing::new(host.stdin.rest().get(..size as usize).unwrap_or_default().to_vec());
    host.stdin.advance(size);
    host.trace.moves(size);
    Ok((Errno::SUCCESS, host.handed.give(piece)))
}

fn write(store: &mut Context<'_>, bytes: &WasmList<u8>) -> Given<()> {
    let size = bytes.len() as u64;
    charge(store, size)?;
    let host = store.data_mut();
    // At most LIFTED_MAX.
    host.trace.moves(size as u32);
    if host.stdout.len() as u64 + size > host.output_max {
        let limit = Bytes(host.output_max);
        return Err(host.stop(Err(RunFailure::OutputTooLarge { limit })));
    }
    // Out of the host for the moment: the bytes lie in the same store.
    let mut stdout = std::mem::take(&mut host.stdout);
    stdout.extend_from_slice(bytes.as_le_slice(&*store));
    store.data_mut().stdout = stdout;
    Ok((Errno::SUCCESS, ()))
}

fn log(store: &mut Context<'_>, text: &WasmStr) -> Given<()> {
    let text = text.to_str(&*store)?.into_owned();
    charge(store, text.len() as u64)?;
    let host = store.data_mut();
    // At most twice LIFTED_MAX, for what was UTF-16.
    host.trace.moves(text.len() as u32);
    host.log(text.as_bytes());
    host.log(b"\n");
    Ok((Errno::SUCCESS, ()))
}

fn now(store: &mut Context<'_>) -> Given<u64> {
    Ok((Errno::SUCCESS, store.data().now_nanos / NANOS))
}

fn random(store: &mut Context<'_>, count: u32) -> Given<Arc<Vec<u8>>> {
    let count = count.min(PIECE_MAX);
    charge(store, u64::from(count) * (1 + HASH_FUEL))?;
    let host = store.data_mut();
    let mut drawn = Zeroizing::new(vec![0_u8; count as usize]);
    host.random.fill(&mut drawn);
    host.trace.moves(count);
    Ok((Errno::SUCCESS, host.handed.give(drawn)))
}

/// What is noted, and what a component is told.
fn told<T>(ended: Result<T, Errno>) -> (Errno, Result<T, Cause>) {
    match ended {
        Ok(given) => (Errno::SUCCESS, Ok(given)),
        Err(errno) => (errno, Err(errno.into())),
    }
}

fn start(
    store: &mut Context<'_>,
    module: &WasmStr,
    input: &WasmList<u8>,
    options: &WasmStr,
) -> Given<Result<u32, Cause>> {
    let module = module.to_str(&*store)?.into_owned();
    let options = options.to_str(&*store)?.into_owned();
    let moved = module.len().saturating_add(input.len()).saturating_add(options.len());
    charge(store, moved as u64)?;
    if input.len() as u64 > INPUT_MAX.0 || options.len() > OPTIONS_MAX as usize {
        let expected = format!("at most {INPUT_MAX} and {}", Bytes(OPTIONS_MAX.into()));
        let got = format!("{} and {}", Bytes(input.len() as u64), Bytes(options.len() as u64));
        store.data_mut().asking.misread("bytes of input and options of the question", &expected, got);
        return Ok(told(Err(Errno::MSGSIZE)));
    }
    charge(store, input.len() as u64 * HASH_FUEL)?;
    // Out of the host for the moment: the input lies in the same store.
    let host = store.data_mut();
    host.trace.moves(moved as u32);
    let mut asking = std::mem::take(&mut host.asking);
    let started = match module.parse::<Digest>() {
        Err(why) => {
            Err(asking.misread("module of the question", "a SHA-256, as 64 lower-case hexadecimal digits", why))
        }
        Ok(digest) => match asking.options(options.as_bytes()) {
            Err(errno) => Err(errno),
            Ok(options) => asking.start(digest, input.as_le_slice(&*store), &options),
        },
    };
    store.data_mut().asking = asking;
    Ok(told(started))
}

fn wait(store: &mut Context<'_>, question: u32) -> Given<Result<Arc<Vec<u8>>, Cause>> {
    let ended = loop {
        let host = store.data_mut();
        match host.asking.wait(question) {
            Ok(None) => {}
            Ok(Some(ended)) => break ended,
            Err(failure) => return Err(host.stop(Err(failure))),
        }
    };
    let size = ended.unwrap_or(0);
    store.data_mut().trace.moves(size);
    charge(store, u64::from(size) * (1 + HASH_FUEL))?;
    let host = store.data_mut();
    let taken = host.asking.take(question);
    Ok(told(taken.map(|answer| host.handed.give(answer))))
}

fn forget(store: &mut Context<'_>, question: u32) -> Given<()> {
    let closed = store.data_mut().asking.close(question);
    Ok((closed.err().unwrap_or(Errno::SUCCESS), ()))
}

fn why(store: &mut Context<'_>) -> Given<String> {
    charge(store, WHY_FUEL)?;
    // Nothing of the words is in the trace either.
    let why = store.data().asking.why(None).unwrap_or_default().to_owned();
    Ok((Errno::SUCCESS, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_world_has_its_numbers() {
        for (interface, function, names) in FUNCTIONS {
            let calls: Vec<&str> = calls(interface, function).unwrap().map(HostCall::name).collect();
            assert_eq!(calls, *names, "{interface} {function}");
        }
        assert!(calls(HOST, "wait").is_none() && calls(DELEGATION, "read").is_none() && calls("", "args").is_none());
    }
}
