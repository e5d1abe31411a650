//! Charters: what an operator asks of every committee of a swarm key. Signed rarely, so that the root may stay offline while committees change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{call::Called, terms::Threshold, words::Chair};
use crate::{
    digest::Digest,
    dsse::{Predicate, Signed, Subject},
    id::{EnclaveId, SwarmName},
    key::PublicKey,
    rejection::Rejection,
    requirement::{Candidate, Requirement},
    statement::{Passport, Tier},
    time::UnixTime,
    unit::MicroUsd,
};

/// Shortest time between two committees, in seconds.
pub const EPOCH_SECONDS_MIN: u64 = 60;
/// Longest time between two committees, in seconds.
pub const EPOCH_SECONDS_MAX: u64 = 366 * 86_400;

/// The rules for the committees of one swarm key. A later charter rests on the one before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charter {
    /// The root that signs this.
    pub operator: PublicKey,
    /// Which swarm key.
    pub swarm: SwarmName,
    /// Counts the charters of this swarm key, from 1.
    pub number: u32,
    /// How many hold the key, how many open.
    pub threshold: Threshold,
    /// What every member must satisfy.
    pub require: Requirement,
    /// Most members with one provider.
    pub per_provider_max: u16,
    /// A committee is followed by another after so long, in seconds.
    pub epoch_seconds: u64,
    /// No committee is called after.
    pub not_after: UnixTime,
    /// The charter before, if any.
    pub prev: Vec<Digest>,
}

impl Charter {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.charter` or `custody.providers`: the first rule it breaks.
    pub fn validate(&self) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("custody.charter", claim);
        if self.number == 0 {
            return Err(bad("number of the charter").expected("1 or more").got(0));
        }
        if self.prev.len() != usize::from(self.number > 1) {
            return Err(bad("what the charter rests on")
                .expected(if self.number > 1 { "the charter before" } else { "nothing: it is the first" })
                .got(format!("{} statements", self.prev.len())));
        }
        if !(EPOCH_SECONDS_MIN..=EPOCH_SECONDS_MAX).contains(&self.epoch_seconds) {
            return Err(bad("time between two committees")
                .expected(format!("{EPOCH_SECONDS_MIN} to {EPOCH_SECONDS_MAX} seconds"))
                .got(self.epoch_seconds));
        }
        self.threshold.check_providers(self.per_provider_max)
    }

    /// Whether it may take the place of `before`. Whether its operator may speak for the swarm key is for the caller, each time: it may be
    /// another than the one before, as after a change of roots.
    ///
    /// # Errors
    /// `custody.charter`.
    pub fn check_follows(&self, before: &Signed<Self>) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("custody.charter", claim);
        if self.swarm != before.swarm {
            return Err(bad("swarm key of the charter").expected(&before.swarm).got(&self.swarm));
        }
        if self.number <= before.number {
            return Err(bad("number of the charter")
                .expected(format!("more than {}", before.number))
                .got(self.number)
                .fix("sign a charter with a higher number"));
        }
        if self.prev != [before.digest()] {
            return Err(bad("charter before this one").expected(before.digest()).got(shown(&self.prev)));
        }
        Ok(())
    }

    /// Whether these may be the members: as many as there must be, each once, ascending, and not too many with one provider.
    ///
    /// # Errors
    /// `custody.members` or `custody.providers`.
    pub fn check_members(&self, members: &[Called]) -> Result<(), Rejection> {
        if members.len() != usize::from(self.threshold.members()) {
            return Err(Rejection::new("custody.members", "members of the committee")
                .expected(format!("{}, by the charter", self.threshold.members()))
                .got(members.len()));
        }
        if !members.is_sorted_by(|a, b| a.enclave < b.enclave) {
            return Err(Rejection::new("custody.members", "members of the committee").expected("each once, ascending"));
        }
        let mut with: BTreeMap<_, u16> = BTreeMap::new();
        for member in members {
            let count = with.entry(&member.provider).or_default();
            *count += 1;
            if *count > self.per_provider_max {
                return Err(Rejection::new("custody.providers", "members with one provider")
                    .expected(format!("{} at most", self.per_provider_max))
                    .got(format!("more with `{}`", member.provider))
                    .fix("call members of other providers"));
            }
        }
        Ok(())
    }

    /// Whether who took this chair is who was called, by this passport, and may be a member.
    ///
    /// # Errors
    /// `custody.passport`: the passport is not the chair's; `custody.provider`: its machine is not whose the call says; and as
    /// [`Self::check_enclave`].
    pub fn check_chair(
        &self,
        chair: &Chair,
        called: &Called,
        (passport, price_hour): (&Signed<Passport>, MicroUsd),
        at: UnixTime,
    ) -> Result<(), Rejection> {
        let same = (chair.passport, chair.enclave) == (passport.digest(), passport.enclave);
        if !same || called.enclave != passport.enclave_id() {
            return Err(Rejection::new("custody.passport", "passport of a chair")
                .expected("that of the enclave that was called, and that the chair names")
                .got(format!("that of {}", passport.enclave_id().short())));
        }
        let provider = &passport.configuration.provider;
        if called.provider != *provider {
            return Err(Rejection::new("custody.provider", "provider of a member")
                .expected(&called.provider)
                .got(provider)
                .fix("call it as whose it is: the charter bounds how many are with one provider"));
        }
        self.check_enclave(&Candidate { passport, price_hour }, at)
    }

    /// Whether the enclave of a passport may be a member, as far as its passport says. That the passport's verifier is appointed, that
    /// nothing was revoked, and that the evidence bears the passport out is for the caller.
    ///
    /// # Errors
    /// `custody.passport`, or the part of the requirement that is not met.
    pub fn check_enclave(&self, candidate: &Candidate<'_>, at: UnixTime) -> Result<(), Rejection> {
        let passport = candidate.passport;
        let bad = |got: String| {
            Rejection::new("custody.passport", "passport of a member")
                .expected("one that holds, of an enclave that nobody may look into")
                .got(got)
                .fix("let the enclave attest again")
        };
        if !passport.valid_at(at) {
            return Err(bad(format!("one from {} to {}", passport.issued, passport.expires)));
        }
        if passport.ear.status == Tier::Contraindicated {
            return Err(bad("one that says not to trust it".to_owned()));
        }
        if passport.claims.debug.value {
            return Err(bad("one of an enclave that its owner may look into".to_owned()));
        }
        self.require.check(candidate)
    }
}

/// Whether no two of these are on one chip: whoever has the chip would have both.
///
/// # Errors
/// `custody.chip`.
pub fn check_chips<'a>(passports: impl IntoIterator<Item = &'a Passport>) -> Result<(), Rejection> {
    let mut on: BTreeMap<&str, EnclaveId> = BTreeMap::new();
    for passport in passports {
        let enclave = passport.enclave_id();
        if let Some(other) = on.insert(&passport.claims.chip.value, enclave).filter(|other| *other != enclave) {
            return Err(Rejection::new("custody.chip", "chips of a committee")
                .expected("one of its own for each member")
                .got(format!("one for {} and {}", other.short(), enclave.short()))
                .fix("call one of them"));
        }
    }
    Ok(())
}

/// Digests for people, as many as there may be.
fn shown(prev: &[Digest]) -> String {
    match prev {
        [] => "none".to_owned(),
        [one] => one.to_string(),
        more => format!("{} of them", more.len()),
    }
}

impl Predicate for Charter {
    const TYPE: &'static str = "https://legation.dev/charter/v1";

    fn signer(&self) -> PublicKey {
        self.operator
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("swarm", Digest::of(self.swarm.as_str().as_bytes()))]
    }
}
