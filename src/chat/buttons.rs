//! Which buttons stand below what. Pure.
//!
//! A button's line names its agent or job and, by a [`Tag`], the very request or turn that it is
//! about: pressed late, by somebody else or twice, it can only be told what became of that. Names
//! are DNS labels and tags have a length, so every line fits into [`Action::MAX_LINE`]; one that
//! would not makes no button, for a line that is cut means something else.

use sprite_reporter::wire::{ApprovalKind, Question};

use super::{
    grammar::{CHOOSE, PICK},
    platform::{Action, Tone},
    tag::Tag,
    transcript::one_line,
};
use crate::resource::Kind;

/// A request that waits, as far as its buttons go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The request.
    pub tag: Tag,
    /// What kind of answer it waits for.
    pub kind: ApprovalKind,
    /// Whether there is a rule by which all like it could be allowed, and its message says which.
    pub has_rule: bool,
    /// Whether its message shows all that would be allowed: no button allows what nobody sees.
    pub is_whole: bool,
    /// What is asked.
    pub questions: Vec<Question>,
    /// What it is about, in a few words.
    pub wish: String,
}

/// Whom a button is about: an agent or a job, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About<'a> {
    /// Which of them.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
}

impl About<'_> {
    /// `agent/NAME` or `job/NAME`: a job may be called like an agent.
    fn full_name(self) -> String {
        match self.kind {
            Kind::Job => format!("job/{}", self.name),
            _ => format!("agent/{}", self.name),
        }
    }
}

impl Action {
    /// The longest label, in characters.
    pub const MAX_LABEL: usize = 40;

    /// A button; none where its line would have to be cut. A long label is.
    #[must_use]
    pub fn new(label: &str, line: String, tone: Tone) -> Option<Self> {
        if line.chars().count() > Self::MAX_LINE {
            return None;
        }
        let mut label = one_line(label);
        if let Some((at, _)) = label.char_indices().nth(Self::MAX_LABEL) {
            let end = label.char_indices().nth(Self::MAX_LABEL - 1).map_or(at, |(end, _)| end);
            label.truncate(end);
            label.push('…');
        }
        if label.is_empty() {
            label.push('…');
        }
        Some(Self { label, line, tone })
    }
}

/// The buttons of the oldest request that waits. Where several do, each says which it is about.
#[must_use]
pub fn of_waiting(about: About<'_>, waiting: &[Waiting]) -> Vec<Action> {
    let Some(first) = waiting.first() else { return Vec::new() };
    let (name, tag) = (about.full_name(), &first.tag);
    let label = |label: &str| match waiting.len() {
        1 => label.to_owned(),
        all => format!("{label} (1 of {all}): {}", first.wish),
    };
    let answer = |word: &str, said: &str, tone| {
        Action::new(word, format!("/od-approve {name} {said}"), tone)
    };
    let yes = |word: &str| answer(&label(word), &format!("yes {tag}"), Tone::Good);
    let no = || answer(&label("No"), &format!("no {tag}"), Tone::Bad);
    let show = || answer(&label("Show all"), &format!("show {tag}"), Tone::Neutral);
    let actions = match first.kind {
        ApprovalKind::Tool | ApprovalKind::Plan if !first.is_whole => vec![show(), no()],
        ApprovalKind::Tool => {
            let always = (first.has_rule && about.kind == Kind::Agent).then(|| {
                let word = label(&format!("Always for {}", about.name));
                answer(&word, &format!("always {tag}"), Tone::Neutral)
            });
            vec![yes("Once"), always.flatten(), no()]
        }
        ApprovalKind::Plan => vec![yes("Yes"), no()],
        ApprovalKind::Question => match first.questions.as_slice() {
            [only] if !only.many => {
                let options = only.options.iter().enumerate();
                options
                    .map(|(n, option)| {
                        let tag = tag.clone().with_option(n + 1);
                        answer(&label(option), &tag.to_string(), Tone::Neutral)
                    })
                    .collect()
            }
            _ => Vec::new(),
        },
    };
    actions.into_iter().flatten().collect()
}

/// The buttons of a turn that waits, by its id; `running` is the one that the agent is at.
#[must_use]
pub fn of_queued(agent: &str, turn: &str, running: Option<&str>) -> Vec<Action> {
    let name = About { kind: Kind::Agent, name: agent }.full_name();
    let cancel = |label, id: &str, tone| {
        Action::new(label, format!("/od-cancel {name} {}", Tag::of_id(id)), tone)
    };
    let interrupt = running.and_then(|running| cancel("Interrupt", running, Tone::Bad));
    interrupt.into_iter().chain(cancel("Cancel", turn, Tone::Neutral)).collect()
}

/// The button of what went wrong, by the id of the turn or job.
#[must_use]
pub fn of_wrong(about: About<'_>, id: &str) -> Vec<Action> {
    let line = format!("/od-retry {} {}", about.full_name(), Tag::of_id(id));
    Action::new("Retry", line, Tone::Neutral).into_iter().collect()
}

/// The buttons of a message that several agents could be meant by: one for each.
#[must_use]
pub fn of_choice(delivery: &str, names: &[String]) -> Vec<Action> {
    let buttons = names
        .iter()
        .enumerate()
        .map(|(n, name)| Action::new(name, format!("/{PICK} {delivery} {}", n + 1), Tone::Neutral));
    buttons.flatten().collect()
}

/// The buttons of a change that waits: one for each way to make it. The first is the one that most
/// want.
#[must_use]
pub fn of_offer(delivery: &str, labels: &[String]) -> Vec<Action> {
    let buttons = labels.iter().enumerate().map(|(n, label)| {
        let tone = if n == 0 { Tone::Good } else { Tone::Neutral };
        Action::new(label, format!("/{CHOOSE} {delivery} {}", n + 1), tone)
    });
    buttons.flatten().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::grammar::{Command, Line, parse};

    fn waiting(kind: ApprovalKind, options: &[String]) -> Waiting {
        let question = Question { text: "Which?".into(), options: options.to_vec(), many: false };
        Waiting {
            tag: Tag::of_request("s", 1, "r"),
            kind,
            has_rule: true,
            is_whole: true,
            questions: vec![question],
            wish: "Bash: cargo test".into(),
        }
    }

    fn kinds() -> impl Strategy<Value = ApprovalKind> {
        prop_oneof![
            Just(ApprovalKind::Tool),
            Just(ApprovalKind::Plan),
            Just(ApprovalKind::Question)
        ]
    }

    fn all(name: &str, kind: ApprovalKind, options: &[String]) -> Vec<Action> {
        let one = waiting(kind, options);
        let mut all = Vec::new();
        for about in [Kind::Agent, Kind::Job].map(|kind| About { kind, name }) {
            all.extend(of_waiting(about, std::slice::from_ref(&one)));
            all.extend(of_waiting(about, &[one.clone(), one.clone()]));
            all.extend(of_wrong(about, "some id"));
        }
        all.extend(of_queued(name, "one", Some("two")));
        all.extend(of_choice("0199f0a0-0000-7000-8000-000000000001", &[name.to_owned()]));
        all
    }

    #[test]
    fn buttons_read_well() {
        let options = ["Red", "Dark blue"].map(str::to_owned);
        let mut told = Vec::new();
        for kind in [ApprovalKind::Tool, ApprovalKind::Plan, ApprovalKind::Question] {
            told.extend(all("api-bot", kind, &options));
        }
        let lines = told.iter().map(|action| format!("[{}] {}", action.label, action.line));
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn no_button_allows_what_its_message_does_not_show() {
        for kind in [ApprovalKind::Tool, ApprovalKind::Plan] {
            let hidden = Waiting { is_whole: false, ..waiting(kind, &[]) };
            let about = About { kind: Kind::Agent, name: "bot" };
            let found = of_waiting(about, &[hidden]);
            let lines: Vec<&str> = found.iter().map(|action| action.line.as_str()).collect();
            let tag = Tag::of_request("s", 1, "r");
            let show = format!("/od-approve agent/bot show {tag}");
            assert_eq!(lines, [show, format!("/od-approve agent/bot no {tag}")]);
        }
    }

    proptest! {
        #[test]
        fn every_name_gets_buttons_whose_lines_fit_and_mean_a_command(
            name in "[a-z][a-z0-9-]{0,61}[a-z0-9]", kind in kinds(),
            options in proptest::collection::vec("\\PC{0,60}", 1..30),
        ) {
            let found = all(&name, kind, &options);
            let most = match kind {
                ApprovalKind::Tool => 2 * 3 + 2 * 2,
                ApprovalKind::Plan => 4 * 2,
                ApprovalKind::Question => 4 * options.len(),
            };
            prop_assert_eq!(found.len(), most + 2 + 2 + 1);
            for action in found {
                prop_assert!(action.line.chars().count() <= Action::MAX_LINE, "{}", action.line);
                prop_assert!((1..=Action::MAX_LABEL).contains(&action.label.chars().count()));
                let is_command = matches!(
                    parse(&action.line),
                    Ok(Line::Command(
                        Command::Approve { .. } | Command::Cancel { which: Some(_), .. }
                        | Command::Retry { which: Some(_), .. } | Command::Pick { .. }
                    ))
                );
                prop_assert!(is_command, "{}", action.line);
            }
        }

        #[test]
        fn no_line_is_ever_cut(name in "\\PC{0,200}", kind in kinds()) {
            for action in all(&name, kind, std::slice::from_ref(&name)) {
                prop_assert!(action.line.chars().count() <= Action::MAX_LINE);
            }
        }
    }
}
