//! WASI preview 1 for a command that has three streams and nothing else. What the engine of an enclave answers, this answers: the
//! same numbers, the same bytes. What costs more than it is worth here, and what an execution alone cannot show (calls of other
//! enclaves), traps, so that there is no proof.

use wasmi::{Caller, Error, ExternType, Linker, Module, Val};

use crate::{Sha256, Witness};

const MODULE: &str = "wasi_snapshot_preview1";
/// By which modules have others run parts of them: what those answer is not of this execution.
const TASK: &str = "legation_task_v1";
/// The guest's `argv[0]`.
const PROGRAM: &str = "task";
const RANDOM_DOMAIN: &[u8] = b"legation.task.random.v1";
const NANOS: u64 = 1_000_000_000;
const CLOCK_RESOLUTION: u64 = 1_000_000_000;
const CLOCKS: u32 = 4;
/// Most buffers in one read or write.
const VECTOR_MAX: u32 = 1024;
const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;
const RIGHT_POLL: u64 = 1 << 27;

/// A WASI preview-1 `errno`.
type Errno = u32;
const SUCCESS: Errno = 0;
const BADF: Errno = 8;
const FAULT: Errno = 21;
const INVAL: Errno = 28;
const NOSYS: Errno = 52;
const SPIPE: Errno = 70;
const NOTCAPABLE: Errno = 76;

/// Calls that only ever answer one error: there is nothing for them to act on.
const ANSWERED: [(&str, Errno); 28] = [
    ("fd_advise", BADF),
    ("fd_allocate", BADF),
    ("fd_datasync", BADF),
    ("fd_fdstat_set_rights", BADF),
    ("fd_filestat_set_size", BADF),
    ("fd_filestat_set_times", BADF),
    ("fd_pread", BADF),
    ("fd_prestat_dir_name", BADF),
    ("fd_prestat_get", BADF),
    ("fd_pwrite", BADF),
    ("fd_readdir", BADF),
    ("fd_renumber", BADF),
    ("fd_sync", BADF),
    ("path_create_directory", NOTCAPABLE),
    ("path_filestat_get", NOTCAPABLE),
    ("path_filestat_set_times", NOTCAPABLE),
    ("path_link", NOTCAPABLE),
    ("path_open", NOTCAPABLE),
    ("path_readlink", NOTCAPABLE),
    ("path_remove_directory", NOTCAPABLE),
    ("path_rename", NOTCAPABLE),
    ("path_symlink", NOTCAPABLE),
    ("path_unlink_file", NOTCAPABLE),
    ("proc_raise", NOSYS),
    ("sock_accept", BADF),
    ("sock_recv", BADF),
    ("sock_send", BADF),
    ("sock_shutdown", BADF),
];

/// Calls that are implemented below.
const LINKED: [&str; 17] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_filestat_get",
    "fd_read",
    "fd_seek",
    "fd_tell",
    "fd_write",
    "proc_exit",
    "random_get",
    "sched_yield",
];

/// Strings as C wants them: NUL-terminated, back to back.
#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl Strings {
    fn push(&mut self, text: &str) {
        self.offsets.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }
}

/// What one run holds outside the module.
pub(crate) struct Host {
    args: Strings,
    env: Strings,
    stdin: Vec<u8>,
    read: usize,
    stdout: Vec<u8>,
    open: [bool; 3],
    now_nanos: u64,
    random: Random,
}

impl Host {
    pub(crate) fn new(witness: &Witness) -> Self {
        let mut args = Strings::default();
        args.push(PROGRAM);
        witness.args.iter().for_each(|arg| args.push(arg));
        let lengths: Vec<String> = witness.inputs.iter().map(|(_, input)| input.len().to_string()).collect();
        let mut env = Strings::default();
        env.push(&format!("LEGATION_INPUTS={}", lengths.join(",")));
        let mut stdin = Vec::with_capacity(witness.inputs.iter().map(|(_, input)| input.len()).sum());
        witness.inputs.iter().for_each(|(_, input)| stdin.extend_from_slice(input));
        Self {
            args,
            env,
            stdin,
            read: 0,
            stdout: Vec::new(),
            open: [true; 3],
            now_nanos: witness.clock.saturating_mul(NANOS),
            random: Random { seed: witness.seed, counter: 0, block: [0; 32], used: 32 },
        }
    }

    pub(crate) fn into_stdout(self) -> Vec<u8> {
        self.stdout
    }

    fn check_open(&self, fd: u32) -> Result<(), Errno> {
        if self.open.get(fd as usize) == Some(&true) { Ok(()) } else { Err(BADF) }
    }
}

/// The guest's randomness: SHA-256 in counter mode over the seed, however it is cut into calls.
struct Random {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Random {
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.used == self.block.len() {
                let mut hash = Sha256::new();
                hash.update(RANDOM_DOMAIN);
                hash.update(&self.seed);
                hash.update(&self.counter.to_le_bytes());
                self.block = hash.finish();
                self.counter += 1;
                self.used = 0;
            }
            let len = out.len().min(self.block.len() - self.used);
            let (head, tail) = out.split_at_mut(len);
            head.copy_from_slice(&self.block[self.used..self.used + len]);
            self.used += len;
            out = tail;
        }
    }
}

/// The guest's memory, seen through checks: every pointer and length is the guest's word.
struct Memory<'a>(&'a mut [u8]);

impl Memory<'_> {
    fn range(&self, ptr: u32, len: u32) -> Result<core::ops::Range<usize>, Errno> {
        let end = u64::from(ptr) + u64::from(len);
        if end > self.0.len() as u64 { Err(FAULT) } else { Ok(ptr as usize..end as usize) }
    }

    fn bytes(&self, ptr: u32, len: u32) -> Result<&[u8], Errno> {
        let range = self.range(ptr, len)?;
        Ok(&self.0[range])
    }

    fn bytes_mut(&mut self, ptr: u32, len: u32) -> Result<&mut [u8], Errno> {
        let range = self.range(ptr, len)?;
        Ok(&mut self.0[range])
    }

    fn put<const N: usize>(&mut self, ptr: u32, bytes: [u8; N]) -> Result<(), Errno> {
        self.bytes_mut(ptr, N as u32)?.copy_from_slice(&bytes);
        Ok(())
    }

    /// The buffers of an `iovec` list, and the bytes of all together: all are checked before any is used.
    fn iovecs(&self, ptr: u32, count: u32) -> Result<(Vec<core::ops::Range<usize>>, u32), Errno> {
        if count > VECTOR_MAX {
            return Err(INVAL);
        }
        let mut total = 0_u32;
        let mut ranges = Vec::with_capacity(count as usize);
        for pair in self.bytes(ptr, count * 8)?.chunks_exact(8) {
            let word = |at: usize| u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
            let (base, len) = (word(0), word(4));
            total = total.checked_add(len).ok_or(INVAL)?;
            ranges.push(self.range(base, len)?);
        }
        Ok((ranges, total))
    }
}

/// Does a call with the guest's memory and the host, and turns what it says into an errno.
fn call(mut caller: Caller<'_, Host>, act: impl FnOnce(&mut Memory<'_>, &mut Host) -> Result<(), Errno>) -> Errno {
    let Some(memory) = caller.get_export("memory").and_then(|export| export.into_memory()) else { return FAULT };
    let (bytes, host) = memory.data_and_store_mut(&mut caller);
    act(&mut Memory(bytes), host).err().unwrap_or(SUCCESS)
}

/// Links what the module imports.
pub(crate) fn link(linker: &mut Linker<Host>, module: &Module) -> Result<(), String> {
    implemented(linker).map_err(|why| why.to_string())?;
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        if from == MODULE && LINKED.contains(&name) {
            continue;
        }
        let ExternType::Func(ty) = import.ty() else {
            return Err(format!("it imports `{from}` `{name}`, which is no function"));
        };
        let answer = ANSWERED.iter().find(|(known, _)| *known == name).map(|(_, errno)| *errno);
        let linked = match answer {
            Some(errno) if from == MODULE => {
                linker.func_new(from, name, ty.clone(), move |_caller, _params, results| {
                    if let Some(result) = results.first_mut() {
                        *result = Val::I32(errno.cast_signed());
                    }
                    Ok(())
                })
            }
            _ if from == MODULE || from == TASK => {
                let why = format!("it called `{name}`, of which there is no proof");
                linker.func_new(from, name, ty.clone(), move |_caller, _params, _results| Err(Error::new(why.clone())))
            }
            _ => return Err(format!("it imports `{from}`, which is not here")),
        };
        // A function may be imported twice: the first link serves both.
        drop(linked);
    }
    Ok(())
}

type C<'a> = Caller<'a, Host>;

fn implemented(l: &mut Linker<Host>) -> Result<(), Error> {
    l.func_wrap(MODULE, "args_get", |c: C<'_>, a: u32, b: u32| call(c, |m, h| strings_get(m, &h.args, a, b)))?;
    l.func_wrap(MODULE, "args_sizes_get", |c: C<'_>, a: u32, b: u32| call(c, |m, h| strings_size(m, &h.args, a, b)))?;
    l.func_wrap(MODULE, "environ_get", |c: C<'_>, a: u32, b: u32| call(c, |m, h| strings_get(m, &h.env, a, b)))?;
    l.func_wrap(MODULE, "environ_sizes_get", |c: C<'_>, a: u32, b: u32| call(c, |m, h| strings_size(m, &h.env, a, b)))?;
    l.func_wrap(MODULE, "clock_res_get", |c: C<'_>, id: u32, out: u32| {
        call(c, |m, _| clock(m, id, out, CLOCK_RESOLUTION))
    })?;
    l.func_wrap(MODULE, "clock_time_get", |c: C<'_>, id: u32, _precision: u64, out: u32| {
        call(c, |m, h| clock(m, id, out, h.now_nanos))
    })?;
    l.func_wrap(MODULE, "fd_close", |c: C<'_>, fd: u32| {
        call(c, |_, h| {
            h.check_open(fd)?;
            h.open.iter_mut().skip(fd as usize).take(1).for_each(|open| *open = false);
            Ok(())
        })
    })?;
    l.func_wrap(MODULE, "fd_fdstat_get", |c: C<'_>, fd: u32, out: u32| call(c, |m, h| fd_fdstat_get(m, h, fd, out)))?;
    l.func_wrap(MODULE, "fd_fdstat_set_flags", |c: C<'_>, fd: u32, _flags: u32| call(c, |_, h| h.check_open(fd)))?;
    l.func_wrap(MODULE, "fd_filestat_get", |c: C<'_>, fd: u32, out: u32| {
        call(c, |m, h| {
            h.check_open(fd)?;
            m.put(out, [0; 64])
        })
    })?;
    l.func_wrap(MODULE, "fd_read", |c: C<'_>, fd: u32, vecs: u32, count: u32, out: u32| {
        call(c, |m, h| fd_read(m, h, fd, (vecs, count), out))
    })?;
    l.func_wrap(MODULE, "fd_seek", |c: C<'_>, fd: u32, _to: u64, _whence: u32, _out: u32| {
        call(c, |_, h| h.check_open(fd).and(Err(SPIPE)))
    })?;
    l.func_wrap(MODULE, "fd_tell", |c: C<'_>, fd: u32, _out: u32| call(c, |_, h| h.check_open(fd).and(Err(SPIPE))))?;
    l.func_wrap(MODULE, "fd_write", |c: C<'_>, fd: u32, vecs: u32, count: u32, out: u32| {
        call(c, |m, h| fd_write(m, h, fd, (vecs, count), out))
    })?;
    l.func_wrap(MODULE, "proc_exit", |_c: C<'_>, code: u32| -> Result<(), Error> {
        Err(Error::i32_exit(code.cast_signed()))
    })?;
    l.func_wrap(MODULE, "random_get", |c: C<'_>, out: u32, len: u32| {
        call(c, |m, h| {
            h.random.fill(m.bytes_mut(out, len)?);
            Ok(())
        })
    })?;
    l.func_wrap(MODULE, "sched_yield", |_c: C<'_>| SUCCESS)?;
    Ok(())
}

fn strings_get(memory: &mut Memory<'_>, strings: &Strings, list: u32, buffer: u32) -> Result<(), Errno> {
    let count = strings.offsets.len() as u32;
    memory.bytes(list, count * 4)?;
    memory.bytes_mut(buffer, strings.bytes.len() as u32)?.copy_from_slice(&strings.bytes);
    for (at, offset) in (0..).zip(&strings.offsets) {
        memory.put(list + at * 4, (buffer + offset).to_le_bytes())?;
    }
    Ok(())
}

fn strings_size(memory: &mut Memory<'_>, strings: &Strings, count: u32, bytes: u32) -> Result<(), Errno> {
    memory.bytes(bytes, 4)?;
    memory.put(count, (strings.offsets.len() as u32).to_le_bytes())?;
    memory.put(bytes, (strings.bytes.len() as u32).to_le_bytes())
}

fn clock(memory: &mut Memory<'_>, id: u32, out: u32, nanos: u64) -> Result<(), Errno> {
    if id >= CLOCKS {
        return Err(INVAL);
    }
    memory.put(out, nanos.to_le_bytes())
}

/// `fdstat`: file type 0 (unknown) at 0, flags at 2, rights at 8 and 16.
fn fd_fdstat_get(memory: &mut Memory<'_>, host: &Host, fd: u32, out: u32) -> Result<(), Errno> {
    host.check_open(fd)?;
    let rights = RIGHT_POLL | if fd == 0 { RIGHT_FD_READ } else { RIGHT_FD_WRITE };
    let mut stat = [0; 24];
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    memory.put(out, stat)
}

fn fd_read(
    memory: &mut Memory<'_>,
    host: &mut Host,
    fd: u32,
    (vecs, count): (u32, u32),
    out: u32,
) -> Result<(), Errno> {
    host.check_open(fd)?;
    if fd != 0 {
        return Err(BADF);
    }
    memory.bytes(out, 4)?;
    let (ranges, _) = memory.iovecs(vecs, count)?;
    let mut done = 0_u32;
    for range in ranges {
        let rest = &host.stdin[host.read..];
        let len = range.len().min(rest.len());
        memory.0[range.start..range.start + len].copy_from_slice(&rest[..len]);
        host.read += len;
        done += len as u32;
    }
    memory.put(out, done.to_le_bytes())
}

fn fd_write(
    memory: &mut Memory<'_>,
    host: &mut Host,
    fd: u32,
    (vecs, count): (u32, u32),
    out: u32,
) -> Result<(), Errno> {
    host.check_open(fd)?;
    if fd == 0 {
        return Err(BADF);
    }
    memory.bytes(out, 4)?;
    let (ranges, total) = memory.iovecs(vecs, count)?;
    // What goes to standard error is nobody's output: it costs nothing here and is not committed to.
    if fd == 1 {
        ranges.into_iter().for_each(|range| host.stdout.extend_from_slice(&memory.0[range]));
    }
    memory.put(out, total.to_le_bytes())
}
