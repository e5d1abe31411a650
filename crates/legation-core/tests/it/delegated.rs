//! Receipts of work that enclaves handed on: what holds, what each lie is refused by, and what a revocation cuts.

use legation_core::{
    Digest, FragmentIndex, Fuel, LeaseId, MicroUsd, Millis, Receipt, Requirement, Revocable, Revocation,
    RevocationEpoch, RevocationList, TaskId, UnixTime,
    claims::Judged,
    delegation::{Call, call::check_peer},
    monitor::{CallSet, Monitored, Verdict},
    receipt::Standing,
    statement::{Allocation, Assurance, Diversity, Grant, GrantSubject, Outcome, Passport, Report, Request},
    task::OutputRef,
};

use crate::{
    handed::{Plan, THREE, World, build, time},
    party::{Party, evidence},
    world::{Before, Said, anchors, digest, judge, judged, key, no_bend, object, output, passport_of, verify},
};

type Change<T> = fn(&mut T, &Before);

/// A lie about one statement.
enum Lie {
    Enclave(&'static str, Change<Judged>),
    Request(Change<Request>),
    Allocation(&'static str, Change<Allocation>),
    Grant(&'static str, Change<Grant>),
    Call(&'static str, Change<Call>),
    Report(&'static str, Change<Report>),
}

impl Lie {
    fn tell(&self, label: &str, said: Said<'_>, before: &Before) {
        match (self, said) {
            (Self::Enclave(at, change), Said::Enclave(it)) if *at == label => change(it, before),
            (Self::Request(change), Said::Request(it)) => change(it, before),
            (Self::Allocation(at, change), Said::Allocation(it)) if *at == label => change(it, before),
            (Self::Grant(at, change), Said::Grant(it)) if *at == label => change(it, before),
            (Self::Call(at, change), Said::Call(it)) if *at == label => change(it, before),
            (Self::Report(at, change), Said::Report(it)) if *at == label => change(it, before),
            _ => (),
        }
    }
}

/// A lie, the check that refuses it, and the statement it refuses.
type Case = (&'static str, Lie, &'static str, &'static str);

/// Says of all cases which were refused otherwise than they should.
fn check(plan: Plan<'_>, cases: impl IntoIterator<Item = Case>) {
    let mut wrong = Vec::new();
    for (what, lie, check, at) in cases {
        let world = build(plan, &|label, said, before| lie.tell(label, said, before));
        let receipt = world.assemble().unwrap_or_else(|why| panic!("{what}: {why}"));
        // Grants stand in the order of their digests: `*` is any of those that begin so.
        let wanted: Vec<_> = match at.strip_suffix('*') {
            Some(begin) => world.labels.keys().filter(|l| l.starts_with(begin)).map(|l| world.at(l)).collect(),
            None => vec![world.at(at)],
        };
        match verify(&receipt) {
            Err(invalid) if invalid.why.check == check && wanted.contains(&invalid.at) => (),
            Err(invalid) => wrong.push(format!("{what}: {invalid}; wanted {check} at {wanted:?}")),
            Ok(_) => wrong.push(format!("{what}: accepted; wanted {check} at {at}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn label_of(world: &World, digest: Digest) -> String {
    world.labels.iter().find(|(_, known)| **known == digest).map(|(label, _)| label.clone()).unwrap()
}

#[test]
fn four_levels_and_three_replicas_are_one_receipt_and_one_tree() {
    let world = build(Plan { dissent: &["c"], ..Plan::default() }, &no_bend);
    let receipt = world.receipt();
    let verdict = verify(&receipt).unwrap();
    assert_eq!((verdict.standing, verdict.completed), (Standing::ValidButDevelopment, true));
    assert_eq!(verdict.results.len(), 1);
    assert_eq!(receipt.envelopes.len(), world.envelopes.len(), "everything said is part of the chain");
    let again = Receipt::from_text(receipt.to_text().as_bytes()).unwrap();
    assert_eq!(verify(&again).unwrap(), verdict);

    let tree: Vec<_> = verdict.tree().iter().map(|b| (b.depth, label_of(&world, b.link.digest))).collect();
    let wanted = [
        (0, "report"),
        (1, "call-a"),
        (2, "answer-a"),
        (1, "call-b"),
        (2, "answer-b"),
        (1, "call-c"),
        (2, "answer-c"),
        (1, "call-d"),
        (2, "answer-d"),
        (3, "call-e"),
        (4, "answer-e"),
        (5, "call-f"),
        (6, "answer-f"),
    ];
    assert_eq!(tree, wanted.map(|(depth, label)| (depth, label.to_owned())));
    let says = |label: &str| verdict.links.iter().find(|l| l.digest == world.labels[label]).unwrap().says.clone();
    assert!(says("report").ends_with(&format!(", against {}", world.labels["answer-c"].short())), "{}", says("report"));
    assert!(says("call-b").contains("replicated by 3, diverse by provider"), "{}", says("call-b"));
    assert!(says("loan-e").contains("calls of fragment #0 by enclave"), "{}", says("loan-e"));
    assert!(says("child-d").contains("parts of it by others to depth 2"), "{}", says("child-d"));
}

#[test]
fn size_grows_with_the_answers_and_no_statement_is_told_twice() {
    let len = |plan: Plan<'_>| build(plan, &no_bend).receipt().to_text().len();
    let none = len(Plan { assured: None, deep: 0, ..Plan::default() });
    let one = len(Plan::single());
    let (three, six) = (len(Plan { deep: 0, ..Plan::default() }), len(Plan::default()));
    let each = one - none;
    assert!(three - none < each * 3 + each / 2 && six - none < each * 6 + each, "{none} {one} {three} {six}");
}

#[test]
fn no_statement_of_a_delegation_can_be_left_out_or_moved() {
    let whole = build(Plan::default(), &no_bend).receipt();
    for i in 1..whole.envelopes.len() {
        let mut receipt = whole.clone();
        receipt.envelopes.remove(i);
        assert_eq!(verify(&receipt).unwrap_err().why.check, "receipt.missing", "{i}");
        let mut receipt = whole.clone();
        receipt.envelopes.swap(i - 1, i);
        assert_eq!(verify(&receipt).unwrap_err().why.check, "receipt.order", "{i}");
        let mut receipt = whole.clone();
        receipt.envelopes.push(whole.envelopes[i].clone());
        assert_eq!(verify(&receipt).unwrap_err().why.check, "receipt.order", "{i}");
    }
}

#[test]
fn loans() {
    use Lie::{Allocation as A, Request as R};
    check(
        Plan::default(),
        [
            ("nothing may be handed on", R(|r, _| r.fragments[0].delegates = None), "grant.depth", "grant-*"),
            (
                "no deeper than two",
                R(|r, _| r.fragments[0].delegates.as_mut().unwrap().depth = 2),
                "grant.depth",
                "grant-*",
            ),
            (
                "under another lease",
                A("loan-a", |a, _| a.loan.as_mut().unwrap().of = LeaseId(9)),
                "receipt.loan",
                "loan-a",
            ),
            (
                "to another borrower",
                A("loan-a", |a, _| a.loan.as_mut().unwrap().borrower = key("enclave-b").enclave_id()),
                "receipt.loan",
                "loan-a",
            ),
            ("of no number", A("loan-a", |a, _| a.loan.as_mut().unwrap().number = 0), "receipt.loan", "loan-a"),
            ("longer than its borrower", A("loan-a", |a, _| a.until = time(211)), "receipt.loan", "loan-a"),
            ("before its borrower", A("loan-a", |a, _| a.from = time(0).minus(60)), "receipt.loan", "loan-a"),
            ("of an older term", A("loan-a", |a, _| a.term.0 -= 1), "receipt.loan", "loan-a"),
            ("as of older revocations", A("loan-a", |a, _| a.revocations.0 -= 1), "receipt.loan", "loan-a"),
            (
                "resting on the borrower's borrower",
                A("loan-e", |a, before| a.prev[2] = before["allocation"]),
                "receipt.loan",
                "loan-e",
            ),
            ("resting on no borrower", A("loan-a", |a, _| a.prev.truncate(2)), "receipt.loan", "loan-a"),
            ("a loan that says it is none", A("loan-a", |a, _| a.loan = None), "call.loan", "call-a"),
            ("to itself", A("loan-a", |a, _| a.enclave = key("enclave-lead").enclave_id()), "receipt.loan", "loan-a"),
            ("dearer than its rate", A("loan-a", |a, _| a.price_hour.0 += 1), "call.passport", "answer-a"),
            (
                "with limits that the call exceeds",
                A("loan-a", |a, _| {
                    a.limits = Some(legation_core::Allowance { fuel: Some(Fuel(1)), ..Default::default() });
                }),
                "limits.fuel",
                "call-a",
            ),
        ],
    );
}

#[test]
fn grants_that_were_passed_on() {
    use Lie::Grant as G;
    let wider: Vec<Case> = vec![
        ("deeper", G("child-a", |g, _| g.depth = 3), "delegation.depth", "child-a"),
        ("longer", G("child-a", |g, _| g.expires = time(1801)), "delegation.expires", "child-a"),
        (
            "another module",
            G("child-a", |g, _| g.modules = vec![digest("other.wasm")]),
            "delegation.modules",
            "child-a",
        ),
        ("no module", G("child-a", |g, _| g.modules.clear()), "delegation.modules", "child-a"),
        ("more fuel", G("child-a", |g, _| g.fuel = Fuel(1_000_000_001)), "delegation.fuel", "child-a"),
        ("more budget", G("child-a", |g, _| g.budget = MicroUsd(9_001)), "delegation.budget", "child-a"),
        (
            "more fuel together with what it passes on",
            G("child-d", |g, _| g.fuel = Fuel(600_000_001)),
            "delegation.fuel",
            "child-d",
        ),
        (
            "another fragment",
            G("child-a", |g, _| g.fragments = vec![FragmentIndex(1)]),
            "delegation.fragments",
            "child-a",
        ),
        ("no fragment", G("child-a", |g, _| g.fragments.clear()), "delegation.fragments", "child-a"),
        (
            "keys that may not go on",
            G("child-a", |g, _| g.releases = vec![object("north/data")]),
            "delegation.releases",
            "child-a",
        ),
        (
            "to whoever satisfies a policy",
            G("child-a", |g, _| g.subject = GrantSubject::Policy(digest("x"))),
            "delegation.subject",
            "child-a",
        ),
        ("by another enclave", G("child-a", |g, _| g.issuer = key("enclave-b")), "delegation.issuer", "child-a"),
        ("by an unknown key", G("child-a", |g, _| g.issuer = key("attacker")), "delegation.issuer", "child-a"),
        (
            "a weaker assurance than above",
            G("grant-north", |g, _| g.delegable.as_mut().unwrap().assurance = THREE),
            "delegation.assurance",
            "child-d",
        ),
    ];
    check(Plan::default(), wider);
    check(
        Plan::single(),
        [
            (
                "to nobody who was lent",
                G("child-a", |g, _| g.subject = GrantSubject::Enclave(key("enclave-b").enclave_id())),
                "call.grant",
                "call-a",
            ),
            (
                "without the holder of the model",
                G("child-a", |g, before| g.prev = vec![before["grant-north"]]),
                "delegation.consent",
                "child-a",
            ),
            ("parents backwards", G("child-a", |g, _| g.prev.reverse()), "delegation.prev", "child-a"),
            ("a parent twice", G("child-a", |g, _| g.prev.push(g.prev[1])), "delegation.prev", "child-a"),
            (
                "resting on the request too",
                G("child-a", |g, before| {
                    g.prev.push(before["request"]);
                    g.prev.sort_unstable();
                }),
                "delegation.missing",
                "child-a",
            ),
            (
                "as if by the client",
                G("child-a", |g, before| g.prev = vec![before["request"]]),
                "grant.module",
                "child-a",
            ),
            ("an expired parent", G("grant-client", |g, _| g.expires = time(24)), "delegation.expires", "child-a"),
            (
                "a holder who lets nothing be passed on",
                G("grant-client", |g, _| (g.depth, g.delegable) = (0, None)),
                "delegation.depth",
                "child-a",
            ),
            (
                "a holder who requires what the other enclave is not",
                G("grant-client", |g, _| {
                    let require = Requirement::parse("region == \"eu-lead\"").unwrap();
                    g.delegable.as_mut().unwrap().require = Some(require);
                }),
                "require.region",
                "answer-a",
            ),
        ],
    );
}

#[test]
fn calls() {
    use Lie::Call as C;
    check(
        Plan::single(),
        [
            ("by another", C("call-a", |c, _| c.delegator = key("enclave-b")), "call.delegator", "call-a"),
            ("of another task", C("call-a", |c, _| c.task = TaskId::new(digest("x"))), "receipt.request", "call-a"),
            ("of another fragment", C("call-a", |c, _| c.fragment = FragmentIndex(1)), "call.loan", "call-a"),
            ("of another loan", C("call-a", |c, _| c.loan = LeaseId(1)), "call.loan", "call-a"),
            ("of number 0", C("call-a", |c, _| c.number = 0), "call.number", "call-a"),
            ("of another module", C("call-a", |c, _| c.module = digest("lead.wasm")), "call.module", "call-a"),
            ("for more fuel", C("call-a", |c, _| c.demand.fuel = Fuel(100_000_001)), "call.fuel", "call-a"),
            ("for more memory", C("call-a", |c, _| c.demand.memory.0 = (512 << 20) + 1), "call.demand", "call-a"),
            ("for more time", C("call-a", |c, _| c.demand.time = Millis(60_001)), "call.demand", "call-a"),
            ("that may cost more", C("call-a", |c, _| c.demand.time = Millis(32_100)), "call.budget", "call-a"),
            ("for no work", C("call-a", |c, _| c.demand.fuel = Fuel(0)), "call.demand", "call-a"),
            ("with a huge output", C("call-a", |c, _| c.demand.output.0 = u64::MAX), "call.size", "call-a"),
            ("with a huge input", C("call-a", |c, _| c.input.size.0 = u64::MAX), "call.size", "call-a"),
            ("with NUL", C("call-a", |c, _| c.args = vec!["\0".into()]), "call.args", "call-a"),
            ("with many arguments", C("call-a", |c, _| c.args = vec![String::new(); 65]), "call.args", "call-a"),
            ("beyond the loan", C("call-a", |c, _| c.expires = time(211)), "call.expires", "call-a"),
            ("that ends before it begins", C("call-a", |c, _| c.expires = time(24)), "call.expires", "call-a"),
            ("before the loan", C("call-a", |c, _| c.created = time(10).minus(61)), "call.expires", "call-a"),
            (
                "by too many replicas",
                C("call-a", |c, _| c.assurance = Assurance::Replicated { k: 10, diverse: Diversity::Chip }),
                "assurance.replicas",
                "call-a",
            ),
            ("resting on less", C("call-a", |c, _| c.prev.truncate(1)), "receipt.call", "call-a"),
            ("resting on more", C("call-a", |c, before| c.prev.push(before["request"])), "receipt.call", "call-a"),
            ("resting backwards", C("call-a", |c, _| c.prev.reverse()), "receipt.call", "call-a"),
            (
                "resting on a client's grant",
                C("call-a", |c, before| c.prev[1] = before["grant-north"]),
                "delegation.prev",
                "call-a",
            ),
            ("resting on no loan", C("call-a", |c, before| c.prev[0] = before["allocation"]), "call.loan", "call-a"),
            (
                "proven, of confidential data",
                C("call-a", |c, _| c.assurance = Assurance::Proven),
                "proof.sensitivity",
                "call-a",
            ),
        ],
    );
    check(
        Plan::default(),
        [(
            "a call of another's loan",
            C("call-e", |c, before| (c.prev, c.loan) = (vec![before["loan-a"], before["child-a"]], LeaseId(2))),
            "call.delegator",
            "call-e",
        )],
    );
}

#[test]
fn answers() {
    use Lie::Report as R;
    check(
        Plan::single(),
        [
            (
                "to another call",
                R("answer-a", |r, _| r.answer.as_mut().unwrap().call = digest("x")),
                "answer.call",
                "answer-a",
            ),
            ("of another enclave", R("answer-a", |r, _| r.enclave = key("enclave-b")), "answer.enclave", "answer-a"),
            ("of another loan", R("answer-a", |r, _| r.lease = LeaseId(1)), "answer.enclave", "answer-a"),
            ("of another module", R("answer-a", |r, _| r.module = digest("lead.wasm")), "answer.module", "answer-a"),
            ("for other input", R("answer-a", |r, _| r.inputs = vec![digest("x")]), "answer.input", "answer-a"),
            ("for no input", R("answer-a", |r, _| r.inputs.clear()), "answer.input", "answer-a"),
            ("with luck of its own", R("answer-a", |r, _| r.seed = digest("x")), "answer.seed", "answer-a"),
            ("before the call", R("answer-a", |r, _| r.started = time(25).minus(61)), "answer.time", "answer-a"),
            ("after the call", R("answer-a", |r, _| r.finished = time(181)), "answer.time", "answer-a"),
            ("ended before it began", R("answer-a", |r, _| r.finished = time(29)), "answer.time", "answer-a"),
            ("with more fuel", R("answer-a", |r, _| r.usage.fuel = Fuel(50_000_001)), "answer.usage", "answer-a"),
            (
                "with more memory",
                R("answer-a", |r, _| r.usage.memory_peak.0 = (64 << 20) + 1),
                "answer.usage",
                "answer-a",
            ),
            ("with more time", R("answer-a", |r, _| r.usage.micros = 21_000_001), "answer.usage", "answer-a"),
            (
                "completed without output",
                R("answer-a", |r, _| r.answer.as_mut().unwrap().output = None),
                "answer.output",
                "answer-a",
            ),
            (
                "failed with output",
                R("answer-a", |r, _| r.outcome = Outcome::Failed { reason: "exit-1".into() }),
                "answer.output",
                "answer-a",
            ),
            (
                "with more output",
                R("answer-a", |r, _| r.answer.as_mut().unwrap().output.as_mut().unwrap().size.0 = (1 << 20) + 1),
                "answer.output",
                "answer-a",
            ),
            ("with a sealed output", R("answer-a", |r, _| r.output = Some(leak())), "answer.output", "answer-a"),
            ("with a sealed log", R("answer-a", |r, _| r.log = Some(leak())), "answer.output", "answer-a"),
            (
                "with other host calls than its monitor saw",
                R("answer-a", |r, _| {
                    let (calls, trace, verdict) = (CallSet::EMPTY, digest("x"), Verdict::Learning);
                    r.monitor = Some(Monitored { calls, trace, verdict, evidence: 0, worst: None });
                }),
                "answer.trace",
                "answer-a",
            ),
            ("without a call", R("answer-a", |r, _| r.prev.truncate(3)), "receipt.answer", "answer-a"),
            ("rests backwards", R("answer-a", |r, _| r.prev.swap(2, 3)), "receipt.answer", "answer-a"),
            ("rests on more", R("answer-a", |r, before| r.prev.push(before["request"])), "receipt.answer", "answer-a"),
            (
                "disagrees with nobody",
                R("answer-a", |r, _| r.dissent = vec![digest("x")]),
                "receipt.dissent",
                "answer-a",
            ),
            ("a report in place of an answer", R("answer-a", |r, _| r.answer = None), "receipt.report", "answer-a"),
        ],
    );
    check(
        Plan::single(),
        [(
            "under a passport of another kind",
            Lie::Enclave("enclave-a", |j, _| j.configuration.region = "us".parse().unwrap()),
            "require.region",
            "answer-a",
        )],
    );
}

fn leak() -> OutputRef {
    output("x")
}

#[test]
fn reports_that_use_answers() {
    use Lie::{Call as C, Report as R};
    check(
        Plan { assured: Some(Assurance::Attested), answered: &["a"], ..Plan::default() },
        [
            ("an answer twice", R("report", |r, before| r.prev.push(before["answer-a"])), "receipt.question", "report"),
            ("another's answer", R("report", |r, before| r.prev.push(before["answer-f"])), "receipt.report", "report"),
            (
                "an answer before the grants",
                R("report", |r, before| r.prev.insert(2, before["answer-a"])),
                "receipt.report",
                "report",
            ),
            (
                "without the grant that it passed on",
                R("report", |r, before| {
                    r.prev.retain(|d| *d != before["grant-client"]);
                }),
                "grant.missing",
                "report",
            ),
            (
                "an answer that came after it ended",
                R("answer-a", |r, _| r.finished = time(145)),
                "receipt.report",
                "report",
            ),
            (
                "dissent where all agree",
                R("report", |r, before| r.dissent = vec![before["answer-a"]]),
                "receipt.dissent",
                "report",
            ),
            (
                "the same question to two",
                C("call-d", |c, _| c.question = digest("first")),
                "receipt.question",
                "report",
            ),
        ],
    );
}

#[test]
fn an_answer_is_used_once() {
    // `d` says that it used the answer which `lead` uses.
    check(
        Plan { assured: Some(Assurance::Attested), answered: &["a"], ..Plan::default() },
        [(
            "an answer to another",
            Lie::Report("answer-d", |r, before| r.prev.push(before["answer-a"])),
            "receipt.report",
            "answer-d",
        )],
    );
}

#[test]
fn majorities() {
    use Lie::{Call as C, Enclave as E, Report as R};
    let all = Plan { deep: 0, ..Plan::default() };
    let dissent = Plan { dissent: &["b"], ..all };
    verify(&build(dissent, &no_bend).receipt()).unwrap();
    verify(&build(Plan { answered: &["a", "c"], ..all }, &no_bend).receipt()).unwrap();
    check(
        dissent,
        [
            ("the dissenter is not named", R("report", |r, _| r.dissent.clear()), "receipt.dissent", "report"),
            (
                "one who agreed is named",
                R("report", |r, before| r.dissent = vec![before["answer-a"]]),
                "receipt.dissent",
                "report",
            ),
            (
                "the dissenter is left out, and named",
                R("report", |r, before| {
                    r.prev.retain(|d| *d != before["answer-b"]);
                }),
                "receipt.dissent",
                "report",
            ),
            ("one who agreed used more fuel", R("answer-c", |r, _| r.usage.fuel.0 -= 1), "vote.tie", "report"),
            (
                "one who agreed called other functions",
                R("answer-c", |r, _| r.answer.as_mut().unwrap().trace = digest("x")),
                "vote.tie",
                "report",
            ),
        ],
    );
    check(
        Plan { dissent: &["a", "b"], ..all },
        [("two of three dissent alike, and the third is named", R("report", |_, _| ()), "receipt.dissent", "report")],
    );
    check(Plan { answered: &["a"], ..all }, [("one of three", R("report", |_, _| ()), "vote.majority", "report")]);
    check(
        all,
        [
            ("asked otherwise", C("call-b", |c, _| c.args.push("x".into())), "receipt.question", "report"),
            (
                "two of one owner",
                E("enclave-b", |j, _| j.configuration.provider = "a-hosting".parse().unwrap()),
                "receipt.question",
                "report",
            ),
            (
                "two of one chip",
                E("enclave-b", |j, _| j.claims.chip.value = digest("enclave-a").to_string()),
                "receipt.question",
                "report",
            ),
        ],
    );
    // An execution that a limit stopped says nothing either way.
    let out_of_time = |label: &str, said: Said<'_>, _: &Before| {
        if let ("answer-b", Said::Report(report)) = (label, said) {
            report.outcome = Outcome::Failed { reason: "deadline".to_owned() };
            report.answer.as_mut().unwrap().output = None;
        }
    };
    verify(&build(all, &out_of_time).receipt()).unwrap();
}

#[test]
fn sums_are_held_against_every_grant_above() {
    // Each answer is within its own grant; together they exceed what the client lets be passed on.
    let short = |label: &str, said: Said<'_>, _: &Before| match said {
        Said::Grant(grant) if label == "grant-client" => grant.delegable.as_mut().unwrap().fuel = Fuel(100_000_000),
        _ => (),
    };
    let world = build(Plan { deep: 0, ..Plan::default() }, &short);
    let invalid = verify(&world.receipt()).unwrap_err();
    assert_eq!((invalid.why.check.as_str(), invalid.at), ("receipt.handed", world.at("answer-c")));
    assert!(invalid.why.claim.contains(&world.labels["grant-client"].short()), "{}", invalid.why);
}

fn list(what: Revocable, epoch: u64, at: UnixTime) -> RevocationList {
    let revocation = Revocation { what, epoch: RevocationEpoch(epoch), at, why: "stolen".into() };
    RevocationList {
        manager: key("manager"),
        at: UnixTime(u64::MAX),
        epoch: revocation.epoch,
        revocations: vec![revocation],
        prev: Vec::new(),
    }
}

#[test]
fn what_is_revoked_above_cuts_all_below() {
    let world = build(Plan::default(), &no_bend);
    let receipt = world.receipt();
    let enclave = |name| Revocable::Enclave(key(name).enclave_id());
    let grant = |label: &str| Revocable::Grant(world.labels[label]);
    // What was revoked before the work ended, and the first statement that rests on it in the order of the receipt.
    let cases = [
        (grant("grant-north"), "answer-a"),
        (grant("grant-client"), "answer-a"),
        (grant("child-b"), "answer-b"),
        (grant("child-d"), "answer-f"),
        (grant("child-e"), "answer-f"),
        (grant("child-f"), "answer-f"),
        (enclave("enclave-lead"), "answer-a"),
        (enclave("enclave-a"), "answer-a"),
        (enclave("enclave-d"), "answer-f"),
        (enclave("enclave-f"), "answer-f"),
    ];
    for (what, at) in cases {
        let check = |epoch, when| receipt.verify_with(&anchors(), &judge(), Some(&list(what.clone(), epoch, when)));
        for (epoch, when) in [(8, time(20)), (7, time(1_000))] {
            let invalid = check(epoch, when).unwrap_err();
            assert_eq!((invalid.why.check.as_str(), invalid.at), ("receipt.revoked", world.at(at)), "{what}");
        }
        let later = check(8, time(1_000)).unwrap();
        assert!(later.warnings.iter().all(|w| w.contains("after its report was finished")), "{:?}", later.warnings);
        assert!(!later.warnings.is_empty(), "{what}");
    }
    let other = list(Revocable::Grant(digest("of nobody")), 1, time(0));
    assert!(receipt.verify_with(&anchors(), &judge(), Some(&other)).unwrap().warnings.is_empty());
}

#[test]
fn a_peer_is_the_enclave_that_was_named_and_no_other_of_its_image() {
    let passport = |name: &'static str, at: UnixTime| {
        let judged = judged(name, at);
        let evidence = evidence(&judged);
        passport_of(judged, &evidence, at, digest("verifier"))
    };
    let named = passport("enclave-a", time(0));
    let check = |met: &Passport| check_peer(&named, met).map_err(|why| why.check);
    assert_eq!(check(&named), Ok(()));
    assert_eq!(check(&passport("enclave-a", time(500))), Ok(()), "renewed");
    type Change = fn(&mut Passport);
    let others: [(&str, Change); 5] = [
        ("another enclave", |p| p.enclave = key("enclave-b")),
        ("another sealing key", |p| p.sealing = Party::new("enclave-b").sealing()),
        ("another chip", |p| p.claims.chip.value = digest("enclave-b").to_string()),
        ("another slot", |p| p.configuration.slot = 1),
        ("another owner", |p| p.configuration.provider = "b-hosting".parse().unwrap()),
    ];
    for (what, change) in others {
        let mut met = named.clone();
        change(&mut met);
        assert_eq!(check(&met), Err("call.peer".to_owned()), "{what}");
    }
    assert_eq!(check(&passport("enclave-b", time(0))), Err("call.peer".to_owned()));
}

#[test]
fn statements_without_delegation_are_written_as_before() {
    let world = crate::world::build(crate::world::Plan::default(), &no_bend);
    for envelope in &world.envelopes {
        let text = std::str::from_utf8(envelope.payload()).unwrap();
        for new in ["delegable", "delegates", "answer", "dissent", "\"loan\""] {
            assert!(!text.contains(new), "{new} in {text}");
        }
    }
    // A grant and an allocation as they were written before there were loans.
    let grant = format!(
        r#"{{"issuer":"{0}","task":"{1}","fragments":[0],"subject":{{"kind":"enclave","value":"{1}"}},"modules":["{1}"],"fuel":1,"budget":2,"depth":0,"expires":3,"releases":[],"prev":["{1}"]}}"#,
        key("client"),
        "ab".repeat(32)
    );
    let read: Grant = serde_json::from_str(&grant).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), grant);
    assert_eq!((read.depth, read.delegable), (0, None));
}
