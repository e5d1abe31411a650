//! Emulated TPMs for development: `swtpm`, manufactured under an authority of the deployment's own. They prove the protocol, never
//! confidentiality: the authority's key lies beside them.
//!
//! ```text
//! DIR/tpm-ca/             the authority: swtpm_localca's keys and certificates, its configuration
//! DIR/agents/NAME/tpm/    the state of one TPM as it left the factory
//! DIR/agents/NAME/tpm-run/   its state while it runs: a copy, made anew at each start, as if the machine had been reset
//! ```
//! A TPM that was killed no longer vouches for its clock; one that starts from the factory's state does.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use legation_agent::attester::tpm::OWN_REGISTER;
use legation_attest::tpm::{self, HashAlg, Pcrs};
use legation_core::{
    Digest, DigestWriter,
    claims::{TpmAnchor, TpmKey},
    encoding,
};
use legation_keys::Entropy;
use legation_net::OsEntropy;
use tokio::process::{Child, Command};

use crate::exit::{Exit, Failure};

/// Name of the root in anchor files and verdicts.
pub const ROOT_NAME: &str = "local-swtpm";
/// File of the certificate between the root and those of the TPMs, in the folder of the authority.
pub const INTERMEDIATE: &str = "issuercert.pem";
/// First port of the emulators of a deployment; each has two.
const PORT_FIRST: u16 = 24_500;
/// How long an emulator may take to answer.
const START: Duration = Duration::from_secs(10);
const PROGRAMS: [&str; 3] = ["swtpm", "swtpm_setup", "swtpm_localca"];
/// A register of SHA-256 that nothing was measured into.
const REGISTER: [u8; 32] = [0; 32];

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, format!("{what}: {error}"))
}

/// The authority of a deployment that certifies its emulated TPMs.
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Prepares one in `folder`, which is made. Its keys come with the first TPM.
    ///
    /// # Errors
    /// Programs are missing, or the disk failed.
    pub fn prepare(folder: &Path) -> Result<Self, Failure> {
        let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| found(program).is_none()).collect();
        if !missing.is_empty() {
            let text =
                format!("no {} here; install swtpm (Debian: apt-get install swtpm swtpm-tools)", missing.join(", "));
            return Err(Failure::new(Exit::Usage, text));
        }
        let wrong = |e: &dyn std::fmt::Display| failed("authority of the emulated TPMs", e);
        fs::create_dir_all(folder).map_err(|e| wrong(&e))?;
        let at = |name: &str| folder.join(name).display().to_string();
        let tool = found("swtpm_localca").unwrap_or_default().display().to_string();
        let authority = format!(
            "statedir = {dir}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
            at("signkey.pem"),
            at(INTERMEDIATE),
            at("serial"),
            dir = folder.display(),
        );
        let setup = format!(
            "create_certs_tool = {tool}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
            at("localca.conf"),
            at("localca.options"),
        );
        for (name, text) in [("localca.conf", authority), ("localca.options", String::new()), ("setup.conf", setup)] {
            fs::write(folder.join(name), text).map_err(|e| wrong(&e))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Makes a TPM in the new folder `state`, with a certificate of its endorsement keys.
    ///
    /// # Errors
    /// `swtpm_setup` failed; what it said is in the error.
    pub fn manufacture(&self, state: &Path) -> Result<(), Failure> {
        fs::create_dir_all(state).map_err(|e| failed("emulated TPM", &e))?;
        let output = std::process::Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256", "--tpm-state"])
            .arg(state)
            .arg("--config")
            .arg(self.folder.join("setup.conf"))
            .stdin(Stdio::null())
            .output()
            .map_err(|e| failed("swtpm_setup", &e))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let tail: Vec<_> = said.lines().rev().take(5).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
        Err(failed("swtpm_setup failed; its last words", &tail))
    }

    /// The root, for an anchor file. There is one once a TPM was made.
    ///
    /// # Errors
    /// There is none yet.
    pub fn anchor(&self) -> Result<TpmAnchor, Failure> {
        let file = self.folder.join("swtpm-localca-rootca-cert.pem");
        let wrong = |e: &dyn std::fmt::Display| failed(&file.display().to_string(), e);
        let text = fs::read_to_string(&file).map_err(|e| wrong(&e))?;
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let root = encoding::unbase64(&body).map_err(|e| wrong(&e))?;
        Ok(TpmAnchor {
            name: ROOT_NAME.to_owned(),
            development: true,
            root,
            key: TpmKey::EccP384,
            attests: false,
            google: false,
        })
    }
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Where the emulators of one deployment listen: a loopback address drawn at random, so that deployments do not meet, and two ports
/// each. Everybody on this machine reaches them: they are for development.
#[derive(Clone, Copy, Debug)]
pub struct Addresses(Ipv4Addr);

impl Addresses {
    /// Draws an address.
    pub fn draw() -> Self {
        let mut bytes = [0; 3];
        OsEntropy.fill(&mut bytes);
        Self(Ipv4Addr::new(127, bytes[0] | 1, bytes[1], bytes[2].clamp(1, 254)))
    }

    /// Address and port of the emulator with this number; nothing when there are too many.
    pub fn of(self, number: usize) -> Option<(Ipv4Addr, u16)> {
        let offset = u16::try_from(number.checked_mul(2)?).ok()?;
        Some((self.0, PORT_FIRST.checked_add(offset)?))
    }
}

/// The measurement of an agent whose executable is `image` on a fresh emulator: [`tpm::measurement`] of registers 0 to 7 of SHA-256,
/// which are zeros since no firmware runs there, and register 16, which is zeros extended by the SHA-256 of the executable.
///
/// # Errors
/// The image cannot be read.
pub fn measurement(image: &Path) -> std::io::Result<String> {
    let mut own = DigestWriter::new();
    let mut file = fs::File::open(image)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut chunk)? {
            0 => break,
            n => own.update(&chunk[..n]),
        }
    }
    let own = Digest::of_parts(&[&REGISTER, own.finish().as_bytes()]);
    let mut values: BTreeMap<u8, Vec<u8>> =
        tpm::DEMANDED.iter().map(|register| (*register, REGISTER.to_vec())).collect();
    values.insert(OWN_REGISTER, own.as_bytes().to_vec());
    Ok(tpm::measurement(&Pcrs::from([(HashAlg::Sha256, values)])).to_string())
}

/// Starts the TPM of `folder` (one with `tpm` in it) and waits until it answers. It is killed when the process is dropped.
///
/// # Errors
/// It cannot be started, or does not answer in time.
pub fn start(folder: &Path, host: &str, port: u16, log: &Path) -> Result<Child, Failure> {
    let wrong = |e: &dyn std::fmt::Display| failed("emulated TPM cannot be started", e);
    let (made, run) = (folder.join("tpm"), folder.join("tpm-run"));
    if run.exists() {
        fs::remove_dir_all(&run).map_err(|e| wrong(&e))?;
    }
    fs::create_dir(&run).map_err(|e| wrong(&e))?;
    for entry in fs::read_dir(&made).map_err(|e| wrong(&e))? {
        let entry = entry.map_err(|e| wrong(&e))?;
        fs::copy(entry.path(), run.join(entry.file_name())).map_err(|e| wrong(&e))?;
    }
    let control = port.checked_add(1).ok_or_else(|| wrong(&"the port has none above it"))?;
    if TcpStream::connect((host, control)).is_ok() {
        return Err(wrong(&format!("somebody listens on {host}:{control} already")));
    }
    let log = fs::File::options().create(true).append(true).open(log).map_err(|e| wrong(&e))?;
    let mut child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
        .arg(format!("dir={}", run.display()))
        .args(["--server", &format!("type=tcp,port={port},bindaddr={host}")])
        .args(["--ctrl", &format!("type=tcp,port={control},bindaddr={host}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .process_group(0)
        .spawn()
        .map_err(|e| wrong(&e))?;
    let begun = Instant::now();
    while TcpStream::connect((host, control)).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(wrong(&format!("it ended ({status}); see its log")));
        }
        if begun.elapsed() > START {
            return Err(wrong(&format!("it does not answer on {host}:{control}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}
