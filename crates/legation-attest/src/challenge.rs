//! Challenges of verifiers that remember nothing, and the one nonce that answers several of them.
//!
//! A challenge is `time (8 bytes) || random (8) || HMAC-SHA-256 of both (first 16)` under a key that all replicas of one
//! verifier share. So any replica recognises it, and none has to remember it. Whoever collects evidence asks several
//! verifiers, joins their challenges into one nonce with [`join`], has evidence made once, and shows each verifier the
//! list: it finds its own among them ([`ChallengeKey::check`]) and sees that the evidence is over their join.
//!
//! A challenge can be answered more than once while it is young: that gives another passport for the same evidence, no
//! more. Random bytes and the time are arguments.

use aws_lc_rs::hmac;
use legation_core::{Digest, Rejection, UnixTime};

/// How long a challenge may be answered, in seconds.
pub const CHALLENGE_SECONDS: u64 = 120;
/// Most challenges that one nonce answers.
pub const CHALLENGES_MAX: usize = 16;
/// Domain of the hash that joins challenges.
const JOIN_DOMAIN: &[u8] = b"legation-nonce-v1";

/// What a verifier and its replicas recognise their challenges by.
pub struct ChallengeKey(hmac::Key);

impl ChallengeKey {
    /// A key of 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A challenge of `now` with these random bytes.
    pub fn issue(&self, now: UnixTime, random: [u8; 8]) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&now.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&random);
        let tag = hmac::sign(&self.0, &bytes[..16]);
        bytes[16..].copy_from_slice(&tag.as_ref()[..16]);
        Digest::from_bytes(bytes)
    }

    /// Whether one of `challenges` is of this key and young enough at `now`.
    ///
    /// # Errors
    /// `challenge.foreign` or `challenge.old`.
    pub fn check(&self, challenges: &[Digest], now: UnixTime) -> Result<(), Rejection> {
        if challenges.len() > CHALLENGES_MAX {
            return Err(Rejection::new("challenge.number", "challenges that the evidence answers")
                .expected(format!("at most {CHALLENGES_MAX}"))
                .got(challenges.len())
                .fix("ask fewer verifiers at once"));
        }
        let Some(issued) = challenges.iter().find_map(|c| self.time_of(c)) else {
            return Err(Rejection::new("challenge.foreign", "challenges that the evidence answers")
                .expected("one that this verifier gave")
                .got("none of its own")
                .fix("ask this verifier for a challenge first"));
        };
        let last = issued.plus(CHALLENGE_SECONDS);
        if now < issued.minus(CHALLENGE_SECONDS) || last < now {
            return Err(Rejection::new("challenge.old", "age of the challenge")
                .expected(format!("answered by {last}"))
                .got(now)
                .fix("ask for a challenge anew, and check the clocks of this verifier's replicas"));
        }
        Ok(())
    }

    fn time_of(&self, challenge: &Digest) -> Option<UnixTime> {
        let bytes = challenge.as_bytes();
        let expected = hmac::sign(&self.0, &bytes[..16]);
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..16], &bytes[16..]);
        same.ok()?;
        let time = bytes.first_chunk::<8>()?;
        Some(UnixTime(u64::from_be_bytes(*time)))
    }
}

impl std::fmt::Debug for ChallengeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChallengeKey(..)")
    }
}

/// The nonce that answers all of `challenges`, in this order.
pub fn join(challenges: &[Digest]) -> Digest {
    let mut parts: Vec<&[u8]> = vec![JOIN_DOMAIN];
    parts.extend(challenges.iter().map(|c| c.as_bytes().as_slice()));
    Digest::of_parts(&parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_recognised_by_its_key_while_it_is_young() {
        let (ours, theirs) = (ChallengeKey::new(&[1; 32]), ChallengeKey::new(&[2; 32]));
        let now = UnixTime(1_700_000_000);
        let (mine, other) = (ours.issue(now, [7; 8]), theirs.issue(now, [7; 8]));
        let check = |list: &[Digest], at| ours.check(list, at).map_err(|r| r.check);
        assert_eq!(check(&[other, mine], now), Ok(()));
        assert_eq!(check(&[mine], now.plus(CHALLENGE_SECONDS)), Ok(()));
        assert_eq!(check(&[mine], now.plus(CHALLENGE_SECONDS + 1)), Err("challenge.old".to_owned()));
        assert_eq!(check(&[mine], now.minus(CHALLENGE_SECONDS + 1)), Err("challenge.old".to_owned()));
        assert_eq!(check(&[other], now), Err("challenge.foreign".to_owned()));
        assert_eq!(check(&[], now), Err("challenge.foreign".to_owned()));
        assert_eq!(check(&[mine; CHALLENGES_MAX + 1], now), Err("challenge.number".to_owned()));
        for bit in 0..256 {
            let mut bytes = *mine.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&[Digest::from_bytes(bytes)], now), Err("challenge.foreign".to_owned()), "bit {bit}");
        }
    }

    #[test]
    fn the_join_depends_on_every_challenge_and_on_their_order() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let joins = [join(&[a]), join(&[b]), join(&[a, b]), join(&[b, a]), join(&[a, a]), join(&[])];
        assert_eq!(std::collections::BTreeSet::from(joins).len(), joins.len());
    }
}
