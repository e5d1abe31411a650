//! Objects by digest: ciphertexts and modules. The manager cannot read what is sealed; it keeps bytes.
//!
//! One small interface, two stores: files in a folder ([`folder`]), or pieces in PostgreSQL ([`postgres`]), where several
//! managers see the same and an object outlives the manager that took it. Either way an object is there whole or not at all,
//! and is durable before it is acknowledged; bytes come and go in bounded pieces. Nothing is ever deleted but what was not
//! finished.

use std::{io, path::Path};

use legation_core::{Bytes, Digest, DigestWriter, Rejection};

mod folder;
mod postgres;

use folder::Folder;
use postgres::Database;

use crate::journal::postgres::PostgresSettings;

/// Bytes of one piece on its way out.
pub(crate) const PIECE: usize = 256 * 1024;

/// The store.
pub(crate) struct Objects {
    store: Store,
    object_max: Bytes,
}

enum Store {
    Folder(Folder),
    Postgres(Database),
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
    /// What is kept of it is not what was stored.
    #[error("object {digest} is damaged where it is kept: {why}")]
    Damaged {
        /// Which.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// The disk failed, or is full.
    #[error("object could not be {what}: {source}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The database failed, or does not answer.
    #[error("object could not be {what}: {why}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Why not.
        why: String,
        /// Whether its disk is full.
        full: bool,
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
            Self::Damaged { digest, why } => Rejection::new("object.damaged", format!("object {digest}"))
                .expected("the bytes that were stored")
                .got(why)
                .fix("have it stored anew; look after the disk"),
            Self::Disk { source, .. } => Rejection::new("object.disk", "writing the object")
                .expected("room on the disk")
                .got(source)
                .fix("free space on the disk of the data folder, then try again"),
            // By its name clients and agents know that it is about the manager, and passes.
            Self::Database { what, why, .. } => Rejection::new("manager.objects", format!("an object, to be {what}"))
                .expected("a database that answers")
                .got(why)
                .fix("try again in a moment; see whether PostgreSQL runs and has room"),
        }
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Disk { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Database { full, .. } => *full,
            _ => false,
        }
    }
}

/// Copies the objects of a manager's data folder into a database; those that are there already are passed over. Gives how many
/// there are, and their bytes.
///
/// # Errors
/// The folder or the database failed, or an object is damaged.
pub async fn copy_objects(data: &Path, settings: PostgresSettings) -> Result<(u64, u64), Rejection> {
    let copied = copy(data, settings).await;
    copied.map_err(|e| e.refusal())
}

async fn copy(data: &Path, settings: PostgresSettings) -> Result<(u64, u64), ObjectError> {
    let (from, to) = (Folder::at(data), Objects::in_postgres(settings, Bytes(u64::MAX)).await?);
    let (mut objects, mut bytes) = (0, 0);
    for digest in from.all().await? {
        let Some((mut object, size)) = from.read(&digest).await? else { continue };
        if !to.has(&digest).await? {
            let mut copy = to.begin(digest).await?;
            while let Some(piece) = object.next().await? {
                copy.write(&piece).await?;
            }
            copy.finish().await?;
        }
        (objects, bytes) = (objects + 1, bytes + size);
    }
    Ok((objects, bytes))
}

/// An object on its way in. Dropped before it is finished, however that comes about, it leaves nothing behind.
pub(crate) struct Incoming<'a> {
    announced: Digest,
    digest: DigestWriter,
    size: u64,
    max: Bytes,
    place: Place<'a>,
}

enum Place<'a> {
    Folder(folder::Incoming<'a>),
    Postgres(postgres::Incoming<'a>),
}

/// An object on its way out.
pub(crate) struct Outgoing {
    size: u64,
    from: From,
}

enum From {
    Folder(folder::Outgoing),
    Postgres(postgres::Outgoing),
}

impl Objects {
    /// Opens or makes a store of files under `root`; what a crash left half-written is removed.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) async fn in_folder(root: &Path, object_max: Bytes) -> Result<Self, ObjectError> {
        Ok(Self { store: Store::Folder(Folder::open(root).await?), object_max })
    }

    /// Opens or makes a store in a database; what was begun long ago and never finished is removed.
    ///
    /// # Errors
    /// The database cannot be reached, or its tables cannot be made.
    pub(crate) async fn in_postgres(settings: PostgresSettings, object_max: Bytes) -> Result<Self, ObjectError> {
        Ok(Self { store: Store::Postgres(Database::open(settings).await?), object_max })
    }

    /// Whether the object is there.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn has(&self, digest: &Digest) -> Result<bool, ObjectError> {
        match &self.store {
            Store::Folder(folder) => folder.has(digest).await,
            Store::Postgres(database) => database.has(digest).await,
        }
    }

    /// Begins to store an object.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn begin(&self, announced: Digest) -> Result<Incoming<'_>, ObjectError> {
        let place = match &self.store {
            Store::Folder(folder) => Place::Folder(folder.begin().await?),
            Store::Postgres(database) => Place::Postgres(database.begin()),
        };
        Ok(Incoming { announced, digest: DigestWriter::new(), size: 0, max: self.object_max, place })
    }

    /// Opens an object for reading; nothing when it is not there.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn read(&self, digest: &Digest) -> Result<Option<Outgoing>, ObjectError> {
        Ok(match &self.store {
            Store::Folder(folder) => {
                folder.read(digest).await?.map(|(from, size)| Outgoing { size, from: From::Folder(from) })
            }
            Store::Postgres(database) => {
                database.read(digest).await?.map(|(from, size)| Outgoing { size, from: From::Postgres(from) })
            }
        })
    }
}

impl Incoming<'_> {
    /// Adds bytes.
    ///
    /// # Errors
    /// Too large, or the store failed.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectError> {
        self.size += bytes.len() as u64;
        if self.size > self.max.0 {
            return Err(ObjectError::TooLarge { max: self.max });
        }
        self.digest.update(bytes);
        match &mut self.place {
            Place::Folder(file) => file.write(bytes).await,
            Place::Postgres(pieces) => pieces.write(bytes).await,
        }
    }

    /// Keeps the object durably, if its bytes are what was announced; gives its size.
    ///
    /// # Errors
    /// Wrong digest, or the store failed.
    pub(crate) async fn finish(self) -> Result<u64, ObjectError> {
        let Self { announced, digest, size, place, .. } = self;
        let got = digest.finish();
        if got != announced {
            return Err(ObjectError::WrongDigest { announced, got });
        }
        match place {
            Place::Folder(file) => file.keep(&announced).await?,
            Place::Postgres(pieces) => pieces.keep(&announced, size).await?,
        }
        Ok(size)
    }
}

impl Outgoing {
    /// Its bytes in all.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The next of its bytes, at most [`PIECE`]; nothing after the last.
    ///
    /// # Errors
    /// The store failed, or what it keeps is damaged: then the last piece is never given.
    pub(crate) async fn next(&mut self) -> Result<Option<bytes::Bytes>, ObjectError> {
        match &mut self.from {
            From::Folder(file) => file.next().await,
            From::Postgres(pieces) => pieces.next().await,
        }
    }
}

#[cfg(test)]
#[expect(clippy::print_stderr, reason = "says loudly what it skips")]
#[path = "../tests/it/postgres.rs"]
mod server;

#[cfg(test)]
mod tests {
    use super::{server, *};

    /// What every store must do.
    async fn keeps(objects: &Objects) {
        let sizes = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7];
        for size in sizes {
            let bytes: Vec<u8> = (0..size).map(|n| (n * 31 % 251) as u8).collect();
            let digest = Digest::of(&bytes);
            assert!(!objects.has(&digest).await.unwrap() && objects.read(&digest).await.unwrap().is_none());
            for again in [false, true] {
                let mut incoming = objects.begin(digest).await.unwrap();
                // In pieces that fit nothing.
                for piece in bytes.chunks(100_003) {
                    incoming.write(piece).await.unwrap();
                    let seen = objects.has(&digest).await.unwrap();
                    assert_eq!(seen, again, "{size}: half-written, and there");
                }
                assert_eq!(incoming.finish().await.unwrap(), size as u64);
                assert!(objects.has(&digest).await.unwrap());
            }
            let mut outgoing = objects.read(&digest).await.unwrap().unwrap();
            let (mut back, whole) = (Vec::new(), outgoing.size());
            while let Some(piece) = outgoing.next().await.unwrap() {
                assert!(!piece.is_empty() && piece.len() <= PIECE);
                back.extend_from_slice(&piece);
            }
            assert!(whole == size as u64 && back == bytes, "{size}");
        }

        // What is refused, or given up, is not there.
        let other = Digest::of(b"other");
        for bytes in [vec![7; 10], vec![7; 3 * PIECE]] {
            let mut incoming = objects.begin(other).await.unwrap();
            incoming.write(&bytes).await.unwrap();
            let why = incoming.finish().await.unwrap_err();
            assert!(matches!(why, ObjectError::WrongDigest { .. }), "{why}");
            let mut given_up = objects.begin(Digest::of(&bytes)).await.unwrap();
            given_up.write(&bytes).await.unwrap();
            drop(given_up);
            assert!(!objects.has(&other).await.unwrap() && !objects.has(&Digest::of(&bytes)).await.unwrap());
        }
        let mut large = objects.begin(other).await.unwrap();
        let why = large.write(&vec![0; 2 << 20]).await.unwrap_err();
        assert!(matches!(why, ObjectError::TooLarge { .. }), "{why}");
    }

    #[tokio::test]
    async fn a_folder_keeps_objects_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        keeps(&Objects::in_folder(dir.path(), Bytes::mib(1)).await.unwrap()).await;
        let left = std::fs::read_dir(dir.path().join("incoming")).unwrap().count();
        assert_eq!(left, 0, "what was given up is gone");
    }

    async fn connect(server: &server::Postgres) -> tokio_postgres::Client {
        let (client, connection) = settings(server).connect().await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn settings(server: &server::Postgres) -> PostgresSettings {
        PostgresSettings::new(&server.url(), None, None).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres_keeps_objects_whole_or_not_at_all() {
        let Some(mut server) = server::Postgres::start() else { return };
        let objects = Objects::in_postgres(settings(&server), Bytes::mib(1)).await.unwrap();
        keeps(&objects).await;
        let count = async |sql: &str| connect(&server).await.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        for _ in 0..200 {
            if count("select count(*) from object_incoming").await == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        let strays =
            "select count(*) from object_piece p where not exists (select from object o where o.upload = p.upload)";
        assert_eq!(count(strays).await, 0, "what was given up is gone");

        // Another manager sees the same, and so it does after the server died.
        let (bytes, half) = (vec![9; PIECE + 9], Digest::of(b"half"));
        let digest = Digest::of(&bytes);
        let mut incoming = objects.begin(digest).await.unwrap();
        incoming.write(&bytes).await.unwrap();
        incoming.finish().await.unwrap();
        let mut cut = objects.begin(half).await.unwrap();
        cut.write(&vec![1; 2 * PIECE]).await.unwrap();
        server.stop_immediately();
        assert!(objects.has(&half).await.is_err_and(|why| why.refusal().check == "manager.objects"));
        server.restart();
        let other = Objects::in_postgres(settings(&server), Bytes::mib(1)).await.unwrap();
        assert!(other.has(&digest).await.unwrap() && objects.has(&digest).await.unwrap());
        assert!(!other.has(&half).await.unwrap());
        // What was damaged is not given out.
        let execute = async |sql: &str| connect(&server).await.execute(sql, &[]).await.unwrap();
        execute("update object_piece set bytes = set_byte(bytes, 0, 8) where piece = 1").await;
        let mut damaged = other.read(&digest).await.unwrap().unwrap();
        assert_eq!(damaged.next().await.unwrap().map(|piece| piece.len()), Some(PIECE));
        assert!(damaged.next().await.is_err_and(|why| matches!(why, ObjectError::Damaged { .. })));
        // Pieces need not be durable before the object is: where one was lost, nothing is acknowledged.
        let last = Digest::of(&vec![1; 2 * PIECE]);
        let mut lost = objects.begin(last).await.unwrap();
        lost.write(&vec![1; 2 * PIECE]).await.unwrap();
        execute("delete from object_piece where piece = 0").await;
        assert!(lost.finish().await.is_err());
        assert!(!other.has(&last).await.unwrap());
        let mut missing = other.read(&digest).await.unwrap().unwrap();
        assert!(missing.next().await.is_err_and(|why| matches!(why, ObjectError::Damaged { .. })));
    }
}
