//! Who leads: a state machine over a [`Journal`], without threads, sockets or clocks. The thread in `leader` drives it, and so does
//! the simulator; `now` is time since any fixed moment, by a clock that never goes back.
//!
//! ```text
//!            reads along                       claims                       begins its term by a record
//!   Follows ─────────────► nobody leads ─────────────────► Follows (claimed) ─────────────────────────► Leads
//!      ▲                                                                                                 │
//!      └── a newer term (Fenced) · could not renew before its own term's end · stopped ◄─────────────────┘
//! ```
//!
//! 1. It leads from the moment on that the record which begins its term is durable, and decides nothing before.
//! 2. It leads no longer than its term surely lasts: `ttl` from *before* it asked for it, less a margin, by its own clock. What it
//!    appends after that the store still judges by the term; it asks anew before it appends.
//! 3. While the outcome of an append is unknown nothing else is appended. [`Leadership::turn`] finds out and says so
//!    ([`Turn::Settled`]), while it leads or after: what is in the journal has happened, what is not never will.
//! 4. A follower's pool is the journal's: it is handed over when it leads, and read anew when it follows again.

use std::{sync::Arc, time::Duration};

use legation_core::{Rejection, Seq, Signed, Signer, Term, UnixTime, statement::Appointment};
use legation_pool::{Command, DEFECT, Limits, Pool, Record};

use crate::{
    journal::{Candidate, Head, Journal, JournalError},
    recovery::{self, Recovered},
};

/// Pause after the pool refused this manager as its leader, or the journal cannot be read.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Pause between turns that have nothing to do.
const IDLE: Duration = Duration::from_secs(1);

/// How long terms last and how often they are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// How long a term lasts that is not renewed.
    pub ttl: Duration,
    /// How often the leader renews: well below half of `ttl`.
    pub renew: Duration,
    /// How often the others look, and the leader tries again.
    pub poll: Duration,
    /// The leader stops by this much before its term may be over: clocks run at different speeds.
    pub margin: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { ttl: ms(2000), renew: ms(500), poll: ms(100), margin: ms(200) }
    }
}

/// With what somebody claims to lead.
#[derive(Clone)]
pub struct Claimant {
    /// Who it is.
    pub candidate: Candidate,
    /// The manager's key.
    pub signer: Arc<dyn Signer>,
    /// The operator's appointment of it.
    pub appointment: Signed<Appointment>,
}

/// It leads from now on.
#[derive(Debug)]
pub struct Began {
    /// The pool, this term's first record included: whoever decides has it until the term ends.
    pub pool: Pool,
    /// The term.
    pub term: Term,
    /// Position of the record that began it.
    pub at: Seq,
    /// The newest snapshot it was read from or knows of.
    pub snapshot: Option<Seq>,
}

/// What a turn came to.
#[derive(Debug)]
pub enum Turn {
    /// Nothing to tell.
    Quiet,
    /// It leads from now on.
    Began(Box<Began>),
    /// The append whose outcome was unknown: whether it is in the journal. If not, and it still leads, the pool must be read anew
    /// ([`Leadership::reload`]).
    Settled {
        /// Whether it happened.
        done: bool,
    },
    /// It leads no longer. What was decided and is not durable has not happened, but for an append whose outcome is unknown.
    Ended(JournalError),
    /// The pool will not have this manager as its leader.
    Refused(Rejection),
}

/// What became of a batch.
#[derive(Debug)]
pub enum Fate {
    /// It is durable.
    Durable,
    /// It has not happened; this manager still leads. The pool must be read anew.
    Refused(JournalError),
    /// It may have happened: turns find out.
    Unknown(JournalError),
    /// It has not happened, and this manager leads no longer.
    Ended(JournalError),
}

/// An append whose outcome is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limbo {
    term: Term,
    end: Seq,
}

enum Role {
    /// Reads along with a pool of its own; without one it reads the journal first.
    Follows { pool: Option<Box<Pool>>, claimed: Option<(Term, Duration)> },
    /// Leads: whoever decides has the pool.
    Leads { term: Term, durable: Seq, until: Duration },
}

/// Whether one manager leads. See the module's documentation.
pub struct Leadership {
    claimant: Claimant,
    timing: Timing,
    limits: Limits,
    role: Role,
    due: Duration,
    limbo: Option<Limbo>,
    head: Head,
    snapshot: Option<Seq>,
}

impl Leadership {
    /// One that follows and has read nothing yet.
    pub fn new(claimant: Claimant, timing: Timing, limits: Limits) -> Self {
        Self {
            claimant,
            timing,
            limits,
            role: Role::Follows { pool: None, claimed: None },
            due: Duration::ZERO,
            limbo: None,
            head: Head::default(),
            snapshot: None,
        }
    }

    /// When [`Self::turn`] has something to do.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// The term that it leads, if it surely does at `now`.
    pub fn leads(&self, now: Duration) -> Option<Term> {
        match self.role {
            Role::Leads { term, until, .. } if now < until => Some(term),
            _ => None,
        }
    }

    /// When it stops leading unless it renews before; nothing when it follows.
    pub fn until(&self) -> Option<Duration> {
        match self.role {
            Role::Leads { until, .. } => Some(until),
            Role::Follows { .. } => None,
        }
    }

    /// Whether the outcome of an append is unknown.
    pub fn is_unsettled(&self) -> bool {
        self.limbo.is_some()
    }

    /// The store's head as it was last heard.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Position that it has read to, or that is durable.
    pub fn seq(&self) -> Seq {
        match &self.role {
            Role::Follows { pool, .. } => pool.as_ref().map_or(Seq(0), |pool| pool.seq()),
            Role::Leads { durable, .. } => *durable,
        }
    }

    /// The pool of a follower that has read one.
    pub fn pool(&self) -> Option<&Pool> {
        match &self.role {
            Role::Follows { pool, .. } => pool.as_deref(),
            Role::Leads { .. } => None,
        }
    }

    /// The newest snapshot it was read from or was told of.
    pub fn snapshot(&self) -> Option<Seq> {
        self.snapshot
    }

    /// Does what is due. `wall` is the time that records carry.
    ///
    /// # Errors
    /// The store failed, or its records do not make a pool: nothing has changed, and the next turn tries again.
    pub fn turn(&mut self, journal: &mut dyn Journal, now: Duration, wall: UnixTime) -> Result<Turn, JournalError> {
        self.due = now.saturating_add(self.timing.poll);
        let turn = match self.role {
            Role::Leads { term, until, .. } => self.keep(journal, term, until, now),
            Role::Follows { .. } => self.follow(journal, now, wall),
        };
        // What somebody must mend first is not tried again at once: it may be the whole journal that was read.
        if turn.as_ref().is_err_and(|why| !why.is_passing()) {
            self.due = now.saturating_add(REFUSED_PAUSE);
        }
        turn
    }

    /// The leader's turn: settles what is unknown, renews.
    fn keep(
        &mut self,
        journal: &mut dyn Journal,
        term: Term,
        until: Duration,
        now: Duration,
    ) -> Result<Turn, JournalError> {
        if let Some(limbo) = self.limbo {
            return match journal.settle(term) {
                Ok(last) => {
                    self.limbo = None;
                    self.due = now;
                    self.role = Role::Leads { term, durable: last, until };
                    Ok(Turn::Settled { done: last >= limbo.end })
                }
                Err(error) => self.end_if_over(error, until, now),
            };
        }
        if journal.is_exclusive() {
            self.due = now.saturating_add(IDLE);
            return Ok(Turn::Quiet);
        }
        match self.renew(journal, term, now) {
            Ok(()) => Ok(Turn::Quiet),
            Err(error) => self.end_if_over(error, until, now),
        }
    }

    fn renew(&mut self, journal: &mut dyn Journal, term: Term, now: Duration) -> Result<(), JournalError> {
        journal.renew(term, self.timing.ttl)?;
        if let Role::Leads { until, .. } = &mut self.role {
            *until = now.saturating_add(self.timing.ttl).saturating_sub(self.timing.margin);
        }
        self.due = now.saturating_add(self.timing.renew);
        Ok(())
    }

    fn end_if_over(&mut self, error: JournalError, until: Duration, now: Duration) -> Result<Turn, JournalError> {
        if error.is_passing() && now < until {
            return Err(error);
        }
        self.end();
        Ok(Turn::Ended(error))
    }

    fn end(&mut self) {
        self.role = Role::Follows { pool: None, claimed: None };
    }

    /// The follower's turn: reads along; claims when nobody leads; begins its term.
    fn follow(&mut self, journal: &mut dyn Journal, now: Duration, wall: UnixTime) -> Result<Turn, JournalError> {
        self.head = journal.head()?;
        if let Some(done) = self.settled(journal)? {
            self.limbo = None;
            self.due = now;
            return Ok(Turn::Settled { done });
        }
        self.read_along(journal)?;
        let Role::Follows { claimed, .. } = &mut self.role else { return Ok(Turn::Quiet) };
        if let Some((term, at)) = claimed.take()
            && self.head.term() == term
            && self.limbo.is_none()
        {
            return self.begin(journal, term, at, wall);
        }
        let mine = |c: &Candidate| c.instance == self.claimant.candidate.instance;
        if !self.head.holder.as_ref().is_none_or(|h| h.expired || mine(&h.candidate)) {
            return Ok(Turn::Quiet);
        }
        match journal.claim(&self.claimant.candidate, self.timing.ttl) {
            Ok(term) => {
                *claimed = Some((term, now));
                // Only now is the end of the journal final: the next turn reads it.
                self.due = now;
                Ok(Turn::Quiet)
            }
            // Another was faster.
            Err(JournalError::Led(_)) => Ok(Turn::Quiet),
            Err(error) => Err(error),
        }
    }

    /// Whether the append in limbo happened, once that is certain: its place is taken, or its term is over.
    fn settled(&mut self, journal: &mut dyn Journal) -> Result<Option<bool>, JournalError> {
        let Some(limbo) = self.limbo else { return Ok(None) };
        if self.head.last < limbo.end {
            return Ok((self.head.term() > limbo.term).then_some(false));
        }
        let record = journal.record(limbo.end)?;
        Ok(Some(record.is_some_and(|record| record.term == limbo.term)))
    }

    fn read_along(&mut self, journal: &mut dyn Journal) -> Result<(), JournalError> {
        let Role::Follows { pool, .. } = &mut self.role else { return Ok(()) };
        match pool {
            Some(pool) => {
                let read = journal.read(pool.seq(), &mut |record| {
                    pool.absorb(&record)?;
                    Ok(())
                });
                if matches!(read, Err(JournalError::Corrupt(_))) {
                    // Not what it read before: it begins from the beginning, and says so if that does not help.
                    self.end();
                }
                read
            }
            None => {
                let Recovered { pool: read, snapshot } = recovery::recover(journal, self.limits)?;
                (*pool, self.snapshot) = (Some(Box::new(read)), snapshot);
                Ok(())
            }
        }
    }

    fn begin(
        &mut self,
        journal: &mut dyn Journal,
        term: Term,
        claimed: Duration,
        wall: UnixTime,
    ) -> Result<Turn, JournalError> {
        let Role::Follows { pool, .. } = &mut self.role else { return Ok(Turn::Quiet) };
        let Some(mut pool) = pool.take() else { return Ok(Turn::Quiet) };
        let after = pool.seq();
        let Claimant { signer, appointment, .. } = &self.claimant;
        let command = Command::BeginTerm { term, appointment: Box::new(appointment.clone()) };
        let records = match pool.apply(command, wall, &**signer) {
            Ok(applied) => applied.records,
            Err(why) => {
                // By a defect of this program the pool may have changed: it is read anew then.
                let pool = (why.check != DEFECT).then_some(pool);
                self.role = Role::Follows { pool, claimed: None };
                self.due = claimed.saturating_add(REFUSED_PAUSE);
                journal.release(term)?;
                return Ok(Turn::Refused(why));
            }
        };
        // If this fails the pool is ahead of the journal: it is read anew, and a later term leaves no doubt about this record.
        journal.append(term, after, &records)?;
        let until = match journal.is_exclusive() {
            true => Duration::MAX,
            false => claimed.saturating_add(self.timing.ttl).saturating_sub(self.timing.margin),
        };
        let at = Seq(after.0.saturating_add(1));
        self.role = Role::Leads { term, durable: pool.seq(), until };
        self.due = claimed.saturating_add(self.timing.renew);
        Ok(Turn::Began(Box::new(Began { pool: *pool, term, at, snapshot: self.snapshot })))
    }

    /// Makes a batch durable that follows the last one.
    pub fn append(&mut self, journal: &mut dyn Journal, batch: &[Record], now: Duration) -> Fate {
        let (Role::Leads { term, durable, until }, None) = (&self.role, self.limbo) else {
            return Fate::Ended(JournalError::Fenced { ours: Term(0), newest: self.head.term() });
        };
        let (term, durable, until) = (*term, *durable, *until);
        // Whoever slept asks first whether it still leads.
        if now >= until
            && let Err(error) = self.renew(journal, term, now)
        {
            self.end();
            self.due = now;
            return Fate::Ended(error);
        }
        match journal.append(term, durable, batch) {
            Ok(()) => {
                let end = batch.last().map_or(durable, |record| record.seq);
                if let Role::Leads { durable, .. } = &mut self.role {
                    *durable = end;
                }
                Fate::Durable
            }
            Err(error @ JournalError::Unreadable { .. }) => Fate::Refused(error),
            Err(error @ (JournalError::Store { .. } | JournalError::File { .. })) => {
                let end = batch.last().map_or(durable, |record| record.seq);
                self.limbo = Some(Limbo { term, end });
                self.due = now;
                Fate::Unknown(error)
            }
            Err(error) => {
                self.end();
                self.due = now;
                Fate::Ended(error)
            }
        }
    }

    /// The pool as the journal has it, for a leader whose last batch did not happen.
    ///
    /// # Errors
    /// The journal cannot be read: this manager leads no longer.
    pub fn reload(&mut self, journal: &mut dyn Journal) -> Result<Pool, JournalError> {
        let recovered = recovery::recover(journal, self.limits).inspect_err(|_| self.end())?;
        self.snapshot = recovered.snapshot;
        Ok(recovered.pool)
    }

    /// Stops leading, so that another may claim at once.
    ///
    /// # Errors
    /// The store could not be told: others wait until the term expires.
    pub fn release(&mut self, journal: &mut dyn Journal) -> Result<(), JournalError> {
        let Role::Leads { term, .. } = self.role else { return Ok(()) };
        self.end();
        journal.release(term)
    }
}
