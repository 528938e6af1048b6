//! The words of `access`.

use clap::{Args, Subcommand};

use super::args::{ServerArgs, TurnsFormat};

/// `access`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch access list
  open-dispatch access approve BCDFGHJK                     lets a stranger in, as a user
  open-dispatch access approve BCDFGHJK --role operator
  open-dispatch access grant slack:U0123ABC operator
  open-dispatch access grant slack:channel:C0123ABC viewer  everybody in that channel
  open-dispatch access revoke discord:456
  open-dispatch access audit --last 20

Roles: a viewer may look; a user may also talk with agents; an operator may also start, stop and
change agents and jobs and answer what they ask for; an admin may do everything. Whoever holds the
server's token, which is who can type this, is an admin. OPEN_DISPATCH_ADMINS names the first ones
in chat.")]
pub enum AccessCommand {
    /// List who has which role, and who waits to be let in
    List(ListAccessArgs),
    /// Let in the stranger who was given this code
    Approve(ApprovePairingArgs),
    /// Give a person or a channel a role
    Grant(GrantRoleArgs),
    /// Take the role of a person or a channel
    Revoke(RevokeRoleArgs),
    /// Show who asked for what
    Audit(AuditArgs),
}

/// `access list`.
#[derive(Debug, Clone, Args)]
pub struct ListAccessArgs {
    /// Print JSON
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<TurnsFormat>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `access approve`.
#[derive(Debug, Clone, Args)]
pub struct ApprovePairingArgs {
    /// The code that the stranger was told
    #[arg(value_name = "CODE")]
    pub code: String,
    /// The role: viewer, user, operator or admin
    #[arg(long, value_name = "ROLE", default_value = "user")]
    pub role: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `access grant`.
#[derive(Debug, Clone, Args)]
pub struct GrantRoleArgs {
    /// Who: PLATFORM:USER or PLATFORM:channel:CHANNEL, with the platform's own id; a channel's role
    /// reaches the agents that listen in that channel and the jobs that report there, and no others
    #[arg(value_name = "PRINCIPAL")]
    pub principal: String,
    /// The role: viewer, user, operator or admin
    #[arg(value_name = "ROLE")]
    pub role: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `access revoke`.
#[derive(Debug, Clone, Args)]
pub struct RevokeRoleArgs {
    /// Who, as `access list` shows them
    #[arg(value_name = "PRINCIPAL")]
    pub principal: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `access audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// How many rows at most, up to 1,000
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub last: u32,
    /// Only what stands behind the row of this number; then the oldest come first
    #[arg(long, value_name = "N")]
    pub after: Option<u64>,
    /// Print JSON
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<TurnsFormat>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}
