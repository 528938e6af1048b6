//! Forms by which an agent asks its person: read as questions, answered as a form.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::wire::Question;

/// A form, as questions by the names of its fields.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Form {
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    question: Question,
    /// What each option is called by the agent, where that differs from what a person reads.
    values: Vec<(String, Value)>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    YesNo,
    Many,
}

impl Form {
    /// Reads the form of a request; none where it is none that people can be asked.
    pub(super) fn read(request: &Value) -> Option<Self> {
        if request["mode"].as_str().is_some_and(|mode| mode != "form") {
            return None;
        }
        let properties = request["requestedSchema"]["properties"].as_object()?;
        let message = request["message"].as_str().unwrap_or_default();
        let is_only = properties.len() == 1;
        let fields: Option<Vec<_>> = properties
            .iter()
            .map(|(name, schema)| Field::read(name, schema, is_only.then_some(message)))
            .collect();
        fields.filter(|fields| !fields.is_empty()).map(|fields| Self { fields })
    }

    /// What is asked.
    pub(super) fn questions(&self) -> Vec<Question> {
        self.fields.iter().map(|field| field.question.clone()).collect()
    }

    /// The agent's answer: the form, filled with what was answered by the questions' texts, or
    /// with the words, which answer whatever has no answer of its own. None where nothing is
    /// answered.
    pub(super) fn filled(&self, answers: &BTreeMap<String, String>, words: &str) -> Option<Value> {
        let words = Some(words.trim()).filter(|words| !words.is_empty());
        let content: Map<String, Value> = self
            .fields
            .iter()
            .filter_map(|field| {
                let answer = answers.get(&field.question.text).map(String::as_str).or(words)?;
                Some((field.name.clone(), field.value(answer)?))
            })
            .collect();
        (!content.is_empty()).then(|| json!({"action": "accept", "content": content}))
    }
}

/// The answer to a form that nobody fills.
pub(super) fn declined() -> Value {
    json!({"action": "decline"})
}

/// The answer to a form whose turn is over.
pub(super) fn cancelled() -> Value {
    json!({"action": "cancel"})
}

impl Field {
    fn read(name: &str, schema: &Value, message: Option<&str>) -> Option<Self> {
        let kind = match schema["type"].as_str()? {
            "string" => Kind::Text,
            "number" | "integer" => Kind::Number,
            "boolean" => Kind::YesNo,
            "array" => Kind::Many,
            _ => return None,
        };
        let values = match kind {
            Kind::YesNo => vec![("yes".to_owned(), json!(true)), ("no".to_owned(), json!(false))],
            Kind::Many => options(&schema["items"]),
            Kind::Text | Kind::Number => options(schema),
        };
        let text = ["description", "title"]
            .iter()
            .filter_map(|member| schema[*member].as_str())
            .chain(message)
            .chain([name])
            .find(|text| !text.trim().is_empty())?
            .to_owned();
        let options = values.iter().map(|(label, _)| label.clone()).collect();
        let question = Question { text, options, many: kind == Kind::Many };
        Some(Self { name: name.to_owned(), question, values, kind })
    }

    fn value(&self, answer: &str) -> Option<Value> {
        let known = |answer: &str| {
            let is_it = |label: &str| label.eq_ignore_ascii_case(answer.trim());
            self.values.iter().find(|(label, _)| is_it(label)).map(|(_, value)| value.clone())
        };
        match self.kind {
            Kind::YesNo => known(answer),
            Kind::Number => known(answer).or_else(|| {
                let number: serde_json::Number = answer.trim().parse().ok()?;
                Some(Value::Number(number))
            }),
            Kind::Text => Some(known(answer).unwrap_or_else(|| json!(answer))),
            Kind::Many => Some(
                answer
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty())
                    .map(|part| known(part).unwrap_or_else(|| json!(part)))
                    .collect(),
            ),
        }
    }
}

fn options(schema: &Value) -> Vec<(String, Value)> {
    let list = |member: &str| schema[member].as_array().map(Vec::as_slice).unwrap_or_default();
    let plain = list("enum").iter().filter_map(|value| Some((value.as_str()?, value)));
    let titled = list("oneOf").iter().chain(list("anyOf")).filter_map(|option| {
        let value = option.get("const")?;
        Some((option["title"].as_str().or_else(|| value.as_str())?, value))
    });
    plain.chain(titled).map(|(label, value)| (label.to_owned(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Form {
        Form::read(&json!({
            "mode": "form",
            "message": "Some questions",
            "requestedSchema": {"type": "object", "properties": {
                "colour": {"type": "string", "title": "Colour?", "oneOf": [
                    {"const": "r", "title": "red"}, {"const": "b", "title": "blue"}]},
                "sizes": {"type": "array", "description": "Sizes?",
                          "items": {"type": "string", "enum": ["S", "M", "L"]}},
                "count": {"type": "integer", "title": "How many?"},
                "gift": {"type": "boolean", "title": "A gift?"},
            }},
        }))
        .expect("a form")
    }

    fn answers(answers: &[(&str, &str)]) -> BTreeMap<String, String> {
        answers.iter().map(|(text, answer)| ((*text).into(), (*answer).into())).collect()
    }

    #[test]
    fn a_form_is_asked_as_questions() {
        let mut questions = form().questions();
        questions.sort_by(|a, b| a.text.cmp(&b.text));
        let brief: Vec<_> =
            questions.iter().map(|it| (it.text.as_str(), it.options.join("/"), it.many)).collect();
        assert_eq!(
            brief,
            [
                ("A gift?", "yes/no".to_owned(), false),
                ("Colour?", "red/blue".to_owned(), false),
                ("How many?", String::new(), false),
                ("Sizes?", "S/M/L".to_owned(), true),
            ]
        );
    }

    #[test]
    fn answers_fill_the_form_in_the_agents_own_values() {
        let given = answers(&[
            ("Colour?", "Blue"),
            ("Sizes?", "S, L"),
            ("How many?", "3"),
            ("A gift?", "no"),
        ]);
        assert_eq!(
            form().filled(&given, ""),
            Some(json!({"action": "accept", "content": {
                "colour": "b", "sizes": ["S", "L"], "count": 3, "gift": false}}))
        );
    }

    #[test]
    fn words_answer_what_takes_words_and_nothing_answers_nothing() {
        let filled = form().filled(&BTreeMap::new(), "green").expect("an answer");
        assert_eq!(filled["content"], json!({"colour": "green", "sizes": ["green"]}));
        assert_eq!(form().filled(&BTreeMap::new(), " "), None);
    }

    #[test]
    fn what_is_no_form_is_not_asked() {
        assert_eq!(Form::read(&json!({"mode": "url", "url": "https://a.b"})), None);
        let empty = json!({"mode": "form", "requestedSchema": {"properties": {}}});
        assert_eq!(Form::read(&empty), None);
    }
}
