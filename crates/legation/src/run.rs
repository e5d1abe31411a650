//! From modules and inputs to results and a receipt: submit, judge, grant, follow, collect, verify.

use std::{sync::Arc, time::Duration};

use legation_core::{
    Digest, FragmentIndex, MicroUsd, Receipt, Rejection, Signed, TaskId, TenantId, UnixTime, dsse,
    prefer::{DataTerms, Preferences},
    requirement::Requirement,
    statement::{Assurance, Request},
    swarm::SwarmTerms,
    task::{Delegation, Demand, Direction, Fragment, Input, OutputRef, SealedRef},
};
use legation_keys::Entropy;
use legation_manager::api::tasks::{Grants, Submission, TaskNow};
use legation_net::OsEntropy;
use legation_pool::{Estimate, Phase, TaskState, TaskView};
use zeroize::Zeroizing;

use crate::{
    client::{Client, ClientError},
    exit::{Exit, Failure},
    party::{Party, Trust},
};

/// Refusals of a grant that mean: look again, something ended or was replaced meanwhile.
const GONE: [&str; 5] = ["task.ended", "pool.enclave", "pool.revoked", "grant.recipient", "grant.wrapped"];
/// Pause before grants are given again.
const AGAIN: Duration = Duration::from_millis(20);
/// Passports in a row that may have lapsed on their way here.
const STALE_MAX: u32 = 100;
/// Seconds asked of the manager in one wait.
const WAIT: u64 = 20;

/// One piece of a job.
pub struct Part {
    /// What people call it.
    pub name: String,
    /// The module, by digest; stored before.
    pub module: Digest,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it reads, in order.
    pub inputs: Vec<PartInput>,
    /// What it needs.
    pub demand: Demand,
    /// What its enclave must satisfy.
    pub require: Requirement,
    /// Whose it is, when not the client's.
    pub owner: Option<Arc<Party>>,
    /// What of it its enclave may have run by others; nothing without it. Modules are stored before.
    pub delegates: Option<Delegation>,
}

/// What a part reads.
pub enum PartInput {
    /// A sealed object; stored before.
    Sealed(SealedRef),
    /// Output of an earlier part, by its place in the job.
    Output(usize),
}

/// A job.
pub struct Job {
    /// What people call it.
    pub name: String,
    /// The parts.
    pub parts: Vec<Part>,
    /// What every enclave must satisfy.
    pub require: Requirement,
    /// Who is best among those.
    pub prefer: Preferences,
    /// What is said of the data.
    pub data: DataTerms,
    /// The enclaves that work on it at once, if it asks for a swarm.
    pub swarm: Option<SwarmTerms>,
    /// What it may cost.
    pub budget: MicroUsd,
    /// Seconds until it is given up.
    pub life_seconds: u64,
    /// Receipts of earlier jobs this one builds on.
    pub builds_on: Vec<Receipt>,
}

/// What came of a job.
pub struct Outcome {
    /// The task.
    pub task: TaskId,
    /// How it ended, fragment by fragment.
    pub view: TaskView,
    /// Results in the clear, in the order of the fragments nobody else reads.
    pub results: Vec<Zeroizing<Vec<u8>>>,
    /// The receipt, closed over earlier jobs.
    pub receipt: Receipt,
}

/// Runs jobs for a client.
pub struct Runner {
    /// The manager.
    pub client: Client,
    /// Who asks.
    pub party: Arc<Party>,
    /// On whose account.
    pub tenant: TenantId,
    /// What is trusted.
    pub trust: Arc<Trust>,
    /// Where time comes from.
    pub clock: legation_manager::Clock,
}

/// A task that was submitted.
pub struct Submitted {
    /// Its name.
    pub task: TaskId,
    /// What was asked.
    pub request: Signed<Request>,
    parties: Vec<Arc<Party>>,
    builds_on: Vec<Receipt>,
    now: TaskNow,
}

impl Submitted {
    /// Journal position of the manager's last answer.
    pub fn version(&self) -> u64 {
        self.now.version
    }

    /// The task as the manager last showed it.
    pub fn view(&self) -> &TaskView {
        &self.now.view
    }
}

impl Runner {
    /// Signs a job as a request.
    pub fn request(&self, job: &Job) -> Signed<Request> {
        let mut nonce = [0; 32];
        OsEntropy.fill(&mut nonce);
        let now = (self.clock)();
        let fragments = job.parts.iter().map(|part| Fragment {
            name: part.name.clone(),
            owner: part.owner.as_ref().map(|o| o.owner()),
            module: part.module,
            args: part.args.clone(),
            inputs: part
                .inputs
                .iter()
                .map(|input| match input {
                    PartInput::Sealed(sealed) => Input::Sealed(sealed.clone()),
                    PartInput::Output(at) => {
                        Input::Output { fragment: FragmentIndex(u32::try_from(*at).unwrap_or(u32::MAX)) }
                    }
                })
                .collect(),
            demand: part.demand,
            require: part.require.clone(),
            delegates: part.delegates.clone(),
        });
        let request = Request {
            client: self.party.key(),
            sealing: self.party.sealing().clone(),
            tenant: self.tenant.clone(),
            name: job.name.clone(),
            created: now,
            expires: now.plus(job.life_seconds),
            fragments: fragments.collect(),
            require: job.require.clone(),
            prefer: job.prefer.clone(),
            data: job.data.clone(),
            swarm: job.swarm.clone(),
            assurance: Assurance::Attested,
            budget: job.budget,
            nonce: Digest::from_bytes(nonce),
            prev: job.builds_on.iter().flat_map(|r| r.roots.iter().copied()).collect(),
        };
        dsse::sign(request, self.party.signer())
    }

    /// Submits a job. `holders` are the parties beside the client that hold inputs or own parts.
    ///
    /// # Errors
    /// The manager refuses it or cannot be reached.
    pub async fn submit(&self, job: Job, holders: &[Arc<Party>]) -> Result<Submitted, Failure> {
        self.submit_and_wait(job, holders, 0).await
    }

    /// What a submission of this job would come to; nothing is submitted, and nothing needs to be stored.
    ///
    /// # Errors
    /// The manager would refuse it, or cannot be reached.
    pub async fn estimate(&self, job: &Job) -> Result<Estimate, Failure> {
        Ok(self.client.estimate(&self.submission(job)).await?)
    }

    /// The signed request of a job, with a grant for what may run anywhere.
    fn submission(&self, job: &Job) -> Submission {
        let request = self.request(job);
        // Whoever is to hand parts on must be named: a grant to a policy names no key that could prove that it may.
        let anywhere = |f: &Fragment| f.inputs.is_empty() && f.owner.is_none() && f.delegates.is_none();
        let free: Vec<_> = request.indexed().filter(|(_, f)| anywhere(f)).map(|(i, _)| i).collect();
        let grants = if free.is_empty() { Vec::new() } else { vec![self.party.policy_grant(&request, &free)] };
        Submission { request, grants }
    }

    /// As [`Self::submit`], and the manager answers when the task ended or needs grants, or after `wait` seconds.
    ///
    /// # Errors
    /// The manager refuses it or cannot be reached.
    pub async fn submit_and_wait(&self, job: Job, holders: &[Arc<Party>], wait: u64) -> Result<Submitted, Failure> {
        let submission = self.submission(&job);
        let now = self.client.submit(&submission, wait).await?;
        let request = submission.request;
        let mut parties = vec![self.party.clone()];
        parties.extend(job.parts.iter().filter_map(|p| p.owner.clone()));
        parties.extend(holders.iter().cloned());
        parties.sort_by_key(|p| p.key());
        parties.dedup_by_key(|p| p.key());
        Ok(Submitted { task: TaskId::new(request.digest()), request, parties, builds_on: job.builds_on, now })
    }

    /// Follows a task to its end: grants what is needed, tells `watch` of every change, opens results, assembles the receipt.
    ///
    /// # Errors
    /// The task did not complete, or something of it does not hold.
    pub async fn follow(&self, submitted: Submitted, mut watch: impl FnMut(&TaskView)) -> Result<Outcome, Failure> {
        let Submitted { task, request, parties, builds_on, mut now } = submitted;
        let mut patience = STALE_MAX;
        loop {
            watch(&now.view);
            match &now.view.state {
                TaskState::Completed => break,
                TaskState::Live => {}
                ended => return Err(not_completed(task, ended, &now.view)),
            }
            let mut grants = Vec::new();
            for need in &now.needs {
                match self.trust.judge_need(&request, need, (self.clock)()) {
                    Ok(()) => patience = STALE_MAX,
                    // It lapsed on its way here, or clocks differ by a second: the next look shows a newer one.
                    Err(why) if why.check == "passport.dates" && patience > 0 => {
                        patience -= 1;
                        continue;
                    }
                    Err(why) => return Err(Failure::refused(Exit::Attestation, &why)),
                }
                for party in &parties {
                    let grant = party.grant(&request, need).map_err(|why| Failure::refused(Exit::Failure, &why))?;
                    grants.extend(grant);
                }
            }
            let next = if grants.is_empty() {
                self.client.task(task, WAIT).await
            } else {
                self.client.grant(task, &Grants { grants }, WAIT).await
            };
            now = match next {
                Ok(next) => next,
                // The task or the lease ended meanwhile, or the enclave was replaced: look again.
                Err(ClientError::Refused { why, .. }) if GONE.contains(&why.check.as_str()) => {
                    self.client.task(task, 0).await?
                }
                Err(error) => return Err(error.into()),
            };
            if !now.needs.is_empty() && now.view.state == TaskState::Live {
                // Grants that did not help would be given again at once.
                tokio::time::sleep(AGAIN).await;
            }
        }
        // Results are what the verified receipt says, never what the manager says.
        let receipt = self.receipt(task, &builds_on).await?;
        let verdict = receipt
            .verify(self.trust.anchors(), self.trust.judge())
            .map_err(|invalid| Failure::new(Exit::Receipt, format!("receipt of the task is not valid at {invalid}")))?;
        let mut results = Vec::new();
        for (index, left) in request.results().into_iter().zip(verdict.results) {
            results.push(match left {
                Some(left) => self.open(&request, &now.view, (index, &left), &parties, Direction::Output).await?,
                None => Zeroizing::new(Vec::new()),
            });
        }
        Ok(Outcome { task, view: now.view, results, receipt })
    }

    /// What a fragment left, opened by its owner; nothing when it left none.
    ///
    /// # Errors
    /// It cannot be fetched or opened.
    pub async fn open_left(
        &self,
        request: &Signed<Request>,
        view: &TaskView,
        index: FragmentIndex,
        parties: &[Arc<Party>],
        direction: Direction,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        let Some(fragment) = view.fragments.iter().find(|f| f.fragment == index) else { return Ok(None) };
        let left = if direction == Direction::Log { &fragment.log } else { &fragment.output };
        match left {
            Some(left) => self.open(request, view, (index, left), parties, direction).await.map(Some),
            None => Ok(None),
        }
    }

    /// Opens what a fragment left, with the key that the manager passes on: another key does not open it.
    async fn open(
        &self,
        request: &Signed<Request>,
        view: &TaskView,
        (index, left): (FragmentIndex, &OutputRef),
        parties: &[Arc<Party>],
        direction: Direction,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let missing = |what: &str| {
            let text = format!("what fragment {index} left cannot be opened: {what} is missing");
            Failure::new(Exit::Refused, text)
        };
        let spec = request.fragment(index).ok_or_else(|| missing("the fragment"))?;
        let fragment = view.fragments.iter().find(|f| f.fragment == index);
        let key = fragment.and_then(|f| f.keys.iter().find(|k| k.object == left.object));
        let key = key.ok_or_else(|| missing("its key"))?;
        let owner = request.owner_key(spec);
        let party = parties.iter().find(|p| p.key() == owner).ok_or_else(|| missing("its owner"))?;
        let ciphertext = self.client.get_object(&left.ciphertext).await?;
        party
            .open(request, index, left, key, direction, &ciphertext)
            .map_err(|why| Failure::refused(Exit::Refused, &why))
    }

    /// Assembles the receipt of a task that ended, closed over the receipts it builds on.
    ///
    /// # Errors
    /// The manager does not have it, or a piece is missing.
    pub async fn receipt(&self, task: TaskId, builds_on: &[Receipt]) -> Result<Receipt, Failure> {
        let pieces = self.client.receipt(task).await?;
        if pieces.task != task {
            let why = Rejection::new("client.receipt", "task of the receipt").expected(task).got(pieces.task);
            return Err(Failure::refused(Exit::Receipt, &why));
        }
        let envelopes = builds_on.iter().flat_map(|r| r.envelopes.iter().cloned()).chain(pieces.envelopes);
        let evidence = builds_on.iter().flat_map(|r| r.evidence.iter().cloned()).chain(pieces.evidence);
        let collateral = builds_on.iter().flat_map(|r| r.collateral.iter().cloned()).chain(pieces.collateral);
        // Its own first: there may be more behind it than a receipt has room for.
        let proofs = pieces.proofs.into_iter().chain(builds_on.iter().flat_map(|r| r.proofs.iter().cloned()));
        Receipt::assemble(pieces.task, pieces.revocations, pieces.roots, envelopes, evidence, collateral)
            .map(|receipt| receipt.with_proofs(proofs))
            .map_err(|why| Failure::refused(Exit::Receipt, &why))
    }
}

fn not_completed(task: TaskId, state: &TaskState, view: &TaskView) -> Failure {
    let see = format!("see `legation explain {}`", task.short());
    match state {
        TaskState::Failed { reason } => {
            let exit =
                if view.fragments.iter().any(|f| f.outcome.is_some()) { Exit::TaskFailed } else { Exit::NoEnclave };
            Failure::new(
                exit,
                format!(
                    "task {} failed: {reason}\n  {see}; its log: `legation task logs {}`",
                    task.short(),
                    task.short()
                ),
            )
        }
        TaskState::Cancelled => Failure::new(Exit::Refused, format!("task {} was cancelled", task.short())),
        TaskState::Expired => {
            let waiting = view.fragments.iter().filter(|f| f.phase == Phase::Queued).count();
            let exit = if waiting > 0 { Exit::NoEnclave } else { Exit::TaskFailed };
            Failure::new(
                exit,
                format!("task {} was not done in time ({waiting} fragments found no enclave); {see}", task.short()),
            )
        }
        TaskState::Live | TaskState::Completed => {
            Failure::new(Exit::Failure, format!("task {} has not failed", task.short()))
        }
    }
}

/// Reads a requirement from the command line.
///
/// # Errors
/// What is wrong, at which column.
pub fn parse_requirement(text: &str) -> Result<Requirement, Failure> {
    Requirement::parse(text).map_err(|e| Failure::new(Exit::Usage, format!("requirement is not understood: {e}")))
}

/// A request's age limit on the command line: when nothing else is said.
pub const LIFE_SECONDS: u64 = 600;

/// Dollars as people write them, exactly.
///
/// # Errors
/// Not a decimal number with six digits after the point at most.
pub fn parse_usd(text: &str) -> Result<MicroUsd, Rejection> {
    let bad = || Rejection::new("price", "an amount").expected("dollars, such as 0.05").got(text);
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    // `parse` would take a sign.
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if part.len() > 6 || !digits(part) || !digits(whole) {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let micro: u64 = format!("{part:0<6}").parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000).and_then(|w| w.checked_add(micro)).map(MicroUsd).ok_or_else(bad)
}

/// Where a client's time comes from.
pub fn now() -> UnixTime {
    (legation_manager::system_clock())()
}
