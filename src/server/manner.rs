//! How a call that writes may be asked for: one table for all that stands behind the
//! [door](super::access).
//!
//! Objects are written as in Kubernetes, `dryRun=All` included, and their handlers read the options
//! themselves; here it is only seen to that what was said is one of these, since a `dryrun=All` that
//! nobody reads would be a write, and a `labelselector` the deletion of all. What is not the writing
//! of an object (a turn, a token, a secret, a release) has no dry run. Whoever asks for one there is
//! refused before anything of the call is read: what was to be
//! tried must never be done. The same holds for a parameter that nothing reads, as for a field that
//! no type knows, and for a body where none is taken: what somebody said is done or refused, and not
//! passed over.
//!
//! A call without a row has no dry run either, so a new one is safe before anybody thinks of it;
//! `tests/api_dry_run.rs` walks the router and fails where there is one.

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State as Shared},
    http::{Method, Uri},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{State, api::PREFIX, body, status::Problem};

/// What every client may add to every call: how the answer is laid out, and who writes.
const EVERYWHERE: [&str; 2] = ["pretty", "fieldManager"];
/// The largest body of a call that takes none; the empty object counts as none.
const NO_BODY: usize = 4 * 1024;

/// What writes of objects may say, with the parameters that Kubernetes' clients add by themselves.
const WRITE: [&str; 7] = [
    "dryRun",
    "fieldValidation",
    "force",
    "ifDeclared",
    "includeObject",
    "timeout",
    "timeoutSeconds",
];
/// And what the making of one may say.
const CREATE: [&str; 2] = ["requestId", "console"];
/// And what a deletion may say.
const DELETE: [&str; 4] = [
    "propagationPolicy",
    "gracePeriodSeconds",
    "orphanDependents",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
];
/// And what chooses objects from a list.
const CHOOSE: [&str; 9] = [
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "allowWatchBookmarks",
    "watch",
];

/// How a call takes its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It writes objects, or nothing at all: its handler reads the options, a dry run among them. It
    /// knows those of [`WRITE`], and these.
    Object(&'static [&'static [&'static str]]),
    /// It takes a body, these parameters and those of [`EVERYWHERE`].
    Takes(&'static [&'static str]),
    /// It takes no body, and no parameters but those of [`EVERYWHERE`].
    Bare,
}

use Manner::{Bare, Object, Takes};

/// (method, path as the router has it, manner). `~` stands for what all our paths begin with.
const TABLE: &[(&str, &str, Manner)] = &[
    ("POST", "~/{plural}", Object(&[&CREATE])),
    ("DELETE", "~/{plural}", Object(&[&DELETE, &CHOOSE])),
    ("PUT", "~/{plural}/{name}", Object(&[])),
    ("PATCH", "~/{plural}/{name}", Object(&[])),
    ("DELETE", "~/{plural}/{name}", Object(&[&DELETE])),
    ("PUT", "~/{plural}/{name}/status", Object(&[])),
    ("PATCH", "~/{plural}/{name}/status", Object(&[])),
    ("PUT", "~/{plural}/{name}/scale", Object(&[])),
    ("PATCH", "~/{plural}/{name}/scale", Object(&[])),
    // Questions in the form of objects: nothing is kept of them.
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Object(&[])),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", Object(&[])),
    ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", Object(&[])),
    ("POST", "~/{plural}/{name}/release", Bare),
    ("POST", "~/{plural}/{name}/approvals/{request}", Takes(&[])),
    ("POST", "~/agents/{name}/turns", Takes(&[])),
    ("POST", "~/agents/{name}/turns/{id}/cancel", Takes(&[])),
    ("DELETE", "~/agents/{name}/grants/{id}", Bare),
    ("POST", "/files", Takes(&["name"])),
    ("POST", "~/fly/leaks/confirm", Bare),
    ("POST", "~/access/pairings/{code}/approve", Takes(&[])),
    ("PUT", "~/access/grants/{principal}", Takes(&[])),
    ("DELETE", "~/access/grants/{principal}", Takes(&[])),
    ("POST", "~/tokens", Takes(&[])),
    ("DELETE", "~/tokens/{name}", Bare),
    ("PUT", "~/secrets/{name}", Takes(&[])),
    ("DELETE", "~/secrets/{name}", Bare),
    ("POST", "/console/messages", Takes(&[])),
    ("POST", "/console/acks", Takes(&[])),
];

/// Lets through what is asked for in a manner that the call knows.
pub(super) async fn minded(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
        return next.run(request).await;
    }
    // What leads nowhere is told as such.
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let manner = manner(request.method(), path.as_str());
    if let Err(problem) = check(manner, request.method(), request.uri()) {
        return problem.into_response();
    }
    if manner != Some(Bare) {
        return next.run(request).await;
    }
    let (parts, sent) = request.into_parts();
    match body::read(sent, NO_BODY, &*state.0.ambient.clock).await {
        Ok(bytes) if matches!(bytes.trim_ascii(), b"" | b"{}" | b"null") => {
            next.run(Request::from_parts(parts, Body::empty())).await
        }
        Ok(_) => {
            let call = call(&parts.method, &parts.uri);
            let message = format!("{call} takes no body, and one was sent; leave it out");
            Problem::bad_request(message).into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

fn manner(method: &Method, path: &str) -> Option<Manner> {
    let short = path.strip_prefix(PREFIX).map(|rest| format!("~{rest}"));
    let short = short.as_deref().unwrap_or(path);
    let row = TABLE.iter().find(|(of, at, _)| *of == method.as_str() && *at == short);
    row.map(|(_, _, manner)| *manner)
}

/// Refuses a dry run where there is none, parameters that nothing reads, and those that say two things.
fn check(manner: Option<Manner>, method: &Method, uri: &Uri) -> Result<(), Problem> {
    let known: Option<Vec<&str>> = match manner {
        Some(Object(more)) => Some(more.iter().copied().flatten().chain(&WRITE).copied().collect()),
        Some(Takes(known)) => Some(known.to_vec()),
        Some(Bare) => Some(Vec::new()),
        None => None,
    };
    let query = uri.query().unwrap_or_default();
    let said: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    for (n, (name, value)) in said.iter().enumerate() {
        if name == "dryRun" && !matches!(manner, Some(Object(_))) {
            if value.is_empty() {
                continue;
            }
            let call = call(method, uri);
            let message =
                format!("{call} has no dry run, and nothing was done; leave out dryRun to do it");
            return Err(Problem::bad_request(message));
        }
        let Some(known) = &known else { continue };
        if !known.iter().chain(&EVERYWHERE).any(|it| it == name) {
            return Err(unknown(&call(method, uri), name, known));
        }
        if said[..n].iter().any(|(other, before)| other == name && before != value) {
            let message = format!("{name} is said twice, with two values; say it once");
            return Err(Problem::bad_request(message));
        }
    }
    Ok(())
}

/// A parameter that a call does not know: which is meant, or which there are.
fn unknown(call: &str, name: &str, known: &[&str]) -> Problem {
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    let near = |it: &&&str| plain(it) == plain(name);
    let all: Vec<&str> = known.iter().chain(&EVERYWHERE).copied().collect();
    let mend = match all.iter().find(near) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => format!("; it takes {}", all.join(", ")),
    };
    Problem::bad_request(format!("{call} knows no parameter `{}`{mend}", name.escape_debug()))
}

fn call(method: &Method, uri: &Uri) -> String {
    format!("{method} {}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(method: &Method, path: &str, asked: &str) -> String {
        let manner = manner(method, path);
        let uri: Uri = asked.parse().unwrap();
        match check(manner, method, &uri) {
            Ok(()) => "goes on".to_owned(),
            Err(problem) => problem.to_json()["message"].as_str().unwrap().to_owned(),
        }
    }

    #[test]
    fn a_call_that_has_no_dry_run_refuses_one_and_so_does_one_without_a_row() {
        for (path, asked) in [("/new", "/new?dryRun=All"), ("/files", "/files?name=a&dryRun=no")] {
            let told = told(&Method::POST, path, asked);
            assert!(told.contains("has no dry run, and nothing was done"), "{told}");
        }
        let object = format!("{PREFIX}/{{plural}}");
        assert_eq!(told(&Method::POST, &object, "/x?dryRun=All&timeout=30s"), "goes on");
        assert_eq!(told(&Method::POST, "/files", "/files?dryRun=&pretty=true"), "goes on");
    }

    #[test]
    fn a_parameter_that_nothing_reads_is_refused_with_those_that_there_are() {
        let release = format!("{PREFIX}/{{plural}}/{{name}}/release");
        let asked = "/agents/a/release?fieldManager=me&force=zz";
        insta::assert_snapshot!(
            told(&Method::POST, &release, asked),
            @"POST /agents/a/release knows no parameter `force`; it takes pretty, fieldManager"
        );
        let object = format!("{PREFIX}/{{plural}}/{{name}}");
        insta::assert_snapshot!(
            told(&Method::PATCH, &object, "/agents/a?dry_run=All"),
            @"PATCH /agents/a knows no parameter `dry_run`; did you mean `dryRun`?"
        );
        insta::assert_snapshot!(
            told(&Method::PATCH, &object, "/agents/a?dryRun=All&dryRun="),
            @"dryRun is said twice, with two values; say it once"
        );
    }
}
