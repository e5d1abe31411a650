//! What a requirement could ask instead: one of its conjuncts dropped, or moved just so far that it admits a given enclave.
//!
//! Pure text work over the parsed expression: whether a relaxed requirement helps is for whoever places to find out. Only the
//! outermost `and` is taken apart; an `or` or a `not` is dropped as a whole or not at all.

use super::{Candidate, Expression, Operator, Requirement, SOURCE_MAX, Span, Value};
use crate::unit::Bytes;

/// Most conjuncts that are looked at.
pub const CONJUNCTS_MAX: usize = 32;
/// What dropping a conjunct counts as, in thousandths of change.
const DROPPED: u32 = 1000;
/// What one more name counts as.
const WIDENED: u32 = 500;

/// A requirement with one conjunct changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relaxed {
    /// The whole requirement, changed.
    pub requirement: Requirement,
    /// The conjunct as it was, such as `price <= 0.02 usd/h`.
    pub from: String,
    /// As it is now, such as `price <= 0.03 usd/h`; nothing when it was dropped.
    pub to: Option<String>,
    /// How much that is, in thousandths: of the number for a number, 500 for one more name, 1000 for all of it.
    pub change: u32,
}

impl Requirement {
    /// How many conjuncts it has: what stands between the outermost `and`s.
    pub fn conjuncts(&self) -> usize {
        self.parts().len().min(CONJUNCTS_MAX)
    }

    /// The requirement without its conjunct number `index`, counted from 0.
    pub fn without(&self, index: usize) -> Option<Relaxed> {
        let from = self.spelling(self.parts().get(index).copied()?)?;
        Some(Relaxed { requirement: self.rebuilt(index, None)?, from, to: None, change: DROPPED })
    }

    /// The requirement with conjunct number `index` moved just so far that it admits `candidate`: a bound that becomes the
    /// candidate's own number, a list or a name with one more name. Nothing when it admits it already, or cannot be moved.
    pub fn admitting(&self, index: usize, candidate: &Candidate<'_>) -> Option<Relaxed> {
        let part = self.parts().get(index).copied()?;
        let from = self.spelling(part)?;
        let (to, change) = match part {
            Expression::Compare(term, operator, limit, _) => {
                let found = candidate.value(*term);
                if matches!(found, Value::Absent | Value::YesNo(_)) || operator.holds(&found, limit) {
                    return None;
                }
                match operator {
                    Operator::Equal => (format!("{term} in [{}, {}]", literal(limit)?, literal(&found)?), WIDENED),
                    Operator::Less | Operator::AtMost => {
                        (format!("{term} <= {}", literal(&found)?), moved(limit, &found)?)
                    }
                    Operator::Greater | Operator::AtLeast => {
                        (format!("{term} >= {}", literal(&found)?), moved(limit, &found)?)
                    }
                    Operator::NotEqual => return None,
                }
            }
            Expression::In(term, values, _) => {
                let found = candidate.value(*term);
                if found == Value::Absent || values.iter().any(|value| Operator::Equal.holds(&found, value)) {
                    return None;
                }
                let all: Option<Vec<_>> = values.iter().chain([&found]).map(literal).collect();
                (format!("{term} in [{}]", all?.join(", ")), WIDENED)
            }
            Expression::Any | Expression::Not(..) | Expression::And(_) | Expression::Or(..) => return None,
        };
        let requirement = self.rebuilt(index, Some(&to))?;
        // What is suggested is what was meant: it admits the candidate as far as this conjunct goes.
        let admits = Self::parse(&to).ok()?.check(candidate).is_ok();
        admits.then_some(Relaxed { requirement, from, to: Some(to), change })
    }

    fn parts(&self) -> Vec<&Expression> {
        fn collect<'a>(expression: &'a Expression, parts: &mut Vec<&'a Expression>) {
            match expression {
                Expression::And(inner) => inner.iter().for_each(|part| collect(part, parts)),
                Expression::Any => {}
                other => parts.push(other),
            }
        }
        let mut parts = Vec::new();
        collect(&self.expression, &mut parts);
        parts
    }

    /// Its source text; an alternative in parentheses, so that it keeps its meaning between `and`s.
    fn spelling(&self, part: &Expression) -> Option<String> {
        let text = |(from, to): Span| self.source.get(from..to);
        match part {
            Expression::Compare(.., span) | Expression::In(.., span) | Expression::Not(_, span) => {
                text(*span).map(str::to_owned)
            }
            Expression::Or(_, span) => text(*span).map(|inner| format!("({inner})")),
            Expression::Any | Expression::And(_) => None,
        }
    }

    fn rebuilt(&self, changed: usize, to: Option<&str>) -> Option<Self> {
        let mut texts = Vec::new();
        for (index, part) in self.parts().into_iter().enumerate() {
            match (index == changed, to) {
                (true, Some(to)) => texts.push(to.to_owned()),
                (true, None) => {}
                (false, _) => texts.push(self.spelling(part)?),
            }
        }
        let source = if texts.is_empty() { "any".to_owned() } else { texts.join(" and ") };
        if source.len() > SOURCE_MAX { None } else { Self::parse(&source).ok() }
    }
}

/// How far a bound moves, in thousandths of what it was.
fn moved(from: &Value, to: &Value) -> Option<u32> {
    let number = |value: &Value| match value {
        Value::Price(n) | Value::Cpu(n) | Value::Memory(n) | Value::Share(n) | Value::Count(n) => Some(*n),
        _ => None,
    };
    let (from, to) = (number(from)?, number(to)?);
    Some(crate::unit::change(from, to))
}

/// A value as the language writes it; nothing for what it cannot write.
fn literal(value: &Value) -> Option<String> {
    let thousandths = |n: u64, digits: u64, width: usize| {
        let text = format!("{}.{:0width$}", n / digits, n % digits);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    Some(match value {
        Value::Tee(kind) => kind.to_string(),
        Value::TcbStatus(status) => status.to_string(),
        Value::Name(name) => quoted(name)?,
        // Having one of them is enough.
        Value::Names(names) => quoted(names.first()?)?,
        Value::YesNo(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Price(micro) => format!("{} usd/h", thousandths(*micro, 1_000_000, 6)),
        Value::Cpu(milli) => format!("{} cores", thousandths(*milli, 1000, 3)),
        Value::Share(milli) => thousandths(*milli, 1000, 3),
        Value::Count(count) => count.to_string(),
        Value::Memory(bytes) => {
            let unit = [("GiB", Bytes::gib(1)), ("MiB", Bytes::mib(1)), ("KiB", Bytes::kib(1))];
            match unit.iter().find(|(_, size)| bytes.is_multiple_of(size.0)) {
                Some((name, size)) => format!("{} {name}", bytes / size.0),
                // A 1024th has ten decimals.
                None => {
                    let part = u128::from(bytes % 1024) * 10_000_000_000 / 1024;
                    format!("{}.{part:010} KiB", bytes / 1024)
                }
            }
        }
        Value::Absent => return None,
    })
}

/// A name in quotes; the language has no way to write a quote inside.
fn quoted(name: &str) -> Option<String> {
    (!name.contains('"')).then(|| format!("\"{name}\""))
}
