// node --test web/receipt/test.mjs: the page's check against vectors/, against published evidence of real machines where it lies beside
// the repository, and against the platform's own cryptography. What is not there is skipped, and said loudly.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import crypto from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { SCRIPTS, legation, tree, verify } from "./check.mjs";

const { json, words, envelope, ed25519, grant, delegation, evidence: judging, snp, digest, utf8, base64, unbase64, equal, log } = legation;

const VERSION = "legation-vectors/v1";
const here = (path) => new URL(path, import.meta.url);
const VECTORS = here("../../vectors/");
const PUBLISHED = here("../../../shared/evidence/snp/");

const present = existsSync(VECTORS) ? readdirSync(VECTORS).filter((name) => name.endsWith(".json")) : [];
const read = (name) => {
  const text = readFileSync(new URL(name, VECTORS), "utf8");
  const vectors = JSON.parse(text);
  assert.equal(vectors.version, VERSION, name);
  return { ...vectors, text };
};
const of = (kind) => present.filter((name) => name !== "chips.json").map((name) => [name, read(name)]).filter(([, one]) => one.kind === kind);
/** A set of vectors; where it is missing, a test that is skipped. */
const sets = (kind, run) => {
  const found = of(kind);
  if (found.length === 0) {
    console.error(`SKIPPED: no vectors of kind \`${kind}\` in vectors/: UPDATE_EXPECT=1 cargo nextest run vectors`);
    test(`vectors of kind ${kind}`, { skip: "not in vectors/" }, () => {});
  }
  for (const [name, vectors] of found) describe(name, () => run(vectors));
};

/** What a check refuses with; nothing where it does not. */
const refusal = async (run) => {
  try {
    await run();
    return null;
  } catch (why) {
    if (why instanceof legation.Rejection) return why.check;
    throw why;
  }
};
const shaped = (shape, value) => shape(json.parse(JSON.stringify(value)));

/** Believes what evidence says in so many words: vectors/README.md, `"judge": "believe"`. */
const believer = (anchors) => async (evidence, shelf, at) => {
  const form = (bytes, shape) => snp.by("evidence.form", "the evidence", "JSON", () => shape(json.parse(legation.text(bytes))));
  const claims = form(evidence.report, words.claims);
  const binding = form(evidence.binding, words.binding);
  const configuration = form(evidence.configuration, words.configuration);
  if (claims.anchor.kind === "development" && !anchors.includes(claims.anchor.name)) legation.refuse("evidence.root", "root of the evidence");
  if (at < binding.not_before || binding.not_after < at) legation.refuse("evidence.dates", "dates of the key binding");
  return { claims, binding, configuration, collateral: [...shelf.values()].map((item) => item.digest).sort(), unjudged: [] };
};
const BELIEVED = ["bench"];

sets("receipts", ({ judge, anchors, envelopes, evidence, cases }) => {
  assert.equal(judge, "believe");
  const textOf = (receipt) => {
    const all = (names, from) => names.map((name) => from[name]);
    return `${JSON.stringify({ ...receipt, envelopes: all(receipt.envelopes, envelopes), evidence: all(receipt.evidence, evidence) })}\n`;
  };
  const texts = new Map(cases.filter((one) => one.receipt).map((one) => [one.name, textOf(one.receipt)]));
  for (const { name, text, edit, revocations, expected, anchors: own } of cases) {
    test(name, async () => {
      const source = text ?? (edit ? texts.get(edit.of).replace(edit.find, () => edit.replace) : texts.get(name));
      const files = { receipt: utf8(source), anchors: utf8(JSON.stringify(own ?? anchors)) };
      if (revocations) files.revocations = utf8(JSON.stringify(revocations));
      const answer = await verify(files, { judge: believer(BELIEVED) });
      const said = answer.why ? `${answer.at}: ${answer.why.check}: ${answer.why.claim}; ${answer.why.got}` : "";
      assert.equal(answer.verdict, expected.verdict, said);
      if (expected.verdict === "invalid") {
        assert.deepEqual([answer.at, answer.why.check], [expected.at, expected.check], said);
        return;
      }
      const drawn = tree(answer.links).map(({ depth, link }) => [depth, link.digest]);
      const { task, completed, anchors: names, warnings } = answer;
      const proofs = Object.fromEntries(answer.proofs.map(({ report, state }) => [report, state]));
      const { verdict, ...found } = { proofs: {}, ...expected };
      assert.deepEqual({ task, completed, anchors: names, warnings: warnings.length, tree: drawn, proofs }, found, verdict);
    });
  }
});

sets("statements", ({ statements, signatures }) => {
  for (const { name, kind, envelope: written, digest: named, opens } of statements) {
    test(name, async () => {
      const read = shaped(envelope.read, written);
      assert.equal(read.digest, named);
      assert.equal(await refusal(() => envelope.open(read, kind)), opens ? null : "receipt.signature");
    });
  }
  for (const { name, key, message, signature, good } of signatures) {
    test(`signature: ${name}`, async () => {
      const [k, m, s] = [key, message, signature].map(unbase64);
      assert.equal(await ed25519.verify(k, m, s), good);
      // The small implementation says the same as the platform's.
      assert.equal(await ed25519.computed(k, m, s), good, "computed");
    });
  }
});

sets("grants", ({ text }) => {
  // Read by our own reader: some numbers are past 2^53.
  const fields = (value) => Object.fromEntries(value.entries);
  const { request, within, passed } = fields(json.parse(text));
  const grantOf = words.statements.grant.read;
  for (const { name, grant: one, check } of within.map(fields)) {
    test(`within: ${name}`, async () => {
      const signed = await envelope.open(envelope.read(request), "request");
      assert.equal(await refusal(() => grant.checkGrant(signed, grantOf(one))), check);
    });
  }
  for (const { name, parent, child, check } of passed.map(fields)) {
    test(`passed on: ${name}`, async () => {
      assert.equal(await refusal(() => delegation.attenuates(grantOf(parent), grantOf(child))), check);
    });
  }
});

sets("evidence", ({ anchors, evidence, lists, cases }) => {
  const whole = new Map(Object.entries(evidence).map(([name, one]) => [name, shaped(words.evidence, one)]));
  const items = new Map(Object.entries(lists).map(([name, one]) => {
    const item = shaped(words.collateral, one);
    const size = Buffer.alloc(8);
    size.writeBigUInt64BE(BigInt(Buffer.byteLength(item.name)));
    return [name, { ...item, digest: digest(size, utf8(item.name), item.bytes) }];
  }));
  const judged = judging.judge(shaped(words.anchors, anchors));
  const flipped = (one, { part, at, mask }) => {
    const [name, place] = part.split("-");
    const copy = structuredClone(one);
    const bytes = name === "endorsement" ? copy.endorsements[Number(place)] : copy[name];
    bytes[at] ^= mask;
    return copy;
  };
  for (const { name, of: which, flip, lists: given = [], at, check, claims, collateral = [] } of cases) {
    test(name, async () => {
      const judge = await judged;
      const shelf = new Map(given.map((list) => [items.get(list).name, items.get(list)]));
      const one = flip ? flipped(whole.get(which), flip) : whole.get(which);
      let found = null;
      const refused = await refusal(async () => {
        found = await judge(one, shelf, BigInt(at), null);
      });
      if (check !== null && flip?.part.startsWith("endorsement")) {
        // Where in a certificate an altered bit is noticed is the reader's: as a form, a name, or a signature that is wrong.
        assert.notEqual(refused, null);
        return;
      }
      assert.equal(refused, check);
      if (check !== null) return;
      assert.ok(equal(found.claims, shaped(words.claims, claims)), "claims");
      assert.deepEqual(found.collateral, collateral);
    });
  }
});

describe("what is no vector", () => {
  test("the page loads every script of its folder, the page itself last", () => {
    const folder = readdirSync(here(".")).filter((name) => name.endsWith(".js"));
    assert.deepEqual([...SCRIPTS, "page.js"].sort(), folder.sort());
    assert.ok(readFileSync(here("index.html"), "utf8").trimEnd().includes('<script src="page.js"></script>\n</body>'));
  });

  test("the page reaches no network: no address, no request, in any file", () => {
    for (const name of [...SCRIPTS, "page.js", "index.html"]) {
      const text = readFileSync(here(name), "utf8");
      assert.doesNotMatch(text, /\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import\(|\beval\(|innerHTML/, name);
      // Types of statements are names, not places.
      const places = [...text.matchAll(/https?:\/\/[^\s"'`]+/g)].map(([place]) => place);
      const named = ["https://legation.dev/${kind}/v1", "https://in-toto.io/Statement/v1"];
      assert.deepEqual(places.filter((place) => !named.includes(place)), [], name);
    }
  });

  test("SHA-256 is the platform's", () => {
    for (let size = 0; size < 300; size += 1) {
      const bytes = crypto.randomBytes(size);
      assert.equal(digest(bytes), crypto.createHash("sha256").update(bytes).digest("hex"), `${size} bytes`);
    }
  });

  test("base64 is read in one spelling", () => {
    for (let size = 0; size < 70; size += 1) {
      const bytes = crypto.randomBytes(size);
      assert.equal(base64(bytes), bytes.toString("base64"));
      assert.deepEqual(unbase64(base64(bytes)), new Uint8Array(bytes));
    }
    for (const bad of ["AA=", "AAA", "AB==", "A A=", "AA==\n", "AA==AA==", "====", "A===", "AA-_", "\u0100AAA"]) {
      assert.throws(() => unbase64(bad), legation.Malformed, bad);
    }
  });

  test("JSON is read to the last digit, and in no looser form", () => {
    assert.equal(json.parse("18446744073709551615").text, "18446744073709551615");
    for (const bad of ["", " ", "01", "1.", ".5", "+1", "NaN", "[1,]", "{,}", '{"a":1,}', "'a'", '"\t"', '"\\x"', '"\\ud800"', "[", "1 2", "\ufeff1"]) {
      assert.throws(() => json.parse(bad), legation.Malformed, bad);
    }
    assert.throws(() => json.parse("[".repeat(128) + "]".repeat(128)), legation.Malformed);
    json.parse("[".repeat(127) + "]".repeat(127));
  });

  test("Ed25519: the small implementation and the platform's agree", async () => {
    const { publicKey, privateKey } = crypto.generateKeyPairSync("ed25519");
    const key = new Uint8Array(publicKey.export({ format: "der", type: "spki" }).subarray(12));
    for (let n = 0; n < 20; n += 1) {
      const message = new Uint8Array(crypto.randomBytes(n));
      const signature = new Uint8Array(crypto.sign(null, message, privateKey));
      assert.ok((await ed25519.verify(key, message, signature)) && (await ed25519.computed(key, message, signature)));
      signature[n] ^= 1;
      assert.ok(!(await ed25519.verify(key, message, signature)) && !(await ed25519.computed(key, message, signature)));
    }
  });

  test("requirements are read as they are written, and in no other way", () => {
    const good = ["any", 'region == "eu"', "not (tee in [tdx, sgx] or price < 0.02 usd/h)", "memory >= 1.5 GiB and cpu > 2 cores", "debug",
      "confidence(gpu) == 0.95", "((any))"];
    const bad = ["", "any any", "region < eu", "tee == amd", "price < 1", "memory > 1", "x == 1", "confidence(tee) > 1.5", "gpus == 0.5",
      "tee in []", "not", "(any", "region = eu", `${"(".repeat(34)}any${")".repeat(34)}`, `region == "${"x".repeat(4096)}"`];
    for (const source of good) legation.requirement.parse(source);
    for (const source of bad) assert.throws(() => legation.requirement.parse(source), legation.Malformed, source);
  });

  test("evidence that is not judged here is never called valid", async () => {
    const judge = await judging.judge({ development: [] });
    const key = base64(new Uint8Array(32));
    const configuration = utf8(JSON.stringify({
      provider: "p", region: "r", capacity: { cpu: 1, memory: 1, slots: 1 }, rate: { core_hour: 1, gib_hour: 1 }, operators: [],
    }));
    const binding = utf8(JSON.stringify({
      role: "agent", identity: key, sealing: base64(new Uint8Array(1216)), image: "0".repeat(64), configuration: digest(configuration),
      not_before: 0, not_after: 9, nonce: "0".repeat(64),
    }));
    for (const kind of words.KINDS.filter((one) => !judging.JUDGED.includes(one))) {
      const evidence = { kind, report: new Uint8Array(), endorsements: [], devices: [], binding, configuration };
      const found = await judge(evidence, new Map(), 5n, { claims: { region: null }, collateral: [] });
      assert.deepEqual(found.unjudged, [kind]);
    }
  });

  test("a receipt is proved to be in a log, or refused", async () => {
    const pair = () => {
      const { publicKey, privateKey } = crypto.generateKeyPairSync("ed25519");
      return { key: base64(publicKey.export({ format: "der", type: "spki" }).subarray(12)), sign: (bytes) => crypto.sign(null, bytes, privateKey) };
    };
    const [own, witness] = [pair(), pair()];
    const sha = (...parts) => crypto.createHash("sha256").update(Buffer.concat(parts.map((part) => Buffer.from(part)))).digest();
    const names = Array.from({ length: 7 }, (_, n) => digest(Uint8Array.of(n)));
    const leaves = names.map((name) => sha([0], Buffer.from(name, "hex")));
    const split = (n) => 2 ** Math.floor(Math.log2(n - 1));
    const root = (list) => (list.length === 1 ? list[0] : sha([1], root(list.slice(0, split(list.length))), root(list.slice(split(list.length)))));
    const path = (list, at) => {
      if (list.length === 1) return [];
      const k = split(list.length);
      return at < k ? [...path(list.slice(0, k), at), root(list.slice(k))] : [...path(list.slice(k), at - k), root(list.slice(0, k))];
    };
    const line = (name, kind, key, bytes) => {
      const id = sha(utf8(name), utf8("\n"), [kind], unbase64(key)).subarray(0, 4);
      return `\u2014 ${name} ${base64(Buffer.concat([id, bytes]))}\n`;
    };
    const text = `log.example\n7\n${root(leaves).toString("base64")}\n`;
    const time = Buffer.alloc(8);
    time.writeBigUInt64BE(99n);
    const cosigned = line("watcher", 4, witness.key, Buffer.concat([time, witness.sign(Buffer.from(`cosignature/v1\ntime 99\n${text}`))]));
    const checkpoint = `${text}\n${line("log.example", 1, own.key, own.sign(Buffer.from(text)))}${cosigned}`;
    const [nodes, places] = [[], new Map()];
    const place = (hash) => {
      const name = hash.toString("hex");
      if (!places.has(name)) places.set(name, BigInt(nodes.push(name) - 1));
      return places.get(name);
    };
    const proofs = names.map((_, n) => ({ index: BigInt(n), path: path(leaves, n).map(place) }));
    const section = { checkpoint, nodes, proofs };
    const anchor = { origin: "log.example", key: own.key, witnesses: [{ name: "watcher", key: witness.key }], quorum: 1n };
    const roots = [names[6]];
    const found = await log.check(section, names, roots, [anchor]);
    assert.deepEqual([found.size, found.entries, found.witnesses], [7n, 7, [{ name: "watcher", at: 99n }]]);

    const refused = (change, list = names, anchors = [anchor]) => {
      const other = structuredClone(section);
      change(other);
      return refusal(() => log.check(other, list, roots, anchors));
    };
    // What is no entry itself needs no proof, but results are entries.
    const last = (s) => Object.assign(s, { nodes: s.proofs[6].path.map((at) => s.nodes[at]), proofs: [null, null, null, null, null, null, { index: 6n, path: s.proofs[6].path.map((_, n) => BigInt(n)) }] });
    assert.equal(await refused(last), null);
    assert.equal(await refused((s) => (last(s).proofs[6] = null)), "receipt.log.root");
    const nothing = () => {};
    assert.equal(await refused(nothing, names, [{ ...anchor, origin: "other" }]), "receipt.log.checkpoint");
    assert.equal(await refused(nothing, names, [{ ...anchor, key: witness.key }]), "receipt.log.checkpoint");
    assert.equal(await refused(nothing, names, [{ ...anchor, quorum: 2n }]), "receipt.log.witnesses");
    assert.equal(await refused((s) => (s.checkpoint = s.checkpoint.replace("\n7\n", "\n8\n"))), "receipt.log.checkpoint");
    assert.equal(await refused((s) => (s.checkpoint += "\n")), "receipt.log.checkpoint");
    assert.equal(await refused((s) => s.proofs.pop()), "receipt.log.proofs");
    assert.equal(await refused((s) => (s.proofs[2].index = 3n)), "receipt.log.proof");
    assert.equal(await refused((s) => (s.proofs[2].index = 7n)), "receipt.log.proof");
    assert.equal(await refused((s) => s.proofs[2].path.pop()), "receipt.log.proof");
    assert.equal(await refused((s) => s.nodes.push("0".repeat(64))), "receipt.log.nodes");
    assert.equal(await refused((s) => s.nodes.push(s.nodes[0])), "receipt.log.nodes");
    assert.equal(await refused((s) => (s.nodes[0] = "0".repeat(64))), "receipt.log.proof");
    assert.equal(await refused((s) => (s.proofs[0].path[0] = 5n)), "receipt.log.nodes");
    assert.equal(await refused(nothing, [...names].reverse()), "receipt.log.proof");

    const at = async (section, roots, anchors = [anchor]) => {
      const why = await log.check(section, names, roots, anchors).catch((why) => why);
      return [why.at, why.check];
    };
    // A section that proves nothing is none: results are results of this receipt.
    const foreign = digest(Uint8Array.of(99));
    const nulls = { ...section, nodes: [], proofs: names.map(() => null) };
    assert.deepEqual(await at(nulls, [foreign]), ["the log", "receipt.log.root"]);
    assert.deepEqual(await at(nulls, []), ["the log", "receipt.log.root"]);
    assert.deepEqual(await at(section, [names[6], foreign]), ["the log", "receipt.log.root"]);
    assert.deepEqual(await at(nulls, [names[6]]), [`envelope 6 (${names[6].slice(0, 12)}) in the log`, "receipt.log.root"]);
    assert.deepEqual(await at({ ...nulls, proofs: [] }, []), ["the log", "receipt.log.proofs"]);
    // A node twice, though each of the two is used where it stands.
    const again = structuredClone(section);
    const [first, second] = [again.proofs[0].path[0], BigInt(again.nodes.length)];
    again.nodes.push(again.nodes[Number(first)]);
    again.proofs[6].path = again.proofs[6].path.map((place) => (place === first ? second : place));
    assert.deepEqual(await at(again, roots), ["the log", "receipt.log.nodes"]);
    // Two names of one key: what a witness signs has no name in it.
    const other = line("watcher2", 4, witness.key, Buffer.concat([time, witness.sign(Buffer.from(`cosignature/v1\ntime 99\n${text}`))]));
    const both = { ...section, checkpoint: checkpoint + other };
    const renamed = [...anchor.witnesses, { name: "watcher2", key: witness.key }];
    const once = await log.check(both, names, roots, [{ ...anchor, witnesses: renamed }]);
    assert.deepEqual(once.witnesses, [{ name: "watcher", at: 99n }]);
    assert.deepEqual(await at(both, roots, [{ ...anchor, witnesses: renamed, quorum: 2n }]), ["the log", "receipt.log.witnesses"]);
    // The tree without entries has one root.
    const empty = (hash) => {
      const body = `log.example\n0\n${base64(hash)}\n`;
      return { checkpoint: `${body}\n${line("log.example", 1, own.key, own.sign(Buffer.from(body)))}`, nodes: [], proofs: [] };
    };
    const unwatched = [{ ...anchor, witnesses: [], quorum: 0n }];
    const judged = async (section) => refusal(() => log.check(section, [], [foreign], unwatched));
    assert.equal(await judged(empty(sha([1]))), "receipt.log.checkpoint");
    assert.equal(await judged(empty(sha())), "receipt.log.root");
  });

  test("calls for a fragment are together within what its request lets be handed on, by whatever grants", async () => {
    const request = { digest: "r", it: { fragments: [{ delegates: { fuel: 80n, budget: 9n } }] } };
    const by = (name) => ({ leaf: { digest: name, it: { fuel: 60n, budget: 8n } }, above: [], index: 0n });
    const spent = (...amounts) => {
      const handed = new legation.Handed({});
      return refusal(() => amounts.forEach(([name, fuel, price]) => handed.spend({ request, lineage: by(name) }, fuel, price)));
    };
    assert.equal(await spent(["a", 40n, 4n], ["b", 40n, 5n]), null);
    assert.equal(await spent(["a", 40n, 4n], ["b", 41n, 5n]), "receipt.handed");
    assert.equal(await spent(["a", 40n, 4n], ["b", 40n, 6n]), "receipt.handed");
  });

  test("`production` drops development roots of TPMs as of chips", async () => {
    const [set] = of("receipts").map(([, one]) => one).filter((one) => one.cases.some((each) => each.receipt && each.expected.task));
    const { receipt } = set.cases.find((each) => each.receipt && each.expected.task);
    const all = (names, from) => names.map((name) => from[name]);
    const text = { ...receipt, envelopes: all(receipt.envelopes, set.envelopes), evidence: all(receipt.evidence, set.evidence) };
    const [root] = set.anchors.development;
    const tpm = [{ name: root.name, development: true, root: root.ark }];
    const answer = (anchors, production) => verify(
      { receipt: utf8(`${JSON.stringify(text)}\n`), anchors: utf8(JSON.stringify({ operators: set.anchors.operators, ...anchors })) },
      { judge: believer(BELIEVED), production });
    for (const anchors of [{ development: [root] }, { tpm }]) {
      assert.equal((await answer(anchors, false)).verdict, "valid-but-development");
      assert.equal((await answer(anchors, true)).why.check, "receipt.anchor");
    }
  });

  test("what is too large is refused unread", () => {
    const folder = mkdtempSync(join(tmpdir(), "legation-"));
    try {
      const [large, small, list] = ["large", "small", "list"].map((name) => join(folder, name));
      for (const path of [large, small, list]) writeFileSync(path, "{}");
      // A gigabyte that takes no room.
      truncateSync(large, 1 << 30);
      truncateSync(list, (4 << 20) + 1);
      const run = (...paths) => {
        const ended = spawnSync(process.execPath, [fileURLToPath(here("check.mjs")), ...paths], { encoding: "utf8", timeout: 60_000 });
        return [ended.status, ended.stdout.trimEnd()];
      };
      const invalid = "receipt INVALID at the file: receipt.size: size of the receipt; expected at most 67108864 bytes; got 1073741824 bytes";
      assert.deepEqual(run(large, small), [6, invalid]);
      const [code, said] = run(small, list);
      assert.equal(code, 2);
      assert.match(said, /anchors\.size: size of the anchors; expected at most 4194304 bytes; got 4194305 bytes/);
      for (const paths of [[small], [small, folder], [small, join(folder, "absent")], [small, small, small, small]]) {
        assert.equal(run(...paths)[0], 2, paths.join(" "));
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("anchors name each log and each witness once", async () => {
    const [one, two] = [base64(new Uint8Array(32).fill(1)), base64(new Uint8Array(32).fill(2))];
    const witness = (name, key) => ({ name, key });
    const logs = (...logs) => utf8(JSON.stringify({ operators: [], logs }));
    const named = (origin, ...witnesses) => ({ origin, key: one, witnesses, quorum: 1 });
    const answer = async (anchors) => (await verify({ receipt: utf8("{}"), anchors })).why.check;
    const good = [named("a", witness("x", one), witness("y", two)), named("b", witness("x", one))];
    assert.equal(await answer(logs(...good)), "receipt.format", "good anchors, and no receipt");
    for (const bad of [
      [named("a"), named("a")],
      [named("a", witness("x", one), witness("x", two))],
      [named("a", witness("x", one), witness("y", one))],
    ]) {
      assert.equal(await answer(logs(...bad)), "anchors.format");
    }
  });

  test("proofs of execution: the digest of arguments, and more than there may be", async () => {
    // By the documented layout, with Python's hashlib (crates/legation-core/tests/it/proven.rs).
    assert.equal(legation.argsDigest([]), "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119");
    assert.equal(legation.argsDigest(["--level", "3"]), "193596cf061d912dedc1476ae863d67aaa7d2e9f29c58ecd35ad457c1d8719e2");
    const proofs = new legation.Proofs({});
    const item = (size) => ({ statement: { digest: "0".repeat(64) }, proof: new Uint8Array(size) });
    assert.equal(await refusal(() => proofs.check([item((8 << 20) + 1)])), "proof.size");
    assert.equal(await refusal(() => proofs.check(Array.from({ length: 65 }, () => item(0)))), "receipt.proofs");
    // What is not judged is said, and never that it is proven.
    const lines = legation.proofLines([{ report: "a".repeat(64), state: "not-judged" }, { report: "b".repeat(64), state: "awaited" }]);
    assert.match(lines[0], /attested: proof not judged here/);
    assert.match(lines[1], /attested: its proof is awaited/);
  });
});

// Report, leaf, intermediate, time, and what refuses it: the table of crates/legation-attest/tests/it/samples.rs, in part.
const REAL = [
  ["milan-v2", "milan-v2/vcek.der", null, 1_771_000_000n, null],
  ["milan-v2", "milan-v2/vcek.der", null, 1_674_583_105n, "snp.dates"],
  ["milan-v2", "milan-v2/vcek.der", null, 1_895_507_906n, null],
  ["milan-v2", "milan-v2/vcek.der", null, 1_895_507_907n, "snp.dates"],
  ["genoa-ms", "genoa-ms/vcek.pem", null, 1_771_000_000n, null],
  ["turin-ms", "turin-ms/vcek.pem", null, 1_771_000_000n, null],
  ["milan-go", "milan-go/vcek.der", null, 1_771_000_000n, null],
  ["milan-vlek", "milan-vlek/vlek.der", "roots/milan-asvk.der", 1_740_000_000n, null],
  ["milan-vlek", "milan-vlek/vlek.der", null, 1_740_000_000n, "snp.root"],
  ["milan-vlek", "milan-vlek/vlek.der", "roots/genoa-asvk.der", 1_740_000_000n, "snp.chain"],
  ["milan-vlek", "milan-v2/vcek.der", null, 1_771_000_000n, "snp.signing-key"],
  ["milan-v2", "milan-v2/vcek-invalid-legacy.der", null, 1_771_000_000n, "snp.chain"],
  ["milan-v2", "milan-go/vcek.der", null, 1_771_000_000n, "snp.chip-id"],
  ["genoa-ms", "milan-v2/vcek.der", null, 1_771_000_000n, "snp.product"],
  ["turin-ms", "turin-virtee/vcek.der", null, 1_771_000_000n, "snp.chip-id"],
  ["milan-v2", "roots/milan-asvk.der", null, 1_771_000_000n, "snp.root"],
];
describe("published evidence of real machines", () => {
  if (!existsSync(PUBLISHED)) {
    console.error("SKIPPED: no published evidence beside the repository");
    test("reports and certificates of AMD's chips", { skip: "not there" }, () => {});
    return;
  }
  const der = (path) => {
    const bytes = readFileSync(new URL(path, PUBLISHED));
    if (bytes[0] === 0x30) return new Uint8Array(bytes);
    const [, body] = /-----BEGIN CERTIFICATE-----([^-]*)-----END/.exec(bytes.toString());
    return new Uint8Array(Buffer.from(body, "base64"));
  };
  const roots = snp.roots({ development: [] });
  for (const [report, leaf, intermediate, at, expected] of REAL) {
    test(`${report} with ${leaf}${intermediate ? ` and ${intermediate}` : ""} at ${at}`, async () => {
      const endorsements = [leaf, intermediate].filter(Boolean).map(der);
      const evidence = { kind: "sev-snp", report: new Uint8Array(readFileSync(new URL(`${report}/report.bin`, PUBLISHED))), endorsements };
      const all = await roots;
      assert.equal(await refusal(() => snp.verify(evidence, all, new Map(), at)), expected);
    });
  }
});
