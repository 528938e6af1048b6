//! Claims on what is said: text, tools, memory, failures of the model API, figures.

use sprite_reporter::{
    driver::Said,
    wire::{EventBody, Stream, TurnOutcome, Usage},
};

use super::{Candidate, seated};

/// What the model says arrives piece by piece.
pub async fn text_streams(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let turn = run.turn("t1", "[[slow:10:100]]").await;
    let words: String = (0..10).map(|n| format!("word{n} ")).collect();
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    assert_eq!(turn.text.trim_end(), words.trim_end());
    let pieces = run.heard().iter().filter(|said| matches!(said, Said::Text(..))).count();
    assert!(pieces > 3, "only {pieces} pieces");
}

/// Thinking, where it is shown at all, is no speech.
pub async fn thinking_is_told_apart_from_speech(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let turn = run.turn("t1", "[[think:well, well]] yes").await;
    assert_eq!(turn.text.trim_end(), "echo: yes", "{turn:?}");
}

/// A tool is told when it begins, with a line for people, and when it ends.
pub async fn a_tool_has_a_title_and_an_end(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let command = "python3 -c 'open(\"made\", \"w\").write(\"42\")'";
    let turn = run.turn("t1", &format!("first [[bash:{command}]] last")).await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    assert_eq!(turn.text.trim_end(), "echo: first\n\necho: last");
    assert_eq!(std::fs::read_to_string(desk.file("made")).expect("the file"), "42");
    let tools: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::Tool { turn, id, title, .. } => Some((turn, id, title.as_str(), None)),
            EventBody::ToolEnded { turn, id, failed } => Some((turn, id, "", Some(*failed))),
            _ => None,
        })
        .collect();
    let [begun, ended] = tools.as_slice() else { panic!("one tool: {tools:?}") };
    assert_eq!((begun.0.as_str(), begun.3, ended.3), ("t1", None, Some(false)));
    assert_eq!(begun.1, ended.1);
    assert!(begun.2.contains("python3") && !begun.2.contains('\n'), "{}", begun.2);
}

/// A warm CLI takes turn after turn in one session.
pub async fn the_second_turn_remembers_the_first(candidate: &impl Candidate) {
    let (desk, model) = seated!(candidate);
    let mut run = desk.start();
    run.event("ready", |event| (*event == EventBody::Ready {}).then_some(())).await;
    let first = run.turn("t1", "remember the number 7341").await;
    assert_eq!(first.text.trim_end(), "echo: remember the number 7341");
    let pids = desk.pids();
    let second = run.turn("t2", "and now").await;
    assert_eq!(second.text.trim_end(), "echo: and now");
    assert!(remembers(&model, "and now", "remember the number 7341"));
    assert_eq!(desk.pids(), pids, "the same process");
    let sessions = run.events().into_iter().filter(|e| matches!(e, EventBody::Session { .. }));
    assert_eq!(sessions.count(), 1, "one session");
}

/// Whether the model saw `before` in the conversation when it was asked `prompt`.
fn remembers(model: &super::fake_model::FakeModel, prompt: &str, before: &str) -> bool {
    model
        .requests()
        .iter()
        .any(|asked| asked.prompt == prompt && asked.body.to_string().contains(before))
}

/// A session outlives its process.
pub async fn another_driver_with_the_session_remembers(candidate: &impl Candidate) {
    let (mut desk, model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", "remember the number 7341").await;
    let id = run.session().await;
    run.ended("t1").await;
    run.stop().await;

    desk.spec.session = Some(id.clone());
    let mut run = desk.start();
    run.prompt("t2", "and now").await;
    assert_eq!(run.session().await, id);
    let turn = run.ended("t2").await;
    assert_eq!(turn.text.trim_end(), "echo: and now", "nothing of before is said again");
    assert!(remembers(&model, "and now", "remember the number 7341"));
    if candidate.can().count {
        assert_eq!(turn.usage.output_tokens, 50, "only its own share");
    }
}

/// A session whose file is gone is no reason not to answer.
pub async fn a_session_that_is_gone_is_said_and_a_new_one_answers(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    let gone = candidate.can().gone_session;
    desk.spec.session = Some(gone.to_owned());
    let mut run = desk.start();
    let turn = run.turn("t1", "hello").await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    assert_eq!(turn.text.trim_end(), "echo: hello");
    let sessions: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::Session { id } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    assert!(matches!(sessions.as_slice(), [id] if *id != gone), "{sessions:?}");
    let said = format!("the session {gone} is gone; a new one begins\n");
    let logs: Vec<_> = run
        .heard()
        .iter()
        .filter_map(|said| match said {
            Said::Log(Stream::System, line) => Some(String::from_utf8_lossy(line).into_owned()),
            _ => None,
        })
        .collect();
    assert!(logs.contains(&said), "{logs:?}");
    assert_eq!(run.turn("t2", "go on").await.text.trim_end(), "echo: go on");
}

/// Nothing of a prompt is read as anything but a prompt.
pub async fn a_prompt_of_odd_bytes_arrives_as_it_is(candidate: &impl Candidate) {
    let (desk, model) = seated!(candidate);
    let mut run = desk.start();
    let prompts = [
        "it's \"quoted\" `ticked` $HOME $(id) %s \\n {\"a\": [1]} <b>&amp;</b>",
        "first line\n\nthird line\r\n\ttabbed",
        "🦀 grüße, 你好, e\u{301}, \u{202e}rtl",
        "-v --help -- -p",
        "null",
        "#heading !bang",
    ];
    for (n, prompt) in prompts.iter().enumerate() {
        let turn = run.turn(&format!("t{n}"), prompt).await;
        assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{prompt:?}: {turn:?}");
        let asked = model.requests().iter().any(|asked| asked.prompt == *prompt);
        assert!(asked, "{prompt:?} is not what the model was asked");
    }
}

/// A person may paste a whole file.
pub async fn a_long_prompt_arrives_whole(candidate: &impl Candidate) {
    let (desk, model) = seated!(candidate);
    let mut run = desk.start();
    let prompt = "a line of a long file\n".repeat(10_000);
    let turn = run.turn("t1", &prompt).await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{}", turn.message);
    let lines = prompt.trim_end();
    assert!(model.requests().iter().any(|asked| asked.prompt == lines), "not as it was");
}

/// A leading slash may be a command of the CLI. Whatever it makes of it, the turn has one end,
/// and the next one works.
pub async fn a_prompt_that_looks_like_a_command_gets_one_end(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    for (turn, prompt) in [("t1", "/no-such-command at all"), ("t2", "/"), ("t3", "@nowhere")] {
        run.turn(turn, prompt).await;
        let next = run.turn(&format!("after {turn}"), "go on").await;
        assert_eq!(next.text.trim_end(), "echo: go on", "after {prompt:?}");
        assert_eq!(run.ends(turn).len(), 1, "{prompt:?}");
    }
}

/// A long answer is a few large lines of JSON.
pub async fn two_mebibytes_of_text_arrive_whole(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let turn = run.turn("t1", "[[big:2048]]").await;
    let text = turn.text.trim_end();
    assert_eq!(text.len(), 2048 * 1023);
    assert!(text.bytes().all(|byte| byte == b'x'));
}

/// What a tool prints cannot stop the conversation.
pub async fn a_tool_that_prints_twenty_megabytes_in_one_line_is_borne(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let turn = run.turn("t1", "[[bash:python3 -c 'print(\"x\" * 20000000)']] after").await;
    if !candidate.shortens_output() {
        assert_eq!(turn.outcome, TurnOutcome::Failed, "{turn:?}");
        assert!(!turn.message.is_empty(), "{turn:?}");
        let exit = run.stop().await;
        assert_eq!(exit.reason, sprite_reporter::wire::ExitReason::Completed, "{exit:?}");
        return;
    }
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    assert_eq!(turn.text.trim_end(), "echo: after");
    assert_eq!(run.turn("t2", "go on").await.text.trim_end(), "echo: go on");
}

/// A refused key is the turn's failure, with what to do about it; the session goes on.
pub async fn a_failing_api_fails_the_turn_with_its_mend_and_the_next_one_works(
    candidate: &impl Candidate,
) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let turn = run.turn("t1", "[[status:401]]").await;
    assert_eq!(turn.outcome, TurnOutcome::Failed, "{turn:?}");
    let mend = candidate.can().key_mend;
    assert!(turn.message.contains(mend), "`{}` says nothing of `{mend}`", turn.message);
    assert!(!turn.message.contains('\n'), "{}", turn.message);
    assert_eq!(turn.text, "", "an error is no answer");
    assert_eq!(run.turn("t2", "[[anew]] go on").await.text.trim_end(), "echo: go on");
}

/// A failure that passes is not the turn's.
pub async fn an_api_that_fails_once_is_asked_again(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let turn = run.turn("t1", "[[status:503:1]] at last").await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    assert_eq!(turn.text.trim_end(), "echo: at last");
    let retries: Vec<_> =
        run.events().into_iter().filter(|e| matches!(e, EventBody::Retry { .. })).collect();
    if candidate.can().tell_retries {
        let [EventBody::Retry { attempt: 1, message, .. }] = retries.as_slice() else {
            panic!("one retry: {retries:?}")
        };
        assert!(!message.is_empty());
    }
}

/// A session counts since its beginning; a turn does not.
pub async fn what_a_turn_used_is_its_own_share(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    let first = run.turn("t1", "hello").await.usage;
    let second = run.turn("t2", "once more").await.usage;
    if candidate.can().count {
        // What the model on loopback says of each answer.
        assert_eq!((second.input_tokens, second.output_tokens), (1000, 50));
        assert!(first.output_tokens >= 50, "{first:?}");
    } else {
        assert_eq!((first, second), (Usage::default(), Usage::default()), "no invented figures");
    }
}

/// Upon the figures within a turn rests a budget's end within it.
pub async fn what_a_turn_has_used_is_told_before_it_ends(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.turn("t1", "hello").await;
    let command = "[[bash:python3 -c 'print(1)']]";
    let turn = run.turn("t2", &format!("{command} {command} last")).await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    let told: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::Usage { turn, usage } if turn == "t2" => Some(*usage),
            _ => None,
        })
        .collect();
    if candidate.can().count_within {
        let tokens: Vec<_> = told.iter().map(|usage| usage.output_tokens).collect();
        assert!(tokens.len() >= 2 && tokens.is_sorted(), "{told:?}");
        assert_eq!(told[0].output_tokens, 50, "since the turn's beginning: {told:?}");
        let last = told.last().expect("a figure");
        assert!(last.output_tokens <= turn.usage.output_tokens, "{told:?} {:?}", turn.usage);
        assert!(last.cost_micro_usd <= turn.usage.cost_micro_usd, "{told:?} {:?}", turn.usage);
    } else {
        assert_eq!(told, [], "what is not known is not told");
    }
}
