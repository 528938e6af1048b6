//! Tables: rows in, lines with their columns in line out.

use unicode_width::UnicodeWidthStr;

use super::inline::bare;

/// Whether a line may be a table's row.
pub(super) fn is_row(line: &str) -> bool {
    let line = line.trim();
    line.len() > 1 && line.contains('|') && !line.starts_with('>')
}

/// Whether a line is what stands below a table's head: `|---|:-:|`.
pub(super) fn is_delimiter(line: &str) -> bool {
    let cells = cells(line);
    !cells.is_empty()
        && cells.iter().all(|cell| {
            let inner = cell.strip_prefix(':').unwrap_or(cell);
            let inner = inner.strip_suffix(':').unwrap_or(inner);
            !inner.is_empty() && inner.bytes().all(|byte| byte == b'-')
        })
}

/// How many columns a row has.
pub(super) fn columns(line: &str) -> usize {
    cells(line).len()
}

/// The cells of a row: an escaped bar, and one in code, parts nothing.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim();
    let line = line.strip_prefix('|').unwrap_or(line);
    let mut cells = vec![String::new()];
    let mut letters = line.chars().peekable();
    while let Some(c) = letters.next() {
        let last = cells.len() - 1;
        match c {
            '\\' if letters.peek() == Some(&'|') => {
                letters.next();
                cells[last].push('|');
            }
            '|' => cells.push(String::new()),
            c => cells[last].push(c),
        }
    }
    if cells.len() > 1 && cells.last().is_some_and(|cell| cell.trim().is_empty()) {
        cells.pop();
    }
    cells.into_iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The lines of a table of a head, the line below it, and rows.
pub(super) fn aligned(rows: &[String]) -> Vec<String> {
    let head = rows.first().map_or_else(Vec::new, |row| cells(row));
    let marks = rows.get(1).map_or_else(Vec::new, |row| cells(row));
    let count = head.len();
    let mut table: Vec<Vec<String>> = Vec::new();
    for row in rows.iter().take(1).chain(rows.iter().skip(2)) {
        let mut row: Vec<String> = cells(row).iter().map(|cell| bare(cell)).collect();
        row.resize(count, String::new());
        table.push(row);
    }
    let widths: Vec<usize> = (0..count)
        .map(|at| table.iter().map(|row| row[at].width()).max().unwrap_or_default().max(1))
        .collect();
    let mut lines: Vec<String> = table.iter().map(|row| line(row, &widths, &marks)).collect();
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    lines.insert(1.min(lines.len()), rule.join("──"));
    lines
}

fn line(row: &[String], widths: &[usize], marks: &[String]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| {
        let room = width.saturating_sub(cell.width());
        let mark = marks.get(at).map_or("", String::as_str);
        let left = match (mark.starts_with(':'), mark.ends_with(':')) {
            (true, true) => room / 2,
            (false, true) => room,
            _ => 0,
        };
        format!("{}{cell}{}", " ".repeat(left), " ".repeat(room - left))
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
