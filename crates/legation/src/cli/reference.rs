//! `legation reference`: reference values of the pool.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::Subcommand;
use legation::setup;
use legation_core::{UnixTime, claims::TeeKind};
use legation_manager::api::references::{Expiry, NewReference};
use legation_policy::ReferenceKind;
use legation_pool::ReferenceView;

use super::{Context, Exit, Failure, find_enclave, table::table};

#[derive(Subcommand)]
pub(super) enum ReferenceCommand {
    /// Makes a reference value: of a running enclave, an image file, a published value, or a firmware version.
    Add(Add),
    /// All reference values, with the policies that use each.
    List,
    /// One reference value.
    Show {
        /// Its name.
        name: String,
    },
    /// Ends a reference value: what it says no longer counts.
    Expire {
        /// Its name.
        name: String,
        /// Last day it counts (UTC), such as 2027-01-31. Default: it ends now.
        #[arg(long, value_name = "DATE", value_parser = day)]
        on: Option<UnixTime>,
        /// Even if a policy in force uses it: enclaves of this image are then refused.
        #[arg(long)]
        force: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct Add {
    /// Its name; a policy says `Image::"NAME"`.
    name: String,
    #[command(flatten)]
    of: Of,
    /// Kinds of machines that measure like this. Default with `--file`: dev-snp, the kind that measures a file.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    tee: Vec<TeeKind>,
    /// With `--value`: what a further register must hold, such as `pcr4=3f..`; once for each. TDX and Azure machines need
    /// them: their measurement is of the virtual firmware or paravisor. `--enclave` takes them from the enclave.
    #[arg(long, value_name = "NAME=HEX", value_parser = register, requires = "value")]
    register: Vec<(String, String)>,
    /// Who answers for it.
    #[arg(long)]
    owner: String,
    /// Last day it counts (UTC), such as 2027-01-31. Default: for ever.
    #[arg(long, value_name = "DATE", value_parser = day)]
    expires: Option<UnixTime>,
    /// Where a value comes from, such as `published in release 2.1`. Files and enclaves name themselves.
    #[arg(long)]
    source: Option<String>,
    /// Takes the place of one of this name that still counts.
    #[arg(long)]
    replace: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Of {
    /// A running enclave: its name, or the beginning of it.
    #[arg(long, value_name = "ENCLAVE")]
    enclave: Option<String>,
    /// An image file, measured as development chips do (SHA-384 of the file's SHA-256).
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A measurement, lower-case hexadecimal; needs `--tee`.
    #[arg(long, value_name = "HEX")]
    value: Option<String>,
    /// From which version on firmware of a product is up to date, such as `milan:blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219`.
    #[arg(long, value_name = "PRODUCT:TCB", value_parser = firmware)]
    firmware: Option<ReferenceKind>,
}

fn kind(text: &str) -> Result<TeeKind, String> {
    let names = TeeKind::ALL.map(TeeKind::name).join(", ");
    TeeKind::named(text).ok_or_else(|| format!("one of {names}"))
}

fn register(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=HEX, such as pcr4=3f..")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn day(text: &str) -> Result<UnixTime, String> {
    legation_policy::end_of_day(text).ok_or_else(|| "a day such as 2027-01-31".to_owned())
}

fn firmware(text: &str) -> Result<ReferenceKind, String> {
    let (product, minimum) =
        text.split_once(':').ok_or("PRODUCT:TCB, such as milan:blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219")?;
    let wrong = |e: legation_attest::snp::TcbError| e.to_string();
    Ok(ReferenceKind::Firmware { product: product.parse().map_err(wrong)?, minimum: minimum.parse().map_err(wrong)? })
}

pub(super) async fn command(context: &Context, command: ReferenceCommand) -> Result<Exit, Failure> {
    match command {
        ReferenceCommand::Add(args) => {
            let client = context.operator()?;
            let enclave = match &args.of.enclave {
                Some(name) => Some(find_enclave(&client, name).await?),
                None => None,
            };
            let (value, source) = value(&args)?;
            let source = args.source.unwrap_or(source);
            let Add { name, owner, expires, replace, .. } = args;
            let view =
                client.add_reference(&NewReference { name, enclave, value, owner, expires, source, replace }).await?;
            context.print(&view, || detail(&view))?;
        }
        ReferenceCommand::List => {
            let all = context.client()?.1.references().await?;
            context.print(&all, || {
                let rows = all.iter().map(|view| {
                    let value = &view.reference;
                    [value.name.clone(), what(&value.value), value.owner.clone(), until(view), users(view)]
                });
                table(["NAME", "SAYS", "OWNER", "UNTIL", "USED BY"], rows)
            })?;
        }
        ReferenceCommand::Show { name } => {
            let view = context.client()?.1.reference(&name).await?;
            context.print(&view, || detail(&view))?;
        }
        ReferenceCommand::Expire { name, on, force } => {
            let view = context.operator()?.expire_reference(&name, &Expiry { end: on, force }).await?;
            context.print(&view, || detail(&view))?;
        }
    }
    Ok(Exit::Success)
}

/// What the arguments say, and where it comes from; nothing of an enclave, which the manager looks up.
fn value(args: &Add) -> Result<(Option<ReferenceKind>, String), Failure> {
    let tees: BTreeSet<TeeKind> = args.tee.iter().copied().collect();
    if let Some(file) = &args.of.file {
        let measured =
            setup::measure(file).map_err(|e| Failure::new(Exit::Usage, format!("{}: {e}", file.display())))?;
        let tees = if tees.is_empty() { [TeeKind::DevSnp].into() } else { tees };
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let image = ReferenceKind::Image { measurement: measured, registers: BTreeMap::new(), tees };
        return Ok((Some(image), format!("file {name}")));
    }
    if let Some(measurement) = &args.of.value {
        if tees.is_empty() {
            return Err(Failure::new(Exit::Usage, "--value needs --tee: which kinds of machines measure like this"));
        }
        let mut registers = BTreeMap::new();
        for (name, value) in &args.register {
            if registers.insert(name.clone(), value.clone()).is_some() {
                return Err(Failure::new(Exit::Usage, format!("--register {name} is given twice")));
            }
        }
        let published = "published by its owner".to_owned();
        return Ok((Some(ReferenceKind::Image { measurement: measurement.clone(), registers, tees }), published));
    }
    Ok((args.of.firmware.clone(), "published by the vendor".to_owned()))
}

fn what(value: &ReferenceKind) -> String {
    match value {
        ReferenceKind::Image { measurement, registers, tees } => {
            let tees: Vec<_> = tees.iter().map(|tee| tee.name()).collect();
            let beside = match registers.len() {
                0 => String::new(),
                _ => format!(" with {}", registers.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
            };
            format!("image {}..{beside} on {}", measurement.get(..12).unwrap_or(measurement), tees.join(", "))
        }
        ReferenceKind::Firmware { product, minimum } => format!("firmware {product} from {minimum}"),
    }
}

fn until(view: &ReferenceView) -> String {
    match (view.reference.expires, view.holds) {
        (None, _) => "-".to_owned(),
        (Some(end), true) => end.to_string(),
        (Some(end), false) => format!("EXPIRED {end}"),
    }
}

fn users(view: &ReferenceView) -> String {
    if view.used_by.is_empty() { "unused".to_owned() } else { view.used_by.join(", ") }
}

fn detail(view: &ReferenceView) -> String {
    let value = &view.reference;
    let says = match &value.value {
        ReferenceKind::Image { measurement, registers, tees } => {
            let tees: Vec<_> = tees.iter().map(|tee| tee.name()).collect();
            let registers: String = registers.iter().map(|(name, value)| format!("\n{name:<12} {value}")).collect();
            format!("image {measurement}{registers}\non           {}", tees.join(", "))
        }
        ReferenceKind::Firmware { .. } => what(&value.value),
    };
    format!(
        "reference    {}\nsays         {says}\nowner        {}\nsource       {}\nmade         {}\nuntil        {}\nused by      {}",
        value.name,
        value.owner,
        value.source,
        value.made,
        until(view),
        users(view),
    )
}
