//! What one seed's deployment is like: who is there, what may go wrong, and how badly. Every seed takes a part of the kinds of faults
//! alone ("swarm testing", Groce et al. 2012): where everything goes wrong at once, little is ever reached.

use legation_core::custody::Threshold;
use legation_pool::Limits;

use crate::{clock::Span, defect::Defect, random::Random};

/// Faults that come from outside of the nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Mischief {
    Partition,
    Storm,
    Reset,
    ManagerCrash,
    ManagerFreeze,
    AgentCrash,
    AgentFreeze,
    StoreCrash,
    DiskSlow,
    DiskFails,
    DiskUnknown,
    ClockJump,
    StoreClock,
    VerifiersDown,
}

const MISCHIEF: [Mischief; 14] = [
    Mischief::Partition,
    Mischief::Storm,
    Mischief::Reset,
    Mischief::ManagerCrash,
    Mischief::ManagerFreeze,
    Mischief::AgentCrash,
    Mischief::AgentFreeze,
    Mischief::StoreCrash,
    Mischief::DiskSlow,
    Mischief::DiskFails,
    Mischief::DiskUnknown,
    Mischief::ClockJump,
    Mischief::StoreClock,
    Mischief::VerifiersDown,
];

/// How many hold the swarm key, and how many open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// Two of three.
    Small,
    /// Three of five.
    Large,
}

impl Size {
    #[expect(clippy::expect_used, reason = "constants")]
    pub(crate) fn threshold(self) -> Threshold {
        let (needed, members) = match self {
            Self::Small => (2, 3),
            Self::Large => (3, 5),
        };
        Threshold::new(needed, members).expect("a threshold")
    }

    pub(crate) fn per_provider_max(self) -> u16 {
        match self {
            Self::Small => 1,
            Self::Large => 2,
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Small => Self::Large,
            Self::Large => Self::Small,
        }
    }
}

/// Who is there for a swarm key, and what the operator wants of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Custodians {
    /// Of the first committee.
    pub(crate) size: Size,
    /// So many agents beside the others.
    pub(crate) agents: usize,
    pub(crate) epoch_seconds: u64,
    /// How often the operator asks for another committee.
    pub(crate) rotations: usize,
    /// There is another charter, with committees of the other size.
    pub(crate) resized: bool,
}

impl Custodians {
    /// In every fifth seed or so. The chance is one of its own: seeds without are what they were before there were custodians.
    fn draw(seed: u64) -> Option<Self> {
        let mut random = Random::new(seed ^ 0x6375_7374_6f64_7900);
        if !random.chance(190) {
            return None;
        }
        let size = if random.chance(700) { Size::Small } else { Size::Large };
        let resized = random.chance(250);
        Some(Self {
            size,
            resized,
            agents: if resized || size == Size::Large { 6 } else { 5 },
            epoch_seconds: if random.chance(500) { 60 } else { 3600 },
            rotations: random.below(3),
        })
    }
}

/// One seed's deployment.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) managers: usize,
    pub(crate) agents: usize,
    pub(crate) clients: usize,
    pub(crate) tasks: usize,
    pub(crate) limits: Limits,
    /// How long passports hold, in seconds.
    pub(crate) passport_life: u64,
    /// Faults are injected until then.
    pub(crate) trouble: Span,
    /// Between two faults, at least and at most.
    pub(crate) pace: (Span, Span),
    pub(crate) mischief: Vec<Mischief>,
    /// Links reorder, repeat, and let through what belongs to connections that have ended.
    pub(crate) wild: bool,
    /// Clocks are wrong by up to so many seconds.
    pub(crate) skew: u64,
    /// How many of the agents lie.
    pub(crate) liars: usize,
    /// The pool admits no development machine, and one tries.
    pub(crate) strict: bool,
    /// How many things the operator does.
    pub(crate) orders: usize,
    /// There is a swarm key.
    pub(crate) custodians: Option<Custodians>,
    /// Signatures are made and checked.
    pub(crate) real: bool,
    pub(crate) defect: Option<Defect>,
}

impl Plan {
    pub(crate) fn draw(seed: u64, defect: Option<Defect>, random: &mut Random) -> Self {
        let strict = random.chance(120);
        let limits = Limits {
            enclaves_max: 40,
            live_tasks_max: 12,
            attempts_max: u32::try_from(random.range(3, 8)).unwrap_or(8),
            grant_seconds: 8,
            lease_margin_seconds: 6,
            return_seconds: 6,
            ceremony_seconds: 8,
            custody_grace_seconds: 6,
            allow_development: !strict,
            ..Limits::default()
        };
        let agents = 3 + random.below(3);
        Self {
            managers: if random.chance(800) { 3 } else { 1 + random.below(2) },
            agents,
            clients: 1 + random.below(2),
            tasks: 3 + random.below(6),
            limits,
            passport_life: random.range(25, 120),
            trouble: Span::seconds(random.range(25, 50)),
            pace: (Span::millis(300), Span::millis(random.range(2000, 6000))),
            mischief: MISCHIEF.into_iter().filter(|_| random.chance(450)).collect(),
            wild: random.chance(350),
            skew: if random.chance(500) { random.range(1, 25) } else { 0 },
            liars: if random.chance(500) { 1 + random.below(agents / 2) } else { 0 },
            strict,
            orders: if random.chance(500) { 1 + random.below(5) } else { 0 },
            custodians: Custodians::draw(seed),
            real: seed.is_multiple_of(16),
            defect,
        }
    }

    /// Terms may end before or after whoever holds them believes so.
    pub(crate) fn store_clock_jumps(&self) -> bool {
        self.mischief.contains(&Mischief::StoreClock)
    }
}
