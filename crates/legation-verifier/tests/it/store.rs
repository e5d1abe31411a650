//! The folder: what survives restarts, crashes and other writers.

use std::{fs, path::Path};

use legation_core::UnixTime;
use legation_verifier::collateral::{Checker, CollateralName, Put, Store};

use crate::{
    collateral::list,
    world::{NOW, roots},
};

const LIST: &str = "dev/laptop/crl";
const FILE: &str = "items/dev+laptop+crl";
const DAY: u64 = 86_400;

fn open(dir: &Path) -> Store {
    Store::open(dir, &Checker::new(roots()), NOW).unwrap()
}

fn put(store: &mut Store, bytes: Vec<u8>, at: UnixTime) -> Put {
    let name: CollateralName = LIST.parse().unwrap();
    store.put(&name, bytes, "a test", &Checker::new(roots()), at).unwrap()
}

fn bytes(store: &Store) -> Option<Vec<u8>> {
    store.items().get(LIST).map(|kept| kept.item.bytes.clone())
}

#[test]
fn a_restart_keeps_items_with_where_and_when_they_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let item = list(NOW.minus(100), 30 * DAY);
    assert_eq!(put(&mut open(dir.path()), item.clone(), NOW), Put::New);
    let mut again = open(dir.path());
    let kept = &again.items()[LIST];
    assert_eq!((&kept.item.bytes, kept.source.as_str(), kept.fetched), (&item, "a test", NOW));
    assert_eq!((kept.dates.issued(), kept.dates.next_update()), (NOW.minus(100), NOW.minus(100).plus(30 * DAY)));
    assert_eq!(put(&mut again, item, NOW.plus(5)), Put::Same);
    assert_eq!(put(&mut again, list(NOW, 30 * DAY), NOW.plus(6)), Put::Replaced);
    assert_eq!(open(dir.path()).items()[LIST].fetched, NOW.plus(6));
}

#[test]
fn a_writer_killed_in_mid_write_leaves_the_old_item() {
    let dir = tempfile::tempdir().unwrap();
    let item = list(NOW.minus(100), 30 * DAY);
    put(&mut open(dir.path()), item.clone(), NOW);
    let younger = list(NOW, 30 * DAY);
    // Before the rename: half a file beside the item and half an index beside the index.
    fs::write(dir.path().join("items/.writing-dev+laptop+crl"), &younger[..younger.len() / 2]).unwrap();
    fs::write(dir.path().join(".writing-index.json"), b"{\"version\":1,\"it").unwrap();
    assert_eq!(bytes(&open(dir.path())), Some(item.clone()));
    assert!(!dir.path().join("items/.writing-dev+laptop+crl").exists(), "swept");
    assert!(!dir.path().join(".writing-index.json").exists(), "swept");
    // Between the renames: the item is new, the index is not. The item proves itself.
    fs::write(dir.path().join(FILE), &younger).unwrap();
    let store = open(dir.path());
    assert_eq!(bytes(&store), Some(younger));
    assert_eq!(
        (store.items()[LIST].source.as_str(), store.items()[LIST].fetched),
        ("found in the folder", UnixTime(0))
    );
}

#[test]
fn damage_is_left_in_place_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let item = list(NOW.minus(100), 30 * DAY);
    put(&mut open(dir.path()), item.clone(), NOW);
    for index in [&b""[..], b"{", b"{\"version\":2,\"items\":{}}", &[0xff; 100]] {
        fs::write(dir.path().join("index.json"), index).unwrap();
        assert_eq!(bytes(&open(dir.path())), Some(item.clone()), "the index is a comfort");
    }
    fs::write(dir.path().join("items/notes.txt"), b"mine").unwrap();
    fs::write(dir.path().join("items/amd+milan+vcek+crl"), &item).unwrap();
    let mut flipped = item.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    fs::write(dir.path().join(FILE), &flipped).unwrap();
    let mut store = open(dir.path());
    assert!(store.items().is_empty(), "{:?}", store.items());
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), flipped);
    // A good one takes its place.
    assert_eq!(put(&mut store, item.clone(), NOW), Put::New);
    assert_eq!(bytes(&open(dir.path())), Some(item));
}

#[test]
fn two_writers_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let checker = Checker::new(roots());
    let (mut server, mut command) = (open(dir.path()), open(dir.path()));
    assert!(!server.refresh(&checker, NOW).unwrap());
    let younger = list(NOW, 30 * DAY);
    put(&mut command, younger.clone(), NOW);
    assert!(server.refresh(&checker, NOW).unwrap());
    assert_eq!(bytes(&server), Some(younger.clone()));
    // What the other wrote meanwhile counts: the older one is refused though this one has not looked.
    let youngest = list(NOW.plus(100), 30 * DAY);
    std::thread::sleep(std::time::Duration::from_millis(20));
    put(&mut command, youngest.clone(), NOW);
    let name: CollateralName = LIST.parse().unwrap();
    let refused = server.put(&name, list(NOW.plus(50), 30 * DAY), "late", &checker, NOW).unwrap_err();
    assert_eq!(refused.refusal().check, "collateral.older");
    assert_eq!(bytes(&server), Some(youngest));
}
