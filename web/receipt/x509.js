// Certificates and revocation lists (RFC 5280) of the profile that AMD uses (VCEK specification 57230), read from DER (X.690):
// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes; keys of RSA-4096 or P-384; one common name; no critical
// extension but basic constraints and key usage. What is not of this profile is refused, so little needs to be read.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { malformed, same, hex, text, sha256 } = legation;

  const CERTIFICATE_MAX = 8 * 1024;
  const CRL_MAX = 1 << 20;
  const REVOKED_MAX = 16 * 1024;
  const EXTENSIONS_MAX = 32;

  const TAG = {
    boolean: 0x01, integer: 0x02, bits: 0x03, octets: 0x04, oid: 0x06, utf8: 0x0c, printable: 0x13, teletex: 0x14, ia5: 0x16,
    utc: 0x17, generalized: 0x18, universal: 0x1c, bmp: 0x1e, sequence: 0x30, set: 0x31, version: 0xa0,
    extensions: 0xa3,
  };

  /** One DER element: a tag of one byte, the shortest length. */
  const element = (bytes) => {
    if (bytes.length < 2) malformed("DER ends early");
    const [tag, first] = bytes;
    if ((tag & 0x1f) === 0x1f) malformed("DER with a long tag");
    let [head, length] = [2, first];
    if (first >= 0x80) {
      const count = first & 0x7f;
      if (count < 1 || count > 3 || bytes.length < 2 + count) malformed("DER with such a length");
      head = 2 + count;
      length = bytes.subarray(2, head).reduce((sum, byte) => sum * 256 + byte, 0);
      if (length < (count === 1 ? 0x80 : 256 ** (count - 1))) malformed("DER with a length that is not the shortest");
    }
    if (bytes.length < head + length) malformed("DER ends early");
    return {
      tag, whole: bytes.subarray(0, head + length), contents: bytes.subarray(head, head + length),
      rest: bytes.subarray(head + length),
    };
  };
  /** The elements inside, to the last byte. */
  const elements = (contents) => {
    const all = [];
    for (let rest = contents; rest.length > 0; ) {
      const found = element(rest);
      all.push(found);
      ({ rest } = found);
    }
    return all;
  };
  const expect = (found, tag, what) => (found && found.tag === tag ? found : malformed(`expected ${what}`));
  const single = (bytes, tag, what) => {
    const found = expect(element(bytes), tag, what);
    return found.rest.length === 0 ? found : malformed(`${found.rest.length} bytes behind ${what}`);
  };
  const bitString = (found, what) => {
    const { contents } = expect(found, TAG.bits, what);
    return contents[0] === 0 ? contents.subarray(1) : malformed(`${what} of broken bytes`);
  };
  const integer = (found, what) => {
    const { contents } = expect(found, TAG.integer, what);
    if (contents.length === 0) malformed(`${what} without a byte`);
    if (contents.length > 1 && contents[0] === 0 && contents[1] < 0x80) malformed(`${what} that is not the shortest`);
    return contents;
  };
  /** A serial number without the zeros that DER puts before a high bit. */
  const serial = (found) => {
    const { contents } = expect(found, TAG.integer, "a serial number");
    const from = contents.findIndex((byte) => byte !== 0);
    return hex(from < 0 ? new Uint8Array() : contents.subarray(from));
  };
  /** A time in Unix seconds, as a BigInt. */
  const time = (found) => {
    const written = found && [TAG.utc, TAG.generalized].includes(found.tag) ? text(found.contents) : malformed("expected a time");
    const pattern = found.tag === TAG.utc ? /^(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/ : /^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/;
    const parts = pattern.exec(written)?.slice(1).map(Number) ?? malformed("a time of another form");
    const [year, month, day, hour, minute, second] = parts;
    const full = found.tag === TAG.utc ? (year < 50 ? 2000 : 1900) + year : year;
    const at = Date.UTC(full, month - 1, day, hour, minute, second);
    const back = new Date(at);
    const real = back.getUTCMonth() === month - 1 && back.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
    return real && at >= 0 ? BigInt(at) / 1000n : malformed("a time that is none, or before 1970");
  };

  const OID = {
    pss: "2a864886f70d01010a", rsa: "2a864886f70d010101", ec: "2a8648ce3d0201", p384: "2b81040022", commonName: "550403",
    basicConstraints: "551d13", keyUsage: "551d0f",
  };
  // AlgorithmIdentifier of RSASSA-PSS with SHA-384 (RFC 4055): hash, mask generation, salt, trailer. NULL parameters of a hash
  // may be absent, and the trailer field is 1 when it is.
  const PSS_HASH = ["300b0609608648016503040202", "300d06096086480165030402020500"];
  const MGF1 = "06092a864886f70d010108";
  const isPss = (algorithm) => {
    const [id, parameters, ...more] = elements(algorithm.contents);
    if (hex(expect(id, TAG.oid, "an algorithm").contents) !== OID.pss || more.length > 0) return false;
    const fields = elements(expect(parameters, TAG.sequence, "parameters").contents);
    const field = (tag) => fields.find((one) => one.tag === tag);
    const [hash, mask, salt, trailer] = [0xa0, 0xa1, 0xa2, 0xa3].map(field);
    if (!hash || !mask || !salt || fields.length > 4 || !fields.every((one) => one.tag >= 0xa0 && one.tag <= 0xa3)) return false;
    const generation = elements(single(mask.contents, TAG.sequence, "a mask generation").contents);
    return PSS_HASH.includes(hex(hash.contents)) && generation.length === 2 && hex(generation[0].whole) === MGF1 &&
      PSS_HASH.includes(hex(generation[1].whole)) && hex(salt.contents) === "020130" &&
      (!trailer || hex(trailer.contents) === "020101");
  };

  /** `SEQUENCE { signed part, algorithm, signature }`, DER to the last byte. */
  const wrapped = (der) => {
    const parts = elements(single(der, TAG.sequence, "a certificate or list").contents);
    if (parts.length !== 3) malformed("not a signed part, its algorithm and a signature");
    const [signed, algorithm, signature] = parts;
    expect(signed, TAG.sequence, "a signed part");
    if (!isPss(expect(algorithm, TAG.sequence, "an algorithm"))) malformed("a signature that is not RSASSA-PSS with SHA-384");
    return { signed: signed.whole, algorithm: algorithm.whole, signature: bitString(signature, "a signature"), fields: elements(signed.contents) };
  };

  const STRINGS = [TAG.utf8, TAG.printable, TAG.teletex, TAG.ia5, TAG.universal, TAG.bmp];
  /** Attributes of a name: identifier and text. */
  const attributes = (name) =>
    elements(name.contents).flatMap((part) =>
      elements(expect(part, TAG.set, "a part of a name").contents).map((pair) => {
        const [id, value] = elements(expect(pair, TAG.sequence, "an attribute").contents);
        if (!value || !STRINGS.includes(value.tag)) malformed("an attribute of another form");
        return [hex(expect(id, TAG.oid, "an attribute").contents), text(value.contents)];
      }));
  const commonName = (name) => {
    const found = attributes(name).filter(([id]) => id === OID.commonName);
    return found.length === 1 ? found[0][1] : null;
  };
  const shown = (name) => attributes(name).map(([, value]) => value).join(", ");

  /** A key of a SubjectPublicKeyInfo. `bytes` are the key itself: whatever stands around it, it is the same key. */
  const keyOf = (spki) => {
    const [algorithm, value, ...more] = elements(spki.contents);
    if (more.length > 0) malformed("a key with more behind it");
    const [id, parameters] = elements(expect(algorithm, TAG.sequence, "an algorithm").contents);
    const bytes = bitString(value, "a key");
    switch (hex(expect(id, TAG.oid, "an algorithm").contents)) {
      case OID.rsa: {
        const [modulus] = elements(single(bytes, TAG.sequence, "an RSA key").contents);
        const digits = integer(modulus, "a modulus");
        const size = (digits[0] === 0 ? digits.length - 1 : digits.length) * 8;
        return size === 4096 ? { kind: "rsa", bytes, spki: spki.whole } : malformed(`an RSA key of ${size} bits`);
      }
      case OID.ec: {
        const right = parameters?.tag === TAG.oid && hex(parameters.contents) === OID.p384;
        return right && bytes.length === 97 && bytes[0] === 4
          ? { kind: "p384", bytes, spki: spki.whole }
          : malformed("a key that is no point of P-384");
      }
      default:
        return malformed("a key that is neither RSA nor P-384");
    }
  };

  const extension = (found) => {
    const parts = elements(expect(found, TAG.sequence, "an extension").contents);
    const [id, second] = parts;
    const critical = second?.tag === TAG.boolean;
    if (critical && hex(second.contents) !== "ff") malformed("a critical flag that is not DER");
    const value = expect(parts[critical ? 2 : 1], TAG.octets, "the value of an extension");
    if (parts.length !== (critical ? 3 : 2)) malformed("an extension of another form");
    return { id: hex(expect(id, TAG.oid, "an extension").contents), critical, value: value.contents };
  };
  const constraints = (value) => {
    const parts = elements(single(value, TAG.sequence, "basic constraints").contents);
    const ca = parts[0]?.tag === TAG.boolean && parts[0].contents[0] === 0xff;
    const path = parts.find((part) => part.tag === TAG.integer);
    return { ca, pathLength: path ? integer(path, "a path length").reduce((sum, byte) => sum * 256 + byte, 0) : null };
  };
  /** Bits from the left: 5 certificates, 6 lists. */
  const usage = (value) => {
    const bits = single(value, TAG.bits, "key usage").contents[1] ?? 0;
    return { certify: (bits & 0x04) !== 0, revoke: (bits & 0x02) !== 0 };
  };

  const certificates = new Map();
  const readCertificate = (der) => {
    if (der.length > CERTIFICATE_MAX) malformed(`a certificate of ${der.length} bytes`);
    const { signed, algorithm, signature, fields } = wrapped(der);
    const [version, number, inner, issuer, dates, subject, spki, ...rest] = fields;
    if (hex(expect(version, TAG.version, "a version").contents) !== "020102") malformed("not X.509 version 3");
    if (!inner || !same(inner.whole, algorithm)) malformed("two signature algorithms that differ");
    [issuer, dates, subject, spki].forEach((field) => expect(field, TAG.sequence, "a field of a certificate"));
    const [from, until] = elements(dates.contents);
    const last = rest.at(-1);
    const listed = last?.tag === TAG.extensions ? elements(single(last.contents, TAG.sequence, "extensions").contents) : [];
    if (listed.length > EXTENSIONS_MAX) malformed(`${listed.length} extensions`);
    const extensions = new Map();
    for (const { id, critical, value } of listed.map(extension)) {
      if (extensions.has(id)) malformed(`extension ${id} twice`);
      if (critical && id !== OID.basicConstraints && id !== OID.keyUsage) malformed(`critical extension ${id}`);
      extensions.set(id, value);
    }
    const basic = extensions.has(OID.basicConstraints) ? constraints(extensions.get(OID.basicConstraints)) : null;
    const uses = extensions.has(OID.keyUsage) ? usage(extensions.get(OID.keyUsage)) : null;
    return {
      der, fingerprint: hex(sha256(der)), signed, signature, key: keyOf(spki), issuer: hex(issuer.whole), subject: hex(subject.whole),
      commonName: commonName(subject) ?? malformed("not exactly one common name"), shown: shown(subject),
      issuerShown: shown(issuer), serial: serial(number), from: time(from), until: time(until), extensions,
      ca: basic?.ca ?? false, pathLength: basic?.pathLength ?? null, certify: uses?.certify ?? false, revoke: uses?.revoke ?? false,
    };
  };
  /** Parses a certificate; believes nothing. */
  const certificate = (der) => {
    const name = hex(sha256(der));
    if (!certificates.has(name)) certificates.set(name, readCertificate(der));
    return certificates.get(name);
  };

  /** Parses a revocation list, complete and direct. */
  const list = (der) => {
    if (der.length > CRL_MAX) malformed(`a list of ${der.length} bytes`);
    const { signed, algorithm, signature, fields } = wrapped(der);
    let at = fields[0]?.tag === TAG.integer ? 1 : 0;
    const [inner, issuer, issued, next] = [fields[at], fields[at + 1], fields[at + 2], fields[at + 3]];
    if (!inner || !same(inner.whole, algorithm)) malformed("two signature algorithms that differ");
    at += 4;
    const hasEntries = fields[at]?.tag === TAG.sequence;
    const entries = hasEntries ? elements(fields[at].contents) : [];
    if (entries.length > REVOKED_MAX) malformed(`${entries.length} entries`);
    const extended = fields[hasEntries ? at + 1 : at];
    const critical = (sequence) => elements(single(sequence, TAG.sequence, "extensions").contents).map(extension).some((one) => one.critical);
    if (extended && critical(extended.contents)) malformed("a critical extension");
    const revoked = new Set();
    for (const entry of entries) {
      const [number, , more] = elements(expect(entry, TAG.sequence, "an entry").contents);
      if (more && critical(more.whole)) malformed("a critical extension of an entry");
      revoked.add(serial(number));
    }
    return {
      signed, signature, issuer: hex(expect(issuer, TAG.sequence, "an issuer").whole), issued: time(issued), next: time(next), revoked,
    };
  };

  const signatures = new Map();
  /** Whether the key of `issuer` (RSA) signed a certificate or list. */
  const signedBy = (what, issuer) => {
    if (issuer.key.kind !== "rsa") return Promise.resolve(false);
    const name = `${hex(sha256(what.signed, what.signature))} ${hex(sha256(issuer.key.spki))}`;
    if (!signatures.has(name)) {
      const algorithm = { name: "RSA-PSS", hash: "SHA-384" };
      const verified = crypto.subtle.importKey("spki", issuer.key.spki, algorithm, false, ["verify"])
        .then((key) => crypto.subtle.verify({ name: "RSA-PSS", saltLength: 48 }, key, what.signature, what.signed))
        .catch(() => false);
      signatures.set(name, verified);
    }
    return signatures.get(name);
  };

  Object.assign(legation, { x509: { certificate, list, signedBy } });
})();
