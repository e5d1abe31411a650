//! The thread that follows the journal.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use legation_core::{Digest, Seq};
use legation_log::{Checkpoint, Prover, Tree};
use legation_pool::Record;
use rusqlite::{Connection, TransactionBehavior};
use tracing::{error, info, warn};

use super::{
    LogError, Shared, leaves,
    mark::Mark,
    store::{Head, SqliteTiles, advance, enter, head},
};
use crate::journal::Records;

/// Records that are taken up at once.
const PAGE: u64 = 256;
/// Between two looks at a journal that had nothing new.
const LOOK: Duration = Duration::from_millis(250);
/// Between two tries after something failed.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two checkpoints while records keep coming: each is synced before it is given out.
const APART: Duration = Duration::from_millis(50);
/// How long this manager may be behind a checkpoint of another manager's before its journal is taken for one that lost its end.
const BEHIND: Duration = Duration::from_secs(5);

/// Follows a journal into the file of its log.
pub(super) struct Keeper {
    db: Connection,
    records: Box<dyn Records>,
    door: Weak<Shared>,
    tree: Tree,
    head: Head,
    mark: Mark,
    /// Whether the tree was shown to continue the mark: from then on it only grows.
    held: bool,
    /// When somebody showed a checkpoint by this key that is larger than any made here.
    shown: Option<Instant>,
    /// When the last checkpoint was given out.
    published: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(
        db: Connection,
        records: Box<dyn Records>,
        mark: Mark,
        door: Weak<Shared>,
    ) -> Result<Self, LogError> {
        let head = head(&db).map_err(LogError::store("be read"))?;
        let tree = Tree::restore(head.size, &mut SqliteTiles(&db)).map_err(LogError::tiles)?;
        if tree.root() != head.root {
            let text = format!("its tiles make root {}, and it remembers {}", tree.root(), head.root);
            return Err(LogError::Damaged(text));
        }
        if mark.last().is_none() {
            info!("the key of the transparency log has no mark beside it: it is taken to have signed nothing yet");
        }
        Ok(Self { db, records, door, tree, head, mark, held: false, shown: None, published: None })
    }

    /// Until nobody holds the door any more.
    pub(super) fn run(&mut self) {
        loop {
            let Some(door) = self.door.upgrade() else { return };
            let pause = match self.step(&door) {
                Ok(found) => {
                    if self.held
                        && let Some(why) = door.fault().take()
                    {
                        info!(was = %why, "the transparency log goes on");
                    }
                    if found { Duration::ZERO } else { LOOK }
                }
                Err(why) => {
                    told(&door, &why);
                    AGAIN
                }
            };
            drop(door);
            std::thread::sleep(pause);
        }
    }

    /// Takes up what is new, a page of it, and publishes; says whether there was anything.
    fn step(&mut self, door: &Arc<Shared>) -> Result<bool, LogError> {
        self.heed(door)?;
        if self.page(1)?.is_empty() {
            if self.held()? {
                self.publish(door)?;
                return Ok(false);
            }
            // A manager that has just begun to follow another may be a moment behind what that one signed.
            let waits = self.shown.is_some_and(|since| since.elapsed() < BEHIND);
            let (size, signed) = (self.tree.size(), self.mark.size());
            return if waits { Ok(false) } else { Err(LogError::Behind { size, signed }) };
        }
        let found = self.page(PAGE)?;
        self.take_up(&found)?;
        if self.held()? && self.published.is_none_or(|before| before.elapsed() >= APART) {
            self.publish(door)?;
        }
        Ok(true)
    }

    /// What follows the last record taken up, `most` records of it. What was signed binds: each time the journal must still have that
    /// record, for a database may have gone over to a copy that lacks it, and others been written in its place.
    ///
    /// Both are read at once: what is taken up is never newer than what was checked.
    fn page(&mut self, most: u64) -> Result<Vec<Record>, LogError> {
        let Head { seq, record, .. } = self.head;
        let known = seq != Seq(0);
        let first = if known { seq.0 } else { 1 };
        let page: Vec<Seq> = (first..=seq.0 + most).map(Seq).collect();
        let mut found = self.records.records(&page)?;
        if known {
            if found.first().map(digest) != Some(record) {
                return Err(LogError::OtherJournal { seq: seq.0 });
            }
            found.remove(0);
        }
        Ok(found)
    }

    /// Takes up what others have been shown by this key: nothing is signed any more that does not continue it. It stays shown until
    /// the mark says so: while the mark cannot be written, each step ends here.
    fn heed(&mut self, door: &Arc<Shared>) -> Result<(), LogError> {
        let shown = door.shown().clone();
        if let Some(shown) = shown.filter(|shown| shown.checkpoint().size > self.mark.size()) {
            self.mark.advance(&shown)?;
            (self.held, self.shown) = (false, Some(Instant::now()));
        }
        // A larger one may have come meanwhile.
        let mut shown = door.shown();
        if shown.as_ref().is_some_and(|shown| shown.checkpoint().size <= self.mark.size()) {
            *shown = None;
        }
        Ok(())
    }

    /// Whether the tree has come as far as the mark; then it continues it.
    fn held(&mut self) -> Result<bool, LogError> {
        if self.held {
            return Ok(true);
        }
        if let Some(last) = self.mark.last() {
            let size = self.tree.size();
            if size < last.size {
                return Ok(false);
            }
            let proof = Prover::new(SqliteTiles(&self.db)).consistency(last.size, size).map_err(LogError::tiles)?;
            let held = proof.verify(&last.root, &self.tree.root());
            held.map_err(|_| LogError::OtherPast { size: last.size })?;
        }
        self.held = true;
        self.shown = None;
        Ok(true)
    }

    fn take_up(&mut self, records: &[Record]) -> Result<(), LogError> {
        let failed = LogError::store("be written");
        // A copy: what fails half-way has not happened.
        let (mut tree, mut head) = (self.tree.clone(), self.head);
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for record in records {
            if record.seq.0 != head.seq.0 + 1 {
                // A page may end before a record that is being written.
                break;
            }
            for leaf in leaves(&record.event) {
                if enter(&transaction, &leaf, tree.size()).map_err(failed)? {
                    tree.append(leaf.as_bytes()).map_err(|e| LogError::Damaged(e.to_string()))?;
                }
            }
            head = Head { seq: record.seq, record: digest(record), size: tree.size(), root: tree.root() };
        }
        advance(&transaction, &mut tree, head).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        (self.tree, self.head) = (tree, head);
        Ok(())
    }

    /// Signs the tree, which continues the mark, and gives it out once the mark says so.
    fn publish(&mut self, door: &Arc<Shared>) -> Result<(), LogError> {
        let (size, root) = (self.tree.size(), self.tree.root());
        let before = door.now.borrow().as_ref().map(|now| now.checkpoint().size);
        if before == Some(size) {
            return Ok(());
        }
        let checkpoint = Checkpoint { origin: door.key.name().to_owned(), size, root }.sign(&*door.signer)?;
        self.mark.advance(&checkpoint)?;
        door.now.send_replace(Some(Arc::new(checkpoint)));
        self.published = Some(Instant::now());
        Ok(())
    }
}

/// The record as the log remembers it.
fn digest(record: &Record) -> Digest {
    Digest::of(&serde_json::to_vec(record).unwrap_or_default())
}

/// Says once what is wrong.
fn told(door: &Arc<Shared>, why: &LogError) {
    let refusal = why.refusal();
    let mut fault = door.fault();
    if fault.as_ref() != Some(&refusal) {
        if matches!(why, LogError::Store { .. } | LogError::Journal(_)) {
            warn!(why = %refusal, "the transparency log waits");
        } else {
            error!(why = %refusal, "the transparency log signs nothing");
        }
        *fault = Some(refusal);
    }
}
