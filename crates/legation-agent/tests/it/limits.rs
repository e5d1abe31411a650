//! Limits of a placement, hit by real modules in the engine, and offers that ask for more.

use legation_core::{
    Allowance, Bytes, Encryption, Fuel, Millis,
    statement::{Outcome, Request},
    task::Demand,
};
use legation_net::message::{ToAgent, ToManager};

use crate::{
    manager::{Manager, config, open, simple, start},
    world::sign,
};

/// A module that writes `said` to standard output and to standard error so many times, then grows its memory by so many
/// pages, then runs for ever if asked.
fn module(out: u32, err: u32, grows: u32, endless: bool) -> Vec<u8> {
    let say = |stream: u32, times: u32| {
        format!(
            "(local.set 0 (i32.const {times}))
             (block (loop (br_if 1 (i32.eqz (local.get 0))) (call $say (i32.const {stream}))
               (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br 0)))"
        )
    };
    let forever = if endless { "(loop br 0)" } else { "" };
    let text = format!(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func $w (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1) (data (i32.const 64) \"said\")
           (func $say (param i32) (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4))
             (drop (call $w (local.get 0) (i32.const 0) (i32.const 1) (i32.const 16))))
           (func (export \"_start\") (local i32) {} {} (drop (memory.grow (i32.const {grows}))) {forever}))",
        say(1, out),
        say(2, err)
    );
    wat::parse_str(text).unwrap()
}

fn limited(change: impl FnOnce(&mut Allowance)) -> Allowance {
    let mut allowance = Allowance { rules: vec!["appraisal/small".to_owned()], ..Allowance::default() };
    change(&mut allowance);
    allowance
}

/// A request whose fragment demands this.
fn demanding(manager: &mut Manager, module: &[u8], change: impl FnOnce(&mut Demand)) -> legation_core::Signed<Request> {
    let digest = manager.serve(module);
    let mut request = simple(digest, &[], 1).predicate().clone();
    request.fragments[0].demand.fuel = Fuel(u64::MAX >> 1);
    change(&mut request.fragments[0].demand);
    sign(request)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_is_hit_by_a_module_that_runs() {
    let mut manager = Manager::new().await;
    let _agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let sealed = |plain: u64| Bytes(plain + 16);
    type Change = Box<dyn Fn(&mut Demand)>;
    /// Bytes of output and log, or why the task failed.
    type Left = Result<(u64, u64), &'static str>;
    let same: fn() -> Change = || Box::new(|_| {});
    let cases: Vec<(&str, Allowance, Change, Vec<u8>, Left)> = vec![
        (
            "memory",
            limited(|a| a.memory = Some(Bytes::mib(1))),
            Box::new(|d| d.memory = Bytes::mib(1)),
            module(0, 0, 300, false),
            Err("out-of-memory"),
        ),
        (
            "fuel",
            limited(|a| a.fuel = Some(Fuel(100_000))),
            Box::new(|d| d.fuel = Fuel(100_000)),
            module(0, 0, 0, true),
            Err("out-of-fuel"),
        ),
        (
            "time",
            limited(|a| a.time = Some(Millis(200))),
            Box::new(|d| d.time = Millis(200)),
            module(0, 0, 0, true),
            Err("deadline"),
        ),
        (
            // What it may write it writes; sealed, that is more than may leave.
            "egress of the output",
            limited(|a| a.egress = Some(Bytes(1000))),
            Box::new(|d| d.output = Bytes(1000)),
            module(250, 0, 0, false),
            Err("output-too-large"),
        ),
        (
            "egress that the output just fits into",
            limited(|a| a.egress = Some(sealed(1000))),
            Box::new(|d| d.output = Bytes(1000)),
            module(250, 5, 0, false),
            Ok((1000, 0)),
        ),
        (
            "egress that leaves room for a word of the log",
            limited(|a| a.egress = Some(Bytes(sealed(1000).0 + sealed(4).0))),
            Box::new(|d| d.output = Bytes(1000)),
            module(250, 50, 0, false),
            Ok((1000, 4)),
        ),
        ("nothing", limited(|a| a.encryption = Some(Encryption::OURS)), same(), module(1, 50, 1, false), Ok((4, 200))),
    ];
    for (name, limits, change, wasm, wanted) in cases {
        let request = demanding(&mut manager, &wasm, &*change);
        let mut offer = manager.offer(&conn, &request, 0, &[], Vec::new());
        let mut allocation = offer.allocation.predicate().clone();
        allocation.limits = Some(limits.clone());
        offer.allocation = sign(allocation);
        let lease = conn.offer(&offer).await;
        let reported = conn.report(&mut manager, lease).await;
        let report = &reported.report;
        let (output, log) = open(&manager, &reported);
        let lengths = (output.map_or(0, |o| o.len() as u64), log.map_or(0, |l| l.len() as u64));
        match wanted {
            Ok(wanted) => assert_eq!((&report.outcome, lengths), (&Outcome::Completed, wanted), "{name}"),
            Err(reason) => {
                assert_eq!(report.outcome, Outcome::Failed { reason: reason.into() }, "{name}");
                assert_eq!(lengths.0, 0, "{name}: an output left");
            }
        }
        // Whoever takes the report finds it within the limits.
        limits.check_report(report).unwrap();
        conn.say(&ToAgent::Acknowledged { lease }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_asks_for_more_than_its_limits_is_refused() {
    let mut manager = Manager::new().await;
    let _agent = start(config(&manager.address()));
    let mut conn = manager.admit().await;
    let wasm = module(1, 0, 0, false);
    let request = demanding(&mut manager, &wasm, |_| {});
    let demand = request.fragments[0].demand;
    let over: [(&str, Allowance); 6] = [
        ("limits.cpu", limited(|a| a.cpu = Some(legation_core::Millicores(demand.cpu.0 - 1)))),
        ("limits.memory", limited(|a| a.memory = Some(Bytes(demand.memory.0 - 1)))),
        ("limits.fuel", limited(|a| a.fuel = Some(Fuel(demand.fuel.0 - 1)))),
        ("limits.time", limited(|a| a.time = Some(Millis(demand.time.0 - 1)))),
        ("limits.egress", limited(|a| a.egress = Some(Bytes(demand.output.0 - 1)))),
        ("limits.encryption", limited(|a| a.encryption = Some(Encryption::Aes256GcmMlKem1024))),
    ];
    for (check, limits) in over {
        let mut offer = manager.offer(&conn, &request, 0, &[], Vec::new());
        let mut allocation = offer.allocation.predicate().clone();
        allocation.limits = Some(limits);
        offer.allocation = sign(allocation);
        let lease = conn.offer(&offer).await;
        match conn.next(&mut manager).await {
            ToManager::Refuse { lease: refused, why } => assert_eq!((refused, why.check.as_str()), (lease, check)),
            other => panic!("not refused for {check}: {other:?}"),
        }
    }
}
