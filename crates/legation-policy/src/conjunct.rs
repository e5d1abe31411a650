//! The conditions of a rule, one by one: what to say when a rule does not hold is the first of them that does not.
//!
//! A rule holds exactly when all its conjuncts do: scope, `when` bodies split at their outermost `&&`, `unless` bodies split
//! at their outermost `||` and negated. A body in which something binds weaker (`||`, `if`) is one conjunct. A property test
//! holds that against Cedar.

use crate::{
    rule::About,
    scan::{Kind, Token, line},
};

/// One condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Conjunct {
    /// As the author wrote it, on one line; also what Cedar evaluates.
    pub(crate) text: String,
    /// What it reads: `["tcb", "status"]` for `principal.tcb.status`; `["image"]` where reference values are named;
    /// `["now"]` for the time; of rules of placement `["context", "priority"]` for what a request says, `["tenant"]` for whose it
    /// is. In the order of the text, each once.
    pub(crate) reads: Vec<Vec<String>>,
}

/// The conjuncts of a rule that Cedar has parsed.
pub(crate) fn conjuncts(rule: &[Token<'_>], about: About) -> Vec<Conjunct> {
    let mut found = Vec::new();
    // Annotations come first; an annotation's own name follows an `@`.
    let effect = rule.iter().enumerate().position(|(i, t)| {
        let annotation = i.checked_sub(1).and_then(|i| rule.get(i)).is_some_and(|before| before.is("@"));
        t.depth == 0 && !annotation && (t.is("permit") || t.is("forbid"))
    });
    let Some(effect) = effect else { return found };
    let mut rest = rule.get(effect + 1..).unwrap_or_default();
    let (scope, after) = bracketed(rest);
    for part in scope.split(|t| t.depth == 1 && t.is(",")) {
        // `principal`, `action`, `resource` alone ask nothing.
        if part.len() > 1 {
            found.push(conjunct(part, false, about));
        }
    }
    rest = after;
    while let Some((word, body)) = rest.split_first() {
        let (inner, after) = bracketed(body);
        split(inner, word.is("unless"), about, &mut found);
        rest = after;
    }
    found
}

/// What is inside the brackets that `tokens` begin with, and what follows them.
fn bracketed<'a, 't>(tokens: &'t [Token<'a>]) -> (&'t [Token<'a>], &'t [Token<'a>]) {
    let Some(open) = tokens.first() else { return (&[], &[]) };
    let close = tokens.iter().skip(1).position(|t| t.depth == open.depth && matches!(t.text, ")" | "]" | "}"));
    let close = close.map_or(tokens.len(), |at| at + 1);
    (tokens.get(1..close).unwrap_or_default(), tokens.get(close + 1..).unwrap_or_default())
}

fn split(tokens: &[Token<'_>], negated: bool, about: About, found: &mut Vec<Conjunct>) {
    let Some(first) = tokens.first() else { return };
    let depth = first.depth;
    if first.is("(") {
        let (inner, after) = bracketed(tokens);
        if after.is_empty() {
            return split(inner, negated, about, found);
        }
    }
    let outermost = |sign: &str| tokens.iter().any(|t| t.depth == depth && t.is(sign));
    let sign = if negated { "||" } else { "&&" };
    if outermost("if") || (!negated && outermost("||")) || !outermost(sign) {
        found.push(conjunct(tokens, negated, about));
        return;
    }
    for part in tokens.split(|t| t.depth == depth && t.is(sign)) {
        split(part, negated, about, found);
    }
}

fn conjunct(tokens: &[Token<'_>], negated: bool, about: About) -> Conjunct {
    let text = line(tokens);
    Conjunct { text: if negated { format!("!({text})") } else { text }, reads: reads(tokens, about) }
}

/// The attributes that are named, in order, each once.
fn reads(tokens: &[Token<'_>], about: About) -> Vec<Vec<String>> {
    // Admission asks about the principal, placement about the resource.
    let enclave = if about == About::Place { "resource" } else { "principal" };
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut note = |path: Vec<String>| {
        if !path.is_empty() && !found.contains(&path) {
            found.push(path);
        }
    };
    for (i, token) in tokens.iter().enumerate() {
        let rest = tokens.get(i + 1..).unwrap_or_default();
        if token.is("Image") {
            note(vec!["image".to_owned()]);
        } else if token.is("context") && about == About::Place {
            match path(rest).0 {
                asked if asked.first().is_some_and(|name| name == "now") => note(asked),
                asked => note(std::iter::once("context".to_owned()).chain(asked).collect()),
            }
        } else if token.is("context") {
            note(vec!["now".to_owned()]);
        } else if token.is(enclave) {
            let (mut path, after) = path(rest);
            if let [has, name, ..] = after
                && has.is("has")
            {
                let (tail, _) = self::path(after.get(2..).unwrap_or_default());
                path.push(name.plain().unwrap_or(name.text).to_owned());
                path.extend(tail);
            }
            note(path);
        } else if token.is("principal") {
            note(vec!["tenant".to_owned()]);
        }
    }
    found
}

/// Methods that take an argument: what follows the dot is no attribute.
fn path<'a, 't>(mut tokens: &'t [Token<'a>]) -> (Vec<String>, &'t [Token<'a>]) {
    let mut path = Vec::new();
    loop {
        match tokens {
            [dot, name, open, argument, ..] if dot.is(".") && open.is("(") => {
                if name.is("getTag") || name.is("hasTag") {
                    path.push("registers".to_owned());
                    path.extend(argument.plain().map(str::to_owned));
                }
                return (path, tokens.get(2..).unwrap_or_default());
            }
            [dot, name, rest @ ..] if dot.is(".") && name.kind == Kind::Name => {
                path.push(name.text.to_owned());
                tokens = rest;
            }
            [open, name, close, rest @ ..] if open.is("[") && close.is("]") && name.kind == Kind::Text => {
                path.push(name.plain().unwrap_or(name.text).to_owned());
                tokens = rest;
            }
            _ => return (path, tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::tokens;

    #[test]
    fn rules_fall_apart_where_and_holds_them_together() {
        let table: [(&str, &[&str]); 9] = [
            ("permit (principal, action, resource)", &[]),
            (
                "@when(\"a\") @permit permit (principal in Image::\"a\", action == Action::\"admit\", resource) \
                 when { !principal.debug && (principal.slot == 1 && principal.cpu > 2) }",
                &[
                    "principal in Image::\"a\"",
                    "action == Action::\"admit\"",
                    "!principal.debug",
                    "principal.slot == 1",
                    "principal.cpu > 2",
                ],
            ),
            ("permit (principal, action, resource) when { a || b && c } when { d }", &["a || b && c", "d"]),
            (
                "permit (principal, action, resource) when { a && if b then c else d && e }",
                &["a && if b then c else d && e"],
            ),
            (
                "permit (principal, action, resource) when { (a || b) && [c && d].contains(e) }",
                &["a || b", "[c && d].contains(e)"],
            ),
            (
                "permit (principal, action, resource) unless { a || b && c || !(d || e) }",
                &["!(a)", "!(b && c)", "!(!(d || e))"],
            ),
            ("permit (principal, action, resource) unless { a && b }", &["!(a && b)"]),
            ("permit (principal, action, resource) when { (a) && (b) }", &["a", "b"]),
            ("permit (principal, action, resource) unless { (a || b) }", &["!(a)", "!(b)"]),
        ];
        for (rule, expected) in table {
            let texts: Vec<_> = conjuncts(&tokens(rule), About::Admit).into_iter().map(|c| c.text).collect();
            assert_eq!(texts, expected, "{rule}");
        }
    }

    #[test]
    fn what_a_condition_reads_is_what_it_names() {
        let table: [(&str, &[&str]); 9] = [
            ("principal.tcb.status == TcbStatus::\"up-to-date\"", &["tcb.status"]),
            ("principal[\"tcb\"][\"status\"] == x", &["tcb.status"]),
            ("principal has vmpl", &["vmpl"]),
            ("principal has tcb.age_days", &["tcb.age_days"]),
            ("principal.tcb has age_days", &["tcb.age_days"]),
            ("principal.features.contains(\"smt\") || principal.debug", &["features", "debug"]),
            ("principal.hasTag(\"pcr4\")", &["registers.pcr4"]),
            ("principal in [Image::\"a\", Image::\"b\"]", &["image"]),
            ("context.now < datetime(\"2027-01-01\") && principal.region like \"eu*\"", &["now", "region"]),
        ];
        for (text, expected) in table {
            let paths: Vec<_> = reads(&tokens(text), About::Admit).iter().map(|p| p.join(".")).collect();
            assert_eq!(paths, expected, "{text}");
        }
    }

    #[test]
    fn rules_of_placement_read_the_resource_the_context_and_whose_work_it_is() {
        let table: [(&str, &[&str]); 4] = [
            ("principal == Tenant::\"acme\"", &["tenant"]),
            ("resource.tcb.status == TcbStatus::\"up-to-date\"", &["tcb.status"]),
            ("context.regulations.contains(\"gdpr\")", &["context.regulations"]),
            ("context.priority > 4 && context.now < datetime(\"2027-01-01\")", &["context.priority", "now"]),
        ];
        for (text, expected) in table {
            let paths: Vec<_> = reads(&tokens(text), About::Place).iter().map(|p| p.join(".")).collect();
            assert_eq!(paths, expected, "{text}");
        }
    }
}
