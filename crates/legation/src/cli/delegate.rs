//! Options of `legation run` that say what enclaves may have run by other enclaves.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use legation::{party::Consent, run::parse_usd};
use legation_core::{
    Fuel, MicroUsd,
    statement::{Assurance, Diversity},
    task::{DELEGATION_DEPTH_MAX, DELEGATION_MODULES_MAX, Delegation},
};

use super::{Exit, Failure, task::read};

#[derive(Args)]
pub(super) struct Delegate {
    /// Modules that the enclaves which run MODULE may have run by other enclaves, apart by commas. Nothing is handed on without.
    #[arg(long, value_name = "MODULE,..", value_delimiter = ',')]
    delegate: Vec<PathBuf>,
    /// How often a part may be handed on: 1 lets the enclave ask others, 2 lets those ask others, and so on.
    #[arg(
        long,
        value_name = "LEVELS",
        default_value_t = 1,
        requires = "delegate",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(DELEGATION_DEPTH_MAX))
    )]
    delegate_depth: u32,
    /// Work of all parts of a fragment together, in millions of operators. Default: as `--fuel`.
    #[arg(long, value_name = "MFUEL", requires = "delegate", value_parser = clap::value_parser!(u64).range(1..))]
    delegate_fuel: Option<u64>,
    /// What all parts of a fragment may cost together, in dollars. Default: as `--budget`.
    #[arg(long, value_name = "USD", requires = "delegate")]
    delegate_budget: Option<String>,
    /// How parts are assured, at least: `attested` by one enclave; `replicated:K` by most of K on different chips, or
    /// `replicated:K:provider`, `replicated:K:tee` of different owners or kinds; `proven`.
    #[arg(
        long,
        value_name = "ASSURANCE",
        default_value = "attested",
        requires = "delegate",
        value_parser = assurance
    )]
    delegate_assurance: Assurance,
    /// Lets the keys of your inputs go on to those enclaves as well. Without it they get what the module hands them, and nothing
    /// else.
    #[arg(long, requires = "delegate")]
    delegate_data: bool,
}

fn assurance(text: &str) -> Result<Assurance, String> {
    let mut words = text.split(':');
    let assurance = match (words.next(), words.next(), words.next(), words.next()) {
        (Some("attested"), None, ..) => Assurance::Attested,
        (Some("proven"), None, ..) => Assurance::Proven,
        (Some("replicated"), Some(k), by, None) => Assurance::Replicated {
            k: k.parse().map_err(|_| "wants a number of enclaves, as in `replicated:3`".to_owned())?,
            diverse: match by {
                None | Some("chip") => Diversity::Chip,
                Some("provider") => Diversity::Provider,
                Some("tee") => Diversity::Tee,
                Some(_) => return Err("wants chip, provider or tee, as in `replicated:3:provider`".to_owned()),
            },
        },
        _ => return Err("wants attested, replicated:K, replicated:K:provider, replicated:K:tee or proven".to_owned()),
    };
    assurance.validate().map_err(|why| why.to_string())?;
    Ok(assurance)
}

impl Delegate {
    /// The modules out of their files, and what the request says of them but for their digests; where a fragment may use `fuel`,
    /// and all of the task may cost `budget`.
    pub(super) fn read(&self, fuel: Fuel, budget: MicroUsd) -> Result<(Vec<Bytes>, Option<Delegation>), Failure> {
        if self.delegate.len() > DELEGATION_MODULES_MAX {
            let many = format!("--delegate: {} modules, more than {DELEGATION_MODULES_MAX}", self.delegate.len());
            return Err(Failure::new(Exit::Usage, many));
        }
        let modules = self.delegate.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if modules.is_empty() {
            return Ok((modules, None));
        }
        let own = self.delegate_budget.as_deref().map(parse_usd).transpose();
        let own = own.map_err(|why| Failure::refused(Exit::Usage, &why))?.unwrap_or(budget);
        if own > budget {
            return Err(Failure::new(Exit::Usage, format!("--delegate-budget {own} is more than --budget {budget}")));
        }
        let delegation = Delegation {
            modules: Vec::new(),
            depth: self.delegate_depth,
            fuel: self.delegate_fuel.map_or(fuel, |millions| Fuel(millions.saturating_mul(1_000_000))),
            budget: own,
            assurance: self.delegate_assurance,
        };
        Ok((modules, Some(delegation)))
    }

    /// What the client lets go on beyond that, as the holder of the inputs.
    pub(super) fn consent(&self) -> Option<Consent> {
        self.delegate_data.then_some(Consent::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assurance_has_one_meaning() {
        let replicated = |k, diverse| Some(Assurance::Replicated { k, diverse });
        for (text, meant) in [
            ("attested", Some(Assurance::Attested)),
            ("proven", Some(Assurance::Proven)),
            ("replicated:3", replicated(3, Diversity::Chip)),
            ("replicated:2:chip", replicated(2, Diversity::Chip)),
            ("replicated:5:provider", replicated(5, Diversity::Provider)),
            ("replicated:9:tee", replicated(9, Diversity::Tee)),
            ("replicated", None),
            ("replicated:1", None),
            ("replicated:10", None),
            ("replicated:many", None),
            ("replicated:3:region", None),
            ("replicated:3:tee:more", None),
            ("attested:1", None),
            ("proven:", None),
            ("", None),
        ] {
            assert_eq!(assurance(text).ok(), meant, "{text}");
        }
    }
}
