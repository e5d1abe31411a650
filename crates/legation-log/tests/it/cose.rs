//! COSE receipts: by the letter of RFC 9942, and nothing else.

use legation_core::{Signer as _, encoding::hex};
use legation_log::{Inclusion, cose};

use crate::{Log, entry, key};

fn made(index: u64, size: u64) -> (Inclusion, Vec<u8>) {
    let proof = Log::of("cose", 0, size).prover.inclusion(index, size).unwrap();
    let receipt = cose::sign(&proof, entry("cose", index).as_bytes(), &key(1)).unwrap();
    (proof, receipt)
}

#[test]
fn a_receipt_proves_its_entry_to_whoever_has_the_key() {
    for (index, size) in [(0, 1), (0, 2), (6, 7), (255, 300), (299, 300)] {
        let (proof, receipt) = made(index, size);
        let (read, root) = cose::verify(&receipt, entry("cose", index).as_bytes(), &key(1).public_key()).unwrap();
        assert_eq!(read, proof);
        assert_eq!(root, Log::of("cose", 0, size).tree.root());
    }
}

#[test]
fn its_bytes_are_those_of_the_specification() {
    let (_, receipt) = made(0, 1);
    let kid = key(1).public_key().id();
    // 18([<<{1: -8, 4: kid, 395: 1}>>, {396: {-1: [<<[1, 0, []]>>]}}, nil, signature])
    let protected = format!("582aa301270458 20{kid}19018b01").replace(' ', "");
    let expected = format!("d284{protected}a119018ca1208144830100 80f65840").replace(' ', "");
    assert_eq!(hex(&receipt[..receipt.len() - 64]), expected);
}

#[test]
fn another_entry_another_key_and_every_changed_byte_are_refused() {
    let (_, receipt) = made(2, 5);
    let public = key(1).public_key();
    let (right, wrong) = (entry("cose", 2), entry("cose", 3));
    cose::verify(&receipt, right.as_bytes(), &public).unwrap();
    cose::verify(&receipt, wrong.as_bytes(), &public).unwrap_err();
    cose::verify(&receipt, right.as_bytes(), &key(2).public_key()).unwrap_err();
    for place in 0..receipt.len() {
        for bit in [0, 3, 5, 7] {
            let mut changed = receipt.clone();
            changed[place] ^= 1 << bit;
            assert!(cose::verify(&changed, right.as_bytes(), &public).is_err(), "byte {place}, bit {bit}");
        }
    }
    for cut in 0..receipt.len() {
        assert!(cose::verify(&receipt[..cut], right.as_bytes(), &public).is_err(), "{cut} bytes");
    }
    let longer = [&receipt[..], &[0]].concat();
    cose::verify(&longer, right.as_bytes(), &public).unwrap_err();
    cose::verify(&[0x9f; cose::RECEIPT_MAX], right.as_bytes(), &public).unwrap_err();
    cose::verify(&[0; cose::RECEIPT_MAX + 1], right.as_bytes(), &public).unwrap_err();
}
