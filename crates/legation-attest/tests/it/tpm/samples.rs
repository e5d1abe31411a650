//! Published quotes and event logs, and logs made by hand.

use legation_attest::tpm::{
    HashAlg, Key, Public, Quote, Signature,
    eventlog::{EV_EFI_VARIABLE_DRIVER_CONFIG, EV_NO_ACTION, EventLog},
};
use legation_core::encoding;
use proptest::prelude::*;

use crate::samples::{folder, read};

/// `UEFI_VARIABLE_DATA` of `SecureBoot` = 1.
pub(crate) const SECURE_BOOT_ON: &[u8] = b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c\
    \x0a\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0S\0e\0c\0u\0r\0e\0B\0o\0o\0t\0\x01";

/// A crypto-agile log of SHA-256 whose events measure their data.
pub(crate) fn log(events: &[(u32, &[u8])]) -> Vec<u8> {
    let measured: Vec<_> = events
        .iter()
        .map(|(register, data)| (*register, EV_EFI_VARIABLE_DRIVER_CONFIG, HashAlg::Sha256.digest(&[data]), *data))
        .collect();
    log_of(&measured)
}

/// Register, type, digest, data.
type Told<'a> = (u32, u32, Vec<u8>, &'a [u8]);

fn log_of(events: &[Told<'_>]) -> Vec<u8> {
    let told: Vec<_> = events.iter().map(|(r, kind, digest, data)| (*r, *kind, vec![digest.clone()], *data)).collect();
    log_in(&[HashAlg::Sha256], &told)
}

/// Register, type, a digest for each bank, data.
type ToldIn<'a> = (u32, u32, Vec<Vec<u8>>, &'a [u8]);

/// A crypto-agile log with digests of these banks.
pub(crate) fn log_in(banks: &[HashAlg], events: &[ToldIn<'_>]) -> Vec<u8> {
    let le = |n: usize| (n as u32).to_le_bytes();
    let size = |bank: &HashAlg| [bank.id().to_le_bytes(), (bank.size() as u16).to_le_bytes()].concat();
    let sizes: Vec<u8> = banks.iter().flat_map(size).collect();
    let begin = [0, 0, 0, 0, 0, 2, 0, 2];
    let spec = [b"Spec ID Event03\0".as_slice(), &begin, &le(banks.len()), &sizes, &[0]].concat();
    let mut out = [&[0; 4][..], &EV_NO_ACTION.to_le_bytes(), &[0; 20], &le(spec.len()), &spec].concat();
    for (register, kind, digests, data) in events {
        out.extend([register.to_le_bytes(), kind.to_le_bytes(), le(banks.len())].concat());
        for (bank, digest) in banks.iter().zip(digests) {
            out.extend([&bank.id().to_le_bytes()[..], digest].concat());
        }
        out.extend([&le(data.len())[..], data].concat());
    }
    out
}

#[test]
fn a_published_quote_is_signed_by_its_key_over_its_nonce() {
    let Some(folder) = folder("tpm/keylime") else { return };
    let ak = Public::parse_sized(&read(&folder, "ak.pub")).unwrap();
    assert_eq!(ak.name(), read(&folder, "ak.name"));
    assert!(ak.attributes.attests(), "{:?}", ak.attributes);
    let ek = Public::parse_sized(&read(&folder, "ek.pub")).unwrap();
    assert!(ek.attributes.endorses() && !ek.attributes.attests());
    assert_eq!(super::emulator::pem(&folder.join("akpub.pem")).as_slice().pipe(Key::from_spki), Ok(ak.key.clone()));
    let (bytes, signature) = (read(&folder, "quote.out"), read(&folder, "quotesig.out"));
    let quote = Quote::parse(&bytes).unwrap();
    assert_eq!(encoding::hex(&quote.extra_data), "db1db298db6d60e6385b7231743e9c3056a18003");
    flips(&bytes, &signature, &ak.key);
    assert!(Signature::parse(&signature).unwrap().verify(&ek.key, &bytes).is_err(), "not the endorsement key");
}

/// The signature holds, and with any byte of it or of the quote flipped it does not.
fn flips(quote: &[u8], signature: &[u8], key: &Key) {
    let holds = |quote: &[u8], signature: &[u8]| {
        Quote::parse(quote).is_ok() && Signature::parse(signature).is_ok_and(|s| s.verify(key, quote).is_ok())
    };
    assert!(holds(quote, signature));
    for byte in 0..quote.len() {
        let mut bad = quote.to_vec();
        bad[byte] ^= 0x10;
        assert!(!holds(&bad, signature), "byte {byte} of the quote");
    }
    for byte in 0..signature.len() {
        let mut bad = signature.to_vec();
        bad[byte] ^= 0x10;
        assert!(!holds(quote, &bad), "byte {byte} of the signature");
    }
}

/// `x.pipe(f)` is `f(x)`.
trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}
impl Pipe for &[u8] {}

#[test]
fn a_quote_of_another_verifiers_samples_holds() {
    let Some(folder) = folder("tpm/trustee") else { return };
    let json: serde_json::Value = serde_json::from_slice(&read(&folder, "tpm_evidence.json")).unwrap();
    let text = |value: &serde_json::Value| encoding::unbase64(value.as_str().unwrap()).unwrap();
    let key = Key::from_spki(&text(&json["ak_public"])).unwrap();
    let (quote, signature) = (text(&json["tpm_quote"]["message"]), text(&json["tpm_quote"]["signature"]));
    flips(&quote, &signature, &key);
    let parsed = Quote::parse(&quote).unwrap();
    let pcrs = json["tpm_quote"]["pcrs"].as_array().unwrap();
    let values: Vec<u8> = pcrs.iter().flat_map(|v| encoding::unhex(v.as_str().unwrap()).unwrap()).collect();
    assert_eq!(HashAlg::Sha256.digest(&[&values]), parsed.pcr_digest);
    assert_eq!((parsed.extra_data.len(), parsed.safe), (64, true));
}

#[test]
fn published_logs_replay_and_show_secure_boot_where_they_measured_it() {
    let Some(folder) = folder("tpm/eventlog") else { return };
    // Events, secure boot, and how the registers 0, 4, 7 and 8 of SHA-256 begin, as `tpm2_eventlog` replays them
    // (but for the first log's register 0, which that tool extends by events that extend nothing).
    for (name, events, secure_boot, registers) in [
        ("confidential-gke-debug-251000_eventlog.bin", 54, true, ["d0c70a93", "18314f0c", "8c5dc451", "98effeca"]),
        ("cos-101-amd-sev.bin", 48, true, ["0f35c214", "6d9f1a1d", "2bc6edaa", "ebb7c847"]),
        ("ubuntu-2104-no-secure-boot.bin", 105, false, ["24af52a4", "ebc7ae25", "0d8847bc", "b9a32494"]),
        ("ubuntu-2404-amd-sevsnp.bin", 116, false, ["50597a27", "abe8b3fa", "33ad6985", "6932a3f7"]),
    ] {
        let bytes = read(&folder, name);
        let log = EventLog::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((log.events.len(), log.secure_boot(HashAlg::Sha256)), (events, Some(secure_boot)), "{name}");
        let replayed = log.replay(HashAlg::Sha256).unwrap();
        let found = [0, 4, 7, 8].map(|register| encoding::hex(&replayed[&register][..4]));
        assert_eq!(found, registers, "{name}");
        assert!(log.replay(HashAlg::Sha384).is_ok() && log.replay(HashAlg::Sha1).is_ok());
        assert_eq!(log.secure_boot(HashAlg::Sha1), None, "nothing rests on SHA-1");
        let texts = log.boot_texts(HashAlg::Sha256);
        assert!(texts.len() > 3 && texts.iter().all(|(register, _)| matches!(register, 4 | 8 | 9 | 14)), "{texts:?}");
        every_cut_is_refused_or_shorter(name, &bytes, log.events.len());
    }
}

fn every_cut_is_refused_or_shorter(name: &str, bytes: &[u8], events: usize) {
    for len in (0..bytes.len()).step_by(97) {
        if let Ok(log) = EventLog::parse(&bytes[..len]) {
            assert!(log.events.len() < events, "{name} cut to {len}");
        }
    }
}

#[test]
fn logs_of_older_forms_and_broken_ones_are_refused() {
    let Some(folder) = folder("tpm/eventlog-edge") else { return };
    for name in ["ebs_event_missing_eventlog", "option_rom_eventlog", "short_no_action_eventlog"] {
        let error = EventLog::parse(&read(&folder, name)).unwrap_err().to_string();
        assert!(error.contains("first event"), "{name}: {error}");
    }
}

#[test]
fn the_log_of_a_trust_domain_replays_to_the_registers_in_its_quote() {
    let Some(folder) = folder("tdx/ccel-gcp") else { return };
    let (bytes, quote) = (read(&folder, "ccel_data.dat"), read(&folder, "cos-113-tdx-quote.dat"));
    let log = EventLog::parse_padded(&bytes).unwrap();
    assert!(EventLog::parse(&bytes).is_err(), "the filler is no event");
    // Quote version 4: RTMR 0 begins 328 bytes into the report body, which begins at byte 48.
    let rtmrs = log.replay_rtmrs().unwrap();
    for (i, rtmr) in rtmrs.iter().enumerate() {
        let at = 48 + 328 + 48 * i;
        assert_eq!(encoding::hex(rtmr), encoding::hex(&quote[at..at + 48]), "RTMR {i}");
    }
    assert_eq!(log.secure_boot(HashAlg::Sha384), None, "a trust domain's register is not PCR 7");
}

#[test]
fn what_a_log_claims_without_having_measured_it_does_not_count() {
    let digest = |data: &[u8]| HashAlg::Sha256.digest(&[data]);
    let (on, config) = (SECURE_BOOT_ON, EV_EFI_VARIABLE_DRIVER_CONFIG);
    let off = [&on[..on.len() - 1], &[0]].concat();
    let table: [(&str, &[Told<'_>], Option<bool>); 7] = [
        ("on", &[(7, config, digest(on), on)], Some(true)),
        ("off", &[(7, config, digest(&off), &off)], Some(false)),
        ("said and not measured", &[(7, config, digest(&off), on)], None),
        ("in another register", &[(1, config, digest(on), on)], None),
        ("called something else, and claimed behind", &[(7, 4, digest(&off), b""), (7, config, digest(on), on)], None),
        ("claimed behind", &[(7, config, digest(&off), &off), (7, config, digest(on), on)], Some(false)),
        ("nothing", &[], None),
    ];
    for (what, events, expected) in table {
        let bytes = log_of(events);
        assert_eq!(EventLog::parse(&bytes).unwrap().secure_boot(HashAlg::Sha256), expected, "{what}");
        assert_eq!(EventLog::parse(&bytes).unwrap().secure_boot(HashAlg::Sha384), None, "{what}, in another bank");
    }
}

#[test]
fn a_start_from_another_locality_begins_register_0_differently() {
    let locality = |n: u8| [b"StartupLocality\0".as_slice(), &[n]].concat();
    let (three, five) = (locality(3), locality(5));
    let none = vec![0; 32];
    let measured = (0, 8, vec![7; 32], b"firmware".as_slice());
    let begin = [[0; 31].as_slice(), &[3]].concat();
    let bytes = log_of(&[(0, EV_NO_ACTION, none.clone(), &three), measured.clone()]);
    let replayed = EventLog::parse(&bytes).unwrap().replay(HashAlg::Sha256).unwrap();
    assert_eq!(replayed[&0], HashAlg::Sha256.digest(&[&begin, &[7; 32]]));
    for events in [
        vec![measured.clone(), (0, EV_NO_ACTION, none.clone(), three.as_slice())],
        vec![(0, EV_NO_ACTION, none.clone(), five.as_slice())],
        vec![(1, EV_NO_ACTION, none.clone(), three.as_slice())],
        vec![(24, 8, none.clone(), b"".as_slice())],
    ] {
        let bytes = log_of(&events);
        assert!(EventLog::parse(&bytes).unwrap().replay(HashAlg::Sha256).is_err(), "{events:?}");
    }
    assert!(EventLog::parse(&bytes).unwrap().replay(HashAlg::Sha384).is_err(), "no such digests");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_no_meaning_are_refused_or_read_but_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        at in any::<usize>(),
        with in any::<u8>(),
    ) {
        let _ = (Quote::parse(&bytes), Signature::parse(&bytes), Public::parse(&bytes), Public::parse_sized(&bytes));
        let _ = (EventLog::parse(&bytes).is_ok(), EventLog::parse_padded(&bytes).is_ok(), Key::from_spki(&bytes));
        prop_assert!(legation_attest::tpm::Report::parse(&bytes).is_err());
        prop_assert!(legation_attest::azure::Report::parse(&bytes).is_err());
        prop_assert!(legation_attest::azure::from_trustee_json(&bytes).is_err());
        prop_assert!(legation_attest::azure::HclReport::parse(&bytes).is_err());
        prop_assert!(legation_attest::azure::Runtime::parse(&bytes).is_err());
        let mut changed = log(&[(7, SECURE_BOOT_ON), (4, &bytes)]);
        let at = at % changed.len();
        changed[at] = with;
        if let Ok(log) = EventLog::parse(&changed) {
            let bank = HashAlg::Sha256;
            let _ = (log.replay(bank), log.replay_rtmrs(), log.secure_boot(bank), log.boot_texts(bank));
        }
    }
}
