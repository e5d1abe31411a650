//! Prices: exact, known before any data, and refused beyond the limits.

use legation_privacy::{
    CANDIDATES_MAX, EDGES_MAX, Mechanism, NOISE_ONE, NanoRho, Plan, PlanError, Query, QueryError, RHO_MAX,
    RecordsPerPerson, VALUE_MAX,
};
use proptest::prelude::*;

const WHOLE: u64 = 1_000_000_000;

fn queries() -> impl Strategy<Value = Query> {
    let bounds = (-1_000_000_i64..1_000_000, 1_i64..1_000_000).prop_map(|(lower, width)| (lower, lower + width));
    let values = || {
        proptest::collection::btree_set(-1000_i64..1000, 1..20).prop_map(|set| set.into_iter().collect::<Vec<i64>>())
    };
    prop_oneof![
        Just(Query::Count {}),
        bounds.clone().prop_map(|(lower, upper)| Query::Sum { lower, upper }),
        bounds.prop_map(|(lower, upper)| Query::Mean { lower, upper }),
        values().prop_map(|edges| Query::Histogram { edges }),
        (values(), 0_u16..=1000).prop_map(|(candidates, thousandths)| Query::Quantile { candidates, thousandths }),
    ]
}

/// By how much a record can change what noise is put on, by trying: sums of the query without noise.
fn change(query: &Query, record: i64) -> Vec<u64> {
    match query {
        Query::Count {} | Query::Histogram { .. } => vec![1],
        Query::Sum { lower, upper } => vec![record.clamp(*lower, *upper).unsigned_abs()],
        Query::Mean { lower, upper } => {
            let middle = lower + (upper - lower) / 2;
            vec![record.clamp(*lower, *upper).abs_diff(middle), 1]
        }
        // Of the score, in thousandths: a record below a candidate counts one share, one above it the other.
        Query::Quantile { thousandths, .. } => vec![u64::from((*thousandths).max(1000 - *thousandths))],
    }
}

proptest! {
    #[test]
    fn a_plan_costs_at_most_what_is_offered_and_has_the_least_noise(
        query in queries(),
        people in 1_u32..=1000,
        offered in 1_u64..=RHO_MAX.0,
    ) {
        let people = RecordsPerPerson::new(people).unwrap();
        let plan = Plan::within(query.clone(), people, NanoRho(offered)).unwrap();
        prop_assert!(plan.cost().0 >= 1 && plan.cost().0 <= offered);
        // rho = draws * 2^31 / noise^2, rounded up: exactly, and one step less of noise would cost more than was offered.
        let draws = if matches!(query, Query::Mean { .. }) { 2 } else { 1 };
        let price = draws * (1_u128 << 31) * u128::from(WHOLE);
        let noise = u128::from(plan.noise().get());
        let (cost, offered) = (u128::from(plan.cost().0), u128::from(offered));
        prop_assert!(cost * noise * noise >= price && (cost - 1) * noise * noise < price);
        prop_assert!(noise == 1 || offered * (noise - 1) * (noise - 1) < price);
    }

    #[test]
    fn noise_is_that_multiple_of_the_most_that_one_person_changes(
        query in queries(),
        record: i64,
        people in 1_u32..=1000,
        offered in 1000_u64..WHOLE,
    ) {
        let per_person = RecordsPerPerson::new(people).unwrap();
        let plan = Plan::within(query.clone(), per_person, NanoRho(offered)).unwrap();
        let (deviations, changes): (Vec<_>, _) = (plan.deviations().collect(), change(&query, record));
        prop_assert_eq!(deviations.len(), changes.len());
        let unit = if plan.mechanism() == Mechanism::Exponential { 1000 } else { 1 };
        for ((numerator, denominator), change) in deviations.into_iter().zip(changes) {
            let least = u128::from(change) * u128::from(people) * u128::from(plan.noise().get());
            prop_assert_eq!(denominator, u128::from(NOISE_ONE * unit));
            prop_assert!(numerator >= least, "a record of {} changes more", record);
        }
    }
}

#[test]
fn prices_by_hand() {
    // Noise of 20 times the sensitivity: rho = 1 / (2 * 20^2) = 0.00125.
    let plan = Plan::within(Query::Sum { lower: 0, upper: 100 }, RecordsPerPerson::ONE, NanoRho(1_250_000)).unwrap();
    assert_eq!((plan.noise().get(), plan.cost()), (20 * NOISE_ONE, NanoRho(1_250_000)));
    let deviations = |plan: &Plan| plan.deviations().map(|(n, d)| n as f64 / d as f64).collect::<Vec<_>>();
    assert_eq!(deviations(&plan), [2000.0]);
    // Three records a person: thrice the noise for the same price.
    let plan = Plan::within(Query::Sum { lower: 0, upper: 100 }, RecordsPerPerson::new(3).unwrap(), NanoRho(1_250_000))
        .unwrap();
    assert_eq!((deviations(&plan), plan.cost()), (vec![6000.0], NanoRho(1_250_000)));
    // A mean pays for two draws: of the distance from the middle, at most 50, and of the count.
    let plan = Plan::within(Query::Mean { lower: 0, upper: 100 }, RecordsPerPerson::ONE, NanoRho(2_500_000)).unwrap();
    assert_eq!((deviations(&plan), plan.cost()), (vec![1000.0, 20.0], NanoRho(2_500_000)));
    // A median moves by half a record at most.
    let median = Query::Quantile { candidates: vec![1, 2], thousandths: 500 };
    let plan = Plan::within(median, RecordsPerPerson::ONE, NanoRho(1_250_000)).unwrap();
    assert_eq!((deviations(&plan), plan.mechanism()), (vec![10.0], Mechanism::Exponential));
    // Many bins cost no more than one.
    let bins = |edges: usize| {
        let query = Query::Histogram { edges: (0..edges as i64).collect() };
        Plan::within(query, RecordsPerPerson::ONE, NanoRho(1_250_000)).unwrap()
    };
    assert_eq!((bins(1).cost(), bins(1).noise()), (bins(EDGES_MAX).cost(), bins(EDGES_MAX).noise()));
}

#[test]
fn beyond_the_limits_there_is_no_plan() {
    let check = |query: Query, offered: u64| Plan::within(query, RecordsPerPerson::ONE, NanoRho(offered)).map(|_| ());
    let wrong = |why: QueryError| Err(PlanError::Query(why));
    let most = VALUE_MAX;
    assert_eq!(check(Query::Sum { lower: -most, upper: most }, WHOLE), Ok(()));
    let value = |what, got| wrong(QueryError::Value { what, got });
    assert_eq!(check(Query::Sum { lower: -most - 1, upper: 0 }, WHOLE), value("the lower bound", -most - 1));
    assert_eq!(check(Query::Mean { lower: 0, upper: i64::MAX }, WHOLE), value("the upper bound", i64::MAX));
    assert_eq!(check(Query::Sum { lower: i64::MIN, upper: 0 }, WHOLE), value("the lower bound", i64::MIN));
    for (lower, upper) in [(1, 1), (2, 1)] {
        assert_eq!(check(Query::Sum { lower, upper }, WHOLE), wrong(QueryError::Bounds { lower, upper }));
        assert_eq!(check(Query::Mean { lower, upper }, WHOLE), wrong(QueryError::Bounds { lower, upper }));
    }
    let edges = |edges: Vec<i64>| check(Query::Histogram { edges }, WHOLE);
    assert_eq!(edges((0..EDGES_MAX as i64).collect()), Ok(()));
    for got in [0, EDGES_MAX + 1] {
        let refused = QueryError::Number { what: "edges", got, max: EDGES_MAX };
        assert_eq!(edges((0..got as i64).collect()), wrong(refused));
    }
    assert_eq!(edges(vec![1, 1]), wrong(QueryError::Order { what: "edges", at: 2 }));
    assert_eq!(edges(vec![1, 3, 2]), wrong(QueryError::Order { what: "edges", at: 3 }));
    assert_eq!(edges(vec![0, most + 1]), value("edges", most + 1));
    let quantile = |candidates, thousandths| check(Query::Quantile { candidates, thousandths }, WHOLE);
    assert_eq!(quantile(vec![0], 1000), Ok(()));
    assert_eq!(quantile(vec![0], 1001), wrong(QueryError::Thousandths(1001)));
    let refused = QueryError::Number { what: "candidates", got: CANDIDATES_MAX + 1, max: CANDIDATES_MAX };
    assert_eq!(quantile((0..=CANDIDATES_MAX as i64).collect(), 500), wrong(refused));
    for offered in [0, RHO_MAX.0 + 1, u64::MAX] {
        assert_eq!(check(Query::Count {}, offered), Err(PlanError::Price(NanoRho(offered))));
    }
    assert_eq!(check(Query::Count {}, 1), Ok(()));
    // 2^40 with noise of 2^15 times that.
    assert_eq!(check(Query::Sum { lower: 0, upper: most }, 1), Ok(()));
    let people = RecordsPerPerson::new(1000).unwrap();
    let drowned = Plan::within(Query::Sum { lower: 0, upper: most }, people, NanoRho(1));
    assert_eq!(drowned.map(|_| ()), Err(PlanError::Drowned(NanoRho(1))));
    for records in [0, 1001] {
        assert_eq!(RecordsPerPerson::new(records), Err(QueryError::PerPerson(records)));
    }
}

#[test]
fn queries_are_written_in_one_way() {
    for (query, text) in [
        (Query::Count {}, r#"{"count":{}}"#),
        (Query::Sum { lower: 0, upper: 9 }, r#"{"sum":{"lower":0,"upper":9}}"#),
        (Query::Histogram { edges: vec![1, 2] }, r#"{"histogram":{"edges":[1,2]}}"#),
        (
            Query::Quantile { candidates: vec![1], thousandths: 500 },
            r#"{"quantile":{"candidates":[1],"thousandths":500}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&query).unwrap(), text);
        assert_eq!(serde_json::from_str::<Query>(text).unwrap(), query);
    }
    for wrong in
        [r#"{"sum":{"lower":0}}"#, r#"{"sum":{"lower":0,"upper":9,"noise":0}}"#, r#""count""#, r#"{"median":{}}"#]
    {
        assert!(serde_json::from_str::<Query>(wrong).is_err(), "{wrong}");
    }
}
