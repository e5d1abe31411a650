//! Swarm keys: who is called when, what became of it, and what is told before it is too late. The mathematics is a toy: a dealing is a
//! name, a roster the digest of what was dealt, a share the memory of a roster; who says what, and when, is as it is. After each command
//! the history is judged by the rules that custodians follow (`World::apply`).

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Digest, EnclaveId, Predicate, Requirement, Revocable, SealingPublicKey, Signed, Signer, SwarmName,
    claims::Custody,
    custody::{
        Acceptance, Board, Chair, Charter, CustodyWord, Dealing, Epoch, SwarmPublicKey, Threshold, Vows, WordKind,
    },
    dsse::sign,
};
use legation_pool::{
    Applied, CallEnd, CallReason, CallStage, Command, Corrupt, CustodyView, Effect, Event, Limits, MemberState, Pool,
    Presence, Record,
};

use crate::world::*;

const PROVIDERS: [&str; 3] = ["alpha", "bravo", "carol"];

fn main_key() -> SwarmName {
    SwarmName::new("main").unwrap()
}

fn custodian(name: &str, provider: &str) -> Machine {
    let mut machine = Machine::new(name).at(provider, "eu-1", 1);
    machine.configuration.advertise = Some(format!("{name}:7443"));
    machine.configuration.custody = Some(Custody { swarm: main_key(), alone: true, anchors: Digest::of(b"anchors") });
    machine
}

/// So many with each provider.
fn custodians(each: [usize; 3]) -> Vec<Machine> {
    let of =
        |provider: usize| (0..each[provider]).map(move |n| custodian(&format!("{provider}-{n}"), PROVIDERS[provider]));
    (0..3).flat_map(of).collect()
}

fn said_charter(world: &World, number: u32, (t, n): (u16, u16), prev: Option<Digest>) -> Charter {
    Charter {
        operator: world.operator.public_key(),
        swarm: main_key(),
        number,
        threshold: Threshold::new(t, n).unwrap(),
        require: Requirement::any(),
        per_provider_max: n.div_ceil(3),
        epoch_seconds: 600,
        not_after: START.plus(30 * 24 * HOUR),
        prev: prev.into_iter().collect(),
    }
}

fn toy_key() -> SwarmPublicKey {
    SwarmPublicKey::from_bytes([7; SwarmPublicKey::LEN])
}

/// What the settled dealings make.
fn roster(board: &Board) -> Vec<u8> {
    let mut about = board.ceremony().unwrap().as_bytes().to_vec();
    for name in board.settled().unwrap() {
        about.extend_from_slice(name.dealing.as_bytes());
    }
    about
}

fn word<P: Predicate>(said: P, key: &Key) -> CustodyWord {
    CustodyWord::open(sign(said, key).envelope()).unwrap()
}

/// A world with custodians that do as they should, but for those that say nothing.
struct Cast {
    world: World,
    vows: BTreeMap<EnclaveId, Vows>,
    /// Who has a share of which roster.
    held: BTreeMap<(EnclaveId, Digest), Vec<u8>>,
    mute: BTreeSet<EnclaveId>,
}

impl Cast {
    fn new(machines: Vec<Machine>) -> Self {
        Self::of(World::new(machines))
    }

    fn of(world: World) -> Self {
        Self { world, vows: BTreeMap::new(), held: BTreeMap::new(), mute: BTreeSet::new() }
    }

    /// Twelve, and five of nine of them have the key.
    fn in_force() -> Self {
        let mut cast = Self::new(custodians([4, 4, 4]));
        cast.set_charter(1, (5, 9), None);
        cast.play();
        assert_eq!(cast.view().committee.unwrap().epoch, Epoch(0));
        cast
    }

    fn charter_command(&self, charter: Charter) -> Command {
        Command::SetCharter { charter: Box::new(sign(charter, &self.world.operator)), author: "operator".into() }
    }

    fn set_charter(&mut self, number: u32, of: (u16, u16), prev: Option<Digest>) -> Applied {
        let command = self.charter_command(said_charter(&self.world, number, of, prev));
        self.world.apply(command).unwrap()
    }

    fn view(&self) -> CustodyView {
        self.world.pool.custody(&main_key(), self.world.now).unwrap()
    }

    /// Members of the committee in force.
    fn members(&self) -> Vec<EnclaveId> {
        self.view().committee.unwrap().members.iter().map(|member| member.enclave).collect()
    }

    /// Those who are called.
    fn called(&self) -> Vec<EnclaveId> {
        self.view().call.unwrap().members.iter().map(|member| member.enclave).collect()
    }

    /// What a custodian should have said by now; some of it, it has.
    fn due(&mut self, id: EnclaveId, board: &Board) -> Vec<CustodyWord> {
        let Self { world, vows, held, .. } = self;
        let key = &world.machines[&id].key;
        let (me, call) = (key.public_key(), board.call().digest());
        let (is_member, is_dealer) = (board.member_index(id).is_some(), board.dealer_index(id).is_some());
        let mut due = Vec::new();
        if is_member && !board.chairs().any(|chair| chair.enclave == me) {
            let passport = world.pool.enclaves()[&id].proof().passport;
            let own = Digest::of_parts(&[id.digest().as_bytes(), call.as_bytes()]);
            let mut bytes = [0; SealingPublicKey::LEN];
            bytes[..32].copy_from_slice(own.as_bytes());
            let sealing = SealingPublicKey::from_bytes(bytes);
            due.push(word(Chair { call, enclave: me, passport, sealing, prev: vec![call, passport] }, key));
        }
        if let Some(ceremony) = board.ceremony() {
            let roster = board.before().and_then(|before| held.get(&(id, before.roster)).cloned());
            if is_dealer && board.before().is_some() == roster.is_some() {
                let prev = [call].into_iter().chain(board.chairs().map(Signed::digest)).collect();
                let dealing = [&ceremony.as_bytes()[..], id.digest().as_bytes()].concat();
                due.push(word(Dealing { ceremony, dealer: me, dealing, roster, prev }, key));
            }
            let open = board.dealings().filter(|d| is_member && !board.has_judged(id, &d.name()));
            let mut named: Vec<_> = open.map(|d| (d.name(), d.digest())).collect();
            named.sort_unstable();
            if !named.is_empty() && board.settled().is_none() {
                let (dealings, prev) = named.into_iter().unzip();
                due.push(word(Acceptance { ceremony, member: me, dealings, prev }, key));
            }
        }
        let vows = vows.entry(id).or_default();
        if board.settled().is_some() && is_member {
            let roster = roster(board);
            let digest = Digest::of(&roster);
            if let Ok(said) = vows.confirm(board, me, (digest, toy_key()), world.now) {
                held.insert((id, digest), roster);
                due.push(word(said, key));
            }
        }
        if let Ok(said) = vows.hand_over(board, me) {
            held.remove(&(id, said.from));
            due.push(word(said, key));
        }
        due
    }

    /// Everybody who is here and not mute says what is due, until nobody has anything new to say.
    fn play(&mut self) {
        while self.round(|_| true) {}
    }

    /// One round of it, of words like these; whether somebody said anything new.
    fn round(&mut self, wanted: impl Fn(&CustodyWord) -> bool) -> bool {
        let before = self.world.records.len();
        let known = self.world.pool.enclaves();
        let here = |id: &&EnclaveId| known.get(*id).is_some_and(|e| !matches!(e.presence(), Presence::Away { .. }));
        let all: Vec<EnclaveId> = self.world.machines.keys().filter(here).copied().collect();
        for enclave in all.into_iter().filter(|id| !self.mute.contains(id)).collect::<Vec<_>>() {
            let boards = self.world.pool.custody_boards(&main_key()).unwrap();
            let boards: Vec<Board> = boards.past.into_iter().chain(boards.open).cloned().collect();
            for board in &boards {
                for word in self.due(enclave, board).into_iter().filter(&wanted) {
                    // What comes too late is refused, and it is none the worse for that.
                    _ = self.world.apply(Command::SayCustody { enclave, word: Box::new(word) });
                }
            }
        }
        self.world.records.len() > before
    }
}

fn kinds(applied: &Applied) -> Vec<&'static str> {
    applied.records.iter().map(|record| record.event.kind()).collect()
}

fn warns(view: &CustodyView, of: &str) -> bool {
    view.warnings.iter().any(|warning| warning.contains(of))
}

#[test]
fn a_charter_is_enough_to_make_a_key() {
    let mut cast = Cast::new(custodians([4, 4, 4]));
    let applied = cast.set_charter(1, (5, 9), None);
    let said = [vec!["charter 1 of main", "9 called: nobody has the key yet"], vec!["-> board"; 9]].concat();
    did(&applied, &said);
    let view = cast.view();
    let call = view.call.clone().unwrap();
    assert_eq!((call.stage, call.done, call.needed, call.attempt), (CallStage::Chairs, 0, 9, 1));
    assert_eq!(call.waits_for, cast.called());
    assert_eq!((view.committee.is_none(), view.due, &view.missing), (true, None, &None));
    assert!(warns(&view, "nobody has the key yet"));
    for provider in PROVIDERS {
        assert_eq!(call.members.iter().filter(|member| member.provider.as_str() == provider).count(), 3, "{provider}");
    }
    cast.play();
    let view = cast.view();
    let committee = view.committee.clone().unwrap();
    assert_eq!((committee.epoch, committee.here, committee.margin), (Epoch(0), 9, 4));
    assert_eq!((&committee.key, committee.since), (&toy_key(), cast.world.now));
    assert!(committee.members.iter().all(|member| member.serves && member.state == MemberState::Here));
    assert_eq!((&view.call, &view.warnings), (&None, &Vec::new()));
    // The same charter again, and time, change nothing.
    did(&cast.set_charter(1, (5, 9), None), &[]);
    did(&cast.world.wait(4), &[]);
}

#[test]
fn a_committee_is_followed_by_another_when_its_time_is_over() {
    let mut cast = Cast::in_force();
    let before = cast.members();
    assert_eq!(kinds(&cast.world.wait(596)), [""; 0]);
    assert_eq!(kinds(&cast.world.wait(4)), ["custody-called"]);
    let call = cast.view().call.unwrap();
    assert_eq!((call.why, call.epoch, call.attempt), (CallReason::Epoch, Epoch(1), 1));
    cast.play();
    let committee = cast.view().committee.unwrap();
    assert_eq!((committee.epoch, &committee.key, committee.age), (Epoch(1), &toy_key(), 0));
    assert_eq!(cast.members(), before, "members stay");
    assert!(committee.keeping.is_empty(), "all handed over, also those that were not needed");
}

#[test]
fn the_operator_asks_for_another_and_changes_the_charter() {
    let mut cast = Cast::in_force();
    let ask = || Command::RotateKey { swarm: main_key(), author: "operator".into() };
    assert_eq!(kinds(&cast.world.apply(ask()).unwrap()), ["custody-asked", "custody-called"]);
    assert_eq!(kinds(&cast.world.apply(ask()).unwrap()), [""; 0], "one is being made");
    cast.play();
    assert_eq!(cast.view().committee.unwrap().epoch, Epoch(1));
    assert_eq!(kinds(&cast.world.wait(4)), [""; 0], "it was made");
    let first = sign(said_charter(&cast.world, 1, (5, 9), None), &cast.world.operator).digest();
    assert_eq!(kinds(&cast.set_charter(2, (6, 11), Some(first))), ["charter-set", "custody-called"]);
    assert_eq!(cast.view().call.unwrap().why, CallReason::Charter);
    cast.play();
    let committee = cast.view().committee.unwrap();
    assert_eq!((committee.epoch, committee.threshold), (Epoch(2), Threshold::new(6, 11).unwrap()));
}

#[test]
fn who_is_away_for_too_long_is_replaced_and_hands_over_when_it_is_back() {
    let mut cast = Cast::in_force();
    let lost = cast.members()[0];
    cast.world.lose(lost);
    assert_eq!(kinds(&cast.world.wait(100)), [""; 0], "it may come back");
    let committee = cast.view().committee.unwrap();
    assert_eq!((committee.here, committee.margin), (8, 3));
    assert_eq!(committee.members[0].state, MemberState::Away { since: START });
    assert_eq!(kinds(&cast.world.wait(24)), ["custody-called"]);
    assert_eq!(cast.view().call.unwrap().why, CallReason::Away);
    cast.play();
    assert!(!cast.members().contains(&lost));
    let committee = cast.view().committee.unwrap();
    assert_eq!((committee.here, &committee.keeping), (9, &vec![lost]));
    let arrived = cast.world.arrive(lost, &[]);
    assert!(arrived.effects.contains(&Effect::Custody { enclave: lost, swarm: main_key() }));
    cast.play();
    assert!(cast.view().committee.unwrap().keeping.is_empty());
}

#[test]
fn who_drains_is_cordoned_or_boots_anew_is_replaced_at_once() {
    type Go = fn(&mut World, EnclaveId);
    let table: [(Go, CallReason); 4] = [
        (|world, enclave| drop(world.apply(Command::Drain { enclave }).unwrap()), CallReason::KeptBack),
        (
            |world, enclave| {
                let (why, author) = ("a fan is loud".to_owned(), "operator".to_owned());
                drop(world.apply(Command::Cordon { enclave, why, author }).unwrap());
            },
            CallReason::KeptBack,
        ),
        (
            |world, enclave| {
                let (why, author) = ("sold".to_owned(), "operator".to_owned());
                drop(world.apply(Command::Decommission { enclave, why, author }).unwrap());
            },
            CallReason::Gone,
        ),
        (
            |world, enclave| {
                world.lose(enclave);
                let again = world.machines[&enclave].reboot("again");
                let id = world.attest(again).unwrap();
                world.arrive(id, &[]);
            },
            CallReason::Gone,
        ),
    ];
    for (go, why) in table {
        let mut cast = Cast::in_force();
        let leaves = cast.members()[3];
        go(&mut cast.world, leaves);
        assert_eq!(kinds(&cast.world.wait(4)), ["custody-called"], "{why}");
        assert_eq!(cast.view().call.unwrap().why, why);
        cast.play();
        let committee = cast.view().committee.unwrap();
        assert_eq!((committee.epoch, committee.here), (Epoch(1), 9), "{why}");
        assert!(!cast.members().contains(&leaves), "{why}");
    }
}

#[test]
fn who_is_revoked_is_replaced_by_the_same_command_also_in_a_ceremony() {
    let mut cast = Cast::in_force();
    let committee = cast.view().committee.unwrap();
    let of = |provider: &str| committee.members.iter().find(|m| m.provider.as_str() == provider).unwrap().enclave;
    let (first, second) = (of("alpha"), of("bravo"));
    let applied = cast.world.revoke(Revocable::Enclave(first));
    assert_eq!(kinds(&applied), ["revoked", "left", "custody-called"]);
    assert_eq!(cast.view().call.unwrap().why, CallReason::Revoked);
    assert!(warns(&cast.view(), "was revoked and has a share"));
    // Some words were said already.
    cast.round(|word| word.kind() == WordKind::Chair);
    assert!(cast.called().contains(&second));
    let applied = cast.world.revoke(Revocable::Enclave(second));
    assert_eq!(kinds(&applied), ["revoked", "left", "custody-ended", "custody-called"]);
    let call = cast.view().call.unwrap();
    assert_eq!((call.attempt, call.why), (2, CallReason::Revoked));
    cast.play();
    let members = cast.members();
    assert!(!members.contains(&first) && !members.contains(&second));
    assert_eq!(cast.view().committee.unwrap().here, 9);
    // What is said in their name is not heard.
    let board = cast.world.pool.custody_boards(&main_key()).unwrap().past.unwrap().clone();
    let word = Box::new(cast.due(first, &board).pop().unwrap());
    assert_eq!(cast.world.refused(Command::SayCustody { enclave: first, word }), "revocation");
}

#[test]
fn the_next_attempt_does_without_who_was_silent() {
    let mut cast = Cast::new(custodians([4, 4, 4]));
    cast.set_charter(1, (5, 9), None);
    let silent = cast.called()[4];
    cast.mute.insert(silent);
    cast.play();
    let call = cast.view().call.unwrap();
    assert_eq!((call.stage, call.done, &call.waits_for), (CallStage::Chairs, 8, &vec![silent]));
    assert_eq!(kinds(&cast.world.wait(120)), [""; 0], "until its last second");
    did(&cast.world.wait(1), &[vec!["call ended: its time was over, 1 left out"], vec!["-> board"; 9]].concat());
    let view = cast.view();
    assert_eq!((view.call.unwrap().ended, view.left_out), (Some(CallEnd::Expired), vec![silent]));
    assert_eq!(kinds(&cast.world.wait(3)), ["custody-called"]);
    assert_eq!((cast.view().call.unwrap().attempt, cast.called().contains(&silent)), (2, false));
    cast.play();
    assert_eq!((cast.view().committee.unwrap().here, cast.view().left_out), (9, Vec::new()));
    // Where there is nobody else, it is called again.
    let mut cast = Cast::new(custodians([3, 3, 3]));
    cast.set_charter(1, (5, 9), None);
    cast.mute.insert(silent);
    let another = cast.called()[0];
    cast.mute.insert(another);
    cast.play();
    cast.world.wait(121);
    assert_eq!(kinds(&cast.world.wait(3)), ["custody-called"]);
    cast.mute.clear();
    cast.play();
    assert_eq!(cast.view().committee.unwrap().here, 9);
}

#[test]
fn it_is_said_what_is_missing_where_too_few_can_be_called() {
    let shared = || {
        let mut machines = custodians([3, 3, 3]);
        machines[1].chip = machines[0].chip.clone();
        machines[1].configuration.slot = 1;
        machines
    };
    type Go = fn(&mut World, EnclaveId);
    let nothing: Go = |_, _| {};
    let drains: Go = |world, enclave| drop(world.apply(Command::Drain { enclave }).unwrap());
    let leaves: Go = |world, enclave| drop(world.lose(enclave));
    for (machines, go, got) in [
        (custodians([9, 0, 0]), nothing, "3; not 6 over the charter's bound for provider `alpha`"),
        (custodians([3, 3, 2]), nothing, "8"),
        (custodians([3, 3, 3]), drains, "8; not 1 draining"),
        (custodians([3, 3, 3]), leaves, "8; not 1 away"),
        (shared(), nothing, "8; not 1 on the chip of another"),
    ] {
        let mut cast = Cast::of(World::with(Limits { slots_per_chip: 2, ..limits() }, machines));
        let one = *cast.world.machines.keys().next().unwrap();
        go(&mut cast.world, one);
        assert_eq!(kinds(&cast.set_charter(1, (5, 9), None)), ["charter-set"]);
        let view = cast.view();
        let missing = view.missing.clone().unwrap();
        assert_eq!((missing.check.as_str(), missing.got.as_str()), ("custody.candidates", got));
        assert_eq!(view.due, Some(CallReason::First));
        assert!(warns(&view, "no other committee can be called now"));
    }
    let mut cast = Cast::new(custodians([3, 3, 2]));
    cast.set_charter(1, (5, 9), None);
    let last = cast.world.attest(custodian("last", "carol")).unwrap();
    cast.world.arrive(last, &[]);
    assert_eq!(kinds(&cast.world.wait(4)), ["custody-called"]);
}

#[test]
fn it_warns_before_it_is_too_late_and_after() {
    let mut cast = Cast::in_force();
    let members = cast.members();
    for (lost, margin, warning) in [
        (2, 2, "the key is out of reach: "),
        (4, 0, "one more custodian that goes, and the key is out of reach"),
        (5, -1, "the key is out of reach: 4 of 9 custodians are here, and 5 must be"),
    ] {
        for id in &members[..lost] {
            cast.world.lose(*id);
        }
        let view = cast.view();
        assert_eq!(view.committee.as_ref().unwrap().margin, margin);
        assert_eq!(warns(&view, warning), margin <= 0, "{lost}: {:?}", view.warnings);
    }
    // Who could hand over is not here: nobody is called in vain.
    assert_eq!(kinds(&cast.world.wait(200)), [""; 0]);
    let view = cast.view();
    assert_eq!((view.due, view.missing.unwrap().check), (Some(CallReason::Away), "custody.dealers".to_owned()));
    for id in &members[..5] {
        cast.world.arrive(*id, &[]);
    }
    assert_eq!((cast.view().due, cast.view().committee.unwrap().margin), (None, 4));
    // Nor is anybody called once the charter is over.
    let end = cast.view().charter.not_after;
    cast.world.now = end.minus(1);
    assert!(warns(&cast.view(), "the charter ends at"));
    cast.world.now = end;
    assert!(warns(&cast.view(), "the charter was over at"));
    assert_eq!(cast.view().due, None);
}

/// The journal, read back.
fn read_back(world: &World) -> Pool {
    let mut again = Pool::new(limits());
    for record in &world.records {
        let stored = serde_json::to_vec(record).unwrap();
        let read: Record = serde_json::from_slice(&stored).unwrap();
        assert_eq!(serde_json::to_vec(&read).unwrap(), stored, "a record that is written otherwise again");
        again.absorb(&read).unwrap();
    }
    again
}

#[test]
fn a_restart_in_the_middle_goes_on() {
    let mut cast = Cast::in_force();
    cast.world.apply(Command::RotateKey { swarm: main_key(), author: "operator".into() }).unwrap();
    let mut rounds = 0;
    loop {
        assert_eq!(read_back(&cast.world), cast.world.pool, "round {rounds}");
        let restored = Pool::restore(&cast.world.pool.snapshot().unwrap(), limits()).unwrap();
        assert_eq!(restored, cast.world.pool, "round {rounds}");
        // Another manager goes on with what it finds.
        let before = cast.world.records.len();
        cast.world.begin_term(2 + rounds).unwrap();
        for id in cast.world.machines.keys().copied().collect::<Vec<_>>() {
            cast.world.arrive(id, &[]);
        }
        let more = cast.round(|_| true);
        let mut restored = restored;
        for record in &cast.world.records[before..] {
            restored.absorb(record).unwrap();
        }
        assert_eq!(restored, cast.world.pool, "round {rounds}");
        rounds += 1;
        if !more {
            break;
        }
    }
    assert!(rounds > 3, "{rounds}");
    assert_eq!(cast.view().committee.unwrap().epoch, Epoch(1));
}

#[test]
fn what_may_not_be_is_refused() {
    let mut cast = Cast::new(custodians([3, 3, 3]).into_iter().chain([Machine::new("plain")]).collect());
    let unknown = Command::RotateKey { swarm: main_key(), author: "operator".into() };
    assert_eq!(cast.world.refused(unknown), "custody.unknown");
    let mut stranger = said_charter(&cast.world, 1, (5, 9), None);
    stranger.operator = cast.world.client.public_key();
    let charter = Box::new(sign(stranger, &cast.world.client));
    assert_eq!(cast.world.refused(Command::SetCharter { charter, author: "client".into() }), "custody.operator");
    let late = Charter { not_after: START, ..said_charter(&cast.world, 1, (5, 9), None) };
    assert_eq!(cast.world.refused(cast.charter_command(late)), "custody.charter");
    cast.set_charter(1, (5, 9), None);
    let other = Charter { epoch_seconds: 700, ..said_charter(&cast.world, 1, (5, 9), None) };
    assert_eq!(cast.world.refused(cast.charter_command(other)), "custody.charter");

    let board = cast.world.pool.custody_boards(&main_key()).unwrap().open.unwrap().clone();
    let (one, two) = (cast.called()[0], cast.called()[1]);
    let chair = cast.due(one, &board).pop().unwrap();
    let say = |enclave, word: &CustodyWord| Command::SayCustody { enclave, word: Box::new(word.clone()) };
    assert_eq!(cast.world.refused(say(two, &chair)), "custody.speaker");
    let CustodyWord::Chair(good) = &chair else { panic!("a chair is first") };
    let passport = Digest::of(b"another");
    let bad = Chair { passport, prev: vec![good.call, passport], ..(**good).clone() };
    let bad = word(bad, &cast.world.machines[&one].key);
    assert_eq!(cast.world.refused(say(one, &bad)), "custody.passport");
    let plain = Key::new("plain");
    let outside = Chair { enclave: plain.public_key(), ..(**good).clone() };
    let outside = word(outside, &plain);
    assert_eq!(cast.world.refused(say(plain.public_key().enclave_id(), &outside)), "custody.swarm");
    assert_eq!(kinds(&cast.world.apply(say(one, &chair)).unwrap()), ["custody-said"]);
    assert_eq!(kinds(&cast.world.apply(say(one, &chair)).unwrap()), [""; 0], "the same again");

    // Nor does a journal say it twice, or call a second committee.
    for kind in ["custody-said", "custody-called"] {
        let known = cast.world.records.iter().find(|record| record.event.kind() == kind).unwrap();
        let seq = legation_core::Seq(cast.world.pool.seq().0 + 1);
        let forged = Record { seq, at: cast.world.now, ..known.clone() };
        let mut pool = cast.world.pool.clone();
        assert!(matches!(pool.absorb(&forged), Err(Corrupt::Impossible { .. })), "{kind}");
        assert_eq!(pool, cast.world.pool);
        assert_eq!(cast.world.facts.clone().take(&forged).unwrap_err().check, "history.custody");
    }
    let mut silent = custodian("silent", "alpha");
    silent.configuration.advertise = None;
    assert_eq!(cast.world.attest(silent).unwrap_err().check, "custody.address");
}

#[test]
fn custodians_run_modules_where_they_are_not_alone() {
    for alone in [true, false] {
        let mut machine = custodian("one", "alpha");
        machine.configuration.custody.as_mut().unwrap().alone = alone;
        let mut world = World::new([machine]);
        let task = world.submit_granted(vec![fragment("part")]);
        assert_eq!(world.lease(task, 0).is_some(), !alone);
    }
}

#[test]
fn what_came_to_nothing_is_told_by_its_records() {
    let mut cast = Cast::new(custodians([3, 3, 3]));
    cast.set_charter(1, (5, 9), None);
    let called = cast.called();
    cast.mute.extend([called[0], called[5]]);
    cast.play();
    cast.world.wait(121);
    let ended = cast.world.records.iter().find_map(|record| match &record.event {
        Event::CustodyEnded { why, left_out, .. } => Some((*why, left_out.clone())),
        _ => None,
    });
    assert_eq!(ended, Some((CallEnd::Expired, vec![called[0], called[5]])));
}
