// The page: takes files, asks `legation.verify`, shows the answer. Whatever comes out of a file is shown as text, never as markup.
"use strict";
(() => {
  const { verify, tree, lastLine, logLine, proofLines, oneLine, short, receipt: { RECEIPT_MAX } } = globalThis.legation;
  const by = (id) => document.getElementById(id);
  const NAMES = ["receipt", "anchors", "revocations"];
  /** Largest anchor file or list of revocations that is read, in bytes. */
  const OTHER_MAX = 4 << 20;
  const files = {};
  let run = 0;

  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  const say = (kind, headline, facts = []) => {
    const box = by("verdict");
    box.className = kind;
    const list = document.createElement("dl");
    for (const [name, value] of facts) list.append(element("dt", name), element("dd", oneLine(value)));
    box.replaceChildren(element("strong", oneLine(headline)), ...(facts.length > 0 ? [list] : []));
  };

  const showLinks = (links) => {
    const places = new Map(links.map((link, i) => [link.digest, i + 1]));
    by("tree").replaceChildren(...tree(links).map(({ depth, link }) =>
      element("li", `${link.kind} ${short(link.digest)}  ${link.says}`, { "data-stem": depth > 0 ? `${"   ".repeat(depth - 1)} \u2514 ` : "" })));
    by("links").replaceChildren(...links.map((link, i) => {
      const row = document.createElement("tr");
      const rests = link.prev.map((name) => places.get(name)).filter(Boolean).join(" ");
      row.append(...[`${i + 1}`, link.kind, short(link.digest), link.says, rests && `\u2190 ${rests}`].map((text) => element("td", text)));
      return row;
    }));
    by("found").hidden = links.length === 0;
  };

  const show = (answer) => {
    const facts = [];
    if (answer.why) {
      const { check, claim, expected, got, fix } = answer.why;
      facts.push(["link", answer.at ?? ""], ["check", check], ["about", claim], ["expected", expected], ["got", got], ["what to do", fix]);
    } else {
      facts.push(["task", `${answer.task} \`${answer.name}\``], ["ended", answer.completed ? "completed" : "failed"]);
      facts.push(["rests on", answer.anchors.join(", ")], ["revocations", `as of epoch ${answer.revocations}`]);
      answer.results.forEach((result, i) => facts.push([`result ${i}`, result ? `ciphertext ${result.ciphertext}, ${result.size} bytes` : "none"]));
      answer.warnings.forEach((warning) => facts.push(["warning", warning]));
      proofLines(answer.proofs).forEach((line) => facts.push(["proof", line]));
      if (answer.log !== undefined) facts.push(["log", logLine(answer.log)]);
    }
    say(answer.verdict, lastLine(answer), facts.filter(([, value]) => value !== ""));
    showLinks(answer.links ?? []);
  };

  const check = async () => {
    by("given").textContent = NAMES.filter((name) => files[name]).map((name) => `${name}: ${oneLine(files[name].name)}`).join("; ");
    by("found").hidden = true;
    if (!files.receipt || !files.anchors) {
      const missing = ["receipt", "anchors"].filter((name) => !files[name]).join(" and ");
      say("", `Waiting for ${missing}.`);
      return;
    }
    run += 1;
    const own = run;
    say("", "Checking.");
    const large = NAMES.find((name) => files[name] && files[name].size > (name === "receipt" ? RECEIPT_MAX : OTHER_MAX));
    if (large) {
      say("invalid", `${large}: ${files[large].size} bytes are more than such a file may have`);
      return;
    }
    const bytes = {};
    for (const name of NAMES) if (files[name]) bytes[name] = new Uint8Array(await files[name].arrayBuffer());
    const progress = async (done, all) => {
      // Whoever looks at the page should see that it works, and be able to leave.
      if (done % 200 !== 0) return;
      if (own === run) say("", `Checking: ${done} of ${all} statements.`);
      await new Promise((resume) => setTimeout(resume));
    };
    const answer = await verify(bytes, { production: by("production").checked, progress });
    if (own === run) show(answer);
  };
  const checked = () => check().catch((why) => say("invalid", `this page failed, and says nothing of the receipt: ${why}`));

  /** Which of the files it is, by what its beginning says; files come in any order. */
  const sort = async (file) => {
    const start = await file.slice(0, 200).text();
    if (/^\s*\{\s*"version"/.test(start)) return "receipt";
    return /^\s*\{\s*"list"/.test(start) ? "revocations" : "anchors";
  };
  const drop = by("drop");
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragenter" || name === "dragover");
    });
  }
  // A file dropped beside the field would replace the page by it.
  for (const name of ["dragover", "drop"]) globalThis.addEventListener(name, (event) => event.preventDefault());
  drop.addEventListener("drop", async (event) => {
    for (const file of [...event.dataTransfer.files].slice(0, NAMES.length)) files[await sort(file)] = file;
    checked();
  });
  for (const name of NAMES) {
    by(name).addEventListener("change", (event) => {
      [files[name]] = event.target.files;
      checked();
    });
  }
  by("production").addEventListener("change", checked);
})();
