//! Objects by digest: ciphertexts and modules, as files. The manager cannot read what is sealed; it keeps bytes.
//!
//! `objects/ab/abcdef..`; written to `incoming/` while the digest is computed, synced, then renamed: an object is there whole
//! or not at all.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use legation_core::{Bytes, Digest, DigestWriter, Rejection};
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt, AsyncWriteExt},
};

/// The store.
#[derive(Debug)]
pub(crate) struct Objects {
    root: PathBuf,
    object_max: Bytes,
    next: AtomicU64,
}

/// Why an object was not stored or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// Larger than allowed.
    #[error("object is larger than {max}")]
    TooLarge {
        /// The limit.
        max: Bytes,
    },
    /// Its bytes have another digest than it was announced with.
    #[error("object was announced as {announced}, its bytes are {got}")]
    WrongDigest {
        /// As announced.
        announced: Digest,
        /// As computed.
        got: Digest,
    },
    /// The disk failed, or is full.
    #[error("object could not be {what}: {source}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl ObjectError {
    /// As a refusal for API and agents.
    pub(crate) fn refusal(&self) -> Rejection {
        match self {
            Self::TooLarge { max } => Rejection::new("object.size", "size of the object")
                .expected(format!("at most {max}"))
                .fix("split it into smaller objects"),
            Self::WrongDigest { announced, got } => Rejection::new("object.digest", "digest of the object")
                .expected(announced)
                .got(got)
                .fix("send the bytes whose SHA-256 you name"),
            Self::Disk { source, .. } => Rejection::new("object.disk", "writing the object")
                .expected("room on the disk")
                .got(source)
                .fix("free space on the disk of the data folder, then try again"),
        }
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

/// An object on its way in. Dropped before it is finished, however that comes about, it leaves nothing on the disk.
pub(crate) struct Incoming<'a> {
    store: &'a Objects,
    announced: Digest,
    place: Unfinished,
    file: File,
    digest: DigestWriter,
    size: u64,
}

/// The file of an object that may not be kept: it goes when this is dropped. After a rename there is none.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Taking a name away does not wait for the disk; what cannot be removed is swept at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Objects {
    /// Opens or makes the store under `root`; what a crash left half-written is removed.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) async fn open(root: &Path, object_max: Bytes) -> Result<Self, ObjectError> {
        let disk = |source| ObjectError::Disk { what: "prepared for", source };
        let incoming = root.join("incoming");
        if fs::try_exists(&incoming).await.map_err(disk)? {
            fs::remove_dir_all(&incoming).await.map_err(disk)?;
        }
        fs::create_dir_all(&incoming).await.map_err(disk)?;
        fs::create_dir_all(root.join("objects")).await.map_err(disk)?;
        Ok(Self { root: root.to_owned(), object_max, next: AtomicU64::new(0) })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("objects").join(&name[..2]).join(name)
    }

    /// Whether the object is there.
    pub(crate) async fn has(&self, digest: &Digest) -> bool {
        fs::try_exists(self.path(digest)).await.unwrap_or(false)
    }

    /// Begins to store an object.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn begin(&self, announced: Digest) -> Result<Incoming<'_>, ObjectError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Unfinished(self.root.join("incoming").join(number.to_string()));
        let file = File::create(&place.0).await.map_err(|source| ObjectError::Disk { what: "created", source })?;
        Ok(Incoming { store: self, announced, place, file, digest: DigestWriter::new(), size: 0 })
    }

    /// Opens an object for reading; nothing when it is not there.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn read(&self, digest: &Digest) -> Result<Option<(File, u64)>, ObjectError> {
        let disk = |source| ObjectError::Disk { what: "read", source };
        match File::open(self.path(digest)).await {
            Ok(file) => {
                let size = file.metadata().await.map_err(disk)?.len();
                Ok(Some((file, size)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(disk(e)),
        }
    }
}

impl Incoming<'_> {
    /// Adds bytes.
    ///
    /// # Errors
    /// Too large, or the disk failed.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.size += bytes.len() as u64;
        if self.size > self.store.object_max.0 {
            return Err(ObjectError::TooLarge { max: self.store.object_max });
        }
        self.digest.update(bytes);
        self.file.write_all(bytes).await.map_err(|source| ObjectError::Disk { what: "written", source })
    }

    /// Keeps the object durably, if its bytes are what was announced.
    ///
    /// # Errors
    /// Wrong digest, or the disk failed.
    pub(crate) async fn finish(self) -> Result<u64, ObjectError> {
        let disk = |source| ObjectError::Disk { what: "kept", source };
        let Self { store, announced, place, mut file, digest, size } = self;
        let got = digest.finish();
        if got != announced {
            return Err(ObjectError::WrongDigest { announced, got });
        }
        file.flush().await.map_err(disk)?;
        file.sync_data().await.map_err(disk)?;
        let path = store.path(&announced);
        let folder = path.parent().unwrap_or(&store.root);
        fs::create_dir_all(folder).await.map_err(disk)?;
        fs::rename(&place.0, &path).await.map_err(disk)?;
        // The name must survive too, or an acknowledged report could rest on nothing.
        File::open(folder).await.map_err(disk)?.sync_all().await.map_err(disk)?;
        Ok(size)
    }
}

/// Reads up to `into.len()` bytes, filling it unless the file ends.
///
/// # Errors
/// The disk failed.
pub(crate) async fn fill(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read(&mut into[done..]).await? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}
