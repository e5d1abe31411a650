//! Objects as files: `objects/ab/abcdef..`; written to `incoming/` while the digest is computed, synced, then renamed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use legation_core::Digest;
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{ObjectError, PIECE};

/// The folder.
pub(super) struct Folder {
    root: PathBuf,
    next: AtomicU64,
}

/// An object on its way in.
pub(super) struct Incoming<'a> {
    folder: &'a Folder,
    place: Unfinished,
    file: File,
}

/// An object on its way out.
pub(super) struct Outgoing(File);

/// The file of an object that may not be kept: it goes when this is dropped. After a rename there is none.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Taking a name away does not wait for the disk; what cannot be removed is swept at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn disk(what: &'static str) -> impl Fn(io::Error) -> ObjectError + Copy {
    move |source| ObjectError::Disk { what, source }
}

impl Folder {
    pub(super) async fn open(root: &Path) -> Result<Self, ObjectError> {
        let failed = disk("prepared for");
        let incoming = root.join("incoming");
        if fs::try_exists(&incoming).await.map_err(failed)? {
            fs::remove_dir_all(&incoming).await.map_err(failed)?;
        }
        fs::create_dir_all(&incoming).await.map_err(failed)?;
        fs::create_dir_all(root.join("objects")).await.map_err(failed)?;
        Ok(Self { root: root.to_owned(), next: AtomicU64::new(0) })
    }

    /// One that is read alone.
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), next: AtomicU64::new(0) }
    }

    /// The names of all objects.
    pub(super) async fn all(&self) -> Result<Vec<Digest>, ObjectError> {
        let (failed, mut all) = (disk("listed"), Vec::new());
        let mut folders = match fs::read_dir(self.root.join("objects")).await {
            Ok(folders) => folders,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
            Err(e) => return Err(failed(e)),
        };
        while let Some(folder) = folders.next_entry().await.map_err(failed)? {
            let mut files = fs::read_dir(folder.path()).await.map_err(failed)?;
            while let Some(file) = files.next_entry().await.map_err(failed)? {
                all.extend(file.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()));
            }
        }
        Ok(all)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("objects").join(&name[..2]).join(name)
    }

    pub(super) async fn has(&self, digest: &Digest) -> Result<bool, ObjectError> {
        fs::try_exists(self.path(digest)).await.map_err(disk("looked for"))
    }

    pub(super) async fn begin(&self) -> Result<Incoming<'_>, ObjectError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Unfinished(self.root.join("incoming").join(number.to_string()));
        let file = File::create(&place.0).await.map_err(disk("created"))?;
        Ok(Incoming { folder: self, place, file })
    }

    pub(super) async fn read(&self, digest: &Digest) -> Result<Option<(Outgoing, u64)>, ObjectError> {
        match File::open(self.path(digest)).await {
            Ok(file) => {
                let size = file.metadata().await.map_err(disk("read"))?.len();
                Ok(Some((Outgoing(file), size)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(disk("read")(e)),
        }
    }
}

impl Incoming<'_> {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.file.write_all(bytes).await.map_err(disk("written"))
    }

    pub(super) async fn keep(mut self, digest: &Digest) -> Result<(), ObjectError> {
        let failed = disk("kept");
        self.file.flush().await.map_err(failed)?;
        self.file.sync_data().await.map_err(failed)?;
        let path = self.folder.path(digest);
        let folder = path.parent().unwrap_or(&self.folder.root);
        fs::create_dir_all(folder).await.map_err(failed)?;
        fs::rename(&self.place.0, &path).await.map_err(failed)?;
        // The name must survive too, or an acknowledged report could rest on nothing.
        File::open(folder).await.map_err(failed)?.sync_all().await.map_err(failed)
    }
}

impl Outgoing {
    /// Fills a piece unless the file ends. Who asked checks the digest, as agents and clients do.
    pub(super) async fn next(&mut self) -> Result<Option<bytes::Bytes>, ObjectError> {
        let (mut piece, mut done) = (vec![0; PIECE], 0);
        while done < piece.len() {
            match self.0.read(&mut piece[done..]).await.map_err(disk("read"))? {
                0 => break,
                n => done += n,
            }
        }
        piece.truncate(done);
        Ok((done > 0).then(|| piece.into()))
    }
}
