//! Receipts whose every signature is right and whose chain is closed, but in which somebody who has a key lies: each lie is
//! refused by the check it belongs to, at the first statement that shows it.

use legation_core::{
    Allowance, Bytes, Digest, Encryption, FragmentIndex, Fuel, LeaseId, MicroUsd, Millicores, Millis, Region,
    Requirement, RevocationEpoch, TaskId, Term, UnixTime,
    claims::{Anchor, Attested, Judged, Role},
    statement::{
        Aggregate, Allocation, Appointment, Grant, GrantSubject, Office, Outcome, Passport, Report, Request, Tier,
    },
    task::{Input, OutputRef},
};

use crate::{
    party::Party,
    world::{Before, Forger, Plan, Said, T0, build, digest, key, object, output, verify},
};

type Change<T> = fn(&mut T, &Before);

/// A lie about one statement.
enum Lie {
    Appointment(&'static str, Change<Appointment>),
    Enclave(&'static str, Change<Judged>),
    Passport(&'static str, Change<Passport>),
    Request(&'static str, Change<Request>),
    Allocation(&'static str, Change<Allocation>),
    Grant(&'static str, Change<Grant>),
    Report(&'static str, Change<Report>),
    Aggregate(&'static str, Change<Aggregate>),
}

impl Lie {
    fn tell(&self, label: &str, said: Said<'_>, before: &Before) {
        match (self, said) {
            (Self::Appointment(at, change), Said::Appointment(it)) if *at == label => change(it, before),
            (Self::Enclave(at, change), Said::Enclave(it)) if *at == label => change(it, before),
            (Self::Passport(at, change), Said::Passport(it)) if *at == label => change(it, before),
            (Self::Request(at, change), Said::Request(it)) if *at == label => change(it, before),
            (Self::Allocation(at, change), Said::Allocation(it)) if *at == label => change(it, before),
            (Self::Grant(at, change), Said::Grant(it)) if *at == label => change(it, before),
            (Self::Report(at, change), Said::Report(it)) if *at == label => change(it, before),
            (Self::Aggregate(at, change), Said::Aggregate(it)) if *at == label => change(it, before),
            _ => (),
        }
    }
}

/// A lie, the check that refuses it, and the statement it refuses.
type Case = (&'static str, Lie, &'static str, &'static str);

/// Builds each lie into two rounds; says of all cases which were refused otherwise than they should.
fn check(cases: impl IntoIterator<Item = Case>) {
    let mut wrong = Vec::new();
    for (what, lie, check, at) in cases {
        let world = build(Plan::default(), &|label, said, before| lie.tell(label, said, before));
        let receipt = world.assemble().unwrap_or_else(|why| panic!("{what}: {why}"));
        // Grants stand in the order of their digests: `*` is any of those that begin so.
        let wanted: Vec<_> = match at.strip_suffix('*') {
            Some(begin) => world.labels.keys().filter(|l| l.starts_with(begin)).map(|l| world.at(l)).collect(),
            None => vec![world.at(at)],
        };
        match verify(&receipt) {
            Err(invalid) if invalid.why.check == check && wanted.contains(&invalid.at) => (),
            Err(invalid) => wrong.push(format!("{what}: {invalid}; wanted {check} at {wanted:?}")),
            Ok(_) => wrong.push(format!("{what}: accepted; wanted {check} at {wanted:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn time(seconds: u64) -> UnixTime {
    UnixTime(T0 + seconds)
}

#[test]
fn appointments() {
    use Lie::Appointment as A;
    // The walk comes to the reducer's allocation and passport first.
    let (verifier, manager) = ("r1/passport-enclave-hub", "r1/allocation-3");
    check([
        ("another operator", A("verifier", |a, _| a.operator = key("attacker")), "receipt.anchor", "verifier"),
        ("another operator", A("manager", |a, _| a.operator = key("attacker")), "receipt.anchor", "manager"),
        ("another key", A("verifier", |a, _| a.key = key("attacker")), "receipt.appointment", verifier),
        ("another key", A("manager", |a, _| a.key = key("attacker")), "receipt.appointment", manager),
        ("another office", A("verifier", |a, _| a.office = Office::Manager), "receipt.appointment", verifier),
        ("another office", A("manager", |a, _| a.office = Office::Verifier), "receipt.appointment", manager),
        ("ended before", A("verifier", |a, _| a.not_after = time(4)), "receipt.appointment", verifier),
        ("ended before", A("manager", |a, _| a.not_after = time(9)), "receipt.appointment", manager),
        ("begins after", A("verifier", |a, _| a.not_before = time(66)), "receipt.appointment", verifier),
        ("begins after", A("manager", |a, _| a.not_before = time(101)), "receipt.appointment", manager),
        ("ends before its passports do", A("verifier", |a, _| a.not_after = time(604)), "receipt.passport", verifier),
    ]);
}

#[test]
fn passports() {
    use Lie::Passport as P;
    const AT: &str = "r1/passport-enclave-north";
    let lie = |what, change, check| (what, P(AT, change), check, AT);
    check([
        lie("longer than an hour", |p, _| p.expires = p.issued.plus(3601), "receipt.passport"),
        lie("much longer", |p, _| p.expires = UnixTime(u64::MAX), "receipt.passport"),
        lie("no life", |p, _| p.expires = p.issued, "receipt.passport"),
        lie("ends before it begins", |p, _| p.expires = p.issued.minus(1), "receipt.passport"),
        lie("contraindicated", |p, _| p.ear.status = Tier::Contraindicated, "receipt.passport"),
        lie("development affirmed", |p, _| p.ear.status = Tier::Affirming, "receipt.passport"),
        lie("another product", |p, _| p.claims.product.value = "genoa".to_owned(), "receipt.passport"),
        lie("more confidence", |p, _| p.claims.product.confidence.0 = 1000, "receipt.passport"),
        lie(
            "a vendor's anchor",
            |p, _| p.claims.anchor = Anchor::Production("amd-milan".to_owned()),
            "receipt.passport",
        ),
        lie("another region", |p, _| p.configuration.region = Region::new("us").unwrap(), "receipt.passport"),
        lie("a better price", |p, _| p.configuration.rate.core_hour = MicroUsd(1), "receipt.passport"),
        lie("another key", |p, _| p.enclave = key("enclave-south"), "receipt.passport"),
        lie("another sealing key", |p, _| p.sealing = Party::new("attacker").sealing(), "receipt.passport"),
        lie("rests on nothing", |p, _| p.prev.clear(), "receipt.passport"),
        lie("rests on two", |p, _| p.prev.push(p.prev[0]), "receipt.passport"),
        lie("rests on the manager's appointment", |p, b| p.prev = vec![b["manager"]], "receipt.appointment"),
        lie("issued before its verifier was appointed", |p, _| p.issued = UnixTime(T0 - 1061), "receipt.appointment"),
    ]);
    // Evidence of somebody else, or of nobody (which cannot even be assembled).
    let last = (
        "evidence of another",
        P("r1/passport-enclave-south", |p, b| {
            let north = Digest::of(b["r1/passport-enclave-north"].as_bytes());
            assert_ne!(p.evidence, north);
            p.evidence = crate::party::evidence(&crate::world::judged("enclave-north", UnixTime(T0))).digest();
        }),
        "receipt.passport",
        "r1/passport-enclave-south",
    );
    check([last]);
    let world = build(Plan::default(), &|label, said, before| {
        P(AT, |p, _| p.evidence = digest("none")).tell(label, said, before);
    });
    assert_eq!(world.assemble().unwrap_err().check, "receipt.evidence");
}

#[test]
fn enclaves() {
    use Lie::Enclave as E;
    const AT: &str = "r1/passport-enclave-north";
    let lie = |what, change, check, at| (what, E("r1/enclave-north", change), check, at);
    check([
        lie("keys of a manager", |j, _| j.binding.role = Role::Manager, "receipt.passport", AT),
        lie("keys end before the passport", |j, _| j.binding.not_after = time(604), "receipt.passport", AT),
        lie("keys begin after it is issued", |j, _| j.binding.not_before = time(6), "evidence.dates", AT),
        lie("a root nobody named", |j, _| j.claims.anchor = Anchor::Development("x".to_owned()), "evidence.root", AT),
        lie(
            "a vendor's root for a development machine",
            |j, _| {
                j.claims.anchor = Anchor::Production("amd-milan".to_owned());
            },
            "receipt.anchor",
            AT,
        ),
        lie(
            "a development root for a vendor's machine",
            |j, _| {
                j.claims.tee = Attested::hardware(legation_core::claims::TeeKind::SevSnp);
            },
            "receipt.anchor",
            AT,
        ),
        lie(
            "a region that is not wanted",
            |j, _| {
                j.configuration.region = Region::new("us").unwrap();
            },
            "require.region",
            "r1/report-0",
        ),
        lie("too dear", |j, _| j.configuration.rate.core_hour = MicroUsd(27_501), "require.price", "r1/report-0"),
    ]);
}

#[test]
fn requests() {
    use Lie::Request as R;
    let first = |what, change, check| (what, R("r1/request", change), check, "r1/request");
    let second = |what, change, check| (what, R("r2/request", change), check, "r2/request");
    check([
        first("too much to do", |r, _| r.fragments.resize(257, r.fragments[3].clone()), "request.fragments"),
        first("longer than a week", |r, _| r.expires = r.created.plus(7 * 86_400 + 1), "request.expires"),
        first("over before it begins", |r, _| r.expires = r.created, "request.expires"),
        first("no compute", |r, _| r.fragments[1].demand.cpu = Millicores(0), "request.demand"),
        first(
            "reads what comes after",
            |r, _| {
                r.fragments[0].inputs.push(Input::Output { fragment: FragmentIndex(3) });
            },
            "request.order",
        ),
        first("rests on an appointment", |r, b| r.prev.push(b["verifier"]), "receipt.request"),
        second("rests on a grant", |r, b| r.prev.push(b["r1/grant-0-north"]), "receipt.request"),
        second("rests on a passport", |r, b| r.prev = vec![b["r1/passport-enclave-hub"]], "receipt.request"),
        second("rests on a request", |r, b| r.prev.push(b["r1/request"]), "receipt.request"),
        second("rests on something twice", |r, _| r.prev.push(r.prev[0]), "receipt.request"),
        (
            "a budget below the grants'",
            R("r1/request", |r, _| r.budget = MicroUsd(199)),
            "grant.budget",
            "r1/grant-3-*",
        ),
        (
            "a budget for three of four",
            R("r1/request", |r, _| r.budget = MicroUsd(251)),
            "receipt.budget",
            "r1/report-3",
        ),
        (
            "wants production",
            R("r1/request", |r, _| {
                r.require = Requirement::parse("not development").unwrap();
            }),
            "require.not",
            "r1/report-0",
        ),
        (
            "a fragment wants another place",
            R("r2/request", |r, _| {
                r.fragments[2].require = Requirement::parse("region == \"eu-south\"").unwrap();
            }),
            "require.region",
            "r2/report-2",
        ),
        (
            "another module",
            R("r1/request", |r, _| r.fragments[1].module = digest("x")),
            "receipt.report",
            "r1/report-1",
        ),
        (
            "less fuel than granted",
            R("r1/request", |r, _| r.fragments[0].demand.fuel = Fuel(1)),
            "grant.fuel",
            "r1/grant-0-north",
        ),
        (
            "another object",
            R("r1/request", |r, _| {
                let Input::Sealed(input) = &mut r.fragments[0].inputs[0] else { panic!() };
                input.object = object("other");
            }),
            "grant.releases",
            "r1/grant-0-north",
        ),
        (
            "data of another holder",
            R("r1/request", |r, _| {
                let Input::Sealed(input) = &mut r.fragments[0].inputs[0] else { panic!() };
                input.holder = Some(key("south"));
            }),
            "grant.releases",
            "r1/grant-0-north",
        ),
        ("another owner", R("r1/request", |r, _| r.fragments[0].owner = None), "grant.issuer", "r1/grant-3-north"),
    ]);
}

#[test]
fn allocations() {
    use Lie::Allocation as A;
    const REPORT: &str = "r1/report-0";
    let lie = |what, change, check, at| (what, A("r1/allocation-0", change), check, at);
    let here = |what, change| lie(what, change, "receipt.allocation", "r1/allocation-0");
    let moved = |what, change| (what, A("r1/allocation-1", change), "receipt.allocation", "r1/allocation-1");
    check([
        lie("by another manager", |a, _| a.manager = key("attacker"), "receipt.appointment", "r1/allocation-0"),
        lie("without an appointment", |a, b| a.prev[1] = b["r1/request"], "receipt.appointment", "r1/allocation-0"),
        lie("under the verifier's", |a, b| a.prev[1] = b["verifier"], "receipt.appointment", "r1/allocation-0"),
        here("rests on the request alone", |a, _| a.prev.truncate(1)),
        here("request and appointment swapped", |a, _| a.prev.swap(0, 1)),
        here("rests on more", |a, b| a.prev.extend([b["manager"], b["manager"]])),
        here("replaces what is no allocation", |a, b| a.prev.push(b["manager"])),
        here("of no fragment", |a, _| a.fragment = FragmentIndex(4)),
        here("from before the request", |a, _| a.from = UnixTime(T0 - 61)),
        here("from after its end", |a, _| (a.from, a.until) = (time(3601), time(3700))),
        here("ends before it begins", |a, _| a.until = a.from.minus(1)),
        moved("replaces a later lease", |a, _| a.lease = LeaseId(2)),
        moved("replaces one of another fragment", |a, b| a.prev[2] = b["r1/allocation-0"]),
        moved("of an earlier term", |a, _| a.term = Term(2)),
        moved("forgets a revocation", |a, _| a.revocations = RevocationEpoch(6)),
        lie("of another fragment", |a, _| a.fragment = FragmentIndex(2), "receipt.report", REPORT),
        lie("to another enclave", |a, _| a.enclave = key("enclave-south").enclave_id(), "receipt.report", REPORT),
        lie("another region", |a, _| a.region = Region::new("us").unwrap(), "receipt.report", REPORT),
        lie(
            "another provider",
            |a, _| a.provider = legation_core::ProviderId::new("x").unwrap(),
            "receipt.report",
            REPORT,
        ),
        lie("a lower price", |a, _| a.price_hour = MicroUsd(1), "receipt.report", REPORT),
        lie("a higher price", |a, _| a.price_hour = MicroUsd(22_501), "receipt.report", REPORT),
        lie("a price that the request refuses", |a, _| a.price_hour = MicroUsd(30_001), "require.price", REPORT),
        lie("begins later", |a, _| a.from = time(81), "receipt.report", REPORT),
        lie(
            "ended earlier",
            |a, _| (a.from, a.until) = (UnixTime(T0 - 60), UnixTime(T0 - 31)),
            "receipt.report",
            REPORT,
        ),
    ]);
    // The end of the lease: 60 seconds of skew are allowed, none more.
    let ends = |seconds: u64| {
        let world = build(Plan::single(), &|_, said, _| {
            if let Said::Report(report) = said {
                report.finished = time(seconds);
            }
        });
        verify(&world.receipt()).map(|_| ()).map_err(|invalid| invalid.why.check)
    };
    assert_eq!(ends(270), Ok(()));
    assert_eq!(ends(271), Err("receipt.report".to_owned()));
}

#[test]
fn limits() {
    use Lie::{Allocation as A, Request as Q};
    const REPORT: &str = "r1/report-0";
    let limit = |what, change, check| (what, A("r1/allocation-0", change), check, REPORT);
    check([
        limit(
            "less compute than asked for",
            |a, _| a.limits = allowed(|l| l.cpu = Some(Millicores(999))),
            "limits.cpu",
        ),
        limit("less memory", |a, _| a.limits = allowed(|l| l.memory = Some(Bytes::mib(511))), "limits.memory"),
        limit("less fuel", |a, _| a.limits = allowed(|l| l.fuel = Some(Fuel(999_999_999))), "limits.fuel"),
        limit("less time", |a, _| a.limits = allowed(|l| l.time = Some(Millis(59_999))), "limits.time"),
        limit("less output", |a, _| a.limits = allowed(|l| l.egress = Some(Bytes::kib(1023))), "limits.egress"),
        limit(
            "sealed better than anything is",
            |a, _| a.limits = allowed(|l| l.encryption = Some(Encryption::Aes256GcmMlKem1024)),
            "limits.encryption",
        ),
        (
            "data that may be elsewhere only",
            Q("r1/request", |r, _| r.data.residency = [Region::new("mars").unwrap()].into()),
            "data.residency",
            "r1/report-0",
        ),
    ]);
    // The output alone is 4 KiB: the log is what is too much.
    let mebibyte = || allowed(|l| l.egress = Some(Bytes::mib(1)));
    let both = |label: &str, said: Said<'_>, _: &Before| match said {
        Said::Allocation(it) if label == "r1/allocation-0" => it.limits = mebibyte(),
        Said::Report(it) if label == REPORT => {
            it.log = Some(output("r1/log")).map(|log| OutputRef { size: Bytes::mib(1), ..log })
        }
        _ => (),
    };
    let world = build(Plan::default(), &both);
    let invalid = verify(&world.assemble().unwrap()).unwrap_err();
    assert_eq!((invalid.why.check.as_str(), invalid.at), ("limits.egress", world.at(REPORT)));
    // Within them, the receipt names them.
    let good = |label: &str, said: Said<'_>, _: &Before| match said {
        Said::Allocation(it) if label == "r1/allocation-0" => it.limits = mebibyte(),
        _ => (),
    };
    let verdict = verify(&build(Plan::default(), &good).assemble().unwrap()).unwrap();
    let named = verdict.links.iter().filter(|l| l.says.contains("at most egress 1 MiB by appraisal/small")).count();
    assert_eq!(named, 1);
}

fn allowed(change: impl FnOnce(&mut Allowance)) -> Option<Allowance> {
    let mut allowance = Allowance { rules: vec!["appraisal/small".to_owned()], ..Allowance::default() };
    change(&mut allowance);
    Some(allowance)
}

#[test]
fn allocations_of_other_tasks() {
    use Lie::{Allocation as A, Report as R};
    check([
        (
            "one of the first round under a report of the second",
            R("r2/report-0", |r, b| {
                r.prev[0] = b["r1/allocation-0"];
            }),
            "receipt.report",
            "r2/report-0",
        ),
        (
            "of another task than it rests on",
            A("r2/allocation-0", |a, b| {
                a.task = TaskId::new(b["r1/request"]);
            }),
            "receipt.allocation",
            "r2/allocation-0",
        ),
        (
            "an unknown task",
            A("r2/allocation-0", |a, _| a.task = TaskId::new(digest("x"))),
            "receipt.request",
            "r2/allocation-0",
        ),
        (
            "a whole allocation for the first round",
            A("r2/allocation-0", |a, b| {
                a.task = TaskId::new(b["r1/request"]);
                a.prev[0] = b["r1/request"];
            }),
            "receipt.report",
            "r2/report-0",
        ),
        (
            "replaces one of another task",
            A("r2/allocation-1", |a, b| a.prev[2] = b["r1/allocation-1"]),
            "receipt.allocation",
            "r2/allocation-1",
        ),
    ]);
}

#[test]
fn grants() {
    use Lie::Grant as G;
    const AT: &str = "r1/grant-0-north";
    const REPORT: &str = "r1/report-0";
    let lie = |what, change, check, at| (what, G(AT, change), check, at);
    check([
        lie("by somebody else", |g, _| g.issuer = key("attacker"), "grant.issuer", AT),
        lie("more fuel than asked for", |g, _| g.fuel = Fuel(1_000_000_001), "grant.fuel", AT),
        lie("more than the budget", |g, _| g.budget = MicroUsd(10_001), "grant.budget", AT),
        lie("beyond the request's end", |g, _| g.expires = time(3601), "grant.expires", AT),
        lie("to be passed on", |g, _| g.depth = 1, "grant.depth", AT),
        lie("of no fragment", |g, _| g.fragments.clear(), "grant.fragments", AT),
        lie("of an unknown fragment", |g, _| g.fragments.push(FragmentIndex(4)), "grant.fragments", AT),
        lie(
            "of a fragment of others",
            |g, _| {
                g.fragments.push(FragmentIndex(1));
            },
            "grant.issuer",
            AT,
        ),
        lie("of another module", |g, _| g.modules = vec![digest("x")], "grant.module", AT),
        lie("of more modules", |g, _| g.modules.push(digest("x")), "grant.module", AT),
        lie("releases more", |g, _| g.releases.push(object("x")), "grant.releases", AT),
        lie("rests on nothing", |g, _| g.prev.clear(), "grant.task", AT),
        lie("rests on more", |g, b| g.prev.push(b["manager"]), "grant.task", AT),
        lie("of another task", |g, _| g.task = TaskId::new(digest("x")), "receipt.request", AT),
        lie(
            "under another policy",
            |g, _| {
                g.subject = GrantSubject::Policy(digest("x"));
            },
            "grant.policy",
            AT,
        ),
        lie("expired", |g, _| g.expires = time(19), "grant.expires", REPORT),
        lie(
            "to another enclave",
            |g, _| g.subject = GrantSubject::Enclave(key("enclave-south").enclave_id()),
            "grant.missing",
            REPORT,
        ),
        lie("releases nothing", |g, _| g.releases.clear(), "grant.missing", REPORT),
        lie("less fuel than used", |g, _| g.fuel = Fuel(499_999_999), "receipt.report", REPORT),
        lie("less money than used", |g, _| g.budget = MicroUsd(56), "receipt.report", REPORT),
        ("a holder's, expired", G("r2/grant-0-client", |g, _| g.expires = time(1019)), "grant.expires", "r2/report-0"),
        (
            "a holder's, without the key",
            G("r2/grant-0-client", |g, _| g.releases.clear()),
            "grant.missing",
            "r2/report-0",
        ),
        (
            "an owner's of an output, without the key",
            G("r1/grant-3-west", |g, _| g.releases.clear()),
            "grant.missing",
            "r1/report-3",
        ),
        (
            "an owner's of an output, of another object",
            G("r1/grant-3-west", |g, _| g.releases = vec![object("x")]),
            "grant.missing",
            "r1/report-3",
        ),
        ("a holder's limit on work", G("r2/grant-0-client", |g, _| g.fuel = Fuel(1)), "receipt.report", "r2/report-0"),
    ]);
}

#[test]
fn grants_of_other_tasks() {
    use Lie::{Grant as G, Report as R};
    check([
        (
            "one of the first round under a report of the second",
            R("r2/report-0", |r, b| {
                let mut granted = vec![b["r1/grant-0-north"], b["r2/grant-0-north"], b["r2/grant-0-client"]];
                granted.sort_unstable();
                r.prev.splice(2.., granted);
            }),
            "grant.task",
            "r2/report-0",
        ),
        (
            "one of the first round in place of the second's",
            R("r2/report-0", |r, b| {
                let mut granted = vec![b["r1/grant-0-north"], b["r2/grant-0-client"]];
                granted.sort_unstable();
                r.prev.splice(2.., granted);
            }),
            "grant.task",
            "r2/report-0",
        ),
        (
            "of the first round's task, given in the second",
            G("r2/grant-0-north", |g, b| {
                (g.task, g.prev) = (TaskId::new(b["r1/request"]), vec![b["r1/request"]]);
            }),
            "grant.releases",
            "r2/grant-0-north",
        ),
        (
            "of the second task, resting on the first",
            G("r2/grant-0-north", |g, b| {
                g.prev = vec![b["r1/request"]];
            }),
            "grant.task",
            "r2/grant-0-north",
        ),
    ]);
}

#[test]
fn reports() {
    use Lie::Report as R;
    const AT: &str = "r1/report-0";
    let lie = |what, change| (what, R(AT, change), "receipt.report", AT);
    check([
        lie("another module", |r, _| r.module = digest("x")),
        lie("another input", |r, _| r.inputs[0] = digest("x")),
        lie("an input less", |r, _| r.inputs.clear()),
        lie("an input more", |r, _| r.inputs.push(r.inputs[0])),
        lie("more fuel than asked for", |r, _| r.usage.fuel = Fuel(1_000_000_001)),
        lie("more fuel than granted", |r, _| r.usage.fuel = Fuel(900_000_001)),
        lie("more memory", |r, _| r.usage.memory_peak = Bytes(Bytes::mib(512).0 + 1)),
        lie("more time", |r, _| r.usage.micros = 61_000_001),
        lie("dearer than granted", |r, _| r.usage.micros = 33_100_000),
        lie("another lease", |r, _| r.lease = LeaseId(2)),
        lie("another fragment", |r, _| r.fragment = FragmentIndex(1)),
        lie("no fragment", |r, _| r.fragment = FragmentIndex(9)),
        lie("by another enclave", |r, _| r.enclave = key("enclave-south")),
        lie("begun before the lease", |r, _| r.started = UnixTime(T0 - 51)),
        lie("ended before it began", |r, _| r.finished = r.started.minus(1)),
        lie("ended after the lease", |r, _| r.finished = time(271)),
        lie("rests on nothing", |r, _| r.prev.clear()),
        lie("rests on an allocation alone", |r, _| r.prev.truncate(1)),
        lie("allocation and passport swapped", |r, _| r.prev.swap(0, 1)),
        lie("rests on a request too", |r, b| r.prev.push(b["r1/request"])),
        lie("rests on a grant twice", |r, b| r.prev.push(b["r1/grant-0-north"])),
        ("without a grant", R(AT, |r, _| r.prev.truncate(2)), "grant.missing", AT),
        ("another task", R(AT, |r, _| r.task = TaskId::new(digest("x"))), "receipt.request", AT),
        ("by nobody", R(AT, |r, _| r.enclave = key("attacker")), "receipt.report", AT),
    ]);
    let reducer = |what, change| (what, R("r1/report-3", change), "receipt.report", "r1/report-3");
    check([
        reducer("under the passport of another", |r, b| r.prev[1] = b["r1/passport-enclave-north"]),
        reducer("under the allocation of another", |r, b| r.prev[0] = b["r1/allocation-0"]),
        reducer("with the grant of another fragment", |r, b| {
            r.prev.insert(2, b["r1/grant-0-north"]);
            r.prev[2..7].sort_unstable();
        }),
        reducer("grants not in order", |r, _| r.prev.swap(2, 3)),
        reducer("a grant after the reports", |r, _| r.prev[5..7].swap(0, 1)),
        reducer("an input left out", |r, _| {
            r.prev.pop();
            r.inputs.pop();
        }),
        reducer("a report more", |r, _| r.prev.push(r.prev[6])),
        reducer("inputs in another order", |r, _| {
            r.prev.swap(6, 7);
            r.inputs.swap(0, 1);
        }),
        reducer("one input twice", |r, _| {
            r.prev[7] = r.prev[6];
            r.inputs[1] = r.inputs[0];
        }),
        reducer("another output of a trainer", |r, _| r.inputs[2] = output("r1/log-2").commitment),
        reducer("begun before its inputs were there", |r, _| (r.started, r.finished) = (UnixTime(T0 - 31), time(60))),
        (
            "a report of the first round",
            R("r2/report-3", |r, b| {
                let at = r.prev.iter().position(|d| *d == b["r2/report-0"]).unwrap();
                r.prev[at] = b["r1/report-0"];
                r.inputs[0] = output("r1/output-0").commitment;
            }),
            "receipt.report",
            "r2/report-3",
        ),
        ("after its passport", R("r1/report-1", |r, _| r.finished = time(200)), "receipt.report", "r1/report-3"),
    ]);
}

#[test]
fn one_check_is_enough_to_refuse() {
    // Lies that other checks would find as well in a world of ordinary numbers.
    let claim = |bend: &dyn Fn(&str, Said<'_>, &Before)| {
        let world = build(Plan { rounds: 1, ..Plan::default() }, bend);
        verify(&world.receipt()).map(|_| ()).map_err(|invalid| invalid.why.claim)
    };
    let alike = |label: &str, said: Said<'_>, before: &Before| match (label, said) {
        (_, Said::Enclave(judged)) => {
            judged.configuration.provider = legation_core::ProviderId::new("one-for-all").unwrap();
            judged.configuration.region = Region::new("eu").unwrap();
        }
        ("r1/report-3", Said::Report(report)) => report.prev[1] = before["r1/passport-enclave-north"],
        _ => (),
    };
    assert_eq!(claim(&alike), Err("passport of the report".to_owned()));
    let slow = |micros: u64| {
        claim(&move |label, said, _| match (label, said) {
            (_, Said::Grant(grant)) => grant.budget = MicroUsd(10_000),
            ("r1/report-0", Said::Report(report)) => report.usage.micros = micros,
            _ => (),
        })
    };
    assert_eq!(slow(61_000_000), Ok(()), "a second more than asked for is the engine's tick");
    assert_eq!(slow(61_000_001), Err("time used".to_owned()));
}

#[test]
fn executions_outside_their_passport_and_request() {
    let finished = |at: u64, allocation: u64, expires: u64| {
        let world = build(Plan::single(), &|_, said, _| match said {
            Said::Request(request) => request.expires = time(expires),
            Said::Grant(grant) => grant.expires = time(50),
            Said::Allocation(it) => it.until = time(allocation),
            Said::Report(report) => report.finished = time(at),
            _ => (),
        });
        verify(&world.receipt()).map(|_| ()).map_err(|invalid| invalid.why.claim)
    };
    let refused = Err("time of the execution".to_owned());
    assert_eq!(finished(605, 1000, 3600), Ok(()));
    assert_eq!(finished(606, 1000, 3600), refused, "the passport ended at 605");
    assert_eq!(finished(260, 1000, 200), Ok(()));
    assert_eq!(finished(261, 1000, 200), refused, "the request ended at 200");
    // A passport issued after the execution proves nothing of it.
    let issued = |at: u64| {
        let world = build(Plan::single(), &|_, said, _| {
            if let Said::Passport(passport) = said {
                passport.issued = time(at);
            }
        });
        verify(&world.receipt()).map(|_| ()).map_err(|invalid| invalid.why.claim)
    };
    assert_eq!(issued(90), Ok(()));
    assert_eq!(issued(91), refused);
}

#[test]
fn failures() {
    let failed = |plan: Plan<'_>, lie: Lie| {
        let world = build(plan, &|label, said, before| lie.tell(label, said, before));
        verify(&world.receipt())
            .map(|_| ())
            .map_err(|invalid| (invalid.why.check, invalid.at == world.at("r1/report-3")))
    };
    // A reducer cannot read what a fragment left that failed, or that left nothing.
    let broken: Change<Report> = |r, _| r.outcome = Outcome::Failed { reason: "trap".to_owned() };
    let silent: Change<Report> = |r, _| r.output = None;
    for (what, change) in [("failed", broken), ("silent", silent)] {
        let world = build(Plan { rounds: 1, twice: Some("report"), ..Plan::default() }, &|label, said, before| match (
            label, said,
        ) {
            ("r1/report-0-twin", Said::Report(twin)) => change(twin, before),
            ("r1/report-3", Said::Report(report)) => {
                for digest in report.prev.iter_mut().filter(|d| **d == before["r1/report-0"]) {
                    *digest = before["r1/report-0-twin"];
                }
            }
            ("r1/aggregate", Said::Aggregate(aggregate)) => {
                aggregate.reports[0] = before["r1/report-0-twin"];
                aggregate.prev[1] = aggregate.reports[0];
            }
            _ => (),
        });
        let invalid = verify(&world.receipt()).unwrap_err();
        let refused = (invalid.at.as_str(), invalid.why.claim.as_str());
        assert_eq!(refused, (world.at("r1/report-3").as_str(), "report behind an input"), "{what}");
    }
    // A failure is within its bounds too.
    let plan = Plan { rounds: 1, failed: &[3], ..Plan::default() };
    assert_eq!(failed(plan, Lie::Report("none", |_, _| ())), Ok(()));
    for change in [
        (|r, _| r.usage.fuel = Fuel(900_000_001)) as Change<Report>,
        |r, _| r.module = digest("x"),
        |r, _| r.finished = time(606),
    ] {
        assert_eq!(failed(plan, Lie::Report("r1/report-3", change)), Err(("receipt.report".to_owned(), true)));
    }
    // But a clock that ran out is only noticed afterwards.
    assert_eq!(failed(plan, Lie::Report("r1/report-3", |r, _| r.usage.micros = 75_000_000)), Ok(()));
}

#[test]
fn aggregates() {
    use Lie::Aggregate as A;
    const AT: &str = "r1/aggregate";
    let lie = |what, change| (what, A(AT, change), "receipt.aggregate", AT);
    check([
        lie("leaves a report out", |a, _| {
            a.reports.pop();
            a.prev.pop();
        }),
        lie("leaves one out of its list", |a, _| {
            a.reports.pop();
        }),
        lie("leaves one out of what it rests on", |a, _| {
            a.prev.pop();
        }),
        lie("names none", |a, _| {
            a.reports.clear();
            a.prev.truncate(1);
        }),
        lie("another order", |a, _| {
            a.reports.swap(0, 1);
            a.prev.swap(1, 2);
        }),
        lie("one twice", |a, _| {
            a.reports.push(a.reports[0]);
            a.prev.push(a.prev[1]);
        }),
        lie("another result", |a, _| a.result = Some(output("x"))),
        lie("no result", |a, _| a.result = None),
        lie("another fragment", |a, _| a.fragment = FragmentIndex(0)),
        lie("another task", |a, _| a.task = TaskId::new(digest("x"))),
        lie("by another enclave", |a, _| a.enclave = key("enclave-south")),
        lie("by nobody", |a, _| a.enclave = key("attacker")),
        lie("over a trainer's report", |a, b| {
            a.prev[0] = b["r1/report-0"];
        }),
        lie("rests on no report", |a, b| a.prev[0] = b["r1/request"]),
        lie("rests on nothing", |a, _| a.prev.clear()),
        (
            "of the first round in the second",
            A("r2/aggregate", |a, b| {
                a.prev = vec![b["r1/report-3"], b["r1/report-0"], b["r1/report-1"], b["r1/report-2"]];
                a.reports = a.prev[1..].to_vec();
            }),
            "receipt.aggregate",
            "r2/aggregate",
        ),
    ]);
    // A fragment that reads no others' outputs has nothing to aggregate, nor has one that failed.
    let refused = |bend: &dyn Fn(&str, Said<'_>, &Before)| {
        let world = build(Plan { rounds: 1, ..Plan::default() }, bend);
        let invalid = verify(&world.assemble_roots(vec![world.labels[AT]]).unwrap()).unwrap_err();
        assert_eq!(invalid.at, world.at(AT), "{invalid}");
        invalid.why.claim
    };
    let leaf = |label: &str, said: Said<'_>, before: &Before| {
        A(AT, |a, b| {
            (a.enclave, a.fragment, a.result) = (key("enclave-north"), FragmentIndex(0), Some(output("r1/output-0")));
            (a.reports, a.prev) = (Vec::new(), vec![b["r1/report-0"]]);
        })
        .tell(label, said, before);
    };
    assert_eq!(refused(&leaf), "reports it aggregates");
    let failed = |label: &str, said: Said<'_>, before: &Before| {
        // The builder makes no aggregate of what failed: this one was meant for the twin.
        match (label, said) {
            ("r1/report-3-twin", Said::Report(twin)) => {
                (twin.outcome, twin.output) = (Outcome::Failed { reason: "trap".to_owned() }, None);
            }
            (AT, Said::Aggregate(aggregate)) => {
                (aggregate.prev[0], aggregate.result) = (before["r1/report-3-twin"], None);
            }
            _ => (),
        }
    };
    let world = build(Plan { rounds: 1, twice: Some("reduction"), ..Plan::default() }, &failed);
    let invalid = verify(&world.receipt()).unwrap_err();
    assert_eq!((invalid.at, invalid.why.claim.as_str()), (world.at(AT), "its own report"));
}

#[test]
fn nothing_is_reported_or_aggregated_twice() {
    for (what, twin, check) in [
        ("report", "r1/report-0-twin", "receipt.report"),
        ("reduction", "r1/report-3-twin", "receipt.report"),
        ("aggregate", "r1/aggregate-twin", "receipt.aggregate"),
    ] {
        let world = build(Plan { twice: Some(what), ..Plan::default() }, &crate::world::no_bend);
        let invalid = verify(&world.receipt()).unwrap_err();
        assert_eq!((invalid.why.check.as_str(), invalid.at), (check, world.at(twin)), "{what}");
    }
}

#[test]
fn who_signs_in_place_of_the_signer_is_found() {
    let whole = build(Plan::default(), &crate::world::no_bend);
    for label in whole.labels.keys() {
        for forger in [Forger::Attacker, Forger::Impostor] {
            let world = build(Plan { forged: Some((label, forger)), ..Plan::default() }, &crate::world::no_bend);
            let invalid = verify(&world.receipt()).expect_err(label);
            assert_eq!((invalid.why.check.as_str(), invalid.at), ("receipt.signature", world.at(label)), "{label}");
        }
    }
}
