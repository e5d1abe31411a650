//! A verifier in this process: key, appointment, judge, policy, shelf and clock behind the [`Door`].
//!
//! Verdicts are made on threads that may block, as many at once as there are cores; the rest wait. Each takes one
//! snapshot of policy, shelf and time, so a verdict is of one moment. The order:
//!
//! 1. `challenge.*`: one of the challenges is ours and young;
//! 2. the judge's checks, with the shelf as it is: what is missing there is wanted from the keeper, and the refusal says
//!    when to try again;
//! 3. `admit.nonce`: the evidence is over the join of the challenges;
//! 4. the policy's checks; then the passport is signed.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use legation_attest::{
    Verifier,
    challenge::{self, ChallengeKey},
    passport,
    snp::{LeafKind, Product},
};
use legation_core::{
    Digest, Rejection, Signed, UnixTime,
    claims::{CollateralItem, Evidence, EvidenceJudge, Judged, Shelf, TeeKind},
    statement::{Appointment, KeyAttestation, Passport},
};
use legation_keys::IdentityKey;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    Appraisers, Clock, Current,
    activation::{self, Endorsements, TicketKey},
    collateral::{CollateralName, Wants},
    door::{Activation, Answer, Door, Issued, TpmKeys},
    metrics::Metrics,
    random,
};

/// What a verifier is made of.
pub struct Parts {
    /// What people call it.
    pub name: String,
    /// Its key.
    pub key: IdentityKey,
    /// The operator's appointment of that key.
    pub appointment: Signed<Appointment>,
    /// What judges evidence.
    pub judge: Arc<dyn EvidenceJudge + Send + Sync>,
    /// The policy in force.
    pub appraisers: Arc<Appraisers>,
    /// Collateral at hand; a [`Keeper`](crate::collateral::Keeper) keeps it.
    pub shelf: Arc<Current<Shelf>>,
    /// Who is told of collateral that is missing.
    pub wants: Option<Arc<dyn Wants>>,
    /// What replicas of this verifier recognise challenges and tickets by.
    pub challenge_secret: Zeroizing<[u8; 32]>,
    /// What activates TPMs; without it, TPMs get no credentials here.
    pub endorsements: Option<Arc<dyn Endorsements>>,
    /// The time.
    pub clock: Clock,
}

struct Inner {
    name: String,
    key: IdentityKey,
    appointment: Signed<Appointment>,
    judge: Arc<dyn EvidenceJudge + Send + Sync>,
    appraisers: Arc<Appraisers>,
    shelf: Arc<Current<Shelf>>,
    wants: OnceLock<Arc<dyn Wants>>,
    challenges: ChallengeKey,
    tickets: TicketKey,
    endorsements: Option<Arc<dyn Endorsements>>,
    clock: Clock,
    permits: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// A verifier in this process; cheap to clone.
#[derive(Clone)]
pub struct LocalVerifier(Arc<Inner>);

impl LocalVerifier {
    /// A verifier of these parts, using every core.
    pub fn new(parts: Parts) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let wants = parts.wants.map_or_else(OnceLock::new, OnceLock::from);
        Self(Arc::new(Inner {
            name: parts.name,
            key: parts.key,
            appointment: parts.appointment,
            judge: parts.judge,
            appraisers: parts.appraisers,
            shelf: parts.shelf,
            wants,
            challenges: ChallengeKey::new(&parts.challenge_secret),
            tickets: TicketKey::new(&parts.challenge_secret),
            endorsements: parts.endorsements,
            clock: parts.clock,
            permits: Arc::new(Semaphore::new(cores)),
            metrics: Metrics::new(),
        }))
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The policy in force, to be read or replaced.
    pub fn appraisers(&self) -> &Arc<Appraisers> {
        &self.0.appraisers
    }

    /// The time, as this verifier sees it.
    pub fn now(&self) -> UnixTime {
        (self.0.clock)()
    }

    /// What the evidence shows, whether the policy accepts it or not: for whoever wants to see and not to be let in.
    ///
    /// # Errors
    /// The first check of the judge that refuses.
    pub async fn judge(&self, evidence: Arc<Evidence>) -> Result<Judged, Rejection> {
        self.work(move |inner| {
            let judged = inner.judge.judge(&evidence, &inner.shelf.get(), (inner.clock)());
            judged.map_err(|why| inner.missing(why))
        })
        .await
    }

    /// Runs `job` on a thread that may block, when one of the cores is free.
    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Inner) -> Result<T, Rejection> + Send + 'static,
    ) -> Result<T, Rejection> {
        let defect = || Rejection::new("verifier.defect", "this verifier").got("the work did not end");
        let permit = Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| defect())?;
        let inner = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            job(&inner)
        });
        work.await.map_err(|_| defect())?
    }
}

impl Inner {
    fn verify(&self, evidence: &Evidence, challenges: &[Digest]) -> Result<Issued, Rejection> {
        let now = (self.clock)();
        self.challenges.check(challenges, now)?;
        let nonce = challenge::join(challenges);
        let (appraising, shelf) = (self.appraisers.get(), self.shelf.get());
        let verifier = Verifier {
            signer: &self.key,
            appointment: &self.appointment,
            judge: self.judge.as_ref(),
            policy: appraising.appraiser.as_ref(),
        };
        let passport = passport::admit(&verifier, evidence, &shelf, &nonce, now).map_err(|why| self.missing(why))?;
        self.want_lists(evidence, &passport, &shelf);
        let collateral = self.items(&passport, &shelf)?;
        Ok(Issued { passport, appointment: self.appointment.clone(), collateral })
    }

    /// The items a passport names.
    fn items(&self, passport: &Passport, shelf: &Shelf) -> Result<Vec<CollateralItem>, Rejection> {
        let find = |digest: &Digest| {
            shelf.by_digest(digest).map(|item| item.as_ref().clone()).ok_or_else(|| {
                Rejection::new("verifier.defect", "collateral of the passport")
                    .expected(format!("{digest} on the shelf"))
                    .got("none")
                    .fix("report it: a judge must name only what it was given")
            })
        };
        passport.collateral.iter().map(find).collect()
    }

    /// Wants the lists that would have been held against this evidence, had they been here. They are no condition of the
    /// judge's, so nothing refuses without them and nobody else would ask.
    fn want_lists(&self, evidence: &Evidence, passport: &Passport, shelf: &Shelf) {
        let amd = matches!(evidence.kind, TeeKind::SevSnp | TeeKind::AzSnpVtpm);
        let Some(wants) = self.wants.get().filter(|_| amd) else { return };
        let Ok(product) = passport.claims.product.value.parse::<Product>() else { return };
        const PROVIDER: &[u8] = b"SEV-VLEK";
        let leaf = evidence.endorsements.first().map(Vec::as_slice).unwrap_or_default();
        let provider = leaf.windows(PROVIDER.len()).any(|bytes| bytes == PROVIDER);
        let leaf = if provider { LeafKind::Provider } else { LeafKind::Chip };
        let name = CollateralName::AmdList { product, leaf }.to_string();
        if shelf.get(&name).is_none() {
            wants.want(&name);
        }
    }

    /// A refusal for want of collateral is answered by looking for it: its `expected` is the item's name.
    fn missing(&self, why: Rejection) -> Rejection {
        if why.check != "collateral.missing" {
            return why;
        }
        let by_hand = "bring it with `legation collateral import`";
        match self.wants.get().map(|wants| wants.want(&why.expected)) {
            Some(Some(seconds)) => why.fix(format!("being fetched: try again in {seconds} s")),
            Some(None) => why.fix(format!("no source here has such items; {by_hand}")),
            None => why.fix(format!("this verifier fetches nothing; {by_hand}")),
        }
    }

    fn endorsements(&self) -> Result<&dyn Endorsements, Rejection> {
        self.endorsements.as_deref().ok_or_else(|| {
            Rejection::new("activation.kind", "machines that this verifier activates")
                .expected("TPMs under roots of its anchor file")
                .got("no such root")
                .fix("name the TPM maker's root in the verifier's anchor file, or ask another verifier")
        })
    }
}

impl Door for LocalVerifier {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn appointment(&self) -> &Signed<Appointment> {
        &self.0.appointment
    }

    fn challenge(&self) -> Answer<'_, Digest> {
        Box::pin(async move { Ok(self.0.challenges.issue((self.0.clock)(), random::<8>()?)) })
    }

    fn verify(&self, evidence: Arc<Evidence>, challenges: Vec<Digest>) -> Answer<'_, Issued> {
        Box::pin(async move {
            let began = Instant::now();
            let answer = self.work(move |inner| inner.verify(&evidence, &challenges)).await;
            match &answer {
                Ok(issued) => self.0.metrics.issued(issued.passport.issued, began.elapsed()),
                Err(why) => self.0.metrics.refused(why, began.elapsed()),
            }
            answer
        })
    }

    fn activate(&self, keys: TpmKeys) -> Answer<'_, Activation> {
        Box::pin(async move {
            activation::check_size(&keys)?;
            self.work(move |inner| {
                let now = (inner.clock)();
                let secret = Zeroizing::new(random()?);
                let made = inner.endorsements()?.credential(&keys, &secret, now)?;
                let ticket = inner.tickets.issue(&keys, &secret, now);
                Ok(Activation { credential: made.id_object, secret: made.encrypted_secret, ticket })
            })
            .await
        })
    }

    fn attest_key(&self, keys: TpmKeys, ticket: Vec<u8>, secret: Digest) -> Answer<'_, Signed<KeyAttestation>> {
        Box::pin(async move {
            activation::check_size(&keys)?;
            self.work(move |inner| {
                let now = (inner.clock)();
                let secret = Zeroizing::new(*secret.as_bytes());
                inner.tickets.check(&ticket, &keys, &secret, now)?;
                inner.endorsements()?.attest(&keys, &secret, &inner.key, &inner.appointment, now)
            })
            .await
        })
    }
}

impl std::fmt::Debug for LocalVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalVerifier({})", self.0.name)
    }
}
