//! Envelopes: one statement, one signature, one digest.

use std::sync::Mutex;

use legation_core::{
    Digest, Envelope, PublicKey, Signature, Signed, Signer, UnixTime,
    dsse::{self, EnvelopeError, PAYLOAD_MAX, PAYLOAD_TYPE, SUBJECTS_MAX},
    encoding,
    statement::{Appointment, Grant, Office, Passport, Request},
    task::{Fragment, Input},
};

use crate::{
    party::{Impostor, Party},
    world::{Plan, Said, build, no_bend, sealed},
};

fn appointment() -> Appointment {
    let operator = Party::new("operator").key();
    let key = Party::new("verifier").key();
    Appointment {
        operator,
        key,
        office: Office::Verifier,
        scope: None,
        not_before: UnixTime(1),
        not_after: UnixTime(2),
    }
}

fn signed() -> Signed<Appointment> {
    dsse::sign(appointment(), &Party::new("operator"))
}

fn read(json: &str) -> Result<Envelope, serde_json::Error> {
    serde_json::from_str(json)
}

/// An envelope over any payload at all.
fn envelope(payload: &[u8], signer: &dyn Signer) -> Envelope {
    let mut message = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    let sig = encoding::base64(&signer.sign(&message).0);
    let keyid = signer.public_key().id();
    let payload = encoding::base64(payload);
    let json = format!(
        r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"{payload}","signatures":[{{"keyid":"{keyid}","sig":"{sig}"}}]}}"#
    );
    read(&json).unwrap()
}

/// A signature that comes from elsewhere makes the same envelope, if it is one.
#[test]
fn a_statement_takes_the_signature_of_the_key_that_it_names_and_no_other() {
    let sign = |name: &'static str| Party::new(name).sign(dsse::unsigned(appointment()).message());
    let made = dsse::unsigned(appointment()).signed(sign("operator")).unwrap();
    assert_eq!(made.envelope().to_json(), signed().envelope().to_json());
    assert_eq!(made.envelope().open::<Appointment>().unwrap().predicate(), &appointment());
    let mut bent = sign("operator");
    bent.0[0] ^= 1;
    for refused in [sign("verifier"), bent, Signature([0; 64])] {
        assert!(dsse::unsigned(appointment()).signed(refused).is_err());
    }
    let other = Appointment { not_after: UnixTime(3), ..appointment() };
    assert!(dsse::unsigned(other).signed(sign("operator")).is_err(), "a signature over another statement");
}

#[test]
fn what_is_signed_is_the_pre_authentication_encoding() {
    // DSSE v1, protocol.md: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body, lengths in ASCII decimal bytes.
    struct Recorder(Mutex<Vec<u8>>, Party);
    impl Signer for Recorder {
        fn public_key(&self) -> PublicKey {
            self.1.key()
        }
        fn sign(&self, message: &[u8]) -> Signature {
            *self.0.lock().unwrap() = message.to_vec();
            self.1.sign(message)
        }
    }
    let recorder = Recorder(Mutex::new(Vec::new()), Party::new("operator"));
    let signed = dsse::sign(appointment(), &recorder);
    let message = recorder.0.into_inner().unwrap();
    let payload = signed.envelope().payload();
    let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len());
    assert_eq!(message, [head.as_bytes(), payload].concat());
    assert!(
        payload.starts_with(
            br#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"key","digest":{"sha256":""#
        )
    );
    let end = br#","predicateType":"https://legation.dev/appointment/v1","predicate":{"operator":""#;
    assert!(payload.windows(end.len()).any(|w| w == end));
    assert_eq!(signed, self::signed(), "Ed25519 is deterministic: the same statement is the same envelope");
}

#[test]
fn the_digest_is_that_of_the_text() {
    for envelope in build(Plan::default(), &no_bend).envelopes {
        let text = envelope.to_json();
        assert_eq!(envelope.digest(), Digest::of(text.as_bytes()));
        assert_eq!(serde_json::to_string(&envelope).unwrap(), text);
        let again = read(&text).unwrap();
        assert_eq!(
            (again.digest(), again.payload(), again.keyid()),
            (envelope.digest(), envelope.payload(), envelope.keyid())
        );
        assert_eq!(again, envelope);
    }
}

#[test]
fn a_signed_statement_travels_as_its_envelope() {
    let signed = signed();
    let text = serde_json::to_string(&signed).unwrap();
    assert_eq!(text, signed.envelope().to_json());
    let again: Signed<Appointment> = serde_json::from_str(&text).unwrap();
    assert_eq!((&again, again.digest(), again.predicate()), (&signed, signed.digest(), &appointment()));
    assert_eq!(signed.envelope().peek::<Appointment>(), Ok(appointment()));
    assert_eq!(signed.envelope().predicate_type().unwrap(), "https://legation.dev/appointment/v1");
    assert_eq!(signed.envelope().open_by::<Appointment>(&Party::new("operator").key()), Ok(signed.clone()));
    let error = signed.envelope().open_by::<Appointment>(&Party::new("verifier").key()).unwrap_err();
    assert!(matches!(error, EnvelopeError::WrongKey { .. }), "{error}");
}

#[test]
fn other_spellings_are_refused_or_are_the_same_envelope() {
    let text = signed().envelope().to_json();
    let keyid = Party::new("operator").key().id().to_string();
    let edit = |from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    };
    // The payload's length is no multiple of three: its base64 ends with padding.
    let padded = text.find("=\",\"signatures").expect("padding");
    for (what, other) in [
        ("another payload type", edit(PAYLOAD_TYPE, "application/json")),
        ("no payload type", edit("\"payloadType\":\"application/vnd.in-toto+json\",", "")),
        ("a field more", edit("{\"payloadType\"", "{\"more\":1,\"payloadType\"")),
        (
            "a field twice",
            edit("{\"payloadType\"", "{\"payloadType\":\"application/vnd.in-toto+json\",\"payloadType\""),
        ),
        ("a field more in the signature", edit("{\"keyid\"", "{\"cert\":\"\",\"keyid\"")),
        ("no signature", format!("{}\"signatures\":[]}}", &text[..text.find("\"signatures\"").unwrap()])),
        ("two signatures", text.replace("]}", &format!(",{}", &text[text.find("[{").unwrap() + 1..]))),
        ("key id in capitals", edit(&keyid, &keyid.to_uppercase())),
        ("key id cut", edit(&keyid, &keyid[..62])),
        ("no key id", edit(&keyid, "")),
        ("payload without padding", format!("{}{}", &text[..padded], &text[padded + 1..])),
        ("payload with more padding", format!("{}={}", &text[..padded], &text[padded..])),
        ("payload with a newline", format!("{}\\n{}", &text[..padded + 1], &text[padded + 1..])),
        ("payload url-safe", text.replacen("\"payload\":\"", "\"payload\":\"_-_-", 1)),
        ("signature cut", edit("==\"}]}", "\"}]}")),
        ("not an object", format!("[{text}]")),
        ("nothing", String::new()),
        ("more after it", format!("{text}{text}")),
    ] {
        assert_ne!(other, text, "{what}");
        assert!(read(&other).is_err(), "{what}: {other}");
    }
    // Trailing bits of the last base64 digit.
    let digit = text.as_bytes()[padded - 1];
    let loose = char::from(if digit == b'=' { text.as_bytes()[padded - 2] } else { digit } + 1);
    let at = if digit == b'=' { padded - 2 } else { padded - 1 };
    let other = format!("{}{loose}{}", &text[..at], &text[at + 1..]);
    assert!(read(&other).is_err(), "{other}");

    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for same in [
        format!(" {text}\n"),
        serde_json::to_string_pretty(&value).unwrap(),
        edit("\"payloadType\":\"application/vnd.in-toto+json\",", "")
            .replace("}]}", "}],\"payloadType\":\"application\\/vnd.in-toto+json\"}"),
    ] {
        assert_ne!(same, text);
        assert_eq!(read(&same).unwrap(), *signed().envelope());
        assert_eq!(read(&same).unwrap().digest(), Digest::of(text.as_bytes()));
    }
}

#[test]
fn no_byte_of_it_can_change() {
    let text = signed().envelope().to_json();
    for at in 0..text.len() {
        for other in [text.as_bytes()[at] ^ 1, text.as_bytes()[at] ^ 0x20, b'A', b'0', b'/', b' '] {
            if other == text.as_bytes()[at] {
                continue;
            }
            let mut bytes = text.clone().into_bytes();
            bytes[at] = other;
            let opened = serde_json::from_slice::<Signed<Appointment>>(&bytes);
            assert!(opened.is_err(), "byte {at}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn who_may_have_signed() {
    let operator = Party::new("operator");
    let attacker = Party::new("attacker");
    let open = |signer: &dyn Signer| dsse::sign(appointment(), signer).envelope().open::<Appointment>();
    assert_eq!(open(&operator).unwrap(), signed());
    let (expected, got) = (operator.key().id(), attacker.key().id());
    assert_eq!(open(&attacker).unwrap_err(), EnvelopeError::WrongKey { expected, got });
    let impostor = Impostor { claimed: operator.key(), own: attacker };
    assert_eq!(open(&impostor).unwrap_err(), EnvelopeError::BadSignature { key: expected });
    // A signature over the bare payload, or under another type, is none.
    struct Bare(Party, usize);
    impl Signer for Bare {
        fn public_key(&self) -> PublicKey {
            self.0.key()
        }
        fn sign(&self, message: &[u8]) -> Signature {
            self.0.sign(&message[self.1..])
        }
    }
    for skip in [1, 7, 10, 43] {
        assert_eq!(
            open(&Bare(Party::new("operator"), skip)).unwrap_err(),
            EnvelopeError::BadSignature { key: expected }
        );
    }
}

#[test]
fn what_may_be_inside() {
    let operator = Party::new("operator");
    let payload = String::from_utf8(signed().envelope().payload().to_vec()).unwrap();
    let why = |payload: &str| match envelope(payload.as_bytes(), &operator).open::<Appointment>() {
        Err(EnvelopeError::WrongStatement { wanted, why }) => {
            assert_eq!(wanted, "https://legation.dev/appointment/v1");
            why
        }
        other => panic!("{payload}: {other:?}"),
    };
    assert_eq!(envelope(payload.as_bytes(), &operator).open::<Appointment>().unwrap(), signed());
    // Any spelling of the payload is what its signer signed.
    let spaced = payload.replace(',', ", ");
    let other = envelope(spaced.as_bytes(), &operator).open::<Appointment>().unwrap();
    assert_eq!(other.predicate(), &appointment());
    assert_ne!(other.digest(), signed().digest());

    assert_eq!(why(&payload.replace("Statement/v1", "Statement/v0.1")), "_type is `https://in-toto.io/Statement/v0.1`");
    let renamed = payload.replace("appointment/v1", "appointment/v2");
    assert_eq!(why(&renamed), "predicateType is `https://legation.dev/appointment/v2`");
    let mismatch = "subjects do not match the predicate";
    let key = Party::new("verifier").key().id().to_string();
    assert_eq!(why(&payload.replace("\"name\":\"key\"", "\"name\":\"keys\"")), mismatch);
    assert_eq!(why(&payload.replace(&key, &Digest::of(b"x").to_string())), mismatch);
    let none = payload.find("[{").unwrap()..payload.find("}}]").unwrap() + 3;
    assert_eq!(why(&format!("{}[]{}", &payload[..none.start], &payload[none.end..])), mismatch);
    let twice = payload.replace("}}]", &format!("}}}},{}", &payload[none.start + 1..none.end]));
    assert_eq!(why(&twice), mismatch);
    for (what, bad) in [
        ("a field more", payload.replacen('{', "{\"more\":1,", 1)),
        ("a field more in the predicate", payload.replace("\"predicate\":{", "\"predicate\":{\"prev\":[],")),
        ("a field twice", payload.replace("\"office\":\"verifier\"", "\"office\":\"verifier\",\"office\":\"manager\"")),
        ("another digest algorithm", payload.replace("sha256", "sha512")),
        ("a fraction", payload.replace("\"not_before\":1", "\"not_before\":1.0")),
        ("a negative number", payload.replace("\"not_before\":1", "\"not_before\":-1")),
        ("an office nobody knows", payload.replace("\"verifier\"", "\"auditor\"")),
        ("an array", format!("[{payload}]")),
        ("nothing", String::new()),
        ("no text", "\u{0}".to_owned()),
    ] {
        assert_ne!(bad, payload, "{what}");
        why(&bad);
        assert!(envelope(bad.as_bytes(), &operator).peek::<Appointment>().is_err(), "{what}");
    }
    let other = signed().envelope().open::<Grant>().unwrap_err();
    assert!(matches!(&other, EnvelopeError::WrongStatement { wanted: "https://legation.dev/grant/v1", .. }), "{other}");
    assert!(signed().envelope().peek::<Passport>().is_err());
}

#[test]
fn unknown_fields_are_refused_at_every_depth() {
    // Variants with contents of their own are where they get lost most easily.
    let world = build(Plan { failed: &[3], ..Plan::default() }, &no_bend);
    let mut tried = 0;
    for envelope in &world.envelopes {
        let payload = String::from_utf8(envelope.payload().to_vec()).unwrap();
        for (at, _) in payload.match_indices('{') {
            let open = &payload[..at];
            // The trustworthiness vector is a map with any keys.
            if open.ends_with("\"vector\":") {
                continue;
            }
            let bad = format!("{open}{{\"unheard-of\":1,{}", &payload[at + 1..]);
            let other = self::envelope(bad.as_bytes(), &Party::new("operator"));
            let read = match envelope.predicate_type().unwrap().as_str() {
                "https://legation.dev/appointment/v1" => other.peek::<Appointment>().is_ok(),
                "https://legation.dev/passport/v1" => other.peek::<Passport>().is_ok(),
                "https://legation.dev/request/v1" => other.peek::<Request>().is_ok(),
                "https://legation.dev/grant/v1" => other.peek::<Grant>().is_ok(),
                "https://legation.dev/allocation/v1" => other.peek::<legation_core::statement::Allocation>().is_ok(),
                "https://legation.dev/report/v1" => other.peek::<legation_core::statement::Report>().is_ok(),
                "https://legation.dev/aggregate/v1" => other.peek::<legation_core::statement::Aggregate>().is_ok(),
                other => panic!("{other}"),
            };
            assert!(!read, "{bad}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn sizes_are_bounded() {
    let json = |payload: usize| {
        let payload = encoding::base64(&vec![b' '; payload]);
        signed().envelope().to_json().replace(&encoding::base64(signed().envelope().payload()), &payload)
    };
    assert!(read(&json(PAYLOAD_MAX)).is_ok());
    for size in [PAYLOAD_MAX + 1, PAYLOAD_MAX + 2, PAYLOAD_MAX + 3, 2 * PAYLOAD_MAX] {
        let error = read(&json(size)).unwrap_err().to_string();
        assert!(error.contains("payload is larger than 1048576"), "{size}: {error}");
    }
    // More than may be read can be written, and is refused by whoever reads it.
    let many = |fragments: usize, inputs: usize| {
        let world = build(Plan::single(), &|_, said, _| {
            if let Said::Request(request) = said {
                let one =
                    Fragment { inputs: vec![Input::Sealed(sealed("x", None)); inputs], ..request.fragments[0].clone() };
                request.fragments = vec![one; fragments];
            }
        });
        world
            .envelopes
            .into_iter()
            .find(|e| e.peek::<Appointment>().is_err() && e.predicate_type().unwrap().contains("request"))
            .unwrap()
    };
    assert!(many(15, 128).open::<Request>().is_ok());
    let error = many(40, 128).open::<Request>().unwrap_err();
    assert_eq!(error, EnvelopeError::TooLarge { what: "payload", max: PAYLOAD_MAX });
    // The smallest subject of all is repeated: the payload stays small enough.
    let grant = |modules: usize| {
        let world = build(Plan::single(), &|_, said, _| {
            if let Said::Grant(grant) = said {
                grant.modules = vec![Digest::of(b"m"); modules];
            }
        });
        world.envelopes.into_iter().find(|e| e.predicate_type().unwrap().contains("grant")).unwrap().open::<Grant>()
    };
    assert!(grant(SUBJECTS_MAX).is_ok());
    let what = "number of subjects";
    assert_eq!(grant(SUBJECTS_MAX + 1).unwrap_err(), EnvelopeError::TooLarge { what, max: SUBJECTS_MAX });
}

#[test]
fn nothing_private_is_shown() {
    let signed = signed();
    let id = Party::new("operator").key().id().short();
    let shown = format!("{:?}", signed.envelope());
    assert_eq!(
        shown,
        format!("Envelope({} by {id}, {} bytes)", signed.digest().short(), signed.envelope().payload().len())
    );
}

#[test]
fn arrays_in_place_of_structs_and_objects_in_place_of_words_are_refused() {
    let (operator, verifier) = (Party::new("operator"), Party::new("verifier").key());
    let payload = String::from_utf8(signed().envelope().payload().to_vec()).unwrap();
    let edit = |from: &str, to: &str| {
        assert_eq!(payload.matches(from).count(), 1, "{from}");
        payload.replace(from, to)
    };
    let digest = format!("{{\"sha256\":\"{}\"}}", verifier.id());
    let names = ["\"_type\":", "\"subject\":", "\"predicateType\":", "\"predicate\":"];
    let values = names.iter().fold(payload.clone(), |text, name| text.replacen(name, "", 1));
    let whole = values.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap();
    let predicate = payload.find("\"predicate\":").unwrap() + 12;
    let listed = format!("[\"{}\",\"{verifier}\",\"verifier\",null,1,2]", operator.key());
    for (what, text) in [
        ("the statement", format!("[{whole}]")),
        ("the predicate", format!("{}{listed}}}", &payload[..predicate])),
        ("a subject", edit(&format!("{{\"name\":\"key\",\"digest\":{digest}}}"), &format!("[\"key\",{digest}]"))),
        ("its digests", edit(&digest, &format!("[\"{}\"]", verifier.id()))),
        ("a word", edit("\"verifier\"", "{\"verifier\":null}")),
    ] {
        // What serde derives reads the same statement out of it.
        let read: dsse::Statement<Appointment> =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{what}: {e}: {text}"));
        assert_eq!(read.predicate, appointment(), "{what}");
        let opened = envelope(text.as_bytes(), &operator).open::<Appointment>();
        assert!(matches!(opened, Err(EnvelopeError::WrongStatement { .. })), "{what}: {opened:?}");
        let peeked = envelope(text.as_bytes(), &operator).peek::<Appointment>();
        assert!(matches!(peeked, Err(EnvelopeError::WrongStatement { .. })), "{what}: {peeked:?}");
    }
}
