//! Revocation: what is no longer trusted, since which epoch, and why.
//!
//! One command makes one journal record with one epoch. The manager signs the whole list anew at each epoch
//! ([`RevocationList`]) and pushes it to every agent; a reader of receipts may be given it as a file. A list only grows:
//! what was revoked is not trusted again under the same name.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    dsse::{Envelope, Predicate, Signed, Subject},
    encoding,
    id::{EnclaveId, KeyId, ProviderId, RevocationEpoch},
    key::PublicKey,
    rejection::Rejection,
    statement::{Appointment, Grant, Office, Passport},
    time::UnixTime,
};

/// Most entries of a list.
pub const REVOCATIONS_MAX: usize = 65_536;
/// Longest reason, in bytes.
pub const REASON_MAX: usize = 512;
/// Longest name of what is revoked, in bytes.
pub const NAME_MAX: usize = 256;
/// Most bytes that all entries of a list may weigh by [`Revocation::weight`]: a list travels in one control message.
pub const WEIGHT_MAX: usize = 640 * 1024;
/// Shortest identity of a chip, in bytes: AMD's Turin has as many.
const CHIP_MIN: usize = 1;
/// As long as the name of a key.
const KEY_NAME: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is revoked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Revocable {
    /// One boot of an enclave.
    Enclave(EnclaveId),
    /// A chip, by its identity in the claims: every enclave on it, now and later.
    Chip(String),
    /// An image, by its measurement: every enclave that runs it.
    Measurement(String),
    /// An owner of machines.
    Provider(ProviderId),
    /// A verifier's key: every passport it signed, and every one that rests on its word on an attestation key.
    Verifier(KeyId),
    /// A root, by the name in the claims, such as `amd-milan`: everything that rests on it, also through a GPU.
    Anchor(String),
    /// A grant, by the digest of its envelope: it, and every grant that passes it on.
    Grant(Digest),
}

impl Revocable {
    /// What kind of thing it is, as the command line calls it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Enclave(_) => "enclave",
            Self::Chip(_) => "chip",
            Self::Measurement(_) => "measurement",
            Self::Provider(_) => "provider",
            Self::Verifier(_) => "verifier",
            Self::Anchor(_) => "anchor",
            Self::Grant(_) => "grant",
        }
    }

    /// Whether `passport` rests on it: none rests on a grant.
    pub fn covers(&self, passport: &Passport) -> bool {
        let claims = &passport.claims;
        match self {
            Self::Enclave(id) => passport.enclave_id() == *id,
            Self::Chip(chip) => claims.chip.value == *chip || claims.gpus.iter().any(|gpu| gpu.value.chip == *chip),
            Self::Measurement(measurement) => claims.measurement.value == *measurement,
            Self::Provider(provider) => passport.configuration.provider == *provider,
            Self::Verifier(key) => passport.verifier_id() == *key || claims.vouched == Some(*key),
            Self::Anchor(name) => {
                claims.anchor.name() == name || claims.gpus.iter().any(|gpu| gpu.value.anchor == *name)
            }
            Self::Grant(_) => false,
        }
    }
}

impl fmt::Display for Revocable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Enclave(id) => write!(f, "{kind} {}", id.short()),
            Self::Verifier(id) => write!(f, "{kind} {}", id.short()),
            Self::Grant(digest) => write!(f, "{kind} {}", digest.short()),
            Self::Provider(name) => write!(f, "{kind} {name}"),
            Self::Chip(name) | Self::Measurement(name) | Self::Anchor(name) => {
                let end = name.char_indices().nth(16).map_or(name.len(), |(i, _)| i);
                write!(f, "{kind} {}", name[..end].escape_debug())
            }
        }
    }
}

impl Revocable {
    /// What is of `kind`, as the command line calls it, and has this name.
    ///
    /// # Errors
    /// `revocation.name`: no such kind, or no name of that kind.
    pub fn named(kind: &str, name: &str) -> Result<Self, Rejection> {
        let bad = |expected: &str| {
            let got: String = name.chars().take(80).flat_map(char::escape_debug).collect();
            Rejection::new("revocation.name", format!("what is revoked, of kind `{}`", kind.escape_debug()))
                .expected(expected)
                .got(got)
                .fix("see `legation enclave show` for the names of an enclave, its chip, measurement, anchor and verifiers")
        };
        // What is in no claim in this form revokes nothing, and would seem to.
        let digits = |fits: fn(usize) -> bool, expected: &str| {
            let bytes = encoding::unhex(name).map(|bytes| bytes.len());
            if bytes.is_ok_and(fits) && name.len() <= NAME_MAX { Ok(name.to_owned()) } else { Err(bad(expected)) }
        };
        match kind {
            "enclave" => name.parse().map(Self::Enclave).map_err(|_| bad("64 lower-case hexadecimal digits")),
            "verifier" => name.parse().map(Self::Verifier).map_err(|_| bad("64 lower-case hexadecimal digits")),
            "grant" => name.parse().map(Self::Grant).map_err(|_| bad("64 lower-case hexadecimal digits")),
            "provider" => ProviderId::new(name).map(Self::Provider).map_err(|_| bad("the name of a provider")),
            "chip" => {
                digits(|n| n >= CHIP_MIN, "2 or more lower-case hexadecimal digits, an even number").map(Self::Chip)
            }
            "measurement" => digits(|n| matches!(n, 32 | 48 | 64), "64, 96 or 128 lower-case hexadecimal digits")
                .map(Self::Measurement),
            // The rule for names of roots is the one for providers.
            "anchor" => ProviderId::new(anchor(name))
                .map(|name| Self::Anchor(name.to_string()))
                .map_err(|_| bad("the name of a root, such as `amd-milan`")),
            _ => Err(bad("one of enclave, chip, measurement, provider, verifier, anchor, grant")),
        }
    }

    /// Everything that, if it were revoked, would cover `passport`.
    fn all_behind(passport: &Passport) -> impl Iterator<Item = Self> + '_ {
        let claims = &passport.claims;
        let own = [
            Self::Enclave(passport.enclave_id()),
            Self::Chip(claims.chip.value.clone()),
            Self::Measurement(claims.measurement.value.clone()),
            Self::Provider(passport.configuration.provider.clone()),
            Self::Verifier(passport.verifier_id()),
            Self::Anchor(claims.anchor.name().to_owned()),
        ];
        let gpus = claims.gpus.iter().map(|gpu| &gpu.value);
        let of_gpus = gpus.flat_map(|gpu| [Self::Chip(gpu.chip.clone()), Self::Anchor(gpu.anchor.clone())]);
        own.into_iter().chain(claims.vouched.map(Self::Verifier)).chain(of_gpus)
    }

    /// Its name where that is a text; names of keys have a length of their own.
    fn name(&self) -> &str {
        match self {
            Self::Enclave(_) | Self::Verifier(_) | Self::Grant(_) => KEY_NAME,
            Self::Provider(name) => name.as_str(),
            Self::Chip(name) | Self::Measurement(name) | Self::Anchor(name) => name,
        }
    }
}

/// The name of a root, where it is written as claims are shown: `production(amd-milan)`.
fn anchor(shown: &str) -> &str {
    let inside = |kind: &str| shown.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')');
    inside("production").or_else(|| inside("development")).unwrap_or(shown)
}

/// One revocation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// What.
    pub what: Revocable,
    /// The epoch it made.
    pub epoch: RevocationEpoch,
    /// When.
    pub at: UnixTime,
    /// Why, in the operator's words.
    pub why: String,
}

impl Revocation {
    /// What it takes in a list, in bytes; a little more rather than less.
    pub fn weight(&self) -> usize {
        128_usize.saturating_add(json_len(self.what.name())).saturating_add(json_len(&self.why))
    }

    /// The refusal of whatever rests on it.
    pub fn refusal(&self) -> Rejection {
        Rejection::new("revocation", format!("the {}", self.what))
            .expected("not revoked")
            .got(format!("revoked at {} (epoch {}): {}", self.at, self.epoch.0, self.why))
            .fix("what is revoked does not return under the same name; see `legation revoke --help`")
    }
}

/// Bytes of `text` in JSON, without the quotes.
fn json_len(text: &str) -> usize {
    let byte = |b: u8| match b {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(byte).sum()
}

/// Revocations by what they revoke: to find quickly what a passport rests on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Revoked {
    by_what: BTreeMap<Revocable, Revocation>,
    epoch: RevocationEpoch,
    weight: usize,
}

impl Revoked {
    /// Adds one. What was revoked before stays as it was.
    pub fn insert(&mut self, revocation: Revocation) {
        self.epoch = self.epoch.max(revocation.epoch);
        let weight = revocation.weight();
        if !self.by_what.contains_key(&revocation.what) {
            self.weight = self.weight.saturating_add(weight);
            self.by_what.insert(revocation.what.clone(), revocation);
        }
    }

    /// The latest epoch.
    pub fn epoch(&self) -> RevocationEpoch {
        self.epoch
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_what.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_what.is_empty()
    }

    /// What a list of all of them weighs.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The revocation of exactly this, if it is revoked.
    pub fn get(&self, what: &Revocable) -> Option<&Revocation> {
        self.by_what.get(what)
    }

    /// The first revocation that `passport` rests on.
    pub fn of(&self, passport: &Passport) -> Option<&Revocation> {
        if self.by_what.is_empty() {
            return None;
        }
        Revocable::all_behind(passport).filter_map(|what| self.by_what.get(&what)).min_by_key(|r| r.epoch)
    }

    /// The first revocation that a grant rests on by itself: its own, or that of the enclave that signed it. What the grants
    /// above it rest on is for [`crate::delegation::Lineage::revoked`].
    pub fn of_grant(&self, grant: &Signed<Grant>) -> Option<&Revocation> {
        if self.by_what.is_empty() {
            return None;
        }
        let behind = [Revocable::Grant(grant.digest()), Revocable::Enclave(grant.issuer.enclave_id())];
        behind.iter().filter_map(|what| self.by_what.get(what)).min_by_key(|r| r.epoch)
    }

    /// Whether `passport` rests on anything revoked beside `what`.
    pub fn covers_beside(&self, passport: &Passport, what: &Revocable) -> bool {
        Revocable::all_behind(passport).any(|other| other != *what && self.by_what.contains_key(&other))
    }

    /// All of them, ascending by epoch.
    pub fn list(&self) -> Vec<Revocation> {
        let mut all: Vec<_> = self.by_what.values().cloned().collect();
        all.sort_by_key(|r| r.epoch);
        all
    }
}

impl FromIterator<Revocation> for Revoked {
    fn from_iter<I: IntoIterator<Item = Revocation>>(revocations: I) -> Self {
        let mut all = Self::default();
        revocations.into_iter().for_each(|r| all.insert(r));
        all
    }
}

/// Every revocation so far, signed by the manager.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationList {
    /// The manager, who signs this.
    pub manager: PublicKey,
    /// When it was made.
    pub at: UnixTime,
    /// The latest epoch in it.
    pub epoch: RevocationEpoch,
    /// All of them, ascending by epoch.
    pub revocations: Vec<Revocation>,
    /// The manager's appointment.
    pub prev: Vec<Digest>,
}

impl RevocationList {
    /// Opens a list as it travels, trusting `operators` to appoint managers.
    ///
    /// # Errors
    /// `revocation.signature`, `revocation.operator`, `revocation.manager`, or `revocation.list`.
    pub fn open(list: &Envelope, appointment: &Envelope, operators: &[PublicKey]) -> Result<Signed<Self>, Rejection> {
        let refuse = |check: &str, claim: &str| {
            Rejection::new(check, claim.to_owned()).fix("take the list from the pool's own manager, as it was written")
        };
        let list = list.open::<Self>().map_err(|e| refuse("revocation.signature", "signature of the list").got(e))?;
        let appointment = appointment
            .open::<Appointment>()
            .map_err(|e| refuse("revocation.signature", "signature of the manager's appointment").got(e))?;
        if !operators.contains(&appointment.operator) {
            return Err(refuse("revocation.operator", "operator behind the list of revocations")
                .expected("one that is known here")
                .got(appointment.operator.id()));
        }
        if list.prev != [appointment.digest()] || !list.is_by(&appointment) {
            return Err(refuse("revocation.manager", "who signed the list of revocations")
                .expected(format!("a manager of this operator, appointed at {}", list.at))
                .got(format!("{} as {:?}", appointment.key.id(), appointment.office)));
        }
        list.check()?;
        Ok(list)
    }

    /// Whether it hangs together: epochs ascend to the one it names, and it is not too long.
    ///
    /// # Errors
    /// `revocation.list`.
    pub fn check(&self) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("revocation.list", claim.to_owned());
        if self.revocations.len() > REVOCATIONS_MAX {
            return Err(bad("length of the list").expected(format!("at most {REVOCATIONS_MAX}")));
        }
        if !self.revocations.is_sorted_by(|a, b| a.epoch < b.epoch) {
            return Err(bad("order of the list").expected("ascending by epoch, each once"));
        }
        let last = self.revocations.last().map_or(RevocationEpoch(0), |r| r.epoch);
        if last != self.epoch {
            return Err(bad("epoch of the list").expected(last.0).got(self.epoch.0));
        }
        Ok(())
    }

    /// Whether `appointment` makes its signer a manager when it was signed.
    pub fn is_by(&self, appointment: &Appointment) -> bool {
        appointment.key == self.manager
            && appointment.office == Office::Manager
            && appointment.not_before <= self.at
            && self.at <= appointment.not_after
    }
}

impl Predicate for RevocationList {
    const TYPE: &'static str = "https://legation.dev/revocations/v1";

    fn signer(&self) -> PublicKey {
        self.manager
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("manager", self.manager.id().digest())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(what: Revocable, epoch: u64, why: &str) -> Revocation {
        Revocation { what, epoch: RevocationEpoch(epoch), at: UnixTime(u64::MAX), why: why.to_owned() }
    }

    #[test]
    fn names_are_read_by_kind() {
        let key = "ab".repeat(32);
        for (kind, name, fits) in [
            ("enclave", key.as_str(), true),
            ("verifier", &key, true),
            ("grant", &key, true),
            ("grant", "abcd", false),
            ("chip", "c0ffee0123456789", true),
            ("chip", "c0ffee", true),
            ("chip", "c0ffe", false),
            ("chip", "C0FFEE0123456789", false),
            ("chip", "the chip of node 7", false),
            ("measurement", &key, true),
            ("measurement", &key[..62], false),
            ("measurement", &key.to_uppercase(), false),
            ("provider", "alpha", true),
            ("anchor", "amd-milan", true),
            ("anchor", "production(amd-milan)", true),
            ("anchor", "development(local)", true),
            ("anchor", "AMD Milan", false),
            ("anchor", "production(amd-milan", false),
            ("enclave", "ab", false),
            ("verifier", "", false),
            ("provider", "Not A Name", false),
            ("chip", "", false),
            ("anchor", &"a".repeat(NAME_MAX + 1), false),
            ("tenant", "acme", false),
        ] {
            let read = Revocable::named(kind, name);
            if let Ok(Revocable::Anchor(name)) = &read {
                assert!(["amd-milan", "local"].contains(&name.as_str()), "{name}");
            }
            assert_eq!(read.is_ok(), fits, "{kind} {name}");
            match read {
                Ok(what) => assert_eq!(what.kind(), kind),
                Err(why) => assert_eq!(why.check, "revocation.name"),
            }
        }
    }

    #[test]
    fn a_list_weighs_no_less_than_its_json() {
        let key = KeyId::new(Digest::of(b"key"));
        for (what, why) in [
            (Revocable::Verifier(key), "stolen"),
            (Revocable::Measurement("00".repeat(48)), "a \"quoted\" \\ word"),
            (Revocable::Chip("\u{1}\n".repeat(90)), "\u{7f}\u{e9}\t"),
        ] {
            let one = revocation(what, u64::MAX, why);
            let json = serde_json::to_vec(&one).unwrap_or_default().len() + 1;
            assert!(json <= one.weight(), "{json} bytes weigh {}", one.weight());
        }
    }

    #[test]
    fn the_first_revocation_of_a_thing_stays() {
        let chip = || Revocable::Chip("c".into());
        let mut all = Revoked::default();
        all.insert(revocation(chip(), 1, "first"));
        all.insert(revocation(chip(), 2, "second"));
        assert_eq!((all.len(), all.epoch().0), (1, 2));
        assert_eq!(all.get(&chip()).map(|r| r.why.as_str()), Some("first"));
    }
}
