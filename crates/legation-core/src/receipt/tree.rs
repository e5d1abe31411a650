//! A valid receipt as a tree: at the left what nothing else was made of, and below each what it was made of. Below a report stand the calls that
//! its enclave made, and below each call its answer, with the calls that this one made.

use std::collections::{BTreeMap, BTreeSet};

use super::{Digest, Link, Verdict};

/// One line of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Branch<'a> {
    /// How far to the right, counted from 0.
    pub depth: usize,
    /// What stands there.
    pub link: &'a Link,
}

impl Verdict {
    /// The links that did something, in the order in which a tree is printed: aggregates, reports and calls, each once. What
    /// they rest on beside stands in [`Self::links`].
    pub fn tree(&self) -> Vec<Branch<'_>> {
        let all: BTreeMap<Digest, &Link> = self.links.iter().map(|link| (link.digest, link)).collect();
        let acts = |link: &Link| matches!(link.kind.as_str(), "aggregate" | "report");
        let used: BTreeSet<&Digest> = self.links.iter().filter(|link| acts(link)).flat_map(|link| &link.prev).collect();
        let mut out = Vec::new();
        let mut seen = BTreeSet::new();
        // Earlier rounds stand before what builds on them, the results last.
        let tops = self.links.iter().filter(|link| acts(link) && !used.contains(&link.digest));
        let mut waiting: Vec<Branch<'_>> = tops.rev().map(|link| Branch { depth: 0, link }).collect();
        while let Some(Branch { mut depth, link }) = waiting.pop() {
            if !seen.insert(link.digest) {
                continue;
            }
            let below = link.prev.iter().filter_map(|digest| all.get(digest).copied());
            if let Some(call) = below.clone().find(|other| other.kind == "call") {
                out.push(Branch { depth, link: call });
                depth = depth.saturating_add(1);
            }
            out.push(Branch { depth, link });
            let acting = below.filter(|other| acts(other)).map(|link| Branch { depth: depth.saturating_add(1), link });
            waiting.extend(acting.rev());
        }
        out
    }
}
