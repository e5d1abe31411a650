//! Betting against exchangeability: a capital that grows only when p-values stay small.
//!
//! 1. A stake on exponent `k` is multiplied by `k * p^(k - 1)` at each p-value. That is worth 1 on average while the p-value is
//!    uniform given the past, since it integrates to 1 over (0, 1]; and less where p-values are too large. So capital is a
//!    nonnegative supermartingale that begins with 1, and by Ville's inequality it *ever* reaches `c` with probability at most
//!    `1 / c` (Vovk, Nouretdinov, Gammerman, arXiv:2006.02329, which also has these power bets).
//! 2. A stake that is in play through a long time without change is lost. So capital is not played at once: at the `n`-th p-value
//!    a stake of `1 / (n (n + 1))` is taken from a reserve, of which `1 / (n + 1)` is left. All stakes together are 1, so 1 holds as
//!    before; and a change after `n` usual runs costs `n^2` of capital, a few runs more, and not all hope.
//! 3. Stakes are split evenly on three exponents: a strong change wins most with the least.
//!
//! Only +, *, / and square roots of floats are used, which IEEE 754 rounds the same everywhere: replays agree to the last bit.

use super::score::fraction;

/// Binary digits of the fraction of a float, and where its exponent begins.
const FRACTION: u32 = 52;
const BIAS: i32 = 1023;

/// Capital in play on the exponents 1/4, 1/2 and 3/4, and how often was bet.
#[derive(Clone, Debug, Default)]
pub(super) struct Martingale {
    stakes: [f64; 3],
    bets: u64,
}

impl Martingale {
    /// Bets on the next p-value, in (0, 1].
    pub(super) fn bet(&mut self, p: f64) {
        self.bets = self.bets.saturating_add(1);
        let n = self.bets as f64;
        let stake = 1.0 / (n * (n + 1.0)) / 3.0;
        let root = p.sqrt();
        let fourth = root.sqrt();
        // k * p^(k - 1) for the three exponents k.
        let gains = [0.25 / (root * fourth), 0.5 / root, 0.75 / fourth];
        for (held, gain) in self.stakes.iter_mut().zip(gains) {
            *held = (*held + stake) * gain;
        }
    }

    /// Capital: 1 before the first bet, always above 0.
    pub(super) fn capital(&self) -> f64 {
        1.0 / (self.bets as f64 + 1.0) + self.stakes.iter().sum::<f64>()
    }

    /// log2 of the capital in thousandths.
    pub(super) fn log2(&self) -> i32 {
        log2_of(self.capital())
    }
}

/// log2 in thousandths, rounded the same on all machines, which the library's logarithm is not; for finite numbers above 2^-1022.
fn log2_of(x: f64) -> i32 {
    let bits = x.to_bits();
    let exponent = i32::try_from((bits >> FRACTION) & 0x7ff).unwrap_or(0) - BIAS;
    let mantissa = (1 << 63) | (bits << (63 - FRACTION));
    exponent * 1000 + i32::try_from(fraction(mantissa)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use legation_core::Digest;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn capital_begins_with_one_and_follows_the_bets() {
        let mut game = Martingale::default();
        assert_eq!((game.capital(), game.log2()), (1.0, 0));
        // Of the first stake, 1/2, a third each on 1/4, 1/2, 3/4 at p = 1/16: 0.25 * 8, 0.5 * 4, 0.75 * 2.
        game.bet(1.0 / 16.0);
        assert!((game.capital() - (0.5 + (2.0 + 2.0 + 1.5) / 6.0)).abs() < 1e-12, "{}", game.capital());
        // p = 1 loses: a quarter, a half, three quarters of what is in play are left.
        let mut game = Martingale::default();
        game.bet(1.0);
        assert!((game.capital() - (0.5 + 1.5 / 6.0)).abs() < 1e-12, "{}", game.capital());
    }

    #[test]
    fn logarithms_of_capital_are_right_to_a_thousandth() {
        for (x, want) in [
            (1.0, 0),
            (2.0, 1000),
            (100.0, 6644),
            (10.0, 3322),
            (0.5, -1000),
            (0.001, -9966),
            (1e300, 996_578),
            (f64::MIN_POSITIVE, -1_022_000),
        ] {
            assert_eq!(log2_of(x), want, "{x}");
        }
    }

    /// 20,000 streams of 300 uniform p-values; at most 200 may reach 100, and no more than chance adds: four standard deviations of
    /// 14.1 each.
    #[test]
    fn uniform_p_values_rarely_win_much() {
        let mut state = 1_u64;
        let mut uniform = || {
            // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (((z ^ (z >> 31)) >> 11) + 1) as f64 / (1_u64 << 53) as f64
        };
        let mut reached = [0_u32; 2];
        for _ in 0..20_000 {
            let mut game = Martingale::default();
            let mut most = 0.0_f64;
            for _ in 0..300 {
                game.bet(uniform());
                most = most.max(game.capital());
            }
            reached[0] += u32::from(most >= 100.0);
            reached[1] += u32::from(most >= 10.0);
        }
        assert!(reached[0] <= 256 && reached[1] <= 2170, "{reached:?}");
        // The bound is not met by never betting.
        assert!(reached[1] > 200, "{reached:?}");
    }

    #[test]
    fn small_p_values_win_even_late() {
        for usual in [0_u64, 100, 10_000] {
            let mut game = Martingale::default();
            for n in 0..usual {
                let [a, b, ..] = *Digest::of(&n.to_le_bytes()).as_bytes();
                game.bet((f64::from(u16::from_le_bytes([a, b])) + 1.0) / 65_536.0);
            }
            let runs = (1..40).find(|_| {
                game.bet(0.01);
                game.capital() >= 100.0
            });
            assert!(runs.is_some_and(|runs| runs <= 16), "after {usual}: {runs:?}");
        }
    }

    proptest! {
        #[test]
        fn capital_stays_a_number(ps in proptest::collection::vec(
            proptest::sample::select(vec![f64::MIN_POSITIVE, 1e-30, 0.01, 0.5, 1.0]), 0..60,
        )) {
            let mut game = Martingale::default();
            for p in ps {
                // Whoever holds 2^200 has raised the alarm long before.
                if game.capital() > 2_f64.powi(200) {
                    break;
                }
                game.bet(p);
                prop_assert!(game.capital().is_finite() && game.capital() > 0.0);
            }
        }
    }
}
