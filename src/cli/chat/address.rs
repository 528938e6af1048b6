//! Whom a line is for: `@name` in front of it, `/use NAME` for all that follow. Pure.

/// An agent, as far as a chat needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentLine {
    /// Its name.
    pub name: String,
    /// Its phase, as people read it.
    pub phase: String,
    /// How many messages wait.
    pub queued: u64,
    /// Whether a turn runs.
    pub busy: bool,
    /// Whether something it asks for waits for an answer.
    pub waits: bool,
    /// Whether it listens in this terminal's channel.
    pub listens: bool,
}

/// A job, as far as a chat needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobLine {
    /// Its name.
    pub name: String,
    /// Whether it is over.
    pub ended: bool,
    /// Whether something it asks for waits for an answer.
    pub waits: bool,
    /// Whether it reports to this terminal's channel.
    pub reports: bool,
}

/// What becomes of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Addressed {
    /// It is said like this.
    Say(String),
    /// It said whom the next lines are for; this is to be told.
    Turned(String),
}

/// Reads a line; `current` is whom plain lines are for, if somebody was chosen.
pub(super) fn address(line: &str, current: &mut Option<String>, agents: &[AgentLine]) -> Addressed {
    let (first, rest) = match line.split_once(char::is_whitespace) {
        Some((first, rest)) => (first, rest),
        None => (line, ""),
    };
    let known = |name: &str| agents.iter().any(|agent| agent.name == name);
    let mut turn = |name: &str| {
        if name.is_empty() {
            *current = None;
            return Addressed::Turned("· plain lines go where the channel sends them".to_owned());
        }
        if !known(name) {
            return Addressed::Turned(format!("! there is no agent {name}; /od-list shows them"));
        }
        *current = Some(name.to_owned());
        Addressed::Turned(format!("· plain lines go to {name}; /use alone ends that"))
    };
    if first == "/use" {
        return turn(rest.trim());
    }
    if let Some(name) = first.strip_prefix('@')
        && known(name)
    {
        if rest.trim().is_empty() {
            return turn(name);
        }
        return Addressed::Say(format!("/od-send {name} {rest}"));
    }
    match current {
        Some(name) if !is_command(first) => Addressed::Say(format!("/od-send {name} {line}")),
        _ => Addressed::Say(line.to_owned()),
    }
}

fn is_command(first: &str) -> bool {
    first.trim_start_matches('/').to_ascii_lowercase().starts_with("od-")
}

/// Whether a line is for whoever plain lines are for: neither a command nor for somebody it names.
pub(super) fn is_plain(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    !first.is_empty() && first != "/use" && !first.starts_with('@') && !is_command(first)
}

/// The agent that plain lines go to: the chosen one, else the only one that listens here, else the
/// only one of these that works.
pub(super) fn meant<'a>(current: Option<&str>, agents: &'a [AgentLine]) -> Option<&'a AgentLine> {
    if let Some(name) = current {
        return agents.iter().find(|agent| agent.name == name);
    }
    let mut here: Vec<&AgentLine> = agents.iter().filter(|agent| agent.listens).collect();
    if here.len() > 1 {
        here.retain(|agent| agent.phase != "Suspended");
    }
    match here[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// Whether plain words can answer whoever asks: where they would go to somebody else, they do not.
pub(super) fn words_answer(asks: &str, current: Option<&str>, agents: &[AgentLine]) -> bool {
    match meant(current, agents) {
        Some(agent) => agent.name == asks,
        None => current.is_none() && !agents.iter().any(|agent| agent.listens),
    }
}

/// The prompt: whom plain lines go to, and how that one is. The state has a width of its own, so
/// that it can change while somebody types behind it.
pub(super) fn prompt(agent: Option<&AgentLine>, asks: bool) -> String {
    /// As wide as `busy, 1 queued`.
    const STATE: usize = 14;
    let Some(agent) = agent else { return "> ".to_owned() };
    let mut state = if asks { "asks".to_owned() } else { agent.phase.to_lowercase() };
    if agent.queued > 0 {
        state.push_str(&format!(", {} queued", agent.queued));
    }
    let sign = match (asks, agent.busy) {
        (true, _) => '?',
        (false, true) => '●',
        (false, false) => '○',
    };
    format!("{} {sign} {state:<STATE$}> ", agent.name)
}

/// A prompt in the room that another one had: whoever draws it does not ask how wide it is.
pub(super) fn fitted(prompt: &str, room: usize) -> String {
    /// What stands in front of the line.
    const END: &str = "> ";
    let text: Vec<char> = prompt.trim_end_matches(END).chars().collect();
    let room = room.saturating_sub(END.len());
    if text.len() <= room {
        let text: String = text.into_iter().collect();
        return format!("{text:<room$}{END}");
    }
    let cut: String = text.into_iter().take(room.saturating_sub(1)).collect();
    format!("{cut}{}{END}", if room > 0 { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, phase: &str, queued: u64) -> AgentLine {
        AgentLine {
            name: name.into(),
            phase: phase.into(),
            queued,
            busy: phase == "Busy",
            waits: false,
            listens: true,
        }
    }

    #[test]
    fn a_line_goes_to_whom_it_names_else_to_whom_was_chosen() {
        let agents = [agent("api", "Idle", 0), agent("web", "Busy", 2)];
        let mut current = None;
        let mut said = |line: &str| match address(line, &mut current, &agents) {
            Addressed::Say(line) => line,
            Addressed::Turned(note) => note,
        };
        assert_eq!(said("hello"), "hello");
        assert_eq!(said("@web do  it\n\"now\""), "/od-send web do  it\n\"now\"");
        assert_eq!(said("@nobody hello"), "@nobody hello", "it may be a word of the message");
        assert_eq!(said("/use nobody"), "! there is no agent nobody; /od-list shows them");
        assert!(said("/use api").starts_with("· plain lines go to api"));
        assert_eq!(said("hello"), "/od-send api hello");
        assert_eq!(said("/od-jobs"), "/od-jobs");
        assert!(said("@web").starts_with("· plain lines go to web"));
        assert_eq!(said("hello"), "/od-send web hello");
        said("/use");
        assert_eq!(said("hello"), "hello");
    }

    #[test]
    fn the_prompt_says_who_hears_and_how_that_one_is() {
        let agents = [agent("api", "Idle", 0), agent("web", "Busy", 2)];
        let of =
            |current: Option<&str>, agents: &[AgentLine]| prompt(meant(current, agents), false);
        assert_eq!(of(None, &agents), "> ");
        assert_eq!(of(Some("web"), &agents), "web ● busy, 2 queued> ");
        assert_eq!(of(None, &agents[..1]), "api ○ idle          > ");
        assert_eq!(of(Some("gone"), &agents), "> ");
        assert_eq!(prompt(Some(&agents[1]), true), "web ? asks, 2 queued> ");
    }

    #[test]
    fn plain_lines_are_for_the_only_one_that_listens_and_works() {
        let mut agents =
            [agent("api", "Idle", 0), agent("web", "Idle", 0), agent("old", "Idle", 0)];
        let of = |agents: &[AgentLine]| meant(None, agents).map(|agent| agent.name.clone());
        assert_eq!(of(&agents), None);
        agents[0].listens = false;
        assert_eq!(of(&agents), None);
        agents[2].phase = "Suspended".into();
        assert_eq!(of(&agents).as_deref(), Some("web"));
        assert_eq!(of(&agents[..1]), None, "it listens elsewhere");
        assert_eq!(of(&agents[2..]).as_deref(), Some("old"));
    }

    #[test]
    fn words_answer_nobody_but_whom_they_would_go_to() {
        let mut agents = [agent("api", "Busy", 0), agent("web", "Busy", 0)];
        assert!(!words_answer("web", None, &agents));
        assert!(words_answer("web", Some("web"), &agents));
        assert!(!words_answer("web", Some("api"), &agents));
        assert!(!words_answer("run-a", Some("api"), &agents));
        agents[0].listens = false;
        assert!(words_answer("web", None, &agents));
        assert!(!words_answer("run-a", None, &agents));
        agents[1].listens = false;
        assert!(words_answer("run-a", None, &agents), "nobody else would hear them");
    }

    #[test]
    fn a_prompt_that_changes_keeps_its_room() {
        for text in ["web ● busy, 12 queued> ", "api ○ idle          > ", "> "] {
            for room in [2, 3, 9, 22, 30] {
                let shown = fitted(text, room);
                assert_eq!(shown.chars().count(), room, "{shown:?}");
                assert!(shown.ends_with("> "), "{shown:?}");
            }
        }
        assert_eq!(fitted("web ● busy, 12 queued> ", 22), "web ● busy, 12 queu…> ".to_owned());
    }
}
