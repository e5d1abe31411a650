//! Where we are, and how cargo is called here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// The root of the workspace, and the environment that every cargo gets.
pub(crate) struct Repository {
    root: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
}

impl Repository {
    /// The workspace that we stand in, from any of its folders.
    pub(crate) fn find() -> Result<Self> {
        let mut locate = cargo();
        locate.args(["locate-project", "--workspace", "--message-format", "plain"]);
        let manifest = PathBuf::from(process::output(&mut locate)?.trim());
        let root = manifest.parent().context("the workspace's manifest lies nowhere")?;
        ensure!(root.join("xtask").is_dir(), "{} is another workspace", root.display());
        Ok(Self { root: root.to_path_buf(), environment: Vec::new() })
    }

    /// As a build machine does it: no incremental compilation, which only costs where nothing is built twice, and no
    /// colours unless somebody asked for them.
    pub(crate) fn like_ci(mut self) -> Self {
        self.environment.push(("CARGO_INCREMENTAL", "0"));
        if std::env::var_os("CARGO_TERM_COLOR").is_none() {
            self.environment.push(("CARGO_TERM_COLOR", "never"));
        }
        self
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `cargo ARGS` in the root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).args(args).envs(self.environment.iter().copied());
        command
    }
}

/// The cargo that runs us, or the one on PATH; without what cargo says of the package that it runs. Build scripts that look at that
/// would run again after every build by hand, and half of everything would compile again.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}
