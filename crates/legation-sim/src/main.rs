//! `legation-sim`: runs seeds, and tells the story of one. `cargo xtask sim` builds and starts it.

use std::{
    io::Write,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use legation_sim::{Defect, Outcome, Tally, run};

/// Simulates whole deployments, one for each seed. Exit code 1: an invariant did not hold, or a kind of fault never happened.
#[derive(Parser)]
#[command(name = "legation-sim", version, max_term_width = 100)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Tells everything that happens under one seed, and runs no other
    #[arg(long)]
    story: Option<u64>,
    /// Puts a deliberate defect into the simulator's adapters, to see it found
    #[arg(long)]
    defect: Option<Defect>,
    /// Threads; a seed runs in one
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

/// Seeds for which every kind of fault must have happened.
const ALL_FAULTS_BY: u64 = 200;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut out = std::io::stdout().lock();
    let done = match args.story {
        Some(seed) => story(&mut out, seed, args.defect),
        None => seeds(&mut out, &args),
    };
    done.unwrap_or(ExitCode::FAILURE)
}

fn story(out: &mut impl Write, seed: u64, defect: Option<Defect>) -> std::io::Result<ExitCode> {
    let outcome = run(seed, defect, true);
    tell(out, &outcome)?;
    let Outcome { events, records, violation, .. } = outcome;
    writeln!(out, "seed {seed}: {events} events, {records} records")?;
    Ok(match violation {
        None => ExitCode::SUCCESS,
        Some(what) => {
            writeln!(out, "VIOLATION: {what}")?;
            ExitCode::FAILURE
        }
    })
}

fn tell(out: &mut impl Write, outcome: &Outcome) -> std::io::Result<()> {
    outcome.story.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn seeds(out: &mut impl Write, args: &Args) -> std::io::Result<ExitCode> {
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let all = Mutex::new((Tally::default(), 0_u64, 0_u64, 0_u64, None::<Outcome>));
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.seeds || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run(args.from.wrapping_add(number), args.defect, false);
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.0.add(&outcome.tally);
                    (all.1, all.2, all.3) = (all.1 + 1, all.2 + outcome.events, all.3 + outcome.records);
                    // Of those that fail, the first by number, whichever thread was faster.
                    if outcome.violation.is_some() {
                        failed.store(true, Ordering::Relaxed);
                        if all.4.as_ref().is_none_or(|other| outcome.seed < other.seed) {
                            all.4 = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    let (tally, ran, events, records, found) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(outcome) = found {
        let again = run(outcome.seed, args.defect, true);
        tell(out, &again)?;
        writeln!(
            out,
            "\nseed {}: VIOLATION: {}",
            outcome.seed,
            again.violation.as_deref().unwrap_or("not found again")
        )?;
        let defect = args.defect.map(|d| format!(" --defect {}", d.name())).unwrap_or_default();
        writeln!(out, "again: cargo xtask sim --story {}{defect}", outcome.seed)?;
        return Ok(ExitCode::FAILURE);
    }
    let took = began.elapsed();
    writeln!(out, "faults injected:")?;
    tally.faults.iter().try_for_each(|(name, count)| writeln!(out, "  {count:>9}  {name}"))?;
    writeln!(out, "reached:")?;
    tally.reached.iter().try_for_each(|(name, count)| writeln!(out, "  {count:>9}  {name}"))?;
    let speed = ran as f64 / took.as_secs_f64().max(1e-9);
    writeln!(
        out,
        "{ran} seeds from {}: every invariant held; {events} events, {records} records, {:.1} s, {speed:.0} seeds/s",
        args.from,
        took.as_secs_f64()
    )?;
    let missing = tally.missing();
    if ran >= ALL_FAULTS_BY && args.defect.is_none() && !missing.is_empty() {
        writeln!(out, "these faults never happened: {}", missing.join(", "))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
