//! The command line: words in, the HTTP API, text out.
//!
//! What kubectl's users know holds here too: data goes to standard output and all else to
//! standard error; the server makes the tables; a failure exits with 1, wrong words with 2.
//!
//! This room knows the API, and `resource`, which is the vocabulary that the API speaks. It
//! never sees the store, the engine or a runtime: every command would work as well from another
//! machine. The one door out is [`serve`], which hands over to [`crate::app`].
//!
//! The life of a command: [`args`] reads the words; [`client`] finds the server, by the files
//! `endpoint` and `token` in its data directory or by an address; the command's own file asks,
//! and prints; [`error`] turns what went wrong into one line and an exit code.

pub mod access;
mod access_args;
pub mod agent_args;
mod agents;
mod api_resources;
pub mod apply;
mod applyset;
pub mod approve;
pub mod args;
mod asked;
mod auth;
pub mod backup;
pub mod chat;
pub mod client;
mod complete;
pub mod config;
mod create;
pub mod delete;
pub mod describe;
pub mod dev_fly;
mod diff;
pub mod doctor;
pub mod down;
mod edit;
pub mod error;
mod events;
mod explain;
mod export;
mod files;
pub mod fly;
pub mod get;
pub mod jsonpath;
pub mod kubeconfig;
pub mod log_window;
pub mod logs;
mod mark;
mod object;
mod out;
pub mod output;
mod over;
mod patch;
mod patience;
mod power;
pub mod read_args;
mod retry;
mod rollout;
pub mod run;
mod scale;
mod schema;
pub mod secret;
mod select;
pub mod send;
pub mod serve;
pub mod service;
mod set;
mod slack;
mod spec;
mod start;
mod table;
mod target;
mod teams;
pub mod token;
mod token_args;
mod transcript;
mod turns;
pub mod wait;
mod watch;
pub mod write_args;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use error::Error;

/// Reads the words, does what they say, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    let done = match words.split_first() {
        Some((first, line)) if first == complete::WORD => block_on(complete::complete(line)),
        _ => dispatch(Cli::parse()),
    };
    let code = match done {
        Ok(code) => code,
        Err(error) => {
            if let Some(line) = error.line() {
                out::note(line);
            }
            error.code()
        }
    };
    ExitCode::from(code)
}

fn dispatch(cli: Cli) -> Result<u8, Error> {
    let Some(command) = cli.command else {
        return out::data(Cli::command().render_help().to_string()).map(|()| 0);
    };
    match command {
        Command::Serve(args) => serve::serve(args),
        Command::Chat(args) => serve::chat(args),
        Command::Run(args) => block_on(run::run(args)),
        Command::Jobs(args) => block_on(get::jobs(args)),
        Command::Get(args) => block_on(get::get(args)),
        Command::Describe(args) => block_on(describe::describe(args)),
        Command::Apply(args) => block_on(apply::apply(args)),
        Command::Diff(args) => {
            Ok(block_on(diff::diff(args)).unwrap_or_else(|error| diff::trouble(&error)))
        }
        Command::Create(args) => block_on(create::create(args)),
        Command::Replace(args) => block_on(create::replace(args)),
        Command::Edit(args) => block_on(edit::edit(args)),
        Command::Patch(args) => block_on(patch::patch(args)),
        Command::Label(args) => block_on(mark::mark(args.mark, mark::Mark::Label)),
        Command::Annotate(args) => block_on(mark::mark(args.mark, mark::Mark::Annotation)),
        Command::Scale(args) => block_on(scale::scale(args)),
        Command::Rollout(command) => block_on(rollout::rollout(command)),
        Command::Delete(args) => block_on(delete::delete(args)),
        Command::Wait(args) => block_on(wait::wait(args)),
        Command::Events(args) => block_on(events::events(args)),
        Command::Explain(args) => explain::explain(&args),
        Command::ApiResources(args) => block_on(api_resources::api_resources(args)),
        Command::Schema(args) => schema::schema(&args),
        Command::Export(args) => block_on(export::export(args)),
        Command::Auth(command) => block_on(auth::auth(command)),
        Command::Logs(args) => block_on(logs::logs(args)),
        Command::Approve(args) => block_on(approve::approve(args)),
        Command::Cancel(args) => block_on(delete::cancel(args)),
        Command::Start(args) => block_on(start::start(args)),
        Command::Send(args) => block_on(send::send(args)),
        Command::Stop(args) => block_on(agents::stop(args)),
        Command::List(args) => block_on(get::agents(args)),
        Command::Turns(args) => block_on(turns::turns(args)),
        Command::Retry(args) => block_on(retry::retry(args)),
        Command::Set(args) => block_on(set::set(args)),
        Command::Suspend(args) => block_on(power::power(args, true)),
        Command::Resume(args) => block_on(power::power(args, false)),
        Command::Reconcile(args) => block_on(power::reconcile(args)),
        Command::Override(args) => block_on(over::over(args)),
        Command::Release(args) => block_on(over::release(args)),
        Command::Secret(command) => block_on(secret::secret(command)),
        Command::Access(command) => block_on(access::access(command)),
        Command::Token(command) => block_on(token::token(command)),
        Command::Kubeconfig(args) => block_on(kubeconfig::kubeconfig(args)),
        Command::Doctor(args) => block_on(doctor::doctor(args)),
        Command::Teams(command) => teams::run(command),
        Command::Down(args) => block_on(down::down(args)),
        Command::Config(command) => config::run(command),
        Command::Slack(command) => slack::run(command),
        Command::Service(command) => service::run(command),
        Command::Fly(command) => block_on(fly::fly(command)),
        Command::DevFly(args) => dev_fly::run(args),
        Command::Backup(args) => block_on(backup::backup(args)),
        Command::Restore(args) => backup::restore(args),
        Command::Completion(args) => out::data(complete::completion(args.shell)).map(|()| 0),
        Command::Version => {
            out::line(concat!("open-dispatch ", env!("CARGO_PKG_VERSION"))).map(|()| 0)
        }
    }
}

/// Runs a client on this thread alone.
fn block_on(command: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Terminal(format!("no event loop can be made: {error}")))?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::args::Cli;

    /// The manual, made from the help of every command.
    fn manual() -> String {
        let mut text = "# Command line\n\nThis page is made from the program's own help; a test \
                        holds the two equal.\n"
            .to_owned();
        let mut cli = Cli::command().term_width(92);
        cli.build();
        let mut section = |title: &str, help: String| {
            let help: Vec<&str> = help.lines().map(str::trim_end).collect();
            text.push_str(&format!(
                "\n## {title}\n\n```text\n{}\n```\n",
                help.join("\n").trim_end()
            ));
        };
        section("open-dispatch", cli.clone().render_help().to_string());
        for command in cli.get_subcommands_mut() {
            let title = format!("open-dispatch {}", command.get_name());
            section(&title, command.render_help().to_string());
        }
        text
    }

    #[test]
    fn the_manual_says_what_help_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, manual()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == manual(),
            "docs/cli.md differs from the help; write it anew with\n\
             UPDATE_DOCS=1 cargo test --lib the_manual_says_what_help_says"
        );
    }

    #[test]
    fn no_line_that_is_broken_by_hand_is_broken_again() {
        let mut cli = Cli::command();
        for command in cli.get_subcommands_mut() {
            let by_hand = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let shown = command.render_help().to_string();
            for line in by_hand.lines().filter(|line| !line.trim().is_empty()) {
                let is_whole = shown.lines().any(|it| it.trim_end() == line.trim_end());
                assert!(is_whole, "{}: this is too wide: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("  open-dispatch {}", command.get_name());
            assert!(help.contains(&example), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn the_words_are_well_formed() {
        Cli::command().debug_assert();
    }
}
