//! One ceremony as the pool keeps it: why it was called, its board, and how it came to nothing if it did.
//!
//! In a snapshot it is its call, the charter and the committee that the call was held against, and the words that count: they make the
//! board again, and each signature is checked again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use legation_core::{
    EnclaveId, Rejection, RevocationEpoch, Signed, UnixTime,
    custody::{Board, Charter, Committee, CustodyCall, CustodyWord, Lapse, LapseReason, Phase},
};
use serde::{Deserialize, Serialize};

/// Why there is to be another committee, the most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallReason {
    /// There is none: the key is made.
    First,
    /// A member was revoked.
    Revoked,
    /// A member is no longer in the pool: its machine booted anew, or it was decommissioned. Its share is lost.
    Gone,
    /// A member drains, or its operator cordoned it.
    KeptBack,
    /// A member is away for too long.
    Away,
    /// A member is unproven for too long.
    Unproven,
    /// The operator asked.
    Asked,
    /// The committee is of an older charter.
    Charter,
    /// Its time is over.
    Epoch,
}

impl fmt::Display for CallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "nobody has the key yet",
            Self::Revoked => "a member was revoked",
            Self::Gone => "a member is gone",
            Self::KeptBack => "a member takes no more work",
            Self::Away => "a member is away",
            Self::Unproven => "a member is no longer proven",
            Self::Asked => "its operator asked",
            Self::Charter => "there is a new charter",
            Self::Epoch => "its time is over",
        })
    }
}

/// Why a call came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallEnd {
    /// Its time was over.
    Expired,
    /// Too few dealings were left that could count.
    Spoilt,
    /// Members confirmed different rosters.
    Divided,
    /// Somebody was revoked that was called.
    Revoked,
}

impl fmt::Display for CallEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Expired => "its time was over",
            Self::Spoilt => "too few dealings were left",
            Self::Divided => "members confirmed different rosters",
            Self::Revoked => "a member was revoked",
        })
    }
}

/// How a ceremony came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    pub(super) at: UnixTime,
    pub(super) why: CallEnd,
}

/// A ceremony.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Image", into = "Image")]
pub(super) struct Ceremony {
    /// The charter that its call is by.
    pub(super) charter: Signed<Charter>,
    pub(super) why: CallReason,
    pub(super) board: Board,
    pub(super) ended: Option<Ended>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    charter: Signed<Charter>,
    why: CallReason,
    call: Signed<CustodyCall>,
    before: Option<Committee>,
    words: Vec<Heard>,
    ended: Option<Ended>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heard {
    word: CustodyWord,
    at: UnixTime,
}

impl From<Ceremony> for Image {
    fn from(Ceremony { charter, why, board, ended }: Ceremony) -> Self {
        let words = board.words().iter().map(|said| Heard { word: said.word.clone(), at: said.at }).collect();
        Self { charter, why, call: board.call().clone(), before: board.before().cloned(), words, ended }
    }
}

impl TryFrom<Image> for Ceremony {
    type Error = Rejection;

    fn try_from(Image { charter, why, call, before, words, ended }: Image) -> Result<Self, Rejection> {
        let mut board = Board::open(call, &charter, before.as_ref())?;
        for Heard { word, at } in &words {
            board.absorb(word, *at)?;
        }
        Ok(Self { charter, why, board, ended })
    }
}

impl Ceremony {
    /// Whether another call may take its place although its time is not over: revocations came since, and nobody may have erased a share.
    pub(super) fn may_be_overtaken(&self, revocations: RevocationEpoch) -> bool {
        self.board.agreed().is_none() && revocations > self.board.call().revocations
    }

    /// Why it has come to nothing by itself, if it has, and whom the next attempt does without as far as it can.
    pub(super) fn lapse(&self, now: UnixTime) -> Option<(CallEnd, BTreeSet<EnclaveId>)> {
        let Phase::Lapsed(lapse) = self.board.phase(now) else { return None };
        let why = match lapse.why {
            LapseReason::Expired => CallEnd::Expired,
            LapseReason::Spoilt => CallEnd::Spoilt,
            LapseReason::Divided => CallEnd::Divided,
        };
        Some((why, self.at_fault(&lapse)))
    }

    /// Who was silent, said two things, or confirmed otherwise than most; and of those who refused dealings, or whose were refused, who had
    /// a part in most refusals: of two that are at odds with each other alone, both.
    fn at_fault(&self, lapse: &Lapse) -> BTreeSet<EnclaveId> {
        let mut odds: BTreeMap<EnclaveId, usize> = BTreeMap::new();
        for refused in &lapse.refused {
            *odds.entry(refused.member).or_default() += 1;
            if refused.dealer != refused.member {
                *odds.entry(refused.dealer).or_default() += 1;
            }
        }
        let most = odds.values().max().copied();
        let worst = odds.into_iter().filter(|(_, count)| Some(*count) == most).map(|(enclave, _)| enclave);
        let two_faced = self.board.equivocations().iter().map(|equivocation| equivocation.by);
        let named = lapse.silent.iter().chain(&lapse.divided).copied();
        named.chain(worst).chain(two_faced).collect()
    }
}
