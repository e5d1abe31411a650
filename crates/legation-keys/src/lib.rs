//! The keys an enclave is born with, and what is sealed to them: identity (Ed25519), sealing (HPKE with X-Wing), and
//! objects of any size under a key of their own.
//!
//! It is *not* a key store, a key service or a certificate authority: it writes no file, speaks to nobody and decides
//! nothing about who may have a key. It reads no clock, and randomness is an argument ([`Entropy`]).
//!
//! Secrets are wiped when dropped, never shown by `Debug`, and compared in constant time. A value that Rust moves may leave
//! a copy behind on the stack; wiping narrows the window, the enclave's memory encryption is the wall.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod entropy;
mod identity;
mod object;
mod sealing;
pub mod store;
pub mod swarm;
mod text;

pub use entropy::Entropy;
pub use identity::{IdentityKey, IdentityKeyError, PEM_MAX};
pub use object::{
    OBJECT_MAX, ObjectKey, OpenError, OpenReader, SEGMENT, SEGMENTS_MAX, SealError, SealWriter, Sealed, TAG,
    commitment, commitment_key, open, opened_len, seal, sealed_len,
};
pub use sealing::{ENCAPSULATED_LEN, SealingKey, UnwrapError, WRAPPED_LEN, WrapError, wrap};
pub use text::KeyTextError;
