//! `legation pool` and `legation enclave`.

use clap::Subcommand;
use legation_pool::{EnclaveView, Presence};

use super::{Context, Exit, Failure, find_enclave, table::table};

#[derive(Subcommand)]
pub(super) enum PoolCommand {
    /// The pool in a few numbers.
    Show,
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
    /// Trusts an enclave no longer: its channel closes, its leases end, its work moves.
    Revoke {
        /// Its name, or the beginning of it.
        enclave: String,
        /// Why, shown wherever the revocation is.
        #[arg(long)]
        why: String,
    },
    /// Lets an enclave finish what it has and take no more.
    Drain {
        /// Its name, or the beginning of it.
        enclave: String,
    },
}

pub(super) async fn pool(context: &Context, PoolCommand::Show: PoolCommand) -> Result<Exit, Failure> {
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
                        presence(e),
                        format!("{}/{}", e.leases, e.capacity.slots),
                        format!("{}/h", e.rate.core_hour),
                        e.proof_expires.to_string(),
                    ]
                });
                table(["ENCLAVE", "PROVIDER", "REGION", "TEE", "STATE", "LEASES", "CORE", "PROVEN UNTIL"], rows)
            })?;
        }
        EnclaveCommand::Show { enclave } => {
            let client = context.client()?.1;
            let view = client.enclave(find_enclave(&client, &enclave).await?).await?;
            context.print(&view, || detail(&view))?;
        }
        EnclaveCommand::Revoke { enclave, why } => {
            let client = context.operator()?;
            let view = client.revoke(find_enclave(&client, &enclave).await?, &why).await?;
            context.print(&view, || format!("enclave {} is revoked: {why}", view.enclave.short()))?;
        }
        EnclaveCommand::Drain { enclave } => {
            let client = context.operator()?;
            let view = client.drain(find_enclave(&client, &enclave).await?).await?;
            context.print(&view, || format!("enclave {} drains", view.enclave.short()))?;
        }
    }
    Ok(Exit::Success)
}

fn presence(view: &EnclaveView) -> String {
    match (&view.revoked, &view.presence) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Presence::Here) => "here".to_owned(),
        (None, Presence::Draining) => "draining".to_owned(),
        (None, Presence::Away { since }) => format!("away since {since}"),
    }
}

fn detail(view: &EnclaveView) -> String {
    let revoked = view.revoked.as_ref().map_or(String::new(), |why| format!("\nrevoked      {why}"));
    format!(
        "enclave      {}\nprovider     {}\nregion       {}\ntee          {}\nrests on     {}\nstate        {}\n\
         capacity     {}, {}, {} slots\nprice        {}/h a core, {}/h a GiB\nleases       {}\n\
         proven       {} until {}\nmeasurement  {}\ntcb          {}\nchip         {}{revoked}",
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
    )
}
