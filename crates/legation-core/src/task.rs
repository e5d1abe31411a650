//! Tasks: fragments, what they read, what they need, what they leave.
//!
//! A task is a list of fragments; a fragment may read outputs of earlier ones. So one list holds a single job, many
//! independent parts, and map-and-reduce.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    dsse::SUBJECTS_MAX,
    id::{FragmentIndex, ObjectId},
    key::{PublicKey, SealingPublicKey},
    proven::may_be_assured,
    rejection::Rejection,
    requirement::Requirement,
    statement::{Assurance, Request},
    time::Millis,
    unit::{Bytes, Fuel, MicroUsd, Millicores, Milligpus},
};

/// Most fragments of one task.
pub const FRAGMENTS_MAX: usize = 256;
/// Most inputs of one fragment.
pub const INPUTS_MAX: usize = 256;
/// Most arguments of one fragment.
pub const ARGS_MAX: usize = 64;
/// Longest argument, name or label, in bytes.
pub const ARG_MAX: usize = 4096;
/// Most accelerators of one fragment, in thousandths.
pub const GPUS_MAX: u64 = 64_000;
/// Most compute, memory and accelerators that a fragment may ask for: more than any machine has.
pub const DEMAND_MAX: (Millicores, Bytes, Milligpus) =
    (Millicores(1_000_000_000), Bytes::gib(1 << 20), Milligpus(1_000_000));
/// How often a part of a fragment may be passed on, at most.
pub const DELEGATION_DEPTH_MAX: u32 = 8;
/// Most modules that enclaves which run parts of a fragment may run.
pub const DELEGATION_MODULES_MAX: usize = 64;
/// Longest life of a request, in seconds.
pub const REQUEST_LIFE_MAX: u64 = 7 * 86_400;

/// One piece of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// What people call it, such as `train-north`.
    pub name: String,
    /// Whose it is, when not the client's: the owner signs its grants and receives its output.
    pub owner: Option<Owner>,
    /// Module to run, by SHA-256: a WASI preview 1 command.
    pub module: Digest,
    /// Its arguments, after the program's name.
    pub args: Vec<String>,
    /// What it reads on standard input, in order.
    pub inputs: Vec<Input>,
    /// What it needs.
    pub demand: Demand,
    /// What its enclave must satisfy beside the task's own requirement; and every enclave that runs a part of it.
    pub require: Requirement,
    /// What of it its enclave may have run by others; nothing without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegates: Option<Delegation>,
}

/// What a fragment may have run by other enclaves: the most that any grant of it may pass on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// Modules that they may run, by SHA-256, ascending.
    pub modules: Vec<Digest>,
    /// How often it may be passed on.
    pub depth: u32,
    /// Work of all calls together, at most.
    pub fuel: Fuel,
    /// Cost of all calls together, at most.
    pub budget: MicroUsd,
    /// How calls are assured, at least.
    pub assurance: Assurance,
}

/// A party beside the client that holds data or receives results.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Signs grants.
    pub key: PublicKey,
    /// Outputs are sealed to it.
    pub sealing: SealingPublicKey,
}

/// Something a fragment reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Input {
    /// A sealed object.
    Sealed(SealedRef),
    /// The output of an earlier fragment.
    Output {
        /// Which.
        fragment: FragmentIndex,
    },
}

/// A sealed object as a request names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRef {
    /// What people call it.
    pub name: String,
    /// Who holds its key, when not the fragment's owner or the client.
    pub holder: Option<PublicKey>,
    /// Its name.
    pub object: ObjectId,
    /// SHA-256 of its ciphertext.
    pub ciphertext: Digest,
    /// Bytes of its ciphertext.
    pub size: Bytes,
    /// Commitment to its plaintext, hiding and binding, under a key derived from the object's.
    pub commitment: Digest,
}

/// A sealed output as a report names it, with its key wrapped to whoever receives it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRef {
    /// Its name.
    pub object: ObjectId,
    /// SHA-256 of its ciphertext.
    pub ciphertext: Digest,
    /// Bytes of its ciphertext.
    pub size: Bytes,
    /// Commitment to its plaintext.
    pub commitment: Digest,
}

/// The key of a sealed object, wrapped by HPKE (RFC 9180, X-Wing) to one recipient for one use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappedKey {
    /// The object.
    pub object: ObjectId,
    /// SHA-256 of the recipient's sealing key.
    pub recipient: Digest,
    /// Encapsulated key.
    #[serde(with = "crate::encoding::b64")]
    pub encapsulated: Vec<u8>,
    /// Sealed object key.
    #[serde(with = "crate::encoding::b64")]
    pub sealed: Vec<u8>,
}

/// What a wrapped key may be used for: the `info` of its HPKE context. A key wrapped for one use does not open for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrapUse {
    /// The task.
    pub task: crate::id::TaskId,
    /// The fragment that reads (an input) or wrote (an output) the object.
    pub fragment: FragmentIndex,
    /// Its module.
    pub module: Digest,
    /// Input or output.
    pub direction: Direction,
}

/// Which way a sealed object goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To the enclave that runs the fragment.
    Input,
    /// From it to whoever receives its output.
    Output,
    /// From it to whoever receives its log.
    Log,
}

/// What a fragment needs; also its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Compute to set aside.
    pub cpu: Millicores,
    /// Linear memory at most.
    pub memory: Bytes,
    /// Work at most.
    pub fuel: Fuel,
    /// Time at most.
    pub time: Millis,
    /// Output at most.
    pub output: Bytes,
    /// Accelerators to set aside, of those that the enclave has attested.
    #[serde(default, skip_serializing_if = "is_none")]
    pub gpus: Milligpus,
}

fn is_none(gpus: &Milligpus) -> bool {
    *gpus == Milligpus::ZERO
}

impl Default for Demand {
    /// A small task: a tenth of a core, 64 MiB, 10 G fuel, one minute, 16 MiB of output.
    fn default() -> Self {
        Self {
            cpu: Millicores(100),
            memory: Bytes::mib(64),
            fuel: Fuel(10_000_000_000),
            time: Millis(60_000),
            output: Bytes::mib(16),
            gpus: Milligpus::ZERO,
        }
    }
}

impl Fragment {
    /// Its sealed inputs, in order.
    pub fn sealed_inputs(&self) -> impl Iterator<Item = &SealedRef> {
        self.inputs.iter().filter_map(|i| match i {
            Input::Sealed(sealed) => Some(sealed),
            Input::Output { .. } => None,
        })
    }

    /// The fragments whose outputs it reads, in order.
    pub fn upstream(&self) -> impl Iterator<Item = FragmentIndex> + '_ {
        self.inputs.iter().filter_map(|i| match i {
            Input::Sealed(_) => None,
            Input::Output { fragment } => Some(*fragment),
        })
    }

    /// Whether it reads outputs of others, and so leaves an aggregate.
    pub fn is_reducing(&self) -> bool {
        self.upstream().next().is_some()
    }
}

impl Request {
    /// The fragment at `index`.
    pub fn fragment(&self, index: FragmentIndex) -> Option<&Fragment> {
        self.fragments.get(usize::try_from(index.0).ok()?)
    }

    /// Every fragment with its index.
    pub fn indexed(&self) -> impl Iterator<Item = (FragmentIndex, &Fragment)> {
        (0..).map(FragmentIndex).zip(&self.fragments)
    }

    /// Key that signs grants for `fragment`.
    pub fn owner_key(&self, fragment: &Fragment) -> PublicKey {
        fragment.owner.as_ref().map_or(self.client, |o| o.key)
    }

    /// Key that outputs of `fragment` are sealed to.
    pub fn owner_sealing<'a>(&'a self, fragment: &'a Fragment) -> &'a SealingPublicKey {
        fragment.owner.as_ref().map_or(&self.sealing, |o| &o.sealing)
    }

    /// Who holds the key of an input of `fragment`: a sealed input's holder, or the owner of the fragment it is the output of.
    pub fn holder(&self, fragment: &Fragment, input: &Input) -> Option<PublicKey> {
        match input {
            Input::Sealed(sealed) => Some(sealed.holder.unwrap_or_else(|| self.owner_key(fragment))),
            Input::Output { fragment } => self.fragment(*fragment).map(|f| self.owner_key(f)),
        }
    }

    /// Fragments nobody reads: their outputs are the task's results.
    pub fn results(&self) -> Vec<FragmentIndex> {
        let read: std::collections::BTreeSet<_> = self.fragments.iter().flat_map(Fragment::upstream).collect();
        self.indexed().map(|(i, _)| i).filter(|i| !read.contains(i)).collect()
    }

    /// What the request must satisfy in itself, whoever runs it.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn validate(&self) -> Result<(), Rejection> {
        let bad = |check: &str, claim: &str| Rejection::new(check, claim);
        if self.fragments.is_empty() || self.fragments.len() > FRAGMENTS_MAX {
            return Err(bad("request.fragments", "number of fragments")
                .expected(format!("1 to {FRAGMENTS_MAX}"))
                .got(self.fragments.len())
                .fix("split the work into several tasks"));
        }
        if self.expires <= self.created || self.expires.since(self.created) > REQUEST_LIFE_MAX {
            return Err(bad("request.expires", "life of the request")
                .expected(format!("1 to {REQUEST_LIFE_MAX} seconds after its creation"))
                .got(format!("created {}, expires {}", self.created, self.expires)));
        }
        if self.name.len() > ARG_MAX {
            return Err(bad("request.name", "length of the name").expected(format!("at most {ARG_MAX} bytes")));
        }
        // Nobody runs whole fragments several times, or proves them: what would not be kept is not promised.
        if self.assurance != Assurance::Attested {
            return Err(bad("request.assurance", "assurance of whole fragments")
                .expected(Assurance::Attested)
                .got(self.assurance)
                .fix("ask for it of calls: `delegates.assurance` of the fragment that makes them"));
        }
        self.prefer.validate()?;
        self.data.validate()?;
        self.check_residency()?;
        for (index, fragment) in self.indexed() {
            fragment.validate(index)?;
            if let Some(delegates) = &fragment.delegates {
                delegates.validate(index, self.budget)?;
                may_be_assured(delegates.assurance, &self.data)?;
            }
        }
        if let Some(swarm) = &self.swarm {
            swarm.validate(self)?;
        }
        let subjects: usize = self.fragments.iter().map(|f| 1 + f.sealed_inputs().count()).sum();
        if subjects > SUBJECTS_MAX {
            return Err(bad("request.inputs", "number of modules and sealed inputs together")
                .expected(format!("at most {SUBJECTS_MAX}"))
                .got(subjects)
                .fix("split the work into several tasks"));
        }
        Ok(())
    }
}

impl Delegation {
    fn validate(&self, index: FragmentIndex, budget: MicroUsd) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("request.delegates", format!("{claim} of fragment {index}"));
        if !(1..=DELEGATION_MODULES_MAX).contains(&self.modules.len()) || !self.modules.is_sorted_by(|a, b| a < b) {
            return Err(bad("modules that other enclaves may run for the enclave")
                .expected(format!("1 to {DELEGATION_MODULES_MAX}, ascending, each once"))
                .got(self.modules.len()));
        }
        if !(1..=DELEGATION_DEPTH_MAX).contains(&self.depth) {
            return Err(bad("depth of the delegation")
                .expected(format!("1 to {DELEGATION_DEPTH_MAX}"))
                .got(self.depth)
                .fix("leave `delegates` out and nothing is passed on"));
        }
        if self.fuel.0 == 0 || self.budget > budget {
            return Err(bad("fuel and budget of all calls")
                .expected(format!("some fuel, and at most {budget} (budget of the task)"))
                .got(format!("{}, {}", self.fuel, self.budget)));
        }
        self.assurance.validate()
    }
}

impl Fragment {
    fn validate(&self, index: FragmentIndex) -> Result<(), Rejection> {
        let bad = |check: &str, claim: &str| Rejection::new(check, format!("{claim} of fragment {index}"));
        if self.inputs.len() > INPUTS_MAX || self.args.len() > ARGS_MAX {
            return Err(bad("request.inputs", "number of inputs or arguments")
                .expected(format!("at most {INPUTS_MAX} inputs and {ARGS_MAX} arguments"))
                .got(format!("{} and {}", self.inputs.len(), self.args.len())));
        }
        let names = || self.sealed_inputs().map(|input| input.name.len());
        let longest = self.args.iter().map(String::len).chain(names()).chain([self.name.len()]).max().unwrap_or(0);
        if longest > ARG_MAX || self.args.iter().any(|a| a.contains('\0')) {
            return Err(bad("request.args", "an argument, the name, or the name of an input")
                .expected(format!("at most {ARG_MAX} bytes, without NUL"))
                .got(format!("{longest} bytes at most")));
        }
        if let Some(later) = self.upstream().find(|up| up.0 >= index.0) {
            return Err(bad("request.order", "an input")
                .expected("outputs of earlier fragments only")
                .got(format!("the output of {later}"))
                .fix("order the fragments so that each reads only earlier ones"));
        }
        let Demand { cpu, memory, fuel, time, output, gpus } = self.demand;
        if cpu > DEMAND_MAX.0
            || memory > DEMAND_MAX.1
            || gpus > DEMAND_MAX.2
            || time.0 > REQUEST_LIFE_MAX.saturating_mul(1000)
        {
            return Err(bad("request.demand", "the demand")
                .expected(format!(
                    "at most {}, {}, {} and {REQUEST_LIFE_MAX} s, the longest life of a request",
                    DEMAND_MAX.0, DEMAND_MAX.1, DEMAND_MAX.2
                ))
                .got(format!("{self:?}", self = self.demand))
                .fix("ask for what a machine can have"));
        }
        if cpu.0 == 0 || memory.0 == 0 || fuel.0 == 0 || time.0 == 0 || output.0 > memory.0.max(Bytes::gib(1).0) {
            return Err(bad("request.demand", "the demand")
                .expected("cpu, memory, fuel and time above zero, output within memory or 1 GiB")
                .got(format!("{self:?}", self = self.demand)));
        }
        if gpus.0 > GPUS_MAX || (gpus.0 > 1000 && !gpus.0.is_multiple_of(1000)) {
            return Err(bad("request.gpus", "accelerators")
                .expected(format!("a share of one (below 1000), or whole ones (multiples of 1000, up to {GPUS_MAX})"))
                .got(gpus.0)
                .fix("round up to whole accelerators"));
        }
        Ok(())
    }
}
