//! An unmodified SEV-SNP verifier, the `sev` crate, on development reports: the development root is what it says it is.

use legation_attest::{
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest},
    snp::Product,
};
use sev::{
    certs::snp::{Certificate, Chain, Verifiable, builtin, ca},
    firmware::guest::AttestationReport,
    parser::ByteParser,
};

use crate::world::{MEASUREMENT, NOW, spec, world};

/// What the oracle says of a report under an ARK.
fn oracle(ark: Certificate, chip: &Chip, report: &[u8]) -> std::io::Result<()> {
    let endorsements = chip.endorsements();
    let chain = Chain {
        ca: ca::Chain { ark, ask: Certificate::from_der(&endorsements[1])? },
        vek: Certificate::from_der(&endorsements[0])?,
    };
    let report = AttestationReport::from_bytes(report)?;
    (&chain, &report).verify()
}

fn ark(root: &DevelopmentRoot) -> Certificate {
    Certificate::from_der(root.ark()).unwrap()
}

#[test]
fn an_unmodified_verifier_takes_development_reports_under_the_development_root_alone() {
    let world = world();
    for product in [Product::Milan, Product::Genoa] {
        let chip = world.root.issue(&ChipSpec { product, ..spec(0x77) }, NOW).unwrap();
        let guest = Guest { vmpl: 2, host_data: [3; 32], ..Guest::new(MEASUREMENT) };
        let report = chip.report(&guest, &[5; 64]).unwrap();
        oracle(ark(&world.root), &chip, &report).unwrap();
        for amd in [builtin::milan::ark(), builtin::genoa::ark(), builtin::turin::ark()] {
            assert!(oracle(amd.unwrap(), &chip, &report).is_err(), "AMD's root is not ours");
        }
        for at in [0x04, 0x30, 0x50, 0x90, 0xbf, 0xc0, 0x140, 0x1a0, 0x2a0, 0x2e8] {
            let mut tampered = report;
            tampered[at] ^= 1;
            assert!(oracle(ark(&world.root), &chip, &tampered).is_err(), "{at:03x}h");
        }
    }
}

#[test]
fn the_oracle_reads_what_was_written() {
    let world = world();
    let guest = Guest { vmpl: 2, host_data: [3; 32], ..Guest::new(MEASUREMENT) };
    let bytes = world.chip.report(&guest, &[5; 64]).unwrap();
    let theirs = AttestationReport::from_bytes(&bytes).unwrap();
    let ours = legation_attest::snp::Report::parse(&bytes).unwrap();
    let tcb = spec(0).tcb;
    assert_eq!(theirs.to_bytes().unwrap()[..0x2a0], bytes[..0x2a0]);
    assert_eq!((theirs.version, theirs.vmpl, theirs.sig_algo), (ours.version, ours.vmpl, 1));
    assert_eq!((theirs.measurement, theirs.report_data), (ours.measurement, ours.report_data));
    assert_eq!((theirs.host_data, theirs.chip_id), (ours.host_data, ours.chip_id));
    assert_eq!((theirs.cpuid_fam_id, theirs.cpuid_mod_id), (Some(0x19), Some(0x01)));
    for version in [theirs.reported_tcb, theirs.current_tcb, theirs.committed_tcb, theirs.launch_tcb] {
        assert_eq!((version.bootloader, version.tee, version.snp), (tcb.bootloader, tcb.tee, tcb.snp));
        assert_eq!((version.microcode, version.fmc), (tcb.microcode, None));
    }
    assert!(!theirs.policy.debug_allowed() && theirs.policy.smt_allowed());
    assert_eq!(theirs.key_info.signing_key(), 0);
}
