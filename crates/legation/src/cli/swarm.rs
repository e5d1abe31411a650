//! `legation swarm`: who works together on a task, and on what.

use clap::Subcommand;
use legation_pool::{SeatView, SwarmStage, SwarmView, TaskView};

use super::{Context, Exit, Failure, find_task, table::table};

#[derive(Subcommand)]
pub(super) enum Swarm {
    /// The members of a task's swarm: round, state, who works on what, and what is repeated.
    Show {
        /// The task, or the beginning of its name.
        task: String,
    },
}

pub(super) async fn command(context: &Context, command: Swarm) -> Result<Exit, Failure> {
    let Swarm::Show { task } = command;
    let client = context.client()?.1;
    let now = client.task(find_task(&client, &task).await?, 0).await?;
    let Some(swarm) = &now.view.swarm else {
        let name = now.view.task.short();
        return Err(Failure::new(
            Exit::Usage,
            format!("task {name} asks for no swarm: see `legation task show {name}`"),
        ));
    };
    context.print(swarm, || format!("task     {}\n{}", now.view.task, described(swarm)))?;
    Ok(Exit::Success)
}

/// The swarm of a task, below what else is said of it; nothing without one.
pub(super) fn seats_of(view: &TaskView) -> String {
    view.swarm.as_ref().map_or(String::new(), |swarm| format!("\n\n{}", described(swarm)))
}

fn described(swarm: &SwarmView) -> String {
    let stage = match swarm.stage {
        SwarmStage::Waiting => "waits for enclaves",
        SwarmStage::Forming => "forms",
        SwarmStage::Formed => "formed",
        SwarmStage::Dissolved => "dissolved",
    };
    let round = match swarm.round {
        Some(round) if round == swarm.last_round => format!(", round {round}"),
        Some(round) => format!(", round {round}; round {} forms", swarm.last_round),
        None if swarm.last_round > 0 => format!(", round {} forms", swarm.last_round),
        None => String::new(),
    };
    let repeats = match swarm.speculate {
        Some(percent) => format!("{}, at {percent} % of the median", swarm.repeated),
        None => "never".to_owned(),
    };
    let mut out = format!(
        "swarm    {stage}{round}\nmembers  {} of {}, {} at least\nrepeated {repeats}\nseats    {} so far\n",
        swarm.seats.len(),
        swarm.members,
        swarm.least,
        swarm.charged
    );
    if let Some(at) = swarm.booked {
        out.push_str(&format!("booked   seats for all, by {at}\n"));
    }
    if !swarm.seats.is_empty() {
        out.push('\n');
        out.push_str(&table(
            ["MEMBER", "WHERE", "SEAT", "AN HOUR", "UNTIL", "JOINED", "WORKS ON", "WHY"],
            swarm.seats.iter().map(seat),
        ));
    }
    if !swarm.gone.is_empty() {
        let gone = swarm.gone.iter().map(|gone| {
            let why = gone.ended.as_ref().map(ToString::to_string).unwrap_or_default();
            [gone.enclave.short(), format!("{}, {}", gone.provider, gone.region), gone.lease.to_string(), why]
        });
        out.push('\n');
        out.push_str(&table(["GONE", "WHERE", "SEAT", "WHY"], gone));
    }
    out
}

fn seat(seat: &SeatView) -> [String; 8] {
    let works = seat.works_on.map_or("-".to_owned(), |index| {
        if seat.repeats { format!("{index}, with another") } else { index.to_string() }
    });
    [
        seat.enclave.short(),
        format!("{}, {}", seat.provider, seat.region),
        seat.lease.to_string(),
        seat.price_hour.to_string(),
        seat.until.to_string(),
        if seat.joined { "yes" } else { "not yet" }.to_owned(),
        works,
        seat.decided_by.clone(),
    ]
}
