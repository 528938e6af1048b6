//! What stands in an address: which kind, and the parameters behind the question mark.

use std::collections::HashMap;

use axum::http::Uri;

use crate::{
    resource::{
        AnyObject, Kind,
        field_selector::FieldSelector,
        schema,
        selector::{NotASelector, Selector},
    },
    server::status::{Problem, unknown_path},
    store::{Change, ChangeKind},
};

/// The fields of metadata that no object ever changes.
const LASTING: [&str; 2] = ["metadata.name", "metadata.uid"];

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

    /// Which objects of a kind are asked for.
    pub(super) fn choice(&self, kind: Kind) -> Result<Choice, Problem> {
        let bad = |error: NotASelector| Problem::bad_request(error.to_string());
        let labels =
            Selector::parse(self.text("labelSelector").unwrap_or_default()).map_err(bad)?;
        let fields = FieldSelector::parse(self.text("fieldSelector").unwrap_or_default()).map_err(
            |error| {
                Problem::bad_request(error.to_string().replacen(
                    "label selector",
                    "field selector",
                    1,
                ))
            },
        )?;
        if let Some(path) = fields.paths().find(|path| !schema::has_scalar(kind, path)) {
            let message = format!(
                "fieldSelector `{path}` is no field of a {kind} that holds one value; \
                 metadata.name=NAME and status.phase=PHASE are such"
            );
            return Err(Problem::bad_request(message));
        }
        Ok(Choice { labels, fields })
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

/// Which objects are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub(super) labels: Selector,
    pub(super) fields: FieldSelector,
}

impl Choice {
    pub(super) fn matches(&self, object: &AnyObject) -> bool {
        let fields = || match self.fields.only("metadata.name") {
            Some(name) if name != object.metadata().name => false,
            _ => self.fields.is_everything() || self.fields.matches(&object.to_json()),
        };
        self.labels.matches(&object.metadata().labels) && fields()
    }

    /// Whether an object was chosen before a change, as far as the change alone tells. What says so
    /// wrongly shows a client the end of objects that it never had, and who waits for the end of one
    /// object would take that for it.
    pub(super) fn chose_before(&self, change: &Change) -> Option<bool> {
        match change.kind {
            ChangeKind::Added => Some(false),
            // What went is told as it was.
            ChangeKind::Deleted => Some(self.matches(&change.object)),
            ChangeKind::Modified => {
                let lasting = |path: &str| LASTING.contains(&path);
                let lasts = self.fields.among(lasting);
                if !lasts.is_everything() && !lasts.matches(&change.object.to_json()) {
                    return Some(false);
                }
                let wished = |path: String| lasting(&path) || path.starts_with("spec.");
                // Nothing but its status is another, so its labels and its spec tell.
                let same = !change.desired && self.fields.paths().all(wished);
                let fixed = self.labels.is_everything() && lasts == self.fields;
                (same || fixed).then(|| self.matches(&change.object))
            }
        }
    }

    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }
}
