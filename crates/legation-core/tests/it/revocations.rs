//! Receipts held against a list of what is revoked; and the list itself.

use legation_core::{
    Envelope, Revocable, Revocation, RevocationEpoch, RevocationList, UnixTime, dsse,
    statement::{Allocation, Appointment, Office, Passport, Report},
};

use crate::{
    party::Party,
    world::{Plan, anchors, build, judge, no_bend},
};

fn list(entries: Vec<(Revocable, u64, UnixTime)>) -> RevocationList {
    let revocations: Vec<_> = entries
        .into_iter()
        .map(|(what, epoch, at)| Revocation { what, epoch: RevocationEpoch(epoch), at, why: "stolen".into() })
        .collect();
    RevocationList {
        manager: Party::new("manager").key(),
        at: UnixTime(u64::MAX),
        epoch: revocations.last().map_or(RevocationEpoch(0), |r| r.epoch),
        revocations,
        prev: Vec::new(),
    }
}

#[test]
fn work_after_a_revocation_is_not_valid_and_work_before_it_is_with_a_warning() {
    let receipt = build(Plan::single(), &no_bend).receipt();
    let said = |kind: &str| receipt.envelopes.iter().find(|e| e.predicate_type().unwrap().contains(kind)).unwrap();
    let passport = said("/passport/").peek::<Passport>().unwrap();
    let report = said("/report/").peek::<Report>().unwrap();
    let allocation = said("/allocation/").peek::<Allocation>().unwrap();
    let claims = &passport.claims;
    let later = allocation.revocations.0 + 1;
    for what in [
        Revocable::Enclave(passport.enclave_id()),
        Revocable::Chip(claims.chip.value.clone()),
        Revocable::Measurement(claims.measurement.value.clone()),
        Revocable::Provider(passport.configuration.provider.clone()),
        Revocable::Verifier(passport.verifier_id()),
        Revocable::Anchor(claims.anchor.name().to_owned()),
    ] {
        let check = |epoch: u64, at: UnixTime| {
            let list = list(vec![(what.clone(), epoch, at)]);
            receipt.verify_with(&anchors(), &judge(), Some(&list))
        };
        let after = check(later, report.finished.plus(1)).unwrap();
        assert_eq!(after.warnings.len(), 1, "{what}: {:?}", after.warnings);
        assert!(after.warnings[0].contains("after its report was finished"), "{}", after.warnings[0]);
        for (claim, epoch, at) in [
            ("in the same second", later, report.finished),
            ("before", later, report.finished.minus(1)),
            ("before the allocation, whatever the clocks say", allocation.revocations.0, report.finished.plus(1)),
        ] {
            let invalid = check(epoch, at).unwrap_err();
            assert_eq!(invalid.why.check, "receipt.revoked", "{what} {claim}");
            assert!(invalid.at.starts_with("report ") && !invalid.why.fix.is_empty(), "{invalid}");
        }
    }
    // What nothing rests on is no matter, and without a list nothing is known.
    let others = list(vec![(Revocable::Chip("another".into()), 1, UnixTime(0))]);
    assert_eq!(receipt.verify_with(&anchors(), &judge(), Some(&others)), receipt.verify(&anchors(), &judge()));
    assert!(receipt.verify(&anchors(), &judge()).unwrap().warnings.is_empty());
}

#[test]
fn a_list_is_believed_of_an_appointed_manager_alone() {
    let (operator, manager, stranger) = (Party::new("operator"), Party::new("manager"), Party::new("stranger"));
    let now = UnixTime(1_800_000_000);
    let appoint = |by: &Party, office: Office| {
        let appointment = Appointment {
            operator: by.key(),
            key: manager.key(),
            office,
            scope: None,
            not_before: now,
            not_after: now.plus(100),
        };
        dsse::sign(appointment, by)
    };
    let good = appoint(&operator, Office::Manager);
    type Change<'a> = Box<dyn Fn(&mut RevocationList) + 'a>;
    let open = |change: Change<'_>, appointment: &dsse::Signed<Appointment>| {
        let mut list = list(vec![(Revocable::Chip("a".into()), 1, now), (Revocable::Chip("b".into()), 2, now)]);
        list.at = now.plus(50);
        list.prev = vec![appointment.digest()];
        change(&mut list);
        let signed = dsse::sign(list, &manager);
        let envelope: &Envelope = signed.envelope();
        RevocationList::open(envelope, appointment.envelope(), &[operator.key()]).map(|_| ()).map_err(|why| why.check)
    };
    assert_eq!(open(Box::new(|_| ()), &good), Ok(()));
    let refused = |change: Change<'_>, appointment: &_| open(change, appointment).unwrap_err();
    assert_eq!(refused(Box::new(|_| ()), &appoint(&stranger, Office::Manager)), "revocation.operator");
    assert_eq!(refused(Box::new(|_| ()), &appoint(&operator, Office::Verifier)), "revocation.manager");
    assert_eq!(refused(Box::new(|l| l.at = now.plus(101)), &good), "revocation.manager");
    assert_eq!(refused(Box::new(|l| l.prev.clear()), &good), "revocation.manager");
    assert_eq!(refused(Box::new(|l| l.revocations.swap(0, 1)), &good), "revocation.list");
    assert_eq!(refused(Box::new(|l| drop(l.revocations.pop())), &good), "revocation.list");
    assert_eq!(refused(Box::new(|l| l.epoch = RevocationEpoch(3)), &good), "revocation.list");
}
