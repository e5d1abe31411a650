//! Every rule is broken once, and must say so: a check that cannot fail is none.

use super::findings;
use super::model::{File, Member, Model, Package};
use crate::metadata::Kind;

const MANIFEST: &str = "[package]\nlicense.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n";
const LIBRARY: &str = "//! A crate.\n#![deny(clippy::disallowed_methods, clippy::disallowed_types)]\n";

/// A workspace in which all rules hold; a breakage changes one thing.
fn sound() -> Model {
    let mut model = Model::default();
    for (name, folder, needs) in [
        ("legation-core", "crates/legation-core", vec!["serde"]),
        ("legation-attest", "crates/legation-attest", vec!["legation-core", "sev"]),
        ("legation-keys", "crates/legation-keys", vec!["legation-core"]),
        ("legation-pool", "crates/legation-pool", vec!["legation-core", "legation-attest"]),
        ("legation-net", "crates/legation-net", vec!["legation-core", "tokio"]),
        ("legation-demo", "demo", vec!["legation-core"]),
        ("xtask", "xtask", vec!["serde"]),
    ] {
        model.members.push(Member {
            name: name.to_owned(),
            folder: folder.to_owned(),
            manifest: MANIFEST.to_owned(),
            library: Some(LIBRARY.to_owned()),
            dependencies: needs.iter().map(|needed| ((*needed).to_owned(), Kind::Normal)).collect(),
        });
        package(&mut model, name, "Apache-2.0", &needs);
    }
    package(&mut model, "serde", "MIT OR Apache-2.0", &[]);
    package(&mut model, "tokio", "MIT", &["mio"]);
    package(&mut model, "mio", "MIT", &[]);
    package(&mut model, "sev", "Apache-2.0", &["dirs"]);
    package(&mut model, "dirs", "MIT OR Apache-2.0", &[]);
    file(&mut model, "crates/legation-core/src/lib.rs", LIBRARY);
    file(&mut model, "README.md", "# Title\n\nSee `crates/root/x` and ../work/x.\n");
    file(&mut model, "crates/legation-core/tests/it/long.rs", &"// line\n".repeat(2000));
    model
}

fn package(model: &mut Model, name: &str, licence: &str, normal: &[&str]) {
    let package = Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        licence: Some(licence.to_owned()),
        normal: normal.iter().map(|needed| (*needed).to_owned()).collect(),
    };
    model.packages.insert(name.to_owned(), package);
}

fn file(model: &mut Model, path: &str, text: &str) {
    model.files.push(File { path: path.to_owned(), size: text.len() as u64, text: Some(text.to_owned()) });
}

fn member<'a>(model: &'a mut Model, name: &str) -> &'a mut Member {
    model.members.iter_mut().find(|member| member.name == name).unwrap()
}

fn depend(model: &mut Model, from: &str, to: &str, kind: Kind) {
    member(model, from).dependencies.push((to.to_owned(), kind));
}

/// What tidy says about a sound workspace after `breakage`.
fn said(breakage: impl FnOnce(&mut Model)) -> String {
    let mut model = sound();
    breakage(&mut model);
    findings(&model).iter().map(|finding| format!("{finding}\n")).collect()
}

/// Exactly one finding, and it begins like this.
fn check(expect: &str, breakage: impl FnOnce(&mut Model)) {
    let said = said(breakage);
    assert!(said.starts_with(expect) && said.lines().count() == 1, "expected {expect:?}, tidy said {said:?}");
}

#[test]
fn a_sound_workspace_passes() {
    assert_eq!(said(|_| {}), "");
}

#[test]
fn arrows_run_only_downwards() {
    check("legation-core: depends on legation-keys", |m| depend(m, "legation-core", "legation-keys", Kind::Normal));
    check("legation-pool: depends on legation-net", |m| depend(m, "legation-pool", "legation-net", Kind::Normal));
    check("legation-keys: depends on legation-attest", |m| depend(m, "legation-keys", "legation-attest", Kind::Build));
    check("xtask: depends on legation-core", |m| depend(m, "xtask", "legation-core", Kind::Normal));
    check("legation-net: depends on legation-demo", |m| depend(m, "legation-net", "legation-demo", Kind::Dev));
    assert_eq!(said(|m| depend(m, "legation-core", "legation-keys", Kind::Dev)), "", "tests may use any crate");
    assert_eq!(said(|m| depend(m, "legation-net", "legation-keys", Kind::Normal)), "", "a drawn arrow");
}

#[test]
fn a_crate_that_nobody_drew_is_refused() {
    check("legation-new: a crate without a row", |m| {
        let new = Member {
            name: "legation-new".to_owned(),
            folder: "crates/legation-new".to_owned(),
            ..member(m, "legation-core").clone()
        };
        m.members.push(new);
    });
}

#[test]
fn pure_crates_reach_no_io() {
    let reach = |m: &mut Model, from: &str, to: &str| m.packages.get_mut(from).unwrap().normal.push(to.to_owned());
    check("legation-pool: reaches tokio by legation-pool -> tokio;", |m| reach(m, "legation-pool", "tokio"));
    check("legation-keys: reaches mio by legation-keys -> middle -> mio;", |m| {
        package(m, "middle", "MIT", &["mio"]);
        reach(m, "legation-keys", "middle");
    });
    // What is tolerated is tolerated from one package only.
    check("legation-keys: reaches dirs by legation-keys -> dirs;", |m| reach(m, "legation-keys", "dirs"));
    // The core is in all of them: four pure crates, four findings.
    assert_eq!(said(|m| reach(m, "legation-core", "tokio")).matches("legation-core -> tokio").count(), 4);
}

#[test]
fn pure_crates_deny_the_bans() {
    let expect = "legation-attest: its lib.rs does not deny";
    for library in [
        "//! Nothing.",
        "#![deny(clippy::disallowed_methods)]",
        "// #![deny(clippy::disallowed_methods, clippy::disallowed_types)]",
        "#![warn(clippy::disallowed_methods, clippy::disallowed_types)]",
    ] {
        check(expect, |m| member(m, "legation-attest").library = Some(library.to_owned()));
    }
    check(expect, |m| member(m, "legation-attest").library = None);
    let other_form = "#![deny(\n    clippy::disallowed_methods,\n    clippy::disallowed_types,\n)]";
    assert_eq!(said(|m| member(m, "legation-attest").library = Some(other_form.to_owned())), "");
    assert_eq!(said(|m| member(m, "legation-net").library = None), "", "it is not pure");
}

#[test]
fn manifests_inherit_from_the_workspace() {
    let drop = |m: &mut Model, name: &str, line: &str| {
        let manifest = &mut member(m, name).manifest;
        *manifest = manifest.replacen(line, "", 1);
    };
    check("legation-net: its Cargo.toml has no `workspace = true` in [lints]", |m| {
        drop(m, "legation-net", "[lints]\nworkspace = true");
    });
    check("legation-net: its Cargo.toml has no `license.workspace", |m| {
        drop(m, "legation-net", "license.workspace = true\n");
    });
    check("legation-net: its Cargo.toml has no `publish.workspace", |m| {
        drop(m, "legation-net", "publish.workspace = true\n");
    });
    check("legation-net: lies in crates/net", |m| member(m, "legation-net").folder = "crates/net".to_owned());
    check("legation-demo: lies in crates/legation-demo", |m| {
        member(m, "legation-demo").folder = "crates/legation-demo".to_owned();
    });
}

#[test]
fn licences_are_on_the_list() {
    check("copyleft 1.0.0: its licence is AGPL-3.0-only", |m| package(m, "copyleft", "AGPL-3.0-only", &[]));
    check("serde 1.0.0: its licence is not named", |m| m.packages.get_mut("serde").unwrap().licence = None);
    // Read was another version of it.
    check("opendp 1.0.0: its licence is not named", |m| {
        package(m, "opendp", "MIT", &[]);
        m.packages.get_mut("opendp").unwrap().licence = None;
    });
    check("legation-net 1.0.0: its licence is MIT", |m| {
        m.packages.get_mut("legation-net").unwrap().licence = Some("MIT".to_owned());
    });
}

#[test]
fn files_have_names_and_bounds() {
    for path in ["crates/legation-core/src/utils.rs", "demo/src/common/x.rs", "xtask/src/helpers.rs"] {
        check(&format!("{path}: a name that says nothing"), |m| file(m, path, "//! x\n"));
    }
    check("demo/src/long.rs: 801 lines", |m| file(m, "demo/src/long.rs", &"// line\n".repeat(801)));
    assert_eq!(said(|m| file(m, "demo/src/long.rs", &"// line\n".repeat(800))), "");
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(700), "// line\n".repeat(700));
    assert_eq!(said(|m| file(m, "demo/src/tested.rs", &tested)), "", "tests aside");
    let large = |size| move |m: &mut Model| m.files.push(File { path: "a.wasm".to_owned(), size, text: None });
    check("a.wasm: 1048577 bytes", large((1 << 20) + 1));
    assert_eq!(said(large(1 << 20)), "");
}

#[test]
fn lines_are_clean() {
    let allow = concat!("#![", "allow(dead_code)]\n");
    check("demo/src/x.rs:2: a lint is allowed away", |m| file(m, "demo/src/x.rs", &format!("//! x\n{allow}")));
    check("docs/x.md:1: a tab", |m| file(m, "docs/x.md", "a\tb\n"));
    check("demo/Cargo.toml:2: white space", |m| file(m, "demo/Cargo.toml", "[package]\nname = \"x\" \n"));
    assert_eq!(said(|m| file(m, "Makefile", "all:\n\tcargo xtask ci\n")), "", "only Rust, Markdown and TOML");
    for folder in ["work", "root", "home"] {
        for line in ["at /F/x", "\"/F/main\"", "PATH=/F/bin"] {
            let text = format!("ok\n{}\n", line.replace('F', folder));
            check("docs/x.sh:2: a path of somebody's machine", |m| file(m, "docs/x.sh", &text));
        }
    }
}
