//! Objects in a form that is no table of the server's.

use serde_json::{Value, json};

use crate::cli::{
    args::ListArgs,
    error::Error,
    object::{name_of, print_json, to_yaml},
    out,
    output::Output,
};

/// A form, and what it has shown already.
pub(super) struct Form<'a> {
    output: &'a Output,
    managed_fields: bool,
    header: bool,
    widths: Vec<u16>,
}

impl<'a> Form<'a> {
    pub(super) fn new(output: &'a Output, args: &ListArgs) -> Self {
        Self {
            output,
            managed_fields: args.show_managed_fields,
            header: !args.no_headers,
            widths: Vec::new(),
        }
    }

    /// Shows a list: of one kind with its own head, of several as a list of anything.
    ///
    /// # Errors
    /// A closed standard output.
    pub(super) fn list(&mut self, head: Option<Value>, objects: Vec<Value>) -> Result<(), Error> {
        let objects = self.cleaned(objects);
        let whole = |objects: Vec<Value>| {
            let mut list =
                head.unwrap_or_else(|| json!({"apiVersion": "v1", "kind": "List", "items": []}));
            list["items"] = objects.into();
            list
        };
        match self.output {
            Output::Json => print_json(&whole(objects)),
            Output::JsonPath(template) => out::theirs(template.render(&whole(objects)).as_bytes()),
            _ => self.each(&objects),
        }
    }

    /// Shows objects that were named: one by itself, several as a list.
    ///
    /// # Errors
    /// A closed standard output.
    pub(super) fn objects(&mut self, objects: Vec<Value>, alone: bool) -> Result<(), Error> {
        match self.output {
            Output::Json | Output::JsonPath(_) if !alone => self.list(None, objects),
            _ => {
                let objects = self.cleaned(objects);
                self.each(&objects)
            }
        }
    }

    /// Shows an object that comes later.
    ///
    /// # Errors
    /// A closed standard output.
    pub(super) fn next(&mut self, object: Value) -> Result<(), Error> {
        let objects = self.cleaned(vec![object]);
        if matches!(self.output, Output::Yaml) {
            out::data("---\n")?;
        }
        self.each(&objects)
    }

    fn each(&mut self, objects: &[Value]) -> Result<(), Error> {
        match self.output {
            Output::Json => objects.iter().try_for_each(print_json),
            Output::Yaml => documents(objects),
            Output::JsonPath(template) => objects
                .iter()
                .try_for_each(|object| out::theirs(template.render(object).as_bytes())),
            Output::Columns(columns) => {
                let (text, widths) = columns.table(objects).lines(self.header, &self.widths);
                (self.header, self.widths) = (false, widths);
                out::data(text)
            }
            Output::Name | Output::Wide => {
                objects.iter().try_for_each(|object| out::line(name_of(object)))
            }
        }
    }

    /// Who wrote which field is for machines, and as long as the rest.
    fn cleaned(&self, mut objects: Vec<Value>) -> Vec<Value> {
        for object in objects.iter_mut().filter(|_| !self.managed_fields) {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        }
        objects
    }
}

/// Documents that `apply` takes again.
fn documents(objects: &[Value]) -> Result<(), Error> {
    for (n, object) in objects.iter().enumerate() {
        let separator = if n > 0 { "---\n" } else { "" };
        out::data(format!("{separator}{}", to_yaml(object)?))?;
    }
    Ok(())
}
