//! A copy of the store as it is at one moment, while it may be written to.

use std::path::Path;

use sqlx::{
    ConnectOptions as _, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use super::message;
use crate::store::Error;

/// Copies a store's file to a new one, whole and without a log beside it. A server may write to
/// it meanwhile; the copy has what was committed when it began.
///
/// # Errors
/// [`Error::Unavailable`] where the file cannot be read, or the copy not be written.
pub async fn snapshot(from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |error: sqlx::Error| {
        Error::Unavailable(format!("{} cannot be copied: {}", from.display(), message(&error)))
    };
    let options = SqliteConnectOptions::new()
        .filename(from)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(failed)?;
    let place = to.to_string_lossy().into_owned();
    sqlx::query("VACUUM INTO ?1").bind(place).execute(&mut connection).await.map_err(failed)?;
    connection.close().await.map_err(failed)
}
