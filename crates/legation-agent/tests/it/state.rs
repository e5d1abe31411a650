//! Sealed state on a disk that nobody trusts: what outlasts a restart, what is refused, and what nobody reads.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use legation_agent::{
    attester::{AttestError, Attester, DevelopmentAttester},
    custody::keep::Keep,
    state::{Disk, FILE_MAX, Flaw, IDENTITIES_MAX, KEPT_MAX, PURPOSE_MAX, State, StateConfig, StateError},
};
use legation_attest::dev::Chip;
use legation_core::{
    Digest, ProviderId, Signed, Signer,
    claims::{Evidence, TeeKind},
    custody::{Called, Committee, Epoch, Generation, Incarnations, Return, SwarmPublicKey, Threshold},
};
use legation_keys::IdentityKey;
use zeroize::Zeroizing;

use crate::world::{CLIENT, ENCLAVE, SECOND, STRANGER, UPSTREAM, identity, key, root, sign};

const PURPOSE: &str = "custody.main";
const FILE: &str = "custody.main.sealed";
const SECRET: &[u8] = b"a share that nobody else reads";

/// The same chip each time, read from its file anew as by the next boot.
fn attester(program: &[u8]) -> DevelopmentAttester {
    static CHIP: LazyLock<Zeroizing<Vec<u8>>> = LazyLock::new(|| root().chip(31).to_pem().unwrap());
    DevelopmentAttester::of(Chip::from_pem(&CHIP).unwrap(), Digest::of(program))
}

fn open(dir: &Path) -> Result<State, StateError> {
    State::open(&StateConfig { dir: dir.to_owned() }, PURPOSE, &attester(b"agent"))
}

fn told(result: Result<State, StateError>) -> String {
    result.unwrap_err().to_string()
}

fn kept(state: &mut State) -> Option<Vec<u8>> {
    state.load().unwrap().map(|kept| kept.to_vec())
}

/// What a disk in memory does next.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    /// There is room for half of it.
    Full,
    /// Nothing is put in the place of anything.
    Stuck,
    /// It is put in its place, and that is not said.
    Unsaid,
}

#[derive(Default)]
struct Platter {
    file: Option<Vec<u8>>,
    aside: Option<Vec<u8>>,
    fault: Fault,
}

/// A disk in memory that outlasts agents.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Platter>>);

impl Memory {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        self.platter().file.clone().unwrap()
    }

    fn put(&self, bytes: &[u8]) {
        self.platter().file = Some(bytes.to_vec());
    }

    fn open(&self, attester: &DevelopmentAttester) -> Result<State, StateError> {
        State::open_on(Box::new(self.clone()), PURPOSE, attester.sealer().unwrap())
    }

    fn flaw(&self, attester: &DevelopmentAttester) -> Flaw {
        match self.open(attester) {
            Err(StateError::File { flaw, .. }) => flaw,
            other => panic!("{other:?}"),
        }
    }
}

impl Disk for Memory {
    fn folder(&self) -> &Path {
        Path::new("memory")
    }

    fn read(&mut self, _: &str, most: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(self.platter().file.as_ref().map(|file| Zeroizing::new(file[..file.len().min(most + 1)].to_vec())))
    }

    fn write_aside(&mut self, _: &str, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.fault == Fault::Full {
            platter.aside = Some(bytes[..bytes.len() / 2].to_vec());
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.aside = Some(bytes.to_vec());
        Ok(())
    }

    fn rename(&mut self, _: &str) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.fault == Fault::Stuck {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        platter.file = platter.aside.take();
        if platter.fault == Fault::Unsaid { Err(io::Error::other("the folder was not written")) } else { Ok(()) }
    }
}

#[test]
fn what_is_kept_outlasts_restarts_and_each_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new").join("state");
    let (first, second) = (Arc::new(identity(CLIENT)), Arc::new(identity(ENCLAVE)));
    let mut state = open(&folder).unwrap();
    assert_eq!((state.incarnation(), state.sealed_to()), (1, TeeKind::DevSnp));
    assert_eq!((kept(&mut state), state.identities().count()), (None, 0));
    state.keep_identity(&first).unwrap();
    state.store(b"something before it").unwrap();
    state.store(SECRET).unwrap();
    assert_eq!(kept(&mut state).as_deref(), Some(SECRET));
    drop(state);

    let mut state = open(&folder).unwrap();
    assert_eq!((state.incarnation(), kept(&mut state).as_deref()), (2, Some(SECRET)));
    let again = state.identity(key(CLIENT)).unwrap();
    assert_eq!(again.sign(b"a return").0, first.sign(b"a return").0);
    assert!(state.identity(key(ENCLAVE)).is_none());
    state.keep_identity(&second).unwrap();
    state.keep_identity(&second).unwrap();
    assert_eq!(state.identities().collect::<Vec<_>>(), [key(CLIENT), key(ENCLAVE)]);
    state.forget_identities(|identity| identity == key(ENCLAVE)).unwrap();
    drop(state);

    // Nothing kept is something else than nothing there.
    let mut state = open(&folder).unwrap();
    assert_eq!((state.incarnation(), kept(&mut state).as_deref()), (3, Some(SECRET)));
    assert_eq!(state.identities().collect::<Vec<_>>(), [key(ENCLAVE)]);
    state.store(b"").unwrap();
    drop(state);
    let mut state = open(&folder).unwrap();
    assert_eq!(kept(&mut state), Some(Vec::new()));

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE], "nothing is left beside it");
}

#[test]
fn another_program_or_chip_opens_nothing() {
    let disk = Memory::default();
    let own = attester(b"agent");
    disk.open(&own).unwrap().store(SECRET).unwrap();
    let before = disk.bytes();
    assert_eq!(disk.flaw(&attester(b"another agent")), Flaw::Key);
    let other = DevelopmentAttester::of(root().chip(31), Digest::of(b"agent"));
    assert_eq!(disk.flaw(&other), Flaw::Key, "of the same name, with another key");
    let told = told(disk.open(&other));
    assert!(told.starts_with("memory/custody.main.sealed: key of sealed state: expected this one's"), "{told}");
    assert!(told.contains("start the program that sealed it, on its machine"), "{told}");
    // It is as it was, and such tries are not counted.
    assert_eq!(disk.bytes(), before);
    let mut state = disk.open(&own).unwrap();
    assert_eq!((state.incarnation(), kept(&mut state).as_deref()), (2, Some(SECRET)));
}

#[test]
fn a_torn_or_altered_file_is_an_error_and_never_taken_for_none() {
    let disk = Memory::default();
    let own = attester(b"agent");
    let mut state = disk.open(&own).unwrap();
    state.keep_identity(&Arc::new(identity(CLIENT))).unwrap();
    state.store(SECRET).unwrap();
    let whole = disk.bytes();
    let foreign = |flaw: &Flaw| matches!(flaw, Flaw::Key | Flaw::Altered);
    for at in 0..whole.len() {
        // Torn by a loss of power: cut, or its end never written.
        disk.put(&whole[..at]);
        let flaw = disk.flaw(&own);
        assert!(matches!(flaw, Flaw::Torn { got, .. } if got == at), "cut at {at}: {flaw}");
        let mut zeros = whole.clone();
        zeros[at..].fill(0);
        if zeros != whole {
            disk.put(&zeros);
            disk.flaw(&own);
        }
        for bit in [1, 0x80] {
            let mut altered = whole.clone();
            altered[at] ^= bit;
            disk.put(&altered);
            let flaw = disk.flaw(&own);
            // What is sealed is at the end, with nonce and length before it.
            assert!(at < whole.len() - SECRET.len() - 16 || foreign(&flaw), "byte {at}: {flaw}");
        }
    }
    disk.put(&[&whole[..], b"x"].concat());
    assert!(matches!(disk.flaw(&own), Flaw::Torn { .. }));
    disk.put(b"[state]\ndir = \"elsewhere\"\n");
    assert_eq!(disk.flaw(&own), Flaw::Other);
    let mut newer = whole.clone();
    newer[15] = 2;
    disk.put(&newer);
    assert_eq!(disk.flaw(&own), Flaw::Version(2));
    // The count stands in the open, and is sealed all the same.
    let count = [&[PURPOSE.len() as u8][..], PURPOSE.as_bytes()].concat();
    let at = whole.windows(count.len()).position(|window| window == count).unwrap() + count.len();
    assert_eq!(whole[at..at + 8], 1u64.to_be_bytes());
    let mut raised = whole.clone();
    raised[at + 7] = 9;
    disk.put(&raised);
    assert_eq!(disk.flaw(&own), Flaw::Altered);
    let said = told(disk.open(&own));
    assert!(said.contains("altered: what is sealed is not authentic") && said.contains("remove it"), "{said}");
    disk.put(&whole);
    assert_eq!(kept(&mut disk.open(&own).unwrap()).as_deref(), Some(SECRET));
}

/// Three of whom two open: ENCLAVE and two that only listen.
fn committee() -> Committee {
    let provider = ProviderId::new("alder").unwrap();
    let member = |seed: u8| Called { enclave: key(seed).enclave_id(), provider: provider.clone() };
    let mut members = vec![member(CLIENT), member(ENCLAVE), member(SECOND)];
    members.sort_by_key(|member| member.enclave);
    Committee {
        call: Digest::of(b"call"),
        ceremony: Digest::of(b"ceremony"),
        epoch: Epoch(1),
        generation: Generation(0),
        roster: Digest::of(b"roster"),
        key: SwarmPublicKey::from_bytes([7; SwarmPublicKey::LEN]),
        threshold: Threshold::new(2, 3).unwrap(),
        members,
    }
}

/// What a boot with this state says to its peers.
fn returns(state: &State, boot: u8) -> Signed<Return> {
    let was = state.identity(key(ENCLAVE)).unwrap();
    sign(Return::new(&committee(), (key(boot), Digest::of(b"passport")), state.incarnation(), &*was))
}

#[test]
fn a_disk_that_was_put_back_counts_less_than_its_peers_know() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, copy) = (dir.path().join("state"), dir.path().join("copy"));
    let mut state = open(&folder).unwrap();
    state.keep_identity(&Arc::new(identity(ENCLAVE))).unwrap();
    state.store(SECRET).unwrap();
    drop(state);
    fs::copy(folder.join(FILE), &copy).unwrap();

    let mut peer = Incarnations::default();
    let mut hear = |word: &Signed<Return>| {
        peer.hear(word, &committee(), key(CLIENT)).map(|ack| ack.incarnation).map_err(|why| why.check)
    };
    let second = open(&folder).unwrap();
    assert_eq!(hear(&returns(&second, UPSTREAM)), Ok(2));
    drop(second);
    let mut third = open(&folder).unwrap();
    assert_eq!(hear(&returns(&third, STRANGER)), Ok(3));
    third.store(b"handed over").unwrap();
    drop(third);

    // It opens, as it was: sealed by this program on this machine. Its peers know more.
    fs::copy(&copy, folder.join(FILE)).unwrap();
    let mut old = open(&folder).unwrap();
    assert_eq!((old.incarnation(), kept(&mut old).as_deref()), (2, Some(SECRET)));
    assert_eq!(hear(&returns(&old, SECOND)), Err("custody.rollback".to_owned()));
}

#[test]
fn a_disk_that_fails_loses_nothing_and_nothing_is_given_out() {
    let disk = Memory::default();
    let own = attester(b"agent");
    let fault = |fault| disk.platter().fault = fault;
    // Not even a beginning.
    fault(Fault::Full);
    let said = told(disk.open(&own));
    assert!(said.contains("cannot be written") && said.contains("make room"), "{said}");
    fault(Fault::None);
    let mut state = disk.open(&own).unwrap();
    assert_eq!(state.incarnation(), 1);
    state.store(SECRET).unwrap();
    for (bad, what) in [(Fault::Full, "written"), (Fault::Stuck, "put in its place")] {
        fault(bad);
        let before = disk.bytes();
        let said = state.store(b"more").unwrap_err().to_string();
        assert!(said.contains(&format!("cannot be {what}")), "{said}");
        assert!(state.keep_identity(&Arc::new(identity(CLIENT))).is_err());
        // As it was, here and there.
        assert_eq!((kept(&mut state).as_deref(), state.identities().count()), (Some(SECRET), 0));
        assert_eq!(disk.bytes(), before);
        // Who cannot count that it came back does not come back.
        assert!(matches!(disk.open(&own), Err(StateError::Disk { .. })));
    }
    // Written, as far as anybody knows not for good: who keeps it may not rest on it, and what is there is whole.
    fault(Fault::Unsaid);
    state.store(b"more").unwrap_err();
    assert_eq!(kept(&mut state).as_deref(), Some(SECRET));
    fault(Fault::None);
    state.keep_identity(&Arc::new(identity(CLIENT))).unwrap();
    let mut state = disk.open(&own).unwrap();
    assert_eq!((state.incarnation(), kept(&mut state).as_deref()), (2, Some(SECRET)));
    assert_eq!(state.identities().collect::<Vec<_>>(), [key(CLIENT)]);
}

#[test]
fn a_folder_is_one_agents_and_nobody_elses_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state");
    let state = open(&folder).unwrap();
    assert!(told(open(&folder)).contains("another agent has it"));
    drop(state);
    // What an agent that lost its power left beside the file is of no account.
    fs::write(folder.join(format!("{FILE}.new")), b"half").unwrap();
    assert_eq!(open(&folder).unwrap().incarnation(), 2);

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(told(open(&folder)).contains("others may write there"));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let link = dir.path().join("link");
    symlink(&folder, &link).unwrap();
    assert!(told(open(&link)).contains("it is a link"));
    fs::write(dir.path().join("file"), b"").unwrap();
    assert!(matches!(open(&dir.path().join("file")), Err(StateError::Folder { .. })));

    // No file, and too large a file.
    let place = folder.join(FILE);
    let sealed = fs::read(&place).unwrap();
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    assert!(told(open(&folder)).contains("it is no file"));
    fs::remove_dir(&place).unwrap();
    fs::File::create(&place).unwrap().set_len(FILE_MAX as u64 + 1).unwrap();
    assert!(told(open(&folder)).contains("too large"));
    fs::write(&place, &sealed).unwrap();

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(folder.join("probe"), b"").is_ok() {
        eprintln!("SKIPPED: a read-only folder stops this user from nothing (root)");
    } else {
        assert!(told(open(&folder)).contains("cannot be written"));
        assert_eq!(fs::read(&place).unwrap(), sealed);
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(open(&folder).unwrap().incarnation(), 3);
}

#[test]
fn state_for_one_purpose_is_none_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let config = StateConfig { dir: dir.path().to_owned() };
    let own = attester(b"agent");
    let at = |purpose: &str| State::open(&config, purpose, &own);
    at(PURPOSE).unwrap().store(SECRET).unwrap();
    assert_eq!(kept(&mut at("custody.other").unwrap()), None);
    fs::copy(dir.path().join(FILE), dir.path().join("custody.other.sealed")).unwrap();
    let said = told(at("custody.other"));
    assert!(said.contains("purpose of sealed state: expected custody.other, got custody.main"), "{said}");
    let long = "x".repeat(PURPOSE_MAX + 1);
    for bad in ["", ".", "../main", "a/b", "Main", "a b", long.as_str()] {
        assert!(matches!(at(bad), Err(StateError::Purpose(_))), "{bad}");
    }
    assert_eq!(at(&long[1..]).unwrap().incarnation(), 1);
}

/// A machine that proves and seals nothing.
struct Plain;

impl Attester for Plain {
    fn kind(&self) -> TeeKind {
        TeeKind::Tdx
    }

    fn image(&self) -> Digest {
        Digest::of(b"agent")
    }

    fn attest(&self, _: &[u8], _: &[u8]) -> Result<Evidence, AttestError> {
        Err(AttestError::Nitro("there is none".to_owned()))
    }
}

#[test]
fn a_machine_that_seals_nothing_keeps_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = StateConfig { dir: dir.path().join("state") };
    let said = told(State::open(&config, PURPOSE, &Plain));
    assert!(said.contains("expected tpm, dev-tpm or dev-snp, got tdx; remove `[state]`"), "{said}");
    assert!(!config.dir.exists());
}

#[test]
fn what_is_kept_has_bounds() {
    let disk = Memory::default();
    let own = attester(b"agent");
    let mut state = disk.open(&own).unwrap();
    let keys: Vec<_> = (0..=IDENTITIES_MAX).map(|i| Arc::new(IdentityKey::from_seed([i as u8 + 40; 32]))).collect();
    for identity in &keys[..IDENTITIES_MAX] {
        state.keep_identity(identity).unwrap();
    }
    let flaw = match state.keep_identity(&keys[IDENTITIES_MAX]) {
        Err(StateError::File { flaw, .. }) => flaw,
        other => panic!("{other:?}"),
    };
    assert_eq!(flaw, Flaw::Identities);
    state.store(&vec![3; KEPT_MAX]).unwrap();
    let said = state.store(&vec![4; KEPT_MAX + 1]).unwrap_err().to_string();
    assert!(said.contains("too large: expected at most 1048576 bytes, got 1048577"), "{said}");
    assert!(disk.bytes().len() <= FILE_MAX);
    let mut state = disk.open(&own).unwrap();
    assert_eq!(kept(&mut state), Some(vec![3; KEPT_MAX]));
    assert_eq!(state.identities().count(), IDENTITIES_MAX);
    state.forget_identities(|_| false).unwrap();
    assert_eq!(state.identities().count(), 0);
}

#[test]
fn nothing_secret_is_shown_or_lies_in_the_open() {
    let disk = Memory::default();
    let own = attester(b"agent");
    let mut state = disk.open(&own).unwrap();
    let seed = [0xa5; 32];
    state.keep_identity(&Arc::new(IdentityKey::from_seed(seed))).unwrap();
    state.store(SECRET).unwrap();
    assert_eq!(format!("{state:?}"), "State(custody.main, incarnation 1, sealed to dev-snp)");
    let once = disk.bytes();
    state.store(SECRET).unwrap();
    let twice = disk.bytes();
    let shows =
        |bytes: &[u8], secret: &[u8]| bytes.windows(8).any(|window| secret.windows(8).any(|part| part == window));
    for bytes in [&once, &twice] {
        assert!(!shows(bytes, SECRET) && !shows(bytes, &seed));
    }
    // The same is never sealed to the same bytes.
    let end = once.len() - SECRET.len() - 16..;
    assert_ne!(once[end.clone()], twice[end]);
    let mut altered = twice;
    if let Some(last) = altered.last_mut() {
        *last ^= 1;
    }
    disk.put(&altered);
    let error = disk.open(&own).unwrap_err();
    for said in [error.to_string(), format!("{error:?}")] {
        assert!(!shows(said.as_bytes(), SECRET) && !said.contains("a5a5") && !said.contains("165, 165"), "{said}");
    }
}

#[test]
fn the_section_says_one_folder() {
    let read = |text: &str| StateConfig::read(text.parse().unwrap(), Path::new("/etc/legation"));
    assert_eq!(read("dir = \"state\"").unwrap().dir, Path::new("/etc/legation/state"));
    assert_eq!(read("dir = \"/var/lib/legation\"").unwrap().dir, Path::new("/var/lib/legation"));
    for (text, got) in [
        ("", "missing field `dir`"),
        ("dir = \"\"", "an empty `dir`"),
        ("dir = 3", "invalid type: integer `3`"),
        ("dir = \"state\"\nseal = \"none\"", "unknown field `seal`"),
    ] {
        let said = read(text).unwrap_err();
        assert!(said.contains(got), "{text}: {said}");
    }
}
