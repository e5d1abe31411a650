//! What the pool decided, done: messages to agents over their channels. At least once; agents know a lease they have seen.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use legation_core::{EnclaveId, LeaseId, Rejection};
use legation_net::message::{Offer, ToAgent, Upstream};
use legation_pool::OfferParts;
use tokio::sync::mpsc;
use tracing::debug;

/// What is to be sent to one agent, or done to its channel.
pub(crate) enum ToLink {
    Say(ToAgent),
    Close(Rejection),
}

/// Open channels to attested agents. The queue of a link is bounded by the leases its enclave may hold: an offer or a
/// cancellation each; so an unbounded queue cannot grow without bound.
#[derive(Clone, Default)]
pub(crate) struct Effects {
    links: Arc<Mutex<Links>>,
}

/// The channel of each enclave, by its number, and the way to it.
type Links = HashMap<EnclaveId, (u64, mpsc::UnboundedSender<ToLink>)>;

impl Effects {
    fn links(&self) -> std::sync::MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers the channel numbered `connection` as the way to `enclave`.
    pub(crate) fn attach(&self, enclave: EnclaveId, connection: u64) -> mpsc::UnboundedReceiver<ToLink> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let old = self.links().insert(enclave, (connection, sender));
        if let Some((_, old)) = old {
            let why = Rejection::new("channel.replaced", "this channel").got("a newer channel of the same enclave");
            let _ = old.send(ToLink::Close(why));
        }
        receiver
    }

    /// Forgets the channel; says whether it was still the way to `enclave`.
    pub(crate) fn detach(&self, enclave: EnclaveId, connection: u64) -> bool {
        let mut links = self.links();
        let ours = links.get(&enclave).is_some_and(|(number, _)| *number == connection);
        if ours {
            links.remove(&enclave);
        }
        ours
    }

    fn send(&self, enclave: EnclaveId, what: ToLink) {
        let link = self.links().get(&enclave).map(|(_, sender)| sender.clone());
        match link {
            Some(link) => {
                let _ = link.send(what);
            }
            // It is offered again when the enclave arrives, or its lease moves.
            None => debug!(%enclave, "no channel for an effect"),
        }
    }

    pub(crate) fn offer(&self, enclave: EnclaveId, parts: OfferParts) {
        let offer = Offer {
            term: parts.term,
            seq: parts.seq,
            allocation: parts.allocation,
            appointment: (*parts.appointment).clone(),
            request: (*parts.request).clone(),
            grants: parts.grants,
            keys: parts.keys,
            upstream: parts
                .upstream
                .into_iter()
                .map(|u| Upstream {
                    report: u.report,
                    passport: (*u.passport).clone(),
                    appointment: (*u.appointment).clone(),
                })
                .collect(),
        };
        self.send(enclave, ToLink::Say(ToAgent::Offer(Box::new(offer))));
    }

    pub(crate) fn cancel(&self, enclave: EnclaveId, lease: LeaseId) {
        self.send(enclave, ToLink::Say(ToAgent::Cancel { lease }));
    }

    pub(crate) fn close(&self, enclave: EnclaveId, why: Rejection) {
        self.send(enclave, ToLink::Close(why));
    }

    /// Whether there is a channel to `enclave`.
    pub(crate) fn is_attached(&self, enclave: EnclaveId) -> bool {
        self.links().contains_key(&enclave)
    }

    /// Channels open now.
    pub(crate) fn open(&self) -> usize {
        self.links().len()
    }
}
