//! PEM (RFC 7468), strict and bounded. Contents are wiped when dropped, since they may be private keys.

use legation_core::encoding;
use zeroize::Zeroizing;

/// Largest PEM text read, in bytes.
pub(crate) const PEM_MAX: usize = 64 * 1024;
/// Most blocks in one PEM text.
pub(crate) const BLOCKS_MAX: usize = 8;

/// One block: what it says it is, and its bytes.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Zeroizing<Vec<u8>>,
}

/// Why a text is not PEM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PemError {
    #[error("larger than {PEM_MAX} bytes")]
    TooLarge,
    #[error("more than {BLOCKS_MAX} blocks")]
    TooMany,
    #[error("not ASCII text")]
    NotText,
    #[error("no `-----BEGIN` line")]
    Empty,
    #[error("block `{0}` does not end with its own `-----END` line")]
    Unterminated(String),
    #[error("block `{0}` is not base64")]
    NotBase64(String),
}

/// The blocks of `text`, in order. Text outside of blocks is skipped (RFC 7468 section 2).
pub(crate) fn read(text: &[u8]) -> Result<Vec<Block>, PemError> {
    if text.len() > PEM_MAX {
        return Err(PemError::TooLarge);
    }
    let text = std::str::from_utf8(text).ok().filter(|t| t.is_ascii()).ok_or(PemError::NotText)?;
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) else { continue };
        if blocks.len() == BLOCKS_MAX {
            return Err(PemError::TooMany);
        }
        let end = format!("-----END {label}-----");
        // Sized at once, so that no reallocation leaves a copy of a key behind.
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) if !line.starts_with("-----") => body.push_str(line),
                _ => return Err(PemError::Unterminated(label.to_owned())),
            }
        }
        let der = encoding::unbase64(&body).map_err(|_| PemError::NotBase64(label.to_owned()))?;
        blocks.push(Block { label: label.to_owned(), der: Zeroizing::new(der) });
    }
    if blocks.is_empty() { Err(PemError::Empty) } else { Ok(blocks) }
}

/// Writes blocks of 64-character lines, one after the other.
pub(crate) fn write(blocks: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    const LINE: usize = 64;
    let size = blocks.iter().map(|(label, der)| der.len().div_ceil(3) * 4 * (LINE + 1) / LINE + 2 * label.len() + 40);
    let mut out = Zeroizing::new(Vec::with_capacity(size.sum()));
    for (label, der) in blocks {
        let body = Zeroizing::new(encoding::base64(der));
        out.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
        for line in body.as_bytes().chunks(LINE) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_without_growing_the_buffer() {
        let (a, b) = (vec![7; 1000], vec![9; 48]);
        let text = write(&[("CERTIFICATE", &a), ("PRIVATE KEY", &b)]);
        let capacity: usize =
            [(11, 1000), (11, 48)].iter().map(|(l, d): &(usize, usize)| d.div_ceil(3) * 4 * 65 / 64 + 2 * l + 40).sum();
        assert!(text.len() <= capacity, "{} > {capacity}: a reallocation would leave key bytes behind", text.len());
        let blocks = read(&text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].label.as_str(), &blocks[0].der[..]), ("CERTIFICATE", &a[..]));
        assert_eq!((blocks[1].label.as_str(), &blocks[1].der[..]), ("PRIVATE KEY", &b[..]));
    }

    #[test]
    fn damaged_texts_are_refused() {
        for (text, why) in [
            ("", PemError::Empty),
            ("-----BEGIN A-----\nAA==\n", PemError::Unterminated("A".into())),
            ("-----BEGIN A-----\nAA==\n-----END B-----\n", PemError::Unterminated("A".into())),
            ("-----BEGIN A-----\nA=\n-----END A-----\n", PemError::NotBase64("A".into())),
            ("\u{e9}", PemError::NotText),
        ] {
            assert_eq!(read(text.as_bytes()).err(), Some(why), "{text:?}");
        }
        let many = "-----BEGIN A-----\nAA==\n-----END A-----\n".repeat(BLOCKS_MAX + 1);
        assert_eq!(read(many.as_bytes()).err(), Some(PemError::TooMany));
        assert_eq!(read(&vec![b'\n'; PEM_MAX + 1]).err(), Some(PemError::TooLarge));
    }
}
