//! The trace: nodes, and pods in the order in which they came.
#![expect(clippy::print_stderr, reason = "what is skipped is said loudly")]

use std::{collections::BTreeMap, path::Path, process::Command};

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Thousandths of a core.
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
    pub(crate) gpus: usize,
    /// Of its accelerators; empty without any.
    pub(crate) model: String,
}

impl Node {
    /// Millionths of a dollar for a core and hour, made up for this comparison and the same for every strategy: four cents, and
    /// what the accelerators cost spread over the cores, so that work without any shuns machines with some.
    pub(crate) fn core_hour(&self) -> u64 {
        let each: u64 = match self.model.as_str() {
            "" => 0,
            "P100" => 1_000_000,
            "T4" => 350_000,
            "V100M16" | "V100M32" => 2_500_000,
            "G3" => 3_000_000,
            _ => 1_000_000,
        };
        40_000 + each * self.gpus as u64 * 1000 / self.cpu.max(1)
    }
}

/// A piece of work.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Need {
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
    /// Thousandths of an accelerator: a share of one, or whole ones.
    pub(crate) gpu: u64,
    /// Models that will do; all without one.
    pub(crate) models: Vec<String>,
}

/// A piece of work with its times, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) need: Need,
    pub(crate) created: u64,
    pub(crate) deleted: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) nodes: Vec<Node>,
    pub(crate) pods: Vec<Pod>,
}

impl Trace {
    /// Reads the trace; says so and gives nothing where it is not.
    pub(crate) fn read() -> Option<Self> {
        let nodes = rows("openb_nodes.csv.gz")?.into_iter().map(|row| {
            let number = |key: &str| row[key].parse().unwrap();
            let gpus = number("gpu");
            Node {
                cpu: number("cpu_milli"),
                memory_mib: number("memory_mib"),
                gpus: gpus as usize,
                model: row["model"].clone(),
            }
        });
        let nodes = nodes.collect();
        let pods = rows("openb_pods_first_half.csv.gz")?.into_iter().map(|row| {
            let number = |key: &str| row[key].parse::<u64>().unwrap();
            let gpu = match number("num_gpu") {
                0 => 0,
                1 => number("gpu_milli"),
                n => n * 1000,
            };
            let models = row["gpu_spec"].split('|').filter(|m| !m.is_empty()).map(str::to_owned).collect();
            // A pod without memory in the trace still has some.
            let memory_mib = number("memory_mib").max(1);
            Pod {
                need: Need { cpu: number("cpu_milli").max(1), memory_mib, gpu, models },
                created: number("creation_time"),
                deleted: number("deletion_time"),
            }
        });
        let mut pods: Vec<_> = pods.collect();
        pods.sort_by_key(|pod| pod.created);
        Some(Self { nodes, pods })
    }

    /// Every `n`th node, and every so many pods that about `pods` are left.
    pub(crate) fn slice(&self, n: usize, pods: usize) -> Self {
        let step = (self.pods.len() / pods.max(1)).max(1);
        Self {
            nodes: self.nodes.iter().step_by(n).cloned().collect(),
            pods: self.pods.iter().step_by(step).cloned().collect(),
        }
    }

    /// Kinds of work with how often each comes, the most frequent first, until they make up `share` of all: what
    /// fragmentation is measured against (the paper's typical pods).
    pub(crate) fn mix(&self, share: f64) -> Vec<(Need, f64)> {
        let mut counts: BTreeMap<&Need, usize> = BTreeMap::new();
        for pod in &self.pods {
            *counts.entry(&pod.need).or_default() += 1;
        }
        let mut all: Vec<_> = counts.into_iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let wanted = (self.pods.len() as f64 * share) as usize;
        let mut taken = 0;
        all.retain(|(_, count)| {
            let keep = taken < wanted;
            taken += if keep { *count } else { 0 };
            keep
        });
        all.into_iter().map(|(need, count)| (need.clone(), count as f64 / taken as f64)).collect()
    }
}

fn rows(name: &str) -> Option<Vec<BTreeMap<String, String>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: no {name} in ../shared/traces");
        return None;
    }
    let Ok(out) = Command::new("gzip").arg("-dc").arg(&path).output() else {
        eprintln!("SKIPPED: gzip is not installed");
        return None;
    };
    let text = String::from_utf8(out.stdout).unwrap();
    let mut lines = text.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').map(str::to_owned).collect();
    let row = |line: &str| header.iter().cloned().zip(line.split(',').map(str::to_owned)).collect();
    Some(lines.map(row).collect())
}
