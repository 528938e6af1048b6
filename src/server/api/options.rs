//! How a write is to be done: the parameters that all writes share.

use axum::http::{HeaderMap, header};

use super::params::Params;
use crate::server::status::Problem;

/// The longest name of a field manager, as in Kubernetes.
const LONGEST_MANAGER: usize = 128;

/// What becomes of fields that the types do not know, and of members that stand twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    /// They are refused. So it is where nothing is said; Kubernetes would warn.
    Strict,
    /// They are dropped, and told in `Warning` headers.
    Warn,
    /// They are dropped.
    Ignore,
}

/// The options of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WriteOptions {
    /// Whether nothing shall be written.
    pub(super) dry_run: bool,
    /// Whether a dry run is refused where a Source's ownership forbids the write, in place of showing
    /// what the write would come to, with a warning.
    pub(super) refuses: bool,
    /// Who writes, as far as fields are concerned.
    pub(super) manager: String,
    /// Whether fields of others are taken.
    pub(super) force: bool,
    /// What becomes of unknown fields.
    pub(super) validation: Validation,
}

impl WriteOptions {
    /// The options that an address and its headers name. Whoever applies must name a manager; for
    /// others the program stands in.
    pub(super) fn of(params: &Params, headers: &HeaderMap, apply: bool) -> Result<Self, Problem> {
        let manager = params.text("fieldManager");
        if apply && manager.is_none() {
            return Err(Problem::bad_option("fieldManager", "is required for an apply patch"));
        }
        if let Some(manager) = manager
            && (manager.len() > LONGEST_MANAGER || manager.chars().any(char::is_control))
        {
            let message = format!("must be printable and at most {LONGEST_MANAGER} bytes long");
            return Err(Problem::bad_option("fieldManager", &message));
        }
        let force = params.text("force").is_some_and(|force| force != "false" && force != "0");
        if force && !apply {
            return Err(Problem::bad_option("force", "may only be said with an apply patch"));
        }
        let validation = match params.text("fieldValidation") {
            None | Some("Strict") => Validation::Strict,
            Some("Warn") => Validation::Warn,
            Some("Ignore") => Validation::Ignore,
            Some(other) => {
                let message = format!("is `{other}`, and can be Strict, Warn or Ignore");
                return Err(Problem::bad_option("fieldValidation", &message));
            }
        };
        let refuses = match params.text("ifDeclared") {
            None | Some("Warn") => false,
            Some("Refuse") => true,
            Some(other) => {
                let message = format!("is `{other}`, and can be Warn or Refuse");
                return Err(Problem::bad_option("ifDeclared", &message));
            }
        };
        Ok(Self {
            dry_run: params.dry_run()?,
            refuses,
            manager: manager.map_or_else(|| program(headers), str::to_owned),
            force,
            validation,
        })
    }
}

/// The program that a request comes from.
pub(super) fn program(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default().split('/').next().unwrap_or_default().trim();
    let name: String = agent.chars().filter(|c| !c.is_control()).take(LONGEST_MANAGER).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}
