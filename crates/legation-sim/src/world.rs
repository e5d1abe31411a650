//! One run: a deployment made from a seed, trouble for a while, calm, and the judgement.

use std::{collections::BTreeSet, rc::Rc};

use legation_core::{EnclaveId, MicroUsd, Revocable, Signed, Signer, UnixTime, custody::Charter, statement};
use legation_pool::{AccountTerms, Command};

use crate::{
    agent::Agent,
    client::{self, Client, Errand, Job},
    clock::{Clock, Span},
    defect::Defect,
    ether::{EVENTS_MAX, Ether, Event, Healing, Partition, Weather},
    fault::{Fault, Tally},
    keys::Key,
    manager::{Manager, Office},
    message::{Call, Node, Timer},
    oracle::Oracle,
    plan::{Mischief, Plan},
    random::Random,
    statements::{self, Machine, Shape, Wish},
    store::{Disk, Store},
};

/// How long after the end of faults every task has ended, and a swarm key is where it should be.
const BOUND: Span = Span::seconds(240);
/// How long custodians have at least, after the end of faults, to come back.
const RETURN: Span = Span::seconds(12);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What happened how often.
    pub tally: Tally,
    /// The invariant that did not hold, if any.
    pub violation: Option<String>,
    /// Everything that happened, a line each, where it was asked for.
    pub story: Vec<String>,
    /// Events that happened.
    pub events: u64,
    /// Records that were durable in the end.
    pub records: u64,
}

/// Runs one seed. `tell` keeps the story; it changes nothing else.
pub fn run(seed: u64, defect: Option<Defect>, tell: bool) -> Outcome {
    let mut world = World::new(seed, defect, tell);
    world.play();
    world.outcome(seed)
}

struct World {
    ether: Ether,
    store: Store,
    managers: Vec<Manager>,
    agents: Vec<Agent>,
    clients: Vec<Client>,
    verifier: Key,
    /// What the operator asks of committees, one after the other.
    charters: Vec<Signed<Charter>>,
    began_calm: Option<crate::clock::Instant>,
}

impl World {
    fn new(seed: u64, defect: Option<Defect>, tell: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(seed, defect, &mut random);
        let oracle = Oracle::new(plan.limits);
        let key = |name: &str| Key::new(name, plan.real);
        let (operator, verifier) = (key("operator"), key("verifier"));
        let mut ether = Ether::new(plan.clone(), random.clone(), oracle, tell);
        let managers = (0..plan.managers).map(|index| {
            let signer = key(&format!("manager {index}"));
            let office = Office {
                appointment: statements::appointment(&operator, &signer, statement::Office::Manager),
                verifier_appointment: statements::appointment(&operator, &verifier, statement::Office::Verifier),
                verifier: verifier.clone(),
                signer,
            };
            Manager::new(index, office, &mut ether)
        });
        let managers: Vec<_> = managers.collect();
        let store = Store::new(&mut ether);
        let random = &mut ether.random;
        let agents = (0..plan.agents).map(|index| {
            let machine = Machine::draw(index, plan.strict && index > 0, random);
            let mut agent = Agent::new(index, machine, operator.public_key(), plan.real);
            agent.lies = index + plan.liars >= plan.agents;
            agent
        });
        let mut agents: Vec<Agent> = agents.collect();
        let mut charters = Vec::new();
        if let Some(custodians) = &plan.custodians {
            for index in (plan.agents..).take(custodians.agents) {
                let machine = Machine::custodian(index, plan.strict, random);
                agents.push(Agent::new(index, machine, operator.public_key(), plan.real));
            }
            for _ in 0..1 + usize::from(custodians.resized) {
                charters.push(statements::charter(&operator, custodians, charters.last()));
            }
        }
        let clients = (0..plan.clients).map(|index| Client::new(index, plan.real)).collect();
        let mut world = Self { ether, store, managers, agents, clients, verifier, charters, began_calm: None };
        world.set_clocks();
        world.populate();
        world
    }

    fn set_clocks(&mut self) {
        let skew = self.ether.plan.skew;
        if skew == 0 {
            return;
        }
        self.ether.fault(Fault::ClockSkew);
        for node in self.nodes() {
            let ahead = i64::try_from(self.ether.random.range(0, 2 * skew * 1_000_000)).unwrap_or(0);
            let ahead = ahead - i64::try_from(skew * 1_000_000).unwrap_or(0);
            self.clock(node).ahead = ahead;
            self.ether.tell(node, || format!("its clock is off by {} ms", ahead / 1000));
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let managers = (0..self.managers.len()).map(Node::Manager);
        let agents = (0..self.agents.len()).map(Node::Agent);
        let clients = (0..self.clients.len()).map(Node::Client);
        std::iter::once(Node::Store).chain(managers).chain(agents).chain(clients).collect()
    }

    fn clock(&mut self, node: Node) -> &mut Clock {
        match node {
            Node::Manager(n) => &mut self.managers[n].clock,
            Node::Agent(n) => &mut self.agents[n].clock,
            Node::Client(n) => &mut self.clients[n].clock,
            Node::Store => &mut self.store.clock,
        }
    }

    /// Everybody begins; clients and operator get what they are to do.
    fn populate(&mut self) {
        let ether = &mut self.ether;
        let plan = ether.plan.clone();
        self.store.fragile = plan.mischief.contains(&Mischief::StoreCrash);
        self.managers.iter_mut().for_each(|m| m.start(ether));
        self.agents.iter_mut().for_each(|a| a.start(ether));
        for number in 0..plan.tasks {
            let mut errand = Errand::new(format!("task {number}"), Wish::draw(&mut ether.random));
            match ether.random.range(0, 19) {
                0 => {
                    ether.fault(Fault::ClientSilent);
                    errand.silent = true;
                    // Each fragment has its tries, and each try its time: several would outlast the bound.
                    errand.wish.shape = Shape::Single;
                }
                1..=2 => errand.patience = Some(u32::try_from(ether.random.range(1, 10)).unwrap_or(1)),
                3 => {
                    ether.fault(Fault::ClientGreedy);
                    errand.wish = client::greedy(errand.wish);
                }
                4 => {
                    ether.fault(Fault::ClientGreedy);
                    errand.wish.budget = MicroUsd(ether.random.range(0, 3));
                    errand.wish.life = 40;
                }
                _ => {}
            }
            let when = ether.between((Span::millis(10), plan.trouble));
            let client = ether.random.below(plan.clients);
            self.clients[client].take(ether, Job::Task(Box::new(errand)), when);
        }
        if ether.random.chance(300) {
            let when = ether.between((Span::seconds(2), plan.trouble));
            self.clients[0].take(ether, Job::Bad { name: "bad".into() }, when);
        }
        self.want_custody();
        let ether = &mut self.ether;
        let first = ether.between(plan.pace);
        ether.after(first, Event::Mischief);
        ether.after(plan.trouble, Event::Calm);
    }

    /// The operator signs charters, and asks for another committee now and then.
    fn want_custody(&mut self) {
        let Self { ether, clients, charters, .. } = self;
        let Some(custodians) = ether.plan.custodians else { return };
        let trouble = ether.plan.trouble;
        let author = || "operator".to_owned();
        let mut order = |ether: &mut Ether, command, earliest: Span, latest: Span| {
            let when = ether.between((earliest, latest));
            let call = Rc::new(Call::Operate(Box::new(command)));
            clients[0].take(ether, Job::Order { call, done: None }, when);
        };
        let mut when = (Span::millis(500), Span::seconds(4));
        for charter in std::mem::take(charters) {
            order(ether, Command::SetCharter { charter: Box::new(charter), author: author() }, when.0, when.1);
            when = (Span::seconds(8), trouble);
        }
        for _ in 0..custodians.rotations {
            let command = Command::RotateKey { swarm: statements::swarm_key(), author: author() };
            order(ether, command, Span::seconds(5), trouble);
        }
    }

    fn play(&mut self) {
        while self.ether.violation().is_none() {
            let Some(event) = self.ether.next() else { break };
            if self.ether.events > EVENTS_MAX {
                self.ether.violate(format!("more than {EVENTS_MAX} events: a livelock"));
                break;
            }
            let looks = matches!(event, Event::Arrives { .. });
            self.happens(event);
            if let Some(began) = self.began_calm {
                let calm = self.ether.now.since(began);
                if calm > BOUND || (looks && self.is_quiet() && self.key_rests(calm)) {
                    break;
                }
            }
        }
        self.conclude();
    }

    /// Everything was asked, answered and done.
    fn is_quiet(&self) -> bool {
        let live = self.ether.oracle.pool().view().tasks_live;
        live == 0 && self.clients.iter().all(|c| !c.waits())
    }

    /// Whether nothing is left to do for the swarm key, after so much calm.
    fn key_rests(&self, calm: Span) -> bool {
        let now = Clock::default().unix(self.ether.now);
        self.ether.plan.custodians.is_none() || (calm >= RETURN && self.ether.oracle.key_rests(now))
    }

    fn happens(&mut self, event: Event) {
        let node = match &event {
            Event::Arrives { to, .. } => Some(*to),
            Event::Rings { node, .. } => Some(*node),
            _ => None,
        };
        let frozen = match node {
            Some(Node::Manager(n)) => self.managers[n].frozen,
            Some(Node::Agent(n)) => self.agents[n].frozen,
            _ => None,
        };
        if let Some(until) = frozen {
            if self.ether.now < until {
                return self.ether.later(until, event);
            }
            match node {
                Some(Node::Manager(n)) => self.managers[n].thaw(&mut self.ether),
                Some(Node::Agent(n)) => self.agents[n].frozen = None,
                _ => {}
            }
        }
        match event {
            Event::Arrives { from, to, message } => self.arrives(from, to, message),
            Event::Rings { node, life, timer } => self.rings(node, life, timer),
            Event::Mischief => self.mischief(),
            Event::Heals(healing) => self.heal(healing),
            Event::Calm => self.calm(),
        }
    }

    fn arrives(&mut self, from: Node, to: Node, message: crate::message::Message) {
        let ether = &mut self.ether;
        match to {
            Node::Manager(n) if self.managers[n].up => {
                self.managers[n].hears(ether, &mut self.store, from, message);
            }
            Node::Agent(n) if self.agents[n].up => self.agents[n].hears(ether, message),
            Node::Client(n) => self.clients[n].hears(ether, from, message),
            Node::Manager(_) | Node::Agent(_) | Node::Store => {}
        }
    }

    fn rings(&mut self, node: Node, life: u32, timer: Timer) {
        let ether = &mut self.ether;
        match node {
            Node::Store if life == self.store.life => self.store.rings(ether, timer),
            Node::Manager(n) if life == self.managers[n].life => {
                self.managers[n].rings(ether, &mut self.store, timer);
            }
            Node::Agent(n) if life == self.agents[n].life => self.agents[n].rings(ether, timer),
            Node::Client(n) => self.clients[n].rings(ether, timer),
            _ => {}
        }
    }

    // Trouble

    fn mischief(&mut self) {
        if self.ether.calm {
            return;
        }
        let pause = self.ether.between(self.ether.plan.pace);
        self.ether.after(pause, Event::Mischief);
        if self.ether.plan.orders > 0 && self.ether.random.chance(150) {
            self.ether.plan.orders -= 1;
            self.order();
        }
        if self.ether.plan.custodians.is_some() && self.ether.random.chance(100) {
            self.cut_custodian_off();
        }
        let Some(mischief) = self.ether.random.pick(&self.ether.plan.mischief.clone()).copied() else { return };
        let ether = &mut self.ether;
        match mischief {
            Mischief::Partition => self.partition(),
            Mischief::Storm => {
                let weather = Weather { loss: ether.random.range(0, 80), delay: ether.random.range(20, 300) };
                ether.weather = weather;
                ether.tell("network", || format!("a storm: {weather:?}"));
                let span = ether.between((Span::seconds(1), Span::seconds(6)));
                ether.after(span, Event::Heals(Healing::Storm));
            }
            Mischief::Reset => {
                let open = ether.open();
                if let Some(connection) = ether.random.pick(&open).copied() {
                    ether.fault(Fault::Reset);
                    ether.cut(connection, "reset");
                }
            }
            Mischief::ManagerCrash => {
                let which = self.some_manager();
                let ether = &mut self.ether;
                if self.managers[which].up {
                    ether.fault(Fault::ManagerCrash);
                    let down = ether.between((Span::millis(300), Span::seconds(6)));
                    self.managers[which].crash(ether, down);
                }
            }
            Mischief::ManagerFreeze => {
                let which = self.some_manager();
                let ether = &mut self.ether;
                if self.managers[which].up && self.managers[which].frozen.is_none() {
                    let span = ether.between((Span::millis(300), Span::seconds(9)));
                    self.managers[which].freeze(ether, span);
                }
            }
            Mischief::AgentCrash => {
                let which = ether.random.below(self.agents.len());
                if self.agents[which].up {
                    let down = ether.between((Span::millis(300), Span::seconds(6)));
                    self.agents[which].crash(ether, down);
                }
            }
            Mischief::AgentFreeze => {
                let which = ether.random.below(self.agents.len());
                if self.agents[which].up && self.agents[which].frozen.is_none() {
                    let span = ether.between((Span::millis(300), Span::seconds(9)));
                    self.agents[which].freeze(ether, span);
                }
            }
            Mischief::StoreCrash => {
                if self.store.is_up() {
                    ether.fault(Fault::StoreCrash);
                    if ether.plan.real {
                        self.store.damage(ether);
                    }
                    let down = ether.between((Span::millis(200), Span::seconds(4)));
                    self.store.crash(ether, down);
                }
            }
            Mischief::DiskSlow => self.disk(Disk { slow: 400, ..Disk::default() }),
            Mischief::DiskFails => self.disk(Disk { fails: 300, ..Disk::default() }),
            Mischief::DiskUnknown => self.disk(Disk { unknown: 200, ..Disk::default() }),
            Mischief::ClockJump => {
                let nodes = self.nodes();
                let Some(node) = self.ether.random.pick(&nodes).copied().filter(|n| *n != Node::Store) else { return };
                self.jump(node, 40_000);
            }
            Mischief::StoreClock => {
                self.ether.fault(Fault::StoreClock);
                self.jump(Node::Store, 5_000);
            }
            Mischief::VerifiersDown => {
                ether.fault(Fault::VerifierDown);
                ether.verifiers_down = true;
                ether.tell("verifiers", || "do not answer");
                let life = ether.plan.passport_life.min(30);
                let span = ether.between((Span::seconds(2), Span::seconds(life)));
                ether.after(span, Event::Heals(Healing::Verifiers));
            }
        }
    }

    /// Mostly the one that leads: the others have less to lose.
    fn some_manager(&mut self) -> usize {
        let leader = self.managers.iter().position(Manager::leads);
        let any = self.ether.random.below(self.managers.len());
        leader.filter(|_| self.ether.random.chance(700)).unwrap_or(any)
    }

    fn disk(&mut self, disk: Disk) {
        self.store.disk = disk;
        self.ether.tell(Node::Store, || format!("its disk: {disk:?}"));
        let span = self.ether.between((Span::seconds(1), Span::seconds(6)));
        self.ether.after(span, Event::Heals(Healing::Disk));
    }

    fn jump(&mut self, node: Node, millis: u64) {
        let back = self.ether.random.chance(500);
        let by = i64::try_from(self.ether.random.range(500, millis) * 1000).unwrap_or(0);
        self.ether.fault(if back { Fault::ClockBack } else { Fault::ClockForward });
        self.clock(node).ahead += if back { -by } else { by };
        self.ether
            .tell(node, || format!("its clock jumps {} by {} ms", if back { "back" } else { "ahead" }, by / 1000));
    }

    /// Cuts off somebody who takes part in a ceremony that is under way.
    fn cut_custodian_off(&mut self) {
        let called: Vec<EnclaveId> = self.ether.oracle.called();
        let part = |agent: &Agent| agent.up && called.contains(&agent.enclave());
        let members: Vec<usize> = (0..self.agents.len()).filter(|index| part(&self.agents[*index])).collect();
        let Some(member) = self.ether.random.pick(&members).copied() else { return };
        self.ether.fault(Fault::CustodianCutOff);
        self.cut_off(BTreeSet::from([Node::Agent(member)]), false);
    }

    fn partition(&mut self) {
        let nodes = self.nodes();
        let share = self.ether.random.range(100, 500);
        let mut island: BTreeSet<Node> = BTreeSet::new();
        for node in nodes {
            if self.ether.random.chance(share) {
                island.insert(node);
            }
        }
        if self.ether.random.chance(400)
            && let Some(leader) = self.managers.iter().position(Manager::leads)
        {
            // The leader alone, which is the most interesting place to cut.
            island = BTreeSet::from([Node::Manager(leader)]);
        }
        let one_way = self.ether.random.chance(300);
        self.ether.fault(if one_way { Fault::PartitionOneWay } else { Fault::Partition });
        self.cut_off(island, one_way);
    }

    fn cut_off(&mut self, island: BTreeSet<Node>, one_way: bool) {
        let number = self.ether.number();
        self.ether.tell("network", || {
            let names: Vec<_> = island.iter().map(ToString::to_string).collect();
            let how = if one_way { "reach nobody, and hear all" } else { "are cut off" };
            format!("these {how}: {}", names.join(", "))
        });
        self.ether.partitions.push(Partition { number, island, one_way });
        let span = self.ether.between((Span::millis(500), Span::seconds(9)));
        self.ether.after(span, Event::Heals(Healing::Partition(number)));
    }

    /// The operator does something.
    fn order(&mut self) {
        let ether = &mut self.ether;
        let agent = ether.random.below(self.agents.len());
        let (enclave, machine) = (self.agents[agent].enclave(), &self.agents[agent].machine);
        let operate = |command| Job::Order { call: Rc::new(Call::Operate(Box::new(command))), done: None };
        let author = || "operator".to_owned();
        let job = match ether.random.range(0, 9) {
            0..=1 => {
                ether.fault(Fault::Revoke);
                client::revocation(Revocable::Enclave(enclave))
            }
            2 => {
                ether.fault(Fault::Revoke);
                client::revocation(Revocable::Chip(machine.chip.clone()))
            }
            3 => {
                ether.fault(Fault::Withdraw);
                let verifier = self.verifier.public_key().id();
                Job::Order { call: Rc::new(Call::Withdraw { enclave, verifier }), done: None }
            }
            5 => {
                ether.fault(Fault::Cordon);
                operate(Command::Cordon { enclave, why: "a fan is loud".into(), author: author() })
            }
            6 => {
                ether.fault(Fault::Uncordon);
                operate(Command::Uncordon { enclave, author: author() })
            }
            7..=8 => {
                ether.fault(Fault::Consent);
                let consents = ether.random.chance(800);
                let terms = AccountTerms { may_preempt: consents, preemptible: consents, ..AccountTerms::default() };
                operate(Command::SetAccount { tenant: None, terms, as_of: None, author: author() })
            }
            9 => {
                ether.fault(Fault::Reserve);
                let now = Clock::default().unix(ether.now);
                let from = now.plus(ether.random.range(20, 90));
                let terms = statements::reservation(from, ether.random.range(60, 120), ether.random.below(3));
                operate(Command::Reserve { terms: Box::new(terms), author: author() })
            }
            _ => {
                ether.fault(Fault::Drain);
                Job::Order { call: Rc::new(Call::Drain { enclave }), done: None }
            }
        };
        self.clients[0].take(ether, job, Span(1));
    }

    fn heal(&mut self, healing: Healing) {
        match healing {
            Healing::Partition(number) => self.ether.partitions.retain(|p| p.number != number),
            Healing::Storm => self.ether.weather = Weather::default(),
            Healing::Disk => self.store.disk = Disk::default(),
            Healing::Verifiers => self.ether.verifiers_down = false,
        }
        self.ether.tell("world", || format!("{healing:?} is over"));
    }

    /// Faults stop: what is down comes back by itself; what is wrong is put right.
    fn calm(&mut self) {
        let ether = &mut self.ether;
        ether.tell("world", || "all is calm from here on");
        ether.calm = true;
        ether.partitions.clear();
        ether.weather = Weather::default();
        ether.verifiers_down = false;
        self.store.disk = Disk::default();
        self.store.fragile = false;
        for node in self.nodes() {
            self.clock(node).ahead = 0;
        }
        for agent in &mut self.agents {
            agent.reform(&mut self.ether);
            agent.unstick(&mut self.ether);
        }
        self.began_calm = Some(self.ether.now);
    }

    // Judgement

    fn conclude(&mut self) {
        if self.ether.violation().is_some() {
            return;
        }
        let stored = self.store.records();
        let verdict = self.ether.oracle.conclude(&stored, self.ether.plan.real);
        self.ether.judge(verdict);
        for manager in &self.managers {
            if let Some(pool) = manager.settled_pool() {
                let verdict = self.ether.oracle.same(pool);
                self.ether.judge(verdict);
            }
        }
        let now: UnixTime = Clock::default().unix(self.ether.now);
        let verdict = self.ether.oracle.stuck(now);
        self.ether.judge(verdict);
        let verdict = self.ether.oracle.key_is_whole();
        self.ether.judge(verdict);
        if self.began_calm.is_some_and(|began| self.ether.now.since(began) > BOUND) {
            let verdict = self.ether.oracle.key_is_stuck(now);
            self.ether.judge(verdict);
        }
        if let Some(manager) = self.managers.iter().find(|m| m.leads()) {
            let key = manager.id();
            self.ether.tell("world", || format!("ends, led by {}", key.id().short()));
        }
    }

    fn outcome(self, seed: u64) -> Outcome {
        let (events, records) = (self.ether.events, self.ether.oracle.pool().seq().0);
        let (tally, story, violation) = self.ether.end();
        Outcome { seed, tally, violation, story, events, records }
    }
}
