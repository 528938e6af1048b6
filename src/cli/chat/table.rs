//! Tables of Markdown with their columns in line. Pure.

use unicode_width::UnicodeWidthStr as _;

/// The widest that a column is made for the sake of others.
const WIDEST: usize = 60;

/// Whether a line can be a row of a table: it begins and ends with a bar.
pub(super) fn is_row(line: &str) -> bool {
    let line = line.trim();
    line.len() > 1 && line.starts_with('|') && line.ends_with('|') && !line.ends_with("\\|")
}

/// Whether a row is the rule under a table's head.
pub(super) fn is_rule(line: &str) -> bool {
    let is_dash = |cell: &str| {
        let cell = cell.trim();
        let dashes = cell.strip_prefix(':').unwrap_or(cell);
        let dashes = dashes.strip_suffix(':').unwrap_or(dashes);
        !dashes.is_empty() && dashes.bytes().all(|byte| byte == b'-')
    };
    is_row(line) && cells(line).into_iter().all(is_dash)
}

/// The same rows with cells as wide as the widest of their column.
pub(super) fn in_line(rows: &[String]) -> Vec<String> {
    let rows: Vec<Vec<&str>> = rows.iter().map(|row| cells(row)).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().enumerate().filter(|(n, _)| *n != 1);
        let widths = cells.filter_map(|(_, row)| row.get(column)).map(|cell| cell.width());
        widths.max().unwrap_or_default().clamp(3, WIDEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let to_the_right: Vec<bool> = (0..columns)
        .map(|column| {
            let rule = rows.get(1).and_then(|rule| rule.get(column));
            rule.is_some_and(|rule| rule.ends_with(':') && !rule.starts_with(':'))
        })
        .collect();
    let cell = |n: usize, column: usize, cell: &str| {
        let lack = widths[column].saturating_sub(cell.width());
        if n == 1 {
            let more = "-".repeat(lack);
            return match cell.strip_suffix(':') {
                Some(front) => format!("{front}{more}:"),
                None => format!("{cell}{more}"),
            };
        }
        let blanks = " ".repeat(lack);
        if to_the_right[column] { format!("{blanks}{cell}") } else { format!("{cell}{blanks}") }
    };
    let lines = rows.iter().enumerate().map(|(n, row)| {
        let cells: Vec<String> =
            row.iter().enumerate().map(|(column, text)| cell(n, column, text)).collect();
        format!("| {} |", cells.join(" | "))
    });
    lines.collect()
}

/// What stands between the bars; a bar behind a backslash is text.
fn cells(row: &str) -> Vec<&str> {
    let row = row.trim();
    let row = row.strip_prefix('|').unwrap_or(row);
    let row = row.strip_suffix('|').unwrap_or(row);
    let mut cells = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in row.char_indices() {
        if c == '|' && !escaped {
            cells.push(row[start..at].trim());
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    cells.push(row[start..].trim());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: &[&str]) -> Vec<String> {
        in_line(&rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn cells_are_filled_up_on_the_side_that_the_rule_says() {
        assert_eq!(
            shown(&["|a|number|", "|:-|-:|", "|wörter|1|", "|日本|23|"]),
            [
                "| a      | number |",
                "| :----- | -----: |",
                "| wörter |      1 |",
                "| 日本   |     23 |"
            ]
        );
    }

    #[test]
    fn rows_may_have_too_few_cells_or_too_many() {
        assert_eq!(shown(&["|a|b|", "|-|-|", "|c|", "|d|e|f|"]).len(), 4);
        assert_eq!(shown(&["|a\\|b|", "|-|"]), ["| a\\|b |", "| ---- |"]);
    }

    #[test]
    fn only_what_has_bars_at_both_ends_is_a_row() {
        assert!(is_row("| a |") && is_row("  |a|b| "));
        assert!(!is_row("a | b") && !is_row("|") && !is_row("| a | b"));
        assert!(is_rule("|---|:-:|") && !is_rule("|a|-|") && !is_rule("||"));
    }
}
