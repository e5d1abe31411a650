//! A bounded front-to-back reader of the TPM's structures. TPM 2.0 Library structures are big-endian, event logs of the
//! PC Client firmware profile little-endian; nothing else differs.

/// Why bytes are not what they should be; a lowercase fragment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside a field.
    #[error("ends inside {0}")]
    Short(&'static str),
    /// Bytes are left when the structure is complete.
    #[error("{0} bytes behind the end")]
    Trailing(usize),
    /// A size or count above its bound.
    #[error("{what} of {got}, more than {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The size or count.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// A field holds what it must not hold, or what this crate does not take.
    #[error("{what} is {got}")]
    Value {
        /// Which field.
        what: &'static str,
        /// What it holds.
        got: String,
    },
}

/// A field that holds what it must not hold.
pub(crate) fn value(what: &'static str, got: impl std::fmt::Display) -> Malformed {
    Malformed::Value { what, got: got.to_string() }
}

/// What is left to read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short(what))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short(what))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn u16_le(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32_le(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64_le(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A `TPM2B`: 16 bits of size, then at most `max` bytes.
    pub(crate) fn sized(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let got = usize::from(self.u16(what)?);
        if got > max {
            return Err(Malformed::TooLarge { what, got, max });
        }
        self.take(got, what)
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.0.len())) }
    }
}

/// A `TPM2B` of `bytes`; nothing here is ever as long as its size field can say.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes(), bytes].concat()
}
