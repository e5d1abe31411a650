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

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    claims::{Claims, Configuration, TeeKind},
    digest::Digest,
    encoding,
    rejection::Rejection,
    unit::{Bytes, MicroUsd, Millicores},
};

mod parse;

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
}

impl Attribute {
    const ALL: [(&'static str, Self, Type); 9] = [
        ("tee", Self::Tee, Type::Tee),
        ("region", Self::Region, Type::Name),
        ("provider", Self::Provider, Type::Name),
        ("product", Self::Product, Type::Name),
        ("development", Self::Development, Type::YesNo),
        ("debug", Self::Debug, Type::YesNo),
        ("price", Self::Price, Type::Price),
        ("cpu", Self::Cpu, Type::Cpu),
        ("memory", Self::Memory, Type::Memory),
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
    /// What was attested.
    pub claims: &'a Claims,
    /// What it says of itself.
    pub configuration: &'a Configuration,
    /// One hour of the fragment's demand there.
    pub price_hour: MicroUsd,
}

impl Candidate<'_> {
    fn value(&self, term: Term) -> Value {
        let (c, d) = (self.claims, self.configuration);
        match term {
            Term::Confidence(attribute) => Value::Share(u64::from(self.confidence(attribute))),
            Term::Value(Attribute::Tee) => Value::Tee(c.tee.value),
            Term::Value(Attribute::Region) => Value::Name(d.region.to_string()),
            Term::Value(Attribute::Provider) => Value::Name(d.provider.to_string()),
            Term::Value(Attribute::Product) => Value::Name(c.product.value.clone()),
            Term::Value(Attribute::Development) => Value::YesNo(c.anchor.is_development()),
            Term::Value(Attribute::Debug) => Value::YesNo(c.debug.value),
            Term::Value(Attribute::Price) => Value::Price(self.price_hour.0),
            Term::Value(Attribute::Cpu) => Value::Cpu(d.capacity.cpu.0),
            Term::Value(Attribute::Memory) => Value::Memory(d.capacity.memory.0),
        }
    }

    fn confidence(&self, attribute: Attribute) -> u16 {
        let c = self.claims;
        match attribute {
            Attribute::Tee => c.tee.confidence.0,
            Attribute::Product => c.product.confidence.0,
            Attribute::Debug => c.debug.confidence.0,
            Attribute::Development => 1000,
            // The provider's word, measured into the evidence but not checked against the world.
            Attribute::Region | Attribute::Provider | Attribute::Price | Attribute::Cpu | Attribute::Memory => 300,
        }
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
                (!values.contains(&candidate.value(*term))).then(|| refusal(term, *span))
            }
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
