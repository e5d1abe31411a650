//! The requirement language: what an enclave must satisfy, as an expression over its attested attributes.
//!
//! ```text
//! expression  = term { "or" term }
//! term        = factor { "and" factor }
//! factor      = "not" factor | "(" expression ")" | "any" | comparison
//! comparison  = attribute ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) literal
//!             | attribute "in" "[" literal { "," literal } "]"
//!             | attribute                      for the yes-or-no attributes
//! literal     = name | "\"" text "\"" | number [ unit ]
//! ```
//! Attributes and their types are those of [`Attribute`]; `confidence(attribute)` is a number from 0 to 1. A requirement is
//! kept with its source: the source is what is signed.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    claims::{Attested, Confidence, TcbStatus, TeeKind},
    digest::Digest,
    encoding,
    rejection::Rejection,
    statement::Passport,
    unit::{Bytes, MicroUsd, Millicores},
};

mod parse;
mod regions;
mod relax;

pub use relax::{CONJUNCTS_MAX, Relaxed};

/// Longest source, in bytes.
pub const SOURCE_MAX: usize = 4096;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 32;
/// Most entries of a list.
pub const LIST_MAX: usize = 64;

/// What can be asked of an enclave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attribute {
    /// `tee`: kind of machine, such as `sev-snp`.
    Tee,
    /// `region`: where it stands.
    Region,
    /// `provider`: who owns it.
    Provider,
    /// `product`: hardware generation, such as `milan`.
    Product,
    /// `development`: whether it rests on a development root.
    Development,
    /// `debug`: whether the owner may look inside.
    Debug,
    /// `price`: one hour of the fragment's demand there, in `usd/h`.
    Price,
    /// `cpu`: what it offers in all, in `cores`.
    Cpu,
    /// `memory`: what it offers in all, in `KiB`, `MiB` or `GiB`.
    Memory,
    /// `confidential`: whether its memory is hidden from its host.
    Confidential,
    /// `tcb.status`: how current its firmware is, such as `up-to-date`.
    TcbStatus,
    /// `tcb.shortfall`: how many components of its firmware are behind.
    TcbShortfall,
    /// `grace`: whether it was admitted for a time although something must be mended.
    Grace,
    /// `image`: name of a reference value that it runs.
    Image,
    /// `measurement`: what was launched, hexadecimal.
    Measurement,
    /// `operator`: who operates the machine, where somebody but the provider says so.
    Operator,
    /// `gpu`: model of an accelerator with evidence of its own.
    Gpu,
    /// `gpus`: how many accelerators have evidence of their own.
    Gpus,
    /// `feature`: a processor or platform feature that the hardware reports.
    Feature,
    /// `verifier`: name of the key that signed its passport.
    Verifier,
}

/// Type of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Type {
    Tee,
    Name,
    YesNo,
    Price,
    Cpu,
    Memory,
    Share,
    TcbStatus,
    Count,
    /// Several names: equal to each of them.
    Names,
}

impl Attribute {
    const ALL: [(&'static str, Self, Type); 20] = [
        ("tee", Self::Tee, Type::Tee),
        ("region", Self::Region, Type::Name),
        ("provider", Self::Provider, Type::Name),
        ("product", Self::Product, Type::Name),
        ("development", Self::Development, Type::YesNo),
        ("debug", Self::Debug, Type::YesNo),
        ("price", Self::Price, Type::Price),
        ("cpu", Self::Cpu, Type::Cpu),
        ("memory", Self::Memory, Type::Memory),
        ("confidential", Self::Confidential, Type::YesNo),
        ("tcb.status", Self::TcbStatus, Type::TcbStatus),
        ("tcb.shortfall", Self::TcbShortfall, Type::Count),
        ("grace", Self::Grace, Type::YesNo),
        ("image", Self::Image, Type::Names),
        ("measurement", Self::Measurement, Type::Name),
        ("operator", Self::Operator, Type::Name),
        ("gpu", Self::Gpu, Type::Names),
        ("gpus", Self::Gpus, Type::Count),
        ("feature", Self::Feature, Type::Names),
        ("verifier", Self::Verifier, Type::Name),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, a, _)| *a == self).map_or("", |(n, _, _)| n)
    }
}

/// An attribute, or the confidence in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Term {
    Value(Attribute),
    Confidence(Attribute),
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(a) => f.write_str(a.name()),
            Self::Confidence(a) => write!(f, "confidence({})", a.name()),
        }
    }
}

/// A literal, already of the type it is compared with.
#[derive(Clone, PartialEq, PartialOrd, Debug)]
enum Value {
    Tee(TeeKind),
    Name(String),
    YesNo(bool),
    /// Millionths of a dollar an hour.
    Price(u64),
    /// Millicores.
    Cpu(u64),
    /// Bytes.
    Memory(u64),
    /// Thousandths.
    Share(u64),
    TcbStatus(TcbStatus),
    Count(u64),
    Names(BTreeSet<String>),
    /// Nobody says. Never literal; equal to nothing, and different from nothing.
    Absent,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tee(kind) => kind.fmt(f),
            Self::Name(name) => write!(f, "\"{name}\""),
            Self::YesNo(yes) => f.write_str(if *yes { "yes" } else { "no" }),
            Self::Price(micro) => write!(f, "{}/h", MicroUsd(*micro)),
            Self::Cpu(milli) => Millicores(*milli).fmt(f),
            Self::Memory(bytes) => Bytes(*bytes).fmt(f),
            Self::Share(milli) => write!(f, "{}.{:03}", milli / 1000, milli % 1000),
            Self::TcbStatus(status) => status.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Names(names) if names.is_empty() => f.write_str("none"),
            Self::Names(names) => f.write_str(&names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
            Self::Absent => f.write_str("nothing: its evidence does not say"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> bool {
        match (left, right) {
            (Value::Absent, _) => return false,
            (Value::Names(names), Value::Name(name)) => return names.contains(name) == (self == Self::Equal),
            _ => {}
        }
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Expression {
    Any,
    Not(Box<Expression>, Span),
    And(Vec<Expression>),
    Or(Vec<Expression>, Span),
    Compare(Term, Operator, Value, Span),
    In(Term, Vec<Value>, Span),
}

/// Byte range of the source.
type Span = (usize, usize);

/// A parsed requirement with its source.
#[derive(Clone)]
pub struct Requirement {
    source: String,
    expression: Expression,
}

/// Where and why a requirement does not parse. Shows the source with a mark under the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {what}\n  {excerpt}\n  {mark}")]
pub struct RequirementError {
    /// First column that is wrong, counted from 1 in characters.
    pub column: usize,
    /// What is wrong and what would be right.
    pub what: String,
    excerpt: String,
    mark: String,
}

/// What of an enclave a requirement can see.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What was attested and appraised, and what it says of itself.
    pub passport: &'a Passport,
    /// One hour of the fragment's demand there.
    pub price_hour: MicroUsd,
}

impl Candidate<'_> {
    fn value(&self, term: Term) -> Value {
        let attribute = match term {
            Term::Confidence(attribute) => return Value::Share(u64::from(self.confidence(attribute))),
            Term::Value(attribute) => attribute,
        };
        let (c, d, ear) = (&self.passport.claims, &self.passport.configuration, &self.passport.ear);
        let count = |n: usize| Value::Count(u64::try_from(n).unwrap_or(u64::MAX));
        match attribute {
            Attribute::Tee => Value::Tee(c.tee.value),
            Attribute::Region => Value::Name(c.region.as_ref().map_or(&d.region, |r| &r.value).to_string()),
            Attribute::Provider => Value::Name(d.provider.to_string()),
            Attribute::Product => Value::Name(c.product.value.clone()),
            Attribute::Development => Value::YesNo(c.anchor.is_development()),
            Attribute::Debug => Value::YesNo(c.debug.value),
            Attribute::Price => Value::Price(self.price_hour.0),
            Attribute::Cpu => Value::Cpu(d.capacity.cpu.0),
            Attribute::Memory => Value::Memory(d.capacity.memory.0),
            Attribute::Confidential => Value::YesNo(c.confidential.value),
            Attribute::TcbStatus => Value::TcbStatus(ear.tcb.status),
            Attribute::TcbShortfall => count(ear.tcb.shortfall.len()),
            Attribute::Grace => Value::YesNo(ear.grace.is_some()),
            Attribute::Image => Value::Names(ear.images.iter().cloned().collect()),
            Attribute::Measurement => Value::Name(c.measurement.value.clone()),
            Attribute::Operator => c.operator.as_ref().map_or(Value::Absent, |o| Value::Name(o.value.clone())),
            Attribute::Gpu => Value::Names(c.gpus.iter().map(|gpu| gpu.value.model.clone()).collect()),
            Attribute::Gpus => count(c.gpus.len()),
            Attribute::Feature => c.features.as_ref().map_or(Value::Absent, |f| Value::Names(f.value.clone())),
            Attribute::Verifier => Value::Name(self.passport.verifier_id().to_string()),
        }
    }

    /// In thousandths; 0 of what nobody says. docs/confidence.md has the rules.
    fn confidence(&self, attribute: Attribute) -> u16 {
        let c = &self.passport.claims;
        let declared = Attested::declared(()).confidence;
        let of = match attribute {
            Attribute::Tee => c.tee.confidence,
            Attribute::Product => c.product.confidence,
            Attribute::Debug => c.debug.confidence,
            Attribute::Confidential => c.confidential.confidence,
            Attribute::Measurement | Attribute::Image => c.measurement.confidence,
            Attribute::TcbStatus | Attribute::TcbShortfall => c.tcb.confidence,
            Attribute::Development | Attribute::Grace | Attribute::Verifier => Confidence(1000),
            Attribute::Operator => c.operator.as_ref().map_or(Confidence(0), |o| o.confidence),
            Attribute::Feature => c.features.as_ref().map_or(Confidence(0), |f| f.confidence),
            // As sure as the least sure of them.
            Attribute::Gpu | Attribute::Gpus => c.gpus.iter().map(|g| g.confidence).min().unwrap_or(Confidence(0)),
            // Where nobody else says: the provider's word, measured into the evidence but not checked against the world.
            Attribute::Region => c.region.as_ref().map_or(declared, |r| r.confidence),
            Attribute::Provider | Attribute::Price | Attribute::Cpu | Attribute::Memory => declared,
        };
        of.0
    }
}

impl Requirement {
    /// The requirement that every enclave satisfies.
    pub fn any() -> Self {
        Self { source: "any".to_owned(), expression: Expression::Any }
    }

    /// Reads a requirement.
    ///
    /// # Errors
    /// The first thing that is wrong, with its column.
    pub fn parse(source: &str) -> Result<Self, RequirementError> {
        Ok(Self { source: source.to_owned(), expression: parse::parse(source)? })
    }

    /// The text it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the source: how a grant names this requirement.
    pub fn digest(&self) -> Digest {
        Digest::of(self.source.as_bytes())
    }

    /// Whether `candidate` satisfies it.
    ///
    /// # Errors
    /// The part that is not satisfied, with what was found: `require.region`, expected `region == "eu"`, got `"us"`.
    pub fn check(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        self.unmet(&self.expression, candidate).map_or(Ok(()), Err)
    }

    fn whole(&self) -> Span {
        (0, self.source.len())
    }

    fn text(&self, (from, to): Span) -> &str {
        self.source.get(from..to).unwrap_or(&self.source)
    }

    fn unmet(&self, expression: &Expression, candidate: &Candidate<'_>) -> Option<Rejection> {
        let refusal = |term: &Term, span: Span| {
            let name = match term {
                Term::Value(a) => a.name().to_owned(),
                Term::Confidence(a) => format!("confidence.{}", a.name()),
            };
            Rejection::new(&format!("require.{name}"), format!("the {term} of the enclave"))
                .expected(self.text(span))
                .got(candidate.value(*term))
                .fix("relax the requirement or wait for such an enclave")
        };
        match expression {
            Expression::Any => None,
            Expression::And(parts) => parts.iter().find_map(|part| self.unmet(part, candidate)),
            Expression::Or(parts, span) => {
                let mut found = Vec::new();
                for part in parts {
                    found.push(self.unmet(part, candidate)?);
                }
                let got = found.iter().map(|r| r.got.as_str()).collect::<Vec<_>>().join(", ");
                let check = found.first().map_or("require", |r| r.check.as_str());
                Some(Rejection::new(check, "none of the alternatives").expected(self.text(*span)).got(got))
            }
            // What nobody says is neither so nor not so.
            Expression::Not(inner, _) if let Some(term) = absent(inner, candidate) => {
                Some(refusal(&term, self.whole()))
            }
            Expression::Not(inner, span) => match self.unmet(inner, candidate) {
                Some(_) => None,
                None => Some(
                    Rejection::new("require.not", "an exclusion").expected(self.text(*span)).got("what it excludes"),
                ),
            },
            Expression::Compare(term, operator, value, span) => {
                (!operator.holds(&candidate.value(*term), value)).then(|| refusal(term, *span))
            }
            Expression::In(term, values, span) => {
                let found = candidate.value(*term);
                (!values.iter().any(|value| Operator::Equal.holds(&found, value))).then(|| refusal(term, *span))
            }
        }
    }
}

/// The first attribute in `expression` that nobody says anything about.
fn absent(expression: &Expression, candidate: &Candidate<'_>) -> Option<Term> {
    match expression {
        Expression::Any => None,
        Expression::Not(inner, _) => absent(inner, candidate),
        Expression::And(parts) | Expression::Or(parts, _) => parts.iter().find_map(|part| absent(part, candidate)),
        Expression::Compare(term, ..) | Expression::In(term, ..) => {
            (candidate.value(*term) == Value::Absent).then_some(*term)
        }
    }
}

impl PartialEq for Requirement {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Requirement {}

impl Default for Requirement {
    fn default() -> Self {
        Self::any()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requirement({})", self.source)
    }
}

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(source: &str) -> Result<Self, RequirementError> {
        Self::parse(source)
    }
}

impl Serialize for Requirement {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        encoding::from_text(d)
    }
}
