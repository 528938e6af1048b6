//! The text that stands in the editor: what is to be known of it at the top, and the object below.

use serde_json::Value;

use crate::{
    cli::{
        error::Error,
        object::{desired, to_yaml},
        out,
    },
    resource::{AnyObject, Fault, Kind, yaml},
};

/// What stands at the top of each.
const HEAD: &str = "\
# Change the object below, save it, and leave the editor.
# Lines that begin with # are left out; an empty file leaves everything as it is.
";

/// A text for the editor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sheet {
    /// What is wrong, a line for each.
    notes: Vec<String>,
    /// The object.
    body: String,
    /// Whether it is to be written even where it is saved as it was.
    as_it_is: bool,
}

/// What became of a text in the editor.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// The person wants nothing; why it is taken so.
    Cancelled(&'static str),
    /// The person left what is wrong as it was.
    GivenUp,
    /// Something is wrong with it.
    Again(Sheet),
    /// This is wanted.
    Wanted(Value),
}

impl Sheet {
    /// A text of what is wanted of an object.
    ///
    /// # Errors
    /// An object that this version does not understand.
    pub(super) fn of(wanted: &Value) -> Result<Self, Error> {
        Ok(Self { notes: Vec::new(), body: to_yaml(wanted)?, as_it_is: false })
    }

    /// The same, where somebody else changed some fields as well.
    ///
    /// # Errors
    /// An object that this version does not understand.
    pub(super) fn of_conflict(wanted: &Value, fields: &[String]) -> Result<Self, Error> {
        let mut sheet = Self::of(wanted)?;
        sheet.notes.push("Somebody else changed these meanwhile; your values stand below:".into());
        sheet.notes.extend(fields.iter().map(|field| format!("* {}", out::harmless(field))));
        sheet.notes.push("Save it to write yours over them, or empty the file to leave it.".into());
        sheet.as_it_is = true;
        Ok(sheet)
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("# {note}\n")).collect();
        let gap = if notes.is_empty() { "" } else { "#\n" };
        format!("{HEAD}{gap}{notes}{}", self.body)
    }

    /// The next text: what was saved, with a message about it.
    pub(super) fn again(&self, saved: &str, message: &str) -> Self {
        let notes = message
            .lines()
            .map(|line| out::harmless(line.trim_start_matches("* ")))
            .map(|line| format!("* {line}"))
            .collect();
        Self { notes, body: body_of(saved).to_owned(), as_it_is: false }
    }

    /// Reads what was saved.
    pub(super) fn read(&self, saved: &str, kind: Kind, name: &str) -> Verdict {
        let body = body_of(saved);
        if body.trim().is_empty() {
            return Verdict::Cancelled("the saved file is empty");
        }
        if body == self.body && !self.as_it_is {
            let good = self.notes.is_empty();
            return if good { Verdict::Cancelled("no changes made") } else { Verdict::GivenUp };
        }
        match object(body, kind, name) {
            Ok(object) => Verdict::Wanted(desired(&object.to_json())),
            Err(mut faults) => {
                // In the next text each fault has a line of its own above the object.
                let above = HEAD.lines().count() + 1 + faults.len();
                for fault in &mut faults {
                    let above = u32::try_from(above).unwrap_or_default();
                    fault.line = fault.line.map(|line| line + above);
                }
                let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
                Verdict::Again(self.again(saved, &lines.join("\n")))
            }
        }
    }
}

/// What stands behind the lines at the top.
fn body_of(text: &str) -> &str {
    let mut rest = text;
    while rest.starts_with('#') {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest
}

/// The one object of a text, which must be the one that was shown.
fn object(body: &str, kind: Kind, name: &str) -> Result<AnyObject, Vec<Fault>> {
    let mut objects = yaml::read(body, None).map_err(|faults| faults.0)?;
    let object = match objects.pop() {
        Some(object) if objects.is_empty() => object,
        _ => return Err(vec![Fault::new("", "one object is edited at a time; keep one document")]),
    };
    let mut faults = Vec::new();
    if object.kind() != kind {
        let message = format!("is {}, and must stay {kind}", object.kind());
        faults.push(Fault::new("kind", message));
    }
    if object.metadata().name != name {
        let message = format!("is `{}`, and must stay {name}", object.metadata().name);
        faults.push(Fault::new("metadata.name", message));
    }
    if faults.is_empty() { Ok(object) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job() -> Value {
        json!({
            "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Job",
            "metadata": {"name": "a"},
            "spec": {"task": "# no comment\nx", "agent": {"command": {}}, "runtime": {"local": {}},
                     "retries": 0},
        })
    }

    #[test]
    fn what_is_wrong_stands_at_the_top_with_the_line_that_it_has_there() {
        let sheet = Sheet::of(&job()).unwrap();
        let saved = sheet.text().replace("name: a", "name: b").replace("task:", "tusk:");
        let Verdict::Again(next) = sheet.read(&saved, Kind::Job, "a") else { panic!("it is bad") };
        let text = next.text();
        insta::assert_snapshot!(text);
        let line = text.lines().position(|line| line.contains("tusk:") && !line.starts_with('#'));
        let told = format!("line {}", line.unwrap() + 1);
        assert!(
            text.lines().any(|it| it.starts_with("# *") && it.contains(&told)),
            "{told}: {text}"
        );
        assert_eq!(next.read(&text, Kind::Job, "a"), Verdict::GivenUp);
        let mended = text.replace("tusk:", "task:");
        let Verdict::Again(next) = next.read(&mended, Kind::Job, "a") else { panic!("b is no a") };
        assert!(
            next.text().contains("# * metadata.name: is `b`, and must stay a"),
            "{}",
            next.text()
        );
    }

    #[test]
    fn a_text_that_is_left_as_it_was_wants_nothing() {
        let sheet = Sheet::of(&job()).unwrap();
        let read = |text: &str| sheet.read(text, Kind::Job, "a");
        assert_eq!(read(&sheet.text()), Verdict::Cancelled("no changes made"));
        assert_eq!(read("# nothing\n"), Verdict::Cancelled("the saved file is empty"));
        assert_eq!(read(""), Verdict::Cancelled("the saved file is empty"));
        let wanted = read(&sheet.text().replace("name: a", "name: a\n  labels: {t: x}"));
        let Verdict::Wanted(wanted) = wanted else { panic!("{wanted:?}") };
        assert_eq!(wanted["metadata"]["labels"], json!({"t": "x"}));
        assert_eq!(wanted["spec"]["task"], "# no comment\nx", "a # within a text is text");
        let conflict = Sheet::of_conflict(&job(), &["spec.task".to_owned()]).unwrap();
        let saved = conflict.read(&conflict.text(), Kind::Job, "a");
        assert!(matches!(saved, Verdict::Wanted(_)), "saving it means yes: {saved:?}");
    }
}
