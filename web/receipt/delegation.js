// What enclaves hand on (crates/legation-core/src/delegation): grants that only narrow, calls, answers, votes.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, Rejection, ascending, keyId, short, min, max, plus, minus, times, utf8, requirement, equal } = legation;
  const {
    fragmentOf, ownerKey, holderOf, covers, checkAssurance, mayBeAssured, showAssurance, isModules, checkData, perHour, charge,
    checkWork, checkUsed, ARGS_MAX, ARG_MAX, DELEGATION_MODULES_MAX, DELEGATION_DEPTH_MAX, INPUTS_MAX, GRACE_MICROS,
  } = legation.request;
  const { checkGrant, passesReleases } = legation.grant;

  /** Clocks of different machines may differ by so many seconds. */
  const SKEW = 60n;
  /** Grants behind one use: the owner's, and that of the holder of each input. */
  const GRANTS_MAX = 1 + INPUTS_MAX;
  const LINEAGE_MAX = Number(DELEGATION_DEPTH_MAX) + GRANTS_MAX;
  const CALL_BYTES_MAX = 1n << 30n;

  const bad = (check, claim, expected, got) => refuse(`delegation.${check}`, claim, expected, got);

  const modulesWithin = (modules, passed) => {
    const claim = "modules of a grant that was passed on";
    if (!isModules(modules)) bad("modules", claim, `1 to ${DELEGATION_MODULES_MAX}, ascending, each once`, modules.length);
    const other = modules.find((module) => !passed.modules.includes(module));
    if (other) bad("modules", claim, "those that its parent lets be passed on", other);
  };
  /** Refuses a child that passes on more than its parent lets be passed on, or is not by the one who may. */
  const attenuates = (parent, child) => {
    const passed = parent.depth > 0n ? parent.delegable : null;
    if (!passed) bad("depth", "a grant that was passed on", "one that lets something be passed on", `depth ${parent.depth}`);
    const issuer = keyId(child.issuer);
    if (parent.subject.kind !== "enclave" || parent.subject.value !== issuer) {
      bad("issuer", "who passed the grant on", "the enclave that its parent names", short(issuer));
    }
    if (child.task !== parent.task) bad("task", "task of a grant that was passed on", parent.task, child.task);
    if (child.fragments.length !== 1 || !parent.fragments.includes(child.fragments[0])) {
      bad("fragments", "fragments of a grant that was passed on", "one of its parent's", child.fragments.join(" "));
    }
    if (child.subject.kind !== "enclave" || child.subject.value === issuer) {
      bad("subject", "to whom a grant was passed on", "an enclave, other than who passed it on");
    }
    if (child.depth >= parent.depth) bad("depth", "depth of a grant that was passed on", `less than ${parent.depth}`, child.depth);
    const below = child.delegable;
    if ((below !== null) !== child.depth > 0n) {
      bad("depth", "depth of a grant that was passed on, and what it passes on", "0 without it, more with it", child.depth);
    }
    if (child.expires > parent.expires) {
      bad("expires", "end of a grant that was passed on", `at most ${parent.expires}`, child.expires);
    }
    modulesWithin(child.modules, passed);
    for (const purse of ["fuel", "budget"]) {
      if (child[purse] + (below ? below[purse] : 0n) > passed[purse]) {
        bad(purse, `${purse} of a grant that was passed on, with what it passes on`, `at most ${passed[purse]}`, child[purse]);
      }
    }
    const other = child.releases.find((object) => !passed.releases.includes(object));
    if (other) bad("releases", "keys that a grant that was passed on releases", "those that its parent lets go on", other);
    if (!below) return;
    passesReleases(child);
    modulesWithin(below.modules, passed);
    checkAssurance(below.assurance);
    if (!covers(below.assurance, passed.assurance)) {
      bad("assurance", "assurance that a grant that was passed on asks of calls",
        `${showAssurance(passed.assurance)} at least`, showAssurance(below.assurance));
    }
  };

  /** A rejection with more said of where. */
  const at = (suffix, check) => {
    try {
      return check();
    } catch (why) {
      if (why instanceof Rejection) why.claim = `${why.claim} (${suffix})`;
      throw why;
    }
  };

  const missing = (name) => bad("missing", "a grant that another rests on", `grant ${name}`, "nothing");
  const isClients = (request, grant) => equal(grant.it.prev, [request.digest]);
  /** The parents of a child are one child, or clients' grants, ascending and each once. */
  const checkForm = (request, child, parents) => {
    const well = parents.length === 1 || parents.every((parent) => isClients(request, parent));
    if (parents.length > 0 && ascending(child.it.prev) && well) return;
    bad("prev", "what a grant rests on",
      "the request; or clients' grants that are passed on, ascending and each once; or the one grant of a loan",
      child.it.prev.map(short).join(", "));
  };
  /** The owner of the fragment and every holder of an input are among those at the top. */
  const consented = (request, child, roots) => {
    const index = child.it.fragments[0] ?? 0n;
    const fragment = fragmentOf(request.it, index) ?? bad("fragments", "fragment of the grant", "one of the request", index);
    const agreed = new Set(roots.map((root) => root.it.issuer));
    const holders = fragment.inputs.map((input) => holderOf(request.it, fragment, input)).filter((key) => key !== null);
    const other = [ownerKey(request.it, fragment), ...holders].find((key) => !agreed.has(key));
    if (other !== undefined) {
      bad("consent", "who agreed that parts of the fragment may be passed on", "its owner and every holder of an input", "others only");
    }
  };
  /** One link: whether a child may rest on these parents, which were checked. What is below rests on that one child. */
  const checkLink = (request, child, parents) => {
    checkForm(request, child, parents);
    parents.forEach((parent) => attenuates(parent.it, child.it));
    if (child.it.delegable) mayBeAssured(child.it.delegable.assurance, request.it.data);
    if (parents.every((parent) => isClients(request, parent))) consented(request, child, parents);
  };

  /** Walks from the grant `leaf` up to the request; `find` gives opened grants by digest, each of which was checked before. */
  const lineageOf = (request, leaf, find) => {
    const first = find(leaf) ?? missing(leaf);
    const grants = new Map();
    const roots = new Set();
    const waiting = [first];
    while (waiting.length > 0) {
      const child = waiting.pop();
      if (grants.size >= LINEAGE_MAX) bad("size", "grants above one", `at most ${LINEAGE_MAX}`);
      if (isClients(request, child)) {
        roots.add(child.digest);
      } else {
        at(`grant ${short(child.digest)}`, () => {
          const { prev } = child.it;
          if (prev.length > GRANTS_MAX) bad("size", "grants that one rests on", `at most ${GRANTS_MAX}`, prev.length);
          const parents = prev.map((name) => find(name) ?? missing(name));
          checkForm(request, child, parents);
          waiting.push(...parents);
        });
      }
      grants.set(child.digest, child);
    }
    if (roots.has(leaf)) bad("prev", "a grant for calls", "one that an enclave passed on", "a client's");
    const all = [...grants.values()].sort((a, b) => (a.digest < b.digest ? -1 : 1));
    const above = all.filter((grant) => grant.digest !== leaf);
    return { leaf: first, index: first.it.fragments[0] ?? 0n, all, above, expires: min(...all.map((grant) => grant.it.expires)) };
  };

  const call = (check, claim, expected, got) => refuse(`call.${check}`, claim, expected, got);
  /** Loan and grant are for each other. A basis is `{ request, loan, lineage }`. */
  const checkBasis = ({ request, loan, lineage }) => {
    const terms = loan.it.loan;
    if (!terms) call("loan", "allocation that the call rests on", "one of a loan", "one of a fragment");
    const grant = lineage.leaf.it;
    if (loan.it.task !== request.digest || grant.task !== loan.it.task) {
      call("loan", "task of the loan and of the grant", request.digest, `${loan.it.task} and ${grant.task}`);
    }
    if (lineage.index !== loan.it.fragment) call("grant", "fragment of the grant", `#${loan.it.fragment}`, `#${lineage.index}`);
    const subject = grant.subject.kind === "enclave" && grant.subject.value === loan.it.enclave;
    if (keyId(grant.issuer) !== terms.borrower || !subject) {
      call("grant", "grant behind the calls of the loan", `by ${short(terms.borrower)} to ${short(loan.it.enclave)}`,
        `one by ${short(keyId(grant.issuer))}`);
    }
    return terms;
  };
  const cost = ({ loan }, micros) => charge(loan.it.price_hour, micros);

  /** Refuses a call (opened) that exceeds what it rests on. */
  const checkCall = (basis, signed) => {
    const terms = checkBasis(basis);
    const { request, loan, lineage } = basis;
    const [it, grant] = [signed.it, lineage.leaf.it];
    if (!equal(it.prev, [loan.digest, lineage.leaf.digest])) {
      call("prev", "what the call rests on", "the allocation of its loan and the grant of its borrower");
    }
    if (it.task !== loan.it.task || it.fragment !== loan.it.fragment || it.loan !== loan.it.lease) {
      call("loan", "task, fragment and loan of the call", `those of lease-${loan.it.lease}`, `lease-${it.loan}`);
    }
    if (keyId(it.delegator) !== terms.borrower) call("delegator", "who calls", terms.borrower, keyId(it.delegator));
    if (!grant.modules.includes(it.module)) call("module", "module of the call", "one that is granted", it.module);
    if (it.number === 0n) call("number", "number of the call", "1 or more", 0);
    const longest = Math.max(0, ...it.args.map((arg) => utf8(arg).length));
    if (it.args.length > ARGS_MAX || longest > ARG_MAX || it.args.some((arg) => arg.includes("\0"))) {
      call("args", "arguments of the call", `at most ${ARGS_MAX} of ${ARG_MAX} bytes, without NUL`);
    }
    if (it.input.size > CALL_BYTES_MAX || it.demand.output > CALL_BYTES_MAX) {
      call("size", "input and output of the call", `at most ${CALL_BYTES_MAX} bytes each`);
    }
    const { fuel, memory, time, output } = it.demand;
    if (fuel === 0n || time === 0n || memory > terms.demand.memory || time > terms.demand.time) {
      call("demand", "demand of the call", "some fuel and time, within the loan");
    }
    if (fuel > grant.fuel) call("fuel", "fuel of the call", `${grant.fuel}, as granted`, fuel);
    const most = cost(basis, times(time, 1000n));
    if (most > grant.budget) call("budget", "cost of the call at most", `${grant.budget}, as granted`, most);
    const { cpu, gpus } = terms.demand;
    if (loan.it.limits) checkWork(loan.it.limits, { cpu, gpus, memory, fuel, time, output });
    checkAssurance(it.assurance);
    mayBeAssured(it.assurance, request.it.data);
    const least = lineage.above.map((one) => one.it.delegable).filter(Boolean).map((passed) => passed.assurance)
      .find((assurance) => !covers(it.assurance, assurance));
    if (least) bad("assurance", "assurance of the call", `${showAssurance(least)} at least`, showAssurance(it.assurance));
    const last = min(loan.it.until, lineage.expires, request.it.expires);
    if (it.expires < it.created || it.created < minus(loan.it.from, SKEW) || it.expires > last) {
      call("expires", "dates of the call", `from ${loan.it.from} to ${last}`, `${it.created} to ${it.expires}`);
    }
  };

  /** Whether the enclave of a passport may be asked at all. */
  const admits = ({ request, loan, lineage }, passport) => {
    const it = loan.it;
    if (keyId(passport.enclave) !== it.enclave) call("passport", "enclave that is asked", it.enclave, keyId(passport.enclave));
    const { provider, region, rate } = passport.configuration;
    const price = perHour(rate, it.loan.demand);
    if (it.provider !== provider || it.region !== region || it.price_hour !== price) {
      call("passport", "provider, region and price of the loan", `${provider}, ${region}, ${price}`,
        `${it.provider}, ${it.region}, ${it.price_hour}`);
    }
    const candidate = { passport, price: it.price_hour };
    requirement.check(request.it.require, candidate);
    const fragment = fragmentOf(request.it, it.fragment);
    if (!fragment) call("fragment", "fragment of the loan", `one of ${request.it.fragments.length}`, it.fragment);
    requirement.check(fragment.require, candidate);
    for (const { it: grant } of lineage.above) {
      if (grant.delegable?.require) requirement.check(grant.delegable.require, candidate);
    }
    checkData(request.it.data, passport);
  };

  /** Refuses an answer (a report) that exceeds its call and what both rest on. */
  const checkAnswer = (basis, asked, passport, report) => {
    const answer = (check, claim, expected, got) => refuse(`answer.${check}`, claim, expected, got);
    const { loan, lineage } = basis;
    const said = report.answer;
    if (!said || said.call !== asked.digest) answer("call", "call that is answered", asked.digest, said?.call ?? "none");
    const { it } = asked;
    const own = keyId(report.enclave) === loan.it.enclave && report.task === it.task && report.fragment === it.fragment;
    if (!own || report.lease !== it.loan) answer("enclave", "enclave, task, fragment and loan of the answer", "those of its call");
    if (!equal(it.prev, [loan.digest, lineage.leaf.digest])) {
      answer("call", "call that is answered", "one of this loan and this grant", asked.digest);
    }
    if (report.monitor && report.monitor.trace !== said.trace) answer("trace", "host calls of the answer", said.trace);
    if (report.module !== it.module) answer("module", "module that ran", it.module, report.module);
    if (!equal(report.inputs, [it.input.commitment])) answer("input", "input of the answer", it.input.commitment, "another");
    if (report.seed !== it.question) answer("seed", "seed of the execution", it.question, report.seed);
    const rests = [loan.digest, passport.digest, lineage.leaf.digest, asked.digest];
    if (!equal(report.prev.slice(0, 4), rests)) {
      answer("prev", "what the answer rests on", "the allocation of the loan, the passport, the grant, the call, in this order");
    }
    const begins = max(it.created, loan.it.from);
    const ends = min(plus(min(it.expires, loan.it.until), SKEW), passport.it.expires);
    const inTime = report.started <= report.finished && report.started >= minus(begins, SKEW) &&
      report.finished >= minus(passport.it.issued, SKEW) && report.finished <= ends;
    if (!inTime) answer("time", "time of the execution", `${begins} to ${ends}`, `${report.started} to ${report.finished}`);
    const { usage } = report;
    if (usage.fuel > it.demand.fuel || usage.memory_peak > it.demand.memory) {
      answer("usage", "fuel and memory used", `${it.demand.fuel}, ${it.demand.memory}`, `${usage.fuel}, ${usage.memory_peak}`);
    }
    const completed = report.outcome.kind === "completed";
    if (completed && usage.micros > plus(times(it.demand.time, 1000n), GRACE_MICROS)) {
      answer("usage", "time used", `${it.demand.time} ms`, `${usage.micros / 1000n} ms`);
    }
    if (loan.it.limits) checkUsed(loan.it.limits, report);
    const fits = said.output === null || said.output.size <= it.demand.output;
    if ((said.output !== null) !== completed || !fits || report.output !== null || report.log !== null) {
      answer("output", "output of the answer", `of at most ${it.demand.output} bytes, exactly when it completed, nothing sealed`);
    }
    admits(basis, passport.it);
  };

  /** Failures that are a machine's, or of a question of its own that nobody answered: they are no vote. */
  const SILENT = ["out-of-memory", "table-full", "stack-overflow", "deadline", "over-budget", "module-does-not-fit",
    "unanswered"];
  /** Decides between the answers (opened reports) to one question that `k` enclaves were asked; gives those that disagree. */
  const vote = (k, answers) => {
    const enclaves = new Set(answers.map(({ it }) => it.enclave));
    if (BigInt(answers.length) > k || enclaves.size !== answers.length) {
      refuse("vote.answers", "answers to one question", `at most ${k}, each of another enclave`, answers.length);
    }
    const sides = new Map();
    for (const { it, digest } of answers) {
      if (!it.answer || (it.outcome.kind === "failed" && SILENT.includes(it.outcome.reason))) continue;
      const { output, trace } = it.answer;
      const ballot = JSON.stringify([
        it.outcome.reason ?? null, output && [String(output.size), output.commitment], String(it.usage.fuel), trace,
      ]);
      sides.set(ballot, [...(sides.get(ballot) ?? []), digest]);
    }
    const [agreed = [], ...others] = [...sides.values()].sort((a, b) => b.length - a.length);
    if (BigInt(agreed.length) * 2n <= k) {
      const tie = others.length > 0 && others[0].length === agreed.length;
      refuse(tie ? "vote.tie" : "vote.majority", "enclaves that agree", `more than half of ${k}`, agreed.length);
    }
    return others.flat().sort();
  };

  const asksAs = (a, b) =>
    ["question", "delegator", "task", "fragment", "module", "args", "input", "demand", "assurance"]
      .every((field) => equal(a[field], b[field]));

  Object.assign(legation, {
    delegation: { attenuates, checkLink, lineageOf, checkCall, checkAnswer, cost, vote, asksAs, at, missing, SKEW },
  });
})();
