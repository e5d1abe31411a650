//! Every bit of a report matters.

use legation_attest::{
    AmdRoots, DevelopmentRoots,
    dev::Guest,
    snp::{ChainCache, Presented, REPORT_LEN, RootSet, SIGNED_LEN, signed_part, verify},
};
use legation_core::{Rejection, UnixTime};

use crate::{
    samples::{der_of, read, samples},
    world::{MEASUREMENT, NOW, anchors, world},
};

fn try_flips<R: RootSet>(what: &str, report: &[u8], verify: impl Fn(&[u8]) -> Result<(), Rejection>, bits: &[u8]) {
    verify(report).unwrap();
    let mut report = report.to_vec();
    for byte in 0..REPORT_LEN {
        for bit in bits {
            report[byte] ^= 1 << bit;
            assert!(verify(&report).is_err(), "{what}, {}: bit {bit} of byte {byte:03x}h", R::KIND);
            report[byte] ^= 1 << bit;
        }
    }
    verify(&report).unwrap();
}

#[test]
fn every_flipped_bit_of_a_report_is_refused() {
    let world = world();
    let roots = DevelopmentRoots::new(&anchors(&world.root)).unwrap();
    let cache = ChainCache::default();
    let endorsements = world.chip.endorsements();
    let verify = |report: &[u8]| {
        let (leaf, intermediate) = (&endorsements[0], Some(endorsements[1].as_slice()));
        verify(&Presented { report, leaf, intermediate, crls: &[], grace: 0 }, &roots, &cache, NOW).map(|_| ())
    };
    let report = world.chip.report(&Guest::new(MEASUREMENT), &[5; 64]).unwrap();
    try_flips::<DevelopmentRoots>("ours", &report, verify, &[0, 1, 2, 3, 4, 5, 6, 7]);
}

/// Every published report, of versions 2, 3 and 5, under VCEK and VLEK: one bit of each byte.
#[test]
fn a_flipped_bit_in_any_byte_of_a_real_report_is_refused() {
    let Some(folder) = samples() else { return };
    let roots = AmdRoots::all().unwrap();
    for (name, leaf, intermediate, at, bit) in [
        ("milan-v2", "vcek.der", None, 1_771_000_000, 3),
        ("milan-go", "vcek.der", None, 1_771_000_000, 0),
        ("milan-vlek", "vlek.der", Some("roots/milan-asvk.der"), 1_740_000_000, 5),
        ("genoa-ms", "vcek.pem", None, 1_771_000_000, 6),
        ("turin-ms", "vcek.pem", None, 1_771_000_000, 1),
    ] {
        let cache = ChainCache::default();
        let leaf = read(&folder, &format!("{name}/{leaf}"));
        let leaf = if leaf[0] == 0x30 { leaf } else { der_of(&leaf) };
        let intermediate = intermediate.map(|name| read(&folder, name));
        let verify = |report: &[u8]| {
            let intermediate = intermediate.as_deref();
            let presented = Presented { report, leaf: &leaf, intermediate, crls: &[], grace: 0 };
            verify(&presented, &roots, &cache, UnixTime(at)).map(|_| ())
        };
        try_flips::<AmdRoots>(name, &read(&folder, &format!("{name}/report.bin")), verify, &[bit]);
    }
}

#[test]
fn two_signatures_of_one_report_have_one_identity() {
    let chip = &world().chip;
    let guest = Guest::new(MEASUREMENT);
    let (a, b) = (chip.report(&guest, &[5; 64]).unwrap(), chip.report(&guest, &[5; 64]).unwrap());
    assert_ne!(a, b, "ECDSA nonces differ");
    assert_eq!(signed_part(&a), signed_part(&b));
    assert_eq!(signed_part(&a).map(<[u8]>::len), Some(SIGNED_LEN));
    assert_eq!(signed_part(&a[1..]), None);
}
