//! Appending and tiles.

use legation_core::encoding::{hex, unhex};
use legation_log::{
    Level, MemoryTiles, Prover, SIZE_MAX, TileFault, TileId, Tiles as _, Tree, empty_root, leaf_hash, node_hash, tile,
};

use crate::{entry, naive};

/// The eight leaves and the nine roots of certificate-transparency's tests of RFC 6962.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn the_published_roots_come_out() {
    let mut tree = Tree::new();
    assert_eq!(hex(tree.root().as_bytes()), ROOTS[0]);
    for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
        tree.append(&unhex(leaf).unwrap()).unwrap();
        assert_eq!(hex(tree.root().as_bytes()), *root, "after {leaf}");
    }
}

#[test]
fn hashes_of_nothing_of_a_leaf_and_of_a_node_are_told_apart() {
    assert_eq!(hex(empty_root().as_bytes()), ROOTS[0]);
    assert_eq!(hex(leaf_hash(b"").as_bytes()), ROOTS[1]);
    let (a, b) = (leaf_hash(b""), leaf_hash(&[0]));
    assert_eq!(hex(node_hash(&a, &b).as_bytes()), ROOTS[2]);
    let posing = [&a.as_bytes()[..], b.as_bytes()].concat();
    assert_ne!(leaf_hash(&posing), node_hash(&a, &b), "a node is no leaf");
}

#[test]
fn every_size_has_the_root_and_the_tiles_of_the_definition() {
    let (mut tree, mut tiles, mut entries) = (Tree::new(), MemoryTiles::new(), Vec::new());
    for size in 1..=600_u64 {
        let new = entry("tree", size).as_bytes().to_vec();
        tree.append(&new).unwrap();
        entries.push(new);
        let root = naive::root(&entries);
        assert_eq!(tree.root(), root, "{size}");
        // Some sizes are never flushed, as when many entries come at once.
        if size.is_multiple_of(7) || size > 500 {
            tree.flush(&mut tiles).unwrap();
            assert_eq!(tree.waiting(), 0);
            assert_eq!(Tree::restore(size, &mut tiles).unwrap().root(), root, "{size} out of tiles");
            assert_eq!(Prover::new(&mut tiles).root(size), Ok(root), "{size} proved");
        }
    }
    let tile = |level, index| TileId { level: Level::Hashes(level), index };
    let of = |range: std::ops::Range<usize>| -> Vec<u8> {
        entries[range].iter().flat_map(|entry| *leaf_hash(entry).as_bytes()).collect()
    };
    let expected = of(0..256);
    assert_eq!(tiles.get(&tile(0, 0)), Some(&expected), "a full tile");
    let expected = of(512..600);
    assert_eq!(tiles.get(&tile(0, 2)), Some(&expected), "one that is not full");
    let above = [naive::root(&entries[..256]), naive::root(&entries[256..512])];
    assert_eq!(tiles.get(&tile(1, 0)), Some(&above.iter().flat_map(|h| *h.as_bytes()).collect()), "the level above");
    let bundle = TileId { level: Level::Entries, index: 1 };
    let held: Vec<&[u8]> = entries[256..512].iter().map(Vec::as_slice).collect();
    assert_eq!(tile::entries(tiles.get(&bundle).unwrap()).unwrap(), held, "the entries under the second tile");
    assert_eq!(tiles.len(), 7, "three tiles of leaves, three bundles, one tile above: {:?}", tiles.keys());
}

#[test]
fn a_tree_out_of_its_tiles_goes_on_as_if_it_had_never_stopped() {
    let (mut whole, mut tiles) = (Tree::new(), MemoryTiles::new());
    for index in 0..66_000_u64 {
        whole.append(entry("long", index).as_bytes()).unwrap();
        // The sizes at which levels begin, and one in the middle.
        if [1, 255, 256, 257, 511, 65_535, 65_536, 65_537, 65_900].contains(&(index + 1)) {
            whole.flush(&mut tiles).unwrap();
            let again = Tree::restore(index + 1, &mut tiles).unwrap();
            assert_eq!(again.root(), whole.root(), "{}", index + 1);
            whole = again;
        }
    }
    let mut straight = Tree::new();
    for index in 0..66_000 {
        straight.append(entry("long", index).as_bytes()).unwrap();
    }
    assert_eq!(whole.root(), straight.root());
    whole.flush(&mut tiles).unwrap();
    // What was put later is wider; every size that ever was is still to be had.
    for size in [0, 1, 255, 256, 300, 65_536, 65_999] {
        let early = Tree::restore(size, &mut tiles).unwrap();
        assert_eq!(Ok(early.root()), Prover::new(&mut tiles).root(size), "{size}");
    }
}

#[test]
fn a_missing_or_short_tile_is_named() {
    let (mut tree, mut tiles) = (Tree::new(), MemoryTiles::new());
    for index in 0..300 {
        tree.append(entry("gone", index).as_bytes()).unwrap();
    }
    tree.flush(&mut tiles).unwrap();
    let last = TileId { level: Level::Hashes(0), index: 1 };
    let whole = tiles.remove(&last).unwrap();
    let missing = TileFault::Missing { tile: last, width: 44 };
    assert_eq!(Tree::restore(300, &mut tiles).unwrap_err(), missing);
    tiles.put(last, &whole[..43 * 32]).unwrap();
    assert_eq!(Tree::restore(300, &mut tiles).unwrap_err(), missing);
    assert_eq!(Prover::new(&mut tiles).root(300), Err(missing));
    assert_eq!(missing_text(last), "tile/0/001 has not its first 44");
    assert!(Tree::restore(SIZE_MAX + 1, &mut tiles).is_err());
}

fn missing_text(tile: TileId) -> String {
    TileFault::<std::convert::Infallible>::Missing { tile, width: 44 }.to_string()
}

#[test]
fn an_entry_that_is_too_long_changes_nothing() {
    let mut tree = Tree::new();
    tree.append(b"one").unwrap();
    let root = tree.root();
    tree.append(&vec![0; tile::ENTRY_MAX + 1]).unwrap_err();
    assert_eq!((tree.size(), tree.root()), (1, root));
    tree.append(&vec![0; tile::ENTRY_MAX]).unwrap();
}
