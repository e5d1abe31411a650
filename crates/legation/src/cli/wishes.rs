//! Options of `legation run` that say who is best among the enclaves that satisfy it, and what the data is.

use clap::{Args, ValueEnum};
use legation_core::{
    Millis, Region, Rejection, ReservationId,
    prefer::{Axis, DataTerms, Preferences, Priority, Sensitivity, Spread, SpreadRule, WEIGHT_MAX, Weights},
};

use super::{Exit, Failure};

#[derive(Args)]
pub(super) struct Wishes {
    /// Region that the client or its data is in: of two alike, the nearer is taken.
    #[arg(long, value_name = "REGION")]
    near: Option<Region>,
    /// Longest round trip to `--near`, in milliseconds. Farther enclaves are not taken.
    #[arg(long, value_name = "MS", requires = "near")]
    within: Option<u64>,
    /// How much a consideration counts, in percent of the usual: `cost`, `proximity`, `posture` or `fit`, as in `cost=50`.
    #[arg(long, value_name = "NAME=PERCENT", value_parser = weight)]
    weight: Vec<(Weight, u16)>,
    /// What fragments of the task share or do not share: `provider`, `tee`, `region`, `chip` or `enclave`; and `distinct`,
    /// `same`, `apart` (better not) or `together` (better so), as in `provider=distinct`.
    #[arg(long, value_name = "WHAT=RULE", value_parser = spread)]
    spread: Vec<Spread>,
    /// How urgent: 0 is whenever there is room, 9 is first of all.
    #[arg(long, value_name = "0-9", default_value_t = Priority::default().0, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: u8,
    /// Reservation in whose seats it is placed, and nowhere else: see `legation reserve`.
    #[arg(long, value_name = "RESERVATION")]
    reservation: Option<ReservationId>,
    /// How much harm it does when the data gets out: policies may speak of it.
    #[arg(long, value_enum, default_value_t = Harm::Confidential)]
    sensitivity: Harm,
    /// Rule that the data is under, such as `gdpr`: policies may speak of it.
    #[arg(long, value_name = "NAME")]
    regulation: Vec<String>,
    /// Region that the data may be in; may be given several times. Anywhere without it.
    #[arg(long, value_name = "REGION")]
    residency: Vec<Region>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Weight {
    Cost,
    Proximity,
    Posture,
    Fit,
}

#[derive(Clone, Copy, ValueEnum)]
enum Harm {
    Public,
    Internal,
    Confidential,
    Restricted,
}

fn weight(text: &str) -> Result<(Weight, u16), String> {
    let (name, percent) = text.split_once('=').ok_or("wants NAME=PERCENT, as in `cost=50`")?;
    let weight = Weight::from_str(name, false).map_err(|_| "wants one of cost, proximity, posture, fit".to_owned())?;
    let percent = percent.parse().ok().filter(|p| *p <= WEIGHT_MAX);
    Ok((weight, percent.ok_or_else(|| format!("wants a percentage from 0 to {WEIGHT_MAX}"))?))
}

fn spread(text: &str) -> Result<Spread, String> {
    let (axis, rule) = text.split_once('=').ok_or("wants WHAT=RULE, as in `provider=distinct`")?;
    let axes = [Axis::Provider, Axis::Tee, Axis::Region, Axis::Chip, Axis::Enclave];
    let axis = axes.into_iter().find(|a| a.to_string() == axis);
    let rules = [SpreadRule::Distinct, SpreadRule::Same, SpreadRule::Apart, SpreadRule::Together];
    let rule = rules.into_iter().find(|r| r.to_string() == rule);
    Ok(Spread {
        axis: axis.ok_or("wants one of provider, tee, region, chip, enclave before the `=`")?,
        rule: rule.ok_or("wants one of distinct, same, apart, together after the `=`")?,
    })
}

impl Wishes {
    /// What they say, checked as the pool will check it.
    pub(super) fn read(&self) -> Result<(Preferences, DataTerms), Failure> {
        let mut weights = Weights::default();
        for (weight, percent) in &self.weight {
            *match weight {
                Weight::Cost => &mut weights.cost,
                Weight::Proximity => &mut weights.proximity,
                Weight::Posture => &mut weights.posture,
                Weight::Fit => &mut weights.fit,
            } = *percent;
        }
        let prefer = Preferences {
            weights,
            near: self.near.clone(),
            within: self.within.map(Millis),
            spread: self.spread.clone(),
            priority: Priority(self.priority),
            reservation: self.reservation,
        };
        let data = DataTerms {
            sensitivity: match self.sensitivity {
                Harm::Public => Sensitivity::Public,
                Harm::Internal => Sensitivity::Internal,
                Harm::Confidential => Sensitivity::Confidential,
                Harm::Restricted => Sensitivity::Restricted,
            },
            regulations: self.regulation.iter().cloned().collect(),
            residency: self.residency.iter().cloned().collect(),
        };
        let refused = |why: Rejection| Failure::refused(Exit::Usage, &why);
        prefer.validate().map_err(refused)?;
        data.validate().map_err(refused)?;
        Ok((prefer, data))
    }
}
