//! Rule 6: licences, as SPDX expressions. `A OR B` is a choice that we have, `A AND B` binds us to both, and the `A/B` of
//! old manifests is an OR.

use super::Finding;
use super::model::Model;

/// Permissive, or (MPL) copyleft that ends at its own files. What is not here is refused: GPL, AGPL, BUSL, SSPL,
/// and what nobody has read yet.
const ACCEPTED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Exceptions after WITH; they only ever grant more.
const EXCEPTIONS: [&str; 1] = ["LLVM-exception"];

/// Packages that name no licence and come with the text of one, which somebody read: (name, version, what it is).
const READ: [(&str, &str, &str); 2] = [("opendp", "0.16.0", "MIT"), ("opendp_derive", "0.16.0", "MIT")];

/// The licence of everything here.
const OURS: &str = "Apache-2.0";

pub(super) fn check(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in model.packages.values() {
        let place = format!("{} {}", package.name, package.version);
        let ours = model.members.iter().any(|member| member.name == package.name);
        let read = READ.iter().find(|(name, version, _)| *name == package.name && *version == package.version);
        match package.licence.as_deref().or(read.map(|(_, _, licence)| *licence)) {
            Some(OURS) if ours => {}
            other if ours => findings.push(Finding {
                place,
                what: format!("its licence is {}", other.unwrap_or("not named")),
                fix: "ours is Apache-2.0: `license.workspace = true`",
            }),
            Some(licence) if accepted(licence) => {}
            other => findings.push(Finding {
                place,
                what: format!("its licence is {}", other.unwrap_or("not named")),
                fix: "find another package, or read the licence and add it to tidy's list",
            }),
        }
    }
    findings
}

/// Is there a way to use it under accepted licences alone? Something that is no expression is not accepted.
fn accepted(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

/// `all_of OR all_of ..`; nothing where it is not that.
fn any_of(words: &mut &[&str]) -> Option<bool> {
    let mut value = all_of(words)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        value |= all_of(words)?;
    }
    Some(value)
}

/// `one AND one ..`: binds stronger than OR.
fn all_of(words: &mut &[&str]) -> Option<bool> {
    let mut value = one(words)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        value &= one(words)?;
    }
    Some(value)
}

/// A licence, one WITH an exception, or an expression in brackets.
fn one(words: &mut &[&str]) -> Option<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let value = any_of(words)?;
            let [")", rest @ ..] = *words else { return None };
            *words = rest;
            Some(value)
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            Some(ACCEPTED.contains(licence) && EXCEPTIONS.contains(exception))
        }
        [")" | "OR" | "AND" | "WITH", ..] | [] => None,
        [licence, rest @ ..] => {
            *words = rest;
            Some(ACCEPTED.contains(licence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::accepted;

    #[test]
    fn licences() {
        let check = |expression: &str, expect: bool| assert_eq!(accepted(expression), expect, "{expression:?}");
        check("MIT", true);
        check("MIT OR Apache-2.0", true);
        check("MIT/Apache-2.0", true);
        check("Apache-2.0 / MIT", true);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("Apache-2.0 WITH LLVM-exception OR GPL-3.0-only", true);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("ISC AND (Apache-2.0 OR ISC) AND OpenSSL", true);
        check("GPL-2.0-only OR MIT", true);
        check("AGPL-3.0-only", false);
        check("GPL-3.0-or-later", false);
        check("BUSL-1.1", false);
        check("SSPL-1.0", false);
        check("MIT AND GPL-2.0-only", false);
        // AND binds stronger: the only way without the GPL is none.
        check("GPL-2.0-only OR MIT AND AGPL-3.0-only", false);
        check("MIT OR GPL-2.0-only AND AGPL-3.0-only", true);
        check("(MIT OR GPL-2.0-only) AND AGPL-3.0-only", false);
        check("GPL-2.0-only WITH Classpath-exception-2.0", false);
        check("MIT WITH Commons-Clause", false);
        check("", false);
        check("MIT MIT", false);
        check("(MIT", false);
        check("MIT OR", false);
        check("MIT)", false);
        check("Do what you like", false);
    }
}
