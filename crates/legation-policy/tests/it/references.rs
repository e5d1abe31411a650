//! Reference values: their form, and what they make of claims.

use std::collections::BTreeSet;

use legation_core::{
    UnixTime,
    claims::{Attested, Tcb, TcbStatus, TeeKind},
};
use legation_policy::{ReferenceKind, ReferenceValue, References};

use crate::world::{Guest, NOW, firmware, image, known};

#[test]
fn values_that_make_no_sense_are_refused() {
    let good = image("a", known(), None);
    type Change = fn(&mut ReferenceValue);
    let table: [(&str, Change); 11] = [
        ("reference.name", |v| v.name = "A".into()),
        ("reference.name", |v| v.name = String::new()),
        ("reference.name", |v| v.name = "-a".into()),
        ("reference.name", |v| v.name = "a".repeat(64)),
        ("reference.text", |v| v.owner = " ".into()),
        ("reference.text", |v| v.source = "a\nb".into()),
        ("reference.text", |v| v.source = "a".repeat(257)),
        ("reference.dates", |v| v.expires = Some(UnixTime(1))),
        ("reference.value", |v| v.value = ReferenceKind::Image { measurement: known(), tees: BTreeSet::new() }),
        ("reference.value", |v| {
            v.value =
                ReferenceKind::Image { measurement: known(), tees: BTreeSet::from([TeeKind::SevSnp, TeeKind::Sgx]) };
        }),
        ("reference.value", |v| {
            v.value =
                ReferenceKind::Image { measurement: known().to_uppercase(), tees: BTreeSet::from([TeeKind::SevSnp]) };
        }),
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
