//! What is revoked ends live channels at once, not at their next look; and what is not is left alone.

use std::time::{Duration, Instant};

use legation_core::{EnclaveId, Revocable, RevocationEpoch, claims::Role};
use legation_net::{ANOTHER_SECONDS, Channel, Credential, Timing};

use crate::world::{
    AGENT, MANAGER, NOW, OPERATOR, TIMING, VERIFIER, World, check, ended, manager_credential, pair, passport,
    passport_by, public,
};

/// Channels that look by themselves once in an hour.
const SELDOM: Timing = Timing { check: Duration::from_secs(3600), ..TIMING };

async fn channel(world: &World, credential: Credential) -> (Channel, Channel) {
    let manager = world.endpoint(MANAGER, Role::Manager, manager_credential(MANAGER)).with_timing(SELDOM);
    pair(&world.endpoint(AGENT, Role::Agent, credential).with_timing(SELDOM), manager).await
}

fn claims_of(credential: &Credential) -> (String, String, String, String) {
    let Credential::Passport { passport, .. } = credential else { panic!("no passport") };
    let passport = passport.peek::<legation_core::statement::Passport>().unwrap();
    let claims = passport.claims;
    let provider = passport.configuration.provider.to_string();
    (claims.chip.value, claims.measurement.value, claims.anchor.name().to_owned(), provider)
}

#[tokio::test]
async fn every_kind_of_revocation_ends_the_channels_it_covers_at_once() {
    let (chip, measurement, anchor, provider) = claims_of(&passport(AGENT, NOW, NOW + 600));
    let own: EnclaveId = public(AGENT).enclave_id();
    for (what, ends) in [
        (Revocable::Enclave(own), true),
        (Revocable::Chip(chip), true),
        (Revocable::Measurement(measurement), true),
        (Revocable::Anchor(anchor), true),
        (Revocable::Provider(provider.parse().unwrap()), true),
        (Revocable::Enclave(public(77).enclave_id()), false),
        (Revocable::Chip("another".into()), false),
        (Revocable::Verifier(public(77).id()), false),
        (Revocable::Provider("another".parse().unwrap()), false),
    ] {
        let world = World::new();
        let (agent, manager) = channel(&world, passport(AGENT, NOW, NOW + 600)).await;
        // A first look, at the beginning, is over.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = Instant::now();
        world.revoke_all(what.clone());
        tokio::time::timeout(Duration::from_secs(5), world.revocations.settled(RevocationEpoch(1))).await.unwrap();
        if ends {
            assert_eq!(check(&ended(manager.sender()).await), "refused revocation", "{what}");
            assert_eq!(check(&ended(agent.sender()).await), "told revocation", "{what}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {:?}", begun.elapsed());
        } else {
            agent.sender().send_control("still here").await.unwrap();
            assert!(manager.sender().try_send("and welcome").is_ok(), "{what}");
        }
    }
}

#[tokio::test]
async fn whoever_has_a_passport_of_another_verifier_gets_a_moment_to_show_it() {
    for another in [true, false] {
        let world = World::new();
        let manager = world.endpoint(MANAGER, Role::Manager, manager_credential(MANAGER));
        let agent = world.endpoint(AGENT, Role::Agent, passport_by(OPERATOR, VERIFIER, AGENT, NOW, NOW + 600));
        let (agent, manager) = pair(&agent, manager).await;
        world.revoke_all(Revocable::Verifier(public(VERIFIER).id()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(agent.sender().try_send("a moment, please").is_ok());
        if another {
            agent.sender().renew(passport_by(OPERATOR, 66, AGENT, NOW, NOW + 600)).await.unwrap();
        }
        world.set_time(NOW + ANOTHER_SECONDS + 1);
        if another {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(manager.sender().try_send("welcome again").is_ok());
        } else {
            assert_eq!(check(&ended(manager.sender()).await), "refused revocation");
        }
    }
}

#[tokio::test]
async fn a_moment_is_not_given_to_who_is_revoked_otherwise_nor_for_showing_it_anew() {
    let world = World::new();
    let manager = || world.endpoint(MANAGER, Role::Manager, manager_credential(MANAGER));
    let shown = || passport_by(OPERATOR, VERIFIER, AGENT, NOW, NOW + 600);
    let agent = || world.endpoint(AGENT, Role::Agent, shown());
    let (one, at_manager) = pair(&agent(), manager()).await;
    let (other, _keep) = pair(&agent(), manager()).await;
    world.revoke_all(Revocable::Verifier(public(VERIFIER).id()));
    let _ = one.sender().renew(shown()).await;
    assert_eq!(check(&ended(at_manager.sender()).await), "refused revocation");
    world.revoke(AGENT);
    assert_eq!(check(&ended(other.sender()).await), "told revocation");
}

#[tokio::test]
async fn an_older_list_changes_nothing() {
    let world = World::new();
    world.revoke(AGENT);
    world.revocations.learn(std::sync::Arc::default(), world.clock()());
    assert_eq!(world.revocations.epoch(), RevocationEpoch(1));
    assert!(world.revocations.of_enclave(&public(AGENT)).is_some());
}
