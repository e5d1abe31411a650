// The words of statements and evidence: crates/legation-core/src/{claims,statement,task,swarm,delegation,monitor}.rs and custody/
// as shapes.
// Digests, keys and names stay the texts they are written as; whole numbers are BigInts.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { shape, malformed, unhex, unbase64, digest, concat, utf8 } = legation;
  const { string, bool, bits, u64, i8, i32, hexOf, base64Of, bytes, name, list, set, map, oneOf } = shape;
  const { optional, otherwise, struct, tagged, adjacent } = shape;

  const hash = hexOf(32);
  const object = hexOf(16);
  const key = base64Of(32);
  const sealingKey = base64Of(1216);
  const time = u64;
  const u16 = bits(16);
  const u32 = bits(32);

  const KINDS = ["sev-snp", "tdx", "sgx", "nitro", "tpm", "az-snp-vtpm", "az-tdx-vtpm", "dev-snp", "dev-tpm"];
  const DEVELOPMENT_KINDS = ["dev-snp", "dev-tpm"];
  const TCB_STATUS = [
    "up-to-date", "sw-hardening-needed", "configuration-needed", "configuration-and-sw-hardening-needed", "out-of-date",
    "out-of-date-configuration-needed", "revoked", "unknown",
  ];
  const tee = oneOf(...KINDS);
  const require = (value) => legation.requirement.parse(string(value));

  const anchor = adjacent("name", { production: string, development: string });
  const developmentAnchor = struct({ name: string, ark: bytes });
  const tpmAnchor = struct({
    name: string, development: bool, root: bytes, key: otherwise(oneOf("rsa-2048", "ecc-p256", "ecc-p384"), "rsa-2048"),
    attests: otherwise(bool, false), google: otherwise(bool, false),
  });
  const witnessAnchor = struct({ name: string, key });
  const logAnchor = struct({
    origin: string, key, witnesses: otherwise(list(witnessAnchor), []), quorum: otherwise(u32, 0n),
  });
  /** A second log of one name would never be looked at, and a witness that stands there twice would count twice. */
  const distinctLogs = (value) => {
    const logs = list(logAnchor)(value);
    const twice = (items) => new Set(items).size !== items.length;
    if (twice(logs.map((log) => log.origin))) malformed("a log stands there twice");
    for (const { origin, witnesses } of logs) {
      if (twice(witnesses.map((one) => one.name)) || twice(witnesses.map((one) => one.key))) {
        malformed(`a witness of the log \`${legation.oneLine(origin)}\` has name or key of another`);
      }
    }
    return logs;
  };
  /** The anchor file: what a reader trusts. */
  const anchors = struct({
    operators: list(key), development: otherwise(list(developmentAnchor), []), tpm: otherwise(list(tpmAnchor), []),
    logs: otherwise(distinctLogs, []),
  });

  const attested = (value) =>
    struct({ value, source: oneOf("hardware", "endorsed", "measured-software", "self-declared"), confidence: u16 });
  const tcb = struct({
    version: string, status: oneOf(...TCB_STATUS),
    shortfall: otherwise(list(struct({ component: string, has: u64, needs: u64 })), []),
    advisories: otherwise(list(string), []), level: optional(string),
  });
  const gpu = struct({ model: string, driver: string, firmware: string, chip: string, anchor: otherwise(string, "") });
  const claims = struct({
    tee: attested(tee), anchor, measurement: attested(string), registers: map(string, string), chip: attested(string),
    tcb: attested(tcb), debug: attested(bool), confidential: attested(bool), product: attested(string),
    vmpl: optional(attested(u32)), region: optional(attested(name)), operator: optional(attested(string)),
    features: optional(attested(set(string))), memory: optional(attested(u64)), gpus: list(attested(gpu)),
    vouched: optional(hash), stale_since: optional(time),
    revocation: otherwise(oneOf("unchecked", "checked"), "unchecked"), report_data: string,
  });
  const configuration = struct({
    provider: name, region: name, capacity: struct({ cpu: u64, memory: u64, slots: u32 }),
    rate: struct({ core_hour: u64, gib_hour: u64 }), slot: otherwise(u16, 0n), advertise: optional(string),
    prover: optional(struct({ program: hash, instructions: u64 })),
    custody: optional(struct({ swarm: name, alone: bool, anchors: hash })), operators: list(key),
  });
  const binding = struct({
    role: oneOf("agent", "manager"), identity: key, sealing: sealingKey, image: hash, configuration: hash, not_before: time,
    not_after: time, nonce: hash,
  });
  const device = struct({ kind: oneOf("nvidia-gpu"), report: bytes, endorsements: list(bytes) });
  const evidence = struct({
    kind: tee, report: bytes, endorsements: list(bytes), devices: otherwise(list(device), []), binding: bytes,
    configuration: bytes,
  });
  const collateral = struct({ name: string, bytes });

  const diversity = oneOf("chip", "provider", "tee");
  const replicated = struct({ k: bits(8), diverse: diversity });
  const assurance = (value) =>
    typeof value === "string"
      ? { kind: oneOf("attested", "proven")(value) }
      : { kind: "replicated", ...struct({ replicated })(value).replicated };

  const sealedRef = { name: string, holder: optional(key), object, ciphertext: hash, size: u64, commitment: hash };
  const outputRef = struct({ object, ciphertext: hash, size: u64, commitment: hash });
  const committed = struct({ size: u64, commitment: hash });
  const demand = struct({ cpu: u64, memory: u64, fuel: u64, time: u64, output: u64, gpus: otherwise(u64, 0n) });
  const seatDemand = struct({ cpu: u64, memory: u64, gpus: otherwise(u64, 0n), time: u64 });
  const fragment = struct({
    name: string, owner: optional(struct({ key, sealing: sealingKey })), module: hash, args: list(string),
    inputs: list(tagged({ sealed: sealedRef, output: { fragment: u32 } })), demand, require,
    delegates: optional(struct({ modules: list(hash), depth: u32, fuel: u64, budget: u64, assurance })),
  });
  const weight = otherwise(u16, 100n);
  const preferences = struct({
    weights: otherwise(struct({ cost: weight, proximity: weight, posture: weight, fit: weight }), null), near: optional(name),
    within: optional(u64),
    spread: otherwise(
      list(struct({
        axis: oneOf("provider", "tee", "region", "chip", "enclave"), rule: oneOf("distinct", "same", "apart", "together"),
      })), []),
    priority: otherwise(bits(8), 4n), reservation: optional(u64),
  });
  const SENSITIVITIES = ["public", "internal", "confidential", "restricted"];
  const dataTerms = struct({
    sensitivity: otherwise(oneOf(...SENSITIVITIES), "confidential"), regulations: otherwise(set(string), []),
    residency: otherwise(set(name), []),
  });
  const NO_PREFERENCES = { weights: null, near: null, within: null, spread: [], priority: 4n, reservation: null };
  const NO_TERMS = { sensitivity: "confidential", regulations: [], residency: [] };

  const placement = struct({
    considered: u32, eligible: u32, passed_over: list(struct({ check: string, enclaves: u32 })), decided_by: string,
  });
  const ENCRYPTIONS = ["aes-128-gcm", "aes-256-gcm", "aes-256-gcm-x-wing", "aes-256-gcm-ml-kem-1024"];
  const allowance = struct({
    cpu: optional(u64), memory: optional(u64), fuel: optional(u64), time: optional(u64), egress: optional(u64),
    encryption: optional(oneOf(...ENCRYPTIONS)), rules: otherwise(list(string), []),
  });
  const tier = oneOf("affirming", "warning", "contraindicated");
  const ear = struct({
    status: tier, vector: map(string, i8), policy: string, policy_digest: hash, tcb, images: otherwise(list(string), []),
    grace: optional(struct({ until: time, rule: string, why: string })),
  });
  const outcome = tagged({ completed: {}, failed: { reason: string } });
  // Bits of host calls that have a number: see crates/legation-core/src/monitor.rs.
  const HOST_CALLS = 58;
  const monitored = struct({
    calls: bits(HOST_CALLS), trace: hash, verdict: oneOf("learning", "normal", "suspect", "alarm"), evidence: i32,
    worst: optional(oneOf("fuel", "calls", "memory", "output")),
  });
  const delegable = struct({
    modules: list(hash), fuel: u64, budget: u64, releases: otherwise(list(object), []), assurance, require: optional(require),
  });
  const member = struct({ enclave: hash, passport: hash, lease: u64 });
  const MEMBERS = [2n, 64n];
  /** `t` of `n`, of whom any two sets of `t` have a member in common. */
  const threshold = (value) => {
    const { t, n } = struct({ t: u16, n: u16 })(value);
    const [least, most] = MEMBERS;
    return n >= least && n <= most && t >= 2n && t <= n && 2n * t > n ? { t, n } : malformed("no threshold");
  };
  const dealingRef = struct({ dealer: hash, dealing: hash });
  const epoch = u64;
  const generation = u64;

  const SPKI = unhex("302a300506032b6570032100");
  const names = new Map();
  /** The name of a key, and of the enclave whose identity key it is: SHA-256 of its SubjectPublicKeyInfo (RFC 8410). */
  const keyId = (text) => {
    if (!names.has(text)) names.set(text, digest(concat(SPKI, unbase64(text))));
    return names.get(text);
  };
  const subject = (called, sha256) => ({ name: called, digest: { sha256 } });

  /** Every kind of statement: its predicate, who signs it, what it rests on and is about. */
  const statements = {
    appointment: {
      read: struct({
        operator: key, key, office: oneOf("verifier", "manager"),
        scope: optional(struct({ tenants: optional(list(name)), kinds: optional(list(tee)) })), not_before: time,
        not_after: time,
      }),
      signer: (it) => it.operator,
      prev: () => [],
      subjects: (it) => [subject("key", keyId(it.key))],
    },
    passport: {
      read: struct({
        verifier: key, issued: time, expires: time, enclave: key, sealing: sealingKey, ear, claims, configuration,
        evidence: hash, collateral: otherwise(list(hash), []), prev: list(hash),
      }),
      signer: (it) => it.verifier,
      subjects: (it) => [subject("enclave", keyId(it.enclave)), subject("evidence", it.evidence)],
    },
    request: {
      read: struct({
        client: key, sealing: sealingKey, tenant: name, name: string, created: time, expires: time,
        fragments: list(fragment), require, prefer: otherwise(preferences, NO_PREFERENCES), data: otherwise(dataTerms, NO_TERMS),
        swarm: optional(struct({
          members: u16, least: optional(u16), seat: seatDemand,
          speculate: { read: (value) => (value === null ? null : u16(value)), absent: () => 150n },
        })),
        assurance, budget: u64, nonce: hash, prev: list(hash),
      }),
      signer: (it) => it.client,
      subjects: (it) =>
        it.fragments.flatMap((one, i) => [
          subject(`fragment-${i}/module`, one.module),
          ...one.inputs.filter((input) => input.kind === "sealed")
            .map((input) => subject(`fragment-${i}/${input.name}`, input.ciphertext)),
        ]),
    },
    allocation: {
      read: struct({
        manager: key, term: u64, task: hash, fragment: u32, lease: u64, from: time, until: time, enclave: hash, provider: name,
        region: name, price_hour: u64, limits: optional(allowance), why: placement, revocations: u64,
        seat: optional(struct({ lease: u64, round: u32 })),
        loan: optional(struct({ of: u64, borrower: hash, number: u32, demand: seatDemand })), prev: list(hash),
      }),
      signer: (it) => it.manager,
      subjects: (it) => [subject("request", it.task)],
    },
    grant: {
      read: struct({
        issuer: key, task: hash, fragments: list(u32), subject: adjacent("value", { enclave: hash, policy: hash }),
        modules: list(hash), fuel: u64, budget: u64, depth: u32, expires: time, releases: list(object),
        delegable: optional(delegable), prev: list(hash),
      }),
      signer: (it) => it.issuer,
      subjects: (it) => it.modules.map((module) => subject("module", module)),
    },
    call: {
      read: struct({
        delegator: key, task: hash, fragment: u32, loan: u64, number: u64, question: hash, challenge: hash, module: hash,
        args: list(string), input: committed, demand: struct({ fuel: u64, memory: u64, time: u64, output: u64 }), assurance,
        created: time, expires: time, prev: list(hash),
      }),
      signer: (it) => it.delegator,
      subjects: (it) => [subject("module", it.module), subject("input", it.input.commitment)],
    },
    report: {
      read: struct({
        enclave: key, task: hash, fragment: u32, lease: u64, module: hash, inputs: list(hash), seed: hash, outcome,
        output: optional(outputRef), log: optional(outputRef),
        usage: struct({ fuel: u64, memory_peak: u64, host_calls: u64, micros: u64 }), started: time, finished: time,
        answer: optional(struct({ call: hash, output: optional(committed), trace: hash })),
        dissent: otherwise(list(hash), []), monitor: optional(monitored), prev: list(hash),
      }),
      signer: (it) => it.enclave,
      subjects: (it) => {
        if (it.answer) return [subject("call", it.answer.call)];
        const about = [];
        if (it.output) about.push(subject("output", it.output.ciphertext));
        if (it.log) about.push(subject("log", it.log.ciphertext));
        return about.length > 0 ? about : [subject("module", it.module)];
      },
    },
    aggregate: {
      read: struct({
        enclave: key, task: hash, fragment: u32, reports: list(hash), result: optional(outputRef), privacy: string,
        prev: list(hash),
      }),
      signer: (it) => it.enclave,
      subjects: (it) =>
        it.result ? [subject("result", it.result.ciphertext)] : it.reports.map((report) => subject("report", report)),
    },
    seating: {
      read: struct({
        manager: key, term: u64, task: hash, round: u32, at: time,
        seats: list(struct({
          member, provider: name, region: name, from: time, until: time, price_hour: u64, why: placement,
        })),
        revocations: u64, prev: list(hash),
      }),
      signer: (it) => it.manager,
      subjects: (it) => [subject("request", it.task)],
    },
    membership: {
      read: struct({ enclave: key, task: hash, round: u32, members: list(member), prev: list(hash) }),
      signer: (it) => it.enclave,
      subjects: (it) => it.members.map((one) => subject("member", one.enclave)),
    },
    revocations: {
      read: struct({
        manager: key, at: time, epoch: u64,
        revocations: list(struct({
          what: adjacent("name", {
            enclave: hash, chip: string, measurement: string, provider: name, verifier: hash, anchor: string, grant: hash,
          }),
          epoch: u64, at: time, why: string,
        })),
        prev: list(hash),
      }),
      signer: (it) => it.manager,
      subjects: (it) => [subject("manager", keyId(it.manager))],
    },
    "execution-proof": {
      read: struct({
        prover: key, report: hash,
        claim: struct({ module: hash, args: hash, seed: hash, clock: time, inputs: list(hash), output: optional(hash) }),
        program: hash, proof: hash, size: u64, made: time, prev: list(hash),
      }),
      signer: (it) => it.prover,
      subjects: (it) => [subject("report", it.report), subject("proof", it.proof)],
    },
  };
  const dealt = (it) => it.dealings.map((one) => subject("dealing", one.dealing));
  /** What is said of a swarm key (docs/keys.md): in the manager's journal, in no receipt. */
  const custody = {
    charter: {
      read: struct({
        operator: key, swarm: name, number: u32, threshold, require, per_provider_max: u16, epoch_seconds: u64, not_after: time,
        prev: list(hash),
      }),
      signer: (it) => it.operator,
      subjects: (it) => [subject("swarm", digest(utf8(it.swarm)))],
    },
    "custody-call": {
      read: struct({
        manager: key, term: u64, charter: hash, generation, from: optional(struct({ epoch, roster: hash })), attempt: u32,
        threshold, members: list(struct({ enclave: hash, provider: name })), removed: list(hash), revocations: u64, called: time,
        expires: time, prev: list(hash),
      }),
      signer: (it) => it.manager,
      subjects: (it) => it.members.map((one) => subject("member", one.enclave)),
    },
    "custody-chair": {
      read: struct({ call: hash, enclave: key, passport: hash, sealing: sealingKey, prev: list(hash) }),
      signer: (it) => it.enclave,
      subjects: (it) => [subject("sealing", digest(unbase64(it.sealing)))],
    },
    "custody-dealing": {
      read: struct({ ceremony: hash, dealer: key, dealing: bytes, roster: otherwise(bytes, null), prev: list(hash) }),
      signer: (it) => it.dealer,
      subjects: (it) => [subject("dealing", digest(it.dealing))],
    },
    "custody-acceptance": {
      read: struct({ ceremony: hash, member: key, dealings: list(dealingRef), prev: list(hash) }),
      signer: (it) => it.member,
      subjects: dealt,
    },
    "custody-refusal": {
      read: struct({
        ceremony: hash, member: key, dealing: dealingRef, why: oneOf("unopened", "mismatch", "commitment"), prev: list(hash),
      }),
      signer: (it) => it.member,
      subjects: (it) => [subject("dealing", it.dealing.dealing)],
    },
    "custody-confirmation": {
      read: struct({
        ceremony: hash, roster: hash, key: base64Of(96), epoch, member: key, dealings: list(dealingRef), prev: list(hash),
      }),
      signer: (it) => it.member,
      subjects: (it) => [subject("roster", it.roster)],
    },
    "custody-handover": {
      read: struct({ from: hash, to: hash, epoch, member: key, prev: list(hash) }),
      signer: (it) => it.member,
      subjects: (it) => [subject("roster", it.to)],
    },
    release: {
      read: struct({
        custodian: key, roster: hash, epoch, task: hash, fragment: u32, lease: u64, enclave: hash,
        released: list(struct({ object, label: hash })), revocations: u64, at: time, prev: list(hash),
      }),
      signer: (it) => it.custodian,
      subjects: (it) => it.released.map((one) => subject("label", one.label)),
    },
    "custody-return": {
      read: struct({
        enclave: key, roster: hash, index: u16, incarnation: u64, was: key, vouched: bytes, prev: list(hash),
      }),
      signer: (it) => it.enclave,
      subjects: (it) => [subject("was", keyId(it.was)), subject("roster", it.roster)],
    },
    "custody-ack": {
      read: struct({ member: key, roster: hash, index: u16, incarnation: u64, prev: list(hash) }),
      signer: (it) => it.member,
      subjects: (it) => it.prev.map((one) => subject("return", one)),
    },
  };
  Object.assign(statements, custody);
  /** Statements that have no place among those that a receipt's roots rest on: they stand beside it, or elsewhere. */
  const BESIDE = ["revocations", "execution-proof", ...Object.keys(custody)];
  for (const [kind, statement] of Object.entries(statements)) {
    statement.type = `https://legation.dev/${kind}/v1`;
    statement.prev ??= (it) => it.prev;
  }

  Object.assign(legation, {
    words: {
      hash, u64, u32, anchors, claims, configuration, binding, evidence, collateral, statements, BESIDE, KINDS,
      DEVELOPMENT_KINDS, TCB_STATUS, SENSITIVITIES, ENCRYPTIONS,
    },
    keyId,
  });
})();
