//! What somebody means who answers an agent with `/od-approve NAME …`. Pure.
//!
//! To a request for a tool, or a plan, the answer is yes (also where nothing is said), no, or
//! always; words behind a no are told to the agent. To a question it is an option's number or
//! text, or any other text; to several, `1: … 2: …`. The id of a request picks it among several;
//! else the oldest that waits is meant. A button names its request by a [`Tag`], and the option of a
//! question behind it. In doubt nothing is answered: a word that is no id, where
//! an id may stand, must not allow what somebody else asked for.

use std::collections::BTreeMap;

use sprite_reporter::wire::{ApprovalKind, Question};

use super::tag::Tag;
use crate::store::{Approval, ApprovalState};

/// What an answer means.
#[derive(Debug, Clone, PartialEq)]
pub enum Meant<'a> {
    /// Resolve this request.
    Resolve {
        /// The request.
        approval: &'a Approval,
        /// Whether it may.
        allow: bool,
        /// Whether requests like it may from now on, too.
        always: bool,
        /// What to tell the agent.
        message: String,
        /// The answers to its questions, by their texts.
        answers: BTreeMap<String, String>,
    },
    /// The request that was named was answered before.
    Answered(&'a Approval),
    /// Nothing waits; this was the last that did.
    NothingWaits(Option<&'a Approval>),
}

/// Why an answer is none, with the mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Neither yes nor no.
    #[error("`{0}` is no answer; say yes, no or always, as in /od-approve {1} no")]
    Unclear(String, String),
    /// No request has this id.
    #[error("{1} has made no request {0}; leave it out to answer the oldest that waits")]
    NoRequest(String, String),
    /// No request has this tag any more.
    #[error("{0} asks for that no more, and what became of it is kept no longer")]
    LongAgo(String),
    /// It cannot be allowed once and for all.
    #[error("only this one request can be allowed, nothing like it for good; say yes")]
    NoRule,
    /// A question wants more than yes.
    #[error("{0} asks, and waits for an answer: {1}")]
    Question(String, String),
    /// There is no such option.
    #[error("there is no option {number}; the options are 1 to {options}")]
    NoOption {
        /// What was said.
        number: usize,
        /// How many there are.
        options: usize,
    },
    /// Some questions have no answer.
    #[error("{0} questions wait for answers; say them as in /od-approve {1} {2}")]
    Several(usize, String, String),
}

/// Reads an answer to what an agent or job of this `name` asks for; `approvals` are all that it
/// ever asked, the oldest first.
///
/// # Errors
/// Why it is no answer.
pub fn meant<'a>(
    name: &str,
    words: &str,
    approvals: &'a [Approval],
) -> Result<Meant<'a>, NoAnswer> {
    let words = words.trim();
    let pending = |approval: &&Approval| approval.state == ApprovalState::Pending;
    let oldest = approvals.iter().find(pending);
    let (first, behind) = split_word(words);
    let (second, last) = split_word(behind);
    let by_id = |id: &str| {
        let mut named = approvals.iter().filter(move |approval| approval.request == id);
        named.clone().find(pending).or_else(|| named.next_back())
    };
    // The tag of a request stands in front, or behind yes, no or always.
    let tagged = match (Tag::read(first), Word::of(first).and_then(|_| Tag::read(second))) {
        (Some(tag), _) => Some((tag, behind.to_owned())),
        (None, Some(tag)) => Some((tag, format!("{first} {last}"))),
        (None, None) => None,
    };
    if let Some((tag, said)) = tagged {
        let mut named = approvals.iter().filter(|approval| tag.names_request(approval));
        let approval = named.next_back().ok_or_else(|| NoAnswer::LongAgo(name.to_owned()))?;
        return answered(name, approval, said.trim(), tag.option);
    }
    // The id of a request stands in front, or behind yes, no or always.
    let word = Word::of(first);
    let (approval, said) = match (by_id(first), word) {
        (Some(found), _) if !first.is_empty() => (found, behind.to_owned()),
        (_, Some(_)) if !second.is_empty() => match by_id(second) {
            Some(found) => (found, format!("{first} {last}")),
            None => match oldest {
                Some(oldest) => (oldest, words.to_owned()),
                None if looks_like_id(second) => {
                    return Err(NoAnswer::NoRequest(second.to_owned(), name.to_owned()));
                }
                None => return Ok(Meant::NothingWaits(approvals.last())),
            },
        },
        _ => match oldest {
            Some(oldest) => (oldest, words.to_owned()),
            None => return Ok(Meant::NothingWaits(approvals.last())),
        },
    };
    answered(name, approval, said.trim(), None)
}

/// What is said to one request; `option` is the number of a question's option that was pressed.
fn answered<'a>(
    name: &str,
    approval: &'a Approval,
    said: &str,
    option: Option<usize>,
) -> Result<Meant<'a>, NoAnswer> {
    if approval.state != ApprovalState::Pending {
        return Ok(Meant::Answered(approval));
    }
    match (approval.kind, option, approval.questions.as_slice()) {
        // By its number alone: an option may be called like another one's number.
        (ApprovalKind::Question, Some(number), [only]) => {
            let option = number.checked_sub(1).and_then(|at| only.options.get(at));
            let missing = NoAnswer::NoOption { number, options: only.options.len() };
            let answers = [(only.text.clone(), option.ok_or(missing)?.clone())].into();
            let message = String::new();
            Ok(Meant::Resolve { approval, allow: true, always: false, message, answers })
        }
        (ApprovalKind::Question, ..) => question(name, said, approval),
        (ApprovalKind::Tool | ApprovalKind::Plan, ..) => yes_or_no(name, said, approval),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Yes,
    No,
    Always,
}

impl Word {
    fn of(word: &str) -> Option<Self> {
        // `no, because` and `yes!` are what people type.
        let word = word.trim_end_matches([',', '.', '!', ':', ';']).to_lowercase();
        Some(match word.as_str() {
            "yes" | "y" | "ok" | "allow" => Self::Yes,
            "no" | "n" | "deny" => Self::No,
            "always" => Self::Always,
            _ => return None,
        })
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (word, rest.trim_start())
}

/// Whether a word can be meant as an id of a request, and not as the reason of a no.
fn looks_like_id(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit() || c == '_')
}

fn yes_or_no<'a>(name: &str, said: &str, approval: &'a Approval) -> Result<Meant<'a>, NoAnswer> {
    let (first, behind) = split_word(said);
    let word = match Word::of(first) {
        Some(word) => word,
        None if first.is_empty() => Word::Yes,
        None => return Err(NoAnswer::Unclear(first.to_owned(), name.to_owned())),
    };
    let (second, more) = split_word(behind);
    let stray = word != Word::No || (more.is_empty() && looks_like_id(second));
    if stray && !second.is_empty() {
        return Err(NoAnswer::NoRequest(second.to_owned(), name.to_owned()));
    }
    if word == Word::Always && approval.rule.is_none() {
        return Err(NoAnswer::NoRule);
    }
    Ok(Meant::Resolve {
        approval,
        allow: word != Word::No,
        always: word == Word::Always,
        message: behind.to_owned(),
        answers: BTreeMap::new(),
    })
}

fn question<'a>(name: &str, said: &str, approval: &'a Approval) -> Result<Meant<'a>, NoAnswer> {
    let questions = approval.questions.as_slice();
    let resolve = |allow, message: &str, answers| {
        Ok(Meant::Resolve { approval, allow, always: false, message: message.to_owned(), answers })
    };
    let (first, because) = split_word(said);
    let is_option = questions.len() == 1 && option_of(&questions[0], said).is_some();
    if Word::of(first) == Some(Word::No) && !is_option {
        return resolve(false, because, BTreeMap::new());
    }
    if said.is_empty() {
        return Err(NoAnswer::Question(name.to_owned(), how_to_answer(name, questions)));
    }
    match questions {
        // A CLI that asks without saying what gets what was said.
        [] => resolve(true, said, BTreeMap::new()),
        [only] => {
            let said = numbered(said, 1).map_or(said, |parts| parts[0].1);
            resolve(true, "", [(only.text.clone(), one(only, said)?)].into())
        }
        several => {
            let parts = numbered(said, several.len()).unwrap_or_default();
            let mut answers = BTreeMap::new();
            for (n, question) in several.iter().enumerate() {
                let part = parts.iter().find(|(number, text)| *number == n + 1 && !text.is_empty());
                let Some((_, text)) = part else {
                    let example = example(several);
                    return Err(NoAnswer::Several(several.len(), name.to_owned(), example));
                };
                answers.insert(question.text.clone(), one(question, text)?);
            }
            resolve(true, "", answers)
        }
    }
}

/// `1: … 2: …`: the numbers, from 1 to `most`, with what is said behind each. None if the text
/// does not begin with a number and a colon.
fn numbered(said: &str, most: usize) -> Option<Vec<(usize, &str)>> {
    let mut marks: Vec<(usize, usize, usize)> = Vec::new();
    let mut at_word = true;
    for (at, c) in said.char_indices() {
        if at_word && c.is_ascii_digit() {
            let digits = said[at..].find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
            if said[at + digits..].starts_with(':')
                && let Ok(number) = said[at..at + digits].parse::<usize>()
                && (1..=most).contains(&number)
                // A number that was there belongs to what is said.
                && marks.iter().all(|(seen, ..)| *seen != number)
            {
                marks.push((number, at, at + digits + 1));
            }
        }
        at_word = c.is_whitespace();
    }
    if marks.first().is_none_or(|(_, at, _)| *at != 0) {
        return None;
    }
    let ends = marks.iter().skip(1).map(|(_, at, _)| *at).chain([said.len()]);
    Some(marks.iter().zip(ends).map(|((n, _, from), to)| (*n, said[*from..to].trim())).collect())
}

/// An option by its number or text, whatever the case; several, where several may be chosen.
fn one(question: &Question, said: &str) -> Result<String, NoAnswer> {
    if let Some(option) = option_of(question, said) {
        return Ok(option.to_owned());
    }
    let number = said.parse::<usize>().ok();
    if question.options.is_empty() {
        return Ok(said.to_owned());
    }
    if let Some(number) = number {
        return Err(NoAnswer::NoOption { number, options: question.options.len() });
    }
    if question.many {
        let parts: Vec<&str> =
            said.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        let numbers: Vec<&str> = said.split([',', ' ']).filter(|part| !part.is_empty()).collect();
        for parts in [parts, numbers] {
            let chosen: Option<Vec<&str>> =
                parts.iter().map(|part| option_of(question, part)).collect();
            if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) {
                return Ok(chosen.join(", "));
            }
        }
    }
    Ok(said.to_owned())
}

fn option_of<'a>(question: &'a Question, said: &str) -> Option<&'a str> {
    let folded = said.to_lowercase();
    let by_text = question.options.iter().find(|option| option.to_lowercase() == folded);
    let by_number = || {
        let number = said.trim_end_matches('.').parse::<usize>().ok()?;
        question.options.get(number.checked_sub(1)?)
    };
    by_text.or_else(by_number).map(String::as_str)
}

/// How to answer these questions, in one line.
#[must_use]
pub fn how_to_answer(name: &str, questions: &[Question]) -> String {
    match questions {
        [] => format!("/od-approve {name} and your answer"),
        [only] if only.options.is_empty() => format!("/od-approve {name} and your answer"),
        [only] if only.many => {
            format!("/od-approve {name} and the numbers of options, as in 1, 2, or other words")
        }
        [_] => format!("/od-approve {name} and the number of an option, or other words"),
        several => format!("/od-approve {name} {}", example(several)),
    }
}

fn example(questions: &[Question]) -> String {
    let parts: Vec<String> = questions
        .iter()
        .enumerate()
        .map(|(n, question)| {
            let what = if question.options.is_empty() { "…" } else { "1" };
            format!("{}: {what}", n + 1)
        })
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn asked(request: &str, kind: ApprovalKind) -> Approval {
        Approval {
            sprite_uid: "s".into(),
            run: 1,
            request: request.into(),
            turn: "t".into(),
            tool: "Bash".into(),
            title: "Bash: ls".into(),
            input: serde_json::Value::Null,
            kind,
            rule: None,
            questions: Vec::new(),
            answers: BTreeMap::new(),
            state: ApprovalState::Pending,
            by: String::new(),
            message: String::new(),
            resolved: None,
            user: None,
            grant: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    fn tool(request: &str) -> Approval {
        Approval { rule: Some("Bash(ls:*)".into()), ..asked(request, ApprovalKind::Tool) }
    }

    fn questions(texts: &[(&str, &[&str])]) -> Approval {
        let questions = texts
            .iter()
            .map(|(text, options)| Question {
                text: (*text).to_owned(),
                options: options.iter().map(|option| (*option).to_owned()).collect(),
                many: text.ends_with("(many)"),
            })
            .collect();
        Approval { questions, ..asked("q1", ApprovalKind::Question) }
    }

    fn told(words: &str, approvals: &[Approval]) -> String {
        match meant("bot", words, approvals) {
            Ok(Meant::Resolve { approval, allow, always, message, answers }) => format!(
                "{} {}{} {message:?} {answers:?}",
                approval.request,
                if allow { "yes" } else { "no" },
                if always { " always" } else { "" },
            ),
            Ok(Meant::Answered(approval)) => format!("{} was answered", approval.request),
            Ok(Meant::NothingWaits(last)) => {
                format!("nothing waits; last {:?}", last.map(|last| &last.request))
            }
            Err(error) => error.to_string(),
        }
    }

    fn all(lines: &[&str], approvals: &[Approval]) -> String {
        lines.iter().map(|line| format!("{line:?}\n    {}\n", told(line, approvals))).collect()
    }

    #[test]
    fn a_tool_gets_yes_no_or_always() {
        let mut approvals = [tool("r0"), tool("r1"), tool("r2")];
        approvals[0].state = ApprovalState::Allowed;
        let lines = [
            "",
            "yes",
            "Y",
            "no",
            "no because it is late",
            "no, because",
            "No r2",
            "no r9",
            "yes r2",
            "r2",
            "r2 no not now",
            "yes r9",
            "yes please",
            "always",
            "always r2",
            "always r9",
            "r0",
            "yes r0",
            "perhaps",
            "no slowly",
            "2",
        ];
        insta::assert_snapshot!(all(&lines, &approvals));
    }

    #[test]
    fn a_button_answers_its_own_request_and_no_other() {
        let mut approvals = [tool("r0"), tool("r1"), tool("r2")];
        approvals[0].state = ApprovalState::Expired;
        let tag = |request| Tag::of_request("s", 1, request).to_string();
        let yes = |request| told(&format!("yes {}", tag(request)), &approvals);
        assert_eq!(yes("r2"), "r2 yes \"\" {}");
        assert_eq!(yes("r0"), "r0 was answered");
        assert_eq!(yes("r9"), NoAnswer::LongAgo("bot".into()).to_string());
        let told_no = told(&format!("no {} too late", tag("r2")), &approvals);
        assert_eq!(told_no, "r2 no \"too late\" {}");
        // Not even where a question waits, whose answer may be any words.
        let asks = [questions(&[("Which?", &["2", "1"])])];
        let other = Tag::of_request("s", 2, "q1").to_string();
        assert_eq!(told(&format!("{other} 1"), &asks), NoAnswer::LongAgo("bot".into()).to_string());
        let second = Tag::of_request("s", 1, "q1").with_option(2).to_string();
        assert_eq!(told(&second, &asks), "q1 yes \"\" {\"Which?\": \"1\"}");
        let third = Tag::of_request("s", 1, "q1").with_option(3).to_string();
        assert_eq!(told(&third, &asks), "there is no option 3; the options are 1 to 2");
    }

    #[test]
    fn what_has_no_rule_cannot_be_allowed_for_good() {
        assert_eq!(told("always", &[asked("p", ApprovalKind::Plan)]), NoAnswer::NoRule.to_string());
    }

    #[test]
    fn where_nothing_waits_that_is_told() {
        let mut old = tool("r0");
        old.state = ApprovalState::Denied;
        insta::assert_snapshot!(all(&["", "yes", "yes r0", "yes r9", "no why"], &[old]));
        assert_eq!(told("yes", &[]), "nothing waits; last None");
    }

    #[test]
    fn a_question_gets_an_option_or_words() {
        let one = [questions(&[("Which?", &["Red", "No", "Dark blue"])])];
        let open = [questions(&[("Why?", &[])])];
        let many = [questions(&[("Which ones? (many)", &["Red", "Green", "Blue"])])];
        let lines =
            ["", "2", "2.", "red", "no", "no, thanks", "4", "0", "another one", "1: red", "q1 3"];
        let told = [
            all(&lines, &one),
            all(&["", "because", "5", "no"], &open),
            all(&["", "1,3", "3 1", "red, blue", "1, purple", "4"], &many),
        ];
        insta::assert_snapshot!(told.join("-----\n"));
    }

    #[test]
    fn several_questions_get_all_their_answers_or_none() {
        let two = [questions(&[("Which?", &["Red", "Blue"]), ("Why: how?", &[])])];
        let lines = [
            "1: blue 2: I like 1: it",
            "2: so\n1: 2",
            "1: blue",
            "blue",
            "",
            "1: 2:",
            "no later",
            "1: 3 2: x",
        ];
        insta::assert_snapshot!(all(&lines, &two));
    }

    proptest! {
        #[test]
        fn nothing_but_a_clear_yes_allows_a_tool(words in "\\PC{0,20}") {
            let approvals = [tool("r1")];
            if let Ok(Meant::Resolve { allow: true, .. }) = meant("bot", &words, &approvals) {
                let clean = words.trim().to_lowercase();
                let clean = clean.trim_end_matches([',', '.', '!', ':', ';']);
                prop_assert!(
                    ["", "yes", "y", "ok", "allow", "always", "r1"].contains(&clean.trim())
                        || clean.ends_with("r1") || clean.starts_with("r1"),
                    "{words:?}"
                );
            }
        }

        #[test]
        fn an_answer_never_panics(words in "(1:|2:|no|yes| |\\PC|,){0,12}", n in 0..3_usize) {
            let texts: [(&str, &[&str]); 2] = [("a", &["x", "y"]), ("b (many)", &["z"])];
            let _ = meant("bot", &words, &[questions(&texts[..n])]);
        }
    }
}
