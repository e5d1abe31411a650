// Proofs of executions beside a receipt (crates/legation-core/src/{proven,statement/proof,receipt/check/proofs}.rs): who made them, and
// of what. Whether a proof is good is not judged here: none counts, and what was to be proven is attested.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, Rejection, utf8, concat, digest, short, equal } = legation;

  const PROOF_MAX = 8 << 20;
  const PROOFS_MAX = 64;

  const bad = (what, claim, expected, got) => refuse(`proof.${what}`, claim, expected, got);
  const number = (value) => {
    const four = new Uint8Array(4);
    new DataView(four.buffer).setUint32(0, value);
    return four;
  };
  /** The digest of arguments: their number (4 bytes, big-endian), then each as its length (the same) and its bytes. */
  const argsDigest = (args) => digest(concat(number(args.length), ...args.map(utf8).flatMap((arg) => [number(arg.length), arg])));

  /** What is to be proven of the answer to a call, in a task that was asked for at `clock`. */
  const claimOf = (report, call, clock) => ({
    module: report.module, args: argsDigest(call.args), seed: report.seed, clock, inputs: report.inputs,
    output: report.answer.output && report.answer.output.commitment,
  });

  /** The statement of an item, signed by whoever it names, about the report that it rests on. */
  const open = async ({ statement, proof }) => {
    if (proof.length > PROOF_MAX) bad("size", "size of a proof of execution", `at most ${PROOF_MAX} bytes`, `${proof.length} bytes`);
    const opened = await legation.envelope.open(statement, "execution-proof").catch((why) => {
      if (why instanceof Rejection) why.check = "proof.statement";
      throw why;
    });
    if (!equal(opened.prev, [opened.it.report])) {
      bad("statement", "what a proof of execution rests on", `the report that it is about, ${short(opened.it.report)}`, opened.prev.map(short).join(" "));
    }
    return opened;
  };

  class Proofs {
    constructor(chain) {
      this.chain = chain;
      /** By the report that was to be proven: `awaited`, or `not-judged` where a proof of it is there. */
      this.states = new Map();
    }

    /** Notes that this report was asked to be proven. */
    owe(report) {
      if (!this.states.has(report)) this.states.set(report, "awaited");
    }

    /** Holds every item against the report that it is of; gives how far each proof is that was asked for, ascending by report. */
    async check(items) {
      if (items.length > PROOFS_MAX) refuse("receipt.proofs", "proofs of execution", `at most ${PROOFS_MAX}`, items.length);
      let before = "";
      for (const item of items) {
        await legation.placed(`proof ${short(item.statement.digest)}`, async () => {
          const { it } = await open(item);
          if (it.report <= before) {
            refuse("receipt.proofs", "order of the proofs of execution", "ascending by the report that they are of, one of each",
              `one of report ${short(it.report)} after another of it or of a later one`);
          }
          before = it.report;
          this.holds(item, it);
        });
      }
      return [...this.states].sort(([a], [b]) => (a < b ? -1 : 1)).map(([report, state]) => ({ report, state }));
    }

    holds({ proof }, it) {
      const { chain } = this;
      const report = chain.get("report", it.report) ?? bad("report", "report that a proof of execution is about", "one of this receipt", it.report);
      if (this.states.get(it.report) !== "awaited") {
        bad("superfluous", "proofs of one execution", "one, of an execution that was to be proven", `one more, of report ${short(it.report)}`);
      }
      const call = chain.get("call", report.it.answer.call);
      const claim = claimOf(report.it, call.it, chain.findRequest(report.it.task).it.created);
      const other = ["module", "args", "seed", "clock", "output", "inputs"].find((field) => !equal(claim[field], it.claim[field]));
      if (other) bad("claim", `${other} of a proof of execution`, `${claim[other]}, as the report says`, it.claim[other]);
      if (BigInt(proof.length) !== it.size || digest(proof) !== it.proof) bad("bytes", "proof beside its statement", it.proof, digest(proof));
      this.states.set(it.report, "not-judged");
      chain.warnings.add(`the proof of report ${short(it.report)} by program ${short(it.program)} was not judged here`);
    }
  }

  Object.assign(legation, { Proofs, argsDigest });
})();
