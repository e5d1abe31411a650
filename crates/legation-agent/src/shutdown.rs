//! How an agent is asked to stop: first to finish what it has, then to go at once.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How much time is left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// All there is.
    Stay,
    /// As much as running work needs, within bounds.
    Drain,
    /// None.
    Now,
}

/// Asks an agent to stop. Clones ask the same agent.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<Stage>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nothing asked yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(Stage::Stay))
    }

    /// Takes no more work, finishes what runs (within the configured time), delivers its reports, closes.
    pub fn drain(&self) {
        self.raise(Stage::Drain);
    }

    /// Goes at once; what runs is lost and moves to other enclaves.
    pub fn now(&self) {
        self.raise(Stage::Now);
    }

    /// From here on SIGTERM and Ctrl-C ask to drain, and a second one to go at once.
    ///
    /// # Errors
    /// The system gives no signals.
    pub fn on_signals(&self) -> io::Result<()> {
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = self.clone();
        tokio::spawn(async move {
            for stage in [Stage::Drain, Stage::Now] {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!(?stage, "asked to stop by a signal");
                shutdown.raise(stage);
            }
        });
        Ok(())
    }

    fn raise(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let more = stage > *now;
            *now = stage.max(*now);
            more
        });
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits until at least this was asked.
    pub(crate) async fn asked(&self, stage: Stage) {
        // The sender is in `self`, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(|now| *now >= stage).await;
    }
}
