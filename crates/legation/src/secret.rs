//! A secret that people keep in a file: one line, which only its owner may read.

use std::{fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};

use zeroize::Zeroizing;

/// Reads one; `max` is the most bytes that it may have.
///
/// # Errors
/// What is wrong with the file, in words that say nothing of what it holds.
pub(crate) fn read(path: &Path, max: usize) -> Result<Zeroizing<String>, String> {
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let metadata = file.metadata().map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("not a file".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return Err("others than its owner may use it: chmod 600".to_owned());
    }
    // A buffer that does not grow: nothing is left behind that is not wiped. One byte more than a line of that length.
    let mut buffer = Zeroizing::new(vec![0_u8; max + 2]);
    let mut filled = 0;
    loop {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
    let text = std::str::from_utf8(&buffer[..filled]).map_err(|_| "not UTF-8")?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    check(text, max)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether it can be one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(text: &str, max: usize) -> Result<(), &'static str> {
    match text {
        "" => Err("it is empty"),
        long if long.len() > max => Err("it is longer than any"),
        lines if lines.contains(['\n', '\r', '\0']) => Err("it is more than one line"),
        _ => Ok(()),
    }
}
