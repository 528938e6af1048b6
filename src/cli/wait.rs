//! `wait`: until an object is as it is wanted, is gone, or is there.
//!
//! What is waited for is judged by a pure function on what the object is now, so that nothing is
//! missed between two looks. A condition that speaks of an older generation says nothing yet: it
//! would be met at once by whoever has just changed the spec.

use std::time::Duration;

use serde_json::Value;

use super::{
    args::WaitArgs, client::Client, error::Error, jsonpath, out, patience::Patience,
    select::select, target::full_name, watch,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::Kind,
};

/// After how long it is told what is waited for.
const QUIET: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum For {
    /// A condition, and its value.
    Condition(String, String),
    /// That it is gone.
    Delete,
    /// That it is there.
    Create,
    /// That something stands at a path, or this.
    Path(jsonpath::Path, Option<String>),
}

impl For {
    /// Reads what stands behind `--for`.
    ///
    /// # Errors
    /// One line on what it must be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let forms = || {
            "write condition=NAME, condition=NAME=VALUE, delete, create, jsonpath={PATH} or \
             jsonpath={PATH}=VALUE"
                .to_owned()
        };
        match text.split_once('=') {
            None if text == "delete" => Ok(Self::Delete),
            None if text == "create" => Ok(Self::Create),
            Some(("condition", condition)) => {
                let (name, value) = condition.split_once('=').unwrap_or((condition, "True"));
                if name.is_empty() || value.is_empty() {
                    return Err(forms());
                }
                Ok(Self::Condition(name.to_owned(), value.to_owned()))
            }
            Some(("jsonpath", rest)) => {
                // The path may hold `==`, so its end is its closing brace, where it has one.
                let (path, value) = match rest.strip_prefix('{').and_then(|it| it.rsplit_once('}'))
                {
                    Some((path, "")) => (path, None),
                    Some((path, value)) => (path, Some(value.strip_prefix('=').ok_or_else(forms)?)),
                    None => match rest.split_once('=') {
                        Some((path, value)) => (path, Some(value)),
                        None => (rest, None),
                    },
                };
                if value == Some("") {
                    return Err(forms());
                }
                let path = path.parse().map_err(|error: jsonpath::NotAPath| error.to_string())?;
                Ok(Self::Path(path, value.map(str::to_owned)))
            }
            _ => Err(forms()),
        }
    }
}

/// What is to be said of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Met,
    /// Not yet; how it stands.
    NotYet(String),
    /// It is not there, and will not come by itself.
    Missing,
}

/// Judges an object. `uid` is the one that was there when the waiting began.
fn judge(what: &For, uid: Option<&str>, object: Option<&Value>) -> Verdict {
    let Some(object) = object else {
        return match what {
            For::Delete => Verdict::Met,
            For::Create => Verdict::NotYet("it is not there".to_owned()),
            _ => Verdict::Missing,
        };
    };
    match what {
        For::Create => Verdict::Met,
        // Another object of the same name is not the one that was there.
        For::Delete if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) => Verdict::Met,
        For::Delete => {
            let goes = object["metadata"]["deletionTimestamp"].is_string();
            let word = if goes { "it is on its way out" } else { "it is there" };
            Verdict::NotYet(word.to_owned())
        }
        For::Condition(name, value) => condition(object, name, value),
        For::Path(path, value) => {
            let found = path.find(object);
            let is = |found: &&Value| {
                value.as_ref().is_none_or(|value| jsonpath::shown(found) == *value)
            };
            if found.iter().any(is) && found.iter().any(|found| !found.is_null()) {
                return Verdict::Met;
            }
            let now: Vec<String> = found.into_iter().map(jsonpath::shown).collect();
            Verdict::NotYet(match now.as_slice() {
                [] => "nothing stands there".to_owned(),
                now => format!("it is {}", out::harmless(&now.join(" "))),
            })
        }
    }
}

fn condition(object: &Value, name: &str, value: &str) -> Verdict {
    let conditions = object["status"]["conditions"].as_array();
    let condition = conditions.into_iter().flatten().find(|condition| {
        condition["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case(name))
    });
    let Some(condition) = condition else {
        return Verdict::NotYet("nothing is known of it yet".to_owned());
    };
    let newest = object["metadata"]["generation"].as_u64().unwrap_or_default();
    let seen = condition["observedGeneration"]
        .as_u64()
        .or(object["status"]["observedGeneration"].as_u64())
        .unwrap_or(newest);
    let status = condition["status"].as_str().unwrap_or("Unknown");
    if seen < newest {
        return Verdict::NotYet(format!("it is {status} of an older spec"));
    }
    if status.eq_ignore_ascii_case(value) {
        return Verdict::Met;
    }
    let text = |member: &str| out::harmless(condition[member].as_str().unwrap_or_default());
    let behind = match (text("reason"), text("message")) {
        (reason, message) if reason.is_empty() && message.is_empty() => String::new(),
        (reason, message) if message.is_empty() => format!(" ({reason})"),
        (reason, message) => format!(" ({reason}: {message})"),
    };
    Verdict::NotYet(format!("it is {status}{behind}"))
}

/// Runs `wait`.
///
/// # Errors
/// That the time was over first, or the server's refusal.
pub async fn wait(args: WaitArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let objects = select(&client, &args.what, args.selector.as_deref(), args.all).await?;
    let end = SystemClock.elapsed() + args.timeout.0;
    let mut failed = false;
    for (kind, name) in objects {
        match one(&client, kind, &name, &args.what_for, end).await? {
            Ok(()) => {
                let word = match args.what_for {
                    For::Delete => "deleted",
                    For::Create => "created",
                    _ => "condition met",
                };
                out::line(format!("{} {word}", full_name(kind, &name)))?;
            }
            Err(state) => {
                failed = true;
                out::note(format!(
                    "error: timed out after {} waiting for {} of {}: {state}",
                    args.timeout,
                    words(&args.what_for),
                    full_name(kind, &name)
                ));
            }
        }
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

fn words(what: &For) -> String {
    match what {
        For::Condition(name, value) if value == "True" => format!("the condition {name}"),
        For::Condition(name, value) => format!("the condition {name}={value}"),
        For::Delete => "the end".to_owned(),
        For::Create => "the beginning".to_owned(),
        For::Path(..) => "the value".to_owned(),
    }
}

/// Waits for one object; how it stands, where the time is over first.
async fn one(
    client: &Client,
    kind: Kind,
    name: &str,
    what: &For,
    end: Duration,
) -> Result<Result<(), String>, Error> {
    let begin = SystemClock.elapsed();
    let mut state = None;
    let mut told = None;
    let mut uid: Option<String> = None;
    let mut patience = Patience::new();
    let waiting = watch::until(client, kind, name, &mut patience, |object| {
        if let (None, Some(object)) = (&uid, object) {
            uid = object["metadata"]["uid"].as_str().map(str::to_owned);
        }
        match judge(what, uid.as_deref(), object) {
            Verdict::Met => Some(true),
            Verdict::Missing => Some(false),
            Verdict::NotYet(now) => {
                // Whoever waits longer than a moment hears what for.
                let long = SystemClock.elapsed() >= begin + QUIET;
                if long && told.as_ref() != Some(&now) {
                    out::note(format!("waiting for {} of {kind} {name}: {now}", words(what)));
                    told = Some(now.clone());
                }
                state = Some(now);
                None
            }
        }
    });
    let met = tokio::select! {
        biased;
        met = waiting => Some(met?),
        () = over(end.saturating_sub(begin)) => None,
    };
    match met {
        Some(true) => Ok(Ok(())),
        Some(false) => Err(Error::Api {
            code: 404,
            reason: "NotFound".to_owned(),
            message: format!("{}.{} \"{name}\" not found", kind.plural(), crate::resource::GROUP),
        }),
        None => Ok(Err(state.unwrap_or_else(|| "the server has not answered yet".to_owned()))),
    }
}

/// Ends when the time is over; even without any time there is enough for one look.
async fn over(left: Duration) {
    SystemClock.sleep(left.max(Duration::from_millis(500))).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(generation: u64, seen: u64, status: &str) -> Value {
        json!({
            "metadata": {"uid": "u", "generation": generation},
            "status": {
                "phase": "Idle",
                "conditions": [{
                    "type": "Ready", "status": status, "observedGeneration": seen,
                    "reason": "Starting", "message": "a sprite is made",
                }],
            },
        })
    }

    #[test]
    fn a_condition_of_an_older_spec_says_nothing() {
        let ready = For::parse("condition=Ready").unwrap();
        let judged = |object: &Value| judge(&ready, None, Some(object));
        assert_eq!(judged(&agent(2, 2, "True")), Verdict::Met);
        assert_eq!(
            judged(&agent(3, 2, "True")),
            Verdict::NotYet("it is True of an older spec".to_owned())
        );
        assert_eq!(
            judged(&agent(2, 2, "False")),
            Verdict::NotYet("it is False (Starting: a sprite is made)".to_owned())
        );
        assert_eq!(
            judged(&json!({"metadata": {}})),
            Verdict::NotYet("nothing is known of it yet".to_owned())
        );
        assert_eq!(judge(&ready, None, None), Verdict::Missing);
        let not_ready = For::parse("condition=ready=false").unwrap();
        assert_eq!(judge(&not_ready, None, Some(&agent(2, 2, "False"))), Verdict::Met);
    }

    #[test]
    fn another_object_of_the_same_name_is_not_the_one_that_was_there() {
        let object = agent(1, 1, "True");
        assert_eq!(judge(&For::Delete, Some("u"), None), Verdict::Met);
        assert_eq!(judge(&For::Delete, Some("old"), Some(&object)), Verdict::Met);
        assert!(matches!(judge(&For::Delete, Some("u"), Some(&object)), Verdict::NotYet(_)));
        assert_eq!(judge(&For::Create, None, Some(&object)), Verdict::Met);
    }

    #[test]
    fn a_value_is_waited_for_by_its_path() {
        let object = agent(1, 1, "True");
        for (text, met) in [
            ("jsonpath={.status.phase}=Idle", true),
            ("jsonpath=.status.phase=Idle", true),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.phase}=Busy", false),
            ("jsonpath={.status.sprite}", false),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
        ] {
            let what = For::parse(text).unwrap();
            assert_eq!(judge(&what, None, Some(&object)) == Verdict::Met, met, "{text}");
        }
        for bad in [
            "",
            "ready",
            "condition=",
            "condition=A=",
            "jsonpath=",
            "jsonpath={.a}=",
            "jsonpath={.a}b",
            "jsonpath={",
            "delete=x",
        ] {
            assert!(For::parse(bad).is_err(), "{bad}");
        }
    }
}
