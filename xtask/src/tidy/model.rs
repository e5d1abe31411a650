//! What the rules look at.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::metadata::{Kind, Metadata};
use crate::process;
use crate::repository::Repository;

/// The workspace.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) members: Vec<Member>,
    /// Members and everything they depend on, by cargo's id.
    pub(super) packages: BTreeMap<String, Package>,
    /// What is tracked, or would be.
    pub(super) files: Vec<File>,
}

/// A crate of ours.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) name: String,
    /// Relative to the root, with `/`.
    pub(super) folder: String,
    pub(super) manifest: String,
    /// The text of its `lib.rs`, where it has one.
    pub(super) library: Option<String>,
    /// Declared dependencies, optional ones too.
    pub(super) dependencies: Vec<(String, Kind)>,
}

/// A package that is compiled.
#[derive(Clone)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) licence: Option<String>,
    /// Ids of what it depends on to run (not to build or to be tested).
    pub(super) normal: Vec<String>,
}

/// A file of ours.
#[derive(Clone)]
pub(super) struct File {
    /// Relative to the root, with `/`.
    pub(super) path: String,
    /// In bytes.
    pub(super) size: u64,
    /// Nothing where it is no UTF-8.
    pub(super) text: Option<String>,
}

impl Model {
    pub(super) fn read(repository: &Repository) -> Result<Self> {
        let metadata = Metadata::of_everything(repository)?;
        Ok(Self {
            members: members(&metadata, repository.root())?,
            packages: packages(&metadata),
            files: files(repository.root())?,
        })
    }
}

fn members(metadata: &Metadata, root: &Path) -> Result<Vec<Member>> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()));
    let mut members = Vec::new();
    for package in metadata.members() {
        let library = package.targets.iter().find(|target| target.kind.iter().any(|kind| kind == "lib"));
        members.push(Member {
            name: package.name.clone(),
            folder: relative(root, package.manifest_path.parent().unwrap_or(root)),
            manifest: read(&package.manifest_path)?,
            library: library.map(|target| read(&target.src_path)).transpose()?,
            dependencies: package.dependencies.iter().map(|it| (it.name.clone(), it.kind)).collect(),
        });
    }
    Ok(members)
}

fn packages(metadata: &Metadata) -> BTreeMap<String, Package> {
    let mut packages = BTreeMap::new();
    for package in &metadata.packages {
        let node = metadata.nodes().iter().find(|node| node.id == package.id);
        let normal = node.into_iter().flat_map(|node| &node.deps);
        let normal = normal.filter(|it| it.dep_kinds.iter().any(|kind| kind.kind == Kind::Normal));
        let of_ours = Package {
            name: package.name.clone(),
            version: package.version.clone(),
            licence: package.license.clone(),
            normal: normal.map(|it| it.pkg.clone()).collect(),
        };
        packages.insert(package.id.clone(), of_ours);
    }
    packages
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

/// Sources of others, changed in a few lines.
const VENDORED: &str = "prover/guest/vendor/";

fn files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for path in paths(root)? {
        // What is others' stays as they wrote it.
        if path.starts_with(VENDORED) && path.ends_with(".rs") {
            continue;
        }
        let whole = root.join(&path);
        // Deleted, and git has not been told; or a link, whose target is a file of its own.
        let Ok(facts) = fs::symlink_metadata(&whole) else { continue };
        if !facts.is_file() {
            continue;
        }
        let bytes = fs::read(&whole).with_context(|| format!("failed to read {path}"))?;
        files.push(File { path, size: facts.len(), text: String::from_utf8(bytes).ok() });
    }
    Ok(files)
}

/// Git knows what is tracked or would be; without it (an archive of the sources), all but what building leaves.
fn paths(root: &Path) -> Result<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    if root.join(".git").exists()
        && let Ok(list) = process::output(&mut git)
    {
        return Ok(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect());
    }
    let mut paths = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("failed to list {}", folder.display()))? {
            let path = entry.with_context(|| format!("failed to list {}", folder.display()))?.path();
            let skipped = ["target", ".git", ".legation"].iter().any(|name| path == root.join(name));
            if path.is_dir() && !path.is_symlink() {
                if !skipped {
                    folders.push(path);
                }
            } else {
                paths.push(relative(root, &path));
            }
        }
    }
    paths.sort();
    Ok(paths)
}
