//! Documents under a root made here: every field bent, every byte flipped, and never taken for AWS's.

use std::sync::OnceLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair},
};
use ciborium::Value;
use coset::{CborSerializable as _, CoseSign1Builder, HeaderBuilder, iana};
use legation_core::{Digest, Rejection, UnixTime, claims::Claims};
use rcgen::KeyUsagePurpose;

use super::*;
use crate::x509::tests::{DAY, NEW_YEAR, Node, authority, issue, outcome, params};

const MODULE: &str = "i-0123456789abcdef0-enc0198765432fedcba";
const P384: &rcgen::SignatureAlgorithm = &rcgen::PKCS_ECDSA_P384_SHA384;
/// The document is made ten minutes into the leaf's three hours.
const MADE: UnixTime = UnixTime(NEW_YEAR.0 + 600);

/// Root, region, zone, instance, leaf: as AWS has them.
struct World {
    chain: [Node; 5],
    /// The same names under another root.
    strange: [Node; 5],
    /// Under the first root: a leaf on another curve, and one that names another place for its issuer.
    p256: Node,
    moved: Node,
}

fn chain_of() -> [Node; 5] {
    let ca = |name: &str, path_len: Option<u8>, until: u64| {
        let mut params = params(name, NEW_YEAR, NEW_YEAR.plus(until));
        authority(&mut params, path_len);
        params
    };
    let root = issue(ca("aws.nitro-enclaves", None, 365 * DAY), None, P384);
    let region = issue(ca("ab.eu-west-1.aws.nitro-enclaves", Some(2), 20 * DAY), Some(&root), P384);
    let zone = issue(ca("cd.zonal.eu-west-1.aws.nitro-enclaves", Some(1), 6 * DAY), Some(&region), P384);
    let instance = issue(ca("i-0123456789abcdef0.eu-west-1.aws.nitro-enclaves", Some(0), DAY), Some(&zone), P384);
    let leaf = issue(leaf_params("eu-west-1"), Some(&instance), P384);
    [root, region, zone, instance, leaf]
}

fn leaf_params(region: &str) -> rcgen::CertificateParams {
    let mut params = params(&format!("{MODULE}.{region}.aws"), NEW_YEAR, NEW_YEAR.plus(3 * 3600));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    params
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let chain = chain_of();
        let p256 = issue(leaf_params("eu-west-1"), Some(&chain[3]), &rcgen::PKCS_ECDSA_P256_SHA256);
        let moved = issue(leaf_params("us-east-1"), Some(&chain[3]), P384);
        World { strange: chain_of(), chain, p256, moved }
    })
}

/// What the next document is made of.
struct Maker {
    fields: Vec<(Value, Value)>,
    protected: coset::Header,
    unprotected: coset::Header,
    key: Vec<u8>,
}

fn bytes(value: impl Into<Vec<u8>>) -> Value {
    Value::Bytes(value.into())
}

impl Maker {
    fn new() -> Self {
        let [root, region, zone, instance, leaf] = &world().chain;
        let register = |number: u8| (Value::from(number), bytes([number.wrapping_mul(17).wrapping_add(1); 48]));
        let mut registers: Vec<_> = (0..16).map(register).collect();
        for (_, value) in &mut registers[5..] {
            *value = bytes([0; 48]);
        }
        let fields = [
            ("module_id", Value::from(MODULE)),
            ("digest", Value::from("SHA384")),
            ("timestamp", Value::from(MADE.0 * 1000)),
            ("pcrs", Value::Map(registers)),
            ("certificate", bytes(leaf.der.clone())),
            ("cabundle", Value::Array([root, region, zone, instance].map(|n| bytes(n.der.clone())).to_vec())),
            ("public_key", Value::Null),
            ("user_data", bytes([7; 64])),
            ("nonce", Value::Null),
        ];
        Self {
            fields: fields.map(|(name, value)| (Value::from(name), value)).to_vec(),
            protected: HeaderBuilder::new().algorithm(iana::Algorithm::ES384).build(),
            unprotected: coset::Header::default(),
            key: leaf.key.serialize_der(),
        }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.fields.iter_mut().find(|(n, _)| n.as_text() == Some(name)) {
            Some(field) => field.1 = value,
            None => self.fields.push((Value::from(name), value)),
        }
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(n, _)| n.as_text() != Some(name));
        self
    }

    fn registers(self, registers: &[(i64, usize)]) -> Self {
        let entries = registers.iter().map(|(number, size)| (Value::from(*number), bytes(vec![1; *size]))).collect();
        self.with("pcrs", Value::Map(entries))
    }

    fn leaf(mut self, node: &Node) -> Self {
        self.key = node.key.serialize_der();
        self.with("certificate", bytes(node.der.clone()))
    }

    fn bundle(self, nodes: &[&Node]) -> Self {
        self.with("cabundle", Value::Array(nodes.iter().map(|n| bytes(n.der.clone())).collect()))
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        ciborium::into_writer(&Value::Map(self.fields.clone()), &mut payload).unwrap();
        payload
    }

    fn make(&self) -> Vec<u8> {
        self.make_of(self.payload())
    }

    #[expect(clippy::disallowed_methods, reason = "the library's signing function takes its own generator alone")]
    fn make_of(&self, payload: Vec<u8>) -> Vec<u8> {
        let sign = |message: &[u8]| match EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.key) {
            Ok(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            // A key of another curve: what it would sign does not matter.
            Err(_) => vec![1; 96],
        };
        let builder = CoseSign1Builder::new().protected(self.protected.clone()).unprotected(self.unprotected.clone());
        builder.payload(payload).create_signature(&[], sign).build().to_vec().unwrap()
    }
}

fn judge(document: &[u8], at: UnixTime) -> Result<Claims, Rejection> {
    let root = Trusted::Test(Digest::of(&world().chain[0].der));
    verify_under(root, document, at, &ChainCache::new(0), &mut |_| ())
}

#[test]
fn what_a_document_shows_is_what_it_says() {
    let document = Maker::new().with("nonce", bytes([9; 20])).make();
    let mut trail = Vec::new();
    let root = Trusted::Test(Digest::of(&world().chain[0].der));
    let claims = verify_under(root, &document, MADE, &ChainCache::default(), &mut |check| trail.push(check)).unwrap();
    assert_eq!(trail, Check::ALL.iter().map(|check| check.id()).collect::<Vec<_>>(), "every check, in order");
    assert_eq!(claims.anchor, Anchor::Development("test".to_owned()));
    assert_eq!(claims.tee, Attested::hardware(TeeKind::Nitro));
    assert_eq!(claims.measurement, Attested::hardware("01".repeat(48)));
    assert_eq!(
        claims.registers.keys().map(String::as_str).collect::<Vec<_>>(),
        ["pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr8"]
    );
    assert_eq!(claims.chip, Attested::endorsed(Digest::of(b"i-0123456789abcdef0").to_string()));
    assert_eq!(claims.region, Some(Attested::endorsed("eu-west-1".parse().unwrap())));
    assert_eq!(claims.operator, Some(Attested::endorsed("aws".to_owned())));
    assert_eq!((claims.debug.value, claims.confidential.value, claims.vmpl), (false, true, None));
    assert_eq!(claims.report_data, "07".repeat(64));
    for (data, bound) in [
        (bytes([7; 32]), "07".repeat(32)),
        (bytes([7; 33]), String::new()),
        (bytes([]), String::new()),
        (Value::Null, String::new()),
    ] {
        let claims = judge(&Maker::new().with("user_data", data).make(), MADE).unwrap();
        assert_eq!(claims.report_data, bound);
    }
    let mut debug = Maker::new();
    let zeros = (0..16u8).map(|number| (Value::from(number), bytes([0; 48]))).collect();
    debug = debug.with("pcrs", Value::Map(zeros));
    assert!(judge(&debug.make(), MADE).unwrap().debug.value, "zeros are a debug enclave");
}

#[test]
fn the_tests_root_is_not_aws() {
    let document = Maker::new().make();
    assert_eq!(outcome(judge(&document, MADE)), "ok");
    assert_eq!(outcome(verify(&document, MADE, &ChainCache::default())), "nitro.root");
    // Not even once it was believed under the other root, by the same cache.
    let cache = ChainCache::default();
    let root = Trusted::Test(Digest::of(&world().chain[0].der));
    verify_under(root, &document, MADE, &cache, &mut |_| ()).unwrap();
    assert_eq!(outcome(verify(&document, MADE, &cache)), "nitro.root");
}

#[test]
fn fields_that_are_not_as_aws_has_them_are_refused() {
    let World { chain: [root, region, zone, instance, leaf], strange, p256, moved } = world();
    let ms = |at: UnixTime| at.0 * 1000;
    let new = Maker::new;
    let unsigned = HeaderBuilder::new().build();
    let es256 = HeaderBuilder::new().algorithm(iana::Algorithm::ES256).build();
    let with_id = HeaderBuilder::new().algorithm(iana::Algorithm::ES384).key_id(vec![1]).build();
    let mut twice = new();
    twice.fields.push(twice.fields[0].clone());
    let mut registers = vec![(0, 48), (1, 48), (2, 48)];
    registers.push((1, 48));
    let table: Vec<(&str, Maker, &str)> = vec![
        ("as it is", new(), "ok"),
        ("no optional field", new().without("public_key").without("user_data").without("nonce"), "ok"),
        ("long data", new().with("nonce", bytes([1; 1024])).with("public_key", bytes([1; 1024])), "ok"),
        ("longer data", new().with("nonce", bytes([1; 1025])), "nitro.payload"),
        ("longer user data", new().with("user_data", bytes([1; 1025])), "nitro.payload"),
        ("data that is text", new().with("user_data", "hello"), "nitro.payload"),
        ("unknown field", new().with("extra", Value::Null), "nitro.payload"),
        ("registers of a NitroTPM", new().without("pcrs").with("nitrotpm_pcrs", Value::Map(vec![])), "nitro.payload"),
        ("field twice", twice, "nitro.payload"),
        ("no module", new().without("module_id"), "nitro.payload"),
        ("no digest", new().without("digest"), "nitro.payload"),
        ("other digest", new().with("digest", "SHA256"), "nitro.payload"),
        ("no time", new().without("timestamp"), "nitro.payload"),
        ("time zero", new().with("timestamp", 0), "nitro.payload"),
        ("time before zero", new().with("timestamp", -1), "nitro.payload"),
        ("time as text", new().with("timestamp", "now"), "nitro.payload"),
        ("no certificate", new().without("certificate"), "nitro.payload"),
        ("empty certificate", new().with("certificate", bytes([])), "nitro.payload"),
        ("certificate of nothing", new().with("certificate", bytes([0; 600])), "nitro.certificate"),
        ("large certificate", new().with("certificate", bytes([0x30; 1025])), "nitro.payload"),
        ("no bundle", new().without("cabundle"), "nitro.payload"),
        ("empty bundle", new().bundle(&[]), "nitro.payload"),
        ("large bundle", new().bundle(&[root; 8]), "nitro.payload"),
        ("no registers", new().without("pcrs"), "nitro.payload"),
        ("empty registers", new().registers(&[]), "nitro.payload"),
        ("register twice", new().registers(&registers), "nitro.payload"),
        ("register below zero", new().registers(&[(0, 48), (1, 48), (2, 48), (-1, 48)]), "nitro.payload"),
        ("register past 31", new().registers(&[(0, 48), (1, 48), (2, 48), (32, 48)]), "nitro.pcrs"),
        ("register 31", new().registers(&[(0, 48), (1, 48), (2, 48), (31, 64)]), "ok"),
        ("register of 47 bytes", new().registers(&[(0, 48), (1, 47), (2, 48)]), "nitro.pcrs"),
        ("register of 65 bytes", new().registers(&[(0, 48), (1, 65), (2, 48)]), "nitro.payload"),
        ("no register 2", new().registers(&[(0, 48), (1, 48)]), "nitro.pcrs"),
        ("no algorithm", Maker { protected: unsigned, ..new() }, "nitro.cose"),
        ("other algorithm", Maker { protected: es256, ..new() }, "nitro.cose"),
        ("another header", Maker { protected: with_id.clone(), ..new() }, "nitro.cose"),
        ("an unprotected header", Maker { unprotected: with_id, ..new() }, "nitro.cose"),
        ("bundle backwards", new().bundle(&[instance, zone, region, root]), "nitro.root"),
        ("bundle mixed up", new().bundle(&[root, zone, region, instance]), "nitro.chain"),
        ("bundle with a gap", new().bundle(&[root, region, instance]), "nitro.chain"),
        ("bundle without root", new().bundle(&[region, zone, instance]), "nitro.root"),
        ("bundle with the leaf", new().bundle(&[root, region, zone, instance, leaf]), "nitro.chain"),
        ("another root's bundle", new().bundle(&strange[..4].iter().collect::<Vec<_>>()), "nitro.root"),
        ("another root's leaf", new().leaf(&strange[4]), "nitro.chain"),
        (
            "another root's chain under this root",
            new().bundle(&[root, &strange[1], &strange[2], &strange[3]]),
            "nitro.chain",
        ),
        ("another key", Maker { key: strange[4].key.serialize_der(), ..new() }, "nitro.signature"),
        ("an issuer for leaf", new().leaf(instance).bundle(&[root, region, zone]), "nitro.chain"),
        ("another curve", new().leaf(p256), "nitro.signature"),
        ("another place than its issuer", new().leaf(moved), "nitro.module"),
        ("another instance", new().with("module_id", "i-0123456789abcdef1-enc0198765432fedcba"), "nitro.module"),
        ("another enclave", new().with("module_id", "i-0123456789abcdef0-enc0198765432fedcbb"), "nitro.module"),
        ("no instance", new().with("module_id", "i--enc01"), "nitro.module"),
        ("no enclave", new().with("module_id", "i-0123456789abcdef0"), "nitro.module"),
        ("a name for a path", new().with("module_id", "i-../..-enc00"), "nitro.module"),
        ("no name", new().with("module_id", ""), "nitro.payload"),
        ("a long name", new().with("module_id", "i".repeat(200)), "nitro.payload"),
        ("made before the leaf", new().with("timestamp", ms(NEW_YEAR) - 1), "nitro.timestamp"),
        ("made with the leaf", new().with("timestamp", ms(NEW_YEAR)), "ok"),
        ("made a minute ahead", new().with("timestamp", ms(MADE.plus(60)) + 999), "ok"),
        ("made more than a minute ahead", new().with("timestamp", ms(MADE.plus(61))), "nitro.timestamp"),
        ("made at the end of time", new().with("timestamp", u64::MAX), "nitro.timestamp"),
    ];
    for (what, maker, expected) in table {
        let result = judge(&maker.make(), MADE);
        assert_eq!(result.as_ref().err().map_or("ok", |r| r.check.as_str()), expected, "{what}: {result:?}");
        outcome(result);
    }
}

#[test]
fn a_document_ends_with_its_leaf() {
    let document = Maker::new().make();
    for (at, expected) in [
        (NEW_YEAR.minus(1), "nitro.dates"),
        (MADE.minus(61), "nitro.timestamp"),
        (MADE.minus(60), "ok"),
        (NEW_YEAR.plus(3 * 3600), "ok"),
        (NEW_YEAR.plus(3 * 3600 + 1), "nitro.dates"),
        (UnixTime(0), "nitro.dates"),
        (UnixTime(u64::MAX), "nitro.dates"),
    ] {
        assert_eq!(outcome(judge(&document, at)), expected, "at {at}");
    }
}

#[test]
fn one_value_has_one_spelling() {
    let document = Maker::new().make();
    let maker = Maker::new();
    let payload = maker.payload();
    assert_eq!(payload[0], 0xa9);
    // A map of nine: in a longer spelling, with registers without a length, and with something behind it. All of them
    // are genuinely signed. The map itself may go without its length, as the module's newer versions write it.
    let longer = [&[0xb8, 9], &payload[1..]].concat();
    let endless = [&[0xbf], &payload[1..], &[0xff]].concat();
    let behind = [&payload[..], &[0xf6]].concat();
    assert_eq!(outcome(judge(&maker.make_of(endless.clone()), MADE)), "ok");
    let open = endless[..endless.len() - 1].to_vec();
    let registers = payload.windows(2).position(|w| w == [0xb0, 0x00]).unwrap();
    let end = payload.windows(12).position(|w| w == b"\x6bcertificate").unwrap();
    let loose = [&payload[..registers], &[0xbf], &payload[registers + 1..end], &[0xff], &payload[end..]].concat();
    let looser = [&[0xbf], &loose[1..], &[0xff]].concat();
    for payload in [longer, open, loose, looser, behind, Vec::new(), vec![0xf6], vec![0x81; 200]] {
        assert_eq!(outcome(judge(&maker.make_of(payload), MADE)), "nitro.payload");
    }
    let tagged = [&[0xd2], &document[..]].concat();
    let behind = [&document[..], &[0]].concat();
    let longer = [&[0x98, 4], &document[1..]].concat();
    let endless = [&[0x9f], &document[1..], &[0xff]].concat();
    let long_header = [&[0x84, 0x58, 4], &document[2..]].concat();
    for bytes in [tagged, behind, longer, endless, long_header, document[..document.len() - 1].to_vec(), vec![0x84]] {
        assert_eq!(outcome(judge(&bytes, MADE)), "nitro.cose");
    }
    for bytes in [Vec::new(), vec![0; DOCUMENT_MAX + 1]] {
        assert_eq!(outcome(judge(&bytes, MADE)), "nitro.size");
    }
    let deep = [vec![0x84, 0x44, 0xa1, 0x01, 0x38, 0x22], vec![0x81; 20_000]].concat();
    assert_eq!(outcome(judge(&deep, MADE)), "nitro.cose", "nesting has an end");
}

#[test]
fn no_byte_of_a_document_can_change() {
    let document = Maker::new().make();
    // The chain is remembered, as it would be: a changed one is another.
    let (root, cache) = (Trusted::Test(Digest::of(&world().chain[0].der)), ChainCache::default());
    verify_under(root, &document, MADE, &cache, &mut |_| ()).unwrap();
    for at in 0..document.len() {
        let mut changed = document.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(verify_under(root, &changed, MADE, &cache, &mut |_| ()).is_err(), "byte {at}");
    }
}

#[test]
fn a_document_is_found_in_the_response_around_it() {
    let document = Maker::new().make();
    let response = [b"\xa1\x6bAttestation\xa1\x68document\x59\x10\x00".as_slice(), &document, b"\xff\xff"].concat();
    for file in [&document, &response] {
        assert_eq!(find_document(file), document);
    }
    for file in
        [&b""[..], b"none here", &document[..7], &document[..100], &[0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x59]]
    {
        assert!(Document::parse(find_document(file)).is_err());
    }
}
