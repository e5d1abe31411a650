//! How this manager stands, as every thread may read it: whether it leads, who else does, and what is wrong with the journal.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use legation_core::{Rejection, Seq, Term};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::journal::{Advertised, Head, Holder};

/// Whether this manager leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It does, in this term, which began at this position.
    Leads(Term, Seq),
    /// It does not.
    Follows,
}

/// A manager, as `GET /v1/manager` shows it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ManagerView {
    /// What people call it.
    pub name: String,
    /// `leads` or `follows`.
    pub role: String,
    /// The newest term it knows of.
    pub term: u64,
    /// Who leads; nothing when nobody does.
    pub leader: Option<LeaderView>,
    /// Position that this manager has read, or made durable.
    pub seq: u64,
    /// Records that it has yet to read.
    pub lag_records: u64,
    /// Milliseconds since it last knew that it had read everything.
    pub lag_ms: u64,
    /// Kind of the journal's store: `sqlite` or `postgres`.
    pub store: String,
    /// Position of the last snapshot.
    pub snapshot: Option<u64>,
    /// What is wrong with the journal, if anything is.
    pub trouble: Option<String>,
}

/// A leader, as a manager shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaderView {
    /// What people call it.
    pub name: String,
    /// Where agents connect: `host:port`.
    pub agents: String,
    /// Where clients connect: a base URL.
    pub api: String,
}

/// What is told of the journal.
struct Told {
    head: Head,
    seq: Seq,
    /// When it was last known to have read everything.
    heard: Instant,
    trouble: Option<String>,
    snapshot: Option<Seq>,
    /// No snapshot is begun before.
    rest_until: Instant,
}

/// How this manager stands.
pub(super) struct Standing {
    name: String,
    instance: u64,
    store: &'static str,
    began: Instant,
    role: watch::Sender<Role>,
    told: Mutex<Told>,
    /// Milliseconds from `began` until which answers are good.
    good_until: AtomicU64,
    /// Nothing is taken while it is unknown what became of a batch.
    stalled: AtomicBool,
}

impl Standing {
    pub(super) fn new(name: String, instance: u64, store: &'static str) -> Self {
        let began = Instant::now();
        let told =
            Told { head: Head::default(), seq: Seq(0), heard: began, trouble: None, snapshot: None, rest_until: began };
        Self {
            name,
            instance,
            store,
            began,
            role: watch::channel(Role::Follows).0,
            told: Mutex::new(told),
            good_until: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since this process began: the clock of leadership.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    pub(super) fn set_role(&self, role: Role) {
        self.role.send_if_modified(|now| std::mem::replace(now, role) != role);
    }

    pub(super) fn leads(&self) -> bool {
        matches!(*self.role.borrow(), Role::Leads(..))
    }

    /// Answers are good until then; never when there is no such time.
    pub(super) fn set_good_until(&self, until: Option<Duration>) {
        let until = until.map_or(0, |until| u64::try_from(until.as_millis()).unwrap_or(u64::MAX));
        self.good_until.store(until, Ordering::Release);
    }

    /// Whether this manager surely leads now.
    pub(super) fn is_good(&self) -> bool {
        self.now().as_millis() < u128::from(self.good_until.load(Ordering::Acquire))
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Release);
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }

    /// The store answered.
    pub(super) fn heard(&self, head: &Head, seq: Seq) {
        let mut told = self.told();
        told.head = head.clone();
        told.seq = seq;
        if seq >= told.head.last {
            told.heard = Instant::now();
        }
    }

    /// Records are durable.
    pub(super) fn durable(&self, seq: Seq) {
        let mut told = self.told();
        told.seq = seq;
        told.head.last = told.head.last.max(seq);
        told.heard = Instant::now();
    }

    pub(super) fn trouble(&self, why: String) {
        self.told().trouble = Some(why);
    }

    pub(super) fn no_trouble(&self) {
        self.told().trouble = None;
    }

    pub(super) fn trouble_now(&self) -> Option<String> {
        self.told().trouble.clone()
    }

    pub(super) fn saved(&self, snapshot: Option<Seq>) {
        let mut told = self.told();
        told.snapshot = told.snapshot.max(snapshot);
    }

    /// No snapshot is begun for so long.
    pub(super) fn rest_snapshots(&self, time: Duration) {
        let until = Instant::now().checked_add(time);
        let mut told = self.told();
        told.rest_until = until.unwrap_or(told.rest_until);
    }

    pub(super) fn snapshots_rested(&self) -> bool {
        self.told().rest_until <= Instant::now()
    }

    pub(super) fn snapshot(&self) -> Option<Seq> {
        self.told().snapshot
    }

    /// Where another leads.
    pub(super) fn leader(&self) -> Option<Advertised> {
        let told = self.told();
        self.other(&told.head).map(|holder| holder.candidate.addresses.clone())
    }

    fn other<'a>(&self, head: &'a Head) -> Option<&'a Holder> {
        head.holder.as_ref().filter(|h| !h.expired && h.candidate.instance != self.instance)
    }

    /// Why nothing is taken here: another leads, and where; or the journal cannot be written.
    pub(super) fn refusal(&self) -> Rejection {
        let told = self.told();
        if !self.leads()
            && let Some(other) = self.other(&told.head)
        {
            return standby(&other.candidate.addresses.api);
        }
        match &told.trouble {
            Some(why) => cannot_append(why),
            None => standby(""),
        }
    }

    pub(super) fn view(&self, own: &Advertised) -> ManagerView {
        let (leads, told) = (self.leads(), self.told());
        let leader = if leads {
            Some(LeaderView { name: self.name.clone(), agents: own.agents.clone(), api: own.api.clone() })
        } else {
            self.other(&told.head).map(|holder| LeaderView {
                name: holder.candidate.name.clone(),
                agents: holder.candidate.addresses.agents.clone(),
                api: holder.candidate.addresses.api.clone(),
            })
        };
        ManagerView {
            name: self.name.clone(),
            role: if leads { "leads" } else { "follows" }.to_owned(),
            term: told.head.term().0,
            leader,
            seq: told.seq.0,
            lag_records: told.head.last.0.saturating_sub(told.seq.0),
            lag_ms: u64::try_from(told.heard.elapsed().as_millis()).unwrap_or(u64::MAX),
            store: self.store.to_owned(),
            snapshot: told.snapshot.map(|seq| seq.0),
            trouble: told.trouble.clone(),
        }
    }
}

/// This manager does not lead; `leader` is where another does, empty when nobody is known to.
pub(crate) fn standby(leader: &str) -> Rejection {
    let refusal = Rejection::new("manager.standby", "this manager").expected("the one that leads");
    if leader.is_empty() {
        return refusal.fix("nobody leads at the moment: try again in a moment, or another manager");
    }
    refusal.got(leader).fix(format!("go to the leader: {leader}"))
}

/// The pool is being read anew after a defect.
pub(super) fn read_anew() -> Rejection {
    Rejection::new("manager.busy", "the pool")
        .expected("what the journal says")
        .got("being read anew from the journal, after a defect of this program")
        .fix("try again in a moment")
}

/// It will not be found out here whether something was written.
pub(super) fn cannot_tell(why: &str) -> Rejection {
    Rejection::new("manager.unsettled", "writing to the journal")
        .expected("a durable record, or none")
        .got(format!("{why}; it may have been written, or not"))
        .fix("look whether it happened once the journal is back, or repeat it under the same idempotency key")
}

/// The journal cannot be written.
pub(super) fn cannot_append(why: &str) -> Rejection {
    Rejection::new("journal.append", "writing to the journal").expected("a durable record").got(why).fix(
        "nothing of this request happened: free space on the journal's disk, or bring its database back, and try again",
    )
}
