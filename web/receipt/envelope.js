// DSSE envelopes around in-toto statements (crates/legation-core/src/dsse.rs): kept in the bytes that were signed.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { shape, words, json, Malformed, malformed, refuse, unbase64, base64, utf8, text, concat, digest, equal, keyId } = legation;
  const { string, list, struct } = shape;

  const PAYLOAD_TYPE = "application/vnd.in-toto+json";
  const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";
  const PAYLOAD_MAX = 1 << 20;
  const SUBJECTS_MAX = 4096;

  const wire = struct({
    payloadType: string, payload: string, signatures: list(struct({ keyid: words.hash, sig: string })),
  });
  /** The one spelling, which its digest is over. */
  const spell = ({ encoded, keyid, sig }) =>
    `{"payloadType":"${PAYLOAD_TYPE}","payload":"${encoded}","signatures":[{"keyid":"${keyid}","sig":"${sig}"}]}`;

  /** The shape of an envelope. */
  const read = (value) => {
    const { payloadType, payload: encoded, signatures } = wire(value);
    if (payloadType !== PAYLOAD_TYPE) malformed("another payloadType");
    if (signatures.length !== 1) malformed(`${signatures.length} signatures, expected one`);
    if (encoded.length > Math.ceil(PAYLOAD_MAX / 3) * 4) malformed(`a payload larger than ${PAYLOAD_MAX}`);
    const payload = unbase64(encoded);
    if (payload.length > PAYLOAD_MAX) malformed(`a payload larger than ${PAYLOAD_MAX}`);
    const [{ keyid, sig }] = signatures;
    const signature = unbase64(sig);
    if (signature.length !== 64) malformed(`a signature of ${signature.length} bytes`);
    const envelope = { payload, encoded, keyid, sig, signature };
    envelope.digest = digest(utf8(spell(envelope)));
    return envelope;
  };

  const pae = (payload) => concat(utf8(`DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} `), payload);

  const entry = (value, field) => {
    if (!(value instanceof json.Obj)) return malformed("expected an object");
    const found = value.entries.filter(([name]) => name === field);
    return found.length > 1 ? malformed(`field \`${field}\` twice`) : found[0]?.[1];
  };
  /** What the walk needs of a statement before anything of it is believed: what it rests on. */
  const peek = ({ payload }) => {
    const predicate = entry(json.parse(text(payload)), "predicate");
    const prev = entry(predicate === undefined ? malformed("no predicate") : predicate, "prev");
    return prev === undefined ? [] : list(words.hash)(prev);
  };
  /** The short kind of the statement inside, unchecked; `statement` of what has no place in a receipt. */
  const kindOf = ({ payload }) => {
    try {
      const type = string(entry(json.parse(text(payload)), "predicateType"));
      const found = Object.entries(words.statements).find(([, statement]) => statement.type === type);
      return { kind: found && !words.BESIDE.includes(found[0]) ? found[0] : "statement", type };
    } catch (why) {
      if (!(why instanceof Malformed)) throw why;
      return { kind: "statement", type: "" };
    }
  };

  const subject = struct({ name: string, digest: struct({ sha256: words.hash }) });
  const opened = async (envelope, kind) => {
    const statement = words.statements[kind];
    const whole = struct({ _type: string, subject: list(subject), predicateType: string, predicate: statement.read });
    const found = whole(json.parse(text(envelope.payload)));
    if (found._type !== STATEMENT_TYPE) malformed(`_type is \`${found._type}\``);
    if (found.predicateType !== statement.type) malformed(`predicateType is \`${found.predicateType}\``);
    if (found.subject.length > SUBJECTS_MAX) malformed(`more than ${SUBJECTS_MAX} subjects`);
    const it = found.predicate;
    if (!equal(found.subject, statement.subjects(it))) malformed("subjects do not match the predicate");
    const signer = statement.signer(it);
    if (envelope.keyid !== keyId(signer)) malformed(`signed by key ${envelope.keyid}, expected key ${keyId(signer)}`);
    if (!(await legation.ed25519.verifyBy(signer, pae(envelope.payload), envelope.signature))) {
      malformed(`signature does not verify under key ${envelope.keyid}`);
    }
    return { kind, digest: envelope.digest, it, prev: statement.prev(it) };
  };
  /** Reads the statement of this kind and checks that the key it names signed it. */
  const open = async (envelope, kind) => {
    try {
      return await opened(envelope, kind);
    } catch (why) {
      if (!(why instanceof Malformed)) throw why;
      return refuse(
        "receipt.signature", "signature of the statement", "one by the key its office demands", why.message,
        "the statement was changed or signed by another key: do not rely on this receipt",
      );
    }
  };

  Object.assign(legation, { envelope: { read, spell, peek, kindOf, open, pae, base64 } });
})();
