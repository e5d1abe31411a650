//! The transparency log as its readers use it: checkpoints compared by the log's own tiles, receipts proved, and a witness.
//!
//! Nothing here believes what serves the log: signatures are checked by the anchors' keys, and tiles by the root that was signed.

use std::{convert::Infallible, time::Duration};

use legation_core::{
    Digest, Receipt,
    claims::{Anchors, LogAnchor},
    logged::Logged,
};
use legation_log::{
    Compared, Fork, MemoryTiles, Note, NoteKey, Prover, SignedCheckpoint, TileFault, Tiles as _,
    gossip::{compare, compare_with},
    receipt::{check, log_key},
};
use legation_manager::api::log::ToProve;

use crate::{
    client::{Client, ClientError},
    exit::{Exit, Failure},
};

pub mod witness;

/// How often a statement is looked for again that is not in the log yet, and after which pause.
const PATIENCE_TRIES: usize = 25;
const PATIENCE_PAUSE: Duration = Duration::from_millis(200);

/// Most tiles that one proof is made of: two for each level, and those of the way to an entry.
const TILES_MAX: usize = 64;

/// The log of the anchors with this origin; the only one without it.
///
/// # Errors
/// There is none, or which one is not said.
pub fn anchor<'a>(anchors: &'a Anchors, origin: Option<&str>) -> Result<&'a LogAnchor, Failure> {
    let wrong = |text: String| Failure::new(Exit::Usage, text);
    match (anchors.logs.as_slice(), origin) {
        (logs, Some(origin)) => logs
            .iter()
            .find(|log| log.origin == origin)
            .ok_or_else(|| wrong(format!("the anchors name no log `{origin}`"))),
        ([one], None) => Ok(one),
        ([], None) => {
            Err(wrong("the anchors name no log: `logs` with `origin` and `key` in the anchor file".to_owned()))
        }
        (several, None) => {
            let names: Vec<_> = several.iter().map(|log| log.origin.as_str()).collect();
            Err(wrong(format!("the anchors name several logs: say which with --origin ({})", names.join(", "))))
        }
    }
}

/// The key of a log that the anchors name.
///
/// # Errors
/// Its origin is no name.
pub fn key(anchor: &LogAnchor) -> Result<NoteKey, Failure> {
    log_key(anchor).map_err(|e| Failure::new(Exit::Usage, format!("log `{}` of the anchors: {e}", anchor.origin)))
}

/// Reads a checkpoint and checks that the log signed it.
///
/// # Errors
/// Not one of this log.
pub fn open(text: &str, key: &NoteKey) -> Result<SignedCheckpoint, Failure> {
    SignedCheckpoint::open(text, key)
        .map_err(|e| Failure::new(Exit::Receipt, format!("not a checkpoint of the log {}: {e}", key.name())))
}

/// Holds a checkpoint against a later one of the same log, by the tiles of whoever serves that; gives evidence where the log has
/// forked, and nothing where it continues.
///
/// # Errors
/// The later one is smaller: then there are no tiles of the larger one. The tiles cannot be had, or do not make the later checkpoint.
pub async fn fork_by_tiles(
    client: &Client,
    older: &SignedCheckpoint,
    newer: &SignedCheckpoint,
) -> Result<Option<Box<Fork>>, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Receipt, format!("the log shows nothing: {e}"));
    let (old, new) = (older.checkpoint().size, newer.checkpoint().size);
    if new < old {
        let text = format!("it has {new} entries, and had {old}: its manager is behind, or its journal lost its end");
        return Err(Failure::new(Exit::Receipt, text));
    }
    if old == new {
        return compare(older, newer, None).map(evidence).map_err(|e| failed(&e));
    }
    if old == 0 {
        return Ok(None);
    }
    let mut prover = Prover::new(MemoryTiles::new());
    for _ in 0..TILES_MAX {
        match prover.beginning(old, new) {
            Ok((seed, path)) => {
                return compare_with(older, newer, &seed, &path).map(evidence).map_err(|e| failed(&e));
            }
            Err(TileFault::Missing { tile, width }) => {
                let bytes = client.log_tile(tile.of_width(tile.width_at(new).max(width))).await?;
                let Ok(()) = put(&mut prover, tile, &bytes);
            }
            Err(why) => return Err(failed(&why)),
        }
    }
    Err(failed(&"more tiles than a proof can need"))
}

fn evidence(compared: Compared) -> Option<Box<Fork>> {
    match compared {
        Compared::Forked(fork) => Some(fork),
        Compared::Same | Compared::Grown | Compared::Older => None,
    }
}

fn put(prover: &mut Prover<MemoryTiles>, tile: legation_log::TileId, bytes: &[u8]) -> Result<(), Infallible> {
    prover.tiles().put(tile, bytes)
}

/// Gives a receipt its `log` section: in front of the latest checkpoint, or of one that witnesses cosigned.
///
/// # Errors
/// Statements are not in the log, or the section that came does not hold.
pub async fn prove(
    client: &Client,
    receipt: &mut Receipt,
    anchor: &LogAnchor,
    cosigned: Option<&str>,
) -> Result<(), Failure> {
    let invalid = |e: &dyn std::fmt::Display| Failure::new(Exit::Receipt, e);
    let key = key(anchor)?;
    let cosigned = cosigned.map(|text| open(text, &key)).transpose()?;
    let digests: Vec<Digest> = receipt.envelopes.iter().map(legation_core::Envelope::digest).collect();
    let size = cosigned.as_ref().map(|checkpoint| checkpoint.checkpoint().size);
    let mut section = section(client, &ToProve { digests, size }, &receipt.roots).await?;
    if let Some(cosigned) = &cosigned {
        section.checkpoint = joined(&section.checkpoint, cosigned).map_err(|e| invalid(&e))?;
    }
    receipt.log = Some(section);
    check(receipt, std::slice::from_ref(anchor), &[]).map_err(|e| invalid(&e))?;
    Ok(())
}

/// The section as the log gives it. The last records of a journal take a moment until they are in its log: the roots come last of
/// what a receipt has of a journal.
async fn section(client: &Client, to_prove: &ToProve, roots: &[Digest]) -> Result<Logged, ClientError> {
    let whole = |section: &Logged| {
        to_prove.digests.iter().zip(&section.proofs).all(|(digest, proof)| proof.is_some() || !roots.contains(digest))
    };
    for _ in 0..PATIENCE_TRIES {
        match client.log_section(to_prove).await {
            Ok(section) if whole(&section) => return Ok(section),
            Err(ClientError::Refused { why, .. }) if matches!(&*why.check, "log.store" | "log.busy") => {}
            Err(why) => return Err(why),
            Ok(_) => {}
        }
        tokio::time::sleep(PATIENCE_PAUSE).await;
    }
    client.log_section(to_prove).await
}

/// The checkpoint that the log gave, with the signatures of one that witnesses cosigned, which must be the same.
fn joined(given: &str, cosigned: &SignedCheckpoint) -> Result<String, String> {
    let mut note = Note::parse(given).map_err(|e| e.to_string())?;
    if note.text() != cosigned.note().text() {
        return Err("the log gives another checkpoint than the one that was cosigned: it may have forked".to_owned());
    }
    for signature in cosigned.note().signatures() {
        note.add(signature.clone()).map_err(|e| e.to_string())?;
    }
    Ok(note.to_string())
}
