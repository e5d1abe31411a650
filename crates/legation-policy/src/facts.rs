//! What of an enclave a policy sees: the attributes of the schema, for Cedar to judge and for people to read.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{EntityUid, RestrictedExpression};
use legation_core::{
    UnixTime,
    claims::{Attested, Claims, Configuration, Judged, Tcb, TcbStatus, TeeKind},
    prefer::Sensitivity,
    statement::Passport,
};

use crate::{
    date::{self, DAY},
    placement::Asked,
    schema,
};

/// What is appraised: what a verifier found, and what the enclave says of itself, measured. A verdict of evidence has both,
/// and so has a passport.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What was found.
    pub claims: &'a Claims,
    /// What the enclave says of itself.
    pub configuration: &'a Configuration,
}

impl<'a> From<&'a Judged> for Subject<'a> {
    fn from(judged: &'a Judged) -> Self {
        Self { claims: &judged.claims, configuration: &judged.configuration }
    }
}

impl<'a> From<&'a Passport> for Subject<'a> {
    fn from(passport: &'a Passport) -> Self {
        Self { claims: &passport.claims, configuration: &passport.configuration }
    }
}

/// The value of an attribute.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Fact {
    Name(String),
    YesNo(bool),
    Number(i64),
    Names(BTreeSet<String>),
    Tee(TeeKind),
    TcbStatus(TcbStatus),
    Sensitivity(Sensitivity),
    Record(Vec<(&'static str, Fact)>),
}

/// Attributes of the schema's `Enclave`, in its order.
pub(crate) const ATTRIBUTES: [&str; 23] = [
    "tee",
    "product",
    "development",
    "debug",
    "confidential",
    "vmpl",
    "tcb",
    "region",
    "provider",
    "operator",
    "features",
    "gpus",
    "gpu_count",
    "gpu_drivers",
    "gpu_firmware",
    "measurement",
    "slot",
    "cpu",
    "memory",
    "stale_collateral",
    "revocation_checked",
    "confidence",
    // Not an attribute but tags, in Cedar's words.
    "registers",
];

/// An enclave as of a time, with what reference values say of it.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) tcb: &'a Tcb,
    pub(crate) images: &'a [&'a str],
    pub(crate) at: UnixTime,
    /// What is to be placed there, where that is the question.
    pub(crate) asked: Option<&'a Asked<'a>>,
}

impl Facts<'_> {
    /// The value of an attribute of the schema; nothing where nobody says.
    pub(crate) fn get(&self, attribute: &str) -> Option<Fact> {
        let (c, d) = (self.subject.claims, self.subject.configuration);
        Some(match attribute {
            "tee" => Fact::Tee(c.tee.value),
            "product" => Fact::Name(c.product.value.clone()),
            "development" => Fact::YesNo(c.anchor.is_development()),
            "debug" => Fact::YesNo(c.debug.value),
            "confidential" => Fact::YesNo(c.confidential.value),
            "vmpl" => Fact::Number(i64::from(c.vmpl.as_ref()?.value)),
            "tcb" => Fact::Record(self.tcb()),
            "region" => Fact::Name(c.region.as_ref().map_or(&d.region, |r| &r.value).to_string()),
            "provider" => Fact::Name(d.provider.to_string()),
            "operator" => Fact::Name(c.operator.as_ref()?.value.clone()),
            "features" => Fact::Names(c.features.as_ref()?.value.clone()),
            "gpus" => Fact::Names(c.gpus.iter().map(|gpu| gpu.value.model.clone()).collect()),
            "gpu_count" => Fact::Number(i64::try_from(c.gpus.len()).unwrap_or(i64::MAX)),
            "gpu_drivers" => Fact::Names(c.gpus.iter().map(|gpu| gpu.value.driver.clone()).collect()),
            "gpu_firmware" => Fact::Names(c.gpus.iter().map(|gpu| gpu.value.firmware.clone()).collect()),
            "measurement" => Fact::Name(c.measurement.value.clone()),
            "slot" => Fact::Number(i64::from(d.slot)),
            "cpu" => Fact::Number(number(d.capacity.cpu.0)),
            "memory" => Fact::Number(number(d.capacity.memory.0)),
            "stale_collateral" => Fact::YesNo(c.stale_since.is_some()),
            "revocation_checked" => Fact::YesNo(c.revocation.is_done()),
            "confidence" => Fact::Record(self.confidence()),
            _ => return None,
        })
    }

    fn tcb(&self) -> Vec<(&'static str, Fact)> {
        let tcb = self.tcb;
        let mut record = vec![
            ("version", Fact::Name(tcb.version.clone())),
            ("status", Fact::TcbStatus(tcb.status)),
            ("shortfall", Fact::Number(i64::try_from(tcb.shortfall.len()).unwrap_or(i64::MAX))),
            ("advisories", Fact::Names(tcb.advisories.iter().cloned().collect())),
        ];
        let level = tcb.level.as_deref().and_then(date::day).filter(|day| *day <= self.at);
        record.extend(level.map(|day| ("age_days", Fact::Number(number(self.at.since(day) / DAY)))));
        record
    }

    /// In thousandths, as the requirement language counts (docs/confidence.md).
    fn confidence(&self) -> Vec<(&'static str, Fact)> {
        let c = self.subject.claims;
        let declared = Attested::declared(()).confidence;
        let gpus = c.gpus.iter().map(|gpu| gpu.confidence.0).min().unwrap_or(0);
        [
            ("tee", c.tee.confidence.0),
            ("product", c.product.confidence.0),
            ("measurement", c.measurement.confidence.0),
            ("tcb", c.tcb.confidence.0),
            ("debug", c.debug.confidence.0),
            ("confidential", c.confidential.confidence.0),
            ("region", c.region.as_ref().map_or(declared, |r| r.confidence).0),
            ("provider", declared.0),
            ("operator", c.operator.as_ref().map_or(0, |o| o.confidence.0)),
            ("features", c.features.as_ref().map_or(0, |f| f.confidence.0)),
            ("gpus", gpus),
            ("cpu", declared.0),
            ("memory", declared.0),
        ]
        .into_iter()
        .map(|(name, thousandths)| (name, Fact::Number(i64::from(thousandths))))
        .collect()
    }

    /// The measurements beside the launch measurement, by name.
    pub(crate) fn registers(&self) -> &BTreeMap<String, String> {
        &self.subject.claims.registers
    }

    /// What a path such as `["tcb", "status"]` leads to, in words.
    pub(crate) fn tell(&self, path: &[String]) -> String {
        let Some((first, rest)) = path.split_first() else { return String::new() };
        let value = match (first.as_str(), rest) {
            ("image", _) => {
                let known = if self.images.is_empty() { "none".to_owned() } else { self.images.join(", ") };
                return format!("image {known} (measurement {})", self.subject.claims.measurement.value);
            }
            ("now", _) => return format!("now {}", self.at),
            ("tenant", _) => return format!("tenant {}", self.asked.map_or("", |asked| asked.tenant.as_str())),
            ("context", [name, ..]) => {
                return self.asked.and_then(|asked| asked.tell(name)).unwrap_or_else(|| format!("{name} absent"));
            }
            ("registers", [name, ..]) => self.registers().get(name).cloned(),
            ("registers", []) => {
                let names: Vec<_> = self.registers().keys().map(String::as_str).collect();
                Some(if names.is_empty() { "none".to_owned() } else { names.join(", ") })
            }
            ("tcb", [field]) if field == "shortfall" && !self.tcb.shortfall.is_empty() => {
                Some(self.tcb.shortfall.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            (attribute, rest) => {
                let mut fact = self.get(attribute);
                for field in rest {
                    fact = match fact {
                        Some(Fact::Record(record)) => record.into_iter().find(|(n, _)| n == field).map(|(_, f)| f),
                        _ => None,
                    };
                }
                fact.map(|fact| fact.to_string())
            }
        };
        format!("{} {}", path.join("."), value.as_deref().unwrap_or("absent: its evidence does not say"))
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "\"{}\"", name.escape_debug()),
            Self::YesNo(yes) => yes.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Names(names) if names.is_empty() => f.write_str("none"),
            Self::Names(names) => f.write_str(&names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
            Self::Tee(tee) => tee.fmt(f),
            Self::TcbStatus(status) => status.fmt(f),
            Self::Sensitivity(sensitivity) => sensitivity.fmt(f),
            Self::Record(fields) => {
                for (i, (name, fact)) in fields.iter().enumerate() {
                    write!(f, "{}{name} {fact}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// Entities that stand for kinds and statuses, made once: making one parses its type's name.
#[derive(Clone)]
pub(crate) struct Words {
    tees: Vec<(TeeKind, EntityUid)>,
    statuses: Vec<(TcbStatus, EntityUid)>,
    sensitivities: Vec<(Sensitivity, EntityUid)>,
}

impl Words {
    pub(crate) fn new() -> Option<Self> {
        let tees = TeeKind::ALL.into_iter().map(|tee| Some((tee, schema::entity("Tee", tee.name())?)));
        let statuses = TcbStatus::ALL.into_iter().map(|s| Some((s, schema::entity("TcbStatus", s.name())?)));
        let levels = [Sensitivity::Public, Sensitivity::Internal, Sensitivity::Confidential, Sensitivity::Restricted];
        let levels = levels.into_iter().map(|s| Some((s, schema::entity("Sensitivity", &s.to_string())?)));
        Some(Self {
            tees: tees.collect::<Option<_>>()?,
            statuses: statuses.collect::<Option<_>>()?,
            sensitivities: levels.collect::<Option<_>>()?,
        })
    }

    /// A fact in Cedar's form. A kind or status always has its word: both tables are whole.
    pub(crate) fn expression(&self, fact: Fact) -> Option<RestrictedExpression> {
        Some(match fact {
            Fact::Name(name) => RestrictedExpression::new_string(name),
            Fact::YesNo(yes) => RestrictedExpression::new_bool(yes),
            Fact::Number(number) => RestrictedExpression::new_long(number),
            Fact::Names(names) => {
                RestrictedExpression::new_set(names.into_iter().map(RestrictedExpression::new_string))
            }
            Fact::Tee(tee) => {
                RestrictedExpression::new_entity_uid(self.tees.iter().find(|(t, _)| *t == tee)?.1.clone())
            }
            Fact::TcbStatus(status) => {
                RestrictedExpression::new_entity_uid(self.statuses.iter().find(|(s, _)| *s == status)?.1.clone())
            }
            Fact::Sensitivity(level) => {
                let word = self.sensitivities.iter().find(|(s, _)| *s == level)?.1.clone();
                RestrictedExpression::new_entity_uid(word)
            }
            Fact::Record(fields) => {
                let fields = fields.into_iter().map(|(name, fact)| Some((name.to_owned(), self.expression(fact)?)));
                RestrictedExpression::new_record(fields.collect::<Option<Vec<_>>>()?).ok()?
            }
        })
    }
}
