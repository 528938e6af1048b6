//! `set`: changes fields of a spec by their names.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    agents::named,
    args::SetArgs,
    client::{Client, member},
    error::Error,
    out,
    over::{Wish, make},
    target::full_name,
};
use crate::resource::short::{leave_no_empty_group, place};

/// Runs `set`.
///
/// # Errors
/// A field that cannot be set, or the server's refusal.
pub async fn set(args: SetArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (kind, object) = named(&client, &args.name).await?;
    let mut spec = json!({});
    for field in &args.fields {
        put(&mut spec, field, &object["spec"])?;
    }
    leave_no_empty_group(&mut spec, &object["spec"]);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if args.over.is_some() || args.write {
        let (length, write) = (args.over, args.write);
        let wish = Wish { patch: spec, length, write, reason: None };
        return make(&client, kind, &object, wish).await;
    }
    let patch = json!({"spec": spec});
    let written = client.write(Method::PATCH, &member(kind, name), &[], &patch).await;
    let written = written.map_err(|error| in_own_words(error, &args.fields))?;
    let same = written["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"];
    let word = if same { "unchanged" } else { "changed" };
    out::line(format!("{} {word}", full_name(kind, name)))?;
    Ok(0)
}

/// A refusal whose commands name the fields that were typed.
fn in_own_words(error: Error, fields: &[String]) -> Error {
    let words: Vec<String> = fields.iter().map(|field| shell_word(field)).collect();
    match error {
        Error::Api { code, reason, message } => {
            let message = message.replace("FIELD=VALUE", &words.join(" "));
            Error::Api { code, reason, message }
        }
        error => error,
    }
}

/// A word as a shell takes it for one.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Puts one `FIELD=VALUE` into a patch of the spec.
pub(super) fn put(patch: &mut Value, field: &str, spec: &Value) -> Result<(), Error> {
    let Some((name, value)) = field.split_once('=') else {
        return Err(Error::Usage(format!(
            "`{field}` sets nothing; write FIELD=VALUE, such as idleTimeout=1h"
        )));
    };
    let path = place(name, spec);
    if path.iter().any(|part| part.is_empty()) {
        return Err(Error::Usage(format!("`{name}` is no field; write a name such as model")));
    }
    let mut at = patch;
    for part in path {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[part];
    }
    *at = read(value);
    Ok(())
}

/// A value: JSON where it is that, else text; nothing takes the field away.
fn read(value: &str) -> Value {
    if value.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(value).unwrap_or_else(|_| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_command_with_the_fields_that_were_typed() {
        let refused = Error::Api {
            code: 403,
            reason: "Owned".to_owned(),
            message: "say override agent/a FIELD=VALUE --write".to_owned(),
        };
        let fields = ["model=m".to_owned(), "instructions=it's so".to_owned()];
        assert_eq!(
            in_own_words(refused, &fields).to_string(),
            "Error from server (Owned): say override agent/a model=m 'instructions=it'\\''s so' \
             --write"
        );
    }

    #[test]
    fn fields_go_by_their_place_and_values_by_their_look() {
        let spec = json!({"agent": {"codex": {}}});
        let patch = |fields: &[&str]| {
            let mut patch = json!({});
            fields.iter().try_for_each(|field| put(&mut patch, field, &spec)).map(|()| patch)
        };
        assert_eq!(
            patch(&["model=m", "mode=ask", "budget.usd=2.5", "budget.turns=3", "branch=b"])
                .unwrap(),
            json!({
                "agent": {"codex": {"model": "m"}}, "permissions": {"mode": "ask"},
                "budget": {"usd": 2.5, "turns": 3}, "repo": {"branch": "b"},
            })
        );
        assert_eq!(
            patch(&["instructions=a=b c", "suspend=true", "idleTimeout=15m", "spec.repo="])
                .unwrap(),
            json!({"instructions": "a=b c", "suspend": true, "idleTimeout": "15m", "repo": null})
        );
        for bad in ["model", "=x", "a..b=c", ".=c"] {
            assert_eq!(patch(&[bad]).unwrap_err().code(), 2, "{bad}");
        }
    }
}
