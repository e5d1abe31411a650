//! `legation policy`: what enclaves must be, for the pool or for one tenant.

use std::{path::PathBuf, sync::Arc};

use clap::Subcommand;
use legation::{client::Client, run::now};
use legation_core::{MicroUsd, TenantId, task::Demand};
use legation_policy::{Options, PlaceQuestion, Policy, Problem, References, Scope};
use legation_pool::PolicyView;
use serde::Serialize;

use super::{Context, Exit, Failure, table::table, wishes::Wishes};

/// Largest file that is read, in bytes: more than any policy or list of reference values.
const FILE_MAX: u64 = 16 << 20;

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Says what is wrong in a policy, offline. Exit code 2 when it does not load.
    Check {
        /// The policy, Cedar.
        file: PathBuf,
        /// Reference values, JSON. Without it, whatever image the policy names is taken to be there.
        #[arg(long, value_name = "FILE")]
        references: Option<PathBuf>,
        /// As a policy of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
    },
    /// The policies in force.
    List,
    /// A policy in force.
    Show(Which),
    /// Sets a policy: verifiers, and placement, go by it from now on.
    Set {
        /// The policy, Cedar.
        file: PathBuf,
        #[command(flatten)]
        which: Which,
    },
    /// What would change for the enclaves in the pool.
    Diff {
        /// The policy, Cedar.
        file: PathBuf,
        #[command(flatten)]
        which: Which,
    },
    /// What a policy would do to the enclaves in the pool. Exit code 3 when it would refuse any.
    Test {
        /// The policy, Cedar.
        file: PathBuf,
        #[command(flatten)]
        which: Which,
        /// Asks its rules of placement instead: which enclaves could take work of this tenant. What the work is say
        /// `--sensitivity`, `--regulation`, `--residency` and `--priority`.
        #[arg(long, value_name = "TENANT")]
        place: Option<TenantId>,
        #[command(flatten)]
        wishes: Box<Wishes>,
    },
    /// Earlier versions of a policy, newest first.
    Versions(Which),
}

#[derive(clap::Args)]
pub(super) struct Which {
    /// A tenant's policy instead of the pool's.
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantId>,
}

impl Which {
    fn scope(self) -> Scope {
        self.tenant.map_or(Scope::Pool, Scope::Tenant)
    }
}

/// What `check` found.
#[derive(Serialize)]
struct Checked {
    loads: bool,
    rules: Vec<String>,
    problems: Vec<Problem>,
    unused: Vec<String>,
}

pub(super) async fn command(context: &Context, command: PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Check { file, references, tenant } => {
            return check(context, &file, references.as_ref(), Which { tenant }.scope());
        }
        PolicyCommand::List => {
            let all = caller(context, &Scope::Pool)?.policies().await?;
            context.print(&all, || {
                let rows = all.iter().map(|p| {
                    let c = &p.current;
                    let warnings = p.warnings.len().to_string();
                    [
                        p.name.clone(),
                        c.version.to_string(),
                        p.rules.len().to_string(),
                        warnings,
                        c.author.clone(),
                        c.at.to_string(),
                    ]
                });
                table(["POLICY", "VERSION", "RULES", "WARNINGS", "BY", "AT"], rows)
            })?;
        }
        PolicyCommand::Show(which) => {
            let scope = which.scope();
            let view = caller(context, &scope)?.policy(&scope).await?;
            context.print(&view, || detail(&view))?;
        }
        PolicyCommand::Set { file, which } => {
            let scope = which.scope();
            let view = caller(context, &scope)?.set_policy(&scope, read(&file)?).await?;
            context.print(&view, || {
                let warnings: String = view.warnings.iter().map(|w| format!("\nwarning: {w}")).collect();
                format!("policy {} is version {} now{warnings}", view.name, view.current.version)
            })?;
        }
        PolicyCommand::Diff { file, which } => {
            let scope = which.scope();
            let found = caller(context, &scope)?.diff_policy(&scope, read(&file)?).await?;
            context.print(&found, || found.to_string())?;
        }
        PolicyCommand::Test { file, which, place, wishes } => {
            let scope = which.scope();
            let question = place.map(|tenant| question(tenant, &wishes)).transpose()?;
            let run = caller(context, &scope)?.test_policy(&scope, read(&file)?, question).await?;
            context.print(&run, || run.to_string())?;
            if run.refused > 0 {
                return Ok(Exit::Refused);
            }
        }
        PolicyCommand::Versions(which) => {
            let scope = which.scope();
            let all = caller(context, &scope)?.policy_versions(&scope).await?;
            context.print(&all, || {
                let rows =
                    all.iter().map(|v| [v.version.to_string(), v.digest.short(), v.author.clone(), v.at.to_string()]);
                table(["VERSION", "DIGEST", "BY", "AT"], rows)
            })?;
        }
    }
    Ok(Exit::Success)
}

/// Work of a tenant of the usual size.
fn question(tenant: TenantId, wishes: &Wishes) -> Result<PlaceQuestion, Failure> {
    let (prefer, data) = wishes.read()?;
    let (demand, budget) = (Demand::default(), MicroUsd::ZERO);
    Ok(PlaceQuestion { tenant, data, priority: prefer.priority, module: None, demand, budget })
}

/// The pool's policy is the operator's; a tenant's is the tenant's, and the operator's where there is such a token.
fn caller(context: &Context, scope: &Scope) -> Result<Client, Failure> {
    let (home, client) = context.client()?;
    match scope {
        Scope::Tenant(tenant) if *tenant == home.config.tenant => Ok(client),
        _ if home.config.operator_token.is_some() => context.operator(),
        _ => Ok(client),
    }
}

fn check(context: &Context, file: &PathBuf, references: Option<&PathBuf>, scope: Scope) -> Result<Exit, Failure> {
    let text = read(file)?;
    let known = match references {
        Some(path) => References::from_json(&read(path)?).map_err(|why| Failure::refused(Exit::Usage, &why))?,
        None => References::assumed(&text),
    };
    let name = scope.to_string();
    let loaded = Policy::load(&name, &text, Arc::new(known), Options::of(scope, true));
    let loaded = loaded.and_then(|policy| policy.check_images(now()).map(|()| policy));
    let checked = match &loaded {
        Ok(policy) => Checked {
            loads: true,
            rules: policy.rules().map(str::to_owned).collect(),
            problems: policy.warnings(now()),
            unused: match references {
                Some(_) => policy.unused().into_iter().map(str::to_owned).collect(),
                None => Vec::new(),
            },
        },
        Err(error) => Checked { loads: false, rules: Vec::new(), problems: error.problems.clone(), unused: Vec::new() },
    };
    context.print(&checked, || {
        let mut text = String::new();
        for problem in &checked.problems {
            let kind = if checked.loads { "warning" } else { "error" };
            text.push_str(&format!("{kind}: {}:{problem}\n", file.display()));
        }
        for name in &checked.unused {
            text.push_str(&format!("note: reference value `{name}` is not used\n"));
        }
        match checked.loads {
            true => text.push_str(&format!("{} loads: {} rules", file.display(), checked.rules.len())),
            false => text.push_str(&format!("{} does not load", file.display())),
        }
        text
    })?;
    Ok(if checked.loads { Exit::Success } else { Exit::Usage })
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| wrong(&e))?.len();
    if size > FILE_MAX {
        return Err(wrong(&format!("{size} bytes; at most {FILE_MAX} are read")));
    }
    std::fs::read_to_string(path).map_err(|e| wrong(&e))
}

fn detail(view: &PolicyView) -> String {
    let current = &view.current;
    let warnings: String = view.warnings.iter().map(|w| format!("\nwarning      {w}")).collect();
    format!(
        "policy       {}\nversion      {} by {} at {}\ndigest       {}{warnings}\n\n{}",
        view.name,
        current.version,
        current.author,
        current.at,
        current.digest,
        current.text.trim_end(),
    )
}
