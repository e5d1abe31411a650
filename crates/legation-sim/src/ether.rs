//! What all nodes share: time, chance, the network between them, the story, and the judge of what happens.
//!
//! Everything that is to happen stands in one agenda, ordered by time and then by when it was entered: so one seed has one history.
//!
//! The network is hostile on purpose. Between two nodes messages keep their order, but in seeds whose links are `wild`, where
//! they overtake each other, come twice, or arrive although their connection has ended. A message that is lost ends what it
//! travelled on, as TCP would: each end notices in its own time. A message to a node that is down is lost.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt,
};

use crate::{
    clock::{Instant, Span},
    defect::Defect,
    fault::{Fault, Tally},
    message::{Connection, Message, Node, Timer},
    oracle::Oracle,
    plan::Plan,
    random::Random,
};

/// Most events of one run: more are a livelock.
pub(crate) const EVENTS_MAX: u64 = 200_000;
/// How long until an end of a connection notices that it has ended, at least and at most.
const NOTICE: (Span, Span) = (Span::millis(200), Span::millis(4000));

/// Something that is to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message reaches a node.
    Arrives { from: Node, to: Node, message: Message },
    /// A node's own timer, of this life of it.
    Rings { node: Node, life: u32, timer: Timer },
    /// The next fault of the plan is due.
    Mischief,
    /// Something that was broken for a while is whole again.
    Heals(Healing),
    /// Faults stop.
    Calm,
}

/// What heals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Healing {
    /// A partition.
    Partition(u64),
    /// The network's weather.
    Storm,
    /// The disk.
    Disk,
    /// The verifiers.
    Verifiers,
}

struct Entry {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Who cannot reach whom.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) number: u64,
    /// These are cut off from all others.
    pub(crate) island: BTreeSet<Node>,
    /// What the others say still reaches the island.
    pub(crate) one_way: bool,
}

/// What the network is like at the moment, in parts of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) delay: u64,
}

/// What all nodes share.
pub(crate) struct Ether {
    pub(crate) plan: Plan,
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) tally: Tally,
    pub(crate) oracle: Oracle,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) weather: Weather,
    pub(crate) verifiers_down: bool,
    /// Faults have stopped.
    pub(crate) calm: bool,
    pub(crate) events: u64,
    agenda: BinaryHeap<Reverse<Entry>>,
    numbers: u64,
    /// When the last message between two nodes arrives.
    lanes: BTreeMap<(Node, Node), Instant>,
    /// Who is at the ends of connections.
    connections: BTreeMap<Connection, (Node, Node)>,
    story: Option<Vec<String>>,
    violation: Option<String>,
}

impl Ether {
    pub(crate) fn new(plan: Plan, random: Random, oracle: Oracle, tell: bool) -> Self {
        Self {
            plan,
            random,
            oracle,
            now: Instant::default(),
            tally: Tally::default(),
            partitions: Vec::new(),
            weather: Weather::default(),
            verifiers_down: false,
            calm: false,
            events: 0,
            agenda: BinaryHeap::new(),
            numbers: 0,
            lanes: BTreeMap::new(),
            connections: BTreeMap::new(),
            story: tell.then(Vec::new),
            violation: None,
        }
    }

    /// Whether this run's adapters have this defect.
    pub(crate) fn is(&self, defect: Defect) -> bool {
        self.plan.defect == Some(defect)
    }

    /// A number that nobody else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Adds a line to the story, if one is told.
    pub(crate) fn tell<T: fmt::Display>(&mut self, who: impl fmt::Display, what: impl FnOnce() -> T) {
        if let Some(story) = &mut self.story {
            story.push(format!("{} {:<10} {}", self.now, who.to_string(), what()));
        }
    }

    /// Counts a fault that happens now.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.tally.fault(fault);
    }

    /// Counts something that was reached.
    pub(crate) fn reach(&mut self, what: &str) {
        self.tally.reach(what);
    }

    /// An invariant does not hold. The first one that does not ends the run.
    pub(crate) fn violate(&mut self, what: String) {
        if self.violation.is_none() {
            self.tell("VIOLATION", || what.clone());
            self.violation = Some(what);
        }
    }

    /// Holds a judgement of the oracle against the run.
    pub(crate) fn judge(&mut self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.violate(what);
        }
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(crate) fn end(self) -> (Tally, Vec<String>, Option<String>) {
        (self.tally, self.story.unwrap_or_default(), self.violation)
    }

    fn enter(&mut self, at: Instant, event: Event) {
        let number = self.number();
        self.agenda.push(Reverse(Entry { at, number, event }));
    }

    /// The next thing that happens: time is then when it does.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let Reverse(entry) = self.agenda.pop()?;
        self.now = entry.at;
        self.events += 1;
        Some(entry.event)
    }

    /// Has something happen after a while.
    pub(crate) fn after(&mut self, span: Span, event: Event) {
        self.enter(self.now.plus(span), event);
    }

    /// Has a node's timer ring after a while.
    pub(crate) fn ring(&mut self, node: Node, life: u32, span: Span, timer: Timer) {
        self.after(span, Event::Rings { node, life, timer });
    }

    /// A length of time between these.
    pub(crate) fn between(&mut self, (low, high): (Span, Span)) -> Span {
        Span(self.random.range(low.0, high.0))
    }

    /// Puts off what came for a node that stands still.
    pub(crate) fn later(&mut self, at: Instant, event: Event) {
        self.enter(at, event);
    }

    /// A connection between two nodes.
    pub(crate) fn connect(&mut self, one: Node, other: Node) -> Connection {
        let connection = self.number();
        self.connections.insert(connection, (one, other));
        connection
    }

    /// A connection ends: both ends notice, each in its time.
    pub(crate) fn cut(&mut self, connection: Connection, why: &'static str) {
        let Some((one, other)) = self.connections.remove(&connection) else { return };
        for (to, from) in [(one, other), (other, one)] {
            let span = self.between(NOTICE);
            self.after(span, Event::Arrives { from, to, message: Message::Ended { connection, why } });
        }
    }

    /// Ends every connection of a node, for the others: it is down.
    pub(crate) fn cut_all(&mut self, node: Node, why: &'static str) {
        let its = self.connections.iter().filter(|(_, (one, other))| *one == node || *other == node);
        for connection in its.map(|(c, _)| *c).collect::<Vec<_>>() {
            self.cut(connection, why);
        }
    }

    /// Whether a connection has not ended.
    pub(crate) fn is_open(&self, connection: Connection) -> bool {
        self.connections.contains_key(&connection)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> Vec<Connection> {
        self.connections.keys().copied().collect()
    }

    fn is_cut_off(&self, from: Node, to: Node) -> bool {
        self.partitions.iter().any(|p| match (p.island.contains(&from), p.island.contains(&to)) {
            (true, false) => true,
            (false, true) => !p.one_way,
            _ => false,
        })
    }

    /// Whether something that is sent now would arrive.
    pub(crate) fn passes(&mut self, from: Node, to: Node) -> bool {
        if self.is_cut_off(from, to) {
            return false;
        }
        let lost = self.random.chance(self.weather.loss);
        if lost {
            self.fault(Fault::Loss);
        }
        !lost
    }

    /// Sends a message, which may never arrive.
    pub(crate) fn send(&mut self, from: Node, to: Node, message: Message) {
        if !self.passes(from, to) {
            if let Message::Up { connection, .. } | Message::Down { connection, .. } = message {
                self.cut(connection, "nothing came through");
            }
            return;
        }
        let mut span = self.between((Span(200), Span::millis(3)));
        if self.random.chance(self.weather.delay) {
            self.fault(Fault::Delay);
            span = self.between((Span::millis(20), Span::millis(1500)));
        }
        let wild = self.plan.wild && !self.calm;
        // Offers most of all: what a leader of old once offered is what must not be obeyed.
        let offers = matches!(&message, Message::Down { say, .. } if say.is_offer());
        if wild && self.random.chance(if offers { 120 } else { 10 }) {
            // Everybody else has gone on by then.
            self.fault(Fault::Straggler);
            let late = self.between((Span::seconds(2), Span::seconds(14)));
            return self.after(late, Event::Arrives { from, to, message });
        }
        // In every seed with a swarm key: what custodians are told is to count for no more than its words.
        let custody = !self.calm && matches!(&message, Message::Down { say, .. } if say.is_custody());
        if custody && self.random.chance(20) {
            self.fault(Fault::CustodyLate);
            let late = self.between((Span::seconds(1), Span::seconds(6)));
            return self.after(late, Event::Arrives { from, to, message });
        }
        let mut at = self.now.plus(span);
        let lane = self.lanes.entry((from, to)).or_default();
        if wild && self.random.chance(30) {
            if at < *lane {
                self.tally.fault(Fault::Reorder);
            }
        } else if at <= *lane {
            at = Instant(lane.0 + 1);
        }
        *lane = at.max(*lane);
        if wild && self.random.chance(20) {
            self.fault(Fault::Duplicate);
            let longest = if self.random.chance(300) { Span::seconds(12) } else { Span::millis(500) };
            let again = self.between((Span::millis(1), longest));
            self.enter(at.plus(again), Event::Arrives { from, to, message: message.clone() });
        }
        if custody && self.random.chance(20) {
            self.fault(Fault::CustodyTwice);
            let again = self.between((Span::millis(1), Span::seconds(3)));
            self.enter(at.plus(again), Event::Arrives { from, to, message: message.clone() });
        }
        self.enter(at, Event::Arrives { from, to, message });
    }
}
