//! An enclave that lies: it attests on a development chip as the fleet's agents do, is present, and can be lent; but it runs nothing, and
//! answers every call with a text of its own. Its statements are in order, so that only a vote finds it out.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{Arc, OnceLock},
    time::Instant,
};

use legation::run::now;
use legation_agent::{
    AgentConfig,
    attester::{self, Attester, DevelopmentAttester},
    config::Development,
};
use legation_core::{
    Bytes, Digest, EnclaveId, Fuel, LeaseId, Millicores, Millis, Revoked, Signed, Signer,
    claims::{Capacity, Configuration, Evidence, KeyBinding, Role},
    delegation::session::{Delegate, DelegateAction, DelegateEvent, Now, Standing, ToDelegate, ToDelegator},
    dsse,
    statement::{Answer, Outcome, Passport, Report, Usage},
};
use legation_keys::{Entropy, IdentityKey, SealingKey};
use legation_net::{
    AnchoredJudge, Arrival, Bounds, Channel, Clock, Credential, Endpoint, Incoming, Listener, OsEntropy, StreamId,
    delegation::{Answered, Submitted, ToBorrower, ToLent},
    message::{Lending, ToAgent, ToManager},
};
use tokio::sync::watch;

use crate::world::{PROGRAM, World};

/// What it says came out, whatever it was asked.
pub(crate) const LIE: &[u8] = b"something else";
/// Stream of its answers: it gives one on each channel.
const STREAM: u64 = 1;

/// The enclave, while its tasks run.
pub(crate) struct Liar {
    identity: Arc<IdentityKey>,
    sealing: SealingKey,
    attester: DevelopmentAttester,
    configuration: Configuration,
    /// Its end of channels to whoever borrows it.
    peers: Arc<Endpoint>,
    passport: OnceLock<Signed<Passport>>,
    lent: watch::Sender<BTreeMap<LeaseId, Lending>>,
}

/// One loan that it serves.
struct Served {
    lending: Lending,
    machine: Delegate,
}

impl Liar {
    /// Has it join the pool in the place of the agent `name`, whose process does not run, reached at `address`.
    pub(crate) async fn start(world: &World, name: &str, address: &str) -> EnclaveId {
        let config = AgentConfig::read(&world.agent_file(name)).unwrap();
        let Some(Development::Chip(chip)) = &config.development else { panic!("{name} has no development chip") };
        let image = File::open(PROGRAM).and_then(attester::image).unwrap();
        let identity = Arc::new(IdentityKey::generate(&mut OsEntropy));
        let clock: Clock = Arc::new(now);
        let endpoint = |of: Role| {
            let judge = AnchoredJudge::new(config.operators.clone()).admit(of);
            Endpoint::new(identity.clone(), Role::Agent, Credential::None, Arc::new(judge), clock.clone()).unwrap()
        };
        let (manager, peers) = (endpoint(Role::Manager), Arc::new(endpoint(Role::Agent)));
        let listener = Listener::bind(address, peers.clone(), Bounds::DEFAULT).await.unwrap();
        let liar = Arc::new(Self {
            sealing: SealingKey::generate(&mut OsEntropy),
            attester: DevelopmentAttester::of(DevelopmentAttester::chip(chip).unwrap(), image),
            configuration: Configuration {
                provider: config.provider.clone(),
                region: config.region.clone(),
                capacity: Capacity { cpu: Millicores(1000), memory: Bytes::mib(512), slots: 4 },
                rate: config.rate,
                slot: config.slot,
                operators: config.operators.clone(),
                advertise: Some(address.to_owned()),
                prover: None,
                custody: None,
            },
            identity: identity.clone(),
            peers,
            passport: OnceLock::new(),
            lent: watch::Sender::new(BTreeMap::new()),
        });
        tokio::spawn(liar.clone().attend(manager, config.managers[0].clone()));
        tokio::spawn(liar.greet(listener));
        identity.public_key().enclave_id()
    }

    /// Joins, and does what managers ask for as long as it is asked.
    async fn attend(self: Arc<Self>, endpoint: Endpoint, manager: String) {
        let (sender, mut receiver) = endpoint.connect(manager.as_str(), None).await.unwrap().split();
        sender.send_control(&ToManager::AskChallenge).await.unwrap();
        while let Ok(incoming) = receiver.recv().await {
            let Incoming::Control(message) = incoming else { continue };
            match serde_json::from_slice::<ToAgent>(&message).unwrap() {
                ToAgent::Challenge { nonce } => {
                    let evidence = Box::new(self.evidence(nonce));
                    sender.send_control(&ToManager::Evidence(evidence)).await.unwrap();
                }
                ToAgent::Admitted { passport, appointment } => {
                    let credential = Credential::Passport {
                        passport: passport.envelope().clone(),
                        appointment: appointment.envelope().clone(),
                    };
                    self.peers.set_credential(credential.clone());
                    // It is renewed after longer than any test takes.
                    let _ = self.passport.set(*passport);
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        sender.renew(credential).await.unwrap();
                        let obeyed = (legation_core::Term(0), legation_core::Seq(0));
                        let present = ToManager::Present { running: Vec::new(), obeyed };
                        sender.send_control(&present).await.unwrap();
                    });
                }
                ToAgent::Revocations { list, .. } => {
                    sender.send_control(&ToManager::Heeded { epoch: list.epoch }).await.unwrap();
                }
                ToAgent::Lend(lending) => {
                    self.lent.send_modify(|lent| drop(lent.insert(lending.allocation.lease, *lending)));
                }
                ToAgent::Refused { why } => panic!("the liar is not admitted: {why}"),
                ToAgent::Offer(_) => panic!("the dearest enclave of all was offered a fragment"),
                _ => {}
            }
        }
    }

    fn evidence(&self, nonce: Digest) -> Evidence {
        let encoded = self.configuration.encode();
        let binding = KeyBinding {
            role: Role::Agent,
            identity: self.identity.public_key(),
            sealing: self.sealing.public().clone(),
            image: self.attester.image(),
            configuration: Digest::of(&encoded),
            not_before: now().minus(60),
            not_after: now().plus(86_400),
            nonce,
        };
        self.attester.attest(&binding.encode(), &encoded).unwrap()
    }

    async fn greet(self: Arc<Self>, mut listener: Listener) {
        while let Some(Arrival { channel, .. }) = listener.accept().await {
            if let Ok(channel) = channel {
                tokio::spawn(self.clone().answer(channel));
            }
        }
    }

    /// Serves a loan by the words of the protocol, until the borrower hangs up.
    async fn answer(self: Arc<Self>, channel: Channel) {
        let (sender, mut receiver) = channel.split();
        let (began, revoked) = (Instant::now(), Revoked::default());
        let (mut served, mut asked): (Option<Served>, Option<Submitted>) = (None, None);
        while let Ok(incoming) = receiver.recv().await {
            let mut events = Vec::new();
            match incoming {
                Incoming::Control(message) => match serde_json::from_slice::<ToLent>(&message).unwrap() {
                    ToLent::Session(word) => {
                        if let ToDelegate::Describe { loan, .. } = &*word
                            && served.is_none()
                        {
                            served = Some(self.serve(*loan).await);
                            let mut challenge = [0; 32];
                            OsEntropy.fill(&mut challenge);
                            events.push(DelegateEvent::Opened { challenge: Digest::from_bytes(challenge) });
                        }
                        events.push(DelegateEvent::Heard(word));
                    }
                    ToLent::Submit(submitted) => {
                        events.push(DelegateEvent::Heard(Box::new(ToDelegate::Submit(submitted.call.clone()))));
                        asked = Some(*submitted);
                    }
                    ToLent::Missing { .. } => {}
                },
                // The input is here. An honest delegate would run the module on it.
                Incoming::Data { last: true, .. } => {
                    let lie = served.as_ref().zip(asked.as_ref()).and_then(|(served, asked)| self.lie(served, asked));
                    events
                        .extend(lie.map(|report| DelegateEvent::Ran { report: Box::new(report), behind: Vec::new() }));
                }
                _ => {}
            }
            let (Some(served), Some(passport)) = (served.as_mut(), self.passport.get()) else { continue };
            for event in events {
                let ms = u64::try_from(began.elapsed().as_millis()).unwrap();
                let (at, standing) = (Now { date: now(), ms: Millis(ms) }, Standing { passport, revoked: &revoked });
                for action in served.machine.handle(event, at, &standing) {
                    let DelegateAction::Send(said) = action else { continue };
                    let (word, output) = match *said {
                        ToDelegator::Answered { report, behind } => {
                            (ToBorrower::Answered(Box::new(Answered { report, behind, stream: Some(STREAM) })), true)
                        }
                        said => (ToBorrower::Session(Box::new(said)), false),
                    };
                    let mut sent = sender.send_control(&word).await;
                    if sent.is_ok() && output {
                        let lie = bytes::Bytes::from_static(LIE);
                        sent = sender.send_data(StreamId(STREAM), lie, true).await;
                    }
                    if sent.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The loan, once the manager has told of it: the borrower may be told first.
    async fn serve(&self, loan: LeaseId) -> Served {
        let mut lent = self.lent.subscribe();
        let lending = lent.wait_for(|lent| lent.contains_key(&loan)).await.unwrap()[&loan].clone();
        Served { machine: Delegate::new(lending.request.clone(), lending.allocation.clone()), lending }
    }

    /// A report that holds in everything but in what came out.
    fn lie(&self, served: &Served, asked: &Submitted) -> Option<Signed<Report>> {
        let (call, at) = (&asked.call, now());
        let lineage = served.machine.lineage()?;
        let report = Report {
            enclave: self.identity.public_key(),
            task: call.task,
            fragment: call.fragment,
            lease: call.loan,
            module: call.module,
            inputs: vec![call.input.commitment],
            seed: call.question,
            outcome: Outcome::Completed,
            output: None,
            log: None,
            usage: Usage { fuel: Fuel(1), memory_peak: Bytes::kib(64), host_calls: 1, micros: 1 },
            started: at,
            finished: at,
            answer: Some(Answer { call: call.digest(), output: Some(asked.key.output(LIE)), trace: Digest::of(LIE) }),
            dissent: Vec::new(),
            monitor: None,
            prev: vec![
                served.lending.allocation.digest(),
                self.passport.get()?.digest(),
                lineage.leaf().digest(),
                call.digest(),
            ],
        };
        Some(dsse::sign(report, &*self.identity))
    }
}
