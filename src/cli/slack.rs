//! `slack`: what a Slack app is made from.

use super::{args::SlackCommand, error::Error, out};
use crate::chat::slack::manifest;
/// What doctor looks for.
pub(super) use crate::chat::slack::manifest::SCOPES;

/// Runs `slack`.
///
/// # Errors
/// Standard output that takes nothing.
pub fn run(command: SlackCommand) -> Result<u8, Error> {
    match command {
        SlackCommand::Manifest(args) if args.link => out::line(manifest::link(&args.name)),
        SlackCommand::Manifest(args) => out::data(manifest::yaml(&args.name)),
    }
    .map(|()| 0)
}
