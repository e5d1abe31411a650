//! The links of a valid receipt in words. Texts that a signer chose are shown escaped: they end on terminals.

use super::{Digest, Opened, Outcome, Predicate};
use crate::statement::GrantSubject;

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
                "fragment {} to enclave {} ({}, {}), {}{}",
                a.fragment,
                a.enclave.short(),
                a.provider,
                a.region,
                a.lease,
                a.limits.as_ref().map_or(String::new(), |limits| format!(", {limits}"))
            ),
            a.prev(),
        ),
        Opened::Grant(g) => (
            format!(
                "{} may be run by {}, {} keys released",
                g.fragments.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                match &g.subject {
                    GrantSubject::Enclave(e) => format!("enclave {}", e.short()),
                    GrantSubject::Policy(d) => format!("any enclave under policy {}", d.short()),
                },
                g.releases.len()
            ),
            g.prev(),
        ),
        Opened::Report(r) => (
            format!(
                "fragment {} by enclave {}: {}, {}",
                r.fragment,
                r.enclave.enclave_id().short(),
                match &r.outcome {
                    Outcome::Completed => "completed".to_owned(),
                    Outcome::Failed { reason } => format!("failed ({})", reason.escape_debug()),
                },
                r.usage.fuel
            ),
            r.prev(),
        ),
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
