//! What the OpenAPI documents say of the addresses beside objects: turns, approvals, grants, logs,
//! histories, scales, and what declares an object.
//!
//! What stands there are rows of ledgers, whose types are no part of the vocabulary; so their
//! schemas are told here, in a line per member, and held against real rows by the tests below and
//! by what schemathesis finds.

use serde_json::{Map, Value, json};

use super::{
    paths::{
        ANSWERS, Body, CONTINUE, LIMIT, NAME, Operation, PRETTY, Path, WRITE, at, extensions, flag,
        number, text, word,
    },
    schemas::full_name,
};
use crate::{
    resource::{Kind, overlay::is_ownable},
    server::api::scale,
};

/// What these answer: JSON alone.
const JSON: &[&str] = &["application/json"];
/// What a log answers: as it was printed, or an event on each line.
const LOG: &[&str] = &["text/plain", "application/x-ndjson"];
/// Of which kinds agents print and ask.
const TALKING: [Kind; 3] = [Kind::Agent, Kind::Job, Kind::Sprite];

/// A member of a schema: its name, what it is, and what it says. What it is, is a type of JSON, `time`,
/// the name of a schema, or a list of such in brackets; with `?` behind it, it may be null or missing.
type Member = (&'static str, &'static str, &'static str);

/// The schemas.
const SCHEMAS: &[(&str, &str, &[Member])] = &[
    (
        "Turn",
        "A message to an agent, and what became of it.",
        &[
            ("id", "string", "Its id."),
            ("agentUid", "string", "The agent's uid."),
            ("n", "integer", "Its place in the agent's queue."),
            ("text", "string", "What the person said."),
            ("context", "string?", "What others had said around it."),
            ("attachments", "[Attachment]", "Files that came with it."),
            ("author", "string", "Who said it."),
            ("user", "string?", "Who said it, as their platform identifies them."),
            ("conversation", "Conversation?", "Where it was said, and where the answer goes."),
            ("origin", "string?", "`agent` where the CLI began the turn by itself."),
            (
                "state",
                "string",
                "Queued, Sent, Running, Succeeded, Failed, Cancelled or Interrupted.",
            ),
            ("spriteUid", "string?", "The sprite that it was sent to."),
            ("run", "integer", "The sprite's run that it was sent to."),
            ("began", "Cursor?", "Where its output begins."),
            ("cancelledBy", "string?", "Who asked to cancel it."),
            ("cancelledByUser", "string?", "The same, as their platform identifies them."),
            ("message", "string", "One line on a failure, for people."),
            ("usage", "Usage", "What it used."),
            ("created", "time", "When it was queued."),
            ("started", "time?", "When the agent took it."),
            ("ended", "time?", "When it ended."),
        ],
    ),
    (
        "TurnList",
        "Turns of an agent, the oldest first.",
        &[("items", "[Turn]", "The turns."), ("sums", "TurnSums", "All its turns, summed up.")],
    ),
    (
        "TurnSums",
        "An agent's turns, summed up.",
        &[
            ("queued", "integer", "How many wait."),
            ("running", "integer", "How many are under way."),
            ("done", "integer", "How many have ended, however."),
            ("usage", "Usage", "What those used."),
            ("last", "time?", "When the last one was queued, was begun or ended."),
        ],
    ),
    (
        "Said",
        "What is said to an agent.",
        &[
            ("text", "string", "What to say; may be empty where files come with it."),
            ("requestId", "string?", "A request with the same id gets the turn of the first one."),
            ("author", "string?", "Who says it, as it is shown to people."),
            ("conversation", "Conversation?", "Where the answer goes in chat."),
            ("attachments", "[AttachedFile]?", "Files that were uploaded before."),
        ],
    ),
    (
        "Attachment",
        "A file that came with a turn.",
        &[
            ("id", "string", "The file's id."),
            ("name", "string", "What it is called."),
            ("size", "integer", "Its size in bytes."),
        ],
    ),
    (
        "AttachedFile",
        "A file that comes with a turn.",
        &[
            ("id", "string", "The file's id, as its upload gave it."),
            ("name", "string", "What it is called, without a directory."),
        ],
    ),
    (
        "Conversation",
        "A place on a platform.",
        &[
            ("platform", "string", "The platform, such as slack."),
            ("channel", "string", "The platform's id of the channel."),
            ("thread", "string?", "The platform's id of the thread."),
        ],
    ),
    (
        "Cursor",
        "A place in the output of a sprite.",
        &[("run", "integer", "The run."), ("seq", "integer", "The event's number in the run.")],
    ),
    (
        "Usage",
        "What a turn used.",
        &[
            ("costMicroUsd", "integer", "Cost in millionths of a US dollar."),
            ("inputTokens", "integer", "Tokens read."),
            ("outputTokens", "integer", "Tokens written."),
        ],
    ),
    ("By", "Who asks.", &[("by", "string?", "Who asks for it, as it is shown to people.")]),
    (
        "Approval",
        "A request of an agent to be allowed something.",
        &[
            ("spriteUid", "string", "The sprite's uid."),
            ("run", "integer", "Its run."),
            ("request", "string", "The request's id."),
            ("turn", "string", "The id of the turn."),
            ("tool", "string", "The tool's name."),
            ("title", "string", "One line that says what it would do."),
            ("input", "any", "The tool's input."),
            ("kind", "string", "tool, question or plan: what kind of answer is waited for."),
            ("rule", "string?", "What an answer of always would allow."),
            ("questions", "[Question]", "What is asked."),
            ("answers", "object", "What was answered, by the questions' texts."),
            ("state", "string", "Pending, Allowed, Denied, Expired or Withdrawn."),
            ("by", "string", "Who answered."),
            ("user", "string?", "Who answered, as their platform identifies them."),
            ("grant", "string?", "The id of the grant that allowed it."),
            ("message", "string", "What the agent was told with the answer."),
            ("resolved", "Cursor?", "Up to where the output was held when it was answered."),
            ("created", "time", "When it was asked."),
        ],
    ),
    (
        "Question",
        "One question of an agent.",
        &[
            ("text", "string", "The question; an answer names it by this text."),
            ("options", "[string]?", "The answers that are offered; others may be given."),
            ("many", "boolean?", "Whether more than one may be chosen."),
        ],
    ),
    (
        "ApprovalList",
        "What agents ask for, the oldest first.",
        &[("items", "[Approval]", "The requests.")],
    ),
    (
        "Answer",
        "An answer to what an agent asks for.",
        &[
            ("allow", "boolean", "Whether it may."),
            ("message", "string?", "What the agent is told with it."),
            ("answers", "texts?", "An answer to each question, by its text."),
            ("always", "boolean?", "Whether requests of the same rule are allowed from now on."),
            ("by", "string?", "Who answers, as it is shown to people."),
        ],
    ),
    (
        "Grant",
        "What an agent may do without being asked.",
        &[
            ("id", "string", "Its id."),
            ("agentUid", "string", "The agent's uid."),
            ("tool", "string", "The tool's name."),
            ("rule", "string", "Requests with this rule are allowed."),
            ("by", "string", "Who said so."),
            ("user", "string?", "Who said so, as their platform identifies them."),
            ("created", "time", "When."),
        ],
    ),
    ("GrantList", "Grants, the oldest first.", &[("items", "[Grant]", "The grants.")]),
    (
        "History",
        "One line of an object's history.",
        &[
            ("type", "string", "Normal or Warning."),
            ("reason", "string", "Why, in one word."),
            ("note", "string", "One line for people."),
            ("count", "integer", "How often."),
            ("first", "time", "The first time."),
            ("last", "time", "The last time."),
        ],
    ),
    (
        "Declared",
        "What declares an object.",
        &[
            ("source", "string", "The Source."),
            ("file", "string", "The file."),
            ("line", "integer", "The line in the file."),
            ("base", "object", "Spec, labels and annotations, as the file says."),
            ("overrides", "[any]", "The Overrides that are laid over it."),
        ],
    ),
    (
        "Scale",
        "How many there are to be, and how many there are.",
        &[
            ("apiVersion", "string?", "autoscaling/v1"),
            ("kind", "string?", "Scale"),
            ("metadata", "object?", "Name, uid and version of the object."),
            ("spec", "ScaleSpec", "How many there are to be."),
            ("status", "ScaleStatus?", "How many there are."),
        ],
    ),
    (
        "ScaleSpec",
        "How many there are to be.",
        &[("replicas", "integer?", "How many; missing where the spec says no number.")],
    ),
    ("ScaleStatus", "How many there are.", &[("replicas", "integer", "How many.")]),
    (
        "EventList",
        "What happened to objects: whole, by when it last did; in pages, as it was first told.",
        &[
            ("apiVersion", "string", "v1"),
            ("kind", "string", "EventList"),
            ("metadata", "ListMeta", "The token of the next page, where there is one."),
            ("items", "[Event]", "The events."),
        ],
    ),
    (
        "Event",
        "What happened to an object: one for each reason and message, counted up.",
        &[
            ("apiVersion", "string", "v1"),
            ("kind", "string", "Event"),
            ("metadata", "object", "Name, namespace, uid, and when it was first told."),
            ("involvedObject", "object", "Kind, name and uid of the object."),
            ("reason", "string", "Why, in one CamelCase word."),
            ("message", "string", "One line for people."),
            ("type", "string", "Normal or Warning."),
            ("count", "integer", "How often it happened."),
            ("firstTimestamp", "time", "When it first did."),
            ("lastTimestamp", "time", "When it last did."),
            ("eventTime", "time?", "Nothing; the two above tell."),
            ("source", "object", "Who tells of it."),
            ("reportingComponent", "string", "Who tells of it."),
            ("reportingInstance", "string", "Nothing."),
        ],
    ),
];

/// The schemas, by their full names.
pub(super) fn schemas() -> Map<String, Value> {
    SCHEMAS.iter().map(|(name, about, members)| (full_name(name), object(about, members))).collect()
}

fn object(about: &str, members: &[Member]) -> Value {
    let properties: Map<String, Value> = members
        .iter()
        .map(|(name, sort, about)| ((*name).to_owned(), member(sort, about)))
        .collect();
    let required: Vec<&str> =
        members.iter().filter(|it| !it.1.ends_with('?')).map(|it| it.0).collect();
    let mut schema = json!({"description": about, "type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn member(sort: &str, about: &str) -> Value {
    let (sort, nullable) = match sort.strip_suffix('?') {
        Some(sort) => (sort, true),
        None => (sort, false),
    };
    let mut schema = of_sort(sort);
    schema["description"] = about.into();
    if nullable {
        schema["nullable"] = true.into();
    }
    schema
}

fn of_sort(sort: &str) -> Value {
    match sort {
        "string" | "boolean" | "object" => json!({"type": sort}),
        "integer" => json!({"type": sort, "format": "int64", "minimum": 0}),
        "time" => json!({"type": "string", "format": "date-time"}),
        "texts" => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        "any" => json!({"x-kubernetes-preserve-unknown-fields": true}),
        _ => match sort.strip_prefix('[').and_then(|sort| sort.strip_suffix(']')) {
            Some(inner) => json!({"type": "array", "items": of_sort(inner)}),
            None => json!({
                "allOf": [{"$ref": format!("#/components/schemas/{}", full_name(sort))}],
            }),
        },
    }
}

/// An operation that answers with one of the schemas above.
fn operation(method: &'static str, id: String, about: &str, answer: &str) -> Operation {
    Operation {
        method,
        id,
        about: about.to_owned(),
        of: None,
        params: Vec::new(),
        body: None,
        sorts: JSON,
        answers: vec![("200", full_name(answer))],
    }
}

fn taking(schema: &str, required: bool, it: Operation) -> Operation {
    let body = Body { sorts: JSON.to_vec(), schema: full_name(schema), required };
    Operation { body: Some(body), ..it }
}

fn named(path: String, names: &[(&'static str, &'static str)], operations: Vec<Operation>) -> Path {
    Path { path, names: names.to_vec(), operations }
}

/// The paths beside the objects of a kind.
pub(super) fn paths(kind: Kind) -> Vec<Path> {
    let mut found = vec![history(kind)];
    if TALKING.contains(&kind) {
        found.extend([log(kind), approvals(kind), approval(kind)]);
    }
    if kind == Kind::Agent {
        found.extend(turns());
        found.extend(grants());
    }
    if is_ownable(kind) {
        found.extend(declared(kind));
    }
    if scale::wanted(kind).is_some() {
        found.push(scaled(kind));
    }
    found
}

/// What happened to all objects. The address is Kubernetes' own, whose documents its clients have; so
/// this is the one that is told of those.
pub(super) fn events() -> Path {
    let about =
        "Lists what happened to objects, also to those that are gone, as long as it is kept.";
    let it = operation("get", "listEvents".into(), about, "EventList");
    let which = text(
        "fieldSelector",
        "Which events, such as involvedObject.kind=Agent,involvedObject.name=NAME or type=Warning.",
    );
    let it = Operation { params: vec![PRETTY, which, LIMIT, CONTINUE], sorts: ANSWERS, ..it };
    named("/api/v1/events".to_owned(), &[], vec![it])
}

fn history(kind: Kind) -> Path {
    let it = operation("get", format!("read{kind}Events"), "Reads an object's history.", "History");
    let list = vec![("200", format!("[{}]", full_name("History")))];
    named(at(kind, "/{name}/events"), &[NAME], vec![Operation { answers: list, ..it }])
}

fn log(kind: Kind) -> Path {
    let about = "Reads what the agent printed, over all attempts.";
    let it = operation("get", format!("read{kind}Log"), about, "");
    let params = vec![
        word("format", "As it was printed, or an event on each line.", &["raw", "events"]),
        flag("follow", "Whether it goes on until the object has ended."),
        text("after", "Behind which place, as RUN.SEQ or SPRITE/RUN.SEQ, or last or now."),
    ];
    let it = Operation { params, sorts: LOG, answers: vec![("200", "string".to_owned())], ..it };
    named(at(kind, "/{name}/log"), &[NAME], vec![it])
}

fn approvals(kind: Kind) -> Path {
    let about = "Reads what the agent has asked for.";
    let it = operation("get", format!("list{kind}Approvals"), about, "ApprovalList");
    named(at(kind, "/{name}/approvals"), &[NAME], vec![it])
}

fn approval(kind: Kind) -> Path {
    let about = "Answers what the agent asks for; the first answer counts.";
    let it = operation("post", format!("answer{kind}Approval"), about, "Approval");
    let request = ("request", "The request's id.");
    let path = at(kind, "/{name}/approvals/{request}");
    named(path, &[NAME, request], vec![taking("Answer", true, it)])
}

fn turns() -> [Path; 3] {
    let at = |rest: &str| at(Kind::Agent, rest);
    let id = ("id", "The turn's id.");
    let list = Operation {
        params: vec![
            number("after", "Behind which number."),
            number("limit", "How many at most."),
            number("last", "So many of the newest, instead."),
        ],
        ..operation("get", "listAgentTurns".into(), "Reads an agent's turns.", "TurnList")
    };
    let say = operation("post", "sayToAgent".into(), "Says something to an agent.", "Turn");
    let answers = vec![("200", full_name("Turn")), ("201", full_name("Turn"))];
    let say = taking("Said", true, Operation { answers, ..say });
    let read = Operation {
        params: vec![number("wait", "So many seconds at most until it has ended; up to 30.")],
        ..operation("get", "readAgentTurn".into(), "Reads one of an agent's turns.", "Turn")
    };
    let about = "Asks for the end of a turn.";
    let cancel = operation("post", "cancelAgentTurn".into(), about, "Turn");
    [
        named(at("/{name}/turns"), &[NAME], vec![list, say]),
        named(at("/{name}/turns/{id}"), &[NAME, id], vec![read]),
        named(at("/{name}/turns/{id}/cancel"), &[NAME, id], vec![taking("By", false, cancel)]),
    ]
}

fn grants() -> [Path; 2] {
    let about = "Reads what an agent may do without being asked.";
    let list = operation("get", "listAgentGrants".into(), about, "GrantList");
    let revoke = operation("delete", "revokeAgentGrant".into(), "Takes a grant back.", "Grant");
    let id = ("id", "The grant's id.");
    [
        named(at(Kind::Agent, "/{name}/grants"), &[NAME], vec![list]),
        named(at(Kind::Agent, "/{name}/grants/{id}"), &[NAME, id], vec![revoke]),
    ]
}

fn declared(kind: Kind) -> [Path; 2] {
    let about = "Reads which Source declares an object, and what was laid over it.";
    let read = operation("get", format!("read{kind}Source"), about, "Declared");
    let about = "Lets an object go: it stays as it is, and belongs to no Source.";
    let release = operation("post", format!("release{kind}"), about, kind.name());
    [
        named(at(kind, "/{name}/source"), &[NAME], vec![read]),
        named(at(kind, "/{name}/release"), &[NAME], vec![release]),
    ]
}

fn scaled(kind: Kind) -> Path {
    let like = |method, verb: &str, action: &str, about: &str| {
        let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
        let it = operation(method, format!("{verb}{kind}Scale"), about, "Scale");
        let of = Some(extensions(action, scale));
        Operation { of, params: vec![PRETTY], sorts: ANSWERS, ..it }
    };
    let writing = |it: Operation| Operation { params: [&[PRETTY][..], &WRITE].concat(), ..it };
    let read = like("get", "read", "get", "Reads how many there are to be.");
    let replace = like("put", "replace", "put", "Says how many there are to be.");
    let replace = taking("Scale", true, writing(replace));
    let patch = writing(like("patch", "patch", "patch", "Says how many there are to be."));
    let sorts = vec!["application/merge-patch+json", "application/json-patch+json"];
    let body = Body { sorts, schema: full_name("Patch"), required: true };
    let patch = Operation { body: Some(body), ..patch };
    named(at(kind, "/{name}/scale"), &[NAME], vec![read, replace, patch])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;

    use super::*;
    use crate::store::{Approval, ApprovalState, Cursor, EventRow, Grant, Principal, Turn};

    /// Every member of a row is told, and what is demanded is there.
    fn tells(name: &str, row: &impl serde::Serialize) {
        let row = serde_json::to_value(row).unwrap();
        let row: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let (.., members) = SCHEMAS.iter().find(|it| it.0 == name).unwrap();
        let told: BTreeSet<&str> = members.iter().map(|it| it.0).collect();
        assert_eq!(row, told, "{name}");
    }

    #[test]
    fn each_member_of_a_row_is_told() {
        let now = Timestamp::UNIX_EPOCH;
        let user = Some("slack:U1".parse::<Principal>().unwrap());
        let turn = Turn {
            context: "around".to_owned(),
            user: user.clone(),
            cancelled_by_user: user.clone(),
            ..Turn::queued("id", "uid", "hello", "me", now)
        };
        tells("Turn", &turn);
        tells("Usage", &turn.usage);
        tells("TurnSums", &crate::store::TurnSums::default());
        tells("Cursor", &Cursor { run: 1, seq: 2 });
        let grant = Grant {
            id: String::new(),
            agent_uid: String::new(),
            tool: String::new(),
            rule: String::new(),
            by: String::new(),
            user: user.clone(),
            created: now,
        };
        tells("Grant", &grant);
        let approval = Approval {
            sprite_uid: String::new(),
            run: 1,
            request: String::new(),
            turn: String::new(),
            tool: String::new(),
            title: String::new(),
            input: Value::Null,
            kind: Default::default(),
            rule: None,
            questions: Vec::new(),
            answers: BTreeMap::new(),
            state: ApprovalState::Pending,
            by: String::new(),
            user,
            grant: Some(String::new()),
            message: String::new(),
            resolved: Some(Cursor::default()),
            created: now,
        };
        tells("Approval", &approval);
        let event = EventRow {
            kind: String::new(),
            reason: String::new(),
            note: String::new(),
            count: 1,
            first: now,
            last: now,
        };
        tells("History", &event);
        tells("Event", &crate::server::api::events::example(event));
    }
}
