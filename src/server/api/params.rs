//! What stands in an address: which kind, and the parameters behind the question mark.

use std::collections::HashMap;

use axum::http::{HeaderMap, Uri, header};

use crate::{
    resource::{Kind, selector::Selector},
    server::status::{Problem, unknown_path},
};

/// The kind that a path names by its plural.
pub(super) async fn kind(plural: &str, uri: &Uri) -> Result<Kind, Problem> {
    match Kind::ALL.into_iter().find(|kind| kind.plural() == plural) {
        Some(kind) => Ok(kind),
        None => Err(unknown_path(uri.clone()).await),
    }
}

/// The parameters of an address.
pub(super) struct Params(HashMap<String, String>);

impl Params {
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// A parameter that is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a parameter says yes.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name).map(String::as_str), Some("" | "1" | "true" | "True"))
    }

    /// A parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                Problem::bad_request(format!("{name} is `{text}`, and must be a whole number"))
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// Which labels are asked for.
    pub(super) fn selector(&self) -> Result<Selector, Problem> {
        if let Some(fields) = self.text("fieldSelector")
            && !fields.starts_with("metadata.name=")
        {
            let message =
                format!("fieldSelector `{fields}` is not supported; metadata.name=NAME is");
            return Err(Problem::bad_request(message));
        }
        Selector::parse(self.text("labelSelector").unwrap_or_default())
            .map_err(|error| Problem::bad_request(error.to_string()))
    }

    /// The one name that is asked for.
    pub(super) fn field_name(&self) -> Option<&str> {
        let name = self.text("fieldSelector")?.strip_prefix("metadata.name=")?;
        Some(name.strip_prefix('=').unwrap_or(name))
    }

    /// Whether nothing shall be written.
    pub(super) fn dry_run(&self) -> Result<bool, Problem> {
        match self.text("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                Err(Problem::bad_request(format!("dryRun is `{other}`, and can only be All")))
            }
        }
    }
}

/// Whether the client asks for a table.
pub(super) fn wants_table(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("as=Table"))
}
