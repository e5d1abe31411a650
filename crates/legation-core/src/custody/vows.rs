//! What a member says at most once, and remembers: the reason why two committees of one epoch cannot both come into force.
//!
//! It is kept with the member's share, and stored *before* the statement leaves. The same word may be said again, as after a crash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    board::{Board, Phase},
    terms::{Epoch, SwarmPublicKey},
    words::{Confirmation, Handover},
};
use crate::{digest::Digest, key::PublicKey, rejection::Rejection, time::UnixTime};

/// Most confirmations that are remembered: attempts at one epoch.
pub const CONFIRMED_MAX: usize = 64;

/// What a member has said that it must not say otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vows {
    /// What it confirmed, by ceremony.
    confirmed: BTreeMap<Digest, Confirmed>,
    /// The last handover.
    handed: Option<Handed>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    epoch: Epoch,
    roster: Digest,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handed {
    epoch: Epoch,
    from: Digest,
    to: Digest,
}

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim)
}

impl Vows {
    /// What `member` says once it has stored its share of `roster`, which it made of the settled dealings itself.
    ///
    /// # Errors
    /// `custody.early`: the board has not settled; `custody.member`; `custody.key`: it is another key than before, or the roster before;
    /// `custody.late`: it came to nothing; `custody.fork`: it confirmed another roster of this ceremony, or gave over to another of this
    /// epoch; `custody.attempts`: too many.
    pub fn confirm(
        &mut self,
        board: &Board,
        member: PublicKey,
        (roster, key): (Digest, SwarmPublicKey),
        now: UnixTime,
    ) -> Result<Confirmation, Rejection> {
        let early = || refuse("custody.early", "confirmation of a roster").expected("settled dealings").got("none");
        let (ceremony, settled) = board.ceremony().zip(board.settled()).ok_or_else(early)?;
        if board.member_index(member.enclave_id()).is_none() {
            return Err(refuse("custody.member", "who confirms").expected("somebody who was called"));
        }
        if let Some(before) = board.before().filter(|before| before.key != key || before.roster == roster) {
            return Err(refuse("custody.key", "key of a roster")
                .expected(format!("{}, in other hands", before.key.id()))
                .got(key.id()));
        }
        let epoch = board.epoch();
        match self.confirmed.get(&ceremony) {
            Some(first) if first.roster == roster => {}
            Some(first) => {
                return Err(refuse("custody.fork", "roster that is confirmed").expected(first.roster).got(roster));
            }
            None if self.handed.is_some_and(|handed| handed.epoch >= epoch) => {
                return Err(refuse("custody.fork", "epoch that is confirmed")
                    .expected("a later one than it handed over to")
                    .got(epoch));
            }
            None if matches!(board.phase(now), Phase::Lapsed(_)) => {
                return Err(refuse("custody.late", "confirmation of a roster").expected("in time").got("too late"));
            }
            None => {
                self.confirmed.retain(|_, confirmed| confirmed.epoch >= epoch);
                if self.confirmed.len() >= CONFIRMED_MAX {
                    return Err(refuse("custody.attempts", "attempts at one epoch")
                        .expected(format!("{CONFIRMED_MAX} at most"))
                        .got("more"));
                }
                self.confirmed.insert(ceremony, Confirmed { epoch, roster });
            }
        }
        let dealings = settled.to_vec();
        let beneath = |name| board.dealings().find(|d| d.name() == name).map(|d| d.digest());
        let prev =
            std::iter::once(board.call().digest()).chain(dealings.iter().filter_map(|name| beneath(*name))).collect();
        Ok(Confirmation { ceremony, roster, key, epoch, member, dealings, prev })
    }

    /// What `member` of the committee before says when it gives over. Whoever stores this erases its share in the same breath.
    ///
    /// # Errors
    /// `custody.early`: not all new members have confirmed one roster; `custody.member`; `custody.fork`: it gave over to another.
    pub fn hand_over(&mut self, board: &Board, member: PublicKey) -> Result<Handover, Rejection> {
        let Some(before) = board.before().filter(|before| before.has(member.enclave_id())) else {
            return Err(refuse("custody.member", "who hands over").expected("a member of the committee before"));
        };
        let Some(agreed) = board.agreed() else {
            return Err(refuse("custody.early", "handover")
                .expected("after all new members have confirmed one roster")
                .got("before"));
        };
        let handed = Handed { epoch: board.epoch(), from: before.roster, to: agreed.roster };
        match self.handed {
            Some(first) if first == handed => {}
            Some(first) if first.epoch >= handed.epoch => {
                return Err(refuse("custody.fork", "roster that is handed over to")
                    .expected(format!("{} of epoch {}", first.to, first.epoch))
                    .got(format!("{} of epoch {}", handed.to, handed.epoch)));
            }
            _ => self.handed = Some(handed),
        }
        let prev = board.confirmations().map(|c| c.digest()).collect();
        Ok(Handover { from: handed.from, to: handed.to, epoch: handed.epoch, member, prev })
    }

    /// Whether it may release with its share of the committee of this epoch: it gave over to none that followed.
    pub fn may_release(&self, epoch: Epoch) -> bool {
        self.handed.is_none_or(|handed| handed.epoch <= epoch)
    }

    /// Whether the last share that it gave over was of this roster.
    pub fn has_left(&self, roster: Digest) -> bool {
        self.handed.is_some_and(|handed| handed.from == roster)
    }
}
