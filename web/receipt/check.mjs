// The check for Node, out of the same files that index.html loads, in the same order.
import { webcrypto } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";

// Browsers have it; Node before 20 keeps it in a module.
globalThis.crypto ??= webcrypto;

const require = createRequire(import.meta.url);

/** The scripts of the page that check, in its order; the last one, page.js, is the page itself. */
export const SCRIPTS = [...readFileSync(new URL("index.html", import.meta.url), "utf8").matchAll(/<script src="([a-z0-9]+\.js)">/g)]
  .map(([, name]) => name)
  .filter((name) => name !== "page.js");

for (const name of SCRIPTS) require(`./${name}`);

export const legation = globalThis.legation;
export const { verify, lastLine, logLine, proofLines, tree } = legation;

/** Most bytes that are read of a file: a receipt, and (as on the page) anchors or revocations. */
const MOST = [legation.receipt.RECEIPT_MAX, 4 << 20, 4 << 20];
const NAMES = ["receipt", "anchors", "revocations"];

/** The answer where one of the files is too large to be read; nothing where none is. */
const tooLarge = (paths) => {
  for (const [i, path] of paths.entries()) {
    const { size } = statSync(path);
    if (size <= MOST[i]) continue;
    const why = new legation.Rejection(`${NAMES[i]}.size`, `size of the ${NAMES[i]}`, { expected: `at most ${MOST[i]} bytes`, got: `${size} bytes` });
    return i === 0 ? { verdict: "invalid", at: "the file", why } : { verdict: "unusable", why };
  }
};

// node check.mjs RECEIPT ANCHORS [REVOCATIONS]: the answer as `legation receipt verify` gives it, and its exit code.
if (process.argv[1] && import.meta.url.endsWith(process.argv[1].split("/").at(-1))) {
  const paths = process.argv.slice(2);
  if (paths.length < 2 || paths.length > 3 || !paths.every((path) => statSync(path, { throwIfNoEntry: false })?.isFile())) {
    console.error("usage: node check.mjs RECEIPT ANCHORS [REVOCATIONS], which are files");
    process.exit(2);
  }
  const read = () => {
    const [receipt, anchors, revocations] = paths.map((path) => readFileSync(path));
    return verify({ receipt, anchors, revocations });
  };
  // Before anything is read: a file may be larger than memory.
  const answer = tooLarge(paths) ?? (await read());
  for (const { depth, link } of tree(answer.links ?? [])) console.log(`${"  ".repeat(depth)}${link.kind} ${link.digest.slice(0, 12)} ${link.says}`);
  for (const warning of answer.warnings ?? []) console.log(`warning: ${warning}`);
  for (const line of proofLines(answer.proofs ?? [])) console.log(line);
  if (answer.log !== undefined) console.log(logLine(answer.log));
  console.log(lastLine(answer));
  process.exitCode = { valid: 0, "valid-but-development": 0, unusable: 2 }[answer.verdict] ?? 6;
}
