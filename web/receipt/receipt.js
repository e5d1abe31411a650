// The receipt as a file (crates/legation-core/src/receipt.rs): its one spelling, and the walk from its roots.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, Malformed, shape, words, json, text, utf8, base64, concat, digest, envelope, ascending } = legation;
  const { string, list, optional, otherwise, struct } = shape;

  const VERSION = "legation-receipt/v1";
  const RECEIPT_MAX = 64 << 20;
  const ENVELOPES_MAX = 65_536;

  const place = struct({ index: words.u64, path: list(words.u32) });
  const logged = struct({
    checkpoint: string, nodes: list(words.hash), proofs: list((value) => (value === null ? null : place(value))),
  });
  const proven = struct({ statement: envelope.read, proof: shape.bytes });
  const receipt = struct({
    version: string, task: words.hash, revocations: words.u64, roots: list(words.hash), envelopes: list(envelope.read),
    evidence: list(words.evidence), collateral: otherwise(list(words.collateral), []),
    proofs: otherwise(list(proven), []), log: optional(logged),
  });

  const q = json.quote;
  const all = (items, write) => `[${items.map(write).join(",")}]`;
  const b64 = (bytes) => `"${base64(bytes)}"`;
  const spellDevice = (it) =>
    `{"kind":${q(it.kind)},"report":${b64(it.report)},"endorsements":${all(it.endorsements, b64)}}`;
  const spellEvidence = (it) =>
    `{"kind":${q(it.kind)},"report":${b64(it.report)},"endorsements":${all(it.endorsements, b64)}` +
    `${it.devices.length > 0 ? `,"devices":${all(it.devices, spellDevice)}` : ""}` +
    `,"binding":${b64(it.binding)},"configuration":${b64(it.configuration)}}`;
  const spellLog = (it) =>
    `{"checkpoint":${q(it.checkpoint)},"nodes":${all(it.nodes, q)},"proofs":` +
    `${all(it.proofs, (one) => (one === null ? "null" : `{"index":${one.index},"path":${all(one.path, String)}}`))}}`;
  /** The one spelling: compact JSON and a newline. */
  const spell = (it) =>
    `{"version":${q(it.version)},"task":${q(it.task)},"revocations":${it.revocations},"roots":${all(it.roots, q)}` +
    `,"envelopes":${all(it.envelopes, envelope.spell)},"evidence":${all(it.evidence, spellEvidence)}` +
    `${it.collateral.length > 0 ? `,"collateral":${all(it.collateral, (one) => `{"name":${q(one.name)},"bytes":${b64(one.bytes)}}`)}` : ""}` +
    `${it.proofs.length > 0 ? `,"proofs":${all(it.proofs, (one) => `{"statement":${envelope.spell(one.statement)},"proof":${b64(one.proof)}}`)}` : ""}` +
    `${it.log ? `,"log":${spellLog(it.log)}` : ""}}\n`;

  /** Reads the one spelling out of the bytes of a file. */
  const read = (bytes) => {
    if (bytes.length > RECEIPT_MAX) refuse("receipt.size", "size of the receipt", `at most ${RECEIPT_MAX} bytes`, bytes.length);
    let [source, found] = [];
    try {
      source = text(bytes);
      found = receipt(json.parse(source));
    } catch (why) {
      if (!(why instanceof Malformed)) throw why;
      refuse("receipt.format", "content of the file", "a receipt", why.message);
    }
    if (spell(found) !== source) {
      refuse("receipt.spelling", "spelling of the receipt",
        "compact JSON in the order of the format, ending with one newline",
        "the same content in another spelling, or bytes that do not belong to it", "use the file as it was written");
    }
    return found;
  };

  /** Depth-first over what statements rest on, from `roots`: every statement after all it rests on, each once. */
  const walk = (roots, find) => {
    const order = [];
    const seen = new Set();
    const stack = [...roots].reverse().map((name) => ({ name }));
    while (stack.length > 0) {
      const { name, leave } = stack.pop();
      if (leave) {
        order.push(name);
        continue;
      }
      if (seen.has(name)) continue;
      seen.add(name);
      if (seen.size > ENVELOPES_MAX) refuse("receipt.size", "number of statements", `at most ${ENVELOPES_MAX}`);
      const found = find(name) ?? refuse("receipt.missing", "a statement that another rests on", `envelope ${name}`,
        "nothing: it was removed or changed");
      let prev;
      try {
        prev = envelope.peek(found);
      } catch (why) {
        if (!(why instanceof Malformed)) throw why;
        refuse("receipt.statement", `envelope ${name}`, "a statement", why.message);
      }
      stack.push({ name, leave: true });
      for (let i = prev.length - 1; i >= 0; i -= 1) stack.push({ name: prev[i] });
    }
    return order;
  };

  const collateralDigest = ({ name, bytes }) => {
    const size = new DataView(new ArrayBuffer(8));
    const called = utf8(name);
    size.setBigUint64(0, BigInt(called.length));
    return digest(concat(new Uint8Array(size.buffer), called, bytes));
  };

  /** Version, order of evidence and collateral, and the order of the statements; gives evidence and collateral by digest. */
  const arrange = (it) => {
    if (it.version !== VERSION) {
      refuse("receipt.version", "version", VERSION, it.version, "use a program that knows this version");
    }
    const evidence = it.evidence.map((one) => [digest(utf8(spellEvidence(one))), one]);
    const collateral = it.collateral.map((one) => [collateralDigest(one), one]);
    for (const [what, items] of [["evidence", evidence], ["collateral", collateral]]) {
      if (!ascending(items, ([name]) => name)) {
        refuse(`receipt.${what}`, `order of the ${what}`, "ascending by digest, each once");
      }
    }
    const byDigest = new Map(it.envelopes.map((one) => [one.digest, one]));
    const order = walk(it.roots, (name) => byDigest.get(name));
    const found = it.envelopes.map((one) => one.digest);
    const place = Array.from({ length: Math.max(order.length, found.length) }).findIndex((_, i) => order[i] !== found[i]);
    if (place >= 0) {
      refuse("receipt.order", `envelope ${place} of the receipt`, order[place] ?? "nothing", found[place] ?? "nothing",
        "statements were reordered, added or removed: use the receipt as it was written");
    }
    return { evidence: new Map(evidence), collateral: new Map(collateral.map(([name, one]) => [name, { ...one, digest: name }])) };
  };

  Object.assign(legation, { receipt: { read, spell, arrange, spellEvidence, RECEIPT_MAX } });
})();
