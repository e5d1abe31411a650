//! What the pool decided, done: messages to agents over their channels. At least once; agents know a lease they have seen.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use legation_core::{EnclaveId, LeaseId, Rejection, RevocationEpoch, SwarmName};
use legation_net::message::ToAgent;
use legation_pool::{EnlistParts, LoanParts, OfferParts};
use tokio::sync::mpsc;
use tracing::debug;

use crate::revocations::{Pushed, RevocationsView, SignedRevocations};

/// What is to be sent to one agent, or done to its channel.
pub(crate) enum ToLink {
    Say(ToAgent),
    /// An offer, whose passports are yet to be read.
    Offer(Box<OfferParts>),
    /// A call to join a swarm, likewise.
    Enlist(Box<EnlistParts>),
    /// To whom it is lent, likewise.
    Lend(Box<LoanParts>),
    /// Who is lent to it, and what it called its asking, likewise.
    Lent(Option<u64>, Box<LoanParts>),
    /// The list of what is revoked, as it is when this is done: lists are long, and only the latest counts.
    Revocations,
    Close(Rejection),
}

/// Open channels to attested agents. The queue of a link is bounded by the leases its enclave may hold: an offer or a
/// cancellation each, of seats a call to join. What is said of loans, and checkpoints of the log, one in two seconds, come on top, and
/// of loans and of swarm keys there may be many, one after the other: what bounds them is that a channel that takes nothing for long ends.
#[derive(Clone, Default)]
pub(crate) struct Effects {
    links: Arc<Mutex<Links>>,
    pushed: Pushed,
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
        drop(links);
        self.pushed.gone(enclave, connection);
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
        self.send(enclave, ToLink::Offer(Box::new(parts)));
    }

    pub(crate) fn enlist(&self, enclave: EnclaveId, parts: EnlistParts) {
        self.send(enclave, ToLink::Enlist(Box::new(parts)));
    }

    pub(crate) fn lend(&self, enclave: EnclaveId, parts: LoanParts) {
        self.send(enclave, ToLink::Lend(Box::new(parts)));
    }

    pub(crate) fn lent(&self, enclave: EnclaveId, ask: Option<u64>, parts: LoanParts) {
        self.send(enclave, ToLink::Lent(ask, Box::new(parts)));
    }

    pub(crate) fn loan_ended(&self, enclave: EnclaveId, loan: LeaseId, why: String) {
        self.send(enclave, ToLink::Say(ToAgent::LoanEnded { loan, why }));
    }

    pub(crate) fn cancel(&self, enclave: EnclaveId, lease: LeaseId) {
        self.send(enclave, ToLink::Say(ToAgent::Cancel { lease }));
    }

    /// Tells a custodian that there is news of a swarm key; it asks for it.
    pub(crate) fn custody(&self, enclave: EnclaveId, swarm: SwarmName) {
        self.send(enclave, ToLink::Say(ToAgent::CustodyChanged { swarm }));
    }

    pub(crate) fn close(&self, enclave: EnclaveId, why: Rejection) {
        self.send(enclave, ToLink::Close(why));
    }

    /// Asks an agent to attest again; says whether there is a channel to it.
    pub(crate) fn reattest(&self, enclave: EnclaveId, why: &str) -> bool {
        self.send(enclave, ToLink::Say(ToAgent::Reattest { why: why.to_owned() }));
        self.is_attached(enclave)
    }

    /// Says something to every agent that is present.
    pub(crate) fn tell_all(&self, message: &ToAgent) {
        for (_, link) in self.links().values() {
            let _ = link.send(ToLink::Say(message.clone()));
        }
    }

    /// Sends a new list of revocations to every agent that is present. `began` is when the command came.
    pub(crate) fn revocations(&self, signed: SignedRevocations, began: Instant) {
        // Under the lock: whoever attaches after this is told the list when it does.
        let links = self.links();
        self.pushed.push(signed, links.iter().map(|(enclave, (number, _))| (*enclave, *number)), began);
        for (_, link) in links.values() {
            let _ = link.send(ToLink::Revocations);
        }
    }

    /// What a manager that begins to lead has to say to whoever comes.
    pub(crate) fn begin_with(&self, signed: SignedRevocations) {
        self.pushed.push(signed, std::iter::empty(), Instant::now());
    }

    /// Tells an agent that is present now what is revoked.
    pub(crate) fn tell_revocations(&self, enclave: EnclaveId) {
        if self.pushed.latest().is_some_and(|s| s.list.epoch > RevocationEpoch(0)) {
            self.send(enclave, ToLink::Revocations);
        }
    }

    /// An agent heeded the revocations; gives how long it took all that were present, when it was the last.
    pub(crate) fn heeded(&self, enclave: EnclaveId, connection: u64, epoch: RevocationEpoch) -> Option<Duration> {
        self.pushed.heeded(enclave, connection, epoch)
    }

    /// How far the last revocation has come.
    pub(crate) fn revocations_view(&self) -> RevocationsView {
        self.pushed.view()
    }

    /// The signed list.
    pub(crate) fn signed_revocations(&self) -> Option<Arc<SignedRevocations>> {
        self.pushed.latest()
    }

    /// Enclaves with a channel.
    pub(crate) fn attached(&self) -> Vec<EnclaveId> {
        self.links().keys().copied().collect()
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
