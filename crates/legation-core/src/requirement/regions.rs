//! Which regions a requirement leaves, whatever else is so: an expression of which only the region is known.

use super::{Attribute, Expression, Operator, Requirement, Term, Value};
use crate::id::Region;

/// Whether an expression can hold, and whether it can fail.
#[derive(Clone, Copy)]
struct Can {
    hold: bool,
    fail: bool,
}

impl Requirement {
    /// Whether an enclave in `region` can satisfy it, as far as its region goes.
    pub fn allows_region(&self, region: &Region) -> bool {
        can(&self.expression, &Value::Name(region.to_string())).hold
    }
}

fn can(expression: &Expression, region: &Value) -> Can {
    let known = |holds: bool| Can { hold: holds, fail: !holds };
    match expression {
        Expression::Any => known(true),
        Expression::Not(inner, _) => {
            let Can { hold, fail } = can(inner, region);
            Can { hold: fail, fail: hold }
        }
        Expression::And(parts) => parts
            .iter()
            .map(|part| can(part, region))
            .fold(known(true), |all, one| Can { hold: all.hold && one.hold, fail: all.fail || one.fail }),
        Expression::Or(parts, _) => parts
            .iter()
            .map(|part| can(part, region))
            .fold(known(false), |all, one| Can { hold: all.hold || one.hold, fail: all.fail && one.fail }),
        Expression::Compare(Term::Value(Attribute::Region), operator, value, _) => known(operator.holds(region, value)),
        Expression::In(Term::Value(Attribute::Region), values, _) => {
            known(values.iter().any(|value| Operator::Equal.holds(region, value)))
        }
        Expression::Compare(..) | Expression::In(..) => Can { hold: true, fail: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_left_or_excluded_whatever_else_is_so() {
        let region = Region::new("eu-1").unwrap();
        for (source, left) in [
            ("any", true),
            ("region == \"eu-1\"", true),
            ("region == \"us-1\"", false),
            ("region in [us-1, eu-1] and price < 0.01 usd/h", true),
            ("region in [us-1, us-2] and price < 0.01 usd/h", false),
            ("not region == \"eu-1\"", false),
            ("region != \"eu-1\" or tee == sev-snp", true),
            ("not (region == \"eu-1\" or tee == sev-snp)", false),
            ("not (region == \"eu-1\" and tee == sev-snp)", true),
        ] {
            assert_eq!(Requirement::parse(source).unwrap().allows_region(&region), left, "{source}");
        }
    }
}
