//! Receipts as bytes: no byte can change unnoticed, nothing that is read panics.

use std::time::{Duration, Instant};

use legation_core::Receipt;
use proptest::prelude::*;

use crate::world::{Plan, build, no_bend, verify};

/// How long one test may go on trying bytes; beyond it, it samples.
const LONG: Duration = Duration::from_secs(30);

fn accepted(text: &[u8]) -> bool {
    Receipt::from_text(text).is_ok_and(|receipt| verify(&receipt).is_ok())
}

/// Values to put in place of a byte: neighbours in the alphabet, another case, what ends a text, what is no text at all.
fn others(byte: u8) -> Vec<u8> {
    let mut others =
        vec![byte.wrapping_add(1), byte.wrapping_sub(1), byte ^ 0x20, byte ^ 0x80, b'0', b'"', b' ', b'A', 0];
    others.sort_unstable();
    others.dedup();
    others.retain(|other| *other != byte);
    others
}

#[test]
fn no_single_byte_of_a_receipt_can_change() {
    let text = build(Plan::single(), &no_bend).receipt().to_text().into_bytes();
    assert!(accepted(&text));
    let began = Instant::now();
    let mut copy = text.clone();
    let mut tried = 0_usize;
    for at in 0..text.len() {
        let others = others(text[at]);
        // Every byte is tried with some value, and with all values as long as there is time.
        let take = if began.elapsed() < LONG { others.len() } else { 1 };
        for other in others.iter().cycle().skip(at % others.len()).take(take) {
            copy[at] = *other;
            assert!(!accepted(&copy), "byte {at} of {}: {:?} for {:?}", text.len(), *other as char, text[at] as char);
            tried += 1;
        }
        copy[at] = text[at];
    }
    assert!(tried >= text.len(), "{tried} of {}", text.len());
}

#[test]
fn no_single_byte_of_two_rounds_can_change_in_a_sample() {
    let text = build(Plan::default(), &no_bend).receipt().to_text().into_bytes();
    let began = Instant::now();
    let mut copy = text.clone();
    // A prime stride, so that all places of base64 and JSON come up.
    for at in (0..text.len()).step_by(211) {
        let others = others(text[at]);
        copy[at] = others[at % others.len()];
        assert!(!accepted(&copy), "byte {at} of {}", text.len());
        copy[at] = text[at];
        if began.elapsed() > LONG {
            break;
        }
    }
}

#[test]
fn bytes_cannot_be_added_or_cut() {
    let text = build(Plan::single(), &no_bend).receipt().to_text();
    for (what, other) in [
        ("no newline", text.trim_end().to_owned()),
        ("two newlines", format!("{text}\n")),
        ("windows newline", format!("{}\r\n", text.trim_end())),
        ("space before", format!(" {text}")),
        ("space within", text.replacen(',', ", ", 1)),
        ("byte order mark", format!("\u{feff}{text}")),
        ("two receipts", format!("{text}{text}")),
        ("a field more", text.replacen('{', "{\"more\":1,", 1)),
        ("a field twice", text.replacen('{', "{\"version\":\"legation-receipt/v1\",", 1)),
        ("escaped text", text.replacen("legation-receipt", "legation\\u002dreceipt", 1)),
        ("escaped slash", text.replacen("receipt/v1", "receipt\\/v1", 1)),
        ("number as float", text.replacen("\"revocations\":7", "\"revocations\":7.0", 1)),
        ("number with exponent", text.replacen("\"revocations\":7", "\"revocations\":7e0", 1)),
        ("pretty", serde_json::to_string_pretty(&Receipt::from_text(text.as_bytes()).unwrap()).unwrap()),
        ("nothing", String::new()),
        ("null", "null\n".to_owned()),
        ("deep", "[".repeat(100_000)),
        ("deep in a field", format!("{{\"version\":{}", "[".repeat(100_000))),
    ] {
        assert_ne!(other, text, "{what}");
        assert!(!accepted(other.as_bytes()), "{what}");
        let invalid = Receipt::from_text(other.as_bytes()).unwrap_err();
        assert!(["receipt.format", "receipt.spelling"].contains(&invalid.why.check.as_str()), "{what}: {invalid}");
    }
    for end in (0..text.len()).step_by(97) {
        assert!(!accepted(&text.as_bytes()[..end]), "cut at {end}");
    }
    let large = vec![b' '; legation_core::receipt::RECEIPT_MAX + 1];
    assert_eq!(Receipt::from_text(&large).unwrap_err().why.check, "receipt.size");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_read_does_not_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, prop::collection::vec(any::<u8>(), 0..40)), 1..6)
    ) {
        let text = TEXT.with(Clone::clone);
        let mut bytes = text.clone();
        for (at, cut, new) in edits {
            let at = at.index(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, new);
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
        prop_assert!(bytes == text || !accepted(&bytes));
    }

    #[test]
    fn pieces_of_receipts_in_any_order_do_not_panic(
        pieces in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..4000), 1..8)
    ) {
        let text = TEXT.with(Clone::clone);
        let mut bytes = Vec::new();
        for (at, len) in pieces {
            let at = at.index(text.len());
            bytes.extend_from_slice(&text[at..(at + len).min(text.len())]);
        }
        prop_assert!(bytes == text || !accepted(&bytes));
    }

    #[test]
    fn statements_in_any_order_are_one_receipt_or_none(order in Just((0..26).collect::<Vec<usize>>()).prop_shuffle(), len in 0_usize..26) {
        let mut receipt = Receipt::from_text(&TEXT.with(Clone::clone)).unwrap();
        let all = receipt.envelopes.clone();
        receipt.envelopes = order.iter().take(len).filter_map(|i| all.get(*i).cloned()).collect();
        prop_assert!(receipt.envelopes == all || verify(&receipt).is_err());
    }
}

thread_local! {
    static TEXT: Vec<u8> =
        build(Plan { rounds: 1, ..Plan::default() }, &no_bend).receipt().to_text().into_bytes();
}
