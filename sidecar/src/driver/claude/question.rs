//! Questions of the agent to its person, and the person's answers.
//!
//! The CLI's questions become the wire's, bounded so that they fit into an event together with
//! the request. An answer names its question by the text that the person was shown.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::driver::words::one_line;
use crate::wire::Question;

/// The most questions of one request that are shown; the CLI itself allows four.
const QUESTIONS: usize = 8;
/// The most answers offered to one question; the CLI itself allows four.
const OPTIONS: usize = 8;
/// The most characters of a question.
const QUESTION_CHARS: usize = 400;
/// The most characters of an answer that is offered.
const OPTION_CHARS: usize = 60;

/// What the person is asked by a tool's input.
pub(super) fn questions(input: &Value) -> Vec<Question> {
    asked(input)
        .take(QUESTIONS)
        .map(|question| Question {
            text: shown(question),
            options: labels(question).map(|label| one_line(label, OPTION_CHARS)).collect(),
            many: question["multiSelect"].as_bool().unwrap_or(false),
        })
        .collect()
}

/// The tool's input with the person's answers in it; none if nothing is answered. `words` are
/// the answer to each question that has none of its own.
pub(super) fn answered(
    input: &Value,
    answers: &BTreeMap<String, String>,
    words: &str,
) -> Option<Value> {
    let said = |answer: &str| Some(answer.trim().to_owned()).filter(|said| !said.is_empty());
    let answers: Map<String, Value> = asked(input)
        .filter_map(|question| {
            let text = question["question"].as_str()?;
            let own = answers.get(&shown(question)).or_else(|| answers.get(text));
            let answer = own.and_then(|own| said(own)).or_else(|| said(words))?;
            Some((text.to_owned(), Value::String(whole(question, answer))))
        })
        .collect();
    if answers.is_empty() {
        return None;
    }
    let mut input = input.clone();
    input.as_object_mut()?.insert("answers".to_owned(), Value::Object(answers));
    Some(input)
}

fn asked(input: &Value) -> impl Iterator<Item = &Value> {
    let questions = input["questions"].as_array().map(Vec::as_slice).unwrap_or_default();
    questions.iter().filter(|question| question["question"].is_string())
}

/// A question as the person is shown it.
fn shown(question: &Value) -> String {
    one_line(question["question"].as_str().unwrap_or_default(), QUESTION_CHARS)
}

fn labels(question: &Value) -> impl Iterator<Item = &str> {
    let options = question["options"].as_array().map(Vec::as_slice).unwrap_or_default();
    options.iter().filter_map(|option| option["label"].as_str()).take(OPTIONS)
}

/// An answer in the CLI's words, where it was chosen from what was shown cut.
fn whole(question: &Value, answer: String) -> String {
    labels(question)
        .find(|label| one_line(label, OPTION_CHARS) == answer)
        .map_or(answer, str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A request as Claude Code 2.1.329 makes it.
    fn input() -> Value {
        json!({"questions": [
            {
                "question": "Which colours?", "header": "Colour", "multiSelect": true,
                "options": [
                    {"label": "red", "description": "warm"},
                    {"label": "blue", "description": "cold"},
                ],
            },
            {"question": "Why?\nReally?", "header": "h", "options": [], "multiSelect": false},
        ]})
    }

    fn map(answers: &[(&str, &str)]) -> BTreeMap<String, String> {
        answers.iter().map(|(text, said)| ((*text).to_owned(), (*said).to_owned())).collect()
    }

    #[test]
    fn questions_are_shown_in_one_line_with_their_options() {
        let expected = [
            Question {
                text: "Which colours?".to_owned(),
                options: vec!["red".to_owned(), "blue".to_owned()],
                many: true,
            },
            Question { text: "Why? Really?".to_owned(), options: vec![], many: false },
        ];
        assert_eq!(questions(&input()), expected);
    }

    #[test]
    fn each_question_gets_its_own_answer_by_the_text_that_was_shown() {
        let answers = map(&[("Which colours?", "red, blue"), ("Why? Really?", "because")]);
        let answered = answered(&input(), &answers, "").expect("answers");
        let expected = json!({"Which colours?": "red, blue", "Why?\nReally?": "because"});
        assert_eq!(answered["answers"], expected);
        assert_eq!(answered["questions"], input()["questions"], "the rest stays");
    }

    #[test]
    fn words_answer_what_has_no_answer_of_its_own() {
        let answered = answered(&input(), &map(&[("Which colours?", "red")]), " any ");
        let expected = json!({"Which colours?": "red", "Why?\nReally?": "any"});
        assert_eq!(answered.expect("answers")["answers"], expected);
    }

    #[test]
    fn no_words_are_no_answer() {
        assert_eq!(answered(&input(), &map(&[]), " "), None);
        assert_eq!(answered(&input(), &map(&[("Which colours?", " "), ("Else?", "x")]), ""), None);
        assert_eq!(answered(&json!({}), &map(&[("Else?", "x")]), "words"), None);
    }

    #[test]
    fn an_option_that_was_shown_cut_is_answered_whole() {
        let label = "long ".repeat(50);
        let input = json!({"questions": [{"question": "Q?", "options": [{"label": label}]}]});
        let shown = questions(&input)[0].options[0].clone();
        assert!(shown.ends_with('…'));
        let answered = answered(&input, &map(&[("Q?", &shown)]), "").expect("answers");
        assert_eq!(answered["answers"]["Q?"], json!(label));
    }

    proptest! {
        /// However long the questions are, the person is asked in one event, and can answer
        /// each that is shown.
        #[test]
        fn questions_fit_and_can_be_answered(
            texts in prop::collection::vec("[a-zü\u{1F600}\"\\\\\n ]{1,900}", 1..12),
        ) {
            let all: Vec<_> = texts
                .iter()
                .map(|text| json!({"question": text, "options": vec![json!({"label": text}); 12]}))
                .collect();
            let input = json!({ "questions": all });
            let shown = questions(&input);
            let size = serde_json::to_string(&shown).expect("JSON").len();
            prop_assert!(size <= 32 * 1024, "{size}");
            let answers = shown.iter().map(|shown| (shown.text.clone(), "yes".to_owned()));
            let answered = answered(&input, &answers.collect(), "").expect("answers");
            for text in texts.iter().take(QUESTIONS) {
                prop_assert_eq!(answered["answers"][text].as_str(), Some("yes"));
            }
        }
    }
}
