//! One binary for every target: `LEGATION_FUZZ_TARGET` names it. `cargo xtask fuzz` builds and runs it.
//!
//! A target must not panic, whatever the bytes are; some also say what must hold of what was read.
#![no_main]

use std::sync::{Arc, LazyLock};

use legation_attest::{azure, dcap, nitro, nvidia, passport, report_view, snp, tpm, unverified, x509};
use legation_core::{
    Digest, Envelope, Receipt, Requirement, RevocationList, UnixTime,
    claims::{Claims, Configuration, Evidence, EvidenceJudge as _, KeyBinding, Shelf},
    custody::{self, Ack, Charter, CustodyCall, CustodyWord, Release, ReleasePolicy, Return},
    statement::{Appointment, KeyAttestation, Passport},
};
use legation_keys::{
    ObjectKey,
    store::{self, Position, StripeIndex},
    swarm,
};
use legation_log::{AddCheckpoint, Consistency, Fork, Inclusion, Note, NoteKey, TilePath, cose, note, tile};
use legation_policy::{Options, Policy, References};
use libfuzzer_sys::fuzz_target;

mod held;
mod said;
mod stored;
mod world;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("snp-report", |data| {
        let _ = snp::Report::parse(data);
    }),
    ("snp-certificate", |data| {
        let _ = unverified::snp_leaf(data);
        let _ = report_view::with_intermediate(data, [data.to_vec()]);
    }),
    ("snp-vcek", |data| {
        if let Ok(vcek) = snp::Vcek::of_report(data) {
            assert!(!vcek.name().is_empty());
        }
    }),
    ("snp-crl", |data| {
        let _ = snp::Crl::parse(data);
    }),
    ("x509-certificate", |data| {
        let _ = x509::Certificate::parse("fuzz", "certificate", data);
    }),
    ("x509-crl", |data| {
        let _ = x509::Crl::parse("fuzz", data);
    }),
    ("dcap-quote", |data| {
        let _ = (dcap::parse_quote(data).is_ok(), dcap::collateral_name(data));
    }),
    ("dcap-collateral", |data| {
        let _ = dcap::Collateral::parse(data);
    }),
    ("nitro-document", |data| {
        let _ = nitro::Document::parse(nitro::find_document(data));
    }),
    ("nvidia-transcript", |data| {
        let _ = nvidia::Transcript::parse(data);
    }),
    ("nvidia-firmware", |data| {
        let _ = unverified::gpu_firmware(data);
    }),
    ("pem", |data| {
        let _ = (unverified::pem_blocks(data), report_view::certificates(data));
    }),
    ("tpm-certificate", |data| {
        let _ = unverified::tpm_certificate(data);
    }),
    ("tpm-quote", |data| {
        let _ = tpm::Quote::parse(data);
    }),
    ("tpm-signature", |data| {
        let _ = tpm::Signature::parse(data);
    }),
    ("tpm-public", |data| {
        if let Ok(public) = tpm::Public::parse(data) {
            assert_eq!(public.bytes(), data, "a public area is its own bytes");
        }
        let _ = tpm::Key::from_spki(data);
    }),
    ("tpm-report", |data| {
        let _ = tpm::Report::parse(data);
    }),
    ("tpm-eventlog", |data| {
        if let Ok(log) = tpm::eventlog::EventLog::parse(data) {
            let _ = (log.replay(tpm::HashAlg::Sha256), log.replay_rtmrs(), log.secure_boot(tpm::HashAlg::Sha256));
        }
        let _ = tpm::eventlog::EventLog::parse_padded(data).is_ok();
    }),
    ("azure-report", |data| {
        let _ = (azure::Report::parse(data), azure::from_trustee_json(data));
    }),
    ("azure-hcl", |data| {
        let _ = azure::HclReport::parse(data);
    }),
    ("azure-runtime", |data| {
        let _ = azure::Runtime::parse(data);
    }),
    ("evidence", |data| {
        let Some(world) = world::WORLD.as_ref() else { return };
        let Ok(evidence) = serde_json::from_slice::<Evidence>(data) else { return };
        // What no signature covers may be spelled differently; nothing that is believed says anything else.
        if let Ok(judged) = world.judge.judge(&evidence, &Shelf::empty(), world::NOW) {
            assert_eq!(judged, world.judged, "nobody can guess a signature over another binding");
        }
    }),
    ("evidence-parts", |data| {
        let _ = (serde_json::from_slice::<KeyBinding>(data), serde_json::from_slice::<Configuration>(data));
        if let Ok(claims) = serde_json::from_slice::<Claims>(data) {
            let again = serde_json::to_vec(&claims).ok().and_then(|json| serde_json::from_slice(&json).ok());
            assert_eq!(again, Some(claims), "claims are read as they were written");
        }
    }),
    ("statements", |data| {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(data) else { return };
        let _ = (envelope.peek::<KeyAttestation>().is_ok(), envelope.peek::<Appointment>().is_ok());
        if let Ok(list) = envelope.peek::<RevocationList>() {
            let _ = list.check();
        }
        let _ = envelope.peek::<Passport>().is_ok();
        assert!(passport::open(&envelope, &envelope, &[], UnixTime(1_775_000_000)).is_err(), "nobody is trusted");
        assert!(RevocationList::open(&envelope, &envelope, &[]).is_err(), "nobody is trusted");
    }),
    ("references", |data| {
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(references) = References::from_json(text)
        {
            assert!(references.iter().all(|value| value.check().is_ok()));
        }
    }),
    ("envelope", |data| {
        if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
            let _ = (envelope.digest(), envelope.predicate_type());
        }
    }),
    ("receipt", |data| {
        let _ = Receipt::from_text(data);
    }),
    ("requirement", |data| {
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(requirement) = Requirement::parse(text)
        {
            assert_eq!(requirement.source(), text);
        }
    }),
    ("policy", |data| {
        if let Ok(text) = std::str::from_utf8(data) {
            let references = Arc::new(References::assumed(text));
            let _ = Policy::load("fuzz", text, references, Options::default());
        }
    }),
    ("log-note", |data| {
        let Ok(text) = std::str::from_utf8(data) else { return };
        if let Ok(note) = Note::parse(text) {
            assert_eq!(note.to_string(), text, "a note has one spelling");
            let _ = note.text().parse::<legation_log::Checkpoint>();
        }
        if let Ok(request) = AddCheckpoint::parse(text) {
            assert_eq!(request.to_string(), text, "a request has one spelling");
        }
        if let Ok(key) = text.parse::<NoteKey>() {
            assert_eq!(key.to_string(), text, "a key has one spelling");
        }
        let _ = (note::signature_lines(text).is_ok(), serde_json::from_str::<Fork>(text).is_ok());
    }),
    ("log-tile", |data| {
        let _ = tile::entries(data);
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(path) = text.parse::<TilePath>()
        {
            assert_eq!(path.to_string(), text, "a tile has one path");
        }
    }),
    ("log-cose", |data| {
        let stranger = legation_core::PublicKey::from_bytes([3; 32]);
        assert!(cose::verify(data, b"entry", &stranger).is_err(), "nobody can guess a signature");
    }),
    ("log-proof", |data| {
        let (leaf, root) = (legation_core::Digest::of(data), legation_core::Digest::of(b"root"));
        if let Ok(proof) = serde_json::from_slice::<Inclusion>(data) {
            assert!(proof.verify(&leaf, &root).is_err(), "nobody can guess a root");
        }
        if let Ok(proof) = serde_json::from_slice::<Consistency>(data) {
            assert!(proof.verify(&leaf, &root).is_err(), "nobody can guess a root");
        }
    }),
    ("store-manifest", |data| {
        let Ok(manifest) = store::Manifest::from_bytes(data) else { return };
        assert_eq!(manifest.to_bytes(), data, "a manifest has one spelling");
        let layout = manifest.layout();
        let mut sealed = 0;
        for position in layout.code().positions() {
            let pieces = layout.pieces(position);
            assert_eq!(layout.piece_len(position, StripeIndex(pieces)), None, "there are as many pieces as it says");
            if let Some(last) = pieces.checked_sub(1).map(StripeIndex) {
                let tail = layout.piece_len(position, last).map(|len| store::Layout::piece_offset(last).0 + len as u64);
                assert_eq!(tail, Some(layout.fragment_len(position).0), "a fragment ends with its last piece");
            }
            if position.0 < layout.code().data() {
                sealed += layout.fragment_len(position).0;
            }
        }
        let tags = u64::from(layout.segments()) * legation_keys::TAG as u64;
        assert_eq!(sealed, layout.size().0 + tags, "the data is the plaintext and its tags");
        let stranger = ObjectKey::from_bytes([0; 32]);
        assert!(store::Opener::new(&stranger, manifest.clone()).is_err(), "nobody can guess a commitment");
        // Its own key opens what nobody altered, and nothing else gets further than to ask for pieces.
        if let Ok(mut opener) = store::Opener::new(&stored::key(), manifest.clone()) {
            assert!(matches!(opener.step(), Ok(store::Step::Want { .. })), "nothing comes out of no piece");
        }
        if let Ok(mut mender) = store::Mender::new(manifest, &[Position(0)]) {
            assert!(!matches!(mender.step(), Ok(store::MendStep::Made(_))), "nothing is made of no piece");
        }
    }),
    ("store-checkpoint", |data| {
        let Ok(checkpoint) = store::Checkpoint::from_bytes(data) else { return };
        assert_eq!(checkpoint.to_bytes(), data, "a checkpoint has one spelling");
        let stranger = ObjectKey::from_bytes([0; 32]);
        assert!(store::Sealer::resume(&stranger, &checkpoint).is_err(), "nobody can guess a commitment");
        if let Ok(mut sealer) = store::Sealer::resume(&stored::key(), &checkpoint) {
            assert!(sealer.finish().is_err(), "a put goes on with the bytes that it was interrupted at");
        }
    }),
    ("store-list", |data| {
        let (digests, rest) = data.as_chunks::<32>();
        let mut list = store::PieceList::new();
        digests.iter().for_each(|digest| list.push(store::PieceDigest::from_bytes(*digest)));
        let file = &data[..data.len() - rest.len()];
        for (page, bytes) in (0..).zip(file.chunks(32 * store::PAGE as usize)) {
            let Ok(held) = list.page(page, bytes) else { panic!("page {page} is of this list") };
            assert!(list.page(page, &bytes[1..]).is_err(), "a page is whole");
            let first = page * store::PAGE;
            for index in first..first + bytes.len() as u32 / 32 {
                let Ok(path) = list.path(&held, index) else { panic!("piece {index} has a path") };
                assert_eq!(store::Path::from_bytes(&path.to_bytes()), Some(path), "a path has one spelling");
            }
            assert!(list.path(&held, list.len()).is_err(), "the list ends");
        }
        // The same bytes as a page of another list.
        if let Some((list, own)) = stored::STORED.as_ref().and_then(stored::Stored::list) {
            assert_eq!(list.page(0, data).is_ok(), own == data, "nobody can guess a root");
        }
    }),
    ("store-piece", |data| {
        let Some(stored) = stored::STORED.as_ref() else { return };
        let Some((&[position, stripe, digests], rest)) = data.split_first_chunk::<3>() else { return };
        let Some((path, bytes)) = rest.split_at_checked(32 * usize::from(digests)) else { return };
        let Some(path) = store::Path::from_bytes(path) else {
            assert!(usize::from(digests) > store::PATH_MAX, "a path of whole digests is only refused as too long");
            return;
        };
        let (position, stripe) = (Position(position), StripeIndex(stripe.into()));
        let checked = stored.manifest.check(position, stripe, bytes, &path);
        match &checked {
            Ok(()) => assert_eq!(stored.piece(position, stripe), Some(bytes), "nobody can guess a root"),
            Err(store::PieceError::Altered(altered)) => {
                assert_eq!((altered.position, altered.stripe), (position, stripe), "who answered is named");
            }
            Err(store::PieceError::Unwanted { .. }) => assert_eq!(stored.piece(position, stripe), None),
        }
        // A reader of the last stripe believes the same, and nothing of another.
        let Ok(mut opener) = store::Opener::range(&stored::key(), stored.manifest.clone(), stored::tail()) else {
            panic!("the object has these bytes")
        };
        assert!(matches!(opener.step(), Ok(store::Step::Want { .. })));
        let unwanted = Err(store::PieceError::Unwanted { position, stripe });
        let expected = if stripe == stored::LAST { checked } else { unwanted };
        assert_eq!(opener.give(position, stripe, bytes, &path), expected);
        if let Ok(store::Step::Plain(plain)) = opener.step() {
            assert_eq!(plain, [stored::BYTE; 100]);
        }
    }),
    ("swarm-dealing", |data| {
        let Ok(dealing) = swarm::Dealing::from_bytes(data) else { return };
        assert_eq!(dealing.to_bytes(), data, "a dealing has one spelling");
        assert_eq!(dealing.digest(), Digest::of(data), "its digest is that of its bytes");
        let Some(held) = held::HELD.as_ref() else { return };
        assert_eq!(held.is_dealt(&dealing), data == held.dealing, "nobody can guess a share");
    }),
    ("swarm-roster", |data| {
        let Ok(roster) = swarm::Roster::from_bytes(data) else { return };
        assert_eq!(roster.to_bytes(), data, "a roster has one spelling");
        assert_eq!(roster.digest(), Digest::of(data), "its digest is that of its bytes");
        assert_eq!(roster.members().len(), usize::from(roster.threshold().members()), "all members are named");
        let Some(held) = held::HELD.as_ref() else { return };
        assert_eq!(held.is_roster(&roster), data == held.roster, "shares are of one roster");
    }),
    ("swarm-share", |data| {
        let Ok(share) = swarm::Share::from_bytes(data) else { return };
        assert!(share.to_bytes()[..] == *data, "a share has one spelling");
        let Some(held) = held::HELD.as_ref() else { return };
        assert_eq!(held.is_share(&share), data == held.share, "nobody can guess a share");
    }),
    ("swarm-partial", |data| {
        let Ok(partial) = swarm::SealedPartial::from_bytes(data) else { return };
        assert_eq!(partial.to_bytes(), data, "a sealed partial has one spelling");
        let Some(held) = held::HELD.as_ref() else { return };
        assert_eq!(held.is_partial(&partial), data == held.partial, "nobody can guess a partial");
    }),
    ("swarm-sealed", |data| {
        let carried = custody::SwarmSealed::from_bytes(data);
        let Ok(sealed) = swarm::SwarmSealed::from_bytes(data) else { return };
        assert_eq!(sealed.to_bytes()[..], *data, "a wrapped key has one spelling");
        let Ok(carried) = carried else { panic!("who carries it reads what opens") };
        assert_eq!((carried.key(), carried.label()), (sealed.key(), sealed.label()), "they read the same");
        let Some(held) = held::HELD.as_ref() else { return };
        assert_eq!(held.opens(&sealed), data == held.sealed, "nobody opens what was altered");
    }),
    ("custody-word", |data| {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(data) else { return };
        let Some(said) = said::SAID.as_ref() else { return };
        if let Ok(charter) = envelope.peek::<Charter>() {
            let _ = (charter.validate(), charter.check_follows(&said.charter));
            let _ = charter.check_members(&said.committee.members);
        }
        if let Ok(call) = envelope.peek::<CustodyCall>() {
            let _ = call.check(&said.charter, Some(&said.committee));
        }
        if let Ok(back) = envelope.peek::<Return>() {
            let _ = back.check(&said.committee);
        }
        let _ = (envelope.peek::<Ack>().is_ok(), envelope.peek::<Release>().map(|release| release.validate()).is_ok());
        if let Ok(word) = CustodyWord::open(&envelope) {
            assert!(said.has(word.envelope()), "nobody can guess a signature");
            assert_eq!(word.digest(), envelope.digest(), "a word is its envelope");
        }
    }),
    ("custody-policy", |data| {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let Ok(policy) = ReleasePolicy::parse(text) else { return };
        assert_eq!(policy.text(), text, "a release policy has one spelling");
        assert_eq!(policy.digest(), Digest::of(data), "its digest is that of its text");
        assert!(policy.validate().is_ok(), "what is read is well formed");
    }),
];

fuzz_target!(init: world::seed(), |data: &[u8]| {
    static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
        let name = std::env::var("LEGATION_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run);
        found.unwrap_or_else(|| {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            panic!("LEGATION_FUZZ_TARGET is `{name}`; it must be one of {}", names.join(" "))
        })
    });
    TARGET(data);
});
