//! `start`: makes an agent, or lets one that was stopped go on.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::StartArgs,
    client::{Client, collection, member},
    error::Error,
    object::print_object,
    out,
    patience::Patience,
    spec,
    target::{self, full_name},
    watch,
};
use crate::{
    ambient::Ambient,
    resource::{API_VERSION, Kind},
};

/// Runs `start`.
///
/// # Errors
/// What keeps the agent from being made, or from going on.
pub async fn start(args: StartArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let (name, place) = read(&args.what)?;
    let directory = std::env::current_dir().ok();
    let here = if client.place().is_here() { directory.as_deref() } else { None };
    let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/'));
    let home = home.as_deref().filter(|_| here.is_some()).map(Path::new);
    let there = match &name {
        Some(name) => watch::object(&client, Kind::Agent, name).await?,
        None => None,
    };
    let (object, word) = match (there, name) {
        (Some(agent), Some(name)) => {
            let suspended = agent["spec"]["suspend"] == true;
            let machine = !agent["spec"]["runtime"]["fly"].is_null();
            let mut wanted = said(&args, place.as_deref(), here, home, machine)?;
            wanted["suspend"] = false.into();
            let patch = json!({"spec": wanted});
            let path = member(Kind::Agent, &name);
            let written =
                client.persist(Method::PATCH, &path, &[], &patch, &mut Patience::new()).await?;
            let changed = changes(&agent["spec"], &written["spec"]);
            let word = match (suspended, changed.is_empty()) {
                (true, true) => "started; it goes on where it was".to_owned(),
                (true, false) => format!("started; it goes on with another {changed}"),
                (false, true) => "runs already".to_owned(),
                (false, false) => format!("changed: it gets another {changed} after this turn"),
            };
            (written, word)
        }
        (_, name) => {
            let mut spec = spec::of(&args.work, place.as_deref(), here, home)?;
            extras(&args, &mut spec);
            let metadata = match &name {
                Some(name) => json!({"name": name}),
                None => json!({"generateName": "agent-"}),
            };
            let agent = json!({
                "apiVersion": API_VERSION, "kind": "Agent", "metadata": metadata, "spec": spec,
            });
            (create(&client, &agent).await?, "started".to_owned())
        }
    };
    if let Some(format) = args.output {
        print_object(&object, format)?;
        return Ok(0);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    out::line(format!("{} {word}", full_name(Kind::Agent, name)))?;
    out::hint(place_of(&object["spec"]));
    out::hint(format!("say something to it with: open-dispatch send -f {name} MESSAGE"));
    Ok(0)
}

/// Creates an object; each try bears the same request id.
async fn create(client: &Client, object: &Value) -> Result<Value, Error> {
    let request = Ambient::real().ids.uid();
    let query = [("requestId", request.as_str()), ("console", "1")];
    let path = collection(Kind::Agent);
    client.persist(Method::POST, &path, &query, object, &mut Patience::new()).await
}

/// Which word is the name, and which the path.
fn read(words: &[String]) -> Result<(Option<String>, Option<PathBuf>), Error> {
    let is_path =
        |word: &String| word.contains('/') || word.starts_with('~') || word.starts_with('.');
    let name = |word: &String| match word.as_str() {
        "" => Err(Error::Usage(
            "the name is empty; write start NAME, or start alone for a name that is drawn"
                .to_owned(),
        )),
        word => target::object(&format!("agent/{word}")).map(|(_, name)| name),
    };
    match words {
        [] => Ok((None, None)),
        [one] if is_path(one) => Ok((None, Some(one.into()))),
        [one] => Ok((Some(name(one)?), None)),
        [first, path, ..] => Ok((Some(name(first)?), Some(path.into()))),
    }
}

/// What the words say and what of an agent's spec it would change; nothing of what they leave out.
/// `machine` says whether the agent lives in one.
fn said(
    args: &StartArgs,
    place: Option<&Path>,
    here: Option<&Path>,
    home: Option<&Path>,
    machine: bool,
) -> Result<Value, Error> {
    let work = &args.work;
    let mut spec = spec::of(work, place, here, home)?;
    let moved = place.is_some() || work.runtime.is_some() || work.image.is_some();
    if let Some(spec) = spec.as_object_mut()
        && !moved
    {
        spec.remove("runtime");
    }
    if !moved && !machine && work.persistent == Some(false) {
        return Err(Error::Usage(
            "--persistent=false is for Fly Machines, and this agent lives on the server's machine, \
             which keeps its files; leave it out, or move the agent with --runtime fly"
                .to_owned(),
        ));
    }
    // A union has one member: where it moves, the other goes.
    if moved && work.is_machine() {
        spec["runtime"]["local"] = Value::Null;
    } else if moved {
        spec["runtime"]["fly"] = Value::Null;
    } else if let Some(persistent) = work.persistent.filter(|_| machine) {
        spec["runtime"] = json!({"fly": {"persistent": persistent}});
    }
    extras(args, &mut spec);
    if let Some(agent) = spec["agent"].as_object().and_then(|agent| agent.keys().next().cloned()) {
        // A union has one member: the others go.
        for other in ["claude", "opencode", "codex", "acp", "command"] {
            if other != agent {
                spec["agent"][other] = Value::Null;
            }
        }
    }
    if spec["agent"].is_null()
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("agent");
    }
    Ok(spec)
}

fn extras(args: &StartArgs, spec: &mut Value) {
    if let Some(instructions) = &args.instructions {
        spec["instructions"] = instructions.as_str().into();
    }
    if let Some(timeout) = args.timeout {
        spec["turnTimeout"] = timeout.to_string().into();
    }
    if let Some(timeout) = args.idle_timeout {
        spec["idleTimeout"] = timeout.to_string().into();
    }
}

/// The members in which two specs differ, but for whether it is suspended.
fn changes(old: &Value, new: &Value) -> String {
    let keys = |spec: &Value| -> Vec<String> {
        spec.as_object().map(|spec| spec.keys().cloned().collect()).unwrap_or_default()
    };
    let mut names: Vec<String> = keys(old).into_iter().chain(keys(new)).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| name != "suspend" && old[name] != new[name]);
    names.join(", ")
}

/// Who works where, in one line.
fn place_of(spec: &Value) -> String {
    let member = |value: &Value| {
        value.as_object().and_then(|map| map.keys().next().cloned()).unwrap_or_default()
    };
    let repo = spec["repo"]["github"].as_str().or(spec["repo"]["url"].as_str());
    let place = match (repo, spec["runtime"]["local"]["workdir"].as_str()) {
        (Some(repo), _) => format!(" on {repo}"),
        (None, Some(directory)) => format!(" in {directory}"),
        (None, None) => String::new(),
    };
    let image = match spec["runtime"]["fly"]["image"].as_str() {
        Some(image) => format!(", image {image}"),
        None => String::new(),
    };
    let (agent, runtime) = (member(&spec["agent"]), member(&spec["runtime"]));
    out::harmless(&format!("{agent} works{place}, runtime {runtime}{image}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_a_slash_is_a_path_and_any_other_a_name() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            read(&words).unwrap()
        };
        let (name, path) = (Some("bot".to_owned()), |path: &str| Some(PathBuf::from(path)));
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&["bot"]), (name.clone(), None));
        assert_eq!(of(&["."]), (None, path(".")));
        assert_eq!(of(&["~/x"]), (None, path("~/x")));
        assert_eq!(of(&["bot", "sub"]), (name, path("sub")));
        let empty = read(&[String::new()]).unwrap_err();
        assert!(empty.to_string().starts_with("the name is empty"), "{empty}");
    }

    #[test]
    fn an_agent_that_is_there_keeps_nothing_only_where_it_lives_in_a_machine() {
        #[derive(Debug, clap::Parser)]
        struct Words {
            #[command(flatten)]
            args: StartArgs,
        }
        let said = |words: &[&str], machine| {
            let words = ["start", "bot"].iter().chain(words);
            let args = <Words as clap::Parser>::try_parse_from(words).unwrap().args;
            said(&args, None, Some(Path::new("/here")), None, machine)
        };
        let afresh = said(&["--persistent=false"], true).unwrap();
        assert_eq!(afresh["runtime"], json!({"fly": {"persistent": false}}));
        let kept = said(&["--persistent"], true).unwrap();
        assert_eq!(kept["runtime"], json!({"fly": {"persistent": true}}));
        let refused = said(&["--persistent=false"], false).unwrap_err().to_string();
        assert!(refused.contains("move the agent with --runtime fly"), "{refused}");
        let moved = said(&["--persistent=false", "--runtime", "fly"], false).unwrap();
        assert_eq!(moved["runtime"], json!({"fly": {"persistent": false}, "local": null}));
    }

    #[test]
    fn what_differs_is_named() {
        let old = json!({"agent": {"claude": {}}, "suspend": true, "idleTimeout": "5m"});
        let new =
            json!({"agent": {"codex": {}}, "permissions": {"mode": "ask"}, "idleTimeout": "5m"});
        assert_eq!(changes(&old, &new), "agent, permissions");
    }
}
