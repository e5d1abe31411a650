//! A guest's linear memory, seen through checks. Every pointer and length is the guest's word and may be a lie.
//!
//! Checked here: (1) pointer + length without overflow, (2) within the memory as it is now, (3) vectors of bounded count and total,
//! (4) all of a vector before any of it is used. Alignment is not demanded: no access here depends on it.

use std::ops::Range;

/// Most buffers in one scattered read or write, and most subscriptions in one poll.
pub(super) const VECTOR_MAX: u32 = 1024;

/// A WASI preview-1 `errno`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Errno(pub(super) u16);

impl Errno {
    pub(super) const SUCCESS: Self = Self(0);
    pub(super) const AGAIN: Self = Self(6);
    pub(super) const BADF: Self = Self(8);
    pub(super) const CHILD: Self = Self(12);
    pub(super) const FAULT: Self = Self(21);
    pub(super) const HOSTUNREACH: Self = Self(23);
    pub(super) const INVAL: Self = Self(28);
    pub(super) const MFILE: Self = Self(33);
    pub(super) const MSGSIZE: Self = Self(35);
    pub(super) const NOSYS: Self = Self(52);
    pub(super) const SPIPE: Self = Self(70);
    pub(super) const NOTCAPABLE: Self = Self(76);
}

pub(super) struct Guest<'a>(&'a mut [u8]);

/// A `ciovec` or `iovec`, checked to lie within the memory.
pub(super) struct IoVecs {
    ranges: Vec<Range<usize>>,
    /// Of all lengths; fits in 32 bits, as the answer to the guest must.
    pub(super) total: u32,
}

impl<'a> Guest<'a> {
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self(memory)
    }

    fn range(&self, ptr: u32, len: u32) -> Result<Range<usize>, Errno> {
        let end = u64::from(ptr) + u64::from(len);
        if end > self.0.len() as u64 {
            return Err(Errno::FAULT);
        }
        Ok(ptr as usize..end as usize)
    }

    pub(super) fn bytes(&self, ptr: u32, len: u32) -> Result<&[u8], Errno> {
        let range = self.range(ptr, len)?;
        Ok(&self.0[range])
    }

    pub(super) fn bytes_mut(&mut self, ptr: u32, len: u32) -> Result<&mut [u8], Errno> {
        let range = self.range(ptr, len)?;
        Ok(&mut self.0[range])
    }

    /// Writes `N` bytes, all or none.
    pub(super) fn put<const N: usize>(&mut self, ptr: u32, bytes: [u8; N]) -> Result<(), Errno> {
        self.bytes_mut(ptr, N as u32)?.copy_from_slice(&bytes);
        Ok(())
    }

    /// Reads and checks `count` pairs of pointer and length at `ptr`.
    pub(super) fn iovecs(&self, ptr: u32, count: u32) -> Result<IoVecs, Errno> {
        if count > VECTOR_MAX {
            return Err(Errno::INVAL);
        }
        let mut total = 0_u32;
        let mut ranges = Vec::with_capacity(count as usize);
        for pair in self.bytes(ptr, count * 8)?.chunks_exact(8) {
            let word = |at: usize| u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
            let (base, len) = (word(0), word(4));
            total = total.checked_add(len).ok_or(Errno::INVAL)?;
            ranges.push(self.range(base, len)?);
        }
        Ok(IoVecs { ranges, total })
    }

    /// The bytes that `vecs` name, buffer by buffer. The memory cannot have shrunk since they were checked.
    pub(super) fn gather<'v>(&'v self, vecs: &'v IoVecs) -> impl Iterator<Item = &'v [u8]> {
        vecs.ranges.iter().map(|range| &self.0[range.clone()])
    }

    /// Copies from `source` into the buffers until either ends; says how many bytes.
    pub(super) fn scatter(&mut self, vecs: &IoVecs, mut source: &[u8]) -> u32 {
        let mut done = 0;
        for range in &vecs.ranges {
            let n = range.len().min(source.len());
            let (head, tail) = source.split_at(n);
            self.0[range.start..range.start + n].copy_from_slice(head);
            source = tail;
            done += n as u32;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::{Errno, Guest, VECTOR_MAX};

    #[test]
    fn a_range_is_inside_or_a_fault() {
        let mut memory = [0; 64];
        let guest = Guest::new(&mut memory);
        for (ptr, len, inside) in [
            (0, 64, true),
            (64, 0, true),
            (63, 1, true),
            (0, 0, true),
            (65, 0, false),
            (64, 1, false),
            (0, 65, false),
            (1, u32::MAX, false),
            (u32::MAX, 1, false),
            (u32::MAX, u32::MAX, false),
        ] {
            assert_eq!(guest.bytes(ptr, len).is_ok(), inside, "{ptr}+{len}");
        }
    }

    #[test]
    fn vectors_are_checked_whole_before_use() {
        let mut memory = [0; 64];
        memory[..4].copy_from_slice(&16_u32.to_le_bytes());
        memory[4..8].copy_from_slice(&8_u32.to_le_bytes());
        memory[8..12].copy_from_slice(&60_u32.to_le_bytes());
        memory[12..16].copy_from_slice(&8_u32.to_le_bytes());
        let guest = Guest::new(&mut memory);
        assert_eq!(guest.iovecs(0, 1).map(|v| v.total), Ok(8));
        for (ptr, count, errno) in [
            (0, 2, Errno::FAULT),
            (60, 1, Errno::FAULT),
            (0, 9, Errno::FAULT),
            (0, VECTOR_MAX + 1, Errno::INVAL),
            (0, u32::MAX, Errno::INVAL),
        ] {
            assert_eq!(guest.iovecs(ptr, count).map(|v| v.total), Err(errno), "{ptr} x {count}");
        }
    }
}
