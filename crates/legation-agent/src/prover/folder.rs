//! A folder for one process of the prover: inputs lie there as plaintext, so nobody else reads it and it is wiped.
//!
//! Wiping overwrites and removes. On a disk copies may stay all the same: the folder belongs into memory (a tmpfs), and where the
//! enclave's disk is encrypted by the enclave's hardware it is as safe as its memory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use legation_keys::Entropy;
use legation_net::OsEntropy;
use tokio::runtime::Handle;

/// Folders of jobs begin with this.
const PREFIX: &str = "job-";
const ZEROS: [u8; 8192] = [0; 8192];

/// A folder that is wiped when it is dropped: on a thread that may block, where there is a runtime.
pub(super) struct Folder(Wiped);

/// The path of one, or none; it is wiped when this is dropped, at once.
struct Wiped(PathBuf);

impl Wiped {
    fn new(parent: &Path) -> io::Result<Self> {
        let mut name = [0; 16];
        OsEntropy.fill(&mut name);
        let path = parent.join(format!("{PREFIX}{}", legation_core::encoding::hex(&name)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Folder {
    /// A new one under `parent`.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        Wiped::new(parent).map(Self)
    }

    /// Where a file of it is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    /// Writes a file that nobody else reads.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(name))?;
        file.write_all(bytes)
    }

    /// Wipes it before this ends: for threads that may block.
    pub(super) fn wipe(mut self) {
        drop(self.take());
    }

    fn take(&mut self) -> Wiped {
        Wiped(std::mem::take(&mut self.0.0))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Ok(runtime) = Handle::try_current() {
            let wiped = self.take();
            // A runtime that ends drops this instead of running it: that wipes as well.
            drop(runtime.spawn_blocking(move || drop(wiped)));
        }
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = wipe(&self.0) {
            tracing::error!(folder = %self.0.display(), %error, "inputs of a proof could not be wiped");
        }
    }
}

/// Makes the folder for all of them, and wipes what is left there of an agent that was killed. One that is there already has to be this
/// agent's, and nobody else's to write: whoever may could put folders of their own in the place of those that are made here. As long as
/// what this gives is kept, no other agent clears it.
pub(super) fn clear(parent: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let there = fs::symlink_metadata(parent)?;
    if !there.is_dir() {
        return Err(io::Error::other("it is a link"));
    }
    if there.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write there"));
    }
    let lock = File::open(parent)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another agent has it"),
        TryLockError::Error(error) => error,
    })?;
    let own = Wiped::new(parent)?;
    if fs::metadata(&own.0)?.uid() != there.uid() {
        return Err(io::Error::other("it is another user's"));
    }
    drop(own);
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type()?.is_dir() {
            wipe(&entry.path())?;
        }
    }
    Ok(lock)
}

/// Overwrites what is in a folder, and removes it.
fn wipe(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Whatever else lies there is only removed.
        if entry.file_type()?.is_file() {
            overwrite(&OpenOptions::new().write(true).open(entry.path())?)?;
        }
    }
    fs::remove_dir_all(folder)
}

fn overwrite(mut file: &File) -> io::Result<()> {
    let mut left = file.metadata()?.len();
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_all(ZEROS.get(..piece).unwrap_or_default())?;
        left = left.saturating_sub(piece as u64);
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_gone_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (path, twin) = {
            let folder = Folder::new(parent.path()).unwrap();
            folder.write("input", &[7; 20_000]).unwrap();
            assert!(folder.write("input", b"again").is_err(), "a file is written once");
            let twin = parent.path().join("twin");
            fs::hard_link(folder.path("input"), &twin).unwrap();
            assert_eq!((mode(&folder.0.0), mode(&folder.path("input"))), (0o700, 0o600));
            (folder.0.0.clone(), twin)
        };
        assert!(!path.exists());
        // Whoever still has the file has nothing in it.
        assert_eq!(fs::read(&twin).unwrap(), [0; 20_000]);
    }

    #[test]
    fn what_was_left_is_wiped_at_the_start_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let left = Folder::new(parent.path()).unwrap();
        left.write("input", b"left").unwrap();
        let path = left.0.0.clone();
        std::mem::forget(left);
        fs::write(parent.path().join("other"), b"kept").unwrap();
        let _lock = clear(parent.path()).unwrap();
        assert!(!path.exists() && parent.path().join("other").exists());
        // Another agent with this folder would wipe what this one works on.
        assert!(clear(parent.path()).unwrap_err().to_string().contains("another agent"));
    }

    #[tokio::test]
    async fn where_there_is_a_runtime_it_is_wiped_aside_or_by_whoever_may_block() {
        let parent = tempfile::tempdir().unwrap();
        let (one, two) = (Folder::new(parent.path()).unwrap(), Folder::new(parent.path()).unwrap());
        let (first, second) = (one.0.0.clone(), two.0.0.clone());
        one.wipe();
        assert!(!first.exists() && second.exists());
        drop(two);
        for _ in 0..1000 {
            if !second.exists() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("it is still there");
    }

    #[test]
    fn where_others_may_write_nothing_is_put() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir(&folder).unwrap();
        for (mode, why) in [(0o777, "others"), (0o1777, "others"), (0o770, "others"), (0o755, ""), (0o700, "")] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let said = clear(&folder).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(why) && said.is_empty() == why.is_empty(), "{mode:o}: {said}");
        }
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(clear(&link).unwrap_err().to_string().contains("link"));
    }
}
