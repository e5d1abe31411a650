//! A TPM for real: `swtpm`, started by the test in a folder and on an address of its own, manufactured by `swtpm_setup` with a CA
//! of its own. What comes out is checked by others' programs: openssl and tpm2-tools.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use legation_agent::{
    attester::{
        AttestError, Attester, AttesterError, KeyActivation,
        tpm::{OWN_REGISTER, TpmAttester},
    },
    config::{Tcti, TpmConfig},
};
use legation_attest::tpm::{HashAlg, Public, Quote, Report, activation};
use legation_core::{
    Digest,
    claims::{Evidence, KeyBinding, TeeKind, TpmKey},
    encoding,
};
use legation_keys::Entropy;
use tempfile::TempDir;

/// How long the emulator may take to answer.
const START: Duration = Duration::from_secs(20);
const PORT: u16 = 2321;

/// An emulator; killed when dropped.
pub(crate) struct Swtpm {
    dir: TempDir,
    host: String,
    process: Option<Child>,
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[track_caller]
pub(crate) fn must(command: &mut Command) -> String {
    let (good, said) = run(command);
    assert!(good, "{command:?}: {said}");
    said
}

impl Swtpm {
    /// One with a CA and certificates of its endorsement keys; nothing, said loudly, where the programs are missing.
    pub(crate) fn make() -> Option<Self> {
        for program in ["swtpm", "swtpm_setup", "swtpm_localca", "tpm2_checkquote", "openssl"] {
            if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                eprintln!("SKIPPED: no `{program}` here (Debian: swtpm swtpm-tools tpm2-tools openssl)");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(path("ca")).unwrap();
        fs::create_dir(path("state")).unwrap();
        let ca = path("ca");
        let authority = format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/serial\n"
        );
        let setup = format!(
            "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
            path("ca.conf"),
            path("ca.options")
        );
        for (name, text) in [("ca.conf", authority), ("ca.options", String::new()), ("setup.conf", setup)] {
            fs::write(path(name), text).unwrap();
        }
        must(Command::new("swtpm_setup").args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256"]).args([
            "--tpm-state",
            &path("state"),
            "--config",
            &path("setup.conf"),
        ]));
        let mut random = [0; 3];
        legation_net::OsEntropy.fill(&mut random);
        let host = format!("127.{}.{}.{}", random[0] | 1, random[1], random[2].max(1));
        let mut swtpm = Self { dir, host, process: None };
        swtpm.start();
        Some(swtpm)
    }

    pub(crate) fn start(&mut self) {
        let address = |kind: &str, port: u16| format!("type={kind},port={port},bindaddr={}", self.host);
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", self.path("state").display())])
            .args(["--server", &address("tcp", PORT), "--ctrl", &address("tcp", PORT + 1)])
            .stdout(Stdio::null())
            .stderr(File::create(self.path("swtpm.log")).unwrap())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let begun = Instant::now();
        while TcpStream::connect((self.host.as_str(), PORT + 1)).is_err() {
            assert!(begun.elapsed() < START, "{}", fs::read_to_string(self.path("swtpm.log")).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn config(&self) -> TpmConfig {
        let tcti = Tcti::Swtpm { host: self.host.clone(), port: PORT };
        let chain = Some(self.path("ca/issuercert.pem"));
        TpmConfig { tcti, registers: Vec::new(), key: TpmKey::EccP384, chain }
    }

    /// A program of tpm2-tools. The emulator serves one at a time: never while an attester is open.
    pub(crate) fn tool(&self, line: &[&str]) -> Command {
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).current_dir(self.dir.path()).env("TPM2TOOLS_TCTI", self.config().tcti.to_string());
        command
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Whether tpm2-tools find that `key` quoted these registers over `qualifying`.
    fn checkquote(&self, report: &Report, qualifying: &[u8], pcrs: &[u8]) -> bool {
        let public = [&u16::try_from(report.ak.len()).unwrap().to_be_bytes()[..], &report.ak].concat();
        for (name, bytes) in [
            ("ak.pub", &public[..]),
            ("quote.msg", &report.quote),
            ("quote.sig", &report.signature),
            ("quote.pcrs", pcrs),
        ] {
            self.write(name, bytes);
        }
        let qualifying = encoding::hex(qualifying);
        let line = [
            "tpm2_checkquote",
            "-u",
            "ak.pub",
            "-m",
            "quote.msg",
            "-s",
            "quote.sig",
            "-g",
            "sha256",
            "-q",
            &qualifying,
        ];
        run(self.tool(&line).env("TPM2TOOLS_TCTI", "none")).0
    }
}

fn report(evidence: &Evidence) -> Report {
    Report::parse(&evidence.report).unwrap()
}

fn own() -> Digest {
    Digest::of(&fs::read("/proc/self/exe").unwrap())
}

/// What a TPM makes of a register that held zeros and was extended once.
fn extended(value: &[u8]) -> Vec<u8> {
    Digest::of_parts(&[&[0; 32], value]).as_bytes().to_vec()
}

#[test]
fn an_emulator_quotes_under_a_key_beside_its_certified_one() {
    let Some(mut swtpm) = Swtpm::make() else { return };
    let attester = TpmAttester::open(&swtpm.config(), true).unwrap();
    assert_eq!((attester.kind(), attester.image()), (TeeKind::DevTpm, own()));

    // The certificate lies in the TPM and leads to the CA.
    let keys = attester.keys().unwrap();
    assert_eq!(keys.certificates.len(), 2, "leaf and intermediate, never the root");
    swtpm.write("ek.der", &keys.certificates[0]);
    must(&mut swtpm.tool(&["openssl", "x509", "-inform", "der", "-in", "ek.der", "-out", "ek.pem"]));
    let root = "ca/swtpm-localca-rootca-cert.pem";
    let verify = ["openssl", "verify", "-CAfile", root, "-untrusted", "ca/issuercert.pem", "ek.pem"];
    assert!(must(&mut swtpm.tool(&verify)).contains("ek.pem: OK"));
    let (ek, ak) = (Public::parse(&keys.ek).unwrap(), Public::parse(&keys.ak).unwrap());
    assert_ne!(ak.attributes, ek.attributes);

    // A quote that others verify, over the first half of the report data.
    let evidence = attester.attest(b"binding", b"configuration").unwrap();
    assert_eq!((evidence.kind, evidence.endorsements.len()), (TeeKind::DevTpm, 0));
    let (found, asked) = (report(&evidence), KeyBinding::report_data(b"binding"));
    assert_eq!(found.ak, keys.ak);
    assert!(swtpm.checkquote(&found, &asked[..32], &[]));
    assert!(!swtpm.checkquote(&found, &asked[32..], &[]), "another nonce");
    assert!(!swtpm.checkquote(&found, &KeyBinding::report_data(b"another")[..32], &[]), "another binding");
    let mut changed = found.clone();
    changed.quote[20] ^= 1;
    assert!(!swtpm.checkquote(&changed, &asked[..32], &[]), "a changed quote");

    // Registers 0 to 7 of a fresh emulator are zeros: no firmware measured anything. Register 16 is the agent's own word.
    let values = &found.pcrs[&HashAlg::Sha256];
    assert_eq!(values.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, OWN_REGISTER]);
    for (register, value) in values {
        let expected = if *register == OWN_REGISTER { extended(own().as_bytes()) } else { vec![0; 32] };
        assert_eq!(value, &expected, "register {register}");
    }
    let parts: Vec<&[u8]> = values.values().map(Vec::as_slice).collect();
    let quote = Quote::parse(&found.quote).unwrap();
    assert!(format!("{quote:?}").to_lowercase().contains("safe: true"), "{quote:?}");
    assert!(found.quote.windows(32).any(|w| w == Digest::of_parts(&parts).as_bytes()));

    // How long it takes.
    let begun = Instant::now();
    for round in 0..20u8 {
        attester.attest(&[round], b"").unwrap();
    }
    eprintln!("measured: {:?} for a quote with registers, on the emulator", begun.elapsed() / 20);

    // An emulator that was started again lost the key from its memory and register 16: both are put back, the key is the same.
    swtpm.kill();
    swtpm.start();
    let again = report(&attester.attest(b"binding", b"configuration").unwrap());
    assert_eq!((&again.ak, &again.pcrs), (&found.ak, &found.pcrs));
    assert!(swtpm.checkquote(&again, &asked[..32], &[]));

    // The next agent has another key beside the same endorsement key, and finds places for it on a TPM where others, who did not
    // end in order, have filled them all.
    drop(attester);
    for round in 0..3 {
        let context = format!("left{round}.ctx");
        must(&mut swtpm.tool(&["tpm2_createprimary", "-C", "o", "-c", &context]));
    }
    let full = run(&mut swtpm.tool(&["tpm2_createprimary", "-C", "o", "-c", "full.ctx"]));
    assert!(!full.0, "there was a place left: {}", full.1);
    let next = TpmAttester::open(&swtpm.config(), true).unwrap();
    assert_ne!(next.keys().unwrap().ak, keys.ak);
    assert_eq!(next.keys().unwrap().ek, keys.ek);
    next.attest(b"binding", b"").unwrap();
    drop(next);
    swtpm.kill();
    swtpm.start();
    let said = must(&mut swtpm.tool(&["tpm2_pcrread", "sha256:16"]));
    assert!(said.contains(&"0".repeat(64)), "a TPM that was reset has not measured the agent: {said}");
}

#[test]
fn only_the_tpm_of_both_keys_reads_the_secret() {
    let Some(swtpm) = Swtpm::make() else { return };
    // Once with the ECC endorsement key, and once with the RSA one, whose use takes a policy.
    for (key, name) in [(TpmKey::EccP384, "ecc"), (TpmKey::Rsa2048, "rsa")] {
        let attester = TpmAttester::open(&TpmConfig { key, ..swtpm.config() }, false).unwrap();
        assert_eq!(attester.kind(), TeeKind::Tpm);
        let keys = attester.keys().unwrap();
        let (ek, ak) = (Public::parse(&keys.ek).unwrap(), Public::parse(&keys.ak).unwrap());
        assert_eq!(format!("{:?}", ek.key).to_lowercase().starts_with("rsa"), name == "rsa", "{:?}", ek.key);

        // A credential by our verifier's hand.
        let ours = activation::Ek::from_public(&ek).unwrap();
        let (secret, random) = ([7; activation::SECRET_LEN], [9; activation::RANDOM_LEN]);
        let made = activation::make_credential(&ours, &ak.name(), &secret, &random).unwrap();
        let got = attester.activate(&made.id_object, &made.encrypted_secret).unwrap();
        assert_eq!(got.as_bytes(), &secret, "{name}");

        // And one by tpm2-tools: magic, version, then the two structures.
        let sized = [&u16::try_from(keys.ek.len()).unwrap().to_be_bytes()[..], &keys.ek].concat();
        swtpm.write("ek.pub", &sized);
        swtpm.write("secret", &[5; 32]);
        let key_name = encoding::hex(&ak.name());
        let line = ["tpm2_makecredential", "-T", "none", "-u", "ek.pub", "-s", "secret", "-n", &key_name, "-o", "blob"];
        must(&mut swtpm.tool(&line));
        let blob = fs::read(swtpm.path("blob")).unwrap();
        assert_eq!(blob[..8], [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1]);
        let length = 2 + usize::from(u16::from_be_bytes([blob[8], blob[9]]));
        let (credential, encrypted) = blob[8..].split_at(length);
        assert_eq!(attester.activate(credential, encrypted).unwrap().as_bytes(), &[5; 32], "{name}");

        // For another attestation key, damaged, cut, or of another size: nothing comes out, and the TPM stays usable.
        let mut name_of_another = ak.name();
        name_of_another[10] ^= 1;
        let foreign = activation::make_credential(&ours, &name_of_another, &secret, &random).unwrap();
        let mut damaged = made.id_object.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for (what, id, encrypted) in [
            ("another key", &foreign.id_object[..], &foreign.encrypted_secret[..]),
            ("damaged", &damaged, &made.encrypted_secret),
            ("mixed up", &made.id_object, encrypted),
            ("cut", &made.id_object[..20], &made.encrypted_secret),
            ("without its length", &made.id_object[2..], &made.encrypted_secret),
            ("nothing", &[], &[]),
        ] {
            let error = attester.activate(id, encrypted);
            assert!(matches!(error, Err(AttestError::Tpm(_))), "{name}, {what}: {error:?}");
        }
        assert_eq!(attester.activate(&made.id_object, &made.encrypted_secret).unwrap().as_bytes(), &secret);

        // A production TPM measures nothing of the agent.
        let found = report(&attester.attest(b"binding", b"").unwrap());
        assert_eq!(found.pcrs[&HashAlg::Sha256].keys().copied().collect::<Vec<_>>(), (0..=7).collect::<Vec<_>>());
        assert_eq!(found.log, None);
    }
}

#[test]
fn intermediates_of_the_maker_and_chosen_registers_are_read_from_the_tpm() {
    let Some(swtpm) = Swtpm::make() else { return };
    // Register 14 says something, and the intermediate certificate lies where makers put it, cut over two indices.
    let value = [3; 32];
    must(&mut swtpm.tool(&["tpm2_pcrextend", &format!("14:sha256={}", encoding::hex(&value))]));
    must(&mut swtpm.tool(&["openssl", "x509", "-in", "ca/issuercert.pem", "-outform", "der", "-out", "issuer.der"]));
    let issuer = fs::read(swtpm.path("issuer.der")).unwrap();
    for (index, part) in [("0x1c00100", &issuer[..700]), ("0x1c00101", &issuer[700..])] {
        swtpm.write("part", part);
        let attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate|write_stclear";
        let size = part.len().to_string();
        must(&mut swtpm.tool(&["tpm2_nvdefine", index, "-C", "p", "-s", &size, "-a", attributes]));
        must(&mut swtpm.tool(&["tpm2_nvwrite", index, "-C", "p", "-i", "part"]));
    }
    let config = TpmConfig { registers: vec![14, 0], chain: None, ..swtpm.config() };
    let attester = TpmAttester::open(&config, false).unwrap();
    assert_eq!(attester.keys().unwrap().certificates[1..], [issuer]);
    let found = report(&attester.attest(b"binding", b"").unwrap());
    let values = &found.pcrs[&HashAlg::Sha256];
    assert_eq!(values.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 14]);
    assert_eq!(values[&14], extended(&value));
    let asked = KeyBinding::report_data(b"binding");
    assert!(swtpm.checkquote(&found, &asked[..32], &[]));
    drop(attester);

    // Somebody extends a quoted register meanwhile: the next quote says so.
    must(&mut swtpm.tool(&["tpm2_pcrextend", &format!("7:sha256={}", encoding::hex(&value))]));
    let attester = TpmAttester::open(&config, false).unwrap();
    let found = report(&attester.attest(b"binding", b"").unwrap());
    assert_eq!(found.pcrs[&HashAlg::Sha256][&7], extended(&value));
}

#[test]
fn what_a_tpm_lacks_is_told() {
    let Some(mut swtpm) = Swtpm::make() else { return };
    let open = |config: &TpmConfig| TpmAttester::open(config, false).err().unwrap();
    // A certificate of another key where that of the template should be, and nothing else.
    must(&mut swtpm.tool(&["tpm2_nvundefine", "-C", "p", "0x1c00016"]));
    let told = open(&swtpm.config()).to_string();
    assert!(
        told.contains("no endorsement key of kind ecc-p384 with a certificate (it holds none at 0x1c00016)"),
        "{told}"
    );
    must(&mut swtpm.tool(&["openssl", "x509", "-in", "ca/issuercert.pem", "-outform", "der", "-out", "issuer.der"]));
    let size = fs::metadata(swtpm.path("issuer.der")).unwrap().len().to_string();
    let attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate|write_stclear";
    must(&mut swtpm.tool(&["tpm2_nvdefine", "0x1c0000a", "-C", "p", "-s", &size, "-a", attributes]));
    must(&mut swtpm.tool(&["tpm2_nvwrite", "0x1c0000a", "-C", "p", "-i", "issuer.der"]));
    let told = open(&TpmConfig { key: TpmKey::EccP256, ..swtpm.config() }).to_string();
    assert!(told.contains("0x1c0000a is of another key than that of the TCG's template"), "{told}");
    // Files and TPMs that are not there.
    let missing = TpmConfig { chain: Some(PathBuf::from("/nowhere/chain.pem")), ..swtpm.config() };
    assert!(matches!(open(&missing), AttesterError::Read { file, .. } if file == Path::new("/nowhere/chain.pem")));
    swtpm.kill();
    let told = open(&swtpm.config()).to_string();
    assert!(told.starts_with("the tpm of this machine does not attest: TPM: opening the TPM failed"), "{told}");
    let absent = TpmConfig {
        tcti: Tcti::Device("/nowhere/tpmrm0".into()),
        registers: Vec::new(),
        key: TpmKey::Rsa2048,
        chain: None,
    };
    assert!(matches!(open(&absent), AttesterError::Start { .. }));
}
