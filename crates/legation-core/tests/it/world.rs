//! A federated task in rounds, statement by statement: three owners train where they trust, a fourth enclave reduces, the
//! next round builds on the aggregate. Every statement passes a bend before it is signed by the right key (or another), and
//! all that rests on it is built on what came out: so a bend is a lie told by somebody who has the key to tell it.

use std::collections::BTreeMap;

use legation_core::{
    Bytes, Digest, EnclaveId, Envelope, FragmentIndex, Fuel, LeaseId, MicroUsd, Millicores, Milligpus, Millis,
    ObjectId, ProviderId, PublicKey, Receipt, Region, Rejection, Requirement, RevocationEpoch, Signed, Signer, TaskId,
    TenantId, Term, UnixTime,
    claims::{
        Anchor, Anchors, Attested, Capacity, Claims, Configuration, DevelopmentAnchor, Evidence, Judged, KeyBinding,
        Rate, Role, Tcb, TeeKind,
    },
    delegation::Call,
    dsse::{self, Predicate},
    receipt::{Invalid, Verdict},
    statement::{
        Aggregate, Allocation, Appointment, Assurance, Ear, Grant, GrantSubject, Office, Outcome, Passport, Placement,
        Report, Request, Tier, Usage,
    },
    swarm::{Member, Membership, Seat, SeatDemand, SeatRef, Seating, SwarmTerms},
    task::{Demand, Fragment, Input, OutputRef, Owner, SealedRef},
};

use crate::party::{Believer, Impostor, Party, evidence};

/// When the first round begins.
pub(crate) const T0: u64 = 1_800_000_000;
/// Name of the development root.
pub(crate) const ROOT: &str = "bench";
/// The revocation that all allocations took into account.
pub(crate) const EPOCH: RevocationEpoch = RevocationEpoch(7);
const TRAINERS: [&str; 3] = ["north", "south", "west"];
const ENCLAVES: [&str; 4] = ["enclave-north", "enclave-south", "enclave-west", "enclave-hub"];

/// A statement (or what an enclave is) before it is signed.
pub(crate) enum Said<'a> {
    Appointment(&'a mut Appointment),
    Enclave(&'a mut Judged),
    Passport(&'a mut Passport),
    Request(&'a mut Request),
    Allocation(&'a mut Allocation),
    Grant(&'a mut Grant),
    Report(&'a mut Report),
    Aggregate(&'a mut Aggregate),
    Seating(&'a mut Seating),
    Membership(&'a mut Membership),
    Call(&'a mut Call),
}

/// Digests of what was said before, by label.
pub(crate) type Before = BTreeMap<String, Digest>;
/// Bends a statement: gets its label, the statement, and what was said before.
pub(crate) type Bend<'a> = &'a dyn Fn(&str, Said<'_>, &Before);

pub(crate) trait Sayable: Predicate {
    fn said(&mut self) -> Said<'_>;
}

macro_rules! sayable {
    ($($name:ident)*) => {
        $(impl Sayable for $name {
            fn said(&mut self) -> Said<'_> {
                Said::$name(self)
            }
        })*
    };
}
sayable!(Appointment Passport Request Allocation Grant Report Aggregate Seating Membership Call);

/// Who signs a statement in place of its signer.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Forger {
    /// The attacker, under its own name.
    Attacker,
    /// The attacker, under the signer's name.
    Impostor,
}

/// What is built.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) rounds: u64,
    pub(crate) trainers: usize,
    /// Whether a fourth enclave reduces; otherwise every trainer's output is a result.
    pub(crate) reduce: bool,
    /// Whether the four enclaves work as a swarm.
    pub(crate) swarm: bool,
    /// Whether fragment #1 was moved from one enclave to another.
    pub(crate) moved: bool,
    /// Fragments that fail; the receipt's roots are then their reports.
    pub(crate) failed: &'a [u32],
    /// What is said twice: the first round's `report` of #0, its `reduction` or its `aggregate`. The second round rests on
    /// the second one too.
    pub(crate) twice: Option<&'a str>,
    /// Label of a statement that somebody else signs.
    pub(crate) forged: Option<(&'a str, Forger)>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { rounds: 2, trainers: 3, reduce: true, swarm: false, moved: true, failed: &[], twice: None, forged: None }
    }
}

impl Plan<'_> {
    /// One round, by a swarm.
    pub(crate) fn swarm() -> Self {
        Self { rounds: 1, swarm: true, moved: false, ..Self::default() }
    }

    /// One fragment, one enclave, one round.
    pub(crate) fn single() -> Self {
        Self { rounds: 1, trainers: 1, reduce: false, moved: false, ..Self::default() }
    }
}

/// What was built.
pub(crate) struct World {
    pub(crate) labels: Before,
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) roots: Vec<Digest>,
    pub(crate) task: TaskId,
}

struct Script<'a> {
    plan: Plan<'a>,
    bend: Bend<'a>,
    world: World,
    leases: u64,
    /// Passports of this round, by enclave, and the words of the members of its swarm.
    passports: BTreeMap<&'static str, Signed<Passport>>,
    memberships: Vec<Digest>,
    seats: BTreeMap<EnclaveId, LeaseId>,
}

pub(crate) fn no_bend(_: &str, _: Said<'_>, _: &Before) {}

pub(crate) fn object(name: &str) -> ObjectId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Digest::of(name.as_bytes()).as_bytes()[..16]);
    ObjectId::from_bytes(bytes)
}

pub(crate) fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

pub(crate) fn key(name: &'static str) -> PublicKey {
    Party::new(name).key()
}

pub(crate) fn sealed(name: &str, holder: Option<PublicKey>) -> SealedRef {
    SealedRef {
        name: name.rsplit('/').next().unwrap().to_owned(),
        holder,
        object: object(name),
        ciphertext: digest(&format!("{name}/ciphertext")),
        size: Bytes(4096),
        commitment: digest(&format!("{name}/commitment")),
    }
}

pub(crate) fn output(name: &str) -> OutputRef {
    let SealedRef { object, ciphertext, size, commitment, .. } = sealed(name, None);
    OutputRef { object, ciphertext, size, commitment }
}

pub(crate) fn demand() -> Demand {
    Demand {
        cpu: Millicores(1000),
        memory: Bytes::mib(512),
        fuel: Fuel(1_000_000_000),
        time: Millis(60_000),
        output: Bytes::mib(1),
        gpus: Milligpus::ZERO,
    }
}

/// What a judge finds of an enclave.
pub(crate) fn judged(name: &'static str, at: UnixTime) -> Judged {
    let party = Party::new(name);
    let short = name.trim_start_matches("enclave-");
    let configuration = Configuration {
        provider: ProviderId::new(&format!("{short}-hosting")).unwrap(),
        region: Region::new(&format!("eu-{short}")).unwrap(),
        capacity: Capacity { cpu: Millicores(8000), memory: Bytes::gib(16), slots: 4 },
        rate: Rate { core_hour: MicroUsd(20_000), gib_hour: MicroUsd(5_000) },
        operators: vec![key("operator")],
        advertise: None,
        prover: None,
        custody: None,
        slot: 0,
    };
    let claims = Claims {
        vmpl: Some(Attested::hardware(0)),
        ..Claims::basic(
            TeeKind::DevSnp,
            Anchor::Development(ROOT.to_owned()),
            "ab".repeat(48),
            Attested::hardware(digest(name).to_string()),
            Attested::hardware(Tcb::unknown("bootloader 4, tee 0, snp 22, microcode 213")),
            Attested::endorsed("milan".to_owned()),
            "cd".repeat(64),
        )
    };
    let binding = KeyBinding {
        role: Role::Agent,
        identity: party.key(),
        sealing: party.sealing(),
        image: digest("image"),
        configuration: Digest::of(&configuration.encode()),
        not_before: at.minus(100),
        not_after: at.plus(86_400),
        nonce: digest(&format!("nonce {name} {at}")),
    };
    Judged { claims, binding, configuration, collateral: Vec::new() }
}

/// What a verifier says of what was judged.
pub(crate) fn passport_of(judged: Judged, evidence: &Evidence, at: UnixTime, verifier: Digest) -> Passport {
    let development = judged.claims.anchor.is_development();
    Passport {
        verifier: key("verifier"),
        issued: at.plus(5),
        expires: at.plus(605),
        enclave: judged.binding.identity,
        sealing: judged.binding.sealing,
        ear: Ear {
            status: if development { Tier::Warning } else { Tier::Affirming },
            vector: [("hardware".to_owned(), 32)].into(),
            policy: "tests".to_owned(),
            policy_digest: digest("policy"),
            tcb: judged.claims.tcb.value.clone(),
            images: vec!["agent-1".to_owned()],
            grace: None,
        },
        claims: judged.claims,
        configuration: judged.configuration,
        evidence: evidence.digest(),
        collateral: judged.collateral,
        prev: vec![verifier],
    }
}

/// What the reader of these receipts trusts.
pub(crate) fn anchors() -> Anchors {
    let development = vec![DevelopmentAnchor { name: ROOT.to_owned(), ark: vec![1] }];
    Anchors { operators: vec![key("operator")], development, tpm: Vec::new(), logs: Vec::new() }
}

pub(crate) fn judge() -> Believer {
    Believer(vec![ROOT.to_owned()])
}

pub(crate) fn verify(receipt: &Receipt) -> Result<Verdict, Invalid> {
    receipt.verify(&anchors(), &judge())
}

pub(crate) fn build(plan: Plan<'_>, bend: Bend<'_>) -> World {
    let world = World {
        labels: Before::new(),
        envelopes: Vec::new(),
        evidence: Vec::new(),
        roots: Vec::new(),
        task: TaskId::new(digest("none")),
    };
    let (passports, memberships, seats) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    let mut script = Script { plan, bend, world, leases: 0, passports, memberships, seats };
    let verifier = script.appoint("verifier", Office::Verifier);
    let manager = script.appoint("manager", Office::Manager);
    let mut prev = Vec::new();
    for number in 1..=plan.rounds {
        let round = Round {
            label: format!("r{number}"),
            at: UnixTime(T0 + (number - 1) * 1000),
            verifier,
            manager,
            prev: std::mem::take(&mut prev),
        };
        prev = script.round(&round);
    }
    script.world
}

struct Round {
    label: String,
    at: UnixTime,
    verifier: Digest,
    manager: Digest,
    prev: Vec<Digest>,
}

impl Round {
    fn label(&self, what: &str) -> String {
        format!("{}/{what}", self.label)
    }
}

impl Script<'_> {
    fn say<P: Sayable>(&mut self, label: &str, mut predicate: P, signer: &Party) -> Signed<P> {
        (self.bend)(label, predicate.said(), &self.world.labels);
        let attacker = Party::new("attacker");
        let signed = match self.plan.forged {
            Some((forged, Forger::Attacker)) if forged == label => dsse::sign(predicate, &attacker),
            Some((forged, Forger::Impostor)) if forged == label => {
                dsse::sign(predicate, &Impostor { own: attacker, claimed: signer.key() })
            }
            // A statement that names the attacker as its signer is signed by the attacker.
            _ if predicate.signer() == attacker.key() => dsse::sign(predicate, &attacker),
            _ => {
                let other = ENCLAVES.map(Party::new).into_iter().find(|e| e.key() == predicate.signer());
                dsse::sign(predicate, other.as_ref().map_or(signer as &dyn Signer, |o| o))
            }
        };
        assert!(self.world.labels.insert(label.to_owned(), signed.digest()).is_none(), "{label} twice");
        self.world.envelopes.push(signed.envelope().clone());
        signed
    }

    fn appoint(&mut self, name: &'static str, office: Office) -> Digest {
        let appointment = Appointment {
            operator: key("operator"),
            key: key(name),
            office,
            scope: None,
            not_before: UnixTime(T0 - 1000),
            not_after: UnixTime(T0 + 1_000_000),
        };
        self.say(name, appointment, &Party::new("operator")).digest()
    }

    fn passport(&mut self, round: &Round, enclave: &'static str) -> Signed<Passport> {
        if let Some(known) = self.passports.get(enclave) {
            return known.clone();
        }
        let mut judged = judged(enclave, round.at);
        (self.bend)(&round.label(enclave), Said::Enclave(&mut judged), &self.world.labels);
        let evidence = evidence(&judged);
        let passport = passport_of(judged, &evidence, round.at, round.verifier);
        self.world.evidence.push(evidence);
        self.say(&round.label(&format!("passport-{enclave}")), passport, &Party::new("verifier"))
    }

    fn request(&mut self, round: &Round) -> Signed<Request> {
        let (trainers, second) = (self.plan.trainers, !round.prev.is_empty());
        let fragment = |name: &str, module: &str, owner: Option<&'static str>, inputs: Vec<Input>| Fragment {
            name: name.to_owned(),
            owner: owner.map(|name| Owner { key: key(name), sealing: Party::new(name).sealing() }),
            module: digest(module),
            args: vec!["--epochs=1".to_owned()],
            inputs,
            demand: demand(),
            require: Requirement::parse("region != \"us\"").unwrap(),
            delegates: None,
        };
        let mut fragments = Vec::new();
        for name in &TRAINERS[..trainers] {
            let mut inputs = vec![Input::Sealed(sealed(&round.label(&format!("{name}/data")), None))];
            if second {
                inputs.push(Input::Sealed(sealed(&round.label("model"), Some(key("client")))));
            }
            fragments.push(fragment(&format!("train-{name}"), "train.wasm", Some(name), inputs));
        }
        if self.plan.reduce {
            let inputs = (0..u32::try_from(trainers).unwrap()).map(|i| Input::Output { fragment: FragmentIndex(i) });
            fragments.push(fragment("reduce", "reduce.wasm", None, inputs.collect()));
        }
        let request = Request {
            client: key("client"),
            sealing: Party::new("client").sealing(),
            tenant: TenantId::new("clinic").unwrap(),
            name: format!("round {}", round.label),
            created: round.at,
            expires: round.at.plus(3600),
            fragments,
            require: Requirement::parse("tee in [dev-snp, sev-snp] and price <= 0.03 usd/h").unwrap(),
            prefer: Default::default(),
            data: Default::default(),
            swarm: self.plan.swarm.then(|| SwarmTerms {
                members: 4,
                least: Some(3),
                seat: SeatDemand {
                    cpu: demand().cpu,
                    memory: demand().memory,
                    gpus: demand().gpus,
                    time: Millis(600_000),
                },
                speculate: Some(150),
            }),
            assurance: Assurance::Attested,
            budget: MicroUsd(10_000),
            nonce: digest(&round.label("nonce")),
            prev: round.prev.clone(),
        };
        self.say(&round.label("request"), request, &Party::new("client"))
    }

    fn allocation(
        &mut self,
        round: &Round,
        request: &Signed<Request>,
        (fragment, attempt): (u32, &str),
        passport: &Passport,
        replaced: Option<Digest>,
    ) -> Signed<Allocation> {
        self.leases += 1;
        let from = round.at.plus(if fragment as usize == self.plan.trainers { 40 } else { 10 });
        let configuration = &passport.configuration;
        let mut prev = vec![request.digest(), round.manager];
        prev.extend(replaced);
        prev.extend(&self.memberships);
        let seat = self.seats.get(&passport.enclave_id()).map(|lease| SeatRef { lease: *lease, round: 1 });
        let allocation = Allocation {
            manager: key("manager"),
            term: Term(3),
            task: TaskId::new(request.digest()),
            fragment: FragmentIndex(fragment),
            lease: LeaseId(self.leases),
            from,
            until: from.plus(200),
            enclave: passport.enclave_id(),
            provider: configuration.provider.clone(),
            region: configuration.region.clone(),
            price_hour: configuration.rate.per_hour(demand().cpu, demand().memory),
            limits: None,
            why: Placement {
                considered: 4,
                eligible: 2,
                passed_over: Vec::new(),
                decided_by: "cheapest of 2".to_owned(),
            },
            revocations: EPOCH,
            seat,
            loan: None,
            prev,
        };
        self.say(&round.label(&format!("allocation-{fragment}{attempt}")), allocation, &Party::new("manager"))
    }

    /// Seats the enclaves, and has each sign the list.
    fn form(&mut self, round: &Round, request: &Signed<Request>) {
        let mut seats = Vec::new();
        for enclave in ENCLAVES {
            let passport = self.passport(round, enclave);
            self.passports.insert(enclave, passport.clone());
            self.leases += 1;
            let configuration = &passport.configuration;
            seats.push(Seat {
                member: Member {
                    enclave: passport.enclave_id(),
                    passport: passport.digest(),
                    lease: LeaseId(self.leases),
                },
                provider: configuration.provider.clone(),
                region: configuration.region.clone(),
                from: round.at.plus(8),
                until: round.at.plus(700),
                price_hour: configuration.rate.per_hour(demand().cpu, demand().memory),
                why: Placement { considered: 4, eligible: 4, passed_over: Vec::new(), decided_by: "price".to_owned() },
            });
        }
        seats.sort_by_key(|s| s.member.enclave);
        let seating = Seating {
            manager: key("manager"),
            term: Term(3),
            task: TaskId::new(request.digest()),
            round: 1,
            at: round.at.plus(8),
            seats,
            revocations: EPOCH,
            prev: vec![request.digest(), round.manager],
        };
        let seating = self.say(&round.label("seating"), seating, &Party::new("manager"));
        let mut signed = Vec::new();
        for enclave in ENCLAVES {
            let Some(said) = Membership::of(&seating, seating.digest(), key(enclave)) else { continue };
            let said = self.say(&round.label(&format!("membership-{enclave}")), said, &Party::new(enclave));
            signed.push((said.enclave.enclave_id(), said.digest()));
        }
        signed.sort_unstable();
        self.memberships = signed.into_iter().map(|(_, digest)| digest).collect();
        self.seats = seating.seats.iter().map(|s| (s.member.enclave, s.member.lease)).collect();
    }

    fn grant(
        &mut self,
        round: &Round,
        request: &Signed<Request>,
        (issuer, fragment): (&'static str, u32),
        enclave: EnclaveId,
        releases: Vec<ObjectId>,
    ) -> Signed<Grant> {
        let spec = request.fragment(FragmentIndex(fragment));
        let grant = Grant {
            issuer: key(issuer),
            task: TaskId::new(request.digest()),
            fragments: vec![FragmentIndex(fragment)],
            subject: GrantSubject::Enclave(enclave),
            modules: spec.map(|f| f.module).into_iter().collect(),
            fuel: Fuel(900_000_000),
            budget: MicroUsd(200),
            depth: 0,
            expires: round.at.plus(1800),
            releases,
            delegable: None,
            prev: vec![request.digest()],
        };
        self.say(&round.label(&format!("grant-{fragment}-{issuer}")), grant, &Party::new(issuer))
    }

    fn round(&mut self, round: &Round) -> Vec<Digest> {
        let request = self.request(round);
        self.world.task = TaskId::new(request.digest());
        self.passports.clear();
        if self.plan.swarm {
            self.form(round, &request);
        }
        let mut reports = Vec::new();
        let trainers = self.plan.trainers;
        for (i, name) in (0..).zip(&TRAINERS[..trainers]) {
            let passport = self.passport(round, ENCLAVES[i as usize]);
            let replaced = (self.plan.moved && i == 1).then(|| {
                let mut lost = passport.predicate().clone();
                lost.enclave = key("enclave-lost");
                self.allocation(round, &request, (i, "-lost"), &lost, None).digest()
            });
            let allocation = self.allocation(round, &request, (i, ""), &passport, replaced);
            let data = vec![object(&round.label(&format!("{name}/data")))];
            let mut grants = vec![self.grant(round, &request, (name, i), passport.enclave_id(), data)];
            if !round.prev.is_empty() {
                let model = vec![object(&round.label("model"))];
                grants.push(self.grant(round, &request, ("client", i), passport.enclave_id(), model));
            }
            let spec = &request.fragments[i as usize];
            let inputs = spec.sealed_inputs().map(|input| input.commitment).collect();
            let report = self.report(round, (i, ""), &allocation, &passport, &grants, (inputs, &[]));
            if self.plan.twice == Some("report") && i == 0 && round.label == "r1" {
                self.report(round, (i, "-twin"), &allocation, &passport, &grants, (report.inputs.clone(), &[]));
            }
            reports.push(report);
        }
        let failed = |report: &&Signed<Report>| report.outcome != Outcome::Completed;
        let mut roots: Vec<Digest> = reports.iter().filter(failed).map(Signed::digest).collect();
        if self.plan.reduce && roots.is_empty() {
            let (report, aggregate) = self.reduce(round, &request, &reports);
            roots.extend(if failed(&&report) { Some(report.digest()) } else { aggregate });
        } else if roots.is_empty() {
            roots = reports.iter().map(Signed::digest).collect();
        }
        self.world.roots.clone_from(&roots);
        if round.label == "r1"
            && let Some(what) = self.plan.twice
        {
            let twin = match what {
                "report" => "report-0-twin",
                "reduction" => "report-3-twin",
                _ => "aggregate-twin",
            };
            let twin = round.label(twin);
            roots.push(self.world.labels[&twin]);
        }
        roots
    }

    fn reduce(
        &mut self,
        round: &Round,
        request: &Signed<Request>,
        reports: &[Signed<Report>],
    ) -> (Signed<Report>, Option<Digest>) {
        let index = u32::try_from(self.plan.trainers).unwrap();
        let passport = self.passport(round, ENCLAVES[3]);
        let allocation = self.allocation(round, request, (index, ""), &passport, None);
        let mut grants = vec![self.grant(round, request, ("client", index), passport.enclave_id(), Vec::new())];
        for (name, report) in TRAINERS.iter().zip(reports) {
            let released = report.output.iter().map(|o| o.object).collect();
            grants.push(self.grant(round, request, (name, index), passport.enclave_id(), released));
        }
        let inputs = reports.iter().filter_map(|r| r.output.as_ref()).map(|o| o.commitment).collect();
        let report = self.report(round, (index, ""), &allocation, &passport, &grants, (inputs, reports));
        if report.outcome != Outcome::Completed {
            return (report, None);
        }
        if self.plan.twice == Some("reduction") {
            self.report(round, (index, "-twin"), &allocation, &passport, &grants, (report.inputs.clone(), reports));
        }
        let behind: Vec<Digest> = reports.iter().map(Signed::digest).collect();
        let aggregate = Aggregate {
            enclave: passport.enclave,
            task: report.task,
            fragment: report.fragment,
            reports: behind.clone(),
            result: report.output.clone(),
            privacy: "none".to_owned(),
            prev: std::iter::once(report.digest()).chain(behind).collect(),
        };
        let enclave = Party::new(ENCLAVES[3]);
        if self.plan.twice == Some("aggregate") && round.label == "r1" {
            let twin = Aggregate { privacy: "epsilon 1".to_owned(), ..aggregate.clone() };
            self.say(&round.label("aggregate-twin"), twin, &enclave);
        }
        let aggregate = self.say(&round.label("aggregate"), aggregate, &enclave);
        (report, Some(aggregate.digest()))
    }

    fn report(
        &mut self,
        round: &Round,
        (fragment, twin): (u32, &str),
        allocation: &Signed<Allocation>,
        passport: &Signed<Passport>,
        grants: &[Signed<Grant>],
        (inputs, upstream): (Vec<Digest>, &[Signed<Report>]),
    ) -> Signed<Report> {
        let mut granted: Vec<_> = grants.iter().map(Signed::digest).collect();
        granted.sort_unstable();
        let mut prev = vec![allocation.digest(), passport.digest()];
        prev.extend(granted);
        prev.extend(upstream.iter().map(Signed::digest));
        let completed = !self.plan.failed.contains(&fragment);
        let reducing = fragment as usize == self.plan.trainers;
        let began = round.at.plus(if reducing { 50 } else { 20 });
        let left = |what: &str| output(&round.label(&format!("{what}-{fragment}")));
        let report = Report {
            enclave: passport.enclave,
            task: allocation.task,
            fragment: FragmentIndex(fragment),
            lease: allocation.lease,
            module: digest(if reducing { "reduce.wasm" } else { "train.wasm" }),
            inputs,
            seed: digest(&format!("seed{twin}")),
            outcome: if completed { Outcome::Completed } else { Outcome::Failed { reason: "exit-2".to_owned() } },
            output: completed.then(|| left("output")),
            log: Some(left("log")),
            usage: Usage { fuel: Fuel(500_000_000), memory_peak: Bytes::mib(40), host_calls: 12, micros: 10_000_000 },
            started: began,
            finished: began.plus(10),
            answer: None,
            dissent: Vec::new(),
            monitor: None,
            prev,
        };
        let index = if reducing { 3 } else { fragment as usize };
        self.say(&round.label(&format!("report-{fragment}{twin}")), report, &Party::new(ENCLAVES[index]))
    }
}

impl World {
    pub(crate) fn assemble(&self) -> Result<Receipt, Rejection> {
        self.assemble_roots(self.roots.clone())
    }

    pub(crate) fn assemble_roots(&self, roots: Vec<Digest>) -> Result<Receipt, Rejection> {
        Receipt::assemble(self.task, EPOCH, roots, self.envelopes.clone(), self.evidence.clone(), [])
    }

    pub(crate) fn receipt(&self) -> Receipt {
        self.assemble().unwrap()
    }

    /// How a refusal names the statement of this label.
    pub(crate) fn at(&self, label: &str) -> String {
        let kind = match label.rsplit('/').next().unwrap().split('-').next().unwrap() {
            "verifier" | "manager" => "appointment",
            kind => kind,
        };
        format!("{kind} {}", self.labels[label].short())
    }
}
