//! Custodians: machines in memory through one board, and one in an agent. Who lies is named, who starts again says the same, who gave over has
//! nothing left, and whom a manager lies to says nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use legation_agent::{
    AgentConfig, Status,
    config::CustodyConfig,
    custody::{
        Ask, Hands, Machine, Member, Notice, Standing, Turn,
        keep::{InMemory, Keep, KeepError},
    },
    state::StateConfig,
};
use legation_core::{
    Digest, EnclaveId, ObjectId, ProviderId, PublicKey, Requirement, Revocable, Revocation, RevocationEpoch, Revoked,
    Signed, Signer, SwarmName, TenantId, Term, UnixTime,
    claims::{Attested, Custody},
    custody::{
        Board, Called, Charter, Committee, CustodyCall, CustodyWord, Epoch, Generation, Lapse, LapseReason, Phase,
        RefusalReason, Standing as InForce, Threshold,
    },
    dsse,
    statement::{Appointment, Office, Scope},
};
use legation_keys::{
    Entropy, IdentityKey, ObjectKey, SealingKey,
    swarm::{Label, Opener, Partial, Roster, Share, SwarmSealed},
};
use legation_net::{
    OsEntropy,
    custody::{BoardNews, CustodyNews, Heard, Seen},
    message::{Peer, ToAgent, ToManager},
};
use zeroize::Zeroizing;

use crate::{
    manager::{self, Manager},
    world::{self, MANAGER, OPERATOR, STRANGER, identity, key, now, sign},
};

/// How long a call gives its ceremony.
const LONG: u64 = 300;

fn swarm() -> SwarmName {
    SwarmName::new("main").unwrap()
}

fn id(seed: u8) -> EnclaveId {
    key(seed).enclave_id()
}

fn provider(seed: u8) -> ProviderId {
    ProviderId::new(["alder", "birch", "cedar"][usize::from(seed) % 3]).unwrap()
}

/// Bytes that outlast a machine; a disk may be full.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<(Option<Vec<u8>>, bool)>>);

impl Keep for Shelf {
    fn load(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, KeepError> {
        Ok(self.0.lock().unwrap().0.clone().map(Zeroizing::new))
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        let mut held = self.0.lock().unwrap();
        if held.1 {
            return Err(KeepError("the disk is full".to_owned()));
        }
        held.0 = Some(bytes.to_vec());
        Ok(())
    }
}

impl Shelf {
    fn fill(&self, full: bool) {
        self.0.lock().unwrap().1 = full;
    }
}

struct Own {
    identity: IdentityKey,
    entropy: OsEntropy,
    shelf: Shelf,
}

impl Own {
    fn new(seed: u8, shelf: Shelf) -> Self {
        Self { identity: identity(seed), entropy: OsEntropy, shelf }
    }
}

impl Hands for Own {
    fn signer(&self) -> &dyn Signer {
        &self.identity
    }

    fn entropy(&mut self) -> &mut dyn Entropy {
        &mut self.entropy
    }

    fn keep(&mut self) -> &mut dyn Keep {
        &mut self.shelf
    }
}

struct Node {
    seed: u8,
    member: Member,
    own: Own,
    notices: Vec<Notice>,
}

impl Node {
    fn new(seed: u8) -> Self {
        let mut own = Own::new(seed, Shelf::default());
        let member = Member::start(swarm(), &mut own).unwrap();
        Self { seed, member, own, notices: Vec::new() }
    }

    /// The machine that starts from what was stored.
    fn again(&self) -> Member {
        Member::start(swarm(), &mut Own::new(self.seed, self.own.shelf.clone())).unwrap()
    }

    /// Whatever it says, it stored before.
    fn holds_to(&self, word: &CustodyWord) {
        match word {
            CustodyWord::Confirmation(word) => assert!(self.again().share(word.roster).is_some()),
            CustodyWord::Handover(word) => {
                assert!(self.again().share(word.from).is_none() && self.member.share(word.from).is_none());
            }
            _ => {}
        }
    }

    /// The share of its committee in force, with the roster.
    fn share(&self) -> (Roster, Share) {
        let (roster, _) = self.member.rosters().find(|(_, in_force)| *in_force).unwrap();
        (roster.clone(), self.member.share(roster.digest()).unwrap())
    }

    /// By which check it refused something.
    fn refused(&self) -> Vec<&str> {
        let notices = self.notices.iter();
        notices
            .filter_map(|notice| match notice {
                Notice::Refused { why } => Some(why.check.as_str()),
                _ => None,
            })
            .collect()
    }
}

/// A manager that keeps boards, and members that follow them.
struct World {
    now: UnixTime,
    operators: Vec<PublicKey>,
    revoked: Revoked,
    charter: Signed<Charter>,
    /// Of the manager, where it tells.
    appointment: Option<Signed<Appointment>>,
    verifier: Signed<Appointment>,
    peers: BTreeMap<u8, Peer>,
    past: Option<(Board, Signed<Charter>)>,
    open: Option<(Board, Signed<Charter>)>,
    last: Option<Digest>,
    /// Words on a page.
    page: usize,
    nodes: Vec<Node>,
    absent: BTreeSet<u8>,
    /// Who deals badly.
    liar: Option<u8>,
    /// Everybody starts again before each look at the board.
    restless: bool,
    /// All dealings that anybody ever said.
    dealt: BTreeMap<EnclaveId, BTreeSet<Digest>>,
}

fn charter(number: u32, (t, n): (u16, u16), prev: Option<Digest>) -> Signed<Charter> {
    sign(Charter {
        operator: key(OPERATOR),
        swarm: swarm(),
        number,
        threshold: Threshold::new(t, n).unwrap(),
        require: Requirement::any(),
        per_provider_max: n.div_ceil(3),
        epoch_seconds: 3600,
        not_after: now().plus(86_400),
        prev: prev.into_iter().collect(),
    })
}

impl World {
    fn new(of: (u16, u16), seeds: std::ops::Range<u8>) -> Self {
        Self {
            now: now(),
            operators: vec![key(OPERATOR)],
            revoked: Revoked::default(),
            charter: charter(1, of, None),
            appointment: Some(sign(world::appointment(Office::Manager, now()))),
            verifier: sign(world::appointment(Office::Verifier, now())),
            peers: BTreeMap::new(),
            past: None,
            open: None,
            last: None,
            page: 1000,
            nodes: seeds.map(Node::new).collect(),
            absent: BTreeSet::new(),
            liar: None,
            restless: false,
            dealt: BTreeMap::new(),
        }
    }

    /// Five of nine have a key.
    fn in_force() -> Self {
        let mut world = Self::new((5, 9), 20..29);
        world.call(20..29);
        world.settle();
        assert!(world.open.is_none() && world.committee().epoch == Epoch(0));
        world
    }

    fn committee(&self) -> Committee {
        self.past.as_ref().unwrap().0.committee().unwrap()
    }

    /// An enclave, as the verifier knows it now, but for what is bent.
    fn peer(&self, seed: u8, bend: impl FnOnce(&mut legation_core::statement::Passport)) -> Peer {
        let mut passport = world::passport(seed, &self.verifier, self.now);
        passport.claims.chip = Attested::hardware(format!("{seed:02x}").repeat(64));
        passport.configuration.provider = provider(seed);
        passport.configuration.advertise = Some(format!("enclave-{seed}:7444"));
        let custody = Custody { swarm: swarm(), alone: false, anchors: Digest::of(&[]) };
        passport.configuration.custody = Some(custody);
        bend(&mut passport);
        Peer { passport: sign(passport), appointment: self.verifier.clone() }
    }

    fn said_call(&self, seeds: impl IntoIterator<Item = u8>, before: Option<&Committee>) -> CustodyCall {
        let mut members: Vec<Called> =
            seeds.into_iter().map(|seed| Called { enclave: id(seed), provider: provider(seed) }).collect();
        members.sort_unstable_by_key(|called| called.enclave);
        let stays = |enclave: &EnclaveId| members.iter().any(|called| called.enclave == *enclave);
        let old = before.iter().flat_map(|before| &before.members).map(|member| member.enclave);
        CustodyCall {
            manager: key(MANAGER),
            term: Term(1),
            charter: self.charter.digest(),
            generation: Generation(0),
            from: before.map(|before| InForce { epoch: before.epoch, roster: before.roster }),
            attempt: 1,
            threshold: self.charter.threshold,
            removed: old.filter(|enclave| !stays(enclave)).collect(),
            members,
            revocations: RevocationEpoch(0),
            called: self.now,
            expires: self.now.plus(LONG),
            prev: [self.charter.digest(), Digest::of(b"appointment")].into_iter().chain(self.last).collect(),
        }
    }

    fn open_board(&mut self, call: CustodyCall, before: Option<&Committee>) {
        let call = sign(call);
        self.last = Some(call.digest());
        let board = Board::open(call, &self.charter, before).unwrap();
        self.open = Some((board, self.charter.clone()));
    }

    /// Calls these, whose passports are fresh.
    fn call(&mut self, seeds: impl IntoIterator<Item = u8> + Clone) {
        self.peers = seeds.clone().into_iter().map(|seed| (seed, self.peer(seed, |_| {}))).collect();
        let before = self.past.as_ref().and_then(|(board, _)| board.committee());
        self.open_board(self.said_call(seeds, before.as_ref()), before.as_ref());
    }

    fn board_news(&self, ours: &(Board, Signed<Charter>), seen: Option<Seen>, room: &mut usize) -> BoardNews {
        let (board, charter) = ours;
        let seen = seen.filter(|seen| seen.call == board.call().digest());
        let known = seen.map_or(0, |seen| usize::try_from(seen.words).unwrap()).min(board.words().len());
        let words: Vec<Heard> = board.words()[known..]
            .iter()
            .take(*room)
            .map(|said| Heard { word: said.word.clone(), at: said.at })
            .collect();
        *room -= words.len();
        BoardNews {
            call: board.call().clone(),
            appointment: self.appointment.clone(),
            charter: charter.clone(),
            before: board.before().cloned(),
            from: u32::try_from(known).unwrap(),
            words,
        }
    }

    fn news(&self, ask: Ask) -> CustodyNews {
        let mut room = self.page;
        let past = self.past.as_ref().map(|past| self.board_news(past, ask.past, &mut room));
        let open = self.open.as_ref().map(|open| self.board_news(open, ask.open, &mut room));
        let lacks = |ours: &Option<(Board, Signed<Charter>)>, news: &Option<BoardNews>| {
            let words = ours.as_ref().map_or(0, |(board, _)| board.words().len());
            news.as_ref().is_some_and(|news| usize::try_from(news.seen().words).unwrap() < words)
        };
        let more = lacks(&self.past, &past) || lacks(&self.open, &open);
        let begins = open.as_ref().is_some_and(|open| ask.open.is_none_or(|seen| seen.call != open.call.digest()));
        let peers = if begins { self.peers.values().cloned().collect() } else { Vec::new() };
        CustodyNews { swarm: swarm(), charter: self.charter.clone(), past, open, peers, more }
    }

    fn words(&self) -> usize {
        [&self.past, &self.open].into_iter().flatten().map(|(board, _)| board.words().len()).sum()
    }

    /// What somebody says arrives; the boards say what it is worth.
    fn hear(&mut self, seed: u8, word: CustodyWord) {
        let word = if self.liar == Some(seed) { spoilt(&identity(seed), word) } else { word };
        if let CustodyWord::Dealing(dealing) = &word {
            let name = dealing.name();
            self.dealt.entry(name.dealer).or_default().insert(name.dealing);
        }
        let at = self.now;
        for board in [&mut self.past, &mut self.open].into_iter().flatten() {
            if board.0.absorb(&word, at).is_ok() {
                break;
            }
        }
        if self.open.as_ref().is_some_and(|(board, _)| board.committee().is_some()) {
            self.past = self.open.take();
        }
    }

    /// One looks at the boards, and says what is due.
    fn visit(&mut self, at: usize) {
        let (operators, revoked, now) = (self.operators.clone(), self.revoked.clone(), self.now);
        let seed = self.nodes[at].seed;
        let passport = self.peers.get(&seed).map(|peer| peer.passport.digest());
        let standing = Standing { operators: &operators, revoked: &revoked, passport, now };
        let node = &mut self.nodes[at];
        let mut turn = if self.restless {
            node.member = node.again();
            node.member.connect(&standing)
        } else {
            node.member.change(&standing)
        };
        loop {
            let Turn { words, ask, notices } = turn;
            let node = &mut self.nodes[at];
            node.notices.extend(notices);
            words.iter().for_each(|word| node.holds_to(word));
            words.into_iter().for_each(|word| self.hear(seed, word));
            let Some(ask) = ask else { return };
            let news = self.news(ask);
            let node = &mut self.nodes[at];
            turn = node.member.hear(&news, &standing, &mut node.own);
        }
    }

    fn round(&mut self) {
        for at in 0..self.nodes.len() {
            if !self.absent.contains(&self.nodes[at].seed) {
                self.visit(at);
            }
        }
        self.now = self.now.plus(3);
    }

    /// Until nobody has anything new to say.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let before = (self.words(), self.open.is_some());
            self.round();
            quiet = if before == (self.words(), self.open.is_some()) { quiet + 1 } else { 0 };
        }
    }

    fn node(&self, seed: u8) -> &Node {
        self.nodes.iter().find(|node| node.seed == seed).unwrap()
    }

    /// Nobody said two things.
    fn assert_honest(&self) {
        for (board, _) in [&self.past, &self.open].into_iter().flatten() {
            assert!(board.equivocations().is_empty() && board.strays().next().is_none());
        }
    }
}

/// The dealing, but for what the last member is to have.
fn spoilt(liar: &IdentityKey, word: CustodyWord) -> CustodyWord {
    let CustodyWord::Dealing(said) = &word else { return word };
    let mut other = said.predicate().clone();
    *other.dealing.last_mut().unwrap() ^= 1;
    CustodyWord::Dealing(dsse::sign(other, liar))
}

const ASK: Digest = Digest::from_bytes([7; 32]);

fn label() -> Label {
    Label {
        tenant: TenantId::new("acme").unwrap(),
        policy: Digest::of(b"who may"),
        object: ObjectId::from_bytes([5; 16]),
        generation: Generation(0),
    }
}

fn partial(share: &Share) -> Partial {
    let asker = SealingKey::from_seed([77; 32]);
    let sealed = share.release(&label(), asker.public(), ASK, &mut OsEntropy).unwrap();
    sealed.open(&asker, ASK).ok().unwrap()
}

#[test]
fn nine_make_a_key_and_hand_it_to_nine_others_and_old_shares_are_useless() {
    let mut world = World::in_force();
    let (old, shares): (Vec<Roster>, Vec<Share>) = world.nodes.iter().map(Node::share).unzip();
    let before = world.committee();
    assert!(old.iter().all(|roster| *roster == old[0]) && before.roster == old[0].digest());
    let object = ObjectKey::from_bytes(*b"the key of one object, 32 bytes!");
    let sealed = SwarmSealed::seal(&old[0].key(), &label(), &object, &mut OsEntropy);

    // Small pages, and another committee of which nobody was there before.
    world.page = 4;
    world.nodes.extend((29..38).map(Node::new));
    world.call(29..38);
    world.settle();
    let after = world.committee();
    assert_eq!((after.epoch, &after.key, world.open.is_none()), (Epoch(1), &before.key, true));
    assert_eq!(world.past.as_ref().unwrap().0.keeping().count(), 0, "all handed over");
    world.assert_honest();
    for node in &world.nodes[..9] {
        assert!(node.member.rosters().next().is_none() && node.again().rosters().next().is_none());
        let gone = |notice: &Notice| matches!(notice, Notice::GaveOver { to, .. } if *to == after.roster);
        assert!(node.notices.iter().any(gone));
    }
    for node in &world.nodes[9..] {
        assert_eq!(node.refused(), [""; 0]);
        let index = after.index_of(id(node.seed)).unwrap();
        let (epoch, roster, key) = (Epoch(1), after.roster, after.key.id());
        assert!(node.notices.contains(&Notice::Holds { epoch, roster, key, index }));
    }

    // What was sealed before opens after, by the new ones; the old shares are of another roster, whatever their number.
    let new: Vec<(Roster, Share)> = world.nodes[9..].iter().map(Node::share).collect();
    let mut opener = Opener::new(&new[0].0, &label());
    assert!(shares.iter().all(|share| !share.fits(&new[0].0) && opener.add(partial(share)).is_err()));
    assert!(opener.open(&sealed).is_err());
    new[..5].iter().for_each(|(_, share)| opener.add(partial(share)).ok().unwrap());
    assert!(opener.open(&sealed).ok().unwrap().key == object);
}

#[test]
fn a_bad_share_is_found_by_its_member_and_its_dealer_does_not_count() {
    let mut world = World::new((5, 9), 20..29);
    world.liar = Some(23);
    world.call(20..29);
    world.settle();
    let committee = world.committee();
    let board = &world.past.as_ref().unwrap().0;
    assert!(board.settled().unwrap().iter().all(|name| name.dealer != id(23)));
    let last = committee.members.last().unwrap().enclave;
    for node in &world.nodes {
        let found = Notice::Found { dealer: id(23), why: RefusalReason::Unopened };
        assert_eq!(node.notices.contains(&found), id(node.seed) == last, "{}", node.seed);
    }
    world.assert_honest();
}

#[test]
fn who_starts_again_from_what_it_stored_says_the_same_again() {
    let mut world = World::new((2, 3), 20..23);
    world.restless = true;
    world.call(20..23);
    world.settle();
    assert_eq!(world.committee().epoch, Epoch(0));
    world.nodes.extend((23..26).map(Node::new));
    world.call(22..25);
    world.settle();
    assert_eq!(world.committee().epoch, Epoch(1));
    world.assert_honest();
    assert!(world.dealt.values().all(|dealings| dealings.len() <= 2), "one in each ceremony");
    assert_eq!(world.past.as_ref().unwrap().0.keeping().count(), 0);
    for node in &world.nodes {
        let holds = (22..25).contains(&node.seed);
        assert_eq!(node.again().rosters().count(), usize::from(holds), "{}", node.seed);
    }
}

#[test]
fn who_lost_its_state_keeps_silent_and_is_named() {
    let mut world = World::new((2, 3), 20..23);
    world.call(20..23);
    world.round();
    let lost = Node::new(21);
    world.nodes[1] = lost;
    world.settle();
    let (board, _) = world.open.as_ref().unwrap();
    assert_eq!(world.node(21).refused(), ["custody.sealing"]);
    let Phase::Lapsed(Lapse { why, silent, .. }) = board.phase(board.call().expires.plus(1)) else {
        panic!("it goes on")
    };
    assert_eq!((why, silent), (LapseReason::Expired, vec![id(21)]));
    world.assert_honest();
    // When its time is over, what was for that ceremony is forgotten, and nothing more is said.
    world.now = board.call().expires.plus(120);
    let words = world.words();
    world.settle();
    assert_eq!(world.words(), words);
    assert!(!world.node(20).member.keeps(key(20)));
}

#[test]
fn nothing_is_said_that_could_not_be_stored() {
    let mut world = World::new((2, 3), 20..23);
    world.nodes[0].own.shelf.fill(true);
    world.call(20..23);
    world.settle();
    let (board, _) = world.open.as_ref().unwrap();
    assert_eq!(board.words().len(), 2, "the chairs of the others");
    let full = Notice::Unkept { why: KeepError("the disk is full".to_owned()) };
    assert_eq!(world.nodes[0].notices, [full], "told once");
    world.nodes[0].own.shelf.fill(false);
    world.round();
    world.round();
    // It has its dealing out, and no room for its share.
    world.nodes[0].own.shelf.fill(true);
    world.settle();
    assert!(world.past.is_none());
    assert!(world.nodes[0].again().rosters().next().is_none());
    world.nodes[0].own.shelf.fill(false);
    world.settle();
    assert_eq!(world.committee().members.len(), 3);
    world.assert_honest();
}

#[test]
fn who_was_absent_hands_over_when_it_is_back() {
    let mut world = World::in_force();
    let before = world.committee();
    world.absent = (20..24).collect();
    world.nodes.extend((29..38).map(Node::new));
    world.call(29..38);
    world.settle();
    let after = world.committee();
    let mut absent: Vec<EnclaveId> = (20..24).map(id).collect();
    absent.sort_unstable();
    assert_eq!(world.past.as_ref().unwrap().0.keeping().collect::<Vec<_>>(), absent);
    assert!((20..24).all(|seed| world.node(seed).member.share(before.roster).is_some()));
    world.absent.clear();
    world.settle();
    assert_eq!(world.past.as_ref().unwrap().0.keeping().count(), 0);
    assert!((20..24).all(|seed| world.node(seed).again().share(before.roster).is_none()));
    assert_eq!(world.committee(), after);
}

#[test]
fn a_call_that_is_not_as_it_should_be_is_not_followed() {
    type Bend = fn(&mut World);
    fn foreign(world: &mut World) {
        let said = Charter { swarm: SwarmName::new("other").unwrap(), ..world.charter.predicate().clone() };
        world.charter = sign(said);
        world.call(20..23);
    }
    let table: [(Bend, &str); 4] = [
        (|world| world.operators = vec![key(STRANGER)], "custody.operator"),
        (foreign, "custody.swarm"),
        (|world| world.appointment = None, "custody.manager"),
        (|world| world.now = world.now.plus(LONG + 1), "custody.dates"),
    ];
    for (bend, check) in table {
        let mut world = World::new((2, 3), 20..23);
        world.call(20..23);
        bend(&mut world);
        world.settle();
        assert_eq!(world.words(), 0, "{check}");
        // One whose time is over has lapsed, of which nothing need be said.
        let expected = if check == "custody.dates" { vec![] } else { vec![check] };
        assert!(world.nodes.iter().all(|node| node.refused() == expected), "{check}");
    }
}

#[test]
fn nobody_deals_to_who_should_not_be_a_member() {
    type Bend = fn(&mut World);
    fn bent(world: &mut World, bend: fn(&mut legation_core::statement::Passport)) {
        world.peers.insert(21, world.peer(21, bend));
    }
    let table: [(Bend, &str); 9] = [
        (|world| drop(world.peers.remove(&21)), "custody.passport"),
        (|world| bent(world, |passport| passport.configuration.operators.push(key(STRANGER))), "custody.operators"),
        (|world| bent(world, |passport| passport.claims.debug = Attested::hardware(true)), "custody.passport"),
        (|world| bent(world, |passport| passport.configuration.custody = None), "custody.swarm"),
        (|world| bent(world, |passport| passport.configuration.provider = provider(20)), "custody.provider"),
        (|world| bent(world, |passport| passport.claims.chip = Attested::hardware("14".repeat(64))), "custody.chip"),
        (
            |world| {
                let scope = Scope { tenants: Some(vec![TenantId::new("acme").unwrap()]), kinds: None };
                let appointment = Appointment { scope: Some(scope), ..world.verifier.predicate().clone() };
                world.verifier = sign(appointment);
                world.peers.insert(21, world.peer(21, |_| {}));
            },
            "custody.verifier",
        ),
        (
            |world| {
                world.verifier = sign(Appointment { not_after: now().minus(60), ..world.verifier.predicate().clone() });
                world.peers.insert(21, world.peer(21, |_| {}));
            },
            "passport.appointment-dates",
        ),
        (
            |world| {
                let what = Revocable::Enclave(id(21));
                let (epoch, at, why) = (RevocationEpoch(1), world.now, "lost".to_owned());
                world.revoked.insert(Revocation { what, epoch, at, why });
            },
            "revocation",
        ),
    ];
    for (bend, check) in table {
        let mut world = World::new((2, 3), 20..23);
        world.call(20..23);
        // What the enclave itself shows is as good as any; the others are told this.
        bend(&mut world);
        world.absent.insert(21);
        let mut chair = Node::new(21);
        chair_of(&mut world, &mut chair);
        world.settle();
        let (board, _) = world.open.as_ref().unwrap();
        assert!(matches!(board.phase(world.now), Phase::Dealings { dealt: 0, .. }), "{check}");
        for seed in [20, 22] {
            let refused = world.node(seed).refused();
            assert!(!refused.is_empty() && refused.iter().all(|got| got.starts_with(check)), "{check}: {refused:?}");
        }
    }
}

/// Takes the chair of one who does nothing else.
fn chair_of(world: &mut World, node: &mut Node) {
    let good = world.peer(node.seed, |_| {});
    let (operators, revoked) = (world.operators.clone(), Revoked::default());
    let passport = Some(good.passport.digest());
    let standing = Standing { operators: &operators, revoked: &revoked, passport, now: world.now };
    let ask = node.member.connect(&standing).ask.unwrap();
    let turn = node.member.hear(&world.news(ask), &standing, &mut node.own);
    assert_eq!(turn.words.len(), 1);
    turn.words.into_iter().for_each(|word| world.hear(node.seed, word));
}

#[test]
fn a_manager_that_lies_about_the_committee_before_gets_nothing() {
    let mut world = World::in_force();
    let real = world.committee();
    // All but one of the members are others, who would hand over to anybody.
    let mut lie = real.clone();
    lie.members =
        [20].into_iter().chain(60..68).map(|seed| Called { enclave: id(seed), provider: provider(seed) }).collect();
    lie.members.sort_unstable_by_key(|called| called.enclave);
    world.nodes.extend((29..38).map(Node::new));
    world.peers = (29..38).map(|seed| (seed, world.peer(seed, |_| {}))).collect();
    let call = world.said_call(29..38, Some(&lie));
    world.open_board(call, Some(&lie));
    world.settle();
    let (board, _) = world.open.as_ref().unwrap();
    assert_eq!((board.chairs().count(), board.dealings().count()), (9, 0));
    assert_eq!(world.node(20).refused(), ["custody.from"]);
    assert!((20..29).all(|seed| world.node(seed).member.share(real.roster).is_some()));
}

#[test]
fn who_has_the_key_makes_no_other() {
    let mut world = World::in_force();
    let call = world.said_call(20..29, None);
    world.peers = (20..29).map(|seed| (seed, world.peer(seed, |_| {}))).collect();
    world.open_board(call, None);
    world.settle();
    assert_eq!(world.open.as_ref().unwrap().0.words().len(), 0);
    assert!(world.nodes.iter().all(|node| node.refused() == ["custody.from"]));
}

#[test]
fn what_was_kept_for_another_key_or_is_damaged_is_never_taken_for_none() {
    let world = World::in_force();
    let node = world.node(20);
    let mut own = Own::new(20, node.own.shelf.clone());
    let told = |own: &mut Own, name: &str| {
        Member::start(SwarmName::new(name).unwrap(), own).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(told(&mut own, "other").contains("it is of another swarm key"));
    let bytes = own.shelf.load().unwrap().unwrap();
    own.shelf.store(&bytes[..bytes.len() - 1]).unwrap();
    assert!(told(&mut own, "main").contains("it ends too early"));
    // The next boot finds what the last one had, and has none of it itself.
    own.shelf.store(&bytes).unwrap();
    let next = Member::start(swarm(), &mut Own::new(50, own.shelf.clone())).unwrap();
    assert!(next.rosters().next().is_none() && next.keeps(key(20)) && !next.keeps(key(50)));
    let mut none = InMemory::default();
    assert_eq!(none.load().unwrap(), None);
    none.store(b"something").unwrap();
    assert_eq!(none.load().unwrap().unwrap().as_slice(), b"something");
    assert_eq!(format!("{none:?}"), "InMemory(9 bytes)");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_asks_takes_its_chair_and_says_so_until_it_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut manager = Manager::new().await;
    let address = manager::free();
    let config = AgentConfig {
        listen: Some(address.clone()),
        advertise: Some(address),
        custody: Some(CustodyConfig { swarm: swarm(), alone: true }),
        state: Some(StateConfig { dir: dir.path().to_owned() }),
        ..manager::config(&manager.address())
    };
    let agent = manager::start(config);
    let mut conn = manager.admit().await;
    let passport = conn.passport().clone();
    let custody = passport.configuration.custody.clone().unwrap();
    assert_eq!((custody.swarm, custody.alone), (swarm(), true));
    let first = ask(&mut conn, &mut manager).await;
    assert_eq!((first.open, first.past), (None, None));

    let mut world = World::new((2, 3), 0..0);
    world.appointment = Some(manager.appointment.clone());
    let mut call = world.said_call([61, 62], None);
    call.members.push(Called { enclave: agent.enclave, provider: ProviderId::new("alder").unwrap() });
    call.members.sort_unstable_by_key(|called| called.enclave);
    world.open_board(call, None);
    conn.say(&ToAgent::Custody(Box::new(world.news(first)))).await;
    let said = chair(&mut conn, &mut manager).await;
    assert_eq!((said.speaker().enclave_id(), said.validate()), (agent.enclave, Ok(())));
    assert!(dir.path().join("custody.main.sealed").exists(), "it is stored before it is said");
    agent.sees(|status| matches!(status, Status::Custody { notice: Notice::Called { attempt: 1, .. }, .. })).await;
    let again = chair(&mut conn, &mut manager).await;
    assert_eq!(again, said, "the board has not answered");

    // The board answers: from there on nothing is to be said but what is asked.
    world.hear(0, said);
    conn.say(&ToAgent::CustodyChanged { swarm: swarm() }).await;
    let next = loop {
        match conn.next(&mut manager).await {
            ToManager::AskCustody { open: Some(open), past, .. } => break Ask { open: Some(open), past },
            // Said before the board was heard, or asked while the answer was on its way.
            ToManager::Custody(word) => assert_eq!(*word, again),
            ToManager::AskCustody { .. } => {}
            other => panic!("expected a question, got {other:?}"),
        }
    };
    let seen = Seen { call: world.open.as_ref().unwrap().0.call().digest(), words: 0 };
    assert_eq!((next.open, next.past), (Some(seen), None));
    conn.say(&ToAgent::Custody(Box::new(world.news(next)))).await;
    // Work is not for it.
    let module = manager.serve(b"no module");
    let offer = manager.offer(&conn, &manager::simple(module, &[], 1), 0, &[], Vec::new());
    let lease = conn.offer(&offer).await;
    let why = loop {
        match conn.next(&mut manager).await {
            ToManager::Refuse { lease: refused, why } if refused == lease => break why,
            // Said before the board was heard.
            ToManager::Custody(word) => assert_eq!(*word, again),
            ToManager::AskCustody { .. } => {}
            other => panic!("expected a refusal, got {other:?}"),
        }
    };
    assert_eq!(why.check, "custody.alone");
    agent.shutdown.now();
    assert!(tokio::time::timeout(Duration::from_secs(20), agent.task).await.is_ok());
}

async fn ask(conn: &mut manager::Conn, manager: &mut Manager) -> Ask {
    match conn.next(manager).await {
        ToManager::AskCustody { open, past, .. } => Ask { open, past },
        other => panic!("expected a question, got {other:?}"),
    }
}

/// The chair that it takes; it may ask in between.
async fn chair(conn: &mut manager::Conn, manager: &mut Manager) -> CustodyWord {
    loop {
        match conn.next(manager).await {
            ToManager::Custody(word) => return *word,
            ToManager::AskCustody { .. } => {}
            other => panic!("expected a word, got {other:?}"),
        }
    }
}
