//! Chains that hold and chains that do not, under authorities made here.

use legation_core::{Digest, Rejection, UnixTime, claims::Anchor};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, RsaKeySize, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use super::*;

/// Midnight of 2026-01-01.
pub(crate) const NEW_YEAR: UnixTime = UnixTime(1_767_225_600);
pub(crate) const DAY: u64 = 86_400;

/// A certificate with its key.
pub(crate) struct Node {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
}

/// What a test certificate is: by default, one for signatures through the year 2026.
pub(crate) fn params(name: &str, from: UnixTime, until: UnixTime) -> CertificateParams {
    let moment = |at: UnixTime| date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(at.0);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (moment(from), moment(until));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Turns parameters into those of an authority.
pub(crate) fn authority(params: &mut CertificateParams, path_len: Option<u8>) {
    params.is_ca = IsCa::Ca(path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

pub(crate) fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    let is_rsa = [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_RSA_SHA384, &rcgen::PKCS_RSA_SHA512].contains(&algorithm);
    let made =
        if is_rsa { KeyPair::generate_rsa_for(algorithm, RsaKeySize::_2048) } else { KeyPair::generate_for(algorithm) };
    made.unwrap()
}

pub(crate) fn issue(params: CertificateParams, issuer: Option<&Node>, algorithm: &'static SignatureAlgorithm) -> Node {
    let key = key(algorithm);
    let certificate = match issuer {
        None => params.self_signed(&key).unwrap(),
        Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)).unwrap(),
    };
    Node { der: certificate.der().to_vec(), params, key }
}

const P384: &SignatureAlgorithm = &rcgen::PKCS_ECDSA_P384_SHA384;

const RULES: Rules = Rules {
    certificate: "test.certificate",
    root: "test.root",
    chain: "test.chain",
    dates: "test.dates",
    revocation: Some("test.crl"),
    understood: &[],
    purpose: None,
    signs: true,
    fix: "none",
};

fn year(name: &str) -> CertificateParams {
    params(name, NEW_YEAR, NEW_YEAR.plus(365 * DAY))
}

fn anchor() -> Anchor {
    Anchor::Development("test".to_owned())
}

/// Root, intermediate and leaf, each changed before it is issued.
fn three(change: impl Fn(usize, &mut CertificateParams)) -> [Node; 3] {
    let made = |index: usize, name: &str, is_authority: bool| {
        let mut params = year(name);
        if is_authority {
            authority(&mut params, None);
        }
        change(index, &mut params);
        params
    };
    let root = issue(made(0, "root", true), None, P384);
    let middle = issue(made(1, "middle", true), Some(&root), P384);
    let leaf = issue(made(2, "leaf", false), Some(&middle), P384);
    [root, middle, leaf]
}

fn judge(ders: &[&[u8]], root: &Node, at: UnixTime) -> Result<Arc<Chain>, Rejection> {
    judge_by(ders, root, at, &RULES, &[], 0)
}

fn judge_by(
    ders: &[&[u8]],
    root: &Node,
    at: UnixTime,
    rules: &Rules,
    crls: &[Crl],
    grace: u64,
) -> Result<Arc<Chain>, Rejection> {
    let roots = [Root::pinned(anchor(), Digest::of(&root.der))];
    chain(ders, &Trust { roots: &roots, crls, grace, rules }, &ChainCache::new(0), at)
}

/// The check that refuses; a refusal also says what would have passed and what to do.
pub(crate) fn outcome<T>(result: Result<T, Rejection>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(rejection) => {
            assert!(!rejection.fix.is_empty() && !rejection.expected.is_empty(), "{rejection}");
            rejection.check
        }
    }
}

#[test]
fn chains_of_every_algorithm_hold_and_a_changed_signature_does_not() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        P384,
        &rcgen::PKCS_ECDSA_P521_SHA256,
        &rcgen::PKCS_ECDSA_P521_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_RSA_SHA384,
        &rcgen::PKCS_RSA_SHA512,
    ] {
        let mut ca = year("root");
        authority(&mut ca, Some(0));
        let root = issue(ca, None, algorithm);
        let leaf = issue(year("leaf"), Some(&root), P384);
        let held = judge(&[&leaf.der, &root.der], &root, NEW_YEAR).unwrap();
        assert_eq!((held.leaf().common_name.as_deref(), held.anchor()), (Some("leaf"), &anchor()));
        assert_eq!(held.keys().len(), 2);
        assert_eq!(held.until(), NEW_YEAR.plus(365 * DAY));
        let mut changed = leaf.der.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(outcome(judge(&[&changed, &root.der], &root, NEW_YEAR)), "test.chain", "{algorithm:?}");
    }
}

#[test]
fn pss_signatures_hold() {
    let root = crate::dev::DevelopmentRoot::generate("x509", NEW_YEAR).unwrap();
    let ark = Certificate::parse("test", "root", root.ark()).unwrap();
    assert_eq!(ark.key().kind(), "RSA");
    assert!(ark.signed_by(&ark));
    let mut changed = root.ark().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert!(!Certificate::parse("test", "root", &changed).unwrap().signed_by(&ark));
}

#[test]
fn a_key_verifies_nothing_of_another_family() {
    let node = issue(year("leaf"), None, P384);
    let certificate = Certificate::parse("test", "leaf", &node.der).unwrap();
    for algorithm in [
        Algorithm::Pkcs1(Hash::Sha256),
        Algorithm::Pss(Hash::Sha384),
        Algorithm::Ed25519,
        Algorithm::Ecdsa(Hash::Sha256),
    ] {
        assert!(!certificate.key().verifies(algorithm, b"", &[0; 96]), "{algorithm:?}");
    }
}

#[test]
fn a_root_may_come_or_stay_away_when_its_certificate_is_at_hand() {
    let [root, middle, leaf] = three(|_, _| ());
    let other = three(|_, _| ());
    let given = |node: &Node| [Root::given(anchor(), Certificate::parse("test", "root", &node.der).unwrap())];
    let whole = [leaf.der.as_slice(), &middle.der, &root.der];
    for (ders, roots, expected) in [
        (&whole[..], given(&root), "ok"),
        (&whole[..2], given(&root), "ok"),
        (&whole[..2], [Root::pinned(anchor(), Digest::of(&root.der))], "test.root"),
        // The same name, another key.
        (&whole[..2], given(&other[0]), "test.chain"),
        (&whole[..], given(&other[0]), "test.chain"),
        (&whole[..1], given(&root), "test.root"),
        (&whole[..1], given(&middle), "ok"),
    ] {
        let trust = Trust { roots: &roots, crls: &[], grace: 0, rules: &RULES };
        let result = chain(ders, &trust, &ChainCache::new(0), NEW_YEAR);
        assert_eq!(outcome(result), expected, "{} certificates under {roots:?}", ders.len());
    }
    let parsed: Vec<_> = whole.iter().map(|der| Certificate::parse("test", "it", der).unwrap()).collect();
    let roots = given(&root);
    assert_eq!(verify(&parsed, &roots, &RULES, NEW_YEAR).unwrap().fingerprint(), Digest::of(&root.der));
    assert_eq!(outcome(verify(&parsed[1..], &roots, &RULES, NEW_YEAR)), "test.chain", "an authority is no leaf");
    assert_eq!(outcome(verify(&[], &roots, &RULES, NEW_YEAR)), "test.certificate");
    assert_eq!(outcome(verify(&parsed, &[], &RULES, NEW_YEAR)), "test.root");
}

#[test]
fn chains_that_are_put_together_wrongly_are_refused() {
    let [root, middle, leaf] = three(|_, _| ());
    let [_, strange, lost] = three(|_, _| ());
    let behind = [leaf.der.as_slice(), &[0]].concat();
    let many = vec![leaf.der.as_slice(); LINKS_MAX + 1];
    let (r, m, l) = (root.der.as_slice(), middle.der.as_slice(), leaf.der.as_slice());
    let table: &[(&[&[u8]], &str)] = &[
        (&[l, m, r], "ok"),
        (&[], "test.certificate"),
        (&many, "test.certificate"),
        (&[&behind, m, r], "test.certificate"),
        (&[&l[..l.len() - 1], m, r], "test.certificate"),
        (&[&[], m, r], "test.certificate"),
        (&[l, r], "test.chain"),
        (&[l, m], "test.root"),
        (&[m, l, r], "test.chain"),
        (&[l, m, r, r], "test.chain"),
        (&[l, m, m, r], "test.chain"),
        (&[l, l, m, r], "test.chain"),
        (&[r, m, l], "test.root"),
        (&[r], "test.chain"),
        (&[l, &strange.der, r], "test.chain"),
        (&[&lost.der, m, r], "test.chain"),
    ];
    for (index, (ders, expected)) in table.iter().enumerate() {
        assert_eq!(outcome(judge(ders, &root, NEW_YEAR)), *expected, "row {index}");
    }
}

#[test]
fn authorities_must_be_authorities_and_leaves_must_not() {
    let unknown = |critical: bool| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![4, 0]);
        extension.set_criticality(critical);
        extension
    };
    type Change = fn(usize, &mut CertificateParams);
    let table: &[(&str, Change, &str)] = &[
        ("nothing", |_, _| (), "ok"),
        (
            "no authority in the middle",
            |i, p| {
                if i == 1 {
                    p.is_ca = IsCa::ExplicitNoCa
                }
            },
            "test.chain",
        ),
        (
            "no constraints in the middle",
            |i, p| {
                if i == 1 {
                    p.is_ca = IsCa::NoCa
                }
            },
            "test.chain",
        ),
        (
            "no usage in the middle",
            |i, p| {
                if i == 1 {
                    p.key_usages.clear()
                }
            },
            "test.chain",
        ),
        (
            "lists alone",
            |i, p| {
                if i == 1 {
                    p.key_usages = vec![KeyUsagePurpose::CrlSign]
                }
            },
            "test.chain",
        ),
        (
            "root without reach",
            |i, p| {
                if i == 0 {
                    authority(p, Some(0))
                }
            },
            "test.chain",
        ),
        (
            "root with reach",
            |i, p| {
                if i == 0 {
                    authority(p, Some(1))
                }
            },
            "ok",
        ),
        (
            "middle with reach for a leaf",
            |i, p| {
                if i == 1 {
                    authority(p, Some(0))
                }
            },
            "ok",
        ),
        (
            "leaf that certifies",
            |i, p| {
                if i == 2 {
                    authority(p, None)
                }
            },
            "test.chain",
        ),
        (
            "leaf with certifying key",
            |i, p| {
                if i == 2 {
                    p.key_usages.push(KeyUsagePurpose::KeyCertSign)
                }
            },
            "test.chain",
        ),
        (
            "leaf for encryption",
            |i, p| {
                if i == 2 {
                    p.key_usages = vec![KeyUsagePurpose::KeyAgreement]
                }
            },
            "test.chain",
        ),
        (
            "leaf without usage",
            |i, p| {
                if i == 2 {
                    p.key_usages.clear()
                }
            },
            "test.chain",
        ),
    ];
    for (what, change, expected) in table {
        let [root, middle, leaf] = three(change);
        assert_eq!(outcome(judge(&[&leaf.der, &middle.der, &root.der], &root, NEW_YEAR)), *expected, "{what}");
    }
    for (critical, place, expected) in [(true, 2, "test.chain"), (true, 1, "test.chain"), (false, 2, "ok")] {
        let [root, middle, leaf] = three(|i, p| {
            if i == place {
                p.custom_extensions.push(unknown(critical))
            }
        });
        let ders = [leaf.der.as_slice(), &middle.der, &root.der];
        assert_eq!(outcome(judge(&ders, &root, NEW_YEAR)), expected, "critical {critical} in {place}");
        // 1.3.6.1.4.1.99999.1
        const ID: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x86, 0x8d, 0x1f, 0x01];
        let understood = Rules { understood: &[ID], ..RULES };
        assert_eq!(outcome(judge_by(&ders, &root, NEW_YEAR, &understood, &[], 0)), "ok", "understood by name");
    }
    let twice = three(|i, p| {
        if i == 2 {
            p.custom_extensions = vec![unknown(false), unknown(false)];
        }
    });
    let [root, middle, leaf] = twice;
    assert_eq!(outcome(judge(&[&leaf.der, &middle.der, &root.der], &root, NEW_YEAR)), "test.certificate");
}

#[test]
fn a_purpose_must_be_named() {
    // id-kp-serverAuth, 1.3.6.1.5.5.7.3.1, and tcg-kp-EKCertificate, 2.23.133.8.1.
    const SERVER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
    const EK: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
    for (purposes, wanted, expected) in [
        (vec![ExtendedKeyUsagePurpose::ServerAuth], SERVER, "ok"),
        (vec![ExtendedKeyUsagePurpose::ServerAuth], EK, "test.chain"),
        (vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])], EK, "ok"),
        (vec![ExtendedKeyUsagePurpose::Any], EK, "test.chain"),
        (vec![], EK, "test.chain"),
    ] {
        let [root, middle, leaf] = three(|i, p| {
            if i == 2 {
                p.extended_key_usages = purposes.clone()
            }
        });
        let rules = Rules { purpose: Some(wanted), ..RULES };
        let result = judge_by(&[&leaf.der, &middle.der, &root.der], &root, NEW_YEAR, &rules, &[], 0);
        assert_eq!(outcome(result), expected, "{purposes:?}");
    }
}

#[test]
fn every_certificate_is_held_to_its_dates() {
    let (early, late) = (NEW_YEAR.plus(10 * DAY), NEW_YEAR.plus(20 * DAY));
    for place in 0..3 {
        let [root, middle, leaf] = three(|i, p| {
            if i == place {
                let narrow = params("unused", early, late);
                (p.not_before, p.not_after) = (narrow.not_before, narrow.not_after);
            }
        });
        for (at, expected) in [
            (early.minus(1), "test.dates"),
            (early, "ok"),
            (late, "ok"),
            (late.plus(1), "test.dates"),
            (UnixTime(0), "test.dates"),
            (UnixTime(u64::MAX), "test.dates"),
        ] {
            let result = judge(&[&leaf.der, &middle.der, &root.der], &root, at);
            assert_eq!(outcome(result), expected, "certificate {place} at {at}");
        }
    }
}

#[test]
fn no_byte_of_a_chain_can_change() {
    let [root, middle, leaf] = three(|_, _| ());
    let ders = [leaf.der, middle.der, root.der.clone()];
    for place in 0..3 {
        for at in 0..ders[place].len() {
            let mut changed = ders.clone();
            changed[place][at] ^= 1 << (at % 8);
            let slices: Vec<_> = changed.iter().map(Vec::as_slice).collect();
            assert!(judge(&slices, &root, NEW_YEAR).is_err(), "byte {at} of certificate {place}");
        }
    }
}

/// What a test list says.
#[derive(Clone, Copy, Default)]
pub(crate) struct List {
    pub(crate) revoke: Option<u64>,
    pub(crate) scope: Option<CrlScope>,
    pub(crate) point: bool,
}

/// A list of `issuer` from day 1 to day 8.
pub(crate) fn list(issuer: &Node, what: List) -> Vec<u8> {
    let dates = params("unused", NEW_YEAR.plus(DAY), NEW_YEAR.plus(8 * DAY));
    let revoked = what.revoke.map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: dates.not_before,
        reason_code: None,
        invalidity_date: None,
    });
    let point = CrlDistributionPoint { uris: vec!["http://example.invalid/list".to_owned()] };
    let list = CertificateRevocationListParams {
        this_update: dates.not_before,
        next_update: dates.not_after,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: (what.point || what.scope.is_some())
            .then_some(CrlIssuingDistributionPoint { distribution_point: point, scope: what.scope }),
        revoked_certs: revoked.into_iter().collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&Issuer::from_params(&issuer.params, &issuer.key)).unwrap().der().to_vec()
}

#[test]
fn lists_revoke_age_and_must_be_their_issuers() {
    let serials = |i: usize, p: &mut CertificateParams| p.serial_number = Some(SerialNumber::from(0x80 + i as u64));
    let [root, middle, leaf] = three(serials);
    let [_, strange, _] = three(serials);
    let ders = [leaf.der.as_slice(), &middle.der, &root.der];
    let day = |n: u64| NEW_YEAR.plus(n * DAY);
    let none = List::default();
    let revoking = |serial| List { revoke: Some(serial), ..none };
    let table: &[(&str, &Node, List, UnixTime, u64, &str)] = &[
        ("nothing revoked", &middle, none, day(2), 0, "ok"),
        ("leaf revoked", &middle, revoking(0x82), day(2), 0, "test.crl"),
        ("another leaf revoked", &middle, revoking(0x83), day(2), 0, "ok"),
        ("leaf's number revoked by the root", &root, revoking(0x82), day(2), 0, "ok"),
        ("middle revoked", &root, revoking(0x81), day(2), 0, "test.crl"),
        ("before it begins", &middle, none, day(1).minus(1), 0, "test.crl"),
        ("at its end", &middle, none, day(8), 0, "ok"),
        ("past its end", &middle, none, day(8).plus(1), 0, "test.crl"),
        ("past its end, inside the grace", &middle, none, day(8).plus(10), 10, "ok"),
        ("past the grace", &middle, none, day(8).plus(11), 10, "test.crl"),
        ("revoked, inside the grace", &middle, revoking(0x82), day(8).plus(10), 10, "test.crl"),
        ("signed by another of the name", &strange, none, day(2), 0, "test.crl"),
        ("with a place to fetch it", &middle, List { point: true, ..none }, day(2), 0, "ok"),
    ];
    for (what, issuer, content, at, grace, expected) in table {
        let crl = Crl::parse("test.crl", &list(issuer, *content)).unwrap();
        let result = judge_by(&ders, &root, *at, &RULES, std::slice::from_ref(&crl), *grace);
        let stale = (*at > day(8)).then_some(day(8));
        if let Ok(chain) = &result {
            assert_eq!(chain.stale_since(), stale, "{what}");
            assert!(chain.until() <= day(8), "{what}: a verdict ends with its list");
            assert!(!chain.revocation_checked(), "{what}: of one authority, there is another");
        }
        assert_eq!(outcome(result), *expected, "{what}");
        // A kind without lists does not look at them.
        let without = Rules { revocation: None, ..RULES };
        assert_eq!(outcome(judge_by(&ders, &root, *at, &without, &[crl], *grace)), "ok", "{what}");
    }
    let both = [&root, &middle].map(|issuer| Crl::parse("test.crl", &list(issuer, none)).unwrap());
    for (crls, rules, checked) in [
        (&both[..], RULES, true),
        (&both[..1], RULES, false),
        (&both[1..], RULES, false),
        (&[], RULES, false),
        (&both[..], Rules { revocation: None, ..RULES }, false),
    ] {
        let chain = judge_by(&ders, &root, day(2), &rules, crls, 0).unwrap();
        assert_eq!(chain.revocation_checked(), checked, "{} lists", crls.len());
    }
    for scope in [CrlScope::UserCertsOnly, CrlScope::CaCertsOnly] {
        let partial = list(&middle, List { scope: Some(scope), ..none });
        assert_eq!(outcome(Crl::parse("test.crl", &partial)), "test.crl", "a partial list");
    }
    let whole = list(&middle, none);
    for bytes in [&[][..], &whole[1..], &whole[..whole.len() - 1], &[whole.as_slice(), &[0]].concat(), &leaf.der] {
        assert_eq!(outcome(Crl::parse("test.crl", bytes)), "test.crl");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(crl) = Crl::parse("test.crl", &changed) else { continue };
        let issuer = Certificate::parse("test", "middle", &middle.der).unwrap();
        assert!(crl.verify("test.crl", &issuer, day(2), 0).is_err(), "byte {at} of the list");
    }
}

#[test]
fn the_cache_keeps_a_chain_inside_its_dates_and_for_what_it_was_verified_with() {
    let [root, middle, leaf] = three(|_, _| ());
    let ders = [leaf.der.as_slice(), &middle.der, &root.der];
    let roots = [Root::pinned(anchor(), Digest::of(&root.der))];
    let cache = ChainCache::default();
    let ask = |roots: &[Root], crls: &[Crl], rules: &Rules, at: UnixTime| {
        let mut trail = Vec::new();
        let trust = Trust { roots, crls, grace: 0, rules };
        let result = chain_on(&ders, &trust, &cache, at, &mut |check| trail.push(check));
        (result, trail)
    };
    let (first, cold) = ask(&roots, &[], &RULES, NEW_YEAR);
    let (second, warm) = ask(&roots, &[], &RULES, NEW_YEAR.plus(DAY));
    assert!(Arc::ptr_eq(&first.unwrap(), &second.unwrap()), "remembered");
    assert_eq!(cold, ["test.certificate", "test.root", "test.chain", "test.dates", "test.crl"]);
    assert_eq!(warm, cold, "the same checks are told");
    assert_eq!(outcome(ask(&roots, &[], &RULES, NEW_YEAR.minus(1)).0), "test.dates");
    assert_eq!(outcome(ask(&roots, &[], &RULES, NEW_YEAR.plus(366 * DAY)).0), "test.dates");
    assert_eq!(outcome(ask(&[], &[], &RULES, NEW_YEAR).0), "test.root");
    let production = [Root::pinned(Anchor::Production("test".to_owned()), Digest::of(&root.der))];
    let other = ask(&production, &[], &RULES, NEW_YEAR).0.unwrap();
    assert!(!other.anchor().is_development(), "one anchor's verdict is not another's");
    let serial = Certificate::parse("test", "leaf", &leaf.der).unwrap().serial;
    let revoke = serial.iter().fold(0, |n: u64, b| n.wrapping_shl(8) | u64::from(*b));
    let crl = Crl::parse("test.crl", &list(&middle, List { revoke: Some(revoke), ..List::default() })).unwrap();
    // Serials drawn by the library are longer than the number given here: what counts is that it was verified anew.
    let before = cache.len();
    assert_eq!(outcome(ask(&roots, &[crl], &RULES, NEW_YEAR.plus(2 * DAY)).0), "ok");
    assert_eq!(cache.len(), before + 1, "a new list makes a new entry");

    let stale = [Crl::parse("test.crl", &list(&middle, List::default())).unwrap()];
    let due = NEW_YEAR.plus(8 * DAY);
    for (at, since) in [(due.plus(9), Some(due)), (due, None), (due.plus(1), Some(due))] {
        let trust = Trust { roots: &roots, crls: &stale, grace: 10, rules: &RULES };
        assert_eq!(chain(&ders, &trust, &cache, at).unwrap().stale_since(), since, "{at}");
    }

    let small = ChainCache::new(1);
    for node in [three(|_, _| ()), three(|_, _| ())] {
        let roots = [Root::pinned(anchor(), Digest::of(&node[0].der))];
        let trust = Trust { roots: &roots, crls: &[], grace: 0, rules: &RULES };
        chain(&[&node[2].der, &node[1].der, &node[0].der], &trust, &small, NEW_YEAR).unwrap();
        assert_eq!(small.len(), 1, "the oldest goes first");
    }
}
