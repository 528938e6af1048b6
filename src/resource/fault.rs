//! What is wrong with a document: where, why, and what to write instead.

use std::fmt;

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path of the member, such as `spec.runtime.local.workdir` or `spec.env[2].name`;
    /// empty for the document itself.
    pub path: String,
    /// What is wrong and what to write instead, in one line.
    pub message: String,
    /// The file, where the document came from one.
    pub file: Option<String>,
    /// The line, from 1, where the document is text.
    pub line: Option<u32>,
    /// The column in characters, from 1, where the document is text.
    pub column: Option<u32>,
}

impl Fault {
    /// A fault at a path, without a place in a text.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), file: None, line: None, column: None }
    }
}

impl fmt::Display for Fault {
    /// `FILE:LINE:COLUMN: PATH: MESSAGE`, with the parts that are known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        match (self.line, self.column) {
            (Some(line), Some(column)) if self.file.is_some() => write!(f, "{line}:{column}: ")?,
            (Some(line), Some(column)) => write!(f, "line {line} column {column}: ")?,
            _ if self.file.is_some() => f.write_str(" ")?,
            _ => {}
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a document; never empty. Printed with one fault per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// The most faults that are told of one text; a text with more is told where it begins to be
/// wrong, and nobody reads on.
const MOST: usize = 100;

/// Faults in the order of the text; past [`MOST`], how many more there are.
pub(super) fn in_order(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by_key(|fault| (fault.line, fault.column));
    if faults.len() > MOST {
        let more = faults.len() - MOST;
        faults.truncate(MOST);
        let file = faults.iter().find_map(|fault| fault.file.clone());
        faults.push(Fault { file, ..Fault::new("", format!("and {more} more faults")) });
    }
    faults
}

/// A text from outside in backticks, cut where it would make the message unreadable.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}...`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// A text without what would break a line or move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

/// The nearest of some known names, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // What is much longer than any name is near none.
    let lower: String = word.chars().take(64).collect::<String>().to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `; did you mean X?` where a known name is near, else which names there are.
pub(super) fn hint<'a>(word: &str, known: &[&'a str], what: &'a str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(name) => format!("; did you mean `{name}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; {what} {}", known.join(", ")),
    }
}
