//! A signing key in a hardware security module, by PKCS#11 (OASIS, version 2.40 and later): for the operator's root.
//!
//! It is *not* a [`legation_core::Signer`]: a token can be pulled out, so its signature is a `Result`, and statements take it by
//! [`legation_core::dsse::Unsigned`]. Nor is it for anything that signs often.
//!
//! A key is found by the label and serial number of its token and by its own label, never by the number of a slot, which changes.
//! Checks, each before the key is used:
//! 1. the module loads and starts; its path is configuration, because loading it runs it;
//! 2. exactly one token has the label (and the serial number, where one is named);
//! 3. the token is not locked, nor one wrong PIN away from it; one PIN is tried, once;
//! 4. exactly one Ed25519 private key has the key's label, and exactly one public key its id;
//! 5. the token says that the key was made in it, was always sensitive, and never could leave it; unsaid counts as no; nor does it
//!    want the PIN again for each signature;
//! 6. the public key verifies what the private key signs;
//! 7. the public key is the expected one, where one is expected (see [`crate::root`]).
//!
//! Every signature is verified before anybody sees it. The PIN is read from a file of its owner alone, or from the environment, is
//! wiped, and is in no text of this module.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use cryptoki::types::AuthPin;
use legation_core::{PublicKey, printable};
use zeroize::Zeroizing;

use crate::secret;

mod key;
mod token;

pub use key::TokenKey;

/// Variable of the environment that holds the PIN where no file does. Processes that are started inherit it.
pub const PIN_VARIABLE: &str = "LEGATION_HSM_PIN";
/// Longest PIN, in bytes.
pub const PIN_MAX: usize = 255;
/// Longest label of a token, in bytes (PKCS#11).
pub const TOKEN_LABEL_MAX: usize = 32;
/// Longest label of a key, in bytes.
pub const KEY_LABEL_MAX: usize = 64;

/// Where a key is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The module: a library that speaks PKCS#11.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Serial number of the token; needed where several have the label.
    pub serial: Option<String>,
    /// Label of the key.
    pub key: String,
}

/// What opens a token.
pub struct Pin(AuthPin);

/// Why a token or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HsmError {
    /// Check 1: not there, or no PKCS#11.
    #[error("PKCS#11 module {} cannot be loaded: {why}", .path.display())]
    Module {
        /// Where.
        path: PathBuf,
        /// What the loader says.
        why: String,
    },
    /// Check 1: it loads, and does not start.
    #[error("PKCS#11 module {} does not start ({code}): is it configured?", .path.display())]
    Start {
        /// Where.
        path: PathBuf,
        /// Its code.
        code: String,
    },
    /// Check 2: none.
    #[error("no token {wanted}; {seen}")]
    NoToken {
        /// Label and serial number.
        wanted: String,
        /// What is there.
        seen: String,
    },
    /// Check 2: several.
    #[error(
        "{} tokens are labelled {label:?}, with the serial numbers {}: name one with --token-serial",
        .serials.len(),
        .serials.join(", ")
    )]
    Ambiguous {
        /// The label.
        label: String,
        /// Which.
        serials: Vec<String>,
    },
    /// A label that no token or key can have.
    #[error("a label of {what} has 1 to {max} bytes, not {got}")]
    Label {
        /// Of a token, or of a key.
        what: &'static str,
        /// How many at most.
        max: usize,
        /// How many it has.
        got: usize,
    },
    /// There is no PIN to try.
    #[error("no PIN: name a file that holds it with --pin-file, or set {PIN_VARIABLE}")]
    NoPin,
    /// The PIN's file or variable is not what it should be.
    #[error("the PIN cannot be read from {from}: {why}")]
    PinSource {
        /// Which file or variable.
        from: String,
        /// What is wrong.
        why: String,
    },
    /// Check 3.
    #[error("token {token:?} refuses the PIN{}", warning(.last))]
    WrongPin {
        /// Label.
        token: String,
        /// Whether one more locks it.
        last: bool,
    },
    /// Check 3.
    #[error("token {token:?} is locked: its security officer can set a new PIN")]
    Locked {
        /// Label.
        token: String,
    },
    /// Check 3: the PIN was not tried.
    #[error("one wrong PIN more locks token {token:?}, so none was tried: log in with the token's own tool first")]
    LastTry {
        /// Label.
        token: String,
    },
    /// Its officer has set none yet.
    #[error("token {token:?} has no PIN yet: its security officer sets one")]
    NoPinSet {
        /// Label.
        token: String,
    },
    /// It cannot do Ed25519.
    #[error("token {token:?} cannot make or use Ed25519 keys ({mechanism}), which every statement is signed with")]
    NoMechanism {
        /// Label.
        token: String,
        /// What is missing.
        mechanism: &'static str,
    },
    /// Check 4: none.
    #[error("token {token:?} has no Ed25519 {half} key {key:?}")]
    NoKey {
        /// Label.
        token: String,
        /// Label.
        key: String,
        /// Private or public.
        half: &'static str,
    },
    /// Check 4: several.
    #[error("token {token:?} has {count} Ed25519 {half} keys {key:?}: which is meant?")]
    DuplicateKey {
        /// Label.
        token: String,
        /// Label.
        key: String,
        /// How many.
        count: usize,
        /// Private or public.
        half: &'static str,
    },
    /// A key with that label is there, and was not asked for.
    #[error("token {token:?} holds a key {key:?} already: use it with --root-exists, or name another with --root-key")]
    AlreadyThere {
        /// Label.
        token: String,
        /// Label.
        key: String,
    },
    /// Check 5.
    #[error("key {key:?} may have been outside token {token:?}: {attribute} is not {expected}")]
    Unguarded {
        /// Label.
        token: String,
        /// Label.
        key: String,
        /// Which property.
        attribute: &'static str,
        /// What it should be.
        expected: bool,
    },
    /// It would be asked for the PIN before each signature, which no statement is made for.
    #[error(
        "key {key:?} of token {token:?} wants the PIN for every signature (CKA_ALWAYS_AUTHENTICATE): make one that does not"
    )]
    EachTime {
        /// Label.
        token: String,
        /// Label.
        key: String,
    },
    /// Check 6, or a later signature.
    #[error("what token {token:?} signs with key {key:?} does not verify")]
    BadSignature {
        /// Label.
        token: String,
        /// Label.
        key: String,
    },
    /// Check 7.
    #[error("key {key:?} of token {token:?} is {got}, expected {expected}")]
    WrongKey {
        /// Label.
        token: String,
        /// Label.
        key: String,
        /// The key that should be there.
        expected: PublicKey,
        /// The key that is.
        got: PublicKey,
    },
    /// It was there, and is not any more.
    #[error("token {token:?} does not answer any more ({code}): was it removed?")]
    Gone {
        /// Label.
        token: String,
        /// Its last words.
        code: String,
    },
    /// Anything else that the module says.
    #[error("token {token:?} refuses: {code}")]
    Refused {
        /// Label.
        token: String,
        /// Its code, and what was called.
        code: String,
    },
}

fn warning(last: &bool) -> &'static str {
    if *last { "; ONE MORE WRONG PIN LOCKS IT" } else { "" }
}

impl Address {
    /// An address whose labels can be labels.
    ///
    /// # Errors
    /// One is empty or too long.
    pub fn new(module: PathBuf, token: String, serial: Option<String>, key: String) -> Result<Self, HsmError> {
        for (what, label, max) in [("a token", &token, TOKEN_LABEL_MAX), ("a key", &key, KEY_LABEL_MAX)] {
            if label.is_empty() || label.len() > max {
                return Err(HsmError::Label { what, max, got: label.len() });
            }
        }
        Ok(Self { module, token, serial, key })
    }
}

impl Pin {
    /// The PIN in a file, which only its owner may read: one line.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn from_file(path: &Path) -> Result<Self, HsmError> {
        let wrong = |why: String| HsmError::PinSource {
            from: printable::one_line(&path.display().to_string()).into_owned(),
            why,
        };
        let text = secret::read(path, PIN_MAX).map_err(wrong)?;
        Ok(Self::of(&text))
    }

    /// The PIN in [`PIN_VARIABLE`]; nothing where it is not set.
    ///
    /// # Errors
    /// It cannot be a PIN.
    pub fn from_environment() -> Result<Option<Self>, HsmError> {
        let wrong = |why: &str| HsmError::PinSource { from: PIN_VARIABLE.to_owned(), why: why.to_owned() };
        match std::env::var(PIN_VARIABLE).map(Zeroizing::new) {
            Ok(text) => secret::check(&text, PIN_MAX).map(|()| Some(Self::of(&text))).map_err(wrong),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(wrong("not UTF-8")),
        }
    }

    fn of(text: &str) -> Self {
        // An exact copy in one piece, which is wiped when it is dropped.
        Self(AuthPin::from(Box::<str>::from(text)))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_pin_is_one_line_of_a_file_that_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        let read = |content: &[u8], mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Pin::from_file(&path).map(drop).map_err(|e| e.to_string())
        };
        for fine in [&b"kolibri"[..], b"kolibri\n", b" with spaces \n", &[b'9'; PIN_MAX]] {
            assert_eq!(read(fine, 0o600), Ok(()), "{fine:?}");
        }
        assert_eq!(read(b"kolibri\n", 0o400), Ok(()));
        for (content, mode, why) in [
            (&b"kolibri\n"[..], 0o640, "chmod 600"),
            (b"kolibri\n", 0o604, "chmod 600"),
            (b"", 0o600, "empty"),
            (b"\n", 0o600, "empty"),
            (b"kolibri\n34\n", 0o600, "one line"),
            (b"kolibri\0", 0o600, "one line"),
            (b"kolibri\xff", 0o600, "UTF-8"),
            (&[b'9'; PIN_MAX + 1], 0o600, "longer"),
            (&[b'9'; 10_000], 0o600, "longer"),
        ] {
            let said = read(content, mode).unwrap_err();
            assert!(said.contains(why) && !said.contains("kolibri"), "{said}");
        }
        let said = Pin::from_file(dir.path()).unwrap_err().to_string();
        assert!(said.contains("not a file"), "{said}");
        assert!(Pin::from_file(&dir.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(format!("{:?}", Pin::of("4711")), "Pin(..)");
    }

    #[test]
    fn labels_have_limits() {
        let address = |token: &str, key: &str| Address::new("module".into(), token.into(), None, key.into());
        assert!(address("root", "root").is_ok());
        assert!(address(&"x".repeat(TOKEN_LABEL_MAX), &"x".repeat(KEY_LABEL_MAX)).is_ok());
        for (token, key) in [("", "root"), ("root", ""), (&*"x".repeat(33), "root"), ("root", &*"x".repeat(65))] {
            assert!(matches!(address(token, key), Err(HsmError::Label { .. })), "{token} {key}");
        }
    }
}
