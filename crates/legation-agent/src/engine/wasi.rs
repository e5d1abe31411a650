//! WASI preview 1 (`wasi_snapshot_preview1`) for a command that has three streams and nothing else.
//!
//! It is *not* a file system: no directory is ever opened, so every `path_*` is refused, and every descriptor but 0, 1 and 2 is
//! bad. Clocks stand still, sleeping takes no time, randomness is a seeded stream.
//! Layouts and error numbers: WASI `legacy/preview1/docs.md`. Each call counts, and costs fuel before it does its work.

use std::collections::HashMap;

use wasmtime::{
    AsContext, AsContextMut, Caller, Extern, FuncType, Linker, Store, StoreContext, StoreContextMut, Val, ValType,
};

use legation_core::{Bytes, monitor::HostCall};

use super::{
    RunFailure, delegate,
    guest::{Errno, Guest, VECTOR_MAX},
    host::{Host, Strings},
    meter::{HASH_FUEL, charge, metered, numbered},
    world::World,
};

pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// All clocks count whole seconds.
const CLOCK_RESOLUTION: u64 = 1_000_000_000;
/// Realtime, monotonic and the two processor clocks.
const CLOCKS: u32 = 4;

const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;
const RIGHT_POLL: u64 = 1 << 27;
/// Sizes of `subscription` and `event`.
const SUBSCRIPTION: usize = 48;
const EVENT: u32 = 32;

/// Calls that only ever answer one error: name, parameters (`i` 32 bits, `I` 64), errno. There is nothing for them to act on.
#[rustfmt::skip]
const REFUSED: &[(&str, &str, Errno)] = &[
    ("fd_advise", "iIIi", Errno::BADF),
    ("fd_allocate", "iII", Errno::BADF),
    ("fd_datasync", "i", Errno::BADF),
    ("fd_fdstat_set_rights", "iII", Errno::BADF),
    ("fd_filestat_set_size", "iI", Errno::BADF),
    ("fd_filestat_set_times", "iIIi", Errno::BADF),
    ("fd_pread", "iiiIi", Errno::BADF),
    ("fd_prestat_dir_name", "iii", Errno::BADF),
    ("fd_prestat_get", "ii", Errno::BADF),
    ("fd_pwrite", "iiiIi", Errno::BADF),
    ("fd_readdir", "iiiIi", Errno::BADF),
    ("fd_renumber", "ii", Errno::BADF),
    ("fd_sync", "i", Errno::BADF),
    ("path_create_directory", "iii", Errno::NOTCAPABLE),
    ("path_filestat_get", "iiiii", Errno::NOTCAPABLE),
    ("path_filestat_set_times", "iiiiIIi", Errno::NOTCAPABLE),
    ("path_link", "iiiiiii", Errno::NOTCAPABLE),
    ("path_open", "iiiiiIIii", Errno::NOTCAPABLE),
    ("path_readlink", "iiiiii", Errno::NOTCAPABLE),
    ("path_remove_directory", "iii", Errno::NOTCAPABLE),
    ("path_rename", "iiiiii", Errno::NOTCAPABLE),
    ("path_symlink", "iiiii", Errno::NOTCAPABLE),
    ("path_unlink_file", "iii", Errno::NOTCAPABLE),
    ("proc_raise", "i", Errno::NOSYS),
    ("sock_accept", "iii", Errno::BADF),
    ("sock_recv", "iiiiii", Errno::BADF),
    ("sock_send", "iiiii", Errno::BADF),
    ("sock_shutdown", "ii", Errno::BADF),
];

/// The linked host functions.
pub(super) struct Shim {
    pub(super) linker: Linker<Host>,
    /// Those of components.
    pub(super) world: World,
    types: HashMap<String, HashMap<String, FuncType>>,
}

/// What to do about an import that does not exist here.
pub(super) fn import_fix(module: &str) -> &'static str {
    match module {
        MODULE => "build for `wasm32-wasip1` without extensions of preview 1",
        "wasi_unstable" => "rebuild with a toolchain for `wasi_snapshot_preview1`, not its 2019 predecessor",
        "wasi" => "build without threads",
        "env" => "link everything in: `-Wl,--no-allow-undefined` names what is missing",
        _ if module.starts_with("wasi:") => {
            "interfaces of preview 2 and 3 are given to nobody: build a command for `wasm32-wasip1`, or a component without WASI \
             (componentize-py with `--stub-wasi`, componentize-js with all its features disabled)"
        }
        _ if module.starts_with("legation:") => {
            "take the interfaces of `guests/wit/task.wit`, with their version, and no others"
        }
        delegate::MODULE => "it has the functions of `guests/src/delegate.h` and no others",
        _ => {
            "only `wasi_snapshot_preview1` and `legation_task_v1` are given to commands, and the interfaces of \
             `guests/wit/task.wit` to components: link everything else in"
        }
    }
}

/// One call from the guest.
pub(super) struct Call<'a>(Caller<'a, Host>);

/// Why a call does not succeed: an answer for the guest, or the end of the run.
pub(super) enum Refusal {
    Errno(Errno),
    End(wasmtime::Error),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<wasmtime::Error> for Refusal {
    fn from(error: wasmtime::Error) -> Self {
        Self::End(error)
    }
}

type Answer = Result<(), Refusal>;

/// Counts, checks and charges the call, does it, notes it, and turns what it says into an errno.
fn answer<'a>(
    which: HostCall,
    caller: Caller<'a, Host>,
    act: impl FnOnce(&mut Call<'a>) -> Answer,
) -> wasmtime::Result<u32> {
    let errno = perform(which, caller, act)?.err().unwrap_or(Errno::SUCCESS);
    Ok(errno.0.into())
}

/// Performs a call as all are performed: what it gives, or an errno; an error ends the run.
pub(super) fn perform<'a, T>(
    which: HostCall,
    caller: Caller<'a, Host>,
    act: impl FnOnce(&mut Call<'a>) -> Result<T, Refusal>,
) -> wasmtime::Result<Result<T, Errno>> {
    metered(which, &mut Call(caller), |call| match act(call) {
        Ok(given) => Ok((Errno::SUCCESS, Ok(given))),
        Err(Refusal::Errno(errno)) => Ok((errno, Err(errno))),
        Err(Refusal::End(error)) => Err(error),
    })
}

impl AsContext for Call<'_> {
    type Data = Host;

    fn as_context(&self) -> StoreContext<'_, Host> {
        self.0.as_context()
    }
}

impl AsContextMut for Call<'_> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, Host> {
        self.0.as_context_mut()
    }
}

impl Call<'_> {
    pub(super) fn host(&mut self) -> &mut Host {
        self.0.data_mut()
    }

    pub(super) fn charge(&mut self, fuel: u64) -> wasmtime::Result<()> {
        charge(self, fuel)
    }

    /// The guest's memory and the host's state. A memory is there: [`super::module`] checked that it is exported.
    pub(super) fn split(&mut self) -> Result<(Guest<'_>, &mut Host), Errno> {
        let memory = match self.0.data().memory {
            Some(memory) => memory,
            None => {
                let memory = self.0.get_export("memory").and_then(Extern::into_memory).ok_or(Errno::FAULT)?;
                self.0.data_mut().memory = Some(memory);
                memory
            }
        };
        let (bytes, host) = memory.data_and_store_mut(self.0.as_context_mut());
        Ok((Guest::new(bytes), host))
    }

    fn check_open(&self, fd: u32) -> Result<(), Errno> {
        let open = self.0.data().open.get(fd as usize).copied();
        if open == Some(true) { Ok(()) } else { Err(Errno::BADF) }
    }
}

/// Links a function that answers an errno, under its number.
macro_rules! link {
    ($linker:ident, $name:literal, |$call:ident $(, $arg:ident: $ty:ty)*| $act:expr) => {
        let which = numbered($name)?;
        $linker.func_wrap(MODULE, $name, move |caller: Caller<'_, Host>, $($arg: $ty),*| {
            answer(which, caller, |$call| $act)
        })?;
    };
}

impl Shim {
    /// The functions of preview 1, all of them, those by which parts are handed on, and those of components.
    pub(super) fn new(engine: &wasmtime::Engine) -> wasmtime::Result<Self> {
        let mut l = Linker::<Host>::new(engine);
        link!(l, "args_get", |c, a: u32, b: u32| strings_get(c, |h| &h.args, a, b));
        link!(l, "args_sizes_get", |c, a: u32, b: u32| strings_size(c, |h| &h.args, a, b));
        link!(l, "environ_get", |c, a: u32, b: u32| strings_get(c, |h| &h.env, a, b));
        link!(l, "environ_sizes_get", |c, a: u32, b: u32| strings_size(c, |h| &h.env, a, b));
        link!(l, "clock_res_get", |c, id: u32, out: u32| clock(c, id, out, |_| CLOCK_RESOLUTION));
        link!(l, "clock_time_get", |c, id: u32, _precision: u64, out: u32| clock(c, id, out, |host| host.now_nanos));
        link!(l, "fd_close", |c, fd: u32| fd_close(c, fd));
        link!(l, "fd_fdstat_get", |c, fd: u32, out: u32| fd_fdstat_get(c, fd, out));
        link!(l, "fd_fdstat_set_flags", |c, fd: u32, _flags: u32| Ok(c.check_open(fd)?));
        link!(l, "fd_filestat_get", |c, fd: u32, out: u32| fd_filestat_get(c, fd, out));
        link!(l, "fd_read", |c, fd: u32, vecs: u32, n: u32, out: u32| fd_read(c, fd, vecs, n, out));
        link!(l, "fd_seek", |c, fd: u32, _to: u64, _whence: u32, _out: u32| fd_seek(c, fd));
        link!(l, "fd_tell", |c, fd: u32, _out: u32| fd_seek(c, fd));
        link!(l, "fd_write", |c, fd: u32, vecs: u32, n: u32, out: u32| fd_write(c, fd, vecs, n, out));
        link!(l, "poll_oneoff", |c, subs: u32, events: u32, n: u32, out: u32| poll_oneoff(c, subs, events, n, out));
        link!(l, "random_get", |c, out: u32, len: u32| random_get(c, out, len));
        link!(l, "sched_yield", |_c| Ok(()));
        // The one that answers nothing, because it does not return.
        let which = numbered("proc_exit")?;
        l.func_wrap(MODULE, "proc_exit", move |c: Caller<'_, Host>, code: u32| {
            answer(which, c, |c| proc_exit(c, code)).map(drop)
        })?;
        for (name, params, errno) in REFUSED {
            let params = params.bytes().map(|p| if p == b'I' { ValType::I64 } else { ValType::I32 });
            let ty = FuncType::new(engine, params, [ValType::I32]);
            let which = numbered(name)?;
            l.func_new(MODULE, name, ty, move |caller, _params, results| {
                let errno = answer(which, caller, |_| Err(Refusal::Errno(*errno)))?;
                results[0] = Val::I32(errno.cast_signed());
                Ok(())
            })?;
        }
        delegate::link(&mut l)?;
        let types = types(engine, &l);
        Ok(Self { linker: l, world: World::new(engine)?, types })
    }

    /// The type of a host function, if there is one of this name in this import module.
    pub(super) fn function(&self, module: &str, name: &str) -> Option<&FuncType> {
        self.types.get(module)?.get(name)
    }
}

/// The types of what was linked, by import module and name: asked of the linker itself so that they cannot differ from it.
fn types(engine: &wasmtime::Engine, linker: &Linker<Host>) -> HashMap<String, HashMap<String, FuncType>> {
    let mut linked = Vec::new();
    let mut store = Store::new(engine, Host::default());
    for (module, name, item) in linker.iter(&mut store) {
        linked.push((module.to_owned(), name.to_owned(), item));
    }
    let mut types: HashMap<String, HashMap<String, FuncType>> = HashMap::new();
    for (module, name, item) in linked {
        if let Some(function) = item.into_func() {
            types.entry(module).or_default().insert(name, function.ty(&store));
        }
    }
    types
}

fn strings_get(call: &mut Call<'_>, which: fn(&Host) -> &Strings, list: u32, buffer: u32) -> Answer {
    let cost = which(call.0.data()).bytes.len() as u64;
    call.charge(cost)?;
    let (mut guest, host) = call.split()?;
    // What is moved is what is charged: arguments are bounded far below 4 GiB.
    host.trace.moves(cost as u32);
    let strings = which(host);
    let count = strings.offsets.len() as u32;
    guest.bytes(list, count * 4)?;
    guest.bytes_mut(buffer, strings.bytes.len() as u32)?.copy_from_slice(&strings.bytes);
    for (i, offset) in strings.offsets.iter().enumerate() {
        // In range: both ends were just checked.
        guest.put(list + i as u32 * 4, (buffer + offset).to_le_bytes())?;
    }
    Ok(())
}

fn strings_size(call: &mut Call<'_>, which: fn(&Host) -> &Strings, count: u32, bytes: u32) -> Answer {
    let (mut guest, host) = call.split()?;
    let strings = which(host);
    guest.bytes(bytes, 4)?;
    guest.put(count, (strings.offsets.len() as u32).to_le_bytes())?;
    Ok(guest.put(bytes, (strings.bytes.len() as u32).to_le_bytes())?)
}

fn clock(call: &mut Call<'_>, id: u32, out: u32, nanos: fn(&Host) -> u64) -> Answer {
    if id >= CLOCKS {
        return Err(Errno::INVAL.into());
    }
    let (mut guest, host) = call.split()?;
    Ok(guest.put(out, nanos(host).to_le_bytes())?)
}

fn fd_close(call: &mut Call<'_>, fd: u32) -> Answer {
    call.check_open(fd)?;
    if let Some(open) = call.0.data_mut().open.get_mut(fd as usize) {
        *open = false;
    }
    Ok(())
}

fn fd_seek(call: &mut Call<'_>, fd: u32) -> Answer {
    call.check_open(fd)?;
    Err(Errno::SPIPE.into())
}

/// `fdstat`: file type 0 (unknown) at 0, flags at 2, rights at 8 and 16. Not a terminal, so libraries buffer whole blocks.
fn fd_fdstat_get(call: &mut Call<'_>, fd: u32, out: u32) -> Answer {
    call.check_open(fd)?;
    let rights = RIGHT_POLL | if fd == 0 { RIGHT_FD_READ } else { RIGHT_FD_WRITE };
    let mut stat = [0; 24];
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    let (mut guest, _) = call.split()?;
    Ok(guest.put(out, stat)?)
}

/// `filestat`: all zero (no device, no size, no times, file type unknown), as for a pipe.
fn fd_filestat_get(call: &mut Call<'_>, fd: u32, out: u32) -> Answer {
    call.check_open(fd)?;
    let (mut guest, _) = call.split()?;
    Ok(guest.put(out, [0; 64])?)
}

fn fd_read(call: &mut Call<'_>, fd: u32, vecs: u32, count: u32, out: u32) -> Answer {
    call.check_open(fd)?;
    if fd != 0 {
        return Err(Errno::BADF.into());
    }
    let (guest, host) = call.split()?;
    guest.bytes(out, 4)?;
    let vecs = guest.iovecs(vecs, count)?;
    let cost = u64::from(vecs.total).min(host.stdin.rest().len() as u64);
    call.charge(cost)?;
    let (mut guest, host) = call.split()?;
    let done = guest.scatter(&vecs, host.stdin.rest());
    host.stdin.advance(done);
    host.trace.moves(done);
    Ok(guest.put(out, done.to_le_bytes())?)
}

fn fd_write(call: &mut Call<'_>, fd: u32, vecs: u32, count: u32, out: u32) -> Answer {
    call.check_open(fd)?;
    if fd == 0 {
        return Err(Errno::BADF.into());
    }
    let (guest, _) = call.split()?;
    guest.bytes(out, 4)?;
    let vecs = guest.iovecs(vecs, count)?;
    call.charge(vecs.total.into())?;
    let (mut guest, host) = call.split()?;
    host.trace.moves(vecs.total);
    if fd == 1 {
        if host.stdout.len() as u64 + u64::from(vecs.total) > host.output_max {
            let limit = Bytes(host.output_max);
            return Err(host.stop(Err(RunFailure::OutputTooLarge { limit })).into());
        }
        guest.gather(&vecs).for_each(|bytes| host.stdout.extend_from_slice(bytes));
    } else {
        guest.gather(&vecs).for_each(|bytes| host.log(bytes));
    }
    // Said last; a guest that put the answer inside its own buffer wrote the buffer as it was.
    Ok(guest.put(out, vecs.total.to_le_bytes())?)
}

/// Everything that can be waited for has happened: streams are ready, and time to sleep is over at once.
fn poll_oneoff(call: &mut Call<'_>, subscriptions: u32, events: u32, count: u32, out: u32) -> Answer {
    if count == 0 || count > VECTOR_MAX {
        return Err(Errno::INVAL.into());
    }
    call.charge(u64::from(count) * SUBSCRIPTION as u64)?;
    let (mut guest, host) = call.split()?;
    host.trace.moves(count * SUBSCRIPTION as u32);
    guest.bytes(out, 4)?;
    guest.bytes(events, count * EVENT)?;
    // A copy, because the guest may have let the two lists overlap.
    let list = guest.bytes(subscriptions, count * SUBSCRIPTION as u32)?.to_vec();
    for (subscription, at) in list.chunks_exact(SUBSCRIPTION).zip(0..) {
        guest.put(events + at * EVENT, event(subscription, host))?;
    }
    Ok(guest.put(out, count.to_le_bytes())?)
}

/// `subscription`: user data at 0, kind (0 clock, 1 read, 2 write) at 8, descriptor at 16.
/// `event`: user data at 0, errno at 8, kind at 10, bytes ready at 16.
fn event(subscription: &[u8], host: &Host) -> [u8; EVENT as usize] {
    let kind = subscription[8];
    let fd = u32::from_le_bytes([subscription[16], subscription[17], subscription[18], subscription[19]]);
    let open = host.open.get(fd as usize) == Some(&true);
    let (errno, ready) = match (kind, fd) {
        (0, _) => (Errno::SUCCESS, 0),
        (1, 0) if open => (Errno::SUCCESS, host.stdin.rest().len() as u64),
        (2, 1 | 2) if open => (Errno::SUCCESS, u64::from(u32::MAX)),
        (1 | 2, _) => (Errno::BADF, 0),
        _ => (Errno::INVAL, 0),
    };
    let mut event = [0; EVENT as usize];
    event[..8].copy_from_slice(&subscription[..8]);
    event[8..10].copy_from_slice(&errno.0.to_le_bytes());
    event[10] = kind;
    event[16..24].copy_from_slice(&ready.to_le_bytes());
    event
}

fn proc_exit(call: &mut Call<'_>, code: u32) -> Answer {
    let why = if code == 0 { Ok(()) } else { Err(RunFailure::Exit(code.cast_signed())) };
    Err(call.0.data_mut().stop(why).into())
}

fn random_get(call: &mut Call<'_>, out: u32, len: u32) -> Answer {
    call.charge(u64::from(len) * (1 + HASH_FUEL))?;
    let (mut guest, host) = call.split()?;
    host.random.fill(guest.bytes_mut(out, len)?);
    host.trace.moves(len);
    Ok(())
}
