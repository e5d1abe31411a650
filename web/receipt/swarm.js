// Seats, memberships, and allocations within them (crates/legation-core/src/receipt/check/swarm.rs).
"use strict";
(() => {
  const legation = (globalThis.legation ??= {});
  const { refuse, keyId, short, ascending, equal, requirement, date, oneLine, minus, plus } = legation;
  const { leastMembers, perHour, checkData } = legation.request;
  const { SKEW } = legation.delegation;

  const MEMBERS_MAX = 64;
  const bad = (claim, expected, got) => refuse("receipt.swarm", claim, expected, got);
  const seatOf = (seating, enclave) => seating.seats.find((seat) => seat.member.enclave === enclave);

  class Swarm {
    constructor(chain) {
      this.chain = chain;
    }

    seating({ it }) {
      const { chain } = this;
      const request = chain.findRequest(it.task);
      const terms = request.it.swarm ?? bad("seats of the task", "none: its request asks for no swarm");
      const old = chain.get("seating", it.prev[2])?.it;
      const after = old && old.task === it.task && old.round + 1n === it.round && old.term <= it.term && old.revocations <= it.revocations;
      const follows = it.prev[0] === request.digest && ((it.prev.length === 2 && it.round === 1n) || (it.prev.length === 3 && after));
      const leases = new Set(it.seats.map((seat) => seat.member.lease));
      const formed = it.seats.length >= 1 && it.seats.length <= MEMBERS_MAX && ascending(it.seats, (seat) => seat.member.enclave) &&
        leases.size === it.seats.length && it.round > 0n;
      const few = it.round === 1n ? terms.members : leastMembers(terms);
      const count = BigInt(it.seats.length);
      if (!follows || !formed || count < few || count > terms.members) {
        bad("form of the seating", `${few} to ${terms.members} seats ascending by enclave, resting on the request, the manager's ` +
          "appointment and the seating of the round before", `${count} seats of round ${it.round}`);
      }
      chain.appointed(it.prev[1], it.manager, "manager", it.at);
    }

    membership({ it }) {
      const { chain } = this;
      const request = chain.findRequest(it.task);
      const [seating, passport] = [chain.get("seating", it.prev[1]), chain.get("passport", it.prev[2])];
      if (!seating || !passport || it.prev.length !== 3) {
        bad("what the membership rests on", "the request, the seating and the member's passport");
      }
      const enclave = keyId(it.enclave);
      const seat = seatOf(seating.it, enclave);
      const { task, round, seats } = seating.it;
      const same = seat && it.prev[0] === request.digest && it.task === task && it.round === round &&
        equal(it.members, seats.map((one) => one.member)) && equal(it.prev, [task, seating.digest, seat.member.passport]);
      if (!same) bad("members that the member signed", `the list of round ${round} of its task, as it was seated, with itself in it`, "another");
      if (passport.it.enclave !== it.enclave) bad("passport of the member", enclave, keyId(passport.it.enclave));
      const { at } = seating.it;
      if (at < minus(passport.it.issued, SKEW) || at > passport.it.expires) {
        bad("dates of the member's passport", `to cover ${date(at)}, when it was seated`);
      }
      chain.trustedBy(request.it.tenant, passport.it);
      const price = request.it.swarm ? perHour(passport.it.configuration.rate, request.it.swarm.seat) : 0n;
      if (seat.price_hour !== price) bad("price of the member's seat", `${price} per hour, as its passport says`, seat.price_hour);
      const candidate = { passport: passport.it, price };
      requirement.check(request.it.require, candidate);
      if (request.it.fragments[0]) requirement.check(request.it.fragments[0].require, candidate);
      checkData(request.it.data, passport.it);
      const first = chain.firstRevoked(chain.behind(passport.it));
      if (first === null) return;
      const what = `the ${first.what.kind} ${oneLine(first.what.name.slice(0, 16))} behind a member of the swarm`;
      if (seating.it.revocations >= first.epoch || at >= first.at) {
        refuse("receipt.revoked", what, `not revoked at ${date(at)}, when it was seated`, `revoked at ${date(first.at)} (epoch ${first.epoch})`);
      }
      chain.warnings.add(`${what} was revoked at ${date(first.at)}, after it was seated: ${oneLine(first.why)}`);
    }

    /** The memberships that an allocation rests on, if its request asks for a swarm. */
    within(request, allocation, memberships) {
      const { chain } = this;
      const { seat } = allocation;
      if (!request.swarm && !seat && memberships.length === 0) return;
      if (!request.swarm || !seat) {
        bad("seat of the allocation", request.swarm ? "one: the request asks for a swarm" : "none", seat ? "one" : "none");
      }
      const opened = memberships.map((name) => chain.get("membership", name) ??
        bad("what the allocation rests on", "the memberships of its round", name)).map((one) => one.it);
      const first = opened[0] ?? bad("memberships of the round", "one of every member", "none");
      const wanted = first.members.map((one) => one.enclave);
      const signed = opened.map((one) => keyId(one.enclave));
      const oneList = opened.every((one) => one.task === allocation.task && one.round === seat.round &&
        equal(one.members, first.members) && one.prev[1] === first.prev[1]);
      if (!oneList || !equal(wanted, signed)) {
        bad("memberships of the round", `one of every member of round ${seat.round}, of one list: ${wanted.map(short).join(" ")}`,
          signed.map(short).join(" "));
      }
      if (!first.members.some((one) => one.enclave === allocation.enclave && one.lease === seat.lease)) {
        bad("enclave of the allocation", `the member of round ${seat.round} with the seat lease-${seat.lease}`, allocation.enclave);
      }
      const chips = new Set(opened.map((one) => chain.get("passport", one.prev[2])?.it.claims.chip.value ?? null));
      if (chips.size !== opened.length || chips.has(null)) bad("chips of the members", "one each", "two on one");
      const seating = chain.get("seating", first.prev[1])?.it;
      const own = seating && seatOf(seating, allocation.enclave);
      const dated = own && seating.at <= plus(allocation.from, SKEW) && seating.term <= allocation.term && allocation.until <= own.until;
      if (!dated) bad("dates of the allocation", "within those of its seat", `${date(allocation.from)} to ${date(allocation.until)}`);
    }
  }

  Object.assign(legation, { Swarm });
})();
