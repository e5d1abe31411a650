//! What this agent has promised: leases it runs, reports nobody has acknowledged, leases it is done with.
//!
//! Invariants
//! 1. What runs never exceeds the capacity offered: a lease is entered only when its demand fits into what is left.
//! 2. A lease is entered once. Offered again it changes nothing: it runs already, or its report is sent again, or it is over.
//! 3. A report is kept, with the ciphertexts it names, until it is acknowledged or the lease cancelled; while too many are kept,
//!    nothing new is entered.
//! 4. A loan of this enclave to another counts as what runs while it lasts, whether or not a call runs.
//! 5. A fragment of a swarm is run only within a seat whose round this agent joined, and that has not ended.
//! 6. All is bounded: what runs and is lent by slots, reports by [`PENDING_MAX`] and [`PENDING_BYTES_MAX`] and what runs, the memory of
//!    leases that are over by a number of its own.
//!
//! Nothing here waits, reads a clock or draws randomness; public so that a simulation keeps the same books.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use legation_core::{
    Digest, LeaseId, Millicores, Rejection, Seq, Term, claims::Capacity, statement::Allocation, swarm::SeatDemand,
    task::Demand, unit::Bytes,
};
use legation_net::message::Reported;
use tokio::sync::Notify;

use crate::engine::Cancel;

/// Reports kept before nothing new is taken.
pub const PENDING_MAX: usize = 4096;
/// Bytes of ciphertexts kept with reports before nothing new is taken.
pub const PENDING_BYTES_MAX: usize = 512 << 20;
/// Rounds of one seat that are remembered: as many as a pool lets a task have.
const ROUNDS_MAX: usize = 256;
/// Seats whose rounds are remembered.
const SEATS_MAX: usize = 1024;
/// Leases remembered as over.
const OVER_MAX: usize = 8192;

/// A finished execution that the manager has not acknowledged.
#[derive(Debug)]
pub struct Pending {
    /// Under which promise.
    pub lease: LeaseId,
    /// What is said of it.
    pub reported: Reported,
    /// Sealed output and log.
    pub objects: Vec<(Digest, bytes::Bytes)>,
}

impl Pending {
    fn size(&self) -> usize {
        self.objects.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// Stops one run, wherever it is: waiting for its inputs or in the engine.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    pub(crate) cancel: Cancel,
    pub(crate) notify: Arc<Notify>,
}

impl Stop {
    fn stop(&self) {
        self.cancel.cancel();
        self.notify.notify_one();
    }
}

#[derive(Debug)]
struct Running {
    allocation: Digest,
    stop: Stop,
    demand: Demand,
}

/// This enclave, lent to another.
#[derive(Debug)]
struct Lent {
    demand: SeatDemand,
    /// Whether a call runs.
    busy: bool,
}

/// What is known of a lease that is offered again.
#[derive(Debug)]
pub enum Entry {
    /// It runs already, or is over.
    Known,
    /// It was run: send this again.
    Again(Arc<Pending>),
}

/// The books of one boot.
#[derive(Debug)]
pub struct Books {
    capacity: Capacity,
    obeyed: (Term, Seq),
    running: HashMap<LeaseId, Running>,
    pending: BTreeMap<LeaseId, Arc<Pending>>,
    pending_bytes: usize,
    /// The rounds that were joined, by seat: the membership of each.
    joined: BTreeMap<LeaseId, VecDeque<Digest>>,
    /// Loans of this enclave to others.
    lent: BTreeMap<LeaseId, Lent>,
    /// Loans of others to this enclave.
    borrowed: BTreeSet<LeaseId>,
    /// Answers that are to be proven, until the manager has the proofs.
    proving: usize,
    over: HashSet<LeaseId>,
    over_order: VecDeque<LeaseId>,
    draining: bool,
    /// Of a custodian that runs no modules.
    alone: bool,
}

impl Books {
    /// Empty books of an agent that offers `capacity`.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            obeyed: (Term(0), Seq(0)),
            running: HashMap::new(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            joined: BTreeMap::new(),
            lent: BTreeMap::new(),
            borrowed: BTreeSet::new(),
            proving: 0,
            over: HashSet::new(),
            over_order: VecDeque::new(),
            draining: false,
            alone: false,
        }
    }

    /// The same of a custodian that runs no modules: nothing is ever entered.
    pub fn of_custodian(capacity: Capacity) -> Self {
        Self { alone: true, ..Self::new(capacity) }
    }

    /// Enters a round of a swarm that this agent signed. The latest of each seat are kept, and the latest seats.
    pub fn join(&mut self, seat: LeaseId, membership: Digest) {
        if self.over.contains(&seat) {
            return;
        }
        let rounds = self.joined.entry(seat).or_default();
        if !rounds.contains(&membership) {
            rounds.push_back(membership);
        }
        if rounds.len() > ROUNDS_MAX {
            rounds.pop_front();
        }
        if self.joined.len() > SEATS_MAX {
            self.joined.pop_first();
        }
    }

    /// Whether an allocation is outside of swarms, or within a seat whose round this agent joined.
    ///
    /// # Errors
    /// `offer.member`: it did not, or the seat has ended.
    pub fn check_member(&self, allocation: &Allocation) -> Result<(), Rejection> {
        let Some(seat) = allocation.seat else { return Ok(()) };
        let joined = self.joined.get(&seat.lease);
        if joined.is_some_and(|rounds| rounds.iter().any(|m| allocation.prev.contains(m))) {
            return Ok(());
        }
        Err(Rejection::new("offer.member", format!("round {} of the swarm, seat {}", seat.round, seat.lease))
            .expected("one that this enclave joined, with the allocation resting on its word")
            .got(if joined.is_some() { "another round" } else { "a seat that ended, or that it never had" })
            .fix("nothing: it is asked to join before it is given work"))
    }

    /// Highest term, and position in it, that this agent obeyed: it obeys no older term, and says so when it comes back.
    pub fn obeyed(&self) -> (Term, Seq) {
        self.obeyed
    }

    /// What is left to lease.
    pub fn left(&self) -> Capacity {
        let running = self.running.values().map(|r| (r.demand.cpu, r.demand.memory));
        let demands = || running.clone().chain(self.lent.values().map(|l| (l.demand.cpu, l.demand.memory)));
        let cpu: Millicores = demands().map(|(cpu, _)| cpu).sum();
        let memory: Bytes = demands().map(|(_, memory)| memory).sum();
        let slots = u32::try_from(self.running.len().saturating_add(self.lent.len())).unwrap_or(u32::MAX);
        Capacity {
            cpu: self.capacity.cpu.saturating_sub(cpu),
            memory: self.capacity.memory.saturating_sub(memory),
            slots: self.capacity.slots.saturating_sub(slots),
        }
    }

    /// What is known of a lease that is offered, before it is judged.
    pub fn known(&self, lease: LeaseId, allocation: Digest) -> Option<Entry> {
        if let Some(running) = self.running.get(&lease) {
            if running.allocation != allocation {
                tracing::warn!(%lease, "a lease that runs was offered under another allocation: ignored");
            }
            return Some(Entry::Known);
        }
        if let Some(pending) = self.pending.get(&lease) {
            return Some(Entry::Again(pending.clone()));
        }
        self.over.contains(&lease).then_some(Entry::Known)
    }

    /// Whether anything new may be entered at all.
    ///
    /// # Errors
    /// Why not: this agent runs no modules, is being stopped, or its reports are not acknowledged.
    pub fn open(&self) -> Result<(), Rejection> {
        if self.alone {
            return Err(Rejection::new("custody.alone", "whether this agent takes work")
                .expected("an agent that runs modules")
                .got("a custodian that runs none, by its configuration")
                .fix("nothing: the work goes to another enclave"));
        }
        if self.draining {
            return Err(Rejection::new("agent.draining", "whether this agent takes work")
                .expected("an agent that stays")
                .got("one that is being stopped")
                .fix("nothing: the work goes to another enclave"));
        }
        if self.pending.len() >= PENDING_MAX || self.pending_bytes >= PENDING_BYTES_MAX {
            return Err(Rejection::new("agent.backlog", "reports that were not acknowledged")
                .expected(format!("fewer than {PENDING_MAX}, of less than {PENDING_BYTES_MAX} bytes"))
                .got(format!("{}, of {} bytes", self.pending.len(), self.pending_bytes))
                .fix("see why the manager does not acknowledge reports"));
        }
        Ok(())
    }

    /// Enters an offer that was judged against [`Self::left`] without the books having changed since.
    pub fn enter(&mut self, lease: LeaseId, allocation: Digest, demand: Demand, obeyed: (Term, Seq)) -> Stop {
        self.obeyed = self.obeyed.max(obeyed);
        let stop = Stop::default();
        self.running.insert(lease, Running { allocation, stop: stop.clone(), demand });
        stop
    }

    /// Enters a loan of this enclave that was judged against [`Self::left`] without the books having changed since.
    pub fn lend(&mut self, loan: LeaseId, demand: SeatDemand, obeyed: (Term, Seq)) {
        self.obeyed = self.obeyed.max(obeyed);
        self.lent.insert(loan, Lent { demand, busy: false });
    }

    /// Whether a call of a loan runs.
    pub fn calls(&mut self, loan: LeaseId, busy: bool) {
        if let Some(lent) = self.lent.get_mut(&loan) {
            lent.busy = busy;
        }
    }

    /// Enters a loan to this enclave.
    pub fn borrowed(&mut self, loan: LeaseId) {
        self.borrowed.insert(loan);
    }

    /// A loan to this enclave is of no use any more.
    pub fn part(&mut self, loan: LeaseId) {
        self.borrowed.remove(&loan);
    }

    /// Whether a promise is over.
    pub fn is_over(&self, lease: LeaseId) -> bool {
        self.over.contains(&lease)
    }

    /// A run ended with a report. Nothing when it was cancelled meanwhile.
    pub fn report(&mut self, pending: Pending) -> Option<Arc<Pending>> {
        self.running.remove(&pending.lease)?;
        let pending = Arc::new(pending);
        self.pending_bytes += pending.size();
        self.pending.insert(pending.lease, pending.clone());
        Some(pending)
    }

    /// A run ended without a report. Whether it was still wanted. The lease may be offered again.
    pub fn abandon(&mut self, lease: LeaseId) -> bool {
        self.running.remove(&lease).is_some()
    }

    /// The lease is over: what runs stops, what was kept is forgotten.
    pub fn end(&mut self, lease: LeaseId) {
        if let Some(running) = self.running.remove(&lease) {
            running.stop.stop();
        }
        if let Some(pending) = self.pending.remove(&lease) {
            self.pending_bytes -= pending.size();
        }
        self.joined.remove(&lease);
        self.lent.remove(&lease);
        self.borrowed.remove(&lease);
        if self.over.insert(lease) {
            self.over_order.push_back(lease);
        }
        if self.over_order.len() > OVER_MAX
            && let Some(oldest) = self.over_order.pop_front()
        {
            self.over.remove(&oldest);
        }
    }

    /// Leases that run or whose reports are kept, and loans on either side, ascending.
    pub fn held(&self) -> Vec<LeaseId> {
        let work = self.running.keys().chain(self.pending.keys());
        let mut held: Vec<_> = work.chain(self.lent.keys()).chain(&self.borrowed).copied().collect();
        held.sort_unstable();
        held
    }

    /// Reports kept.
    pub fn pending(&self) -> Vec<Arc<Pending>> {
        self.pending.values().cloned().collect()
    }

    /// Takes nothing new from now on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Stops all that runs; gives their leases, ascending.
    pub fn stop_all(&mut self) -> Vec<LeaseId> {
        let mut stopped: Vec<_> = self
            .running
            .drain()
            .map(|(lease, running)| {
                running.stop.stop();
                lease
            })
            .collect();
        stopped.sort_unstable();
        stopped
    }

    /// One more answer is to be proven.
    pub fn proving(&mut self) {
        self.proving = self.proving.saturating_add(1);
    }

    /// So many are proven, or will not be.
    pub fn proved(&mut self, answers: usize) {
        self.proving = self.proving.saturating_sub(answers);
    }

    /// Whether nothing runs, nothing is being proven and nothing waits to be acknowledged. A loan of which no call runs holds nobody.
    pub fn idle(&self) -> bool {
        let calls = self.lent.values().any(|lent| lent.busy);
        self.running.is_empty() && self.pending.is_empty() && self.proving == 0 && !calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books() -> Books {
        Books::new(Capacity { cpu: Millicores(1000), memory: Bytes::mib(100), slots: 2 })
    }

    fn enter(books: &mut Books, lease: u64) -> Stop {
        let demand = Demand { cpu: Millicores(300), memory: Bytes::mib(30), ..Demand::default() };
        books.enter(LeaseId(lease), Digest::of(&[1]), demand, (Term(1), Seq(lease)))
    }

    #[test]
    fn capacity_is_taken_and_given_back_once() {
        let mut books = books();
        enter(&mut books, 1);
        enter(&mut books, 1);
        enter(&mut books, 2);
        assert_eq!(books.left(), Capacity { cpu: Millicores(400), memory: Bytes::mib(40), slots: 0 });
        assert!(books.abandon(LeaseId(1)) && !books.abandon(LeaseId(1)));
        assert_eq!(books.left().slots, 1);
        assert_eq!((books.held(), books.obeyed()), (vec![LeaseId(2)], (Term(1), Seq(2))));
    }

    #[test]
    fn a_lease_that_ended_stops_and_stays_over() {
        let mut books = books();
        let stop = enter(&mut books, 1);
        books.end(LeaseId(1));
        assert!(stop.cancel.is_cancelled() && books.idle());
        assert!(matches!(books.known(LeaseId(1), Digest::of(&[1])), Some(Entry::Known)));
        // One that ends before it is offered is over too: a cancel may overtake the judgement of its offer.
        books.end(LeaseId(7));
        assert!(matches!(books.known(LeaseId(7), Digest::of(&[1])), Some(Entry::Known)));
        for lease in 100..100 + OVER_MAX as u64 {
            books.end(LeaseId(lease));
        }
        assert!(books.known(LeaseId(7), Digest::of(&[1])).is_none());
        assert_eq!((books.over.len(), books.over_order.len()), (OVER_MAX, OVER_MAX));
    }

    #[test]
    fn a_loan_takes_capacity_and_holds_up_nobody_but_while_a_call_runs() {
        let mut books = books();
        let demand = SeatDemand {
            cpu: Millicores(400),
            memory: Bytes::mib(40),
            gpus: legation_core::Milligpus::ZERO,
            time: legation_core::Millis(1000),
        };
        books.lend(LeaseId(3), demand, (Term(2), Seq(9)));
        books.borrowed(LeaseId(5));
        enter(&mut books, 4);
        assert_eq!(books.left(), Capacity { cpu: Millicores(300), memory: Bytes::mib(30), slots: 0 });
        assert_eq!((books.held(), books.obeyed()), ([3, 4, 5].map(LeaseId).to_vec(), (Term(2), Seq(9))));
        books.end(LeaseId(4));
        assert!(books.idle());
        books.calls(LeaseId(3), true);
        assert!(!books.idle());
        books.end(LeaseId(3));
        books.part(LeaseId(5));
        assert!(books.idle() && books.held().is_empty() && books.is_over(LeaseId(3)) && !books.is_over(LeaseId(5)));
    }

    #[test]
    fn a_custodian_that_is_that_alone_takes_no_work() {
        let books = Books::of_custodian(Capacity { cpu: Millicores(1000), memory: Bytes::mib(100), slots: 2 });
        assert_eq!(books.open().unwrap_err().check, "custody.alone");
        assert!(books.idle());
    }

    #[test]
    fn an_agent_is_not_idle_while_it_proves() {
        let mut books = books();
        books.proving();
        books.proving();
        books.proved(1);
        assert!(!books.idle());
        books.proved(2);
        assert!(books.idle());
    }

    #[test]
    fn a_draining_agent_takes_nothing_new() {
        let mut books = books();
        assert!(books.open().is_ok());
        books.drain();
        assert_eq!(books.open().unwrap_err().check, "agent.draining");
    }
}
