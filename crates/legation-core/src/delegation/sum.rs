//! Fuel and cost, counted together.

use crate::unit::{Fuel, MicroUsd};

/// So much work, at such a price.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// Work.
    pub fuel: Fuel,
    /// What it costs.
    pub cost: MicroUsd,
}

impl Sum {
    /// Nothing.
    pub const ZERO: Self = Self { fuel: Fuel::ZERO, cost: MicroUsd::ZERO };

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { fuel: self.fuel.saturating_add(other.fuel), cost: self.cost.saturating_add(other.cost) }
    }

    /// What is left of it without `other`, each at least nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { fuel: self.fuel.saturating_sub(other.fuel), cost: self.cost.saturating_sub(other.cost) }
    }

    /// So many times as much.
    #[must_use]
    pub fn times(self, of: u64) -> Self {
        Self { fuel: Fuel(self.fuel.0.saturating_mul(of)), cost: MicroUsd(self.cost.0.saturating_mul(of)) }
    }

    /// Half of each, rounded down.
    #[must_use]
    pub fn half(self) -> Self {
        Self { fuel: Fuel(self.fuel.0 / 2), cost: MicroUsd(self.cost.0 / 2) }
    }

    /// The less of each.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self { fuel: self.fuel.min(other.fuel), cost: self.cost.min(other.cost) }
    }

    /// The more of each.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self { fuel: self.fuel.max(other.fuel), cost: self.cost.max(other.cost) }
    }

    /// Whether neither is more than there is of it in `most`.
    pub fn is_within(self, most: Self) -> bool {
        self.fuel <= most.fuel && self.cost <= most.cost
    }
}
