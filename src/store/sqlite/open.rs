//! Opening: the file, its schema, the id of the installation.

use std::{
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Options, codec::natural, message};
use crate::{ambient::Ambient, store::Error};

/// The schema's history; its newest number is the schema that this version knows.
static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How many connections read.
const READERS: u32 = 4;
/// The bytes of a page. A batch of output has 2 to 4 KiB; pages as small as that would each hold
/// one, half empty, and each page is a write of its own. A store keeps the size it was made with.
const PAGE: u32 = 8192;
/// After how many pages the write-ahead log is moved into the file: 16 MiB.
const CHECKPOINT_PAGES: &str = "2000";

/// An open store, before its writer runs.
pub(super) struct Opened {
    pub(super) options: SqliteConnectOptions,
    pub(super) connection: SqliteConnection,
    pub(super) readers: SqlitePool,
    pub(super) installation: String,
    pub(super) revision: u64,
    pub(super) made: u64,
}

pub(super) async fn open(
    path: &Path,
    ambient: &Ambient,
    options: Options,
) -> Result<Opened, Error> {
    let unavailable = |why: String| {
        let mend = if ["not a database", "malformed"].iter().any(|word| why.contains(word)) {
            "put a copy of it in its place, or move it away to begin anew"
        } else {
            "mend that, or choose another directory with --data"
        };
        Error::Unavailable(format!("{}: {why}; {mend}", path.display()))
    };
    let unusable = |error: sqlx::Error| unavailable(message(&error));
    close(path).map_err(|error| unavailable(error.to_string()))?;
    let options = writer_options(path, options);
    let mut connection = options.connect().await.map_err(unusable)?;
    migrate(&mut connection, path).await?;
    let installation = installation(&mut connection, ambient).await.map_err(unusable)?;
    let (revision, made) = counters(&mut connection).await.map_err(unusable)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(1)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(reader_options(path))
        .await
        .map_err(unusable)?;
    Ok(Opened { options, connection, readers, installation, revision, made })
}

/// Makes the file, if it is missing, and closes it to other users, with what stands beside it:
/// all that was ever said to an agent is in there. What SQLite makes beside it later takes over its
/// mode.
fn close(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let beside = ["-wal", "-shm"].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    });
    for file in [path.to_owned()].iter().chain(&beside) {
        match fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            meta if meta.as_ref().is_ok_and(|it| it.permissions().mode() & 0o077 == 0) => {}
            meta => {
                meta?;
                fs::set_permissions(file, Permissions::from_mode(0o600))?;
            }
        }
    }
    Ok(())
}

fn base_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
}

fn writer_options(path: &Path, options: Options) -> SqliteConnectOptions {
    let base = base_options(path)
        .create_if_missing(true)
        .page_size(PAGE)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .thread_name(|_| "store-writer".to_owned());
    match options.max_pages {
        Some(pages) => base.pragma("max_page_count", pages.to_string()),
        None => base,
    }
}

fn reader_options(path: &Path) -> SqliteConnectOptions {
    base_options(path).pragma("query_only", "ON").thread_name(|n| format!("store-reader-{n}"))
}

/// Brings the schema up to this version's.
async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    let unusable = |message: String| {
        Error::Unavailable(format!("{}: cannot migrate: {message}", path.display()))
    };
    let found = schema(connection).await.map_err(|error| unusable(message(&error)))?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    if found > known {
        return Err(Error::TooNew { path: path.display().to_string(), found, known });
    }
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMismatch(version) | MigrateError::VersionMissing(version) => {
            unusable(format!(
                "another build of this program made its step {version}; use the build that made \
                 it, or choose another directory with --data"
            ))
        }
        error => unusable(format!(
            "{error}; put a copy in its place, or choose another directory with --data"
        )),
    })
}

/// The newest migration that the file has seen; 0 for an empty file.
async fn schema(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let migrated: bool = sqlx::query_scalar(
        "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !migrated {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
}

/// The id of the installation, drawn when the store is new.
async fn installation(
    connection: &mut SqliteConnection,
    ambient: &Ambient,
) -> Result<String, sqlx::Error> {
    let drawn =
        sqlx::query_scalar("SELECT id FROM installation").fetch_optional(&mut *connection).await?;
    if let Some(id) = drawn {
        return Ok(id);
    }
    let id = ambient.ids.uid();
    sqlx::query("INSERT INTO installation (id) VALUES (?1)").bind(&id).execute(connection).await?;
    Ok(id)
}

/// The newest revision, and the last number drawn for deliveries and events.
async fn counters(connection: &mut SqliteConnection) -> Result<(u64, u64), sqlx::Error> {
    let (revision, deliveries, events): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT coalesce(max(revision), 0) FROM history), \
                (SELECT coalesce(max(made), 0) FROM deliveries), \
                (SELECT coalesce(max(made), 0) FROM events)",
    )
    .fetch_one(connection)
    .await?;
    Ok((natural(revision), natural(deliveries.max(events))))
}
