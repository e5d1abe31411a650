//! A manager for tests: real channels over real TCP, a real verifier, and a mind that each test makes up for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use legation_agent::{
    Agent, AgentConfig, Exit, Shutdown, Status,
    attester::DevelopmentAttester,
    config::{AttesterConfig, CapacityCaps, ProverConfig, Reconnect},
};
use legation_attest::{Appraiser, Judge, Roots, Verifier, admit, appraisal::status};
use legation_core::{
    Digest, FragmentIndex, LeaseId, MicroUsd, Millicores, ProviderId, Region, Rejection, Seq, Signed, TaskId, Term,
    UnixTime,
    claims::{Anchors, Evidence, Judged, Rate, Role, Shelf},
    delegation::LoanTerms,
    encoding,
    statement::{Allocation, Appointment, Ear, Grant, GrantSubject, LoanRef, Office, Passport, Report, Request},
    swarm::SeatDemand,
    task::{Direction, Input, OutputRef, WrapUse, WrappedKey},
    unit::Bytes,
};
use legation_net::{
    AnchoredJudge, Bounds, Credential, Endpoint, Incoming, Listener, Receiver, Sender, StreamId, Timing,
    message::{Lending, Offer, Peer, Reported, ToAgent, ToManager, Upstream},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::world::{self, CLIENT, MANAGER, OPERATOR, SECOND, Secret, now, sign};

/// Objects announced and not complete that a manager admits.
const STORES_MAX: usize = 64;
/// Far longer than anything here takes; a test that waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An agent under test.
pub(crate) struct Running {
    pub(crate) enclave: legation_core::EnclaveId,
    pub(crate) shutdown: Shutdown,
    pub(crate) statuses: Arc<Mutex<Vec<Status>>>,
    pub(crate) task: JoinHandle<Exit>,
}

impl Running {
    pub(crate) fn saw(&self, want: impl Fn(&Status) -> bool) -> bool {
        self.statuses.lock().unwrap().iter().any(want)
    }

    /// Waits until something was seen.
    pub(crate) async fn sees(&self, want: impl Fn(&Status) -> bool) {
        for _ in 0..400 {
            if self.saw(&want) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not seen among {:?}", self.statuses.lock().unwrap());
    }
}

pub(crate) fn config(manager: &str) -> AgentConfig {
    AgentConfig {
        managers: vec![manager.to_owned()],
        provider: ProviderId::new("alder").unwrap(),
        region: Region::new("eu").unwrap(),
        operators: vec![world::key(OPERATOR)],
        capacity: CapacityCaps { cpu: Some(Millicores(1000)), memory: Some(Bytes::mib(256)), slots: Some(8) },
        rate: Rate { core_hour: MicroUsd(40_000), gib_hour: MicroUsd(5_000) },
        slot: 0,
        listen: None,
        advertise: None,
        prover: None,
        custody: None,
        state: None,
        attester: AttesterConfig::default(),
        tpm: None,
        development: None,
        reconnect: Reconnect {
            first: Duration::from_millis(20),
            longest: Duration::from_millis(200),
            refused: Duration::from_millis(400),
        },
        drain: Duration::from_secs(10),
    }
}

/// The image whose measurement the test policy accepts.
pub(crate) const IMAGE: &[u8] = b"the agent's executable";

pub(crate) fn start(config: AgentConfig) -> Running {
    start_as(config, world::root(), IMAGE)
}

pub(crate) fn start_as(config: AgentConfig, root: &world::Root, image: &[u8]) -> Running {
    start_with(config, DevelopmentAttester::measure(root.chip(7), image).unwrap())
}

/// On a chip of its own, where other agents reach it; one that proves with this, if anything.
pub(crate) fn start_on(chip: u8, manager: &str, address: &str, prover: Option<ProverConfig>) -> Running {
    let (listen, advertise) = (Some(address.to_owned()), Some(address.to_owned()));
    let config = AgentConfig { listen, advertise, prover, ..config(manager) };
    start_with(config, DevelopmentAttester::measure(world::root().chip(chip), IMAGE).unwrap())
}

/// An address that nobody has just now.
pub(crate) fn free() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Below those that the system gives to connections and to listeners that do not care; another test's process begins elsewhere.
    loop {
        let port = 10_240 + (std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed)) % 22_016;
        let address = format!("127.0.0.1:{port}");
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn start_with(config: AgentConfig, attester: DevelopmentAttester) -> Running {
    let (shutdown, statuses) = (Shutdown::new(), Arc::new(Mutex::new(Vec::new())));
    let seen = statuses.clone();
    let agent = Agent::start(config, Arc::new(attester), shutdown.clone())
        .unwrap()
        .on_status(move |status| seen.lock().unwrap().push(status.clone()));
    Running { enclave: agent.enclave(), shutdown, statuses, task: tokio::spawn(agent.run()) }
}

/// Admits one measurement, as a development root deserves.
struct Listed {
    measurement: String,
    /// Life of a passport.
    seconds: u64,
}

impl Appraiser for Listed {
    fn appraise(&self, judged: &Judged, _: UnixTime) -> Result<Ear, Rejection> {
        if judged.claims.measurement.value != self.measurement {
            return Err(Rejection::new("appraisal.measurement", "measurement").got(&judged.claims.measurement.value));
        }
        let vector = [("hardware".to_owned(), 32)].into();
        Ok(Ear {
            status: status(&vector),
            vector,
            policy: "test".to_owned(),
            policy_digest: Digest::of(b"test"),
            tcb: judged.claims.tcb.value.clone(),
            images: Vec::new(),
            grace: None,
        })
    }

    fn passport_seconds(&self) -> u64 {
        self.seconds
    }
}

pub(crate) struct Manager {
    listener: Listener,
    pub(crate) appointment: Signed<Appointment>,
    /// Appointments of verifiers, the one that judges at the end.
    verifiers: Vec<Signed<Appointment>>,
    judge: Judge,
    policy: Listed,
    anchors: Anchors,
    evidence: Vec<Evidence>,
    /// What it serves, by digest of the name it is asked by.
    pub(crate) objects: HashMap<Digest, Vec<u8>>,
    /// Number of the last lease.
    pub(crate) leases: u64,
    nonces: u64,
}

impl Manager {
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1:0").await
    }

    pub(crate) async fn at(address: &str) -> Self {
        Self::appointed_at(world::appointment(Office::Manager, now()), address).await
    }

    pub(crate) async fn appointed(appointment: Appointment) -> Self {
        Self::appointed_at(appointment, "127.0.0.1:0").await
    }

    async fn appointed_at(appointment: Appointment, address: &str) -> Self {
        let appointment = sign(appointment);
        let judge = AnchoredJudge::new(vec![world::key(OPERATOR)]).admit(Role::Agent).admit_applicants();
        let endpoint = Endpoint::new(
            Arc::new(world::identity(MANAGER)),
            Role::Manager,
            Credential::Appointment { appointment: appointment.envelope().clone() },
            Arc::new(judge),
            Arc::new(now),
        )
        .unwrap()
        .with_timing(Timing { linger: Duration::from_millis(100), ..Timing::DEFAULT });
        let listener = Listener::bind(address, Arc::new(endpoint), Bounds::DEFAULT).await.unwrap();
        let anchors = Anchors {
            operators: vec![world::key(OPERATOR)],
            development: vec![world::root().anchor()],
            tpm: Vec::new(),
            logs: Vec::new(),
        };
        let measurement = DevelopmentAttester::measure(world::root().chip(1), IMAGE).unwrap();
        let policy = Listed { measurement: encoding::hex(measurement.measurement()), seconds: 600 };
        Self {
            listener,
            appointment,
            verifiers: vec![sign(world::appointment(Office::Verifier, now()))],
            judge: Judge::new(Roots::new(&anchors).unwrap()),
            policy,
            anchors,
            evidence: Vec::new(),
            objects: HashMap::new(),
            leases: 0,
            nonces: 0,
        }
    }

    pub(crate) fn passports_last(&mut self, seconds: u64) {
        self.policy.seconds = seconds;
    }

    pub(crate) fn address(&self) -> String {
        self.listener.address().to_string()
    }

    pub(crate) fn serve(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.objects.insert(digest, bytes.to_vec());
        digest
    }

    pub(crate) async fn accept(&mut self) -> Conn {
        let arrival = timeout(PATIENCE, self.listener.accept()).await.expect("nobody came").unwrap();
        let (sender, receiver) = arrival.channel.unwrap().split();
        Conn {
            sender,
            receiver,
            storing: HashMap::new(),
            streams: HashMap::new(),
            wishes: VecDeque::new(),
            passport: None,
        }
    }

    /// Accepts an agent that has still to attest; until it is present.
    pub(crate) async fn admit(&mut self) -> Conn {
        let mut conn = self.accept().await;
        assert!(matches!(conn.sender.standing(), legation_net::Standing::Applicant));
        assert!(matches!(conn.next(self).await, ToManager::AskChallenge));
        self.attest(&mut conn).await.unwrap();
        let ToManager::Present { .. } = conn.next(self).await else { panic!("not present") };
        conn
    }

    /// Answers a request for a challenge; what the verifier says of the evidence.
    pub(crate) async fn attest(&mut self, conn: &mut Conn) -> Result<(), Rejection> {
        self.nonces += 1;
        let nonce = Digest::of(&self.nonces.to_be_bytes());
        conn.say(&ToAgent::Challenge { nonce }).await;
        let ToManager::Evidence(evidence) = conn.next(self).await else { panic!("no evidence") };
        let appointment = self.verifier().clone();
        let signer = world::holder(appointment.key);
        let verifier =
            Verifier { signer: &signer, appointment: &appointment, judge: &self.judge, policy: &self.policy };
        match admit(&verifier, &evidence, &Shelf::empty(), &nonce, now()) {
            Ok(passport) => {
                self.evidence.push(*evidence);
                conn.passport = Some(passport.clone());
                let (passport, appointment) = (Box::new(passport), Box::new(appointment));
                conn.say(&ToAgent::Admitted { passport, appointment }).await;
                Ok(())
            }
            Err(why) => {
                conn.say(&ToAgent::Refused { why: why.clone() }).await;
                Err(why)
            }
        }
    }

    pub(crate) fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    pub(crate) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Behind the passports it gave.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        self.evidence.clone()
    }

    /// The appointment of the verifier that judges.
    pub(crate) fn verifier(&self) -> &Signed<Appointment> {
        self.verifiers.last().unwrap()
    }

    /// Those of all that ever did.
    pub(crate) fn verifiers(&self) -> &[Signed<Appointment>] {
        &self.verifiers
    }

    /// Another verifier of the same operator judges from here on; its passports last so long.
    pub(crate) fn another_judges(&mut self, seconds: u64) {
        let key = world::key(SECOND);
        self.verifiers.push(sign(Appointment { key, ..world::appointment(Office::Verifier, now()) }));
        self.passports_last(seconds);
    }

    /// The enclave of a passport, with what makes it believable.
    fn peer(&self, passport: &Signed<Passport>) -> Peer {
        let appointment = self.verifiers.iter().find(|appointment| passport.prev == [appointment.digest()]);
        Peer { passport: passport.clone(), appointment: appointment.unwrap().clone() }
    }

    /// Offers a fragment, with the owner's grant and the keys of the objects it reads.
    pub(crate) fn offer(
        &mut self,
        conn: &Conn,
        request: &Signed<Request>,
        index: u32,
        read: &[&Secret],
        upstream: Vec<Upstream>,
    ) -> Offer {
        self.leases += 1;
        let (index, passport) = (FragmentIndex(index), conn.passport());
        let subject = GrantSubject::Enclave(passport.enclave_id());
        let grant = world::grant(request, index, subject, read.iter().map(|s| s.sealed.object).collect());
        let lease = LeaseId(self.leases);
        Offer {
            term: Term(3),
            seq: Seq(self.leases),
            allocation: sign(world::allocation(request, &self.appointment, index, passport, lease, now())),
            appointment: self.appointment.clone(),
            grants: vec![sign::<Grant>(grant)],
            keys: read.iter().map(|s| s.wrap(&passport.sealing, request, index)).collect(),
            request: request.clone(),
            upstream,
        }
    }
}

impl Manager {
    /// Lends the enclave of `lent` for parts of the fragment that `own` is of: what the borrower is told, and what who is lent is
    /// told. The borrower has this passport.
    pub(crate) fn lend(
        &mut self,
        request: &Signed<Request>,
        own: &Signed<Allocation>,
        borrower: &Signed<Passport>,
        lent: &Signed<Passport>,
        demand: SeatDemand,
    ) -> (Lending, Lending) {
        self.leases += 1;
        let lease = LeaseId(1000 + self.leases);
        let terms =
            LoanRef { of: own.lease, borrower: own.enclave, number: u32::try_from(self.leases).unwrap(), demand };
        let allocation = world::allocation(request, &self.appointment, own.fragment, lent, lease, now());
        let allocation = sign(Allocation {
            price_hour: lent.configuration.rate.per_hour(demand.cpu, demand.memory),
            until: own.until,
            loan: Some(terms),
            prev: vec![request.digest(), self.appointment.digest(), own.digest()],
            ..allocation
        });
        let lending = |other: &Signed<Passport>| Lending {
            term: Term(3),
            seq: Seq(self.leases),
            allocation: allocation.clone(),
            appointment: self.appointment.clone(),
            request: request.clone(),
            borrower: own.clone(),
            other: self.peer(other),
        };
        (lending(lent), lending(borrower))
    }
}

/// One connection of an agent.
pub(crate) struct Conn {
    pub(crate) sender: Sender,
    receiver: Receiver,
    /// Digests announced, by stream.
    storing: HashMap<u64, Digest>,
    /// Bytes come so far, by stream.
    streams: HashMap<StreamId, Vec<u8>>,
    /// Loans it wished for while something else was waited for: it does so whenever a loan gets on slowly, as on a busy machine.
    pub(crate) wishes: VecDeque<(u64, Box<LoanTerms>)>,
    pub(crate) passport: Option<Signed<Passport>>,
}

impl Conn {
    pub(crate) fn passport(&self) -> &Signed<Passport> {
        self.passport.as_ref().unwrap()
    }

    pub(crate) async fn say(&self, message: &ToAgent) {
        self.sender.send_control(message).await.unwrap();
    }

    pub(crate) async fn offer(&self, offer: &Offer) -> LeaseId {
        self.say(&ToAgent::Offer(Box::new(offer.clone()))).await;
        offer.allocation.lease
    }

    /// The next message that is not about objects; those are served and stored.
    pub(crate) async fn next(&mut self, manager: &mut Manager) -> ToManager {
        self.try_next(manager).await.expect("the channel ended")
    }

    /// As [`Self::next`]; nothing when the channel has ended.
    pub(crate) async fn try_next(&mut self, manager: &mut Manager) -> Option<ToManager> {
        loop {
            let incoming = timeout(PATIENCE, self.receiver.recv()).await.expect("nothing was said");
            match incoming.ok()? {
                Incoming::Renewed(_) => {}
                Incoming::Data { stream, last, bytes } => {
                    self.streams.entry(stream).or_default().extend_from_slice(&bytes);
                    if last {
                        let bytes = self.streams.remove(&stream).unwrap();
                        let digest = self.storing.remove(&stream.0).expect("a stream that was announced");
                        manager.objects.insert(digest, bytes);
                    }
                }
                Incoming::Control(message) => match serde_json::from_slice(&message).unwrap() {
                    ToManager::Store { digest, stream } => {
                        self.storing.insert(stream, digest);
                        assert!(self.storing.len() <= STORES_MAX, "more objects at once than a manager admits");
                    }
                    ToManager::Fetch { digest, stream } => match manager.objects.get(&digest) {
                        Some(bytes) => {
                            let bytes = bytes::Bytes::from(bytes.clone());
                            self.sender.send_data(StreamId(stream), bytes, true).await.unwrap();
                        }
                        None => self.say(&ToAgent::Missing { stream }).await,
                    },
                    other => return Some(other),
                },
            }
        }
    }

    /// The report of `lease`, with the objects it names.
    pub(crate) async fn report(&mut self, manager: &mut Manager, lease: LeaseId) -> Reported {
        let reported = loop {
            match self.next(manager).await {
                ToManager::Report(reported) => break *reported,
                // What was borrowed for it is not needed any more.
                ToManager::GiveBack { .. } => {}
                ToManager::Borrow { ask, terms, .. } => self.wishes.push_back((ask, terms)),
                other => panic!("expected a report, got {other:?}"),
            }
        };
        assert_eq!(reported.report.lease, lease);
        // Control messages overtake data: what the report names may still be on its way.
        let named = [&reported.report.output, &reported.report.log];
        for object in named.into_iter().flatten() {
            while !manager.objects.contains_key(&object.ciphertext) {
                let Ok(Incoming::Data { stream, last, bytes }) = self.receiver.recv().await else { panic!("no data") };
                self.streams.entry(stream).or_default().extend_from_slice(&bytes);
                if last {
                    let digest = self.storing.remove(&stream.0).unwrap();
                    manager.objects.insert(digest, self.streams.remove(&stream).unwrap());
                }
            }
        }
        reported
    }

    /// Why it gives `lease` back that was lent to it, before it says anything but what else it wishes for.
    pub(crate) async fn gives_back(&mut self, manager: &mut Manager, lease: LeaseId) -> Option<Rejection> {
        loop {
            match self.next(manager).await {
                ToManager::GiveBack { loan, why } if loan == lease => return why,
                ToManager::Borrow { ask, terms, .. } => self.wishes.push_back((ask, terms)),
                other => panic!("expected {lease} to be given back, got {other:?}"),
            }
        }
    }

    /// Gives it what it fetches, for as long as this is waited for: it says nothing meanwhile but what it wishes for.
    pub(crate) async fn serves<T>(&mut self, manager: &mut Manager, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                got = &mut wait => return got,
                said = self.next(manager) => match said {
                    ToManager::Borrow { ask, terms, .. } => self.wishes.push_back((ask, terms)),
                    other => panic!("expected nothing, got {other:?}"),
                },
            }
        }
    }

    /// The refusal of `lease`.
    pub(crate) async fn refusal(&mut self, manager: &mut Manager, lease: LeaseId) -> Rejection {
        match self.next(manager).await {
            ToManager::Refuse { lease: refused, why } if refused == lease => why,
            other => panic!("expected a refusal of {lease}, got {other:?}"),
        }
    }
}

/// What the client reads of a report: output and log, opened.
pub(crate) fn open(manager: &Manager, reported: &Reported) -> (Option<Vec<u8>>, Option<String>) {
    let report: &Report = &reported.report;
    let mut keys = reported.keys.iter();
    let mut one = |object: &Option<OutputRef>, direction| {
        let object = object.as_ref()?;
        let key: &WrappedKey = keys.next().expect("a key for each object");
        let used_for = WrapUse { task: report.task, fragment: report.fragment, module: report.module, direction };
        let key = world::sealing(CLIENT).unwrap(key, &used_for).unwrap();
        let ciphertext = &manager.objects[&object.ciphertext];
        assert_eq!((Digest::of(ciphertext), ciphertext.len() as u64), (object.ciphertext, object.size.0));
        Some(legation_keys::open(&key, object.object, ciphertext, Some(&object.commitment)).unwrap().to_vec())
    };
    let output = one(&report.output, Direction::Output);
    let log = one(&report.log, Direction::Log).map(|log| String::from_utf8(log).unwrap());
    assert_eq!(keys.next(), None);
    (output, log)
}

/// A signed request of one fragment that runs `module` on sealed inputs.
pub(crate) fn simple(module: Digest, inputs: &[&Secret], nonce: u64) -> Signed<Request> {
    let inputs = inputs.iter().map(|s| Input::Sealed(s.reference("rows"))).collect();
    sign(world::request(vec![world::fragment("one", module, inputs)], now(), nonce))
}

pub(crate) fn task(request: &Signed<Request>) -> TaskId {
    TaskId::new(request.digest())
}
