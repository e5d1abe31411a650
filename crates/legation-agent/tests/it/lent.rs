//! What an agent that is lent does with whoever dials it: a borrower made by hand, over real sockets.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use legation_agent::Status;
use legation_core::{
    Digest, FragmentIndex, Fuel, LeaseId, Millicores, Milligpus, Millis, Rejection, Signed, UnixTime,
    claims::Role,
    delegation::{
        Basis, Call, CallDemand, Lineage,
        attenuate::{Onward, widest},
        check_answer,
        session::{STALE_CHALLENGE, ToDelegate, ToDelegator},
    },
    dsse,
    statement::{Allocation, Assurance, Committed, Grant, GrantSubject, Outcome, Passport, Report, Request},
    swarm::SeatDemand,
    unit::Bytes,
};
use legation_net::{
    AnchoredJudge, Channel, Credential, Endpoint, Incoming, OsEntropy, StreamId,
    delegation::{Answered, QuestionKey, Submitted, ToBorrower, ToLent},
    message::{Lending, ToAgent, ToManager},
};
use tokio::time::timeout;

use crate::{
    manager::{Conn, Manager, PATIENCE, Running, free, start_on},
    world::{self, ENCLAVE, OPERATOR, STRANGER, now, sign},
};

const INDEX: FragmentIndex = FragmentIndex(0);

/// An agent that is lent, and what a borrower of the seed `ENCLAVE` needs to hand it calls.
struct World {
    manager: Manager,
    conn: Conn,
    agent: Running,
    address: String,
    request: Signed<Request>,
    told: Lending,
    loan: Signed<Allocation>,
    grants: Vec<Signed<Grant>>,
    module: Vec<u8>,
}

impl World {
    /// Lends until then.
    async fn until(until: UnixTime) -> Self {
        let mut manager = Manager::new().await;
        let address = free();
        let agent = start_on(30, &manager.address(), &address, None);
        let conn = manager.admit().await;
        let module = std::fs::read(crate::guests::path("echo.wasm")).unwrap();
        let (delegates, delegable) = world::delegation(&[Digest::of(&module)], 1, Assurance::Attested);
        let mut fragment = world::fragment("one", Digest::of(b"the borrower's own module"), Vec::new());
        fragment.delegates = Some(delegates);
        let request = sign(world::request(vec![fragment], now(), 1));
        let borrower = borrower(&manager, ENCLAVE);
        let own = world::allocation(&request, &manager.appointment, INDEX, &borrower, LeaseId(1), now());
        let own = sign(Allocation { until, ..own });
        let demand =
            SeatDemand { cpu: Millicores(100), memory: Bytes::mib(16), gpus: Milligpus::ZERO, time: Millis(10_000) };
        let (_, told) = manager.lend(&request, &own, &borrower, conn.passport(), demand);
        let loan = told.allocation.clone();
        let root = Grant {
            depth: 1,
            delegable: Some(delegable),
            ..world::grant(&request, INDEX, GrantSubject::Enclave(borrower.enclave_id()), Vec::new())
        };
        let root = sign(root);
        let child =
            widest(std::slice::from_ref(&root), world::key(ENCLAVE), INDEX, (loan.enclave, until), Onward::NOTHING)
                .unwrap();
        let grants = vec![dsse::sign(child, &world::identity(ENCLAVE)), root];
        Self { manager, conn, agent, address, request, told, loan, grants, module }
    }

    async fn lent() -> Self {
        let world = Self::until(now().plus(50)).await;
        world.conn.say(&ToAgent::Lend(Box::new(world.told.clone()))).await;
        world
    }

    fn describe(&self) -> ToLent {
        ToLent::Session(Box::new(ToDelegate::Describe {
            loan: self.loan.lease,
            grant: self.grants[0].digest(),
            grants: self.grants.clone(),
        }))
    }

    fn credential(&self, passport: &Signed<Passport>) -> Credential {
        Credential::Passport {
            passport: passport.envelope().clone(),
            appointment: self.manager.verifier().envelope().clone(),
        }
    }

    /// A channel to the agent, of an enclave with this seed.
    async fn dial(&self, seed: u8) -> Talk {
        let credential = self.credential(&borrower(&self.manager, seed));
        let judge = AnchoredJudge::new(vec![world::key(OPERATOR)]).admit(Role::Agent);
        let signer = Arc::new(world::identity(seed));
        let endpoint = Endpoint::new(signer, Role::Agent, credential, Arc::new(judge), Arc::new(now)).unwrap();
        for _ in 0..100 {
            match endpoint.connect(&*self.address, Some(&self.conn.passport().enclave)).await {
                Ok(channel) => {
                    let (streams, told) = (BTreeMap::new(), Vec::new());
                    return Talk { channel, streams, module: self.module.clone(), told, taken: 0 };
                }
                // It begins to listen as it starts.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("nobody listens");
    }

    /// A channel with a session: what calls name.
    async fn session(&self) -> (Talk, Digest) {
        let mut talk = self.dial(ENCLAVE).await;
        talk.say(&self.describe()).await;
        match talk.word().await {
            ToBorrower::Session(said) => match *said {
                ToDelegator::Challenge { challenge, .. } => (talk, challenge),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn call(&self, number: u64, challenge: Digest, key: &QuestionKey, input: &[u8]) -> Call {
        Call {
            delegator: world::key(ENCLAVE),
            task: self.loan.task,
            fragment: INDEX,
            loan: self.loan.lease,
            number,
            question: Digest::of(&number.to_be_bytes()),
            challenge,
            module: Digest::of(&self.module),
            args: Vec::new(),
            input: key.input(input),
            demand: CallDemand {
                fuel: Fuel(10_000_000),
                memory: Bytes::mib(16),
                time: Millis(5_000),
                output: Bytes::mib(1),
            },
            assurance: Assurance::Attested,
            created: now(),
            expires: now().plus(10).min(self.loan.until),
            prev: vec![self.loan.digest(), self.grants[0].digest()],
        }
    }
}

/// Passport of an enclave that this test plays.
fn borrower(manager: &Manager, seed: u8) -> Signed<Passport> {
    sign(world::passport(seed, manager.verifier(), now()))
}

fn signed(call: Call) -> Signed<Call> {
    dsse::sign(call, &world::identity(ENCLAVE))
}

struct Talk {
    channel: Channel,
    streams: BTreeMap<StreamId, Vec<u8>>,
    module: Vec<u8>,
    /// By which passports answers were said to be given.
    told: Vec<Digest>,
    /// How many answers were said to be on their way.
    taken: u32,
}

impl Talk {
    async fn say(&self, word: &ToLent) {
        self.channel.sender().send_control(word).await.unwrap();
    }

    async fn submit(&self, call: &Signed<Call>, key: &QuestionKey, stream: u64, input: &[u8]) {
        let submitted = Submitted { call: call.clone(), stream, key: key.clone() };
        self.say(&ToLent::Submit(Box::new(submitted))).await;
        let input = bytes::Bytes::from(input.to_vec());
        self.channel.sender().send_data(StreamId(stream), input, true).await.unwrap();
    }

    async fn incoming(&mut self) -> Option<Incoming> {
        timeout(PATIENCE, self.channel.receiver().recv()).await.expect("nothing was said").ok()
    }

    /// The next word; modules are given where they are asked for.
    async fn try_word(&mut self) -> Option<ToBorrower> {
        loop {
            match self.incoming().await? {
                Incoming::Renewed(_) => {}
                Incoming::Data { stream, bytes, .. } => {
                    self.streams.entry(stream).or_default().extend_from_slice(&bytes)
                }
                Incoming::Control(message) => match serde_json::from_slice(&message).unwrap() {
                    ToBorrower::Fetch { digest, stream } => {
                        assert_eq!(digest, Digest::of(&self.module));
                        let module = bytes::Bytes::from(self.module.clone());
                        self.channel.sender().send_data(StreamId(stream), module, true).await.unwrap();
                    }
                    ToBorrower::Passport(peer) => self.told.push(peer.passport.digest()),
                    other => return Some(other),
                },
            }
        }
    }

    async fn word(&mut self) -> ToBorrower {
        self.try_word().await.expect("the channel ended")
    }

    /// The next answer, with its output.
    async fn answer(&mut self) -> (Signed<Report>, Vec<u8>) {
        loop {
            match self.word().await {
                ToBorrower::Answered(answered) => {
                    let Answered { report, stream, .. } = *answered;
                    let Some(stream) = stream.map(StreamId) else { return (report, Vec::new()) };
                    let size = report.answer.unwrap().output.unwrap().size.0 as usize;
                    while self.streams.entry(stream).or_default().len() < size {
                        let Some(Incoming::Data { stream, bytes, .. }) = self.incoming().await else {
                            panic!("no data")
                        };
                        self.streams.entry(stream).or_default().extend_from_slice(&bytes);
                    }
                    return (report, self.streams.remove(&stream).unwrap_or_default());
                }
                ToBorrower::Session(said) if matches!(*said, ToDelegator::Accepted { .. }) => self.taken += 1,
                other => panic!("expected an answer, got {other:?}"),
            }
        }
    }

    /// The stream on which a module is asked for next; it is not given.
    async fn fetch(&mut self) -> u64 {
        loop {
            let Incoming::Control(message) = self.incoming().await.expect("the channel ended") else { continue };
            if let ToBorrower::Fetch { stream, .. } = serde_json::from_slice(&message).unwrap() {
                return stream;
            }
        }
    }

    /// Why the next word refuses.
    async fn refusal(&mut self) -> Rejection {
        loop {
            match self.word().await {
                ToBorrower::Session(said) => match *said {
                    ToDelegator::Refused { why, .. } | ToDelegator::Unavailable { why, .. } => return why,
                    ToDelegator::Accepted { .. } => {}
                    other => panic!("expected a refusal, got {other:?}"),
                },
                other => panic!("expected a refusal, got {other:?}"),
            }
        }
    }

    /// Why the channel ends.
    async fn turned_away(mut self) -> String {
        while self.incoming().await.is_some() {}
        self.channel.sender().closed().await.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_run_once_and_answered_as_often_as_it_is_asked() {
    let world = World::lent().await;
    let (mut talk, challenge) = world.session().await;
    let key = QuestionKey::generate(&mut OsEntropy);
    let call = signed(world.call(1, challenge, &key, b"say it again"));
    talk.submit(&call, &key, 1, b"say it again").await;
    let (report, output) = talk.answer().await;
    assert_eq!((output.as_slice(), &report.outcome), (&b"say it again"[..], &Outcome::Completed));
    assert_eq!(report.answer.unwrap().output, Some(key.output(b"say it again")));
    let find = |digest: &Digest| world.grants.iter().find(|grant| grant.digest() == *digest).cloned();
    let lineage = Lineage::of(&world.request, &world.grants[0].digest(), find).unwrap();
    let basis = Basis { request: &world.request, loan: &world.loan, lineage: &lineage };
    check_answer(&basis, &call, world.conn.passport(), &report).unwrap();
    let named = world.conn.passport().digest();
    assert_eq!(talk.told, [named], "before the answer");

    // Again on this channel, and on another: the same report, by the same execution.
    talk.submit(&call, &key, 2, b"say it again").await;
    assert_eq!(talk.answer().await, (report.clone(), output.clone()));
    assert_eq!(talk.told, [named], "once on each channel");
    let (mut other, fresh) = world.session().await;
    assert_ne!(fresh, challenge);
    other.submit(&call, &key, 1, b"say it again").await;
    assert_eq!(other.answer().await, (report, output));
    assert_eq!(other.told, [named]);

    // The module is kept from here on: what a call takes.
    let started = Instant::now();
    for number in 2..102 {
        let call = signed(world.call(number, fresh, &key, b"fast"));
        other.submit(&call, &key, number, b"fast").await;
        assert_eq!(other.answer().await.1, b"fast");
    }
    assert_eq!(other.told, [named]);
    assert!(other.taken < 100, "what is answered at once was said to be taken each time");
    eprintln!("a call at a warm delegate takes {:?}", started.elapsed() / 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_a_while_is_said_to_be_taken() {
    let world = World::lent().await;
    let (mut talk, challenge) = world.session().await;
    let key = QuestionKey::generate(&mut OsEntropy);
    let call = signed(world.call(1, challenge, &key, b"text"));
    talk.submit(&call, &key, 1, b"text").await;
    // It waits for its module.
    let (mut asked, mut taken) = (None, false);
    let stream = loop {
        if let (Some(stream), true) = (asked, taken) {
            break stream;
        }
        let Incoming::Control(message) = talk.incoming().await.expect("the channel ended") else { continue };
        match serde_json::from_slice(&message).unwrap() {
            ToBorrower::Fetch { stream, .. } => asked = Some(stream),
            ToBorrower::Session(said) => taken |= *said == ToDelegator::Accepted { call: call.digest() },
            other => panic!("{other:?}"),
        }
    };
    let module = bytes::Bytes::from(world.module.clone());
    talk.channel.sender().send_data(StreamId(stream), module, true).await.unwrap();
    assert_eq!(talk.answer().await.1, b"text");
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_and_replays_are_refused() {
    let world = World::lent().await;
    let (mut talk, challenge) = world.session().await;
    let key = QuestionKey::generate(&mut OsEntropy);
    let good = |number| world.call(number, challenge, &key, b"text");
    let demand = good(1).demand;
    let asks = |number, fuel, memory| Call { demand: CallDemand { fuel, memory, ..demand }, ..good(number) };
    let writes = |number, output| Call { demand: CallDemand { output, ..demand }, ..good(number) };
    let large = Committed { size: Bytes::mib(17), ..good(1).input };
    let other = Digest::of(b"other");
    for (stream, (name, call, input, check)) in (1..).zip([
        ("the challenge of another session", Call { challenge: other, ..good(1) }, &b"text"[..], STALE_CHALLENGE),
        ("another module", Call { module: other, ..good(2) }, b"text", "call.module"),
        ("more fuel than granted", asks(3, Fuel(u64::MAX), demand.memory), b"text", "call.fuel"),
        ("more memory than lent", asks(3, demand.fuel, Bytes::gib(1)), b"text", "call.demand"),
        ("an input that is another", good(5), b"texT", "delegate.input"),
        ("a number that was there", good(5), b"text", "delegate.replay"),
        ("an input without room", Call { input: large, ..good(6) }, b"text", "delegate.room"),
        ("an output without room", writes(6, Bytes::mib(17)), b"text", "delegate.room"),
    ]) {
        // Another question each time: else it would be the same call again.
        let call = signed(Call { question: Digest::of(name.as_bytes()), ..call });
        talk.submit(&call, &key, stream, input).await;
        assert_eq!(talk.refusal().await.check, check, "{name}");
    }
    // It is still there for what is right.
    let call = signed(good(7));
    talk.submit(&call, &key, 99, b"text").await;
    assert_eq!(talk.answer().await.1, b"text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_called_off_leaves_nothing_for_the_next_to_trip_over() {
    let world = World::lent().await;
    let (mut talk, challenge) = world.session().await;
    let key = QuestionKey::generate(&mut OsEntropy);
    let mut asked = Vec::new();
    for number in 1..=20 {
        let call = signed(world.call(number, challenge, &key, b"never mind"));
        talk.submit(&call, &key, number, b"never mind").await;
        asked.push(talk.fetch().await);
        talk.say(&ToLent::Session(Box::new(ToDelegate::Cancel { call: call.digest() }))).await;
        assert_eq!(talk.refusal().await.check, "delegate.cancelled");
    }
    let call = signed(world.call(21, challenge, &key, b"this one"));
    talk.submit(&call, &key, 21, b"this one").await;
    let stream = talk.fetch().await;
    assert!(!asked.contains(&stream));
    // What is said of what nobody waits for any more is about nothing.
    for old in asked {
        talk.say(&ToLent::Missing { stream: old }).await;
        talk.channel.sender().send_data(StreamId(old), bytes::Bytes::from_static(b"no module"), true).await.unwrap();
    }
    let module = bytes::Bytes::from(world.module.clone());
    talk.channel.sender().send_data(StreamId(stream), module, true).await.unwrap();
    assert_eq!(talk.answer().await.1, b"this one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_takes_the_place_of_another_is_asked_for_the_module_again() {
    let world = World::lent().await;
    let (mut talk, challenge) = world.session().await;
    let key = QuestionKey::generate(&mut OsEntropy);
    let call = signed(world.call(1, challenge, &key, b"text"));
    talk.submit(&call, &key, 1, b"text").await;
    talk.fetch().await;
    // The first is still there, and knows nothing of the second.
    let (mut other, _) = world.session().await;
    assert_eq!(other.answer().await.1, b"text");
    // It ends at once: its borrower cannot keep it open by not reading.
    let told = talk.turned_away().await;
    assert!(told.contains("delegate.session"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrower_that_asks_and_does_not_read_loses_its_channel() {
    const TIMES: u64 = 400;
    let world = World::lent().await;
    let (mut talk, challenge) = world.session().await;
    let key = QuestionKey::generate(&mut OsEntropy);
    let input = vec![7; 512 << 10];
    let call = world.call(1, challenge, &key, &input);
    let call = signed(Call { demand: CallDemand { fuel: Fuel(1_000_000_000), ..call.demand }, ..call });
    talk.submit(&call, &key, 1, &input).await;
    assert_eq!(talk.answer().await.1, input);
    // 200 MiB of answers, if they were kept for it.
    for stream in 2..TIMES {
        let again = Submitted { call: call.clone(), stream, key: key.clone() };
        if talk.channel.sender().send_control(&ToLent::Submit(Box::new(again))).await.is_err() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut came = 0;
    while let Some(incoming) = talk.incoming().await {
        if let Incoming::Data { bytes, .. } = incoming {
            came += bytes.len();
        }
    }
    assert!(came < 200 * input.len(), "{came} bytes came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passport_that_is_shown_before_the_first_word_is_no_word() {
    let world = World::lent().await;
    let mut talk = world.dial(ENCLAVE).await;
    let fresh = sign(world::passport(ENCLAVE, world.manager.verifier(), now().plus(1)));
    talk.channel.sender().renew(world.credential(&fresh)).await.unwrap();
    talk.say(&world.describe()).await;
    let ToBorrower::Session(said) = talk.word().await else { panic!("no session") };
    assert!(matches!(*said, ToDelegator::Challenge { .. }), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_borrower_of_a_loan_is_heard() {
    let world = World::lent().await;
    // Attested, of the same pool, with everything that the borrower would show: but not the borrower.
    let stranger = world.dial(STRANGER).await;
    stranger.say(&world.describe()).await;
    let told = stranger.turned_away().await;
    assert!(told.contains("call.peer"), "{told}");
    // The borrower, for a loan that is none.
    let other = world.dial(ENCLAVE).await;
    let ToLent::Session(describe) = world.describe() else { panic!() };
    let ToDelegate::Describe { grant, grants, .. } = *describe else { panic!() };
    other.say(&ToLent::Session(Box::new(ToDelegate::Describe { loan: LeaseId(77), grant, grants }))).await;
    let told = other.turned_away().await;
    assert!(told.contains("agent.peer"), "{told}");
    // The borrower, who begins with something else.
    let rude = world.dial(ENCLAVE).await;
    rude.say(&ToLent::Missing { stream: 1 }).await;
    let told = rude.turned_away().await;
    assert!(told.contains("agent.peer"), "{told}");
    // A grant that the borrower did not make.
    let mut talk = world.dial(ENCLAVE).await;
    let grants = vec![world.grants[1].clone()];
    let describe = ToDelegate::Describe { loan: world.loan.lease, grant: grants[0].digest(), grants };
    talk.say(&ToLent::Session(Box::new(describe))).await;
    let why = talk.refusal().await;
    assert!(why.check.starts_with("delegation."), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loan_that_ends_takes_its_channel_along() {
    // By the manager's word.
    let mut world = World::lent().await;
    let (talk, _) = world.session().await;
    let loan = world.loan.lease;
    world.conn.say(&ToAgent::LoanEnded { loan, why: "given back".into() }).await;
    talk.turned_away().await;
    // What has ended is not taken again, however often it is told.
    world.conn.say(&ToAgent::Lend(Box::new(world.told.clone()))).await;
    let again = world.dial(ENCLAVE).await;
    again.say(&world.describe()).await;
    assert!(again.turned_away().await.contains("agent.peer"));
    drop(world.agent);

    // By its own time.
    world = World::until(now().plus(3)).await;
    world.conn.say(&ToAgent::Lend(Box::new(world.told.clone()))).await;
    let (talk, _) = world.session().await;
    talk.turned_away().await;
    // One that is over is refused.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut late = World::until(now().minus(1)).await;
    late.conn.say(&ToAgent::Lend(Box::new(late.told.clone()))).await;
    let ToManager::Refuse { lease, why } = late.conn.next(&mut late.manager).await else { panic!("not refused") };
    assert_eq!((lease, why.check.as_str()), (late.loan.lease, "loan.dates"));
    assert!(late.agent.saw(|s| matches!(s, Status::Refused { .. })));
}
