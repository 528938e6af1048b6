//! What commands answer: text from objects, pure. Written here once, for every platform.
//!
//! What must keep its columns stands between two lines of backticks; platforms that show text
//! as it is leave those lines out ([`plain`]).

mod access;
mod agents;
mod approvals;
mod files;
mod jobs;
mod owned;
mod refusals;
mod schedules;
mod talk;

use std::time::Duration;

pub(in crate::chat) use access::*;
pub(in crate::chat) use agents::*;
pub(in crate::chat) use approvals::*;
pub(in crate::chat) use files::*;
use jiff::Timestamp;
pub(in crate::chat) use jobs::*;
pub(in crate::chat) use owned::*;
pub(in crate::chat) use refusals::*;
pub(in crate::chat) use schedules::*;
pub(in crate::chat) use talk::*;

use crate::resource::{ConditionStatus, Conditions};

const FENCE: &str = "```";

/// Puts text between fences; fences inside of it get a break that nobody sees.
pub(in crate::chat) fn fenced(text: &str) -> String {
    let text = text.replace(FENCE, "`\u{200B}`\u{200B}`");
    format!("{FENCE}\n{}\n{FENCE}", text.trim_end_matches('\n'))
}

/// A reply for a platform that shows text as it is.
pub(in crate::chat) fn plain(reply: &str) -> String {
    let lines: Vec<&str> = reply.lines().filter(|line| *line != FENCE).collect();
    lines.join("\n").replace("`\u{200B}`\u{200B}`", FENCE)
}

/// An age as `kubectl` shows it: one unit.
fn age(length: Duration) -> String {
    match length.as_secs() {
        all @ 0..120 => format!("{all}s"),
        all @ 120..7_200 => format!("{}m", all / 60),
        all @ 7_200..172_800 => format!("{}h", all / 3_600),
        all => format!("{}d", all / 86_400),
    }
}

/// Rows with their columns below each other.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A phase, which of what is overridden says so.
fn drifted(phase: String, conditions: &Conditions) -> String {
    if laid_over(conditions).is_some() { format!("{phase} (drifted)") } else { phase }
}

/// What is laid over what a source declares, where anything is.
fn laid_over(conditions: &Conditions) -> Option<&str> {
    let drifted = conditions.get("Drifted")?;
    (drifted.status == ConditionStatus::True).then_some(drifted.message.as_str())
}

/// Millionths of a US dollar, for people.
pub(in crate::chat) fn usd(micro: u64) -> String {
    format!("${}.{:04}", micro / 1_000_000, micro % 1_000_000 / 100)
}

/// How long ago something was, for people.
pub(in crate::chat) fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(String::new, |then| age(crate::ambient::between(then, now)))
}

/// Who speaks at a terminal that gives no name.
pub(in crate::chat) const NAMELESS: &str = "you";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_text_is_shown_as_it_is_a_reply_has_no_fences_of_its_own() {
        let reply = logs("job/late", &["```two".to_owned()], false);
        assert_eq!(plain(&reply), "```two");
    }
}
