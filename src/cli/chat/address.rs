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
    let is_command = first.trim_start_matches('/').to_ascii_lowercase().starts_with("od-");
    match current {
        Some(name) if !is_command => Addressed::Say(format!("/od-send {name} {line}")),
        _ => Addressed::Say(line.to_owned()),
    }
}

/// The agent that plain lines go to: the chosen one, else the only one.
pub(super) fn meant<'a>(current: Option<&str>, agents: &'a [AgentLine]) -> Option<&'a AgentLine> {
    match (current, agents) {
        (Some(name), _) => agents.iter().find(|agent| agent.name == name),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// The prompt: whom plain lines go to, and how that one is.
pub(super) fn prompt(agent: Option<&AgentLine>) -> String {
    let Some(agent) = agent else { return "> ".to_owned() };
    let mut state = agent.phase.to_lowercase();
    if agent.queued > 0 {
        state.push_str(&format!(", {} queued", agent.queued));
    }
    let sign = if agent.busy { '●' } else { '○' };
    format!("{} {sign} {state}> ", agent.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, phase: &str, queued: u64) -> AgentLine {
        AgentLine { name: name.into(), phase: phase.into(), queued, busy: phase == "Busy" }
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
        let of = |current: Option<&str>, agents: &[AgentLine]| prompt(meant(current, agents));
        assert_eq!(of(None, &agents), "> ");
        assert_eq!(of(Some("web"), &agents), "web ● busy, 2 queued> ");
        assert_eq!(of(None, &agents[..1]), "api ○ idle> ");
        assert_eq!(of(Some("gone"), &agents), "> ");
    }
}
