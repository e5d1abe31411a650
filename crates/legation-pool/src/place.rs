//! Placement: which enclave gets a fragment, and why not the others.
//!
//! An enclave is eligible when it is here, proven by a verifier that is trusted with the tenant's work, neither revoked nor
//! cordoned, untried for this fragment, satisfies requirements by that proof, is permitted by the policies for such data and limits
//! (`permit.rs`), is near enough and not against a rule of
//! spread, and has room within budget and account. Among the eligible the least effective price wins ([`crate::rank`]).
//!
//! [`choose`] asks the class index and takes a few microseconds; [`survey`] asks everybody and gives reasons. Both ask the same
//! questions ([`Wanted`]); property tests hold one against the other.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    EnclaveId, FragmentIndex, MicroUsd, Rejection, ReservationId, UnixTime, statement::PassedOver, swarm::SeatRef,
};

use crate::{
    classes::{Classes, Screen},
    enclave::Enclave,
    index::{ClassId, HostId, Judge, Query, RegionId, TOO_FAR},
    pool::Pool,
    queue::Class as Shape,
    rank,
    task::Task,
    wanted::{Refusal, Standing, Wanted},
};

/// The decision for one fragment.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) enclave: EnclaveId,
    pub(crate) price_hour: MicroUsd,
    pub(crate) considered: u32,
    pub(crate) eligible: u32,
    pub(crate) passed_over: Vec<PassedOver>,
    pub(crate) decided_by: String,
    /// The seat, of a fragment that goes to a member of its swarm.
    pub(crate) seat: Option<SeatRef>,
}

/// No enclave for a fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nothing {
    /// Nor for any other fragment of the same shape: neither its task nor its past ruled one out.
    pub(crate) for_anyone: bool,
}

/// Every enclave with its standing, or the reason that rules it out.
pub(crate) fn survey<'a>(
    pool: &'a Pool,
    task: &'a Task,
    index: FragmentIndex,
    now: UnixTime,
) -> impl Iterator<Item = (EnclaveId, &'a Enclave, Result<Standing, Rejection>)> {
    let mut wanted = Wanted::new(pool, task, index, now);
    pool.enclaves.iter().filter_map(move |(id, enclave)| {
        let wanted = wanted.as_mut()?;
        let verdict = wanted.judge(*id, enclave).map_err(|why| wanted.rejection(why, *id, enclave));
        Some((*id, enclave, verdict))
    })
}

/// The best enclave for a fragment, by the index.
pub(crate) fn choose(
    pool: &Pool,
    task: &Task,
    index: FragmentIndex,
    shape: Shape,
    now: UnixTime,
) -> Result<Choice, Nothing> {
    let mut wanted = Wanted::new(pool, task, index, now).ok_or(Nothing { for_anyone: false })?;
    if let Some(reservation) = task.request.prefer.reservation {
        return choose_seat(pool, &mut wanted, reservation);
    }
    choose_for(wanted, shape)
}

/// The best enclave for what is wanted, wherever it is.
pub(crate) fn choose_for(mut wanted: Wanted<'_>, shape: Shape) -> Result<Choice, Nothing> {
    let (pool, now) = (wanted.pool, wanted.now);
    let distances = distances(&wanted);
    let near = wanted.near.clone();
    let query = Query {
        need: wanted.need,
        weighing: wanted.weighed.index,
        distances: &distances,
        order: near.as_ref().map_or(&[], |near| &near.order),
        now: now.0,
    };
    let mut memo = pool.classes.memo();
    let screen = memo.screen(shape, pool.policies_changed(), now, pool.classes.index().generation());
    let plain = wanted.is_plain();
    let mut asked = Asked { classes: &pool.classes, wanted: &mut wanted, screen, plain, own: false };
    let found = pool.classes.index().best(&query, &mut asked);
    let tally = if found.is_some() { asked.tally() } else { Tally::default() };
    let own = asked.own;
    drop(memo);
    let nothing = Nothing { for_anyone: !own };
    let found = found.ok_or(nothing)?;
    let id = pool.classes.enclave(found.host).ok_or(nothing)?;
    let enclave = pool.enclaves.get(&id).ok_or(nothing)?;
    // Once more, without the index: it is a hint, and no promise is made on a hint.
    let standing = wanted.judge(id, enclave).map_err(|_| nothing)?;
    Ok(Choice {
        enclave: id,
        price_hour: standing.price_hour,
        considered: tally.members,
        eligible: tally.good,
        decided_by: decided_by(&standing, &tally),
        passed_over: tally.passed_over(),
        seat: None,
    })
}

/// The best free seat of a reservation.
fn choose_seat<'a>(pool: &'a Pool, wanted: &mut Wanted<'a>, reservation: ReservationId) -> Result<Choice, Nothing> {
    let seats = pool.reservations.get(&reservation).map(|booking| &*booking.seats).unwrap_or_default();
    let places: BTreeSet<_> = seats.iter().map(|seat| seat.enclave).collect();
    let (mut able, mut own) = (Vec::new(), false);
    for (id, enclave) in places.iter().filter_map(|id| Some((*id, pool.enclaves.get(id)?))) {
        match wanted.judge(id, enclave) {
            Ok(standing) => able.push((standing.effective, id, standing.price_hour)),
            Err(why) => own |= why.is_own(),
        }
    }
    let eligible = u32::try_from(able.len()).unwrap_or(u32::MAX);
    let (_, enclave, price_hour) = able.into_iter().min().ok_or(Nothing { for_anyone: !own })?;
    Ok(Choice {
        enclave,
        price_hour,
        considered: u32::try_from(places.len()).unwrap_or(u32::MAX),
        eligible,
        passed_over: Vec::new(),
        decided_by: format!("price {price_hour}/h, in a seat of {reservation}"),
        seat: None,
    })
}

/// What each region's distance costs; nothing when distance does not count.
fn distances(wanted: &Wanted<'_>) -> Vec<u32> {
    let Some(near) = &wanted.near else { return Vec::new() };
    let cost = |ms: &Option<u32>| rank::distance(wanted.prefer(), &wanted.weighed, *ms).unwrap_or(TOO_FAR);
    near.ms.iter().map(cost).collect()
}

/// What requirements and policies made of the classes that were asked about, in enclaves.
#[derive(Default)]
struct Tally {
    classes: u32,
    members: u32,
    good: u32,
    refused: BTreeMap<String, u32>,
}

impl Tally {
    fn passed_over(self) -> Vec<PassedOver> {
        let all = self.refused.into_iter().map(|(check, enclaves)| PassedOver { check, enclaves });
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| b.enclaves.cmp(&a.enclaves).then_with(|| a.check.cmp(&b.check)));
        all
    }
}

/// What made the best the best, in words.
fn decided_by(standing: &Standing, tally: &Tally) -> String {
    let words = standing.parts.words();
    let price = standing.price_hour;
    let by = if words.is_empty() { format!("price {price}/h") } else { format!("price {price}/h, {words}") };
    match tally.classes {
        1 => format!("{by}; the only class that was asked"),
        n => format!("{by}; best of {n} classes that were asked"),
    }
}

/// Classes that are asked about before each decision: in a pool with more, only as far as a decision needs.
const ASKED_MAX: usize = 256;

/// Answers the index's questions.
struct Asked<'a, 'b> {
    classes: &'a Classes,
    wanted: &'b mut Wanted<'a>,
    screen: &'b mut Screen,
    /// Nothing speaks about single enclaves.
    plain: bool,
    /// Something was ruled out that would not be for others.
    own: bool,
}

impl Asked<'_, '_> {
    /// Whether a class satisfies requirements and policies; what was found is remembered for the next of this shape.
    fn admits(&mut self, class: ClassId) -> bool {
        if self.screen.known(class).is_none() {
            let Some(kind) = self.classes.kind(class) else { return false };
            let verdict = if kind.appointment().covers_tenant(&self.wanted.task.request.tenant) {
                let (price_hour, _) = self.wanted.price(kind.typical().configuration.rate);
                self.wanted.admits(kind, price_hour).map_err(|why| why.check)
            } else {
                Err("place.verifier".to_owned())
            };
            self.screen.note(class, verdict.as_ref().copied().map_err(String::as_str));
        }
        self.screen.known(class) == Some(Ok(()))
    }

    /// What is known of the classes: of all, where they are few.
    fn tally(&mut self) -> Tally {
        let few = self.classes.len() <= ASKED_MAX;
        let mut tally = Tally::default();
        for class in self.classes.all().take(ASKED_MAX) {
            if few {
                self.admits(class);
            }
            let members = self.classes.index().members(class);
            let Some(verdict) = self.screen.known(class) else { continue };
            tally.classes += 1;
            tally.members += members;
            match verdict {
                Ok(()) => tally.good += members,
                Err(check) => match tally.refused.get_mut(check) {
                    Some(known) => *known += members,
                    None => drop(tally.refused.insert(check.to_owned(), members)),
                },
            }
        }
        tally
    }
}

impl Judge for Asked<'_, '_> {
    fn screen(&self, region: RegionId, word: usize) -> u64 {
        self.screen.open(region, word)
    }

    fn class(&mut self, class: ClassId, region: RegionId, row: usize) -> Option<u32> {
        if !self.admits(class) {
            self.screen.refuse(region, row);
            return None;
        }
        let passport = self.classes.kind(class)?.typical();
        let within = self.wanted.kind_within(passport, passport.configuration.rate);
        self.own |= within.as_ref().is_err_and(Refusal::is_own);
        within.ok()
    }

    fn host(&mut self, host: HostId) -> Option<u32> {
        let doubt = if self.classes.is_doubted(host) { self.wanted.doubt_of(self.classes.enclave(host)?) } else { 0 };
        if self.plain {
            return Some(doubt);
        }
        let verdict = self.wanted.enclave_within(self.classes.enclave(host)?);
        self.own |= verdict.as_ref().is_err_and(Refusal::is_own);
        verdict.ok().map(|extra| extra.saturating_add(doubt))
    }
}

/// Whether any of `enclaves` could take a fragment.
pub(crate) fn any_eligible<'a>(
    pool: &'a Pool,
    task: &'a Task,
    index: FragmentIndex,
    enclaves: impl Iterator<Item = (EnclaveId, &'a Enclave)>,
    now: UnixTime,
) -> Result<(), Nothing> {
    let mut wanted = Wanted::new(pool, task, index, now).ok_or(Nothing { for_anyone: false })?;
    let mut own_past = false;
    for (id, enclave) in enclaves {
        match wanted.judge(id, enclave) {
            Ok(_) => return Ok(()),
            Err(why) => own_past |= why.is_own(),
        }
    }
    Err(Nothing { for_anyone: !own_past })
}

/// An enclave that could take a fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranked {
    /// Which.
    pub enclave: EnclaveId,
    /// Price of an hour of the fragment there.
    pub price_hour: MicroUsd,
    /// Its effective price, in billionths of a millionth of a dollar: smaller is better.
    pub effective: u64,
    /// What makes it dearer than its price, in words.
    pub parts: String,
}

impl Pool {
    /// Everybody who could take a fragment now, best first, by a plain scan: what the index is held against.
    pub fn ranking(&self, task: legation_core::TaskId, index: FragmentIndex, now: UnixTime) -> Vec<Ranked> {
        let Some(task) = self.tasks.get(&task) else { return Vec::new() };
        let able = survey(self, task, index, now).filter_map(|(enclave, _, verdict)| {
            let Standing { price_hour, effective, parts } = verdict.ok()?;
            Some(Ranked { enclave, price_hour, effective, parts: parts.words() })
        });
        let mut able: Vec<_> = able.collect();
        able.sort_by_key(|ranked| (ranked.effective, ranked.enclave));
        able
    }
}
