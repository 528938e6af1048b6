//! Tables on standard output. The server chooses the columns and writes the cells, so that
//! every client shows the same; this file only lines them up.

use std::collections::HashMap;

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
    /// For sorting: what it is called.
    name: String,
    /// For sorting: when the object was created.
    created: String,
    /// Its labels, as a selector would name them.
    labels: String,
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
        let row = |row: &Value| {
            let metadata = &row["object"]["metadata"];
            let text = |member: &str| metadata[member].as_str().unwrap_or_default().to_owned();
            Row {
                cells: shown.iter().map(|n| cell(&row["cells"][*n])).collect(),
                name: text("name"),
                created: text("creationTimestamp"),
                labels: labels(&metadata["labels"]),
            }
        };
        let name = |n: &usize| columns[*n]["name"].as_str().unwrap_or_default().to_uppercase();
        Self {
            columns: shown.iter().map(name).collect(),
            rows: list(&table["rows"]).iter().map(row).collect(),
            revision: table["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// A table without rows, as it was at a revision.
    #[must_use]
    pub fn none(revision: String) -> Self {
        Self { revision, ..Self::default() }
    }

    /// A table of one's own.
    #[must_use]
    pub fn of(columns: Vec<String>, rows: Vec<Vec<String>>) -> Self {
        let row = |cells: Vec<String>| Row {
            cells: cells.iter().map(|cell| out::harmless(cell)).collect(),
            name: String::new(),
            created: String::new(),
            labels: String::new(),
        };
        let rows = rows.into_iter().map(row).collect();
        Self { columns, rows, revision: String::new() }
    }

    /// Adds the labels as the last column.
    pub fn add_labels(&mut self) {
        self.columns.push("LABELS".to_owned());
        for row in &mut self.rows {
            row.cells.push(row.labels.clone());
        }
    }

    /// Puts the rows into the order of these names; those that are not among them come last.
    pub fn sort_by_names(&mut self, names: &[String]) {
        let places: HashMap<&str, usize> =
            names.iter().enumerate().map(|(n, name)| (name.as_str(), n)).collect();
        self.rows.sort_by_key(|row| places.get(row.name.as_str()).copied().unwrap_or(usize::MAX));
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

/// Prints a table, with the names of its columns or without.
///
/// # Errors
/// A closed standard output.
pub fn print(table: &Table, header: bool) -> Result<(), Error> {
    out::data(table.lines(header, &[]).0)
}

/// Labels as `a=b,c=d`.
fn labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".to_owned() } else { out::harmless(&pairs.join(",")) }
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
    fn labels_stand_last_and_rows_take_the_order_that_they_are_given() {
        let mut sample = sample();
        sample["rows"][0]["object"]["metadata"]["name"] = "b".into();
        sample["rows"][0]["object"]["metadata"]["labels"] = json!({"team": "x", "tier": "y"});
        sample["rows"][1]["object"]["metadata"]["name"] = "a-long-name".into();
        let mut table = Table::read(&sample, false);
        table.sort_by_names(&["a-long-name".to_owned(), "b".to_owned()]);
        table.add_labels();
        let names: Vec<&str> = table.rows.iter().map(|row| row.cells[0].as_str()).collect();
        assert_eq!(names, ["a-long-name", "b"]);
        assert_eq!(table.rows[0].cells.last().unwrap(), "<none>");
        assert_eq!(table.rows[1].cells.last().unwrap(), "team=x,tier=y");
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
