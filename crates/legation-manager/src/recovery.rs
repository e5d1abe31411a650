//! Reading a pool back: the newest snapshot that is good, then the records after it.
//!
//! A snapshot is believed when (1) it is whole by its digest, (2) its format is known, and (3) the journal has its last record, of the
//! term the snapshot says and of the digest that was saved with it: position and term alone come again where a copy of the journal
//! took its place. One that is not is passed over with a warning, and an older one or the whole journal is read.

use legation_core::Seq;
use legation_pool::{Limits, Pool};
use tracing::{info, warn};

use crate::journal::{Journal, JournalError, Snapshot, migrate::digest_of};

/// A pool as the journal has it.
pub struct Recovered {
    /// The pool.
    pub pool: Pool,
    /// The snapshot it was read from.
    pub snapshot: Option<Seq>,
}

/// Reads the pool.
///
/// # Errors
/// The store failed, or the records do not make a pool.
pub fn recover(journal: &mut dyn Journal, limits: Limits) -> Result<Recovered, JournalError> {
    let started = std::time::Instant::now();
    let (mut pool, snapshot) = match from_snapshot(journal, limits)? {
        Some(pool) => {
            let seq = pool.seq();
            (pool, Some(seq))
        }
        None => (Pool::new(limits), None),
    };
    journal.read(pool.seq(), &mut |record| {
        pool.absorb(&record)?;
        Ok(())
    })?;
    if pool.seq() > Seq(0) {
        let (records, snapshot) = (pool.seq().0, snapshot.map(|s| s.0));
        info!(records, snapshot, ms = started.elapsed().as_millis(), "journal read");
    }
    Ok(Recovered { pool, snapshot })
}

fn from_snapshot(journal: &mut dyn Journal, limits: Limits) -> Result<Option<Pool>, JournalError> {
    let mut before = None;
    while let Some(snapshot) = journal.newest_snapshot(before)? {
        let seq = snapshot.seq;
        match restore(journal, snapshot, limits)? {
            Ok(pool) => return Ok(Some(pool)),
            Err(why) => {
                warn!(snapshot = seq.0, %why, "a snapshot is passed over; what it held is read from what is older")
            }
        }
        before = Some(seq);
    }
    Ok(None)
}

fn restore(
    journal: &mut dyn Journal,
    snapshot: Snapshot,
    limits: Limits,
) -> Result<Result<Pool, String>, JournalError> {
    let pool = match snapshot.bytes.and_then(|bytes| Pool::restore(&bytes, limits).map_err(|e| e.to_string())) {
        Ok(pool) => pool,
        Err(why) => return Ok(Err(why)),
    };
    if pool.seq() != snapshot.seq {
        return Ok(Err(format!("it is of record {}, and filed under another", pool.seq().0)));
    }
    let Some(record) = journal.record(snapshot.seq)? else {
        return Ok(Err("the journal ends before it".to_owned()));
    };
    if record.term != pool.term() {
        return Ok(Err(format!("it is of term {}, and its record of term {}", pool.term().0, record.term.0)));
    }
    if snapshot.record != Some(digest_of(&record)?) {
        return Ok(Err("the journal has another record where it ends".to_owned()));
    }
    Ok(Ok(pool))
}
