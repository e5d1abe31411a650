//! What a grant passes on: never more than it was given. A pure function, and the walk that applies it from a child to the
//! request.
//!
//! A grant by an enclave (a *child*) counts when, for every grant it rests on (its *parents*):
//! 1. the parent lets something be passed on: its depth is above zero;
//! 2. the child is signed by the identity key of the enclave that is the parent's subject: proof of possession;
//! 3. it is of the same task, of exactly one of the parent's fragments, and for another enclave;
//! 4. its depth is less, and it ends no later;
//! 5. it allows only modules that the parent lets be passed on, to be run and to be passed on;
//! 6. its fuel and what of it may be passed on are together within what the parent lets be passed on, and so is its budget;
//! 7. it releases only keys that the parent lets go on;
//! 8. what it passes on asks for an assurance no weaker.
//!
//! Requirements are not compared: those of all grants above hold, joined by AND. So nothing that goes down ever widens, and
//! since each rule is an order, no chain of children does.
//!
//! A child rests on *all* grants that its issuer passes on: the owner's, and that of every holder of an input. Whoever gave a
//! key for this enclave alone has not agreed that others see what comes of it. What an enclave holds itself is either grants of
//! clients, or the one child of the loan that it works under: so the parents of a child are clients' grants, or one child, and
//! above each there are no more than [`LINEAGE_MAX`] links.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::sum::Sum;
use crate::{
    digest::Digest,
    dsse::Signed,
    grant,
    id::{EnclaveId, FragmentIndex},
    key::PublicKey,
    proven::may_be_assured,
    rejection::Rejection,
    requirement::{Candidate, Requirement},
    revocation::{Revocation, Revoked},
    statement::{Assurance, Delegable, Grant, GrantSubject, Request},
    task::{DELEGATION_DEPTH_MAX, DELEGATION_MODULES_MAX},
    time::UnixTime,
    unit::{Fuel, MicroUsd},
};

/// Most grants above and including one: a grant of each level, and those of all holders at the top.
pub const LINEAGE_MAX: usize = DELEGATION_DEPTH_MAX as usize + grant::GRANTS_MAX;

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("delegation.{check}"), claim.to_owned())
}

/// Whether `child` passes on no more than `parent` lets be passed on, and is by the one who may.
///
/// # Errors
/// `delegation.depth`, `.issuer`, `.task`, `.fragments`, `.subject`, `.expires`, `.modules`, `.fuel`, `.budget`, `.releases`,
/// `.assurance`: the first rule it breaks.
pub fn attenuates(parent: &Grant, child: &Grant) -> Result<(), Rejection> {
    let Some(passed) = parent.delegable.as_ref().filter(|_| parent.depth > 0) else {
        return Err(refuse("depth", "a grant that was passed on")
            .expected("one that lets something be passed on")
            .got(format!("depth {}", parent.depth))
            .fix("ask whoever granted for more depth"));
    };
    let issuer = child.issuer.enclave_id();
    if parent.subject != GrantSubject::Enclave(issuer) {
        let expected = match &parent.subject {
            GrantSubject::Enclave(enclave) => format!("enclave {}", enclave.short()),
            GrantSubject::Policy(_) => {
                "nobody: a grant to a policy names no key that could prove possession".to_owned()
            }
        };
        return Err(refuse("issuer", "who passed the grant on").expected(expected).got(issuer.short()));
    }
    if child.task != parent.task {
        return Err(refuse("task", "task of a grant that was passed on").expected(parent.task).got(child.task));
    }
    if !matches!(child.fragments.as_slice(), [one] if parent.fragments.contains(one)) {
        return Err(refuse("fragments", "fragments of a grant that was passed on")
            .expected(format!("one of {}", indices(&parent.fragments)))
            .got(indices(&child.fragments)));
    }
    if !matches!(&child.subject, GrantSubject::Enclave(to) if *to != issuer) {
        return Err(
            refuse("subject", "to whom a grant was passed on").expected("an enclave, other than who passed it on")
        );
    }
    if child.depth >= parent.depth {
        return Err(refuse("depth", "depth of a grant that was passed on")
            .expected(format!("less than {}", parent.depth))
            .got(child.depth));
    }
    if child.delegable.is_some() != (child.depth > 0) {
        return Err(refuse("depth", "depth of a grant that was passed on, and what it passes on")
            .expected("0 without it, more with it")
            .got(child.depth));
    }
    if child.expires > parent.expires {
        return Err(refuse("expires", "end of a grant that was passed on")
            .expected(format!("at most {}", parent.expires))
            .got(child.expires));
    }
    modules(&child.modules, passed)?;
    amounts(child, passed)?;
    if let Some(other) = child.releases.iter().find(|object| !passed.releases.contains(object)) {
        return Err(refuse("releases", "keys that a grant that was passed on releases")
            .expected("those that its parent lets go on")
            .got(other));
    }
    let Some(below) = &child.delegable else { return Ok(()) };
    child.passes_releases()?;
    modules(&below.modules, passed)?;
    below.assurance.validate()?;
    if !below.assurance.covers(passed.assurance) {
        return Err(refuse("assurance", "assurance that a grant that was passed on asks of calls")
            .expected(format!("{} at least", passed.assurance))
            .got(below.assurance));
    }
    Ok(())
}

fn indices(list: &[FragmentIndex]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Modules of a child are ascending, some, and among those that may be passed on.
fn modules(modules: &[Digest], passed: &Delegable) -> Result<(), Rejection> {
    let claim = "modules of a grant that was passed on";
    if !(1..=DELEGATION_MODULES_MAX).contains(&modules.len()) || !modules.is_sorted_by(|a, b| a < b) {
        return Err(refuse("modules", claim)
            .expected(format!("1 to {DELEGATION_MODULES_MAX}, ascending, each once"))
            .got(modules.len()));
    }
    match modules.iter().find(|module| !passed.modules.contains(module)) {
        Some(other) => Err(refuse("modules", claim).expected("those that its parent lets be passed on").got(other)),
        None => Ok(()),
    }
}

/// What a child allows and what it passes on come out of the same purse: else each level could spend it once more.
fn amounts(child: &Grant, passed: &Delegable) -> Result<(), Rejection> {
    let (fuel, budget) = child.delegable.as_ref().map_or_else(Default::default, |below| (below.fuel, below.budget));
    if child.fuel.checked_add(fuel).is_none_or(|all| all > passed.fuel) {
        return Err(refuse("fuel", "fuel of a grant that was passed on, with what it passes on")
            .expected(format!("at most {}", passed.fuel))
            .got(format!("{} and {fuel}", child.fuel)));
    }
    if child.budget.checked_add(budget).is_none_or(|all| all > passed.budget) {
        return Err(refuse("budget", "budget of a grant that was passed on, with what it passes on")
            .expected(format!("at most {}", passed.budget))
            .got(format!("{} and {budget}", child.budget)));
    }
    Ok(())
}

/// How much of a child may be passed on further, at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Onward {
    /// How often in turn.
    pub depth: u32,
    /// Fuel and cost of everything below it.
    pub most: Sum,
}

impl Onward {
    /// Nothing.
    pub const NOTHING: Self = Self { depth: 0, most: Sum::ZERO };
}

/// The widest child of `parents`: what all of them let be passed on, for `to`, until `until` at the latest. As much as `onward`
/// says, as far as the parents have it and to half of it, may be passed on further. `issuer` is the parents' subject.
///
/// # Errors
/// `delegation.modules`, `delegation.depth`: the parents have nothing in common to pass on; or a rule of [`attenuates`].
pub fn widest(
    parents: &[Signed<Grant>],
    issuer: PublicKey,
    fragment: FragmentIndex,
    (to, until): (EnclaveId, UnixTime),
    onward: Onward,
) -> Result<Grant, Rejection> {
    let nothing = || refuse("depth", "grants to pass on").expected("some, all of which let something be passed on");
    let passed: Vec<&Delegable> = parents.iter().filter_map(|parent| parent.delegable.as_ref()).collect();
    let (Some(first), Some(parent)) = (passed.first(), parents.first()) else { return Err(nothing()) };
    if passed.len() != parents.len() {
        return Err(nothing());
    }
    let mut modules = first.modules.clone();
    modules.retain(|module| passed.iter().all(|other| other.modules.contains(module)));
    let all = purse(parents);
    let assurance = passed.iter().map(|other| other.assurance).fold(Assurance::Attested, Assurance::both);
    let left = parents.iter().map(|other| other.depth.saturating_sub(1)).min().unwrap_or(0).min(onward.depth);
    let most = all.half().least(onward.most);
    let left = if most.fuel == Fuel::ZERO || most.cost == MicroUsd::ZERO { 0 } else { left };
    let most = if left > 0 { most } else { Sum::ZERO };
    let below = (left > 0).then(|| Delegable {
        modules: modules.clone(),
        fuel: most.fuel,
        budget: most.cost,
        releases: Vec::new(),
        assurance,
        require: None,
    });
    let mut prev: Vec<Digest> = parents.iter().map(Signed::digest).collect();
    prev.sort_unstable();
    let ends = parents.iter().map(|other| other.expires).min().unwrap_or(until);
    let child = Grant {
        issuer,
        task: parent.task,
        fragments: vec![fragment],
        subject: GrantSubject::Enclave(to),
        modules,
        fuel: all.minus(most).fuel,
        budget: all.minus(most).cost,
        depth: left,
        expires: ends.min(until),
        releases: Vec::new(),
        delegable: below,
        prev,
    };
    parents.iter().try_for_each(|parent| attenuates(parent, &child))?;
    Ok(child)
}

/// What all of these let be passed on together: the least of each.
pub fn purse(parents: &[Signed<Grant>]) -> Sum {
    let passed = |grant: &Signed<Grant>| {
        grant.delegable.as_ref().map_or(Sum::ZERO, |passed| Sum { fuel: passed.fuel, cost: passed.budget })
    };
    parents.iter().map(passed).reduce(Sum::least).unwrap_or_default()
}

fn missing(digest: &Digest) -> Rejection {
    refuse("missing", "a grant that another rests on").expected(format!("grant {digest}")).got("nothing")
}

/// The parents of a child: one child, or clients' grants, ascending and each once.
fn form(request: &Signed<Request>, child: &Grant, parents: &[Signed<Grant>]) -> Result<(), Rejection> {
    let clients = parents.iter().all(|parent| parent.prev.as_slice() == [request.digest()]);
    if !parents.is_empty() && child.prev.is_sorted_by(|a, b| a < b) && (clients || parents.len() == 1) {
        return Ok(());
    }
    Err(refuse("prev", "what a grant rests on")
        .expected(
            "the request; or clients' grants that are passed on, ascending and each once; or the one grant of a loan",
        )
        .got(child.prev.iter().map(Digest::short).collect::<Vec<_>>().join(", ")))
}

/// One link of a lineage: whether a child may rest on these parents, which were checked. What the owner and all holders agreed
/// to is looked at where the first enclave passes their grants on: what is below rests on that one child.
///
/// # Errors
/// `delegation.*`, `proof.sensitivity`: the first rule that it breaks.
pub(crate) fn check_link(
    request: &Signed<Request>,
    child: &Signed<Grant>,
    parents: &[Signed<Grant>],
) -> Result<(), Rejection> {
    form(request, child, parents)?;
    parents.iter().try_for_each(|parent| attenuates(parent, child))?;
    if let Some(below) = &child.delegable {
        may_be_assured(below.assurance, &request.data)?;
    }
    match parents.iter().all(|parent| parent.prev.as_slice() == [request.digest()]) {
        true => consented(request, child, parents),
        false => Ok(()),
    }
}

/// The owner of the fragment and every holder of an input are among those at the top.
fn consented(request: &Signed<Request>, child: &Grant, roots: &[Signed<Grant>]) -> Result<(), Rejection> {
    let index = child.fragments.first().copied().unwrap_or(FragmentIndex(0));
    let Some(fragment) = request.fragment(index) else {
        return Err(refuse("fragments", "fragment of the grant").expected("one of the request").got(index));
    };
    let issuers: BTreeSet<_> = roots.iter().map(|root| root.issuer).collect();
    let holders = fragment.inputs.iter().filter_map(|input| request.holder(fragment, input));
    match std::iter::once(request.owner_key(fragment)).chain(holders).find(|key| !issuers.contains(key)) {
        None => Ok(()),
        Some(other) => Err(refuse("consent", "who agreed that parts of the fragment may be passed on")
            .expected(format!("its owner and every holder of an input, {other:?} among them"))
            .got("others only")
            .fix("every holder grants with `delegable`, and the enclave passes all of their grants on together")),
    }
}

/// A grant by an enclave with everything above it, up to the request: every link was checked.
#[derive(Clone, Debug)]
pub struct Lineage {
    leaf: Signed<Grant>,
    /// The leaf and all above it, by digest.
    grants: BTreeMap<Digest, Signed<Grant>>,
    roots: BTreeSet<Digest>,
}

impl Lineage {
    /// Walks from the grant `leaf` up to the request. `find` gives grants by their digests, with their signatures checked.
    ///
    /// # Errors
    /// `delegation.missing`, `delegation.prev`, `delegation.size`, `delegation.consent`; the rules of [`attenuates`] and
    /// [`grant::check_grant`]. The first that fails, and the grant it fails on.
    pub fn of(
        request: &Signed<Request>,
        leaf: &Digest,
        find: impl Fn(&Digest) -> Option<Signed<Grant>>,
    ) -> Result<Self, Rejection> {
        Self::walk(request, leaf, find, |child, parents| match parents {
            [] => grant::check_grant(request, child),
            some => check_link(request, child, some),
        })
    }

    /// As [`Self::of`], where every grant was checked before, each by [`check_link`] or [`grant::check_grant`].
    pub(crate) fn of_checked(
        request: &Signed<Request>,
        leaf: &Digest,
        find: impl Fn(&Digest) -> Option<Signed<Grant>>,
    ) -> Result<Self, Rejection> {
        Self::walk(request, leaf, find, |_, _| Ok(()))
    }

    /// As [`Self::of`], where the grants in `checked` were checked before, by the same request; those that hold are added. Many
    /// leaves have the same grants above them.
    pub(crate) fn of_beside(
        request: &Signed<Request>,
        leaf: &Digest,
        find: impl Fn(&Digest) -> Option<Signed<Grant>>,
        checked: &RefCell<BTreeSet<Digest>>,
    ) -> Result<Self, Rejection> {
        Self::walk(request, leaf, find, |child, parents| {
            if checked.borrow().contains(&child.digest()) {
                return Ok(());
            }
            match parents {
                [] => grant::check_grant(request, child)?,
                some => check_link(request, child, some)?,
            }
            checked.borrow_mut().insert(child.digest());
            Ok(())
        })
    }

    fn walk(
        request: &Signed<Request>,
        leaf: &Digest,
        find: impl Fn(&Digest) -> Option<Signed<Grant>>,
        check: impl Fn(&Signed<Grant>, &[Signed<Grant>]) -> Result<(), Rejection>,
    ) -> Result<Self, Rejection> {
        let first = find(leaf).ok_or_else(|| missing(leaf))?;
        let (mut grants, mut roots) = (BTreeMap::new(), BTreeSet::new());
        let mut waiting = vec![first.clone()];
        while let Some(child) = waiting.pop() {
            let at = |why: Rejection| Rejection {
                claim: format!("{} (grant {})", why.claim, child.digest().short()),
                ..why
            };
            if grants.len() >= LINEAGE_MAX {
                return Err(refuse("size", "grants above one").expected(format!("at most {LINEAGE_MAX}")));
            }
            if child.prev.as_slice() == [request.digest()] {
                check(&child, &[]).map_err(at)?;
                roots.insert(child.digest());
            } else {
                if child.prev.len() > grant::GRANTS_MAX {
                    return Err(at(refuse("size", "grants that one rests on")
                        .expected(format!("at most {}", grant::GRANTS_MAX))
                        .got(child.prev.len())));
                }
                let parents = child.prev.iter().map(|digest| find(digest).ok_or_else(|| missing(digest)));
                let parents = parents.collect::<Result<Vec<_>, _>>().map_err(at)?;
                form(request, &child, &parents).map_err(at)?;
                // The depth falls at every step: so a ring of grants breaks this rule somewhere.
                check(&child, &parents).map_err(at)?;
                waiting.extend(parents);
            }
            grants.insert(child.digest(), child);
        }
        if roots.contains(leaf) {
            return Err(refuse("prev", "a grant for calls")
                .expected("one that an enclave passed on")
                .got("a client's"));
        }
        Ok(Self { leaf: first, grants, roots })
    }

    /// The grant it is the lineage of.
    pub fn leaf(&self) -> &Signed<Grant> {
        &self.leaf
    }

    /// The fragment it is of.
    pub fn fragment(&self) -> FragmentIndex {
        self.leaf.fragments.first().copied().unwrap_or(FragmentIndex(0))
    }

    /// Every grant in it, the leaf included, ascending by digest.
    pub fn grants(&self) -> impl Iterator<Item = &Signed<Grant>> {
        self.grants.values()
    }

    /// The grant of this digest, if it is in it.
    pub fn grant(&self, digest: &Digest) -> Option<&Signed<Grant>> {
        self.grants.get(digest)
    }

    /// The grants at the top: of the owner, and of holders of inputs.
    pub fn roots(&self) -> impl Iterator<Item = &Signed<Grant>> {
        self.roots.iter().filter_map(|digest| self.grants.get(digest))
    }

    /// The grants above the leaf.
    pub fn above(&self) -> impl Iterator<Item = &Signed<Grant>> {
        let leaf = self.leaf.digest();
        self.grants().filter(move |grant| grant.digest() != leaf)
    }

    /// What every enclave that acts on it must satisfy, beside what the request asks.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.above().filter_map(|grant| grant.delegable.as_ref()?.require.as_ref())
    }

    /// Whether an enclave may act on it by what the grants above ask.
    ///
    /// # Errors
    /// `require.ATTRIBUTE`: the first part that it does not satisfy.
    pub fn admits(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        self.requirements().try_for_each(|requirement| requirement.check(candidate))
    }

    /// Whether a call under it is assured well enough for every grant above.
    ///
    /// # Errors
    /// `delegation.assurance`.
    pub fn assures(&self, assurance: Assurance) -> Result<(), Rejection> {
        let mut least = self.above().filter_map(|grant| grant.delegable.as_ref()).map(|passed| passed.assurance);
        match least.find(|least| !assurance.covers(*least)) {
            Some(least) => {
                Err(refuse("assurance", "assurance of the call").expected(format!("{least} at least")).got(assurance))
            }
            None => Ok(()),
        }
    }

    /// Until when all of it holds: the earliest end.
    pub fn expires(&self) -> UnixTime {
        self.grants().map(|grant| grant.expires).min().unwrap_or(self.leaf.expires)
    }

    /// The first revocation that cuts it: of a grant in it, or of an enclave that signed one. What is above cuts what is below.
    pub fn revoked<'a>(&self, revoked: &'a Revoked) -> Option<&'a Revocation> {
        if revoked.is_empty() {
            return None;
        }
        self.grants().filter_map(|grant| revoked.of_grant(grant)).min_by_key(|r| r.epoch)
    }
}
