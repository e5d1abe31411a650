//! What happens in a generated history.

use proptest::prelude::*;

use super::MACHINES;

/// One thing that happens. Numbers choose among what is there.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Attest {
        machine: usize,
        life: u64,
        verifier: usize,
    },
    Withdraw {
        machine: usize,
        verifier: usize,
    },
    Reboot {
        machine: usize,
    },
    /// The agent opens a channel; `forgets` says how much of its work it lost.
    Arrive {
        machine: usize,
        forgets: u8,
    },
    Lose {
        machine: usize,
    },
    Drain {
        machine: usize,
    },
    Cordon {
        machine: usize,
    },
    Uncordon {
        machine: usize,
    },
    Decommission {
        machine: usize,
    },
    Revoke {
        machine: usize,
        kind: u8,
    },
    Submit {
        shape: u8,
        policy: bool,
        budget: u64,
        require: u8,
        name: u8,
    },
    SubmitAgain {
        pick: usize,
    },
    Grant {
        pick: usize,
        flaw: u8,
    },
    Refuse {
        pick: usize,
        stranger: bool,
    },
    Report {
        pick: usize,
        flaw: u8,
    },
    Cancel {
        pick: usize,
    },
    BeginTerm {
        grows: bool,
        successor: bool,
    },
    /// The operator sets the tenant's account, or the default one.
    Account {
        own: bool,
        budget: u64,
        leases: u64,
        tasks: u64,
        cpu: u64,
    },
    /// The tenant has seats set aside, from so many seconds on and for so many.
    Reserve {
        seats: u32,
        cpu: u64,
        ahead: u64,
        life: u64,
    },
    Unreserve {
        pick: usize,
    },
    /// The operator says what it asks of committees of the swarm key.
    Charter {
        flaw: u8,
    },
    /// The operator wants another committee.
    Rotate,
    /// A custodian says the first word that is due.
    Say {
        machine: usize,
    },
    /// All in turn, so often.
    Talk {
        words: usize,
    },
    Wait(u64),
    Back(u64),
}

pub(super) fn action() -> impl Strategy<Value = Action> {
    let machine = || 0..MACHINES.len();
    let pick = || 0..64_usize;
    prop_oneof![
        8 => (machine(), prop_oneof![Just(3600_u64), 1..200_u64], prop_oneof![3 => Just(0_usize), 2 => 1..3_usize])
            .prop_map(|(machine, life, verifier)| Action::Attest { machine, life, verifier }),
        1 => (machine(), 0..3_usize).prop_map(|(machine, verifier)| Action::Withdraw { machine, verifier }),
        1 => machine().prop_map(|machine| Action::Reboot { machine }),
        8 => (machine(), 0..4_u8).prop_map(|(machine, forgets)| Action::Arrive { machine, forgets }),
        3 => machine().prop_map(|machine| Action::Lose { machine }),
        1 => machine().prop_map(|machine| Action::Drain { machine }),
        1 => machine().prop_map(|machine| Action::Cordon { machine }),
        2 => machine().prop_map(|machine| Action::Uncordon { machine }),
        1 => machine().prop_map(|machine| Action::Decommission { machine }),
        1 => (machine(), 0..8_u8).prop_map(|(machine, kind)| Action::Revoke { machine, kind }),
        10 => (0..9_u8, any::<bool>(), prop_oneof![Just(1_000_000_u64), 0..120_u64], 0..4_u8, 0..12_u8)
            .prop_map(|(shape, policy, budget, require, name)| Action::Submit { shape, policy, budget, require, name }),
        2 => pick().prop_map(|pick| Action::SubmitAgain { pick }),
        12 => (pick(), 0..8_u8).prop_map(|(pick, flaw)| Action::Grant { pick, flaw }),
        4 => (pick(), any::<bool>()).prop_map(|(pick, stranger)| Action::Refuse { pick, stranger }),
        12 => (pick(), 0..10_u8).prop_map(|(pick, flaw)| Action::Report { pick, flaw }),
        2 => pick().prop_map(|pick| Action::Cancel { pick }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(grows, successor)| Action::BeginTerm { grows, successor }),
        2 => (any::<bool>(), 0..400_u64, 0..5_u64, 0..8_u64, 0..30_u64).prop_map(|(own, budget, leases, tasks, cpu)| {
            Action::Account { own, budget, leases, tasks, cpu }
        }),
        2 => (1..4_u32, 1..20_u64, 0..120_u64, 60..400_u64)
            .prop_map(|(seats, cpu, ahead, life)| Action::Reserve { seats, cpu, ahead, life }),
        1 => pick().prop_map(|pick| Action::Unreserve { pick }),
        1 => (0..6_u8).prop_map(|flaw| Action::Charter { flaw }),
        1 => Just(Action::Rotate),
        1 => machine().prop_map(|machine| Action::Say { machine }),
        2 => (1..24_usize).prop_map(|words| Action::Talk { words }),
        10 => prop_oneof![8 => 0..40_u64, 2 => 40..200_u64, 1 => 200..5000_u64].prop_map(Action::Wait),
        1 => (0..20_u64).prop_map(Action::Back),
    ]
}
