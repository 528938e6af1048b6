//! `serve` and `chat`: the two commands that may bring up a server.

use super::{
    args::{ChatArgs, ServeArgs},
    error::Error,
};

/// Runs `serve`.
///
/// # Errors
/// Why the server cannot be brought up.
pub fn serve(_args: ServeArgs) -> Result<u8, Error> {
    Err(Error::Serve("not wired".to_owned()))
}

/// Runs `chat`.
///
/// # Errors
/// Why the server cannot be found or brought up.
pub fn chat(_args: ChatArgs) -> Result<u8, Error> {
    Err(Error::Serve("not wired".to_owned()))
}
