//! One tale of arrivals and departures, told to the pool and to each other strategy.

use std::{
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use legation_core::{
    Bytes, MicroUsd, Millicores, Milligpus, TaskId, Term,
    dsse::sign,
    prefer::{Preferences, Weights},
    statement::Office,
};
use legation_pool::{Command, Event, Limits, Pool};

use super::{
    peers::{Dice, Left, Rule, fragmentation},
    trace::{Need, Node, Pod, Trace},
};
use crate::world::*;

/// How often fragmentation is looked at.
const SAMPLES: usize = 20;
/// Share of the pods that the mix stands for.
const MIX: f64 = 0.95;

/// What happens, in order.
pub(crate) enum Step {
    /// A pod comes.
    Comes(usize),
    /// It goes.
    Goes(usize),
}

pub(crate) struct Tale {
    pub(crate) pods: Vec<Pod>,
    pub(crate) steps: Vec<Step>,
}

impl Tale {
    /// The pods as they came and went.
    pub(crate) fn of(pods: &[Pod]) -> Self {
        let mut going = BinaryHeap::new();
        let mut steps = Vec::new();
        for (n, pod) in pods.iter().enumerate() {
            while let Some(std::cmp::Reverse((at, gone))) = going.pop() {
                if at > pod.created {
                    going.push(std::cmp::Reverse((at, gone)));
                    break;
                }
                steps.push(Step::Goes(gone));
            }
            steps.push(Step::Comes(n));
            going.push(std::cmp::Reverse((pod.deleted, n)));
        }
        Self { pods: pods.to_vec(), steps }
    }
}

/// Pods drawn from the trace that come and never go, until they ask for `load` times the accelerators there are, as in the
/// paper's section 6.
pub(crate) fn inflated(trace: &Trace, load: f64) -> Tale {
    let all: u64 = trace.nodes.iter().map(|node| node.gpus as u64 * 1000).sum();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut pods, mut asked) = (Vec::new(), 0);
    while (asked as f64) < all as f64 * load {
        let pod = &trace.pods[dice.below(trace.pods.len() as u64) as usize];
        asked += pod.need.gpu;
        pods.push(pod.clone());
    }
    let steps = (0..pods.len()).map(Step::Comes).collect();
    Tale { pods, steps }
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) arrived: usize,
    pub(crate) placed: usize,
    /// Thousandths: asked for, and placed.
    pub(crate) cpu: (u64, u64),
    pub(crate) gpu: (u64, u64),
    /// Millionths of a dollar for the time that what was placed was there.
    pub(crate) cost: u128,
    /// Core-seconds of it.
    pub(crate) core_seconds: u128,
    /// Fragmentation, sampled evenly.
    pub(crate) fragmentation: Vec<f64>,
    pub(crate) deciding: Duration,
}

impl Outcome {
    /// Of those that came, how many were placed.
    pub(crate) fn share(&self) -> f64 {
        self.placed as f64 / self.arrived.max(1) as f64
    }

    fn note(&mut self, pod: &Pod, node: Option<&Node>) {
        let Need { cpu, memory_mib, gpu, .. } = pod.need;
        self.arrived += 1;
        self.cpu.0 += cpu;
        self.gpu.0 += gpu;
        let Some(node) = node else { return };
        self.placed += 1;
        self.cpu.1 += cpu;
        self.gpu.1 += gpu;
        let seconds = u128::from(pod.deleted.saturating_sub(pod.created));
        let hour = rate(node).per_hour(Millicores(cpu), Bytes::mib(memory_mib));
        self.cost += u128::from(hour.0) * seconds / 3600;
        self.core_seconds += u128::from(cpu) * seconds / 1000;
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let of = |(asked, placed): (u64, u64)| placed as f64 / asked.max(1) as f64;
        let short = |value: f64| (value * 10_000.0).round() / 10_000.0;
        let mean = self.fragmentation.iter().sum::<f64>() / self.fragmentation.len().max(1) as f64;
        serde_json::json!({
            "strategy": self.name, "pods": self.arrived, "placed": self.placed, "placed_share": short(self.share()),
            "cpu_share": short(of(self.cpu)), "gpu_share": short(of(self.gpu)),
            "usd": (self.cost / 1_000_000) as u64,
            "usd_per_core_hour": short(self.cost as f64 / 1e6 * 3600.0 / self.core_seconds.max(1) as f64),
            "fragmentation_mean": short(mean),
            "fragmentation": self.fragmentation.iter().map(|f| short(*f)).collect::<Vec<_>>(),
            "us_per_decision": short(self.deciding.as_secs_f64() * 1e6 / self.arrived.max(1) as f64),
        })
    }
}

fn rate(node: &Node) -> legation_core::claims::Rate {
    legation_core::claims::Rate { core_hour: MicroUsd(node.core_hour()), gib_hour: MicroUsd(5_000) }
}

/// The tale with another strategy.
pub(crate) fn with(trace: &Trace, tale: &Tale, rule: Rule) -> Outcome {
    let (nodes, mix) = (&trace.nodes, trace.mix(MIX));
    let mut left: Vec<_> = nodes.iter().map(Left::of).collect();
    let mut placed = BTreeMap::new();
    let mut dice = Dice(42);
    let mut out = Outcome { name: rule.name().to_owned(), ..Outcome::default() };
    for (at, step) in tale.steps.iter().enumerate() {
        match step {
            Step::Comes(n) => {
                let need = &tale.pods[*n].need;
                let begun = Instant::now();
                let chosen = rule.choose(nodes, &left, need, &mix, &mut dice);
                out.deciding += begun.elapsed();
                if let Some(node) = chosen {
                    placed.insert(*n, (node, left[node].take(need)));
                }
                out.note(&tale.pods[*n], chosen.map(|node| &nodes[node]));
            }
            Step::Goes(n) => {
                if let Some((node, devices)) = placed.remove(n) {
                    left[node].give_back(&tale.pods[*n].need, &devices);
                }
            }
        }
        if at % (tale.steps.len() / SAMPLES).max(1) == 0 {
            out.fragmentation.push(fragmentation(nodes, &left, &mix));
        }
    }
    out
}

/// The tale through the pool's door; with `audit`, its books are checked on the way.
pub(crate) fn in_pool(trace: &Trace, tale: &Tale, weights: Weights, audit: bool) -> Outcome {
    let limits = Limits { ended_tasks_kept: 100, attempts_max: 1000, ..Limits::default() };
    let limits = Limits { allow_development: true, ..limits };
    let world = World::bare(limits);
    let mut pool = Pool::new(limits);
    let apply = |pool: &mut Pool, command: Command| {
        pool.apply(command, START, &world.manager).unwrap_or_else(|why| panic!("{why}")).records
    };
    let appointment = Box::new(world.appointment(&world.manager, Office::Manager));
    apply(&mut pool, Command::BeginTerm { term: Term(1), appointment });
    let mut enclaves = BTreeMap::new();
    for (n, node) in trace.nodes.iter().enumerate() {
        let mut machine = Machine::new(&format!("node {n}"));
        machine.tee = legation_core::claims::TeeKind::SevSnp;
        let configuration = &mut machine.configuration;
        configuration.capacity.cpu = Millicores(node.cpu);
        configuration.capacity.memory = Bytes::mib(node.memory_mib);
        configuration.capacity.slots = 4096;
        configuration.rate = rate(node);
        machine.gpus = (0..node.gpus).map(|gpu| &*format!("gpu {gpu} of {n}").leak()).collect();
        machine.model = node.model.clone().leak();
        enclaves.insert(machine.id, n);
        apply(&mut pool, world.attested(&machine));
        apply(&mut pool, Command::Arrived { enclave: machine.id, running: Vec::new() });
    }
    let mix = trace.mix(MIX);
    let mut tasks = BTreeMap::new();
    let mut out = Outcome { name: format!("pool {weights:?}"), ..Outcome::default() };
    for (at, step) in tale.steps.iter().enumerate() {
        match step {
            Step::Comes(n) => {
                let Pod { need, .. } = &tale.pods[*n];
                let request = sign(asked(&format!("pod {n} of the tale"), need, weights), &world.client);
                let task = TaskId::new(request.digest());
                let submit = Command::Submit { request: Box::new(request), grants: Vec::new(), idempotency: None };
                let begun = Instant::now();
                let records = apply(&mut pool, submit);
                out.deciding += begun.elapsed();
                let leased = records.iter().find_map(|record| match &record.event {
                    Event::Leased { allocation } => Some(enclaves[&allocation.enclave]),
                    _ => None,
                });
                out.note(&tale.pods[*n], leased.map(|node| &trace.nodes[node]));
                match leased {
                    Some(_) => drop(tasks.insert(*n, task)),
                    None => drop(apply(&mut pool, Command::Cancel { task })),
                }
            }
            Step::Goes(n) => {
                if let Some(task) = tasks.remove(n) {
                    apply(&mut pool, Command::Cancel { task });
                }
            }
        }
        if at % (tale.steps.len() / SAMPLES).max(1) == 0 {
            let left = left(&pool, &enclaves);
            out.fragmentation.push(fragmentation(&trace.nodes, &left, &mix));
            if audit {
                pool.audit().unwrap();
            }
        }
    }
    pool.audit().unwrap();
    out
}

/// What is left of the enclaves, as nodes.
fn left(pool: &Pool, enclaves: &BTreeMap<legation_core::EnclaveId, usize>) -> Vec<Left> {
    let mut all: Vec<_> = enclaves.iter().collect();
    all.sort_by_key(|(_, node)| **node);
    let left = |(id, _): (&legation_core::EnclaveId, &usize)| {
        let enclave = &pool.enclaves()[id];
        let all = enclave.capacity();
        Left {
            cpu: all.cpu.checked_sub(enclave.cpu_leased()).unwrap().0,
            memory_mib: all.memory.checked_sub(enclave.memory_leased()).unwrap().0 >> 20,
            gpus: enclave.gpus_left().iter().map(|left| u64::from(*left)).collect(),
        }
    };
    all.into_iter().map(left).collect()
}

fn asked(name: &str, need: &Need, weights: Weights) -> legation_core::statement::Request {
    let mut piece = fragment("pod");
    piece.demand.cpu = Millicores(need.cpu);
    piece.demand.memory = Bytes::mib(need.memory_mib);
    piece.demand.gpus = Milligpus(need.gpu);
    piece.demand.output = Bytes(1024);
    let mut asked = request("client", name, START, vec![piece]);
    asked.prefer = Preferences { weights, ..Preferences::default() };
    asked.budget = MicroUsd(1 << 40);
    if need.gpu > 0 && !need.models.is_empty() {
        let models: Vec<_> = need.models.iter().map(|model| format!("\"{model}\"")).collect();
        let list = models.iter().map(|m| format!("gpu == {m}")).collect::<Vec<_>>().join(" or ");
        asked.require = list.parse().unwrap();
    }
    asked
}
