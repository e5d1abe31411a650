//! The verifiers of this pool, and how they are asked: all at once, each with a time limit, and each remembered for when it
//! last answered.
//!
//! 1. A nonce joins the challenges of all verifiers that gave one in time; whoever did not is left out of that round.
//! 2. Evidence goes to all whose challenge it answers and whose appointment covers its kind. One good verdict is enough to be
//!    admitted; each counts for itself.
//! 3. What comes back is believed because of its signatures, never because of where it came from.
//! 4. A verifier that has answered nothing for longer than its passports live is *silent*: everybody is told, loudly.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_attest::{
    challenge::{self, CHALLENGES_MAX},
    passport,
};
use legation_core::{
    Digest, KeyId, PublicKey, Rejection, UnixTime,
    claims::{Evidence, TeeKind},
    statement::Scope,
};
use legation_verifier::{Door, Issued};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};
use tracing::{error, info, warn};

use crate::{Clock, metrics::Metrics};

/// How long a verifier may take to give a challenge.
const CHALLENGE_WAIT: Duration = Duration::from_secs(2);
/// How long it may take over evidence, or a TPM's keys.
const VERDICT_WAIT: Duration = Duration::from_secs(20);
/// A verifier that failed is not asked by agents for so long, in seconds, unless no other is left: nobody waits for it.
const PAUSE_SECONDS: u64 = 5;
/// Between two looks at whether each verifier still answers.
const PROBE: Duration = Duration::from_secs(15);
/// Life of a passport until a verifier has given one, in seconds.
const LIFE_SECONDS: u64 = legation_attest::appraisal::PASSPORT_SECONDS_DEFAULT;
/// Refusals that are no verdict on the evidence: the verifier, the way to it, or the question was at fault.
const NO_VERDICT: [&str; 4] = ["verifier.", "challenge.", "admit.nonce", "attest."];

/// All of them.
pub(crate) struct Doors {
    all: Vec<Slot>,
    operators: Vec<PublicKey>,
    clock: Clock,
    metrics: Metrics,
}

struct Slot {
    door: Arc<dyn Door>,
    state: Mutex<State>,
}

/// When a verifier answered and failed.
#[derive(Clone, Debug)]
struct State {
    /// Since when it is asked here.
    since: UnixTime,
    answered: Option<UnixTime>,
    failed: Option<(UnixTime, Rejection)>,
    /// The longest life of a passport it gave, in seconds.
    life: Option<u64>,
    silent: bool,
}

/// A round of attestation that waits for evidence.
pub(crate) struct Round {
    challenges: Vec<Digest>,
    /// Who gave them.
    asked: Vec<usize>,
}

/// What one verifier said.
pub(crate) struct Verdict {
    /// Its name, for people.
    pub(crate) verifier: String,
    /// Its key.
    pub(crate) key: KeyId,
    /// What it gave, or why not.
    pub(crate) said: Result<Box<Issued>, Rejection>,
}

impl Verdict {
    /// Whether it is a refusal of the evidence itself.
    pub(crate) fn is_refusal(&self) -> bool {
        self.said.as_ref().is_err_and(|why| !NO_VERDICT.iter().any(|prefix| why.check.starts_with(prefix)))
    }
}

/// A verifier as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, serde::Deserialize)]
pub struct VerifierView {
    /// What people call it.
    pub name: String,
    /// Its key.
    pub key: KeyId,
    /// For whom and for which machines its word counts; for all without a scope.
    pub scope: Option<Scope>,
    /// Last second of its appointment.
    pub appointed_until: UnixTime,
    /// When it last answered.
    pub last_success: Option<UnixTime>,
    /// When it last failed to.
    pub last_failure: Option<UnixTime>,
    /// Why it failed then.
    pub failure: Option<Rejection>,
    /// Seconds since it last answered, or since it was first asked.
    pub age_seconds: u64,
    /// Whether that is longer than its passports live: whoever depends on it lapses.
    pub silent: bool,
}

fn late(name: &str, after: Duration) -> Rejection {
    Rejection::new("verifier.late", format!("answer of verifier `{}`", name.escape_debug()))
        .expected(format!("within {after:?}"))
        .got("none")
        .fix("see whether the verifier runs and can be reached")
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer, or that there was none.
    fn note(&self, now: UnixTime, failure: Option<&Rejection>) {
        let name = self.door.name();
        let mut state = self.state();
        match failure {
            None => {
                if state.silent {
                    info!(verifier = name, "verifier answers again");
                }
                state.answered = Some(now);
                state.silent = false;
            }
            Some(why) => {
                let first = state.failed.as_ref().is_none_or(|(at, _)| state.answered.is_some_and(|ok| ok >= *at));
                if first {
                    warn!(verifier = name, %why, "verifier does not answer");
                }
                state.failed = Some((now, why.clone()));
            }
        }
    }

    /// Whether it failed just now and has not answered since.
    fn pauses(&self, now: UnixTime) -> bool {
        let state = self.state();
        let failed = state.failed.as_ref().map(|(at, _)| *at);
        failed.is_some_and(|at| state.answered.is_none_or(|ok| ok < at) && now.since(at) < PAUSE_SECONDS)
    }

    async fn challenge(&self) -> Result<Digest, Rejection> {
        let answer = timeout(CHALLENGE_WAIT, self.door.challenge()).await;
        answer.unwrap_or_else(|_| Err(late(self.door.name(), CHALLENGE_WAIT)))
    }
}

impl Doors {
    pub(crate) fn new(doors: Vec<Arc<dyn Door>>, operators: Vec<PublicKey>, clock: Clock, metrics: Metrics) -> Self {
        let since = clock();
        let state = || State { since, answered: None, failed: None, life: None, silent: false };
        let all = doors.into_iter().take(CHALLENGES_MAX).map(|door| Slot { door, state: Mutex::new(state()) });
        Self { all: all.collect(), operators, clock, metrics }
    }

    /// Asks all verifiers for challenges, and joins them into a nonce.
    ///
    /// # Errors
    /// `attest.verifiers`: none gave one.
    pub(crate) async fn challenge(self: &Arc<Self>) -> Result<(Digest, Round), Rejection> {
        let now = (self.clock)();
        let awake: Vec<_> = (0..self.all.len()).filter(|i| !self.all[*i].pauses(now)).collect();
        let asked = if awake.is_empty() { (0..self.all.len()).collect() } else { awake };
        let mut asking = JoinSet::new();
        for i in asked {
            let doors = self.clone();
            asking.spawn(async move { (i, doors.all[i].challenge().await) });
        }
        let (mut given, mut missing) = (Vec::new(), Vec::new());
        while let Some(Ok((i, answer))) = asking.join_next().await {
            let slot = &self.all[i];
            slot.note((self.clock)(), answer.as_ref().err());
            match answer {
                Ok(challenge) => given.push((i, challenge)),
                Err(why) => missing.push(format!("{}: {why}", slot.door.name())),
            }
        }
        if given.is_empty() {
            return Err(Rejection::new("attest.verifiers", "verifiers of this pool")
                .expected("at least one that answers")
                .got(missing.join("; "))
                .fix("the operator must see why: `legation verifier list`"));
        }
        given.sort_unstable_by_key(|(i, _)| *i);
        let (asked, challenges): (Vec<_>, Vec<_>) = given.into_iter().unzip();
        Ok((challenge::join(&challenges), Round { challenges, asked }))
    }

    /// Shows evidence to all verifiers of a round that may judge it; verdicts come as they are made.
    ///
    /// # Errors
    /// `attest.kind`: none of them may.
    pub(crate) fn verify(
        self: &Arc<Self>,
        round: Round,
        evidence: &Arc<Evidence>,
    ) -> Result<JoinSet<Verdict>, Rejection> {
        let Round { challenges, asked } = round;
        let mut verdicts = JoinSet::new();
        for i in asked.into_iter().filter(|i| self.all[*i].door.appointment().covers_kind(evidence.kind)) {
            let (doors, evidence, challenges) = (self.clone(), evidence.clone(), challenges.clone());
            verdicts.spawn(async move { doors.judge(i, evidence, challenges).await });
        }
        if verdicts.is_empty() {
            return Err(Rejection::new("attest.kind", "verifiers for this kind of machine")
                .expected(format!("one that is appointed for {}", evidence.kind))
                .got("none that answers")
                .fix("the operator must appoint a verifier for this kind, or see why it does not answer"));
        }
        Ok(verdicts)
    }

    async fn judge(&self, i: usize, evidence: Arc<Evidence>, challenges: Vec<Digest>) -> Verdict {
        let slot = &self.all[i];
        let answer = timeout(VERDICT_WAIT, slot.door.verify(evidence, challenges)).await;
        let said = answer.unwrap_or_else(|_| Err(late(slot.door.name(), VERDICT_WAIT)));
        let said = said.and_then(|issued| self.believe(slot, issued));
        let failure = said.as_ref().err().filter(|why| why.check.starts_with("verifier."));
        slot.note((self.clock)(), failure);
        if let Ok(issued) = &said {
            let life = issued.passport.expires.since(issued.passport.issued);
            let mut state = slot.state();
            state.life = Some(state.life.map_or(life, |longest| longest.max(life)));
        }
        Verdict { verifier: slot.door.name().to_owned(), key: slot.door.key(), said: said.map(Box::new) }
    }

    /// A passport as anybody else would open it, and of the verifier that was asked.
    fn believe(&self, slot: &Slot, issued: Issued) -> Result<Issued, Rejection> {
        let now = (self.clock)();
        // A verifier's clock may be a little ahead.
        let at = if issued.passport.issued.since(now) <= legation_net::CLOCK_SKEW_SECONDS {
            now.max(issued.passport.issued)
        } else {
            now
        };
        let opened = passport::open(issued.passport.envelope(), issued.appointment.envelope(), &self.operators, at);
        let opened = opened.map_err(|why| Rejection { check: format!("verifier.{}", why.check), ..why })?;
        if opened.verifier_id() != slot.door.key() {
            return Err(Rejection::new("verifier.key", format!("signer of a passport of `{}`", slot.door.name()))
                .expected(slot.door.key())
                .got(opened.verifier_id())
                .fix("see who answers under this verifier's address"));
        }
        Ok(issued)
    }

    /// The first verifier that is trusted with TPMs.
    pub(crate) fn for_tpm(&self) -> Option<Arc<dyn Door>> {
        let tpm = [TeeKind::Tpm, TeeKind::DevTpm, TeeKind::AzSnpVtpm, TeeKind::AzTdxVtpm];
        let covers = |door: &Arc<dyn Door>| {
            let appointment = door.appointment();
            tpm.iter().any(|kind| appointment.covers_kind(*kind))
        };
        self.all.iter().map(|slot| &slot.door).find(|door| covers(door)).cloned()
    }

    /// What one verifier is asked, within bounds.
    pub(crate) async fn within<T>(name: &str, answer: legation_verifier::door::Answer<'_, T>) -> Result<T, Rejection> {
        timeout(VERDICT_WAIT, answer).await.unwrap_or_else(|_| Err(late(name, VERDICT_WAIT)))
    }

    pub(crate) fn views(&self) -> Vec<VerifierView> {
        let now = (self.clock)();
        let view = |slot: &Slot| {
            let (state, appointment) = (slot.state().clone(), slot.door.appointment());
            VerifierView {
                name: slot.door.name().to_owned(),
                key: slot.door.key(),
                scope: appointment.scope.clone(),
                appointed_until: appointment.not_after,
                last_success: state.answered,
                last_failure: state.failed.as_ref().map(|(at, _)| *at),
                age_seconds: now.since(state.answered.unwrap_or(state.since)),
                silent: state.is_silent(now),
                failure: state.failed.map(|(_, why)| why),
            }
        };
        self.all.iter().map(view).collect()
    }

    /// Asks every verifier for a challenge now and then, so that one that stops is noticed before it is missed.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut ticks = interval(PROBE);
        loop {
            ticks.tick().await;
            let mut asking = JoinSet::new();
            for i in 0..self.all.len() {
                let doors = self.clone();
                asking.spawn(async move { (i, doors.all[i].challenge().await) });
            }
            while let Some(Ok((i, answer))) = asking.join_next().await {
                self.all[i].note((self.clock)(), answer.as_ref().err());
            }
            self.mark_silent();
        }
    }

    fn mark_silent(&self) {
        let now = (self.clock)();
        let mut silent = 0;
        for slot in &self.all {
            let mut state = slot.state();
            if state.is_silent(now) {
                silent += 1;
                if !state.silent {
                    state.silent = true;
                    let why = state.failed.as_ref().map_or(String::new(), |(_, why)| why.to_string());
                    let seconds = now.since(state.answered.unwrap_or(state.since));
                    error!(
                        verifier = slot.door.name(),
                        seconds,
                        why,
                        "VERIFIER IS SILENT for longer than its passports live: what depends on it has lapsed"
                    );
                }
            }
        }
        self.metrics.silent_verifiers(silent);
    }
}

impl State {
    fn is_silent(&self, now: UnixTime) -> bool {
        now.since(self.answered.unwrap_or(self.since)) > self.life.unwrap_or(LIFE_SECONDS)
    }
}
