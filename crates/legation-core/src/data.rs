//! What a request says of its data, held against enclaves: obeyed by whoever places, runs or verifies, with or without a
//! policy.
//!
//! 1. `data.residency`: the enclave's region, by its configuration and by whoever attests it, is one that the data may be in.
//! 2. `data.sensitivity`: restricted data goes only where memory is hidden from the host, nobody may debug, and no dated
//!    exception was needed to let the machine in.
//!
//! A request whose requirements leave none of its regions of residence is refused as it is made (`request.residency`).

use crate::{
    prefer::{DataTerms, Sensitivity},
    rejection::Rejection,
    requirement::Requirement,
    statement::{Passport, Request},
};

impl DataTerms {
    /// Whether they keep the data from any enclave at all.
    pub fn restrict(&self) -> bool {
        !self.residency.is_empty() || self.sensitivity == Sensitivity::Restricted
    }

    /// Whether the data may be in the enclave of this passport.
    ///
    /// # Errors
    /// `data.residency` or `data.sensitivity`.
    pub fn check(&self, passport: &Passport) -> Result<(), Rejection> {
        let (claims, configuration) = (&passport.claims, &passport.configuration);
        let regions = || [Some(&configuration.region), claims.region.as_ref().map(|r| &r.value)].into_iter().flatten();
        if !self.residency.is_empty()
            && let Some(other) = regions().find(|region| !self.residency.contains(*region))
        {
            let names: Vec<_> = self.residency.iter().map(ToString::to_string).collect();
            return Err(Rejection::new("data.residency", "region of the enclave")
                .expected(format!("one that the data may be in: {}", names.join(", ")))
                .got(other)
                .fix("wait for an enclave there, or let the data be elsewhere"));
        }
        if self.sensitivity < Sensitivity::Restricted {
            return Ok(());
        }
        let got = if !claims.confidential.value {
            "one whose host may read its memory"
        } else if claims.debug.value {
            "one that its host may debug"
        } else if passport.ear.grace.is_some() {
            "one that a dated exception let in"
        } else {
            return Ok(());
        };
        Err(Rejection::new("data.sensitivity", "enclave for restricted data")
            .expected("one that hides its memory, cannot be debugged and needed no exception")
            .got(got)
            .fix("wait for such an enclave"))
    }

    /// Whether an enclave can be in a region of residence and satisfy these requirements, as far as regions go.
    fn fit(&self, requirement: &Requirement) -> Result<(), Rejection> {
        if self.residency.is_empty() || self.residency.iter().any(|region| requirement.allows_region(region)) {
            return Ok(());
        }
        let names: Vec<_> = self.residency.iter().map(ToString::to_string).collect();
        Err(Rejection::new("request.residency", "requirement and regions of residence")
            .expected(format!("a requirement that leaves one of {}", names.join(", ")))
            .got(requirement.source())
            .fix("name the same regions in both"))
    }
}

impl Request {
    /// Requirements and regions of residence do not exclude each other.
    pub(crate) fn check_residency(&self) -> Result<(), Rejection> {
        self.data.fit(&self.require)?;
        self.fragments.iter().try_for_each(|fragment| self.data.fit(&fragment.require))
    }
}
