//! The HTTP service, through real sockets.

use std::{sync::Arc, time::Duration};

use hyper::{Method, StatusCode};
use legation_attest::passport;
use legation_core::{
    Digest, Rejection, Signed, Signer, UnixTime, dsse,
    statement::{Appointment, KeyAttestation},
};
use legation_verifier::{
    Door,
    activation::{Credential, Endorsements, SECRET_LEN, TICKET_SECONDS, TpmEndorsements},
    door::TpmKeys,
    http::{Authorities, Http, Reply, Tls},
    service::{AppraiseRequest, Appraised, BODY_MAX, ProblemBody, Service, VerifyRequest},
};
use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use crate::world::{
    Hand, Made, NOW, STRICT, answer, appraising, check_of, evidence, listen, operator, policy, remote, serve, url,
    verifier,
};

async fn send(method: Method, url: &str, token: Option<&str>, body: impl Into<bytes::Bytes>) -> Reply {
    let http = Http::new(&Authorities::System, Tls::Ours, &[url.to_owned()], Duration::from_secs(20)).unwrap();
    let token = token.map(|t| (hyper::header::AUTHORIZATION, format!("Bearer {t}").parse().unwrap()));
    let headers: Vec<_> = token.into_iter().collect();
    http.send(method, url, &headers, body.into(), 1 << 22).await.unwrap()
}

fn problem(reply: &Reply) -> ProblemBody {
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    let problem: ProblemBody = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem.status, reply.status.as_u16());
    assert_eq!(problem.kind, format!("https://legation.dev/problems/{}", problem.check));
    problem
}

#[tokio::test]
async fn evidence_becomes_a_passport_that_a_stranger_opens() {
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let base = url(serve(&local).await);
    let door = remote(&local, std::slice::from_ref(&base));
    let challenge = door.challenge().await.unwrap();
    let issued = door.verify(answer(&[challenge]), vec![challenge]).await.unwrap();
    let operators = [operator().public_key()];
    let opened =
        passport::open(issued.passport.envelope(), issued.appointment.envelope(), &operators, NOW.plus(1)).unwrap();
    assert_eq!((opened.issued, opened.expires), (NOW, NOW.plus(600)));
    assert!(opened.claims.anchor.is_development());

    let status = door.status().await.unwrap();
    assert_eq!((status.issued, status.last_success, status.key), (1, Some(NOW), local.key()));
    assert_eq!((status.policy.name.as_str(), status.policy.passport_seconds), ("test", 600));
    assert_eq!(send(Method::GET, &format!("{base}/livez"), None, "").await.body, "ok\n");
    assert_eq!(send(Method::GET, &format!("{base}/readyz"), None, "").await.body, "ok\n");
    let metrics = send(Method::GET, &format!("{base}/metrics"), None, "").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains("legation_verifier_passports_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn a_challenge_is_answered_once_it_was_given_by_this_verifier_and_while_it_is_young() {
    let hand = Hand::at(NOW);
    let ours = verifier(Made::default(), &hand);
    let replica = verifier(Made::default(), &hand);
    let other = verifier(Made { seed: 3, secret: 6, ..Made::default() }, &hand);
    let doors = [&ours, &replica, &other];
    let mut remotes = Vec::new();
    for door in doors {
        remotes.push(remote(door, &[url(serve(door).await)]));
    }
    let [ours, replica, other] = remotes.as_slice() else { unreachable!() };
    let mine = ours.challenge().await.unwrap();
    // Another challenge than the one that is shown.
    let else_where = ours.challenge().await.unwrap();
    assert_eq!(check_of(ours.verify(answer(&[else_where]), vec![mine]).await), "admit.nonce");
    // Shown to another verifier: neither the challenge nor, under its own challenge, the evidence.
    let made = answer(&[mine]);
    assert_eq!(check_of(other.verify(Arc::clone(&made), vec![mine]).await), "challenge.foreign");
    let theirs = other.challenge().await.unwrap();
    assert_eq!(check_of(other.verify(Arc::clone(&made), vec![theirs]).await), "admit.nonce");
    assert_eq!(check_of(other.verify(Arc::clone(&made), vec![theirs, mine]).await), "admit.nonce");
    // Shown to a replica: as good as to the one that asked.
    assert_eq!(check_of(replica.verify(Arc::clone(&made), vec![mine]).await), "ok");
    // One report for two verifiers.
    let both = vec![mine, theirs];
    let joined = answer(&both);
    assert_eq!(check_of(ours.verify(Arc::clone(&joined), both.clone()).await), "ok");
    assert_eq!(check_of(other.verify(Arc::clone(&joined), both.clone()).await), "ok");
    assert_eq!(check_of(ours.verify(joined, vec![theirs, mine]).await), "admit.nonce");
    hand.forward(120);
    assert_eq!(check_of(ours.verify(Arc::clone(&made), vec![mine]).await), "ok");
    hand.forward(1);
    assert_eq!(check_of(ours.verify(made, vec![mine]).await), "challenge.old");
    let status = ours.status().await.unwrap();
    assert_eq!(status.refused.get("challenge.old"), Some(&1));
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_what_was_expected() {
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let base = url(serve(&local).await);
    let challenge = local.challenge().await.unwrap();
    let good =
        serde_json::to_vec(&VerifyRequest { evidence: evidence(challenge), challenges: vec![challenge] }).unwrap();
    let extra = String::from_utf8(good.clone()).unwrap().replacen('{', "{\"more\":1,", 1).into_bytes();
    for (method, path, body, status, check) in [
        (Method::POST, "/v1/verify", b"garbage".to_vec(), 400, "api.body"),
        (Method::POST, "/v1/verify", good[..good.len() / 2].to_vec(), 400, "api.body"),
        (Method::POST, "/v1/verify", vec![0xff; 1000], 400, "api.body"),
        (Method::POST, "/v1/verify", Vec::new(), 400, "api.body"),
        (Method::POST, "/v1/verify", extra, 400, "api.body"),
        (Method::POST, "/v1/verify", vec![b' '; BODY_MAX + 1], 413, "api.size"),
        (Method::POST, "/v1/activate", vec![b' '; BODY_MAX + 1], 413, "api.size"),
        (Method::POST, "/v1/nothing", Vec::new(), 404, "api.path"),
    ] {
        let reply = send(method, &format!("{base}{path}"), None, body).await;
        let problem = problem(&reply);
        assert_eq!((problem.status, problem.check.as_str()), (status, check), "{path}");
        assert!(!problem.fix.is_empty() && !problem.expected.is_empty(), "{problem:?}");
    }
    // Depth alone must not exhaust a stack.
    let deep = "[".repeat(BODY_MAX / 2);
    assert_eq!(problem(&send(Method::POST, &format!("{base}/v1/verify"), None, deep).await).check, "api.body");
    assert_eq!(send(Method::GET, &format!("{base}/v1/verify"), None, "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    // Evidence that is well-formed and too large is the judge's to refuse.
    let mut large = evidence(challenge);
    large.report = vec![0; legation_core::claims::EVIDENCE_MAX - 1000];
    let body = serde_json::to_vec(&VerifyRequest { evidence: large, challenges: vec![challenge] }).unwrap();
    assert_eq!(problem(&send(Method::POST, &format!("{base}/v1/verify"), None, body).await).check, "evidence.size");
}

#[tokio::test]
async fn tokens_are_asked_for_everywhere_but_for_health() {
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let service = Service::new(local, None, &[Digest::of(b"right"), Digest::of(b"other")], 8);
    let base = url(listen(service.router()).await);
    for (token, status) in [(None, 401), (Some("wrong"), 401), (Some("right"), 200), (Some("other"), 200)] {
        for (method, path) in [(Method::POST, "/v1/challenge"), (Method::GET, "/v1/status")] {
            let reply = send(method, &format!("{base}{path}"), token, "").await;
            assert_eq!(reply.status.as_u16(), status, "{path} with {token:?}");
        }
        assert_eq!(send(Method::GET, &format!("{base}/livez"), token, "").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_full_verifier_turns_requests_away_and_takes_them_again() {
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let address = listen(Service::new(local, None, &[], 1).router()).await;
    let base = url(address);
    // One that sends its body slowly holds the only place.
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    slow.write_all(b"POST /v1/verify HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    let mut busy = None;
    for _ in 0..100 {
        let reply = send(Method::POST, &format!("{base}/v1/challenge"), None, "").await;
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            busy = Some(reply);
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let busy = busy.unwrap();
    assert_eq!((busy.headers["retry-after"].to_str().unwrap(), problem(&busy).check.as_str()), ("1", "verifier.busy"));
    assert_eq!(send(Method::GET, &format!("{base}/livez"), None, "").await.status, StatusCode::OK, "health has room");
    drop(slow);
    for _ in 0..100 {
        if send(Method::POST, &format!("{base}/v1/challenge"), None, "").await.status == StatusCode::OK {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn an_appraisal_tells_every_step_and_lets_nobody_in() {
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let base = url(serve(&local).await);
    let ask = async |request: AppraiseRequest| -> Appraised {
        let body = serde_json::to_vec(&request).unwrap();
        let reply = send(Method::POST, &format!("{base}/v1/appraise"), None, body).await;
        assert_eq!(reply.status, StatusCode::OK);
        serde_json::from_slice(&reply.body).unwrap()
    };
    let outcomes = |a: &Appraised| a.steps.iter().map(|s| s.outcome.clone()).collect::<Vec<_>>();
    let nonce = Digest::of(b"mine");
    let good = ask(AppraiseRequest { evidence: evidence(nonce), nonce: Some(nonce) }).await;
    assert!(good.acceptable && good.ear.is_some() && good.claims.is_some());
    assert_eq!(outcomes(&good), ["passed", "passed", "passed"]);
    assert!(ask(AppraiseRequest { evidence: evidence(nonce), nonce: None }).await.acceptable);

    let stale = ask(AppraiseRequest { evidence: evidence(nonce), nonce: Some(Digest::of(b"another")) }).await;
    assert_eq!(outcomes(&stale), ["passed", "refused", "passed"]);
    assert_eq!(stale.steps[1].refusal.as_ref().unwrap().check, "admit.nonce");

    let mut flipped = evidence(nonce);
    flipped.report[0x90] ^= 1;
    let broken = ask(AppraiseRequest { evidence: flipped, nonce: Some(nonce) }).await;
    assert_eq!(outcomes(&broken), ["refused", "not made", "not made"]);
    assert!(!broken.acceptable && broken.claims.is_none() && broken.ear.is_none());

    local.appraisers().set(appraising(policy(STRICT)));
    let refused = ask(AppraiseRequest { evidence: evidence(nonce), nonce: Some(nonce) }).await;
    assert_eq!(outcomes(&refused), ["passed", "passed", "refused"]);
    assert_eq!(refused.steps[2].refusal.as_ref().unwrap().check, "policy.nothing");
    assert!(refused.claims.is_some(), "what was seen is told all the same");
}

#[tokio::test]
async fn a_change_of_policy_counts_from_the_next_request() {
    let hand = Hand::at(NOW);
    let local = verifier(Made::default(), &hand);
    let challenge = local.challenge().await.unwrap();
    let made = answer(&[challenge]);
    assert_eq!(check_of(local.verify(Arc::clone(&made), vec![challenge]).await), "ok");
    local.appraisers().set(appraising(policy(STRICT)));
    assert_eq!(check_of(local.verify(made, vec![challenge]).await), "policy.nothing");
}

/// A TPM that is not one: the credential is the secret, turned over.
struct Played;

impl Endorsements for Played {
    fn credential(
        &self,
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        _: UnixTime,
    ) -> Result<Credential, Rejection> {
        let id_object = secret.iter().map(|b| b ^ 0xff).collect();
        Ok(Credential { id_object, encrypted_secret: keys.ak.clone() })
    }

    fn attest(
        &self,
        keys: &TpmKeys,
        _: &Zeroizing<[u8; SECRET_LEN]>,
        verifier: &dyn Signer,
        appointment: &Signed<Appointment>,
        at: UnixTime,
    ) -> Result<Signed<KeyAttestation>, Rejection> {
        let word = KeyAttestation {
            verifier: verifier.public_key(),
            ak: keys.ak.clone(),
            ek: keys.certificates.clone(),
            issued: at,
            expires: at.plus(60),
            prev: vec![appointment.digest()],
        };
        Ok(dsse::sign(word, verifier))
    }
}

#[tokio::test]
async fn a_key_is_attested_for_the_secret_its_tpm_read() {
    let hand = Hand::at(NOW);
    let keys = TpmKeys { ak: vec![1; 30], ek: vec![2; 30], certificates: vec![vec![3; 30]] };
    let without = verifier(Made::default(), &hand);
    let without = remote(&without, &[url(serve(&without).await)]);
    assert_eq!(check_of(without.activate(keys.clone()).await), "activation.kind");

    // The real thing looks at the keys before it makes anything.
    let shelf = Arc::new(legation_verifier::Current::default());
    let real = TpmEndorsements::new(crate::world::roots(), shelf, 0);
    let real = verifier(Made { endorsements: Some(Arc::new(real)), ..Made::default() }, &hand);
    assert_eq!(check_of(real.activate(keys.clone()).await), "tpm.ak");

    let made = || Made { endorsements: Some(Arc::new(Played)), ..Made::default() };
    let (one, replica) = (verifier(made(), &hand), verifier(made(), &hand));
    let (one, replica) = (remote(&one, &[url(serve(&one).await)]), remote(&replica, &[url(serve(&replica).await)]));
    let given = one.activate(keys.clone()).await.unwrap();
    let secret: Vec<u8> = given.credential.iter().map(|b| b ^ 0xff).collect();
    let secret = Digest::from_bytes(secret.try_into().unwrap());
    let word = replica.attest_key(keys.clone(), given.ticket.clone(), secret).await.unwrap();
    assert_eq!((&word.ak, word.issued), (&keys.ak, NOW));
    let other = TpmKeys { ak: vec![9; 30], ..keys.clone() };
    assert_eq!(check_of(one.attest_key(other, given.ticket.clone(), secret).await), "activation.ticket");
    let guess = Digest::of(b"guess");
    assert_eq!(check_of(one.attest_key(keys.clone(), given.ticket.clone(), guess).await), "activation.ticket");
    let large = TpmKeys { ak: vec![0; 9000], ..keys.clone() };
    assert_eq!(check_of(one.activate(large).await), "activation.size");
    hand.forward(TICKET_SECONDS + 1);
    assert_eq!(check_of(one.attest_key(keys, given.ticket, secret).await), "activation.old");
}
