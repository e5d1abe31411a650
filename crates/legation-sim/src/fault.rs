//! What can go wrong, by kind. Every one that is injected is counted: a kind that never happened over a set of seeds is a failure
//! of the simulation itself.

use std::collections::BTreeMap;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Fault {
            $($(#[doc = $doc])* $name,)*
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

faults! {
    /// A message took far longer than usual.
    Delay = "net.delay",
    /// A message was lost; what it travelled on ends.
    Loss = "net.loss",
    /// A message came twice.
    Duplicate = "net.duplicate",
    /// A message overtook one that was sent before it.
    Reorder = "net.reorder",
    /// A message came many seconds late, when everybody had gone on.
    Straggler = "net.straggler",
    /// A message of a connection that has ended arrived anyway.
    Ghost = "net.ghost",
    /// Some nodes could not reach others.
    Partition = "net.partition",
    /// Some nodes could not reach others, who could reach them.
    PartitionOneWay = "net.partition-one-way",
    /// A connection ended for no reason.
    Reset = "net.reset",
    /// A manager died and came back without what it had in memory.
    ManagerCrash = "crash.manager",
    /// An agent died; its machine booted anew.
    AgentCrash = "crash.agent",
    /// The store died; what was durable stayed.
    StoreCrash = "crash.store",
    /// The store died in the middle of an append.
    StoreCrashInAppend = "crash.store-in-append",
    /// A manager stood still and went on with all it had in flight.
    ManagerFreeze = "freeze.manager",
    /// A manager stood still for longer than its term lasts.
    LeaderFreezePastTerm = "freeze.leader-past-term",
    /// A manager stood still between asking for an append and hearing of it.
    FreezeInAppend = "freeze.manager-in-append",
    /// An agent did not answer when it was asked to join a swarm.
    Aloof = "agent.aloof",
    /// An agent stood still.
    AgentFreeze = "freeze.agent",
    /// A clock was wrong from the start.
    ClockSkew = "clock.skew",
    /// A clock jumped ahead.
    ClockForward = "clock.forward",
    /// A clock jumped back.
    ClockBack = "clock.back",
    /// The store's clock jumped: terms end early or late.
    StoreClock = "clock.store",
    /// The disk answered late.
    DiskSlow = "disk.slow",
    /// An append failed, and nothing was written.
    DiskFails = "disk.append-fails",
    /// An append was written, and nobody heard of it.
    UnknownWritten = "disk.unknown-written",
    /// An append was not written, and nobody heard of it.
    UnknownLost = "disk.unknown-lost",
    /// An append that nobody heard of was written later.
    UnknownLate = "disk.unknown-late",
    /// A snapshot was changed by the disk.
    SnapshotDamaged = "disk.snapshot-damaged",
    /// A report of a lease that has moved, or is over.
    LieLate = "lie.late-report",
    /// A report of a lease of another enclave.
    LieForeign = "lie.foreign-report",
    /// A report that says other than what was asked for or happened.
    LieAltered = "lie.altered-report",
    /// A report sent again and again.
    LieDoubled = "lie.doubled-report",
    /// A heartbeat with what was true long ago.
    LiePast = "lie.past-heartbeat",
    /// More capacity than the boot proved before.
    LieCapacity = "lie.more-capacity",
    /// A term obeyed that never was.
    LieObeyed = "lie.false-obeyed",
    /// Evidence that claims the chip of another machine.
    LieChip = "lie.stolen-chip",
    /// An agent borrowed for a promise of another, or gave back what was lent to another.
    LieLoan = "lie.loan",
    /// An agent did not say that it needs an enclave no more.
    Forgetful = "agent.forgetful",
    /// Refusals of what was offered to others.
    LieRefuse = "lie.foreign-refusal",
    /// Work that goes on after it was cancelled.
    LieDeaf = "lie.deaf-to-cancel",
    /// Evidence of a development machine, in a pool that admits none.
    LieDevelopment = "lie.development",
    /// An agent that takes work and does nothing.
    Stuck = "agent.stuck",
    /// Verifiers give no passports for a while.
    VerifierDown = "verifier.down",
    /// A client that grants nothing.
    ClientSilent = "client.silent",
    /// A request that must be refused.
    ClientBad = "client.bad-request",
    /// A client that gives up.
    ClientCancels = "client.cancels",
    /// A task that reads what is not within its budget or the pool.
    ClientGreedy = "client.unplaceable",
    /// The operator revokes an enclave, chip or provider.
    Revoke = "operator.revoke",
    /// The operator drains an enclave.
    Drain = "operator.drain",
    /// The operator cordons an enclave.
    Cordon = "operator.cordon",
    /// The operator takes a cordon back.
    Uncordon = "operator.uncordon",
    /// The operator lets work be pushed aside, or no longer.
    Consent = "operator.consent",
    /// Seats are set aside that nobody will use.
    Reserve = "operator.reserve",
    /// A verifier takes a passport back.
    Withdraw = "operator.withdraw",
    /// A custodian died in the middle of a ceremony, with its share.
    CustodianDies = "custody.dies",
    /// A custodian's process died in the middle of a ceremony; it says again what it kept.
    CustodianRestarts = "custody.restarts",
    /// A custodian did not say its part.
    CustodianSilent = "custody.silent",
    /// A custodian was cut off in the middle of a ceremony.
    CustodianCutOff = "custody.cut-off",
    /// A custodian refused a dealing that is sound.
    CustodianSlanders = "custody.false-refusal",
    /// A custodian dealt a share that is not the one it committed to, or of another share than its own.
    CustodianBadShare = "custody.bad-share",
    /// A custodian dealt twice.
    CustodianTwoDealings = "custody.two-dealings",
    /// A custodian confirmed two rosters.
    CustodianTwoRosters = "custody.two-rosters",
    /// News of a ceremony came twice.
    CustodyTwice = "custody.news-twice",
    /// News of a ceremony came seconds late.
    CustodyLate = "custody.news-late",
}

/// What happened how often: faults that were injected, and what they led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was reached: failovers, fenced appends, refusals of each kind.
    pub reached: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    pub(crate) fn reach(&mut self, what: &str) {
        match self.reached.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.reached.insert(what.to_owned(), 1)),
        }
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, count) in &other.reached {
            *self.reached.entry(name.clone()).or_default() += count;
        }
    }

    /// Kinds of faults that never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        Fault::ALL.iter().map(|f| f.name()).filter(|name| !self.faults.contains_key(name)).collect()
    }
}
