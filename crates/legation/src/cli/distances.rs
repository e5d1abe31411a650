//! `legation pool distances`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use legation_core::Region;
use legation_pool::{KnownRoundTrip, RoundTrip, Source};

use super::{Context, Exit, Failure, table::table};

#[derive(Subcommand)]
pub(super) enum Distances {
    /// Every round trip that is known: by the operator's table, and, where it says nothing, as measured by the leading manager to
    /// its agents (a manager whose configuration says its `region`).
    Show,
    /// Gives the pool a whole table of round trips: those before no longer count.
    Set {
        /// CSV file: `from,to,milliseconds` on each line; a first line that names the columns is passed over. Fractions are rounded up.
        file: PathBuf,
    },
}

pub(super) async fn distances(context: &Context, command: Distances) -> Result<Exit, Failure> {
    let client = context.client()?.1;
    let rows = match command {
        Distances::Show => client.distances().await?,
        Distances::Set { file } => client.set_distances(read(&file)?).await?,
    };
    context.print(&rows, || {
        let said = |source| match source {
            Source::Operator => "operator".to_owned(),
            Source::Channels => "measured".to_owned(),
        };
        let row = |r: &KnownRoundTrip| [r.from.to_string(), r.to.to_string(), r.ms.to_string(), said(r.source)];
        table(["FROM", "TO", "MS", "BY"], rows.iter().map(row))
    })?;
    Ok(Exit::Success)
}

fn read(file: &Path) -> Result<Vec<RoundTrip>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", file.display())))?;
    parse(&text).map_err(|why| Failure::new(Exit::Usage, format!("{}: {why}", file.display())))
}

fn parse(text: &str) -> Result<Vec<RoundTrip>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(n, line)| (n, row(line).map_err(|why| format!("line {}: {why}", n + 1))));
    // What heads the columns is no number.
    rows.filter(|(n, row)| *n > 0 || row.is_ok()).map(|(_, row)| row).collect()
}

fn row(line: &str) -> Result<RoundTrip, String> {
    let fields: Vec<_> = line.split(',').map(str::trim).collect();
    let [from, to, ms] = fields[..] else { return Err("wants `from,to,milliseconds`".to_owned()) };
    let region = |name: &str| Region::new(name).map_err(|e| format!("`{name}` is no region: {e}"));
    let ms: f64 = ms.parse().map_err(|_| format!("`{ms}` is no number of milliseconds"))?;
    if !(0.0..=60_000.0).contains(&ms) {
        return Err(format!("{ms} ms is not between 0 and 60000"));
    }
    Ok(RoundTrip { from: region(from)?, to: region(to)?, ms: (ms.ceil() as u32).max(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_round_trips_are_read_line_by_line() {
        let check = |text: &str| parse(text).map(|rows| rows.iter().map(|r| r.ms).collect::<Vec<_>>());
        assert_eq!(check("from,to,rtt_ms\neu-1,us-1,80.2\n\nus-1,eu-1, 79\n"), Ok(vec![81, 79]));
        assert_eq!(check("eu-1,us-1,0\n"), Ok(vec![1]));
        let wrong = |text: &str| check(text).unwrap_err();
        assert!(wrong("eu-1,us-1,80\neu-1,us-1").starts_with("line 2: wants"));
        assert!(wrong("a,b,1\neu-1,us-1,far").contains("`far` is no number"));
        assert!(wrong("a,b,1\neu-1,us-1,-1").contains("not between"));
        assert!(wrong("a,b,1\nEU 1,us-1,1").contains("no region"));
    }
}
