// The requirement language (crates/legation-core/src/requirement.rs): what an enclave must satisfy, as an expression over its
// attested attributes. A requirement is signed as its source text.
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { Malformed, malformed, Rejection, U64_MAX, utf8, keyId, oneLine, min } = legation;

  const SOURCE_MAX = 4096;
  const DEPTH_MAX = 32;
  const LIST_MAX = 64;

  const TYPES = {
    tee: "tee", region: "name", provider: "name", product: "name", development: "yes-no", debug: "yes-no", price: "price",
    cpu: "cpu", memory: "memory", confidential: "yes-no", "tcb.status": "tcb-status", "tcb.shortfall": "count",
    grace: "yes-no", image: "names", measurement: "name", operator: "name", gpu: "names", gpus: "count", feature: "names",
    verifier: "name",
  };
  const ORDERED = ["price", "cpu", "memory", "share", "count"];
  const OPERATORS = ["==", "!=", "<=", ">=", "<", ">"];
  const SYMBOLS = [...OPERATORS, "(", ")", "[", "]", ",", "/"];

  const lex = (source) => {
    const tokens = [];
    let at = 0;
    const run = (pattern) => {
      pattern.lastIndex = at;
      return pattern.exec(source)?.[0];
    };
    while (at < source.length) {
      const space = run(/\p{White_Space}+/uy);
      if (space) {
        at += space.length;
        continue;
      }
      const text = run(/"[^"]*"/y);
      const number = run(/[0-9][0-9.]*/y);
      const word = run(/[A-Za-z][A-Za-z0-9_.-]*/y);
      const symbol = SYMBOLS.find((one) => source.startsWith(one, at));
      const token = text
        ? { kind: "text", text: text.slice(1, -1) }
        : number
          ? { kind: "number", text: number }
          : word
            ? { kind: "word", text: word }
            : symbol
              ? { kind: "symbol", text: symbol }
              : malformed(`\`${source[at]}\` has no meaning in a requirement`);
      tokens.push(token);
      at += (text ?? number ?? word ?? symbol).length;
    }
    tokens.push({ kind: "end", text: "" });
    return tokens;
  };

  /** A decimal number times `scale`, exactly; nothing where it has more digits than the scale can hold. */
  const number = (token, scale) => {
    if (token.kind !== "number") return null;
    const dot = token.text.indexOf(".");
    const [whole, fraction] = dot < 0 ? [token.text, "0"] : [token.text.slice(0, dot), token.text.slice(dot + 1)];
    if (!/^[0-9]{1,12}$/.test(fraction)) return null;
    const part = BigInt(fraction) * scale;
    const divisor = 10n ** BigInt(fraction.length);
    if (part % divisor !== 0n || BigInt(whole) > U64_MAX) return null;
    const all = BigInt(whole) * scale + part / divisor;
    return all <= U64_MAX ? all : null;
  };

  const parser = (tokens) => {
    let at = 0;
    const peek = () => tokens[Math.min(at, tokens.length - 1)];
    const next = () => {
      const token = peek();
      at += 1;
      return token;
    };
    const take = (kind, text) => {
      const found = peek().kind === kind && peek().text === text;
      if (found) at += 1;
      return found;
    };
    const wrong = (wanted) => malformed(`requirement: expected ${wanted}, found \`${oneLine(peek().text)}\``);

    const literal = (type) => {
      const token = next();
      const called = token.kind === "word" || token.kind === "text";
      const amount = (scale, unit, wanted) => {
        const value = number(token, scale);
        return value !== null && unit() ? value : wrong(wanted);
      };
      switch (type) {
        case "tee":
          return called && legation.words.KINDS.includes(token.text) ? token.text : wrong("a kind of machine");
        case "tcb-status":
          return called && legation.words.TCB_STATUS.includes(token.text) ? token.text : wrong("a status of firmware");
        case "name":
        case "names":
          return called ? token.text : wrong("a name");
        case "yes-no":
          if (token.kind === "word" && ["yes", "true"].includes(token.text)) return true;
          return token.kind === "word" && ["no", "false"].includes(token.text) ? false : wrong("yes or no");
        case "count":
          return number(token, 1n) ?? wrong("a whole number");
        case "price":
          return amount(1_000_000n, () => take("word", "usd") && take("symbol", "/") && take("word", "h"), "a price in usd/h");
        case "cpu":
          return amount(1000n, () => take("word", "core") || take("word", "cores"), "a number of cores");
        case "memory": {
          const scale = { KiB: 1n << 10n, MiB: 1n << 20n, GiB: 1n << 30n }[peek().kind === "word" ? peek().text : ""];
          return amount(scale ?? 1n, () => scale !== undefined && next(), "a size, such as 512 MiB");
        }
        default: {
          const share = number(token, 1000n);
          return share !== null && share <= 1000n ? share : wrong("a number from 0 to 1");
        }
      }
    };
    const values = (type) => {
      if (!take("symbol", "[")) wrong("`[`");
      const all = [];
      for (;;) {
        all.push(literal(type));
        if (all.length > LIST_MAX) malformed(`requirement: more than ${LIST_MAX} entries`);
        if (take("symbol", "]")) return all;
        if (!take("symbol", ",")) wrong("`,` or `]`");
      }
    };
    const attribute = () => {
      const token = next();
      if (token.kind !== "word") return wrong("an attribute");
      if (token.text === "confidence" && take("symbol", "(")) {
        const inner = next();
        if (inner.kind !== "word" || !Object.hasOwn(TYPES, inner.text) || !take("symbol", ")")) wrong("confidence(ATTRIBUTE)");
        return { attribute: inner.text, confidence: true, type: "share" };
      }
      if (!Object.hasOwn(TYPES, token.text)) wrong("an attribute");
      return { attribute: token.text, confidence: false, type: TYPES[token.text] };
    };
    const comparison = () => {
      const term = attribute();
      if (take("word", "in")) return { op: "in", term, values: values(term.type) };
      const sign = peek().kind === "symbol" && OPERATORS.includes(peek().text) ? peek().text : null;
      if (sign === null) {
        return term.type === "yes-no" ? { op: "compare", term, sign: "==", value: true } : wrong("a comparison");
      }
      if (!ORDERED.includes(term.type) && sign !== "==" && sign !== "!=") malformed(`\`${term.attribute}\` has no order`);
      at += 1;
      return { op: "compare", term, sign, value: literal(term.type) };
    };
    const factor = (depth) => {
      if (depth > DEPTH_MAX) malformed(`requirement: nested deeper than ${DEPTH_MAX}`);
      if (take("word", "not")) return { op: "not", inner: factor(depth + 1) };
      if (take("symbol", "(")) {
        const inner = expression(depth + 1);
        return take("symbol", ")") ? inner : wrong("`)`");
      }
      return take("word", "any") ? { op: "any" } : comparison();
    };
    const joined = (word, op, part) => (depth) => {
      const parts = [part(depth)];
      while (take("word", word)) parts.push(part(depth));
      return parts.length === 1 ? parts[0] : { op, parts };
    };
    const term = joined("and", "and", factor);
    const expression = joined("or", "or", term);
    const whole = expression(0);
    return peek().kind === "end" ? whole : wrong("`and`, `or` or the end");
  };

  const parsed = new Map();
  /** Reads a requirement; refuses what is none. */
  const parse = (source) => {
    if (!parsed.has(source)) {
      if (utf8(source).length > SOURCE_MAX) malformed(`a requirement longer than ${SOURCE_MAX} bytes`);
      parsed.set(source, { source, expression: parser(lex(source)) });
    }
    return parsed.get(source);
  };

  const CERTAIN = 1000n;
  /** What only the provider says, as thousandths (docs/confidence.md). */
  const DECLARED = 300n;

  const confidence = ({ claims }, attribute) => {
    const of = (claim) => (claim ? claim.confidence : 0n);
    switch (attribute) {
      case "tee":
      case "product":
      case "debug":
      case "confidential":
      case "measurement":
        return of(claims[attribute]);
      case "image":
        return of(claims.measurement);
      case "tcb.status":
      case "tcb.shortfall":
        return of(claims.tcb);
      case "development":
      case "grace":
      case "verifier":
        return CERTAIN;
      case "operator":
        return of(claims.operator);
      case "feature":
        return of(claims.features);
      case "gpu":
      case "gpus":
        return claims.gpus.length > 0 ? min(...claims.gpus.map(of)) : 0n;
      case "region":
        return claims.region ? of(claims.region) : DECLARED;
      default:
        return DECLARED;
    }
  };
  /** The value of a term for a candidate; undefined where nobody says. */
  const valueOf = ({ passport, price }, term) => {
    if (term.confidence) return confidence(passport, term.attribute);
    const { claims, configuration, ear } = passport;
    switch (term.attribute) {
      case "tee":
      case "product":
      case "debug":
      case "confidential":
      case "measurement":
        return claims[term.attribute].value;
      case "region":
        return claims.region ? claims.region.value : configuration.region;
      case "provider":
        return configuration.provider;
      case "development":
        return claims.anchor.kind === "development";
      case "price":
        return price;
      case "cpu":
        return configuration.capacity.cpu;
      case "memory":
        return configuration.capacity.memory;
      case "tcb.status":
        return ear.tcb.status;
      case "tcb.shortfall":
        return BigInt(ear.tcb.shortfall.length);
      case "grace":
        return ear.grace !== null;
      case "image":
        return new Set(ear.images);
      case "operator":
        return claims.operator?.value;
      case "gpu":
        return new Set(claims.gpus.map((gpu) => gpu.value.model));
      case "gpus":
        return BigInt(claims.gpus.length);
      case "feature":
        return claims.features ? new Set(claims.features.value) : undefined;
      default:
        return keyId(passport.verifier);
    }
  };
  const holds = (sign, left, right) => {
    if (left === undefined) return false;
    if (left instanceof Set) return left.has(right) === (sign === "==");
    switch (sign) {
      case "==":
        return left === right;
      case "!=":
        return left !== right;
      case "<":
        return left < right;
      case "<=":
        return left <= right;
      case ">":
        return left > right;
      default:
        return left >= right;
    }
  };

  const show = (value) => {
    if (value === undefined) return "nothing: its evidence does not say";
    return value instanceof Set ? [...value].join(", ") || "none" : String(value);
  };
  const absent = (expression, candidate) => {
    switch (expression.op) {
      case "any":
        return null;
      case "not":
        return absent(expression.inner, candidate);
      case "and":
      case "or":
        return expression.parts.reduce((found, part) => found ?? absent(part, candidate), null);
      default:
        return valueOf(candidate, expression.term) === undefined ? expression.term : null;
    }
  };
  const unmet = (expression, candidate, source) => {
    const refusal = (term) => {
      const name = term.confidence ? `confidence.${term.attribute}` : term.attribute;
      return new Rejection(`require.${name}`, `the ${name} of the enclave`, {
        expected: source,
        got: show(valueOf(candidate, term)),
        fix: "relax the requirement or wait for such an enclave",
      });
    };
    switch (expression.op) {
      case "any":
        return null;
      case "and":
        return expression.parts.reduce((found, part) => found ?? unmet(part, candidate, source), null);
      case "or": {
        const found = [];
        for (const part of expression.parts) {
          const why = unmet(part, candidate, source);
          if (why === null) return null;
          found.push(why);
        }
        const got = found.map((why) => why.got).join(", ");
        return new Rejection(found[0].check, "none of the alternatives", { expected: source, got });
      }
      case "not": {
        // What nobody says is neither so nor not so.
        const term = absent(expression.inner, candidate);
        if (term !== null) return refusal(term);
        if (unmet(expression.inner, candidate, source) !== null) return null;
        return new Rejection("require.not", "an exclusion", { expected: source, got: "what it excludes" });
      }
      case "compare":
        return holds(expression.sign, valueOf(candidate, expression.term), expression.value) ? null : refusal(expression.term);
      default: {
        const found = valueOf(candidate, expression.term);
        return expression.values.some((value) => holds("==", found, value)) ? null : refusal(expression.term);
      }
    }
  };
  /** Refuses a candidate (a passport, and the price of an hour there) that does not satisfy a requirement. */
  const check = (requirement, candidate) => {
    const why = unmet(requirement.expression, candidate, requirement.source);
    if (why !== null) throw why;
  };

  const can = (expression, region) => {
    const known = (fact) => ({ hold: fact, fail: !fact });
    const isRegion = expression.term && !expression.term.confidence && expression.term.attribute === "region";
    switch (expression.op) {
      case "any":
        return known(true);
      case "not": {
        const { hold, fail } = can(expression.inner, region);
        return { hold: fail, fail: hold };
      }
      case "and":
      case "or": {
        const all = expression.parts.map((part) => can(part, region));
        const [every, some] = [(of) => all.every((one) => one[of]), (of) => all.some((one) => one[of])];
        return expression.op === "and"
          ? { hold: every("hold"), fail: some("fail") }
          : { hold: some("hold"), fail: every("fail") };
      }
      case "compare":
        return isRegion ? known(holds(expression.sign, region, expression.value)) : { hold: true, fail: true };
      default:
        return isRegion ? known(expression.values.includes(region)) : { hold: true, fail: true };
    }
  };
  /** Whether an enclave in this region can satisfy it, as far as its region goes. */
  const allowsRegion = (requirement, region) => can(requirement.expression, region).hold;

  Object.assign(legation, { requirement: { parse, check, allowsRegion, Malformed } });
})();
