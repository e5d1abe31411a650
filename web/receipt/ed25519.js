// Ed25519 (RFC 8032 section 5.1.7), as strictly as the Rust verifies (aws-lc): S below the order, the key a canonical point,
// and R exactly the bytes that the equation without cofactor gives. The platform verifies where it can. Platforms differ in keys
// and R of small order: those are always computed here, so that every reader says the same.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { concat, same, unbase64, hex } = legation;

  const P = (1n << 255n) - 19n;
  const ORDER = (1n << 252n) + 27742317777372353535851937790883648493n;
  const mod = (a) => ((a % P) + P) % P;
  const power = (base, exponent) => {
    let [result, square] = [1n, mod(base)];
    for (let left = exponent; left > 0n; left >>= 1n) {
      if (left & 1n) result = (result * square) % P;
      square = (square * square) % P;
    }
    return result;
  };
  const inverse = (a) => power(a, P - 2n);
  const D = mod(-121665n * inverse(121666n));
  const ROOT = power(2n, (P - 1n) / 4n);

  const number = (bytes) => {
    let out = 0n;
    for (let i = bytes.length - 1; i >= 0; i -= 1) out = (out << 8n) | BigInt(bytes[i]);
    return out;
  };
  const bytesOf = (value) => Uint8Array.from({ length: 32 }, (_, i) => Number((value >> BigInt(8 * i)) & 255n));

  /** The x of a point with this y and sign; nothing where there is none (RFC 8032 section 5.1.3). */
  const xOf = (y, sign) => {
    const [u, v] = [mod(y * y - 1n), mod(D * y * y + 1n)];
    let x = mod(u * inverse(v));
    // A square root of u/v, with p = 5 mod 8.
    x = power(x, (P + 3n) / 8n);
    if (mod(v * x * x - u) !== 0n) x = mod(x * ROOT);
    if (mod(v * x * x - u) !== 0n || (x === 0n && sign === 1n)) return null;
    return (x & 1n) === sign ? x : P - x;
  };
  const decode = (bytes) => {
    const encoded = number(bytes);
    const [y, sign] = [encoded & ((1n << 255n) - 1n), encoded >> 255n];
    if (y >= P) return null;
    const x = xOf(y, sign);
    return x === null ? null : [x, y, 1n, mod(x * y)];
  };
  // Extended coordinates X:Y:Z:T (RFC 8032 section 5.1.4); complete, so it doubles as well.
  const add = ([x1, y1, z1, t1], [x2, y2, z2, t2]) => {
    const a = mod((y1 - x1) * (y2 - x2));
    const b = mod((y1 + x1) * (y2 + x2));
    const c = mod(2n * t1 * t2 * D);
    const d = mod(2n * z1 * z2);
    const [e, f, g, h] = [b - a, d - c, d + c, b + a];
    return [mod(e * f), mod(g * h), mod(f * g), mod(e * h)];
  };
  const multiply = (point, scalar) => {
    let [result, double] = [[0n, 1n, 1n, 0n], point];
    for (let left = scalar; left > 0n; left >>= 1n) {
      if (left & 1n) result = add(result, double);
      double = add(double, double);
    }
    return result;
  };
  const encode = ([x, y, z]) => {
    const i = inverse(z);
    const [ax, ay] = [mod(x * i), mod(y * i)];
    return bytesOf(ay | ((ax & 1n) << 255n));
  };
  const Y_BASE = mod(4n * inverse(5n));
  const BASE = decode(bytesOf(Y_BASE));

  const isSmall = (point) => {
    const [x, y, z] = multiply(point, 8n);
    return x === 0n && mod(y - z) === 0n;
  };

  /** By the equation alone: for platforms without Ed25519, and for points of small order. */
  const computed = async (key, message, signature) => {
    const [r, s] = [signature.subarray(0, 32), number(signature.subarray(32))];
    const a = decode(key);
    if (a === null || s >= ORDER) return false;
    const hash = await crypto.subtle.digest("SHA-512", concat(r, key, message));
    const k = number(new Uint8Array(hash)) % ORDER;
    const [x, y, z, t] = multiply(a, k);
    return same(encode(add(multiply(BASE, s), [mod(-x), y, z, mod(-t)])), r);
  };

  // What was found of keys: whether they are points, of small order, and as the platform holds them.
  const keys = new Map();
  const known = (bytes) => {
    const name = hex(bytes);
    if (!keys.has(name)) {
      const point = decode(bytes);
      keys.set(name, { point, small: point !== null && isSmall(point), imported: null });
    }
    return keys.get(name);
  };
  // The y coordinates of the eight points of small order: 0, 1, -1, and those of order 8.
  const SMALL_Y = new Set([0n, 1n, P - 1n]);
  {
    // Points of order 8 double to (+-ROOT, 0), so x^2 + y^2 = 0, hence D y^4 + 2 y^2 - 1 = 0 on -x^2 + y^2 = 1 + D x^2 y^2.
    const root = (square) => {
      let y = power(square, (P + 3n) / 8n);
      if (mod(y * y - square) !== 0n) y = mod(y * ROOT);
      return mod(y * y - square) === 0n ? y : null;
    };
    const s = root(mod(1n + D));
    for (const square of s === null ? [] : [mod((-1n + s) * inverse(D)), mod((-1n - s) * inverse(D))]) {
      const y = root(square);
      if (y !== null) [y, P - y].forEach((one) => SMALL_Y.add(one));
    }
  }
  const isSmallY = (bytes) => SMALL_Y.has((number(bytes) & ((1n << 255n) - 1n)) % P);

  let platform;
  /** Whether this platform has Ed25519. */
  const supported = () => {
    platform ??= crypto.subtle.importKey("raw", bytesOf(Y_BASE), "Ed25519", false, ["verify"]).then(() => true, () => false);
    return platform;
  };

  /** Whether `key` (32 bytes) signed `message`. */
  const verify = async (key, message, signature) => {
    if (key.length !== 32 || signature.length !== 64 || number(signature.subarray(32)) >= ORDER) return false;
    const found = known(key);
    if (found.point === null) return false;
    if (found.small || isSmallY(signature.subarray(0, 32)) || !(await supported())) return computed(key, message, signature);
    found.imported ??= crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    return crypto.subtle.verify("Ed25519", await found.imported, signature, message);
  };
  /** The same, of a key as statements write it. */
  const verifyBy = (key, message, signature) => verify(unbase64(key), message, signature);

  Object.assign(legation, { ed25519: { verify, verifyBy, computed, supported } });
})();
