//! `legation agent detect`: what is found on this machine, and evidence of it.

use std::{fs, path::Path};

use legation_core::claims::{Evidence, KeyBinding, TeeKind};

use crate::world::{World, program};

#[tokio::test]
async fn detect_says_what_is_taken_and_makes_evidence_of_it() {
    let world = World::new(&["aurora"]);
    let config = world.agent_file("aurora").to_str().unwrap().to_owned();
    let said = program(&world.root, None, &["agent", "detect", "--config", &config]).await.ended(0, &[]).out();
    for words in ["KIND", "sev-snp", "tdx", "nitro", "tpm", "dev-tpm", "chip.pem", "configured"] {
        assert!(said.contains(words), "{said} lacks {words}");
    }
    let file = world.path("evidence.json");
    let nonce = "ab".repeat(32);
    let args = ["-o", "json", "agent", "detect", "--config", &config, "--attest", &file, "--nonce", &nonce];
    let found = program(&world.root, None, &args).await.ended(0, &["evidence of dev-snp"]).json();
    assert_eq!((&found["asked"], &found["chosen"]), (&"dev-snp".into(), &"dev-snp".into()));
    assert_eq!(found["findings"].as_array().unwrap().len(), 6);
    let evidence: Evidence = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let binding: KeyBinding = serde_json::from_slice(&evidence.binding).unwrap();
    assert_eq!((evidence.kind, binding.nonce.to_string()), (TeeKind::DevSnp, nonce));

    // Nothing to attest with is a refusal that says what was looked for.
    let text = fs::read_to_string(&config).unwrap().replace("kind = \"dev-snp\"", "kind = \"sev-snp\"");
    let bare = world.file("bare.toml", text);
    program(&world.root, None, &["agent", "detect", "--config", &bare]).await.ended(3, &[]);
    let args = ["agent", "detect", "--config", &bare, "--attest", &world.path("none.json")];
    program(&world.root, None, &args).await.ended(3, &["asked for sev-snp, none can be used"]);
    assert!(!Path::new(&world.path("none.json")).exists());
    program(&world.root, None, &["agent", "--config", &bare]).await.ended(2, &["has nothing to attest with"]);
    program(&world.root, None, &["agent"]).await.ended(2, &["--config"]);
}
