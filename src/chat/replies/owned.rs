//! What is said of objects that Sources declare, and of YAML.

use super::{super::changes::Change, fenced};

/// A change of what a source declares: what it would be, and what can be done.
pub(in crate::chat) fn owned_change(
    name: &str,
    source: &str,
    place: &str,
    changes: &[Change],
    no_file: Option<&str>,
) -> String {
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{name} is declared by source {source} ({place}), so nothing was changed yet:\n{}\n\
         Override it for a time, write it to the file, or let {name} go, which takes it out of the \
         source's hands",
        lines.join("\n"),
    );
    if let Some(why) = no_file {
        text.push_str(&format!(". The file is out of reach: {why}"));
    }
    text
}

/// A deletion of what a source declares.
pub(in crate::chat) fn owned_deletion(name: &str, source: &str, place: &str) -> String {
    format!(
        "{name} is declared by source {source}, so nothing was deleted: take it out of {place}, or \
         let it go first. /od-stop stops an agent without that"
    )
}

/// What was asked for beside going on, and is not done.
pub(in crate::chat) fn left_to_file(source: &str, file: &str) -> String {
    format!(
        "All else stays as source {source} declares it ({file}); /od-set offers how to change that"
    )
}

/// A change of what a fleet keeps as its template says.
pub(in crate::chat) fn of_fleet(name: &str, fleet: &str) -> String {
    format!(
        "{name} is a member of fleet/{fleet}, which would put it back, so nothing was changed. Change \
         its template: /od-set fleet/{fleet} template.spec.FIELD=VALUE, or suspend the fleet: /od-set \
         fleet/{fleet} suspend=true"
    )
}

/// A deletion of what a fleet would make again.
pub(in crate::chat) fn made_again(name: &str, fleet: &str) -> String {
    format!(
        "{name} is a member of fleet/{fleet}, which would make it again, so nothing was deleted. Change \
         what the fleet generates, or suspend it: /od-set fleet/{fleet} suspend=true. /od-stop stops an \
         agent without that"
    )
}

/// What was asked for of a member beside going on, and is not done.
pub(in crate::chat) fn left_to_fleet(fleet: &str) -> String {
    format!(
        "All else stays as the template of fleet/{fleet} says; /od-set fleet/{fleet} changes that"
    )
}

/// What an export is, in front of its file.
pub(in crate::chat) fn exported(objects: usize, file: &str) -> String {
    match objects {
        1 => format!("1 object, as it can be applied again: {file}"),
        n => format!("{n} objects, as they can be applied again: {file}"),
    }
}

/// What follows from a change of a fleet.
pub(in crate::chat) fn members_follow() -> &'static str {
    "\nIts members follow, as many at a time as its strategy says"
}

/// A fleet that has no number of members.
pub(in crate::chat) fn not_scaled(name: &str) -> String {
    format!(
        "{name} is not made for a number of replicas, so it cannot be scaled; change what it is \
         generated for: /od-apply takes its YAML"
    )
}

/// Something that is no fleet.
pub(in crate::chat) fn no_fleet(name: &str) -> String {
    format!("{name} is no fleet; only fleets are scaled")
}

/// An offer that nobody took.
pub(in crate::chat) fn offer_over(text: &str) -> String {
    format!("{text}\nNobody said how, so nothing was done; say it again")
}

/// An offer where there are no buttons.
pub(in crate::chat) fn offer_in_words(text: &str, labels: &[String], delivery: &str) -> String {
    let lines: Vec<String> = labels
        .iter()
        .enumerate()
        .map(|(n, label)| format!("{label}: /od-choose {delivery} {}", n + 1))
        .collect();
    format!("{text}\n{}", lines.join("\n"))
}

/// What came of an offer, in place of its buttons.
pub(in crate::chat) fn chosen(text: &str, by: &str, done: &str) -> String {
    format!("{text}\n{by}: {done}")
}

/// An override that was made.
pub(in crate::chat) fn overridden(name: &str, over: &str, length: &str) -> String {
    format!("{name} is overridden for {length}, by override/{over}")
}

/// An override that is also written to the file.
pub(in crate::chat) fn to_be_written(name: &str, over: &str, place: &str) -> String {
    format!(
        "{name} is changed, and {place} is next (override/{over} lasts until the file says it, a day \
         at most; /od-diff {name} tells)"
    )
}

/// An object that was let go.
pub(in crate::chat) fn let_go(name: &str, source: &str, deleted: bool) -> String {
    let then = if deleted { "deleted" } else { "changed" };
    format!("source {source} let {name} go, and it is {then}")
}

/// A press that comes too late.
pub(in crate::chat) fn no_such_offer() -> String {
    "That button belongs to a change that is kept no longer; say it again".to_owned()
}

/// A press behind the one that counted.
pub(in crate::chat) fn chosen_before() -> String {
    "That was decided before; nothing more was done".to_owned()
}

/// An offer whose object is another by now.
pub(in crate::chat) fn moved_on(name: &str) -> String {
    format!("{name} has changed hands since, so nothing was done; say it again")
}

/// YAML that cannot be read or taken.
pub(in crate::chat) fn bad_yaml(why: &str) -> String {
    format!("Nothing was applied:\n{}", fenced(why))
}

/// YAML that is missing.
pub(in crate::chat) fn no_yaml() -> String {
    "There is no YAML; write it behind the command, or send it along as a file".to_owned()
}

/// YAML that is too large for a chat.
pub(in crate::chat) fn too_much_yaml(most: usize) -> String {
    format!(
        "That is more than {} KiB, which is too much for a chat; open-dispatch apply -f FILE takes it",
        most / 1024
    )
}

/// What an apply would do, before it is done.
pub(in crate::chat) fn plan(lines: &[String]) -> String {
    format!("This would be done:\n{}", fenced(&lines.join("\n")))
}

/// What an apply that does nothing would do.
pub(in crate::chat) fn nothing_to_apply(lines: &[String]) -> String {
    format!("There is nothing to do:\n{}", fenced(&lines.join("\n")))
}

/// An apply that cannot be.
pub(in crate::chat) fn not_applicable(lines: &[String]) -> String {
    format!("Nothing can be applied before this is mended:\n{}", fenced(&lines.join("\n")))
}

/// Objects that say what their files say.
pub(in crate::chat) fn no_drift(what: &str) -> String {
    format!("{what} says what the file says")
}

/// Objects that do not.
pub(in crate::chat) fn drift(lines: &[String]) -> String {
    fenced(&lines.join("\n"))
}

/// An object that no file declares.
pub(in crate::chat) fn not_declared(name: &str) -> String {
    format!("No source declares {name}, so there is no file to compare it with")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_of_declared_objects_reads_well() {
        let change = Change { path: "budget.usd".into(), old: json!(5), new: json!(10) };
        let labels = ["Override for 1 h".to_owned(), "Let go".to_owned()];
        let offered =
            owned_change("agent/bot", "ours", "bot.yaml:1", std::slice::from_ref(&change), None);
        let told = [
            offered.clone(),
            owned_change("agent/bot", "ours", "bot.yaml:1", &[change], Some("nothing is pushed")),
            owned_deletion("agent/bot", "ours", "bot.yaml:1"),
            left_to_file("ours", "bot.yaml"),
            offer_over("Shall it be?"),
            offer_in_words("Shall it be?", &labels, "ID"),
            chosen("Shall it be?", "ada", &overridden("agent/bot", "bot-x2b4c", "1h")),
            to_be_written("agent/bot", "bot-x2b4c", "bot.yaml"),
            let_go("agent/bot", "ours", false),
            let_go("agent/bot", "ours", true),
            no_such_offer(),
            chosen_before(),
            moved_on("agent/bot"),
            bad_yaml("line 1 column 2: kind: is missing"),
            no_yaml(),
            too_much_yaml(65_536),
            plan(&["agent/bot created".to_owned()]),
            nothing_to_apply(&["agent/bot unchanged".to_owned()]),
            not_applicable(&["agent/bot is declared elsewhere".to_owned()]),
            no_drift("agent/bot"),
            drift(&["agent/bot budget.usd: 5 -> 10".to_owned()]),
            not_declared("agent/bot"),
        ];
        insta::assert_snapshot!(told.join("\n-----\n"));
    }
}
