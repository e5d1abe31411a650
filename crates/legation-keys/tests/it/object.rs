//! Sealed objects: round trips, the format, and everything that must be refused.

use std::io::{self, ErrorKind, Read, Write};

use expect_test::expect_file;
use legation_core::{Bytes, Digest, ObjectId, encoding, task::OutputRef};
use legation_keys::{
    OBJECT_MAX, ObjectKey, OpenError, OpenReader, SEGMENT, SealError, SealWriter, Sealed, TAG, commitment,
    commitment_key, open, opened_len, seal, sealed_len,
};
use proptest::prelude::*;

use crate::plaintext;

const SEALED_SEGMENT: usize = SEGMENT + TAG;
const SIZES: [usize; 10] = [0, 1, 15, 16, 17, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, (1 << 20) + 3];
const OBJECT: ObjectId = ObjectId::from_bytes(*b"object number 01");

fn key() -> ObjectKey {
    ObjectKey::from_bytes(*b"a key for one object and no more")
}

fn sealed(len: usize) -> Sealed {
    seal(&key(), OBJECT, &plaintext(len)).unwrap()
}

fn reader<R: Read>(ciphertext: R) -> OpenReader<R> {
    OpenReader::new(&key(), OBJECT, ciphertext, None)
}

/// Opens both ways, which must agree; the reader may have given out a true prefix of `original`, never more.
fn check_refused(ciphertext: &[u8], original: &[u8], expected: OpenError, what: &str) {
    assert_eq!(open(&key(), OBJECT, ciphertext, None), Err(expected), "{what}");
    let mut reader = reader(ciphertext);
    let mut out = Vec::new();
    let error = reader.read_to_end(&mut out).unwrap_err();
    assert_eq!((error.kind(), OpenError::of(&error)), (ErrorKind::InvalidData, Some(expected)), "{what}");
    assert!(original.starts_with(&out) && out.len() % SEGMENT == 0, "{what}");
    let again = reader.read(&mut [0; 1]).unwrap_err();
    assert_eq!(OpenError::of(&again), Some(expected), "{what}: a refusal stays");
    assert_eq!(reader.finish().map(drop), Err(expected), "{what}");
}

#[test]
fn round_trips() {
    for len in SIZES {
        let text = plaintext(len);
        let sealed = sealed(len);
        assert_eq!(sealed.size, Bytes(sealed.bytes.len() as u64));
        assert_eq!(sealed.ciphertext, Digest::of(&sealed.bytes));
        assert_eq!(Some(sealed.size), sealed_len(Bytes(len as u64)));
        assert_eq!(opened_len(sealed.size), Some(Bytes(len as u64)));
        assert_eq!(commitment(&key(), OBJECT, &text), sealed.commitment);
        assert_eq!(*open(&key(), OBJECT, &sealed.bytes, Some(&sealed.commitment)).unwrap(), text, "{len}");

        let named = OutputRef {
            object: OBJECT,
            ciphertext: sealed.ciphertext,
            size: sealed.size,
            commitment: sealed.commitment,
        };
        let mut writer = SealWriter::new(&key(), OBJECT, Vec::new());
        writer.write_all(&text).unwrap();
        assert_eq!(writer.finish().unwrap(), (sealed.bytes.clone(), named.clone()), "{len}: stream = memory");

        let mut reader = OpenReader::new(&key(), OBJECT, &sealed.bytes[..], Some(sealed.commitment));
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        assert_eq!(out, text, "{len}");
        assert_eq!(reader.finish().unwrap(), (&[][..], named), "{len}");
    }
}

#[test]
fn lengths_that_no_object_has() {
    let segment = SEALED_SEGMENT as u64;
    for len in [0, 1, 15, segment + 1, segment + 16, 2 * segment + 16] {
        assert_eq!(opened_len(Bytes(len)), None, "{len}");
    }
    assert_eq!(opened_len(Bytes(segment + 17)), Some(Bytes(SEGMENT as u64 + 1)));
    assert_eq!(sealed_len(OBJECT_MAX).and_then(opened_len), Some(OBJECT_MAX));
    assert_eq!(sealed_len(Bytes(OBJECT_MAX.0 + 1)), None);
    assert_eq!(opened_len(Bytes(u64::MAX)), None);
}

#[test]
fn format_does_not_change_silently() {
    let mut text = String::new();
    for len in [0, 1, 40, SEGMENT, SEGMENT + 1, 2 * SEGMENT + 3] {
        let sealed = sealed(len);
        text += &format!("plaintext  {len} bytes, sha256 {}\n", Digest::of(&plaintext(len)));
        text += &format!("ciphertext {} bytes, sha256 {}\n", sealed.size.0, sealed.ciphertext);
        text += &format!("last 16    {}\n", encoding::hex(&sealed.bytes[sealed.bytes.len() - TAG..]));
        text += &format!("commitment {}\n\n", sealed.commitment);
    }
    expect_file!["golden/object-v1.txt"].assert_eq(&text);
}

#[test]
fn truncation_is_refused() {
    let (text, small) = (plaintext(40), sealed(40));
    for cut in 0..small.bytes.len() {
        let expected = if cut == 0 { OpenError::Truncated { segments: 0 } } else { OpenError::Altered { segment: 0 } };
        check_refused(&small.bytes[..cut], &text, expected, &format!("small, cut at {cut}"));
    }
    for len in [3 * SEGMENT, 3 * SEGMENT + 5] {
        let (text, big) = (plaintext(len), sealed(len));
        for whole in 1..big.bytes.len().div_ceil(SEALED_SEGMENT) {
            let (at, segments) = (whole * SEALED_SEGMENT, u32::try_from(whole).unwrap());
            check_refused(&big.bytes[..at], &text, OpenError::Truncated { segments }, &format!("after {whole}"));
            for (cut, segment) in [
                (at - 1, segments - 1),
                (at - TAG, segments - 1),
                (at + 1, segments),
                (at + 16, segments),
                (at + 17, segments),
            ] {
                if cut < big.bytes.len() {
                    check_refused(&big.bytes[..cut], &text, OpenError::Altered { segment }, &format!("cut at {cut}"));
                }
            }
        }
    }
}

#[test]
fn flipped_bits_are_refused() {
    let (text, small) = (plaintext(40), sealed(40));
    for bit in 0..small.bytes.len() * 8 {
        let mut bad = small.bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        check_refused(&bad, &text, OpenError::Altered { segment: 0 }, &format!("bit {bit}"));
    }
    let len = 2 * SEGMENT + 100;
    let (text, big) = (plaintext(len), sealed(len));
    let edges = [1, 2].into_iter().flat_map(|n| n * SEALED_SEGMENT - TAG - 1..n * SEALED_SEGMENT + 2);
    for at in (0..big.bytes.len()).step_by(1009).chain(edges) {
        let mut bad = big.bytes.clone();
        bad[at] ^= 0x10;
        let segment = u32::try_from(at / SEALED_SEGMENT).unwrap();
        check_refused(&bad, &text, OpenError::Altered { segment }, &format!("byte {at}"));
    }
}

#[test]
fn moved_repeated_removed_and_added_segments_are_refused() {
    let len = 3 * SEGMENT + 7;
    let (text, object) = (plaintext(len), sealed(len));
    let segments: Vec<_> = object.bytes.chunks(SEALED_SEGMENT).collect();
    let [a, b, c, last] = segments[..] else { panic!("four segments") };
    let altered = |segment| OpenError::Altered { segment };
    let cases: [(&str, &[&[u8]], OpenError); 9] = [
        ("first two swapped", &[b, a, c, last], altered(0)),
        ("middle two swapped", &[a, c, b, last], altered(1)),
        ("first removed", &[b, c, last], altered(0)),
        ("middle removed", &[a, c, last], altered(1)),
        ("third repeated", &[a, b, c, c, last], altered(3)),
        ("last alone", &[last], altered(0)),
        ("last early", &[a, b, last], altered(2)),
        ("a byte after the last", &[a, b, c, last, b"x"], altered(3)),
        ("an empty segment in its place", &[a, b, c, &last[7..]], altered(3)),
    ];
    for (what, parts, expected) in cases {
        check_refused(&parts.concat(), &text, expected, what);
    }
    // The last segment is whole here, so that what follows it begins a segment of its own.
    let whole = sealed(2 * SEGMENT);
    for after in [&b"x"[..], a, last] {
        let extended = [&whole.bytes, after].concat();
        check_refused(&extended, &plaintext(2 * SEGMENT), OpenError::Extended { segment: 1 }, "extended");
    }
}

#[test]
fn the_key_of_a_commitment_commits_and_opens_nothing() {
    use aws_lc_rs::hmac;
    for len in [0, 5, SEGMENT + 5] {
        let (text, object) = (plaintext(len), sealed(len));
        let own = commitment_key(&key(), OBJECT);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, own.as_slice()), &text);
        assert_eq!(tag.as_ref(), object.commitment.as_bytes());
        let altered = Err(OpenError::Altered { segment: 0 });
        assert_eq!(open(&ObjectKey::from_bytes(*own), OBJECT, &object.bytes, None), altered);
        assert_ne!(*commitment_key(&key(), ObjectId::from_bytes([0; 16])), *own);
    }
}

#[test]
fn other_object_other_key_other_commitment() {
    for len in [0, 5, SEGMENT + 5] {
        let (text, object) = (plaintext(len), sealed(len));
        let other_id = ObjectId::from_bytes([0; 16]);
        let other_key = ObjectKey::from_bytes([0; 32]);
        let altered = Err(OpenError::Altered { segment: 0 });
        assert_eq!(open(&key(), other_id, &object.bytes, None), altered);
        assert_eq!(open(&other_key, OBJECT, &object.bytes, None), altered);

        let expected = Digest::from_bytes([0; 32]);
        let refused = OpenError::Commitment { expected, got: object.commitment };
        assert_eq!(open(&key(), OBJECT, &object.bytes, Some(&expected)), Err(refused));
        let mut reader = OpenReader::new(&key(), OBJECT, &object.bytes[..], Some(expected));
        let mut out = Vec::new();
        let error = reader.read_to_end(&mut out).unwrap_err();
        assert_eq!(OpenError::of(&error), Some(refused));
        assert_eq!(out.len(), len / SEGMENT * SEGMENT, "nothing of the last segment comes out");

        let commitments = [
            seal(&key(), other_id, &text).unwrap().commitment,
            seal(&other_key, OBJECT, &text).unwrap().commitment,
            sealed(len + 1).commitment,
            Digest::of(&text),
        ];
        assert!(!commitments.contains(&object.commitment), "it depends on key, id and plaintext, and is no plain hash");
    }
}

#[test]
fn reader_is_finished_only_at_its_end() {
    for len in [0, 10, SEGMENT, SEGMENT + 10] {
        let object = sealed(len);
        for read in [0, len / 2, len.saturating_sub(1)] {
            let mut reader = reader(&object.bytes[..]);
            reader.read_exact(&mut vec![0; read]).unwrap();
            if len > 0 {
                assert_eq!(reader.finish().map(drop), Err(OpenError::Unread), "{read} of {len}");
            }
        }
        assert_eq!(reader(&object.bytes[..]).finish().map(drop), Err(OpenError::Unread), "nothing of {len}");
    }
}

/// Reads and writes at most `step` bytes at a time, and fails once with each of `errors` in between.
struct Rough<T> {
    inner: T,
    step: usize,
    errors: Vec<ErrorKind>,
}

impl<R: Read> Read for Rough<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.errors.pop() {
            Some(kind) => Err(kind.into()),
            None => {
                let len = out.len().min(self.step);
                self.inner.read(&mut out[..len])
            }
        }
    }
}

impl<W: Write> Write for Rough<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.errors.pop() {
            Some(kind) => Err(kind.into()),
            None => self.inner.write(&bytes[..bytes.len().min(self.step)]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[test]
fn errors_of_the_inner_reader_are_its_own_and_may_pass() {
    let object = sealed(SEGMENT + 9);
    let errors = vec![ErrorKind::WouldBlock, ErrorKind::Interrupted];
    let mut reader = reader(Rough { inner: &object.bytes[..], step: 1000, errors });
    let error = reader.read(&mut [0; 9]).unwrap_err();
    assert_eq!((error.kind(), OpenError::of(&error)), (ErrorKind::WouldBlock, None));
    let mut out = Vec::new();
    reader.read_to_end(&mut out).unwrap();
    assert_eq!(out, plaintext(SEGMENT + 9));
}

#[test]
fn failed_write_breaks_the_object_for_good() {
    let mut out = Vec::new();
    let inner = Rough { inner: &mut out, step: 1000, errors: vec![ErrorKind::StorageFull, ErrorKind::Interrupted] };
    let mut writer = SealWriter::new(&key(), OBJECT, inner);
    let text = plaintext(3 * SEGMENT);
    assert_eq!(writer.write_all(&text).unwrap_err().kind(), ErrorKind::StorageFull);
    for error in [writer.write(b"more").unwrap_err(), writer.finish().map(drop).unwrap_err()] {
        let inside = error.get_ref().and_then(|e| e.downcast_ref::<SealError>());
        assert_eq!(inside, Some(&SealError::Broken));
    }
    assert!(open(&key(), OBJECT, &out, None).is_err());
}

#[test]
fn writer_that_is_not_finished_leaves_no_object() {
    let mut out = Vec::new();
    let text = plaintext(2 * SEGMENT);
    let mut writer = SealWriter::new(&key(), OBJECT, &mut out);
    writer.write_all(&text).unwrap();
    writer.flush().unwrap();
    drop(writer);
    check_refused(&out, &text, OpenError::Truncated { segments: 1 }, "not finished");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn chunking_does_not_matter(
        len in prop_oneof![0..200usize, SEGMENT - 20..SEGMENT + 20, 0..4 * SEGMENT],
        writes in prop::collection::vec(prop_oneof![1..50usize, 1..2 * SEGMENT], 1..8),
        reads in prop::collection::vec(prop_oneof![1..50usize, 1..2 * SEGMENT], 1..8),
        step_in in prop_oneof![1..20usize, 100..100_000usize],
        step_out in prop_oneof![1..20usize, 100..100_000usize],
    ) {
        let text = plaintext(len);
        let inner = Rough { inner: Vec::new(), step: step_in, errors: vec![ErrorKind::Interrupted] };
        let mut writer = SealWriter::new(&key(), OBJECT, inner);
        let mut rest = &text[..];
        for size in writes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, after) = rest.split_at(rest.len().min(*size));
            writer.write_all(now)?;
            rest = after;
        }
        let (inner, named) = writer.finish()?;
        let whole = sealed(len);
        prop_assert_eq!(&inner.inner, &whole.bytes);
        prop_assert_eq!(named.commitment, whole.commitment);

        let inner = Rough { inner: &whole.bytes[..], step: step_out, errors: vec![ErrorKind::Interrupted] };
        let mut reader = OpenReader::new(&key(), OBJECT, inner, Some(whole.commitment));
        let mut out = Vec::new();
        for size in reads.iter().cycle() {
            let mut chunk = vec![0; *size];
            let got = reader.read(&mut chunk)?;
            if got == 0 {
                break;
            }
            out.extend_from_slice(&chunk[..got]);
        }
        prop_assert_eq!(out, text);
        prop_assert_eq!(reader.finish().map(|(_, named)| named), Ok(named));
    }

    #[test]
    fn no_bytes_open_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open(&key(), OBJECT, &bytes, None).is_err());
        prop_assert!(reader(&bytes[..]).read_to_end(&mut Vec::new()).is_err());
    }
}
