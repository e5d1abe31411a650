//! A verifier as a process of its own, asked over HTTP by clients on the same two cores.

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use legation::{
    exit::{Exit, Failure},
    run::now,
    setup,
};
use legation_attest::{
    challenge,
    dev::{Chip, Guest},
};
use legation_core::{
    Digest, Envelope,
    claims::{Evidence, KeyBinding, Role},
    encoding,
    statement::Appointment,
};
use legation_keys::{IdentityKey, SealingKey};
use legation_net::OsEntropy;
use legation_verifier::{Door as _, RemoteConfig, RemoteVerifier, http::Authorities};
use serde_json::{Value, json};

use crate::kinds::round;

/// Clients at once.
const CLIENTS: usize = 16;

fn failed(e: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, e.to_string())
}

fn refused(why: legation_core::Rejection) -> Failure {
    Failure::refused(Exit::Failure, &why)
}

pub(super) async fn measure(verifications: usize) -> Result<Value, Failure> {
    let program = crate::joining::beside("legation")?;
    let dir = std::env::temp_dir().join(format!("legation-bench-verifier-{}", std::process::id()));
    let mut plans = setup::nine_agents();
    plans.truncate(1);
    let deployment = setup::development(&dir, &plans, &program, now())?;
    let home = dir.join("verifier");
    let listen = free_address()?;
    let init = std::process::Command::new(&program)
        .args(["verifier", "init"])
        .arg(&home)
        .arg("--anchors")
        .arg(dir.join("anchors.json"))
        .arg("--operator")
        .arg(dir.join("operator.key"))
        .args(["--allow-development", "--listen", &listen])
        .stdout(Stdio::null())
        .status()
        .map_err(failed)?;
    if !init.success() {
        return Err(failed("`legation verifier init` failed"));
    }
    for file in ["appraisal.cedar", "references.json"] {
        std::fs::copy(dir.join("manager").join(file), home.join(file)).map_err(failed)?;
    }
    let mut process = tokio::process::Command::new(&program)
        .args(["verifier", "--config"])
        .arg(home.join("verifier.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let id = process.id().unwrap_or_default();

    let text = std::fs::read(home.join("appointment.json")).map_err(failed)?;
    let envelope: Envelope = serde_json::from_slice(&text).map_err(failed)?;
    let appointment = envelope.open::<Appointment>().map_err(failed)?;
    let door = Arc::new(
        RemoteVerifier::new(RemoteConfig {
            name: "bench".to_owned(),
            urls: vec![format!("http://{listen}")],
            appointment,
            token: None,
            authorities: Authorities::System,
        })
        .map_err(refused)?,
    );
    let began = Instant::now();
    let asked = loop {
        match door.challenge().await {
            Ok(challenge) => break challenge,
            Err(why) if began.elapsed() > Duration::from_secs(20) => return Err(refused(why)),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let agent = dir.join("agents").join(&deployment.agents[0].0);
    let evidence = Arc::new(evidence(&agent.join("chip.pem"), &program, asked)?);
    for _ in 0..CLIENTS * 4 {
        door.verify(evidence.clone(), vec![asked]).await.map_err(refused)?;
    }

    let (before, began) = (cpu_seconds(id), Instant::now());
    let left = Arc::new(AtomicUsize::new(verifications));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (door, evidence, left) = (door.clone(), evidence.clone(), left.clone());
            tokio::spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    door.verify(evidence.clone(), vec![asked]).await?;
                }
                Ok::<_, legation_core::Rejection>(())
            })
        })
        .collect();
    for client in clients {
        client.await.map_err(failed)?.map_err(refused)?;
    }
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(id) - before);
    process.kill().await.map_err(failed)?;
    std::fs::remove_dir_all(&dir).map_err(failed)?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let count = verifications as f64;
    Ok(json!({
        "what": "evidence to signed passport, dev-snp with its chain cached, HTTP kept alive, clients on the same cores",
        "clients": CLIENTS, "verifications": verifications, "seconds": round(elapsed),
        "verifications_per_second": (count / elapsed).round(),
        "verifier_cpu_ms_each": round(cpu / count * 1000.0),
        "renewing_10000_passports_in_10_minutes_percent_of_a_core": round(cpu / count * 10_000.0 / 600.0 * 100.0),
        "aims": { "verifications_per_second": 1200, "renewal_percent": 5 },
    }))
}

fn evidence(chip: &Path, image: &Path, asked: Digest) -> Result<Evidence, Failure> {
    let chip = Chip::from_pem(&std::fs::read(chip).map_err(failed)?).map_err(failed)?;
    let measurement = encoding::unhex_array(&setup::measure(image).map_err(failed)?).map_err(failed)?;
    let configuration = legation_core::claims::Configuration {
        provider: legation_core::ProviderId::new("aurora").map_err(failed)?,
        region: legation_core::Region::new("eu-north").map_err(failed)?,
        capacity: legation_core::claims::Capacity {
            cpu: legation_core::Millicores(1000),
            memory: legation_core::Bytes::mib(512),
            slots: 4,
        },
        rate: legation_core::claims::Rate {
            core_hour: legation_core::MicroUsd(10_000),
            gib_hour: legation_core::MicroUsd(1000),
        },
        slot: 0,
        operators: Vec::new(),
        advertise: None,
        prover: None,
        custody: None,
    };
    let identity = IdentityKey::generate(&mut OsEntropy);
    let binding = KeyBinding {
        role: Role::Agent,
        identity: legation_core::Signer::public_key(&identity),
        sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
        image: Digest::of(b"bench"),
        configuration: Digest::of(&configuration.encode()),
        not_before: now().minus(60),
        not_after: now().plus(86_400),
        nonce: challenge::join(&[asked]),
    };
    chip.evidence(&Guest::new(measurement), &binding, &configuration).map_err(failed)
}

fn free_address() -> Result<String, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    Ok(listener.local_addr().map_err(failed)?.to_string())
}

/// User and system time of a process so far (proc(5), fields 14 and 15, in ticks of 10 ms).
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}
