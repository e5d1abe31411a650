//! What an agent attests to, and whether the passport it gets is worth showing: pure checks.
//!
//! Checks on a passport, which is the manager's word until they pass:
//! 1. what a peer will check ([`legation_attest::passport::open`]), as of now or, where the verifier's clock is a little ahead, as
//!    of its issue;
//! 2. it confirms this boot's keys and the configuration that was measured.
//!
//! Checks on a verifier's word on an attestation key, which this agent would hand on in its evidence:
//! 1. an operator of this agent appointed the verifier, and that holds now;
//! 2. the verifier signed it and rests it on that appointment;
//! 3. it is not over.

use legation_core::{
    Digest, PublicKey, Rejection, SealingPublicKey, Signed, UnixTime,
    claims::{Configuration, KeyBinding, Role},
    statement::{Appointment, KeyAttestation, Office, Passport},
};

use crate::offer::SKEW;

/// How long the keys of one boot may be used, in seconds. Each attestation binds them anew, so this bounds one binding, not a boot.
pub(crate) const BINDING_LIFE: u64 = 86_400;

/// Who this boot is.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    pub(crate) identity: PublicKey,
    pub(crate) sealing: SealingPublicKey,
    pub(crate) configuration: Configuration,
    /// The configuration in the bytes that are measured.
    pub(crate) encoded: Vec<u8>,
}

impl Boot {
    pub(crate) fn new(identity: PublicKey, sealing: SealingPublicKey, configuration: Configuration) -> Self {
        let encoded = configuration.encode();
        Self { identity, sealing, configuration, encoded }
    }

    /// What the evidence binds.
    pub(crate) fn binding(&self, image: Digest, nonce: Digest, now: UnixTime) -> KeyBinding {
        KeyBinding {
            role: Role::Agent,
            identity: self.identity,
            sealing: self.sealing.clone(),
            image,
            configuration: Digest::of(&self.encoded),
            not_before: now.minus(SKEW),
            not_after: now.plus(BINDING_LIFE),
            nonce,
        }
    }

    /// The checks of this module.
    pub(crate) fn check(
        &self,
        passport: &Signed<Passport>,
        appointment: &Signed<Appointment>,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("passport.own", claim.to_owned());
        let at = if passport.issued <= now.plus(SKEW) { now.max(passport.issued) } else { now };
        legation_attest::passport::open(
            passport.envelope(),
            appointment.envelope(),
            &self.configuration.operators,
            at,
        )?;
        if passport.enclave != self.identity || passport.sealing != self.sealing {
            return Err(bad("keys in the passport")
                .expected(format!("those of this boot, {}", self.identity.id()))
                .got(passport.enclave.id()));
        }
        if passport.configuration != self.configuration {
            return Err(bad("configuration in the passport").expected("the one that was measured").got("another"));
        }
        Ok(())
    }
}

/// The checks of this module on a verifier's word on an attestation key.
pub(crate) fn check_key(
    statement: &Signed<KeyAttestation>,
    appointment: &Signed<Appointment>,
    operators: &[PublicKey],
    now: UnixTime,
) -> Result<(), Rejection> {
    let bad = |claim: &str| Rejection::new("agent.key-attestation", claim.to_owned());
    let fix = "have the operator of this agent appoint the manager's verifier";
    if !operators.contains(&appointment.operator) || appointment.office != Office::Verifier {
        return Err(bad("appointment of the verifier")
            .expected("of a verifier, by an operator of this agent")
            .got(format!("of a {:?}, by {}", appointment.office, appointment.operator.id()))
            .fix(fix));
    }
    if now < appointment.not_before || appointment.not_after < now {
        return Err(bad("dates of the verifier's appointment")
            .expected(format!("around {now}"))
            .got(format!("{} to {}", appointment.not_before, appointment.not_after))
            .fix(fix));
    }
    if statement.verifier != appointment.key || statement.prev != [appointment.digest()] {
        return Err(bad("signer of the word on the attestation key")
            .expected(format!("the appointed verifier {}, resting on its appointment", appointment.key.id()))
            .got(statement.verifier.id())
            .fix("run manager and verifier of one deployment"));
    }
    if statement.expires <= now || now.plus(SKEW) < statement.issued {
        return Err(bad("dates of the word on the attestation key")
            .expected(format!("around {now}"))
            .got(format!("{} to {}", statement.issued, statement.expires))
            .fix("set the clocks of agent and verifier"));
    }
    Ok(())
}
