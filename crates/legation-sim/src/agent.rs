//! An agent as a node: it attests, is present at whoever leads, judges offers, "runs" them, and reports.
//!
//! Books and judgement are the product's ([`legation_agent::books`], [`legation_agent::offer`]); the session around them follows
//! the product's step by step. Modules are not run and objects not fetched: a run lasts a while and leaves an output.
//!
//! Some agents lie ([`Agent::lies`]): with their own keys, which is all they have. An agent that lies still keeps its books, so that it
//! has something to lie about.

mod custody;
mod loans;

use std::{collections::BTreeMap, rc::Rc};

use legation_agent::{
    books::{Books, Entry, Pending},
    offer::{Standing, Work, judge_offer},
    swarm,
};
use legation_core::{
    EnclaveId, LeaseId, PublicKey, Rejection, Revoked, Seq, Signed, Signer, Term, UnixTime,
    claims::Capacity,
    dsse,
    statement::{Allocation, Appointment, Passport},
};
use legation_net::message::{Enlist, Offer, Reported, ToAgent, ToManager};

use crate::{
    clock::{Clock, Instant, Span},
    defect::Defect,
    ether::Ether,
    fault::Fault,
    keys::Key,
    message::{Connection, Down, Message, Node, Timer, Up},
    oracle::{Acknowledged, Truth},
    statements::{self, Machine},
};

use custody::Custodian;

/// How long a connection may take until the agent is present.
const PATIENCE: Span = Span::millis(4000);
/// Pause before another try to connect.
const AGAIN: (Span, Span) = (Span::millis(100), Span::millis(1200));
/// Pause before a renewal that failed is tried again.
const RENEW_AGAIN: Span = Span::seconds(5);
/// A passport with less life left, in seconds, is renewed rather than shown.
const LIFE_MIN: u64 = 5;
/// Reports a liar remembers.
const MEMORY: usize = 12;

/// A connection to a manager.
struct Link {
    connection: Connection,
    manager: usize,
    present: bool,
}

struct Run {
    work: Box<Work>,
    started: UnixTime,
}

/// One agent, boot after boot.
pub(crate) struct Agent {
    index: usize,
    boots: u32,
    boot: Key,
    pub(crate) machine: Machine,
    operator: PublicKey,
    pub(crate) clock: Clock,
    pub(crate) up: bool,
    pub(crate) life: u32,
    pub(crate) frozen: Option<Instant>,
    pub(crate) lies: bool,
    books: Books,
    runs: BTreeMap<LeaseId, Run>,
    /// Loans of this enclave to others.
    lent: BTreeMap<LeaseId, Signed<Allocation>>,
    /// Its part in custody, if its configuration says that it has one.
    custody: Option<Custodian>,
    /// Enclaves that it asked for so far.
    asked: u64,
    passport: Option<(Signed<Passport>, Signed<Appointment>)>,
    revoked: Rc<Revoked>,
    link: Option<Link>,
    /// Whom to try next.
    next: usize,
    /// When it attests again.
    due: Instant,
    /// What a liar remembers: its reports, and what it once said of itself.
    reports: Vec<Reported>,
    past: Option<(Vec<LeaseId>, (Term, Seq))>,
}

impl Agent {
    pub(crate) fn new(index: usize, machine: Machine, operator: PublicKey, real: bool) -> Self {
        let boot = Key::new(&format!("agent {index}, boot 0"), real);
        Self {
            index,
            boots: 0,
            boot,
            operator,
            clock: Clock::default(),
            up: true,
            life: 0,
            frozen: None,
            lies: false,
            books: Books::new(machine.configuration.capacity),
            custody: machine.configuration.custody.as_ref().map(|_| Custodian::default()),
            machine,
            runs: BTreeMap::new(),
            lent: BTreeMap::new(),
            asked: 0,
            passport: None,
            revoked: Rc::default(),
            link: None,
            next: index,
            due: Instant::default(),
            reports: Vec::new(),
            past: None,
        }
    }

    fn node(&self) -> Node {
        Node::Agent(self.index)
    }

    /// The enclave of this boot.
    pub(crate) fn enclave(&self) -> EnclaveId {
        self.boot.enclave()
    }

    pub(crate) fn start(&mut self, ether: &mut Ether) {
        let configuration = &self.machine.configuration;
        let (capacity, rate) = (configuration.capacity, configuration.rate);
        ether.oracle.booted(self.enclave(), Truth { capacity, rate, production: self.machine.production });
        ether.tell(self.node(), || format!("boots as enclave {}, {} slots", self.enclave().short(), capacity.slots));
        self.up = true;
        self.connect_soon(ether);
        if self.lies {
            self.lie_soon(ether);
        }
        if self.custody.is_some() {
            self.tend_custody_soon(ether);
        }
    }

    /// The machine dies; it boots anew, as another enclave, after `down`.
    pub(crate) fn crash(&mut self, ether: &mut Ether, down: Span) {
        ether.fault(Fault::AgentCrash);
        self.reboot(ether, down, "it crashed");
    }

    fn reboot(&mut self, ether: &mut Ether, down: Span, why: &str) {
        ether.oracle.dies(self.enclave());
        self.boots += 1;
        self.boot = Key::new(&format!("agent {}, boot {}", self.index, self.boots), ether.plan.real);
        self.custody = self.custody.as_ref().map(|_| Custodian::default());
        self.halt(ether, down, why);
    }

    /// Its process ends, with all it had in memory, and starts again after `down`.
    fn halt(&mut self, ether: &mut Ether, down: Span, why: &str) {
        ether.tell(self.node(), || format!("dies, for {down}: {why}"));
        self.up = false;
        self.frozen = None;
        self.life += 1;
        self.books = Books::new(self.machine.configuration.capacity);
        self.runs.clear();
        self.lent.clear();
        self.passport = None;
        self.link = None;
        self.reports.clear();
        self.past = None;
        ether.cut_all(self.node(), "the agent died");
        ether.ring(self.node(), self.life, down, Timer::Restart);
    }

    pub(crate) fn freeze(&mut self, ether: &mut Ether, span: Span) {
        ether.fault(Fault::AgentFreeze);
        ether.tell(self.node(), || format!("stands still for {span}"));
        self.frozen = Some(ether.now.plus(span));
    }

    fn connect_soon(&mut self, ether: &mut Ether) {
        let pause = ether.between(AGAIN);
        ether.ring(self.node(), self.life, pause, Timer::Connect { connection: 0 });
    }

    pub(crate) fn rings(&mut self, ether: &mut Ether, timer: Timer) {
        match timer {
            Timer::Restart => self.start(ether),
            Timer::Connect { connection: 0 } if self.link.is_none() => self.connect(ether),
            Timer::Connect { connection } => {
                let waits = |l: &Link| l.connection == connection && !l.present;
                if self.link.as_ref().is_some_and(waits) {
                    self.hang_up(ether, "nobody admitted this agent in time");
                }
            }
            Timer::Renew { connection } if self.is_link(connection) && self.due <= ether.now => self.attest(ether),
            Timer::Finish { lease } => self.finish(ether, LeaseId(lease)),
            Timer::Borrow { lease } => self.borrow(ether, LeaseId(lease)),
            Timer::GiveBack { lease } => self.give_back(ether, LeaseId(lease)),
            Timer::Lie => self.lie(ether),
            Timer::Custody => self.tend_custody(ether),
            _ => {}
        }
    }

    fn is_link(&self, connection: Connection) -> bool {
        self.link.as_ref().is_some_and(|l| l.connection == connection)
    }

    fn hang_up(&mut self, ether: &mut Ether, why: &'static str) {
        if let Some(link) = self.link.take() {
            ether.cut(link.connection, why);
            self.next = link.manager + 1;
        }
        self.connect_soon(ether);
    }

    fn connect(&mut self, ether: &mut Ether) {
        if let Some(custody) = &mut self.custody {
            custody.waits_no_more();
        }
        let manager = self.next % ether.plan.managers;
        let connection = ether.connect(self.node(), Node::Manager(manager));
        self.link = Some(Link { connection, manager, present: false });
        ether.ring(self.node(), self.life, PATIENCE, Timer::Connect { connection });
        let now = self.clock.unix(ether.now);
        let holds = |p: &Signed<Passport>| p.issued <= now.plus(60) && now.plus(LIFE_MIN) < p.expires;
        if self.passport.as_ref().is_some_and(|(p, _)| holds(p)) {
            self.present(ether);
        } else {
            self.attest(ether);
        }
    }

    fn up(&self, ether: &mut Ether, say: Up) {
        if let Some(link) = &self.link {
            let message = Message::Up { connection: link.connection, say: Rc::new(say) };
            ether.send(self.node(), Node::Manager(link.manager), message);
        }
    }

    fn say(&self, ether: &mut Ether, message: ToManager) {
        if self.link.as_ref().is_some_and(|l| l.present) {
            self.up(ether, Up::Say(Box::new(message)));
        }
    }

    fn attest(&mut self, ether: &mut Ether) {
        if !self.machine.production && ether.plan.strict {
            ether.fault(Fault::LieDevelopment);
        }
        let (boot, machine) = (self.boot.clone(), self.machine.clone());
        self.up(ether, Up::Attest { evidence: machine.evidence(&boot), boot, machine });
        self.attest_after(ether, RENEW_AGAIN);
    }

    fn attest_after(&mut self, ether: &mut Ether, span: Span) {
        self.due = ether.now.plus(span);
        if let Some(connection) = self.link.as_ref().map(|l| l.connection) {
            ether.ring(self.node(), self.life, span, Timer::Renew { connection });
        }
    }

    /// Attests again when so many thousandths of what is left of its passport are over.
    fn rest(&mut self, ether: &mut Ether, per_mille: u64) {
        let Some((passport, _)) = &self.passport else { return };
        let left = passport.expires.since(self.clock.unix(ether.now));
        let span = Span::millis(left.saturating_mul(per_mille)).max(Span::seconds(1));
        self.attest_after(ether, span);
    }

    /// The peer knows a passport.
    fn present(&mut self, ether: &mut Ether) {
        let Some(link) = &mut self.link else { return };
        if link.present {
            return;
        }
        link.present = true;
        let (running, obeyed) = (self.books.held(), self.books.obeyed());
        self.past.get_or_insert_with(|| (running.clone(), obeyed));
        self.up(ether, Up::Present { enclave: self.boot.enclave(), running, obeyed });
        for pending in self.books.pending() {
            self.say(ether, ToManager::Report(Box::new(pending.reported.clone())));
        }
        let share = ether.random.range(500, 800);
        self.rest(ether, share);
    }

    pub(crate) fn hears(&mut self, ether: &mut Ether, message: Message) {
        match message {
            Message::Ended { connection, why } if self.is_link(connection) => {
                ether.tell(self.node(), || format!("its connection ended: {why}"));
                self.next = self.link.take().map_or(0, |l| l.manager + 1);
                self.connect_soon(ether);
            }
            Message::Down { connection, say } => {
                if !self.is_link(connection) {
                    // A channel rules this out; the agent's own rules must hold without it.
                    if !ether.plan.wild || ether.calm {
                        return;
                    }
                    ether.fault(Fault::Ghost);
                }
                self.heard(ether, connection, &say);
            }
            _ => {}
        }
    }

    fn heard(&mut self, ether: &mut Ether, connection: Connection, say: &Down) {
        match say {
            Down::Close(why) => {
                if self.is_link(connection) {
                    ether.tell(self.node(), || format!("is turned away: {}", why.check));
                    ether.tally.reach(&format!("agent: turned away by {}", why.check));
                    // Refused once, refused again with the same passport: the next connection begins with attestation.
                    if why.check != "manager.standby" {
                        self.passport = None;
                    }
                    self.hang_up(ether, "turned away");
                }
            }
            Down::Revocations(list) => {
                self.revoked = list.clone();
                if self.passport.as_ref().is_some_and(|(p, _)| list.of(p).is_some()) {
                    ether.reach("agent: drops a revoked passport");
                    self.passport = None;
                    if self.lies || ether.random.chance(500) {
                        let down = ether.between((Span::seconds(1), Span::seconds(5)));
                        self.reboot(ether, down, "its passport was revoked");
                    }
                }
            }
            Down::CustodyChanged => self.custody_changed(ether),
            Down::Custody(news) => self.hears_of_custody(ether, news),
            Down::Say(message) => self.told(ether, message),
        }
    }

    fn told(&mut self, ether: &mut Ether, message: &ToAgent) {
        match message {
            ToAgent::Admitted { passport, appointment } => {
                if passport.enclave_id() != self.enclave() {
                    return;
                }
                let older = self.passport.as_ref().is_some_and(|(held, _)| passport.issued < held.issued);
                if !older {
                    self.passport = Some(((**passport).clone(), (**appointment).clone()));
                }
                if self.link.as_ref().is_some_and(|l| l.present) {
                    self.rest(ether, 700);
                }
                self.present(ether);
            }
            ToAgent::Refused { why } => {
                ether.tally.reach(&format!("agent: not admitted by {}", why.check));
                if self.link.as_ref().is_some_and(|l| !l.present) {
                    self.hang_up(ether, "not admitted");
                    if why.check.starts_with("revo") && ether.random.chance(300) {
                        let down = ether.between((Span::seconds(1), Span::seconds(5)));
                        self.reboot(ether, down, "it is revoked");
                    }
                }
            }
            ToAgent::Offer(offer) => self.offered(ether, offer),
            ToAgent::Enlist(enlist) => self.enlisted(ether, enlist),
            ToAgent::Cancel { lease } => {
                if self.lies && ether.random.chance(500) {
                    ether.fault(Fault::LieDeaf);
                    return;
                }
                self.end(*lease);
            }
            ToAgent::Lend(lending) => self.lend(ether, lending),
            ToAgent::Lent { loan, .. } => self.is_lent(ether, loan),
            ToAgent::LoanRefused { why, .. } => ether.tally.reach(&format!("agent: is lent nobody by {}", why.check)),
            ToAgent::LoanEnded { loan, .. } => {
                ether.reach("agent: hears that a loan ended");
                self.end(*loan);
            }
            ToAgent::Acknowledged { lease } => {
                self.end(*lease);
                let verdict = ether.oracle.acknowledged(Acknowledged::Report(self.enclave(), *lease));
                ether.judge(verdict);
            }
            ToAgent::Reattest { .. } => self.attest(ether),
            _ => {}
        }
    }

    fn end(&mut self, lease: LeaseId) {
        self.books.end(lease);
        self.runs.remove(&lease);
        self.lent.remove(&lease);
    }

    /// Judges the members of a round as the product does, and joins them; now and then it is too slow to.
    fn enlisted(&mut self, ether: &mut Ether, enlist: &Enlist) {
        let Some(seat) = enlist.seating.seat(self.enclave()).map(|s| s.member.lease) else { return };
        if !ether.calm && ether.random.chance(30) {
            ether.fault(Fault::Aloof);
            return;
        }
        let standing = swarm::Standing {
            identity: self.boot.public_key(),
            operators: std::slice::from_ref(&self.operator),
            revoked: &self.revoked,
            obeyed: self.books.obeyed().0,
            now: self.clock.unix(ether.now),
        };
        match swarm::judge(enlist, &standing) {
            Err(why) => self.refuse(ether, seat, why),
            Ok(membership) => {
                let signed = dsse::sign(membership, &self.boot);
                self.books.join(seat, signed.digest());
                ether.reach("agent: joins a swarm");
                self.say(ether, ToManager::Join(Box::new(signed)));
            }
        }
    }

    fn offered(&mut self, ether: &mut Ether, offer: &Offer) {
        let (lease, allocation) = (offer.allocation.lease, offer.allocation.digest());
        if offer.term < self.books.obeyed().0 {
            ether.reach("agent: is offered work in an older term than it obeyed");
        }
        match self.books.known(lease, allocation) {
            Some(Entry::Again(pending)) => {
                return self.say(ether, ToManager::Report(Box::new(pending.reported.clone())));
            }
            Some(Entry::Known) => return,
            None => {}
        }
        if let Err(why) = self.books.open().and_then(|()| self.books.check_member(&offer.allocation)) {
            return self.refuse(ether, lease, why);
        }
        let Some((passport, appointment)) = &self.passport else {
            let why = Rejection::new("offer.passport", "passport of this enclave").expected("one").got("none yet");
            return self.refuse(ether, lease, why);
        };
        let obeyed = if ether.is(Defect::ObeysOlderTerms) { (Term(0), Seq(0)) } else { self.books.obeyed() };
        let Capacity { memory, .. } = self.machine.configuration.capacity;
        let standing = Standing {
            passport,
            appointment,
            revoked: &self.revoked,
            operators: std::slice::from_ref(&self.operator),
            obeyed,
            left: self.books.left(),
            memory_max: memory,
            now: self.clock.unix(ether.now),
        };
        match judge_offer(offer, &standing) {
            Err(why) => self.refuse(ether, lease, why),
            Ok(work) => {
                let demand = work.plan.fragment.demand;
                let _ = self.books.enter(lease, allocation, demand, (offer.term, offer.seq));
                let started = self.clock.unix(ether.now);
                let most = Span::millis(demand.time.0);
                let mut span = ether.between((Span::millis(100), most));
                if !ether.calm && ether.random.chance(40) {
                    ether.fault(Fault::Stuck);
                    span = Span::seconds(600);
                }
                let hands_on = work.under.is_some();
                self.runs.insert(lease, Run { work: Box::new(work), started });
                let verdict = ether.oracle.obeys(self.boot.enclave(), offer.term, &offer.allocation, self.busy());
                if hands_on {
                    self.borrow_soon(ether, lease);
                }
                ether.judge(verdict);
                ether.tell(self.node(), || format!("runs {lease}, offered in term {}", offer.term.0));
                ether.ring(self.node(), self.life, span, Timer::Finish { lease: lease.0 });
            }
        }
    }

    fn refuse(&mut self, ether: &mut Ether, lease: LeaseId, why: Rejection) {
        ether.tally.reach(&format!("agent: refuses an offer by {}", why.check));
        ether.tell(self.node(), || format!("refuses {lease}: {why}"));
        self.say(ether, ToManager::Refuse { lease, why });
    }

    fn finish(&mut self, ether: &mut Ether, lease: LeaseId) {
        let Some(run) = self.runs.remove(&lease) else { return };
        let finished = self.clock.unix(ether.now).max(run.started);
        let late = finished > run.work.until;
        let passport = self.passport.as_ref().map(|(p, _)| p);
        let passport = passport.filter(|p| p.issued <= finished.plus(60) && finished <= p.expires);
        let Some(passport) = passport.filter(|_| !late) else {
            if self.books.abandon(lease) {
                let why = Rejection::new(if late { "agent.late" } else { "agent.passport" }, "end of the execution");
                self.refuse(ether, lease, why);
            }
            return;
        };
        let fails = ether.random.chance(20);
        let reported = statements::reported(&run.work, &self.boot, passport.digest(), (run.started, finished), fails);
        let pending = Pending { lease, reported: reported.clone(), objects: Vec::new() };
        let Some(pending) = self.books.report(pending) else { return };
        ether.tell(self.node(), || format!("reports {lease}"));
        if !self.lies {
            return self.say(ether, ToManager::Report(Box::new(pending.reported.clone())));
        }
        if self.reports.len() >= MEMORY {
            self.reports.remove(0);
        }
        self.reports.push(reported.clone());
        if ether.random.chance(400) {
            ether.fault(Fault::LieAltered);
            let (what, lie) = statements::altered(&reported, &self.boot, &mut ether.random);
            ether.tell(self.node(), || format!("lies: reports {lease} with another {what}"));
            self.say(ether, ToManager::Report(Box::new(lie)));
            return;
        }
        if ether.random.chance(400) {
            ether.fault(Fault::LieDoubled);
            self.say(ether, ToManager::Report(Box::new(reported.clone())));
            self.say(ether, ToManager::Report(Box::new(reported.clone())));
        }
        self.say(ether, ToManager::Report(Box::new(reported)));
    }

    fn lie_soon(&mut self, ether: &mut Ether) {
        let pause = ether.between((Span::millis(500), Span::seconds(4)));
        ether.ring(self.node(), self.life, pause, Timer::Lie);
    }

    /// One lie, if there is something to lie about and somebody to lie to.
    fn lie(&mut self, ether: &mut Ether) {
        if ether.calm {
            return;
        }
        self.lie_soon(ether);
        if self.link.as_ref().is_none_or(|l| !l.present) {
            return;
        }
        match ether.random.range(0, 7) {
            6 => self.lie_of_loans(ether),
            0 => {
                let Some(report) = ether.random.pick(&self.reports).cloned() else { return };
                ether.fault(Fault::LieLate);
                ether.tell(self.node(), || format!("lies: reports {} once more", report.report.lease));
                self.say(ether, ToManager::Report(Box::new(report)));
            }
            1 => {
                let others: Vec<_> = ether.oracle.pool().leases().keys().copied().collect();
                let (Some(report), Some(lease)) =
                    (ether.random.pick(&self.reports).cloned(), ether.random.pick(&others).copied())
                else {
                    return;
                };
                ether.fault(Fault::LieForeign);
                ether.tell(self.node(), || format!("lies: reports {lease}, whoever holds it"));
                let lie = statements::foreign(&report, lease, &self.boot);
                self.say(ether, ToManager::Report(Box::new(lie)));
            }
            2 => {
                let Some((running, obeyed)) = self.past.clone() else { return };
                ether.fault(Fault::LiePast);
                ether.tell(self.node(), || "lies: is present as it was long ago");
                self.up(ether, Up::Present { enclave: self.boot.enclave(), running, obeyed });
            }
            3 => {
                ether.fault(Fault::LieCapacity);
                let mut machine = self.machine.clone();
                machine.configuration.capacity.slots = machine.configuration.capacity.slots.saturating_mul(100);
                ether.tell(self.node(), || "lies: attests a hundred times its slots");
                let evidence = machine.evidence(&self.boot);
                self.up(ether, Up::Attest { evidence, boot: self.boot.clone(), machine });
            }
            4 => {
                ether.fault(Fault::LieObeyed);
                let obeyed = (Term(self.books.obeyed().0.0 + 40), Seq(7));
                ether.tell(self.node(), || "lies: obeyed a term that never was");
                self.up(ether, Up::Present { enclave: self.boot.enclave(), running: Vec::new(), obeyed });
            }
            5 => {
                ether.fault(Fault::LieChip);
                let other = (self.index + 1) % ether.plan.agents;
                let machine = Machine { chip: format!("chip {other}"), ..self.machine.clone() };
                let boot = Key::new(&format!("thief {}", self.index), ether.plan.real);
                let configuration = &machine.configuration;
                let (capacity, rate) = (configuration.capacity, configuration.rate);
                let truth = Truth { capacity, rate, production: machine.production };
                ether.oracle.booted(boot.enclave(), truth);
                ether.tell(self.node(), || format!("lies: attests as the machine of agent {other}"));
                self.up(ether, Up::Attest { evidence: machine.evidence(&boot), boot, machine });
            }
            _ => {
                let others: Vec<_> = ether.oracle.pool().leases().keys().copied().collect();
                let Some(lease) = ether.random.pick(&others).copied() else { return };
                ether.fault(Fault::LieRefuse);
                let why = Rejection::new("agent.busy", "the engine");
                self.say(ether, ToManager::Refuse { lease, why });
            }
        }
    }

    /// Lies and stops lying: an agent that was a liar starts over, honest.
    pub(crate) fn reform(&mut self, ether: &mut Ether) {
        if self.lies {
            self.lies = false;
            self.reboot(ether, Span::seconds(1), "its liar was found out");
        }
    }

    /// Stops what would never end.
    pub(crate) fn unstick(&mut self, ether: &mut Ether) {
        for lease in self.runs.keys() {
            ether.ring(Node::Agent(self.index), self.life, Span::seconds(1), Timer::Finish { lease: lease.0 });
        }
    }
}
