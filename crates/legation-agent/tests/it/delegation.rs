//! Agents that hand work to each other, over real sockets, with a manager that lends them.

use std::time::{Duration, Instant};

use legation_agent::{Status, config::ProverConfig};
use legation_core::{
    Digest, FragmentIndex, LeaseId, Receipt, Rejection, Signed,
    delegation::{Call, LoanTerms},
    prefer::DataTerms,
    statement::{Allocation, Assurance, Diversity, Grant, GrantSubject, Outcome, Passport, Report, Request},
    task::Input,
};
use legation_net::message::{Lending, Offer, Reported, ToAgent, ToManager};

use crate::{
    manager::{Conn, Manager, Running, config, free, open, start, start_on, task},
    world::{self, now, sign},
};

mod played;
mod proving;

/// Reads 32 bytes, the digest of a module, and how often to call it, in four; hands that module the rest of its input so often, one
/// after the other, and writes the last answer; or, where a call fails, its reason to standard error, and exits with its errno.
fn caller(options: &str) -> Vec<u8> {
    let text = format!(
        "(module
          (import \"legation_task_v1\" \"delegate_start\" (func $start (param i32 i32 i32 i32 i32) (result i32)))
          (import \"legation_task_v1\" \"delegate_wait\" (func $wait (param i32) (result i32)))
          (import \"legation_task_v1\" \"delegate_read\" (func $read (param i32 i32 i32) (result i32)))
          (import \"legation_task_v1\" \"delegate_error\" (func $error (param i32 i32 i32) (result i32)))
          (import \"legation_task_v1\" \"delegate_close\" (func $close (param i32) (result i32)))
          (import \"wasi_snapshot_preview1\" \"fd_read\" (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (import \"wasi_snapshot_preview1\" \"fd_write\" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
          (memory (export \"memory\") 4)
          (data (i32.const 64) \"{}\")
          (func $put (param $fd i32) (param $at i32) (param $len i32)
            (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $len))
            (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
          (func $fail (param $handle i32) (param $errno i32)
            (call $put (i32.const 2) (i32.const 131072) (call $error (local.get $handle) (i32.const 131072) (i32.const 4000)))
            (call $exit (i32.sub (i32.const 0) (local.get $errno))))
          (func (export \"_start\") (local $len i32) (local $times i32) (local $call i32) (local $n i32)
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $len (i32.sub (i32.load (i32.const 8)) (i32.const 36)))
            (local.set $times (i32.load (i32.const 1056)))
            (loop $again
              (local.set $call (call $start (i32.const 1024) (i32.const 1060) (local.get $len) (i32.const 64) (i32.const {})))
              (if (i32.lt_s (local.get $call) (i32.const 0)) (then (call $fail (i32.const -1) (local.get $call))))
              (local.set $n (call $wait (local.get $call)))
              (if (i32.lt_s (local.get $n) (i32.const 0)) (then (call $fail (local.get $call) (local.get $n))))
              (local.set $n (call $read (local.get $call) (i32.const 131072) (i32.const 60000)))
              (drop (call $close (local.get $call)))
              (local.set $times (i32.sub (local.get $times) (i32.const 1)))
              (br_if $again (local.get $times)))
            (call $put (i32.const 1) (i32.const 131072) (local.get $n))))",
        options.replace('"', "\\\""),
        options.len(),
    );
    wat::parse_str(text).unwrap()
}

/// Goes round so often before it copies its input.
fn echo_after(rounds: u64) -> Vec<u8> {
    let text = format!(
        "(module
          (import \"wasi_snapshot_preview1\" \"fd_read\" (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (import \"wasi_snapshot_preview1\" \"fd_write\" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export \"memory\") 2)
          (func (export \"_start\") (local $n i64)
            (loop $round
              (local.set $n (i64.add (local.get $n) (i64.const 1)))
              (br_if $round (i64.lt_u (local.get $n) (i64.const {rounds}))))
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))"
    );
    wat::parse_str(text).unwrap()
}

/// Exits with a code.
fn exits(code: u32) -> Vec<u8> {
    let text = format!(
        "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
           (memory (export \"memory\") 1) (func (export \"_start\") (call $exit (i32.const {code}))))"
    );
    wat::parse_str(text).unwrap()
}

/// A manager with one agent that asks, and several that may be lent.
struct World {
    manager: Manager,
    asker: Conn,
    others: Vec<(Running, Conn, String)>,
    agent: Running,
    nonce: u64,
    /// What requests say of their data.
    data: DataTerms,
    statements: Vec<legation_core::Envelope>,
}

impl World {
    async fn new(others: u8) -> Self {
        Self::of(others, None).await
    }

    /// The others prove with this, if anything.
    async fn of(others: u8, prover: Option<&ProverConfig>) -> Self {
        let mut manager = Manager::new().await;
        let agent = start(config(&manager.address()));
        let asker = manager.admit().await;
        let mut lent = Vec::new();
        for chip in 0..others {
            let address = free();
            let running = start_on(20 + chip, &manager.address(), &address, prover.cloned());
            lent.push((running, manager.admit().await, address));
        }
        let data = DataTerms::default();
        Self { manager, asker, others: lent, agent, nonce: 0, data, statements: Vec::new() }
    }

    fn passport(&self, other: usize) -> Signed<Passport> {
        self.others[other].1.passport().clone()
    }

    /// One of the others attests anew, to another verifier, whose passport lasts so long.
    async fn judged_anew(&mut self, other: usize, seconds: u64) -> Signed<Passport> {
        self.manager.another_judges(seconds);
        let conn = &mut self.others[other].1;
        conn.say(&ToAgent::Reattest { why: "another manager leads".into() }).await;
        assert!(matches!(conn.next(&mut self.manager).await, ToManager::AskChallenge));
        self.manager.attest(conn).await.unwrap();
        let fresh = self.passport(other);
        self.others[other].0.sees(|s| matches!(s, Status::Attested { until, .. } if *until == fresh.expires)).await;
        fresh
    }

    /// Offers a fragment that calls `callee` so often.
    async fn ask(&mut self, caller: &[u8], callee: &[u8], times: u32, text: &[u8], assurance: Assurance) -> Asking {
        self.nonce += 1;
        let (module, callee) = (self.manager.serve(caller), self.manager.serve(callee));
        let rows = world::seal(&[callee.as_bytes().as_slice(), &times.to_le_bytes(), text].concat());
        self.manager.serve(&rows.sealed.bytes);
        let (delegates, delegable) = world::delegation(&[callee], 1, assurance);
        let mut fragment = world::fragment("one", module, vec![Input::Sealed(rows.reference("rows"))]);
        fragment.delegates = Some(delegates);
        let request = world::request(vec![fragment], now(), self.nonce);
        let request = sign(Request { data: self.data.clone(), ..request });
        let mut offer = self.manager.offer(&self.asker, &request, 0, &[&rows], Vec::new());
        let subject = GrantSubject::Enclave(self.asker.passport().enclave_id());
        let grant = world::grant(&request, FragmentIndex(0), subject, vec![rows.sealed.object]);
        offer.grants = vec![sign(Grant { depth: 1, delegable: Some(delegable), ..grant })];
        self.asker.offer(&offer).await;
        Asking { request, offer }
    }

    /// The next wish for a loan.
    async fn wish(&mut self) -> (u64, Box<LoanTerms>) {
        if let Some(wish) = self.asker.wishes.pop_front() {
            return wish;
        }
        loop {
            match self.asker.next(&mut self.manager).await {
                ToManager::Borrow { ask, terms, .. } => return (ask, terms),
                ToManager::GiveBack { .. } => {}
                other => panic!("expected a wish, got {other:?}"),
            }
        }
    }

    /// What both sides of a loan are told.
    fn loan(&mut self, asking: &Asking, other: usize, terms: &LoanTerms) -> (Lending, Lending) {
        let named = self.passport(other);
        self.loan_by(asking, &named, terms)
    }

    /// The same, where this passport of the enclave that is lent is named.
    fn loan_by(&mut self, asking: &Asking, named: &Signed<Passport>, terms: &LoanTerms) -> (Lending, Lending) {
        let (borrower, own) = (self.asker.passport().clone(), &asking.offer.allocation);
        let both = self.manager.lend(&asking.request, own, &borrower, named, terms.demand);
        self.statements.push(both.0.allocation.envelope().clone());
        both
    }

    /// Lends one of the others, as is asked next.
    async fn lend(&mut self, asking: &Asking, other: usize) -> Signed<Allocation> {
        let named = self.passport(other);
        self.lend_by(asking, other, &named).await
    }

    /// The same, where this passport of it is named.
    async fn lend_by(&mut self, asking: &Asking, other: usize, named: &Signed<Passport>) -> Signed<Allocation> {
        let (ask, terms) = self.wish().await;
        let (told, lent) = self.loan_by(asking, named, &terms);
        self.others[other].1.say(&ToAgent::Lend(Box::new(lent))).await;
        let allocation = told.allocation.clone();
        self.asker.say(&ToAgent::Lent { ask: Some(ask), loan: Box::new(told) }).await;
        allocation
    }

    /// Why the borrower gives a loan back.
    async fn given_back(&mut self, lease: LeaseId) -> Option<Rejection> {
        self.asker.gives_back(&mut self.manager, lease).await
    }

    async fn report(&mut self, asking: &Asking) -> Reported {
        let lease = asking.offer.allocation.lease;
        let reported = self.asker.report(&mut self.manager, lease).await;
        self.asker.say(&ToAgent::Acknowledged { lease }).await;
        reported
    }

    /// Has everybody else's statements and the report's own read as a receipt.
    fn receipt(&self, asking: &Asking, reported: &Reported) -> Result<(), String> {
        let mut statements = self.statements.clone();
        statements.extend(reported.attached.iter().cloned());
        statements.extend([
            self.manager.appointment.envelope().clone(),
            asking.request.envelope().clone(),
            asking.offer.allocation.envelope().clone(),
            asking.offer.grants[0].envelope().clone(),
            self.asker.passport().envelope().clone(),
            reported.report.envelope().clone(),
        ]);
        statements.extend(self.manager.verifiers().iter().map(|verifier| verifier.envelope().clone()));
        statements.extend(self.others.iter().map(|(_, conn, _)| conn.passport().envelope().clone()));
        let receipt = Receipt::assemble(
            task(&asking.request),
            legation_core::RevocationEpoch(0),
            vec![reported.report.digest()],
            statements,
            self.manager.evidence(),
            [],
        )
        .map_err(|e| format!("{e:?}"))?;
        let verdict = receipt.verify(self.manager.anchors(), self.manager.judge()).map_err(|why| format!("{why:?}"))?;
        if verdict.completed { Ok(()) } else { Err("not completed".to_owned()) }
    }
}

struct Asking {
    request: Signed<Request>,
    offer: Offer,
}

/// The statements of one sort that came with a report.
fn attached<P: legation_core::Predicate>(reported: &Reported) -> Vec<Signed<P>> {
    reported.attached.iter().filter_map(|envelope| envelope.open::<P>().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_made_answered_and_proved() {
    let mut world = World::new(1).await;
    let asking = world.ask(&caller("{}"), &echo_after(1), 3, b"hand this on", Assurance::Attested).await;
    let loan = world.lend(&asking, 0).await;
    let reported = world.report(&asking).await;
    assert_eq!(open(&world.manager, &reported), (Some(b"hand this on".to_vec()), None));

    let report = &reported.report;
    let calls = attached::<Call>(&reported);
    let answers = attached::<Report>(&reported);
    let grants = attached::<Grant>(&reported);
    assert_eq!((calls.len(), answers.len(), grants.len()), (3, 3, 1));
    let tail: Vec<Digest> = report.prev[3..].to_vec();
    assert_eq!(tail.len(), 3);
    for (call, number) in tail.iter().zip(1..) {
        let answer = answers.iter().find(|answer| answer.digest() == *call).expect("an answer of the report");
        let call = calls.iter().find(|call| answer.answer.unwrap().call == call.digest()).unwrap();
        assert_eq!((call.number, call.loan, answer.lease), (number, loan.lease, loan.lease));
        assert_eq!((answer.enclave.enclave_id(), &answer.outcome), (loan.enclave, &Outcome::Completed));
        assert_eq!(answer.seed, call.question);
        assert_eq!(grants[0].digest(), call.prev[1]);
    }
    let questions: std::collections::BTreeSet<Digest> = calls.iter().map(|call| call.question).collect();
    assert_eq!(questions.len(), 3);
    world.receipt(&asking, &reported).unwrap();
    // Take one of what came along away, and nobody believes it any more.
    for missing in 0..reported.attached.len() {
        let mut less = reported.clone();
        less.attached.remove(missing);
        assert!(world.receipt(&asking, &less).is_err(), "{missing}");
    }
    world.others[0].0.sees(|s| matches!(s, Status::Lent { .. })).await;

    // How long a call over a warm loan takes: many calls against few.
    let mut took = Vec::new();
    for times in [1, 61] {
        let asking = world.ask(&caller("{}"), &echo_after(1), times, b"hand this on", Assurance::Attested).await;
        world.lend(&asking, 0).await;
        let started = Instant::now();
        let reported = world.report(&asking).await;
        assert_eq!(reported.report.outcome, Outcome::Completed);
        took.push(started.elapsed());
    }
    eprintln!("first call with its loan {:?}; each further {:?}", took[0], took[1].saturating_sub(took[0]) / 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_that_dies_in_the_midst_of_a_call_is_replaced() {
    let mut world = World::new(2).await;
    let caller = caller("{\"fuel\":50000000000,\"time_ms\":15000}");
    let asking = world.ask(&caller, &echo_after(400_000_000), 1, b"survive", Assurance::Attested).await;
    world.lend(&asking, 0).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    world.others[0].0.shutdown.now();
    let began = Instant::now();
    let (ask, terms) = world.wish().await;
    let lost = world.passport(0).enclave_id();
    assert!(
        terms.exclude.contains(&lost),
        "{} was lost {:?} ago, and is asked for again: {terms:?}",
        lost.short(),
        began.elapsed()
    );
    let (told, lent) = world.loan(&asking, 1, &terms);
    world.others[1].1.say(&ToAgent::Lend(Box::new(lent))).await;
    world.asker.say(&ToAgent::Lent { ask: Some(ask), loan: Box::new(told) }).await;
    let started = Instant::now();
    let reported = world.report(&asking).await;
    eprintln!("answered elsewhere {:?} after the second loan", started.elapsed());
    assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(&b"survive"[..]));
    let answers = attached::<Report>(&reported);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].enclave.enclave_id(), world.passport(1).enclave_id());
    world.receipt(&asking, &reported).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_enclave_at_the_address_is_not_the_one_that_was_lent() {
    let mut world = World::new(1).await;
    // It says that it is reached where the other is: the same image, another chip.
    let address = world.others[0].2.clone();
    let nobody = free();
    let manager = world.manager.address();
    let liar = {
        let config = legation_agent::AgentConfig { listen: Some(nobody), advertise: Some(address), ..config(&manager) };
        let running = start(config);
        (running, world.manager.admit().await, String::new())
    };
    world.others.push(liar);
    let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"only there", Assurance::Attested).await;
    let wrong = world.lend(&asking, 1).await;
    // It is given back, and another is asked for.
    let why = world.given_back(wrong.lease).await;
    let (ask, terms) = world.wish().await;
    assert!(why.is_some() && terms.exclude.contains(&wrong.enclave));
    // The grants are one deep: whoever is lent may borrow nothing.
    assert_eq!(terms.in_turn, None);
    let (told, lent) = world.loan(&asking, 0, &terms);
    world.others[0].1.say(&ToAgent::Lend(Box::new(lent))).await;
    world.asker.say(&ToAgent::Lent { ask: Some(ask), loan: Box::new(told) }).await;
    let reported = world.report(&asking).await;
    let answers = attached::<Report>(&reported);
    assert_eq!(answers[0].enclave.enclave_id(), world.passport(0).enclave_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_vote() {
    let mut world = World::new(3).await;
    let three = Assurance::Replicated { k: 3, diverse: Diversity::Chip };
    let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"all of you", three).await;
    for other in 0..3 {
        world.lend(&asking, other).await;
    }
    let reported = world.report(&asking).await;
    assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(&b"all of you"[..]));
    assert_eq!((reported.report.prev.len(), reported.report.dissent.len()), (3 + 3, 0));
    let (calls, answers) = (attached::<Call>(&reported), attached::<Report>(&reported));
    assert!(calls.iter().all(|call| call.asks_as(&calls[0])));
    let said = |report: &Report| (report.answer.unwrap().output, report.answer.unwrap().trace, report.usage.fuel);
    assert!(answers.iter().all(|answer| said(answer) == said(&answers[0])));
    world.receipt(&asking, &reported).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_said_to_the_module() {
    let mut world = World::new(1).await;
    // It fails there by its own doing: answered, and so reported.
    let asking = world.ask(&caller("{}"), &exits(3), 1, b"x", Assurance::Attested).await;
    world.lend(&asking, 0).await;
    let reported = world.report(&asking).await;
    assert_eq!(reported.report.outcome, Outcome::Failed { reason: "exit-12".into() });
    assert!(open(&world.manager, &reported).1.unwrap().contains("exit-3"));
    assert_eq!(attached::<Report>(&reported)[0].outcome, Outcome::Failed { reason: "exit-3".into() });

    for (options, errno, said) in [
        ("{\"memory\":1000000000}", 28, "delegate.demand"),
        ("{\"fuel\":200000000000}", 76, "delegate.fuel"),
        // Data of which nothing is said is confidential, and proofs hide nothing.
        ("{\"assurance\":\"proven\"}", 76, "proof.sensitivity"),
        ("{\"assurance\":{\"replicated\":{\"k\":1,\"diverse\":\"chip\"}}}", 28, "assurance.replicas"),
    ] {
        let asking = world.ask(&caller(options), &echo_after(1), 1, b"x", Assurance::Attested).await;
        let reported = world.report(&asking).await;
        assert_eq!(reported.report.outcome, Outcome::Failed { reason: format!("exit-{errno}") }, "{options}");
        assert!(open(&world.manager, &reported).1.unwrap().contains(said), "{options}");
        assert!(reported.attached.is_empty());
    }

    // Nobody is lent, as often as it asks.
    let asking = world.ask(&caller("{}"), &echo_after(1), 1, b"x", Assurance::Attested).await;
    for _ in 0..8 {
        let (ask, _) = world.wish().await;
        let why = Rejection::new("loan.nobody", "an enclave to lend").got("none");
        world.asker.say(&ToAgent::LoanRefused { ask, why }).await;
    }
    let reported = world.report(&asking).await;
    assert_eq!(reported.report.outcome, Outcome::Failed { reason: "exit-23".into() });
    assert!(open(&world.manager, &reported).1.unwrap().contains("loan.nobody"));
}

/// A delegate that attested again, to another verifier, is lent by its first passport or by the second, which lasts so long.
async fn is_believed(seconds: u64, by_the_first: bool) {
    let mut world = World::new(1).await;
    let first = world.passport(0);
    let second = world.judged_anew(0, seconds).await;
    assert_ne!(first.prev, second.prev);
    let asking = world.ask(&caller("{}"), &echo_after(1), 3, b"still me", Assurance::Attested).await;
    world.lend_by(&asking, 0, if by_the_first { &first } else { &second }).await;
    let reported = world.report(&asking).await;
    assert_eq!(open(&world.manager, &reported).0.as_deref(), Some(&b"still me"[..]));
    let answers = attached::<Report>(&reported);
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| answer.prev[1] == second.digest()), "by the freshest");
    assert!(!world.agent.saw(|s| matches!(s, Status::Distrusted { .. })));
    world.receipt(&asking, &reported).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_that_another_verifier_judged_since_it_was_named_is_believed() {
    is_believed(1200, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_that_shows_another_passport_than_was_named_is_believed() {
    // Its first lives longer, so that is what it shows on channels.
    is_believed(60, false).await;
}
