//! How channels end: by lapse, revocation, closing, dropping, freezing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use legation_core::{Rejection, claims::Role};
use legation_net::{ChannelError, Credential, Incoming, StreamId, Timing};

use crate::{
    raw::Raw,
    world::{AGENT, MANAGER, NOW, TIMING, World, check, ended, listen, manager_credential, pair, passport},
};

#[tokio::test]
async fn a_lapse_ends_the_channel() {
    let world = World::new();
    let (agent, manager) = pair(&world.agent(), world.manager()).await;
    world.set_time(NOW + 600);
    tokio::time::sleep(Duration::from_millis(150)).await;
    agent.sender().send_control("in the last second").await.unwrap();
    world.set_time(NOW + 601);
    assert_eq!(check(&ended(manager.sender()).await), "refused channel.lapsed");
    let told = ended(agent.sender()).await;
    assert_eq!(check(&told), "told channel.lapsed");
    assert!(told.to_string().contains("it held until 2026-11-21T12:10:00Z"), "{told}");
    assert!(agent.sender().send_control("too late").await.is_err());
}

#[tokio::test]
async fn revocation_ends_the_channel() {
    let world = World::new();
    // By its owner, at once, with the owner's reason.
    let (agent, manager) = pair(&world.agent(), world.manager()).await;
    manager.sender().revoke(Rejection::new("pool.revoked", "this enclave").got("chip recalled"));
    assert_eq!(check(&ended(manager.sender()).await), "refused pool.revoked");
    let told = ended(agent.sender()).await;
    assert_eq!(told.to_string(), "refused by the peer: pool.revoked: this enclave; got chip recalled");
    // And by the judge, without its owner's doing.
    let (agent, manager) = pair(&world.agent(), world.manager()).await;
    world.revoke(AGENT);
    assert_eq!(check(&ended(manager.sender()).await), "refused revocation");
    assert_eq!(check(&ended(agent.sender()).await), "told revocation");
}

#[tokio::test]
async fn revocation_does_not_wait_for_a_peer_that_takes_nothing() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
    raw.handshake(passport(AGENT, NOW, NOW + 600)).await;
    let (sender, _receiver) = listener.accept().await.unwrap().channel.unwrap().split();
    let flood = tokio::spawn({
        let sender = sender.clone();
        async move { while sender.send_data(StreamId(1), Bytes::from(vec![0; 1 << 20]), false).await.is_ok() {} }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    sender.revoke(Rejection::new("pool.revoked", "this enclave"));
    assert_eq!(check(&ended(&sender).await), "refused pool.revoked");
    flood.await.unwrap();
    assert!(begun.elapsed() < 2 * TIMING.linger + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_applicant_has_not_forever() {
    let world = World::new();
    let judge = world.judge().admit_applicants();
    let timing = Timing { applicant: Duration::from_millis(200), ..TIMING };
    let manager = world.endpoint_with(MANAGER, Role::Manager, manager_credential(MANAGER), judge).with_timing(timing);
    let (agent, _manager) = pair(&world.endpoint(AGENT, Role::Agent, Credential::None), manager).await;
    assert_eq!(check(&ended(agent.sender()).await), "told channel.applicant");
}

#[tokio::test]
async fn closing_delivers_what_was_sent() {
    let world = World::new();
    let (agent, mut manager) = pair(&world.agent(), world.manager()).await;
    let (sender, receiver) = agent.split();
    for i in 0..100 {
        sender.send_control(&i).await.unwrap();
    }
    sender.send_data(StreamId(1), Bytes::from(vec![7; 300_000]), true).await.unwrap();
    assert!(matches!(sender.close().await, ChannelError::Closed));
    let (mut controls, mut bytes) = (0, 0);
    let end = loop {
        match manager.receiver().recv().await {
            Ok(Incoming::Control(json)) => {
                assert_eq!(json, controls.to_string());
                controls += 1;
            }
            Ok(Incoming::Data { bytes: b, .. }) => bytes += b.len(),
            Ok(other) => panic!("{other:?}"),
            Err(end) => break end,
        }
    };
    assert_eq!((controls, bytes), (100, 300_000));
    assert!(matches!(end, ChannelError::ClosedByPeer), "{end}");
    drop(receiver);
}

#[tokio::test]
async fn dropping_a_half_closes() {
    let world = World::new();
    let (agent, manager) = pair(&world.agent(), world.manager()).await;
    let (sender, receiver) = agent.split();
    sender.send_control("last words").await.unwrap();
    let clone = sender.clone();
    drop(sender);
    assert!(clone.try_send("still open").is_ok(), "another sender is left");
    drop(receiver);
    assert!(matches!(ended(manager.sender()).await, ChannelError::ClosedByPeer));

    let (agent, mut manager) = pair(&world.agent(), world.manager()).await;
    let (sender, mut receiver) = agent.split();
    sender.send_control("last words").await.unwrap();
    drop(sender);
    assert!(matches!(manager.receiver().recv().await.unwrap(), Incoming::Control(c) if c == "\"last words\""));
    assert!(matches!(manager.receiver().recv().await, Err(ChannelError::ClosedByPeer)));
    assert!(matches!(receiver.recv().await, Err(ChannelError::Closed)));
}

#[tokio::test]
async fn a_frozen_peer_is_noticed_and_a_slow_owner_is_not_taken_for_one() {
    let world = World::new();
    let timing = Timing { silence: Duration::from_millis(600), ..TIMING };
    let (mut listener, address) = listen(world.manager().with_timing(timing)).await;
    let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
    raw.handshake(passport(AGENT, NOW, NOW + 600)).await;
    let manager = listener.accept().await.unwrap().channel.unwrap();
    let begun = Instant::now();
    // It lives as long as it pings.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        raw.send(&legation_net::frame::Encoded::ping(0).to_vec()).await;
    }
    let end = ended(manager.sender()).await;
    assert!(matches!(end, ChannelError::Silent { .. }), "{end}");
    assert!((Duration::from_millis(1700)..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(raw.reason().await.as_deref(), Some("channel.silent"));

    // An owner that does not read for longer than the peer may be silent, behind a full queue.
    let (agent, mut manager) = pair(&world.agent(), world.manager().with_timing(timing)).await;
    let (sender, _from_manager) = agent.split();
    let sending = tokio::spawn(async move {
        for i in 0..64_u64 {
            sender.send_data(StreamId(i), Bytes::from(vec![1; 1 << 20]), true).await.unwrap();
        }
        sender
    });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut streams = 0;
    while streams < 64 {
        if let Incoming::Data { last: true, .. } = manager.receiver().recv().await.unwrap() {
            streams += 1;
        }
    }
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn round_trips_are_measured() {
    let world = World::new();
    let (agent, _manager) = pair(&world.agent(), world.manager()).await;
    let mut tries = 0;
    while agent.sender().round_trip().is_none() {
        tries += 1;
        assert!(tries < 100, "no pong");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(agent.sender().round_trip() < Some(Duration::from_secs(2)));
}
