// The one function of this folder: what `legation receipt verify` answers, from the bytes of files.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { Rejection, refuse, Malformed, json, shape, text, words, envelope, receipt, placed, ascending, keyId, equal } = legation;

  const REVOCATIONS_MAX = 65_536;

  const read = (check, claim, bytes, of) =>
    legation.snp.by(check, claim, "a file as `legation` writes it", () => of(json.parse(text(bytes))));

  /** What is revoked: a list by a manager that an operator of the anchors appointed (crates/legation-core/src/revocation.rs). */
  const readRevocations = async (bytes, anchors) => {
    const files = read("revocation.list", "the list of revocations", bytes,
      shape.struct({ list: envelope.read, appointment: envelope.read }));
    const open = (one, kind) =>
      envelope.open(one, kind).catch((why) => {
        if (why instanceof Rejection) why.check = "revocation.signature";
        throw why;
      });
    const [list, appointment] = [await open(files.list, "revocations"), await open(files.appointment, "appointment")];
    const { it } = list;
    if (!anchors.operators.includes(appointment.it.operator)) {
      refuse("revocation.operator", "operator behind the list of revocations", "one of the anchors", keyId(appointment.it.operator));
    }
    const by = appointment.it.key === it.manager && appointment.it.office === "manager" &&
      appointment.it.not_before <= it.at && it.at <= appointment.it.not_after;
    if (!by || !equal(it.prev, [appointment.digest])) {
      refuse("revocation.manager", "who signed the list of revocations", "a manager of this operator");
    }
    const last = it.revocations.at(-1)?.epoch ?? 0n;
    if (it.revocations.length > REVOCATIONS_MAX || !ascending(it.revocations, (one) => one.epoch) || last !== it.epoch) {
      refuse("revocation.list", "order of the list", `ascending by epoch to ${it.epoch}`);
    }
    return it;
  };

  /** Judges a receipt that is read from bytes; what it refuses, it throws with the link, `at`. */
  const judged = async (bytes, anchors, judge, revocations, progress) => {
    const [file, parts] = await placed("the file", () => {
      const found = receipt.read(bytes);
      return [found, receipt.arrange(found)];
    });
    const chain = new legation.Chain(file, parts, anchors, judge, revocations);
    const verdict = await chain.verify(progress);
    if (anchors.logs.length === 0) return verdict;
    const log = file.log && (await legation.log.check(file.log, file.envelopes.map((one) => one.digest), file.roots, anchors.logs));
    return { ...verdict, log };
  };

  /**
   * Verifies a receipt. `files` has the bytes of `receipt` and `anchors`, perhaps `revocations` (as `legation revocations save`
   * writes them); `options` may have `production` (development roots count for nothing), `progress` (done, all) and `judge`, which
   * stands in for evidence in tests.
   *
   * Answers `{ verdict, ... }`: `valid`, `valid-but-development`, `not-judged` (with `unjudged`: kinds of evidence that nothing here
   * judges), `invalid` (with `at` and `why`), or `unusable` where anchors or revocations will not do.
   */
  const verify = async (files, options = {}) => {
    let [anchors, judge, revocations] = [];
    try {
      if (globalThis.crypto?.subtle === undefined) {
        refuse("platform.crypto", "cryptography of this browser", "WebCrypto", "none here", "use a current browser");
      }
      anchors = read("anchors.format", "the anchors", files.anchors, words.anchors);
      if (options.production) {
        anchors.development = [];
        anchors.tpm = anchors.tpm.filter((root) => !root.development);
      }
      judge = options.judge ?? (await legation.evidence.judge(anchors));
      revocations = files.revocations ? await readRevocations(files.revocations, anchors) : null;
    } catch (why) {
      if (!(why instanceof Rejection)) throw why;
      return { verdict: "unusable", why };
    }
    try {
      const { standing, ...rest } = await judged(files.receipt, anchors, judge, revocations, options.progress);
      return { verdict: standing, ...rest };
    } catch (why) {
      if (!(why instanceof Rejection)) throw why;
      return { verdict: "invalid", at: why.at ?? "the file", why };
    }
  };

  Object.assign(legation, { verify, Malformed });
})();
