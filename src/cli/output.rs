//! The forms in which `get` shows objects, as `-o` names them.

use serde_json::Value;

use super::{
    jsonpath::{self, Template},
    table::Table,
};

/// What stands in a cell of which there is nothing.
const NONE: &str = "<none>";

/// A form.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// The server's table with every column.
    Wide,
    /// Kinds and names alone.
    Name,
    /// What a JSONPath template makes of it.
    JsonPath(Template),
    /// A table of one's own.
    Columns(Columns),
}

/// The columns of such a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns(Vec<(String, jsonpath::Path)>);

impl Output {
    /// Reads what stands behind `-o`. The forms that end in `-file` are read from that file.
    ///
    /// # Errors
    /// One line on what it must be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (form, argument) = match text.split_once('=') {
            Some((form, argument)) => (form, Some(argument)),
            None => (text, None),
        };
        let read = |file: &str| {
            let read = std::fs::read_to_string(file);
            read.map_err(|error| format!("{file}: {error}"))
        };
        match (form, argument) {
            ("json", None) => Ok(Self::Json),
            ("yaml", None) => Ok(Self::Yaml),
            ("wide", None) => Ok(Self::Wide),
            ("name", None) => Ok(Self::Name),
            ("jsonpath", Some(text)) => template(text),
            ("jsonpath-file", Some(file)) => template(read(file)?.trim_end_matches('\n')),
            ("custom-columns", Some(text)) => Columns::parse(text).map(Self::Columns),
            ("custom-columns-file", Some(file)) => {
                Columns::of_lines(&read(file)?).map(Self::Columns)
            }
            ("jsonpath", None) => {
                Err("write the template behind it: jsonpath={.metadata.name}".to_owned())
            }
            ("custom-columns", None) => {
                Err("write the columns behind it: custom-columns=NAME:.metadata.name".to_owned())
            }
            _ => Err("the forms are json, yaml, name, wide, jsonpath=TEMPLATE, \
                      jsonpath-file=FILE, custom-columns=HEADER:PATH,... and \
                      custom-columns-file=FILE"
                .to_owned()),
        }
    }

    /// Whether the server's table is shown.
    #[must_use]
    pub fn is_table(output: Option<&Self>) -> bool {
        matches!(output, None | Some(Self::Wide))
    }
}

fn template(text: &str) -> Result<Output, String> {
    text.parse().map(Output::JsonPath).map_err(|error: jsonpath::NotAPath| error.to_string())
}

impl Columns {
    /// Reads `HEADER:PATH,HEADER:PATH`; commas in brackets belong to the path.
    fn parse(text: &str) -> Result<Self, String> {
        let mut depth = 0_usize;
        let parts = text.split(|c| {
            match c {
                '[' | '(' => depth += 1,
                ']' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        parts
            .map(|part| match part.split_once(':') {
                Some((header, path)) if !header.is_empty() => column(header, path),
                _ => Err(format!(
                    "`{part}` is no column; write HEADER:PATH, such as NAME:.metadata.name"
                )),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Reads a file: a line of headers, and below them a line of paths, with space between.
    fn of_lines(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let mut words = || lines.next().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
        let (headers, paths) = (words(), words());
        if headers.is_empty() || headers.len() != paths.len() {
            return Err(format!(
                "a file of columns has a line of headers and one of as many paths; here are {} \
                 and {}",
                headers.len(),
                paths.len()
            ));
        }
        headers
            .into_iter()
            .zip(paths)
            .map(|(header, path)| column(header, path))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The table of some objects.
    #[must_use]
    pub fn table(&self, objects: &[Value]) -> Table {
        let cell = |path: &jsonpath::Path, object: &Value| {
            let found: Vec<String> = path.find(object).into_iter().map(jsonpath::shown).collect();
            if found.is_empty() { NONE.to_owned() } else { found.join(",") }
        };
        let rows = objects
            .iter()
            .map(|object| self.0.iter().map(|(_, path)| cell(path, object)).collect())
            .collect();
        Table::of(self.0.iter().map(|(header, _)| header.clone()).collect(), rows)
    }
}

fn column(header: &str, path: &str) -> Result<(String, jsonpath::Path), String> {
    let path = path.parse().map_err(|error: jsonpath::NotAPath| error.to_string())?;
    Ok((header.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_of_ones_own_show_what_their_paths_lead_to() {
        let Ok(Output::Columns(columns)) = Output::parse(
            "custom-columns=NAME:.metadata.name,ENV:.spec.env[0,1].name,PHASE:status.phase",
        ) else {
            panic!("these are columns");
        };
        let objects = [
            json!({"metadata": {"name": "a"}, "spec": {"env": [{"name": "X"}, {"name": "Y"}]}}),
            json!({"metadata": {"name": "b\u{1b}"}, "status": {"phase": "Idle"}}),
        ];
        insta::assert_snapshot!(columns.table(&objects).lines(true, &[]).0);
    }

    #[test]
    fn a_file_holds_headers_and_paths() {
        let columns = Columns::of_lines("NAME  PHASE\n.metadata.name  .status.phase\n").unwrap();
        assert_eq!(columns, Columns::parse("NAME:.metadata.name,PHASE:.status.phase").unwrap());
        for bad in ["", "NAME", "NAME A\n.metadata.name", "NAME\n{"] {
            assert!(Columns::of_lines(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused_with_the_forms() {
        let why = |text: &str| Output::parse(text).unwrap_err();
        insta::assert_snapshot!(
            [
                "xml",
                "json=a",
                "jsonpath",
                "jsonpath={",
                "custom-columns",
                "custom-columns=a",
                "custom-columns=A:{",
                "jsonpath-file=/no/such/file",
                "go-template={{.}}",
            ]
            .map(why)
            .join("\n")
        );
    }
}
