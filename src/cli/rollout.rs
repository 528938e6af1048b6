//! `rollout`: sprites made anew, and how far that is. What a kind has not is said plainly.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{RolloutArgs, RolloutCommand, RolloutStatusArgs},
    client::{AS_JSON, Client, collection, member},
    create::Told,
    error::Error,
    out,
    patience::Patience,
    select::select,
    table::{self, Table},
    target::full_name,
    watch,
};
use crate::{
    ambient::{Clock as _, SystemClock},
    resource::{FLEET_RESTART, GROUP, Kind, RESTARTED_UP_TO, table::age},
};

/// Runs `rollout`.
///
/// # Errors
/// A kind that has none, or the server's refusal.
pub async fn rollout(command: RolloutCommand) -> Result<u8, Error> {
    match command {
        RolloutCommand::Status(args) => status(args).await,
        RolloutCommand::Restart(args) => restart(args).await,
        RolloutCommand::History(args) => history(args).await,
        RolloutCommand::Undo(args) => undo(args).await,
    }
}

/// What a kind's rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Sprites of an agent.
    Sprites,
    /// Members, one after another.
    Members,
    /// What its conditions say.
    Conditions,
    /// It has none, and why.
    None(&'static str),
}

fn sort(kind: Kind) -> Sort {
    match kind.name() {
        "Agent" => Sort::Sprites,
        "Fleet" => Sort::Members,
        "Job" => Sort::None("a job runs once, and open-dispatch retry runs it again"),
        "Sprite" => Sort::None("a sprite is made by the loop, and its agent is restarted instead"),
        _ => Sort::Conditions,
    }
}

/// Refuses a part of a rollout that a kind has not, and a rollout where it has none at all.
fn must(can: bool, kind: Kind, part: &str, instead: &str) -> Result<(), Error> {
    match sort(kind) {
        Sort::None(why) => Err(without(kind, "rollout", why)),
        _ if can => Ok(()),
        _ => Err(without(kind, part, instead)),
    }
}

fn without(kind: Kind, what: &str, why: &str) -> Error {
    Error::Usage(format!("{} have no {what}: {why}", kind.plural()))
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    Done,
    Waiting(String),
    Stuck(String),
    /// There is no such object.
    Gone,
}

/// Judges how far it is.
fn judge(sort: Sort, object: &Value) -> Stand {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let newest = metadata["generation"].as_u64().unwrap_or_default();
    let seen = status["observedGeneration"].as_u64();
    if seen.is_some_and(|seen| seen < newest) || (seen.is_none() && sort != Sort::Conditions) {
        return Stand::Waiting("what is wanted has not been looked at yet".to_owned());
    }
    let condition = |name: &str| {
        let mut all = status["conditions"].as_array().into_iter().flatten();
        all.find(|condition| condition["type"] == name)
    };
    let is = |name: &str, value: &str| condition(name).is_some_and(|it| it["status"] == value);
    let why = |name: &str| {
        let text = |member: &str| {
            let text = condition(name).and_then(|it| it[member].as_str()).unwrap_or_default();
            out::harmless(text)
        };
        let (reason, message) = (text("reason"), text("message"));
        if message.is_empty() { reason } else { format!("{reason}: {message}") }
    };
    if is("Stalled", "True") {
        return Stand::Stuck(why("Stalled"));
    }
    if sort == Sort::Members {
        if object["spec"]["suspend"] == true {
            return Stand::Stuck("it is suspended, so no change rolls out; resume it".to_owned());
        }
        let asked = &metadata["annotations"][FLEET_RESTART];
        if !asked.is_null() && status["lastHandledRestart"] != *asked {
            return Stand::Waiting("what was asked for has not been looked at yet".to_owned());
        }
        if is("Progressing", "True") {
            return Stand::Waiting(why("Progressing"));
        }
    }
    if sort == Sort::Sprites {
        if object["spec"]["suspend"] == true {
            return Stand::Done;
        }
        let up_to = metadata["annotations"][RESTARTED_UP_TO].as_str();
        let up_to = up_to.and_then(|n| n.parse().ok()).unwrap_or(0_u64);
        if status["incarnation"].as_u64().unwrap_or_default() <= up_to {
            return Stand::Waiting("the sprite is made anew once no turn is open".to_owned());
        }
    }
    if is("Reconciling", "True") {
        return Stand::Waiting(why("Reconciling"));
    }
    // An agent that sleeps is as it is wanted, and not ready.
    if sort != Sort::Sprites && is("Ready", "False") {
        return Stand::Waiting(why("Ready"));
    }
    Stand::Done
}

async fn status(args: RolloutStatusArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let end = SystemClock.elapsed() + args.timeout.0;
    let mut failed = false;
    for (kind, name) in select(&client, &args.what, None, false).await? {
        let sort = sort(kind);
        if let Sort::None(why) = sort {
            return Err(without(kind, "rollout", why));
        }
        let called = full_name(kind, &name);
        let stand = if args.no_watch {
            judge(sort, &client.get(&member(kind, &name), &[], AS_JSON).await?)
        } else {
            let left = end.saturating_sub(SystemClock.elapsed());
            follow(&client, kind, &name, sort, left).await?
        };
        match stand {
            Stand::Done => out::line(format!("{called} is rolled out"))?,
            Stand::Waiting(why) if args.no_watch => out::line(format!("{called} waits: {why}"))?,
            Stand::Waiting(why) => {
                failed = true;
                out::note(format!(
                    "error: timed out after {}; {called} waits: {why}",
                    args.timeout
                ));
            }
            Stand::Stuck(why) => {
                failed = true;
                out::note(format!("error: {called} is stuck: {why}"));
            }
            Stand::Gone => {
                return Err(Error::Api {
                    code: 404,
                    reason: "NotFound".to_owned(),
                    message: format!("{}.{GROUP} \"{name}\" not found", kind.plural()),
                });
            }
        }
    }
    if failed { Err(Error::Told) } else { Ok(0) }
}

/// Waits until it is done or stuck, and tells what it waits for.
async fn follow(
    client: &Client,
    kind: Kind,
    name: &str,
    sort: Sort,
    left: Duration,
) -> Result<Stand, Error> {
    let mut last = None;
    let mut patience = Patience::new();
    let following = watch::until(client, kind, name, &mut patience, |object| {
        let Some(object) = object else {
            return Some(Stand::Gone);
        };
        match judge(sort, object) {
            Stand::Waiting(why) => {
                if last.as_ref() != Some(&why) {
                    out::note(format!("waiting for {kind} {name}: {why}"));
                    last = Some(why);
                }
                None
            }
            stand => Some(stand),
        }
    });
    tokio::select! {
        biased;
        stand = following => return stand,
        () = SystemClock.sleep(left) => {}
    }
    Ok(Stand::Waiting(last.unwrap_or_else(|| "the server has not answered".to_owned())))
}

async fn restart(args: RolloutArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let mut told = Told::default();
    for (kind, name) in select(&client, &args.what, None, false).await? {
        let can = matches!(sort(kind), Sort::Sprites | Sort::Members);
        must(can, kind, "sprites of their own", "restart the agents that it made")?;
        if told.or(restart_one(&client, kind, &name).await)?.is_some() {
            out::line(format!("{} restarted", full_name(kind, &name)))?;
        }
    }
    told.end()
}

/// Asks that every sprite up to the newest is made anew; of a Fleet, those of all its members. The same
/// request once more asks for the same, until there is a newer one.
async fn restart_one(client: &Client, kind: Kind, name: &str) -> Result<(), Error> {
    let path = member(kind, name);
    let object = client.get(&path, &[], AS_JSON).await?;
    let (key, value) = match sort(kind) {
        Sort::Members if object["spec"]["template"]["kind"] == "Job" => {
            let why = "its members are jobs, which run once; change its template to run others";
            return Err(Error::Api {
                code: 422,
                reason: "Invalid".to_owned(),
                message: format!("{} has no sprites to make anew: {why}", full_name(kind, name)),
            });
        }
        // Its controller makes one member after another anew.
        Sort::Members => (FLEET_RESTART, SystemClock.now().to_string()),
        _ => {
            let newest = object["status"]["incarnation"].as_u64().unwrap_or_default();
            (RESTARTED_UP_TO, newest.to_string())
        }
    };
    let patch = json!({"metadata": {"annotations": {key: value}}});
    client.write(Method::PATCH, &path, &[], &patch).await.map(drop)
}

async fn history(args: RolloutArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let mut told = Told::default();
    for (kind, name) in select(&client, &args.what, None, false).await? {
        let can = matches!(sort(kind), Sort::Sprites);
        must(can, kind, "history", "what they were stands in the history of their files")?;
        let Some(agent) = told.or(client.get(&member(kind, &name), &[], AS_JSON).await)? else {
            continue;
        };
        let sprites = client.get(&collection(Kind::Sprite), &[], AS_JSON).await?;
        let items = sprites["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        out::line(full_name(kind, &name))?;
        table::print(&incarnations(&agent, items, SystemClock.now()), true)?;
    }
    told.end()
}

/// The sprites of an agent that are still known, by number.
fn incarnations(agent: &Value, sprites: &[Value], now: Timestamp) -> Table {
    let owner = &agent["metadata"]["uid"];
    let mut own: Vec<&Value> = sprites
        .iter()
        .filter(|sprite| {
            let mut owners = sprite["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.any(|reference| reference["uid"] == *owner)
        })
        .collect();
    own.sort_by_key(|sprite| sprite["spec"]["attempt"].as_u64());
    let row = |sprite: &&Value| {
        let text = |value: &Value| value.as_str().unwrap_or("<none>").to_owned();
        let created = sprite["metadata"]["creationTimestamp"].as_str();
        let created = created.and_then(|time| time.parse().ok());
        vec![
            sprite["spec"]["attempt"].to_string(),
            text(&sprite["metadata"]["name"]),
            text(&sprite["status"]["phase"]),
            created.map_or_else(|| "<unknown>".to_owned(), |time| age(time, now)),
        ]
    };
    let head = ["NUMBER", "SPRITE", "PHASE", "AGE"].map(str::to_owned).to_vec();
    Table::of(head, own.iter().map(row).collect())
}

async fn undo(args: RolloutArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let objects = select(&client, &args.what, None, false).await?;
    let kind = objects.first().map_or(Kind::Agent, |(kind, _)| *kind);
    Err(without(
        kind,
        "earlier spec to go back to",
        "what they were stands in the history of their files; take that version, and say \
         open-dispatch apply -f FILE",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(up_to: &str, incarnation: u64, conditions: Value) -> Value {
        json!({
            "metadata": {"generation": 2, "annotations": {RESTARTED_UP_TO: up_to}, "uid": "u"},
            "spec": {},
            "status": {
                "observedGeneration": 2, "incarnation": incarnation, "conditions": conditions,
            },
        })
    }

    #[test]
    fn an_agent_is_rolled_out_once_its_sprite_is_newer_than_the_restart() {
        let judged = |agent: &Value| judge(Sort::Sprites, agent);
        assert!(matches!(judged(&agent("3", 3, json!([]))), Stand::Waiting(_)));
        assert_eq!(judged(&agent("3", 4, json!([]))), Stand::Done);
        let starting = json!([{"type": "Reconciling", "status": "True", "reason": "Starting"}]);
        assert_eq!(judged(&agent("3", 4, starting)), Stand::Waiting("Starting".to_owned()));
        let stalled = json!([
            {"type": "Stalled", "status": "True", "reason": "BackingOff", "message": "no shell"},
        ]);
        assert_eq!(judged(&agent("", 4, stalled)), Stand::Stuck("BackingOff: no shell".to_owned()));
        let asleep = json!([{"type": "Ready", "status": "False", "reason": "Asleep"}]);
        assert_eq!(judged(&agent("", 4, asleep)), Stand::Done);
        let mut older = agent("", 4, json!([]));
        older["status"]["observedGeneration"] = 1.into();
        assert!(matches!(judged(&older), Stand::Waiting(_)));
        let mut suspended = agent("9", 4, json!([]));
        suspended["spec"]["suspend"] = true.into();
        assert_eq!(judged(&suspended), Stand::Done);
    }

    #[test]
    fn a_fleet_is_rolled_out_once_every_member_is_and_says_whom_it_waits_for() {
        let fleet = |asked: Value, suspend: bool, progressing: &str, ready: &str| {
            json!({
                "metadata": {"generation": 2, "annotations": {FLEET_RESTART: asked}},
                "spec": {"suspend": suspend},
                "status": {
                    "observedGeneration": 2, "lastHandledRestart": "monday", "conditions": [
                        {"type": "Ready", "status": ready, "reason": "NotReady"},
                        {"type": "Progressing", "status": progressing, "reason": "RollingOut",
                         "message": "2 of 3 ready; agent/a is changed after its turn"},
                    ],
                },
            })
        };
        let judged = |fleet: &Value| judge(Sort::Members, fleet);
        let said = judged(&fleet(json!("monday"), false, "True", "False"));
        insta::assert_snapshot!(format!("{said:?}"));
        assert_eq!(judged(&fleet(Value::Null, false, "False", "True")), Stand::Done);
        assert!(matches!(judged(&fleet(json!("now"), false, "False", "True")), Stand::Waiting(_)));
        assert!(matches!(judged(&fleet(Value::Null, true, "False", "False")), Stand::Stuck(_)));
        let new = json!({"metadata": {"generation": 1}, "spec": {}});
        assert!(matches!(judged(&new), Stand::Waiting(_)), "nobody has looked at it yet");
    }

    #[test]
    fn other_kinds_go_by_their_conditions() {
        let object = |status: &str| {
            json!({"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": [
                {"type": "Ready", "status": status, "reason": "Updating", "message": "3 of 5"},
            ]}})
        };
        assert_eq!(judge(Sort::Conditions, &object("True")), Stand::Done);
        let waits = Stand::Waiting("Updating: 3 of 5".to_owned());
        assert_eq!(judge(Sort::Conditions, &object("False")), waits);
    }
}
