//! `legation run` and `legation task`.

use std::{path::PathBuf, pin::pin, sync::Arc};

use bytes::Bytes;
use clap::{Args, Subcommand};
use legation::{
    run::{Job, LIFE_SECONDS, Outcome, Part, PartInput, Runner, parse_requirement, parse_usd},
    verify::{ProverProgram, without_bad},
};
use legation_agent::offer::OUTPUT_BYTES_MAX;
use legation_core::{
    Bytes as Size, Fuel, Millicores, Milligpus, Millis, Receipt, Requirement, TaskId,
    dsse::Envelope,
    statement::Request,
    swarm::{SPECULATE_DEFAULT, SeatDemand, SwarmTerms},
    task::{Demand, Direction},
};
use legation_pool::{FragmentView, Phase, TaskState, TaskView, Wait, Waiting};

use super::{
    Context, Exit, Failure, account, delegate::Delegate, estimate, find_task, interrupts::Interrupts, progress, say,
    table::table, tell, wishes::Wishes,
};

/// Most memory that can be asked for, in MiB: what 32 address bits of a module reach, and room for more to come.
const MEMORY_MIB_MAX: u64 = 1 << 20;
/// Largest output asked for, in MiB: what agents hold in memory.
const OUTPUT_MIB_MAX: u64 = 256;

#[derive(Args)]
pub(super) struct Run {
    /// The module: a WASI preview 1 command. It reads standard input, writes standard output.
    module: PathBuf,
    /// Arguments of the module.
    #[arg(last = true)]
    args: Vec<String>,
    /// File that the module reads on standard input. With several, one fragment runs for each, side by side.
    #[arg(long, short, value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Module that reads all fragments' outputs, in order, and writes the result.
    #[arg(long, value_name = "MODULE")]
    reduce: Option<PathBuf>,
    /// What every enclave must satisfy, such as `tee in [sev-snp] and region == "eu-north" and price <= 0.02 usd/h`.
    #[arg(long, default_value = "any", value_name = "EXPRESSION")]
    require: String,
    /// What the whole may cost, in dollars.
    #[arg(long, default_value = "0.10", value_name = "USD")]
    budget: String,
    /// Compute for each fragment, in thousandths of a core.
    #[arg(long, default_value_t = 500, value_name = "MILLICORES")]
    cpu: u64,
    /// Memory for each fragment, in MiB.
    #[arg(long, default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=MEMORY_MIB_MAX))]
    memory: u64,
    /// Work for each fragment, in millions of operators.
    #[arg(long, default_value_t = 20_000, value_name = "MFUEL")]
    fuel: u64,
    /// Time for each fragment, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    time: u64,
    /// Where the result goes; standard output when not given. With several results, `-N` is appended.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the receipt goes.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// What people call it.
    #[arg(long, default_value = "run")]
    name: String,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = LIFE_SECONDS, value_name = "SECONDS")]
    timeout: u64,
    /// Accelerators to set aside for each fragment, in thousandths of one.
    #[arg(long, default_value_t = 0, value_name = "THOUSANDTHS")]
    gpus: u64,
    /// Output of each fragment at most, in MiB; policies may limit it. Default: as `--memory`.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=OUTPUT_MIB_MAX))]
    result_max: Option<u64>,
    /// Has so many enclaves work on it at once, all or none: they judge each other first, each takes the next fragment when it is
    /// free, and one that is lost is replaced. See docs/swarms.md.
    #[arg(long, value_name = "MEMBERS")]
    swarm: Option<u16>,
    /// Members below which the swarm is dissolved when nobody replaces those that are lost. Default: all.
    #[arg(long, value_name = "MEMBERS", requires = "swarm")]
    least: Option<u16>,
    /// Repeats a fragment on a free member when it has run this many percent of the median; 0 for never.
    #[arg(long, default_value_t = SPECULATE_DEFAULT, value_name = "PERCENT", requires = "swarm")]
    speculate: u16,
    /// How long members are held at most, in seconds. Default: as `--time` for each fragment in turn, by one member.
    #[arg(long, value_name = "SECONDS", requires = "swarm")]
    seat_time: Option<u64>,
    /// Says where each fragment would go and what it would cost, or why it would wait; submits and stores nothing. Exit code 5
    /// when one would wait, 3 when the manager would refuse it.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    delegate: Delegate,
    #[command(flatten)]
    wishes: Wishes,
}

#[derive(Subcommand)]
pub(super) enum Task {
    /// Your tasks, newest first.
    List,
    /// One task.
    Show {
        /// Its name, or the beginning of it.
        task: String,
    },
    /// Gives a task up: what runs is stopped.
    Cancel {
        /// Its name, or the beginning of it.
        task: String,
    },
    /// The receipt as it is now: proofs of executions come after the result.
    Receipt {
        /// The task, or the beginning of its name.
        task: String,
        /// Where it goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Program that judges proofs of execution: those that are not good are left out. Default: `legation-prover` beside this
        /// program. Without one all are taken.
        #[arg(long, value_name = "FILE")]
        prover: Option<PathBuf>,
        /// What you pin of the program whose proofs count. Default: `PINNED.json` beside this program.
        #[arg(long, value_name = "FILE")]
        pinned: Option<PathBuf>,
    },
    /// What the modules wrote to standard error, opened with your key.
    Logs {
        /// The task, or the beginning of its name.
        task: String,
    },
}

pub(super) fn read(path: &PathBuf) -> Result<Bytes, Failure> {
    std::fs::read(path)
        .map(Bytes::from)
        .map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
}

pub(super) async fn run(context: &Context, args: Run) -> Result<Exit, Failure> {
    let mut runner = context.runner()?;
    if let Some(consent) = args.delegate.consent() {
        runner.party = Arc::new(context.home()?.party()?.consenting(consent));
    }
    let require = parse_requirement(&args.require)?;
    let budget = parse_usd(&args.budget).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    let (prefer, data) = args.wishes.read()?;
    let demand = Demand {
        cpu: Millicores(args.cpu),
        memory: Size::mib(args.memory),
        fuel: Fuel(args.fuel.saturating_mul(1_000_000)),
        time: Millis(args.time.saturating_mul(1000)),
        output: Size::mib(args.result_max.unwrap_or(args.memory).min(OUTPUT_MIB_MAX)).min(OUTPUT_BYTES_MAX),
        gpus: Milligpus(args.gpus),
    };
    // What is wrong here is said before anything is asked of the manager.
    let module = read(&args.module)?;
    let inputs = args.input.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let reduce = args.reduce.as_ref().map(read).transpose()?;
    let (others, mut delegates) = args.delegate.read(demand.fuel, budget)?;
    // Nothing has begun: a manager that is away is not waited for.
    let store = async |bytes: Bytes| match args.dry_run {
        true => Ok(legation_core::Digest::of(&bytes)),
        false => runner.client.put_object(bytes).await,
    };
    let module = match args.dry_run {
        true => store(module).await?,
        false => context.client()?.1.put_object(module).await?,
    };
    if let Some(delegates) = &mut delegates {
        for other in others {
            delegates.modules.push(store(other).await?);
        }
        delegates.modules.sort_unstable();
        delegates.modules.dedup();
    }
    let part = |name: String, module, inputs| Part {
        name,
        module,
        args: args.args.clone(),
        inputs,
        demand,
        require: Requirement::any(),
        owner: None,
        delegates: delegates.clone(),
    };
    let mut parts = Vec::new();
    for (path, input) in args.input.iter().zip(inputs) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sealed = runner.party.seal(&name, &input).map_err(|why| Failure::refused(Exit::Usage, &why))?;
        store(sealed.ciphertext.into()).await?;
        parts.push(part(name, module, vec![PartInput::Sealed(sealed.reference)]));
    }
    if parts.is_empty() {
        parts.push(part(args.name.clone(), module, Vec::new()));
    }
    if let Some(reduce) = reduce {
        let reduce = store(reduce).await?;
        let inputs = (0..parts.len()).map(PartInput::Output).collect();
        let mut last = part("reduce".to_owned(), reduce, inputs);
        last.args = Vec::new();
        last.delegates = None;
        parts.push(last);
    }
    let swarm = args.swarm.map(|members| {
        let turns = (parts.len() as u64).div_ceil(u64::from(members.max(1)));
        let seconds = args.seat_time.unwrap_or_else(|| args.time.saturating_mul(turns.saturating_add(1)));
        SwarmTerms {
            members,
            least: args.least,
            seat: SeatDemand {
                cpu: demand.cpu,
                memory: demand.memory,
                gpus: demand.gpus,
                time: Millis(seconds.saturating_mul(1000)),
            },
            speculate: Some(args.speculate).filter(|percent| *percent > 0),
        }
    });
    let job = Job {
        name: args.name.clone(),
        parts,
        require,
        prefer,
        data,
        budget,
        swarm,
        life_seconds: args.timeout,
        builds_on: Vec::new(),
    };
    if args.dry_run {
        return estimate::print(context, &runner.estimate(&job).await?);
    }
    // Before there is a task: whoever interrupts from now on gives it up.
    let mut interrupts = Interrupts::new()?;
    let mut submitting = pin!(runner.submit(job, &[]));
    let (submitted, interrupted) = match interrupts.unless(submitting.as_mut()).await {
        Some(done) => (done?, false),
        None => {
            tell("the task is cancelled once the manager has it; interrupt again to leave at once");
            let left = || Failure::new(Exit::Refused, "interrupted; `legation task list` says whether there is a task");
            (interrupts.unless(submitting).await.ok_or_else(left)??, true)
        }
    };
    let task = submitted.task;
    let kept = keep_request(context, &submitted.request);
    if interrupted || kept.is_err() {
        give_up(&runner, task, &mut interrupts).await?;
        kept?;
        return Err(cancelled(task));
    }
    let bar = progress();
    let followed = interrupts.unless(runner.follow(submitted, |view| bar.set_message(summary(view)))).await;
    bar.finish_and_clear();
    let Some(outcome) = followed else {
        give_up(&runner, task, &mut interrupts).await?;
        return Err(cancelled(task));
    };
    let left = || {
        let how = format!("interrupted; `legation task receipt {}` gets the receipt", task.short());
        Err(Failure::new(Exit::Refused, how))
    };
    interrupts.unless(deliver(context, &args, &runner, task, outcome)).await.unwrap_or_else(left)
}

/// Cancels a task, unless whoever waits for that leaves at once.
async fn give_up(runner: &Runner, task: TaskId, interrupts: &mut Interrupts) -> Result<(), Failure> {
    match interrupts.unless(runner.client.cancel(task)).await {
        Some(done) => Ok(done.map(drop)?),
        None => {
            let how = format!("interrupted; `legation task cancel {}` ends the task", task.short());
            Err(Failure::new(Exit::Refused, how))
        }
    }
}

fn cancelled(task: TaskId) -> Failure {
    Failure::new(Exit::Refused, format!("task {} was cancelled", task.short()))
}

/// Writes what came of a task: receipt and results.
async fn deliver(
    context: &Context,
    args: &Run,
    runner: &Runner,
    task: TaskId,
    outcome: Result<Outcome, Failure>,
) -> Result<Exit, Failure> {
    if let Err(failure) = &outcome
        && failure.exit != Exit::Unreachable
    {
        // If it has not ended, nobody follows it any more: it would hold enclaves until its time is over.
        let _ = runner.client.cancel(task).await;
    }
    if let (Err(failure), Some(path)) = (&outcome, &args.receipt)
        && failure.exit == Exit::TaskFailed
        && let Ok(receipt) = runner.receipt(task, &[]).await
    {
        // A failure has evidence too.
        write_receipt(path, receipt, prover_beside()).await?;
    }
    let outcome = outcome?;
    if let Some(path) = &args.receipt {
        write_receipt(path, outcome.receipt, prover_beside()).await?;
    }
    match &args.out {
        Some(path) => {
            for (i, result) in outcome.results.iter().enumerate() {
                let path =
                    if outcome.results.len() == 1 { path.clone() } else { format!("{}-{i}", path.display()).into() };
                write(&path, result)?;
            }
            context.print(&outcome.view, || fragments(&outcome.view))?;
        }
        None => {
            use std::io::Write as _;
            for result in &outcome.results {
                std::io::stdout().write_all(result).map_err(|e| Failure::new(Exit::Failure, format!("stdout: {e}")))?;
            }
            tell(&fragments(&outcome.view));
        }
    }
    Ok(Exit::Success)
}

/// What judges proofs, beside this program. Whoever waits for a result is not refused it where that cannot be used.
fn prover_beside() -> Option<ProverProgram> {
    ProverProgram::find(None, None).unwrap_or_else(|failure| {
        tell(&format!("proofs of execution are not judged: {}", failure.message));
        None
    })
}

/// Writes a receipt, and gives how many proofs of execution it has. Where `prover` finds one not good it is left out: with it, the
/// receipt would be invalid to whoever judges it.
async fn write_receipt(path: &PathBuf, receipt: Receipt, prover: Option<ProverProgram>) -> Result<usize, Failure> {
    let receipt = match prover {
        None => receipt,
        Some(prover) => {
            let judged = tokio::task::spawn_blocking(move || without_bad(receipt, &prover)).await;
            let (receipt, left) = judged.map_err(|e| Failure::new(Exit::Failure, e))?;
            for one in left {
                tell(&format!("proof {} is left out of the receipt: {}", one.proof.short(), one.why));
            }
            receipt
        }
    };
    write(path, receipt.to_text().as_bytes())?;
    Ok(receipt.proofs.len())
}

/// Results are for whoever asked: a new file is readable by its owner alone.
pub(super) fn write(path: &PathBuf, bytes: &[u8]) -> Result<(), Failure> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let failed = |e: std::io::Error| Failure::new(Exit::Failure, format!("cannot write {}: {e}", path.display()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)
}

/// The signed request is kept at home: opening logs later needs it, and the manager's copy is not to be relied on.
fn keep_request(context: &Context, request: &legation_core::Signed<Request>) -> Result<(), Failure> {
    let folder = context.home()?.path.join("requests");
    let failed =
        |e: std::io::Error| Failure::new(Exit::Failure, format!("request cannot be kept in {}: {e}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(failed)?;
    std::fs::write(folder.join(format!("{}.json", request.digest())), request.envelope().to_json()).map_err(failed)
}

pub(super) async fn command(context: &Context, command: Task) -> Result<Exit, Failure> {
    match command {
        Task::List => {
            let client = context.client()?.1;
            let (mut all, mut token) = (Vec::new(), None);
            loop {
                let page = client.tasks(token.as_deref()).await?;
                all.extend(page.tasks);
                token = page.next;
                if token.is_none() {
                    break;
                }
            }
            context.print(&all, || {
                let rows = all.iter().map(|t| {
                    let done = t.fragments.iter().filter(|f| f.phase == Phase::Done).count();
                    [
                        t.task.short(),
                        t.name.clone(),
                        state(&t.state),
                        format!("{done}/{}", t.fragments.len()),
                        t.spent.to_string(),
                        t.created.to_string(),
                    ]
                });
                table(["TASK", "NAME", "STATE", "DONE", "SPENT", "CREATED"], rows)
            })?;
        }
        Task::Show { task } => {
            let client = context.client()?.1;
            let now = client.task(find_task(&client, &task).await?, 0).await?;
            context.print(&now.view, || {
                let view = &now.view;
                let reason = if let TaskState::Failed { reason } = &view.state {
                    format!("\nreason   {reason}")
                } else {
                    String::new()
                };
                format!(
                    "task     {}\nname     {}\nstate    {}{reason}\nspent    {} of {}\nused     {}\ncreated  {}, given up {}\n\n{}",
                    view.task,
                    view.name,
                    state(&view.state),
                    view.spent,
                    view.budget,
                    account::used(&view.metered),
                    view.created,
                    view.expires,
                    [fragments(view), waits(view), limits(view), super::swarm::seats_of(view), super::proofs::owed(view)]
                        .concat()
                )
            })?;
        }
        Task::Cancel { task } => {
            let client = context.client()?.1;
            let now = client.cancel(find_task(&client, &task).await?).await?;
            context.print(&now.view, || format!("task {} is cancelled", now.view.task.short()))?;
        }
        Task::Receipt { task, out, prover, pinned } => {
            let prover = ProverProgram::find(prover.as_deref(), pinned.as_deref())?;
            let runner: Runner = context.runner()?;
            let id = find_task(&runner.client, &task).await?;
            let receipt = runner.receipt(id, &[]).await?;
            let proofs = write_receipt(&out, receipt, prover).await?;
            tell(&format!("receipt of task {} with {proofs} proofs of execution", id.short()));
        }
        Task::Logs { task } => logs(context, &task).await?,
    }
    Ok(Exit::Success)
}

async fn logs(context: &Context, task: &str) -> Result<(), Failure> {
    let runner: Runner = context.runner()?;
    let id = find_task(&runner.client, task).await?;
    let path = context.home()?.path.join("requests").join(format!("{id}.json"));
    let text = std::fs::read(&path).map_err(|e| {
        Failure::new(Exit::Usage, format!("logs are opened where the task was submitted; {}: {e}", path.display()))
    })?;
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Failure, format!("{}: {e}", path.display()));
    let envelope: Envelope = serde_json::from_slice(&text).map_err(|e| wrong(&e))?;
    let request = envelope.open::<Request>().map_err(|e| wrong(&e))?;
    let view = runner.client.task(id, 0).await?.view;
    let mut nothing = true;
    for fragment in &view.fragments {
        let parties = [runner.party.clone()];
        let log = runner.open_left(&request, &view, fragment.fragment, &parties, Direction::Log).await?;
        if let Some(log) = log {
            nothing = false;
            say(&format!("--- {} `{}`\n{}", fragment.fragment, fragment.name, printable(&log).trim_end()))?;
        }
    }
    if nothing {
        tell("no module has written a log");
    }
    Ok(())
}

/// What a module wrote, without the power to steer a terminal.
fn printable(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    text.chars()
        .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

fn state(state: &TaskState) -> String {
    match state {
        TaskState::Live => "live",
        TaskState::Completed => "completed",
        TaskState::Failed { .. } => "failed",
        TaskState::Cancelled => "cancelled",
        TaskState::Expired => "expired",
    }
    .to_owned()
}

fn phase(fragment: &FragmentView) -> &'static str {
    match (&fragment.phase, fragment.offered) {
        (Phase::Waiting, _) => "waits for outputs",
        (Phase::Queued, _) => "waits for an enclave",
        (Phase::Leased { .. }, false) => "waits for grants",
        (Phase::Leased { .. }, true) => "runs",
        (Phase::Done, _) => "done",
    }
}

fn fragments(view: &TaskView) -> String {
    let rows = view.fragments.iter().map(|f| {
        // Of two that work on it, the one that is left.
        let place = f.attempts.iter().rev().find(|a| a.ended.is_none()).or(f.attempts.last());
        let moved = f.attempts.iter().filter(|a| a.ended.is_some()).count();
        [
            format!("{} {}", f.fragment, f.name),
            phase(f).to_owned(),
            place.map_or("-".into(), |a| a.enclave.short()),
            place.map_or("-".into(), |a| format!("{}, {}", a.provider, a.region)),
            f.placement.as_ref().map_or("-".into(), |p| p.decided_by.clone()),
            f.charged.map_or("-".into(), |c| c.to_string()),
            f.usage.map_or("-".into(), |u| format!("{} ms", u.micros / 1000)),
            moved.to_string(),
        ]
    });
    table(["FRAGMENT", "STATE", "ENCLAVE", "WHERE", "WHY", "PRICE", "TIME", "MOVES"], rows)
}

/// What policies let fragments use where they are, if they limit that.
fn limits(view: &TaskView) -> String {
    let limited = view.fragments.iter().filter_map(|f| Some((f.fragment, f.limits.as_ref()?)));
    limited.map(|(index, limits)| format!("\nlimits   {index}: {limits}")).collect()
}

/// How those stand that wait for an enclave.
fn waits(view: &TaskView) -> String {
    let told = view.fragments.iter().filter_map(|f| Some((f.fragment, f.waiting?)));
    let line = |(index, Waiting { ahead, wait }): (_, Waiting)| match wait {
        Some(Wait { seconds_max, seconds_expected }) => format!(
            "\nwaits    {index}: {ahead} go before it; about {seconds_expected} s, {seconds_max} s at the latest if nobody more urgent comes"
        ),
        None => format!("\nwaits    {index}: {ahead} go before it; no lease that ends makes room for it"),
    };
    let waits: String = told.map(line).collect();
    let moves = view.fragments.iter().map(|f| {
        let way = f.preempted.as_ref();
        let way = way.map(|p| format!("\nmakes way {}: for {}, by {}", f.fragment, p.for_whom(), p.until));
        let place = f
            .claim
            .as_ref()
            .map(|c| format!("\nclaims   {}: a place at {} by {}", f.fragment, c.enclave.short(), c.until));
        [way, place].into_iter().flatten().collect::<String>()
    });
    waits + &moves.collect::<String>()
}

fn summary(view: &TaskView) -> String {
    let done = view.fragments.iter().filter(|f| f.phase == Phase::Done).count();
    let runs = view.fragments.iter().filter(|f| f.offered).count();
    format!("task {}: {done} of {} fragments done, {runs} run", view.task.short(), view.fragments.len())
}
