//! What an agent asks for, as people see it before they allow it.
//!
//! What is approved must be what is shown. So a request is told from its input, which is what
//! runs, and not from its title, which is a few words of it: each character stands there, those
//! that nobody sees by their numbers, and where Markdown is shown it stands as code, so that no
//! sign of it is eaten. A line that is too long for a screen is broken, for what stands outside of
//! a window is not seen. Where all of it does not fit, the lines say how much is hidden and what
//! shows it, and [`Request::is_whole`] says that no button may allow it.

use serde_json::Value;
use sprite_reporter::wire::{ApprovalKind, EventBody};

use super::one_line;
use crate::{
    access::quote::is_seen,
    chat::{answer::how_to_answer, platform::Markup},
    store::Approval,
};

/// The most characters of a request that its message shows: with all around it, it fits into one
/// message of each platform.
const MOST: usize = 1_200;
/// The most lines that its message shows.
const MOST_LINES: usize = 30;
/// Longer lines are broken, in characters: nobody scrolls sideways.
const WIDTH: usize = 120;
/// Stands in front of what goes on with a line that was broken.
const GOES_ON: &str = "↪ ";
/// The most characters of a rule that is shown; a longer one is offered to nobody.
const MOST_RULE: usize = 200;
/// The most characters that are shown to somebody who asks for all of it.
const ALL: usize = 24_000;
/// The members of an input that say by themselves what it is about; the first that is there stands
/// in front, without its name.
const SUBJECTS: [&str; 7] =
    ["command", "file_path", "notebook_path", "path", "url", "pattern", "query"];
/// What stands in the place of an input that no event can hold.
const TOO_LARGE: &str = "(too large to show)";

/// A request, as far as it is shown.
#[derive(Debug, Clone, Copy)]
pub(in crate::chat) struct Request<'a> {
    kind: ApprovalKind,
    tool: &'a str,
    title: &'a str,
    input: &'a Value,
    rule: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// One of the ledger.
    pub(in crate::chat) fn of(row: &'a Approval) -> Self {
        let rule = row.rule.as_deref();
        Self { kind: row.kind, tool: &row.tool, title: &row.title, input: &row.input, rule }
    }

    /// Whether its message shows all that would be allowed.
    pub(in crate::chat) fn is_whole(&self) -> bool {
        !self.was_cut() && cut(&self.lines(), MOST).1 == 0
    }

    /// The rule by which all like it would be allowed, where it can be shown.
    pub(in crate::chat) fn rule(&self) -> Option<String> {
        let rule = seen(self.rule?, '\0');
        (!rule.is_empty() && rule.chars().count() <= MOST_RULE).then_some(rule)
    }

    /// All of it, for whoever asks for that, as lines; the last says what is left out.
    pub(in crate::chat) fn all(&self) -> Vec<String> {
        let mut lines = self.lines();
        if self.kind == ApprovalKind::Plan {
            lines.splice(0..0, seen_lines(self.plan().unwrap_or(self.title)));
        }
        let (shown, hidden) = cut_at(&lines, ALL, usize::MAX);
        let mut shown = shown.to_vec();
        if hidden > 0 {
            shown.push(format!("({hidden} more characters are hidden)"));
        }
        if self.was_cut() {
            shown.push("(its reporter has cut what was longer; nobody can show the rest)".into());
        }
        shown
    }

    /// The plan that is asked about.
    fn plan(&self) -> Option<&'a str> {
        let input: &'a Value = self.input;
        input["plan"].as_str().map(str::trim_end)
    }

    /// What it is about, in full, save a plan.
    fn lines(&self) -> Vec<String> {
        let is_plan = self.kind == ApprovalKind::Plan;
        match self.input {
            Value::Null if is_plan => Vec::new(),
            Value::Null => {
                let title = self.title.strip_prefix(&format!("{}: ", self.tool));
                seen_lines(title.unwrap_or(self.title))
            }
            Value::String(text) => seen_lines(text),
            Value::Object(members) => {
                let subject = |name: &&str| members.get(*name).is_some_and(Value::is_string);
                let subject = SUBJECTS.iter().find(|name| subject(name)).filter(|_| !is_plan);
                let mut lines = Vec::new();
                if let Some(text) = subject.and_then(|name| members[*name].as_str()) {
                    lines.extend(seen_lines(text));
                }
                for (name, member) in members {
                    let is_told = subject.is_some_and(|subject| subject == name)
                        || (is_plan && name == "plan");
                    if !is_told {
                        lines.extend(member_lines(name, member));
                    }
                }
                lines
            }
            other => seen_lines(&other.to_string()),
        }
    }

    /// Whether its reporter cut it: what is allowed is more than what is known here.
    fn was_cut(&self) -> bool {
        match self.input {
            Value::Null => self.title.ends_with('…'),
            Value::String(text) if text == TOO_LARGE => true,
            Value::Object(members) if members.len() == 1 && members.contains_key("cut") => true,
            input => has_cut_text(input),
        }
    }
}

fn has_cut_text(value: &Value) -> bool {
    match value {
        Value::String(text) => text.ends_with('…'),
        Value::Array(items) => items.iter().any(has_cut_text),
        Value::Object(members) => members.values().any(has_cut_text),
        _ => false,
    }
}

fn member_lines(name: &str, member: &Value) -> Vec<String> {
    match member {
        Value::String(text) if text.contains('\n') => {
            let lines = seen_lines(text).into_iter().map(|line| format!("  {line}"));
            [format!("{}:", seen(name, '\0'))].into_iter().chain(lines).collect()
        }
        Value::String(text) => seen_lines(&format!("{name}: {text}")),
        other => seen_lines(&format!("{name}: {other}")),
    }
}

/// A text in which each character can be seen, save one that is kept.
fn seen(text: &str, keep: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c == keep || c == '\t' || is_seen(c) {
            true => out.push(c),
            false => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// Its lines, those that are too long broken.
fn seen_lines(text: &str) -> Vec<String> {
    let text = seen(text.strip_suffix('\n').unwrap_or(text), '\n');
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let letters: Vec<char> = line.chars().collect();
        let parts = letters.chunks(WIDTH).map(|part| part.iter().collect::<String>());
        let before = lines.len();
        lines.extend(parts);
        if lines.len() == before {
            lines.push(String::new());
        }
        for more in lines.iter_mut().skip(before + 1) {
            more.insert_str(0, GOES_ON);
        }
    }
    lines
}

fn cut(lines: &[String], most: usize) -> (&[String], usize) {
    cut_at(lines, most, MOST_LINES)
}

/// As many lines as may be shown, and how many characters are hidden.
fn cut_at(lines: &[String], most: usize, most_lines: usize) -> (&[String], usize) {
    let mut sum = 0;
    let fits = lines.iter().take(most_lines).take_while(|line| {
        sum += line.chars().count() + 1;
        sum <= most
    });
    let (shown, hidden) = lines.split_at(fits.count());
    (shown, hidden.iter().map(|line| line.chars().count().max(1)).sum())
}

/// Text that is shown as it is, as lines: where Markdown is shown, between fences.
pub(in crate::chat) fn as_code(lines: &[String], markup: Markup) -> Vec<String> {
    match markup {
        Markup::Plain => lines.iter().map(|line| format!("  | {line}")).collect(),
        Markup::Markdown => {
            let unbroken = |line: &String| line.replace("```", "`\u{200B}`\u{200B}`");
            let fence = || "```".to_owned();
            let inside = lines.iter().map(unbroken);
            [fence()].into_iter().chain(inside).chain([fence()]).collect()
        }
    }
}

/// A word or a line of text as it is, within a line of ours; none where that cannot be shown.
fn span(text: &str, markup: Markup) -> Option<String> {
    match markup {
        Markup::Plain => Some(text.to_owned()),
        Markup::Markdown => (!text.contains('`')).then(|| format!("`{text}`")),
    }
}

/// What an agent asks for, with how to answer: a line or several, and one for each question and
/// option. Nothing for any other event. Only an agent can be allowed something for good.
#[must_use]
pub fn asked_lines(name: &str, is_agent: bool, body: &EventBody, markup: Markup) -> String {
    let EventBody::Approval { tool, title, kind, rule, questions, input, .. } = body else {
        return String::new();
    };
    let rule = rule.as_deref();
    let request = Request { kind: *kind, tool, title, input, rule };
    match kind {
        ApprovalKind::Tool => tool_lines(name, is_agent, request, markup).join("\n"),
        ApprovalKind::Plan => plan_lines(name, request, markup).join("\n"),
        ApprovalKind::Question => {
            let title = one_line(title);
            let title = title.strip_prefix(&format!("{tool}: ")).unwrap_or(&title);
            let many = questions.len() > 1;
            let mut lines = Vec::new();
            for (n, question) in questions.iter().enumerate() {
                let number = if many { format!("{}: ", n + 1) } else { String::new() };
                lines.push(format!("? {number}{}", one_line(&question.text)));
                let options = question.options.iter().enumerate();
                lines.extend(
                    options.map(|(n, option)| format!("  {}. {}", n + 1, one_line(option))),
                );
            }
            if lines.is_empty() {
                lines.push(format!("? {title}"));
            }
            if !name.is_empty() {
                lines.push(format!("  answer with {}", how_to_answer(name, questions)));
            }
            lines.join("\n")
        }
    }
}

fn tool_lines(name: &str, is_agent: bool, request: Request<'_>, markup: Markup) -> Vec<String> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '.');
    let tool = one_line(&seen(request.tool, '\0'));
    let tool = match tool.chars().all(is_plain) {
        true => tool,
        false => span(&tool, markup).unwrap_or_else(|| tool.replace('`', "'")),
    };
    let rule = request.rule().filter(|_| is_agent);
    let always = if rule.is_some() { "|always" } else { "" };
    let how = format!("answer with /od-approve {name} yes|no{always}");
    let lines = request.lines();
    let rule_span = rule.as_ref().and_then(|rule| span(rule, markup));
    // What fits behind the tool's name stands there.
    if let [only] = lines.as_slice()
        && !request.was_cut()
        && one_line(only) == *only
        && rule.is_some() == rule_span.is_some()
        && let Some(what) = span(only, markup)
    {
        let (what, is_empty) = (format!(": {what}"), only.is_empty());
        let what = if is_empty { "" } else { &what };
        let always = rule_span.map(|rule| format!("; always allows {rule}")).unwrap_or_default();
        return match name {
            "" => vec![format!("? asks to use {tool}{what}")],
            _ => vec![format!("? asks to use {tool}{what} - {how}{always}")],
        };
    }
    let mut told = vec![format!("? asks to use {tool}:")];
    told.extend(block(name, request, &lines, markup));
    if name.is_empty() {
        return told;
    }
    told.push(format!("  {how}"));
    match (rule, rule_span) {
        (None, _) => {}
        (Some(_), Some(rule)) => told.push(format!("  always allows {rule} from now on")),
        (Some(rule), None) => {
            told.push("  always allows this from now on:".to_owned());
            told.extend(as_code(&[rule], markup));
        }
    }
    told
}

fn plan_lines(name: &str, request: Request<'_>, markup: Markup) -> Vec<String> {
    let how = match name {
        "" => String::new(),
        _ => format!(" - answer with /od-approve {name} yes, or no and what to do otherwise"),
    };
    let mut told = Vec::new();
    // What is allowed together with the plan.
    let more = request.lines();
    let plan = request.plan();
    told.extend(plan.map(|plan| plan.lines().map(str::to_owned)).into_iter().flatten());
    if !more.is_empty() || request.was_cut() {
        told.extend(block(name, request, &more, markup));
    }
    told.push(match plan {
        Some(_) => format!("? asks whether to begin with this plan{how}"),
        None => {
            format!("? has a plan, and asks whether to begin: {}{how}", one_line(request.title))
        }
    });
    told
}

/// The request as lines of its own, and what of it is hidden.
fn block(name: &str, request: Request<'_>, lines: &[String], markup: Markup) -> Vec<String> {
    let (shown, hidden) = cut(lines, MOST);
    let mut told = match shown {
        [] => Vec::new(),
        shown => as_code(shown, markup),
    };
    let show = match name {
        "" => String::new(),
        _ => format!("; /od-approve {name} show tells all of it"),
    };
    match (hidden, request.was_cut()) {
        (0, false) => {}
        (0, true) => told.push("! this is cut: its reporter sent no more of it".to_owned()),
        (1, false) => told.push(format!("! 1 more character is hidden{show}")),
        (_, false) => told.push(format!("! {hidden} more characters are hidden{show}")),
        (_, true) => told.push(format!("! {hidden} more characters and others are hidden{show}")),
    }
    told
}
