//! Renewals on an open channel: the exchange of the [handshake](crate::handshake) again, whoever begins it.
//!
//! Both sides may begin at once: a hello that comes while one's own is under way belongs to the same exchange, so the two
//! meet in one. An exchange is over, on both sides, before the next can begin.
//!
//! Checks beside those of the exchange:
//! 1. the peer begins at most [`RENEWALS_MAX`] exchanges in [`RENEWALS_WINDOW`];
//! 2. its role stays what it was;
//! 3. its standing never falls back to that of an applicant.

use std::{sync::Arc, time::Duration};

use legation_core::{Rejection, UnixTime, claims::Role};
use tokio::time::Instant;

use crate::{
    endpoint::nonce,
    handshake::{Exchange, Hello, Proof, Session},
    judge::{Credential, Judge, Standing},
};

/// Most renewals a peer may begin in [`RENEWALS_WINDOW`].
pub const RENEWALS_MAX: u32 = 30;
/// The window of [`RENEWALS_MAX`].
pub const RENEWALS_WINDOW: Duration = Duration::from_secs(60);

/// Renewals of one channel.
pub(crate) struct Renewals {
    session: Arc<Session>,
    own: Credential,
    theirs: Arc<Credential>,
    pending: Option<(Exchange, Instant)>,
    window: (Instant, u32),
}

/// What to say to a peer's hello.
pub(crate) struct Answer {
    /// First this, when the peer began.
    pub(crate) hello: Option<Hello>,
    /// Then this.
    pub(crate) proof: Proof,
}

impl Renewals {
    pub(crate) fn new(session: Arc<Session>, own: Credential, theirs: Credential) -> Self {
        Self { session, own, theirs: Arc::new(theirs), pending: None, window: (Instant::now(), 0) }
    }

    /// What the peer showed last.
    pub(crate) fn theirs(&self) -> Arc<Credential> {
        self.theirs.clone()
    }

    /// Since when an exchange is under way.
    pub(crate) fn pending_since(&self) -> Option<Instant> {
        self.pending.as_ref().map(|(_, since)| *since)
    }

    /// Begins an exchange with a credential, unless one is under way; gives the hello to say.
    pub(crate) fn begin(&mut self, credential: &Credential) -> Option<Hello> {
        if self.pending.is_some() {
            return None;
        }
        self.own = credential.clone();
        Some(self.start())
    }

    fn start(&mut self) -> Hello {
        let exchange = Exchange::begin(self.session.clone(), self.own.clone(), nonce());
        let hello = exchange.hello().clone();
        self.pending = Some((exchange, Instant::now()));
        hello
    }

    /// Takes the peer's hello.
    pub(crate) fn hear(&mut self, hello: Hello, judge: &dyn Judge, now: UnixTime) -> Result<Answer, Rejection> {
        let ours = if self.pending.is_none() {
            self.count()?;
            Some(self.start())
        } else {
            None
        };
        let Some((exchange, _)) = &mut self.pending else {
            return Err(Rejection::new("channel.order", "hello outside an exchange"));
        };
        let proof = exchange.hear(hello, judge, now)?;
        Ok(Answer { hello: ours, proof })
    }

    fn count(&mut self) -> Result<(), Rejection> {
        if self.window.0.elapsed() >= RENEWALS_WINDOW {
            self.window = (Instant::now(), 0);
        }
        self.window.1 += 1;
        if self.window.1 > RENEWALS_MAX {
            return Err(Rejection::new("channel.renewals", "number of renewals")
                .expected(format!("at most {RENEWALS_MAX} in {RENEWALS_WINDOW:?}"))
                .fix("renew when half of the passport's life is over, not more often"));
        }
        Ok(())
    }

    /// Takes the peer's proof, which ends the exchange.
    pub(crate) fn conclude(&mut self, proof: &Proof, role: Role, before: &Standing) -> Result<Standing, Rejection> {
        let Some((exchange, _)) = self.pending.take() else {
            return Err(Rejection::new("channel.order", "proof outside an exchange"));
        };
        let peer = exchange.conclude(proof)?;
        if peer.role != role {
            return Err(Rejection::new("channel.role", "role of the peer").expected(role).got(peer.role));
        }
        if before.is_admitted() && !peer.standing.is_admitted() {
            return Err(Rejection::new("channel.credential", "what the peer shows at a renewal")
                .expected("no less than before")
                .got("nothing")
                .fix("open another channel as an applicant"));
        }
        self.theirs = Arc::new(peer.credential);
        Ok(peer.standing)
    }
}
