//! Other strategies over the same nodes: what each would choose, by a plain scan. And fragmentation, the paper's measure.

use super::trace::{Need, Node};

/// What is left of a node.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
    /// Of each accelerator, in thousandths.
    pub(crate) gpus: Vec<u64>,
}

impl Left {
    pub(crate) fn of(node: &Node) -> Self {
        Self { cpu: node.cpu, memory_mib: node.memory_mib, gpus: vec![1000; node.gpus] }
    }

    fn gpu(&self) -> u64 {
        self.gpus.iter().sum()
    }

    /// Which accelerators `gpu` thousandths would be on: the fullest with room for a share, or the first whole ones.
    fn devices(&self, gpu: u64) -> Option<Vec<(usize, u64)>> {
        let all = || self.gpus.iter().copied().enumerate();
        if gpu < 1000 {
            let fullest = all().filter(|(_, left)| *left >= gpu).min_by_key(|(n, left)| (*left, *n));
            return if gpu == 0 { Some(Vec::new()) } else { fullest.map(|(n, _)| vec![(n, gpu)]) };
        }
        let whole = (gpu / 1000) as usize;
        let empty: Vec<_> = all().filter(|(_, left)| *left == 1000).take(whole).map(|(n, _)| (n, 1000)).collect();
        (empty.len() == whole).then_some(empty)
    }

    pub(crate) fn fits(&self, node: &Node, need: &Need) -> bool {
        let model = need.gpu == 0 || need.models.is_empty() || need.models.contains(&node.model);
        model && self.cpu >= need.cpu && self.memory_mib >= need.memory_mib && self.devices(need.gpu).is_some()
    }

    pub(crate) fn take(&mut self, need: &Need) -> Vec<(usize, u64)> {
        let devices = self.devices(need.gpu).unwrap_or_default();
        self.cpu -= need.cpu;
        self.memory_mib -= need.memory_mib;
        devices.iter().for_each(|(n, share)| self.gpus[*n] -= share);
        devices
    }

    pub(crate) fn give_back(&mut self, need: &Need, devices: &[(usize, u64)]) {
        self.cpu += need.cpu;
        self.memory_mib += need.memory_mib;
        devices.iter().for_each(|(n, share)| self.gpus[*n] += share);
    }

    /// Accelerators, in thousandths, that work of this kind could not use: all of what is left where it does not fit at all
    /// or wants none; otherwise what is left of each device in too small a piece (ATC'23, section 3.2).
    fn unusable(&self, node: &Node, need: &Need) -> u64 {
        if need.gpu == 0 || !self.fits(node, need) {
            return self.gpu();
        }
        let piece = need.gpu.min(1000);
        self.gpus.iter().filter(|left| **left < piece).sum()
    }

    pub(crate) fn fragmentation(&self, node: &Node, mix: &[(Need, f64)]) -> f64 {
        if self.gpus.is_empty() {
            return 0.0;
        }
        mix.iter().map(|(need, share)| share * self.unusable(node, need) as f64).sum()
    }
}

/// Expected share of the accelerators left that the next piece of work cannot use.
pub(crate) fn fragmentation(nodes: &[Node], left: &[Left], mix: &[(Need, f64)]) -> f64 {
    let all: u64 = left.iter().map(Left::gpu).sum();
    let lost: f64 = nodes.iter().zip(left).map(|(node, left)| left.fragmentation(node, mix)).sum();
    if all == 0 { 0.0 } else { lost / all as f64 }
}

/// A strategy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// The first that fits.
    FirstFit,
    /// The one with the least left after it, each resource as a share of the largest node's.
    BestFit,
    /// Any that fits.
    Random,
    /// The cheapest, then the first.
    Cheapest,
    /// The one whose fragmentation grows least: the paper's own.
    Fgd,
}

impl Rule {
    pub(crate) const ALL: [Self; 5] = [Self::FirstFit, Self::BestFit, Self::Random, Self::Cheapest, Self::Fgd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FirstFit => "first-fit",
            Self::BestFit => "best-fit",
            Self::Random => "random",
            Self::Cheapest => "cheapest",
            Self::Fgd => "fgd",
        }
    }

    pub(crate) fn choose(
        self,
        nodes: &[Node],
        left: &[Left],
        need: &Need,
        mix: &[(Need, f64)],
        dice: &mut Dice,
    ) -> Option<usize> {
        let mut fitting = (0..nodes.len()).filter(|n| left[*n].fits(&nodes[*n], need));
        match self {
            Self::FirstFit => fitting.next(),
            Self::BestFit => fitting.min_by(|a, b| {
                let rest = |n: usize| {
                    let left = &left[n];
                    let shares = [(left.cpu, 128_000), (left.memory_mib, 1 << 20), (left.gpu(), 8000)];
                    shares.into_iter().map(|(left, most)| left as f64 / most as f64).sum::<f64>()
                };
                rest(*a).total_cmp(&rest(*b)).then(a.cmp(b))
            }),
            Self::Random => {
                let all: Vec<_> = fitting.collect();
                (!all.is_empty()).then(|| all[dice.below(all.len() as u64) as usize])
            }
            Self::Cheapest => fitting.min_by_key(|n| (nodes[*n].core_hour(), *n)),
            Self::Fgd => fitting.min_by(|a, b| {
                let growth = |n: usize| {
                    let before = left[n].fragmentation(&nodes[n], mix);
                    let mut after = left[n].clone();
                    after.take(need);
                    after.fragmentation(&nodes[n], mix) - before
                };
                growth(*a).total_cmp(&growth(*b)).then(a.cmp(b))
            }),
        }
    }
}

/// A generator that every machine repeats (xorshift).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
