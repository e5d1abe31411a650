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
    statement::{Appointment, Delegable, Grant, GrantSubject, Office, Request},
    task::{Direction, Fragment, Input, OutputRef, Owner, SealedRef, WrapUse, WrappedKey},
};
use legation_keys::{Entropy, IdentityKey, ObjectKey, SealingKey};
use legation_manager::api::tasks::GrantWithKeys;
use legation_net::OsEntropy;
use legation_pool::Needs;
use zeroize::Zeroizing;

/// What a party lets an enclave hand on to other enclaves, of what it grants; never more than the request says of the fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Consent {
    /// Parts of the work, where the request is the party's own: then it said so itself. Nothing of what others ask for.
    #[default]
    Own,
    /// Parts of the work, whoever asks. The keys that it releases stay with the enclave that it granted them to.
    Parts,
    /// Parts of the work, and the keys that it releases.
    Data,
}

/// Someone with keys and data.
pub struct Party {
    identity: IdentityKey,
    sealing: SealingKey,
    consent: Consent,
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
        Self { identity, sealing, consent: Consent::default(), keys: Mutex::new(HashMap::new()) }
    }

    /// The same, with its word on what may be handed on.
    #[must_use]
    pub fn consenting(self, consent: Consent) -> Self {
        Self { consent, ..self }
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
        let passed = self.passed_on(request, fragment, &releases);
        let grant = self.sign_grant(request, &[need.fragment], subject, releases, passed);
        Ok(Some(GrantWithKeys { grant, keys }))
    }

    /// What the enclave of `fragment` may pass on of a grant by this party, and how often: as the request says, where this
    /// party agrees.
    fn passed_on(&self, request: &Request, fragment: &Fragment, releases: &[ObjectId]) -> Option<(u32, Delegable)> {
        let most = fragment.delegates.as_ref()?;
        if self.consent == Consent::Own && request.client != self.key() {
            return None;
        }
        let mut released = if self.consent == Consent::Data { releases.to_vec() } else { Vec::new() };
        released.sort_unstable();
        let passed = Delegable {
            modules: most.modules.clone(),
            fuel: most.fuel,
            budget: most.budget,
            releases: released,
            assurance: most.assurance,
            require: None,
        };
        Some((most.depth, passed))
    }

    /// A grant for any enclave that satisfies the request, for fragments without inputs.
    pub fn policy_grant(&self, request: &Signed<Request>, fragments: &[FragmentIndex]) -> Signed<Grant> {
        let subject = GrantSubject::Policy(request.require.digest());
        self.sign_grant(request, fragments, subject, Vec::new(), None)
    }

    fn sign_grant(
        &self,
        request: &Signed<Request>,
        fragments: &[FragmentIndex],
        subject: GrantSubject,
        releases: Vec<ObjectId>,
        passed: Option<(u32, Delegable)>,
    ) -> Signed<Grant> {
        let (depth, delegable) = passed.map_or((0, None), |(depth, delegable)| (depth, Some(delegable)));
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
            depth,
            expires: request.expires,
            releases,
            delegable,
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
        Bytes, Fuel, LeaseId, MicroUsd, Millicores, ProviderId, Region, Requirement, RevocationEpoch, TenantId, Term,
        claims::{Anchor, Attested, Capacity, Claims, Configuration, Evidence, Rate, Tcb, TeeKind},
        grant::check_grant,
        prefer::{DataTerms, Preferences},
        statement::{Allocation, Assurance, Diversity, Ear, Passport, Placement, Scope, Tier},
        task::{Delegation, Demand},
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
                advertise: None,
                prover: None,
                custody: None,
            },
            evidence: Digest::of(b"evidence"),
            collateral: Vec::new(),
            prev: vec![appointment],
        }
    }

    fn request(client: &dyn Signer, fragments: Vec<Fragment>) -> Signed<Request> {
        let request = Request {
            client: client.public_key(),
            sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
            tenant: TenantId::new("acme").unwrap(),
            name: "one".into(),
            created: NOW,
            expires: NOW.plus(100),
            fragments,
            require: Requirement::any(),
            prefer: Preferences::default(),
            data: DataTerms::default(),
            swarm: None,
            assurance: Assurance::Attested,
            budget: MicroUsd(1),
            nonce: Digest::of(b"nonce"),
            prev: Vec::new(),
        };
        dsse::sign(request, client)
    }

    /// What the manager shows of fragment #0: an enclave of `verifier`, which was appointed so.
    fn need(
        request: &Signed<Request>,
        (manager, leads): (&IdentityKey, &Signed<Appointment>),
        (verifier, appointment): (&IdentityKey, Signed<Appointment>),
        enclave: &IdentityKey,
    ) -> Needs {
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
            loan: None,
            prev: Vec::new(),
        };
        Needs {
            lease: LeaseId(1),
            fragment: FragmentIndex(0),
            allocation: dsse::sign(allocation, manager),
            manager: leads.clone(),
            passport: dsse::sign(passport(verifier, enclave, appointment.digest()), verifier),
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
        }
    }

    /// A manager that shows a passport of a verifier that is trusted by somebody else gets no keys, whatever the evidence.
    #[test]
    fn no_key_is_released_on_the_word_of_another_tenants_verifier() {
        let key = || IdentityKey::generate(&mut OsEntropy);
        let (operator, manager, verifier, enclave, client) = (key(), key(), key(), key(), key());
        let anchors = Anchors {
            operators: vec![operator.public_key()],
            development: Vec::new(),
            tpm: Vec::new(),
            logs: Vec::new(),
        };
        let trust = Trust::new(anchors).unwrap();
        let request = request(&client, Vec::new());
        let leads = appoint(&operator, &manager, Office::Manager, None);
        for (tenants, check) in [
            (Some(&["bank"][..]), "client.verifier"),
            // These go on to the evidence, which is nothing.
            (Some(&["bank", "acme"]), "evidence.binding"),
            (None, "evidence.binding"),
        ] {
            let appointment = appoint(&operator, &verifier, Office::Verifier, tenants);
            let need = need(&request, (&manager, &leads), (&verifier, appointment), &enclave);
            assert_eq!(trust.judge_need(&request, &need, NOW).unwrap_err().check, check, "{tenants:?}");
        }
    }

    #[test]
    fn what_may_be_handed_on_is_within_the_request_and_what_each_holder_agreed_to() {
        let key = || IdentityKey::generate(&mut OsEntropy);
        let (operator, manager, verifier, enclave) = (key(), key(), key(), key());
        let leads = appoint(&operator, &manager, Office::Manager, None);
        let appointment = appoint(&operator, &verifier, Office::Verifier, None);
        let most = Delegation {
            modules: vec![Digest::of(b"part")],
            depth: 2,
            fuel: Fuel(500),
            budget: MicroUsd(1),
            assurance: Assurance::Replicated { k: 3, diverse: Diversity::Provider },
        };
        // What the request says, what the client and the holder of the other input agree to; of each, how many keys may go on
        // with what it passes on, if it passes anything on.
        for (asked, consents, passes) in [
            (false, [Consent::Data, Consent::Data], [None, None]),
            (true, [Consent::Own, Consent::Own], [Some(0), None]),
            (true, [Consent::Own, Consent::Parts], [Some(0), Some(0)]),
            (true, [Consent::Parts, Consent::Data], [Some(0), Some(1)]),
            (true, [Consent::Data, Consent::Data], [Some(1), Some(1)]),
        ] {
            let parties = consents.map(|consent| Party::generate().consenting(consent));
            let inputs = parties.iter().map(|party| Input::Sealed(party.seal("data", b"secret").unwrap().reference));
            let fragment = Fragment {
                name: "lead".into(),
                owner: None,
                module: Digest::of(b"lead"),
                args: Vec::new(),
                inputs: inputs.collect(),
                demand: Demand::default(),
                require: Requirement::any(),
                delegates: asked.then(|| most.clone()),
            };
            let request = request(parties[0].signer(), vec![fragment]);
            request.validate().unwrap();
            let need = need(&request, (&manager, &leads), (&verifier, appointment.clone()), &enclave);
            for (party, passes) in parties.iter().zip(passes) {
                let GrantWithKeys { grant, keys } = party.grant(&request, &need).unwrap().unwrap();
                check_grant(&request, &grant).unwrap();
                assert_eq!((keys.len(), grant.releases.len()), (1, 1));
                assert_eq!(grant.depth, if passes.is_some() { most.depth } else { 0 }, "{consents:?}");
                assert_eq!(grant.delegable.as_ref().map(|passed| passed.releases.len()), passes, "{consents:?}");
                if let Some(passed) = &grant.delegable {
                    assert_eq!((&passed.modules, passed.fuel), (&most.modules, most.fuel));
                    assert_eq!((passed.budget, passed.assurance), (most.budget, most.assurance));
                }
            }
            let policy = parties[0].policy_grant(&request, &[FragmentIndex(0)]);
            assert_eq!(
                (policy.depth, &policy.delegable),
                (0, &None),
                "a policy names nobody who could pass anything on"
            );
            assert!(Party::generate().consenting(Consent::Data).grant(&request, &need).unwrap().is_none());
        }
    }
}
