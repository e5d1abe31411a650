// Whole evidence (crates/legation-attest/src/evidence.rs): size, form, the report by its kind, what the report binds, dates. The
// report itself is judged of the kinds `dev-snp` and `sev-snp`. Of every other kind this page says that it does not judge it,
// and a receipt that rests on one is never called valid here.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, words, json, text, digest, hex, utf8, concat, snp, date } = legation;

  const EVIDENCE_MAX = 512 * 1024;
  const ENDORSEMENTS_MAX = 8;
  const DEVICES_MAX = 16;
  const DOMAIN = "legation-key-v1";
  const JUDGED = ["dev-snp", "sev-snp"];

  const form = (check, what, bytes, read) =>
    snp.by(check, `form of the ${what}`, `JSON of a ${what} of this version`, () => read(json.parse(text(bytes))));
  const total = (list) => list.reduce((sum, item) => sum + item.length, 0);

  /** A judge for the roots of an anchor file: a function from evidence, collateral by name, and a time to what was found. */
  const judge = async (anchors) => {
    const roots = await snp.roots(anchors);
    return async (evidence, shelf, at, passport) => {
      const devices = total(evidence.devices.map((one) => ({ length: one.report.length + total(one.endorsements) })));
      const { report, endorsements, binding: bound } = evidence;
      const size = report.length + total(endorsements) + devices + bound.length + evidence.configuration.length;
      const most = Math.max(endorsements.length, ...evidence.devices.map((one) => one.endorsements.length));
      if (size > EVIDENCE_MAX || most > ENDORSEMENTS_MAX || evidence.devices.length > DEVICES_MAX) {
        refuse("evidence.size", "size of the evidence", `at most ${EVIDENCE_MAX} bytes`, `${size} bytes`);
      }
      const binding = form("evidence.binding", "key binding", bound, words.binding);
      const configuration = form("evidence.configuration", "configuration", evidence.configuration, words.configuration);
      const unjudged = [];
      let found = null;
      if (JUDGED.includes(evidence.kind) && evidence.devices.length === 0) {
        found = await snp.verify(evidence, roots, shelf, at);
        const hash = await crypto.subtle.digest("SHA-512", concat(utf8(DOMAIN), bound));
        const whole = hex(new Uint8Array(hash));
        if (found.claims.report_data.length < 64 || !whole.startsWith(found.claims.report_data)) {
          refuse("evidence.report-data", "report data of the report", `${whole}, the hash of the key binding`, found.claims.report_data);
        }
      } else {
        // What the verifier says of it is taken for the checks that follow, and the verdict says that nobody judged it here.
        unjudged.push(JUDGED.includes(evidence.kind) ? `${evidence.kind} with devices` : evidence.kind);
        found = { claims: passport.claims, used: new Set(passport.collateral) };
      }
      if (binding.configuration !== digest(evidence.configuration)) {
        refuse("evidence.configuration", "configuration that the binding carries", digest(evidence.configuration), binding.configuration);
      }
      const { region } = found.claims;
      if (region && region.value !== configuration.region) {
        refuse("evidence.region", "region in the configuration", region.value, configuration.region);
      }
      if (at < binding.not_before || binding.not_after < at) {
        refuse("evidence.dates", "dates of the key binding", `${date(binding.not_before)} to ${date(binding.not_after)}`, date(at));
      }
      return { claims: found.claims, binding, configuration, collateral: [...found.used].sort(), unjudged };
    };
  };

  Object.assign(legation, { evidence: { judge, JUDGED } });
})();
