//! What messages to agents answer, and the commands about turns.

use super::budget_of;
use crate::{
    chat::transcript::one_line,
    resource::{Agent, Budget, ConditionStatus},
    store::{Turn, TurnState, TurnSums},
};

/// The answer to any wish for an agent that is being deleted.
pub(in crate::chat) fn going(name: &str) -> String {
    format!("{name} is being deleted; /od-start {name} makes a new one once it is gone")
}

/// The answer to a message for an agent that was deleted, where others listen.
pub(in crate::chat) fn gone(name: &str) -> String {
    format!(
        "{name} was deleted, so nobody got that; /od-start {name} starts a new one, /od-list lists \
         those that there are"
    )
}

/// The answer to a message for an agent that was stopped.
pub(in crate::chat) fn asleep_for_good(name: &str) -> String {
    format!(
        "{name} is stopped, so nothing was done with that; /od-start {name} goes on with its \
         session, then say it again"
    )
}

/// The answer to a message where all agents were stopped.
pub(in crate::chat) fn all_asleep(names: &[String]) -> String {
    format!(
        "All agents that listen here are stopped, so nothing was done with that: {}. \
         /od-start NAME goes on with one, then say it again",
        names.join(", ")
    )
}

/// The answer to a name without a message.
pub(in crate::chat) fn nothing_said(name: &str) -> String {
    format!("{name} is there; say what it shall do, as in {name}: run the tests")
}

/// The answer to a message that does not say for which agent it is.
pub(in crate::chat) fn which(names: &[String]) -> String {
    let first = names.first().map_or("NAME", String::as_str);
    format!(
        "Several agents listen here, and nobody got that: {}. Begin with the name of the one \
         that you mean, as in {first}: run the tests",
        names.join(", ")
    )
}

/// The answer to `/od-cancel` of an agent; `behind` is how many more turns wait.
pub(in crate::chat) fn cancelled(name: &str, turn: Option<&Turn>, behind: usize) -> String {
    let Some(turn) = turn else {
        return format!("{name} is at nothing that could be cancelled");
    };
    let what = one_line(&turn.text);
    let front = match (&turn.cancelled_by, turn.state) {
        (Some(by), _) => format!("{by} has cancelled that already: {what}"),
        (None, TurnState::Queued) => format!("{name} will not begin with this: {what}"),
        (None, _) => format!("{name} is interrupted: {what}"),
    };
    match behind {
        0 => front,
        1 => format!("{front}\n1 more message waits, and is next"),
        more => format!("{front}\n{more} more messages wait, and are next"),
    }
}

/// The answer to a button about a turn or job that is over, or kept no longer.
pub(in crate::chat) fn is_over(name: &str, turn: Option<&Turn>) -> String {
    let Some(turn) = turn else {
        return format!("{name}: that is over, and what became of it is kept no longer");
    };
    let what = one_line(&turn.text);
    match (turn.state, &turn.cancelled_by) {
        (TurnState::Succeeded, _) => format!("{name} has answered that already: {what}"),
        (TurnState::Cancelled, Some(by)) => format!("{by} has cancelled that already: {what}"),
        (TurnState::Cancelled, None) => format!("{name}: that was cancelled already: {what}"),
        (TurnState::Failed, _) => format!("{name} has failed with that already: {what}"),
        (TurnState::Interrupted, _) => format!("{name} was interrupted at that already: {what}"),
        _ => format!("{name} is not done with that: {what}"),
    }
}

/// The answer to the second press of Retry.
pub(in crate::chat) fn retried_already(name: &str, text: &str) -> String {
    format!(
        "That is done again already, so nothing was done now: {}; /od-retry {name} does the last \
         one again that went wrong",
        one_line(text)
    )
}

/// The answer to a retry, typed, of what was retried already.
pub(in crate::chat) fn retried_before(name: &str, text: &str) -> String {
    format!(
        "The last that went wrong is done again already, so nothing was done now: {}; /od-retry \
         {name} --force does it once more, in a new session",
        one_line(text)
    )
}

/// The answer to a choice that was made already.
pub(in crate::chat) fn chosen_already(text: &str, name: &str) -> String {
    format!("{name} got that already: {}", one_line(text))
}

/// What takes the place of a choice that nobody made in time; and the answer to a late one.
pub(in crate::chat) fn not_chosen(names: &[String]) -> String {
    let first = names.first().map_or("NAME", String::as_str);
    format!(
        "Nobody said for whom this was, so nobody got it. Say it again, with the name in front, as \
         in {first}: run the tests"
    )
}

/// The answer to a choice that is none.
pub(in crate::chat) fn no_such_choice() -> String {
    "That button belongs to a message that is kept no longer; say it again".to_owned()
}

/// What is told once where an agent listened that was deleted.
pub(in crate::chat) fn nobody_left(name: &str) -> String {
    format!(
        "{name} was deleted, and no agent listens here any more; /od-start begins a conversation \
         with another, /od-list lists those that there are"
    )
}

/// The answer to `/od-retry` of an agent where nothing failed.
pub(in crate::chat) fn nothing_to_retry(name: &str, fresh: bool) -> String {
    if fresh {
        return format!("{name} begins a new session with the next message");
    }
    format!("{name} has no turn that failed or was cancelled, so there is nothing to do again")
}

/// The answer to a command, other than a message, that files came with.
pub(in crate::chat) fn files_go_with_messages() -> String {
    "Files go with a message to an agent, so nothing was done with that; leave them out, or attach \
     them to a message or /od-send"
        .to_owned()
}

/// Whether an agent has used what it may use.
fn is_spent(budget: &Budget, sums: &TurnSums) -> bool {
    let usd = budget.usd.as_ref().and_then(serde_json::Number::as_f64);
    let micro = usd.map(|usd| (usd * 1e6).round());
    // A cost of more than 2^53 millionths is a budget of nine billion dollars.
    #[expect(clippy::cast_precision_loss, reason = "no cost comes near what is lost")]
    let used = sums.usage.cost_micro_usd as f64;
    micro.is_some_and(|limit| used >= limit) || budget.turns.is_some_and(|limit| sums.done >= limit)
}

/// Why a turn waits, in one line; nothing where it will begin at once. `ahead` is how many
/// others come first.
pub(in crate::chat) fn waiting_line(
    agent: &Agent,
    ahead: usize,
    sums: &TurnSums,
) -> Option<String> {
    let name = &agent.metadata.name;
    let conditions = &agent.status.conditions;
    if ahead > 0 {
        return Some(format!("{name}: queued behind {ahead}; /od-cancel {name} interrupts"));
    }
    if let Some(budget) = agent.spec.budget.as_ref().filter(|budget| is_spent(budget, sums)) {
        let mut used = agent.clone();
        used.status.cost.micro_usd = sums.usage.cost_micro_usd;
        used.status.turns.done = sums.done;
        let field = match budget.turns.is_some_and(|limit| sums.done >= limit) {
            true => "budget.turns",
            false => "budget.usd",
        };
        return Some(format!(
            "{name}: its budget is spent ({}), so this waits; /od-set {name} {field}=N raises it",
            budget_of(&used, budget)
        ));
    }
    if let Some(stalled) =
        conditions.get("Stalled").filter(|stalled| stalled.status == ConditionStatus::True)
    {
        let why = match stalled.message.is_empty() {
            true => stalled.reason.clone(),
            false => one_line(&stalled.message),
        };
        // Some say already when.
        let again = if why.contains("tried again") { "" } else { "it is tried again, and " };
        return Some(format!(
            "{name}: cannot begin with this yet: {why}; {again}/od-status {name} tells more"
        ));
    }
    let ready = conditions.get("Ready");
    match ready.map_or("", |ready| ready.reason.as_str()) {
        _ if conditions.is_true("Ready") => None,
        _ if conditions.is_true("Asleep") => Some(format!("{name} wakes up")),
        "Asleep" => Some(format!("{name} wakes up")),
        "WaitingForSlot" => {
            Some(format!("{name} waits for a free slot; /od-status {name} tells its place"))
        }
        _ => Some(format!("{name} starts")),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn turn(text: &str, state: TurnState) -> Turn {
        Turn { state, ..Turn::queued("t", "a", text, "ann", Timestamp::UNIX_EPOCH) }
    }

    #[test]
    fn replies_about_messages_read_well() {
        let names = ["a", "b"].map(str::to_owned);
        let running = turn("fix\nit", TurnState::Running);
        let mut twice = running.clone();
        twice.cancelled_by = Some("ann".into());
        let told = [
            going("a"),
            asleep_for_good("a"),
            all_asleep(&names),
            nothing_said("a"),
            which(&names),
            cancelled("a", None, 0),
            cancelled("a", Some(&running), 0),
            cancelled("a", Some(&turn("next", TurnState::Queued)), 1),
            cancelled("a", Some(&twice), 2),
            nothing_to_retry("a", false),
            nothing_to_retry("a", true),
            files_go_with_messages(),
            is_over("a", None),
            is_over("a", Some(&turn("fix", TurnState::Succeeded))),
            is_over("a", Some(&Turn { state: TurnState::Cancelled, ..twice.clone() })),
            is_over("a", Some(&turn("fix", TurnState::Interrupted))),
            retried_already("a", "fix\nit"),
            chosen_already("fix", "a"),
            not_chosen(&names),
            no_such_choice(),
            nobody_left("a"),
            gone("a"),
        ];
        insta::assert_snapshot!(told.join("\n-----\n"));
    }
}
