//! This enclave, lent to another: which loans there are, and which channels belong to them.
//!
//! 1. A loan is taken when the manager's word on it holds ([`crate::lending`]) and it fits into what is left; it counts as what runs
//!    until it ends.
//! 2. A channel is for one loan, the one its first message describes, and only for the borrower that this loan names: the same keys, in
//!    the same slot of the same chip ([`check_peer`]). Everybody else is told why and turned away.
//! 3. One task serves one loan ([`loan`]): calls one after the other, each in the engine like any work.

mod answer;
mod loan;
mod proven;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_core::{
    EnclaveId, LeaseId, Rejection,
    delegation::{call::check_peer, session::ToDelegate},
};
use legation_net::{
    Channel, Incoming, Standing,
    delegation::ToLent,
    message::{Lending, ToManager},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{agent::Inner, lending, passports::none_for, status::Status};
use loan::Event;

/// How long a peer may take to say which loan it is about.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// Channels of one peer at once that are not with their loans yet: there is room for others, however many it opens.
const GREETINGS_MAX: usize = 16;
/// How long a peer waits for a loan that this enclave has not heard of: the borrower may be told first.
const UNHEARD: Duration = Duration::from_secs(2);
/// Events of one loan that wait.
const EVENTS_MAX: usize = 64;

/// One loan as others here see it.
#[derive(Clone)]
struct Served {
    lending: Arc<Lending>,
    events: mpsc::Sender<Event>,
    ended: watch::Sender<bool>,
}

/// The loans of this enclave.
pub(crate) struct Loans {
    served: Mutex<BTreeMap<LeaseId, Served>>,
    /// Counts loans that were taken.
    taken: watch::Sender<u64>,
    /// Channels that are not with their loans yet, by who is at their other end.
    greeted: Mutex<BTreeMap<EnclaveId, usize>>,
}

/// One such channel, while it lives.
struct Greeting<'a> {
    greeted: &'a Mutex<BTreeMap<EnclaveId, usize>>,
    peer: EnclaveId,
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        let mut greeted = self.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = greeted.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                greeted.remove(&self.peer);
            }
        }
    }
}

impl Default for Loans {
    fn default() -> Self {
        Self { served: Mutex::default(), taken: watch::Sender::new(0), greeted: Mutex::default() }
    }
}

impl Loans {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more channel of a peer, if it has not too many that are not with their loans.
    fn greeting(&self, peer: EnclaveId) -> Option<Greeting<'_>> {
        let mut greeted = self.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = greeted.entry(peer).or_default();
        if *count >= GREETINGS_MAX {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Greeting { greeted: &self.greeted, peer })
    }

    /// The loan, once there is one.
    async fn find(&self, loan: LeaseId) -> Option<Served> {
        let mut taken = self.taken.subscribe();
        let found = async {
            loop {
                if let Some(served) = self.lock().get(&loan).cloned() {
                    return served;
                }
                if taken.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        timeout(UNHEARD, found).await.ok()
    }

    /// A loan is over: what runs of it stops.
    pub(crate) fn end(&self, loan: LeaseId) {
        if let Some(served) = self.lock().remove(&loan) {
            served.ended.send_replace(true);
        }
    }

    /// All are over.
    pub(crate) fn end_all(&self) {
        for served in std::mem::take(&mut *self.lock()).into_values() {
            served.ended.send_replace(true);
        }
    }
}

/// Takes a loan of this enclave; what to say to the manager, where it is refused.
pub(crate) fn lend(agent: &Arc<Inner>, lending: Lending) -> Option<ToManager> {
    let lease = lending.allocation.lease;
    let refuse = |why: Rejection| {
        agent.tell(Status::Refused { lease, why: why.clone() });
        Some(ToManager::Refuse { lease, why })
    };
    let Some(terms) = lending.allocation.loan else {
        return refuse(Rejection::new("loan.allocation", "the allocation").expected("one of a loan").got("another"));
    };
    if agent.passports().for_tenant(&lending.request.tenant).is_empty() {
        return refuse(none_for(&lending.request.tenant));
    }
    let revoked = agent.revocations.all();
    let lending = Arc::new(lending);
    let tenant = &lending.request.tenant;
    let (events, heard) = mpsc::channel(EVENTS_MAX);
    let ended = watch::Sender::new(false);
    let over = ended.subscribe();
    {
        // Judged and entered under one lock: what is left is what was judged, and what ends from here on is found.
        let mut books = agent.books();
        if books.is_over(lease) || agent.loans.lock().contains_key(&lease) {
            return None;
        }
        let standing = lending::Standing {
            identity: agent.boot.identity.enclave_id(),
            operators: &agent.config.operators,
            revoked: &revoked,
            obeyed: books.obeyed().0,
            now: agent.now(),
        };
        let judged =
            books.open().and_then(|()| lending::judge_lend(&lending, &books.left(), agent.memory_max, &standing));
        if let Err(why) = judged {
            drop(books);
            return refuse(why);
        }
        books.lend(lease, terms.demand, (lending.term, lending.seq));
        agent.loans.lock().insert(lease, Served { lending: lending.clone(), events: events.clone(), ended });
    }
    if !loan::serve(agent, lending.clone(), events, heard, over) {
        agent.loans.end(lease);
        agent.books().end(lease);
        return refuse(none_for(tenant));
    }
    agent.tell(Status::Lent { loan: lease, borrower: terms.borrower });
    agent.loans.taken.send_modify(|taken| *taken = taken.wrapping_add(1));
    None
}

/// Hands a channel that another agent opened to the loan that it is for.
pub(crate) async fn greet(agent: Arc<Inner>, mut channel: Channel) {
    let shown = agent.peers.watch();
    let refuse = |channel: &Channel, expected: &str, got: String| {
        let why = Rejection::new("agent.peer", "channel of another agent").expected(expected).got(got);
        tracing::debug!(%why, "turned another agent away");
        channel.sender().revoke(why);
    };
    let peer = match channel.sender().standing() {
        Standing::Attested(met) => met.enclave_id(),
        other => return refuse(&channel, "one of an attested enclave", other.to_string()),
    };
    let Some(_place) = agent.loans.greeting(peer) else {
        let expected = format!("at most {GREETINGS_MAX} at once that are not with their loans");
        return refuse(&channel, &expected, "another".to_owned());
    };
    let said = async {
        loop {
            match channel.receiver().recv().await {
                // A passport that is new since the channel opened may come first: it is looked at below.
                Ok(Incoming::Renewed(_)) => {}
                said => return said,
            }
        }
    };
    let first = timeout(FIRST_WORD, said).await;
    let word = match first {
        Ok(Ok(Incoming::Control(message))) => serde_json::from_slice::<ToLent>(&message).map_err(|e| e.to_string()),
        Ok(Ok(_)) => Err("something else".to_owned()),
        Ok(Err(error)) => return tracing::debug!(%error, "another agent came and went"),
        Err(_) => Err("nothing".to_owned()),
    };
    let described = word.and_then(|word| match word {
        ToLent::Session(session) => match *session {
            ToDelegate::Describe { loan, grant, grants } => Ok((loan, ToDelegate::Describe { loan, grant, grants })),
            _ => Err("another word of the session".to_owned()),
        },
        _ => Err("another message".to_owned()),
    });
    let (loan, describe) = match described {
        Ok(described) => described,
        Err(got) => {
            refuse(&channel, "the loan it is for, first of all", got);
            // Whoever is turned away is told, if it listens.
            drop(timeout(FIRST_WORD, channel.sender().closed()).await);
            return;
        }
    };
    let served = agent.loans.find(loan).await;
    let checked = match (&served, channel.sender().standing()) {
        (Some(served), Standing::Attested(met)) => check_peer(&served.lending.other.passport, &met),
        (None, _) => Err(Rejection::new("agent.peer", "loan that the channel is for")
            .expected("one of this enclave that lasts")
            .got(loan)),
        (Some(_), other) => {
            Err(Rejection::new("agent.peer", "who is on the other end").expected("an attested enclave").got(other))
        }
    };
    match (checked, served) {
        (Ok(()), Some(served)) => {
            let opened = Event::Opened { channel, describe: Box::new(describe), shown };
            // A loan that ended meanwhile needs no channel.
            let _ = served.events.send(opened).await;
        }
        (Err(why), _) => {
            tracing::warn!(%why, "turned another agent away");
            channel.sender().revoke(why);
            drop(timeout(FIRST_WORD, channel.sender().closed()).await);
        }
        (Ok(()), None) => {}
    }
}
