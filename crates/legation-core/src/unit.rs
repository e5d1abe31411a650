//! Quantities with their unit in the type. Money, fuel and capacity are integers; nothing is ever a bare `u64`.

use std::{fmt, iter::Sum};

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, Debug)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0);

            /// The sum, or nothing when it does not fit.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// The difference, or nothing when `other` is larger.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }

            /// The sum, stopping at the largest value.
            pub fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, stopping at zero.
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self::ZERO, Self::saturating_add)
            }
        }
    };
}

quantity! {
    /// Thousandths of one CPU core.
    Millicores
}
quantity! {
    /// Thousandths of one accelerator.
    Milligpus
}
quantity! {
    /// Bytes of memory, storage or traffic.
    Bytes
}
quantity! {
    /// Work done by the engine: about one unit per WebAssembly operator.
    Fuel
}
quantity! {
    /// Memory set aside over time: one MiB for one millisecond. 64 MiB for a minute are 3,840,000.
    MibMillis
}
quantity! {
    /// Accelerators set aside over time: one for one millisecond.
    GpuMillis
}
quantity! {
    /// Millionths of a US dollar.
    MicroUsd
}

/// How far one number is from another, in thousandths of the first: 1000 is as much again, or all of it. Stops at `u32::MAX`.
pub fn change(from: u64, to: u64) -> u32 {
    let far = u128::from(from.abs_diff(to)) * 1000;
    u32::try_from(far.div_ceil(u128::from(from.max(1)))).unwrap_or(u32::MAX)
}

impl Bytes {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n * 1024 * 1024 * 1024)
    }
}

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} cores", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for Milligpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} accelerators", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match STEPS.iter().find(|(size, _)| self.0 >= *size) {
            Some((size, unit)) if self.0.is_multiple_of(*size) => write!(f, "{} {unit}", self.0 / size),
            Some((size, unit)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*size);
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 10_000_000 => write!(f, "{} Mfuel", n / 1_000_000),
            n => write!(f, "{n} fuel"),
        }
    }
}

impl fmt::Display for MibMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} MiB s", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for GpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} accelerator s", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} usd", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        for (got, want) in [
            (Bytes(512).to_string(), "512 B"),
            (Bytes::mib(64).to_string(), "64 MiB"),
            (Bytes(1536).to_string(), "1.5 KiB"),
            (Bytes(u64::MAX).to_string(), "17179869183.9 GiB"),
            (MicroUsd(20_000).to_string(), "0.020000 usd"),
            (Millicores(1500).to_string(), "1.500 cores"),
        ] {
            assert_eq!(got, want);
        }
    }
}
