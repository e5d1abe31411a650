//! Doubt in placement: the index, which asks about few, prefers whom the scan does, which asks about all.

use std::collections::BTreeSet;

use legation_core::{
    Digest, EnclaveId, TaskId,
    dsse::sign,
    monitor::{CallSet, Feature, Monitored, Verdict},
};
use legation_pool::{Event, Pool};

use crate::world::*;

fn alarm() -> Monitored {
    let (trace, worst) = (Digest::of(b"calls"), Some(Feature::Fuel));
    Monitored { calls: CallSet::EMPTY, trace, verdict: Verdict::Alarm, evidence: 6700, worst }
}

/// Runs both fragments of a task; on half of the machines, monitors raise alarms.
fn finish(world: &mut World, task: TaskId, loud: &BTreeSet<EnclaveId>) {
    for index in 0..2 {
        let (lease, enclave) = world.lease(task, index).unwrap();
        let mut ran = world.ran(lease);
        if loud.contains(&enclave) {
            ran.report.monitor = Some(alarm());
        }
        world.apply(world.reporting(enclave, ran)).unwrap();
    }
}

/// Machines that differ in nothing but what they did, and work that does not care how well it fits: then nobody is better than whom
/// the index takes, however many were passed over before. Two fragments of a task are asked about one by one, others by their
/// class alone.
#[test]
fn the_index_prefers_whom_the_scan_does() {
    let mut world = World::new((0..12).map(|n| Machine::new(&format!("machine {n}"))));
    let loud: BTreeSet<EnclaveId> = world.pool.enclaves().keys().copied().step_by(2).collect();
    let (mut tasks, mut told_apart, mut taken) = (Vec::new(), 0, 0);
    for n in 0..120_usize {
        let pieces = vec![fragment("one"), fragment("two")];
        let mut asked = request("client", &format!("task {n}"), world.now, pieces);
        asked.prefer.weights.fit = 0;
        let asked = sign(asked, &world.client);
        let grant = sign(policy_grant(&asked, &world.client), &world.client);
        let mut before = world.pool.clone();
        for record in world.submit_with(&asked, vec![grant], None).unwrap().records {
            if let Event::Leased { allocation } = &record.event {
                let ranking = before.ranking(allocation.task, allocation.fragment, world.now);
                let chosen = ranking.iter().find(|ranked| ranked.enclave == allocation.enclave).unwrap();
                assert_eq!(chosen.effective, ranking[0].effective, "{chosen:?} for {:?}", ranking[0]);
                let doubted = ranking.iter().filter(|ranked| ranked.parts.contains("trust")).count();
                told_apart += usize::from((1..ranking.len()).contains(&doubted));
                taken += usize::from(chosen.parts.contains("trust"));
            }
            before.absorb(&record).unwrap();
        }
        tasks.push(TaskId::new(asked.digest()));
        // As many at once as most machines have room for: who is doubted is asked, too.
        if tasks.len() > 8 {
            let task = tasks.remove(n * 7 % tasks.len());
            finish(&mut world, task, &loud);
        }
    }
    assert!(told_apart > 50 && taken > 10, "{told_apart} told apart, {taken} taken: the test tests too little");
    for (id, enclave) in world.pool.enclaves() {
        assert_eq!(enclave.trust(world.now).is_some_and(|trust| trust.doubt > 0), loud.contains(id), "{id}");
    }
    // What is restored ranks the same.
    let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(restored, world.pool);
    restored.audit().unwrap();
}
