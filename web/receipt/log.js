// The `log` section of a receipt (crates/legation-log/src/receipt.rs): that its statements stand in a transparency log, in front of
// one signed checkpoint; its roots do, which bind all that they rest on. Notes: c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature. Proofs: RFC 9162 section 2.1.3.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, Malformed, malformed, utf8, concat, unhex, unbase64, hex, same, sha256, digest, ed25519, short } = legation;

  const NOTE_MAX = 16 << 10;
  const SIGNATURES_MAX = 32;
  const NAME_MAX = 255;
  const SIGNATURE_MAX = 6 << 10;
  const PATH_MAX = 63;
  const SIZE_MAX = (1n << 56n) - 1n;
  const TIME_MAX = (1n << 63n) - 1n;
  const [LOG, WITNESS] = [1, 4];
  /** Root of the tree without entries: SHA-256 of nothing. */
  const EMPTY_ROOT = digest(new Uint8Array());

  const isName = (name) => {
    const size = utf8(name).length;
    return size > 0 && size <= NAME_MAX && !/[+\p{White_Space}\p{Cc}]/u.test(name);
  };
  const CONTROL = /[\u0000-\u0009\u000b-\u001f]/;
  /** A note in its one spelling: its text, and its signatures, none of them believed. */
  const parseNote = (note) => {
    if (utf8(note).length > NOTE_MAX) malformed("a note that is too large");
    const end = note.lastIndexOf("\n\n");
    if (end < 0 || !note.endsWith("\n")) malformed("not a signed note");
    const [text, lines] = [note.slice(0, end + 1), note.slice(end + 2, -1)];
    if (CONTROL.test(text) || note.length < end + 3) malformed("not a signed note");
    const signatures = lines.split("\n").map((line) => {
      const parts = line.startsWith("\u2014 ") ? line.slice(2).split(" ") : [];
      const bytes = parts.length === 2 ? unbase64(parts[1]) : malformed("a line of signature of another form");
      if (!isName(parts[0]) || bytes.length < 5 || bytes.length - 4 > SIGNATURE_MAX) malformed("a line of signature of another form");
      return { name: parts[0], id: bytes.subarray(0, 4), bytes: bytes.subarray(4) };
    });
    return signatures.length <= SIGNATURES_MAX ? { text, signatures } : malformed("a note with too many signatures");
  };
  const signedAs = (note, name, kind, key) => {
    if (!isName(name)) malformed("not the name of a key");
    const id = sha256(concat(utf8(name), utf8("\n"), Uint8Array.of(kind), key)).subarray(0, 4);
    return note.signatures.filter((one) => one.name === name && same(one.id, id)).map((one) => one.bytes);
  };
  const parseCheckpoint = (text) => {
    const [origin, size, root, ...more] = text.slice(0, -1).split("\n");
    if (root === undefined || !isName(origin)) malformed("a checkpoint has origin, size and root, a line each");
    if (!/^(?:0|[1-9][0-9]{0,19})$/.test(size) || BigInt(size) > SIZE_MAX) malformed("the size of a checkpoint is a number");
    const hash = unbase64(root);
    if (hash.length !== 32) malformed("the root of a checkpoint is 32 bytes");
    // What grows out of another would never be shown to continue it.
    if (size === "0" && hex(hash) !== EMPTY_ROOT) malformed("the empty tree has one root");
    if (more.includes("")) malformed("a further line of a checkpoint is empty");
    return { origin, size: BigInt(size), root: hex(hash) };
  };

  const believed = async (section, anchors) => {
    const wrong = (got) => refuse("receipt.log.checkpoint", "checkpoint of the log", "a note signed by a log of the anchors", got,
      "name the log in the anchors' `logs`, if it is one that you trust to be watched");
    try {
      const note = parseNote(section.checkpoint);
      const origin = note.text.split("\n")[0];
      const anchor = anchors.find((one) => one.origin === origin) ?? wrong(`one of the log ${origin}`);
      const checkpoint = parseCheckpoint(note.text);
      const key = unbase64(anchor.key);
      const own = signedAs(note, anchor.origin, LOG, key);
      if (own.length === 0) malformed(`not signed by ${anchor.origin}`);
      for (const bytes of own) {
        if (!(await ed25519.verify(key, utf8(note.text), bytes))) malformed(`signature of ${anchor.origin} does not verify`);
      }
      // What a witness signs has no name in it: one signature would do under every name of its key.
      const [witnesses, keys] = [[], new Set()];
      for (const witness of anchor.witnesses) {
        const theirs = unbase64(witness.key);
        let latest = null;
        for (const bytes of signedAs(note, witness.name, WITNESS, theirs)) {
          if (bytes.length !== 72) malformed(`signature of ${witness.name} does not verify`);
          const time = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0);
          const message = utf8(`cosignature/v1\ntime ${time}\n${note.text}`);
          if (time > TIME_MAX || !(await ed25519.verify(theirs, message, bytes.subarray(8)))) {
            malformed(`signature of ${witness.name} does not verify`);
          }
          latest = latest === null || time > latest ? time : latest;
        }
        if (latest === null || keys.has(witness.key)) continue;
        keys.add(witness.key);
        witnesses.push({ name: witness.name, at: latest });
      }
      if (BigInt(witnesses.length) < anchor.quorum) {
        refuse("receipt.log.witnesses", "witnesses that cosigned the checkpoint", anchor.quorum, witnesses.length);
      }
      return { ...checkpoint, witnesses };
    } catch (why) {
      return why instanceof Malformed ? wrong(why.message) : Promise.reject(why);
    }
  };

  const node = (left, right) => digest(concat(Uint8Array.of(1), unhex(left), unhex(right)));
  /** The root that an inclusion proof leads to; refuses a path of another length. */
  const rootOf = (leaf, index, size, path) => {
    if (index >= size) malformed(`entry ${index} lies beyond a tree of ${size} entries`);
    let [at, last, root] = [index, size - 1n, leaf];
    for (const beside of path) {
      if (last === 0n) malformed("a path that is too long");
      if ((at & 1n) === 1n || at === last) {
        root = node(beside, root);
        while ((at & 1n) === 0n && at !== 0n) [at, last] = [at >> 1n, last >> 1n];
      } else {
        root = node(root, beside);
      }
      [at, last] = [at >> 1n, last >> 1n];
    }
    return last === 0n ? root : malformed("a path that is too short");
  };

  /** Judges the section for these envelopes' digests, of which `roots` must be entries; throws a rejection with `at`. */
  const check = async (section, digests, roots, anchors) => {
    const at = (place, why) => Object.assign(why, { at: place });
    const here = (place, run) => {
      try {
        return run();
      } catch (why) {
        throw at(place, why);
      }
    };
    const checkpoint = await believed(section, anchors).catch((why) => Promise.reject(at("the log", why)));
    const bad = (check, claim, expected, got) => here("the log", () => refuse(check, claim, expected, got));
    if (section.proofs.length !== digests.length) {
      bad("receipt.log.proofs", "proofs that the statements are in the log", `${digests.length}`, section.proofs.length);
    }
    const there = new Set(digests);
    const foreign = roots.find((name) => !there.has(name));
    if (roots.length === 0 || foreign !== undefined) {
      bad("receipt.log.root", "results of the task, which bind the rest by being in the log",
        "digests of envelopes of this receipt, one at least", foreign ?? "none");
    }
    if (new Set(section.nodes).size !== section.nodes.length) {
      bad("receipt.log.nodes", "hashes of the log", "each once", "one more than once");
    }
    let [used, entries] = [0n, 0];
    digests.forEach((name, number) => {
      if (section.proofs[number] === null) {
        if (roots.includes(name)) {
          here(`envelope ${number} (${short(name)}) in the log`, () =>
            refuse("receipt.log.root", "whether a result of the task is in the log", "a proof", "none"));
        }
        return;
      }
      const { index, path } = section.proofs[number];
      entries += 1;
      here(`envelope ${number} (${short(name)}) in the log`, () => {
        const wrong = (got) => refuse("receipt.log.nodes", "hashes of the log", "each in the order of first use", got);
        if (path.length > PATH_MAX) wrong(`${path.length} in one`);
        const hashes = path.map((place) => {
          const found = place <= used ? section.nodes[Number(place)] : undefined;
          if (found === undefined) wrong(`number ${place} where ${used} were used`);
          if (place === used) used += 1n;
          return found;
        });
        const leaf = digest(concat(Uint8Array.of(0), unhex(name)));
        const root = legation.snp.by("receipt.log.proof", `proof that it is entry ${index} of the log`,
          `one that leads to the checkpoint of ${checkpoint.size} entries`, () => rootOf(leaf, index, checkpoint.size, hashes));
        if (root !== checkpoint.root) {
          refuse("receipt.log.proof", `proof that it is entry ${index} of the log`, `root ${checkpoint.root}`, `root ${root}`);
        }
      });
    });
    if (used !== BigInt(section.nodes.length)) {
      bad("receipt.log.nodes", "hashes of the log", `${used}, those that the proofs use`, section.nodes.length);
    }
    return { ...checkpoint, entries };
  };

  Object.assign(legation, { log: { check } });
})();
