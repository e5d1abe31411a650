//! `legation run --dry-run`: what a task would come to.

use legation::exit::lay_out;
use legation_pool::{Estimate, FragmentEstimate, Outlook, Place};

use super::{Context, Exit, Failure, table::table};

/// Prints an estimate. Exit code 5 when a fragment would wait for an enclave.
pub(super) fn print(context: &Context, estimate: &Estimate) -> Result<Exit, Failure> {
    context.print(estimate, || text(estimate))?;
    let waits = estimate.fragments.iter().any(|f| matches!(f.outlook, Outlook::Queued { .. }));
    Ok(if waits { Exit::NoEnclave } else { Exit::Success })
}

fn text(estimate: &Estimate) -> String {
    let rows = estimate.fragments.iter().map(row);
    let columns = ["FRAGMENT", "WOULD", "ENCLAVE", "WHERE", "WHY", "PER HOUR", "AT MOST", "EXPECTED"];
    let left = estimate.account.left.map_or("any".to_owned(), |left| left.to_string());
    let mut out = format!(
        "{}\n\nat most   {} of {}\nexpected  {}\naccount   {left} left\n",
        table(columns, rows),
        estimate.cost_max,
        estimate.budget,
        estimate.cost_expected
    );
    if let Some(swarm) = &estimate.swarm {
        let rows = swarm.seats.iter().map(|place| {
            [
                place.enclave.short(),
                format!("{}, {}", place.provider, place.region),
                place.decided_by.clone(),
                place.price_hour.to_string(),
                place.cost_max.to_string(),
            ]
        });
        let rows = table(["MEMBER", "WHERE", "WHY", "PER HOUR", "AT MOST"], rows);
        out.push_str(&format!(
            "\nswarm     {} of {} seats could be given now\n{rows}\n",
            swarm.seats.len(),
            swarm.members
        ));
    }
    for fragment in &estimate.fragments {
        out.push_str(&notes(fragment));
    }
    out
}

fn row(fragment: &FragmentEstimate) -> [String; 8] {
    let would = match &fragment.outlook {
        Outlook::Placed(_) => "be placed now".to_owned(),
        Outlook::Behind { .. } => "wait for outputs".to_owned(),
        Outlook::InSwarm { .. } => "be run by a free member".to_owned(),
        Outlook::Queued { .. } => "wait for an enclave".to_owned(),
    };
    let of = |show: fn(&Place) -> String| fragment.outlook.place().map_or("-".to_owned(), show);
    [
        format!("{} {}", fragment.fragment, fragment.name),
        would,
        of(|place| place.enclave.short()),
        of(|place| format!("{}, {}", place.provider, place.region)),
        of(|place| place.decided_by.clone()),
        of(|place| place.price_hour.to_string()),
        of(|place| place.cost_max.to_string()),
        of(|place| match place.past_runs {
            0 => "as at most".to_owned(),
            runs => format!("{} ({runs} runs)", place.cost_expected),
        }),
    ]
}

/// What does not fit into a row: why a fragment would wait and for how long, and its limits.
fn notes(fragment: &FragmentEstimate) -> String {
    let index = fragment.fragment;
    match &fragment.outlook {
        Outlook::Queued { why, passed_over, ahead, wait } => {
            let wait = match wait {
                Some(wait) => format!(
                    "its turn is in about {} s, as modules ran before; in {} s at the latest, if nobody more urgent comes; \
                     {ahead} fragments go before it",
                    wait.seconds_expected, wait.seconds_max
                ),
                None => format!("no lease that ends makes room; {ahead} fragments go before it"),
            };
            let reasons: Vec<_> = passed_over.iter().map(|p| format!("{} {}", p.enclaves, p.check)).collect();
            let reasons = if reasons.is_empty() { "no enclave".to_owned() } else { reasons.join(", ") };
            format!("\nfragment {index} would wait: {reasons}\n{}\n  {wait}\n", lay_out(why))
        }
        outlook => match outlook.place().and_then(|place| place.limits.as_ref()) {
            Some(limits) => format!("\nfragment {index}: {limits}\n"),
            None => String::new(),
        },
    }
}
