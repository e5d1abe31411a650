//! Loans: who may borrow, who is lent, what it costs, and how it ends. After each command the books are held against each other,
//! a second pool absorbs the records, and the history is judged (`World::apply`).

use std::collections::BTreeSet;

use legation_core::{
    Bytes, Digest, EnclaveId, Fuel, LeaseId, MicroUsd, Millicores, Millis, Region, Rejection, Requirement, Revocable,
    Signed, TaskId, TenantId,
    claims::TeeKind,
    delegation::{Apart, InTurn, LoanTerms},
    dsse::sign,
    prefer::DataTerms,
    statement::{Assurance, Delegable, Diversity, Grant, Request},
    swarm::SeatDemand,
    task::{Delegation, Demand, Fragment},
};
use legation_policy::Scope;
use legation_pool::{
    AccountTerms, Applied, Command, Effect, LOANS_EVER_MAX, LOANS_MAX, LeaseEnd, Limits, LoanView, Pool, Quota,
};

use crate::world::*;

mod answers;
mod books;
mod forged;
mod words;

fn called() -> Digest {
    Digest::of(b"a module that is called")
}

/// A machine that other agents reach, dearer than those that run fragments.
fn lender(name: &str, provider: &str) -> Machine {
    let mut machine = Machine::new(name).at(provider, "eu-1", 2);
    machine.configuration.advertise = Some(format!("{name}.example:7443"));
    machine
}

fn modules() -> Vec<Digest> {
    let mut modules = vec![called(), Digest::of(b"another module that is called")];
    modules.sort();
    modules
}

/// A fragment of ten minutes that may hand parts on, twice deep.
fn delegating() -> Fragment {
    let delegates = Delegation {
        modules: modules(),
        depth: 2,
        fuel: Fuel(1_000_000),
        budget: MicroUsd(100_000),
        assurance: Assurance::Attested,
    };
    let demand = Demand { time: Millis(600_000), ..Demand::default() };
    Fragment { delegates: Some(delegates), demand, ..fragment("main") }
}

fn delegable(require: Option<&str>) -> Delegable {
    Delegable {
        modules: vec![called()],
        fuel: Fuel(1_000_000),
        budget: MicroUsd(50_000),
        releases: Vec::new(),
        assurance: Assurance::Attested,
        require: require.map(|text| Requirement::parse(text).unwrap()),
    }
}

/// The grant by which `issuer` lets the enclave of a lease have parts run by others.
fn passing(world: &World, lease: LeaseId, issuer: &Key, depth: u32, passed: Delegable) -> Command {
    let (grant, keys) = world.grant_to(lease, issuer);
    let grant = Grant { depth, delegable: Some(passed), ..grant };
    Command::Grant { grant: Box::new(sign(grant, issuer)), keys }
}

/// A task that runs, and may borrow.
struct Running {
    world: World,
    task: TaskId,
    lease: LeaseId,
    enclave: EnclaveId,
}

fn started(mut world: World, fragment: Fragment, change: impl FnOnce(&mut Request)) -> Running {
    let mut request = request("client", "borrows", world.now, vec![fragment]);
    change(&mut request);
    let request = sign(request, &world.client);
    let task = world.submit(&request);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    Running { world, task, lease, enclave }
}

/// A borrower `a`, and these that can be lent.
fn running(lenders: impl IntoIterator<Item = Machine>) -> Running {
    granted(World::new(std::iter::once(Machine::new("a")).chain(lenders)), None)
}

fn granted(world: World, require: Option<&str>) -> Running {
    let mut running = started(world, delegating(), |_| ());
    running.pass(2, delegable(require));
    running
}

fn terms() -> LoanTerms {
    let demand =
        SeatDemand { cpu: Millicores(100), memory: Bytes::mib(64), gpus: Default::default(), time: Millis(10_000) };
    LoanTerms {
        demand,
        require: None,
        apart: None,
        exclude: Vec::new(),
        proven: false,
        in_turn: Some(InTurn { depth: 8, budget: MicroUsd(50_000) }),
        seconds: 60,
    }
}

/// As [`terms`], of another chip, and by this of another kind, than these are.
fn apart(by: Diversity, from: &[EnclaveId]) -> LoanTerms {
    let from = from.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    LoanTerms { apart: Some(Apart { by, from }), ..terms() }
}

impl Running {
    fn pass(&mut self, depth: u32, passed: Delegable) -> Applied {
        let command = passing(&self.world, self.lease, &Key::new("client"), depth, passed);
        self.world.apply(command).unwrap()
    }

    fn ask(&self, terms: LoanTerms) -> Command {
        Command::Borrow { enclave: self.enclave, ask: 7, of: self.lease, terms: Box::new(terms) }
    }

    fn borrow(&mut self, terms: LoanTerms) -> Result<(LeaseId, EnclaveId), Rejection> {
        let applied = self.world.apply(self.ask(terms))?;
        let lent = applied.effects.iter().find_map(|effect| match effect {
            Effect::Lend { enclave, loan } => Some((*loan, *enclave)),
            _ => None,
        });
        Ok(lent.unwrap())
    }

    fn refused(&mut self, terms: LoanTerms) -> Rejection {
        self.borrow(terms).unwrap_err()
    }

    fn views(&self) -> Vec<LoanView> {
        self.world.pool.loan_views(self.task)
    }

    /// How the last loan that ended did, and what it cost.
    fn last_end(&self) -> (LeaseEnd, MicroUsd) {
        let views = self.views();
        let mut ended = views.iter().filter_map(|view| Some((view.ended.clone()?, view.charged?)));
        ended.next_back().unwrap()
    }

    fn money(&self) -> (MicroUsd, MicroUsd) {
        let task = &self.world.pool.tasks()[&self.task];
        (task.spent, task.committed)
    }

    /// A pool read from a snapshot is equal to this one.
    fn restored(&self) {
        let restored = Pool::restore(&self.world.pool.snapshot().unwrap(), limits()).unwrap();
        assert!(restored == self.world.pool);
        restored.audit().unwrap();
    }
}

#[test]
fn an_enclave_is_lent_told_to_both_paid_by_time_and_given_back() {
    let mut one = running([lender("b", "beta")]);
    let applied = one.world.apply(one.ask(terms())).unwrap();
    did(&applied, &["lease-2 lent for #0", "-> lend lease-2", "-> lent lease-2"]);
    let (loan, b) = (LeaseId(2), Machine::new("b").id);
    let told = applied.effects.iter().any(|effect| {
        matches!(effect, Effect::Lent { enclave, loan: lent, ask: Some(7) } if (*enclave, *lent) == (one.enclave, loan))
    });
    assert!(told);
    // A tenth of a core at two cents, for 60 s at most; and the fragment's own ten minutes at one.
    assert_eq!(one.money(), (MicroUsd(0), MicroUsd(34 + 167)));
    assert_eq!(one.world.pool.account(&TenantId::new("acme").unwrap()).book.leases, 2);
    let (known, held) = one.world.pool.loan(loan).unwrap();
    assert_eq!((known, held.enclave, held.depth, held.root), (one.task, b, 1, one.lease));
    one.restored();
    // What each side is told rests on the same, and shows the other.
    let own = one.world.pool.tasks()[&one.task].fragments[0].allocations[0].clone();
    for (reader, other) in [(b, one.enclave), (one.enclave, b)] {
        let parts = one.world.pool.loan_parts(loan, reader).unwrap();
        assert_eq!((parts.allocation.prev.get(2), &parts.borrower), (Some(&own.digest()), &own));
        let proof = parts.other.whole(&one.world.records).unwrap();
        assert_eq!(proof.passport.enclave_id(), other);
        let address = (other == b).then(|| "b.example:7443".to_owned());
        assert_eq!(proof.passport.configuration.advertise, address);
    }
    assert_eq!(one.world.pool.loan_parts(loan, Machine::new("c").id).unwrap_err().check, "pool.lease");
    let views = one.views();
    let [view] = &views[..] else { panic!("{views:?}") };
    assert_eq!((view.enclave, view.borrower, view.number, view.ended.clone()), (b, one.enclave, 1, None));
    let explained = one.world.pool.explain(one.task, one.world.now).unwrap();
    assert_eq!((&explained[0].loans, &one.world.pool.task_view(one.task).unwrap().loans), (&one.views(), &one.views()));
    // Nobody gives back what is another's.
    assert_eq!(one.world.refused(Command::GiveBack { enclave: b, loan, why: None }), "pool.lease");
    one.world.now = one.world.now.plus(36);
    let applied = one.world.apply(Command::GiveBack { enclave: one.enclave, loan, why: None }).unwrap();
    did(&applied, &["lease-2 ended: it was given back", "-> loan lease-2 ended", "-> loan lease-2 ended"]);
    assert_eq!(one.world.refused(Command::GiveBack { enclave: one.enclave, loan, why: None }), "pool.lease");
    assert_eq!((one.last_end(), one.money()), ((LeaseEnd::GivenBack, MicroUsd(20)), (MicroUsd(20), MicroUsd(167))));
    one.restored();
    let lease = one.lease;
    one.world.run(lease);
    // Two seconds of the fragment itself.
    assert_eq!(one.money(), (MicroUsd(21), MicroUsd(0)));
    one.restored();
}

/// Whoever may not borrow, with the check that says so.
#[test]
fn who_may_not_borrow_is_refused() {
    let check = |world: &mut World, command| world.refused(command);
    // Under what is not its own, or does not run.
    let mut one = running([lender("b", "beta")]);
    let b = Machine::new("b").id;
    let mut stray = |enclave, of| {
        let command = Command::Borrow { enclave, ask: 1, of, terms: Box::new(terms()) };
        check(&mut one.world, command)
    };
    assert_eq!(stray(b, LeaseId(1)), "loan.lease");
    assert_eq!(stray(Machine::new("a").id, LeaseId(9)), "loan.lease");
    assert_eq!(stray(Machine::new("nobody").id, LeaseId(1)), "pool.enclave");
    let mut waits = started(World::new([Machine::new("a"), lender("b", "beta")]), delegating(), |_| ());
    assert_eq!(waits.refused(terms()).check, "loan.lease");
    // Of what the request or the grants do not let be passed on.
    let mut plain = started(World::new([Machine::new("a"), lender("b", "beta")]), fragment("plain"), |_| ());
    plain.world.grant(plain.lease, &Key::new("client"));
    assert_eq!(plain.refused(terms()).check, "loan.delegates");
    let mut alone = started(World::new([Machine::new("a"), lender("b", "beta")]), delegating(), |_| ());
    alone.world.grant(alone.lease, &Key::new("client"));
    assert_eq!(alone.refused(terms()).check, "loan.grant");
    alone.pass(1, delegable(None));
    assert!(alone.borrow(terms()).is_ok());
    // Terms that cannot be.
    for (wanted, terms) in [
        ("loan.demand", LoanTerms { demand: SeatDemand { cpu: Millicores(0), ..terms().demand }, ..terms() }),
        ("loan.time", LoanTerms { seconds: 9, ..terms() }),
        ("loan.exclude", LoanTerms { exclude: vec![b, b], ..terms() }),
    ] {
        assert_eq!(one.refused(terms).check, wanted);
    }
    // Too little time is left of the fragment's own.
    one.world.now = one.world.now.plus(640);
    assert_eq!(one.refused(terms()).check, "loan.time");
}

#[test]
fn every_holder_of_an_input_must_agree_and_to_the_same_modules() {
    let holder = Key::new("holder");
    let reads = || reading(delegating(), vec![sealed("data", Some(&holder))]);
    let world = || World::new([Machine::new("a"), lender("b", "beta")]);
    let mut one = started(world(), reads(), |_| ());
    one.pass(2, delegable(None));
    one.world.grant(one.lease, &holder);
    assert_eq!(one.refused(terms()).check, "loan.grant");
    let other = Delegable { modules: vec![Digest::of(b"another module that is called")], ..delegable(None) };
    let mut one = started(world(), reads(), |_| ());
    one.pass(2, delegable(None));
    let command = passing(&one.world, one.lease, &holder, 2, other);
    one.world.apply(command).unwrap();
    assert_eq!(one.refused(terms()).check, "loan.modules");
    let mut one = started(world(), reads(), |_| ());
    one.pass(2, delegable(None));
    let command = passing(&one.world, one.lease, &holder, 2, delegable(None));
    one.world.apply(command).unwrap();
    assert!(one.borrow(terms()).is_ok());
}

/// Who is not lent, and why: the reason is told, and what would help.
#[test]
fn who_is_not_lent_is_told_with_what_would_help() {
    let silent = || Machine::new("b").at("beta", "eu-1", 2);
    let mut nobody = running([silent()]);
    let why = nobody.refused(terms());
    assert_eq!(why.check, "loan.capacity");
    assert!(why.got.contains("2 place.address"), "{why}");
    // Request, fragment, grant and borrower are all to be satisfied.
    let only = |text: &str| Requirement::parse(text).unwrap();
    let elsewhere = "provider == \"gamma\"";
    let pool = || World::new([Machine::new("a"), lender("b", "beta")]);
    let both = "provider == \"alpha\" or provider == \"gamma\"";
    let of_request = started(pool(), delegating(), |request| request.require = only(both));
    let of_fragment = started(pool(), Fragment { require: only(both), ..delegating() }, |_| ());
    for mut one in [of_request, of_fragment] {
        one.pass(2, delegable(None));
        let why = one.refused(terms());
        assert!(why.check == "loan.capacity" && why.got.contains("require.provider"), "{why}");
    }
    let mut by_grant = granted(pool(), Some(elsewhere));
    let why = by_grant.refused(terms());
    assert!(why.check == "loan.capacity" && why.got.contains("require.provider"), "{why}");
    let mut own = running([lender("b", "beta")]);
    let picky = LoanTerms { require: Some(only(elsewhere)), ..terms() };
    let why = own.refused(picky);
    assert!(why.got.contains("require.provider") && why.fix.contains("ask for no requirement"), "{why}");
    let none_of = LoanTerms { exclude: vec![Machine::new("b").id], ..terms() };
    assert!(own.refused(none_of).fix.contains("rule nobody out"));
    let large = LoanTerms { demand: SeatDemand { cpu: Millicores(3000), ..terms().demand }, ..terms() };
    let why = own.refused(large);
    assert!(why.got.contains("pool.capacity") && why.fix.contains("ask for 1.5"), "{why}");
    // What is said of the data binds whoever is lent.
    let data = DataTerms { residency: [Region::new("us-1").unwrap()].into(), ..DataTerms::default() };
    let abroad = World::new([Machine::new("a").at("alpha", "us-1", 1), lender("b", "beta")]);
    let mut abroad = started(abroad, delegating(), |request| request.data = data);
    abroad.pass(2, delegable(None));
    let why = abroad.refused(terms());
    assert!(why.got.contains("data.residency"), "{why}");
    // Budget and account.
    let mut poor = started(pool(), delegating(), |request| {
        request.budget = MicroUsd(180);
        request.fragments[0].delegates.as_mut().unwrap().budget = MicroUsd(100);
    });
    poor.pass(2, Delegable { budget: MicroUsd(100), ..delegable(None) });
    let why = poor.refused(terms());
    assert!(why.got.contains("pool.budget"), "{why}");
    let quota = Quota { leases: Some(1), ..Quota::default() };
    let account = AccountTerms { quota, ..AccountTerms::default() };
    let tenant = Some(TenantId::new("acme").unwrap());
    let set = Command::SetAccount { tenant, terms: account, as_of: None, author: "operator".into() };
    own.world.apply(set).unwrap();
    assert_eq!(own.refused(terms()).check, "account.quota");
}

#[test]
fn replicas_are_diverse_and_nobody_is_lent_on_the_borrowers_chip() {
    let mut twin = Machine { chip: Machine::new("a").chip, ..lender("twin", "beta") };
    twin.configuration.slot = 1;
    let limits = Limits { slots_per_chip: 2, ..limits() };
    let mut one = granted(World::with(limits, [Machine::new("a"), twin]), None);
    let why = one.refused(terms());
    assert!(why.check == "loan.capacity" && why.got.contains("place.spread"), "{why}");
    // Two of beta, one of gamma: two providers, three chips, two kinds.
    let third = || Machine { tee: TeeKind::DevTpm, ..lender("d", "gamma") };
    for (diverse, most) in [(Diversity::Provider, 2), (Diversity::Chip, 3), (Diversity::Tee, 2)] {
        let mut one = running([lender("b", "beta"), lender("c", "beta"), third()]);
        let mut lent = Vec::new();
        for _ in 0..most {
            lent.push(one.borrow(apart(diverse, &lent)).unwrap().1);
        }
        let why = one.refused(apart(diverse, &lent));
        assert!(why.got.contains("place.spread") && why.fix.contains("ask for no diversity"), "{why}");
        // From others than these it need not differ; without it, one that is lent already may be lent again.
        assert!(one.borrow(apart(diverse, &lent[1..])).is_ok());
        assert!(one.borrow(terms()).is_ok());
    }
}

#[test]
fn loans_are_counted_and_bounded() {
    let mut large = lender("b", "beta").slots(200);
    large.configuration.capacity.cpu = Millicores(100_000);
    large.configuration.capacity.memory = Bytes::gib(64);
    let mut one = running([large]);
    for number in 1..=LOANS_MAX {
        let (loan, _) = one.borrow(terms()).unwrap();
        let (_, loan) = one.world.pool.loan(loan).unwrap();
        assert_eq!(loan.terms.number as usize, number);
    }
    assert_eq!(one.refused(terms()).check, "loan.count");
    let first = *one.world.pool.tasks()[&one.task].lending.as_ref().unwrap().live.keys().next().unwrap();
    one.world.apply(Command::GiveBack { enclave: one.enclave, loan: first, why: None }).unwrap();
    // Numbers are not used again.
    let (loan, _) = one.borrow(terms()).unwrap();
    assert_eq!(one.world.pool.loan(loan).unwrap().1.terms.number as usize, LOANS_MAX + 1);
}

#[test]
fn a_lender_borrows_in_turn_as_deep_as_was_granted() {
    let mut one = running([lender("b", "beta"), lender("c", "gamma"), lender("d", "delta")]);
    let (first, b) = one.borrow(terms()).unwrap();
    let deeper = |enclave, of| Command::Borrow { enclave, ask: 1, of, terms: Box::new(terms()) };
    let applied = one.world.apply(deeper(b, first)).unwrap();
    did(&applied, &["lease-3 lent for #0", "-> lend lease-3", "-> lent lease-3"]);
    let second = LeaseId(3);
    let (_, inner) = one.world.pool.loan(second).unwrap();
    let (depth, c) = (inner.depth, inner.enclave);
    // Neither its borrower nor whom that works for.
    assert!(depth == 2 && c != b && c != one.enclave);
    assert!(inner.until() <= one.world.pool.loan(first).unwrap().1.until());
    assert_eq!(one.world.refused(deeper(c, second)), "loan.depth");
    one.restored();
    // What is for a loan ends before it; and both before the lease that all of it is for.
    let applied = one.world.apply(Command::GiveBack { enclave: one.enclave, loan: first, why: None }).unwrap();
    let wanted = [
        "lease-3 ended: the work that it was lent for is over",
        "lease-2 ended: it was given back",
        "-> loan lease-3 ended",
        "-> loan lease-3 ended",
        "-> loan lease-2 ended",
        "-> loan lease-2 ended",
    ];
    did(&applied, &wanted);
    // Grants of depth 1 let nobody borrow in turn.
    let mut one =
        started(World::new([Machine::new("a"), lender("b", "beta"), lender("c", "gamma")]), delegating(), |_| ());
    one.pass(1, delegable(None));
    let (first, b) = one.borrow(terms()).unwrap();
    let why = one.world.apply(deeper(b, first)).unwrap_err();
    assert!(why.check == "loan.grant" && why.got.contains("depth 1"), "{why}");
}

/// Every way in which a loan ends, after 36 seconds of it.
#[test]
fn every_end_has_its_cause_and_its_price() {
    type Way = fn(&mut Running, LeaseId, EnclaveId);
    let ways: [(&str, Way, u64); 9] = [
        (
            "the enclave refused: ",
            |one, lease, enclave| {
                let why = Rejection::new("agent.busy", "the engine");
                one.world.apply(Command::Refuse { enclave, lease, why }).unwrap();
            },
            0,
        ),
        ("the enclave was lost (reset)", |one, _, enclave| drop(one.world.lose(enclave)), 20),
        ("the enclave was revoked", |one, _, enclave| drop(one.world.revoke(Revocable::Enclave(enclave))), 20),
        ("its time was over", |one, _, _| drop(one.world.wait(25)), 34),
        (
            "the work that it was lent for is over",
            |one, _, _| {
                let lease = one.lease;
                one.world.run(lease);
            },
            20,
        ),
        (
            "the work that it was lent for is over",
            |one, _, _| {
                let borrower = one.enclave;
                one.world.lose(borrower);
            },
            20,
        ),
        (
            "the work that it was lent for is over",
            |one, _, _| {
                let task = one.task;
                one.world.apply(Command::Cancel { task }).unwrap();
            },
            20,
        ),
        (
            "the work that it was lent for is over",
            |one, _, _| {
                let grant = one.world.pool.tasks()[&one.task].grants[0].digest();
                one.world.revoke(Revocable::Grant(grant));
            },
            20,
        ),
        (
            "the enclave was lost (it did not return to the new manager)",
            |one, _, _| {
                one.world.begin_term(2).unwrap();
                let (borrower, lease) = (one.enclave, one.lease);
                one.world.arrive(borrower, &[lease]);
                one.world.wait(16);
            },
            29,
        ),
    ];
    for (wanted, way, cost) in ways {
        let mut one = running([lender("b", "beta")]);
        let (loan, enclave) = one.borrow(terms()).unwrap();
        one.world.now = one.world.now.plus(36);
        way(&mut one, loan, enclave);
        let (why, charged) = one.last_end();
        assert!(why.to_string().starts_with(wanted), "{why}, not {wanted}");
        assert_eq!(charged, MicroUsd(cost), "{wanted}");
        assert!(one.world.pool.loan(loan).is_none());
        let lent = one.world.pool.enclaves().get(&enclave).unwrap();
        assert!(!lent.leases().contains(&loan));
        let held = one.world.pool.enclaves().values().flat_map(|enclave| enclave.leases()).count();
        assert_eq!(held, one.world.pool.leases().len());
        one.restored();
    }
}

#[test]
fn a_revoked_grant_ends_what_no_other_grant_lets_be() {
    // The owner granted twice; only one of the grants lets parts be passed on.
    let mut one = running([lender("b", "beta")]);
    let lease = one.lease;
    one.world.grant(lease, &Key::new("client"));
    let passing = one.world.pool.tasks()[&one.task].grants.iter().find(|grant| grant.depth > 0).map(Signed::digest);
    let (loan, _) = one.borrow(terms()).unwrap();
    let applied = one.world.revoke(Revocable::Grant(passing.unwrap()));
    let said = brief(&applied);
    assert!(said.contains(&"lease-2 ended: a grant that it rests on was revoked".to_owned()), "{said:?}");
    // The fragment goes on by the other.
    assert!(one.world.pool.loan(loan).is_none() && one.world.pool.leases().contains_key(&lease));
    assert_eq!(one.refused(terms()).check, "loan.grant");
    one.world.run(lease);
    assert_eq!(one.world.state(one.task), legation_pool::TaskState::Completed);
}

#[test]
fn loans_outlast_managers_and_are_told_again() {
    let mut one = running([lender("b", "beta")]);
    let (loan, b) = one.borrow(terms()).unwrap();
    one.world.begin_term(2).unwrap();
    let (borrower, lease) = (one.enclave, one.lease);
    let ends = LeaseId(77);
    did(&one.world.arrive(b, &[ends]), &["arrived", "-> lend lease-2", "-> cancel lease-77"]);
    did(&one.world.arrive(borrower, &[lease]), &["arrived", "-> lent lease-2"]);
    // Whoever knows it is not told.
    for (enclave, running) in [(b, vec![loan]), (borrower, vec![lease, loan])] {
        did(&one.world.arrive(enclave, &running), &[]);
    }
    one.world.wait(16);
    assert!(one.world.pool.loan(loan).is_some());
    // A new proof of the lender changes nothing, and its address is its own affair.
    let command = one.world.attested(&lender("b", "beta"));
    one.world.apply(command).unwrap();
    one.restored();
    let parts = one.world.pool.loan_parts(loan, borrower).unwrap();
    assert_eq!(parts.other.whole(&one.world.records).unwrap().passport.issued, one.world.now);
}

#[test]
fn a_fragment_without_a_result_forgets_what_was_lent_for_it() {
    let mut one = running([lender("b", "beta"), lender("c", "beta")]);
    one.borrow(terms()).unwrap();
    let borrower = one.enclave;
    one.world.lose(borrower);
    let lending = one.world.pool.tasks()[&one.task].lending.clone().unwrap();
    assert!(lending.kept.is_empty() && lending.live.is_empty() && lending.ended.len() == 1);
    // Its second try borrows anew, counted from 1.
    let (lease, enclave) = one.world.lease(one.task, 0).unwrap();
    (one.lease, one.enclave) = (lease, enclave);
    one.pass(2, delegable(None));
    let (loan, _) = one.borrow(terms()).unwrap();
    assert_eq!(one.world.pool.loan(loan).unwrap().1.terms.number, 1);
    assert_eq!(one.world.pool.tasks()[&one.task].fragments[0].attempts.len(), 2);
}

#[test]
fn rules_of_placement_are_asked_about_each_module_and_bind_each_call() {
    let mut one = running([lender("b", "beta")]);
    let rules = |module: Digest| {
        let place = "(principal, action == Action::\"place\", resource)";
        let never = format!("@id(\"never\") forbid {place} when {{ context.module == \"{module}\" }};");
        format!("@id(\"short\") @limit_time(\"20 s\") permit {place};\n{never}")
    };
    let set = |world: &mut World, module| {
        let scope = Scope::Tenant(TenantId::new("acme").unwrap());
        world.apply(Command::SetPolicy { scope, text: rules(module), author: "operator".into() }).unwrap();
    };
    set(&mut one.world, called());
    let why = one.refused(terms());
    assert!(why.got.contains("place.policy"), "{why}");
    set(&mut one.world, Digest::of(b"a module that nobody calls"));
    let long = LoanTerms { demand: SeatDemand { time: Millis(30_000), ..terms().demand }, ..terms() };
    let why = one.refused(long);
    assert!(why.got.contains("limits.time"), "{why}");
    // A loan may last longer than any call of it.
    let (loan, _) = one.borrow(terms()).unwrap();
    let limits = one.world.pool.loan(loan).unwrap().1.allocation.limits.clone().unwrap();
    assert_eq!(limits.time, Some(Millis(20_000)));
}
