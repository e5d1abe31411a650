//! The verifiers of this pool, and how they are asked: all at once, each with a time limit, and each remembered for when it
//! last answered.
//!
//! 1. A nonce joins the challenges of all verifiers that gave one in time; whoever did not is left out of that round.
//! 2. Evidence goes to all whose challenge it answers and whose appointment covers its kind. One good verdict is enough to be
//!    admitted; each counts for itself.
//! 3. What comes back is believed because of its signatures, never because of where it came from.
//! 4. A verifier that has answered nothing for longer than its passports live is *silent*: everybody is told, loudly.
//! 5. A verifier that is revoked is asked nothing any more: nobody believes its answer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_attest::{challenge, passport};
use legation_core::{
    Digest, KeyId, PublicKey, Rejection, Revocable, UnixTime,
    claims::{Evidence, TeeKind},
    statement::Scope,
};
use legation_net::Revocations;
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
/// How long it may take over evidence.
const VERDICT_WAIT: Duration = Duration::from_secs(20);
/// A verifier that failed is not asked by agents for so long, in seconds, unless no other is left: nobody waits for it.
const PAUSE_SECONDS: u64 = 5;
/// Between two looks at whether each verifier still answers.
const PROBE: Duration = Duration::from_secs(15);
/// Life of a passport until a verifier has given one, in seconds.
const LIFE_SECONDS: u64 = legation_attest::appraisal::PASSPORT_SECONDS_DEFAULT;
/// Beginnings of the checks that are verdicts on the evidence. In any other refusal the verifier, what it has at hand, the way
/// to it, or the question was at fault: what it vouched for before then runs out, and is not taken back.
const VERDICTS: [&str; 10] =
    ["snp.", "dcap.", "nitro.", "nvidia.", "tpm.", "az.", "evidence.", "admit.", "appraisal.", "policy."];
/// Among them, those that are none.
const NO_VERDICTS: [&str; 2] = ["admit.nonce", "policy.defect"];
/// How far ahead of this clock a verifier's may be, in seconds: its passports are waited for so long.
const AHEAD_SECONDS_MAX: u64 = 5;
/// How long one verifier may take over a TPM's keys before the next is asked: agents wait 30 s in all.
const ACTIVATION_WAIT: Duration = Duration::from_secs(8);

/// All of them.
pub(crate) struct Doors {
    all: Vec<Slot>,
    operators: Vec<PublicKey>,
    revocations: Revocations,
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
    /// Since when evidence that was shown to it had no verdict, and when that was last so.
    unjudged: Option<(UnixTime, UnixTime)>,
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
        self.said.as_ref().is_err_and(is_verdict)
    }
}

/// Whether a refusal speaks of what was shown.
pub(crate) fn is_verdict(why: &Rejection) -> bool {
    VERDICTS.iter().any(|prefix| why.check.starts_with(prefix)) && !NO_VERDICTS.contains(&why.check.as_str())
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
    /// Why it is no longer trusted, if so: then it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
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
                if state.silent && state.unjudged.is_none() {
                    info!(verifier = name, "verifier answers again");
                }
                state.answered = Some(now);
                // That it is silent is for `mark_silent` to say, so that it is said aloud.
                state.silent &= state.is_silent(now);
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

    /// Notes whether evidence had an answer: one that only gives challenges is no verifier.
    fn note_verdict(&self, now: UnixTime, given: bool) {
        let mut state = self.state();
        let life = state.life();
        let before = state.unjudged.filter(|(_, last)| now.since(*last) <= life);
        state.unjudged = (!given).then(|| (before.map_or(now, |(first, _)| first), now));
    }

    /// Whether it failed when it was last asked something.
    fn fails(&self) -> bool {
        let state = self.state();
        state.failed.as_ref().is_some_and(|(at, _)| state.answered.is_none_or(|ok| ok < *at))
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
    pub(crate) fn new(
        doors: Vec<Arc<dyn Door>>,
        operators: Vec<PublicKey>,
        revocations: Revocations,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let since = clock();
        let state = || State { since, answered: None, failed: None, unjudged: None, life: None, silent: false };
        let all = doors.into_iter().map(|door| Slot { door, state: Mutex::new(state()) });
        Self { all: all.collect(), operators, revocations, clock, metrics }
    }

    /// Why a verifier is revoked, if it is.
    fn revoked(&self, slot: &Slot) -> Option<String> {
        self.revocations.all().get(&Revocable::Verifier(slot.door.key())).map(|r| r.why.clone())
    }

    /// Places of those that are not revoked.
    fn trusted(&self) -> Vec<usize> {
        let trusted = self.all.iter().enumerate().filter(|(_, slot)| self.revoked(slot).is_none());
        trusted.map(|(i, _)| i).collect()
    }

    /// Asks all verifiers for challenges, and joins them into a nonce.
    ///
    /// # Errors
    /// `attest.verifiers`: none gave one.
    pub(crate) async fn challenge(self: &Arc<Self>) -> Result<(Digest, Round), Rejection> {
        let now = (self.clock)();
        let trusted = self.trusted();
        if trusted.is_empty() {
            return Err(Rejection::new("attest.verifiers", "verifiers of this pool")
                .expected("at least one that is not revoked")
                .got("none")
                .fix("the operator must appoint another verifier, and name it in the manager's configuration"));
        }
        let awake: Vec<_> = trusted.iter().copied().filter(|i| !self.all[*i].pauses(now)).collect();
        let asked = if awake.is_empty() { trusted } else { awake };
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
        let said = match said {
            Ok(issued) => self.believe(slot, issued).await,
            Err(why) => Err(why),
        };
        let failure = said.as_ref().err().filter(|why| why.check.starts_with("verifier."));
        let now = (self.clock)();
        slot.note(now, failure);
        slot.note_verdict(now, said.as_ref().err().is_none_or(is_verdict));
        if let Ok(issued) = &said {
            let life = issued.passport.expires.since(issued.passport.issued);
            let mut state = slot.state();
            state.life = Some(state.life.map_or(life, |longest| longest.max(life)));
        }
        Verdict { verifier: slot.door.name().to_owned(), key: slot.door.key(), said: said.map(Box::new) }
    }

    /// A passport as anybody else would open it, of the verifier that was asked, under the appointment that the operator
    /// configured here: an older one may say more. A verifier's clock may be a little ahead: then its passport is waited for,
    /// so that nobody sees one that does not hold yet.
    async fn believe(&self, slot: &Slot, issued: Issued) -> Result<Issued, Rejection> {
        let refuse = |check: &str, claim: &str| {
            Rejection::new(check, format!("{claim} of a passport of `{}`", slot.door.name().escape_debug()))
        };
        let now = (self.clock)();
        let ahead = issued.passport.issued.since(now);
        if ahead > AHEAD_SECONDS_MAX {
            return Err(refuse("verifier.clock", "date of issue")
                .expected(format!("by {now}, or at most {AHEAD_SECONDS_MAX} s ahead"))
                .got(issued.passport.issued)
                .fix("set the clock of that verifier's machine, or of this one"));
        }
        if issued.appointment.digest() != slot.door.appointment().digest() {
            return Err(refuse("verifier.appointment", "appointment behind the verifier")
                .expected(format!("the one configured here, until {}", slot.door.appointment().not_after))
                .got(format!("another, until {}", issued.appointment.not_after))
                .fix("give manager and verifier the same appointment file, and start them anew"));
        }
        if ahead > 0 {
            tokio::time::sleep(Duration::from_secs(ahead)).await;
        }
        let at = (self.clock)().max(issued.passport.issued);
        let opened = passport::open(issued.passport.envelope(), issued.appointment.envelope(), &self.operators, at);
        let opened = opened.map_err(|why| Rejection { check: format!("verifier.{}", why.check), ..why })?;
        if opened.verifier_id() != slot.door.key() {
            return Err(refuse("verifier.key", "signer")
                .expected(slot.door.key())
                .got(opened.verifier_id())
                .fix("see who answers under this verifier's address"));
        }
        Ok(issued)
    }

    /// The verifiers that are trusted with TPMs, whosever work they do; those that failed just now come last.
    pub(crate) fn for_tpm(&self) -> Vec<Arc<dyn Door>> {
        let covers = |slot: &&Slot| {
            let appointment = slot.door.appointment();
            // Its word on a key is taken for any tenant's work: one that is trusted by some alone has none to give.
            let for_all = appointment.scope.as_ref().is_none_or(|scope| scope.tenants.is_none());
            for_all && [TeeKind::Tpm, TeeKind::DevTpm].iter().any(|kind| appointment.covers_kind(*kind))
        };
        let trusted = self.all.iter().filter(|slot| self.revoked(slot).is_none());
        let (failing, answering): (Vec<&Slot>, Vec<_>) = trusted.filter(covers).partition(|slot| slot.fails());
        answering.into_iter().chain(failing).map(|slot| slot.door.clone()).collect()
    }

    /// What one verifier is asked about a TPM's keys, within bounds.
    pub(crate) async fn within<T>(
        &self,
        door: &dyn Door,
        answer: legation_verifier::door::Answer<'_, T>,
    ) -> Result<T, Rejection> {
        let said = timeout(ACTIVATION_WAIT, answer).await.unwrap_or_else(|_| Err(late(door.name(), ACTIVATION_WAIT)));
        let failure = said.as_ref().err().filter(|why| why.check.starts_with("verifier."));
        if let Some(slot) = self.all.iter().find(|slot| slot.door.key() == door.key()) {
            slot.note((self.clock)(), failure);
        }
        said
    }

    pub(crate) fn views(&self) -> Vec<VerifierView> {
        let now = (self.clock)();
        let view = |slot: &Slot| {
            let (state, appointment, revoked) = (slot.state().clone(), slot.door.appointment(), self.revoked(slot));
            VerifierView {
                name: slot.door.name().to_owned(),
                key: slot.door.key(),
                scope: appointment.scope.clone(),
                appointed_until: appointment.not_after,
                last_success: state.answered,
                last_failure: state.failed.as_ref().map(|(at, _)| *at),
                age_seconds: now.since(state.answered.unwrap_or(state.since)),
                silent: revoked.is_none() && state.is_silent(now),
                failure: state.failed.map(|(_, why)| why),
                revoked,
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
            for i in self.trusted() {
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
        for slot in self.all.iter().filter(|slot| self.revoked(slot).is_none()) {
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
    /// The longest life of its passports, in seconds.
    fn life(&self) -> u64 {
        self.life.unwrap_or(LIFE_SECONDS)
    }

    fn is_silent(&self, now: UnixTime) -> bool {
        let life = self.life();
        // When nobody shows it evidence any more, nothing is said by that.
        let unjudged = self.unjudged.is_some_and(|(first, last)| now.since(first) > life && now.since(last) <= life);
        unjudged || now.since(self.answered.unwrap_or(self.since)) > life
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verdict_on_the_evidence_takes_a_passport_back() {
        for (check, verdict) in [
            ("snp.tcb", true),
            ("dcap.tcb", true),
            ("tpm.key-attestation", true),
            ("az.binding", true),
            ("nitro.chain", true),
            ("nvidia.nonce", true),
            ("evidence.region", true),
            ("appraisal.anchor", true),
            ("policy.known", true),
            ("admit.role", true),
            ("admit.nonce", false),
            ("policy.defect", false),
            ("collateral.missing", false),
            ("verifier.late", false),
            ("verifier.clock", false),
            ("challenge.age", false),
            ("api.token", false),
            ("api.body", false),
            ("http.status", false),
            ("passport.dates", false),
            ("something.else", false),
        ] {
            assert_eq!(is_verdict(&Rejection::new(check, "a claim")), verdict, "{check}");
        }
    }

    #[test]
    fn a_verifier_that_gives_challenges_and_no_verdict_is_silent() {
        let now = UnixTime(1_800_000_000);
        let state = |unjudged| State {
            since: now.minus(10_000),
            answered: Some(now),
            failed: None,
            unjudged,
            life: Some(600),
            silent: false,
        };
        for (unjudged, silent) in [
            (None, false),
            (Some((600, 0)), false),
            (Some((601, 0)), true),
            (Some((601, 600)), true),
            // Nobody has shown it evidence since.
            (Some((2000, 601)), false),
        ] {
            let at = unjudged.map(|(first, last)| (now.minus(first), now.minus(last)));
            assert_eq!(state(at).is_silent(now), silent, "{unjudged:?}");
        }
        let gone = State { answered: Some(now.minus(601)), ..state(None) };
        assert!(gone.is_silent(now));
    }
}
