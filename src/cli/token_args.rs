//! The words of `token` and `kubeconfig`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::args::{ServerArgs, TurnsFormat};

/// `token`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch token create ci --role viewer --expires 90d
  OPEN_DISPATCH_TOKEN=$(open-dispatch token create laptop --role operator)
  open-dispatch token list
  open-dispatch token revoke ci

A viewer may look; a user may also talk to agents; an operator may also write objects and
answer what agents ask for; an admin may do everything. A token is told once: the server
keeps what it hashes to. The token in the file `token` of the data directory is the
server's own, and stays.")]
pub enum TokenCommand {
    /// Make a token, and print it
    Create(CreateTokenArgs),
    /// List the tokens, without what opens anything
    List(ListTokensArgs),
    /// End a token
    Revoke(RevokeTokenArgs),
}

/// `token create`.
#[derive(Debug, Clone, Args)]
pub struct CreateTokenArgs {
    /// Its name, which the audit tells
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The role: viewer, user, operator or admin
    #[arg(long, value_name = "ROLE")]
    pub role: String,
    /// How long it holds, such as 12h or 90d; else until it is revoked
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// End the token that has this name
    #[arg(long)]
    pub replace: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `token list`.
#[derive(Debug, Clone, Args)]
pub struct ListTokensArgs {
    /// Print JSON
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<TurnsFormat>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `token revoke`.
#[derive(Debug, Clone, Args)]
pub struct RevokeTokenArgs {
    /// Its name, as `token list` shows it
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `kubeconfig`.
#[derive(Debug, Clone, Args)]
pub struct KubeconfigArgs {
    /// The name of the token that is made [default: kubectl-USER]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Its role: viewer, user, operator or admin
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    pub role: String,
    /// How long it holds, such as 12h or 90d; else until it is revoked
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// End the token that has this name
    #[arg(long)]
    pub replace: bool,
    /// Where clients reach the server; a name must be among its --tls-names
    /// [default: where this command reaches it, by https]
    #[arg(long, value_name = "URL")]
    pub address: Option<String>,
    /// What the cluster and the context are called
    #[arg(long, value_name = "NAME", default_value = "open-dispatch")]
    pub context: String,
    /// Merge into this file instead of printing; what else is in it stays
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Merge into the file that kubectl reads: the first of KUBECONFIG, else ~/.kube/config
    #[arg(long, conflicts_with = "file")]
    pub merge: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}
