//! The keeper against vendors that are played: exact requests, failing over, outages, and what is not let in.

use std::{path::Path, sync::Arc};

use legation_attest::snp::{LeafKind, Product, TcbVersion, Vcek};
use legation_core::{
    UnixTime,
    claims::{Anchors, TpmAnchor, TpmKey},
    encoding,
};
use legation_verifier::{
    Door,
    collateral::{
        Checker, CollateralName, ItemState, Keeper, KeeperConfig, SourceConfig, SourceKind, WANTED_MAX, Wants,
    },
    http::Authorities,
};
use serde_json::Value;

use crate::{
    vendor::{Say, Vendor, percent},
    world::{Hand, Made, NOW, anchors, answer, check_of, roots, verifier, world},
};

const DAY: u64 = 86_400;
const LIST: &str = "dev/laptop/crl";

fn source(kind: SourceKind, urls: &[&str]) -> SourceConfig {
    SourceConfig { kind, urls: urls.iter().map(|u| (*u).to_owned()).collect(), dir: None, root_list: None }
}

fn files(dir: &Path) -> SourceConfig {
    SourceConfig { kind: SourceKind::Files, urls: Vec::new(), dir: Some(dir.to_owned()), root_list: None }
}

fn config(dir: &Path, sources: Vec<SourceConfig>, keep: &[&str]) -> KeeperConfig {
    KeeperConfig {
        dir: dir.to_owned(),
        grace_seconds: 7 * DAY,
        refresh_seconds: DAY,
        minimum_seconds: 3600,
        sources,
        keep: keep.iter().map(|n| (*n).to_owned()).collect(),
        authorities: Authorities::System,
    }
}

fn keeper(config: KeeperConfig, hand: &Hand) -> Keeper {
    Keeper::open(config, Checker::new(roots()), hand.clock()).unwrap()
}

pub(crate) fn list(from: UnixTime, seconds: u64) -> Vec<u8> {
    world().root.revocation_list(&[], from, seconds).unwrap()
}

fn state(keeper: &Keeper, name: &str) -> ItemState {
    keeper.status().into_iter().find(|s| s.name == name).map(|s| s.state).unwrap()
}

fn on_shelf(keeper: &Keeper, name: &str) -> Option<Vec<u8>> {
    keeper.shelf().get().get(name).map(|(_, item)| item.bytes.clone())
}

#[tokio::test]
async fn a_mirror_is_asked_for_the_item_by_its_name_and_then_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let vendor = Vendor::default();
    let bytes = list(NOW.minus(100), 30 * DAY);
    vendor.say("/base/dev/laptop/crl", Say::body(bytes.clone()));
    let base = format!("{}/base/", vendor.clone().start().await);
    let keeper = keeper(config(dir.path(), vec![source(SourceKind::Mirror, &[&base])], &[LIST]), &hand);
    assert_eq!(state(&keeper, LIST), ItemState::Missing);
    let round = keeper.round().await;
    assert_eq!((round.got, round.failed), (1, 0));
    assert_eq!(on_shelf(&keeper, LIST), Some(bytes));
    assert_eq!(state(&keeper, LIST), ItemState::Fresh);
    let asked = vendor.asked();
    assert_eq!((asked[0].line.as_str(), asked.len()), ("GET /base/dev/laptop/crl", 1));
    assert_eq!(asked[0].headers, ["host"], "nothing tells who asks");
    // Not before its time, a little earlier than a day, and nothing new is no failure.
    hand.forward(3600);
    assert_eq!(keeper.round().await.got, 0);
    hand.forward(DAY - 3600);
    let round = keeper.round().await;
    assert_eq!((round.got, round.failed, vendor.asked().len()), (1, 0, 2));
}

#[tokio::test]
async fn an_endpoint_that_fails_is_passed_over_and_left_alone_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let (broken, slow, good) = (Vendor::default(), Vendor::default(), Vendor::default());
    broken.say("/dev/laptop/crl", Say::status(500));
    slow.say("/dev/laptop/crl", Say::status(429).header("retry-after", "600"));
    good.say("/dev/laptop/crl", Say::body(list(NOW.minus(100), 30 * DAY)));
    let urls = [broken.clone().start().await, slow.clone().start().await, good.clone().start().await];
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let keeper = keeper(config(dir.path(), vec![source(SourceKind::Mirror, &urls)], &[LIST]), &hand);
    assert_eq!(keeper.round().await.got, 1);
    assert_eq!([broken.asked().len(), slow.asked().len(), good.asked().len()], [1, 1, 1]);
    let name: CollateralName = LIST.parse().unwrap();
    keeper.fetch(&name).await.unwrap();
    assert_eq!([broken.asked().len(), slow.asked().len(), good.asked().len()], [1, 1, 2]);
    hand.forward(30);
    keeper.fetch(&name).await.unwrap();
    assert_eq!([broken.asked().len(), slow.asked().len(), good.asked().len()], [2, 1, 3], "429 asked for ten minutes");
    hand.forward(601);
    keeper.fetch(&name).await.unwrap();
    assert_eq!(slow.asked().len(), 2);
    // Items that do not exist are no reason to turn from a vendor.
    let unknown: CollateralName = "dev/nobody/crl".parse().unwrap();
    assert_eq!(check_of(keeper.fetch(&unknown).await), "collateral.unavailable");
    keeper.fetch(&name).await.unwrap();
    assert_eq!(good.lines().iter().filter(|l| l.contains("laptop")).count(), 5);
}

#[tokio::test]
async fn an_outage_becomes_a_dated_grace_and_then_an_end_and_the_item_stays() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let vendor = Vendor::default();
    let old = list(NOW, 28 * DAY);
    vendor.say("/dev/laptop/crl", Say::body(old.clone()));
    let base = vendor.clone().start().await;
    let keeper = Arc::new(keeper(config(dir.path(), vec![source(SourceKind::Mirror, &[&base])], &[LIST]), &hand));
    keeper.round().await;
    vendor.say("/dev/laptop/crl", Say::status(503));
    let next = NOW.plus(28 * DAY);
    let until = next.plus(7 * DAY);
    for (at, wanted) in [
        (NOW.plus(DAY), ItemState::Fresh),
        (next.minus(6 * DAY), ItemState::Due),
        (next, ItemState::StaleInGrace { until }),
        (until.minus(DAY), ItemState::StaleInGrace { until }),
        (until, ItemState::Expired),
        (until.plus(100 * DAY), ItemState::Expired),
    ] {
        hand.set(at);
        let asked = vendor.asked().len();
        let round = keeper.round().await;
        assert!(round.failed == 1 && vendor.asked().len() == asked + 1, "it is looked for at {at}");
        assert_eq!(state(&keeper, LIST), wanted, "at {at}");
        assert_eq!(on_shelf(&keeper, LIST).as_ref(), Some(&old), "never dropped");
        let warnings = keeper.warnings();
        assert_eq!(warnings.len(), usize::from(wanted.is_stale()), "{warnings:?}");
        if matches!(wanted, ItemState::StaleInGrace { .. }) {
            assert!(warnings[0].contains(&until.to_string()) && warnings[0].contains("status 503"), "{warnings:?}");
        }
    }
    // Operators see it, in text, status and metrics.
    let local = verifier(Made { keeper: Some(Arc::clone(&keeper)), ..Made::default() }, &hand);
    let service = legation_verifier::service::Service::new(local.clone(), Some(Arc::clone(&keeper)), &[], 8);
    let base = crate::world::url(crate::world::listen(service.router()).await);
    let status = crate::world::remote(&local, std::slice::from_ref(&base)).status().await.unwrap();
    assert_eq!((status.warnings.len(), status.collateral[0].state), (1, ItemState::Expired));
    let http = legation_verifier::http::Http::new(
        &Authorities::System,
        legation_verifier::http::Tls::Ours,
        std::slice::from_ref(&base),
        std::time::Duration::from_secs(5),
    )
    .unwrap();
    let text = async |path: &str| {
        let reply = http.send(hyper::Method::GET, &format!("{base}{path}"), &[], bytes::Bytes::new(), 1 << 20).await;
        String::from_utf8(reply.unwrap().body.to_vec()).unwrap()
    };
    assert!(text("/readyz").await.contains("warning: collateral dev/laptop/crl is past its next update"));
    assert!(text("/metrics").await.contains("legation_collateral_stale{name=\"dev/laptop/crl\"} 1\n"));
    // The vendor comes back.
    vendor.say("/dev/laptop/crl", Say::body(list(hand.now().minus(10), 28 * DAY)));
    hand.forward(3601);
    assert_eq!(keeper.round().await.got, 1);
    assert_eq!((state(&keeper, LIST), keeper.warnings().len()), (ItemState::Fresh, 0));
    assert!(text("/metrics").await.contains("legation_collateral_stale{name=\"dev/laptop/crl\"} 0\n"));
}

#[tokio::test]
async fn nothing_older_broken_or_of_another_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let vendor = Vendor::default();
    let good = list(NOW.minus(100), 30 * DAY);
    vendor.say("/dev/laptop/crl", Say::body(good.clone()));
    let base = vendor.clone().start().await;
    let keeper = keeper(config(dir.path(), vec![source(SourceKind::Mirror, &[&base])], &[LIST]), &hand);
    keeper.round().await;
    let mut flipped = list(NOW.minus(50), 30 * DAY);
    let middle = flipped.len() - 5;
    flipped[middle] ^= 1;
    let stranger = legation_attest::dev::DevelopmentRoot::generate("laptop", NOW).unwrap();
    let name: CollateralName = LIST.parse().unwrap();
    for (bytes, check) in [
        (list(NOW.minus(101), 60 * DAY), "collateral.older"),
        (flipped, "collateral.signature"),
        (stranger.revocation_list(&[], NOW, 30 * DAY).unwrap(), "collateral.signature"),
        (list(NOW.plus(301), 30 * DAY), "collateral.future"),
        (b"<html>".to_vec(), "collateral.form"),
        (good[..good.len() - 1].to_vec(), "collateral.form"),
        (Vec::new(), "collateral.size"),
    ] {
        assert_eq!(check_of(keeper.import(&name, bytes.clone(), "by hand").await), check);
        vendor.say("/dev/laptop/crl", Say::body(bytes));
        let refusal = keeper.fetch(&name).await.unwrap_err();
        assert!(refusal.check == "collateral.unavailable" && refusal.got.contains(check), "{check}: {refusal}");
        assert_eq!(on_shelf(&keeper, LIST).as_ref(), Some(&good));
    }
    // A list of a development root is none of AMD's.
    let amd: CollateralName = "amd/milan/vcek/crl".parse().unwrap();
    assert_eq!(check_of(keeper.import(&amd, good.clone(), "by hand").await), "collateral.signature");
    // Larger than any item: cut off while it is read.
    vendor.say("/dev/laptop/crl", Say::body(vec![0; (1 << 20) + 1]));
    assert_eq!(check_of(keeper.fetch(&name).await), "collateral.unavailable");
    // A younger one gets in.
    let younger = list(NOW.minus(99), 30 * DAY);
    keeper.import(&name, younger.clone(), "by hand").await.unwrap();
    assert_eq!(on_shelf(&keeper, LIST), Some(younger));
}

#[tokio::test]
async fn amds_service_is_asked_as_amd_says() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let vendor = Vendor::default();
    let base = vendor.clone().start().await;
    let sources = vec![source(SourceKind::Amd, &[&base])];
    let keeper = keeper(config(dir.path(), sources, &[]), &hand);
    let milan = vec![0xab; 64];
    let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
    for (name, line) in [
        (
            CollateralName::AmdList { product: Product::Milan, leaf: LeafKind::Chip },
            "GET /vcek/v1/Milan/crl".to_owned(),
        ),
        (
            CollateralName::AmdList { product: Product::Genoa, leaf: LeafKind::Provider },
            "GET /vlek/v1/Genoa/crl".to_owned(),
        ),
        (
            CollateralName::Vcek(Vcek { product: Product::Milan, hwid: milan.clone(), tcb }),
            format!("GET /vcek/v1/Milan/{}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219", encoding::hex(&milan)),
        ),
        (
            CollateralName::Vcek(Vcek {
                product: Product::Turin,
                hwid: vec![0xcd; 8],
                tcb: TcbVersion { fmc: Some(1), ..tcb },
            }),
            "GET /vcek/v1/Turin/cdcdcdcdcdcdcdcd?fmcSPL=01&blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219".to_owned(),
        ),
    ] {
        assert_eq!(check_of(keeper.fetch(&name).await), "collateral.unavailable");
        assert_eq!(vendor.lines().last(), Some(&line));
    }
    let before = vendor.asked().len();
    let intel: CollateralName = "intel/tdx/50806f000000/platform".parse().unwrap();
    assert_eq!(check_of(keeper.fetch(&intel).await), "collateral.unavailable");
    assert_eq!(vendor.asked().len(), before, "AMD is not asked about Intel's machines");
}

/// A published chip's certificate is taken under its own name and under no other.
#[tokio::test]
async fn a_chips_certificate_is_kept_under_the_name_of_its_chip() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence/snp/milan-v2");
    let (Ok(vcek), Ok(report)) = (std::fs::read(path.join("vcek.der")), std::fs::read(path.join("report.bin"))) else {
        eprintln!("SKIPPED: no published evidence beside the repository");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let keeper = keeper(config(dir.path(), Vec::new(), &[]), &hand);
    let tcb = TcbVersion { fmc: None, bootloader: 3, tee: 0, snp: 8, microcode: 0x73 };
    let milan = Vcek { product: Product::Milan, hwid: report[0x1a0..0x1e0].to_vec(), tcb };
    let name = CollateralName::Vcek(milan.clone());
    keeper.import(&name, vcek.clone(), "by hand").await.unwrap();
    assert!(keeper.shelf().get().under("amd/").next().is_none(), "judges read lists there");
    for other in [
        Vcek { hwid: vec![1; 64], ..milan.clone() },
        Vcek { tcb: TcbVersion { snp: 9, ..tcb }, ..milan.clone() },
        Vcek { product: Product::Genoa, ..milan.clone() },
    ] {
        let refusal = keeper.import(&CollateralName::Vcek(other), vcek.clone(), "by hand").await;
        assert_eq!(check_of(refusal), "collateral.subject");
    }
    let mut forged = vcek;
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(check_of(keeper.import(&name, forged, "by hand").await), "collateral.signature");
}

/// Published collateral and when it was current.
const INTEL: &str = "intel/tdx/b0c06f000000/platform";
const INTEL_NOW: UnixTime = UnixTime(1_751_328_000);

fn published(folder: &str) -> Option<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence").join(folder).join("collateral.json");
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(_) => {
            eprintln!("SKIPPED: no published collateral beside the repository");
            None
        }
    }
}

#[tokio::test]
async fn intels_service_is_asked_as_intel_says_and_its_answers_make_one_item() {
    let Some(published) = published("tdx/dcap-qvl") else { return };
    let text = |key: &str| published[key].as_str().unwrap().to_owned();
    let der = |key: &str| encoding::unhex(&text(key)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(INTEL_NOW);
    let vendor = Vendor::default();
    vendor
        .say(
            "/tdx/certification/v4/tcb?fmspc=B0C06F000000",
            Say::body(format!("{{\"tcbInfo\":{},\"signature\":\"{}\"}}", text("tcb_info"), text("tcb_info_signature")))
                .header("TCB-Info-Issuer-Chain", &percent(&text("tcb_info_issuer_chain"))),
        )
        .say(
            "/tdx/certification/v4/qe/identity",
            Say::body(format!(
                "{{\"enclaveIdentity\":{},\"signature\":\"{}\"}}",
                text("qe_identity"),
                text("qe_identity_signature")
            ))
            .header("SGX-Enclave-Identity-Issuer-Chain", &percent(&text("qe_identity_issuer_chain"))),
        )
        .say(
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            Say::body(der("pck_crl")).header("SGX-PCK-CRL-Issuer-Chain", &percent(&text("pck_crl_issuer_chain"))),
        )
        .say("/sgx/certification/v4/rootcacrl", Say::body(text("root_ca_crl")));
    let base = vendor.clone().start().await;
    let keeper = keeper(config(dir.path(), vec![source(SourceKind::Intel, &[&base])], &[INTEL]), &hand);
    let round = keeper.round().await;
    assert_eq!((round.got, round.failed), (1, 0), "{:?}", keeper.status());
    assert_eq!(
        vendor.lines(),
        [
            "GET /tdx/certification/v4/tcb?fmspc=B0C06F000000",
            "GET /tdx/certification/v4/qe/identity",
            "GET /sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            "GET /sgx/certification/v4/rootcacrl",
        ]
    );
    let item: Value = serde_json::from_slice(&on_shelf(&keeper, INTEL).unwrap()).unwrap();
    for (key, value) in item.as_object().unwrap() {
        assert_eq!(value, &published[key], "{key}");
    }
    let status = keeper.status();
    assert_eq!(status[0].next_update.unwrap().to_string(), "2025-07-19T10:00:35Z");
    assert_eq!(status[0].state, ItemState::Fresh);

    // A service without the root's list: it is asked for where Intel publishes it.
    let other = Vendor::default();
    other.say("/root.der", Say::body(der("root_ca_crl")));
    let root_list = Some(format!("{}/root.der", other.clone().start().await));
    vendor.say("/sgx/certification/v4/rootcacrl", Say::status(404));
    let dir = tempfile::tempdir().unwrap();
    let sources = vec![SourceConfig { root_list, ..source(SourceKind::Intel, &[&base]) }];
    let second = self::keeper(config(dir.path(), sources, &[INTEL]), &hand);
    assert_eq!(second.round().await.got, 1);
    assert_eq!((other.lines(), on_shelf(&second, INTEL)), (vec!["GET /root.der".to_owned()], on_shelf(&keeper, INTEL)));
    // A chain that is missing in the headers is no answer.
    vendor.say("/tdx/certification/v4/qe/identity", Say::body("{}"));
    assert_eq!(check_of(second.fetch(&INTEL.parse().unwrap()).await), "collateral.unavailable");
}

#[tokio::test]
async fn intels_collateral_is_taken_whole_signed_and_under_its_own_name() {
    let (Some(tdx), Some(sgx)) = (published("tdx/dcap-qvl"), published("sgx/dcap-qvl")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(INTEL_NOW);
    let keeper = keeper(config(dir.path(), Vec::new(), &[]), &hand);
    let import = async |name: &str, item: &Value| {
        check_of(keeper.import(&name.parse().unwrap(), serde_json::to_vec(item).unwrap(), "by hand").await)
    };
    const SGX: &str = "intel/sgx/00a067110000/processor";
    for (name, item, check) in [
        ("intel/tdx/50806f000000/platform", &tdx, "collateral.subject"),
        ("intel/sgx/b0c06f000000/platform", &tdx, "collateral.subject"),
        ("intel/tdx/b0c06f000000/processor", &tdx, "collateral.subject"),
        (INTEL, &sgx, "collateral.subject"),
        (SGX, &sgx, "ok"),
        (INTEL, &tdx, "ok"),
    ] {
        assert_eq!(import(name, item).await, check, "{name}");
    }
    // One character of every part.
    let same = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        let i = bytes.len() * at / 100;
        let i = (i..bytes.len()).find(|i| bytes[*i].is_ascii_digit()).unwrap();
        bytes[i] = if bytes[i] == b'0' { b'1' } else { b'0' };
        Value::String(String::from_utf8(bytes).unwrap())
    };
    for (key, value) in tdx.as_object().unwrap() {
        for at in [40, 70, 90] {
            let mut item = tdx.clone();
            item[key] = same(value.as_str().unwrap(), at);
            let check = import(INTEL, &item).await;
            // The root in a chain signs itself for nobody: its key is what is pinned.
            let in_the_roots_signature = key.ends_with("_chain") && check == "ok" && at == 90;
            assert!(check.starts_with("collateral.") || in_the_roots_signature, "{key} at {at}: {check}");
        }
        let mut item = tdx.clone();
        item.as_object_mut().unwrap().remove(key);
        assert_eq!(import(INTEL, &item).await, "collateral.form", "without {key}");
    }
    // Signed by Intel, and not about this.
    let mut mixed = tdx.clone();
    for key in ["pck_crl", "pck_crl_issuer_chain"] {
        mixed[key] = sgx[key].clone();
    }
    assert_eq!(import(INTEL, &mixed).await, "collateral.subject");
    mixed = tdx.clone();
    mixed["pck_crl"] = sgx["pck_crl"].clone();
    assert_eq!(import(INTEL, &mixed).await, "collateral.signature");
    mixed = tdx.clone();
    mixed["tcb_info_signature"] = tdx["qe_identity_signature"].clone();
    assert_eq!(import(INTEL, &mixed).await, "collateral.signature");
    // Before it was issued.
    hand.set(UnixTime(1_740_000_000));
    assert_eq!(import(INTEL, &tdx).await, "collateral.future");
}

#[tokio::test]
async fn what_evidence_asks_for_is_fetched_and_a_flood_of_names_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let vendor = Vendor::default();
    vendor.say("/dev/laptop/crl", Say::body(list(NOW.minus(100), 30 * DAY)));
    let base = vendor.clone().start().await;
    let keeper = keeper(config(dir.path(), vec![source(SourceKind::Mirror, &[&base])], &[]), &hand);
    assert_eq!(keeper.want("no name"), None);
    assert_eq!(keeper.want(LIST), Some(2));
    assert_eq!(keeper.round().await.got, 1);
    assert!(on_shelf(&keeper, LIST).is_some());
    for n in 0..WANTED_MAX * 2 {
        let _ = keeper.want(&format!("intel/tdx/{n:012x}/platform"));
    }
    assert_eq!(keeper.status().len(), WANTED_MAX + 1);
    // A few in each round: what is kept may come due meanwhile.
    let mut failed = 0;
    for rounds in 1.. {
        hand.forward(2);
        let round = keeper.round().await;
        assert!(round.got == 0 && round.failed <= 8 && rounds <= WANTED_MAX, "{round:?}");
        failed += round.failed;
        if failed >= WANTED_MAX {
            break;
        }
    }
    // Names that led nowhere make room for new ones; what is kept stays.
    assert!(keeper.want("intel/tdx/ffffffffffff/platform").is_some());
    assert_eq!(keeper.status().len(), WANTED_MAX + 1);
    assert_eq!(state(&keeper, LIST), ItemState::Fresh);
    // Without sources nobody is told to wait.
    let empty = tempfile::tempdir().unwrap();
    let nothing = self::keeper(config(empty.path(), Vec::new(), &[]), &hand);
    assert_eq!(nothing.want(LIST), None);
}

#[tokio::test]
async fn a_folder_is_a_source() {
    let (dir, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hand = Hand::at(NOW);
    let keeper = keeper(config(dir.path(), vec![files(from.path())], &[LIST]), &hand);
    assert_eq!(keeper.round().await.failed, 1);
    std::fs::create_dir_all(from.path().join("dev/laptop")).unwrap();
    std::fs::write(from.path().join(LIST), list(NOW.minus(100), 30 * DAY)).unwrap();
    hand.forward(60);
    assert_eq!(keeper.round().await.got, 1);
    assert!(keeper.status()[0].source.as_ref().unwrap().starts_with("files "));
}

/// An authority that certifies TPMs, or one below it.
struct Maker {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
    der: Vec<u8>,
}

impl Maker {
    fn new(name: &str, above: Option<&Self>) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let key = rcgen::KeyPair::generate().unwrap();
        let made = match above {
            None => params.self_signed(&key),
            Some(above) => params.signed_by(&key, &rcgen::Issuer::from_params(&above.params, &above.key)),
        };
        Self { der: made.unwrap().der().to_vec(), params, key }
    }

    fn list(&self, from: UnixTime, seconds: u64) -> Vec<u8> {
        let moment = |at: UnixTime| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(at.0);
        let list = rcgen::CertificateRevocationListParams {
            this_update: moment(from),
            next_update: moment(from.plus(seconds)),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&rcgen::Issuer::from_params(&self.params, &self.key)).unwrap().der().to_vec()
    }
}

#[tokio::test]
async fn lists_of_tpm_roots_come_by_hand_from_a_folder_and_from_a_mirror_signed_by_the_root_they_name() {
    let maker = Maker::new("maker", None);
    let (middle, strange) = (Maker::new("middle", Some(&maker)), Maker::new("maker", None));
    let emulators = Maker::new("emulators", None);
    let anchor = |name: &str, maker: &Maker, development| TpmAnchor {
        name: name.to_owned(),
        development,
        root: maker.der.clone(),
        key: TpmKey::Rsa2048,
        attests: true,
        google: false,
    };
    let tpm = vec![anchor("maker", &maker, false), anchor("bench", &emulators, true)];
    let roots = legation_attest::Roots::new(&Anchors { tpm, ..anchors() }).unwrap();
    let hand = Hand::at(NOW);
    let (vendor, folder, dir) = (Vendor::default(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let base = vendor.clone().start().await;
    let sources = vec![files(folder.path()), source(SourceKind::Mirror, &[&base])];
    let list = "tpm/maker/crl";
    let keeper = Keeper::open(config(dir.path(), sources, &[list]), Checker::new(roots), hand.clock()).unwrap();

    let name: CollateralName = list.parse().unwrap();
    let bench: CollateralName = "tpm/bench/crl".parse().unwrap();
    let nobody: CollateralName = "tpm/nobody/crl".parse().unwrap();
    let issued = NOW.minus(100);
    for (what, name, bytes, check) in [
        ("a stranger of the same name", &name, strange.list(issued, DAY), "collateral.signature"),
        ("an authority below", &name, middle.list(issued, DAY), "collateral.signature"),
        ("a root that is not in the file", &nobody, strange.list(issued, DAY), "collateral.signature"),
        ("another root", &name, emulators.list(issued, DAY), "collateral.subject"),
        ("another root's name", &nobody, maker.list(issued, DAY), "collateral.subject"),
        ("no list", &name, b"<html>".to_vec(), "collateral.form"),
        ("not yet", &name, maker.list(NOW.plus(301), DAY), "collateral.future"),
    ] {
        assert_eq!(check_of(keeper.import(name, bytes, "by hand").await), check, "{what}");
    }
    let told = keeper.import(&nobody, strange.list(issued, DAY), "by hand").await.unwrap_err();
    assert!(told.fix.contains("with its certificate under `tpm` in the anchor file"), "{told}");
    assert_eq!(on_shelf(&keeper, list), None);

    keeper.import(&bench, emulators.list(issued, DAY), "by hand").await.unwrap();
    assert!(on_shelf(&keeper, "tpm/bench/crl").is_some());
    let ours = maker.list(issued, 30 * DAY);
    vendor.say("/tpm/maker/crl", Say::body(ours.clone()));
    assert_eq!(keeper.round().await.got, 1, "the folder has none, the mirror has");
    assert_eq!(on_shelf(&keeper, list), Some(ours));
    let younger = maker.list(NOW, 30 * DAY);
    std::fs::create_dir_all(folder.path().join("tpm/maker")).unwrap();
    std::fs::write(folder.path().join(list), &younger).unwrap();
    hand.forward(DAY);
    assert_eq!(keeper.round().await.got, 1);
    assert_eq!(on_shelf(&keeper, list), Some(younger));
    let old = maker.list(NOW.minus(200), 60 * DAY);
    assert_eq!(check_of(keeper.import(&name, old, "by hand").await), "collateral.older");
}

#[tokio::test]
async fn missing_collateral_is_refused_with_when_to_try_again() {
    /// Judges nothing: whatever comes lacks an item.
    struct Lacking;
    impl legation_core::claims::EvidenceJudge for Lacking {
        fn judge(
            &self,
            _: &legation_core::claims::Evidence,
            _: &legation_core::claims::Shelf,
            _: UnixTime,
        ) -> Result<legation_core::claims::Judged, legation_core::Rejection> {
            Err(legation_core::Rejection::new("collateral.missing", "collateral of the platform")
                .expected(INTEL)
                .got("none"))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let sources = vec![source(SourceKind::Mirror, &["http://127.0.0.1:9"])];
    let keeper = Arc::new(keeper(config(dir.path(), sources, &[]), &hand));
    let parts = crate::world::parts(Made { keeper: Some(Arc::clone(&keeper)), ..Made::default() }, &hand);
    let local = legation_verifier::LocalVerifier::new(legation_verifier::Parts { judge: Arc::new(Lacking), ..parts });
    let challenge = local.challenge().await.unwrap();
    let refusal = local.verify(answer(&[challenge]), vec![challenge]).await.unwrap_err();
    assert_eq!(
        (refusal.check.as_str(), refusal.fix.as_str()),
        ("collateral.missing", "being fetched: try again in 2 s")
    );
    assert_eq!(state(&keeper, INTEL), ItemState::Missing);
}

#[tokio::test]
async fn a_source_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOW);
    let open = |source: SourceConfig, keep: &[&str]| {
        check_of(Keeper::open(config(dir.path(), vec![source], keep), Checker::new(roots()), hand.clock()))
    };
    let both = SourceConfig { dir: Some("x".into()), ..source(SourceKind::Mirror, &["https://m.example"]) };
    let none = SourceConfig { dir: None, ..files(Path::new("x")) };
    assert_eq!(open(both, &[]), "collateral.source");
    assert_eq!(open(none, &[]), "collateral.source");
    assert_eq!(open(source(SourceKind::Mirror, &[]), &[]), "collateral.source");
    assert_eq!(open(source(SourceKind::Mirror, &["http://mirror.example"]), &[]), "http.url");
    assert_eq!(open(files(Path::new("x")), &["no name"]), "collateral.name");
    assert_eq!(open(files(Path::new("x")), &[LIST]), "ok");
}
