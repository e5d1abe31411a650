//! Which attester is taken, and what is said of the others.

use std::{fs, path::Path};

use legation_agent::{
    AgentConfig,
    attester::{
        AttesterError, Detection,
        detection::{ORDER, Places, choose_at},
    },
};
use legation_core::claims::TeeKind;

use crate::world;

fn config(more: &str) -> AgentConfig {
    let operator = world::key(1);
    let text = format!(
        "managers = [\"a:1\"]\nprovider = \"alder\"\nregion = \"eu\"\noperators = [\"{operator}\"]\n[rate]\n\
         core_hour_usd = \"0.04\"\ngib_hour_usd = \"0.01\"\n{more}"
    );
    AgentConfig::parse(&text, Path::new("/etc/agent.toml")).unwrap()
}

/// Places that hold nothing, in a folder of the test.
fn places(dir: &Path) -> Places {
    Places { tsm: dir.join("tsm"), nsm: dir.join("nsm"), tpm: dir.join("tpmrm0") }
}

#[test]
fn every_kind_is_looked_for_in_the_documented_order() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    let found = Detection::at(&config(""), &places);
    assert_eq!(found.chosen, None);
    assert_eq!(found.findings.iter().map(|f| f.kind).collect::<Vec<_>>(), ORDER);
    assert!(found.findings.iter().all(|f| !f.found && !f.usable && !f.why.is_empty()), "{found}");
    let chip = "[development]\nchip = \"chip.pem\"\n";
    let found = Detection::at(&config(chip), &places);
    assert_eq!(found.chosen, Some(TeeKind::DevSnp));
    let text = found.to_string();
    assert!(text.starts_with("asked for auto, taken: dev-snp\n"), "{text}");
    for words in ["sev-snp", "no SEV-SNP or TDX guest", "no Nitro enclave", "no TPM", "/etc/chip.pem: configured"] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!((&json["asked"], &json["chosen"]), (&"auto".into(), &"dev-snp".into()));
    assert_eq!(json["findings"][4]["usable"], true);

    // Hardware comes first where this program can use it, and is named where it cannot.
    fs::write(dir.path().join("tpmrm0"), "").unwrap();
    fs::write(dir.path().join("nsm"), "").unwrap();
    let found = Detection::at(&config(chip), &places);
    let expected = if cfg!(feature = "nitro") {
        TeeKind::Nitro
    } else if cfg!(feature = "tpm") {
        TeeKind::Tpm
    } else {
        TeeKind::DevSnp
    };
    assert_eq!(found.chosen, Some(expected));
    for (kind, feature, built) in
        [(TeeKind::Nitro, "nitro", cfg!(feature = "nitro")), (TeeKind::Tpm, "tpm", cfg!(feature = "tpm"))]
    {
        let finding = found.findings.iter().find(|f| f.kind == kind).unwrap();
        assert!(finding.found);
        assert_eq!(finding.usable, built);
        assert_eq!(finding.why.contains(&format!("without feature `{feature}`")), !built, "{}", finding.why);
    }
}

#[test]
fn a_kind_by_name_is_that_one_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    let text = "[attester]\nkind = \"dev-snp\"\n[development]\nchip = \"chip.pem\"\n";
    fs::write(dir.path().join("nsm"), "").unwrap();
    assert_eq!(Detection::at(&config(text), &places).chosen, Some(TeeKind::DevSnp));
    for kind in ["sev-snp", "tdx", "dev-tpm"] {
        let config = config(&text.replace("dev-snp", kind));
        let Err(error @ AttesterError::None(_)) = choose_at(&config, &places) else { panic!("{kind} was found") };
        let told = error.to_string();
        assert!(told.contains(&format!("asked for {kind}, none can be used")), "{told}");
        assert!(told.contains("/etc/chip.pem: configured"), "{told}");
    }
}

#[test]
fn a_door_of_the_kernel_that_is_closed_is_found_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    // A folder that makes entries without attributes, as no kernel does.
    fs::create_dir(&places.tsm).unwrap();
    let found = Detection::at(&config(""), &places);
    for finding in &found.findings[..2] {
        assert!(finding.found && !finding.usable && finding.why.contains("reading provider failed"), "{finding:?}");
    }
    assert_eq!(fs::read_dir(&places.tsm).unwrap().count(), 0, "nothing stays behind");
}
