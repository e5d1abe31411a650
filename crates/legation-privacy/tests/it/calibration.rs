//! Noise is what its price says. `opendp` draws its own randomness, so these tests are statistical: each states a threshold that a
//! right implementation passes with probability above 1 - 1e-7, so all of them together above 1 - 1e-6. Those of a count, a sum,
//! quantiles and neighbours show that too little noise would fail them.

use legation_privacy::{
    BookId, Delta, Ledger, NanoEpsilon, NanoRho, Plan, Query, RecordsPerPerson,
    mechanisms::{Answer, AnswerError, answer},
};

const BOOK: BookId = BookId::from_bytes([1; 32]);

/// Noise of so many thousandths of the sensitivity, for one draw, as its price in billionths: 10^9 / (2 (n/1000)^2).
fn price(thousandths: u64) -> NanoRho {
    NanoRho(500_000_000_000_000 / (thousandths * thousandths))
}

fn plan(query: Query, offered: NanoRho) -> Plan {
    Plan::within(query, RecordsPerPerson::ONE, offered).unwrap()
}

/// So many answers, each paid for.
fn answers(plan: &Plan, records: &[i64], draws: usize) -> Vec<Answer> {
    let mut ledger = Ledger::new(BOOK, NanoRho(u64::MAX));
    let mut draw = || {
        let entry = ledger.judge(plan.cost()).unwrap();
        let permit = ledger.commit(&entry).unwrap();
        answer(permit, BOOK, plan, records).unwrap()
    };
    (0..draws).map(|_| draw()).collect()
}

fn deviation(plan: &Plan) -> f64 {
    let (numerator, denominator) = plan.deviations().next().unwrap();
    numerator as f64 / denominator as f64
}

/// Pearson's statistic of what was seen against what is likely.
fn chi_squared(seen: &[u64], likely: &[f64]) -> f64 {
    let all = seen.iter().sum::<u64>() as f64;
    let terms = seen.iter().zip(likely).map(|(seen, p)| (*seen as f64 - all * p).powi(2) / (all * p));
    terms.sum()
}

/// Exceeded with probability at most e^-18 = 1.5e-8 (Laurent and Massart 2000, lemma 1).
fn chi_squared_max(bins: usize) -> f64 {
    let freedom = (bins - 1) as f64;
    freedom + 2.0 * (freedom * 18.0).sqrt() + 36.0
}

/// Mean and variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0))
}

/// Whether noise has mean 0 and this deviation, within six standard errors of either: wrong with probability below 1e-8. With
/// 20,000 values the variance is known to 6 %, and a tenth less noise has 19 % less of it.
fn calibrated(noise: &[f64], deviation: f64) -> bool {
    let ((mean, variance), n) = (moments(noise), noise.len() as f64);
    assert!(n >= 20_000.0);
    mean.abs() < 6.0 * deviation / n.sqrt() && (variance / deviation.powi(2) - 1.0).abs() < 6.0 * (2.0 / n).sqrt()
}

#[test]
fn a_counts_noise_is_the_discrete_gaussian() {
    const TAIL: i64 = 12;
    let records = [0; 100];
    let likely = |deviation: f64| {
        let weight = |x: i64| (-(x as f64).powi(2) / (2.0 * deviation.powi(2))).exp();
        let all: f64 = (-100..=100).map(weight).sum();
        let mut likely: Vec<f64> = (-TAIL..=TAIL).map(|x| weight(x) / all).collect();
        likely.push(1.0 - likely.iter().sum::<f64>());
        likely
    };
    let seen = |plan: &Plan| {
        let mut seen = vec![0; 2 * TAIL as usize + 2];
        for answer in answers(plan, &records, 50_000) {
            let Answer::Count { records: count } = answer else { panic!("{answer:?}") };
            let noise = count - records.len() as i64;
            let bin = if noise.abs() > TAIL { seen.len() - 1 } else { (noise + TAIL) as usize };
            seen[bin] += 1;
        }
        seen
    };
    let (right, less) = (plan(Query::Count {}, price(4000)), plan(Query::Count {}, price(3600)));
    assert!((deviation(&right) - 4.0).abs() < 1e-3 && (deviation(&less) - 3.6).abs() < 1e-3);
    let expected = likely(deviation(&right));
    let of = |plan: &Plan| chi_squared(&seen(plan), &expected);
    let most = chi_squared_max(expected.len());
    let found = of(&right);
    assert!(found < most, "{found} of at most {most}");
    assert!(of(&less) > most, "a tenth less noise is not seen");
}

#[test]
fn a_sums_noise_is_calibrated_to_the_bounds_and_records_are_clamped_to_them() {
    let records = [-1_000_000, 3, 7, 1_000_000, i64::MAX, i64::MIN];
    let sum = -5 + 3 + 7 + 10 + 10 - 5;
    let noise = |plan: &Plan| -> Vec<f64> {
        let drawn = answers(plan, &records, 20_000).into_iter();
        let noise = drawn.map(|answer| match answer {
            Answer::Sum { value } => (value - sum) as f64,
            other => panic!("{other:?}"),
        });
        noise.collect()
    };
    let query = Query::Sum { lower: -5, upper: 10 };
    let (right, less) = (plan(query.clone(), price(4000)), plan(query, price(3600)));
    assert!((deviation(&right) - 40.0).abs() < 0.01);
    assert!(calibrated(&noise(&right), deviation(&right)));
    assert!(!calibrated(&noise(&less), deviation(&right)), "a tenth less noise is not seen");
}

#[test]
fn a_histograms_bins_have_noise_of_their_own_each() {
    let records: Vec<i64> = (0..100).flat_map(|x| [x, 50]).collect();
    let (edges, truth) = (vec![10, 50, 51], [10, 40, 101, 49]);
    let plan = plan(Query::Histogram { edges }, price(4000));
    let (mut noise, mut products) = (Vec::new(), Vec::new());
    for answer in answers(&plan, &records, 6000) {
        let Answer::Histogram { bins } = answer else { panic!("{answer:?}") };
        assert_eq!(bins.len(), truth.len());
        let drawn: Vec<f64> = bins.iter().zip(truth).map(|(bin, truth)| (bin - truth) as f64).collect();
        products.extend(drawn.windows(2).map(|pair| pair[0] * pair[1]));
        noise.extend(drawn);
    }
    let deviation = deviation(&plan);
    assert!(calibrated(&noise, deviation));
    // Neighbours do not share it: the mean product is 0 within six standard errors; shared noise would give the variance.
    let (mean, _) = moments(&products);
    let bound = 6.0 * deviation.powi(2) / (products.len() as f64).sqrt();
    assert!(mean.abs() < bound && bound < deviation.powi(2) / 2.0, "{mean} of at most {bound}");
}

#[test]
fn a_mean_is_as_near_as_its_price_promises_and_no_nearer() {
    let records: Vec<i64> = (0..10_000).map(|n| n % 101).collect();
    let truth = records.iter().sum::<i64>() as f64 / records.len() as f64;
    let plan = plan(Query::Mean { lower: 0, upper: 100 }, NanoRho(1_000_000));
    let mut means = Vec::new();
    for answer in answers(&plan, &records, 20_000) {
        let Answer::Mean { thousandths, records: count } = answer else { panic!("{answer:?}") };
        let mean = thousandths.unwrap();
        assert!((0..=100_000).contains(&mean) && (count - 10_000).abs() < 12 * 32, "{mean} {count}");
        means.push(mean as f64 / 1000.0 - truth);
    }
    // Two draws for rho 0.0005 each: noise of 31.6 times 50 on the sum of distances from 50, and of 31.6 on the count, which tells
    // nearly nothing, because the true mean is nearly in the middle.
    let promised = deviation(&plan) / records.len() as f64;
    assert!((promised - 0.158).abs() < 0.001);
    let (mean, variance) = moments(&means);
    assert!(mean.abs() < 6.0 * promised / 20_000_f64.sqrt() + 0.002, "{mean}");
    let ratio = variance / promised.powi(2);
    assert!((0.93..1.07).contains(&ratio), "{ratio} times the variance that was paid for");
}

#[test]
fn no_mean_is_made_of_nobody() {
    let plan = plan(Query::Mean { lower: 0, upper: 100 }, price(1000));
    let drawn = answers(&plan, &[], 200);
    // Noise makes at least one record of none in about a third of the draws; in all of them with probability below 1e-80.
    assert!(drawn.iter().any(|answer| matches!(answer, Answer::Mean { thousandths: None, .. })));
    for answer in drawn {
        let Answer::Mean { thousandths, records } = answer else { panic!("{answer:?}") };
        assert_eq!(thousandths.is_some(), records >= 1);
    }
}

#[test]
fn a_quantile_is_drawn_by_the_exponential_mechanism() {
    let records: Vec<i64> = (0..40).collect();
    let candidates = vec![5, 15, 20, 25, 35];
    for thousandths in [500_u16, 900] {
        let share = f64::from(thousandths) / 1000.0;
        let query = Query::Quantile { candidates: candidates.clone(), thousandths };
        let right = plan(query.clone(), price(8000));
        let less = plan(query, price(7200));
        // Distance of a candidate: records below it against records above it, by their shares.
        let score = |candidate: i64| {
            let below = records.iter().filter(|x| **x < candidate).count() as f64;
            let above = records.iter().filter(|x| **x > candidate).count() as f64;
            ((1.0 - share) * below - share * above).abs()
        };
        let weights: Vec<f64> = candidates.iter().map(|c| (-score(*c) / deviation(&right)).exp()).collect();
        let likely: Vec<f64> = weights.iter().map(|w| w / weights.iter().sum::<f64>()).collect();
        let of = |plan: &Plan| {
            let mut seen = vec![0; candidates.len()];
            for answer in answers(plan, &records, 50_000) {
                let Answer::Quantile { value } = answer else { panic!("{answer:?}") };
                seen[candidates.iter().position(|c| *c == value).unwrap()] += 1;
            }
            chi_squared(&seen, &likely)
        };
        let (found, most) = (of(&right), chi_squared_max(candidates.len()));
        assert!(found < most, "{thousandths}: {found} of at most {most}");
        assert!(of(&less) > most, "{thousandths}: a tenth less noise is not seen");
    }
}

/// Whoever sees many answers about a data set, and many about one with a person more, can tell them apart no better than the price
/// allows: for every set of answers `p <= e^epsilon q + delta`. The sets tried are all half-lines.
#[test]
fn neighbours_are_as_hard_to_tell_apart_as_the_price_says() {
    const DRAWS: usize = 40_000;
    let (without, with) = (vec![9; 20], vec![9; 21]);
    let plan = plan(Query::Sum { lower: 0, upper: 9 }, price(2000));
    let (rho, delta) = (plan.cost(), Delta::new(3).unwrap());
    let factor = |rho: NanoRho| {
        let NanoEpsilon(nano) = rho.epsilon(delta);
        (nano as f64 / 1e9).exp()
    };
    let drawn = |records: &[i64]| {
        let values = answers(&plan, records, DRAWS).into_iter().map(|answer| match answer {
            Answer::Sum { value } => value,
            other => panic!("{other:?}"),
        });
        values.collect::<Vec<_>>()
    };
    let (without, with) = (drawn(&without), drawn(&with));
    let share = |values: &[i64], from: i64| values.iter().filter(|x| **x >= from).count() as f64 / DRAWS as f64;
    let promised = |rho: NanoRho| {
        let factor = factor(rho);
        // All frequencies of half-lines together are within 6 / sqrt(4 n) of their probabilities but for 2 e^-18 (Massart 1990).
        let slack = 6.0 * (1.0 + factor) / (4.0 * DRAWS as f64).sqrt();
        (120..260).step_by(3).all(|from| {
            let (p, q) = (share(&with, from), share(&without, from));
            [(p, q), (q, p), (1.0 - p, 1.0 - q), (1.0 - q, 1.0 - p)]
                .iter()
                .all(|(p, q)| *p <= factor * q + 1e-3 + slack)
        })
    };
    assert!(promised(rho), "they can be told apart");
    // Of a hundredth of the price these answers are not worthy: between the two means they differ by 0.12 more than it allows, and
    // the slack is 0.04.
    assert!(!promised(NanoRho(rho.0 / 100)), "ten times too little noise is not seen");
    // They differ, or the test would see nothing: by one record, half a deviation.
    let gap = moments(&with.iter().map(|x| *x as f64).collect::<Vec<_>>()).0
        - moments(&without.iter().map(|x| *x as f64).collect::<Vec<_>>()).0;
    assert!((gap - 9.0).abs() < 6.0 * 18.0 * (2.0 / DRAWS as f64).sqrt(), "{gap}");
}

#[test]
fn an_answer_takes_what_was_paid_for_it() {
    let (cheap, dear) = (plan(Query::Count {}, NanoRho(1000)), plan(Query::Count {}, NanoRho(2000)));
    let mut ledger = Ledger::new(BOOK, NanoRho(10_000));
    let entry = ledger.judge(cheap.cost()).unwrap();
    let permit = ledger.commit(&entry).unwrap();
    let refused = answer(permit, BOOK, &dear, &[1, 2, 3]).unwrap_err();
    assert_eq!(refused, AnswerError::Unpaid { paid: cheap.cost(), cost: dear.cost() });
    // And it is spent.
    assert_eq!(ledger.spent(), cheap.cost());
    // Nor does it open another ledger's records.
    let entry = ledger.judge(cheap.cost()).unwrap();
    let permit = ledger.commit(&entry).unwrap();
    let other = BookId::from_bytes([2; 32]);
    let refused = answer(permit, other, &cheap, &[1, 2, 3]).unwrap_err();
    assert_eq!(refused, AnswerError::OtherBook { expected: other, got: BOOK });
}
