//! The driver: carries what is said of ceremonies between the machine and the manager, one thing after the other. Mathematics and disks are
//! waited for on threads that may wait.

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use legation_core::{Signer, SwarmName};
use legation_keys::{Entropy, IdentityKey};
use legation_net::{
    OsEntropy, SendError,
    custody::CustodyNews,
    message::{ToAgent, ToManager},
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use zeroize::Zeroizing;

use super::{
    judge::Standing,
    keep::{InMemory, Keep, KeepError},
    member::{Hands, Machine, Member, MemberError, Notice, Turn},
};
use crate::{
    agent::Inner,
    attester::Attester,
    config::CustodyConfig,
    passports::Admitted,
    session::Link,
    state::{State, StateConfig, StateError},
    status::Status,
};

/// Between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// News that wait to be heard: there is one answer to a question, and any number of changes are one.
const HEARD_MAX: usize = 8;

/// Why an agent is no custodian although it is set up as one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// Its sealed state cannot be had.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is in it cannot be read.
    #[error(transparent)]
    Member(#[from] MemberError),
}

/// What the machine is driven by.
pub(crate) enum Input {
    /// There is another channel.
    Connected,
    /// Ceremonies went on.
    Changed,
    /// How far they are.
    News(Box<CustodyNews>),
    /// Time has passed.
    Tick,
}

/// Where sessions leave what they heard.
pub(crate) struct Desk {
    swarm: SwarmName,
    heard: mpsc::Sender<Input>,
    seat: Mutex<Option<Seat>>,
}

/// The machine with its hands, and what it hears.
struct Seat {
    machine: Box<(Member, Own)>,
    heard: mpsc::Receiver<Input>,
}

/// The hands of this agent's machine.
struct Own {
    identity: Arc<IdentityKey>,
    entropy: OsEntropy,
    keeper: Keeper,
}

enum Keeper {
    Memory(InMemory),
    Sealed(Box<Sealed>),
}

/// Keeps in sealed state, together with the identity by which committees know this boot.
struct Sealed {
    state: State,
    identity: Arc<IdentityKey>,
}

impl Keep for Sealed {
    fn load(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, KeepError> {
        self.state.load()
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        // Whoever finds a share finds the identity that it is of.
        self.state.keep_identity(&self.identity).map_err(|error| KeepError(error.to_string()))?;
        self.state.store(bytes)
    }
}

impl Hands for Own {
    fn signer(&self) -> &dyn Signer {
        &*self.identity
    }

    fn entropy(&mut self) -> &mut dyn Entropy {
        &mut self.entropy
    }

    fn keep(&mut self) -> &mut dyn Keep {
        match &mut self.keeper {
            Keeper::Memory(memory) => memory,
            Keeper::Sealed(sealed) => &mut **sealed,
        }
    }
}

impl Desk {
    /// Opens what was kept, if it is kept anywhere. Blocks as [`State::open`].
    ///
    /// # Errors
    /// It cannot be had.
    pub(crate) fn open(
        config: &CustodyConfig,
        state: Option<&StateConfig>,
        identity: Arc<IdentityKey>,
        attester: &dyn Attester,
    ) -> Result<Self, CustodyError> {
        let swarm = config.swarm.clone();
        let keeper = match state {
            Some(state) => {
                let state = State::open(state, &format!("custody.{swarm}"), attester)?;
                Keeper::Sealed(Box::new(Sealed { state, identity: identity.clone() }))
            }
            None => {
                tracing::warn!(%swarm, "a custodian without `[state]`: a restart loses its share of the swarm key");
                Keeper::Memory(InMemory::default())
            }
        };
        let mut own = Own { identity, entropy: OsEntropy, keeper };
        let member = Member::start(swarm.clone(), &mut own)?;
        let (heard, inbox) = mpsc::channel(HEARD_MAX);
        let seat = Seat { machine: Box::new((member, own)), heard: inbox };
        Ok(Self { swarm, heard, seat: Mutex::new(Some(seat)) })
    }

    /// The machine, for the one who drives it.
    fn take(&self) -> Option<Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Leaves what a session heard for the driver. What finds no room is asked for again.
pub(crate) fn hear(agent: &Inner, message: ToAgent) {
    let (swarm, input) = match message {
        ToAgent::CustodyChanged { swarm } => (swarm, Input::Changed),
        ToAgent::Custody(news) => (news.swarm.clone(), Input::News(news)),
        _ => return,
    };
    match agent.custody.as_ref().filter(|desk| desk.swarm == swarm) {
        Some(desk) => {
            if desk.heard.try_send(input).is_err() {
                tracing::debug!(%swarm, "news of ceremonies find no room: they are asked for again");
            }
        }
        None => tracing::warn!(%swarm, "news of a swarm key that this agent does not help to keep: ignored"),
    }
}

/// Takes part in ceremonies, for ever; where this agent is no custodian, in none.
pub(crate) async fn work(agent: Arc<Inner>) -> Infallible {
    let Some(Seat { machine, mut heard }) = agent.custody.as_ref().and_then(Desk::take) else {
        return pending().await;
    };
    let mut machine = Some(machine);
    let mut links = agent.link.subscribe();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let link = agent.linked().await;
        let mut input = Input::Connected;
        while is_up(&mut links, &link) {
            let Some(here) = machine.take() else { return gave_up().await };
            let Some((here, turn)) = step(&agent, here, input).await else { return gave_up().await };
            machine = Some(here);
            if let Err(error) = say(&agent, &link, turn).await {
                tracing::debug!(%error, "what is said in ceremonies waits for the next connection");
                break;
            }
            input = tokio::select! {
                Some(input) = heard.recv() => input,
                _ = ticks.tick() => Input::Tick,
            };
        }
        // A link that failed is still there for a moment.
        ticks.tick().await;
    }
}

/// Whether this is still the connection on which the agent is present.
fn is_up(links: &mut watch::Receiver<Option<Arc<Link>>>, link: &Arc<Link>) -> bool {
    links.borrow_and_update().as_ref().is_some_and(|current| Arc::ptr_eq(current, link))
}

/// The machine panicked: what it would say next, nobody knows.
async fn gave_up() -> Infallible {
    tracing::error!(
        "the custodian of this agent has failed: it takes no part in ceremonies until the agent is started again"
    );
    pending().await
}

/// One turn of the machine, on a thread that may wait.
async fn step(agent: &Arc<Inner>, machine: Box<(Member, Own)>, input: Input) -> Option<(Box<(Member, Own)>, Turn)> {
    let agent = agent.clone();
    let turn = spawn_blocking(move || {
        let mut machine = machine;
        let (member, own) = &mut *machine;
        let revoked = agent.revocations.all();
        let standing = Standing {
            operators: &agent.config.operators,
            revoked: &revoked,
            passport: agent.admitted().as_ref().map(Admitted::digest),
            now: agent.now(),
        };
        let turn = match input {
            Input::Connected => member.connect(&standing),
            Input::Changed => member.change(&standing),
            Input::News(news) => member.hear(&news, &standing, own),
            Input::Tick => member.tick(&standing, own),
        };
        tidy(member, own, &turn);
        (machine, turn)
    });
    turn.await.ok()
}

/// Forgets identities of earlier boots that have no shares any more.
fn tidy(member: &Member, own: &mut Own, turn: &Turn) {
    let erased = |notice: &Notice| matches!(notice, Notice::GaveOver { .. } | Notice::Holds { .. });
    if let Keeper::Sealed(sealed) = &mut own.keeper
        && turn.notices.iter().any(erased)
    {
        let current = sealed.identity.public_key();
        if let Err(error) = sealed.state.forget_identities(|key| key == current || member.keeps(key)) {
            tracing::warn!(%error, "identities of earlier boots stay in the sealed state");
        }
    }
}

/// Tells what happened, and says what is to be said.
async fn say(agent: &Inner, link: &Link, turn: Turn) -> Result<(), SendError> {
    let Some(swarm) = agent.custody.as_ref().map(|desk| desk.swarm.clone()) else { return Ok(()) };
    for notice in turn.notices {
        agent.tell(Status::Custody { swarm: swarm.clone(), notice });
    }
    for word in turn.words {
        tracing::debug!(%swarm, kind = %word.kind(), "says its part in a ceremony");
        link.sender.send_control(&ToManager::Custody(Box::new(word))).await?;
    }
    match turn.ask {
        Some(ask) => link.sender.send_control(&ToManager::AskCustody { swarm, open: ask.open, past: ask.past }).await,
        None => Ok(()),
    }
}
