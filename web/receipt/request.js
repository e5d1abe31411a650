// What a request must satisfy in itself (crates/legation-core/src/{task,prefer,data,swarm}.rs), and what follows from one.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, utf8, words, ascending, requirement, minus, times, U64_MAX } = legation;

  const FRAGMENTS_MAX = 256;
  const INPUTS_MAX = 256;
  const ARGS_MAX = 64;
  const ARG_MAX = 4096;
  const GPUS_MAX = 64_000n;
  const CPU_MAX = 1_000_000_000n;
  const MEMORY_MAX = 1n << 50n;
  const GPU_DEMAND_MAX = 1_000_000n;
  const DELEGATION_DEPTH_MAX = 8n;
  const DELEGATION_MODULES_MAX = 64;
  const REQUEST_LIFE_MAX = 7n * 86_400n;
  const SUBJECTS_MAX = 4096;
  const GIB = 1n << 30n;
  const [REPLICAS_MIN, REPLICAS_MAX] = [2n, 9n];
  const length = (text) => utf8(text).length;

  /** The fragment at an index (a BigInt); nothing beyond the last. */
  const fragmentOf = (request, index) => (index < BigInt(request.fragments.length) ? request.fragments[Number(index)] : null);
  const ownerKey = (request, fragment) => (fragment.owner ? fragment.owner.key : request.client);
  /** Who holds the key of an input; nothing where no fragment is there. */
  const holderOf = (request, fragment, input) => {
    if (input.kind === "sealed") return input.holder ?? ownerKey(request, fragment);
    const from = fragmentOf(request, input.fragment);
    return from ? ownerKey(request, from) : null;
  };
  const upstream = (fragment) => fragment.inputs.filter((input) => input.kind === "output").map((input) => input.fragment);
  /** Fragments that nobody reads. */
  const results = (request) => {
    const read = new Set(request.fragments.flatMap(upstream));
    return request.fragments.map((_, i) => BigInt(i)).filter((index) => !read.has(index));
  };

  /** Whether one assurance assures no less than another. */
  const covers = (one, least) => {
    if (one.kind === "proven" || least.kind === "attested") return true;
    if (one.kind !== "replicated" || least.kind !== "replicated") return false;
    return one.k >= least.k && (one.diverse === least.diverse || least.diverse === "chip");
  };
  const checkAssurance = (assurance) => {
    if (assurance.kind === "replicated" && (assurance.k < REPLICAS_MIN || assurance.k > REPLICAS_MAX)) {
      refuse("assurance.replicas", "enclaves that run a replicated call", `${REPLICAS_MIN} to ${REPLICAS_MAX}`, assurance.k);
    }
  };
  /** Proofs of executions convince, but hide nothing of what was computed (crates/legation-core/src/proven.rs). */
  const mayBeAssured = (assurance, data) => {
    if (assurance.kind !== "proven" || ["public", "internal"].includes(data.sensitivity)) return;
    refuse("proof.sensitivity", "sensitivity of the data of a proven execution", "public or internal", data.sensitivity);
  };
  const showAssurance = (one) => (one.kind === "replicated" ? `replicated by ${one.k}, diverse by ${one.diverse}` : one.kind);

  const checkPreferences = (prefer) => {
    const weights = Object.values(prefer.weights ?? {});
    if (weights.some((weight) => weight > 1000n)) refuse("request.weights", "weights of the preferences", "0 to 1000 percent each");
    if (prefer.priority > 9n) refuse("request.priority", "priority of the request", "0 to 9", prefer.priority);
    if (prefer.within !== null && prefer.near === null) {
      refuse("request.within", "longest round trip", "a place that it is measured from", "none");
    }
    const bad = (expected) => refuse("request.spread", "rules of spread", expected);
    if (prefer.spread.length > 8) bad("at most 8");
    const rules = new Map(prefer.spread.map(({ axis, rule }) => [axis, rule]));
    if (rules.size !== prefer.spread.length) bad("one rule for each");
    // What shares the narrower shares the wider.
    const wider = { enclave: ["chip", "tee", "region", "provider"], chip: ["tee", "region", "provider"] };
    for (const { axis, rule } of prefer.spread) {
      if (rule === "same" && (wider[axis] ?? []).some((one) => rules.get(one) === "distinct")) bad("rules that can hold together");
    }
  };

  const checkTerms = (request) => {
    const { regulations, residency } = request.data;
    const bad = (expected, got) => refuse("request.data", "what the request says of its data", expected, got);
    if (regulations.length > 16 || residency.length > 16) bad("at most 16 regulations and 16 regions");
    const odd = regulations.find((name) => !/^[a-z0-9._-]{1,64}$/.test(name));
    if (odd !== undefined) bad("names of 1 to 64 of a-z, 0-9, `-`, `.`, `_`", odd);
    if (residency.length === 0) return;
    for (const require of [request.require, ...request.fragments.map((fragment) => fragment.require)]) {
      if (!residency.some((region) => requirement.allowsRegion(require, region))) {
        refuse("request.residency", "requirement and regions of residence", `one of ${residency.join(", ")}`, require.source);
      }
    }
  };

  const wholeGpus = (gpus) => gpus <= GPUS_MAX && (gpus <= 1000n || gpus % 1000n === 0n);
  const checkFragment = (fragment, index) => {
    const bad = (check, claim, expected, got) => refuse(check, `${claim} of fragment #${index}`, expected, got);
    if (fragment.inputs.length > INPUTS_MAX || fragment.args.length > ARGS_MAX) {
      bad("request.inputs", "number of inputs or arguments", `at most ${INPUTS_MAX} inputs and ${ARGS_MAX} arguments`);
    }
    const named = fragment.inputs.filter((input) => input.kind === "sealed").map((input) => input.name);
    const longest = Math.max(...[...fragment.args, ...named, fragment.name].map(length));
    if (longest > ARG_MAX || fragment.args.some((arg) => arg.includes("\0"))) {
      bad("request.args", "an argument, the name, or the name of an input", `at most ${ARG_MAX} bytes, without NUL`);
    }
    if (upstream(fragment).some((from) => from >= BigInt(index))) {
      bad("request.order", "an input", "outputs of earlier fragments only");
    }
    const { cpu, memory, fuel, time, output, gpus } = fragment.demand;
    const absurd = cpu > CPU_MAX || memory > MEMORY_MAX || gpus > GPU_DEMAND_MAX || time > REQUEST_LIFE_MAX * 1000n;
    const nothing = cpu === 0n || memory === 0n || fuel === 0n || time === 0n;
    if (absurd || nothing || output > (memory > GIB ? memory : GIB)) bad("request.demand", "the demand", "what a machine can have");
    if (!wholeGpus(gpus)) bad("request.gpus", "accelerators", "a share of one, or whole ones", gpus);
  };

  const isModules = (modules) => modules.length >= 1 && modules.length <= DELEGATION_MODULES_MAX && ascending(modules);
  const checkDelegation = (delegates, index, budget) => {
    const bad = (claim, expected) => refuse("request.delegates", `${claim} of fragment #${index}`, expected);
    if (!isModules(delegates.modules)) bad("modules that other enclaves may run", `1 to ${DELEGATION_MODULES_MAX}, ascending`);
    if (delegates.depth < 1n || delegates.depth > DELEGATION_DEPTH_MAX) bad("depth of the delegation", `1 to ${DELEGATION_DEPTH_MAX}`);
    if (delegates.fuel === 0n || delegates.budget > budget) bad("fuel and budget of all calls", "some, and at most the task's");
    checkAssurance(delegates.assurance);
  };

  const leastMembers = (terms) => terms.least ?? terms.members;
  const checkSwarm = (request) => {
    const terms = request.swarm;
    const bad = (check, claim, expected, got) => refuse(`swarm.${check}`, claim, expected, got);
    if (terms.members < 2n || terms.members > 64n) bad("members", "members of the swarm", "2 to 64", terms.members);
    const least = leastMembers(terms);
    if (least < 1n || least > terms.members) bad("least", "fewest members of the swarm", `1 to ${terms.members}`, least);
    if (terms.speculate !== null && (terms.speculate < 110n || terms.speculate > 10_000n)) {
      bad("speculate", "when a fragment is repeated", "110 to 10000 percent of the median", terms.speculate);
    }
    if (request.prefer.reservation !== null) bad("reservation", "reservation of a request that asks for a swarm", "none", "one");
    if (request.fragments.some((fragment) => fragment.delegates !== null)) {
      bad("delegates", "what fragments of a swarm let be handed on", "nothing", "some");
    }
    const { cpu, memory, gpus, time } = terms.seat;
    const absurd = cpu > CPU_MAX || memory > MEMORY_MAX || time > REQUEST_LIFE_MAX * 1000n || !wholeGpus(gpus);
    const over = ({ demand }) => demand.cpu > cpu || demand.memory > memory || demand.gpus > gpus || demand.time > time;
    if (cpu === 0n || memory === 0n || time === 0n || absurd || request.fragments.some(over)) {
      bad("seat", "what a seat sets aside", "room for every fragment, within what a machine can have");
    }
    const [first] = request.fragments;
    if (request.fragments.some((fragment) => fragment.require.source !== first.require.source)) {
      bad("require", "requirements of the fragments", "the same of all: any member may run any fragment");
    }
    for (const { axis, rule } of request.prefer.spread) {
      const together = ["enclave", "chip"].includes(axis) && ["same", "together"].includes(rule);
      const distinct = axis === "tee" && rule === "distinct" && terms.members > BigInt(words.KINDS.length);
      if (together || distinct) bad("spread", "rules of spread of a swarm", "rules that its members can meet", `${rule} ${axis}`);
    }
  };

  /** Refuses a request that breaks a rule of its own form. */
  const validate = (request) => {
    const count = request.fragments.length;
    if (count === 0 || count > FRAGMENTS_MAX) refuse("request.fragments", "number of fragments", `1 to ${FRAGMENTS_MAX}`, count);
    const life = minus(request.expires, request.created);
    if (life === 0n || life > REQUEST_LIFE_MAX) {
      refuse("request.expires", "life of the request", `1 to ${REQUEST_LIFE_MAX} seconds after its creation`, `${life} seconds`);
    }
    if (length(request.name) > ARG_MAX) refuse("request.name", "length of the name", `at most ${ARG_MAX} bytes`);
    if (request.assurance.kind !== "attested") {
      refuse("request.assurance", "assurance of whole fragments", "attested", showAssurance(request.assurance));
    }
    checkPreferences(request.prefer);
    checkTerms(request);
    request.fragments.forEach((fragment, index) => {
      checkFragment(fragment, index);
      if (!fragment.delegates) return;
      checkDelegation(fragment.delegates, index, request.budget);
      mayBeAssured(fragment.delegates.assurance, request.data);
    });
    if (request.swarm) checkSwarm(request);
    const subjects = words.statements.request.subjects(request).length;
    if (subjects > SUBJECTS_MAX) {
      refuse("request.inputs", "number of modules and sealed inputs together", `at most ${SUBJECTS_MAX}`, subjects);
    }
  };

  /** Whether the data may be in the enclave of this passport (crates/legation-core/src/data.rs). */
  const checkData = (data, { claims, configuration, ear }) => {
    const regions = [configuration.region, ...(claims.region ? [claims.region.value] : [])];
    const other = data.residency.length > 0 && regions.find((region) => !data.residency.includes(region));
    if (other) refuse("data.residency", "region of the enclave", `one of ${data.residency.join(", ")}`, other);
    if (data.sensitivity !== "restricted") return;
    if (!claims.confidential.value || claims.debug.value || ear.grace !== null) {
      refuse("data.sensitivity", "enclave for restricted data",
        "one that hides its memory, cannot be debugged and needed no exception", "another");
    }
  };

  const ceil = (a, b) => (a + b - 1n) / b;
  const amount = (value) => (value > U64_MAX ? U64_MAX : value);
  /** Price of one hour of so much, in millionths of a dollar, rounded up. */
  const perHour = (rate, { cpu, memory }) => amount(ceil(rate.core_hour * cpu, 1000n) + ceil(rate.gib_hour * memory, GIB));
  /** What so many microseconds cost at a price of an hour, rounded up. */
  const charge = (hour, micros) => amount(ceil(hour * micros, 3_600_000_000n));

  const GRACE_MICROS = 1_000_000n;
  /** Refuses work that asks for more than a placement allows (crates/legation-core/src/limits.rs). */
  const checkWork = (limits, demand) => {
    const over = (limit, most, got) => {
      if (most !== null && got > most) refuse(`limits.${limit}`, "demand of the fragment under the limits of its placement", most, got);
    };
    over("cpu", limits.cpu, demand.cpu);
    over("memory", limits.memory, demand.memory);
    over("fuel", limits.fuel, demand.fuel);
    over("time", limits.time, demand.time);
    over("egress", limits.egress, demand.output);
    const strength = (one) => words.ENCRYPTIONS.indexOf(one);
    if (limits.encryption !== null && strength(limits.encryption) > strength("aes-256-gcm-x-wing")) {
      refuse("limits.encryption", "sealing of output and log under the limits of its placement", limits.encryption);
    }
  };
  const checkUsed = (limits, report) => {
    const over = (limit, most, got) => {
      if (most !== null && got > most) refuse(`limits.${limit}`, "what the enclave used under the limits of its placement", most, got);
    };
    over("memory", limits.memory, report.usage.memory_peak);
    over("fuel", limits.fuel, report.usage.fuel);
    const completed = report.outcome.kind === "completed";
    if (completed && limits.time !== null) over("time", times(limits.time, 1000n) + GRACE_MICROS, report.usage.micros);
    const left = [report.output, report.log, report.answer?.output].filter(Boolean).reduce((sum, one) => sum + one.size, 0n);
    over("egress", limits.egress, amount(left));
  };

  Object.assign(legation, {
    request: {
      validate, fragmentOf, ownerKey, holderOf, upstream, results, covers, checkAssurance, mayBeAssured, showAssurance, isModules,
      checkData, perHour, charge, checkWork, checkUsed, leastMembers, ARGS_MAX, ARG_MAX, DELEGATION_MODULES_MAX, DELEGATION_DEPTH_MAX,
      INPUTS_MAX, GRACE_MICROS,
    },
  });
})();
