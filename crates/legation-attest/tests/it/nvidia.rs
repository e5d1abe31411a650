//! Published transcripts of NVIDIA GPUs, with the verdicts they must have. Not in the repository.

use std::collections::BTreeMap;

use legation_attest::{
    nvidia::{self, Check, GpuEvidence, Mode, REPORT_MAX, Transcript},
    x509::{Certificate, ChainCache, Crl},
};
use legation_core::{Digest, Rejection, UnixTime, claims::Anchor, encoding};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{samples::folder, world::check_and_fix as check_of};

/// 2026-11-21; NVIDIA's certificates have no end.
const T: UnixTime = UnixTime(1_795_219_200);

#[derive(Clone)]
struct Sample {
    report: Vec<u8>,
    chain: Vec<Vec<u8>>,
}

impl Sample {
    fn nonce(&self) -> [u8; 32] {
        self.report[4..36].try_into().unwrap()
    }
}

fn certificates(pem: &str) -> Vec<Vec<u8>> {
    let blocks = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let body = |block: &str| block.split("-----END").next().unwrap().split_whitespace().collect::<String>();
    blocks.map(|block| encoding::unbase64(&body(block)).unwrap()).collect()
}

/// Every published report, by name.
fn samples() -> Option<BTreeMap<&'static str, Sample>> {
    let folder = folder("nvidia")?;
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let of = |report: &str, chain: &str| Sample {
        report: encoding::unhex(text(report).trim()).unwrap(),
        chain: certificates(&text(chain)),
    };
    let json: serde_json::Value = serde_json::from_str(&text("hopper_evidence.json")).unwrap();
    let field = |name: &str| encoding::unbase64(json[0][name].as_str().unwrap()).unwrap();
    let from_json =
        Sample { report: field("evidence"), chain: certificates(std::str::from_utf8(&field("certificate")).unwrap()) };
    assert_eq!(json[0]["nonce"].as_str().unwrap(), encoding::hex(&from_json.nonce()), "the nonce stands beside it");
    Some(BTreeMap::from([
        ("hopper", of("hopperAttestationReport.txt", "hopperCertChain.txt")),
        ("blackwell", of("blackwellAttestationReport.txt", "blackwellCertChain.txt")),
        ("hopper-json", from_json),
        ("forged", of("hopperAttestationReportInvalidSignature.txt", "hopperCertChain.txt")),
    ]))
}

fn judge(sample: &Sample) -> Result<GpuEvidence, Rejection> {
    nvidia::verify(&sample.report, &sample.chain, &sample.nonce(), T, &ChainCache::new(0))
}

#[test]
fn real_transcripts_have_the_verdicts_they_must_have() {
    let Some(samples) = samples() else { return };
    for (name, expected) in
        [("hopper", "ok"), ("blackwell", "ok"), ("hopper-json", "ok"), ("forged", "nvidia.signature")]
    {
        assert_eq!(check_of(judge(&samples[name])), expected, "{name}");
    }
}

#[test]
fn what_a_transcript_shows_is_what_it_says() {
    let Some(samples) = samples() else { return };
    let shown = |name: &str| judge(&samples[name]).unwrap();
    for (name, model, driver, firmware, board, mode, decoder) in [
        ("hopper", "hopper", "535.86.09", "96.00.5e.00.01", "1010-0200-882-0", None, Some(false)),
        ("blackwell", "blackwell", "575.32", "97.00.88.00.0f", "G525-0220-886-0", Some(Mode::Single), Some(false)),
        (
            "hopper-json",
            "hopper",
            "590.12",
            "96.00.a5.00.01",
            "G520-0200-885-0",
            Some(Mode::ProtectedPcie),
            Some(false),
        ),
    ] {
        let evidence = shown(name);
        assert_eq!((evidence.gpu.model.as_str(), evidence.gpu.anchor.as_str()), (model, nvidia::ROOT_NAME));
        assert_eq!((evidence.gpu.driver.as_str(), evidence.gpu.firmware.as_str()), (driver, firmware));
        assert_eq!(evidence.board.as_deref(), Some(board));
        assert_eq!((evidence.decoder, evidence.anchor), (decoder, Anchor::Production(nvidia::ROOT_NAME.to_owned())));
        assert_eq!((evidence.measurements.len(), evidence.measurements[&1].len()), (64, 96));
        let reported = Transcript::parse(&samples[name].report).unwrap().firmware;
        assert!(reported.is_none_or(|firmware| encoding::hex(&firmware) == evidence.firmware), "{name}");
        // Not every driver reports these.
        assert!(evidence.mode == mode || name == "blackwell", "{name}: {:?}", evidence.mode);
    }
    let chips: std::collections::BTreeSet<_> =
        ["hopper", "blackwell", "hopper-json"].map(|name| shown(name).gpu.chip).into();
    assert_eq!(chips.len(), 3, "three GPUs");
    assert!(chips.iter().all(|chip| chip.len() == 64));
}

#[test]
fn the_root_is_the_one_that_is_pinned() {
    let Some(samples) = samples() else { return };
    for (name, sample) in &samples {
        assert_eq!(Digest::of(sample.chain.last().unwrap()), nvidia::ROOT, "{name}");
    }
}

#[test]
fn reports_chains_and_nonces_that_do_not_belong_together_are_refused() {
    let Some(samples) = samples() else { return };
    let hopper = &samples["hopper"];
    let with_chain = |chain: Vec<Vec<u8>>| check_of(judge(&Sample { chain, ..hopper.clone() }));
    let own = || hopper.chain.clone();
    assert_eq!(with_chain(own()), "ok");
    assert_eq!(with_chain(samples["blackwell"].chain.clone()), "nvidia.signature");
    assert_eq!(with_chain(samples["hopper-json"].chain.clone()), "nvidia.signature");
    let blackwell = Sample { chain: own(), ..samples["blackwell"].clone() };
    assert_eq!(check_of(judge(&blackwell)), "nvidia.signature");
    type Change = fn(&mut Vec<Vec<u8>>);
    let table: &[(&str, Change, &str)] = &[
        ("no certificate", |c| c.clear(), "nvidia.certificate"),
        ("no root", |c| drop(c.pop()), "nvidia.root"),
        ("no leaf", |c| drop(c.remove(0)), "nvidia.chain"),
        ("no device", |c| drop(c.remove(1)), "nvidia.chain"),
        ("no authority", |c| drop(c.remove(3)), "nvidia.chain"),
        ("backwards", |c| c.reverse(), "nvidia.root"),
        ("leaf twice", |c| c.insert(0, c[0].clone()), "nvidia.chain"),
        ("too many", |c| c.resize(9, c[0].clone()), "nvidia.certificate"),
        ("a byte behind", |c| c[0].push(0), "nvidia.certificate"),
        ("the root alone", |c| drop(c.drain(..4)), "nvidia.chain"),
    ];
    for (what, change, expected) in table {
        let mut chain = own();
        change(&mut chain);
        assert_eq!(with_chain(chain), *expected, "{what}");
    }
    for (nonce, expected) in
        [(hopper.nonce(), "ok"), ([0; 32], "nvidia.nonce"), (samples["forged"].nonce(), "nvidia.nonce")]
    {
        let result = nvidia::verify(&hopper.report, &hopper.chain, &nonce, T, &ChainCache::new(0));
        assert_eq!(check_of(result), expected);
    }
    for at in [UnixTime(0), UnixTime(1_500_000_000), UnixTime(u64::MAX)] {
        let result = nvidia::verify(&hopper.report, &hopper.chain, &hopper.nonce(), at, &ChainCache::new(0));
        assert_eq!(check_of(result), "nvidia.dates", "at {at}");
    }
}

#[test]
fn no_byte_of_a_transcript_or_its_chain_can_change() {
    let Some(samples) = samples() else { return };
    for name in ["hopper", "blackwell", "hopper-json"] {
        let sample = &samples[name];
        // The chain is remembered, as it would be: a changed one is another.
        let cache = ChainCache::default();
        let judge = |report: &[u8], chain: &[Vec<u8>]| nvidia::verify(report, chain, &sample.nonce(), T, &cache);
        judge(&sample.report, &sample.chain).unwrap();
        for at in 0..sample.report.len() {
            let mut report = sample.report.clone();
            report[at] ^= 1 << (at % 8);
            assert!(judge(&report, &sample.chain).is_err(), "{name}: byte {at}");
        }
        for cut in [0, 1, 36, 37, 44, 45, 100, sample.report.len() - 96, sample.report.len() - 1] {
            assert_eq!(
                check_of(judge(&sample.report[..cut], &sample.chain)),
                "nvidia.transcript",
                "{name}: {cut} bytes"
            );
        }
        let longer = [sample.report.as_slice(), &[0]].concat();
        assert_eq!(check_of(judge(&longer, &sample.chain)), "nvidia.transcript");
        for place in 0..sample.chain.len() {
            for at in (0..sample.chain[place].len()).step_by(3) {
                let mut chain = sample.chain.clone();
                chain[place][at] ^= 1 << (at % 8);
                assert!(judge(&sample.report, &chain).is_err(), "{name}: byte {at} of certificate {place}");
            }
        }
    }
    assert_eq!(check_of(Transcript::parse(&vec![0x11; REPORT_MAX + 1])), "nvidia.transcript");
}

/// A transcript as a GPU would write it, unsigned.
fn transcript(blocks: &[&[u8]], opaque: &[(u16, &[u8])]) -> Vec<u8> {
    let record = blocks.concat();
    let size = (record.len() as u32).to_le_bytes();
    let fields: Vec<u8> = opaque
        .iter()
        .flat_map(|(number, value)| [&number.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat())
        .collect();
    let request = [&[0x11, 0xe0, 0x01, 0xff][..], &[7; 32], &[0]].concat();
    let head = [0x11, 0x60, 0, 0, blocks.len() as u8, size[0], size[1], size[2]];
    [&request[..], &head, &record, &[8; 32], &(fields.len() as u16).to_le_bytes(), &fields, &[9; 96]].concat()
}

fn block(index: u8, kind: u8, size: u8) -> Vec<u8> {
    [&[index, 1, size + 3, 0, kind, size, 0][..], &vec![5; usize::from(size)]].concat()
}

#[test]
fn transcripts_of_another_form_are_refused_by_name() {
    let one = block(1, 1, 48);
    let good: &[(u16, &[u8])] = &[(3, b"1.2\0"), (6, &[1, 2, 3, 4, 5, 0, 0, 0])];
    let with = |more: &[(u16, &[u8])]| transcript(&[&one], &[good, more].concat());
    let parsed = Transcript::parse(&with(&[(36, &[1, 0]), (11, &[0xaa]), (20, &[4; 48])])).unwrap();
    assert_eq!((parsed.driver.as_str(), parsed.vbios.as_str(), parsed.nonce), ("1.2", "04.03.02.01.05", [7; 32]));
    assert_eq!((parsed.mode, parsed.decoder, parsed.firmware), (Some(Mode::Multiple), Some(true), Some([4; 48])));
    assert_eq!(parsed.measurements, BTreeMap::from([(1, [5; 48])]));
    let plain = transcript(&[&one], good);
    let changed = |at: usize, value: u8| {
        let mut bytes = plain.clone();
        bytes[at] = value;
        bytes
    };
    let opaque = Check::Opaque.id();
    let (form, measurements) = (Check::Transcript.id(), Check::Measurements.id());
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("as it is", plain.clone(), "ok"),
        ("SPDM 1.2", changed(0, 0x12), form),
        ("another request", changed(1, 0xe1), form),
        ("no signature asked for", changed(2, 0), form),
        ("one measurement asked for", changed(3, 1), form),
        ("another slot", changed(36, 1), form),
        ("an error for an answer", changed(38, 0x7f), form),
        ("an answer of another version", changed(37, 0x10), form),
        ("parameters in the answer", changed(39, 1), form),
        ("more blocks said", changed(41, 2), measurements),
        ("fewer blocks said", changed(41, 0), measurements),
        ("a longer record said", changed(44, 0xff), form),
        ("no blocks", transcript(&[], good), measurements),
        ("a gap", transcript(&[&one, &block(3, 1, 48)], good), measurements),
        ("a block twice", transcript(&[&one, &one], good), measurements),
        ("a value that is no hash", transcript(&[&block(1, 0x81, 48)], good), measurements),
        ("a shorter hash", transcript(&[&block(1, 1, 32)], good), measurements),
        ("a byte behind the blocks", transcript(&[&[one.as_slice(), &[0]].concat()], good), measurements),
        ("no driver", transcript(&[&one], &good[1..]), opaque),
        ("no VBIOS", transcript(&[&one], &good[..1]), opaque),
        ("an empty driver", transcript(&[&one], &[(3, b"\0"), good[1]]), opaque),
        ("a driver with colours", transcript(&[&one], &[(3, b"\x1b[31m"), good[1]]), opaque),
        ("a short VBIOS", transcript(&[&one], &[good[0], (6, &[1, 2, 3, 4])]), opaque),
        ("a driver twice", with(&good[..1]), opaque),
        ("an unknown field", with(&[(26, &[0])]), opaque),
        ("an invalid field", with(&[(255, &[0])]), opaque),
        ("firmware of another size", with(&[(20, &[4; 32])]), opaque),
        ("an unknown mode", with(&[(36, &[3, 0])]), opaque),
        ("an empty mode", with(&[(36, &[])]), opaque),
        ("an unknown decoder", with(&[(11, &[0])]), opaque),
    ];
    for (what, bytes, expected) in table {
        assert_eq!(check_of(Transcript::parse(&bytes)), expected, "{what}");
    }
}

proptest! {
    #[test]
    fn bytes_of_no_meaning_are_refused(noise in vec(any::<u8>(), 0..400)) {
        prop_assert!(Transcript::parse(&noise).is_err());
        prop_assert!(Certificate::parse("test", "noise", &noise).is_err());
        prop_assert!(Crl::parse("test", &noise).is_err());
        // Behind the right beginning, as blocks and as opaque data.
        let framed = transcript(&[&noise], &[]);
        prop_assert!(Transcript::parse(&framed).is_err());
        let framed = transcript(&[&block(1, 1, 48)], &[(3, &noise), (6, &noise)]);
        prop_assert!(Transcript::parse(&framed).is_err());
    }

    #[test]
    fn real_certificates_that_were_spliced_are_refused(
        place in 0..5_usize, from in any::<Index>(), to in any::<Index>(), size in 1..32_usize
    ) {
        let Some(samples) = samples() else { return Ok(()) };
        let sample = &samples["blackwell"];
        let (from, to) = (from.index(sample.chain[place].len() - 32), to.index(sample.chain[place].len() - 32));
        let mut chain = sample.chain.clone();
        chain[place].copy_within(from..from + size, to);
        if chain != sample.chain {
            let verdict = judge(&Sample { chain, ..sample.clone() });
            prop_assert!(verdict.is_err());
        }
    }
}

/// Figures, by hand: `cargo test -p legation-attest --release --test it nvidia -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement says what it measured")]
fn how_fast_a_gpu_is_verified() {
    let Some(samples) = samples() else { return };
    let sample = &samples["hopper-json"];
    for (name, cache) in [("cold", ChainCache::new(0)), ("cached", ChainCache::default())] {
        let begun = std::time::Instant::now();
        let mut count = 0u32;
        while begun.elapsed().as_millis() < 2000 {
            nvidia::verify(&sample.report, &sample.chain, &sample.nonce(), T, &cache).unwrap();
            count += 1;
        }
        eprintln!("nvidia, chain {name}: {:.0}/s", f64::from(count) / begun.elapsed().as_secs_f64());
    }
}
