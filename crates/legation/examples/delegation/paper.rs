//! Statements as they are made in a pool, by keys of this process: an operator, its manager and verifier, a client, and a request whose
//! fragment may be handed on.

use legation::{exit::Failure, run::now};
use legation_core::{
    Bytes, Digest, EnclaveId, FragmentIndex, Fuel, MicroUsd, Millicores, Millis, Requirement, Signed, Signer, TaskId,
    TenantId, UnixTime, dsse,
    statement::{Appointment, Assurance, Delegable, Grant, GrantSubject, Office, Request},
    task::{Delegation, Demand, Fragment},
};
use legation_keys::{IdentityKey, SealingKey};
use legation_net::OsEntropy;

use crate::failed;

pub(crate) const INDEX: FragmentIndex = FragmentIndex(0);
/// What may be handed on in all.
const FUEL: Fuel = Fuel(100_000_000_000);
const BUDGET: MicroUsd = MicroUsd(500_000);

/// What the fragment asks for, and each loan sets aside.
pub(crate) fn demand() -> Demand {
    Demand {
        cpu: Millicores(100),
        memory: Bytes::mib(16),
        fuel: Fuel(1_000_000_000),
        time: Millis(60_000),
        output: Bytes::mib(1),
        ..Demand::default()
    }
}

pub(crate) struct Paper {
    pub(crate) at: UnixTime,
    pub(crate) operator: IdentityKey,
    pub(crate) manager: IdentityKey,
    pub(crate) verifier: IdentityKey,
    client: IdentityKey,
    pub(crate) managers: Signed<Appointment>,
    pub(crate) verifiers: Signed<Appointment>,
    pub(crate) request: Signed<Request>,
    /// The module that may be called.
    pub(crate) part: Digest,
}

impl Paper {
    /// A request whose fragment may be handed on so deep.
    pub(crate) fn new(depth: u32) -> Result<Self, Failure> {
        let at = now();
        let [operator, manager, verifier, client] = [(); 4].map(|()| IdentityKey::generate(&mut OsEntropy));
        let appoint = |key: &IdentityKey, office| {
            let appointment = Appointment {
                operator: operator.public_key(),
                key: key.public_key(),
                office,
                scope: None,
                not_before: at.minus(3600),
                not_after: at.plus(86_400),
            };
            dsse::sign(appointment, &operator)
        };
        let (managers, verifiers) = (appoint(&manager, Office::Manager), appoint(&verifier, Office::Verifier));
        let part = Digest::of(b"the module that is called");
        let fragment = Fragment {
            name: "lead".to_owned(),
            owner: None,
            module: Digest::of(b"the module that calls"),
            args: Vec::new(),
            inputs: Vec::new(),
            demand: demand(),
            require: Requirement::any(),
            delegates: Some(Delegation {
                modules: vec![part],
                depth,
                fuel: FUEL,
                budget: BUDGET,
                assurance: Assurance::Attested,
            }),
        };
        let request = Request {
            client: client.public_key(),
            sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
            tenant: TenantId::new("bench").map_err(failed)?,
            name: "bench".to_owned(),
            created: at,
            expires: at.plus(3600),
            fragments: vec![fragment],
            require: Requirement::any(),
            prefer: Default::default(),
            data: Default::default(),
            swarm: None,
            assurance: Assurance::Attested,
            budget: MicroUsd(1_000_000),
            nonce: Digest::of(b"nonce"),
            prev: Vec::new(),
        };
        let request = dsse::sign(request, &client);
        Ok(Self { at, operator, manager, verifier, client, managers, verifiers, request, part })
    }

    pub(crate) fn task(&self) -> TaskId {
        TaskId::new(self.request.digest())
    }

    /// The client's grant of the fragment to an enclave, with all that may be handed on.
    pub(crate) fn grant(&self, to: EnclaveId) -> Result<Signed<Grant>, Failure> {
        let fragment = self.request.fragment(INDEX).ok_or_else(|| failed("no fragment"))?;
        let passed = fragment.delegates.as_ref().ok_or_else(|| failed("nothing to hand on"))?;
        let grant = Grant {
            issuer: self.client.public_key(),
            task: self.task(),
            fragments: vec![INDEX],
            subject: GrantSubject::Enclave(to),
            modules: vec![fragment.module],
            fuel: fragment.demand.fuel,
            budget: self.request.budget,
            depth: passed.depth,
            expires: self.request.expires,
            releases: Vec::new(),
            delegable: Some(Delegable {
                modules: passed.modules.clone(),
                fuel: passed.fuel,
                budget: passed.budget,
                releases: Vec::new(),
                assurance: passed.assurance,
                require: None,
            }),
            prev: vec![self.request.digest()],
        };
        Ok(dsse::sign(grant, &self.client))
    }
}
