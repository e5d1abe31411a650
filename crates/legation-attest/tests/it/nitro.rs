//! Published documents of Nitro enclaves, each at a time and with the verdict it must have. Not in the repository.

use std::path::Path;

use legation_attest::{
    nitro::{self, Document, find_document},
    x509::ChainCache,
};
use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{Anchor, Attested, Claims, RevocationCheck, Source, TeeKind},
    encoding,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    samples::{folder, read},
    world::check_and_fix as check_of,
};

const BETA: &str = "evervault/valid-beta.cbor";
const DEBUG: &str = "evervault/debug-mode.cbor";
const DSTACK: &str = "dstack/nsm-response.bin";

fn document(folder: &Path, name: &str) -> Vec<u8> {
    find_document(&read(folder, name)).to_vec()
}

fn pem(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    let first =
        text.lines().skip_while(|line| !line.starts_with('-')).skip(1).take_while(|line| !line.starts_with('-'));
    encoding::unbase64(&first.collect::<String>()).unwrap()
}

fn judge(document: &[u8], at: u64) -> Result<Claims, Rejection> {
    nitro::verify(document, UnixTime(at), &ChainCache::new(0))
}

#[test]
fn the_root_is_the_one_that_aws_publishes() {
    let Some(folder) = folder("nitro") else { return };
    assert_eq!(Digest::of(&pem(&read(&folder, "AWS_NitroEnclaves_Root-G1.pem"))), nitro::ROOT);
}

#[test]
fn real_documents_have_the_verdicts_they_must_have() {
    let Some(folder) = folder("nitro") else { return };
    for (name, at, expected) in [
        (BETA, 1_665_651_482, "ok"),
        (BETA, 1_665_662_282, "ok"),
        (BETA, 1_665_662_283, "nitro.dates"),
        (BETA, 1_665_651_482 + 4 * 3600, "nitro.dates"),
        (BETA, 1_795_219_200, "nitro.dates"),
        // The leaf was issued three seconds before.
        (BETA, 1_665_651_479, "ok"),
        (BETA, 1_665_651_478, "nitro.dates"),
        (DSTACK, 1_766_668_537, "ok"),
        (DSTACK, 1_766_679_337, "ok"),
        (DSTACK, 1_766_679_338, "nitro.dates"),
        (DSTACK, 1_766_668_533, "nitro.dates"),
        // The signature is genuine; the enclave is open to its parent, which the claims say.
        (DEBUG, 1_665_582_606, "ok"),
        (DEBUG, 1_665_582_606 + 4 * 3600, "nitro.dates"),
    ] {
        assert_eq!(check_of(judge(&document(&folder, name), at)), expected, "{name} at {at}");
    }
}

#[test]
fn what_a_real_document_shows_is_what_it_says() {
    let Some(folder) = folder("nitro") else { return };
    for (name, at, image, instance, region, debug) in [
        (BETA, 1_665_651_482, "f4d48b81a460c991", "i-020b6af9246d90e92", "us-east-1", false),
        (DSTACK, 1_766_668_537, "5cb702954321826d", "i-0827e799ec9232d44", "us-east-1", false),
        (DEBUG, 1_665_582_606, "0000000000000000", "i-03ad7cdb817437eeb", "us-east-1", true),
    ] {
        let claims = judge(&document(&folder, name), at).unwrap();
        assert_eq!(claims.anchor, Anchor::Production("aws-nitro-g1".to_owned()));
        assert_eq!(
            (claims.tee.value, claims.debug.value, claims.debug.source),
            (TeeKind::Nitro, debug, Source::Hardware)
        );
        assert!(claims.measurement.value.starts_with(image) && claims.measurement.value.len() == 96, "{name}");
        assert_eq!(claims.registers["pcr0"], claims.measurement.value);
        assert!(["pcr1", "pcr2", "pcr3", "pcr4", "pcr8"].iter().all(|name| claims.registers.contains_key(*name)));
        assert!(!claims.registers.contains_key("pcr15"), "zeros of unused registers are left out");
        assert_eq!(claims.chip, Attested::endorsed(Digest::of(instance.as_bytes()).to_string()));
        assert_eq!(claims.region, Some(Attested::endorsed(region.parse().unwrap())));
        assert_eq!(claims.operator, Some(Attested::endorsed("aws".to_owned())));
        assert_eq!(claims.revocation, RevocationCheck::Unchecked);
        let zero = |name: &str| claims.registers[name].bytes().all(|b| b == b'0');
        assert_eq!(["pcr0", "pcr1", "pcr2"].map(zero), [debug; 3], "{name}: a debug enclave is none in particular");
        let signed = Document::parse(&document(&folder, name)).unwrap().user_data.unwrap_or_default();
        let bound = if matches!(signed.len(), 32 | 64) { encoding::hex(&signed) } else { String::new() };
        assert_eq!(claims.report_data, bound, "{name}");
        assert_eq!(bound.is_empty(), name != DSTACK, "{name}");
    }
    assert_eq!(Document::parse(&document(&folder, BETA)).unwrap().nonce.unwrap().len(), 256);
}

#[test]
fn a_response_is_no_document() {
    let Some(folder) = folder("nitro") else { return };
    let response = read(&folder, DSTACK);
    assert_eq!(check_of(judge(&response, 1_766_668_537)), "nitro.cose");
    let bare = read(&folder, BETA);
    assert_eq!(find_document(&bare), bare, "a bare document is all of its file");
}

#[test]
fn a_document_inside_a_certificate_is_a_debug_one() {
    let Some(folder) = folder("nitro") else { return };
    // It is a DNS name of the certificate: lower-case hex.
    let certificate = pem(&read(&folder, "evervault/cert-with-doc-debug.pem"));
    let start = certificate.windows(14).position(|w| w == b"8444a1013822a0").unwrap();
    let digits = certificate[start..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let digits = std::str::from_utf8(&certificate[start..start + digits - digits % 2]).unwrap();
    let bytes = encoding::unhex(digits).unwrap();
    let found = find_document(&bytes);
    let at = Document::parse(found).unwrap().timestamp_ms / 1000;
    let claims = judge(found, at).unwrap();
    assert!(claims.debug.value && claims.measurement.value.bytes().all(|b| b == b'0'));
    assert_eq!(check_of(judge(found, at + 4 * 3600)), "nitro.dates");
    let cache = ChainCache::default();
    for place in (0..found.len()).step_by(5) {
        let mut changed = found.to_vec();
        changed[place] ^= 1 << (place % 8);
        assert!(nitro::verify(&changed, UnixTime(at), &cache).is_err(), "byte {place}");
    }
}

#[test]
fn no_byte_of_a_real_document_can_change() {
    let Some(folder) = folder("nitro") else { return };
    for (name, at, step) in [(BETA, 1_665_651_482, 1), (DSTACK, 1_766_668_537, 1), (DEBUG, 1_665_582_606, 5)] {
        let document = document(&folder, name);
        // The chain is remembered, as it would be: a changed one is another.
        let cache = ChainCache::default();
        nitro::verify(&document, UnixTime(at), &cache).unwrap();
        for place in (0..document.len()).step_by(step) {
            let mut changed = document.clone();
            changed[place] ^= 1 << (place % 8);
            assert!(nitro::verify(&changed, UnixTime(at), &cache).is_err(), "{name}: byte {place}");
        }
        for cut in [0, 1, 7, 100, document.len() - 97, document.len() - 1] {
            assert!(nitro::verify(&document[..cut], UnixTime(at), &cache).is_err(), "{name}: {cut} bytes");
        }
    }
}

proptest! {
    #[test]
    fn bytes_of_no_meaning_are_refused(noise in vec(any::<u8>(), 0..400), depth in 0..3000_usize) {
        prop_assert!(Document::parse(&noise).is_err());
        prop_assert!(Document::parse(find_document(&noise)).is_err());
        // Behind the right beginning, with a payload of the right size.
        let head = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x59];
        let size = (noise.len() as u16).to_be_bytes();
        let framed = [&head[..], &size, &noise, &[0x58, 96], &[1; 96]].concat();
        prop_assert_eq!(find_document(&framed), &framed[..]);
        prop_assert_eq!(check_of(Document::parse(&framed)), if noise.len() < 256 { "nitro.cose" } else { "nitro.payload" });
        let nested = vec![0x81; depth];
        prop_assert!(Document::parse(&nested).is_err());
    }

    #[test]
    fn real_documents_that_were_spliced_are_refused(from in any::<Index>(), to in any::<Index>(), size in 1..64_usize) {
        let Some(folder) = folder("nitro") else { return Ok(()) };
        let document = document(&folder, DSTACK);
        let (from, to) = (from.index(document.len() - 64), to.index(document.len() - 64));
        let mut spliced = document.clone();
        spliced.copy_within(from..from + size, to);
        if spliced != document {
            prop_assert!(judge(&spliced, 1_766_668_537).is_err());
        }
        let mut cut = document.clone();
        cut.drain(from..from + size);
        prop_assert!(judge(&cut, 1_766_668_537).is_err());
    }
}

/// Figures, by hand: `cargo test -p legation-attest --release --test it nitro -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement says what it measured")]
fn how_fast_a_document_is_verified() {
    let Some(folder) = folder("nitro") else { return };
    let (document, at) = (document(&folder, BETA), UnixTime(1_665_651_482));
    let mut figures = Vec::new();
    for (name, cache) in [("cold", ChainCache::new(0)), ("cached", ChainCache::default())] {
        let begun = std::time::Instant::now();
        let mut count = 0u32;
        while begun.elapsed().as_millis() < 2000 {
            nitro::verify(&document, at, &cache).unwrap();
            count += 1;
        }
        figures.push(f64::from(count) / begun.elapsed().as_secs_f64());
        eprintln!("nitro, chain {name}: {:.0}/s", figures[figures.len() - 1]);
    }
    eprintln!("nitro, cached over cold: {:.1}x; over 236/s: {:.1}x", figures[1] / figures[0], figures[1] / 236.0);
    assert!(figures[1] >= 5.0 * 236.0, "the aim of the issue");
}
