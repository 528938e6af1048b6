//! `override` and `release`: changes of what a Source declares, and letting it go.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    agent_args::{OverrideArgs, ReleaseArgs},
    agents::named,
    client::{AS_JSON, Client, api, collection, member},
    error::Error,
    out,
    patience::Patience,
    set::put,
    target::{self, full_name},
};
use crate::{
    ambient::{Ambient, Clock as _, SystemClock},
    resource::{ADOPT, API_VERSION, Kind, Span, short::leave_no_empty_group, yaml},
};

/// How long a change that waits for its file holds at most, where nothing else is said.
const FOR_THE_FILE: Span = Span::from_secs(24 * 60 * 60);
/// How often and at what distance the server is asked whether an Override holds.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Runs `override`.
///
/// # Errors
/// A patch that cannot be, an object that no Source declares, or the server's refusal.
pub async fn over(args: OverrideArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, object) = named(&client, &args.name).await?;
    let mut patch = match &args.patch {
        Some(text) => read(text)?,
        None => json!({}),
    };
    for field in &args.fields {
        put(&mut patch, field, &object["spec"])?;
    }
    leave_no_empty_group(&mut patch, &object["spec"]);
    make(
        &client,
        kind,
        &object,
        Wish { patch, length: args.length, write: args.write, reason: args.reason },
    )
    .await
}

/// A change for a time.
pub(super) struct Wish {
    /// The merge patch on the spec.
    pub(super) patch: Value,
    /// How long it holds.
    pub(super) length: Option<Span>,
    /// Whether it is also written to the file.
    pub(super) write: bool,
    /// Why.
    pub(super) reason: Option<String>,
}

/// Makes an Override, and waits until it is known what came of it.
pub(super) async fn make(
    client: &Client,
    kind: Kind,
    object: &Value,
    wish: Wish,
) -> Result<u8, Error> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if wish.patch.as_object().is_none_or(serde_json::Map::is_empty) {
        let line = "nothing is changed; write FIELD=VALUE, or a patch with -p";
        return Err(Error::Usage(line.to_owned()));
    }
    // Whoever may edit it directly is told so before anything is made.
    let place = api(&format!("{}/{name}/source", kind.plural()));
    let declared = client.get(&place, &[], AS_JSON).await?;
    let length = wish.length.or(wish.write.then_some(FOR_THE_FILE));
    let mut spec = json!({
        "target": {"kind": kind.name(), "name": name}, "patch": wish.patch,
    });
    if let Some(length) = length {
        spec["expiresAfter"] = length.to_string().into();
    }
    if wish.write {
        spec["writeToFile"] = true.into();
    }
    if let Some(reason) = wish.reason {
        spec["reason"] = reason.into();
    }
    let over = json!({
        "apiVersion": API_VERSION, "kind": "Override",
        "metadata": {"generateName": format!("{name}-")}, "spec": spec,
    });
    // The same request id for each try: one whose answer was lost is not made again.
    let request = Ambient::real().ids.uid();
    let query = [("requestId", request.as_str())];
    let mut patience = Patience::new();
    let path = collection(Kind::Override);
    let made = client.persist(Method::POST, &path, &query, &over, &mut patience).await?;
    let called = made["metadata"]["name"].as_str().unwrap_or_default();
    let over = settled(client, called, wish.write, &mut patience).await?;
    let condition = |kind: &str| {
        let all = over["status"]["conditions"].as_array().into_iter().flatten();
        all.into_iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
    };
    let said = |condition: &Value| condition["message"].as_str().unwrap_or_default().to_owned();
    let phase = over["status"]["phase"].as_str().unwrap_or("Pending");
    if phase == "Refused" {
        // It would come to hold once it fits; nobody asked for that.
        client.write(Method::DELETE, &member(Kind::Override, called), &[], &json!({})).await?;
        return Err(Error::Usage(format!(
            "{} cannot be overridden: {}",
            full_name(kind, name),
            said(&condition("Applied"))
        )));
    }
    out::line(format!("{} overridden", full_name(kind, name)))?;
    let expires = over["status"]["expires"].as_str().unwrap_or("its time is over");
    out::note(format!("{} holds until {expires}", full_name(Kind::Override, called)));
    let file = declared["file"].as_str().unwrap_or_default();
    let written = condition("Written");
    if written["status"] == "True" {
        out::note(format!("written to {}", said(&written)));
        // They were laid over it before, and stay so once this one has ended with the file.
        for older in declared["overrides"].as_array().into_iter().flatten() {
            let text = |member: &str| out::harmless(older[member].as_str().unwrap_or_default());
            out::note(format!(
                "{} stays laid over what the file says until {}; open-dispatch delete {0} ends it",
                full_name(Kind::Override, &text("name")),
                text("expires"),
            ));
        }
    } else if wish.write {
        out::note(format!("{file} is not written yet: {}", said(&written)));
        return Ok(1);
    }
    Ok(0)
}

/// The Override once something came of it, or as it is after a while.
async fn settled(
    client: &Client,
    name: &str,
    write: bool,
    patience: &mut Patience,
) -> Result<Value, Error> {
    let mut over = Value::Null;
    for _ in 0..LOOKS {
        over = loop {
            match client.get(&member(Kind::Override, name), &[], AS_JSON).await {
                Ok(over) => break over,
                Err(error) => patience.wait(error).await?,
            }
        };
        patience.answered();
        let has = |kind: &str| {
            let all = over["status"]["conditions"].as_array().into_iter().flatten();
            all.into_iter().any(|condition| condition["type"] == kind)
        };
        let is_over = over["status"]["phase"] == "Refused";
        if has("Applied") && (is_over || !write || has("Written")) {
            break;
        }
        SystemClock.sleep(BETWEEN_LOOKS).await;
    }
    Ok(over)
}

/// A patch as YAML or JSON: of the spec, or of the object with `spec` in it.
fn read(text: &str) -> Result<Value, Error> {
    let bad = |why: String| Error::Usage(format!("the patch cannot be taken: {why}"));
    // With its nulls, which take fields away.
    let value = yaml::one(text).map_err(|faults| bad(faults.to_string()))?;
    let Value::Object(mut members) = value else { return Err(bad("it is no object".to_owned())) };
    Ok(match members.remove("spec") {
        Some(spec) if members.is_empty() => spec,
        Some(_) => return Err(bad("only the spec can be overridden".to_owned())),
        None => Value::Object(members),
    })
}

/// Runs `release`.
///
/// # Errors
/// An object that no Source declares, or the server's refusal.
pub async fn release(args: ReleaseArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, name) = target::object(&args.name)?;
    let place = api(&format!("{}/{name}/release", kind.plural()));
    let released = client.write(Method::POST, &place, &[], &json!({})).await?;
    let source = released["metadata"]["annotations"][crate::resource::RELEASED_FROM].as_str();
    out::line(format!("{} released", full_name(kind, &name)))?;
    out::note(format!(
        "it stays as it is; source {0} names it as a conflict until its files drop it, or until it is \
         handed over again: annotate it with {ADOPT}={0}",
        source.unwrap_or_default()
    ));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_of_the_spec_however_it_is_written() {
        let patch = json!({"budget": {"usd": 9}});
        for text in ["budget: {usd: 9}", "{\"spec\": {\"budget\": {\"usd\": 9}}}"] {
            assert_eq!(read(text).unwrap(), patch);
        }
        for (text, patch) in [
            ("{\"budget\": null}", json!({"budget": null})),
            ("budget: null", json!({"budget": null})),
            (
                "spec: {budget: ~, env: {A: null, B: b}}",
                json!({"budget": null, "env": {"A": null, "B": "b"}}),
            ),
        ] {
            assert_eq!(read(text).unwrap(), patch, "null takes a field away: {text}");
        }
        for bad in ["a", "[1]", "{\"spec\": {}, \"metadata\": {}}", "a: 1\n---\nb: 2"] {
            assert_eq!(read(bad).unwrap_err().code(), 2, "{bad}");
        }
    }
}
