//! The background service that keeps the shelf: what is wanted is fetched, what is due is refreshed, what is stale is told.
//!
//! * An item is looked for again after [`KeeperConfig::refresh_seconds`], or a quarter of its life before its next update,
//!   whichever comes first, a little earlier by chance; never sooner than [`KeeperConfig::minimum_seconds`].
//! * Sources are tried in their order, endpoints of a source in theirs. An endpoint that does not answer is left alone
//!   for a while that doubles; an answer that is refused is held against the item there, not against the endpoint.
//! * Names come from evidence that nobody has verified yet: at most [`WANTED_MAX`] of items that are not here are
//!   remembered, and those that failed most often are forgotten first.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_core::{Rejection, UnixTime, claims::Shelf};
use tokio::sync::{Notify, watch};

use super::{
    check::{Checker, Dates},
    endpoint::Endpoint,
    name::CollateralName,
    source::{self, ENDPOINTS_MAX, SourceConfig, SourceKind},
    state::{ItemState, ItemStatus, refresh_before},
    store::{Put, Store, StoreError},
};
use crate::{
    Clock, Current,
    http::{Authorities, Http, Tls},
};

/// Most items that are wanted, not here, and not named in the configuration.
pub const WANTED_MAX: usize = 256;
/// Deadline of one request to a source.
const REQUEST: Duration = Duration::from_secs(20);
/// Items that somebody only asked for, fetched in one round.
const STRANGERS_IN_A_ROUND: usize = 8;
/// Seconds between two rounds in which some are fetched.
const STRANGERS_SECONDS: u64 = 2;
/// First and longest pause after an item was not got, in seconds.
const PAUSE_SECONDS: (u64, u64) = (15, 3600);
/// How often the folder is looked at for changes by others, and stale items are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How often people are reminded of a stale item, in seconds.
const REMIND_SECONDS: u64 = 3600;

/// What a keeper is told.
#[derive(Clone, Debug)]
pub struct KeeperConfig {
    /// Folder of the [`Store`].
    pub dir: PathBuf,
    /// How long past its next update an item is still taken, in seconds.
    pub grace_seconds: u64,
    /// Longest time until an item is looked for again, in seconds.
    pub refresh_seconds: u64,
    /// Shortest time until the same item is asked for again, in seconds.
    pub minimum_seconds: u64,
    /// Where items come from, in the order they are tried.
    pub sources: Vec<SourceConfig>,
    /// Items that are kept whether evidence asks for them or not.
    pub keep: Vec<String>,
    /// Whose certificates sources over HTTPS show.
    pub authorities: Authorities,
}

/// Tells a keeper what evidence asks for.
pub trait Wants: Send + Sync {
    /// Wants an item; returns in how many seconds to try again, or nothing when no source has such items.
    fn want(&self, name: &str) -> Option<u64>;
}

/// What one round did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Round {
    /// Items that were got, new or not.
    pub got: usize,
    /// Items that were not.
    pub failed: usize,
    /// When the next one is due.
    pub next: Option<UnixTime>,
}

#[derive(Debug)]
struct Wanted {
    name: CollateralName,
    /// Named in the configuration, or on the shelf.
    kept: bool,
    next_try: UnixTime,
    failures: u32,
    problem: Option<String>,
}

struct Source {
    kind: SourceKind,
    root_list: Option<String>,
    endpoints: Mutex<Vec<Endpoint>>,
}

/// Keeps the shelf.
pub struct Keeper {
    config: KeeperConfig,
    store: Arc<Mutex<Store>>,
    shelf: Arc<Current<Shelf>>,
    checker: Arc<Checker>,
    sources: Vec<Source>,
    http: Http,
    clock: Clock,
    wanted: Mutex<BTreeMap<String, Wanted>>,
    /// When items that somebody only asked for were last fetched.
    strangers_at: Mutex<Option<UnixTime>>,
    reminded: Mutex<BTreeMap<String, (ItemState, UnixTime)>>,
    wake: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Opens the folder and puts what is in it on the shelf.
    ///
    /// # Errors
    /// `collateral.source` or `http.*` for a source that makes no sense, `collateral.name` for a name to keep,
    /// `collateral.disk`.
    pub fn open(config: KeeperConfig, checker: Checker, clock: Clock) -> Result<Self, Rejection> {
        let sources = config.sources.iter().map(open_source).collect::<Result<Vec<_>, _>>()?;
        let mut urls: Vec<String> = Vec::new();
        for source in sources.iter().filter(|s| s.kind != SourceKind::Files) {
            urls.extend(lock(&source.endpoints).iter().map(|e| e.base.clone()));
            urls.extend(source.root_list.clone());
        }
        let http = Http::new(&config.authorities, Tls::Vendors, &urls, REQUEST)?;
        let now = clock();
        let store = Store::open(&config.dir, &checker, now).map_err(StoreError::refusal)?;
        let keeper = Self {
            shelf: Arc::new(Current::new(store.shelf())),
            store: Arc::new(Mutex::new(store)),
            checker: Arc::new(checker),
            sources,
            http,
            clock,
            wanted: Mutex::default(),
            strangers_at: Mutex::default(),
            reminded: Mutex::default(),
            wake: Notify::new(),
            config,
        };
        for name in &keeper.config.keep {
            let parsed: CollateralName = name.parse()?;
            lock(&keeper.wanted).insert(name.clone(), Wanted::new(parsed, true, now));
        }
        keeper.take_up(now);
        Ok(keeper)
    }

    /// What judges read.
    pub fn shelf(&self) -> &Arc<Current<Shelf>> {
        &self.shelf
    }

    /// Seconds past its next update for which an item is taken.
    pub fn grace_seconds(&self) -> u64 {
        self.config.grace_seconds
    }

    /// Fetches whatever is due, one item after the other.
    pub async fn round(&self) -> Round {
        let now = (self.clock)();
        self.look(now).await;
        let mut due: Vec<_> = {
            let wanted = lock(&self.wanted);
            let due = wanted.values().filter(|w| w.next_try <= now);
            // What machines of the pool need goes before what somebody only asked for.
            due.map(|w| (!w.kept, w.failures, w.name.clone())).collect()
        };
        due.sort_by_key(|(stranger, failures, _)| (*stranger, *failures));
        // The rest of them waits for the next round: what is kept may come due meanwhile.
        let kept = due.iter().filter(|(stranger, ..)| !stranger).count();
        let strangers = if due.len() > kept { self.strangers(now) } else { 0 };
        due.truncate(kept.saturating_add(strangers));
        let (mut got, mut failed) = (0, 0);
        for (_, _, name) in due {
            match self.fetch(&name).await {
                Ok(_) => got += 1,
                Err(_) => failed += 1,
            }
        }
        self.remind((self.clock)());
        let next = lock(&self.wanted).values().map(|w| w.next_try).min();
        Round { got, failed, next }
    }

    /// How many items that somebody only asked for may be fetched now: a few, and then none for a while.
    fn strangers(&self, now: UnixTime) -> usize {
        let mut last = lock(&self.strangers_at);
        if last.is_some_and(|at| at <= now && now.since(at) < STRANGERS_SECONDS) {
            return 0;
        }
        *last = Some(now);
        STRANGERS_IN_A_ROUND
    }

    /// Runs rounds until `stop` says so.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let round = self.round().await;
            let until = round.next.map_or(LOOK.as_secs(), |next| next.since((self.clock)()));
            let pause = Duration::from_secs(until).clamp(Duration::from_secs(1), LOOK);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                changed = stop.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Fetches one item now, whether it is due or not.
    ///
    /// # Errors
    /// `collateral.unavailable` with what each source said.
    pub async fn fetch(&self, name: &CollateralName) -> Result<(), Rejection> {
        let text = name.to_string();
        let now = (self.clock)();
        let mut said: Vec<String> = Vec::new();
        for source in self.sources.iter().filter(|s| s.kind.serves(name)) {
            let bases: Vec<_> =
                lock(&source.endpoints).iter().enumerate().map(|(i, e)| (i, e.base.clone(), e.retry_at())).collect();
            for (index, base, retry_at) in bases {
                if now < retry_at {
                    said.push(format!("{base}: left alone until {retry_at}"));
                    continue;
                }
                match source::fetch(&self.http, source.kind, &base, source.root_list.as_deref(), name).await {
                    Ok(bytes) => {
                        source.endpoint(index, Endpoint::answered);
                        match self.put(name, bytes, &format!("{} {base}", source.kind.name())).await {
                            Ok((put, dates)) => {
                                self.got(&text, name, &dates, now);
                                tracing::info!(item = text, from = base, ?put, next_update = %dates.next_update(), "collateral");
                                return Ok(());
                            }
                            Err(why) => said.push(format!("{base}: {why}")),
                        }
                    }
                    Err(failed) => {
                        // Whoever asks for many items must not make us turn from the vendor that kept ones come from.
                        let stranger = lock(&self.wanted).get(&text).is_some_and(|wanted| !wanted.kept);
                        if failed.endpoint && !stranger {
                            source.endpoint(index, |e| e.failed(now, failed.retry_after, chance()));
                        }
                        said.push(failed.why);
                    }
                }
            }
        }
        if said.is_empty() {
            said.push("no source has such items".to_owned());
        }
        let said = said.join("; ");
        self.not_got(&text, name, &said, now);
        tracing::warn!(item = text, why = said, "collateral was not got");
        Err(Rejection::new("collateral.unavailable", format!("collateral {text}"))
            .expected("an answer of one of the sources that passes every check")
            .got(said)
            .fix("see to the sources, or bring the item with `legation collateral import`"))
    }

    /// Puts an item in by hand.
    ///
    /// # Errors
    /// The checks of [`super`], or the disk.
    pub async fn import(&self, name: &CollateralName, bytes: Vec<u8>, source: &str) -> Result<(), Rejection> {
        let (_, dates) = self.put(name, bytes, source).await?;
        self.got(&name.to_string(), name, &dates, (self.clock)());
        Ok(())
    }

    async fn put(&self, name: &CollateralName, bytes: Vec<u8>, source: &str) -> Result<(Put, Dates), Rejection> {
        let (store, checker, shelf) = (Arc::clone(&self.store), Arc::clone(&self.checker), Arc::clone(&self.shelf));
        let (name, source, now) = (name.clone(), source.to_owned(), (self.clock)());
        let work = tokio::task::spawn_blocking(move || {
            let mut store = lock(&store);
            let put = store.put(&name, bytes, &source, &checker, now)?;
            if put != Put::Same {
                shelf.set(store.shelf());
            }
            let dates = store.items().get(&name.to_string()).map(|kept| kept.dates.clone());
            Ok::<_, StoreError>((put, dates))
        });
        let defect = || Rejection::new("collateral.defect", "folder of the collateral").got("the work did not end");
        let (put, dates) = work.await.map_err(|_| defect())?.map_err(StoreError::refusal)?;
        Ok((put, dates.ok_or_else(defect)?))
    }

    /// Takes up what others put into the folder.
    async fn look(&self, now: UnixTime) {
        let (store, checker, shelf) = (Arc::clone(&self.store), Arc::clone(&self.checker), Arc::clone(&self.shelf));
        let work = tokio::task::spawn_blocking(move || {
            let mut store = lock(&store);
            let changed = store.refresh(&checker, now)?;
            if changed {
                shelf.set(store.shelf());
            }
            Ok::<_, StoreError>(changed)
        });
        match work.await {
            Ok(Ok(true)) => {
                tracing::info!("the folder of collateral was changed by another; taken up");
                self.take_up(now);
            }
            Ok(Err(why)) => tracing::error!(%why, "the folder of collateral cannot be read; the shelf stays as it is"),
            Ok(Ok(false)) | Err(_) => {}
        }
    }

    /// Sees to it that everything on the shelf is refreshed.
    fn take_up(&self, now: UnixTime) {
        let store = lock(&self.store);
        let mut wanted = lock(&self.wanted);
        for (text, kept) in store.items() {
            let Ok(name) = text.parse::<CollateralName>() else { continue };
            if is_final(&name) {
                continue;
            }
            let next = self.next_try(&kept.dates, kept.fetched, now);
            let entry = wanted.entry(text.clone()).or_insert_with(|| Wanted::new(name, true, next));
            (entry.kept, entry.next_try) = (true, next);
        }
    }

    fn got(&self, text: &str, name: &CollateralName, dates: &Dates, now: UnixTime) {
        let next = self.next_try(dates, now, now);
        let mut wanted = lock(&self.wanted);
        if is_final(name) {
            wanted.remove(text);
            return;
        }
        let entry = wanted.entry(text.to_owned()).or_insert_with(|| Wanted::new(name.clone(), true, next));
        *entry = Wanted { kept: true, next_try: next, failures: 0, problem: None, name: name.clone() };
    }

    fn not_got(&self, text: &str, name: &CollateralName, said: &str, now: UnixTime) {
        let endpoints = self.sources.iter().filter(|s| s.kind.serves(name)).flat_map(|s| {
            let retries: Vec<_> = lock(&s.endpoints).iter().map(Endpoint::retry_at).collect();
            retries
        });
        // Nothing can come before the first endpoint may be asked again.
        let earliest = endpoints.min().unwrap_or(now);
        let mut wanted = lock(&self.wanted);
        let Some(entry) = wanted.get_mut(text) else { return };
        let pause = PAUSE_SECONDS.0.saturating_mul(1 << entry.failures.min(10)).min(PAUSE_SECONDS.1);
        entry.failures = entry.failures.saturating_add(1);
        entry.next_try = now.plus(pause - pause / 4 * u64::from(chance()) / 255).max(earliest);
        entry.problem = Some(said.to_owned());
    }

    /// When an item that was last seen at `fetched` is looked for again.
    fn next_try(&self, dates: &Dates, fetched: UnixTime, now: UnixTime) -> UnixTime {
        let next_update = dates.next_update();
        let due = next_update.minus(refresh_before(dates.issued().min(next_update), next_update));
        let usual = fetched.plus(self.config.refresh_seconds).min(due).max(fetched.plus(self.config.minimum_seconds));
        // Up to a tenth earlier, so that replicas do not ask all at once.
        let early = usual.since(now) / 10 * u64::from(chance()) / 255;
        usual.minus(early).max(fetched.plus(self.config.minimum_seconds))
    }

    /// Every item that is kept or wanted, by name.
    pub fn status(&self) -> Vec<ItemStatus> {
        let now = (self.clock)();
        let store = lock(&self.store);
        let wanted = lock(&self.wanted);
        let mut all: BTreeMap<&str, ItemStatus> = BTreeMap::new();
        for (name, want) in wanted.iter() {
            all.insert(
                name,
                ItemStatus {
                    name: name.clone(),
                    state: ItemState::Missing,
                    source: None,
                    fetched: None,
                    issued: None,
                    next_update: None,
                    next_try: Some(want.next_try),
                    problem: want.problem.clone(),
                },
            );
        }
        for (name, kept) in store.items() {
            let (issued, next_update) = (kept.dates.issued(), kept.dates.next_update());
            let want = wanted.get(name);
            all.insert(
                name,
                ItemStatus {
                    name: name.clone(),
                    state: ItemState::of(issued, next_update, self.config.grace_seconds, now),
                    source: Some(kept.source.clone()),
                    fetched: Some(kept.fetched),
                    issued: Some(issued),
                    next_update: Some(next_update),
                    next_try: want.map(|w| w.next_try),
                    problem: want.and_then(|w| w.problem.clone()),
                },
            );
        }
        all.into_values().collect()
    }

    /// What people should be told: one line for each stale item.
    pub fn warnings(&self) -> Vec<String> {
        self.status().iter().filter_map(ItemStatus::warning).collect()
    }

    /// Warns when an item becomes stale, when it expires, and every hour.
    fn remind(&self, now: UnixTime) {
        let mut reminded = lock(&self.reminded);
        for item in self.status() {
            let Some(warning) = item.warning() else {
                if reminded.remove(&item.name).is_some() {
                    tracing::info!(item = item.name, "collateral is current again");
                }
                continue;
            };
            let known = reminded.get(&item.name);
            if known.is_none_or(|(state, at)| *state != item.state || at.plus(REMIND_SECONDS) <= now) {
                tracing::warn!("{warning}");
                reminded.insert(item.name.clone(), (item.state, now));
            }
        }
    }
}

/// Whether an item never changes: a chip's certificate for one security version.
fn is_final(name: &CollateralName) -> bool {
    matches!(name, CollateralName::Vcek(_))
}

impl Wants for Keeper {
    fn want(&self, name: &str) -> Option<u64> {
        let parsed: CollateralName = name.parse().ok()?;
        if !self.sources.iter().any(|s| s.kind.serves(&parsed)) {
            return None;
        }
        let now = (self.clock)();
        let mut wanted = lock(&self.wanted);
        if !wanted.contains_key(name) {
            let strangers = wanted.iter().filter(|(_, w)| !w.kept);
            if strangers.clone().count() >= WANTED_MAX {
                let worst = strangers.max_by_key(|(_, w)| w.failures).filter(|(_, w)| w.failures > 0);
                let worst = worst.map(|(name, _)| name.clone());
                // All of them are new: whoever floods us waits.
                let Some(worst) = worst else { return Some(PAUSE_SECONDS.1) };
                wanted.remove(&worst);
            }
            wanted.insert(name.to_owned(), Wanted::new(parsed, false, now));
            self.wake.notify_one();
        }
        wanted.get(name).map(|w| w.next_try.since(now).max(2))
    }
}

impl Wanted {
    fn new(name: CollateralName, kept: bool, next_try: UnixTime) -> Self {
        Self { name, kept, next_try, failures: 0, problem: None }
    }
}

impl Source {
    fn endpoint(&self, index: usize, change: impl FnOnce(&mut Endpoint)) {
        if let Some(endpoint) = lock(&self.endpoints).get_mut(index) {
            change(endpoint);
        }
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keeper({}, {} sources)", self.config.dir.display(), self.sources.len())
    }
}

fn open_source(config: &SourceConfig) -> Result<Source, Rejection> {
    let refuse = |expected: &str, got: String| {
        Rejection::new("collateral.source", format!("source of kind {}", config.kind.name()))
            .expected(expected)
            .got(got)
            .fix("see docs/collateral.md for the forms of a source")
    };
    let bases: Vec<String> = match (config.kind, &config.dir) {
        (SourceKind::Files, Some(dir)) if config.urls.is_empty() => vec![dir.to_string_lossy().into_owned()],
        (SourceKind::Files, _) => return Err(refuse("`dir` and no `urls`", "another".to_owned())),
        (_, Some(_)) => return Err(refuse("`urls` and no `dir`", "`dir`".to_owned())),
        (SourceKind::Intel, None) if config.urls.is_empty() => vec![source::INTEL_URL.to_owned()],
        (SourceKind::Amd, None) if config.urls.is_empty() => vec![source::AMD_URL.to_owned()],
        (_, None) => config.urls.clone(),
    };
    if bases.is_empty() || bases.len() > ENDPOINTS_MAX {
        return Err(refuse(&format!("1 to {ENDPOINTS_MAX} URLs"), bases.len().to_string()));
    }
    let root_list = match config.kind {
        SourceKind::Intel if config.urls.is_empty() => {
            Some(config.root_list.clone().unwrap_or_else(|| source::INTEL_ROOT_LIST.to_owned()))
        }
        _ => config.root_list.clone(),
    };
    let endpoints = Mutex::new(bases.into_iter().map(Endpoint::new).collect());
    Ok(Source { kind: config.kind, root_list, endpoints })
}

/// A byte of chance, for pauses. Without randomness there is none: that is no secret.
fn chance() -> u8 {
    crate::random::<1>().map_or(0, |[byte]| byte)
}
