//! Who gets a channel, and what both sides then know.

use bytes::Bytes;
use legation_core::{claims::Role, statement::Office};
use legation_net::{ChannelError, Credential, Incoming, Standing, StreamId};

use crate::world::{
    AGENT, MANAGER, NOW, OPERATOR, VERIFIER, World, appointment, check, listen, manager_credential, pair, passport,
    passport_by, public, refused,
};

#[tokio::test]
async fn mutual_channels_agree() {
    let world = World::new();
    let (agent, manager) = pair(&world.agent(), world.manager()).await;
    assert_eq!((agent.sender().peer_role(), manager.sender().peer_role()), (Role::Manager, Role::Agent));
    assert_eq!((*agent.sender().peer(), *manager.sender().peer()), (public(MANAGER), public(AGENT)));
    let Standing::Attested(seen) = manager.sender().standing() else { panic!("{manager:?}") };
    assert_eq!(seen.enclave, public(AGENT));
    assert!(matches!(agent.sender().standing(), Standing::Appointed(a) if a.key == public(MANAGER)));

    let ((to_manager, mut from_manager), (to_agent, mut from_agent)) = (agent.split(), manager.split());
    to_manager.send_control("over").await.unwrap();
    to_agent.try_send(&[1, 2]).unwrap();
    assert_eq!(from_agent.recv().await.unwrap(), Incoming::Control(Bytes::from_static(b"\"over\"")));
    assert_eq!(from_manager.recv().await.unwrap(), Incoming::Control(Bytes::from_static(b"[1,2]")));

    let sent = Bytes::from((0..200_000_u32).map(|i| i as u8).collect::<Vec<_>>());
    to_agent.send_data(StreamId(7), sent.clone(), true).await.unwrap();
    let mut got = Vec::new();
    loop {
        let Incoming::Data { stream, last, bytes } = from_manager.recv().await.unwrap() else { panic!("not data") };
        assert_eq!(stream, StreamId(7));
        got.extend_from_slice(&bytes);
        if last {
            break;
        }
    }
    assert_eq!(got, sent);
    // An empty stream is a stream too.
    to_agent.send_data(StreamId(8), Bytes::new(), true).await.unwrap();
    let empty = Incoming::Data { stream: StreamId(8), last: true, bytes: Bytes::new() };
    assert_eq!(from_manager.recv().await.unwrap(), empty);
}

#[tokio::test]
async fn refusals_name_their_check_on_both_sides() {
    let world = World::new();
    world.revoke(66);
    world.revoke_all(legation_core::Revocable::Verifier(public(66).id()));
    let good = || passport(AGENT, NOW, NOW + 600);
    for (name, seed, role, credential, expected) in [
        ("expired passport", AGENT, Role::Agent, passport(AGENT, NOW - 600, NOW - 1), "passport.dates"),
        ("passport of the future", AGENT, Role::Agent, passport(AGENT, NOW + 61, NOW + 900), "passport.dates"),
        ("passport of another key", 3, Role::Agent, good(), "channel.key"),
        ("unknown operator", AGENT, Role::Agent, passport_by(99, VERIFIER, AGENT, NOW, NOW + 600), "passport.operator"),
        ("no passport", AGENT, Role::Agent, Credential::None, "channel.credential"),
        ("agent with an appointment", AGENT, Role::Agent, manager_credential(AGENT), "channel.credential"),
        ("manager with a passport", AGENT, Role::Manager, good(), "channel.credential"),
        ("manager with nothing", AGENT, Role::Manager, Credential::None, "channel.credential"),
        ("another manager's appointment", 3, Role::Manager, manager_credential(MANAGER), "channel.key"),
        (
            "verifier as manager",
            VERIFIER,
            Role::Manager,
            Credential::Appointment { appointment: appointment(OPERATOR, VERIFIER, Office::Verifier, NOW, NOW + 60) },
            "channel.office",
        ),
        (
            "manager of an unknown operator",
            3,
            Role::Manager,
            Credential::Appointment { appointment: appointment(99, 3, Office::Manager, NOW, NOW + 60) },
            "channel.operator",
        ),
        (
            "manager out of office",
            3,
            Role::Manager,
            Credential::Appointment { appointment: appointment(OPERATOR, 3, Office::Manager, NOW - 60, NOW - 1) },
            "channel.dates",
        ),
        ("revoked enclave", 66, Role::Agent, passport(66, NOW, NOW + 600), "revocation"),
        ("revoked verifier", AGENT, Role::Agent, passport_by(OPERATOR, 66, AGENT, NOW, NOW + 600), "revocation"),
    ] {
        let dialler = world.endpoint(seed, role, credential);
        let (near, far) = refused(&dialler, world.manager()).await;
        assert!(check(&far) == format!("refused {expected}"), "{name}: {far}");
        assert_eq!(check(&near), check(&far).replacen("refused", "told", 1), "{name}");
    }
}

#[tokio::test]
async fn a_verifiers_clock_may_be_a_little_ahead() {
    let world = World::new();
    let agent = world.endpoint(AGENT, Role::Agent, passport(AGENT, NOW + 60, NOW + 600));
    let (_agent, manager) = pair(&agent, world.manager()).await;
    assert!(manager.sender().standing().is_admitted());
}

#[tokio::test]
async fn only_admitted_roles_come_in() {
    let world = World::new();
    let only_managers = legation_net::AnchoredJudge::new(vec![public(OPERATOR)]).admit(Role::Manager);
    let listener = world.endpoint_with(MANAGER, Role::Manager, manager_credential(MANAGER), only_managers);
    let (near, far) = refused(&world.agent(), listener).await;
    assert_eq!((check(&near).as_str(), check(&far).as_str()), ("told channel.role", "refused channel.role"));
}

#[tokio::test]
async fn the_dialler_judges_too() {
    let world = World::new();
    let impostor = Credential::Appointment { appointment: appointment(99, 3, Office::Manager, NOW, NOW + 60) };
    let (near, far) = refused(&world.agent(), world.endpoint(3, Role::Manager, impostor)).await;
    assert_eq!((check(&near).as_str(), check(&far).as_str()), ("refused channel.operator", "told channel.operator"));
}

#[tokio::test]
async fn a_diverted_dialler_says_nothing() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let error = world.agent().connect(address, Some(&public(77))).await.unwrap_err();
    assert_eq!(check(&error), "refused channel.diverted");
    let far = listener.accept().await.unwrap().channel.unwrap_err();
    assert!(matches!(far, ChannelError::Lost), "{far}");
    assert!(world.agent().connect(address, Some(&public(MANAGER))).await.is_ok());
}
