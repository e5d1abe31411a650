//! RFC 6962 section 2.1 word for word: recursive, slow, and written apart from the crate.

use legation_core::Digest;

fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// MTH(D).
pub(crate) fn root(entries: &[Vec<u8>]) -> Digest {
    match entries {
        [] => Digest::of(b""),
        [one] => Digest::of_parts(&[&[0], one]),
        _ => {
            let (left, right) = entries.split_at(split(entries.len()));
            Digest::of_parts(&[&[1], root(left).as_bytes(), root(right).as_bytes()])
        }
    }
}

/// PATH(m, D).
pub(crate) fn path(m: usize, entries: &[Vec<u8>]) -> Vec<Digest> {
    if entries.len() < 2 {
        return Vec::new();
    }
    let k = split(entries.len());
    let (left, right) = entries.split_at(k);
    let (mut path, other) = if m < k { (path(m, left), root(right)) } else { (path(m - k, right), root(left)) };
    path.push(other);
    path
}

/// PROOF(m, D), for 0 < m.
pub(crate) fn proof(m: usize, entries: &[Vec<u8>]) -> Vec<Digest> {
    subproof(m, entries, true)
}

fn subproof(m: usize, entries: &[Vec<u8>], whole: bool) -> Vec<Digest> {
    if m == entries.len() {
        return if whole { Vec::new() } else { vec![root(entries)] };
    }
    let k = split(entries.len());
    let (left, right) = entries.split_at(k);
    let (mut proof, other) =
        if m <= k { (subproof(m, left, whole), root(right)) } else { (subproof(m - k, right, false), root(left)) };
    proof.push(other);
    proof
}
