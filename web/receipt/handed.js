// What enclaves handed on, within a receipt (crates/legation-core/src/receipt/check/delegation.rs, delegation/judge.rs): loans,
// grants that were passed on, calls, answers, and the reports that used them.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, keyId, short, equal, date, min, minus, plus, times } = legation;
  const { fragmentOf } = legation.request;
  const { checkLink, lineageOf, checkCall, checkAnswer, cost, vote, asksAs, at, missing, SKEW } = legation.delegation;

  /** What an answer rests on before the answers to calls of its own. */
  const ANSWER_HEAD = 4;
  const bad = (what, claim, expected, got) => refuse(`receipt.${what}`, claim, expected, got);

  class Handed {
    constructor(chain) {
      this.chain = chain;
      this.lineages = new Map();
      this.numbers = new Set();
      this.answered = new Set();
      this.used = new Set();
      this.under = new Map();
      this.below = new Map();
      this.parts = new Map();
    }

    /** An allocation that lends an enclave to another. */
    lent(request, it) {
      const { chain } = this;
      const terms = it.loan;
      const most = fragmentOf(request.it, it.fragment)?.delegates ??
        bad("loan", "fragment of a loan", "one of which the request lets parts be passed on");
      const claim = "what the allocation of a loan rests on";
      const rests = "the request, the manager's appointment, and the borrower's own allocation, of the same fragment";
      const borrower = it.prev.length === 3 && it.prev[0] === request.digest ? chain.get("allocation", it.prev[2])?.it : null;
      if (!borrower) bad("loan", claim, rests);
      const own = borrower.task === it.task && borrower.fragment === it.fragment && borrower.lease === terms.of &&
        borrower.lease < it.lease && borrower.term <= it.term && borrower.revocations <= it.revocations && borrower.enclave === terms.borrower;
      if (!own) bad("loan", claim, rests, `lease-${borrower.lease} of enclave ${short(borrower.enclave)}`);
      if (it.seat || terms.number === 0n || it.enclave === terms.borrower) {
        bad("loan", "form of a loan", "numbered from 1, in no seat, of another enclave than the borrower");
      }
      if (it.from < minus(borrower.from, SKEW) || it.until > borrower.until) {
        bad("loan", "dates of a loan", `within those of its borrower, ${date(borrower.from)} to ${date(borrower.until)}`,
          `${date(it.from)} to ${date(it.until)}`);
      }
      let [depth, above] = [1n, borrower];
      while (above.loan && depth <= most.depth) {
        const next = chain.get("allocation", above.prev[2]);
        if (!next) break;
        [depth, above] = [depth + 1n, next.it];
      }
      if (depth > most.depth) bad("loan", "depth of a loan", `at most ${most.depth}`, depth);
    }

    /** A grant by an enclave: the link to those it rests on, which were checked before it. */
    passedOn(request, grant) {
      checkLink(request, grant, grant.it.prev.map((name) => this.chain.get("grant", name) ?? missing(name)));
    }

    lineage(request, leaf) {
      if (!this.lineages.has(leaf)) {
        this.lineages.set(leaf, lineageOf(request, leaf, (name) => this.chain.get("grant", name)));
      }
      return this.lineages.get(leaf);
    }

    call(call) {
      const { chain } = this;
      const { it } = call;
      const request = chain.findRequest(it.task);
      const [loan, grant] = [chain.get("allocation", it.prev[0]), chain.get("grant", it.prev[1])];
      if (!loan || !grant || it.prev.length !== 2) bad("call", "what the call rests on", "the allocation of its loan, and a grant");
      checkCall({ request, loan, lineage: this.lineage(request, grant.digest) }, call);
      // Leases are counted by each pool for itself, so a loan is named with its task.
      const name = `${it.task} ${it.loan} ${it.number}`;
      if (this.numbers.has(name)) bad("call", "numbers of the calls of one loan", "each once", it.number);
      this.numbers.add(name);
    }

    answer(report) {
      const { chain } = this;
      const { it } = report;
      const request = chain.findRequest(it.task);
      const kinds = ["allocation", "passport", "grant", "call"];
      const [loan, passport, grant, call] = kinds.map((kind, place) => chain.get(kind, it.prev[place]));
      if (!loan || !passport || !grant || !call) {
        bad("answer", "what the answer rests on",
          "the allocation of the loan, a passport, a grant, the call, then answers to calls of its own");
      }
      const lineage = this.lineage(request, grant.digest);
      const basis = { request, loan, lineage };
      checkAnswer(basis, call, passport, it);
      chain.trustedBy(request.it.tenant, passport.it);
      chain.unrevoked(it, loan.it, passport.it, lineage.all);
      // Failures are attested, never proven.
      if (call.it.assurance.kind === "proven" && it.outcome.kind === "completed") chain.proofs.owe(report.digest);
      if (this.answered.has(call.digest)) bad("answer", "answers to one call", "one", "another");
      this.answered.add(call.digest);
      const micros = min(it.usage.micros, times(call.it.demand.time, 1000n));
      this.spend(basis, it.usage.fuel, cost(basis, micros));
    }

    /** Adds what an execution used, and holds the sums against every grant behind it and against its request. */
    spend({ request, lineage: { leaf, above, index } }, fuel, price) {
      const add = (sums, name, most, what) => {
        const sum = sums.get(name) ?? { fuel: 0n, price: 0n };
        const next = { fuel: plus(sum.fuel, fuel), price: plus(sum.price, price) };
        sums.set(name, next);
        if (next.fuel > most.fuel || next.price > most.budget) {
          bad("handed", `fuel and cost of ${what}`, `at most ${most.fuel} and ${most.budget}`, `${next.fuel} and ${next.price}`);
        }
      };
      add(this.under, `${leaf.digest}#${index}`, leaf.it, `calls under a grant (${short(leaf.digest)})`);
      for (const { digest, it } of above) {
        if (!it.delegable) continue;
        add(this.below, `${digest}#${index}`, it.delegable, `calls under all that was passed on of a grant (${short(digest)})`);
      }
      const most = fragmentOf(request.it, index)?.delegates ?? { fuel: 0n, budget: 0n };
      add(this.parts, `${request.digest}#${index}`, most, `all calls for fragment #${index}`);
    }

    /** The answers that a report used: its own, while it ran, each once, and as many as assure what was asked. */
    questions(report) {
      const { chain } = this;
      const head = report.it.answer ? ANSWER_HEAD : 0;
      const answers = [];
      for (const name of report.it.prev.slice(head)) {
        const answer = chain.get("report", name);
        if (answer?.it.answer) answers.push(this.withRests(answer));
        // What else the report of a fragment rests on, and in which order, was checked with it.
        else if (head > 0) bad("answer", "what the answer rests on, after its call", "answers to calls of its own", name);
      }
      const questions = new Map();
      for (const one of answers) {
        this.isOwn(report.it, one);
        const { question } = one.call.it;
        questions.set(question, [...(questions.get(question) ?? []), one]);
      }
      const dissent = [...questions.keys()].sort()
        .flatMap((question) => at(`question ${short(question)}`, () => this.assured(questions.get(question)))).sort();
      if (!equal(report.it.dissent, dissent)) {
        const show = (list) => list.map(short).join(" ") || "none";
        bad("dissent", "answers that disagreed, as the report names them", show(dissent), show(report.it.dissent));
      }
      for (const { answer } of answers) {
        if (this.used.has(answer.digest)) bad("report", "use of an answer", "once", `${answer.digest} again`);
        this.used.add(answer.digest);
      }
    }

    /** An answer with what it rests on, all of which was checked before. */
    withRests(answer) {
      const { chain } = this;
      const kinds = ["allocation", "passport", "grant"];
      const [loan, passport, grant] = kinds.map((kind, place) => chain.get(kind, answer.it.prev[place]));
      const call = chain.get("call", answer.it.answer.call);
      if (!loan || !passport || !grant || !call) {
        bad("report", "what an answer rests on", "a loan, a passport, a grant and a call");
      }
      return { answer, loan, passport, grant, call };
    }

    /** A call is the report's own: of its enclave, under its allocation and its grants, and answered while it ran. */
    isOwn(report, { call: { it: call }, answer: { it: answer }, loan, grant }) {
      const own = call.delegator === report.enclave && call.task === report.task && call.fragment === report.fragment &&
        loan.it.prev[2] === report.prev[0];
      if (!own) {
        bad("report", "calls whose answers the report uses", `its own, on loans under lease-${report.lease}`,
          `one of enclave ${short(keyId(call.delegator))} on lease-${call.loan}`);
      }
      const other = grant.it.prev.find((parent) => !report.prev.includes(parent));
      if (other) bad("report", "grants that were passed on for a call", "those that the report rests on", other);
      if (answer.started < minus(report.started, SKEW) || answer.finished > plus(report.finished, SKEW)) {
        bad("report", "time of a call", "while the execution that made it lasted", `${date(answer.started)} to ${date(answer.finished)}`);
      }
    }

    /** Whether answers to one question assure what was asked; gives those that disagreed. */
    assured(answers) {
      const first = answers[0].call.it;
      const other = answers.find(({ call }) => !asksAs(call.it, first));
      if (other) {
        bad("question", "calls of one question", "the same module, arguments, input, demand and assurance",
          `others in call ${short(other.call.digest)}`);
      }
      if (first.assurance.kind === "replicated") {
        this.diverse(answers, first.assurance.diverse);
        return vote(first.assurance.k, answers.map(({ answer }) => answer));
      }
      // Proofs follow: until one is there, and is good, nobody counts the result as more than attested.
      return answers.length === 1 ? [] : bad("question", `answers to one question that is to be ${first.assurance.kind}`, "one", answers.length);
    }

    /** No two of these are of machines that are the same in respect of what was asked, and never of one chip. */
    diverse(answers, by) {
      const seen = new Set();
      for (const { answer, passport } of answers) {
        const { claims, configuration } = passport.it;
        const names = [`chip ${claims.chip.value}`];
        if (by === "provider") names.push(`provider ${configuration.provider}`);
        if (by === "tee") names.push(`tee ${claims.tee.value}`);
        if (names.some((name) => seen.has(name))) {
          bad("question", "enclaves that ran one question", `no two of one chip, no two of one ${by}`,
            `${short(keyId(answer.it.enclave))} beside another`);
        }
        names.forEach((name) => seen.add(name));
      }
    }
  }

  Object.assign(legation, { Handed });
})();
