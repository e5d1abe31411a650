//! Work that takes long enough to be interrupted: trainings on a small table, and the average of what they give.

use legation::run::{Job, Outcome, Part, PartInput, Runner};
use legation_core::{Bytes, Fuel, MicroUsd, Millicores, Milligpus, Millis, Requirement, claims::Anchors, task::Demand};

use crate::world::guest;

/// Rows of a table whose training takes a moment.
pub(crate) const MOMENT: usize = 1;
/// Rows of a table whose training takes about a second.
pub(crate) const SECOND: usize = 100;

const DEMAND: Demand = Demand {
    cpu: Millicores(250),
    memory: Bytes::mib(16),
    fuel: Fuel(1_000_000_000_000),
    time: Millis(120_000),
    output: Bytes::mib(1),
    gpus: Milligpus::ZERO,
};

/// `fragments` trainings on tables of `rows` rows, and their average.
pub(crate) async fn job(runner: &Runner, fragments: usize, rows: usize) -> Job {
    let store = async |name: &str| {
        let bytes = std::fs::read(guest(name)).unwrap();
        runner.client.put_object(bytes.into()).await.unwrap()
    };
    let (train, reduce) = (store("train").await, store("reduce").await);
    let mut parts = Vec::new();
    for i in 0..fragments {
        let mut table = String::from("a,y\n");
        (0..rows).for_each(|row| table.push_str(&format!("{},{}\n", i, row % 7)));
        let sealed = runner.party.seal("rows", table.as_bytes()).unwrap();
        runner.client.put_object(sealed.ciphertext.into()).await.unwrap();
        parts.push(Part {
            name: format!("train {i}"),
            module: train,
            args: ["epochs=1000000", "rate=0.0001", "l2=0.5"].map(str::to_owned).to_vec(),
            inputs: vec![PartInput::Sealed(sealed.reference)],
            demand: DEMAND,
            require: Requirement::any(),
            owner: None,
            delegates: None,
        });
    }
    parts.push(Part {
        name: "average".to_owned(),
        module: reduce,
        args: Vec::new(),
        inputs: (0..fragments).map(PartInput::Output).collect(),
        demand: DEMAND,
        require: Requirement::any(),
        owner: None,
        delegates: None,
    });
    Job {
        name: "slow".to_owned(),
        parts,
        require: Requirement::any(),
        budget: MicroUsd(1_000_000),
        swarm: None,
        life_seconds: 300,
        prefer: Default::default(),
        data: Default::default(),
        builds_on: Vec::new(),
    }
}

/// A job that reads nothing and does nothing.
pub(crate) async fn idle(runner: &Runner) -> Job {
    let module = std::fs::read(guest("noop")).unwrap();
    let module = runner.client.put_object(module.into()).await.unwrap();
    let part = Part {
        name: "nothing".to_owned(),
        module,
        args: Vec::new(),
        inputs: Vec::new(),
        demand: DEMAND,
        require: Requirement::any(),
        owner: None,
        delegates: None,
    };
    Job {
        name: "idle".to_owned(),
        parts: vec![part],
        require: Requirement::any(),
        budget: MicroUsd(1_000_000),
        swarm: None,
        life_seconds: 300,
        prefer: Default::default(),
        data: Default::default(),
        builds_on: Vec::new(),
    }
}

/// Fails the test unless a job of so many trainings gave the average of all of them, and a receipt that holds.
pub(crate) fn check(outcome: &Outcome, fragments: usize, rows: usize, anchors: &Anchors) {
    let result = String::from_utf8_lossy(&outcome.results[0]).into_owned();
    assert!(result.contains(&format!("\nrows {}\n", fragments * rows)), "{result}");
    assert_eq!(outcome.view.fragments.len(), fragments + 1);
    // Whoever was lost is not asked again, and the fragment's end is on the last that was tried.
    for fragment in &outcome.view.fragments {
        let (last, before) = fragment.attempts.split_last().unwrap();
        assert!(last.ended.is_none(), "{fragment:?}");
        assert!(before.iter().all(|a| a.ended.is_some() && a.enclave != last.enclave), "{fragment:?}");
    }
    let text = outcome.receipt.to_text();
    match legation::verify::verify(text.as_bytes(), anchors, None).unwrap() {
        legation::verify::Answer::Valid(verdict) => assert!(verdict.completed && verdict.task == outcome.task),
        legation::verify::Answer::Invalid { at, why } => panic!("receipt invalid at {at}: {why}"),
    }
}
