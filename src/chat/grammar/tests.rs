use proptest::prelude::*;

use super::*;

fn task_of(line: &str) -> String {
    match parse(line) {
        Ok(Line::Command(Command::Run(run))) => run.task,
        other => panic!("{line:?} is no run but {other:?}"),
    }
}

fn run_of(line: &str) -> Run {
    match parse(line) {
        Ok(Line::Command(Command::Run(run))) => *run,
        other => panic!("{line:?} is no run but {other:?}"),
    }
}

fn refusal(line: &str) -> String {
    match parse(line) {
        Err(refusal) => refusal.to_string(),
        Ok(line) => panic!("{line:?} was taken"),
    }
}

proptest! {
    #[test]
    fn every_byte_of_a_task_survives_behind_the_end_of_flags(task in "[^\\s\"“„][\\s\\S]*") {
        prop_assert_eq!(task_of(&format!("/od-run -- {task}")), task);
    }

    #[test]
    fn every_byte_of_a_task_survives_without_flags(task in "[^\\s\"“„\u{2013}-\u{2015}-][\\s\\S]*") {
        prop_assert_eq!(task_of(&format!("/od-run {task}")), task);
    }

    #[test]
    fn every_byte_of_a_task_survives_behind_flags(
        name in "[a-z]{1,9}", task in "[^\\s\"“„\u{2013}-\u{2015}-][\\s\\S]*",
    ) {
        let run = run_of(&format!("od-run —name “{name}” --agent=claude {task}"));
        prop_assert_eq!(run.name, Some(name));
        prop_assert_eq!(run.flags.agent.as_deref(), Some("claude"));
        prop_assert_eq!(run.task, task);
    }

    #[test]
    fn no_line_makes_the_parser_panic(line in "(/?od-(run|logs|help|x)? ?)?[\\s\\S]{0,40}") {
        let _ = parse(&line);
    }
}

#[test]
fn a_shell_line_keeps_its_quotes_and_a_whole_quoted_task_loses_them() {
    assert_eq!(task_of(r#"/od-run echo "a b""#), r#"echo "a b""#);
    assert_eq!(task_of(r#"/od-run "run the tests""#), "run the tests");
    assert_eq!(task_of("/od-run “run the tests”"), "run the tests");
    assert_eq!(task_of(r#"/od-run "a" && "b""#), r#""a" && "b""#);
    assert_eq!(task_of("/od-run don't  break\nthe 'tests'"), "don't  break\nthe 'tests'");
    assert_eq!(task_of("/od-run 'ls'"), "'ls'");
}

fn named(name: &str) -> Target {
    Target { kind: None, name: name.into() }
}

#[test]
fn a_command_needs_no_slash_and_any_case_will_do() {
    let target = |kind, name: &str| Target { kind: Some(kind), name: name.into() };
    let status = |target| Ok(Line::Command(Command::Status(target)));
    assert_eq!(parse("Od-Jobs"), Ok(Line::Command(Command::Jobs)));
    assert_eq!(parse("/OD-STATUS X"), status(named("x")));
    assert_eq!(parse("/od-status job/x"), status(target(Kind::Job, "x")));
    assert_eq!(parse("/od-status agent.opendispatch.dev/x"), status(target(Kind::Agent, "x")));
    assert_eq!(parse("/od-status feat/x"), status(named("feat/x")));
    assert_eq!(parse("/od-help run"), Ok(Line::Command(Command::Help(Some(Verb::Run)))));
    assert_eq!(parse("hello there"), Ok(Line::Plain("hello there".into())));
    assert_eq!(parse("/etc/hosts is odd"), Ok(Line::Plain("/etc/hosts is odd".into())));
}

#[test]
fn what_is_one_word_and_a_flag_is_read_in_any_order() {
    let stop = |target| Ok(Line::Command(Command::Stop(target)));
    assert_eq!(parse("/od-stop —all"), stop(Stop::Here));
    assert_eq!(parse("/od-stop --All"), stop(Stop::Here));
    assert_eq!(parse("/od-stop all"), stop(Stop::One(named("all"))));
    assert_eq!(parse("/od-stop --all everywhere"), stop(Stop::Everywhere));
    assert_eq!(parse("/od-stop —all Everywhere"), stop(Stop::Everywhere));
    let stray = Refusal::TooMuch { verb: Verb::Stop, extra: "here".into() };
    assert_eq!(parse("/od-stop --all here"), Err(stray));
    let retry =
        |force| Ok(Line::Command(Command::Retry { target: named("a"), force, which: None }));
    assert_eq!(parse("/od-retry a"), retry(false));
    assert_eq!(parse("/od-retry a --force"), retry(true));
    assert_eq!(parse("/od-retry –force a"), retry(true));
}

#[test]
fn the_words_of_an_answer_are_kept_as_they_are() {
    let approve = |line: &str, expected: &str| {
        let (target, words) = (named("x"), expected.to_owned());
        assert_eq!(parse(line), Ok(Line::Command(Command::Approve { target, words })), "{line}");
    };
    approve("/od-approve x", "");
    approve("/od-approve x no  because\n", " no  because\n");
}

fn start_of(line: &str) -> Start {
    match parse(line) {
        Ok(Line::Command(Command::Start(start))) => *start,
        other => panic!("{line:?} is no start but {other:?}"),
    }
}

#[test]
fn a_start_has_a_name_and_a_path_with_flags_between() {
    let parts = |line| {
        let start = start_of(line);
        (start.name, start.path)
    };
    let pair = |name: &str, path: &str| {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (part(name), part(path))
    };
    assert_eq!(parts("/od-start"), pair("", ""));
    assert_eq!(parts("/od-start Api-Bot"), pair("api-bot", ""));
    assert_eq!(parts("/od-start ~/p"), pair("", "~/p"));
    assert_eq!(parts("/od-start projects/api"), pair("", "projects/api"));
    assert_eq!(parts("/od-start bot api"), pair("bot", "api"));
    assert_eq!(parts("/od-start bot “~/my projects”"), pair("bot", "~/my projects"));
    assert_eq!(parts("/od-start —agent claude bot --model=opus ~/p"), pair("bot", "~/p"));
    insta::assert_debug_snapshot!(start_of(
        "/od-start bot --agent Claude ~/p —model “opus” --repo o/r --branch main --runtime local \
         --timeout 1h --permissions acceptEdits --isolation worktree --instructions 'Be brief.'"
    ));
}

fn changes_of(line: &str) -> Vec<(String, Assigned)> {
    match parse(line) {
        Ok(Line::Command(Command::Set { changes, .. })) => {
            changes.into_iter().map(|change| (change.path.join("."), change.value)).collect()
        }
        other => panic!("{line:?} is no set but {other:?}"),
    }
}

#[test]
fn a_field_is_set_to_what_the_value_means_in_yaml() {
    insta::assert_debug_snapshot!(changes_of(
        "/od-set bot budget.usd=5.5 suspend=true spec.idleTimeout= \
         permissions.allow=[Bash(ls:*), Read] instructions=Prefer small, plain commits: always \
         runtime.local.workdir=~ agent.claude.model=“5” repo.branch=v1=x env=[]"
    ));
    let change = Assignment {
        path: ["budget", "usd"].map(str::to_owned).to_vec(),
        value: Assigned::Nothing,
    };
    assert_eq!(change.patch(), serde_json::json!({"budget": {"usd": null}}));
}

proptest! {
    #[test]
    fn every_byte_of_a_message_survives(text in "[\\s\\S]*\\S[\\s\\S]*", gap in "[ \n]") {
        let line = format!("/od-send bot{gap}{text}");
        let sent = Command::Send { to: named("bot"), text };
        prop_assert_eq!(parse(&line), Ok(Line::Command(sent)));
    }

    #[test]
    fn every_byte_of_a_quoted_value_survives(text in "[^\"“”„‟«»]*") {
        prop_assert_eq!(
            changes_of(&format!("/od-set bot a=1 instructions=\"{text}\" b=2"))[1].1.clone(),
            Assigned::Text(text)
        );
    }

    #[test]
    fn no_command_makes_the_parser_panic(
        verb in 0..Verb::ALL.len(), rest in "( |—|--|=|\"|a|agent|name|\\[|~|/|“|\\PC){0,12}",
    ) {
        let _ = parse(&format!("/{} {rest}", Verb::ALL[verb].name()));
    }
}

#[test]
fn flags_are_read_as_phones_write_them() {
    let run = run_of(
        "/od-run —name=nightly –agent claude --workdir ‘~/my projects’ --repo owner/project \
         --branch main --timeout 1h30m --permissions acceptEdits —model “opus” fix -- it",
    );
    insta::assert_debug_snapshot!(run);
}

#[test]
fn what_only_looks_like_a_flag_belongs_to_the_task() {
    assert_eq!(task_of("/od-run -la"), "-la");
    assert_eq!(task_of("/od-run --- a"), "--- a");
    assert_eq!(task_of("/od-run -- --name x"), "--name x");
    assert_eq!(task_of("/od-run ls --name x"), "ls --name x");
}

#[test]
fn every_refusal_names_the_place_and_the_mend() {
    let lines = [
        "/od-rnu echo",
        "/help",
        "/frobnicate",
        "od-nothing-like-it",
        "/od-choose x",
        "/od-run",
        "/od-run   \n ",
        "/od-run --nmae x y",
        "/od-run --frobnicate x",
        "/od-run --image",
        "/od-run --name",
        "/od-run --name --agent claude x",
        "/od-run --name= x",
        "/od-run --name \"\" x",
        "/od-run --name \"x y",
        "/od-run --name \"x\"y z",
        "/od-run --name a --name b x",
        "/od-run --timeout 10 x",
        "/od-run --permissions yes x",
        "/od-run --runtime=clouds x",
        "/od-run --isolation jail x",
        "/od-start a b c",
        "/od-start ~/a b",
        "/od-start “a b",
        "/od-start --persistent=perhaps a",
        "/od-start --persistent --persistent a",
        "/od-start --workdir x",
        "/od-start --runtime moon",
        "/od-send",
        "/od-send bot",
        "/od-send bot  \n",
        "/od-stop",
        "/od-stop a b",
        "/od-list x",
        "/od-status",
        "/od-logs a b c",
        "/od-jobs all",
        "/od-approve",
        "/od-retry a --force --force",
        "/od-retry --force",
        "/od-set",
        "/od-set bot",
        "/od-set bot model",
        "/od-set bot .x=1",
        "/od-set bot a..b=1",
        "/od-set bot env[0].value=1",
        "/od-set bot a=1 a=2",
        "/od-set bot a=[1",
        "/od-set bot a=\"1",
        "/od-delete",
        "/od-help rnu",
        "/od-help appl",
        "/od-help a b",
    ];
    let text: String =
        lines.iter().map(|line| format!("{line:?}\n    {}\n", refusal(line))).collect();
    insta::assert_snapshot!(text);
}
