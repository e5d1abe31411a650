//! Checkpoints beside the appends: what is durable in the write-ahead log is moved into the file by another thread over a connection
//! of its own, so that nobody who appends waits for it, but for the short end in which the log begins anew.
//!
//! That end takes the lock of whoever writes, and keeps it while it waits for those who read what is old: so it waits for a moment
//! only. Where somebody reads for longer the log grows, and the next checkpoint tries again.

use std::{
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;
use tracing::warn;

use crate::journal::JournalError;

/// Bytes appended between two checkpoints.
const EVERY: usize = 8 << 20;
/// How long the end of a checkpoint waits for an append, and then for readers: far below what an append waits for it.
const WAIT: Duration = Duration::from_millis(50);

/// The thread, which ends with this.
pub(super) struct Checkpoints {
    ask: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    since: usize,
}

impl Checkpoints {
    /// For the journal at `path`, which another connection has open.
    pub(super) fn start(path: &Path) -> Result<Self, JournalError> {
        let store = JournalError::store("be opened again");
        let db = Connection::open(path).map_err(store)?;
        db.busy_timeout(WAIT).map_err(store)?;
        let (ask, asked) = sync_channel(1);
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || serve(&db, &asked));
        let thread = thread.map_err(|source| JournalError::File { path: path.to_owned(), source })?;
        Ok(Self { ask: Some(ask), thread: Some(thread), since: 0 })
    }

    /// So much was appended.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.since = self.since.saturating_add(bytes);
        if self.since >= EVERY {
            self.since = 0;
            // One that is asked for already will do.
            let _ = self.ask.as_ref().map(|ask| ask.try_send(()));
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.ask.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(db: &Connection, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        // The bulk, while others append; then what they appended meanwhile, and the log begins anew.
        match checkpoint(db, "passive").and_then(|_| checkpoint(db, "restart")) {
            Ok(false) => {}
            Ok(true) => {
                warn!("the journal's write-ahead log is read or written all the time: it grows until it can begin anew")
            }
            Err(why) => warn!(%why, "the journal's write-ahead log could not be emptied: it grows until it can"),
        }
    }
}

/// Says whether somebody kept it from its end.
fn checkpoint(db: &Connection, how: &str) -> rusqlite::Result<bool> {
    db.query_row(&format!("pragma wal_checkpoint({how})"), [], |row| row.get(0))
}
