//! SEV-SNP and TDX by configfs-tsm, with a kernel that the test plays: no machine here has such a guest. The reports are recorded
//! ones of real machines with what was asked put in; their signatures are not looked at here.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use legation_agent::attester::{
    AttestError, Attester, TsmError,
    configfs::{Configfs, Entries, OUTBLOB_MAX, TRIES_MAX, Tsm},
    sev_snp::{SnpAttester, TABLE_ENTRIES_MAX},
    tdx::TdxAttester,
};
use legation_core::{
    Digest,
    claims::{KeyBinding, TeeKind},
};

/// A recorded sample.
fn sample(path: &str) -> Option<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence").join(path);
    let found = fs::read(&file).ok();
    if found.is_none() {
        eprintln!("SKIPPED: no sample {path}");
    }
    found
}

/// What the played kernel does.
#[derive(Clone, Default)]
struct Script {
    provider: &'static str,
    /// The report, and where it repeats what was asked.
    report: Vec<u8>,
    at: usize,
    aux: Option<Vec<u8>>,
    /// Lowest level that may be asked from; SEV-SNP alone has levels.
    floor: Option<u8>,
    /// In so many tries somebody else writes to the entry.
    races: u32,
    /// So many times the firmware is busy.
    busy: u32,
    /// An attribute that cannot be touched.
    broken: Option<&'static str>,
}

#[derive(Default)]
struct State {
    script: Script,
    entries: BTreeMap<String, Entry>,
    made: Vec<String>,
    levels: Vec<String>,
}

#[derive(Default)]
struct Entry {
    generation: u64,
    inblob: Vec<u8>,
}

#[derive(Clone, Default)]
struct Kernel(Arc<Mutex<State>>);

impl Kernel {
    fn new(script: Script) -> Self {
        Self(Arc::new(Mutex::new(State { script, ..State::default() })))
    }

    /// How many entries were made; none may be left.
    fn made(&self) -> usize {
        let state = self.0.lock().unwrap();
        assert!(state.entries.is_empty(), "left behind: {:?}", state.entries.keys());
        let mut names = state.made.clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), state.made.len(), "a name was used twice");
        names.len()
    }
}

impl Entries for Kernel {
    fn make(&self, entry: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.made.push(entry.to_owned());
        state.entries.insert(entry.to_owned(), Entry { generation: 7, ..Entry::default() });
        Ok(())
    }

    fn read(&self, entry: &str, attribute: &str, _: usize) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock().unwrap();
        let State { script, entries, .. } = &mut *state;
        if script.broken == Some(attribute) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let entry = entries.get_mut(entry).unwrap();
        match attribute {
            "provider" => Ok(format!("{}\n", script.provider).into_bytes()),
            "generation" => Ok(format!("{}\n", entry.generation).into_bytes()),
            "privlevel_floor" => script.floor.map(|n| n.to_string().into_bytes()).ok_or(io::ErrorKind::NotFound.into()),
            "auxblob" => script.aux.clone().ok_or(io::ErrorKind::NotFound.into()),
            "outblob" if script.busy > 0 => {
                script.busy -= 1;
                Err(io::ErrorKind::ResourceBusy.into())
            }
            "outblob" => {
                assert_eq!(entry.inblob.len(), 64);
                let mut report = script.report.clone();
                if let Some(place) = report.get_mut(script.at..script.at + 64) {
                    place.copy_from_slice(&entry.inblob);
                }
                if script.races > 0 {
                    script.races -= 1;
                    entry.generation += 1;
                }
                Ok(report)
            }
            other => panic!("no attribute {other}"),
        }
    }

    fn write(&self, entry: &str, attribute: &str, value: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let State { script, entries, levels, .. } = &mut *state;
        if script.broken == Some(attribute) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let entry = entries.get_mut(entry).unwrap();
        entry.generation += 1;
        match attribute {
            "inblob" => entry.inblob = value.to_vec(),
            "privlevel" => levels.push(String::from_utf8(value.to_vec()).unwrap()),
            other => panic!("{other} cannot be written"),
        }
        Ok(())
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        self.0.lock().unwrap().entries.remove(entry).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }
}

const VCEK: [u8; 16] = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes();
const VLEK: [u8; 16] = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes();
const ASK: [u8; 16] = 0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes();
const ARK: [u8; 16] = 0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes();

/// A table as hosts make it.
fn table(certificates: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let mut offset = 24 * (certificates.len() + 1);
    let (mut head, mut body) = (Vec::new(), Vec::new());
    for (guid, bytes) in certificates {
        head.extend_from_slice(guid);
        head.extend_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
        head.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        body.extend_from_slice(bytes);
        offset += bytes.len();
    }
    [head, vec![0; 24], body].concat()
}

fn certificate(fill: u8) -> Vec<u8> {
    [vec![0x30, 0x82, 1, 0], vec![fill; 256]].concat()
}

/// A report of SEV-SNP's size; signed by the VLEK when asked.
fn report(vlek: bool) -> Vec<u8> {
    let mut report = vec![0; 1184];
    report[0x48] = u8::from(vlek) << 2;
    report
}

fn snp(aux: Vec<u8>) -> Script {
    Script {
        provider: "sev_guest",
        report: report(false),
        at: 0x50,
        aux: Some(aux),
        floor: Some(0),
        ..Script::default()
    }
}

fn attest(kernel: &Kernel, vcek: Option<&Path>) -> Result<legation_core::claims::Evidence, AttestError> {
    SnpAttester::new(kernel.clone(), Digest::of(b"image"), vcek).unwrap().attest(b"binding", b"configuration")
}

#[test]
fn recorded_reports_of_sev_snp_come_with_the_hosts_certificates() {
    for (name, folder, leaf, guid) in [
        ("milan", "snp/milan-v2", "vcek.der", VCEK),
        ("milan by the provider's key", "snp/milan-vlek", "vlek.der", VLEK),
        ("turin, certificates in PEM", "snp/turin-ms", "vcek.pem", VCEK),
    ] {
        let Some(report) = sample(&format!("{folder}/report.bin")) else { return };
        let (leaf, ask) = (sample(&format!("{folder}/{leaf}")).unwrap(), sample("snp/roots/milan-ask.pem").unwrap());
        let aux = table(&[(ARK, &certificate(1)), (ASK, &ask), (guid, &leaf)]);
        let kernel = Kernel::new(Script { report, ..snp(aux) });
        let evidence = attest(&kernel, None).unwrap();
        assert_eq!((evidence.kind, kernel.made()), (TeeKind::SevSnp, 1), "{name}");
        assert_eq!(evidence.report[0x50..0x90], KeyBinding::report_data(b"binding"), "{name}");
        assert_eq!((&evidence.binding[..], &evidence.configuration[..]), (&b"binding"[..], &b"configuration"[..]));
        // Leaf first, then the intermediate; the root stays away.
        assert_eq!(evidence.endorsements.len(), 2, "{name}");
        assert!(evidence.endorsements.iter().all(|der| der.starts_with(&[0x30, 0x82])), "{name}");
        if leaf.starts_with(&[0x30]) {
            assert_eq!(evidence.endorsements[0], leaf, "{name}");
        }
    }
}

/// The report of a Genoa names chip and security version, so its verifier can have the certificate fetched.
#[test]
fn a_report_that_names_its_chip_needs_no_table() {
    for (folder, bare) in
        [("snp/genoa-ms", true), ("snp/turin-ms", true), ("snp/milan-v2", false), ("snp/milan-vlek", false)]
    {
        let Some(report) = sample(&format!("{folder}/report.bin")) else { return };
        for aux in [Vec::new(), table(&[])] {
            let got = attest(&Kernel::new(Script { report: report.clone(), ..snp(aux) }), None);
            match got {
                Ok(evidence) => assert!(bare && evidence.endorsements.is_empty(), "{folder}"),
                Err(error) => assert!(!bare && matches!(error, AttestError::NoCertificate(_)), "{folder}: {error}"),
            }
        }
        // What the host gives must be a table.
        assert!(attest(&Kernel::new(Script { report, ..snp(vec![1; 30]) }), None).is_err());
    }
}

#[test]
fn recorded_quotes_of_tdx_are_held_against_what_was_asked() {
    for (name, file, at) in [
        ("version 4", "tdx/dcap-qvl/quote.bin", 568),
        ("version 4, padded", "tdx/flashbots/quote-1766059550.bin", 568),
        ("version 5", "tdx/trustee/quote-v5.dat", 574),
    ] {
        let Some(report) = sample(file) else { return };
        let script = Script { provider: "tdx_guest", report: report.clone(), at, ..Script::default() };
        let kernel = Kernel::new(script.clone());
        let attester = TdxAttester::new(kernel.clone(), Digest::of(b"image"));
        let evidence = attester.attest(b"binding", b"configuration").unwrap();
        assert_eq!((evidence.kind, evidence.endorsements.len(), kernel.made()), (TeeKind::Tdx, 0, 1), "{name}");
        assert_eq!(evidence.report.len(), report.len());
        // TDX has no levels.
        assert!(kernel.0.lock().unwrap().levels.is_empty());
        // A quote over something else, as it was recorded.
        let other = TdxAttester::new(Kernel::new(Script { at: usize::MAX - 64, ..script }), Digest::of(b"image"));
        let error = other.attest(b"binding", b"configuration").unwrap_err().to_string();
        assert!(error.starts_with("report data in the quote of TDX: expected"), "{name}: {error}");
    }
    for (report, told) in [(vec![], "got nothing"), (vec![3, 0, 9], "got version 3"), (vec![4, 0, 9], "report data")] {
        let kernel = Kernel::new(Script { provider: "tdx_guest", report, ..Script::default() });
        let error = TdxAttester::new(kernel, Digest::of(b"image")).attest(b"b", b"c").unwrap_err().to_string();
        assert!(error.contains(told), "{error} lacks {told}");
    }
}

#[test]
fn a_report_that_was_raced_is_taken_again() {
    let aux = table(&[(VCEK, &certificate(2))]);
    for (name, races, busy, made) in [("quiet", 0, 0, 1), ("raced", 2, 0, 3), ("busy", 0, 3, 4), ("both", 2, 2, 5)] {
        let kernel = Kernel::new(Script { races, busy, ..snp(aux.clone()) });
        assert_eq!(attest(&kernel, None).map(|e| e.endorsements).unwrap(), [certificate(2)], "{name}");
        assert_eq!(kernel.made(), made, "{name}");
    }
    let kernel = Kernel::new(Script { races: u32::MAX, ..snp(aux) });
    assert!(matches!(attest(&kernel, None), Err(AttestError::Tsm(TsmError::Raced))));
    assert_eq!(kernel.made(), TRIES_MAX as usize);
}

#[test]
fn reports_are_asked_from_the_lowest_level_there_is() {
    for floor in [0, 2] {
        let kernel = Kernel::new(Script { floor: Some(floor), ..snp(table(&[(VCEK, &certificate(2))])) });
        attest(&kernel, None).unwrap();
        assert_eq!(kernel.0.lock().unwrap().levels, [floor.to_string()]);
    }
}

#[test]
fn what_the_kernel_cannot_do_is_told() {
    let good = snp(table(&[(VCEK, &certificate(2))]));
    for (name, script, told) in [
        ("another provider", Script { provider: "arm_cca_guest", ..good.clone() }, "provider is `arm_cca_guest`"),
        ("no provider", Script { provider: "", ..good.clone() }, "not the name of a provider"),
        ("a provider with a line feed", Script { provider: "a\nb", ..good.clone() }, "not the name of a provider"),
        (
            "no right to write",
            Script { broken: Some("inblob"), ..good.clone() },
            "writing inblob failed: permission denied",
        ),
        ("no report", Script { broken: Some("outblob"), ..good.clone() }, "reading outblob failed"),
        ("a short report", Script { report: vec![0; 100], ..good.clone() }, "expected 1184 bytes, got 100 bytes"),
        ("a huge report", Script { report: vec![0; OUTBLOB_MAX + 1], ..good.clone() }, "more than 32768 bytes"),
        (
            "a report over something else",
            Script { at: usize::MAX - 64, ..good },
            "report data in the report of SEV-SNP",
        ),
    ] {
        let kernel = Kernel::new(script);
        let error = attest(&kernel, None).unwrap_err().to_string();
        assert!(error.contains(told), "{name}: {error}");
        kernel.made();
    }
}

#[test]
fn only_the_certificate_of_the_reports_key_counts() {
    let (a, b, c) = (certificate(1), certificate(2), certificate(3));
    let efi = {
        let mut guid = VCEK;
        guid[..4].reverse();
        guid[4..6].reverse();
        guid[6..8].reverse();
        guid
    };
    let many: Vec<_> = (0..=TABLE_ENTRIES_MAX).map(|n| ([u8::try_from(n).unwrap() + 1; 16], &a[..])).collect();
    let mut beyond = table(&[(VCEK, &a)]);
    beyond[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut endless = table(&[(VCEK, &a)]);
    endless.truncate(24);
    for (name, aux, vlek, expect) in [
        ("the chip's", table(&[(VCEK, &a), (VLEK, &b)]), false, Ok(vec![a.clone()])),
        ("the provider's", table(&[(VCEK, &a), (ASK, &c), (VLEK, &b)]), true, Ok(vec![b.clone(), c.clone()])),
        ("GUIDs as EFI stores them", table(&[(efi, &a)]), false, Ok(vec![a.clone()])),
        ("padding after a certificate", table(&[(VCEK, &[&a[..], &[0; 50]].concat())]), false, Ok(vec![a.clone()])),
        ("unknown ones", table(&[([9; 16], &b), (VCEK, &a)]), false, Ok(vec![a.clone()])),
        ("none", vec![], false, Err("is empty")),
        ("none in the table", table(&[]), false, Err("has none for this report's key")),
        ("another key's", table(&[(VLEK, &b)]), false, Err("has none for this report's key")),
        ("an intermediate alone", table(&[(ASK, &b)]), false, Err("has none for this report's key")),
        ("beyond the end", beyond, false, Err("beyond its end")),
        ("no end", endless, false, Err("beyond its end")),
        ("half an entry", vec![1; 30], false, Err("does not end with an entry of zeros")),
        ("no certificate", table(&[(VCEK, b"text")]), false, Err("neither PEM nor DER")),
        ("too many", table(&many), false, Err("more than 16 entries")),
    ] {
        let got = attest(&Kernel::new(Script { report: report(vlek), ..snp(aux.clone()) }), None);
        match (got, expect) {
            (Ok(evidence), Ok(expect)) => assert_eq!(evidence.endorsements, expect, "{name}"),
            (Err(error), Err(told)) => {
                let error = error.to_string();
                assert!(error.contains(told) && error.contains("`vcek` in `[attester]`"), "{name}: {error}");
                // A file helps where the host does not.
                let dir = tempfile::tempdir().unwrap();
                let file = dir.path().join("vcek.der");
                fs::write(&file, &c).unwrap();
                let evidence = attest(&Kernel::new(snp(aux)), Some(&file)).unwrap();
                assert_eq!(evidence.endorsements, std::slice::from_ref(&c), "{name}");
            }
            (got, expect) => panic!("{name}: {:?}, expected {expect:?}", got.map(|e| e.endorsements)),
        }
    }
    let missing = SnpAttester::new(Kernel::default(), Digest::of(b""), Some(Path::new("/nowhere/vcek")));
    assert!(missing.err().unwrap().to_string().contains("/nowhere/vcek: cannot be read"));
}

#[test]
fn the_kernels_files_are_used_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (entries, path): (_, PathBuf) = (Configfs::at(dir.path()), dir.path().join("one"));
    entries.make("one").unwrap();
    assert!(entries.make("one").is_err());
    // An attribute is never made, only written.
    assert_eq!(entries.write("one", "inblob", b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(entries.read("one", "auxblob", 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::write(path.join("inblob"), b"").unwrap();
    entries.write("one", "inblob", b"asked").unwrap();
    assert_eq!(entries.read("one", "inblob", 5).unwrap(), b"asked");
    // One byte more than wanted shows that there is more.
    assert_eq!(entries.read("one", "inblob", 3).unwrap(), b"aske");
    fs::remove_file(path.join("inblob")).unwrap();
    entries.remove("one").unwrap();
    assert!(!path.exists());
    // A folder that is not the kernel's has entries without attributes, and keeps none.
    let error = Tsm::new(entries).provider().unwrap_err().to_string();
    assert!(error.contains("reading provider failed"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
