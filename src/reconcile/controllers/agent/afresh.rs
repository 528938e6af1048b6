//! A run that keeps nothing of the last one, and how the one who speaks to it hears that.
//!
//! An Agent in a machine whose spec says `persistent: false` begins each run with a fresh clone and a
//! new session. That is what somebody asked for, but whoever says the next thing may not have: they are
//! told, in the conversation of the turn that begins the run, and the notice commits with the order to
//! run, so it is said once.

use crate::{
    ambient::Ambient,
    resource::{Agent, RuntimeSpec, Sprite},
    store::{Delivery, Op, Subject, Turn},
};

/// What is said where a run of `sprite` forgets the session that was there before.
fn words(agent: &Agent, sprite: &Sprite) -> Option<String> {
    let forgets = match &sprite.spec.runtime {
        RuntimeSpec::Fly(fly) => fly.persistent == Some(false),
        RuntimeSpec::Local(_) => false,
    };
    let had = sprite.status.session_id.is_some() || sprite.spec.session.is_some();
    let name = &agent.metadata.name;
    (forgets && had).then(|| {
        format!(
            "{name} begins a new session with a fresh clone: its machine keeps nothing from \
             one run to the next. /od-set {name} runtime.fly.persistent=true changes that"
        )
    })
}

/// The notice to commit with a run of `sprite` that begins now, for whoever waits for it.
pub(super) fn notice(
    agent: &Agent,
    sprite: &Sprite,
    open: &[Turn],
    ambient: &Ambient,
) -> Option<Op> {
    let text = words(agent, sprite)?;
    let conversation = open.iter().find_map(|turn| turn.conversation.clone())?;
    let (id, now) = (ambient.ids.uid(), ambient.clock.now());
    Some(Op::Delivery(Delivery::open(id, conversation, Subject::Notice { text }, now)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{
        super::{Action, AgentController},
        *,
    };
    use crate::{
        resource::{AnyObject, Kind},
        store::{Conversation, Store as _, Transaction, memory::MemoryStore},
    };

    fn sprite(persistent: Option<bool>, session: Option<&str>) -> Sprite {
        let spec = json!({"agent": {"claude": {}}, "runtime": {"fly": {"persistent": persistent}},
            "permissions": {}, "attempt": 1, "running": true, "run": 2});
        let mut sprite = Sprite::new("bot-1", serde_json::from_value(spec).unwrap());
        sprite.metadata.uid = "uid-of-s".into();
        sprite.status.session_id = session.map(str::to_owned);
        sprite
    }

    fn agent() -> Agent {
        let spec = json!({"agent": {"claude": {}}, "runtime": {"fly": {"persistent": false}}});
        let mut agent = Agent::new("bot", serde_json::from_value(spec).unwrap());
        agent.metadata.uid = "uid".into();
        agent
    }

    #[test]
    fn only_a_run_that_forgets_something_is_told() {
        let of = |persistent, session| words(&agent(), &sprite(persistent, session));
        insta::assert_snapshot!(of(Some(false), Some("s-1")).unwrap(), @"bot begins a new session with a fresh clone: its machine keeps nothing from one run to the next. /od-set bot runtime.fly.persistent=true changes that");
        assert_eq!(of(Some(false), None), None);
        assert_eq!(of(Some(true), Some("s-1")), None);
        assert_eq!(of(None, Some("s-1")), None);
    }

    #[tokio::test]
    async fn whoever_wakes_one_that_keeps_nothing_hears_it_once_in_their_conversation() {
        let store = MemoryStore::new();
        let mut asleep = sprite(Some(false), Some("s-1"));
        asleep.spec.running = false;
        let conversation =
            Conversation { platform: "slack".into(), channel: "C1".into(), thread: None };
        let ambient = Ambient::real();
        let now = ambient.clock.now();
        let turn = Turn {
            conversation: Some(conversation.clone()),
            ..Turn::queued("t", "uid", "go on", "ada", now)
        };
        let setting = Transaction::at(now)
            .with(Op::Create(agent().into()))
            .with(Op::Create(asleep.into()))
            .with(Op::AddTurn(turn));
        store.apply(setting).await.unwrap();
        let agent = store.get(Kind::Agent, "bot").await.unwrap().unwrap().into_agent().unwrap();
        let sprite = store.get(Kind::Sprite, "bot-1").await.unwrap();
        let mut woken = sprite.and_then(AnyObject::into_sprite).unwrap();
        woken.spec.running = true;
        let controller = AgentController::new(store.clone(), ambient);
        let wake = || Action::WakeSprite(Box::new(woken.clone()));
        controller.act(&agent, wake()).await.unwrap();
        // The same again finds that it was done.
        controller.act(&agent, wake()).await.unwrap_err();
        let told = store.open_deliveries().await.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].conversation, conversation);
        assert!(
            matches!(&told[0].subject, Subject::Notice { text } if text.contains("new session"))
        );
    }
}
