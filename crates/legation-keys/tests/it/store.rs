//! The sealed store: what is sealed, its format, and puts that are taken up again.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf,
};
use expect_test::expect_file;
use legation_core::{Bytes, Digest, ObjectId, encoding};
use legation_keys::{
    OBJECT_MAX, ObjectKey, SEGMENT, TAG,
    store::{
        CHECKPOINT_MAX, Checkpoint, CheckpointError, Code, FragmentDigest, KeyCommitment, Layout, MANIFEST_MAX,
        Manifest, ManifestError, Opener, PAGE, PIECE, Path, PieceDigest, PieceList, Position, SealError, Sealer, Step,
        Stripe, StripeIndex, piece_digest,
    },
};
use proptest::prelude::*;

use crate::plaintext;

pub(crate) const OBJECT: ObjectId = ObjectId::from_bytes(*b"object number 02");

pub(crate) fn key() -> ObjectKey {
    ObjectKey::from_bytes(*b"a key for one stored object only")
}

pub(crate) fn code(data: u8, parity: u8) -> Code {
    Code::new(data, parity).unwrap()
}

/// An object as its holders keep it: by fragment, its pieces and their digests.
pub(crate) struct Stored {
    pub(crate) text: Vec<u8>,
    pub(crate) manifest: Manifest,
    pub(crate) pieces: Vec<Vec<Vec<u8>>>,
    pub(crate) digests: Vec<Vec<PieceDigest>>,
    pub(crate) lists: Vec<PieceList>,
}

impl Stored {
    pub(crate) fn new(code: Code, len: usize) -> Self {
        Self::of(OBJECT, code, plaintext(len), &[len + 1])
    }

    /// Seals a text, pushed in chunks of these sizes, over and over.
    pub(crate) fn of(object: ObjectId, code: Code, text: Vec<u8>, chunks: &[usize]) -> Self {
        let mut sealer = Sealer::new(&key(), object, code);
        let mut kept = Kept::new(code);
        let mut rest = &text[..];
        for size in chunks.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut now, after) = rest.split_at(rest.len().min(*size));
            while let Some(stripe) = sealer.push(&mut now).unwrap() {
                kept.keep(&stripe);
            }
            rest = after;
        }
        let (stripe, manifest) = sealer.finish().unwrap();
        kept.keep(&stripe);
        let Kept { pieces, digests, lists } = kept;
        Self { text, manifest, pieces, digests, lists }
    }

    pub(crate) fn path(&self, position: Position, stripe: StripeIndex) -> Path {
        path(&self.lists[at(position)], &self.digests[at(position)], stripe)
    }

    /// What an honest holder answers.
    pub(crate) fn answer(&self, position: Position, stripe: StripeIndex) -> (Vec<u8>, Path) {
        (self.pieces[at(position)][stripe.0 as usize].clone(), self.path(position, stripe))
    }
}

pub(crate) fn at(position: Position) -> usize {
    usize::from(position.0)
}

pub(crate) fn path(list: &PieceList, digests: &[PieceDigest], stripe: StripeIndex) -> Path {
    let index = stripe.0 / PAGE;
    let page = digests.chunks(PAGE as usize).nth(index as usize).unwrap();
    let bytes: Vec<u8> = page.iter().flat_map(|digest| *digest.as_bytes()).collect();
    list.path(&list.page(index, &bytes).unwrap(), stripe.0).unwrap()
}

#[derive(PartialEq, Eq, Clone)]
struct Kept {
    pieces: Vec<Vec<Vec<u8>>>,
    digests: Vec<Vec<PieceDigest>>,
    lists: Vec<PieceList>,
}

impl Kept {
    fn new(code: Code) -> Self {
        let n = usize::from(code.fragments());
        Self { pieces: vec![Vec::new(); n], digests: vec![Vec::new(); n], lists: vec![PieceList::new(); n] }
    }

    fn keep(&mut self, stripe: &Stripe<'_>) {
        for piece in stripe.pieces() {
            assert_eq!(piece.stripe, stripe.index());
            self.pieces[at(piece.position)].push(piece.bytes.to_vec());
            self.digests[at(piece.position)].push(piece.digest);
            self.lists[at(piece.position)].push(piece.digest);
        }
    }
}

/// Lengths at which something begins or ends.
fn edges(code: Code) -> Vec<usize> {
    let stripe = usize::from(code.data()) * SEGMENT;
    let mut edges = vec![0, 1, 2, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * stripe + SEGMENT + 3];
    edges.extend([stripe - 1, stripe, stripe + 1, 2 * stripe]);
    edges
}

#[test]
fn whole_objects_come_back_and_have_their_lengths() {
    for code in [code(5, 4), code(1, 0), code(3, 0), code(1, 2), code(2, 1), code(16, 16)] {
        for len in edges(code) {
            let stored = Stored::new(code, len);
            let layout = stored.manifest.layout();
            assert_eq!((layout.size(), layout.code()), (Bytes(len as u64), code));
            for position in code.positions() {
                let (pieces, digests) = (&stored.pieces[at(position)], &stored.digests[at(position)]);
                assert_eq!(pieces.len() as u32, layout.pieces(position), "{code:?} {len} {position}");
                let bytes: usize = pieces.iter().map(Vec::len).sum();
                assert_eq!(Bytes(bytes as u64), layout.fragment_len(position), "{code:?} {len} {position}");
                assert!(stored.manifest.is_list(position, &stored.lists[at(position)]));
                for (stripe, (piece, digest)) in (0..).map(StripeIndex).zip(pieces.iter().zip(digests)) {
                    assert_eq!(*digest, piece_digest(OBJECT, position, stripe, piece));
                    let path = stored.path(position, stripe);
                    assert_eq!(
                        stored.manifest.check(position, stripe, piece, &path),
                        Ok(()),
                        "{len} {position} {stripe}"
                    );
                }
            }
            let mut opener = Opener::new(&key(), stored.manifest.clone()).unwrap();
            let mut out = Vec::new();
            loop {
                match opener.step().unwrap() {
                    Step::Want { stripe, positions } => {
                        for position in positions {
                            assert!(position.0 < code.data(), "parity is not asked for while all data is there");
                            let (piece, path) = stored.answer(position, stripe);
                            opener.give(position, stripe, &piece, &path).unwrap();
                        }
                    }
                    Step::Plain(bytes) => out.extend_from_slice(bytes),
                    Step::End => break,
                }
            }
            assert!(out == stored.text && opener.altered().is_empty(), "{code:?} {len}");
            assert_eq!(opener.offset(), Bytes(len as u64));
            assert_eq!(opener.step().unwrap(), Step::End);
        }
    }
}

#[test]
fn format_does_not_change_silently() {
    let mut text = String::new();
    for (code, len) in [(code(2, 1), 0), (code(5, 4), 100), (code(3, 0), SEGMENT), (code(5, 4), 7 * SEGMENT + 3)] {
        let stored = Stored::new(code, len);
        text += &format!(
            "{} + {}, plaintext {len} bytes, sha256 {}\n",
            code.data(),
            code.parity(),
            Digest::of(&stored.text)
        );
        text += &format!("manifest {}\n", encoding::hex(&stored.manifest.to_bytes()));
        text += &format!("sha256   {}\n", stored.manifest.digest());
        for position in code.positions() {
            let bytes = stored.pieces[at(position)].concat();
            text += &format!("fragment {position}: {} bytes, sha256 {}\n", bytes.len(), Digest::of(&bytes));
        }
        text += "\n";
    }
    expect_file!["golden/store-v2.txt"].assert_eq(&text);
}

/// The key schedule and the segments once more, from the description of the format alone.
#[test]
fn segments_are_as_described() {
    let stored = Stored::new(code(2, 1), 2 * SEGMENT + 5);
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"legation-object-v2").extract(b"a key for one stored object only");
    let mut commitment = [0; 32];
    let info: [&[u8]; 2] = [b"check", OBJECT.as_bytes()];
    prk.expand(&info, hkdf::HKDF_SHA256).unwrap().fill(&mut commitment).unwrap();
    assert_eq!(stored.manifest.commitment(), KeyCommitment::from_bytes(commitment));
    let info: [&[u8]; 2] = [b"seal", OBJECT.as_bytes()];
    let cipher = LessSafeKey::new(UnboundKey::from(prk.expand(&info, &AES_256_GCM).unwrap()));
    let aad = [&b"legation-object-v2"[..], OBJECT.as_bytes()].concat();
    for (index, text) in (0_u8..).zip(stored.text.chunks(SEGMENT)) {
        let mut sealed = stored.pieces[usize::from(index % 2)][usize::from(index / 2)].clone();
        let nonce = Nonce::assume_unique_for_key([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, index, u8::from(index == 2)]);
        assert_eq!(cipher.open_in_place(nonce, Aad::from(&aad), &mut sealed).unwrap(), text);
    }
    // With one piece of data, parity is the same piece again or a multiple of it; with none, there is none.
    assert_eq!(Stored::new(code(1, 0), 10).pieces.len(), 1);
}

#[test]
fn manifests_have_one_spelling() {
    for code in [code(1, 0), code(5, 4), code(16, 16)] {
        let manifest = Stored::new(code, 100).manifest;
        let bytes = manifest.to_bytes();
        assert!(bytes.len() <= MANIFEST_MAX);
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest.clone()));
        assert_eq!(manifest.digest(), Digest::of(&bytes));
        for cut in 0..bytes.len() {
            assert!(Manifest::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let refused = ManifestError::Length { expected: bytes.len(), got: bytes.len() + 1 };
        assert_eq!(Manifest::from_bytes(&longer), Err(refused));
        for byte in 0..bytes.len() {
            let mut other = bytes.clone();
            other[byte] ^= 0x81;
            // What is read at all is another manifest, and is written as it was read.
            if let Ok(read) = Manifest::from_bytes(&other) {
                assert!(read != manifest && read.to_bytes() == other, "byte {byte}");
            }
        }
    }
    let mut bytes = Stored::new(code(1, 0), 100).manifest.to_bytes();
    bytes[32..40].copy_from_slice(&(OBJECT_MAX.0 + 1).to_be_bytes());
    let size = Bytes(OBJECT_MAX.0 + 1);
    assert_eq!(Manifest::from_bytes(&bytes), Err(ManifestError::TooLong { size }));
    bytes[32..40].copy_from_slice(&u64::MAX.to_be_bytes());
    assert_eq!(Manifest::from_bytes(&bytes), Err(ManifestError::TooLong { size: Bytes(u64::MAX) }));
    bytes[40] = 17;
    assert!(matches!(Manifest::from_bytes(&bytes), Err(ManifestError::Code(_))));
    bytes[0] = b'L';
    assert_eq!(Manifest::from_bytes(&bytes), Err(ManifestError::Magic));
}

#[test]
fn fragments_without_pieces_have_one_digest() {
    // One segment, so four fragments of data have none.
    let manifest = Stored::new(code(5, 4), 100).manifest;
    let expected = manifest.fragments()[1];
    for position in (0..9).map(Position) {
        let mut bytes = manifest.to_bytes();
        bytes[74 + 32 * at(position)] ^= 1;
        let read = Manifest::from_bytes(&bytes);
        if (1..5).contains(&position.0) {
            let mut other = *expected.as_bytes();
            other[0] ^= 1;
            let (size, got) = (Bytes(100), FragmentDigest::from_bytes(other));
            assert_eq!(read, Err(ManifestError::Absent { position, size, expected, got }));
        } else {
            assert!(read.is_ok(), "{position}");
        }
    }
}

/// Puts `text` until stripe `until` was given out, and says where it stands.
fn interrupted(code: Code, text: &[u8], until: u32) -> (Checkpoint, Kept) {
    let mut sealer = Sealer::new(&key(), OBJECT, code);
    let mut kept = Kept::new(code);
    let mut rest = text;
    while let Some(stripe) = sealer.push(&mut rest).unwrap() {
        if stripe.index().0 == until {
            return (stripe.checkpoint(), kept);
        }
        kept.keep(&stripe);
    }
    let (stripe, _) = sealer.finish().unwrap();
    assert_eq!(stripe.index().0, until);
    (stripe.checkpoint(), kept)
}

/// Goes on, and gives what was refused, if something was.
fn resumed(checkpoint: &Checkpoint, text: &[u8], kept: &mut Kept) -> Result<Manifest, SealError> {
    let mut sealer = Sealer::resume(&key(), checkpoint)?;
    assert_eq!(sealer.offset().0, u64::from(checkpoint.stripe().0) * 2 * SEGMENT as u64);
    let mut rest = text.get(sealer.offset().0 as usize..).unwrap_or_default();
    while let Some(stripe) = sealer.push(&mut rest)? {
        kept.keep(&stripe);
    }
    let (stripe, manifest) = sealer.finish()?;
    kept.keep(&stripe);
    Ok(manifest)
}

#[test]
fn interrupted_puts_go_on_with_the_same_bytes_and_no_others() {
    let code = code(2, 1);
    for len in [0, 1, 2 * SEGMENT, 2 * SEGMENT + 1, 7 * SEGMENT + 9] {
        let whole = Stored::new(code, len);
        for until in 0..whole.manifest.layout().stripes() {
            let (checkpoint, kept) = interrupted(code, &whole.text, until);
            let bytes = checkpoint.to_bytes();
            assert!(bytes.len() <= CHECKPOINT_MAX);
            let checkpoint = Checkpoint::from_bytes(&bytes).unwrap();
            assert_eq!(
                (checkpoint.stripe(), checkpoint.object(), checkpoint.to_bytes()),
                (StripeIndex(until), OBJECT, bytes)
            );

            let mut all = kept.clone();
            assert_eq!(resumed(&checkpoint, &whole.text, &mut all), Ok(whole.manifest.clone()), "{len} from {until}");
            assert!(all.pieces == whole.pieces && all.lists == whole.lists);

            let first = until as usize * 2 * SEGMENT;
            let changed = Err(SealError::Changed { stripe: StripeIndex(until) });
            let mut others = vec![[&whole.text[..], b"x"].concat(), whole.text[..first].to_vec()];
            if let Some(byte) = whole.text.get(first) {
                others.push(whole.text.clone());
                others[2][first] = byte ^ 1;
                others.push(whole.text[..whole.text.len() - 1].to_vec());
            }
            // A stripe is what it was when its bytes are, and whether it is the last; what differs further on was never sealed.
            let end = first + 2 * SEGMENT;
            let stripe = |text: &[u8]| (text.get(first..end.min(text.len())).map(<[u8]>::to_vec), text.len() <= end);
            for other in others.iter().filter(|other| stripe(other) != stripe(&whole.text)) {
                let mut nothing = kept.clone();
                assert_eq!(
                    resumed(&checkpoint, other, &mut nothing),
                    changed,
                    "{len} from {until}, now {}",
                    other.len()
                );
                assert!(nothing == kept, "nothing was given out");
            }
        }
    }
    let (checkpoint, _) = interrupted(code, &plaintext(5), 0);
    let refused = Sealer::resume(&ObjectKey::from_bytes([0; 32]), &checkpoint).map(drop);
    assert_eq!(refused, Err(SealError::WrongKey));
}

#[test]
fn checkpoints_are_read_strictly() {
    let (checkpoint, _) = interrupted(code(2, 1), &plaintext(8 * SEGMENT), 3);
    let bytes = checkpoint.to_bytes();
    for cut in 0..bytes.len() {
        assert_eq!(Checkpoint::from_bytes(&bytes[..cut]), Err(CheckpointError), "cut at {cut}");
    }
    assert_eq!(Checkpoint::from_bytes(&[&bytes[..], &[0; 32]].concat()), Err(CheckpointError));
    for (at, value) in [(0, b'L'), (32, 0), (32, 17), (33, 17), (66, 1), (69, 1), (69, 7)] {
        let mut other = bytes.clone();
        other[at] = value;
        assert_eq!(Checkpoint::from_bytes(&other), Err(CheckpointError), "{at} {value}");
    }
}

#[test]
fn sealers_end() {
    let text = plaintext(5 * SEGMENT);
    let mut sealer = Sealer::new(&key(), OBJECT, code(2, 1));
    let mut rest = &text[..];
    assert_eq!(sealer.push(&mut rest).unwrap().unwrap().index(), StripeIndex(0));
    assert_eq!(sealer.finish().map(drop), Err(SealError::LeftOver));
    assert_eq!(sealer.finish().map(drop), Err(SealError::Ended));

    let mut sealer = Sealer::new(&key(), OBJECT, code(2, 1));
    sealer.finish().unwrap();
    assert_eq!(sealer.push(&mut &b"more"[..]).map(drop), Err(SealError::Ended));
    assert_eq!(sealer.push(&mut &b""[..]).map(drop), Err(SealError::Ended));
}

/// 192 MiB that are nowhere kept: what is sealed is opened stripe by stripe, and sealed a second time for that.
#[test]
fn large_objects_need_no_more_memory_than_small_ones() {
    const MIB: usize = 1 << 20;
    fn each(code: Code, keep: &mut dyn FnMut(&Stripe<'_>)) -> Manifest {
        let zeros = vec![0; MIB];
        let mut sealer = Sealer::new(&key(), OBJECT, code);
        for _ in 0..192 {
            let mut chunk = &zeros[..];
            while let Some(stripe) = sealer.push(&mut chunk).unwrap() {
                keep(&stripe);
            }
        }
        let (stripe, manifest) = sealer.finish().unwrap();
        keep(&stripe);
        manifest
    }
    let code = code(5, 4);
    let n = usize::from(code.fragments());
    let (mut lists, mut digests) = (vec![PieceList::new(); n], vec![Vec::new(); n]);
    let manifest = each(code, &mut |stripe| {
        for piece in stripe.pieces() {
            lists[at(piece.position)].push(piece.digest);
            digests[at(piece.position)].push(piece.digest);
        }
    });
    assert_eq!(manifest.layout(), Layout::new(code, Bytes(192 * MIB as u64)).unwrap());
    let mut opener = Opener::new(&key(), manifest.clone()).unwrap();
    // Two fragments of data are lost, so every stripe is decoded.
    opener.lose(Position(1));
    opener.lose(Position(4));
    let mut read = 0;
    let again = each(code, &mut |now| loop {
        match opener.step().unwrap() {
            Step::Want { stripe, .. } if stripe > now.index() => break,
            Step::Want { stripe, positions } => {
                for piece in now.pieces().filter(|piece| positions.contains(&piece.position)) {
                    let path = path(&lists[at(piece.position)], &digests[at(piece.position)], stripe);
                    opener.give(piece.position, stripe, piece.bytes, &path).unwrap();
                }
            }
            Step::Plain(bytes) => {
                assert!(bytes.iter().all(|byte| *byte == 0));
                read += bytes.len();
            }
            Step::End => break,
        }
    });
    assert_eq!((again, read), (manifest, 192 * MIB));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chunking_does_not_matter(
        data in 1..4_u8,
        parity in 0..3_u8,
        len in prop_oneof![0..200usize, SEGMENT - 20..SEGMENT + 20, 0..7 * SEGMENT],
        chunks in prop::collection::vec(prop_oneof![1000..5000usize, 1..2 * SEGMENT, SEGMENT - 1..SEGMENT + 2], 1..8),
    ) {
        let whole = Stored::new(code(data, parity), len);
        let cut = Stored::of(OBJECT, code(data, parity), whole.text.clone(), &chunks);
        prop_assert!(cut.manifest == whole.manifest && cut.pieces == whole.pieces);
        let tagged: usize = cut.pieces[..usize::from(data)].iter().flatten().map(Vec::len).sum();
        prop_assert_eq!(tagged, len + TAG * cut.manifest.layout().segments() as usize);
        prop_assert!(cut.pieces.iter().flatten().all(|piece| piece.len() <= PIECE));
    }
}
