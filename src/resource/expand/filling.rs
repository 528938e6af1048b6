//! Placeholders, filled in for one member: `{{name}}` in any text of a template.

use serde_json::Value;

use super::{
    super::{
        check::join,
        fault::{Fault, hint, quoted},
    },
    params::{Params, is_parameter},
    room::{Room, Told, cost},
};

/// Fills placeholders in.
pub(super) struct Filling<'a> {
    pub(super) params: &'a Params<'a>,
    pub(super) told: Told,
    pub(super) room: &'a mut Room,
    /// In which part of the Fleet it stands.
    pub(super) part: &'static str,
    /// Where in that part: made a text only where there is a fault.
    pub(super) path: Vec<Step<'a>>,
}

/// A step of a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// A path as people read it.
fn said(part: &str, path: &[Step<'_>]) -> String {
    path.iter().fold(part.to_owned(), |text, step| match step {
        Step::Item(n) => format!("{text}[{n}]"),
        Step::Key(key) => join(&text, key),
    })
}

/// A piece of a text.
enum Piece<'t> {
    Text(&'t str),
    Placeholder(&'t str),
    /// `{{` that is followed by no `}}`.
    Open,
}

impl<'a> Filling<'a> {
    /// Does something one step further down.
    pub(super) fn at<T>(&mut self, step: Step<'a>, deed: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let done = deed(self);
        self.path.pop();
        done
    }

    fn fault(&mut self, message: impl FnOnce() -> String) {
        let (part, path) = (self.part, &self.path);
        self.told.push(|| Fault::new(said(part, path), message()));
    }

    /// Whether there is no sense in going on: no room, or nobody would read another fault.
    fn is_over(&mut self) -> bool {
        if self.told.is_full() {
            self.told.stop();
        }
        self.room.is_full() || self.told.is_full()
    }

    pub(super) fn value(&mut self, value: &'a Value) -> Value {
        self.room.steps += 1;
        match value {
            _ if self.is_over() => Value::Null,
            Value::String(text) => self.whole(text),
            Value::Array(items) => {
                let item = |(n, item)| self.at(Step::Item(n), |it| it.value(item));
                items.iter().enumerate().map(item).collect()
            }
            Value::Object(members) => {
                let member = |(key, value): (&'a String, &'a Value)| {
                    (key.clone(), self.at(Step::Key(key), |it| it.value(value)))
                };
                Value::Object(members.iter().map(member).collect())
            }
            other => other.clone(),
        }
    }

    /// A text that may be one placeholder as a whole.
    pub(super) fn whole(&mut self, text: &str) -> Value {
        let mut pieces = pieces(text);
        match (pieces.next(), pieces.next()) {
            (Some(Piece::Placeholder(name)), None) => {
                self.param(name).cloned().unwrap_or(Value::Null)
            }
            _ => Value::String(self.text(text)),
        }
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        let mut filled = String::new();
        for piece in pieces(text) {
            self.room.steps += 1;
            if self.is_over() {
                break;
            }
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Open => self.fault(|| {
                    "has `{{` without `}}` behind it; write \\{{ to mean the braces".to_owned()
                }),
                Piece::Placeholder(name) => match self.param(name) {
                    Some(Value::String(text)) => filled.push_str(text),
                    Some(value) if is_plain(value) => filled.push_str(&value.to_string()),
                    Some(_) => self.fault(|| {
                        format!(
                            "`{{{{{name}}}}}` is a list, a map or nothing, which cannot stand within \
                             a text"
                        )
                    }),
                    None => {}
                },
            }
        }
        filled
    }

    /// What stands for a placeholder, once there is room for it.
    fn param(&mut self, name: &str) -> Option<&'a Value> {
        let params = self.params;
        if let Some(value) = params.get(name) {
            return match self.room.take(cost(value)) {
                Ok(()) => Some(value),
                Err(_) => {
                    self.told.push(Room::too_much);
                    None
                }
            };
        }
        self.fault(|| {
            if is_parameter(name) {
                let known: Vec<&str> = params.keys().copied().collect();
                let hint = hint(name, &known, "the parameters are");
                format!("`{{{{{name}}}}}` is no parameter{hint}")
            } else {
                format!(
                    "{} between `{{{{` and `}}}}` is no parameter; write \\{{{{ to mean the braces",
                    quoted(name)
                )
            }
        });
        None
    }
}

/// Whether a value can stand within a text.
pub(super) fn is_plain(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

/// Takes a text apart, one piece after another. A backslash in front of `{{` goes, and the braces stay.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    // What comes next before the rest is looked at.
    let mut braces = None;
    let mut rest = text;
    std::iter::from_fn(move || {
        if let Some(piece) = braces.take() {
            return Some(piece);
        }
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("{{") else { return Some(Piece::Text(std::mem::take(&mut rest))) };
        let (front, behind) = rest.split_at(at);
        if let Some(front) = front.strip_suffix('\\') {
            let (meant, after) = behind.split_at(2);
            braces = Some(Piece::Text(meant));
            rest = after;
            return Some(Piece::Text(front));
        }
        if !front.is_empty() {
            rest = behind;
            return Some(Piece::Text(front));
        }
        match behind[2..].find("}}") {
            Some(end) => {
                rest = &behind[2 + end + 2..];
                Some(Piece::Placeholder(behind[2..2 + end].trim()))
            }
            None => {
                rest = "";
                Some(Piece::Open)
            }
        }
    })
}
