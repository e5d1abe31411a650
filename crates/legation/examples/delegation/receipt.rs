//! A receipt of a fragment whose enclave made many calls to another: its statements, and how long a reader takes to judge them.

use legation::exit::Failure;
use legation_agent::attester::{Attester, DevelopmentAttester};
use legation_attest::{
    Appraiser, Judge, Roots, Verifier, admit,
    appraisal::status,
    dev::{ChipSpec, DevelopmentRoot},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, Envelope, Fuel, LeaseId, MicroUsd, Millicores, Milligpus, ProviderId, Receipt, Region, Rejection,
    RevocationEpoch, Signed, Signer, Term, UnixTime,
    claims::{Anchors, Capacity, Configuration, Evidence, Judged, KeyBinding, Rate, Role, Shelf},
    delegation::{
        Call, CallDemand,
        attenuate::{Onward, widest},
    },
    dsse,
    statement::{
        Allocation, Answer, Assurance, Committed, Ear, Grant, LoanRef, Outcome, Passport, Placement, Report, Usage,
    },
    swarm::SeatDemand,
};
use legation_keys::{IdentityKey, SealingKey};
use legation_net::OsEntropy;
use serde_json::{Value, json};

use crate::{
    failed, in_turn,
    paper::{INDEX, Paper, demand},
    quantile, round, spread, times,
};

/// An enclave with its proof.
struct Enclave {
    key: IdentityKey,
    passport: Signed<Passport>,
}

/// Takes every machine, as a development root deserves.
struct Any;

impl Appraiser for Any {
    fn appraise(&self, judged: &Judged, _: UnixTime) -> Result<Ear, Rejection> {
        let vector = [("hardware".to_owned(), 32)].into();
        Ok(Ear {
            status: status(&vector),
            vector,
            policy: "bench".to_owned(),
            policy_digest: Digest::of(b"bench"),
            tcb: judged.claims.tcb.value.clone(),
            images: Vec::new(),
            grace: None,
        })
    }

    fn passport_seconds(&self) -> u64 {
        600
    }
}

/// The pool of the receipt: two machines, and who trusts them.
struct Pool {
    paper: Paper,
    root: DevelopmentRoot,
    anchors: Anchors,
    judge: Judge,
    evidence: Vec<Evidence>,
}

impl Pool {
    fn new() -> Result<Self, Failure> {
        let paper = Paper::new(1)?;
        let root = DevelopmentRoot::generate("bench", paper.at.minus(60)).map_err(failed)?;
        let anchors = Anchors {
            operators: vec![paper.operator.public_key()],
            development: vec![root.anchor()],
            ..Anchors::default()
        };
        let judge = Judge::new(Roots::new(&anchors).map_err(failed)?);
        Ok(Self { paper, root, anchors, judge, evidence: Vec::new() })
    }

    /// An enclave on a chip of its own.
    fn enclave(&mut self, chip: u8) -> Result<Enclave, Failure> {
        let at = self.paper.at;
        let tcb = TcbVersion { fmc: None, bootloader: 3, tee: 0, snp: 20, microcode: 200 };
        let spec = ChipSpec { product: Product::Milan, chip_id: [chip; 64], tcb };
        let chip = self.root.issue(&spec, at.minus(60)).map_err(failed)?;
        let attester = DevelopmentAttester::of(chip, Digest::of(b"image"));
        let (key, sealing) = (IdentityKey::generate(&mut OsEntropy), SealingKey::generate(&mut OsEntropy));
        let configuration = Configuration {
            provider: ProviderId::new("aurora").map_err(failed)?,
            region: Region::new("eu-north").map_err(failed)?,
            capacity: Capacity { cpu: Millicores(1000), memory: Bytes::gib(2), slots: 4 },
            rate: Rate { core_hour: MicroUsd(10_000), gib_hour: MicroUsd(1000) },
            slot: 0,
            operators: vec![self.paper.operator.public_key()],
            advertise: None,
            prover: None,
            custody: None,
        };
        let encoded = configuration.encode();
        let nonce = Digest::of(b"nonce");
        let binding = KeyBinding {
            role: Role::Agent,
            identity: key.public_key(),
            sealing: sealing.public().clone(),
            image: attester.image(),
            configuration: Digest::of(&encoded),
            not_before: at.minus(60),
            not_after: at.plus(86_400),
            nonce,
        };
        let evidence = attester.attest(&binding.encode(), &encoded).map_err(failed)?;
        let verifier = Verifier {
            signer: &self.paper.verifier,
            appointment: &self.paper.verifiers,
            judge: &self.judge,
            policy: &Any,
        };
        let passport = admit(&verifier, &evidence, &Shelf::empty(), &nonce, at).map_err(failed)?;
        self.evidence.push(evidence);
        Ok(Enclave { key, passport })
    }

    /// The manager's promise of an enclave: of the fragment, or of a loan under it.
    fn allocation(&self, lease: u64, to: &Enclave, of: Option<&Signed<Allocation>>) -> Signed<Allocation> {
        let (paper, demand) = (&self.paper, demand());
        let passport = to.passport.predicate();
        let set_aside = SeatDemand { cpu: demand.cpu, memory: demand.memory, gpus: Milligpus::ZERO, time: demand.time };
        let loan = of.map(|of| LoanRef { of: of.lease, borrower: of.enclave, number: 1, demand: set_aside });
        let allocation = Allocation {
            manager: paper.manager.public_key(),
            term: Term(1),
            task: paper.task(),
            fragment: INDEX,
            lease: LeaseId(lease),
            from: paper.at,
            until: paper.at.plus(300),
            enclave: passport.enclave_id(),
            provider: passport.configuration.provider.clone(),
            region: passport.configuration.region.clone(),
            price_hour: passport.configuration.rate.per_hour(demand.cpu, demand.memory),
            limits: None,
            why: Placement { considered: 2, eligible: 2, passed_over: Vec::new(), decided_by: "price".to_owned() },
            revocations: RevocationEpoch(0),
            seat: None,
            loan,
            prev: [paper.request.digest(), paper.managers.digest()].into_iter().chain(of.map(Signed::digest)).collect(),
        };
        dsse::sign(allocation, &paper.manager)
    }

    /// A report, but for what it rests on after allocation and passport.
    fn report(&self, by: &Enclave, allocation: &Signed<Allocation>) -> Report {
        Report {
            enclave: by.key.public_key(),
            task: self.paper.task(),
            fragment: INDEX,
            lease: allocation.lease,
            module: self.paper.part,
            inputs: Vec::new(),
            seed: Digest::of(b"seed"),
            outcome: Outcome::Completed,
            output: None,
            log: None,
            usage: Usage { fuel: Fuel(1000), memory_peak: Bytes::kib(64), host_calls: 3, micros: 1000 },
            started: self.paper.at.plus(1),
            finished: self.paper.at.plus(2),
            answer: None,
            dissent: Vec::new(),
            monitor: None,
            prev: vec![allocation.digest(), by.passport.digest()],
        }
    }
}

/// Commits to something of 4 KiB.
fn committed(what: &str, number: u64) -> Committed {
    Committed { size: Bytes::kib(4), commitment: Digest::of(format!("{what} {number}").as_bytes()) }
}

/// A receipt of so many calls, and what its reader trusts.
fn receipt(calls: u64) -> Result<(Receipt, Anchors), Failure> {
    let mut pool = Pool::new()?;
    let (lead, lent) = (pool.enclave(1)?, pool.enclave(2)?);
    let own = pool.allocation(1, &lead, None);
    let loan = pool.allocation(2, &lent, Some(&own));
    let paper = &pool.paper;
    let root = paper.grant(own.enclave)?;
    let child =
        widest(std::slice::from_ref(&root), lead.key.public_key(), INDEX, (loan.enclave, loan.until), Onward::NOTHING);
    let child: Signed<Grant> = dsse::sign(child.map_err(failed)?, &lead.key);
    let mut all: Vec<Envelope> = vec![
        paper.managers.envelope().clone(),
        paper.verifiers.envelope().clone(),
        paper.request.envelope().clone(),
        lead.passport.envelope().clone(),
        lent.passport.envelope().clone(),
        own.envelope().clone(),
        loan.envelope().clone(),
        root.envelope().clone(),
        child.envelope().clone(),
    ];
    let mut last = pool.report(&lead, &own);
    last.module = paper.request.fragment(INDEX).ok_or_else(|| failed("no fragment"))?.module;
    last.prev.push(root.digest());
    for number in 1..=calls {
        let call = Call {
            delegator: lead.key.public_key(),
            task: paper.task(),
            fragment: INDEX,
            loan: loan.lease,
            number,
            question: Digest::of(&number.to_be_bytes()),
            challenge: Digest::of(b"challenge"),
            module: paper.part,
            args: Vec::new(),
            input: committed("input", number),
            demand: CallDemand {
                fuel: Fuel(1_000_000),
                memory: demand().memory,
                time: demand().time,
                output: Bytes::mib(1),
            },
            assurance: Assurance::Attested,
            created: paper.at,
            expires: paper.at.plus(100),
            prev: vec![loan.digest(), child.digest()],
        };
        let call = dsse::sign(call, &lead.key);
        let mut answer = pool.report(&lent, &loan);
        answer.inputs = vec![call.input.commitment];
        answer.seed = call.question;
        answer.answer = Some(Answer {
            call: call.digest(),
            output: Some(committed("output", number)),
            trace: Digest::of(b"trace"),
        });
        answer.prev.extend([child.digest(), call.digest()]);
        let answer = dsse::sign(answer, &lent.key);
        last.prev.push(answer.digest());
        all.extend([call.envelope().clone(), answer.envelope().clone()]);
    }
    let last = dsse::sign(last, &lead.key);
    all.push(last.envelope().clone());
    let roots = vec![last.digest()];
    let receipt = Receipt::assemble(paper.task(), RevocationEpoch(0), roots, all, pool.evidence, []).map_err(failed)?;
    Ok((receipt, pool.anchors))
}

/// `calls` in the receipt, and how often it is read.
pub(crate) fn measure((calls, rounds): (u64, usize)) -> Result<Value, Failure> {
    let (made, anchors) = receipt(calls)?;
    let text = made.to_text();
    let links = made.envelopes.len();
    let read = || {
        // As a reader does who begins with the file: no judge that has seen these chips before.
        let judge = Judge::new(Roots::new(&anchors).map_err(failed)?);
        let receipt = Receipt::from_text(text.as_bytes()).map_err(failed)?;
        receipt.verify(&anchors, &judge).map_err(failed)
    };
    // What nothing can do without: as many signatures, over texts as long as the statements are on average.
    let key = IdentityKey::generate(&mut OsEntropy);
    let mean = made.envelopes.iter().map(|envelope| envelope.payload().len()).sum::<usize>() / links.max(1);
    let message = vec![7_u8; mean];
    let (public, signature) = (key.public_key(), key.sign(&message));
    let signatures = || (0..links).try_for_each(|_| public.verify(&message, &signature).map_err(failed));
    let (took, signed) = in_turn(rounds, read, signatures)?;
    let parsed = times(rounds, || Receipt::from_text(text.as_bytes()).map_err(failed))?;
    let per_link = quantile(&took, 0.5) / f64::from(u32::try_from(links).map_err(failed)?);
    let ms = |figures: &[f64]| spread(&figures.iter().map(|us| us / 1000.0).collect::<Vec<_>>());
    Ok(json!({
        "what": "a receipt of calls, from its text to the verdict, in one thread; evidence is judged anew each time",
        "links": links, "bytes": text.len(), "rounds": rounds,
        "verified_ms": ms(&took), "of_that_parsing_ms": ms(&parsed), "per_link_us": round(per_link),
        "as_many_signatures_of_the_library_ms": ms(&signed),
        "aim": { "links": 1000, "verified_ms": 100 },
        "met": links >= 1000 && quantile(&took, 0.5) <= 100_000.0,
    }))
}
