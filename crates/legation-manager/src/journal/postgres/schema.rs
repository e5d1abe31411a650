//! The tables: made by whoever comes first, and their version looked at by everybody.

use super::{LONG_CALL, link::Link};
use crate::journal::JournalError;

/// Version of the tables.
const TABLES: i32 = 1;

// Records are mostly base64 and keys, which do not compress: they stay as they are, in their rows where they fit into a page.

/// Whoever makes tables holds this lock of the database.
const LOCK: &str = "select pg_advisory_xact_lock(5784112067)";

const MAKE: &str = "
    create table legation_schema (version int not null);
    insert into legation_schema values (1);
    create table journal (
        seq bigint primary key, version int not null, term bigint not null, at bigint not null, kind text not null,
        record text not null) with (toast_tuple_target = 8160);
    alter table journal alter column record set storage external;
    create table term (
        id int primary key check (id = 1), term bigint not null, session bigint not null, name text not null,
        instance bigint not null, addresses text not null, expires timestamptz not null) with (fillfactor = 10);
    insert into term values (1, 0, 0, '', 0, '{\"agents\":\"\",\"api\":\"\"}', '-infinity');
    create table snapshot (seq bigint primary key, digest bytea not null, size bigint not null);
    create table snapshot_part (
        seq bigint not null references snapshot on delete cascade, part int not null, bytes bytea not null,
        primary key (seq, part));
    alter table snapshot_part alter column bytes set storage external;";

/// Makes the tables where there are none.
pub(super) fn prepare(link: &mut Link) -> Result<(), JournalError> {
    let found: i32 = link.call("make its tables", LONG_CALL, async |db| {
        db.batch_execute(&format!("begin; {LOCK}")).await?;
        let there: bool = db.query_one("select to_regclass('legation_schema') is not null", &[]).await?.get(0);
        if !there {
            db.batch_execute(MAKE).await?;
        }
        let version = db.query_one("select version from legation_schema", &[]).await?.get(0);
        db.batch_execute("commit").await?;
        Ok(version)
    })?;
    if found == TABLES {
        return Ok(());
    }
    Err(JournalError::Schema { found: i64::from(found), known: i64::from(TABLES) })
}
