//! What members say in a ceremony. Each word is a statement of its own; what they add up to, [`super::Board`] says.
//!
//! `prev` names the envelopes that the speaker saw. They are evidence for readers, and the board holds no more than their number
//! against the form: who signs can sign the same twice with different bytes, and a word must not stop counting because somebody else did.
//! What is *agreed on* is therefore named by content: a ceremony, a dealing, a roster.

use std::{fmt, ops::RangeInclusive};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::terms::{Epoch, MEMBERS_MAX, SwarmPublicKey};
use crate::{
    digest::Digest,
    dsse::{Envelope, EnvelopeError, Predicate, Signed, Subject},
    encoding::{b64, b64_option},
    id::EnclaveId,
    key::{PublicKey, SealingPublicKey},
    rejection::Rejection,
};

/// Largest dealing, in bytes: one for 64 of 64 has 81,010.
pub const DEALING_MAX: usize = 96 << 10;
/// Largest roster, in bytes: one of 64 of 64, made of 64 dealings, has 10,462.
pub const ROSTER_MAX: usize = 12 << 10;

/// A member takes its chair, with a sealing key that it made for this ceremony alone and forgets after it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chair {
    /// Digest of the call.
    pub call: Digest,
    /// Identity key of the member, which signs this.
    pub enclave: PublicKey,
    /// Its passport.
    pub passport: Digest,
    /// What its shares are sealed to.
    pub sealing: SealingPublicKey,
    /// The call, its passport.
    pub prev: Vec<Digest>,
}

/// A dealer's part: a commitment that everybody sees, and for each member a share that only it can open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dealing {
    /// Digest of the ceremony ([`super::ceremony_digest`]).
    pub ceremony: Digest,
    /// Identity key of the dealer, which signs this.
    pub dealer: PublicKey,
    /// The dealing, in the format of `legation-keys`.
    #[serde(with = "b64")]
    pub dealing: Vec<u8>,
    /// The roster that the dealer's share is of, in the format of `legation-keys`: new members hold the dealing against it. None where a key
    /// is made.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "b64_option")]
    pub roster: Option<Vec<u8>>,
    /// The call, the chairs in the order of members.
    pub prev: Vec<Digest>,
}

/// One dealing by what is in it: the same bytes of two dealers are two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DealingRef {
    /// Whose it is.
    pub dealer: EnclaveId,
    /// SHA-256 of its bytes.
    pub dealing: Digest,
}

/// A member's word that these dealings are sound, are their dealers' own, and gave it the shares that they commit to, which it keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Digest of the ceremony.
    pub ceremony: Digest,
    /// Identity key of the member, which signs this.
    pub member: PublicKey,
    /// The dealings, ascending.
    pub dealings: Vec<DealingRef>,
    /// Their statements, in the same order.
    pub prev: Vec<Digest>,
}

/// Why a member refuses a dealing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// Its share does not open.
    Unopened,
    /// Its share is not the one committed to.
    Mismatch,
    /// The commitment is not one of this dealer in this ceremony: everybody can see that.
    Commitment,
}

/// A member's word that a dealing gave it no share. It proves nothing by itself: either may lie.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Digest of the ceremony.
    pub ceremony: Digest,
    /// Identity key of the member, which signs this.
    pub member: PublicKey,
    /// The dealing.
    pub dealing: DealingRef,
    /// Why.
    pub why: RefusalReason,
    /// Its statement.
    pub prev: Vec<Digest>,
}

/// A new member's word that it holds, and has stored, its share of exactly this.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Digest of the ceremony.
    pub ceremony: Digest,
    /// Digest of the roster that the dealings make.
    pub roster: Digest,
    /// The key.
    pub key: SwarmPublicKey,
    /// How often the key will have changed hands.
    pub epoch: Epoch,
    /// Identity key of the member, which signs this.
    pub member: PublicKey,
    /// The dealings that count, ascending.
    pub dealings: Vec<DealingRef>,
    /// The call, the dealings' statements in the same order.
    pub prev: Vec<Digest>,
}

/// An old member's word that it gave over to exactly this committee, and erased its share. It says so once in an epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// Digest of the roster that it was of.
    pub from: Digest,
    /// Digest of the roster that it gives over to.
    pub to: Digest,
    /// Of the latter.
    pub epoch: Epoch,
    /// Identity key of the member, which signs this.
    pub member: PublicKey,
    /// The confirmations of all new members, in their order.
    pub prev: Vec<Digest>,
}

fn form(kind: WordKind, claim: &str) -> Rejection {
    Rejection::new("custody.form", format!("{claim} of a {kind}"))
}

fn check_prev(kind: WordKind, prev: &[Digest], number: RangeInclusive<usize>) -> Result<(), Rejection> {
    if number.contains(&prev.len()) {
        return Ok(());
    }
    let (least, most) = number.into_inner();
    Err(form(kind, "statements beneath").expected(format!("{least} to {most} of them")).got(prev.len()))
}

fn check_dealings(kind: WordKind, dealings: &[DealingRef]) -> Result<(), Rejection> {
    if (1..=usize::from(MEMBERS_MAX)).contains(&dealings.len()) && dealings.is_sorted_by(|a, b| a.dealer < b.dealer) {
        return Ok(());
    }
    Err(form(kind, "dealings").expected(format!("1 to {MEMBERS_MAX}, one of a dealer, ascending")).got(dealings.len()))
}

/// Most members, as a length.
const MOST: usize = MEMBERS_MAX as usize;

impl Chair {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        if self.prev == [self.call, self.passport] {
            return Ok(());
        }
        Err(form(WordKind::Chair, "statements beneath").expected("the call, its passport").got(self.prev.len()))
    }
}

impl Dealing {
    /// The dealing by what is in it.
    pub fn name(&self) -> DealingRef {
        DealingRef { dealer: self.dealer.enclave_id(), dealing: Digest::of(&self.dealing) }
    }

    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        if !(1..=DEALING_MAX).contains(&self.dealing.len()) {
            return Err(form(WordKind::Dealing, "bytes")
                .expected(format!("1 to {DEALING_MAX}"))
                .got(self.dealing.len()));
        }
        if let Some(roster) = self.roster.as_ref().filter(|roster| !(1..=ROSTER_MAX).contains(&roster.len())) {
            return Err(form(WordKind::Dealing, "bytes of the roster beside it")
                .expected(format!("1 to {ROSTER_MAX}"))
                .got(roster.len()));
        }
        check_prev(WordKind::Dealing, &self.prev, 3..=MOST + 1)
    }
}

impl Acceptance {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        check_dealings(WordKind::Acceptance, &self.dealings)?;
        check_prev(WordKind::Acceptance, &self.prev, self.dealings.len()..=self.dealings.len())
    }
}

impl Refusal {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        check_prev(WordKind::Refusal, &self.prev, 1..=1)
    }
}

impl Confirmation {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        check_dealings(WordKind::Confirmation, &self.dealings)?;
        check_prev(WordKind::Confirmation, &self.prev, self.dealings.len() + 1..=self.dealings.len() + 1)
    }
}

impl Handover {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        if self.from == self.to || self.epoch == Epoch(0) {
            return Err(form(WordKind::Handover, "committees").expected("one, and the one that follows it"));
        }
        check_prev(WordKind::Handover, &self.prev, 2..=MOST)
    }
}

macro_rules! predicates {
    ($($name:ident $uri:literal $signer:ident |$this:ident| $subjects:expr;)*) => {$(
        impl Predicate for $name {
            const TYPE: &'static str = $uri;

            fn signer(&self) -> PublicKey {
                self.$signer
            }

            fn prev(&self) -> &[Digest] {
                &self.prev
            }

            fn subjects(&self) -> Vec<Subject> {
                let $this = self;
                $subjects
            }
        }
    )*};
}

predicates! {
    Chair "https://legation.dev/custody-chair/v1" enclave |it| vec![Subject::new("sealing", it.sealing.digest())];
    Dealing "https://legation.dev/custody-dealing/v1" dealer |it| vec![Subject::new("dealing", it.name().dealing)];
    Acceptance "https://legation.dev/custody-acceptance/v1" member |it| of(&it.dealings);
    Refusal "https://legation.dev/custody-refusal/v1" member |it| of(&[it.dealing]);
    Confirmation "https://legation.dev/custody-confirmation/v1" member |it| vec![Subject::new("roster", it.roster)];
    Handover "https://legation.dev/custody-handover/v1" member |it| vec![Subject::new("roster", it.to)];
}

fn of(dealings: &[DealingRef]) -> Vec<Subject> {
    dealings.iter().map(|d| Subject::new("dealing", d.dealing)).collect()
}

/// Kinds of words, in the order in which a ceremony hears the first of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WordKind {
    /// [`Chair`].
    Chair,
    /// [`Dealing`].
    Dealing,
    /// [`Acceptance`].
    Acceptance,
    /// [`Refusal`].
    Refusal,
    /// [`Confirmation`].
    Confirmation,
    /// [`Handover`].
    Handover,
}

impl fmt::Display for WordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Chair => "chair",
            Self::Dealing => "dealing",
            Self::Acceptance => "acceptance",
            Self::Refusal => "refusal",
            Self::Confirmation => "confirmation",
            Self::Handover => "handover",
        })
    }
}

/// A word of a ceremony, of good form and with a good signature. It travels as its envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CustodyWord {
    /// A member takes its chair.
    Chair(Signed<Chair>),
    /// A dealer's part.
    Dealing(Signed<Dealing>),
    /// A member took these.
    Acceptance(Signed<Acceptance>),
    /// A member did not get its share.
    Refusal(Signed<Refusal>),
    /// A new member holds its share.
    Confirmation(Signed<Confirmation>),
    /// An old member gave over.
    Handover(Signed<Handover>),
}

/// Why an envelope is no word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// It is not signed, or not a statement of its kind.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A statement of another kind.
    #[error("`{got}` is no word of a ceremony")]
    Kind {
        /// The kind.
        got: String,
    },
    /// It breaks the rules of its form.
    #[error(transparent)]
    Form(#[from] Rejection),
}

impl CustodyWord {
    /// Reads a word.
    ///
    /// # Errors
    /// It is none, or not signed by who it says.
    pub fn open(envelope: &Envelope) -> Result<Self, WordError> {
        let kind = envelope.predicate_type()?;
        let word = match kind.as_str() {
            Chair::TYPE => Self::Chair(envelope.open()?),
            Dealing::TYPE => Self::Dealing(envelope.open()?),
            Acceptance::TYPE => Self::Acceptance(envelope.open()?),
            Refusal::TYPE => Self::Refusal(envelope.open()?),
            Confirmation::TYPE => Self::Confirmation(envelope.open()?),
            Handover::TYPE => Self::Handover(envelope.open()?),
            _ => return Err(WordError::Kind { got: kind.chars().take(80).collect() }),
        };
        word.validate()?;
        Ok(word)
    }

    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        match self {
            Self::Chair(word) => word.validate(),
            Self::Dealing(word) => word.validate(),
            Self::Acceptance(word) => word.validate(),
            Self::Refusal(word) => word.validate(),
            Self::Confirmation(word) => word.validate(),
            Self::Handover(word) => word.validate(),
        }
    }

    /// Which kind.
    pub fn kind(&self) -> WordKind {
        match self {
            Self::Chair(_) => WordKind::Chair,
            Self::Dealing(_) => WordKind::Dealing,
            Self::Acceptance(_) => WordKind::Acceptance,
            Self::Refusal(_) => WordKind::Refusal,
            Self::Confirmation(_) => WordKind::Confirmation,
            Self::Handover(_) => WordKind::Handover,
        }
    }

    /// The envelope it came in.
    pub fn envelope(&self) -> &Envelope {
        match self {
            Self::Chair(word) => word.envelope(),
            Self::Dealing(word) => word.envelope(),
            Self::Acceptance(word) => word.envelope(),
            Self::Refusal(word) => word.envelope(),
            Self::Confirmation(word) => word.envelope(),
            Self::Handover(word) => word.envelope(),
        }
    }

    /// Who says it.
    pub fn speaker(&self) -> PublicKey {
        match self {
            Self::Chair(word) => word.enclave,
            Self::Dealing(word) => word.dealer,
            Self::Acceptance(word) => word.member,
            Self::Refusal(word) => word.member,
            Self::Confirmation(word) => word.member,
            Self::Handover(word) => word.member,
        }
    }

    /// Name of its envelope.
    pub fn digest(&self) -> Digest {
        self.envelope().digest()
    }
}

impl Serialize for CustodyWord {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.envelope().serialize(s)
    }
}

impl<'de> Deserialize<'de> for CustodyWord {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::open(&Envelope::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
