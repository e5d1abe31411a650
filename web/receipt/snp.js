// AMD SEV-SNP reports: the 17 checks of crates/legation-attest/src/snp.rs, in their order and by their names. Development
// evidence has the same bytes under a development root of the reader's anchor file.
// Sources: SEV-SNP firmware ABI, AMD 56860 (the report); VCEK specification, AMD 57230 (the certificates).
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, Malformed, malformed, hex, utf8, unbase64, base64, text, same, x509, plus, date } = legation;

  const REPORT_LEN = 1184;
  const SIGNED_LEN = 0x2a0;
  const [FIELD, SCALAR] = [72, 48];
  /** Longest time past its next update for which a reader believes a list, in seconds: 30 days. */
  const GRACE = 30n * 86_400n;
  const DEVELOPMENT_ROOTS_MAX = 16;

  const AMD = "2b060104019c7801";
  const EXT = {
    structVersion: "01", productName: "02", bootloader: "0301", tee: "0302", snp: "0303", reserved: ["0304", "0305", "0306", "0307"],
    microcode: "0308", fmc: "0309", hwid: "04", csp: "05",
  };
  const PRODUCTS = { Milan: "milan", Genoa: "genoa", Turin: "turin" };
  const certified = (product) => Object.keys(PRODUCTS).find((name) => PRODUCTS[name] === product);
  const hwidLength = (product) => (product === "turin" ? 8 : 64);

  /** Turns what is malformed into a refusal of this check. */
  const by = (check, claim, expected, read) => {
    try {
      return read();
    } catch (why) {
      if (!(why instanceof Malformed)) throw why;
      return refuse(check, claim, expected, why.message);
    }
  };
  const certificate = (what, der) =>
    by("snp.certificate", what, "an X.509 certificate of AMD's profile, in DER", () => x509.certificate(der));

  /** The roots that evidence may end in: AMD's, and those of the anchor file, apart. */
  const roots = async (anchors) => {
    const amd = legation.AMD_ROOTS.map(({ product, pin, ark, ask }) => {
      const root = certificate("AMD's root key certificate", unbase64(ark));
      if (root.fingerprint !== pin) refuse("roots.built-in", `fingerprint of AMD's root for ${product}`, pin, root.fingerprint);
      return { name: `amd-${product}`, product, ark: root, ask: certificate("AMD's signing key certificate", unbase64(ask)) };
    });
    const bad = (name, claim, expected, got) => refuse("roots.development", `${claim} of root \`${name}\``, expected, got);
    if (anchors.development.length > DEVELOPMENT_ROOTS_MAX) {
      refuse("roots.development", "number of development roots", `at most ${DEVELOPMENT_ROOTS_MAX}`, anchors.development.length);
    }
    const development = [];
    for (const { name, ark: der } of anchors.development) {
      if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name)) bad(name, "name", "a name");
      const ark = certificate("certificate of a development root", der);
      const real = amd.find((root) => [root.ark, root.ask].some((one) => same(one.key.bytes, ark.key.bytes)));
      if (real) bad(name, "key", "a key of its own", `the key of ${real.name}`);
      if (!ark.shown.includes("DEVELOPMENT")) bad(name, "subject", "a subject that says DEVELOPMENT", ark.shown);
      if (!(ark.ca && ark.certify && ark.subject === ark.issuer && (await x509.signedBy(ark, ark)))) {
        bad(name, "certificate", "a self-signed certificate authority", "none");
      }
      if (development.some((root) => root.name === name || same(root.ark.key.bytes, ark.key.bytes))) {
        bad(name, "name or key", "each once", "twice");
      }
      development.push({ name, product: null, ark, ask: null });
    }
    return { "sev-snp": amd, "dev-snp": development };
  };

  const parseReport = (bytes) => {
    if (bytes.length !== REPORT_LEN) refuse("snp.length", "size of the report", `${REPORT_LEN} bytes`, `${bytes.length} bytes`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const u32 = (at) => view.getUint32(at, true);
    const u64 = (at) => view.getBigUint64(at, true);
    const part = (at, length) => bytes.subarray(at, at + length);
    const version = u32(0);
    if (version < 2 || version > 5) refuse("snp.version", "version of the report", "2 to 5", version);
    const [r, s] = [SIGNED_LEN, SIGNED_LEN + FIELD];
    const reserved = [
      [0x4c, 0x50], version < 3 ? [0x188, 0x1a0] : [0x18b, 0x1a0], [0x1eb, 0x1ec], [0x1ef, 0x1f0],
      [version < 5 ? 0x1f8 : 0x208, SIGNED_LEN], [r + SCALAR, r + FIELD], [s + SCALAR, s + FIELD], [s + FIELD, REPORT_LEN],
    ];
    for (const [from, to] of reserved) {
      if (bytes.subarray(from, to).some((byte) => byte !== 0)) {
        refuse("snp.reserved", `reserved bytes ${from.toString(16)}h to ${(to - 1).toString(16)}h`, "zeros");
      }
    }
    const [policy, flags] = [u64(0x08), u32(0x48)];
    if ((policy & (1n << 17n)) === 0n) refuse("snp.reserved", "bit 17 of POLICY", 1, 0);
    if (policy >> 26n !== 0n) refuse("snp.reserved", "bits 26 to 63 of POLICY", 0, policy.toString(16));
    if ((flags & ~0x1f) !== 0) refuse("snp.reserved", "bits 5 to 31 of the key flags", 0, flags.toString(16));
    if (u32(0x34) !== 1) refuse("snp.algorithm", "SIGNATURE_ALGO", 1, u32(0x34));
    const firmware = (at) => (bytes[at + 2] << 16) | (bytes[at + 1] << 8) | bytes[at];
    const scalar = (at) => part(at, SCALAR).slice().reverse();
    return {
      version, policy, flags, guestSvn: u32(0x04), familyId: part(0x10, 16), imageId: part(0x20, 16), vmpl: u32(0x30),
      currentTcb: part(0x38, 8), platform: u64(0x40), reportData: part(0x50, 64), measurement: part(0x90, 48),
      hostData: part(0xc0, 32), idKeyDigest: part(0xe0, 48), authorKeyDigest: part(0x110, 48), migrationAgent: part(0x160, 32),
      reportedTcb: part(0x180, 8), cpuid: version >= 3 ? [bytes[0x188], bytes[0x189]] : null, chipId: part(0x1a0, 64),
      committedTcb: part(0x1e0, 8), current: firmware(0x1e8), committed: firmware(0x1ec), launchTcb: part(0x1f0, 8),
      signed: part(0, SIGNED_LEN), signature: legation.concat(scalar(r), scalar(s)),
    };
  };

  /** What a VCEK or VLEK says in AMD's extensions. */
  const readLeaf = (cert) => {
    const find = (id) => cert.extensions.get(AMD + id);
    const byte = (der) => {
      if (der?.length === 3 && der[0] === 2 && der[1] === 1 && der[2] < 0x80) return der[2];
      if (der?.length === 4 && der[0] === 2 && der[1] === 2 && der[2] === 0 && der[3] >= 0x80) return der[3];
      return null;
    };
    const need = (id, name) => byte(find(id) ?? malformed(`no ${name}`)) ?? malformed(`${name} is not a byte`);
    const ia5 = (der) =>
      der && der[0] === 0x16 && der[1] < 0x80 && der[1] === der.length - 2 && der.subarray(2).every((one) => one < 0x80)
        ? text(der.subarray(2))
        : null;
    if (cert.key.kind !== "p384") malformed("an RSA key");
    need(EXT.structVersion, "structVersion");
    const name = ia5(find(EXT.productName) ?? malformed("no productName")) ?? malformed("productName is not a text");
    const line = name.split("-")[0];
    const product = Object.hasOwn(PRODUCTS, line) ? PRODUCTS[line] : malformed(`productName \`${name}\``);
    if (EXT.reserved.some((id) => find(id) && byte(find(id)) !== 0)) malformed("a reserved security version that is not zero");
    if (product !== "turin" && find(EXT.fmc)) malformed(`fmcSPL on ${product}`);
    const tcb = {
      fmc: product === "turin" ? need(EXT.fmc, "fmcSPL") : null, bootloader: need(EXT.bootloader, "blSPL"),
      tee: need(EXT.tee, "teeSPL"), snp: need(EXT.snp, "snpSPL"), microcode: need(EXT.microcode, "ucodeSPL"),
    };
    const [hwid, csp] = [find(EXT.hwid), find(EXT.csp)];
    if ((hwid === undefined) === (csp === undefined)) malformed("not exactly one of hwID and cspID");
    const holder = {};
    if (hwid) {
      const size = hwidLength(product);
      const bare = hwid.length === size ? hwid : null;
      const inner = hwid[0] === 4 && hwid[1] === size && hwid.length === size + 2 ? hwid.subarray(2) : null;
      holder.chip = bare ?? inner ?? malformed(`such a hwID on ${product}`);
    } else {
      holder.provider = ia5(csp) || malformed("cspID is not a short text");
    }
    const commonName = holder.chip ? "SEV-VCEK" : "SEV-VLEK";
    if (cert.commonName !== commonName) malformed(`common name \`${cert.commonName}\`, expected \`${commonName}\``);
    return { ...holder, product, tcb, key: cert.key.bytes };
  };

  const tcbText = ({ fmc, bootloader, tee, snp, microcode }) =>
    `${fmc === null ? "" : `fmcSPL=${fmc}&`}blSPL=${bootloader}&teeSPL=${tee}&snpSPL=${snp}&ucodeSPL=${microcode}`;
  const decodeTcb = (product, b) => {
    const zero = (...places) => places.every((at) => b[at] === 0);
    if (product === "turin") {
      return zero(4, 5, 6) ? { fmc: b[0], bootloader: b[1], tee: b[2], snp: b[3], microcode: b[7] } : null;
    }
    return zero(2, 3, 4, 5) ? { fmc: null, bootloader: b[0], tee: b[1], snp: b[6], microcode: b[7] } : null;
  };
  const atLeast = (a, b) => Object.keys(a).every((part) => (a[part] ?? 0) >= (b[part] ?? 0));
  const productOf = ([family, model]) => {
    if (family === 0x19 && model <= 0x0f) return "milan";
    if (family === 0x19 && ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf))) return "genoa";
    return family === 0x1a && model <= 0x11 ? "turin" : null;
  };

  /** From the certificates to a root: checks 5 to 10. */
  const verifyChain = async (kind, given, all, lists, at) => {
    const leaf = certificate("leaf certificate", given.leaf);
    const brought = given.intermediate && certificate("intermediate certificate", given.intermediate);
    const candidates = all.filter((root) => (brought ? root.ark.subject === brought.issuer : root.ask?.subject === leaf.issuer));
    if (candidates.length === 0) {
      const names = all.map((root) => root.name).join(", ") || "none: no root is trusted";
      refuse("snp.root", `root for ${kind} evidence`, names, (brought ?? leaf).issuerShown,
        "name a development root in the anchor file, if its word is good enough");
    }
    let found = null;
    for (const root of candidates) {
      const intermediate = brought ?? root.ask;
      if (found === null && intermediate.issuer === root.ark.subject && (await x509.signedBy(intermediate, root.ark))) {
        found = { root, intermediate };
      }
    }
    if (found === null) refuse("snp.chain", "signature of the intermediate", "a signature by its root", "a signature that is not");
    const { root, intermediate } = found;
    if (leaf.issuer !== intermediate.subject) refuse("snp.chain", "issuer of the leaf", intermediate.shown, leaf.issuerShown);
    if (!(await x509.signedBy(leaf, intermediate))) {
      refuse("snp.chain", `signature of ${leaf.shown}`, `a signature by ${intermediate.shown}`, "a signature that is not");
    }
    for (const [cert, below] of [[intermediate, 0], [root.ark, 1]]) {
      if (!(cert.ca && cert.certify) || (cert.pathLength !== null && cert.pathLength < below)) {
        refuse("snp.chain", `authority of ${cert.shown}`, "a certificate authority with certificate signing in its key usage", "none");
      }
    }
    if (leaf.ca || leaf.certify) refuse("snp.chain", "authority of the leaf", "none", "a certificate authority");
    for (const cert of [leaf, intermediate, root.ark]) {
      if (at < cert.from || cert.until < at) {
        refuse("snp.dates", `dates of ${cert.shown}`, `${date(cert.from)} to ${date(cert.until)}`, date(at));
      }
    }
    let staleSince = null;
    const own = lists.filter((list) => list.issuer === root.ark.subject);
    for (const list of own) {
      if (!root.ark.revoke || !(await x509.signedBy(list, root.ark))) {
        refuse("snp.crl", "signature of the revocation list", "by its issuer's key, which may sign lists", "another signature");
      }
      if (at < list.issued || plus(list.next, GRACE) < at) {
        refuse("snp.crl", "dates of the revocation list", `${date(list.issued)} to ${date(list.next)}`, date(at));
      }
      if (list.next < at && (staleSince === null || list.next < staleSince)) staleSince = list.next;
      if (intermediate.issuer === list.issuer && list.revoked.has(intermediate.serial)) {
        refuse("snp.crl", "entries of the revocation list", "no entry for the intermediate", intermediate.shown);
      }
    }
    const read = by("snp.extensions", `extensions of ${leaf.shown}`, "those of a VCEK or VLEK", () => readLeaf(leaf));
    const name = root.product ? certified(root.product) : null;
    const wanted = name ? (read.chip ? `SEV-${name}` : `SEV-VLEK-${name}`) : read.chip ? "SEV-DEV" : null;
    if (wanted !== intermediate.commonName) {
      refuse("snp.extensions", `issuer of the leaf under ${root.name}`, wanted ?? "none", intermediate.commonName);
    }
    return { leaf: read, root, staleSince, lists: own.length };
  };

  const allZero = (bytes) => bytes.every((byte) => byte === 0);
  const checkReport = async (report, { leaf, root }) => {
    const signing = (report.flags >> 2) & 7;
    if (signing !== (leaf.chip ? 0 : 1)) {
      refuse("snp.signing-key", "SIGNING_KEY of the report", leaf.chip ? "VCEK" : "VLEK", signing);
    }
    if ((report.flags & 2) !== 0) refuse("snp.signing-key", "MASK_CHIP_KEY of the report", 0, 1);
    if ((report.flags & 1) === 0 && !allZero(report.authorKeyDigest)) {
      refuse("snp.signing-key", "AUTHOR_KEY_DIGEST without AUTHOR_KEY_EN", "zeros", "a digest");
    }
    if (root.product && root.product !== leaf.product) refuse("snp.product", "product of the leaf", root.product, leaf.product);
    if (report.cpuid && productOf(report.cpuid) !== leaf.product) {
      refuse("snp.product", "processor of the report", leaf.product, `family ${report.cpuid[0]} model ${report.cpuid[1]}`);
    }
    const size = hwidLength(leaf.product);
    const masked = allZero(report.chipId);
    const [id, padding] = [report.chipId.subarray(0, size), report.chipId.subarray(size)];
    if ((leaf.chip && !masked && !same(id, leaf.chip)) || !allZero(padding)) {
      refuse("snp.chip-id", "CHIP_ID of the report", leaf.chip ? hex(leaf.chip) : "an id and zeros", hex(report.chipId));
    }
    const tcb = (name, bytes) =>
      decodeTcb(leaf.product, bytes) ?? refuse("snp.tcb", `reserved bytes of ${name}`, "zeros", hex(bytes));
    const [reported, current] = [tcb("REPORTED_TCB", report.reportedTcb), tcb("CURRENT_TCB", report.currentTcb)];
    const committed = tcb("COMMITTED_TCB", report.committedTcb);
    tcb("LAUNCH_TCB", report.launchTcb);
    if (tcbText(reported) !== tcbText(leaf.tcb)) refuse("snp.tcb", "REPORTED_TCB of the report", tcbText(leaf.tcb), tcbText(reported));
    if (!atLeast(current, reported) || !atLeast(current, committed)) {
      refuse("snp.tcb", "REPORTED_TCB and COMMITTED_TCB of the report", `at most ${tcbText(current)}`);
    }
    if (report.committed > report.current) refuse("snp.tcb", "committed firmware version", `at most ${report.current}`, report.committed);
    const algorithm = { name: "ECDSA", namedCurve: "P-384" };
    const verified = await crypto.subtle.importKey("raw", leaf.key, algorithm, false, ["verify"])
      .then((key) => crypto.subtle.verify({ name: "ECDSA", hash: "SHA-384" }, key, report.signature, report.signed))
      .catch(() => false);
    if (!verified) {
      refuse("snp.signature", "signature of the report", "by the leaf's key over bytes 0 to 29Fh", "another signature");
    }
    if ((report.policy & (1n << 18n)) !== 0n && report.migrationAgent.some((byte) => byte !== 0xff)) {
      refuse("snp.migration", "REPORT_ID_MA of a guest that may migrate", "all ones: no agent", hex(report.migrationAgent));
    }
    if (report.vmpl > 3) refuse("snp.vmpl", "privilege level", "0 to 3", report.vmpl);
    return masked;
  };

  // Bits of PLATFORM_INFO and POLICY: bit, first version of the report that defines it, name.
  const PLATFORM = [
    [0n, 2, "smt"], [1n, 2, "tsme"], [2n, 2, "ecc"], [3n, 2, "rapl-disabled"], [4n, 2, "ciphertext-hiding"],
    [5n, 3, "alias-check-complete"], [7n, 5, "tio"],
  ];
  const POLICY = [
    [16n, 2, "policy-smt-allowed"], [18n, 2, "policy-migration-allowed"], [20n, 2, "policy-single-socket"],
    [21n, 2, "policy-cxl-allowed"], [22n, 2, "policy-aes-256-xts"], [23n, 2, "policy-rapl-disabled"],
    [24n, 2, "policy-ciphertext-hiding"], [25n, 5, "policy-page-swap-disabled"],
  ];
  const featuresOf = (report) => {
    const named = (table, bits) =>
      table.filter(([bit, from]) => report.version >= from && ((bits >> bit) & 1n) === 1n).map(([, , name]) => name);
    const names = [...named(PLATFORM, report.platform), ...named(POLICY, report.policy)];
    if ((report.platform & 1n) === 0n) names.push("smt-disabled");
    return names.sort();
  };
  const registersOf = (report) => {
    const svn = new Uint8Array(4);
    new DataView(svn.buffer).setUint32(0, report.guestSvn);
    const all = {
      hostdata: report.hostData, idkeydigest: report.idKeyDigest, authorkeydigest: report.authorKeyDigest,
      familyid: report.familyId, imageid: report.imageId, guestsvn: svn,
    };
    return new Map(Object.entries(all).filter(([, bytes]) => !allZero(bytes)).map(([name, bytes]) => [name, hex(bytes)]));
  };

  const hardware = (value) => ({ value, source: "hardware", confidence: 1000n });
  const endorsed = (value) => ({ value, source: "endorsed", confidence: 950n });
  const chipOf = (report, leaf, masked) => {
    if (leaf.chip) return masked ? endorsed(hex(leaf.chip)) : hardware(hex(leaf.chip));
    return masked ? endorsed(hex(utf8(leaf.provider))) : hardware(hex(report.chipId.subarray(0, hwidLength(leaf.product))));
  };

  /** The name of the certificate that a report without one needs, as collateral. */
  const vcekName = (bytes) => {
    const report = parseReport(bytes);
    const unnamed = (got) => refuse("evidence.endorsements", "certificate of the report's key",
      "one beside the report, or a report that says which chip's it is", got);
    if (((report.flags >> 2) & 7) !== 0) unnamed("none, and no chip's key signed");
    const product = (report.cpuid && productOf(report.cpuid)) ?? unnamed("none, and no product in the report");
    const id = report.chipId.subarray(0, hwidLength(product));
    if (allZero(id)) unnamed("none, and no chip in the report");
    const tcb = decodeTcb(product, report.reportedTcb) ?? unnamed("none, and no security version of this product");
    const svn = Object.values(tcb).filter((part) => part !== null).map((part) => String(part).padStart(2, "0")).join("-");
    const hwid = base64(id).replace(/=+$/, "").replaceAll("+", "-").replaceAll("/", "_");
    return `vcek/${product}/${hwid}/${svn}`;
  };

  /** Judges a report of `kind` with its certificates as of `at`; `shelf` is collateral by name. Gives claims and what was used. */
  const verify = async ({ kind, report: bytes, endorsements }, all, shelf, at) => {
    const prefix = kind === "dev-snp" ? "dev/" : "amd/";
    const used = new Set();
    const given = { leaf: endorsements[0], intermediate: endorsements[1] };
    if (endorsements.length === 0 && kind === "sev-snp") {
      const name = vcekName(bytes);
      const item = shelf.get(name) ?? refuse("collateral.missing", "certificate of the chip", name, "none at hand");
      given.leaf = item.bytes;
      used.add(item.digest);
    } else if (endorsements.length < 1 || endorsements.length > 2) {
      refuse("evidence.endorsements", "number of endorsements", "leaf, or leaf and intermediate", endorsements.length);
    }
    const under = (start) => [...shelf.values()].filter((item) => item.name.startsWith(start));
    const lists = under(prefix).map((item) =>
      by("snp.crl", "form of the revocation list", "an X.509 CRL of AMD's profile, in DER", () => x509.list(item.bytes)));
    const report = parseReport(bytes);
    const chain = await verifyChain(kind, given, all[kind], lists, at);
    const masked = await checkReport(report, chain);
    const { leaf, root } = chain;
    for (const item of under(`${prefix}${kind === "dev-snp" ? root.name : leaf.product}/`)) used.add(item.digest);
    const tcb = { version: tcbText(leaf.tcb), status: "unknown", shortfall: [], advisories: [], level: null };
    const claims = {
      tee: hardware(kind), anchor: { kind: kind === "dev-snp" ? "development" : "production", name: root.name },
      measurement: hardware(hex(report.measurement)), registers: registersOf(report), chip: chipOf(report, leaf, masked),
      tcb: hardware(tcb), debug: hardware((report.policy & (1n << 19n)) !== 0n), confidential: hardware(true),
      product: endorsed(leaf.product), vmpl: hardware(BigInt(report.vmpl)), region: null, operator: null,
      features: hardware(featuresOf(report)), memory: null, gpus: [], vouched: null, stale_since: chain.staleSince,
      revocation: chain.lists > 0 ? "checked" : "unchecked", report_data: hex(report.reportData),
    };
    return { claims, used };
  };

  Object.assign(legation, { snp: { roots, verify, by, GRACE } });
})();
