//! Reading the requirement language: a hand-written descent, because its errors are half of its use.

use super::{
    Attribute, DEPTH_MAX, Expression, LIST_MAX, Operator, RequirementError, SOURCE_MAX, Span, Term, Type, Value,
};
use crate::claims::{TcbStatus, TeeKind};

#[derive(Clone, PartialEq, Debug)]
enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Number(&'a str),
    Symbol(&'a str),
    End,
}

pub(super) fn parse(source: &str) -> Result<Expression, RequirementError> {
    if source.len() > SOURCE_MAX {
        return Err(fail(source, 0, format!("longer than {SOURCE_MAX} bytes")));
    }
    let mut parser = Parser { source, tokens: lex(source)?, at: 0 };
    let expression = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(expression),
        other => Err(parser.error(format!("expected `and`, `or` or the end, found {}", show(other)))),
    }
}

fn fail(source: &str, at: usize, what: String) -> RequirementError {
    let before = source.get(..at).unwrap_or(source).chars().count();
    // A long source is shown as a window around the column, so that the mark stays under it.
    let from = before.saturating_sub(60);
    let what = what.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let excerpt: String = source.chars().skip(from).take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    RequirementError { column: before + 1, what, excerpt, mark: format!("{}^", " ".repeat(before - from)) }
}

fn show(token: &Token<'_>) -> String {
    match token {
        Token::End => "the end".to_owned(),
        Token::Text(text) => format!("\"{}\"", cut(text)),
        Token::Word(text) | Token::Number(text) | Token::Symbol(text) => format!("`{}`", cut(text)),
    }
}

/// The beginning of a token: whoever sees the error sees the source beside it.
fn cut(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

fn lex(source: &str) -> Result<Vec<(Token<'_>, Span)>, RequirementError> {
    const SYMBOLS: [&str; 12] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ",", "/"];
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let run = |accept: fn(char) -> bool| rest.find(|c| !accept(c)).unwrap_or(rest.len());
        let (token, len) = match first {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '"' => match rest[1..].find('"') {
                Some(end) => (Token::Text(&rest[1..=end]), end + 2),
                None => return Err(fail(source, at, "text without a closing quote".to_owned())),
            },
            c if c.is_ascii_digit() => {
                let len = run(|c| c.is_ascii_digit() || c == '.');
                (Token::Number(&rest[..len]), len)
            }
            c if c.is_ascii_alphabetic() => {
                let len = run(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
                (Token::Word(&rest[..len]), len)
            }
            _ => match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(symbol) => (Token::Symbol(symbol), symbol.len()),
                None => {
                    let hint = if first == '=' { "; equality is `==`" } else { "" };
                    return Err(fail(source, at, format!("`{first}` has no meaning here{hint}")));
                }
            },
        };
        tokens.push((token, (at, at + len)));
        at += len;
    }
    tokens.push((Token::End, (source.len(), source.len())));
    Ok(tokens)
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<(Token<'a>, Span)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &Token<'a> {
        &self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn span(&self) -> Span {
        self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn previous_end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |i| self.tokens[i].1.1)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, wanted: &Token<'_>) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.at += 1;
        }
        found
    }

    fn error(&self, what: String) -> RequirementError {
        fail(self.source, self.span().0, what)
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, RequirementError> {
        let from = self.span().0;
        let mut parts = vec![self.term(depth)?];
        while self.take(&Token::Word("or")) {
            parts.push(self.term(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts, (from, self.previous_end())) })
    }

    fn term(&mut self, depth: usize) -> Result<Expression, RequirementError> {
        let mut parts = vec![self.factor(depth)?];
        while self.take(&Token::Word("and")) {
            parts.push(self.factor(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    fn factor(&mut self, depth: usize) -> Result<Expression, RequirementError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("nested deeper than {DEPTH_MAX}")));
        }
        let from = self.span().0;
        if self.take(&Token::Word("not")) {
            let inner = self.factor(depth + 1)?;
            return Ok(Expression::Not(Box::new(inner), (from, self.previous_end())));
        }
        if self.take(&Token::Symbol("(")) {
            let inner = self.expression(depth + 1)?;
            if !self.take(&Token::Symbol(")")) {
                return Err(self.error(format!("expected `)`, found {}", show(self.peek()))));
            }
            return Ok(inner);
        }
        if self.take(&Token::Word("any")) {
            return Ok(Expression::Any);
        }
        self.comparison(from)
    }

    fn comparison(&mut self, from: usize) -> Result<Expression, RequirementError> {
        let (term, kind) = self.attribute()?;
        if self.take(&Token::Word("in")) {
            let values = self.list(term, kind)?;
            return Ok(Expression::In(term, values, (from, self.previous_end())));
        }
        let operator = match self.peek() {
            Token::Symbol("==") => Operator::Equal,
            Token::Symbol("!=") => Operator::NotEqual,
            Token::Symbol("<") => Operator::Less,
            Token::Symbol("<=") => Operator::AtMost,
            Token::Symbol(">") => Operator::Greater,
            Token::Symbol(">=") => Operator::AtLeast,
            _ if kind == Type::YesNo => {
                let span = (from, self.previous_end());
                return Ok(Expression::Compare(term, Operator::Equal, Value::YesNo(true), span));
            }
            other => {
                return Err(self.error(format!(
                    "expected `==`, `!=`, `<`, `<=`, `>`, `>=` or `in` after `{term}`, found {}",
                    show(other)
                )));
            }
        };
        let ordered = matches!(kind, Type::Price | Type::Cpu | Type::Memory | Type::Share | Type::Count);
        if !ordered && !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(self.error(format!("`{term}` has no order: compare it with `==`, `!=` or `in`")));
        }
        self.at += 1;
        let value = self.literal(term, kind)?;
        Ok(Expression::Compare(term, operator, value, (from, self.previous_end())))
    }

    fn attribute(&mut self) -> Result<(Term, Type), RequirementError> {
        let at = self.at;
        let names = || Attribute::ALL.iter().map(|(name, _, _)| *name).collect::<Vec<_>>().join(", ");
        let find = |name: &str| Attribute::ALL.iter().find(|(known, _, _)| *known == name);
        let word = match self.next() {
            Token::Word(word) => word,
            other => {
                self.at = at;
                return Err(self.error(format!("expected an attribute ({}), found {}", names(), show(&other))));
            }
        };
        if word == "confidence" && self.take(&Token::Symbol("(")) {
            let inner_at = self.at;
            if let Token::Word(name) = self.next()
                && let Some((_, attribute, _)) = find(name)
                && self.take(&Token::Symbol(")"))
            {
                return Ok((Term::Confidence(*attribute), Type::Share));
            }
            self.at = inner_at;
            return Err(self.error(format!("expected `confidence(ATTRIBUTE)` with one of {}", names())));
        }
        match find(word) {
            Some((_, attribute, kind)) => Ok((Term::Value(*attribute), *kind)),
            None => {
                self.at = at;
                let near = Attribute::ALL.iter().map(|(n, _, _)| *n).min_by_key(|n| distance(n, word));
                let hint =
                    near.filter(|n| distance(n, word) <= 2).map_or(String::new(), |n| format!(", did you mean `{n}`?"));
                Err(self.error(format!("no attribute `{}`{hint} (there are {})", cut(word), names())))
            }
        }
    }

    fn list(&mut self, term: Term, kind: Type) -> Result<Vec<Value>, RequirementError> {
        if !self.take(&Token::Symbol("[")) {
            return Err(self.error(format!("expected `[` after `in`, found {}", show(self.peek()))));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.literal(term, kind)?);
            if values.len() > LIST_MAX {
                return Err(self.error(format!("more than {LIST_MAX} entries")));
            }
            if self.take(&Token::Symbol("]")) {
                return Ok(values);
            }
            if !self.take(&Token::Symbol(",")) {
                return Err(self.error(format!("expected `,` or `]`, found {}", show(self.peek()))));
            }
        }
    }

    fn literal(&mut self, term: Term, kind: Type) -> Result<Value, RequirementError> {
        let at = self.at;
        let token = self.next();
        let wrong = |parser: &mut Self, wanted: &str| {
            parser.at = at;
            Err(parser.error(format!("`{term}` is compared with {wanted}, found {}", show(&token))))
        };
        match kind {
            Type::Tee => {
                let kinds = TeeKind::ALL.map(TeeKind::name).join(", ");
                let (Token::Word(name) | Token::Text(name)) = token else {
                    return wrong(self, &format!("one of {kinds}"));
                };
                match TeeKind::ALL.into_iter().find(|k| k.name() == name) {
                    Some(found) => Ok(Value::Tee(found)),
                    None => wrong(self, &format!("one of {kinds}")),
                }
            }
            Type::TcbStatus => {
                let all = TcbStatus::ALL.map(TcbStatus::name).join(", ");
                let (Token::Word(name) | Token::Text(name)) = token else {
                    return wrong(self, &format!("one of {all}"));
                };
                match TcbStatus::ALL.into_iter().find(|s| s.name() == name) {
                    Some(found) => Ok(Value::TcbStatus(found)),
                    None => wrong(self, &format!("one of {all}")),
                }
            }
            Type::Count => match self.number(&token, 1) {
                Some(count) => Ok(Value::Count(count)),
                None => wrong(self, "a whole number"),
            },
            Type::Name | Type::Names => match token {
                Token::Word(name) | Token::Text(name) => Ok(Value::Name(name.to_owned())),
                _ => wrong(self, "a name, such as \"eu-north\""),
            },
            Type::YesNo => match token {
                Token::Word("yes" | "true") => Ok(Value::YesNo(true)),
                Token::Word("no" | "false") => Ok(Value::YesNo(false)),
                _ => wrong(self, "yes or no"),
            },
            Type::Price => match self.number(&token, 1_000_000) {
                Some(_) if !self.price_unit() => Err(self.no_unit(&token, "`usd/h`")),
                Some(micro) => Ok(Value::Price(micro)),
                None => wrong(self, "a price, such as 0.02 usd/h"),
            },
            Type::Cpu => match self.number(&token, 1000) {
                Some(_) if !["core", "cores"].iter().any(|unit| self.take(&Token::Word(unit))) => {
                    Err(self.no_unit(&token, "`cores`"))
                }
                Some(milli) => Ok(Value::Cpu(milli)),
                None => wrong(self, "a number of cores, such as 2 cores"),
            },
            Type::Memory => {
                const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
                match UNITS.iter().find(|(unit, _)| self.peek() == &Token::Word(unit)) {
                    None if matches!(token, Token::Number(_)) => Err(self.no_unit(&token, "`KiB`, `MiB` or `GiB`")),
                    Some((_, size)) if let Some(bytes) = self.number(&token, *size) => {
                        self.at += 1;
                        Ok(Value::Memory(bytes))
                    }
                    _ => wrong(self, "a size, such as 512 MiB or 4 GiB"),
                }
            }
            Type::Share => match self.number(&token, 1000) {
                Some(milli) if milli <= 1000 => Ok(Value::Share(milli)),
                _ => wrong(self, "a number from 0 to 1"),
            },
        }
    }

    fn no_unit(&self, number: &Token<'_>, unit: &str) -> RequirementError {
        self.error(format!("expected {unit} after {}, found {}", show(number), show(self.peek())))
    }

    fn price_unit(&mut self) -> bool {
        self.take(&Token::Word("usd")) && self.take(&Token::Symbol("/")) && self.take(&Token::Word("h"))
    }

    /// A decimal number times `scale`, exactly; nothing when it has more digits than the scale can hold.
    fn number(&self, token: &Token<'_>, scale: u64) -> Option<u64> {
        let Token::Number(text) = token else { return None };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if fraction.is_empty() || fraction.len() > 12 || fraction.contains('.') {
            return None;
        }
        let digits: u128 = fraction.parse().ok()?;
        let divisor = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = digits.checked_mul(u128::from(scale))?;
        if part % divisor != 0 {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        whole.checked_mul(scale)?.checked_add(u64::try_from(part / divisor).ok()?)
    }
}

/// Edits between two short words (Levenshtein), for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
