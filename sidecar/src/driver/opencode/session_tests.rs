//! Conversations as lists of events, and what follows from them. Those of `transcripts/` were
//! taken down from OpenCode 1.18.33; a line with `>` is what a person did at that point.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::protocol::Event, asks::replies, *};
use crate::wire::Question;

/// A conversation at whose beginning it is the millisecond 1, with the ids 1, 2, 3...
struct Talk {
    session: Session,
    effects: Vec<Effect>,
}

impl Talk {
    fn new(mode: PermissionMode, is_job: bool) -> Self {
        let mut next = 0u128;
        let fresh = Box::new(move || {
            next += 1;
            uuid::Uuid::from_u128(next)
        });
        let (workdir, now_ms) = ("/work".to_owned(), Box::new(|| 1_i64));
        let terms = Terms { mode, is_job, workdir, now_ms, fresh };
        let mut talk = Self { session: Session::new(terms), effects: Vec::new() };
        talk.session.opened("ses_ours", None);
        talk
    }

    fn does(&mut self, act: impl FnOnce(&mut Session) -> Vec<Effect>) -> &mut Self {
        let effects = act(&mut self.session);
        self.effects.extend(effects);
        self
    }

    fn hears(&mut self, kind: &str, properties: Value) -> &mut Self {
        let event = json!({"type": kind, "properties": properties}).to_string();
        self.does(|session| session.on_event(Event::read(event.as_bytes())))
    }

    /// Prompts, and returns the message's id.
    fn prompts(&mut self, turn: &str) -> String {
        self.does(|session| session.prompt(turn.to_owned(), "do it".to_owned()));
        match self.effects.last() {
            Some(Effect::Call(Call::Prompt { message, .. })) => message.clone(),
            other => panic!("a prompt: {other:?}"),
        }
    }

    fn person(&mut self, message: &str) -> &mut Self {
        let info = json!({"id": message, "role": "user", "sessionID": "ses_ours"});
        self.hears("message.updated", json!({"info": info}))
    }

    fn step(&mut self, id: &str, parent: &str, finish: Option<&str>) -> &mut Self {
        let time = if finish.is_some() { json!({"completed": 1}) } else { json!({}) };
        let tokens = json!({"input": 10, "output": 1, "cache": {"read": 5, "write": 0}});
        let info = json!({
            "id": id, "role": "assistant", "parentID": parent, "sessionID": "ses_ours",
            "time": time, "finish": finish, "cost": 0.5, "tokens": tokens,
        });
        self.hears("message.updated", json!({"info": info}))
    }

    fn status(&mut self, status: &str) -> &mut Self {
        let status = json!({"sessionID": "ses_ours", "status": {"type": status}});
        self.hears("session.status", status)
    }

    fn ends(&self) -> Vec<(&str, TurnOutcome)> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Say(Said::Event(EventBody::TurnEnded { turn, outcome, .. })) => {
                    Some((turn.as_str(), *outcome))
                }
                _ => None,
            })
            .collect()
    }

    fn calls(&self, wanted: &Call) -> usize {
        self.effects.iter().filter(|effect| **effect == Effect::Call(wanted.clone())).count()
    }

    /// What was done, one line each, as short as it can be said.
    fn told(&self) -> String {
        let mut told = String::new();
        for effect in &self.effects {
            told.push_str(&match effect {
                Effect::Say(Said::Event(event)) => {
                    format!("event  {}", serde_json::to_string(event).unwrap())
                }
                Effect::Say(Said::Text(turn, bytes)) => {
                    format!("text   {turn} {:?}", String::from_utf8_lossy(bytes))
                }
                Effect::Say(Said::Thought(turn, bytes)) => {
                    format!("think  {turn} {:?}", String::from_utf8_lossy(bytes))
                }
                Effect::Say(Said::Log(_, bytes)) => {
                    format!("log    {:?}", String::from_utf8_lossy(bytes))
                }
                Effect::Call(call) => format!("call   {call:?}"),
            });
            told.push('\n');
        }
        told
    }

    /// Lives through what was taken down. What the server is asked at its end, it denies.
    fn replays(&mut self, transcript: &str) -> &mut Self {
        let message = self.prompts("t1");
        for line in transcript.lines() {
            let Some(order) = line.strip_prefix("> ") else {
                let event = Event::read(line.replace("msg_prompt", &message).as_bytes());
                self.does(|session| session.on_event(event));
                continue;
            };
            let asked = self.session.asked.keys().next().cloned().unwrap_or_default();
            let (order, words) = order.split_once(' ').unwrap_or((order, ""));
            let answers = [("Which colour?", "blue"), ("Sizes?", "S, M")];
            let answers =
                answers.map(|(question, answer)| (question.to_owned(), answer.to_owned())).into();
            match order {
                "allow" => self.does(|it| it.answer(asked, true, words, &BTreeMap::new())),
                "deny" => self.does(|it| it.answer(asked, false, words, &BTreeMap::new())),
                "answer" => self.does(|it| it.answer(asked, true, words, &answers)),
                "interrupt" => self.does(Session::interrupt),
                other => panic!("unknown order {other}"),
            };
        }
        self.does(|session| session.checked("t1", false))
    }
}

/// A test for each transcript: what follows from it is a snapshot.
macro_rules! transcripts {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                let mut talk = Talk::new(PermissionMode::Ask, false);
                talk.replays(include_str!(concat!("transcripts/", stringify!($name), ".txt")));
                assert_eq!(talk.ends().len(), 1, "{}", talk.told());
                assert!(!talk.session.has_turn());
                insta::assert_snapshot!(talk.told());
            }
        )+
    };
}

transcripts! {
    a_model_that_is_not_there
    thought_and_text
    a_tool_is_allowed
    an_edit_is_denied
    an_interrupt_in_mid_speech
    an_interrupt_right_behind_the_prompt
    an_interrupt_while_it_asks
    an_interrupt_while_it_tries_again
    a_refused_key
    questions_are_answered
}

#[test]
fn a_step_that_is_complete_is_not_the_end() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let message = talk.prompts("t1");
    talk.person(&message).status("busy").step("msg_a", &message, Some("tool-calls"));
    talk.status("busy").step("msg_b", &message, None);
    assert_eq!(talk.ends(), []);
    talk.step("msg_b", &message, Some("stop")).status("idle").status("idle");
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Succeeded)]);
    let Some(Effect::Say(Said::Event(EventBody::TurnEnded { usage, .. }))) = talk.effects.last()
    else {
        panic!("the end comes last")
    };
    let both = Usage { cost_micro_usd: 1_000_000, input_tokens: 30, output_tokens: 2 };
    assert_eq!(*usage, both, "caches are read too");
}

#[test]
fn an_idle_session_of_the_turn_before_ends_nothing() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.prompts("t1");
    talk.status("idle");
    assert_eq!(talk.ends(), [], "the prompt does not stand there yet");
    let fault = json!({"name": "UnknownError", "data": {"message": "of the turn before"}});
    talk.hears("session.error", json!({"sessionID": "ses_ours", "error": fault}));
    let message = talk.session.turn.as_ref().unwrap().prompt.clone().unwrap();
    talk.person(&message).step("msg_a", &message, None).step("msg_a", &message, Some("stop"));
    talk.status("idle");
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Succeeded)]);
}

#[test]
fn a_session_that_is_idle_without_an_answer_is_looked_at() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let message = talk.prompts("t1");
    talk.person(&message).status("idle");
    let check = Call::Check { turn: "t1".to_owned() };
    assert_eq!((talk.calls(&check), talk.ends()), (1, vec![]));
    // It works after all, is idle once more, and then it does not.
    talk.does(|session| session.checked("t1", true)).status("idle");
    assert_eq!(talk.calls(&check), 2);
    talk.does(|session| session.checked("t0", false));
    assert_eq!(talk.ends(), [], "that was another turn's");
    talk.does(|session| session.checked("t1", false));
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Failed)]);
    assert!(talk.told().contains(failure::NO_ANSWER));
}

#[test]
fn an_interrupt_that_came_too_early_is_said_again() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let message = talk.prompts("t1");
    talk.does(Session::interrupt).person(&message).status("idle").status("busy");
    talk.step("msg_a", &message, None);
    assert_eq!(talk.calls(&Call::Abort), 3);
    talk.step("msg_a", &message, Some("")).status("idle");
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Cancelled)]);
}

#[test]
fn what_begins_without_a_prompt_is_the_agents_own_and_a_prompt_waits_for_its_end() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.status("busy").step("msg_a", "msg_of_its_own", None);
    talk.does(|session| session.prompt("t1".to_owned(), "hello".to_owned()));
    assert!(!talk.told().contains("Prompt"), "one at a time");
    talk.step("msg_a", "msg_of_its_own", Some("stop")).status("idle");
    insta::assert_snapshot!(talk.told());
}

#[test]
fn what_comes_late_of_a_turn_begins_none() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let message = talk.prompts("t1");
    talk.person(&message).step("msg_a", &message, None);
    talk.step("msg_a", &message, Some("stop")).status("idle");
    talk.step("msg_a", &message, None).step("msg_long_ago", "msg_old", Some("stop"));
    assert_eq!(talk.ends().len(), 1);
    assert!(!talk.session.has_turn(), "{}", talk.told());
}

#[test]
fn an_interrupt_cancels_what_waits_too() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.step("msg_a", "msg_of_its_own", None);
    talk.does(|session| session.prompt("t1".to_owned(), "hello".to_owned()));
    talk.does(Session::interrupt);
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Cancelled)]);
}

#[test]
fn a_subagent_shows_its_tools_costs_and_keeps_its_words() {
    let mut talk = Talk::new(PermissionMode::Ask, false);
    let message = talk.prompts("t1");
    talk.person(&message).step("msg_a", &message, None);
    let part = |kind: Value| {
        let mut part = json!({"sessionID": "ses_child", "messageID": "msg_c", "id": "prt_c"});
        part.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        json!({"part": part})
    };
    let info = json!({
        "id": "msg_c", "role": "assistant", "sessionID": "ses_child", "time": {}, "cost": 1.0,
    });
    talk.hears("message.updated", json!({"info": info}));
    talk.hears("message.part.updated", part(json!({"type": "text", "text": "to the agent"})));
    let state = json!({"status": "running", "input": {"command": "ls"}});
    let tool = json!({"type": "tool", "tool": "bash", "callID": "c1", "state": state});
    talk.hears("message.part.updated", part(tool));
    let child_idle = json!({"sessionID": "ses_child", "status": {"type": "idle"}});
    talk.hears("session.status", child_idle);
    talk.hears(
        "permission.asked",
        json!({"id": "per_1", "sessionID": "ses_child", "permission": "bash", "patterns": ["ls"]}),
    );
    talk.step("msg_a", &message, Some("stop")).status("idle");
    insta::assert_snapshot!(talk.told());
}

#[test]
fn bypass_allows_and_plan_denies_unasked() {
    for (mode, refusal) in [(PermissionMode::Bypass, false), (PermissionMode::Plan, true)] {
        let mut talk = Talk::new(mode, true);
        let ask = json!({"id": "per_1", "sessionID": "ses_ours", "permission": "bash"});
        talk.hears("permission.asked", ask);
        let [Effect::Call(Call::Permit { request, refusal: why })] = talk.effects.as_slice() else {
            panic!("{}", talk.told())
        };
        assert_eq!((request.as_str(), why.is_some()), ("per_1", refusal));
        talk.effects.clear();
        let question = json!({"id": "que_1", "questions": [{"question": "Why?"}]});
        talk.hears("question.asked", question);
        assert!(matches!(
            talk.effects.as_slice(),
            [Effect::Call(Call::Reply { answers, .. })] if answers[0][0].starts_with("Nobody")
        ));
    }
}

#[test]
fn a_question_without_an_answer_lets_the_agent_go_on() {
    let question = |many| Question {
        text: "Sizes?".to_owned(),
        options: vec!["S".to_owned(), "M, L".to_owned()],
        many,
    };
    let replies = |many, allow, words: &str, answer: &str| {
        let answers = [("Sizes?".to_owned(), answer.to_owned())].into();
        replies(&[question(many)], allow, words, &answers).remove(0)
    };
    assert_eq!(replies(true, true, "", "S, XL"), ["S", "XL"]);
    assert_eq!(replies(true, true, "", "M, L"), ["M, L"], "that is one of the options");
    assert_eq!(replies(false, true, "", "S, XL"), ["S, XL"]);
    assert_eq!(replies(false, true, "blue", ""), ["blue"]);
    assert_eq!(replies(false, false, "not now", "S"), ["not now"]);
    assert!(replies(false, true, "", "")[0].contains("Decide for yourself"));
}

#[test]
fn a_prompt_that_the_server_does_not_take_fails() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.prompts("t1");
    let Some(Effect::Call(call)) = talk.effects.last().cloned() else { panic!("a call") };
    talk.does(|session| session.refused(&call, "it answered 400"));
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Failed)]);
    talk.does(|session| session.refused(&call, "it answered 400"));
    assert_eq!(talk.ends().len(), 1, "once");
}

#[test]
fn what_was_open_when_the_server_went_away_is_ended_once() {
    let mut talk = Talk::new(PermissionMode::Ask, false);
    let message = talk.prompts("t1");
    talk.person(&message).step("msg_a", &message, None);
    let ask = json!({"id": "per_1", "sessionID": "ses_ours", "permission": "bash"});
    talk.hears("permission.asked", ask);
    talk.does(|session| session.gone("it ended")).does(|session| session.gone("it ended"));
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Interrupted)]);
    assert!(talk.told().contains("approvalWithdrawn"));
}

#[test]
fn after_a_gap_only_what_still_waits_is_asked() {
    let mut talk = Talk::new(PermissionMode::Ask, false);
    let message = talk.prompts("t1");
    talk.person(&message).step("msg_a", &message, None);
    for id in ["per_1", "per_2"] {
        let ask = json!({"id": id, "sessionID": "ses_ours", "permission": "bash"});
        talk.hears("permission.asked", ask.clone()).hears("permission.asked", ask);
    }
    talk.does(|session| session.only_wait(&["per_2".to_owned()].into()));
    assert_eq!(talk.session.asked.keys().collect::<Vec<_>>(), ["per_2"]);
    let asked = talk.told().matches("\"approval\"").count();
    assert_eq!(asked, 2, "each once");
}

#[test]
fn what_was_answered_is_not_asked_again_unless_the_answer_did_not_arrive() {
    let mut talk = Talk::new(PermissionMode::Ask, false);
    let message = talk.prompts("t1");
    talk.person(&message).step("msg_a", &message, None);
    let ask = json!({"id": "per_1", "sessionID": "ses_ours", "permission": "bash"});
    talk.hears("permission.asked", ask.clone());
    talk.does(|session| session.answer("per_1".into(), true, "", &BTreeMap::new()));
    let Some(Effect::Call(call)) = talk.effects.last().cloned() else { panic!("a call") };
    // Read before the answer came, told behind it.
    talk.hears("permission.asked", ask.clone());
    assert_eq!(talk.told().matches("\"approval\"").count(), 1);
    talk.does(|session| session.refused(&call, "it went away")).hears("permission.asked", ask);
    assert_eq!(talk.told().matches("\"approval\"").count(), 2);
}

#[test]
fn ids_of_messages_begin_with_the_time_as_opencodes_do() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.session.terms.now_ms = Box::new(|| 1_795_227_900_368);
    assert_eq!(talk.prompts("t1"), "msg_1fbebd9d000000000000000001");
}

proptest! {
    /// Whatever the order of the events of a turn, it ends once at the most, and once for all
    /// when the server goes away.
    #[test]
    fn a_turn_ends_once(events in prop::collection::vec(0..10_usize, 0..40)) {
        let mut talk = Talk::new(PermissionMode::Ask, false);
        let message = talk.prompts("t1");
        for event in events {
            match event {
                0 => talk.person(&message),
                1 => talk.status("idle"),
                2 => talk.status("busy"),
                3 => talk.step("msg_a", &message, None),
                4 => talk.step("msg_a", &message, Some("tool-calls")),
                5 => talk.step("msg_b", &message, None),
                6 => talk.step("msg_b", &message, Some("stop")),
                7 => talk.does(Session::interrupt),
                8 => talk.does(|session| session.checked("t1", false)),
                _ => talk.does(|session| session.checked("t1", true)),
            };
        }
        talk.does(|session| session.gone("over"));
        let ends = talk.ends().into_iter().filter(|(turn, _)| *turn == "t1").count();
        prop_assert_eq!(ends, 1);
    }
}
