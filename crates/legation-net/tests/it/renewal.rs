//! Showing another credential on the same connection.

use legation_core::{Digest, claims::Role};
use legation_net::{
    Channel, ChannelError, Credential, Incoming, RENEWALS_MAX, Standing,
    frame::{Encoded, Frame, Kind},
    handshake::Exchange,
};

use crate::{
    raw::{Anyone, Raw},
    world::{AGENT, MANAGER, NOW, World, check, ended, listen, manager_credential, pair, passport, public},
};

/// An applicant and the manager that admits it as one.
async fn applicant(world: &World) -> (Channel, Channel) {
    let judge = world.judge().admit_applicants();
    let manager = world.endpoint_with(MANAGER, Role::Manager, manager_credential(MANAGER), judge);
    pair(&world.endpoint(AGENT, Role::Agent, Credential::None), manager).await
}

#[tokio::test]
async fn an_applicant_becomes_attested_and_stays_so() {
    let world = World::new();
    let (agent, mut manager) = applicant(&world).await;
    assert_eq!(manager.sender().standing(), Standing::Applicant);
    agent.sender().send_control("as applicant").await.unwrap();
    for until in [NOW + 60, NOW + 120, NOW + 180] {
        agent.sender().renew(passport(AGENT, NOW, until)).await.unwrap();
        agent.sender().send_control(&until).await.unwrap();
    }
    let receiver = manager.receiver();
    assert!(matches!(receiver.recv().await.unwrap(), Incoming::Control(c) if c == "\"as applicant\""));
    for until in [NOW + 60, NOW + 120, NOW + 180] {
        let Incoming::Renewed(Standing::Attested(passport)) = receiver.recv().await.unwrap() else { panic!("{until}") };
        assert_eq!((passport.enclave, passport.expires.0), (public(AGENT), until));
        assert!(matches!(receiver.recv().await.unwrap(), Incoming::Control(c) if c == until.to_string()));
    }
    // The first passport is over, the last is not.
    world.set_time(NOW + 170);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(manager.sender().standing().is_admitted());
    assert!(agent.sender().try_send("still here").is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_may_begin_at_once() {
    let world = World::new();
    let (agent, manager) = pair(&world.agent(), world.manager()).await;
    let ((agent, _from_manager), (manager, mut from_agent)) = (agent.split(), manager.split());
    for round in 1..=10 {
        let (a, b, c) = tokio::join!(
            agent.renew(passport(AGENT, NOW, NOW + 600 + round)),
            manager.renew(manager_credential(MANAGER)),
            agent.renew(passport(AGENT, NOW, NOW + 1600 + round)),
        );
        for renewed in [a, b, c] {
            renewed.unwrap();
        }
        agent.send_control("done").await.unwrap();
        while !matches!(from_agent.recv().await.unwrap(), Incoming::Control(_)) {}
        let Standing::Attested(passport) = manager.standing() else { panic!("not attested") };
        assert_eq!(passport.expires.0, NOW + 1600 + round);
    }
}

#[tokio::test]
async fn a_renewal_that_is_refused_ends_the_channel() {
    let world = World::new();
    for (name, admit_applicants, credential, expected) in [
        ("another's passport", false, passport(77, NOW, NOW + 600), "channel.key"),
        ("nothing any more", true, Credential::None, "channel.credential"),
    ] {
        let judge = if admit_applicants { world.judge().admit_applicants() } else { world.judge() };
        let manager = world.endpoint_with(MANAGER, Role::Manager, manager_credential(MANAGER), judge);
        let (agent, manager) = pair(&world.agent(), manager).await;
        // A refusal on the proof comes after the agent has seen the manager's: its own renewal may look well.
        let _ = agent.sender().renew(credential).await;
        assert_eq!(check(&ended(agent.sender()).await), format!("told {expected}"), "{name}");
        assert_eq!(check(&ended(manager.sender()).await), format!("refused {expected}"), "{name}");
    }
}

#[tokio::test]
async fn a_peer_cannot_renew_without_end() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
    raw.handshake(passport(AGENT, NOW, NOW + 600)).await;
    let manager = listener.accept().await.unwrap().channel.unwrap();
    let mut done = 0;
    let refusal = 'all: loop {
        let nonce = Digest::of(&[done as u8, 1]);
        let mut exchange = Exchange::begin(raw.session.clone(), passport(AGENT, NOW, NOW + 600), nonce);
        raw.send(&Encoded::json(Kind::Hello, exchange.hello()).unwrap().to_vec()).await;
        loop {
            match raw.next().await {
                Some(Frame::Hello(json)) => {
                    let hello = serde_json::from_slice(&json).unwrap();
                    let proof = exchange.hear(hello, &Anyone, legation_core::UnixTime(0)).unwrap();
                    raw.send(&Encoded::json(Kind::Proof, &proof).unwrap().to_vec()).await;
                }
                Some(Frame::Proof(_)) => break,
                Some(Frame::Ping(_)) => {}
                Some(Frame::Close(reason)) => break 'all reason,
                other => panic!("{other:?}"),
            }
        }
        done += 1;
    };
    assert_eq!((done, refusal.unwrap().check.as_str()), (RENEWALS_MAX, "channel.renewals"));
    assert!(matches!(ended(manager.sender()).await, ChannelError::Refused(_)));
}
