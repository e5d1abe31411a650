//! Passports: issued by a verifier that an operator appointed, opened by anybody who trusts the operator.
//!
//! [`open`] makes these checks, in this order:
//!
//! 1. `passport.operator`: the appointment is signed by the operator it names, who is one of the reader's.
//! 2. `passport.office`: it appoints a verifier.
//! 3. `passport.appointment-dates`: it holds at `now`, and held when the passport was issued.
//! 4. `passport.signature`: the passport names the appointed key as its verifier and is signed by it.
//! 5. `passport.prev`: the passport rests on this appointment and on nothing else.
//! 6. `passport.scope`: the verifier is appointed for machines of this kind.
//! 7. `passport.life`: it lives more than nothing and at most [`PASSPORT_SECONDS_MAX`].
//! 8. `passport.dates`: it holds at `now`.
//! 9. `passport.status`: its status is the worst of its vector and not contraindicated; a development enclave is not
//!    affirmed; anchor and kind of machine agree.

use legation_core::{
    Digest, Envelope, PublicKey, Rejection, Signed, Signer, UnixTime,
    claims::{Evidence, EvidenceJudge, Judged, Shelf},
    dsse,
    statement::{Appointment, Ear, Office, Passport, Tier},
};

use crate::appraisal::{self, Appraiser, PASSPORT_SECONDS_MAX};

/// What a verifier works with.
#[derive(Clone, Copy)]
pub struct Verifier<'a> {
    /// Its key.
    pub signer: &'a dyn Signer,
    /// The operator's appointment of that key.
    pub appointment: &'a Signed<Appointment>,
    /// What it judges evidence with.
    pub judge: &'a dyn EvidenceJudge,
    /// What it accepts.
    pub policy: &'a dyn Appraiser,
}

/// What a verifier does for one enclave: judges the evidence, holds its nonce against the one given out, appraises, and
/// issues a passport. That `nonce` is fresh and used once is the caller's to see to.
///
/// # Errors
/// `admit.nonce`, or the refusal of any step.
pub fn admit(
    verifier: &Verifier<'_>,
    evidence: &Evidence,
    shelf: &Shelf,
    nonce: &Digest,
    now: UnixTime,
) -> Result<Signed<Passport>, Rejection> {
    let judged = verifier.judge.judge(evidence, shelf, now)?;
    if judged.binding.nonce != *nonce {
        return Err(Rejection::new("admit.nonce", "nonce in the key binding")
            .expected(nonce)
            .got(judged.binding.nonce)
            .fix("ask for a nonce and make evidence over it: old evidence is not taken again"));
    }
    let (ear, seconds) = verifier.policy.appraise_for(&judged, now)?;
    // What rests on stale collateral ends with the grace, whatever the policy says.
    let left = judged.claims.stale_since.map(|since| since.plus(verifier.judge.grace_seconds()).since(now));
    let seconds = left.map_or(seconds, |left| left.min(seconds));
    issue(verifier.signer, verifier.appointment, &judged, evidence, ear, now, seconds)
}

/// Issues a passport for what was judged and appraised at `at`, for `seconds` or until the binding or the appointment
/// ends, whichever is first.
///
/// # Errors
/// `passport.verifier` when the key is not appointed to verify at `at`; `passport.life` when `seconds` is out of range
/// or nothing is left of them; `passport.status` when the appraisal is contraindicated.
pub fn issue(
    verifier: &dyn Signer,
    appointment: &Signed<Appointment>,
    judged: &Judged,
    evidence: &Evidence,
    ear: Ear,
    at: UnixTime,
    seconds: u64,
) -> Result<Signed<Passport>, Rejection> {
    let key = verifier.public_key();
    let appointed = appointment.key == key && appointment.office == Office::Verifier;
    if !appointed || at < appointment.not_before || appointment.not_after < at {
        return Err(Rejection::new("passport.verifier", "verifier's appointment")
            .expected(format!("key {} appointed as verifier at {at}", key.id()))
            .got(format!(
                "key {} as {:?} from {} to {}",
                appointment.key.id(),
                appointment.office,
                appointment.not_before,
                appointment.not_after
            ))
            .fix("have the operator appoint this key"));
    }
    let kind = judged.claims.tee.value;
    if !appointment.covers_kind(kind) {
        return Err(Rejection::new("passport.scope", "kinds of machines this verifier is trusted with")
            .expected(kind)
            .got("not among them")
            .fix("have this kind judged by a verifier that is appointed for it"));
    }
    if ear.status == Tier::Contraindicated {
        return Err(contraindicated(&ear));
    }
    let grace = ear.grace.as_ref().map_or(UnixTime(u64::MAX), |g| g.until);
    let expires = at.plus(seconds).min(judged.binding.not_after).min(appointment.not_after).min(grace);
    check_life(at, expires)?;
    if seconds > PASSPORT_SECONDS_MAX {
        return Err(life(seconds));
    }
    let passport = Passport {
        verifier: key,
        issued: at,
        expires,
        enclave: judged.binding.identity,
        sealing: judged.binding.sealing.clone(),
        ear,
        claims: judged.claims.clone(),
        configuration: judged.configuration.clone(),
        evidence: evidence.digest(),
        collateral: judged.collateral.clone(),
        prev: vec![appointment.digest()],
    };
    Ok(dsse::sign(passport, verifier))
}

/// Opens a passport as of `now`, trusting `operators` to appoint verifiers.
///
/// # Errors
/// The first check of the module's list that refuses.
pub fn open(
    passport: &Envelope,
    appointment: &Envelope,
    operators: &[PublicKey],
    now: UnixTime,
) -> Result<Signed<Passport>, Rejection> {
    let appointment = open_appointment(appointment, operators)?;
    in_office(&appointment, now)?;
    let passport = passport.open_by::<Passport>(&appointment.key).map_err(|e| signature(e.to_string()))?;
    stands(&passport, &appointment, now)?;
    Ok(passport)
}

/// The same of statements whose signatures were checked when they were read.
///
/// # Errors
/// As for [`open`].
pub fn check(
    passport: &Signed<Passport>,
    appointment: &Signed<Appointment>,
    operators: &[PublicKey],
    now: UnixTime,
) -> Result<(), Rejection> {
    if !operators.contains(&appointment.operator) {
        return Err(stranger(format!("key {}", appointment.operator.id())));
    }
    in_office(appointment, now)?;
    if passport.verifier != appointment.key {
        return Err(signature(format!("key {}", passport.verifier.id())));
    }
    stands(passport, appointment, now)
}

fn in_office(appointment: &Appointment, now: UnixTime) -> Result<(), Rejection> {
    if appointment.office != Office::Verifier {
        return Err(Rejection::new("passport.office", "office of the key that signed the passport")
            .expected("verifier")
            .got(format!("{:?}", appointment.office))
            .fix("have the operator appoint the key as a verifier"));
    }
    appointment_covers(appointment, now)
}

fn stands(passport: &Passport, appointment: &Signed<Appointment>, now: UnixTime) -> Result<(), Rejection> {
    if passport.prev != [appointment.digest()] {
        return Err(Rejection::new("passport.prev", "what the passport rests on")
            .expected(appointment.digest())
            .got(passport.prev.iter().map(Digest::to_string).collect::<Vec<_>>().join(", "))
            .fix("send the passport with the appointment it was issued under"));
    }
    if !appointment.covers_kind(passport.claims.tee.value) {
        return Err(Rejection::new("passport.scope", "kinds of machines the verifier is trusted with")
            .expected(passport.claims.tee.value)
            .got("not among them")
            .fix("have this kind judged by a verifier that is appointed for it"));
    }
    check_life(passport.issued, passport.expires)?;
    appointment_covers(appointment, passport.issued)?;
    if !passport.valid_at(now) {
        return Err(Rejection::new("passport.dates", "dates of the passport")
            .expected(format!("{} to {}", passport.issued, passport.expires))
            .got(now)
            .fix("renew the passport: attest again"));
    }
    check_status(passport)
}

fn stranger(got: String) -> Rejection {
    Rejection::new("passport.operator", "signature of the verifier's appointment")
        .expected("one of the trusted operators' keys")
        .got(got)
        .fix("name the operator's root in the anchor file")
}

fn open_appointment(envelope: &Envelope, operators: &[PublicKey]) -> Result<Signed<Appointment>, Rejection> {
    let appointment = envelope.open::<Appointment>().map_err(|e| stranger(e.to_string()))?;
    if operators.contains(&appointment.operator) {
        Ok(appointment)
    } else {
        Err(stranger(format!("key {}", appointment.operator.id())))
    }
}

fn appointment_covers(appointment: &Appointment, time: UnixTime) -> Result<(), Rejection> {
    if appointment.not_before <= time && time <= appointment.not_after {
        return Ok(());
    }
    Err(Rejection::new("passport.appointment-dates", "dates of the verifier's appointment")
        .expected(format!("{} to {}", appointment.not_before, appointment.not_after))
        .got(time)
        .fix("have the operator renew the appointment"))
}

fn signature(got: String) -> Rejection {
    Rejection::new("passport.signature", "signature of the passport")
        .expected("by the key the operator appointed as verifier")
        .got(got)
        .fix("ask an appointed verifier for a passport")
}

fn life(seconds: u64) -> Rejection {
    Rejection::new("passport.life", "life of the passport")
        .expected(format!("1 to {PASSPORT_SECONDS_MAX} seconds"))
        .got(format!("{seconds} seconds"))
        .fix("shorten `passport_seconds`, or renew the appointment or the key binding that ends too early")
}

fn check_life(issued: UnixTime, expires: UnixTime) -> Result<(), Rejection> {
    let seconds = expires.since(issued);
    if (1..=PASSPORT_SECONDS_MAX).contains(&seconds) { Ok(()) } else { Err(life(seconds)) }
}

fn contraindicated(ear: &Ear) -> Rejection {
    Rejection::new("passport.status", format!("appraisal by policy `{}`", ear.policy))
        .expected("affirming or warning")
        .got(format!("{:?}", ear.status))
        .fix("see the appraisal's vector for what was found")
}

fn check_status(passport: &Passport) -> Result<(), Rejection> {
    let (ear, claims) = (&passport.ear, &passport.claims);
    if ear.status == Tier::Contraindicated {
        return Err(contraindicated(ear));
    }
    let development = claims.anchor.is_development();
    let refuse = |claim: &str, expected: String, got: String| {
        Err(Rejection::new("passport.status", claim)
            .expected(expected)
            .got(got)
            .fix("the verifier contradicts itself: report it to its operator"))
    };
    let worst = appraisal::status(&ear.vector);
    if ear.status != worst {
        return refuse(
            "status of the passport",
            format!("{worst:?}, the worst of its vector"),
            format!("{:?}", ear.status),
        );
    }
    if development && ear.status == Tier::Affirming {
        return refuse("status of a development enclave", "Warning".to_owned(), format!("{:?}", ear.status));
    }
    if development != claims.tee.value.is_development() {
        return refuse("anchor of the passport", format!("one for {}", claims.tee.value), claims.anchor.to_string());
    }
    Ok(())
}
