//! What a custodian keeps: its vows, the shares that it has, and what it said in ceremonies that may go on. Nothing of this is said before it
//! is stored.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `legation-cust-v1` |
//! | 1 + n | the swarm key |
//! | 1 | how many identities follow: that of this boot, and of earlier ones that still have shares |
//!
//! | bytes | of each identity |
//! |---|---|
//! | 32 | its key |
//! | 4 | number of the newest charter that it took a chair by |
//! | 4 + n | vows, JSON |
//! | 2 | how many shares follow |
//! | 1 + 4 + n + 2 + n | of each: whether its committee was in force; the roster; the share (both in the formats of `legation-keys`) |
//! | 2 | how many calls follow |
//! | 32 + 8 | of each: the call's digest; until when it has time |
//! | 1 (+ 32) | whether there is a sealing key of its chair, and its seed |
//! | 1 (+ 32 + 4 + n) | whether it dealt, the ceremony, and the dealing |
//!
//! Numbers are big-endian; nothing follows the last. Every copy of it in memory is wiped when dropped.

use legation_core::{
    Digest, PublicKey, SwarmName, UnixTime,
    custody::{DEALING_MAX, ROSTER_MAX, Vows},
};
use legation_keys::swarm::{Roster, Share};
use zeroize::Zeroizing;

use super::keep::KeepError;

/// What it begins with.
const MAGIC: &[u8; 16] = b"legation-cust-v1";
/// Most identities that it is kept for.
const ROLES_MAX: usize = 16;
/// Most shares of one identity: as many as it may have confirmed for one epoch, and the one that it has.
pub(super) const SHARES_MAX: usize = legation_core::custody::CONFIRMED_MAX + 1;
/// Most calls of one identity whose time is not over.
const CALLS_MAX: usize = 32;
/// Most bytes of dealings that are kept for one identity: they are said again until they are on the board.
pub(super) const DEALT_MAX: usize = 384 << 10;
/// Largest vows, in bytes.
const VOWS_MAX: usize = 64 << 10;
/// Largest share, in bytes.
const SHARE_MAX: usize = 256;

/// All that is kept.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) swarm: SwarmName,
    /// Of this boot.
    pub(super) own: Role,
    /// Of earlier boots that still have shares.
    pub(super) former: Vec<Role>,
}

/// What is kept for one identity.
#[derive(Clone)]
pub(super) struct Role {
    pub(super) who: PublicKey,
    /// Number of the newest charter that it took a chair by.
    pub(super) charter: u32,
    pub(super) vows: Vows,
    pub(super) shares: Vec<Held>,
    pub(super) calls: Vec<Joined>,
}

/// A share, and the roster that it is of.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) roster: Roster,
    /// Parsed where it is used, so that it is nowhere longer than here.
    share: Zeroizing<Vec<u8>>,
    /// Whether that roster's committee was seen in force.
    pub(super) in_force: bool,
}

/// A call in which it takes part.
#[derive(Clone)]
pub(super) struct Joined {
    pub(super) call: Digest,
    pub(super) expires: UnixTime,
    /// Of the sealing key of its chair; wiped once its share is stored.
    pub(super) seed: Option<Zeroizing<[u8; 32]>>,
    /// What it dealt, in which ceremony.
    pub(super) dealt: Option<(Digest, Vec<u8>)>,
}

impl Held {
    /// A share, if it is one of this roster.
    pub(super) fn new(roster: Roster, share: &Share) -> Option<Self> {
        let kept = share.to_bytes();
        share.fits(&roster).then_some(Self { roster, share: kept, in_force: false })
    }

    /// The share.
    pub(super) fn share(&self) -> Option<Share> {
        Share::from_bytes(&self.share).ok()
    }
}

impl Role {
    pub(super) fn new(who: PublicKey) -> Self {
        Self { who, charter: 0, vows: Vows::default(), shares: Vec::new(), calls: Vec::new() }
    }

    /// The share of a roster.
    pub(super) fn held(&self, roster: Digest) -> Option<&Held> {
        self.shares.iter().find(|held| held.roster.digest() == roster)
    }

    /// The share that came of a ceremony.
    pub(super) fn made_in(&self, ceremony: Digest) -> Option<&Held> {
        self.shares.iter().find(|held| held.roster.ceremony() == ceremony)
    }

    /// The latest share whose committee was in force.
    pub(super) fn in_force(&self) -> Option<&Held> {
        self.shares.iter().filter(|held| held.in_force).max_by_key(|held| held.roster.epoch())
    }

    /// What it has of a call.
    pub(super) fn joined(&self, call: Digest) -> Option<&Joined> {
        self.calls.iter().find(|joined| joined.call == call)
    }

    /// A place for what it has of a call. Where there are as many as may be, none.
    pub(super) fn join(&mut self, call: Digest, expires: UnixTime) -> Option<&mut Joined> {
        let at = match self.calls.iter().position(|joined| joined.call == call) {
            Some(at) => at,
            None if self.calls.len() >= CALLS_MAX => return None,
            None => {
                self.calls.push(Joined { call, expires, seed: None, dealt: None });
                self.calls.len() - 1
            }
        };
        self.calls.get_mut(at)
    }

    /// Bytes of all dealings.
    pub(super) fn dealt(&self) -> usize {
        self.calls.iter().filter_map(|joined| joined.dealt.as_ref()).map(|(_, dealing)| dealing.len()).sum()
    }

    /// Forgets what it has of calls whose time is over.
    pub(super) fn forget_calls(&mut self, now: UnixTime) {
        self.calls.retain(|joined| now <= joined.expires);
    }

    /// Erases the shares that are of no use once `roster` is in force, which follows `before`: that of `before`, and those of other rosters
    /// that would have followed it. Where it is the first, those of others that would have been, if it has a share of this one: else it knows
    /// of none of its members. Says whether there were any.
    pub(super) fn supersede(&mut self, before: Option<Digest>, roster: Digest) -> bool {
        let (count, mine) = (self.shares.len(), self.held(roster).is_some());
        self.shares.retain(|held| {
            let own = held.roster.digest();
            let beside = held.roster.previous() == before && (before.is_some() || (mine && !held.in_force));
            own == roster || (Some(own) != before && !beside)
        });
        self.shares.len() < count
    }
}

impl Kept {
    /// Nothing yet.
    pub(super) fn new(swarm: SwarmName, own: PublicKey) -> Self {
        Self { swarm, own: Role::new(own), former: Vec::new() }
    }

    /// What is kept for each identity, this boot's first.
    pub(super) fn roles(&self) -> impl Iterator<Item = &Role> {
        std::iter::once(&self.own).chain(&self.former)
    }

    /// No more than this many bytes: the buffer is never grown, which would leave a copy behind.
    fn room(&self) -> usize {
        let held = |held: &Held| 64 + ROSTER_MAX + held.share.len();
        let joined = |joined: &Joined| 128 + joined.dealt.as_ref().map_or(0, |(_, dealing)| dealing.len());
        let role = |role: &Role| {
            let shares: usize = role.shares.iter().map(held).sum();
            let calls: usize = role.calls.iter().map(joined).sum();
            128 + VOWS_MAX + shares + calls
        };
        256 + self.roles().map(role).sum::<usize>()
    }

    /// The bytes to store.
    ///
    /// # Errors
    /// A part is larger than is kept.
    pub(super) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeepError> {
        let mut out = Writer(Zeroizing::new(Vec::with_capacity(self.room())));
        out.put(MAGIC);
        out.count(self.swarm.as_str().len(), 1, "name")?;
        out.put(self.swarm.as_str().as_bytes());
        out.count(1 + self.former.len(), 1, "identities")?;
        for role in self.roles() {
            out.put(role.who.as_bytes());
            out.put(&role.charter.to_be_bytes());
            // Vows are plain data: writing them cannot fail.
            let vows = serde_json::to_vec(&role.vows).unwrap_or_default();
            if vows.len() > VOWS_MAX {
                return Err(large("vows", vows.len()));
            }
            out.list(&vows, 4, "vows")?;
            out.count(role.shares.len(), 2, "shares")?;
            for held in &role.shares {
                out.put(&[u8::from(held.in_force)]);
                let roster = held.roster.to_bytes();
                if roster.len() > ROSTER_MAX {
                    return Err(large("roster", roster.len()));
                }
                out.list(&roster, 4, "roster")?;
                out.list(&held.share, 2, "share")?;
            }
            out.count(role.calls.len(), 2, "calls")?;
            for joined in &role.calls {
                out.put(joined.call.as_bytes());
                out.put(&joined.expires.0.to_be_bytes());
                out.put(&[u8::from(joined.seed.is_some())]);
                if let Some(seed) = &joined.seed {
                    out.put(&seed[..]);
                }
                out.put(&[u8::from(joined.dealt.is_some())]);
                if let Some((ceremony, dealing)) = &joined.dealt {
                    out.put(ceremony.as_bytes());
                    out.list(dealing, 4, "dealing")?;
                }
            }
        }
        Ok(out.0)
    }

    /// Reads what was stored for a swarm key, by this boot or an earlier one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn from_bytes(bytes: &[u8], swarm: &SwarmName, own: PublicKey) -> Result<Self, &'static str> {
        let mut from = Reader(bytes);
        if from.take(MAGIC.len())? != MAGIC {
            return Err("it is of another kind or version");
        }
        let name = from.list(1, 63)?;
        if name != swarm.as_str().as_bytes() {
            return Err("it is of another swarm key");
        }
        let roles = from.count(1, ROLES_MAX)?;
        let mut former = (0..roles).map(|_| Role::read(&mut from)).collect::<Result<Vec<Role>, _>>()?;
        if !from.0.is_empty() {
            return Err("something follows its end");
        }
        let at = former.iter().position(|role| role.who == own);
        let own = at.map_or_else(|| Role::new(own), |at| former.remove(at));
        former.retain(|role| !role.shares.is_empty());
        if former.len() < ROLES_MAX {
            Ok(Self { swarm: swarm.clone(), own, former })
        } else {
            Err("too many earlier boots have shares in it")
        }
    }
}

impl Role {
    fn read(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let who = PublicKey::from_bytes(from.array()?);
        let charter = u32::from_be_bytes(from.array()?);
        let vows = serde_json::from_slice(from.list(4, VOWS_MAX)?).map_err(|_| "its vows cannot be read")?;
        let shares = from.count(2, SHARES_MAX)?;
        let shares = (0..shares).map(|_| Held::read(from)).collect::<Result<_, _>>()?;
        let calls = from.count(2, CALLS_MAX)?;
        let calls = (0..calls).map(|_| Joined::read(from)).collect::<Result<_, _>>()?;
        Ok(Self { who, charter, vows, shares, calls })
    }
}

impl Held {
    fn read(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let in_force = from.flag()?;
        let roster = Roster::from_bytes(from.list(4, ROSTER_MAX)?).map_err(|_| "a roster in it cannot be read")?;
        let share = Zeroizing::new(from.list(2, SHARE_MAX)?.to_vec());
        let held = Self { roster, share, in_force };
        if held.share().is_some_and(|share| share.fits(&held.roster)) {
            Ok(held)
        } else {
            Err("a share in it is not of its roster")
        }
    }
}

impl Joined {
    fn read(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let call = Digest::from_bytes(from.array()?);
        let expires = UnixTime(u64::from_be_bytes(from.array()?));
        let seed = if from.flag()? { Some(from.secret()?) } else { None };
        let dealt = if from.flag()? {
            Some((Digest::from_bytes(from.array()?), from.list(4, DEALING_MAX)?.to_vec()))
        } else {
            None
        };
        Ok(Self { call, expires, seed, dealt })
    }
}

fn large(what: &str, got: usize) -> KeepError {
    KeepError(format!("{what} of {got} bytes: more than is kept of a custodian"))
}

struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A number of so many bytes.
    fn count(&mut self, count: usize, bytes: usize, what: &str) -> Result<(), KeepError> {
        let all = (count as u64).to_be_bytes();
        let (head, tail) = all.split_at(all.len() - bytes);
        if head.iter().any(|byte| *byte != 0) {
            return Err(large(what, count));
        }
        self.put(tail);
        Ok(())
    }

    fn list(&mut self, list: &[u8], bytes: usize, what: &str) -> Result<(), KeepError> {
        self.count(list.len(), bytes, what)?;
        self.put(list);
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn secret(&mut self) -> Result<Zeroizing<[u8; 32]>, &'static str> {
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(self.take(32)?);
        Ok(secret)
    }

    fn flag(&mut self) -> Result<bool, &'static str> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err("a flag in it is none"),
        }
    }

    fn count(&mut self, bytes: usize, most: usize) -> Result<usize, &'static str> {
        let count = self.take(bytes)?.iter().fold(0_usize, |count, byte| count << 8 | usize::from(*byte));
        if count <= most { Ok(count) } else { Err("it has more of something than is kept") }
    }

    fn list(&mut self, bytes: usize, most: usize) -> Result<&'a [u8], &'static str> {
        let len = self.count(bytes, most)?;
        self.take(len)
    }
}

#[cfg(test)]
mod tests {
    use legation_core::{EnclaveId, Signer, custody::Threshold};
    use legation_keys::{
        IdentityKey, SealingKey,
        swarm::{Ceremony, Chair, ShareIndex},
    };
    use legation_net::OsEntropy;

    use super::*;

    fn swarm() -> SwarmName {
        SwarmName::new("main").unwrap()
    }

    fn me() -> PublicKey {
        IdentityKey::from_seed([5; 32]).public_key()
    }

    /// Two of two have a key; this is what the first has.
    fn held() -> Held {
        let keys = [SealingKey::from_seed([1; 32]), SealingKey::from_seed([2; 32])];
        let enclave = |at: u8| EnclaveId::new(Digest::from_bytes([at; 32]));
        let chairs = vec![
            Chair::new(enclave(1), keys[0].public().clone()).unwrap(),
            Chair::new(enclave(2), keys[1].public().clone()).unwrap(),
        ];
        let ceremony = Ceremony::new(Digest::of(b"call"), Threshold::new(2, 2).unwrap(), chairs, None).unwrap();
        let index = |at| ShareIndex::new(at).unwrap();
        let dealings = [1, 2].map(|at| ceremony.deal(index(at), &mut OsEntropy).unwrap());
        let checked: Vec<_> = dealings.iter().map(|dealing| ceremony.check(dealing).ok().unwrap()).collect();
        let parts: Vec<_> = dealings.iter().map(|d| ceremony.open(d, index(1), &keys[0]).ok().unwrap()).collect();
        let roster = ceremony.roster(&checked).unwrap();
        let share = ceremony.share(&roster, &parts).ok().unwrap();
        Held::new(roster, &share).unwrap()
    }

    fn kept() -> Kept {
        let mut role = Role::new(me());
        role.charter = 3;
        role.shares.push(Held { in_force: true, ..held() });
        let joined = role.join(Digest::of(b"call"), UnixTime(100)).unwrap();
        joined.seed = Some(Zeroizing::new([9; 32]));
        joined.dealt = Some((Digest::of(b"ceremony"), vec![4; 1000]));
        let former = Role { shares: vec![held()], ..Role::new(IdentityKey::from_seed([6; 32]).public_key()) };
        Kept { swarm: swarm(), own: role, former: vec![former] }
    }

    #[test]
    fn what_is_stored_is_read_as_it_was() {
        let kept = kept();
        let bytes = kept.to_bytes().unwrap();
        assert!(bytes.len() <= kept.room(), "never grown");
        let read = Kept::from_bytes(&bytes, &swarm(), me()).ok().unwrap();
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert!(read.roles().map(|role| role.who).eq(kept.roles().map(|role| role.who)));
        assert!(read.own.held(kept.own.shares[0].roster.digest()).unwrap().in_force);
        // The next boot begins anew, and keeps what has shares.
        let other = IdentityKey::from_seed([7; 32]).public_key();
        let next = Kept::from_bytes(&bytes, &swarm(), other).ok().unwrap();
        assert!(next.own.shares.is_empty() && next.own.calls.is_empty());
        assert!(next.former.iter().map(|role| role.who).eq(kept.roles().map(|role| role.who)));
    }

    #[test]
    fn what_was_not_stored_is_not_read() {
        let bytes = kept().to_bytes().unwrap();
        assert!(Kept::from_bytes(&bytes, &SwarmName::new("other").unwrap(), me()).is_err());
        for len in (0..bytes.len()).step_by(5) {
            assert!(Kept::from_bytes(&bytes[..len], &swarm(), me()).is_err(), "{len}");
        }
        let more = [&bytes[..], &[0]].concat();
        assert!(Kept::from_bytes(&more, &swarm(), me()).is_err());
        // The scalar of the share is not another's.
        let share = bytes.windows(16).position(|window| window == b"legation-held-v1").unwrap();
        let mut other = bytes.to_vec();
        other[share + 16 + 32 + 8 + 2 + 31] ^= 1;
        assert!(Kept::from_bytes(&other, &swarm(), me()).is_err());
    }

    #[test]
    fn calls_are_bounded_and_forgotten() {
        let mut role = Role::new(me());
        for call in 0..CALLS_MAX {
            assert!(role.join(Digest::of(&call.to_be_bytes()), UnixTime(100)).is_some());
        }
        assert!(role.join(Digest::of(b"one more"), UnixTime(200)).is_none());
        assert!(role.join(Digest::of(&0_usize.to_be_bytes()), UnixTime(100)).is_some());
        role.forget_calls(UnixTime(100));
        assert_eq!(role.calls.len(), CALLS_MAX);
        role.forget_calls(UnixTime(101));
        assert!(role.calls.is_empty());
    }
}
