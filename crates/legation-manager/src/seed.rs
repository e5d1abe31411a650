//! What a journal begins with: the reference values and the policy of the manager's folder.
//!
//! Reference values of the file are taken in at every start where they are new, or were made later than the journal's: a
//! rebuilt image is known after a restart. The policy of the file is taken once: after that, the journal's counts, which
//! people set by `legation policy set`.

use std::{path::Path, sync::Arc};

use legation_core::Rejection;
use legation_policy::{Options, Policy, References, Scope};
use legation_pool::Command;
use tracing::info;

use crate::{config::ManagerConfig, leader::Leader};

/// Takes in what is new in the manager's folder.
///
/// # Errors
/// A file cannot be read, or what it says is refused.
pub(crate) async fn seed(leader: &Leader, config: &ManagerConfig) -> Result<(), Rejection> {
    let known = leader.ask(|pool| pool.references().clone()).await?;
    let values = References::from_json(&read(&config.references)?)?;
    for value in values.iter() {
        if known.get(&value.name).is_none_or(|known| known.made < value.made) {
            info!(reference = %value.name, "reference value of the manager's folder is taken in");
            let author = "the manager's folder".to_owned();
            leader.apply(Command::AddReference { value: Box::new(value.clone()), author, replace: true }).await?;
        }
    }
    if leader.appraisal().borrow().is_none() {
        let (scope, text) = (Scope::Pool, read(&config.policy)?);
        leader.apply(Command::SetPolicy { scope, text, author: "the manager's folder".to_owned() }).await?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Rejection> {
    std::fs::read_to_string(path).map_err(|e| {
        Rejection::new("config.file", path.display().to_string())
            .expected("a readable file")
            .got(e)
            .fix("`legation init` makes one; docs/policy.md has its form")
    })
}

/// The policy of the folder, for a verifier that is asked nothing yet.
///
/// # Errors
/// A file cannot be read, or does not load.
pub(crate) fn of_folder(config: &ManagerConfig) -> Result<Arc<Policy>, Rejection> {
    let references = Arc::new(References::from_json(&read(&config.references)?)?);
    let options = Options::of(Scope::Pool, config.allow_development);
    let policy = Policy::load(&Scope::Pool.to_string(), &read(&config.policy)?, references, options);
    policy.map(Arc::new).map_err(|e| e.rejection())
}
