//! The `log` section of a receipt ([`Logged`]), made and judged.
//!
//! Checks, in this order:
//! 1. the checkpoint is of a log that the anchors name, signed by its key, and nobody has shown that this log forked;
//! 2. as many of the witnesses that the anchors name for it have cosigned it, each by a key of its own, as the anchors demand;
//! 3. there is a proof, or none, for every envelope; its hashes are in `nodes`, and those stand in the order of first use, each once,
//!    none beside;
//! 4. every proof leads from the envelope's digest to the root of the checkpoint;
//! 5. the receipt has roots, they are among the envelopes, and they are proved. Every statement names by digest what it rests on, and
//!    a receipt is what its roots rest on: so they bind all the others, also those that passed between enclaves and that no manager
//!    journalled.
//!
//! A receipt without the section is as good as one was before there were logs: that is said, not refused, unless the reader brings
//! evidence against a log: anybody can cut the section off. What a log shows is that its manager cannot deny the statements, nor show
//! others another past, as long as witnesses compare; not that they are true.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Digest, Receipt, Rejection, UnixTime,
    claims::LogAnchor,
    logged::{Logged, LoggedAt},
    receipt::Invalid,
};
use serde::Serialize;

use crate::{
    checkpoint::SignedCheckpoint,
    cosign::cosigned,
    gossip::Fork,
    hash::leaf_hash,
    note::{KeyKind, Note, NoteError, NoteKey},
    proof::{Inclusion, PATH_MAX},
};

/// What the log says of a receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "log", rename_all = "kebab-case")]
pub enum InLog {
    /// The anchors name no log, so nothing was looked at.
    NotAsked,
    /// The receipt has no such section.
    Absent,
    /// The results are in a log, and with them all that they rest on.
    Proven {
        /// Which log.
        origin: String,
        /// Entries of the checkpoint.
        size: u64,
        /// Statements of the receipt that are entries themselves.
        entries: usize,
        /// Witnesses that cosigned it, with the time.
        witnesses: Vec<(String, UnixTime)>,
    },
}

/// The key of a log that an anchor names.
///
/// # Errors
/// The origin cannot be the name of a key.
pub fn log_key(anchor: &LogAnchor) -> Result<NoteKey, NoteError> {
    NoteKey::new(&anchor.origin, KeyKind::Log, anchor.key)
}

/// A section in the making: of the proofs, only what it will hold is kept.
#[derive(Clone, Default, Debug)]
pub struct Section {
    nodes: Vec<Digest>,
    places: BTreeMap<Digest, u32>,
    proofs: Vec<Option<LoggedAt>>,
}

impl Section {
    /// Adds the proof of the next envelope, or that there is none.
    pub fn add(&mut self, proof: Option<&Inclusion>) {
        let Self { nodes, places, proofs } = self;
        let place = |hash: &Digest| {
            *places.entry(*hash).or_insert_with(|| {
                nodes.push(*hash);
                u32::try_from(nodes.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let logged = proof.map(|proof| LoggedAt { index: proof.index, path: proof.path.iter().map(place).collect() });
        proofs.push(logged);
    }

    /// The section, in front of the checkpoint to which all these proofs lead.
    pub fn finish(self, checkpoint: &Note) -> Logged {
        Logged { checkpoint: checkpoint.to_string(), nodes: self.nodes, proofs: self.proofs }
    }
}

/// The section out of a checkpoint and the proofs, in the order of the envelopes.
pub fn section(checkpoint: &Note, proofs: &[Option<Inclusion>]) -> Logged {
    let mut section = Section::default();
    proofs.iter().for_each(|proof| section.add(proof.as_ref()));
    section.finish(checkpoint)
}

/// Judges the section of a receipt, which itself is judged elsewhere.
///
/// # Errors
/// The check that fails, at `the log` or at an envelope.
pub fn check(receipt: &Receipt, anchors: &[LogAnchor], forks: &[Fork]) -> Result<InLog, Invalid> {
    if anchors.is_empty() {
        return Ok(InLog::NotAsked);
    }
    let Some(section) = &receipt.log else {
        if forks.is_empty() {
            return Ok(InLog::Absent);
        }
        let why = Rejection::new("receipt.log", "which log the statements are in")
            .expected("a `log` section: there is evidence against a log, and whoever passes a receipt on can cut the section off")
            .got("none")
            .fix("have the receipt proved in a log against which there is no evidence: `legation log prove`");
        return Err(Invalid { at: "the log".to_owned(), why });
    };
    let digests: Vec<Digest> = receipt.envelopes.iter().map(legation_core::Envelope::digest).collect();
    check_section(section, &digests, &receipt.roots, anchors, forks)
}

/// Judges a section for these envelopes, among which `roots` must be, one at least, and entries.
///
/// # Errors
/// As [`check`].
pub fn check_section(
    section: &Logged,
    envelopes: &[Digest],
    roots: &[Digest],
    anchors: &[LogAnchor],
    forks: &[Fork],
) -> Result<InLog, Invalid> {
    let at_log = |why: Rejection| Invalid { at: "the log".to_owned(), why };
    let (checkpoint, witnesses) = believed(section, anchors, forks).map_err(at_log)?;
    let tree = checkpoint.checkpoint();
    if section.proofs.len() != envelopes.len() {
        return Err(at_log(
            Rejection::new("receipt.log.proofs", "proofs that the statements are in the log")
                .expected(format!("{}, a place for each statement", envelopes.len()))
                .got(section.proofs.len()),
        ));
    }
    let (there, results): (BTreeSet<_>, BTreeSet<_>) = (envelopes.iter().collect(), roots.iter().collect());
    if roots.is_empty() || !results.is_subset(&there) {
        let got = results.difference(&there).next().map_or_else(|| "none".to_owned(), ToString::to_string);
        return Err(at_log(
            Rejection::new("receipt.log.root", "results of the task, which bind the rest by being in the log")
                .expected("digests of envelopes of this receipt, one at least")
                .got(got),
        ));
    }
    let mut distinct = BTreeSet::new();
    if let Some(twice) = section.nodes.iter().find(|node| !distinct.insert(**node)) {
        return Err(at_log(
            Rejection::new("receipt.log.nodes", "hashes of the log")
                .expected("each once")
                .got(format!("{twice} more than once")),
        ));
    }
    let (mut used, mut entries) = (0, 0);
    for (number, (digest, proof)) in envelopes.iter().zip(&section.proofs).enumerate() {
        let refuse = |why: Rejection| Invalid { at: format!("envelope {number} ({}) in the log", digest.short()), why };
        let Some(proof) = proof else {
            if results.contains(digest) {
                return Err(refuse(
                    Rejection::new("receipt.log.root", "whether a result of the task is in the log")
                        .expected("a proof: only what a statement in the log rests on needs none")
                        .got("none")
                        .fix("have the receipt proved again once its statements are in the log: `legation log prove`"),
                ));
            }
            continue;
        };
        let path = path(section, proof, &mut used).map_err(refuse)?;
        let inclusion = Inclusion { index: proof.index, size: tree.size, path };
        inclusion.verify(&leaf_hash(digest.as_bytes()), &tree.root).map_err(|e| {
            refuse(
                Rejection::new("receipt.log.proof", format!("proof that it is entry {} of the log", proof.index))
                    .expected(format!("one that leads to the checkpoint of {} entries", tree.size))
                    .got(e)
                    .fix("the statement is not in this log: ask whoever gave the receipt which log it is in"),
            )
        })?;
        entries += 1;
    }
    if used != section.nodes.len() {
        return Err(at_log(
            Rejection::new("receipt.log.nodes", "hashes of the log")
                .expected(format!("{used}, those that the proofs use"))
                .got(section.nodes.len()),
        ));
    }
    Ok(InLog::Proven { origin: tree.origin.clone(), size: tree.size, entries, witnesses })
}

/// Witnesses that cosigned, with the time.
type Cosigned = Vec<(String, UnixTime)>;

/// Checks 1 and 2.
fn believed(
    section: &Logged,
    anchors: &[LogAnchor],
    forks: &[Fork],
) -> Result<(SignedCheckpoint, Cosigned), Rejection> {
    let wrong = |e: &dyn std::fmt::Display| {
        Rejection::new("receipt.log.checkpoint", "checkpoint of the log")
            .expected("a note signed by a log of the anchors")
            .got(e)
            .fix("name the log in the anchors' `logs`, if it is one that you trust to be watched")
    };
    let note = Note::parse(&section.checkpoint).map_err(|e| wrong(&e))?;
    if note.to_string() != section.checkpoint {
        return Err(wrong(&"another spelling of a note"));
    }
    let origin = note.text().split('\n').next().unwrap_or_default();
    let known = anchors.iter().find(|anchor| anchor.origin == origin);
    let anchor = known.ok_or_else(|| wrong(&format!("one of the log {origin}")))?;
    let key = log_key(anchor).map_err(|e| wrong(&e))?;
    let checkpoint = SignedCheckpoint::of_note(note, &key).map_err(|e| wrong(&e))?;
    if forks.iter().any(|fork| fork.verify(&key).is_ok()) {
        return Err(Rejection::new("receipt.log.forked", format!("the log {}", anchor.origin))
            .expected("a log with one past")
            .got("two checkpoints, both signed by it, that do not continue each other")
            .fix("believe nothing that rests on this log alone, and show the evidence to its operator"));
    }
    // What a witness signs has no name in it: one signature would do under every name of its key.
    let (mut witnesses, mut keys) = (Vec::new(), BTreeSet::new());
    for witness in &anchor.witnesses {
        let key = NoteKey::new(&witness.name, KeyKind::Witness, witness.key).map_err(|e| wrong(&e))?;
        match cosigned(checkpoint.note(), &key) {
            Ok(at) if keys.insert(witness.key) => witnesses.push((witness.name.clone(), at)),
            Ok(_) | Err(NoteError::Unsigned { .. }) => {}
            Err(e) => return Err(wrong(&e)),
        }
    }
    if (witnesses.len() as u64) < u64::from(anchor.quorum) {
        let names: Vec<_> = anchor.witnesses.iter().map(|witness| witness.name.as_str()).collect();
        return Err(Rejection::new("receipt.log.witnesses", "witnesses that cosigned the checkpoint")
            .expected(format!("{} of {}", anchor.quorum, names.join(", ")))
            .got(witnesses.len())
            .fix("have the receipt proved again in front of a checkpoint that they cosigned: `legation log prove`"));
    }
    Ok((checkpoint, witnesses))
}

/// Check 3: the hashes of one proof. `used` counts the nodes used so far.
fn path(section: &Logged, proof: &LoggedAt, used: &mut usize) -> Result<Vec<Digest>, Rejection> {
    let wrong = |what: String| {
        Rejection::new("receipt.log.nodes", "hashes of the log")
            .expected(format!("at most {PATH_MAX} in a proof, each in the order of first use"))
            .got(what)
    };
    if proof.path.len() > PATH_MAX {
        return Err(wrong(format!("{} in one", proof.path.len())));
    }
    let mut path = Vec::with_capacity(proof.path.len());
    for place in &proof.path {
        let index = usize::try_from(*place).unwrap_or(usize::MAX);
        let node = section.nodes.get(index).filter(|_| index <= *used);
        path.push(*node.ok_or_else(|| wrong(format!("number {place} where {used} were used")))?);
        if index == *used {
            *used += 1;
        }
    }
    Ok(path)
}
