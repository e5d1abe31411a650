//! `legation account`: what tenants may spend, hold and ask for.

use std::str::FromStr;

use clap::Subcommand;
use legation::{client::Client, run::parse_usd};
use legation_core::{Bytes, MicroUsd, Millicores, Milligpus, TenantId, prefer::Priority};
use legation_pool::{AccountTerms, AccountView, Metered, WEIGHT_MAX};

use super::{Context, Exit, Failure, table::table};

#[derive(Subcommand)]
pub(super) enum AccountCommand {
    /// Sets what a tenant may do; what is not named stays as it is. Operator only.
    Set(Box<Set>),
    /// One account: yours, or for the operator any.
    Show {
        /// The tenant. Default: you.
        tenant: Option<TenantId>,
        /// The default account: of tenants without one of their own.
        #[arg(long, conflicts_with = "tenant")]
        default: bool,
    },
    /// The accounts you may see.
    List,
}

#[derive(clap::Args)]
pub(super) struct Set {
    /// The tenant.
    #[arg(required_unless_present = "default")]
    tenant: Option<TenantId>,
    /// The default account instead: of tenants without one of their own.
    #[arg(long, conflicts_with_all = ["tenant", "top_up"])]
    default: bool,
    /// What all its tasks together may cost, in dollars, or `none` for anything.
    #[arg(long, value_name = "USD", value_parser = cap::<Usd>)]
    budget: Option<Cap<Usd>>,
    /// Raises the budget by so many dollars, beside what else is set.
    #[arg(long, value_name = "USD", value_parser = usd, conflicts_with = "budget")]
    top_up: Option<MicroUsd>,
    /// Its share of a full pool, against the weights of the others that wait. 100 is usual.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(WEIGHT_MAX)))]
    weight: Option<u32>,
    /// The most urgent that its requests may be.
    #[arg(long, value_name = "0-9", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Compute leased at once, in thousandths of a core, or `none`.
    #[arg(long, value_name = "MILLICORES", value_parser = cap::<u64>)]
    cpu: Option<Cap<u64>>,
    /// Memory leased at once, in MiB, or `none`.
    #[arg(long, value_name = "MIB", value_parser = cap::<u64>)]
    memory: Option<Cap<u64>>,
    /// Accelerators leased at once, in thousandths of one, or `none`.
    #[arg(long, value_name = "THOUSANDTHS", value_parser = cap::<u64>)]
    gpus: Option<Cap<u64>>,
    /// Fragments that are leased an enclave at once, or `none`.
    #[arg(long, value_name = "N", value_parser = cap::<u64>)]
    leases: Option<Cap<u64>>,
    /// Tasks that have not ended, or `none`.
    #[arg(long, value_name = "N", value_parser = cap::<u64>)]
    tasks: Option<Cap<u64>>,
    /// Whether its requests may push work of others aside that may be pushed aside.
    #[arg(long, value_name = "BOOL")]
    may_preempt: Option<bool>,
    /// Whether its work may be pushed aside.
    #[arg(long, value_name = "BOOL")]
    preemptible: Option<bool>,
}

/// A ceiling, or none.
#[derive(Clone, Copy)]
struct Cap<T>(Option<T>);

/// Dollars on the command line.
#[derive(Clone, Copy)]
struct Usd(MicroUsd);

impl FromStr for Usd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        usd(text).map(Self)
    }
}

fn usd(text: &str) -> Result<MicroUsd, String> {
    parse_usd(text).map_err(|why| format!("{why}"))
}

fn cap<T: FromStr>(text: &str) -> Result<Cap<T>, String> {
    match text {
        "none" => Ok(Cap(None)),
        number => number.parse().map(|n| Cap(Some(n))).map_err(|_| "wants a number, or `none`".to_owned()),
    }
}

impl Set {
    fn apply(&self, terms: &mut AccountTerms) {
        if let Some(Cap(budget)) = self.budget {
            terms.budget = budget.map(|Usd(usd)| usd);
        }
        terms.weight = self.weight.unwrap_or(terms.weight);
        terms.priority_max = self.priority.map_or(terms.priority_max, Priority);
        let quota = &mut terms.quota;
        if let Some(Cap(most)) = self.cpu {
            quota.cpu = most.map(Millicores);
        }
        if let Some(Cap(most)) = self.memory {
            quota.memory = most.map(|mib| Bytes(mib.saturating_mul(1 << 20)));
        }
        if let Some(Cap(most)) = self.gpus {
            quota.gpus = most.map(Milligpus);
        }
        if let Some(Cap(most)) = self.leases {
            quota.leases = most;
        }
        if let Some(Cap(most)) = self.tasks {
            quota.tasks = most;
        }
        terms.may_preempt = self.may_preempt.unwrap_or(terms.may_preempt);
        terms.preemptible = self.preemptible.unwrap_or(terms.preemptible);
    }
}

pub(super) async fn command(context: &Context, command: AccountCommand) -> Result<Exit, Failure> {
    match command {
        AccountCommand::Set(args) => {
            let view = set(&context.operator()?, &args).await?;
            context.print(&view, || detail(&view))?;
        }
        AccountCommand::Show { tenant, default } => {
            let (home, client) = context.client()?;
            let tenant = (!default).then(|| tenant.unwrap_or_else(|| home.config.tenant.clone()));
            let own = tenant.as_ref().is_none_or(|tenant| *tenant == home.config.tenant);
            let client = if own || home.config.operator_token.is_none() { client } else { context.operator()? };
            let view = client.account(tenant.as_ref()).await?;
            context.print(&view, || detail(&view))?;
        }
        AccountCommand::List => {
            let (home, client) = context.client()?;
            let client = if home.config.operator_token.is_some() { context.operator()? } else { client };
            let all = client.accounts().await?;
            context.print(&all, || list(&all))?;
        }
    }
    Ok(Exit::Success)
}

/// What is not named stays: the terms are read, changed, and set if nobody else changed them meanwhile.
async fn set(client: &Client, args: &Set) -> Result<AccountView, Failure> {
    let tenant = args.tenant.as_ref().filter(|_| !args.default);
    let mut view = client.account(tenant).await?;
    let mut terms = view.terms.clone();
    args.apply(&mut terms);
    if terms != view.terms || !view.own {
        let as_of = if view.own { view.as_of } else { Default::default() };
        view = client.set_account(tenant, terms, Some(as_of)).await?;
    }
    if let (Some(tenant), Some(amount)) = (tenant, args.top_up) {
        view = client.top_up(tenant, amount).await?;
    }
    Ok(view)
}

fn or_none<T: ToString>(most: Option<T>) -> String {
    most.map_or("any".to_owned(), |most| most.to_string())
}

/// What was used, on one line.
pub(super) fn used(metered: &Metered) -> String {
    let Metered { fuel, memory_time, bytes_in, bytes_out, enclave_time, gpu_time } = metered;
    let gpus = if gpu_time.0 > 0 { format!(", {gpu_time}") } else { String::new() };
    format!("{fuel}, {memory_time}, {} ms in enclaves, {bytes_in} in, {bytes_out} out{gpus}", enclave_time.0)
}

fn detail(view: &AccountView) -> String {
    let (terms, book, quota) = (&view.terms, &view.book, &view.terms.quota);
    let name = view.tenant.as_ref().map_or("the default account".to_owned(), ToString::to_string);
    let kind = if view.own { "" } else { " (the default account's terms)" };
    let rows = [
        ["compute".to_owned(), book.cpu.to_string(), or_none(quota.cpu)],
        ["memory".to_owned(), book.memory.to_string(), or_none(quota.memory)],
        ["accelerators".to_owned(), book.gpus.to_string(), or_none(quota.gpus)],
        ["leases".to_owned(), book.leases.to_string(), or_none(quota.leases)],
        ["live tasks".to_owned(), book.tasks.to_string(), or_none(quota.tasks)],
    ];
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    format!(
        "account   {name}{kind}\nbudget    {}\nspent     {}\ncommitted {}\nleft      {}\nused      {}\nqueued    {}\n\
         weight    {}\npriority  up to {}\npreempts  {}\npreempted {}\n\n{}",
        or_none(terms.budget),
        book.spent,
        book.committed,
        or_none(view.left),
        used(&book.metered),
        book.queued,
        terms.weight,
        terms.priority_max,
        yes(terms.may_preempt),
        yes(terms.preemptible),
        table(["", "NOW", "QUOTA"], rows)
    )
}

fn list(all: &[AccountView]) -> String {
    let rows = all.iter().map(|view| {
        [
            view.tenant.as_ref().map_or_else(String::new, ToString::to_string),
            if view.own { "own" } else { "default" }.to_owned(),
            or_none(view.terms.budget),
            view.book.spent.to_string(),
            view.book.committed.to_string(),
            or_none(view.left),
            view.book.tasks.to_string(),
            view.book.leases.to_string(),
            view.book.queued.to_string(),
            view.terms.weight.to_string(),
        ]
    });
    table(["TENANT", "TERMS", "BUDGET", "SPENT", "COMMITTED", "LEFT", "TASKS", "LEASES", "QUEUED", "WEIGHT"], rows)
}
