//! Who the peer is: what it shows, what standing that gives it, and who decides.
//!
//! A judge is asked at the beginning of a channel, at every renewal, and again every second or so while the channel lives, so
//! that a lapse or a revocation ends the channel without anybody's doing. It must be quick, and it never touches the network.
//!
//! Checks of [`AnchoredJudge`], which denies by default:
//! 1. the role is one of those admitted here;
//! 2. the credential is of the kind that the role needs: a manager shows its appointment, an agent its passport, and an
//!    agent without a passport is an applicant where applicants are admitted;
//! 3. the statements are signed, and rest on one of the operators known here;
//! 4. the key they confirm is the key whose possession TLS proved;
//! 5. they hold now;
//! 6. nothing that it rests on is revoked, nor the enclave of that key.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use legation_core::{
    Digest, Envelope, PublicKey, Rejection, Signed, UnixTime,
    claims::Role,
    statement::{Appointment, Office, Passport},
};
use serde::{Deserialize, Serialize};

use crate::revocations::Revocations;

/// Most verdicts remembered by one judge: several for each channel that a manager may have, since every channel is judged again each
/// second, and with fewer than channels every look would check signatures anew.
pub const VERDICTS_MAX: usize = 32_768;
/// How far a peer's clock may be ahead, in seconds.
pub const CLOCK_SKEW_SECONDS: u64 = 60;

/// What a side shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Credential {
    /// Nothing yet: an agent that has still to attest.
    None,
    /// An operator's appointment.
    Appointment {
        /// The signed appointment.
        appointment: Envelope,
    },
    /// A verifier's passport with the verifier's appointment.
    Passport {
        /// The signed passport.
        passport: Envelope,
        /// The signed appointment of the passport's verifier.
        appointment: Envelope,
    },
}

impl Credential {
    /// SHA-256 over the kind and the digests of the envelopes: what a proof binds, and what verdicts are remembered by.
    pub fn digest(&self) -> Digest {
        match self {
            Self::None => Digest::of(&[0]),
            Self::Appointment { appointment } => Digest::of_parts(&[&[1], appointment.digest().as_bytes()]),
            Self::Passport { passport, appointment } => {
                Digest::of_parts(&[&[2], passport.digest().as_bytes(), appointment.digest().as_bytes()])
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Appointment { .. } => "an appointment",
            Self::Passport { .. } => "a passport",
        }
    }
}

/// What a peer was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Holds its key and nothing else. Only attestation may be spoken of with it.
    Applicant,
    /// Holds an office by an operator's appointment.
    Appointed(Arc<Signed<Appointment>>),
    /// Is an attested enclave.
    Attested(Arc<Signed<Passport>>),
}

impl Standing {
    /// The last second at which it holds; an applicant's has no date.
    pub fn valid_until(&self) -> Option<UnixTime> {
        match self {
            Self::Applicant => None,
            Self::Appointed(appointment) => Some(appointment.not_after),
            Self::Attested(passport) => Some(passport.expires),
        }
    }

    /// Whether the peer is more than an applicant.
    pub fn is_admitted(&self) -> bool {
        !matches!(self, Self::Applicant)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applicant => f.write_str("applicant"),
            Self::Appointed(appointment) => write!(f, "appointed until {}", appointment.not_after),
            Self::Attested(passport) => write!(f, "attested until {}", passport.expires),
        }
    }
}

/// Decides who may be at the other end.
pub trait Judge: Send + Sync {
    /// The standing at `now` of a peer that claims `role`, holds `key` and shows `credential`.
    ///
    /// # Errors
    /// The first check that refuses. The peer is told.
    fn judge(&self, role: Role, key: &PublicKey, credential: &Credential, now: UnixTime)
    -> Result<Standing, Rejection>;

    /// As [`Self::judge`], of a peer that is there already: asked every second or so, and whenever something is revoked.
    ///
    /// # Errors
    /// The first check that refuses. The channel ends.
    fn recheck(
        &self,
        role: Role,
        key: &PublicKey,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Standing, Rejection> {
        self.judge(role, key, credential, now)
    }

    /// What is revoked, for channels to watch; nothing for a judge that does not know.
    fn revocations(&self) -> Option<&Revocations> {
        None
    }
}

/// The judge that believes what rests on known operators.
pub struct AnchoredJudge {
    operators: Vec<PublicKey>,
    roles: Vec<Role>,
    applicants: bool,
    revocations: Option<Revocations>,
    verdicts: Mutex<HashMap<Digest, Verdict>>,
}

/// What a credential says, once its signatures were checked. Whether that holds now, for this peer, is checked every time.
#[derive(Clone)]
struct Verdict {
    standing: Standing,
    key: PublicKey,
    until: UnixTime,
}

impl AnchoredJudge {
    /// A judge that knows these operators and admits nobody.
    pub fn new(operators: Vec<PublicKey>) -> Self {
        Self {
            operators,
            roles: Vec::new(),
            applicants: false,
            revocations: None,
            verdicts: Mutex::new(HashMap::new()),
        }
    }

    /// Admits peers of this role.
    pub fn admit(mut self, role: Role) -> Self {
        self.roles.push(role);
        self
    }

    /// Admits agents that have still to attest.
    pub fn admit_applicants(mut self) -> Self {
        self.applicants = true;
        self
    }

    /// Believes nobody who rests on what is revoked.
    pub fn with_revocations(mut self, revocations: Revocations) -> Self {
        self.revocations = Some(revocations);
        self
    }

    /// Check 3, once for each credential.
    fn verdict(&self, credential: &Credential, now: UnixTime) -> Result<Option<Verdict>, Rejection> {
        let digest = match credential {
            Credential::None => return Ok(None),
            other => other.digest(),
        };
        if let Some(verdict) = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(Some(verdict.clone()));
        }
        let verdict = match credential {
            Credential::None => return Ok(None),
            Credential::Appointment { appointment } => self.appointed(appointment)?,
            Credential::Passport { passport, appointment } => self.attested(passport, appointment, now)?,
        };
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.retain(|_, v| now <= v.until);
        }
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.clear();
        }
        verdicts.insert(digest, verdict.clone());
        Ok(Some(verdict))
    }

    fn appointed(&self, envelope: &Envelope) -> Result<Verdict, Rejection> {
        let appointment = envelope.open::<Appointment>().map_err(|e| {
            Rejection::new("channel.appointment", "signature of the peer's appointment")
                .expected("an appointment signed by its operator")
                .got(e)
        })?;
        if !self.operators.contains(&appointment.operator) {
            return Err(Rejection::new("channel.operator", "operator behind the peer's appointment")
                .expected("one of the operators known here")
                .got(appointment.operator.id())
                .fix("if you trust this operator, add its key to the operators"));
        }
        if appointment.office != Office::Manager {
            return Err(Rejection::new("channel.office", "office of the peer")
                .expected("manager")
                .got(format!("{:?}", appointment.office).to_lowercase()));
        }
        let appointment = Arc::new(appointment);
        Ok(Verdict { key: appointment.key, until: appointment.not_after, standing: Standing::Appointed(appointment) })
    }

    fn attested(&self, passport: &Envelope, appointment: &Envelope, now: UnixTime) -> Result<Verdict, Rejection> {
        // A verifier's clock may be ahead of ours: its passport is then opened as of the second it was issued.
        let ahead = passport.peek::<Passport>().map_or(now, |p| p.issued);
        let at = if ahead.since(now) <= CLOCK_SKEW_SECONDS { now.max(ahead) } else { now };
        let passport = Arc::new(legation_attest::passport::open(passport, appointment, &self.operators, at)?);
        // `open` has checked the appointment: it ends the passport where it ends first.
        let verifier_until = appointment.peek::<Appointment>().map_or(passport.issued, |a| a.not_after);
        Ok(Verdict {
            key: passport.enclave,
            until: passport.expires.min(verifier_until),
            standing: Standing::Attested(passport),
        })
    }

    /// Checks 1 to 5.
    fn stands(
        &self,
        role: Role,
        key: &PublicKey,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Standing, Rejection> {
        if !self.roles.contains(&role) {
            let admitted: Vec<_> = self.roles.iter().map(ToString::to_string).collect();
            return Err(Rejection::new("channel.role", "role of the peer")
                .expected(admitted.join(" or "))
                .got(role)
                .fix("connect to the right address, or admit this role there"));
        }
        let needed = match (role, credential) {
            (Role::Manager, Credential::Appointment { .. }) | (Role::Agent, Credential::Passport { .. }) => None,
            (Role::Agent, Credential::None) if self.applicants => None,
            (Role::Manager, _) => Some("an appointment"),
            (Role::Agent, _) => Some("a passport"),
        };
        if let Some(needed) = needed {
            return Err(Rejection::new("channel.credential", format!("what the {role} shows"))
                .expected(needed)
                .got(credential.name()));
        }
        match self.verdict(credential, now)? {
            None => Ok(Standing::Applicant),
            Some(verdict) => holds(verdict, key, now),
        }
    }

    /// Check 6; `of` says why a passport may not be believed.
    fn unrevoked(
        &self,
        key: &PublicKey,
        standing: Standing,
        of: impl FnOnce(&Revocations, &Passport) -> Option<Rejection>,
    ) -> Result<Standing, Rejection> {
        let Some(revocations) = &self.revocations else { return Ok(standing) };
        let why = revocations.of_enclave(key).or_else(|| match &standing {
            Standing::Attested(passport) => of(revocations, passport),
            Standing::Applicant | Standing::Appointed(_) => None,
        });
        why.map_or(Ok(standing), Err)
    }
}

impl Judge for AnchoredJudge {
    fn judge(
        &self,
        role: Role,
        key: &PublicKey,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Standing, Rejection> {
        let standing = self.stands(role, key, credential, now)?;
        self.unrevoked(key, standing, |revocations, passport| revocations.of(passport))
    }

    fn recheck(
        &self,
        role: Role,
        key: &PublicKey,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Standing, Rejection> {
        let standing = self.stands(role, key, credential, now)?;
        self.unrevoked(key, standing, |revocations, passport| revocations.of_live(passport, now))
    }

    fn revocations(&self) -> Option<&Revocations> {
        self.revocations.as_ref()
    }
}

/// Checks 4 and 5.
fn holds(verdict: Verdict, key: &PublicKey, now: UnixTime) -> Result<Standing, Rejection> {
    if verdict.key != *key {
        return Err(Rejection::new("channel.key", "key that the credential confirms")
            .expected(format!("the key of the connection, {}", key.id()))
            .got(verdict.key.id())
            .fix("show a credential of your own"));
    }
    let from = match &verdict.standing {
        Standing::Applicant => now,
        Standing::Appointed(appointment) => appointment.not_before,
        Standing::Attested(passport) => passport.issued,
    };
    // A peer's clock may be ahead of ours; nobody gains by showing a credential too early.
    if now.plus(CLOCK_SKEW_SECONDS) < from || now > verdict.until {
        return Err(Rejection::new("channel.dates", "dates of the credential")
            .expected(format!("to cover {now}"))
            .got(format!("{from} to {}", verdict.until))
            .fix("renew it, or set the clock"));
    }
    Ok(verdict.standing)
}
