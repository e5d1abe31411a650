//! A small world around a pool: an operator, a verifier, managers, a client, and machines that attest, run and report.
//!
//! Whatever is applied is checked on the way: a refusal changes nothing, the books fit, and a second pool that only absorbs the
//! records stays equal.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use legation_core::{
    Bytes, Digest, EnclaveId, FragmentIndex, Fuel, KeyId, LeaseId, MicroUsd, Millicores, ObjectId, ProviderId,
    PublicKey, Receipt, Region, Rejection, Requirement, Revocable, SealingPublicKey, Signature, Signed, Signer, TaskId,
    TenantId, Term, UnixTime,
    claims::{Anchor, Attested, Capacity, Claims, Configuration, Evidence, Gpu, Rate, Tcb, TcbStatus, TeeKind},
    dsse::sign,
    statement::{
        Aggregate, Appointment, Assurance, Ear, Grant, GrantSubject, Office, Outcome, Passport, Report, Request, Scope,
        Tier, Usage,
    },
    task::{Demand, Fragment, Input, OutputRef, Owner, SealedRef, WrappedKey},
};
use legation_pool::{
    Applied, Command, Effect, Event, HistoryFacts, IdempotencyKey, LeaseEnd, Limits, Needs, Phase, Pool, Record,
    TaskState,
};

pub(crate) const START: UnixTime = UnixTime(1_800_000_000);
pub(crate) const HOUR: u64 = 3600;

pub(crate) struct Key(Ed25519KeyPair);

impl Key {
    pub(crate) fn new(name: &str) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(Digest::of(name.as_bytes()).as_bytes()).unwrap())
    }
}

impl Signer for Key {
    fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.public_key().as_ref().try_into().unwrap())
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).as_ref().try_into().unwrap())
    }
}

pub(crate) fn sealing(name: &str) -> SealingPublicKey {
    let seed = Digest::of(name.as_bytes());
    let mut bytes = [0; SealingPublicKey::LEN];
    bytes.iter_mut().zip(seed.as_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
    SealingPublicKey::from_bytes(bytes)
}

pub(crate) fn object(name: &str) -> ObjectId {
    ObjectId::from_bytes(Digest::of(name.as_bytes()).as_bytes()[..16].try_into().unwrap())
}

/// One boot of an agent on a machine.
pub(crate) struct Machine {
    pub(crate) key: Key,
    pub(crate) sealing: SealingPublicKey,
    pub(crate) chip: String,
    pub(crate) configuration: Configuration,
    /// Whose word on its attestation key its evidence rests on.
    pub(crate) vouched: Option<KeyId>,
    /// Its GPUs, by name.
    pub(crate) gpus: Vec<&'static str>,
    /// Their model.
    pub(crate) model: &'static str,
    pub(crate) tee: TeeKind,
    pub(crate) tcb: TcbStatus,
    pub(crate) id: EnclaveId,
}

fn gpu(name: &str, model: &str) -> Attested<Gpu> {
    let text = str::to_owned;
    let (model, anchor) = (text(model), text("nvidia-device-identity"));
    Attested::measured(Gpu { model, driver: text("590.12"), firmware: text("96.00"), chip: text(name), anchor })
}

impl Machine {
    /// A machine with two slots, two cores and 1 GiB in `eu-1` of provider `alpha`, at a cent per core-hour.
    pub(crate) fn new(name: &str) -> Self {
        let key = Key::new(name);
        let id = key.public_key().enclave_id();
        let configuration = Configuration {
            provider: ProviderId::new("alpha").unwrap(),
            region: Region::new("eu-1").unwrap(),
            capacity: Capacity { cpu: Millicores(2000), memory: Bytes::gib(1), slots: 2 },
            rate: Rate { core_hour: MicroUsd(10_000), gib_hour: MicroUsd(0) },
            slot: 0,
            operators: Vec::new(),
            advertise: None,
            prover: None,
            custody: None,
        };
        let chip = format!("chip of {name}");
        Self {
            sealing: sealing(name),
            chip,
            configuration,
            vouched: None,
            gpus: Vec::new(),
            model: "hopper",
            tee: TeeKind::DevSnp,
            tcb: TcbStatus::Unknown,
            id,
            key,
        }
    }

    /// Another boot of it: same chip, new keys.
    pub(crate) fn reboot(&self, name: &str) -> Self {
        Self { chip: self.chip.clone(), configuration: self.configuration.clone(), ..Self::new(name) }
    }

    pub(crate) fn at(mut self, provider: &str, region: &str, cents: u64) -> Self {
        self.configuration.provider = ProviderId::new(provider).unwrap();
        self.configuration.region = Region::new(region).unwrap();
        self.configuration.rate.core_hour = MicroUsd(cents * 10_000);
        self
    }

    pub(crate) fn slots(mut self, slots: u32) -> Self {
        self.configuration.capacity.slots = slots;
        self
    }

    pub(crate) fn evidence(&self) -> Evidence {
        Evidence {
            kind: self.tee,
            report: self.chip.clone().into_bytes(),
            endorsements: Vec::new(),
            devices: Vec::new(),
            binding: self.id.to_string().into_bytes(),
            configuration: self.configuration.encode(),
        }
    }

    pub(crate) fn passport(
        &self,
        issued: UnixTime,
        expires: UnixTime,
        verifier: &Key,
        appointment: Digest,
    ) -> Passport {
        let anchor = match self.tee {
            kind if kind.is_development() => Anchor::Development("local".into()),
            kind => Anchor::Production(format!("root-of-{kind}")),
        };
        let tcb = Tcb { status: self.tcb, ..Tcb::unknown("1") };
        let claims = Claims {
            vmpl: Some(Attested::hardware(0)),
            vouched: self.vouched,
            gpus: self.gpus.iter().map(|name| gpu(name, self.model)).collect(),
            ..Claims::basic(
                self.tee,
                anchor,
                "00".into(),
                Attested::hardware(self.chip.clone()),
                Attested::hardware(tcb.clone()),
                Attested::endorsed("milan".into()),
                String::new(),
            )
        };
        Passport {
            verifier: verifier.public_key(),
            issued,
            expires,
            enclave: self.key.public_key(),
            sealing: self.sealing.clone(),
            ear: Ear {
                status: Tier::Warning,
                vector: BTreeMap::new(),
                policy: "test".into(),
                policy_digest: Digest::of(b"test"),
                tcb,
                images: Vec::new(),
                grace: None,
            },
            claims,
            configuration: self.configuration.clone(),
            evidence: self.evidence().digest(),
            collateral: Vec::new(),
            prev: vec![appointment],
        }
    }
}

pub(crate) fn module() -> Digest {
    Digest::of(b"module")
}

/// A fragment without inputs: a tenth of a core, 64 MiB, one minute.
pub(crate) fn fragment(name: &str) -> Fragment {
    Fragment {
        name: name.into(),
        owner: None,
        module: module(),
        args: Vec::new(),
        inputs: Vec::new(),
        demand: Demand::default(),
        require: Requirement::any(),
        delegates: None,
    }
}

pub(crate) fn sealed(name: &str, holder: Option<&Key>) -> Input {
    Input::Sealed(SealedRef {
        name: name.into(),
        holder: holder.map(Signer::public_key),
        object: object(name),
        ciphertext: Digest::of(name.as_bytes()),
        size: Bytes(100),
        commitment: Digest::of_parts(&[b"commitment", name.as_bytes()]),
    })
}

pub(crate) fn output_of(index: u32) -> Input {
    Input::Output { fragment: FragmentIndex(index) }
}

/// A request of `client` for these fragments: an hour to live, a dollar to spend.
pub(crate) fn request(client: &str, name: &str, now: UnixTime, fragments: Vec<Fragment>) -> Request {
    Request {
        client: Key::new(client).public_key(),
        sealing: sealing(client),
        tenant: TenantId::new("acme").unwrap(),
        name: name.into(),
        created: now,
        expires: now.plus(HOUR),
        fragments,
        require: Requirement::any(),
        prefer: Default::default(),
        data: Default::default(),
        swarm: None,
        assurance: Assurance::Attested,
        budget: MicroUsd(1_000_000),
        nonce: Digest::of(name.as_bytes()),
        prev: Vec::new(),
    }
}

/// A grant by `issuer` on all fragments of a request, for any enclave that its requirements admit.
pub(crate) fn policy_grant(request: &Signed<Request>, issuer: &Key) -> Grant {
    let fuel = request.fragments.iter().map(|f| f.demand.fuel).min().unwrap();
    Grant {
        issuer: issuer.public_key(),
        task: TaskId::new(request.digest()),
        fragments: request.indexed().map(|(i, _)| i).collect(),
        subject: GrantSubject::Policy(request.require.digest()),
        modules: request.fragments.iter().map(|f| f.module).collect(),
        fuel,
        budget: request.budget,
        depth: 0,
        expires: request.expires,
        releases: Vec::new(),
        delegable: None,
        prev: vec![request.digest()],
    }
}

pub(crate) fn wrapped(object: ObjectId, recipient: Digest) -> WrappedKey {
    WrappedKey { object, recipient, encapsulated: vec![1; 1120], sealed: vec![2; 48] }
}

/// An executed fragment, ready to be reported.
#[derive(Clone)]
pub(crate) struct Ran {
    pub(crate) report: Report,
    pub(crate) aggregate: Option<Aggregate>,
    pub(crate) keys: Vec<WrappedKey>,
}

/// Those of a pool of development machines.
pub(crate) fn limits() -> Limits {
    Limits { allow_development: true, ..Limits::default() }
}

pub(crate) struct World {
    pub(crate) pool: Pool,
    /// Absorbs the records, one by one, and nothing else.
    shadow: Pool,
    /// Judges the records, one by one, with books of its own.
    pub(crate) facts: HistoryFacts,
    pub(crate) now: UnixTime,
    pub(crate) records: Vec<Record>,
    pub(crate) operator: Key,
    pub(crate) verifier: Key,
    pub(crate) manager: Key,
    pub(crate) client: Key,
    pub(crate) machines: BTreeMap<EnclaveId, Machine>,
}

impl World {
    /// A pool that a manager leads, with these machines attested and here.
    pub(crate) fn new(machines: impl IntoIterator<Item = Machine>) -> Self {
        Self::with(limits(), machines)
    }

    pub(crate) fn with(limits: Limits, machines: impl IntoIterator<Item = Machine>) -> Self {
        let mut world = Self::bare(limits);
        world.begin_term(1).unwrap();
        for machine in machines {
            let id = world.attest(machine).unwrap();
            world.arrive(id, &[]);
        }
        world
    }

    /// A pool that nobody leads.
    pub(crate) fn bare(limits: Limits) -> Self {
        Self {
            pool: Pool::new(limits),
            shadow: Pool::new(limits),
            facts: HistoryFacts::default(),
            now: START,
            records: Vec::new(),
            operator: Key::new("operator"),
            verifier: Key::new("verifier"),
            manager: Key::new("manager"),
            client: Key::new("client"),
            machines: BTreeMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, command: Command) -> Result<Applied, Rejection> {
        let before = self.pool.clone();
        let shown = format!("{command:?}");
        match self.pool.apply(command, self.now, &self.manager) {
            Ok(applied) => {
                for record in &applied.records {
                    self.shadow.absorb(record).unwrap();
                    self.facts.take(record).unwrap();
                }
                assert_eq!(self.pool, self.shadow, "replay of {shown}");
                self.records.extend(applied.records.iter().cloned());
                if let Err(why) = self.pool.audit() {
                    panic!("{why}, after {shown}");
                }
                Ok(applied)
            }
            Err(why) => {
                assert_eq!(self.pool, before, "a refusal changed the pool: {shown}");
                assert_ne!(why.check, "pool.defect", "{why}, by {shown}");
                Err(why)
            }
        }
    }

    /// The check that refuses a command.
    pub(crate) fn refused(&mut self, command: Command) -> String {
        match self.apply(command) {
            Err(why) => why.check,
            Ok(applied) => panic!("not refused: {:?}", applied.records),
        }
    }

    pub(crate) fn tick(&mut self) -> Applied {
        self.apply(Command::Tick).unwrap()
    }

    /// Lets time pass, and ticks.
    pub(crate) fn wait(&mut self, seconds: u64) -> Applied {
        self.now = self.now.plus(seconds);
        self.tick()
    }

    pub(crate) fn appointment(&self, key: &Key, office: Office) -> Signed<Appointment> {
        let hours = if office == Office::Manager { 1000 } else { 2000 };
        let appointment = Appointment {
            operator: self.operator.public_key(),
            key: key.public_key(),
            office,
            scope: None,
            not_before: START,
            not_after: START.plus(hours * HOUR),
        };
        sign(appointment, &self.operator)
    }

    pub(crate) fn begin_term(&mut self, term: u64) -> Result<Applied, Rejection> {
        let appointment = Box::new(self.appointment(&self.manager, Office::Manager));
        self.apply(Command::BeginTerm { term: Term(term), appointment })
    }

    /// A command that attests a machine for an hour.
    pub(crate) fn attested(&self, machine: &Machine) -> Command {
        self.attested_until(machine, self.now.plus(HOUR))
    }

    pub(crate) fn attested_until(&self, machine: &Machine, expires: UnixTime) -> Command {
        self.attested_by(&self.verifier, None, machine, expires)
    }

    /// A command by which a verifier that is trusted with the work of these tenants alone (of all without them) attests.
    pub(crate) fn attested_by(
        &self,
        verifier: &Key,
        tenants: Option<&[&str]>,
        machine: &Machine,
        expires: UnixTime,
    ) -> Command {
        let scope = tenants.map(|names| Scope {
            tenants: Some(names.iter().map(|name| TenantId::new(name).unwrap()).collect()),
            kinds: None,
        });
        let plain = self.appointment(verifier, Office::Verifier);
        let appointment = sign(Appointment { scope, ..(*plain).clone() }, &self.operator);
        let passport = machine.passport(self.now, expires, verifier, appointment.digest());
        Command::Attested {
            passport: Box::new(sign(passport, verifier)),
            appointment: Box::new(appointment),
            evidence: Box::new(machine.evidence()),
            collateral: Vec::new(),
        }
    }

    pub(crate) fn attest(&mut self, machine: Machine) -> Result<EnclaveId, Rejection> {
        self.apply(self.attested(&machine))?;
        let id = machine.id;
        self.machines.insert(id, machine);
        Ok(id)
    }

    pub(crate) fn revoke(&mut self, what: Revocable) -> Applied {
        self.apply(Command::Revoke { what, why: "stolen".into() }).unwrap()
    }

    pub(crate) fn arrive(&mut self, enclave: EnclaveId, running: &[LeaseId]) -> Applied {
        self.apply(Command::Arrived { enclave, running: running.to_vec() }).unwrap()
    }

    pub(crate) fn lose(&mut self, enclave: EnclaveId) -> Applied {
        self.apply(Command::Lost { enclave, why: "reset".into() }).unwrap()
    }

    /// What clients must grant for a task, with the proofs that the journal has.
    pub(crate) fn needs(&self, task: TaskId) -> Vec<Needs> {
        let needs = self.pool.needs(task, self.now).unwrap();
        needs.into_iter().map(|need| need.whole(&self.records).unwrap()).collect()
    }

    pub(crate) fn receipt(&self, task: TaskId) -> Receipt {
        self.pool.receipt(task, &self.records).unwrap()
    }

    pub(crate) fn signed(&self, fragments: Vec<Fragment>) -> Signed<Request> {
        let name = format!("task at {}", self.pool.seq().0);
        sign(request("client", &name, self.now, fragments), &self.client)
    }

    /// Submits a request without grants.
    pub(crate) fn submit(&mut self, request: &Signed<Request>) -> TaskId {
        self.submit_with(request, Vec::new(), None).unwrap();
        TaskId::new(request.digest())
    }

    /// Submits a task of these fragments, with a grant for whatever enclave is found.
    pub(crate) fn submit_granted(&mut self, fragments: Vec<Fragment>) -> TaskId {
        let request = self.signed(fragments);
        let grant = sign(policy_grant(&request, &self.client), &self.client);
        self.submit_with(&request, vec![grant], None).unwrap();
        TaskId::new(request.digest())
    }

    pub(crate) fn submit_with(
        &mut self,
        request: &Signed<Request>,
        grants: Vec<Signed<Grant>>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Applied, Rejection> {
        self.apply(Command::Submit { request: Box::new(request.clone()), grants, idempotency })
    }

    pub(crate) fn state(&self, task: TaskId) -> TaskState {
        self.pool.tasks().get(&task).unwrap().state.clone()
    }

    pub(crate) fn phase(&self, task: TaskId, index: usize) -> Phase {
        self.pool.tasks().get(&task).unwrap().fragments[index].phase.clone()
    }

    /// The live lease of a fragment and its enclave.
    pub(crate) fn lease(&self, task: TaskId, index: usize) -> Option<(LeaseId, EnclaveId)> {
        match self.phase(task, index) {
            Phase::Leased { lease } => Some((lease, self.pool.leases().get(&lease).unwrap().enclave)),
            _ => None,
        }
    }

    /// Why the tries of a fragment ended, oldest first; nothing for the one that goes on.
    pub(crate) fn tries(&self, task: TaskId, index: usize) -> Vec<(EnclaveId, Option<LeaseEnd>)> {
        let fragment = &self.pool.tasks().get(&task).unwrap().fragments[index];
        fragment.attempts.iter().map(|a| (a.enclave, a.ended.clone())).collect()
    }

    /// What `issuer` must say for a leased fragment: a grant to its enclave, with the keys of the inputs that it holds.
    pub(crate) fn grant_to(&self, lease: LeaseId, issuer: &Key) -> (Grant, Vec<WrappedKey>) {
        let lease = self.pool.leases().get(&lease).unwrap();
        let task = self.pool.tasks().get(&lease.fragment.task).unwrap();
        let spec = task.request.fragment(lease.fragment.index).unwrap();
        let held = spec.inputs.iter().zip(task.objects(spec).unwrap());
        let held = held.filter(|(input, _)| task.request.holder(spec, input) == Some(issuer.public_key()));
        let releases: Vec<_> = held.map(|(_, object)| object).collect();
        let recipient = self.pool.enclaves().get(&lease.enclave).unwrap().sealing();
        let keys = releases.iter().map(|o| wrapped(*o, recipient)).collect();
        let grant = Grant {
            fragments: vec![lease.fragment.index],
            subject: GrantSubject::Enclave(lease.enclave),
            releases,
            fuel: spec.demand.fuel,
            ..policy_grant(&task.request, issuer)
        };
        (grant, keys)
    }

    /// Has `issuer` grant a leased fragment.
    pub(crate) fn grant(&mut self, lease: LeaseId, issuer: &Key) -> Applied {
        let (grant, keys) = self.grant_to(lease, issuer);
        self.apply(Command::Grant { grant: Box::new(sign(grant, issuer)), keys }).unwrap()
    }

    /// What an honest agent makes of an offered lease, as of now: completed, with an output of its own.
    pub(crate) fn ran(&self, lease: LeaseId) -> Ran {
        let parts = self.pool.offer(lease).unwrap();
        let allocation = &parts.allocation;
        let spec = parts.request.fragment(allocation.fragment).unwrap();
        let machine = self.machines.get(&allocation.enclave).unwrap();
        let passport = self.pool.enclaves().get(&allocation.enclave).unwrap().proof().passport;
        let mut upstream = parts.upstream.iter();
        let inputs = spec.inputs.iter().map(|input| match input {
            Input::Sealed(sealed) => sealed.commitment,
            Input::Output { .. } => upstream.next().unwrap().report.output.as_ref().unwrap().commitment,
        });
        let inputs = inputs.collect();
        let reports: Vec<_> = parts.upstream.iter().map(|u| u.report.digest()).collect();
        let mut prev = vec![allocation.digest(), passport];
        prev.extend(parts.grants.iter().map(Signed::digest));
        prev.extend(&reports);
        let name = format!("output of {lease}");
        let output = OutputRef {
            object: object(&name),
            ciphertext: Digest::of(name.as_bytes()),
            size: Bytes(10),
            commitment: Digest::of_parts(&[b"commitment", name.as_bytes()]),
        };
        let recipient = parts.request.owner_sealing(spec).digest();
        let report = Report {
            enclave: machine.key.public_key(),
            task: allocation.task,
            fragment: allocation.fragment,
            lease,
            module: spec.module,
            inputs,
            seed: Digest::of(b"seed"),
            outcome: Outcome::Completed,
            output: Some(output.clone()),
            log: None,
            usage: Usage { fuel: Fuel(1000), memory_peak: Bytes::mib(1), host_calls: 3, micros: 2_000_000 },
            started: self.now,
            finished: self.now,
            answer: None,
            dissent: Vec::new(),
            monitor: None,
            prev,
        };
        let aggregate = spec.is_reducing().then(|| Aggregate {
            enclave: machine.key.public_key(),
            task: allocation.task,
            fragment: allocation.fragment,
            prev: Vec::new(),
            reports,
            result: Some(output.clone()),
            privacy: "none".into(),
        });
        Ran { report, aggregate, keys: vec![wrapped(output.object, recipient)] }
    }

    /// The command that reports: the aggregate rests on the report as it is signed here.
    pub(crate) fn reporting(&self, enclave: EnclaveId, ran: Ran) -> Command {
        let key = &self.machines.get(&enclave).unwrap().key;
        let report = sign(ran.report, key);
        let aggregate = ran.aggregate.map(|mut aggregate| {
            if aggregate.prev.is_empty() {
                aggregate.prev = std::iter::once(report.digest()).chain(aggregate.reports.iter().copied()).collect();
            }
            Box::new(sign(aggregate, key))
        });
        let attached = Box::default();
        Command::Report { enclave, report: Box::new(report), aggregate, keys: ran.keys, attached }
    }

    /// Runs an offered lease and reports it.
    pub(crate) fn run(&mut self, lease: LeaseId) -> Applied {
        let enclave = self.pool.leases().get(&lease).unwrap().enclave;
        self.apply(self.reporting(enclave, self.ran(lease))).unwrap()
    }

    /// Runs an offered lease, and the module fails.
    pub(crate) fn fail(&mut self, lease: LeaseId, reason: &str) -> Applied {
        let enclave = self.pool.leases().get(&lease).unwrap().enclave;
        let Ran { report, .. } = self.ran(lease);
        let outcome = Outcome::Failed { reason: reason.into() };
        let ran = Ran { report: Report { outcome, output: None, ..report }, aggregate: None, keys: Vec::new() };
        self.apply(self.reporting(enclave, ran)).unwrap()
    }

    pub(crate) fn refuse(&mut self, lease: LeaseId) -> Applied {
        let enclave = self.pool.leases().get(&lease).unwrap().enclave;
        self.apply(Command::Refuse { enclave, lease, why: Rejection::new("agent.busy", "the engine") }).unwrap()
    }
}

/// What a command did, briefly.
pub(crate) fn brief(applied: &Applied) -> Vec<String> {
    let record = |r: &Record| match &r.event {
        Event::TermBegan { .. } => "term began".to_owned(),
        Event::Attested { .. } => "attested".to_owned(),
        Event::Arrived { .. } => "arrived".to_owned(),
        Event::Left { .. } => "left".to_owned(),
        Event::Draining { .. } => "draining".to_owned(),
        Event::Cordoned { .. } => "cordoned".to_owned(),
        Event::Uncordoned { .. } => "uncordoned".to_owned(),
        Event::Decommissioned { .. } => "decommissioned".to_owned(),
        Event::Revoked { revocation } => format!("revoked, epoch {}", revocation.epoch.0),
        Event::Lapsed { why, .. } => format!("lapsed: {}", why.check),
        Event::Barred { why, .. } => format!("barred: {}", why.check),
        Event::Withdrawn { why, .. } => format!("withdrawn: {}", why.check),
        Event::Submitted { .. } => "submitted".to_owned(),
        Event::Granted { keys, .. } => format!("granted with {} keys", keys.len()),
        Event::Leased { allocation } => format!("{} for {}", allocation.lease, allocation.fragment),
        Event::Lent { allocation, .. } => format!("{} lent for {}", allocation.lease, allocation.fragment),
        Event::Claimed { fragment, victims, .. } => format!("claimed for {fragment}, {} make way", victims.len()),
        Event::Unclaimed { why, .. } => format!("unclaimed: {why}"),
        Event::LeaseEnded { lease, why, .. } => format!("{lease} ended: {why}"),
        Event::Reported { report, .. } => format!("reported {}", report.fragment),
        Event::Proved { statement, .. } => format!("proved {}", statement.report.short()),
        Event::Unproved { why, .. } => format!("unproved: {}", why.check),
        Event::TaskEnded { state, .. } => match state {
            TaskState::Failed { reason } => format!("failed: {reason}"),
            state => format!("{state:?}").to_lowercase(),
        },
        Event::ReferenceAdded { value, .. } => format!("reference {} added", value.name),
        Event::ReferenceExpired { name, .. } => format!("reference {name} expired"),
        Event::PolicySet { scope, .. } => format!("policy {scope} set"),
        Event::Reserved { booking } => format!("{} seats reserved", booking.seats.len()),
        Event::Reseated { seat, .. } => format!("seat {seat} moved"),
        Event::SeatsShort { seats, .. } => format!("{} seats short", seats.len()),
        Event::ReservationEnded { charged, .. } => format!("reservation ended, {charged}"),
        Event::DistancesSet { rows, .. } => format!("{} distances set", rows.len()),
        Event::SwarmSeated { seating } => format!("round {} seated by {}", seating.round, seating.seats.len()),
        Event::SwarmJoined { membership } => format!("joined round {}", membership.round),
        Event::CharterSet { charter, .. } => format!("charter {} of {}", charter.number, charter.swarm),
        Event::CustodyAsked { .. } => "another committee asked for".to_owned(),
        Event::CustodyCalled { call, why, .. } => format!("{} called: {why}", call.members.len()),
        Event::CustodySaid { word, .. } => word.kind().to_string(),
        Event::CustodyEnded { why, left_out, .. } => format!("call ended: {why}, {} left out", left_out.len()),
        Event::SeatsEnded { seats, why, .. } => format!("{} seats ended: {why}", seats.len()),
        Event::GangBooked { booking } => format!("{} seats booked", booking.enclaves.len()),
        Event::GangUnbooked { why, .. } => format!("unbooked: {why}"),
        Event::DistancesMeasured { rows } => format!("{} distances measured", rows.len()),
        Event::AccountSet { tenant, .. } => {
            format!("account of {} set", tenant.as_ref().map_or("anybody".to_owned(), ToString::to_string))
        }
    };
    let effect = |e: &Effect| match e {
        Effect::Offer { lease, .. } => Some(format!("-> offer {lease}")),
        Effect::Cancel { lease, .. } => Some(format!("-> cancel {lease}")),
        Effect::Enlist { .. } => Some("-> enlist".to_owned()),
        Effect::Lend { loan, .. } => Some(format!("-> lend {loan}")),
        Effect::Lent { loan, .. } => Some(format!("-> lent {loan}")),
        Effect::LoanEnded { loan, .. } => Some(format!("-> loan {loan} ended")),
        Effect::Close { .. } => Some("-> close".to_owned()),
        Effect::Revocations => Some("-> revocations".to_owned()),
        Effect::Reattest { .. } => Some("-> reattest".to_owned()),
        Effect::Custody { .. } => Some("-> board".to_owned()),
        Effect::TaskChanged { .. } => None,
    };
    applied.records.iter().map(record).chain(applied.effects.iter().filter_map(effect)).collect()
}

#[track_caller]
pub(crate) fn did(applied: &Applied, wanted: &[&str]) {
    assert_eq!(brief(applied), wanted);
}

/// A fragment of another owner.
pub(crate) fn owned(mut fragment: Fragment, owner: &str) -> Fragment {
    fragment.owner = Some(Owner { key: Key::new(owner).public_key(), sealing: sealing(owner) });
    fragment
}

pub(crate) fn reading(mut fragment: Fragment, inputs: Vec<Input>) -> Fragment {
    fragment.inputs = inputs;
    fragment
}
