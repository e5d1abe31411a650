//! Proofs: every one of every small tree, against the naive ones; and that no other is taken.

use legation_core::Digest;
use legation_log::{Consistency, Inclusion, MemoryTiles, ProofError, Prover, SIZE_MAX, TileFault, Tree, leaf_hash};
use proptest::prelude::*;

use crate::{entry, naive};

fn grown(size: u64) -> (Vec<Vec<u8>>, Prover<MemoryTiles>) {
    let (mut tree, mut tiles) = (Tree::new(), MemoryTiles::new());
    let entries: Vec<_> = (0..size).map(|index| entry("proofs", index).as_bytes().to_vec()).collect();
    for entry in &entries {
        tree.append(entry).unwrap();
    }
    tree.flush(&mut tiles).unwrap();
    (entries, Prover::new(tiles))
}

#[test]
fn every_entry_of_every_small_tree_is_proved_as_the_definition_says() {
    let (entries, mut prover) = grown(300);
    for size in (0..=70).chain([127, 128, 129, 255, 256, 257, 299, 300]) {
        let tree = &entries[..size];
        let root = naive::root(tree);
        for index in 0..size {
            let proof = prover.inclusion(index as u64, size as u64).unwrap();
            assert_eq!(proof.path, naive::path(index, tree), "{index} of {size}");
            proof.verify(&leaf_hash(&tree[index]), &root).unwrap();
        }
    }
}

#[test]
fn every_pair_of_small_trees_is_proved_as_the_definition_says() {
    let (entries, mut prover) = grown(300);
    let roots: Vec<Digest> = (0..=300).map(|size| naive::root(&entries[..size])).collect();
    for new in (1..=70).chain([127, 128, 129, 255, 256, 257, 299, 300]) {
        for old in 1..=new {
            let proof = prover.consistency(old as u64, new as u64).unwrap();
            assert_eq!(proof.path, naive::proof(old, &entries[..new]), "{old} of {new}");
            proof.verify(&roots[old], &roots[new]).unwrap();
            // Nor are any other two roots consistent.
            let other = &Digest::of(b"another tree");
            proof.verify(other, &roots[new]).unwrap_err();
            proof.verify(&roots[old], other).unwrap_err();
        }
    }
}

#[test]
fn nothing_is_the_beginning_of_everything_and_a_tree_of_itself() {
    let (entries, mut prover) = grown(5);
    let (empty, root) = (naive::root(&[]), naive::root(&entries));
    let none = prover.consistency(0, 5).unwrap();
    none.verify(&empty, &root).unwrap();
    none.verify(&root, &root).unwrap_err();
    let same = prover.consistency(5, 5).unwrap();
    same.verify(&root, &root).unwrap();
    same.verify(&empty, &root).unwrap_err();
    for stuffed in [none, same] {
        let stuffed = Consistency { path: vec![root], ..stuffed };
        assert_eq!(stuffed.verify(&root, &root), Err(ProofError::Length { got: 1 }), "hashes that prove nothing");
    }
}

#[test]
fn what_cannot_be_proved_is_refused() {
    let (_, mut prover) = grown(5);
    assert_eq!(prover.inclusion(5, 5), Err(TileFault::Beyond { asked: 6, size: 5 }));
    assert_eq!(prover.consistency(6, 5), Err(TileFault::Beyond { asked: 6, size: 5 }));
    assert!(matches!(prover.inclusion(5, 6), Err(TileFault::Missing { .. })), "the log has no sixth entry");
    prover.inclusion(u64::MAX, u64::MAX).unwrap_err();
    prover.root(SIZE_MAX + 1).unwrap_err();

    let hash = Digest::of(b"");
    let proof = |index, size, length: usize| Inclusion { index, size, path: vec![hash; length] }.root(&hash);
    assert_eq!(proof(0, 0, 0), Err(ProofError::Beyond { index: 0, size: 0 }));
    assert_eq!(proof(7, 7, 3), Err(ProofError::Beyond { index: 7, size: 7 }));
    assert_eq!(proof(0, 1, 0), Ok(hash), "a leaf is the tree of one");
    for length in [0, 1, 2, 4, 5, 64, 1000] {
        assert_eq!(proof(3, 8, length), Err(ProofError::Length { got: length }));
    }
    assert_eq!(proof(0, u64::MAX, 64), Err(ProofError::TooLarge { size: u64::MAX }));
    let proof = |old, new, length: usize| Consistency { old, new, path: vec![hash; length] }.verify(&hash, &hash);
    assert_eq!(proof(8, 7, 3), Err(ProofError::Backwards { old: 8, new: 7 }));
    assert_eq!(proof(3, 7, 0), Err(ProofError::Length { got: 0 }));
    assert_eq!(proof(4, 7, 0), Err(ProofError::Length { got: 0 }));
    assert_eq!(proof(4, 7, 2), Err(ProofError::Length { got: 2 }));
    proof(u64::MAX, u64::MAX, 0).unwrap_err();
}

#[test]
fn tiles_that_are_not_kept_are_read_again() {
    let (entries, mut prover) = grown(2000);
    let mut tiles = prover.tiles().clone();
    let mut forgetful = Prover::keeping(&mut tiles, 1);
    let root = naive::root(&entries);
    for index in [0, 1999, 256, 0, 700] {
        let proof = forgetful.inclusion(index, 2000).unwrap();
        proof.verify(&leaf_hash(&entries[usize::try_from(index).unwrap()]), &root).unwrap();
    }
}

proptest! {
    #[test]
    fn no_changed_proof_of_inclusion_holds(size in 1_u64..300, pick in any::<u64>(), bit in any::<u16>()) {
        let (entries, mut prover) = grown(size);
        let index = pick % size;
        let proof = prover.inclusion(index, size).unwrap();
        let (leaf, root) = (leaf_hash(&entries[usize::try_from(index).unwrap()]), naive::root(&entries));
        for other in [index ^ 1, index + 1, index / 2] {
            if other != index {
                let moved = Inclusion { index: other, ..proof.clone() };
                prop_assert!(moved.verify(&leaf, &root).is_err());
            }
        }
        let place = usize::from(bit) / 256;
        if let Some(hash) = proof.path.get(place) {
            let mut bytes = *hash.as_bytes();
            bytes[usize::from(bit) % 32] ^= 1 << (bit % 8);
            let mut changed = proof.clone();
            changed.path[place] = Digest::from_bytes(bytes);
            prop_assert!(changed.verify(&leaf, &root).is_err());
            changed.path.remove(place);
            prop_assert!(changed.verify(&leaf, &root).is_err());
        }
    }

    #[test]
    fn arbitrary_proofs_never_panic(
        a in any::<u64>(), b in any::<u64>(), path in proptest::collection::vec(any::<[u8; 32]>(), 0..70)
    ) {
        let path: Vec<_> = path.into_iter().map(Digest::from_bytes).collect();
        let hash = Digest::of(b"x");
        let _ = Inclusion { index: a, size: b, path: path.clone() }.root(&hash);
        let to_another = Consistency { old: a, new: b, path };
        prop_assert!(to_another.verify(&hash, &Digest::of(b"y")).is_err());
    }
}
