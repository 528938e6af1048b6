//! The console as a person has it: the real program in a pseudo terminal.

#[path = "support/server.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod server;
#[path = "support/terminal.rs"]
mod terminal;

use rustix::process::Signal;
use server::World;
use terminal::Terminal;

/// `serve` in a terminal, with its prompt.
fn serve(world: &World) -> Terminal {
    let terminal = Terminal::run(&mut world.command(&["serve", "--listen", "0"]));
    terminal.shows(|line| line.trim_end() == ">");
    terminal
}

/// Whether a server left its data directory as one that went down in order.
fn went_down(world: &World) -> bool {
    !world.data().join("endpoint").exists()
}

#[test]
fn the_first_line_that_a_newcomer_types_shows_the_output_and_the_exit_code() {
    let world = World::empty();
    let mut terminal = serve(&world);
    terminal.types("/od-run echo hello && exit 3\r");
    terminal.shows(|line| line == "hello");
    terminal.shows(|line| line.contains(" failed: exit code 3 ("));
    let created = |line: &&String| line.contains(" created: command in ~");
    assert_eq!(terminal.lines().iter().filter(created).count(), 1, "{:?}", terminal.lines());
    assert_eq!(terminal.lines().iter().filter(|line| *line == "hello").count(), 1);
    terminal.types("\u{4}");
    terminal.shows(|line| line == "the server has stopped");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(terminal.is_cooked() && went_down(&world));
}

#[test]
fn what_is_to_be_applied_shows_how_to_apply_it_and_is_applied_as_it_says() {
    let world = World::empty();
    let mut terminal = serve(&world);
    terminal.types(
        "/od-apply {apiVersion: opendispatch.dev/v1alpha1, kind: Agent, metadata: {name: shown}, \
         spec: {agent: {command: {}}}}\r",
    );
    terminal.shows(|line| line.starts_with("Apply: /od-choose "));
    let lines = terminal.lines();
    let choice = lines.iter().find_map(|line| line.strip_prefix("Apply: "));
    terminal.types(&format!("{}\r", choice.unwrap_or_default()));
    // The second time: the first says what would be done.
    terminal.shows_all(|lines| {
        lines.iter().filter(|line| line.contains("agent/shown created")).count() == 2
    });
    terminal.types("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn a_signal_ends_serve_in_order_and_gives_the_terminal_back() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let world = World::empty();
        let mut terminal = serve(&world);
        assert!(!terminal.is_cooked(), "the editor reads keys");
        terminal.types("half a line");
        terminal.shows(|line| line == "> half a line");
        terminal.signal(signal);
        terminal.shows(|line| line == "the server has stopped");
        assert_eq!(terminal.wait().code(), Some(0), "{signal:?}");
        assert!(terminal.is_cooked(), "{signal:?} left the terminal raw");
        assert!(went_down(&world), "{signal:?}");
    }
}

#[test]
fn ctrl_c_takes_back_what_was_typed_and_then_leaves() {
    let world = World::empty();
    let mut terminal = serve(&world);
    terminal.types("/od-run never\u{3}");
    terminal.shows(|line| line == "> /od-run never");
    terminal.shows_last(|line| line.trim_end() == ">");
    terminal.types("/od-whoami\r");
    terminal.shows(|line| line.starts_with("You are on console"));
    terminal.shows_last(|line| line.trim_end() == ">");
    terminal.types("\u{3}");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(went_down(&world));
}

#[test]
fn a_window_that_is_closed_ends_the_server_in_order() {
    let world = World::empty();
    let mut terminal = serve(&world);
    terminal.hang_up();
    terminal.wait();
    assert!(went_down(&world), "the address of a server that is gone stands there still");
}

#[test]
fn ctrl_d_leaves_a_chat_whose_server_is_away() {
    let mut world = World::new();
    let mut terminal = Terminal::run(&mut world.command(&["chat"]));
    terminal.types("/od-whoami\r");
    terminal.shows(|line| line.starts_with("You are on console"));
    world.kill_server();
    terminal.shows(|line| line.contains("the server went away"));
    terminal.types("/od-jobs\r");
    terminal.shows(|line| line == "> /od-jobs");
    terminal.shows_last(|line| line.trim_end() == ">");
    terminal.types("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.shows(|line| line == "! not said: /od-jobs");
}

#[test]
fn ctrl_d_is_heard_however_many_lines_wait_for_the_server() {
    let mut world = World::new();
    let mut terminal = Terminal::run(&mut world.command(&["chat"]));
    terminal.types("/od-whoami\r");
    terminal.shows(|line| line.starts_with("You are on console"));
    world.kill_server();
    terminal.shows(|line| line.contains("the server went away"));
    terminal.types(&"/od-jobs\r".repeat(200));
    terminal.shows(|line| line == "! more than 64 lines at once; the rest of them is left out");
    // A key that comes while no line is read goes to the terminal, and not to the program.
    terminal.shows_all(|lines| {
        let read = lines.iter().filter(|line| line.starts_with("> /od-jobs")).count();
        read == 200 && lines.last().is_some_and(|line| line.trim_end() == ">")
    });
    terminal.types("\u{4}");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal
        .shows(|line| line.starts_with("! not said: /od-jobs, and ") && line.ends_with(" lines"));
}
