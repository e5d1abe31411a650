//! The swarm key: a key of which every member of a committee has a share, and which nobody ever has whole. Objects' keys are
//! wrapped to it under a [`Label`]; `t` of `n` members release what opens that label, and no other.
//!
//! It is *not* a protocol: it has no clock, no messages and no memory. It deals, checks, adds up and opens; who may be a member,
//! when a committee is in force and whether somebody may have a release, its callers decide. Nor is it post-quantum: X-Wing
//! protects shares and partials on their way, but what is wrapped to the swarm falls with discrete logarithms on BLS12-381.
//!
//! | step | by whom | what |
//! |---|---|---|
//! | [`Ceremony::deal`] | every member of a first committee | a random polynomial: commitment, proof, a sealed share for each |
//! | [`Ceremony::redeal`] | members of the committee before | the same of the share they hold, to any new committee and threshold |
//! | [`Ceremony::check`] | anybody | is this dealing sound, as far as everybody can see? |
//! | [`Ceremony::open`] | every member | is mine the one committed to? |
//! | [`Ceremony::roster`] | anybody | the public result: the same bytes for whoever takes the same dealings |
//! | [`Ceremony::share`] | every member | its share of the key |
//! | [`SwarmSealed::seal`] | owners of objects | wraps an object's key to key and label |
//! | [`Share::release`] | `t` members | a partial, sealed to who asks |
//! | [`Opener`] | who asked | checks, names liars, adds up, opens |
//!
//! # The mathematics
//! Groups are those of BLS12-381, written additively; `g` generates G2; a member's index `i` (from 1) is its abscissa. A dealer
//! commits to `f` of degree t-1 by `g·a_0 .. g·a_{t-1}` (Feldman, *A practical scheme for non-interactive verifiable secret
//! sharing*, FOCS 1987) and gives member `i` the value `f(i)`. First committee: polynomials and shares are sums (Pedersen,
//! EUROCRYPT 1991). Later ones: `t_old` dealers share their shares, and the sums are weighted by Lagrange's coefficients at zero
//! (Desmedt and Jajodia, *Redistributing secret shares to new access structures and its applications*, 1997): the constant, which
//! is the key, stays. A partial is the BLS signature (min-sig: G1, 48 bytes) of a share on the label, `t` of them interpolate to
//! that of the key (Boldyreva, PKC 2003), which is the label's private key of Boneh and Franklin's identity-based encryption
//! (CRYPTO 2001, with the Fujisaki-Okamoto transform; the arithmetic of it is commonware's `tle`).
//!
//! A dealing proves that its dealer knows *all* its coefficients, by one Schnorr proof for all (Gennaro, Leigh, Sundaram,
//! Yerazunis, ASIACRYPT 2004), bound to ceremony and dealer. Where t > (n+1)/2, fewer honest members than t hold a dealer to
//! nothing by accepting their shares, and t-1 liars could otherwise deal what cancels the honest dealings and know the key (rogue
//! keys; Komlo and Goldberg's FROST, SAC 2020, proves the constant for that reason; the leading coefficient could be cancelled
//! likewise, which lowers the threshold).
//!
//! # Why a label
//! A release of plain threshold ElGamal is `s·U` for the `U` that the asker names, and nothing ties `U` to what it may read:
//! whoever may read *something* asks for `U + g·r` of a stranger's object under its own label, and subtracts. Here members sign
//! the label, and never see a ciphertext: what they release opens everything under that label and nothing else. So **one label,
//! one object's key**, and who may read what changes by wrapping anew under another label.
//!
//! # Assumptions, and what follows
//! At most t-1 members of any one committee collude, and the others erase the shares of past committees. Then nobody learns the
//! key. A key's distribution can be biased by who deals last (Gennaro, Jarecki, Krawczyk, Rabin, J. Cryptology 2007), which BLS
//! and IBE withstand. Which `t` or more dealings count must be agreed on: [`Roster::digest`] is what members sign.
//!
//! # Formats
//! Integers are big-endian; points are compressed as in the draft draft-irtf-cfrg-pairing-friendly-curves, appendix C; every
//! field has one spelling, and what follows the last is an error. Points are checked to be in their groups and not the identity,
//! scalars to be reduced and not zero.
//!
//! ```text
//! dealing        = "legation-deal-v1" ceremony(32) dealer(2) t(2) n(2) point(96)*t challenge(32) response(32)
//!                  (encapsulated(1120) sealed(48))*n
//! roster         = "legation-rost-v1" ceremony(32) epoch(8) previous(32, zero in epoch 0) t(2) n(2) member(32)*n
//!                  dealings(2) (dealer(2) dealing(32))*dealings point(96)*t
//! share          = "legation-held-v1" roster(32) epoch(8) index(2) scalar(32)
//! sealed partial = "legation-part-v1" roster(32) label(32) index(2) encapsulated(1120) sealed(64)
//! sealed key     = "legation-lock-v1" SHA-256 of the swarm key(32) label(32) u(96) v(32) w(32)
//!
//! info of shares   = "legation-deal-v1" ceremony(32) dealer(2) member(2), aad = SHA-256 of the dealing's points and proof
//! info of partials = "legation-part-v1" roster(32) label(32) index(2) ask(32), aad empty
//! ```

mod ceremony;
mod combine;
mod curve;
mod dealing;
mod opener;
mod parcel;
mod proof;
mod release;
mod roster;
mod sealed;
mod share;
mod terms;
mod wire;

pub use self::{
    ceremony::{Ceremony, CeremonyError, Chair, Checked, DealError, DealingError, Subshare},
    combine::CombineError,
    dealing::Dealing,
    opener::{OpenError, Opened, Opener, PartError},
    release::{Partial, SealedPartial, UnsealError},
    roster::{Roster, SwarmKey},
    sealed::SwarmSealed,
    share::Share,
    terms::ShareIndex,
    wire::ReadError,
};
pub use legation_core::custody::{Epoch, Generation, Label, MEMBERS_MAX, MEMBERS_MIN, Threshold, ThresholdError};
