// Shapes: what a JSON value must be, field for field. A shape is a function from a parsed value to what it means; it refuses
// unknown, missing and repeated fields, numbers out of range, and every second spelling of bytes. Whole numbers become BigInts.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { malformed, unhex, unbase64, json, U64_MAX } = legation;

  const string = (value) => (typeof value === "string" ? value : malformed("expected a text"));
  const bool = (value) => (typeof value === "boolean" ? value : malformed("expected true or false"));
  const whole = (least, most) => (value) => {
    if (!(value instanceof json.Num) || !/^(?:0|-?[1-9][0-9]*)$/.test(value.text) || value.text.length > 20) {
      return malformed("expected a whole number");
    }
    const number = BigInt(value.text);
    return number >= least && number <= most ? number : malformed(`expected a number from ${least} to ${most}`);
  };
  const bits = (n) => whole(0n, (1n << BigInt(n)) - 1n);
  const u64 = whole(0n, U64_MAX);

  const parsed = (check) => (value) => {
    const read = string(value);
    check(read);
    return read;
  };
  /** Hexadecimal of so many bytes; stays a text. */
  const hexOf = (size) => {
    const pattern = new RegExp(`^[0-9a-f]{${2 * size}}$`);
    return parsed((read) => pattern.test(read) || malformed(`expected ${size} bytes in hexadecimal`));
  };
  /** Base64 of so many bytes; stays a text, of which there is one for these bytes. */
  const base64Of = (size) =>
    parsed((read) => unbase64(read).length === size || malformed(`expected ${size} bytes in base64`));
  /** Base64 of any bytes. */
  const bytes = (value) => unbase64(string(value));
  const name = parsed((read) => /^[a-z0-9][a-z0-9-]{0,62}$/.test(read) || malformed("not a name"));

  const list = (item) => (value) => (Array.isArray(value) ? value.map(item) : malformed("expected a list"));
  /** A set of texts: ascending, each once, whatever the order they came in. */
  const set = (item) => (value) => [...new Set(list(item)(value))].sort();
  const map = (key, item) => (value) => {
    if (!(value instanceof json.Obj)) return malformed("expected an object");
    return new Map(value.entries.map(([field, inner]) => [key(field), item(inner)]));
  };
  const oneOf = (...words) => parsed((read) => words.includes(read) || malformed(`expected one of ${words.join(", ")}`));

  /** A field that may be absent or null. */
  const optional = (shape) => ({ read: (value) => (value === null ? null : shape(value)), absent: () => null });
  /** A field that may be absent, and then is this. */
  const otherwise = (shape, absent) => ({ read: shape, absent: () => absent });

  const fields = (entries, spec) => {
    const out = {};
    for (const [field, inner] of entries) {
      const shape = Object.hasOwn(spec, field) ? spec[field] : malformed(`unknown field \`${legation.oneLine(field)}\``);
      if (Object.hasOwn(out, field)) malformed(`field \`${field}\` twice`);
      try {
        out[field] = (shape.read ?? shape)(inner);
      } catch (why) {
        if (why instanceof legation.Malformed) why.message = `${field}: ${why.message}`;
        throw why;
      }
    }
    for (const [field, shape] of Object.entries(spec)) {
      if (Object.hasOwn(out, field)) continue;
      out[field] = shape.absent ? shape.absent() : malformed(`missing field \`${field}\``);
    }
    return out;
  };
  const struct = (spec) => (value) =>
    value instanceof json.Obj ? fields(value.entries, spec) : malformed("expected an object");
  /** Variants told apart by the field `kind`, their own fields beside it. */
  const tagged = (variants) => (value) => {
    if (!(value instanceof json.Obj)) return malformed("expected an object");
    const tags = value.entries.filter(([field]) => field === "kind");
    if (tags.length !== 1) malformed("expected one `kind`");
    const kind = string(tags[0][1]);
    if (!Object.hasOwn(variants, kind)) malformed(`unknown kind \`${legation.oneLine(kind)}\``);
    return { kind, ...fields(value.entries.filter(([field]) => field !== "kind"), variants[kind]) };
  };
  /** Variants told apart by `kind`, their content in the field `content`. */
  const adjacent = (content, variants) => (value) => {
    if (!(value instanceof json.Obj)) return malformed("expected an object");
    const kind = value.entries.find(([field]) => field === "kind")?.[1];
    if (typeof kind !== "string" || !Object.hasOwn(variants, kind)) malformed("unknown kind");
    return fields(value.entries, { kind: string, [content]: variants[kind] });
  };

  /** Whether two values that shapes gave are the same. */
  const equal = (a, b) => {
    if (a === b) return true;
    if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
    if (a instanceof Map) {
      return b instanceof Map && a.size === b.size && [...a].every(([key, value]) => b.has(key) && equal(value, b.get(key)));
    }
    if (Array.isArray(a) || a instanceof Uint8Array) {
      return a.length === b.length && Array.prototype.every.call(a, (value, i) => equal(value, b[i]));
    }
    const keys = Object.keys(a);
    return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && equal(a[key], b[key]));
  };

  Object.assign(legation, {
    shape: {
      string, bool, bits, u64, i8: whole(-128n, 127n), i32: whole(-(1n << 31n), (1n << 31n) - 1n), hexOf, base64Of, bytes, name, list,
      set, map, oneOf, optional, otherwise, struct, tagged, adjacent, parsed, unhex,
    },
    equal,
  });
})();
