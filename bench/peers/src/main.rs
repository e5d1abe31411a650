//! Delegation tokens of others, beside the grants of `cargo xtask bench delegation`: biscuit-auth, the only format we know of with
//! attenuation offline and verification by a public key.
//!
//! A token has a block of its issuer with seven facts, and a block of four checks for each time that it was handed on: fuel, budget,
//! module and date, as a grant narrows. Whoever receives it parses it, verifies a signature for each block and the proof of the last
//! one's key, and authorises one use. Prints one JSON object.

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant, SystemTime},
};

use biscuit_auth::{
    AuthorizerLimits, Biscuit, KeyPair,
    builder::{AuthorizerBuilder, BlockBuilder, date, fact, int, string},
    builder_ext::AuthorizerExt,
};
use serde_json::{Value, json};

type Failure = Box<dyn Error>;

/// Blocks of checks behind the issuer's: as many signatures in all as our chain of three grants, and as deep as was measured before.
const HANDED: [usize; 3] = [0, 2, 3];
const ROUNDS: usize = 20_000;

const RIGHTS: &str = r#"
    task("6f2a"); fragment(0); module("relay"); module("split");
    fuel_most(1000); budget_most(1000); depth(3);
"#;
const NARROWER: &str = r#"
    check if fuel($fuel), $fuel <= 900;
    check if budget($budget), $budget <= 900;
    check if runs($module), $module == "relay";
    check if time($time), $time <= 2100-01-01T00:00:00Z;
"#;

fn main() -> Result<(), Failure> {
    let found = HANDED.into_iter().map(measure).collect::<Result<Vec<_>, _>>()?;
    println!("{}", json!({ "biscuit-auth": { "version": "6.0.0", "rounds": ROUNDS, "tokens": found } }));
    Ok(())
}

fn measure(handed: usize) -> Result<Value, Failure> {
    let root = KeyPair::new();
    let mut token = Biscuit::builder().code(RIGHTS)?.build(&root)?;
    for _ in 0..handed {
        token = token.append(BlockBuilder::new().code(NARROWER)?)?;
    }
    let bytes = token.to_vec()?;
    let verify = || -> Result<Biscuit, Failure> { Ok(Biscuit::from(&bytes, root.public())?) };
    let authorize = |token: &Biscuit| -> Result<usize, Failure> {
        let mut authorizer = AuthorizerBuilder::new()
            .fact(fact("fuel", &[int(800)]))?
            .fact(fact("budget", &[int(800)]))?
            .fact(fact("runs", &[string("relay")]))?
            .fact(fact("time", &[date(&SystemTime::now())]))?
            // The usual millisecond refuses tokens at random on a busy machine.
            .set_limits(AuthorizerLimits { max_time: Duration::from_secs(2), ..AuthorizerLimits::default() })
            .allow_all()
            .build(token)?;
        Ok(authorizer.authorize()?)
    };
    let verified = verify()?;
    let (mut parts, mut datalog, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        parts.push(micros(&verify)?);
        datalog.push(micros(|| authorize(&verified))?);
        whole.push(micros(|| authorize(&verify()?))?);
    }
    Ok(json!({
        "handed_on": handed, "signatures_of_blocks": handed + 1, "bytes": bytes.len(),
        "parsed_and_verified_us": spread(parts), "authorised_us": spread(datalog), "received_us": spread(whole),
    }))
}

fn micros<T>(work: impl Fn() -> Result<T, Failure>) -> Result<f64, Failure> {
    let began = Instant::now();
    black_box(work()?);
    Ok(began.elapsed().as_secs_f64() * 1e6)
}

fn spread(mut figures: Vec<f64>) -> Value {
    figures.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| figures.get((figures.len().saturating_sub(1) as f64 * share) as usize).copied();
    json!({ "p50": at(0.5), "p99": at(0.99) })
}
