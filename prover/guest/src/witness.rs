//! What the program is given. Nobody has to trust it: what matters of it goes into the digest that is made public.
//!
//! ```text
//! head = seed (32) · clock in seconds (8) · output? (1) · key of the output's commitment (32)
//!        · number of arguments (4) · each: length (4), bytes · number of inputs (4) · each: key of its commitment (32)
//! ```
//! Numbers are big-endian. Module and inputs follow as byte strings of their own.

/// Most arguments, and most inputs: as in the engine.
const STRINGS_MAX: u32 = 1024;

/// A head that is none.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Malformed {
    /// It ends too early.
    Short,
    /// Bytes follow its end.
    Long,
    /// More arguments or inputs than there may be.
    Many,
    /// A byte that is neither 0 nor 1 where one of them must be.
    Flag,
    /// An argument with a NUL inside, or that is not UTF-8.
    Argument,
    /// Another number of inputs than the head says.
    Inputs,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Short => "the head ends too early",
            Self::Long => "bytes follow the head",
            Self::Many => "too many arguments or inputs",
            Self::Flag => "a flag that is neither 0 nor 1",
            Self::Argument => "an argument that is not text without NUL",
            Self::Inputs => "another number of inputs than the head says",
        })
    }
}

/// All that an execution depends on, and the keys of the commitments to what must not be public.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
pub struct Witness {
    /// The module.
    pub module: Vec<u8>,
    /// Its arguments, after the program's name.
    pub args: Vec<String>,
    /// Seed of its randomness.
    pub seed: [u8; 32],
    /// What its clocks show, in Unix seconds.
    pub clock: u64,
    /// Each input with the key of its commitment.
    pub inputs: Vec<([u8; 32], Vec<u8>)>,
    /// Key of the commitment to the output; nothing where the report names none, which is then proven to be empty.
    pub output_key: Option<[u8; 32]>,
}

struct Head<'a> {
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Short)
    }

    fn count(&mut self) -> Result<u32, Malformed> {
        let count = u32::from_be_bytes(self.array()?);
        if count > STRINGS_MAX { Err(Malformed::Many) } else { Ok(count) }
    }
}

struct Fields {
    seed: [u8; 32],
    clock: u64,
    output_key: Option<[u8; 32]>,
    args: Vec<String>,
    keys: Vec<[u8; 32]>,
}

fn fields(head: &[u8]) -> Result<Fields, Malformed> {
    let mut head = Head { rest: head };
    let seed = head.array()?;
    let clock = u64::from_be_bytes(head.array()?);
    let [flag] = head.array()?;
    let key = head.array()?;
    let output_key = match flag {
        0 => None,
        1 => Some(key),
        _ => return Err(Malformed::Flag),
    };
    let mut args = Vec::new();
    for _ in 0..head.count()? {
        let len = u32::from_be_bytes(head.array()?);
        let bytes = head.take(usize::try_from(len).map_err(|_| Malformed::Short)?)?;
        let text = core::str::from_utf8(bytes).map_err(|_| Malformed::Argument)?;
        if text.contains('\0') {
            return Err(Malformed::Argument);
        }
        args.push(text.to_owned());
    }
    let mut keys = Vec::new();
    for _ in 0..head.count()? {
        keys.push(head.array()?);
    }
    if head.rest.is_empty() { Ok(Fields { seed, clock, output_key, args, keys }) } else { Err(Malformed::Long) }
}

impl Witness {
    /// How many inputs follow a head.
    ///
    /// # Errors
    /// It is none.
    pub fn inputs_of(head: &[u8]) -> Result<usize, Malformed> {
        fields(head).map(|fields| fields.keys.len())
    }

    /// Puts a witness together.
    ///
    /// # Errors
    /// The head is none, or of another number of inputs.
    pub fn read(head: &[u8], module: Vec<u8>, inputs: Vec<Vec<u8>>) -> Result<Self, Malformed> {
        let Fields { seed, clock, output_key, args, keys } = fields(head)?;
        if keys.len() != inputs.len() {
            return Err(Malformed::Inputs);
        }
        Ok(Self { module, args, seed, clock, inputs: keys.into_iter().zip(inputs).collect(), output_key })
    }

    /// The head, as it is read.
    pub fn head(&self) -> Vec<u8> {
        // Bounded far below 2^32 by whoever reads it.
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        let mut out = Vec::new();
        out.extend_from_slice(&self.seed);
        out.extend_from_slice(&self.clock.to_be_bytes());
        out.push(u8::from(self.output_key.is_some()));
        out.extend_from_slice(&self.output_key.unwrap_or_default());
        out.extend_from_slice(&count(self.args.len()));
        for arg in &self.args {
            out.extend_from_slice(&count(arg.len()));
            out.extend_from_slice(arg.as_bytes());
        }
        out.extend_from_slice(&count(self.inputs.len()));
        self.inputs.iter().for_each(|(key, _)| out.extend_from_slice(key));
        out
    }
}
