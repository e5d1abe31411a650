//! Signed notes (c2sp.org/signed-note): a text, an empty line, and lines of signatures.
//!
//! ```text
//! the text, any lines
//!
//! — NAME base64(key id || signature)
//! ```
//! A key is known by its name and by the first four bytes of `SHA-256(name || "\n" || kind || public key)`. Signatures by keys that
//! the reader does not know are passed over, as the specification demands; one under a known name and id that does not verify
//! refuses the note.

use std::{fmt, str::FromStr};

use legation_core::{Digest, PublicKey, Signature, Signer, encoding};

/// Longest note read, in bytes.
pub const NOTE_MAX: usize = 16 << 10;
/// Most signatures of a note.
pub const SIGNATURES_MAX: usize = 32;
/// Longest name of a key, in bytes.
pub const NAME_MAX: usize = 255;
/// Most bytes of a signature, with its key id: post-quantum ones are passed over, but must fit.
const SIGNATURE_MAX: usize = 6 << 10;

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// What a key signs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyKind {
    /// The text of the note, by Ed25519 (0x01): what logs sign their checkpoints with.
    Log,
    /// Time and text, by Ed25519 (0x04, c2sp.org/tlog-cosignature): what witnesses sign.
    Witness,
}

impl KeyKind {
    /// The identifier byte of the specification.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Witness => 4,
        }
    }
}

/// A key as readers know it. As text a *vkey*: `NAME+HEX-OF-ID+base64(kind || public key)`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NoteKey {
    name: String,
    kind: KeyKind,
    key: PublicKey,
}

/// A note with its signatures, none of them believed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A line of signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// Why a note is not read, or not believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// Larger than allowed.
    #[error("{what} of a note is larger than {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Not of the form of a signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// The name of a key cannot be one.
    #[error("not the name of a key: 1 to {NAME_MAX} bytes without spaces, controls and `+`")]
    Name,
    /// Not a key in text.
    #[error("not a key such as NAME+HEX+BASE64 (a vkey of c2sp.org/signed-note) of this kind")]
    Key,
    /// Nobody of those known signed it.
    #[error("not signed by {name}")]
    Unsigned {
        /// Who should have.
        name: String,
    },
    /// A known key's signature does not verify.
    #[error("signature of {name} does not verify")]
    BadSignature {
        /// Whose.
        name: String,
    },
}

impl NoteKey {
    /// A key of this name.
    ///
    /// # Errors
    /// [`NoteError::Name`].
    pub fn new(name: &str, kind: KeyKind, key: PublicKey) -> Result<Self, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Name);
        }
        Ok(Self { name: name.to_owned(), kind, key })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The public key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The four bytes that stand for it in signatures.
    pub fn id(&self) -> [u8; 4] {
        let digest = Digest::of_parts(&[self.name.as_bytes(), b"\n", &[self.kind.byte()], self.key.as_bytes()]);
        let [a, b, c, d, ..] = *digest.as_bytes();
        [a, b, c, d]
    }
}

/// Is it a name of a key? Spaces of Unicode and `+` would end it early.
pub fn is_name(name: &str) -> bool {
    let bad = |c: char| c == '+' || c.is_whitespace() || c.is_control();
    !name.is_empty() && name.len() <= NAME_MAX && !name.contains(bad)
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = [&[self.kind.byte()][..], self.key.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, encoding::hex(&self.id()), encoding::base64(&encoded))
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let encoded: [u8; 33] = encoding::unbase64_array(key).map_err(|_| NoteError::Key)?;
        let (kind, key) = encoded.split_first_chunk::<1>().ok_or(NoteError::Key)?;
        let kind = [KeyKind::Log, KeyKind::Witness].into_iter().find(|known| known.byte() == kind[0]);
        let key = PublicKey::from_bytes(key.try_into().map_err(|_| NoteError::Key)?);
        let found = Self::new(name, kind.ok_or(NoteError::Key)?, key)?;
        if encoding::hex(&found.id()) == id { Ok(found) } else { Err(NoteError::Key) }
    }
}

impl Note {
    /// A note of this text, which ends with a line break, signed as a log signs it.
    ///
    /// # Errors
    /// The text or the name cannot be those of a note.
    pub fn sign(text: &str, name: &str, signer: &dyn Signer) -> Result<Self, NoteError> {
        check_text(text)?;
        let key = NoteKey::new(name, KeyKind::Log, signer.public_key())?;
        let signature = NoteSignature::by(&key, signer.sign(text.as_bytes()).0.to_vec());
        Ok(Self { text: text.to_owned(), signatures: vec![signature] })
    }

    /// Reads a note in its one spelling.
    ///
    /// # Errors
    /// Too large, or not a note.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        if text.len() > NOTE_MAX {
            return Err(NoteError::TooLarge { what: "the whole", max: NOTE_MAX });
        }
        let end = text.rfind("\n\n").ok_or(NoteError::Malformed("no empty line before signatures"))?;
        let (body, lines) = (text.get(..=end).unwrap_or_default(), text.get(end + 2..).unwrap_or_default());
        check_text(body)?;
        let signatures = signature_lines(lines)?;
        Ok(Self { text: body.to_owned(), signatures })
    }

    /// The text, with the line break at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, none of them believed.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature that is not there; whether it is a good one is for readers to check.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() >= SIGNATURES_MAX {
            return Err(NoteError::TooLarge { what: "number of signatures", max: SIGNATURES_MAX });
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// Leaves out signatures under other names or ids than those of `key`, and repetitions: anybody can put lines beside a log's own.
    pub(crate) fn keep(&mut self, key: &NoteKey) {
        let id = key.id();
        self.signatures.retain(|signature| signature.name == key.name && signature.id == id);
        self.signatures.dedup();
    }

    /// What follows the id in each signature under the name and id of `key`; at least one.
    pub(crate) fn signed_as(&self, key: &NoteKey) -> Result<Vec<&[u8]>, NoteError> {
        let id = key.id();
        let by = |signature: &&NoteSignature| signature.name == key.name && signature.id == id;
        let found: Vec<_> = self.signatures.iter().filter(by).map(|signature| signature.bytes.as_slice()).collect();
        if found.is_empty() { Err(NoteError::Unsigned { name: key.name.clone() }) } else { Ok(found) }
    }

    /// Whether `key`, a log's, signed the text.
    ///
    /// # Errors
    /// It did not, or a signature under its name does not verify.
    pub fn verify(&self, key: &NoteKey) -> Result<(), NoteError> {
        let bad = || NoteError::BadSignature { name: key.name.clone() };
        if key.kind != KeyKind::Log {
            return Err(NoteError::Key);
        }
        for bytes in self.signed_as(key)? {
            let signature = Signature(bytes.try_into().map_err(|_| bad())?);
            key.key.verify(self.text.as_bytes(), &signature).map_err(|_| bad())?;
        }
        Ok(())
    }
}

impl NoteSignature {
    /// A signature under the name and id of `key`.
    pub(crate) fn by(key: &NoteKey, bytes: Vec<u8>) -> Self {
        Self { name: key.name.clone(), id: key.id(), bytes }
    }

    /// Name of the key it says it is by.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Lines of signatures, as they stand in a note and in a witness's answer: one at least.
///
/// # Errors
/// Not such lines, or too many.
pub fn signature_lines(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let malformed = || NoteError::Malformed("a line of signature is not `\u{2014} NAME BASE64`");
    if lines.len() > NOTE_MAX {
        return Err(NoteError::TooLarge { what: "signatures", max: NOTE_MAX });
    }
    let lines = lines.strip_suffix('\n').ok_or_else(malformed)?;
    let mut found = Vec::new();
    for line in lines.split('\n') {
        let (name, encoded) = line.strip_prefix(DASH).and_then(|l| l.split_once(' ')).ok_or_else(malformed)?;
        let bytes = encoding::unbase64(encoded).map_err(|_| malformed())?;
        let (id, bytes) = bytes.split_first_chunk::<4>().ok_or_else(malformed)?;
        if !is_name(name) || bytes.is_empty() || bytes.len() > SIGNATURE_MAX {
            return Err(malformed());
        }
        if found.len() >= SIGNATURES_MAX {
            return Err(NoteError::TooLarge { what: "number of signatures", max: SIGNATURES_MAX });
        }
        found.push(NoteSignature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() });
    }
    Ok(found)
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > NOTE_MAX {
        return Err(NoteError::TooLarge { what: "text", max: NOTE_MAX });
    }
    if !text.ends_with('\n') || text.contains(|c: char| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("the text ends with a line break, and has no other control characters"));
    }
    Ok(())
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.bytes].concat();
        writeln!(f, "{DASH}{} {}", self.name, encoding::base64(&bytes))
    }
}

/// The one spelling.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| write!(f, "{signature}"))
    }
}
