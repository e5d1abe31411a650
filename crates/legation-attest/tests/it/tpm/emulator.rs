//! A TPM of its own for a test: `swtpm` with a CA in a temporary folder, driven by tpm2-tools. Gone with the value.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use legation_core::{
    claims::{TpmAnchor, TpmKey},
    encoding,
};
use tempfile::TempDir;

/// Persistent handles of the endorsement keys `swtpm_setup` makes, and where their certificates are.
pub(crate) const EK_RSA: (&str, &str) = ("0x81010001", "0x1c00002");
pub(crate) const EK_ECC: (&str, &str) = ("0x81010016", "0x1c00016");
const START: Duration = Duration::from_secs(10);

pub(crate) struct Emulator {
    folder: TempDir,
    process: Child,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Emulator {
    /// A new TPM with certified endorsement keys and banks of SHA-1, SHA-256 and SHA-384; none where the programs are
    /// missing.
    #[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
    pub(crate) fn start() -> Option<Self> {
        for program in ["swtpm", "swtpm_setup", "swtpm_localca", "tpm2_quote"] {
            if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                eprintln!("SKIPPED: no `{program}` here (packages swtpm, swtpm-tools and tpm2-tools)");
                return None;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["ca", "state"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let ca = path("ca");
        let authority = format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/serial\n"
        );
        let platform = "--platform-manufacturer Legation\n--platform-version 1\n--platform-model test\n";
        let (ca_file, options) = (path("ca.conf"), path("ca.options"));
        let tool = "/usr/bin/swtpm_localca";
        let setup = format!(
            "create_certs_tool = {tool}\ncreate_certs_tool_config = {ca_file}\ncreate_certs_tool_options = {options}\n"
        );
        for (name, text) in [("ca.conf", authority), ("ca.options", platform.to_owned()), ("setup.conf", setup)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        run(Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha1,sha256,sha384"])
            .args(["--tpm-state", &path("state"), "--config", &path("setup.conf")]));
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", path("state"))])
            .args(["--server", &format!("type=unixio,path={}", path("tpm"))])
            .args(["--ctrl", &format!("type=unixio,path={}", path("tpm.ctrl"))])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let emulator = Self { folder, process };
        let begin = Instant::now();
        while !(emulator.path("tpm").exists() && emulator.path("tpm.ctrl").exists()) {
            assert!(begin.elapsed() < START, "swtpm did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(emulator)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a tool of tpm2-tools; whether it succeeded.
    pub(crate) fn try_tool(&self, line: &[&str]) -> bool {
        self.command(line).output().unwrap().status.success()
    }

    /// Runs a tool of tpm2-tools, then forgets what it left loaded.
    pub(crate) fn tool(&self, line: &[&str]) {
        run(&mut self.command(line));
        // Nobody manages the emulator's few slots.
        run(&mut self.command(&["tpm2_flushcontext", "--transient-object"]));
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).current_dir(self.folder.path());
        command.env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.path("tpm").display())).env("TSS2_LOG", "all+none");
        command
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The root of its CA, for RSA endorsement keys.
    pub(crate) fn anchor(&self, name: &str, development: bool) -> TpmAnchor {
        let root = pem(&self.path("ca/swtpm-localca-rootca-cert.pem"));
        TpmAnchor { name: name.to_owned(), development, root, key: TpmKey::Rsa2048, attests: false, google: false }
    }

    /// Certificates of an endorsement key: from the TPM's memory, and of the authority that signed it.
    pub(crate) fn ek(&self, (_, index): (&str, &str)) -> Vec<Vec<u8>> {
        self.tool(&["tpm2_nvread", index, "-o", "ek.der"]);
        vec![self.read("ek.der"), pem(&self.path("ca/issuercert.pem"))]
    }

    /// `TPMT_PUBLIC` of a loaded or persistent key.
    pub(crate) fn public(&self, context: &str) -> Vec<u8> {
        self.tool(&["tpm2_readpublic", "-c", context, "-f", "tpmt", "-o", "public"]);
        self.read("public")
    }

    /// Makes an attestation key below the RSA endorsement key, in the context of this name.
    pub(crate) fn attestation_key(&self, context: &str, [kind, hash, scheme]: [&str; 3]) -> Vec<u8> {
        let keys = ["-C", EK_RSA.0, "-c", context, "-G", kind, "-g", hash, "-s", scheme];
        self.tool(&[&["tpm2_createak"][..], &keys, &["-u", "ak", "-f", "tpmt"]].concat());
        self.read("ak")
    }

    pub(crate) fn extend(&self, register: u8, digests: &[(&str, &[u8])]) {
        let list: Vec<_> = digests.iter().map(|(bank, digest)| format!("{bank}={}", encoding::hex(digest))).collect();
        self.tool(&["tpm2_pcrextend", &format!("{register}:{}", list.join(","))]);
    }

    /// Values of registers, in the order of the list, without anything between them.
    pub(crate) fn registers(&self, list: &str) -> Vec<u8> {
        self.tool(&["tpm2_pcrread", list, "-o", "values"]);
        self.read("values")
    }

    /// A quote and its signature.
    pub(crate) fn quote(&self, context: &str, list: &str, qualifying: &[u8], more: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let qualifying = encoding::hex(qualifying);
        let what =
            ["tpm2_quote", "-c", context, "-l", list, "-q", &qualifying, "-m", "quote", "-s", "sig", "-f", "tss"];
        self.tool(&[&what, more].concat());
        (self.read("quote"), self.read("sig"))
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stdout));
}

pub(crate) fn pem(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    let body: String = text.lines().skip_while(|l| !l.starts_with("-----B")).filter(|l| !l.starts_with('-')).collect();
    encoding::unbase64(&body).unwrap()
}
