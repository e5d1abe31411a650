//! The journal of a configuration, and its objects: with the journal, so that several managers share both.

use legation_core::Rejection;

use crate::{
    config::{JournalConfig, ManagerConfig, Store},
    journal::{
        Journal,
        postgres::{PostgresJournal, PostgresSettings},
        sqlite::SqliteJournal,
    },
    leader::LeadError,
    objects::Objects,
};

/// Opens the journal.
///
/// # Errors
/// It is in use, or cannot be reached, or is no journal.
pub(crate) fn open(config: &ManagerConfig) -> Result<Box<dyn Journal>, LeadError> {
    match config.journal.store {
        Store::Sqlite => Ok(Box::new(SqliteJournal::open(&config.data.join("journal.sqlite"))?)),
        Store::Postgres => Ok(Box::new(PostgresJournal::open(settings(&config.journal)?)?)),
    }
}

fn settings(config: &JournalConfig) -> Result<PostgresSettings, Rejection> {
    let JournalConfig { url, password_file, authorities, .. } = config;
    PostgresSettings::new(url.as_deref().unwrap_or_default(), password_file.as_deref(), authorities.as_deref())
}

/// Opens the objects.
///
/// # Errors
/// The folder cannot be used, or the database cannot be reached.
pub(crate) async fn objects(config: &ManagerConfig) -> Result<Objects, Rejection> {
    let opened = match config.journal.store {
        Store::Sqlite => Objects::in_folder(&config.data, config.object_max_bytes).await,
        Store::Postgres => Objects::in_postgres(settings(&config.journal)?, config.object_max_bytes).await,
    };
    opened.map_err(|e| e.refusal())
}
