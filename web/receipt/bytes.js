// Bytes, their strict texts, and SHA-256. Every file of this page is a classic script that adds to one object, `legation`:
// browsers load no modules from file://, and nothing here is built. check.mjs loads the same files for Node.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});

  /** A refusal, as data: which check, about what, what would have passed, what was found. */
  class Rejection extends Error {
    constructor(check, claim, { expected = "", got = "", fix = "" } = {}) {
      super(`${check}: ${claim}`);
      Object.assign(this, { check, claim, expected: String(expected), got: String(got), fix });
    }
  }

  const refuse = (check, claim, expected = "", got = "", fix = "") => {
    throw new Rejection(check, claim, { expected, got, fix });
  };

  /** Why bytes are not what they should be: becomes a Rejection where it is known what they should be. */
  class Malformed extends Error {}

  const malformed = (why) => {
    throw new Malformed(why);
  };

  const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
  const hex = (bytes) => {
    let out = "";
    for (const byte of bytes) out += HEX[byte];
    return out;
  };

  /** Bytes of lower-case hexadecimal. */
  const unhex = (text) => {
    if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) malformed("not lower-case hexadecimal");
    return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
  };

  const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const SEXTETS = new Int8Array(128).fill(-1);
  for (let i = 0; i < 64; i += 1) SEXTETS[ALPHABET.charCodeAt(i)] = i;

  const CODES = Uint8Array.from(ALPHABET, (digit) => digit.charCodeAt(0));
  const PADDING = "=".charCodeAt(0);
  const base64 = (bytes) => {
    const out = new Uint8Array(Math.ceil(bytes.length / 3) * 4);
    for (let i = 0, at = 0; i < bytes.length; i += 3, at += 4) {
      const left = bytes.length - i;
      const group = (bytes[i] << 16) | (left > 1 ? bytes[i + 1] << 8 : 0) | (left > 2 ? bytes[i + 2] : 0);
      out[at] = CODES[group >> 18];
      out[at + 1] = CODES[(group >> 12) & 63];
      out[at + 2] = left > 1 ? CODES[(group >> 6) & 63] : PADDING;
      out[at + 3] = left > 2 ? CODES[group & 63] : PADDING;
    }
    return new TextDecoder().decode(out);
  };

  /** Bytes of padded base64 (RFC 4648 section 4) in its one spelling: no stray bits, no padding before the end. */
  const unbase64 = (text) => {
    if (text.length % 4 !== 0) malformed("not canonical base64: length");
    const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
    const digits = text.length - padding;
    const out = new Uint8Array((text.length / 4) * 3 - padding);
    let [bits, held, at] = [0, 0, 0];
    for (let i = 0; i < digits; i += 1) {
      const code = text.charCodeAt(i);
      const value = code < 128 ? SEXTETS[code] : -1;
      if (value < 0) malformed("not canonical base64: digit");
      bits = ((bits << 6) | value) & 0xffff;
      held += 6;
      if (held >= 8) {
        held -= 8;
        out[at] = (bits >> held) & 255;
        at += 1;
      }
    }
    if ((bits & ((1 << held) - 1)) !== 0) malformed("not canonical base64: stray bits");
    return out;
  };

  const ENCODER = new TextEncoder();
  const utf8 = (text) => ENCODER.encode(text);
  /** Text of UTF-8, refused where it is none; a byte order mark stays what it is: a character that no JSON begins with. */
  const text = (bytes) => {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return malformed("not UTF-8");
    }
  };

  const concat = (...parts) => {
    const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  };

  const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

  // SHA-256 (FIPS 180-4), at once and not as a promise: statements name each other by it everywhere. test.mjs holds it against
  // the platform's own.
  const K = new Uint32Array(64);
  const START = new Uint32Array(8);
  {
    // The first 32 bits of the fractional parts of cube and square roots of the first primes.
    const fraction = (root) => Math.floor((root - Math.floor(root)) * 0x1_0000_0000);
    for (let n = 2, found = 0; found < 64; n += 1) {
      let prime = true;
      for (let d = 2; d * d <= n; d += 1) prime &&= n % d !== 0;
      if (!prime) continue;
      K[found] = fraction(Math.cbrt(n));
      if (found < 8) START[found] = fraction(Math.sqrt(n));
      found += 1;
    }
  }
  const W = new Uint32Array(64);
  const block = (state, view, at) => {
    for (let i = 0; i < 16; i += 1) W[i] = view.getUint32(at + 4 * i);
    for (let i = 16; i < 64; i += 1) {
      const [x, y] = [W[i - 15], W[i - 2]];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      W[i] = (W[i - 16] + s0 + W[i - 7] + s1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i += 1) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] = (state[i] + word) | 0));
  };
  const sha256 = (...parts) => {
    const message = parts.length === 1 ? parts[0] : concat(...parts);
    const whole = message.length & ~63;
    const state = START.slice();
    const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
    for (let at = 0; at < whole; at += 64) block(state, view, at);
    const rest = message.length - whole;
    const tail = new Uint8Array(rest < 56 ? 64 : 128);
    tail.set(message.subarray(whole));
    tail[rest] = 0x80;
    const end = new DataView(tail.buffer);
    end.setBigUint64(tail.length - 8, BigInt(message.length) * 8n);
    for (let at = 0; at < tail.length; at += 64) block(state, end, at);
    const out = new DataView(new ArrayBuffer(32));
    state.forEach((word, i) => out.setUint32(4 * i, word));
    return new Uint8Array(out.buffer);
  };
  /** SHA-256 as statements write it. */
  const digest = (...parts) => hex(sha256(...parts));

  /** The first 12 digits, for people. */
  const short = (name) => name.slice(0, 12);

  /** Unix seconds (a BigInt) as RFC 3339 writes them, for people. */
  const date = (seconds) => {
    const said = seconds <= 8_640_000_000_000n ? new Date(Number(seconds) * 1000).toISOString() : `${seconds} s`;
    return said.replace(".000Z", "Z");
  };

  // What does more than show itself: controls, ends of lines, marks of direction, characters of no width.
  const STEERS = /[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;
  /** A stranger's words on one line. */
  const oneLine = (words) => String(words).replace(STEERS, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

  const ascending = (list, of = (item) => item) => list.every((item, i) => i === 0 || of(list[i - 1]) < of(item));
  const min = (...list) => list.reduce((a, b) => (b < a ? b : a));
  const max = (...list) => list.reduce((a, b) => (b > a ? b : a));

  const U64_MAX = (1n << 64n) - 1n;
  const plus = (a, b) => min(a + b, U64_MAX);
  const minus = (a, b) => (a > b ? a - b : 0n);
  const times = (a, b) => min(a * b, U64_MAX);

  Object.assign(legation, {
    Rejection, refuse, Malformed, malformed, hex, unhex, base64, unbase64, utf8, text, concat, same, sha256, digest, short, date,
    oneLine, ascending, min, max, U64_MAX, plus, minus, times,
  });
})();
