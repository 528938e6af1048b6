//! Tables on standard output. The server chooses the columns and writes the cells, so that
//! every client shows the same; this file only lines them up.

use comfy_table::{ColumnConstraint, Width, presets};
use serde_json::Value;

use super::{error::Error, out};

/// The space between two columns.
const GUTTER: u16 = 3;

/// A table as the server sent it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Row>,
    /// The revision at which it was true.
    pub revision: String,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    cells: Vec<String>,
    /// For sorting: when the object was created.
    created: String,
}

impl Table {
    /// Reads the server's table, with all columns or with those for narrow places.
    #[must_use]
    pub fn read(table: &Value, wide: bool) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let columns = list(&table["columnDefinitions"]);
        let shown: Vec<usize> = (0..columns.len())
            .filter(|n| wide || columns[*n]["priority"].as_i64().unwrap_or_default() == 0)
            .collect();
        let cell = |cell: &Value| match cell {
            Value::Null => "<none>".to_owned(),
            Value::String(text) if text.is_empty() => "<none>".to_owned(),
            Value::String(text) => out::harmless(text),
            other => other.to_string(),
        };
        let row = |row: &Value| Row {
            cells: shown.iter().map(|n| cell(&row["cells"][*n])).collect(),
            created: row["object"]["metadata"]["creationTimestamp"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        };
        let name = |n: &usize| columns[*n]["name"].as_str().unwrap_or_default().to_uppercase();
        Self {
            columns: shown.iter().map(name).collect(),
            rows: list(&table["rows"]).iter().map(row).collect(),
            revision: table["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Puts what was created last last.
    pub fn sort_by_age(&mut self) {
        self.rows.sort_by(|a, b| (&a.created, &a.cells).cmp(&(&b.created, &b.cells)));
    }

    /// Puts a prefix before each name, for tables of several kinds.
    pub fn prefix_names(&mut self, prefix: &str) {
        for cell in self.rows.iter_mut().filter_map(|row| row.cells.first_mut()) {
            cell.insert_str(0, prefix);
        }
    }

    /// Adds the rows of a table with the same columns.
    pub fn append(&mut self, other: Self) {
        if self.columns.is_empty() {
            self.columns = other.columns;
        }
        self.rows.extend(other.rows);
    }

    /// The lines, each ended, at least as wide as told; with how wide they are.
    #[must_use]
    pub fn lines(&self, header: bool, widths: &[u16]) -> (String, Vec<u16>) {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if header {
            table.set_header(&self.columns);
        }
        for row in &self.rows {
            table.add_row(&row.cells);
        }
        for (n, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, GUTTER));
            if let Some(width) = widths.get(n) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width)));
            }
        }
        let widths = table
            .column_max_content_widths()
            .iter()
            .zip(0..)
            .map(|(width, n)| (*width + GUTTER).max(widths.get(n).copied().unwrap_or_default()))
            .collect();
        let text = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        (text, widths)
    }
}

/// Prints a table.
///
/// # Errors
/// A closed standard output.
pub fn print(table: &Table) -> Result<(), Error> {
    out::data(table.lines(true, &[]).0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "metadata": {"resourceVersion": "7"},
            "columnDefinitions": [
                {"name": "Name", "priority": 0},
                {"name": "Phase", "priority": 0},
                {"name": "Task", "priority": 1},
            ],
            "rows": [
                {"cells": ["b", "Running", "echo\u{1b}[2J"],
                 "object": {"metadata": {"creationTimestamp": "2026-01-02T00:00:00Z"}}},
                {"cells": ["a-long-name", null, "naïve 日本"],
                 "object": {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}},
            ],
        })
    }

    #[test]
    fn columns_line_up_and_the_wide_ones_come_when_asked_for() {
        let (narrow, _) = Table::read(&sample(), false).lines(true, &[]);
        let (wide, _) = Table::read(&sample(), true).lines(true, &[]);
        insta::assert_snapshot!(format!("{narrow}\n{wide}"));
    }

    #[test]
    fn what_was_created_last_stands_last() {
        let mut table = Table::read(&sample(), false);
        table.sort_by_age();
        assert_eq!(table.rows[0].cells[0], "a-long-name");
    }

    #[test]
    fn a_row_that_comes_later_lines_up_with_those_before() {
        let table = Table::read(&sample(), false);
        let (first, widths) = table.lines(true, &[]);
        let mut later = sample();
        later["rows"] = json!([{"cells": ["c", "Failed", ""]}]);
        let (row, _) = Table::read(&later, false).lines(false, &widths);
        assert_eq!(first.lines().next().unwrap().find("PHASE"), row.find("Failed"));
    }
}
