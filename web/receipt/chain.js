// The checks of a receipt, link by link, in the order of the file (crates/legation-core/src/receipt/check.rs and bounds.rs).
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, Rejection, keyId, short, ascending, equal, envelope, requirement, date, oneLine, min, minus, plus, times } = legation;
  const { fragmentOf, holderOf, upstream, results, validate, checkData, perHour, charge, checkWork, checkUsed } = legation.request;
  const { GRACE_MICROS } = legation.request;
  const { checkGrant, checkUse, coversRun } = legation.grant;
  const { SKEW } = legation.delegation;

  const PASSPORT_LIFE_MAX = 3600n;

  /** Runs a check; what it refuses, it refuses at `place`. */
  const placed = async (place, check) => {
    try {
      return await check();
    } catch (why) {
      if (why instanceof Rejection) why.at ??= place;
      throw why;
    }
  };

  class Chain {
    /** `receipt` was read, `parts` is what `receipt.arrange` gave, `judge` judges evidence, `revocations` may be null. */
    constructor(receipt, parts, anchors, judge, revocations) {
      Object.assign(this, { receipt, anchors, judge, evidence: parts.evidence, collateral: parts.collateral });
      this.opened = new Map();
      this.usedEvidence = new Set();
      this.usedCollateral = new Set();
      this.warnings = new Set();
      this.names = new Set();
      this.unjudged = new Set();
      this.development = false;
      this.revoked = new Map();
      for (const one of revocations?.revocations ?? []) {
        const name = `${one.what.kind} ${one.what.name}`;
        if (!this.revoked.has(name)) this.revoked.set(name, one);
      }
      this.reported = new Set();
      this.aggregated = new Set();
      this.spent = new Map();
      this.handed = new legation.Handed(this);
      this.swarm = new legation.Swarm(this);
      this.proofs = new legation.Proofs(this);
      this.links = [];
    }

    /** The opened statement of this digest, if it is of this kind. */
    get(kind, name) {
      const found = name === undefined ? undefined : this.opened.get(name);
      return found?.kind === kind ? found : null;
    }

    async verify(progress = () => {}) {
      for (const [number, one] of this.receipt.envelopes.entries()) {
        const { kind, type } = envelope.kindOf(one);
        await placed(`${kind} ${short(one.digest)}`, async () => {
          if (kind === "statement") {
            refuse("receipt.kind", "kind of statement", "one of ours", oneLine(type.slice(0, 80)));
          }
          const opened = await envelope.open(one, kind);
          await this[kind](opened);
          this.opened.set(opened.digest, opened);
          this.links.push({ digest: opened.digest, kind, says: legation.describe(opened), prev: opened.prev, it: opened.it });
        });
        await progress(number + 1, this.receipt.envelopes.length);
      }
      return placed("the file", () => this.end());
    }

    async end() {
      for (const [what, all, used] of [["evidence", this.evidence, this.usedEvidence], ["collateral", this.collateral, this.usedCollateral]]) {
        const extra = [...all.keys()].find((name) => !used.has(name));
        if (extra) refuse(`receipt.${what}`, `${what} that no passport names`, "", extra);
      }
      const { name, completed, found } = this.results();
      this.latestRevocation();
      const proofs = await this.proofs.check(this.receipt.proofs);
      return {
        standing: this.unjudged.size > 0 ? "not-judged" : this.development ? "valid-but-development" : "valid",
        task: this.receipt.task, name, completed, revocations: this.receipt.revocations, anchors: [...this.names].sort(),
        results: found, warnings: [...this.warnings].sort(), unjudged: [...this.unjudged].sort(), proofs, links: this.links,
      };
    }

    appointment({ it }) {
      if (!this.anchors.operators.includes(it.operator)) {
        refuse("receipt.anchor", "operator behind an appointment", "one of the anchor file", keyId(it.operator),
          "if you trust this operator, add its key to the anchor file");
      }
    }

    /** The appointment that a statement of `key` in `office` at `at` rests on. */
    appointed(name, key, office, at) {
      const found = this.get("appointment", name);
      const bad = (claim, expected, got) => refuse("receipt.appointment", claim, expected, got);
      if (!found) return bad("what the statement rests on", `the appointment of its ${office}`);
      const { it } = found;
      if (it.key !== key || it.office !== office) bad("who was appointed", `${office} ${keyId(key)}`, `${it.office} ${keyId(it.key)}`);
      if (at < minus(it.not_before, SKEW) || at > it.not_after) {
        bad("dates of the appointment", `to cover ${date(at)}`, `${date(it.not_before)} to ${date(it.not_after)}`);
      }
      return it;
    }

    async passport({ it }) {
      const bad = (claim, expected, got) => refuse("receipt.passport", claim, expected, got);
      if (it.prev.length !== 1) bad("what the passport rests on", "one appointment");
      const appointment = this.appointed(it.prev[0], it.verifier, "verifier", it.issued);
      const longest = min(plus(it.issued, PASSPORT_LIFE_MAX), appointment.not_after);
      if (it.expires <= it.issued || it.expires > longest) {
        bad("life of the passport", `from ${date(it.issued)} to ${date(longest)} at most`, `${date(it.issued)} to ${date(it.expires)}`);
      }
      const evidence = this.evidence.get(it.evidence) ?? refuse("receipt.evidence", "evidence behind the passport", it.evidence,
        "nothing: it was removed or changed");
      this.usedEvidence.add(it.evidence);
      const items = it.collateral.map((name) => this.collateral.get(name) ??
        refuse("receipt.collateral", "collateral behind the passport", name, "nothing: it was removed or changed"));
      const shelf = new Map(items.map((item) => [item.name, item]));
      const { claims, binding, configuration, collateral, unjudged } = await this.judge(evidence, shelf, it.issued, it);
      collateral.forEach((name) => this.usedCollateral.add(name));
      unjudged.forEach((kind) => this.unjudged.add(kind));
      const says = equal(claims, it.claims) && equal(collateral, it.collateral) && equal(configuration, it.configuration);
      if (!says || binding.identity !== it.enclave || binding.sealing !== it.sealing) {
        bad("what the passport says of the enclave", "what its evidence says", "something else");
      }
      if (binding.role !== "agent" || it.expires > binding.not_after) {
        bad("role and life of the keys behind the passport", `an agent's, to ${date(it.expires)} at least`,
          `a key of the ${binding.role}, to ${date(binding.not_after)}`);
      }
      if (appointment.scope?.kinds && !appointment.scope.kinds.includes(claims.tee.value)) {
        refuse("receipt.verifier", "kinds of machines that the verifier is trusted with", claims.tee.value, "not among them");
      }
      this.graded(it);
      const enclave = short(keyId(it.enclave));
      if (claims.stale_since !== null) {
        this.warnings.add(`enclave ${enclave} was judged with collateral that was due for renewal at ${date(claims.stale_since)}`);
      }
      const { grace } = it.ear;
      if (grace) {
        this.warnings.add(`enclave ${enclave} was admitted until ${date(grace.until)} by rule \`${oneLine(grace.rule)}\`: ${oneLine(grace.why)}`);
      }
      this.development ||= claims.anchor.kind === "development";
      this.names.add(`${claims.anchor.kind}(${claims.anchor.name})`);
    }

    /** Anchor, machine and grade agree, and a development root is one that the reader named. */
    graded({ claims, ear }) {
      const { kind, name } = claims.anchor;
      const development = kind === "development";
      const named = this.anchors.development.some((root) => root.name === name) ||
        this.anchors.tpm.some((root) => root.development && root.name === name);
      if (development && !named) {
        refuse("receipt.anchor", "root behind the enclave", "a vendor's, or a development root of the anchor file", `development(${name})`,
          "name the development root in the anchor file, if its word is good enough");
      }
      if (development !== legation.words.DEVELOPMENT_KINDS.includes(claims.tee.value)) {
        refuse("receipt.anchor", "root behind the enclave", `one for ${claims.tee.value}`, `${kind}(${name})`);
      }
      if (claims.debug.value) {
        refuse("receipt.debug", "debugging of the enclave", "not permitted", "permitted: its host may read its memory");
      }
      // A verifier may know more than the vendor says, and nothing else.
      const vendors = claims.tcb.value;
      if (!equal(vendors, ear.tcb) && !(vendors.status === "unknown" && vendors.version === ear.tcb.version)) {
        refuse("receipt.tcb", "security version in the appraisal", vendors.version, ear.tcb.version);
      }
      if (ear.status === "contraindicated" || (ear.status === "affirming" && development)) {
        refuse("receipt.passport", "status of the passport", development ? "warning" : "affirming or warning", ear.status);
      }
    }

    request({ it, prev }) {
      validate(it);
      const earlier = (name) => {
        const report = this.get("report", name);
        return report ? report.it.answer === null : this.get("aggregate", name) !== null;
      };
      if (new Set(prev).size !== prev.length || !prev.every(earlier)) {
        refuse("receipt.request", "what the request builds on", "reports or aggregates, each once");
      }
    }

    findRequest(task) {
      return this.get("request", task) ?? refuse("receipt.request", "request of the task", task, "nothing");
    }

    allocation({ it }) {
      const request = this.findRequest(it.task);
      if (it.loan) this.handed.lent(request, it);
      else this.placedBy(request, it);
      this.appointed(it.prev[1], it.manager, "manager", it.from);
      const begins = minus(request.it.created, SKEW) <= it.from && it.from <= request.it.expires;
      if (!begins || it.until < it.from) {
        refuse("receipt.allocation", "dates of the allocation",
          `to begin within the request, ${date(request.it.created)} to ${date(request.it.expires)}`, `${date(it.from)} to ${date(it.until)}`);
      }
    }

    placedBy(request, it) {
      const old = this.get("allocation", it.prev[2])?.it;
      const replaces = old && old.loan === null && old.task === it.task && old.fragment === it.fragment && old.lease < it.lease &&
        old.term <= it.term && old.revocations <= it.revocations;
      const rest = it.prev.slice(replaces ? 3 : 2);
      const well = it.prev.length >= 2 && it.prev[0] === request.digest && (replaces || rest.length === 0 || request.it.swarm !== null);
      if (!well || !fragmentOf(request.it, it.fragment)) {
        refuse("receipt.allocation", "what the allocation rests on",
          "the request, the manager's appointment, and the allocation it replaces if any");
      }
      this.swarm.within(request.it, it, rest);
    }

    grant(grant) {
      const request = this.findRequest(grant.it.task);
      if (grant.prev.some((name) => this.get("grant", name))) this.handed.passedOn(request, grant);
      else checkGrant(request, grant.it);
    }

    call(call) {
      this.handed.call(call);
    }

    report(report) {
      if (report.it.answer) this.handed.answer(report);
      else this.count(report.it, this.fragmentReport(report.it));
      this.handed.questions(report);
    }

    /** Checks the report of a fragment; gives what it cost. */
    fragmentReport(report) {
      const bad = (claim, expected, got) => refuse("receipt.report", claim, expected, got);
      const enclave = keyId(report.enclave);
      const request = this.findRequest(report.task);
      const fragment = fragmentOf(request.it, report.fragment) ?? bad("fragment of the report");
      const rests = this.rests(report);
      const [allocation, passport] = [rests.allocation.it, rests.passport.it];
      const promised = allocation.loan === null && allocation.task === report.task && allocation.fragment === report.fragment &&
        allocation.lease === report.lease && allocation.enclave === enclave;
      if (!promised) {
        bad("task, fragment, lease and enclave of the report", `those of lease-${allocation.lease}: enclave ${allocation.enclave}`,
          `lease-${report.lease} of enclave ${enclave}`);
      }
      if (passport.enclave !== report.enclave) bad("passport of the report", enclave, keyId(passport.enclave));
      this.trustedBy(request.it.tenant, passport);
      this.inTime(report, request.it, rests);
      if (report.module !== fragment.module) bad("module that ran", fragment.module, report.module);
      const { objects, commitments } = this.inputs(request, fragment, rests.reports);
      if (!equal(report.inputs, commitments)) bad("inputs the enclave read", "those of the request", "others");
      checkUse(request, rests.grants, { index: report.fragment, enclave, objects, at: report.started });
      const other = rests.grants.find((grant) => !coversRun(grant.it, report.fragment, enclave));
      if (other) bad("a grant the report rests on", `one for fragment #${report.fragment} on enclave ${short(enclave)}`, other.digest);
      const candidate = { passport, price: allocation.price_hour };
      requirement.check(request.it.require, candidate);
      requirement.check(fragment.require, candidate);
      checkData(request.it.data, passport);
      const { provider, region, rate } = passport.configuration;
      const price = perHour(rate, fragment.demand);
      if (allocation.provider !== provider || allocation.region !== region || allocation.price_hour !== price) {
        bad("provider, region and price of the allocation", `${provider}, ${region}, ${price} per hour`,
          `${allocation.provider}, ${allocation.region}, ${allocation.price_hour} per hour`);
      }
      const cost = this.withinBounds(report, fragment, rests, price);
      this.unrevoked(report, allocation, passport, rests.grants);
      // What is run in a seat is paid for by the seat, which no report speaks of.
      return allocation.seat ? 0n : cost;
    }

    inTime(report, request, { allocation, passport, reports }) {
      const bad = (claim, expected, got) => refuse("receipt.report", claim, expected, got);
      const { started, finished } = report;
      const within = started <= finished && started >= minus(allocation.it.from, SKEW) &&
        finished <= plus(allocation.it.until, SKEW) && finished <= plus(request.expires, SKEW) &&
        minus(passport.it.issued, SKEW) <= finished && finished <= passport.it.expires;
      if (!within) {
        bad("time of the execution", "within the lease, under a passport, before the request ends", `${date(started)} to ${date(finished)}`);
      }
      const late = reports.find((one) => one.it.finished > plus(started, SKEW));
      if (late) bad("begin of the execution", `after the end of fragment #${late.it.fragment}, ${date(late.it.finished)}`, date(started));
    }

    withinBounds(report, fragment, { allocation, grants }, hour) {
      const bad = (claim, expected, got) => refuse("receipt.report", claim, expected, got);
      const [{ usage }, { demand }] = [report, fragment];
      if (usage.fuel > demand.fuel || usage.memory_peak > demand.memory) {
        bad("fuel and memory used", `${demand.fuel}, ${demand.memory}`, `${usage.fuel}, ${usage.memory_peak}`);
      }
      const { limits } = allocation.it;
      if (limits) {
        checkWork(limits, demand);
        checkUsed(limits, report);
      }
      const completed = report.outcome.kind === "completed";
      const most = times(demand.time, 1000n);
      if (completed && usage.micros > plus(most, GRACE_MICROS)) bad("time used", `${demand.time} ms`, `${usage.micros / 1000n} ms`);
      for (const { it: grant } of grants.filter((one) => report.started <= one.it.expires)) {
        if (usage.fuel > grant.fuel) bad("fuel used", `${grant.fuel}, as granted`, usage.fuel);
        const cost = charge(hour, minus(usage.micros, GRACE_MICROS));
        if (completed && cost > grant.budget) bad("cost of the execution", `${grant.budget}, as granted`, cost);
      }
      // Nobody is charged for more time than was asked for.
      return charge(hour, min(usage.micros, most));
    }

    /** Everything behind a passport that could be revoked. */
    behind({ enclave, verifier, configuration, claims }) {
      const names = [
        `enclave ${keyId(enclave)}`, `provider ${configuration.provider}`, `chip ${claims.chip.value}`,
        `measurement ${claims.measurement.value}`, `verifier ${keyId(verifier)}`, `anchor ${claims.anchor.name}`,
        ...claims.gpus.flatMap((gpu) => [`chip ${gpu.value.chip}`, `anchor ${gpu.value.anchor}`]),
      ];
      return claims.vouched === null ? names : [...names, `verifier ${claims.vouched}`];
    }

    /** The first revocation among these names, by epoch. */
    firstRevoked(names) {
      const found = names.map((name) => this.revoked.get(name)).filter(Boolean);
      return found.reduce((first, one) => (first === null || one.epoch < first.epoch ? one : first), null);
    }

    /** Nothing that a report rests on was revoked when it was finished; a warning about what was revoked later. */
    unrevoked(report, allocation, passport, grants) {
      const cut = grants.flatMap((grant) => [`grant ${grant.digest}`, `enclave ${keyId(grant.it.issuer)}`]);
      const first = this.firstRevoked([...this.behind(passport), ...cut]);
      if (first === null) return;
      const what = `${first.what.kind} ${oneLine(first.what.name.slice(0, 16))}`;
      if (report.finished >= first.at || allocation.revocations >= first.epoch) {
        refuse("receipt.revoked", `the ${what} behind the report`, `not revoked at ${date(report.finished)}, when the report was finished`,
          `revoked at ${date(first.at)} (epoch ${first.epoch}): ${oneLine(first.why)}`);
      }
      this.warnings.add(`the ${what} behind fragment #${report.fragment} was revoked at ${date(first.at)} (epoch ${first.epoch}), ` +
        `after its report was finished at ${date(report.finished)}: ${oneLine(first.why)}`);
    }

    /** The verifier behind a passport is trusted with the work of a tenant. */
    trustedBy(tenant, passport) {
      const appointment = this.get("appointment", passport.prev[0]);
      const tenants = appointment?.it.scope?.tenants;
      if (!appointment || (tenants && !tenants.includes(tenant))) {
        refuse("receipt.verifier", "tenants whose work the verifier is trusted with", tenant, "not among them");
      }
    }

    /** What a report of a fragment rests on, in its order. */
    rests(report) {
      const bad = (claim, expected, got) => refuse("receipt.report", claim, expected, got);
      const [first, second, ...rest] = report.prev;
      const allocation = this.get("allocation", first) ?? bad("first statement the report rests on", "the allocation");
      const passport = this.get("passport", second) ?? bad("second statement the report rests on", "the passport of its enclave");
      const [grants, reports, answers] = [[], [], []];
      for (const name of rest) {
        const grant = this.get("grant", name);
        const other = this.get("report", name);
        if (grant && reports.length === 0 && answers.length === 0 && ascending([...grants, grant], (one) => one.digest)) grants.push(grant);
        else if (other?.it.answer) answers.push(other);
        else if (other && answers.length === 0) reports.push(other);
        else bad("what the report rests on", "grants, ascending by digest and each once, then reports, then answers to its calls", name);
      }
      return { allocation, passport, grants, reports, answers };
    }

    /** Holds a report against the others: one for a fragment, all within the task's budget. */
    count(report, cost) {
      const name = `${report.task}#${report.fragment}`;
      if (this.reported.has(name)) refuse("receipt.report", "reports of one fragment", "one", `another of fragment #${report.fragment}`);
      this.reported.add(name);
      const spent = plus(this.spent.get(report.task) ?? 0n, cost);
      this.spent.set(report.task, spent);
      const { budget } = this.findRequest(report.task).it;
      if (spent > budget) refuse("receipt.budget", "cost of the task", budget, spent);
    }

    /** Objects and commitments of a fragment's inputs: by the request, or by the reports it rests on, in order. */
    inputs(request, fragment, reports) {
      const [objects, commitments] = [[], []];
      const waiting = [...reports];
      for (const input of fragment.inputs) {
        let from = input;
        if (input.kind === "output") {
          const report = waiting.shift()?.it;
          const right = report && report.task === request.digest && report.fragment === input.fragment && report.outcome.kind === "completed";
          from = (right && report.output) || refuse("receipt.report", "report behind an input",
            `a completed report of fragment #${input.fragment} with an output`);
        }
        objects.push(from.object);
        commitments.push(from.commitment);
      }
      if (waiting.length > 0) refuse("receipt.report", "reports beyond the inputs");
      return { objects, commitments };
    }

    aggregate({ it }) {
      const bad = (claim, expected, got) => refuse("receipt.aggregate", claim, expected, got);
      const own = this.get("report", it.prev[0])?.it ?? bad("first statement the aggregate rests on", "its own report");
      // Answers to calls of its own are part of how it reduced, and not what it reduced.
      const behind = own.prev.filter((name) => this.get("report", name)?.it.answer === null);
      const reports = it.prev.slice(1);
      if (!equal(reports, it.reports) || !equal(reports, behind) || reports.length === 0) {
        bad("reports it aggregates", "exactly those its inputs came from");
      }
      if (own.outcome.kind !== "completed") bad("its own report", "completed", "failed");
      const same = own.enclave === it.enclave && own.task === it.task && own.fragment === it.fragment && equal(own.output, it.result);
      if (!same) bad("enclave, task, fragment and result", "those of its own report");
      const name = `${it.task}#${it.fragment}`;
      if (this.aggregated.has(name)) bad("aggregates of one fragment", "one");
      this.aggregated.add(name);
    }

    seating(seating) {
      this.swarm.seating(seating);
    }

    membership(membership) {
      this.swarm.membership(membership);
    }

    /** The task's name, whether it completed, and its results. */
    results() {
      const request = this.findRequest(this.receipt.task).it;
      const bad = (claim, expected, got) => refuse("receipt.roots", claim, expected, got);
      const [found, indices] = [[], []];
      let failed = 0;
      for (const root of this.receipt.roots) {
        const aggregate = this.get("aggregate", root);
        const report = aggregate ? this.get("report", aggregate.prev[0]) : this.get("report", root);
        if (!report || report.it.task !== this.receipt.task || report.it.answer !== null) {
          bad("a root of the receipt", `a report or an aggregate of task ${this.receipt.task}`, root);
        }
        const completed = report.it.outcome.kind === "completed";
        failed += completed ? 0 : 1;
        const fragment = fragmentOf(request, report.it.fragment);
        if (fragment && upstream(fragment).length > 0 && completed && !aggregate) bad("a result that was reduced", "its aggregate");
        indices.push(report.it.fragment);
        found.push(aggregate ? aggregate.it.result : report.it.output);
      }
      const wanted = results(request);
      // A failed task is proven by reports that failed, and by nothing else; a completed one needs every result.
      const all = failed === 0 ? equal(indices, wanted) : failed === indices.length && ascending(indices);
      if (!all) {
        const show = (list) => list.map((index) => `#${index}`).join(" ");
        bad("results of the task", failed === 0 ? show(wanted) : "only reports that failed, in order", show(indices));
      }
      return { name: request.name, completed: failed === 0, found };
    }

    /** The header names a revocation without a signature of its own: allocations have one. */
    latestRevocation() {
      let latest = 0n;
      for (const { kind, it } of this.opened.values()) {
        if (kind === "allocation" && it.task === this.receipt.task && it.revocations > latest) latest = it.revocations;
      }
      if (latest !== this.receipt.revocations) {
        refuse("receipt.revocations", "latest revocation that the allocations took into account", latest, this.receipt.revocations);
      }
    }
  }

  Object.assign(legation, { Chain, placed, holderOf });
})();
