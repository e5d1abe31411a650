//! Host calls of one run: which, in what order, with what answer; and which of them the module says that it makes at most.
//!
//! The *trace* is SHA-256 over `legation.monitor.trace.v1` and 8 bytes for each call, little-endian: its number
//! ([`legation_core::monitor::HOST_CALLS`]) in 2, its errno in 2 (65,535 where it did not return), bytes moved between guest and host
//! in 4. Contents are not in it: outputs are compared by themselves. Records are hashed 4 KiB at a time: 8 bytes of SHA-256 a
//! call, beside the hundred operators that a call is charged as.
//!
//! The *declared set* is what the module or component imports. A custom section `legation.calls` narrows it: names of host functions, between
//! them commas, white space or NUL (so that a C string will do). It is part of the module, hence of its digest and of all that is
//! signed about it. A name that no host function has is refused, rather than misread; so are two such sections.

use legation_core::{
    Digest, DigestWriter,
    monitor::{CallSet, HostCall},
};

/// Name of the custom section.
pub const SECTION: &str = "legation.calls";
/// Most bytes of it: several times all names there are.
const SECTION_MAX: usize = 4096;
const DOMAIN: &[u8] = b"legation.monitor.trace.v1";
/// Stands for the errno of a call that does not return.
pub(crate) const NO_ANSWER: u16 = u16::MAX;
/// Bytes gathered before they are hashed.
const GATHERED: usize = 4096;

/// What a run called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calls {
    /// Which functions, including one that ended the run because it was not declared.
    pub set: CallSet,
    /// Digest of the sequence.
    pub trace: Digest,
}

/// A trace as it grows.
pub(crate) struct Trace {
    hash: DigestWriter,
    gathered: Vec<u8>,
    set: CallSet,
    moved: u32,
}

impl Default for Trace {
    fn default() -> Self {
        let mut hash = DigestWriter::new();
        hash.update(DOMAIN);
        Self { hash, gathered: Vec::new(), set: CallSet::EMPTY, moved: 0 }
    }
}

impl Trace {
    /// The call that goes on moves so many bytes.
    pub(crate) fn moves(&mut self, bytes: u32) {
        self.moved = bytes;
    }

    /// A call is over.
    pub(crate) fn note(&mut self, call: HostCall, errno: u16) {
        self.set.insert(call);
        let record = u64::from(call.number()) | (u64::from(errno) << 16) | (u64::from(self.moved) << 32);
        self.moved = 0;
        self.gathered.extend_from_slice(&record.to_le_bytes());
        if self.gathered.len() >= GATHERED {
            self.hash.update(&self.gathered);
            self.gathered.clear();
        }
    }

    /// The whole of it.
    pub(crate) fn finish(mut self) -> Calls {
        self.hash.update(&self.gathered);
        Calls { set: self.set, trace: self.hash.finish() }
    }
}

/// Why a module's own list of its calls does not count.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum DeclarationError {
    /// The sections of the module do not add up. Validation rules that out.
    #[error("the module's sections cannot be told apart")]
    Sections,
    /// More than one list.
    #[error("it is there more than once")]
    Twice,
    /// Larger than all names there are.
    #[error("it has {0} bytes, more than {most}", most = SECTION_MAX)]
    TooLong(usize),
    /// No host function has this name.
    #[error("`{0}` is no host function")]
    Unknown(String),
}

/// What a valid module may call: of what it imports, what its own list names, if it has one.
pub(crate) fn declared(wasm: &[u8], imported: CallSet) -> Result<CallSet, DeclarationError> {
    let Some(list) = own_list(wasm)? else { return Ok(imported) };
    if list.len() > SECTION_MAX {
        return Err(DeclarationError::TooLong(list.len()));
    }
    let between = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | 0);
    let names = list.split(between).filter(|name| !name.is_empty());
    let named = names.map(|name| {
        let name = String::from_utf8_lossy(name);
        HostCall::named(&name).ok_or_else(|| DeclarationError::Unknown(name.into_owned()))
    });
    Ok(named.collect::<Result<CallSet, _>>()?.and(imported))
}

/// Contents of the section, if there is one.
fn own_list(wasm: &[u8]) -> Result<Option<&[u8]>, DeclarationError> {
    let mut found = None;
    for section in Sections::of(wasm)? {
        let (number, mut section) = section?;
        if number != 0 {
            continue;
        }
        let name = sized(&mut section).ok_or(DeclarationError::Sections)?;
        if name == SECTION.as_bytes() && found.replace(section).is_some() {
            return Err(DeclarationError::Twice);
        }
    }
    Ok(found)
}

/// The sections of a module, or of a component, one after the other: number and contents. It ends with the first that is cut short.
///
/// Behind magic number and version: for each section its number, its size and its contents; those of a custom one (number 0) begin
/// with its name (WebAssembly core specification, sections 5.5.2 and 5.5.3; component model, `Binary.md`).
pub(crate) struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    pub(crate) fn of(wasm: &'a [u8]) -> Result<Self, DeclarationError> {
        wasm.get(8..).map(Self).ok_or(DeclarationError::Sections)
    }
}

impl<'a> Iterator for Sections<'a> {
    type Item = Result<(u8, &'a [u8]), DeclarationError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, mut rest) = self.0.split_first()?;
        let section = sized(&mut rest);
        self.0 = if section.is_some() { rest } else { &[] };
        Some(section.map(|section| (*number, section)).ok_or(DeclarationError::Sections))
    }
}

/// Takes a size in LEB128 (section 5.2.2) and so many bytes off the front.
fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut size = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        size |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (taken, rest) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
            *bytes = rest;
            return Some(taken);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(names: &[&str]) -> CallSet {
        names.iter().map(|name| HostCall::named(name).unwrap()).collect()
    }

    /// A module of these sections and nothing else.
    fn module(sections: &[(&str, &str)]) -> Vec<u8> {
        let mut out = b"\0asm\x01\0\0\0".to_vec();
        for (name, content) in sections {
            let size = name.len() + 1 + content.len();
            out.extend([0, (size & 0x7f) as u8 | 0x80, (size >> 7) as u8, name.len() as u8]);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(content.as_bytes());
        }
        out
    }

    #[test]
    fn a_module_may_call_what_it_imports_and_lists() {
        let imported = set(&["fd_read", "fd_write", "proc_exit"]);
        for (sections, want) in [
            (&[][..], imported),
            (&[("name", "x"), ("producers", "y")], imported),
            (&[(SECTION, "")], CallSet::EMPTY),
            (&[(SECTION, "fd_write")], set(&["fd_write"])),
            (&[("name", "x"), (SECTION, "fd_write,fd_read")], set(&["fd_read", "fd_write"])),
            // Two C strings, as a linker joins them; one of them names what is not imported.
            (&[(SECTION, "fd_write\0 random_get,\n fd_read\0"), ("name", "x")], set(&["fd_read", "fd_write"])),
        ] {
            assert_eq!(declared(&module(sections), imported), Ok(want), "{sections:?}");
        }
        let long = "fd_read,".repeat(513);
        for (sections, error) in [
            (&[(SECTION, "fd_write"), (SECTION, "fd_read")][..], DeclarationError::Twice),
            (&[(SECTION, "fd_writefd_read")], DeclarationError::Unknown("fd_writefd_read".into())),
            (&[(SECTION, "FD_READ")], DeclarationError::Unknown("FD_READ".into())),
            (&[(SECTION, long.as_str())], DeclarationError::TooLong(4104)),
        ] {
            assert_eq!(declared(&module(sections), imported), Err(error));
        }
        for (wasm, error) in [
            (&b"\0asm"[..], DeclarationError::Sections),
            (b"\0asm\x01\0\0\0\x00", DeclarationError::Sections),
            (b"\0asm\x01\0\0\0\x00\x05\x01", DeclarationError::Sections),
            (b"\0asm\x01\0\0\0\x01\x80\x80\x80\x80\x80\x00", DeclarationError::Sections),
        ] {
            assert_eq!(declared(wasm, imported), Err(error), "{wasm:?}");
        }
    }

    #[test]
    fn a_trace_is_the_sequence_of_records() {
        let (read, exit) = (HostCall::named("fd_read").unwrap(), HostCall::named("proc_exit").unwrap());
        let mut trace = Trace::default();
        trace.moves(5);
        trace.note(read, 0);
        trace.note(exit, NO_ANSWER);
        let records = [20_u8, 0, 0, 0, 5, 0, 0, 0, 38, 0, 255, 255, 0, 0, 0, 0];
        let want = Calls { set: set(&["fd_read", "proc_exit"]), trace: Digest::of_parts(&[DOMAIN, &records]) };
        assert_eq!(trace.finish(), want);

        // However it is cut into pieces.
        let (mut trace, mut whole) = (Trace::default(), DOMAIN.to_vec());
        for n in 0..2000_u32 {
            trace.moves(n);
            trace.note(read, 28);
            whole.extend([20, 0, 28, 0]);
            whole.extend(n.to_le_bytes());
        }
        assert_eq!(trace.finish().trace, Digest::of(&whole));
        assert_eq!(Trace::default().finish(), Calls { set: CallSet::EMPTY, trace: Digest::of(DOMAIN) });
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200), imported in any::<bool>()) {
            let imported = if imported { set(&["fd_read"]) } else { CallSet::EMPTY };
            for wasm in [bytes.clone(), [&b"\0asm\x01\0\0\0"[..], &bytes].concat()] {
                if let Ok(set) = declared(&wasm, imported) {
                    prop_assert!(set.is_within(imported));
                }
            }
        }
    }
}
