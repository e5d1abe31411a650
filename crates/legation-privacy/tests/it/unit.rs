//! Units: what rounds, rounds up; what is written is read back, and nothing else is.

use legation_privacy::{DELTA_EXPONENT_MAX, Delta, NanoEpsilon, NanoRho, UnitError};
use proptest::prelude::*;

#[test]
fn rho_is_rounded_up_to_the_billionth() {
    for (rho, nano) in [
        (0.0, 0),
        (-0.0, 0),
        (1.0, 1_000_000_000),
        (0.5, 500_000_000),
        (0.031_25, 31_250_000),
        // The float nearest to a billionth is above it.
        (1e-9, 2),
        (1e-12, 1),
        (f64::MIN_POSITIVE, 1),
        (f64::from_bits(1), 1),
        // The float named 0.1 is a little above a tenth; the one named 0.3 a little below three.
        (0.1, 100_000_001),
        (0.3, 300_000_000),
        (1.0_f64.next_up(), 1_000_000_001),
        (18_446_744_073.0, 18_446_744_073_000_000_000),
    ] {
        assert_eq!(NanoRho::ceil(rho), Ok(NanoRho(nano)), "{rho:e}");
    }
    for refused in [-1e-300, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 18_446_744_074.0, 1e300, f64::MAX] {
        assert_eq!(NanoRho::ceil(refused), Err(UnitError::Rho), "{refused:e}");
    }
}

proptest! {
    #[test]
    fn rounding_loses_less_than_a_billionth_and_never_gains(mantissa in 1_u64..1 << 53, down in 20_i32..120) {
        let rho = mantissa as f64 * 2_f64.powi(-down);
        prop_assume!(rho < 1e9);
        let NanoRho(nano) = NanoRho::ceil(rho).unwrap();
        // nano - 1 < mantissa / 2^down * 10^9 <= nano, without rounding.
        let exact = u128::from(mantissa) * 1_000_000_000;
        let scaled = |nano: u64| u128::from(nano).checked_shl(down.unsigned_abs()).filter(|s| s >> down == u128::from(nano));
        prop_assert!(scaled(nano).is_none_or(|scaled| scaled >= exact), "{rho:e} is more than {nano}");
        prop_assert!(scaled(nano - 1).is_some_and(|scaled| scaled < exact), "{rho:e} is not more than {nano} - 1");
    }

    #[test]
    fn epsilon_is_never_below_what_it_stands_for(rho in 0_u64..1_000_000_000_000, exponent in 1..=DELTA_EXPONENT_MAX) {
        let NanoEpsilon(nano) = NanoRho(rho).epsilon(Delta::new(exponent).unwrap());
        let (rho, ln) = (rho as f64 / 1e9, f64::from(exponent) * std::f64::consts::LN_10);
        let real = rho + 2.0 * (rho * ln).sqrt();
        prop_assert!(nano as f64 / 1e9 >= real * (1.0 - 1e-14), "{nano} for {real}");
        prop_assert!(nano as f64 / 1e9 <= real * (1.0 + 1e-9) + 2e-9, "{nano} for {real}");
    }

    #[test]
    fn epsilon_grows_with_rho_and_as_delta_shrinks(rho: u64, more: u64, exponent in 1..DELTA_EXPONENT_MAX) {
        let (delta, smaller) = (Delta::new(exponent).unwrap(), Delta::new(exponent + 1).unwrap());
        let epsilon = NanoRho(rho).epsilon(delta);
        prop_assert!(epsilon <= NanoRho(rho.saturating_add(more)).epsilon(delta));
        prop_assert!(epsilon <= NanoRho(rho).epsilon(smaller));
    }
}

#[test]
fn units_have_one_spelling() {
    for (exponent, fine) in [(0, false), (1, true), (6, true), (30, true), (31, false), (255, false)] {
        assert_eq!(Delta::new(exponent).is_ok(), fine, "{exponent}");
        assert_eq!(serde_json::from_str::<Delta>(&exponent.to_string()).is_ok(), fine, "{exponent}");
    }
    let delta = Delta::new(6).unwrap();
    assert_eq!((serde_json::to_string(&delta).unwrap(), delta.to_string()), ("6".to_owned(), "1e-6".to_owned()));
    for (nano, text) in
        [(0, "0"), (1, "0.000000001"), (50_000_000, "0.05"), (1_000_000_000, "1"), (2_500_000_000, "2.5")]
    {
        assert_eq!(NanoRho(nano).to_string(), text);
        assert_eq!(serde_json::from_str::<NanoRho>(&nano.to_string()).unwrap(), NanoRho(nano));
    }
    for wrong in ["-1", "0.5", "\"1\"", "18446744073709551616", "null"] {
        assert!(serde_json::from_str::<NanoRho>(wrong).is_err(), "{wrong}");
    }
    // Rho 1 at one in a million: 1 + 2 sqrt(6 ln 10) = 8.4338..
    let NanoEpsilon(nano) = NanoRho(1_000_000_000).epsilon(delta);
    assert_eq!(nano / 100_000, 84_338);
}
