//! Identity keys: RFC 8032, RFC 8410, and what other tools make of the files.

use std::{fs, path::Path, process::Command};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use legation_core::{Signer, encoding};
use legation_keys::{IdentityKey, IdentityKeyError, PEM_MAX};

use crate::{Counter, Script};

/// RFC 8032 section 7.1, TEST 1.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const SIGNATURE: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

fn key() -> IdentityKey {
    IdentityKey::from_seed(encoding::unhex_array(SEED).unwrap())
}

#[test]
fn rfc_8032_test_1() {
    let key = key();
    assert_eq!(encoding::hex(key.public_key().as_bytes()), PUBLIC);
    assert_eq!(encoding::hex(&key.sign(b"").0), SIGNATURE);
    assert_eq!(key.public_key().verify(b"", &key.sign(b"")), Ok(()));
    assert!(key.public_key().verify(b"x", &key.sign(b"")).is_err());
}

#[test]
fn generated_key_is_its_entropy() {
    let key = IdentityKey::generate(&mut Script(encoding::unhex(SEED).unwrap()));
    assert_eq!(encoding::hex(key.public_key().as_bytes()), PUBLIC);
    let mut entropy = Counter::new(1);
    let (a, b) = (IdentityKey::generate(&mut entropy), IdentityKey::generate(&mut entropy));
    assert_ne!(a.public_key(), b.public_key());
}

#[test]
fn pkcs8_is_read_by_aws_lc_and_read_back() {
    let key = key();
    let der = key.pkcs8();
    assert_eq!(der.len(), 48);
    let theirs = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap();
    assert_eq!(encoding::hex(theirs.public_key().as_ref()), PUBLIC);
    assert_eq!(theirs.to_pkcs8v1().unwrap().as_ref(), &der[..], "aws-lc writes the same bytes");
    assert_eq!(IdentityKey::from_pkcs8(&der).unwrap().public_key(), key.public_key());
    let version_2 = theirs.to_pkcs8().unwrap();
    assert_eq!(IdentityKey::from_pkcs8(version_2.as_ref()).unwrap().public_key(), key.public_key());
}

#[test]
fn damaged_pkcs8_is_refused() {
    let theirs = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key().pkcs8()).unwrap();
    for der in [theirs.to_pkcs8v1().unwrap(), theirs.to_pkcs8().unwrap()] {
        let der = der.as_ref();
        for cut in 0..der.len() {
            assert_eq!(IdentityKey::from_pkcs8(&der[..cut]).unwrap_err(), IdentityKeyError::Pkcs8, "cut at {cut}");
        }
        assert_eq!(IdentityKey::from_pkcs8(&[der, &[0]].concat()).unwrap_err(), IdentityKeyError::Pkcs8);
        for at in (0..16).chain(48..der.len().min(51)) {
            let mut bad = der.to_vec();
            bad[at] ^= 0x80;
            assert_eq!(IdentityKey::from_pkcs8(&bad).unwrap_err(), IdentityKeyError::Pkcs8, "byte {at}");
        }
    }
    let mut other = theirs.to_pkcs8().unwrap().as_ref().to_vec();
    other[60] ^= 1;
    assert_eq!(IdentityKey::from_pkcs8(&other).unwrap_err(), IdentityKeyError::OtherPublicKey);
}

#[test]
fn pem_files() {
    let pem = key().to_pem();
    let body = pem.lines().nth(1).unwrap();
    let with = |begin: &str, body: &str, end: &str| format!("-----BEGIN {begin}-----\n{body}\n-----END {end}-----\n");
    let label = "PRIVATE KEY";
    let ok = [
        pem.to_string(),
        pem.replace('\n', "\r\n"),
        format!("\n  {}\n\n", &**pem),
        with(label, &format!("{}\n{}", &body[..20], &body[20..]), label),
    ];
    for text in ok {
        assert_eq!(IdentityKey::from_pem(&text).unwrap().public_key(), key().public_key(), "{text}");
    }
    type Expected = fn(&IdentityKeyError) -> bool;
    let bad: [(String, Expected); 10] = [
        (String::new(), |e| *e == IdentityKeyError::Pem),
        (with("EC PRIVATE KEY", body, "EC PRIVATE KEY"), |e| *e == IdentityKeyError::Pem),
        (with(label, body, "PUBLIC KEY"), |e| *e == IdentityKeyError::Pem),
        (format!("{0}{0}", &**pem), |e| *e == IdentityKeyError::Pem),
        (format!("{}text after", &**pem), |e| *e == IdentityKeyError::Pem),
        ("-----BEGIN PRIVATE KEY-----".into(), |e| *e == IdentityKeyError::Pem),
        (with(label, &body[1..], label), |e| matches!(e, IdentityKeyError::Encoding(_))),
        (with(label, &body.replace('M', "!"), label), |e| matches!(e, IdentityKeyError::Encoding(_))),
        (with(label, "AAAA", label), |e| *e == IdentityKeyError::Pkcs8),
        (with(label, &"A".repeat(PEM_MAX), label), |e| *e == IdentityKeyError::TooLong),
    ];
    for (text, expected) in bad {
        let error = IdentityKey::from_pem(&text).unwrap_err();
        assert!(expected(&error), "{text}: {error}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", key());
    assert_eq!(shown, format!("IdentityKey({}, private)", key().public_key().id().short()));
}

fn openssl(dir: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("openssl").args(args).current_dir(dir).output().ok()?;
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped check must be seen")]
fn openssl_reads_the_key_and_verifies_its_signature() {
    let dir = tempfile::tempdir().unwrap();
    let Some(version) = openssl(dir.path(), &["version"]) else {
        eprintln!("SKIPPED: no openssl command, so nobody else read our key file");
        return;
    };
    let key = key();
    fs::write(dir.path().join("key.pem"), key.to_pem().as_bytes()).unwrap();
    fs::write(dir.path().join("message"), b"attested").unwrap();
    fs::write(dir.path().join("signature"), key.sign(b"attested").0).unwrap();

    openssl(dir.path(), &["pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "public.der"]);
    assert_eq!(fs::read(dir.path().join("public.der")).unwrap(), key.public_key().spki(), "{version}");
    openssl(dir.path(), &["pkey", "-in", "key.pem", "-out", "again.pem"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("again.pem")).unwrap(),
        *key.to_pem(),
        "openssl writes the same file"
    );
    let verify = ["pkeyutl", "-verify", "-inkey", "key.pem", "-rawin", "-in", "message", "-sigfile", "signature"];
    assert!(openssl(dir.path(), &verify).unwrap().contains("Successfully"));

    openssl(dir.path(), &["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"]);
    let theirs = IdentityKey::from_pem(&fs::read_to_string(dir.path().join("theirs.pem")).unwrap()).unwrap();
    openssl(dir.path(), &["pkey", "-in", "theirs.pem", "-pubout", "-outform", "DER", "-out", "theirs.der"]);
    assert_eq!(fs::read(dir.path().join("theirs.der")).unwrap(), theirs.public_key().spki());
}
