// What grants allow (crates/legation-core/src/grant.rs).
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, ascending, digest, utf8, short } = legation;
  const { fragmentOf, ownerKey, holderOf, covers, checkAssurance, mayBeAssured, showAssurance } = legation.request;

  const withinDelegation = (grant, most, index) => {
    const bad = (check, claim, expected, got) => refuse(`grant.${check}`, `${claim} of fragment #${index}`, expected, got);
    const passed = grant.delegable;
    if (!most) return bad("depth", "delegation depth", "0: the request lets nothing of it be passed on", grant.depth);
    if (grant.depth > most.depth) bad("depth", "delegation depth", `at most ${most.depth}`, grant.depth);
    if (passed.modules.length === 0 || !ascending(passed.modules)) {
      bad("delegable", "modules that may be passed on", "ascending, at least one");
    }
    const other = passed.modules.find((module) => !most.modules.includes(module));
    if (other) bad("delegable", "modules that may be passed on", "those of the request", other);
    if (passed.fuel > most.fuel || passed.budget > most.budget) {
      bad("delegable", "fuel and budget that may be passed on", `at most ${most.fuel} and ${most.budget}`);
    }
    checkAssurance(passed.assurance);
    if (!covers(passed.assurance, most.assurance)) {
      bad("delegable", "assurance of calls", `${showAssurance(most.assurance)} at least`, showAssurance(passed.assurance));
    }
    return undefined;
  };
  /** Keys that may be passed on are ascending, and of objects that the grant releases. */
  const passesReleases = (grant) => {
    if (!grant.delegable) return;
    const { releases } = grant.delegable;
    if (!ascending(releases) || !releases.every((object) => grant.releases.includes(object))) {
      refuse("grant.releases", "objects whose keys may be passed on", "some of those that the grant releases, ascending");
    }
  };
  const nothingBeside = (request, grant) => {
    const covered = grant.fragments.map((index) => fragmentOf(request, index)).filter(Boolean);
    const module = grant.modules.find((one) => !covered.some((fragment) => fragment.module === one));
    if (module) refuse("grant.module", "modules of the grant", "those of its fragments", module);
    const held = covered.flatMap((fragment) =>
      fragment.inputs.filter((input) => holderOf(request, fragment, input) === grant.issuer));
    // Which object an output will be is known when its fragment has run.
    const mayRelease = (object) => held.some((input) => input.kind === "output" || input.object === object);
    const object = grant.releases.find((one) => !mayRelease(one));
    if (object) {
      refuse("grant.releases", "objects whose keys the grant releases", "inputs of its fragments that the issuer holds", object);
    }
    passesReleases(grant);
  };

  /** Refuses a grant that exceeds its request. `signed` is the request with its digest. */
  const checkGrant = (signed, grant) => {
    const request = signed.it;
    if (grant.task !== signed.digest) refuse("grant.task", "task of the grant", signed.digest, grant.task);
    if (grant.prev.length !== 1 || grant.prev[0] !== signed.digest) {
      refuse("grant.task", "what the grant rests on", "the request alone", grant.prev.map(short).join(", "));
    }
    if (grant.expires > request.expires) refuse("grant.expires", "end of the grant", `at most ${request.expires}`, grant.expires);
    if (grant.budget > request.budget) refuse("grant.budget", "budget of the grant", request.budget, grant.budget);
    if ((grant.delegable !== null) !== grant.depth > 0n) {
      refuse("grant.depth", "delegation depth and what may be passed on", "0 without it, more with it", grant.depth);
    }
    if (grant.fragments.length === 0 || !ascending(grant.fragments)) {
      refuse("grant.fragments", "fragments of the grant", "ascending, at least one");
    }
    if (grant.subject.kind === "policy") {
      const policy = digest(utf8(request.require.source));
      if (grant.subject.value !== policy || grant.releases.length > 0) {
        refuse("grant.policy", "policy of the grant", "the request's requirement, releasing no keys", grant.subject.value);
      }
      if (grant.delegable) refuse("grant.depth", "delegation depth of a grant to whoever satisfies a policy", 0, grant.depth);
    }
    for (const index of grant.fragments) {
      const fragment = fragmentOf(request, index);
      if (!fragment) refuse("grant.fragments", "a fragment of the grant", `one of ${request.fragments.length}`, index);
      if (!grant.modules.includes(fragment.module)) {
        refuse("grant.module", "modules of the grant", `the module of fragment #${index}, ${fragment.module}`);
      }
      if (grant.fuel > fragment.demand.fuel) refuse("grant.fuel", "fuel of the grant", fragment.demand.fuel, grant.fuel);
      if (grant.delegable) {
        withinDelegation(grant, fragment.delegates, index);
        mayBeAssured(grant.delegable.assurance, request.data);
      }
      const holds = fragment.inputs.some((input) => holderOf(request, fragment, input) === grant.issuer);
      if (ownerKey(request, fragment) !== grant.issuer && !holds) {
        refuse("grant.issuer", "issuer of the grant",
          `the owner of fragment #${index} or the holder of one of its inputs`, grant.issuer);
      }
    }
    nothingBeside(request, grant);
  };

  const coversRun = (grant, index, enclave) =>
    grant.fragments.includes(index) && (grant.subject.kind === "policy" || grant.subject.value === enclave);

  /** Refuses a run that these grants (signed) do not together allow. */
  const checkUse = (signed, grants, { index, enclave, objects, at }) => {
    const request = signed.it;
    const fragment = fragmentOf(request, index);
    if (!fragment) refuse("grant.fragment", "fragment to run", "one of the request", index);
    grants.forEach((grant) => checkGrant(signed, grant.it));
    const needed = (key, what, enough) => {
      const good = grants.map((grant) => grant.it)
        .filter((grant) => grant.issuer === key && coversRun(grant, index, enclave) && enough(grant));
      if (good.length === 0) {
        refuse("grant.missing", `grants for fragment #${index}`, `${what}, for enclave ${short(enclave)}`, "none");
      }
      if (good.every((grant) => at > grant.expires)) refuse("grant.expires", "end of the grant", `not before ${at}`);
    };
    needed(ownerKey(request, fragment), "its owner's grant", () => true);
    if (fragment.inputs.length !== objects.length) {
      refuse("grant.object", "number of inputs", fragment.inputs.length, objects.length);
    }
    fragment.inputs.forEach((input, i) => {
      const object = objects[i];
      if (input.kind === "sealed" && input.object !== object) refuse("grant.object", "object of an input", input.object, object);
      needed(holderOf(request, fragment, input), `the release of object ${object} by its holder`,
        (grant) => grant.releases.includes(object));
    });
  };

  Object.assign(legation, { grant: { checkGrant, checkUse, coversRun, passesReleases } });
})();
