//! Interrupts of a command that has something running elsewhere: the first asks it to clean up, the next to leave at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, Failure};

/// What a terminal's Ctrl-C sends. While this lives, it ends nothing by itself.
pub(super) struct Interrupts(Signal);

impl Interrupts {
    pub(super) fn new() -> Result<Self, Failure> {
        signal(SignalKind::interrupt()).map(Self).map_err(|e| Failure::new(Exit::Failure, format!("signals: {e}")))
    }

    /// What comes of `work`; none, when an interrupt comes first.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            _ = self.0.recv() => None,
        }
    }
}
