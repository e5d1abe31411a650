//! A task whose enclave hands parts on, statement by statement: `lead` runs the fragment and asks one question of `a`, `b` and
//! `c` (replicated), another of `d`, who asks `e`, who asks `f`. As in [`crate::world`], every statement passes a bend before
//! it is signed, by whoever it names as its signer.

use std::collections::BTreeMap;

use legation_core::{
    Bytes, Digest, Envelope, FragmentIndex, Fuel, LeaseId, MicroUsd, Millis, Receipt, Rejection, Requirement, Signed,
    TaskId, TenantId, Term, UnixTime,
    claims::Evidence,
    delegation::{Call, CallDemand},
    dsse,
    statement::{
        Allocation, Answer, Appointment, Assurance, Committed, Delegable, Diversity, Grant, GrantSubject, LoanRef,
        Office, Outcome, Passport, Placement, Report, Request, Usage,
    },
    swarm::SeatDemand,
    task::{Delegation, Fragment, Input, Owner},
};

use crate::{
    party::{Party, evidence},
    world::{Before, Bend, EPOCH, Said, Sayable, T0, demand, digest, judged, key, object, output, passport_of, sealed},
};

/// Who can sign here.
const SIGNERS: [&str; 12] = [
    "operator",
    "verifier",
    "manager",
    "client",
    "north",
    "attacker",
    "enclave-lead",
    "enclave-a",
    "enclave-b",
    "enclave-c",
    "enclave-d",
    "enclave-e",
];
const LAST: &str = "enclave-f";

/// What is built.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// How the first question is assured; none is asked without it.
    pub(crate) assured: Option<Assurance>,
    /// Those of `a`, `b` and `c` that answered it, and that answered otherwise.
    pub(crate) answered: &'a [&'static str],
    pub(crate) dissent: &'a [&'static str],
    /// Whether there is the second question, of `d`, and how many of `d`, `e` and `f` it reaches.
    pub(crate) deep: usize,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { assured: Some(THREE), answered: &["a", "b", "c"], dissent: &[], deep: 3 }
    }
}

impl Plan<'_> {
    /// One question, of `a` alone.
    pub(crate) fn single() -> Self {
        Self { assured: Some(Assurance::Attested), answered: &["a"], dissent: &[], deep: 0 }
    }
}

pub(crate) const THREE: Assurance = Assurance::Replicated { k: 3, diverse: Diversity::Provider };

/// What was built.
pub(crate) struct World {
    pub(crate) labels: Before,
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) task: TaskId,
}

/// What a delegator or delegate has in hands.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) name: &'static str,
    pub(crate) allocation: Signed<Allocation>,
    pub(crate) passport: Signed<Passport>,
    pub(crate) grants: Vec<Signed<Grant>>,
}

pub(crate) struct Script<'a> {
    bend: Bend<'a>,
    pub(crate) world: World,
    leases: u64,
    loans: BTreeMap<LeaseId, u32>,
    verifier: Digest,
    manager: Digest,
}

pub(crate) fn time(seconds: u64) -> UnixTime {
    UnixTime(T0 + seconds)
}

/// What every loan sets aside.
pub(crate) fn set_aside() -> SeatDemand {
    SeatDemand { cpu: demand().cpu, memory: demand().memory, gpus: demand().gpus, time: Millis(60_000) }
}

pub(crate) fn delegable(fuel: u64, budget: u64) -> Delegable {
    Delegable {
        modules: vec![digest("part.wasm")],
        fuel: Fuel(fuel),
        budget: MicroUsd(budget),
        releases: Vec::new(),
        assurance: Assurance::Attested,
        require: None,
    }
}

/// Fuel and budget, what of both goes on, and depth.
type Level = (u64, u64, Option<(u64, u64)>, u32);

/// What a child grant of each level allows and passes on.
const LEVELS: [Level; 3] = [
    (100_000_000, 200, Some((400_000_000, 600)), 2),
    (100_000_000, 200, Some((200_000_000, 300)), 1),
    (100_000_000, 200, None, 0),
];

pub(crate) fn committed(name: &str) -> Committed {
    Committed { size: Bytes(4096), commitment: digest(&format!("{name}/commitment")) }
}

pub(crate) fn call_demand() -> CallDemand {
    CallDemand { fuel: Fuel(50_000_000), memory: Bytes::mib(64), time: Millis(20_000), output: Bytes::mib(1) }
}

fn party(key: legation_core::PublicKey) -> Option<Party> {
    SIGNERS.into_iter().chain([LAST]).map(Party::new).find(|party| party.key() == key)
}

impl<'a> Script<'a> {
    pub(crate) fn new(bend: Bend<'a>) -> Self {
        let world = World {
            labels: Before::new(),
            envelopes: Vec::new(),
            evidence: Vec::new(),
            task: TaskId::new(digest("none")),
        };
        let nothing = digest("none");
        let mut script = Self { bend, world, leases: 0, loans: BTreeMap::new(), verifier: nothing, manager: nothing };
        script.verifier = script.appoint("verifier", Office::Verifier);
        script.manager = script.appoint("manager", Office::Manager);
        script
    }

    pub(crate) fn say<P: Sayable>(&mut self, label: &str, mut predicate: P) -> Signed<P> {
        (self.bend)(label, predicate.said(), &self.world.labels);
        let signer = party(predicate.signer()).unwrap_or_else(|| panic!("nobody here signs {label}"));
        let signed = dsse::sign(predicate, &signer);
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
        self.say(name, appointment).digest()
    }

    pub(crate) fn request(&mut self) -> Signed<Request> {
        let fragment = Fragment {
            name: "lead".to_owned(),
            owner: Some(Owner { key: key("north"), sealing: Party::new("north").sealing() }),
            module: digest("lead.wasm"),
            args: Vec::new(),
            inputs: vec![
                Input::Sealed(sealed("north/data", None)),
                Input::Sealed(sealed("model", Some(key("client")))),
            ],
            demand: demand(),
            require: Requirement::parse("region != \"us\"").unwrap(),
            delegates: Some(Delegation {
                modules: vec![digest("part.wasm")],
                depth: 3,
                fuel: Fuel(1_000_000_000),
                budget: MicroUsd(9_000),
                assurance: Assurance::Attested,
            }),
        };
        let request = Request {
            client: key("client"),
            sealing: Party::new("client").sealing(),
            tenant: TenantId::new("clinic").unwrap(),
            name: "delegated".to_owned(),
            created: time(0),
            expires: time(3600),
            fragments: vec![fragment],
            require: Requirement::parse("tee in [dev-snp, sev-snp] and price <= 0.03 usd/h").unwrap(),
            prefer: Default::default(),
            data: Default::default(),
            swarm: None,
            assurance: Assurance::Attested,
            budget: MicroUsd(10_000),
            nonce: digest("nonce"),
            prev: Vec::new(),
        };
        let request = self.say("request", request);
        self.world.task = TaskId::new(request.digest());
        request
    }

    pub(crate) fn passport(&mut self, name: &'static str) -> Signed<Passport> {
        let mut judged = judged(name, time(0));
        (self.bend)(name, Said::Enclave(&mut judged), &self.world.labels);
        let evidence = evidence(&judged);
        let passport = passport_of(judged, &evidence, time(0), self.verifier);
        self.world.evidence.push(evidence);
        self.say(&format!("passport-{}", short(name)), passport)
    }

    /// The allocation of the fragment; or of a loan under `of`.
    pub(crate) fn allocation(
        &mut self,
        request: &Signed<Request>,
        passport: &Passport,
        name: &'static str,
        of: Option<&Signed<Allocation>>,
    ) -> Signed<Allocation> {
        self.leases += 1;
        let configuration = &passport.configuration;
        let loan = of.map(|of| {
            let number = self.loans.entry(of.lease).or_default();
            *number += 1;
            LoanRef { of: of.lease, borrower: of.enclave, number: *number, demand: set_aside() }
        });
        let mut prev = vec![request.digest(), self.manager];
        prev.extend(of.map(Signed::digest));
        let allocation = Allocation {
            manager: key("manager"),
            term: Term(3),
            task: self.world.task,
            fragment: FragmentIndex(0),
            lease: LeaseId(self.leases),
            from: time(10),
            until: time(210),
            enclave: passport.enclave_id(),
            provider: configuration.provider.clone(),
            region: configuration.region.clone(),
            price_hour: configuration.rate.per_hour(demand().cpu, demand().memory),
            limits: None,
            why: Placement { considered: 7, eligible: 7, passed_over: Vec::new(), decided_by: "price".to_owned() },
            revocations: EPOCH,
            seat: None,
            loan,
            prev,
        };
        let label = if loan.is_some() { format!("loan-{}", short(name)) } else { "allocation".to_owned() };
        self.say(&label, allocation)
    }

    /// What `lead` is granted, by the owner of the fragment and by the holder of the model.
    pub(crate) fn roots(&mut self, request: &Signed<Request>, to: &Passport) -> Vec<Signed<Grant>> {
        let mut grants = Vec::new();
        for (issuer, released) in [("north", "north/data"), ("client", "model")] {
            let grant = Grant {
                issuer: key(issuer),
                task: self.world.task,
                fragments: vec![FragmentIndex(0)],
                subject: GrantSubject::Enclave(to.enclave_id()),
                modules: vec![digest("lead.wasm")],
                fuel: Fuel(900_000_000),
                budget: MicroUsd(200),
                depth: 3,
                expires: time(1800),
                releases: vec![object(released)],
                delegable: Some(delegable(1_000_000_000, 9_000)),
                prev: vec![request.digest()],
            };
            grants.push(self.say(&format!("grant-{issuer}"), grant));
        }
        grants.sort_by_key(Signed::digest);
        grants
    }

    pub(crate) fn lead(&mut self, request: &Signed<Request>) -> Hands {
        let name = "enclave-lead";
        let passport = self.passport(name);
        let allocation = self.allocation(request, &passport, name, None);
        let grants = self.roots(request, &passport);
        Hands { name, allocation, passport, grants }
    }

    /// Lends `name` to `by`, who passes its grants on.
    pub(crate) fn lend(&mut self, request: &Signed<Request>, by: &Hands, name: &'static str, level: usize) -> Hands {
        let passport = self.passport(name);
        let allocation = self.allocation(request, &passport, name, Some(&by.allocation));
        let (fuel, budget, below, depth) = LEVELS[level];
        let child = Grant {
            issuer: key(by.name),
            task: self.world.task,
            fragments: vec![FragmentIndex(0)],
            subject: GrantSubject::Enclave(passport.enclave_id()),
            modules: vec![digest("part.wasm")],
            fuel: Fuel(fuel),
            budget: MicroUsd(budget),
            depth,
            expires: time(1800),
            releases: Vec::new(),
            delegable: below.map(|(fuel, budget)| delegable(fuel, budget)),
            prev: by.grants.iter().map(Signed::digest).collect(),
        };
        let child = self.say(&format!("child-{}", short(name)), child);
        Hands { name, allocation, passport, grants: vec![child] }
    }

    pub(crate) fn call(&mut self, by: &Hands, to: &Hands, question: &str, assurance: Assurance) -> Signed<Call> {
        let call = Call {
            delegator: key(by.name),
            task: self.world.task,
            fragment: FragmentIndex(0),
            loan: to.allocation.lease,
            number: 1,
            question: digest(question),
            challenge: digest(&format!("challenge of {}", to.name)),
            module: digest("part.wasm"),
            args: vec!["--part".to_owned()],
            input: committed(question),
            demand: call_demand(),
            assurance,
            created: time(25),
            expires: time(120),
            prev: vec![to.allocation.digest(), to.grants[0].digest()],
        };
        self.say(&format!("call-{}", short(to.name)), call)
    }

    /// What an enclave answers; `said` is what it computed.
    pub(crate) fn answer(
        &mut self,
        to: &Hands,
        call: &Signed<Call>,
        (said, began, ended): (&str, u64, u64),
        below: &[Digest],
    ) -> Signed<Report> {
        let mut prev = vec![to.allocation.digest(), to.passport.digest(), to.grants[0].digest(), call.digest()];
        prev.extend(below);
        let answer = Answer { call: call.digest(), output: Some(committed(said)), trace: digest("trace") };
        let report = Report {
            enclave: to.passport.enclave,
            task: self.world.task,
            fragment: FragmentIndex(0),
            lease: to.allocation.lease,
            module: call.module,
            inputs: vec![call.input.commitment],
            seed: call.question,
            outcome: Outcome::Completed,
            output: None,
            log: None,
            usage: Usage { fuel: Fuel(40_000_000), memory_peak: Bytes::mib(10), host_calls: 3, micros: 5_000_000 },
            started: time(began),
            finished: time(ended),
            answer: Some(answer),
            dissent: Vec::new(),
            monitor: None,
            prev,
        };
        self.say(&format!("answer-{}", short(to.name)), report)
    }

    pub(crate) fn report(&mut self, lead: &Hands, answers: &[Digest], dissent: Vec<Digest>) -> Signed<Report> {
        let mut prev = vec![lead.allocation.digest(), lead.passport.digest()];
        prev.extend(lead.grants.iter().map(Signed::digest));
        prev.extend(answers);
        let report = Report {
            enclave: lead.passport.enclave,
            task: self.world.task,
            fragment: FragmentIndex(0),
            lease: lead.allocation.lease,
            module: digest("lead.wasm"),
            inputs: vec![sealed("north/data", None).commitment, sealed("model", None).commitment],
            seed: digest("seed"),
            outcome: Outcome::Completed,
            output: Some(output("output")),
            log: None,
            usage: Usage { fuel: Fuel(500_000_000), memory_peak: Bytes::mib(40), host_calls: 12, micros: 10_000_000 },
            started: time(20),
            finished: time(80),
            answer: None,
            dissent,
            monitor: None,
            prev,
        };
        self.say("report", report)
    }
}

fn short(name: &str) -> &str {
    name.trim_start_matches("enclave-")
}

fn enclave(short: &str) -> &'static str {
    match short {
        "a" => "enclave-a",
        "b" => "enclave-b",
        "c" => "enclave-c",
        "d" => "enclave-d",
        "e" => "enclave-e",
        _ => LAST,
    }
}

pub(crate) fn build(plan: Plan<'_>, bend: Bend<'_>) -> World {
    let mut script = Script::new(bend);
    let request = script.request();
    let lead = script.lead(&request);
    let (mut answers, mut dissent) = (Vec::new(), Vec::new());
    if let Some(assurance) = plan.assured {
        for name in plan.answered {
            let to = script.lend(&request, &lead, enclave(name), 2);
            let call = script.call(&lead, &to, "first", assurance);
            let dissents = plan.dissent.contains(name);
            let said = if dissents { "otherwise" } else { "agreed" };
            let answer = script.answer(&to, &call, (said, 30, 35), &[]).digest();
            answers.push(answer);
            dissent.extend(dissents.then_some(answer));
        }
    }
    // The way down, then the way back.
    let (mut way, mut by) = (Vec::new(), lead.clone());
    for (level, name) in ["d", "e", "f"].into_iter().enumerate().take(plan.deep) {
        let to = script.lend(&request, &by, enclave(name), level);
        let call = script.call(&by, &to, &format!("second of {name}"), Assurance::Attested);
        way.push((to.clone(), call));
        by = to;
    }
    let mut below: Vec<Digest> = Vec::new();
    for (level, (to, call)) in way.iter().enumerate().rev() {
        let level = level as u64;
        let answer = script.answer(to, call, ("deep", 30 + level, 70 - level), &below).digest();
        below = vec![answer];
    }
    answers.extend(below);
    dissent.sort_unstable();
    script.report(&lead, &answers, dissent);
    script.world
}

impl World {
    pub(crate) fn assemble(&self) -> Result<Receipt, Rejection> {
        let roots = vec![self.labels["report"]];
        Receipt::assemble(self.task, EPOCH, roots, self.envelopes.clone(), self.evidence.clone(), [])
    }

    pub(crate) fn receipt(&self) -> Receipt {
        self.assemble().unwrap()
    }

    /// How a refusal names the statement of this label.
    pub(crate) fn at(&self, label: &str) -> String {
        let kind = match label.split('-').next().unwrap() {
            "verifier" | "manager" => "appointment",
            "loan" => "allocation",
            "child" => "grant",
            "answer" => "report",
            kind => kind,
        };
        format!("{kind} {}", self.labels[label].short())
    }
}
