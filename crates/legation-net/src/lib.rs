//! Attested channels between enclaves: TLS 1.3 that proves keys, an exchange on top that proves who holds them, frames, and
//! a connection that ends when its peer may no longer be there.
//!
//! It is the only crate that opens sockets between enclaves, and it is *not* where anything is decided about them: who may be
//! at the other end is for a [`Judge`], what is said over the channel is for its owner. It fetches nothing, and it does not
//! verify evidence.
//!
//! * [`Endpoint`] opens channels, [`Listener`] accepts them, [`Channel`] is one.
//! * [`handshake`] and [`frame`] are the protocol itself, without sockets.
//! * [`tls`] is what is asked of TLS.
//! * [`message`] is what agents and managers say over a channel, [`custody`] what of that is about swarm keys, [`delegation`] what agents
//!   say to each other.

mod channel;
pub mod custody;
pub mod delegation;
mod driver;
mod endpoint;
mod entropy;
mod error;
pub mod frame;
pub mod handshake;
mod judge;
pub mod listen;
pub mod message;
mod renewal;
mod revocations;
pub mod tls;
mod wire;

pub use channel::{
    CONTROL_QUEUE_BYTES_MAX, CONTROL_QUEUE_MAX, Channel, DATA_QUEUE_MAX, INCOMING_QUEUE_BYTES_MAX, INCOMING_QUEUE_MAX,
    Incoming, Receiver, Sender,
};
pub use endpoint::{Clock, Endpoint, Timing};
pub use entropy::OsEntropy;
pub use error::{ChannelError, SendError};
pub use frame::StreamId;
pub use judge::{AnchoredJudge, CLOCK_SKEW_SECONDS, Credential, Judge, Standing, VERDICTS_MAX};
pub use listen::{Arrival, Bounds, Listener};
pub use renewal::{RENEWALS_MAX, RENEWALS_WINDOW};
pub use revocations::{ANOTHER_SECONDS, Revocations};
