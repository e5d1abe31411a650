//! Whoever is contradicted by the majority is trusted less: by that vote alone, on its machine, for a time, and within bounds.

use legation_pool::{MarkView, TrustView};

use super::*;

const WEEK: u64 = 7 * 24 * HOUR;

/// Who is asked, in this order.
fn lenders() -> [Machine; 3] {
    [lender("b", "beta"), lender("c", "gamma"), lender("d", "delta")]
}

impl Running {
    fn trust(&self, enclave: EnclaveId) -> Option<TrustView> {
        self.world.pool.enclave_view(enclave, self.world.now).unwrap().trust
    }

    /// Three answers, the first of which is contradicted; who gave it.
    fn contradicted(&mut self) -> EnclaveId {
        let called = self.voting(["another", "output", "output"]);
        let who = called.answers[0].enclave.enclave_id();
        self.report(called);
        assert_eq!(self.world.state(self.task), TaskState::Completed, "{:?}", self.world.tries(self.task, 0));
        who
    }

    /// The same in another task.
    fn once_more(mut self) -> Self {
        self.world.now = self.world.now.plus(1);
        granted(self.world, None)
    }
}

/// A fragment for one of those that are lent.
fn elsewhere() -> Fragment {
    Fragment { require: "provider in [beta, gamma, delta]".parse().unwrap(), ..fragment("elsewhere") }
}

#[test]
fn who_is_contradicted_is_doubted_and_others_are_preferred() {
    let mut one = running(lenders());
    let who = one.contradicted();
    one.restored();
    let found = MarkView { tenant: TenantId::new("acme").unwrap(), dissents: 1, hints: 0, last: one.world.now };
    let doubted = TrustView { doubt: 333, dissents: 1, alarms: 0, last: Some(one.world.now), found: vec![found] };
    assert_eq!(one.trust(who), Some(doubted));
    let mut others = one.world.pool.enclaves().keys().copied().filter(|id| *id != who);
    assert!(others.all(|id| one.trust(id).is_none()), "nobody else is");
    // Tenants are not told in whose tasks.
    let shown = one.world.pool.enclave_view(who, one.world.now).unwrap().discreet().trust.unwrap();
    assert!(shown.found.is_empty() && shown.doubt == 333, "{shown:?}");

    // Two have room for four; who is doubted is taken when nobody else is left, and says so.
    for n in 0..5 {
        let task = one.world.submit_granted(vec![elsewhere()]);
        let (_, enclave) = one.world.lease(task, 0).unwrap();
        assert_eq!(enclave == who, n == 4, "task {n}");
        let why = one.world.pool.explain(task, one.world.now).unwrap().remove(0).placements.remove(0).decided_by;
        assert_eq!(why.contains("trust +100.0 %"), n == 4, "{why}");
    }
}

/// Who does not care for posture does not care for doubt; the scan says the same.
#[test]
fn doubt_weighs_as_posture_does() {
    for (posture, parts) in [(0, None), (100, Some("trust +100.0 %")), (300, Some("trust +300.0 %"))] {
        let mut one = running(lenders());
        let who = one.contradicted();
        let mut request = one.world.signed(vec![elsewhere()]).predicate().clone();
        request.prefer.weights.posture = posture;
        let request = sign(request, &one.world.client);
        let task = one.world.submit(&request);
        let ranking = one.world.pool.ranking(task, legation_core::FragmentIndex(0), one.world.now);
        let ranked = ranking.iter().find(|ranked| ranked.enclave == who).unwrap();
        assert_eq!(ranked.parts.contains("trust"), parts.is_some(), "{}", ranked.parts);
        assert!(parts.is_none_or(|parts| ranked.parts.contains(parts)), "{}", ranked.parts);
    }
}

#[test]
fn evidence_is_halved_each_week_and_forgotten_in_the_end() {
    let mut one = running(lenders());
    let who = one.contradicted();
    for (weeks, doubt) in [(0, Some(333)), (1, Some(200)), (2, Some(111)), (6, Some(7)), (7, None)] {
        let view = one.world.pool.enclave_view(who, one.world.now.plus(weeks * WEEK)).unwrap();
        assert_eq!(view.trust.map(|trust| trust.doubt), doubt, "after {weeks} weeks");
    }
    // Renewed after that, nothing is left to keep.
    let apart = |pool: &Pool| {
        pool.footprint().iter().find(|part| part.name == "why some take no work").map_or(0, |part| part.bytes)
    };
    assert!(apart(&one.world.pool) > 0);
    one.world.now = one.world.now.plus(7 * WEEK);
    let renewed: Vec<_> = one.world.machines.values().map(|machine| one.world.attested(machine)).collect();
    for command in renewed {
        one.world.apply(command).unwrap();
    }
    assert_eq!(apart(&one.world.pool), 0);
    one.restored();
}

/// What was found is the machine's: another boot inherits it, and one that was gone before the report came does not escape.
#[test]
fn a_machine_does_not_escape_by_booting_anew() {
    for gone_before in [false, true] {
        let mut one = running(lenders());
        let called = one.voting(["another", "output", "output"]);
        let who = called.answers[0].enclave.enclave_id();
        let mut reported = false;
        if !gone_before {
            one.report(called.clone());
            reported = true;
        }
        one.world.lose(who);
        let again = one.world.machines[&who].reboot("b, booted anew");
        let again = one.world.attest(again).unwrap();
        assert!(!one.world.pool.enclaves().contains_key(&who));
        if !reported {
            assert_eq!(one.trust(again), None);
            one.report(called);
        }
        assert_eq!(one.world.state(one.task), TaskState::Completed, "{:?}", one.world.tries(one.task, 0));
        assert_eq!(one.trust(again).unwrap().dissents, 1, "gone before the report: {gone_before}");
        one.restored();
    }
}

/// A pool that is full forgets who is away, and not what was found.
#[test]
fn what_was_found_outlives_the_place_in_the_pool() {
    let limits = Limits { enclaves_max: 4, ..limits() };
    let mut one = granted(World::with(limits, std::iter::once(Machine::new("a")).chain(lenders())), None);
    let who = one.contradicted();
    one.world.lose(who);
    one.world.wait(2 * HOUR);
    let other = one.world.attest(Machine::new("e")).unwrap();
    assert!(!one.world.pool.enclaves().contains_key(&who));
    assert!(one.trust(other).is_none());
    let restored = Pool::restore(&one.world.pool.snapshot().unwrap(), limits).unwrap();
    assert!(restored == one.world.pool);
    one.world.wait(2 * HOUR);
    let again = one.world.attested(&one.world.machines[&who]);
    one.world.apply(again).unwrap();
    assert_eq!(one.trust(who).unwrap().dissents, 1);
}

#[test]
fn dissents_cordon_where_the_operator_wants_that_and_one_tenant_counts_as_two() {
    for (most, held) in [(0, None), (1, Some(1)), (2, Some(2)), (3, None)] {
        let limits = Limits { dissents_max: most, ..limits() };
        let mut one = granted(World::with(limits, std::iter::once(Machine::new("a")).chain(lenders())), None);
        let mut who = None;
        for round in 1..=3_u32 {
            // The same three are asked each time, whoever is doubted last: it is contradicted again.
            let called = match who {
                None => one.voting(["another", "output", "output"]),
                Some(_) => one.voting(["output", "output", "another"]),
            };
            let answer = called.answers.iter().find(|answer| called.dissent.contains(&answer.digest())).unwrap();
            let id = answer.enclave.enclave_id();
            assert_eq!(*who.get_or_insert(id), id);
            one.report(called);
            let view = one.world.pool.enclave_view(id, one.world.now).unwrap();
            let trust = view.trust.clone().unwrap();
            assert_eq!((trust.dissents, trust.found[0].dissents), (round.min(2), round), "{most}");
            assert_eq!(trust.doubt, if round == 1 { 333 } else { 500 }, "{most}");
            assert_eq!(view.hold.is_some(), held == Some(round), "{most} in round {round}: {:?}", view.hold);
            if let Some(hold) = view.hold {
                assert!(hold.author == "vote" && hold.why.contains(&format!("{round} answers")), "{hold:?}");
                let waits = one.world.submit_granted(vec![Fragment {
                    require: "provider == \"beta\"".parse().unwrap(),
                    ..fragment("waits")
                }]);
                let why = one.world.pool.explain(waits, one.world.now).unwrap();
                let beta = why[0].classes.iter().find(|class| class.provider.as_str() == "beta").unwrap();
                assert!(beta.why_not[0].why.to_string().contains("contradicted"), "{:?}", beta.why_not);
                // Whoever lifts the cordon forgives.
                one.world.apply(Command::Uncordon { enclave: id, author: "operator".into() }).unwrap();
                assert!(one.trust(id).is_none() && one.world.lease(waits, 0).is_some());
                break;
            }
            if round < 3 {
                one = one.once_more();
            }
        }
    }
}

/// An answer that rests on another may be wrong by that one: both have a hint, nobody a dissent, and nobody is cordoned.
#[test]
fn who_was_told_wrongly_is_not_called_a_dissenter() {
    let limits = Limits { dissents_max: 1, ..limits() };
    let all = std::iter::once(Machine::new("a")).chain(lenders()).chain([lender("e", "epsilon")]);
    let mut one = granted(World::with(limits, all), None);
    let mut from = Vec::new();
    let assurance = Assurance::Replicated { k: 3, diverse: Diversity::Provider };
    let (mut called, mut asked) = (Called::default(), Vec::new());
    for output in ["output", "output", "another"] {
        let (loan, lender) = one.borrow(apart(Diversity::Provider, &from)).unwrap();
        from.push(lender);
        let grant = one.child(&one.grants(), loan);
        let call = one.call(loan, &grant, 1, assurance);
        let mut behind = Vec::new();
        if output == "another" {
            let deeper = Command::Borrow { enclave: lender, ask: 1, of: loan, terms: Box::new(terms()) };
            let applied = one.world.apply(deeper).unwrap();
            let lent = applied.effects.iter().find_map(|effect| match effect {
                Effect::Lend { enclave, loan } => Some((*loan, *enclave)),
                _ => None,
            });
            let (second, told_by) = lent.unwrap();
            let below = one.child(std::slice::from_ref(&grant), second);
            let question = one.call(second, &below, 1, Assurance::Attested);
            let told = one.answer(&question, &below, "below", &[]);
            behind.push(told.digest());
            called.attached.extend([below.envelope(), question.envelope(), told.envelope()].map(Clone::clone));
            asked.push(told_by);
        }
        let answer = one.answer(&call, &grant, output, &behind);
        called.attached.extend([grant.envelope(), call.envelope(), answer.envelope()].map(Clone::clone));
        if output == "another" {
            called.dissent.push(answer.digest());
            asked.push(lender);
        }
        called.answers.push(answer);
    }
    one.report(called);
    assert_eq!(one.world.state(one.task), TaskState::Completed, "{:?}", one.world.tries(one.task, 0));
    for id in one.world.pool.enclaves().keys().copied().collect::<Vec<_>>() {
        let trust = one.trust(id);
        let said = trust.as_ref().map(|trust| (trust.doubt, trust.dissents, trust.found[0].hints));
        assert_eq!(said, asked.contains(&id).then_some((47, 0, 1)), "{id}: {trust:?}");
        assert!(one.world.pool.enclaves()[&id].hold().is_none());
    }
}

/// A report that is refused marks nobody: neither a delegator that accuses whom it likes, nor one that leaves out who agreed.
#[test]
fn a_delegator_accuses_nobody() {
    let cases: [fn(&mut Called); 2] = [
        |called| called.dissent = vec![called.answers[1].digest()],
        |called| {
            called.answers.remove(1);
            called.attached.drain(3..6);
        },
    ];
    for change in cases {
        let mut one = running(lenders());
        let mut called = one.voting(["another", "output", "output"]);
        change(&mut called);
        one.report(called);
        let refused = one.why_not();
        let all: Vec<_> = one.world.pool.enclaves().keys().copied().collect();
        assert!(all.into_iter().all(|id| one.trust(id).is_none()), "{refused}");
    }
}
