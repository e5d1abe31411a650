//! Whether to take part in a ceremony, and with whom: pure judgement over signed statements.
//!
//! Signatures were checked when the statements were read. Before it says anything in a ceremony, a member checks
//! 1. that the charter is by an operator that it obeys, for its own swarm key, and no older than one it went by (`custody.operator`,
//!    `custody.swarm`, `custody.charter`), and that the manager who calls is appointed by one (`custody.manager`, `offer.*`); that the call
//!    follows charter and committee, [`Board::open`](legation_core::custody::Board::open) checked;
//! 2. that there is time (`custody.dates`);
//! 3. that the call goes on from what the member knows: from the committee that it is of, if it is of one (`custody.from`).
//!
//! Before it deals or accepts, of each who is called
//! 4. that there is a passport of that enclave, which holds, of a verifier that an obeyed operator appointed and not for some tenants alone
//!    (`custody.passport`, `passport.*`, `custody.verifier`), and that nothing of it is revoked (`revocation`);
//! 5. that it is set up as a custodian of this swarm key (`custody.swarm`), of the provider that the call says (`custody.provider`), obeys no
//!    operator that is a stranger here, who could call it elsewhere (`custody.operators`), and is as the charter requires;
//! 6. that no two are on one chip (`custody.chip`), nor too many with one provider by their own passports (`custody.providers`).
//!
//! The committee before needs no passports here: it gives a share only to whom it judged, and takes nothing. That its dealings are of the key
//! that it has, the mathematics shows. Evidence behind passports is not judged again: that is the passport model (RFC 9334, section 5.1).

use legation_core::{
    Digest, PublicKey, Rejection, Revoked, Signed, SwarmName, UnixTime,
    custody::{Called, Charter, CustodyCall, check_chips},
    requirement::Candidate,
    statement::{Appointment, Office, Passport},
};
use legation_net::message::Peer;

use super::kept::Role;
use crate::offer::{SKEW, appointed};

/// What a member knows of the world when it judges.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Roots it obeys.
    pub operators: &'a [PublicKey],
    /// What is revoked, as far as it knows.
    pub revoked: &'a Revoked,
    /// The passport that it shows, if it has one.
    pub passport: Option<Digest>,
    /// Now.
    pub now: UnixTime,
}

fn bad(check: &str, claim: impl Into<String>) -> Rejection {
    Rejection::new(&format!("custody.{check}"), claim)
}

/// Checks 1 and 2. `newest` is the number of the newest charter that it went by.
pub(super) fn call(
    swarm: &SwarmName,
    (call, charter): (&Signed<CustodyCall>, &Signed<Charter>),
    appointments: &[Signed<Appointment>],
    newest: u32,
    standing: &Standing<'_>,
) -> Result<(), Rejection> {
    let now = standing.now;
    if !standing.operators.contains(&charter.operator) {
        return Err(bad("operator", "operator behind the charter")
            .expected("one that this agent obeys")
            .got(charter.operator.id())
            .fix("if you trust this operator, add its key to the configuration"));
    }
    if charter.swarm != *swarm {
        return Err(bad("swarm", "swarm key of the charter").expected(swarm).got(&charter.swarm));
    }
    if charter.number < newest {
        return Err(bad("charter", "charter of the call")
            .expected(format!("number {newest} or a later one"))
            .got(charter.number)
            .fix("call by the newest charter"));
    }
    let Some(appointment) = appointments.iter().rfind(|appointment| appointment.key == call.manager) else {
        return Err(bad("manager", "manager who calls")
            .expected("one whose appointment is known here")
            .got(call.manager.id())
            .fix("wait for the call of the one that leads now"));
    };
    appointed(appointment, Office::Manager, standing.operators, call.called)
        .map_err(|why| Rejection { claim: format!("{} of the manager who calls", why.claim), ..why })?;
    if call.called > now.plus(SKEW) || now > call.expires {
        return Err(bad("dates", "time for the ceremony")
            .expected(format!("around {now}"))
            .got(format!("{} to {}", call.called, call.expires))
            .fix("set the clocks of agent and manager"));
    }
    Ok(())
}

/// Check 3.
pub(super) fn goes_on(call: &CustodyCall, own: &Role) -> Result<(), Rejection> {
    let Some(held) = own.in_force() else { return Ok(()) };
    let (epoch, roster) = (held.roster.epoch(), held.roster.digest());
    // Of later committees it need not have heard.
    let known = |epoch_of| epoch_of > epoch;
    match call.from {
        Some(from) if from.roster == roster || known(from.epoch) => Ok(()),
        from => Err(bad("from", "committee that hands over")
            .expected(format!(
                "roster {} of epoch {epoch}, of which a share is held here, or a later one",
                roster.short()
            ))
            .got(from.map_or_else(
                || "none: a new key".to_owned(),
                |from| format!("roster {} of epoch {}", from.roster.short(), from.epoch),
            ))
            .fix("if the key is to be given up, restart its custodians without their state")),
    }
}

/// Checks 4 to 6.
pub(super) fn members(
    call: &CustodyCall,
    charter: &Charter,
    peers: &[Peer],
    standing: &Standing<'_>,
) -> Result<(), Rejection> {
    let mut passports: Vec<&Signed<Passport>> = Vec::with_capacity(call.members.len());
    let mut recounted: Vec<Called> = Vec::with_capacity(call.members.len());
    for called in &call.members {
        let of_it = |peer: &&Peer| peer.passport.enclave_id() == called.enclave;
        let peer = peers.iter().find(of_it).ok_or_else(|| {
            bad("passport", format!("passport of member {}", called.enclave.short())).expected("one").got("none")
        })?;
        member(called, charter, peer, standing)
            .map_err(|why| Rejection { claim: format!("{} of member {}", why.claim, called.enclave.short()), ..why })?;
        let provider = peer.passport.configuration.provider.clone();
        recounted.push(Called { enclave: called.enclave, provider });
        passports.push(&peer.passport);
    }
    charter.check_members(&recounted)?;
    check_chips(passports.into_iter().map(Signed::predicate))
}

/// Checks 4 and 5, of one.
fn member(called: &Called, charter: &Charter, peer: &Peer, standing: &Standing<'_>) -> Result<(), Rejection> {
    let (passport, appointment) = (&peer.passport, &peer.appointment);
    // A verifier's clock may be ahead: its passport is then judged as of the second it was issued.
    let ahead = passport.issued.since(standing.now);
    let at = if ahead <= SKEW { standing.now.max(passport.issued) } else { standing.now };
    legation_attest::passport::check(passport, appointment, standing.operators, at)?;
    if appointment.scope.as_ref().is_some_and(|scope| scope.tenants.is_some()) {
        return Err(bad("verifier", "verifier of the passport")
            .expected("one that is trusted by all tenants")
            .got(passport.verifier_id().short()));
    }
    if let Some(revocation) = standing.revoked.of(passport) {
        return Err(revocation.refusal());
    }
    let configuration = &passport.configuration;
    let custody = configuration.custody.as_ref().map(|custody| &custody.swarm);
    if custody != Some(&charter.swarm) {
        return Err(bad("swarm", "swarm key that the enclave helps to keep, by its passport")
            .expected(&charter.swarm)
            .got(custody.map_or("none", SwarmName::as_str))
            .fix("call custodians of this key"));
    }
    if called.provider != configuration.provider {
        return Err(bad("provider", "provider")
            .expected(&called.provider)
            .got(&configuration.provider)
            .fix("call it as whose it is: the charter bounds how many are with one provider"));
    }
    if let Some(stranger) = configuration.operators.iter().find(|operator| !standing.operators.contains(operator)) {
        return Err(bad("operators", "operators that the enclave obeys")
            .expected("none but those that this agent obeys")
            .got(stranger.id())
            .fix("call custodians that obey this operator alone"));
    }
    charter.check_enclave(&Candidate { passport, price_hour: configuration.price_hour() }, at)
}

/// Whether nobody of these was revoked since they were judged.
pub(super) fn revoked_since(peers: &[Peer], standing: &Standing<'_>) -> Result<(), Rejection> {
    let fell = peers.iter().find_map(|peer| standing.revoked.of(&peer.passport));
    fell.map_or(Ok(()), |revocation| Err(revocation.refusal()))
}
