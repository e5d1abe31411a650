//! `legation pool` and `legation enclave`.

use clap::Subcommand;
use legation_core::claims::RevocationCheck;
use legation_pool::{EnclaveView, Hold, Presence, ProofView, TrustView, Withdrawal};

use super::{
    Context, Exit, Failure,
    distances::{Distances, distances},
    find_enclave,
    table::table,
    trust,
};

#[derive(Subcommand)]
pub(super) enum PoolCommand {
    /// The pool in a few numbers.
    Show,
    /// Measured round trips between regions: by them the nearer of two enclaves is found.
    #[command(subcommand)]
    Distances(Distances),
}

#[derive(Subcommand)]
pub(super) enum EnclaveCommand {
    /// All enclaves.
    List,
    /// One enclave.
    Show {
        /// Its name, or the beginning of it.
        enclave: String,
    },
    /// Trusts an enclave no longer: the same as `legation revoke enclave`.
    Revoke {
        /// Its name, or the beginning of it.
        enclave: String,
        /// Why, shown wherever the revocation is.
        #[arg(long)]
        why: String,
    },
    /// Has an enclave attest again now.
    Reattest {
        /// Its name, or the beginning of it.
        enclave: String,
    },
    /// Lets an enclave finish what it has and take no more, until it boots anew.
    Drain {
        /// Its name, or the beginning of it.
        enclave: String,
    },
    /// Has nothing new placed on an enclave; what runs there goes on. Holds when it leaves, renews and returns, until `uncordon`.
    Cordon {
        /// Its name, or the beginning of it.
        enclave: String,
        /// Why, shown by `enclave show` and `explain`.
        #[arg(long)]
        why: String,
    },
    /// Takes a cordon back, or lets in again what was decommissioned: that must attest anew.
    Uncordon {
        /// Its name, or the beginning of it; whole for one that was decommissioned.
        enclave: String,
    },
    /// Takes an enclave out: its work moves at once, it is forgotten, and neither it nor another boot on its slot of its chip is
    /// let in until `uncordon`.
    Decommission {
        /// Its name, or the beginning of it.
        enclave: String,
        /// Why, shown by `enclave retired` and to whoever attests there.
        #[arg(long)]
        why: String,
    },
    /// Enclaves that were decommissioned.
    Retired,
}

pub(super) async fn pool(context: &Context, command: PoolCommand) -> Result<Exit, Failure> {
    if let PoolCommand::Distances(command) = command {
        return distances(context, command).await;
    }
    let view = context.client()?.1.pool().await?;
    context.print(&view, || {
        let development = if view.development { "\nDEVELOPMENT enclaves are here: they prove the protocol, not confidentiality" } else { "" };
        format!(
            "enclaves    {} here, {} known\ntasks       {} live, {} ended\nfragments   {} waiting, {} leased\ncapacity    {}, {}, {} slots\n\
             journal     position {}, term {}\nrevocations {}{development}",
            view.enclaves_here, view.enclaves_known, view.tasks_live, view.tasks_ended, view.fragments_queued, view.leases,
            view.capacity.cpu, view.capacity.memory, view.capacity.slots, view.seq.0, view.term.0, view.revocations.0,
        )
    })?;
    Ok(Exit::Success)
}

pub(super) async fn enclave(context: &Context, command: EnclaveCommand) -> Result<Exit, Failure> {
    match command {
        EnclaveCommand::List => {
            let all = context.client()?.1.enclaves().await?;
            context.print(&all, || {
                let rows = all.iter().map(|e| {
                    [
                        e.enclave.short(),
                        e.provider.to_string(),
                        e.region.to_string(),
                        e.tee.to_string(),
                        standing(e),
                        format!("{}/{}", e.leases, e.capacity.slots),
                        format!("{}/h", e.rate.core_hour),
                        age(e),
                        e.proof_expires.to_string(),
                    ]
                });
                table(
                    ["ENCLAVE", "PROVIDER", "REGION", "TEE", "STATE", "LEASES", "CORE", "PROOF", "PROVEN UNTIL"],
                    rows,
                )
            })?;
        }
        EnclaveCommand::Show { enclave } => {
            let client = context.client()?.1;
            let view = client.enclave(find_enclave(&client, &enclave).await?).await?;
            context.print(&view, || detail(&view))?;
        }
        EnclaveCommand::Revoke { enclave, why } => {
            let enclave = find_enclave(&context.operator()?, &enclave).await?;
            return trust::revoke_enclave(context, &enclave.to_string(), &why).await;
        }
        EnclaveCommand::Reattest { enclave } => {
            let client = context.operator()?;
            let view = client.reattest(find_enclave(&client, &enclave).await?).await?;
            context.print(&view, || format!("enclave {} is asked to attest again", view.enclave.short()))?;
        }
        EnclaveCommand::Drain { enclave } => {
            let client = context.operator()?;
            let view = client.drain(find_enclave(&client, &enclave).await?).await?;
            context.print(&view, || format!("enclave {} drains", view.enclave.short()))?;
        }
        EnclaveCommand::Cordon { enclave, why } => {
            let client = context.operator()?;
            let view = client.cordon(find_enclave(&client, &enclave).await?, &why).await?;
            context.print(&view, || format!("enclave {} is cordoned: {}", view.enclave.short(), running(&view)))?;
        }
        EnclaveCommand::Uncordon { enclave } => {
            let client = context.operator()?;
            // One that was decommissioned is in no list: it is named whole.
            let id = match enclave.parse() {
                Ok(id) => id,
                Err(_) => find_enclave(&client, &enclave).await?,
            };
            let view = client.uncordon(id).await?;
            context.print(&view, || match &view {
                Some(view) => format!("enclave {} takes work again", view.enclave.short()),
                None => format!("enclave {} may attest anew", id.short()),
            })?;
        }
        EnclaveCommand::Decommission { enclave, why } => {
            let client = context.operator()?;
            let id = find_enclave(&client, &enclave).await?;
            let retired = client.decommission(id, &why).await?;
            context.print(&retired, || format!("enclave {id} is decommissioned"))?;
        }
        EnclaveCommand::Retired => {
            let all = context.client()?.1.retired().await?;
            context.print(&all, || {
                let rows = all.iter().map(|(id, retired)| {
                    let Hold { since, why, author } = &retired.hold;
                    let slot = format!("{} slot {}", retired.chip, retired.slot);
                    [id.to_string(), slot, since.to_string(), why.clone(), author.clone()]
                });
                table(["ENCLAVE", "CHIP", "SINCE", "WHY", "BY"], rows)
            })?;
        }
    }
    Ok(Exit::Success)
}

fn running(view: &EnclaveView) -> String {
    match view.leases {
        0 => "nothing runs there".to_owned(),
        n => format!("{n} fragments run there to their end"),
    }
}

fn presence(view: &EnclaveView) -> String {
    match (&view.revoked, &view.presence) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Presence::Here | Presence::Draining) if view.hold.is_some() => "cordoned by its operator".to_owned(),
        (None, Presence::Here | Presence::Draining) if view.cordon.is_some() => "cordoned".to_owned(),
        (None, Presence::Here) => "here".to_owned(),
        (None, Presence::Draining) => "draining".to_owned(),
        (None, Presence::Away { since }) => format!("away since {since}"),
    }
}

/// The same, and whether it is doubted.
fn standing(view: &EnclaveView) -> String {
    let doubt = view.trust.as_ref().map_or(0, |trust| trust.doubt);
    match doubt {
        0 => presence(view),
        n => format!("{}, doubted {}", presence(view), percent(n)),
    }
}

/// Thousandths, for people.
fn percent(thousandths: u32) -> String {
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

/// What it did, and in whose tasks, where that is told.
fn doubts(trust: &TrustView) -> String {
    let TrustView { doubt, dissents, alarms, last, found } = trust;
    let last = last.map_or(String::new(), |last| format!("; the last at {last}"));
    let mut text = format!("\ntrust        doubted {}; dissents {dissents}, alarms {alarms}{last}", percent(*doubt));
    for mark in found {
        text.push_str(&format!(
            "\n             in tasks of {}: dissents {}, hints {}; the last at {}",
            mark.tenant, mark.dissents, mark.hints, mark.last
        ));
    }
    text
}

/// How old the newest proof is, and whether it should have been renewed.
fn age(view: &EnclaveView) -> String {
    let late = if view.overdue { ", OVERDUE" } else { "" };
    view.proofs.first().map_or("none".to_owned(), |p| format!("{} s old{late}", p.age_seconds))
}

/// One line for each proof, with the countdown of a grace.
fn proofs(view: &EnclaveView) -> String {
    let line = |p: &ProofView| {
        let tenants = p.tenants.as_ref().map_or("all tenants".to_owned(), |list| {
            list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        });
        let state = match (p.holds, p.overdue) {
            (false, _) => ", OVER",
            (true, true) => ", OVERDUE",
            (true, false) => "",
        };
        let images = if p.images.is_empty() { String::new() } else { format!(", {}", p.images.join(" ")) };
        let mut text = format!(
            "\nproof        by {} for {tenants}: {:?} under `{}`{images}; {} s old, until {}{state}",
            p.verifier.short(),
            p.status,
            p.policy,
            p.age_seconds,
            p.expires
        );
        if let Some(grace) = &p.grace {
            let (hours, minutes) = (grace.seconds_left / 3600, grace.seconds_left / 60 % 60);
            text.push_str(&format!(
                "\ngrace        {hours} h {minutes} min left, until {} by rule `{}`: {}",
                grace.until, grace.rule, grace.why
            ));
        }
        if let Some(since) = p.stale_since {
            text.push_str(&format!("\nstale        collateral was due for renewal at {since}"));
        }
        text.push_str(&format!("\nrevocation   {}", lists(p.revocation)));
        text
    };
    view.proofs.iter().map(line).collect()
}

/// What was looked up at the vendor's revocation lists.
fn lists(check: RevocationCheck) -> &'static str {
    match check {
        RevocationCheck::Checked => "checked against the vendor's lists",
        RevocationCheck::Unchecked => "UNCHECKED: not every list of its authorities was at hand",
    }
}

fn detail(view: &EnclaveView) -> String {
    let mut rest = proofs(view);
    for claim in &view.claims {
        let believed = f64::from(claim.confidence.0) / 1000.0;
        rest.push_str(&format!("\nclaim        {} = {} ({believed:.2}, {:?})", claim.name, claim.value, claim.source));
    }
    for shortfall in &view.tcb.shortfall {
        rest.push_str(&format!("\nshortfall    {shortfall}"));
    }
    if let Some(cordon) = &view.cordon {
        rest.push_str(&format!("\ncordoned     since {}: {}", cordon.since, cordon.why));
    }
    if let Some(Hold { since, why, author }) = &view.hold {
        rest.push_str(&format!("\ncordoned     since {since} by {author}: {why}"));
    }
    rest.push_str(&view.trust.as_ref().map_or(String::new(), doubts));
    if let Some(priority) = &view.kept {
        let whom = view.claimed.map_or("work".to_owned(), |other| other.to_string());
        rest.push_str(&format!(
            "\nkept for     {whom} of priority {priority}, which is more urgent than what runs here"
        ));
    }
    if let Some(withdrawal) = &view.withdrawal {
        let Withdrawal { verifier, at, why } = withdrawal;
        rest.push_str(&format!("\nwithdrawn    by {} at {at}: {why}", verifier.short()));
    }
    rest.push_str(&view.revoked.as_ref().map_or(String::new(), |why| format!("\nrevoked      {why}")));
    format!(
        "enclave      {}\nprovider     {}\nregion       {}\ntee          {}\nrests on     {}\nstate        {}\n\
         capacity     {}, {}, {} slots\nprice        {}/h a core, {}/h a GiB\nleases       {}\n\
         proven       {} until {}\nmeasurement  {}\ntcb          {}\nchip         {}, slot {}{rest}",
        view.enclave,
        view.provider,
        view.region,
        view.tee,
        view.anchor,
        presence(view),
        view.capacity.cpu,
        view.capacity.memory,
        view.capacity.slots,
        view.rate.core_hour,
        view.rate.gib_hour,
        view.leases,
        view.proven,
        view.proof_expires,
        view.measurement,
        view.tcb,
        view.chip,
        view.slot,
    )
}
