//! `delete` and `cancel`: what ends things.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    agents::{all_turns, has_ended, named, number, turn_of, turn_path},
    args::{CancelArgs, DeleteArgs, DryRun, FileArgs, Within},
    client::{AS_JSON, Client, Place, member},
    create::Told,
    error::Error,
    files::{self, Names},
    out,
    patience::Patience,
    run::Outcome,
    select::select,
    send::author,
    target::full_name,
    watch,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::{GROUP, Kind},
};

/// How often a write is tried again when somebody else wrote first.
const TRIES: u32 = 8;
/// After how long it is told what is waited for.
const QUIET: Duration = Duration::from_secs(1);

/// Runs `delete`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn delete(args: DeleteArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let dry = args.dry.dry_run;
    let mut told = Told::default();
    let mut waiting = Vec::new();
    for (kind, name) in meant(&client, &args).await? {
        match one(&client, kind, &name, &args).await {
            Ok(answer) => {
                let words = dry.words();
                out::line(format!("{}.{GROUP} \"{name}\" deleted{words}", kind.singular()))?;
                if let Some(line) =
                    leaves(kind, &answer, client.place()).filter(|_| dry == DryRun::None)
                {
                    out::note(line);
                }
                waiting.push((kind, name, uid_of(&answer)));
            }
            Err(error) if error.is_not_found() && args.ignore_not_found => {}
            Err(error) => drop(told.or(Err::<(), _>(error))?),
        }
    }
    if args.wait && dry == DryRun::None {
        let gone = wait_all(&client, waiting);
        match args.timeout {
            None => gone.await?,
            Some(Within(limit)) => tokio::select! {
                biased;
                gone = gone => gone?,
                () = SystemClock.sleep(limit) => {
                    out::note("error: timed out; what is not gone yet goes on going");
                    return Err(Error::Told);
                }
            },
        }
    }
    told.end()
}

/// The objects that are meant.
async fn meant(client: &Client, args: &DeleteArgs) -> Result<Vec<(Kind, String)>, Error> {
    if args.file.is_empty() {
        return select(client, &args.what, args.selector.as_deref(), args.all).await;
    }
    let files = FileArgs { file: args.file.clone(), recursive: args.recursive };
    let documents = files::read(&files, Names::All).await?;
    let name = |document: &files::Document| {
        (document.object.kind(), document.object.metadata().name.clone())
    };
    Ok(documents.iter().map(name).collect())
}

/// Asks for the end of one object.
async fn one(client: &Client, kind: Kind, name: &str, args: &DeleteArgs) -> Result<Value, Error> {
    let path = member(kind, name);
    let dry = args.dry.dry_run;
    if dry == DryRun::Client {
        return client.get(&path, &[], AS_JSON).await;
    }
    let options = json!({"propagationPolicy": args.cascade.policy()});
    client.write(Method::DELETE, &path, dry.query(), &options).await
}

/// Waits until all are gone.
async fn wait_all(
    client: &Client,
    objects: Vec<(Kind, String, Option<String>)>,
) -> Result<(), Error> {
    let begin = SystemClock.elapsed();
    for (kind, name, uid) in objects {
        let mut told = false;
        let mut patience = Patience::new();
        watch::until(client, kind, &name, &mut patience, |object| match object {
            // Another object of the same name is not the one that was deleted.
            Some(object) if uid_of(object) == uid => {
                if !told && SystemClock.elapsed() >= begin + QUIET {
                    out::hint(format!("waiting until {kind} {name} is gone"));
                    told = true;
                }
                None
            }
            _ => Some(()),
        })
        .await?;
    }
    Ok(())
}

/// Where the work of something that was deleted may stay, if it had a repository of its own.
fn leaves(kind: Kind, answer: &Value, place: &Place) -> Option<String> {
    if kind == Kind::Sprite || !answer["spec"]["repo"].is_object() {
        return None;
    }
    let uid = answer["metadata"]["uid"].as_str()?;
    let (whole, remove) = match place {
        Place::Data(data) => {
            let path = data.join("work").join(uid);
            // One that never worked has left nothing.
            if !path.exists() {
                return None;
            }
            let path = path.display().to_string();
            (format!("work in {path}"), format!(", or say rm -rf '{path}'"))
        }
        Place::Server(..) if !answer["status"]["sprite"].is_string() => return None,
        Place::Server(..) => ("its work".to_owned(), String::new()),
    };
    Some(format!(
        "{whole} goes too, unless some of it stands nowhere else: then it stays, and the server's \
         log says so; commit it on another branch or push it{remove}"
    ))
}

/// The uid of a deleted object: the object itself is answered while finalizers hold it, else
/// a `Status` that names it.
fn uid_of(answer: &Value) -> Option<String> {
    let uid = match answer["kind"].as_str() {
        Some("Status") => &answer["details"]["uid"],
        _ => &answer["metadata"]["uid"],
    };
    uid.as_str().map(str::to_owned)
}

/// Runs `cancel`.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn cancel(args: CancelArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let mut failed = false;
    for (place, word) in args.names.iter().enumerate() {
        let (kind, object) = match named(&client, word).await {
            Ok(found) => found,
            Err(error @ Error::Api { .. }) => {
                failed = true;
                out::note(error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match kind {
            Kind::Agent if place == 0 => {
                return cancel_turn(&client, &name, &args.names[1..]).await;
            }
            Kind::Job => {}
            _ => return Err(Error::Usage(format!("`{word}` is no job; name an agent first"))),
        }
        match cancel_one(&client, &name).await {
            Ok(None) => out::line(format!("{} cancelled", full_name(kind, &name)))?,
            Ok(Some(outcome)) => {
                failed = true;
                out::note(format!("there is nothing to cancel: {}", ended(&name, &outcome)));
            }
            Err(error @ Error::Api { .. }) => {
                failed = true;
                out::note(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// Asks for the end of an agent's turn: of the one that is named, else of the one that runs, else
/// of the first that waits.
async fn cancel_turn(client: &Client, agent: &str, words: &[String]) -> Result<u8, Error> {
    let turn = match words {
        [] => {
            let turns = all_turns(client, agent).await?;
            let open = |turn: &&Value| !has_ended(turn);
            match turns.iter().find(open) {
                Some(turn) => turn.clone(),
                None => {
                    out::note(format!(
                        "there is nothing to cancel: agent {agent} has nothing to do"
                    ));
                    return Err(Error::Told);
                }
            }
        }
        [word] => turn_of(client, agent, word).await?,
        _ => return Err(Error::Usage("name one turn of an agent at a time".to_owned())),
    };
    let id = turn["id"].as_str().unwrap_or_default();
    let path = format!("{}/cancel", turn_path(agent, id));
    client.write(Method::POST, &path, &[], &json!({"by": author()})).await?;
    out::line(format!("{} turn {} cancelled", full_name(Kind::Agent, agent), number(&turn)))?;
    Ok(0)
}

/// Asks for a job's end; where it has ended already, nothing is written, and this is how.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn cancel_one(client: &Client, name: &str) -> Result<Option<Outcome>, Error> {
    let path = member(Kind::Job, name);
    let mut tries = 0;
    loop {
        let job = client.get(&path, &[], AS_JSON).await?;
        if let Some(outcome) = Outcome::of(&job) {
            return Ok(Some(outcome));
        }
        // The version makes sure that it has not ended meanwhile.
        let version = &job["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"cancel": true}});
        match client.write(Method::PATCH, &path, &[], &patch).await {
            Ok(_) => return Ok(None),
            Err(Error::Api { code: 409, .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// How a job ended, in one line.
fn ended(name: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Complete => format!("job {name} has succeeded"),
        Outcome::Failed { reason, .. } if reason == "Cancelled" => {
            format!("job {name} was cancelled already")
        }
        Outcome::Failed { reason, message, .. } => {
            let why = if message.is_empty() { reason } else { message };
            format!("job {name} has failed: {}", out::harmless(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_deletes_an_agent_with_a_worktree_hears_where_its_work_may_stay() {
        let data = tempfile::tempdir().unwrap();
        let here = Place::Data(data.path().into());
        let work = data.path().join("work/u-1");
        let agent = |repo: Value| json!({"metadata": {"uid": "u-1"}, "spec": {"repo": repo}});
        let with_repo = agent(json!({"url": "/r"}));
        assert_eq!(leaves(Kind::Agent, &with_repo, &here), None, "it never worked");
        std::fs::create_dir_all(&work).unwrap();
        let line = leaves(Kind::Agent, &with_repo, &here).unwrap_or_default();
        let work = work.display();
        assert!(line.starts_with(&format!("work in {work} goes too, unless")), "{line}");
        assert!(line.ends_with(&format!("rm -rf '{work}'")), "{line}");
        assert_eq!(leaves(Kind::Agent, &agent(Value::Null), &here), None);
        assert_eq!(leaves(Kind::Agent, &json!({"kind": "Status"}), &here), None);
    }
}
