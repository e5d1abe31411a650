//! What two sides say before the first application byte, and again at every renewal. No socket, no clock, no randomness.
//!
//! ```text
//! one side                                   other side
//!   | Hello { role, credential, nonce } ------->|
//!   |<------- Hello { role, credential, nonce } |     neither waits for the other
//!   |  judges                            judges |
//!   | Proof ----------------------------------->|     said only to a peer that was judged well
//!   |<----------------------------------- Proof |
//! ```
//!
//! TLS has proved that each side holds the key in its certificate, for this session. A [`Proof`] is a second signature by the
//! same key, over [`DOMAIN`] and, each of fixed length:
//!
//! | bytes | what |
//! |---|---|
//! | 1 + 1 | signer's role, reader's role |
//! | 32 | keying material of the session, of the signer's direction |
//! | 32 + 32 | signer's nonce, reader's nonce |
//! | 32 + 32 | SHA-256 of the signer's key (SPKI), of the reader's |
//! | 32 | digest of the signer's credential |
//!
//! So it is worth nothing in another session (keying material), to another reader (keys), the other way round (direction,
//! roles, nonces), for another credential or a second time (nonces).
//!
//! Checks on the peer, in this order:
//! 1. one Hello, then one Proof, each at its time;
//! 2. its version is [`VERSION`];
//! 3. the judge gives its role, key and credential a standing;
//! 4. its proof is by its key over the above.

use std::sync::Arc;

use legation_core::{
    Digest, PublicKey, Rejection, Signature, Signer, UnixTime,
    claims::Role,
    encoding::{base64, unbase64_array},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{
    judge::{Credential, Judge, Standing},
    tls::Exporters,
};

/// Version of this exchange.
pub const VERSION: u16 = 1;
/// Domain of what is signed.
pub const DOMAIN: &[u8] = b"legation-session-v1";

/// Which end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that dialled: TLS client.
    Dialler,
    /// The one that was dialled: TLS server.
    Listener,
}

/// Who a side says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Version of the exchange.
    pub version: u16,
    /// What it does in the pool.
    pub role: Role,
    /// What it shows.
    pub credential: Credential,
    /// Fresh for this exchange.
    pub nonce: Digest,
}

/// That the side that said [`Hello`] holds its key in this session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// By the identity key over what the module describes.
    #[serde(serialize_with = "write_signature", deserialize_with = "read_signature")]
    pub signature: Signature,
}

fn write_signature<S: Serializer>(signature: &Signature, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&base64(&signature.0))
}

fn read_signature<'de, D: Deserializer<'de>>(d: D) -> Result<Signature, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
    unbase64_array(&text).map(Signature).map_err(serde::de::Error::custom)
}

/// One end of one TLS session: what every exchange in it has in common.
pub struct Session {
    role: Role,
    signer: Arc<dyn Signer>,
    peer: PublicKey,
    ours: Zeroizing<[u8; 32]>,
    theirs: Zeroizing<[u8; 32]>,
}

impl Session {
    /// The session of `signer`, who does `role` at this `side`, with the holder of `peer`.
    pub fn new(side: Side, role: Role, signer: Arc<dyn Signer>, peer: PublicKey, exporters: Exporters) -> Self {
        let (ours, theirs) = match side {
            Side::Dialler => (exporters.client, exporters.server),
            Side::Listener => (exporters.server, exporters.client),
        };
        Self { role, signer, peer, ours, theirs }
    }

    /// The peer's key, as TLS proved it.
    pub fn peer(&self) -> &PublicKey {
        &self.peer
    }
}

/// One exchange, from its beginning until the peer's proof was checked.
pub struct Exchange {
    session: Arc<Session>,
    own: Hello,
    heard: Option<Heard>,
}

struct Heard {
    hello: Hello,
    standing: Standing,
}

/// A peer whose proof was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it does in the pool.
    pub role: Role,
    /// What it showed.
    pub credential: Credential,
    /// What that makes it.
    pub standing: Standing,
}

impl Exchange {
    /// Begins with a credential to show and a nonce that was never used before. Say [`Self::hello`] next.
    pub fn begin(session: Arc<Session>, credential: Credential, nonce: Digest) -> Self {
        let own = Hello { version: VERSION, role: session.role, credential, nonce };
        Self { session, own, heard: None }
    }

    /// What to say first.
    pub fn hello(&self) -> &Hello {
        &self.own
    }

    /// Takes the peer's hello, judges it as of `now`, and gives the proof to say next.
    ///
    /// # Errors
    /// Checks 1 to 3.
    pub fn hear(&mut self, hello: Hello, judge: &dyn Judge, now: UnixTime) -> Result<Proof, Rejection> {
        if self.heard.is_some() {
            return Err(Rejection::new("channel.order", "second hello in one exchange").expected("a proof"));
        }
        if hello.version != VERSION {
            return Err(Rejection::new("channel.version", "version of the peer's hello")
                .expected(VERSION)
                .got(hello.version)
                .fix("run the same version on both sides"));
        }
        let standing = judge.judge(hello.role, &self.session.peer, &hello.credential, now)?;
        let session = &self.session;
        let own_key = session.signer.public_key();
        let signature = session.signer.sign(&signed(&session.ours, (&self.own, &own_key), (&hello, &session.peer)));
        self.heard = Some(Heard { hello, standing });
        Ok(Proof { signature })
    }

    /// Takes the peer's proof; the exchange is then over.
    ///
    /// # Errors
    /// Checks 1 and 4.
    pub fn conclude(self, proof: &Proof) -> Result<Peer, Rejection> {
        let Some(Heard { hello, standing }) = self.heard else {
            return Err(Rejection::new("channel.order", "proof before a hello").expected("a hello"));
        };
        let session = &self.session;
        let message = signed(&session.theirs, (&hello, &session.peer), (&self.own, &session.signer.public_key()));
        session.peer.verify(&message, &proof.signature).map_err(|_| {
            Rejection::new("channel.proof", "proof that the peer speaks in this session")
                .expected(format!("a signature by {} over this session", session.peer.id()))
                .got("a signature over something else")
                .fix("nothing: somebody replayed, reflected or altered what another session said")
        })?;
        Ok(Peer { role: hello.role, credential: hello.credential, standing })
    }
}

/// The bytes of a proof by `signer` for `reader`.
fn signed(exporter: &[u8; 32], signer: (&Hello, &PublicKey), reader: (&Hello, &PublicKey)) -> Vec<u8> {
    let mut out = Vec::with_capacity(DOMAIN.len() + 2 + 6 * 32);
    out.extend_from_slice(DOMAIN);
    out.extend_from_slice(&[code(signer.0.role), code(reader.0.role)]);
    out.extend_from_slice(exporter);
    out.extend_from_slice(signer.0.nonce.as_bytes());
    out.extend_from_slice(reader.0.nonce.as_bytes());
    out.extend_from_slice(signer.1.id().digest().as_bytes());
    out.extend_from_slice(reader.1.id().digest().as_bytes());
    out.extend_from_slice(signer.0.credential.digest().as_bytes());
    out
}

/// The role in what is signed. Never renumber.
const fn code(role: Role) -> u8 {
    match role {
        Role::Agent => 1,
        Role::Manager => 2,
    }
}

#[cfg(test)]
mod tests {
    use legation_keys::IdentityKey;

    use super::*;

    /// Gives everybody the standing of an applicant.
    struct Anyone;

    impl Judge for Anyone {
        fn judge(&self, _: Role, _: &PublicKey, _: &Credential, _: UnixTime) -> Result<Standing, Rejection> {
            Ok(Standing::Applicant)
        }
    }

    fn exporters(seed: u8) -> Exporters {
        Exporters { client: Zeroizing::new([seed; 32]), server: Zeroizing::new([seed ^ 0xff; 32]) }
    }

    fn side(side: Side, own: u8, peer: u8, session: u8) -> Arc<Session> {
        let peer = IdentityKey::from_seed([peer; 32]).public_key();
        let role = if own == 2 { Role::Manager } else { Role::Agent };
        Arc::new(Session::new(side, role, Arc::new(IdentityKey::from_seed([own; 32])), peer, exporters(session)))
    }

    fn begin(session: Arc<Session>, nonce: u8) -> Exchange {
        Exchange::begin(session, Credential::None, Digest::from_bytes([nonce; 32]))
    }

    /// Both ends of one good exchange between keys 1 (dialler) and 2 (listener): hellos and proofs, as they travel.
    struct Run {
        hellos: [Hello; 2],
        proofs: [Proof; 2],
    }

    fn run(session: u8, nonces: [u8; 2]) -> (Run, Exchange) {
        let mut a = begin(side(Side::Dialler, 1, 2, session), nonces[0]);
        let mut b = begin(side(Side::Listener, 2, 1, session), nonces[1]);
        let hellos = [a.hello().clone(), b.hello().clone()];
        let proofs = [
            a.hear(hellos[1].clone(), &Anyone, UnixTime(0)).unwrap(),
            b.hear(hellos[0].clone(), &Anyone, UnixTime(0)).unwrap(),
        ];
        assert_eq!(a.conclude(&proofs[1]).unwrap().role, Role::Manager);
        (Run { hellos, proofs }, b)
    }

    #[test]
    fn a_proof_is_for_one_session_direction_and_nonce() {
        let (good, listener) = run(7, [1, 2]);
        assert_eq!(listener.conclude(&good.proofs[0]).unwrap().role, Role::Agent);

        for (name, proof) in [
            ("reflected", run(7, [1, 2]).0.proofs[1].clone()),
            ("of another session", run(8, [1, 2]).0.proofs[0].clone()),
            ("of an earlier exchange", run(7, [3, 2]).0.proofs[0].clone()),
            ("for an earlier exchange", run(7, [1, 3]).0.proofs[0].clone()),
            ("altered", {
                let mut proof = good.proofs[0].clone();
                proof.signature.0[0] ^= 1;
                proof
            }),
        ] {
            let refusal = run(7, [1, 2]).1.conclude(&proof).unwrap_err();
            assert_eq!(refusal.check, "channel.proof", "{name}");
        }
    }

    #[test]
    fn between_two_agents_a_proof_is_of_one_direction_too() {
        let agents = |nonces: [u8; 2]| {
            let of = |end: Side, own: u8, peer: u8| {
                let peer = IdentityKey::from_seed([peer; 32]).public_key();
                let signer = Arc::new(IdentityKey::from_seed([own; 32]));
                Arc::new(Session::new(end, Role::Agent, signer, peer, exporters(7)))
            };
            let mut dialler = begin(of(Side::Dialler, 1, 3), nonces[0]);
            let mut listener = begin(of(Side::Listener, 3, 1), nonces[1]);
            let hellos = [dialler.hello().clone(), listener.hello().clone()];
            let proofs = [
                dialler.hear(hellos[1].clone(), &Anyone, UnixTime(0)).unwrap(),
                listener.hear(hellos[0].clone(), &Anyone, UnixTime(0)).unwrap(),
            ];
            (proofs, listener)
        };
        let (proofs, listener) = agents([1, 2]);
        assert_eq!(listener.conclude(&proofs[0]).unwrap().role, Role::Agent);
        // Same roles, same nonces on both sides: what is left to tell the directions apart are keys and keying material.
        for (name, nonces) in [("reflected", [1, 2]), ("reflected, with one nonce for both", [1, 1])] {
            let (proofs, listener) = agents(nonces);
            assert_eq!(listener.conclude(&proofs[1]).unwrap_err().check, "channel.proof", "{name}");
        }
    }

    #[test]
    fn every_field_of_the_transcript_counts() {
        let (good, _) = run(7, [1, 2]);
        let key = IdentityKey::from_seed([1; 32]).public_key();
        let other = IdentityKey::from_seed([2; 32]).public_key();
        let base = signed(&[7; 32], (&good.hellos[0], &key), (&good.hellos[1], &other));
        assert_eq!(base.len(), DOMAIN.len() + 2 + 6 * 32);
        let mut shown = good.hellos[0].clone();
        let envelope = legation_core::dsse::sign(
            legation_core::statement::Appointment {
                operator: other,
                key,
                office: legation_core::statement::Office::Manager,
                scope: None,
                not_before: UnixTime(0),
                not_after: UnixTime(1),
            },
            &IdentityKey::from_seed([2; 32]),
        );
        shown.credential = Credential::Appointment { appointment: envelope.envelope().clone() };
        let mut role = good.hellos[0].clone();
        role.role = Role::Manager;
        let mut nonce = good.hellos[0].clone();
        nonce.nonce = Digest::from_bytes([9; 32]);
        for (name, changed) in [
            ("exporter", signed(&[8; 32], (&good.hellos[0], &key), (&good.hellos[1], &other))),
            ("credential", signed(&[7; 32], (&shown, &key), (&good.hellos[1], &other))),
            ("own role", signed(&[7; 32], (&role, &key), (&good.hellos[1], &other))),
            ("peer role", signed(&[7; 32], (&good.hellos[0], &key), (&good.hellos[0], &other))),
            ("own nonce", signed(&[7; 32], (&nonce, &key), (&good.hellos[1], &other))),
            ("own key", signed(&[7; 32], (&good.hellos[0], &other), (&good.hellos[1], &other))),
            ("peer key", signed(&[7; 32], (&good.hellos[0], &key), (&good.hellos[1], &key))),
        ] {
            assert_ne!(base, changed, "{name}");
        }
    }

    #[test]
    fn order_and_version_are_kept() {
        let hello = begin(side(Side::Listener, 2, 1, 7), 2).hello().clone();
        let mut exchange = begin(side(Side::Dialler, 1, 2, 7), 1);
        let newer = Hello { version: 2, ..hello.clone() };
        assert_eq!(exchange.hear(newer, &Anyone, UnixTime(0)).unwrap_err().check, "channel.version");
        let proof = exchange.hear(hello.clone(), &Anyone, UnixTime(0)).unwrap();
        assert_eq!(exchange.hear(hello, &Anyone, UnixTime(0)).unwrap_err().check, "channel.order");
        let fresh = begin(side(Side::Dialler, 1, 2, 7), 1);
        assert_eq!(fresh.conclude(&proof).unwrap_err().check, "channel.order");
    }
}
