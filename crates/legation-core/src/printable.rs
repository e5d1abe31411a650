//! Strangers' words on their way to people: subjects of certificates, names, reasons. Whoever wrote them may not steer a
//! terminal, forge a line of a log, or turn text around.

use std::borrow::Cow;

/// Whether a character does more than show itself: controls, ends of lines and paragraphs, marks of direction, characters of
/// no width.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escape<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let bad = |c: char| steers(c) && !kept.contains(&c);
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match bad(c) {
            true => out.extend(c.escape_debug()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// `text` on one line, with everything escaped that does more than show itself. What was escaped stays as it is.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, &[])
}

/// As [`one_line`], but lines end and tabs stand as they are: for what this program laid out itself.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, &['\n', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_escaped_and_all_else_stands() {
        for (text, expected) in [
            ("CN=grüße, O=\"a\\b\"", "CN=grüße, O=\"a\\b\""),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\r\n\tb", "a\\r\\n\\tb"),
            ("a\u{9b}31mb\u{7f}", "a\\u{9b}31mb\\u{7f}"),
            ("abc\u{202e}fed\u{2066}\u{200b}\u{2028}", "abc\\u{202e}fed\\u{2066}\\u{200b}\\u{2028}"),
        ] {
            assert_eq!(one_line(text), expected);
            assert_eq!(one_line(expected), expected, "once is enough");
        }
        assert_eq!(lines("a\n\tb\u{1b}c\r"), "a\n\tb\\u{1b}c\\r");
    }
}
