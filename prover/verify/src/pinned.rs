//! What a reader pins of the program: written once, when the program is built, and committed beside it.

use legation_core::{Digest, Rejection, encoding};
use serde::{Deserialize, Serialize};

/// The one version of the format.
pub const PINNED_VERSION: &str = "legation-program/v1";

/// The program and the parameters of its proofs. `prover/guest/PINNED.json` is the one that releases carry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// Always [`PINNED_VERSION`].
    pub version: String,
    /// Release of the proof system.
    pub openvm: String,
    /// Release of the interpreter.
    pub wasmi: String,
    /// Logarithm of the height of the stacked trace.
    pub stacked_height: u32,
    /// The program as it was built, an ELF file, by SHA-256: for whoever builds it again.
    pub elf: Digest,
    /// The proof system's commitment to it, in hexadecimal.
    pub commitment: String,
    /// The verifying key, by SHA-256.
    pub key: Digest,
}

impl Pinned {
    /// Reads the file.
    ///
    /// # Errors
    /// `proof.pinned`: it is none.
    pub fn from_text(text: &str) -> Result<Self, Rejection> {
        let bad = |got: String| {
            Rejection::new("proof.pinned", "pinned program").expected(format!("a file of {PINNED_VERSION}")).got(got)
        };
        let pinned: Self = serde_json::from_str(text).map_err(|why| bad(why.to_string()))?;
        if pinned.version != PINNED_VERSION {
            return Err(bad(pinned.version));
        }
        pinned.commitment_bytes().map_err(|why| bad(why.to_string()))?;
        Ok(pinned)
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The commitment.
    ///
    /// # Errors
    /// It is not hexadecimal.
    pub fn commitment_bytes(&self) -> Result<Vec<u8>, encoding::EncodingError> {
        encoding::unhex(&self.commitment)
    }

    /// The name that statements have for the program: SHA-256 of `legation-program-v1`, the key's digest, and the commitment.
    pub fn program(&self) -> Digest {
        let commitment = self.commitment_bytes().unwrap_or_default();
        Digest::of_parts(&[b"legation-program-v1", self.key.as_bytes(), &commitment])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned() -> Pinned {
        Pinned {
            version: PINNED_VERSION.to_owned(),
            openvm: "2.0.2".to_owned(),
            wasmi: "2.0.0".to_owned(),
            stacked_height: 24,
            elf: Digest::of(b"elf"),
            commitment: "00ff".to_owned(),
            key: Digest::of(b"key"),
        }
    }

    #[test]
    fn the_file_is_read_as_it_is_written() {
        assert_eq!(Pinned::from_text(&pinned().to_text()), Ok(pinned()));
        let text = pinned().to_text();
        for (from, to) in [("program/v1", "program/v2"), ("00ff", "00f"), ("\"openvm\"", "\"other\""), ("}", "")] {
            assert_eq!(Pinned::from_text(&text.replace(from, to)).unwrap_err().check, "proof.pinned", "{from}");
        }
    }

    #[test]
    fn another_key_or_commitment_is_another_program() {
        let name = pinned().program();
        assert_ne!(Pinned { key: Digest::of(b"other"), ..pinned() }.program(), name);
        assert_ne!(Pinned { commitment: "00fe".to_owned(), ..pinned() }.program(), name);
        // The file that it was built as is told by its commitment.
        assert_eq!(Pinned { elf: Digest::of(b"other"), ..pinned() }.program(), name);
    }
}
