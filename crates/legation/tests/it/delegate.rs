//! What `legation run` says of work that may be handed on: in the request, and in the grants.

use legation_core::{
    Digest, Fuel, MicroUsd, Receipt,
    statement::{Assurance, Diversity, Grant, Request},
};

use crate::world::{World, guest, program};

#[tokio::test]
async fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let here = tempfile::tempdir().unwrap();
    let (echo, noop) = (guest("echo"), guest("noop"));
    let table: [(&[&str], &str); 6] = [
        (&["--delegate-depth", "2"], "--delegate"),
        (&["--delegate-data"], "--delegate"),
        (&["--delegate", &noop, "--delegate-depth", "9"], "9 is not in 1..=8"),
        (&["--delegate", &noop, "--delegate-fuel", "0"], "0 is not in 1.."),
        (&["--delegate", &noop, "--delegate-assurance", "replicated:1"], "assurance.replicas"),
        (&["--delegate", &noop, "--delegate-assurance", "sure"], "replicated:K"),
    ];
    for (options, said) in table {
        let args = [&["run", echo.as_str()][..], options].concat();
        program(here.path(), None, &args).await.ended(2, &[said]);
    }
    // Nobody is there to be asked.
    let world = World::new(&["aurora"]);
    let table: [(&[&str], &str); 2] = [
        (&["--delegate", "absent.wasm"], "cannot read absent.wasm"),
        (&["--delegate", &noop, "--budget", "0.10", "--delegate-budget", "0.11"], "more than --budget"),
    ];
    for (options, said) in table {
        let args = [&["run", echo.as_str()][..], options].concat();
        world.legation(&args).await.ended(2, &[said]);
    }
}

#[tokio::test]
async fn what_may_be_handed_on_stands_in_request_and_grants() {
    let world = World::started(&["aurora"]).await;
    let (input, receipt) = (world.file("input", "an input"), world.path("receipt.json"));
    let others = format!("{},{}", guest("noop"), guest("reduce"));
    let mut modules = ["noop", "reduce"].map(|name| Digest::of(&std::fs::read(guest(name)).unwrap()));
    modules.sort_unstable();
    let more = ["--delegate-depth", "2", "--delegate-fuel", "5", "--delegate-budget", "0.01"];
    let more = [&more[..], &["--delegate-assurance", "replicated:3:provider"]].concat();
    // With an input and without; the keys of inputs go on only where their holder says so.
    for (input, data, released) in [(Some(&input), false, 0), (Some(&input), true, 1), (None, false, 0)] {
        let (echo, noop) = (guest("echo"), guest("noop"));
        let module = if input.is_some() { echo.as_str() } else { noop.as_str() };
        let mut args = vec!["run", module, "--receipt", receipt.as_str()];
        args.extend(["--delegate", others.as_str()].into_iter().chain(more.iter().copied()));
        args.extend(input.iter().flat_map(|path| ["--input", path.as_str()]));
        args.extend(data.then_some("--delegate-data"));
        let ran = world.legation(&args).await.ended(0, &[]);
        assert_eq!(ran.out(), if input.is_some() { "an input" } else { "" });

        let receipt = Receipt::from_text(&std::fs::read(&receipt).unwrap()).unwrap();
        let request = receipt.envelopes.iter().find_map(|envelope| envelope.peek::<Request>().ok()).unwrap();
        let most = request.fragments[0].delegates.as_ref().unwrap();
        assert_eq!((most.modules.as_slice(), most.depth), (&modules[..], 2));
        assert_eq!((most.fuel, most.budget), (Fuel(5_000_000), MicroUsd(10_000)));
        assert_eq!(most.assurance, Assurance::Replicated { k: 3, diverse: Diversity::Provider });
        let grants: Vec<Grant> = receipt.envelopes.iter().filter_map(|envelope| envelope.peek().ok()).collect();
        let [grant] = grants.as_slice() else { panic!("{grants:?}") };
        let passed = grant.delegable.as_ref().unwrap();
        assert_eq!((grant.depth, passed.modules.as_slice(), passed.fuel), (2, &modules[..], most.fuel));
        assert_eq!((passed.budget, passed.assurance), (most.budget, most.assurance));
        assert_eq!(passed.releases.len(), released, "{args:?}");
    }
    world.legation(&["receipt", "verify", &receipt]).await.ended(0, &[]);
    let shown = world.legation(&["receipt", "show", &receipt]).await.ended(0, &[]).out();
    assert!(shown.contains("parts of it by others to depth 2, 5000000 fuel at most"), "{shown}");
}
