//! `scale`: how many objects something shall have.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{DryRun, ScaleArgs},
    client::{AS_JSON, Client, member},
    create::Told,
    error::Error,
    explain::replicas_path,
    out,
    select::select,
    target::full_name,
};
use crate::resource::{Kind, counted_by};

/// Runs `scale`.
///
/// # Errors
/// A kind that has no replicas, or the server's refusal.
pub async fn scale(args: ScaleArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let dry = args.dry.dry_run;
    let mut told = Told::default();
    for (kind, name) in select(&client, &args.what, None, false).await? {
        let path = replicas_path(kind).ok_or_else(|| without(kind))?;
        if let Some(word) = told.or(one(&client, kind, &name, path, &args).await)? {
            out::line(format!("{} {word}{}", full_name(kind, &name), dry.words()))?;
        }
    }
    told.end()
}

fn without(kind: Kind) -> Error {
    let scaled: Vec<&str> = Kind::ALL
        .into_iter()
        .filter(|kind| replicas_path(*kind).is_some())
        .map(Kind::plural)
        .collect();
    let those = match scaled.as_slice() {
        [] => String::new(),
        scaled => format!("; {} have", scaled.join(", ")),
    };
    Error::Usage(format!("{} have no replicas{those}", kind.plural()))
}

async fn one(
    client: &Client,
    kind: Kind,
    name: &str,
    path: &[&str],
    args: &ScaleArgs,
) -> Result<&'static str, Error> {
    let object = client.get(&member(kind, name), &[], AS_JSON).await?;
    let now = path.iter().fold(&object, |at, part| &at[*part]);
    if let Some(wanted) = args.current_replicas
        && now.as_u64() != Some(wanted.into())
    {
        return Err(Error::Api {
            code: 409,
            reason: "Conflict".to_owned(),
            message: format!(
                "{} has {} replicas, and not {wanted}; nothing was changed",
                full_name(kind, name),
                if now.is_null() { "no number of".to_owned() } else { now.to_string() }
            ),
        });
    }
    if let Some((field, of)) = counted_by(&object["spec"]["generate"]) {
        let name = full_name(kind, name);
        return Err(Error::Usage(format!(
            "{name} has no number of replicas: {field} makes a member of {of}; change it with \
             open-dispatch edit {name}"
        )));
    }
    if now.as_u64() == Some(args.replicas.into()) {
        return Ok("unchanged");
    }
    if args.dry.dry_run != DryRun::Client {
        let mut patch =
            path.iter().rev().fold(Value::from(args.replicas), |inner, part| json!({*part: inner}));
        if args.current_replicas.is_some() {
            // What was looked at is what is written on.
            patch["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        }
        let query = args.dry.dry_run.query();
        client.write(Method::PATCH, &member(kind, name), query, &patch).await?;
    }
    Ok("scaled")
}
