//! Agents in a terminal, as a person has them: the real program in a pseudo terminal, agents that
//! are shells, and one that asks before it acts.
#![expect(clippy::disallowed_methods, reason = "a person pauses in real time")]

#[path = "support/server.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod server;
#[path = "support/terminal.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod terminal;

use serde_json::Value;
use server::World;
use terminal::Terminal;

/// A server with agents that are shells and listen in the channel of the terminal.
fn world(agents: &[&str]) -> World {
    let world = World::new();
    for name in agents {
        apply(&world, name, "{command: {}}");
    }
    world
}

fn apply(world: &World, name: &str, agent: &str) {
    let document = format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec:\n  agent: {agent}\n  runtime: {{local: {{workdir: {}}}}}\n  \
         channels: [{{console: {{channel: main}}}}]\n",
        world.work().display()
    );
    world.write("agent.yaml", document);
    let applied = world.od(&["apply", "-f", "agent.yaml"]);
    assert_eq!(applied.code, 0, "{}", applied.stderr);
}

/// A chat in a terminal, once its prompt is as wanted.
fn chat(world: &World, prompt: &str) -> Terminal {
    let terminal = Terminal::run(&mut world.command(&["chat"]));
    shows_prompt(&terminal, prompt);
    terminal
}

/// Waits until the last line is a prompt that says so, with nothing behind it.
fn shows_prompt(terminal: &Terminal, prompt: &str) {
    terminal.shows_last(|line| {
        line.trim_end().strip_suffix('>').is_some_and(|state| state.trim_end() == prompt)
    });
}

/// What an agent asked for, and what became of it.
fn asks(world: &World, name: &str) -> Vec<(String, String)> {
    let token = std::fs::read_to_string(world.data().join("token")).expect("a token");
    let endpoint = std::fs::read_to_string(world.data().join("endpoint")).expect("an address");
    let url = format!(
        "{}/apis/opendispatch.dev/v1alpha1/agents/{name}/approvals",
        endpoint.trim().trim_end_matches('/')
    );
    let list: Value = tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = client.get(url).bearer_auth(token.trim()).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|row| (text(&row["state"]), text(&row["message"]))).collect()
}

#[test]
fn the_prompt_says_how_the_agent_is_while_nobody_types() {
    let world = world(&["bot"]);
    let mut terminal = chat(&world, "bot ○ idle");
    world.od(&["send", "bot", "sleep 1000"]);
    shows_prompt(&terminal, "bot ● busy");
    terminal.types("half a line");
    terminal.shows_last(|line| line == "bot ● busy          > half a line");
    world.od(&["send", "bot", "echo queued"]);
    terminal.shows_last(|line| line == "bot ● busy, 1 queued> half a line");
    world.od(&["cancel", "bot", "2"]);
    world.od(&["cancel", "bot"]);
    terminal.shows_last(|line| line == "bot ○ idle          > half a line");
    terminal.types("\u{3}");
    shows_prompt(&terminal, "bot ○ idle");
    terminal.types("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn lines_that_wait_say_behind_how_many_and_are_answered_in_order() {
    let world = world(&["bot"]);
    let terminal = chat(&world, "bot ○ idle");
    terminal.types("until test -e go; do sleep 0.05; done; echo first\r");
    shows_prompt(&terminal, "bot ● busy");
    terminal.types("echo second\r");
    terminal.shows(|line| line.starts_with("bot: queued behind 1"));
    terminal.types("echo third\r");
    terminal.shows(|line| line.starts_with("bot: queued behind 2"));
    shows_prompt(&terminal, "bot ● busy, 2 queued");
    world.write("go", "");
    terminal.shows(|line| line == "third");
    shows_prompt(&terminal, "bot ○ idle");
    let lines = terminal.lines();
    let at = |wanted: &str| lines.iter().position(|line| line == wanted).expect(wanted);
    assert!(at("first") < at("second") && at("second") < at("third"), "{lines:?}");
}

#[test]
fn ctrl_c_ends_the_turn_and_the_next_one_leaves_and_says_what_goes_on() {
    let world = world(&["bot"]);
    world.od(&["run", "--name", "long", "sleep 1000"]);
    let mut terminal = chat(&world, "bot ○ idle");
    terminal.types("echo begun; sleep 1000\r");
    terminal.shows(|line| line == "begun");
    shows_prompt(&terminal, "bot ● busy");
    terminal.types("\u{3}");
    terminal.shows(|line| line == "· interrupting bot; Ctrl-D leaves, and it goes on");
    terminal.shows(|line| line.starts_with("bot was cancelled"));
    shows_prompt(&terminal, "bot ○ idle");
    terminal.types("\u{3}");
    terminal.shows(|line| line.starts_with("job/long keeps running. "));
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(terminal.is_cooked());
}

#[test]
fn ctrl_c_twice_leaves_while_the_turn_still_runs() {
    let world = world(&["bot"]);
    let mut terminal = chat(&world, "bot ○ idle");
    terminal.types("trap '' INT TERM; echo begun; while :; do sleep 1; done\r");
    terminal.shows(|line| line == "begun");
    shows_prompt(&terminal, "bot ● busy");
    terminal.types("\u{3}");
    terminal.shows(|line| line.starts_with("· interrupting bot"));
    // A key that comes while no line is read goes to the terminal, and not to the program.
    shows_prompt(&terminal, "bot ● busy");
    terminal.types("\u{3}");
    terminal.shows(|line| line.starts_with("agent/bot keeps running. "));
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn names_and_commands_are_completed() {
    let world = world(&["web-bot"]);
    let terminal = chat(&world, "web-bot ○ idle");
    terminal.types("/od-sta\t");
    terminal.shows_last(|line| line.ends_with("> /od-start "));
    terminal.types("\t");
    terminal.shows_last(|line| line.ends_with("> /od-status "));
    terminal.types("\u{3}");
    shows_prompt(&terminal, "web-bot ○ idle");
    terminal.types("@we\t");
    terminal.shows_last(|line| line == "web-bot ○ idle          > @web-bot ");
    terminal.types("echo heard by $((40+2))\r");
    terminal.shows(|line| line == "heard by 42");
    terminal.types("/od-stat\tweb\t");
    terminal.shows_last(|line| line.ends_with("> /od-status web-bot "));
}

#[test]
fn a_name_in_front_sends_one_line_and_use_sends_all_that_follow() {
    let world = world(&["api", "web"]);
    let terminal = chat(&world, "");
    terminal.types("@web echo this is $((1+1))\r");
    terminal.shows(|line| line == "this is 2");
    terminal.types("/use api\r");
    terminal.shows(|line| line.starts_with("· plain lines go to api"));
    shows_prompt(&terminal, "api ○ idle");
    terminal.types("echo this is $((1+2))\r");
    terminal.shows(|line| line == "this is 3");
    terminal.types("/use nobody\r");
    terminal.shows(|line| line == "! there is no agent nobody; /od-list shows them");
    let done = |name: &str| {
        let turns = world.od(&["turns", name, "-o", "json"]).text();
        turns.matches("\"Succeeded\"").count()
    };
    assert_eq!((done("api"), done("web")), (1, 1));
}

#[test]
fn what_an_agent_asks_for_is_answered_at_the_line() {
    let world = World::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fickle_agent.sh");
    apply(&world, "bot", &format!("{{acp: {{command: [sh, {script}]}}}}"));
    let terminal = chat(&world, "bot ○ idle");
    terminal.types("do:ask for the first time\r");
    terminal
        .shows(|line| line.starts_with("? bot waits for your answer to execute: touch it: y yes"));
    shows_prompt(&terminal, "bot ? asks");
    // Words that answer nothing are a message, which waits for its turn.
    terminal.types("do:again for the second time\r");
    shows_prompt(&terminal, "bot ? asks, 1 queued");
    terminal.types("y\r");
    terminal.shows(|line| line == "allowed");
    let told =
        |line: &&String| line.starts_with("? bot waits for your answer to execute: touch it");
    terminal.shows_all(|lines| lines.iter().filter(told).count() == 2);
    shows_prompt(&terminal, "bot ? asks");
    terminal.types("n, not now\r");
    terminal.shows(|line| line == "denied");
    shows_prompt(&terminal, "bot ○ idle");
    let expected = [("Allowed", ""), ("Denied", "not now")];
    let asks = asks(&world, "bot");
    let asks: Vec<(&str, &str)> = asks.iter().map(|(s, m)| (s.as_str(), m.as_str())).collect();
    assert_eq!(asks, expected);
    // Nothing waits any more, so this is a message like others.
    terminal.types("y\r");
    terminal.shows(|line| line == "yes");
}

#[test]
fn a_megabyte_without_a_line_break_is_cut_and_the_terminal_lives_on() {
    let world = world(&["bot"]);
    let terminal = chat(&world, "bot ○ idle");
    terminal.types(&"x".repeat(1024 * 1024));
    terminal.shows(|line| line == "! a line holds 16 KiB; what is typed behind that is left out");
    terminal.types("\u{3}");
    terminal.shows(|line| line.trim_end() == "bot ○ idle          >");
    terminal.types("echo still $((40+2))\r");
    terminal.shows(|line| line == "still 42");
}

#[test]
fn thousands_of_lines_at_once_are_cut_and_the_terminal_lives_on() {
    let world = World::new();
    let terminal = chat(&world, "");
    terminal.types(&"/od-whoami\r".repeat(3_000));
    terminal.shows(|line| line == "! more than 64 lines at once; the rest of them is left out");
    // Whoever types again is heard again.
    let said = |line: &&String| line.starts_with("You are on console");
    terminal.shows_all(|lines| lines.iter().filter(said).count() >= 64);
    let is_help = |line: &String| line.contains("/od-whoami") && !line.starts_with('>');
    let helped = |terminal: &Terminal| terminal.lines().iter().any(is_help);
    for _ in 0..100 {
        // As somebody who wonders whether that was heard; quicker would be one go with the rest.
        terminal.types("/od-help od-whoami\r");
        std::thread::sleep(std::time::Duration::from_millis(300));
        if helped(&terminal) {
            break;
        }
    }
    assert!(helped(&terminal), "whoever types again is heard again");
    let lines = terminal.lines();
    assert!(lines.iter().filter(said).count() < 3_000);
    let torn = |line: &&String| line.starts_with("No agent listens here");
    assert_eq!(lines.iter().filter(torn).count(), 0, "no line lost its front");
}
