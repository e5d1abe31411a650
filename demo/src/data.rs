//! The study's data: 441 diabetes patients, three hospitals, and the patients nobody trains on.
//!
//! The data are those of Efron, Hastie, Johnstone and Tibshirani, "Least Angle Regression", 2004: ten measurements per
//! patient at a baseline, and a number for how far the disease has progressed a year later. They are public; the demo
//! treats them as if they were not. Published are 442 patients; the crate we take them from reads the first as a header.
//!
//! 1. Every fifth patient, in the order of the table, is held out: 88 of 441.
//! 2. The others are sorted by their triglycerides and cut into thirds: the lowest are Alder's patients, the middle ones
//!    Birch's, the highest Cedar's, as if each were known for treating that kind. The split is deliberately not independent
//!    and identically distributed: what goes with triglycerides (body mass, cholesterol, the progression itself) is skewed
//!    too, and no hospital alone has seen what the held-out patients look like. The measurement to cut by was chosen
//!    because the skew hurts; cut by another, a hospital alone can do nearly as well as all of them together.
//! 3. Within a hospital, patients keep the order of the table.
//!
//! No randomness anywhere: [`study`] gives the same bytes on every machine.

/// Measurements of a patient.
pub(crate) const FEATURES: usize = 10;

/// The measurements, in order: age, sex, body mass index, mean blood pressure, then six of the serum: total cholesterol,
/// low- and high-density lipoproteins, total over high-density cholesterol, logarithm of triglycerides, glucose.
pub(crate) const FEATURE_NAMES: [&str; FEATURES] = ["age", "sex", "bmi", "bp", "tc", "ldl", "hdl", "tch", "ltg", "glu"];

/// The number to predict: progression of the disease after a year, from 25 to 346, no unit.
pub(crate) const TARGET: &str = "progression";

/// The square root of 442, the published patients. The published columns have mean zero and sum of squares one over all of them; times this
/// they have variance one, and gradient descent converges. A constant of the publication, not computed from anyone's
/// rows: no hospital learns anything about another from it.
const SCALE: f64 = 21.02379604162864;

/// The place in [`FEATURE_NAMES`] of the measurement that decides the hospital: ltg.
const CUT_BY: usize = 8;

/// One patient in this many is held out.
const HOLD_OUT_EVERY: usize = 5;

/// The hospitals, from the third of the patients with the lowest triglycerides to the highest.
const HOSPITAL_NAMES: [&str; 3] = ["alder", "birch", "cedar"];

/// One patient.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Patient {
    /// In the order of [`FEATURE_NAMES`]; over all published patients, mean zero and variance one.
    pub(crate) features: [f64; FEATURES],
    /// See [`TARGET`].
    pub(crate) progression: f64,
}

/// A hospital and what it brings to the study.
#[derive(Debug, Clone)]
pub(crate) struct Hospital {
    /// A short lowercase name.
    pub(crate) name: &'static str,
    /// Its patients as `train.wasm` takes them: a header, then a line each, the target last.
    pub(crate) csv: Vec<u8>,
    /// How many patients `csv` has.
    pub(crate) rows: usize,
    /// The patients of `csv`, for comparisons on this side only: what it would be like without enclaves.
    pub(crate) patients: Vec<Patient>,
}

/// Three hospitals, and patients of none of them.
#[derive(Debug, Clone)]
pub(crate) struct Study {
    /// In the order of their patients' triglycerides.
    pub(crate) hospitals: [Hospital; 3],
    /// Patients on whom models are judged.
    pub(crate) held_out: Vec<Patient>,
}

/// The study of the module documentation.
pub(crate) fn study() -> Study {
    let dataset = linfa_datasets::diabetes();
    let mut held_out = Vec::new();
    let mut others = Vec::new();
    for (index, (row, target)) in dataset.records().outer_iter().zip(dataset.targets()).enumerate() {
        let mut features = [0.0; FEATURES];
        for (feature, published) in features.iter_mut().zip(row) {
            *feature = published * SCALE;
        }
        let patient = Patient { features, progression: *target };
        if index % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1 {
            held_out.push(patient);
        } else {
            others.push(patient);
        }
    }

    let mut sorted: Vec<usize> = (0..others.len()).collect();
    let key = |index: usize| others[index].features[CUT_BY];
    sorted.sort_by(|&a, &b| key(a).total_cmp(&key(b)).then(a.cmp(&b)));
    let cut = |which: usize| which * others.len() / HOSPITAL_NAMES.len();
    let hospital = |which: usize| {
        let mut own = sorted[cut(which)..cut(which + 1)].to_vec();
        own.sort_unstable();
        let patients: Vec<Patient> = own.into_iter().map(|index| others[index].clone()).collect();
        Hospital { name: HOSPITAL_NAMES[which], csv: csv(&patients), rows: patients.len(), patients }
    };
    Study { hospitals: [hospital(0), hospital(1), hospital(2)], held_out }
}

/// The table that `train.wasm` reads. Numbers are the shortest that read back as the same double.
fn csv(patients: &[Patient]) -> Vec<u8> {
    let mut text = FEATURE_NAMES.join(",");
    text.push(',');
    text.push_str(TARGET);
    text.push('\n');
    for patient in patients {
        for feature in patient.features {
            text.push_str(&format!("{feature},"));
        }
        text.push_str(&format!("{}\n", patient.progression));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result};

    use super::*;

    fn mean(of: impl ExactSizeIterator<Item = f64>) -> f64 {
        let count = of.len() as f64;
        of.sum::<f64>() / count
    }

    #[test]
    fn every_patient_is_in_one_place() {
        let study = study();
        assert_eq!(study.held_out.len(), 88);
        let rows = study.hospitals.each_ref().map(|h| (h.name, h.rows));
        assert_eq!(rows, [("alder", 117), ("birch", 118), ("cedar", 118)]);
        let mut everyone: Vec<&Patient> = study.hospitals.iter().flat_map(|h| &h.patients).collect();
        everyone.extend(&study.held_out);
        for (feature, name) in FEATURE_NAMES.iter().enumerate() {
            // One of the published patients is missing, so that the variance is near one and not one.
            let variance = mean(everyone.iter().map(|p| p.features[feature].powi(2)));
            assert!((variance - 1.0).abs() < 0.01, "{name} has variance {variance}");
        }
        let mut seen: Vec<String> = everyone.iter().map(|p| format!("{p:?}")).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 441, "a patient twice, or lost");
    }

    #[test]
    fn hospitals_see_different_patients() -> Result<()> {
        let study = study();
        for pair in study.hospitals.windows(2) {
            let cut_by = |h: &Hospital| h.patients.iter().map(|p| p.features[CUT_BY]).collect::<Vec<f64>>();
            let highest = cut_by(&pair[0]).into_iter().fold(f64::MIN, f64::max);
            let lowest = cut_by(&pair[1]).into_iter().fold(f64::MAX, f64::min);
            assert!(highest <= lowest, "{} reaches into {}", pair[0].name, pair[1].name);
        }
        let [alder, birch, cedar] = study.hospitals.each_ref();
        assert_eq!(FEATURE_NAMES[CUT_BY], "ltg");
        for feature in ["bmi", "tc"] {
            let at = FEATURE_NAMES.iter().position(|name| *name == feature).context("no such feature")?;
            let of = |h: &Hospital| mean(h.patients.iter().map(|p| p.features[at]));
            assert!(of(cedar) > of(alder) + 0.5, "{feature}: {} and {}", of(alder), of(cedar));
        }
        let progression = |h: &Hospital| mean(h.patients.iter().map(|p| p.progression));
        assert!(progression(alder) + 20.0 < progression(birch) && progression(birch) + 20.0 < progression(cedar));
        Ok(())
    }

    #[test]
    fn the_table_reads_back_as_the_patients() -> Result<()> {
        for hospital in study().hospitals {
            let text = String::from_utf8(hospital.csv)?;
            let mut lines = text.lines();
            assert_eq!(lines.next(), Some("age,sex,bmi,bp,tc,ldl,hdl,tch,ltg,glu,progression"));
            let numbers = |line: &str| line.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>();
            let read = lines.map(numbers).collect::<Result<Vec<_>, _>>()?;
            let written: Vec<Vec<f64>> =
                hospital.patients.iter().map(|p| p.features.iter().copied().chain([p.progression]).collect()).collect();
            assert_eq!(read, written);
            // What the guest takes for a number: at most 40 characters each.
            assert!(text.split([',', '\n']).all(|cell| cell.len() <= 40));
        }
        Ok(())
    }
}
