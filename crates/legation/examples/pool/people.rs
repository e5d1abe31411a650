//! Who takes part without a machine of its own: an operator, a verifier, a manager, a client, and enclaves as passports say.

use legation::exit::Failure;
use legation_agent::attester::development::measurement;
use legation_attest::{
    dev::{Chip, ChipSpec, DevelopmentRoot, Guest},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, EnclaveId, MicroUsd, Millicores, ProviderId, Region, Requirement, Signed, Signer, TaskId, TenantId,
    UnixTime,
    claims::{Attested, Capacity, Claims, Configuration, Evidence, Rate, Tcb, TeeKind},
    dsse::sign,
    statement::{Appointment, Assurance, Ear, Grant, GrantSubject, Office, Passport, Request, Tier},
    task::{Demand, Fragment},
};
use legation_keys::{IdentityKey, SealingKey};
use legation_net::OsEntropy;
use legation_pool::Command;

use crate::failed;

/// Providers, regions and prices of the enclaves.
const PLACES: [(&str, &str, u64); 6] = [
    ("aurora", "eu-north", 12_000),
    ("aurora", "eu-central", 13_000),
    ("boreal", "eu-central", 18_000),
    ("boreal", "us-east", 15_000),
    ("cumulus", "us-east", 9_000),
    ("cumulus", "us-west", 11_000),
];

pub(crate) struct People {
    pub(crate) operator: IdentityKey,
    pub(crate) verifier: IdentityKey,
    pub(crate) manager: IdentityKey,
    pub(crate) client: IdentityKey,
    pub(crate) sealing: SealingKey,
    pub(crate) now: UnixTime,
    chip: Chip,
    appointment: Signed<Appointment>,
}

impl People {
    pub(crate) fn new() -> Result<Self, Failure> {
        let key = || IdentityKey::generate(&mut OsEntropy);
        let now = legation::run::now();
        let (operator, verifier) = (key(), key());
        let root = DevelopmentRoot::generate("bench", now).map_err(failed)?;
        let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
        let spec = ChipSpec { product: Product::Milan, chip_id: [7; 64], tcb };
        let chip = root.issue(&spec, now).map_err(failed)?;
        let appointment = appoint(&operator, &verifier, Office::Verifier, now);
        let sealing = SealingKey::generate(&mut OsEntropy);
        Ok(Self { operator, verifier, manager: key(), client: key(), sealing, now, chip, appointment })
    }

    pub(crate) fn begin_term(&self) -> Command {
        let appointment = Box::new(appoint(&self.operator, &self.manager, Office::Manager, self.now));
        Command::BeginTerm { term: legation_core::Term(1), appointment }
    }

    /// Enclave number `n`: eight cores, 16 GiB, as a verifier would have it, with evidence as large as it is.
    pub(crate) fn attested(&self, n: usize) -> Result<(EnclaveId, Command), Failure> {
        let key = IdentityKey::generate(&mut OsEntropy);
        let (provider, region, core_hour) = PLACES[n % PLACES.len()];
        let configuration = Configuration {
            provider: ProviderId::new(provider).map_err(failed)?,
            region: Region::new(region).map_err(failed)?,
            capacity: Capacity { cpu: Millicores(8000), memory: Bytes::gib(16), slots: 256 },
            rate: Rate { core_hour: MicroUsd(core_hour), gib_hour: MicroUsd(1_500) },
            slot: 0,
            operators: vec![self.operator.public_key()],
            advertise: None,
            prover: None,
            custody: None,
        };
        let image = measurement(Digest::of(b"image"));
        let binding = key.public_key().id().to_string();
        let report = self.chip.report(&Guest::new(image), &[0; 64]).map_err(failed)?;
        let evidence = Evidence {
            kind: TeeKind::DevSnp,
            report: report.to_vec(),
            endorsements: self.chip.endorsements(),
            devices: Vec::new(),
            binding: binding.into_bytes(),
            configuration: configuration.encode(),
        };
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let claims = Claims::basic(
            TeeKind::SevSnp,
            legation_core::claims::Anchor::Production("amd-milan".into()),
            hex(&image),
            // Each a chip of its own.
            Attested::hardware(hex(key.public_key().id().digest().as_bytes())),
            Attested::hardware(Tcb::unknown("4.0.22.213")),
            Attested::endorsed("milan".into()),
            hex(&[0; 64]),
        );
        let passport = Passport {
            verifier: self.verifier.public_key(),
            issued: self.now,
            expires: self.now.plus(3600),
            enclave: key.public_key(),
            sealing: self.sealing.public().clone(),
            ear: Ear {
                status: Tier::Affirming,
                vector: std::collections::BTreeMap::new(),
                policy: "bench".into(),
                policy_digest: Digest::of(b"bench"),
                tcb: Tcb::unknown("4.0.22.213"),
                images: vec!["agent".into()],
                grace: None,
            },
            claims,
            configuration,
            evidence: evidence.digest(),
            collateral: Vec::new(),
            prev: vec![self.appointment.digest()],
        };
        let command = Command::Attested {
            passport: Box::new(sign(passport, &self.verifier)),
            appointment: Box::new(self.appointment.clone()),
            evidence: Box::new(evidence),
            collateral: Vec::new(),
        };
        Ok((key.public_key().enclave_id(), command))
    }

    /// A signed request of so many no-ops, with a grant for whatever enclaves are found.
    pub(crate) fn submission(&self, n: usize, fragments: usize) -> Result<(Signed<Request>, Signed<Grant>), Failure> {
        let fragment = Fragment {
            name: "noop".into(),
            owner: None,
            module: Digest::of(b"module"),
            args: Vec::new(),
            inputs: Vec::new(),
            demand: Demand { cpu: Millicores(1), memory: Bytes::mib(1), output: Bytes(1024), ..Demand::default() },
            require: Requirement::any(),
            delegates: None,
        };
        let request = Request {
            client: self.client.public_key(),
            sealing: self.sealing.public().clone(),
            tenant: TenantId::new("demo").map_err(failed)?,
            name: "noop".into(),
            created: self.now,
            expires: self.now.plus(3600),
            fragments: vec![fragment; fragments],
            require: Requirement::any(),
            prefer: Default::default(),
            data: Default::default(),
            swarm: None,
            assurance: Assurance::Attested,
            budget: MicroUsd(1000 * fragments as u64),
            nonce: Digest::of(&n.to_be_bytes()),
            prev: Vec::new(),
        };
        let request = sign(request, &self.client);
        let grant = Grant {
            issuer: self.client.public_key(),
            task: TaskId::new(request.digest()),
            fragments: request.indexed().map(|(index, _)| index).collect(),
            subject: GrantSubject::Policy(request.require.digest()),
            modules: request.fragments.iter().map(|f| f.module).collect(),
            fuel: request.fragments[0].demand.fuel,
            budget: request.budget,
            depth: 0,
            expires: request.expires,
            releases: Vec::new(),
            delegable: None,
            prev: vec![request.digest()],
        };
        let grant = sign(grant, &self.client);
        Ok((request, grant))
    }
}

pub(crate) fn appoint(operator: &IdentityKey, key: &IdentityKey, office: Office, now: UnixTime) -> Signed<Appointment> {
    let appointment = Appointment {
        operator: operator.public_key(),
        key: key.public_key(),
        office,
        scope: None,
        not_before: now.minus(60),
        not_after: now.plus(30 * 86_400),
    };
    sign(appointment, operator)
}
