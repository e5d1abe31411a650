//! What an enclave's own monitor says of an execution: which host functions the module called, and how unlike its earlier runs this
//! one was.
//!
//! It is *not* a judgement of anybody's honesty: the enclave says it of itself, and a broken enclave may say what it likes. What
//! others can hold against each other are the calls of replicas, which are the same wherever module, input and seed are.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

/// Host functions by their numbers: WASI preview 1 in the order of its documentation, then those by which a module hands parts on
/// (`legation_task_v1`, and of the world `legation:task`), then the others of that world. New ones are appended, none is ever
/// moved, and there are never more than 64.
pub const HOST_CALLS: [&str; 58] = [
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_get",
    "fd_prestat_dir_name",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "sched_yield",
    "random_get",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
    "delegate_start",
    "delegate_wait",
    "delegate_read",
    "delegate_error",
    "delegate_close",
    "task_args",
    "task_inputs",
    "task_read",
    "task_write",
    "task_log",
    "task_now",
    "task_random",
];

/// One host function, by its place in [`HOST_CALLS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostCall(u8);

impl HostCall {
    /// The function of this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        let place = HOST_CALLS.iter().position(|known| *known == name)?;
        u8::try_from(place).ok().map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        HOST_CALLS.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// A set of host functions; bit `n` is number `n` of [`HOST_CALLS`]. Bits of numbers that nobody has are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct CallSet(u64);

impl CallSet {
    /// None of them.
    pub const EMPTY: Self = Self(0);

    /// Adds one.
    pub fn insert(&mut self, call: HostCall) {
        self.0 |= Self::bit(call);
    }

    /// Whether it is in.
    pub fn contains(self, call: HostCall) -> bool {
        self.0 & Self::bit(call) != 0
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of it is in `other`.
    pub fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The functions in it, by number.
    pub fn calls(self) -> impl Iterator<Item = HostCall> {
        (0..64).map(HostCall).filter(move |call| self.contains(*call))
    }

    /// The set as bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    fn bit(call: HostCall) -> u64 {
        1_u64.checked_shl(call.0.into()).unwrap_or(0)
    }
}

impl Extend<HostCall> for CallSet {
    fn extend<I: IntoIterator<Item = HostCall>>(&mut self, calls: I) {
        calls.into_iter().for_each(|call| self.insert(call));
    }
}

impl FromIterator<HostCall> for CallSet {
    fn from_iter<I: IntoIterator<Item = HostCall>>(calls: I) -> Self {
        let mut set = Self::EMPTY;
        set.extend(calls);
        set
    }
}

impl fmt::Display for CallSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, call) in self.calls().enumerate() {
            f.write_str(if place == 0 { "" } else { ", " })?;
            f.write_str(call.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for CallSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallSet({self})")
    }
}

impl<'de> Deserialize<'de> for CallSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bits = u64::deserialize(d)?;
        let known = u64::MAX >> (64 - HOST_CALLS.len());
        if bits & !known != 0 {
            return Err(serde::de::Error::custom("a host call that has no number"));
        }
        Ok(Self(bits))
    }
}

/// How a run looks beside the earlier ones of its module and tenant in the same enclave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// There are too few earlier runs to say.
    Learning,
    /// Like them.
    Normal,
    /// Unlike them, but not so much that chance is ruled out.
    Suspect,
    /// So unlike them that chance brings this about once in the whole life of at most 1 of 100 histories.
    Alarm,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learning => "learning",
            Self::Normal => "normal",
            Self::Suspect => "suspect",
            Self::Alarm => "alarm",
        })
    }
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Fuel by bytes of input.
    Fuel,
    /// Host calls by fuel.
    Calls,
    /// Linear memory, in pages.
    Memory,
    /// Bytes of output.
    Output,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fuel => "fuel by bytes of input",
            Self::Calls => "host calls by fuel",
            Self::Memory => "memory",
            Self::Output => "output",
        })
    }
}

/// What a report carries of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitored {
    /// Host functions that the module called, or tried to.
    pub calls: CallSet,
    /// Digest of the sequence of host calls: equal wherever the runs are.
    pub trace: Digest,
    /// How the run looks.
    pub verdict: Verdict,
    /// Evidence against the history being of one kind: log2 of a test martingale that began with 1, in thousandths. 0 while it is
    /// learning.
    pub evidence: i32,
    /// What was furthest from usual; only with a verdict of `suspect` or `alarm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Feature>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_its_number_and_its_name() {
        for (number, name) in HOST_CALLS.iter().enumerate() {
            let call = HostCall::named(name).unwrap();
            assert_eq!((usize::from(call.number()), call.name()), (number, *name));
        }
        assert_eq!(HostCall::named("launch"), None);
        // What reports said stays what they said.
        for (name, number) in [
            ("args_get", 0),
            ("fd_read", 20),
            ("fd_write", 26),
            ("proc_exit", 38),
            ("sock_shutdown", 45),
            ("delegate_start", 46),
            ("delegate_close", 50),
            ("task_args", 51),
            ("task_random", 57),
        ] {
            assert_eq!(HostCall::named(name).map(HostCall::number), Some(number), "{name}");
        }
    }

    #[test]
    fn a_set_has_one_spelling_and_no_strangers() {
        let set: CallSet = ["proc_exit", "fd_read", "fd_read"].into_iter().filter_map(HostCall::named).collect();
        assert_eq!((set.to_string().as_str(), set.bits()), ("fd_read, proc_exit", (1 << 20) | (1 << 38)));
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(serde_json::from_str::<CallSet>(&text).unwrap(), set);
        assert!(set.is_within(set) && CallSet::EMPTY.is_within(set) && !set.is_within(CallSet::EMPTY));
        let stranger = (1_u64 << HOST_CALLS.len()).to_string();
        for bad in [stranger.as_str(), "18446744073709551615", "-1", "1.5", "\"1\""] {
            assert!(serde_json::from_str::<CallSet>(bad).is_err(), "{bad}");
        }
    }
}
