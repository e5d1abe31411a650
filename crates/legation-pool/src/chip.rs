//! The identity of a chip, small: of hexadecimal digits, which it mostly consists of, two take a byte.

use std::fmt;

use legation_core::{Digest, encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A chip of a machine or an accelerator, by its name in the claims.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chip {
    /// Whether the bytes are those that the name gives in hexadecimal digits; they are its text otherwise.
    digits: bool,
    bytes: Box<[u8]>,
}

impl Chip {
    pub(crate) fn new(name: &str) -> Self {
        // Whatever would not come back as it was stays text.
        match encoding::unhex(name).ok().filter(|bytes| encoding::hex(bytes) == name) {
            Some(bytes) => Self { digits: true, bytes: bytes.into_boxed_slice() },
            None => Self { digits: false, bytes: name.as_bytes().into() },
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        if self.digits { encoding::hex(&self.bytes) } else { String::from_utf8_lossy(&self.bytes).into_owned() }
    }

    /// What names one of its slots.
    pub(crate) fn slot(&self, slot: u16) -> Digest {
        Digest::of_parts(&[&slot.to_be_bytes(), &[u8::from(self.digits)], &self.bytes])
    }

    /// Bytes that it takes beside itself.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chip({})", self.name())
    }
}

impl Serialize for Chip {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Chip {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|name| Self::new(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::Chip;

    #[test]
    fn every_name_comes_back_and_digits_take_half() {
        for (name, bytes) in [("", 0), ("c0ffee", 3), ("C0FFEE", 6), ("c0f", 3), ("chip of a", 9), ("\u{e9}", 2)] {
            let chip = Chip::new(name);
            assert_eq!((chip.name().as_str(), chip.weight()), (name, bytes), "{name}");
            assert_eq!(chip.slot(0), Chip::new(name).slot(0));
            assert_ne!(chip.slot(0), chip.slot(1));
        }
        assert_ne!(Chip::new("00").slot(0), Chip::new("0").slot(0));
    }
}
