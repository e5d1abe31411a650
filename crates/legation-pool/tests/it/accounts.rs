//! Accounts: budgets and quotas that no lease exceeds, priorities, top-ups, and the books.

use legation_core::{
    Bytes, MicroUsd, Millicores, Milligpus, Seq, TenantId, Term, UnixTime, dsse::sign, prefer::Priority,
};
use legation_pool::{AccountTerms, Command, Event, Phase, Pool, Quota, RECORD_VERSION_OLDEST, Record, TaskState};

use crate::world::*;

fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn set(terms: AccountTerms) -> Command {
    Command::SetAccount { tenant: Some(acme()), terms, as_of: None, author: "operator".into() }
}

fn budget(micro: u64) -> AccountTerms {
    AccountTerms { budget: Some(MicroUsd(micro)), ..AccountTerms::default() }
}

fn quota(quota: Quota) -> AccountTerms {
    AccountTerms { quota, ..AccountTerms::default() }
}

/// Why the fragments of a task are not placed, by check.
fn why_not(world: &World, task: legation_core::TaskId) -> Vec<String> {
    let said = world.pool.explain(task, world.now).unwrap();
    said.into_iter().flat_map(|f| f.classes).flat_map(|c| c.why_not).map(|why| why.why.check).collect()
}

#[test]
fn a_budget_holds_over_all_tasks_of_a_tenant() {
    // A tenth of a core for a minute costs 17 millionths at most.
    let mut world = World::new([Machine::new("a").slots(8)]);
    world.apply(set(budget(40))).unwrap();
    let tasks: Vec<_> = (0..3).map(|n| world.submit_granted(vec![fragment(&format!("part {n}"))])).collect();
    let account = world.pool.account(&acme());
    assert_eq!((account.book.committed, account.left, account.book.leases), (MicroUsd(34), Some(MicroUsd(6)), 2));
    assert_eq!((account.book.tasks, account.book.queued), (3, 1));
    assert_eq!(why_not(&world, tasks[2]), ["account.budget"]);
    // One that cost less than it might have leaves room for the third, on any enclave.
    let (lease, _) = world.lease(tasks[0], 0).unwrap();
    did(&world.run(lease), &["reported #0", "completed", "lease-3 for #0", "-> offer lease-3"]);
    assert_eq!(world.pool.account(&acme()).book.spent, MicroUsd(1));
    for task in &tasks[1..] {
        let (lease, _) = world.lease(*task, 0).unwrap();
        world.run(lease);
    }
    let account = world.pool.account(&acme());
    assert_eq!(
        (account.book.spent, account.book.committed, account.left),
        (MicroUsd(3), MicroUsd(0), Some(MicroUsd(37)))
    );
}

#[test]
fn what_the_account_can_never_pay_is_refused_at_once_and_a_top_up_mends_it() {
    let mut world = World::new([Machine::new("a")]);
    world.apply(set(budget(10))).unwrap();
    let request = world.signed(vec![fragment("dear")]);
    let submit = |request| Command::Submit { request: Box::new(request), grants: Vec::new(), idempotency: None };
    assert_eq!(world.refused(submit(request.clone())), "account.budget");
    let top_up = |tenant: &str, amount| Command::TopUp {
        tenant: TenantId::new(tenant).unwrap(),
        amount: MicroUsd(amount),
        author: "operator".into(),
    };
    assert_eq!(world.refused(top_up("nobody", 10)), "account.top-up");
    assert_eq!(world.refused(top_up("acme", 0)), "account.top-up");
    assert_eq!(world.refused(top_up("acme", u64::MAX)), "account.top-up");
    let applied = world.apply(top_up("acme", 10)).unwrap();
    let Event::AccountSet { terms, topped_up, .. } = &applied.records[0].event else { panic!("{applied:?}") };
    assert_eq!((terms.budget, *topped_up), (Some(MicroUsd(20)), Some(MicroUsd(10))));
    world.submit_with(&request, Vec::new(), None).unwrap();
    // A request whose own budget is below what it costs anywhere is refused as well, whatever the account has.
    let mut poor = (*world.signed(vec![fragment("poor")])).clone();
    poor.budget = MicroUsd(16);
    assert_eq!(world.refused(submit(sign(poor, &world.client))), "request.budget");
}

#[test]
fn nothing_is_known_of_prices_before_an_enclave_came() {
    let mut world = World::new([]);
    world.apply(set(budget(1))).unwrap();
    let task = world.submit_granted(vec![fragment("early")]);
    assert_eq!(world.state(task), TaskState::Live);
}

#[test]
fn quotas_keep_work_waiting_until_other_work_ends() {
    let cases = [
        Quota { leases: Some(1), ..Quota::default() },
        Quota { cpu: Some(Millicores(150)), ..Quota::default() },
        Quota { memory: Some(Bytes::mib(100)), ..Quota::default() },
    ];
    for most in cases {
        let mut world = World::new([Machine::new("a"), Machine::new("b")]);
        world.apply(set(quota(most.clone()))).unwrap();
        let first = world.submit_granted(vec![fragment("first")]);
        let second = world.submit_granted(vec![fragment("second")]);
        assert_eq!(world.phase(second, 0), Phase::Queued, "{most:?}");
        assert_eq!(why_not(&world, second), ["account.quota"], "two enclaves of one class");
        let (lease, _) = world.lease(first, 0).unwrap();
        world.run(lease);
        assert!(world.lease(second, 0).is_some(), "{most:?}");
        // What more would never do is refused at once.
        let mut wide = fragment("wide");
        (wide.demand.cpu, wide.demand.memory) = (Millicores(200), Bytes::mib(101));
        let wide = world.signed(vec![wide]);
        let submit = Command::Submit { request: Box::new(wide), grants: Vec::new(), idempotency: None };
        match most.leases {
            None => assert_eq!(world.refused(submit), "account.quota"),
            Some(_) => drop(world.apply(submit).unwrap()),
        }
    }
    let mut world = World::new([Machine::new("a")]);
    let most = Quota { gpus: Some(Milligpus(500)), tasks: Some(1), ..Quota::default() };
    world.apply(set(quota(most))).unwrap();
    let mut fast = fragment("fast");
    fast.demand.gpus = Milligpus(501);
    let fast = world.signed(vec![fast]);
    let submit = |request| Command::Submit { request: Box::new(request), grants: Vec::new(), idempotency: None };
    assert_eq!(world.refused(submit(fast)), "account.quota");
    world.submit_granted(vec![fragment("one")]);
    let second = world.signed(vec![fragment("two")]);
    assert_eq!(world.refused(submit(second)), "account.quota");
}

#[test]
fn another_tenants_account_is_another_matter() {
    let mut world = World::new([Machine::new("a")]);
    let other = TenantId::new("other").unwrap();
    let terms = quota(Quota { leases: Some(0), ..Quota::default() });
    world.apply(Command::SetAccount { tenant: Some(other.clone()), terms, as_of: None, author: "x".into() }).unwrap();
    let task = world.submit_granted(vec![fragment("mine")]);
    assert!(world.lease(task, 0).is_some());
    assert!(world.pool.quota_refuses(&other, &fragment("x").demand, MicroUsd(0)).is_some());
    let views = world.pool.accounts();
    let names: Vec<_> = views.iter().map(|v| (v.tenant.as_ref().unwrap().to_string(), v.own)).collect();
    assert_eq!(names, [("acme".to_owned(), false), ("other".to_owned(), true)]);
}

#[test]
fn priorities_end_where_the_account_says() {
    let mut world = World::new([Machine::new("a")]);
    let urgent = |world: &World, priority| {
        let mut request = (*world.signed(vec![fragment("urgent")])).clone();
        request.prefer.priority = Priority(priority);
        sign(request, &world.client)
    };
    let submit = |request| Command::Submit { request: Box::new(request), grants: Vec::new(), idempotency: None };
    let (usual, more) = (urgent(&world, 4), urgent(&world, 5));
    world.apply(submit(usual)).unwrap();
    assert_eq!(world.refused(submit(more.clone())), "account.priority");
    world.apply(set(AccountTerms { priority_max: Priority(9), ..AccountTerms::default() })).unwrap();
    world.apply(submit(more)).unwrap();
}

#[test]
fn terms_are_checked_and_set_as_of_what_was_seen() {
    let mut world = World::new([]);
    let bad: [fn(&mut AccountTerms); 3] = [|t| t.weight = 0, |t| t.weight = 10_001, |t| t.priority_max = Priority(10)];
    for change in bad {
        let mut terms = AccountTerms::default();
        change(&mut terms);
        assert_eq!(world.refused(set(terms)), "account.terms");
    }
    assert_eq!(world.pool.account(&acme()).terms.weight, 100);
    let as_of = |seq, weight| Command::SetAccount {
        tenant: Some(acme()),
        terms: AccountTerms { weight, ..AccountTerms::default() },
        as_of: Some(Seq(seq)),
        author: "operator".into(),
    };
    world.apply(as_of(0, 200)).unwrap();
    assert_eq!(world.refused(as_of(0, 300)), "account.changed");
    let seen = world.pool.account(&acme()).as_of.0;
    world.apply(as_of(seen, 300)).unwrap();
    // The default is of whoever has none; the same again is no news.
    let default = Command::SetAccount { tenant: None, terms: budget(7), as_of: None, author: "operator".into() };
    assert_eq!(world.apply(default.clone()).unwrap().records.len(), 1);
    assert_eq!(world.apply(default).unwrap().records.len(), 0);
    let other = TenantId::new("other").unwrap();
    assert_eq!((world.pool.account(&other).left, world.pool.account(&acme()).left), (Some(MicroUsd(7)), None));
    assert_eq!(world.pool.default_account().terms.budget, Some(MicroUsd(7)));
}

#[test]
fn what_forgotten_tasks_cost_is_not_forgotten() {
    let limits = legation_pool::Limits { ended_tasks_kept: 1, ..limits() };
    let mut world = World::with(limits, [Machine::new("a")]);
    for _ in 0..4 {
        let task = world.submit_granted(vec![fragment("one")]);
        let (lease, _) = world.lease(task, 0).unwrap();
        world.run(lease);
        world.now = world.now.plus(1);
    }
    assert_eq!(world.pool.tasks().len(), 1);
    let book = world.pool.account(&acme()).book;
    assert_eq!((book.spent, book.metered.fuel.0, book.tasks), (MicroUsd(4), 4000, 0));
}

#[test]
fn records_of_the_version_before_are_read_and_metered() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("old")]);
    let (lease, _) = world.lease(task, 0).unwrap();
    world.run(lease);
    let mut old = Pool::new(limits());
    for record in &world.records {
        let mut record: Record = record.clone();
        record.version = RECORD_VERSION_OLDEST;
        if let Event::Reported { metered, .. } = &mut record.event {
            *metered = None;
        }
        let read: Record = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
        old.absorb(&read).unwrap();
    }
    assert_eq!(old, world.pool);
    let unknown = Record {
        version: RECORD_VERSION_OLDEST - 1,
        seq: Seq(old.seq().0 + 1),
        term: Term(1),
        at: UnixTime(0),
        event: Event::AccountSet { tenant: None, terms: budget(1), topped_up: None, author: "x".into() },
    };
    assert!(old.absorb(&unknown).is_err());
}

#[test]
fn a_journal_cannot_charge_more_than_a_lease_may_cost() {
    let mut world = World::new([Machine::new("a")]);
    let task = world.submit_granted(vec![fragment("paid")]);
    let (lease, _) = world.lease(task, 0).unwrap();
    let mut other = world.pool.clone();
    let applied = world.run(lease);
    let mut record = applied.records[0].clone();
    if let Event::Reported { charged, .. } = &mut record.event {
        *charged = MicroUsd(18);
    }
    let before = other.clone();
    assert!(other.absorb(&record).is_err());
    assert_eq!(other, before);
}
