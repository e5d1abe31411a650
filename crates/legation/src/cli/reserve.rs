//! `legation reserve`: seats on enclaves, set aside from one second to another.

use clap::Subcommand;
use legation_core::{Bytes, Millicores, Milligpus, Requirement, ReservationId, TenantId, UnixTime, task::Demand};
use legation_pool::{ReservationEnd, ReservationTerms, ReservationView, SEATS_MAX};

use super::{Context, Exit, Failure, table::table, wishes::Wishes};

#[derive(Subcommand)]
pub(super) enum ReserveCommand {
    /// Sets seats aside. It is admitted only if enclaves can hold it and your account can pay it.
    Create(Box<Create>),
    /// Reservations that you may see.
    List,
    /// One reservation with its seats.
    Show {
        /// Its name, as in `reservation-42`.
        reservation: ReservationId,
    },
    /// Gives a reservation up: what runs in its seats goes on, what waits for them fails. It is charged for the time it was held.
    Cancel {
        /// Its name, as in `reservation-42`.
        reservation: ReservationId,
    },
}

#[derive(clap::Args)]
pub(super) struct Create {
    /// What people call it: a-z, 0-9 and `-`. The same name with the same terms is the same reservation.
    name: String,
    /// How many seats: fragments that can run at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(SEATS_MAX)))]
    seats: u32,
    /// Compute of each seat, in thousandths of a core.
    #[arg(long, value_name = "MILLICORES", default_value_t = 1000)]
    cpu: u64,
    /// Memory of each seat, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    memory: u64,
    /// Accelerators of each seat, in thousandths of one.
    #[arg(long, value_name = "THOUSANDTHS", default_value_t = 0)]
    gpus: u64,
    /// What the enclaves must satisfy, as for `legation run`.
    #[arg(long, default_value = "any")]
    require: Requirement,
    /// First second, as a Unix time; without it, a minute from now.
    #[arg(long, value_name = "UNIX-TIME")]
    from: Option<u64>,
    /// How long, in seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: u64,
    /// For which tenant, by the operator. Default: you.
    #[arg(long)]
    tenant: Option<TenantId>,
    #[command(flatten)]
    wishes: Wishes,
}

pub(super) async fn command(context: &Context, command: ReserveCommand) -> Result<Exit, Failure> {
    let (home, own) = context.client()?;
    // Who has the operator's token sees what is any tenant's.
    let widest = || if home.config.operator_token.is_some() { context.operator() } else { Ok(own.clone()) };
    match command {
        ReserveCommand::Create(args) => {
            let tenant = args.tenant.clone().unwrap_or_else(|| home.config.tenant.clone());
            let client = if tenant == home.config.tenant { own } else { context.operator()? };
            let view = client.reserve(&args.terms(tenant, legation::run::now())?).await?;
            context.print(&view, || detail(&view))?;
        }
        ReserveCommand::List => {
            let all = widest()?.reservations().await?;
            context.print(&all, || list(&all))?;
        }
        ReserveCommand::Show { reservation } => {
            let view = widest()?.reservation(reservation).await?;
            context.print(&view, || detail(&view))?;
        }
        ReserveCommand::Cancel { reservation } => {
            let before = widest()?.reservation(reservation).await?;
            let client = if before.booking.terms.tenant == home.config.tenant { own } else { context.operator()? };
            let view = client.cancel_reservation(reservation).await?;
            let over = before.booking.ended.is_some();
            let said = if over { format!("had ended before: {}", state(&before)) } else { "is given up".to_owned() };
            context.print(&view, || format!("{reservation} {said}; it cost {}", view.booking.charged))?;
        }
    }
    Ok(Exit::Success)
}

impl Create {
    fn terms(&self, tenant: TenantId, now: UnixTime) -> Result<ReservationTerms, Failure> {
        let (prefer, data) = self.wishes.read()?;
        let from = self.from.map_or(now.plus(60), UnixTime);
        Ok(ReservationTerms {
            tenant,
            name: self.name.clone(),
            seats: self.seats,
            demand: Demand {
                cpu: Millicores(self.cpu),
                memory: Bytes(self.memory.saturating_mul(1 << 20)),
                gpus: Milligpus(self.gpus),
                ..Demand::default()
            },
            require: self.require.clone(),
            prefer,
            data,
            from,
            until: from.plus(self.seconds),
        })
    }
}

fn state(view: &ReservationView) -> String {
    match &view.booking.ended {
        Some(ReservationEnd::Over) => "over".to_owned(),
        Some(ReservationEnd::Cancelled { author }) => format!("given up by {author}"),
        None if view.short > 0 => format!("SHORT of {}", view.short),
        None => "held".to_owned(),
    }
}

fn detail(view: &ReservationView) -> String {
    let (booking, terms) = (&view.booking, &view.booking.terms);
    let rows = booking.seats.iter().map(|seat| {
        let lease = seat.lease.map_or("free".to_owned(), |lease| lease.to_string());
        [seat.enclave.short(), format!("{}/h", seat.price_hour), lease]
    });
    format!(
        "reservation  {}\nname         {}\ntenant       {}\nstate        {}\nfrom         {}\nuntil        {}\n\
         each seat    {}, {}, {}\nrequire      {}\ncommitted    {} beside leases in its seats\nwork in it   {}\ncharged      {}\n\n{}",
        view.reservation,
        terms.name,
        terms.tenant,
        state(view),
        terms.from,
        terms.until,
        terms.demand.cpu,
        terms.demand.memory,
        terms.demand.gpus,
        terms.require,
        view.held,
        booking.worked,
        booking.charged,
        table(["ENCLAVE", "PRICE", "LEASE"], rows)
    )
}

fn list(all: &[ReservationView]) -> String {
    let rows = all.iter().map(|view| {
        let terms = &view.booking.terms;
        [
            view.reservation.to_string(),
            terms.name.clone(),
            terms.tenant.to_string(),
            format!("{} of {}", terms.seats.saturating_sub(view.short), terms.seats),
            terms.from.to_string(),
            terms.until.to_string(),
            state(view),
            view.held.to_string(),
        ]
    });
    table(["RESERVATION", "NAME", "TENANT", "SEATS", "FROM", "UNTIL", "STATE", "COMMITTED"], rows)
}
