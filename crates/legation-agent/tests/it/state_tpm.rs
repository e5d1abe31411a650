//! State sealed to a TPM for real: `swtpm`, whose registers tpm2-tools extend.

use std::path::Path;

use legation_agent::{
    attester::{Attester, tpm::TpmAttester},
    config::TpmConfig,
    custody::keep::Keep,
    state::{State, StateConfig, StateError},
};
use legation_core::claims::TeeKind;

use crate::attester_tpm::{Swtpm, must};

const SECRET: &[u8] = b"a share that nobody else reads";

fn open(dir: &Path, attester: &TpmAttester) -> Result<State, StateError> {
    State::open(&StateConfig { dir: dir.to_owned() }, "custody.main", attester)
}

fn kept(state: &mut State) -> Vec<u8> {
    state.load().unwrap().unwrap().to_vec()
}

#[test]
fn a_tpm_gives_the_key_to_what_booted_when_it_was_sealed_and_to_nothing_else() {
    let Some(mut swtpm) = Swtpm::make() else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state");
    let attester = TpmAttester::open(&swtpm.config(), false).unwrap();
    let mut state = open(&folder, &attester).unwrap();
    assert_eq!((state.incarnation(), state.sealed_to()), (1, TeeKind::Tpm));
    state.store(SECRET).unwrap();
    drop(state);
    // The few places of the emulator are freed: what seals and what quotes get along.
    for incarnation in 2..6 {
        let mut state = open(&folder, &attester).unwrap();
        assert_eq!((state.incarnation(), kept(&mut state).as_slice()), (incarnation, SECRET));
        attester.attest(b"binding", b"").unwrap();
    }

    // Also by the next boot, whatever else is loaded; and while it is refused, it stays as it was.
    drop(attester);
    swtpm.kill();
    swtpm.start();
    let attester = TpmAttester::open(&swtpm.config(), false).unwrap();
    let mut state = open(&folder, &attester).unwrap();
    assert_eq!((state.incarnation(), kept(&mut state).as_slice()), (6, SECRET));
    drop((state, attester));

    // A register that was extended since, other registers, another TPM.
    must(&mut swtpm.tool(&["tpm2_pcrextend", &format!("7:sha256={}", "03".repeat(32))]));
    let attester = TpmAttester::open(&swtpm.config(), false).unwrap();
    let told = open(&folder, &attester).unwrap_err().to_string();
    assert!(told.contains("registers of the TPM: expected what they held when it was sealed"), "{told}");
    assert!(told.contains("boot what was booted then"), "{told}");
    attester.attest(b"binding", b"").unwrap();
    drop(attester);
    swtpm.kill();
    swtpm.start();
    let more = TpmConfig { registers: vec![14], ..swtpm.config() };
    let attester = TpmAttester::open(&more, false).unwrap();
    let told = open(&folder, &attester).unwrap_err().to_string();
    assert!(told.contains("others are configured"), "{told}");
    drop(attester);
    if let Some(other) = Swtpm::make() {
        let attester = TpmAttester::open(&other.config(), false).unwrap();
        let told = open(&folder, &attester).unwrap_err().to_string();
        assert!(told.contains("TPM: expected the one that sealed it"), "{told}");
    }

    let attester = TpmAttester::open(&swtpm.config(), false).unwrap();
    let mut state = open(&folder, &attester).unwrap();
    assert_eq!((state.incarnation(), kept(&mut state).as_slice()), (7, SECRET), "what was booted then opens it");
}

#[test]
fn a_development_tpm_seals_as_one_and_another_kind_does_not_open_it() {
    let Some(swtpm) = Swtpm::make() else { return };
    let dir = tempfile::tempdir().unwrap();
    let attester = TpmAttester::open(&swtpm.config(), true).unwrap();
    for incarnation in 1..3 {
        let state = open(dir.path(), &attester).unwrap();
        assert_eq!((state.incarnation(), state.sealed_to()), (incarnation, TeeKind::DevTpm));
    }
    drop(attester);
    let attester = TpmAttester::open(&swtpm.config(), false).unwrap();
    let told = open(dir.path(), &attester).unwrap_err().to_string();
    assert!(told.contains("machine that state is sealed to: expected tpm, got dev-tpm"), "{told}");
}
