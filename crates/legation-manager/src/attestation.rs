//! Attestation of one agent over its channel: nonce, evidence, passports; and activation of a TPM's key.
//!
//! Each step is asked of the verifiers beside the channel, which goes on meanwhile; an agent has one step under way at a time.

use std::sync::{Arc, Mutex, PoisonError};

use legation_core::{Digest, Rejection, claims::Evidence};
use legation_net::{
    Sender,
    message::{ToAgent, ToManager},
};
use legation_pool::Command;
use legation_verifier::{Door, Issued, door::TpmKeys};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::{
    doors::{Round, Verdict, is_verdict},
    gate::Gate,
    refusals::Refusal,
};

/// Bytes of a TPM's keys and certificates together.
const TPM_KEYS_MAX: usize = 64 * 1024;

/// Where one agent's attestation stands.
pub(crate) struct Attestation {
    gate: Arc<Gate>,
    sender: Sender,
    state: Arc<Mutex<State>>,
    turn: Arc<Semaphore>,
    /// One step may wait for its turn.
    waiting: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    round: Option<Round>,
    activation: Option<Activating>,
}

/// A credential that an agent is to decrypt.
struct Activating {
    door: Arc<dyn Door>,
    keys: TpmKeys,
    ticket: Vec<u8>,
}

impl Attestation {
    pub(crate) fn new(gate: Arc<Gate>, sender: Sender) -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self { gate, sender, state: Arc::default(), turn: one(), waiting: one() }
    }

    /// Begins what the message asks for, once the step before has ended. The channel goes on meanwhile.
    pub(crate) fn step(&self, message: ToManager) -> Result<(), Rejection> {
        let what = match message {
            ToManager::AskChallenge => What::Challenge,
            ToManager::Evidence(evidence) => {
                let round = self.state().round.take().ok_or_else(|| {
                    Rejection::new("attest.nonce", "nonce of the evidence")
                        .expected("one asked for on this channel and not used before")
                        .got("none")
                })?;
                What::Evidence(round, Arc::new(*evidence))
            }
            ToManager::AskActivation { ak, ek, certificates } => {
                let keys = TpmKeys { ak, ek, certificates };
                let size = keys.certificates.iter().map(Vec::len).sum::<usize>() + keys.ak.len() + keys.ek.len();
                if size > TPM_KEYS_MAX {
                    let why = Rejection::new("attest.tpm-keys", "size of the TPM's keys and certificates");
                    return Err(why.expected(format!("at most {TPM_KEYS_MAX} bytes")).got(size));
                }
                What::Activate(keys)
            }
            ToManager::Activated { secret } => {
                let pending = self.state().activation.take().ok_or_else(|| {
                    Rejection::new("attest.activation", "secret of a credential")
                        .expected("one for a credential given on this channel")
                        .got("none was given")
                })?;
                What::AttestKey(pending, secret)
            }
            _ => return Err(Rejection::new("channel.message", "this message").expected("one about attestation")),
        };
        let place = match (self.waiting.clone().try_acquire_owned(), &what) {
            (Ok(place), _) => place,
            // The one that waits has the same answer.
            (Err(_), What::Challenge) => return Ok(()),
            (Err(_), _) => {
                return Err(Rejection::new("attest.turn", "steps of attestation on this channel")
                    .expected("one under way and one that waits")
                    .got("another")
                    .fix("wait for an answer before asking again"));
            }
        };
        let (turn, gate, sender, state) =
            (self.turn.clone(), self.gate.clone(), self.sender.clone(), self.state.clone());
        tokio::spawn(async move {
            // It is never closed.
            let Ok(turn) = turn.acquire_owned().await else { return };
            drop(place);
            let step = Step { gate, sender, state, _turn: turn };
            match what {
                What::Challenge => step.challenge().await,
                What::Evidence(round, evidence) => step.evidence(round, evidence).await,
                What::Activate(keys) => step.activate(keys).await,
                What::AttestKey(pending, secret) => step.attest_key(pending, secret).await,
            }
        });
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an agent asks for.
enum What {
    Challenge,
    Evidence(Round, Arc<Evidence>),
    Activate(TpmKeys),
    AttestKey(Activating, Digest),
}

/// One step, while it is under way.
struct Step {
    gate: Arc<Gate>,
    sender: Sender,
    state: Arc<Mutex<State>>,
    _turn: OwnedSemaphorePermit,
}

impl Step {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something; a channel that has ended is its owner's affair.
    async fn say(&self, message: &ToAgent) {
        if let Err(error) = self.sender.send_control(message).await {
            tracing::debug!(%error, "an answer about attestation was not sent");
        }
    }

    async fn refuse(&self, why: Rejection) {
        self.note(&why, None, None);
        self.say(&ToAgent::Refused { why }).await;
    }

    fn note(&self, why: &Rejection, verifier: Option<&str>, evidence: Option<&Evidence>) {
        let enclave = self.sender.peer().enclave_id();
        warn!(enclave = %enclave.short(), verifier, %why, "attestation refused");
        self.gate.metrics.refused(why);
        self.gate.refusals.note(Refusal {
            at: (self.gate.clock)(),
            enclave,
            tee: evidence.map(|e| e.kind),
            verifier: verifier.map(str::to_owned),
            why: why.clone(),
        });
    }

    async fn challenge(self) {
        match self.gate.doors.challenge().await {
            Ok((nonce, round)) => {
                self.state().round = Some(round);
                self.say(&ToAgent::Challenge { nonce }).await;
            }
            Err(why) => self.refuse(why).await,
        }
    }

    /// Asks all verifiers; whatever each gives is journalled and handed on at once. Refused is who gets nothing of any.
    async fn evidence(self, round: Round, evidence: Arc<Evidence>) {
        let mut verdicts = match self.gate.doors.verify(round, &evidence) {
            Ok(verdicts) => verdicts,
            Err(why) => return self.refuse(why).await,
        };
        let (mut admitted, mut refusals) = (false, Vec::new());
        while let Some(verdict) = verdicts.join_next().await {
            let verdict = match verdict {
                Ok(verdict) => verdict,
                Err(error) => {
                    warn!(%error, "a verifier's verdict was lost");
                    continue;
                }
            };
            let refused = verdict.is_refusal();
            let Verdict { verifier, key, said } = verdict;
            match said {
                Ok(issued) => match self.admit(*issued, &evidence).await {
                    Ok(()) => admitted = true,
                    Err(why) => {
                        self.note(&why, None, Some(&evidence));
                        // What the evidence shows now is refused here: what it showed before counts no more.
                        if is_verdict(&why) {
                            self.withdraw(key, &why).await;
                        }
                        refusals.push((0, why));
                    }
                },
                Err(why) => {
                    self.note(&why, Some(&verifier), Some(&evidence));
                    if refused {
                        self.withdraw(key, &why).await;
                    }
                    refusals.push((if refused { 1 } else { 2 }, why));
                }
            }
        }
        if admitted {
            return;
        }
        // The most useful first: the pool's own reason, then a verdict, then that there was none.
        refusals.sort_by_key(|(use_of, _)| *use_of);
        let why = refusals.into_iter().next().map(|(_, why)| why);
        let why = why.unwrap_or_else(|| Rejection::new("attest.defect", "verdicts on the evidence").got("none"));
        self.say(&ToAgent::Refused { why }).await;
    }

    async fn admit(&self, issued: Issued, evidence: &Arc<Evidence>) -> Result<(), Rejection> {
        let Issued { passport, appointment, collateral } = issued;
        let peer = self.sender.peer();
        if passport.enclave != *peer {
            return Err(Rejection::new("attest.key", "key in the evidence")
                .expected(format!("the key of this channel, {}", peer.id()))
                .got(passport.enclave.id()));
        }
        let command = Command::Attested {
            passport: Box::new(passport.clone()),
            appointment: Box::new(appointment.clone()),
            evidence: Box::new((**evidence).clone()),
            collateral,
        };
        self.gate.leader.apply(command).await?;
        info!(
            enclave = %passport.enclave_id(),
            verifier = %passport.verifier_id().short(),
            anchor = %passport.claims.anchor,
            until = %passport.expires,
            "enclave attested"
        );
        let enclave = passport.enclave_id();
        let (passport, appointment) = (Box::new(passport), Box::new(appointment));
        self.say(&ToAgent::Admitted { passport, appointment }).await;
        // What this verdict rested on may have changed while it was made.
        self.gate.call_again(enclave).await;
        Ok(())
    }

    /// A verifier that refuses whom it vouched for takes that back.
    async fn withdraw(&self, verifier: legation_core::KeyId, why: &Rejection) {
        let enclave = self.sender.peer().enclave_id();
        let vouched = self.gate.leader.ask(move |pool| {
            let known = pool.enclaves().get(&enclave);
            known.is_some_and(|e| e.proofs().any(|p| p.verifier() == verifier))
        });
        if !vouched.await.unwrap_or(false) {
            return;
        }
        let command = Command::Withdraw { enclave, verifier, why: why.clone() };
        match self.gate.leader.apply(command).await {
            Ok(_) => warn!(%enclave, verifier = %verifier.short(), %why, "a verifier took its passport back"),
            Err(refusal) => warn!(%enclave, %refusal, "a withdrawal could not be recorded: the passport lapses"),
        }
    }

    async fn activate(self, keys: TpmKeys) {
        let mut why = Rejection::new("attest.tpm", "verifiers for TPMs")
            .expected("one that is appointed for them and not revoked")
            .got("none")
            .fix("the operator must appoint a verifier for TPMs");
        for door in self.gate.doors.for_tpm() {
            match self.gate.doors.within(door.as_ref(), door.activate(keys.clone())).await {
                Ok(activation) => {
                    let legation_verifier::Activation { credential, secret, ticket } = activation;
                    self.state().activation = Some(Activating { door, keys, ticket });
                    return self.say(&ToAgent::Activate { credential, secret }).await;
                }
                // One that cannot say is no reason not to ask another; one that refuses is.
                Err(refusal) => why = refusal,
            }
            if is_verdict(&why) {
                break;
            }
        }
        self.refuse(why).await;
    }

    async fn attest_key(self, pending: Activating, secret: Digest) {
        let Activating { door, keys, ticket } = pending;
        match self.gate.doors.within(door.as_ref(), door.attest_key(keys, ticket, secret)).await {
            Ok(statement) => {
                let appointment = Box::new(door.appointment().clone());
                self.say(&ToAgent::KeyAttested { statement: Box::new(statement), appointment }).await;
            }
            Err(why) => self.refuse(why).await,
        }
    }
}
