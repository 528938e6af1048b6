//! Conversations as lists of lines, and what follows from them.

use agent_client_protocol_schema::v1::RequestId;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::wire::PermissionMode;

/// A conversation that names what is asked `ask_1`, `ask_2`...
struct Talk {
    session: Session,
    effects: Vec<Effect>,
}

impl Talk {
    fn new(mode: PermissionMode, resumes: Option<&str>) -> Self {
        Self::of(mode, resumes, false)
    }

    fn of(mode: PermissionMode, resumes: Option<&str>, is_job: bool) -> Self {
        let mut next = 0;
        let fresh = Box::new(move || {
            next += 1;
            format!("ask_{next}")
        });
        let terms = Terms {
            program: "agent".to_owned(),
            permissions: Permissions { mode, allow: Vec::new() },
            is_job,
            workdir: "/work".to_owned(),
            session: resumes.map(str::to_owned),
            model: None,
            instructions: None,
            fresh,
        };
        let mut talk = Self { session: Session::new(terms), effects: Vec::new() };
        talk.does(Session::begin);
        talk
    }

    /// A conversation whose session is there.
    fn open(mode: PermissionMode) -> Self {
        let mut talk = Self::new(mode, None);
        talk.hears(greeting()).hears(answer(2, json!({"sessionId": "s1"})));
        talk.effects.clear();
        talk
    }

    fn hears(&mut self, line: Value) -> &mut Self {
        let effects = self.session.on_line(Line::parse(line.to_string().as_bytes()));
        self.effects.extend(effects);
        self
    }

    fn does(&mut self, act: impl FnOnce(&mut Session) -> Vec<Effect>) -> &mut Self {
        let effects = act(&mut self.session);
        self.effects.extend(effects);
        self
    }

    fn prompts(&mut self, turn: &str) -> &mut Self {
        self.does(|session| session.prompt(turn.to_owned(), format!("do {turn}")))
    }

    fn decides(&mut self, request: &str, allow: bool) -> &mut Self {
        self.does(|session| session.answer(request, allow, "", &BTreeMap::new()))
    }

    /// What was done since, one line each.
    fn told(&mut self) -> String {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let told = std::mem::take(&mut self.effects).into_iter().map(|effect| match effect {
            Effect::Say(Said::Event(event)) => format!("event {}\n", json!(event)),
            Effect::Say(Said::Text(turn, bytes)) => format!("text  {turn} {:?}\n", lossy(&bytes)),
            Effect::Say(Said::Thought(turn, bytes)) => {
                format!("think {turn} {:?}\n", lossy(&bytes))
            }
            Effect::Say(Said::Log(stream, bytes)) => {
                format!("log   {stream:?} {:?}\n", lossy(&bytes))
            }
            Effect::Write(line) => {
                let line = line.to_string().replace(env!("CARGO_PKG_VERSION"), "VERSION");
                format!("write {line}\n")
            }
            Effect::Watch => "watch\n".to_owned(),
            Effect::Sweep => "sweep\n".to_owned(),
            Effect::Fail(why) => format!("fail  {why}\n"),
        });
        told.collect()
    }

    fn ends(&self) -> Vec<(&str, TurnOutcome)> {
        let ends = self.effects.iter().filter_map(|effect| match effect {
            Effect::Say(Said::Event(EventBody::TurnEnded { turn, outcome, .. })) => {
                Some((turn.as_str(), *outcome))
            }
            _ => None,
        });
        ends.collect()
    }

    /// What the agent was answered, by the ids of its requests.
    fn answered(&self) -> Vec<Value> {
        let lines = self.effects.iter().filter_map(|effect| match effect {
            Effect::Write(line) if line["method"].is_null() => Some(line["id"].clone()),
            _ => None,
        });
        lines.collect()
    }

    /// What a person is asked and what was withdrawn, by our names.
    fn asked(&self) -> (Vec<&str>, Vec<&str>) {
        let (mut asked, mut withdrawn) = (Vec::new(), Vec::new());
        for effect in &self.effects {
            match effect {
                Effect::Say(Said::Event(EventBody::Approval { request, .. })) => {
                    asked.push(request.as_str());
                }
                Effect::Say(Said::Event(EventBody::ApprovalWithdrawn { request })) => {
                    withdrawn.push(request.as_str());
                }
                _ => {}
            }
        }
        (asked, withdrawn)
    }
}

fn answer(id: u64, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn error(id: u64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": message}})
}

/// The answer to `initialize` of an agent that loads sessions.
fn greeting() -> Value {
    let capabilities = json!({"loadSession": true});
    answer(1, json!({"protocolVersion": 1, "agentCapabilities": capabilities}))
}

fn ended(id: u64, reason: &str) -> Value {
    answer(id, json!({"stopReason": reason}))
}

fn update(update: Value) -> Value {
    let params = json!({"sessionId": "s1", "update": update});
    json!({"jsonrpc": "2.0", "method": "session/update", "params": params})
}

fn says(text: &str) -> Value {
    let content = json!({"type": "text", "text": text});
    update(json!({"sessionUpdate": "agent_message_chunk", "content": content}))
}

fn notice(title: &str) -> Value {
    update(json!({"sessionUpdate": "notice", "title": title, "severity": "warning"}))
}

fn runs(tool: &str) -> Value {
    update(json!({"sessionUpdate": "tool_call", "toolCallId": tool, "title": "make",
        "kind": "execute", "status": "in_progress"}))
}

fn asks(id: impl Into<Value>, tool: &str) -> Value {
    let call = json!({"toolCallId": tool, "title": "touch it", "kind": "execute"});
    let options = json!([
        {"optionId": "y", "name": "Yes", "kind": "allow_once"},
        {"optionId": "n", "name": "No", "kind": "reject_once"},
    ]);
    let params = json!({"sessionId": "s1", "toolCall": call, "options": options});
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "session/request_permission", "params": params})
}

fn withdraws(id: impl Into<Value>) -> Value {
    let params = json!({"requestId": id.into()});
    json!({"jsonrpc": "2.0", "method": "$/cancel_request", "params": params})
}

#[test]
fn a_prompt_waits_until_the_session_is_there() {
    let mut talk = Talk::new(PermissionMode::Ask, None);
    talk.prompts("t1").hears(greeting()).hears(answer(2, json!({"sessionId": "s1"})));
    talk.hears(says("yes")).hears(ended(3, "end_turn"));
    insta::assert_snapshot!(talk.told());
}

#[test]
fn a_loaded_history_is_not_said_and_is_over_when_the_agent_is_silent() {
    let mut talk = Talk::new(PermissionMode::Ask, Some("s1"));
    talk.prompts("t1").hears(greeting()).hears(says("of old")).hears(answer(2, json!({})));
    talk.hears(says("of old, late"));
    assert_eq!(talk.session.patience(), Some(SETTLED));
    assert!(!talk.told().contains("of old"));
    talk.does(Session::on_silence);
    let told = talk.told();
    assert!(told.contains("session/prompt"), "{told}");
    assert_eq!(talk.session.patience(), None, "a turn may be silent");
    talk.hears(says("new"));
    assert_eq!(talk.told(), "text  t1 \"new\"\n");
}

#[test]
fn a_history_without_an_end_does_not_keep_the_turn_waiting() {
    let mut talk = Talk::new(PermissionMode::Ask, Some("s1"));
    talk.prompts("t1").hears(greeting()).hears(answer(2, json!({})));
    for _ in 0..=MOST_REPLAYED {
        talk.hears(says("of old"));
    }
    assert!(talk.told().contains("session/prompt"));
}

#[test]
fn a_session_that_cannot_be_loaded_is_said_to_be_gone_and_a_new_one_answers() {
    let mut talk = Talk::new(PermissionMode::Ask, Some("s0"));
    talk.prompts("t1").hears(greeting()).hears(error(2, "no such session"));
    talk.hears(answer(3, json!({"sessionId": "s1"})));
    insta::assert_snapshot!(talk.told());
}

#[test]
fn an_agent_that_says_nothing_at_all_cannot_be_used() {
    let mut talk = Talk::new(PermissionMode::Ask, None);
    talk.prompts("t1").does(Session::on_silence);
    assert!(talk.told().contains("fail  `agent` was started and says nothing"));
    talk.does(|session| session.gone("it is silent"));
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Failed)]);
}

#[test]
fn an_answer_to_what_was_not_asked_ends_nothing() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").hears(ended(99, "end_turn")).hears(ended(2, "end_turn"));
    assert_eq!(talk.ends(), []);
    talk.hears(ended(3, "end_turn")).hears(ended(3, "cancelled"));
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Succeeded)], "and one is answered once");
}

#[test]
fn a_message_behind_a_turn_waits_for_its_end() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").prompts("t2");
    assert!(!talk.told().contains("do t2"));
    talk.hears(ended(3, "end_turn"));
    assert!(talk.told().contains("do t2"));
}

#[test]
fn an_interrupt_withdraws_what_is_asked_and_sweeps_what_still_runs() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").prompts("t2").hears(runs("a")).hears(asks(0, "b")).told();
    talk.does(Session::interrupt).hears(asks(1, "c")).hears(ended(3, "cancelled"));
    insta::assert_snapshot!(talk.told());
    talk.prompts("t3").does(Session::interrupt).told();
    talk.hears(ended(4, "cancelled"));
    assert!(!talk.told().contains("sweep"), "no command was run");
}

#[test]
fn an_error_behind_an_interrupt_is_its_effect() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").does(Session::interrupt).hears(error(3, "aborted"));
    assert_eq!(talk.ends(), [("t1", TurnOutcome::Cancelled)]);
}

#[test]
fn an_answer_that_comes_late_never_meets_another_request() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").hears(asks(0, "a")).decides("ask_1", true).hears(asks(0, "b"));
    assert_eq!(talk.asked(), (vec!["ask_1", "ask_2"], vec![]));
    assert_eq!(talk.answered(), [json!(0)]);
    talk.decides("ask_1", true).decides("0", true);
    assert_eq!(talk.answered(), [json!(0)], "what was answered is not answered again");
    talk.decides("ask_2", false);
    assert!(talk.told().ends_with(
        "write {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"outcome\":{\"outcome\":\"selected\",\"optionId\":\"n\"}}}\n"
    ));
}

#[test]
fn a_request_that_the_agent_withdraws_asks_nobody_any_more() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").hears(asks("q", "a")).hears(asks(7, "b")).told();
    talk.hears(withdraws("q")).hears(withdraws("unknown"));
    insta::assert_snapshot!(talk.told());
    talk.decides("ask_1", true);
    assert_eq!(talk.told(), "");
    talk.decides("ask_2", true);
    assert_eq!(talk.answered(), [json!(7)], "the other one still waits");
}

#[test]
fn what_is_asked_outside_of_a_turn_asks_nobody() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.hears(asks(0, "a"));
    assert_eq!(talk.asked(), (vec![], vec![]));
    assert_eq!(talk.answered(), [json!(0)]);
}

#[test]
fn an_agent_that_is_gone_leaves_no_turn_open_and_no_question() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").hears(asks(0, "a")).prompts("t2");
    talk.does(|session| session.gone("it died"));
    let interrupted = TurnOutcome::Interrupted;
    assert_eq!(talk.ends(), [("t1", interrupted), ("t2", interrupted)]);
    assert_eq!(talk.asked(), (vec!["ask_1"], vec!["ask_1"]));
    talk.does(|session| session.gone("it died"));
    assert_eq!(talk.ends().len(), 2, "nothing ends twice");
}

#[test]
fn a_message_behind_an_interrupted_turn_was_not_interrupted_itself() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").does(Session::interrupt).prompts("t2");
    talk.does(|session| session.gone("it died"));
    let ends = [("t1", TurnOutcome::Cancelled), ("t2", TurnOutcome::Interrupted)];
    assert_eq!(talk.ends(), ends);
}

#[test]
fn a_notice_is_told_once() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.hears(notice("old model")).hears(notice("old model")).hears(notice("new model"));
    assert_eq!(talk.told(), "log   System \"old model\\n\"\nlog   System \"new model\\n\"\n");
}

#[test]
fn what_is_said_in_another_session_is_not_this_ones() {
    let mut talk = Talk::open(PermissionMode::Ask);
    talk.prompts("t1").told();
    let mut line = says("elsewhere");
    line["params"]["sessionId"] = json!("s2");
    talk.hears(line);
    assert_eq!(talk.told(), "");
}

#[test]
fn a_job_ends_as_its_task_does() {
    let mut talk = Talk::of(PermissionMode::Bypass, None, true);
    talk.hears(greeting()).hears(answer(2, json!({"sessionId": "s1"}))).prompts(TASK_TURN);
    assert_eq!(talk.session.task_end(), None);
    talk.hears(ended(3, "refusal"));
    let end = talk.session.task_end().expect("an end");
    assert_eq!(end.0, TurnOutcome::Failed);
    assert!(end.1.contains("refused to go on"), "{}", end.1);
}

/// Something that happens in a conversation.
#[derive(Debug, Clone)]
enum Event {
    Prompt,
    Interrupt,
    Ask(i64),
    Withdraw(i64),
    Decide(u32, bool),
    Answer(u64, &'static str),
    Fail(u64),
    Say,
    Run,
    Silence,
}

fn an_event() -> impl Strategy<Value = Event> {
    let reason = prop::sample::select(vec!["end_turn", "cancelled", "refusal", "nonsense"]);
    prop_oneof![
        3 => Just(Event::Prompt),
        1 => Just(Event::Interrupt),
        3 => (0..3i64).prop_map(Event::Ask),
        1 => (0..3i64).prop_map(Event::Withdraw),
        2 => (1..9u32, any::<bool>()).prop_map(|(n, allow)| Event::Decide(n, allow)),
        3 => (1..12u64, reason).prop_map(|(id, reason)| Event::Answer(id, reason)),
        1 => (1..12u64).prop_map(Event::Fail),
        1 => Just(Event::Say),
        1 => Just(Event::Run),
        1 => Just(Event::Silence),
    ]
}

proptest! {
    #[test]
    fn each_turn_ends_once_in_order_and_each_request_is_answered_once(
        is_open in any::<bool>(),
        events in prop::collection::vec(an_event(), 0..60),
    ) {
        let mut talk = match is_open {
            true => Talk::open(PermissionMode::Ask),
            false => Talk::new(PermissionMode::Ask, Some("s1")),
        };
        talk.effects.clear();
        let (mut prompted, mut requests) = (Vec::new(), Vec::new());
        for (n, event) in events.into_iter().enumerate() {
            match event {
                Event::Prompt => {
                    prompted.push(format!("t{n}"));
                    talk.prompts(&format!("t{n}"));
                }
                Event::Interrupt => { talk.does(Session::interrupt); }
                Event::Ask(id) => {
                    requests.push(json!(id));
                    talk.hears(asks(id, "a"));
                }
                Event::Withdraw(id) => { talk.hears(withdraws(id)); }
                Event::Decide(n, allow) => { talk.decides(&format!("ask_{n}"), allow); }
                Event::Answer(id, reason) => { talk.hears(ended(id, reason)); }
                Event::Fail(id) => { talk.hears(error(id, "it failed")); }
                Event::Say => { talk.hears(says("so")); }
                Event::Run => { talk.hears(runs("a")); }
                Event::Silence => { talk.does(Session::on_silence); }
            }
            let (asked, withdrawn) = talk.asked();
            prop_assert!(withdrawn.iter().all(|request| asked.contains(request)));
        }
        talk.does(|session| session.gone("it is over"));
        let mut ends: Vec<_> = talk.ends().into_iter().map(|(turn, _)| turn.to_owned()).collect();
        // An interrupt ends what waits before what runs.
        ends.sort_by_key(|turn| prompted.iter().position(|it| it == turn));
        prop_assert_eq!(ends, prompted);
        let mut answered = talk.answered();
        let order = |id: &Value| id.as_i64();
        answered.sort_by_key(order);
        requests.sort_by_key(order);
        prop_assert_eq!(answered, requests);
    }

    #[test]
    fn no_id_of_a_request_is_taken_for_another(id in "[0-9]{1,3}") {
        let mut talk = Talk::open(PermissionMode::Ask);
        let number: i64 = id.parse().expect("a number");
        talk.prompts("t1").hears(asks(id.clone(), "a")).hears(withdraws(number));
        prop_assert_eq!(talk.asked().1, Vec::<&str>::new(), "{:?}", RequestId::Number(number));
        talk.hears(withdraws(id));
        prop_assert_eq!(talk.asked().1, vec!["ask_1"]);
    }
}
