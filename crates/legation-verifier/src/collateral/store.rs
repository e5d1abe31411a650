//! The folder that keeps collateral: one file for each item, and an index with where each came from.
//!
//! ```text
//! DIR/index.json               {"version":1,"items":{NAME:{"sha256":..,"source":..,"fetched":..}}}
//! DIR/items/intel+tdx+..       the item, its name with `+` for `/`
//! DIR/lock                     held while somebody writes
//! ```
//! A file is written beside its place, flushed, and renamed: after a crash there is the old item or the new one. Items
//! prove themselves, so the index is a comfort: what it does not know, or knows otherwise, is checked and taken up again.
//! A file that does not pass is left where it is, named in the log, and not used.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{COLLATERAL_MAX, CollateralItem, Shelf},
};
use serde::{Deserialize, Serialize};

use super::{
    check::{Checker, Dates},
    name::CollateralName,
};

/// Most items in one store, without chips' certificates.
pub const ITEMS_MAX: usize = 4096;
/// Most chips' certificates in one store, and of one chip.
const VCEKS_MAX: usize = 4096;
const VCEKS_OF_CHIP_MAX: usize = 4;
/// How their names begin.
const VCEK: &str = "vcek/";
/// Largest index read, in bytes.
const INDEX_MAX: u64 = 4 << 20;
/// Begin of the names of files that are being written.
const TEMPORARY: &str = ".writing-";

/// An item with what is known of it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The item.
    pub item: Arc<CollateralItem>,
    /// Where it came from.
    pub source: String,
    /// When it was last seen there.
    pub fetched: UnixTime,
    /// Its dates.
    pub dates: Dates,
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed.
    #[error("{what} {path}: {source}", path = path.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The item is not let in.
    #[error("{0}")]
    Refused(#[from] Rejection),
}

impl StoreError {
    /// As a refusal.
    pub fn refusal(self) -> Rejection {
        match self {
            Self::Refused(why) => why,
            disk @ Self::Disk { .. } => Rejection::new("collateral.disk", "folder of the collateral")
                .expected("a folder that can be read and written")
                .got(disk)
                .fix("see to the disk and its permissions"),
        }
    }
}

fn disk(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Disk { what, path, source }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    version: u32,
    items: BTreeMap<String, Known>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    sha256: Digest,
    source: String,
    fetched: UnixTime,
}

/// What became of an item that was put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// There was none of its name.
    New,
    /// It was there already: it was seen again, no more.
    Same,
    /// It took the place of an older one.
    Replaced,
}

/// A folder of collateral.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    items: BTreeMap<String, Kept>,
    /// When the index that `items` reflect was written.
    stamp: Option<SystemTime>,
}

impl Store {
    /// Opens a folder, made when it is not there. What does not pass `checker` is not used.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(dir: &Path, checker: &Checker, now: UnixTime) -> Result<Self, StoreError> {
        let items = dir.join("items");
        fs::create_dir_all(&items).map_err(disk("make folder", &items))?;
        let mut store = Self { dir: dir.to_owned(), items: BTreeMap::new(), stamp: None };
        let lock = store.lock()?;
        store.sweep()?;
        store.load(checker, now)?;
        drop(lock);
        Ok(store)
    }

    /// The items, by name.
    pub fn items(&self) -> &BTreeMap<String, Kept> {
        &self.items
    }

    /// A snapshot for judges.
    pub fn shelf(&self) -> Shelf {
        self.items.values().map(|kept| Arc::clone(&kept.item)).collect()
    }

    /// Puts an item in, checked, unless the one that is there is younger in any part.
    ///
    /// # Errors
    /// The checks of [`super`], or the disk failed: then what was there before is there still.
    pub fn put(
        &mut self,
        name: &CollateralName,
        bytes: Vec<u8>,
        source: &str,
        checker: &Checker,
        now: UnixTime,
    ) -> Result<Put, StoreError> {
        let dates = checker.check(name, &bytes, now)?;
        let text = name.to_string();
        let lock = self.lock()?;
        // Another process may have put in a younger one.
        self.reload_if_changed(checker, now)?;
        let put = match self.items.get(&text) {
            None if is_vcek(name) => {
                self.make_room(name)?;
                Put::New
            }
            None if self.items.keys().filter(|n| !n.starts_with(VCEK)).count() >= ITEMS_MAX => {
                return Err(StoreError::Refused(
                    Rejection::new("collateral.number", "items in the folder")
                        .expected(format!("at most {ITEMS_MAX}"))
                        .got(self.items.len())
                        .fix("remove items of machines that are gone"),
                ));
            }
            None => Put::New,
            Some(held) if held.item.bytes == bytes => Put::Same,
            Some(held) => {
                if let Some(part) = dates.older_than(&held.dates) {
                    let have = held.dates.parts.iter().find(|h| h.what == part.what);
                    return Err(StoreError::Refused(
                        super::check::refuse("collateral.older", name, part.what)
                            .expected(have.map_or_else(String::new, |h| {
                                format!("issued at {} or later, evaluation {} or later", h.issued, h.evaluation)
                            }))
                            .got(format!("{}, evaluation {}", part.issued, part.evaluation))
                            .fix("nothing: the younger one is kept. See why this source is behind"),
                    ));
                }
                Put::Replaced
            }
        };
        if put != Put::Same {
            self.write(&self.file(&text), &bytes)?;
        }
        let item = Arc::new(CollateralItem { name: text.clone(), bytes });
        self.items.insert(text, Kept { item, source: source.to_owned(), fetched: now, dates });
        self.write_index()?;
        drop(lock);
        Ok(put)
    }

    /// Chips' certificates are as many as somebody asks for: the oldest goes, of the same chip first, and is fetched again when
    /// it is missed.
    fn make_room(&mut self, name: &CollateralName) -> Result<(), StoreError> {
        let text = name.to_string();
        let chip = text.rsplit_once('/').map_or(text.as_str(), |(chip, _)| chip);
        for (prefix, most) in [(chip, VCEKS_OF_CHIP_MAX), (VCEK, VCEKS_MAX)] {
            let held = || self.items.iter().filter(|(name, _)| name.starts_with(prefix));
            if held().count() < most {
                continue;
            }
            let oldest = held().min_by_key(|(_, kept)| kept.fetched).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                let file = self.file(&oldest);
                fs::remove_file(&file).map_err(disk("remove", &file))?;
                self.items.remove(&oldest);
            }
        }
        Ok(())
    }

    /// Takes up what another process wrote since; says whether there was something.
    ///
    /// # Errors
    /// The disk failed.
    pub fn refresh(&mut self, checker: &Checker, now: UnixTime) -> Result<bool, StoreError> {
        if self.index_stamp() == self.stamp {
            return Ok(false);
        }
        let lock = self.lock()?;
        let changed = self.reload_if_changed(checker, now)?;
        drop(lock);
        Ok(changed)
    }

    fn reload_if_changed(&mut self, checker: &Checker, now: UnixTime) -> Result<bool, StoreError> {
        let changed = self.index_stamp() != self.stamp;
        if changed {
            self.load(checker, now)?;
        }
        Ok(changed)
    }

    fn index(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("items").join(name.replace('/', "+"))
    }

    fn index_stamp(&self) -> Option<SystemTime> {
        fs::metadata(self.index()).and_then(|m| m.modified()).ok()
    }

    /// Waits for other writers. The lock goes with the file, also when this process ends.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.dir.join("lock");
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(disk("open", &path))?;
        file.lock().map_err(disk("lock", &path))?;
        Ok(file)
    }

    /// Removes what a writer left that did not end its work. Called with the lock held: nobody is writing.
    fn sweep(&self) -> Result<(), StoreError> {
        for dir in [self.dir.clone(), self.dir.join("items")] {
            for entry in fs::read_dir(&dir).map_err(disk("read folder", &dir))? {
                let path = entry.map_err(disk("read folder", &dir))?.path();
                if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(TEMPORARY)) {
                    tracing::info!(file = %path.display(), "removed a file that was never finished");
                    fs::remove_file(&path).map_err(disk("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    fn load(&mut self, checker: &Checker, now: UnixTime) -> Result<(), StoreError> {
        self.stamp = self.index_stamp();
        let known = self.read_index();
        let dir = self.dir.join("items");
        let mut items = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(disk("read folder", &dir))? {
            let path = entry.map_err(disk("read folder", &dir))?.path();
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if file.starts_with(TEMPORARY) || items.len() >= ITEMS_MAX + VCEKS_MAX {
                continue;
            }
            match read_item(&path, &file.replace('+', "/"), checker, now) {
                // It is fetched again when it is missed, if there is a newer one.
                Ok((item, dates)) if item.name.starts_with(VCEK) && dates.next_update() < now => {}
                Ok((item, dates)) => {
                    let recorded = known.get(&item.name).filter(|k| k.sha256 == Digest::of(&item.bytes));
                    let (source, fetched) = recorded
                        .map_or(("found in the folder".to_owned(), UnixTime(0)), |k| (k.source.clone(), k.fetched));
                    items.insert(item.name.clone(), Kept { item: Arc::new(item), source, fetched, dates });
                }
                Err(why) => tracing::warn!(file = %path.display(), %why, "a file among the collateral is not used"),
            }
        }
        self.items = items;
        Ok(())
    }

    fn read_index(&self) -> BTreeMap<String, Known> {
        let path = self.index();
        let text = match read_bounded(&path, INDEX_MAX) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return BTreeMap::new(),
            Err(e) => {
                tracing::warn!(file = %path.display(), %e, "index of the collateral cannot be read; made anew");
                return BTreeMap::new();
            }
        };
        match serde_json::from_slice::<Index>(&text) {
            Ok(index) if index.version == 1 => index.items,
            Ok(index) => {
                tracing::warn!(version = index.version, "index of the collateral is of another version; made anew");
                BTreeMap::new()
            }
            Err(e) => {
                tracing::warn!(file = %path.display(), %e, "index of the collateral is damaged; made anew");
                BTreeMap::new()
            }
        }
    }

    fn write_index(&mut self) -> Result<(), StoreError> {
        let items = self.items.iter().map(|(name, kept)| {
            let known =
                Known { sha256: Digest::of(&kept.item.bytes), source: kept.source.clone(), fetched: kept.fetched };
            (name.clone(), known)
        });
        let index = Index { version: 1, items: items.collect() };
        let text = serde_json::to_vec_pretty(&index).unwrap_or_default();
        self.write(&self.index(), &text)?;
        self.stamp = self.index_stamp();
        Ok(())
    }

    /// Writes beside, flushes, renames, flushes the folder.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let dir = path.parent().unwrap_or(&self.dir);
        let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let beside = dir.join(format!("{TEMPORARY}{file}"));
        let mut out = File::create(&beside).map_err(disk("write", &beside))?;
        out.write_all(bytes).and_then(|()| out.sync_all()).map_err(disk("write", &beside))?;
        fs::rename(&beside, path).map_err(disk("rename to", path))?;
        File::open(dir).and_then(|d| d.sync_all()).map_err(disk("flush folder", dir))
    }
}

fn is_vcek(name: &CollateralName) -> bool {
    matches!(name, CollateralName::Vcek(_))
}

fn read_item(
    path: &Path,
    name: &str,
    checker: &Checker,
    now: UnixTime,
) -> Result<(CollateralItem, Dates), Box<dyn std::error::Error>> {
    let name: CollateralName = name.parse()?;
    let bytes = read_bounded(path, COLLATERAL_MAX as u64)?;
    let dates = checker.check(&name, &bytes, now)?;
    Ok((CollateralItem { name: name.to_string(), bytes }, dates))
}

/// A file of at most `max` bytes.
pub(crate) fn read_bounded(path: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use legation_attest::snp::{Product, TcbVersion, Vcek};

    use super::*;

    fn vcek(chip: u8, snp: u8) -> CollateralName {
        let tcb = TcbVersion { fmc: None, bootloader: 1, tee: 0, snp, microcode: 1 };
        CollateralName::Vcek(Vcek { product: Product::Milan, hwid: vec![chip; 64], tcb })
    }

    fn hold(store: &mut Store, name: &CollateralName, fetched: u64) {
        let text = name.to_string();
        fs::write(store.file(&text), b"a certificate").unwrap();
        let item = Arc::new(CollateralItem { name: text.clone(), bytes: b"a certificate".to_vec() });
        let kept = Kept { item, source: "test".into(), fetched: UnixTime(fetched), dates: Dates { parts: Vec::new() } };
        store.items.insert(text, kept);
    }

    /// Whoever asks for many of one chip, or of many chips, pushes out what is oldest and nothing else.
    #[test]
    fn certificates_of_chips_make_room_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("items")).unwrap();
        let mut store = Store { dir: dir.path().to_owned(), items: BTreeMap::new(), stamp: None };
        let list: CollateralName = "amd/milan/vcek/crl".parse().unwrap();
        hold(&mut store, &list, 0);
        hold(&mut store, &vcek(9, 1), 1);
        for n in 0..4 {
            hold(&mut store, &vcek(1, n), 10 + u64::from(n));
        }
        store.make_room(&vcek(2, 1)).unwrap();
        assert_eq!(store.items.len(), 6, "there is room for another chip");
        store.make_room(&vcek(1, 7)).unwrap();
        let gone = vcek(1, 0).to_string();
        assert!(store.items.len() == 5 && !store.items.contains_key(&gone) && !store.file(&gone).exists());
        for n in 0..VCEKS_MAX {
            let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
            let mut hwid = vec![0x77; 64];
            (hwid[0], hwid[1]) = (high, low);
            let CollateralName::Vcek(of) = vcek(1, 1) else { unreachable!() };
            hold(&mut store, &CollateralName::Vcek(Vcek { hwid, ..of }), 100 + n as u64);
        }
        let before = store.items.len();
        store.make_room(&vcek(200, 1)).unwrap();
        assert_eq!(store.items.len(), before - 1);
        assert!(!store.items.contains_key(&vcek(9, 1).to_string()), "the oldest of all");
        assert!(store.items.contains_key(&list.to_string()), "no list is pushed out");
    }
}
