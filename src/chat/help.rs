//! What help says. Written here once, for every platform.

use super::grammar::Verb;

/// How a command is called.
#[must_use]
pub fn usage(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => {
            "/od-start [NAME] [--agent A] [--model M] [--repo O/R] [--branch B] [--runtime local|fly] \
             [--image A] [--persistent] [--timeout T] [--permissions MODE] [--isolation I] \
             [--instructions \"…\"] [PATH]"
        }
        Verb::Send => "/od-send NAME <message>",
        Verb::Stop => "/od-stop NAME|--all [everywhere]",
        Verb::List => "/od-list",
        Verb::Run => {
            "/od-run [--name N] [--agent A] [--model M] [--workdir PATH] [--repo O/R] [--branch B] \
             [--runtime local|fly] [--image A] [--timeout T] [--permissions MODE] \
             [--isolation I] [--instructions \"…\"] <task>"
        }
        Verb::Jobs => "/od-jobs",
        Verb::Schedule => {
            "/od-schedule [list | add \"CRON\" [--tz ZONE] [flags of /od-run] <task> | run NAME | \
             suspend NAME | resume NAME | delete NAME]"
        }
        Verb::Status => "/od-status NAME",
        Verb::Logs => "/od-logs NAME",
        Verb::Cancel => "/od-cancel NAME",
        Verb::Retry => "/od-retry NAME [--force]",
        Verb::Approve => "/od-approve NAME [yes|no|always|ANSWER] [REQUEST] [words]",
        Verb::Set => "/od-set NAME FIELD=VALUE [FIELD=VALUE…]",
        Verb::Scale => "/od-scale NAME N",
        Verb::Delete => "/od-delete NAME",
        Verb::Apply => "/od-apply <YAML>, or with a YAML file",
        Verb::Diff => "/od-diff [NAME|<YAML>]",
        Verb::Export => "/od-export [NAME…]",
        Verb::Help => "/od-help [command]",
        Verb::Whoami => "/od-whoami",
    }
}

/// What a command does, in one line.
#[must_use]
pub fn summary(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "begin a conversation with an agent, or go on with one",
        Verb::Send => "say something to an agent, from wherever you are",
        Verb::Stop => "stop an agent; its session stays",
        Verb::List => "list the agents",
        Verb::Run => "run one task and show what comes out of it",
        Verb::Jobs => "list the last jobs",
        Verb::Schedule => "run tasks at times",
        Verb::Status => "tell how an agent or a job stands",
        Verb::Logs => "show the last lines of an agent or a job",
        Verb::Cancel => "interrupt an agent, or end a job",
        Verb::Retry => "do again what failed or was cancelled",
        Verb::Approve => "answer what an agent asks for",
        Verb::Set => "change an agent, a fleet or a schedule",
        Verb::Scale => "say how many members a fleet has",
        Verb::Delete => "delete an agent or a job",
        Verb::Apply => "make agents and jobs as YAML says",
        Verb::Diff => "show what YAML would change, or what differs from its file",
        Verb::Export => "show objects as YAML",
        Verb::Help => "show this, or more about one command",
        Verb::Whoami => "tell who you are here",
    }
}

/// What flags of `/od-start` and `/od-run` have in common.
const FLAGS: &str = "--agent        claude, opencode, codex, gemini or command (a shell); without \
     it, the one that is configured, then the first that is found on the server\n\
     --model        the model, for agents that have one\n\
     --repo         a repository to clone first: owner/project on GitHub, a URL, \
     or a path on the server from / or ~/\n\
     --branch       its branch\n\
     --runtime      where it runs: local, which is the server's machine, or fly, a machine of \
     its own; without it, what is configured\n\
     --image        the image of that machine, or an alias of one\n";

/// What more there is to say about a command.
fn details(verb: Verb) -> String {
    match verb {
        Verb::Start => format!(
            "What you say in this conversation then goes to the agent, and it answers here. The \
             name is made from the path or the repository where none is given. PATH is where it \
             works: absolute, or from the server's home directory, which is the default; one with \
             spaces needs quotes. The name of an agent that was stopped goes on with its session, \
             with what the flags change.\n\
             {FLAGS}\
             --persistent   that machine keeps home and clone while it sleeps, which is the \
             default; --persistent=false begins afresh each time\n\
             --timeout      the longest one answer may take, such as 90s or 1h30m; 30m where none \
             is given\n\
             --permissions  ask (the default), acceptEdits, plan or bypass\n\
             --isolation    none (the default), worktree or sandbox\n\
             --instructions what is added to its system prompt\n\
             Examples:\n\
             /od-start api-bot ~/projects/api\n\
             /od-start --agent claude --repo owner/project --isolation worktree\n\
             /od-start bot --runtime fly --image node --repo owner/project"
        ),
        Verb::Send => "The message is the rest of the line, as you type it. An agent that is busy \
             takes it next; one that sleeps wakes up. Where an agent listens, you need no command: \
             just say it, with the agent's name in front if several listen."
            .to_owned(),
        Verb::Stop => "What it is at is cancelled. /od-start NAME goes on with its session. --all \
             stops the agents that listen in this channel; --all everywhere stops all that there \
             are, which takes an admin."
            .to_owned(),
        Verb::List => "Their phase, where they work, how many messages wait, what they cost, and \
             when they last did something."
            .to_owned(),
        Verb::Run => format!(
            "The task is the rest of the line, as you type it. For the agent `command` it is a \
             shell command; for all others it is a prompt.\n\
             --name         the job's name; one is made up where none is given\n\
             --workdir      where to work: absolute, or from the server's home directory, which \
             is the default\n\
             {FLAGS}\
             --timeout      the longest it may take, such as 90s or 1h30m; 10m where none is given\n\
             --permissions  ask, acceptEdits, plan or bypass (the default)\n\
             --isolation    none (the default), worktree or sandbox\n\
             --instructions what is added to the agent's system prompt\n\
             --             ends the flags, for a task that begins with a dash\n\
             Examples:\n\
             /od-run --agent command echo hello\n\
             /od-run --agent claude --repo owner/project fix the failing tests\n\
             /od-run --runtime fly --repo owner/project run the tests"
        ),
        Verb::Jobs => "The ten newest, with their phase, agent, age and task.".to_owned(),
        Verb::Schedule => "add makes a schedule: CRON says when (minute, hour, day of month, month, day of \
             week, in quotes; or a word such as @daily), and the task is the rest of the line. Its jobs \
             report here. A due minute is skipped while the last job still works.\n\
             --tz           the time zone, such as Europe/Berlin; UTC where none is given\n\
             --name         the schedule's name; one is made up where none is given\n\
             All other flags are those of /od-run. run makes a job now; suspend begins no more, and \
             resume goes on from the next due minute; delete takes the jobs with it.\n\
             Examples:\n\
             /od-schedule add \"0 9 * * MON-FRI\" --tz Europe/Berlin --agent claude say what is open\n\
             /od-schedule run nightly"
            .to_owned(),
        Verb::Status => "Of an agent: its session, what it is at and what waits, its budget, and \
             what keeps it from working. Of a job: its phase, where it works, how long it took and \
             how it ended. An agent's name goes before a job's; agent/NAME and job/NAME are clear."
            .to_owned(),
        Verb::Logs => "The last 20 lines. The command line has all of them: open-dispatch logs \
             agent/NAME, open-dispatch logs job/NAME"
            .to_owned(),
        Verb::Cancel => "It is asked to stop, and killed after 30 seconds if it does not. An \
             agent's next message follows; one that is at nothing drops the first that waits."
            .to_owned(),
        Verb::Retry => "An agent is told again what it was told last that failed, was interrupted \
             or cancelled; with --force, in a new session. A job is run again as a new job, called \
             NAME-retry-1, and so on."
            .to_owned(),
        Verb::Approve => "An agent waits here before it uses a tool. The answer is yes where none \
             is given, and goes to the oldest request that waits where none is named; words behind \
             no are told to the agent. What is too long for a message is shown in full by \
             /od-approve NAME show. always allows an agent all that is like it, from now on: \
             /od-approve NAME list shows that, /od-approve NAME revoke ID takes it back. A question \
             is answered with the number of an option, or any words; several with 1: … 2: … The \
             first answer counts; after an hour without one it is no."
            .to_owned(),
        Verb::Set => "Fields are those of the spec in YAML, with dots; so are values, and text \
             with spaces may stand in quotes. A field without a value is taken away. Channels, \
             budget and timeouts hold at once, all else from the next answer on.\n\
             Examples:\n\
             /od-set api-bot budget.usd=5 idleTimeout=1h\n\
             /od-set api-bot permissions.allow=[\"Bash(cargo test:*)\"] instructions=\"Be brief.\"\n\
             /od-set api-bot budget=\n\
             What a source declares is not changed past its file: the answer has buttons for a change \
             for an hour, for one in the file, and for letting it go. What a fleet keeps is changed in \
             its template.\n\
             Of fleets and schedules, named fleet/NAME and schedule/NAME, the fields are theirs, and model, \
             mode and branch those of what they make:\n\
             /od-set fleet/crew template.spec.budget.usd=5\n\
             /od-set schedule/nightly timeZone=Europe/Berlin model=opus"
            .to_owned(),
        Verb::Scale => "For a fleet that is made for a number of replicas. The highest numbers go first, \
             each once it owes nobody an answer; what a source declares is changed there, or for a time."
            .to_owned(),
        Verb::Delete => "It is ended first if it runs. A worktree with unmerged work is kept. \
             To keep an agent's session, stop it instead."
            .to_owned(),
        Verb::Apply => "The YAML is the rest of the message, between lines of backticks if you like, or a \
             file that comes with it. You are shown what would be made and changed, and nothing \
             happens before somebody presses Apply; it is looked at again then. What is not named \
             stays, and what is stopped stays stopped. What a source declares is changed there."
            .to_owned(),
        Verb::Diff => "With a name: what differs between the object and the file that declares it, \
             such as what was overridden for a time. With YAML, in the message or as a file: what \
             /od-apply would change. With neither: all that differs from its file."
            .to_owned(),
        Verb::Export => "Without what only the server says, so that it can be applied again. All \
             agents, jobs, fleets and schedules where no name is given. What is long comes as a file."
            .to_owned(),
        Verb::Help => "As in /od-help run.".to_owned(),
        Verb::Whoami => {
            "The platform, the channel, the id by which this server knows you, your role, and who \
             gave it: a viewer may look, a user may talk with agents, an operator may command them \
             and answer what they ask for, an admin may do everything."
                .to_owned()
        }
    }
}

/// Help on all commands.
#[must_use]
pub fn overview() -> String {
    let mut text = String::from("Commands (each may be typed without the slash):\n");
    for verb in Verb::ALL {
        let call = match verb {
            Verb::Start => "/od-start [NAME] [PATH]",
            Verb::Run => "/od-run [flags] <task>",
            Verb::Approve => "/od-approve NAME yes|no",
            Verb::Schedule => "/od-schedule list|add|…",
            Verb::Set => "/od-set NAME FIELD=VALUE",
            Verb::Retry => "/od-retry NAME",
            Verb::Apply => "/od-apply <YAML>",
            Verb::Diff => "/od-diff [NAME]",
            Verb::Stop => "/od-stop NAME|--all",
            _ => usage(verb),
        };
        text.push_str(&format!("{call:<25}{}\n", summary(verb)));
    }
    text.push_str(
        "All else that you say goes to the agent that listens here.\n\
         Try: /od-run --agent command echo hello",
    );
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
    "No agent listens here, so nothing was done with that. /od-start begins a conversation with \
     an agent, /od-list lists those that there are. /od-help lists all commands."
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
