//! What is said of a swarm key, signed as it should be: what a stranger would begin with.

use std::sync::LazyLock;

use legation_core::{
    Digest, EnclaveId, Envelope, FragmentIndex, LeaseId, ObjectId, Predicate, ProviderId, Requirement, RevocationEpoch,
    Signed, Signer as _, SwarmName, TaskId, TenantId, Term,
    claims::TeeKind,
    custody::{
        Acceptance, Called, Chair, Charter, Committee, Confirmation, CustodyCall, Dealing, DealingRef, Epoch,
        Generation, Handover, Incarnations, NanoRho, Only, PrivacyBound, Refusal, RefusalReason, Release, ReleaseFor,
        ReleasePolicy, ReleaseRules, Released, Return, Standing, SwarmPublicKey, Threshold, Version,
    },
    dsse,
};
use legation_keys::{IdentityKey, SealingKey};

use crate::{held::HELD, world::NOW};

/// Charter and committee that the others are held against, and all of it.
pub struct Said {
    pub charter: Signed<Charter>,
    pub committee: Committee,
    all: Vec<(&'static str, Envelope)>,
    policy: ReleasePolicy,
}

/// Made once.
pub static SAID: LazyLock<Option<Said>> = LazyLock::new(said);

fn party(seed: u8) -> IdentityKey {
    IdentityKey::from_seed([seed; 32])
}

fn id(seed: u8) -> EnclaveId {
    party(seed).public_key().enclave_id()
}

/// By the party of this seed.
fn by<P: Predicate>(seed: u8, word: P) -> Envelope {
    dsse::sign(word, &party(seed)).envelope().clone()
}

fn rules() -> Option<ReleaseRules> {
    let tenant = TenantId::new("fuzz").ok()?;
    Some(ReleaseRules {
        version: Version,
        tenant: tenant.clone(),
        owner: party(9).public_key(),
        work: ReleaseFor {
            tenants: vec![tenant],
            modules: Only::Only(vec![Digest::of(b"module")]),
            purposes: Only::Any,
        },
        kinds: Only::Only(vec![TeeKind::SevSnp]),
        require: Requirement::parse("confidential == true").ok()?,
        privacy: Some(PrivacyBound { rho_max: NanoRho(500_000_000), delta_log10: -6 }),
        not_after: NOW,
    })
}

/// A committee of 2 of 3: the parties 3, 4 and 5. The operator is 1, the manager 2.
fn said() -> Option<Said> {
    let threshold = Threshold::new(2, 3).ok()?;
    let [roster, passport, ceremony] = [&b"roster"[..], b"passport", b"ceremony"].map(Digest::of);
    let charter = Charter {
        operator: party(1).public_key(),
        swarm: SwarmName::new("main").ok()?,
        number: 1,
        threshold,
        require: Requirement::parse("confidential == true").ok()?,
        per_provider_max: 1,
        epoch_seconds: 86_400,
        not_after: NOW.plus(1_000_000),
        prev: Vec::new(),
    };
    let charter = dsse::sign(charter, &party(1));
    let mut members = Vec::new();
    for (seed, provider) in [(3, "east"), (4, "north"), (5, "west")] {
        members.push(Called { enclave: id(seed), provider: ProviderId::new(provider).ok()? });
    }
    members.sort_unstable_by_key(|called| called.enclave);
    let committee = Committee {
        call: Digest::of(b"call"),
        ceremony: Digest::of(b"ceremony before"),
        epoch: Epoch(0),
        generation: Generation(0),
        roster,
        key: SwarmPublicKey::from_bytes([7; SwarmPublicKey::LEN]),
        threshold,
        members: members.clone(),
    };
    let call = CustodyCall {
        manager: party(2).public_key(),
        term: Term(1),
        charter: charter.digest(),
        generation: Generation(0),
        from: Some(Standing { epoch: Epoch(0), roster }),
        attempt: 1,
        threshold,
        members,
        removed: Vec::new(),
        revocations: RevocationEpoch(0),
        called: NOW,
        expires: NOW.plus(600),
        prev: vec![charter.digest(), Digest::of(b"appointment")],
    };
    let call = dsse::sign(call, &party(2));
    let member = party(3).public_key();
    let chair = Chair {
        call: call.digest(),
        enclave: member,
        passport,
        sealing: SealingKey::from_seed([3; 32]).public().clone(),
        prev: vec![call.digest(), passport],
    };
    let held = HELD.as_ref()?;
    let dealing = Dealing {
        ceremony,
        dealer: member,
        dealing: held.dealing.clone(),
        roster: Some(held.roster.clone()),
        prev: vec![call.digest(); 4],
    };
    let name = dealing.name();
    let acceptance = Acceptance { ceremony, member, dealings: vec![name], prev: vec![passport] };
    let other = DealingRef { dealer: id(4), dealing: Digest::of(b"dealing") };
    let refusal = Refusal { ceremony, member, dealing: other, why: RefusalReason::Mismatch, prev: vec![passport] };
    let to = Digest::of(b"roster after");
    let confirmation = Confirmation {
        ceremony,
        roster: to,
        key: committee.key.clone(),
        epoch: Epoch(1),
        member,
        dealings: vec![name],
        prev: vec![call.digest(); 2],
    };
    let handover = Handover { from: roster, to, epoch: Epoch(1), member, prev: vec![passport; 3] };
    let boot = party(6);
    let back = dsse::sign(Return::new(&committee, (boot.public_key(), passport), 1, &party(3)), &boot);
    let ack = Incarnations::default().hear(&back, &committee, party(4).public_key()).ok()?;
    let release = Release {
        custodian: member,
        roster,
        epoch: Epoch(0),
        task: TaskId::new(Digest::of(b"task")),
        fragment: FragmentIndex(0),
        lease: LeaseId(1),
        enclave: id(7),
        released: vec![Released { object: ObjectId::from_bytes([9; 16]), label: Digest::of(b"label") }],
        revocations: RevocationEpoch(0),
        at: NOW,
        prev: vec![passport; 4],
    };
    let all = vec![
        ("charter", charter.envelope().clone()),
        ("call", call.envelope().clone()),
        ("chair", by(3, chair)),
        ("dealing", by(3, dealing)),
        ("acceptance", by(3, acceptance)),
        ("refusal", by(3, refusal)),
        ("confirmation", by(3, confirmation)),
        ("handover", by(3, handover)),
        ("return", back.envelope().clone()),
        ("ack", by(4, ack)),
        ("release", by(3, release)),
    ];
    Some(Said { charter, committee, all, policy: ReleasePolicy::write(rules()?).ok()? })
}

impl Said {
    /// Whether somebody here said exactly this.
    pub fn has(&self, envelope: &Envelope) -> bool {
        self.all.iter().any(|(_, said)| said == envelope)
    }

    /// What a corpus begins with.
    pub fn seeds(&self) -> Vec<(&'static str, Vec<u8>)> {
        let words = self.all.iter().map(|(name, said)| (*name, said.to_json().into_bytes()));
        words.chain([("policy", self.policy.text().as_bytes().to_vec())]).collect()
    }
}
