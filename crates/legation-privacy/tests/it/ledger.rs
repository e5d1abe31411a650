//! The ledger: checked before, never refunded, the same after every replay.

use legation_privacy::{BookId, Broken, Entry, Ledger, NanoRho, Refused};
use proptest::prelude::*;

const BOOK: BookId = BookId::from_bytes([1; 32]);
const OTHER: BookId = BookId::from_bytes([2; 32]);

/// What somebody does with a ledger.
#[derive(Clone, Debug)]
enum Step {
    /// Pays, and uses the permit or loses it: the ledger cannot tell.
    Pay(u64),
    /// Is told the entry, and crashes before it is durable.
    Abandon(u64),
    /// Starts anew from what is durable.
    Replay,
    /// Shows an entry that does not continue.
    Forge(Forgery),
}

#[derive(Clone, Copy, Debug)]
enum Forgery {
    Again,
    Skip,
    Cheaper,
    OtherBudget,
    OtherBook,
    Overdraw,
    Free,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let forgery = prop_oneof![
        Just(Forgery::Again),
        Just(Forgery::Skip),
        Just(Forgery::Cheaper),
        Just(Forgery::OtherBudget),
        Just(Forgery::OtherBook),
        Just(Forgery::Overdraw),
        Just(Forgery::Free),
    ];
    let step = prop_oneof![
        6 => prop_oneof![0_u64..400, Just(u64::MAX)].prop_map(Step::Pay),
        2 => (0_u64..400).prop_map(Step::Abandon),
        1 => Just(Step::Replay),
        3 => forgery.prop_map(Step::Forge),
    ];
    proptest::collection::vec(step, 0..60)
}

fn forged(forgery: Forgery, ledger: &Ledger, last: Option<&Entry>) -> Entry {
    let (number, spent) = (ledger.entries() + 1, ledger.spent().0);
    let entry = |rho: u64| Entry {
        book: BOOK,
        number,
        rho: NanoRho(rho),
        spent: NanoRho(spent.saturating_add(rho)),
        budget: ledger.budget(),
    };
    match forgery {
        Forgery::Again => last.copied().unwrap_or(entry(0)),
        Forgery::Skip => Entry { number: number + 1, ..entry(1) },
        Forgery::Cheaper => Entry { spent: NanoRho(spent), ..entry(1) },
        Forgery::OtherBudget => Entry { budget: NanoRho(ledger.budget().0 + 1), ..entry(1) },
        // It would continue in all else, unless nothing is left.
        Forgery::OtherBook => Entry { book: OTHER, ..entry(1) },
        Forgery::Overdraw => entry(ledger.remaining().0 + 1),
        Forgery::Free => entry(0),
    }
}

proptest! {
    #[test]
    fn what_is_spent_only_grows_and_never_past_the_budget(budget in 0_u64..2000, steps in steps()) {
        let mut ledger = Ledger::new(BOOK, NanoRho(budget));
        let mut durable: Vec<Entry> = Vec::new();
        for step in steps {
            let before = ledger.clone();
            match step {
                Step::Pay(rho) => match ledger.judge(NanoRho(rho)) {
                    Ok(entry) => {
                        durable.push(entry);
                        let permit = ledger.commit(&entry).unwrap();
                        prop_assert_eq!((permit.number(), permit.rho()), (entry.number, NanoRho(rho)));
                        prop_assert_eq!(ledger.spent().0, before.spent().0 + rho);
                        prop_assert_eq!(ledger.remaining().0, before.remaining().0 - rho);
                    }
                    Err(Refused::Exhausted { wanted, remaining }) => {
                        prop_assert!(wanted == NanoRho(rho) && remaining == before.remaining() && rho > remaining.0);
                        prop_assert_eq!(&ledger, &before);
                    }
                    Err(Refused::Free) => prop_assert_eq!(rho, 0),
                    Err(Refused::Full) => prop_assert!(false, "60 entries"),
                },
                Step::Abandon(rho) => {
                    let _ = ledger.judge(NanoRho(rho));
                    prop_assert_eq!(&ledger, &before);
                }
                Step::Replay => {
                    ledger = Ledger::replay(BOOK, NanoRho(budget), &durable).unwrap();
                    prop_assert_eq!(&ledger, &before);
                }
                Step::Forge(forgery) => {
                    let entry = forged(forgery, &ledger, durable.last());
                    prop_assert!(ledger.commit(&entry).is_err(), "{entry:?}");
                    prop_assert_eq!(&ledger, &before);
                }
            }
            let sum: u64 = durable.iter().map(|entry| entry.rho.0).sum();
            prop_assert!(ledger.spent() >= before.spent(), "refunded");
            prop_assert_eq!((ledger.spent().0, ledger.entries()), (sum, durable.len() as u64));
            prop_assert!(ledger.spent() <= ledger.budget());
            prop_assert_eq!(ledger.spent().0 + ledger.remaining().0, budget);
        }
    }

    /// A journal of which anything at all was changed is no ledger any more, or says the same.
    #[test]
    fn a_changed_journal_is_found(
        paid in proptest::collection::vec(1_u64..50, 1..20),
        at: prop::sample::Index,
        change in 0_u8..7,
        by in 1_u64..50,
    ) {
        let budget = NanoRho(1000);
        let mut ledger = Ledger::new(BOOK, budget);
        let mut durable = Vec::new();
        for rho in paid {
            let entry = ledger.judge(NanoRho(rho)).unwrap();
            let _paid = ledger.commit(&entry).unwrap();
            durable.push(entry);
        }
        let at = at.index(durable.len());
        let mut changed = durable.clone();
        match change {
            0 => changed[at].number += by,
            1 => changed[at].rho.0 += by,
            2 => changed[at].spent.0 += by,
            3 => changed[at].budget.0 += by,
            4 => changed.insert(at, durable[at]),
            5 => changed[at].book = OTHER,
            _ => {
                changed.remove(at);
            }
        }
        // Only the last entries can be missing unnoticed: who remembers the last number notices that too.
        let lost_tail = changed == durable[..changed.len().min(durable.len())];
        match Ledger::replay(BOOK, budget, &changed) {
            Ok(shorter) => prop_assert!(lost_tail && shorter.entries() < ledger.entries()),
            Err(_) => prop_assert!(!lost_tail),
        }
    }
}

#[test]
fn refusals_say_what_is_left_and_breaks_what_was_due() {
    let mut ledger = Ledger::new(BOOK, NanoRho(500_000_000));
    let first = ledger.judge(NanoRho(450_000_000)).unwrap();
    let _paid = ledger.commit(&first).unwrap();
    let refused = ledger.judge(NanoRho(50_000_001)).unwrap_err();
    assert_eq!(refused.to_string(), "the privacy budget has rho 0.05 left, and the query costs rho 0.050000001");
    assert_eq!(ledger.commit(&first), Err(Broken::Number { expected: 2, got: 1 }));
    let last = ledger.judge(NanoRho(50_000_000)).unwrap();
    let other = Entry { budget: NanoRho(1_000_000_000), ..last };
    let said = ledger.commit(&other).unwrap_err().to_string();
    assert_eq!(said, "entry 2 is of a budget of rho 1, expected 0.5");
    let foreign = Entry { book: OTHER, ..last };
    assert_eq!(ledger.commit(&foreign), Err(Broken::Book { number: 2, expected: BOOK, got: OTHER }));
    let _paid = ledger.commit(&last).unwrap();
    assert_eq!(ledger.judge(NanoRho(1)).unwrap_err(), Refused::Exhausted { wanted: NanoRho(1), remaining: NanoRho(0) });
}

#[test]
fn entries_are_written_in_one_way() {
    let entry = Ledger::new(BOOK, NanoRho(10)).judge(NanoRho(3)).unwrap();
    let text = format!(r#"{{"book":"{}","number":1,"rho":3,"spent":3,"budget":10}}"#, "01".repeat(32));
    assert_eq!(serde_json::to_string(&entry).unwrap(), text);
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
    for wrong in [
        text.replace(r#","budget":10"#, ""),
        text.replace('}', r#","refund":1}"#),
        text.replace(r#""number":1"#, r#""number":-1"#),
        text.replace("01", "0A"),
        text.replacen("01", "", 1),
        text.replacen("01", "0101", 1),
        text.replacen("01", "é", 1),
    ] {
        assert!(serde_json::from_str::<Entry>(&wrong).is_err(), "{wrong}");
    }
}
