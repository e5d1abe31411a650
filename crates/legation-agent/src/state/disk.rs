//! Where sealed state lies: a folder in which a file is replaced whole or not at all, whenever the power goes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// A folder of files that are replaced whole.
pub trait Disk: Send {
    /// Where it is: for errors.
    fn folder(&self) -> &Path;

    /// The first `most` + 1 bytes of a file, which are all of one that is no longer than `most`; nothing where there is none.
    ///
    /// # Errors
    /// The disk.
    fn read(&mut self, name: &str, most: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>>;

    /// Writes what is to replace a file beside it. When this returns it outlasts a loss of power.
    ///
    /// # Errors
    /// The disk: the file is as it was.
    fn write_aside(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Puts what was written aside in the place of the file. When this returns that outlasts a loss of power.
    ///
    /// # Errors
    /// The disk: the file is as it was, or is replaced.
    fn rename(&mut self, name: &str) -> io::Result<()>;
}

/// A folder of this process alone. Its files are readable by its user alone (mode 0600).
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// As long as it is open no other process has the folder.
    lock: File,
}

impl Folder {
    /// Opens a folder, or makes it (mode 0700).
    ///
    /// # Errors
    /// It is a link, others may write there, another process has it, or the disk.
    pub fn open(path: &Path) -> io::Result<Self> {
        let new = !path.try_exists()?;
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let there = fs::symlink_metadata(path)?;
        if !there.is_dir() {
            return Err(io::Error::other("it is a link; name the folder itself"));
        }
        if there.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::other("others may write there; take that from them (chmod go-w)"));
        }
        let lock = File::open(path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another agent has it; give each a folder of its own"),
            TryLockError::Error(error) => error,
        })?;
        if new && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), lock })
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.new"))
    }
}

impl Disk for Folder {
    fn folder(&self) -> &Path {
        &self.path
    }

    fn read(&mut self, name: &str, most: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let path = self.path.join(name);
        let size = match fs::symlink_metadata(&path) {
            Ok(there) if there.is_file() => usize::try_from(there.len()).unwrap_or(usize::MAX),
            Ok(_) => return Err(io::Error::other("it is no file; remove what is in its place")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let most = most.saturating_add(1);
        // With room for all of it: it is opened in its place, and must not have moved.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.min(most)));
        File::open(&path)?.take(most as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write_aside(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.aside(name);
        // Of an agent that ended here.
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, name: &str) -> io::Result<()> {
        fs::rename(self.aside(name), self.path.join(name))?;
        self.lock.sync_all()
    }
}
