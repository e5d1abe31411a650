//! What `cargo metadata` says, as far as we read it. Our own few lines instead of the `cargo_metadata` crate: that one turns
//! on a feature of serde_json which nothing else uses, and with it tests and demonstration would compile every crate of
//! ours twice.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;
use crate::repository::Repository;

#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) target_directory: PathBuf,
    /// Absent when only the members were asked for.
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// A dependency as the manifest declares it.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// Cargo writes `null` for a normal dependency.
impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None => Ok(Self::Normal),
            Some("build") => Ok(Self::Build),
            Some("dev") => Ok(Self::Dev),
            Some(other) => Err(serde::de::Error::custom(format!("unknown kind of dependency {other:?}"))),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
pub(crate) struct NodeDependency {
    pub(crate) pkg: String,
    pub(crate) dep_kinds: Vec<NodeKind>,
}

#[derive(Deserialize)]
pub(crate) struct NodeKind {
    pub(crate) kind: Kind,
}

impl Metadata {
    /// The members alone: quick, and needs no network.
    pub(crate) fn of_members(repository: &Repository) -> Result<Self> {
        Self::read(repository.cargo(&["metadata", "--format-version=1", "--no-deps"]))
    }

    /// The members and all they depend on when built for this machine; other platforms' dependencies need not be
    /// fetched.
    pub(crate) fn of_everything(repository: &Repository) -> Result<Self> {
        let version = process::output(Command::new("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        Self::read(repository.cargo(&["metadata", "--format-version=1", "--filter-platform", host]))
    }

    fn read(mut command: Command) -> Result<Self> {
        let text = process::output(&mut command).context("a Cargo.toml or Cargo.lock is wrong, or no network")?;
        serde_json::from_str(&text).context("cargo metadata is not what it used to be")
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        self.resolve.as_ref().map_or(&[], |resolve| &resolve.nodes)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }
}
