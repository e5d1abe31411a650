//! The statements that parties make here: what they say is what the product's own parties would say.

use std::collections::BTreeMap;

use legation_agent::offer::Work;
use legation_core::{
    Bytes, Digest, FragmentIndex, Fuel, LeaseId, MicroUsd, Millicores, Millis, ObjectId, ProviderId, Region,
    Requirement, SealingPublicKey, Signed, Signer, SwarmName, TaskId, TenantId, UnixTime,
    claims::{Anchor, Attested, Capacity, Claims, Configuration, Custody, Evidence, Rate, Tcb, TeeKind},
    custody::Charter,
    dsse::sign,
    prefer::{Preferences, Priority},
    statement::{
        Aggregate, Appointment, Assurance, Delegable, Ear, Grant, GrantSubject, Office, Outcome, Passport, Report,
        Request, Tier, Usage,
    },
    swarm::{SeatDemand, SwarmTerms},
    task::{Delegation, Demand, Fragment, Input, OutputRef, SealedRef, WrappedKey},
};
use legation_net::message::Reported;
use legation_pool::{Needs, ReservationTerms};

use crate::{keys::Key, plan::Custodians, random::Random};

/// Providers and regions of the machines.
const PLACES: [(&str, &str); 4] = [("alpha", "eu-1"), ("alpha", "us-1"), ("bravo", "eu-1"), ("bravo", "us-1")];
/// Those of custodians: no provider may have as many as open.
const CUSTODY_PLACES: [(&str, &str); 3] = [("alpha", "eu-1"), ("bravo", "us-1"), ("carol", "eu-1")];
/// The end of what an operator signs.
const FOREVER: UnixTime = UnixTime(2_000_000_000);
/// What requests require, from what everybody satisfies to what nobody does.
const REQUIREMENTS: [&str; 3] = ["any", "region == \"eu-1\"", "provider == \"nobody\""];

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn object(name: &str) -> ObjectId {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest(name).as_bytes()).for_each(|(to, from)| *to = *from);
    ObjectId::from_bytes(bytes)
}

#[expect(clippy::expect_used, reason = "the texts are constants of this file")]
fn requirement(text: &str) -> Requirement {
    text.parse().expect("a requirement")
}

/// An operator's word on a key, for years before and after.
pub(crate) fn appointment(operator: &Key, key: &Key, office: Office) -> Signed<Appointment> {
    let appointment = Appointment {
        operator: operator.public_key(),
        key: key.public_key(),
        office,
        scope: None,
        not_before: UnixTime(1_700_000_000),
        not_after: FOREVER,
    };
    sign(appointment, operator)
}

/// The one swarm key there is.
#[expect(clippy::expect_used, reason = "a constant")]
pub(crate) fn swarm_key() -> SwarmName {
    SwarmName::new("main").expect("a name")
}

/// What the operator asks of committees, and after `before` if that is there of ones of another size.
pub(crate) fn charter(operator: &Key, custodians: &Custodians, before: Option<&Signed<Charter>>) -> Signed<Charter> {
    let size = if before.is_some() { custodians.size.other() } else { custodians.size };
    let charter = Charter {
        operator: operator.public_key(),
        swarm: swarm_key(),
        number: before.map_or(1, |before| before.number + 1),
        threshold: size.threshold(),
        require: Requirement::any(),
        per_provider_max: size.per_provider_max(),
        epoch_seconds: custodians.epoch_seconds,
        not_after: FOREVER,
        prev: before.map(Signed::digest).into_iter().collect(),
    };
    sign(charter, operator)
}

/// What a machine is, boot after boot.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) chip: String,
    pub(crate) configuration: Configuration,
    /// A vendor's root stands behind its evidence.
    pub(crate) production: bool,
}

impl Machine {
    #[expect(clippy::expect_used, reason = "the names are constants of this file")]
    pub(crate) fn draw(index: usize, production: bool, random: &mut Random) -> Self {
        let (provider, region) = PLACES[index % PLACES.len()];
        let slots = u32::try_from(random.range(1, 3)).unwrap_or(1);
        let capacity = Capacity { cpu: Millicores(u64::from(slots) * 500), memory: Bytes::mib(512), slots };
        let rate = Rate { core_hour: MicroUsd(10_000 * random.range(1, 4)), gib_hour: MicroUsd(0) };
        let configuration = Configuration {
            provider: ProviderId::new(provider).expect("a provider"),
            region: Region::new(region).expect("a region"),
            capacity,
            rate,
            slot: 0,
            operators: Vec::new(),
            advertise: random.chance(800).then(|| format!("10.0.0.{index}:7444")),
            prover: None,
            custody: None,
        };
        Self { chip: format!("chip {index}"), configuration, production }
    }

    /// One that takes part in custody, and does nothing else.
    #[expect(clippy::expect_used, reason = "the names are constants of this file")]
    pub(crate) fn custodian(index: usize, production: bool, random: &mut Random) -> Self {
        let (provider, region) = CUSTODY_PLACES[index % CUSTODY_PLACES.len()];
        let mut machine = Self::draw(index, production, random);
        let configuration = &mut machine.configuration;
        configuration.provider = ProviderId::new(provider).expect("a provider");
        configuration.region = Region::new(region).expect("a region");
        configuration.advertise = Some(format!("10.0.0.{index}:7444"));
        configuration.custody = Some(Custody { swarm: swarm_key(), alone: true, anchors: digest("anchors") });
        machine
    }

    pub(crate) fn evidence(&self, boot: &Key) -> Evidence {
        Evidence {
            kind: if self.production { TeeKind::SevSnp } else { TeeKind::DevSnp },
            report: self.chip.clone().into_bytes(),
            endorsements: Vec::new(),
            devices: Vec::new(),
            binding: boot.enclave().to_string().into_bytes(),
            configuration: self.configuration.encode(),
        }
    }

    /// What a verifier makes of the evidence of a boot.
    pub(crate) fn passport(
        &self,
        boot: &Key,
        (issued, expires): (UnixTime, UnixTime),
        verifier: &Key,
        appointment: &Signed<Appointment>,
    ) -> Signed<Passport> {
        let (kind, anchor) = match self.production {
            true => (TeeKind::SevSnp, Anchor::Production("amd-milan".into())),
            false => (TeeKind::DevSnp, Anchor::Development("local".into())),
        };
        let claims = Claims {
            vmpl: Some(Attested::hardware(0)),
            ..Claims::basic(
                kind,
                anchor,
                "00".into(),
                Attested::hardware(self.chip.clone()),
                Attested::hardware(Tcb::unknown("1")),
                Attested::endorsed("milan".into()),
                String::new(),
            )
        };
        let passport = Passport {
            verifier: verifier.public_key(),
            issued,
            expires,
            enclave: boot.public_key(),
            sealing: boot.sealing().clone(),
            ear: Ear {
                status: Tier::Warning,
                vector: BTreeMap::from([("configuration".to_owned(), 36)]),
                policy: "simulated".into(),
                policy_digest: digest("policy"),
                tcb: Tcb::unknown("1"),
                images: Vec::new(),
                grace: None,
            },
            claims,
            configuration: self.configuration.clone(),
            evidence: self.evidence(boot).digest(),
            collateral: Vec::new(),
            prev: vec![appointment.digest()],
        };
        sign(passport, verifier)
    }
}

/// What kinds of tasks there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// One fragment that reads nothing.
    Single,
    /// Several that read nothing.
    Wide(usize),
    /// One that reads a sealed object: it is granted when its enclave is known.
    Sealed,
    /// Two, and one that reads what they leave.
    Reduce,
    /// So many by a swarm of two or three, and one that reads what they leave.
    Swarm(usize),
}

/// How long a task's fragments may take, what it requires, and so on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) shape: Shape,
    pub(crate) seconds: u64,
    pub(crate) require: usize,
    pub(crate) budget: MicroUsd,
    pub(crate) life: u64,
    pub(crate) cpu: Millicores,
    pub(crate) priority: u8,
    /// Whether what reads something may hand parts of its work on.
    pub(crate) hands_on: bool,
}

impl Wish {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let shape = match random.range(0, 10) {
            0..=3 => Shape::Single,
            4..=5 => Shape::Wide(2 + random.below(3)),
            6..=7 => Shape::Sealed,
            8 => Shape::Swarm(2 + random.below(5)),
            _ => Shape::Reduce,
        };
        Self {
            shape,
            seconds: random.range(3, 15),
            require: usize::from(random.chance(250)),
            budget: MicroUsd(1_000_000),
            life: 3600,
            cpu: Millicores(*random.pick(&[100, 200, 400]).unwrap_or(&100)),
            priority: *random.pick(&[4, 4, 4, 2, 1]).unwrap_or(&4),
            hands_on: random.chance(600),
        }
    }
}

fn sealed(name: &str) -> Input {
    Input::Sealed(SealedRef {
        name: name.into(),
        holder: None,
        object: object(name),
        ciphertext: digest(name),
        size: Bytes(100),
        commitment: Digest::of_parts(&[b"commitment", name.as_bytes()]),
    })
}

/// A client's request.
pub(crate) fn request(client: &Key, name: &str, wish: &Wish, now: UnixTime) -> Request {
    let hands_on = wish.hands_on && !matches!(wish.shape, Shape::Swarm(_));
    let fragment = |name: String, inputs: Vec<Input>| Fragment {
        delegates: (hands_on && !inputs.is_empty()).then(|| Delegation {
            modules: vec![digest("part")],
            depth: 2,
            fuel: Demand::default().fuel,
            budget: wish.budget,
            assurance: Assurance::Attested,
        }),
        name,
        owner: None,
        module: digest("module"),
        args: Vec::new(),
        inputs,
        demand: Demand { time: Millis(wish.seconds * 1000), cpu: wish.cpu, ..Demand::default() },
        require: Requirement::any(),
    };
    let plain = |n: usize| (0..n).map(|i| fragment(format!("part {i}"), Vec::new()));
    let fragments = match wish.shape {
        Shape::Single => plain(1).collect(),
        Shape::Wide(n) => plain(n).collect(),
        Shape::Sealed => vec![fragment("reader".into(), vec![sealed(&format!("input of {name}"))])],
        Shape::Reduce => {
            let outputs = [0, 1].map(|i| Input::Output { fragment: FragmentIndex(i) });
            plain(2).chain([fragment("sum".into(), outputs.to_vec())]).collect()
        }
        Shape::Swarm(n) => {
            let outputs = (0..).map(FragmentIndex).take(n).map(|fragment| Input::Output { fragment });
            plain(n).chain([fragment("sum".into(), outputs.collect())]).collect()
        }
    };
    let swarm = match wish.shape {
        Shape::Swarm(n) => Some(SwarmTerms {
            members: if n > 3 { 3 } else { 2 },
            least: (n % 2 == 0).then_some(1),
            seat: SeatDemand {
                cpu: wish.cpu,
                memory: Demand::default().memory,
                gpus: Demand::default().gpus,
                time: Millis(wish.seconds * 1000 * 10),
            },
            speculate: Some(150),
        }),
        _ => None,
    };
    Request {
        client: client.public_key(),
        sealing: client.sealing().clone(),
        #[expect(clippy::expect_used, reason = "a constant")]
        tenant: TenantId::new("acme").expect("a tenant"),
        name: name.into(),
        created: now,
        expires: now.plus(wish.life),
        fragments,
        require: requirement(REQUIREMENTS[wish.require.min(2)]),
        prefer: Preferences { priority: Priority(wish.priority), ..Preferences::default() },
        data: Default::default(),
        swarm,
        assurance: Assurance::Attested,
        budget: wish.budget,
        nonce: digest(name),
        prev: Vec::new(),
    }
}

/// So many more seats than one of a tenth of a core, from one second on for so many.
pub(crate) fn reservation(from: UnixTime, seconds: u64, more: usize) -> ReservationTerms {
    ReservationTerms {
        #[expect(clippy::expect_used, reason = "a constant")]
        tenant: TenantId::new("acme").expect("a tenant"),
        name: format!("from-{}", from.0),
        seats: u32::try_from(more).unwrap_or(0) + 1,
        demand: Demand { cpu: Millicores(100), ..Demand::default() },
        require: Requirement::any(),
        prefer: Preferences::default(),
        data: Default::default(),
        from,
        until: from.plus(seconds),
    }
}

/// A grant beforehand, to whatever enclave the requirements admit; for requests that read no sealed object.
pub(crate) fn policy_grant(request: &Signed<Request>, issuer: &Key) -> Option<Signed<Grant>> {
    let plain = request.indexed().filter(|(_, f)| f.inputs.is_empty());
    let fragments: Vec<_> = plain.map(|(index, _)| index).collect();
    let fuel = request.fragments.iter().map(|f| f.demand.fuel).min()?;
    if fragments.is_empty() {
        return None;
    }
    let grant = Grant {
        issuer: issuer.public_key(),
        task: TaskId::new(request.digest()),
        fragments,
        subject: GrantSubject::Policy(request.require.digest()),
        modules: vec![digest("module")],
        fuel,
        budget: request.budget,
        depth: 0,
        expires: request.expires,
        releases: Vec::new(),
        delegable: None,
        prev: vec![request.digest()],
    };
    Some(sign(grant, issuer))
}

/// What a client grants when it learns which enclave is to run a fragment: keys of what it reads, wrapped to that enclave.
pub(crate) fn answer_need(
    request: &Signed<Request>,
    need: &Needs,
    issuer: &Key,
) -> Option<(Signed<Grant>, Vec<WrappedKey>)> {
    let fragment = request.fragment(need.fragment)?;
    let mut upstream = need.upstream.iter();
    let releases: Option<Vec<ObjectId>> = fragment
        .inputs
        .iter()
        .map(|input| match input {
            Input::Sealed(sealed) => Some(sealed.object),
            Input::Output { .. } => upstream.next().map(|up| up.output.object),
        })
        .collect();
    let releases = releases?;
    let recipient = need.passport.sealing.digest();
    let keys = releases.iter().map(|o| wrapped(*o, recipient)).collect();
    let grant = Grant {
        issuer: issuer.public_key(),
        task: TaskId::new(request.digest()),
        fragments: vec![need.fragment],
        subject: GrantSubject::Enclave(need.passport.enclave_id()),
        modules: vec![fragment.module],
        fuel: fragment.demand.fuel,
        budget: request.budget,
        depth: fragment.delegates.as_ref().map_or(0, |delegates| delegates.depth),
        expires: request.expires,
        releases,
        delegable: fragment.delegates.as_ref().map(|delegates| Delegable {
            modules: delegates.modules.clone(),
            fuel: delegates.fuel,
            budget: delegates.budget,
            releases: Vec::new(),
            assurance: delegates.assurance,
            require: None,
        }),
        prev: vec![request.digest()],
    };
    Some((sign(grant, issuer), keys))
}

fn wrapped(object: ObjectId, recipient: Digest) -> WrappedKey {
    WrappedKey { object, recipient, encapsulated: vec![1; 64], sealed: vec![2; 48] }
}

/// What an execution left, as an honest agent reports it.
pub(crate) fn reported(
    work: &Work,
    boot: &Key,
    passport: Digest,
    (started, finished): (UnixTime, UnixTime),
    fails: bool,
) -> Reported {
    let fragment = &work.plan.fragment;
    let name = format!("output of {} of {}", work.lease, boot.enclave());
    let output = OutputRef {
        object: object(&name),
        ciphertext: digest(&name),
        size: Bytes(10),
        commitment: Digest::of_parts(&[b"commitment", name.as_bytes()]),
    };
    let outcome = if fails { Outcome::Failed { reason: "exit-1".into() } } else { Outcome::Completed };
    let owner: &SealingPublicKey = &work.plan.owner;
    let keys = if fails { Vec::new() } else { vec![wrapped(output.object, owner.digest())] };
    let micros = finished.since(started).saturating_mul(1_000_000).min(fragment.demand.time.0 * 1000);
    let report = Report {
        enclave: boot.public_key(),
        task: work.task,
        fragment: work.plan.index,
        lease: work.lease,
        module: fragment.module,
        inputs: work.plan.inputs.iter().map(|i| i.commitment).collect(),
        seed: digest("seed"),
        outcome,
        output: (!fails).then_some(output),
        log: None,
        usage: Usage { fuel: Fuel(1000), memory_peak: Bytes::mib(1), host_calls: 3, micros },
        started,
        finished,
        answer: None,
        dissent: Vec::new(),
        monitor: None,
        prev: [work.rests_on.allocation, passport]
            .into_iter()
            .chain(work.rests_on.grants.iter().copied())
            .chain(work.rests_on.upstream.iter().copied())
            .collect(),
    };
    let reducing = fragment.is_reducing() && !fails;
    finish(report, reducing.then(|| work.rests_on.upstream.clone()), keys, boot)
}

/// Signs a report, and the aggregate over `upstream` that comes with it if it reduced.
fn finish(report: Report, upstream: Option<Vec<Digest>>, keys: Vec<WrappedKey>, boot: &Key) -> Reported {
    let report = sign(report, boot);
    let aggregate = upstream.map(|reports| {
        let aggregate = Aggregate {
            enclave: boot.public_key(),
            task: report.task,
            fragment: report.fragment,
            result: report.output.clone(),
            privacy: "none".to_owned(),
            prev: std::iter::once(report.digest()).chain(reports.iter().copied()).collect(),
            reports,
        };
        sign(aggregate, boot)
    });
    Reported { report, aggregate, keys, attached: Vec::new() }
}

/// An honest report with one thing wrong, signed by the liar itself. Gives what was altered.
pub(crate) fn altered(honest: &Reported, boot: &Key, random: &mut Random) -> (&'static str, Reported) {
    let mut report = (*honest.report).clone();
    let mut keys = honest.keys.clone();
    let what = match random.range(0, 9) {
        0 => {
            report.usage.fuel = Fuel(u64::MAX);
            "fuel"
        }
        1 => {
            report.usage.micros = u64::MAX;
            "time"
        }
        2 if report.prev.len() > 1 => {
            report.prev.swap(0, 1);
            "order of what it rests on"
        }
        3 => {
            report.prev.truncate(2);
            report.prev.push(digest("nothing"));
            "grants"
        }
        4 => {
            report.inputs.push(digest("another input"));
            "inputs"
        }
        5 => {
            report.module = digest("another module");
            "module"
        }
        6 => {
            report.finished = report.finished.plus(100_000);
            "end"
        }
        7 => {
            report.fragment = FragmentIndex(report.fragment.0.wrapping_add(1));
            "fragment"
        }
        8 => {
            report.task = TaskId::new(digest("another task"));
            "task"
        }
        _ => {
            keys.push(wrapped(object("nothing"), digest("nobody")));
            "keys"
        }
    };
    let upstream = honest.aggregate.as_ref().map(|a| a.reports.clone());
    (what, finish(report, upstream, keys, boot))
}

/// A report of a lease that was promised to another enclave.
pub(crate) fn foreign(honest: &Reported, lease: LeaseId, boot: &Key) -> Reported {
    let report = Report { lease, enclave: boot.public_key(), ..(*honest.report).clone() };
    finish(report, None, honest.keys.clone(), boot)
}

/// A request that must be refused, whoever asks.
pub(crate) fn bad_request(client: &Key, name: &str, now: UnixTime, random: &mut Random) -> (&'static str, Request) {
    let wish = Wish {
        shape: Shape::Single,
        seconds: 5,
        require: 0,
        budget: MicroUsd(1000),
        life: 600,
        cpu: Millicores(100),
        priority: 4,
        hands_on: false,
    };
    let mut request = request(client, name, &wish, now);
    let what = match random.range(0, 5) {
        0 => {
            request.fragments.clear();
            "no fragments"
        }
        1 => {
            request.fragments.iter_mut().for_each(|f| f.demand.cpu = Millicores(0));
            "no compute"
        }
        2 => {
            request.fragments.iter_mut().for_each(|f| f.demand.output = Bytes(u64::MAX));
            "an absurd output"
        }
        3 => {
            (request.created, request.expires) = (now.minus(7200), now.minus(3600));
            "over before it began"
        }
        4 => {
            (request.created, request.expires) = (now.plus(7200), now.plus(9000));
            "made in the future"
        }
        _ => {
            request.fragments.iter_mut().for_each(|f| f.inputs = vec![Input::Output { fragment: FragmentIndex(0) }]);
            "reads itself"
        }
    };
    (what, request)
}
