//! Delegations of delegations by the two machines, down to the receipt: whatever executions ask and use, what delegators take
//! together is a valid receipt; and what a delegate adds to its answer is not taken where a receipt would not hold with it.
//!
//! `lead` borrows `a` and `b`; each of them borrows an enclave of its own for every call, `e` under `a` and `f` under `b`. All time
//! is one moment: what is lost or late is in [`crate::sessions`].

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use legation_core::{
    Bytes, Envelope, FragmentIndex, Fuel, LeaseId, MicroUsd, Millis, Rejection, Revocable, Revocation, RevocationEpoch,
    Revoked, Signed, TaskId, Term,
    delegation::{
        Basis, Call, CallDemand, Lineage, Sum,
        attenuate::{Onward, widest},
        judge::{HEAD, Judge, Tally},
        session::{
            Delegate, DelegateAction, DelegateEvent, Delegator, DelegatorAction, DelegatorEvent, JobId, Now, Question,
            STALE_CHALLENGE, Settled, Standing, ToDelegate, ToDelegator, Want,
        },
    },
    dsse,
    statement::{
        Allocation, Answer, Assurance, Committed, Diversity, Grant, LoanRef, Outcome, Passport, Report, Request, Usage,
    },
};

use crate::{
    handed::{Hands, Script, THREE, call_demand, committed, set_aside, time},
    party::Party,
    world::{Before, Said, digest, key, no_bend, verify},
};

fn at(ms: u64) -> Now {
    Now { date: time(20 + ms / 1000), ms: Millis(ms) }
}

/// An enclave that is lent, with the one that it borrows itself.
struct Node {
    name: &'static str,
    loan: Signed<Allocation>,
    passport: Signed<Passport>,
    machine: Delegate,
    handed: Sum,
    below: Option<(&'static str, Signed<Passport>)>,
}

/// What executions use and add.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Leaves out what came behind the answers that it used.
    Silent,
    /// Adds a statement that nobody needs.
    Padding,
    /// Says that an answer it used disagreed.
    Slandering,
    /// Uses an answer twice.
    Twice,
}

struct Deep {
    request: Signed<Request>,
    lead: Hands,
    script: Script<'static>,
    nodes: Vec<Node>,
    dice: u64,
    leases: u64,
    said: Vec<Envelope>,
    revoked: Revoked,
    manner: Manner,
    distrusted: Vec<String>,
}

impl Deep {
    fn new(seed: u64) -> Self {
        let mut script = Script::new(&no_bend);
        let request = script.request();
        let lead = script.lead(&request);
        let mut nodes = Vec::new();
        for (name, below) in [("enclave-a", "enclave-e"), ("enclave-b", "enclave-f")] {
            let passport = script.passport(name);
            let loan = script.allocation(&request, &passport, name, Some(&lead.allocation));
            let below = (below, script.passport(below));
            let machine = Delegate::new(request.clone(), loan.clone());
            nodes.push(Node { name, loan, passport, machine, handed: Sum::ZERO, below: Some(below) });
        }
        let (said, distrusted) = (Vec::new(), Vec::new());
        let (revoked, manner) = (Revoked::default(), Manner::Honest);
        Self { request, lead, script, nodes, dice: seed, leases: 100, said, revoked, manner, distrusted }
    }

    /// Below `most`, by splitmix64.
    fn below(&mut self, most: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1)
    }

    fn delegator(&self) -> Delegator {
        let Hands { name, allocation, grants, .. } = self.lead.clone();
        Delegator::new(Arc::new(Party::new(name)), self.request.clone(), allocation, grants, [], 8)
    }

    fn question(&mut self, fuel: u64, ms: u64, assurance: Assurance) -> Box<Question> {
        let name = format!("question {}", self.below(u64::MAX));
        Box::new(Question {
            question: digest(&name),
            module: digest("part.wasm"),
            args: Vec::new(),
            input: committed(&name),
            demand: CallDemand { fuel: Fuel(fuel), time: Millis(ms), ..call_demand() },
            assurance,
            require: None,
            within: Millis(60_000),
        })
    }

    /// Lends what is there, and opens the channels.
    fn lend(&mut self, delegator: &mut Delegator, nodes: &mut Vec<Node>) {
        for place in 0..nodes.len() {
            let node = &mut nodes[place];
            let (loan, passport) = (Box::new(node.loan.clone()), Box::new(node.passport.clone()));
            let lease = node.loan.lease;
            let lent = delegator.handle(DelegatorEvent::Lent { loan, passport }, at(1000), &self.revoked);
            assert_eq!(lent, []);
            let standing = Standing { passport: &node.passport, revoked: &self.revoked };
            let challenge = digest(&format!("challenge of {lease}"));
            node.machine.handle(DelegateEvent::Opened { challenge }, at(1000), &standing);
            let opened = delegator.handle(DelegatorEvent::Opened(lease), at(1000), &self.revoked);
            assert!(self.drive(delegator, nodes, opened).is_empty());
        }
    }

    /// Asks, and does what follows of it; a question that still waits then is called off.
    fn ask(
        &mut self,
        delegator: &mut Delegator,
        nodes: &mut Vec<Node>,
        question: Box<Question>,
    ) -> Result<Settled, Rejection> {
        let job = JobId(self.below(u64::MAX));
        let asked = delegator.handle(DelegatorEvent::Ask { job, question }, at(1000), &self.revoked);
        let mut ended = self.drive(delegator, nodes, asked);
        if ended.is_empty() {
            let cancelled = delegator.handle(DelegatorEvent::Cancel(job), at(1000), &self.revoked);
            ended = self.drive(delegator, nodes, cancelled);
        }
        assert_eq!(ended.len(), 1);
        ended.remove(0)
    }

    fn drive(
        &mut self,
        delegator: &mut Delegator,
        nodes: &mut Vec<Node>,
        actions: Vec<DelegatorAction>,
    ) -> Vec<Result<Settled, Rejection>> {
        let (mut ended, mut todo) = (Vec::new(), VecDeque::from(actions));
        while let Some(action) = todo.pop_front() {
            match action {
                DelegatorAction::Send { loan, message } => {
                    let Some(node) = nodes.iter_mut().find(|node| node.loan.lease == loan) else { continue };
                    for (said, output) in self.serve(node, *message) {
                        let heard = DelegatorEvent::Heard { loan, message: Box::new(said), output };
                        todo.extend(delegator.handle(heard, at(1000), &self.revoked));
                    }
                }
                DelegatorAction::Done { settled, .. } => ended.push(Ok(*settled)),
                DelegatorAction::GaveUp { why, .. } => ended.push(Err(why)),
                DelegatorAction::Distrust { why, .. } => self.distrusted.push(why.check),
                DelegatorAction::GiveBack { loan, .. } => nodes.retain(|node| node.loan.lease != loan),
            }
        }
        ended
    }

    /// What an enclave says to a message, with the output of an answer.
    fn serve(&mut self, node: &mut Node, message: ToDelegate) -> Vec<(ToDelegator, Option<Committed>)> {
        let (mut said, mut events) = (Vec::new(), VecDeque::from([DelegateEvent::Heard(Box::new(message))]));
        while let Some(event) = events.pop_front() {
            let standing = Standing { passport: &node.passport, revoked: &self.revoked };
            for action in node.machine.handle(event, at(1000), &standing) {
                match action {
                    DelegateAction::Send(message) => {
                        let output = match &*message {
                            ToDelegator::Answered { report, .. } => report.answer.and_then(|answer| answer.output),
                            _ => None,
                        };
                        said.push((*message, output));
                    }
                    DelegateAction::Execute(call) => events.push_back(self.run(node, &call)),
                    DelegateAction::Stop { .. } => panic!("nothing is stopped here"),
                }
            }
        }
        said
    }

    /// An execution: it hands parts on, if it may, and uses some of what it may.
    fn run(&mut self, node: &mut Node, call: &Signed<Call>) -> DelegateEvent {
        let lineage = node.machine.lineage().unwrap().clone();
        let (mut answers, mut behind) = (Vec::new(), Vec::new());
        let demand = call.demand;
        if let (Some((name, passport)), Some(passed)) = (node.below.clone(), lineage.leaf().delegable.clone()) {
            let mut below = vec![self.fresh(&node.loan, name, passport)];
            let grants = vec![lineage.leaf().clone()];
            let signer = Arc::new(Party::new(node.name));
            let above = lineage.above().cloned();
            let mut delegator = Delegator::new(signer, self.request.clone(), node.loan.clone(), grants, above, 8)
                .having_spent(node.handed);
            self.lend(&mut delegator, &mut below);
            for _ in 0..1 + self.below(3) {
                let (fuel, ms) = (1 + self.below(passed.fuel.0 / 2), 1 + self.below(60_000));
                let question = self.question(fuel, ms, Assurance::Attested);
                if let Ok(settled) = self.ask(&mut delegator, &mut below, question) {
                    answers.extend(settled.answers);
                    behind.extend(settled.statements);
                    behind.extend(settled.loans);
                }
            }
            node.handed = delegator.handed();
            let most = Sum { fuel: passed.fuel, cost: passed.budget };
            assert!(node.handed.is_within(most), "{:?} of {most:?}", node.handed);
        }
        let mut dissent = Vec::new();
        // Those that hand nothing on keep to the rules.
        let manner = if node.below.is_some() { self.manner } else { Manner::Honest };
        match manner {
            Manner::Honest => {}
            Manner::Silent => behind.clear(),
            Manner::Padding => behind.push(self.request.envelope().clone()),
            Manner::Slandering => dissent.extend(answers.first().copied()),
            Manner::Twice => answers.extend(answers.first().copied()),
        }
        let mut prev = vec![node.loan.digest(), node.passport.digest(), call.prev[1], call.digest()];
        prev.extend(answers);
        let (fuel, micros) = match self.below(3) {
            0 => (demand.fuel.0, demand.time.0 * 1000),
            _ => (self.below(demand.fuel.0 + 1), self.below(demand.time.0 * 1000)),
        };
        let report = Report {
            enclave: Party::new(node.name).key(),
            task: call.task,
            fragment: FragmentIndex(0),
            lease: node.loan.lease,
            module: call.module,
            inputs: vec![call.input.commitment],
            seed: call.question,
            outcome: Outcome::Completed,
            output: None,
            log: None,
            usage: Usage { fuel: Fuel(fuel), memory_peak: Bytes::mib(1), host_calls: 2, micros },
            started: at(1000).date,
            finished: at(1000).date,
            answer: Some(Answer { call: call.digest(), output: Some(committed("result")), trace: digest("trace") }),
            dissent,
            monitor: None,
            prev,
        };
        DelegateEvent::Ran { report: Box::new(dsse::sign(report, &Party::new(node.name))), behind }
    }

    /// A loan of its own for each call that hands parts on.
    fn fresh(&mut self, of: &Signed<Allocation>, name: &'static str, passport: Signed<Passport>) -> Node {
        self.leases += 1;
        let rate = passport.configuration.rate;
        let (lease, demand) = (LeaseId(self.leases), set_aside());
        let number = u32::try_from(self.leases).unwrap();
        let loan = Allocation {
            lease,
            enclave: passport.enclave_id(),
            provider: passport.configuration.provider.clone(),
            region: passport.configuration.region.clone(),
            price_hour: rate.per_hour(demand.cpu, demand.memory),
            term: Term(3),
            loan: Some(LoanRef { of: of.lease, borrower: of.enclave, number, demand }),
            prev: vec![of.prev[0], of.prev[1], of.digest()],
            ..of.predicate().clone()
        };
        let loan = dsse::sign(loan, &Party::new("manager"));
        self.said.push(loan.envelope().clone());
        let machine = Delegate::new(self.request.clone(), loan.clone());
        Node { name, loan, passport, machine, handed: Sum::ZERO, below: None }
    }
}

#[test]
fn whatever_is_taken_at_any_depth_is_a_valid_receipt() {
    let (mut done, mut refused, mut deep) = (0, 0, 0);
    for seed in 0..60 {
        let mut world = Deep::new(seed);
        let mut delegator = world.delegator();
        let mut nodes = std::mem::take(&mut world.nodes);
        world.lend(&mut delegator, &mut nodes);
        let (mut answers, mut statements) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let (fuel, ms) = (1 + world.below(500_000_000), 1 + world.below(60_000));
            let question = world.question(fuel, ms, Assurance::Attested);
            match world.ask(&mut delegator, &mut nodes, question) {
                Ok(settled) => {
                    done += 1;
                    deep += settled.statements.len().saturating_sub(3);
                    answers.extend(settled.answers);
                    statements.extend(settled.statements);
                }
                Err(_) => refused += 1,
            }
            let (left, most) = (delegator.left(), Sum { fuel: Fuel(1_000_000_000), cost: MicroUsd(9_000) });
            assert!(delegator.handed().is_within(most), "{:?}", delegator.handed());
            assert!(left.0 <= most.fuel && left.1 <= most.cost);
        }
        assert_eq!(world.distrusted, [""; 0], "seed {seed}: who keeps to the rules is trusted");
        world.script.report(&world.lead, &answers, Vec::new());
        world.script.world.envelopes.extend(statements);
        world.script.world.envelopes.append(&mut world.said);
        let verdict = verify(&world.script.world.receipt());
        assert!(verdict.is_ok(), "seed {seed}: {}", verdict.unwrap_err());
    }
    assert!(done > 150 && refused > 20 && deep > 150, "{done} done, {refused} refused, {deep} statements behind");
}

#[test]
fn what_a_receipt_would_not_hold_with_is_not_taken() {
    for (manner, check) in [
        (Manner::Silent, "delegator.attached"),
        (Manner::Padding, "delegator.behind"),
        (Manner::Slandering, "delegator.dissent"),
        (Manner::Twice, "delegator.answer"),
    ] {
        let mut world = Deep::new(1);
        let mut delegator = world.delegator();
        let mut nodes = std::mem::take(&mut world.nodes);
        world.lend(&mut delegator, &mut nodes);
        world.manner = manner;
        let question = world.question(100_000_000, 1000, Assurance::Attested);
        let ended = world.ask(&mut delegator, &mut nodes, question);
        assert!(ended.is_err(), "{check} is taken");
        assert!(world.distrusted.iter().any(|why| why == check), "{:?}, wanted {check}", world.distrusted);
    }
}

/// The one action of a kind.
fn given_up(actions: &[DelegatorAction]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        DelegatorAction::GaveUp { why, .. } => Some(why.check.as_str()),
        _ => None,
    })
}

/// A delegator with `a` and `b` lent and ready, as they are after [`Deep::lend`].
fn ready() -> (Deep, Delegator, Vec<Node>) {
    let mut world = Deep::new(7);
    let Hands { name, allocation, grants, .. } = world.lead.clone();
    let mut delegator = Delegator::new(Arc::new(Party::new(name)), world.request.clone(), allocation, grants, [], 0);
    let mut nodes = std::mem::take(&mut world.nodes);
    world.lend(&mut delegator, &mut nodes);
    (world, delegator, nodes)
}

#[test]
fn a_question_that_nobody_can_answer_ends_at_once() {
    type Change = fn(&mut Question);
    let cases: [(&str, Change); 6] = [
        ("delegator.spent", |q| q.demand.fuel = Fuel(1_000_000_001)),
        ("delegator.demand", |q| q.demand.time = Millis(0)),
        ("call.args", |q| q.args = vec!["\0".into()]),
        ("call.size", |q| q.demand.output = Bytes(u64::MAX)),
        ("delegator.module", |q| q.module = digest("other.wasm")),
        ("assurance.replicas", |q| q.assurance = Assurance::Replicated { k: 1, diverse: Diversity::Chip }),
    ];
    for (check, change) in cases {
        let (mut world, mut delegator, _) = ready();
        let mut question = world.question(1_000, 1_000, Assurance::Attested);
        change(&mut question);
        let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(1000), &world.revoked);
        assert_eq!(given_up(&asked), Some(check), "{asked:?}");
        assert_eq!(delegator.next_timeout(), None);
    }
    // What is used up does not come back: it is said at once, not at the deadline.
    let (mut world, mut delegator, mut nodes) = ready();
    let mut refused = None;
    for _ in 0..40 {
        let question = world.question(300_000_000, 1_000, Assurance::Attested);
        let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(9), question }, at(1000), &world.revoked);
        let ended = world.drive(&mut delegator, &mut nodes, asked);
        assert_eq!(ended.len(), 1, "it waits, where nothing can come back");
        refused = refused.or(ended.into_iter().find_map(Result::err));
    }
    assert_eq!(refused.unwrap().check, "delegator.spent");
    assert_eq!(delegator.wants(), []);
}

#[test]
fn a_majority_is_enough_where_the_rest_is_not_to_be_had() {
    let (mut world, mut delegator, mut nodes) = ready();
    world.dice = 0;
    let question = world.question(1_000, 1_000, THREE);
    // Votes are of fuel, too: both use all of it.
    let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(1000), &world.revoked);
    let calls: Vec<_> = asked.into_iter().filter(|action| matches!(action, DelegatorAction::Send { .. })).collect();
    assert_eq!(calls.len(), 2);
    let mut heard = Vec::new();
    for action in calls {
        let DelegatorAction::Send { loan, message } = action else { unreachable!() };
        let ToDelegate::Submit(call) = *message else { panic!("no call") };
        let node = nodes.iter_mut().find(|node| node.loan.lease == loan).unwrap();
        let DelegateEvent::Ran { report, behind } = world.run(node, &call) else { panic!("it does not run") };
        let report = Report { usage: Usage { fuel: Fuel(7), ..report.usage }, ..report.predicate().clone() };
        let report = dsse::sign(report, &Party::new(node.name));
        let output = report.answer.unwrap().output;
        let message = Box::new(ToDelegator::Answered { report, behind });
        heard.extend(delegator.handle(DelegatorEvent::Heard { loan, message, output }, at(1000), &world.revoked));
    }
    assert_eq!(heard, [], "a third might come");
    assert_eq!((delegator.wants().len(), delegator.next_timeout()), (1, Some(Millis(6_000))));
    let done = delegator.handle(DelegatorEvent::Tick, at(6_000), &world.revoked);
    let [DelegatorAction::Done { settled, .. }] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!((settled.answers.len(), settled.dissent.len()), (2, 0));
}

/// Three are asked, and the one at `odd` says otherwise than the others: whether it rests on answers of its own, and what follows.
fn disagrees(seed: u64, odd: usize) -> (bool, Vec<DelegatorAction>) {
    let mut world = Deep::new(seed);
    let passport = world.script.passport("enclave-c");
    let loan = world.script.allocation(&world.request, &passport, "enclave-c", Some(&world.lead.allocation));
    let machine = Delegate::new(world.request.clone(), loan.clone());
    world.nodes.push(Node { name: "enclave-c", loan, passport, machine, handed: Sum::ZERO, below: None });
    let mut delegator = world.delegator();
    let mut nodes = std::mem::take(&mut world.nodes);
    world.lend(&mut delegator, &mut nodes);
    let question = world.question(1_000, 1_000, THREE);
    let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(1000), &world.revoked);
    let (mut relied, mut last) = (false, Vec::new());
    for call in submitted(&asked) {
        let place = nodes.iter().position(|node| node.loan.lease == call.loan).unwrap();
        let node = &mut nodes[place];
        let DelegateEvent::Ran { report, behind } = world.run(node, &call) else { panic!("it does not run") };
        let fuel = Fuel(if place == odd { 8 } else { 7 });
        let report = Report { usage: Usage { fuel, ..report.usage }, ..report.predicate().clone() };
        relied |= place == odd && report.prev.len() > HEAD;
        let report = dsse::sign(report, &Party::new(node.name));
        let output = report.answer.unwrap().output;
        let message = Box::new(ToDelegator::Answered { report, behind });
        last = delegator.handle(DelegatorEvent::Heard { loan: call.loan, message, output }, at(1000), &world.revoked);
    }
    (relied, last)
}

#[test]
fn whoever_was_perhaps_misled_by_others_is_left_and_not_said_to_lie() {
    let mut misled = 0;
    for (seed, odd) in (0..12).map(|seed| (seed, 0)).chain([(0, 2)]) {
        let (relied, actions) = disagrees(seed, odd);
        let lied = actions
            .iter()
            .any(|a| matches!(a, DelegatorAction::Distrust { why, .. } if why.check == "delegator.dissent"));
        let left = actions
            .iter()
            .any(|a| matches!(a, DelegatorAction::GiveBack { why, .. } if why.check == "delegator.dissent"));
        assert_eq!((lied, left), (!relied, relied), "{actions:?}");
        let done = |action: &DelegatorAction| matches!(action, DelegatorAction::Done { settled, .. } if settled.dissent.len() == 1);
        assert!(actions.iter().any(done), "{actions:?}");
        misled += usize::from(relied);
    }
    assert!(misled > 0 && !disagrees(0, 2).0, "{misled}");
}

#[test]
fn loans_that_no_question_can_use_do_not_count() {
    let bend = |label: &str, said: Said<'_>, _: &Before| {
        if let (true, Said::Enclave(judged)) = (label != "enclave-lead", said) {
            judged.configuration.provider = "a-hosting".parse().unwrap();
        }
    };
    let mut script = Script::new(&bend);
    let request = script.request();
    let lead = script.lead(&request);
    let signer = Arc::new(Party::new(lead.name));
    let mut delegator = Delegator::new(signer, request.clone(), lead.allocation.clone(), lead.grants.clone(), [], 0);
    let revoked = Revoked::default();
    for name in ["enclave-a", "enclave-b", "enclave-c"] {
        let passport = script.passport(name);
        let loan = script.allocation(&request, &passport, name, Some(&lead.allocation));
        let lease = loan.lease;
        let lent = DelegatorEvent::Lent { loan: Box::new(loan), passport: Box::new(passport) };
        assert_eq!(delegator.handle(lent, at(0), &revoked), []);
        delegator.handle(DelegatorEvent::Opened(lease), at(0), &revoked);
        let message = Box::new(ToDelegator::Challenge { loan: lease, challenge: digest(name), last: 0 });
        delegator.handle(DelegatorEvent::Heard { loan: lease, message, output: None }, at(0), &revoked);
    }
    assert!(delegator.spare().is_some() && delegator.wants().is_empty());
    let question = Deep::new(0).question(1_000, 1_000, THREE);
    let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(0), &revoked);
    assert_eq!(asked.len(), 1, "one call: the others are of the same owner");
    let wants = delegator.wants();
    let Some(apart) = wants.first().and_then(|want| want.apart.clone()) else { panic!("{wants:?}") };
    assert_eq!((apart.by, apart.from.len()), (Diversity::Provider, 1), "other than the one that was asked");
    assert_eq!(wants, vec![Want { job: JobId(1), apart: Some(apart), not: BTreeSet::new() }; 2]);
    assert!(delegator.spare().is_some());
    // Those who are free here are not asked what they do not satisfy; another is wanted, whoever was asked something else.
    let mut question = Deep::new(0).question(1_000, 1_000, Assurance::Attested);
    question.require = Some("provider == elsewhere".parse().unwrap());
    let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(2), question }, at(0), &revoked);
    assert_eq!(asked, []);
    assert!(
        delegator.wants().contains(&Want { job: JobId(2), apart: None, not: BTreeSet::new() })
            && !delegator.hopes(JobId(2))
    );
    assert!(delegator.hopes(JobId(1)) && delegator.spare().is_some());
}

/// The first call of a question, by itself.
fn submitted(actions: &[DelegatorAction]) -> Vec<Signed<Call>> {
    let call = |action: &DelegatorAction| match action {
        DelegatorAction::Send { message, .. } => match &**message {
            ToDelegate::Submit(call) => Some(call.clone()),
            _ => None,
        },
        _ => None,
    };
    actions.iter().filter_map(call).collect()
}

#[test]
fn what_never_ran_comes_back_and_what_ran_does_not() {
    for (ran, cancelled, left) in [
        (false, false, 1_000_000_000),
        (true, false, 999_999_000),
        (false, true, 1_000_000_000),
        (true, true, 999_999_000),
    ] {
        let (mut world, mut delegator, _) = ready();
        let question = world.question(1_000, 1_000, Assurance::Attested);
        let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(1000), &world.revoked);
        let call = submitted(&asked).remove(0);
        if cancelled {
            delegator.handle(DelegatorEvent::Cancel(JobId(1)), at(1000), &world.revoked);
            assert_eq!(delegator.left().0, Fuel(999_999_000), "nobody knows yet");
        }
        let why = Rejection::new("delegate.cancelled", "the call");
        let message = Box::new(ToDelegator::Refused { call: call.digest(), ran, why });
        let heard = DelegatorEvent::Heard { loan: call.loan, message, output: None };
        let again = delegator.handle(heard, at(1000), &world.revoked);
        if !cancelled {
            // It is asked of the other at once, for which as much is set aside.
            assert_eq!(submitted(&again).len(), 1);
            let message = Rejection::new("delegate.busy", "calls that wait");
            let call = submitted(&again).remove(0);
            let message = Box::new(ToDelegator::Refused { call: call.digest(), ran: false, why: message });
            delegator.handle(
                DelegatorEvent::Heard { loan: call.loan, message, output: None },
                at(1000),
                &world.revoked,
            );
        }
        assert_eq!(delegator.left().0, Fuel(left), "ran: {ran}, cancelled: {cancelled}");
    }
}

#[test]
fn a_delegate_that_always_says_that_a_call_is_of_another_session_is_left() {
    let (mut world, mut delegator, nodes) = ready();
    let question = world.question(1_000, 1_000, Assurance::Attested);
    let mut calls =
        submitted(&delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(1000), &world.revoked));
    let mut asked = Vec::new();
    while let Some(call) = calls.pop() {
        asked.push(call.loan);
        let why = Rejection::new(STALE_CHALLENGE, "challenge of the call");
        let refused = Box::new(ToDelegator::Refused { call: call.digest(), ran: false, why });
        let challenged = ToDelegator::Challenge { loan: call.loan, challenge: digest("again"), last: call.number };
        for message in [refused, Box::new(challenged)] {
            let heard = DelegatorEvent::Heard { loan: call.loan, message, output: None };
            calls.extend(submitted(&delegator.handle(heard, at(1000), &world.revoked)));
        }
        assert!(asked.len() < 10, "{asked:?}");
    }
    for node in &nodes {
        let times = asked.iter().filter(|loan| **loan == node.loan.lease).count();
        assert_eq!(times, 2, "{}: {asked:?}", node.name);
    }
}

#[test]
fn only_the_borrower_numbers_calls() {
    let (world, mut delegator, nodes) = ready();
    let loan = nodes[0].loan.lease;
    delegator.handle(DelegatorEvent::Opened(loan), at(1000), &world.revoked);
    let message = Box::new(ToDelegator::Challenge { loan, challenge: digest("again"), last: u64::MAX });
    let heard = delegator.handle(DelegatorEvent::Heard { loan, message, output: None }, at(1000), &world.revoked);
    assert!(
        matches!(&heard[..], [DelegatorAction::Distrust { why, .. }] if why.check == "delegator.number"),
        "{heard:?}"
    );
}

#[test]
fn what_is_revoked_above_lends_and_asks_nothing() {
    let (mut world, mut delegator, nodes) = ready();
    let what = Revocable::Grant(world.lead.grants[0].digest());
    world.revoked.insert(Revocation { what, epoch: RevocationEpoch(1), at: time(0), why: "stolen".into() });
    let question = world.question(1_000, 1_000, Assurance::Attested);
    let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(1000), &world.revoked);
    assert_eq!((submitted(&asked).len(), given_up(&asked)), (0, Some("revocation")));
    let back: BTreeSet<LeaseId> = asked
        .iter()
        .filter_map(|action| match action {
            DelegatorAction::GiveBack { loan, .. } => Some(*loan),
            _ => None,
        })
        .collect();
    assert_eq!(back.len(), nodes.len());
    let (loan, passport) = (Box::new(nodes[0].loan.clone()), Box::new(nodes[0].passport.clone()));
    let lent = delegator.handle(DelegatorEvent::Lent { loan, passport }, at(1000), &world.revoked);
    assert!(matches!(&lent[..], [DelegatorAction::GiveBack { why, .. }] if why.check == "revocation"), "{lent:?}");
}

#[test]
fn a_delegate_holds_fuel_and_cost_of_all_calls_against_the_grant() {
    let (mut world, mut delegator, mut nodes) = ready();
    let node = &mut nodes[0];
    // A grant for so little money that two calls of a minute exceed it.
    let minute = {
        let lineage = node.machine.lineage().unwrap();
        Basis { request: &world.request, loan: &node.loan, lineage }.cost(60_000_000)
    };
    let leaf = node.machine.lineage().unwrap().leaf().clone();
    let budget = MicroUsd(minute.0 + minute.0 / 2);
    let narrow = Grant { budget, ..leaf.predicate().clone() };
    let narrow = dsse::sign(narrow, &Party::new(world.lead.name));
    let mut grants = world.lead.grants.clone();
    grants.push(narrow.clone());
    let describe = ToDelegate::Describe { loan: node.loan.lease, grant: narrow.digest(), grants };
    assert!(matches!(world.serve(node, describe)[..], [(ToDelegator::Challenge { .. }, None)]));
    let question = world.question(1_000, 60_000, Assurance::Attested);
    let asked = delegator.handle(DelegatorEvent::Ask { job: JobId(1), question }, at(1000), &world.revoked);
    let call = submitted(&asked).remove(0);
    assert_eq!(call.loan, node.loan.lease);
    let standing = Standing { passport: &node.passport, revoked: &world.revoked };
    let mut submit = |number: u64| {
        let call = Call { number, prev: vec![call.prev[0], narrow.digest()], ..call.predicate().clone() };
        let call = dsse::sign(call, &Party::new(world.lead.name));
        node.machine.handle(DelegateEvent::Heard(Box::new(ToDelegate::Submit(call))), at(1000), &standing)
    };
    assert!(submit(1).iter().any(|action| matches!(action, DelegateAction::Execute(_))));
    let second = submit(2);
    let [DelegateAction::Send(said)] = second.as_slice() else { panic!("{second:?}") };
    assert!(
        matches!(&**said, ToDelegator::Refused { why, ran: false, .. } if why.check == "delegate.fuel"),
        "{said:?}"
    );
}

#[test]
fn sums_are_by_task_and_loan_and_within_what_the_request_lets_be_handed_on() {
    let mut script = Script::new(&no_bend);
    let request = script.request();
    let lead = script.lead(&request);
    let passport = script.passport("enclave-a");
    let loan = script.allocation(&request, &passport, "enclave-a", Some(&lead.allocation));
    let to = (passport.enclave_id(), loan.until);
    let lineage = |grants: &[Signed<Grant>]| {
        let child = widest(grants, key(lead.name), FragmentIndex(0), to, Onward::NOTHING).unwrap();
        let child = dsse::sign(child, &Party::new(lead.name));
        let all: Vec<_> = grants.iter().cloned().chain([child.clone()]).collect();
        let find = |digest: &legation_core::Digest| all.iter().find(|grant| grant.digest() == *digest).cloned();
        Lineage::of(&request, &child.digest(), find).unwrap()
    };
    // The owner grants twice, and the holder as well: each lets all be handed on.
    let signed = |grant: &Signed<Grant>| {
        let again = Grant { expires: time(1700), ..grant.predicate().clone() };
        let who = if again.issuer == key("north") { "north" } else { "client" };
        dsse::sign(again, &Party::new(who))
    };
    let mut again: Vec<_> = lead.grants.iter().map(signed).collect();
    again.sort_by_key(Signed::digest);
    let (first, second) = (lineage(&lead.grants), lineage(&again));
    let hands = Hands { name: "enclave-a", allocation: loan.clone(), passport, grants: vec![first.leaf().clone()] };
    let call = script.call(&lead, &hands, "question", Assurance::Attested);
    let answer = script.answer(&hands, &call, ("result", 30, 35), &[]);
    let answer = Report { usage: Usage { fuel: Fuel(600_000_000), ..answer.usage }, ..answer.predicate().clone() };
    let other = dsse::sign(Call { number: 2, ..call.predicate().clone() }, &Party::new(lead.name));
    let basis = |lineage| Basis { request: &request, loan: &loan, lineage };
    let mut tally = Tally::new(Judge::Receipt);
    assert_eq!(tally.answered(&basis(&first), &call, &answer), Ok(()));
    assert_eq!(tally.answered(&basis(&second), &other, &answer).unwrap_err().check, "receipt.handed");

    let mut tally = Tally::new(Judge::Receipt);
    assert_eq!(tally.called(&call), Ok(()));
    let elsewhere = Call { task: TaskId::new(digest("another pool's")), ..call.predicate().clone() };
    assert_eq!(tally.called(&elsewhere), Ok(()));
    assert_eq!(tally.called(&call).unwrap_err().check, "receipt.call");
}

#[test]
fn a_lineage_is_no_lattice() {
    let mut script = Script::new(&no_bend);
    let request = script.request();
    let lead = script.lead(&request);
    let passport = script.passport("enclave-a");
    let child = |depth: u32, fuel: u64| {
        let onward = Onward { depth, most: Sum { fuel: Fuel(fuel), cost: MicroUsd(100) } };
        let grant = widest(&lead.grants, key(lead.name), FragmentIndex(0), (passport.enclave_id(), time(200)), onward);
        dsse::sign(grant.unwrap(), &Party::new(lead.name))
    };
    let mut both = vec![child(2, 1_000), child(2, 2_000)];
    both.sort_by_key(Signed::digest);
    let leaf = |parents: &[Signed<Grant>]| {
        let to = (key("enclave-e").enclave_id(), time(200));
        let grant = widest(parents, key("enclave-a"), FragmentIndex(0), to, Onward::NOTHING).unwrap();
        dsse::sign(grant, &Party::new("enclave-a"))
    };
    let check = |leaf: &Signed<Grant>| {
        let all = || lead.grants.iter().chain(&both).chain([leaf]);
        Lineage::of(&request, &leaf.digest(), |digest| all().find(|grant| grant.digest() == *digest).cloned())
            .map(drop)
            .map_err(|why| why.check)
    };
    assert_eq!(check(&leaf(&both[..1])), Ok(()));
    assert_eq!(check(&leaf(&both)), Err("delegation.prev".to_owned()));
}
