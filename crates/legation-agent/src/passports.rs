//! The passports this boot holds, one of each verifier: which to show on a channel, which to name in a report, and when to
//! renew.
//!
//! 1. A verifier's newer passport replaces its older one, never the other way round.
//! 2. What is revoked is dropped, and not taken again.
//! 3. All is bounded: at most [`PASSPORTS_MAX`] verifiers; those that are over make room.

use std::{sync::Arc, time::Duration};

use legation_core::{
    Digest, KeyId, Rejection, Revoked, Signed, TenantId, UnixTime,
    statement::{Appointment, Passport},
};
use legation_net::Credential;

use crate::patience::{LIFE_MIN, renew_in};

/// Verifiers whose passports are held.
const PASSPORTS_MAX: usize = 16;
/// A passport of which this many hundredths are over should have been renewed.
const OVERDUE_PERCENT: u64 = 90;
/// Pause before a verifier that did not renew its passport is asked again, at least.
const AGAIN: Duration = Duration::from_secs(5);

/// What a verifier gave, and why it may be believed.
#[derive(Clone)]
pub(crate) struct Admitted {
    pub(crate) passport: Arc<Signed<Passport>>,
    pub(crate) appointment: Arc<Signed<Appointment>>,
}

impl Admitted {
    pub(crate) fn new(passport: Signed<Passport>, appointment: Signed<Appointment>) -> Self {
        Self { passport: Arc::new(passport), appointment: Arc::new(appointment) }
    }

    pub(crate) fn credential(&self) -> Credential {
        Credential::Passport {
            passport: self.passport.envelope().clone(),
            appointment: self.appointment.envelope().clone(),
        }
    }

    /// What names it on a channel.
    pub(crate) fn digest(&self) -> Digest {
        self.passport.digest()
    }

    fn verifier(&self) -> KeyId {
        self.passport.verifier_id()
    }

    fn is_overdue(&self, now: UnixTime) -> bool {
        let (age, life) = (now.since(self.passport.issued), self.passport.expires.since(self.passport.issued));
        age.saturating_mul(100) > life.saturating_mul(OVERDUE_PERCENT)
    }
}

/// A passport that should have been renewed and was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overdue {
    pub(crate) verifier: KeyId,
    pub(crate) issued: UnixTime,
    pub(crate) expires: UnixTime,
}

#[derive(Default)]
pub(crate) struct Passports {
    held: Vec<Admitted>,
    /// The newest passport there ever was: what a report names when all else is over.
    last: Option<Admitted>,
    /// Those whose delay was told, so that it is told once.
    told: Vec<Digest>,
}

impl Passports {
    /// Takes a passport, unless it is older than the one of its verifier; says whether it is new.
    pub(crate) fn take(&mut self, new: Admitted, now: UnixTime) -> bool {
        let same = self.held.iter().position(|h| h.verifier() == new.verifier());
        if same.and_then(|i| self.held.get(i)).is_some_and(|old| new.passport.issued < old.passport.issued) {
            return false;
        }
        if let Some(place) = same {
            self.held.remove(place);
        }
        self.held.retain(|h| now <= h.passport.expires);
        if self.held.len() >= PASSPORTS_MAX {
            return false;
        }
        self.told.retain(|told| self.held.iter().any(|h| h.digest() == *told));
        self.last = Some(new.clone());
        self.held.push(new);
        true
    }

    /// The one that lives longest, if it has life left: what to show.
    pub(crate) fn to_show(&self, now: UnixTime) -> Option<&Admitted> {
        let longest = self.longest()?;
        (now.plus(LIFE_MIN) < longest.passport.expires).then_some(longest)
    }

    /// The one that lives longest, whether or not much life is left.
    pub(crate) fn longest(&self) -> Option<&Admitted> {
        self.held.iter().max_by_key(|h| (h.passport.expires, h.passport.issued, h.verifier()))
    }

    /// The newest there was, whether or not it holds.
    pub(crate) fn last(&self) -> Option<&Admitted> {
        self.held.iter().max_by_key(|h| (h.passport.issued, h.passport.expires)).or(self.last.as_ref())
    }

    /// Those of verifiers that are trusted with the work of `tenant`, the freshest first.
    pub(crate) fn for_tenant(&self, tenant: &TenantId) -> Vec<Admitted> {
        let mut good: Vec<_> = self.held.iter().filter(|h| h.appointment.covers_tenant(tenant)).cloned().collect();
        good.sort_by_key(|h| std::cmp::Reverse((h.passport.issued, h.passport.expires, h.verifier())));
        good
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Drops what is revoked.
    pub(crate) fn heed(&mut self, revoked: &Revoked) {
        self.held.retain(|h| revoked.of(&h.passport).is_none());
        self.last.take_if(|l| revoked.of(&l.passport).is_some());
    }

    /// Drops all: a peer would not have them.
    pub(crate) fn forget(&mut self) {
        self.held.clear();
        self.last = None;
    }

    /// When to attest again: by the passport that needs it first. One that its verifier did not renew when it was due is
    /// tried again after a quarter of what is left of it, not at once: the others are fresh.
    pub(crate) fn renew_in(&self, now: UnixTime, random: u64) -> Duration {
        let fresh = self.held.iter().map(|h| h.passport.issued).max();
        let need = |h: &Admitted| {
            let due = renew_in(&h.passport, now, random);
            let left = Duration::from_secs(h.passport.expires.since(now) / 4);
            if due.is_zero() && fresh.is_some_and(|fresh| h.passport.issued < fresh) { left.max(AGAIN) } else { due }
        };
        self.held.iter().map(need).min().unwrap_or(AGAIN)
    }

    /// Passports whose renewal is overdue and was not told before.
    pub(crate) fn overdue(&mut self, now: UnixTime) -> Vec<Overdue> {
        let told = &self.told;
        let late: Vec<_> =
            self.held.iter().filter(|h| h.is_overdue(now) && !told.contains(&h.digest())).cloned().collect();
        self.told.extend(late.iter().map(Admitted::digest));
        let say =
            |h: &Admitted| Overdue { verifier: h.verifier(), issued: h.passport.issued, expires: h.passport.expires };
        late.iter().map(say).collect()
    }

    /// How long until the next of them is overdue.
    pub(crate) fn overdue_in(&self, now: UnixTime) -> Option<Duration> {
        let next = self.held.iter().filter(|h| !self.told.contains(&h.digest())).map(|h| {
            let life = h.passport.expires.since(h.passport.issued);
            let at = h.passport.issued.plus(life.saturating_mul(OVERDUE_PERCENT) / 100).plus(1);
            Duration::from_secs(at.since(now))
        });
        next.min()
    }
}

/// No passport is good for the work of a tenant.
pub(crate) fn none_for(tenant: &TenantId) -> Rejection {
    Rejection::new("offer.verifier", "passports of this enclave")
        .expected(format!("one of a verifier that is trusted with the work of {tenant}"))
        .got("none")
        .fix("have a verifier judge this enclave that is appointed for this tenant")
}

#[cfg(test)]
mod tests {
    use legation_core::{
        Revocable, Revocation, RevocationEpoch, SealingPublicKey, Signer,
        claims::{Anchor, Attested, Claims, Configuration, Tcb, TeeKind},
        dsse,
        statement::{Ear, Office, Scope, Tier},
    };
    use legation_keys::IdentityKey;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn admitted(verifier: u8, tenants: Option<&[&str]>, issued: u64, life: u64) -> Admitted {
        let (operator, key) = (IdentityKey::from_seed([99; 32]), IdentityKey::from_seed([verifier; 32]));
        let enclave = IdentityKey::from_seed([50; 32]).public_key();
        let tenants = tenants.map(|names| names.iter().map(|n| TenantId::new(n).unwrap()).collect());
        let appointment = Appointment {
            operator: operator.public_key(),
            key: key.public_key(),
            office: Office::Verifier,
            scope: Some(Scope { tenants, kinds: None }),
            not_before: NOW.minus(1000),
            not_after: NOW.plus(100_000),
        };
        let text = |t: &str| Attested::hardware(t.to_owned());
        let tcb = Attested::hardware(Tcb::unknown("1"));
        let anchor = Anchor::Development("test".into());
        let claims =
            Claims::basic(TeeKind::DevSnp, anchor, "00".into(), text("chip"), tcb, text("milan"), String::new());
        let issued = NOW.plus(issued);
        let passport = Passport {
            verifier: key.public_key(),
            issued,
            expires: issued.plus(life),
            enclave,
            sealing: SealingPublicKey::from_bytes([7; SealingPublicKey::LEN]),
            ear: Ear {
                status: Tier::Warning,
                vector: std::collections::BTreeMap::new(),
                policy: "test".into(),
                policy_digest: Digest::of(b"test"),
                tcb: Tcb::unknown("1"),
                images: Vec::new(),
                grace: None,
            },
            claims,
            configuration: Configuration {
                provider: "alder".parse().unwrap(),
                region: "eu".parse().unwrap(),
                capacity: legation_core::claims::Capacity {
                    cpu: legation_core::Millicores(1),
                    memory: legation_core::Bytes::mib(1),
                    slots: 1,
                },
                rate: legation_core::claims::Rate {
                    core_hour: legation_core::MicroUsd(1),
                    gib_hour: legation_core::MicroUsd(1),
                },
                slot: 0,
                operators: Vec::new(),
                advertise: None,
                prover: None,
                custody: None,
            },
            evidence: Digest::of(b"evidence"),
            collateral: Vec::new(),
            prev: Vec::new(),
        };
        Admitted::new(dsse::sign(passport, &key), dsse::sign(appointment, &operator))
    }

    fn verifiers(list: &[Admitted]) -> Vec<KeyId> {
        list.iter().map(Admitted::verifier).collect()
    }

    #[test]
    fn the_longest_is_shown_and_the_freshest_that_counts_is_named() {
        let (wide, narrow) = (admitted(1, None, 0, 100), admitted(2, Some(&["bank"]), 10, 50));
        let mut passports = Passports::default();
        assert!(passports.take(wide.clone(), NOW) && passports.take(narrow.clone(), NOW));
        assert_eq!(passports.to_show(NOW).map(Admitted::digest), Some(wide.digest()));
        let of = |tenant: &str| verifiers(&passports.for_tenant(&TenantId::new(tenant).unwrap()));
        assert_eq!(of("acme"), [wide.verifier()]);
        assert_eq!(of("bank"), [narrow.verifier(), wide.verifier()]);
        assert!(passports.to_show(NOW.plus(96)).is_none(), "too little life is left to show it");
        assert_eq!(passports.longest().map(Admitted::digest), Some(wide.digest()));
    }

    #[test]
    fn a_verifiers_newer_passport_replaces_its_older_one_and_never_the_other_way_round() {
        let mut passports = Passports::default();
        let (old, new) = (admitted(1, None, 0, 100), admitted(1, None, 5, 100));
        assert!(passports.take(new.clone(), NOW));
        assert!(!passports.take(old, NOW));
        assert_eq!(passports.to_show(NOW).map(Admitted::digest), Some(new.digest()));
        for verifier in 2..=16 {
            assert!(passports.take(admitted(verifier, None, 0, 100), NOW));
        }
        assert!(!passports.take(admitted(17, None, 0, 100), NOW), "so many and no more");
        assert!(passports.take(admitted(17, None, 200, 100), NOW.plus(200)), "those that are over make room");
    }

    #[test]
    fn what_is_revoked_is_dropped() {
        let (one, other) = (admitted(1, None, 0, 100), admitted(2, None, 0, 50));
        let mut passports = Passports::default();
        passports.take(one.clone(), NOW);
        passports.take(other.clone(), NOW);
        let revoke = |what| Revocation { what, epoch: RevocationEpoch(1), at: NOW, why: String::new() };
        passports.heed(&[revoke(Revocable::Verifier(one.verifier()))].into_iter().collect());
        assert_eq!(passports.to_show(NOW).map(Admitted::digest), Some(other.digest()));
        passports.heed(&[revoke(Revocable::Chip("chip".into()))].into_iter().collect());
        assert!(passports.is_empty() && passports.last().is_none());
    }

    #[test]
    fn a_verifier_that_does_not_renew_is_asked_again_but_not_at_once() {
        let mut passports = Passports::default();
        passports.take(admitted(1, None, 0, 100), NOW);
        assert_eq!(passports.renew_in(NOW, 0).as_secs(), 60);
        passports.take(admitted(2, None, 0, 1000), NOW);
        assert_eq!(passports.renew_in(NOW, 0).as_secs(), 60, "by the one that needs it first");
        // The second renews, the first does not.
        passports.take(admitted(2, None, 70, 1000), NOW.plus(70));
        assert_eq!(passports.renew_in(NOW.plus(70), 0).as_secs(), 7, "a quarter of what is left");
        assert_eq!(passports.renew_in(NOW.plus(96), 0), AGAIN);
        // Once it is over it is no longer held, and the other's time counts.
        passports.take(admitted(2, None, 101, 1000), NOW.plus(101));
        assert_eq!(passports.renew_in(NOW.plus(101), 0).as_secs(), 600);
    }

    #[test]
    fn a_delay_is_told_once() {
        let mut passports = Passports::default();
        passports.take(admitted(1, None, 0, 100), NOW);
        assert_eq!(passports.overdue_in(NOW), Some(Duration::from_secs(91)));
        assert!(passports.overdue(NOW.plus(90)).is_empty());
        let late = passports.overdue(NOW.plus(91));
        assert_eq!((late.len(), late[0].expires), (1, NOW.plus(100)));
        assert!(passports.overdue(NOW.plus(92)).is_empty());
        assert_eq!(passports.overdue_in(NOW.plus(92)), None);
    }
}
