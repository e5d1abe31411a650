//! Metering: what is computed, what is bounded, and what lies are worth.

use legation_core::{
    Bytes, Fuel, GpuMillis, LeaseId, MibMillis, MicroUsd, Milligpus, Millis, TaskId, TenantId, statement::Report,
};
use legation_pool::{Metered, Phase};

use crate::world::*;

/// Runs the only fragment of a task after `seconds`, with a report changed by `lie`.
fn report(world: &mut World, seconds: u64, lie: impl FnOnce(&mut Report)) -> (TaskId, LeaseId) {
    let mut spec = reading(fragment("metered"), vec![sealed("rows", None), sealed("more", None)]);
    spec.demand.gpus = Milligpus(2000);
    let request = world.signed(vec![spec]);
    let task = world.submit(&request);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    world.grant(lease, &Key::new("client"));
    world.now = world.now.plus(seconds);
    let mut ran = world.ran(lease);
    lie(&mut ran.report);
    let command = world.reporting(enclave, ran);
    world.apply(command).unwrap();
    (task, lease)
}

/// A machine with two accelerators.
fn fast() -> Machine {
    Machine { gpus: vec!["one", "two"], ..Machine::new("a") }
}

fn metered(world: &World, task: TaskId) -> Metered {
    world.pool.task_view(task).unwrap().metered
}

#[test]
fn what_was_used_is_counted_in_units() {
    let mut world = World::new([fast()]);
    let (task, _) = report(&mut world, 10, |report| report.usage.micros = 2_000_001);
    // 64 MiB and two accelerators for 2.001 s; two inputs of 100 bytes, an output of 10.
    let wanted = Metered {
        fuel: Fuel(1000),
        memory_time: MibMillis(64 * 2001),
        bytes_in: Bytes(200),
        bytes_out: Bytes(10),
        enclave_time: Millis(2001),
        gpu_time: GpuMillis(4002),
    };
    assert_eq!(metered(&world, task), wanted);
    let fragment = &world.pool.task_view(task).unwrap().fragments[0];
    assert_eq!((fragment.metered, fragment.charged), (Some(wanted), Some(MicroUsd(1))));
    report(&mut world, 10, |report| report.usage.micros = 1);
    let book = world.pool.account(&TenantId::new("acme").unwrap()).book;
    assert_eq!((book.metered.bytes_in, book.metered.enclave_time, book.spent), (Bytes(400), Millis(2002), MicroUsd(2)));
}

#[test]
fn an_enclave_bills_no_more_time_than_has_passed_and_no_more_than_was_asked_for() {
    // Ten seconds after the lease began, by the manager's clock, which shows whole seconds.
    for (seconds, said, counted) in
        [(10, 5_000_000, 5_000), (10, 60_000_000, 11_000), (59, 60_999_999, 60_000), (0, 60_000_000, 1_000)]
    {
        let mut world = World::new([fast()]);
        let (task, _) = report(&mut world, seconds, |report| report.usage.micros = said);
        assert_eq!(metered(&world, task).enclave_time, Millis(counted), "{said} us after {seconds} s");
        let spent = world.pool.tasks()[&task].spent;
        assert!(spent <= MicroUsd(17), "charged {spent}");
    }
}

#[test]
fn lies_that_no_lease_allows_cost_the_lease_and_nothing_is_charged() {
    let lies: [fn(&mut Report); 4] = [
        |report| report.usage.fuel = Fuel(u64::MAX),
        |report| report.usage.memory_peak = Bytes(u64::MAX),
        |report| report.usage.micros = u64::MAX,
        |report| report.output.as_mut().unwrap().size = Bytes(u64::MAX),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let mut world = World::new([fast()]);
        let (task, lease) = report(&mut world, 10, lie);
        assert!(!world.pool.leases().contains_key(&lease));
        assert_eq!((world.phase(task, 0), metered(&world, task)), (Phase::Queued, Metered::default()), "lie {n}");
        let book = world.pool.account(&TenantId::new("acme").unwrap()).book;
        assert_eq!((book.spent, book.committed, book.leases), (MicroUsd(0), MicroUsd(0), 0), "lie {n}");
    }
}

#[test]
fn sums_stop_at_the_largest_number() {
    let huge = Metered {
        fuel: Fuel(u64::MAX),
        memory_time: MibMillis(u64::MAX),
        bytes_in: Bytes(u64::MAX),
        bytes_out: Bytes(u64::MAX),
        enclave_time: Millis(u64::MAX),
        gpu_time: GpuMillis(u64::MAX),
    };
    assert_eq!(huge.plus(&huge), huge);
}
