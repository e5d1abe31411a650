//! The identity of a chip, small: of hexadecimal digits, which it mostly consists of, two take a byte.

use std::fmt;

use legation_core::{Digest, encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What begins the form of one that is made of hexadecimal digits.
const DIGITS: u8 = 1;
/// What begins the form of any other.
const TEXT: u8 = 0;

/// A chip of a machine or an accelerator, by its name in the claims.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chip(Box<[u8]>);

impl Chip {
    pub(crate) fn new(name: &str) -> Self {
        // Whatever would not come back as it was stays text.
        let digits = encoding::unhex(name).ok().filter(|bytes| encoding::hex(bytes) == name);
        let (form, bytes) = match &digits {
            Some(bytes) => (DIGITS, bytes.as_slice()),
            None => (TEXT, name.as_bytes()),
        };
        let mut all = Vec::with_capacity(bytes.len().saturating_add(1));
        all.push(form);
        all.extend_from_slice(bytes);
        Self(all.into_boxed_slice())
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        match self.0.split_first() {
            Some((&DIGITS, bytes)) => encoding::hex(bytes),
            Some((_, bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            None => String::new(),
        }
    }

    /// What names one of its slots.
    pub(crate) fn slot(&self, slot: u16) -> Digest {
        Digest::of_parts(&[&slot.to_be_bytes(), &self.0])
    }

    /// Bytes that it takes beside itself.
    pub(crate) fn weight(&self) -> usize {
        self.0.len()
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
        for (name, bytes) in [("", 1), ("c0ffee", 4), ("C0FFEE", 7), ("c0f", 4), ("chip of a", 10), ("\u{e9}", 3)] {
            let chip = Chip::new(name);
            assert_eq!((chip.name().as_str(), chip.weight()), (name, bytes), "{name}");
            assert_eq!(chip.slot(0), Chip::new(name).slot(0));
            assert_ne!(chip.slot(0), chip.slot(1));
        }
        assert_ne!(Chip::new("00").slot(0), Chip::new("0").slot(0));
    }
}
