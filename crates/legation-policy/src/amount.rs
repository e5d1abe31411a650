//! Amounts in annotations, as people write them: `4`, `0.5`, `8 GiB`, `30 s`, `20 G`.

use legation_core::{Bytes, Fuel, Millicores, Millis};

/// A whole number and the word after it.
fn parts(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (text.get(..end)?, text.get(end..)?);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = parts(text)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*scale).filter(|n| *n > 0)
}

/// Cores, to the thousandth: `4`, `0.5`.
pub(crate) fn cores(text: &str) -> Option<Millicores> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{part:0<3}").parse().ok()?;
    let all = whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)?;
    (all > 0).then_some(Millicores(all))
}

/// Bytes: `512 KiB`, `64 MiB`, `8 GiB`.
pub(crate) fn bytes(text: &str) -> Option<Bytes> {
    scaled(text, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)]).map(Bytes)
}

/// Fuel: `1000`, `20 M`, `10 G`.
pub(crate) fn fuel(text: &str) -> Option<Fuel> {
    scaled(text, &[("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000)]).map(Fuel)
}

/// Time: `500 ms`, `30 s`, `10 min`, `2 h`.
pub(crate) fn time(text: &str) -> Option<Millis> {
    scaled(text, &[("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000)]).map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, wanted) in [
            ("4", Some(4000)),
            ("0.5", Some(500)),
            ("1.25", Some(1250)),
            ("0", None),
            ("0.0001", None),
            (".5", None),
            ("+1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(cores(text), wanted.map(Millicores), "{text}");
        }
        for (text, wanted) in [
            ("1 MiB", Some(1 << 20)),
            ("8GiB", Some(8 << 30)),
            ("512 B", Some(512)),
            ("512", None),
            ("1 MB", None),
            ("0 B", None),
            ("18446744073709551615 KiB", None),
        ] {
            assert_eq!(bytes(text), wanted.map(Bytes), "{text}");
        }
        assert_eq!((fuel("20 M"), fuel("7"), fuel("7 x")), (Some(Fuel(20_000_000)), Some(Fuel(7)), None));
        assert_eq!((time("30 s"), time("2 h"), time("30")), (Some(Millis(30_000)), Some(Millis(7_200_000)), None));
    }
}
