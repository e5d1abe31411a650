//! `legation explain`: why there, why not elsewhere, and what to ask instead.

use legation_core::MicroUsd;
use legation_pool::{
    Attempt, Claim, ClassVerdict, Explanation, GangBooking, LeaseEnd, Phase, Prospect, RankedEnclave, Relaxable,
    Relaxation,
};

use super::{Context, Exit, Failure, find_task, table::table};

pub(super) async fn explain(context: &Context, task: &str) -> Result<Exit, Failure> {
    let client = context.client()?.1;
    let explanation = client.explain(find_task(&client, task).await?).await?;
    context.print(&explanation, || explanation.iter().map(fragment).collect::<Vec<_>>().join("\n\n"))?;
    Ok(Exit::Success)
}

fn fragment(said: &Explanation) -> String {
    let phase = match &said.phase {
        Phase::Waiting => "waits for outputs".to_owned(),
        Phase::Queued => "queued".to_owned(),
        Phase::Leased { lease } => format!("{lease}"),
        Phase::Done => "done".to_owned(),
    };
    let mut out = format!("fragment {} `{}`: {phase}\n  requires {}\n", said.fragment, said.name, said.require);
    for (attempt, placement) in said.attempts.iter().zip(&said.placements) {
        out.push_str(&tried(attempt));
        let why = &placement.decided_by;
        out.push_str(&format!(
            "    chosen for: {why} ({} considered, {} eligible)\n",
            placement.considered, placement.eligible
        ));
    }
    if let Some(missing) = &said.missing {
        out.push_str(&format!("  waits for: {} ({})\n", missing.expected, missing.check));
    }
    if let Some(preempted) = &said.preempted {
        let (whom, until) = (preempted.for_whom(), preempted.until);
        out.push_str(&format!("  makes way for {whom}: it may report until {until}\n"));
    }
    if let Some(Claim { enclave, victims, until }) = &said.claim {
        let (enclave, many) = (enclave.short(), victims.len());
        out.push_str(&format!("  gets a place at {enclave}, where {many} leases make way by {until}\n"));
    }
    if let Some(GangBooking { enclaves, at, .. }) = &said.booked {
        let some: Vec<_> = enclaves.iter().map(|id| id.short()).collect();
        out.push_str(&format!("  seats are booked for its swarm by {at}, at {}\n", some.join(" ")));
    }
    for loan in &said.loans {
        let (whom, hour) = (loan.enclave.short(), loan.price_hour);
        let stands = match (&loan.ended, loan.charged) {
            (Some(why), charged) => format!("ended for {}: {why}", charged.unwrap_or_default()),
            (None, _) => format!("until {}", loan.until),
        };
        out.push_str(&format!("  lent to {}: {whom} at {hour}/h, {stands}\n", loan.borrower.short()));
    }
    if said.phase == Phase::Queued {
        out.push_str(match said.outlook {
            Some(Prospect::NobodyKnown) => "  nobody who is known would take it, even if empty\n",
            Some(Prospect::Later { .. }) => {
                "  nobody can take it now; some would, when they are here, proven and free\n"
            }
            _ => "",
        });
    }
    out.push_str(&table(
        ["  ENCLAVES", "PROVIDER", "REGION", "TEE", "AN HOUR", "FREE", "COULD TAKE IT NOW"],
        said.classes.iter().map(class),
    ));
    if said.classes_left_out > 0 {
        out.push_str(&format!("\n  and {} classes more", said.classes_left_out));
    }
    if !said.ranking.is_empty() {
        out.push('\n');
        out.push_str(&table(
            ["  BEST NOW", "PROVIDER", "REGION", "AN HOUR", "DEARER BY"],
            said.ranking.iter().map(ranked),
        ));
    }
    if !said.relaxations.is_empty() {
        out.push('\n');
        out.push_str(&table(
            ["  TO BE PLACED NOW, ASK", "INSTEAD OF", "ENCLAVES", "AN HOUR"],
            said.relaxations.iter().map(relaxed),
        ));
    }
    out
}

fn tried(attempt: &Attempt) -> String {
    let ended = match &attempt.ended {
        None => "holds".to_owned(),
        Some(LeaseEnd::Lapsed { why }) => format!("ended: lapsed {why}"),
        Some(LeaseEnd::Refused { why }) => format!("ended: refused {why}"),
        Some(end) => format!("ended: {end}"),
    };
    format!("  tried {} ({}, {}): {ended}\n", attempt.enclave.short(), attempt.provider, attempt.region)
}

fn money(amount: MicroUsd) -> String {
    amount.to_string()
}

fn class(class: &ClassVerdict) -> [String; 7] {
    let mut names: Vec<_> = class.some.iter().map(|id| id.short()).collect();
    let more = u64::from(class.enclaves).saturating_sub(names.len() as u64);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    let reason = |reason: &legation_pool::WhyNot| {
        let (count, why) = (reason.enclaves, &reason.why);
        let count = if class.enclaves > 1 { format!(" ({count} of them)") } else { String::new() };
        format!("no: {}: expected {}, got {}{count}", why.check, why.expected, why.got)
    };
    let verdict: Vec<_> =
        (class.free > 0).then(|| "yes".to_owned()).into_iter().chain(class.why_not.iter().map(reason)).collect();
    [
        format!("  {}", names.join(" ")),
        class.provider.to_string(),
        class.region.to_string(),
        class.tee.to_string(),
        money(class.price_hour),
        format!("{} of {}", class.free, class.enclaves),
        verdict.join("; "),
    ]
}

fn ranked(one: &RankedEnclave) -> [String; 5] {
    let parts = if one.parts.is_empty() { "-".to_owned() } else { one.parts.clone() };
    [
        format!("  {}", one.enclave.short()),
        one.provider.to_string(),
        one.region.to_string(),
        money(one.price_hour),
        parts,
    ]
}

fn relaxed(one: &Relaxation) -> [String; 4] {
    let of = match one.of {
        Relaxable::Require => "",
        Relaxable::Cpu | Relaxable::Memory | Relaxable::CpuAndMemory | Relaxable::Gpus => "at most ",
        Relaxable::Time => "time limit ",
        Relaxable::Budget => "budget ",
        Relaxable::Spread => "spread ",
        Relaxable::Within => "within ",
    };
    let ask = one.to.as_ref().map_or("nothing".to_owned(), |to| format!("{of}{to}"));
    [format!("  {ask}"), one.from.clone(), one.enclaves.to_string(), money(one.price_hour)]
}
