//! Notes, checkpoints and cosignatures: published ones, ours, and what is refused.

use legation_core::{Digest, PublicKey, Signer as _, UnixTime};
use legation_log::{
    Checkpoint, KeyKind, Note, NoteError, NoteKey, SIZE_MAX, SignedCheckpoint,
    cosign::{cosign, cosigned},
    note::{NOTE_MAX, SIGNATURES_MAX, signature_lines},
};

use crate::{Log, ORIGIN, key, log_key};

/// Key and note of the documentation of Go's golang.org/x/mod/sumdb/note.
const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const SAID: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/// The example of c2sp.org/tlog-cosignature.
const SOFA: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
    — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

#[test]
fn a_published_note_is_believed_by_its_published_key_alone() {
    let neumann: NoteKey = NEUMANN.parse().unwrap();
    assert_eq!(neumann.to_string(), NEUMANN);
    let note = Note::parse(SAID).unwrap();
    assert_eq!(note.to_string(), SAID);
    note.verify(&neumann).unwrap();
    let altered = Note::parse(&SAID.replace("know", "knew")).unwrap();
    assert_eq!(altered.verify(&neumann), Err(NoteError::BadSignature { name: "PeterNeumann".to_owned() }));
    // Same name, another key: not this one's signature at all.
    let other = NoteKey::new("PeterNeumann", KeyKind::Log, key(1).public_key()).unwrap();
    assert_eq!(note.verify(&other), Err(NoteError::Unsigned { name: "PeterNeumann".to_owned() }));
}

#[test]
fn a_published_checkpoint_is_read_as_it_stands() {
    let note = Note::parse(SOFA).unwrap();
    assert_eq!(note.to_string(), SOFA);
    let names: Vec<_> = note.signatures().iter().map(|signature| signature.name()).collect();
    assert_eq!(names, ["example.com/behind-the-sofa", "witness.example.com/w1"]);
    let checkpoint: Checkpoint = note.text().parse().unwrap();
    assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.to_text(), note.text());
}

#[test]
fn keys_have_one_text() {
    for kind in [KeyKind::Log, KeyKind::Witness] {
        let known = NoteKey::new("a.example/b", kind, key(3).public_key()).unwrap();
        assert_eq!(known.to_string().parse(), Ok(known));
    }
    let swapped = NEUMANN.replace("c74f20a3", "c74f20a4");
    let kind = NEUMANN.replace("+ARpc", "+AhpC");
    for bad in ["", "name", "name+c74f20a3", &swapped, &kind, "PeterNeumann+C74F20A3+ARpc", &format!("{NEUMANN}=")] {
        assert!(bad.parse::<NoteKey>().is_err(), "{bad}");
    }
    let public = key(1).public_key();
    for bad in ["", "with space", "with+plus", "with\nbreak", "with\u{2003}space", &"x".repeat(256)] {
        assert_eq!(NoteKey::new(bad, KeyKind::Log, public), Err(NoteError::Name), "{bad}");
    }
}

#[test]
fn what_is_no_note_is_refused() {
    let line = SAID.lines().last().unwrap();
    let lines = |number: usize| format!("text\n\n{}", format!("{line}\n").repeat(number));
    Note::parse(&lines(SIGNATURES_MAX)).unwrap();
    let many = lines(SIGNATURES_MAX + 1);
    let long = format!("{}\n\n{line}\n", "x".repeat(NOTE_MAX));
    for bad in [
        "",
        "\n\n",
        "text\n\n",
        "text\n",
        &format!("text\n{line}\n"),
        &format!("text\n\n{line}"),
        &format!("text\n\n{line}\n\n"),
        &format!("text\n\n{line} \n"),
        &format!("text\n\n{line}\r\n"),
        &format!("te\txt\n\n{line}\n"),
        &format!("te\0xt\n\n{line}\n"),
        "text\n\n— name\n",
        "text\n\n— name !!!!\n",
        "text\n\n— name AAAA\n",
        "text\n\n— na+me AAAAAAA=\n",
        "text\n\n-- name AAAAAAA=\n",
        "text\n\n— name AAAAAAB=\n",
        &many,
        &long,
    ] {
        assert!(Note::parse(bad).is_err(), "{bad:?}");
    }
    signature_lines("").unwrap_err();
    signature_lines("\n").unwrap_err();
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let good = format!("log\n1\n{root}\n");
    good.parse::<Checkpoint>().unwrap();
    format!("log\n1\n{root}\nfurther\n").parse::<Checkpoint>().unwrap();
    "log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n".parse::<Checkpoint>().unwrap();
    for bad in [
        String::new(),
        "log\n1\n".to_owned(),
        format!("\n1\n{root}\n"),
        format!("lo g\n1\n{root}\n"),
        format!("log\n01\n{root}\n"),
        format!("log\n+1\n{root}\n"),
        format!("log\n-1\n{root}\n"),
        format!("log\n\n{root}\n"),
        format!("log\n{}\n{root}\n", SIZE_MAX + 1),
        "log\n1\nCsUY\n".to_owned(),
        "log\n1\n\n".to_owned(),
        format!("log\n1\n{root}"),
        format!("log\n1\n{root}\n\n"),
        // The empty tree has one root: any other could never be shown to have grown.
        format!("log\n0\n{root}\n"),
    ] {
        assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_checkpoint_is_its_logs_alone() {
    let note = Log::of("a", 0, 9).checkpoint(9).note().to_string();
    let opened = SignedCheckpoint::open(&note, &log_key()).unwrap();
    assert_eq!(opened.checkpoint().size, 9);
    let elsewhere = NoteKey::new("other.example", KeyKind::Log, key(1).public_key()).unwrap();
    let stranger = NoteKey::new(ORIGIN, KeyKind::Log, key(2).public_key()).unwrap();
    let witness = NoteKey::new(ORIGIN, KeyKind::Witness, key(1).public_key()).unwrap();
    for wrong in [elsewhere, stranger, witness] {
        assert!(SignedCheckpoint::open(&note, &wrong).is_err(), "{wrong}");
    }
    for (from, to) in [("\n9\n", "\n8\n"), (ORIGIN, "log.example/other")] {
        assert!(SignedCheckpoint::open(&note.replace(from, to), &log_key()).is_err(), "{from}");
    }
}

#[test]
fn a_cosignature_is_about_one_text_and_one_time() {
    let witness = NoteKey::new("witness.example", KeyKind::Witness, key(5).public_key()).unwrap();
    let mut checkpoint = Log::of("a", 0, 9).checkpoint(9);
    assert_eq!(cosigned(checkpoint.note(), &witness), Err(NoteError::Unsigned { name: "witness.example".to_owned() }));
    for at in [1_800_000_000, 1_700_000_000] {
        let signature = cosign(checkpoint.note().text(), "witness.example", &key(5), UnixTime(at)).unwrap();
        checkpoint.note_mut().add(signature).unwrap();
    }
    assert_eq!(cosigned(checkpoint.note(), &witness), Ok(UnixTime(1_800_000_000)), "the latest counts");
    checkpoint.note().verify(&log_key()).unwrap();

    // The same over a larger tree, or at another time, is no signature.
    let text = checkpoint.note().to_string();
    let bad = Err(NoteError::BadSignature { name: "witness.example".to_owned() });
    assert_eq!(cosigned(&Note::parse(&text.replace("\n9\n", "\n8\n")).unwrap(), &witness), bad);
    let mut later = Log::of("a", 0, 9).checkpoint(9);
    let line = cosign(later.note().text(), "witness.example", &key(5), UnixTime(5)).unwrap().to_string();
    let moved = signature_lines(&line.replace("AAAAAAAAAF", "AAAAAAAAAG")).unwrap();
    assert_ne!(moved, signature_lines(&line).unwrap(), "another time");
    later.note_mut().add(moved[0].clone()).unwrap();
    assert!(cosigned(later.note(), &witness).is_err());
    // A log's signature is none of a witness, even with the same key and name.
    let own = NoteKey::new(ORIGIN, KeyKind::Witness, key(1).public_key()).unwrap();
    assert!(cosigned(checkpoint.note(), &own).is_err());
}

#[test]
fn the_key_id_is_that_of_the_specification() {
    let public = PublicKey::from_bytes([7; 32]);
    let known = NoteKey::new("w", KeyKind::Witness, public).unwrap();
    let digest = Digest::of(&[&b"w\n\x04"[..], &[7; 32]].concat());
    assert_eq!(known.id()[..], digest.as_bytes()[..4]);
}
