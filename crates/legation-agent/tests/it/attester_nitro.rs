//! AWS Nitro Enclaves without the device: what is asked, and what is made of answers. The document is a recorded one.

use std::{path::Path, sync::Mutex};

use aws_nitro_enclaves_nsm_api::api::{ErrorCode, Request, Response};
use legation_agent::attester::{
    AttestError, Attester,
    nitro::{DOCUMENT_MAX, Module, NitroAttester},
};
use legation_core::{
    Digest,
    claims::{KeyBinding, Role, TeeKind},
};

use crate::world;

/// A module that was asked and answers.
struct Played {
    answer: Mutex<Option<Response>>,
    asked: Mutex<Option<Request>>,
}

impl Module for &Played {
    fn ask(&self, request: Request) -> Result<Response, AttestError> {
        *self.asked.lock().unwrap() = Some(request);
        Ok(self.answer.lock().unwrap().take().unwrap())
    }
}

fn binding() -> Vec<u8> {
    KeyBinding {
        role: Role::Agent,
        identity: world::key(5),
        sealing: world::sealing(5).public().clone(),
        image: Digest::of(b"image"),
        configuration: Digest::of(b"configuration"),
        not_before: world::now(),
        not_after: world::now().plus(60),
        nonce: Digest::of(b"nonce"),
    }
    .encode()
}

fn attest(answer: Response) -> (Result<legation_core::claims::Evidence, String>, Option<Request>) {
    let played = Played { answer: Mutex::new(Some(answer)), asked: Mutex::new(None) };
    let attester = NitroAttester::new(&played, Digest::of(b"image"));
    assert_eq!(attester.kind(), TeeKind::Nitro);
    let got = attester.attest(&binding(), b"configuration").map_err(|e| e.to_string());
    (got, played.asked.into_inner().unwrap())
}

#[test]
fn the_module_is_asked_over_binding_and_nonce() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence/nitro/evervault/valid-beta.cbor");
    let document = std::fs::read(file).unwrap_or_else(|_| {
        eprintln!("SKIPPED: no sample of a Nitro document; a made-up one is used");
        vec![0x84; 4000]
    });
    let (evidence, asked) = attest(Response::Attestation { document: document.clone() });
    let evidence = evidence.unwrap();
    assert_eq!((evidence.kind, evidence.report), (TeeKind::Nitro, document));
    assert!(evidence.endorsements.is_empty(), "the document brings its certificates itself");
    let Some(Request::Attestation { user_data, nonce, public_key: None }) = asked else { panic!("{asked:?}") };
    assert_eq!(user_data.unwrap()[..], KeyBinding::report_data(&binding()));
    assert_eq!(nonce.unwrap()[..], Digest::of(b"nonce").as_bytes()[..]);
}

#[test]
fn answers_that_are_no_document_are_told() {
    for (answer, told) in [
        (Response::Error(ErrorCode::InputTooLarge), "refused: InputTooLarge"),
        (Response::GetRandom { random: vec![1] }, "the answer to another question"),
        (Response::Attestation { document: vec![] }, "a document of 0 bytes"),
        (Response::Attestation { document: vec![0; DOCUMENT_MAX + 1] }, "a document of 12289 bytes"),
    ] {
        let error = attest(answer).0.unwrap_err();
        assert!(error.starts_with("/dev/nsm: ") && error.contains(told), "{error}");
    }
    let played = Played { answer: Mutex::new(None), asked: Mutex::new(None) };
    let error = NitroAttester::new(&played, Digest::of(b"image")).attest(b"no binding", b"").unwrap_err().to_string();
    assert!(error.contains("key binding cannot be read"), "{error}");
}
