//! Bytes of no meaning: parsers and judge answer, and do not panic.

use legation_attest::{
    dev::{Chip, DevelopmentRoot},
    report_view::{FilePolicy, Filed, Outcome, verify_file},
    snp::{ChainCache, Crl, Presented, Report, verify},
};
use legation_core::claims::{Anchors, DevelopmentAnchor, EvidenceJudge as _, Shelf, TeeKind};
use proptest::prelude::*;

use crate::world::{NOW, evidence, world};

/// A few bytes overwritten, then cut or extended.
fn mutated(original: &[u8], changes: &[(usize, u8)], len: Option<usize>) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (at, value) in changes {
        let at = at % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = *value;
        }
    }
    if let Some(len) = len {
        bytes.resize(len, 0xa5);
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        prop_assert!(Report::parse(&bytes).is_err());
        prop_assert!(Crl::parse(&bytes).is_err());
        prop_assert!(Chip::from_pem(&bytes).is_err());
        prop_assert!(DevelopmentRoot::from_pem(&bytes).is_err());
        let development = vec![DevelopmentAnchor { name: "a".to_owned(), ark: bytes.clone() }];
        let anchors = Anchors { operators: Vec::new(), development, tpm: Vec::new(), logs: Vec::new() };
        prop_assert!(legation_attest::Roots::new(&anchors).is_err());
        let roots = world().judge.roots();
        let several = [bytes.clone(), bytes.clone()];
        for filed in [
            Filed::Snp { development: false, report: &bytes, certificates: &bytes },
            Filed::Snp { development: true, report: &bytes, certificates: &bytes },
            Filed::Dcap { kind: TeeKind::Tdx, quote: &bytes, collateral: &bytes },
            Filed::Dcap { kind: TeeKind::Sgx, quote: &bytes, collateral: &bytes },
            Filed::Nitro { document: &bytes },
            Filed::Tpm { development: false, report: &bytes, endorsements: &several },
            Filed::Tpm { development: true, report: &bytes, endorsements: &several },
            Filed::TpmQuote { quote: &bytes, signature: &bytes, key: &bytes, nonce: &bytes },
            Filed::AzureSnp { report: &bytes },
            Filed::AzureTdx { report: &bytes, collateral: &bytes },
            Filed::NvidiaGpu { report: &bytes, certificates: &several, nonce: None },
        ] {
            let verdict = verify_file(&filed, roots, &FilePolicy::default(), NOW);
            prop_assert_eq!(verdict.verdict, Outcome::Invalid);
            prop_assert!(verdict.rejection().is_some());
        }
    }

    #[test]
    fn reports_of_random_contents_parse_or_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 1184)) {
        bytes[0..4].copy_from_slice(&3_u32.to_le_bytes());
        let _ = Report::parse(&bytes);
        let endorsements = world().chip.endorsements();
        let presented =
            Presented { report: &bytes, leaf: &endorsements[0], intermediate: Some(&endorsements[1]), crls: &[], grace: 0 };
        prop_assert!(verify(&presented, &world().judge.roots().development, &ChainCache::default(), NOW).is_err());
    }

    #[test]
    fn mutated_evidence_is_judged_without_a_panic(
        part in 0_usize..5,
        changes in changes(),
        len in proptest::option::of(0_usize..3000),
    ) {
        let mut evidence = evidence();
        let original = evidence.clone();
        let target = match part {
            0 => &mut evidence.report,
            1 => &mut evidence.endorsements[0],
            2 => &mut evidence.endorsements[1],
            3 => &mut evidence.binding,
            _ => &mut evidence.configuration,
        };
        *target = mutated(target, &changes, len);
        let verdict = world().judge.judge(&evidence, &Shelf::empty(), NOW);
        // Every byte counts, also those around a signed part.
        prop_assert!(verdict.is_err() || evidence == original);
        for endorsement in &evidence.endorsements {
            let _ = Crl::parse(endorsement);
        }
    }

    #[test]
    fn mutated_revocation_lists_never_panic(changes in changes(), len in proptest::option::of(0_usize..1500)) {
        let list = world().root.revocation_list(&[vec![1], vec![2, 3]], NOW, 1000).unwrap();
        let _ = Crl::parse(&mutated(&list, &changes, len));
    }
}
