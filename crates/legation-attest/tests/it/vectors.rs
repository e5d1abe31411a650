//! `vectors/evidence.json` of this repository: evidence of development chips, whole and altered in every part, with what a judge
//! must say of it, so that another implementation can be held against this one. `vectors/README.md` describes the file.
//!
//! Chips and authorities sign with randomness of their own, so what they signed is made once and kept (`vectors/chips.json`); every
//! case is derived from that. `UPDATE_EXPECT=1` writes the cases anew, and the kept file too where it is missing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use legation_attest::{
    Judge, Roots,
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest},
    snp::{GuestPolicy, Product, REPORT_LEN, VMPL_HYPERVISOR},
};
use legation_core::{
    Digest, UnixTime,
    claims::{Anchors, Claims, CollateralItem, Evidence, EvidenceJudge as _, Shelf, TeeKind},
};
use serde::{Deserialize, Serialize};

use crate::world::{MEASUREMENT, NOW, anchors, binding, configuration, spec};

const VERSION: &str = "legation-vectors/v1";
/// When evidence is judged, where a case does not say otherwise: ten seconds after it was made.
const AT: UnixTime = UnixTime(NOW.0 + 10);
const DAY: u64 = 86_400;

/// What is made once.
#[derive(Serialize, Deserialize)]
struct Made {
    anchors: Anchors,
    evidence: BTreeMap<String, Evidence>,
    lists: BTreeMap<String, CollateralItem>,
}

/// Some bits of one part that are turned.
#[derive(Clone, Serialize)]
struct Flip {
    part: String,
    at: usize,
    mask: u8,
}

#[derive(Serialize)]
struct Case {
    name: String,
    of: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    flip: Option<Flip>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lists: Vec<&'static str>,
    at: UnixTime,
    /// The check that refuses; nothing where none does.
    check: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Claims>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    collateral: Vec<Digest>,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name)
}

fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

fn made() -> Made {
    if let Ok(text) = fs::read(path("chips.json")) {
        return serde_json::from_slice(&text).unwrap();
    }
    assert!(updating(), "vectors/chips.json is missing: UPDATE_EXPECT=1 makes it");
    let root = |name| DevelopmentRoot::generate(name, NOW).unwrap();
    let (own, double, stranger) = (root("vectors"), root("vectors"), root("elsewhere"));
    let milan = |root: &DevelopmentRoot| root.issue(&spec(0xc1), NOW).unwrap();
    let (chip, other) = (milan(&own), own.issue(&spec(0xc3), NOW).unwrap());
    let genoa = own.issue(&ChipSpec { product: Product::Genoa, ..spec(0xc2) }, NOW).unwrap();
    let guest = Guest::new(MEASUREMENT);
    let with = |bits: u64| Guest { policy: GuestPolicy(guest.policy.0 | bits), ..guest.clone() };
    let of = |chip: &Chip, guest: &Guest| chip.evidence(guest, &binding(), &configuration()).unwrap();
    let evidence = [
        ("milan", of(&chip, &guest)),
        ("genoa", of(&genoa, &guest)),
        ("another chip", of(&other, &guest)),
        ("chip id masked", of(&chip, &Guest { mask_chip_id: true, ..guest.clone() })),
        ("that may be debugged", of(&chip, &with(GuestPolicy::DEBUG))),
        ("that may migrate", of(&chip, &with(GuestPolicy::MIGRATE_MA))),
        ("of level 3", of(&chip, &Guest { vmpl: 3, ..guest.clone() })),
        ("of the hypervisor", of(&chip, &Guest { vmpl: VMPL_HYPERVISOR, ..guest.clone() })),
        ("with host data", of(&chip, &Guest { host_data: [7; 32], ..guest.clone() })),
        ("under a double of the root", of(&milan(&double), &guest)),
        ("under a stranger's root", of(&milan(&stranger), &guest)),
    ];
    let list = |root: &DevelopmentRoot, name: &str, serials: &[Vec<u8>], seconds: u64| {
        let bytes = root.revocation_list(serials, NOW, seconds).unwrap();
        CollateralItem { name: name.to_owned(), bytes }
    };
    let lists = [
        ("fresh", list(&own, "dev/vectors/crl", &[], DAY)),
        ("revoking", list(&own, "dev/vectors/crl", &[own.ask_serial()], DAY)),
        ("stale", list(&own, "dev/vectors/crl", &[], 5)),
        ("a double's", list(&double, "dev/vectors/crl", &[], DAY)),
        ("a stranger's", list(&stranger, "dev/elsewhere/crl", &[], DAY)),
    ];
    let made = Made {
        anchors: anchors(&own),
        evidence: evidence.into_iter().map(|(name, item)| (name.to_owned(), item)).collect(),
        lists: lists.into_iter().map(|(name, item)| (name.to_owned(), item)).collect(),
    };
    fs::create_dir_all(path("")).unwrap();
    fs::write(path("chips.json"), format!("{}\n", serde_json::to_string(&made).unwrap())).unwrap();
    made
}

/// Evidence put together otherwise, by nobody with a key.
fn derive(made: &mut Made) {
    let whole = made.evidence["milan"].clone();
    let other = made.evidence["another chip"].clone();
    type Change = fn(&mut Evidence, &Evidence);
    let changes: [(&str, Change); 14] = [
        ("of kind sev-snp", |e, _| e.kind = TeeKind::SevSnp),
        ("without endorsements", |e, _| e.endorsements.clear()),
        ("without its intermediate", |e, _| _ = e.endorsements.pop()),
        ("with an endorsement more", |e, _| e.endorsements.push(vec![0x30, 0])),
        ("with its endorsements swapped", |e, _| e.endorsements.reverse()),
        ("with the certificate of another chip", |e, other| e.endorsements[0].clone_from(&other.endorsements[0])),
        ("with the report of another chip", |e, other| e.report.clone_from(&other.report)),
        ("with an endorsement cut", |e, _| _ = e.endorsements[0].pop()),
        ("with a byte behind an endorsement", |e, _| e.endorsements[0].push(0)),
        ("with a report cut", |e, _| _ = e.report.pop()),
        ("with a byte behind the report", |e, _| e.report.push(0)),
        ("without a binding", |e, _| e.binding.clear()),
        ("with white space behind the binding", |e, _| e.binding.push(b' ')),
        ("with white space behind the configuration", |e, _| e.configuration.push(b' ')),
    ];
    for (name, change) in changes {
        let mut evidence = whole.clone();
        change(&mut evidence, &other);
        made.evidence.insert(name.to_owned(), evidence);
    }
}

/// Offsets into a report: a byte of every field and of every reserved range, and of the signature.
const OFFSETS: [usize; 42] = [
    0x000, 0x003, 0x004, 0x008, 0x00a, 0x00b, 0x00f, 0x010, 0x020, 0x030, 0x033, 0x034, 0x038, 0x03a, 0x03e, 0x040,
    0x048, 0x04c, 0x050, 0x08f, 0x090, 0x0c0, 0x0e0, 0x110, 0x140, 0x160, 0x180, 0x187, 0x188, 0x189, 0x18b, 0x1a0,
    0x1df, 0x1e0, 0x1e8, 0x1eb, 0x1ec, 0x1f0, 0x1f8, 0x29f, 0x2a0, 0x2cf,
];

fn flips(evidence: &Evidence) -> Vec<Flip> {
    let flip = |part: &str, at: usize, mask: u8| Flip { part: part.to_owned(), at, mask };
    let mut all = Vec::new();
    let behind = [0x2d0, 0x2e8, 0x317, 0x318, 0x330, REPORT_LEN - 1];
    for at in OFFSETS.into_iter().chain(behind) {
        all.extend([1, 0x80].map(|mask| flip("report", at, mask)));
    }
    for (i, endorsement) in evidence.endorsements.iter().enumerate() {
        let part = format!("endorsement-{i}");
        all.extend((0..endorsement.len()).step_by(61).map(|at| flip(&part, at, 1)));
        all.push(flip(&part, endorsement.len() - 1, 1));
    }
    for (part, length) in [("binding", evidence.binding.len()), ("configuration", evidence.configuration.len())] {
        all.extend((0..length).step_by(97).map(|at| flip(part, at, 1)));
    }
    all
}

fn flipped(evidence: &Evidence, flip: &Flip) -> Evidence {
    let mut other = evidence.clone();
    let bytes = match flip.part.as_str() {
        "report" => &mut other.report,
        "binding" => &mut other.binding,
        "configuration" => &mut other.configuration,
        "endorsement-0" => &mut other.endorsements[0],
        _ => &mut other.endorsements[1],
    };
    bytes[flip.at] ^= flip.mask;
    other
}

struct Cases<'a> {
    made: &'a Made,
    judge: Judge,
    all: Vec<Case>,
}

impl Cases<'_> {
    fn add(&mut self, name: &str, of: &str, flip: Option<Flip>, (lists, at): (&[&'static str], UnixTime), good: bool) {
        let whole = &self.made.evidence[of];
        let evidence = flip.as_ref().map_or_else(|| whole.clone(), |flip| flipped(whole, flip));
        let shelf: Shelf = lists.iter().map(|list| Arc::new(self.made.lists[*list].clone())).collect();
        let (check, claims, collateral) = match self.judge.judge(&evidence, &shelf, at) {
            Ok(judged) => (None, Some(judged.claims), judged.collateral),
            Err(why) => (Some(why.check), None, Vec::new()),
        };
        assert_eq!(check.is_none(), good, "{name}: {check:?}");
        let (name, of, lists) = (name.to_owned(), of.to_owned(), lists.to_vec());
        self.all.push(Case { name, of, flip, lists, at, check, claims, collateral });
    }
}

#[test]
fn evidence_whole_and_altered() {
    let mut made = made();
    derive(&mut made);
    let judge = Judge::new(Roots::new(&made.anchors).unwrap());
    let mut cases = Cases { made: &made, judge, all: Vec::new() };
    let good = [
        "milan",
        "genoa",
        "another chip",
        "chip id masked",
        "that may be debugged",
        "that may migrate",
        "of level 3",
        "with host data",
    ];
    for of in made.evidence.keys() {
        cases.add(of, of, None, (&[], AT), good.contains(&of.as_str()));
    }
    let dates: [(&str, &[&'static str], UnixTime, bool); 12] = [
        ("before its certificates", &[], NOW.minus(1), false),
        ("with its certificates", &[], NOW, true),
        ("when its keys end", &[], NOW.plus(10_000), true),
        ("after its keys ended", &[], NOW.plus(10_001), false),
        ("after its certificates ended", &[], NOW.plus(11 * 365 * DAY), false),
        ("with a fresh list", &["fresh"], AT, true),
        ("with a list that revokes its intermediate", &["revoking"], AT, false),
        ("with a stale list", &["stale"], AT, true),
        ("with a list that is stale for too long", &["stale"], NOW.plus(31 * DAY), false),
        ("with the list of a double of its root", &["a double's"], AT, false),
        ("with the list of another root", &["a stranger's"], AT, true),
        ("with both lists", &["a stranger's", "fresh"], AT, true),
    ];
    for (name, lists, at, good) in dates {
        cases.add(name, "milan", None, (lists, at), good);
    }
    for flip in flips(&made.evidence["milan"]) {
        let name = format!("{} altered at {:#05x} by {:#04x}", flip.part, flip.at, flip.mask);
        cases.add(&name, "milan", Some(flip), (&[], AT), false);
    }
    settle(&made, &cases.all);
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",\n")
}

fn settle(made: &Made, cases: &[Case]) {
    let evidence = lines(made.evidence.iter().map(|(name, item)| format!("{}:{}", json(name), json(item))));
    let lists = lines(made.lists.iter().map(|(name, item)| format!("{}:{}", json(name), json(item))));
    let head = format!("\"version\":\"{VERSION}\",\n\"kind\":\"evidence\",\n\"anchors\":{}", json(&made.anchors));
    let cases = lines(cases.iter().map(json));
    let text = format!(
        "{{\n{head},\n\"evidence\":{{\n{evidence}\n}},\n\"lists\":{{\n{lists}\n}},\n\"cases\":[\n{cases}\n]\n}}\n"
    );
    if updating() {
        fs::write(path("evidence.json"), &text).unwrap();
    }
    let kept = fs::read_to_string(path("evidence.json")).unwrap_or_default();
    assert!(kept == text, "evidence.json: not what is generated (UPDATE_EXPECT=1 writes it anew)");
}
