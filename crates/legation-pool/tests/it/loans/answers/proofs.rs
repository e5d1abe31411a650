//! Proofs of what enclaves answered that were lent: taken once, of what was to be proven, whatever became of the task.

use legation_core::{
    Seq, UnixTime,
    claims::Prover,
    prefer::Sensitivity,
    proven::PROOF_MAX,
    statement::{ExecutionClaim, ExecutionProof},
};
use legation_pool::{Event, PROOF_UNKNOWN, PROOFS_BYTES_MAX, Recorded, Stands, check_history};

use super::*;

/// An answer that is to be proven, with its call.
struct ToProve {
    call: Signed<Call>,
    answer: Signed<Report>,
}

fn program() -> Digest {
    Digest::of(b"the program")
}

fn prover(name: &str, provider: &str) -> Machine {
    let mut machine = lender(name, provider);
    machine.configuration.prover = Some(Prover { program: program(), instructions: 1_000_000 });
    machine
}

/// A borrower whose data may be seen, and these that can be lent.
fn open_data(lenders: impl IntoIterator<Item = Machine>) -> Running {
    let world = World::new(std::iter::once(Machine::new("a")).chain(lenders));
    let mut one = started(world, delegating(), |request| request.data.sensitivity = Sensitivity::Internal);
    one.pass(2, delegable(None));
    one
}

fn proven_terms() -> LoanTerms {
    LoanTerms { proven: true, ..terms() }
}

impl Running {
    /// Answers under a loan that are to be proven, so many.
    fn to_prove(&self, loan: LeaseId, count: u64) -> (Called, Vec<ToProve>) {
        let grant = self.child(&self.grants(), loan);
        let mut called = Called { attached: vec![grant.envelope().clone()], ..Called::default() };
        let mut all = Vec::new();
        for number in 1..=count {
            let call = self.call(loan, &grant, number, Assurance::Proven);
            let question = Digest::of(&number.to_be_bytes());
            let call = Call { question, ..call.predicate().clone() };
            let call = sign(call, &self.world.machines[&self.enclave].key);
            let answer = self.answer(&call, &grant, "output", &[]);
            called.attached.extend([call.envelope().clone(), answer.envelope().clone()]);
            called.answers.push(answer.clone());
            all.push(ToProve { call, answer });
        }
        (called, all)
    }

    fn statement(&self, of: &ToProve) -> ExecutionProof {
        let clock = self.world.pool.tasks()[&self.task].request.created;
        let report = of.answer.digest();
        ExecutionProof {
            prover: of.answer.enclave,
            report,
            claim: ExecutionClaim::of(&of.answer, &of.call.args, clock).unwrap(),
            program: program(),
            proof: Digest::of(b"proof"),
            size: Bytes(580_116),
            made: self.world.now,
            prev: vec![report],
        }
    }

    fn proves(&self, enclave: EnclaveId, statement: ExecutionProof) -> Command {
        let key = &self.world.machines[&enclave].key;
        let statement = ExecutionProof { prover: key.public_key(), ..statement };
        Command::Prove { enclave, task: self.task, statement: Box::new(sign(statement, key)) }
    }

    fn unproves(&self, enclave: EnclaveId, report: Digest) -> Command {
        let why = Rejection::new("proof.failed", "the proof").got("x".repeat(5000));
        Command::Unprove { enclave, task: self.task, report, why }
    }

    fn stands(&self, of: &ToProve) -> Stands {
        self.world.pool.tasks()[&self.task].owed[&of.answer.digest()].stands.clone()
    }
}

#[test]
fn a_proof_comes_after_the_task_and_stays() {
    let mut one = open_data([lender("c", "gamma").slots(1), prover("b", "beta")]);
    let (loan, b) = one.borrow(proven_terms()).unwrap();
    assert_eq!(b, Machine::new("b").id, "one that proves");
    let (called, all) = one.to_prove(loan, 1);
    let (first, report) = (&all[0], all[0].answer.digest());
    // Nobody knows of the answer before a report rests on it.
    assert_eq!(one.world.refused(one.proves(b, one.statement(first))), PROOF_UNKNOWN);
    one.report(called);
    assert_eq!(one.world.state(one.task), TaskState::Completed, "attested, it counts at once");
    assert_eq!(one.stands(first), Stands::Awaited);
    assert_eq!(one.world.pool.owes(b, one.task, report), Ok(true));
    one.restored();
    let outline = one.world.pool.receipt_outline(one.task).unwrap();
    assert!(outline.executions.is_empty() && one.world.receipt(one.task).proofs.is_empty());

    one.world.wait(500);
    let command = one.proves(b, one.statement(first));
    let applied = one.world.apply(command.clone()).unwrap();
    did(&applied, &[&format!("proved {}", report.short())]);
    assert_eq!(one.world.pool.owes(b, one.task, report), Ok(false));
    let view = one.world.pool.task_view(one.task).unwrap();
    assert_eq!((view.proofs.len(), view.proofs[0].report, view.proofs[0].prover), (1, report, b));
    let Stands::There { record, size, .. } = view.proofs[0].stands else { panic!("{view:?}") };
    assert_eq!((record.at, size), (applied.records[0].seq, Bytes(580_116)));
    // Told again nothing happens; another is none.
    did(&one.world.apply(command).unwrap(), &[]);
    did(&one.world.apply(one.unproves(b, report)).unwrap(), &[]);
    let other = ExecutionProof { proof: Digest::of(b"other"), ..one.statement(first) };
    assert_eq!(one.world.refused(one.proves(b, other)), "proof.superfluous");
    // It is in the journal, outlives its enclave and its manager, and what is read is what was written.
    one.restored();
    one.world.begin_term(2).unwrap();
    let outline = one.world.pool.receipt_outline(one.task).unwrap();
    assert_eq!(outline.executions, [record]);
    let parts = outline.whole(&one.world.records).unwrap();
    let [statement] = &parts.executions[..] else { panic!("{parts:?}") };
    assert_eq!(statement.open::<ExecutionProof>().unwrap().report, report);
    let text = serde_json::to_string(&applied.records[0]).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), applied.records[0]);
    // A journal that was changed makes no receipt.
    let mut records = one.world.records.clone();
    let place = records.iter().position(|record| record.event.kind() == "proved").unwrap();
    let other = one.proves(b, ExecutionProof { made: UnixTime(0), ..one.statement(first) });
    let Command::Prove { task, statement, .. } = other else { unreachable!() };
    records[place].event = Event::Proved { task, statement };
    let outline = one.world.pool.receipt_outline(one.task).unwrap();
    assert_eq!(outline.whole(&records).unwrap_err().check, "archive.record");
}

#[test]
fn a_proof_that_is_not_owed_is_refused() {
    let mut one = open_data([prover("b", "beta"), prover("c", "gamma")]);
    let (loan, b) = one.borrow(proven_terms()).unwrap();
    let c = if b == Machine::new("b").id { Machine::new("c").id } else { Machine::new("b").id };
    let (called, all) = one.to_prove(loan, 1);
    one.report(called);
    let good = one.statement(&all[0]);
    let claim = |change: fn(&mut ExecutionClaim)| {
        let mut claim = good.claim.clone();
        change(&mut claim);
        ExecutionProof { claim, ..good.clone() }
    };
    let nobody = Digest::of(b"a report of nobody");
    for (check, enclave, statement) in [
        (PROOF_UNKNOWN, b, ExecutionProof { report: nobody, prev: vec![nobody], ..good.clone() }),
        ("proof.enclave", c, good.clone()),
        ("proof.statement", b, ExecutionProof { prev: vec![nobody], ..good.clone() }),
        ("proof.claim", b, claim(|claim| claim.output = None)),
        ("proof.claim", b, claim(|claim| claim.module = Digest::of(b"other"))),
        ("proof.claim", b, claim(|claim| claim.clock = UnixTime(1))),
        ("proof.size", b, ExecutionProof { size: Bytes(PROOF_MAX as u64 + 1), ..good.clone() }),
        ("proof.program", b, ExecutionProof { program: Digest::of(b"other"), ..good.clone() }),
    ] {
        assert_eq!(one.world.refused(one.proves(enclave, statement)), check);
    }
    // Another's word, brought by the one that is asked.
    let Command::Prove { task, statement, .. } = one.proves(c, good.clone()) else { unreachable!() };
    assert_eq!(one.world.refused(Command::Prove { enclave: b, task, statement }), "proof.statement");
    let of_another = Command::Prove {
        enclave: b,
        task: TaskId::new(nobody),
        statement: Box::new(sign(good.clone(), &one.world.machines[&b].key)),
    };
    assert_eq!(one.world.refused(of_another), PROOF_UNKNOWN);
    assert_eq!(one.world.refused(one.unproves(c, good.report)), "proof.enclave");
    // What was not asked to be proven, and what failed, is owed nothing.
    let mut plain = open_data([prover("b", "beta")]);
    let (loan, _) = plain.borrow(terms()).unwrap();
    let called = plain.called(loan);
    plain.report(called);
    assert!(plain.world.pool.tasks()[&plain.task].owed.is_empty());
}

#[test]
fn who_cannot_prove_says_why_and_may_yet() {
    let mut one = open_data([prover("b", "beta")]);
    let (loan, b) = one.borrow(proven_terms()).unwrap();
    let (called, all) = one.to_prove(loan, 1);
    one.report(called);
    let report = all[0].answer.digest();
    did(&one.world.apply(one.unproves(b, report)).unwrap(), &["unproved: proof.failed"]);
    let Stands::Failed { why } = one.stands(&all[0]) else { panic!("{:?}", one.stands(&all[0])) };
    assert!(why.got.len() <= 1024, "what others say is cut");
    did(&one.world.apply(one.unproves(b, report)).unwrap(), &[]);
    one.restored();
    one.world.apply(one.proves(b, one.statement(&all[0]))).unwrap();
    assert!(matches!(one.stands(&all[0]), Stands::There { .. }));
    one.restored();
}

#[test]
fn proofs_of_one_task_fit_into_its_receipt() {
    let mut one = open_data([prover("b", "beta")]);
    let (loan, b) = one.borrow(proven_terms()).unwrap();
    let (called, all) = one.to_prove(loan, 6);
    one.report(called);
    assert_eq!(one.world.state(one.task), TaskState::Completed, "{:?}", one.world.tries(one.task, 0));
    let largest = Bytes(PROOF_MAX as u64);
    assert_eq!(PROOFS_BYTES_MAX / largest.0, 5);
    for (at, of) in all.iter().enumerate() {
        let statement = ExecutionProof { size: largest, ..one.statement(of) };
        let taken = one.world.apply(one.proves(b, statement)).map(|_| ()).map_err(|why| why.check);
        assert_eq!(taken, if at < 5 { Ok(()) } else { Err("proof.room".to_owned()) }, "{at}");
    }
    let there = one.world.pool.receipt_outline(one.task).unwrap().executions;
    assert_eq!(there.len(), 5);
}

/// Nobody judges here what is sent for a proof: noise takes the room of who sends it, and of no other.
#[test]
fn who_sends_noise_leaves_the_room_of_the_others() {
    let mut one = open_data([prover("b", "beta"), prover("c", "gamma")]);
    let (loan, first) = one.borrow(proven_terms()).unwrap();
    let (mut called, mut one_of_eight) = one.to_prove(loan, 1);
    let (loan, second) = one.borrow(LoanTerms { exclude: vec![first], ..proven_terms() }).unwrap();
    // Other questions than the first was asked.
    let (mut more, mut seven) = one.to_prove(loan, 8);
    more.attached.drain(1..3);
    more.answers.remove(0);
    seven.remove(0);
    called.attached.extend(more.attached);
    called.answers.extend(more.answers);
    one.report(called);
    assert_eq!(one.world.state(one.task), TaskState::Completed, "{:?}", one.world.tries(one.task, 0));
    let largest = PROOF_MAX as u64;
    let mut sends = |enclave: EnclaveId, of: &ToProve, size: u64| {
        let statement = ExecutionProof { size: Bytes(size), ..one.statement(of) };
        one.world.apply(one.proves(enclave, statement)).map(|_| ()).map_err(|why| why.check)
    };
    let full = Err("proof.room".to_owned());
    for (at, of) in seven.iter().enumerate() {
        assert_eq!(sends(second, of, largest), if at < 4 { Ok(()) } else { full.clone() }, "{at}");
    }
    let last = one_of_eight.remove(0);
    let part = PROOFS_BYTES_MAX / 8;
    assert_eq!(sends(first, &last, part + 1), full);
    assert_eq!(sends(first, &last, part), Ok(()));
}

#[test]
fn proofs_that_nobody_can_have_given_are_found() {
    let mut one = open_data([prover("b", "beta"), prover("c", "gamma")]);
    let (loan, b) = one.borrow(proven_terms()).unwrap();
    let (called, all) = one.to_prove(loan, 1);
    one.report(called);
    let (task, report) = (one.task, all[0].answer.digest());
    let by = |enclave: EnclaveId, change: fn(&mut ExecutionProof)| {
        let mut statement = one.statement(&all[0]);
        change(&mut statement);
        let Command::Prove { statement, .. } = one.proves(enclave, statement) else { unreachable!() };
        Event::Proved { task, statement }
    };
    let c = if b == Machine::new("b").id { Machine::new("c").id } else { Machine::new("b").id };
    let why = Rejection::new("proof.failed", "the proof");
    let fails = || Event::Unproved { task, report, why: why.clone() };
    let cases = [
        ("good", "", vec![fails(), by(b, |_| {})]),
        ("twice", "history.proof", vec![by(b, |_| {}), by(b, |_| {})]),
        ("by another", "history.proof", vec![by(c, |_| {})]),
        ("of nothing", "history.proof", vec![by(b, |s| s.report = Digest::of(b"nothing"))]),
        ("failed twice", "history.proof", vec![fails(), fails()]),
        ("failed after all", "history.proof", vec![by(b, |_| {}), fails()]),
    ];
    for (name, check, events) in cases {
        let mut records = one.world.records.clone();
        let last = records.last().unwrap().clone();
        for (event, seq) in events.into_iter().zip(last.seq.0 + 1..) {
            records.push(Record { seq: Seq(seq), event, ..last.clone() });
        }
        let judged = check_history(&records).map_or_else(|why| why.check, |_| String::new());
        assert_eq!(judged, check, "{name}");
        let mut pool = Pool::new(limits());
        let absorbed = records.iter().try_for_each(|record| pool.absorb(record).map(|_| ()));
        assert_eq!(absorbed.is_ok(), check.is_empty(), "{name}: {absorbed:?}");
    }
}

#[test]
fn who_proves_nothing_is_not_lent_for_it() {
    let mut one = open_data([lender("b", "beta")]);
    let why = one.refused(proven_terms());
    assert_eq!(why.check, "loan.capacity");
    assert!(why.got.contains("1 place.prover"), "{why}");
    assert!(why.fix.contains("ask for answers that are attested"), "{why}");
    one.borrow(terms()).unwrap();
    // What was said of the one is not taken for the other.
    assert_eq!(one.refused(proven_terms()).check, "loan.capacity");
}

#[test]
fn a_place_in_the_journal_is_named_by_what_is_there() {
    let one = Recorded { at: Seq(1), digest: Digest::of(b"x") };
    assert_eq!(serde_json::from_str::<Recorded>(&serde_json::to_string(&one).unwrap()).unwrap(), one);
}
