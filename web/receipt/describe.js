// A receipt in words: what each link says, the tree, and the last line (crates/legation-core/src/receipt/{describe,tree}.rs,
// crates/legation/src/verify.rs). Texts that a signer chose are escaped.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { keyId, short, date, oneLine } = legation;

  const indices = (list) => list.map((index) => `#${index}`).join(" ");
  const fuel = (amount) => (amount >= 10_000_000n ? `${amount / 1_000_000n} Mfuel` : `${amount} fuel`);
  const title = (word) => word[0].toUpperCase() + word.slice(1);
  const sure = (thousandths) => (thousandths >= 1000n ? "1" : `0.${String(thousandths).padStart(3, "0")}`);

  const says = {
    appointment: (it) => `${title(it.office)} ${short(keyId(it.key))} by operator ${short(keyId(it.operator))}`,
    passport: ({ claims, configuration, enclave, expires }) =>
      `enclave ${short(keyId(enclave))} is ${claims.tee.value} (${claims.anchor.kind}(${oneLine(claims.anchor.name)})), ` +
      `${configuration.provider} in ${configuration.region}, tee confidence ${sure(claims.tee.confidence)}, until ${date(expires)}`,
    request: (it) => `\`${oneLine(it.name)}\` of tenant ${it.tenant}: ${it.fragments.length} fragments`,
    allocation: (it) => {
      const what = it.loan ? `calls of fragment #${it.fragment} by enclave ${short(it.loan.borrower)}` : `fragment #${it.fragment}`;
      return `${what} to enclave ${short(it.enclave)} (${it.provider}, ${it.region}), lease-${it.lease}${it.limits ? ", with limits" : ""}`;
    },
    grant: (it) => {
      const to = it.subject.kind === "enclave" ? `enclave ${short(it.subject.value)}` : `any enclave under policy ${short(it.subject.value)}`;
      const passed = it.delegable ? `, parts of it by others to depth ${it.depth}, ${fuel(it.delegable.fuel)} at most` : "";
      return `${indices(it.fragments)} may be run by ${to}, ${it.releases.length} keys released${passed}`;
    },
    call: (it) =>
      `enclave ${short(keyId(it.delegator))} asks a part of fragment #${it.fragment} of lease-${it.loan}, call ${it.number} of it, ` +
      `${legation.request.showAssurance(it.assurance)}, at most ${fuel(it.demand.fuel)}`,
    report: (it) => {
      const what = it.answer ? `call ${short(it.answer.call)} of fragment #${it.fragment}` : `fragment #${it.fragment}`;
      const ended = it.outcome.kind === "completed" ? "completed" : `failed (${oneLine(it.outcome.reason)})`;
      const against = it.dissent.length > 0 ? `, against ${it.dissent.map(short).join(" ")}` : "";
      return `${what} by enclave ${short(keyId(it.enclave))}: ${ended}, ${fuel(it.usage.fuel)}${against}`;
    },
    aggregate: (it) => `fragment #${it.fragment} rests on ${it.reports.length} reports`,
    seating: (it) => `round ${it.round} of the swarm: ${it.seats.length} seats`,
    membership: (it) => `enclave ${short(keyId(it.enclave))} judged and joined the ${it.members.length} members of round ${it.round}`,
  };
  const describe = ({ kind, it }) => says[kind](it);

  /** The links that did something, as a tree: aggregates, reports and calls, each once, a call above its answer. */
  const tree = (links) => {
    const all = new Map(links.map((link) => [link.digest, link]));
    const acts = (link) => link.kind === "aggregate" || link.kind === "report";
    const used = new Set(links.filter(acts).flatMap((link) => link.prev));
    const waiting = links.filter((link) => acts(link) && !used.has(link.digest)).reverse().map((link) => ({ depth: 0, link }));
    const [out, seen] = [[], new Set()];
    while (waiting.length > 0) {
      let { depth, link } = waiting.pop();
      if (seen.has(link.digest)) continue;
      seen.add(link.digest);
      const below = link.prev.map((name) => all.get(name)).filter(Boolean);
      const call = below.find((other) => other.kind === "call");
      if (call) {
        out.push({ depth, link: call });
        depth += 1;
      }
      out.push({ depth, link });
      waiting.push(...below.filter(acts).reverse().map((other) => ({ depth: depth + 1, link: other })));
    }
    return out;
  };

  const why = ({ check, claim, expected, got, fix }) =>
    oneLine([`${check}: ${claim}`, expected && `expected ${expected}`, got && `got ${got}`, fix].filter(Boolean).join("; "));
  /** The last line of everything that verifies a receipt. */
  const lastLine = (answer) => {
    switch (answer.verdict) {
      case "unusable":
        return `nothing was verified, what was given will not do: ${why(answer.why)}`;
      case "invalid":
        return `receipt INVALID at ${oneLine(answer.at)}: ${why(answer.why)}`;
      case "not-judged":
        return `receipt NOT JUDGED: this page does not judge ${answer.unjudged.join(", ")} evidence; ` +
          "everything else holds. Verify it with `legation receipt verify`";
      default: {
        const but = answer.verdict === "valid" ? "" : " (development: proves the protocol, not confidentiality)";
        const ended = answer.completed ? "completed" : "failed";
        return `receipt valid${but}: task ${short(answer.task)} ${ended}; anchors ${answer.anchors.map(oneLine).join(", ")}`;
      }
    }
  };
  /** What the logs of the anchors say of it, where there is something to say. */
  const logLine = (log) => {
    if (log === null) return "log: the receipt does not show that its statements are in a log";
    const by = log.witnesses.map(({ name, at }) => `${oneLine(name)} at ${date(at)}`).join(", ") || "no witness";
    return `log: ${log.entries} statements are among the first ${log.size} of ${oneLine(log.origin)}, cosigned by ${by}; they bind the others`;
  };

  /** What was to be proven, and counts as attested here; each on a line. */
  const proofLines = (proofs) =>
    proofs.map(({ report, state }) =>
      `report ${short(report)} is attested: ${state === "awaited" ? "its proof is awaited" : "proof not judged here"}`);

  Object.assign(legation, { describe, tree, lastLine, logLine, proofLines });
})();
