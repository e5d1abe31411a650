//! The operator's root in a hardware security module: softhsm2's token, by the real binary. Each test has a token directory of its
//! own, which processes find by `SOFTHSM2_CONF`; the test's own process loads no module.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
    time::Duration,
};

use legation::{cloud::Cloud, root::TokenFile, setup};
use legation_core::{Envelope, PublicKey, claims::Anchors, statement::Appointment};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::world::{PROGRAM, Ran, SOON, eventually, finish, guest, program, signal};

/// Where Debian and others put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];
const TOKEN: &str = "operator";
/// Like nothing else that is ever printed.
const PIN: &str = "pin-4711-kolibri";

/// A folder with softhsm's tokens.
struct Hsm {
    dir: TempDir,
    module: &'static str,
}

impl Hsm {
    /// With one token; nothing where there is no softhsm2.
    fn new() -> Option<Self> {
        let module = MODULES.into_iter().find(|path| Path::new(path).exists());
        let tool = StdCommand::new("softhsm2-util").arg("--version").output().is_ok();
        let (Some(module), true) = (module, tool) else {
            eprintln!("SKIPPED: no `softhsm2-util` and its module here (Debian: softhsm2)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let tokens = dir.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nobjectstore.umask = 0077\nlog.level = ERROR\n",
            tokens.display()
        );
        fs::write(dir.path().join("softhsm2.conf"), conf).unwrap();
        let hsm = Self { dir, module };
        hsm.token(TOKEN);
        hsm.pin_file("pin", PIN);
        Some(hsm)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a token.
    fn token(&self, label: &str) {
        self.util(&["--init-token", "--free", "--label", label, "--so-pin", "so-pin-1234", "--pin", PIN]);
    }

    /// Puts a key that was made outside into the token.
    fn import(&self, label: &str, id: &str) {
        let file = self.path("imported.pem");
        let made = StdCommand::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&file).status();
        assert!(made.unwrap().success());
        let file = file.to_str().unwrap();
        self.util(&["--import", file, "--token", TOKEN, "--label", label, "--id", id, "--pin", PIN]);
    }

    fn util(&self, args: &[&str]) {
        let ran = StdCommand::new("softhsm2-util").args(args).env("SOFTHSM2_CONF", self.path("softhsm2.conf")).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "softhsm2-util {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn pin_file(&self, name: &str, pin: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("{pin}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts the binary where the tokens are known.
    fn spawn(&self, args: &[&str], env: &[(&str, &str)]) -> Child {
        let mut command = Command::new(PROGRAM);
        command.args(args).current_dir(self.dir.path()).env("HOME", self.dir.path());
        command.env_remove("LEGATION_HOME").env_remove("LEGATION_HSM_PIN");
        command.env("SOFTHSM2_CONF", self.path("softhsm2.conf")).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// `legation init DIR --hsm MODULE --token operator` and more.
    fn init<'a>(&self, dir: &'a str, more: &[&'a str]) -> Vec<String> {
        let args = [&["init", dir, "--hsm", self.module, "--token", TOKEN][..], more].concat();
        args.into_iter().map(str::to_owned).collect()
    }

    async fn run(&self, args: &[impl AsRef<str>], env: &[(&str, &str)]) -> Ran {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        let ran = finish(self.spawn(&args, env)).await;
        assert!(!ran.out().contains(PIN) && !ran.stderr.contains(PIN), "the PIN is shown: {ran:?}");
        ran
    }
}

fn anchors(folder: &Path) -> Anchors {
    serde_json::from_slice(&fs::read(folder.join("anchors.json")).unwrap()).unwrap()
}

fn described(folder: &Path) -> TokenFile {
    toml::from_str(&fs::read_to_string(folder.join("operator.hsm.toml")).unwrap()).unwrap()
}

fn appointed(file: &Path, by: PublicKey) {
    let envelope: Envelope = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    envelope.open_by::<Appointment>(&by).unwrap();
}

/// Everything in files under a folder.
fn contents(folder: &Path) -> Vec<u8> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { contents(&path) } else { fs::read(path).unwrap() }).collect()
}

#[tokio::test]
async fn a_root_in_a_token_appoints_all_that_a_receipt_rests_on() {
    let Some(hsm) = Hsm::new() else { return };
    let made = hsm.run(&hsm.init("cloud", &["--pin-file", "pin"]), &[]).await.ended(0, &["DEVELOPMENT"]);
    assert!(!made.stderr.contains("WARNING"), "{}", made.stderr);
    let cloud = hsm.path("cloud");
    let file = described(&cloud);
    assert!(!cloud.join("operator.key").exists());
    assert_eq!((file.token.as_str(), file.key.as_str()), (TOKEN, "legation-root"));
    assert_eq!(file.pin_file, Some(hsm.path("pin").canonicalize().unwrap()));
    assert_eq!(anchors(&cloud).operators, [file.public_key]);
    for name in ["manager", "verifier"] {
        appointed(&cloud.join(format!("manager/{name}.appointment.json")), file.public_key);
    }
    let all = contents(&cloud);
    assert!(!all.windows(PIN.len()).any(|window| window == PIN.as_bytes()), "the PIN is in a file");

    // Later it appoints a verifier, by its description alone.
    let operator = ["--anchors", "cloud/anchors.json", "--operator", "cloud/operator.hsm.toml"];
    hsm.run(&[&["verifier", "init", "second"][..], &operator].concat(), &[]).await.ended(0, &[]);
    appointed(&hsm.path("second/appointment.json"), file.public_key);

    // The token is for the root alone: nothing that runs needs it, and agents, clients and readers accept what it signed.
    fs::rename(hsm.path("tokens"), hsm.path("in-the-safe")).unwrap();
    for (name, _) in setup::open(&cloud).unwrap().agents.iter().skip(1) {
        fs::remove_dir_all(cloud.join("agents").join(name)).unwrap();
    }
    let deployment = setup::open(&cloud).unwrap();
    let home = deployment.client.clone();
    let mut running = Cloud::new(deployment, Path::new(PROGRAM)).unwrap();
    running.start().unwrap();
    running.ready(1, SOON, |_| ()).await.unwrap();
    fs::write(hsm.path("input"), "appointed by a token").unwrap();
    let args = ["run", &guest("echo"), "--input", "input", "--receipt", "receipt.json"];
    let ran = program(hsm.dir.path(), Some(&home), &args).await.ended(0, &[]);
    assert_eq!(ran.out(), "appointed by a token");
    let args = ["receipt", "verify", "receipt.json", "--anchors", "cloud/anchors.json"];
    program(hsm.dir.path(), None, &args).await.ended(0, &[]);
    tokio::time::timeout(Duration::from_secs(30), running.stop()).await.unwrap();

    // Without the token there is no appointment, and nothing is half-made.
    let args = [&["verifier", "init", "third"][..], &operator].concat();
    hsm.run(&args, &[]).await.ended(1, &["does not start"]);
    assert!(!hsm.path("third").exists());
}

#[tokio::test]
async fn one_root_serves_two_deployments_and_is_never_made_twice() {
    let Some(hsm) = Hsm::new() else { return };
    let pin = [("LEGATION_HSM_PIN", PIN)];
    hsm.run(&hsm.init("first", &[]), &pin).await.ended(0, &[]);
    let first = described(&hsm.path("first"));
    assert_eq!(first.pin_file, None);
    let again = hsm.init("second", &[]);
    hsm.run(&again, &pin).await.ended(2, &["holds a key \"legation-root\" already", "--root-exists"]);
    assert!(!hsm.path("second/anchors.json").exists());
    hsm.run(&hsm.init("second", &["--root-exists"]), &pin).await.ended(0, &[]);
    assert_eq!(described(&hsm.path("second")), first);
    // Another key is another root.
    hsm.run(&hsm.init("third", &["--root-key", "another"]), &pin).await.ended(0, &[]);
    let third = described(&hsm.path("third"));
    assert_ne!(third.public_key, first.public_key);
    // A description whose key is another one's is not believed.
    let mixed = toml::to_string(&TokenFile { key: "another".to_owned(), ..first }).unwrap();
    fs::write(hsm.path("mixed.toml"), mixed).unwrap();
    fs::set_permissions(hsm.path("mixed.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let args = ["verifier", "init", "v", "--anchors", "first/anchors.json", "--operator", "mixed.toml"];
    hsm.run(&args, &pin).await.ended(2, &["mixed.toml", "key \"another\"", "expected"]);
    // Nor is one followed that others may write: it names a library that is loaded.
    fs::set_permissions(hsm.path("mixed.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    hsm.run(&args, &pin).await.ended(2, &["mixed.toml", "chmod go-w"]);
    // The root of another deployment appoints nobody here.
    let args = ["verifier", "init", "v", "--anchors", "first/anchors.json", "--operator", "third/operator.hsm.toml"];
    hsm.run(&args, &pin).await.ended(2, &["not the key of an operator"]);
    assert!(!hsm.path("v").exists());
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_and_nothing_is_made() {
    let Some(hsm) = Hsm::new() else { return };
    let pin = hsm.path("pin").to_str().unwrap().to_owned();
    let with = |more: &[&str]| hsm.init("cloud", more);
    let (module, none) = (hsm.module, hsm.path("none.so").to_str().unwrap().to_owned());
    let text = hsm.pin_file("text.so", "this is no library");
    let (wrong, empty, open) = (hsm.pin_file("wrong", "1234"), hsm.pin_file("empty", ""), hsm.pin_file("open", PIN));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let on = |module: &str, token: &str| {
        ["init", "cloud", "--hsm", module, "--token", token, "--pin-file", &pin].map(str::to_owned).to_vec()
    };
    let long = "x".repeat(33);
    for (args, code, said) in [
        (on(&none, TOKEN), 2, &["none.so cannot be loaded"][..]),
        (on(&text, TOKEN), 2, &["text.so cannot be loaded"]),
        // A library, and not one that speaks PKCS#11.
        (on("/usr/lib/x86_64-linux-gnu/libc.so.6", TOKEN), 2, &["cannot be loaded"]),
        (on(module, "nobody's"), 2, &["no token \"nobody's\"", "there is \"operator\""]),
        (on(module, &long), 2, &["1 to 32 bytes, not 33"]),
        (with(&["--pin-file", &wrong]), 2, &["refuses the PIN"]),
        (with(&["--pin-file", &open]), 2, &["chmod 600"]),
        (with(&["--pin-file", &empty]), 2, &["it is empty"]),
        (with(&["--pin-file", "no-such-file"]), 2, &["no-such-file"]),
        (with(&[]), 2, &["no PIN", "LEGATION_HSM_PIN"]),
        (with(&["--pin-file", &pin, "--root-exists"]), 2, &["no Ed25519 private key \"legation-root\""]),
        (with(&["--pin-file", &pin, "--token-serial", "0000"]), 2, &["with the serial number 0000"]),
    ] {
        hsm.run(&args, &[]).await.ended(code, said);
        assert!(!hsm.path("cloud/anchors.json").exists(), "{args:?}");
    }
    // softhsm says nothing of the first wrong PINs, and real tokens count them: each try above was one.
    let lost = [("SOFTHSM2_CONF", "/nonexistent")];
    hsm.run(&with(&["--pin-file", &pin]), &lost).await.ended(1, &["does not start", "is it configured?"]);

    // A key that was outside is none, whatever it says of itself now; nor is one of two of the same name.
    hsm.import("legation-root", "a1");
    let exists = ["--pin-file", &pin, "--root-exists"];
    hsm.run(&with(&exists), &[]).await.ended(2, &["may have been outside", "CKA_LOCAL is not true"]);
    hsm.import("legation-root", "a2");
    hsm.run(&with(&exists), &[]).await.ended(2, &["2 Ed25519 private keys \"legation-root\""]);
    hsm.run(&with(&exists[..2]), &[]).await.ended(2, &["already"]);

    // Of two tokens with one label, the serial number says which.
    hsm.token(TOKEN);
    let named = ["--pin-file", &pin, "--root-key", "fresh"];
    let said = hsm.run(&with(&named), &[]).await.ended(2, &["2 tokens are labelled \"operator\"", "--token-serial"]);
    let serials = said.stderr.split("serial numbers ").nth(1).and_then(|rest| rest.split(": name").next()).unwrap();
    let serial = serials.split(", ").next().unwrap();
    hsm.run(&with(&[&named[..], &["--token-serial", serial]].concat()), &[]).await.ended(0, &[]);
    assert_eq!(described(&hsm.path("cloud")).serial, serial);
}

/// The key is made, hardware is being made, and then the token goes, before it has appointed anybody. When it is back, the same
/// command goes on with the same key.
#[tokio::test]
async fn a_token_that_is_removed_in_the_midst_is_missed_and_init_can_be_given_again() {
    let Some(hsm) = Hsm::new() else { return };
    let args = hsm.init("cloud", &["--pin-file", "pin"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let init = hsm.spawn(&args, &[]);
    let process = init.id().unwrap();
    eventually("the key is made", SOON, async || hsm.path("cloud/operator.hsm.toml").exists().then_some(())).await;
    signal(process, "STOP").await;
    assert!(!hsm.path("cloud/manager").exists(), "it was quicker than this test");
    fs::rename(hsm.path("tokens"), hsm.path("removed")).unwrap();
    signal(process, "CONT").await;
    finish(init).await.ended(1, &["token \"operator\" does not answer any more", "was it removed?"]);
    // What was half-made is gone, but for what describes the key.
    let left = || fs::read_dir(hsm.path("cloud")).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(left(), ["operator.hsm.toml"]);
    let root = described(&hsm.path("cloud")).public_key;
    // A root in a file would be a second one.
    program(hsm.dir.path(), None, &["init", "cloud"]).await.ended(2, &["operator.hsm.toml is there already"]);
    // Nor is another key of the token taken for it.
    fs::rename(hsm.path("removed"), hsm.path("tokens")).unwrap();
    let other = hsm.init("other", &["--pin-file", "pin", "--root-key", "another"]);
    hsm.run(&other, &[]).await.ended(0, &[]);
    let wrong = hsm.init("cloud", &["--pin-file", "pin", "--root-key", "another"]);
    hsm.run(&wrong, &[]).await.ended(2, &["operator.hsm.toml", "key \"another\"", "expected"]);
    assert_eq!(left(), ["operator.hsm.toml"]);
    hsm.run(&args, &[]).await.ended(0, &["DEVELOPMENT"]);
    assert_eq!(described(&hsm.path("cloud")).public_key, root);
    assert_eq!(anchors(&hsm.path("cloud")).operators, [root]);
    appointed(&hsm.path("cloud/manager/manager.appointment.json"), root);
}

#[tokio::test]
async fn a_root_in_a_file_comes_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let said = program(dir.path(), None, &["init", "cloud"]).await;
    said.ended(
        0,
        &["WARNING: the operator's root is a file", "operator.key", "IN THE CLEAR", "--passphrase-file", "--hsm"],
    );
    program(dir.path(), None, &["init", "other", "--token", "t"]).await.ended(2, &["--hsm"]);
}

#[tokio::test]
async fn a_root_in_a_file_can_be_sealed_by_a_passphrase() {
    const PASSPHRASE: &str = "a long one: kolibri 4711";
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let passphrase = |text: &str, mode: u32| {
        fs::write(at("passphrase"), text).unwrap();
        fs::set_permissions(at("passphrase"), fs::Permissions::from_mode(mode)).unwrap();
    };
    let run = async |args: &[&str]| {
        let ran = program(dir.path(), None, args).await;
        assert!(
            !ran.out().contains(PASSPHRASE) && !ran.stderr.contains(PASSPHRASE),
            "the passphrase is shown: {ran:?}"
        );
        ran
    };
    let init = ["init", "cloud", "--passphrase-file", "passphrase"];
    for (text, mode, why) in
        [("short\n", 0o600, "shorter than 12 bytes"), (PASSPHRASE, 0o644, "chmod 600"), ("", 0o600, "it is empty")]
    {
        passphrase(text, mode);
        run(&init[..]).await.ended(2, &[why]);
        assert_eq!(fs::read_dir(at("cloud")).unwrap().count(), 0, "{why}");
    }
    passphrase(PASSPHRASE, 0o600);
    let both = [&init[..], &["--hsm", "/none.so", "--token", "t"]].concat();
    run(&both[..]).await.ended(2, &["cannot be used with"]);
    run(&init[..]).await.ended(0, &["WARNING: the operator's root is a file", "sealed by a passphrase"]);
    let all = contents(&at("cloud"));
    assert!(
        !all.windows(PASSPHRASE.len()).any(|window| window == PASSPHRASE.as_bytes()),
        "the passphrase is in a file"
    );
    let root = anchors(&at("cloud")).operators[0];
    let verifier =
        ["verifier", "init", "second", "--anchors", "cloud/anchors.json", "--operator", "cloud/operator.key"];
    passphrase("not that one, though long", 0o600);
    run(&verifier[..]).await.ended(2, &["operator.key", "does not open it"]);
    assert!(!at("second").exists());
    passphrase(PASSPHRASE, 0o600);
    run(&verifier[..]).await.ended(0, &[]);
    appointed(&at("second/appointment.json"), root);
}

#[tokio::test]
async fn a_deployment_that_somebody_killed_in_the_midst_is_not_mixed_with_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("cloud/agents/aurora-1")).unwrap();
    for command in [&["init", "cloud"][..], &["dev", "--data", "cloud"]] {
        let said = program(dir.path(), None, command).await;
        said.ended(2, &["a part of a deployment that was never finished: agents", "choose another folder"]);
    }
    assert!(!dir.path().join("cloud/operator.key").exists());
}
