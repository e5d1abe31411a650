//! A party: someone with keys and data. It seals what it has, judges the enclave it is asked to let in, grants, and opens
//! what is sealed to it. Keys of its objects never leave it but wrapped to an enclave it judged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use legation_attest::{Judge, Roots, passport};
use legation_core::{
    Digest, FragmentIndex, ObjectId, PublicKey, Rejection, SealingPublicKey, Signed, Signer, TaskId, UnixTime,
    claims::{Anchors, EvidenceJudge, Role},
    dsse,
    requirement::Candidate,
    statement::{Appointment, Grant, GrantSubject, Office, Request},
    task::{Direction, Fragment, Input, OutputRef, Owner, SealedRef, WrapUse, WrappedKey},
};
use legation_keys::{Entropy, IdentityKey, ObjectKey, SealingKey};
use legation_manager::api::tasks::GrantWithKeys;
use legation_net::OsEntropy;
use legation_pool::Needs;
use zeroize::Zeroizing;

/// Someone with keys and data.
pub struct Party {
    identity: IdentityKey,
    sealing: SealingKey,
    keys: Mutex<HashMap<ObjectId, Arc<ObjectKey>>>,
}

/// A sealed input, ready to be stored and named in a request.
pub struct SealedInput {
    /// How the request names it.
    pub reference: SealedRef,
    /// What is stored.
    pub ciphertext: Vec<u8>,
}

/// What a client trusts, ready to judge.
pub struct Trust {
    anchors: Anchors,
    judge: Judge,
}

impl Trust {
    /// Trust in `anchors` and the vendors' roots.
    ///
    /// # Errors
    /// An anchor will not do.
    pub fn new(anchors: Anchors) -> Result<Self, Rejection> {
        let judge = Judge::new(Roots::new(&anchors)?);
        Ok(Self { anchors, judge })
    }

    /// What is trusted.
    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// What judges evidence.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Judges the enclave that was promised: manager, verifier, evidence, requirements. The manager's word is not enough.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn judge_need(&self, request: &Signed<Request>, need: &Needs, now: UnixTime) -> Result<(), Rejection> {
        let operators = &self.anchors.operators;
        let manager: &Signed<Appointment> = &need.manager;
        let appointed = operators.contains(&manager.operator)
            && manager.office == Office::Manager
            && manager.key == need.allocation.manager
            && manager.not_after >= now;
        if !appointed {
            return Err(Rejection::new("client.manager", "manager behind the allocation")
                .expected("appointed by an operator of the anchors")
                .got(manager.operator.id()));
        }
        let passport = passport::open(need.passport.envelope(), need.verifier.envelope(), operators, now)?;
        if !need.verifier.covers_tenant(&request.tenant) {
            return Err(Rejection::new("client.verifier", "verifier behind the passport")
                .expected(format!("one that its operator trusts with the work of {}", request.tenant))
                .got(passport.verifier_id().short())
                .fix("no key is released on its word: wait for an enclave that another verifier vouches for"));
        }
        let shelf = need.collateral.iter().cloned().map(Arc::new).collect();
        let judged = self.judge.judge(&need.evidence, &shelf, passport.issued)?;
        let same = judged.binding.identity == passport.enclave
            && judged.binding.sealing == passport.sealing
            && judged.claims == passport.claims
            && judged.configuration == passport.configuration
            && judged.collateral == passport.collateral
            && need.evidence.digest() == passport.evidence
            && judged.binding.role == Role::Agent
            && passport.expires <= judged.binding.not_after;
        if !same {
            return Err(Rejection::new("client.passport", "what the passport says of the enclave")
                .expected("what its evidence says")
                .got("something else")
                .fix("this verifier lies or is broken: tell its operator"));
        }
        if judged.claims.debug.value {
            return Err(Rejection::new("client.debug", "debugging of the enclave")
                .expected("not permitted")
                .got("permitted: its host may read its memory")
                .fix("no key is released to such an enclave, whatever its verifier says"));
        }
        let allocation = &need.allocation;
        if allocation.enclave != passport.enclave_id()
            || allocation.task != TaskId::new(request.digest())
            || allocation.fragment != need.fragment
        {
            return Err(Rejection::new("client.allocation", "what was allocated")
                .expected("this fragment, to the enclave of the passport"));
        }
        let Some(fragment) = request.fragment(need.fragment) else {
            return Err(Rejection::new("client.allocation", "fragment of the allocation").got(need.fragment));
        };
        let price_hour = passport.configuration.rate.per_hour(fragment.demand.cpu, fragment.demand.memory);
        let candidate = Candidate { passport: &passport, price_hour };
        request.require.check(&candidate)?;
        fragment.require.check(&candidate)?;
        request.data.check(&passport)
    }
}

impl Party {
    /// A party with these keys.
    pub fn new(identity: IdentityKey, sealing: SealingKey) -> Self {
        Self { identity, sealing, keys: Mutex::new(HashMap::new()) }
    }

    /// A party with fresh keys.
    pub fn generate() -> Self {
        Self::new(IdentityKey::generate(&mut OsEntropy), SealingKey::generate(&mut OsEntropy))
    }

    /// Key that signs its requests and grants.
    pub fn key(&self) -> PublicKey {
        self.identity.public_key()
    }

    /// Key that results are sealed to.
    pub fn sealing(&self) -> &SealingPublicKey {
        self.sealing.public()
    }

    /// How a fragment names it as its owner.
    pub fn owner(&self) -> Owner {
        Owner { key: self.key(), sealing: self.sealing().clone() }
    }

    /// What signs for it.
    pub fn signer(&self) -> &dyn Signer {
        &self.identity
    }

    /// Seals `plaintext` under a fresh key, which it keeps.
    ///
    /// # Errors
    /// Larger than an object may be.
    pub fn seal(&self, name: &str, plaintext: &[u8]) -> Result<SealedInput, Rejection> {
        let mut id = [0; 16];
        OsEntropy.fill(&mut id);
        let object = ObjectId::from_bytes(id);
        let key = ObjectKey::generate(&mut OsEntropy);
        let sealed = legation_keys::seal(&key, object, plaintext)
            .map_err(|e| Rejection::new("client.seal", format!("input `{name}`")).got(e))?;
        self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(object, Arc::new(key));
        let reference = SealedRef {
            name: name.to_owned(),
            holder: Some(self.key()),
            object,
            ciphertext: sealed.ciphertext,
            size: sealed.size,
            commitment: sealed.commitment,
        };
        Ok(SealedInput { reference, ciphertext: sealed.bytes })
    }

    /// The grant of this party for an enclave that was judged, with the keys it releases; nothing when it has no say in
    /// this fragment.
    ///
    /// # Errors
    /// A key cannot be unwrapped or wrapped.
    pub fn grant(&self, request: &Signed<Request>, need: &Needs) -> Result<Option<GrantWithKeys>, Rejection> {
        let Some(fragment) = request.fragment(need.fragment) else { return Ok(None) };
        let holds = |input: &Input| request.holder(fragment, input) == Some(self.key());
        if request.owner_key(fragment) != self.key() && !fragment.inputs.iter().any(holds) {
            return Ok(None);
        }
        let task = TaskId::new(request.digest());
        let used = WrapUse { task, fragment: need.fragment, module: fragment.module, direction: Direction::Input };
        let (mut releases, mut keys) = (Vec::new(), Vec::new());
        let mut upstream = need.upstream.iter();
        for input in &fragment.inputs {
            let (object, key) = match input {
                Input::Sealed(sealed) if holds(input) => (sealed.object, self.object_key(sealed.object)?),
                Input::Sealed(_) => continue,
                Input::Output { fragment } => {
                    let Some(written) = upstream.next().filter(|u| u.fragment == *fragment) else {
                        return Err(Rejection::new("client.upstream", "keys of the outputs to pass on")
                            .expected("one for each"));
                    };
                    if !holds(input) {
                        continue;
                    }
                    let key = self.output_key(request, written.fragment, &written.key, Direction::Output)?;
                    (written.output.object, Arc::new(key))
                }
            };
            if releases.contains(&object) {
                continue;
            }
            let wrapped = legation_keys::wrap(&key, object, &need.passport.sealing, &used, &mut OsEntropy)
                .map_err(|e| Rejection::new("client.wrap", "sealing key of the enclave").got(e))?;
            releases.push(object);
            keys.push(wrapped);
        }
        let subject = GrantSubject::Enclave(need.passport.enclave_id());
        let grant = self.sign_grant(request, &[need.fragment], subject, releases);
        Ok(Some(GrantWithKeys { grant, keys }))
    }

    /// A grant for any enclave that satisfies the request, for fragments without inputs.
    pub fn policy_grant(&self, request: &Signed<Request>, fragments: &[FragmentIndex]) -> Signed<Grant> {
        let subject = GrantSubject::Policy(request.require.digest());
        self.sign_grant(request, fragments, subject, Vec::new())
    }

    fn sign_grant(
        &self,
        request: &Signed<Request>,
        fragments: &[FragmentIndex],
        subject: GrantSubject,
        releases: Vec<ObjectId>,
    ) -> Signed<Grant> {
        let of = |index: &FragmentIndex| request.fragment(*index);
        let mut modules: Vec<Digest> = fragments.iter().filter_map(of).map(|f| f.module).collect();
        modules.sort_unstable();
        modules.dedup();
        let grant = Grant {
            issuer: self.key(),
            task: TaskId::new(request.digest()),
            fragments: fragments.to_vec(),
            subject,
            modules,
            fuel: fragments.iter().filter_map(of).map(|f| f.demand.fuel).min().unwrap_or_default(),
            budget: request.budget,
            depth: 0,
            expires: request.expires,
            releases,
            prev: vec![request.digest()],
        };
        dsse::sign(grant, &self.identity)
    }

    fn object_key(&self, object: ObjectId) -> Result<Arc<ObjectKey>, Rejection> {
        let keys = self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.get(&object).cloned().ok_or_else(|| {
            Rejection::new("client.key", format!("key of object {object}"))
                .expected("kept by this party since it sealed the object")
                .got("none")
        })
    }

    fn output_key(
        &self,
        request: &Signed<Request>,
        index: FragmentIndex,
        key: &WrappedKey,
        direction: Direction,
    ) -> Result<ObjectKey, Rejection> {
        let module = request.fragment(index).map(|f: &Fragment| f.module).unwrap_or_else(|| request.digest());
        let used = WrapUse { task: TaskId::new(request.digest()), fragment: index, module, direction };
        self.sealing.unwrap(key, &used).map_err(|e| {
            Rejection::new("client.unwrap", format!("key of an output of fragment {index}"))
                .expected("wrapped to this party for this task")
                .got(e)
        })
    }

    /// Opens what a fragment of this party left: its output or its log.
    ///
    /// # Errors
    /// The key or the ciphertext is not what the report says.
    pub fn open(
        &self,
        request: &Signed<Request>,
        index: FragmentIndex,
        left: &OutputRef,
        key: &WrappedKey,
        direction: Direction,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Rejection> {
        let key = self.output_key(request, index, key, direction)?;
        legation_keys::open(&key, left.object, ciphertext, Some(&left.commitment)).map_err(|e| {
            Rejection::new("client.open", format!("what fragment {index} left"))
                .expected("the object its report names")
                .got(e)
        })
    }
}

#[cfg(test)]
mod tests {
    use legation_core::{
        Bytes, LeaseId, MicroUsd, Millicores, ProviderId, Region, Requirement, RevocationEpoch, TenantId, Term,
        claims::{Anchor, Attested, Capacity, Claims, Configuration, Evidence, Rate, Tcb, TeeKind},
        prefer::{DataTerms, Preferences},
        statement::{Allocation, Assurance, Ear, Passport, Placement, Scope, Tier},
    };

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn appoint(
        operator: &IdentityKey,
        key: &IdentityKey,
        office: Office,
        tenants: Option<&[&str]>,
    ) -> Signed<Appointment> {
        let tenants = tenants.map(|names| names.iter().map(|name| TenantId::new(name).unwrap()).collect());
        let appointment = Appointment {
            operator: operator.public_key(),
            key: key.public_key(),
            office,
            scope: tenants.map(|tenants| Scope { tenants: Some(tenants), kinds: None }),
            not_before: NOW.minus(100),
            not_after: NOW.plus(10_000),
        };
        dsse::sign(appointment, operator)
    }

    fn passport(verifier: &IdentityKey, enclave: &IdentityKey, appointment: Digest) -> Passport {
        let word = |word: &str| Attested::hardware(word.to_owned());
        Passport {
            verifier: verifier.public_key(),
            issued: NOW,
            expires: NOW.plus(600),
            enclave: enclave.public_key(),
            sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
            ear: Ear {
                status: Tier::Warning,
                vector: [("hardware".to_owned(), 32)].into(),
                policy: "test".into(),
                policy_digest: Digest::of(b"test"),
                tcb: Tcb::unknown("1"),
                images: Vec::new(),
                grace: None,
            },
            claims: Claims::basic(
                TeeKind::DevSnp,
                Anchor::Development("local".into()),
                "00".into(),
                word("chip"),
                Attested::hardware(Tcb::unknown("1")),
                word("milan"),
                String::new(),
            ),
            configuration: Configuration {
                provider: ProviderId::new("alpha").unwrap(),
                region: Region::new("eu-1").unwrap(),
                capacity: Capacity { cpu: Millicores(1000), memory: Bytes::gib(1), slots: 1 },
                rate: Rate { core_hour: MicroUsd(1), gib_hour: MicroUsd(1) },
                slot: 0,
                operators: Vec::new(),
            },
            evidence: Digest::of(b"evidence"),
            collateral: Vec::new(),
            prev: vec![appointment],
        }
    }

    /// A manager that shows a passport of a verifier that is trusted by somebody else gets no keys, whatever the evidence.
    #[test]
    fn no_key_is_released_on_the_word_of_another_tenants_verifier() {
        let key = || IdentityKey::generate(&mut OsEntropy);
        let (operator, manager, verifier, enclave, client) = (key(), key(), key(), key(), key());
        let anchors = Anchors { operators: vec![operator.public_key()], development: Vec::new(), tpm: Vec::new() };
        let trust = Trust::new(anchors).unwrap();
        let request = Request {
            client: client.public_key(),
            sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
            tenant: TenantId::new("acme").unwrap(),
            name: "one".into(),
            created: NOW,
            expires: NOW.plus(100),
            fragments: Vec::new(),
            require: Requirement::any(),
            prefer: Preferences::default(),
            data: DataTerms::default(),
            swarm: None,
            assurance: Assurance::Attested,
            budget: MicroUsd(1),
            nonce: Digest::of(b"nonce"),
            prev: Vec::new(),
        };
        let request = dsse::sign(request, &client);
        let leads = appoint(&operator, &manager, Office::Manager, None);
        for (tenants, check) in [
            (Some(&["bank"][..]), "client.verifier"),
            // These go on to the evidence, which is nothing.
            (Some(&["bank", "acme"]), "evidence.binding"),
            (None, "evidence.binding"),
        ] {
            let appointment = appoint(&operator, &verifier, Office::Verifier, tenants);
            let allocation = Allocation {
                manager: manager.public_key(),
                term: Term(1),
                task: TaskId::new(request.digest()),
                fragment: FragmentIndex(0),
                lease: LeaseId(1),
                from: NOW,
                until: NOW.plus(60),
                enclave: enclave.public_key().enclave_id(),
                provider: ProviderId::new("alpha").unwrap(),
                region: Region::new("eu-1").unwrap(),
                price_hour: MicroUsd(1),
                limits: None,
                why: Placement { considered: 1, eligible: 1, passed_over: Vec::new(), decided_by: "only".into() },
                revocations: RevocationEpoch(0),
                seat: None,
                prev: Vec::new(),
            };
            let need = Needs {
                lease: LeaseId(1),
                fragment: FragmentIndex(0),
                allocation: dsse::sign(allocation, &manager),
                manager: leads.clone(),
                passport: dsse::sign(passport(&verifier, &enclave, appointment.digest()), &verifier),
                verifier: appointment,
                evidence: Evidence {
                    kind: TeeKind::DevSnp,
                    report: Vec::new(),
                    endorsements: Vec::new(),
                    devices: Vec::new(),
                    binding: Vec::new(),
                    configuration: Vec::new(),
                },
                collateral: Vec::new(),
                upstream: Vec::new(),
                missing: String::new(),
            };
            assert_eq!(trust.judge_need(&request, &need, NOW).unwrap_err().check, check, "{tenants:?}");
        }
    }
}
