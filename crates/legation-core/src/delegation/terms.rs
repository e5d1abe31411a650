//! What a borrower asks of the manager: an enclave to hand calls to.

use serde::{Deserialize, Serialize};

use crate::{
    id::EnclaveId,
    rejection::Rejection,
    requirement::Requirement,
    statement::Diversity,
    swarm::SeatDemand,
    task::{DELEGATION_DEPTH_MAX, DEMAND_MAX, GPUS_MAX, REQUEST_LIFE_MAX},
    unit::MicroUsd,
};

/// Most enclaves that a borrower may rule out by name, and from which one may be to differ.
pub const EXCLUDED_MAX: usize = 64;

/// What an enclave that is lent may borrow in turn, in the words of its borrower: no more than the grant that it is given passes on.
/// The manager sees no such grant, and lets nobody borrow under a loan beyond this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InTurn {
    /// How many levels deep: 1 lets it borrow, and none of those that it borrows.
    pub depth: u32,
    /// What all loans under the loan may cost together, on every level, ended or not.
    pub budget: MicroUsd,
}

/// From whom an enclave is to differ, and in what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apart {
    /// In what; always also in enclave and chip.
    pub by: Diversity,
    /// From whom, ascending: those who are asked the same.
    pub from: Vec<EnclaveId>,
}

/// What a loan is to be like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoanTerms {
    /// What it sets aside; the time is for one call, at most.
    pub demand: SeatDemand,
    /// What the enclave must satisfy beside what the request, its fragment and the grants ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Requirement>,
    /// From whom it differs; with nothing here it may be one that is lent to the same borrower already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
    /// Enclaves that it must not be, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<EnclaveId>,
    /// Whether it is to be one that proves executions: calls that are to be proven need such a one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
    /// What it may borrow in turn; without this, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_turn: Option<InTurn>,
    /// How long, in seconds: no longer than the borrower's own promise lasts, whatever is asked here.
    pub seconds: u64,
}

impl LoanTerms {
    /// What terms must satisfy, whoever asks.
    ///
    /// # Errors
    /// `loan.demand`, `loan.time`, `loan.exclude`, `loan.apart`, `loan.in-turn`: the first rule they break.
    pub fn validate(&self) -> Result<(), Rejection> {
        let bad = |check: &str, claim: &str| Rejection::new(check, claim.to_owned());
        let SeatDemand { cpu, memory, gpus, time } = self.demand;
        let some = cpu.0 > 0 && memory.0 > 0 && time.0 > 0;
        if !some || cpu > DEMAND_MAX.0 || memory > DEMAND_MAX.1 || gpus.0 > GPUS_MAX {
            return Err(bad("loan.demand", "demand of the loan")
                .expected(format!("some compute, memory and time, at most {} and {}", DEMAND_MAX.0, DEMAND_MAX.1))
                .got(format!("{cpu}, {memory}, {} ms", time.0)));
        }
        let seconds = time.seconds_up()..=REQUEST_LIFE_MAX;
        if !seconds.contains(&self.seconds) {
            return Err(bad("loan.time", "seconds of the loan")
                .expected(format!("{} to {}: as long as one call at least", seconds.start(), seconds.end()))
                .got(self.seconds));
        }
        let from = self.apart.as_ref().map_or(&[][..], |apart| &apart.from);
        for (check, claim, named) in [
            ("loan.exclude", "enclaves that the loan rules out", self.exclude.as_slice()),
            ("loan.apart", "enclaves from which the loan differs", from),
        ] {
            if named.len() > EXCLUDED_MAX || !named.is_sorted_by(|a, b| a < b) {
                return Err(bad(check, claim)
                    .expected(format!("at most {EXCLUDED_MAX}, ascending, each once"))
                    .got(named.len()));
            }
        }
        if let Some(InTurn { depth, budget }) = self.in_turn
            && (!(1..=DELEGATION_DEPTH_MAX).contains(&depth) || budget == MicroUsd::ZERO)
        {
            return Err(bad("loan.in-turn", "what may be borrowed under the loan")
                .expected(format!("1 to {DELEGATION_DEPTH_MAX} levels, and some budget; or nothing at all"))
                .got(format!("{depth} levels, {budget}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        time::Millis,
        unit::{Bytes, Millicores, Milligpus},
    };

    #[test]
    fn terms_are_bounded() {
        let demand =
            SeatDemand { cpu: Millicores(100), memory: Bytes::mib(64), gpus: Milligpus(0), time: Millis(10_000) };
        let good = LoanTerms {
            demand,
            require: None,
            apart: None,
            exclude: Vec::new(),
            proven: false,
            in_turn: None,
            seconds: 10,
        };
        let in_turn = |depth, budget| Some(InTurn { depth, budget: MicroUsd(budget) });
        assert_eq!(good.validate(), Ok(()));
        let id = |n| EnclaveId::new(crate::digest::Digest::from_bytes([n; 32]));
        let apart = |from| Some(Apart { by: Diversity::Chip, from });
        for (check, terms) in [
            ("loan.demand", LoanTerms { demand: SeatDemand { cpu: Millicores(0), ..demand }, ..good.clone() }),
            ("loan.demand", LoanTerms { demand: SeatDemand { time: Millis(0), ..demand }, ..good.clone() }),
            ("loan.demand", LoanTerms { demand: SeatDemand { memory: Bytes(u64::MAX), ..demand }, ..good.clone() }),
            ("loan.time", LoanTerms { seconds: 9, ..good.clone() }),
            ("loan.time", LoanTerms { seconds: u64::MAX, ..good.clone() }),
            ("loan.exclude", LoanTerms { exclude: vec![id(2), id(1)], ..good.clone() }),
            ("loan.exclude", LoanTerms { exclude: (0..=64).map(id).collect(), ..good.clone() }),
            ("loan.apart", LoanTerms { apart: apart(vec![id(1), id(1)]), ..good.clone() }),
            ("loan.apart", LoanTerms { apart: apart((0..=64).map(id).collect()), ..good.clone() }),
            ("loan.in-turn", LoanTerms { in_turn: in_turn(0, 1), ..good.clone() }),
            ("loan.in-turn", LoanTerms { in_turn: in_turn(9, 1), ..good.clone() }),
            ("loan.in-turn", LoanTerms { in_turn: in_turn(1, 0), ..good.clone() }),
        ] {
            assert_eq!(terms.validate().unwrap_err().check, check, "{terms:?}");
        }
        let text = r#"{"demand":{"cpu":100,"memory":67108864,"time":10000},"seconds":10}"#;
        assert_eq!(serde_json::from_str::<LoanTerms>(text).unwrap(), good);
        assert!(!serde_json::to_string(&good).unwrap().contains("proven"));
        let proven = text.replace("\"seconds\"", "\"proven\":true,\"seconds\"");
        assert_eq!(serde_json::from_str::<LoanTerms>(&proven).unwrap(), LoanTerms { proven: true, ..good.clone() });
        let onward = text.replace("\"seconds\"", "\"in_turn\":{\"depth\":2,\"budget\":7},\"seconds\"");
        let onward = serde_json::from_str::<LoanTerms>(&onward).unwrap();
        assert_eq!((onward.validate(), onward), (Ok(()), LoanTerms { in_turn: in_turn(2, 7), ..good }));
    }
}
