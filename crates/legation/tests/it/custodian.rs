//! The manager's side of a swarm key by its public doors: custodians by hand ask what is new and say their words over attested channels, the
//! operator sets charters over HTTP. What they deal is made up: the pool computes on no curve, and who checks finds out.

use std::{fs::File, sync::Arc, time::Duration};

use legation::{
    client::ClientError,
    custody::{Reader, check},
    root::Root,
    run::now,
};
use legation_agent::{
    AgentConfig,
    attester::{self, Attester, DevelopmentAttester},
    config::Development,
};
use legation_core::{
    Bytes, Digest, Millicores, Predicate, PublicKey, Rejection, Requirement, SealingPublicKey, Signed, Signer,
    SwarmName,
    claims::{Capacity, Configuration, Custody, KeyBinding, Role},
    custody::{
        Acceptance, Board, Chair, Charter, CustodyWord, DEALING_MAX, Dealing, Epoch, SwarmPublicKey, Threshold, Vows,
    },
    dsse,
};
use legation_keys::{IdentityKey, SealingKey};
use legation_net::{
    AnchoredJudge, Clock, Credential, Endpoint, Incoming, OsEntropy, Sender,
    custody::{BoardNews, CustodyNews, PAGE_MAX, Seen},
    message::{ToAgent, ToManager},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    http::{Request, send},
    world::{PROGRAM, SOON, World, eventually},
};

/// A custodian by hand, in the place of an agent whose process does not run.
struct Custodian {
    identity: Arc<IdentityKey>,
    passport: Digest,
    sender: Sender,
    told: mpsc::UnboundedReceiver<ToAgent>,
    vows: Vows,
}

fn main_key() -> SwarmName {
    SwarmName::new("main").unwrap()
}

fn seen(board: &Board) -> Seen {
    Seen { call: board.call().digest(), words: u32::try_from(board.words().len()).unwrap() }
}

/// A board with what a page has of it.
fn grown(board: Option<Board>, news: &BoardNews) -> Board {
    let known = board.as_ref().map_or(0, |board| board.words().len());
    assert_eq!(usize::try_from(news.from).unwrap(), known);
    let mut board =
        board.unwrap_or_else(|| Board::open(news.call.clone(), &news.charter, news.before.as_ref()).unwrap());
    for heard in &news.words {
        board.absorb(&heard.word, heard.at).unwrap();
    }
    board
}

impl Custodian {
    async fn join(world: &World, name: &str) -> Self {
        let config = AgentConfig::read(&world.agent_file(name)).unwrap();
        let Some(Development::Chip(chip)) = &config.development else { panic!("{name} has no development chip") };
        let attester = DevelopmentAttester::of(
            DevelopmentAttester::chip(chip).unwrap(),
            File::open(PROGRAM).and_then(attester::image).unwrap(),
        );
        let configuration = Configuration {
            provider: config.provider.clone(),
            region: config.region.clone(),
            capacity: Capacity { cpu: Millicores(1000), memory: Bytes::mib(512), slots: 4 },
            rate: config.rate,
            slot: config.slot,
            operators: config.operators.clone(),
            advertise: Some(format!("{name}.example:7443")),
            prover: None,
            custody: Some(Custody { swarm: main_key(), alone: true, anchors: Digest::of(b"anchors") }),
        };
        let identity = Arc::new(IdentityKey::generate(&mut OsEntropy));
        let sealing = SealingKey::generate(&mut OsEntropy);
        let judge = AnchoredJudge::new(config.operators.clone()).admit(Role::Manager);
        let clock: Clock = Arc::new(now);
        let endpoint = Endpoint::new(identity.clone(), Role::Agent, Credential::None, Arc::new(judge), clock).unwrap();
        let (sender, mut receiver) = endpoint.connect(config.managers[0].as_str(), None).await.unwrap().split();
        sender.send_control(&ToManager::AskChallenge).await.unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        let (admitted, passport) = oneshot::channel();
        let (channel, key) = (sender.clone(), identity.public_key());
        tokio::spawn(async move {
            let (_endpoint, mut admitted) = (endpoint, Some(admitted));
            while let Ok(incoming) = receiver.recv().await {
                let Incoming::Control(message) = incoming else { continue };
                match serde_json::from_slice::<ToAgent>(&message).unwrap() {
                    ToAgent::Challenge { nonce } => {
                        let encoded = configuration.encode();
                        let binding = KeyBinding {
                            role: Role::Agent,
                            identity: key,
                            sealing: sealing.public().clone(),
                            image: attester.image(),
                            configuration: Digest::of(&encoded),
                            not_before: now().minus(60),
                            not_after: now().plus(86_400),
                            nonce,
                        };
                        let evidence = Box::new(attester.attest(&binding.encode(), &encoded).unwrap());
                        channel.send_control(&ToManager::Evidence(evidence)).await.unwrap();
                    }
                    ToAgent::Admitted { passport, appointment } => {
                        let credential = Credential::Passport {
                            passport: passport.envelope().clone(),
                            appointment: appointment.envelope().clone(),
                        };
                        let (channel, admitted) = (channel.clone(), admitted.take());
                        tokio::spawn(async move {
                            channel.renew(credential).await.unwrap();
                            let obeyed = (legation_core::Term(0), legation_core::Seq(0));
                            let present = ToManager::Present { running: Vec::new(), obeyed };
                            channel.send_control(&present).await.unwrap();
                            let _ = admitted.map(|admitted| admitted.send(passport.digest()));
                        });
                    }
                    ToAgent::Refused { why } => panic!("a custodian is not admitted: {why}"),
                    said @ (ToAgent::CustodyChanged { .. } | ToAgent::Custody(_)) => {
                        let _ = tell.send(said);
                    }
                    _ => {}
                }
            }
        });
        let passport = timeout(SOON, passport).await.expect("it is not admitted").unwrap();
        Self { identity, passport, sender, told, vows: Vows::default() }
    }

    fn key(&self) -> PublicKey {
        self.identity.public_key()
    }

    /// Asks about a swarm key, whatever comes of it.
    async fn wonder(&self, swarm: &str, [open, past]: [Option<Seen>; 2]) {
        let swarm = SwarmName::new(swarm).unwrap();
        self.sender.send_control(&ToManager::AskCustody { swarm, open, past }).await.unwrap();
    }

    async fn told(&mut self) -> ToAgent {
        timeout(SOON, self.told.recv()).await.expect("it is told nothing").expect("its channel ended")
    }

    async fn ask(&mut self, known: [Option<Seen>; 2]) -> CustodyNews {
        self.wonder("main", known).await;
        loop {
            if let ToAgent::Custody(news) = self.told().await {
                assert_eq!(news.swarm, main_key());
                return *news;
            }
        }
    }

    /// The board of the ceremony that is under way, page by page.
    async fn board(&mut self) -> Board {
        let mut board = None;
        loop {
            let news = self.ask([board.as_ref().map(seen), None]).await;
            let grown = grown(board, news.open.as_ref().unwrap());
            if !news.more {
                return grown;
            }
            board = Some(grown);
        }
    }

    /// The same, once it is so far.
    async fn until(&mut self, what: &str, far: impl Fn(&Board) -> bool) -> Board {
        let looking = async {
            loop {
                let board = self.board().await;
                if far(&board) {
                    return board;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    async fn say(&self, word: CustodyWord) {
        self.sender.send_control(&ToManager::Custody(Box::new(word))).await.unwrap();
    }

    fn sign<P: Predicate>(&self, said: P) -> CustodyWord {
        CustodyWord::open(dsse::sign(said, &*self.identity).envelope()).unwrap()
    }

    fn chair(&self, call: Digest) -> CustodyWord {
        let mut own = [0; SealingPublicKey::LEN];
        own[..32].copy_from_slice(self.passport.as_bytes());
        let (enclave, sealing) = (self.key(), SealingPublicKey::from_bytes(own));
        self.sign(Chair { call, enclave, passport: self.passport, sealing, prev: vec![call, self.passport] })
    }

    /// A dealing as large as one may be.
    fn dealing(&self, board: &Board) -> CustodyWord {
        let prev = [board.call().digest()].into_iter().chain(board.chairs().map(Signed::digest)).collect();
        let mut dealing = vec![0; DEALING_MAX];
        dealing[..32].copy_from_slice(self.key().as_bytes());
        self.sign(Dealing { ceremony: board.ceremony().unwrap(), dealer: self.key(), dealing, roster: None, prev })
    }

    fn acceptance(&self, board: &Board) -> CustodyWord {
        let mut named: Vec<_> = board.dealings().map(|d| (d.name(), d.digest())).collect();
        named.sort_unstable();
        let (dealings, prev) = named.into_iter().unzip();
        self.sign(Acceptance { ceremony: board.ceremony().unwrap(), member: self.key(), dealings, prev })
    }

    fn confirmation(&mut self, board: &Board) -> CustodyWord {
        let roster = Digest::of(board.ceremony().unwrap().as_bytes());
        let key = SwarmPublicKey::from_bytes([7; SwarmPublicKey::LEN]);
        let me = self.key();
        let said = self.vows.confirm(board, me, (roster, key), now()).unwrap();
        self.sign(said)
    }

    fn leave(self) {
        self.sender.revoke(Rejection::new("test.over", "this channel").got("a custodian that leaves"));
    }
}

fn said_charter(operator: PublicKey) -> Charter {
    Charter {
        operator,
        swarm: main_key(),
        number: 1,
        threshold: Threshold::new(2, 3).unwrap(),
        require: Requirement::any(),
        per_provider_max: 1,
        epoch_seconds: 86_400,
        not_after: now().plus(30 * 86_400),
        prev: Vec::new(),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>, status: u16, check: &str) {
    match answer {
        Err(ClientError::Refused { status: got, why }) => {
            assert_eq!((got.as_u16(), why.check.as_str()), (status, check), "{why}");
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A manager with three custodians who have taken no part in anything yet.
async fn three() -> (World, Vec<Custodian>) {
    let names = ["aurora", "boreal", "cumulus"];
    let mut world = World::new(&names);
    world.cloud.start_manager().unwrap();
    world.ready(0).await;
    let mut custodians = Vec::new();
    for name in names {
        custodians.push(Custodian::join(&world, name).await);
    }
    world.ready(3).await;
    (world, custodians)
}

#[tokio::test]
async fn custodians_are_told_in_pages_and_heard_and_nobody_but_the_operator_has_a_say() {
    let (world, mut all) = three().await;
    let (operator, tenant) = (world.operator(), world.client());
    let root = Root::of(&world.root).unwrap();

    // Without a charter there is nothing to be told.
    all[0].wonder("main", [None, None]).await;
    assert!(timeout(Duration::from_millis(500), all[0].told.recv()).await.is_err(), "it is told something");
    assert!(tenant.keys().await.unwrap().is_empty());
    refused(tenant.key(&main_key()).await, 404, "custody.unknown");
    refused(tenant.key_bundle(&main_key()).await, 404, "custody.unknown");

    // The operator alone sets one, by its own root.
    let charter = || root.charter(said_charter(root.public_key())).unwrap();
    refused(tenant.set_charter(charter()).await, 403, "api.operator");
    refused(tenant.rotate_key(&main_key()).await, 403, "api.operator");
    refused(operator.rotate_key(&main_key()).await, 404, "custody.unknown");
    let stranger = IdentityKey::generate(&mut OsEntropy);
    let foreign = dsse::sign(said_charter(stranger.public_key()), &stranger);
    refused(operator.set_charter(foreign).await, 422, "custody.operator");
    let second = Charter { number: 2, ..said_charter(root.public_key()) };
    refused(operator.set_charter(root.charter(second).unwrap()).await, 422, "custody.charter");
    let (api, token) = (world.deployment().addresses.api, world.home().config.operator_token.unwrap());
    let put =
        |swarm: &str, body: String| Request::new("PUT", &format!("/v1/keys/{swarm}/charter")).token(&token).json(body);
    let body = serde_json::json!({ "charter": charter() }).to_string();
    send(api, put("other", body.clone())).await.refused(422, "custody.charter");
    send(api, put("NO", body)).await.refused(400, "custody.name");
    send(api, put("main", "{}".to_owned())).await.refused(422, "api.body");

    let view = operator.set_charter(charter()).await.unwrap();
    assert_eq!(view.call.map(|call| call.members.len()), Some(3));
    for custodian in &mut all {
        assert!(matches!(custodian.told().await, ToAgent::CustodyChanged { swarm } if swarm == main_key()));
    }

    // From the first word on, with all who are called; of other swarm keys nothing is told.
    all[0].wonder("other", [None, None]).await;
    let news = all[0].ask([None, None]).await;
    let open = news.open.unwrap();
    assert_eq!((open.from, open.words.len(), news.peers.len(), news.more), (0, 0, 3, false));
    assert!(news.past.is_none() && open.before.is_none() && open.appointment.is_some());
    let call = open.call.digest();

    // Nobody speaks for another.
    all[0].say(all[1].chair(call)).await;
    all[0].say(all[0].chair(call)).await;
    let board = all[0].until("a chair", |board| board.chairs().count() > 0).await;
    assert_eq!(board.chairs().map(|chair| chair.enclave).collect::<Vec<_>>(), [all[0].key()]);
    for custodian in &all[1..] {
        custodian.say(custodian.chair(call)).await;
    }
    let board = all[0].until("all chairs", |board| board.ceremony().is_some()).await;
    for custodian in &all {
        custodian.say(custodian.dealing(&board)).await;
    }
    let board = all[0].until("all dealings", |board| board.dealings().count() == 3).await;

    // Three of the largest dealings are more than a page.
    let first = all[1].ask([None, None]).await;
    let page = first.open.unwrap();
    assert!(first.more && page.from == 0 && page.words.len() < 6 && first.peers.len() == 3, "{}", page.words.len());
    let rest = all[1].ask([Some(page.seen()), None]).await;
    let next = rest.open.unwrap();
    assert_eq!((next.from, rest.more, rest.peers.len()), (page.seen().words, false, 0));
    assert_eq!(grown(Some(grown(None, &page)), &next), board);
    assert!(serde_json::to_vec(&page.words).unwrap().len() <= PAGE_MAX);
    // Who knows it all is told that, and what is known of another board counts for nothing.
    let nothing = all[1].ask([Some(next.seen()), None]).await;
    assert!(nothing.open.is_some_and(|open| open.words.is_empty() && open.from == 6) && !nothing.more);
    let other = Seen { call: Digest::of(b"another"), words: 3 };
    assert_eq!(all[1].ask([Some(other), None]).await.open.unwrap().from, 0);

    for custodian in &all {
        custodian.say(custodian.acceptance(&board)).await;
    }
    let board = all[0].until("settled dealings", |board| board.settled().is_some()).await;
    for custodian in &mut all {
        let word = custodian.confirmation(&board);
        custodian.say(word).await;
    }
    let made = eventually("the key is made", SOON, async || {
        let view = tenant.key(&main_key()).await.unwrap();
        view.committee.clone().map(|committee| (view, committee))
    });
    let (view, committee) = made.await;
    assert_eq!((committee.epoch, committee.here, committee.margin), (Epoch(0), 3, 1));
    assert!(view.call.is_none() && view.warnings.is_empty(), "{view:?}");
    let admin = world.deployment().addresses.admin;
    let metrics = send(admin, Request::get("/metrics")).await.text();
    for line in ["custodians_here{swarm=\"main\"} 3", "margin{swarm=\"main\"} 1", "epoch{swarm=\"main\"} 0"] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }

    // That what they dealt is made up, the pool cannot see; whoever checks can.
    let bundle = tenant.key_bundle(&main_key()).await.unwrap();
    assert_eq!((bundle.peers.len(), bundle.board.as_ref().map(|board| board.from)), (3, Some(0)));
    let home = world.home();
    let reader = Reader { anchors: &home.anchors, revocations: None, now: now() };
    let why = check(&reader, &main_key(), &bundle).unwrap_err();
    assert_eq!(why.check, "key.roster", "{why}");
    world.legation(&["key", "verify"]).await.ended(4, &["[key.roster]"]);

    // Another committee: what is known of the last ceremony is not told again, and who hands over is shown.
    let call = operator.rotate_key(&main_key()).await.unwrap().call.unwrap();
    assert_eq!((call.epoch, call.attempt), (Epoch(1), 1));
    let past = bundle.board.map(|board| board.seen());
    let news = all[2].ask([None, past]).await;
    let (open, past) = (news.open.unwrap(), news.past.unwrap());
    assert!(past.words.is_empty() && past.from == 6 + 3 + 3, "{}", past.from);
    assert_eq!((open.from, news.peers.len()), (0, 3));
    assert_eq!(open.before.map(|before| before.epoch), Some(Epoch(0)));

    // Who goes is missed before it is too late.
    for (margin, code, said) in [(0, 0, "AT RISK"), (-1, 11, "OUT OF REACH")] {
        all.pop().unwrap().leave();
        eventually(said, SOON, async || {
            let committee = tenant.key(&main_key()).await.unwrap().committee.unwrap();
            (committee.margin == margin).then_some(())
        })
        .await;
        let status = world.legation(&["key", "status"]).await.ended(code, &[]).out();
        assert!(status.contains(said) && status.contains(&format!("margin {margin}")), "{status}");
    }
    let ready = send(admin, Request::get("/readyz")).await.text();
    assert!(ready.contains("WARNING swarm key `main`: the key is out of reach"), "{ready}");
}
