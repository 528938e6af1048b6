//! Turns: what is said to an agent, and what became of it.
//!
//! A turn is queued together with the receipt of its request, so that a request that comes again
//! gets the turn that it made. What moves a turn on is the Agent's controller and what its sprite
//! reports; from here one can only be asked to end.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sprite_reporter::wire::Attachment;

use super::{
    audit::{API, Caller, called},
    params::Params,
    read,
    write::{TRIES, check_request_id, too_busy},
};
use crate::{
    access::Right,
    resource::{Agent, Kind},
    server::{State, access::Standing, body, hub::Topic, status::Problem},
    store::{
        self, Conversation, Delivery, Op, Receipt, Role, Subject, Transaction, Turn,
        attached::{NamedFile, NotAttached, attachments},
    },
};

/// The largest request.
const MAX_BODY: usize = 1024 * 1024;
/// The longest name of an author, in bytes.
const MAX_AUTHOR: usize = 200;
/// How many turns are listed where nobody says how many.
const PAGE: usize = 100;
/// The most turns that are listed at once.
const MOST: usize = 1000;
/// The longest that somebody can wait for a turn's end with one request.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What somebody says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Said {
    #[serde(default)]
    request_id: Option<String>,
    text: String,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    conversation: Option<Conversation>,
    #[serde(default)]
    attachments: Vec<NamedFile>,
}

/// Who asks for a turn's end.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    by: Option<String>,
}

/// `POST /agents/{name}/turns`: queues what somebody says. 201 with the turn; 200 with the same
/// turn where the same `requestId` came before; without one, each request is a new turn. Its answer is shown in a conversation only where
/// one is given.
pub(super) async fn add(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let caller = Caller::of(request.headers(), request.extensions());
    let bytes = body::read(request.into_body(), MAX_BODY, &*shared.ambient.clock).await?;
    let said: Said = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!(
            "a turn is {{\"requestId\": \"ID\", \"text\": \"what to say\"}}: {error}"
        ))
    })?;
    check(&said)?;
    // Whoever names no request cannot ask for it again, and needs none.
    let request = said.request_id.clone().unwrap_or_else(|| shared.ambient.ids.uid());
    for _ in 0..TRIES {
        let agent = agent(&state, &name).await?;
        // By uid: a new agent of the same name has heard nothing yet.
        let key = format!("api-turn/{}/{request}", agent.metadata.uid);
        if let Some(receipt) = shared.store.receipt(&key).await? {
            return first_turn(&state, &receipt.effect).await;
        }
        can_hear(&agent)?;
        let (turn, transaction) = queue(&state, agent, key, &said, &caller)?;
        match shared.ambient.step("api.turn", shared.store.apply(transaction)).await {
            Ok(_) => {
                let queued = shared.store.turn(&turn.id).await?.unwrap_or(turn);
                return Ok((StatusCode::CREATED, Json(queued)).into_response());
            }
            // The same request won a race against itself.
            Err(store::Error::Duplicate { effect, .. }) => {
                return first_turn(&state, &effect).await;
            }
            // It has changed, or is gone; perhaps it takes no more messages.
            Err(store::Error::Conflict { .. } | store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_busy("the agent changes too fast; try again with the same requestId"))
}

/// A new turn, and the transaction that queues it for an agent as it was read.
fn queue(
    state: &State,
    agent: Agent,
    key: String,
    said: &Said,
    caller: &Caller,
) -> Result<(Turn, Transaction), Problem> {
    let shared = &state.0;
    let attachments = attached_files(state, said.attachments.clone())?;
    let now = shared.ambient.clock.now();
    let named_so = said.author.as_deref().filter(|author| !author.is_empty());
    // The holder of a named token chooses a name, and not whose it is.
    let author = match (named_so, caller.principal()) {
        (said, None) => said.unwrap_or(API).to_owned(),
        (None, Some(token)) => token.to_string(),
        (Some(said), Some(token)) => format!("{said} ({token})"),
    };
    let caller = caller.clone().named(named_so.unwrap_or(API));
    let uid = &agent.metadata.uid;
    let turn = Turn {
        attachments,
        conversation: said.conversation.clone(),
        user: caller.principal(),
        ..Turn::queued(shared.ambient.ids.uid(), uid, said.text.clone(), author, now)
    };
    let mut transaction = Transaction::at(now)
        .with(Op::Receipt(Receipt { key, effect: turn.id.clone() }))
        .with(caller.did(state, format!("send {}", named(&agent))))
        .with(Op::unchanged(agent))
        .with(Op::AddTurn(turn.clone()));
    if let Some(conversation) = said.conversation.clone() {
        let (id, subject) = (shared.ambient.ids.uid(), Subject::Turn { id: turn.id.clone() });
        transaction.ops.push(Op::Delivery(Delivery::open(id, conversation, subject, now)));
    }
    Ok((turn, transaction))
}

/// The answer to who would cancel what others said, and may not.
fn not_yours(turn: &Turn, name: &str) -> Problem {
    let message = format!(
        "turn {} of agent {name} was said by {}; to cancel what others said takes the role {}",
        turn.n,
        turn.author,
        Right::Command.needs()
    );
    Problem::new(StatusCode::FORBIDDEN, "Forbidden", message).about(Kind::Agent, name)
}

fn named(agent: &Agent) -> String {
    called(Kind::Agent, &agent.metadata.name)
}

fn check(said: &Said) -> Result<(), Problem> {
    let bad = |message: String| Err(Problem::bad_request(message));
    if let Some(request) = &said.request_id {
        if request.is_empty() {
            return bad("requestId is empty; draw one, and repeat it with each try".to_owned());
        }
        check_request_id(request)?;
    }
    if said.text.trim().is_empty() && said.attachments.is_empty() {
        return bad("text is empty; say something".to_owned());
    }
    if said.author.as_ref().is_some_and(|author| author.len() > MAX_AUTHOR) {
        return bad(format!("author is longer than {MAX_AUTHOR} bytes"));
    }
    Ok(())
}

/// An agent that can be spoken to.
fn can_hear(agent: &Agent) -> Result<(), Problem> {
    let name = &agent.metadata.name;
    let conflict = |message: String| {
        Err(Problem::new(StatusCode::CONFLICT, "Conflict", message).about(Kind::Agent, name))
    };
    if agent.metadata.is_deleting() {
        return conflict(format!("agent {name} is being deleted, and takes no more messages"));
    }
    if agent.spec.suspend {
        return conflict(format!(
            "agent {name} is suspended; open-dispatch start {name} (or /od-start {name}) lets it \
             go on where it was"
        ));
    }
    Ok(())
}

fn attached_files(state: &State, files: Vec<NamedFile>) -> Result<Vec<Attachment>, Problem> {
    let size = |id: &str| state.0.files.get().and_then(|shelf| shelf.size(id));
    attachments(files, size).map_err(|error| match error {
        NotAttached::NotFound(_) => {
            let message = format!("{error}; upload it first with POST /files");
            Problem::new(StatusCode::NOT_FOUND, "NotFound", message)
        }
        _ => Problem::bad_request(error.to_string()),
    })
}

/// What a request led to when it came first.
async fn first_turn(state: &State, id: &str) -> Result<Response, Problem> {
    match state.0.store.turn(id).await? {
        Some(turn) => Ok(Json(turn).into_response()),
        None => Err(Problem::new(
            StatusCode::GONE,
            "Gone",
            format!("this request was taken before and made turn {id}, which is gone by now"),
        )),
    }
}

async fn agent(state: &State, name: &str) -> Result<Agent, Problem> {
    read::object(state, Kind::Agent, name)
        .await?
        .into_agent()
        .ok_or_else(|| Problem::not_found(Kind::Agent, name))
}

/// A turn of this agent, by its id.
async fn turn(state: &State, agent: &Agent, id: &str) -> Result<Turn, Problem> {
    let turn = state.0.store.turn(id).await?;
    turn.filter(|turn| turn.agent_uid == agent.metadata.uid).ok_or_else(|| {
        let message = format!("agent {} has no turn \"{id}\"", agent.metadata.name);
        Problem::new(StatusCode::NOT_FOUND, "NotFound", message)
    })
}

/// `GET /agents/{name}/turns`: its turns by number, from behind `after` (a number), `limit` of
/// them; with `last=N`, the N newest instead.
pub(super) async fn list(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let params = Params::of(&uri);
    let count = |name: &str| -> Result<Option<usize>, Problem> {
        Ok(params.number(name)?.map(|n| usize::try_from(n).unwrap_or(MOST).min(MOST)))
    };
    let (last, limit) = (count("last")?, count("limit")?);
    let after = params.number("after")?;
    if last.is_some() && (after.is_some() || limit.is_some()) {
        let message = "last names the newest turns; limit and after go through all of them";
        return Err(Problem::bad_request(message));
    }
    let uid = agent(&state, &name).await?.metadata.uid;
    let store = &state.0.store;
    let items = match last {
        Some(last) => {
            let mut turns = store.last_turns(&uid, last).await?;
            turns.reverse();
            turns
        }
        None => {
            let limit = limit.filter(|limit| *limit > 0).unwrap_or(PAGE);
            store.turns(&uid, after.unwrap_or_default(), limit).await?
        }
    };
    let sums = store.turn_sums(&uid).await?;
    Ok(Json(json!({"items": items, "sums": sums})).into_response())
}

/// `GET /agents/{name}/turns/{id}`; with `wait=SECONDS`, the answer comes once the turn has
/// ended, or after so long.
pub(super) async fn get(
    Shared(state): Shared<State>,
    Path((name, id)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let agent = agent(&state, &name).await?;
    let shared = &state.0;
    let wait = Params::of(&uri).number("wait")?.map(Duration::from_secs).unwrap_or_default();
    let ends = shared.ambient.clock.elapsed() + wait.min(LONGEST_WAIT);
    let mut turns = shared.hub.wait_for(Topic::Turns(agent.metadata.uid.clone()));
    loop {
        let turn = turn(&state, &agent, &id).await?;
        let left = ends.saturating_sub(shared.ambient.clock.elapsed());
        if turn.state.is_final() || left.is_zero() {
            return Ok(Json(turn).into_response());
        }
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => return Ok(Json(turn).into_response()),
            changed = turns.changed() => {
                if changed.is_err() {
                    return Ok(Json(turn).into_response());
                }
            }
            () = shared.ambient.clock.sleep(left) => {}
        }
    }
}

/// `POST /agents/{name}/turns/{id}/cancel`: asks for a turn's end. The Agent's controller sees to
/// it: one that waits ends at once, one that runs is interrupted. One that has ended is a
/// conflict that says how. Whoever may not command agents may take back what they said themselves.
pub(super) async fn cancel(
    Shared(state): Shared<State>,
    Path((name, id)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let caller = Caller::of(request.headers(), request.extensions());
    let role = request.extensions().get::<Standing>().map_or(Role::Admin, Standing::role);
    let bytes = body::read(request.into_body(), MAX_BODY, &*shared.ambient.clock).await?;
    let asked: Asked = match serde_json::from_slice::<Value>(&bytes) {
        _ if bytes.is_empty() => Asked::default(),
        Ok(Value::Null) => Asked::default(),
        Ok(value) => serde_json::from_value(value).map_err(|error| {
            Problem::bad_request(format!("the body is {{\"by\": WHO}}: {error}"))
        })?,
        Err(error) => return Err(Problem::bad_request(format!("the body is no JSON: {error}"))),
    };
    let caller = caller.named(asked.by.as_deref().filter(|by| !by.is_empty()).unwrap_or(API));
    let (by, user) = (caller.signature(), caller.principal());
    let agent = agent(&state, &name).await?;
    for _ in 0..TRIES {
        let turn = turn(&state, &agent, &id).await?;
        if role < Right::Command.needs() && (user.is_none() || turn.user != user) {
            return Err(not_yours(&turn, &name));
        }
        if turn.state.is_final() {
            let how = format!("{:?}", turn.state).to_lowercase();
            let message = format!(
                "turn {id} of agent {name} has ended already: it {}",
                match how.as_str() {
                    "cancelled" | "interrupted" => format!("was {how}"),
                    _ => how,
                }
            );
            return Err(Problem::new(StatusCode::CONFLICT, "Conflict", message));
        }
        if turn.cancelled_by.is_some() {
            return Ok(Json(turn).into_response());
        }
        let from = vec![turn.state];
        let turn = Turn { cancelled_by: Some(by.clone()), cancelled_by_user: user.clone(), ..turn };
        let transaction = Transaction::at(shared.ambient.clock.now())
            .with(caller.did(&state, format!("cancel {}", named(&agent))))
            .with(Op::MoveTurn { turn: turn.clone(), from });
        match shared.ambient.step("api.cancel-turn", shared.store.apply(transaction)).await {
            Ok(_) => {
                // Whoever asked first stands there.
                let asked = shared.store.turn(&id).await?.unwrap_or(turn);
                return Ok(Json(asked).into_response());
            }
            // It has moved on meanwhile.
            Err(store::Error::Stale { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(too_busy("the turn changes too fast; try again"))
}
