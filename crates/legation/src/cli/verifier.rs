//! `legation verifier`: runs a verifier, and makes the files of one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use legation::{
    home::{read_anchors, write_secret},
    root::Root,
};
use legation_core::{
    Signer, TenantId, UnixTime,
    claims::TeeKind,
    encoding,
    statement::{Appointment, Office, Scope},
};
use legation_keys::{Entropy, IdentityKey};
use legation_net::OsEntropy;
use legation_verifier::{config::VerifierConfig, server::Server, system_clock};

use super::{
    Context, Exit, Failure, say,
    server::{Logs, terminated},
    trust,
};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct VerifierArgs {
    #[command(subcommand)]
    command: Option<VerifierCommand>,
    /// Configuration file; `legation verifier init` makes one.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: Logs,
}

#[derive(Subcommand)]
enum VerifierCommand {
    /// Makes the files of a verifier: key, challenge secret, policy, configuration.
    Init(Init),
    /// Lists the verifiers that the pool's manager asks.
    List,
}

#[derive(Args)]
struct Init {
    /// Folder to make it in; must not hold one.
    dir: PathBuf,
    /// What people call it.
    #[arg(long, default_value = "verifier")]
    name: String,
    /// Anchor file: whom it trusts.
    #[arg(long, value_name = "FILE")]
    anchors: PathBuf,
    /// The operator's root, to appoint the verifier at once: `operator.key`, or `operator.hsm.toml` of one in a token. Without it, the
    /// operator appoints the key that is printed.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// Tenants it is trusted by; all without any.
    #[arg(long, value_name = "TENANT")]
    tenant: Vec<TenantId>,
    /// Kinds of machines it is trusted with, such as `sev-snp`; all without any.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Vec<TeeKind>,
    /// Days for which it is appointed.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7460")]
    listen: std::net::SocketAddr,
    /// Lets its policy accept DEVELOPMENT machines: they prove the protocol, never confidentiality.
    #[arg(long)]
    allow_development: bool,
}

fn kind(name: &str) -> Result<TeeKind, String> {
    let known = || TeeKind::ALL.map(TeeKind::name).join(", ");
    TeeKind::named(name).ok_or_else(|| format!("none of {}", known()))
}

/// Runs the command.
pub(super) async fn verifier(context: &Context, args: VerifierArgs) -> Result<Exit, Failure> {
    match (args.command, args.config) {
        (Some(VerifierCommand::Init(init)), _) => make(&init),
        (Some(VerifierCommand::List), _) => trust::verifiers(context).await,
        (None, Some(config)) => {
            args.logs.start()?;
            let config = VerifierConfig::load(&config).map_err(|why| Failure::refused(Exit::Usage, &why))?;
            let server =
                Server::start(config, system_clock()).await.map_err(|why| Failure::refused(Exit::Usage, &why))?;
            terminated().await?;
            server.stop().await;
            Ok(Exit::Success)
        }
        (None, None) => Err(Failure::new(Exit::Usage, "name a configuration file with --config")),
    }
}

fn make(init: &Init) -> Result<Exit, Failure> {
    let config = init.dir.join("verifier.toml");
    if config.exists() {
        return Err(Failure::new(Exit::Usage, format!("{} is there already", config.display())));
    }
    let failed =
        |path: &Path, e: &dyn std::fmt::Display| Failure::new(Exit::Failure, format!("{}: {e}", path.display()));
    let anchors = read_anchors(&init.anchors)?;
    // A root that is out of reach leaves nothing half-made.
    let operator = init.operator.as_deref().map(Root::read).transpose()?;
    if let (Some(path), Some(operator)) = (&init.operator, &operator)
        && !anchors.operators.contains(&operator.public_key())
    {
        let (path, anchors) = (path.display(), init.anchors.display());
        let text = format!("{path}: not the key of an operator in {anchors}: name the root of that deployment");
        return Err(Failure::new(Exit::Usage, text));
    }
    let key = IdentityKey::generate(&mut OsEntropy);
    let appointment = operator.as_ref().map(|operator| appoint(init, operator, &key)).transpose()?;
    std::fs::create_dir_all(&init.dir).map_err(|e| failed(&init.dir, &e))?;
    let write = |name: &str, text: &str| {
        let path = init.dir.join(name);
        std::fs::write(&path, text).map_err(|e| failed(&path, &e))
    };
    write_secret(&init.dir.join("verifier.key"), &key.to_pem())?;
    let mut secret = zeroize::Zeroizing::new([0; 32]);
    OsEntropy.fill(&mut secret[..]);
    let secret = zeroize::Zeroizing::new(encoding::hex(&secret[..]));
    write_secret(&init.dir.join("challenge.secret"), &secret)?;
    let text = serde_json::to_string_pretty(&anchors).map_err(|e| failed(&init.anchors, &e))?;
    write("anchors.json", &text)?;
    write("appraisal.cedar", POLICY)?;
    write("references.json", "[]\n")?;
    let public = key.public_key();
    let next = match &appointment {
        Some(appointment) => {
            write("appointment.json", appointment)?;
            format!("legation verifier --config {}", config.display())
        }
        None => format!("have the operator appoint key {public} and put the appointment at appointment.json"),
    };
    write("verifier.toml", &configuration(init))?;
    say(&format!(
        "verifier in {}\n  key   {}\n  next  {next}\nReplicas share verifier.key, appointment.json and challenge.secret.",
        init.dir.display(),
        public.id(),
    ))?;
    Ok(Exit::Success)
}

fn appoint(init: &Init, operator: &Root, key: &IdentityKey) -> Result<String, Failure> {
    let sorted = |mut kinds: Vec<TeeKind>| {
        kinds.sort_unstable();
        kinds.dedup();
        (!kinds.is_empty()).then_some(kinds)
    };
    let mut tenants = init.tenant.clone();
    tenants.sort_unstable();
    tenants.dedup();
    let (tenants, kinds) = ((!tenants.is_empty()).then_some(tenants), sorted(init.kind.clone()));
    let now: UnixTime = system_clock()();
    let appointment = Appointment {
        operator: operator.public_key(),
        key: key.public_key(),
        office: Office::Verifier,
        scope: (tenants.is_some() || kinds.is_some()).then_some(Scope { tenants, kinds }),
        not_before: now.minus(60),
        not_after: now.plus(init.days.saturating_mul(86_400)),
    };
    Ok(operator.appoint(appointment)?.envelope().to_json())
}

/// It loads, and admits nothing.
const POLICY: &str = "\
// What this verifier accepts, in Cedar (docs/policy.md); read again when it changes.
// Add reference values to references.json, and permit the images that they name:
//   permit (principal in Image::\"agent-1.2\", action == Action::\"admit\", resource);

@id(\"nothing-yet\")
permit (principal, action == Action::\"admit\", resource) when { false };

@id(\"no-debug\")
forbid (principal, action, resource) when { principal.debug };
";

fn configuration(init: &Init) -> String {
    format!(
        "# See docs/verifier.md.\n\
         name = {:?}\n\
         listen = \"{}\"\n\
         key = \"verifier.key\"\n\
         appointment = \"appointment.json\"\n\
         challenge_secret = \"challenge.secret\"\n\
         anchors = \"anchors.json\"\n\
         policy = \"appraisal.cedar\"\n\
         references = \"references.json\"\n\
         allow_development = {}\n\n\
         [collateral]\n\
         dir = \"collateral\"\n\
         grace_days = 7\n\n\
         # Vendors' own services. A `mirror` or `files` source before them is asked first: see docs/collateral.md.\n\
         [[collateral.source]]\n\
         kind = \"intel\"\n\n\
         [[collateral.source]]\n\
         kind = \"amd\"\n",
        init.name, init.listen, init.allow_development,
    )
}
