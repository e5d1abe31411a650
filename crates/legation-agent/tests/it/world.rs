//! A small world: an operator, its manager and verifier, a client, an enclave; and what they sign.

use std::sync::{LazyLock, OnceLock};

use legation_attest::{
    dev::{Chip, ChipSpec, DevelopmentRoot},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Digest, FragmentIndex, Fuel, LeaseId, MicroUsd, Millicores, Milligpus, Millis, ObjectId, ProviderId, PublicKey,
    Region, Requirement, RevocationEpoch, Seq, Signed, Signer, TaskId, TenantId, Term, UnixTime,
    claims::{Anchor, Attested, Capacity, Claims, Configuration, Rate, Tcb, TeeKind},
    dsse,
    statement::{
        Allocation, Appointment, Assurance, Delegable, Ear, Grant, GrantSubject, Office, Outcome, Passport, Placement,
        Report, Request, Tier, Usage,
    },
    task::{Delegation, Demand, Direction, Fragment, Input, OutputRef, SealedRef, WrapUse, WrappedKey},
    unit::Bytes,
};
use legation_keys::{IdentityKey, ObjectKey, Sealed, SealingKey};
use legation_net::OsEntropy;

/// Seeds of the keys of this world.
pub(crate) const OPERATOR: u8 = 1;
pub(crate) const MANAGER: u8 = 2;
pub(crate) const VERIFIER: u8 = 3;
pub(crate) const CLIENT: u8 = 4;
pub(crate) const ENCLAVE: u8 = 5;
pub(crate) const UPSTREAM: u8 = 6;
/// Another verifier.
pub(crate) const SECOND: u8 = 8;
pub(crate) const STRANGER: u8 = 9;

pub(crate) fn identity(seed: u8) -> IdentityKey {
    IdentityKey::from_seed([seed; 32])
}

pub(crate) fn key(seed: u8) -> PublicKey {
    identity(seed).public_key()
}

pub(crate) fn sealing(seed: u8) -> SealingKey {
    SealingKey::from_seed([seed; 32])
}

pub(crate) fn now() -> UnixTime {
    UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

/// The development root of this process; its keys take seconds to make.
pub(crate) struct Root(DevelopmentRoot);

pub(crate) fn root() -> &'static Root {
    static ROOT: LazyLock<Root> = LazyLock::new(|| Root(DevelopmentRoot::generate("test", now().minus(60)).unwrap()));
    &ROOT
}

impl Root {
    pub(crate) fn chip(&self, id: u8) -> Chip {
        let tcb = TcbVersion { fmc: None, bootloader: 3, tee: 0, snp: 20, microcode: 200 };
        let spec = ChipSpec { product: Product::Milan, chip_id: [id; 64], tcb };
        self.0.issue(&spec, now().minus(60)).unwrap()
    }

    pub(crate) fn anchor(&self) -> legation_core::claims::DevelopmentAnchor {
        self.0.anchor()
    }
}

/// Another root that nobody here trusts.
pub(crate) fn foreign_root() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| Root(DevelopmentRoot::generate("foreign", now().minus(60)).unwrap()))
}

pub(crate) fn appointment(office: Office, at: UnixTime) -> Appointment {
    let key = key(if office == Office::Manager { MANAGER } else { VERIFIER });
    Appointment {
        operator: crate::world::key(OPERATOR),
        key,
        office,
        scope: None,
        not_before: at.minus(3600),
        not_after: at.plus(86_400),
    }
}

/// The key of this world of which this is the public half.
pub(crate) fn holder(key: PublicKey) -> IdentityKey {
    (1..=STRANGER).map(identity).find(|k| k.public_key() == key).unwrap()
}

/// Signs with the key that the statement names, whichever of this world that is.
pub(crate) fn sign<P: dsse::Predicate>(predicate: P) -> Signed<P> {
    let signer = holder(predicate.signer());
    dsse::sign(predicate, &signer)
}

pub(crate) fn configuration() -> Configuration {
    Configuration {
        provider: ProviderId::new("alder").unwrap(),
        region: Region::new("eu").unwrap(),
        capacity: Capacity { cpu: Millicores(2000), memory: Bytes::mib(512), slots: 8 },
        rate: Rate { core_hour: MicroUsd(40_000), gib_hour: MicroUsd(5_000) },
        operators: vec![key(OPERATOR)],
        advertise: None,
        prover: None,
        custody: None,
        slot: 0,
    }
}

pub(crate) fn passport(enclave: u8, appointment: &Signed<Appointment>, at: UnixTime) -> Passport {
    Passport {
        verifier: key(VERIFIER),
        issued: at.minus(10),
        expires: at.plus(590),
        enclave: key(enclave),
        sealing: sealing(enclave).public().clone(),
        ear: Ear {
            status: Tier::Warning,
            vector: [("hardware".to_owned(), 32)].into(),
            policy: "test".to_owned(),
            policy_digest: Digest::of(b"test"),
            tcb: Tcb::unknown("x"),
            images: Vec::new(),
            grace: None,
        },
        claims: Claims {
            vmpl: Some(Attested::hardware(0)),
            ..Claims::basic(
                TeeKind::DevSnp,
                Anchor::Development("test".to_owned()),
                "00".repeat(48),
                Attested::hardware("01".repeat(64)),
                Attested::hardware(Tcb::unknown("x")),
                Attested::endorsed("milan".to_owned()),
                "00".repeat(64),
            )
        },
        configuration: configuration(),
        evidence: Digest::of(b"evidence"),
        collateral: Vec::new(),
        prev: vec![appointment.digest()],
    }
}

/// A sealed object with the key that opens it.
pub(crate) struct Secret {
    pub(crate) key: ObjectKey,
    pub(crate) sealed: Sealed,
}

pub(crate) fn seal(plaintext: &[u8]) -> Secret {
    let key = ObjectKey::generate(&mut OsEntropy);
    let mut id = [0; 16];
    legation_keys::Entropy::fill(&mut OsEntropy, &mut id);
    let sealed = legation_keys::seal(&key, ObjectId::from_bytes(id), plaintext).unwrap();
    Secret { key, sealed }
}

impl Secret {
    pub(crate) fn reference(&self, name: &str) -> SealedRef {
        SealedRef {
            name: name.to_owned(),
            holder: None,
            object: self.sealed.object,
            ciphertext: self.sealed.ciphertext,
            size: self.sealed.size,
            commitment: self.sealed.commitment,
        }
    }

    pub(crate) fn output(&self) -> OutputRef {
        let Sealed { object, ciphertext, size, commitment, .. } = self.sealed.clone();
        OutputRef { object, ciphertext, size, commitment }
    }

    /// The key, wrapped to a sealing key for one fragment of a request.
    pub(crate) fn wrap(
        &self,
        to: &legation_core::SealingPublicKey,
        request: &Signed<Request>,
        index: FragmentIndex,
    ) -> WrappedKey {
        let module = request.fragment(index).unwrap().module;
        let used_for =
            WrapUse { task: TaskId::new(request.digest()), fragment: index, module, direction: Direction::Input };
        legation_keys::wrap(&self.key, self.sealed.object, to, &used_for, &mut OsEntropy).unwrap()
    }
}

pub(crate) fn fragment(name: &str, module: Digest, inputs: Vec<Input>) -> Fragment {
    Fragment {
        name: name.to_owned(),
        owner: None,
        module,
        args: Vec::new(),
        inputs,
        demand: Demand {
            cpu: Millicores(100),
            memory: Bytes::mib(16),
            fuel: Fuel(1_000_000_000),
            time: Millis(20_000),
            output: Bytes::mib(1),
            gpus: Milligpus::ZERO,
        },
        require: Requirement::any(),
        delegates: None,
    }
}

pub(crate) fn request(fragments: Vec<Fragment>, at: UnixTime, nonce: u64) -> Request {
    Request {
        client: key(CLIENT),
        sealing: sealing(CLIENT).public().clone(),
        tenant: TenantId::new("tenant").unwrap(),
        name: "test".to_owned(),
        created: at,
        expires: at.plus(600),
        fragments,
        require: Requirement::any(),
        prefer: Default::default(),
        data: Default::default(),
        swarm: None,
        assurance: Assurance::Attested,
        budget: MicroUsd(1_000_000),
        nonce: Digest::of(&nonce.to_be_bytes()),
        prev: Vec::new(),
    }
}

pub(crate) fn allocation(
    request: &Signed<Request>,
    manager: &Signed<Appointment>,
    index: FragmentIndex,
    passport: &Passport,
    lease: LeaseId,
    at: UnixTime,
) -> Allocation {
    let demand = request.fragment(index).unwrap().demand;
    Allocation {
        manager: manager.key,
        term: Term(3),
        task: TaskId::new(request.digest()),
        fragment: index,
        lease,
        from: at,
        until: at.plus(60),
        enclave: passport.enclave_id(),
        provider: passport.configuration.provider.clone(),
        region: passport.configuration.region.clone(),
        price_hour: passport.configuration.rate.per_hour(demand.cpu, demand.memory),
        limits: None,
        why: Placement { considered: 1, eligible: 1, passed_over: Vec::new(), decided_by: "the only one".to_owned() },
        revocations: RevocationEpoch(0),
        seat: None,
        loan: None,
        prev: vec![request.digest(), manager.digest()],
    }
}

pub(crate) fn grant(
    request: &Signed<Request>,
    index: FragmentIndex,
    subject: GrantSubject,
    releases: Vec<ObjectId>,
) -> Grant {
    let fragment = request.fragment(index).unwrap();
    Grant {
        issuer: key(CLIENT),
        task: TaskId::new(request.digest()),
        fragments: vec![index],
        subject,
        modules: vec![fragment.module],
        fuel: fragment.demand.fuel,
        budget: request.budget,
        depth: 0,
        expires: request.expires,
        releases,
        delegable: None,
        prev: vec![request.digest()],
    }
}

/// What a request says may be handed on, and what a grant lets be handed on.
pub(crate) fn delegation(modules: &[Digest], depth: u32, assurance: Assurance) -> (Delegation, Delegable) {
    let (fuel, budget) = (Fuel(100_000_000_000), MicroUsd(500_000));
    let mut modules = modules.to_vec();
    modules.sort_unstable();
    let request = Delegation { modules: modules.clone(), depth, fuel, budget, assurance };
    (request, Delegable { modules, fuel, budget, releases: Vec::new(), assurance, require: None })
}

/// What an enclave upstream says it did with a fragment.
pub(crate) fn report(
    request: &Signed<Request>,
    index: FragmentIndex,
    passport: &Signed<Passport>,
    output: &Secret,
    at: UnixTime,
) -> Report {
    Report {
        enclave: passport.enclave,
        task: TaskId::new(request.digest()),
        fragment: index,
        lease: LeaseId(1),
        module: request.fragment(index).unwrap().module,
        inputs: Vec::new(),
        seed: Digest::of(b"seed"),
        outcome: Outcome::Completed,
        output: Some(output.output()),
        log: None,
        usage: Usage { fuel: Fuel(1), memory_peak: Bytes(1), host_calls: 1, micros: 1 },
        started: at,
        finished: at,
        answer: None,
        dissent: Vec::new(),
        monitor: None,
        prev: vec![Digest::of(b"allocation"), passport.digest()],
    }
}

pub(crate) fn obeyed() -> (Term, Seq) {
    (Term(3), Seq(7))
}
