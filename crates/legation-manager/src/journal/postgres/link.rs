//! One connection with a runtime of its own: calls block, each with a deadline. After an error it is dropped; the next call connects anew.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_postgres::{Client, Error};

use super::settings::PostgresSettings;
use crate::journal::JournalError;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);

/// What the server or the connection said, with all that is behind it.
#[derive(Debug)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

pub(super) struct Link {
    settings: Arc<PostgresSettings>,
    /// Nothing once it is dropped.
    runtime: Option<Runtime>,
    up: Option<(Client, JoinHandle<()>)>,
}

fn said(error: &(dyn std::error::Error + 'static)) -> Said {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    Said(text)
}

impl Link {
    /// Nothing is connected yet.
    pub(super) fn new(settings: Arc<PostgresSettings>) -> Result<Self, JournalError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { settings, runtime: Some(runtime.map_err(JournalError::store("be opened"))?), up: None })
    }

    pub(super) fn settings(&self) -> Arc<PostgresSettings> {
        self.settings.clone()
    }

    /// Whether the connection of the last call is there yet.
    pub(super) fn is_up(&self) -> bool {
        self.up.as_ref().is_some_and(|(client, _)| !client.is_closed())
    }

    fn connect(&mut self) -> Result<(), JournalError> {
        if self.is_up() {
            return Ok(());
        }
        self.cut();
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let connecting = self.settings.connect();
        let connected = runtime.block_on(async { tokio::time::timeout(CONNECT, connecting).await });
        let failed = JournalError::store("reach its database");
        let (client, connection) = match connected {
            Ok(Ok(up)) => up,
            Ok(Err(error)) => return Err(failed(said(&error))),
            Err(_) => return Err(failed(Said(format!("no answer within {CONNECT:?}")))),
        };
        self.up = Some((client, runtime.spawn(connection)));
        Ok(())
    }

    fn cut(&mut self) {
        if let Some((_, connection)) = self.up.take() {
            connection.abort();
        }
    }

    /// Does something over the connection within `limit`.
    pub(super) fn call<T>(
        &mut self,
        what: &'static str,
        limit: Duration,
        run: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, JournalError> {
        self.connect()?;
        let (Some((client, _)), Some(runtime)) = (&self.up, &self.runtime) else {
            return Err(JournalError::store(what)(Said("no connection".into())));
        };
        let done = runtime.block_on(async { tokio::time::timeout(limit, run(client)).await });
        let why = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => said(&error),
            Err(_) => Said(format!("no answer within {limit:?}")),
        };
        self.cut();
        Err(JournalError::store(what)(why))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
        // Whoever drops it last may be a task, where a runtime must not be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
