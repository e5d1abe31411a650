//! Arrows, purity and manifests.

use std::collections::{BTreeMap, VecDeque};

use super::Finding;
use super::model::{Member, Model};
use crate::metadata::Kind;

/// Who may depend on whom, in the order of ARCHITECTURE.md. Development dependencies may name any crate of the product.
const ARROWS: [(&str, &[&str]); 15] = [
    ("legation-core", &[]),
    ("legation-attest", &["legation-core"]),
    ("legation-keys", &["legation-core"]),
    ("legation-policy", &["legation-attest", "legation-core"]),
    ("legation-log", &["legation-core"]),
    ("legation-pool", &["legation-policy", "legation-attest", "legation-core"]),
    ("legation-privacy", &[]),
    ("legation-net", &["legation-attest", "legation-keys", "legation-core"]),
    ("legation-agent", &["legation-net", "legation-log", "legation-attest", "legation-keys", "legation-core"]),
    ("legation-verifier", &["legation-policy", "legation-attest", "legation-keys", "legation-core"]),
    (
        "legation-manager",
        &[
            "legation-verifier",
            "legation-policy",
            "legation-pool",
            "legation-log",
            "legation-net",
            "legation-attest",
            "legation-keys",
            "legation-core",
        ],
    ),
    (
        "legation",
        &[
            "legation-manager",
            "legation-verifier",
            "legation-policy",
            "legation-agent",
            "legation-net",
            "legation-attest",
            "legation-keys",
            "legation-pool",
            "legation-log",
            "legation-core",
        ],
    ),
    (
        "legation-sim",
        &["legation-manager", "legation-agent", "legation-net", "legation-policy", "legation-pool", "legation-core"],
    ),
    ("legation-demo", &["legation", "legation-core", "legation-attest", "legation-pool"]),
    ("xtask", &[]),
];

/// Tools: nothing depends on them, not even a test.
const TOOLS: [&str; 3] = ["legation-sim", "legation-demo", "xtask"];

/// They get bytes, time and randomness as arguments.
const PURE: [&str; 6] =
    ["legation-core", "legation-attest", "legation-keys", "legation-policy", "legation-log", "legation-pool"];

/// Packages that a pure crate never reaches: async runtimes, sockets and protocols on them, files and devices.
const BANNED: [&str; 51] = [
    "actix-rt",
    "async-executor",
    "async-io",
    "async-net",
    "async-process",
    "async-std",
    "embassy-executor",
    "futures-executor",
    "glommio",
    "mio",
    "monoio",
    "polling",
    "smol",
    "tokio",
    "tokio-stream",
    "tokio-util",
    "attohttpc",
    "axum",
    "curl",
    "h2",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "isahc",
    "libp2p",
    "native-tls",
    "openssl",
    "quinn",
    "quinn-udp",
    "reqwest",
    "rustls",
    "socket2",
    "tokio-rustls",
    "tonic",
    "tungstenite",
    "ureq",
    "async-fs",
    "dirs",
    "directories",
    "fs-err",
    "fs2",
    "fs4",
    "glob",
    "ignore",
    "iocuddle",
    "memmap2",
    "notify",
    "rusqlite",
    "tempfile",
    "walkdir",
    "wasmtime",
];

/// What a package of others brings along and we never call: (who, what).
const TOLERATED: [(&str, &str); 2] = [
    // AMD's root certificates come with the code that asks a chip, which a verifier has no use for.
    ("sev", "dirs"),
    ("sev", "iocuddle"),
];

/// Where a crate is not `crates/NAME`.
const FOLDERS: [(&str, &str); 2] = [("legation-demo", "demo"), ("xtask", "xtask")];

/// Rule 1.
pub(super) fn arrows(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = |name: &str| model.members.iter().any(|member| member.name == name);
    for member in &model.members {
        let mut find = |what: String, fix| findings.push(Finding { place: member.name.clone(), what, fix });
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
            find("a crate without a row in tidy's table of arrows".to_owned(), "add it to ARROWS and ARCHITECTURE.md");
            continue;
        };
        for (to, kind) in member.dependencies.iter().filter(|(to, _)| ours(to)) {
            let fine = match kind {
                Kind::Normal | Kind::Build => allowed.contains(&to.as_str()),
                Kind::Dev => !TOOLS.contains(&to.as_str()),
            };
            if !fine {
                find(format!("depends on {to}"), "arrows run only downwards: see ARCHITECTURE.md");
            }
        }
    }
    findings
}

/// Rule 2, breadth first, so that the way by which something is reached is a shortest one.
pub(super) fn purity(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pure in model.members.iter().filter(|member| PURE.contains(&member.name.as_str())) {
        let Some(start) = model.packages.iter().find(|(_, package)| package.name == pure.name).map(|(id, _)| id) else {
            continue;
        };
        let mut came_from: BTreeMap<&str, Option<&str>> = BTreeMap::from([(start.as_str(), None)]);
        let mut queue = VecDeque::from([start.as_str()]);
        while let Some(id) = queue.pop_front() {
            let Some(package) = model.packages.get(id) else { continue };
            for next in &package.normal {
                let Some(found) = model.packages.get(next) else { continue };
                let tolerated = TOLERATED.contains(&(package.name.as_str(), found.name.as_str()));
                if tolerated || came_from.contains_key(next.as_str()) {
                    continue;
                }
                came_from.insert(next, Some(id));
                if BANNED.contains(&found.name.as_str()) {
                    findings.push(Finding {
                        place: pure.name.clone(),
                        what: format!("reaches {}", way(model, &came_from, next)),
                        fix: "a pure crate takes bytes, time and randomness as arguments; move the I/O to its caller",
                    });
                } else {
                    queue.push_back(next);
                }
            }
        }
    }
    findings
}

/// `to`, and from whom it came: `mio by legation-pool -> tokio -> mio`.
fn way(model: &Model, came_from: &BTreeMap<&str, Option<&str>>, to: &str) -> String {
    let name = |id: &str| model.packages.get(id).map_or(id, |package| package.name.as_str()).to_owned();
    let mut names = vec![name(to)];
    let mut at = to;
    while let Some(Some(before)) = came_from.get(at) {
        names.push(name(before));
        at = before;
    }
    names.reverse();
    format!("{} by {}", name(to), names.join(" -> "))
}

/// Rules 3 and 4.
pub(super) fn manifests(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &model.members {
        let mut find = |what: String, fix| findings.push(Finding { place: member.name.clone(), what, fix });
        if PURE.contains(&member.name.as_str()) && !denies_the_bans(member) {
            find(
                "its lib.rs does not deny the bans of clippy.toml".to_owned(),
                "add #![deny(clippy::disallowed_methods, clippy::disallowed_types)]",
            );
        }
        let special = FOLDERS.iter().find(|(name, _)| *name == member.name).map(|(_, folder)| (*folder).to_owned());
        let folder = special.unwrap_or_else(|| format!("crates/{}", member.name));
        if member.folder != folder {
            find(format!("lies in {}", member.folder), "a crate's folder is crates/ and its name");
        }
        for (section, line) in [
            ("lints", "workspace = true"),
            ("package", "license.workspace = true"),
            ("package", "publish.workspace = true"),
        ] {
            if !has_line(&member.manifest, section, line) {
                find(format!("its Cargo.toml has no `{line}` in [{section}]"), "inherit it from the workspace");
            }
        }
    }
    findings
}

fn denies_the_bans(member: &Member) -> bool {
    let text: String = member.library.iter().flat_map(|text| text.lines()).filter(|line| !is_comment(line)).collect();
    let denied: Vec<&str> = text.split("#![deny(").skip(1).filter_map(|rest| rest.split(")]").next()).collect();
    ["clippy::disallowed_methods", "clippy::disallowed_types"]
        .iter()
        .all(|lint| denied.iter().any(|list| list.split(',').any(|denied| denied.trim() == *lint)))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Is `line` in the section `[section]` of a manifest? Spaces do not matter.
fn has_line(manifest: &str, section: &str, line: &str) -> bool {
    let bare = |text: &str| text.split('#').next().unwrap_or_default().replace([' ', '\t'], "");
    let mut inside = false;
    for it in manifest.lines().map(bare) {
        if it.starts_with('[') {
            inside = it == format!("[{section}]");
        } else if inside && it == bare(line) {
            return true;
        }
    }
    false
}
