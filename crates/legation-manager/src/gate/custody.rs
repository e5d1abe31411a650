//! Ceremonies of swarm keys: custodians ask what is new on the boards of theirs, in pages, and say their words.
//!
//! A word is not answered: what became of it, its custodian sees on the board, and it says it again until then. One that is refused costs
//! the pool a copy of a board, so that a custodian may be refused [`BURST`] times at once and once more each [`EACH`]; it is not heard
//! beyond that. It is kept by the enclave and not by the channel: a new channel is no new beginning.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use legation_core::{EnclaveId, Rejection, SwarmName, custody::CustodyWord};
use legation_net::{
    Sender,
    custody::{CustodyNews, Seen},
    message::ToAgent,
};
use legation_pool::{Command, Pool};
use tracing::{debug, warn};

use super::{ARCHIVE_WAIT, Gate, LOOK_AGAIN, transient};
use crate::custody;

/// Words of one custodian that may be refused at once.
const BURST: u32 = 128;
/// How long each counts.
const EACH: Duration = Duration::from_millis(100);
/// Custodians that are kept before those are looked for that count no more.
const KEPT_MIN: usize = 64;

/// Custodians whose words were refused lately, and until when all their refusals count.
#[derive(Default)]
pub(crate) struct RefusedWords(Mutex<HashMap<EnclaveId, Instant>>);

impl RefusedWords {
    fn lock(&self) -> MutexGuard<'_, HashMap<EnclaveId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a custodian is heard.
    fn hears(&self, enclave: EnclaveId, now: Instant) -> bool {
        let until = self.lock().get(&enclave).copied();
        until.is_none_or(|until| until.saturating_duration_since(now) <= EACH * (BURST - 1))
    }

    /// A word of it is refused.
    fn refused(&self, enclave: EnclaveId, now: Instant) {
        let mut all = self.lock();
        if all.len() >= KEPT_MIN {
            all.retain(|_, until| *until > now);
        }
        let before = all.get(&enclave).map_or(now, |until| (*until).max(now));
        all.insert(enclave, before + EACH);
    }
}

/// Tells a custodian what is new of its swarm key. Who asks for another's, or for one that has no charter, is told nothing. Waits a while
/// for a leader or a store that does not answer; then the channel ends, and it is asked on the next.
pub(super) async fn tell(
    gate: &Gate,
    sender: &Sender,
    enclave: EnclaveId,
    (swarm, known): (SwarmName, [Option<Seen>; 2]),
) {
    let deadline = tokio::time::Instant::now() + ARCHIVE_WAIT;
    loop {
        match news(gate, enclave, &swarm, &known).await {
            Ok(news) => {
                if let Err(why) = sender.send_control(&ToAgent::Custody(Box::new(news))).await {
                    debug!(%enclave, %swarm, %why, "a custodian is not told of its swarm key");
                }
                return;
            }
            Err(why) if !may_pass(&why) => {
                debug!(%enclave, %swarm, %why, "a custodian is told nothing of a swarm key");
                return;
            }
            Err(why) if tokio::time::Instant::now() >= deadline => {
                warn!(%enclave, %swarm, %why, "a custodian cannot be told of its swarm key");
                sender.revoke(why);
                return;
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Whether the same question may be answered in a moment.
fn may_pass(why: &Rejection) -> bool {
    transient(why) || why.check == "archive.store"
}

async fn news(
    gate: &Gate,
    enclave: EnclaveId,
    swarm: &SwarmName,
    known: &[Option<Seen>; 2],
) -> Result<CustodyNews, Rejection> {
    let (of, known): (_, Vec<Seen>) = (swarm.clone(), known.iter().flatten().copied().collect());
    let page = gate.leader.ask(move |pool: &Pool| {
        let own = pool.enclaves().get(&enclave).and_then(|enclave| enclave.typical().configuration.custody.as_ref());
        if own.is_none_or(|own| own.swarm != of) {
            return Err(Rejection::new("custody.swarm", "swarm key that an enclave asks about")
                .expected(own.map_or("none: it is no custodian".to_owned(), |own| format!("`{}`, its own", own.swarm)))
                .got(&of));
        }
        custody::page(pool, &of, &known)
    });
    let page = page.await??;
    let peers = gate.leader.archive_for_agents().peers(&page.proofs).await?;
    Ok(custody::news(swarm.clone(), page, peers))
}

/// A custodian says its part. Where it does not count, nothing is said: it sees the board.
pub(super) async fn say(gate: &Gate, enclave: EnclaveId, word: Box<CustodyWord>) {
    let kind = word.kind();
    if !gate.refused_words.hears(enclave, Instant::now()) {
        debug!(%enclave, %kind, "a custodian is not heard: many of its words were refused");
        return;
    }
    if let Err(why) = gate.leader.apply(Command::SayCustody { enclave, word }).await {
        debug!(%enclave, %kind, %why, "a word of a custodian does not count");
        // What cannot be recorded now is nobody's fault: it is said again.
        if why.check.starts_with("custody.") {
            gate.refused_words.refused(enclave, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use legation_core::Digest;

    use super::*;

    /// Says so many words at once that are refused; gives how many were heard.
    fn heard(words: &RefusedWords, enclave: EnclaveId, now: Instant) -> u32 {
        let mut heard = 0;
        for _ in 0..2 * BURST {
            if words.hears(enclave, now) {
                heard += 1;
                words.refused(enclave, now);
            }
        }
        heard
    }

    #[test]
    fn who_is_refused_too_often_is_not_heard_for_a_while() {
        let (words, began) = (RefusedWords::default(), Instant::now());
        let [one, other] = [b"one", b"two"].map(|name| EnclaveId::new(Digest::of(name)));
        assert_eq!(heard(&words, one, began), BURST);
        assert_eq!(heard(&words, other, began), BURST, "each for itself");
        assert_eq!(heard(&words, one, began + EACH), 1);
        assert_eq!(heard(&words, one, began + EACH * 11), 10);
        assert_eq!(heard(&words, one, began + EACH * 1000), BURST);
    }

    #[test]
    fn who_is_refused_no_more_is_forgotten() {
        let (words, began) = (RefusedWords::default(), Instant::now());
        for n in 0..10 * KEPT_MIN as u32 {
            words.refused(EnclaveId::new(Digest::of(&n.to_be_bytes())), began + EACH * n);
        }
        assert!(words.lock().len() <= KEPT_MIN);
    }
}
