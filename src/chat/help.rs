//! What help says. Written here once, for every platform.

use super::grammar::Verb;

/// How a command is called.
#[must_use]
pub fn usage(verb: Verb) -> &'static str {
    match verb {
        Verb::Run => {
            "/od-run [--name N] [--agent A] [--model M] [--workdir PATH] [--repo O/R] [--branch B] \
             [--timeout T] [--permissions MODE] <task>"
        }
        Verb::Jobs => "/od-jobs",
        Verb::Status => "/od-status NAME",
        Verb::Logs => "/od-logs NAME",
        Verb::Cancel => "/od-cancel NAME",
        Verb::Retry => "/od-retry NAME",
        Verb::Approve => "/od-approve NAME [yes|no] [REQUEST]",
        Verb::Help => "/od-help [command]",
        Verb::Whoami => "/od-whoami",
    }
}

/// What a command does, in one line.
#[must_use]
pub fn summary(verb: Verb) -> &'static str {
    match verb {
        Verb::Run => "run one task and show what comes out of it",
        Verb::Jobs => "list the last jobs",
        Verb::Status => "tell how a job stands",
        Verb::Logs => "show the last lines that a job printed",
        Verb::Cancel => "end a job",
        Verb::Retry => "run a job's task again, as a new job",
        Verb::Approve => "answer what a job's agent asks for",
        Verb::Help => "show this, or more about one command",
        Verb::Whoami => "tell who you are here",
    }
}

/// What more there is to say about a command.
fn details(verb: Verb) -> &'static str {
    match verb {
        Verb::Run => {
            "The task is the rest of the line, as you type it. For the agent `command` it is a \
             shell command; for `claude` it is a prompt.\n\
             --name         the job's name; one is made up where none is given\n\
             --agent        command or claude\n\
             --model        the model, for agents that have one\n\
             --workdir      where to work: absolute, or from the server's home directory, which \
             is the default\n\
             --repo         a repository to clone first: owner/project on GitHub, a URL, \
             or a path on the server from / or ~/\n\
             --branch       its branch\n\
             --timeout      the longest it may take, such as 90s or 1h30m; 10m where none is given\n\
             --permissions  ask, acceptEdits, plan or bypass (the default)\n\
             --             ends the flags, for a task that begins with a dash\n\
             Examples:\n\
             /od-run echo hello\n\
             /od-run --agent claude --repo owner/project fix the failing tests"
        }
        Verb::Jobs => "The ten newest, with their phase, agent, age and task.",
        Verb::Status => "Its phase, where it works, how long it took and how it ended.",
        Verb::Logs => {
            "The last 20 lines. The command line has all of them: open-dispatch logs job/NAME"
        }
        Verb::Cancel => "The agent is asked to stop, and killed after 30 seconds if it does not.",
        Verb::Retry => "The new job is called NAME-retry-1, and so on.",
        Verb::Approve => {
            "A job with --permissions ask or acceptEdits waits here before it uses a tool. The \
             answer is yes where none is given, and goes to the oldest request that waits where \
             none is named. The first answer counts; after an hour without one it is no."
        }
        Verb::Help => "As in /od-help run.",
        Verb::Whoami => "The platform, the channel, and the name by which this server knows you.",
    }
}

/// Help on all commands.
#[must_use]
pub fn overview() -> String {
    let mut text = String::from("Commands (each may be typed without the slash):\n");
    for verb in Verb::ALL {
        let call = match verb {
            Verb::Run => "/od-run [flags] <task>",
            Verb::Approve => "/od-approve NAME yes|no",
            _ => usage(verb),
        };
        text.push_str(&format!("{call:<24}{}\n", summary(verb)));
    }
    text.push_str("Try: /od-run echo hello");
    text
}

/// Help on one command.
#[must_use]
pub fn on(verb: Verb) -> String {
    format!("{}\n{}.\n{}", usage(verb), capital(summary(verb)), details(verb))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The answer to a line that is no command, where no agent listens.
#[must_use]
pub fn nobody_listens() -> String {
    "No agent listens here, so nothing was done with that. To run something, type /od-run and \
     then what to do, such as: /od-run echo hello. /od-help lists all commands."
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_says_how_each_command_is_called_and_what_it_does() {
        let mut text = overview();
        for verb in Verb::ALL {
            text.push_str(&format!("\n\n# /od-help {}\n{}", verb.name(), on(verb)));
        }
        text.push_str(&format!("\n\n# plain text\n{}", nobody_listens()));
        insta::assert_snapshot!(text);
    }
}
