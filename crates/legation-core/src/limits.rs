//! Limits on work by the policies that let it be placed: what it may use where it is, whatever it asks for.
//!
//! They come from the annotations of every permit that lets the work be there (docs/policy.md), the least of all counts.
//! They stand in the signed allocation, the agent keeps the work within them, and whoever takes a report holds it to them.
//! An allocation without limits leaves the work to its demand: an agent sees only what the manager signed, and cannot know
//! of limits that were left out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    rejection::Rejection,
    statement::{Outcome, Report},
    task::Demand,
    time::Millis,
    unit::{Bytes, Fuel, Millicores},
};

/// An execution may last this much longer than it should, in microseconds: its end is noticed at the engine's next tick.
const GRACE_MICROS: u64 = 1_000_000;

/// How what leaves an enclave is sealed, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// AES-128-GCM.
    #[serde(rename = "aes-128-gcm")]
    Aes128Gcm,
    /// AES-256-GCM, its key wrapped by any KEM.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// AES-256-GCM, its key wrapped by X-Wing (X25519 and ML-KEM-768).
    #[serde(rename = "aes-256-gcm-x-wing")]
    Aes256GcmXWing,
    /// AES-256-GCM, its key wrapped by ML-KEM-1024. Nothing of this version seals so.
    #[serde(rename = "aes-256-gcm-ml-kem-1024")]
    Aes256GcmMlKem1024,
}

impl Encryption {
    /// All of them, weakest first.
    pub const ALL: [Self; 4] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::Aes256GcmXWing, Self::Aes256GcmMlKem1024];
    /// How agents of this version seal what leaves them.
    pub const OURS: Self = Self::Aes256GcmXWing;

    /// Its name in policies and statements.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Aes256GcmXWing => "aes-256-gcm-x-wing",
            Self::Aes256GcmMlKem1024 => "aes-256-gcm-ml-kem-1024",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What work may use where it is placed. What is not said is not limited.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allowance {
    /// Compute that may be set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Millicores>,
    /// Linear memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Fuel>,
    /// Time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Millis>,
    /// Bytes that leave the enclave: output and log together, as they travel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Bytes>,
    /// How they must be sealed at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The rules that say so, as `POLICY/RULE`, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Allowance {
    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        let Self { cpu, memory, fuel, time, egress, encryption, rules: _ } = self;
        cpu.is_none()
            && memory.is_none()
            && fuel.is_none()
            && time.is_none()
            && egress.is_none()
            && encryption.is_none()
    }

    /// What both allow: the least of each, the strongest encryption, the rules of both.
    pub fn and(mut self, other: &Self) -> Self {
        self.rules.extend(other.rules.iter().cloned());
        self.rules.sort_unstable();
        self.rules.dedup();
        Self {
            cpu: least(self.cpu, other.cpu),
            memory: least(self.memory, other.memory),
            fuel: least(self.fuel, other.fuel),
            time: least(self.time, other.time),
            egress: least(self.egress, other.egress),
            encryption: self.encryption.max(other.encryption),
            rules: self.rules,
        }
    }

    fn refuse(&self, limit: &str, claim: &str) -> Rejection {
        let by = if self.rules.is_empty() { String::new() } else { format!(" (by {})", self.rules.join(", ")) };
        Rejection::new(&format!("limits.{limit}"), format!("{claim} under the limits of its placement{by}"))
    }

    /// Whether work of this demand may be there at all: it asks for no more than it may use.
    ///
    /// # Errors
    /// `limits.NAME`: the first limit that the demand exceeds; `limits.encryption`: what is asked is not to be had.
    pub fn check_work(&self, demand: &Demand) -> Result<(), Rejection> {
        let over = |limit: &str, most: String, got: String| {
            Err(self
                .refuse(limit, "demand of the fragment")
                .expected(format!("at most {most}"))
                .got(got)
                .fix("ask for less, or for an enclave that the policies allow more"))
        };
        if let Some(most) = self.cpu.filter(|most| demand.cpu > *most) {
            return over("cpu", most.to_string(), demand.cpu.to_string());
        }
        if let Some(most) = self.memory.filter(|most| demand.memory > *most) {
            return over("memory", most.to_string(), demand.memory.to_string());
        }
        if let Some(most) = self.fuel.filter(|most| demand.fuel > *most) {
            return over("fuel", most.to_string(), demand.fuel.to_string());
        }
        if let Some(most) = self.time.filter(|most| demand.time > *most) {
            return over("time", format!("{} ms", most.0), format!("{} ms", demand.time.0));
        }
        if let Some(most) = self.egress.filter(|most| demand.output > *most) {
            return over("egress", format!("{most} of output"), demand.output.to_string());
        }
        match self.encryption.filter(|least| *least > Encryption::OURS) {
            Some(least) => Err(self
                .refuse("encryption", "sealing of output and log")
                .expected(format!("{least} at least"))
                .got(Encryption::OURS)
                .fix("use an enclave whose permit asks for less, or a newer version")),
            None => Ok(()),
        }
    }

    /// Whether what an enclave says it did lies within.
    ///
    /// # Errors
    /// `limits.NAME`: the first limit that it exceeds.
    pub fn check_report(&self, report: &Report) -> Result<(), Rejection> {
        let used = &report.usage;
        let over = |limit: &str, most: String, got: String| {
            Err(self.refuse(limit, "what the enclave used").expected(format!("at most {most}")).got(got))
        };
        if let Some(most) = self.memory.filter(|most| used.memory_peak > *most) {
            return over("memory", most.to_string(), used.memory_peak.to_string());
        }
        if let Some(most) = self.fuel.filter(|most| used.fuel > *most) {
            return over("fuel", most.to_string(), used.fuel.to_string());
        }
        let micros_max = |most: Millis| most.0.saturating_mul(1000).saturating_add(GRACE_MICROS);
        let completed = report.outcome == Outcome::Completed;
        if let Some(most) = self.time.filter(|most| completed && used.micros > micros_max(*most)) {
            return over("time", format!("{} ms", most.0), format!("{} ms", used.micros / 1000));
        }
        let sealed = [&report.output, &report.log].into_iter().flatten().map(|object| object.size);
        let answered = report.answer.iter().filter_map(|answer| answer.output).map(|output| output.size);
        let left: Bytes = sealed.chain(answered).sum();
        if let Some(most) = self.egress.filter(|most| left > *most) {
            return over("egress", most.to_string(), left.to_string());
        }
        Ok(())
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, memory, fuel, time, egress, encryption, rules } = self;
        let said = [
            cpu.map(|cpu| format!("cpu {cpu}")),
            memory.map(|memory| format!("memory {memory}")),
            fuel.map(|fuel| fuel.to_string()),
            time.map(|time| format!("time {} ms", time.0)),
            egress.map(|egress| format!("egress {egress}")),
            encryption.map(|encryption| format!("encryption {encryption}")),
        ];
        let said: Vec<_> = said.into_iter().flatten().collect();
        f.write_str(if said.is_empty() { "no limits" } else { "at most " })?;
        f.write_str(&said.join(", "))?;
        if rules.is_empty() {
            return Ok(());
        }
        // Whoever signed an allocation chose these names: they end on terminals.
        let names: Vec<_> = rules.iter().map(|rule| rule.escape_debug().to_string()).collect();
        write!(f, " by {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(memory: u64, egress: Option<u64>, encryption: Encryption, rule: &str) -> Allowance {
        Allowance {
            memory: Some(Bytes::mib(memory)),
            egress: egress.map(Bytes::mib),
            encryption: Some(encryption),
            rules: vec![rule.into()],
            ..Allowance::default()
        }
    }

    #[test]
    fn the_least_of_both_counts_and_the_strongest_encryption() {
        let wide = allowance(512, None, Encryption::Aes256GcmXWing, "b/wide");
        let narrow = allowance(64, Some(1), Encryption::Aes128Gcm, "a/narrow");
        let both = wide.and(&narrow);
        let said = "at most memory 64 MiB, egress 1 MiB, encryption aes-256-gcm-x-wing by a/narrow, b/wide";
        assert_eq!(both.to_string(), said);
        assert_eq!(both.clone().and(&Allowance::default()), both);
        assert!(Allowance::default().is_unlimited() && !both.is_unlimited());
        assert_eq!(Allowance::default().to_string(), "no limits");
    }

    #[test]
    fn a_demand_is_within_or_refused_by_the_limit_it_exceeds() {
        let demand = Demand::default();
        let exact = Allowance {
            cpu: Some(demand.cpu),
            memory: Some(demand.memory),
            fuel: Some(demand.fuel),
            time: Some(demand.time),
            egress: Some(demand.output),
            encryption: Some(Encryption::OURS),
            rules: Vec::new(),
        };
        let check = |allowance: Allowance| allowance.check_work(&demand).map_err(|e| e.check);
        assert_eq!(check(exact.clone()), Ok(()));
        type Change = fn(&mut Allowance);
        let over: [(&str, Change); 6] = [
            ("limits.cpu", |a| a.cpu = Some(Millicores(99))),
            ("limits.memory", |a| a.memory = Some(Bytes(1))),
            ("limits.fuel", |a| a.fuel = Some(Fuel(1))),
            ("limits.time", |a| a.time = Some(Millis(59_999))),
            ("limits.egress", |a| a.egress = Some(Bytes(0))),
            ("limits.encryption", |a| a.encryption = Some(Encryption::Aes256GcmMlKem1024)),
        ];
        for (wanted, change) in over {
            let mut allowance = exact.clone();
            change(&mut allowance);
            assert_eq!(check(allowance), Err(wanted.into()));
        }
    }

    #[test]
    fn what_is_not_limited_is_not_written_and_names_are_one() {
        assert_eq!(serde_json::to_string(&Allowance::default()).unwrap(), "{}");
        for encryption in Encryption::ALL {
            assert_eq!(serde_json::to_string(&encryption).unwrap(), format!("\"{encryption}\""));
            assert_eq!(Encryption::named(encryption.name()), Some(encryption));
        }
        assert!(serde_json::from_str::<Allowance>("{\"disk\":1}").is_err());
    }
}
