//! Answers at the line: what an agent asks for, and whether a line answers it. Pure.
//!
//! Only what the terminal has told is answered by a bare `y`: a line that was on its way when the
//! agent began to ask was meant for something else. The answer names the request, so it can never
//! allow another one.

use serde_json::Value;

use super::address::is_plain;
use crate::cli::out::harmless;

/// Something that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    /// Who asks: an agent or a job.
    pub name: String,
    /// Its id.
    pub request: String,
    /// What it wants, in one line.
    wish: String,
    /// Whether words answer it, and not only yes or no.
    is_question: bool,
    /// How many questions it has.
    questions: usize,
    /// What `always` would allow, if it can be said.
    rule: Option<String>,
}

impl Ask {
    /// The ledger's row, if it waits.
    pub(super) fn read(name: &str, row: &Value) -> Option<Self> {
        let text = |member: &str| row[member].as_str().map(harmless);
        if row["state"] != "Pending" {
            return None;
        }
        let tool = text("tool").unwrap_or_default();
        let wish = text("title").filter(|title| !title.is_empty()).unwrap_or(tool);
        let questions = row["questions"].as_array().map_or(0, Vec::len);
        Some(Self {
            name: name.to_owned(),
            // Without it, no answer could say what it is for.
            request: row["request"].as_str().filter(|id| is_word(id))?.to_owned(),
            wish,
            is_question: row["kind"] == "question",
            questions,
            rule: text("rule").filter(|rule| !rule.is_empty()),
        })
    }

    /// The line that tells how to answer; `words` says whether plain words go to whoever asks.
    pub(super) fn told(&self, words: bool) -> String {
        let Self { name, wish, .. } = self;
        if self.is_question {
            let how = match self.questions {
                _ if !words => format!("/od-approve {name} and the answer, or /use {name} first"),
                0 | 1 => "the number of an option, or other words; n answers nothing".to_owned(),
                _ => "all of them in one line, as in 1: … 2: …; n answers nothing".to_owned(),
            };
            return format!("? {name} waits for your answer: {how}");
        }
        let always = match &self.rule {
            Some(rule) => format!(", a always ({rule})"),
            None => String::new(),
        };
        let why = if words { ", n and why" } else { "" };
        format!("? {name} waits for your answer to {wish}: y yes, n no{why}{always}")
    }

    /// What to say to the server if a line answers this; `words` as above.
    pub(super) fn answer(&self, line: &str, words: bool) -> Option<String> {
        let line = line.trim();
        if !is_plain(line) || (self.is_question && !words) {
            return None;
        }
        let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let bare = rest.trim().is_empty();
        let word = first.trim_end_matches([',', '.', '!', ':', ';']).to_lowercase();
        let said = match word.as_str() {
            _ if self.is_question => line.to_owned(),
            "y" | "yes" if bare => "yes".to_owned(),
            "a" | "always" if bare => "always".to_owned(),
            "n" | "no" if bare => "no".to_owned(),
            "n" | "no" if words => format!("no {}", rest.trim()),
            _ => return None,
        };
        Some(format!("/od-approve {} {} {said}", self.name, self.request))
    }
}

/// Whether an id can stand in a line.
fn is_word(id: &str) -> bool {
    !id.is_empty() && !id.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool() -> Ask {
        let row = json!({
            "state": "Pending", "request": "r1", "tool": "Bash", "title": "Bash: cargo\n\u{1b}[2Jtest",
            "kind": "tool", "rule": "Bash(cargo test:*)", "questions": [],
        });
        Ask::read("bot", &row).expect("it waits")
    }

    fn question(questions: usize) -> Ask {
        let all = vec![json!({"text": "Which?", "options": ["a", "b"]}); questions];
        let row = json!({
            "state": "Pending", "request": "r2", "tool": "Ask", "title": "", "kind": "question",
            "rule": null, "questions": all,
        });
        Ask::read("bot", &row).expect("it waits")
    }

    #[test]
    fn a_tool_takes_yes_no_and_always_and_leaves_all_else_as_it_is() {
        let answer = |line: &str| tool().answer(line, true);
        assert_eq!(answer("y").as_deref(), Some("/od-approve bot r1 yes"));
        assert_eq!(answer(" Yes. ").as_deref(), Some("/od-approve bot r1 yes"));
        assert_eq!(answer("a").as_deref(), Some("/od-approve bot r1 always"));
        assert_eq!(answer("N").as_deref(), Some("/od-approve bot r1 no"));
        assert_eq!(
            answer("n, because it is  late").as_deref(),
            Some("/od-approve bot r1 no because it is  late")
        );
        for line in
            ["yes it is late", "a word", "1", "", "@bot y", "/use bot", "/od-jobs", "od-jobs"]
        {
            assert_eq!(answer(line), None, "{line}");
        }
    }

    #[test]
    fn a_question_takes_numbers_and_words_but_no_commands() {
        let answer = |line: &str| question(1).answer(line, true);
        assert_eq!(answer("2").as_deref(), Some("/od-approve bot r2 2"));
        assert_eq!(answer("the red one").as_deref(), Some("/od-approve bot r2 the red one"));
        assert_eq!(answer("n").as_deref(), Some("/od-approve bot r2 n"));
        assert_eq!(answer("/od-cancel bot"), None);
        assert_eq!(answer("@web go on"), None);
    }

    #[test]
    fn what_was_answered_or_has_no_sayable_id_is_not_asked() {
        let row = |state: &str, id: &str| json!({"state": state, "request": id, "title": "x"});
        assert!(Ask::read("bot", &row("Pending", "r")).is_some());
        assert_eq!(Ask::read("bot", &row("Allowed", "r")), None);
        assert_eq!(Ask::read("bot", &row("Pending", "two words")), None);
        assert_eq!(Ask::read("bot", &row("Pending", "")), None);
    }

    #[test]
    fn how_to_answer_reads_well() {
        let told = [
            tool().told(true),
            question(1).told(true),
            question(2).told(true),
            question(2).told(false),
        ];
        insta::assert_snapshot!(told.join("\n"));
    }
}
