//! Numbers as scripts write them, exactly, and what the pool says in the names of the script.

use std::{collections::BTreeMap, fmt::Write};

use legation_core::{EnclaveId, TaskId};
use legation_pool::{Effect, Event, Explanation, Phase, Prospect, Record, Relaxable, SwarmView, TaskState};

/// A decimal number times `scale`; nothing when it has more digits than that holds.
pub(super) fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.parse::<u64>().ok().or_else(|| part.is_empty().then_some(0))?;
    let unit = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part = digits.checked_mul(scale)?;
    (part % unit == 0).then_some(())?;
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(part / unit)
}

/// `64MiB`, `1.5GiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, scale) = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
        (Some(number), _) => (number, 1 << 20),
        (_, Some(number)) => (number, 1 << 30),
        _ => return None,
    };
    decimal(number, scale)
}

/// What the script calls enclaves and tasks.
#[derive(Default)]
pub(super) struct Names {
    pub(super) enclaves: BTreeMap<EnclaveId, String>,
    pub(super) tasks: BTreeMap<TaskId, String>,
    /// Other names that are hashes, such as those of verifiers.
    pub(super) others: BTreeMap<String, String>,
}

impl Names {
    fn enclave(&self, id: EnclaveId) -> String {
        self.enclaves.get(&id).cloned().unwrap_or_else(|| id.short())
    }

    fn task(&self, id: TaskId) -> String {
        self.tasks.get(&id).cloned().unwrap_or_else(|| id.short())
    }

    /// A text with hashes replaced by names.
    pub(super) fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let enclaves = self.enclaves.iter().map(|(id, name)| (id.to_string(), id.short(), name));
        let tasks = self.tasks.iter().map(|(id, name)| (id.to_string(), id.short(), name));
        for (long, short, name) in enclaves.chain(tasks) {
            text = text.replace(&long, name).replace(&short, name);
        }
        for (hash, name) in &self.others {
            text = text.replace(hash, name);
        }
        text
    }

    /// What happened, in a line; nothing for what the command said itself.
    pub(super) fn record(&self, record: &Record) -> Option<String> {
        Some(match &record.event {
            Event::TermBegan { .. } | Event::Submitted { .. } | Event::Granted { .. } => return None,
            Event::Attested { .. } | Event::Arrived { .. } | Event::PolicySet { .. } => return None,
            Event::DistancesSet { .. } | Event::DistancesMeasured { .. } => return None,
            Event::ReferenceAdded { .. } | Event::ReferenceExpired { .. } => return None,
            Event::Left { enclave, .. } => format!("{} left", self.enclave(*enclave)),
            Event::Draining { enclave } => format!("{} drains", self.enclave(*enclave)),
            Event::Cordoned { enclave, .. } => format!("{} is cordoned by its operator", self.enclave(*enclave)),
            Event::Uncordoned { enclave, .. } => format!("{} is no longer cordoned", self.enclave(*enclave)),
            Event::Decommissioned { enclave, .. } => format!("{} is decommissioned", self.enclave(*enclave)),
            Event::Claimed { fragment, enclave, victims, .. } => {
                let victims: Vec<_> = victims.iter().map(ToString::to_string).collect();
                let task = self.task(fragment.task);
                format!("{} makes way at {} for {task}{}", victims.join(", "), self.enclave(*enclave), fragment.index)
            }
            Event::Unclaimed { fragment, why } => format!("{} claims nothing more: {why}", self.task(fragment.task)),
            Event::Reserved { booking } => {
                let seats: Vec<_> = booking.seats.iter().map(|seat| self.enclave(seat.enclave)).collect();
                format!("{} is reserved at {}", booking.terms.name, seats.join(", "))
            }
            Event::Reseated { enclave, seat, .. } => format!("seat {seat} moves to {}", self.enclave(*enclave)),
            Event::SeatsShort { seats, .. } => format!("a reservation is short of {} seats", seats.len()),
            Event::ReservationEnded { charged, .. } => format!("a reservation ends, charged {charged}"),
            Event::Revoked { revocation } => format!("revoked: epoch {}", revocation.epoch.0),
            Event::Lapsed { enclave, why } => format!("{} is cordoned: {}", self.enclave(*enclave), why.check),
            Event::Barred { enclave, why } => format!("{} is cordoned: {}", self.enclave(*enclave), why.check),
            Event::Withdrawn { enclave, .. } => format!("{}: passport taken back", self.enclave(*enclave)),
            Event::Leased { allocation } => {
                let (task, enclave) = (self.task(allocation.task), self.enclave(allocation.enclave));
                let why = &allocation.why;
                let passed: Vec<_> = why.passed_over.iter().map(|p| format!("{} {}", p.enclaves, p.check)).collect();
                let passed = if passed.is_empty() { String::new() } else { format!("; not {}", passed.join(", ")) };
                format!("{task}{} -> {enclave}: {}{passed}", allocation.fragment, why.decided_by)
            }
            Event::SwarmSeated { seating } => {
                let mut seats: Vec<_> = seating
                    .seats
                    .iter()
                    .map(|s| (s.member.lease, format!("{} {}", s.member.lease, self.enclave(s.member.enclave))))
                    .collect();
                seats.sort();
                let seats: Vec<_> = seats.into_iter().map(|(_, said)| said).collect();
                format!("{}: round {} is seated: {}", self.task(seating.task), seating.round, seats.join(", "))
            }
            Event::SwarmJoined { membership } => {
                format!("{} joined round {}", self.enclave(membership.enclave.enclave_id()), membership.round)
            }
            Event::SeatsEnded { task, seats, why } => {
                let seats: Vec<_> = seats.iter().map(|(lease, charged)| format!("{lease} for {charged}")).collect();
                format!("{}: seats ended: {}: {why}", self.task(*task), seats.join(", "))
            }
            Event::GangBooked { booking } => {
                let some: Vec<_> = booking.enclaves.iter().map(|id| self.enclave(*id)).collect();
                format!("{}: seats are booked at {}", self.task(booking.task), some.join(", "))
            }
            Event::GangUnbooked { task, why } => format!("{}: no seats are booked: {why}", self.task(*task)),
            Event::LeaseEnded { lease, why, .. } => format!("{lease} ended: {why}"),
            Event::Reported { report, charged, .. } => {
                format!("{}{} is done, {charged}", self.task(report.task), report.fragment)
            }
            Event::TaskEnded { task, state } => match state {
                TaskState::Failed { reason } => format!("{} failed: {reason}", self.task(*task)),
                state => format!("{} {}", self.task(*task), format!("{state:?}").to_lowercase()),
            },
            other => other.kind().to_owned(),
        })
    }

    /// What is to be done after it, where that is news.
    pub(super) fn effect(&self, effect: &Effect) -> Option<String> {
        match effect {
            Effect::Enlist { enclave, task } => {
                Some(format!("{} is asked to join {}", self.enclave(*enclave), self.task(*task)))
            }
            Effect::Cancel { enclave, lease } => Some(format!("{} stops {lease}", self.enclave(*enclave))),
            Effect::Close { enclave, .. } => Some(format!("{} is cut off", self.enclave(*enclave))),
            Effect::Reattest { enclave, .. } => Some(format!("{} is asked to attest", self.enclave(*enclave))),
            _ => None,
        }
    }

    /// A swarm, in lines.
    pub(super) fn swarm(&self, swarm: &SwarmView) -> String {
        let stage = format!("{:?}", swarm.stage).to_lowercase();
        let round = swarm.round.map_or(String::new(), |round| format!(", round {round}"));
        let mut out =
            format!("swarm {stage}{round}: {} of {}, {} repeated\n", swarm.seats.len(), swarm.members, swarm.repeated);
        for seat in &swarm.seats {
            let joined = if seat.joined { "joined" } else { "asked" };
            let works = seat.works_on.map_or("nothing".to_owned(), |index| index.to_string());
            let _ = writeln!(out, "  {} {joined}, works on {works}", self.enclave(seat.enclave));
        }
        out
    }

    /// An explanation, as a person would want it.
    pub(super) fn explained(&self, said: &Explanation) -> String {
        let mut out = String::new();
        let phase = match &said.phase {
            Phase::Leased { lease } => format!("{lease}"),
            phase => format!("{phase:?}").to_lowercase(),
        };
        let _ = writeln!(out, "{} {}, {phase}: {}", said.fragment, said.name, said.require);
        for attempt in &said.attempts {
            let ended = attempt.ended.as_ref().map_or("goes on".to_owned(), ToString::to_string);
            let _ = writeln!(out, "  tried {}: {ended}", self.enclave(attempt.enclave));
        }
        if let Some(missing) = &said.missing {
            let _ = writeln!(out, "  waits for {}: {}", missing.check, missing.expected);
        }
        let outlook = said.outlook.map(|outlook| match outlook {
            Prospect::Now { enclaves } => format!("now {enclaves} could take it"),
            Prospect::Later { enclaves } => format!("nobody now; {enclaves} would when they are here, proven and free"),
            Prospect::NobodyKnown => "nobody who is known would, even if empty".to_owned(),
        });
        out.extend(outlook.map(|o| format!("  {o}\n")));
        for class in &said.classes {
            let _ = writeln!(
                out,
                "  {} {} {}, {}/h: {} of {} free",
                class.provider, class.region, class.tee, class.price_hour, class.free, class.enclaves
            );
            for reason in &class.why_not {
                let why = &reason.why;
                let _ =
                    writeln!(out, "    {} {}: expected {}; got {}", reason.enclaves, why.check, why.expected, why.got);
            }
        }
        for (n, ranked) in said.ranking.iter().enumerate() {
            let parts = if ranked.parts.is_empty() { String::new() } else { format!(", {}", ranked.parts) };
            let _ = writeln!(out, "  {}. {}: {}/h{parts}", n + 1, self.enclave(ranked.enclave), ranked.price_hour);
        }
        for relax in &said.relaxations {
            let of = match relax.of {
                Relaxable::Require => "".to_owned(),
                of => format!("{} ", serde_json::to_value(of).unwrap().as_str().unwrap()),
            };
            let instead = match &relax.to {
                Some(to) => format!("with {of}{to} instead of {}", relax.from),
                None => format!("without {of}{}", relax.from),
            };
            let _ = writeln!(out, "  {instead}: {} enclaves, {}/h", relax.enclaves, relax.price_hour);
        }
        self.plain(&out)
    }
}
