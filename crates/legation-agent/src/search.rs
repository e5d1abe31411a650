//! Finding the manager that leads, among those configured.
//!
//! ```text
//! round:  dial the next one ── nothing for [`STAGGER`] ──► dial the one after it beside it ── ... ── each once
//!             │ a channel opens: it is the one, the other dials are dropped
//!             │ "I stand by; X leads", and X is configured: X is next
//!             │ refused, or lost: the next one, at once
//! pause:  short while one leads or is about to ([`Trouble::Electing`]), longer after other failures, longest after a refusal
//! ```
//! A manager that is frozen takes a connection and says nothing: its dial goes on beside the others for as long as a handshake
//! may take, and holds up nobody. A hint is only a hint: nobody is dialled who is not configured, and whoever answers must show an
//! appointment by an operator of this agent, like any other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use legation_core::Rejection;
use legation_net::{Channel, ChannelError};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{agent::Inner, patience::Trouble, status::Status};

/// How long one manager is waited for before the next is dialled beside it: some round trips across the world.
const STAGGER: Duration = Duration::from_millis(250);
/// How long a round waits for dials that say nothing; they go on into the next.
const HANG: Duration = Duration::from_secs(1);
/// The check by which a manager says that it stands by.
pub(crate) const STANDBY: &str = "manager.standby";

/// The dials of this agent.
pub(crate) struct Search {
    managers: Vec<String>,
    /// Who is dialled first in the next round.
    next: usize,
    dials: JoinSet<(usize, Result<Channel, ChannelError>)>,
    /// Who is being dialled, since when.
    flying: BTreeMap<usize, Instant>,
}

/// What a round has seen.
#[derive(Default)]
struct Seen {
    standby: bool,
    refused: BTreeSet<usize>,
    hinted: BTreeSet<usize>,
}

impl Search {
    pub(crate) fn new(managers: Vec<String>) -> Self {
        Self { managers, next: 0, dials: JoinSet::new(), flying: BTreeMap::new() }
    }

    /// Where a manager is that says it stands by for another: among those configured, if it is.
    pub(crate) fn hint(&mut self, why: &Rejection) {
        if let Some(leader) = hinted(why, &self.managers) {
            self.next = leader;
        }
    }

    /// One round: the first channel that opens, and whose it is.
    ///
    /// # Errors
    /// What kept all of them from opening. The agent has told of each.
    pub(crate) async fn round(&mut self, agent: &Arc<Inner>) -> Result<(String, Channel), Trouble> {
        let all = self.managers.len();
        let mut queue: VecDeque<usize> = (0..all).map(|n| (self.next + n) % all).collect();
        self.next = (self.next + 1) % all;
        let (mut seen, mut start) = (Seen::default(), Instant::now());
        loop {
            if self.dials.is_empty() {
                self.flying.clear();
            }
            if Instant::now() >= start
                && let Some(manager) = queue.pop_front()
            {
                self.dial(agent, manager);
                start = Instant::now() + STAGGER;
                continue;
            }
            // With one manager alone there is nothing to do but to wait for it.
            let hangs = self.flying.values().max().map(|since| *since + HANG).filter(|_| all > 1);
            let wakes = if queue.is_empty() { hangs } else { Some(start) };
            if queue.is_empty() && self.flying.is_empty() {
                return Err(self.trouble(&seen));
            }
            tokio::select! {
                Some(done) = self.dials.join_next() => {
                    let Ok((manager, result)) = done else { continue };
                    self.flying.remove(&manager);
                    let name = self.managers[manager].clone();
                    match result {
                        Ok(channel) => {
                            self.hang_up();
                            self.next = (manager + 1) % all;
                            return Ok((name, channel));
                        }
                        Err(error) => {
                            if let Some(leader) = seen.note(manager, &error, &self.managers) {
                                queue.retain(|waiting| *waiting != leader);
                                queue.push_front(leader);
                            }
                            tell(agent, name, error);
                            start = Instant::now();
                        }
                    }
                }
                () = sleep_until(wakes.unwrap_or(start)), if wakes.is_some() => {
                    if queue.is_empty() {
                        return Err(self.trouble(&seen));
                    }
                }
            }
        }
    }

    fn dial(&mut self, agent: &Arc<Inner>, manager: usize) {
        if self.flying.contains_key(&manager) {
            return;
        }
        let (agent, address) = (agent.clone(), self.managers[manager].clone());
        self.flying.insert(manager, Instant::now());
        self.dials.spawn(async move { (manager, agent.endpoint.connect(&*address, None).await) });
    }

    /// Drops what is being dialled.
    pub(crate) fn hang_up(&mut self) {
        self.dials = JoinSet::new();
        self.flying.clear();
    }

    fn trouble(&mut self, seen: &Seen) -> Trouble {
        if !seen.refused.is_empty() && seen.refused.is_superset(&seen.hinted) {
            self.hang_up();
            Trouble::Refused
        } else if seen.standby {
            Trouble::Electing
        } else {
            self.hang_up();
            Trouble::Failed
        }
    }
}

impl Seen {
    /// Notes why there is no channel to `manager`; who is to be dialled next because of it.
    fn note(&mut self, manager: usize, error: &ChannelError, managers: &[String]) -> Option<usize> {
        match error {
            ChannelError::RefusedByPeer(why) if why.check == STANDBY => {
                self.standby = true;
                // Once in a round: two that stand by may name each other.
                hinted(why, managers).filter(|leader| *leader != manager && self.hinted.insert(*leader))
            }
            ChannelError::RefusedByPeer(why) if is_passing(why) => None,
            ChannelError::RefusedByPeer(_) | ChannelError::Refused(_) => {
                self.refused.insert(manager);
                None
            }
            _ => None,
        }
    }
}

/// Whether a refusal is about the manager as it is just now, and says nothing about this agent.
pub(crate) fn is_passing(why: &Rejection) -> bool {
    why.check.starts_with("manager.")
        || matches!(&*why.check, "journal.append" | "channel.replaced" | "channel.overtaken" | "channel.silent")
}

/// The configured manager that one which stands by says leads.
fn hinted(why: &Rejection, managers: &[String]) -> Option<usize> {
    let named = |text: &str, address: &str| {
        text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')')).any(|word| word == address)
    };
    managers.iter().position(|address| [&why.got, &why.fix].iter().any(|text| named(text, address)))
}

/// Tells of a dial that came to nothing.
fn tell(agent: &Inner, manager: String, error: ChannelError) {
    match error {
        ChannelError::RefusedByPeer(why) if why.check == STANDBY => agent.tell(Status::StandsBy { manager, why }),
        ChannelError::RefusedByPeer(why) => {
            if !is_passing(&why) {
                agent.passports().forget();
            }
            agent.tell(Status::Turned { manager, why });
        }
        ChannelError::Refused(why) => agent.tell(Status::Turned { manager, why }),
        other => agent.tell(Status::Disconnected { manager, why: other.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_followed_to_those_configured_alone() {
        let managers = ["10.0.0.1:7443", "10.0.0.11:7443", "pool.example.org:7443"].map(str::to_owned);
        for (got, leader) in [
            ("10.0.0.1:7443", Some(0)),
            ("a standby; 10.0.0.11:7443 leads", Some(1)),
            ("pool.example.org:7443 (term 4)", Some(2)),
            ("10.0.0.111:7443", None),
            ("evil.example.org:7443", None),
            ("nobody", None),
        ] {
            let why = Rejection::new(STANDBY, "this manager").got(got);
            assert_eq!(hinted(&why, &managers), leader, "{got}");
        }
    }

    #[test]
    fn what_a_round_saw_decides_how_long_to_wait() {
        let managers = ["a:1", "b:1", "c:1"].map(str::to_owned);
        let by = |check: &str, got: &str| ChannelError::RefusedByPeer(Rejection::new(check, "it").got(got));
        let standby = |leader: &str| by(STANDBY, leader);
        for (name, errors, expected) in [
            ("nobody is there", vec![(0, ChannelError::Lost), (1, ChannelError::Lost)], Trouble::Failed),
            (
                "nobody leads yet",
                vec![(0, ChannelError::Lost), (1, standby("nobody")), (2, standby("a:1"))],
                Trouble::Electing,
            ),
            (
                "the leader refuses",
                vec![(0, by("revocation", "")), (1, standby("a:1")), (2, standby("a:1"))],
                Trouble::Refused,
            ),
            (
                "one that no longer leads refuses",
                vec![(0, by("revocation", "")), (1, standby("c:1"))],
                Trouble::Electing,
            ),
            ("the leader is full", vec![(0, by("manager.busy", "")), (1, standby("a:1"))], Trouble::Electing),
            ("the only one refuses", vec![(0, by("channel.operator", ""))], Trouble::Refused),
        ] {
            let (mut seen, mut search) = (Seen::default(), Search::new(managers.to_vec()));
            for (manager, error) in &errors {
                seen.note(*manager, error, &managers);
            }
            assert_eq!(search.trouble(&seen), expected, "{name}");
        }
    }
}
