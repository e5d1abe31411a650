//! What a grant allows: pure checks that the manager, the executing agent and every reader of a receipt run alike.
//!
//! A fragment may run on an enclave when
//! 1. its owner granted it: right task, fragment, module, enclave (or policy), unexpired, and not for more than the request says;
//! 2. the holder of every input granted it too, naming the object whose key it releases;
//! 3. none of these grants is revoked, nor who signed it.
//!
//! What grants let an enclave pass on to others is in [`crate::delegation`]; that they pass on no more than the request says
//! is checked here.

use crate::{
    digest::Digest,
    dsse::Signed,
    id::{EnclaveId, FragmentIndex, ObjectId, TaskId},
    key::PublicKey,
    proven::may_be_assured,
    rejection::Rejection,
    revocation::Revoked,
    statement::{Delegable, Grant, GrantSubject, Request},
    task::{Delegation, Fragment, Input},
    time::UnixTime,
};

/// Most grants one fragment may need: its owner's and one per input.
pub const GRANTS_MAX: usize = 1 + crate::task::INPUTS_MAX;

/// Who is to act on grants, and when.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The enclave that runs it.
    pub enclave: EnclaveId,
    /// Objects its inputs are, in order: sealed inputs by the request, outputs by the reports of the fragments before.
    pub objects: &'a [ObjectId],
    /// When.
    pub at: UnixTime,
    /// What is revoked, as far as whoever asks knows.
    pub revoked: &'a Revoked,
}

/// Checks that one grant stays within its request: what any issuer may say at all. Grants of enclaves, which rest on other
/// grants, are for [`crate::delegation::Lineage`].
///
/// # Errors
/// The first bound it exceeds.
pub fn check_grant(request: &Signed<Request>, grant: &Grant) -> Result<(), Rejection> {
    let task = TaskId::new(request.digest());
    let refuse = |check: &str, claim: &str| Rejection::new(check, claim.to_owned());
    if grant.task != task {
        return Err(refuse("grant.task", "task of the grant").expected(task).got(grant.task));
    }
    if grant.prev != [request.digest()] {
        return Err(refuse("grant.task", "what the grant rests on")
            .expected(format!("the request {task} alone"))
            .got(grant.prev.iter().map(Digest::short).collect::<Vec<_>>().join(", ")));
    }
    if grant.expires > request.expires {
        return Err(refuse("grant.expires", "end of the grant")
            .expected(format!("at most {} (end of the request)", request.expires))
            .got(grant.expires));
    }
    if grant.budget > request.budget {
        return Err(refuse("grant.budget", "budget of the grant").expected(request.budget).got(grant.budget));
    }
    if grant.delegable.is_some() != (grant.depth > 0) {
        return Err(refuse("grant.depth", "delegation depth and what may be passed on")
            .expected("0 without it, more with it")
            .got(grant.depth));
    }
    if !grant.fragments.is_sorted_by(|a, b| a < b) || grant.fragments.is_empty() {
        return Err(refuse("grant.fragments", "fragments of the grant").expected("ascending, at least one"));
    }
    if let GrantSubject::Policy(policy) = &grant.subject
        && (*policy != request.require.digest() || !grant.releases.is_empty())
    {
        return Err(refuse("grant.policy", "policy of the grant")
            .expected(format!("the request's requirement {}, releasing no keys", request.require.digest()))
            .got(policy));
    }
    if let (GrantSubject::Policy(_), Some(_)) = (&grant.subject, &grant.delegable) {
        return Err(refuse("grant.depth", "delegation depth of a grant to whoever satisfies a policy")
            .expected(0)
            .got(grant.depth)
            .fix("grant to the enclave that was allocated: only a key that is named can prove that it may pass things on"));
    }
    for index in &grant.fragments {
        let Some(fragment) = request.fragment(*index) else {
            return Err(refuse("grant.fragments", "a fragment of the grant")
                .expected(format!("one of {}", request.fragments.len()))
                .got(index));
        };
        if !grant.modules.contains(&fragment.module) {
            return Err(refuse("grant.module", "modules of the grant")
                .expected(format!("the module of fragment {index}, {}", fragment.module))
                .got(grant.modules.iter().map(Digest::to_string).collect::<Vec<_>>().join(", ")));
        }
        if grant.fuel > fragment.demand.fuel {
            return Err(refuse("grant.fuel", "fuel of the grant").expected(fragment.demand.fuel).got(grant.fuel));
        }
        if let Some(delegable) = &grant.delegable {
            within_delegation(grant.depth, delegable, fragment.delegates.as_ref(), *index)?;
            may_be_assured(delegable.assurance, &request.data)?;
        }
        let issuer = grant.issuer;
        let holds = fragment.inputs.iter().any(|input| request.holder(fragment, input) == Some(issuer));
        if request.owner_key(fragment) != issuer && !holds {
            return Err(refuse("grant.issuer", "issuer of the grant")
                .expected(format!("the owner of fragment {index} or the holder of one of its inputs"))
                .got(format!("{issuer:?}"))
                .fix("sign the grant with the key that the request names"));
        }
    }
    nothing_beside(request, grant)
}

/// What a grant lets its subject pass on is no more than what the request lets the fragment's enclave have run by others.
fn within_delegation(
    depth: u32,
    passed: &Delegable,
    most: Option<&Delegation>,
    index: FragmentIndex,
) -> Result<(), Rejection> {
    let refuse = |check: &str, claim: &str| Rejection::new(check, format!("{claim} of fragment {index}"));
    let Some(most) = most else {
        return Err(refuse("grant.depth", "delegation depth")
            .expected("0: the request lets nothing of it be passed on")
            .got(depth)
            .fix("say in the request what may be passed on, or grant without `delegable`"));
    };
    if depth > most.depth {
        return Err(refuse("grant.depth", "delegation depth").expected(format!("at most {}", most.depth)).got(depth));
    }
    if passed.modules.is_empty() || !passed.modules.is_sorted_by(|a, b| a < b) {
        return Err(refuse("grant.delegable", "modules that may be passed on").expected("ascending, at least one"));
    }
    if let Some(other) = passed.modules.iter().find(|module| !most.modules.contains(module)) {
        return Err(refuse("grant.delegable", "modules that may be passed on")
            .expected("those of the request")
            .got(other));
    }
    if passed.fuel > most.fuel || passed.budget > most.budget {
        return Err(refuse("grant.delegable", "fuel and budget that may be passed on")
            .expected(format!("at most {} and {}", most.fuel, most.budget))
            .got(format!("{} and {}", passed.fuel, passed.budget)));
    }
    passed.assurance.validate()?;
    if !passed.assurance.covers(most.assurance) {
        return Err(refuse("grant.delegable", "assurance of calls")
            .expected(format!("{} at least", most.assurance))
            .got(passed.assurance));
    }
    Ok(())
}

/// No module that none of its fragments runs, no object that none of them reads out of the issuer's hands.
fn nothing_beside(request: &Request, grant: &Grant) -> Result<(), Rejection> {
    let covered = || grant.fragments.iter().filter_map(|index| request.fragment(*index));
    if let Some(other) = grant.modules.iter().find(|module| !covered().any(|f| f.module == **module)) {
        return Err(Rejection::new("grant.module", "modules of the grant")
            .expected("those of its fragments")
            .got(other));
    }
    let held = || covered().flat_map(|f| f.inputs.iter().filter(|i| request.holder(f, i) == Some(grant.issuer)));
    // Which object an output will be is known when its fragment has run.
    let may_release = |object: &ObjectId| {
        held().any(|input| match input {
            Input::Sealed(sealed) => sealed.object == *object,
            Input::Output { .. } => true,
        })
    };
    if let Some(other) = grant.releases.iter().find(|object| !may_release(object)) {
        return Err(Rejection::new("grant.releases", "objects whose keys the grant releases")
            .expected("inputs of its fragments that the issuer holds")
            .got(other));
    }
    grant.passes_releases()
}

/// Checks that `grants` together let an enclave run a fragment. Each grant must pass [`check_grant`] too: this calls it.
/// A grant that has expired, is revoked, or is for other enclaves or fragments, counts for nothing beside others that hold.
///
/// # Errors
/// What is missing or exceeded.
pub fn check_use(request: &Signed<Request>, grants: &[Signed<Grant>], used: &Use<'_>) -> Result<(), Rejection> {
    let fragment = request.fragment(used.fragment).ok_or_else(|| {
        Rejection::new("grant.fragment", "fragment to run").expected("one of the request").got(used.fragment)
    })?;
    for grant in grants {
        check_grant(request, grant)?;
    }
    let needed = |key: PublicKey, what: &str, enough: &dyn Fn(&Grant) -> bool| {
        let said = grants.iter().filter(|g| g.issuer == key && g.covers(used.fragment, used.enclave) && enough(g));
        let (cut, good): (Vec<_>, Vec<_>) = said.partition(|g| used.revoked.of_grant(g).is_some());
        match good.iter().map(|g| g.expires).max() {
            Some(end) if used.at <= end => Ok(()),
            Some(end) => Err(Rejection::new("grant.expires", "end of the grant")
                .expected(format!("not before {}", used.at))
                .got(end)
                .fix("grant again")),
            None => match cut.first().and_then(|g| used.revoked.of_grant(g)) {
                Some(revocation) => Err(revocation.refusal()),
                None => Err(missing(fragment, used, what)),
            },
        }
    };
    needed(request.owner_key(fragment), "its owner's grant", &|_| true)?;
    if fragment.inputs.len() != used.objects.len() {
        return Err(Rejection::new("grant.object", "number of inputs")
            .expected(fragment.inputs.len())
            .got(used.objects.len()));
    }
    for (input, object) in fragment.inputs.iter().zip(used.objects) {
        if let Input::Sealed(sealed) = input
            && sealed.object != *object
        {
            return Err(Rejection::new("grant.object", "object of an input").expected(sealed.object).got(object));
        }
        let what = format!("the release of object {object} by its holder");
        let holder = request.holder(fragment, input).ok_or_else(|| missing(fragment, used, &what))?;
        needed(holder, &what, &|g| g.releases.contains(object))?;
    }
    Ok(())
}

impl Grant {
    /// Whether it speaks of `fragment` on `enclave`, whatever else it says.
    pub fn covers(&self, fragment: FragmentIndex, enclave: EnclaveId) -> bool {
        self.fragments.contains(&fragment)
            && match &self.subject {
                GrantSubject::Enclave(subject) => *subject == enclave,
                GrantSubject::Policy(_) => true,
            }
    }

    /// Keys that may be passed on are ascending, and of objects that the grant releases.
    pub(crate) fn passes_releases(&self) -> Result<(), Rejection> {
        let Some(passed) = &self.delegable else { return Ok(()) };
        let within = passed.releases.iter().all(|object| self.releases.contains(object));
        if within && passed.releases.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        Err(Rejection::new("grant.releases", "objects whose keys may be passed on")
            .expected("some of those that the grant releases, ascending")
            .got(passed.releases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))
    }
}

fn missing(fragment: &Fragment, used: &Use<'_>, what: &str) -> Rejection {
    Rejection::new("grant.missing", format!("grants for fragment {} `{}`", used.fragment, fragment.name))
        .expected(format!("{what}, for enclave {}", used.enclave.short()))
        .got("none")
        .fix("the client grants the enclave that was allocated: keep it running while the task runs")
}
