//! A small cloud on emulated TPMs: each agent has a `swtpm` of its own, with a certificate of the deployment's authority; a verifier
//! activates its attestation key, and its passports and receipts say development(local-swtpm).

use std::{path::Path, time::Duration};

use legation::{
    cloud::Cloud,
    emulator,
    run::now,
    setup::{self, HardwareRoot},
};
use legation_core::claims::Anchors;

use crate::world::{PROGRAM, SOON, eventually, guest, program};

#[tokio::test]
async fn a_task_runs_on_emulated_tpms_and_its_receipt_says_so() {
    if std::process::Command::new("swtpm_setup").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no `swtpm_setup` here (Debian: swtpm swtpm-tools)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cloud");
    let plans = setup::nine_agents().into_iter().step_by(3).collect::<Vec<_>>();
    let deployment = setup::development_on(HardwareRoot::Tpm, &root, &plans, Path::new(PROGRAM), now()).unwrap();
    let anchors: Anchors =
        serde_json::from_slice(&std::fs::read(deployment.root.join("anchors.json")).unwrap()).unwrap();
    assert!(anchors.development.is_empty() && anchors.tpm.len() == 1);
    assert_eq!((anchors.tpm[0].name.as_str(), anchors.tpm[0].development), (emulator::ROOT_NAME, true));

    let (home, folder) = (deployment.client.clone(), dir.path());
    let mut cloud = Cloud::new(deployment, Path::new(PROGRAM)).unwrap();
    cloud.start().unwrap();
    let client = cloud.ready(plans.len(), SOON, |_| ()).await.unwrap();

    let input = folder.join("input");
    std::fs::write(&input, "measured by a TPM").unwrap();
    let args = ["run", &guest("echo"), "--input", input.to_str().unwrap(), "--receipt", "receipt.json"];
    let ran = program(folder, Some(&home), &args).await.ended(0, &[]);
    assert_eq!(ran.out(), "measured by a TPM");
    let anchors = root.join("anchors.json");
    let args = ["receipt", "verify", "receipt.json", "--anchors", anchors.to_str().unwrap()];
    let said = program(folder, None, &args).await.ended(0, &[]);
    assert!(format!("{}{}", said.out(), said.stderr).contains("local-swtpm"), "{said:?}");
    // Emulators are for development: whoever wants production takes nothing that rests on them.
    let out = program(folder, None, &[&args[..], &["--production"]].concat()).await.ended(6, &[]).out();
    assert!(out.starts_with("receipt INVALID at passport"), "{out}");

    // An agent that was killed comes back on its TPM, which has outlived it, with a new attestation key.
    let name = plans[0].name.clone();
    cloud.kill_agent(&name).await.unwrap();
    eventually("the agent is gone", SOON, async || {
        (client.pool().await.ok()?.enclaves_here == plans.len() - 1).then_some(())
    })
    .await;
    cloud.start_agent(&name).unwrap();
    cloud.ready(plans.len(), SOON, |_| ()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), cloud.stop()).await.unwrap();
}
