//! Reference values: their form, and what they make of claims.

use legation_core::{
    UnixTime,
    claims::{Attested, Tcb, TcbStatus, TeeKind},
};
use legation_policy::{ReferenceKind, ReferenceValue, References};

use crate::world::{Guest, NOW, firmware, image, known};

const AZURE: [(&str, &str); 2] = [("pcr4", "aa"), ("pcr11", "bb")];

fn of(measurement: String, registers: &[(&str, &str)], tees: &[TeeKind]) -> ReferenceKind {
    let registers = registers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ReferenceKind::Image { measurement, registers: registers.collect(), tees: tees.iter().copied().collect() }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let good = image("a", known(), None);
    type Change = fn(&mut ReferenceValue);
    let table: [(&str, Change); 21] = [
        ("reference.name", |v| v.name = "A".into()),
        ("reference.name", |v| v.name = String::new()),
        ("reference.name", |v| v.name = "-a".into()),
        ("reference.name", |v| v.name = "a".repeat(64)),
        ("reference.text", |v| v.owner = " ".into()),
        ("reference.text", |v| v.source = "a\nb".into()),
        ("reference.text", |v| v.source = "a".repeat(257)),
        ("reference.dates", |v| v.expires = Some(UnixTime(1))),
        ("reference.value", |v| v.value = of(known(), &[], &[])),
        ("reference.value", |v| v.value = of(known(), &[], &[TeeKind::SevSnp, TeeKind::Sgx])),
        ("reference.value", |v| v.value = of(known().to_uppercase(), &[], &[TeeKind::SevSnp])),
        // The paravisor is measured by the hardware, in 48 bytes.
        ("reference.value", |v| v.value = of("ab".repeat(32), &AZURE, &[TeeKind::AzSnpVtpm])),
        // What is measured there is not the guest.
        ("reference.registers", |v| v.value = of(known(), &[], &[TeeKind::Tdx])),
        ("reference.registers", |v| v.value = of(known(), &[("rtmr0", "aa"), ("rtmr1", "aa")], &[TeeKind::Tdx])),
        ("reference.registers", |v| v.value = of(known(), &[], &[TeeKind::AzSnpVtpm])),
        ("reference.registers", |v| v.value = of(known(), &[("pcr7", "aa")], &[TeeKind::AzSnpVtpm])),
        ("reference.registers", |v| v.value = of(known(), &AZURE[..1], &[TeeKind::AzTdxVtpm])),
        ("reference.registers", |v| v.value = of(known(), &AZURE, &[TeeKind::AzTdxVtpm, TeeKind::Tdx])),
        ("reference.registers", |v| v.value = of(known(), &[("PCR4", "aa")], &[TeeKind::SevSnp])),
        ("reference.registers", |v| v.value = of(known(), &[("pcr4", "AA")], &[TeeKind::SevSnp])),
        ("reference.registers", |v| v.value = of(known(), &[("pcr4", "")], &[TeeKind::SevSnp])),
    ];
    assert!(good.check().is_ok());
    for (check, change) in table {
        let mut value = good.clone();
        change(&mut value);
        let why = value.check().unwrap_err();
        assert_eq!(why.check, check, "{why}");
        assert!(!why.fix.is_empty());
    }
    let turin = firmware("a", "turin", "blSPL=1&teeSPL=1&snpSPL=1&ucodeSPL=1");
    assert_eq!(turin.check().unwrap_err().check, "reference.value");
    let twice = References::new([good.clone(), good.clone()]).unwrap_err();
    assert_eq!(twice.check, "reference.name");
    assert_eq!(References::from_json("[{}]").unwrap_err().check, "reference.file");
    let text =
        serde_json::to_string(&[&good, &firmware("b", "milan", "blSPL=1&teeSPL=1&snpSPL=1&ucodeSPL=1")]).unwrap();
    assert_eq!(References::from_json(&text).unwrap().len(), 2);
    assert!(References::from_json(&text.replace("\"owner\"", "\"x\":1,\"owner\"")).is_err());
    // One that was ended as soon as it was made is written and read like any other.
    let mut ended = References::new([good.clone()]).unwrap();
    assert!(ended.expire(&good.name, UnixTime(5)));
    let value = ended.get(&good.name).unwrap();
    assert!(!value.holds_at(value.made), "{value:?}");
    assert_eq!(References::from_json(&serde_json::to_string(&[value]).unwrap()).unwrap(), ended);
    // As the command line lists them.
    let listed = format!("[{{\"reference\":{},\"holds\":true,\"used_by\":[]}}]", serde_json::to_string(&good).unwrap());
    assert_eq!(References::from_json(&listed).unwrap().get(&good.name), Some(&good));
    let why = References::from_json(&listed.replace("\"owner\"", "\"x\":1,\"owner\"")).unwrap_err();
    assert!(why.check == "reference.file" && why.got.contains("value 1: unknown field `x`"), "{why}");
}

#[test]
fn an_image_is_named_by_measurement_kind_and_time() {
    let mut references =
        References::new([image("a", known(), Some(NOW)), image("b", known(), None), image("c", "00".repeat(48), None)])
            .unwrap();
    let names = |references: &References, guest: &Guest, at| {
        references.images_of(&guest.claims, at).map(str::to_owned).collect::<Vec<_>>()
    };
    let guest = Guest::milan();
    assert_eq!(names(&references, &guest, NOW), ["a", "b"]);
    assert_eq!(names(&references, &guest, NOW.plus(1)), ["b"]);
    let tdx = Guest::milan().with(|c| c.tee = Attested::hardware(TeeKind::Tdx));
    assert_eq!(names(&references, &tdx, NOW), [""; 0]);
    assert!(references.expire("b", NOW.minus(1)) && !references.expire("z", NOW));
    assert_eq!(names(&references, &guest, NOW), ["a"]);
    // An expiry is never put off by another.
    assert!(references.expire("b", NOW.plus(100)));
    assert_eq!(names(&references, &guest, NOW), ["a"]);
    assert!(references.remove("a").is_some() && references.remove("a").is_none());
    assert_eq!(names(&references, &guest, NOW), [""; 0]);
}

#[test]
fn firmware_values_say_what_is_current_and_what_is_behind() {
    let tcb = |references: &References, change: fn(&mut Tcb)| {
        let guest = Guest::milan().with(|c| change(&mut c.tcb.value));
        references.tcb(&guest.claims, NOW)
    };
    let none = References::default();
    assert_eq!(tcb(&none, |_| {}).status, TcbStatus::Unknown);
    let milan = References::new([
        firmware("one", "milan", "blSPL=4&teeSPL=0&snpSPL=20&ucodeSPL=220"),
        firmware("two", "milan", "blSPL=3&teeSPL=0&snpSPL=25&ucodeSPL=1"),
        firmware("other", "genoa", "blSPL=255&teeSPL=255&snpSPL=255&ucodeSPL=255"),
    ])
    .unwrap();
    let behind = tcb(&milan, |_| {});
    assert_eq!(behind.status, TcbStatus::OutOfDate);
    let shortfall: Vec<_> = behind.shortfall.iter().map(ToString::to_string).collect();
    assert_eq!(shortfall, ["snp 24 below 25", "microcode 219 below 220"]);
    let current = tcb(&milan, |t| t.version = "blSPL=4&teeSPL=0&snpSPL=25&ucodeSPL=220".into());
    assert_eq!((current.status, current.shortfall.len()), (TcbStatus::UpToDate, 0));
    // What the vendor says, no reference value overrules; what is not of AMD's form stays unknown.
    assert_eq!(tcb(&milan, |t| t.status = TcbStatus::Revoked).status, TcbStatus::Revoked);
    assert_eq!(tcb(&milan, |t| t.version = "7".into()).status, TcbStatus::Unknown);
    let mut expired = milan.clone();
    for name in ["one", "two"] {
        expired.expire(name, NOW.minus(1));
    }
    assert_eq!(tcb(&expired, |_| {}).status, TcbStatus::Unknown);
}

/// Where the measurement is of firmware or paravisor, every guest on it has it: the registers tell them apart.
#[test]
fn another_guest_on_the_same_firmware_is_not_the_image() {
    let tdx = [("rtmr0", "a0"), ("rtmr1", "a1"), ("rtmr2", "a2"), ("rtmr3", "a3"), ("mrseam", "ff")];
    let azure = [
        ("pcr0", "00"),
        ("pcr4", "a4"),
        ("pcr7", "a7"),
        ("pcr8", "a8"),
        ("pcr9", "a9"),
        ("pcr11", "00"),
        ("pcr12", "00"),
        ("pcr14", "ae"),
        ("pcr15", "af"),
    ];
    let of_azure = ["pcr11", "pcr12", "pcr14", "pcr4", "pcr8", "pcr9"];
    let tpm = [("pcr4", "a4"), ("pcr8", "a8"), ("pcr15", "af"), ("pcr16", "ff")];
    /// A kind, what it shows, what is taken of that.
    type Row<'a> = (TeeKind, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let kinds: [Row<'_>; 5] = [
        (TeeKind::Tdx, &tdx, &["rtmr0", "rtmr1", "rtmr2"]),
        (TeeKind::AzTdxVtpm, &azure, &of_azure),
        (TeeKind::AzSnpVtpm, &azure, &of_azure),
        // A TPM's measurement says it all.
        (TeeKind::Tpm, &tpm, &[]),
        (TeeKind::SevSnp, &[("hostdata", "aa")], &[]),
    ];
    for (tee, registers, taken) in kinds {
        let measurement = if tee == TeeKind::Tpm { "ab".repeat(32) } else { known() };
        let guest = Guest::milan().with(|c| {
            (c.tee.value, c.measurement.value) = (tee, measurement);
            c.registers = registers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        });
        let value = ReferenceKind::image_of(&guest.claims).unwrap();
        let ReferenceKind::Image { registers: held, .. } = &value else { panic!("an image") };
        assert_eq!(held.keys().map(String::as_str).collect::<Vec<_>>(), taken, "{tee}");
        let references = References::new([ReferenceValue { value, ..image("web", known(), None) }]).unwrap();
        let is_it = |guest: &Guest| references.images_of(&guest.claims, NOW).next().is_some();
        assert!(is_it(&guest), "{tee}");
        for (name, _) in registers {
            for other in [Some("dd"), None] {
                let other = guest.clone().with(|c| match other {
                    Some(value) => drop(c.registers.insert((*name).to_owned(), value.to_owned())),
                    None => drop(c.registers.remove(*name)),
                });
                assert_eq!(is_it(&other), !taken.contains(name), "{tee} with another {name}");
            }
        }
    }
    // A guest that shows nothing of itself can be no image.
    let bare = Guest::milan().with(|c| c.tee.value = TeeKind::Tdx);
    assert_eq!(ReferenceKind::image_of(&bare.claims).unwrap_err().check, "reference.registers");
    let zeros = [("rtmr1", "00".repeat(48)), ("rtmr2", "00".repeat(48))].map(|(name, value)| (name.to_owned(), value));
    let value = ReferenceKind::Image { measurement: known(), registers: zeros.into(), tees: [TeeKind::Tdx].into() };
    let why = ReferenceValue { value, ..image("web", known(), None) }.check().unwrap_err();
    assert_eq!(why.check, "reference.registers");
    assert!(why.expected.contains("virtual firmware") && why.fix.contains("--register"), "{why}");
}

#[test]
fn a_value_without_registers_reads_as_before() {
    let text = r#"[{"name": "a", "value": {"kind": "image", "measurement": "MM", "tees": ["sev-snp"]},
        "owner": "ops", "made": 1700000000, "source": "x"}]"#;
    let references = References::from_json(&text.replace("MM", &known())).unwrap();
    assert_eq!(references.get("a").unwrap().value, of(known(), &[], &[TeeKind::SevSnp]));
    let tdx = text.replace("MM", &known()).replace("sev-snp", "tdx");
    assert_eq!(References::from_json(&tdx).unwrap_err().check, "reference.registers");
    let with = tdx.replace("\"tees\"", "\"registers\": {\"rtmr1\": \"aa\", \"rtmr2\": \"bb\"}, \"tees\"");
    assert_eq!(References::from_json(&with).unwrap().len(), 1);
}
