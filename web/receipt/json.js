// JSON (RFC 8259) read so that nothing is lost: numbers keep their digits, objects every entry in its order. JSON.parse would
// round numbers past 2^53 and take the last of two fields of one name.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { malformed } = legation;

  /** Nested deeper than this is refused, as the Rust does. */
  const DEPTH_MAX = 127;
  /** Values in one text: more than the largest receipt has (65,536 statements, each with a proof of 63 hashes), and as many as a
   * browser can hold. The Rust needs no such bound: it reads no value that has no place. */
  const VALUES_MAX = 8_000_000;

  /** A number as it was written. */
  class Num {
    constructor(text) {
      this.text = text;
    }
  }

  /** An object as it was written: entries in their order. */
  class Obj {
    constructor(entries) {
      this.entries = entries;
    }
  }

  const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
  const PLAIN = /[^"\\\u0000-\u001f]*/y;
  const SPACE = /[ \t\n\r]*/y;
  const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

  const parse = (source) => {
    let [at, values] = [0, 0];
    const space = () => {
      SPACE.lastIndex = at;
      SPACE.test(source);
      at = SPACE.lastIndex;
    };
    const expect = (word) => {
      if (!source.startsWith(word, at)) malformed(`expected \`${word}\` at ${at}`);
      at += word.length;
    };
    const escaped = () => {
      const mark = source[at + 1];
      if (mark !== "u") {
        if (!Object.hasOwn(ESCAPES, mark ?? "")) malformed(`unknown escape at ${at}`);
        at += 2;
        return ESCAPES[mark];
      }
      const unit = () => {
        const digits = source.slice(at + 2, at + 6);
        if (source[at] !== "\\" || source[at + 1] !== "u" || !/^[0-9a-fA-F]{4}$/.test(digits)) malformed(`escape at ${at}`);
        at += 6;
        return Number.parseInt(digits, 16);
      };
      const first = unit();
      if (first >= 0xdc00 && first <= 0xdfff) malformed(`half a character at ${at}`);
      if (first < 0xd800 || first > 0xdbff) return String.fromCharCode(first);
      const second = unit();
      if (second < 0xdc00 || second > 0xdfff) malformed(`half a character at ${at}`);
      return String.fromCharCode(first, second);
    };
    const string = () => {
      at += 1;
      const parts = [];
      for (;;) {
        PLAIN.lastIndex = at;
        PLAIN.test(source);
        parts.push(source.slice(at, PLAIN.lastIndex));
        at = PLAIN.lastIndex;
        if (source[at] === '"') {
          at += 1;
          return parts.length === 1 ? parts[0] : parts.join("");
        }
        if (source[at] !== "\\") malformed(`text without an end, or with a control character, at ${at}`);
        parts.push(escaped());
      }
    };
    const sequence = (close, item) => {
      const items = [];
      at += 1;
      space();
      if (source[at] === close) {
        at += 1;
        return items;
      }
      for (;;) {
        space();
        items.push(item());
        space();
        if (source[at] === close) {
          at += 1;
          return items;
        }
        expect(",");
      }
    };
    const value = (depth) => {
      values += 1;
      if (values > VALUES_MAX) malformed(`more than ${VALUES_MAX} values`);
      switch (source[at]) {
        case "{":
        case "[": {
          if (depth >= DEPTH_MAX) malformed(`nested deeper than ${DEPTH_MAX}`);
          if (source[at] === "[") return sequence("]", () => value(depth + 1));
          const entry = () => {
            if (source[at] !== '"') malformed(`expected a name at ${at}`);
            const name = string();
            space();
            expect(":");
            space();
            return [name, value(depth + 1)];
          };
          return new Obj(sequence("}", entry));
        }
        case '"':
          return string();
        case "t":
          expect("true");
          return true;
        case "f":
          expect("false");
          return false;
        case "n":
          expect("null");
          return null;
        default: {
          NUMBER.lastIndex = at;
          if (!NUMBER.test(source)) malformed(`expected a value at ${at}`);
          const written = source.slice(at, NUMBER.lastIndex);
          at = NUMBER.lastIndex;
          return new Num(written);
        }
      }
    };
    space();
    const whole = value(0);
    space();
    if (at !== source.length) malformed(`more behind the end, at ${at}`);
    return whole;
  };

  /** A text as the one spelling of a receipt writes it: JSON.stringify escapes the same characters in the same way, but for lone
   * halves of characters, which no text that was read has. */
  const quote = (text) => JSON.stringify(text);

  Object.assign(legation, { json: { parse, quote, Num, Obj } });
})();
