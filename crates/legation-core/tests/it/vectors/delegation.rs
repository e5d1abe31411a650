//! Work that an enclave handed on: loans, grants that were passed on, calls, answers, votes, and what a revocation cuts.

use legation_core::{
    Allowance, FragmentIndex, Fuel, LeaseId, MicroUsd, Millis, Requirement, Revocable, Revocation, RevocationEpoch,
    RevocationList, Signed, TaskId, UnixTime,
    statement::{Assurance, Diversity, Grant, GrantSubject, Outcome},
};

use super::Receipts;
use crate::{
    handed::{Hands, Plan, Script, THREE, World, build, time},
    world::{Before, Said, T0, digest, key, no_bend, object, output},
};

type Lie = fn(&str, Said<'_>, &Before);

/// Three replicas, and nothing below them.
fn three() -> Plan<'static> {
    Plan { deep: 0, ..Plan::default() }
}

/// One question of `a`, attested, and the long way down from `d`.
fn attested() -> Plan<'static> {
    Plan { assured: Some(Assurance::Attested), answered: &["a"], ..Plan::default() }
}

fn told(all: &mut Receipts, plan: Plan<'_>, lies: &[(&str, Lie)]) {
    for (name, lie) in lies {
        all.bad(name, &build(plan, lie).receipt());
    }
}

#[test]
fn receipts_of_delegation() {
    let mut all = Receipts::default();
    all.good("good: one question of one enclave", &build(Plan::single(), &no_bend).receipt());
    let whole = build(Plan::default(), &no_bend);
    all.good("good: three replicas, and four levels", &whole.receipt());
    all.good("good: one of three dissents", &build(Plan { dissent: &["c"], ..three() }, &no_bend).receipt());
    all.good(
        "good: one of three did not answer",
        &build(Plan { answered: &["a", "c"], ..three() }, &no_bend).receipt(),
    );
    let stopped = build(three(), &|label, said, _| failed(label, said, "deadline"));
    all.good("good: a limit stopped one of three", &stopped.receipt());
    let left = build(three(), &|label, said, _| failed(label, said, "unanswered"));
    all.good("good: one of three was left without an answer", &left.receipt());
    let spent = build(Plan { dissent: &["b"], ..three() }, &|label, said, _| failed(label, said, "out-of-fuel"));
    all.good("good: one of three ran out of fuel, and is named", &spent.receipt());
    all.good("good: two purses, together within what the request lets be handed on", &purses(80_000_000).receipt());
    all.bad("request: two purses, together more than it lets be handed on", &purses(79_999_999).receipt());
    told(&mut all, Plan::single(), LOANS);
    told(&mut all, Plan::default(), DEEP);
    told(&mut all, Plan::single(), GRANTS);
    revoked(&mut all, &build(Plan::single(), &no_bend));
    all.settle("receipts-delegation.json");
}

#[test]
fn calls_and_answers() {
    let mut all = Receipts::default();
    told(&mut all, Plan::single(), CALLS);
    told(&mut all, Plan::single(), ANSWERS);
    told(&mut all, attested(), USES);
    told(&mut all, Plan { dissent: &["b"], ..three() }, DISSENT);
    told(&mut all, three(), VOTES);
    all.bad(
        "vote: two of three dissent alike, and the third is named",
        &build(Plan { dissent: &["a", "b"], ..three() }, &no_bend).receipt(),
    );
    all.bad("vote: one of three", &build(Plan { answered: &["a"], ..three() }, &no_bend).receipt());
    // The second and the third, alike.
    let left = build(three(), &|label, said, _| {
        failed(if label == "answer-c" { "answer-b" } else { label }, said, "unanswered");
    });
    all.bad("vote: two of three were left without an answer", &left.receipt());
    let spent = build(three(), &|label, said, _| failed(label, said, "out-of-fuel"));
    all.bad("vote: one of three ran out of fuel, and is not named", &spent.receipt());
    all.settle("receipts-delegation-calls.json");
}

/// The second of three fails for this reason.
fn failed(label: &str, said: Said<'_>, reason: &str) {
    if let ("answer-b", Said::Report(it)) = (label, said) {
        it.outcome = Outcome::Failed { reason: reason.to_owned() };
        it.answer.as_mut().unwrap().output = None;
    }
}

/// The owner and the holder of the model grant twice, and the enclave passes each pair on, to `a` and to `b`. Each call uses
/// 40 Mfuel, and every grant lets so much be passed on: the request alone, with `most`, bounds them together.
fn purses(most: u64) -> World {
    let bend = move |label: &str, said: Said<'_>, _: &Before| match said {
        Said::Request(it) => it.fragments[0].delegates.as_mut().unwrap().fuel = Fuel(most),
        Said::Grant(it) => {
            if label.starts_with("child-") {
                it.fuel = Fuel(60_000_000);
            }
            if let Some(passed) = &mut it.delegable {
                passed.fuel = Fuel(70_000_000);
            }
        }
        _ => (),
    };
    let mut script = Script::new(&bend);
    let request = script.request();
    let first = script.lead(&request);
    let mut grants = Vec::new();
    for (n, grant) in first.grants.iter().enumerate() {
        let again = Grant { expires: time(1801), ..Grant::clone(grant) };
        grants.push(script.say(&format!("again-{n}"), again));
    }
    grants.sort_by_key(Signed::digest);
    let second = Hands { grants, ..first.clone() };
    let mut answers = Vec::new();
    for (by, name, question) in [(&first, "enclave-a", "first"), (&second, "enclave-b", "second")] {
        let to = script.lend(&request, by, name, 2);
        let call = script.call(by, &to, question, Assurance::Attested);
        answers.push(script.answer(&to, &call, ("agreed", 30, 35), &[]).digest());
    }
    let mut both = Hands { grants: [&first.grants[..], &second.grants[..]].concat(), ..first };
    both.grants.sort_by_key(Signed::digest);
    script.report(&both, &answers, Vec::new());
    script.world
}

fn revoked(all: &mut Receipts, world: &World) {
    let appointment = world.envelopes.iter().find(|e| e.digest() == world.labels["manager"]).unwrap();
    let enclave = |name| Revocable::Enclave(key(name).enclave_id());
    let grant = |label: &str| Revocable::Grant(world.labels[label]);
    for (name, what) in [
        ("the owner's grant", grant("grant-north")),
        ("a holder's grant", grant("grant-client")),
        ("the grant that was passed on", grant("child-a")),
        ("the enclave that handed on", enclave("enclave-lead")),
        ("the enclave that answered", enclave("enclave-a")),
        ("the chip that answered", Revocable::Chip(digest("enclave-a").to_string())),
        ("the verifier", Revocable::Verifier(key("verifier").id())),
    ] {
        for (when, epoch, at, good) in [
            ("before it ended", 8, time(20), false),
            ("in an epoch that the allocation knew", 7, time(1_000), false),
            ("later", 8, time(1_000), true),
        ] {
            let revocation =
                Revocation { what: what.clone(), epoch: RevocationEpoch(epoch), at, why: "stolen".to_owned() };
            let list = RevocationList {
                manager: key("manager"),
                at: UnixTime(T0 + 5000),
                epoch: revocation.epoch,
                revocations: vec![revocation],
                prev: Vec::new(),
            };
            all.revoked(&format!("revoked: {name}, {when}"), &world.receipt(), (list, appointment.clone()), good);
        }
    }
}

const LOANS: &[(&str, Lie)] = &[
    ("request: nothing may be handed on", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].delegates = None;
        }
    }),
    ("request: handed on nine times", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].delegates.as_mut().unwrap().depth = 9;
        }
    }),
    ("loan: under another lease", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.loan.as_mut().unwrap().of = LeaseId(9);
        }
    }),
    ("loan: to another borrower", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.loan.as_mut().unwrap().borrower = key("enclave-b").enclave_id();
        }
    }),
    ("loan: of no number", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.loan.as_mut().unwrap().number = 0;
        }
    }),
    ("loan: longer than its borrower", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.until = time(211);
        }
    }),
    ("loan: of an older term", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.term.0 -= 1;
        }
    }),
    ("loan: resting on no borrower", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.prev.truncate(2);
        }
    }),
    ("loan: that says it is none", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.loan = None;
        }
    }),
    ("loan: to itself", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.enclave = key("enclave-lead").enclave_id();
        }
    }),
    ("loan: dearer than its rate", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.price_hour.0 += 1;
        }
    }),
    ("loan: with limits that the call exceeds", |label, said, _| {
        if let ("loan-a", Said::Allocation(it)) = (label, said) {
            it.limits = Some(Allowance { fuel: Some(Fuel(1)), ..Allowance::default() });
        }
    }),
];

const DEEP: &[(&str, Lie)] = &[
    ("loan: resting on the borrower's borrower", |label, said, before| {
        if let ("loan-e", Said::Allocation(it)) = (label, said) {
            it.prev[2] = before["allocation"];
        }
    }),
    ("grant: more fuel together with what it passes on", |label, said, _| {
        if let ("child-d", Said::Grant(it)) = (label, said) {
            it.fuel = Fuel(600_000_001);
        }
    }),
    ("grant: a weaker assurance than above", |label, said, _| {
        if let ("grant-north", Said::Grant(it)) = (label, said) {
            it.delegable.as_mut().unwrap().assurance = THREE;
        }
    }),
    ("grant: a deep one that outlives what it rests on", |label, said, _| {
        if let ("child-f", Said::Grant(it)) = (label, said) {
            it.expires = time(1801);
        }
    }),
    ("grant: resting on a loan's grant and on a client's", |label, said, before| {
        if let ("child-e", Said::Grant(it)) = (label, said) {
            it.prev.push(before["grant-north"]);
            it.prev.sort_unstable();
        }
    }),
    ("call: of another's loan", |label, said, before| {
        if let ("call-e", Said::Call(it)) = (label, said) {
            (it.prev, it.loan) = (vec![before["loan-a"], before["child-a"]], LeaseId(2));
        }
    }),
];

const GRANTS: &[(&str, Lie)] = &[
    ("grant: deeper", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.depth = 3;
        }
    }),
    ("grant: longer", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.expires = time(1801);
        }
    }),
    ("grant: another module", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.modules = vec![digest("other.wasm")];
        }
    }),
    ("grant: more fuel", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.fuel = Fuel(1_000_000_001);
        }
    }),
    ("grant: more budget", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.budget = MicroUsd(9_001);
        }
    }),
    ("grant: another fragment", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.fragments = vec![FragmentIndex(1)];
        }
    }),
    ("grant: keys that may not go on", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.releases = vec![object("north/data")];
        }
    }),
    ("grant: to whoever satisfies a policy", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.subject = GrantSubject::Policy(digest("x"));
        }
    }),
    ("grant: by another enclave", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.issuer = key("enclave-b");
        }
    }),
    ("grant: by an unknown key", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.issuer = key("attacker");
        }
    }),
    ("grant: to nobody who was lent", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.subject = GrantSubject::Enclave(key("enclave-b").enclave_id());
        }
    }),
    ("grant: without the holder of the model", |label, said, before| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.prev = vec![before["grant-north"]];
        }
    }),
    ("grant: parents backwards", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.prev.reverse();
        }
    }),
    ("grant: a parent twice", |label, said, _| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.prev.push(it.prev[1]);
        }
    }),
    ("grant: resting on the request too", |label, said, before| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.prev.push(before["request"]);
            it.prev.sort_unstable();
        }
    }),
    ("grant: as if by the client", |label, said, before| {
        if let ("child-a", Said::Grant(it)) = (label, said) {
            it.prev = vec![before["request"]];
        }
    }),
    ("grant: an expired parent", |label, said, _| {
        if let ("grant-client", Said::Grant(it)) = (label, said) {
            it.expires = time(24);
        }
    }),
    ("grant: a holder who lets nothing be passed on", |label, said, _| {
        if let ("grant-client", Said::Grant(it)) = (label, said) {
            (it.depth, it.delegable) = (0, None);
        }
    }),
    ("grant: a holder who requires what the other enclave is not", |label, said, _| {
        if let ("grant-client", Said::Grant(it)) = (label, said) {
            it.delegable.as_mut().unwrap().require = Some(Requirement::parse("region == \"eu-lead\"").unwrap());
        }
    }),
];

const CALLS: &[(&str, Lie)] = &[
    ("call: by another", |_, said, _| {
        if let Said::Call(it) = said {
            it.delegator = key("enclave-b");
        }
    }),
    ("call: of another task", |_, said, _| {
        if let Said::Call(it) = said {
            it.task = TaskId::new(digest("x"));
        }
    }),
    ("call: of another fragment", |_, said, _| {
        if let Said::Call(it) = said {
            it.fragment = FragmentIndex(1);
        }
    }),
    ("call: of another loan", |_, said, _| {
        if let Said::Call(it) = said {
            it.loan = LeaseId(1);
        }
    }),
    ("call: of number 0", |_, said, _| {
        if let Said::Call(it) = said {
            it.number = 0;
        }
    }),
    ("call: of another module", |_, said, _| {
        if let Said::Call(it) = said {
            it.module = digest("lead.wasm");
        }
    }),
    ("call: for more fuel", |_, said, _| {
        if let Said::Call(it) = said {
            it.demand.fuel = Fuel(100_000_001);
        }
    }),
    ("call: for more memory", |_, said, _| {
        if let Said::Call(it) = said {
            it.demand.memory.0 = (512 << 20) + 1;
        }
    }),
    ("call: that may cost more", |_, said, _| {
        if let Said::Call(it) = said {
            it.demand.time = Millis(32_100);
        }
    }),
    ("call: for no work", |_, said, _| {
        if let Said::Call(it) = said {
            it.demand.fuel = Fuel(0);
        }
    }),
    ("call: with a huge output", |_, said, _| {
        if let Said::Call(it) = said {
            it.demand.output.0 = u64::MAX;
        }
    }),
    ("call: with NUL", |_, said, _| {
        if let Said::Call(it) = said {
            it.args = vec!["\0".to_owned()];
        }
    }),
    ("call: beyond the loan", |_, said, _| {
        if let Said::Call(it) = said {
            it.expires = time(211);
        }
    }),
    ("call: that ends before it begins", |_, said, _| {
        if let Said::Call(it) = said {
            it.expires = time(24);
        }
    }),
    ("call: by too many replicas", |_, said, _| {
        if let Said::Call(it) = said {
            it.assurance = Assurance::Replicated { k: 10, diverse: Diversity::Chip };
        }
    }),
    ("call: resting on less", |_, said, _| {
        if let Said::Call(it) = said {
            it.prev.truncate(1);
        }
    }),
    ("call: resting backwards", |_, said, _| {
        if let Said::Call(it) = said {
            it.prev.reverse();
        }
    }),
    ("call: resting on a client's grant", |_, said, before| {
        if let Said::Call(it) = said {
            it.prev[1] = before["grant-north"];
        }
    }),
    ("call: resting on no loan", |_, said, before| {
        if let Said::Call(it) = said {
            it.prev[0] = before["allocation"];
        }
    }),
    ("call: proven, of confidential data", |_, said, _| {
        if let Said::Call(it) = said {
            it.assurance = Assurance::Proven;
        }
    }),
];

const ANSWERS: &[(&str, Lie)] = &[
    ("answer: to another call", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.answer.as_mut().unwrap().call = digest("x");
        }
    }),
    ("answer: of another enclave", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.enclave = key("enclave-b");
        }
    }),
    ("answer: of another loan", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.lease = LeaseId(1);
        }
    }),
    ("answer: of another module", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.module = digest("lead.wasm");
        }
    }),
    ("answer: for other input", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.inputs = vec![digest("x")];
        }
    }),
    ("answer: with luck of its own", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.seed = digest("x");
        }
    }),
    ("answer: before the call", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.started = time(25).minus(61);
        }
    }),
    ("answer: after the call", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.finished = time(181);
        }
    }),
    ("answer: with more fuel", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.usage.fuel = Fuel(50_000_001);
        }
    }),
    ("answer: with more time", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.usage.micros = 21_000_001;
        }
    }),
    ("answer: completed without output", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.answer.as_mut().unwrap().output = None;
        }
    }),
    ("answer: failed with output", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.outcome = Outcome::Failed { reason: "exit-1".to_owned() };
        }
    }),
    ("answer: with more output", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.answer.as_mut().unwrap().output.as_mut().unwrap().size.0 = (1 << 20) + 1;
        }
    }),
    ("answer: with a sealed output", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.output = Some(output("x"));
        }
    }),
    ("answer: without a call", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.prev.truncate(3);
        }
    }),
    ("answer: rests backwards", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.prev.swap(2, 3);
        }
    }),
    ("answer: rests on more", |label, said, before| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.prev.push(before["request"]);
        }
    }),
    ("answer: disagrees with nobody", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.dissent = vec![digest("x")];
        }
    }),
    ("answer: a report in place of it", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.answer = None;
        }
    }),
    ("answer: of an enclave that the fragment does not want", |label, said, _| {
        if let ("enclave-a", Said::Enclave(it)) = (label, said) {
            it.configuration.region = "us".parse().unwrap();
        }
    }),
];

const USES: &[(&str, Lie)] = &[
    ("report: an answer twice", |label, said, before| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.prev.push(before["answer-a"]);
        }
    }),
    ("report: another's answer", |label, said, before| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.prev.push(before["answer-f"]);
        }
    }),
    ("report: an answer before the grants", |label, said, before| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.prev.insert(2, before["answer-a"]);
        }
    }),
    ("report: without the grant that it passed on", |label, said, before| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.prev.retain(|name| *name != before["grant-client"]);
        }
    }),
    ("report: an answer that came after it ended", |label, said, _| {
        if let ("answer-a", Said::Report(it)) = (label, said) {
            it.finished = time(145);
        }
    }),
    ("report: dissent where all agree", |label, said, before| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.dissent = vec![before["answer-a"]];
        }
    }),
    ("call: the same question to two", |label, said, _| {
        if let ("call-d", Said::Call(it)) = (label, said) {
            it.question = digest("first");
        }
    }),
    ("answer: uses an answer to another", |label, said, before| {
        if let ("answer-d", Said::Report(it)) = (label, said) {
            it.prev.push(before["answer-a"]);
        }
    }),
];

const DISSENT: &[(&str, Lie)] = &[
    ("vote: the dissenter is not named", |label, said, _| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.dissent.clear();
        }
    }),
    ("vote: one who agreed is named", |label, said, before| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.dissent = vec![before["answer-a"]];
        }
    }),
    ("vote: the dissenter is left out, and named", |label, said, before| {
        if let ("report", Said::Report(it)) = (label, said) {
            it.prev.retain(|name| *name != before["answer-b"]);
        }
    }),
    ("vote: one who agreed used less fuel", |label, said, _| {
        if let ("answer-c", Said::Report(it)) = (label, said) {
            it.usage.fuel.0 -= 1;
        }
    }),
    ("vote: one who agreed called other functions", |label, said, _| {
        if let ("answer-c", Said::Report(it)) = (label, said) {
            it.answer.as_mut().unwrap().trace = digest("x");
        }
    }),
];

const VOTES: &[(&str, Lie)] = &[
    ("vote: asked otherwise", |label, said, _| {
        if let ("call-b", Said::Call(it)) = (label, said) {
            it.args.push("x".to_owned());
        }
    }),
    ("vote: two of one owner", |label, said, _| {
        if let ("enclave-b", Said::Enclave(it)) = (label, said) {
            it.configuration.provider = "a-hosting".parse().unwrap();
        }
    }),
    ("vote: two of one chip", |label, said, _| {
        if let ("enclave-b", Said::Enclave(it)) = (label, said) {
            it.claims.chip.value = digest("enclave-a").to_string();
        }
    }),
    ("vote: together more than the client lets be passed on", |label, said, _| {
        if let ("grant-client", Said::Grant(it)) = (label, said) {
            it.delegable.as_mut().unwrap().fuel = Fuel(100_000_000);
        }
    }),
];
