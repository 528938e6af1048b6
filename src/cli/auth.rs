//! `auth`: what the server would let this token do. The server answers; nothing is guessed here.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{AuthCommand, CanIArgs, ServerArgs},
    client::Client,
    error::Error,
    out, target,
};
use crate::resource::{GROUP, Kind};

/// The API that answers whether somebody may do something.
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// The API that answers who somebody is.
const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
/// Exit code: it may not.
const NO: u8 = 1;

/// Runs `auth`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn auth(command: AuthCommand) -> Result<u8, Error> {
    match command {
        AuthCommand::CanI(args) => can_i(args).await,
        AuthCommand::WhoAmI(args) => who_am_i(&args.server).await,
    }
}

async fn can_i(args: CanIArgs) -> Result<u8, Error> {
    let (kind, name) = match args.what.split_once('/') {
        Some(_) => target::object(&args.what).map(|(kind, name)| (kind, Some(name)))?,
        None => (target::kind(&args.what)?, None),
    };
    let client = Client::find(&args.server)?;
    let review = review(&args, kind, name.as_deref());
    let answer = client.write(Method::POST, REVIEWS, &[], &review).await?;
    let status = &answer["status"];
    let yes = status["allowed"] == true;
    if !args.quiet {
        let reason = status["reason"].as_str().filter(|reason| !reason.is_empty());
        let behind = reason.map(|reason| format!(" - {}", out::harmless(reason)));
        let word = if yes { "yes" } else { "no" };
        out::line(format!("{word}{}", behind.filter(|_| !yes).unwrap_or_default()))?;
    }
    Ok(if yes { 0 } else { NO })
}

fn review(args: &CanIArgs, kind: Kind, name: Option<&str>) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "verb": args.verb,
            "group": GROUP,
            "version": "v1alpha1",
            "resource": kind.plural(),
            "subresource": args.subresource.as_deref().unwrap_or_default(),
            "name": name.unwrap_or_default(),
        }},
    })
}

async fn who_am_i(server: &ServerArgs) -> Result<u8, Error> {
    let client = Client::find(server)?;
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = client.write(Method::POST, SELF, &[], &body).await?;
    let who = &answer["status"]["userInfo"];
    let name = who["username"].as_str().unwrap_or("<unknown>");
    let groups: Vec<&str> =
        who["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    out::line(out::harmless(&format!("Username  {name}")))?;
    if !groups.is_empty() {
        out::line(out::harmless(&format!("Groups    {}", groups.join(", "))))?;
    }
    Ok(0)
}
