//! Receipts with proofs of execution, read with a program that judges proofs: one that is honest, and ones that are not. The honest
//! one believes a proof which is its public value in words.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use legation::{
    exit::Exit,
    run::now,
    verify::{Answer, PINNED, ProverProgram, Reader, had_no_answer, without_bad},
};
use legation_agent::attester::{Attester, DevelopmentAttester};
use legation_attest::{
    Appraiser, Judge, Roots, Verifier, admit,
    appraisal::status,
    dev::{ChipSpec, DevelopmentRoot},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, Envelope, FragmentIndex, Fuel, LeaseId, MicroUsd, Millicores, Millis, ProviderId, Receipt, Region,
    Rejection, Requirement, RevocationEpoch, Signed, Signer, TaskId, TenantId, Term, UnixTime,
    claims::{Anchors, Capacity, Configuration, Evidence, Judged, KeyBinding, Rate, Role, Shelf},
    delegation::{
        Call, CallDemand,
        attenuate::{Onward, widest},
    },
    dsse,
    encoding::hex,
    prefer::{DataTerms, Sensitivity},
    proven::{ExecutionJudge, ProofItem, ProofState},
    statement::{
        Allocation, Answer as Answered, Appointment, Assurance, Committed, Delegable, Ear, ExecutionClaim,
        ExecutionProof, Grant, GrantSubject, LoanRef, Office, Outcome, Passport, Placement, Report, Request, Usage,
    },
    swarm::SeatDemand,
    task::{Delegation, Demand, Fragment},
};
use legation_keys::{IdentityKey, SealingKey};
use legation_net::OsEntropy;
use serde_json::json;
use tempfile::TempDir;

use crate::world::{Ran, program};

const INDEX: FragmentIndex = FragmentIndex(0);
/// Commitment to the program of these tests.
const COMMITMENT: [u8; 2] = [0x00, 0xff];
const KEY: &[u8] = b"a verifying key";

/// What is pinned here, by its name.
fn name() -> Digest {
    Digest::of_parts(&[b"legation-program-v1", Digest::of(KEY).as_bytes(), &COMMITMENT])
}

/// Takes every machine, as a development root deserves.
struct Any;

impl Appraiser for Any {
    fn appraise(&self, judged: &Judged, _: UnixTime) -> Result<Ear, Rejection> {
        let vector = [("hardware".to_owned(), 32)].into();
        Ok(Ear {
            status: status(&vector),
            vector,
            policy: "test".to_owned(),
            policy_digest: Digest::of(b"test"),
            tcb: judged.claims.tcb.value.clone(),
            images: Vec::new(),
            grace: None,
        })
    }

    fn passport_seconds(&self) -> u64 {
        600
    }
}

fn demand() -> Demand {
    Demand {
        cpu: Millicores(100),
        memory: Bytes::mib(16),
        fuel: Fuel(1_000_000_000),
        time: Millis(60_000),
        output: Bytes::mib(1),
        ..Demand::default()
    }
}

/// Who signs in the receipt of these tests.
struct Hands {
    at: UnixTime,
    operator: IdentityKey,
    manager: IdentityKey,
    verifier: IdentityKey,
    client: IdentityKey,
    root: DevelopmentRoot,
    anchors: Anchors,
    evidence: Vec<Evidence>,
}

/// A receipt whose one call was to be proven, the claim of its answer, and what its reader trusts.
struct Made {
    receipt: Receipt,
    anchors: Anchors,
    answer: Digest,
    claim: ExecutionClaim,
}

impl Hands {
    fn new() -> Self {
        let at = now();
        let [operator, manager, verifier, client] = [(); 4].map(|()| IdentityKey::generate(&mut OsEntropy));
        let root = DevelopmentRoot::generate("proofs", at.minus(60)).unwrap();
        let anchors =
            Anchors { operators: vec![operator.public_key()], development: vec![root.anchor()], ..Anchors::default() };
        Self { at, operator, manager, verifier, client, root, anchors, evidence: Vec::new() }
    }

    fn appoint(&self, key: &IdentityKey, office: Office) -> Signed<Appointment> {
        let appointment = Appointment {
            operator: self.operator.public_key(),
            key: key.public_key(),
            office,
            scope: None,
            not_before: self.at.minus(3600),
            not_after: self.at.plus(86_400),
        };
        dsse::sign(appointment, &self.operator)
    }

    /// An enclave on a chip of its own.
    fn enclave(&mut self, chip: u8, verifiers: &Signed<Appointment>) -> (IdentityKey, Signed<Passport>) {
        let tcb = TcbVersion { fmc: None, bootloader: 3, tee: 0, snp: 20, microcode: 200 };
        let spec = ChipSpec { product: Product::Milan, chip_id: [chip; 64], tcb };
        let chip = self.root.issue(&spec, self.at.minus(60)).unwrap();
        let attester = DevelopmentAttester::of(chip, Digest::of(b"image"));
        let (key, sealing) = (IdentityKey::generate(&mut OsEntropy), SealingKey::generate(&mut OsEntropy));
        let configuration = Configuration {
            provider: ProviderId::new("aurora").unwrap(),
            region: Region::new("eu-north").unwrap(),
            capacity: Capacity { cpu: Millicores(1000), memory: Bytes::gib(2), slots: 4 },
            rate: Rate { core_hour: MicroUsd(10_000), gib_hour: MicroUsd(1000) },
            slot: 0,
            operators: vec![self.operator.public_key()],
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
            not_before: self.at.minus(60),
            not_after: self.at.plus(86_400),
            nonce,
        };
        let evidence = attester.attest(&binding.encode(), &encoded).unwrap();
        let judge = Judge::new(Roots::new(&self.anchors).unwrap());
        let verifier = Verifier { signer: &self.verifier, appointment: verifiers, judge: &judge, policy: &Any };
        let passport = admit(&verifier, &evidence, &Shelf::empty(), &nonce, self.at).unwrap();
        self.evidence.push(evidence);
        (key, passport)
    }

    fn request(&self, part: Digest) -> Signed<Request> {
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
                depth: 1,
                fuel: Fuel(100_000_000_000),
                budget: MicroUsd(500_000),
                assurance: Assurance::Proven,
            }),
        };
        let request = Request {
            client: self.client.public_key(),
            sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
            tenant: TenantId::new("acme").unwrap(),
            name: "proofs".to_owned(),
            created: self.at,
            expires: self.at.plus(3600),
            fragments: vec![fragment],
            require: Requirement::any(),
            prefer: Default::default(),
            data: DataTerms { sensitivity: Sensitivity::Internal, ..DataTerms::default() },
            swarm: None,
            assurance: Assurance::Attested,
            budget: MicroUsd(1_000_000),
            nonce: Digest::of(b"nonce"),
            prev: Vec::new(),
        };
        dsse::sign(request, &self.client)
    }

    fn allocation(
        &self,
        lease: u64,
        to: &Signed<Passport>,
        of: Option<&Signed<Allocation>>,
        prev: &[Digest],
    ) -> Signed<Allocation> {
        let demand = demand();
        let set_aside = SeatDemand { cpu: demand.cpu, memory: demand.memory, gpus: demand.gpus, time: demand.time };
        let loan = of.map(|of| LoanRef { of: of.lease, borrower: of.enclave, number: 1, demand: set_aside });
        let configuration = &to.configuration;
        let allocation = Allocation {
            manager: self.manager.public_key(),
            term: Term(1),
            task: TaskId::new(prev[0]),
            fragment: INDEX,
            lease: LeaseId(lease),
            from: self.at,
            until: self.at.plus(300),
            enclave: to.enclave_id(),
            provider: configuration.provider.clone(),
            region: configuration.region.clone(),
            price_hour: configuration.rate.per_hour(demand.cpu, demand.memory),
            limits: None,
            why: Placement { considered: 2, eligible: 2, passed_over: Vec::new(), decided_by: "price".to_owned() },
            revocations: RevocationEpoch(0),
            seat: None,
            loan,
            prev: prev.iter().copied().chain(of.map(Signed::digest)).collect(),
        };
        dsse::sign(allocation, &self.manager)
    }

    /// A report of `module`, but for what it rests on after allocation and passport.
    fn report(
        &self,
        key: &IdentityKey,
        passport: &Signed<Passport>,
        under: &Signed<Allocation>,
        module: Digest,
    ) -> Report {
        Report {
            enclave: key.public_key(),
            task: under.task,
            fragment: INDEX,
            lease: under.lease,
            module,
            inputs: Vec::new(),
            seed: Digest::of(b"seed"),
            outcome: Outcome::Completed,
            output: None,
            log: None,
            usage: Usage { fuel: Fuel(1000), memory_peak: Bytes::kib(64), host_calls: 3, micros: 1000 },
            started: self.at.plus(1),
            finished: self.at.plus(2),
            answer: None,
            dissent: Vec::new(),
            monitor: None,
            prev: vec![under.digest(), passport.digest()],
        }
    }
}

fn committed(what: &str) -> Committed {
    Committed { size: Bytes::kib(4), commitment: Digest::of(what.as_bytes()) }
}

fn make() -> Made {
    let mut hands = Hands::new();
    let part = Digest::of(b"the module that is called");
    let managers = hands.appoint(&hands.manager, Office::Manager);
    let verifiers = hands.appoint(&hands.verifier, Office::Verifier);
    let request = hands.request(part);
    let ((lead, lead_passport), (lent, lent_passport)) = (hands.enclave(1, &verifiers), hands.enclave(2, &verifiers));
    let prev = [request.digest(), managers.digest()];
    let own = hands.allocation(1, &lead_passport, None, &prev);
    let loan = hands.allocation(2, &lent_passport, Some(&own), &prev);
    let passed = request.fragments[0].delegates.as_ref().unwrap();
    let root = Grant {
        issuer: hands.client.public_key(),
        task: own.task,
        fragments: vec![INDEX],
        subject: GrantSubject::Enclave(own.enclave),
        modules: vec![request.fragments[0].module],
        fuel: demand().fuel,
        budget: request.budget,
        depth: passed.depth,
        expires: request.expires,
        releases: Vec::new(),
        delegable: Some(Delegable {
            modules: passed.modules.clone(),
            fuel: passed.fuel,
            budget: passed.budget,
            releases: Vec::new(),
            assurance: passed.assurance,
            require: None,
        }),
        prev: vec![request.digest()],
    };
    let root = dsse::sign(root, &hands.client);
    let parents = std::slice::from_ref(&root);
    let child = widest(parents, lead.public_key(), INDEX, (loan.enclave, loan.until), Onward::NOTHING).unwrap();
    let child = dsse::sign(child, &lead);
    let call = Call {
        delegator: lead.public_key(),
        task: own.task,
        fragment: INDEX,
        loan: loan.lease,
        number: 1,
        question: Digest::of(b"question"),
        challenge: Digest::of(b"challenge"),
        module: part,
        args: vec!["--part".to_owned()],
        input: committed("input"),
        demand: CallDemand {
            fuel: Fuel(1_000_000),
            memory: demand().memory,
            time: demand().time,
            output: Bytes::mib(1),
        },
        assurance: Assurance::Proven,
        created: hands.at,
        expires: hands.at.plus(100),
        prev: vec![loan.digest(), child.digest()],
    };
    let call = dsse::sign(call, &lead);
    let mut answer = hands.report(&lent, &lent_passport, &loan, part);
    answer.inputs = vec![call.input.commitment];
    answer.seed = call.question;
    let output = Some(committed("output"));
    answer.answer = Some(Answered { call: call.digest(), output, trace: Digest::of(b"trace") });
    answer.prev.extend([child.digest(), call.digest()]);
    let answer = dsse::sign(answer, &lent);
    let mut last = hands.report(&lead, &lead_passport, &own, request.fragments[0].module);
    last.prev.extend([root.digest(), answer.digest()]);
    let last = dsse::sign(last, &lead);
    let envelopes: Vec<Envelope> = vec![
        managers.envelope().clone(),
        verifiers.envelope().clone(),
        request.envelope().clone(),
        lead_passport.envelope().clone(),
        lent_passport.envelope().clone(),
        own.envelope().clone(),
        loan.envelope().clone(),
        root.envelope().clone(),
        child.envelope().clone(),
        call.envelope().clone(),
        answer.envelope().clone(),
        last.envelope().clone(),
    ];
    let roots = vec![last.digest()];
    let receipt = Receipt::assemble(own.task, RevocationEpoch(0), roots, envelopes, hands.evidence, []).unwrap();
    let claim = ExecutionClaim::of(&answer, &call.args, request.created).unwrap();
    Made { receipt, anchors: hands.anchors, answer: answer.digest(), claim }
}

/// Made once: the keys of a development root take seconds.
fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(make)
}

impl Made {
    /// The receipt with a proof of its answer, of this program and in these words.
    fn with(&self, program: Digest, proof: &str) -> Receipt {
        let prover = IdentityKey::generate(&mut OsEntropy);
        let statement = ExecutionProof {
            prover: prover.public_key(),
            report: self.answer,
            claim: self.claim.clone(),
            program,
            proof: Digest::of(proof.as_bytes()),
            size: Bytes(u64::try_from(proof.len()).unwrap()),
            made: now(),
            prev: vec![self.answer],
        };
        let statement = dsse::sign(statement, &prover).envelope().clone();
        let item = ProofItem { statement, proof: proof.as_bytes().to_vec() };
        self.receipt.clone().with_proofs([item])
    }

    fn good(&self) -> Receipt {
        self.with(name(), &self.claim.public_value().to_string())
    }
}

/// Reads `$proof`, and has the digest of it in `$sum`. `$7` is the program that is asked about, `$9` the public value.
const READ: &str = r#"proof=$(cat "${11}"); sum=$(printf %s "$proof" | sha256sum | cut -d' ' -f1)"#;
/// Says so in the form of the real program: `said VERDICT CHECK`.
const SAY: &str = r#"
say() { printf '{"good":%s,"program":"%s","public":"%s","proof":"%s","seconds":0.05%s}\n' "$1" "$2" "$3" "$4" "$5"; }
why() { printf ',"why":{"check":"%s","claim":"proof","expected":"a good one","got":"another","fix":""}' "$1"; }"#;
const HONEST: &str = r#"
[ "$1 $2 $4 $6 $8 ${10}" = "verify --pinned --key --program --public --proof" ] || exit 2
[ -z "$CARGO$CARGO_MANIFEST_DIR" ] && [ -s "$3" ] && [ -s "$5" ] || exit 2
if [ "$proof" = "$9" ]; then say true "$7" "$9" "$sum" ""; exit 0; fi
say false "$7" "$9" "$sum" "$(why proof.wrong)"; exit 6"#;

/// A folder with what is pinned and a program that judges proofs so.
struct Provers(TempDir);

impl Provers {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let elf = Digest::of(b"elf");
        let pinned = json!({ "version": "legation-program/v1", "openvm": "2.0.2", "wasmi": "2.0.0", "stacked_height": 22,
            "elf": elf, "commitment": hex(&COMMITMENT), "key": Digest::of(KEY) });
        fs::write(dir.path().join(PINNED), pinned.to_string()).unwrap();
        fs::write(dir.path().join("verifying.key"), KEY).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Written by another process: a file that a child of this one still holds open for writing cannot be run.
    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let text = format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{body}\n");
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        path
    }

    fn honest(&self) -> PathBuf {
        self.script("honest", &format!("{READ}{SAY}{HONEST}"))
    }

    fn open(&self, program: &Path) -> ProverProgram {
        ProverProgram::open(program, &self.path(PINNED)).unwrap()
    }

    async fn verify(&self, receipt: &Receipt, more: &[&str]) -> Ran {
        fs::write(self.path("receipt.json"), receipt.to_text()).unwrap();
        fs::write(self.path("anchors.json"), serde_json::to_string(&made().anchors).unwrap()).unwrap();
        program(self.0.path(), None, &[&["receipt", "verify", "receipt.json"][..], more].concat()).await
    }
}

#[tokio::test]
async fn a_receipt_says_what_is_proven_and_what_is_not_yet() {
    let provers = Provers::new();
    provers.honest();
    let asked = ["--prover", "honest", "--pinned", PINNED];
    let made = made();
    fs::write(provers.path("proven.toml"), "assurance_of_calls = \"proven\"").unwrap();
    let demanded = [&asked[..], &["--policy", "proven.toml"]].concat();

    // Whoever waits for the proof reads what there is.
    let out = provers.verify(&made.receipt, &asked).await.ended(0, &[]).out();
    assert!(out.contains("(attested; proof: awaited)") && out.contains("proofs of execution: 1 awaited"), "{out}");
    let out = provers.verify(&made.receipt, &demanded).await.ended(9, &[]).out();
    assert!(out.contains("not met: demand.assurance_of_calls"), "{out}");

    let out = provers.verify(&made.good(), &demanded).await.ended(0, &[]).out();
    assert!(out.contains("(proven; proof: good)") && out.contains("proofs of execution: 1 good"), "{out}");
    let json = provers.verify(&made.good(), &[&demanded[..], &["--json"]].concat()).await.ended(0, &[]).json();
    let answer = &json["executions"][1];
    assert_eq!((&answer["assurance"], &answer["proof"]), (&"proven".into(), &"good".into()), "{json}");
    assert!(json["executions"][0].get("proof").is_none(), "nobody asked to prove the fragment: {json}");

    // Without a judge, and with one who knows another program, nothing is proven; it is said, and nothing is refused.
    let other = made.with(Digest::of(b"other"), &made.claim.public_value().to_string());
    let nobody: [&str; 0] = [];
    for (receipt, more) in [(&made.good(), &nobody[..]), (&other, &asked[..])] {
        let out = provers.verify(receipt, more).await.ended(0, &[]).out();
        assert!(out.contains("(attested; proof: not judged)") && out.contains("warning: the proof of report"), "{out}");
        let unmet = [more, &["--policy", "proven.toml"]].concat();
        provers.verify(receipt, &unmet).await.ended(9, &[]);
    }
}

#[tokio::test]
async fn a_proof_that_is_not_good_makes_the_receipt_invalid() {
    let provers = Provers::new();
    provers.honest();
    let asked = ["--prover", "honest", "--pinned", PINNED];
    let bad = made().with(name(), "something else");
    let out = provers.verify(&bad, &asked).await.ended(6, &[]).out();
    assert!(out.starts_with("receipt INVALID at proof ") && out.contains("proof.wrong"), "{out}");
    let json = provers.verify(&bad, &[&asked[..], &["--json"]].concat()).await.ended(6, &[]).json();
    assert_eq!((&json["verdict"], &json["why"]["check"]), (&"invalid".into(), &"proof.wrong".into()), "{json}");
    // A byte of the file is as good as any other: the statement no longer names the proof.
    let mut altered = made().good();
    altered.proofs[0].proof[3] ^= 1;
    let out = provers.verify(&altered, &asked).await.ended(6, &[]).out();
    assert!(out.contains("proof.bytes"), "{out}");
}

#[test]
fn whoever_writes_a_receipt_leaves_out_the_proofs_that_are_not_good() {
    let provers = Provers::new();
    let (made, honest) = (made(), provers.open(&provers.honest()));
    let silent = provers.open(&provers.script("silent", "exit 0"));
    let other = made.with(Digest::of(b"other"), "whatever");
    let mut altered = made.good();
    altered.proofs[0].proof[3] ^= 1;
    let cases = [
        ("good", made.good(), &honest, None),
        ("of a program that is not known here", other, &honest, None),
        ("bad", made.with(name(), "something else"), &honest, Some("proof.wrong")),
        ("altered", altered, &honest, Some("proof.bytes")),
        ("no answer", made.good(), &silent, Some("proof.prover")),
    ];
    for (what, receipt, judge, why) in cases {
        let (left, out) = without_bad(receipt.clone(), judge);
        let said: Vec<_> = out.iter().map(|one| (one.proof, one.why.check.as_str())).collect();
        let digest = receipt.proofs[0].statement.digest();
        assert_eq!(said, why.map(|why| (digest, why)).into_iter().collect::<Vec<_>>(), "{what}");
        assert_eq!(left, if why.is_some() { made.receipt.clone() } else { receipt }, "{what}");
    }
}

#[tokio::test]
async fn a_receipt_can_be_had_without_a_proof_of_it() {
    let provers = Provers::new();
    provers.honest();
    let bad = made().with(name(), "something else");
    let asked = ["--prover", "honest", "--pinned", PINNED];
    provers.verify(&bad, &asked).await.ended(6, &[]);
    let named = bad.proofs[0].statement.digest().short();
    let strip = ["receipt", "strip", "receipt.json", "--out", "less.json"];
    let (all, one): ([&str; 0], _) = ([], ["--proof", named.as_str()]);
    for more in [&all[..], &one[..]] {
        program(provers.0.path(), None, &[&strip[..], more].concat()).await.ended(0, &["0 of 1 proofs"]);
        assert_eq!(fs::read_to_string(provers.path("less.json")).unwrap(), made().receipt.to_text());
    }
    let unknown = [&strip[..], &["--proof", "none"]].concat();
    program(provers.0.path(), None, &unknown).await.ended(2, &["0 proofs of execution"]);
}

#[tokio::test]
async fn a_program_that_gives_no_answer_gives_no_verdict() {
    let provers = Provers::new();
    provers.script("garbage", "cat \"${11}\" >/dev/null; echo '{\"error\":\"no key\"}'; exit 1");
    let ran = provers.verify(&made().good(), &["--prover", "garbage", "--pinned", PINNED]).await;
    let ran = ran.ended(1, &["proof.prover", "no key"]);
    assert!(ran.stdout.is_empty(), "nothing is said of a receipt that was not judged: {}", ran.out());

    // What is not there, or not what it should be, is wrong usage; and a name is a file, not something in PATH.
    provers.honest();
    fs::write(provers.path("none.json"), "{}").unwrap();
    fs::create_dir(provers.path("keyless")).unwrap();
    fs::copy(provers.path(PINNED), provers.path("keyless/PINNED.json")).unwrap();
    for (more, said) in [
        (&["--prover", "honest"][..], "--pinned"),
        (&["--pinned", PINNED][..], "--prover"),
        (&["--prover", "sh", "--pinned", PINNED][..], "cannot use sh"),
        (&["--prover", "honest", "--pinned", "absent.json"][..], "absent.json"),
        (&["--prover", "honest", "--pinned", "none.json"][..], "none.json"),
        (&["--prover", "honest", "--pinned", "keyless/PINNED.json"][..], "verifying.key"),
    ] {
        provers.verify(&made().good(), more).await.ended(2, &[said]);
    }
}

/// Every answer but a whole one about this proof is none, and comes in time.
#[test]
fn whatever_the_program_does_it_is_bounded_and_believed_only_about_what_was_asked() {
    let provers = Provers::new();
    let (program, public) = (name(), made().claim.public_value());
    let proof = public.to_string();
    let judge = |prover: &Path| {
        let judge = provers.open(prover).limited(Duration::from_secs(5));
        judge.judge(&program, &public, proof.as_bytes())
    };
    assert_eq!(judge(&provers.honest()), Ok(()));
    let zeros = "0".repeat(64);
    let cases = [
        ("silent", "exit 0".to_owned()),
        ("garbage", "echo good".to_owned()),
        ("killed", "kill -9 $$".to_owned()),
        ("deaf", "exec </dev/null; exit 0".to_owned()),
        ("large", "exec head -c 1073741824 /dev/zero".to_owned()),
        ("endless", "exec cat /dev/zero".to_owned()),
        ("other program", format!("{READ}{SAY}\nsay true {zeros} \"$9\" \"$sum\" ''")),
        ("other public", format!("{READ}{SAY}\nsay true \"$7\" {zeros} \"$sum\" ''")),
        ("other proof", format!("{READ}{SAY}\nsay true \"$7\" \"$9\" {zeros} ''")),
        ("good and bad", format!("{READ}{SAY}\nsay true \"$7\" \"$9\" \"$sum\" ''; exit 6")),
        ("good but failed", format!("{READ}{SAY}\nsay true \"$7\" \"$9\" \"$sum\" ''; exit 1")),
        ("good with a reason", format!("{READ}{SAY}\nsay true \"$7\" \"$9\" \"$sum\" \"$(why proof.wrong)\"")),
        ("bad and good", format!("{READ}{SAY}\nsay false \"$7\" \"$9\" \"$sum\" \"$(why proof.wrong)\"; exit 0")),
        ("bad for no reason", format!("{READ}{SAY}\nsay false \"$7\" \"$9\" \"$sum\" ''; exit 6")),
        // Only the reader says which programs are known.
        ("bad as unknown", format!("{READ}{SAY}\nsay false \"$7\" \"$9\" \"$sum\" \"$(why proof.program)\"; exit 6")),
        ("more than asked", format!("{READ}{SAY}\nsay true \"$7\" \"$9\" \"$sum\" ',\"trust\":1'")),
        ("twice", format!("{READ}{SAY}\nsay true \"$7\" \"$9\" \"$sum\" ''; say true \"$7\" \"$9\" \"$sum\" ''")),
    ];
    for (what, body) in &cases {
        let why = judge(&provers.script("liar", body)).unwrap_err();
        assert!(had_no_answer(&why), "{what}: {why}");
    }
    // One that hangs, before and after it has spoken.
    for body in ["exec sleep 600", "exec >&-; exec sleep 600"] {
        let slow = provers.script("slow", body);
        let began = Instant::now();
        let judge = provers.open(&slow).limited(Duration::from_millis(500));
        let why = judge.judge(&program, &public, proof.as_bytes()).unwrap_err();
        assert!(had_no_answer(&why) && why.got.contains("longer"), "{body}: {why}");
        assert!(began.elapsed() < Duration::from_secs(60), "{body}");
    }
    // Another program's proofs are not shown to it.
    let honest = provers.open(&provers.script("touch", "touch \"$0.asked\""));
    let why = honest.judge(&Digest::of(b"other"), &public, proof.as_bytes()).unwrap_err();
    assert!(why.check == "proof.program" && !had_no_answer(&why), "{why}");
    assert!(!provers.path("touch.asked").exists());
}

#[test]
fn the_library_asks_whomever_the_reader_names() {
    let provers = Provers::new();
    let prover = provers.open(&provers.honest());
    assert_eq!(prover.name(), name());
    let made = made();
    let reader = Reader { proofs: Some(&prover), ..Reader::new(&made.anchors) };
    let judgement = reader.judge(made.good().to_text().as_bytes()).unwrap();
    let Answer::Valid(verdict) = &judgement.answer else { panic!("{judgement:?}") };
    let proofs: Vec<_> = verdict.executions.iter().map(|ran| (ran.assurance, ran.proof)).collect();
    assert_eq!(proofs, [(Assurance::Attested, None), (Assurance::Proven, Some(ProofState::Good))]);
    let liar = provers.open(&provers.script("liar", "exit 0"));
    let reader = Reader { proofs: Some(&liar), ..Reader::new(&made.anchors) };
    let failure = reader.judge(made.good().to_text().as_bytes()).unwrap_err();
    assert_eq!(failure.exit, Exit::Failure);
}
