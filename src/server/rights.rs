//! Which call takes which right: one table for all that stands behind the [door](super::access).
//!
//! The rights are those of chat, by the same words: see [`Right`]. A viewer may look; a user may also
//! talk to agents; an operator may also write objects and answer what agents ask for; an admin may
//! also see and change who may do what, and the secrets. What an observer writes (`/status`) and what
//! terminals do as a chat platform is for admins, too.
//!
//! A route without a row is for admins; `tests/api_rights.rs` fails where there is one.

use axum::http::{Method, StatusCode, Uri};

use super::{api::PREFIX, status::Problem};
use crate::{
    access::Right::{self, Admin, Approve, CancelOwn, Command, Read, Talk},
    resource::{GROUP, Kind},
    store::Access,
};

/// (method, path as the router has it, right). `~` stands for what all our paths begin with.
const TABLE: &[(&str, &str, Right)] = &[
    // What there is.
    ("GET", "/version", Read),
    ("GET", "/api", Read),
    ("GET", "/apis", Read),
    ("GET", "/apis/opendispatch.dev", Read),
    ("GET", "~", Read),
    ("GET", "/api/v1", Read),
    ("GET", "/apis/events.k8s.io", Read),
    ("GET", "/apis/events.k8s.io/v1", Read),
    ("GET", "/apis/authentication.k8s.io", Read),
    ("GET", "/apis/authentication.k8s.io/v1", Read),
    ("GET", "/apis/authorization.k8s.io", Read),
    ("GET", "/apis/authorization.k8s.io/v1", Read),
    ("GET", "/openapi/v2", Read),
    ("GET", "/openapi/v3", Read),
    ("GET", "/openapi/v3/apis/opendispatch.dev/v1alpha1", Read),
    ("GET", "/api/v1/namespaces", Read),
    ("GET", "/api/v1/namespaces/{namespace}", Read),
    ("GET", "/api/v1/events", Read),
    ("GET", "/api/v1/namespaces/{namespace}/events", Read),
    ("GET", "/apis/events.k8s.io/v1/events", Read),
    ("GET", "/apis/events.k8s.io/v1/namespaces/{namespace}/events", Read),
    ("GET", "/metrics", Read),
    ("GET", "~/tls", Read),
    // Who asks, and what they may.
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Read),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", Read),
    ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", Read),
    // Objects.
    ("GET", "~/{plural}", Read),
    ("GET", "~/{plural}/{name}", Read),
    ("GET", "~/{plural}/{name}/status", Read),
    ("GET", "~/{plural}/{name}/source", Read),
    ("GET", "~/sources/{name}/inventory", Read),
    ("GET", "~/{plural}/{name}/log", Read),
    ("GET", "~/{plural}/{name}/events", Read),
    ("GET", "~/{plural}/{name}/approvals", Read),
    ("POST", "~/{plural}", Command),
    ("DELETE", "~/{plural}", Command),
    ("PUT", "~/{plural}/{name}", Command),
    ("PATCH", "~/{plural}/{name}", Command),
    ("DELETE", "~/{plural}/{name}", Command),
    ("POST", "~/{plural}/{name}/release", Command),
    ("GET", "~/{plural}/{name}/scale", Read),
    ("PUT", "~/{plural}/{name}/scale", Command),
    ("PATCH", "~/{plural}/{name}/scale", Command),
    ("PUT", "~/{plural}/{name}/status", Admin),
    ("PATCH", "~/{plural}/{name}/status", Admin),
    ("POST", "~/{plural}/{name}/approvals/{request}", Approve),
    // What is said to agents.
    ("GET", "~/agents/{name}/turns", Read),
    ("GET", "~/agents/{name}/turns/{id}", Read),
    ("POST", "~/agents/{name}/turns", Talk),
    // Of others' turns the handler asks for more.
    ("POST", "~/agents/{name}/turns/{id}/cancel", CancelOwn),
    ("GET", "~/agents/{name}/grants", Read),
    ("DELETE", "~/agents/{name}/grants/{id}", Approve),
    ("POST", "/files", Talk),
    ("GET", "/files/{id}", Read),
    // What chat must still be told may be meant for one person alone.
    ("GET", "~/deliveries", Command),
    ("GET", "~/fly/leaks", Read),
    ("POST", "~/fly/leaks/confirm", Admin),
    // Who may do what, and what nobody else may see.
    ("GET", "~/access", Admin),
    ("GET", "~/access/pairings", Admin),
    ("POST", "~/access/pairings/{code}/approve", Admin),
    ("PUT", "~/access/grants/{principal}", Admin),
    ("DELETE", "~/access/grants/{principal}", Admin),
    ("GET", "~/audit", Admin),
    ("GET", "~/tokens", Admin),
    ("POST", "~/tokens", Admin),
    ("DELETE", "~/tokens/{name}", Admin),
    ("GET", "~/secrets", Admin),
    ("PUT", "~/secrets/{name}", Admin),
    ("DELETE", "~/secrets/{name}", Admin),
    // Whoever is at the console may say everything in anybody's name.
    ("POST", "/console/messages", Admin),
    ("POST", "/console/acks", Admin),
    ("GET", "/console/stream", Admin),
];

/// What a call takes, by its method and its path as the router has it (`~` is not known here);
/// nothing where no row says so, and then it is for admins.
#[must_use]
pub fn needs(method: &Method, path: &str) -> Option<Right> {
    let method = match method.as_str() {
        // Answered by what answers GET.
        "HEAD" => "GET",
        method => method,
    };
    let short = match path.strip_prefix(PREFIX) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("~{rest}"),
        None if path.starts_with('/') => path.to_owned(),
        _ => return None,
    };
    let row = TABLE.iter().find(|(of, at, _)| *of == method && *at == short);
    row.map(|(_, _, right)| *right)
}

/// What a verb of Kubernetes takes on a resource, such as `create` on `jobs` or `update` on
/// `agents/status`; for who asks beforehand. What is not known takes an admin.
pub(super) fn of_verb(verb: &str, resource: &str, subresource: &str) -> Right {
    let (method, one) = match verb {
        "get" => ("GET", true),
        "list" | "watch" => ("GET", false),
        "create" => ("POST", false),
        "update" => ("PUT", true),
        "patch" => ("PATCH", true),
        "delete" => ("DELETE", true),
        "deletecollection" => ("DELETE", false),
        _ => return Admin,
    };
    // What has a row under its own name has no other.
    let own = strictest(method, one, resource, subresource);
    let any = || match Kind::find(resource) {
        Some(_) => strictest(method, one, "{plural}", subresource),
        None => None,
    };
    own.or_else(any).unwrap_or(Admin)
}

/// What the rows take whose paths have these words in them, whatever names and ids stand between: of
/// several, the strictest.
fn strictest(method: &str, one: bool, resource: &str, subresource: &str) -> Option<Right> {
    let parts: Vec<&str> = subresource.split('/').filter(|part| !part.is_empty()).collect();
    let fits = |path: &str| {
        let Some(path) = path.strip_prefix("~/") else { return false };
        let mut steps = path.split('/');
        if steps.next() != Some(resource) {
            return false;
        }
        let (names, words): (Vec<&str>, Vec<&str>) = steps.partition(|step| step.starts_with('{'));
        // Where no part is named, a name makes the difference between one and all.
        words == parts && (!parts.is_empty() || names.is_empty() != one)
    };
    let rows = TABLE.iter().filter(|(of, at, _)| *of == method && fits(at));
    rows.map(|(_, _, right)| *right).max_by_key(|right| right.needs())
}

/// The answer to whoever may not.
pub(super) fn forbidden(row: &Access, right: Right, method: &Method, uri: &Uri) -> Problem {
    let verb = match method.as_str() {
        "GET" | "HEAD" => "read",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "do that",
    };
    let mut parts = uri.path().strip_prefix(PREFIX).unwrap_or_default().split('/').skip(1);
    let (plural, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let part = parts.next().unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == plural);
    let what = match kind {
        None => uri.path().to_owned(),
        Some(_) if name.is_empty() => format!("{plural}.{GROUP}"),
        Some(_) if part.is_empty() => format!("{plural}.{GROUP} \"{name}\""),
        Some(_) => format!("{plural}.{GROUP}/{part} \"{name}\""),
    };
    let message = format!(
        "{what} is forbidden: token \"{}\" has the role {} and may not {verb}, which takes the role \
         {}; an admin can make another token by open-dispatch token create",
        row.principal.id,
        row.role,
        right.needs(),
    );
    let problem = Problem::new(StatusCode::FORBIDDEN, "Forbidden", message);
    match kind {
        Some(kind) => problem.about(kind, name),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_takes_what_its_call_takes() {
        for (verb, resource, subresource, right) in [
            ("get", "jobs", "", Read),
            ("list", "agents", "", Read),
            ("watch", "sprites", "", Read),
            ("create", "jobs", "", Command),
            ("update", "agents", "", Command),
            ("patch", "agents", "status", Admin),
            ("get", "agents", "log", Read),
            ("delete", "jobs", "", Command),
            ("get", "secrets", "", Admin),
            ("list", "secrets", "", Admin),
            ("create", "tokens", "", Admin),
            ("impersonate", "users", "", Admin),
            ("get", "pods", "", Admin),
            ("create", "agents", "turns", Talk),
            ("get", "agents", "turns", Read),
            ("create", "agents", "turns/cancel", CancelOwn),
            ("create", "jobs", "approvals", Approve),
            ("delete", "agents", "grants", Approve),
            ("create", "jobs", "turns", Admin),
        ] {
            assert_eq!(of_verb(verb, resource, subresource), right, "{verb} {resource}");
        }
    }

    #[test]
    fn whoever_asks_beforehand_is_told_what_every_row_says() {
        let mut asked = 0;
        for (method, path, right) in TABLE {
            let Some(path) = path.strip_prefix("~/") else { continue };
            let steps: Vec<&str> = path.split('/').collect();
            let words = |step: &&str| !step.starts_with('{');
            let parts: Vec<&str> = steps[1..].iter().copied().filter(words).collect();
            let one = steps.len() > 1;
            let verbs: &[&str] = match *method {
                "GET" if one => &["get"],
                "GET" => &["list", "watch"],
                "POST" => &["create"],
                "PUT" => &["update"],
                "PATCH" => &["patch"],
                "DELETE" if one => &["delete"],
                _ => &["deletecollection"],
            };
            let resources: &[&str] = match steps[0] {
                "{plural}" => &["jobs", "fleets", "overrides"],
                own => &[own],
            };
            for (verb, resource) in
                verbs.iter().flat_map(|verb| resources.iter().map(move |it| (verb, it)))
            {
                let told = of_verb(verb, resource, &parts.join("/"));
                assert_eq!(told, *right, "{verb} {resource}/{}", parts.join("/"));
                asked += 1;
            }
        }
        assert!(asked > 40, "{asked}");
    }

    #[test]
    fn no_call_has_two_rows() {
        let mut calls: Vec<(&str, &str)> = TABLE.iter().map(|row| (row.0, row.1)).collect();
        calls.sort_unstable();
        let count = calls.len();
        calls.dedup();
        assert_eq!(calls.len(), count);
    }

    #[test]
    fn what_stands_in_no_row_is_known_to_nobody() {
        assert_eq!(needs(&Method::HEAD, "/version"), Some(Read));
        assert_eq!(needs(&Method::POST, "/version"), None);
        assert_eq!(needs(&Method::GET, "/apis/opendispatch.dev/v1alpha1x"), None);
        assert_eq!(needs(&Method::GET, "~/{plural}"), None);
    }
}
