//! Enclaves that are lent and keep to no rule: attested, on channels that are theirs, and played by hand.

use std::sync::Arc;

use legation_core::{
    EnclaveId, Fuel, Rejection, TenantId,
    claims::{Attested, Role},
    delegation::session::{ToDelegate, ToDelegator},
    dsse,
    statement::{Answer, Appointment, Office, Scope, Usage},
    unit::Bytes,
};
use legation_net::{
    AnchoredJudge, Bounds, Channel, Credential, Endpoint, Incoming, Listener, StreamId,
    delegation::{Answered, Submitted, ToBorrower, ToLent},
    message::Peer,
};
use tokio::time::timeout;

use super::*;
use crate::{
    manager::PATIENCE,
    world::{OPERATOR, SECOND, STRANGER},
};

const THREE: Assurance = Assurance::Replicated { k: 3, diverse: Diversity::Chip };

struct Played {
    seed: u8,
    passport: Signed<Passport>,
    listener: Listener,
    loan: Option<Signed<Allocation>>,
}

impl Played {
    /// An enclave of this seed, on a chip of its own.
    async fn new(world: &World, seed: u8) -> Self {
        let judge = AnchoredJudge::new(vec![world::key(OPERATOR)]).admit(Role::Agent);
        let signer = Arc::new(world::identity(seed));
        let endpoint = Endpoint::new(signer, Role::Agent, Credential::None, Arc::new(judge), Arc::new(now)).unwrap();
        let endpoint = Arc::new(endpoint);
        let listener = Listener::bind("127.0.0.1:0", endpoint.clone(), Bounds::DEFAULT).await.unwrap();
        let mut passport = world::passport(seed, world.manager.verifier(), now());
        passport.configuration.advertise = Some(listener.address().to_string());
        passport.claims.chip = Attested::hardware(format!("{seed:02x}").repeat(64));
        let passport = sign(passport);
        endpoint.set_credential(Credential::Passport {
            passport: passport.envelope().clone(),
            appointment: world.manager.verifier().envelope().clone(),
        });
        Self { seed, passport, listener, loan: None }
    }

    fn enclave(&self) -> EnclaveId {
        self.passport.enclave_id()
    }

    /// Is lent, as is asked next; what was asked for.
    async fn lent(&mut self, world: &mut World, asking: &Asking) -> Box<LoanTerms> {
        let (ask, terms) = world.wish().await;
        let borrower = world.asker.passport().clone();
        let own = &asking.offer.allocation;
        let (told, _) = world.manager.lend(&asking.request, own, &borrower, &self.passport, terms.demand);
        self.loan = Some(told.allocation.clone());
        world.asker.say(&ToAgent::Lent { ask: Some(ask), loan: Box::new(told) }).await;
        terms
    }

    fn loan(&self) -> &Signed<Allocation> {
        self.loan.as_ref().unwrap()
    }

    /// The channel over which the loan was described.
    async fn dialled(&mut self) -> Channel {
        let arrival = timeout(PATIENCE, self.listener.accept()).await.expect("nobody came").unwrap();
        let mut channel = arrival.channel.unwrap();
        let ToLent::Session(described) = word(&mut channel).await else { panic!("not described") };
        assert!(matches!(*described, ToDelegate::Describe { loan, .. } if loan == self.loan().lease));
        channel
    }

    /// A channel on which calls are taken.
    async fn ready(&mut self) -> Channel {
        let channel = self.dialled().await;
        let (loan, challenge) = (self.loan().lease, Digest::of(&[self.seed]));
        say(&channel, ToDelegator::Challenge { loan, challenge, last: 0 }).await;
        channel
    }

    /// The answer to a call that wrote this, on a stream.
    fn answer(&self, submitted: &Submitted, output: &[u8], stream: u64) -> ToBorrower {
        self.answer_by(self.passport.digest(), submitted, output, stream)
    }

    /// The same, by the passport with this digest.
    fn answer_by(&self, passport: Digest, submitted: &Submitted, output: &[u8], stream: u64) -> ToBorrower {
        let call = &submitted.call;
        let report = Report {
            enclave: world::key(self.seed),
            task: call.task,
            fragment: call.fragment,
            lease: call.loan,
            module: call.module,
            inputs: vec![call.input.commitment],
            seed: call.question,
            outcome: Outcome::Completed,
            output: None,
            log: None,
            usage: Usage { fuel: Fuel(1_000), memory_peak: Bytes::mib(1), host_calls: 2, micros: 1_000 },
            started: now(),
            finished: now(),
            answer: Some(Answer {
                call: call.digest(),
                output: Some(submitted.key.output(output)),
                trace: Digest::of(b"host calls"),
            }),
            dissent: Vec::new(),
            monitor: None,
            prev: vec![self.loan().digest(), passport, call.prev[1], call.digest()],
        };
        let report = dsse::sign(report, &world::identity(self.seed));
        ToBorrower::Answered(Box::new(Answered { report, behind: Vec::new(), stream: Some(stream) }))
    }
}

async fn word(channel: &mut Channel) -> ToLent {
    loop {
        let incoming = timeout(PATIENCE, channel.receiver().recv()).await.expect("nothing was said");
        match incoming.expect("the channel ended") {
            Incoming::Control(message) => return serde_json::from_slice(&message).unwrap(),
            Incoming::Data { .. } | Incoming::Renewed(_) => {}
        }
    }
}

async fn submitted(channel: &mut Channel) -> Submitted {
    match word(channel).await {
        ToLent::Submit(submitted) => *submitted,
        other => panic!("expected a call, got {other:?}"),
    }
}

/// What comes on a stream; nothing, where it is said to be missing.
async fn fetched(channel: &mut Channel, wanted: u64) -> Option<Vec<u8>> {
    let mut came = Vec::new();
    loop {
        match timeout(PATIENCE, channel.receiver().recv()).await.expect("nothing came").expect("the channel ended") {
            Incoming::Data { stream, last, bytes } if stream == StreamId(wanted) => {
                came.extend_from_slice(&bytes);
                if last {
                    return Some(came);
                }
            }
            Incoming::Control(message) => {
                let word: ToLent = serde_json::from_slice(&message).unwrap();
                if matches!(word, ToLent::Missing { stream } if stream == wanted) {
                    return None;
                }
            }
            Incoming::Data { .. } | Incoming::Renewed(_) => {}
        }
    }
}

async fn say(channel: &Channel, word: ToDelegator) {
    channel.sender().send_control(&ToBorrower::Session(Box::new(word))).await.unwrap();
}

async fn data(channel: &Channel, stream: u64, bytes: &[u8]) {
    let bytes = bytes::Bytes::from(bytes.to_vec());
    channel.sender().send_data(StreamId(stream), bytes, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_sends_another_output_beside_its_answer_is_not_read() {
    let (truth, lie): (&[u8], &[u8]) = (b"what all three wrote", b"what one of them did");
    let mut world = World::new(0).await;
    let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"all of you", THREE).await;
    let mut played = Vec::new();
    for seed in 21..24 {
        let mut one = Played::new(&world, seed).await;
        one.lent(&mut world, &asking).await;
        let channel = one.ready().await;
        played.push((one, channel));
    }
    // The first to answer is the one whose answer counts, when the others agree.
    for (place, (one, channel)) in played.iter_mut().enumerate() {
        let call = submitted(channel).await;
        let sent = if place == 0 { vec![(1, truth), (2, lie)] } else { vec![(1, truth)] };
        for (stream, output) in sent {
            channel.sender().send_control(&one.answer(&call, truth, stream)).await.unwrap();
            data(channel, stream, output).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let reported = world.report(&asking).await;
    assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(truth));
    assert_eq!((reported.report.prev.len(), reported.report.dissent.len()), (3 + 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_one_answer_however_many_are_announced() {
    let mut world = World::new(0).await;
    let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"once", Assurance::Attested).await;
    let mut one = Played::new(&world, 21).await;
    one.lent(&mut world, &asking).await;
    let mut channel = one.ready().await;
    let call = submitted(&mut channel).await;
    // A thousand announced, of which the first counts: what comes for the others is nobody's.
    for stream in 1..=1000 {
        channel.sender().send_control(&one.answer(&call, b"the first", stream)).await.unwrap();
    }
    for stream in (1..=1000).rev() {
        data(&channel, stream, if stream == 1 { b"the first" } else { b"the other" }).await;
    }
    let reported = world.report(&asking).await;
    assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(&b"the first"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_enclave_that_takes_no_calls_leaves_the_question_to_others() {
    let mut world = World::new(0).await;
    let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"anybody", Assurance::Attested).await;
    let mut refuses = Played::new(&world, 21).await;
    refuses.lent(&mut world, &asking).await;
    let channel = refuses.dialled().await;
    // In the words of what could be handed to nobody.
    let why = Rejection::new("delegation.modules", "modules of a grant").got("x".repeat(100_000));
    say(&channel, ToDelegator::Unavailable { loan: refuses.loan().lease, why }).await;
    let why = world.given_back(refuses.loan().lease).await.unwrap();
    assert_eq!(why.check, "delegator.unavailable");
    assert!(why.to_string().len() < 2_000, "no more than the manager reads");

    let mut answers = Played::new(&world, 22).await;
    let terms = answers.lent(&mut world, &asking).await;
    assert!(terms.exclude.contains(&refuses.enclave()), "who was of no use is not asked for again");
    let mut channel = answers.ready().await;
    let call = submitted(&mut channel).await;
    channel.sender().send_control(&answers.answer(&call, b"here", 1)).await.unwrap();
    data(&channel, 1, b"here").await;
    let reported = world.report(&asking).await;
    assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(&b"here"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enclave_that_says_nothing_is_given_back() {
    let mut world = World::new(0).await;
    let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"say something", Assurance::Attested).await;
    let mut silent = Played::new(&world, 21).await;
    silent.lent(&mut world, &asking).await;
    let _channel = silent.dialled().await;
    // Another is asked for soon, and this one given back when it was waited for long enough.
    let (_, terms) = world.wish().await;
    assert!(terms.exclude.contains(&silent.enclave()));
    let why = world.given_back(silent.loan().lease).await.unwrap();
    assert_eq!(why.check, "delegator.silent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_given_again_to_an_enclave_that_lost_it_and_not_for_ever() {
    let mut world = World::new(0).await;
    let module = echo_after(1);
    let asking = world.ask(&caller("{\"time_ms\":15000}"), &module, 1, b"again", Assurance::Attested).await;
    let mut one = Played::new(&world, 21).await;
    one.lent(&mut world, &asking).await;
    let mut channel = one.ready().await;
    submitted(&mut channel).await;
    let fetching = async {
        let mut given = 0;
        for stream in 100..110 {
            channel.sender().send_control(&ToBorrower::Fetch { digest: Digest::of(&module), stream }).await.unwrap();
            given += usize::from(fetched(&mut channel, stream).await.is_some_and(|bytes| bytes == module));
        }
        given
    };
    // The manager gives the module to whoever asks for parts.
    let given = world.asker.serves(&mut world.manager, fetching).await;
    assert_eq!(given, 8);
}

fn of_bank() -> Scope {
    Scope { tenants: Some(vec![TenantId::new("bank").unwrap()]), kinds: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_by_a_passport_that_is_said_and_could_have_been_named() {
    type Change = fn(&mut Appointment, &mut Passport);
    let same: Change = |_, _| {};
    let cases: [(&str, bool, Change, bool); 7] = [
        ("another verifier's", true, same, true),
        ("one of which nothing is said", false, same, false),
        ("of a verifier of others", true, |a, _| a.scope = Some(of_bank()), false),
        ("of a verifier that nobody appointed", true, |a, _| a.operator = world::key(STRANGER), false),
        ("on another chip", true, |_, p| p.claims.chip = Attested::hardware("99".repeat(64)), false),
        ("with another key", true, |_, p| p.sealing = world::sealing(STRANGER).public().clone(), false),
        ("that is over", true, |_, p| p.expires = now().minus(1), false),
    ];
    for (name, said, change, counts) in cases {
        let mut world = World::new(0).await;
        let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"by which", Assurance::Attested).await;
        let mut one = Played::new(&world, 21).await;
        one.lent(&mut world, &asking).await;
        let mut channel = one.ready().await;
        let call = submitted(&mut channel).await;
        let mut verifier = Appointment { key: world::key(SECOND), ..world::appointment(Office::Verifier, now()) };
        let mut passport = Passport { verifier: verifier.key, ..one.passport.predicate().clone() };
        change(&mut verifier, &mut passport);
        let appointment = sign(verifier);
        let passport = sign(Passport { prev: vec![appointment.digest()], ..passport });
        let answer = one.answer_by(passport.digest(), &call, b"by this one", 1);
        if said {
            let word = ToBorrower::Passport(Box::new(Peer { passport, appointment }));
            channel.sender().send_control(&word).await.unwrap();
        }
        channel.sender().send_control(&answer).await.unwrap();
        data(&channel, 1, b"by this one").await;
        if counts {
            let reported = world.report(&asking).await;
            assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(&b"by this one"[..]), "{name}");
        } else {
            let why = world.given_back(one.loan().lease).await.unwrap();
            assert_eq!(why.check, "delegator.passport", "{name}");
        }
        world.agent.shutdown.now();
    }
}
