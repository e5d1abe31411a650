//! Rules of placement x what is asked -> verdict, limits, and what makes two questions one.

use std::collections::BTreeSet;

use legation_core::{
    Allowance, Bytes, Digest, MicroUsd, Region, Rejection, TenantId,
    claims::{Attested, Tcb, TcbStatus},
    prefer::{DataTerms, Priority, Sensitivity},
    task::Demand,
};
use legation_policy::{Asked, Options, PlaceQuestion, Policy, Scope, dry_run, place_dry_run};

use crate::world::{Guest, NOW, load, references};

/// What is asked, owned.
#[derive(Clone)]
struct Work {
    tenant: TenantId,
    data: DataTerms,
    priority: u8,
    module: Digest,
    demand: Demand,
    price: u64,
}

fn work() -> Work {
    Work {
        tenant: TenantId::new("acme").unwrap(),
        data: DataTerms { regulations: BTreeSet::from(["gdpr".to_owned()]), ..DataTerms::default() },
        priority: 4,
        module: Digest::of(b"module"),
        demand: Demand::default(),
        price: 20_000,
    }
}

impl Work {
    fn asked(&self) -> Asked<'_> {
        Asked {
            tenant: &self.tenant,
            data: &self.data,
            priority: Priority(self.priority),
            module: self.module,
            demand: self.demand,
            budget: MicroUsd(1_000_000),
            price_hour: MicroUsd(self.price),
            cost_max: MicroUsd(self.price / 60),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

const ADMIT: &str = "@id(\"all\") permit (principal, action == Action::\"admit\", resource);";

/// A policy that admits everybody and has these rules of placement.
fn placing(rules: &str) -> Policy {
    load(&[ADMIT, rules].concat()).unwrap()
}

/// One permit of placement with this condition.
fn permit(condition: &str) -> Policy {
    placing(&format!("@id(\"p\") permit (principal, action == Action::\"place\", resource) when {{ {condition} }};"))
}

fn place(policy: &Policy, guest: &Guest, work: &Work) -> Result<Allowance, Rejection> {
    policy.place(guest.subject(), &work.asked(), NOW)
}

#[test]
fn conditions_see_the_enclave_the_request_and_whose_work_it_is() {
    type Change = fn(&mut Work);
    let same: Change = |_| {};
    let table: [(&str, Change, bool); 20] = [
        ("principal == Tenant::\"acme\"", same, true),
        ("principal == Tenant::\"acme\"", |w| w.tenant = TenantId::new("other").unwrap(), false),
        ("resource.region like \"eu-*\"", same, true),
        ("resource in Image::\"known\"", same, true),
        ("resource in Image::\"other\"", same, false),
        ("resource.confidence.region >= 900", same, false),
        ("context.sensitivity == Sensitivity::\"confidential\"", same, true),
        (
            "context.sensitivity in [Sensitivity::\"public\", Sensitivity::\"internal\"]",
            |w| w.data.sensitivity = Sensitivity::Internal,
            true,
        ),
        ("context.regulations.contains(\"gdpr\")", same, true),
        ("context.regulations.isEmpty()", |w| w.data.regulations.clear(), true),
        ("context.residency.contains(\"eu-north\")", same, false),
        (
            "context.residency.contains(resource.region)",
            |w| w.data.residency = BTreeSet::from([Region::new("eu-north").unwrap()]),
            true,
        ),
        ("context.priority <= 4", |w| w.priority = 5, false),
        ("context.price_hour <= 20000 && context.cost_max < 400", same, true),
        ("context.price_hour <= 20000", |w| w.price = 20_001, false),
        ("context.memory <= 67108864 && context.cpu == 100 && context.time == 60000", same, true),
        ("context.fuel > 1", |w| w.demand.fuel.0 = u64::MAX, true),
        ("context.gpus == 0 && context.output < 20000000 && context.budget == 1000000", same, true),
        ("context.now < datetime(\"2027-01-01\")", same, true),
        ("context.now > datetime(\"2027-01-01\")", same, false),
    ];
    for (condition, change, allowed) in table {
        let said = place(&permit(condition), &Guest::milan(), &work().with(change));
        assert_eq!(said.is_ok(), allowed, "{condition}: {said:?}");
    }
    let module = format!("context.module == \"{}\"", Digest::of(b"module"));
    place(&permit(&module), &Guest::milan(), &work()).unwrap();
}

#[test]
fn without_rules_nothing_is_asked_and_with_them_what_none_permits_is_refused() {
    let open = load(ADMIT).unwrap();
    assert!(!open.places());
    assert_eq!(place(&open, &Guest::milan(), &work()), Ok(Allowance::default()));
    // A rule without an action is about admission, as it was before there was another.
    assert!(!load("@id(\"a\") permit (principal, action, resource);").unwrap().places());
    let policy = permit("context.regulations.contains(\"gdpr\") && resource.region == \"us\"");
    assert!(policy.places());
    policy.admit(Guest::milan().subject(), NOW).unwrap();
    let why = place(&policy, &Guest::milan(), &work()).unwrap_err();
    assert_eq!(why.check, "policy.p");
    assert_eq!((why.expected.as_str(), why.got.as_str()), ("resource.region == \"us\"", "region \"eu-north\""));
    let why = place(&policy, &Guest::milan(), &work().with(|w| w.data.regulations.clear())).unwrap_err();
    assert!(why.expected.ends_with("(the first of 2 conditions that fail)") && why.got == "regulations none", "{why}");
}

#[test]
fn a_forbid_wins_and_names_what_it_read() {
    let policy = placing(
        "@id(\"p\") permit (principal, action == Action::\"place\", resource);
         @id(\"f\") @fix(\"ask the data officer\") forbid (principal == Tenant::\"acme\", action == Action::\"place\", resource)
         when { context.sensitivity == Sensitivity::\"restricted\" };",
    );
    place(&policy, &Guest::milan(), &work()).unwrap();
    let restricted = work().with(|w| w.data.sensitivity = Sensitivity::Restricted);
    let why = place(&policy, &Guest::milan(), &restricted).unwrap_err();
    assert_eq!((why.check.as_str(), why.fix.as_str()), ("policy.f", "ask the data officer"));
    assert!(why.got.contains("tenant acme") && why.got.contains("sensitivity restricted"), "{}", why.got);
}

#[test]
fn limits_are_the_least_of_all_permits_that_hold_and_follow_what_was_attested() {
    let policy = placing(
        "@id(\"wide\") @limit_memory(\"8 GiB\") @limit_cpu(\"4\") permit (principal, action == Action::\"place\", resource);
         @id(\"behind\") @limit_memory(\"256 MiB\") permit (principal, action == Action::\"place\", resource)
         when { resource.tcb.status == TcbStatus::\"out-of-date\" };
         @id(\"free\") permit (principal, action == Action::\"place\", resource);",
    );
    let current = place(&policy, &Guest::milan(), &work()).unwrap();
    assert_eq!((current.memory, current.rules.as_slice()), (Some(Bytes::gib(8)), &["test/wide".to_owned()][..]));
    let behind = Guest::milan().with(|c| {
        c.tcb = Attested::hardware(Tcb { status: TcbStatus::OutOfDate, ..c.tcb.value.clone() });
    });
    let behind = place(&policy, &behind, &work()).unwrap();
    assert_eq!(behind.to_string(), "at most cpu 4.000 cores, memory 256 MiB by test/behind, test/wide");
}

#[test]
fn questions_are_one_where_rules_cannot_tell_them_apart() {
    let policy = permit("context.priority < 9 && resource.region like \"eu-*\"");
    let same = policy.sees(&work().asked());
    let changes: [fn(&mut Work); 3] =
        [|w| w.module = Digest::of(b"other"), |w| w.data.regulations.clear(), |w| w.price = 1];
    for change in changes {
        assert_eq!(policy.sees(&work().with(change).asked()), same);
    }
    let others: [fn(&mut Work); 2] = [|w| w.priority = 5, |w| w.tenant = TenantId::new("other").unwrap()];
    for change in others {
        assert_ne!(policy.sees(&work().with(change).asked()), same);
    }
    assert!(!policy.depends_on_time());
    for timed in
        ["context.now > datetime(\"2026-01-01\")", "resource in Image::\"known\"", "resource.tcb.shortfall == 0"]
    {
        assert!(permit(timed).depends_on_time(), "{timed}");
    }
}

#[test]
fn tenants_speak_of_their_own_work_and_need_not_speak_of_admission() {
    let scope = Scope::Tenant(TenantId::new("acme").unwrap());
    let load = |text: &str| Policy::load("tenant/acme", text, references(), Options::of(scope.clone(), false));
    let rules = "@id(\"p\") permit (principal == Tenant::\"acme\", action == Action::\"place\", resource);";
    let policy = load(rules).unwrap();
    policy.admit(Guest::milan().subject(), NOW).unwrap();
    place(&policy, &Guest::milan(), &work()).unwrap();
    let problems = load(&rules.replace("acme", "other")).unwrap_err().problems;
    assert_eq!(problems[0].check, "policy.entity");
    let problems = load("@id(\"f\") forbid (principal, action, resource);").unwrap_err().problems;
    assert_eq!(problems[0].check, "policy.permit");
}

#[test]
fn a_dry_run_says_which_enclaves_could_take_work() {
    let policy = permit("resource.region like \"eu-*\" && context.price_hour < 1000000");
    let mut far = Guest::milan();
    far.configuration.region = Region::new("us").unwrap();
    let near = Guest::milan();
    let all = || [("near".to_owned(), near.subject()), ("far".to_owned(), far.subject())];
    let Work { tenant, data, demand, .. } = work();
    let (priority, budget) = (Priority(4), MicroUsd(1));
    let question = PlaceQuestion { tenant, data, priority, module: None, demand, budget };
    let run = place_dry_run(&policy, &question, all(), NOW);
    assert_eq!((run.affirmed, run.refused), (1, 1));
    assert_eq!(run.reasons[0].named, ["far"]);
    assert_eq!(dry_run(&policy, all(), NOW).refused, 0);
}
