//! The yardstick: what learning without enclaves would give, and how good a model is. Pure arithmetic on this side; the
//! learning that the demo shows happens in `guests/train.wasm` and `guests/reduce.wasm`, never here.
//!
//! All models minimise the same thing: half the mean squared error plus half [`L2`] times the squared weights, the
//! intercept free. [`fit`] solves it exactly (normal equations, Cholesky). The guests walk towards it: in each of
//! [`ROUNDS`] rounds every hospital takes [`EPOCHS`] steps on its own rows from the common model, and the results are
//! averaged by rows (McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017).
//!
//! The tests run the same walk on this side, operation for operation, and hold it against what the modules print.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use crate::data::{FEATURE_NAMES, FEATURES, Patient, TARGET};

/// Rounds of federated averaging. On the held-out patients, the model of the last round is within 0.006 R2 of the exact
/// fit on all rows. This and the next two were chosen by looking at that number; the demo shows a mechanism, it is no
/// clinical result.
pub(crate) const ROUNDS: usize = 5;

/// Steps of gradient descent that a hospital takes in a round. What matters for the model is steps times
/// [`LEARNING_RATE`], here 5: large enough to converge in [`ROUNDS`] rounds, small enough that hospitals do not walk off
/// to their own optimum. The steps are as many and as small as they are so that a hospital's round lasts a few tenths of a
/// second (3.0e9 WebAssembly instructions for 118 rows), long enough to lose an enclave in the middle of one.
pub(crate) const EPOCHS: u32 = 50_000;

/// Size of a step. Descent on columns of variance one is stable below 0.4.
pub(crate) const LEARNING_RATE: f64 = 1e-4;

/// Weight of the penalty on the squared weights.
pub(crate) const L2: f64 = 0.01;

/// More bytes than any model of this study has.
const MODEL_BYTES_MAX: usize = 4096;

/// The arguments of `train.wasm` in this study.
pub(crate) fn train_args() -> Vec<String> {
    vec![format!("epochs={EPOCHS}"), format!("rate={LEARNING_RATE}"), format!("l2={L2}")]
}

/// A linear model over [`FEATURE_NAMES`]. Displays as the guests' text form, see `guests/README.md`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    /// Rows it was trained on: its weight in an average.
    pub(crate) rows: u64,
    /// What it predicts where all features are zero.
    pub(crate) intercept: f64,
    /// In the order of [`FEATURE_NAMES`].
    pub(crate) weights: [f64; FEATURES],
}

impl Model {
    /// Reads what `train.wasm` and `reduce.wasm` print.
    ///
    /// # Errors
    /// When it is not a model of this study's features and target, in their order, with finite numbers.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        ensure!(text.len() <= MODEL_BYTES_MAX, "a model of {} bytes, expected {MODEL_BYTES_MAX} at most", text.len());
        let text = std::str::from_utf8(text).context("a model that is not text")?;
        let mut lines = text.lines();
        let mut value = |keyword: &str| {
            let line = lines.next().unwrap_or_default();
            let rest = line.strip_prefix(keyword).and_then(|rest| rest.strip_prefix(' '));
            rest.with_context(|| format!("a model with the line {line:?}, expected \"{keyword} ...\""))
        };
        ensure!(value("legation-linear")? == "1", "a model of an unknown version");
        ensure!(value("target")? == TARGET, "a model of another target than {TARGET}");
        let rows = value("rows")?.parse().context("a model with a row count that is no number")?;
        ensure!(value("features")? == FEATURES.to_string(), "a model of other than {FEATURES} features");
        let number = |text: &str| match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => bail!("a model with the number {text:?}"),
        };
        let intercept = number(value("intercept")?)?;
        let mut weights = [0.0; FEATURES];
        for (weight, name) in weights.iter_mut().zip(FEATURE_NAMES) {
            *weight = number(value(&format!("weight {name}"))?)?;
        }
        ensure!(lines.next().is_none(), "a model with a line after the last weight");
        Ok(Self { rows, intercept, weights })
    }

    /// What the model says about a patient; summed in the guests' order.
    pub(crate) fn predict(&self, patient: &Patient) -> f64 {
        self.weights.iter().zip(&patient.features).fold(self.intercept, |sum, (weight, x)| sum + weight * x)
    }
}

impl fmt::Display for Model {
    /// Numbers are the shortest that read back as the same double; the guests write them with 17 digits instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "legation-linear 1\ntarget {TARGET}\nrows {}\nfeatures {FEATURES}", self.rows)?;
        writeln!(f, "intercept {:e}", self.intercept)?;
        for (name, weight) in FEATURE_NAMES.iter().zip(self.weights) {
            writeln!(f, "weight {name} {weight:e}")?;
        }
        Ok(())
    }
}

/// The exact minimum for these patients: all hospitals' rows for the centralised fit, one hospital's for going alone.
///
/// # Errors
/// When the patients do not determine a model: too few, or a feature that is a combination of others while `l2` is zero.
pub(crate) fn fit<'a>(patients: impl IntoIterator<Item = &'a Patient>, l2: f64) -> Result<Model> {
    const SIZE: usize = FEATURES + 1; // the intercept comes last
    let mut gram = [[0.0; SIZE]; SIZE];
    let mut right = [0.0; SIZE];
    let mut rows = 0_u64;
    for patient in patients {
        let mut x = [1.0; SIZE];
        x[..FEATURES].copy_from_slice(&patient.features);
        for i in 0..SIZE {
            right[i] += x[i] * patient.progression;
            for j in 0..=i {
                gram[i][j] += x[i] * x[j];
            }
        }
        rows += 1;
    }
    // The penalty is on the mean of the errors, the sums here are not divided by the rows.
    for (feature, line) in gram.iter_mut().enumerate().take(FEATURES) {
        line[feature] += l2 * rows as f64;
    }
    let solved = solve(gram, right).context("the patients do not determine a model")?;
    let mut weights = [0.0; FEATURES];
    weights.copy_from_slice(&solved[..FEATURES]);
    Ok(Model { rows, intercept: solved[FEATURES], weights })
}

/// Solves `matrix * x = right` by Cholesky's decomposition, reading the lower triangle only. None where the matrix is not
/// positive definite.
fn solve<const N: usize>(mut matrix: [[f64; N]; N], mut right: [f64; N]) -> Option<[f64; N]> {
    for i in 0..N {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let left = matrix[i][j] - known;
            if i != j {
                matrix[i][j] = left / matrix[j][j];
            } else if left > matrix[i][i] * 1e-12 {
                matrix[i][i] = left.sqrt();
            } else {
                return None;
            }
        }
    }
    for i in 0..N {
        let known: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    for i in (0..N).rev() {
        let known: f64 = (i + 1..N).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    Some(right)
}

/// How good a model is on patients it has not seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quality {
    /// Share of the variance explained: one is perfect, zero is as good as always saying the mean, less is worse.
    pub(crate) r2: f64,
    /// Root of the mean squared error, in units of the target.
    pub(crate) rmse: f64,
}

/// Judges a model. On no patients at all, both numbers are NaN.
pub(crate) fn quality(model: &Model, held_out: &[Patient]) -> Quality {
    let count = held_out.len() as f64;
    let mean = held_out.iter().map(|patient| patient.progression).sum::<f64>() / count;
    let total: f64 = held_out.iter().map(|patient| (patient.progression - mean).powi(2)).sum();
    let missed: f64 = held_out.iter().map(|patient| (patient.progression - model.predict(patient)).powi(2)).sum();
    Quality { r2: 1.0 - missed / total, rmse: (missed / count).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Hospital, Study, study};

    const ZERO: Model = Model { rows: 0, intercept: 0.0, weights: [0.0; FEATURES] };

    /// What `reduce.wasm` printed after the last round in wasmtime, with the arguments of this file.
    const PRINTED: &str = "\
legation-linear 1
target progression
rows 353
features 10
intercept 149.9051311389008
weight age -1.9600241479440483
weight sex -9.1612841403419747
weight bmi 24.310082264783539
weight bp 14.721674802774473
weight tc -12.468575838234774
weight ldl 3.8120982557505494
weight hdl -7.556352815756715
weight tch 1.2271179592285166
weight ltg 24.393206036665372
weight glu 4.033994304199398
";

    /// `train.wasm`, operation for operation.
    fn train(hospital: &Hospital, from: &Model) -> Model {
        let rows = hospital.rows as f64;
        let mut model = Model { rows: hospital.rows as u64, ..from.clone() };
        for _ in 0..EPOCHS {
            let (mut lift, mut slope) = (0.0, [0.0; FEATURES]);
            for patient in &hospital.patients {
                let off = model.predict(patient) - patient.progression;
                lift += off;
                for (slope, x) in slope.iter_mut().zip(&patient.features) {
                    *slope += off * x;
                }
            }
            model.intercept -= LEARNING_RATE * (lift / rows);
            for (weight, slope) in model.weights.iter_mut().zip(slope) {
                *weight -= LEARNING_RATE * (slope / rows + L2 * *weight);
            }
        }
        model
    }

    /// `reduce.wasm`, operation for operation.
    fn reduce(updates: &[Model]) -> Model {
        let mut sum = ZERO;
        for update in updates {
            let rows = update.rows as f64;
            sum.rows += update.rows;
            sum.intercept += rows * update.intercept;
            for (sum, weight) in sum.weights.iter_mut().zip(update.weights) {
                *sum += rows * weight;
            }
        }
        let rows = sum.rows as f64;
        Model { rows: sum.rows, intercept: sum.intercept / rows, weights: sum.weights.map(|weight| weight / rows) }
    }

    fn centralised(study: &Study) -> Result<Model> {
        fit(study.hospitals.iter().flat_map(|hospital| &hospital.patients), L2)
    }

    #[test]
    fn federated_learning_is_as_good_as_pooling_the_rows() -> Result<()> {
        let study = study();
        let pooled = quality(&centralised(&study)?, &study.held_out);
        let mut common = ZERO;
        for _ in 0..ROUNDS {
            common = reduce(&study.hospitals.each_ref().map(|hospital| train(hospital, &common)));
        }
        let federated = quality(&common, &study.held_out);
        assert!((federated.r2 - pooled.r2).abs() < 0.006, "{federated:?}, pooled {pooled:?}");
        assert!((pooled.r2 - 0.5267).abs() < 1e-4 && (pooled.rmse - 52.56).abs() < 0.01, "{pooled:?}");

        let mut alone = [0.0; 3];
        for (alone, hospital) in alone.iter_mut().zip(&study.hospitals) {
            *alone = quality(&fit(&hospital.patients, L2)?, &study.held_out).r2;
        }
        alone.sort_by(f64::total_cmp);
        let [worst, middle, best] = alone.map(|r2| federated.r2 - r2);
        assert!(worst > 0.15 && middle > 0.1 && best > 0.03, "alone {alone:?}, federated {federated:?}");

        assert_eq!(Model::parse(PRINTED.as_bytes())?, common, "the modules compute something else");
        Ok(())
    }

    #[test]
    fn the_exact_fit_is_where_the_gradient_vanishes() -> Result<()> {
        let study = study();
        let model = centralised(&study)?;
        let patients = || study.hospitals.iter().flat_map(|hospital| &hospital.patients);
        let off = |patient: &Patient| model.predict(patient) - patient.progression;
        let rows = model.rows as f64;
        assert_eq!(model.rows, 353);
        assert!((patients().map(off).sum::<f64>() / rows).abs() < 1e-9);
        for (feature, name) in FEATURE_NAMES.iter().enumerate() {
            let slope = patients().map(|p| off(p) * p.features[feature]).sum::<f64>() / rows;
            let gradient = slope + L2 * model.weights[feature];
            assert!(gradient.abs() < 1e-9, "{name}: {gradient}");
        }
        Ok(())
    }

    #[test]
    fn a_fit_that_is_not_determined_is_an_error() {
        let study = study();
        let mut few = study.held_out[..8].to_vec();
        assert!(fit(&few, 0.0).is_err(), "8 patients for 11 unknowns");
        assert!(fit(&few, L2).is_ok(), "the penalty decides");
        few.clear();
        assert!(fit(&few, L2).is_err(), "nobody");
    }

    #[test]
    fn quality_is_measured_against_the_mean() {
        let held_out = study().held_out;
        let mean = held_out.iter().map(|p| p.progression).sum::<f64>() / held_out.len() as f64;
        let constant = quality(&Model { intercept: mean, ..ZERO }, &held_out);
        assert!(constant.r2.abs() < 1e-12, "{constant:?}");
        let off_by_three: Vec<Patient> = held_out.iter().map(|p| Patient { progression: 3.0, ..p.clone() }).collect();
        assert_eq!(quality(&ZERO, &off_by_three).rmse, 3.0);
    }

    #[test]
    fn models_are_read_strictly() -> Result<()> {
        let model = Model { rows: 7, intercept: -0.1, weights: std::array::from_fn(|i| 1e-300 * i as f64) };
        let text = model.to_string();
        assert_eq!(Model::parse(text.as_bytes())?, model);
        for (what, broken) in [
            ("version", text.replace("linear 1", "linear 2")),
            ("target", text.replace(TARGET, "age")),
            ("rows", text.replace("rows 7", "rows -7")),
            ("features", text.replace("features 10", "features 9")),
            ("order", text.replace("weight age", "weight sex")),
            ("number", text.replace("-1e-1", "minus")),
            ("finite", text.replace("-1e-1", "inf")),
            ("a line less", text.trim_end().rsplit_once('\n').context("one line")?.0.to_owned()),
            ("a line more", format!("{text}weight x 1\n")),
            ("empty", String::new()),
            ("size", format!("{text}{}", "\n".repeat(MODEL_BYTES_MAX))),
        ] {
            assert_ne!(broken, text, "{what}: the case changes nothing");
            assert!(Model::parse(broken.as_bytes()).is_err(), "{what}");
        }
        assert!(Model::parse(&[0xff]).is_err());
        Ok(())
    }

    #[test]
    fn the_guests_accept_the_arguments() {
        assert_eq!(train_args(), ["epochs=50000", "rate=0.0001", "l2=0.01"]);
    }
}
