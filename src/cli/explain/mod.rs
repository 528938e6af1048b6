//! `explain`: what a kind's fields mean, from the schema that also finds the faults of documents.
//!
//! Pure, and without a server: [`Field`] reads one place of a schema, the rest is its page.

mod field;

use serde_json::Value;

use super::{args::ExplainArgs, error::Error, out, target};
use crate::resource::{API_VERSION, Kind, schema::json_schema};
use field::Field;

/// How wide a description is.
const WIDTH: usize = 80;
/// How deep a tree of fields goes: deeper than any kind's, in case one should hold itself.
const DEPTH: usize = 16;

/// Runs `explain`.
///
/// # Errors
/// A word that names no kind, or a path that names no field.
pub fn explain(args: &ExplainArgs) -> Result<u8, Error> {
    let (kind, path) = place(&args.what)?;
    out::data(page(kind, &path, args.recursive)?)?;
    Ok(0)
}

/// The kind and the path that a word names.
fn place(word: &str) -> Result<(Kind, Vec<&str>), Error> {
    let (first, rest) = word.split_once('.').unwrap_or((word, ""));
    let kind = target::kind(first)?;
    let path: Vec<&str> = rest.split('.').filter(|part| !part.is_empty()).collect();
    Ok((kind, path))
}

/// The page of a place.
fn page(kind: Kind, path: &[&str], recursive: bool) -> Result<String, Error> {
    let root = json_schema(kind);
    let mut field = Field::root(&root);
    for (n, name) in path.iter().enumerate() {
        // As a person writes it in a path to a variable: spec.env[0].name.
        let bare = name.split('[').next().unwrap_or(name);
        let Some(next) = field.member(bare) else {
            return Err(no_field(kind, &path[..n], bare, &field));
        };
        field = next;
    }
    let mut text = format!("KIND:     {kind}\nVERSION:  {API_VERSION}\n\n");
    if let Some(name) = path.last() {
        text.push_str(&format!("FIELD: {name} <{}>\n\n", field.type_name()));
    }
    text.push_str("DESCRIPTION:\n");
    text.push_str(&wrapped(&field.about(), 4));
    let facts = field.facts();
    if !facts.is_empty() {
        text.push_str(&wrapped(&facts.join("\n"), 4));
    }
    let members = field.members();
    if members.is_empty() {
        return Ok(text);
    }
    let head = if field.is_union() { "FIELDS (exactly one of them):" } else { "FIELDS:" };
    text.push_str(&format!("\n{head}\n"));
    if recursive {
        tree(&field, 2, DEPTH, &mut text);
        return Ok(text);
    }
    for member in members {
        text.push_str(&format!("  {}\n", line(&member)));
        let mut about = member.about();
        for fact in member.facts() {
            about.push_str(&format!("\n{fact}"));
        }
        text.push_str(&wrapped(&about, 4));
        text.push('\n');
    }
    Ok(text)
}

/// `name  <type> -required-`
fn line(member: &Field<'_>) -> String {
    let required = if member.required { " -required-" } else { "" };
    format!("{}  <{}>{required}", member.name, member.type_name())
}

fn tree(field: &Field<'_>, indent: usize, depth: usize, text: &mut String) {
    for member in field.members() {
        text.push_str(&format!("{:indent$}{}\n", "", line(&member)));
        if depth > 0 {
            tree(&member, indent + 2, depth - 1, text);
        }
    }
}

fn no_field(kind: Kind, path: &[&str], name: &str, field: &Field<'_>) -> Error {
    let names: Vec<String> = field.members().into_iter().map(|member| member.name).collect();
    let place = std::iter::once(kind.singular()).chain(path.iter().copied()).collect::<Vec<_>>();
    let place = place.join(".");
    let known = if names.is_empty() {
        "it has no fields".to_owned()
    } else {
        format!("its fields are {}", names.join(", "))
    };
    let near = names
        .iter()
        .map(|known| {
            (strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase()), known)
        })
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
        .map(|(_, known)| format!(", perhaps {place}.{known}"))
        .unwrap_or_default();
    let name = out::harmless(name);
    Error::Usage(format!("{place} has no field `{name}`{near}; {known}"))
}

/// A text in lines of at most [`WIDTH`] characters, indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut wrapped = String::new();
    // Lines of a doc comment are broken where they are for the editor's sake; paragraphs are not.
    for paragraph in text.split("\n\n").flat_map(paragraphs) {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH
            {
                wrapped.push_str(&format!("{:indent$}{line}\n", ""));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        wrapped.push_str(&format!("{:indent$}{line}\n", ""));
    }
    wrapped
}

/// What begins a line of its own: a fact about a field.
fn paragraphs(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_fact = field::FACTS.iter().any(|fact| line.starts_with(fact));
        match all.last_mut() {
            Some(last) if !is_fact => {
                last.push(' ');
                last.push_str(line);
            }
            _ => all.push(line.to_owned()),
        }
    }
    all
}

/// The path to the number of replicas in a kind's spec, where it has one.
#[must_use]
pub fn replicas_path(kind: Kind) -> Option<&'static [&'static str]> {
    let root: Value = json_schema(kind);
    let paths: [&'static [&'static str]; 2] =
        [&["spec", "generate", "replicas"], &["spec", "replicas"]];
    paths.into_iter().find(|path| {
        let mut field = Some(Field::root(&root));
        for name in *path {
            field = field.and_then(|field| field.member(name));
        }
        field.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(word: &str, recursive: bool) -> String {
        let (kind, path) = place(word).unwrap();
        page(kind, &path, recursive).unwrap_or_else(|error| format!("{error}\n"))
    }

    #[test]
    fn a_field_is_told_with_its_type_its_default_and_its_fields() {
        insta::assert_snapshot!(
            [
                of("job.spec.report", false),
                of("agent.spec.agent", false),
                of("agent.spec.env.name", false),
                of("agent.spec.permissions.mode", false),
                of("ag.metadata", false),
            ]
            .join("\n-----\n")
        );
    }

    #[test]
    fn a_tree_holds_every_field_by_name_and_type() {
        insta::assert_snapshot!(of("job.spec", true));
    }

    #[test]
    fn what_names_no_field_is_told_with_the_fields_that_there_are() {
        insta::assert_snapshot!(
            [
                of("job.spec.timout", false),
                of("job.spec.task.x", false),
                of("agent.spec.agent.cloude", false),
                place("pod.spec").unwrap_err().to_string(),
            ]
            .join("")
        );
    }

    #[test]
    fn every_field_of_every_kind_has_a_type_and_an_end() {
        fn walk(field: &Field<'_>, depth: usize) {
            assert!(depth < DEPTH, "{} goes too deep", field.name);
            assert!(!field.type_name().contains('?'), "{}: {}", field.name, field.type_name());
            field.members().iter().for_each(|member| walk(member, depth + 1));
        }
        for kind in Kind::ALL {
            walk(&Field::root(&json_schema(kind)), 0);
        }
    }
}
