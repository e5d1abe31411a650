//! The words of a policy text, without understanding them: enough to bound it before it is parsed, and to show a rule's
//! conditions in the words of whoever wrote them. Cedar itself decides what the text means.

/// Deepest nesting of brackets.
pub(crate) const NESTING_MAX: usize = 32;
/// Most words of one rule that can make its expression deeper. Cedar's parser is recursive: this is what keeps its stack small.
pub(crate) const CHAIN_MAX: usize = 512;

/// Kind of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A name or keyword.
    Name,
    /// A text in quotes.
    Text,
    /// Digits.
    Number,
    /// One of Cedar's signs, or a byte that is none.
    Sign,
}

/// A word and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    /// As it stands in the text.
    pub(crate) text: &'a str,
    /// First byte.
    pub(crate) at: usize,
    /// Brackets that are open before it; a closing bracket is as deep as its opening one.
    pub(crate) depth: usize,
}

impl<'a> Token<'a> {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.kind != Kind::Text && self.text == text
    }

    /// What is between the quotes; nothing where an escape makes that something else than it looks.
    pub(crate) fn plain(&self) -> Option<&'a str> {
        let inner = self.text.strip_prefix('"')?.strip_suffix('"')?;
        (self.kind == Kind::Text && !inner.contains('\\')).then_some(inner)
    }

    fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

/// Signs of two characters.
const PAIRS: [&str; 7] = ["::", "&&", "||", "==", "!=", "<=", ">="];

/// The words of `source`; blanks and comments are left out.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut depth: usize = 0;
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|r| !r.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (kind, len) = if first == '_' || first.is_ascii_alphabetic() {
            let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            (Kind::Name, end.unwrap_or(rest.len()))
        } else if first.is_ascii_digit() {
            (Kind::Number, rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()))
        } else if first == '"' {
            (Kind::Text, quoted(rest))
        } else if PAIRS.iter().any(|pair| rest.starts_with(pair)) {
            (Kind::Sign, 2)
        } else {
            (Kind::Sign, first.len_utf8())
        };
        let text = rest.get(..len).unwrap_or(rest);
        if matches!(text, ")" | "]" | "}") {
            depth = depth.saturating_sub(1);
        }
        found.push(Token { kind, text, at, depth });
        if matches!(text, "(" | "[" | "{") {
            depth += 1;
        }
        at += len;
    }
    found
}

/// Length of the text in quotes that `rest` begins with; all of it when it does not end.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The rules of a text: what lies between semicolons outside brackets.
pub(crate) fn rules<'a, 't>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t [Token<'a>]> {
    tokens.split(|t| t.depth == 0 && t.is(";")).filter(|rule| !rule.is_empty())
}

/// The first place where a rule is nested, or chained, deeper than Cedar's parser is given.
pub(crate) fn too_deep(rule: &[Token<'_>]) -> Option<(usize, &'static str)> {
    let nested = rule.iter().find(|t| t.depth > NESTING_MAX).map(|t| (t.at, "brackets in brackets"));
    let deeper = |t: &&Token<'_>| {
        matches!(t.text, "&&" | "||" | "+" | "-" | "*" | "!" | "." | "(" | "[" | "{") && t.kind == Kind::Sign
            || t.is("if")
    };
    let chained = || rule.iter().filter(deeper).nth(CHAIN_MAX).map(|t| (t.at, "operators in one rule"));
    nested.or_else(chained)
}

/// The words as one line, with a blank wherever the text had any.
pub(crate) fn line(tokens: &[Token<'_>]) -> String {
    let mut text = String::new();
    let mut end = tokens.first().map_or(0, |t| t.at);
    for token in tokens {
        if token.at > end {
            text.push(' ');
        }
        text.push_str(token.text);
        end = token.end();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_text() {
        let source = "permit (a, b) // no \"text\"\n when { x.y != \"a\\\"; b\" && !z };é";
        let words: Vec<_> = tokens(source).iter().map(|t| t.text).collect();
        let expected = [
            "permit",
            "(",
            "a",
            ",",
            "b",
            ")",
            "when",
            "{",
            "x",
            ".",
            "y",
            "!=",
            "\"a\\\"; b\"",
            "&&",
            "!",
            "z",
            "}",
            ";",
            "é",
        ];
        assert_eq!(words, expected);
        assert_eq!(rules(&tokens(source)).count(), 2);
        assert_eq!(line(&tokens("a  &&\n // c\n b.c")), "a && b.c");
    }

    #[test]
    fn what_does_not_end_ends() {
        for source in ["\"abc", "\"abc\\", "//", "(((", ")))", "", "\u{0}"] {
            let _ = tokens(source);
        }
    }
}
