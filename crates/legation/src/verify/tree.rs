//! A valid receipt as a tree: requests, below each its fragments, below each fragment its report, and below each report the
//! answers to the calls that its enclave made.

use legation_core::{
    Digest,
    receipt::{Execution, Verdict},
    statement::Outcome,
    task::DELEGATION_DEPTH_MAX,
};

/// One line of the tree, and how far to the right it stands.
struct Node {
    depth: usize,
    text: String,
}

/// Draws what ran, with who ran it: one line for each request, fragment and execution.
pub fn draw_tree(verdict: &Verdict) -> String {
    let mut nodes = Vec::new();
    let (mut task, mut fragment) = (None, None);
    for ran in &verdict.executions {
        if task != Some(ran.task) {
            let said = verdict.links.iter().find(|link| link.digest == ran.task.digest());
            let said = said.map_or("", |link| link.says.as_str());
            nodes.push(Node { depth: 0, text: format!("task {} {said}", ran.task.short()) });
            (task, fragment) = (Some(ran.task), None);
        }
        if fragment != Some(ran.fragment) {
            nodes.push(Node { depth: 1, text: self::fragment(ran) });
            fragment = Some(ran.fragment);
        }
        let below = usize::try_from(ran.depth.min(DELEGATION_DEPTH_MAX)).unwrap_or_default();
        nodes.push(Node { depth: 2 + below, text: execution(ran) });
    }
    draw(&nodes)
}

fn fragment(ran: &Execution) -> String {
    let reads: Vec<String> = ran.reads.iter().map(ToString::to_string).collect();
    let reads = if reads.is_empty() { String::new() } else { format!(", from the outputs of {}", reads.join(" ")) };
    format!("fragment {} `{}`{reads}", ran.fragment, ran.name.escape_debug())
}

fn execution(ran: &Execution) -> String {
    let (what, under) = match &ran.call {
        None => (format!("report {}", ran.report.short()), format!("{}, {}", ran.lease, grants(&ran.grants))),
        Some(called) => {
            let dissents = if called.dissents { "DISSENTS: " } else { "" };
            (
                format!(
                    "{dissents}answer {} to call {} ({}{})",
                    ran.report.short(),
                    called.call.short(),
                    ran.assurance,
                    ran.proof.map_or(String::new(), |state| format!("; proof: {state}"))
                ),
                format!("loan {}, {}", ran.lease, grants(&ran.grants)),
            )
        }
    };
    let ended = match &ran.outcome {
        Outcome::Completed => "completed".to_owned(),
        Outcome::Failed { reason } => format!("FAILED ({})", reason.escape_debug()),
    };
    let output = match &ran.output {
        Some(output) => format!("output {} of {}", output.commitment.short(), output.size),
        None => "no output".to_owned(),
    };
    let monitor = ran.monitor.map_or(String::new(), |verdict| format!(", monitor: {verdict}"));
    format!(
        "{what}: {ended} in enclave {} at {}, {}, {} under {}; module {}, {output}, {}, attested {} s before its end{monitor}; {under}",
        ran.enclave.short(),
        ran.provider,
        ran.region,
        ran.tee,
        ran.anchor,
        ran.module.short(),
        ran.fuel,
        ran.proof_age
    )
}

fn grants(grants: &[Digest]) -> String {
    match grants {
        [one] => format!("grant {}", one.short()),
        many => format!("grants {}", many.iter().map(Digest::short).collect::<Vec<_>>().join(" ")),
    }
}

/// Puts the lines of a tree before the texts. Read from the last line to the first, whether more stands below at a depth is known.
fn draw(nodes: &[Node]) -> String {
    let mut lines = Vec::with_capacity(nodes.len());
    // At each depth, whether a line follows before the tree comes back to the left of it.
    let mut follows: Vec<bool> = Vec::new();
    for Node { depth, text } in nodes.iter().rev() {
        follows.resize(depth.saturating_add(1), false);
        let mut line = String::new();
        for (level, more) in follows.iter().enumerate().skip(1) {
            line.push_str(match (level == *depth, *more) {
                (true, true) => "├─ ",
                (true, false) => "└─ ",
                (false, true) => "│  ",
                (false, false) => "   ",
            });
        }
        line.push_str(text);
        lines.push(line);
        if let Some(own) = follows.last_mut() {
            *own = true;
        }
    }
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lead_to_what_they_belong_to() {
        let node = |(depth, text): &(usize, &str)| Node { depth: *depth, text: (*text).to_owned() };
        let nodes = [
            (0, "task"),
            (1, "first"),
            (2, "report"),
            (3, "answer"),
            (4, "deeper"),
            (3, "last answer"),
            (1, "second"),
            (2, "its report"),
            (0, "another"),
            (1, "only"),
        ];
        let nodes: Vec<Node> = nodes.iter().map(node).collect();
        let wanted = "\
task
├─ first
│  └─ report
│     ├─ answer
│     │  └─ deeper
│     └─ last answer
└─ second
   └─ its report
another
└─ only";
        assert_eq!(draw(&nodes), wanted);
        assert_eq!(draw(&[]), "");
    }
}
