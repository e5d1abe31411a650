//! WASI preview 1 (`wasi_snapshot_preview1`) for a command that has three streams and nothing else.
//!
//! It is *not* a file system: no directory is ever opened, so every `path_*` is refused, and every descriptor but 0, 1 and 2 is
//! bad. Clocks stand still, sleeping takes no time, randomness is a seeded stream.
//! Layouts and error numbers: WASI `legacy/preview1/docs.md`. Each call counts, and costs fuel before it does its work.

use std::collections::HashMap;

use wasmtime::{AsContextMut, Caller, Extern, FuncType, Linker, Store, Val, ValType};

use legation_core::Bytes;

use super::{
    RunFailure,
    guest::{Errno, Guest, VECTOR_MAX},
    host::{Host, Strings},
};

pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// What any host call costs: about the time of as many operators.
const CALL_FUEL: u64 = 100;
/// What a byte of randomness costs beyond its copy: SHA-256 is that much slower than copying.
const RANDOM_FUEL: u64 = 3;
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

/// The linked host functions and their types.
pub(super) struct Shim {
    pub(super) linker: Linker<Host>,
    pub(super) types: HashMap<String, FuncType>,
}

/// What to do about an import that does not exist here.
pub(super) fn import_fix(module: &str) -> &'static str {
    match module {
        MODULE => "build for `wasm32-wasip1` without extensions of preview 1",
        "wasi_unstable" => "rebuild with a toolchain for `wasi_snapshot_preview1`, not its 2019 predecessor",
        "wasi" => "build without threads",
        "env" => "link everything in: `-Wl,--no-allow-undefined` names what is missing",
        _ if module.starts_with("wasi:") => {
            "build for `wasm32-wasip1`; interfaces of preview 2 and 3 are not given to commands"
        }
        _ => "only `wasi_snapshot_preview1` is given to commands: link everything else in",
    }
}

/// One call from the guest.
struct Call<'a>(Caller<'a, Host>);

/// Why a call does not succeed: an answer for the guest, or the end of the run.
enum Refusal {
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

/// Counts and charges the call, does it, and turns what it says into an errno.
fn answer<'a>(caller: Caller<'a, Host>, act: impl FnOnce(&mut Call<'a>) -> Answer) -> wasmtime::Result<u32> {
    let mut call = Call(caller);
    call.0.data_mut().host_calls += 1;
    call.charge(CALL_FUEL)?;
    match act(&mut call) {
        Ok(()) => Ok(Errno::SUCCESS.0.into()),
        Err(Refusal::Errno(errno)) => Ok(errno.0.into()),
        Err(Refusal::End(error)) => Err(error),
    }
}

impl Call<'_> {
    fn charge(&mut self, fuel: u64) -> wasmtime::Result<()> {
        let left = self.0.get_fuel()?;
        match left.checked_sub(fuel) {
            Some(left) => self.0.set_fuel(left),
            None => {
                self.0.set_fuel(0)?;
                Err(self.0.data_mut().stop(Err(RunFailure::OutOfFuel)))
            }
        }
    }

    /// The guest's memory and the host's state. A memory is there: [`super::module`] checked that it is exported.
    fn split(&mut self) -> Result<(Guest<'_>, &mut Host), Errno> {
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

impl Shim {
    /// The functions of preview 1, all of them.
    pub(super) fn new(engine: &wasmtime::Engine) -> wasmtime::Result<Self> {
        type C<'a> = Caller<'a, Host>;
        let mut l = Linker::<Host>::new(engine);
        l.func_wrap(MODULE, "args_get", |c: C<'_>, a: u32, b: u32| answer(c, |c| strings_get(c, |h| &h.args, a, b)))?;
        l.func_wrap(MODULE, "args_sizes_get", |c: C<'_>, a: u32, b: u32| {
            answer(c, |c| strings_size(c, |h| &h.args, a, b))
        })?;
        l.func_wrap(MODULE, "environ_get", |c: C<'_>, a: u32, b: u32| answer(c, |c| strings_get(c, |h| &h.env, a, b)))?;
        l.func_wrap(MODULE, "environ_sizes_get", |c: C<'_>, a: u32, b: u32| {
            answer(c, |c| strings_size(c, |h| &h.env, a, b))
        })?;
        l.func_wrap(MODULE, "clock_res_get", |c: C<'_>, id: u32, out: u32| {
            answer(c, |c| clock(c, id, out, |_| CLOCK_RESOLUTION))
        })?;
        l.func_wrap(MODULE, "clock_time_get", |c: C<'_>, id: u32, _precision: u64, out: u32| {
            answer(c, |c| clock(c, id, out, |host| host.now_nanos))
        })?;
        l.func_wrap(MODULE, "fd_close", |c: C<'_>, fd: u32| answer(c, |c| fd_close(c, fd)))?;
        l.func_wrap(MODULE, "fd_fdstat_get", |c: C<'_>, fd: u32, out: u32| answer(c, |c| fd_fdstat_get(c, fd, out)))?;
        l.func_wrap(MODULE, "fd_fdstat_set_flags", |c: C<'_>, fd: u32, _flags: u32| {
            answer(c, |c| Ok(c.check_open(fd)?))
        })?;
        l.func_wrap(MODULE, "fd_filestat_get", |c: C<'_>, fd: u32, out: u32| {
            answer(c, |c| fd_filestat_get(c, fd, out))
        })?;
        l.func_wrap(MODULE, "fd_read", |c: C<'_>, fd: u32, vecs: u32, n: u32, out: u32| {
            answer(c, |c| fd_read(c, fd, vecs, n, out))
        })?;
        l.func_wrap(MODULE, "fd_seek", |c: C<'_>, fd: u32, _to: u64, _whence: u32, _out: u32| {
            answer(c, |c| fd_seek(c, fd))
        })?;
        l.func_wrap(MODULE, "fd_tell", |c: C<'_>, fd: u32, _out: u32| answer(c, |c| fd_seek(c, fd)))?;
        l.func_wrap(MODULE, "fd_write", |c: C<'_>, fd: u32, vecs: u32, n: u32, out: u32| {
            answer(c, |c| fd_write(c, fd, vecs, n, out))
        })?;
        l.func_wrap(MODULE, "poll_oneoff", |c: C<'_>, subs: u32, events: u32, n: u32, out: u32| {
            answer(c, |c| poll_oneoff(c, subs, events, n, out))
        })?;
        l.func_wrap(MODULE, "proc_exit", |c: C<'_>, code: u32| answer(c, |c| proc_exit(c, code)).map(drop))?;
        l.func_wrap(MODULE, "random_get", |c: C<'_>, out: u32, len: u32| answer(c, |c| random_get(c, out, len)))?;
        l.func_wrap(MODULE, "sched_yield", |c: C<'_>| answer(c, |_| Ok(())))?;
        for (name, params, errno) in REFUSED {
            let params = params.bytes().map(|p| if p == b'I' { ValType::I64 } else { ValType::I32 });
            let ty = FuncType::new(engine, params, [ValType::I32]);
            l.func_new(MODULE, name, ty, |caller, _params, results| {
                let errno = answer(caller, |_| Err(Refusal::Errno(*errno)))?;
                results[0] = Val::I32(errno.cast_signed());
                Ok(())
            })?;
        }
        let types = types(engine, &l)?;
        Ok(Self { linker: l, types })
    }
}

/// The types of what was linked, asked of the linker itself so that they cannot differ from it.
fn types(engine: &wasmtime::Engine, linker: &Linker<Host>) -> wasmtime::Result<HashMap<String, FuncType>> {
    let mut linked = Vec::new();
    let mut store = Store::new(engine, Host::default());
    for (_, name, item) in linker.iter(&mut store) {
        linked.push((name.to_owned(), item));
    }
    Ok(linked.into_iter().filter_map(|(name, item)| Some((name, item.into_func()?.ty(&store)))).collect())
}

fn strings_get(call: &mut Call<'_>, which: fn(&Host) -> &Strings, list: u32, buffer: u32) -> Answer {
    let cost = which(call.0.data()).bytes.len() as u64;
    call.charge(cost)?;
    let (mut guest, host) = call.split()?;
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
    if fd == 1 {
        if host.stdout.len() as u64 + u64::from(vecs.total) > host.output_max {
            let limit = Bytes(host.output_max);
            return Err(host.stop(Err(RunFailure::OutputTooLarge { limit })).into());
        }
        guest.gather(&vecs).for_each(|bytes| host.stdout.extend_from_slice(bytes));
    } else {
        for bytes in guest.gather(&vecs) {
            let room = host.log_max.saturating_sub(host.stderr.len() as u64);
            let kept = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            host.stderr.extend_from_slice(&bytes[..kept]);
            host.log_dropped += (bytes.len() - kept) as u64;
        }
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
    call.charge(u64::from(len) * (1 + RANDOM_FUEL))?;
    let (mut guest, host) = call.split()?;
    host.random.fill(guest.bytes_mut(out, len)?);
    Ok(())
}
