//! Reading scripts: lines of words, each with its column. What a word means is for the stage to say; what is left over is a
//! mistake.

use std::fmt;

/// Where and why a script cannot be played.
#[derive(Debug)]
pub(super) struct Mistake {
    line: usize,
    column: usize,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

/// One word: `key=value`, or a bare one.
#[derive(Clone)]
pub(super) struct Word {
    pub(super) column: usize,
    pub(super) key: Option<String>,
    pub(super) value: String,
}

/// One command with what follows it.
pub(super) struct Line {
    pub(super) number: usize,
    /// As it is shown before what it did.
    pub(super) shown: String,
    pub(super) command: Word,
    words: Vec<Word>,
    /// The lines under it, of commands that take a text.
    pub(super) text: Option<String>,
}

/// The commands of a script; comments and empty lines are shown before the command that follows.
pub(super) fn lines(text: &str) -> Result<Vec<Line>, Mistake> {
    let mut found = Vec::new();
    let mut rest = text.lines().enumerate();
    let mut comments = String::new();
    while let Some((n, source)) = rest.next() {
        let number = n + 1;
        let mut words = words(number, source)?;
        if words.is_empty() {
            comments.extend([source.trim(), "\n"]);
            continue;
        }
        let command = words.remove(0);
        let mut line = Line { number, shown: format!("{comments}> {}", source.trim()), command, words, text: None };
        comments.clear();
        if line.command.value == "policy" {
            let mut body = Vec::new();
            loop {
                match rest.next() {
                    Some((_, "end")) => break,
                    Some((_, more)) => body.push(more),
                    None => return Err(line.wrong("the text of the policy does not end with a line `end`")),
                }
            }
            let shown: String = body.iter().map(|l| format!("\n> {l}")).collect();
            line.shown.push_str(&format!("{shown}\n> end"));
            line.text = Some(body.join("\n"));
        }
        found.push(line);
    }
    Ok(found)
}

fn words(number: usize, source: &str) -> Result<Vec<Word>, Mistake> {
    let mut words = Vec::new();
    let mut chars = source.chars().enumerate().peekable();
    while let Some((at, first)) = chars.peek().copied() {
        if first.is_whitespace() {
            chars.next();
            continue;
        }
        if first == '#' {
            break;
        }
        let (mut key, mut value, mut open) = (None, String::new(), None);
        for (here, c) in chars.by_ref() {
            match c {
                '"' if open.is_some() => open = None,
                '"' => open = Some(here),
                c if c.is_whitespace() && open.is_none() => break,
                '=' if open.is_none() && key.is_none() => key = Some(std::mem::take(&mut value)),
                c => value.push(c),
            }
        }
        if let Some(quote) = open {
            return Err(Mistake { line: number, column: quote + 1, what: "text without a closing quote".into() });
        }
        words.push(Word { column: at + 1, key, value });
    }
    Ok(words)
}

impl Line {
    pub(super) fn wrong_at(&self, word: &Word, what: impl Into<String>) -> Mistake {
        Mistake { line: self.number, column: word.column, what: what.into() }
    }

    pub(super) fn wrong(&self, what: impl Into<String>) -> Mistake {
        self.wrong_at(&self.command.clone(), what)
    }

    fn name(&self) -> &str {
        &self.command.value
    }

    /// The next bare word; `what` it is.
    pub(super) fn bare(&mut self, what: &str) -> Result<Word, Mistake> {
        match self.words.iter().position(|w| w.key.is_none()) {
            Some(at) => Ok(self.words.remove(at)),
            None => Err(self.wrong(format!("`{}` wants {what}", self.name()))),
        }
    }

    /// Whether this bare word is there.
    pub(super) fn has(&mut self, bare: &str) -> bool {
        let at = self.words.iter().position(|w| w.key.is_none() && w.value == bare);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// The value of `key`, read by `read`; `what` it wants.
    pub(super) fn key<T>(
        &mut self,
        key: &str,
        what: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Mistake> {
        let Some(word) = self.all(key)?.pop() else { return Ok(None) };
        let value = read(&word.value);
        value.map(Some).ok_or_else(|| self.wrong_at(&word, format!("`{key}` wants {what}, not `{}`", word.value)))
    }

    /// The word of `key` itself.
    pub(super) fn word(&mut self, key: &str) -> Result<Option<Word>, Mistake> {
        Ok(self.all(key)?.pop())
    }

    fn all(&mut self, key: &str) -> Result<Vec<Word>, Mistake> {
        let (found, rest): (Vec<_>, Vec<_>) = self.words.drain(..).partition(|w| w.key.as_deref() == Some(key));
        self.words = rest;
        match found.get(1) {
            Some(second) => Err(self.wrong_at(second, format!("`{key}` is said twice"))),
            None => Ok(found),
        }
    }

    /// Nothing may be left.
    pub(super) fn done(&self) -> Result<(), Mistake> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(self.wrong_at(
                word,
                match &word.key {
                    Some(key) => format!("`{}` knows no `{key}`", self.name()),
                    None => format!("`{}` has no meaning here", word.value),
                },
            )),
        }
    }
}
