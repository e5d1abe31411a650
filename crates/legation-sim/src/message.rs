//! What nodes say to each other. Between agents and managers that is what the product itself says ([`legation_net::message`]);
//! API and store are spoken to by the calls below.

use std::{fmt, rc::Rc};

use legation_core::{
    Digest, EnclaveId, KeyId, LeaseId, Rejection, Revocable, Revoked, Seq, Signed, TaskId, Term,
    claims::Evidence,
    custody::{Board, Charter, Committee, CustodyCall, CustodyWord, Said},
    statement::{Grant, Request},
    task::WrappedKey,
};
use legation_net::message::{ToAgent, ToManager};
use legation_pool::{Command, IdempotencyKey, Needs, TaskState};

use crate::{keys::Key, statements::Machine};

/// Somebody who can be sent something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Node {
    Store,
    Manager(usize),
    Agent(usize),
    Client(usize),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("store"),
            Self::Manager(n) => write!(f, "manager {n}"),
            Self::Agent(n) => write!(f, "agent {n}"),
            Self::Client(n) => write!(f, "client {n}"),
        }
    }
}

/// Name of a connection.
pub(crate) type Connection = u64;

/// Something that travels.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// From an agent.
    Up { connection: Connection, say: Rc<Up> },
    /// To an agent.
    Down { connection: Connection, say: Rc<Down> },
    /// One end of a connection notices that it has ended.
    Ended { connection: Connection, why: &'static str },
    /// From a client, or an operator.
    Call { number: u64, call: Rc<Call> },
    /// To a client.
    Answer { number: u64, answer: Rc<Answer> },
}

/// How much of a board somebody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) call: Digest,
    pub(crate) words: usize,
}

impl Seen {
    pub(crate) fn of(board: &Board) -> Self {
        Self { call: board.call().digest(), words: board.words().len() }
    }
}

/// A board, from one of its words on.
#[derive(Debug)]
pub(crate) struct BoardNews {
    pub(crate) call: Signed<CustodyCall>,
    /// That the call is by.
    pub(crate) charter: Signed<Charter>,
    pub(crate) before: Option<Committee>,
    pub(crate) from: usize,
    pub(crate) words: Vec<Said>,
}

/// What there is of the ceremonies beyond what was asked with. (The product's has pages, and passports of members.)
#[derive(Debug)]
pub(crate) struct CustodyNews {
    pub(crate) open: Option<BoardNews>,
    pub(crate) past: Option<BoardNews>,
}

/// What an agent says.
#[derive(Debug)]
pub(crate) enum Up {
    /// Evidence of a boot, with what a verifier would find in it.
    Attest { evidence: Evidence, boot: Key, machine: Machine },
    /// It is present: the enclave that its channel proves, what it still works on, and what it obeyed.
    Present { enclave: EnclaveId, running: Vec<LeaseId>, obeyed: (Term, Seq) },
    /// What is new of the ceremonies of the swarm key, beyond what it knows of those that are open and past?
    AskCustody { open: Option<Seen>, past: Option<Seen> },
    /// A word of a ceremony. It is answered by the board.
    Custody(Box<CustodyWord>),
    /// What the product's agents say otherwise.
    Say(Box<ToManager>),
}

/// What a manager says to an agent.
#[derive(Debug)]
pub(crate) enum Down {
    /// What the product's managers say.
    Say(Box<ToAgent>),
    /// What is revoked. (The product sends a signed list; here it is the list.)
    Revocations(Rc<Revoked>),
    /// The ceremonies of the swarm key went on: ask.
    CustodyChanged,
    /// The answer.
    Custody(Box<CustodyNews>),
    /// The channel is closed.
    Close(Rejection),
}

impl Down {
    /// Whether it is about a swarm key.
    pub(crate) fn is_custody(&self) -> bool {
        matches!(self, Self::CustodyChanged | Self::Custody(_))
    }

    /// Whether it offers work.
    pub(crate) fn is_offer(&self) -> bool {
        matches!(self, Self::Say(message) if matches!(**message, ToAgent::Offer(_)))
    }
}

/// What the API is asked.
#[derive(Debug)]
pub(crate) enum Call {
    /// A task.
    Submit { request: Signed<Request>, grants: Vec<Signed<Grant>>, idempotency: IdempotencyKey },
    /// How a task stands, and what it needs.
    View { task: TaskId },
    /// A grant.
    Grant { grant: Signed<Grant>, keys: Vec<WrappedKey> },
    /// The end of a task.
    Cancel { task: TaskId },
    /// An operator's.
    Revoke { what: Revocable, why: String },
    /// An operator's.
    Drain { enclave: EnclaveId },
    /// An operator's: a cordon, an account, a reservation.
    Operate(Box<Command>),
    /// A verifier's.
    Withdraw { enclave: EnclaveId, verifier: KeyId },
}

/// What the API answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Done, durably, up to this position.
    Done(Seq),
    /// How a task stands.
    View { state: TaskState, needs: Vec<Needs> },
    /// Why not.
    Refused(Rejection),
}

/// What is to happen on a node by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    /// A manager: its keeper has something to do.
    Keep,
    /// A manager: its keeper's calls to the store have come back.
    Came,
    /// A manager: time passes for the pool.
    Tick,
    /// The store: it comes to an append that nobody waits for any more.
    Late { number: u64 },
    /// A leader: losses that could not be recorded are tried again.
    Losses,
    /// An agent: connects, or gives a connection up that does not come about.
    Connect { connection: Connection },
    /// An agent: attests again.
    Renew { connection: Connection },
    /// An agent: a run ends.
    Finish { lease: u64 },
    /// An agent: asks for an enclave.
    Borrow { lease: u64 },
    /// An agent: gives an enclave back.
    GiveBack { lease: u64 },
    /// An agent: asks how the swarm key stands.
    Custody,
    /// An agent: lies.
    Lie,
    /// A client: looks after one of its jobs.
    Look { job: usize, turn: u32 },
    /// Whoever is down: comes back.
    Restart,
}
