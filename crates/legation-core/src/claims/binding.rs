//! What one boot of an enclave binds to its evidence: role, keys, configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    digest::{Digest, sha512},
    id::{ProviderId, Region, SwarmName},
    key::{PublicKey, SealingPublicKey},
    rejection::Rejection,
    time::UnixTime,
    unit::{Bytes, MicroUsd, Millicores},
};

/// Longest address that an agent advertises, in bytes.
pub const ADVERTISE_MAX: usize = 255;
/// Domain of the hash that binds keys to evidence.
pub const KEY_BINDING_DOMAIN: &[u8] = b"legation-key-v1";

/// What a party does in the pool; part of every binding and channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs tasks inside an enclave.
    Agent,
    /// Keeps the journal, places tasks.
    Manager,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agent => "agent",
            Self::Manager => "manager",
        })
    }
}

/// What one boot of an enclave binds to its evidence. It is hashed in the bytes that travel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBinding {
    /// What the enclave does.
    pub role: Role,
    /// Identity key of this boot.
    pub identity: PublicKey,
    /// Sealing key of this boot.
    pub sealing: SealingPublicKey,
    /// SHA-256 of the boot image, as the software inside knows it.
    pub image: Digest,
    /// SHA-256 of the configuration that steers the agent.
    pub configuration: Digest,
    /// The keys are not used before.
    pub not_before: UnixTime,
    /// The keys are not used after.
    pub not_after: UnixTime,
    /// The verifier's nonce.
    pub nonce: Digest,
}

impl KeyBinding {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `SHA-512("legation-key-v1" || encoded)`: what the hardware report carries.
    pub fn report_data(encoded: &[u8]) -> [u8; 64] {
        sha512(&[KEY_BINDING_DOMAIN, encoded])
    }
}

/// What an agent says of itself and what steers it; measured into the evidence, so it cannot change unseen, but
/// region, provider and price remain the provider's word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Who owns the machine.
    pub provider: ProviderId,
    /// Where it stands.
    pub region: Region,
    /// How much of it is offered.
    pub capacity: Capacity,
    /// What it costs.
    pub rate: Rate,
    /// Which of the enclaves of its chip it is: a chip may hold several, each in a slot of its own.
    #[serde(default)]
    pub slot: u16,
    /// Keys whose appointments this agent obeys (the operator's roots).
    pub operators: Vec<PublicKey>,
    /// Where other agents reach it, such as `198.51.100.7:7443`: at most [`ADVERTISE_MAX`] bytes. Without it no calls are handed to
    /// it: nobody could dial it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// What it proves executions with, where its owner set room aside for that. Without it no calls are handed to it that are to be
    /// proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prover: Option<Prover>,
    /// Which swarm key it helps to keep, where its owner set it up for that ([`crate::custody`]). Without it it is never called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custody: Option<Custody>,
}

/// What makes an enclave a custodian. It is measured, so that nobody makes it one, or that of another key, while it runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custody {
    /// Which swarm key.
    pub swarm: SwarmName,
    /// Whether it runs no modules: it takes no tasks, and is not lent.
    pub alone: bool,
    /// SHA-256 of the anchors by which it judges the evidence of others.
    pub anchors: Digest,
}

/// What an enclave proves executions with ([`crate::proven`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prover {
    /// The program whose executions it proves, by the name that its publisher pins it under.
    pub program: Digest,
    /// Most instructions of one execution that it takes on.
    pub instructions: u64,
}

impl Configuration {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether what it says of itself as a custodian can be.
    ///
    /// # Errors
    /// `custody.address`: nobody could dial it.
    pub fn check_custody(&self) -> Result<(), Rejection> {
        if self.custody.is_none() || self.advertise.is_some() {
            return Ok(());
        }
        Err(Rejection::new("custody.address", "address of a custodian")
            .expected("one where others reach it: they ask it for what it releases")
            .got("none")
            .fix("set `advertise` of the agent"))
    }

    /// Price of one hour of all that is offered: what the requirement of a charter is held against, whose members are not paid by the
    /// fragment.
    pub fn price_hour(&self) -> MicroUsd {
        self.rate.per_hour(self.capacity.cpu, self.capacity.memory)
    }
}

/// How much an enclave offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Compute.
    pub cpu: Millicores,
    /// Memory for tasks.
    pub memory: Bytes,
    /// Fragments at once.
    pub slots: u32,
}

/// What an enclave costs; an hour of a fragment costs `cpu * core_hour + memory * gib_hour`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// One core for one hour.
    pub core_hour: MicroUsd,
    /// One GiB of memory for one hour.
    pub gib_hour: MicroUsd,
}

impl Rate {
    /// Price of one hour of this much, rounded up.
    pub fn per_hour(&self, cpu: Millicores, memory: Bytes) -> MicroUsd {
        let core = (u128::from(self.core_hour.0) * u128::from(cpu.0)).div_ceil(1000);
        let gib = (u128::from(self.gib_hour.0) * u128::from(memory.0)).div_ceil(1 << 30);
        MicroUsd(u64::try_from(core + gib).unwrap_or(u64::MAX))
    }

    /// Price of this much for `micros` microseconds, rounded up: what a fragment is charged.
    pub fn charge(&self, cpu: Millicores, memory: Bytes, micros: u64) -> MicroUsd {
        let hour = u128::from(self.per_hour(cpu, memory).0);
        MicroUsd(u64::try_from((hour * u128::from(micros)).div_ceil(3_600_000_000)).unwrap_or(u64::MAX))
    }
}
