//! One fragment on one enclave, in which somebody who has a key lies: every signature is right, and everything that rests on the
//! lie is built on it.

use legation_core::{
    Allowance, Bytes, Encryption, FragmentIndex, Fuel, LeaseId, MicroUsd, Millicores, Millis, Region, Requirement,
    TaskId, UnixTime,
    claims::{Anchor, Attested, Role, TcbStatus, TeeKind},
    prefer::{Axis, Sensitivity, Spread, SpreadRule},
    statement::{Assurance, Diversity, Grace, GrantSubject, Office, Outcome, Scope, Tier},
    task::Input,
};

use super::Receipts;
use crate::{
    party::Party,
    world::{Before, Forger, Plan, Said, T0, build, digest, key, no_bend, object, output},
};

type Lie = fn(&str, Said<'_>, &Before);

fn time(seconds: u64) -> UnixTime {
    UnixTime(T0 + seconds)
}

fn told(all: &mut Receipts, good: bool, plan: Plan<'_>, lies: &[(&str, Lie)]) {
    for (name, lie) in lies {
        let receipt = build(plan, lie).receipt();
        if good {
            all.good(name, &receipt);
        } else {
            all.bad(name, &receipt);
        }
    }
}

#[test]
fn receipts_of_one_fragment() {
    let mut all = Receipts::default();
    told(&mut all, true, Plan::single(), GOOD);
    told(&mut all, true, Plan { failed: &[0], ..Plan::single() }, FAILED);
    told(&mut all, false, Plan::single(), PLACEMENTS);
    told(&mut all, false, Plan::single(), GRANTS);
    told(&mut all, false, Plan::single(), REPORTS);
    let labels = build(Plan::single(), &no_bend).labels;
    for label in labels.keys() {
        for (how, forger) in [("by the attacker", Forger::Attacker), ("by an impostor", Forger::Impostor)] {
            let world = build(Plan { forged: Some((label, forger)), ..Plan::single() }, &no_bend);
            all.bad(&format!("{label} signed {how}"), &world.receipt());
        }
    }
    all.settle("receipts-single.json");
}

#[test]
fn who_stands_behind_one_fragment() {
    let mut all = Receipts::default();
    told(&mut all, false, Plan::single(), APPOINTMENTS);
    told(&mut all, false, Plan::single(), ENCLAVES);
    told(&mut all, false, Plan::single(), REQUESTS);
    all.settle("receipts-single-parties.json");
}

fn allowed(change: fn(&mut Allowance)) -> Option<Allowance> {
    let mut allowance = Allowance { rules: vec!["appraisal/small".to_owned()], ..Allowance::default() };
    change(&mut allowance);
    Some(allowance)
}

const GOOD: &[(&str, Lie)] = &[
    ("good: as it is", |_, _, _| ()),
    ("good: a policy grant where nothing is read", |_, said, _| match said {
        Said::Request(it) => it.fragments[0].inputs.clear(),
        Said::Grant(it) => {
            let require = Requirement::parse("tee in [dev-snp, sev-snp] and price <= 0.03 usd/h").unwrap();
            it.subject = GrantSubject::Policy(require.digest());
            it.releases.clear();
        }
        Said::Report(it) => it.inputs.clear(),
        _ => (),
    }),
    ("good: the lease ended a minute ago by another clock", |_, said, _| {
        if let Said::Report(it) = said {
            it.finished = time(270);
        }
    }),
    ("good: a second more than asked for is the engine's tick", |_, said, _| match said {
        Said::Grant(it) => it.budget = MicroUsd(10_000),
        Said::Report(it) => it.usage.micros = 61_000_000,
        _ => (),
    }),
    ("good: nothing written, nothing logged", |_, said, _| {
        if let Said::Report(it) = said {
            (it.output, it.log) = (None, None);
        }
    }),
    ("good: production", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.claims.anchor = Anchor::Production("amd-milan".to_owned());
            it.claims.tee = Attested::hardware(TeeKind::SevSnp);
        }
    }),
    ("good: admitted for a time by a rule", |_, said, _| {
        if let Said::Passport(it) = said {
            it.ear.grace =
                Some(Grace { until: time(900), rule: "late".to_owned(), why: "update the firmware".to_owned() });
        }
    }),
    ("good: a verifier that knows more of the firmware", |_, said, _| {
        if let Said::Passport(it) = said {
            it.ear.tcb.status = TcbStatus::UpToDate;
        }
    }),
    ("good: a verifier trusted with this tenant and kind", |label, said, _| {
        if let (Said::Appointment(it), "verifier") = (said, label) {
            let tenants = Some(vec!["clinic".parse().unwrap()]);
            it.scope = Some(Scope { tenants, kinds: Some(vec![TeeKind::SevSnp, TeeKind::DevSnp]) });
        }
    }),
    ("good: limits that are met", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.limits = allowed(|l| (l.egress, l.memory) = (Some(Bytes::mib(1)), Some(Bytes::mib(512))));
        }
    }),
    ("good: a requirement of many parts", |_, said, _| {
        if let Said::Request(it) = said {
            let source = "not (region in [us, \"mars\"] or gpus >= 1) and memory >= 15.5 GiB and cpu > 7.999 cores and \
                          confidence(region) >= 0.3 and confidence(tee) == 1 and (debug or development == yes) and \
                          tcb.status == unknown and tcb.shortfall == 0 and image == agent-1 and image != agent-2 and \
                          confidential and price < 0.0226 usd/h and provider != x and grace == no and product == milan";
            it.require = Requirement::parse(source).unwrap();
        }
    }),
    ("good: data that may be there", |_, said, _| {
        if let Said::Request(it) = said {
            it.data.residency = ["eu-north".parse().unwrap(), "eu-south".parse().unwrap()].into();
            it.data.sensitivity = Sensitivity::Restricted;
            it.data.regulations = ["gdpr".to_owned()].into();
        }
    }),
    ("good: preferences", |_, said, _| {
        if let Said::Request(it) = said {
            it.prefer.near = Some("eu-north".parse().unwrap());
            it.prefer.within = Some(Millis(20));
            it.prefer.weights.cost = 1000;
            it.prefer.spread = vec![Spread { axis: Axis::Provider, rule: SpreadRule::Distinct }];
        }
    }),
    ("good: names that steer terminals", |_, said, _| {
        if let Said::Request(it) = said {
            it.name = "two\nlines \u{1b}[31mred \u{202e}".to_owned();
        }
    }),
];

const FAILED: &[(&str, Lie)] = &[
    ("good: it failed", |_, _, _| ()),
    ("good: it failed, and its clock ran out", |_, said, _| {
        if let Said::Report(it) = said {
            it.usage.micros = 75_000_000;
        }
    }),
];

const APPOINTMENTS: &[(&str, Lie)] = &[
    ("verifier: by another operator", |label, said, _| {
        if let (Said::Appointment(it), "verifier") = (said, label) {
            it.operator = key("attacker");
        }
    }),
    ("manager: another key", |label, said, _| {
        if let (Said::Appointment(it), "manager") = (said, label) {
            it.key = key("attacker");
        }
    }),
    ("verifier: another office", |label, said, _| {
        if let (Said::Appointment(it), "verifier") = (said, label) {
            it.office = Office::Manager;
        }
    }),
    ("verifier: ended before", |label, said, _| {
        if let (Said::Appointment(it), "verifier") = (said, label) {
            it.not_after = time(4);
        }
    }),
    ("manager: begins after", |label, said, _| {
        if let (Said::Appointment(it), "manager") = (said, label) {
            it.not_before = time(71);
        }
    }),
    ("verifier: ends before its passports do", |label, said, _| {
        if let (Said::Appointment(it), "verifier") = (said, label) {
            it.not_after = time(604);
        }
    }),
    ("verifier: trusted with other tenants", |label, said, _| {
        if let (Said::Appointment(it), "verifier") = (said, label) {
            it.scope = Some(Scope { tenants: Some(vec!["bank".parse().unwrap()]), kinds: None });
        }
    }),
    ("verifier: trusted with other machines", |label, said, _| {
        if let (Said::Appointment(it), "verifier") = (said, label) {
            it.scope = Some(Scope { tenants: None, kinds: Some(vec![TeeKind::Tdx]) });
        }
    }),
];

const ENCLAVES: &[(&str, Lie)] = &[
    ("enclave: keys of a manager", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.binding.role = Role::Manager;
        }
    }),
    ("enclave: keys end before the passport", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.binding.not_after = time(604);
        }
    }),
    ("enclave: keys begin after it is issued", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.binding.not_before = time(6);
        }
    }),
    ("enclave: a root that nobody named", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.claims.anchor = Anchor::Development("x".to_owned());
        }
    }),
    ("enclave: a vendor's root for a development machine", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.claims.anchor = Anchor::Production("amd-milan".to_owned());
        }
    }),
    ("enclave: that its host may debug", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.claims.debug.value = true;
        }
    }),
    ("enclave: in a region that is not wanted", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.configuration.region = Region::new("us").unwrap();
        }
    }),
    ("enclave: too dear", |_, said, _| {
        if let Said::Enclave(it) = said {
            it.configuration.rate.core_hour = MicroUsd(27_501);
        }
    }),
    ("passport: longer than an hour", |_, said, _| {
        if let Said::Passport(it) = said {
            it.expires = it.issued.plus(3601);
        }
    }),
    ("passport: no life", |_, said, _| {
        if let Said::Passport(it) = said {
            it.expires = it.issued;
        }
    }),
    ("passport: contraindicated", |_, said, _| {
        if let Said::Passport(it) = said {
            it.ear.status = Tier::Contraindicated;
        }
    }),
    ("passport: development affirmed", |_, said, _| {
        if let Said::Passport(it) = said {
            it.ear.status = Tier::Affirming;
        }
    }),
    ("passport: more confidence", |_, said, _| {
        if let Said::Passport(it) = said {
            it.claims.product.confidence.0 = 1000;
        }
    }),
    ("passport: another security version", |_, said, _| {
        if let Said::Passport(it) = said {
            it.ear.tcb.version = "bootloader 9".to_owned();
        }
    }),
    ("passport: a better price", |_, said, _| {
        if let Said::Passport(it) = said {
            it.configuration.rate.core_hour = MicroUsd(1);
        }
    }),
    ("passport: another key", |_, said, _| {
        if let Said::Passport(it) = said {
            it.enclave = key("enclave-south");
        }
    }),
    ("passport: another sealing key", |_, said, _| {
        if let Said::Passport(it) = said {
            it.sealing = Party::new("attacker").sealing();
        }
    }),
    ("passport: rests on nothing", |_, said, _| {
        if let Said::Passport(it) = said {
            it.prev.clear();
        }
    }),
    ("passport: rests on the manager's appointment", |_, said, before| {
        if let Said::Passport(it) = said {
            it.prev = vec![before["manager"]];
        }
    }),
    ("passport: issued before its verifier was appointed", |_, said, _| {
        if let Said::Passport(it) = said {
            (it.issued, it.expires) = (UnixTime(T0 - 1061), UnixTime(T0 - 1000));
        }
    }),
];

const REQUESTS: &[(&str, Lie)] = &[
    ("request: nothing to do", |_, said, _| {
        if let Said::Request(it) = said {
            it.expires = it.created;
        }
    }),
    ("request: longer than a week", |_, said, _| {
        if let Said::Request(it) = said {
            it.expires = it.created.plus(7 * 86_400 + 1);
        }
    }),
    ("request: no compute", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].demand.cpu = Millicores(0);
        }
    }),
    ("request: more memory than any machine has", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].demand.memory = Bytes(u64::MAX);
        }
    }),
    ("request: half an accelerator more", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].demand.gpus.0 = 1500;
        }
    }),
    ("request: an argument with NUL", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].args.push("\0".to_owned());
        }
    }),
    ("request: reads what comes after", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].inputs.push(Input::Output { fragment: FragmentIndex(0) });
        }
    }),
    ("request: rests on an appointment", |_, said, before| {
        if let Said::Request(it) = said {
            it.prev.push(before["verifier"]);
        }
    }),
    ("request: replicated as a whole", |_, said, _| {
        if let Said::Request(it) = said {
            it.assurance = Assurance::Replicated { k: 3, diverse: Diversity::Chip };
        }
    }),
    ("request: a weight too large", |_, said, _| {
        if let Said::Request(it) = said {
            it.prefer.weights.fit = 1001;
        }
    }),
    ("request: near nothing", |_, said, _| {
        if let Said::Request(it) = said {
            it.prefer.within = Some(Millis(1));
        }
    }),
    ("request: apart and together", |_, said, _| {
        if let Said::Request(it) = said {
            let rule = |rule| Spread { axis: Axis::Chip, rule };
            it.prefer.spread = vec![rule(SpreadRule::Apart), rule(SpreadRule::Together)];
        }
    }),
    ("request: a regulation of no name", |_, said, _| {
        if let Said::Request(it) = said {
            it.data.regulations = ["GDPR".to_owned()].into();
        }
    }),
    ("request: data that may be where no enclave may", |_, said, _| {
        if let Said::Request(it) = said {
            it.data.residency = ["us".parse().unwrap()].into();
        }
    }),
    ("request: data that may be elsewhere only", |_, said, _| {
        if let Said::Request(it) = said {
            it.data.residency = ["mars".parse().unwrap()].into();
        }
    }),
    ("request: a budget below the grants'", |_, said, _| {
        if let Said::Request(it) = said {
            it.budget = MicroUsd(199);
        }
    }),
    ("request: a budget below the cost", |_, said, _| match said {
        Said::Request(it) => it.budget = MicroUsd(60),
        Said::Grant(it) => it.budget = MicroUsd(60),
        _ => (),
    }),
    ("request: wants production", |_, said, _| {
        if let Said::Request(it) = said {
            it.require = Requirement::parse("not development").unwrap();
        }
    }),
    ("request: wants what its evidence does not say", |_, said, _| {
        if let Said::Request(it) = said {
            it.require = Requirement::parse("not operator == acme").unwrap();
        }
    }),
    ("request: wants more confidence", |_, said, _| {
        if let Said::Request(it) = said {
            it.require = Requirement::parse("confidence(region) > 0.3 or feature == tsme").unwrap();
        }
    }),
    ("request: another module", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].module = digest("x");
        }
    }),
    ("request: data of another holder", |_, said, _| {
        if let Said::Request(it) = said
            && let Input::Sealed(input) = &mut it.fragments[0].inputs[0]
        {
            input.holder = Some(key("south"));
        }
    }),
    ("request: another owner", |_, said, _| {
        if let Said::Request(it) = said {
            it.fragments[0].owner = None;
        }
    }),
];

const PLACEMENTS: &[(&str, Lie)] = &[
    ("allocation: by another manager", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.manager = key("attacker");
        }
    }),
    ("allocation: under the verifier's appointment", |_, said, before| {
        if let Said::Allocation(it) = said {
            it.prev[1] = before["verifier"];
        }
    }),
    ("allocation: rests on the request alone", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.prev.truncate(1);
        }
    }),
    ("allocation: request and appointment swapped", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.prev.swap(0, 1);
        }
    }),
    ("allocation: replaces what is no allocation", |_, said, before| {
        if let Said::Allocation(it) = said {
            it.prev.push(before["manager"]);
        }
    }),
    ("allocation: of no fragment", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.fragment = FragmentIndex(4);
        }
    }),
    ("allocation: of an unknown task", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.task = TaskId::new(digest("x"));
        }
    }),
    ("allocation: from before the request", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.from = UnixTime(T0 - 61);
        }
    }),
    ("allocation: ends before it begins", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.until = it.from.minus(1);
        }
    }),
    ("allocation: to another enclave", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.enclave = key("enclave-south").enclave_id();
        }
    }),
    ("allocation: another region", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.region = Region::new("us").unwrap();
        }
    }),
    ("allocation: a lower price", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.price_hour = MicroUsd(1);
        }
    }),
    ("allocation: a price that the request refuses", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.price_hour = MicroUsd(30_001);
        }
    }),
    ("allocation: begins later", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.from = time(81);
        }
    }),
    ("allocation: a seat that nobody asked for", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.seat = Some(legation_core::swarm::SeatRef { lease: LeaseId(1), round: 1 });
        }
    }),
    ("limits: less compute than asked for", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.limits = allowed(|l| l.cpu = Some(Millicores(999)));
        }
    }),
    ("limits: less fuel", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.limits = allowed(|l| l.fuel = Some(Fuel(999_999_999)));
        }
    }),
    ("limits: less time", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.limits = allowed(|l| l.time = Some(Millis(59_999)));
        }
    }),
    ("limits: more leaves it than may", |_, said, _| match said {
        Said::Allocation(it) => it.limits = allowed(|l| l.egress = Some(Bytes::mib(1))),
        Said::Report(it) => it.log.as_mut().unwrap().size = Bytes::mib(1),
        _ => (),
    }),
    ("limits: sealed better than anything is", |_, said, _| {
        if let Said::Allocation(it) = said {
            it.limits = allowed(|l| l.encryption = Some(Encryption::Aes256GcmMlKem1024));
        }
    }),
];

const GRANTS: &[(&str, Lie)] = &[
    ("grant: by somebody else", |_, said, _| {
        if let Said::Grant(it) = said {
            it.issuer = key("attacker");
        }
    }),
    ("grant: more fuel than asked for", |_, said, _| {
        if let Said::Grant(it) = said {
            it.fuel = Fuel(1_000_000_001);
        }
    }),
    ("grant: more than the budget", |_, said, _| {
        if let Said::Grant(it) = said {
            it.budget = MicroUsd(10_001);
        }
    }),
    ("grant: beyond the request's end", |_, said, _| {
        if let Said::Grant(it) = said {
            it.expires = time(3601);
        }
    }),
    ("grant: to be passed on", |_, said, _| {
        if let Said::Grant(it) = said {
            it.depth = 1;
        }
    }),
    ("grant: of no fragment", |_, said, _| {
        if let Said::Grant(it) = said {
            it.fragments.clear();
        }
    }),
    ("grant: of an unknown fragment", |_, said, _| {
        if let Said::Grant(it) = said {
            it.fragments.push(FragmentIndex(4));
        }
    }),
    ("grant: of another module", |_, said, _| {
        if let Said::Grant(it) = said {
            it.modules = vec![digest("x")];
        }
    }),
    ("grant: of more modules", |_, said, _| {
        if let Said::Grant(it) = said {
            it.modules.push(digest("x"));
        }
    }),
    ("grant: releases more", |_, said, _| {
        if let Said::Grant(it) = said {
            it.releases.push(object("x"));
        }
    }),
    ("grant: rests on nothing", |_, said, _| {
        if let Said::Grant(it) = said {
            it.prev.clear();
        }
    }),
    ("grant: rests on more", |_, said, before| {
        if let Said::Grant(it) = said {
            it.prev.push(before["manager"]);
        }
    }),
    ("grant: of another task", |_, said, _| {
        if let Said::Grant(it) = said {
            it.task = TaskId::new(digest("x"));
        }
    }),
    ("grant: under another policy", |_, said, _| {
        if let Said::Grant(it) = said {
            it.subject = GrantSubject::Policy(digest("x"));
        }
    }),
    ("grant: expired", |_, said, _| {
        if let Said::Grant(it) = said {
            it.expires = time(19);
        }
    }),
    ("grant: to another enclave", |_, said, _| {
        if let Said::Grant(it) = said {
            it.subject = GrantSubject::Enclave(key("enclave-south").enclave_id());
        }
    }),
    ("grant: releases nothing", |_, said, _| {
        if let Said::Grant(it) = said {
            it.releases.clear();
        }
    }),
    ("grant: less fuel than used", |_, said, _| {
        if let Said::Grant(it) = said {
            it.fuel = Fuel(499_999_999);
        }
    }),
    ("grant: less money than used", |_, said, _| {
        if let Said::Grant(it) = said {
            it.budget = MicroUsd(56);
        }
    }),
];

const REPORTS: &[(&str, Lie)] = &[
    ("report: another module", |_, said, _| {
        if let Said::Report(it) = said {
            it.module = digest("x");
        }
    }),
    ("report: another input", |_, said, _| {
        if let Said::Report(it) = said {
            it.inputs[0] = digest("x");
        }
    }),
    ("report: an input less", |_, said, _| {
        if let Said::Report(it) = said {
            it.inputs.clear();
        }
    }),
    ("report: more fuel than asked for", |_, said, _| {
        if let Said::Report(it) = said {
            it.usage.fuel = Fuel(1_000_000_001);
        }
    }),
    ("report: more fuel than granted", |_, said, _| {
        if let Said::Report(it) = said {
            it.usage.fuel = Fuel(900_000_001);
        }
    }),
    ("report: more memory", |_, said, _| {
        if let Said::Report(it) = said {
            it.usage.memory_peak = Bytes(Bytes::mib(512).0 + 1);
        }
    }),
    ("report: more time", |_, said, _| match said {
        Said::Grant(it) => it.budget = MicroUsd(10_000),
        Said::Report(it) => it.usage.micros = 61_000_001,
        _ => (),
    }),
    ("report: dearer than granted", |_, said, _| {
        if let Said::Report(it) = said {
            it.usage.micros = 33_100_000;
        }
    }),
    ("report: another lease", |_, said, _| {
        if let Said::Report(it) = said {
            it.lease = LeaseId(2);
        }
    }),
    ("report: no such fragment", |_, said, _| {
        if let Said::Report(it) = said {
            it.fragment = FragmentIndex(9);
        }
    }),
    ("report: by another enclave", |_, said, _| {
        if let Said::Report(it) = said {
            it.enclave = key("enclave-south");
        }
    }),
    ("report: by nobody", |_, said, _| {
        if let Said::Report(it) = said {
            it.enclave = key("attacker");
        }
    }),
    ("report: begun before the lease", |_, said, _| {
        if let Said::Report(it) = said {
            it.started = UnixTime(T0 - 51);
        }
    }),
    ("report: ended before it began", |_, said, _| {
        if let Said::Report(it) = said {
            it.finished = it.started.minus(1);
        }
    }),
    ("report: ended after the lease", |_, said, _| {
        if let Said::Report(it) = said {
            it.finished = time(271);
        }
    }),
    ("report: rests on nothing but an allocation", |_, said, _| {
        if let Said::Report(it) = said {
            it.prev.truncate(1);
        }
    }),
    ("report: allocation and passport swapped", |_, said, _| {
        if let Said::Report(it) = said {
            it.prev.swap(0, 1);
        }
    }),
    ("report: rests on a request too", |_, said, before| {
        if let Said::Report(it) = said {
            it.prev.push(before["r1/request"]);
        }
    }),
    ("report: rests on a grant twice", |_, said, _| {
        if let Said::Report(it) = said {
            it.prev.push(it.prev[2]);
        }
    }),
    ("report: without a grant", |_, said, _| {
        if let Said::Report(it) = said {
            it.prev.truncate(2);
        }
    }),
    ("report: names dissent where nobody was asked", |_, said, _| {
        if let Said::Report(it) = said {
            it.dissent = vec![digest("x")];
        }
    }),
    ("report: failed, with more fuel than granted", |_, said, _| {
        if let Said::Report(it) = said {
            it.outcome = Outcome::Failed { reason: "trap".to_owned() };
            (it.output, it.usage.fuel) = (Some(output("x")), Fuel(900_000_001));
        }
    }),
];
