//! Objects and rows for the tests of the store.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses some of these")]

use std::time::Duration;

use jiff::Timestamp;
use open_dispatch::{
    ambient::later,
    resource::{API_VERSION, AnyObject, Kind, OwnerReference},
    store::{Approval, ApprovalState, Conversation, Delivery, Op, Subject, Transaction, Turn},
};
use serde_json::json;
use sprite_reporter::wire::{
    Chunk, Containment, Event, EventBody, Exit, ExitReason, ProcessIdentity, Stream,
};

/// A time so many seconds after the start of all tests.
pub fn at(seconds: u64) -> Timestamp {
    later(Timestamp::from_second(1_800_000_000).unwrap(), Duration::from_secs(seconds))
}

pub fn job(name: &str) -> AnyObject {
    let json = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"task": "echo hello", "agent": {"command": {}}},
    });
    AnyObject::from_json(Kind::Job, json).unwrap()
}

pub fn agent(name: &str) -> AnyObject {
    let json = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"agent": {"claude": {}}},
    });
    AnyObject::from_json(Kind::Agent, json).unwrap()
}

/// A sprite with a finalizer; owned by a job.
pub fn sprite(name: &str, owner: &AnyObject) -> AnyObject {
    let json = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "finalizers": ["test/hold"]},
        "spec": {
            "agent": {"command": {}}, "runtime": {"local": {}}, "permissions": {},
            "attempt": 1, "running": true,
        },
    });
    let mut sprite = AnyObject::from_json(Kind::Sprite, json).unwrap();
    sprite.metadata_mut().owner_references = vec![owner_reference(owner, true)];
    sprite
}

pub fn owner_reference(owner: &AnyObject, controller: bool) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: owner.kind(),
        name: owner.metadata().name.clone(),
        uid: owner.metadata().uid.clone(),
        controller,
    }
}

/// The object with another task, prompt or attempt: a changed spec.
pub fn with_spec(object: &AnyObject, text: &str) -> AnyObject {
    match object.clone() {
        AnyObject::Job(mut job) => {
            text.clone_into(&mut job.spec.task);
            AnyObject::Job(job)
        }
        AnyObject::Agent(mut agent) => {
            agent.spec.instructions = Some(text.to_owned());
            AnyObject::Agent(agent)
        }
        AnyObject::Sprite(mut sprite) => {
            sprite.spec.session = Some(text.to_owned());
            AnyObject::Sprite(sprite)
        }
        other => panic!("the fixtures make no {}", other.kind()),
    }
}

/// The object with another phase: a changed status.
pub fn with_phase(object: &AnyObject, phase: &str) -> AnyObject {
    let mut object = object.clone();
    match &mut object {
        AnyObject::Job(job) => phase.clone_into(&mut job.status.phase),
        AnyObject::Agent(agent) => phase.clone_into(&mut agent.status.phase),
        AnyObject::Sprite(sprite) => phase.clone_into(&mut sprite.status.phase),
        other => panic!("the fixtures make no {}", other.kind()),
    }
    object
}

pub fn phase(object: &AnyObject) -> &str {
    match object {
        AnyObject::Job(job) => &job.status.phase,
        AnyObject::Agent(agent) => &agent.status.phase,
        AnyObject::Sprite(sprite) => &sprite.status.phase,
        other => panic!("the fixtures make no {}", other.kind()),
    }
}

pub fn with_finalizers(object: &AnyObject, finalizers: &[&str]) -> AnyObject {
    let mut object = object.clone();
    object.metadata_mut().finalizers = finalizers.iter().map(ToString::to_string).collect();
    object
}

pub fn event(seq: u64, body: EventBody) -> Event {
    Event { seq, at: at(seq), body }
}

pub fn log(seq: u64, text: &str) -> Event {
    let chunk = Chunk::pack(text.as_bytes(), false);
    event(seq, EventBody::Log { stream: Stream::Stdout, chunk })
}

pub fn hello(seq: u64) -> Event {
    let process = ProcessIdentity { boot_id: String::new(), pid: 1, start_time: 1 };
    let (version, containment) = ("1.0.0".to_owned(), Containment::default());
    event(seq, EventBody::Hello { wire: 1, version, process, containment })
}

pub fn gap(seq: u64, through: u64) -> Event {
    event(seq, EventBody::Gap { through, bytes: 1 })
}

pub fn exit(seq: u64) -> Event {
    let (code, signal) = (Some(0), None);
    let reason = ExitReason::Completed;
    event(seq, EventBody::Exit(Exit { code, signal, reason, message: String::new() }))
}

pub fn output(sprite_uid: &str, run: u32, events: Vec<Event>) -> Op {
    Op::Output { sprite_uid: sprite_uid.to_owned(), run, events }
}

pub fn turn(id: &str, agent_uid: &str) -> Turn {
    Turn {
        conversation: Some(conversation()),
        ..Turn::queued(id, agent_uid, format!("do {id}"), "somebody", at(0))
    }
}

pub fn conversation() -> Conversation {
    let (platform, channel) = ("console".to_owned(), "main".to_owned());
    Conversation { platform, channel, thread: None }
}

pub fn approval(sprite_uid: &str, request: &str) -> Approval {
    Approval {
        kind: Default::default(),
        rule: None,
        questions: Vec::new(),
        answers: Default::default(),
        sprite_uid: sprite_uid.to_owned(),
        run: 1,
        request: request.to_owned(),
        turn: "turn".to_owned(),
        tool: "Bash".to_owned(),
        title: "list files".to_owned(),
        input: json!({"command": "ls"}),
        state: ApprovalState::Pending,
        by: String::new(),
        message: String::new(),
        resolved: None,
        user: None,
        grant: None,
        created: at(0),
    }
}

pub fn delivery(id: &str) -> Delivery {
    let subject = Subject::Notice { text: format!("notice {id}") };
    Delivery::open(id, conversation(), subject, at(0))
}

/// A transaction at a second.
pub fn tx(seconds: u64, ops: impl IntoIterator<Item = Op>) -> Transaction {
    Transaction { ops: ops.into_iter().collect(), now: at(seconds) }
}
