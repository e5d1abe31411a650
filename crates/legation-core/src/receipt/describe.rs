//! The links of a valid receipt in words. Texts that a signer chose are shown escaped: they end on terminals.

use super::{Digest, Opened, Outcome, Predicate, Report};
use crate::statement::{Grant, GrantSubject};

/// What a link says in one line, and what it rests on.
pub(super) fn describe(opened: &Opened) -> (String, Vec<Digest>) {
    let (says, prev) = match opened {
        Opened::Appointment(a) => {
            (format!("{:?} {} by operator {}", a.office, a.key.id().short(), a.operator.id().short()), a.prev())
        }
        Opened::Passport(p) => {
            let sure = match p.claims.tee.confidence.0 {
                1000.. => "1".to_owned(),
                thousandths => format!("0.{thousandths:03}"),
            };
            let c = &p.configuration;
            (
                format!(
                    "enclave {} is {} ({}), {} in {}, tee confidence {sure}, until {}",
                    p.enclave_id().short(),
                    p.claims.tee.value,
                    p.claims.anchor,
                    c.provider,
                    c.region,
                    p.expires
                ),
                p.prev(),
            )
        }
        Opened::Request(r) => {
            (format!("`{}` of tenant {}: {} fragments", r.name.escape_debug(), r.tenant, r.fragments.len()), r.prev())
        }
        Opened::Allocation(a) => (
            format!(
                "{} to enclave {} ({}, {}), {}{}",
                match &a.loan {
                    None => format!("fragment {}", a.fragment),
                    Some(loan) => format!("calls of fragment {} by enclave {}", a.fragment, loan.borrower.short()),
                },
                a.enclave.short(),
                a.provider,
                a.region,
                a.lease,
                a.limits.as_ref().map_or(String::new(), |limits| format!(", {limits}"))
            ),
            a.prev(),
        ),
        Opened::Grant(g) => (grant(g), g.prev()),
        Opened::Call(c) => (
            format!(
                "enclave {} asks a part of fragment {} of {}, call {} of it, {}, at most {}",
                c.delegator.enclave_id().short(),
                c.fragment,
                c.loan,
                c.number,
                c.assurance,
                c.demand.fuel
            ),
            c.prev(),
        ),
        Opened::Report(r) => (report(r), r.prev()),
        Opened::Seating(s) => (format!("round {} of the swarm: {} seats", s.round, s.seats.len()), s.prev()),
        Opened::Membership(m) => (
            format!(
                "enclave {} judged and joined the {} members of round {}",
                m.enclave.enclave_id().short(),
                m.members.len(),
                m.round
            ),
            m.prev(),
        ),
        Opened::Aggregate(a) => (format!("fragment {} rests on {} reports", a.fragment, a.reports.len()), a.prev()),
    };
    (says, prev.to_vec())
}

fn grant(g: &Grant) -> String {
    let fragments = g.fragments.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let subject = match &g.subject {
        GrantSubject::Enclave(e) => format!("enclave {}", e.short()),
        GrantSubject::Policy(d) => format!("any enclave under policy {}", d.short()),
    };
    let passed = match &g.delegable {
        None => String::new(),
        Some(passed) => format!(", parts of it by others to depth {}, {} at most", g.depth, passed.fuel),
    };
    format!("{fragments} may be run by {subject}, {} keys released{passed}", g.releases.len())
}

fn report(r: &Report) -> String {
    let what = match &r.answer {
        None => format!("fragment {}", r.fragment),
        Some(answer) => format!("call {} of fragment {}", answer.call.short(), r.fragment),
    };
    let ended = match &r.outcome {
        Outcome::Completed => "completed".to_owned(),
        Outcome::Failed { reason } => format!("failed ({})", reason.escape_debug()),
    };
    let dissent = match r.dissent.as_slice() {
        [] => String::new(),
        others => format!(", against {}", others.iter().map(Digest::short).collect::<Vec<_>>().join(" ")),
    };
    format!("{what} by enclave {}: {ended}, {}{dissent}", r.enclave.enclave_id().short(), r.usage.fuel)
}
