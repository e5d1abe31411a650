//! Counts words. Texts over 4096 bytes are halved between words, and each half is counted by the module that the argument
//! `module=SHA256` names, in another enclave; what nobody else counted is counted here. Prints `words N`.
//!
//! `delegate.rs` is the Rust that docs/write-a-task.md shows under "Hand a part on": `cargo xtask guests` puts it beside this file.

use std::io::Read;

include!("delegate.rs");

const ALONE: usize = 4096;

/// As C's isspace: tab to carriage return, and space.
fn is_space(byte: &u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

fn count(text: &[u8]) -> usize {
    text.split(is_space).filter(|word| !word.is_empty()).count()
}

/// Cut where a word has just ended, in the second half; a text of one word stays whole.
fn halves(text: &[u8]) -> Vec<&[u8]> {
    match (text.len() / 2..text.len()).find(|at| is_space(&text[*at])) {
        Some(at) => vec![&text[..at], &text[at..]],
        None => vec![text],
    }
}

/// The SHA-256 in `module=SHA256`.
fn digest(argument: &str) -> Result<[u8; 32], String> {
    let hex = argument.trim_start_matches("module=");
    if hex.len() != 64 || !hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("module: expected 64 hexadecimal digits".to_owned());
    }
    let mut digest = [0; 32];
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).map_err(|why| why.to_string())?;
    }
    Ok(digest)
}

/// The number in an answer.
fn number(answer: &[u8]) -> Result<usize, String> {
    let number = std::str::from_utf8(answer).ok().and_then(|text| text.strip_prefix("words ")?.trim_end().parse().ok());
    number.ok_or_else(|| "the answer is no number of words".to_owned())
}

/// Counted in another enclave, or else here.
fn count_elsewhere(argument: &str, half: &[u8]) -> usize {
    let options = format!("{{\"args\":[\"{argument}\"],\"output\":64}}");
    let counted =
        digest(argument).and_then(|module| delegate(&module, half, &options)).and_then(|answer| number(&answer));
    counted.unwrap_or_else(|why| {
        eprintln!("counted here: {why}");
        count(half)
    })
}

fn main() {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).expect("an input");
    let argument = std::env::args().find(|argument| argument.starts_with("module="));
    let words: usize = match argument {
        Some(argument) if text.len() > ALONE => halves(&text).iter().map(|half| count_elsewhere(&argument, half)).sum(),
        _ => count(&text),
    };
    println!("words {words}");
}
