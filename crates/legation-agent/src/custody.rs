//! A custodian: how this agent comes by a share of a swarm key, hands it on, and keeps it ([`legation_core::custody`], [`legation_keys::swarm`]).
//!
//! It is *not* where anything is released, nor who decides which committee is called: the manager calls by the operator's charter, and each
//! member judges for itself.
//!
//! * [`Member`]: the machine, without I/O. [`Hands`] is what it may do, [`Machine`] what its driver may do with it.
//! * `judge`: whether to take part, and with whom. [`Standing`] is what it knows for that.
//! * `followed`: one ceremony, made again of the manager's pages. `kept`: the format of what is stored.
//! * [`keep`]: where that is stored; [`crate::state`] does so over restarts.
//! * `work`: the driver of this agent.
//!
//! A boot is a new enclave. One that comes back has the shares of the boot before in its state and in no committee: it keeps them until a
//! committee is in force that follows, and says nothing with them.

mod followed;
mod judge;
pub mod keep;
mod kept;
mod member;
pub(crate) mod work;

pub use self::{
    judge::Standing,
    member::{AGAIN, Ask, Hands, Machine, Member, MemberError, Notice, Turn},
    work::CustodyError,
};
